"""Masks are as random as they claim to be: a quick battery, and a long one (``pytest -m slow``).

checks.py says what a check is. The seed is fixed: the false-alarm rate, which is printed when the
tests end, says how likely a sound generator was to fail when it was picked. docs/statistics.md has
what the long battery found.
"""

from __future__ import annotations

import math
from typing import Any

import checks
import numpy as np
import pytest
from checks import at, check, draw

import fastdrop
from fastdrop.rng import ARS4x32
from fastdrop.rng.ars4x32 import ROUNDS, round_key
from fastdrop.rng.base import Stream

SEED = 20140615

# The backends agree bit for bit, so one will do; the reference is a hundred times slower.
BITS = 26 if fastdrop.get_backend() != "reference" else 22
LONG = 1 << 28
SIZES = [1 << BITS, pytest.param(LONG, marks=pytest.mark.slow, id="long")]

GENERATORS = [ARS4x32, fastdrop.Philox4x32, fastdrop.Philox, fastdrop.PCG64]
RATES = [1e-6, 1e-5, 1e-4, 1e-3, 0.01, 0.1, 0.25, 0.3, 0.5, 0.7, 0.75, 0.9, 0.99]
RATES += [1 - 1e-3, 1 - 1e-4, 1 - 1e-5, 1 - 1e-6]
# One threshold of each number of bits from 2 to 14, and one near each multiple of a sixteenth.
GRID = [3 / 2**j for j in range(2, 15)] + [(i + 0.3) / 16 for i in range(16)]

each_generator = pytest.mark.parametrize("cls", GENERATORS, ids=lambda cls: cls.name)
each_size = pytest.mark.parametrize("size", SIZES)


def quarter(cls: Any, size: int) -> int:
    """Return a quarter of the elements, and in the quick battery fewer for older generators.

    The two kinds of check that call this take most of the time.
    """
    return size >> 2 if cls is ARS4x32 or size == LONG else size >> 4


def test_the_check_itself_finds_a_bias(monkeypatch: pytest.MonkeyPatch) -> None:
    """At p = 1/2 and 2**26 elements, one part in a thousand is noticed."""
    monkeypatch.setattr(checks, "tally", checks.Tally())
    n = 1 << 26
    check(n // 2, n, 0.5)
    with pytest.raises(AssertionError, match="z = "):
        check(int(n * 0.5005), n, 0.5)
    for z in (5.5, -5.5):
        check(int(n / 2 + z * math.sqrt(n) / 2), n, 0.5)


@each_size
@pytest.mark.parametrize("p", RATES)
@each_generator
def test_keep_rate(cls: Any, p: float, size: int) -> None:
    checks.keep_rate(draw(cls(SEED), size, p))


@pytest.mark.slow
@pytest.mark.parametrize("p", GRID)
@each_generator
def test_keep_rate_over_a_grid(cls: Any, p: float) -> None:
    checks.keep_rate(draw(cls(SEED + 1), LONG, p))


@each_size
@pytest.mark.parametrize("p", [0.5, 0.3, 1 / 512])
@each_generator
def test_no_place_of_a_block_is_favoured(cls: Any, p: float, size: int) -> None:
    checks.places(draw(cls(SEED), size >> 4, p))


@each_size
@pytest.mark.parametrize("p", [0.5, 0.1, 1 / 32, 2.0**-13])
@each_generator
def test_dropped_elements_of_a_block(cls: Any, p: float, size: int) -> None:
    checks.block_counts(draw(cls(SEED), size >> 2, p))


@each_size
@pytest.mark.parametrize("p", [0.5, 0.1, 0.75, 1 / 32, 1 - 1 / 32])
@each_generator
def test_neighbours_are_independent(cls: Any, p: float, size: int) -> None:
    checks.neighbours(draw(cls(SEED), quarter(cls, size), p))


@each_size
@pytest.mark.parametrize("p", [0.5, 0.1, 0.75])
@each_generator
def test_each_pattern_is_as_frequent_as_it_has_to_be(cls: Any, p: float, size: int) -> None:
    checks.patterns(draw(cls(SEED), size, p))


@each_size
@pytest.mark.parametrize("p", [0.5, 0.1, 0.75, 1 / 32, 2.0**-9])
@each_generator
def test_runs(cls: Any, p: float, size: int) -> None:
    checks.runs(draw(cls(SEED), size >> 4, p))


@each_size
@each_generator
def test_the_refined_bits_are_even(cls: Any, size: int) -> None:
    checks.second_planes(draw(cls(SEED), quarter(cls, size), 1 / 32))
    checks.numbers(draw(cls(SEED), quarter(cls, size), 2.0**-13))


@each_size
@pytest.mark.parametrize("p", [0.5, 0.1])
@each_generator
def test_draws_are_independent(cls: Any, p: float, size: int) -> None:
    rng = cls(SEED)
    draws = [draw(rng, size >> 4, p) for _ in range(8)]
    checks.independent(draws)
    checks.apart(draws)


@each_size
@each_generator
def test_draws_far_apart_are_independent(cls: Any, size: int) -> None:
    """No bit of the position is without effect."""
    stream, _ = cls(SEED).reserve(0)
    positions = [0, *(1 << j for j in range(20, 64))]
    checks.first_is_independent([at(stream, position, size >> 4, 0.5) for position in positions])


@each_size
@each_generator
def test_layers_of_one_generator_are_independent(cls: Any, size: int) -> None:
    rng = cls(SEED)
    x = np.ones(size >> 4, np.float16)
    layers = [fastdrop.Dropout(0.3, rng=rng) for _ in range(5)]
    for layer in layers:
        layer(x)
    checks.independent([layer.mask for layer in layers])


@each_size
@each_generator
def test_spawned_children_and_their_parent_are_independent(cls: Any, size: int) -> None:
    parent = cls(SEED)
    children = parent.spawn(6)
    family = [parent, *children, *children[0].spawn(2)]
    checks.independent([draw(rng, size >> 4, 0.5) for rng in family])


def few_or_all(size: int) -> list[int]:
    """Return which of 128 bits to flip."""
    return [0, 1, 7, 31, 32, 33, 63, 64, 127] if size < LONG else list(range(128))


@each_size
@each_generator
def test_seeds_that_differ_in_one_bit_are_independent(cls: Any, size: int) -> None:
    seeds = [SEED, *(SEED ^ 1 << bit for bit in few_or_all(size))]
    checks.first_is_independent([draw(cls(seed), size >> 4, 0.5) for seed in seeds])


@each_size
@pytest.mark.parametrize("cls", GENERATORS[:3], ids=lambda cls: cls.name)
def test_keys_that_differ_in_one_bit_are_independent(cls: Any, size: int) -> None:
    """Not of PCG64, whose key is its state, and is made from a hashed seed."""
    keys = [cls(SEED).key]
    for bit in few_or_all(size):
        flipped = keys[0].copy()
        flipped[bit // 64] ^= np.uint64(1 << bit % 64)
        keys.append(flipped)
    checks.first_is_independent([at(Stream(cls, key), 0, size >> 4, 0.5) for key in keys])


@each_size
def test_keys_that_share_round_keys_are_independent(size: int) -> None:
    """A round key of ARS4x32 is another key's first, and the rounds after it are that key's too."""
    key = ARS4x32(SEED).key
    streams = [Stream(ARS4x32, round_key(key, number)) for number in range(ROUNDS + 1)]
    checks.independent([at(stream, 0, size >> 4, 0.5) for stream in streams])


def test_rates_of_one_draw_are_not_confused() -> None:
    """Elements that p = 1/2 drops are kept as often by the next draw at another p."""
    rng, n = ARS4x32(SEED), 1 << BITS
    half, tenth = (draw(rng, n, p).to_packed() for p in (0.5, 0.1))
    check(checks.ones(half & tenth), n, 0.45)


@pytest.mark.parametrize("p", [0.5, 0.1])
def test_mean_is_kept(p: float) -> None:
    """The scaled sum of ones has the expectation of their number."""
    n = 1 << BITS - 4
    y = fastdrop.dropout(np.ones(n, np.float64), p, rng=SEED)
    check(round(float(y.sum()) * (1 - p)), n, 1 - p)
