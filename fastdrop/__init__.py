"""Dropout for NumPy arrays on CPUs, at the speed of copying the array.

>>> import numpy as np, fastdrop
>>> layer = fastdrop.Dropout(p=0.5, rng=42)
>>> layer(np.ones((2, 4), np.float32)).shape
(2, 4)
"""

from . import functional, layers, rng
from ._cy import C_API as _C_API  # noqa: F401 - for extensions in C: see fastdrop.h
from ._moved import keep_old_names
from ._version import __version__
from .backends import available_backends, get_backend, set_backend, use_backend
from .config import show_config
from .functional import *
from .layers import *
from .masks import AnyMask, ArrayMask, BlockMask, Mask, NoiseMask, SampleMask
from .rng import *
from .threads import get_num_threads, set_num_threads, use_threadpoolctl

keep_old_names()
del keep_old_names

__all__ = [
    "AnyMask",
    "ArrayMask",
    "BlockMask",
    "Mask",
    "NoiseMask",
    "SampleMask",
    "__version__",
    "available_backends",
    "get_backend",
    "get_num_threads",
    "set_backend",
    "set_num_threads",
    "show_config",
    "use_backend",
    "use_threadpoolctl",
]
# A new function, layer or generator is exported where it is: in the __all__ of its folder.
__all__ += functional.__all__
__all__ += layers.__all__
__all__ += rng.__all__
