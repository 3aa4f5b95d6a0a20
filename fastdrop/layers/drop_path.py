"""DropPath: dropout of whole samples, as stochastic depth does."""

from __future__ import annotations

from typing import TYPE_CHECKING, ClassVar

from ..mask_format import Rate
from ..sharing import checked_axes, without_axes
from .base import MaskLayer

if TYPE_CHECKING:
    from ..rng import RNGLike


class DropPath(MaskLayer):
    """Zero whole samples with probability `p`: stochastic depth, for a residual branch.

    Parameters
    ----------
    p : float, optional
        Probability of a sample to be dropped, 0 <= p <= 1; 0 if not given, as in
        timm. May be assigned later.
    inplace : bool, optional
        Write into the input.
    scale_by_keep : bool, optional
        Multiply kept samples by 1/(1-p), so that the mean is kept.
    batch_axis : int, optional
        The axis that samples lie along.
    always : bool, optional
        Drop in eval mode too.
    rng : optional
        As for `Dropout`.

    Raises
    ------
    ValueError
        When called with an input that has no `batch_axis`.

    References
    ----------
    G. Huang, Y. Sun, Z. Liu, D. Sedra, K. Q. Weinberger, "Deep networks with
    stochastic depth", ECCV 2016, arXiv:1603.09382.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> y = fastdrop.DropPath(p=0.25, rng=1)(np.ones((8, 3, 4)))
    >>> bool((y == y[:, :1, :1]).all())
    True
    """

    _settings: ClassVar[tuple[str, ...]] = ("p", "inplace", "scale_by_keep", "batch_axis", "always")

    def __init__(
        self,
        p: float = 0.0,
        inplace: bool = False,
        *,
        scale_by_keep: bool = True,
        batch_axis: int = 0,
        always: bool = False,
        rng: RNGLike = None,
    ) -> None:
        super().__init__(p, inplace, always, rng)
        self.scale_by_keep = scale_by_keep
        self.batch_axis = batch_axis

    def _noise_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        batch = checked_axes([self.batch_axis], len(shape), "batch_axis")
        return without_axes(shape, frozenset(range(len(shape))) - batch)

    def _scaled(self, rate: Rate) -> Rate:
        return rate if self.scale_by_keep else rate.with_scale(1.0)
