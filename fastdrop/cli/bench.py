"""The bench: dropout timed beside NumPy's ways to do it, a plain copy, and torch."""

from __future__ import annotations

import argparse
import importlib.util
import math
import platform
import statistics
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from time import sleep
from timeit import Timer
from typing import Any, Final

import numpy as np

from ..arrays import Array
from ..backends import get_backend, use_backend
from ..config import config
from ..functional.plain import dropout
from ..mask_format import rate
from ..rng import as_rng
from ..threads import get_num_threads, set_num_threads

SIZES: Final = tuple(10**k for k in range(3, 9))
QUICK_SIZES: Final = (10**3, 10**5)
REPETITION: Final = 2e-3  # seconds that short calls are repeated for, to be timed at all
WARM_UP: Final = 1e-4  # seconds of calls that are not counted
REST: Final = 5e-3  # seconds after which another library's idle threads stop spinning on a core
FEWEST_ROUNDS: Final = 3
PROBE: Final = 10**6  # elements that tell whether a call would take too long
LONGEST: Final = 5.0  # seconds a call may take

Row = dict[str, float]  # a contender's name: nanoseconds an element, NaN where it was too slow


@dataclass(frozen=True)
class Contender:
    """A way to get from x to y, and how many threads fastdrop may use for it."""

    make: Callable[[Array, Array], Callable[[], Any]]
    threads: int = 1


def run(args: argparse.Namespace) -> None:
    """Print a row for each size; save a plot if asked to."""
    backend = nullcontext() if args.backend is None else use_backend(args.backend)
    threads = args.threads or get_num_threads()
    sizes = args.sizes or (QUICK_SIZES if args.quick else SIZES)
    with backend, _threads_kept():
        contenders = _contenders(args, threads)
        print(f"{machine()}\n{versions()}")
        print(f"p = {args.p:g}, {args.dtype}, rng {args.rng}, {threads} thread(s); ns an element\n")
        print(_header(contenders), flush=True)
        rows: dict[int, Row] = {}
        for i, n in enumerate(sizes):
            _progress(f"timing {n:,} elements ({i + 1} of {len(sizes)})")
            rows[n] = measure(contenders, n, np.dtype(args.dtype), 0.05 if args.quick else 3.0)
            _progress("")
            print(_line(n, rows[n]), flush=True)
        if not _has_torch():
            print("\ntorch is not installed: no column for it")
        if any(math.isnan(ns) for row in rows.values() for ns in row.values()):
            print(f"\n-: a call would take more than {LONGEST:g} s")
        if args.plot is not None:
            from .plots import plot_bench

            title = f"Dropout, p = {args.p:g}, {args.dtype}, out= given"
            caption = f"{machine()} | {versions()} | {args.rng}"
            plot_bench(rows, np.dtype(args.dtype).itemsize, title, caption, args.plot)
            print(f"\nplot saved to {args.plot.resolve()}")


def _contenders(args: argparse.Namespace, threads: int) -> dict[str, Contender]:
    """Return the columns, by their headings of two lines."""
    rng, generator, p = as_rng(args.rng), np.random.default_rng(), args.p
    scale = np.dtype(args.dtype).type(rate(p).scale)

    def idiom(x: Array, y: Array) -> None:
        keep = generator.random(x.shape, np.float32) < 1 - p
        np.multiply(x, keep * scale, out=y)

    def fastdrop(x: Array, y: Array | None) -> Callable[[], Any]:
        return partial(dropout, x, p, rng=rng, out=y)

    columns = {
        f"fastdrop\n{n} thread{'s' * (n > 1)}": Contender(fastdrop, n) for n in sorted({1, threads})
    }
    columns |= {
        "fastdrop\nnew array": Contender(lambda x, y: fastdrop(x, None), threads),
        "NumPy\nidiom": Contender(lambda x, y: partial(idiom, x, y)),
        "np.\ncopyto": Contender(lambda x, y: partial(np.copyto, y, x)),
        "np.\nmultiply": Contender(lambda x, y: partial(np.multiply, x, scale, out=y)),
    }
    if _has_torch():
        import torch

        torch.set_num_threads(threads)
        torch_dropout = torch.nn.functional.dropout
        columns["torch\nF.dropout"] = Contender(
            lambda x, y: partial(torch_dropout, torch.from_numpy(x), p, True)
        )
    return columns


def measure(contenders: dict[str, Contender], n: int, dtype: np.dtype[Any], budget: float) -> Row:
    """Time the contenders in turn, over and over, for some `budget` seconds."""
    x, y = np.ones(n, dtype), np.zeros(n, dtype)
    probed = {name: _seconds_an_element(c, x[:PROBE], y[:PROBE]) for name, c in contenders.items()}
    timers = {
        name: Timer(contender.make(x, y))
        for name, contender in contenders.items()
        if probed[name] * n <= LONGEST
    }

    def time(name: str, calls: int) -> float:
        set_num_threads(contenders[name].threads)
        sleep(REST)
        return timers[name].timeit(calls) / calls

    warm = {name: time(name, math.ceil(WARM_UP / (probed[name] * n))) for name in timers}
    calls = {name: math.ceil(REPETITION / seconds) for name, seconds in warm.items()}
    rounds = int(budget / sum(REST + calls[name] * warm[name] for name in timers)) if timers else 0
    samples: dict[str, list[float]] = {name: [] for name in timers}
    for _ in range(max(FEWEST_ROUNDS, rounds)):
        for name in timers:
            samples[name].append(time(name, calls[name]))
    return {
        name: statistics.median(samples[name]) / n * 1e9 if name in samples else math.nan
        for name in contenders
    }


def _seconds_an_element(contender: Contender, x: Array, y: Array) -> float:
    set_num_threads(contender.threads)
    timer = Timer(contender.make(x, y))
    timer.timeit(1)  # numba compiles, pools of threads start
    return min(timer.repeat(3, 1)) / x.size


def _header(contenders: dict[str, Contender]) -> str:
    above, below = zip(*(name.split("\n") for name in contenders), strict=True)
    return "\n".join(
        f"{first:>12}" + "".join(f"{word:>11}" for word in words)
        for first, words in (("", above), ("elements", below))
    )


def _line(n: int, row: Row) -> str:
    return f"{n:>12,}" + "".join(
        f"{'-':>11}" if math.isnan(ns) else f"{ns:>11.3f}" for ns in row.values()
    )


def _progress(text: str) -> None:
    """Show one line on a terminal, written over each time, and lines elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\x1b[K{text}", end="", file=sys.stderr, flush=True)
    elif text:
        print(text, file=sys.stderr, flush=True)


def _has_torch() -> bool:
    return importlib.util.find_spec("torch") is not None


def machine() -> str:
    """Return the processor's name."""
    cpuinfo = Path("/proc/cpuinfo")
    if cpuinfo.exists():
        for line in cpuinfo.read_text().splitlines():
            if line.startswith("model name"):
                return line.partition(":")[2].strip()
    return platform.processor() or platform.machine()


def versions() -> str:
    """Return what runs, in one line."""
    found = config()
    runs = ", ".join(filter(None, [f"{get_backend()} backend", found.get("instruction set")]))
    words = [f"fastdrop {found['fastdrop']} ({runs})", f"NumPy {np.__version__}"]
    if _has_torch():
        import torch

        words.append(f"torch {torch.__version__}")
    return ", ".join([*words, f"Python {platform.python_version()}"])


@contextmanager
def _threads_kept() -> Iterator[None]:
    before = get_num_threads()
    try:
        yield
    finally:
        set_num_threads(before)
