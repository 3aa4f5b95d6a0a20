"""Kernels compiled by Numba at first use, in one thread or several."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable
from typing import Any, Final

import numba
import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, dtype_name
from ..mask_format import BLOCK, Rate
from ..rng import PCG64, RNG, Philox, Philox4x32, Stream
from ..rng.base import check_status
from ..threads import get_num_threads
from . import numba_kernels as kernels
from .base import Backend

_TWINS: Final[dict[type[RNG], int]] = {
    Philox4x32: kernels.PHILOX4X32,
    Philox: kernels.PHILOX,
    PCG64: kernels.PCG64,
}
# What dropped elements become, in the type that the kernels know a dtype by.
_ZEROS: Final[dict[str | None, Any]] = {
    "float16": np.uint16(0),
    "bfloat16": np.int16(0),
    "float32": np.float32(0),
    "float64": np.float64(0),
    "complex64": np.complex64(0),
    "complex128": np.complex128(0),
}
_DOUBLES: Final = ("float64", "complex128")

_PARALLEL_FROM: Final = 1 << 18  # elements; with fewer, waking threads costs more than it gains


class NumbaBackend(Backend):
    """Compiled by Numba, cached on disk where that is possible."""

    name = "numba"

    def bits(
        self, stream: Stream, draw: int, rate: Rate, first: int, n: int, out: NDArray[np.uint8]
    ) -> None:
        if n == 0:
            return
        words, skip = _words(stream, draw, rate, first, n)
        words, down = words[skip // 64 :], skip % 64
        if down:
            above = np.append(words[1:], np.uint64(0)) << np.uint64(64 - down)
            words = words >> np.uint64(down) | above
        out[...] = words.astype("<u8", copy=False).view(np.uint8)[: out.size]
        if n % 8:
            out[-1] &= (1 << n % 8) - 1

    def apply(
        self, stream: Stream, draw: int, rate: Rate, first: int, x: Array, out: Array
    ) -> None:
        if x.size == 0:
            return
        if not (x.flags.aligned and out.flags.aligned):
            # Compiled code may fault on addresses that are no multiple of the item size.
            aligned = np.array(x, order="K", subok=False)
            self.apply(stream, draw, rate, first, aligned, aligned)
            np.copyto(out, aligned, casting="no")
            return
        name = dtype_name(x.dtype)
        zero = _ZEROS[name]
        scale = rate.scale if name in _DOUBLES else np.float32(rate.scale)
        arrays = np.uint64(x.ctypes.data), np.uint64(out.ctypes.data), scale, zero
        if x.flags.c_contiguous and out.flags.c_contiguous:
            _run_blocks(
                kernels.apply, kernels.apply_parallel, stream, draw, rate, first, x.size, *arrays
            )
            return
        words, skip = _words(stream, draw, rate, first, x.size)
        kernel = _choose(kernels.apply_strided, kernels.apply_strided_parallel, x.size)
        kernel(words, skip, _axes(x, out), 0, x.size, *arrays)

    def info(self) -> dict[str, Any]:
        return {"numba": numba.__version__, "numba threading layer": _layer() or "not started"}


def _words(
    stream: Stream, draw: int, rate: Rate, first: int, n: int
) -> tuple[NDArray[np.uint64], int]:
    """Return the keep bits of the blocks that hold n elements, and the first's bit number."""
    skip = first % BLOCK
    words = np.empty(-(-(skip + n) // BLOCK) * BLOCK // 64, np.uint64)
    _run_blocks(
        kernels.bits, kernels.bits_parallel, stream, draw, rate, first - skip, skip + n, words
    )
    return words, skip


def _run_blocks(
    serial: Kernel,
    parallel: Kernel,
    stream: Stream,
    draw: int,
    rate: Rate,
    first: int,
    n: int,
    *arguments: Any,
) -> None:
    """Run a kernel over the blocks that hold elements first to first + n - 1."""
    key = stream.open()  # bound to a name: the kernel gets no more than its address
    if stream.sequential:
        kind = kernels.SEQUENTIAL
    else:
        kind = _TWINS.get(stream.algorithm, kernels.COMPILED)
    if kind == kernels.COMPILED and stream.fill_address == 0:
        raise TypeError(
            "rng must have a capsule to run on the numba backend, "
            f"but {stream.algorithm.__qualname__}.capsule is None"
        )
    mask = np.array(
        [
            kind,
            stream.fill_address,
            key.ctypes.data,
            draw,
            rate.threshold,
            rate.planes,
            rate.second,
            rate.refines,
            rate.block_words,
        ],
        np.uint64,
    )
    begin, end = first // BLOCK, -(-(first + n) // BLOCK)
    # A sequential generator has one order to be asked in: no second thread.
    kernel = _choose(serial, parallel, 0 if stream.sequential else n)
    status = kernel(mask, first, first + n, begin, end, *arguments)
    check_status(status, stream.algorithm.name)


def _axes(x: Array, out: Array) -> NDArray[np.int64]:
    """Return the arrays' axes for the kernels: the shortest steps last, merged where possible."""
    mask_steps = np.cumprod([1, *x.shape[:0:-1]])[::-1]
    axes = [
        list(axis)
        for axis in zip(x.shape, x.strides, out.strides, mask_steps, strict=True)
        if axis[kernels.LENGTH] > 1
    ]
    axes.sort(key=lambda axis: (-abs(axis[kernels.OUT_STEP]), -abs(axis[kernels.X_STEP])))
    merged: list[list[int]] = []
    for length, *steps in axes:
        if merged and merged[-1][1:] == [length * step for step in steps]:
            merged[-1] = [merged[-1][0] * length, *steps]
        else:
            merged.append([length, *steps])
    return np.array(merged or [[1, 0, 0, 0]], np.int64)


# --- Threads --------------------------------------------------------------------------------

Kernel = Callable[..., Any]

# Numba's layer "workqueue" aborts the process when a second thread enters a
# parallel function. Whoever finds the lock taken runs serially and never waits.
_parallel_lock = threading.Lock()
_serial_only = False


def _after_fork_in_child() -> None:
    # Numba's threads do not exist in a forked child, and its OpenMP layer kills
    # a child that enters a parallel function. The lock's holder may be gone too.
    global _parallel_lock, _serial_only
    _parallel_lock = threading.Lock()
    _serial_only = _serial_only or _layer() is not None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)


def _layer() -> str | None:
    try:
        return str(numba.threading_layer())
    except ValueError:  # not started
        return None


def _choose(serial: Kernel, parallel: Kernel, size: int) -> Kernel:
    """Return the kernel to call for so many elements: it runs in parallel where that pays."""
    threads = min(get_num_threads(), numba.config.NUMBA_NUM_THREADS)
    if size < _PARALLEL_FROM or threads == 1 or _serial_only:
        return serial

    def run(*arguments: Any) -> Any:
        if not _parallel_lock.acquire(blocking=False):
            return serial(*arguments)
        try:
            before = numba.get_num_threads()
            numba.set_num_threads(threads)
            try:
                return parallel(*arguments)
            finally:
                numba.set_num_threads(before)
        finally:
            _parallel_lock.release()

    return run
