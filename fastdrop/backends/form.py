"""What an operation writes for kept and for dropped elements.

Dropout's relatives differ in little: a constant for dropped elements, something
added before or after. A `Form` says what, and every backend evaluates it in the
same steps and in the same order. The steps are said here: NumPy takes them on
arrays, and the Numba backend on vectors while it compiles a kernel.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from .._formulas.activations import ACTIVATIONS
from .._formulas.bfloat16 import from_bfloat16, to_bfloat16
from ..arrays import Array, dtype_name

if TYPE_CHECKING:
    from numpy.typing import NDArray


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
OPERANDS: Final = {kind: kept.__code__.co_argcount - 3 for kind, kept in KEPT.items()}  # how many
_MOVED: Final = "affine"  # the one form that takes `shift` and `dropped`; others drop to +0.0
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
    numbers = map(wide.dtype.type, (scale, form.shift, form.dropped))
    with np.errstate(all="ignore"):
        return narrowed(formed(form.kind, kept, wide, operands, *numbers), x.dtype)


def formed(
    kind: str, kept: Any, x: Any, operands: Sequence[Any], scale: Any, shift: Any, dropped: Any
) -> Any:
    """Return what a form makes of x, in the precision that x, operands and numbers have."""
    zero = x.dtype.type(0)
    y = np.where(kept, KEPT[kind](x, scale, shift, *operands), dropped if kind == _MOVED else zero)
    return y + operands[-1] if kind in _ADDS else y


def widened(x: Array) -> Array:
    """Return half precision in single, and others as they are."""
    name = dtype_name(x.dtype)
    if name == "float16":
        return x.astype(np.float32)
    if name == "bfloat16":
        return from_bfloat16(x.view(np.uint16))
    return x


def narrowed(x: Array, dtype: np.dtype[Any]) -> Array:
    """Return x rounded to the nearest number of a dtype, ties to even. Overflow is no error."""
    if dtype_name(dtype) == "bfloat16":
        return to_bfloat16(x).view(dtype)
    with np.errstate(all="ignore"):
        return x.astype(dtype, copy=False)
