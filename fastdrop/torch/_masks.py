"""The mask function on tensors: keys from torch's generators, values by fastdrop's kernels.

A mask is a plain tuple: the two words of a Philox4x32 key that no other mask
shares, the rate, and what kept elements are multiplied by.
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
from ..mask_format import Rate
from ..rng import Philox4x32
from ..rng.base import Stream, check_status
from . import _openmp
from ._internals import SWITCHES

Mask = tuple[int, int, Rate, float]

CODES: Final = {  # as kernels.h numbers them
    torch.float16: 0,
    torch.bfloat16: 1,
    torch.float32: 2,
    torch.float64: 3,
    torch.complex64: 4,
    torch.complex128: 5,
}
PLAIN: Final = (Tensor, Parameter)
ONE: Final = (1,)  # the stride of what is contiguous
FILL: Final = 0 if core is None else core.fill_address(Philox4x32.name)

# `random_` takes a generator's 64 bits modulo 2^63, and so does `randint` of a range so
# long, which has to begin below 0: a generator in one state gives one key, wherever it is drawn.
_HALF: Final = 1 << 62


@contextmanager
def undisturbed() -> Iterator[None]:
    """Make plain tensors, whatever is active where fastdrop is first imported or used."""
    with ExitStack() as stack:
        for switch in SWITCHES:
            stack.enter_context(switch())
        stack.enter_context(torch.inference_mode(False))
        yield


class _Key(threading.local):
    """Room for a key that torch writes and Python reads: one for each thread."""

    def __init__(self) -> None:
        words = np.zeros(2, np.int64)
        with undisturbed():
            draw = torch.from_numpy(words).random_
        self.parts = draw, words.view(np.uint64).data, words.ctypes.data


_key = _Key()


def new_key(generator: torch.Generator | None) -> tuple[int, int]:
    """Draw a key of 126 random bits from a torch generator; None for the default one."""
    draw, words, _ = _key.parts
    draw(generator=generator) if generator else draw()
    return words[0], words[1]


def new_key_address() -> int:
    """Draw a key from torch's default generator; return where it is until this thread's next."""
    draw, _, address = _key.parts
    draw()
    return address


def new_key_tensor(generator: torch.Generator | None) -> Tensor:
    """Draw a key as an operator that modes and graphs see: int64, shape (2,)."""
    return torch.randint(-_HALF, _HALF, (2,), dtype=torch.int64, device="cpu", generator=generator)


def key_words(key: Tensor) -> tuple[int, int]:
    """Return the words of a key that has been drawn as a tensor."""
    key0, key1 = key.tolist()
    return key0 + _HALF, key1 + _HALF


def key_tensor(key0: int, key1: int) -> Tensor:
    """Return the tensor that would have had to be drawn for a key."""
    return torch.tensor([key0 - _HALF, key1 - _HALF], dtype=torch.int64, device="cpu")


def is_dense(x: Tensor) -> bool:
    """Whether x has strides, and all its elements in one piece of memory."""
    return x.layout is torch.strided and not x.is_nested


def takes(x: Tensor) -> bool:
    """Whether the kernels know the dtype, and how the elements lie in memory."""
    return x.dtype in CODES and is_dense(x)


def evaluate(x: Tensor, mask: Mask, out: Tensor, shift: float = 0.0, dropped: float = 0.0) -> None:
    """Write x * scale + shift where the mask keeps and `dropped` elsewhere to `out`, perhaps x.

    Elements count in C order whatever the layouts are, so that a gradient
    meets the forward's mask in any layout. Autograd sees nothing of it.
    """
    key0, key1, rate, scale = mask
    address = x.data_ptr()  # 0 if x stands for zeros without having memory
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
        check_status(status, Philox4x32.name)


def may_overlap(x: Tensor) -> bool:
    """Whether two elements may share memory, so that torch has to refuse to write to it."""
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
            check_status(status, Philox4x32.name)
        return kept
    return kept.copy_(_bits_by_numpy(mask, n))


def _bits_by_numpy(mask: Mask, n: int) -> Tensor:
    key0, key1, rate, _ = mask
    packed = np.empty(-(-n // 8), np.uint8)
    stream = Stream(Philox4x32, np.array([key0, key1], np.uint64))
    backends.current().bits(stream, 0, rate, 0, n, packed)
    return torch.from_numpy(np.unpackbits(packed, count=n, bitorder="little").view(np.bool_))
