"""The mask function on tensors: keys from torch's generators, values from fastdrop's kernels.

A mask is a plain tuple: the two words of a key of its own for the default generator, the rate, and
the scale of kept elements.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from typing import Final

import numpy as np
import torch
from torch import Tensor
from torch.nn import Parameter

from .. import backends
from .._cy import core
from ..arrays import DTYPES
from ..mask_format import Rate
from ..rng import DEFAULT
from ..rng.base import Stream, check_status
from . import _openmp
from ._internals import SWITCHES

Mask = tuple[int, int, Rate, float]

# The dtypes that kernels know, and their codes for them.
CODES: Final = {getattr(torch, name): core.DTYPES[name] if core else 0 for name in DTYPES}
PLAIN: Final = (Tensor, Parameter)
ONE: Final = (1,)  # the strides of a contiguous array
FILL: Final = 0 if core is None else core.fill_address(DEFAULT.name)

# `random_` takes a generator's 64 bits modulo 2^63. So does `randint` for a range of this
# length, which must begin below 0. So one state of a generator gives the same key both ways.
_HALF: Final = 1 << 62


@contextmanager
def undisturbed() -> Iterator[None]:
    """Make plain tensors, whatever is active when fastdrop is first imported or used."""
    with ExitStack() as stack:
        for switch in SWITCHES:
            stack.enter_context(switch())
        stack.enter_context(torch.inference_mode(False))
        yield


class _Key(threading.local):
    """Memory for a key that torch writes and Python reads, one for each thread."""

    def __init__(self) -> None:
        words = np.zeros(2, np.int64)
        with undisturbed():
            draw = torch.from_numpy(words).random_
        self.parts = draw, words.view(np.uint64).data, words.ctypes.data


_key = _Key()


def new_key(generator: torch.Generator | None) -> tuple[int, int]:
    """Draw a key of 126 random bits from a torch generator; None is the default one."""
    draw, words, _ = _key.parts
    draw(generator=generator) if generator else draw()
    return words[0], words[1]


def new_key_address() -> int:
    """Draw a key from torch's default generator; return its address.

    The key stays there until this thread draws the next one.
    """
    draw, _, address = _key.parts
    draw()
    return address


def new_key_tensor(generator: torch.Generator | None) -> Tensor:
    """Draw a key by an operator that modes and graphs see: int64, shape (2,)."""
    return torch.randint(-_HALF, _HALF, (2,), dtype=torch.int64, device="cpu", generator=generator)


def key_words(key: Tensor) -> tuple[int, int]:
    """Return the words of a key that was drawn as a tensor."""
    key0, key1 = key.tolist()
    return key0 + _HALF, key1 + _HALF


def key_tensor(key0: int, key1: int) -> Tensor:
    """Return a key as a tensor, as if it had been drawn as one."""
    return torch.tensor([key0 - _HALF, key1 - _HALF], dtype=torch.int64, device="cpu")


def is_dense(x: Tensor) -> bool:
    """Return whether x has strides and one storage for all its elements."""
    return x.layout is torch.strided and not x.is_nested


def takes(x: Tensor) -> bool:
    """Return whether the kernels support x's dtype and memory layout."""
    return x.dtype in CODES and is_dense(x)


def evaluate(x: Tensor, mask: Mask, out: Tensor, shift: float = 0.0, dropped: float = 0.0) -> None:
    """Write x * scale + shift where the mask keeps, and `dropped` elsewhere, to `out`.

    `out` may be x. Elements count in C order for every layout, so a gradient gets the
    forward's mask in any layout. Autograd does not record this.
    """
    key0, key1, rate, scale = mask
    address = x.data_ptr()  # 0 if x represents zeros without memory
    inplace = out is x
    contiguous = x.is_contiguous() and (inplace or out.is_contiguous())
    if (
        not (address and backends.current().name == "cython")
        or x.is_neg()
        or x.is_conj()
        or (inplace and not contiguous and may_overlap(x))
    ):
        _evaluate_by_torch(x, mask, out, shift, dropped)
        return
    status = core.apply_by(
        _openmp.team,
        FILL,
        key0,
        key1,
        rate.threshold,
        scale,
        CODES[x.dtype],
        (x.numel(),) if contiguous else tuple(x.shape),
        address,
        ONE if contiguous else x.stride(),
        address if inplace else out.data_ptr(),
        ONE if contiguous else out.stride(),
        torch.get_num_threads(),
        shift,
        dropped,
    )
    if status:
        check_status(status, DEFAULT.name)


def may_overlap(x: Tensor) -> bool:
    """Return whether two elements may share memory, so that torch must refuse to write to x."""
    if x.is_contiguous():
        return False
    reach = 0
    for stride, length in sorted(zip(x.stride(), x.shape, strict=True)):
        if length > 1 and stride <= reach:
            return True
        reach += stride * (length - 1)
    return False


def _evaluate_by_torch(x: Tensor, mask: Mask, out: Tensor, shift: float, dropped: float) -> None:
    with torch.no_grad():
        kept = ones(mask, x.numel(), torch.bool).view(x.shape)
        half = x.dtype in (torch.float16, torch.bfloat16)
        y = (x.float() if half else x) * mask[3] + shift if shift else x * mask[3]
        out.copy_(torch.where(kept, y, dropped))


def evaluated(x: Tensor, mask: Mask, shift: float = 0.0, dropped: float = 0.0) -> Tensor:
    """Return x * scale + shift where the mask keeps, `dropped` elsewhere, in x's layout."""
    out = torch.empty_like(x)
    evaluate(x, mask, out, shift, dropped)
    return out


def ones(mask: Mask, n: int, dtype: torch.dtype) -> Tensor:
    """Return 1 where each of n elements is kept, 0 elsewhere: bool or bfloat16, shape (n,)."""
    key0, key1, rate, _ = mask
    kept = torch.empty(n, dtype=dtype, device="cpu")
    if backends.current().name == "cython":
        status = core.ones_by(
            _openmp.team,
            FILL,
            key0,
            key1,
            rate.threshold,
            n,
            kept.data_ptr(),
            kept.itemsize,
            torch.get_num_threads(),
        )
        if status:
            check_status(status, DEFAULT.name)
        return kept
    return kept.copy_(_bits_by_numpy(mask, n))


def _bits_by_numpy(mask: Mask, n: int) -> Tensor:
    key0, key1, rate, _ = mask
    packed = np.empty(-(-n // 8), np.uint8)
    stream = Stream(DEFAULT, np.array([key0, key1], np.uint64))
    backends.current().bits(backends.Draw(stream, 0, rate), n, packed)
    return torch.from_numpy(np.unpackbits(packed, count=n, bitorder="little").view(np.bool_))
