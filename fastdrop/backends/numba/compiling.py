"""How functions are compiled by Numba: as parts of kernels, and as kernels that Python calls."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import partial
from types import FunctionType
from typing import Any, Final, TypeVar

import numba
from llvmlite import ir
from numba import types
from numba.core.compiler_lock import global_compiler_lock
from numba.extending import intrinsic, overload

from .sources import digest
from .vector import I64, Value

NOTHING: Final = types.void
WORD: Final = types.uint64
PAIR: Final = types.UniTuple(types.uint64, 2)
ADDRESS: Final = types.int64

F = TypeVar("F", bound=Callable[..., Any])

# --- Parts of kernels -------------------------------------------------------------------------


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


def inner(*constants: Any) -> Callable[[F], F]:
    """Compile a function as a part of the kernels that call it.

    `constants` are what tells it from its likes, as `named` wants them.
    """
    return lambda function: numba.njit(nogil=True)(named(function, *constants))


def like(stub: Callable[..., Any], inline: bool = False) -> Callable[[F], F]:
    """Have a function choose, by the types in a call of `stub`, what is compiled for it.

    Constants are types of their own. With `inline` that becomes a part of its caller's code
    before LLVM sees it, which saves time if there is one caller.
    """
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


# --- What Python calls ------------------------------------------------------------------------


class _compiled_once:  # noqa: N801
    """A property that compiles at its first use, and is a plain attribute from then on.

    Like functools.cached_property, which has a lock of its own in Python 3.11. A child forked
    while another thread holds that lock would wait for it for good. A fork waits for Numba's
    lock (`threads.py`).
    """

    def __init__(self, compile_it: Callable[[Any], Callable[..., int]]) -> None:
        self._compile_it, self._name = compile_it, compile_it.__name__

    def __get__(self, kernel: Any, _: type) -> Callable[..., int]:
        made: dict[str, Any] = vars(kernel)
        with global_compiler_lock:
            if self._name not in made:  # another thread may have come first
                made[self._name] = self._compile_it(kernel)
        return made[self._name]  # type: ignore[no-any-return]


class Kernel:
    """A function that Python calls, compiled for one thread and for several at its first use there.

    Its first argument is the number of threads, and None for one: see `threads.py`.
    """

    def __init__(self, function: Callable[..., Any], arguments: str, constants: Any) -> None:
        self._function, self._arguments, self._constants = function, arguments, constants

    @_compiled_once
    def serial(self) -> Callable[..., int]:
        return self._compiled("none", *self._constants)

    @_compiled_once
    def parallel(self) -> Callable[..., int]:
        numba.get_num_threads()  # starts the threads, whose functions kernels are linked with
        return self._compiled("int64", *self._constants, "parallel", parallel=True)

    def _compiled(
        self, threads: str, *constants: Any, parallel: bool = False
    ) -> Callable[..., int]:
        signature = f"int64({threads}, {self._arguments})"
        options = {"nogil": True, "parallel": parallel}
        made = _cached(partial(numba.njit, **options), self._function, *constants)
        made.compile(signature)
        # Without Numba's dispatcher: that would look at the type of each argument in each call.
        return made.get_overload(signature)  # type: ignore[no-any-return]


def kernel(arguments: str, *constants: Any) -> Callable[[Callable[..., Any]], Kernel]:
    """Make a `Kernel` of a function whose arguments, but for the first, have these types.

    It may close over plain constants only: Numba's cache would not recognise functions.
    """
    return lambda function: Kernel(function, arguments, constants)


def address_of(signature: str, *constants: Any) -> Callable[[Callable[..., Any]], int]:
    """Compile a function that kernels call through an address, and return that.

    What is compiled once is no part of each of them.
    """

    def compiled(function: Callable[..., Any]) -> int:
        made = _cached(partial(numba.cfunc, signature), function, *constants)
        _alive.append(made)
        return int(made.address)

    return compiled


_alive: Final[list[Any]] = []  # code that addresses are known of


def _cached(compiler: Callable[..., Any], function: Callable[..., Any], *constants: Any) -> Any:
    """Return a compiled function, cached on disk where that is possible.

    It is named after what it is made of: where that has changed, the cache has nothing.
    """
    copy = FunctionType(
        function.__code__, function.__globals__, function.__name__, None, function.__closure__
    )
    named(copy, *constants, digest(function.__module__))
    try:
        return compiler(cache=True)(copy)
    except RuntimeError:  # no directory that the cache could be written to
        return compiler()(copy)
