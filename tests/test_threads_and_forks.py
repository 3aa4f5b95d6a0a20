"""Several threads at once, and processes forked after parallel work."""

from __future__ import annotations

import multiprocessing
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import contents, reference

import fastdrop
from fastdrop.mask_format import rate

TIMEOUT = 120  # seconds: a child that hangs fails
THREADS = 8

METHODS = list(multiprocessing.get_all_start_methods())
if "fork" in METHODS:
    METHODS.insert(0, "os.fork")


@pytest.mark.parametrize("method", METHODS)
def test_children_draw_what_their_parent_draws(backend: str, method: str) -> None:
    script = Path(__file__).with_name("forked.py")
    result = subprocess.run(
        [sys.executable, str(script), backend, method],
        timeout=TIMEOUT,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr


def together(function: Callable[[int], Any]) -> list[Any]:
    """Call a function from all threads at the same moment, and return the results."""
    barrier = threading.Barrier(THREADS)

    def start(i: int) -> Any:
        barrier.wait()
        return function(i)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(start, range(THREADS)))


@pytest.mark.parametrize("n", [100, 700_001])
@pytest.mark.parametrize("p", [0.5, 0.3])
def test_threads_share_a_generator(backend: str, p: float, n: int) -> None:
    """Each draw is a right one, no range is used twice, and none is lost."""
    calls = 100 if n == 100 else 2
    rng = fastdrop.Philox4x32(1)
    x = np.ones(n, np.float32)

    def draw(_: int) -> list[Any]:
        return [fastdrop.dropout(x, p, rng=rng, return_mask=True) for _ in range(calls)]

    draws = [pair for pairs in together(draw) for pair in pairs]
    positions = sorted(mask._draw for _, mask in draws)
    assert positions == list(range(0, rng.position, rate(p).words(n)))
    assert len(positions) == THREADS * calls
    for y, mask in draws[:: len(draws) // THREADS]:
        assert contents(y) == contents(reference(mask, x))


def test_threads_share_a_handed_in_generator(backend: str) -> None:
    rng = np.random.SFC64(1)
    x = np.ones(5000, np.float32)
    drawn = together(lambda _: [fastdrop.dropout(x, 0.5, rng=rng) for _ in range(5)])
    again = np.random.SFC64(1)
    expected = {fastdrop.dropout(x, 0.5, rng=again).tobytes() for _ in range(5 * THREADS)}
    assert {y.tobytes() for ys in drawn for y in ys} == expected
    assert len(expected) == 5 * THREADS


def test_threads_share_a_layer(backend: str) -> None:
    layer = fastdrop.Dropout(0.5, rng=1)
    x = np.ones(3000, np.float32)
    drawn = {y.tobytes() for ys in together(lambda _: [layer(x) for _ in range(20)]) for y in ys}
    twin = fastdrop.Dropout(0.5, rng=1)
    assert drawn == {twin(x).tobytes() for _ in range(20 * THREADS)}


def test_threads_in_different_layouts_at_once(backend: str) -> None:
    x = np.arange(700_000, dtype=np.float32).reshape(1000, 700)

    def draw(i: int) -> bool:
        view = (x, x.T, x[::-1], x[:, ::2])[i % 4]
        y, mask = fastdrop.dropout(view, 0.3, rng=i, return_mask=True)
        return contents(y) == contents(mask.apply(view)) and y.any()

    assert all(together(draw))


def test_a_backend_chosen_for_a_block_is_the_threads_own() -> None:
    fastdrop.set_backend("reference")
    default = fastdrop.available_backends()[0]
    with fastdrop.use_backend(default):
        assert fastdrop.get_backend() == default
        with ThreadPoolExecutor(1) as pool:
            # A free-threaded Python's threads start in a copy of their starter's context.
            inherited = getattr(sys.flags, "thread_inherit_context", False)
            expected = default if inherited else "reference"
            assert pool.submit(fastdrop.get_backend).result() == expected
            context = copy_context()
            assert pool.submit(context.run, fastdrop.get_backend).result() == default
    assert fastdrop.get_backend() == "reference"
    fastdrop.set_backend(default)
