"""The kinds of dropout, each computed with a scaled mask."""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor

from ..layers.alpha import affine
from ._autograd import is_traced, scaled
from ._internals import TRACED
from ._masks import PLAIN, takes


class Kind(NamedTuple):
    """A kind of dropout: of elements or of channels, to 0 or to SELU's saturation value."""

    channelwise: bool = False
    alpha: bool = False


def eligible(x: Tensor, p: float, kind: Kind) -> bool:
    """Return whether fastdrop computes this. Torch computes or refuses everything else.

    The caller ensures that x's device is the CPU.
    """
    is_plain = type(x) in PLAIN or (isinstance(x, TRACED) and is_traced(x))
    return is_plain and suits(x, p, kind)


def suits(x: Tensor, p: float, kind: Kind) -> bool:
    """Return whether fastdrop computes this for a tensor of a known class."""
    return (
        takes(x)
        and 0.0 <= p <= 1.0
        and not (kind.channelwise and x.dim() < 2)
        and not (kind.alpha and x.is_complex())
    )


def drop(
    x: Tensor,
    p: float,
    training: bool,
    kind: Kind,
    inplace: bool,
    generator: torch.Generator | None = None,
) -> Tensor:
    """Return dropout of an eligible tensor."""
    if not training or p == 0.0 or _is_empty(x):
        return x
    if kind.alpha:
        scale, shift, saturated = affine(p)
    else:
        scale, shift, saturated = 1.0 / (1.0 - p) if p < 1.0 else 0.0, 0.0, 0.0
    how = scale, shift, saturated
    return scaled(x, p, *how, channelwise=kind.channelwise, inplace=inplace, generator=generator)


def _is_empty(x: Tensor) -> bool:
    # While a graph is made, a length may be symbolic. A comparison would fix its value.
    return not torch.compiler.is_compiling() and isinstance(n := x.numel(), int) and n == 0
