"""How elements in memory become numbers to compute with, and back, by dtype."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
from llvmlite import ir

from ..._formulas.bfloat16 import from_bfloat16, to_bfloat16
from .vector import F16, F32, F64, HAS_F16C, I16, I32, Value, vector


def _same(value: Value) -> Value:
    return value


def _from_half(half: Value) -> Value:
    wide = half.widen(I32)
    sign, magnitude = (wide & 0x8000) << 16, wide & 0x7FFF
    # The exponent's offset goes from 15 to 127, that of infinities and NaN from 31 to 255.
    offset = (magnitude >= 0x7C00).choose(wide.constant(0x70000000), 0x38000000)
    subnormal = (magnitude.astype(np.float32) * 2.0**-24).bitcast(wide.type)
    normal = (magnitude << 13) + offset
    return (sign | (magnitude < 0x400).choose(subnormal, normal)).bitcast(vector(F32))


def _to_half(number: Value) -> Value:
    bits = number.bitcast(vector(I32))
    sign, magnitude = bits >> 16 & 0x8000, bits & 0x7FFFFFFF
    normal = magnitude + 0xFFF - 0x38000000 + (magnitude >> 13 & 1) >> 13
    # The sum's unit in the last place is the smallest subnormal: the addition rounds.
    subnormal = (magnitude.bitcast(number.type) + 0.5).bitcast(bits.type) - 0x3F000000
    finite = (magnitude < 0x38800000).choose(subnormal, normal)
    nan = magnitude >> 13 & 0x3FF | 0x7E00
    large = (magnitude > 0x7F800000).choose(nan, 0x7C00)
    return ((magnitude >= 0x477FF000).choose(large, finite) | sign).narrow(I16)


def _from_half_f16c(half: Value) -> Value:
    return half.bitcast(ir.VectorType(F16, half.lanes)).widen(F32)


def _to_half_f16c(number: Value) -> Value:
    return number.narrow(F16).bitcast(ir.VectorType(I16, number.lanes))


@dataclass(frozen=True)
class DType:
    """How elements become numbers to compute with, and back."""

    size: int  # bytes of an element
    number: Any  # the type computed in
    share: int = 1  # numbers of an element
    stored: Any = None  # the type in memory, if it is another
    read: Callable[[Any], Any] = _same
    write: Callable[[Any], Any] = _same


_HALF: Final = (_from_half_f16c, _to_half_f16c) if HAS_F16C else (_from_half, _to_half)
DTYPES: Final[dict[str, DType]] = {
    "float16": DType(2, F32, 1, I16, *_HALF),
    "bfloat16": DType(2, F32, 1, I16, from_bfloat16, to_bfloat16),
    "float32": DType(4, F32),
    "float64": DType(8, F64),
    "complex64": DType(8, F32, 2),
    "complex128": DType(16, F64, 2),
}
# Elements of one number: those of others take so many instructions that compiling them would
# take longest, and so long to move that they need no pipeline.
REAL: Final = tuple(name for name, dtype in DTYPES.items() if dtype.share == 1)
SIZES: Final = {name: dtype.size for name, dtype in DTYPES.items()}
