"""Calls cut short: by a signal, by an exception in a plug-in, by the end of the program."""

from __future__ import annotations

import ctypes
import itertools
import signal
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from support import contents, reference

import fastdrop
from fastdrop import rng as seam
from fastdrop._cy import core
from fastdrop.mask_format import rate
from fastdrop.rng.base import _SENTINELS
from fastdrop.rng.capsule import FILL

P = 0.3
COMPILED = [name for name in fastdrop.available_backends() if name != "reference"]
BIG = 1 << 20  # elements: enough for several threads
alarms = pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="this system has no timers")


def run(code: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-c", code]
    return subprocess.run(command, timeout=120, capture_output=True, text=True)


# --- Signals --------------------------------------------------------------------------------


@pytest.fixture
def _two_threads() -> Iterator[None]:
    before = fastdrop.get_num_threads()
    fastdrop.set_num_threads(2)
    yield
    fastdrop.set_num_threads(before)


@pytest.fixture
def _alarm_is_interrupt() -> Iterator[None]:
    """Have the alarm clock do what Ctrl-C does."""
    before = signal.signal(signal.SIGALRM, signal.default_int_handler)
    yield
    signal.setitimer(signal.ITIMER_REAL, 0)
    signal.signal(signal.SIGALRM, before)


def interrupted(seconds: float, call: Callable[[], object]) -> bool:
    """Interrupt a call after some seconds, and return whether it was still going on."""
    ended = False
    try:
        signal.setitimer(signal.ITIMER_REAL, seconds)
        call()
        ended = True
        for _ in range(1000):  # a signal just before a sleep is seen behind it
            time.sleep(0.01)
    except KeyboardInterrupt:
        return not ended
    raise AssertionError("the alarm did not ring")


@alarms
@pytest.mark.usefixtures("_two_threads", "_alarm_is_interrupt")
def test_an_interrupted_call_writes_all_or_nothing(backend: str) -> None:
    """Whenever the interrupt comes: the output is whole or untouched, and no range is reused."""
    n = BIG if backend != "reference" else 1 << 16
    ones = np.ones(n, np.float32)
    layer = fastdrop.Dropout(P, inplace=True, rng=1)
    layer(ones.copy())
    durations = []
    for _ in range(5):
        start = time.perf_counter()
        layer(ones.copy())
        durations.append(time.perf_counter() - start)
    words, cut_short, newest = rate(P).words(n), 0, layer.mask
    for attempt in itertools.count():
        if attempt >= 20 and cut_short > 5:
            break
        assert attempt < 500, "no call was ever interrupted"
        x, before = ones.copy(), layer.rng.position
        twin = fastdrop.ARS4x32(1)
        twin.reserve(before)
        expected = fastdrop.dropout(ones, P, rng=twin)
        during = interrupted(1e-5 + min(durations) * (attempt % 20) / 20, lambda x=x: layer(x))
        cut_short += during
        whole = contents(x) == contents(expected)
        assert layer.rng.position - before in ((words,) if whole else (0, words))
        assert whole or contents(x) == contents(ones)
        if whole and not during:
            assert contents(layer.backward(ones)) == contents(x)
        elif not whole:
            assert layer.mask == newest
        newest = layer.mask
    assert cut_short > 5


@alarms
@pytest.mark.usefixtures("_two_threads", "_alarm_is_interrupt")
def test_an_interrupt_leaves_numba_as_it_was(monkeypatch: pytest.MonkeyPatch) -> None:
    """The lock on Numba's threads is free again, and their number what the user set."""
    numba = pytest.importorskip("numba")
    from fastdrop.backends.numba import threads as locks

    x = np.ones(BIG, np.float32)
    with fastdrop.use_backend("numba"):
        fastdrop.dropout(x, P)
        lock = threading.Lock()
        monkeypatch.setattr(locks, "_parallel_lock", lock)
        threads = numba.get_num_threads()
        for attempt in range(100):
            interrupted(1e-5 * (1 + attempt), lambda: fastdrop.dropout(x, P))
            assert not lock.locked()
            assert numba.get_num_threads() == threads


@pytest.mark.usefixtures("_two_threads")
def test_a_call_takes_none_of_numbas_own_locks(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that an interrupt left locked would stop all other threads for good."""
    numba = pytest.importorskip("numba")
    from numba.np.ufunc import parallel

    x, taken = np.ones(BIG, np.float32), []
    with fastdrop.use_backend("numba"):
        expected = fastdrop.dropout(x, P, rng=1)  # compiles, which takes them
        before = numba.get_num_threads()
        numba.set_num_threads(1)
        try:
            with monkeypatch.context() as patch:
                patch.setattr(parallel, "_launch_threads", lambda: taken.append(True))
                assert contents(fastdrop.dropout(x, P, rng=1)) == contents(expected)
                assert not taken
                assert numba.get_num_threads() == 1
                assert taken
        finally:
            numba.set_num_threads(before)


@pytest.mark.skipif(core is None, reason="the extension is not compiled here")
@pytest.mark.skipif(not hasattr(signal, "sigwait"), reason="this system has no sigwait")
def test_signals_are_not_for_the_pools_threads() -> None:
    """A program that blocks a signal in its threads and waits for it must get it."""
    result = run(
        "import os, signal\n"
        "os.environ['OPENBLAS_NUM_THREADS'] = '1'  # NumPy's would let the signal in\n"
        "import numpy as np, fastdrop\n"
        "fastdrop.set_backend('cython'), fastdrop.set_num_threads(4)\n"
        "fastdrop.dropout(np.ones(1 << 20, np.float32), 0.3)\n"
        "signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGUSR1})\n"
        "for _ in range(20):\n"
        "    os.kill(os.getpid(), signal.SIGUSR1)\n"
        "    signal.sigwait({signal.SIGUSR1})\n"
    )
    assert result.returncode == 0, result.stderr


# --- Plug-ins that raise --------------------------------------------------------------------

kept_alive: list[Any] = []


def plugin(fill: Callable[[int, int, int, int], int]) -> type[fastdrop.RNG]:
    """Return an RNG around a Python function."""
    callback = FILL(fill)
    kept_alive.append(callback)
    capsule = fastdrop.make_capsule(ctypes.cast(callback, ctypes.c_void_p).value or 0, 1)
    return type("Plugin", (fastdrop.RNG,), {"name": "plugin", "capsule": capsule})


def write(out: int, words: np.ndarray) -> int:
    ctypes.memmove(out, words.ctypes.data, words.nbytes)
    return 0


@pytest.fixture
def unraisable(monkeypatch: pytest.MonkeyPatch) -> list[type]:
    """Return the types of exceptions that had nowhere to go."""
    types: list[type] = []
    monkeypatch.setattr(sys, "unraisablehook", lambda event: types.append(event.exc_type))
    return types


@pytest.mark.usefixtures("_two_threads")
@pytest.mark.parametrize("shape", [(BIG,), (1024, 1024)], ids=["rows", "bands"])
def test_an_exception_in_a_plugin_is_an_error(
    backend: str, shape: tuple[int, ...], unraisable: list[type]
) -> None:
    """ctypes returns anything after one: what was not written must not become a mask."""
    inside, calls = [], []
    fails_from = rate(P).words(BIG) // 2

    def fill(key: int, position: int, n: int, out: int) -> int:
        inside.append(1)
        calls.append(position)
        try:
            time.sleep(0)  # to let other threads in
            if position + n > fails_from:
                raise ZeroDivisionError
            return write(out, np.arange(position, position + n, dtype=np.uint64))
        finally:
            inside.pop()

    rng = plugin(fill)(1)
    x = np.ones(shape, np.float32)
    x = x if len(shape) == 1 else x.T
    with pytest.raises(RuntimeError, match="'plugin' failed: its fill function returned"):
        fastdrop.dropout(x, P, rng=rng)
    assert set(unraisable) == {ZeroDivisionError}
    assert rng.position == rate(P).words(BIG)
    # No thread is at it any more, and the next operation has them all.
    assert not inside
    seen = len(calls)
    y, mask = fastdrop.dropout(x, P, rng=2, return_mask=True)
    assert contents(y) == contents(reference(mask, x))
    assert len(calls) == seen


def test_an_exception_in_a_numba_cfunc_is_an_error(backend: str, unraisable: list[type]) -> None:
    numba = pytest.importorskip("numba")
    words = numba.types.CPointer(numba.types.uint64)

    @numba.cfunc(numba.types.int32(words, numba.types.uint64, numba.types.uint64, words))
    def fill(key: Any, position: Any, n: Any, out: Any) -> int:
        for i in range(n):
            if position + i == 100:
                raise ValueError
            out[i] = position + i
        return 0

    capsule = fastdrop.make_capsule(fill.address, 1)
    rng = type("Plugin", (fastdrop.RNG,), {"name": "plugin", "capsule": capsule})(1)
    assert rng.random_raw(100)[-1] == 99  # type: ignore[index]
    for call in (
        lambda: fastdrop.dropout(np.ones(100), P, rng=rng),
        lambda: fastdrop.GaussianNoise(1.0, rng=rng)(np.ones(2)),
        lambda: rng.random_raw(5),
    ):
        rng.state = {**rng.state, "position": 99}
        with pytest.raises(RuntimeError, match="did not write all words"):
            call()
    assert set(unraisable) == {ValueError}


@pytest.mark.parametrize("word", _SENTINELS)
def test_words_that_look_unwritten_are_right_words(backend: str, word: int) -> None:
    rng = plugin(lambda key, position, n, out: write(out, np.full(n, word, np.uint64)))(1)
    assert (rng.random_raw(70) == word).all()
    y, mask = fastdrop.dropout(np.ones(5000), P, rng=rng, return_mask=True)
    assert contents(y) == contents(reference(mask, np.ones(5000)))


def test_a_generator_that_the_backend_cannot_run_spends_nothing() -> None:
    """No capsule, so that only the reference backend can run it."""

    class InPython(fastdrop.RNG):
        name = "in-python"

        @classmethod
        def key_words(cls) -> int:
            return 1

        @classmethod
        def words(cls, key: Any, position: int, n: int) -> Any:
            return np.arange(position, position + n, dtype=np.uint64)

    rng, x = InPython(1), np.ones(100)
    for backend in fastdrop.available_backends():
        with fastdrop.use_backend(backend):
            before = rng.position
            if backend == "reference":
                fastdrop.dropout(x, P, rng=rng)
                assert rng.position > before
                continue
            for shared in ({}, {"noise_shape": (1,)}):
                with pytest.raises(TypeError, match="must have a capsule"):
                    fastdrop.dropout(x, P, rng=rng, **shared)
            with pytest.raises(TypeError, match="must have a capsule"):
                fastdrop.Dropout(P, rng=rng)(x)
            assert rng.position == before


def test_words_are_given_back_to_the_newest_draw_only(
    generator: fastdrop.RNG | seam.NumpyRNG,
) -> None:
    before = generator.state
    first = generator.reserve(100)
    second = generator.reserve(50)
    after = generator.state
    generator.give_back(*first, 100)
    assert repr(generator.state) == repr(after)
    generator.give_back(*second, 50)
    third = generator.reserve(50)
    assert third == second
    assert repr(generator.state) == repr(after)
    generator.random_raw(1)
    after = generator.state
    generator.give_back(*third, 50)
    assert repr(generator.state) == repr(after)
    generator.state = before
    assert generator.reserve(100) == first


@pytest.fixture(
    params=[
        fastdrop.ARS4x32, np.random.PCG64, np.random.Philox, np.random.MT19937, np.random.SFC64,
    ]
)  # fmt: skip
def generator(request: pytest.FixtureRequest) -> Any:
    """A generator that has a 32-bit half of a word left over, if it is NumPy's."""
    made = request.param(5)
    if isinstance(made, fastdrop.RNG):
        return made
    np.random.Generator(made).integers(0, 9, 3, np.uint32)
    return seam.as_rng(made)


# --- The end of the program -----------------------------------------------------------------


@pytest.mark.slow
@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize(
    ("end", "plugged"),
    [("pass", False), ("sys.exit(3)", True), ("raise ValueError", False), ("pass", True)],
)
def test_the_program_may_end_while_a_thread_draws(backend: str, end: str, plugged: bool) -> None:
    """A daemon thread is in the middle of a call when the interpreter goes."""
    code = (
        "import ctypes, sys, threading, time\n"
        "import numpy as np, fastdrop\n"
        "from fastdrop.rng.capsule import FILL\n"
        f"fastdrop.set_backend({backend!r}), fastdrop.set_num_threads(2)\n"
        "def fill(key, position, n, out):\n"
        "    words = np.arange(position, position + n, dtype=np.uint64)\n"
        "    ctypes.memmove(out, words.ctypes.data, 8 * n)\n"
        "    return 0\n"
        "fill = FILL(fill)\n"
        "class Plugin(fastdrop.RNG):\n"
        "    name = 'plugin'\n"
        "    capsule = fastdrop.make_capsule(ctypes.cast(fill, ctypes.c_void_p).value, 1)\n"
        f"rng = {'Plugin' if plugged else 'fastdrop.ARS4x32'}(1)\n"
        "x = np.ones(1 << 22, np.float32)\n"
        "fastdrop.dropout(x[:1 << 19], 0.3, rng=rng, out=x[:1 << 19])\n"
        "drawing = threading.Event()\n"
        "def draw():\n"
        "    while True:\n"
        "        drawing.set()\n"
        "        fastdrop.dropout(x, 0.3, rng=rng, inplace=True)\n"
        "threading.Thread(target=draw, daemon=True).start()\n"
        "drawing.wait(), time.sleep(0.02)\n"
        f"{end}\n"
    )
    result = run(code)
    assert result.returncode == {"pass": 0, "sys.exit(3)": 3}.get(end, 1), result.stderr
    assert result.stderr.strip().endswith("ValueError" if end.startswith("raise") else "")
    if not end.startswith("raise"):
        assert result.stderr == ""
