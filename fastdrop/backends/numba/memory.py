"""Memory and bits for Numba's kernels, which have no words for addresses."""

from __future__ import annotations

from typing import Final

from llvmlite import ir
from numba import types

from . import vector
from .compiling import ADDRESS, NOTHING, WORD, emitted
from .vector import I1, I64, X86, Value, load, store


@emitted(ADDRESS)
def stack(anchor: Value, size: int) -> Value:
    """Return the address of `size` bytes that are the running function's, for vectors to lie in."""
    return vector.stack(anchor, size)


@emitted(WORD)
def word_at(_: Value, address: Value) -> Value:
    """Return the word at an address."""
    return load(I64, address)


@emitted(NOTHING)
def put_word(_: Value, address: Value, word: Value) -> None:
    """Write a word to an address."""
    store(word if isinstance(word, Value) else address.constant(word), address)


@emitted(NOTHING)
def copy_element(_: Value, size: int, source: Value, target: Value) -> None:
    """Copy `size` bytes, a power of two up to 16, from an address to another."""
    store(load(ir.IntType(8 * size), source), target)


@emitted(NOTHING)
def copy_bytes(_: Value, source: Value, target: Value, count: Value) -> None:
    """Copy bytes from an address to another."""
    vector.copy_bytes(source, target, count)


@emitted(types.int64)
def count_ones(_: Value, word: Value) -> Value:
    """Return the number of bits that are set."""
    return word.ones()


@emitted(types.int64)
def trailing_zeros(_: Value, word: Value) -> Value:
    """Return the number of the lowest bit that is set, 64 if there is none."""
    return word.of(word.builder.cttz(word.llvm, ir.Constant(I1, 0)))


@emitted(WORD)
def deposit_word(_: Value, bits: Value, where: Value) -> Value:
    """Return what `vector.deposit` does."""
    return vector.deposit(bits, where)


@emitted(NOTHING)
def fence(anchor: Value) -> None:
    """Make what was written past the caches visible to whoever waits for this thread."""
    if X86:
        module = anchor.builder.module
        sfence = module.declare_intrinsic(
            "llvm.x86.sse.sfence", fnty=ir.FunctionType(ir.VoidType(), [])
        )
        anchor.builder.call(sfence, [])


# Where NumPy's array objects hold the address of their data: right behind the object's head.
_DATA: Final = object.__basicsize__


@emitted(ADDRESS)
def data_of(_: Value, array: Value) -> Value:
    """Return the address of the data of the array whose `id` this is."""
    return load(I64, array + _DATA)
