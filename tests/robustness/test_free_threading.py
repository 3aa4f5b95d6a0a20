"""What the GIL used to order, asked of many threads at once.

All of it holds with the GIL too, but only a free-threaded Python can break it.
"""

from __future__ import annotations

import subprocess
import sys
import sysconfig
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest

import fastdrop
from fastdrop._cy import core

THREADS = 8
FREE_THREADED = bool(sysconfig.get_config_var("Py_GIL_DISABLED"))


def together(function: Callable[[int], Any]) -> list[Any]:
    """Call a function from all threads at the same moment, and return the results."""
    barrier = threading.Barrier(THREADS)

    def start(i: int) -> Any:
        barrier.wait()
        return function(i)

    with ThreadPoolExecutor(THREADS) as pool:
        return list(pool.map(start, range(THREADS)))


@pytest.mark.skipif(not FREE_THREADED, reason="this Python always has its GIL")
@pytest.mark.skipif(core is None, reason="the extension is not compiled here")
def test_import_leaves_the_gil_off() -> None:
    """An extension that does not declare itself safe would bring the GIL back, with a warning."""
    code = (
        "import sys, numpy as np\n"
        "before = sys._is_gil_enabled()\n"
        "import fastdrop\n"
        "fastdrop.dropout(np.ones(9))\n"
        "print(before, sys._is_gil_enabled())\n"
    )
    command = [sys.executable, "-W", "error", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True)
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == ["False", "False"]


@pytest.mark.parametrize(
    "make", [fastdrop.ARS4x32, lambda seed: fastdrop.Dropout(rng=np.random.SFC64(seed)).rng]
)
def test_no_two_threads_spawn_the_same_children(make: Callable[[int], Any]) -> None:
    parent = make(1)
    spawned = together(lambda _: [child for _ in range(100) for child in parent.spawn(2)])
    first_words = {child.random_raw() for children in spawned for child in children}
    assert len(first_words) == THREADS * 200


def test_a_layer_survives_forward_and_backward_from_all_sides() -> None:
    """Which forward is the newest is up to the threads; each answer belongs to one of them."""
    layer = fastdrop.Dropout(0.5, rng=1)
    x = np.ones(640, np.float32)
    layer(x)

    def use(i: int) -> set[bytes]:
        if i % 2:
            for call in range(300):
                layer.train(call % 3 != 0)(x)
            return set()
        masks = (layer.mask for _ in range(300))
        seen = {layer.backward(x).tobytes() for _ in range(300)}
        return seen | {mask.apply(x).tobytes() for mask in masks if mask is not None}

    seen = set().union(*together(use))
    twin = fastdrop.Dropout(0.5, rng=1)
    possible = {twin(x).tobytes() for _ in range(1 + 300 * THREADS)} | {x.tobytes()}
    assert seen
    assert seen <= possible


@pytest.mark.parametrize("backend", fastdrop.available_backends())
def test_the_first_call_may_come_from_all_threads(backend: str) -> None:
    """The default generator, the backend and the threads' number are made at first use."""
    code = (
        "import sys, threading\n"
        "from concurrent.futures import ThreadPoolExecutor\n"
        "import numpy as np, fastdrop\n"
        f"barrier = threading.Barrier({THREADS})\n"
        "def draw(_):\n"
        "    x = np.ones(4096, np.float32)\n"
        "    barrier.wait()\n"
        "    return fastdrop.dropout(x, 0.5, return_mask=True)\n"
        f"with ThreadPoolExecutor({THREADS}) as pool:\n"
        f"    drawn = list(pool.map(draw, range({THREADS})))\n"
        "assert len({id(mask._draw.stream) for _, mask in drawn}) == 1\n"
        f"assert sorted(mask._draw.position // 64 for _, mask in drawn) == list(range({THREADS}))\n"
        "with fastdrop.use_backend('reference'):\n"
        "    assert all((mask.apply(np.ones_like(y)) == y).all() for y, mask in drawn)\n"
        "print(fastdrop.get_backend())\n"
    )
    result = subprocess.run(
        [sys.executable, "-c", f"import os; os.environ['FASTDROP_BACKEND'] = {backend!r}\n{code}"],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    assert result.stdout.split() == [backend]
