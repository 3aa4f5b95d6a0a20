"""Dropout's relatives, one idea a file."""

from .alpha import AlphaDropout, FeatureAlphaDropout
from .connect import DropConnect
from .dropblock import BlockMask, DropBlock2d
from .feature import (
    Dropout1d,
    Dropout2d,
    Dropout3d,
    DropPath,
    SpatialDropout1D,
    SpatialDropout2D,
    SpatialDropout3D,
)
from .gaussian import GaussianDropout, GaussianNoise, NoiseMask

__all__ = [
    "AlphaDropout",
    "BlockMask",
    "DropBlock2d",
    "DropConnect",
    "DropPath",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "FeatureAlphaDropout",
    "GaussianDropout",
    "GaussianNoise",
    "NoiseMask",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
]
