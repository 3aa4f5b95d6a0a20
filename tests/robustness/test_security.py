"""What a state can make fastdrop do, and what a plug-in's parts are checked for."""

from __future__ import annotations

import ast
import ctypes
import subprocess
import sys
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
from capsules import COUNTING, address_of, capsule, generator
from paths import HELPERS

import fastdrop
from fastdrop import rng as seam

PACKAGE = Path(fastdrop.__file__).parent


@pytest.fixture(autouse=True)
def _register_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(seam, "_registry", dict(seam._registry))


def test_hostile_states_execute_nothing() -> None:
    """No import, code, pickle, file, process or foreign call, as Python's audit hooks see it."""
    result = subprocess.run(
        [sys.executable, str(HELPERS / "audited.py")],
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert result.returncode == 0, result.stderr
    tried, *events = result.stdout.splitlines()
    assert int(tried.split()[0]) > 1000
    assert not events


FORBIDDEN_MODULES = {"pickle", "marshal", "shelve", "dill", "cloudpickle", "joblib"}
FORBIDDEN_CALLS = {"eval", "exec", "compile", "__import__", "loads"}


def test_nothing_in_the_package_unpickles_or_evaluates() -> None:
    for path in PACKAGE.rglob("*.py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.Import):
                names = {alias.name.split(".")[0] for alias in node.names}
            elif isinstance(node, ast.ImportFrom):
                names = {(node.module or "").split(".")[0]}
            elif isinstance(node, ast.Call) and isinstance(node.func, ast.Name):
                assert node.func.id not in FORBIDDEN_CALLS, (path, node.lineno)
                continue
            else:
                continue
            assert not names & FORBIDDEN_MODULES, (path, node.lineno)


@pytest.mark.parametrize("name", sorted(set(dir(np.random)) - {"MT19937", "PCG64", "SFC64"}))
def test_states_name_numpys_bit_generators_and_nothing_else(name: str) -> None:
    mask = fastdrop.dropout(np.ones(9), rng=np.random.SFC64(1), return_mask=True)[1].state
    mask["stream"]["bit_generator"]["bit_generator"] = name
    with pytest.raises(ValueError, match=r"state must be"):
        fastdrop.Mask.from_state(mask)


# Capsules: nothing is read or called before it is known to be there.


class Fake:
    """What only looks like a capsule."""


Fake.__name__ = Fake.__qualname__ = "PyCapsule"


@pytest.mark.parametrize(
    "wrong",
    [
        Fake(),
        Fake,
        np.random.PCG64(1).capsule,
        capsule(name=b"fastdrop.rng2"),
        capsule(name=b"BitGenerator"),
        ctypes.c_void_p(1),
        pytest.param(COUNTING, id="address"),  # which differs between processes
    ],
)
def test_look_alikes_are_refused(wrong: object) -> None:
    with pytest.raises(TypeError, match="capsule must be a PyCapsule named"):
        fastdrop.register_rng("custom", generator(wrong))
    with pytest.raises(TypeError, match="capsule must be a PyCapsule named"):
        generator(wrong)(1)


def test_a_capsule_without_a_name_is_refused() -> None:
    new = ctypes.pythonapi.PyCapsule_New
    new.restype, new.argtypes = ctypes.py_object, [ctypes.c_void_p] * 3
    with pytest.raises(TypeError, match="capsule must be a PyCapsule named"):
        fastdrop.register_rng("custom", generator(new(COUNTING, None, None)))


@pytest.mark.parametrize("words", [2**63, 2**64 - 1, 2**40, 2**20 + 1])
def test_keys_of_absurd_lengths_are_refused(words: int) -> None:
    with pytest.raises(ValueError, match="key_words of 1048576 or less"):
        fastdrop.register_rng("custom", generator(capsule(key_words=words)))


@pytest.mark.parametrize(
    "key",
    [
        np.zeros(1, np.uint64),
        np.zeros(5, np.uint64),
        np.zeros((2, 2), np.uint64),
        np.zeros(4, np.int64),
        np.zeros(4),
        [0] * 4,
        None,
        np.zeros(0, np.uint64),
    ],
)
def test_a_key_that_fill_would_read_past_is_refused(key: Any) -> None:
    """Also by register_rng, which tries `fill`, and before `fill` has seen it."""
    calls = []

    def fill(key: Any, position: int, n: int, out: Any) -> int:
        calls.append(key[0])
        for i in range(n):
            out[i] = position + i
        return 0

    broken = generator(
        capsule(key_words=4, fill=address_of(fill)),
        seed_key=classmethod(lambda cls, seed: key),
    )
    with pytest.raises(ValueError, match="must have 4 words of uint64"):
        fastdrop.register_rng("custom", broken)
    with pytest.raises(ValueError, match="must have 4 words of uint64"):
        broken(1)
    assert not calls
    assert "custom" not in fastdrop.available_rngs()


def test_a_keys_memory_is_the_streams_own() -> None:
    """Whoever made a key cannot change it afterwards, under a mask's feet."""
    key = np.array([1, 2], np.uint64)
    stream = seam.Stream(fastdrop.ARS4x32, key)
    before = stream.words(0, 8)
    key[:] = 99
    assert (stream.words(0, 8) == before).all()
    with pytest.raises(ValueError, match="read-only"):
        stream.key[0] = 1


# Arrays: an address is NumPy's, or it is not read.


class Claims:
    """Says that it has floats, where there are none."""

    __array_interface__: ClassVar = {
        "version": 3, "shape": (4,), "typestr": "<f4", "data": (8, False)
    }  # fmt: skip

    def __array__(self, *args: Any, **options: Any) -> np.ndarray:
        raise AssertionError("asked for an array")


@pytest.mark.parametrize("claim", [Claims(), memoryview(bytearray(16)), bytearray(16), (1.0,)])
def test_addresses_that_objects_claim_are_not_read(backend: str, claim: object) -> None:
    x, rng = np.ones(4, np.float32), fastdrop.Philox(1)
    mask = fastdrop.dropout(x, rng=1, return_mask=True)[1]
    for operation in (
        lambda: fastdrop.dropout(claim, rng=rng),
        lambda: fastdrop.dropout(x, rng=rng, out=claim),
        lambda: fastdrop.dropout_add(x, claim, rng=rng),
        lambda: mask.apply(claim),
        lambda: mask.apply(x, out=claim),
    ):
        with pytest.raises(TypeError, match="must be"):
            operation()
    assert rng.position == 0
