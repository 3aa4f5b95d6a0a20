"""DropBlock: dropout of contiguous squares of feature maps."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .. import backends
from ..array_mask import ArrayMask
from ..arrays import Array
from ..backends.form import Form
from ..layer import Drawn, RateLayer, Shape
from ..mask import KeepMask, Mask
from ..mask_format import rate

if TYPE_CHECKING:
    from ..rng import RNGLike


@dataclass(frozen=True, slots=True)
class BlockMask(KeepMask):
    """The squares of one draw: evaluated when asked for, never stored.

    `forward_mask` and `mask` of DropBlock2d return these.

    Attributes
    ----------
    corners : Mask
        Drops where a square has its upper left corner: (N or 1, C, H - side + 1, W - side + 1).
    shape : tuple of int
        (N, C, H, W).

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x = np.ones((1, 2, 6, 6))
    >>> y, mask = fastdrop.DropBlock2d(p=0.3, block_size=2, rng=1).forward_mask(x)
    >>> bool((mask.apply(x) == y).all()), bool((mask.to_bool() == (y > 0)).all())
    (True, True)
    """

    corners: Mask
    shape: Shape

    def write(self, form: Form, x: Array, out: Array) -> None:
        """Write a `Form` of x, checked arrays, to `out`, with the scale total / kept."""
        self._check_shape(x)
        kept = self._kept()
        count = int(np.count_nonzero(kept))
        scale = kept.size / count if count else 0.0
        ArrayMask(kept, scale=scale, shape=self.shape).write(form, x, out)

    def to_bool(self) -> NDArray[np.bool_]:
        """Return the mask as an array, True where no square lies: bool, shape `shape`."""
        return np.broadcast_to(self._kept(), self.shape).copy()

    def _kept(self) -> NDArray[np.bool_]:
        """Return which elements no square covers: bool, shape (N or 1, C, H, W)."""
        corners, (height, width) = self.corners.shape, self.shape[2:]
        side = height - corners[2] + 1
        dropped = np.zeros((*corners[:2], height, width), np.bool_)
        dropped[:, :, : corners[2], : corners[3]] = ~self.corners.to_bool()
        for axis in (2, 3):
            reach = 1  # doubled until the squares are as wide as they should be
            while reach < side:
                step = min(reach, side - reach)
                lines: Any = np.moveaxis(dropped, axis, 0)
                lines[step:] |= lines[:-step].copy()
                reach += step
        return ~dropped


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
        with backends.reserved(self.rng, checked.words(math.prod(noise_shape))) as (stream, draw):
            drawn = Mask(stream, draw, checked, noise_shape), x.shape
            BlockMask(*drawn).apply(x, out)
        return drawn

    def _nothing(self, shape: Shape) -> Drawn:
        return Mask(*self.rng.reserve(0), rate(0.0), self._noise_shape(shape)), shape

    def _mask_of(self, drawn: Drawn) -> BlockMask:
        return BlockMask(*drawn)
