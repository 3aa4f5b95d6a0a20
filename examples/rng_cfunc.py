"""Bring your own random number generator: SplitMix64 as a Numba cfunc.

fastdrop draws masks from a stream of 64-bit words. A generator is one compiled
function, `fill`, that writes words `position` to `position + n - 1` of the
stream that a key selects. It has no hidden state, so any thread may ask
for any part of the stream in any order. This file writes `fill` in Python and
lets Numba compile it; no compiler is needed.

SplitMix64 adds an odd constant, gamma, to a counter and mixes the bits of the
sum, so its n-th word is reached in one step. A key is a seed and a gamma.

    python examples/rng_cfunc.py

Reference: G. L. Steele, D. Lea and C. H. Flood, "Fast splittable pseudorandom
number generators", OOPSLA 2014.
"""

import numpy as np
from numba import cfunc, types

import fastdrop

WORDS = types.CPointer(types.uint64)


@cfunc(types.int32(WORDS, types.uint64, types.uint64, WORDS))
def fill(key, position, n, out):
    """Write n words of the stream from `position` on; return 0 for success."""
    seed, gamma = key[0], key[1] | np.uint64(1)
    for i in range(n):
        z = seed + gamma * (position + np.uint64(i) + np.uint64(1))
        z = (z ^ (z >> np.uint64(30))) * np.uint64(0xBF58476D1CE4E5B9)
        z = (z ^ (z >> np.uint64(27))) * np.uint64(0x94D049BB133111EB)
        out[i] = z ^ (z >> np.uint64(31))
    return 0


class SplitMix64(fastdrop.RNG):
    """SplitMix64 with a gamma for each key; see `fastdrop.RNG` for what it inherits."""

    name = "splitmix64"
    capsule = fastdrop.make_capsule(fill.address, key_words=2)


fastdrop.register_rng("splitmix64", SplitMix64)


def main() -> None:
    x = np.ones((2, 8), np.float32)
    for backend in fastdrop.available_backends():
        with fastdrop.use_backend(backend):
            y = fastdrop.dropout(x, p=0.25, rng=SplitMix64(seed=1))
        print(f"{backend}:\n{y}")


if __name__ == "__main__":
    main()
