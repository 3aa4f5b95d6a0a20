"""Times of calls that run in turn, round after round, so that noise affects all of them."""

from __future__ import annotations

import math
import statistics
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from timeit import Timer
from typing import Any, Final

from ..backends import use_backend

SAMPLE: Final = 1e-3  # seconds for which short calls are repeated, so that they can be timed
FEWEST_ROUNDS: Final = 5

Run = Callable[[int], float]  # makes a number of calls, and returns the seconds of one


class Statement:
    """A call, or Python code as a user types it, and its settings.

    Parameters
    ----------
    code : str or callable
        The code to time.
    names : mapping, optional
        The names in `code`, if it is a str.
    threads : int, default 1
        The number of threads that fastdrop and torch may use.
    backend : str, optional
        A backend of fastdrop. The default is the current one.
    rest : float, default 0
        Seconds to sleep before each sample.
    """

    def __init__(
        self,
        code: str | Callable[[], object],
        names: Mapping[str, Any] | None = None,
        *,
        threads: int = 1,
        backend: str | None = None,
        rest: float = 0.0,
    ) -> None:
        self._timer = Timer(code, globals=dict(names or {}))
        self._threads = threads
        self._backend = backend
        self._rest = rest

    def __call__(self, calls: int) -> float:
        """Return the seconds of one call, the average of a number of calls."""
        backend = nullcontext() if self._backend is None else use_backend(self._backend)
        with threads(self._threads), backend:
            if self._rest:
                time.sleep(self._rest)
            return self._timer.timeit(calls) / calls


@contextmanager
def threads(n: int) -> Iterator[None]:
    """Let fastdrop, and torch if it is loaded, use n threads."""
    libraries = [sys.modules[name] for name in ("fastdrop", "torch") if sys.modules.get(name)]
    before = [library.get_num_threads() for library in libraries]
    try:
        for library in libraries:
            library.set_num_threads(n)
        yield
    finally:
        for library, number in zip(libraries, before, strict=True):
            library.set_num_threads(number)


def in_turn(runs: Sequence[Run], seconds: float, sample: float = SAMPLE) -> list[list[float]]:
    """Time each run once per round, for about `seconds` and at least five rounds.

    Each time, a run makes enough calls to fill `sample` seconds.

    Returns
    -------
    list of lists
        Seconds per call: a list for each run, with a number for each round.
    """
    calls = [_calls(run, sample) for run in runs]
    found: list[list[float]] = [[] for _ in runs]
    stop = time.perf_counter() + seconds
    while runs and (len(found[0]) < FEWEST_ROUNDS or time.perf_counter() < stop):
        for run, n, times in zip(runs, calls, found, strict=True):
            times.append(run(n))
    return found


def medians(runs: Sequence[Run], seconds: float, sample: float = SAMPLE) -> list[float]:
    """Return the median seconds per call of each run, timed in turn."""
    return [statistics.median(times) for times in in_turn(runs, seconds, sample)]


def _calls(run: Run, sample: float) -> int:
    """Return the number of calls that fill a sample, after a warm-up."""
    run(1)  # Numba compiles, thread pools start, pages are touched
    once = run(1)
    if once < sample:
        once = run(math.ceil(sample / 10 / once))
    return math.ceil(sample / once)
