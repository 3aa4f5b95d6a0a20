"""BlockMask: the squares that one draw of DropBlock2d drops."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..arrays import Array
from ..backends.form import Form
from ..checks import entry, stored_float
from ..mask_format import stored_rate
from ..sharing import c_strides
from .array import ArrayMask
from .base import KeepMask, stored_shape
from .mask import Mask
from .windows import Index, expanded, picked_rows, window_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


class BlockMask(KeepMask):
    """The squares of one draw: evaluated when asked for, never stored.

    `forward_mask` and `mask` of DropBlock2d return these.

    Parameters
    ----------
    corners : Mask
        Drops where a square has its upper left corner: (N or 1, C, H - side + 1, W - side + 1).
    shape : tuple of int
        (N, C, H, W), or (C, H, W) or (H, W) for the mask of one row.
    p : float, optional
        The layer's drop probability, which is what squares would drop if they never overlapped.
    scale : float, optional
        What kept elements are multiplied by. Not given, it is total / kept, counted over
        the mask each time that it is asked for. The masks of rows are given the whole one's.

    Attributes
    ----------
    corners : Mask
    shape : tuple of int
    p : float or None
    scale : float

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x = np.ones((2, 2, 6, 6))
    >>> y, mask = fastdrop.DropBlock2d(p=0.3, block_size=2, rng=1).forward_mask(x)
    >>> bool((mask.apply(x) == y).all()), bool((mask.to_bool() == (y > 0)).all())
    (True, True)
    >>> bool((mask[1].apply(x[1]) == y[1]).all())
    True
    """

    __slots__ = ("_p", "_scale", "corners", "shape")

    _kind = "block"

    def __init__(
        self,
        corners: Mask,
        shape: tuple[int, ...],
        p: float | None = None,
        scale: float | None = None,
    ) -> None:
        self.corners = corners
        self.shape = shape
        self._p = p
        self._scale = scale

    @property
    def p(self) -> float | None:
        """The layer's drop probability; None for masks that were made without one."""
        return self._p

    @property
    def scale(self) -> float:
        """What kept elements are multiplied by: total / kept of the whole mask."""
        return _scale_of(self._kept()) if self._scale is None else self._scale

    def write(self, form: Form, x: Array, out: Array) -> None:
        """Write a `Form` of x, checked arrays, to `out`, as `Mask.write` does."""
        self._check_shape(x)
        kept = self._kept()
        scale = _scale_of(kept) if self._scale is None else self._scale
        ArrayMask(kept, scale=scale, shape=self.shape).write(form, x, out)

    def to_bool(self) -> NDArray[np.bool_]:
        """Return the mask as an array, True where no square lies: bool, shape `shape`."""
        return np.broadcast_to(self._kept(), self.shape).copy()

    def _kept(self) -> NDArray[np.bool_]:
        """Return which elements no square covers: bool, one row for all where all share it."""
        corners, (height, width) = self.corners.shape, self.shape[-2:]
        side = height - corners[-2] + 1
        dropped = np.zeros((*corners[:-2], height, width), np.bool_)
        dropped[..., : corners[-2], : corners[-1]] = ~self.corners.to_bool()
        for axis in (-2, -1):
            reach = 1  # doubled until the squares are as wide as they should be
            while reach < side:
                step = min(reach, side - reach)
                lines: Any = np.moveaxis(dropped, axis, 0)
                lines[step:] |= lines[:-step].copy()
                reach += step
        return ~dropped

    def __getitem__(self, index: Index) -> BlockMask:
        """Return the mask of a window: ints, slices of positive steps and ``...``.

        The whole mask is evaluated once, for its scale. Feature maps (the last two axes) are
        picked as a whole, for squares lie across their lines.
        """
        entries = expanded(index, self.ndim)
        if any(entry is None for entry in entries):
            raise IndexError("a BlockMask cannot have new axes, but got None in its index")
        if not all(_is_whole(*pair) for pair in zip(entries[-2:], self.shape[-2:], strict=True)):
            raise IndexError(
                "the lines of a feature map cannot be picked from its BlockMask, for squares lie "
                "across them; np.asarray(mask) can be indexed in any way"
            )
        _, shape, _ = window_of(tuple(entries), self.shape, c_strides(self.shape))
        if _are_shared(self.corners.shape, self.shape):
            entries[0] = slice(None) if isinstance(entries[0], slice) else 0
        scale = self._scale if shape == self.shape else self.scale
        return BlockMask(self.corners[tuple(entries)], shape, self._p, scale)

    def _identity(self) -> tuple[object, ...]:
        return self.corners, self.shape, self._p, self._scale

    @property
    def state(self) -> dict[str, Any]:
        """The mask as a small dictionary that JSON can hold; see `AnyMask.from_state`."""
        return {
            "kind": self._kind,
            "corners": self.corners.state,
            "shape": list(self.shape),
            "p": self._p,
            "scale": self._scale,
        }

    @classmethod
    def _from_state(cls, state: dict[str, Any]) -> Self:
        corners, shape, p, scale = (
            entry(state, name, "BlockMask.state") for name in ("corners", "shape", "p", "scale")
        )
        found, lengths = Mask.from_state(corners), stored_shape(shape)
        if not _fit(found.shape, lengths):
            raise ValueError(
                "state's corners must be those of squares in its shape, "
                f"but got shapes {found.shape} and {lengths}"
            )
        return cls(
            found,
            lengths,
            None if p is None else stored_rate(p).p,
            None if scale is None else stored_float(scale, "scale"),
        )

    def __getstate__(self) -> list[Any]:
        # What pickles have held since this was a dataclass, and what has come behind it.
        return [self.corners, self.shape, self._p, self._scale]

    def __setstate__(self, state: list[Any]) -> None:
        self.corners, self.shape, self._p, self._scale = [*state, None, None][:4]

    def __repr__(self) -> str:
        return f"BlockMask(shape={self.shape}, p={self.p}, corners={self.corners})"


def _scale_of(kept: NDArray[np.bool_]) -> float:
    """Return total / kept."""
    count = int(np.count_nonzero(kept))
    return kept.size / count if count else 0.0


def _is_whole(entry: Any, length: int) -> bool:
    """Whether an index's entry picks all that there is along an axis."""
    return isinstance(entry, slice) and picked_rows(entry, length) == range(length)


def _are_shared(corners: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether all samples of a batch have the same corners, which a batch of one has, too."""
    return len(shape) > 2 and corners[0] == 1


def _fit(corners: tuple[int, ...], shape: tuple[int, ...]) -> bool:
    """Whether these are shapes that a BlockMask can have."""
    if len(corners) != len(shape) or not 2 <= len(shape) <= 4 or math.prod(shape) > sys.maxsize:
        return False
    less = shape[-2] - corners[-2], shape[-1] - corners[-1]
    shares = _are_shared(corners, shape)
    return less[0] == less[1] >= 0 and corners[shares:-2] == shape[shares:-2]
