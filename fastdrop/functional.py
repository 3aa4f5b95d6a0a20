"""Dropout as functions: no state but the generator's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Literal, overload

from . import backends
from .arrays import Array, identity, prepare
from .mask import Mask
from .mask_format import rate
from .rng import as_rng

if TYPE_CHECKING:
    from .rng import RNGLike


@overload
def dropout(
    x: Array,
    p: float = ...,
    training: bool = ...,
    inplace: bool = ...,
    *,
    rng: RNGLike = ...,
    out: Array | None = ...,
    return_mask: Literal[False] = ...,
) -> Array: ...
@overload
def dropout(
    x: Array,
    p: float = ...,
    training: bool = ...,
    inplace: bool = ...,
    *,
    rng: RNGLike = ...,
    out: Array | None = ...,
    return_mask: Literal[True],
) -> tuple[Array, Mask]: ...
def dropout(
    x: Array,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    rng: RNGLike = None,
    out: Array | None = None,
    return_mask: bool = False,
) -> Array | tuple[Array, Mask]:
    """Set each element of `x` to zero with probability `p`, scale the others by 1/(1-p).

    Parameters
    ----------
    x : ndarray of float16, bfloat16, float32, float64, complex64 or complex128
        Any shape and memory layout.
    p : float, optional
        Drop probability, 0 <= p <= 1.
    training : bool, optional
        If False, the identity: `x` itself is returned.
    inplace : bool, optional
        Write into `x`.
    rng : optional
        None for the default generator (see `manual_seed`), an int or a
        SeedSequence to seed a new one, a fastdrop RNG, a NumPy Generator or
        BitGenerator, which move on, or a registered name.
    out : ndarray, optional
        Where to write: of x's shape and dtype; `x` itself, or no overlap.
    return_mask : bool, optional
        Return the mask too.

    Returns
    -------
    y : ndarray
        `x` itself for ``training=False`` and for p = 0 (copied to `out` if
        given), else `out`, `x` if `inplace`, or a new array in x's layout.
    mask : Mask
        Only with ``return_mask=True``.

    Raises
    ------
    TypeError
        If `x` or `out` is no plain array of a supported dtype.
    ValueError
        If `p` is out of range, or `out` has another shape, is read-only or
        overlaps `x` in part.

    Notes
    -----
    A dropped element is +0.0 whatever it was, NaN and infinity included. The
    mask depends on the generator, its position and `p`, and on each element's
    index in C order: not on dtype, memory layout, threads or backend.

    References
    ----------
    N. Srivastava, G. Hinton, A. Krizhevsky, I. Sutskever, R. Salakhutdinov,
    "Dropout: a simple way to prevent neural networks from overfitting", JMLR
    15, 2014.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> y = fastdrop.dropout(np.ones((2, 4)), p=0.5, rng=0)
    >>> y.shape, sorted(set(y.ravel().tolist()))
    ((2, 4), [0.0, 2.0])
    """
    checked = rate(p)
    if not training or checked.p == 0.0:
        source = as_rng(rng)  # a bad one is refused before out is written
        y = identity(x, inplace, out)
        return (y, Mask(*source.reserve(0), rate(0.0), x.shape)) if return_mask else y
    y = prepare(x, inplace, out)
    stream, draw = as_rng(rng).reserve(checked.words(x.size))
    backends.apply(stream, draw, checked, 0, x, y)
    return (y, Mask(stream, draw, checked, x.shape)) if return_mask else y
