"""Keep bits of a mask's blocks: random words in, packed bits out."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np

from ...mask_format import (
    BLOCK,
    COLUMNS,
    ONE,
    PLANES,
    PRECISION,
    REFINE_WORDS,
    SECOND_PLANES,
    STRIP,
)
from ...rng.base import UNWRITTEN
from .compiling import NOTHING, address_of, emitted, inner
from .generators import call_fill
from .lanes import Word
from .memory import count_ones, deposit_word, put_word, stack, trailing_zeros, word_at
from .steps import COMPARED_BYTES, EQUAL, LESS, SECOND, compare_strip, keep_word, numbers_below
from .vector import BITS, HAS_PDEP, I64, Value, call

BLOCK_WORDS: Final = BLOCK // 64
_STRIP_WORDS: Final = STRIP // 64
_COLUMN_WORDS: Final = COLUMNS // 64
RANGE_WORDS: Final = SECOND_PLANES * _COLUMN_WORDS + REFINE_WORDS + PLANES * BLOCK_WORDS

# Bytes.
_VECTOR: Final = BITS // 8
_SECOND_BYTES: Final = SECOND_PLANES * _VECTOR
RANGE_BYTES: Final = 8 * RANGE_WORDS + _VECTOR  # a word before, where a counter's words may begin

_0, _1, _32, _63 = (np.uint64(n) for n in (0, 1, 32, 63))
_ALL: Final = np.uint64(0xFFFFFFFFFFFFFFFF)


@inner()
def _parts_of(threshold: int) -> tuple[int, int, int, int, int]:
    """Return what a threshold makes of a block's range of words.

    How many first and second planes, where numbers and first planes begin, and its length.
    """
    significant = 0
    if 0 < threshold < ONE:
        significant = PRECISION - trailing_zeros(threshold)
    planes = min(significant, PLANES)
    second = min(significant - planes, SECOND_PLANES)
    numbers_at = second * _COLUMN_WORDS
    planes_at = numbers_at
    if significant > PLANES + SECOND_PLANES:
        planes_at += REFINE_WORDS
    return planes, second, numbers_at, planes_at, planes_at + planes * BLOCK_WORDS


@inner()
def _compare_second(second: int, random: int, bits: int, less: int, equal: int) -> None:
    """Compare the columns' numbers, which have 1 to 8 bits, with the threshold's."""
    if second == SECOND_PLANES:
        compare_strip(SECOND_PLANES, random, bits, less, equal)
        return
    # Planes that are missing are those of a threshold's bits that are 0, and 0 themselves.
    planes = stack(_SECOND_BYTES)
    for w in range(SECOND_PLANES * _STRIP_WORDS):
        word = _0
        if w < second * _STRIP_WORDS:
            word = word_at(random + 8 * w)
        put_word(planes + 8 * w, word)
    compare_strip(SECOND_PLANES, planes, bits << (SECOND_PLANES - second), less, equal)


@inner()
def _deposit(bits: Word, where: Word) -> Word:
    """Return the lowest bits, one for each set bit of `where`, moved there."""
    if HAS_PDEP:
        return deposit_word(bits, where)
    moved = _0
    while where:
        others = where & (where - _1)
        moved |= (where ^ others) & (_0 - (bits & _1))
        where = others
        bits >>= _1
    return moved


@inner()
def _refine(numbers: int, limit: int, equal: int, less: int) -> None:
    """Decide the columns that equal the threshold: the r-th takes the r-th 32-bit number.

    There are 32, which go round and round. A loop over those columns would be mispredicted.
    """
    once: Any = numbers_below(numbers, limit)
    below, rank = once | once << _32, _0
    for w in range(_COLUMN_WORDS):
        undecided = word_at(equal + 8 * w)
        bits = below >> (rank & _63) | below << (_0 - rank & _63)
        put_word(less + 8 * w, word_at(less + 8 * w) | _deposit(bits, undecided))
        rank += np.uint64(count_ones(undecided))


@cache
def compare_until_of(planes: int) -> Any:
    """Return a function that compares strips by so many first planes."""

    @inner(planes)
    def compare_until(words: int, ready: int, bits: int, random: int, compared: int) -> int:
        """Compare strips until `words` words are, if `ready` are; return how many are then.

        `random` is where the block's first planes begin.
        """
        while ready < words:
            at, less, equal = 8 * planes * ready, LESS + 8 * ready, EQUAL + 8 * ready
            compare_strip(planes, random + at, bits, compared + less, compared + equal)
            ready += _STRIP_WORDS
        return ready

    return compare_until


_compare_1, _compare_2, _compare_3, _compare_4 = map(compare_until_of, range(1, PLANES + 1))


@inner()
def _compare_block(threshold: int, random: int, strips: int, compared: int) -> None:
    """Compare a block's words, as far as `strips` strips need them, with the threshold."""
    planes, second, numbers_at, planes_at, _ = _parts_of(threshold)
    if second:
        equal = stack(_VECTOR)
        columns = compared + SECOND
        bits = threshold >> (PRECISION - PLANES - second)
        _compare_second(second, random, bits, columns, equal)
        if planes_at > numbers_at:
            limit = (threshold & 0xFFFFFFF) << 4
            _refine(random + 8 * numbers_at, limit, equal, columns)
        put_word(columns + _VECTOR, word_at(columns))
    bits, at = threshold >> (PRECISION - planes), random + 8 * planes_at
    words = strips * _STRIP_WORDS
    if planes == 4:
        _compare_4(words, 0, bits, at, compared)
    elif planes == 3:
        _compare_3(words, 0, bits, at, compared)
    elif planes == 2:
        _compare_2(words, 0, bits, at, compared)
    else:
        _compare_1(words, 0, bits, at, compared)


@cache
def compare_address() -> int:
    """Return the address of `_compare_block`."""

    @address_of("int64(int64, int64, int64, int64)")
    def compare(threshold: int, random: int, strips: int, compared: int) -> int:
        _compare_block(threshold, random, strips, compared)
        return 0

    return compare


@emitted(NOTHING)
def call_compare(
    _: Value, compare: Value, threshold: Value, random: Value, strips: Value, compared: Value
) -> None:
    """Call `_compare_block` through its address."""
    call(compare, I64, threshold, random, strips, compared)


if HAS_PDEP:

    @inner()
    def _next_word(compared: int, word: int, rank: Word) -> tuple[Word, Word]:
        return keep_word(1, compared, word, rank)  # type: ignore[no-any-return]

else:

    @inner()
    def _next_word(compared: int, word: int, rank: Word) -> tuple[Word, Word]:
        """Do as `keep_word` does, for a block with second planes."""
        keep, undecided = word_at(compared + LESS + 8 * word), word_at(compared + EQUAL + 8 * word)
        columns, down = compared + SECOND + 8 * np.int64(rank // 64 % _COLUMN_WORDS), rank & _63
        # Shifted twice, for a shift by 64 is none.
        bits = word_at(columns) >> down | word_at(columns + 8) << _1 << (_63 - down)
        return keep | _deposit(bits, undecided), rank + np.uint64(count_ones(undecided))


@inner()
def fill_checked(fill: int, key: int, position: int, n: int, out: int) -> int:
    """Call a `fill` that may return 0 without having written all words: kernels.h says how."""
    last, unwritten = out + 8 * (n - 1), np.uint64(0x9D5C1A7BE3F04286)
    for _ in range(2):
        put_word(last, unwritten)
        status = call_fill(fill, key, position, n, out)
        if status != 0 or word_at(last) != unwritten:
            return status  # type: ignore[no-any-return]
        unwritten = ~unwritten
    return UNWRITTEN


@inner()
def block_bits(mask: Any, block: int, n: int, keep: int) -> int:
    """Write the 64 words of a block's bits; those of its elements from n on are unspecified."""
    fill, key, draw, compare, threshold = mask
    planes, second, _, planes_at, words = _parts_of(threshold)
    if planes == 0:
        for w in range(BLOCK_WORDS):
            put_word(keep + 8 * w, _ALL if threshold else _0)
        return 0
    random, compared = stack(RANGE_BYTES), stack(COMPARED_BYTES)
    strips = (n + STRIP - 1) // STRIP
    drawn = planes_at + strips * planes * _STRIP_WORDS
    status = fill_checked(fill, key, draw + block * words, drawn, random)
    if status:
        return status
    call_compare(compare, threshold, random, strips, compared)
    rank = _0
    for w in range(strips * _STRIP_WORDS):
        if second:
            word, rank = _next_word(compared, w, rank)
        else:
            word = word_at(compared + LESS + 8 * w)
        put_word(keep + 8 * w, word)
    return 0


@inner()
def shifted(keep: int, bit: int, n: int, out: int) -> None:
    """Write n bits from bit number `bit` on to `out`, as whole words."""
    at, down = keep + 8 * (bit // 64), np.uint64(bit % 64)
    for w in range((n + 63) // 64):
        word = word_at(at + 8 * w) >> down
        if down and 64 * w + 64 - bit % 64 < n:  # the next word is there to be read
            word |= word_at(at + 8 * w + 8) << _1 << (_63 - down)
        put_word(out + 8 * w, word)
