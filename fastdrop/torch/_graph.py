"""The mask function as a torch operator, for graphs: torch.compile, export, dispatch modes.

In a graph the key is a tensor that is drawn anew each time the graph runs.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Tensor

from ..mask_format import rate
from ._masks import evaluated


@torch.library.custom_op("fastdrop::masked", mutates_args=(), device_types="cpu")
def masked(x: Tensor, key: Tensor, p: float, scale: float) -> Tensor:
    """Return x * scale where the mask of a key keeps, and +0.0 elsewhere."""
    key0, key1 = key.numpy().view(np.uint64).tolist()
    return evaluated(x, (key0, key1, rate(p), scale))


@masked.register_fake
def _(x: Tensor, key: Tensor, p: float, scale: float) -> Tensor:
    return torch.empty_like(x)


def _save(ctx: Any, inputs: tuple[Any, ...], output: Tensor) -> None:
    _, key, ctx.p, ctx.scale = inputs
    ctx.save_for_backward(key)


def _backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None, None, None]:
    return masked(grad, *ctx.saved_tensors, ctx.p, ctx.scale), None, None, None


masked.register_autograd(_backward, setup_context=_save)


def scaled_in_graph(
    x: Tensor, p: float, scale: float, channelwise: bool, generator: torch.Generator | None
) -> Tensor:
    """Return x * scale where a new mask keeps, and 0 elsewhere, as operators of a graph."""
    key = torch.randint((1 << 63) - 1, (2,), dtype=torch.int64, device="cpu", generator=generator)
    if not channelwise or x.dim() <= 2:
        y: Tensor = masked(x, key, p, scale)
        return y
    factor: Tensor = masked(torch.ones_like(first_of_channels(x)), key, p, scale)
    return x * factor


def first_of_channels(x: Tensor) -> Tensor:
    """Return ``x[i, j, 0, ..., 0]`` of all channels: shape (N, C, 1, ..., 1)."""
    for axis in range(2, x.dim()):
        x = x.narrow(axis, 0, 1)
    return x
