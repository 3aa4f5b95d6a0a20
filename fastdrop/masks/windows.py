"""Windows: what a basic index picks of a mask, as a first element, a shape and strides."""

from __future__ import annotations

from types import EllipsisType
from typing import Any, Final

from ..checks import shown
from ..sharing import Strides

MOST_DIMENSIONS: Final = 64  # NumPy's

Entry = int | slice | EllipsisType | None
Index = Entry | tuple[Entry, ...]


def window_of(
    index: Any, shape: tuple[int, ...], strides: Strides
) -> tuple[int, tuple[int, ...], Strides]:
    """Return how far a window's first element lies behind the mask's, its shape and its strides.

    Raises
    ------
    IndexError
        If the index does not suit the shape, or holds something else than ints, slices of
        positive steps, Ellipsis and None.
    """
    first, lengths, steps = 0, [], []
    axes = iter(zip(shape, strides, strict=True))
    for entry in expanded(index, len(shape)):
        if entry is None:
            lengths.append(1)
            steps.append(0)
            continue
        length, stride = next(axes)
        if isinstance(entry, slice):
            rows = picked_rows(entry, length)
            lengths.append(len(rows))
            steps.append(stride * rows.step if len(rows) > 1 else stride)
            first += rows.start * stride if rows else 0
        else:
            first += row_number(entry, length) * stride
    if len(lengths) > MOST_DIMENSIONS:
        raise IndexError(
            f"a mask has at most {MOST_DIMENSIONS} dimensions, but the index makes {len(lengths)}"
        )
    return first, tuple(lengths), tuple(steps)


def expanded(index: Any, ndim: int) -> list[Any]:
    """Return an index's entries: one for each axis, and None for each new one."""
    entries = list(index) if isinstance(index, tuple) else [index]
    dots = [at for at, entry in enumerate(entries) if entry is Ellipsis]
    if len(dots) > 1:
        raise IndexError(f"an index may have one Ellipsis, but got {len(dots)}")
    axes = sum(entry is not None for entry in entries) - len(dots)
    if axes > ndim:
        raise IndexError(
            "a mask of 0 dimensions has no rows"
            if ndim == 0
            else f"a mask of {ndim} dimensions takes at most {ndim} indices, but got {axes}"
        )
    at = dots[0] if dots else len(entries)
    entries[at : at + 1] = [slice(None)] * (ndim - axes)
    return entries


def picked_rows(rows: slice, length: int) -> range:
    """Return the rows that a slice picks."""
    try:
        start, stop, step = rows.indices(length)
    except TypeError as error:
        raise IndexError(f"a mask's slices must hold ints, but got {shown(rows)}") from error
    except ValueError:
        step = 0
    if step < 1:
        raise IndexError(f"a mask must be sliced with step 1 or more, but got step {step}")
    return range(start, stop, step)


def row_number(index: Any, length: int) -> int:
    """Return the number of a row from 0 on, or raise IndexError."""
    try:
        row = index.__index__()
    except (AttributeError, TypeError):
        row = None
    if row is None or isinstance(index, bool):
        raise IndexError(
            "a mask is indexed by ints, slices, Ellipsis and None, "
            f"but got {shown(index)}; np.asarray(mask) can be indexed in any way"
        )
    if length == 0:
        raise IndexError(f"a mask of 0 rows has none to pick, but got {shown(row)}")
    if not -length <= row < length:
        raise IndexError(f"row must be between {-length} and {length - 1}, but got {shown(row)}")
    return int(row) % length
