"""BlockMask: the squares that one draw of DropBlock2d drops."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array
from ..backends.form import Form
from .array import ArrayMask
from .base import KeepMask
from .mask import Mask


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
    shape: tuple[int, ...]

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
