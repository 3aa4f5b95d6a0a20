"""Whole features, positions or samples at a time: masks shared along axes."""

from __future__ import annotations

import sys
import warnings
from typing import TYPE_CHECKING, ClassVar

from ..sharing import checked_axes, without_axes
from .base import MaskLayer

if TYPE_CHECKING:
    from ..rng import RNGLike


def _warn(message: str) -> None:
    """Warn of the line outside of fastdrop that led here, through whatever functions."""
    frame, level = sys._getframe(1), 2
    while frame.f_back and frame.f_globals.get("__name__", "").startswith("fastdrop."):
        frame, level = frame.f_back, level + 1
    warnings.warn(message, stacklevel=level)


class FeatureDropout(MaskLayer):
    """Drops whole channels of inputs of shape (N, C, *), or (C, *) unbatched.

    The base of Dropout1d, Dropout2d and Dropout3d, which differ in the ranks
    they take.
    """

    spatial: ClassVar[int]  # dimensions of a feature map

    def __init__(
        self,
        p: float = 0.5,
        inplace: bool = False,
        *,
        always: bool = False,
        rng: RNGLike = None,
    ) -> None:
        super().__init__(p, inplace, always, rng)

    def _noise_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        self._check_rank(len(shape))
        leading = 1 if self._is_unbatched(len(shape)) else 2
        return shape[:leading] + (1,) * (len(shape) - leading)

    def _is_unbatched(self, ndim: int) -> bool:
        return ndim == self.spatial + 1

    def _expected(self) -> str:
        n = self.spatial
        return (
            f"{type(self).__name__} expects {n + 1} or {n + 2} dimensions: channels and {n} "
            "spatial ones, behind an optional batch dimension"
        )

    def _check_rank(self, ndim: int) -> None:
        if ndim in (self.spatial + 1, self.spatial + 2):
            return
        _warn(
            f"{self._expected()}, but got {ndim}: its leading dimensions are taken for them; "
            "use Dropout with noise_shape for such inputs"
        )
        if ndim < 2 - self._is_unbatched(ndim):
            raise RuntimeError(f"{self._expected()}, but got {ndim}")


class Dropout1d(FeatureDropout):
    """Zero whole channels of a (N, C, L) or (C, L) input with probability `p`.

    Neighbouring positions of a feature map say much the same, so that dropping
    single elements of it takes little away; dropping whole maps does.

    Parameters
    ----------
    p : float, optional
        Probability of a channel to be dropped, 0 <= p <= 1. May be assigned later.
    inplace : bool, optional
        Write into the input.
    always : bool, optional
        Drop in eval mode too.
    rng : optional
        As for `Dropout`.

    Raises
    ------
    RuntimeError
        When called with an input that has neither 2 nor 3 dimensions, as in torch.

    References
    ----------
    J. Tompson, R. Goroshin, A. Jain, Y. LeCun, C. Bregler, "Efficient object
    localization using convolutional networks", CVPR 2015, arXiv:1411.4280.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> y = fastdrop.Dropout1d(p=0.5, rng=1)(np.ones((2, 3, 4)))
    >>> bool((y == y[:, :, :1]).all())
    True
    """

    spatial = 1

    def _check_rank(self, ndim: int) -> None:
        if ndim not in (2, 3):
            raise RuntimeError(f"{self._expected()}, but got {ndim}")


class Dropout2d(FeatureDropout):
    """Zero whole channels of a (N, C, H, W) input with probability `p`.

    Parameters
    ----------
    p : float, optional
        As for `Dropout1d`.
    inplace : bool, optional
        As for `Dropout1d`.
    always : bool, optional
        As for `Dropout1d`.
    rng : optional
        As for `Dropout1d`.

    Warns
    -----
    UserWarning
        As torch, for an input of 3 dimensions, which is taken for (N, C, L), and
        for one of 2 or more than 4, whose first two axes are.

    Raises
    ------
    RuntimeError
        When called with an input of fewer than 2 dimensions.

    References
    ----------
    See `Dropout1d`.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> y = fastdrop.Dropout2d(p=0.5, rng=1)(np.ones((2, 3, 4, 4)))
    >>> bool((y == y[:, :, :1, :1]).all())
    True
    """

    spatial = 2

    def _is_unbatched(self, ndim: int) -> bool:
        return False  # as torch has it, for now

    def _check_rank(self, ndim: int) -> None:
        super()._check_rank(ndim)
        if ndim == 3:
            _warn(
                "Dropout2d takes an input of 3 dimensions for (N, C, L), as torch does for now; "
                "say Dropout1d for that, or give an unbatched input a batch dimension of 1"
            )


class Dropout3d(FeatureDropout):
    """Zero whole channels of a (N, C, D, H, W) or (C, D, H, W) input with probability `p`.

    Parameters
    ----------
    p : float, optional
        As for `Dropout1d`.
    inplace : bool, optional
        As for `Dropout1d`.
    always : bool, optional
        As for `Dropout1d`.
    rng : optional
        As for `Dropout1d`.

    Warns
    -----
    UserWarning
        As torch, for an input of neither 4 nor 5 dimensions, whose first axis is
        then taken for channels.

    Raises
    ------
    RuntimeError
        When called with an input of 0 dimensions.

    References
    ----------
    See `Dropout1d`.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> y = fastdrop.Dropout3d(p=0.5, rng=1)(np.ones((2, 3, 4, 4, 2)))
    >>> bool((y == y[:, :, :1, :1, :1]).all())
    True
    """

    spatial = 3

    def _is_unbatched(self, ndim: int) -> bool:
        return ndim != 5  # torch puts a batch dimension before every other rank


class SpatialDropout(MaskLayer):
    """Drops whole channels of inputs of shape (N, ..., C), or with channels elsewhere.

    The base of SpatialDropout1D, SpatialDropout2D and SpatialDropout3D.
    """

    _settings: ClassVar[tuple[str, ...]] = ("p", "inplace", "channel_axis", "always")
    spatial: ClassVar[int]

    def __init__(
        self,
        p: float = 0.5,
        inplace: bool = False,
        *,
        channel_axis: int = -1,
        always: bool = False,
        rng: RNGLike = None,
    ) -> None:
        super().__init__(p, inplace, always, rng)
        self.channel_axis = channel_axis

    def _noise_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        ndim = self.spatial + 2
        if len(shape) != ndim:
            raise ValueError(
                f"{type(self).__name__} expects {ndim} dimensions: batch, channels and "
                f"{self.spatial} spatial ones, but got {len(shape)}"
            )
        channels = checked_axes([self.channel_axis], ndim, "channel_axis")
        if channels == {0}:
            raise ValueError("channel_axis must be another axis than 0, the batch axis")
        return without_axes(shape, frozenset(range(1, ndim)) - channels)


class SpatialDropout1D(SpatialDropout):
    """Zero whole channels of a (N, steps, C) input, as Keras' layer of that name does.

    Parameters
    ----------
    p : float, optional
        Probability of a channel to be dropped, 0 <= p <= 1. May be assigned later.
    inplace : bool, optional
        Write into the input.
    channel_axis : int, optional
        -1 for Keras' ``channels_last``, 1 for ``channels_first``.
    always : bool, optional
        Drop in eval mode too.
    rng : optional
        As for `Dropout`.

    Raises
    ------
    ValueError
        When called with an input of another number of dimensions.

    References
    ----------
    See `Dropout1d`.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> y = fastdrop.SpatialDropout1D(p=0.5, rng=1)(np.ones((2, 5, 3)))
    >>> bool((y == y[:, :1, :]).all())
    True
    """

    spatial = 1


class SpatialDropout2D(SpatialDropout):
    """Zero whole channels of a (N, H, W, C) input, as Keras' layer of that name does.

    Parameters
    ----------
    p : float, optional
        As for `SpatialDropout1D`.
    inplace : bool, optional
        As for `SpatialDropout1D`.
    channel_axis : int, optional
        As for `SpatialDropout1D`.
    always : bool, optional
        As for `SpatialDropout1D`.
    rng : optional
        As for `SpatialDropout1D`.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> y = fastdrop.SpatialDropout2D(p=0.5, rng=1)(np.ones((2, 5, 5, 3)))
    >>> bool((y == y[:, :1, :1, :]).all())
    True
    """

    spatial = 2


class SpatialDropout3D(SpatialDropout):
    """Zero whole channels of a (N, D, H, W, C) input, as Keras' layer of that name does.

    Parameters
    ----------
    p : float, optional
        As for `SpatialDropout1D`.
    inplace : bool, optional
        As for `SpatialDropout1D`.
    channel_axis : int, optional
        As for `SpatialDropout1D`.
    always : bool, optional
        As for `SpatialDropout1D`.
    rng : optional
        As for `SpatialDropout1D`.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> y = fastdrop.SpatialDropout3D(p=0.5, rng=1)(np.ones((2, 5, 5, 4, 3)))
    >>> bool((y == y[:, :1, :1, :1, :]).all())
    True
    """

    spatial = 3
