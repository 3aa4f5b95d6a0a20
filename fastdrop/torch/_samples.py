"""Dropout by sample: each row of a tensor has the mask of its id, whatever batch it comes in."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from torch import Generator, Tensor

from ..mask_format import rate
from ..masks.sample import SampleMask, sample_mask
from ..rng import DEFAULT
from ..rng.base import Stream
from ._autograd import refuse_if_fixed
from ._internals import count_modes, has_storage, is_jit_tracing, is_transforming
from ._masks import PLAIN, new_key, takes


def drop_samples(
    x: Tensor,
    p: float,
    training: bool,
    inplace: bool,
    generator: Generator | None,
    sample_ids: object,
) -> Tensor:
    """Return dropout of a tensor under the masks of its rows' ids."""
    if not _is_plain(x):
        raise RuntimeError(
            "sample_ids need a plain CPU tensor of a dtype with fractions, outside of modes and "
            f"transforms, but got a {type(x).__name__} of {x.dtype} on {x.device}"
        )
    checked = rate(p)
    if not training:
        checked = rate(0.0)
    key = np.array(_next_key(generator), np.uint64)
    mask = sample_mask(Stream(DEFAULT, key), 0, checked, tuple(x.shape), sample_ids)
    if checked.p == 0.0:
        return x
    if inplace:
        refuse_if_fixed(x)
    y: Tensor = _BySample.apply(x, mask)  # type: ignore[no-untyped-call]
    return x.copy_(y) if inplace else y


# Dynamo would look into NumPy's part of it.
drop_samples = torch.compiler.disable(drop_samples)  # type: ignore[no-untyped-call]


def _is_plain(x: Tensor) -> bool:
    """Return whether x is numbers in memory that fastdrop supports, and nothing watches."""
    return (
        type(x) in PLAIN
        and x.device.type == "cpu"
        and takes(x)
        and has_storage(x)
        and count_modes() == 0
        and not (is_transforming() or is_jit_tracing())
    )


def _next_key(generator: Generator | None) -> tuple[int, int]:
    """Return the key that a generator would draw next, and leave the generator where it is."""
    ahead = Generator()
    ahead.set_state((generator or torch.default_generator).get_state())
    return new_key(ahead)


class _BySample(torch.autograd.Function):
    """x * scale where the mask keeps: a linear function that equals its transpose."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, mask: SampleMask) -> Tensor:
        ctx.mask = mask
        return _applied(x, mask)

    @staticmethod
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor, None]:
        return _transposed(grad, ctx.mask), None

    @staticmethod
    def jvp(ctx: Any, tangent: Tensor, *_: None) -> Tensor:
        return _transposed(tangent, ctx.mask)


def _transposed(x: Tensor, mask: SampleMask) -> Tensor:
    if _is_plain(x):
        y: Tensor = _BySample.apply(x, mask)  # type: ignore[no-untyped-call]
        return y
    return torch.where(torch.from_numpy(mask.to_bool()), x * mask.scale, 0.0)


def _applied(x: Tensor, mask: SampleMask) -> Tensor:
    data = x.detach().resolve_conj().resolve_neg()
    if x.dtype is torch.bfloat16:  # NumPy has none
        return torch.where(torch.from_numpy(mask.to_bool()), data * mask.scale, 0.0)
    y = torch.empty_like(data)
    mask.apply(data.numpy(), y.numpy())
    return y
