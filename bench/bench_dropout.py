"""Absolute times, by pytest-benchmark: a group holds everything that does the same job.

In each group stand fastdrop's backends and generators, torch, the NumPy idiom, and the two
floors: np.copyto and np.multiply.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import partial
from itertools import product
from typing import Any, Final

import numpy as np
import pytest
from pytest_benchmark.fixture import BenchmarkFixture

import fastdrop
from fastdrop.cli.timing import threads

from .measure import Lab, UnavailableError, dtype, need_backend, torch_names

Array = np.ndarray[Any, Any]
Call = Callable[[], Any]

SLOW: Final = 10**5  # elements, at most, for a backend that is there to be right

SIZES: Final = (10**3, 10**5, 10**6, 10**7)
GROUPS: Final = [
    *product(("out", "inplace", "new", "backward"), ("float32",), SIZES, (0.5, 0.1)),
    *product(("out",), ("float64", "float16", "bfloat16", "complex64"), (10**6,), (0.5, 0.1)),
]


class Job:
    """What the contenders of a group have to do: x's elements dropped, with probability p."""

    def __init__(self, operation: str, x: Array, p: float) -> None:
        self.operation = operation
        self.x = x
        self.p = p
        self.target = {"out": np.zeros_like(x), "inplace": x}.get(operation)

    def fastdrop(self, rng: str) -> Call:
        generator = getattr(fastdrop, rng)(2014)
        if self.operation == "backward":
            layer = fastdrop.Dropout(self.p, rng=generator)
            layer(self.x)
            return partial(layer.backward, self.x)
        return partial(fastdrop.dropout, self.x, self.p, rng=generator, out=self.target)

    def torch(self) -> Call:
        if self.x.dtype.kind == "c":
            raise UnavailableError("torch drops no complex numbers")
        names = torch_names(self.x)
        t, dropout = names["t"], names["F"].dropout
        if self.operation != "backward":
            return partial(dropout, t, self.p, True, self.operation == "inplace")
        y = dropout(t.clone().requires_grad_(), self.p, True)
        return partial(y.backward, t, retain_graph=True)

    def idiom(self) -> Call:
        generator, scale = np.random.default_rng(2014), self.x.dtype.type(1 / (1 - self.p))

        def draw() -> Array:
            return generator.random(self.x.shape, np.float32) < 1 - self.p

        def multiply(keep: Array) -> Array:
            return np.multiply(self.x, keep * scale, out=self.target)

        if self.operation == "backward":
            return partial(multiply, draw())
        return lambda: multiply(draw())

    def copy(self) -> Call:
        if self.operation in ("out", "inplace"):
            return partial(np.copyto, np.zeros_like(self.x), self.x)
        return self.x.copy

    def multiply(self) -> Call:
        return partial(np.multiply, self.x, self.x.dtype.type(1.25), out=self.target)


OTHERS: Final[dict[str, Callable[[Job], Call]]] = {
    "torch": Job.torch,
    "numpy-idiom": Job.idiom,
    "np.copyto": Job.copy,
    "np.multiply": Job.multiply,
}
OURS: Final = [
    ("cython", "ARS4x32"),
    ("cython", "Philox4x32"),
    ("cython", "PCG64"),
    ("cython", "Philox"),
    ("numba", "ARS4x32"),
    ("reference", "ARS4x32"),
]


@pytest.fixture(params=GROUPS, ids=lambda group: "{}-{}-{}-p{}".format(*group))
def job(request: pytest.FixtureRequest, benchmark: BenchmarkFixture, lab: Lab) -> Job:
    operation, name, n, p = request.param
    benchmark.group = f"{operation}: {name}, {n:,} elements, p = {p}, one thread"
    with skipping():
        # Zeros stay zeros in place, however often they are scaled.
        return Job(operation, np.full(lab.size(n), 0, dtype(name)), p)


@contextmanager
def skipping() -> Iterator[None]:
    """Skip the test where something is not available."""
    try:
        yield
    except UnavailableError as missing:
        pytest.skip(str(missing))


def run(benchmark: BenchmarkFixture, call: Call) -> None:
    with threads(1):
        call()  # numba compiles, pools start, pages are touched
        benchmark(call)


@pytest.mark.benchmark(max_time=0.2, min_rounds=5)
@pytest.mark.parametrize("ours", OURS, ids="-".join)
def test_fastdrop(job: Job, ours: tuple[str, str], benchmark: BenchmarkFixture) -> None:
    backend, rng = ours
    if backend == "reference" and job.x.size > SLOW:
        pytest.skip(f"the reference backend is timed up to {SLOW:,} elements")
    with skipping():
        need_backend(backend)
    with fastdrop.use_backend(backend):
        run(benchmark, job.fastdrop(rng))


@pytest.mark.benchmark(max_time=0.2, min_rounds=5)
@pytest.mark.parametrize("other", OTHERS)
def test_other(job: Job, other: str, benchmark: BenchmarkFixture) -> None:
    with skipping():
        run(benchmark, OTHERS[other](job))
