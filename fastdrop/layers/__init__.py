"""The layers: dropout and its relatives with a mode, a generator and a mask, one kind a file."""

from .alpha import AlphaDropout, FeatureAlphaDropout
from .channels import (
    Dropout1d,
    Dropout2d,
    Dropout3d,
    SpatialDropout1D,
    SpatialDropout2D,
    SpatialDropout3D,
)
from .drop_block import DropBlock2d
from .drop_connect import DropConnect
from .drop_path import DropPath
from .dropout import Dropout
from .gaussian import GaussianDropout, GaussianNoise

__all__ = [
    "AlphaDropout",
    "DropBlock2d",
    "DropConnect",
    "DropPath",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "FeatureAlphaDropout",
    "GaussianDropout",
    "GaussianNoise",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
]
