"""Several threads at once, and processes forked after parallel work."""

from __future__ import annotations

import ctypes
import importlib
import multiprocessing
import os
import subprocess
import sys
import threading
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextvars import copy_context
from typing import Any

import numpy as np
import pytest
from paths import HELPERS
from support import contents, reference

import fastdrop
from fastdrop.mask_format import rate
from fastdrop.rng import default_rng

TIMEOUT = 240  # seconds: a child that hangs fails
THREADS = 8

COMPILED = [name for name in fastdrop.available_backends() if name != "reference"]
LAYERS = ("tbb", "omp", "workqueue")
METHODS = list(multiprocessing.get_all_start_methods())
if "fork" in METHODS:
    METHODS.insert(0, "os.fork")
forks = pytest.mark.skipif("fork" not in METHODS, reason="this system does not fork")


def run(script: str, *arguments: str, **environment: str) -> str:
    """Run a script of tests/helpers, see it succeed, and return what it printed."""
    result = subprocess.run(
        [sys.executable, str(HELPERS / script), *arguments],
        timeout=TIMEOUT,
        capture_output=True,
        text=True,
        env={**os.environ, **environment},
    )
    assert result.returncode == 0, result.stderr
    return result.stdout.strip()


@pytest.mark.slow
@pytest.mark.parametrize("method", METHODS)
def test_children_draw_what_their_parent_draws(backend: str, method: str) -> None:
    run("forked.py", backend, method)


@pytest.mark.slow
@forks
@pytest.mark.parametrize("backend", COMPILED)
@pytest.mark.parametrize("method", ["os.fork", "fork"])
def test_children_of_a_parent_at_work(backend: str, method: str) -> None:
    """A fork copies one thread and leaves all locks and counters as the others held them."""
    run("forked.py", backend, method, "busy")


@pytest.mark.slow
@forks
@pytest.mark.parametrize("when", ["torch-before", "torch-after"])
def test_torch_may_come_before_or_after(when: str) -> None:
    """torch brings an OpenMP of its own, which must not get in the way of either."""
    pytest.importorskip("torch")
    run("forked.py", ",".join(COMPILED), "os.fork", when)


@forks
def test_a_child_forked_while_the_default_generator_is_made() -> None:
    """The thread that makes it does not exist in the child, which makes its own."""
    code = (
        "import os, signal, threading\n"
        "from fastdrop import rng\n"
        "making, forked = threading.Event(), threading.Event()\n"
        "def slow(make=rng.DEFAULT):\n"
        "    making.set(), forked.wait()\n"
        "    return make()\n"
        "rng.DEFAULT = slow\n"
        "maker = threading.Thread(target=rng.default_rng)\n"
        "maker.start(), making.wait()\n"
        "child = os.fork()\n"
        "if child == 0:\n"
        "    signal.alarm(20)\n"
        "    forked.set(), rng.default_rng().reserve(1)\n"
        "    os._exit(0)\n"
        "forked.set(), maker.join()\n"
        "assert os.waitpid(child, 0)[1] == 0\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=TIMEOUT)


def drawn(rng: Any = None) -> bytes:
    """Return a mask that no other draw has, but by chance of 2^-256."""
    _, mask = fastdrop.dropout(np.ones(256, np.float32), rng=rng, return_mask=True)
    return mask.to_packed().tobytes()


def in_child(function: Callable[[], bytes], fork: Callable[[], int] | None = None) -> bytes:
    """Return what a function returns in a forked child."""
    read, write = os.pipe()
    child = (fork or os.fork)()
    if child == 0:
        os.write(write, function())
        os._exit(0)
    os.close(write)
    with os.fdopen(read, "rb") as pipe:
        result = pipe.read()
    assert os.waitpid(child, 0)[1] == 0
    assert result
    return result


@forks
def test_forked_children_draw_masks_of_their_own() -> None:
    """Neither the parent's nor one another's, nor those of generators that the parent spawns."""
    fastdrop.manual_seed(1)
    spawned = default_rng().spawn(3)
    rngs = [*spawned, *(child for rng in spawned for child in rng.spawn(3))]
    masks = [in_child(drawn), in_child(drawn), drawn(), in_child(drawn), *map(drawn, rngs)]
    assert len(set(masks)) == len(masks)


@forks
def test_the_same_seed_and_forks_give_children_the_same_masks() -> None:
    def children(seed: int, draws: int) -> list[bytes]:
        fastdrop.manual_seed(seed)
        for _ in range(draws):
            drawn()
        return [in_child(drawn) for _ in range(3)]

    first = children(1, 0)
    assert children(1, 2) == first
    assert not {*children(2, 0)} & {*first}
    assert len({*first}) == 3


@forks
def test_children_of_children_draw_masks_of_their_own() -> None:
    def both() -> bytes:
        return in_child(drawn) + drawn() + in_child(drawn)

    fastdrop.manual_seed(1)
    masks = in_child(both) + in_child(both) + drawn()
    assert len({masks[i : i + 32] for i in range(0, len(masks), 32)}) == 7


@forks
def test_a_fork_changes_nothing_in_the_parent_and_reseeds_the_same_object() -> None:
    rng = fastdrop.manual_seed(1)
    expected = [drawn(), drawn()]
    fastdrop.manual_seed(1)
    child = in_child(lambda: drawn(rng))
    assert child not in expected
    assert child == in_child(lambda: fastdrop.manual_seed(1) and in_child(lambda: drawn(rng)))
    assert [drawn(), drawn()] == expected
    assert rng.spawn(1)[0].seed_seq.spawn_key == (0,)


@forks
def test_forks_go_on_counting_where_a_state_was_saved() -> None:
    rng = fastdrop.manual_seed(1)
    first, second = in_child(drawn), in_child(drawn)
    state = rng.state
    third = in_child(drawn)
    fastdrop.manual_seed(2)
    rng.state = state
    assert in_child(drawn) == third
    assert len({first, second, third}) == 3


@forks
def test_generators_of_ones_own_are_inherited_as_they_are() -> None:
    """As NumPy's are; the default one is not."""
    rng, numpys = fastdrop.ARS4x32(1), np.random.default_rng(1)
    layer = fastdrop.Dropout(0.5, rng=2)

    def all_three() -> bytes:
        y = layer(np.ones(256, np.float32))
        return drawn(rng) + drawn(numpys) + np.packbits(y > 0).tobytes()

    inherited = in_child(all_three)
    assert inherited == all_three()
    assert in_child(drawn) != drawn()


@forks
def test_threads_that_fork_at_once_have_children_that_differ() -> None:
    masks = together(lambda _: [in_child(drawn) for _ in range(4)])
    assert len({mask for those in masks for mask in those}) == 4 * THREADS


@forks
def test_a_fork_by_a_program_in_c_gives_fresh_entropy() -> None:
    """Such programs run the hooks of the child, and none before."""
    fork = ctypes.PyDLL(None).fork

    def in_c() -> int:
        child: int = fork()
        if child == 0:
            ctypes.pythonapi.PyOS_AfterFork_Child()
        return child

    in_child(drawn)
    masks = [in_child(drawn, in_c), in_child(drawn, in_c), drawn(), in_child(drawn)]
    assert len(set(masks)) == 4


@forks
def test_a_default_generator_that_nobody_seeded() -> None:
    """Unused, it stays so; used, it gives children masks of their own."""
    code = (
        "import os, sys, numpy as np, fastdrop\n"
        "from fastdrop import rng\n"
        "def child(draw):\n"
        "    read, write = os.pipe()\n"
        "    if os.fork() == 0:\n"
        "        os.write(write, draw()), os._exit(0)\n"
        "    os.wait()\n"
        "    return os.read(read, 999)\n"
        "def drawn():\n"
        "    return fastdrop.dropout(np.ones(256)).tobytes()[:900]\n"
        "assert child(lambda: str(rng._default).encode()) == b'None'\n"
        "assert rng._default is None and 'numpy.random' not in sys.modules\n"
        "drawn()\n"
        "assert len({child(drawn), child(drawn), drawn()}) == 3\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=TIMEOUT)


def drawn_with_another(barrier: Any) -> bytes:
    """Return a mask once another process is about to do so, too."""
    barrier.wait(TIMEOUT)
    return drawn()


@forks
def test_workers_of_a_pool_draw_masks_of_their_own() -> None:
    context = multiprocessing.get_context("fork")
    masks = []
    for _ in range(2):
        with context.Manager() as manager, context.Pool(2) as pool:
            masks += pool.map(drawn_with_another, [manager.Barrier(2)] * 2, chunksize=1)
    assert len({*masks, drawn()}) == 5


class Masks:
    """A data set whose items drop out, as augmentations do."""

    def __len__(self) -> int:
        return 6

    def __getitem__(self, i: int) -> bytes:
        return drawn()


@forks
def test_workers_of_torchs_data_loader_draw_masks_of_their_own() -> None:
    data = pytest.importorskip("torch.utils.data")
    loader = data.DataLoader(
        Masks(), batch_size=None, num_workers=2, multiprocessing_context="fork"
    )
    masks = [mask for _ in range(2) for mask in loader]
    assert len(set(masks)) == len(masks) == 12


@pytest.mark.parametrize(
    ("backend", "layer"), [("cython", ""), *(("numba", layer) for layer in LAYERS)]
)
def test_a_crowd_and_calls_from_within_calls(backend: str, layer: str) -> None:
    """Numba's workqueue aborts the process if two threads enter it."""
    if backend not in COMPILED:
        pytest.skip(f"the {backend} backend is not available here")
    if layer:
        pool = "workqueue" if layer == "workqueue" else f"{layer}pool"
        try:
            importlib.import_module(f"numba.np.ufunc.{pool}")
        except ImportError as error:
            pytest.skip(f"Numba has no layer {layer} here: {error}")
    assert run("crowded.py", backend, NUMBA_THREADING_LAYER=layer or "default") == layer or backend


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
    rng = fastdrop.ARS4x32(1)
    x = np.ones(n, np.float32)

    def draw(_: int) -> list[Any]:
        return [fastdrop.dropout(x, p, rng=rng, return_mask=True) for _ in range(calls)]

    draws = [pair for pairs in together(draw) for pair in pairs]
    positions = sorted(mask._draw.position for _, mask in draws)
    assert positions == list(range(0, rng.position, rate(p).words(n)))
    assert len(positions) == THREADS * calls
    for y, mask in draws[:: len(draws) // THREADS]:
        assert contents(y) == contents(reference(mask, x))


def test_threads_share_a_layer_and_its_generator(backend: str) -> None:
    """All that eight threads draw, in all ways and sizes, is the generator's stream once over."""
    rng = fastdrop.ARS4x32(1)
    layer = fastdrop.Dropout(0.5, rng=rng)
    shapes = [(100,), (4097,), (64, 65), (0,)]

    def draw(i: int) -> list[tuple[int, int, str, Any]]:
        drawn: list[tuple[int, int, str, Any]] = []
        for call in range(24):
            x = np.ones(shapes[(i + call) % 4], np.float32)
            if call % 3 == 2:
                y, mask = fastdrop.dropout(x, 0.3, rng=rng, return_mask=True)
            else:
                y, mask = layer.forward_mask(x)
            words = mask._draw.rate.words(x.size)
            drawn.append((mask._draw.position, words, "mask", (y, mask)))
            stream, at = rng.reserve(3)
            drawn.append((at, 3, "words", None))
            assert stream == mask._draw.stream
        return drawn

    drawn = sorted((d for ds in together(draw) for d in ds), key=lambda d: d[:2])
    assert len(drawn) == 2 * 24 * THREADS
    end = 0
    for at, words, _, _ in drawn:
        assert at == end
        end = at + words
    assert end == rng.position
    # A serial replay in the order of the stream: the same calls, one after another.
    twin, seen = fastdrop.ARS4x32(1), set()
    for at, words, kind, pair in drawn:
        if kind == "words":
            assert twin.reserve(words)[1] == at
            continue
        y, mask = pair
        replayed = fastdrop.dropout(np.ones(mask.shape, np.float32), mask.p, rng=twin)
        assert contents(y) == contents(replayed)
        seen.add((mask.shape, mask.p, contents(y)))
    shapes_drawn = sum(kind == "mask" and pair[1].size > 0 for _, _, kind, pair in drawn)
    assert len({s for s in seen if s[0] != (0,)}) == shapes_drawn


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
