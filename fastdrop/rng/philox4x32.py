"""Philox4x32-10: the generator that GPUs use."""

from __future__ import annotations

from typing import Final

import numpy as np

from .base import Words
from .builtin import BuiltinRNG

MULTIPLIERS: Final = 0xD2511F53, 0xCD9E8D57
WEYL: Final = 0x9E3779B9, 0xBB67AE85  # what a round's keys differ from the last one's by
ROUNDS: Final = 10

_LOW32 = np.uint64(0xFFFFFFFF)
_SHIFT32 = np.uint64(32)


class Philox4x32(BuiltinRNG):
    """Philox4x32-10, a counter-based generator of multiplications alone.

    Parameters
    ----------
    seed : None, int, sequence of int, or numpy.random.SeedSequence, optional
        What `numpy.random.SeedSequence` takes.

    Notes
    -----
    Words 2n and 2n + 1 of the stream are the four 32-bit outputs, low half
    first, for the counter (n mod 2**32, n // 2**32, u mod 2**32, u // 2**32).
    The first word of the key holds the two Philox keys, low half first; the
    second is u. Each key has 2**64 words.

    It is the fastest where a processor has no instructions for AES (see `ARS4x32`).

    References
    ----------
    J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random
    numbers: as easy as 1, 2, 3", SC 2011.

    Examples
    --------
    >>> import fastdrop
    >>> rng = fastdrop.Philox4x32(0)
    >>> rng.random_raw(2).dtype, rng.position
    (dtype('uint64'), 2)
    """

    name = "philox4x32"
    _key_words = 2

    @classmethod
    def words(cls, key: Words, position: int, n: int) -> Words:
        first, last = position // 2, (position + n + 1) // 2
        counter = np.uint64(first) + np.arange(last - first, dtype=np.uint64)
        x0, x1 = counter & _LOW32, counter >> _SHIFT32
        x2, x3 = key[1] & _LOW32, key[1] >> _SHIFT32
        k0, k1 = int(key[0]) & 0xFFFFFFFF, int(key[0]) >> 32
        for _ in range(ROUNDS):
            a, b = x0 * np.uint64(MULTIPLIERS[0]), x2 * np.uint64(MULTIPLIERS[1])
            x0, x1 = (b >> _SHIFT32) ^ x1 ^ np.uint64(k0), b & _LOW32
            x2, x3 = (a >> _SHIFT32) ^ x3 ^ np.uint64(k1), a & _LOW32
            k0, k1 = (k0 + WEYL[0]) & 0xFFFFFFFF, (k1 + WEYL[1]) & 0xFFFFFFFF
        pairs = np.stack([x0 | x1 << _SHIFT32, x2 | x3 << _SHIFT32], axis=-1)
        return pairs.reshape(-1)[position % 2 : position % 2 + n]
