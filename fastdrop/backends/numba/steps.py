"""What Numba's kernels do to whole vectors: random words, keep bits, forms, noise.

All of it is unrolled where a kernel is compiled. Constants choose the dtype and the form.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from llvmlite import ir

from ..._formulas.normal import levels, of_levels, with_noise
from ...mask_format import BLOCK, REFINE_WORDS
from ...rng.philox4x32 import MULTIPLIERS, ROUNDS
from ..form import OPERANDS, formed
from .compiling import NOTHING, PAIR, WORD, emitted
from .elements import DTYPES
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
    in_place,
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

# --- Philox4x32-10 ----------------------------------------------------------------------------

SIDE: Final = 4 if HAS_AVX512 else 1  # vectors of counters side by side: as many as registers hold
STEP: Final = 2 * _LANES  # words of one vector's counters
LATER_ROUNDS: Final = ROUNDS - 2  # after those in which half of the numbers differ in no lane
RUN_BYTES: Final = 8 * (3 + 2 * LATER_ROUNDS)  # what a run's counters share, by `start_run`

_M0, _M1 = MULTIPLIERS
_LOW32: Final = 0xFFFFFFFF
_PAIR_ORDER: Final = [0, 4, 1, 5, 2, 6, 3, 7]  # lanes' counters, so that `end` shuffles in 128 bits


def _times(numbers: Value, multiplier: int) -> Value:
    """Return products of lanes' low halves; what their high halves hold does not matter."""
    return (numbers & _LOW32) * multiplier


class _Philox:
    """Counters' numbers: a 32-bit number in each lane's low half, and junk in its high half."""

    def __init__(self, run: Value, low: Value, side: int) -> None:
        self.run, self.side = run, side
        self.x0: list[Value] = []
        self.x1: list[Value] = []
        self.x2: list[Value] = []
        self.x3: list[Value] = []
        for i in range(side):
            order = run.constant(_PAIR_ORDER, _WORDS)
            a = _times(order + (low + i * _LANES), _M0)
            b = _times(a >> 32 ^ self._shared(0), _M1)
            self.x0.append(b >> 32 ^ self._shared(1))
            self.x1.append(b)
            self.x2.append(a ^ self._shared(2))
            self.x3.append(a.constant(0))  # the same number in all lanes, and part of the key

    def _shared(self, n: int) -> Value:
        return load(I64, self.run + 8 * n)

    def round(self, number: int) -> None:
        k0, k1 = self._shared(3 + 2 * number), self._shared(4 + 2 * number)
        for i in range(self.side):
            a, b = _times(self.x0[i], _M0), _times(self.x2[i], _M1)
            self.x0[i] = b >> 32 ^ self.x1[i] ^ k0
            self.x2[i] = a >> 32 ^ self.x3[i] ^ k1
            self.x1[i], self.x3[i] = b, a

    def made_here(self) -> None:
        """Have the rounds so far made before what comes next is written."""
        made = in_place(self.x0 + self.x2)
        self.x0, self.x2 = made[: self.side], made[self.side :]

    def end(self, out: Value) -> None:
        for i in range(self.side):
            first = self.x0[i] & _LOW32 | self.x1[i] << 32
            second = self.x2[i] & _LOW32 | self.x3[i] << 32
            at = out + i * 2 * _BYTES
            store(first.shuffle(second, [0, 8, 2, 10, 4, 12, 6, 14]), at)
            store(first.shuffle(second, [1, 9, 3, 11, 5, 13, 7, 15]), at + _BYTES)


@emitted(NOTHING)
def philox4x32_batch(_: Value, side: int, run: Value, low: Value, out: Value) -> None:
    """Write the words of STEP / 2 * side counters whose lower half begins at `low`."""
    lanes = _Philox(run, low, side)
    for number in range(LATER_ROUNDS):
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
def philox4x32_batch_and_words(
    _: Value, side: int, words: int, name: str, second: int, past_caches: int, run: Value,
    low: Value, random: Value, compared: Value, word: Value, before: Value, rank: Value,
    head: Value, scale: Value, x: Value, out: Value,
) -> tuple[Value, Value]:  # fmt: skip
    """Make a batch of random words, and write elements of `words` keep words between its rounds.

    Making words keeps the vector units busy, and moving elements the memory. One after the
    other they add up: the processor looks ahead some hundred instructions, and a block
    takes thousands. Returns the last word of keep bits, and `rank` for the next.

    Vectors go to x and out, `head` elements behind word number `word` - 1 of the mask.
    """
    lanes = _Philox(run, low, side)
    size = DTYPES[name].size
    for number in range(LATER_ROUNDS):
        lanes.round(number)
        lanes.made_here()
        for n in range(words * number // LATER_ROUNDS, words * (number + 1) // LATER_ROUNDS):
            at = n * 64 * size
            before, rank = _write_kept(
                name, second, past_caches, compared, word + n, before, rank, head, scale,
                x + at, out + at,
            )  # fmt: skip
    lanes.end(random)
    return before, rank
