"""The family of dropouts, each in terms of a scaled mask."""

from __future__ import annotations

from typing import Final, NamedTuple

import torch
from torch import Tensor
from torch._subclasses import FakeTensor
from torch._subclasses.functional_tensor import FunctionalTensor

from ._masks import PLAIN, takes
from ._scaled import in_graph, scaled

ALPHA: Final = 1.7580993408473766  # minus the value that SELU saturates at

_TRACED: Final = (FakeTensor, FunctionalTensor)


class Kind(NamedTuple):
    """Which dropout: of elements or whole channels, towards 0 or towards -ALPHA."""

    channelwise: bool = False
    alpha: bool = False


def eligible(x: Tensor, p: float, kind: Kind) -> bool:
    """Whether fastdrop does this; whatever else torch does or refuses itself.

    The caller makes sure that x's device is the CPU.
    """
    return (
        (type(x) in PLAIN or (isinstance(x, _TRACED) and in_graph()))
        and takes(x)
        and 0.0 <= p <= 1.0
        and not (kind.channelwise and x.dim() < 2)
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
    if not training or p == 0.0 or x.numel() == 0:
        return x
    channelwise, alpha = kind
    if p == 1.0 or not alpha:
        scale = 1.0 / (1.0 - p) if p < 1.0 else 0.0
        return scaled(x, p, scale, channelwise=channelwise, inplace=inplace, generator=generator)
    # Shifted by ALPHA, saturated elements are 0 and a mask is all that is needed.
    a = ((1.0 - p) * (1.0 + p * ALPHA**2)) ** -0.5
    shifted = x.add_(ALPHA) if inplace else x + ALPHA
    y = scaled(shifted, p, a, channelwise=channelwise, inplace=True, generator=generator)
    return y.add_(-ALPHA * a * (1.0 - p))
