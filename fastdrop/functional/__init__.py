"""Dropout as functions: no state but the generator's."""

from .fused import (
    act_dropout,
    act_dropout_backward,
    bias_dropout_add,
    dropout_add,
    mc_dropout,
    relu_dropout,
    relu_dropout_backward,
)
from .plain import dropout, dropout_backward

__all__ = [
    "act_dropout",
    "act_dropout_backward",
    "bias_dropout_add",
    "dropout",
    "dropout_add",
    "dropout_backward",
    "mc_dropout",
    "relu_dropout",
    "relu_dropout_backward",
]
