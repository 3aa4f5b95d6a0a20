"""Dropout as functions: no state but the generator's."""

from .dot_product import attention
from .family import (
    alpha_dropout,
    drop_block2d,
    drop_path,
    dropout1d,
    dropout2d,
    dropout3d,
    feature_alpha_dropout,
    gaussian_dropout,
)
from .fused import (
    act_dropout,
    act_dropout_backward,
    bias_dropout_add,
    dropout_add,
    mc_dropout,
    relu_dropout,
    relu_dropout_backward,
)
from .plain import dropout, dropout_backward, mask
from .softmax import softmax_dropout, softmax_dropout_backward

__all__ = [
    "act_dropout",
    "act_dropout_backward",
    "alpha_dropout",
    "attention",
    "bias_dropout_add",
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
    "mask",
    "mc_dropout",
    "relu_dropout",
    "relu_dropout_backward",
    "softmax_dropout",
    "softmax_dropout_backward",
]
