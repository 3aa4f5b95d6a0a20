"""Dropout of Dask arrays: each chunk evaluates its window of one mask.

The mask's words are reserved when the graph is made. So the result is the one that
`fastdrop.dropout` gives for the NumPy array, for any chunks, in any order of execution, and after
a worker was lost. Nothing of the mask is stored or sent but some hundred bytes.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, Any

try:
    import dask.array as da
except ImportError as error:
    raise ImportError("fastdrop.dask needs Dask: pip install 'fastdrop[dask]'") from error
import numpy as np
from dask.base import normalize_token, tokenize
from dask.blockwise import blockwise
from dask.highlevelgraph import HighLevelGraph
from dask.layers import ArraySliceDep

from . import functional
from .arrays import check_array, prepare
from .backends.form import Form
from .checks import shown
from .layers.base import Layer, MaskLayer
from .layers.gaussian import NoiseLayer
from .mask_format import effective_rate
from .masks import AnyMask, BlockMask, Mask, NoiseMask
from .masks.base import check_mask
from .rng import as_rng

if TYPE_CHECKING:
    from .rng import RNGLike
    from .rng.base import Stream

__all__ = ["dropout", "dropout_backward", "forward"]


def dropout(
    x: da.Array,
    p: float = 0.5,
    training: bool = True,
    *,
    noise_shape: Sequence[int | None] | None = None,
    broadcast_dims: Iterable[int] = (),
    rng: RNGLike = None,
    return_mask: bool = False,
) -> da.Array | tuple[da.Array, Mask]:
    """Drop elements of a Dask array, as `fastdrop.dropout` drops those of the NumPy array.

    Parameters
    ----------
    x : dask.array.Array
        Of NumPy arrays whose chunks have known sizes, and of a dtype that `fastdrop.dropout` takes.
    p : float, optional
        Drop probability, 0 <= p <= 1.
    training : bool, optional
        False returns `x` itself.
    noise_shape : sequence of (int or None), optional
        As for `fastdrop.dropout`, for the shape of the whole array.
    broadcast_dims : sequence of int, optional
        As for `fastdrop.dropout`.
    rng : optional
        As for `fastdrop.dropout`, with random access: no MT19937 or SFC64. It moves on now, not
        when the graph is computed.
    return_mask : bool, optional
        Return the mask too, a `fastdrop.Mask` of x's shape.

    Returns
    -------
    y : dask.array.Array
        With x's chunks. Computed twice, it is the same; a second call draws another mask.
    mask : Mask
        Only with ``return_mask=True``.

    Raises
    ------
    TypeError
        If `x` is no Dask array of NumPy arrays of a supported dtype, or `rng` can only go forward.
    ValueError
        If a chunk's size is unknown, or an argument does not suit `fastdrop.dropout`.

    Examples
    --------
    >>> import dask.array as da, numpy as np, fastdrop, fastdrop.dask
    >>> x = da.ones((1000, 300), chunks=(256, 100))
    >>> y = fastdrop.dask.dropout(x, p=0.3, rng=1)
    >>> bool((y.compute() == fastdrop.dropout(np.ones((1000, 300)), p=0.3, rng=1)).all())
    True
    """
    _check(x, "x")
    rate, source = effective_rate(p, training), as_rng(rng)
    if rate.p != 0.0:
        _check_random_access(source.reserve(0)[0])
    mask = functional.mask(
        x.shape, rate.p, noise_shape=noise_shape, broadcast_dims=broadcast_dims, rng=source
    )
    y = x if rate.p == 0.0 else _applied(mask, x)
    return (y, mask) if return_mask else y


def forward(
    layer: Layer, x: da.Array, *, return_mask: bool = False
) -> da.Array | tuple[da.Array, AnyMask]:
    """Call a layer of the family with a Dask array.

    Parameters
    ----------
    layer : Dropout, AlphaDropout, DropPath, GaussianDropout or another layer
        All but DropBlock2d, whose squares lie across chunks, and layers with a `forward` of a
        user's own. Its generator moves on now, not when the graph is computed, and its `mask` is
        this call's.
    x : dask.array.Array
        As for `dropout`.
    return_mask : bool, optional
        Return the mask too, for `dropout_backward`.

    Returns
    -------
    y : dask.array.Array
        ``layer(x)`` of the whole NumPy array, with x's chunks.
    mask : Mask or NoiseMask
        Only with ``return_mask=True``.

    Raises
    ------
    TypeError
        If `layer` or `x` is not of these kinds, or the layer's generator can only go forward.
    ValueError
        If a chunk's size is unknown.

    Examples
    --------
    >>> import dask.array as da, numpy as np, fastdrop, fastdrop.dask
    >>> x = np.linspace(-1, 1, 1000).reshape(10, 100)
    >>> y = fastdrop.dask.forward(fastdrop.AlphaDropout(0.1, rng=1), da.from_array(x, chunks=30))
    >>> bool((y.compute() == fastdrop.AlphaDropout(0.1, rng=1)(x)).all())
    True
    """
    if not isinstance(layer, MaskLayer | NoiseLayer) or layer._own_forward:
        raise TypeError(
            "layer must be one of fastdrop's, with its own forward, whose windows stand alone (not "
            f"DropBlock2d), but got {type(layer).__name__}"
        )
    _check(x, "x")
    layer._check(x._meta)
    draws = layer._draws()
    if draws:
        _check_random_access(layer.rng.reserve(0)[0])
    mask, form = layer._mask_ahead(x.shape)
    y = _blockwise(_write_window, mask, x, form, x.dtype) if draws else x
    return (y, mask) if return_mask else y


def _write_window(
    x: Any, window: tuple[slice, ...], mask: Mask | NoiseMask, form: Form, dtype: np.dtype[Any]
) -> Any:
    """Return what a layer makes of a chunk: a `Form`, or noise."""
    chunk, part = _array_of(x), mask[window]
    check_array(chunk, "chunk")
    if (chunk.shape, chunk.dtype) != (part.shape, dtype):
        raise ValueError(
            f"a chunk must have the shape {part.shape} and the dtype {dtype}, as its Dask array "
            f"says, but has {chunk.shape} and {chunk.dtype}"
        )
    y = prepare(chunk, False, None)
    if isinstance(part, NoiseMask):
        part._add(chunk, y)
    else:
        part.write(form, chunk, y)
    return y


def dropout_backward(grad: da.Array, mask: AnyMask) -> da.Array:
    """Return the gradient with respect to the input of a forward with this mask.

    Parameters
    ----------
    grad : dask.array.Array
        Of the mask's shape, with any chunks.
    mask : Mask, SampleMask, NoiseMask or ArrayMask
        Of any forward, also one of NumPy arrays.

    Returns
    -------
    dask.array.Array
        ``mask.apply(grad)``, with grad's chunks.

    Raises
    ------
    TypeError
        If `grad` or `mask` is not of these kinds.
    ValueError
        If `grad` has not the mask's shape, or a chunk's size is unknown.

    Examples
    --------
    >>> import dask.array as da, numpy as np, fastdrop, fastdrop.dask
    >>> y, mask = fastdrop.dropout(np.ones((40, 30)), rng=1, return_mask=True)
    >>> grad = fastdrop.dask.dropout_backward(da.ones((40, 30), chunks=7), mask)
    >>> bool((grad.compute() == y).all())
    True
    """
    check_mask(mask, AnyMask)
    if isinstance(mask, BlockMask):
        raise TypeError(
            "mask must be one whose windows stand alone, but got a BlockMask, whose squares lie "
            "across chunks"
        )
    if isinstance(mask, Mask | NoiseMask):
        _check_random_access((mask._draw if isinstance(mask, Mask) else mask).stream)
    _check(grad, "grad")
    if grad.shape != mask.shape:
        raise ValueError(f"grad must have the mask's shape {mask.shape}, but got {grad.shape}")
    return _applied(mask, grad)


def _applied(mask: AnyMask, x: da.Array) -> da.Array:
    # A dtype that the mask cannot be applied to is an error now, and not when chunks are computed.
    _apply_window(np.zeros((0,) * x.ndim, x.dtype), (slice(0),) * x.ndim, mask)
    return _blockwise(_apply_window, mask, x)


def _blockwise(function: Any, mask: AnyMask, x: da.Array, *more: Any) -> da.Array:
    """Return a function's results for each chunk, its window, the mask, and what is more."""
    name, axes = f"fastdrop-{tokenize(mask, x.name, *more)}", tuple(range(x.ndim))
    windows = ArraySliceDep(x.chunks)  # a chunk's slices, made when it is computed
    constants = [part for value in (mask, *more) for part in (value, None)]
    layer = blockwise(
        function, name, axes, x.name, axes, windows, axes, *constants,
        numblocks={x.name: x.numblocks},
    )  # fmt: skip
    graph = HighLevelGraph.from_collections(name, layer, dependencies=[x])
    return da.Array(graph, name, x.chunks, meta=x._meta)


def _apply_window(x: Any, window: tuple[slice, ...], mask: AnyMask) -> Any:
    """Return a chunk under its window of the mask."""
    return mask[window].apply(_array_of(x))


def _array_of(chunk: Any) -> Any:
    # Reductions make scalars of chunks. A masked array stays one, and is refused.
    return np.asarray(chunk) if isinstance(chunk, np.generic) else chunk


def _check_random_access(stream: Stream) -> None:
    if stream.sequential:
        raise TypeError(
            "rng must be a generator with random access for Dask arrays, for chunks are computed "
            "in any order, but got one that can only go forward"
        )


def _check(x: Any, name: str) -> None:
    if not isinstance(x, da.Array):
        raise TypeError(f"{name} must be a dask.array.Array, but got {type(x).__name__}")
    if type(x._meta) is not np.ndarray:
        raise TypeError(
            f"{name} must be made of NumPy arrays, but got chunks of {type(x._meta).__name__}"
        )
    if any(np.isnan(n) for chunks in x.chunks for n in chunks):
        raise ValueError(
            f"{name} must have chunks of known sizes (see compute_chunk_sizes), "
            f"but got {shown(x.chunks)}"
        )
    check_array(x._meta, name)


def _token_of(mask: AnyMask) -> Any:
    return type(mask).__name__, mask.state


normalize_token.register(AnyMask, _token_of)
