"""What Numba's kernels do to whole vectors: random words, keep bits, forms, noise.

All of it is unrolled where a kernel is compiled. Constants choose the dtype and the form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir

from ..._formulas.normal import levels, of_levels, with_noise
from ...mask_format import BLOCK, REFINE_WORDS
from ..form import OPERANDS, formed
from .compiling import NOTHING, PAIR, WORD, emitted
from .elements import DTYPES
from .pairs import PAIRS
from .vector import (
    BITS,
    DTYPE_OF,
    F32,
    HAS_AVX512,
    I1,
    I32,
    I64,
    Value,
    deposit,
    hidden,
    load,
    prefetch,
    store,
    vector,
)

_BYTES: Final = BITS // 8
_AHEAD: Final = 2048  # bytes to ask memory for before they are read
NOISE_STEP: Final = 32  # elements: a vector of those of half precision
_LANES: Final = BITS // 64
_WORDS: Final = vector(I64)

# --- Random words -----------------------------------------------------------------------------


@emitted(NOTHING)
def write_batch(
    _: Value, generator: str, side: int, run: Value, counter: Value, out: Value
) -> None:
    """Write the words of so many vectors of counters, this one the first."""
    lanes = PAIRS[generator].lanes(run, counter, side)
    for number in range(lanes.rounds):
        lanes.round(number)
    lanes.end(out)


# --- Keep bits --------------------------------------------------------------------------------

# Where the comparison of a block's numbers with the threshold lies: words below, words equal,
# the second planes' strip, and its first word again, since 64 bits start at any of its bits.
LESS: Final = 0
EQUAL: Final = BLOCK // 8
SECOND: Final = 2 * EQUAL
COMPARED_BYTES: Final = SECOND + 2 * _BYTES


@emitted(NOTHING)
def compare_strip(
    anchor: Value, planes: int, random: Value, threshold: Value, less: Value, equal: Value
) -> None:
    """Compare a strip's numbers with as many bits of the threshold, the lowest ones.

    The last plane comes first: whatever later planes said stands only where a
    plane's bit equals the threshold's.
    """
    below = anchor.constant(0, _WORDS)
    same = ~below
    for j in range(planes - 1, -1, -1):
        t = anchor.constant(0) - (threshold >> (planes - 1 - j) & 1)
        not_u = ~load(_WORDS, random + j * _BYTES)
        below = below & not_u | (below | not_u) & t
        same = same & (not_u ^ t)
    store(below, less)
    store(same, equal)


@emitted(WORD)
def numbers_below(_: Value, numbers: Value, limit: Value) -> Value:
    """Return a bit for each of the block's 32 numbers, of 32 bits: whether it is below a limit."""
    below = numbers.constant(0)
    for at in range(0, 2 * REFINE_WORDS, 2 * _LANES):
        limits = limit.narrow(I32).spread(2 * _LANES)
        less = load(vector(I32), numbers + 4 * at) < limits
        below = below | less.bitcast(ir.IntType(2 * _LANES)).widen(I64) << at
    return below


def _keep_word(compared: Value, second: bool, word: Value, rank: Value) -> tuple[Value, Value]:
    """Return a word of keep bits, and how many undecided elements are before the next one."""
    less = load(I64, compared + LESS + word * 8)
    if not second:
        return less, rank
    equal = load(I64, compared + EQUAL + word * 8)
    columns = compared + SECOND + (rank >> 3 & 8 * (_LANES - 1))
    down = rank & 63
    # Shifted twice, for a shift by 64 is none; hidden, for LLVM would make one instruction of all
    # this that is slow on some processors.
    bits = load(I64, columns) >> down | load(I64, columns + 8) << 1 << hidden(down ^ 63)
    return less | deposit(bits, equal), rank + equal.ones()


@emitted(PAIR)
def keep_word(
    _: Value, second: int, compared: Value, word: Value, rank: Value
) -> tuple[Value, Value]:
    """Return a word of a block's keep bits, and `rank` for the next word.

    The words come in order: `rank` counts the undecided elements before this one, and the
    r-th of them takes column r of the second planes. Needs HAS_PDEP if there are second planes.
    """
    return _keep_word(compared, bool(second), word, rank)


# --- Forms and noise --------------------------------------------------------------------------


class Elements:
    """Elements of a dtype by vectors, and numbers in all lanes of such a vector."""

    def __init__(self, name: str) -> None:
        self.dtype = DTYPES[name]
        self.number = vector(self.dtype.number)
        self.lanes = self.number.count
        self.step = self.lanes // self.dtype.share  # elements of a vector

    def spread(self, number: Any) -> Any:
        """Return a number of double precision in the type that is computed in, in all lanes."""
        if not isinstance(number, Value):
            return number
        return (number.narrow(F32) if self.dtype.number == F32 else number).spread(self.lanes)

    def kept(self, bits: Value) -> Value:
        """Return for each lane whether its element is kept; lanes of one element share a bit."""
        if self.dtype.share == 1:
            return bits.narrow(ir.IntType(self.lanes)).bitcast(ir.VectorType(I1, self.lanes))
        word = bits.narrow(I32) if self.dtype.number == F32 else bits
        of_lane = [1 << i // self.dtype.share for i in range(self.lanes)]
        return (word.spread(self.lanes) & of_lane).is_set()

    def write(
        self, count: int, inputs: list[Value], out: Value, past_caches: bool,
        evaluate: Callable[..., Value],
    ) -> None:  # fmt: skip
        """Write elements: what `evaluate` returns for the first one's number and inputs."""
        size, stored = self.dtype.size, self.dtype.stored
        loaded = ir.VectorType(stored, self.lanes) if stored else self.number
        waiting: list[Value] = []  # vectors that are half as long in memory
        for first in range(0, count, self.step):
            values = [self.dtype.read(load(loaded, a + first * size)) for a in inputs]
            made = self.dtype.write(evaluate(first, *values))
            at = out + first * size
            if self.step * size == _BYTES:
                store(made, at, past_caches)
            elif waiting:
                both = waiting.pop().shuffle(made, range(2 * self.lanes))
                store(both, at - _BYTES // 2, past_caches)
            else:
                waiting.append(made)


def _write_word(
    name: str, kind: str, past_caches: bool, bits: Value, numbers: list[Any], inputs: list[Value],
    out: Value,
) -> None:  # fmt: skip
    """Write a form of 64 elements, given its scale, shift and dropped."""
    elements = Elements(name)
    spread = [elements.spread(number) for number in numbers]

    def evaluate(first: int, x: Value, *operands: Value) -> Value:
        made: Value = formed(kind, elements.kept(bits >> first), x, operands, *spread)
        return made

    elements.write(64, inputs, out, past_caches, evaluate)


@emitted(NOTHING)
def write_word(
    _: Value, name: str, kind: str, past_caches: int, bits: Value, scale: Value, shift: Value,
    dropped: Value, x: Value, u: Value, v: Value, out: Value,
) -> None:  # fmt: skip
    """Write a form of 64 elements; u and v, its operands, are looked at if it has as many."""
    inputs = [x, u, v][: 1 + OPERANDS[kind]]
    _write_word(name, kind, bool(past_caches), bits, [scale, shift, dropped], inputs, out)


@emitted(PAIR)
def write_kept(
    _: Value, name: str, second: int, past_caches: int, compared: Value, word: Value,
    before: Value, rank: Value, head: Value, scale: Value, x: Value, out: Value,
) -> tuple[Value, Value]:  # fmt: skip
    """Write 64 elements, `head` elements behind keep word number `word` - 1, which is `before`.

    Returns keep word number `word`, and `rank` for the next one: see `keep_word`.
    """
    return _write_kept(name, second, past_caches, compared, word, before, rank, head, scale, x, out)


def _write_kept(
    name: str, second: int, past_caches: int, compared: Value, word: Value, before: Value,
    rank: Value, head: Value, scale: Value, x: Value, out: Value,
) -> tuple[Value, Value]:  # fmt: skip
    now, rank = _keep_word(compared, bool(second), word, rank)
    # Shifted twice, for a shift by 64 is none.
    bits = before >> head | now << 1 << (head ^ 63)
    if past_caches and not HAS_AVX512:  # see `ask_ahead` in pipeline.h
        for line in range(0, 64 * DTYPES[name].size, 64):
            prefetch(x + (_AHEAD + line))
    _write_word(name, "scale", bool(past_caches), bits, [scale, 0.0, 0.0], [x], out)
    return now, rank


@emitted(NOTHING)
def write_levels(_: Value, name: str, words: Value, out: Value) -> None:
    """Write the first part of NOISE_STEP variates; `out` may be the words' own place."""
    elements = Elements(name)
    loaded, dtype = ir.VectorType(I64, elements.lanes), DTYPE_OF[elements.dtype.number]
    for first in range(0, NOISE_STEP, elements.lanes):
        word: Any = load(loaded, words + 8 * first)
        level: Any = levels(word, dtype)
        store(level, out + first * dtype.itemsize)


@emitted(NOTHING)
def write_noise(
    _: Value, name: str, factor: int, signed: Value, spread: Value, x: Value, out: Value
) -> None:
    """Write NOISE_STEP elements with noise, from what `write_levels` has written."""
    elements = Elements(name)
    in_lanes = elements.spread(spread)

    def evaluate(first: int, x: Any) -> Any:
        level: Any = load(elements.number, signed + first * x.itemsize)
        return with_noise(bool(factor), in_lanes, x, of_levels(level))

    elements.write(NOISE_STEP, [x], out, False, evaluate)


# --- Both at once -----------------------------------------------------------------------------


@emitted(PAIR)
def batch_and_words(
    _: Value, generator: str, side: int, words: int, name: str, second: int, past_caches: int,
    run: Value, counter: Value, random: Value, compared: Value, word: Value, before: Value,
    rank: Value, head: Value, scale: Value, x: Value, out: Value,
) -> tuple[Value, Value]:  # fmt: skip
    """Make a batch of random words, and write elements of `words` keep words between its rounds.

    Making words keeps the vector units busy, and moving elements the memory. One after the
    other they add up: the processor looks ahead some hundred instructions, and a block
    takes thousands. Returns the last word of keep bits, and `rank` for the next.

    Vectors go to x and out, `head` elements behind word number `word` - 1 of the mask.
    """
    lanes = PAIRS[generator].lanes(run, counter, side)
    size, rounds = DTYPES[name].size, lanes.rounds
    for number in range(rounds):
        lanes.round(number)
        lanes.made_here()
        for n in range(words * number // rounds, words * (number + 1) // rounds):
            at = n * 64 * size
            before, rank = _write_kept(
                name, second, past_caches, compared, word + n, before, rank, head, scale,
                x + at, out + at,
            )  # fmt: skip
    lanes.end(random)
    return before, rank
