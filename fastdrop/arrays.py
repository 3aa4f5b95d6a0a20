"""Arrays that operations accept: their dtypes and layouts, and the checks of both.

Every check runs before any random number is drawn or any element is written.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from ._cy import core

Array = np.ndarray[Any, np.dtype[Any]]

DTYPES: Final = ("float16", "bfloat16", "float32", "float64", "complex64", "complex128")
_NATIVE_NUMS: Final = {np.dtype(n).num: n for n in DTYPES if n != "bfloat16"}


def dtype_name(dtype: np.dtype[Any]) -> str | None:
    """Return which of `DTYPES` a dtype is (in any byte order), or None."""
    name = _NATIVE_NUMS.get(dtype.num)
    if name is None and dtype.name == "bfloat16" and dtype.itemsize == 2:
        return "bfloat16"  # ml_dtypes' type, whose number differs from run to run
    return name


def _is_plain(x: Any, p: Any = 0.0) -> bool:
    plain = type(x) is np.ndarray and x.dtype.num in _NATIVE_NUMS and x.dtype.isnative
    return plain and type(p) is float and 0.0 <= p <= 1.0


# `is_plain` tells whether an array needs no further check: NumPy's own class, and a supported
# dtype in native byte order. To save a call in eval mode, it checks a drop probability too.
def _plain_shape(x: Any) -> tuple[int, ...] | None:
    """Return the shape of a plain array, and None for others."""
    return x.shape if _is_plain(x) else None


is_plain: Callable[..., bool] = _is_plain if core is None else core.is_plain
plain_shape: Callable[[Any], tuple[int, ...] | None] = (
    _plain_shape if core is None else core.plain_shape
)


def prepare(x: Any, inplace: bool = False, out: Any = None) -> Array:
    """Check the arrays of an operation and return the one it writes to.

    That is `out`, or `x` with `inplace`, or a new array with x's shape, dtype and
    axis order, without gaps.
    """
    y: Array | None = None if core is None else core.prepare(x, inplace, out)
    return _prepare(x, inplace, out) if y is None else y


def _prepare(x: Any, inplace: bool, out: Any) -> Array:
    check_array(x)
    if inplace:
        if out is not None and out is not x:
            raise ValueError("inplace=True writes into x: out must be None or x itself")
        check_writable(x, "x, with inplace=True,")
        return x  # type: ignore[no-any-return]
    if out is None:
        return np.empty_like(x, subok=False)
    check_out(out, x)
    return out  # type: ignore[no-any-return]


def identity(x: Any, inplace: bool = False, out: Any = None) -> Array:
    """Return x itself, checked, or `out` after copying x to it."""
    if out is None:
        if not is_plain(x):
            check_array(x)
        return x  # type: ignore[no-any-return]
    y = _prepare(x, inplace, out)
    if y is not x:
        np.copyto(y, x)
    return y


def check_array(x: Any, name: str = "x") -> None:
    """Raise TypeError unless `x` is a plain array of a supported dtype."""
    if type(x) is not np.ndarray:
        check_class(x, name)
    if x.dtype.num not in _NATIVE_NUMS and dtype_name(x.dtype) is None:
        raise TypeError(
            f"{name} must have one of the dtypes {', '.join(DTYPES)}, but got {x.dtype}"
        )


def check_class(x: Any, name: str) -> None:
    """Raise TypeError unless `x` is a plain ndarray or a memmap."""
    if type(x) is np.ndarray or isinstance(x, np.memmap):
        return
    kind = f"{type(x).__module__}.{type(x).__qualname__}"
    if isinstance(x, np.ndarray):
        raise TypeError(
            f"{name} must be a plain numpy.ndarray or numpy.memmap, but got its subclass {kind}; "
            "np.asarray makes a plain array of it"
        )
    raise TypeError(f"{name} must be a numpy.ndarray, but got {kind}")


def check_real(x: Any, name: str, purpose: str) -> None:
    """Raise TypeError unless `x` is a plain array of a real dtype."""
    check_array(x, name)
    if x.dtype.kind == "c":
        raise TypeError(f"{name} must be of a real dtype for {purpose}, but got {x.dtype}")


def check_alike(a: Any, name: str, x: Array, source: str) -> None:
    """Raise an error unless `a` is a plain array of x's shape and dtype."""
    check_array(a, name)
    if a.shape != x.shape:
        raise ValueError(f"{name} must have {source}'s shape {x.shape}, but got {a.shape}")
    if a.dtype != x.dtype:
        raise TypeError(f"{name} must have {source}'s dtype {x.dtype}, but got {a.dtype}")


def broadcast(a: Array, name: str, shape: tuple[int, ...], whose: str = "") -> Array:
    """Return `a` in a shape, or raise ValueError, which names it as `whose` shape."""
    try:
        return np.broadcast_to(a, shape)
    except ValueError:
        raise ValueError(
            f"{name} must have {whose}shape {shape} or broadcast to it, but got {a.shape}"
        ) from None


def check_out(out: Any, x: Array, name: str = "out", source: str = "x") -> None:
    """Raise an error unless `out` can take a result computed from `x` by elements."""
    check_alike(out, name, x, source)
    check_writable(out, name)
    if out is not x and not _same_memory(out, x) and np.shares_memory(out, x):
        raise ValueError(
            f"{name} must be {source} itself or not overlap it, but it overlaps in part"
        )


def check_writable(out: Array, name: str) -> None:
    """Raise ValueError if `out` is read-only or some of its elements overlap."""
    if not out.flags.writeable:
        raise ValueError(f"{name} must be writable, but got a read-only array")
    if not out.flags.forc and _overlaps_itself(out):
        raise ValueError(
            f"{name} must have memory of its own for each element, but got an array whose elements "
            f"overlap, as broadcast arrays' do (shape {out.shape}, strides {out.strides})"
        )


def _same_memory(a: Array, b: Array) -> bool:
    """Return whether b, of a's shape, has a's elements. Strides of axes of length 1 are ignored."""
    return a.ctypes.data == b.ctypes.data and all(
        s == t for s, t, n in zip(a.strides, b.strides, a.shape, strict=True) if n > 1
    )


def _overlaps_itself(a: Array) -> bool:
    """Return whether two elements may share a byte: always True if they do."""
    if a.size == 0:
        return False
    reach = a.itemsize
    for stride, n in sorted((abs(s), n) for s, n in zip(a.strides, a.shape, strict=True) if n > 1):
        if stride < reach:
            return True
        reach += stride * (n - 1)
    return False
