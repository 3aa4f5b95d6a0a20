"""Mask format 2 compiled by Numba: random words in, keep bits, products out.

One file, because Numba's cache notices changes of the file that a function is
in, and not of the functions it calls: split in two, it would run stale code.

Numba turns uint64 with int64 into float64, hence the typed constants.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, TypeVar

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic as _untyped_intrinsic
from numba.extending import overload as _untyped_overload
from numpy.typing import NDArray

from ..mask_format import BLOCK, COLUMNS, PLANES, REFINE_WORDS, SECOND_PLANES, STRIP

Words = NDArray[np.uint64]
Word = Any  # np.uint64: NumPy's own types would have mypy want a cast for each shift
F = TypeVar("F", bound=Callable[..., Any])


def _njit(parallel: bool = False, inline: bool = False) -> Callable[[F], F]:
    options = {"nogil": True, "parallel": parallel, "forceinline": inline}

    def compiled(function: F) -> F:
        try:
            return numba.njit(cache=True, **options)(function)  # type: ignore[no-any-return]
        except RuntimeError:  # no directory that the cache could be written to
            return numba.njit(**options)(function)  # type: ignore[no-any-return]

    return compiled


def _intrinsic(function: F) -> F:
    return _untyped_intrinsic(function)  # type: ignore[no-any-return]


def _overload(function: Callable[..., Any]) -> Callable[[F], F]:
    return _untyped_overload(function, strict=False)  # type: ignore[no-any-return]


# What a mask is to the kernels: a uint64 array with these fields.
KIND, FILL, KEY, DRAW, THRESHOLD, FIRST, SECOND, REFINES, RANGE = range(9)

# Kinds of RNG: those with a twin here, those called through an address.
PHILOX4X32, PHILOX, PCG64, COMPILED, SEQUENTIAL = range(5)

TASK_BLOCKS: Final = 16  # blocks that one thread takes at once

_BLOCK_WORDS: Final = BLOCK // 64
_STRIP_WORDS: Final = STRIP // 64
_COLUMN_WORDS: Final = COLUMNS // 64
_RANGE_WORDS: Final = SECOND_PLANES * _COLUMN_WORDS + REFINE_WORDS + PLANES * _BLOCK_WORDS

_0, _1, _32, _58, _63 = (np.uint64(n) for n in (0, 1, 32, 58, 63))
_LOW32: Final = np.uint64(0xFFFFFFFF)
_ALL: Final = np.uint64(0xFFFFFFFFFFFFFFFF)


# --- Addresses, and 128-bit products: what Numba has no words for ---------------------------


@_intrinsic
def _pointer(context: Any, address: Any, like: Any) -> Any:
    """Return an address as a pointer to values of `like`'s type."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        return builder.inttoptr(arguments[0], context.get_value_type(signature.return_type))

    return types.CPointer(like)(types.uint64, like), code


@_intrinsic
def _call_fill(context: Any, fill: Any, key: Any, position: Any, n: Any, out: Any) -> Any:
    """Call the `fastdrop_fill` at an address."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        i32, i64 = ir.IntType(32), ir.IntType(64)
        function = ir.FunctionType(i32, [i64] * 4).as_pointer()
        return builder.call(builder.inttoptr(arguments[0], function), arguments[1:])

    return types.int32(*[types.uint64] * 5), code


@_intrinsic
def _call_next(context: Any, function: Any, state: Any) -> Any:
    """Call the `next_uint64` of a NumPy bit generator at an address."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        i64 = ir.IntType(64)
        function = ir.FunctionType(i64, [i64]).as_pointer()
        return builder.call(builder.inttoptr(arguments[0], function), arguments[1:])

    return types.uint64(types.uint64, types.uint64), code


@_intrinsic
def _product(context: Any, a: Any, b: Any) -> Any:
    """Return the 128-bit product of two words, high word first."""

    def code(context: Any, builder: Any, signature: Any, arguments: Any) -> Any:
        i64, i128 = ir.IntType(64), ir.IntType(128)
        a, b = (builder.zext(argument, i128) for argument in arguments)
        product = builder.mul(a, b)
        high = builder.lshr(product, ir.Constant(i128, 64))
        halves = [builder.trunc(half, i64) for half in (high, product)]
        return cgutils.pack_array(builder, halves)

    return types.UniTuple(types.uint64, 2)(types.uint64, types.uint64), code


@_njit(inline=True)
def _array(address: Word, like: Any, n: int) -> NDArray[Any]:
    return numba.carray(_pointer(address, like), n)  # type: ignore[no-any-return, call-arg]


# --- Generators: twins of those in fastdrop.rng, and calls of all others ---------------------


@_njit(inline=True)
def _philox4x32_pair(key: Word, upper: Word, counter: Word) -> tuple[Word, Word]:
    # Each 32-bit number has a 64-bit lane to itself, and junk in the lane's high
    # half that no multiplication reads: so the loop over counters vectorises to
    # the one 32 by 32 to 64 bit multiplication that all instruction sets have.
    k0, k1 = key, key >> _32
    x0, x1, x2, x3 = counter, counter >> _32, upper, upper >> _32
    for _ in range(10):
        a = (x0 & _LOW32) * np.uint64(0xD2511F53)
        b = (x2 & _LOW32) * np.uint64(0xCD9E8D57)
        x0, x1, x2, x3 = (b >> _32) ^ x1 ^ k0, b, (a >> _32) ^ x3 ^ k1, a
        k0 += np.uint64(0x9E3779B9)
        k1 += np.uint64(0xBB67AE85)
    return (x0 & _LOW32) | x1 << _32, (x2 & _LOW32) | x3 << _32


@_njit()
def _fill_philox4x32(key: Words, position: Word, n: int, out: Words) -> None:
    skip = np.int64(position & _1)  # a counter yields two words: the first may be its second
    counter = position >> _1
    if skip:
        out[0] = _philox4x32_pair(key[0], key[1], counter)[1]
        counter += _1
    pairs = (n - skip) // 2
    for i in range(pairs):
        words = _philox4x32_pair(key[0], key[1], counter + np.uint64(i))
        out[skip + 2 * i] = words[0]
        out[skip + 2 * i + 1] = words[1]
    if skip + 2 * pairs < n:
        out[n - 1] = _philox4x32_pair(key[0], key[1], counter + np.uint64(pairs))[0]


@_njit(inline=True)
def _philox_four(key: Words, x0: Word, x1: Word, x2: Word, x3: Word) -> tuple[Word, ...]:
    k0, k1 = key[0], key[1]
    for _ in range(10):
        a = _product(x0, np.uint64(0xD2E7470EE14C6C93))  # type: ignore[call-arg]
        b = _product(x2, np.uint64(0xCA5A826395121157))  # type: ignore[call-arg]
        x0, x1, x2, x3 = b[0] ^ x1 ^ k0, b[1], a[0] ^ x3 ^ k1, a[1]
        k0 += np.uint64(0x9E3779B97F4A7C15)
        k1 += np.uint64(0xBB67AE8584CAA73B)
    return x0, x1, x2, x3


@_njit()
def _fill_philox(key: Words, position: Word, n: int, out: Words) -> None:
    skip = np.int64(position & np.uint64(3))
    c0, c1, c2, c3 = key[2], key[3], key[4], key[5]
    ahead, done = position >> np.uint64(2), -skip
    while done < n:
        # NumPy counts first and generates then.
        for step in (ahead, _1):
            c0 += step
            if c0 < step:
                c1 += _1
                if c1 == _0:
                    c2 += _1
                    if c2 == _0:
                        c3 += _1
        ahead = _0
        words = _philox_four(key, c0, c1, c2, c3)
        for i in range(4):
            if 0 <= done + i < n:
                out[done + i] = words[i]
        done += 4


@_njit(inline=True)
def _affine(high: Word, low: Word, m: tuple[Word, Word], c: tuple[Word, Word]) -> tuple[Word, Word]:
    """Return state * m + c, modulo 2**128; pairs of words, high word first."""
    product = _product(low, m[1])  # type: ignore[call-arg]
    new_low = product[1] + c[1]
    carry = np.uint64(new_low < c[1])
    return product[0] + high * m[1] + low * m[0] + c[0] + carry, new_low


@_njit()
def _pcg64_stride(n: Word, increment: tuple[Word, Word]) -> tuple[Any, Any]:
    """Return the multiplier and the increment that n steps at once have."""
    zero, one = (_0, _0), (_0, _1)
    m, c = (np.uint64(2549297995355413924), np.uint64(4865540595714422341)), increment
    total_m, total_c = one, zero
    while n:
        if n & _1:
            total_m = _affine(total_m[0], total_m[1], m, zero)
            total_c = _affine(total_c[0], total_c[1], m, c)
        c = _affine(c[0], c[1], m, c)
        m = _affine(m[0], m[1], m, zero)
        n >>= _1
    return total_m, total_c


@_njit(inline=True)
def _pcg64_output(high: Word, low: Word) -> Word:
    folded, r = high ^ low, high >> _58
    return folded >> r | folded << (np.uint64(64) - r & _63)


@_njit()
def _fill_pcg64(key: Words, position: Word, n: int, out: Words) -> None:
    increment = key[2], key[3]
    m, c = _pcg64_stride(position, increment)
    before = _affine(key[0], key[1], m, c)
    # One generator is a chain of dependent multiplications: two that leap over
    # each other's words run side by side.
    m, c = _pcg64_stride(_1, increment)
    a = _affine(before[0], before[1], m, c)
    b = _affine(a[0], a[1], m, c)
    m, c = _pcg64_stride(np.uint64(2), increment)
    for i in range(n // 2):
        out[2 * i] = _pcg64_output(a[0], a[1])
        out[2 * i + 1] = _pcg64_output(b[0], b[1])
        a = _affine(a[0], a[1], m, c)
        b = _affine(b[0], b[1], m, c)
    if n % 2:
        out[n - 1] = _pcg64_output(a[0], a[1])


@_njit()
def _fill_sequential(opened: Words, position: Word, n: int, out: Words) -> None:
    """Take n words of a bit generator that may only move on from word opened[2]."""
    for _ in range(position - opened[2]):
        _call_next(opened[0], opened[1])  # type: ignore[call-arg]
    for i in range(n):
        out[i] = _call_next(opened[0], opened[1])  # type: ignore[call-arg]
    opened[2] = position + np.uint64(n)


@_njit()
def _fill(mask: Words, position: Word, n: int, out: Words) -> int:
    """Write words position to position + n - 1 of the mask's stream; return 0 for success."""
    kind, key = mask[KIND], _array(mask[KEY], _0, 6)
    if kind == PHILOX4X32:
        _fill_philox4x32(key, position, n, out)
    elif kind == PHILOX:
        _fill_philox(key, position, n, out)
    elif kind == PCG64:
        _fill_pcg64(key, position, n, out)
    elif kind == SEQUENTIAL:
        _fill_sequential(key, position, n, out)
    else:
        return _call_fill(  # type: ignore[call-arg, no-any-return]
            mask[FILL], mask[KEY], position, np.uint64(n), np.uint64(out.ctypes.data)
        )
    return 0


# --- Mask bits ------------------------------------------------------------------------------


@_njit()
def _compare_planes(
    random: Words, planes: int, threshold: Word, skip: int, less: Words, equal: Words
) -> None:
    """Compare numbers in planes with the threshold's bits behind its first `skip`.

    The last plane comes first: whatever later planes said stands only where a
    plane's bit equals the threshold's.
    """
    for strip in range(0, less.size, _STRIP_WORDS):
        for w in range(strip, strip + _STRIP_WORDS):
            below, same = _0, _ALL
            for j in range(planes - 1, -1, -1):
                t = _0 - (threshold >> np.uint64(39 - skip - j) & _1)
                u = random[strip * planes + j * _STRIP_WORDS + w - strip]
                below = (below & ~u) | (t & (below | ~u))
                same &= ~(u ^ t)
            less[w] = below
            equal[w] = same


@_njit()
def _refine(numbers: Words, low: Word, equal: Words, less: Words) -> None:
    """Decide the columns that equal the threshold: the r-th takes the r-th 32-bit number."""
    rank = 0
    for w in range(_COLUMN_WORDS):
        left = equal[w]
        while left:
            number = numbers[rank // 2 % REFINE_WORDS] >> np.uint64(rank % 2 * 32) & _LOW32
            others = left & (left - _1)
            if number < low:
                less[w] |= left ^ others
            left = others
            rank += 1


@_njit(inline=True)
def _deposit(values: Word, where: Word) -> Word:
    """Return the lowest bits of `values`, one for each set bit of `where`, moved there."""
    out = _0
    while where:
        others = where & (where - _1)
        out |= (where ^ others) & (_0 - (values & _1))
        where = others
        values >>= _1
    return out


@_njit()
def _decide(columns: Words, undecided: Words, n: int, keep: Words) -> None:
    """Give the r-th undecided element of a block column r's bit."""
    rank = 0
    for w in range((n + 63) // 64):
        at, down = rank // 64 % _COLUMN_WORDS, np.uint64(rank % 64)
        above = columns[(at + 1) % _COLUMN_WORDS]
        # Shifted twice, for a shift by 64 is none.
        values = columns[at] >> down | above << _1 << (_63 - down)
        keep[w] |= _deposit(values, undecided[w])
        left = undecided[w]
        while left:
            left &= left - _1
            rank += 1


@_njit()
def _block_bits(mask: Words, block: int, n: int, scratch: Words, keep: Words) -> int:
    """Make keep[0:64] of a block's first n elements; bits from n on are unspecified."""
    planes: Any = np.int64(mask[FIRST])
    second: Any = np.int64(mask[SECOND])
    if planes == 0:
        keep[:] = _ALL if mask[THRESHOLD] else _0
        return 0
    position = mask[DRAW] + np.uint64(block) * mask[RANGE]
    random, undecided = scratch[:_RANGE_WORDS], scratch[_RANGE_WORDS : -2 * _COLUMN_WORDS]
    less, equal = scratch[-2 * _COLUMN_WORDS : -_COLUMN_WORDS], scratch[-_COLUMN_WORDS:]
    numbers = second * _COLUMN_WORDS
    first = numbers + REFINE_WORDS * np.int64(mask[REFINES])
    drawn = first + -(-n // STRIP) * _STRIP_WORDS * planes
    status = _fill(mask, position, drawn, random)
    if status:
        return status
    _compare_planes(random[first:], planes, mask[THRESHOLD], 0, keep, undecided)
    if second:
        _compare_planes(random, second, mask[THRESHOLD], planes, less, equal)
        if mask[REFINES]:
            low = (mask[THRESHOLD] & np.uint64(0xFFFFFFF)) << np.uint64(4)
            _refine(random[numbers:], low, equal, less)
        _decide(less, undecided, n, keep)
    return 0


@_njit(inline=True)
def _new_scratch() -> Words:
    return np.empty(_RANGE_WORDS + _BLOCK_WORDS + 2 * _COLUMN_WORDS, np.uint64)


@_njit()
def bits(mask: Words, first: int, stop: int, begin: int, end: int, out: Words) -> int:
    """Write the bits of blocks begin to end - 1 to `out`, which starts at element `first`.

    `first` begins a block; elements from `stop` on get unspecified bits.
    """
    scratch = _new_scratch()
    for block in range(begin, end):
        n = min(stop - block * BLOCK, BLOCK)
        at = (block * BLOCK - first) // 64
        status = _block_bits(mask, block, n, scratch, out[at : at + _BLOCK_WORDS])
        if status:
            return status
    return 0


@_njit()
def _first_failure(statuses: NDArray[np.int64]) -> int:
    for status in statuses:
        if status:
            return int(status)
    return 0


@_njit(parallel=True)
def bits_parallel(mask: Words, first: int, stop: int, begin: int, end: int, out: Words) -> int:
    """Do what `bits` does, on several threads."""
    tasks = -(-(end - begin) // TASK_BLOCKS)
    statuses = np.empty(tasks, np.int64)
    for task in numba.prange(tasks):
        low = begin + task * TASK_BLOCKS
        statuses[task] = bits(mask, first, stop, low, min(low + TASK_BLOCKS, end), out)
    return _first_failure(statuses)


# --- Products -------------------------------------------------------------------------------


def _scaled(x: Any, scale: Any) -> Any:
    """Return x * scale, rounded once; uint16 stands for float16, int16 for bfloat16."""


@_overload(_scaled)
def _choose_scaled(x: Any, scale: Any) -> Callable[[Any, Any], Any]:
    if isinstance(x, types.Complex):
        # Part by part: a complex product would turn inf * (scale + 0j) into NaN.
        return lambda x, scale: complex(x.real * scale, x.imag * scale)
    if x is types.uint16:
        return lambda x, scale: _to_half(_from_half(x) * scale)
    if x is types.int16:
        return lambda x, scale: _to_bfloat16(_from_bfloat16(x) * scale)
    return lambda x, scale: x * scale


# Numba widens sums and shifts of uint32 to uint64: each is cut back, which costs nothing.
_u32, _f32 = np.uint32, np.float32


@_njit(inline=True)
def _from_half(x: Any) -> Any:
    sign, magnitude = _u32(_u32(x & 0x8000) << _u32(16)), _u32(x & 0x7FFF)
    # The exponent's offset goes from 15 to 127, that of infinities and NaN from 31 to 255.
    offset = _u32(0x70000000) if magnitude >= _u32(0x7C00) else _u32(0x38000000)
    normal = _u32(_u32(magnitude << _u32(13)) + offset)
    subnormal = _f32(_f32(np.int32(magnitude)) * _f32(2.0**-24)).view(np.uint32)
    return _u32(sign | (subnormal if magnitude < _u32(0x400) else normal)).view(np.float32)


@_njit(inline=True)
def _to_half(x: Any) -> Any:
    bits = _f32(x).view(np.uint32)
    sign, magnitude = _u32(bits >> _u32(16)) & _u32(0x8000), _u32(bits & _u32(0x7FFFFFFF))
    # To nearest, ties to even: by adding just under half a unit, or half to an odd number.
    odd = _u32(magnitude >> _u32(13)) & _u32(1)
    normal = _u32(_u32(magnitude - _u32(0x38000000 - 0xFFF) + odd) >> _u32(13))
    # The sum's unit in the last place is the smallest subnormal: the addition rounds.
    subnormal = _u32(
        _f32(magnitude.view(np.float32) + _f32(0.5)).view(np.uint32) - _u32(0x3F000000)
    )
    finite = subnormal if magnitude < _u32(0x38800000) else normal
    nan = _u32(_u32(0x7E00) | (_u32(magnitude >> _u32(13)) & _u32(0x3FF)))
    large = nan if magnitude > _u32(0x7F800000) else _u32(0x7C00)
    return np.uint16(sign | (large if magnitude >= _u32(0x477FF000) else finite))


@_njit(inline=True)
def _from_bfloat16(x: Any) -> Any:
    return _u32(_u32(np.uint16(x)) << _u32(16)).view(np.float32)


@_njit(inline=True)
def _to_bfloat16(x: Any) -> Any:
    bits = _f32(x).view(np.uint32)
    rounded = _u32(_u32(bits + _u32(0x7FFF)) + (_u32(bits >> _u32(16)) & _u32(1)))
    # NaN keeps its upper bits: rounding could carry it over into the sign.
    nan = _u32(bits | _u32(0x400000))
    is_nan = _u32(bits & _u32(0x7FFFFFFF)) > _u32(0x7F800000)
    return np.int16(_u32((nan if is_nan else rounded) >> _u32(16)))


@_njit(inline=True)
def _apply_run(
    x: NDArray[Any], out: NDArray[Any], n: int, keep: Words, scale: Any, zero: Any
) -> None:
    for start in range(0, n // 32 * 32, 32):
        bits = _u32(keep[start // 64] >> np.uint64(start % 64))
        for i in range(32):
            scaled = _scaled(x[start + i], scale)
            out[start + i] = scaled if bits & _u32(_1 << np.uint64(i)) else zero
    for i in range(n // 32 * 32, n):
        scaled = _scaled(x[i], scale)
        out[i] = scaled if keep[i // 64] >> np.uint64(i % 64) & _1 else zero


@_njit()
def _drop_bits(keep: Words, n: int) -> None:
    """Shift a block's bits so that bit n becomes bit 0."""
    words, down = n // 64, np.uint64(n % 64)
    for i in range(_BLOCK_WORDS - words):
        above = keep[i + words + 1] if i + words + 1 < _BLOCK_WORDS else _0
        # Shifted twice, for a shift by 64 is none.
        keep[i] = keep[i + words] >> down | above << _1 << (_63 - down)


@_njit()
def apply(
    mask: Words, first: int, stop: int, begin: int, end: int,
    x_address: Word, out_address: Word, scale: Any, zero: Any,
) -> int:  # fmt: skip
    """Apply blocks begin to end - 1 to contiguous arrays of elements first to stop - 1."""
    scratch, keep = _new_scratch(), np.empty(_BLOCK_WORDS, np.uint64)
    x, out = _array(x_address, zero, stop - first), _array(out_address, zero, stop - first)
    # LLVM's vector loop is for arrays that do not overlap: x goes elsewhere if it is out.
    copied = np.empty(BLOCK if x_address == out_address else 0, x.dtype)
    for block in range(begin, end):
        start = block * BLOCK
        low, high = max(first, start), min(stop, start + BLOCK)
        status = _block_bits(mask, block, high - start, scratch, keep)
        if status:
            return status
        if low > start:
            _drop_bits(keep, low - start)
        source, target = x[low - first : high - first], out[low - first : high - first]
        if copied.size > 0:
            for i in range(high - low):
                copied[i] = source[i]
            source = copied
        _apply_run(source, target, high - low, keep, scale, zero)
    return 0


@_njit(parallel=True)
def apply_parallel(
    mask: Words, first: int, stop: int, begin: int, end: int,
    x_address: Word, out_address: Word, scale: Any, zero: Any,
) -> int:  # fmt: skip
    """Do what `apply` does, on several threads."""
    tasks = -(-(end - begin) // TASK_BLOCKS)
    statuses = np.empty(tasks, np.int64)
    for task in numba.prange(tasks):
        low = begin + task * TASK_BLOCKS
        high = min(low + TASK_BLOCKS, end)
        statuses[task] = apply(mask, first, stop, low, high, x_address, out_address, scale, zero)
    return _first_failure(statuses)


# --- Layouts --------------------------------------------------------------------------------

# An axis of two arrays: its length, and the steps along it in x and in out (bytes) and in
# the mask (elements).
LENGTH, X_STEP, OUT_STEP, MASK_STEP = range(4)


@_njit()
def apply_strided(
    keep: Words, at: int, axes: NDArray[np.int64], begin: int, end: int,
    x_address: Word, out_address: Word, scale: Any, zero: Any,
) -> None:  # fmt: skip
    """Apply bits, from bit number `at` on, to elements begin to end - 1 along the axes.

    Elements count along the last axis first, whatever their place in the mask is.
    """
    last = axes[-1]
    element = begin
    while element < end:
        start = element % last[LENGTH]
        run = min(last[LENGTH] - start, end - element)
        bit, x, out = at, np.int64(x_address), np.int64(out_address)
        rest = element
        for axis in axes[::-1]:
            index = rest % axis[LENGTH]
            rest //= axis[LENGTH]
            x += index * axis[X_STEP]
            out += index * axis[OUT_STEP]
            bit += index * axis[MASK_STEP]
        for _ in range(run):
            scaled = _scaled(_array(np.uint64(x), zero, 1)[0], scale)
            kept = keep[bit >> 6] >> np.uint64(bit & 63) & _1
            _array(np.uint64(out), zero, 1)[0] = scaled if kept else zero
            x += last[X_STEP]
            out += last[OUT_STEP]
            bit += last[MASK_STEP]
        element += run


@_njit(parallel=True)
def apply_strided_parallel(
    keep: Words, at: int, axes: NDArray[np.int64], begin: int, end: int,
    x_address: Word, out_address: Word, scale: Any, zero: Any,
) -> None:  # fmt: skip
    """Do what `apply_strided` does, on several threads."""
    task_size = TASK_BLOCKS * BLOCK
    for task in numba.prange(-(-(end - begin) // task_size)):
        low = begin + task * task_size
        high = min(low + task_size, end)
        apply_strided(keep, at, axes, low, high, x_address, out_address, scale, zero)
