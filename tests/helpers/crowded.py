"""Many threads in one backend at once, and calls from within calls.

python tests/helpers/crowded.py BACKEND exits with 0 if all draws are right, and prints which
threads have worked: Numba's threading layer, which NUMBA_THREADING_LAYER chooses, or
the backend. Run by test_threads_and_forks.py: a layer is chosen once for a process, and
a wrong entry aborts that process.
"""

from __future__ import annotations

import ctypes
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np

import fastdrop
from fastdrop.rng.capsule import FILL

THREADS = 8
X = np.ones(1 << 20, np.float32)  # enough for several threads


def all_at_once() -> None:
    """Eight threads draw from one generator: what they draw are its next draws."""
    rng, again = fastdrop.ARS4x32(1), fastdrop.ARS4x32(1)
    barrier = threading.Barrier(THREADS)

    def draw(_: int) -> list[bytes]:
        barrier.wait()
        return [fastdrop.dropout(X, 0.3, rng=rng).tobytes() for _ in range(3)]

    with ThreadPoolExecutor(THREADS) as pool:
        drawn = {y for ys in pool.map(draw, range(THREADS)) for y in ys}
    assert drawn == {fastdrop.dropout(X, 0.3, rng=again).tobytes() for _ in range(3 * THREADS)}


def from_within() -> None:
    """A plug-in's `fill` draws masks of its own, in whatever thread it is called."""
    expected = fastdrop.dropout(X, 0.3, rng=2).tobytes()
    threads, wrong = set(), []

    @FILL
    def fill(key: int, position: int, n: int, out: int) -> int:
        if position % 1024 == 0:  # some blocks of many
            threads.add(threading.get_ident())
            if fastdrop.dropout(X, 0.3, rng=2).tobytes() != expected:
                wrong.append(position)
        words = np.arange(position, position + n, dtype=np.uint64)
        ctypes.memmove(out, words.ctypes.data, 8 * n)
        return 0

    class Nesting(fastdrop.RNG):
        name = "nesting"
        capsule = fastdrop.make_capsule(ctypes.cast(fill, ctypes.c_void_p).value or 0, 1)

    fastdrop.register_rng("nesting", Nesting)
    y, mask = fastdrop.dropout(X, 0.5, rng=Nesting(1), return_mask=True)
    assert threads
    assert not wrong
    with fastdrop.use_backend("reference"):
        assert np.array_equal(mask.apply(X), y)


def main(backend: str) -> Any:
    """Run with a backend, and return what its threads are."""
    fastdrop.set_backend(backend)
    fastdrop.set_num_threads(2)
    all_at_once()
    from_within()
    if backend != "numba":
        return backend
    import numba

    return numba.threading_layer()


if __name__ == "__main__":
    print(main(sys.argv[1]))
