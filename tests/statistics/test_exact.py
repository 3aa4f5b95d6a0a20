"""What docs/mask-format.md promises of probabilities, in exact arithmetic: no sampling here."""

from __future__ import annotations

import ctypes
import math
import random
from collections.abc import Iterator
from fractions import Fraction
from typing import Any

import numpy as np
import pytest

import fastdrop
from fastdrop.backends import Draw
from fastdrop.mask_format import BLOCK, ONE, PRECISION, rate
from fastdrop.masks.mask import Mask
from fastdrop.rng.base import Stream

NEAR_0 = [0.0, 5e-324, 2.0**-1022, 1e-300, 2.0**-53, 2.0**-42, 2.0**-41, 2.0**-41 * (1 + 2.0**-52)]
NEAR_0 += [3 * 2.0**-42, 2.0**-40, 3 * 2.0**-41, 5 * 2.0**-41, 2.0**-39, 1e-11, 1e-9, 1e-6, 1e-4]
NEAR_1 = [1 - 2.0**-j for j in (39, 40, 41, 42, 52, 53)] + [1 - 3 * 2.0**-41, 1 - 5 * 2.0**-41]
NEAR_1 += [1 - 1e-9, 1 - 1e-6, 1 - 1e-4, 1.0]
BETWEEN = [j / 32 for j in range(1, 32)] + [0.1, 0.3, 1 / 3, 0.7, 0.9, 2.0**-9, 2.0**-13, 5 / 8192]


def threshold(p: float) -> int:
    """Return 2**40 minus p * 2**40, which is rounded to nearest, ties to even."""
    exact = Fraction(p) * (1 << 40)
    below = exact.numerator // exact.denominator
    rest = exact - below
    up = rest > Fraction(1, 2) or (rest == Fraction(1, 2) and below % 2 == 1)
    return (1 << 40) - below - up


def test_every_threshold_is_the_nearest() -> None:
    some = random.Random(1)
    drawn = [some.random() * 2.0 ** -some.randrange(60) for _ in range(20000)]
    for p in [*NEAR_0, *NEAR_1, *BETWEEN, *drawn, *(1 - p for p in drawn)]:
        assert rate(p).threshold == threshold(p)
        assert abs(Fraction(threshold(p), ONE) - (1 - Fraction(p))) <= Fraction(1, 1 << 41)


@pytest.mark.parametrize(
    ("p", "kept"),
    [
        (5e-324, ONE), (2.0**-1022, ONE), (2.0**-42, ONE),
        (2.0**-41, ONE), (2.0**-41 * (1 + 2.0**-52), ONE - 1),  # a tie goes to even, 0
        (2.0**-40, ONE - 1), (3 * 2.0**-41, ONE - 2), (5 * 2.0**-41, ONE - 2),
        (1 - 2.0**-40, 1), (1 - 2.0**-41, 0), (1 - 3 * 2.0**-41, 2), (1 - 2.0**-53, 0),
    ],
)  # fmt: skip
def test_the_rates_next_to_0_and_1(p: float, kept: int) -> None:
    assert rate(p).threshold == kept


def block(p: float, number: int) -> np.ndarray:
    """Return a block's words in which every number of 12 bits occurs once.

    Element i has the 4 bits of i // 256, and column r the 8 bits of r % 256, so the 256
    elements that are undecided take columns that have each number once. The one that still is
    undecided takes `number`.
    """
    r = rate(p)
    element = np.arange(BLOCK) >> (12 - r.planes)
    first = _planes(element, r.planes).reshape(r.planes, 8, 8).transpose(1, 0, 2)
    second = _planes(np.arange(512) % 256 >> (8 - r.second), r.second)
    numbers = np.full(16 if r.refines else 0, number << 32 | number, np.uint64)
    return np.concatenate([second.reshape(-1), numbers, first.reshape(-1)])


def _planes(numbers: np.ndarray, bits: int) -> np.ndarray:
    planes = [np.packbits(numbers >> j & 1, bitorder="little") for j in reversed(range(bits))]
    octets = np.array(planes, np.uint8).reshape(bits, len(numbers) // 8)
    return octets.view("<u8").astype(np.uint64)


class Written(fastdrop.RNG):
    """The words of one block, as a test wrote them."""

    name = "written"
    block: np.ndarray


@ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64, ctypes.c_void_p)
def _fill(key: int, position: int, n: int, out: int) -> int:
    ctypes.memmove(out, Written.block[position : position + n].tobytes(), 8 * n)
    return 0


Written.capsule = fastdrop.make_capsule(ctypes.cast(_fill, ctypes.c_void_p).value or 0, key_words=1)


def number_and_kept(p: float) -> Iterator[tuple[int, int]]:
    """Yield numbers of 32 bits, and how many elements of a block they leave kept."""
    t = rate(p).threshold
    low = t % (1 << 28) * 16
    for number in {0, max(low - 1, 0), low, (1 << 32) - 1}:
        yield number, (t >> 28) + (number < low)


@pytest.mark.parametrize("p", sorted({p for p in NEAR_0 + NEAR_1 + BETWEEN if 0 < p < 1}))
def test_as_many_of_all_numbers_are_kept_as_the_threshold_says(
    backend: str, p: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    """So the probability is T / 2**40: T / 2**28 of 4096, C / 2**28 being the last one's share."""
    r = rate(p)
    stream = Stream(Written, np.zeros(1, np.uint64))
    for number, expected in number_and_kept(p):
        words = block(p, number) if r.planes else np.zeros(0, np.uint64)
        assert len(words) == r.block_words
        monkeypatch.setattr(Written, "block", words, raising=False)
        mask = Mask(Draw(stream, 0, r), (BLOCK,))
        assert int(np.bitwise_count(mask.to_packed()).sum()) == expected


@pytest.mark.parametrize("p", [5e-324, 2.0**-41, 1 - 2.0**-41, 1 - 2.0**-53])
@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])
def test_a_rate_that_rounds_to_0_or_1_draws_nothing(backend: str, p: float, dtype: Any) -> None:
    rng = fastdrop.PCG64(1)
    x = np.array([1, -1, np.inf, np.nan], dtype)
    y = fastdrop.dropout(x, p, rng=rng)
    assert rng.position == 0
    # Dropped, they are zeros, for all that the scale is too large for a float16.
    expected = x * x.dtype.type(1 / (1 - p)) if p < 0.5 else np.zeros(4, dtype)
    assert y.tobytes() == expected.tobytes()


def test_a_block_has_too_few_columns_less_than_once_in_10_to_the_46() -> None:
    """More than 512 of 4096 elements are undecided, each with probability 1/16."""
    more = sum(math.comb(BLOCK, n) * 15 ** (BLOCK - n) for n in range(513, BLOCK + 1))
    assert more * 10**46 < 16**BLOCK
    assert more * 10**49 > 16**BLOCK  # 3.0e-49: the sum has what it should have


def test_a_block_has_too_few_numbers_less_than_once_in_10_to_the_36() -> None:
    """More than 32 of the columns that are used need a number, each with probability 1/256."""
    more = [0] * 513  # more[m] / 256**m: of m columns. The 33rd is the last of the first that are.
    for m in range(512):
        exactly_32 = math.comb(m, 32) * 255 ** (m - 32) if m >= 32 else 0
        more[m + 1] = 256 * more[m] + exactly_32
    total = 0  # over 16**4096 * 256**512
    for n in range(33, BLOCK + 1):
        m = min(n, 512)
        total += math.comb(BLOCK, n) * 15 ** (BLOCK - n) * more[m] << 8 * (512 - m)
    everything = 1 << 4 * BLOCK + 8 * 512
    assert total * 10**36 < everything
    assert total * 10**38 > everything  # 3.9e-38


def test_precision() -> None:
    assert PRECISION == 40  # which all of the above takes for granted
    assert ONE == 1 << PRECISION
