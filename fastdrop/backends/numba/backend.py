"""Kernels compiled by Numba at first use, in one thread or several."""

from __future__ import annotations

import math
from contextlib import suppress
from functools import cache, partial
from pathlib import Path
from typing import Any, Final

import numba
import numpy as np
from numpy.typing import NDArray

from ..._formulas.normal import Noise
from ..._formulas.softmax import Scores
from ...arrays import Array, dtype_name, is_plain, prepare
from ...mask_format import BLOCK, STRIP, Rate
from ...rng import BUILTIN, DEFAULT, RNG, AnyRNG
from ...rng.base import Stream, check_status, compiled_fills, fill_address
from ...sharing import Strides, c_strides, canonical, noise_of
from ..base import NOTHING_WRITTEN, Backend, Draw, Draws
from ..form import SCALE, Form
from . import generators, kernels, softmax, threads, windows
from .aes import HOW
from .blocks import compare_address
from .compiling import Kernel
from .contiguous import has_pipe
from .layouts import AXIS

# Generators that Numba's code is used for, compiled extension or not.
_OWN: Final[dict[type[RNG], str]] = {
    kind: kind.name for kind in BUILTIN if kind.name in generators.FILLS
}
compiled_fills.update({kind: partial(generators.fill_address, name) for kind, name in _OWN.items()})
_SIGN: Final = 1 << 63
SURELY_CACHED: Final = 1 << 19  # elements
_PARALLEL_FROM: Final = 1 << 18  # with fewer, waking threads costs more than it gains
_PARALLEL_ROWS_FROM: Final = 1 << 15  # elements of softmax, which take ten times as long
_ROW: Final = 64  # words that are drawn at once where memory has another order


class NumbaBackend(Backend):
    """Compiled by Numba, cached on disk where that is possible."""

    name = "numba"

    def bits(self, draw: Draw, n: int, out: NDArray[np.uint8]) -> None:
        if n == 0:
            return
        words, skip = _words(draw, n)
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
        # The steps of `fastdrop.backends.draw_in_steps` without its context manager, which takes
        # 1 us.
        source = rng.source
        if source is None or not is_plain(x):
            return None
        y = prepare(x, inplace, out)
        words = rate.words(x.size)
        stream, counter = source
        position = counter.take(words)
        try:
            self._apply(stream, position, rate, 0, x, y)
        except NOTHING_WRITTEN:
            counter.give_back(position, words)
            raise
        return y, stream, position

    def apply(self, draw: Draw, x: Array, out: Array) -> None:
        self._apply(draw.stream, draw.position, draw.rate, draw.first, x, out)

    def _apply(
        self, stream: Stream, position: int, rate: Rate, first: int, x: Array, out: Array
    ) -> None:
        # Without a Draw, which takes a tenth of a small array's call to make.
        n = x.size
        if n == 0:
            return
        if not (x.flags.c_contiguous and (out is x or out.flags.c_contiguous)):
            drawn = Draw(stream, position, rate, first)
            self.evaluate(drawn, c_strides(x.shape), SCALE, x, out)
            return
        past_caches = is_past_caches(n, x.itemsize) and x is not out
        algorithm: Any = stream.algorithm
        if stream.sequential:
            mask = _signed(position), compare_address(), rate.threshold
            kernel = _apply_kernel(x.dtype, algorithm, rate.block_words, past_caches)
            _run(kernel, n, stream, *mask, first, n, rate.scale, id(x), id(out))
            return
        # What `_run` does, said again for the time that a call takes.
        kernel, fill, compare = _apply_call(x.dtype, algorithm, rate.block_words, past_caches)
        arguments = (
            None,
            fill,
            stream.key_address,
            position if position < _SIGN else position - 2 * _SIGN,
            compare,
            rate.threshold,
            first,
            n,
            rate.scale,
            id(x),
            id(out),
        )
        status = kernel.serial(*arguments) if n < _PARALLEL_FROM else threads.run(kernel, arguments)
        if status:
            check_status(status, stream.algorithm.name)

    def evaluate(self, draw: Draw, strides: Strides, form: Form, x: Array, out: Array) -> None:
        noise = noise_of(x.shape, strides)
        if x.size and canonical(noise, strides) is None:
            words, skip = _words(draw, math.prod(noise))
            _walk(words, skip, strides, draw.rate.scale, form, x, out)
        else:
            super().evaluate(draw, strides, form, x, out)

    def evaluate_samples(
        self, draws: Draws, strides: Strides, form: Form, x: Array, out: Array
    ) -> None:
        plain = form is SCALE and canonical(x.shape[1:], strides) is None
        if plain and math.prod(x.shape[1:]) >= _PARALLEL_FROM:
            for sample in range(len(draws)):  # long ones make no bits ahead
                self.apply(draws[sample], x[sample], out[sample])
        else:
            super().evaluate_samples(draws, strides, form, x, out)

    def sample_bits(
        self, draws: Draws, shape: tuple[int, ...], strides: Strides, out: NDArray[np.uint64]
    ) -> None:
        if draws.stream.sequential:
            super().sample_bits(draws, shape, strides, out)
            return
        axes = _merged(list(zip(shape, strides, strict=True)))
        each = math.prod(shape)
        n = each * len(draws)
        made = len(draws) * max(windows.elements_made(axes, each), STRIP)
        task = max(n * kernels.TASK_BLOCKS * BLOCK // made // 64 * 64, 64)
        mask = 0, compare_address(), draws.rate.threshold
        arguments = draws.positions.view(np.int64), draws.first, axes, n, task, id(out)
        _run(kernels.window_kernel(), made, draws.stream, *mask, *arguments)

    def evaluate_bits(
        self,
        keep: NDArray[np.uint64],
        strides: Strides,
        scale: float,
        form: Form,
        x: Array,
        out: Array,
    ) -> None:
        if x.size:
            _walk(keep, 0, strides, scale, form, x, out)

    def add_noise(self, stream: Stream, position: int, noise: Noise, x: Array, out: Array) -> None:
        if x.size == 0:
            return
        x, out = np.squeeze(x), np.squeeze(out)
        words = c_strides(x.shape)
        if stream.sequential or _last_is_fastest(out):
            _add_noise(stream, position, noise, _merged(_axes(x.shape, words, out, x)), x, out)
            return
        # Words lie in the order of the last axis, and memory does not. A part of a row of words,
        # and as many of those that lie beside it in memory as there are, and then the next part.
        whole = x.shape[-1] // _ROW * _ROW
        for begin, end, row in ((0, whole, _ROW), (whole, x.shape[-1], x.shape[-1] - whole)):
            if begin < end:
                parts = [a[..., begin:end] for a in (x, out)]
                *axes, last = _axes(parts[0].shape, words, *parts[::-1])
                length, *steps = last
                axes.append((length // row, *(row * step for step in steps)))
                axes = [*_by_memory(axes), (row, *steps)]
                _add_noise(stream, position + begin, noise, _merged(axes), *parts)

    def softmax(
        self, draw: Draw | None, scores: Scores, x: Array, out: Array, lse: Array | None = None
    ) -> None:
        _rows(softmax.FORWARD, draw, scores, x, out, lse, None)

    def softmax_backward(
        self,
        draw: Draw | None,
        scores: Scores,
        x: Array,
        grad: Array,
        lse: Array | None = None,
        delta: Array | None = None,
    ) -> None:
        way = softmax.BACKWARD if lse is None else softmax.AGAIN
        _rows(way, draw, scores, x, grad, lse, delta)

    def info(self) -> dict[str, Any]:
        layer = threads.layer() or "not started"
        return {
            "numba": numba.__version__,
            "numba threading layer": layer,
            "random words": f"{DEFAULT.name} by {HOW}",
        }


@cache
def _apply_kernel(
    dtype: np.dtype[Any], algorithm: type[RNG], words: int, past_caches: bool
) -> Kernel:
    name = str(dtype_name(dtype))
    return kernels.apply_kernel(name, *pipe_of(name, algorithm, words), past_caches)


def pipe_of(name: str, algorithm: type[RNG], words: int) -> tuple[str, int]:
    """Return the generator and the length of the pipeline for a dtype, "" and 0 without one."""
    generator = _OWN.get(algorithm, "")
    return (generator, words) if has_pipe(name, generator, words) else ("", 0)


@cache
def fill_of(algorithm: type[RNG]) -> int:
    """Return the address of a generator's `fastdrop_fill`: Numba's, or its own."""
    if algorithm in _OWN:
        return generators.fill_address(_OWN[algorithm])
    fill = fill_address(algorithm)
    if fill == 0:
        raise TypeError(
            "rng must have a capsule to run on the numba backend, "
            f"but {algorithm.__qualname__}.capsule is None"
        )
    return fill


@cache
def _apply_call(
    dtype: np.dtype[Any], algorithm: Any, words: int, past_caches: bool
) -> tuple[Kernel, int, int]:
    """Return a kernel, and the functions that it calls."""
    fill = fill_of(algorithm)  # a generator without a capsule is refused first
    return _apply_kernel(dtype, algorithm, words, past_caches), fill, compare_address()


def _run(kernel: Kernel, n: int, stream: Stream, *arguments: Any) -> None:
    """Run a kernel, which takes addresses of `fastdrop_fill` and key first, on n elements."""
    if stream.sequential:
        opened = stream.open()  # bound to a name: the kernel gets no more than its address
        fill, key = generators.fill_address("sequential"), opened.ctypes.data
        # Such a generator has one order to be asked in: no second thread.
        status = kernel.serial(None, fill, key, *arguments)
    else:
        algorithm: Any = stream.algorithm
        fill, key = fill_of(algorithm), stream.key_address
        if n < _PARALLEL_FROM:
            status = kernel.serial(None, fill, key, *arguments)
        else:
            status = threads.run(kernel, (None, fill, key, *arguments))
    if status:
        check_status(status, stream.algorithm.name)


def _signed(position: int) -> int:
    """Return a position for the kernels: their numbers are signed, and their sums go round."""
    return position if position < _SIGN else position - 2 * _SIGN


def _words(draw: Draw, n: int) -> tuple[NDArray[np.uint64], int]:
    """Return the keep bits of the blocks that hold n elements, and the first's bit number."""
    skip = draw.first % BLOCK
    n += skip
    words = np.empty(-(-n // BLOCK) * BLOCK // 64 + 1, np.uint64)  # rows read one past the last
    mask = _signed(draw.position), compare_address(), draw.rate.threshold
    _run(kernels.bits_kernel(), n, draw.stream, *mask, draw.first - skip, n, id(words))
    return words, skip


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
    axes = _merged(_by_memory(_axes(x.shape, strides, out, x, *form.operands)))
    kernel = kernels.walk_kernel(str(dtype_name(x.dtype)), form.kind)
    u, v = (*form.operands, x, x)[:2]
    numbers = float(scale), float(form.shift), float(form.dropped)
    arguments = None, id(keep), skip, axes, *numbers, id(x), id(u), id(v), id(out)
    if x.size < _PARALLEL_FROM:
        kernel.serial(*arguments)
    else:
        threads.run(kernel, arguments)


def _rows(way: int, draw: Draw | None, scores: Scores, x: Array, *arrays: Array | None) -> None:
    """Make softmax of x's rows, or go back; `arrays` are output or gradient, lse and delta."""
    if x.size == 0:
        return
    size, columns = x.shape
    width, bias = scores.width or columns, scores.bias
    keep, bit, keep_scale = None, 0, 1.0
    if draw is not None:
        keep, bit = _words(draw, (size - 1) * width + columns)
        keep_scale = draw.rate.scale
    kernel = kernels.softmax_kernel(str(dtype_name(x.dtype)), bias is not None, way)
    ids = (0 if a is None else id(a) for a in (x, bias, *arrays))
    numbers = float(scores.scale), float(keep_scale)
    sizes = size, columns, width, 0 if bias is None else len(bias), scores.causal, scores.row
    arguments = None, 0 if keep is None else id(keep), bit, *numbers, *sizes, *ids
    if x.size < _PARALLEL_ROWS_FROM:
        kernel.serial(*arguments)
    else:
        threads.run(kernel, arguments)


def _add_noise(
    stream: Stream, position: int, noise: Noise, axes: NDArray[np.int64], x: Array, out: Array
) -> None:
    """Write x with noise; the axes say which word an element takes, counted from `position`."""
    kernel = kernels.noise_kernel(str(dtype_name(x.dtype)), noise.factor)
    _run(kernel, x.size, stream, _signed(position), axes, float(noise.spread), id(x), id(out))


# --- Axes -----------------------------------------------------------------------------------

Axis = tuple[int, ...]  # a number for each name in `AXIS`


def _axes(shape: tuple[int, ...], mask: Strides, *arrays: Array) -> list[Axis]:
    """Return the axes of out, x and operands; x's steps stand for operands that are not there."""
    steps = [array.strides for array in arrays]
    steps += [steps[1]] * (len(AXIS) - 2 - len(steps))
    return list(zip(shape, mask, *steps, strict=True))


def _by_memory(axes: list[Axis]) -> list[Axis]:
    """Return axes sorted: out's shortest steps last."""
    return sorted(axes, key=lambda axis: (-abs(axis[2]), -abs(axis[3])))


def _merged(axes: list[Axis]) -> NDArray[np.int64]:
    """Return axes for the kernels: those that all walk evenly are one."""
    merged: list[Axis] = []
    for axis in axes:
        length, *steps = axis
        if length == 1:
            continue
        if merged and list(merged[-1][1:]) == [length * step for step in steps]:
            merged[-1] = merged[-1][0] * length, *steps
        else:
            merged.append(axis)
    return np.array(merged or [(1,) + (0,) * (len(AXIS) - 1)], np.int64)


def _last_is_fastest(out: Array) -> bool:
    """Return whether the last axis has the smallest steps."""
    steps = list(map(abs, out.strides))
    return not steps or steps[-1] == min(steps)


def is_past_caches(n: int, itemsize: int) -> bool:
    """Return whether no cache holds an operation's input and output of n elements."""
    return n > SURELY_CACHED and 2 * n * itemsize > last_level_cache()


@cache
def last_level_cache() -> int:
    """Return the bytes above which no cache holds an operation's arrays."""
    sizes = [32 << 20]
    for file in Path("/sys/devices/system/cpu/cpu0/cache").glob("index3/size"):
        with suppress(OSError, ValueError):
            sizes.append(int(file.read_text().strip().removesuffix("K")) << 10)
    return sizes[-1]
