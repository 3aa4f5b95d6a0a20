# cython: language_level=3
"""Bring your own random number generator: xoshiro256** as a NumPy BitGenerator.

A generator with NumPy's interface serves both: `numpy.random.Generator` draws
its numbers from it, and fastdrop draws its masks. Each draw advances it. A
BitGenerator returns one word after the other, so fastdrop draws these masks
with one thread. The capsule and cfunc examples show generators that many
threads can use at once.

Reference: D. Blackman and S. Vigna, "Scrambled linear pseudorandom number
generators", ACM Transactions on Mathematical Software 47, 2021.
"""

from libc.stdint cimport uint32_t, uint64_t
from numpy.random cimport BitGenerator

import numpy as np


cdef inline uint64_t rotate_left(uint64_t x, int bits) noexcept nogil:
    return x << bits | x >> (64 - bits)


cdef uint64_t next_uint64(void *state) noexcept nogil:
    cdef uint64_t *s = <uint64_t *> state
    cdef uint64_t result = rotate_left(s[1] * 5, 7) * 9
    cdef uint64_t t = s[1] << 17
    s[2] ^= s[0]
    s[3] ^= s[1]
    s[1] ^= s[2]
    s[0] ^= s[3]
    s[2] ^= t
    s[3] = rotate_left(s[3], 45)
    return result


cdef uint32_t next_uint32(void *state) noexcept nogil:
    return next_uint64(state) >> 32


cdef double next_double(void *state) noexcept nogil:
    return (next_uint64(state) >> 11) * (1.0 / 9007199254740992.0)


cdef class Xoshiro256(BitGenerator):
    """xoshiro256**, seeded with what `numpy.random.SeedSequence` takes."""

    cdef uint64_t words[4]

    def __init__(self, seed=None):
        BitGenerator.__init__(self, seed)
        self._bitgen.state = &self.words
        self._bitgen.next_uint64 = &next_uint64
        self._bitgen.next_uint32 = &next_uint32
        self._bitgen.next_double = &next_double
        self._bitgen.next_raw = &next_uint64
        self._set(self._seed_seq.generate_state(4, np.uint64))

    cdef _set(self, words):
        for i in range(4):
            self.words[i] = words[i]

    @property
    def state(self):
        """The four words, from which copies and pickles of the generator are made."""
        return {"bit_generator": "Xoshiro256", "words": [self.words[i] for i in range(4)]}

    @state.setter
    def state(self, state):
        if state.get("bit_generator") != "Xoshiro256" or not any(state["words"]):
            raise ValueError("state must be that of a Xoshiro256, with a word that is not 0")
        self._set(state["words"])
