"""DropBlock: dropout of contiguous squares of feature maps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, ClassVar

from .. import backends
from ..arrays import Array
from ..backends import Draw
from ..mask_format import rate
from ..masks.block import BlockMask
from ..masks.mask import Mask
from .base import Drawn, RateLayer, Shape

if TYPE_CHECKING:
    from ..rng import RNGLike


class DropBlock2d(RateLayer):
    """Zero squares of a (N, C, H, W) input, so that some `p` of all elements go.

    The corners of squares are drawn with probability ``gamma = gamma_scale * p *
    H * W / block_size**2 / ((H - block_size + 1) * (W - block_size + 1))``, and the
    elements that no square covers are multiplied by total / kept, so that the
    sum is kept.

    Parameters
    ----------
    p : float, optional
        Drop probability, 0 <= p <= 1, reached while squares rarely overlap. May
        be assigned later.
    block_size : int, optional
        Side of a square, cut to the shorter of H and W.
    gamma_scale : float, optional
        0 or more; gamma is cut to 1.
    inplace : bool, optional
        Write into the input.
    batchwise : bool, optional
        Draw one mask for all samples of the batch.
    always : bool, optional
        Drop in eval mode too.
    rng : optional
        As for `Dropout`.

    Raises
    ------
    ValueError
        When called with an input that has not 4 dimensions.

    Notes
    -----
    Squares are spread in plain NumPy, in memory of a byte for each element of the mask;
    what follows is one compiled pass.

    References
    ----------
    G. Ghiasi, T.-Y. Lin, Q. V. Le, "DropBlock: a regularization method for
    convolutional networks", NeurIPS 2018, arXiv:1810.12890.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> y = fastdrop.DropBlock2d(p=0.2, block_size=3, rng=0)(np.ones((2, 4, 16, 16)))
    >>> bool(abs(y.sum() - y.size) < 1e-9)
    True
    """

    _settings: ClassVar[tuple[str, ...]] = (
        "p",
        "block_size",
        "gamma_scale",
        "inplace",
        "batchwise",
        "always",
    )

    def __init__(
        self,
        p: float = 0.1,
        block_size: int = 7,
        gamma_scale: float = 1.0,
        inplace: bool = False,
        *,
        batchwise: bool = False,
        always: bool = False,
        rng: RNGLike = None,
    ) -> None:
        super().__init__(p, inplace, always, rng)
        self.block_size = block_size
        self.gamma_scale = gamma_scale
        self.batchwise = batchwise

    @property
    def block_size(self) -> int:
        """Side of a square."""
        return self._block_size

    @block_size.setter
    def block_size(self, block_size: int) -> None:
        if isinstance(block_size, bool) or not hasattr(block_size, "__index__"):
            raise TypeError(f"block_size must be an int of 1 or more, but got {block_size!r}")
        if block_size < 1:
            raise ValueError(f"block_size must be 1 or more, but got {block_size}")
        self._block_size = block_size.__index__()

    @property
    def gamma_scale(self) -> float:
        """What gamma is multiplied by."""
        return self._gamma_scale

    @gamma_scale.setter
    def gamma_scale(self, gamma_scale: float) -> None:
        if not 0.0 <= gamma_scale < math.inf:
            raise ValueError(f"gamma_scale must be 0 or more, and finite, but got {gamma_scale}")
        self._gamma_scale = float(gamma_scale)

    def _noise_shape(self, shape: Shape) -> Shape:
        if len(shape) != 4:
            raise ValueError(
                f"DropBlock2d expects 4 dimensions, N, C, H and W, but got {len(shape)}"
            )
        samples, channels, height, width = shape
        less = max(min(self.block_size, height, width) - 1, 0)
        return (1 if self.batchwise else samples), channels, height - less, width - less

    def _draw(self, noise_shape: Shape, x: Array, out: Array) -> Drawn:
        height, width = x.shape[2:]
        side = height - noise_shape[2] + 1
        gamma = self.gamma_scale * self.p
        if x.size:
            gamma *= height * width / side**2 / math.prod(noise_shape[2:])
        checked = rate(min(gamma, 1.0))
        with backends.reserved(self.rng, checked, math.prod(noise_shape)) as draw:
            drawn = Mask(draw, noise_shape), x.shape, self.p
            BlockMask(*drawn).apply(x, out)
        return drawn

    def _nothing(self, shape: Shape) -> Drawn:
        draw = Draw(*self.rng.reserve(0), rate(0.0))
        return Mask(draw, self._noise_shape(shape)), shape, 0.0

    def _mask_of(self, drawn: Drawn) -> BlockMask:
        return BlockMask(*drawn)
