"""Which backend runs: picked by name, and never silently another one."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from functools import cache, partial
from importlib.util import find_spec
from typing import TYPE_CHECKING, Final

import numpy as np

from .. import _cy
from .._formulas.normal import Noise
from ..arrays import Array, prepare
from ..checks import shown
from ..mask_format import Rate
from ..rng import AnyRNG
from ..rng.base import Stream
from ..sharing import Strides
from .base import NOTHING_WRITTEN, Backend, Draw, Draws
from .form import Form

if TYPE_CHECKING:
    from numpy.typing import NDArray

__all__ = [
    "NOTHING_WRITTEN",
    "Backend",
    "Draw",
    "Draws",
    "Form",
    "add_noise",
    "apply",
    "available_backends",
    "current",
    "draw",
    "evaluate",
    "evaluate_bits",
    "evaluate_samples",
    "get_backend",
    "reserved",
    "set_backend",
    "use_backend",
]

NAMES: Final = ("cython", "numba", "reference")  # the first available is the default
ENVIRONMENT: Final = "FASTDROP_BACKEND"


def _backend(name: str) -> Backend:
    if name not in available_backends():
        raise ValueError(
            f"backend must be one of {available_backends()} here, but got {shown(name)}"
        )
    return _load(name)


@cache
def _load(name: str) -> Backend:
    if name == "cython":
        from .cython import CythonBackend

        return CythonBackend()
    if name == "numba":
        from .numba.backend import NumbaBackend

        return NumbaBackend()
    from .reference import ReferenceBackend

    return ReferenceBackend()


def available_backends() -> list[str]:
    """Return the backends that can run here, best first.

    Examples
    --------
    >>> import fastdrop
    >>> "reference" in fastdrop.available_backends()
    True
    """
    has = {
        "cython": _cy.core is not None,
        "numba": find_spec("numba") is not None,
        "reference": True,
    }
    return [name for name in NAMES if has[name]]


_default: Backend | None = None
_override: ContextVar[Backend | None] = ContextVar("fastdrop_backend", default=None)
_has_overrides = False  # ever: most programs need not pay for a look at the context


def current() -> Backend:
    """Return the backend that runs the next operation in this context.

    `apply` says it itself, for small arrays feel a call.
    """
    return (_has_overrides and _override.get()) or _default or _first()


def _first() -> Backend:
    """Load the default at first use: import fastdrop must not wait for numba."""
    _make_default(_backend(os.environ.get(ENVIRONMENT) or available_backends()[0]))
    assert _default is not None
    return _default


def _make_default(backend: Backend) -> None:
    global _default, quick
    _default, quick = backend, _draw_in_context if _has_overrides else backend.draw
    if _has_overrides:  # looked at again: another thread may have entered `use_backend` meanwhile
        quick = _draw_in_context


def _draw_in_context(
    rng: AnyRNG, rate: Rate, x: Array, inplace: bool, out: Array | None
) -> tuple[Array, Stream, int] | None:
    return current().draw(rng, rate, x, inplace, out)


# What callers try first, the current backend's `draw`: the default one's own, as long as there has
# been no other.
quick = _draw_in_context


def set_backend(name: str) -> None:
    """Choose the backend for the whole process.

    Parameters
    ----------
    name : {"cython", "numba", "reference"}
        The environment variable FASTDROP_BACKEND sets it from the start.

    Raises
    ------
    ValueError
        If that backend cannot run here.

    Examples
    --------
    >>> import fastdrop
    >>> fastdrop.set_backend(fastdrop.get_backend())
    """
    _make_default(_backend(name))


def get_backend() -> str:
    """Return the name of the backend that runs the next operation.

    Examples
    --------
    >>> import fastdrop
    >>> with fastdrop.use_backend("reference"):
    ...     fastdrop.get_backend()
    'reference'
    """
    return current().name


@contextmanager
def use_backend(name: str) -> Iterator[None]:
    """Use a backend inside a ``with`` block, in this thread or task only.

    Parameters
    ----------
    name : {"cython", "numba", "reference"}

    Raises
    ------
    ValueError
        If that backend cannot run here.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> y = fastdrop.dropout(np.ones(9), rng=1)
    >>> with fastdrop.use_backend("reference"):
    ...     bool((fastdrop.dropout(np.ones(9), rng=1) == y).all())
    True
    """
    global _has_overrides, quick
    token = _override.set(_backend(name))
    _has_overrides, quick = True, _draw_in_context
    try:
        yield
    finally:
        _override.reset(token)


def draw_in_steps(
    rng: AnyRNG, rate: Rate, x: Array, inplace: bool, out: Array | None
) -> tuple[Array, Stream, int]:
    """Drop elements of `x` under a new mask: what callers do where `quick` returns None.

    All arguments but `rate` and `rng` are unchecked.

    Returns
    -------
    y : ndarray
        As `prepare` chooses it.
    stream, position
        Where the mask's words are.
    """
    y = prepare(x, inplace, out)
    with reserved(rng, rate, x.size) as drawn:
        apply(drawn, x, y)
    return y, drawn.stream, drawn.position


class reserved:  # noqa: N801
    """A new draw of `size` elements for a ``with`` block.

    Its words are given back if the block fails before anything is written.
    """

    # Not a contextmanager: that takes 1 us, and small arrays' calls take few.
    __slots__ = "_range", "_rate", "_rng", "_words"

    def __init__(self, rng: AnyRNG, rate: Rate, size: int) -> None:
        self._rng, self._rate, self._words = rng, rate, rate.words(size)

    def __enter__(self) -> Draw:
        self._range = self._rng.reserve(self._words)
        return Draw(*self._range, self._rate)

    def __exit__(self, kind: type[BaseException] | None, *_: object) -> None:
        if kind is not None and issubclass(kind, NOTHING_WRITTEN):
            self._rng.give_back(*self._range, self._words)


def apply(draw: Draw, x: Array, out: Array) -> None:
    """Run the current backend's `apply`; foreign byte orders go through a native copy."""
    backend = (_has_overrides and _override.get()) or _default or _first()
    if x.dtype.isnative:
        backend.apply(draw, x, out)
    else:
        _run_native(partial(backend.apply, draw), x, out)


def evaluate(draw: Draw, strides: Strides, form: Form, x: Array, out: Array) -> None:
    """Run the current backend's `evaluate`; foreign byte orders go through a native copy."""
    backend = current()
    if x.dtype.isnative:
        backend.evaluate(draw, strides, form, x, out)
    else:
        _run_native(partial(backend.evaluate, draw, strides, _native(form)), x, out)


def evaluate_samples(draws: Draws, strides: Strides, form: Form, x: Array, out: Array) -> None:
    """Run the current backend's `evaluate_samples`, as `evaluate` does."""
    backend = current()
    if x.dtype.isnative:
        backend.evaluate_samples(draws, strides, form, x, out)
    else:
        _run_native(partial(backend.evaluate_samples, draws, strides, _native(form)), x, out)


def evaluate_bits(
    keep: NDArray[np.uint64], strides: Strides, scale: float, form: Form, x: Array, out: Array
) -> None:
    """Run the current backend's `evaluate_bits`, as `evaluate` does."""
    backend = current()
    if x.dtype.isnative:
        backend.evaluate_bits(keep, strides, scale, form, x, out)
    else:
        _run_native(partial(backend.evaluate_bits, keep, strides, scale, _native(form)), x, out)


def add_noise(stream: Stream, position: int, noise: Noise, x: Array, out: Array) -> None:
    """Run the current backend's `add_noise`; foreign byte orders go through a native copy."""
    backend = current()
    if x.dtype.isnative:
        backend.add_noise(stream, position, noise, x, out)
    else:
        _run_native(partial(backend.add_noise, stream, position, noise), x, out)


def _native(form: Form) -> Form:
    operands = (a.astype(a.dtype.newbyteorder("=")) for a in form.operands)
    return form._replace(operands=tuple(operands))


def _run_native(run: Callable[[Array, Array], None], x: Array, out: Array) -> None:
    native = x.astype(x.dtype.newbyteorder("="), subok=False)
    run(native, native)
    np.copyto(out, native, casting="equiv")
