"""ARS4x32-7 for Numba's kernels."""

from __future__ import annotations

from typing import Final

import numpy as np
from llvmlite import ir

from ...rng.ars4x32 import ROUNDS, WEYL
from .aes import AES_BITS, HAS_AES, aes_last_round, aes_round
from .compiling import NOTHING, emitted, inner
from .lanes import Lanes, Word
from .vector import I64, Value, in_place, load, store

_BYTES: Final = AES_BITS // 8
_BLOCKS: Final = AES_BITS // 128  # of a vector
_STEP: Final = 2 * _BLOCKS
_VECTOR: Final = ir.VectorType(I64, _STEP)
_ALL_ROUNDS: Final = ROUNDS + 1  # and the key that comes before them


class ARS4x32Lanes(Lanes):
    """Counters' blocks, two words each."""

    step = _STEP
    # As many vectors as the processor begins before the first one's round ends.
    side = 12 if AES_BITS > 128 else 8 if HAS_AES else 2
    side_of_all = 6 if AES_BITS == 512 else 16 // _STEP
    side_of_few = 4 if AES_BITS == 512 else 16 // _STEP
    rounds = ROUNDS - 1  # the last one is another
    run_bytes = _ALL_ROUNDS * _BYTES
    has_pipe = HAS_AES  # tables take longer than any memory

    def __init__(self, run: Value, counter: Value, side: int) -> None:
        self.run = run
        self.blocks: list[Value] = []
        in_first = counter.spread(_STEP) & [-1, 0] * _BLOCKS
        for i in range(side):
            numbers = [n for block in range(_BLOCKS) for n in (i * _BLOCKS + block, 0)]
            self.blocks.append((in_first + numbers) ^ self._key(0))

    def _key(self, number: int) -> Value:
        return load(_VECTOR, self.run + number * _BYTES)

    def round(self, number: int) -> None:
        key = self._key(number + 1)
        self.blocks = [aes_round(blocks, key) for blocks in self.blocks]

    def made_here(self) -> None:
        self.blocks = in_place(self.blocks)

    def end(self, out: Value) -> None:
        key = self._key(ROUNDS)
        for i, blocks in enumerate(self.blocks):
            store(aes_last_round(blocks, key), out + i * _BYTES)


@emitted(NOTHING)
def start_ars4x32(_: Value, key: Value, counter: Value, run: Value) -> None:
    """Write the keys of all rounds, once for each block of a vector."""
    words = load(ir.VectorType(I64, 2), key)
    words = words.shuffle(words, [0, 1] * _BLOCKS)
    for number in range(_ALL_ROUNDS):
        store(words, run + number * _BYTES)
        words = words + list(WEYL) * _BLOCKS


@inner()
def left_of_ars4x32(position: Word) -> int:
    """Return how many words from a position on share what a run has: all."""
    return np.int64(0x7FFFFFFFFFFFFFFF)  # type: ignore[return-value]
