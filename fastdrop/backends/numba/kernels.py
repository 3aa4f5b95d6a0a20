"""What Python calls: kernels, each compiled when it is first used, and cached on disk.

There is one for each dtype and form. Their arguments are whole numbers, addresses among them,
because those are what a call from Python is quick with: an array's `id` stands for the array.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numba
import numpy as np
from numba import types

from ...mask_format import BLOCK
from . import contiguous, layouts, noise, softmax, windows
from .blocks import block_bits
from .compiling import Kernel, inner, kernel, like
from .memory import data_of, put_word, stack, word_at

TASK_BLOCKS: Final = 16  # blocks that one thread takes at once
_TASK: Final = TASK_BLOCKS * BLOCK  # elements

# --- Threads ----------------------------------------------------------------------------------

# A kernel's loop over tasks is a `numba.prange`: threads share it where it is compiled for several,
# and else it is a plain loop. Its number of threads is None for one, and then there is one task.

# In how many threads parallel loops run. Called from Python, Numba's functions for it take locks of
# its own, which a KeyboardInterrupt may leave locked, and in kernels they keep them from the cache.
_get_threads: Final = types.ExternalFunction("get_num_threads", types.intp())
_set_threads: Final = types.ExternalFunction("set_num_threads", types.void(types.intp))


def _enter(threads: Any) -> Any:
    """Have this many threads run parallel loops, and return how many did."""


@like(_enter)
def _enter_of(threads: Any) -> Any:
    if threads == types.none:
        return lambda threads: 0

    def enter(threads):  # type: ignore[no-untyped-def]
        before = _get_threads()
        _set_threads(threads)
        return before

    return enter


def _leave(threads: Any, before: int) -> Any:
    """Undo `_enter`."""


@like(_leave)
def _leave_of(threads: Any, before: Any) -> Any:
    if threads == types.none:
        return lambda threads, before: None
    return lambda threads, before: _set_threads(before)


def _task(threads: Any, n: int, share: int) -> Any:
    """Return how many of n things are a task: a thread's share of them, or all for one thread."""


@like(_task)
def _task_of(threads: Any, n: Any, share: Any) -> Any:
    if threads == types.none:
        return lambda threads, n, share: max(n, 1)
    return lambda threads, n, share: share


@inner()
def _note(failure: int, status: int) -> None:
    """Remember a status other than 0; one of them, if several tasks fail."""
    if status != 0:
        put_word(failure, np.int64(status))


# --- Masks ------------------------------------------------------------------------------------

# Addresses of a `fastdrop_fill` and of its key, draw, the comparison's address, threshold.
_MASK: Final = "int64, int64, int64, int64, int64"


@cache
def apply_kernel(name: str, generator: str, words: int, past_caches: bool) -> Kernel:
    """Return the kernel that applies a mask to contiguous arrays.

    If there is a pipeline, see `has_pipe`, `generator` is that of the stream, and `words` the
    length of a block's range; else they are "" and 0.

    It takes the mask, first element, how many, scale, and the arrays' `id` s.
    """
    variant = name, generator, words, int(past_caches)

    @kernel(f"{_MASK}, int64, int64, float64, int64, int64", *variant)
    def apply(
        threads: Any, fill: int, key: int, draw: int, compare: int, threshold: int, first: int,
        n: int, scale: float, x: int, out: int,
    ) -> int:  # fmt: skip
        mask, arrays = (fill, key, draw, compare, threshold), (scale, data_of(x), data_of(out))
        begin, end = first // BLOCK, (first + n - 1) // BLOCK + 1
        failure, step, before = stack(8), _task(threads, end - begin, TASK_BLOCKS), _enter(threads)
        put_word(failure, 0)
        for task in numba.prange((end - begin + step - 1) // step):
            low = begin + task * step
            bounds = first, first + n, low, min(low + step, end)
            _note(failure, contiguous.apply(variant, mask, bounds, arrays))
        _leave(threads, before)
        return np.int64(word_at(failure))  # type: ignore[return-value]

    return apply


@inner()
def _bits(mask: Any, bounds: Any, out: int) -> int:
    """Write the bits of blocks begin to end - 1 to `out`, where those of `first` lie."""
    first, stop, begin, end = bounds
    for block in range(begin, end):
        n = min(stop - block * BLOCK, BLOCK)
        status = block_bits(mask, block, n, out + (block * BLOCK - first) // 8)
        if status:
            return status
    return 0


@cache
def bits_kernel() -> Kernel:
    """Return the kernel that writes words of keep bits, from a block's first element on.

    It takes the mask, first element, how many, and the `id` of the words' array.
    """

    @kernel(f"{_MASK}, int64, int64, int64")
    def bits(
        threads: Any, fill: int, key: int, draw: int, compare: int, threshold: int, first: int,
        n: int, out: int,
    ) -> int:  # fmt: skip
        mask, words = (fill, key, draw, compare, threshold), data_of(out)
        begin, end = first // BLOCK, (first + n - 1) // BLOCK + 1
        failure, step, before = stack(8), _task(threads, end - begin, TASK_BLOCKS), _enter(threads)
        put_word(failure, 0)
        for task in numba.prange((end - begin + step - 1) // step):
            low = begin + task * step
            _note(failure, _bits(mask, (first, first + n, low, min(low + step, end)), words))
        _leave(threads, before)
        return np.int64(word_at(failure))  # type: ignore[return-value]

    return bits


@cache
def window_kernel() -> Kernel:
    """Return the kernel that packs the keep bits of a window of each of some draws.

    It takes the mask, draws, first element, axes (lengths, strides), how many elements there are
    and how many are a task, a multiple of 64, and the `id` of the words' array.
    """

    @kernel(f"{_MASK}, int64[::1], int64, int64[:, ::1], int64, int64, int64")
    def window(
        threads: Any, fill: int, key: int, draw: int, compare: int, threshold: int, draws: Any,
        first: int, axes: Any, n: int, share: int, out: int,
    ) -> int:  # fmt: skip
        mask, words = (fill, key, draw, compare, threshold), data_of(out)
        failure, step, before = stack(8), _task(threads, n, share), _enter(threads)
        put_word(failure, 0)
        for task in numba.prange((n + step - 1) // step):
            bounds = task * step, min(task * step + step, n)
            _note(failure, windows.pack(mask, draws, first, axes, bounds, words))
        _leave(threads, before)
        return np.int64(word_at(failure))  # type: ignore[return-value]

    return window


# --- Forms and noise --------------------------------------------------------------------------


@inner()
def _size(axes: Any) -> int:
    size = 1
    for axis in axes:
        size *= axis[0]
    return size


# int64, a column for each name in `layouts.AXIS`, the fastest axis last.
_AXES: Final = "int64[:, ::1]"


@cache
def walk_kernel(name: str, kind: str) -> Kernel:
    """Return the kernel that writes a form under bits that are given, in any layout.

    It takes the `id` of the bits' words, the first bit's number, the axes, scale, shift,
    dropped, and the `id` s of x, u, v and out.
    """
    variant = name, kind
    of_form, ids = "float64, float64, float64", "int64, int64, int64, int64"

    @kernel(f"int64, int64, {_AXES}, {of_form}, {ids}", *variant)
    def walk(
        threads: Any, keep: int, bit: int, axes: Any, scale: float, shift: float, dropped: float,
        x: int, u: int, v: int, out: int,
    ) -> int:  # fmt: skip
        arrays = data_of(x), data_of(u), data_of(v), data_of(out)
        bits, numbers, size = (data_of(keep), bit), (scale, shift, dropped), _size(axes)
        step, before = _task(threads, size, _TASK), _enter(threads)
        for task in numba.prange((size + step - 1) // step):
            bounds = task * step, min(task * step + step, size)
            layouts.walk(variant, bits, axes, bounds, numbers, arrays)
        _leave(threads, before)
        return 0

    return walk


@cache
def noise_kernel(name: str, factor: bool) -> Kernel:
    """Return the kernel that adds noise, or multiplies by it, in any layout.

    It takes the addresses of a `fastdrop_fill` and of its key, draw, the axes (the mask's steps
    are words), the noise's spread, and the `id` s of x and out.
    """
    variant = name, int(factor)

    @kernel(f"int64, int64, int64, {_AXES}, float64, int64, int64", *variant)
    def add_noise(
        threads: Any, fill: int, key: int, draw: int, axes: Any, spread: float, x: int, out: int
    ) -> int:
        source, arrays, size = (fill, key, draw), (data_of(x), data_of(out)), _size(axes)
        failure, step, before = stack(8), _task(threads, size, _TASK), _enter(threads)
        put_word(failure, 0)
        for task in numba.prange((size + step - 1) // step):
            bounds = task * step, min(task * step + step, size)
            _note(failure, noise.add_noise(variant, source, axes, bounds, spread, arrays))
        _leave(threads, before)
        return np.int64(word_at(failure))  # type: ignore[return-value]

    return add_noise


# --- Rows -------------------------------------------------------------------------------------

_TASK_ROWS: Final = 1 << 14  # elements of rows that one thread takes at once, or else a row


@cache
def softmax_kernel(name: str, has_bias: bool, way: int) -> Kernel:
    """Return the kernel that makes softmax of rows under bits that are given, or goes back.

    `way` is one of those of `softmax.rows`. It takes the `id` of the bits' words, or 0, the first
    bit's number, scale, keep_scale, how many rows and columns there are, how many elements of the
    mask a row has, and rows the bias, rows a matrix if it is causal, the number of the first
    row, and the `id` s of x, bias, output or gradient, lse and delta, 0 for none.
    """
    variant = name, int(has_bias), way
    sizes, ids = "int64, int64, int64, int64, int64, int64", "int64, int64, int64, int64, int64"

    @kernel(f"int64, int64, float64, float64, {sizes}, {ids}", *variant)
    def of_rows(
        threads: Any, keep: int, bit: int, scale: float, keep_scale: float, size: int, columns: int,
        width: int, bias_rows: int, causal: int, first: int, x: int, bias: int, other: int,
        lse: int, delta: int,
    ) -> int:  # fmt: skip
        shape, numbers = (columns, width, bias_rows, causal, first), (scale, keep_scale)
        mask = _data_of(keep), bit
        arrays = data_of(x), _data_of(bias), data_of(other), _data_of(lse), _data_of(delta)
        step, before = _task(threads, size, max(_TASK_ROWS // columns, 1)), _enter(threads)
        for task in numba.prange((size + step - 1) // step):
            bounds = task * step, min(task * step + step, size)
            softmax.rows(variant, shape, bounds, mask, numbers, arrays)
        _leave(threads, before)
        return 0

    return of_rows


@inner()
def _data_of(array: int) -> int:
    """Return the address of an array's data, and 0 where there is no array."""
    if array == 0:
        return 0
    return data_of(array)  # type: ignore[no-any-return]
