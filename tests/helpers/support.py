"""What several tests need: poisoned outputs, sample values, and the reference's answer."""

from __future__ import annotations

import math
from typing import Any

import numpy as np

import fastdrop
from fastdrop.backends import Draw, current
from fastdrop.mask_format import rate
from fastdrop.masks.mask import Mask
from fastdrop.rng.base import Stream

DTYPES = ["float16", "bfloat16", "float32", "float64", "complex64", "complex128"]
# Numba takes two seconds to compile a kernel, and there is one for each form and dtype. Apart from
# test_golden.py's, those of the other dtypes are tried by slow tests only.
NUMBA_DTYPES = ("bfloat16", "float32")
OTHER_DTYPES = tuple(name for name in DTYPES if name not in NUMBA_DTYPES)
POISON = 0xA5


def dtype_of(name: str) -> np.dtype[Any]:
    """Return a dtype by name; bfloat16 needs ml_dtypes."""
    if name == "bfloat16":
        import ml_dtypes

        return np.dtype(ml_dtypes.bfloat16)
    return np.dtype(name)


def poisoned(shape: tuple[int, ...], dtype: Any) -> np.ndarray:
    """Return an array full of bytes that no result is likely to have."""
    dtype = np.dtype(dtype)
    return np.full(math.prod(shape) * dtype.itemsize, POISON, np.uint8).view(dtype).reshape(shape)


def any_bits(shape: tuple[int, ...], dtype: Any, seed: int = 0) -> np.ndarray:
    """Return an array of random bit patterns: NaNs, infinities and subnormals included."""
    dtype = np.dtype(dtype)
    octets = np.random.default_rng(seed).bytes(math.prod(shape) * dtype.itemsize)
    return np.frombuffer(octets, dtype).reshape(shape).copy()


def contents(x: np.ndarray) -> bytes:
    """Return an array's bytes in C order: equal bytes are equal, even for NaN and -0."""
    # A copy first: NumPy 2.0's tobytes walks 32 axes at most.
    return np.ascontiguousarray(x).tobytes()


def packed(mask: Mask) -> np.ndarray:
    """Return a mask's keep bits, written over poison by the current backend."""
    out = poisoned((-(-mask.size // 8),), np.uint8)
    current().bits(mask._draw, mask.size, out)
    return out


def words_by_backend(stream: Stream, position: int, n: int) -> np.ndarray:
    """Return n words of a stream as the current backend's own code makes them.

    For p = 1/2 an element's number is one bit, and 0 is kept: the packed mask
    is the stream with every bit flipped.
    """
    return ~packed(Mask(Draw(stream, position, rate(0.5)), (64 * n,))).view("<u8")


def reference(mask: Mask, x: np.ndarray) -> np.ndarray:
    """Return the reference backend's mask.apply(x)."""
    with fastdrop.use_backend("reference"):
        return mask.apply(x)


def check(x: np.ndarray, p: float = 0.3, rng: Any = 1, out: np.ndarray | None = None) -> Mask:
    """Compare a draw on the current backend with the reference, and return its mask."""
    before = contents(x)
    y, mask = fastdrop.dropout(x, p, rng=rng, out=out, return_mask=True)
    assert contents(y) == contents(reference(mask, x)), (x.dtype, x.shape, x.strides, p)
    if out is not x:
        assert contents(x) == before
    if out is not None:
        assert y is out
    return mask
