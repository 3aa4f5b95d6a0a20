"""Statements timed in turn, in one process, so that a ratio's two sides meet the same noise."""

from __future__ import annotations

import math
import statistics
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from timeit import Timer
from typing import Any, Final

import numpy as np

import fastdrop

SAMPLE: Final = 1e-3  # seconds that a short statement is repeated for, to be timed at all
FEWEST_ROUNDS: Final = 5
QUICK_SIZE: Final = 10_000  # elements; enough for every kernel's whole blocks and its tail


class UnavailableError(Exception):
    """This machine or installation lacks what a measurement needs."""


@dataclass(frozen=True)
class Statement:
    """Python code to time, as a user would type it, and what it runs with."""

    code: str
    names: Mapping[str, Any] = field(default_factory=dict)
    threads: int = 1
    backend: str | None = None  # None: the current one


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
        with _threads_kept():
            timed = [(s, Timer(s.code, globals=dict(s.names))) for s in statements]
            calls = [1 if self.quick else _calls(*pair) for pair in timed]
            samples: list[list[float]] = [[] for _ in statements]
            start = time.perf_counter()
            while True:
                for pair, n, found in zip(timed, calls, samples, strict=True):
                    found.append(_time(*pair, n))
                spent = time.perf_counter() - start
                if self.quick or (len(samples[0]) >= FEWEST_ROUNDS and spent > self.seconds):
                    return samples

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


def bfloat16() -> np.dtype[Any]:
    try:
        import ml_dtypes
    except ImportError:
        raise UnavailableError("ml_dtypes is not installed") from None
    return np.dtype(ml_dtypes.bfloat16)


def dtype(name: str) -> np.dtype[Any]:
    """Return a dtype by its name, bfloat16 included."""
    return bfloat16() if name == "bfloat16" else np.dtype(name)


def need_backend(name: str) -> None:
    """Raise UnavailableError unless a backend can run here."""
    if name not in fastdrop.available_backends():
        raise UnavailableError(f"the {name} backend is not available")


def _time(statement: Statement, timer: Timer, calls: int) -> float:
    fastdrop.set_num_threads(statement.threads)
    if "F" in statement.names:
        import torch

        torch.set_num_threads(statement.threads)
    backend = statement.backend
    with nullcontext() if backend is None else fastdrop.use_backend(backend):
        return timer.timeit(calls) / calls


def _calls(statement: Statement, timer: Timer) -> int:
    """Return how many calls make a sample long enough, after warming up."""
    _time(statement, timer, 1)  # numba compiles, pools start, pages are touched
    once = _time(statement, timer, 1)
    if once < SAMPLE:
        once = _time(statement, timer, math.ceil(SAMPLE / 10 / once))
    return max(1, math.ceil(SAMPLE / once))


@contextmanager
def _threads_kept() -> Iterator[None]:
    """Leave the number of threads as it was."""
    threads = fastdrop.get_num_threads()
    try:
        yield
    finally:
        fastdrop.set_num_threads(threads)
