"""Checks of numbers that users pass, and of numbers in states."""

from __future__ import annotations

import math
import numbers
from operator import index
from typing import Any


def shown(value: object) -> str:
    """Return a value's shortened repr for a message. This never raises."""
    try:
        return f"{value!r:.200}"
    except Exception:  # an int of more digits than Python prints, or a __repr__ that fails
        return f"an object of type {type(value).__qualname__}"


def as_count(value: Any, name: str) -> int:
    """Return an int of 0 or more, or raise TypeError or ValueError."""
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{name} must be an int of 0 or more, but got {shown(value)}")
    count = index(value)
    if count < 0:
        raise ValueError(f"{name} must be 0 or more, but got {shown(count)}")
    return count


def as_float(value: Any, name: str) -> float:
    """Return a real number as a float, infinite if no float can hold it, or raise TypeError."""
    if isinstance(value, bool) or not isinstance(value, numbers.Real):
        raise TypeError(f"{name} must be a real number, but got {shown(value)}")
    try:
        return float(value)
    except OverflowError:  # an int that no float can hold
        return math.inf


# States come from files. Any fault in one is a ValueError, raised before anything
# changes. A value of a type that `state` would not have written is not converted.


def entry(state: Any, name: str, what: str) -> Any:
    """Return an entry of a state, or raise ValueError if it is missing."""
    if not isinstance(state, dict) or name not in state:
        raise ValueError(
            f"state must be a dictionary as {what} returns it, with {name}, but got {shown(state)}"
        )
    return state[name]


def is_same(value: Any, expected: str | int) -> bool:
    """Return whether a value from a state has this type and value. An object may define any ==."""
    return type(value) is type(expected) and bool(value == expected)


def stored_int(value: Any, name: str, most: int | None = None) -> int:
    """Return an int from a state, of 0 or more and at most `most`."""
    if type(value) is not int or value < 0 or (most is not None and value > most):
        limit = "" if most is None else f" and at most {most}"
        raise ValueError(
            f"state's {name} must be an int of 0 or more{limit}, but got {shown(value)}"
        )
    return value


def stored_ints(value: Any, name: str, most: int | None = None) -> list[int]:
    """Return a list of ints from a state, each of 0 or more and at most `most`."""
    if not isinstance(value, list | tuple):
        raise ValueError(f"state's {name} must be a list of ints, but got {shown(value)}")
    return [stored_int(item, f"{name}[{i}]", most) for i, item in enumerate(value)]


def stored_float(value: Any, name: str) -> float:
    """Return a finite number of 0 or more from a state."""
    if type(value) not in (int, float) or not 0 <= value < math.inf:
        raise ValueError(f"state's {name} must be 0 or more, and finite, but got {shown(value)}")
    try:
        return float(value)
    except OverflowError:
        raise ValueError(f"state's {name} must be a float, but got {shown(value)}") from None
