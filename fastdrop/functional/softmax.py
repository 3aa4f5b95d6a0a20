"""Softmax with dropout, the middle of attention, in one pass over memory."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, Literal, overload

import numpy as np

from .. import backends
from .._formulas.softmax import Scores
from ..arrays import Array, broadcast, check_alike, check_array, check_class, check_real, prepare
from ..backends import Draw
from ..backends.form import narrowed, widened
from ..checks import as_float, shown
from ..mask_format import effective_rate
from ..masks.base import KeepMask, check_mask
from ..masks.mask import Mask
from ..rng import as_rng
from ..sharing import checked_axes

if TYPE_CHECKING:
    from ..rng import RNGLike

_PIECE: Final = 1 << 18  # elements that are copied at once, where kernels need a copy


@overload
def softmax_dropout(
    x: Array,
    p: float = ...,
    axis: int = ...,
    *,
    scale: float = ...,
    bias: Array | None = ...,
    causal: bool = ...,
    training: bool = ...,
    inplace: bool = ...,
    rng: RNGLike = ...,
    out: Array | None = ...,
    return_mask: Literal[False] = ...,
) -> Array: ...
@overload
def softmax_dropout(
    x: Array,
    p: float = ...,
    axis: int = ...,
    *,
    scale: float = ...,
    bias: Array | None = ...,
    causal: bool = ...,
    training: bool = ...,
    inplace: bool = ...,
    rng: RNGLike = ...,
    out: Array | None = ...,
    return_mask: Literal[True],
) -> tuple[Array, Mask]: ...
def softmax_dropout(
    x: Array,
    p: float = 0.5,
    axis: int = -1,
    *,
    scale: float = 1.0,
    bias: Array | None = None,
    causal: bool = False,
    training: bool = True,
    inplace: bool = False,
    rng: RNGLike = None,
    out: Array | None = None,
    return_mask: bool = False,
) -> Array | tuple[Array, Mask]:
    """Return ``dropout(softmax(scale * x + bias), p)`` in one pass.

    Parameters
    ----------
    x : ndarray
        Any shape and layout, of a real dtype.
    p : float, optional
        As for `dropout`. Out of training the result is the softmax.
    axis : int, optional
        Along which probabilities add up to 1.
    scale : float, optional
        What x is multiplied by.
    bias : ndarray, optional
        What is added then, of x's dtype, and x's shape or one that broadcasts to it. Of bool: True
        where an element takes part, as in torch's attention.
    causal : bool, optional
        Element (..., i, j) takes part only for j <= i. Then `axis` must be the last one.
    training : bool, optional
        As for `dropout`.
    inplace : bool, optional
        Write into `x`. Then the backward, which needs x, cannot be computed.
    rng : optional
        As for `dropout`.
    out : ndarray, optional
        Where to write: `x` itself, or an array apart from it.
    return_mask : bool, optional
        Return the mask too, for `softmax_dropout_backward`.

    Returns
    -------
    y : ndarray
        Of x's shape and dtype. Elements that take no part are 0, and so is all of a row in which
        none does.
    mask : Mask
        Only with ``return_mask=True``. It is that of `dropout` of x's shape.

    Raises
    ------
    TypeError
        If x is no plain array of a real dtype, or `bias` is neither of bool nor of x's dtype.
    ValueError
        If `axis` is none of x's, `scale` is not finite, `bias` does not broadcast to x's shape,
        `causal` does not suit `axis`, or as for `dropout`.

    Notes
    -----
    Half precision is computed in single and rounded once. All backends and processors give the
    same bits. For another axis than the last the mask is a pass of its own.

    References
    ----------
    A. Vaswani et al., "Attention is all you need", NeurIPS 2017, arXiv:1706.03762.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x = np.array([[0.0, 1.0, 2.0], [1.0, 1.0, -np.inf]])
    >>> fastdrop.softmax_dropout(x, p=0.0).round(3)
    array([[0.09 , 0.245, 0.665],
           [0.5  , 0.5  , 0.   ]])
    >>> y = fastdrop.softmax_dropout(x, p=0.5, rng=4)
    >>> again = fastdrop.dropout(fastdrop.softmax_dropout(x, p=0.0), p=0.5, rng=4)
    >>> bool(np.allclose(y, again, rtol=1e-15))
    True
    """
    check_real(x, "x", "a softmax")
    checked = effective_rate(p, training)
    rows = Rows(x, axis, scale, bias, causal)
    source = as_rng(rng)  # a bad one is refused before memory is allocated
    written = x if inplace and out is None else out
    if written is not None:
        rows.check_apart(written)
    y = prepare(x, inplace, out)
    with backends.reserved(source, checked, x.size) as draw:
        mask = Mask(draw, x.shape)
        made = rows.room(y)
        fused = rows.axis == x.ndim - 1
        rows.softmax(draw if fused and checked.p else None, made)
        if checked.p and not fused:
            mask.apply(made, made)
        write(made, y)
    return (y, mask) if return_mask else y


def softmax_dropout_backward(
    grad: Array,
    x: Array,
    mask: KeepMask,
    *,
    axis: int = -1,
    scale: float = 1.0,
    bias: Array | None = None,
    causal: bool = False,
    out: Array | None = None,
) -> Array:
    """Return the gradient with respect to the x of `softmax_dropout`.

    Parameters
    ----------
    grad : ndarray
        Gradient with respect to the output.
    x : ndarray
        The forward's input.
    mask : Mask, ArrayMask or another that keeps or drops
        The forward's.
    axis : int, optional
        The forward's.
    scale : float, optional
        The forward's.
    bias : ndarray, optional
        The forward's. The gradient with respect to it is the one with respect to x, divided by
        `scale` and summed over what was broadcast.
    causal : bool, optional
        The forward's.
    out : ndarray, optional
        Where to write: `grad` itself, or an array apart from `grad`, `x` and `bias`.

    Returns
    -------
    ndarray
        Of x's shape and dtype.

    Raises
    ------
    TypeError, ValueError
        If `mask` is no such mask or of another shape, `x` has not grad's shape and dtype, `out`
        does not suit them, or as for `softmax_dropout`.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x = np.array([[0.0, 1.0, 2.0]])
    >>> y, mask = fastdrop.softmax_dropout(x, p=0.0, return_mask=True)
    >>> grad = np.array([[1.0, 0.0, 0.0]])
    >>> fastdrop.softmax_dropout_backward(grad, x, mask).round(3)
    array([[ 0.082, -0.022, -0.06 ]])
    """
    check_mask(mask, KeepMask)
    check_real(grad, "grad", "a softmax")
    check_alike(x, "x", grad, "grad")
    if mask.shape != grad.shape:
        raise ValueError(f"grad must have the mask's shape {mask.shape}, but got {grad.shape}")
    rows = Rows(x, axis, scale, bias, causal)
    if out is not None:
        rows.check_apart(out, of_x=True)
    y = prepare(grad, False, out)
    made = rows.room(y)
    if made is y:
        mask.apply(grad, made)
    else:
        made[...] = widened(grad)
        mask.apply(made, made)
    rows.go_back(made)
    if rows.scale != 1.0:
        np.multiply(made, made.dtype.type(rows.scale), out=made)
    write(made, y)
    return y


class Rows:
    """The rows of x along an axis, and how they become scores: arguments, checked."""

    def __init__(self, x: Array, axis: Any, scale: Any, bias: Any, causal: Any) -> None:
        [self.axis] = checked_axes([axis], x.ndim, "axis")
        self.x, self.causal = x, bool(causal)
        self.number = number_of(x.dtype)
        self.scale = checked_scale(scale, self.number)
        self.given = bias
        self.bias = None if bias is None else checked_bias(bias, "bias", x.dtype, x.shape, "x")
        if self.causal and (x.ndim < 2 or self.axis != x.ndim - 1):
            raise ValueError(
                "causal=True needs x of at least 2 dimensions and the last one as axis, "
                f"but got shape {x.shape} and axis {self.axis}"
            )

    def check_apart(self, out: Any, of_x: bool = False) -> None:
        """Raise ValueError if `out` shares memory with what is read after it is written."""
        check_array(out, "out")
        if self.given is not None and np.shares_memory(out, self.given):
            raise ValueError("out must not overlap bias")
        if of_x and np.shares_memory(out, self.x):
            raise ValueError("out must be grad itself or not overlap x")

    def room(self, y: Array) -> Array:
        """Return y, or an array for what is computed, where that is in other numbers."""
        return y if y.dtype == self.number else np.empty(y.shape, self.number)

    def softmax(self, draw: Draw | None, out: Array) -> None:
        """Write the softmax to `out`, which `room` returned."""
        for at, scores, x, y in self._pieces(out):
            here = draw and draw.starting_at(draw.first + at)
            made = y if _is_room(y) else np.empty(y.shape, y.dtype)
            backends.current().softmax(here, scores, x, _flat(made))
            if made is not y:
                y[...] = made

    def go_back(self, grad: Array) -> None:
        """Make of `grad`, that with respect to the softmax, that with respect to the scores."""
        for _, scores, x, g in self._pieces(grad):
            made = np.require(g, None, ["C", "A"])
            backends.current().softmax_backward(None, scores, x, _flat(made))
            if made is not g:
                g[...] = made

    def _pieces(self, out: Array) -> Iterator[tuple[int, Scores, Array, Array]]:
        """Yield some rows: their first element, their scores, x's for the kernels, and out's."""
        x, y = (np.moveaxis(np.atleast_1d(a), self.axis, -1) for a in (self.x, out))
        bias = None
        if self.bias is not None:
            bias = np.moveaxis(self.bias, self.axis, -1)
        if x.ndim == 1:
            x, y, bias = x[None], y[None], None if bias is None else bias[None]
        if x.size == 0:
            return
        inner = x.size // len(x)
        for begin, end in self._bounds(x, y, bias):
            scores = Scores(
                self.scale,
                None if bias is None else bias_rows(bias[begin:end], self.number),
                x.shape[-2] if self.causal else 0,
                begin if x.ndim == 2 else 0,
            )
            yield begin * inner, scores, flat_rows(x[begin:end], self.number), y[begin:end]

    def _bounds(self, x: Array, y: Array, bias: Array | None) -> Iterator[tuple[int, int]]:
        """Yield from where to where along the first axis rows are taken at once."""
        step = len(x)
        if bias is not None and _repeats_within(bias):
            step = 1
        elif not (_is_room(x) and _is_room(y) and (bias is None or _is_room(bias))):
            step = max(1, _PIECE // (x.size // len(x)))
        for begin in range(0, len(x), step):
            yield begin, min(begin + step, len(x))


def _is_room(a: Array) -> bool:
    """Return whether kernels can read and write rows of an array where they are."""
    flags = a.flags
    return a.dtype.isnative and a.dtype.char in "fd" and flags.c_contiguous and flags.aligned


def _repeats_within(bias: Array) -> bool:
    """Return whether a bias differs along the first axis, and is broadcast along a later one."""
    steps = bias.strides[:-1]
    return steps[0] != 0 and any(
        step == 0 and n > 1 for step, n in zip(steps[1:], bias.shape[1:-1], strict=True)
    )


# --- What attention needs too ---------------------------------------------------------------------


def write(numbers: Array, out: Array) -> None:
    """Write what was computed to `out`, rounded to its dtype; nothing if it is there already."""
    if numbers is not out:
        out[...] = narrowed(numbers, out.dtype)


def number_of(dtype: np.dtype[Any]) -> np.dtype[Any]:
    """Return the dtype that is computed in."""
    return np.dtype(np.float64 if dtype.itemsize == 8 else np.float32)


def _flat(a: Array) -> Array:
    return a.reshape(-1, a.shape[-1])


def flat_rows(a: Array, number: np.dtype[Any]) -> Array:
    """Return rows of numbers for the kernels: where they are, if they can be read there."""
    return _flat(np.require(widened(a), number, ["C", "A"]))


def bias_rows(bias: Array, number: np.dtype[Any]) -> Array:
    """Return rows of a bias as numbers, without those that only repeat the first ones."""
    while bias.ndim > 1 and (len(bias) == 1 or bias.strides[0] == 0):
        bias = bias[0]
    if bias.dtype == np.bool_:
        bias = np.where(bias, number.type(0), number.type(-np.inf))  # in any layout
    return flat_rows(bias, number)


def checked_scale(scale: Any, number: np.dtype[Any]) -> float:
    """Return a float that is finite as a number of a dtype, or raise TypeError or ValueError."""
    value = as_float(scale, "scale")
    with np.errstate(over="ignore"):
        is_finite = np.isfinite(number.type(value))
    if not is_finite:
        raise ValueError(f"scale must be finite as {number}, but got {shown(scale)}")
    return value


def checked_bias(
    bias: Any, name: str, dtype: np.dtype[Any], shape: tuple[int, ...], of: str
) -> Array:
    """Return what is added to scores in their shape, or raise TypeError or ValueError."""
    check_class(bias, name)
    if bias.dtype not in (dtype, np.dtype(np.bool_)):
        raise TypeError(f"{name} must be of bool or of {of}'s dtype {dtype}, but got {bias.dtype}")
    return broadcast(bias, name, shape)
