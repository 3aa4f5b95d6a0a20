"""What users' compiled code calls through addresses: a block's bits, and dropout of a range.

Addresses would keep code out of Numba's cache if they were constants in it. So they are data: a
`reserved` array holds them, and the generator's key behind them. docs/numba.md is for users.
"""

from __future__ import annotations

import ctypes
import os
from functools import cache
from struct import Struct
from typing import Any, Final, NamedTuple

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba import types
from numpy.typing import NDArray

from ...mask_format import BLOCK, Rate
from ...rng.base import Stream
from . import contiguous
from .backend import SURELY_CACHED, fill_of, is_past_caches, pipe_of
from .blocks import block_bits, compare_address
from .compiling import WORD, address_of, emitted, inner, like, named
from .elements import SIZES
from .memory import word_at
from .vector import F64, I32, I64, Value, call, load

# --- The array ----------------------------------------------------------------------------------

# Those of the library that Numba has on CPUs, in the order of their functions' addresses.
DTYPES: Final = ("float32", "float64", "complex64", "complex128")

# Which word of the array is what. A change of this table, of the signatures below or of what
# fastdrop/numba.py compiles into users' code needs another `LAYOUT`: their cached code is older.
LAYOUT: Final = 1
PROCESS: Final = 0  # a number that only this process and its forked children know
LAYOUT_AT: Final = 1
SIZE: Final = 2  # elements of the mask
P: Final = 3  # the bits of a float64
THRESHOLD: Final = 4
SCALE: Final = 5  # the bits of a float64
BLOCK_BITS: Final = 6  # addresses, from here
FILL: Final = 7
COMPARE: Final = 8
RANGES: Final = 9  # one for each of `DTYPES`, 0 if it was not asked for
LENGTH: Final = RANGES + len(DTYPES)  # words of the array, the key included
KEY: Final = LENGTH + 1
_HEAD: Final = Struct(f"=3QdQd{KEY - BLOCK_BITS}Q")


class Functions(NamedTuple):
    """Addresses of compiled functions.

    block_bits : int32 (reserved, uint64 draw, uint64 block, out)
        Writes the block's 64 words of keep bits.
    ranges : int32 (reserved, uint64 draw, uint64 first, uint64 n, int64 dtype, x, out)
        Each applies the mask's elements first to first + n - 1, n of 1 or more, to contiguous
        memory. `dtype` is NumPy's number of it.
    fill : int32 (key, uint64 position, uint64 n, out)
        The generator's.
    compare : the comparison of blocks that Numba's kernels call; 0 if the others are not Numba's.

    `reserved`, `x`, `out` and `key` are addresses. All but `compare` return 0, or the status of a
    `fill` that failed. They may be called in any number of threads at once.
    """

    block_bits: int
    ranges: tuple[int, ...]
    fill: int
    compare: int


def functions(algorithm: Any, block_words: int, n: int, dtypes: tuple[str, ...]) -> Functions:
    """Return the functions for a mask of n elements, with ranges for these dtypes only.

    This is the place to return others of the same signatures.
    """
    fill = fill_of(algorithm)  # a generator without a capsule is refused first
    made = [0] * len(DTYPES)
    for name in dtypes:
        past_caches = is_past_caches(n, SIZES[name])
        made[DTYPES.index(name)] = _range_of(name, algorithm, block_words, past_caches)
    return Functions(_block_bits_address(), tuple(made), fill, compare_address())


def reserved_array(stream: Stream, n: int, p: float, rate: Rate, of: Functions) -> NDArray[Any]:
    """Return the array for a mask of n elements of a stream."""
    head = _HEAD.pack(
        _process.value, LAYOUT, n, p, rate.threshold, rate.scale,
        of.block_bits, of.fill, of.compare, *of.ranges, KEY + len(stream.key),
    )  # fmt: skip
    return np.frombuffer(bytearray(head + stream.key.tobytes()), np.uint64)


# --- Which process --------------------------------------------------------------------------------

# Linked under a name, not compiled into code as an address, so that cached code finds that of the
# process that loads it. Numba's code finds Python's None in the same way.
_process: Final = ctypes.c_uint64(int.from_bytes(os.urandom(8), "little"))
_NAME: Final = "fastdrop_numba_process"
llvm.add_symbol(_NAME, ctypes.addressof(_process))


@emitted(WORD)
def process_word(anchor: Value) -> Value:
    """Return the word `PROCESS` of this process's arrays."""
    module = anchor.builder.module
    word = module.globals.get(_NAME) or ir.GlobalVariable(module, I64, _NAME)
    return anchor.of(anchor.builder.load(word))


# --- The functions ------------------------------------------------------------------------------

# Numba's kernels have signed numbers only; to callers the signatures are those of `Functions`.


@cache
def _block_bits_address() -> int:
    @address_of("int32(int64, int64, int64, int64)")
    def write_block(reserved: int, draw: int, block: int, out: int) -> int:
        return block_bits(_mask_of(reserved, draw), block, BLOCK, out)

    return write_block


@cache
def _range_of(name: str, algorithm: Any, block_words: int, past_caches: bool) -> int:
    return _range_address(name, *pipe_of(name, algorithm, block_words), past_caches)


@cache
def _range_address(name: str, generator: str, words: int, past_caches: bool) -> int:
    """Return the address of the function for a dtype and a pipeline, see `contiguous.has_pipe`.

    With `past_caches` it writes past them in a call for so many elements that those written first
    will have left the caches anyway. Others may be read again soon.
    """
    near, far = (name, generator, words, 0), (name, generator, words, int(past_caches))

    @address_of("int32(int64, int64, int64, int64, int64, int64, int64)", *far)
    def write_range(
        reserved: int, draw: int, first: int, n: int, dtype: int, x: int, out: int
    ) -> int:
        mask, arrays = _mask_of(reserved, draw), (_number_at(reserved + 8 * SCALE), x, out)
        bounds = first, first + n, first // BLOCK, (first + n - 1) // BLOCK + 1
        if n > SURELY_CACHED and x != out:
            return _apply(far, mask, bounds, arrays)  # type: ignore[no-any-return]
        return _apply(near, mask, bounds, arrays)  # type: ignore[no-any-return]

    return write_range


def _apply(variant: Any, mask: Any, bounds: Any, arrays: Any) -> Any:
    """Do as `contiguous.apply` does, in a function of its own: two of that in one confuse Numba."""


@like(_apply)
def _apply_of(variant: Any, mask: Any, bounds: Any, arrays: Any) -> Any:
    constants = (part.literal_value for part in variant)

    def apply(variant, mask, bounds, arrays):  # type: ignore[no-untyped-def]
        return contiguous.apply(variant, mask, bounds, arrays)

    return named(apply, *constants)


@inner()
def _mask_of(reserved: int, draw: int) -> Any:
    fill, compare = word_at(reserved + 8 * FILL), word_at(reserved + 8 * COMPARE)
    threshold = word_at(reserved + 8 * THRESHOLD)
    return np.int64(fill), reserved + 8 * KEY, draw, np.int64(compare), np.int64(threshold)


@emitted(types.float64)
def _number_at(_: Value, address: Value) -> Value:
    """Return the float64 at an address."""
    return load(F64, address)


# --- What users' code is compiled with ----------------------------------------------------------


@emitted(types.int32)
def call_block_bits(
    _: Value, function: Value, reserved: Value, draw: Value, block: Value, out: Value
) -> Value:
    """Call a `block_bits` of `Functions`."""
    return call(function, I32, reserved, draw, block, out)


@emitted(types.int32)
def call_range(
    _: Value, function: Value, reserved: Value, draw: Value, first: Value, n: Value, dtype: int,
    x: Value, out: Value,
) -> Value:  # fmt: skip
    """Call one of the `ranges` of `Functions`."""
    return call(function, I32, reserved, draw, first, n, dtype, x, out)


@emitted(WORD)
def bits_of(_: Value, number: Value) -> Value:
    """Return the bits of a float64."""
    return number.bitcast(I64)
