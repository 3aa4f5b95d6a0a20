"""The masks: functions of the index that a backward pass evaluates again, one kind a file."""

from .array import ArrayMask
from .base import AnyMask, KeepMask
from .block import BlockMask
from .mask import Mask
from .noise import NoiseMask
from .sample import SampleMask

__all__ = ["AnyMask", "ArrayMask", "BlockMask", "KeepMask", "Mask", "NoiseMask", "SampleMask"]
