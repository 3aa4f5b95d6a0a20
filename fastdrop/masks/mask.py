"""Mask: which elements a draw keeps, as a function and not as an array."""

from __future__ import annotations

import math
import sys
from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

from .. import backends
from ..arrays import Array, prepare
from ..backends.form import SCALE, Form
from ..checks import entry, is_same, shown, stored_float, stored_int, stored_ints
from ..mask_format import FORMAT, Rate, stored_rate
from ..rng import STREAM_END, Stream, stream_from
from ..sharing import Strides, c_strides, span
from .base import KeepMask, picked

_MOST_DIMENSIONS: Final = 64  # NumPy's


class Mask(KeepMask):
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
        What kept elements are multiplied by: 1 / (1 - p), or 0 for p = 1, in
        plain dropout; AlphaDropout and DropPath have others.
    noise_shape : tuple of int
        `shape` with length 1 along the axes whose elements share their fate.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> y, mask = fastdrop.dropout(np.ones((4, 3)), p=0.5, rng=1, return_mask=True)
    >>> bool((np.asarray(mask) == (y == 2)).all())
    True
    >>> bool((mask[1:3].to_bool() == mask.to_bool()[1:3]).all())
    True
    """

    __slots__ = ("_draw", "_first", "_rate", "_stream", "_strides", "shape")

    def __init__(
        self,
        stream: Stream,
        draw: int,
        rate: Rate,
        shape: tuple[int, ...],
        first: int = 0,
        strides: Strides | None = None,
    ) -> None:
        self._stream = stream
        self._draw = draw
        self._rate = rate
        self._first = first
        self._strides = strides  # None: each element has its own, in C order
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
    def noise_shape(self) -> tuple[int, ...]:
        """The shape that was drawn for: 1 along shared axes."""
        if self._strides is None:
            return self.shape
        return tuple(n if s else 1 for n, s in zip(self.shape, self._strides, strict=True))

    def apply(self, x: Array, out: Array | None = None) -> Array:
        """Return x * scale where the mask keeps, +0.0 elsewhere: the gradient, for a gradient.

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
        self._check_shape(x)
        if self._strides is None:
            backends.apply(self._stream, self._draw, self._rate, self._first, x, y)
        else:
            self.write(SCALE, x, y)
        return y

    def write(self, form: Form, x: Array, out: Array) -> None:
        """Write a `Form` of x, checked arrays, to `out`: what the family's operations do."""
        self._check_shape(x)
        strides = c_strides(self.shape) if self._strides is None else self._strides
        drawn = self._stream, self._draw, self._rate, self._first
        backends.evaluate(*drawn, strides, form, x, out)

    def to_packed(self) -> NDArray[np.uint8]:
        """Return the keep bits, eight to a byte: uint8, shape (ceil(size / 8),).

        Element i, in C order, is bit i % 8 of byte i // 8, as in
        ``np.unpackbits(..., bitorder="little")``; bits past the last are 0.
        """
        if self._strides is not None:
            return super().to_packed()
        out = np.empty(-(-self.size // 8), np.uint8)
        backends.current().bits(self._stream, self._draw, self._rate, self._first, self.size, out)
        return out

    def to_bool(self) -> NDArray[np.bool_]:
        """Return the mask as an array, True where it keeps: bool, shape `shape`."""
        strides = c_strides(self.shape) if self._strides is None else self._strides
        n = span(self.shape, strides)
        packed = np.empty(-(-n // 8), np.uint8)
        backends.current().bits(self._stream, self._draw, self._rate, self._first, n, packed)
        bits = np.unpackbits(packed, count=n, bitorder="little").view(np.bool_)
        if self._strides is None:
            return bits.reshape(self.shape)
        return np.lib.stride_tricks.as_strided(bits, self.shape, strides).copy()

    def __getitem__(self, rows: int | slice) -> Mask:
        """Return the mask of some rows (the first axis): an int, or a slice of step 1."""
        start, shape = picked(rows, self.shape)
        strides = self._strides
        step = math.prod(self.shape[1:]) if strides is None else strides[0]
        first = self._first + start * step
        if strides is not None and not isinstance(rows, slice):
            strides = strides[1:]
        return Mask(self._stream, self._draw, self._rate, shape, first, strides)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Mask):
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash(self._identity())

    def _identity(self) -> tuple[object, ...]:
        rate = self._rate
        return self._stream, self._draw, rate.p, rate.scale, self._first, self._strides, self.shape

    @property
    def state(self) -> dict[str, Any]:
        """The mask as a small dictionary that JSON can hold; see `from_state`.

        Examples
        --------
        >>> import json, numpy as np, fastdrop
        >>> _, mask = fastdrop.dropout(np.ones((4, 3)), rng=1, return_mask=True)
        >>> fastdrop.Mask.from_state(json.loads(json.dumps(mask.state))) == mask
        True
        """
        return {
            "mask_format": FORMAT,
            "stream": self._stream.state,
            "draw": self._draw,
            "p": self.p,
            "scale": self.scale,
            "first": self._first,
            "shape": list(self.shape),
            "strides": None if self._strides is None else list(self._strides),
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Mask:
        """Return the mask that a `state` describes, in whatever process and on whatever machine.

        Raises
        ------
        ValueError
            If `state` is none, or comes from another mask format or from a
            generator that is not registered here.
        """
        found = entry(state, "mask_format", "Mask.state")
        if not is_same(found, FORMAT):
            raise ValueError(f"state must be of mask format {FORMAT}, but got {shown(found)}")
        draw, first, shape, strides, p, scale, stream = (
            entry(state, name, "Mask.state")
            for name in ("draw", "first", "shape", "strides", "p", "scale", "stream")
        )
        checked = stored_rate(p).with_scale(stored_float(scale, "scale"))
        shape = tuple(stored_ints(shape, "shape", sys.maxsize))
        if len(shape) > _MOST_DIMENSIONS:
            raise ValueError(
                f"state's shape must have at most {_MOST_DIMENSIONS} dimensions, "
                f"but got {len(shape)}"
            )
        if strides is not None:
            strides = tuple(stored_ints(strides, "strides", sys.maxsize))
            if len(strides) != len(shape):
                raise ValueError(
                    f"state must have a stride for each dimension, but got {shown(state)}"
                )
        first = stored_int(first, "first", sys.maxsize)
        # What lies beyond a stream's end no draw has reserved.
        last = first + span(shape, c_strides(shape) if strides is None else strides)
        draw = stored_int(draw, "draw", STREAM_END)
        if last > sys.maxsize or draw + checked.words(last) > STREAM_END:
            raise ValueError(
                f"state's mask must end before its stream does, but got {shown(state)}"
            )
        return cls(stream_from(stream), draw, checked, shape, first, strides)

    def __repr__(self) -> str:
        shared = "" if self._strides is None else f", noise_shape={self.noise_shape}"
        return f"Mask(shape={self.shape}{shared}, p={self.p}, rng={self._stream.algorithm.name!r})"
