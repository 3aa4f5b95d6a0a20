"""What the battery checks: counts in masks, each against its exact distribution.

Every check compares a sum over independent events, mostly their count, with its expectation and
allows the deviation that chance exceeds with a probability of at most ALARM, by Bernstein's
inequality, which holds for any number of events (no normal approximation). So m checks fail a sound
generator with a probability of at most m * ALARM, whether they depend on each other or not.
`tally` counts them.
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from fastdrop.backends import Draw
from fastdrop.mask_format import BLOCK, rate
from fastdrop.masks.mask import Mask
from fastdrop.rng.base import Stream

ALARM = 1e-9  # two-sided, for one check
AT_ONCE = 1 << 24  # elements that are unpacked together


@dataclass
class Tally:
    """How many checks were made, and how far their counts were from what was expected."""

    z: list[float] = field(default_factory=list)

    def __str__(self) -> str:
        z = np.abs(self.z)
        beyond = ", ".join(
            f"{(z > limit).sum()} beyond {limit} ({len(z) * math.erfc(limit / 2**0.5):.1f} likely)"
            for limit in (2, 3, 4)
        )
        rate = len(z) * ALARM
        return f"{len(z)} checks, false alarm <= {rate:.1e}, worst |z| {z.max():.2f}, {beyond}"


tally = Tally()


def check(count: int, n: int, probability: float) -> None:
    """Fail if `count` of n independent events is too far from n * probability."""
    variance = n * probability * (1 - probability)
    allowed = bernstein(variance, 1)
    # Anscombe's transform: nearly normal with variance 1, where few events are expected too.
    seen = math.asin(math.sqrt((count + 0.375) / (n + 0.75)))
    tally.z.append(2 * math.sqrt(n + 0.5) * (seen - math.asin(math.sqrt(probability))))
    assert abs(count - n * probability) <= allowed, (
        f"{count} of {n}, expected {n * probability:.1f} +- {allowed:.1f}: "
        f"z = {(count - n * probability) / math.sqrt(variance):.2f}"
    )


def check_covariance(both: int, kept: int, n: int, p: float) -> None:
    """Fail if the covariance of n pairs of elements is too far from 0.

    `both` is how many pairs are kept, and `kept` how many elements. The covariance does not
    depend on how far the keep rate is off, as the count of pairs does.
    """
    q = 1 - p
    total = both - q * kept + n * q * q  # of (a - q)(b - q), a and b being 0 or 1
    deviation = math.sqrt(n) * p * q
    allowed = bernstein(deviation * deviation, max(p, q) ** 2)
    tally.z.append(total / deviation)
    assert abs(total) <= allowed, (
        f"{both} of {n} pairs are kept, covariance {total:.1f}, allowed +- {allowed:.1f}: "
        f"z = {total / deviation:.2f}"
    )


def bernstein(variance: float, bound: float) -> float:
    """Return what a sum of independent deviations up to `bound` exceeds with probability ALARM.

    S. Bernstein, "On a modification of Chebyshev's inequality", 1924.
    """
    log = math.log(2 / ALARM)
    third = bound * log / 3
    return third + math.sqrt(third * third + 2 * log * variance)


def draw(rng: Any, n: int, p: float) -> Mask:
    """Return the generator's next mask."""
    stream, position = rng.reserve(rate(p).words(n))
    return Mask(Draw(stream, position, rate(p)), (n,))


def at(stream: Stream, position: int, n: int, p: float) -> Mask:
    """Return the mask of a draw at a position."""
    return Mask(Draw(stream, position, rate(p)), (n,))


def ones(octets: np.ndarray) -> int:
    """Return how many bits are set."""
    return int(np.bitwise_count(octets).sum(dtype=np.int64))


def bits_of(mask: Mask) -> np.ndarray:
    """Return a mask as zeros and ones, an octet each."""
    return np.unpackbits(mask.to_packed(), count=mask.size, bitorder="little")


def pieces(mask: Mask) -> Iterable[np.ndarray]:
    """Return a mask as zeros and ones, some at a time."""
    return (bits_of(mask[i : i + AT_ONCE]) for i in range(0, mask.size, AT_ONCE))


def keep_rate(mask: Mask) -> None:
    check(ones(mask.to_packed()), mask.size, 1 - mask.p)


def places(mask: Mask) -> None:
    """No strip, word or bit of a block is favoured."""
    at_place = sum(bits.reshape(-1, BLOCK).sum(axis=0, dtype=np.int64) for bits in pieces(mask))
    blocks = mask.size // BLOCK
    for per_group in (64, 512):
        for count in at_place.reshape(-1, per_group).sum(axis=1):
            check(int(count), blocks * per_group, 1 - mask.p)
    for count in at_place.reshape(-1, 64).sum(axis=0):
        check(int(count), blocks * 64, 1 - mask.p)


def block_counts(mask: Mask) -> None:
    """As many blocks drop so many elements as independent elements would let them."""
    dropped = np.concatenate([BLOCK - bits.reshape(-1, BLOCK).sum(axis=1) for bits in pieces(mask)])
    tail = 0.0  # of the binomial distribution, from its end
    tails = []
    for j in range(BLOCK, 0, -1):
        choose = math.lgamma(BLOCK + 1) - math.lgamma(j + 1) - math.lgamma(BLOCK - j + 1)
        tail += math.exp(choose + j * math.log(mask.p) + (BLOCK - j) * math.log1p(-mask.p))
        tails.append((tail, j))
    for target in (1e-3, 0.01, 0.05, 0.2, 0.5, 0.8, 0.95, 0.99, 0.999):
        probability, j = min(tails, key=lambda pair: abs(pair[0] - target))
        check(int(np.count_nonzero(dropped >= j)), len(dropped), probability)


# Across a word, a plane, a strip and a block, and next to them.
ODD_LAGS = [1, 2, 3, 7, 31, 33, 63, 65, 127, 511, 513, 4095, 4097]
STRIDES = [24, 192, 1536, 3584, 12288]


def neighbours(mask: Mask) -> None:
    """Check pairs of elements i and i + lag, no element in two."""
    unpacked = bits_of(mask[:AT_ONCE])
    for lag in ODD_LAGS:
        a, b = _pairs(unpacked, lag)
        both, kept = np.count_nonzero(a & b), np.count_nonzero(a) + np.count_nonzero(b)
        check_covariance(int(both), int(kept), a.size, mask.p)
    packed = mask.to_packed()
    for lag in [*STRIDES, *(1 << j for j in range(3, mask.size.bit_length() - 1))]:
        a, b = _pairs(packed, lag // 8)
        check_covariance(ones(a & b), ones(a) + ones(b), 8 * a.size, mask.p)


def _pairs(values: np.ndarray, lag: int) -> tuple[np.ndarray, np.ndarray]:
    pairs = values[: values.size // (2 * lag) * 2 * lag].reshape(-1, 2, lag)
    return pairs[:, 0], pairs[:, 1]


def independent(masks: list[Mask]) -> None:
    """Check that masks of one p are pairwise independent, element by element."""
    packed = [mask.to_packed() for mask in masks]
    for a, b in itertools.combinations(packed, 2):
        check_covariance(ones(a & b), ones(a) + ones(b), 8 * a.size, masks[0].p)


def first_is_independent(masks: list[Mask]) -> None:
    """Check a mask with each of many others."""
    for other in masks[1:]:
        independent([masks[0], other])


def apart(masks: list[Mask]) -> None:
    """Check that no draw begins before the one before it ended: no half is the next one's half."""
    for a, b in itertools.pairwise(masks):
        half = a.size // 2
        independent([a[half:], b[:half]])


def patterns(mask: Mask) -> None:
    """A serial test: each pattern of eight elements is as frequent as it has to be."""
    found = np.bincount(mask.to_packed(), minlength=256)
    for pattern, count in enumerate(found):
        kept = pattern.bit_count()
        check(int(count), mask.size // 8, (1 - mask.p) ** kept * mask.p ** (8 - kept))


def runs(mask: Mask) -> None:
    """Runs of kept and of dropped elements are as long as independent elements make them.

    The lengths of the first r runs of a kind are independent and geometric, whatever r is.
    """
    bits = bits_of(mask)
    ends = np.flatnonzero(bits[1:] != bits[:-1])
    lengths = np.diff(ends, prepend=-1)
    number = mask.size * mask.p * (1 - mask.p)
    r = int(number - 10 * math.sqrt(number))  # 10 standard deviations: there are as many
    for kind, probability in ((0, mask.p), (1, 1 - mask.p)):
        of_kind = lengths[(bits[0] ^ kind) :: 2][:r]
        assert len(of_kind) == r
        length = 2
        while r * probability ** (length - 1) > 100:
            check(int(np.count_nonzero(of_kind >= length)), r, probability ** (length - 1))
            length += (length + 1) // 2


def second_planes(mask: Mask) -> None:
    """At p = 1/32 four bits leave one element in 16 undecided; half of those are kept."""
    assert mask.p == 1 / 32
    for undecided, _, kept in _read(mask):
        assert kept[~undecided].all()
        check(int(np.count_nonzero(undecided)), undecided.size, 1 / 16)
        rank = np.cumsum(undecided, axis=1)[undecided] - 1
        outcome = kept[undecided]  # in order of their ranks, block by block
        for group in range(6):
            in_group = outcome[rank // 64 == group]
            check(int(np.count_nonzero(in_group)), len(in_group), 0.5)
        for lag in (1, 2, 3, 8, 63, 64):
            a, b = _pairs(outcome, lag)
            check(int(np.count_nonzero(a == b)), a.size, 0.5)


def numbers(mask: Mask) -> None:
    """At p = 2**-13 twelve bits leave one element in 4096 undecided; half of those are kept."""
    assert mask.p == 2.0**-13
    for undecided, tied, kept in _read(mask):
        column = (np.cumsum(undecided, axis=1) - 1) % 512
        needs_number = undecided & np.take_along_axis(tied, column, axis=1)
        assert kept[~needs_number].all()
        check(int(np.count_nonzero(needs_number)), undecided.size, 2.0**-12)
        outcome = kept[needs_number]
        check(int(np.count_nonzero(outcome)), len(outcome), 0.5)
        block, _ = np.nonzero(needs_number)
        rank = np.arange(len(block)) - np.searchsorted(block, block)
        pair = (rank[:-1] % 2 == 0) & (block[:-1] == block[1:])  # the first of two of a block
        equal = outcome[:-1] == outcome[1:]
        check(int(np.count_nonzero(equal[pair])), int(np.count_nonzero(pair)), 0.5)


def _read(mask: Mask) -> Iterable[tuple[np.ndarray, np.ndarray, np.ndarray]]:
    """Yield what the words say: who is undecided, which columns are, and who is kept.

    For thresholds whose first twelve bits are ones: undecided is whose bits are all ones.
    """
    drawn, rate = mask._draw, mask._draw.rate
    for start in range(0, mask.size, AT_ONCE):
        part = mask[start : start + AT_ONCE]
        at_block = drawn.position + start // BLOCK * rate.block_words
        words = drawn.stream.words(at_block, rate.words(part.size)).reshape(-1, rate.block_words)
        second = words[:, : 8 * rate.second].reshape(len(words), -1, 8)
        first = words[:, -256:].reshape(-1, 8, 4, 8)  # block, strip, plane, word
        undecided = _unpacked(np.bitwise_and.reduce(first, axis=2).reshape(len(words), -1))
        tied = _unpacked(np.bitwise_and.reduce(second, axis=1))
        yield undecided, tied, bits_of(part).astype(bool).reshape(-1, BLOCK)


def _unpacked(words: np.ndarray) -> np.ndarray:
    octets = np.ascontiguousarray(words, "<u8").view(np.uint8)
    return np.unpackbits(octets, axis=1, bitorder="little").astype(bool)
