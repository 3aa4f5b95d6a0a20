"""Philox4x32-10 for Numba's kernels."""

from __future__ import annotations

from typing import Any, Final

import numpy as np

from ...rng.philox4x32 import MULTIPLIERS, ROUNDS, WEYL
from .compiling import inner
from .lanes import Lanes, Word
from .memory import put_word, word_at
from .vector import BITS, HAS_AVX512, I64, Value, in_place, load, store, vector

_BYTES: Final = BITS // 8
_LANES: Final = BITS // 64
_WORDS: Final = vector(I64)

_LATER_ROUNDS: Final = ROUNDS - 2  # after those in which half of the numbers differ in no lane
_M0, _M1 = MULTIPLIERS
_LOW32: Final = 0xFFFFFFFF
_PAIR_ORDER: Final = [0, 4, 1, 5, 2, 6, 3, 7]  # lanes' counters, so that `end` shuffles in 128 bits


def _times(numbers: Value, multiplier: int) -> Value:
    """Return products of lanes' low halves; what their high halves hold does not matter."""
    return (numbers & _LOW32) * multiplier


class Philox4x32Lanes(Lanes):
    """Counters' numbers: a 32-bit number in each lane's low half, and junk in its high half."""

    step = 2 * _LANES
    side = 4 if HAS_AVX512 else 1  # as many as registers hold
    side_of_all = min(side, 3)
    side_of_few = side
    rounds = _LATER_ROUNDS
    run_bytes = 8 * (3 + 2 * _LATER_ROUNDS)

    def __init__(self, run: Value, counter: Value, side: int) -> None:
        self.run, self.count = run, side
        self.x0: list[Value] = []
        self.x1: list[Value] = []
        self.x2: list[Value] = []
        self.x3: list[Value] = []
        for i in range(side):
            order = run.constant(_PAIR_ORDER, _WORDS)
            a = _times(order + (counter + i * _LANES), _M0)
            b = _times(a >> 32 ^ self._shared(0), _M1)
            self.x0.append(b >> 32 ^ self._shared(1))
            self.x1.append(b)
            self.x2.append(a ^ self._shared(2))
            self.x3.append(a.constant(0))  # the same number in all lanes, and part of the key

    def _shared(self, n: int) -> Value:
        return load(I64, self.run + 8 * n)

    def round(self, number: int) -> None:
        k0, k1 = self._shared(3 + 2 * number), self._shared(4 + 2 * number)
        for i in range(self.count):
            a, b = _times(self.x0[i], _M0), _times(self.x2[i], _M1)
            self.x0[i] = b >> 32 ^ self.x1[i] ^ k0
            self.x2[i] = a >> 32 ^ self.x3[i] ^ k1
            self.x1[i], self.x3[i] = b, a

    def made_here(self) -> None:
        made = in_place(self.x0 + self.x2)
        self.x0, self.x2 = made[: self.count], made[self.count :]

    def end(self, out: Value) -> None:
        for i in range(self.count):
            first = self.x0[i] & _LOW32 | self.x1[i] << 32
            second = self.x2[i] & _LOW32 | self.x3[i] << 32
            at = out + i * 2 * _BYTES
            store(first.shuffle(second, [0, 8, 2, 10, 4, 12, 6, 14]), at)
            store(first.shuffle(second, [1, 9, 3, 11, 5, 13, 7, 15]), at + _BYTES)


_0, _32 = np.uint64(0), np.uint64(32)
_LOW: Final = np.uint64(_LOW32)
_BY0, _BY1 = map(np.uint64, MULTIPLIERS)
_W0, _W1 = map(np.uint64, WEYL)


@inner()
def start_philox4x32(key: int, counter: Word, run: int) -> None:
    """Write what counters with this one's upper half share.

    In the first two rounds half of the arithmetic is on numbers that differ in no
    lane: that half is done here.
    """
    k, upper = word_at(key), word_at(key + 8)
    k0, k1 = k & _LOW, k >> _32
    b = (upper & _LOW) * _BY1  # round 0
    put_word(run, (upper >> _32) ^ k1)
    a = (((b >> _32) ^ (counter >> _32) ^ k0) & _LOW) * _BY0  # round 1
    k0, k1 = k0 + _W0 & _LOW, k1 + _W1 & _LOW
    put_word(run + 8, (b & _LOW) ^ k0)
    put_word(run + 16, (a >> _32) ^ k1)
    left = a & _LOW  # of round 1, for round 2
    for number in range(_LATER_ROUNDS):
        k0, k1 = k0 + _W0 & _LOW, k1 + _W1 & _LOW
        put_word(run + 24 + 16 * number, k0)
        put_word(run + 32 + 16 * number, k1 ^ left)
        left = _0


@inner()
def left_of_philox4x32(position: Word) -> Any:
    """Return how many words from a position on have counters with one upper half."""
    return (2 << 32) - np.int64(position & np.uint64((2 << 32) - 1))
