"""Mask: which elements a draw keeps, as a function and not as an array."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from . import backends
from .arrays import Array, prepare
from .mask_format import Rate
from .rng import Stream


class Mask:
    """The mask of one draw: evaluated when asked for, never stored.

    A `Mask` remembers the generator's key, the position of its draw, the drop
    probability and a shape, some hundred bytes whatever the shape is. Slicing
    along the first axis costs nothing and gives the same bits as the whole.

    `Dropout.mask` and ``dropout(..., return_mask=True)`` return masks.

    Attributes
    ----------
    shape : tuple of int
    p : float
        Drop probability.
    scale : float
        1 / (1 - p): what kept elements are multiplied by; 0 for p = 1.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> y, mask = fastdrop.dropout(np.ones((4, 3)), p=0.5, rng=1, return_mask=True)
    >>> bool((np.asarray(mask) == (y == 2)).all())
    True
    >>> bool((mask[1:3].to_bool() == mask.to_bool()[1:3]).all())
    True
    """

    __slots__ = ("_draw", "_first", "_rate", "_stream", "shape")

    def __init__(
        self, stream: Stream, draw: int, rate: Rate, shape: tuple[int, ...], first: int = 0
    ) -> None:
        self._stream = stream
        self._draw = draw
        self._rate = rate
        self._first = first
        self.shape = shape

    @property
    def p(self) -> float:
        """Drop probability."""
        return self._rate.p

    @property
    def scale(self) -> float:
        """What kept elements are multiplied by."""
        return self._rate.scale

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def apply(self, x: Array, out: Array | None = None) -> Array:
        """Return x * scale where the mask keeps, +0.0 elsewhere.

        Parameters
        ----------
        x : ndarray
            Of the mask's shape and any supported dtype.
        out : ndarray, optional
            Where to write: of x's shape and dtype; x itself is allowed.

        Returns
        -------
        ndarray
            `out`, or a new array in x's memory layout.
        """
        y = prepare(x, False, out)
        if x.shape != self.shape:
            raise ValueError(f"x must have the mask's shape {self.shape}, but got {x.shape}")
        backends.apply(self._stream, self._draw, self._rate, self._first, x, y)
        return y

    def to_packed(self) -> NDArray[np.uint8]:
        """Return the keep bits, eight to a byte: uint8, shape (ceil(size / 8),).

        Element i, in C order, is bit i % 8 of byte i // 8, as in
        ``np.unpackbits(..., bitorder="little")``; bits past the last are 0.
        """
        out = np.empty(-(-self.size // 8), np.uint8)
        backends.current().bits(self._stream, self._draw, self._rate, self._first, self.size, out)
        return out

    def to_bool(self) -> NDArray[np.bool_]:
        """Return the mask as an array, True where it keeps: bool, shape `shape`."""
        bits = np.unpackbits(self.to_packed(), count=self.size, bitorder="little")
        return bits.view(np.bool_).reshape(self.shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError("a Mask stores no array that could be used without a copy")
        array = self.to_bool()
        return array if dtype is None else array.astype(dtype)

    def __getitem__(self, rows: int | slice) -> Mask:
        """Return the mask of some rows (the first axis): an int, or a slice of step 1."""
        if not self.shape:
            raise IndexError("a mask of 0 dimensions has no rows")
        length, inner = self.shape[0], self.shape[1:]
        if isinstance(rows, slice):
            start, stop, step = rows.indices(length)
            if step != 1:
                raise IndexError(f"a mask's rows must be sliced with step 1, but got step {step}")
            shape: tuple[int, ...] = (max(stop - start, 0), *inner)
        else:
            start, shape = _row(rows, length), inner
        first = self._first + start * math.prod(inner)
        return Mask(self._stream, self._draw, self._rate, shape, first)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a mask of 0 dimensions has no length")
        return self.shape[0]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mask):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[object, ...]:
        return self._stream, self._draw, self._rate.p, self._first, self.shape

    def __repr__(self) -> str:
        return f"Mask(shape={self.shape}, p={self.p}, rng={self._stream.algorithm.name!r})"


def _row(index: Any, length: int) -> int:
    try:
        row = index.__index__()
    except (AttributeError, TypeError):
        raise IndexError(
            f"a mask's rows are picked by an int or a slice, but got {index!r}; "
            "np.asarray(mask) can be indexed in any way"
        ) from None
    if not -length <= row < length:
        raise IndexError(f"row must be between {-length} and {length - 1}, but got {row}")
    return int(row) % length if length else 0
