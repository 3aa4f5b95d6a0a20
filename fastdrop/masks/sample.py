"""Masks by sample: a row's mask depends on the row's id, not on where the row is."""

from __future__ import annotations

import math
import sys
from copy import copy
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from ..arrays import Array, prepare
from ..backends import Draw
from ..backends.form import Form
from ..checks import entry, shown, stored_float, stored_int, stored_ints
from ..mask_format import FORMAT, Rate, stored_rate
from ..rng import AnyRNG, stream_from
from ..rng.base import Stream
from ..rng.counter import STREAM_END
from ..sharing import c_strides, span, strides_of
from .base import KeepMask, check_end, check_format, stored_shape, stored_strides
from .mask import Mask
from .windows import Index, expanded, picked_rows, row_number, window_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STREAM_WORDS = 1 << 64


class SampleMask(KeepMask):
    """The masks of some samples, one row each: evaluated when asked for, never stored.

    ``dropout(..., sample_ids=ids, return_mask=True)`` returns one.

    Attributes
    ----------
    shape : tuple of int
        (number of samples, *shape of a row).
    p, scale : float
        As those of `Mask`.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x = np.ones((3, 5))
    >>> y, mask = fastdrop.dropout(x, rng=1, sample_ids=[7, 2, 9], return_mask=True)
    >>> bool((fastdrop.dropout(x[:1], rng=1, sample_ids=[2]) == y[1]).all())
    True
    >>> bool((mask[1:].apply(x[1:]) == y[1:]).all())
    True
    """

    __slots__ = ("_rows", "p", "scale", "shape")

    _kind = "sample"

    p: float
    scale: float

    def __init__(self, rows: list[Mask], rate: Rate, row_shape: tuple[int, ...]) -> None:
        self._rows = rows
        self.p = rate.p
        self.scale = rate.scale
        self.shape = (len(rows), *row_shape)

    def apply(self, x: Array, out: Array | None = None) -> Array:
        """Return x * scale where the mask keeps, +0.0 elsewhere, as `Mask.apply` does."""
        y = prepare(x, False, out)
        self._check_shape(x)
        for i, row in enumerate(self._rows):
            row.apply(x[i : i + 1], y[i : i + 1])
        return y

    def write(self, form: Form, x: Array, out: Array) -> None:
        """Write a `Form` of x, checked arrays, to `out`, as `Mask.write` does."""
        self._check_shape(x)
        for i, row in enumerate(self._rows):
            operands = tuple(a[i : i + 1] for a in form.operands)
            row.write(form._replace(operands=operands), x[i : i + 1], out[i : i + 1])

    def to_bool(self) -> NDArray[np.bool_]:
        """Return the mask as an array, True where it keeps: bool, shape `shape`."""
        kept = np.empty(self.shape, np.bool_)
        for i, row in enumerate(self._rows):
            kept[i : i + 1] = row.to_bool()
        return kept

    def __getitem__(self, index: Index) -> Mask | SampleMask:
        """Return the mask of a window: ints, slices of positive steps, ``...`` and None.

        Samples lie along the first axis, and no new one can come before it.
        """
        rows, *inner = expanded(index, self.ndim)
        if rows is None:
            raise IndexError(
                "a SampleMask's first axis is that of its samples, but got None before it"
            )
        if not isinstance(rows, slice):
            return self._rows[row_number(rows, len(self))][(0, *inner)]
        picked = picked_rows(rows, len(self))
        inside = self.shape[1:]
        _, shape, _ = window_of(tuple(inner), inside, c_strides(inside))
        part = copy(self)
        part._rows = [self._rows[i] for i in picked]
        if any(entry != slice(None) for entry in inner):
            part._rows = [row[(slice(None), *inner)] for row in part._rows]
        part.shape = (len(picked), *shape)
        return part

    def _identity(self) -> tuple[object, ...]:
        return tuple(self._rows), self.p, self.scale, self.shape

    @property
    def state(self) -> dict[str, Any]:
        """The mask as a small dictionary that JSON can hold; see `AnyMask.from_state`."""
        draws = [row._draw for row in self._rows]
        return {
            "kind": self._kind,
            "mask_format": FORMAT,
            "stream": draws[0].stream.state if draws else None,
            "draws": [draw.position for draw in draws],
            "p": self.p,
            "scale": self.scale,
            "shape": list(self.shape),
            **self._window_state(),
        }

    def _window_state(self) -> dict[str, Any]:
        """Return where in its draw a row lies; nothing if that is from its start on."""
        if not self._rows:
            return {}
        first, strides = self._rows[0]._draw.first, self._rows[0]._strides
        if first == 0 and strides is None:
            return {}
        return {"first": first, "strides": None if strides is None else list(strides)}

    @classmethod
    def _from_state(cls, state: dict[str, Any]) -> Self:
        check_format(entry(state, "mask_format", "SampleMask.state"))
        stream, draws, p, scale, shape = (
            entry(state, name, "SampleMask.state")
            for name in ("stream", "draws", "p", "scale", "shape")
        )
        rate = stored_rate(p).with_scale(stored_float(scale, "scale"))
        shape = stored_shape(shape)
        positions = stored_ints(draws, "draws", STREAM_END)
        if shape[:1] != (len(positions),):
            raise ValueError(
                "state must have a draw for each row of its shape, "
                f"but got {len(positions)} and {shape}"
            )
        first, row = stored_int(state.get("first", 0), "first", sys.maxsize), (1, *shape[1:])
        strides = state.get("strides")
        if strides is not None:
            strides = stored_strides(state, strides, row)
        last = first + span(row, strides_of(row, strides))
        words = rate.words(last)
        check_end(state, max(positions, default=0), words, max(last, math.prod(shape)))
        if positions or stream is not None:
            stream = stream_from(stream)
        rows = [Mask(Draw(stream, position, rate, first), row, strides) for position in positions]
        return cls(rows, rate, shape[1:])

    def __repr__(self) -> str:
        return f"SampleMask(shape={self.shape}, p={self.p})"


def sample_mask(rng: AnyRNG, rate: Rate, shape: tuple[int, ...], sample_ids: Any) -> SampleMask:
    """Return the mask of samples with these ids, from a generator that does not move on.

    The stream's key is made of the generator's key and position and of the length
    of a row. A sample's draw is its id's share of that stream.

    Raises
    ------
    TypeError
        If `sample_ids` holds anything but ints, or the generator only goes forward.
    ValueError
        If there is not one id for each row, or an id is negative or too large.
    """
    try:
        ids = np.asarray(sample_ids)
    except ValueError as error:  # ragged
        raise ValueError(
            f"sample_ids must be one id for each row of x, but got {shown(sample_ids)}"
        ) from error
    if not shape or ids.shape != shape[:1]:
        raise ValueError(
            f"sample_ids must be one id for each row of x, whose shape is {shape}, "
            f"but got shape {ids.shape}"
        )
    numbers = [int(i) if isinstance(i, np.integer) else i for i in ids]
    # In an array of objects: ints of more than 64 bits, or anything.
    if ids.size and (ids.dtype.kind not in "iuO" or any(type(i) is not int for i in numbers)):
        raise TypeError(f"sample_ids must be ints, but got {shown(sample_ids)} ({ids.dtype})")
    source, position = rng.reserve(0)
    if source.sequential:
        raise TypeError(
            f"sample_ids need a generator with random access, but got {rng.name}, "
            "which can only go forward"
        )
    words = max(rate.words(math.prod(shape[1:])), 1)
    most = _STREAM_WORDS // words - 2
    for number in numbers:
        if not 0 <= number <= most:
            raise ValueError(
                f"sample_ids must be between 0 and {most} for rows of this length, "
                f"but got {shown(number)}"
            )
    entropy = [*(int(word) for word in source.key), position, math.prod(shape[1:])]
    key = source.algorithm.seed_key(np.random.SeedSequence(entropy))
    stream = Stream(source.algorithm, key)
    rows = [Mask(Draw(stream, number * words, rate), (1, *shape[1:])) for number in numbers]
    return SampleMask(rows, rate, shape[1:])
