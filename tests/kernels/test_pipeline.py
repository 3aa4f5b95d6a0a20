"""Contiguous arrays under the default generator: whole blocks and 64 elements have their own ways.

It writes one block's elements while it makes the next block's words, whole vectors at aligned
addresses: so what could go wrong is where blocks, vectors and streams begin and end.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from isas import backend_of_masks
from support import DTYPES, POISON, any_bits, contents, dtype_of, poisoned, reference

import fastdrop
from fastdrop.backends import Draw
from fastdrop.mask_format import BLOCK, rate
from fastdrop.masks.mask import Mask

RATES = [
    0.5,
    0.25,
    0.75,
    0.1,
    0.9999,
    1 / 3,
    0.375,
    1 / 32,
    1 / 4096,
]  # with a pipeline, and without
backend = backend_of_masks
GUARD = 256  # bytes on either side of an output


def apply_at(mask: Mask, x: np.ndarray, x_offset: int, y_offset: int) -> bytes:
    """Apply a mask from one address, modulo a cache line, to another; check what lies around it."""
    source = poisoned((x.nbytes + 2 * GUARD + 128,), np.uint8)
    target = poisoned((x.nbytes + 2 * GUARD + 128,), np.uint8)
    at_x = -source.ctypes.data % 64 + x_offset
    at_y = -target.ctypes.data % 64 + y_offset + GUARD
    x_there = source[at_x : at_x + x.nbytes].view(x.dtype)
    y_there = target[at_y : at_y + x.nbytes].view(x.dtype)
    x_there[...] = x
    mask.apply(x_there, y_there)
    assert (target[:at_y] == POISON).all()
    assert (target[at_y + x.nbytes :] == POISON).all()
    return contents(y_there)


@pytest.fixture(params=[fastdrop.ARS4x32, fastdrop.Philox4x32])
def piped(request: pytest.FixtureRequest) -> Any:
    """Return a generator that has a pipeline."""
    return request.param


def mask_of(n: int, p: float, draw: int = 0, kind: Any = fastdrop.ARS4x32) -> Mask:
    stream, _ = kind(3).reserve(0)
    return Mask(Draw(stream, draw, rate(p)), (n,))


@pytest.mark.parametrize("p", RATES)
@pytest.mark.parametrize("name", DTYPES)
def test_every_dtype_and_alignment(backend: str, piped: Any, name: str, p: float) -> None:
    dtype = dtype_of(name)
    mask, x = mask_of(3 * BLOCK + 5, p, kind=piped), any_bits((3 * BLOCK + 5,), dtype)
    expected = contents(reference(mask, x))
    for offset in {0, dtype.itemsize, 16, 48, 64 - dtype.itemsize, 1}:
        assert apply_at(mask, x, 0, offset) == expected
        assert apply_at(mask, x, offset, 0) == expected


@pytest.mark.parametrize("p", RATES)
@pytest.mark.parametrize("blocks", [1, 2, 3, 20])
def test_block_counts_and_thread_counts(backend: str, threads: int, blocks: int, p: float) -> None:
    for n in (blocks * BLOCK, blocks * BLOCK + 1, blocks * BLOCK - 1):
        mask, x = mask_of(n, p), any_bits((n,), np.float32)
        expected = contents(reference(mask, x))
        assert contents(mask.apply(x)) == expected
        mask.apply(x, x)
        assert contents(x) == expected


@pytest.mark.parametrize("p", [0.5, 0.25, 0.1])
@pytest.mark.parametrize("draw", [1, 5, 2**33 - 1001, 2**33 - 1000, 2**63 + 3])
def test_draws_at_any_position(backend: str, piped: Any, draw: int, p: float) -> None:
    """At odd words a counter is torn apart, and at word 2**33 its lower word has to carry."""
    mask, x = mask_of(8 * BLOCK, p, draw, piped), any_bits((8 * BLOCK,), np.float32)
    assert contents(mask.apply(x)) == contents(reference(mask, x))


@pytest.mark.slow
@pytest.mark.parametrize("p", [*RATES, 1 / 8192, 2**-40])
@pytest.mark.parametrize("first_draw", [0, 3, 2**33 - 3000])
def test_a_few_elements_at_many_positions(
    backend: str, piped: Any, first_draw: int, p: float
) -> None:
    """Two blocks in a hundred need a number for one of 64 elements, which most are made without."""
    x = np.ones(64, np.float32)
    for i in range(150):
        mask = mask_of(1 + i % 64, p, first_draw + i * rate(p).block_words, piped)
        part = x[: 1 + i % 64]
        assert contents(mask.apply(part)) == contents(reference(mask, part))


@pytest.mark.slow
@pytest.mark.parametrize("p", [0.5, 0.25, 0.1])
@pytest.mark.parametrize("name", ["float16", "float32", "complex128"])
def test_outputs_larger_than_the_caches(backend: str, threads: int, name: str, p: float) -> None:
    """Those are written past the caches."""
    n = (40 << 20) // np.dtype(name).itemsize + 100
    mask = mask_of(n, p)
    x = np.resize(any_bits((1 << 20,), name), n)
    y = mask.apply(x, poisoned((n + 1,), name)[1:])
    for start in (0, n // 2 // BLOCK * BLOCK, n - 3 * BLOCK):
        rows = slice(start, start + 3 * BLOCK)
        assert contents(y[rows]) == contents(reference(mask[rows], x[rows]))


@pytest.mark.slow
@pytest.mark.parametrize(
    ("n", "p"),
    [(n, p) for p in RATES for n in (2 * BLOCK, 3 * BLOCK - 1, 20 * BLOCK + 70)]
    + [((11 << 20) + 100, p) for p in (0.5, 0.25, 0.1)],
)
def test_sums_at_every_alignment(backend: str, threads: int, n: int, p: float) -> None:
    """In float32 something may be added on the way; the last size is larger than the caches."""
    rng = np.random.default_rng(0)
    x, residual = np.resize(rng.normal(size=(2, min(n, 1 << 16))).astype(np.float32), (2, n))
    mask = fastdrop.dropout(x, p, rng=4, return_mask=True)[1]
    start = n // BLOCK // 2 * BLOCK if n > 1 << 20 else 0
    rows = slice(start, start + 20 * BLOCK + 70)
    expected = contents(reference(mask[rows], x[rows]) + residual[rows])
    for offset in (0, 4, 16, 60):
        target = poisoned((4 * n + 2 * GUARD,), np.uint8)
        at = -target.ctypes.data % 64 + offset
        out = target[at : at + 4 * n].view(np.float32)
        assert fastdrop.dropout_add(x, residual, p, rng=4, out=out) is out
        assert contents(out[rows]) == expected
        assert (target[:at] == POISON).all()
        assert (target[at + 4 * n :] == POISON).all()
    in_x, in_residual = x.copy(), residual.copy()
    for out, operands in ((in_x, (in_x, residual)), (in_residual, (x, in_residual))):
        assert fastdrop.dropout_add(*operands, p, rng=4, out=out) is out
        assert contents(out[rows]) == expected
