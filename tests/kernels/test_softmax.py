"""Softmax with dropout of rows: every backend gives the reference's bits, and those are right."""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest
from support import contents, poisoned

import fastdrop
from fastdrop._formulas.elementary import exp_below
from fastdrop._formulas.softmax import Scores, row_sums
from fastdrop.backends import Draw, current
from fastdrop.mask_format import rate

every_dtype = pytest.mark.parametrize("dtype", ["float32", "float64"])
FIRST = 3 * 4096 + 17  # of the mask's elements: neither a block's first one nor a word's


def drawn(p: float, name: str = "ars4x32", size: int = 1 << 20) -> Draw | None:
    """Return a draw, and none for p = 0."""
    checked = rate(p)
    source = fastdrop.rng.as_rng(np.random.Generator(np.random.MT19937(1)) if name == "mt" else 1)
    return Draw(*source.reserve(checked.words(size)), checked, FIRST) if p else None


def bits(a: np.ndarray) -> bytes:
    """Return an array's bytes, with one NaN for all: which of two NaNs a sum keeps may vary."""
    return contents(np.where(np.isnan(a), np.array(math.nan, a.dtype), a))


def results(draw: Draw | None, scores: Scores, x: np.ndarray, grad: np.ndarray) -> list[bytes]:
    """Return all that a backend makes of rows, written over poison."""
    y, lse = poisoned(x.shape, x.dtype), poisoned(x.shape[:1], x.dtype)
    current().softmax(draw, scores, x, y, lse)
    in_place = x.copy()
    current().softmax(draw, scores, in_place, in_place)
    assert bits(in_place) == bits(y)
    before, back = contents(x), grad.copy()
    current().softmax_backward(draw, scores, x, back)
    assert contents(x) == before
    again, slope = x.copy(), grad.copy()
    with np.errstate(invalid="ignore"):
        delta = np.einsum("ij,ij->i", y, grad)
    current().softmax_backward(draw, scores, again, slope, lse, delta)
    return [bits(a) for a in (y, lse, back, again, slope)]


def check(draw: Draw | None, scores: Scores, x: np.ndarray, grad: np.ndarray) -> None:
    found = results(draw, scores, x, grad)
    with fastdrop.use_backend("reference"):
        expected = results(draw, scores, x, grad)
    assert found == expected


def kinds(rows: int, columns: int, dtype: str, rng: np.random.Generator) -> list[Scores]:
    """Return scores of every kind for rows."""
    bias = rng.normal(size=(rows, columns)).astype(dtype)
    holes = np.where(rng.random((3, columns)) < 0.3, -np.inf, bias[:3]).astype(dtype)
    holes[1] = -np.inf
    return [
        Scores(0.37),
        Scores(bias=bias[:1], causal=5, row=2),
        Scores(-2.0, holes, width=columns + 37),
        Scores(bias=bias, causal=70, row=60),
    ]


@every_dtype
def test_backends_are_the_reference_to_the_bit(dtype: str, backend: str) -> None:
    """Rows of every length up to two words of the mask, and some."""
    rng = np.random.default_rng(0)
    chances = itertools.cycle([0.5, 0.0, 0.1, 1.0, 0.25])
    for columns in [*range(1, 131), 1000]:
        x, grad = (5 * rng.normal(size=(2, 7, columns))).astype(dtype)
        for scores in kinds(7, columns, dtype, rng)[columns % 2 :: 2]:
            check(drawn(next(chances)), scores, x, grad)


@every_dtype
def test_special_values_are_the_references(dtype: str, backend: str) -> None:
    rng = np.random.default_rng(1)
    for columns in (1, 15, 64, 77, 200):
        x, grad = rng.normal(size=(2, 9, columns)).astype(dtype)
        x[1] = math.nan
        x[2, -1] = math.nan
        x[3, 0] = math.inf
        x[4] = -math.inf
        x[5, : columns // 2] = -math.inf
        x[6] = 0.0
        x[7] *= 1e30
        grad[0, -1], grad[5, 0], grad[6, 0] = math.inf, math.nan, math.nan
        for p in (0.0, 0.5):
            check(drawn(p), Scores(), x, grad)
            check(drawn(p), Scores(causal=4), x, grad)


def test_threads_and_long_rows_agree(backend: str, threads: int) -> None:
    rng = np.random.default_rng(2)
    for shape in ((301, 1000), (3, 100_003), (20_001, 5)):
        x, grad = rng.normal(size=(2, *shape)).astype(np.float32)
        check(drawn(0.1), Scores(), x, grad)


def test_generators_that_cannot_go_back_give_their_masks(backend: str) -> None:
    x = np.zeros((50, 333), np.float32)
    draw = drawn(0.3, "mt")
    assert draw is not None
    y, keep = np.empty_like(x), np.empty(-(-x.size // 8), np.uint8)
    current().softmax(draw, Scores(), x, y)
    current().bits(draw, x.size, keep)
    kept = np.unpackbits(keep, count=x.size, bitorder="little").reshape(x.shape)
    assert np.array_equal(y != 0, kept != 0)


def test_dropped_and_masked_elements_are_zero_even_beside_nan(backend: str) -> None:
    x = np.ones((4, 100), np.float32)
    x[1, 0] = math.nan
    x[2, 0] = math.inf
    draw = drawn(0.5)
    y = poisoned(x.shape, x.dtype)
    current().softmax(draw, Scores(causal=4, row=1), x, y)
    assert np.isnan(y).any()
    kept = np.ones_like(x)
    current().apply(draw, kept, kept)
    for zeros in (y[:, 5:], y[kept == 0]):
        assert contents(zeros) == contents(np.zeros_like(zeros))


def test_rows_in_which_nothing_counts_are_zero(backend: str) -> None:
    x, y, lse = np.ones((3, 70)), np.empty((3, 70)), np.empty(3)
    low = np.full((1, 70), -np.inf)
    current().softmax(None, Scores(bias=low), x, y, lse)
    assert not y.any()
    assert (lse == -np.inf).all()
    grad = np.ones((3, 70))
    current().softmax_backward(None, Scores(bias=low), x, grad)
    assert not grad.any()


# Values.


@every_dtype
def test_exponentials_are_accurate(dtype: str) -> None:
    """Within 2 units in the last place; below the least normal number they are 0."""
    info = np.finfo(dtype)
    least = math.log(info.smallest_normal)
    x = np.concatenate([np.linspace(least, 0, 200_001), -np.logspace(-30, 0, 1001)]).astype(dtype)
    exact = np.exp(x.astype(np.longdouble))
    assert (np.abs(exp_below(x) - exact) <= 2 * info.eps * exact).all()
    below = np.array([2 * least, -np.inf, 0.0, math.nan], dtype)
    with np.errstate(invalid="ignore"):
        assert contents(exp_below(below)[:3]) == contents(np.array([0, 0, 1], dtype))
        assert np.isnan(exp_below(below)[3])


@every_dtype
def test_softmax_is_accurate(dtype: str) -> None:
    rng, eps = np.random.default_rng(3), np.finfo(dtype).eps
    x = (3 * rng.normal(size=(20, 3000))).astype(dtype)
    y, lse = np.empty_like(x), np.empty(20, dtype)
    with fastdrop.use_backend("reference"):
        current().softmax(None, Scores(), x, y, lse)
    e = np.exp(x.astype(np.longdouble))
    exact = e / e.sum(axis=1, keepdims=True)
    # The error of an exponent is that of a score, of up to 10 units of its size.
    assert (np.abs(y - exact) <= 16 * eps * exact).all()
    np.testing.assert_allclose(lse, np.log(e.sum(axis=1)).astype(float), rtol=4 * eps)


def test_a_sum_adds_lanes_and_then_halves() -> None:
    x: Any = np.arange(40, dtype=np.float64)[None] ** 7 / 3
    lanes = [sum(x[0, i::8].tolist()) for i in range(8)]
    while len(lanes) > 1:
        half = len(lanes) // 2
        lanes = [lanes[i] + lanes[i + half] for i in range(half)]
    assert row_sums(x)[0] == lanes[0]
