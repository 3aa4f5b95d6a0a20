"""fastdrop for PyTorch on CPUs: one line replaces a model's dropout by fastdrop's.

>>> import torch, fastdrop.torch
>>> with fastdrop.torch.enabled():
...     y = torch.nn.functional.dropout(torch.ones(2, 4), p=0.5)
>>> y.shape
torch.Size([2, 4])
"""

from . import functional
from ._dispatch import disable, enable, enabled, is_enabled
from .modules import (
    AlphaDropout,
    Dropout,
    Dropout1d,
    Dropout2d,
    Dropout3d,
    FeatureAlphaDropout,
    convert,
)

__all__ = [
    "AlphaDropout",
    "Dropout",
    "Dropout1d",
    "Dropout2d",
    "Dropout3d",
    "FeatureAlphaDropout",
    "convert",
    "disable",
    "enable",
    "enabled",
    "functional",
    "is_enabled",
]
