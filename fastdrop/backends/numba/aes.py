"""A round of AES (FIPS 197, section 5.1) on vectors of 16-byte blocks.

By the processor's instructions, on the widest vectors that it has them for, or else by tables.
"""

from __future__ import annotations

from functools import reduce
from operator import xor
from typing import Final

from llvmlite import ir

from ...rng.ars4x32 import tables
from .vector import (
    AARCH64,
    CPU,
    FEATURES,
    HAS_AVX512,
    I8,
    I32,
    I64,
    X86,
    Value,
    intrinsic,
    load,
    table,
)

_HAS_VAES: Final = X86 and "+vaes" in FEATURES and "+avx2" in FEATURES
# All of Apple's processors have them, where LLVM may name no features.
_ARM_HAS: Final = not FEATURES.isdisjoint({"+aes", "+crypto"}) or (
    CPU.startswith("apple-") and "-aes" not in FEATURES
)
HAS_AES: Final = _HAS_VAES or (X86 and "+aes" in FEATURES) or (AARCH64 and _ARM_HAS)
HOW: Final = (
    "tables: no AES instructions" if not HAS_AES else f"AES instructions{' on vectors' * _HAS_VAES}"
)
AES_BITS: Final = 128 if not _HAS_VAES else 512 if HAS_AVX512 else 256  # of a vector

_BYTES: Final = ir.VectorType(I8, 16)


def aes_round(blocks: Value, key: Value) -> Value:
    """Return a round of blocks, two words each: SubBytes, ShiftRows, MixColumns, AddRoundKey."""
    if not HAS_AES:
        return _by_tables(blocks, last=False) ^ key
    if X86:
        return _x86("aesenc", blocks, key)
    mixed = intrinsic(_arm(blocks), "llvm.aarch64.crypto.aesmc", _BYTES, _arm(blocks))
    return mixed.bitcast(blocks.type) ^ key


def aes_last_round(blocks: Value, key: Value) -> Value:
    """Return the same without MixColumns."""
    if not HAS_AES:
        return _by_tables(blocks, last=True) ^ key
    if X86:
        return _x86("aesenclast", blocks, key)
    return _arm(blocks).bitcast(blocks.type) ^ key


def _x86(name: str, blocks: Value, key: Value) -> Value:
    width = f".{AES_BITS}" if AES_BITS > 128 else ""
    return intrinsic(blocks, f"llvm.x86.aesni.{name}{width}", blocks.type, blocks, key)


def _arm(blocks: Value) -> Value:
    """Return SubBytes and ShiftRows, as bytes. The instruction adds a key before them: here 0."""
    given = blocks.bitcast(_BYTES)
    return intrinsic(given, "llvm.aarch64.crypto.aese", _BYTES, given, given.constant(0))


def _by_tables(block: Value, last: bool) -> Value:
    """Return SubBytes, ShiftRows and, but in the last round, MixColumns."""
    sbox, columns = tables()
    name, numbers = ("aes_sbox", sbox) if last else ("aes_columns", columns)
    known = table(block, name, I32, numbers.ravel().tolist())
    words = block.lane(0), block.lane(1)
    taken = [words[column // 2] >> 32 * (column % 2) for column in range(4)]
    made = []
    for column in range(4):
        parts = []
        for i in range(4):
            # ShiftRows takes byte i of a column from the i-th column behind it.
            at = known + (taken[(column + i) % 4] >> 8 * i & 0xFF) * 4
            parts.append(load(I32, at) << 8 * i if last else load(I32, at + 1024 * i))
        made.append(reduce(xor, parts).widen(I64))
    low, high = made[0] | made[1] << 32, made[2] | made[3] << 32
    return low.spread(2).shuffle(high.spread(2), [0, 2])
