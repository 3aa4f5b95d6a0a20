"""Dropout's relatives, one idea a file."""

from .alpha import AlphaDropout, FeatureAlphaDropout
from .connect import DropConnect
from .feature import (
    Dropout1d,
    Dropout2d,
    Dropout3d,
    DropPath,
    SpatialDropout1D,
    SpatialDropout2D,
    SpatialDropout3D,
)

__all__ = [
    "AlphaDropout",
    "DropConnect",
    "DropPath",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "FeatureAlphaDropout",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
]
