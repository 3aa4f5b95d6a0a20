"""Dropout for NumPy arrays on CPUs, at the speed of copying the array.

>>> import numpy as np, fastdrop
>>> layer = fastdrop.Dropout(p=0.5, rng=42)
>>> layer(np.ones((2, 4), np.float32)).shape
(2, 4)
"""

from ._moved import keep_old_names
from ._version import __version__
from .backends import available_backends, get_backend, set_backend, use_backend
from .config import show_config
from .functional import (
    act_dropout,
    act_dropout_backward,
    alpha_dropout,
    bias_dropout_add,
    drop_block2d,
    drop_path,
    dropout,
    dropout1d,
    dropout2d,
    dropout3d,
    dropout_add,
    dropout_backward,
    feature_alpha_dropout,
    gaussian_dropout,
    mc_dropout,
    relu_dropout,
    relu_dropout_backward,
)
from .layers import (
    AlphaDropout,
    DropBlock2d,
    DropConnect,
    Dropout,
    Dropout1d,
    Dropout2d,
    Dropout3d,
    DropPath,
    FeatureAlphaDropout,
    GaussianDropout,
    GaussianNoise,
    SpatialDropout1D,
    SpatialDropout2D,
    SpatialDropout3D,
)
from .masks import AnyMask, ArrayMask, BlockMask, Mask, NoiseMask, SampleMask
from .rng import (
    PCG64,
    RNG,
    Philox,
    Philox4x32,
    available_rngs,
    default_rng,
    get_include,
    make_capsule,
    manual_seed,
    register_rng,
)
from .threads import get_num_threads, set_num_threads, use_threadpoolctl

keep_old_names()
del keep_old_names

__all__ = [
    "PCG64",
    "RNG",
    "AlphaDropout",
    "AnyMask",
    "ArrayMask",
    "BlockMask",
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
    "Mask",
    "NoiseMask",
    "Philox",
    "Philox4x32",
    "SampleMask",
    "SpatialDropout1D",
    "SpatialDropout2D",
    "SpatialDropout3D",
    "__version__",
    "act_dropout",
    "act_dropout_backward",
    "alpha_dropout",
    "available_backends",
    "available_rngs",
    "bias_dropout_add",
    "default_rng",
    "drop_block2d",
    "drop_path",
    "dropout",
    "dropout1d",
    "dropout2d",
    "dropout3d",
    "dropout_add",
    "dropout_backward",
    "feature_alpha_dropout",
    "gaussian_dropout",
    "get_backend",
    "get_include",
    "get_num_threads",
    "make_capsule",
    "manual_seed",
    "mc_dropout",
    "register_rng",
    "relu_dropout",
    "relu_dropout_backward",
    "set_backend",
    "set_num_threads",
    "show_config",
    "use_backend",
    "use_threadpoolctl",
]
