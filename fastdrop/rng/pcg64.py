"""PCG64, with the stream of NumPy's PCG64."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from .base import Words
from .builtin import BuiltinRNG

if TYPE_CHECKING:
    from numpy.random import BitGenerator, SeedSequence

_LOW64 = 0xFFFFFFFFFFFFFFFF


class PCG64(BuiltinRNG):
    """PCG XSL RR 128/64: the same words as NumPy's PCG64, which is NumPy's default generator.

    Parameters
    ----------
    seed : None, int, sequence of int, or numpy.random.SeedSequence, optional
        What `numpy.random.SeedSequence` takes. The stream is that of
        ``np.random.PCG64(seed).random_raw``.

    Notes
    -----
    A key is the 128-bit state and the 128-bit increment, high word first. Any
    word takes a logarithmic number of multiplications.

    References
    ----------
    M. E. O'Neill, "PCG: a family of simple fast space-efficient statistically
    good algorithms for random number generation", HMC-CS-2014-0905, 2014.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> bool((fastdrop.PCG64(3).random_raw(9) == np.random.PCG64(3).random_raw(9)).all())
    True
    """

    name = "pcg64"
    _key_words = 4

    @classmethod
    def seed_key(cls, seed: SeedSequence) -> Words:
        return key_of(np.random.PCG64(seed))

    @classmethod
    def words(cls, key: Words, position: int, n: int) -> Words:
        state_high, state_low, inc_high, inc_low = (int(word) for word in key)
        bit_generator = np.random.PCG64(0)
        bit_generator.state = {
            "bit_generator": "PCG64",
            "state": {"state": state_high << 64 | state_low, "inc": inc_high << 64 | inc_low},
            "has_uint32": 0,
            "uinteger": 0,
        }
        return bit_generator.advance(position).random_raw(n)


def key_of(bit_generator: BitGenerator) -> Words:
    """Return the key whose word 0 is the NumPy generator's next word."""
    state: Any = bit_generator.state["state"]
    numbers = int(state["state"]), int(state["inc"])
    return np.array([half for v in numbers for half in (v >> 64, v & _LOW64)], np.uint64)
