"""The battery can fail: each of these faults is noticed by a check that it names.

The faults are put into the reference backend, which is the plainest, and into a generator's words.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import checks
import numpy as np
import pytest
from checks import at, draw

import fastdrop
from fastdrop.backends import reference
from fastdrop.mask_format import rate
from fastdrop.masks.mask import Mask
from fastdrop.rng import ARS4x32, ars4x32
from fastdrop.rng.base import Stream

SIZE = 1 << 22
SEED = 3
Fault = Callable[[pytest.MonkeyPatch], None]


@pytest.fixture(autouse=True)
def _in_the_reference() -> Iterator[None]:
    tally, checks.tally = checks.tally, checks.Tally()  # these checks are meant to fail
    with fastdrop.use_backend("reference"):
        yield
    checks.tally = tally


def sample(p: float) -> Mask:
    return draw(ARS4x32(SEED), SIZE, p)


# Faults of the mask


def first_planes(change: Callable[[np.ndarray], None]) -> Fault:
    """Return the fault of first planes, [block, strip, plane, word], that are changed so."""

    def fault(patch: pytest.MonkeyPatch) -> None:
        split = reference._split

        def wrong(words: np.ndarray, rate: Any) -> Any:
            second, numbers, first = split(words, rate)
            first = first.copy()
            change(first.reshape(len(words), 8, -1, 8))
            return second, numbers, first

        patch.setattr(reference, "_split", wrong)

    return fault


def a_plane_is_reused(planes: np.ndarray) -> None:
    planes[:, :, 3] = planes[:, :, 2]


def a_strip_is_reused(planes: np.ndarray) -> None:
    planes[:, 1] = planes[:, 0]


def a_block_is_reused(planes: np.ndarray) -> None:
    planes[1::2] = planes[::2]


def a_bit_is_stuck(planes: np.ndarray) -> None:
    planes[:, :, 0] |= np.uint64(1 << 17)


def ranks(change: Callable[[np.ndarray, np.ndarray], np.ndarray], of: int) -> Fault:
    """Return the fault of ranks among what takes one of `of` values: columns or numbers."""

    def fault(patch: pytest.MonkeyPatch) -> None:
        taken = reference._taken

        def wrong(values: np.ndarray, where: np.ndarray) -> np.ndarray:
            if values.shape[1] != of:
                return taken(values, where)
            rank = np.cumsum(where, axis=1) - 1
            return np.take_along_axis(values, change(rank, where) % of, axis=1)

        patch.setattr(reference, "_taken", wrong)

    return fault


def two_take_one(rank: np.ndarray, where: np.ndarray) -> np.ndarray:
    return rank // 2


def all_take_one(rank: np.ndarray, where: np.ndarray) -> np.ndarray:
    return 0 * rank


def a_word_late(rank: np.ndarray, where: np.ndarray) -> np.ndarray:
    """Those before the previous word are counted, not those before this one."""
    before = np.roll(rank[:, 63::64] + 1, 2, axis=1)
    before[:, :2] = 0
    in_word = np.cumsum(where.reshape(len(where), -1, 64), axis=2) - 1
    return (before[:, :, None] + in_word).reshape(rank.shape)


def each_strip_from_0(rank: np.ndarray, where: np.ndarray) -> np.ndarray:
    in_strip = np.cumsum(where.reshape(len(where), -1, 512), axis=2) - 1
    return in_strip.reshape(rank.shape)


def one_more(rank: np.ndarray, where: np.ndarray) -> np.ndarray:
    return rank + 1


def ties(kept: bool) -> Fault:
    """Return the fault of not drawing a number where twelve bits leave undecided."""

    def fault(patch: pytest.MonkeyPatch) -> None:
        number = np.uint64(0 if kept else (1 << 32) - 1)
        patch.setattr(reference, "_halves", lambda words: np.full((len(words), 32), number))

    return fault


def a_threshold_of_12_bits(patch: pytest.MonkeyPatch) -> None:
    known = rate(1e-4)  # the same object each time
    patch.setattr(known, "threshold", known.threshold >> 28 << 28)


REFINED = 1 / 32, 2.0**-13


@pytest.mark.parametrize(
    ("fault", "noticed", "p"),
    [
        (first_planes(a_plane_is_reused), checks.keep_rate, 0.1),
        (first_planes(a_strip_is_reused), checks.neighbours, 0.5),
        (first_planes(a_strip_is_reused), checks.neighbours, 0.1),
        (first_planes(a_block_is_reused), checks.neighbours, 0.5),
        (first_planes(a_block_is_reused), checks.neighbours, 0.75),
        (first_planes(a_bit_is_stuck), checks.places, 0.5),
        (first_planes(a_bit_is_stuck), checks.patterns, 0.5),
        (first_planes(a_bit_is_stuck), checks.runs, 0.5),
        (ranks(two_take_one, of=512), checks.second_planes, REFINED[0]),
        (ranks(two_take_one, of=512), checks.runs, REFINED[0]),
        (ranks(all_take_one, of=512), checks.block_counts, REFINED[0]),
        (ranks(a_word_late, of=512), checks.second_planes, REFINED[0]),
        (ranks(a_word_late, of=512), checks.runs, REFINED[0]),
        (ranks(each_strip_from_0, of=512), checks.block_counts, REFINED[0]),
        (ranks(two_take_one, of=32), checks.numbers, REFINED[1]),
        (ranks(all_take_one, of=32), checks.numbers, REFINED[1]),
        (ties(kept=False), checks.keep_rate, 1e-4),
        (ties(kept=True), checks.keep_rate, 1e-4),
        (ties(kept=True), checks.numbers, REFINED[1]),
        (a_threshold_of_12_bits, checks.keep_rate, 1e-4),
    ],
)
def test_a_fault_of_the_mask_is_noticed(
    fault: Fault, noticed: Callable[[Mask], None], p: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    noticed(sample(p))
    fault(monkeypatch)
    with pytest.raises(AssertionError):
        noticed(sample(p))


@pytest.mark.parametrize("of", [32, 512])
def test_ranks_that_all_are_one_too_high_make_another_mask_as_good(
    of: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """No statistic can notice, and none does: the comparison with the oracle is for that."""
    p = REFINED[of == 32]
    before = sample(p).to_packed()
    ranks(one_more, of)(monkeypatch)
    after = sample(p)
    assert not np.array_equal(before, after.to_packed())
    for sound in (checks.keep_rate, checks.neighbours, checks.runs, checks.block_counts):
        sound(after)


# Faults of the generator


class Wrong(ARS4x32):
    """ARS4x32 with a fault in each way that a class says."""

    stuck_position = 0
    stuck_key = 0

    @classmethod
    def words(cls, key: np.ndarray, position: int, n: int) -> np.ndarray:
        key = np.array([int(key[0]) & ~cls.stuck_key, key[1]], np.uint64)
        bit = cls.stuck_position
        if not bit:
            return super().words(key, position, n)
        counter = np.arange(n, dtype=np.uint64) + np.uint64(position)
        counter &= ~np.uint64(bit)
        start = int(counter.min())
        words = super().words(key, start, int(counter.max()) - start + 1)
        return words[counter - np.uint64(start)]


@pytest.mark.parametrize("p", [0.5, 0.1])
@pytest.mark.parametrize("rounds", [1, 2, 3])
def test_fewer_rounds_are_noticed(rounds: int, p: float, monkeypatch: pytest.MonkeyPatch) -> None:
    """No check of this size notices four."""
    monkeypatch.setattr(ars4x32, "ROUNDS", rounds)
    with pytest.raises(AssertionError):
        checks.neighbours(draw(ARS4x32(SEED), SIZE, p))


@pytest.mark.parametrize("bit", range(15))
def test_a_low_bit_of_the_counter_that_is_stuck_is_noticed(
    bit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Word n and word n + 2**bit are equal: elements that are 64 * 2**bit apart."""
    monkeypatch.setattr(Wrong, "stuck_position", 1 << bit)
    with pytest.raises(AssertionError):
        checks.neighbours(draw(Wrong(SEED), SIZE, 0.5))


@pytest.mark.parametrize("bit", [20, 31, 32, 47, 63])
def test_a_high_bit_of_the_counter_that_is_stuck_is_noticed(
    bit: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Wrong, "stuck_position", 1 << bit)
    stream, _ = Wrong(SEED).reserve(0)
    with pytest.raises(AssertionError):
        checks.first_is_independent([at(stream, there, SIZE, 0.5) for there in (0, 1 << bit)])


def test_a_bit_of_the_key_without_effect_is_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Wrong, "stuck_key", 1 << 32)
    key = Wrong(SEED).key.copy()
    keys = [key, key ^ np.array([1 << 32, 0], np.uint64)]
    with pytest.raises(AssertionError):
        checks.first_is_independent([at(Stream(Wrong, key), 0, SIZE, 0.5) for key in keys])


def test_children_that_share_their_parents_key_are_noticed(monkeypatch: pytest.MonkeyPatch) -> None:
    right = Wrong.seed_key
    heedless = classmethod(lambda cls, seed: right(np.random.SeedSequence(seed.entropy)))
    monkeypatch.setattr(Wrong, "seed_key", heedless)
    parent = Wrong(SEED)
    with pytest.raises(AssertionError):
        checks.independent([draw(rng, SIZE, 0.5) for rng in (parent, *parent.spawn(1))])


@pytest.mark.parametrize("p", [0.5, 0.1])
def test_draws_that_overlap_are_noticed(p: float, monkeypatch: pytest.MonkeyPatch) -> None:
    right = Wrong.reserve
    monkeypatch.setattr(Wrong, "reserve", lambda self, words: right(self, words // 2))
    rng = Wrong(SEED)
    with pytest.raises(AssertionError):
        checks.apart([draw(rng, SIZE, p) for _ in range(2)])
