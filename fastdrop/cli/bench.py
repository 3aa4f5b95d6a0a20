"""The bench: times of dropout, of the same in NumPy code, of a plain copy, and of torch."""

from __future__ import annotations

import argparse
import importlib.util
import math
import platform
import sys
from collections.abc import Callable
from contextlib import nullcontext
from functools import partial
from pathlib import Path
from typing import Any, Final

import numpy as np

from ..arrays import Array
from ..backends import get_backend, use_backend
from ..config import config
from ..functional import dropout
from ..mask_format import rate
from ..rng import as_rng
from ..threads import get_num_threads
from .timing import Statement, medians

SIZES: Final = tuple(10**k for k in range(3, 9))
QUICK_SIZES: Final = (10**3, 10**5)
REST: Final = 5e-3  # seconds after which another library's idle threads stop spinning on a core
PROBE: Final = 10**6  # elements of a trial call, which tells whether a call would take too long
LONGEST: Final = 5.0  # seconds that a call may take

Contenders = dict[str, Statement]  # a column's heading, two lines: what it times
Row = dict[str, float]  # a contender's heading: nanoseconds per element, NaN if it was too slow


def run(args: argparse.Namespace) -> None:
    """Print a row for each size, and save a plot if requested."""
    backend = nullcontext() if args.backend is None else use_backend(args.backend)
    threads = args.threads or get_num_threads()
    sizes = args.sizes or (QUICK_SIZES if args.quick else SIZES)
    with backend:
        make, dtype = partial(_contenders, args, threads), np.dtype(args.dtype)
        print(f"{machine()}\n{versions()}")
        print(f"p = {args.p:g}, {args.dtype}, rng {args.rng}, {threads} thread(s); ns an element\n")
        print(_header(make(*np.ones((2, 1), dtype))), flush=True)
        rows: dict[int, Row] = {}
        for i, n in enumerate(sizes):
            _progress(f"timing {n:,} elements ({i + 1} of {len(sizes)})")
            rows[n] = measure(make, n, dtype, 0.05 if args.quick else 3.0)
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
            plot_bench(rows, dtype.itemsize, title, caption, args.plot)
            print(f"\nplot saved to {args.plot.resolve()}")


def _contenders(args: argparse.Namespace, threads: int, x: Array, y: Array) -> Contenders:
    names = {
        "np": np,
        "dropout": dropout,
        "x": x,
        "y": y,
        "p": args.p,
        "s": x.dtype.type(rate(args.p).scale),
        "rng": as_rng(args.rng),
        "generator": np.random.default_rng(),
    }

    def timed(code: str, n: int = 1) -> Statement:
        return Statement(code, names, threads=n, rest=REST)

    contenders = {
        f"fastdrop\n{n} thread{'s' * (n > 1)}": timed("dropout(x, p, rng=rng, out=y)", n)
        for n in sorted({1, threads})
    }
    contenders |= {
        "fastdrop\nnew array": timed("dropout(x, p, rng=rng)", threads),
        "NumPy\nidiom": timed(
            "np.multiply(x, (generator.random(x.shape, np.float32) < 1 - p) * s, out=y)"
        ),
        "np.\ncopyto": timed("np.copyto(y, x)"),
        "np.\nmultiply": timed("np.multiply(x, s, out=y)"),
    }
    if _has_torch():
        import torch

        names |= {"F": torch.nn.functional, "t": torch.from_numpy(x)}
        contenders["torch\nF.dropout"] = timed("F.dropout(t, p, True)", threads)
    return contenders


def measure(
    make: Callable[[Array, Array], Contenders], n: int, dtype: np.dtype[Any], seconds: float
) -> Row:
    """Time the contenders that `make` returns for two arrays of n elements."""
    x, y = np.ones(n, dtype), np.zeros(n, dtype)
    few = min(n, PROBE)
    contenders, probes = make(x, y), make(x[:few], y[:few])
    fast_enough = [
        name
        for name, probe in probes.items()
        if min(probe(1) for _ in range(4)) / few * n <= LONGEST
    ]
    found = medians([contenders[name] for name in fast_enough], seconds)
    times = dict(zip(fast_enough, found, strict=True))
    return {name: times.get(name, math.nan) / n * 1e9 for name in contenders}


def _header(contenders: Contenders) -> str:
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
    """Show a line, which replaces the previous one if stderr is a terminal."""
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
    """Return the versions of what runs, in one line."""
    found = config()
    runs = ", ".join(filter(None, [f"{get_backend()} backend", found.get("instruction set")]))
    words = [f"fastdrop {found['fastdrop']} ({runs})", f"NumPy {np.__version__}"]
    if _has_torch():
        import torch

        words.append(f"torch {torch.__version__}")
    return ", ".join([*words, f"Python {platform.python_version()}"])
