"""Random words for Numba's kernels: the generators of fastdrop.rng, and calls of others.

Numba turns uint64 with int64 into float64, hence the typed constants.
"""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numba
import numpy as np
from llvmlite import ir
from numba import types
from numpy.typing import NDArray

from .compiling import PAIR, WORD, address_of, emitted, inner, like
from .lanes import Word
from .memory import copy_bytes, stack
from .pairs import PAIRS
from .steps import write_batch
from .vector import I32, I64, Value, call

Words = NDArray[np.uint64]

_0, _1, _58, _63 = (np.uint64(n) for n in (0, 1, 58, 63))


@emitted(types.int32)
def call_fill(_: Value, fill: Value, key: Value, position: Value, n: Value, out: Value) -> Value:
    """Call the `fastdrop_fill` at an address."""
    return call(fill, I32, key, position, n, out)


@emitted(WORD)
def _call_next(_: Value, function: Value, state: Value) -> Value:
    """Call the `next_uint64` of a NumPy bit generator at an address."""
    return call(function, I64, state)


@emitted(PAIR)
def _product(_: Value, a: Value, b: Value) -> tuple[Value, Value]:
    """Return the 128-bit product of two words, high word first."""
    i128 = ir.IntType(128)
    product = a.widen(i128) * b.widen(i128)
    return (product >> 64).narrow(I64), product.narrow(I64)


@emitted(types.CPointer(types.uint64))
def _pointer(_: Value, address: Value) -> Value:
    """Return an address as a pointer to words."""
    return address.of(address.builder.inttoptr(address.llvm, I64.as_pointer()))


@inner()
def _words(address: int, n: int) -> Words:
    return numba.carray(_pointer(address), n)  # type: ignore[no-any-return]


# --- Counters of two words --------------------------------------------------------------------


@cache
def fill_by_pairs(generator: str) -> Any:
    """Return a function that writes words position to position + n - 1 to an address."""
    lanes, start, left_of = PAIRS[generator]
    step, side, run_bytes = lanes.step, lanes.side, lanes.run_bytes
    few = max((side + 1) // 3, 1)  # vectors
    wide_words, few_words = side * step, few * step
    batch_bytes = 8 * wide_words

    @inner(generator)
    def fill(key: int, position: Word, n: int, out: int) -> None:
        run, batch = stack(run_bytes), stack(batch_bytes)
        while n > 0:
            counter = position >> _1
            start(key, counter, run)
            # A counter yields two words: the first one wanted may be its second.
            skip: Any = np.int64(position & _1)
            left = min(n, left_of(position))
            position += np.uint64(left)
            n -= left
            if skip == 0:
                while left >= wide_words:
                    write_batch(generator, side, run, counter, out)
                    left, out = left - wide_words, out + batch_bytes
                    counter += np.uint64(wide_words // 2)
            while left > 0:
                made = step
                if left + skip > few_words:
                    made = wide_words
                    write_batch(generator, side, run, counter, batch)
                elif left + skip > step:
                    made = few_words
                    write_batch(generator, few, run, counter, batch)
                else:
                    write_batch(generator, 1, run, counter, batch)
                take = min(made - skip, left)
                copy_bytes(batch + 8 * skip, out, 8 * take)
                left, out, counter = left - take, out + 8 * take, counter + np.uint64(made // 2)
                skip = np.int64(0)

    return fill


# --- NumPy's ----------------------------------------------------------------------------------


@inner()
def _philox_four(key: Words, x0: Word, x1: Word, x2: Word, x3: Word) -> tuple[Word, ...]:
    k0, k1 = key[0], key[1]
    for _ in range(10):
        a = _product(x0, np.uint64(0xD2E7470EE14C6C93))
        b = _product(x2, np.uint64(0xCA5A826395121157))
        x0, x1, x2, x3 = b[0] ^ x1 ^ k0, b[1], a[0] ^ x3 ^ k1, a[1]
        k0 += np.uint64(0x9E3779B97F4A7C15)
        k1 += np.uint64(0xBB67AE8584CAA73B)
    return x0, x1, x2, x3


@inner()
def _fill_philox(at: int, position: Word, n: int, to: int) -> None:
    key, out = _words(at, 6), _words(to, n)
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


@inner()
def _affine(high: Word, low: Word, m: tuple[Word, Word], c: tuple[Word, Word]) -> tuple[Word, Word]:
    """Return state * m + c, modulo 2**128; pairs of words, high word first."""
    product = _product(low, m[1])
    new_low = product[1] + c[1]
    carry = np.uint64(new_low < c[1])
    return product[0] + high * m[1] + low * m[0] + c[0] + carry, new_low


@inner()
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


@inner()
def _pcg64_output(high: Word, low: Word) -> Word:
    folded, r = high ^ low, high >> _58
    return folded >> r | folded << (np.uint64(64) - r & _63)


@inner()
def _fill_pcg64(at: int, position: Word, n: int, to: int) -> None:
    key, out = _words(at, 4), _words(to, n)
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


@inner()
def _fill_sequential(at: int, position: Word, n: int, to: int) -> None:
    """Take n words of a bit generator that may only move on from word opened[2]."""
    opened, out = _words(at, 3), _words(to, n)
    for _ in range(position - opened[2]):
        _call_next(opened[0], opened[1])
    for i in range(n):
        out[i] = _call_next(opened[0], opened[1])
    opened[2] = position + np.uint64(n)


# --- Addresses --------------------------------------------------------------------------------

FILLS: Final = {
    **{name: fill_by_pairs(name) for name in PAIRS},
    "philox": _fill_philox,
    "pcg64": _fill_pcg64,
    "sequential": _fill_sequential,
}


def _fill(variant: Any, key: int, position: Word, n: int, out: int) -> Any:
    """Write words position to position + n - 1 of a generator's stream to an address."""


@like(_fill, inline=True)
def _fill_of(variant: Any, key: Any, position: Any, n: Any, out: Any) -> Any:
    fill = FILLS[variant[0].literal_value]

    def run(variant, key, position, n, out):  # type: ignore[no-untyped-def]
        fill(key, position, n, out)

    return run


@cache
def fill_address(name: str) -> int:
    """Return the address of a `fastdrop_fill` for one of the generators above."""
    variant = (name,)

    @address_of("int32(int64, uint64, int64, int64)", name)
    def fill(key: int, position: Word, n: int, out: int) -> int:
        _fill(variant, key, position, n, out)
        return 0

    return fill
