"""Dropout of contiguous arrays: block by block, each one's words before or between elements."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np

from ...mask_format import BLOCK, PLANES, PRECISION
from .blocks import (
    BLOCK_WORDS,
    RANGE_BYTES,
    RANGE_WORDS,
    block_bits,
    call_compare,
    compare_until_of,
    shifted,
)
from .compiling import inner, like, named
from .elements import REAL, SIZES
from .generators import call_fill
from .memory import fence, put_word, stack, word_at
from .pairs import PAIRS
from .parts import part_of
from .steps import COMPARED_BYTES, batch_and_words, keep_word, write_kept, write_word
from .vector import BITS, HAS_PDEP

# Bytes.
_VECTOR: Final = BITS // 8
_TWO_RANGES: Final = 2 * RANGE_BYTES
_KEEP_BYTES: Final = BLOCK // 8

_0, _1, _63 = (np.uint64(n) for n in (0, 1, 63))


@inner()
def _before_vector(address: int, size: int) -> int:
    """Return how many elements are before the first whole vector at an aligned address.

    0 if there is none at one.
    """
    left = -address % _VECTOR
    return 0 if left % size else left // size


@cache
def _run(name: str, past_caches: int) -> Any:
    """Return a function that writes contiguous elements under a block's words of bits."""
    size, part = SIZES[name], part_of(name, "scale")

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
            shifted(keep, done, n - done, bits)
            x, out = x + done * size, out + done * size
            part(bits, n - done, numbers, x, size, x, size, x, size, out, size)

    return run


@cache
def _pipe(name: str, generator: str, words: int, past_caches: int) -> Any:
    """Return a function that applies whole blocks to contiguous arrays, under a generator's masks.

    It makes the next block's words while it writes this one's elements. `words` is the
    length of a block's range; see `has_pipe`.
    """
    size, part = SIZES[name], part_of(name, "scale")
    planes = min(words // BLOCK_WORDS, PLANES)
    second, compare_until = int(planes == PLANES), compare_until_of(planes)
    planes_at = 8 * (words - planes * BLOCK_WORDS)
    lanes, start, left_of = PAIRS[generator]
    side = lanes.side_of_all if words == RANGE_WORDS else lanes.side_of_few
    batch, run_bytes = side * lanes.step, lanes.run_bytes
    # The first block has written a word already.
    batches, share = words // batch, (BLOCK_WORDS - 1) // (words // batch)

    @inner(name, generator, words, past_caches)
    def pipe(mask: Any, block: int, blocks: int, scale: float, x: int, out: int) -> None:
        fill, key, draw, compare, threshold = mask
        # A counter makes two words: an odd draw's blocks begin at the second one.
        odd = draw & 1
        wanted = words + odd
        ranges, compared = stack(_TWO_RANGES), stack(COMPARED_BYTES)
        run, bits = stack(run_bytes), stack(8)
        numbers = scale, 0.0, 0.0
        first_bits = threshold >> (PRECISION - planes)
        random = ranges
        call_fill(fill, key, draw + block * words, words, random)
        if second:
            call_compare(compare, threshold, random, 0, compared)
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
            made, coming = 0, ranges + i % 2 * RANGE_BYTES
            if left_of(position) >= wanted:
                counter = position >> _1
                start(key, counter, run)
                for _ in range(batches):
                    ready = compare_until(word + share, ready, first_bits, random, compared)
                    before, rank = batch_and_words(
                        generator, side, share, name, second, past_caches, run, counter,
                        coming + 8 * made, compared, word, before, rank, head, scale, x, out,
                    )  # fmt: skip
                    word, x, out = word + share, x + share * 64 * size, out + share * 64 * size
                    counter, made = counter + np.uint64(batch // 2), made + batch
            if made < wanted:
                rest = position + np.uint64(made)
                call_fill(fill, key, rest, wanted - made, coming + 8 * made)
            compare_until(BLOCK_WORDS, ready, first_bits, random, compared)
            while word < BLOCK_WORDS:
                before, rank = write_kept(
                    name, second, past_caches, compared, word, before, rank, head, scale, x, out
                )
                word, x, out = word + 1, x + 64 * size, out + 64 * size
            random = coming + 8 * odd
            if second:
                call_compare(compare, threshold, random, 0, compared)
            random += planes_at
            ready, word, rank = 0, 0, _0
        compare_until(BLOCK_WORDS, ready, first_bits, random, compared)
        while word < BLOCK_WORDS:
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


def has_pipe(name: str, generator: str, words: int) -> bool:
    """Return whether there is a `_pipe` for a dtype, a generator and a length of blocks' ranges.

    There is none for other lengths, which few thresholds have.
    """
    pipes = (BLOCK_WORDS, 2 * BLOCK_WORDS, *[RANGE_WORDS] * HAS_PDEP)
    return (
        name in REAL and generator in PAIRS and PAIRS[generator].lanes.has_pipe and words in pipes
    )


def apply(variant: Any, mask: Any, bounds: Any, arrays: Any) -> Any:
    """Apply blocks begin to end - 1 to contiguous arrays of elements first to stop - 1."""


@like(apply, inline=True)
def _apply_of(variant: Any, mask: Any, bounds: Any, arrays: Any) -> Any:
    name, generator, words, past_caches = (part.literal_value for part in variant)
    size, run = SIZES[name], _run(name, past_caches)
    pipe = _pipe(name, generator, words, past_caches) if words else _no_pipe

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
                status = block_bits(mask, block, low + n, keep)
                if status:
                    return status
                if low:
                    shifted(keep, low, n, moved)
                    run(moved, n, scale, x, out)
                else:
                    run(keep, n, scale, x, out)
            at, x, out = at + n, x + n * size, out + n * size
        if past_caches:
            fence()
        return 0

    return named(apply, name, generator, words, past_caches)
