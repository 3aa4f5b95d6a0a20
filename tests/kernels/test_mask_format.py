"""Mask format 2 against a second reading of its specification, element by element."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from capsules import address_of, capsule, generator
from hypothesis import given
from hypothesis import strategies as st
from support import dtype_of, packed

import fastdrop
from fastdrop.mask_format import rate

BITS = 40
BFLOAT16 = dtype_of("bfloat16").type
BLOCK, STRIP, FIRST, SECOND, COLUMNS, NUMBERS = 4096, 512, 4, 8, 512, 32

rates = st.one_of(
    st.floats(0, 1),
    st.floats(0, 1).map(lambda p: 1 - p),
    st.integers(0, 1 << 12).map(lambda n: n / (1 << 12)),
    st.integers(0, 1074).map(lambda n: 2.0**-n),
)


def needed(threshold: int) -> int:
    """Return how many bits a number needs to be compared with a threshold."""
    return next(k for k in range(BITS + 1) if threshold % (1 << BITS - k) == 0)


@given(p=rates)
def test_threshold_is_within_half_a_unit(p: float) -> None:
    threshold = Fraction(rate(p).threshold, 1 << BITS)
    assert abs(threshold - (1 - Fraction(p))) <= Fraction(1, 1 << BITS + 1)


@given(p=rates)
def test_scale_is_the_reciprocal_of_the_keep_probability(p: float) -> None:
    assert rate(p).scale == (1.0 / (1.0 - p) if p < 1 else 0.0)


@given(p=rates)
def test_a_block_reserves_what_its_bits_need(p: float) -> None:
    threshold = rate(p).threshold
    k = needed(threshold)
    words = min(k, FIRST) * BLOCK // 64
    words += min(max(k - FIRST, 0), SECOND) * COLUMNS // 64
    words += NUMBERS // 2 if k > FIRST + SECOND else 0
    assert rate(p).block_words == words
    for size in (0, 1, BLOCK, BLOCK + 1, 10**12):
        assert rate(p).words(size) == words * ((size + BLOCK - 1) // BLOCK)


@pytest.mark.parametrize(
    "p",
    [0, 1, True, 0.25, np.float32(0.25), np.int8(1), Fraction(1, 4), np.array(0.5), BFLOAT16(0.5)],
)
def test_any_real_number_is_a_rate(p: Any) -> None:
    assert rate(p).p == float(p)
    assert type(rate(p).p) is float


@pytest.mark.parametrize(
    "p", [-0.1, 1.1, np.nan, np.inf, -np.inf, -5e-324, 1 + 2**-52, 2, 10**400, -(10**400)], ids=str
)
def test_a_number_outside_0_to_1_is_refused_in_torchs_words(p: Any) -> None:
    with pytest.raises(ValueError, match="dropout probability has to be between 0 and 1, but got"):
        rate(p)


@pytest.mark.parametrize(
    "p", ["0.5", None, [0.5], np.array([0.5]), 0.5j, b"1", object(), np.zeros((), [("p", float)])]
)
def test_what_is_no_real_number_is_refused(p: Any) -> None:
    with pytest.raises(TypeError, match="dropout probability has to be a real number"):
        rate(p)


def element(words: list[int], draw: int, p: float, index: int) -> bool:
    """Return whether an element is kept, one bit of its number at a time."""
    threshold = rate(p).threshold
    k = needed(threshold)
    d = min(k, FIRST)
    e = min(k - d, SECOND)
    block, inside = divmod(index, BLOCK)
    base = draw + block * rate(p).block_words
    first_planes = base + 8 * e + (16 if k > d + e else 0)
    a, b, c = threshold >> 40 - d, threshold >> 40 - d - e & ((1 << e) - 1), threshold % (1 << 28)

    def first(i: int) -> int:
        strip, lane = divmod(i, STRIP)
        at = first_planes + 8 * d * strip + lane // 64
        bits = [words[at + 8 * j] >> lane % 64 & 1 for j in range(d)]
        return sum(bit << d - 1 - j for j, bit in enumerate(bits))

    def column(r: int) -> int:
        bits = [words[base + 8 * j + r // 64] >> r % 64 & 1 for j in range(e)]
        return sum(bit << e - 1 - j for j, bit in enumerate(bits))

    if first(inside) != a or k <= FIRST:
        return first(inside) < a
    r = sum(first(i) == a for i in range(inside)) % COLUMNS
    if column(r) != b or k <= FIRST + SECOND:
        return column(r) < b
    n = sum(column(i) == b for i in range(r)) % NUMBERS
    word = words[base + 64 + n // 2]
    return (word >> 32 if n % 2 else word & 0xFFFFFFFF) < 16 * c


@pytest.mark.parametrize("draw", [0, 3])
@pytest.mark.parametrize(
    "p",
    [0.5, 0.25, 0.625, 5 / 16, 31 / 32, 255 / 256, 1 / 512, 1 - 2**-9, 2**-12, 3 / 8192, 0.1, 1e-4],
)
def test_backend_agrees_element_by_element(backend: str, p: float, draw: int) -> None:
    n = BLOCK + 1000
    rng = fastdrop.PCG64(17)
    rng.random_raw(draw)
    mask = fastdrop.dropout(np.ones(n, np.float16), p, rng=rng, return_mask=True)[1]
    words = [int(word) for word in np.random.PCG64(17).random_raw(draw + rate(p).words(n))]
    indices = [*range(0, BLOCK, 7), *range(STRIP - 3, STRIP + 3), *range(BLOCK - 3, n, 9)]
    expected = [element(words, draw, p, i) for i in indices]
    got = np.unpackbits(packed(mask), bitorder="little")[indices]
    assert got.tolist() == expected


class Chosen(fastdrop.RNG):
    """Words whose planes all hold chosen numbers: 4 bits, 8 bits and 32 bits for each element."""

    name = "chosen"
    first, second, number = 0, 0, 0

    @classmethod
    def key_words(cls) -> int:
        return 1

    @classmethod
    def words(cls, key: Any, position: int, n: int) -> Any:
        block = [
            *planes(cls.second, SECOND),
            *[cls.number | cls.number << 32] * (NUMBERS // 2),
            *planes(cls.first, FIRST) * (BLOCK // STRIP),
        ]
        return np.array([block[i % len(block)] for i in range(position, position + n)], np.uint64)


def planes(number: int, bits: int) -> list[int]:
    """Return a strip's planes in which each element's number is the same."""
    chosen = [(1 << 64) - 1 if number >> bits - 1 - j & 1 else 0 for j in range(bits)]
    return [word for word in chosen for _ in range(STRIP // 64)]


@pytest.mark.parametrize("steps", [(0, 0, 1), (0, 1, 0), (1, 0, 0)])
@pytest.mark.parametrize("sign", [-1, 0, 1])
def test_the_first_bits_that_differ_from_the_thresholds_decide(
    monkeypatch: pytest.MonkeyPatch, sign: int, steps: tuple[int, int, int]
) -> None:
    """All of a block is kept if its number is below the threshold's, by however little."""
    t = rate(0.3).threshold
    parts = t >> 36, t >> 28 & 0xFF, (t & 0xFFFFFFF) << 4
    for name, part, step in zip(("first", "second", "number"), parts, steps, strict=True):
        monkeypatch.setattr(Chosen, name, part + sign * step)
    with fastdrop.use_backend("reference"):
        y = fastdrop.dropout(np.ones(BLOCK + 9), 0.3, rng=Chosen(1))
    assert ((y != 0) == (sign < 0)).all()


def undecided_words(blocks: int) -> list[int]:
    """Return words whose first planes leave every element undecided at p = 0.3."""
    first = planes(rate(0.3).threshold >> 36, FIRST) * (BLOCK // STRIP)
    columns = SECOND * COLUMNS // 64 + NUMBERS // 2
    random = np.random.PCG64(5).random_raw(blocks * columns).reshape(blocks, columns)
    return [int(word) for block in random for word in (*block, *first)]


@pytest.mark.parametrize("n", [5, 64, 65, STRIP, BLOCK, 2 * BLOCK + 9])
def test_columns_are_dealt_out_however_many_are_needed(backend: str, n: int) -> None:
    words = undecided_words(3)

    def fill(key: Any, position: int, count: int, out: Any) -> int:
        for i in range(count):
            out[i] = words[position + i]
        return 0

    rng = generator(capsule(fill=address_of(fill)))(1)
    mask = fastdrop.dropout(np.ones(n, np.float32), 0.3, rng=rng, return_mask=True)[1]
    kept = np.unpackbits(packed(mask), bitorder="little", count=n)
    with fastdrop.use_backend("reference"):
        np.testing.assert_array_equal(kept, np.unpackbits(packed(mask), bitorder="little", count=n))
    indices = range(0, n, 97)
    assert kept[indices].tolist() == [element(words, 0, 0.3, i) for i in indices]
