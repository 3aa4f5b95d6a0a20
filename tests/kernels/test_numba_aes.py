"""ARS4x32 on Numba: by instructions for AES on vectors or on blocks, or by tables."""

from __future__ import annotations

import os
import subprocess
import sys

import numpy as np
import pytest
from support import DTYPES, any_bits, contents, dtype_of, packed, reference

import fastdrop
from fastdrop.backends import Draw
from fastdrop.mask_format import BLOCK, rate
from fastdrop.masks.mask import Mask

pytest.importorskip("numba")

# Features of a processor that each way does without.
WAYS = {"vectors": set(), "blocks": {"+vaes"}, "tables": {"+vaes", "+aes", "+crypto"}}
RATES = [0.5, 0.25, 0.1]  # the lengths of a block's range that have a pipeline

WORDS = """
import numpy as np
from fastdrop import ARS4x32
from fastdrop.backends.numba import aes, generators
from fastdrop.rng.capsule import FILL

fill, random = FILL(generators.fill_address("ars4x32")), np.random.default_rng(1)
few, many = range(1, 100), (256, 336, 337, 5000)
for n in (*few, *many):
    anywhere = int(random.integers(2**63))
    for position in (0, 1, 2**33 - 33, anywhere, 2**63 - 5, 2**64 - 1 - n):
        key = random.integers(2**64, size=2, dtype=np.uint64)
        out = np.full(n + 16, 7, np.uint64)
        assert fill(key.ctypes.data, position, n, out.ctypes.data) == 0
        assert (out[:n] == ARS4x32.words(key, position, n)).all(), (position, n)
        assert (out[n:] == 7).all(), (position, n)
print(aes.HAS_AES, aes.AES_BITS)
"""

MASKS = """
import numpy as np, fastdrop

x = np.arange(1, 20_001, dtype=np.float32)
for p in (0.5, 0.25, 0.1, 0.375):
    for before in (0, 1):
        made = []
        for backend in ("numba", "reference"):
            rng = fastdrop.ARS4x32(3)
            rng.random_raw(before)
            with fastdrop.use_backend(backend):
                made.append(fastdrop.dropout(x, p, rng=rng).tobytes())
        assert made[0] == made[1], (p, before)
"""


def run(way: str, script: str) -> list[str]:
    """Run a script as if the processor had no more than a way needs; return what it prints."""
    from fastdrop.backends.numba.vector import FEATURES

    # Numba takes them from there, and keeps what it caches for each apart.
    features = ",".join(sorted(FEATURES - WAYS[way]))
    chosen = {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": features}
    result = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, **chosen},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.split()


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("backend", ["numba"], indirect=True)
def test_words_are_numpys(backend: str, way: str) -> None:
    from fastdrop.backends.numba import aes

    has_aes, bits = run(way, WORDS)
    assert has_aes == str(aes.HAS_AES and way != "tables")
    assert bits == str(aes.AES_BITS if way == "vectors" else 128)


@pytest.mark.slow
@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("backend", ["numba"], indirect=True)
def test_masks_are_the_references(backend: str, way: str) -> None:
    run(way, MASKS)


@pytest.mark.parametrize("p", RATES)
@pytest.mark.parametrize("name", DTYPES)
@pytest.mark.parametrize("backend", ["numba"], indirect=True)
def test_every_dtype(backend: str, name: str, p: float) -> None:
    """At odd words a counter is torn apart, and past the last whole vector are other ways."""
    n = 5 * BLOCK + 77
    x = any_bits((n,), dtype_of(name))
    stream, _ = fastdrop.ARS4x32(3).reserve(0)
    for draw in (0, 1, 2**33 - 1001, 2**63 + 4):
        mask = Mask(Draw(stream, draw, rate(p)), (n,))
        bits = packed(mask)
        assert contents(mask.apply(x)) == contents(reference(mask, x))
        with fastdrop.use_backend("reference"):
            np.testing.assert_array_equal(bits, packed(mask))
