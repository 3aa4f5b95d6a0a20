"""Mask format 1 against a second reading of its specification, element by element."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support import dtype_of, packed

import fastdrop
from fastdrop.mask_format import rate

BITS = 40
BFLOAT16 = dtype_of("bfloat16").type
BLOCK, STRIP, PLANES, REFINE_WORDS = 4096, 512, 8, 128

rates = st.one_of(
    st.floats(0, 1),
    st.floats(0, 1).map(lambda p: 1 - p),
    st.integers(0, 1 << 12).map(lambda n: n / (1 << 12)),
    st.integers(0, 1074).map(lambda n: 2.0**-n),
)


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
    needed = 0
    while needed < BITS and threshold % (1 << BITS - needed):
        needed += 1
    planes = min(needed, PLANES)
    words = planes * BLOCK // 64 + (REFINE_WORDS if needed > PLANES else 0)
    assert (rate(p).significant, rate(p).block_words) == (needed, words)
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
    needed = rate(p).significant
    planes = min(needed, PLANES)
    block, inside = divmod(index, BLOCK)
    base = draw + block * rate(p).block_words

    def high(inside: int) -> int:
        strip, lane = divmod(inside, STRIP)
        number = 0
        for plane in range(planes):
            word = base + (strip * planes + plane) * STRIP // 64 + lane // 64
            number = 2 * number + (words[word] >> lane % 64 & 1)
        return number

    prefix = threshold >> BITS - planes
    if high(inside) != prefix or needed <= PLANES:
        return high(inside) < prefix
    rank = sum(high(before) == prefix for before in range(inside)) % (2 * REFINE_WORDS)
    word = words[base + planes * BLOCK // 64 + rank // 2]
    low = word >> 32 if rank % 2 else word & 0xFFFFFFFF
    return low < threshold & 0xFFFFFFFF


@pytest.mark.parametrize("draw", [0, 3])
@pytest.mark.parametrize(
    "p", [0.5, 0.25, 0.625, 5 / 32, 31 / 32, 255 / 256, 1 / 512, 1 - 1 / 512, 0.1, 0.7, 1 / 1024]
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


class Constant(fastdrop.RNG):
    """Words whose planes all equal the threshold's: each element has to be refined."""

    name = "constant"
    low = 0

    @classmethod
    def key_words(cls) -> int:
        return 1

    @classmethod
    def words(cls, key: Any, position: int, n: int) -> Any:
        threshold = rate(0.3).threshold
        plane_words = [
            -(threshold >> BITS - 1 - plane & 1) & 0xFFFFFFFFFFFFFFFF
            for plane in range(PLANES)
            for _ in range(STRIP // 64)
        ]
        block = plane_words * (BLOCK // STRIP) + [cls.low | cls.low << 32] * REFINE_WORDS
        return np.array([block[i % len(block)] for i in range(position, position + n)], np.uint64)


@pytest.mark.parametrize(("above", "kept"), [(-1, True), (0, False), (1, False)])
def test_the_last_bit_of_the_threshold_decides(
    monkeypatch: pytest.MonkeyPatch, above: int, kept: bool
) -> None:
    """With the leading 8 bits equal to the threshold's, its last 32 bits are compared."""
    monkeypatch.setattr(Constant, "low", (rate(0.3).threshold & 0xFFFFFFFF) + above)
    with fastdrop.use_backend("reference"):
        y = fastdrop.dropout(np.ones(BLOCK + 9), 0.3, rng=Constant(1))
    assert ((y != 0) == kept).all()
