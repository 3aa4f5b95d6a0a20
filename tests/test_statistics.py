"""Masks are as random as they claim to be.

Each check compares a count with its expectation and allows the deviation that
chance exceeds with a probability of at most ALARM, by Bernstein's inequality,
which holds for any number of independent events (no normal approximation).
The seeds are fixed: the rate says how likely a sound generator was to fail when
they were picked. Some two thousand checks are made, so 2e-6 in all.
"""

from __future__ import annotations

import itertools
import math
from typing import Any

import numpy as np
import pytest

import fastdrop
from fastdrop.mask import Mask
from fastdrop.mask_format import rate
from fastdrop.rng import Stream

ALARM = 1e-9  # two-sided, for one check
SEED = 20140615

# The backends agree bit for bit, so one will do; the reference is a hundred times slower.
SIZE = 1 << (26 if fastdrop.get_backend() != "reference" else 22)
PAIRS = SIZE >> 4

GENERATORS = [fastdrop.Philox4x32, fastdrop.Philox, fastdrop.PCG64]
RATES = [1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 0.25, 0.3, 0.5, 0.7, 0.75, 0.9, 0.99]
RATES += [1 - 1e-3, 1 - 1e-4, 1 - 1e-5, 1 - 1e-6]


def check(count: int, n: int, probability: float) -> None:
    """Fail if `count` of n independent events is too far from n * probability."""
    log = math.log(2 / ALARM)
    variance = n * probability * (1 - probability)
    allowed = log / 3 + math.sqrt(log * log / 9 + 2 * log * variance)
    assert abs(count - n * probability) <= allowed, (
        f"{count} of {n}, expected {n * probability:.1f} +- {allowed:.1f}: "
        f"z = {(count - n * probability) / math.sqrt(variance):.2f}"
    )


def draw(rng: Any, n: int, p: float) -> Mask:
    stream, position = rng.reserve(rate(p).words(n))
    return Mask(stream, position, rate(p), (n,))


def ones(octets: np.ndarray) -> int:
    """Return how many bits are set."""
    return int(np.bitwise_count(octets).sum(dtype=np.int64))


def check_independent(a: np.ndarray, b: np.ndarray, p: float) -> None:
    """Check the pairs of two packed masks that are whole bytes long: kept and kept, and equal."""
    n, keep = 8 * a.size, 1 - p
    check(ones(a & b), n, keep * keep)
    check(n - ones(a ^ b), n, keep * keep + p * p)


def test_the_check_itself_finds_a_bias() -> None:
    """At p = 1/2 and 2**26 elements, one part in a thousand is noticed."""
    n = 1 << 26
    check(n // 2, n, 0.5)
    with pytest.raises(AssertionError, match="z = "):
        check(int(n * 0.5005), n, 0.5)
    for z in (5.5, -5.5):
        check(int(n / 2 + z * math.sqrt(n) / 2), n, 0.5)


@pytest.mark.parametrize("p", RATES)
@pytest.mark.parametrize("cls", GENERATORS)
def test_keep_rate(cls: Any, p: float) -> None:
    check(ones(draw(cls(SEED), SIZE, p).to_packed()), SIZE, 1 - p)


@pytest.mark.parametrize("p", [0.5, 0.3, 1 / 512])
def test_keep_rate_at_each_place_of_a_block(p: float) -> None:
    """No strip, word or bit of a block is favoured."""
    bits = np.unpackbits(draw(fastdrop.Philox4x32(SEED), PAIRS, p).to_packed()).reshape(-1, 4096)
    at_place = bits.sum(axis=0, dtype=np.int64)
    for per_group in (64, 512):
        for count in at_place.reshape(-1, per_group).sum(axis=1):
            check(int(count), len(bits) * per_group, 1 - p)
    for count in at_place.reshape(-1, 64).sum(axis=0):
        check(int(count), len(bits) * 64, 1 - p)


LAGS = [1, 2, 3, 7, 8, 31, 32, 33, 63, 64, 65, 127, 128, 256, 511, 512, 513, 4095, 4096, 4097, 8192]


@pytest.mark.parametrize("p", [0.5, 0.1, 0.75])
@pytest.mark.parametrize("cls", GENERATORS)
def test_neighbours_are_independent(cls: Any, p: float) -> None:
    bits = np.unpackbits(draw(cls(SEED), PAIRS, p).to_packed(), bitorder="little")
    for lag in LAGS:
        # Pairs (i, i + lag) that share no element.
        pairs = bits[: bits.size // (2 * lag) * 2 * lag].reshape(-1, 2, lag)
        n, kept = pairs.size // 2, (1 - p) ** 2
        both = int(np.count_nonzero(pairs[:, 0] & pairs[:, 1]))
        equal = int(np.count_nonzero(pairs[:, 0] == pairs[:, 1]))
        check(both, n, kept)
        check(equal, n, kept + p * p)


@pytest.mark.parametrize("cls", GENERATORS)
def test_each_byte_of_a_half_mask_is_as_likely(cls: Any) -> None:
    packed = draw(cls(SEED), SIZE, 0.5).to_packed()
    for count in np.bincount(packed, minlength=256):
        check(int(count), packed.size, 1 / 256)


@pytest.mark.parametrize("p", [0.5, 0.1])
@pytest.mark.parametrize("cls", GENERATORS)
def test_draws_are_independent(cls: Any, p: float) -> None:
    rng = cls(SEED)
    draws = [draw(rng, PAIRS, p).to_packed() for _ in range(4)]
    for a, b in itertools.combinations(draws, 2):
        check_independent(a, b, p)


def test_layers_of_one_generator_are_independent() -> None:
    rng = fastdrop.Philox4x32(SEED)
    x = np.ones(PAIRS, np.float16)
    masks = []
    for layer in [fastdrop.Dropout(0.3, rng=rng) for _ in range(3)]:
        layer(x)
        masks.append(layer.mask.to_packed())
    for a, b in itertools.combinations(masks, 2):
        check_independent(a, b, 0.3)


@pytest.mark.parametrize("cls", GENERATORS)
def test_spawned_children_and_their_parent_are_independent(cls: Any) -> None:
    parent = cls(SEED)
    children = parent.spawn(3)
    family = [parent, *children, *children[0].spawn(2)]
    masks = [draw(rng, PAIRS, 0.5).to_packed() for rng in family]
    for a, b in itertools.combinations(masks, 2):
        check_independent(a, b, 0.5)


@pytest.mark.parametrize("cls", GENERATORS)
def test_seeds_that_differ_in_one_bit_are_independent(cls: Any) -> None:
    first = draw(cls(SEED), PAIRS, 0.5).to_packed()
    for bit in (0, 1, 7, 31, 32, 63, 64, 127):
        check_independent(first, draw(cls(SEED ^ 1 << bit), PAIRS, 0.5).to_packed(), 0.5)


@pytest.mark.parametrize(("cls", "words"), [(fastdrop.Philox4x32, 2), (fastdrop.Philox, 2)])
def test_keys_that_differ_in_one_bit_are_independent(cls: Any, words: int) -> None:
    """Of the Philox kinds; a PCG64's key is its state, and is made from a hashed seed."""

    def mask(key: np.ndarray) -> np.ndarray:
        return Mask(Stream(cls, key), 0, rate(0.5), (PAIRS,)).to_packed()

    key = cls(SEED).key
    first = mask(key)
    for word in range(words):
        for bit in (0, 1, 31, 32, 33, 63):
            flipped = key.copy()
            flipped[word] ^= np.uint64(1 << bit)
            check_independent(first, mask(flipped), 0.5)


def test_rates_of_one_draw_are_not_confused() -> None:
    """Elements that p = 1/2 drops are kept as often by the next draw at another p."""
    rng = fastdrop.Philox4x32(SEED)
    half, tenth = (draw(rng, PAIRS, p).to_packed() for p in (0.5, 0.1))
    check(ones(half & tenth), PAIRS, 0.45)


def test_what_the_first_planes_leave_undecided_is_settled_evenly() -> None:
    """With p = 2**-5 a second plane of one bit settles one element in 16, half of them each way."""
    p = 2.0**-5
    mask = draw(fastdrop.Philox4x32(SEED), SIZE, p)
    n = SIZE >> 6
    words = mask._stream.words(mask._draw, rate(p).words(n)).reshape(-1, rate(p).block_words)
    planes = words[:, 8:].reshape(-1, 8, 4, 8)  # block, strip, plane, word; the second one is first
    undecided = np.bitwise_and.reduce(planes, axis=2).reshape(-1)
    kept = mask[:n].to_packed().view("<u8")
    check(ones(undecided), n, 1 / 16)
    check(ones(undecided & kept), n, 1 / 32)
    check(ones(undecided & kept), ones(undecided), 0.5)
    assert ones(~undecided & ~kept) == 0  # all others are kept


@pytest.mark.parametrize("p", [0.5, 0.1])
def test_mean_is_kept(p: float) -> None:
    """The scaled sum of ones has the expectation of their number."""
    n = PAIRS
    y = fastdrop.dropout(np.ones(n, np.float64), p, rng=SEED)
    check(round(float(y.sum()) * (1 - p)), n, 1 - p)
