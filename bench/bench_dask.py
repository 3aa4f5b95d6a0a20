"""Dropout of a Dask array of 1 GB in 16 chunks, over the same graph with a multiplication.

pytest bench/bench_dask.py --import-mode=importlib     in groups, for the regression guard
python bench/bench_dask.py                             as a table
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import dask.array as da
import numpy as np
import pytest

import fastdrop.dask
from fastdrop.cli.timing import Statement, medians

ROWS, COLUMNS, CHUNKS = 16 * 1024, 16 * 1024, 16
P = (0.5, 0.1)


def idiom(x: Any, p: float) -> Any:
    """Return what Dask's users write by hand."""
    return x * (da.random.default_rng(1).random(x.shape, chunks=x.chunks) >= p) / (1 - p)


def sides(p: float) -> dict[str, Callable[[Any], Any]]:
    return {
        "multiplication": lambda x: x * np.float32(1 / (1 - p)),
        "fastdrop": lambda x: fastdrop.dask.dropout(x, p, rng=1),
        "da.random": lambda x: idiom(x, p),
    }


def array(divide: int = 1, columns: bool = False) -> Any:
    """Return the array, in chunks of whole rows or of a quarter of the rows and of the columns."""
    rows, width = ROWS // divide, COLUMNS // divide
    chunks = (rows // 4, width // 4) if columns else (rows // CHUNKS, width)
    return da.from_array(np.ones((rows, width), np.float32), chunks=chunks)


def computed(lazy: Any) -> None:
    lazy.persist(scheduler="threads")


@pytest.mark.parametrize("side", sides(0.5))
@pytest.mark.parametrize("p", P)
def test_dask(benchmark: Any, side: str, p: float) -> None:
    benchmark.group = f"1 GB in 16 chunks, p = {p}"
    x = array(16 if benchmark.disabled else 1)
    benchmark.pedantic(lambda: computed(sides(p)[side](x)), rounds=5)


def main() -> None:
    print(f"{'chunks':<10}{'p':>5}{'multiplication, s':>20}{'fastdrop':>10}{'da.random':>11}")
    for columns in (False, True):
        x = array(columns=columns)
        for p in P:
            names = {"computed": computed, "x": x}
            statements = [
                Statement("computed(f(x))", {**names, "f": side}) for side in sides(p).values()
            ]
            base, *others = medians(statements, 20.0)
            ratios = "".join(f"{seconds / base:>10.2f}" for seconds in others)
            print(f"{'4 x 4' if columns else 'rows':<10}{p:>5}{base:>20.3f}{ratios}")


if __name__ == "__main__":
    main()
