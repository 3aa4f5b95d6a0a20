"""What Numba's kernels do to whole vectors: random words, keep bits, products.

All of it is unrolled where a kernel is compiled. Constants choose the dtype and the form.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from llvmlite import ir

from ...mask_format import BLOCK, REFINE_WORDS
from .vector import (
    BITS,
    F16,
    F32,
    F64,
    HAS_AVX512,
    HAS_F16C,
    I16,
    I32,
    I64,
    NOTHING,
    PAIR,
    WORD,
    Value,
    deposit,
    emitted,
    hidden,
    in_place,
    load,
    prefetch,
    store,
    vector,
)

_BYTES: Final = BITS // 8
_AHEAD: Final = 2048  # bytes to ask memory for before they are read
_LANES: Final = BITS // 64
_WORDS: Final = vector(I64)

# --- Philox4x32-10 ----------------------------------------------------------------------------

SIDE: Final = 4 if HAS_AVX512 else 1  # vectors of counters side by side: as many as registers hold
STEP: Final = 2 * _LANES  # words of one vector's counters
ROUNDS: Final = 8  # after the first two, in which half of the numbers differ in no lane
RUN_BYTES: Final = 8 * (3 + 2 * ROUNDS)  # what all counters of a run share, made by `start_run`

_M0, _M1 = 0xD2511F53, 0xCD9E8D57
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
    for number in range(ROUNDS):
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
        less = load(vector(I32), numbers + 4 * at).compare("<", limits)
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


# --- Products ---------------------------------------------------------------------------------


def _same(value: Value) -> Value:
    return value


def _from_half(half: Value) -> Value:
    wide = half.widen(I32)
    sign, magnitude = (wide & 0x8000) << 16, wide & 0x7FFF
    # The exponent's offset goes from 15 to 127, that of infinities and NaN from 31 to 255.
    offset = magnitude.compare(">=", 0x7C00).choose(wide.constant(0x70000000), 0x38000000)
    subnormal = (magnitude.to_float() * 2.0**-24).bitcast(wide.type)
    normal = (magnitude << 13) + offset
    return (sign | magnitude.compare("<", 0x400).choose(subnormal, normal)).bitcast(vector(F32))


def _to_half(number: Value) -> Value:
    bits = number.bitcast(vector(I32))
    sign, magnitude = bits >> 16 & 0x8000, bits & 0x7FFFFFFF
    normal = magnitude + 0xFFF - 0x38000000 + (magnitude >> 13 & 1) >> 13
    # The sum's unit in the last place is the smallest subnormal: the addition rounds.
    subnormal = (magnitude.bitcast(number.type) + 0.5).bitcast(bits.type) - 0x3F000000
    finite = magnitude.compare("<", 0x38800000).choose(subnormal, normal)
    nan = magnitude >> 13 & 0x3FF | 0x7E00
    large = magnitude.compare(">", 0x7F800000).choose(nan, 0x7C00)
    return (magnitude.compare(">=", 0x477FF000).choose(large, finite) | sign).narrow(I16)


def _from_half_f16c(half: Value) -> Value:
    return half.bitcast(ir.VectorType(F16, half.lanes)).widen(F32)


def _to_half_f16c(number: Value) -> Value:
    return number.narrow(F16).bitcast(ir.VectorType(I16, number.lanes))


def _from_bfloat16(brain: Value) -> Value:
    return (brain.widen(I32) << 16).bitcast(vector(F32))


def _to_bfloat16(number: Value) -> Value:
    bits = number.bitcast(vector(I32))
    rounded = bits + 0x7FFF + (bits >> 16 & 1)
    # NaN keeps its upper bits: rounding could carry it over into the sign.
    return (number.is_nan().choose(bits | 0x400000, rounded) >> 16).narrow(I16)


@dataclass(frozen=True)
class _DType:
    """How elements become numbers to compute with, and back."""

    size: int  # bytes of an element
    number: Any  # the type computed in
    share: int = 1  # numbers of an element
    stored: Any = None  # the type in memory, if it is another
    read: Callable[[Value], Value] = _same
    write: Callable[[Value], Value] = _same


_HALF: Final = (_from_half_f16c, _to_half_f16c) if HAS_F16C else (_from_half, _to_half)
_DTYPES: Final = {
    "float16": _DType(2, F32, 1, I16, *_HALF),
    "bfloat16": _DType(2, F32, 1, I16, _from_bfloat16, _to_bfloat16),
    "float32": _DType(4, F32),
    "float64": _DType(8, F64),
    "complex64": _DType(8, F32, 2),
    "complex128": _DType(16, F64, 2),
}
# Elements of one number: those of others take so many instructions that compiling them would
# take longest, and so long to move that they need no pipeline.
REAL: Final = tuple(name for name, dtype in _DTYPES.items() if dtype.share == 1)
SIZES: Final = {name: dtype.size for name, dtype in _DTYPES.items()}


def _kept(bits: Value, lanes: int, share: int) -> Value:
    """Return for each lane whether its element is kept; `share` lanes are one element."""
    if share == 1:
        return bits.narrow(ir.IntType(lanes)).bitcast(ir.VectorType(ir.IntType(1), lanes))
    word = bits.narrow(ir.IntType(BITS // lanes)) if BITS // lanes < 64 else bits
    return (word.spread(lanes) & [1 << i // share for i in range(lanes)]).compare("!=", 0)


class _Numbers:
    """The numbers of an operation, in the type that it computes in."""

    def __init__(self, dtype: _DType, scale: Value, shift: Any = 0.0, dropped: Any = 0.0) -> None:
        lanes = vector(dtype.number).count
        self.scale, self.shift, self.dropped = (
            number
            if not isinstance(number, Value)
            else (number.narrow(F32) if dtype.number == F32 else number).spread(lanes)
            for number in (scale, shift, dropped)
        )


# kind: a vector of results, from x, the operands, whether each lane is kept, and the numbers.
# The steps and their order are those of `fastdrop.backends.form`.
_FORMS: Final[dict[str, tuple[int, Callable[..., Value]]]] = {
    "scale": (0, lambda kept, n, x: kept.choose(x * n.scale, 0)),
    "affine": (0, lambda kept, n, x: kept.choose(x * n.scale + n.shift, n.dropped)),
    "add": (1, lambda kept, n, x, residual: kept.choose(x * n.scale, 0) + residual),
    "bias": (1, lambda kept, n, x, bias: kept.choose((x + bias) * n.scale, 0)),
    "bias_add": (
        2,
        lambda kept, n, x, bias, residual: kept.choose((x + bias) * n.scale, 0) + residual,
    ),
    "relu": (0, lambda kept, n, x: _where_positive(kept.choose(x * n.scale, 0), x)),
    "relu_grad": (1, lambda kept, n, grad, x: _where_positive(kept.choose(grad * n.scale, 0), x)),
}
OPERANDS: Final = {kind: operands for kind, (operands, _) in _FORMS.items()}


def _where_positive(value: Value, x: Value) -> Value:
    return x.compare("<=", 0).choose(x.constant(0), value)


def _write_word(
    dtype: _DType, kind: str, past_caches: bool, bits: Value, n: _Numbers, inputs: list[Value],
    out: Value,
) -> None:  # fmt: skip
    """Write 64 elements."""
    number = vector(dtype.number)
    lanes = number.count
    stored = ir.VectorType(dtype.stored, lanes) if dtype.stored else number
    step = lanes // dtype.share  # elements of a vector
    evaluate = _FORMS[kind][1]
    waiting: list[Value] = []  # vectors of half the width
    for first in range(0, 64, step):
        values = [dtype.read(load(stored, address + first * dtype.size)) for address in inputs]
        made = dtype.write(evaluate(_kept(bits >> first, lanes, dtype.share), n, *values))
        at = out + first * dtype.size
        if step * dtype.size == _BYTES:
            store(made, at, past_caches)
        elif waiting:
            both = waiting.pop().shuffle(made, range(2 * lanes))
            store(both, at - _BYTES // 2, past_caches)
        else:
            waiting.append(made)


@emitted(NOTHING)
def write_word(
    _: Value, name: str, kind: str, past_caches: int, bits: Value, scale: Value, shift: Value,
    dropped: Value, x: Value, u: Value, v: Value, out: Value,
) -> None:  # fmt: skip
    """Write a form of 64 elements; u and v, its operands, are looked at if it has as many."""
    dtype = _DTYPES[name]
    numbers = _Numbers(dtype, scale, shift, dropped)
    inputs = [x, u, v][: 1 + OPERANDS[kind]]
    _write_word(dtype, kind, bool(past_caches), bits, numbers, inputs, out)


@emitted(PAIR)
def write_kept(
    _: Value, name: str, second: int, past_caches: int, compared: Value, word: Value,
    before: Value, rank: Value, head: Value, scale: Value, x: Value, out: Value,
) -> tuple[Value, Value]:  # fmt: skip
    """Write 64 elements, `head` elements behind keep word number `word` - 1, which is `before`.

    Returns keep word number `word`, and `rank` for the next one: see `keep_word`.
    """
    dtype = _DTYPES[name]
    return _write_kept(
        dtype, second, past_caches, compared, word, before, rank, head, _Numbers(dtype, scale),
        x, out,
    )  # fmt: skip


def _write_kept(
    dtype: _DType, second: int, past_caches: int, compared: Value, word: Value, before: Value,
    rank: Value, head: Value, numbers: _Numbers, x: Value, out: Value,
) -> tuple[Value, Value]:  # fmt: skip
    now, rank = _keep_word(compared, bool(second), word, rank)
    # Shifted twice, for a shift by 64 is none.
    bits = before >> head | now << 1 << (head ^ 63)
    if past_caches and not HAS_AVX512:  # see `ask_ahead` in pipeline.h
        for line in range(0, 64 * dtype.size, 64):
            prefetch(x + (_AHEAD + line))
    _write_word(dtype, "scale", bool(past_caches), bits, numbers, [x], out)
    return now, rank


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
    dtype = _DTYPES[name]
    numbers = _Numbers(dtype, scale)
    for number in range(ROUNDS):
        lanes.round(number)
        lanes.made_here()
        for n in range(words * number // ROUNDS, words * (number + 1) // ROUNDS):
            at = n * 64 * dtype.size
            before, rank = _write_kept(
                dtype, second, past_caches, compared, word + n, before, rank, head, numbers,
                x + at, out + at,
            )  # fmt: skip
    lanes.end(random)
    return before, rank
