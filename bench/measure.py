"""How thoroughly to measure, and what the statements that are timed need."""

from __future__ import annotations

import math
import statistics
from dataclasses import dataclass
from typing import Any, Final

import numpy as np

import fastdrop
from fastdrop.cli.timing import Statement, in_turn

QUICK_SIZE: Final = 10_000  # elements; enough for every kernel's whole blocks and its tail


class UnavailableError(Exception):
    """This machine or installation lacks what a measurement needs."""


@dataclass(frozen=True)
class Lab:
    """How thoroughly to measure.

    `seconds` is the budget of one set of statements; `quick` cuts sizes and runs
    each statement once, which shows that it works and nothing else.
    """

    seconds: float = 1.5
    quick: bool = False

    def size(self, n: int) -> int:
        return min(n, QUICK_SIZE) if self.quick else n

    def side(self, n: int) -> int:
        """Return the side of a square matrix."""
        return min(n, math.isqrt(QUICK_SIZE)) if self.quick else n

    def seconds_each(self, *statements: Statement) -> list[list[float]]:
        """Return seconds a call: a list for each statement, a number in it for each round."""
        if self.quick:
            return [[statement(1)] for statement in statements]
        return in_turn(statements, self.seconds)

    def seconds_median(self, *statements: Statement) -> list[float]:
        """Return the median of each statement's seconds a call."""
        return [statistics.median(found) for found in self.seconds_each(*statements)]

    def ratio(self, a: Statement, b: Statement) -> float:
        """Return what `a` costs beside `b`: the median of the rounds' ratios."""
        ours, theirs = self.seconds_each(a, b)
        return statistics.median(x / y for x, y in zip(ours, theirs, strict=True))

    def ratio_of_fastest(self, a: Statement, b: Statement) -> float:
        """Return what `a` costs beside `b` when nothing disturbs them: noise only ever adds."""
        ours, theirs = self.seconds_each(a, b)
        return min(ours) / min(theirs)


def namespace(x: np.ndarray[Any, Any], out: bool = True, **more: Any) -> dict[str, Any]:
    """Return the names that statements use: an array, where to write if `out`, and a scale."""
    return {
        "np": np,
        "dropout": fastdrop.dropout,
        "x": x,
        "s": x.dtype.type(1.25),
        **({"y": np.zeros_like(x)} if out else {}),
        **more,
    }


def torch_names(x: np.ndarray[Any, Any]) -> dict[str, Any]:
    """Return `t`, a tensor of x's memory, and torch's functional module `F`."""
    try:
        import torch
    except ImportError:
        raise UnavailableError("torch is not installed") from None
    if x.dtype.name == "bfloat16":  # torch takes no array of a dtype that is not NumPy's own
        t = torch.from_numpy(x.view(np.uint16)).view(torch.bfloat16)
    else:
        t = torch.from_numpy(x)
    return {"t": t, "F": torch.nn.functional}


def dtype(name: str) -> np.dtype[Any]:
    """Return a dtype by its name, bfloat16 included."""
    if name != "bfloat16":
        return np.dtype(name)
    try:
        import ml_dtypes
    except ImportError:
        raise UnavailableError("ml_dtypes is not installed") from None
    return np.dtype(ml_dtypes.bfloat16)


def need_backend(name: str) -> None:
    """Raise UnavailableError unless a backend can run here."""
    if name not in fastdrop.available_backends():
        raise UnavailableError(f"the {name} backend is not available")
