"""Guard against slowdowns: ``python -m bench.check`` compares ratios with a committed baseline.

A ratio is what an operation costs beside np.copyto or np.multiply, measured in turn with it, so
that a slower machine changes both sides. Each side counts with its fastest round, for a busy
neighbour only ever adds. The ratio may be up to twice the baseline's: caches and memory differ.
instructions.py is the sharper guard.
"""

from __future__ import annotations

import argparse
import json
import statistics
import sys
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Final

import numpy as np

import fastdrop
from fastdrop.cli.bench import machine
from fastdrop.cli.timing import Statement
from fastdrop.config import config

from .committed import grew, heading
from .measure import Lab, UnavailableError, dtype, namespace, need_backend

BASELINE: Final = Path(__file__).with_name("baseline.json")
TOLERANCE: Final = 1.0  # what is added to the baseline's ratio, in parts of it
ATTEMPTS: Final = 3  # noise passes, a slowdown stays

COPY: Final = "np.copyto(y, x)"
MULTIPLY: Final = "np.multiply(x, s, out=y)"


@dataclass(frozen=True)
class Pair:
    """An operation, and the one that it is measured against."""

    name: str
    ours: str
    floor: str
    shape: tuple[int, ...]
    dtype: str = "float32"
    backend: str | None = None

    def ratio(self, lab: Lab) -> float:
        if self.backend:
            need_backend(self.backend)
        # Zeros stay zeros in place, however often they are scaled.
        x = np.full(tuple(map(lab.size, self.shape)), 0, dtype(self.dtype))
        layer = fastdrop.Dropout(0.5)
        layer(x)
        names = namespace(
            x,
            f=np.asfortranarray(x),
            pairs=x.reshape(x.shape[0], -1)[:, ::2],
            rngs={name: getattr(fastdrop, name)(2014) for name in RNGS},
            fixed=fastdrop.ARS4x32(2014),
            ids=np.arange(len(x)),
            forward=layer,
            evaluated=fastdrop.Dropout(0.5).eval(),
        )
        return lab.ratio_of_fastest(
            Statement(self.ours, names, backend=self.backend), Statement(self.floor, names)
        )


P: Final = (0.5, 0.1)
RNGS: Final = ("Philox4x32", "PCG64", "Philox")  # beside the default one
MILLION: Final = (10**6,)
SQUARE: Final = (1024, 1024)

PAIRS: Final = [
    *(
        Pair(f"out, {n:,}, p = {p}", f"dropout(x, {p}, out=y)", MULTIPLY, (n,))
        for n, p in product((8, 1000, 1 << 16, 10**6), P)
    ),
    *(Pair(f"out, 16M, p = {p}", f"dropout(x, {p}, out=y)", COPY, (1 << 24,)) for p in P),
    *(
        Pair(f"out, {name}, p = {p}", f"dropout(x, {p}, out=y)", COPY, MILLION, name)
        for name, p in product(("float16", "bfloat16", "float64", "complex64"), P)
    ),
    *(
        Pair(f"out, {rng}, p = {p}", f"dropout(x, {p}, rng=rngs[{rng!r}], out=y)", COPY, MILLION)
        for rng, p in product(RNGS, P)
    ),
    *(
        Pair(f"out, numba, p = {p}", f"dropout(x, {p}, out=y)", MULTIPLY, MILLION, backend="numba")
        for p in P
    ),
    Pair("in place", "dropout(x, inplace=True)", "np.multiply(x, s, out=x)", MILLION),
    Pair("new array", "dropout(x)", "np.multiply(x, s)", MILLION),
    Pair("backward", "forward.backward(x, y)", MULTIPLY, MILLION),
    Pair("mask only", "forward.mask.to_packed()", COPY, MILLION),
    Pair("samples", "dropout(x, out=y, rng=fixed, sample_ids=ids)", MULTIPLY, SQUARE),
    Pair("window", "forward.mask[:, 100:612].to_packed()", COPY, SQUARE),
    Pair("Fortran order", "dropout(f)", "np.multiply(f, s)", SQUARE),
    Pair("strided", "dropout(pairs)", "np.multiply(pairs, s)", SQUARE),
    Pair("eval", "evaluated(x)", COPY, (8,)),
]


def instruction_set() -> str:
    """Return what the baseline is kept for."""
    found = config()
    return str(found.get("instruction set", f"{found['backend']} backend"))


def update(lab: Lab) -> dict[str, float]:
    """Measure every pair several times, to commit the medians."""
    return {
        pair.name: round(statistics.median(pair.ratio(lab) for _ in range(ATTEMPTS)), 3)
        for pair in PAIRS
    }


def least(pair: Pair, lab: Lab, limit: float) -> float:
    """Return the pair's ratio, measured again while it is above the limit."""
    ratio = pair.ratio(lab)
    for _ in range(ATTEMPTS - 1):
        if ratio <= limit:
            break
        ratio = min(ratio, pair.ratio(lab))
    return ratio


def check(lab: Lab, baseline: dict[str, float]) -> list[str]:
    """Print each pair beside the baseline; return those that became slower."""
    slower = []
    heading("")
    for pair in PAIRS:
        before = baseline.get(pair.name)
        limit = float("inf") if before is None else before * (1 + TOLERANCE)
        try:
            now = least(pair, lab, limit)
        except UnavailableError as missing:
            print(f"{pair.name:<40}{'skipped':>20}: {missing}")
            continue
        if grew(pair.name, before, now, TOLERANCE):
            slower.append(pair.name)
    return slower


def main() -> None:
    parser = argparse.ArgumentParser(prog="python -m bench.check", description=__doc__)
    parser.add_argument("--update", action="store_true", help="rewrite this machine's baseline")
    parser.add_argument("--seconds", type=float, default=0.25, help="budget of each measurement")
    args = parser.parse_args()
    lab, isa = Lab(args.seconds), instruction_set()
    baselines = json.loads(BASELINE.read_text())

    if args.update:
        baselines[isa] = {"machine": machine(), "ratios": update(lab)}
        BASELINE.write_text(json.dumps(baselines, indent=2, sort_keys=True) + "\n")
        print(f"wrote the baseline for {isa}")
        return
    if isa not in baselines:
        print(f"no baseline for {isa}, only for {sorted(baselines)}: nothing was checked")
        return
    print(f"{isa}; the baseline is from {baselines[isa]['machine']}, this is {machine()}")
    slower = check(lab, baselines[isa]["ratios"])
    if slower:
        sys.exit(f"slower than the baseline, {ATTEMPTS} times in a row: {'; '.join(slower)}")


if __name__ == "__main__":
    main()
