"""What there is without a C compiler: the same bits, from numba and the reference."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

import fastdrop

HIDE = "import sys; sys.modules['fastdrop._cy._core'] = None\n"
WORK = """
import hashlib
import numpy as np
import fastdrop

digest = hashlib.sha256()
x = np.arange(1.0, 10001.0, dtype=np.float32).reshape(4, 2500)
for rng in (fastdrop.ARS4x32(1), fastdrop.Philox(1), fastdrop.PCG64(1), np.random.SFC64(1)):
    layer = fastdrop.Dropout(0.3, rng=rng)
    for view in (x, x.T, x[:, ::-2]):
        digest.update(np.ascontiguousarray(layer(view)).tobytes())
        digest.update(layer.backward(view.copy()).tobytes())
        digest.update(layer.mask[1:].to_packed().tobytes())
    y = x.copy()
    assert layer(y, out=y) is y
    assert layer.eval()(x) is x
    digest.update(y.tobytes() + fastdrop.dropout_add(x, x, rng=rng).tobytes())
print(digest.hexdigest())
"""


def run(code: str, backend: str = "") -> str:
    """Run code in a process of its own, and return what it prints."""
    result = subprocess.run(
        [sys.executable, "-c", code],
        env={**os.environ, "FASTDROP_BACKEND": backend},
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.parametrize("backend", [name for name in fastdrop.backends.NAMES if name != "cython"])
def test_the_bits_are_the_same(backend: str) -> None:
    assert run(HIDE + WORK, backend) == run(WORK)


def test_it_is_said_and_not_silent() -> None:
    shown = run(HIDE + "import fastdrop; fastdrop.show_config()")
    assert "no: built without a C compiler" in shown
    assert "cython" not in run(HIDE + "import fastdrop; print(fastdrop.available_backends())")
    asked = HIDE + (
        "import fastdrop\n"
        "try: fastdrop.set_backend('cython')\n"
        "except ValueError as error: print(error)"
    )
    assert "backend must be one of ['numba', 'reference'] here, but got 'cython'" in run(asked)


def test_refusals_are_the_same() -> None:
    code = """
import numpy as np, fastdrop
x = np.ones((3, 4))
bad = [dict(x=[1.0]), dict(x=np.ones(3, int)), dict(out=np.ones(3)), dict(out=x[::-1]), dict(p=2)]
for options in bad:
    try: fastdrop.dropout(**{"x": x, "rng": 1} | options)
    except (TypeError, ValueError) as error: print(type(error).__name__, error)
    else: print("accepted")
"""
    assert run(HIDE + code) == run(code)
    assert "accepted" not in run(HIDE + code)


def test_a_stream_ends_and_threads_share_it() -> None:
    """The counter of plain Python: no word twice, none lost, and none beyond the end."""
    code = """
import threading
import fastdrop
from fastdrop.rng.counter import Counter, PythonCounter

assert Counter is PythonCounter
counter, taken = Counter(5, 40_005), []
threads = [
    threading.Thread(target=lambda: taken.extend(counter.take(2) for _ in range(2500)))
    for _ in range(8)
]
for thread in threads: thread.start()
for thread in threads: thread.join()
assert sorted(taken) == list(range(5, 40_005, 2))
try: counter.take(1)
except RuntimeError as error: print(error, counter.position)
"""
    assert run(HIDE + code) == ("the stream has 0 words left, but 1 are needed: seed it anew 40005")


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_child_has_a_lock_of_its_own() -> None:
    """Its parent's may be held by a thread that the child does not have."""
    code = """
import os, threading
import fastdrop
from fastdrop.rng import counter as module

rng = fastdrop.ARS4x32(1)
module._lock.acquire()
child = os.fork()
if child == 0:
    rng.reserve(3)
    os._exit(rng.position)
module._lock.release()
print(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]), rng.position)
"""
    assert run(HIDE + code) == "3 0"
