"""Kernels compiled by Numba at first use, in one thread or several."""

from __future__ import annotations

import atexit
import os
import threading
from collections.abc import Callable, Sequence
from contextlib import suppress
from functools import cache
from pathlib import Path
from typing import Any, Final

import numba
import numpy as np
from numba.core.compiler_lock import global_compiler_lock
from numpy.typing import NDArray

from ...arrays import Array, dtype_name, is_plain, prepare
from ...mask_format import BLOCK, Rate
from ...rng import PCG64, RNG, AnyRNG, Philox, Philox4x32, Stream
from ...rng.base import check_status, fill_address
from ...sharing import Strides, c_strides
from ...threads import get_num_threads
from ..base import NOTHING_WRITTEN, Backend
from ..form import SCALE, Form
from . import kernels

_TWINS: Final[dict[type[RNG], str]] = {
    Philox4x32: "philox4x32",
    Philox: "philox",
    PCG64: "pcg64",
}
_SIGN: Final = 1 << 63
_SURELY_CACHED: Final = 1 << 19  # elements
_PARALLEL_FROM: Final = 1 << 18  # with fewer, waking threads costs more than it gains


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

    def draw(
        self, rng: AnyRNG, rate: Rate, x: Array, inplace: bool, out: Array | None
    ) -> tuple[Array, Stream, int] | None:
        # What `fastdrop.backends.draw` does, without its context manager, which takes 1 us.
        if rng.source is None or not is_plain(x):
            return None
        y = prepare(x, inplace, out)
        words = rate.words(x.size)
        stream, position = rng.reserve(words)
        try:
            self.apply(stream, position, rate, 0, x, y)
        except NOTHING_WRITTEN:
            rng.give_back(stream, position, words)
            raise
        return y, stream, position

    def apply(
        self, stream: Stream, draw: int, rate: Rate, first: int, x: Array, out: Array
    ) -> None:
        n = x.size
        if n == 0:
            return
        if not (x.flags.c_contiguous and (out is x or out.flags.c_contiguous)):
            words, skip = _words(stream, draw, rate, first, n)
            _walk(words, skip, c_strides(x.shape), rate.scale, SCALE, x, out)
            return
        past_caches = n > _SURELY_CACHED and 2 * out.nbytes > last_level_cache() and x is not out
        algorithm: Any = stream.algorithm
        which = x.dtype, algorithm, rate.block_words, past_caches
        if stream.sequential:
            kernel = _apply_kernel(*which)
            _run_blocks(kernel, stream, draw, rate, first, n, rate.scale, id(x), id(out))
            return
        # What `_run_blocks` does, said again for the time that a call takes.
        kernel, fill, compare = _apply_call(*which)
        run = kernel.serial if n < _PARALLEL_FROM else _choose(kernel)
        status = run(
            fill,
            compare,
            stream.key_address,
            draw if draw < _SIGN else draw - 2 * _SIGN,
            rate.threshold,
            first,
            n,
            rate.scale,
            id(x),
            id(out),
        )
        if status:
            check_status(status, stream.algorithm.name)

    def evaluate_bits(
        self,
        keep: NDArray[np.uint64],
        strides: Strides,
        scale: float,
        form: Form,
        x: Array,
        out: Array,
    ) -> None:
        if form.kind not in kernels.OPERANDS:
            super().evaluate_bits(keep, strides, scale, form, x, out)
        elif x.size:
            _walk(keep, 0, strides, scale, form, x, out)

    def info(self) -> dict[str, Any]:
        return {"numba": numba.__version__, "numba threading layer": _layer() or "not started"}


@cache
def _apply_kernel(
    dtype: np.dtype[Any], algorithm: type[RNG], words: int, past_caches: bool
) -> kernels.Kernel:
    name = str(dtype_name(dtype))
    pipes = algorithm is Philox4x32 and kernels.has_pipe(name, words)
    return kernels.apply_kernel(name, words if pipes else 0, past_caches)


@cache
def _functions(algorithm: type[RNG]) -> tuple[int, int]:
    """Return a generator's `fastdrop_fill`, its own or a twin, and the comparison: addresses."""
    if algorithm in _TWINS:
        fill = kernels.fill_address(_TWINS[algorithm])
    else:
        fill = fill_address(algorithm)
    if fill == 0:
        raise TypeError(
            "rng must have a capsule to run on the numba backend, "
            f"but {algorithm.__qualname__}.capsule is None"
        )
    return fill, kernels.compare_address()


@cache
def _apply_call(
    dtype: np.dtype[Any], algorithm: Any, words: int, past_caches: bool
) -> tuple[kernels.Kernel, int, int]:
    """Return what `_apply_kernel` and `_functions` do."""
    functions = _functions(algorithm)  # a generator without a capsule is refused first
    return _apply_kernel(dtype, algorithm, words, past_caches), *functions


def _words(
    stream: Stream, draw: int, rate: Rate, first: int, n: int
) -> tuple[NDArray[np.uint64], int]:
    """Return the keep bits of the blocks that hold n elements, and the first's bit number."""
    skip = first % BLOCK
    words = np.empty(-(-(skip + n) // BLOCK) * BLOCK // 64, np.uint64)
    _run_blocks(kernels.bits_kernel(), stream, draw, rate, first - skip, skip + n, id(words))
    return words, skip


def _run_blocks(
    kernel: kernels.Kernel,
    stream: Stream,
    draw: int,
    rate: Rate,
    first: int,
    n: int,
    *arguments: Any,
) -> None:
    """Run a kernel over the blocks that hold elements first to first + n - 1."""
    if draw >= _SIGN:
        draw -= 2 * _SIGN  # the kernels' numbers are signed, and their sums go round
    if stream.sequential:
        opened = stream.open()  # bound to a name: the kernel gets no more than its address
        functions = kernels.fill_address("sequential"), kernels.compare_address()
        # Such a generator has one order to be asked in: no second thread.
        run, key = kernel.serial, opened.ctypes.data
    else:
        algorithm: Any = stream.algorithm
        functions, key = _functions(algorithm), stream.key_address
        run = kernel.serial if n < _PARALLEL_FROM else _choose(kernel)
    status = run(*functions, key, draw, rate.threshold, first, n, *arguments)
    if status:
        check_status(status, stream.algorithm.name)


def _walk(
    keep: NDArray[np.uint64],
    skip: int,
    strides: Strides,
    scale: float,
    form: Form,
    x: Array,
    out: Array,
) -> None:
    """Write a form under bits that are given, the first one's number being `skip`."""
    arrays = (out, x, *form.operands)
    steps = [strides, *(array.strides for array in arrays)]
    steps += [x.strides] * (len(kernels.AXIS) - 1 - len(steps))
    axes = _axes(out.shape, steps)
    kernel = kernels.walk_kernel(str(dtype_name(x.dtype)), form.kind)
    u, v = (*form.operands, x, x)[:2]
    numbers = float(scale), float(form.shift), float(form.dropped)
    run = kernel.serial if out.size < _PARALLEL_FROM else _choose(kernel)
    run(id(keep), skip, axes, *numbers, id(x), id(u), id(v), id(out))


def _axes(shape: tuple[int, ...], steps: Sequence[Strides]) -> NDArray[np.int64]:
    """Return the axes for the kernels: out's shortest steps last, merged where all walk evenly."""
    axes = [axis for axis in zip(shape, *steps, strict=True) if axis[0] > 1]
    axes.sort(key=lambda axis: (-abs(axis[2]), -abs(axis[3])))
    merged: list[tuple[int, ...]] = []
    for axis in axes:
        length, *rest = axis
        if merged and list(merged[-1][1:]) == [length * step for step in rest]:
            merged[-1] = merged[-1][0] * length, *rest
        else:
            merged.append(axis)
    return np.array(merged or [(1,) + (0,) * len(steps)], np.int64)


@cache
def last_level_cache() -> int:
    """Return the bytes above which no cache holds an operation's arrays."""
    sizes = [32 << 20]
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index3/size"):
        with suppress(OSError, ValueError):
            sizes.append(int(file.read_text().strip().removesuffix("K")) << 10)
    return sizes[-1]


# --- Threads --------------------------------------------------------------------------------

# Numba's layer "workqueue" aborts the process when a second thread enters a
# parallel function. Whoever finds the lock taken runs serially.
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
    # A child forked while another thread compiles could never compile: that thread holds
    # Numba's lock and does not exist there. So a fork waits until it can hold it itself.
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )


def _before_exit() -> None:
    # From now on Python ends each thread that asks for its lock, as a plug-in's fill may do,
    # and OpenMP aborts the process if that thread is one of its own: it gets no more work.
    # Those that come late find the lock taken. Work that hangs does not keep the program.
    _parallel_lock.acquire(timeout=10)


atexit.register(_before_exit)


def _layer() -> str | None:
    try:
        return str(numba.threading_layer())
    except ValueError:  # not started
        return None


def _choose(kernel: kernels.Kernel) -> Callable[..., int]:
    """Return the function to call for many elements: it runs in parallel where it may."""
    if _serial_only:
        return kernel.serial
    threads = min(get_num_threads(), numba.config.NUMBA_NUM_THREADS)
    if threads == 1:
        return kernel.serial

    def run(*arguments: Any) -> int:
        lock = _parallel_lock
        if lock.locked():
            return kernel.serial(*arguments)
        # Not acquire and try: a KeyboardInterrupt between the two would leave it locked for
        # good. Another thread may come first here, and then this one waits for it.
        with lock:
            return kernel.parallel(threads, *arguments)

    return run
