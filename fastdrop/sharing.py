"""Shared masks: elements that lie along a shared axis are kept or dropped together.

A shared mask is drawn over the noise shape, in which shared axes have length 1,
so it costs as many random bits as it has elements there. Strides, 0 along
shared axes, say which of them an element of x looks at.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from functools import lru_cache
from operator import index
from typing import Any

import numpy as np

from .checks import shown

Strides = tuple[int, ...]


def noise_shape_of(
    shape: tuple[int, ...], noise_shape: Sequence[int | None] | None, broadcast_dims: Iterable[int]
) -> tuple[int, ...]:
    """Return the shape that a mask is drawn over, checked against x's.

    Raises
    ------
    TypeError
        If an entry is no int (or None, in `noise_shape`).
    ValueError
        If both arguments are given, or one does not fit the shape.
    """
    if noise_shape is None:
        return without_axes(shape, checked_axes(broadcast_dims, len(shape), "broadcast_dims"))
    if as_ints(broadcast_dims, "broadcast_dims"):
        raise ValueError("only one of noise_shape and broadcast_dims may be given, but got both")
    entries = noise_entries(noise_shape)
    if len(entries) != len(shape):
        raise ValueError(
            f"noise_shape must have an entry for each of the {len(shape)} dimensions of x, "
            f"but got {shown(entries)}"
        )
    noise = tuple(n if entry is None else entry for entry, n in zip(entries, shape, strict=True))
    if any(m not in (1, n) for m, n in zip(noise, shape, strict=True)):
        raise ValueError(
            f"each entry of noise_shape must be 1, None or x's length there, {shape}, "
            f"but got {shown(entries)}"
        )
    return noise


def checked_axes(axes: Iterable[int], ndim: int, name: str) -> frozenset[int]:
    """Return axes as numbers from 0 to ndim - 1; negative ones count from the end."""
    numbers, checked = as_ints(axes, name), []
    for number in numbers:
        if ndim == 0:
            raise ValueError(
                f"{name} must be an axis of x, but an array of 0 dimensions has none; "
                f"got {shown(number)}"
            )
        if not -ndim <= number < ndim:
            raise ValueError(
                f"{name} must be between {-ndim} and {ndim - 1} for an array of {ndim} "
                f"dimensions, but got {shown(number)}"
            )
        checked.append(number % ndim)
    if len(set(checked)) != len(checked):
        raise ValueError(f"{name} must name each axis once, but got {shown(numbers)}")
    return frozenset(checked)


def without_axes(shape: tuple[int, ...], shared: frozenset[int]) -> tuple[int, ...]:
    """Return the shape with length 1 along the shared axes."""
    return tuple(1 if axis in shared else n for axis, n in enumerate(shape))


@lru_cache(maxsize=1024)
def mask_strides(shape: tuple[int, ...], noise_shape: tuple[int, ...]) -> Strides | None:
    """Return the mask's strides for an array of `shape`; None if no element shares."""
    if noise_shape == shape:
        return None
    return tuple(
        0 if m == 1 else stride
        for m, stride in zip(noise_shape, c_strides(noise_shape), strict=True)
    )


@lru_cache(maxsize=1024)
def c_strides(shape: tuple[int, ...]) -> Strides:
    """Return the strides, in elements, of an array in C order, a length of 0 taken for 1."""
    lengths = [max(n, 1) for n in shape]
    return tuple(math.prod(lengths[axis + 1 :]) for axis in range(len(shape)))


@lru_cache(maxsize=1024)
def span(shape: tuple[int, ...], strides: Strides) -> int:
    """Return how many of a mask's elements lie from the first to the last one looked at."""
    if math.prod(shape) == 0:
        return 0
    return 1 + sum((n - 1) * stride for n, stride in zip(shape, strides, strict=True))


@lru_cache(maxsize=1024)
def noise_of(shape: tuple[int, ...], strides: Strides) -> tuple[int, ...]:
    """Return the shape that a mask with these strides is looked at: 1 along shared axes."""
    return tuple(n if stride else 1 for n, stride in zip(shape, strides, strict=True))


def packed_strides(shape: tuple[int, ...], noise_shape: tuple[int, ...]) -> Strides:
    """Return the strides of a mask that is given over the noise shape."""
    return mask_strides(shape, noise_shape) or c_strides(shape)


@lru_cache(maxsize=1024)
def canonical(shape: tuple[int, ...], strides: Strides) -> Strides | None:
    """Return strides with 0 along axes of length 1; None for those of C order."""
    found, c = (
        tuple(step if n != 1 else 0 for n, step in zip(shape, steps, strict=True))
        for steps in (strides, c_strides(shape))
    )
    return None if found == c else found


def strides_of(shape: tuple[int, ...], strides: Strides | None) -> Strides:
    """Return the strides that a mask is walked with, whose canonical form is given."""
    return c_strides(shape) if strides is None else strides


def as_ints(entries: Iterable[int], name: str) -> tuple[int, ...]:
    """Return what an argument holds as ints, or raise TypeError."""
    return tuple(_as_int(entry, name) for entry in _iterable(entries, name))


def noise_entries(noise_shape: Iterable[int | None]) -> tuple[int | None, ...]:
    """Return the entries of a `noise_shape`, ints or None, or raise TypeError."""
    return tuple(
        None if entry is None else _as_int(entry, "noise_shape")
        for entry in _iterable(noise_shape, "noise_shape")
    )


def _iterable(entries: Any, name: str) -> Iterable[Any]:
    if isinstance(entries, str | bytes) or not np.iterable(entries):
        raise TypeError(f"{name} must be a sequence of ints, but got {shown(entries)}")
    return entries


def _as_int(entry: object, name: str) -> int:
    try:
        return index(entry)  # type: ignore[arg-type]
    except TypeError:
        raise TypeError(f"{name} must hold ints, but got {shown(entry)}") from None
