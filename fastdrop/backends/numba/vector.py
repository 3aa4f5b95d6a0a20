"""LLVM's vectors and memory for Numba's kernels, in Python's operators.

Numba has no words for vectors, and what LLVM makes of loops by itself falls short of what
C says with vector types. Here a function is run while a kernel is compiled, and a `Value` is
what an instruction will have made: its operators append instructions, and a loop is unrolled.

Vectors have 512 bits, whatever the processor has: LLVM cuts them to its size.
"""

from __future__ import annotations

import hashlib
import inspect
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Final, TypeVar

import llvmlite.binding as llvm
import numba
from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.registry import cpu_target
from numba.extending import intrinsic, overload

BITS: Final = 512

I1, I16, I32, I64 = (ir.IntType(bits) for bits in (1, 16, 32, 64))
F16, F32, F64 = ir.HalfType(), ir.FloatType(), ir.DoubleType()

_TARGET: Final = cpu_target.target_context.codegen().magic_tuple()
_FEATURES: Final = str(_TARGET[2]).split(",")
_X86: Final = str(_TARGET[0]).startswith("x86_64")

# What the code that Numba makes may use: those of the processor, unless NUMBA_CPU_FEATURES
# says otherwise. Numba keeps apart what it caches for each.
HAS_AVX512: Final = "+avx512f" in _FEATURES
HAS_PDEP: Final = _X86 and "+bmi2" in _FEATURES
HAS_F16C: Final = _X86 and "+f16c" in _FEATURES and llvm.llvm_version_info[0] >= 15


def vector(element: ir.Type) -> ir.VectorType:
    """Return the type of 512 bits of elements."""
    width = 64 if element == F64 else 32 if element == F32 else element.width
    return ir.VectorType(element, BITS // width)


class Value:
    """What an instruction makes: a number, or a vector of them.

    Operators take two of one type, a vector and a number for all its lanes, or a
    Python number. Integers are unsigned, and shifts fill with zeros.
    """

    __slots__ = ("builder", "llvm")

    def __init__(self, builder: ir.IRBuilder, value: Any) -> None:
        self.builder = builder
        self.llvm = value

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
        a, b = self, other if isinstance(other, Value) else self.constant(other)
        if a.lanes < b.lanes:
            a = a.spread(b.lanes)
        elif b.lanes < a.lanes:
            b = b.spread(a.lanes)
        name = floats if floats and a.element in (F32, F64) else integers
        return self.of(getattr(self.builder, name)(a.llvm, b.llvm))

    def __add__(self, other: Any) -> Value:
        return self._with(other, "add", "fadd")

    def __sub__(self, other: Any) -> Value:
        return self._with(other, "sub", "fsub")

    def __mul__(self, other: Any) -> Value:
        return self._with(other, "mul", "fmul")

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

    def of(self, value: Any) -> Value:
        return Value(self.builder, value)

    def constant(self, number: Any, kind: ir.Type | None = None) -> Value:
        """Return a number of this one's type or another; of a vector's, one or a list for all."""
        kind = kind or self.type
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

    def bitcast(self, to: ir.Type) -> Value:
        return self.of(self.builder.bitcast(self.llvm, to))

    def _to(self, element: ir.Type, name: str) -> Value:
        to = ir.VectorType(element, self.lanes) if self.lanes > 1 else element
        return self.of(getattr(self.builder, name)(self.llvm, to))

    def widen(self, element: ir.Type) -> Value:
        return self._to(element, "fpext" if element in (F32, F64) else "zext")

    def narrow(self, element: ir.Type) -> Value:
        return self._to(element, "fptrunc" if element in (F16, F32) else "trunc")

    def to_float(self) -> Value:
        """Return 32-bit integers, of 0 to 2**31 - 1, as the nearest single-precision numbers."""
        return self._to(F32, "sitofp")

    def compare(self, how: str, other: Any) -> Value:
        """Return whether lanes compare so with the other's: false, for numbers, if one is NaN."""
        b = other if isinstance(other, Value) else self.constant(other)
        numbers = self.element in (F32, F64)
        compare = self.builder.fcmp_ordered if numbers else self.builder.icmp_unsigned
        return self.of(compare(how, self.llvm, b.llvm))

    def is_nan(self) -> Value:
        return self.of(self.builder.fcmp_unordered("uno", self.llvm, self.llvm))

    def choose(self, a: Value, b: Any) -> Value:
        """Return a's lanes where these ones are true, b's elsewhere."""
        other = b if isinstance(b, Value) else a.constant(b)
        return self.of(self.builder.select(self.llvm, a.llvm, other.llvm))

    def ones(self) -> Value:
        """Return the number of bits that are set."""
        return self.of(self.builder.ctpop(self.llvm))


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


def _intrinsic(value: Value, name: str, result: ir.Type, *arguments: Value) -> Value:
    function = ir.FunctionType(result, [a.type for a in arguments])
    declared = value.builder.module.declare_intrinsic(name, fnty=function)
    return value.of(value.builder.call(declared, [a.llvm for a in arguments]))


def hidden(value: Value) -> Value:
    """Return a word of which LLVM does not know how it came about."""
    kind = ir.FunctionType(I64, [I64])
    return value.of(value.builder.asm(kind, "", "=r,0", [value.llvm], False))


def in_place(vectors: list[Value]) -> list[Value]:
    """Have vectors made here, between what is read and written before and what is behind.

    LLVM would make them where they are needed, which may be much later. Return them.
    """
    if not HAS_AVX512:
        return vectors  # an instruction's operands are registers, and others are too small
    kinds = [value.type for value in vectors]
    kind = ir.FunctionType(ir.LiteralStructType(kinds), kinds)
    registers = ["=v"] * len(kinds) + [str(i) for i in range(len(kinds))] + ["~{memory}"]
    builder, given = vectors[0].builder, [value.llvm for value in vectors]
    made = builder.asm(kind, "", ",".join(registers), given, True)
    return [vectors[0].of(builder.extract_value(made, i)) for i in range(len(kinds))]


def deposit(bits: Value, where: Value) -> Value:
    """Return the lowest bits, one for each set bit of `where`, moved there. Needs HAS_PDEP."""
    return _intrinsic(bits, "llvm.x86.bmi.pdep.64", I64, bits, where)


def call(address: Value, result: ir.Type, *arguments: Any) -> Value:
    """Call a C function of 64-bit arguments at an address."""
    builder = address.builder
    given = [a if isinstance(a, Value) else address.constant(a) for a in arguments]
    function = ir.FunctionType(result, [I64] * len(arguments)).as_pointer()
    pointer = builder.inttoptr(address.llvm, function)
    return address.of(builder.call(pointer, [argument.llvm for argument in given]))


# --- The door to Numba ------------------------------------------------------------------------

NOTHING: Final = types.void
WORD: Final = types.uint64
PAIR: Final = types.UniTuple(types.uint64, 2)
ADDRESS: Final = types.int64


def emitted(result: Any) -> Callable[[Callable[..., Any]], Any]:
    """Make a function of `Value` s callable in Numba's code.

    It gets constants (literal types: ints, strings) as they are.
    """

    def decorate(function: Callable[..., Any]) -> Any:
        def typed(context: Any, *arguments: Any) -> Any:
            def code(context: Any, builder: Any, signature: Any, values: Any) -> Any:
                given = [
                    kind.literal_value if isinstance(kind, types.Literal) else Value(builder, value)
                    for kind, value in zip(signature.args, values, strict=True)
                ]
                anchor = Value(builder, ir.Constant(I64, 0))
                made = function(anchor, *given)
                if made is None:
                    return context.get_dummy_value()
                if isinstance(made, Value):
                    return made.llvm
                return context.make_tuple(builder, result, [value.llvm for value in made])

            return result(*arguments), code

        typed.__name__ = function.__name__
        typed.__doc__ = function.__doc__
        typed.__signature__ = inspect.signature(function)  # type: ignore[attr-defined]
        return intrinsic(prefer_literal=True)(typed)

    return decorate


F = TypeVar("F", bound=Callable[..., Any])


def inner(*constants: Any, inline: bool = False) -> Callable[[F], F]:
    """Compile a function as a part of the kernels that call it.

    `constants` are what tells it from its likes, as `named` wants them; with `inline` it
    becomes a part of its caller's code before LLVM sees that, which saves time if there is one.
    """

    def compiled(function: F) -> F:
        how = "always" if inline else "never"
        return numba.njit(nogil=True, inline=how)(named(function, *constants))  # type: ignore[no-any-return]

    return compiled


def kernel(*constants: Any, parallel: bool = False) -> Callable[[F], F]:
    """Compile a function that Python calls, and cache it on disk.

    It has to close over `SOURCES`: the cache knows it by its own file and by what it closes
    over, and would not notice a change of what it calls. That must be plain constants, for
    the cache would not recognise functions.
    """

    def compiled(function: F) -> F:
        options = {"nogil": True, "parallel": parallel}
        try:
            return numba.njit(cache=True, **options)(named(function, *constants))  # type: ignore[no-any-return]
        except RuntimeError:  # no directory that the cache could be written to
            return numba.njit(**options)(function)  # type: ignore[no-any-return]

    return compiled


def entry(compiled: Any, signature: str) -> Callable[..., int]:
    """Return what Python calls of a `kernel`, compiled for the types that a signature names.

    Without Numba's dispatcher: that would look at the type of each argument in each call.
    """
    compiled.compile(signature)
    return compiled.get_overload(signature)  # type: ignore[no-any-return]


def address_of(signature: str, *constants: Any) -> Callable[[Callable[..., Any]], int]:
    """Compile a function that kernels call through an address, and cache it as `kernel` does.

    What is compiled once is no part of each of them.
    """

    def compiled(function: Callable[..., Any]) -> int:
        try:
            made = numba.cfunc(signature, cache=True)(named(function, *constants))
        except RuntimeError:  # no directory that the cache could be written to
            made = numba.cfunc(signature)(function)
        _alive.append(made)
        return int(made.address)

    return compiled


_alive: Final[list[Any]] = []  # code that addresses are known of


def _hash_of_sources() -> str:
    names = "kernels", "generators", "steps", "vector"
    files = (Path(__file__).with_name(f"{name}.py") for name in names)
    return hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()


SOURCES: Final = _hash_of_sources()


def like(stub: Callable[..., Any], inline: bool = False) -> Callable[[F], F]:
    """Have a function choose, by the constants in a call of `stub`, what is compiled for it."""
    how = "always" if inline else "never"
    return overload(stub, prefer_literal=True, strict=False, inline=how)  # type: ignore[no-any-return]


def named(function: F, *constants: Any) -> F:
    """Name a function after the constants that it closes over.

    Numba's cache may load what several processes have compiled, and takes functions
    of one name in one place for one function.
    """
    name = "_".join([function.__name__, *map(str, constants)])
    function.__name__ = function.__qualname__ = name
    return function


@emitted(ADDRESS)
def stack(anchor: Value, size: int) -> Value:
    """Return the address of `size` bytes that are the running function's, for vectors to lie in."""
    builder = anchor.builder
    with builder.goto_entry_block():
        room = builder.alloca(ir.ArrayType(ir.IntType(8), size))
        room.align = BITS // 8
    return anchor.of(builder.ptrtoint(room, I64))


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
    builder, bytes_ = source.builder, ir.IntType(8).as_pointer()
    pointers = (builder.inttoptr(address.llvm, bytes_) for address in (target, source))
    cgutils.raw_memcpy(builder, *pointers, count.llvm, 1)


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
    """Return what `deposit` does."""
    return deposit(bits, where)


@emitted(NOTHING)
def fence(anchor: Value) -> None:
    """Make what was written past the caches visible to whoever waits for this thread."""
    if _X86:
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
