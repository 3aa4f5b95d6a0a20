"""Masks by sample: a row's mask depends on the row's id, not on where the row is."""

from __future__ import annotations

import math
import sys
from functools import lru_cache
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .. import backends
from ..arrays import Array
from ..backends import Draws
from ..backends.form import Form
from ..checks import entry, shown, stored_float, stored_int, stored_ints
from ..mask_format import FORMAT, Rate, stored_rate
from ..rng import DEFAULT, stream_from
from ..rng.base import Stream
from ..rng.counter import STREAM_END
from ..sharing import Strides, canonical, mask_strides, noise_of, span, strides_of
from .base import DrawnMask, check_end, check_format, stored_shape, stored_strides
from .mask import Mask
from .windows import Index, expanded, picked_rows, row_number, window_of

if TYPE_CHECKING:
    from numpy.typing import NDArray

_STREAM_WORDS = 1 << 64


class SampleMask(DrawnMask):
    """The masks of some samples, one row each: evaluated when asked for, never stored.

    ``dropout(..., sample_ids=ids, return_mask=True)`` returns one.

    Attributes
    ----------
    shape : tuple of int
        (number of samples, *shape of a row).
    p, scale : float
        As those of `Mask`.
    noise_shape : tuple of int
        `shape` with length 1 along the axes whose elements share their fate.

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

    __slots__ = ("_draws", "_strides", "shape")

    _kind = "sample"

    def __init__(
        self, draws: Draws, shape: tuple[int, ...], strides: Strides | None = None
    ) -> None:
        self._draws = draws
        self._strides = strides  # of a row, as `Mask` has them
        self.shape = shape

    @property
    def p(self) -> float:
        """Drop probability."""
        return self._draws.rate.p

    @property
    def scale(self) -> float:
        """What kept elements are multiplied by."""
        return self._draws.rate.scale

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """The shape that was drawn for: 1 along shared axes."""
        row = self.shape[1:]
        return self.shape[0], *noise_of(row, strides_of(row, self._strides))

    def write(self, form: Form, x: Array, out: Array) -> None:
        """Write a `Form` of x, checked arrays, to `out`, as `Mask.write` does."""
        self._check_shape(x)
        strides = strides_of(self.shape[1:], self._strides)
        backends.evaluate_samples(self._draws, strides, form, x, out)

    def _window(self) -> NDArray[np.uint64]:
        """Return the keep bits over the noise shape, packed in whole words."""
        strides = strides_of(self.shape[1:], self._strides)
        return backends.current().sample_window(self._draws, self.noise_shape[1:], strides)

    def __getitem__(self, index: Index) -> Mask | SampleMask:
        """Return the mask of a window: ints, slices of positive steps, ``...`` and None.

        Samples lie along the first axis, and no new one can come before it.
        """
        rows, *inner = expanded(index, self.ndim)
        if rows is None:
            raise IndexError(
                "a SampleMask's first axis is that of its samples, but got None before it"
            )
        row = self.shape[1:]
        if not isinstance(rows, slice):
            drawn = self._draws[row_number(rows, len(self))]
            return Mask(drawn, row, self._strides)[tuple(inner)]
        picked = picked_rows(rows, len(self))
        # The samples' axis takes part, for there is a limit to how many axes there are.
        axes = (len(self), *row), (0, *strides_of(row, self._strides))
        first, (_, *shape), (_, *strides) = window_of((rows, *inner), *axes)
        part = self._draws.picked(rows, self._draws.first + first)
        steps = canonical(tuple(shape), tuple(strides))
        return SampleMask(part, (len(picked), *shape), steps)

    def _identity(self) -> tuple[object, ...]:
        draws, rate = self._draws, self._draws.rate
        drawn = draws.stream, draws.positions.tobytes(), rate.p, rate.scale, draws.first
        return *drawn, self._strides, self.shape

    @property
    def state(self) -> dict[str, Any]:
        """The mask as a small dictionary that JSON can hold; see `AnyMask.from_state`."""
        draws = self._draws
        return {
            "kind": self._kind,
            "mask_format": FORMAT,
            "stream": draws.stream.state,
            "draws": draws.positions.tolist(),
            "p": draws.rate.p,
            "scale": draws.rate.scale,
            "shape": list(self.shape),
            "first": draws.first,
            "strides": None if self._strides is None else list(self._strides),
        }

    @classmethod
    def _from_state(cls, state: dict[str, Any]) -> Self:
        check_format(entry(state, "mask_format", "SampleMask.state"))
        stream, positions, p, scale, shape, first, strides = (
            entry(state, name, "SampleMask.state")
            for name in ("stream", "draws", "p", "scale", "shape", "first", "strides")
        )
        rate = stored_rate(p).with_scale(stored_float(scale, "scale"))
        shape = stored_shape(shape)
        positions = stored_ints(positions, "draws", STREAM_END)
        if shape[:1] != (len(positions),):
            raise ValueError(
                "state must have a draw for each row of its shape, "
                f"but got {len(positions)} and {shape}"
            )
        first, row = stored_int(first, "first", sys.maxsize), shape[1:]
        if strides is not None:
            strides = stored_strides(state, strides, row)
        last = first + span(row, strides_of(row, strides))
        words = rate.words(last)
        check_end(state, max(positions, default=0), words, max(last, math.prod(shape)))
        drawn = np.array(positions, np.uint64)
        return cls(Draws(stream_from(stream), drawn, rate, first), shape, strides)

    def __setstate__(self, state: tuple[dict[str, Any] | None, dict[str, Any]]) -> None:
        held = {**(state[0] or {}), **state[1]}
        if "_rows" in held:  # pickled when each row was a `Mask`, of a shape of one row
            rows, shape = held.pop("_rows"), held["shape"]
            checked = stored_rate(held.pop("p")).with_scale(held.pop("scale"))
            drawn = [row._draw for row in rows]
            positions = np.array([draw.position for draw in drawn], np.uint64)
            stream = drawn[0].stream if drawn else DEFAULT(0).source[0]
            first = drawn[0].first if drawn else 0
            steps = rows[0]._strides if drawn else None
            held["_draws"] = Draws(stream, positions, checked, first)
            held["_strides"] = None if steps is None else canonical(shape[1:], steps[1:])
        for name, value in held.items():
            setattr(self, name, value)

    def __repr__(self) -> str:
        return f"SampleMask(shape={self.shape}, p={self.p})"


def sample_mask(
    source: Stream,
    position: int,
    rate: Rate,
    shape: tuple[int, ...],
    sample_ids: Any,
    noise_shape: tuple[int, ...] | None = None,
) -> SampleMask:
    """Return the mask of samples with these ids, from a generator's stream and position.

    The samples' stream has a key made of that key and position and of how many elements a row's
    mask is drawn for. A sample's draw is its id's share of that stream. An id of two numbers is
    ``first * 2**32 + second``.

    Raises
    ------
    TypeError
        If `sample_ids` holds anything but ints.
    ValueError
        If there is not one id for each row, an id is negative or too large, or `noise_shape`
        shares a mask among samples.
    """
    if not shape:
        raise ValueError("sample_ids need an x with rows, but its shape is ()")
    noise = shape if noise_shape is None else noise_shape
    if noise[0] != shape[0]:
        raise ValueError(
            "with sample_ids, samples must not share a mask, so axis 0 is not shared: "
            f"noise_shape must begin with {shape[0]} or None, but got {noise[0]}"
        )
    row = math.prod(noise[1:])
    words = max(rate.words(row), 1)
    ids = checked_ids(sample_ids, shape, _STREAM_WORDS // words - 2)
    algorithm: Any = source.algorithm
    stream = _stream_of(algorithm, source.key.tobytes(), position, row)
    draws = Draws(stream, ids * np.uint64(words), rate)
    return SampleMask(draws, shape, mask_strides(shape[1:], noise[1:]))


@lru_cache(maxsize=256)
def _stream_of(algorithm: Any, key: bytes, position: int, row: int) -> Stream:
    """Return the stream of samples: making its key takes longer than masks of small rows."""
    entropy = [*np.frombuffer(key, np.uint64).tolist(), position, row]
    return Stream(algorithm, algorithm.seed_key(np.random.SeedSequence(entropy)))


def checked_ids(sample_ids: Any, shape: tuple[int, ...], most: int) -> NDArray[np.uint64]:
    """Return an id for each row of an array, or raise TypeError or ValueError."""
    first, ids = _parts(sample_ids, shape)
    length = " for rows of this length"
    if first is None:
        return _within(ids, most, "sample_ids", length)
    high = _within(first, most >> 32, "the first numbers of sample_ids", length)
    low = _within(ids, (1 << 32) - 1, "the second numbers of sample_ids")
    joined: NDArray[np.uint64] = high << np.uint64(32) | low
    return _within(joined, most, "sample_ids, as first * 2**32 + second,", length)


def _parts(sample_ids: Any, shape: tuple[int, ...]) -> tuple[NDArray[Any] | None, NDArray[Any]]:
    """Return the first numbers, if ids have two, and the ids or second numbers: arrays of ints."""
    try:
        pair = type(sample_ids) is tuple and [np.ndim(part) for part in sample_ids] == [0, 1]
        parts = [_ints(part) for part in (sample_ids if pair else [sample_ids])]
    except ValueError as error:  # ragged
        raise ValueError(
            f"sample_ids must be one id for each row of x, but got {shown(sample_ids)}"
        ) from error
    ids = parts[-1]
    if ids.shape != shape[:1] and (pair or ids.shape != (shape[0], 2)):
        raise ValueError(
            f"sample_ids must be one id for each row of x, whose shape is {shape}: an int, or two "
            f"in a row of shape ({shape[0]}, 2), or (int, {shape[0]} ints), "
            f"but got shape {ids.shape}"
        )
    if ids.ndim == 2:
        return ids[:, 0], ids[:, 1]
    return (parts[0] if pair else None), ids


def _ints(ids: Any) -> NDArray[Any]:
    """Return an array of ints, or raise TypeError."""
    found = np.asarray(ids)
    if found.dtype.kind == "f" and not isinstance(ids, np.ndarray):
        # NumPy makes floats of ints that no dtype holds all, such as int64 and uint64.
        found = np.asarray(ids, object)
    if found.dtype.kind == "O":  # also ints of more than 64 bits, or anything
        numbers = [int(i) if isinstance(i, np.integer) else i for i in found.ravel()]
        is_ints = all(type(i) is int for i in numbers)
    else:
        is_ints = found.dtype.kind in "iu" or found.size == 0
    if not is_ints:
        raise TypeError(f"sample_ids must be ints, but got {shown(ids)} ({np.asarray(ids).dtype})")
    return found


def _within(ids: NDArray[Any], most: int, name: str, where: str = "") -> NDArray[np.uint64]:
    """Return ids as unsigned numbers, or raise ValueError where one is not between 0 and most."""
    if ids.size and not (ids.min() >= 0 and ids.max() <= most):
        wrong = next(int(i) for i in ids.ravel() if not 0 <= i <= most)
        raise ValueError(f"{name} must be between 0 and {most}{where}, but got {shown(wrong)}")
    return ids.astype(np.uint64)
