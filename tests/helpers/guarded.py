"""Arrays of any layout between guard bytes, for the property tests.

An array's elements lie anywhere in a buffer of poison: in any order, apart, on top
of each other (inputs only), backwards, at any alignment. Whatever an operation
does to the rest of the buffer shows.
"""

from __future__ import annotations

import os
from typing import Any

import numpy as np
from hypothesis import strategies as st
from support import DTYPES, NUMBA_DTYPES, POISON, dtype_of

import fastdrop

GUARD = 64  # bytes before and after: as many as a vector has
_LARGE = 1 << 18  # bytes: nothing lies further apart than it has to

shapes = st.lists(st.integers(0, 9), max_size=4).map(tuple) | st.sampled_from(
    [(600,), (4096,), (4097,), (9000,), (70, 65), (3, 1500), (2, 3, 700), (513, 9), (65, 3, 2, 40)]
)


class Guarded:
    """A buffer of poison with an array in it, and a copy to compare it with."""

    def __init__(
        self,
        shape: tuple[int, ...],
        dtype: np.dtype[Any],
        strides: tuple[int, ...],
        shift: int = 0,
        file: Any = None,
    ) -> None:
        reach = [(n - 1) * s for n, s in zip(shape, strides, strict=True)] if 0 not in shape else []
        below = -sum(r for r in reach if r < 0)
        above = sum(r for r in reach if r > 0) + dtype.itemsize
        size = GUARD + shift + below + above + GUARD
        if file is None:
            self.buffer = np.empty(size, np.uint8)
        else:
            self.buffer = np.memmap(file, np.uint8, "w+", shape=size)
        self.buffer[:] = POISON
        at = GUARD + shift + below
        self.array = place(self.buffer, shape, dtype, strides, at)
        self.fill(np.zeros(0, dtype))

    def fill(self, values: np.ndarray) -> None:
        """Write values, repeated, to the array, and remember all bytes."""
        if values.size and self.array.size:
            self.array[...] = np.resize(values, self.array.shape)
        self.before = self.buffer.tobytes()

    def is_untouched(self) -> bool:
        """Whether no byte of the buffer has changed."""
        return self.buffer.tobytes() == self.before

    def is_untouched_around(self) -> bool:
        """Whether no byte but those of the array's elements has changed."""
        images = [np.frombuffer(b, np.uint8).copy() for b in (self.buffer.tobytes(), self.before)]
        a, at = self.array, self.array.ctypes.data - self.buffer.ctypes.data
        for image in images:
            place(image, a.shape, a.dtype, a.strides, at)[...] = 0
        return bool((images[0] == images[1]).all())


def place(
    buffer: np.ndarray,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    strides: tuple[int, ...],
    at: int,
) -> np.ndarray:
    """Return an array in a buffer, of the buffer's class."""
    return np.ndarray.__new__(type(buffer), shape, dtype, buffer, at, strides)


@st.composite
def dtypes(draw: Any, swapped: bool = True) -> np.dtype[Any]:
    """Draw a supported dtype, in either byte order."""
    few = fastdrop.get_backend() == "numba" and "FASTDROP_EXAMPLES" not in os.environ
    dtype = dtype_of(draw(st.sampled_from(NUMBA_DTYPES if few else DTYPES)))
    if swapped and dtype.name != "bfloat16" and draw(st.integers(0, 4)) == 0:
        return dtype.newbyteorder("S")
    return dtype


@st.composite
def strides_of(
    draw: Any, shape: tuple[int, ...], itemsize: int, shared: bool = False
) -> tuple[int, ...]:
    """Draw strides in bytes for a shape: distinct places for elements unless `shared`."""
    strides = [0] * len(shape)
    order = draw(st.sampled_from(["C", "F", "any"]))
    axes = list(range(len(shape)))
    if order == "C":
        axes.reverse()
    elif order == "any":
        axes = draw(st.permutations(axes))
    step = itemsize
    plain = draw(st.booleans())
    for axis in axes:
        kinds = ["plain", "apart", "off", "share"]
        kind = "plain" if plain or step > _LARGE else draw(st.sampled_from(kinds))
        if kind == "apart":
            step *= draw(st.integers(2, 3))
        elif kind == "off":
            step += draw(st.integers(1, 7))
        strides[axis] = 0 if kind == "share" and shared else step
        if not plain and draw(st.booleans()):
            strides[axis] = -strides[axis]
        step *= max(shape[axis], 1)
    return tuple(strides)


@st.composite
def guarded(
    draw: Any,
    shape: tuple[int, ...],
    dtype: np.dtype[Any],
    shared: bool = False,
    tame: bool = False,
) -> Guarded:
    """Draw an array of a shape and dtype, of any layout, filled with any bits (or with numbers)."""
    made = Guarded(
        shape,
        dtype,
        draw(strides_of(shape, dtype.itemsize, shared)),
        draw(st.sampled_from([0, 0, 1, 2, 3, 4, 8, 15])),
    )
    made.fill(draw(values_of(dtype, tame)))
    return made


@st.composite
def values_of(draw: Any, dtype: np.dtype[Any], tame: bool = False) -> np.ndarray:
    """Draw up to 5000 values: any bit patterns, or plain numbers with zeros of both signs."""
    rng = np.random.default_rng(draw(st.integers(0, 1 << 32)))
    if not tame:
        native = np.frombuffer(rng.bytes(4999 * dtype.itemsize), dtype.newbyteorder("="))
        return native
    numbers = rng.normal(size=(4999, 2)).round(2)
    if dtype.kind == "c":
        return (numbers[:, 0] + 1j * numbers[:, 1]).astype(dtype)
    return numbers[:, 0].astype(dtype)


def native(a: np.ndarray) -> np.ndarray:
    """Return a plain copy in C order and the machine's byte order."""
    return np.array(a, a.dtype.newbyteorder("="), order="C", subok=False)


def same(a: np.ndarray, b: np.ndarray, any_nan: bool = False) -> bool:
    """Whether two arrays have the same bytes, or NaNs in the same places if that is enough."""
    a, b = native(a), native(b)
    if a.dtype != b.dtype or a.shape != b.shape:
        return False
    if a.tobytes() == b.tobytes():
        return True
    if not any_nan:
        return False
    parts = [x.reshape(-1).view(np.float32 if x.dtype == np.complex64 else np.float64)
             if x.dtype.kind == "c" else x.reshape(-1) for x in (a, b)]  # fmt: skip
    nan = [np.isnan(x.astype(np.float64)) for x in parts]
    bits = [x.view(f"u{x.dtype.itemsize}") for x in parts]
    return bool(((bits[0] == bits[1]) | (nan[0] & nan[1])).all())
