"""Mask: which elements a draw keeps, as a function and not as an array."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .. import backends
from ..arrays import Array, prepare
from ..backends import Draw
from ..backends.form import Form
from ..checks import entry, stored_float, stored_int
from ..mask_format import FORMAT, stored_rate
from ..rng import stream_from
from ..rng.counter import STREAM_END
from ..sharing import Strides, canonical, noise_of, span, strides_of
from .base import DrawnMask, check_end, check_format, stored_shape, stored_strides
from .windows import Index, window_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


def apply_draw(draw: Draw, shape: tuple[int, ...], x: Array, out: Array | None) -> Array:
    """Do what `Mask.apply` does, without a Mask, where no elements share their fate."""
    y = prepare(x, False, out)
    if x.shape != shape:
        raise ValueError(f"x must have the mask's shape {shape}, but got {x.shape}")
    backends.apply(draw, x, y)
    return y


class Mask(DrawnMask):
    """The mask of one draw: evaluated when asked for, never stored.

    A `Mask` remembers the generator's key, the position of its draw, the drop
    probability and a shape, some hundred bytes whatever the shape is. Indexing
    costs nothing and gives the mask of a window, with the same bits as the whole.

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
    >>> bool((mask[1:3, ::2].to_bool() == mask.to_bool()[1:3, ::2]).all())
    True
    """

    __slots__ = ("_draw", "_strides", "shape")

    _kind = "mask"

    def __init__(self, draw: Draw, shape: tuple[int, ...], strides: Strides | None = None) -> None:
        self._draw = draw
        self._strides = strides  # None: each element has its own, in C order; see `canonical`
        self.shape = shape

    @property
    def p(self) -> float:
        """Drop probability."""
        return self._draw.rate.p

    @property
    def scale(self) -> float:
        """What kept elements are multiplied by."""
        return self._draw.rate.scale

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """The shape that was drawn for: 1 along shared axes."""
        if self._strides is None:
            return self.shape
        return noise_of(self.shape, self._strides)

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
        if self._strides is None:
            return apply_draw(self._draw, self.shape, x, out)
        return super().apply(x, out)

    def write(self, form: Form, x: Array, out: Array) -> None:
        """Write a `Form` of x, checked arrays, to `out`: what the family's operations do."""
        self._check_shape(x)
        strides = strides_of(self.shape, self._strides)
        backends.evaluate(self._draw, strides, form, x, out)

    def to_packed(self) -> NDArray[np.uint8]:
        """Return the keep bits, eight to a byte: uint8, shape (ceil(size / 8),).

        Element i, in C order, is bit i % 8 of byte i // 8, as in
        ``np.unpackbits(..., bitorder="little")``; bits past the last are 0.
        """
        if self._strides is None:
            out = np.empty(-(-self.size // 8), np.uint8)
            backends.current().bits(self._draw, self.size, out)
            return out
        return super().to_packed()

    def _window(self) -> NDArray[np.uint64]:
        """Return the keep bits over the noise shape, packed in whole words."""
        strides = strides_of(self.shape, self._strides)
        return backends.current().window(self._draw, self.noise_shape, strides)

    def __getitem__(self, index: Index) -> Mask:
        """Return the mask of a window: ints, slices of positive steps, ``...`` and None."""
        whole = strides_of(self.shape, self._strides)
        first, shape, strides = window_of(index, self.shape, whole)
        draw = self._draw.starting_at(self._draw.first + first)
        return Mask(draw, shape, canonical(shape, strides))

    def _for_c(self) -> Draw:
        """Return what decides this mask, for extensions in C, or raise an error."""
        stream = self._draw.stream
        if self._strides is not None and self.size:
            raise ValueError(
                "mask must have elements of its own, side by side in C order, for C, but this one "
                "is shared or a window with gaps"
            )
        if stream.sequential or not stream.fill_address:
            raise TypeError(
                "mask must be drawn from a generator with random access and a compiled fill for C, "
                f"but got one of {stream.algorithm.name}"
            )
        return self._draw

    def _identity(self) -> tuple[object, ...]:
        draw, rate = self._draw, self._draw.rate
        drawn = draw.stream, draw.position, rate.p, rate.scale, draw.first
        return *drawn, self._strides, self.shape

    def __setstate__(self, state: tuple[dict[str, Any] | None, dict[str, Any]]) -> None:
        held = {**(state[0] or {}), **state[1]}
        if "_stream" in held:  # pickled before masks had a Draw
            parts = (held.pop(name) for name in ("_stream", "_draw", "_rate", "_first"))
            held["_draw"] = Draw(*parts)
        if held["_strides"] is not None:
            held["_strides"] = canonical(held["shape"], held["_strides"])
        for name, value in held.items():
            setattr(self, name, value)

    @property
    def state(self) -> dict[str, Any]:
        """The mask as a small dictionary that JSON can hold; see `AnyMask.from_state`.

        Examples
        --------
        >>> import json, numpy as np, fastdrop
        >>> _, mask = fastdrop.dropout(np.ones((4, 3)), rng=1, return_mask=True)
        >>> fastdrop.Mask.from_state(json.loads(json.dumps(mask.state))) == mask
        True
        """
        draw = self._draw
        return {
            "mask_format": FORMAT,
            "stream": draw.stream.state,
            "draw": draw.position,
            "p": draw.rate.p,
            "scale": draw.rate.scale,
            "first": draw.first,
            "shape": list(self.shape),
            "strides": None if self._strides is None else list(self._strides),
        }

    @classmethod
    def _from_state(cls, state: dict[str, Any]) -> Self:
        check_format(entry(state, "mask_format", "Mask.state"))
        position, first, shape, strides, p, scale, stream = (
            entry(state, name, "Mask.state")
            for name in ("draw", "first", "shape", "strides", "p", "scale", "stream")
        )
        rate = stored_rate(p).with_scale(stored_float(scale, "scale"))
        shape = stored_shape(shape)
        if strides is not None:
            strides = stored_strides(state, strides, shape)
        first = stored_int(first, "first", sys.maxsize)
        last = first + span(shape, strides_of(shape, strides))
        position = stored_int(position, "draw", STREAM_END)
        check_end(state, position, rate.words(last), max(last, math.prod(shape)))
        return cls(Draw(stream_from(stream), position, rate, first), shape, strides)

    def __repr__(self) -> str:
        shared = "" if self._strides is None else f", noise_shape={self.noise_shape}"
        rng = self._draw.stream.algorithm.name
        return f"Mask(shape={self.shape}{shared}, p={self.p}, rng={rng!r})"
