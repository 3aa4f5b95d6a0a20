"""What every mask has: a shape, and `apply`; and what all that keep or drop elements share."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array, prepare
from ..backends.form import SCALE, Form
from ..checks import shown


class AnyMask:
    """What a forward leaves for its backward."""

    # No ABC: its isinstance takes as long as a small array's backward.

    __slots__ = ()

    shape: tuple[int, ...]

    def apply(self, x: Array, out: Array | None = None) -> Array:
        """Return the gradient with respect to the input, of one with respect to the output."""
        raise NotImplementedError


class KeepMask(AnyMask):
    """A mask that keeps or drops each element."""

    __slots__ = ()

    def write(self, form: Form, x: Array, out: Array) -> None:
        """Write a `Form` of x, checked arrays, to `out`: what the family's operations do."""
        raise NotImplementedError

    def to_bool(self) -> NDArray[np.bool_]:
        """Return the mask as an array, True where it keeps: bool, shape `shape`."""
        raise NotImplementedError

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def apply(self, x: Array, out: Array | None = None) -> Array:
        """Return x * scale where the mask keeps, +0.0 elsewhere, as `Mask.apply` does."""
        y = prepare(x, False, out)
        self.write(SCALE, x, y)
        return y

    def to_packed(self) -> NDArray[np.uint8]:
        """Return the keep bits, as `Mask.to_packed` does."""
        return np.packbits(self.to_bool(), bitorder="little")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError(
                f"{type(self).__name__} stores no array that could be used without a copy"
            )
        array = self.to_bool()
        return array if dtype is None else array.astype(dtype)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a mask of 0 dimensions has no length")
        return self.shape[0]

    def _check_shape(self, x: Array) -> None:
        if x.shape != self.shape:
            raise ValueError(f"x must have the mask's shape {self.shape}, but got {x.shape}")


def check_mask(mask: Any, kind: type[Any]) -> None:
    """Raise TypeError unless `mask` is a mask of this kind."""
    if not isinstance(mask, kind):
        raise TypeError(
            "mask must be a fastdrop.Mask, a fastdrop.ArrayMask or another mask of fastdrop's, "
            f"but got {type(mask).__name__}"
        )


def picked(rows: Any, shape: tuple[int, ...]) -> tuple[int, tuple[int, ...]]:
    """Return the first of the rows that an index picks, and the shape of what it picks."""
    if not shape:
        raise IndexError("a mask of 0 dimensions has no rows")
    length, inner = shape[0], shape[1:]
    if not isinstance(rows, slice):
        return row_number(rows, length), inner
    start, stop, step = rows.indices(length)
    if step != 1:
        raise IndexError(f"a mask's rows must be sliced with step 1, but got step {step}")
    return start, (max(stop - start, 0), *inner)


def row_number(index: Any, length: int) -> int:
    """Return the number of a row from 0 on, or raise IndexError."""
    try:
        row = index.__index__()
    except (AttributeError, TypeError):
        raise IndexError(
            f"a mask's rows are picked by an int or a slice, but got {shown(index)}; "
            "np.asarray(mask) can be indexed in any way"
        ) from None
    if length == 0:
        raise IndexError(f"a mask of 0 rows has none to pick, but got {shown(row)}")
    if not -length <= row < length:
        raise IndexError(f"row must be between {-length} and {length - 1}, but got {shown(row)}")
    return int(row) % length
