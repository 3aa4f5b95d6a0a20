"""The oracle: mask format 2 and its use in plain NumPy, one step a line."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array
from ..mask_format import BLOCK, COLUMNS, PRECISION, REFINE_WORDS, STRIP, Rate
from ..rng import Stream
from .base import Backend
from .form import SCALE, evaluate

Bools = NDArray[np.bool_]
Words = NDArray[np.uint64]

_BLOCKS_AT_ONCE = 256  # a million elements, some 30 MB of intermediate arrays


class ReferenceBackend(Backend):
    """Plain NumPy, one thread."""

    name = "reference"

    def bits(
        self, stream: Stream, draw: int, rate: Rate, first: int, n: int, out: NDArray[np.uint8]
    ) -> None:
        out[...] = np.packbits(keep(stream, draw, rate, first, n), bitorder="little")

    def apply(
        self, stream: Stream, draw: int, rate: Rate, first: int, x: Array, out: Array
    ) -> None:
        kept = keep(stream, draw, rate, first, x.size).reshape(x.shape)
        out[...] = evaluate(kept, x, rate.scale, SCALE)


def keep(stream: Stream, draw: int, rate: Rate, first: int, n: int) -> Bools:
    """Return whether elements first to first + n - 1 are kept: bool, shape (n,)."""
    start, stop = first // BLOCK, -(-(first + n) // BLOCK)
    pieces = [
        keep_blocks(stream, draw, rate, block, min(_BLOCKS_AT_ONCE, stop - block))
        for block in range(start, stop, _BLOCKS_AT_ONCE)
    ]
    kept = np.concatenate([*pieces, np.zeros(0, bool)])
    return kept[first - start * BLOCK :][:n]


def keep_blocks(stream: Stream, draw: int, rate: Rate, block: int, count: int) -> Bools:
    """Return whether the elements of `count` blocks are kept: bool, flat."""
    if rate.planes == 0:
        return np.full(count * BLOCK, rate.threshold > 0)
    words = stream.words(draw + block * rate.block_words, count * rate.block_words)
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
