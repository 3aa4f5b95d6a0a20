"""Philox4x64-10, with the stream of NumPy's Philox."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .base import Words
from .builtin import BuiltinRNG

if TYPE_CHECKING:
    from numpy.random import SeedSequence

_COUNTER_END = 1 << 256


class Philox(BuiltinRNG):
    """Philox4x64-10, a counter-based generator: the same words as NumPy's Philox.

    Parameters
    ----------
    seed : None, int, sequence of int, or numpy.random.SeedSequence, optional
        What `numpy.random.SeedSequence` takes. The stream is that of
        ``np.random.Philox(seed).random_raw``.

    Notes
    -----
    A key is two words of Philox key and four of counter, low word first. The
    counter is NumPy's before its first draw. NumPy increments it before it generates,
    so words 4n to 4n + 3 come from the counter plus n + 1.

    References
    ----------
    J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random
    numbers: as easy as 1, 2, 3", SC 2011.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> bool((fastdrop.Philox(3).random_raw(9) == np.random.Philox(3).random_raw(9)).all())
    True
    """

    name = "philox"
    _key_words = 6

    @classmethod
    def seed_key(cls, seed: SeedSequence) -> Words:
        counter = np.zeros(4, np.uint64)
        return np.concatenate([seed.generate_state(2, np.uint64), counter])

    @classmethod
    def words(cls, key: Words, position: int, n: int) -> Words:
        bit_generator = np.random.Philox(0)
        counter = sum(int(word) << (64 * i) for i, word in enumerate(key[2:]))
        bit_generator.state = numpy_state(key[:2], counter + position // 4)
        return bit_generator.random_raw(position % 4 + n)[position % 4 :]


def numpy_state(key: Words, counter: int) -> Any:
    """Return the state of a NumPy Philox that has used all words of `counter`."""
    counter %= _COUNTER_END
    words = [counter >> (64 * i) & 0xFFFFFFFFFFFFFFFF for i in range(4)]
    return {
        "bit_generator": "Philox",
        "state": {"counter": np.array(words, np.uint64), "key": np.array(key, np.uint64)},
        "buffer": np.zeros(4, np.uint64),
        "buffer_pos": 4,
        "has_uint32": 0,
        "uinteger": 0,
    }
