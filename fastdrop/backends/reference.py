"""The oracle: mask format 2 and its use in plain NumPy, one step a line."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._formulas.normal import Noise, normals, with_noise
from .._formulas.softmax import Scores, softmax, softmax_backward
from ..arrays import Array
from ..mask_format import BLOCK, COLUMNS, PRECISION, REFINE_WORDS, STRIP, Rate
from ..rng.base import Stream
from ..sharing import Strides
from .base import Backend, Draw
from .form import SCALE, Form, evaluate, narrowed, widened

Bools = NDArray[np.bool_]
Words = NDArray[np.uint64]

_BLOCKS_AT_ONCE = 256  # a million elements, some 30 MB of intermediate arrays
_AT_ONCE = 1 << 14  # elements whose intermediate arrays stay in cache


class ReferenceBackend(Backend):
    """Plain NumPy, one thread."""

    name = "reference"

    def bits(self, draw: Draw, n: int, out: NDArray[np.uint8]) -> None:
        out[...] = np.packbits(keep(draw, n), bitorder="little")

    def apply(self, draw: Draw, x: Array, out: Array) -> None:
        kept = keep(draw, x.size).reshape(x.shape)
        out[...] = evaluate(kept, x, draw.rate.scale, SCALE)

    def evaluate_bits(
        self,
        keep: NDArray[np.uint64],
        strides: Strides,
        scale: float,
        form: Form,
        x: Array,
        out: Array,
    ) -> None:
        bits = np.unpackbits(keep.view(np.uint8), bitorder="little").view(np.bool_)
        kept = np.lib.stride_tricks.as_strided(bits, x.shape, strides, writeable=False)
        out[...] = evaluate(kept, x, scale, form)

    def add_noise(self, stream: Stream, position: int, noise: Noise, x: Array, out: Array) -> None:
        # A sequential stream would go back to its start for every piece.
        step = max(x.size, 1) if stream.sequential else _AT_ONCE
        for start in range(0, x.size, step):
            piece = widened(x.flat[start : start + step])
            z = normals(stream.words(position + start, piece.size), piece.dtype)
            spread = z.dtype.type(noise.spread)
            with np.errstate(all="ignore"):
                y = narrowed(with_noise(noise.factor, spread, piece, z), x.dtype)
            out.flat[start : start + step] = y

    def softmax(
        self, draw: Draw | None, scores: Scores, x: Array, out: Array, lse: Array | None = None
    ) -> None:
        if x.size:
            with np.errstate(all="ignore"):
                out[...], sums = softmax(scores, *_kept_rows(draw, scores, x), x)
            if lse is not None:
                lse[...] = sums

    def softmax_backward(
        self,
        draw: Draw | None,
        scores: Scores,
        x: Array,
        grad: Array,
        lse: Array | None = None,
        delta: Array | None = None,
    ) -> None:
        if x.size:
            kept = _kept_rows(draw, scores, x)
            with np.errstate(all="ignore"):
                dropped, grad[...] = softmax_backward(scores, *kept, x, grad, lse, delta)
            if lse is not None:
                x[...] = dropped


def _kept_rows(draw: Draw | None, scores: Scores, x: Array) -> tuple[Bools | None, float]:
    """Return which elements of rows are kept, and what those are multiplied by."""
    if draw is None:
        return None, 1.0
    rows, columns = x.shape
    width = scores.width or columns
    kept = keep(draw, (rows - 1) * width + columns)
    return np.lib.stride_tricks.as_strided(kept, x.shape, (width, 1)), draw.rate.scale


def keep(draw: Draw, n: int) -> Bools:
    """Return whether the draw's next n elements are kept: bool, shape (n,)."""
    start, stop = draw.first // BLOCK, -(-(draw.first + n) // BLOCK)
    pieces = [
        keep_blocks(draw, block, min(_BLOCKS_AT_ONCE, stop - block))
        for block in range(start, stop, _BLOCKS_AT_ONCE)
    ]
    kept = np.concatenate([*pieces, np.zeros(0, bool)])
    return kept[draw.first - start * BLOCK :][:n]


def keep_blocks(draw: Draw, block: int, count: int) -> Bools:
    """Return whether the elements of `count` blocks, counted from `block`, are kept: bool, flat."""
    rate = draw.rate
    if rate.planes == 0:
        return np.full(count * BLOCK, rate.threshold > 0)
    start = draw.position + block * rate.block_words
    words = draw.stream.words(start, count * rate.block_words)
    second, numbers, first = _split(words.reshape(count, rate.block_words), rate)
    below, undecided = _compare(first, rate.planes, rate, skip=0)
    if rate.second:
        columns, same = _compare(second, rate.second, rate, skip=rate.planes)
        if rate.refines:
            # 28 bits of the threshold are left, and compared as the upper ones of 32.
            low = _taken(_halves(numbers), same) < (rate.threshold & 0xFFFFFFF) << 4
            columns |= same & low
        below |= undecided & _taken(columns, undecided)
    return below.reshape(-1)


def _split(words: Words, rate: Rate) -> tuple[Words, Words, Words]:
    """Return a block's words as second planes, numbers and first planes."""
    second = COLUMNS // 64 * rate.second
    planes = second + (REFINE_WORDS if rate.refines else 0)
    return words[:, :second], words[:, second:planes], words[:, planes:]


def _compare(words: Words, planes: int, rate: Rate, skip: int) -> tuple[Bools, Bools]:
    """Return whether numbers of some bits are below the threshold's, and whether equal.

    The threshold's bits are those behind its first `skip` ones.
    """
    numbers = _numbers(words, planes)
    t = rate.threshold >> (PRECISION - skip - planes) & ((1 << planes) - 1)
    return numbers < t, numbers == t


def _taken(values: NDArray[Any], where: Bools) -> NDArray[Any]:
    """Return, for the r-th True of each block, value r, counted from 0 and round and round."""
    rank = np.cumsum(where, axis=1) - 1
    return np.take_along_axis(values, rank % values.shape[1], axis=1)


def _numbers(words: Words, planes: int) -> NDArray[np.uint8]:
    """Return the numbers whose bits lie in planes, strip by strip: (blocks, elements)."""
    octets = words.astype("<u8").view(np.uint8)
    bits = np.unpackbits(octets, axis=1, bitorder="little").reshape(len(words), -1, planes, STRIP)
    numbers = np.zeros((len(words), bits.shape[1], STRIP), np.uint8)
    for plane in range(planes):
        numbers = (numbers << np.uint8(1)) | bits[:, :, plane]
    return numbers.reshape(len(words), -1)


def _halves(words: Words) -> Words:
    """Return the 32-bit halves of words, low half first."""
    halves = np.stack([words & np.uint64(0xFFFFFFFF), words >> np.uint64(32)], axis=-1)
    return halves.reshape(len(words), -1)
