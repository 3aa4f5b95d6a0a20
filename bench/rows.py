"""The goals for speed, by name: what each compares, what it must reach and what it aims at.

Unless a row says otherwise: float32, the default generator, the cython backend, one thread, `out=`
given. C is np.copyto(y, x), M is np.multiply(x, s, out=y), T is torch's F.dropout(x, p, True).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from functools import partial
from itertools import product
from typing import Any, Final

import numpy as np

import fastdrop
from fastdrop.cli.timing import Statement

from .measure import Lab, UnavailableError, dtype, namespace, need_backend, torch_names

Array = np.ndarray[Any, Any]

L2: Final = 1 << 16  # elements; two float32 arrays of them fit a second-level cache
MEDIUM: Final = 10**6
LARGE: Final = 1 << 24
SIDE: Final = 4096
BYTES: Final = 1 << 24  # 16 MB, whatever the dtype
PROBABILITIES: Final = (0.5, 0.1)

# The fastest dropout of another CPU system: TensorFlow 2.21's, on two cores with AVX-512.
BEST_OTHER_NS: Final = 5.4
# Two threads need not pay where two threads that only multiply do not.
WORTHWHILE_SPLIT: Final = 1.7


@dataclass(frozen=True)
class Measured:
    """A number, in the case's unit, and what a reader should know about it."""

    value: float
    note: str = ""
    binding: bool = True  # whether this machine can be expected to reach the goal


@dataclass(frozen=True)
class Case:
    """One line of the table."""

    row: str
    label: str
    unit: str
    must: float
    aim: float
    higher: bool  # whether more is better
    run: Callable[[Lab], Measured] = field(repr=False)

    @property
    def id(self) -> str:
        return f"{self.row}: {self.label}"

    def reaches(self, value: float, goal: float) -> bool:
        return value >= goal if self.higher else value <= goal


CASES: Final[list[Case]] = []
Measure = Callable[..., Measured | float]  # takes a Lab and a case's values


def each(
    row: str,
    label: str,
    unit: str,
    goals: Callable[..., tuple[float, float]],
    *axes: tuple[Any, ...],
    higher: bool = False,
) -> Callable[[Measure], Measure]:
    """Add a case for each combination of the axes' values; `goals` gives its must and aim."""

    def add(function: Measure) -> Measure:
        for values in product(*axes):
            must, aim = goals(*values)
            run = partial(_run, function, values)
            CASES.append(Case(row, label.format(*values), unit, must, aim, higher, run))
        return function

    return add


def _run(function: Measure, values: tuple[Any, ...], lab: Lab) -> Measured:
    found = function(lab, *values)
    return found if isinstance(found, Measured) else Measured(found)


def always(must: float, aim: float) -> Callable[..., tuple[float, float]]:
    return lambda *values: (must, aim)


def by_p(goals: dict[float, tuple[float, float]]) -> Callable[..., tuple[float, float]]:
    """Goals that depend on p, the last of a case's values."""
    return lambda *values: goals[values[-1]]


def ones(n: int, name: str = "float32") -> Array:
    return np.ones(n, dtype(name))


def beside(lab: Lab, names: dict[str, Any], ours: str, theirs: str) -> float:
    return lab.ratio(Statement(ours, names), Statement(theirs, names))


OUT: Final = "dropout(x, {p}, out=y)"
COPY: Final = "np.copyto(y, x)"
MULTIPLY: Final = "np.multiply(x, s, out=y)"


@each("large-out", "16M, p = {}", "C", always(1.35, 0.6), PROBABILITIES)
def large_out(lab: Lab, p: float) -> float:
    return beside(lab, namespace(ones(lab.size(LARGE))), OUT.format(p=p), COPY)


@each("medium-out", "1M, p = {}", "M", by_p({0.5: (1.1, 1.0), 0.1: (1.3, 1.0)}), PROBABILITIES)
def medium_out(lab: Lab, p: float) -> float:
    return beside(lab, namespace(ones(lab.size(MEDIUM))), OUT.format(p=p), MULTIPLY)


@each("l2-out", "64K, p = {}", "M", by_p({0.5: (1.25, 1.1), 0.1: (1.6, 1.3)}), PROBABILITIES)
def l2_out(lab: Lab, p: float) -> float:
    return beside(lab, namespace(ones(lab.size(L2))), OUT.format(p=p), MULTIPLY)


@each("inplace-large", "16M, p = {}", "np.multiply(x, s, out=x)", always(1.15, 1.0), PROBABILITIES)
def inplace_large(lab: Lab, p: float) -> float:
    # Zeros stay zeros however often they are scaled; ones would overflow.
    names = namespace(np.full(lab.size(LARGE), 0, np.float32), out=False)
    return beside(lab, names, f"dropout(x, {p}, inplace=True)", "np.multiply(x, s, out=x)")


@each(
    "two-threads", "{0:,}, p = {1}", "times faster than 1 thread", always(1.6, 1.9),
    (MEDIUM, LARGE), PROBABILITIES, higher=True,
)  # fmt: skip
def two_threads(lab: Lab, n: int, p: float) -> Measured:
    if (os.cpu_count() or 1) < 2:
        raise UnavailableError("this process has one processor")
    names, code = namespace(ones(lab.size(n))), OUT.format(p=p)
    gain = lab.ratio(Statement(code, names), Statement(code, names, threads=2))
    ceiling = split_gain(lab, names["x"], names["y"])
    return Measured(gain, f"np.multiply: {ceiling:.2f}", ceiling >= WORTHWHILE_SPLIT)


def split_gain(lab: Lab, x: Array, y: Array) -> float:
    """Return how much faster two threads multiply, each its half, than one does both.

    Each repeats its own half, so that waking the other thread does not count.
    """
    times, half = max(1, LARGE // x.size), x.size // 2

    def multiply(part: slice) -> None:
        for _ in range(times):
            np.multiply(x[part], np.float32(1.25), out=y[part])

    with ThreadPoolExecutor(1) as other:

        def split() -> None:
            second = other.submit(multiply, slice(half, None))
            multiply(slice(half))
            second.result()

        names = {"whole": partial(multiply, slice(None)), "split": split}
        return beside(lab, names, "whole()", "split()")


@each(
    "vs-torch", "{0:,}, p = {1}", "times faster than T", always(50, 80),
    (10**5, 10**6, 10**7), PROBABILITIES, higher=True,
)  # fmt: skip
def vs_torch(lab: Lab, n: int, p: float) -> float:
    x = ones(lab.size(n))
    names = namespace(x, **torch_names(x))
    return beside(lab, names, f"F.dropout(t, {p}, True)", OUT.format(p=p))


@each(
    "vs-best-other", "{0:,}, p = {1}", f"times faster than {BEST_OTHER_NS} ns an element",
    always(10, 15), (10**6, 10**7), PROBABILITIES, higher=True,
)  # fmt: skip
def vs_best_other(lab: Lab, n: int, p: float) -> Measured:
    x = ones(lab.size(n))
    [seconds] = lab.seconds_median(Statement(OUT.format(p=p), namespace(x)))
    return Measured(BEST_OTHER_NS / (seconds / x.size * 1e9), "TensorFlow's figure is a constant")


@each("tiny", "8, new array, p = {}", "us", always(1.2, 0.6), PROBABILITIES)
def tiny(lab: Lab, p: float) -> float:
    [seconds] = lab.seconds_median(Statement(f"dropout(x, {p})", namespace(ones(8), out=False)))
    return seconds * 1e6


@each(
    "tiny", "8, new array, p = {}", "times faster than T", always(8, 8),
    PROBABILITIES, higher=True,
)  # fmt: skip
def tiny_beside_torch(lab: Lab, p: float) -> float:
    x = ones(8)
    names = namespace(x, out=False, **torch_names(x))
    return beside(lab, names, f"F.dropout(t, {p}, True)", f"dropout(x, {p})")


@each("tiny", "8, new array, p = {}", "np.multiply(x, 2.0)", always(1.1, 1.0), PROBABILITIES)
def tiny_beside_multiply(lab: Lab, p: float) -> float:
    # A Python float, as p is one: of s, a NumPy scalar, converting takes a fifth less.
    return beside(lab, namespace(ones(8), out=False), f"dropout(x, {p})", "np.multiply(x, 2.0)")


@each("thousand", "1000, p = {}", "us", always(1.6, 0.9), PROBABILITIES)
def thousand(lab: Lab, p: float) -> float:
    [seconds] = lab.seconds_median(Statement(OUT.format(p=p), namespace(ones(1000))))
    return seconds * 1e6


@each(
    "numpy-streams-large", "{0}, 16M, p = {1}", "C", by_p({0.5: (1.5, 1.2), 0.1: (1.8, 1.2)}),
    ("PCG64", "Philox"), PROBABILITIES,
)  # fmt: skip
def numpy_streams_large(lab: Lab, rng: str, p: float) -> float:
    names = namespace(ones(lab.size(LARGE)), rng=getattr(fastdrop, rng)(2014))
    return beside(lab, names, f"dropout(x, {p}, rng=rng, out=y)", COPY)


@each(
    "numba-vs-cython", "{0:,}, p = {1}", "the cython backend", always(1.3, 1.0),
    (L2, MEDIUM, LARGE), PROBABILITIES,
)  # fmt: skip
def numba_vs_cython(lab: Lab, n: int, p: float) -> float:
    need_backend("numba")
    need_backend("cython")
    names, code = namespace(ones(lab.size(n))), OUT.format(p=p)
    return lab.ratio(
        Statement(code, names, backend="numba"), Statement(code, names, backend="cython")
    )


@each(
    "dtypes", "{0}, 16 MB, p = {1}", "float32's bytes a second", always(0.8, 1.0),
    ("float64", "float16", "bfloat16"), PROBABILITIES, higher=True,
)  # fmt: skip
def dtypes(lab: Lab, name: str, p: float) -> float:
    # In the same memory: where 16 MB lie matters more than the dtype, here up to 1.4 times.
    single = namespace(ones(lab.size(BYTES) // 4))
    x, y = (single[key].view(dtype(name)) for key in "xy")
    other = namespace(x, out=False, y=y)
    code = OUT.format(p=p)
    return lab.ratio(Statement(code, single), Statement(code, other))


@each("fresh-large", "16M, p = {}", "np.multiply(x, s)", always(1.1, 1.0), PROBABILITIES)
def fresh_large(lab: Lab, p: float) -> float:
    names = namespace(ones(lab.size(LARGE)), out=False)
    return beside(lab, names, f"dropout(x, {p})", "np.multiply(x, s)")


@each(
    "fortran", "{0}, 4096 x 4096, new array, p = {1}", "C order", always(1.5, 1.1),
    ("F order", "transposed view"), PROBABILITIES,
)  # fmt: skip
def fortran(lab: Lab, layout: str, p: float) -> float:
    side = lab.side(SIDE)
    x = np.ones((side, side), np.float32)
    names = namespace(x, out=False, f=np.asfortranarray(x) if layout == "F order" else x.T)
    return beside(lab, names, f"dropout(f, {p})", f"dropout(x, {p})")


@each(
    "strided", "every second column, p = {}", "np.multiply on the same view", always(2, 1.3),
    PROBABILITIES,
)  # fmt: skip
def strided(lab: Lab, p: float) -> float:
    side = lab.side(SIDE)
    x = np.ones((side, 2 * side), np.float32)[:, ::2]
    names = namespace(x, out=False, y=np.zeros(x.shape, x.dtype))
    return beside(lab, names, OUT.format(p=p), MULTIPLY)


@each(
    "mask-only", "1M, packed, p = {}", "ns an element",
    by_p({0.5: (0.06, 0.03), 0.1: (0.07, 0.04)}), PROBABILITIES,
)  # fmt: skip
def mask_only(lab: Lab, p: float) -> float:
    x = ones(lab.size(MEDIUM))
    _, mask = fastdrop.dropout(x, p, return_mask=True)
    [seconds] = lab.seconds_median(Statement("mask.to_packed()", {"mask": mask}))
    return seconds / x.size * 1e9


@each("words", "{}, 1M bytes", "ns a byte", always(0.15, 0.06), ("ARS4x32",))
def words(lab: Lab, rng: str) -> float:
    n = lab.size(MEDIUM) // 8
    names = {"rng": getattr(fastdrop, rng)(2014), "n": n}
    [seconds] = lab.seconds_median(Statement("rng.random_raw(n)", names))
    return seconds / (8 * n) * 1e9


@each(
    "linear", "1e6 to 1e9, float16, in place, p = {}", "dearest element / cheapest",
    always(1.15, 1.05), PROBABILITIES,
)  # fmt: skip
def linear(lab: Lab, p: float) -> Measured:
    whole = np.full(lab.size(10**9), 0, np.float16)
    sizes = sorted({lab.size(n) for n in (10**6, 10**7, 10**8, 10**9)})
    code = f"dropout(x, {p}, inplace=True)"
    seconds = lab.seconds_median(*(Statement(code, namespace(whole[:n], out=False)) for n in sizes))
    ns = [s / n * 1e9 for s, n in zip(seconds, sizes, strict=True)]
    return Measured(max(ns) / min(ns), "ns: " + ", ".join(f"{x:.3f}" for x in ns))


@each(
    "eval", "{0}, {1:,}", "ns", always(150, 80),
    ("layer(x)", "dropout(x, 0.5, False)"), (8, LARGE),
)  # fmt: skip
def evaluation(lab: Lab, code: str, n: int) -> float:
    names = namespace(ones(lab.size(n)), out=False, layer=fastdrop.Dropout(0.5).eval())
    [seconds] = lab.seconds_median(Statement(code, names))
    return seconds * 1e9


@each("backward", "{0:,}, p = {1}", "the forward", always(1.1, 1), (MEDIUM, LARGE), PROBABILITIES)
def backward(lab: Lab, n: int, p: float) -> float:
    names = namespace(ones(lab.size(n)), layer=fastdrop.Dropout(p, rng=1))
    names["layer"](names["x"])
    return beside(lab, names, "layer.backward(x, out=y)", "layer(x, y)")


SHARED: Final[dict[str, tuple[str, tuple[int, ...]]]] = {
    "Dropout2d": ("fastdrop.Dropout2d({p})", (-1, 64, 32, 32)),
    "Dropout2d of 7 x 7": ("fastdrop.Dropout2d({p})", (-1, 512, 7, 7)),
    "SpatialDropout2D": ("fastdrop.SpatialDropout2D({p})", (-1, 32, 32, 64)),
    "noise_shape=(None, 1, None)": (
        "fastdrop.Dropout({p}, noise_shape=(None, 1, None))",
        (-1, 128, 512),
    ),
}


@each("shared-masks", "{0}, 1M, p = {1}", "Dropout", always(1.1, 1), tuple(SHARED), PROBABILITIES)
def shared_masks(lab: Lab, name: str, p: float) -> float:
    code, shape = SHARED[name]
    whole = int(np.prod(shape[1:]))
    x = ones(max(lab.size(1 << 20) // whole, 1) * whole).reshape(shape)
    layer = eval(code.format(p=p), {"fastdrop": fastdrop})
    names = namespace(x, layer=layer, plain=fastdrop.Dropout(p))
    return beside(lab, names, "layer(x, y)", "plain(x, y)")


SEPARATE: Final = {
    "dropout_add": (
        "dropout_add(x, r, {p}, out=y)",
        "dropout(x, {p}, out=y); np.add(y, r, out=y)",
    ),
    "dropout_add, new arrays": ("dropout_add(x, r, {p})", "np.add(dropout(x, {p}), r)"),
    "bias_dropout_add": (
        "bias_dropout_add(x, b, r, {p}, out=y)",
        "np.add(x, b, out=y); dropout(y, {p}, out=y); np.add(y, r, out=y)",
    ),
    "relu_dropout": (
        "relu_dropout(x, {p}, out=y)",
        "np.maximum(x, 0, out=y); dropout(y, {p}, out=y)",
    ),
}


@each(
    "fused", "{0}, {1:,}, p = {2}", "times faster than apart", always(1, 2),
    tuple(SEPARATE), (MEDIUM, LARGE), PROBABILITIES, higher=True,
)  # fmt: skip
def fused(lab: Lab, name: str, n: int, p: float) -> float:
    n = lab.size(n) // 1000 * 1000
    x = np.random.default_rng(0).normal(size=n).astype(np.float32).reshape(-1, 1000)
    functions = {key: getattr(fastdrop, key.split(",")[0]) for key in SEPARATE}
    names = namespace(x, r=np.ones_like(x), b=np.ones(1000, np.float32), **functions)
    together, apart = (code.format(p=p) for code in SEPARATE[name])
    return beside(lab, names, apart, together)


def row_names() -> Iterator[str]:
    """Yield each row's name once, in order."""
    yield from dict.fromkeys(case.row for case in CASES)
