"""Dropout's relatives as functions: each is its layer, made for one call.

So a function and its layer give the same numbers for the same generator, and take the same
settings. All drop by default, as `fastdrop.dropout` does; torch's `alpha_dropout` and
`feature_alpha_dropout`, and timm's `drop_path`, do so with ``training=True`` only.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Literal, Protocol, TypeVar, overload

from ..arrays import Array
from ..layers.alpha import AlphaDropout, FeatureAlphaDropout
from ..layers.base import Layer
from ..layers.channels import Dropout1d, Dropout2d, Dropout3d
from ..layers.drop_block import DropBlock2d
from ..layers.drop_path import DropPath
from ..layers.gaussian import GaussianDropout
from ..masks.base import AnyMask
from ..masks.block import BlockMask
from ..masks.mask import Mask
from ..masks.noise import NoiseMask

if TYPE_CHECKING:
    from ..rng import RNGLike

M_co = TypeVar("M_co", bound=AnyMask, covariant=True)


class Function(Protocol[M_co]):
    """The signature that most functions here share."""

    @overload
    def __call__(
        self,
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
    def __call__(
        self,
        x: Array,
        p: float = ...,
        training: bool = ...,
        inplace: bool = ...,
        *,
        rng: RNGLike = ...,
        out: Array | None = ...,
        return_mask: Literal[True],
    ) -> tuple[Array, M_co]: ...


def _returns(mask: type[M_co]) -> Callable[[Callable[..., Any]], Function[M_co]]:
    """Tell type checkers that a function has that signature, and which mask it returns."""
    return lambda function: function


@_returns(Mask)
def dropout1d(
    x: Array,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    rng: RNGLike = None,
    out: Array | None = None,
    return_mask: bool = False,
) -> Array | tuple[Array, Any]:
    """Zero whole channels of a (N, C, L) or (C, L) input, as `Dropout1d` does.

    Parameters
    ----------
    x : ndarray
        Dtypes as for `dropout`.
    p : float, optional
        Probability of a channel to be dropped, 0 <= p <= 1.
    training : bool, optional
        If False, the identity: `x` itself is returned.
    inplace : bool, optional
        Write into `x`.
    rng : optional
        As for `dropout`.
    out : ndarray, optional
        As for `dropout`.
    return_mask : bool, optional
        Return the mask too, for `dropout_backward`.

    Returns
    -------
    y : ndarray
        As for `dropout`.
    mask : Mask
        Only with ``return_mask=True``.

    Raises
    ------
    RuntimeError
        If `x` has neither 2 nor 3 dimensions, as in torch.
    TypeError, ValueError
        As for `dropout`.

    References
    ----------
    See `Dropout1d`.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> y = fastdrop.dropout1d(np.ones((2, 3, 4)), p=0.5, rng=1)
    >>> bool((y == fastdrop.Dropout1d(p=0.5, rng=1)(np.ones((2, 3, 4)))).all())
    True
    """
    return _run(Dropout1d(p, inplace, rng=rng), x, training, out, return_mask)


@_returns(Mask)
def dropout2d(
    x: Array,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    rng: RNGLike = None,
    out: Array | None = None,
    return_mask: bool = False,
) -> Array | tuple[Array, Any]:
    """Zero whole channels of a (N, C, H, W) input, as `Dropout2d` does.

    Parameters
    ----------
    x : ndarray
        Dtypes as for `dropout`.
    p : float, optional
        As for `dropout1d`.
    training : bool, optional
        As for `dropout1d`.
    inplace : bool, optional
        As for `dropout1d`.
    rng : optional
        As for `dropout1d`.
    out : ndarray, optional
        As for `dropout1d`.
    return_mask : bool, optional
        As for `dropout1d`.

    Returns
    -------
    y : ndarray
    mask : Mask
        Only with ``return_mask=True``.

    Warns
    -----
    UserWarning
        As `Dropout2d`, for an input of other than 4 dimensions.

    References
    ----------
    See `Dropout1d`.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> y = fastdrop.dropout2d(np.ones((2, 3, 4, 4)), p=0.5, rng=1)
    >>> bool((y == y[:, :, :1, :1]).all())
    True
    """
    return _run(Dropout2d(p, inplace, rng=rng), x, training, out, return_mask)


@_returns(Mask)
def dropout3d(
    x: Array,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    rng: RNGLike = None,
    out: Array | None = None,
    return_mask: bool = False,
) -> Array | tuple[Array, Any]:
    """Zero whole channels of a (N, C, D, H, W) or (C, D, H, W) input, as `Dropout3d` does.

    Parameters
    ----------
    x : ndarray
        Dtypes as for `dropout`.
    p : float, optional
        As for `dropout1d`.
    training : bool, optional
        As for `dropout1d`.
    inplace : bool, optional
        As for `dropout1d`.
    rng : optional
        As for `dropout1d`.
    out : ndarray, optional
        As for `dropout1d`.
    return_mask : bool, optional
        As for `dropout1d`.

    Returns
    -------
    y : ndarray
    mask : Mask
        Only with ``return_mask=True``.

    Warns
    -----
    UserWarning
        As `Dropout3d`, for an input of neither 4 nor 5 dimensions.

    References
    ----------
    See `Dropout1d`.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> y = fastdrop.dropout3d(np.ones((2, 3, 4, 4, 2)), p=0.5, rng=1)
    >>> bool((y == y[:, :, :1, :1, :1]).all())
    True
    """
    return _run(Dropout3d(p, inplace, rng=rng), x, training, out, return_mask)


@_returns(Mask)
def alpha_dropout(
    x: Array,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    rng: RNGLike = None,
    out: Array | None = None,
    return_mask: bool = False,
) -> Array | tuple[Array, Any]:
    """Drop to SELU's negative limit and restore mean and variance, as `AlphaDropout` does.

    Parameters
    ----------
    x : ndarray
        Any shape and layout, of a real dtype.
    p : float, optional
        Drop probability, 0 <= p <= 1.
    training : bool, optional
        If False, the identity. True here, False in ``torch.nn.functional.alpha_dropout``.
    inplace : bool, optional
        Write into `x`.
    rng : optional
        As for `dropout`.
    out : ndarray, optional
        As for `dropout`.
    return_mask : bool, optional
        Return the mask too, for `dropout_backward`.

    Returns
    -------
    y : ndarray
    mask : Mask
        Only with ``return_mask=True``. Its `scale` is that of kept elements, so that
        `dropout_backward` gives the gradient.

    Raises
    ------
    TypeError
        If `x` is complex, and as for `dropout`.

    References
    ----------
    G. Klambauer, T. Unterthiner, A. Mayr, S. Hochreiter, "Self-normalizing
    neural networks", NeurIPS 2017, arXiv:1706.02515.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x = np.random.default_rng(0).normal(size=100_000)
    >>> y = fastdrop.alpha_dropout(x, p=0.2, rng=1)
    >>> bool(abs(y.mean()) < 0.02 and abs(y.std() - 1) < 0.02)
    True
    """
    return _run(AlphaDropout(p, inplace, rng=rng), x, training, out, return_mask)


@_returns(Mask)
def feature_alpha_dropout(
    x: Array,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    rng: RNGLike = None,
    out: Array | None = None,
    return_mask: bool = False,
) -> Array | tuple[Array, Any]:
    """Do `alpha_dropout` to whole channels of a (N, C, *) input, as `FeatureAlphaDropout` does.

    Parameters
    ----------
    x : ndarray
        2 dimensions or more, of a real dtype.
    p : float, optional
        As for `alpha_dropout`.
    training : bool, optional
        As for `alpha_dropout`.
    inplace : bool, optional
        As for `alpha_dropout`.
    rng : optional
        As for `alpha_dropout`.
    out : ndarray, optional
        As for `alpha_dropout`.
    return_mask : bool, optional
        As for `alpha_dropout`.

    Returns
    -------
    y : ndarray
    mask : Mask
        Only with ``return_mask=True``.

    Raises
    ------
    RuntimeError
        If `x` has fewer than 2 dimensions, as in torch.

    References
    ----------
    See `alpha_dropout` and `Dropout1d`.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> y = fastdrop.feature_alpha_dropout(np.ones((2, 3, 4)), p=0.5, rng=1)
    >>> bool((y == y[:, :, :1]).all())
    True
    """
    return _run(FeatureAlphaDropout(p, inplace, rng=rng), x, training, out, return_mask)


@_returns(NoiseMask)
def gaussian_dropout(
    x: Array,
    p: float = 0.5,
    training: bool = True,
    inplace: bool = False,
    *,
    rng: RNGLike = None,
    out: Array | None = None,
    return_mask: bool = False,
) -> Array | tuple[Array, Any]:
    """Multiply by normal variates of mean 1 and variance p / (1 - p), as `GaussianDropout` does.

    Parameters
    ----------
    x : ndarray
        Any shape and layout, of a real dtype.
    p : float, optional
        The drop probability of the dropout it stands for, 0 <= p < 1.
    training : bool, optional
        If False, the identity.
    inplace : bool, optional
        Write into `x`.
    rng : optional
        As for `dropout`.
    out : ndarray, optional
        As for `dropout`.
    return_mask : bool, optional
        Return the noise too, for `dropout_backward`.

    Returns
    -------
    y : ndarray
    mask : NoiseMask
        Only with ``return_mask=True``.

    Raises
    ------
    TypeError
        If `x` is complex, and as for `dropout`.
    ValueError
        If `p` is out of range, and as for `dropout`.

    References
    ----------
    N. Srivastava et al., "Dropout: a simple way to prevent neural networks from
    overfitting", JMLR 15, 2014, section 10.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> y = fastdrop.gaussian_dropout(np.ones(100_000), p=0.5, rng=0)
    >>> bool(abs(y.mean() - 1) < 0.02 and abs(y.std() - 1) < 0.02)
    True
    """
    return _run(GaussianDropout(p, inplace, rng=rng), x, training, out, return_mask)


@overload
def drop_path(
    x: Array,
    p: float = ...,
    training: bool = ...,
    scale_by_keep: bool = ...,
    inplace: bool = ...,
    *,
    batch_axis: int = ...,
    rng: RNGLike = ...,
    out: Array | None = ...,
    return_mask: Literal[False] = ...,
) -> Array: ...
@overload
def drop_path(
    x: Array,
    p: float = ...,
    training: bool = ...,
    scale_by_keep: bool = ...,
    inplace: bool = ...,
    *,
    batch_axis: int = ...,
    rng: RNGLike = ...,
    out: Array | None = ...,
    return_mask: Literal[True],
) -> tuple[Array, Mask]: ...
def drop_path(
    x: Array,
    p: float = 0.0,
    training: bool = True,
    scale_by_keep: bool = True,
    inplace: bool = False,
    *,
    batch_axis: int = 0,
    rng: RNGLike = None,
    out: Array | None = None,
    return_mask: bool = False,
) -> Array | tuple[Array, Mask]:
    """Zero whole samples: stochastic depth, for a residual branch, as `DropPath` does.

    Parameters
    ----------
    x : ndarray
        Dtypes as for `dropout`.
    p : float, optional
        Probability of a sample to be dropped, 0 <= p <= 1; 0 if not given, as in timm.
    training : bool, optional
        If False, the identity. True here, False in timm's `drop_path`.
    scale_by_keep : bool, optional
        Multiply kept samples by 1/(1-p), so that the mean is kept.
    inplace : bool, optional
        Write into `x`.
    batch_axis : int, optional
        The axis that samples lie along.
    rng : optional
        As for `dropout`.
    out : ndarray, optional
        As for `dropout`.
    return_mask : bool, optional
        Return the mask too, for `dropout_backward`.

    Returns
    -------
    y : ndarray
    mask : Mask
        Only with ``return_mask=True``.

    Raises
    ------
    ValueError
        If `x` has no `batch_axis`, and as for `dropout`.

    References
    ----------
    G. Huang, Y. Sun, Z. Liu, D. Sedra, K. Q. Weinberger, "Deep networks with
    stochastic depth", ECCV 2016, arXiv:1603.09382.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> y = fastdrop.drop_path(np.ones((8, 3, 4)), p=0.25, rng=1)
    >>> bool((y == y[:, :1, :1]).all())
    True
    """
    layer = DropPath(p, inplace, scale_by_keep=scale_by_keep, batch_axis=batch_axis, rng=rng)
    return _run(layer, x, training, out, return_mask)


@overload
def drop_block2d(
    x: Array,
    p: float = ...,
    block_size: int = ...,
    *,
    training: bool = ...,
    inplace: bool = ...,
    gamma_scale: float = ...,
    batchwise: bool = ...,
    rng: RNGLike = ...,
    out: Array | None = ...,
    return_mask: Literal[False] = ...,
) -> Array: ...
@overload
def drop_block2d(
    x: Array,
    p: float = ...,
    block_size: int = ...,
    *,
    training: bool = ...,
    inplace: bool = ...,
    gamma_scale: float = ...,
    batchwise: bool = ...,
    rng: RNGLike = ...,
    out: Array | None = ...,
    return_mask: Literal[True],
) -> tuple[Array, BlockMask]: ...
def drop_block2d(
    x: Array,
    p: float = 0.1,
    block_size: int = 7,
    *,
    training: bool = True,
    inplace: bool = False,
    gamma_scale: float = 1.0,
    batchwise: bool = False,
    rng: RNGLike = None,
    out: Array | None = None,
    return_mask: bool = False,
) -> Array | tuple[Array, BlockMask]:
    """Zero squares of a (N, C, H, W) input, as `DropBlock2d` does.

    Parameters
    ----------
    x : ndarray
        4 dimensions; dtypes as for `dropout`.
    p : float, optional
        Drop probability, 0 <= p <= 1, reached while squares rarely overlap.
    block_size : int, optional
        Side of a square, cut to the shorter of H and W.
    training : bool, optional
        If False, the identity. It and `inplace` go by name only, for torchvision's
        function takes them in another order.
    inplace : bool, optional
        Write into `x`.
    gamma_scale : float, optional
        0 or more; what the probability of a square is multiplied by.
    batchwise : bool, optional
        Draw one mask for all samples of the batch.
    rng : optional
        As for `dropout`.
    out : ndarray, optional
        As for `dropout`.
    return_mask : bool, optional
        Return the mask too, for `dropout_backward`.

    Returns
    -------
    y : ndarray
    mask : BlockMask
        Only with ``return_mask=True``.

    Raises
    ------
    ValueError
        If `x` has not 4 dimensions, a setting is out of range, and as for `dropout`.

    References
    ----------
    G. Ghiasi, T.-Y. Lin, Q. V. Le, "DropBlock: a regularization method for
    convolutional networks", NeurIPS 2018, arXiv:1810.12890.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> y = fastdrop.drop_block2d(np.ones((2, 4, 16, 16)), p=0.2, block_size=3, rng=0)
    >>> bool(abs(y.sum() - y.size) < 1e-9)
    True
    """
    layer = DropBlock2d(p, block_size, gamma_scale, inplace, batchwise=batchwise, rng=rng)
    return _run(layer, x, training, out, return_mask)


def _run(
    layer: Layer, x: Array, training: bool, out: Array | None, return_mask: bool
) -> Array | tuple[Array, Any]:
    layer.train(training)
    return layer.forward_mask(x, out) if return_mask else layer.forward(x, out)
