"""The oracle: mask format 1 and its use in plain NumPy, one step a line."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array
from ..mask_format import BLOCK, PLANES, STRIP, Rate
from ..rng import Stream
from .base import Backend
from .form import SCALE, evaluate

Bools = NDArray[np.bool_]

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
    if rate.significant == 0:
        return np.full(count * BLOCK, rate.threshold > 0)
    words = stream.words(draw + block * rate.block_words, count * rate.block_words)
    words = words.reshape(count, rate.block_words)
    planes = min(rate.significant, PLANES)
    high = _high_bits(words[:, : planes * BLOCK // 64], planes)
    if rate.significant <= PLANES:
        return (high < rate.threshold >> (40 - planes)).reshape(-1)
    kept = high < rate.threshold >> 32
    undecided = high == rate.threshold >> 32
    numbers = _halves(words[:, planes * BLOCK // 64 :])
    rank = np.cumsum(undecided, axis=1) - 1
    low = np.take_along_axis(numbers, rank % numbers.shape[1], axis=1)
    decided: Bools = kept | undecided & (low < rate.threshold & 0xFFFFFFFF)
    return decided.reshape(-1)


def _high_bits(words: NDArray[np.uint64], planes: int) -> NDArray[np.uint8]:
    """Return the leading `planes` bits of each element's number: (blocks, BLOCK)."""
    octets = words.astype("<u8").view(np.uint8)
    bits = np.unpackbits(octets, axis=1, bitorder="little")
    bits = bits.reshape(len(words), BLOCK // STRIP, planes, STRIP)
    high = np.zeros((len(words), BLOCK // STRIP, STRIP), np.uint8)
    for plane in range(planes):
        high = (high << np.uint8(1)) | bits[:, :, plane]
    return high.reshape(len(words), BLOCK)


def _halves(words: NDArray[np.uint64]) -> NDArray[np.uint64]:
    """Return the 32-bit halves of words, low half first."""
    halves = np.stack([words & np.uint64(0xFFFFFFFF), words >> np.uint64(32)], axis=-1)
    return halves.reshape(len(words), -1)
