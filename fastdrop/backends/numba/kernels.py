"""Mask format 2 compiled by Numba: random words in, keep bits and products out.

A kernel is compiled when it is first used, for one dtype and form, and cached on disk. Its
arguments are whole numbers, addresses among them, because those are what a call from Python
is quick with.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, cached_property
from typing import Any, Final

import numba
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
from .generators import Word, call_fill, fill_address, run_left, start_run
from .steps import (
    COMPARED_BYTES,
    EQUAL,
    LESS,
    OPERANDS,
    REAL,
    RUN_BYTES,
    SECOND,
    SIDE,
    SIZES,
    STEP,
    compare_strip,
    keep_word,
    numbers_below,
    philox4x32_batch_and_words,
    write_kept,
    write_word,
)
from .vector import (
    BITS,
    HAS_PDEP,
    I64,
    NOTHING,
    SOURCES,
    Value,
    address_of,
    call,
    copy_bytes,
    copy_element,
    count_ones,
    data_of,
    deposit_word,
    emitted,
    entry,
    fence,
    inner,
    kernel,
    like,
    named,
    put_word,
    stack,
    trailing_zeros,
    word_at,
)

__all__ = [
    "AXIS",
    "OPERANDS",
    "Kernel",
    "apply_kernel",
    "bits_kernel",
    "compare_address",
    "fill_address",
    "has_pipe",
    "walk_kernel",
]

TASK_BLOCKS: Final = 16  # blocks that one thread takes at once

_BLOCK_WORDS: Final = BLOCK // 64
_STRIP_WORDS: Final = STRIP // 64
_COLUMN_WORDS: Final = COLUMNS // 64
_RANGE_WORDS: Final = SECOND_PLANES * _COLUMN_WORDS + REFINE_WORDS + PLANES * _BLOCK_WORDS
_PART: Final = 512  # elements that go through buffers at once

# Bytes.
_VECTOR: Final = BITS // 8
_SECOND_BYTES: Final = SECOND_PLANES * _VECTOR
_RANGE_BYTES: Final = 8 * _RANGE_WORDS + _VECTOR  # a word before, where a counter's words may begin
_TWO_RANGES: Final = 2 * _RANGE_BYTES
_KEEP_BYTES: Final = BLOCK // 8
_PART_BITS: Final = _PART // 8

_0, _1, _32, _63 = (np.uint64(n) for n in (0, 1, 32, 63))
_LOW32: Final = np.uint64(0xFFFFFFFF)
_ALL: Final = np.uint64(0xFFFFFFFFFFFFFFFF)


# --- Mask bits --------------------------------------------------------------------------------


@inner()
def _layout(threshold: int) -> tuple[int, int, int, int, int]:
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
    return planes, second, numbers_at, planes_at, planes_at + planes * _BLOCK_WORDS


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
def _compare_until(planes: int) -> Any:
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


_compare_1, _compare_2, _compare_3, _compare_4 = map(_compare_until, range(1, PLANES + 1))


@inner()
def _compare_block(threshold: int, random: int, strips: int, compared: int) -> None:
    """Compare a block's words, as far as `strips` strips need them, with the threshold."""
    planes, second, numbers_at, planes_at, _ = _layout(threshold)
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
    sources = SOURCES

    @address_of("int64(int64, int64, int64, int64)")
    def compare(threshold: int, random: int, strips: int, compared: int) -> int:
        sources  # noqa: B018
        _compare_block(threshold, random, strips, compared)
        return 0

    return compare


@emitted(NOTHING)
def _call_compare(
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
def _fill(fill: int, key: int, position: int, n: int, out: int) -> int:
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
def _block_bits(mask: Any, block: int, n: int, keep: int) -> int:
    """Write the 64 words of a block's bits; those of its elements from n on are unspecified."""
    fill, compare, key, draw, threshold = mask
    planes, second, _, planes_at, words = _layout(threshold)
    if planes == 0:
        for w in range(_BLOCK_WORDS):
            put_word(keep + 8 * w, _ALL if threshold else _0)
        return 0
    random, compared = stack(_RANGE_BYTES), stack(COMPARED_BYTES)
    strips = (n + STRIP - 1) // STRIP
    drawn = planes_at + strips * planes * _STRIP_WORDS
    status = _fill(fill, key, draw + block * words, drawn, random)
    if status:
        return status
    _call_compare(compare, threshold, random, strips, compared)
    rank = _0
    for w in range(strips * _STRIP_WORDS):
        if second:
            word, rank = _next_word(compared, w, rank)
        else:
            word = word_at(compared + LESS + 8 * w)
        put_word(keep + 8 * w, word)
    return 0


@inner()
def _shifted(keep: int, bit: int, n: int, out: int) -> None:
    """Write n bits from bit number `bit` on to `out`, as whole words."""
    at, down = keep + 8 * (bit // 64), np.uint64(bit % 64)
    for w in range((n + 63) // 64):
        word = word_at(at + 8 * w) >> down
        if down and 64 * w + 64 - bit % 64 < n:  # the next word is there to be read
            word |= word_at(at + 8 * w + 8) << _1 << (_63 - down)
        put_word(out + 8 * w, word)


# --- Products ---------------------------------------------------------------------------------


@inner()
def _before_vector(address: int, size: int) -> int:
    """Return how many elements are before the first whole vector at an aligned address.

    0 if there is none at one.
    """
    left = -address % _VECTOR
    return 0 if left % size else left // size


@cache
def _elements(size: int) -> Any:
    """Return a function that copies n elements of a size from one address to another."""

    @inner(size)
    def elements(source: int, step: int, target: int, target_step: int, n: int) -> None:
        if step == size and target_step == size:
            copy_bytes(source, target, n * size)
            return
        for i in range(n):
            copy_element(size, source + i * step, target + i * target_step)

    return elements


@cache
def _part(name: str, kind: str) -> Any:
    """Return a function that writes up to 512 elements at any distance, through buffers."""
    size, operands, elements = SIZES[name], OPERANDS[kind], _elements(SIZES[name])
    room_size = _PART * size

    @inner(name, kind)
    def part(
        keep: int, n: int, numbers: Any, x: int, x_step: int, u: int, u_step: int, v: int,
        v_step: int, out: int, out_step: int,
    ) -> None:  # fmt: skip
        scale, shift, dropped = numbers
        room = stack(room_size)
        a, b, c = room, room, room
        elements(x, x_step, a, size, n)
        if operands > 0:
            b = stack(room_size)
            elements(u, u_step, b, size, n)
        if operands > 1:
            c = stack(room_size)
            elements(v, v_step, c, size, n)
        for w in range((n + 63) // 64):
            at = w * 64 * size
            bits = word_at(keep + 8 * w)
            write_word(
                name, kind, 0, bits, scale, shift, dropped, a + at, b + at, c + at, room + at
            )
        elements(room, size, out, out_step, n)

    return part


@cache
def _run(name: str, past_caches: int) -> Any:
    """Return a function that writes contiguous elements under a block's words of bits."""
    size, part = SIZES[name], _part(name, "scale")

    @inner(name, past_caches)
    def run(keep: int, n: int, scale: float, x: int, out: int) -> None:
        numbers = scale, 0.0, 0.0
        head = 0
        if n >= 256:
            head = _before_vector(out, size)
        if head:
            part(keep, head, numbers, x, size, x, size, x, size, out, size)
        aligned = (out + head * size) % _VECTOR == 0
        up = np.uint64(head)
        words = (n - head) // 64
        for w in range(words):
            bits = word_at(keep + 8 * w) >> up
            if head:
                bits |= word_at(keep + 8 * w + 8) << _1 << (_63 - up)
            at = (head + 64 * w) * size
            if past_caches and aligned:
                write_word(
                    name, "scale", past_caches, bits, scale, 0.0, 0.0, x + at, x, x, out + at
                )
            else:
                write_word(name, "scale", 0, bits, scale, 0.0, 0.0, x + at, x, x, out + at)
        done = head + 64 * words
        if done < n:
            bits = stack(8)
            _shifted(keep, done, n - done, bits)
            x, out = x + done * size, out + done * size
            part(bits, n - done, numbers, x, size, x, size, x, size, out, size)

    return run


@cache
def _pipe(name: str, words: int, past_caches: int) -> Any:
    """Return a function that applies whole blocks to contiguous arrays, under Philox4x32.

    It makes the next block's words while it writes this one's elements. `words` is the
    length of a block's range; see `has_pipe`.
    """
    size, part = SIZES[name], _part(name, "scale")
    planes = min(words // _BLOCK_WORDS, PLANES)
    second, compare_until = int(planes == PLANES), _compare_until(planes)
    planes_at = 8 * (words - planes * _BLOCK_WORDS)
    side = min(SIDE, 3) if words == _RANGE_WORDS else SIDE  # so that no words are left
    batch = side * STEP
    # The first block has written a word already.
    batches, share = words // batch, (_BLOCK_WORDS - 1) // (words // batch)

    @inner(name, words, past_caches)
    def pipe(mask: Any, block: int, blocks: int, scale: float, x: int, out: int) -> None:
        fill, compare, key, draw, threshold = mask
        # A counter makes two words: an odd draw's blocks begin at the second one.
        odd = draw & 1
        wanted = words + odd
        ranges, compared = stack(_TWO_RANGES), stack(COMPARED_BYTES)
        run, bits = stack(RUN_BYTES), stack(8)
        numbers = scale, 0.0, 0.0
        first_bits = threshold >> (PRECISION - planes)
        random = ranges
        call_fill(fill, key, draw + block * words, words, random)
        if second:
            _call_compare(compare, threshold, random, 0, compared)
        random += planes_at
        ready = compare_until(1, 0, first_bits, random, compared)
        before, rank = keep_word(second, compared, 0, _0)
        word = 1
        head = _before_vector(out, size)
        if head:
            put_word(bits, before)
            part(bits, head, numbers, x, size, x, size, x, size, out, size)
        x, out = x + head * size, out + head * size
        for i in range(1, blocks):
            position = np.uint64(draw - odd + (block + i) * words)
            made, coming = 0, ranges + i % 2 * _RANGE_BYTES
            if run_left(position) >= wanted:
                start_run(key, position >> _1, run)
                low = np.int64(position >> _1 & _LOW32)
                for _ in range(batches):
                    ready = compare_until(word + share, ready, first_bits, random, compared)
                    before, rank = philox4x32_batch_and_words(
                        side, share, name, second, past_caches, run, low, coming + 8 * made,
                        compared, word, before, rank, head, scale, x, out,
                    )  # fmt: skip
                    word, x, out = word + share, x + share * 64 * size, out + share * 64 * size
                    low, made = low + batch // 2, made + batch
            if made < wanted:
                rest = position + np.uint64(made)
                call_fill(fill, key, rest, wanted - made, coming + 8 * made)
            compare_until(_BLOCK_WORDS, ready, first_bits, random, compared)
            while word < _BLOCK_WORDS:
                before, rank = write_kept(
                    name, second, past_caches, compared, word, before, rank, head, scale, x, out
                )
                word, x, out = word + 1, x + 64 * size, out + 64 * size
            random = coming + 8 * odd
            if second:
                _call_compare(compare, threshold, random, 0, compared)
            random += planes_at
            ready, word, rank = 0, 0, _0
        compare_until(_BLOCK_WORDS, ready, first_bits, random, compared)
        while word < _BLOCK_WORDS:
            before, rank = write_kept(
                name, second, past_caches, compared, word, before, rank, head, scale, x, out
            )
            word, x, out = word + 1, x + 64 * size, out + 64 * size
        put_word(bits, before >> np.uint64(head))
        part(bits, 64 - head, numbers, x, size, x, size, x, size, out, size)

    return pipe


@inner()
def _no_pipe(mask: Any, block: int, blocks: int, scale: float, x: int, out: int) -> None:
    pass


def has_pipe(name: str, words: int) -> bool:
    """Return whether there is a `_pipe` for a dtype and a length of blocks' ranges.

    There is none for other lengths, which few thresholds have.
    """
    pipes = (_BLOCK_WORDS, 2 * _BLOCK_WORDS, *[_RANGE_WORDS] * HAS_PDEP)
    return name in REAL and words in pipes


# --- Layouts ----------------------------------------------------------------------------------

# An axis of the arrays: its length, and the steps along it, in bytes but for the mask's, whose
# are elements.
AXIS: Final = ("length", "mask", "out", "x", "u", "v")


@inner()
def _row_bits(keep: int, bit: int, step: int, n: int, out: int) -> None:
    """Write the bits of n elements, `step` bits from one to the next."""
    if step == 1:
        _shifted(keep, bit, n, out)
        return
    for start in range(0, n, 64):
        word = _0
        for i in range(min(64, n - start)):
            at = bit + (start + i) * step
            word |= (word_at(keep + 8 * (at >> 6)) >> np.uint64(at & 63) & _1) << np.uint64(i)
        put_word(out + start // 8, word)


@cache
def _row(name: str, kind: str) -> Any:
    """Return a function that writes n elements of a row."""
    size, operands, part = SIZES[name], OPERANDS[kind], _part(name, kind)

    @inner(name, kind)
    def row(
        keep: int, bit: int, bit_step: int, n: int, numbers: Any, x: int, x_step: int, u: int,
        u_step: int, v: int, v_step: int, out: int, out_step: int,
    ) -> None:  # fmt: skip
        scale, shift, dropped = numbers
        bits = stack(_PART_BITS)
        even = x_step == size and out_step == size
        if operands > 0:
            even = even and u_step == size
        if operands > 1:
            even = even and v_step == size
        while n > 0:
            take = min(n, _PART)
            _row_bits(keep, bit, bit_step, take, bits)
            if even and take == _PART:
                for w in range(_PART // 64):
                    at, word = w * 64 * size, word_at(bits + 8 * w)
                    write_word(
                        name, kind, 0, word, scale, shift, dropped, x + at, u + at, v + at, out + at
                    )
            else:
                part(bits, take, numbers, x, x_step, u, u_step, v, v_step, out, out_step)
            n, bit = n - take, bit + take * bit_step
            x, out = x + take * x_step, out + take * out_step
            u, v = u + take * u_step, v + take * v_step

    return row


# --- Kernels ----------------------------------------------------------------------------------

# Numba's cache on disk knows a kernel by its file and by the constants that its function
# closes over. These tell it when a file that the kernel is made from has changed; a kernel
# mentions them and one of these functions by name, for the cache would not know a function
# that it closes over again.


def _apply(variant: Any, mask: Any, bounds: Any, arrays: Any) -> Any:
    """Apply blocks begin to end - 1 to contiguous arrays of elements first to stop - 1."""


@like(_apply, inline=True)
def _apply_of(variant: Any, mask: Any, bounds: Any, arrays: Any) -> Any:
    _, name, words, past_caches = (part.literal_value for part in variant)
    size, run = SIZES[name], _run(name, past_caches)
    pipe = _pipe(name, words, past_caches) if words else _no_pipe

    def apply(variant, mask, bounds, arrays):  # type: ignore[no-untyped-def]
        first, stop, begin, end = bounds
        scale, x, out = arrays
        keep, moved = stack(_KEEP_BYTES), stack(_KEEP_BYTES)
        at, stop = max(first, begin * BLOCK), min(stop, end * BLOCK)
        x, out = x + (at - first) * size, out + (at - first) * size
        while at < stop:
            block, low = at // BLOCK, at % BLOCK
            blocks = (stop - at) // BLOCK
            if words > 0 and low == 0 and blocks > 1:
                pipe(mask, block, blocks, scale, x, out)
                n = blocks * BLOCK
            else:
                n = min(BLOCK - low, stop - at)
                status = _block_bits(mask, block, low + n, keep)
                if status:
                    return status
                if low:
                    _shifted(keep, low, n, moved)
                    run(moved, n, scale, x, out)
                else:
                    run(keep, n, scale, x, out)
            at, x, out = at + n, x + n * size, out + n * size
        if past_caches:
            fence()
        return 0

    return named(apply, name, words, past_caches)


@inner()
def _bits(mask: Any, bounds: Any, out: int) -> int:
    """Write the bits of blocks begin to end - 1 to `out`, where those of `first` lie."""
    first, stop, begin, end = bounds
    for block in range(begin, end):
        n = min(stop - block * BLOCK, BLOCK)
        status = _block_bits(mask, block, n, out + (block * BLOCK - first) // 8)
        if status:
            return status
    return 0


def _walk(variant: Any, keep: Any, axes: Any, bounds: Any, numbers: Any, at: Any) -> Any:
    """Write elements begin to end - 1, counted along the axes, last axis first."""


@like(_walk)
def _walk_of(variant: Any, keep: Any, axes: Any, bounds: Any, numbers: Any, at: Any) -> Any:
    _, name, kind = (part.literal_value for part in variant)
    row = _row(name, kind)

    def walk(variant, keep, axes, bounds, numbers, at):  # type: ignore[no-untyped-def]
        (words, first), (element, end) = keep, bounds
        last = axes[-1]
        while element < end:
            start = element % last[0]
            n = min(last[0] - start, end - element)
            x, u, v, out = at
            rest, bit = element, first
            for axis in axes[::-1]:
                index = rest % axis[0]
                rest //= axis[0]
                bit += index * axis[1]
                out += index * axis[2]
                x += index * axis[3]
                u += index * axis[4]
                v += index * axis[5]
            row(words, bit, last[1], n, numbers, x, last[3], u, last[4], v, last[5], out, last[2])
            element += n
        return 0

    return named(walk, name, kind)


# --- Kernels' doors ---------------------------------------------------------------------------


class Kernel:
    """A function for one thread, and for several, each compiled at its first use.

    That for several takes their number before all other arguments.
    """

    def __init__(self, arguments: str, serial: Any, parallel: Any) -> None:
        self._arguments, self._serial, self._parallel = arguments, serial, parallel

    @cached_property
    def serial(self) -> Callable[..., int]:
        return entry(self._serial, f"int64({self._arguments})")

    @cached_property
    def parallel(self) -> Callable[..., int]:
        return entry(self._parallel, f"int64(int64, {self._arguments})")


_MASK: Final = "int64, int64, int64, int64, int64"  # see `apply_kernel`


@inner()
def _first_failure(statuses: Any) -> int:
    for status in statuses:
        if status:
            return status  # type: ignore[no-any-return]
    return 0


# In how many threads parallel loops run. Called from Python, Numba's functions for it take locks of
# its own, which a KeyboardInterrupt may leave locked, and in kernels they keep them from the cache.
_get_threads: Final = numba.types.ExternalFunction("get_num_threads", numba.intp())
_set_threads: Final = numba.types.ExternalFunction("set_num_threads", numba.void(numba.intp))


# What a call is quick with: whole numbers, and an array's `id` in place of the array.


@cache
def apply_kernel(name: str, words: int, past_caches: bool) -> Kernel:
    """Return the kernel that applies a mask to contiguous arrays.

    `words` is the length of a block's range if there is a pipeline for it, see `has_pipe`,
    and the stream is one of Philox4x32; else it is 0.

    It takes the mask (addresses of a `fastdrop_fill`, of the comparison and of the key, draw,
    threshold), first element, how many, scale, and the arrays' `id` s.
    """
    variant = SOURCES, name, words, int(past_caches)

    @kernel("apply", *variant[1:])
    def serial(
        fill: int, compare: int, key: int, draw: int, threshold: int, first: int, n: int,
        scale: float, x: int, out: int,
    ) -> int:  # fmt: skip
        mask = fill, compare, key, draw, threshold
        bounds = first, first + n, first // BLOCK, (first + n - 1) // BLOCK + 1
        return _apply(variant, mask, bounds, (scale, data_of(x), data_of(out)))  # type: ignore[no-any-return]

    @kernel("apply", *variant[1:], parallel=True)
    def parallel(
        threads: int, fill: int, compare: int, key: int, draw: int, threshold: int, first: int,
        n: int, scale: float, x: int, out: int,
    ) -> int:  # fmt: skip
        mask = fill, compare, key, draw, threshold
        arrays = scale, data_of(x), data_of(out)
        begin, end = first // BLOCK, (first + n - 1) // BLOCK + 1
        statuses = np.empty((end - begin + TASK_BLOCKS - 1) // TASK_BLOCKS, np.int64)
        before = _get_threads()
        _set_threads(threads)
        for task in numba.prange(statuses.size):
            low = begin + task * TASK_BLOCKS
            high = min(low + TASK_BLOCKS, end)
            statuses[task] = _apply(variant, mask, (first, first + n, low, high), arrays)
        _set_threads(before)
        return _first_failure(statuses)

    return Kernel(f"{_MASK}, int64, int64, float64, int64, int64", serial, parallel)


@cache
def bits_kernel() -> Kernel:
    """Return the kernel that writes words of keep bits, from a block's first element on.

    It takes the mask, first element, how many, and the `id` of the words' array.
    """
    sources = SOURCES

    @kernel("bits")
    def serial(
        fill: int, compare: int, key: int, draw: int, threshold: int, first: int, n: int, out: int
    ) -> int:
        sources  # noqa: B018
        mask = fill, compare, key, draw, threshold
        bounds = first, first + n, first // BLOCK, (first + n - 1) // BLOCK + 1
        return _bits(mask, bounds, data_of(out))

    @kernel("bits", parallel=True)
    def parallel(
        threads: int, fill: int, compare: int, key: int, draw: int, threshold: int, first: int,
        n: int, out: int,
    ) -> int:  # fmt: skip
        sources  # noqa: B018
        mask, words = (fill, compare, key, draw, threshold), data_of(out)
        begin, end = first // BLOCK, (first + n - 1) // BLOCK + 1
        statuses = np.empty((end - begin + TASK_BLOCKS - 1) // TASK_BLOCKS, np.int64)
        before = _get_threads()
        _set_threads(threads)
        for task in numba.prange(statuses.size):
            low = begin + task * TASK_BLOCKS
            high = min(low + TASK_BLOCKS, end)
            statuses[task] = _bits(mask, (first, first + n, low, high), words)
        _set_threads(before)
        return _first_failure(statuses)

    return Kernel(f"{_MASK}, int64, int64, int64", serial, parallel)


@cache
def walk_kernel(name: str, kind: str) -> Kernel:
    """Return the kernel that writes a form under bits that are given, in any layout.

    It takes the `id` of the bits' words, the first bit's number, the axes (int64, a column for
    each name in `AXIS`, the fastest last), scale, shift, dropped, and the `id` s of x, u, v
    and out.
    """
    variant = SOURCES, name, kind

    @kernel("walk", *variant[1:])
    def serial(
        keep: int, bit: int, axes: Any, scale: float, shift: float, dropped: float, x: int, u: int,
        v: int, out: int,
    ) -> int:  # fmt: skip
        size = 1
        for axis in axes:
            size *= axis[0]
        at = data_of(x), data_of(u), data_of(v), data_of(out)
        numbers = scale, shift, dropped
        return _walk(variant, (data_of(keep), bit), axes, (0, size), numbers, at)  # type: ignore[no-any-return]

    @kernel("walk", *variant[1:], parallel=True)
    def parallel(
        threads: int, keep: int, bit: int, axes: Any, scale: float, shift: float, dropped: float,
        x: int, u: int, v: int, out: int,
    ) -> int:  # fmt: skip
        size = 1
        for axis in axes:
            size *= axis[0]
        at = data_of(x), data_of(u), data_of(v), data_of(out)
        bits, numbers = (data_of(keep), bit), (scale, shift, dropped)
        step = TASK_BLOCKS * BLOCK
        before = _get_threads()
        _set_threads(threads)
        for task in numba.prange((size + step - 1) // step):
            low = task * step
            _walk(variant, bits, axes, (low, min(low + step, size)), numbers, at)
        _set_threads(before)
        return 0

    numbers, ids = "float64, float64, float64", "int64, int64, int64, int64"
    return Kernel(f"int64, int64, int64[:, ::1], {numbers}, {ids}", serial, parallel)
