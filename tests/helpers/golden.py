"""The golden digests: what mask format 2 has been promised to give, for ever.

tests/data/golden.txt holds a line a case: what, generator, p, size or dtype, and SHA-256.
The tests compare every backend with it. `python tests/helpers/golden.py` prints what
the reference backend gives now, and `--write` replaces the file: for new cases
only, since a digest that changes breaks the seeds of everyone's work.
"""

from __future__ import annotations

import hashlib
import sys
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
from paths import DATA
from support import DTYPES, dtype_of, packed, poisoned, words_by_backend

import fastdrop
from fastdrop.rng import as_rng

FILE = DATA / "golden.txt"
HEADER = """\
# Golden digests of mask format 2; tests/helpers/golden.py says how they are made.
# words: the stream   mask: packed keep bits   y: the output   (bytes, little-endian)
# a name of fastdrop's: the output of that layer or function
# what generator p size-or-dtype sha256
"""

SEED = 20140615
USED = 5  # words drawn before: a draw rarely starts at a round position

GENERATORS: dict[str, Callable[[int], Any]] = {
    "ars4x32": fastdrop.ARS4x32,
    "philox4x32": fastdrop.Philox4x32,
    "philox": fastdrop.Philox,
    "pcg64": fastdrop.PCG64,
    "MT19937": np.random.MT19937,
    "SFC64": np.random.SFC64,
    "PCG64DXSM": np.random.PCG64DXSM,
}

PIPED = ["ars4x32", "philox4x32"]  # kernels have code of their own for them

# One to four first planes, one to eight second ones, numbers, and rates near 0 and 1.
RATES = [0.5, 0.25, 0.75, 0.375, 0.0625, 0.28125, 1 / 64, 1 / 128, 255 / 256, 1 / 512]
RATES += [3 / 1024, 1 / 2048, 1 / 4096, 1 / 8192, 0.1, 1 / 3, 0.9, 1e-3, 0.999]
SIZES = [1003, 4095, 4097]
SIZE_FOR_ALL = 20_011  # with fewer elements, masks of rates near 0 and 1 could be constant
WORDS = 1001

# The family: an input's shape, and what is made of it with a rate and a generator.
FAMILY: dict[str, tuple[tuple[int, ...], Callable[[np.ndarray, float, Any], np.ndarray]]] = {
    "Dropout-noise_shape": (
        (7, 11, 65),
        lambda x, p, rng: fastdrop.Dropout(p, noise_shape=(None, 1, None), rng=rng)(x),
    ),
    **{
        name: (shape, lambda x, p, rng, name=name: getattr(fastdrop, name)(p, rng=rng)(x))
        for name, shape in {
            "Dropout1d": (40, 30, 5),
            "Dropout2d": (40, 30, 3, 2),
            "Dropout3d": (40, 30, 2, 2, 2),
            "SpatialDropout1D": (40, 5, 30),
            "SpatialDropout2D": (40, 3, 2, 30),
            "SpatialDropout3D": (20, 3, 2, 2, 30),
            "DropPath": (601, 8),
            "DropConnect": (70, 71),
            "DropBlock2d": (5, 7, 19, 13),
            "AlphaDropout": (5003,),
            "FeatureAlphaDropout": (40, 30, 5),
            "GaussianDropout": (5003,),
        }.items()
    },
    "GaussianNoise": ((5003,), lambda x, p, rng: fastdrop.GaussianNoise(p, rng=rng)(x)),
    "dropout_add": ((70, 71), lambda x, p, rng: fastdrop.dropout_add(x, x[::-1], p, rng=rng)),
    "bias_dropout_add": (
        (70, 71),
        lambda x, p, rng: fastdrop.bias_dropout_add(x, x[0], x[::-1], p, rng=rng),
    ),
    **{
        f"act_dropout-{name}": (
            (5003,),
            lambda x, p, rng, name=name: fastdrop.act_dropout(x, name, p, rng=rng),
        )
        for name in ("relu", "gelu", "gelu_tanh", "silu")
    },
    "mc_dropout": ((701,), lambda x, p, rng: fastdrop.mc_dropout(x, 5, p, rng=rng)),
    "dropout-sample_ids": (
        (5, 701),
        lambda x, p, rng: fastdrop.dropout(x, p, rng=rng, sample_ids=[3, 1, 4, 15, 9]),
    ),
}

Case = tuple[str, str, str, str]


def cases() -> Iterator[Case]:
    """Yield what is digested: what, generator, p, and size or dtype."""
    for name in GENERATORS:
        yield "words", name, "0.5", str(WORDS)
        for p in RATES:
            for size in [*SIZES, SIZE_FOR_ALL] if 0.05 < p < 0.95 else [SIZE_FOR_ALL]:
                yield "mask", name, repr(p), str(size)
    for name in PIPED:
        for p in (0.5, 0.3):
            for dtype in DTYPES:
                yield "y", name, repr(p), dtype
    for name in FAMILY:
        for dtype in ("float32", "bfloat16"):
            yield name, "philox4x32", "0.3", dtype


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
    if what in FAMILY:
        shape, function = FAMILY[what]
        x = (np.arange(np.prod(shape)) % 255 - 127).astype(np.float32).reshape(shape) / 16
        return function(x.astype(dtype_of(last)), float(p), rng)
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
