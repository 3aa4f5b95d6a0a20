"""LLVM's vectors and memory for Numba's kernels, in Python's operators.

Numba has no words for vectors, and what LLVM makes of loops by itself falls short of what
C says with vector types. Here a function is run while a kernel is compiled, and a `Value` is
what an instruction will have made: its operators append instructions, and a loop is unrolled.

Vectors of `vector` have 512 bits, whatever the processor has: LLVM cuts them to its size.
"""

from __future__ import annotations

import operator
from collections.abc import Callable, Sequence
from typing import Any, Final

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba.core import cgutils
from numba.core.registry import cpu_target

BITS: Final = 512

I1, I8, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 8, 16, 32, 64))
F16, F32, F64 = ir.HalfType(), ir.FloatType(), ir.DoubleType()

_TARGET: Final = cpu_target.target_context.codegen().magic_tuple()
CPU: Final = str(_TARGET[1])
FEATURES: Final = frozenset(str(_TARGET[2]).split(","))
X86: Final = str(_TARGET[0]).startswith("x86_64")
AARCH64: Final = str(_TARGET[0]).startswith(("aarch64", "arm64"))

# What the code that Numba makes may use: those of the processor, unless NUMBA_CPU_FEATURES
# says otherwise. Numba keeps apart what it caches for each.
HAS_AVX512: Final = "+avx512f" in FEATURES
# Bits of a register for vectors, 0 if that is not known here.
_REGISTER: Final = (
    512 if HAS_AVX512 else 256 if X86 and "+avx" in FEATURES else 128 * (X86 or AARCH64)
)
HAS_PDEP: Final = X86 and "+bmi2" in FEATURES
HAS_F16C: Final = X86 and "+f16c" in FEATURES and llvm.llvm_version_info[0] >= 15


def vector(element: ir.Type) -> ir.VectorType:
    """Return the type of 512 bits of elements."""
    width = 64 if element == F64 else 32 if element == F32 else element.width
    return ir.VectorType(element, BITS // width)


# What an element is in NumPy's words.
DTYPE_OF: Final = {
    I1: np.dtype(np.bool_),
    I16: np.dtype(np.uint16),
    I32: np.dtype(np.uint32),
    I64: np.dtype(np.uint64),
    F32: np.dtype(np.float32),
    F64: np.dtype(np.float64),
}
_ELEMENTS: Final = {dtype: element for element, dtype in DTYPE_OF.items()}
_FLOATS: Final = (F16, F32, F64)


class Value:
    """What an instruction makes: a number, or a vector of them.

    Operators take two of one type, a vector and a number for all its lanes, or a
    Python number. Integers are unsigned, and shifts fill with zeros.

    NumPy's functions take it for an array as far as formulas need that: what is written for
    arrays (`fastdrop._formulas`) becomes instructions when it is called with these.
    """

    __slots__ = ("builder", "llvm", "signed")

    def __init__(self, builder: ir.IRBuilder, value: Any, signed: bool = False) -> None:
        self.builder = builder
        self.llvm = value
        self.signed = signed  # whether `astype` of a number of floating point reads it as signed

    @property
    def type(self) -> Any:
        return self.llvm.type

    @property
    def lanes(self) -> int:
        return int(self.type.count) if isinstance(self.type, ir.VectorType) else 1

    @property
    def element(self) -> Any:
        return self.type.element if isinstance(self.type, ir.VectorType) else self.type

    def _with(self, other: Any, integers: str, floats: str = "") -> Value:
        a, b = self._alike(other)
        name = floats if floats and a.element in _FLOATS else integers
        return self.of(getattr(self.builder, name)(a.llvm, b.llvm))

    def _alike(self, other: Any) -> tuple[Value, Value]:
        """Return this one and another or a number, as vectors if one is."""
        a, b = self, other if isinstance(other, Value) else self.constant(other)
        if a.lanes < b.lanes:
            a = a.spread(b.lanes)
        elif b.lanes < a.lanes:
            b = b.spread(a.lanes)
        return a, b

    def __add__(self, other: Any) -> Value:
        return self._with(other, "add", "fadd")

    def __sub__(self, other: Any) -> Value:
        return self._with(other, "sub", "fsub")

    def __mul__(self, other: Any) -> Value:
        return self._with(other, "mul", "fmul")

    def __truediv__(self, other: Any) -> Value:
        return self._with(other, "udiv", "fdiv")

    def __and__(self, other: Any) -> Value:
        return self._with(other, "and_")

    def __or__(self, other: Any) -> Value:
        return self._with(other, "or_")

    def __xor__(self, other: Any) -> Value:
        return self._with(other, "xor")

    def __lshift__(self, other: Any) -> Value:
        return self._with(other, "shl")

    def __rshift__(self, other: Any) -> Value:
        return self._with(other, "lshr")

    def __invert__(self) -> Value:
        return self.of(self.builder.not_(self.llvm))

    def __neg__(self) -> Value:
        negate = self.builder.fneg if self.element in _FLOATS else self.builder.neg
        return self.of(negate(self.llvm))

    # Whether lanes compare so with the other's: false, for numbers, if one is NaN.

    def __lt__(self, other: Any) -> Value:
        return self._compare("<", other)

    def __le__(self, other: Any) -> Value:
        return self._compare("<=", other)

    def __gt__(self, other: Any) -> Value:
        return self._compare(">", other)

    def __ge__(self, other: Any) -> Value:
        return self._compare(">=", other)

    def _compare(self, how: str, other: Any) -> Value:
        a, b = self._alike(other)
        floats = self.element in _FLOATS
        compare = self.builder.fcmp_ordered if floats else self.builder.icmp_unsigned
        return self.of(compare(how, a.llvm, b.llvm))

    def is_set(self) -> Value:
        """Return whether lanes of integers are other than 0."""
        return self._compare("!=", 0)

    def is_nan(self) -> Value:
        return self.of(self.builder.fcmp_unordered("uno", self.llvm, self.llvm))

    def of(self, value: Any) -> Value:
        return Value(self.builder, value)

    def constant(self, number: Any, kind: ir.Type | None = None) -> Value:
        """Return a number of this one's type or another; of a vector's, one or a list for all."""
        kind = kind or self.type
        if isinstance(number, np.generic):
            if number.dtype != DTYPE_OF[getattr(kind, "element", kind)]:
                raise TypeError(f"NumPy would convert {number!r} and {kind} to a common type")
            number = number.item()
        if not isinstance(kind, ir.VectorType):
            return self.of(ir.Constant(kind, number))
        return self.of(
            ir.Constant(kind, number if isinstance(number, list) else [number] * kind.count)
        )

    def spread(self, lanes: int) -> Value:
        """Return a vector with this number in each lane."""
        one = ir.Constant(ir.VectorType(self.type, lanes), ir.Undefined)
        first = self.builder.insert_element(one, self.llvm, ir.Constant(I32, 0))
        where = ir.Constant(ir.VectorType(I32, lanes), [0] * lanes)
        return self.of(self.builder.shuffle_vector(first, one, where))

    def shuffle(self, other: Value, lanes: Sequence[int]) -> Value:
        """Return lanes of this vector and, numbered behind its own, of another."""
        where = ir.Constant(ir.VectorType(I32, len(lanes)), list(lanes))
        return self.of(self.builder.shuffle_vector(self.llvm, other.llvm, where))

    def halves(self) -> tuple[Value, Value]:
        """Return the first and the second half of the lanes."""
        half = self.lanes // 2
        return self.shuffle(self, range(half)), self.shuffle(self, range(half, 2 * half))

    def lane(self, number: int) -> Value:
        """Return one of a vector's lanes."""
        return self.of(self.builder.extract_element(self.llvm, ir.Constant(I32, number)))

    def bitcast(self, to: ir.Type) -> Value:
        return self.of(self.builder.bitcast(self.llvm, to))

    def _to(self, element: ir.Type, name: str) -> Value:
        return self.of(getattr(self.builder, name)(self.llvm, self._lanes_of(element)))

    def _lanes_of(self, element: ir.Type) -> ir.Type:
        return ir.VectorType(element, self.lanes) if self.lanes > 1 else element

    def widen(self, element: ir.Type) -> Value:
        return self._to(element, "fpext" if element in _FLOATS else "zext")

    def narrow(self, element: ir.Type) -> Value:
        return self._to(element, "fptrunc" if element in _FLOATS else "trunc")

    def choose(self, a: Any, b: Any) -> Value:
        """Return a's lanes where these ones are true, b's elsewhere."""
        made = next(value for value in (a, b) if isinstance(value, Value))
        a, b = (v if isinstance(v, Value) else made.constant(v) for v in (a, b))
        return self.of(self.builder.select(self.llvm, a.llvm, b.llvm))

    def ones(self) -> Value:
        """Return the number of bits that are set."""
        return self.of(self.builder.ctpop(self.llvm))

    # --- What formulas ask of an array ---

    @property
    def dtype(self) -> np.dtype[Any]:
        return DTYPE_OF[self.element]

    @property
    def itemsize(self) -> int:
        return self.dtype.itemsize

    def view(self, dtype: Any) -> Value:
        """Return the same bits as numbers of another dtype."""
        return self.bitcast(self._lanes_of(_ELEMENTS[np.dtype(dtype)]))

    def astype(self, dtype: Any) -> Value:
        """Return integers as numbers of another dtype."""
        to = np.dtype(dtype)
        if to.kind == "f":
            return self._to(_ELEMENTS[to], "sitofp" if self.signed else "uitofp")
        element = _ELEMENTS[np.dtype(f"u{to.itemsize}")]
        made = self
        if element != self.element:
            made = self._to(element, "trunc" if element.width < self.element.width else "zext")
        return Value(self.builder, made.llvm, to.kind == "i")

    def __array_ufunc__(self, ufunc: np.ufunc, method: str, *inputs: Any) -> Any:
        """Take NumPy's call of an operator or a function, a NumPy number on one side or none."""
        function = _UFUNCS.get(ufunc)
        if function is None or method != "__call__":
            return NotImplemented
        return function(*(v if isinstance(v, Value) else self.constant(v) for v in inputs))

    def __array_function__(
        self, function: Any, types: Any, arguments: tuple[Any, ...], _: dict[str, Any]
    ) -> Any:
        """Take NumPy's call of `where`."""
        if function is not np.where:
            return NotImplemented
        condition, a, b = arguments
        return condition.choose(a, b)


_UFUNCS: Final[dict[np.ufunc, Callable[..., Value]]] = {
    np.add: operator.add,
    np.subtract: operator.sub,
    np.multiply: operator.mul,
    np.divide: operator.truediv,
    np.bitwise_and: operator.and_,
    np.bitwise_or: operator.or_,
    np.isnan: Value.is_nan,
    np.absolute: lambda x: intrinsic(x, f"llvm.fabs.{_suffix(x)}", x.type, x),
    np.sqrt: lambda x: intrinsic(x, f"llvm.sqrt.{_suffix(x)}", x.type, x),
}


def _suffix(x: Value) -> str:
    """Return how LLVM's names of functions end for a type."""
    element = f"f{8 * x.itemsize}"
    return f"v{x.lanes}{element}" if x.lanes > 1 else element


# --- Memory, at addresses ---------------------------------------------------------------------


def load(element: ir.Type, address: Value) -> Value:
    """Return what lies at an address, aligned or not."""
    pointer = address.builder.inttoptr(address.llvm, element.as_pointer())
    return address.of(address.builder.load(pointer, align=1))


def store(value: Value, address: Value, past_caches: bool = False) -> None:
    """Write to an address; past the caches to one that is aligned to the vector."""
    builder = address.builder
    pointer = builder.inttoptr(address.llvm, value.type.as_pointer())
    stored = builder.store(value.llvm, pointer, align=BITS // 8 if past_caches else 1)
    if past_caches:
        one = builder.module.add_metadata([ir.Constant(I32, 1)])
        stored.set_metadata("nontemporal", one)


def prefetch(address: Value) -> None:
    """Ask memory for what will be read."""
    builder = address.builder
    pointer = builder.inttoptr(address.llvm, ir.IntType(8).as_pointer())
    kind = ir.FunctionType(ir.VoidType(), [pointer.type, I32, I32, I32])
    declared = builder.module.declare_intrinsic("llvm.prefetch", [pointer.type], kind)
    # To be read, of use to all caches, and data.
    builder.call(declared, [pointer, *(ir.Constant(I32, n) for n in (0, 3, 1))])


def intrinsic(value: Value, name: str, result: ir.Type, *arguments: Value) -> Value:
    """Call one of LLVM's functions."""
    function = ir.FunctionType(result, [a.type for a in arguments])
    declared = value.builder.module.declare_intrinsic(name, fnty=function)
    return value.of(value.builder.call(declared, [a.llvm for a in arguments]))


def table(anchor: Value, name: str, element: ir.Type, numbers: list[int]) -> Value:
    """Return the address of numbers that never change, a part of the compiled code."""
    builder, module = anchor.builder, anchor.builder.module
    if name in module.globals:
        return anchor.of(builder.ptrtoint(module.globals[name], I64))
    kind = ir.ArrayType(element, len(numbers))
    made = cgutils.global_constant(module, name, ir.Constant(kind, numbers))
    return anchor.of(builder.ptrtoint(made, I64))


def stack(anchor: Value, size: int) -> Value:
    """Return the address of `size` bytes that are the running function's, for vectors to lie in."""
    builder = anchor.builder
    with builder.goto_entry_block():
        room = builder.alloca(ir.ArrayType(ir.IntType(8), size))
        room.align = BITS // 8
    return anchor.of(builder.ptrtoint(room, I64))


def copy_bytes(source: Value, target: Value, count: Value) -> None:
    """Copy bytes from an address to another."""
    builder, bytes_ = source.builder, ir.IntType(8).as_pointer()
    pointers = (builder.inttoptr(address.llvm, bytes_) for address in (target, source))
    cgutils.raw_memcpy(builder, *pointers, count.llvm, 1)


def hidden(value: Value) -> Value:
    """Return a word of which LLVM does not know how it came about."""
    kind = ir.FunctionType(I64, [I64])
    return value.of(value.builder.asm(kind, "", "=r,0", [value.llvm], False))


# A result in any register for vectors, in words of LLVM's inline assembly.
_ANY_REGISTER: Final = "=w" if AARCH64 else "=v" if HAS_AVX512 else "=x"


def in_place(vectors: list[Value]) -> list[Value]:
    """Have vectors made here, between what is read and written before and what is behind.

    LLVM would make them where they are needed, which may be much later. Return them.
    """
    kinds = [value.type for value in vectors]
    if kinds[0].count * kinds[0].element.width > _REGISTER:
        return vectors  # an instruction's operands are registers, and they are too small
    kind = ir.FunctionType(ir.LiteralStructType(kinds), kinds)
    registers = [_ANY_REGISTER] * len(kinds) + [str(i) for i in range(len(kinds))] + ["~{memory}"]
    builder, given = vectors[0].builder, [value.llvm for value in vectors]
    made = builder.asm(kind, "", ",".join(registers), given, True)
    return [vectors[0].of(builder.extract_value(made, i)) for i in range(len(kinds))]


def deposit(bits: Value, where: Value) -> Value:
    """Return the lowest bits, one for each set bit of `where`, moved there. Needs HAS_PDEP."""
    return intrinsic(bits, "llvm.x86.bmi.pdep.64", I64, bits, where)


def call(address: Value, result: ir.Type, *arguments: Any) -> Value:
    """Call a C function of 64-bit arguments at an address."""
    builder = address.builder
    given = [a if isinstance(a, Value) else address.constant(a) for a in arguments]
    function = ir.FunctionType(result, [I64] * len(arguments)).as_pointer()
    pointer = builder.inttoptr(address.llvm, function)
    return address.of(builder.call(pointer, [argument.llvm for argument in given]))
