"""What an operation writes for kept and for dropped elements.

Dropout's relatives differ in little: a constant for dropped elements, something
added before or after. A `Form` says what, every backend evaluates it in the
same steps and in the same order, and this module does so in plain NumPy.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final, NamedTuple

import numpy as np
from numpy.typing import NDArray

from .._formulas.activations import ACTIVATIONS
from ..arrays import Array, dtype_name


def _kept_of(activation: str) -> dict[str, Callable[..., Any]]:
    function, backward = ACTIVATIONS[activation]
    return {
        activation: lambda x, scale, shift: function(x) * scale,
        f"{activation}_grad": lambda grad, scale, shift, x: backward(grad * scale, x),
    }


# kind: what a kept element x becomes, given the operands (none, one or two).
KEPT: Final[dict[str, Callable[..., Any]]] = {
    "scale": lambda x, scale, shift: x * scale,
    "affine": lambda x, scale, shift: x * scale + shift,
    "add": lambda x, scale, shift, residual: x * scale,
    "bias": lambda x, scale, shift, bias: (x + bias) * scale,
    "bias_add": lambda x, scale, shift, bias, residual: (x + bias) * scale,
    **{kind: kept for name in ACTIVATIONS for kind, kept in _kept_of(name).items()},
}
KINDS: Final = tuple(KEPT)  # their order is the C kernels' (kernels.h)
_ADDS: Final = ("add", "bias_add")  # the last operand is added to kept and dropped alike


class Form(NamedTuple):
    """How an element is written, and the numbers and arrays that takes.

    Operands have x's shape and dtype; kept elements are multiplied by the
    mask's scale. Half precision is computed in single and rounded once.
    """

    kind: str = "scale"
    shift: float = 0.0
    dropped: float = 0.0
    operands: tuple[Array, ...] = ()


SCALE: Final = Form()


def evaluate(kept: NDArray[np.bool_], x: Array, scale: float, form: Form) -> Array:
    """Return what `form` makes of x under a mask of its shape, in plain NumPy."""
    if x.dtype.kind == "c":
        y = np.empty_like(x)
        real = form._replace(operands=tuple(o.real for o in form.operands))
        imaginary = form._replace(operands=tuple(o.imag for o in form.operands))
        # Part by part: a complex product would turn inf * (scale + 0j) into NaN.
        y.real = evaluate(kept, x.real, scale, real)
        y.imag = evaluate(kept, x.imag, scale, imaginary)
        return y
    wide, *operands = (widened(a) for a in (x, *form.operands))
    number = wide.dtype.type
    with np.errstate(all="ignore"):
        y = KEPT[form.kind](wide, number(scale), number(form.shift), *operands)
        y = np.where(kept, y, number(form.dropped))
        return narrowed(y + operands[-1] if form.kind in _ADDS else y, x.dtype)


def widened(x: Array) -> Array:
    """Return half precision in single, and others as they are."""
    name = dtype_name(x.dtype)
    if name == "float16":
        return x.astype(np.float32)
    if name == "bfloat16":
        bits = x.view(np.uint16).astype(np.uint32) << np.uint32(16)
        return bits.view(np.float32)
    return x


def narrowed(x: Array, dtype: np.dtype[Any]) -> Array:
    """Return x rounded to the nearest number of a dtype, ties to even."""
    if dtype_name(dtype) == "bfloat16":
        return _to_bfloat16(x).view(dtype)
    return x.astype(dtype, copy=False)


def _to_bfloat16(x: NDArray[Any]) -> NDArray[np.uint16]:
    """Round float32 to the nearest bfloat16, ties to even; NaN keeps its upper bits."""
    bits = np.asarray(x).view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))
    quiet = bits | np.uint32(0x400000)
    return (np.where(np.isnan(x), quiet, rounded) >> np.uint32(16)).astype(np.uint16)
