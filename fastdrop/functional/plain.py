"""Dropout as functions: no state but the generator's."""

from __future__ import annotations

import math
import sys
from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any, Final, Literal, overload

import numpy as np

from .. import backends
from ..arrays import Array, check_array, identity, is_plain, prepare
from ..backends import Draw
from ..checks import shown
from ..mask_format import Rate, known_rate, rate
from ..masks.base import AnyMask, check_mask
from ..masks.mask import Mask
from ..masks.sample import SampleMask, sample_mask
from ..rng import as_rng, default_rng
from ..sharing import as_ints, mask_strides, noise_shape_of

if TYPE_CHECKING:
    from ..rng import RNGLike

_NONE_SHARED: Final[tuple[int, ...]] = ()


@overload
def dropout(
    x: Array,
    p: float = ...,
    training: bool = ...,
    inplace: bool = ...,
    *,
    noise_shape: Sequence[int | None] | None = ...,
    broadcast_dims: Iterable[int] = ...,
    sample_ids: Any = ...,
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
    noise_shape: Sequence[int | None] | None = ...,
    broadcast_dims: Iterable[int] = ...,
    sample_ids: Any = ...,
    rng: RNGLike = ...,
    out: Array | None = ...,
    return_mask: Literal[True],
) -> tuple[Array, Any]: ...
def dropout(
    x: Array,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    noise_shape: Sequence[int | None] | None = None,
    broadcast_dims: Iterable[int] = _NONE_SHARED,
    sample_ids: Any = None,
    rng: RNGLike = None,
    out: Array | None = None,
    return_mask: bool = False,
) -> Array | tuple[Array, Any]:
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
    noise_shape : sequence of int or None, optional
        Shape to draw the mask over: 1 along axes whose elements share their
        fate, x's length (or None) along others, as in TensorFlow and Keras.
    broadcast_dims : iterable of int, optional
        The same said by the shared axes, as in Flax; negative ones count from
        the end.
    sample_ids : sequence of int, or (int, sequence of int), optional
        An id for each row of x. A row's mask then depends on its id and not on
        the batch, the order or the worker that it comes in. The generator does
        not move on: use other ids, such as ``(epoch, ids)``, or another
        generator for other masks, and a generator for each layer. Ids of two
        numbers may also come in an array of shape (rows, 2).
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
    mask : Mask, or SampleMask with `sample_ids`
        Only with ``return_mask=True``.

    Raises
    ------
    TypeError
        If `x` or `out` is no plain array of a supported dtype.
    ValueError
        If `p` is out of range, `noise_shape` or `broadcast_dims` do not fit x's
        shape, or `out` has another shape, is read-only or overlaps `x` in part.

    Notes
    -----
    A dropped element is +0.0 whatever it was, NaN and infinity included. The
    mask depends on the generator, its position and `p`, and on each element's
    index in C order: not on dtype, memory layout, threads or backend.

    A mask of one's own is applied by ``ArrayMask(kept, p=p).apply(x)``.

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
    if noise_shape is None and sample_ids is None and broadcast_dims is _NONE_SHARED:
        # The short ways come first: for small arrays each check is felt.
        if not training and rng is None and out is None and not return_mask and is_plain(x, p):
            return x
        checked = known_rate(p) if type(p) is float else None
        if checked is None:
            checked = rate(p)
        if training and checked.p != 0.0:
            source = default_rng() if rng is None else as_rng(rng)
            drawn = backends.quick(source, checked, x, inplace, out)
            y, stream, position = drawn or backends.draw_in_steps(source, checked, x, inplace, out)
            return (y, Mask(Draw(stream, position, checked), x.shape)) if return_mask else y
        source = as_rng(rng)  # a bad one is refused before out is written
        y = identity(x, inplace, out)
        return (y, Mask(Draw(*source.reserve(0), rate(0.0)), x.shape)) if return_mask else y
    checked = rate(p)
    if sample_ids is None:
        return _shared(
            x, checked, training, inplace, noise_shape, broadcast_dims, rng, out, return_mask
        )
    check_array(x)
    noise = noise_shape_of(x.shape, noise_shape, broadcast_dims)
    return _by_sample(x, checked, training, inplace, noise, sample_ids, rng, out, return_mask)


def _shared(
    x: Array,
    checked: Rate,
    training: bool,
    inplace: bool,
    noise_shape: Sequence[int | None] | None,
    broadcast_dims: Iterable[int],
    rng: RNGLike,
    out: Array | None,
    return_mask: bool,
) -> Array | tuple[Array, Mask]:
    check_array(x)
    noise = noise_shape_of(x.shape, noise_shape, broadcast_dims)
    strides = mask_strides(x.shape, noise)
    source = as_rng(rng)  # a bad one is refused before out is written
    if not training or checked.p == 0.0:
        y, checked, noise = identity(x, inplace, out), rate(0.0), (0,)
    else:
        y = prepare(x, inplace, out)
    with backends.reserved(source, checked, math.prod(noise)) as draw:
        mask = Mask(draw, x.shape, strides)
        if checked.p != 0.0:
            mask.apply(x, y)
    return (y, mask) if return_mask else y


def _by_sample(
    x: Array,
    checked: Rate,
    training: bool,
    inplace: bool,
    noise: tuple[int, ...],
    sample_ids: Any,
    rng: RNGLike,
    out: Array | None,
    return_mask: bool,
) -> Array | tuple[Array, SampleMask]:
    checked = checked if training else rate(0.0)
    generator = as_rng(rng)
    stream, position = generator.reserve(0)
    if stream.sequential:
        raise TypeError(
            f"sample_ids need a generator with random access, but got {generator.name}, "
            "which can only go forward"
        )
    mask = sample_mask(stream, position, checked, x.shape, sample_ids, noise)
    keeps_all = checked.p == 0.0
    y = identity(x, inplace, out) if keeps_all else mask.apply(x, prepare(x, inplace, out))
    return (y, mask) if return_mask else y


def mask(
    shape: int | Iterable[int],
    p: float = 0.5,
    *,
    noise_shape: Sequence[int | None] | None = None,
    broadcast_dims: Iterable[int] = _NONE_SHARED,
    rng: RNGLike = None,
) -> Mask:
    """Draw a mask without an array: Bernoulli variables of probability 1 - p, by their index.

    It is the mask of ``dropout(x, p, rng=rng, return_mask=True)`` for an x of this shape.

    Parameters
    ----------
    shape : int or sequence of int
        The mask's, of at most 2**63 - 1 elements.
    p : float, optional
        Drop probability, 0 <= p <= 1.
    noise_shape : sequence of (int or None), optional
        As for `dropout`.
    broadcast_dims : sequence of int, optional
        As for `dropout`.
    rng : optional
        As for `dropout`.

    Returns
    -------
    Mask
        It costs nothing but a range of the generator's stream: at p = 0.5 64 words for each 4096
        elements, at most 336. (MT19937 and SFC64 have to draw these words.) ``mask.to_packed()``
        and ``mask.to_bool()`` make arrays, ``mask[...]`` masks of windows, and ``mask.apply(x)`` is
        dropout.

    Raises
    ------
    TypeError
        If `shape` holds anything but ints, or `p` is no number.
    ValueError
        If a length is negative, the mask too large, or `p` out of range.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> mask = fastdrop.mask((100_000, 10_000), p=0.1, rng=7)
    >>> window = mask[5_000:5_003, ::2_000]
    >>> window.to_bool()
    array([[False,  True,  True,  True,  True],
           [ True,  True, False,  True,  True],
           [ True,  True,  True,  True,  True]])
    >>> fastdrop.mask(4096, p=0.1, rng=7).to_packed().nbytes
    512
    """
    lengths = as_ints([shape] if isinstance(shape, int | np.integer) else shape, "shape")
    if any(n < 0 for n in lengths) or math.prod(lengths) > sys.maxsize:
        raise ValueError(
            "shape must have lengths of 0 or more and at most 2**63 - 1 elements, "
            f"but got {shown(lengths)}"
        )
    checked, source = rate(p), as_rng(rng)
    noise = noise_shape_of(lengths, noise_shape, broadcast_dims)
    drawn = source.reserve(checked.words(math.prod(noise)))
    return Mask(Draw(*drawn, checked), lengths, mask_strides(lengths, noise))


def dropout_backward(grad: Array, mask: AnyMask, *, out: Array | None = None) -> Array:
    """Return the gradient with respect to the input of a forward with this mask.

    Parameters
    ----------
    grad : ndarray
        Gradient with respect to the output, of the mask's shape.
    mask : Mask, SampleMask, BlockMask, NoiseMask or ArrayMask
        From ``dropout(..., return_mask=True)`` or a layer's `forward_mask`, or
        one of your own.
    out : ndarray, optional
        Where to write; `grad` itself is allowed.

    Returns
    -------
    ndarray
        ``mask.apply(grad)``: ``grad * mask.scale`` where the mask keeps, +0.0
        elsewhere.

    Raises
    ------
    TypeError
        If `mask` is no mask of fastdrop's, or `grad` or `out` no plain array of a supported dtype.
    ValueError
        If `grad` has not the mask's shape, or `out` does not suit it.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> y, mask = fastdrop.dropout(np.ones(6), rng=3, return_mask=True)
    >>> bool((fastdrop.dropout_backward(np.ones(6), mask) == y).all())
    True
    """
    check_mask(mask, AnyMask)
    return mask.apply(grad, out)
