"""Write bits of masks to standard output, for programs that test random bits, until they stop.

    python tests/statistics/stream.py ars4x32 | crush small
    python tests/statistics/stream.py pcg64 --p 0.1 | dieharder -g 200 -d 0

At p = 1/2 the packed mask is the stream. At another p the bits are made even by von Neumann's
method, which is exact for independent elements that are equally likely to be kept: of each pair
of elements 2i, 2i + 1 that differ, the first one's bit is taken, and of those that are equal none.

`--of draws` takes the draws of one generator one after another. The others take a word of 64 bits
from each of 128 masks in turn, so that what they share shows: `--of children`, of a generator's
spawned children; `--of keys`, of keys that differ from one of them in one bit; and `--of seeds`,
of seeds that do.

J. von Neumann, "Various techniques used in connection with random digits", NBS Applied Mathematics
Series 12, 1951.
"""

from __future__ import annotations

import argparse
import sys
from collections.abc import Iterator
from typing import Any

import numba
import numpy as np

import fastdrop
from fastdrop.backends import Draw
from fastdrop.mask_format import rate
from fastdrop.masks.mask import Mask
from fastdrop.rng import ARS4x32
from fastdrop.rng.base import Stream

CLASSES: list[Any] = [ARS4x32, fastdrop.Philox4x32, fastdrop.Philox, fastdrop.PCG64]
GENERATORS = {cls.name: cls for cls in CLASSES}
MASKS = 128
DRAW = 1 << 26  # elements at a time, of all masks together


def main() -> None:
    """Write until the reader has had enough."""
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("rng", choices=GENERATORS)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--p", type=float, default=0.5)
    parser.add_argument("--of", choices=["draws", "children", "keys", "seeds"], default="draws")
    args = parser.parse_args()
    try:
        for bits in stream(args.rng, args.seed, args.p, args.of):
            sys.stdout.buffer.write(bits)
    except BrokenPipeError:
        sys.stderr.close()  # or Python reports that it could not flush


def stream(name: str, seed: int, p: float, of: str) -> Iterator[memoryview]:
    """Yield pieces of the bit stream that the command line asks for."""
    sources = masks_of(name, seed, of)
    size, position = DRAW // len(sources), 0
    while True:
        drawn = [Draw(source, position, rate(p)) for source in sources]
        masks = [Mask(draw, (size,)).to_packed() for draw in drawn]
        words = np.stack([mask.view(np.uint64) for mask in masks], axis=1).reshape(-1)
        yield memoryview(words if p == 0.5 else pairs(words)).cast("B")
        position += rate(p).words(size)


def masks_of(name: str, seed: int, of: str) -> list[Stream]:
    """Return the streams whose masks are taken in turn."""
    cls = GENERATORS[name]
    rng = cls(seed)
    if of == "draws":
        return [rng.reserve(0)[0]]
    if of == "children":
        return [child.reserve(0)[0] for child in rng.spawn(MASKS)]
    if of == "seeds":
        return [cls(seed ^ 1 << bit).reserve(0)[0] for bit in range(MASKS)]
    if cls is fastdrop.PCG64:
        sys.exit("a PCG64's key is its state and made from a hashed seed; try --of seeds")
    flipped = np.tile(rng.key, (MASKS, 1))
    for bit in range(MASKS):
        flipped[bit, bit // 64] ^= np.uint64(1 << bit % 64)
    return [Stream(cls, key) for key in flipped]


def pairs(words: np.ndarray) -> np.ndarray:
    """Return von Neumann's bits of packed elements, whole words of them."""
    out = np.empty(len(words) // 2 + 1, np.uint64)
    return out[: _pairs(words, out)]


@numba.njit
def _pairs(words: np.ndarray, out: np.ndarray) -> int:
    one, filled, bits, n = np.uint64(1), 0, np.uint64(0), 0
    for word in words:
        differ = (word ^ word >> one) & np.uint64(0x5555555555555555)
        while differ:
            lowest = differ & -differ
            differ ^= lowest
            if word & lowest:
                bits |= one << np.uint64(filled)
            filled += 1
            if filled == 64:
                out[n] = bits
                n, filled, bits = n + 1, 0, np.uint64(0)
    return n


if __name__ == "__main__":
    main()
