"""Noise, a normal variate for each element, in arrays of any layout."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from .blocks import fill_checked
from .compiling import inner, like, named
from .elements import SIZES
from .layouts import AXIS, place
from .memory import stack
from .parts import PART, elements_of
from .steps import NOISE_STEP, write_levels, write_noise

_PART_WORDS: Final = 8 * PART  # bytes
_WORD, _OUT, _X = AXIS.index("mask"), AXIS.index("out"), AXIS.index("x")


@inner()
def _fill_words(source: Any, axes: Any, element: int, n: int, out: int) -> int:
    """Write the words of n elements, counted along the axes."""
    fill, key, draw = source
    # Along the last axis words follow one another, unless it is another one of a single column.
    row = axes[-1][0] if axes[-1][_WORD] == 1 else 1
    while n > 0:
        word = place(axes, element)[0]
        take = min(row - element % row, n)
        # Rows whose words follow one another are filled at once.
        while take < n and place(axes, element + take)[0] == word + take:
            take += min(row, n - take)
        status = fill_checked(fill, key, draw + word, take, out)
        if status:
            return status
        element, n, out = element + take, n - take, out + 8 * take
    return 0


@cache
def _rows_of(size: int) -> Any:
    """Return a function that copies n elements, counted along the axes, to a buffer, or back."""
    elements = elements_of(size)

    @inner(size)
    def rows(
        axes: Any, element: int, n: int, array: int, column: int, room: int, back: int
    ) -> None:
        length, step = axes[-1][0], axes[-1][column]
        while n > 0:
            take = min(length - element % length, n)
            at = array + place(axes, element)[column - 1]
            if back:
                elements(room, size, at, step, take)
            else:
                elements(at, step, room, size, take)
            element, n, room = element + take, n - take, room + take * size

    return rows


@cache
def _part_of(name: str, factor: int) -> Any:
    """Return a function that writes contiguous elements, up to a multiple of NOISE_STEP."""
    size = SIZES[name]
    number = max(size, 4)  # bytes of one that is computed with

    @inner(name, factor)
    def part(words: int, n: int, spread: float, x: int, out: int) -> None:
        # All first parts before any second one: C's normal.h says why.
        for i in range(0, n, NOISE_STEP):
            write_levels(name, words + 8 * i, words + i * number)
        for i in range(0, n, NOISE_STEP):
            write_noise(name, factor, words + i * number, spread, x + i * size, out + i * size)

    return part


def add_noise(variant: Any, source: Any, axes: Any, bounds: Any, spread: Any, at: Any) -> Any:
    """Write elements begin to end - 1 with noise, counted along the axes, last axis first."""


@like(add_noise)
def _add_noise_of(variant: Any, source: Any, axes: Any, bounds: Any, spread: Any, at: Any) -> Any:
    name, factor = (part.literal_value for part in variant)
    size, rows, part = SIZES[name], _rows_of(SIZES[name]), _part_of(name, factor)
    room_size = PART * size

    def noise(variant, source, axes, bounds, spread, at):  # type: ignore[no-untyped-def]
        (element, end), (x, out) = bounds, at
        words, room = stack(_PART_WORDS), stack(room_size)
        last = axes[-1]
        while element < end:
            n = min(PART, end - element)
            status = _fill_words(source, axes, element, n, words)
            if status:
                return status
            even = n % NOISE_STEP == 0 and element % last[0] + n <= last[0]
            if even and last[_X] == size and last[_OUT] == size:
                steps = place(axes, element)
                part(words, n, spread, x + steps[_X - 1], out + steps[_OUT - 1])
            else:
                rows(axes, element, n, x, _X, room, 0)
                part(words, n, spread, room, room)
                rows(axes, element, n, out, _OUT, room, 1)
            element += n
        return 0

    return named(noise, name, factor)
