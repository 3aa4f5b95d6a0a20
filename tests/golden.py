"""The golden digests: what mask format 2 has been promised to give, for ever.

golden.txt holds a line a case: what, generator, p, size or dtype, and SHA-256.
The tests compare every backend with it. `python tests/golden.py` prints what
the reference backend gives now, and `--write` replaces the file: for new cases
only, since a digest that changes breaks the seeds of everyone's work.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import numpy as np
from support import DTYPES, dtype_of, packed, poisoned, words_by_backend

import fastdrop
from fastdrop.rng import as_rng

FILE = Path(__file__).with_name("golden.txt")
HEADER = """\
# Golden digests of mask format 2; tests/golden.py says how they are made.
# words: the stream   mask: packed keep bits   y: the output   (bytes, little-endian)
# what generator p size-or-dtype sha256
"""

SEED = 20140615
USED = 5  # words drawn before: a draw rarely starts at a round position

GENERATORS: dict[str, Callable[[int], Any]] = {
    "philox4x32": fastdrop.Philox4x32,
    "philox": fastdrop.Philox,
    "pcg64": fastdrop.PCG64,
    "MT19937": np.random.MT19937,
    "SFC64": np.random.SFC64,
    "PCG64DXSM": np.random.PCG64DXSM,
}

# One to four first planes, one to eight second ones, numbers, and rates near 0 and 1.
RATES = [0.5, 0.25, 0.75, 0.375, 0.0625, 0.28125, 1 / 64, 1 / 128, 255 / 256, 1 / 512]
RATES += [3 / 1024, 1 / 2048, 1 / 4096, 1 / 8192, 0.1, 1 / 3, 0.9, 1e-3, 0.999]
SIZES = [1003, 4095, 4097]
SIZE_FOR_ALL = 20_011  # with fewer elements, masks of rates near 0 and 1 could be constant
WORDS = 1001

Case = tuple[str, str, str, str]


def cases() -> Iterator[Case]:
    """Yield what is digested: what, generator, p, and size or dtype."""
    for name in GENERATORS:
        yield "words", name, "0.5", str(WORDS)
        for p in RATES:
            for size in [*SIZES, SIZE_FOR_ALL] if 0.05 < p < 0.95 else [SIZE_FOR_ALL]:
                yield "mask", name, repr(p), str(size)
    for p in (0.5, 0.3):
        for dtype in DTYPES:
            yield "y", "philox4x32", repr(p), dtype


def run(case: Case) -> np.ndarray:
    """Return what a case's digest is taken of, from the current backend."""
    what, name, p, last = case
    rng = as_rng(GENERATORS[name](SEED))
    rng.random_raw(USED)
    if what == "words":
        return words_by_backend(*rng.reserve(int(last)), int(last))
    if what == "mask":
        x = np.zeros(int(last), np.float16)
        return packed(fastdrop.dropout(x, float(p), rng=rng, return_mask=True)[1])
    x = (np.arange(5003) % 255 - 127).astype(np.float32).astype(dtype_of(last))
    return fastdrop.dropout(x, float(p), rng=rng, out=poisoned(x.shape, x.dtype))


def digest(case: Case) -> str:
    """Return the SHA-256 of a case, run on the current backend."""
    result = run(case)
    octets = result.view(np.uint8)
    if (octets == octets[0]).all():
        raise ValueError(f"a golden digest must not be of one byte repeated, as {case}'s would be")
    return hashlib.sha256(result.tobytes()).hexdigest()


def read() -> dict[Case, str]:
    """Return the digests in golden.txt."""
    lines = (line.split() for line in FILE.read_text().splitlines() if not line.startswith("#"))
    return {(what, name, p, last): value for what, name, p, last, value in lines}


def main() -> None:
    """Print the file as the reference backend makes it, or write it."""
    with fastdrop.use_backend("reference"):
        text = HEADER + "".join(f"{' '.join(case)} {digest(case)}\n" for case in cases())
    if sys.argv[1:] == ["--write"]:
        FILE.write_text(text)
    else:
        sys.stdout.write(text)


if __name__ == "__main__":
    main()
