"""Dropout together with what stands next to it, in one pass over memory.

A NumPy pipeline pays for every pass: adding a residual to the result of dropout
reads and writes it once more. Each function here is one pass, and its backward
is the mask evaluated again.
"""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any, Literal, overload

import numpy as np

from .. import backends
from .._formulas.activations import ACTIVATIONS
from ..arrays import Array, broadcast, check_array, check_real, prepare
from ..backends.form import SCALE, Form
from ..checks import as_count, shown
from ..mask_format import effective_rate
from ..masks.base import KeepMask, check_mask
from ..masks.mask import Mask
from ..rng import as_rng
from ..sharing import c_strides

if TYPE_CHECKING:
    from ..rng import RNGLike


@overload
def dropout_add(
    x: Array,
    residual: Array,
    p: float = ...,
    training: bool = ...,
    inplace: bool = ...,
    *,
    rng: RNGLike = ...,
    mask: KeepMask | None = ...,
    out: Array | None = ...,
    return_mask: Literal[False] = ...,
) -> Array: ...
@overload
def dropout_add(
    x: Array,
    residual: Array,
    p: float = ...,
    training: bool = ...,
    inplace: bool = ...,
    *,
    rng: RNGLike = ...,
    mask: KeepMask | None = ...,
    out: Array | None = ...,
    return_mask: Literal[True],
) -> tuple[Array, KeepMask]: ...
def dropout_add(
    x: Array,
    residual: Array,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    rng: RNGLike = None,
    mask: KeepMask | None = None,
    out: Array | None = None,
    return_mask: bool = False,
) -> Array | tuple[Array, KeepMask]:
    """Return ``residual + dropout(x, p)`` in one pass.

    Parameters
    ----------
    x : ndarray
        Any shape and layout; dtypes as for `dropout`.
    residual : ndarray
        Of x's dtype, and x's shape or one that broadcasts to it.
    p : float, optional
        As for `dropout`. Out of training the result is ``x + residual``.
    training : bool, optional
        As for `dropout`. Out of training the result is ``x + residual``.
    inplace : bool, optional
        Write into `x`.
    rng : optional
        As for `dropout`. Out of training the result is ``x + residual``.
    mask : Mask, ArrayMask or another that keeps or drops, optional
        In training, the mask to use instead of drawing one: its scale counts,
        and not `p`.
    out : ndarray, optional
        Where to write: `x` or `residual` itself, or an array apart from both.
    return_mask : bool, optional
        Return the mask too, for `dropout_backward`.

    Returns
    -------
    y : ndarray
    mask : Mask
        Only with ``return_mask=True``; `mask` itself if given. The gradient with
        respect to x is ``dropout_backward(grad, mask)``, that with respect to
        `residual` is `grad`, summed over what was broadcast.

    Raises
    ------
    TypeError, ValueError
        As for `dropout`, and if `residual` does not suit x.

    Notes
    -----
    Half precision is computed in single and rounded once.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x, residual = np.ones((2, 3)), np.full((2, 3), 10.0)
    >>> y = fastdrop.dropout_add(x, residual, p=0.5, rng=0)
    >>> bool((y == residual + fastdrop.dropout(x, p=0.5, rng=0)).all())
    True
    """
    y, used = _run("add", x, {"residual": residual}, p, training, inplace, rng, mask, out)
    return (y, used) if return_mask else y


@overload
def bias_dropout_add(
    x: Array,
    bias: Array,
    residual: Array | None = ...,
    p: float = ...,
    training: bool = ...,
    inplace: bool = ...,
    *,
    rng: RNGLike = ...,
    mask: KeepMask | None = ...,
    out: Array | None = ...,
    return_mask: Literal[False] = ...,
) -> Array: ...
@overload
def bias_dropout_add(
    x: Array,
    bias: Array,
    residual: Array | None = ...,
    p: float = ...,
    training: bool = ...,
    inplace: bool = ...,
    *,
    rng: RNGLike = ...,
    mask: KeepMask | None = ...,
    out: Array | None = ...,
    return_mask: Literal[True],
) -> tuple[Array, KeepMask]: ...
def bias_dropout_add(
    x: Array,
    bias: Array,
    residual: Array | None = None,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    rng: RNGLike = None,
    mask: KeepMask | None = None,
    out: Array | None = None,
    return_mask: bool = False,
) -> Array | tuple[Array, KeepMask]:
    """Return ``residual + dropout(x + bias, p)`` in one pass.

    Parameters
    ----------
    x : ndarray
        Any shape and layout; dtypes as for `dropout`.
    bias : ndarray
        Of x's dtype, and x's shape or one that broadcasts to it. `residual` may
        be left out.
    residual : ndarray, optional
        Of x's dtype, and x's shape or one that broadcasts to it. `residual` may
        be left out.
    p : float, optional
        As for `dropout_add`.
    training : bool, optional
        As for `dropout_add`.
    inplace : bool, optional
        As for `dropout_add`.
    rng : optional
        As for `dropout_add`.
    mask : optional
        As for `dropout_add`.
    out : ndarray, optional
        As for `dropout_add`.
    return_mask : bool, optional
        As for `dropout_add`.

    Returns
    -------
    y : ndarray
    mask : Mask
        Only with ``return_mask=True``; `mask` itself if given. The gradients with
        respect to x and `bias` are ``dropout_backward(grad, mask)``, summed over
        what was broadcast.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x, bias = np.ones((2, 3)), np.array([1.0, 2.0, 3.0])
    >>> y = fastdrop.bias_dropout_add(x, bias, x, p=0.5, rng=0)
    >>> bool((y == x + fastdrop.dropout(x + bias, p=0.5, rng=0)).all())
    True
    """
    operands = {"bias": bias} if residual is None else {"bias": bias, "residual": residual}
    kind = "bias" if residual is None else "bias_add"
    y, used = _run(kind, x, operands, p, training, inplace, rng, mask, out)
    return (y, used) if return_mask else y


@overload
def act_dropout(
    x: Array,
    activation: str = ...,
    p: float = ...,
    training: bool = ...,
    inplace: bool = ...,
    *,
    rng: RNGLike = ...,
    mask: KeepMask | None = ...,
    out: Array | None = ...,
    return_mask: Literal[False] = ...,
) -> Array: ...
@overload
def act_dropout(
    x: Array,
    activation: str = ...,
    p: float = ...,
    training: bool = ...,
    inplace: bool = ...,
    *,
    rng: RNGLike = ...,
    mask: KeepMask | None = ...,
    out: Array | None = ...,
    return_mask: Literal[True],
) -> tuple[Array, KeepMask]: ...
def act_dropout(
    x: Array,
    activation: str = "relu",
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    rng: RNGLike = None,
    mask: KeepMask | None = None,
    out: Array | None = None,
    return_mask: bool = False,
) -> Array | tuple[Array, KeepMask]:
    """Return ``dropout(activation(x), p)`` in one pass.

    Parameters
    ----------
    x : ndarray
        Any shape and layout, of a real dtype.
    activation : {"relu", "gelu", "gelu_tanh", "silu"}, optional
        ``max(x, 0)``; ``x Phi(x)`` with the normal distribution's Phi; the same by tanh, as
        torch's ``approximate="tanh"``; ``x / (1 + exp(-x))``.
    p : float, optional
        As for `dropout`. Out of training the result is ``activation(x)``.
    training : bool, optional
        As for `dropout`. Out of training the result is ``activation(x)``.
    inplace : bool, optional
        Write into `x`, which the backward of other activations than "relu" needs.
    rng : optional
        As for `dropout`.
    mask : optional
        As for `dropout_add`.
    out : ndarray, optional
        Where to write: `x` itself, or an array apart from it.
    return_mask : bool, optional
        Return the mask too, for `act_dropout_backward`.

    Returns
    -------
    y : ndarray
    mask : Mask
        Only with ``return_mask=True``.

    Raises
    ------
    TypeError
        If x is no plain array of a real dtype.
    ValueError
        If `activation` is none of those, or as for `dropout`.

    Notes
    -----
    Half precision is computed in single and rounded once. Activations are within 7 units in
    the last place of their values, tails included, but for gelu_tanh, whose error is within
    2.5e-7 (single) or 5e-16 (double) of x; docs/family.md has the figures. All backends, processors
    and layouts give the same bits.

    References
    ----------
    D. Hendrycks, K. Gimpel, "Gaussian error linear units (GELUs)", arXiv:1606.08415.

    S. Elfwing, E. Uchibe, K. Doya, "Sigmoid-weighted linear units for neural
    network function approximation in reinforcement learning", Neural Networks
    107, 2018, arXiv:1702.03118.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.act_dropout(np.array([-1.0, 2.0]), "relu", p=0.0)
    array([0., 2.])
    >>> fastdrop.act_dropout(np.array([-1.0, 2.0]), "gelu", p=0.0).round(4)
    array([-0.1587,  1.9545])
    """
    y, used = _run(_checked_activation(activation), x, {}, p, training, inplace, rng, mask, out)
    return (y, used) if return_mask else y


def act_dropout_backward(
    grad: Array, x: Array, mask: KeepMask, activation: str = "relu", *, out: Array | None = None
) -> Array:
    """Return the gradient with respect to the x of `act_dropout`, in one pass.

    Parameters
    ----------
    grad : ndarray
        Gradient with respect to the output.
    x : ndarray
        The forward's input; for "relu" its output will do, which is positive
        where it counts.
    mask : Mask, ArrayMask or another that keeps or drops
        The forward's.
    activation : {"relu", "gelu", "gelu_tanh", "silu"}, optional
        The forward's.
    out : ndarray, optional
        Where to write; `grad` or `x` itself is allowed.

    Returns
    -------
    ndarray
        ``grad * scale * activation'(x)`` where the mask keeps, +0.0 elsewhere.

    Raises
    ------
    TypeError, ValueError
        If `mask` is no such mask or of another shape, `x` has not grad's shape and
        dtype, `activation` is unknown, or `out` does not suit them.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x = np.array([-1.0, 2.0, 3.0])
    >>> y, mask = fastdrop.act_dropout(x, "silu", p=0.0, return_mask=True)
    >>> fastdrop.act_dropout_backward(np.ones(3), x, mask, "silu").round(4)
    array([0.0723, 1.0908, 1.0881])
    """
    kind = f"{_checked_activation(activation)}_grad"
    check_mask(mask, KeepMask)
    check_real(grad, "grad", "an activation")
    form = Form(kind, operands=(_operand(x, grad, "x", out, "grad"),))
    y = prepare(grad, False, out)
    mask.write(form, grad, y)
    return y


@overload
def relu_dropout(
    x: Array,
    p: float = ...,
    training: bool = ...,
    inplace: bool = ...,
    *,
    rng: RNGLike = ...,
    mask: KeepMask | None = ...,
    out: Array | None = ...,
    return_mask: Literal[False] = ...,
) -> Array: ...
@overload
def relu_dropout(
    x: Array,
    p: float = ...,
    training: bool = ...,
    inplace: bool = ...,
    *,
    rng: RNGLike = ...,
    mask: KeepMask | None = ...,
    out: Array | None = ...,
    return_mask: Literal[True],
) -> tuple[Array, KeepMask]: ...
def relu_dropout(
    x: Array,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    rng: RNGLike = None,
    mask: KeepMask | None = None,
    out: Array | None = None,
    return_mask: bool = False,
) -> Array | tuple[Array, KeepMask]:
    """Return ``dropout(maximum(x, 0), p)`` in one pass: `act_dropout` with "relu".

    Parameters
    ----------
    x : ndarray
        Any shape and layout, of a real dtype.
    p : float, optional
        As for `act_dropout`.
    training : bool, optional
        As for `act_dropout`.
    inplace : bool, optional
        As for `act_dropout`.
    rng : optional
        As for `act_dropout`.
    mask : optional
        As for `act_dropout`.
    out : ndarray, optional
        As for `act_dropout`.
    return_mask : bool, optional
        As for `act_dropout`.

    Returns
    -------
    y : ndarray
    mask : Mask
        Only with ``return_mask=True``, for `relu_dropout_backward`.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.relu_dropout(np.array([-1.0, 2.0]), p=0.0)
    array([0., 2.])
    """
    y, used = _run("relu", x, {}, p, training, inplace, rng, mask, out)
    return (y, used) if return_mask else y


def relu_dropout_backward(
    grad: Array, x: Array, mask: KeepMask, *, out: Array | None = None
) -> Array:
    """Return the gradient with respect to the x of `relu_dropout`.

    Parameters
    ----------
    grad : ndarray
        Gradient with respect to the output.
    x : ndarray
        The forward's input, or its output, which is positive where it counts.
    mask : Mask, ArrayMask or another that keeps or drops
        The forward's.
    out : ndarray, optional
        Where to write; `grad` or `x` itself is allowed.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x = np.array([-1.0, 2.0, 3.0])
    >>> y, mask = fastdrop.relu_dropout(x, p=0.0, return_mask=True)
    >>> fastdrop.relu_dropout_backward(np.ones(3), x, mask)
    array([0., 1., 1.])
    """
    return act_dropout_backward(grad, x, mask, "relu", out=out)


@overload
def mc_dropout(
    x: Array,
    samples: int,
    p: float = ...,
    training: bool = ...,
    *,
    rng: RNGLike = ...,
    out: Array | None = ...,
    return_mask: Literal[False] = ...,
) -> Array: ...
@overload
def mc_dropout(
    x: Array,
    samples: int,
    p: float = ...,
    training: bool = ...,
    *,
    rng: RNGLike = ...,
    out: Array | None = ...,
    return_mask: Literal[True],
) -> tuple[Array, Mask]: ...
def mc_dropout(
    x: Array,
    samples: int,
    p: float = 0.5,
    training: bool = True,
    *,
    rng: RNGLike = None,
    out: Array | None = None,
    return_mask: bool = False,
) -> Array | tuple[Array, Mask]:
    """Return several independently dropped copies of `x`, for Monte-Carlo dropout.

    Parameters
    ----------
    x : ndarray
        Any shape and layout; dtypes as for `dropout`.
    samples : int
        How many copies, 0 or more.
    p : float, optional
        As for `dropout`.
    training : bool, optional
        True, which Monte-Carlo dropout wants at inference, too. If False, the
        copies are all equal to x.
    rng : optional
        As for `dropout`.
    out : ndarray, optional
        Where to write: shape (samples, *x.shape), x's dtype, apart from `x`.
    return_mask : bool, optional
        As for `dropout`.

    Returns
    -------
    y : ndarray
        Shape (samples, *x.shape), C order. ``y[t]`` is x under ``mask[t]``.
    mask : Mask
        Only with ``return_mask=True``.

    References
    ----------
    Y. Gal, Z. Ghahramani, "Dropout as a Bayesian approximation", ICML 2016,
    arXiv:1506.02142.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> y = fastdrop.mc_dropout(np.ones(3), samples=1000, p=0.5, rng=0)
    >>> y.shape, bool((abs(y.mean(axis=0) - 1) < 0.2).all())
    ((1000, 3), True)
    """
    check_array(x)
    checked, shape = effective_rate(p, training), (as_count(samples, "samples"), *x.shape)
    if max(math.prod(shape) * x.itemsize, shape[0]) > sys.maxsize:
        raise ValueError(
            f"samples must be few enough for an array in memory, but got {shown(samples)}"
        )
    copies = np.broadcast_to(x, shape)
    if out is None:
        y = np.empty(shape, x.dtype)
    else:
        _check_apart(out, x, "x")
        y = prepare(copies, False, out)
    with backends.reserved(as_rng(rng), checked, math.prod(shape)) as draw:
        backends.evaluate(draw, c_strides(shape), SCALE, copies, y)
    return (y, Mask(draw, shape)) if return_mask else y


def _run(
    kind: str,
    x: Array,
    operands: dict[str, Array],
    p: float,
    training: bool,
    inplace: bool,
    rng: RNGLike,
    given: KeepMask | None,
    out: Array | None,
) -> tuple[Array, KeepMask]:
    if kind in ACTIVATIONS:
        check_real(x, "x", "an activation")
    else:
        check_array(x)
    if given is not None:
        check_mask(given, KeepMask)
        if rng is not None:
            raise ValueError("only one of rng and mask may be given, but got both")
    checked = effective_rate(p, training)
    to = (x, "x", "x, with inplace=True,") if inplace and out is None else (out,)
    form = Form(kind, operands=tuple(_operand(a, x, name, *to) for name, a in operands.items()))
    if given is not None and training:
        y = prepare(x, inplace, out)
        given.write(form, x, y)
        return y, given
    source = as_rng(rng)  # a bad one is refused before memory is allocated
    y = prepare(x, inplace, out)
    with backends.reserved(source, checked, x.size) as draw:
        mask = Mask(draw, x.shape)
        mask.write(form, x, y)
    return y, mask


def _operand(
    a: Any, x: Array, name: str, out: Array | None, of: str = "x", written: str = "out"
) -> Array:
    """Return an operand in the shape of x, which is named `of`, checked.

    `out` is what will be written to, and `written` what the user calls it.
    """
    check_array(a, name)
    if a.dtype != x.dtype:
        raise TypeError(f"{name} must have {of}'s dtype {x.dtype}, but got {a.dtype}")
    if out is not None and not (out is a and a.shape == x.shape):
        _check_apart(out, a, name, written)
    if a.shape == x.shape:
        return a  # type: ignore[no-any-return]
    return broadcast(a, name, x.shape, f"{of}'s ")


def _check_apart(out: Any, a: Array, name: str, written: str = "out") -> None:
    check_array(out, "out")
    if np.shares_memory(out, a):
        raise ValueError(
            f"{written} must be {name} itself, of the output's shape, or not overlap it"
        )


def _checked_activation(activation: Any) -> str:
    if not isinstance(activation, str) or activation not in ACTIVATIONS:
        raise ValueError(f"activation must be one of {list(ACTIVATIONS)}, but got {activation!r}")
    return activation
