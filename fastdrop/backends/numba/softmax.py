"""Softmax with dropout of rows, and its backward pass: the steps of softmax_body.h."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any, Final

import numpy as np
from llvmlite import ir
from numba.core import cgutils

from ..._formulas.elementary import exp_below
from ..._formulas.softmax import base_again, base_of, ended
from .compiling import NOTHING, emitted, inner, like, named
from .elements import SIZES
from .memory import copy_bytes, copy_element, stack, word_at
from .steps import Elements
from .vector import BITS, Value, load, store

_VECTOR: Final = BITS // 8  # bytes

# What is known of a row, in bytes from the start of its room: lanes, and then numbers.
_LARGEST, _SUMS, _HIGHEST, _BASE, _FACTOR, _LSE, _DELTA = range(0, 7 * _VECTOR, _VECTOR)
# And the row's end as 64 columns: x, bias, gradient, zeros.
_REST: Final = 7 * _VECTOR
_PART: Final = 64 * 8
ROOM_BYTES: Final = _REST + 4 * _PART

_63, _1, _ALL = np.uint64(63), np.uint64(1), np.uint64(0xFFFFFFFFFFFFFFFF)


# --- Vectors ----------------------------------------------------------------------------------


class _Row(Elements):
    """A row's elements, and what is known of it."""

    def __init__(self, name: str, room: Value) -> None:
        super().__init__(name)
        self.room = room

    def one(self, at: int) -> Value:
        return load(self.dtype.number, self.room + at)

    def all(self, at: int) -> Value:
        """Return a number in all lanes."""
        return self.one(at).spread(self.lanes)

    def put(self, at: int, value: Any) -> None:
        store(value, self.room + at)

    def same(self, number: float) -> Value:
        return self.room.constant(number, self.number)

    def by_vectors(self, *arrays: Value) -> Any:
        """Yield which element is a vector's first, and the vectors there."""
        for first in range(0, 64, self.lanes):
            at = first * self.dtype.size
            yield first, *(load(self.number, array + at) for array in arrays)

    def scores(self, has_bias: int, scale: Value, x: Value, bias: Value) -> Any:
        """Yield which element is a vector's first, and the scores there."""
        factor = self.spread(scale)
        for first, *loaded in self.by_vectors(*([x, bias] if has_bias else [x])):
            score = loaded[0] * factor
            yield first, score + loaded[1] if has_bias else score

    def only_kept(self, bits: Value, first: int, value: Value) -> Value:
        return self.kept(bits >> first).choose(value, self.same(0.0))

    def put_at(self, value: Any, array: Value, first: int) -> None:
        store(value, array + first * self.dtype.size)

    def reduced(self, at: int, join: Callable[[Value, Value], Value]) -> Value:
        """Return lanes joined by halves."""
        lanes = load(self.number, self.room + at)
        while lanes.lanes > 1:
            lanes = join(*lanes.halves())
        return lanes.lane(0)


def _larger(a: Value, b: Value) -> Value:
    return (a > b).choose(a, b)


@emitted(NOTHING)
def _start_row(_: Value, name: str, room: Value) -> None:
    row = _Row(name, room)
    row.put(_LARGEST, row.same(-np.inf))
    row.put(_SUMS, row.same(0.0))


@emitted(NOTHING)
def _largest_of_word(
    _: Value, name: str, has_bias: int, scale: Value, x: Value, bias: Value, room: Value
) -> None:
    row = _Row(name, room)
    largest = load(row.number, room + _LARGEST)
    for _first, score in row.scores(has_bias, scale, x, bias):
        largest = _larger(score, largest)
    row.put(_LARGEST, largest)


@emitted(NOTHING)
def _end_largest(_: Value, name: str, room: Value) -> None:
    row = _Row(name, room)
    highest: Any = row.reduced(_LARGEST, _larger)
    row.put(_HIGHEST, highest)
    row.put(_BASE, base_of(highest))


@emitted(NOTHING)
def _exp_of_word(
    _: Value, name: str, has_bias: int, writes: int, scale: Value, bits: Value, x: Value,
    bias: Value, y: Value, room: Value,
) -> None:  # fmt: skip
    row = _Row(name, room)
    base, sums = row.all(_BASE), load(row.number, room + _SUMS)
    for first, score in row.scores(has_bias, scale, x, bias):
        e: Any = exp_below(score - base)
        sums = sums + e
        if writes:
            row.put_at(row.only_kept(bits, first, e), y, first)
    row.put(_SUMS, sums)


@emitted(NOTHING)
def _end_sum(_: Value, name: str, keep_scale: Value, room: Value) -> None:
    row = _Row(name, room)
    highest: Any = row.one(_HIGHEST)
    total: Any = row.reduced(_SUMS, Value.__add__)
    factor, lse = ended(highest, total, row.spread(keep_scale).lane(0))
    row.put(_FACTOR, factor)
    row.put(_LSE, lse)


@emitted(NOTHING)
def _normalize_word(_: Value, name: str, bits: Value, y: Value, room: Value) -> None:
    row = _Row(name, room)
    factor = row.all(_FACTOR)
    for first, e in row.by_vectors(y):
        row.put_at(row.only_kept(bits, first, e * factor), y, first)


@emitted(NOTHING)
def _products_of_word(
    _: Value, name: str, has_bias: int, scale: Value, bits: Value, x: Value, bias: Value,
    grad: Value, room: Value,
) -> None:  # fmt: skip
    row = _Row(name, room)
    base, sums = row.all(_BASE), load(row.number, room + _SUMS)
    for first, score in row.scores(has_bias, scale, x, bias):
        e: Any = exp_below(score - base)
        product = e * load(row.number, grad + first * row.dtype.size)
        sums = sums + row.only_kept(bits, first, product)
    row.put(_SUMS, sums)


@emitted(NOTHING)
def _end_products(_: Value, name: str, room: Value) -> None:
    row = _Row(name, room)
    row.put(_DELTA, row.one(_FACTOR) * row.reduced(_SUMS, Value.__add__))


@emitted(NOTHING)
def _start_back(_: Value, name: str, room: Value) -> None:
    row = _Row(name, room)
    lse: Any = row.one(_LSE)
    row.put(_BASE, base_again(lse))


@emitted(NOTHING)
def _gradient_of_word(
    _: Value, name: str, has_bias: int, writes: int, scale: Value, keep_scale: Value, bits: Value,
    x: Value, bias: Value, grad: Value, room: Value,
) -> None:  # fmt: skip
    """Write the scores' gradient to `grad` and, if asked to, the dropped probabilities to x."""
    row = _Row(name, room)
    base, delta, factor = row.all(_BASE), row.all(_DELTA), row.spread(keep_scale)
    for first, score in row.scores(has_bias, scale, x, bias):
        p: Any = exp_below(score - base)
        slope = load(row.number, grad + first * row.dtype.size) * factor
        slope = row.only_kept(bits, first, slope)
        if writes:
            row.put_at(row.only_kept(bits, first, p * factor), x, first)
        row.put_at(p * (slope - delta), grad, first)


@emitted(NOTHING)
def _clear_rest(_: Value, name: str, rest: Value) -> None:
    """Make 64 columns that count for nothing."""
    elements = Elements(name)
    for part, number in enumerate((0.0, -np.inf, 0.0, 0.0)):
        for at in range(0, 64 * elements.dtype.size, _VECTOR):
            store(rest.constant(number, elements.number), rest + (part * _PART + at))


@emitted(NOTHING)
def _zero(anchor: Value, array: Value, count: Value) -> None:
    """Write bytes of 0."""
    builder = anchor.builder
    pointer = builder.inttoptr(array.llvm, ir.IntType(8).as_pointer())
    cgutils.memset(builder, pointer, count.llvm, 0)


# --- Rows -------------------------------------------------------------------------------------


@inner()
def _bits_at(keep: int, bit: int) -> Any:
    """Return 64 bits from number `bit` on; all are set without a mask."""
    if keep == 0:
        return _ALL
    at, down = keep + 8 * (bit >> 6), np.uint64(bit & 63)
    # Shifted twice, for a shift by 64 is none.
    return word_at(at) >> down | word_at(at + 8) << _1 << (_63 - down)


@cache
def _rest_of(name: str, has_bias: int) -> Any:
    """Return a function that makes a row's last columns 64, of which the others do not count."""
    size = SIZES[name]

    @inner(name, has_bias)
    def make_rest(x: int, bias: int, left: int, rest: int) -> None:
        _clear_rest(name, rest)
        copy_bytes(x, rest, left * size)
        if has_bias:
            copy_bytes(bias, rest + _PART, left * size)
        else:
            copy_bytes(rest + 3 * _PART, rest + _PART, left * size)

    return make_rest


@cache
def _sums_of(name: str, has_bias: int, writes: int) -> Any:
    """Return a function that finds a row's maximum and sum, and may write its exponentials."""
    size, make_rest = SIZES[name], _rest_of(name, has_bias)

    @inner(name, has_bias, writes)
    def sums(
        x: int, bias: int, n: int, keep: int, bit: int, numbers: Any, y: int, room: int
    ) -> None:
        scale, keep_scale = numbers
        whole, rest = n // 64 * 64, room + _REST
        end = whole * size
        _start_row(name, room)
        for at in range(0, end, 64 * size):
            _largest_of_word(name, has_bias, scale, x + at, bias + at, room)
        if whole < n:
            make_rest(x + end, bias + end, n - whole, rest)
            _largest_of_word(name, 1, scale, rest, rest + _PART, room)
        _end_largest(name, room)
        for c in range(0, whole, 64):
            bits, at = _bits_at(keep, bit + c), c * size
            _exp_of_word(name, has_bias, writes, scale, bits, x + at, bias + at, y + at, room)
        if whole < n:
            bits, made = _bits_at(keep, bit + whole), rest + 2 * _PART
            _exp_of_word(name, 1, writes, scale, bits, rest, rest + _PART, made, room)
            if writes:
                copy_bytes(made, y + end, (n - whole) * size)
        _end_sum(name, keep_scale, room)

    return sums


@cache
def _forward_of(name: str, has_bias: int) -> Any:
    """Return a function that writes a row's dropped probabilities."""
    size, sums = SIZES[name], _sums_of(name, has_bias, 1)

    @inner(name, has_bias)
    def forward(
        x: int, bias: int, n: int, columns: int, keep: int, bit: int, numbers: Any, y: int,
        room: int,
    ) -> None:  # fmt: skip
        sums(x, bias, n, keep, bit, numbers, y, room)
        whole, rest = n // 64 * 64, room + _REST
        end = whole * size
        for c in range(0, whole, 64):
            _normalize_word(name, _bits_at(keep, bit + c), y + c * size, room)
        if whole < n:
            copy_bytes(y + end, rest, (n - whole) * size)
            _normalize_word(name, _bits_at(keep, bit + whole), rest, room)
            copy_bytes(rest, y + end, (n - whole) * size)
        _zero(y + n * size, (columns - n) * size)

    return forward


@cache
def _deltas_of(name: str, has_bias: int) -> Any:
    """Return a function that finds a row's sum of gradient times dropped probability."""
    size, make_rest, sums = SIZES[name], _rest_of(name, has_bias), _sums_of(name, has_bias, 0)

    @inner(name, has_bias)
    def deltas(
        x: int, bias: int, n: int, keep: int, bit: int, numbers: Any, grad: int, room: int
    ) -> None:
        sums(x, bias, n, keep, bit, numbers, 0, room)
        scale, _ = numbers
        whole, rest = n // 64 * 64, room + _REST
        end = whole * size
        _start_row(name, room)
        for c in range(0, whole, 64):
            bits, at = _bits_at(keep, bit + c), c * size
            _products_of_word(name, has_bias, scale, bits, x + at, bias + at, grad + at, room)
        if whole < n:
            make_rest(x + end, bias + end, n - whole, rest)
            of_rest = rest + 2 * _PART
            copy_bytes(grad + end, of_rest, (n - whole) * size)
            bits = _bits_at(keep, bit + whole)
            _products_of_word(name, 1, scale, bits, rest, rest + _PART, of_rest, room)
        _end_products(name, room)

    return deltas


@cache
def _backward_of(name: str, has_bias: int, writes: int) -> Any:
    """Return a function that makes of a row's gradient that of its scores."""
    size, make_rest = SIZES[name], _rest_of(name, has_bias)

    @inner(name, has_bias, writes)
    def backward(
        x: int, bias: int, n: int, columns: int, keep: int, bit: int, numbers: Any, grad: int,
        room: int,
    ) -> None:  # fmt: skip
        scale, keep_scale = numbers
        whole, rest = n // 64 * 64, room + _REST
        end, left = whole * size, (n - whole) * size
        _start_back(name, room)
        for c in range(0, whole, 64):
            bits, at = _bits_at(keep, bit + c), c * size
            _gradient_of_word(
                name, has_bias, writes, scale, keep_scale, bits, x + at, bias + at, grad + at, room
            )
        if whole < n:
            make_rest(x + end, bias + end, n - whole, rest)
            bias_rest, grad_rest = rest + _PART, rest + 2 * _PART
            copy_bytes(grad + end, grad_rest, left)
            bits = _bits_at(keep, bit + whole)
            _gradient_of_word(
                name, 1, writes, scale, keep_scale, bits, rest, bias_rest, grad_rest, room
            )
            copy_bytes(grad_rest, grad + end, left)
            if writes:
                copy_bytes(rest, x + end, left)
        _zero(grad + n * size, (columns - n) * size)
        if writes:
            _zero(x + n * size, (columns - n) * size)

    return backward


def rows(variant: Any, sizes: Any, bounds: Any, mask: Any, numbers: Any, at: Any) -> Any:
    """Write rows begin to end - 1.

    A variant is a dtype, whether there is a bias, and one of `FORWARD`, `AGAIN` and `BACKWARD`.
    """


FORWARD: Final = 0  # x and out
AGAIN: Final = 1  # back, given `lse` and `delta`: x becomes the dropped probabilities
BACKWARD: Final = 2  # back without them


@like(rows)
def _rows_of(variant: Any, sizes: Any, bounds: Any, mask: Any, numbers: Any, at: Any) -> Any:
    name, has_bias, way = (part.literal_value for part in variant)
    size = SIZES[name]
    forward, deltas = _forward_of(name, has_bias), _deltas_of(name, has_bias)
    backward = _backward_of(name, has_bias, int(way == AGAIN))

    def rows(variant, sizes, bounds, mask, numbers, at):  # type: ignore[no-untyped-def]
        columns, width, bias_rows, causal, first = sizes
        begin, end = bounds
        keep, bit = mask
        x, bias, other, lse, delta = at
        room = stack(ROOM_BYTES)
        pitch = columns * size
        for r in range(begin, end):
            n = columns
            if causal > 0:
                n = min((first + r) % causal + 1, columns)
            a, b, c, i = x + r * pitch, bias, other + r * pitch, bit + r * width
            if has_bias:
                b = bias + r % bias_rows * pitch
            if way == FORWARD:
                forward(a, b, n, columns, keep, i, numbers, c, room)
                if lse != 0:
                    copy_element(size, room + _LSE, lse + r * size)
            elif way == AGAIN:
                copy_element(size, lse + r * size, room + _LSE)
                copy_element(size, delta + r * size, room + _DELTA)
                backward(a, b, n, columns, keep, i, numbers, c, room)
            else:
                deltas(a, b, n, keep, i, numbers, c, room)
                backward(a, b, n, columns, keep, i, numbers, c, room)
        return 0

    return named(rows, name, has_bias, way)
