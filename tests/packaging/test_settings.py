"""Backends and threads: choosing them, and what show_config says."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import fastdrop
from fastdrop import threads as threads_module


def run(code: str, **environment: str) -> str:
    """Run Python code in a new process, and return what it prints, or its error."""
    result = subprocess.run(
        [sys.executable, "-c", f"import fastdrop; {code}"],
        env={**os.environ, **environment},
        capture_output=True,
        text=True,
    )
    return (result.stdout + result.stderr).strip()


def test_reference_is_always_there_and_last() -> None:
    assert fastdrop.available_backends()[-1] == "reference"


def test_set_backend(backend: str) -> None:
    assert fastdrop.get_backend() == backend
    with fastdrop.use_backend("reference"):
        assert fastdrop.get_backend() == "reference"
    assert fastdrop.get_backend() == backend


def test_use_backend_ends_with_its_block_even_by_an_error() -> None:
    before = fastdrop.get_backend()
    with pytest.raises(KeyError), fastdrop.use_backend("reference"):
        raise KeyError
    assert fastdrop.get_backend() == before


@pytest.mark.parametrize("name", ["fortran", "", "Cython", None, 1])
def test_an_unknown_backend_is_refused(name: Any) -> None:
    before = fastdrop.get_backend()
    with pytest.raises(ValueError, match=r"backend must be one of \[.*'reference'\] here, but got"):
        fastdrop.set_backend(name)
    with pytest.raises(ValueError, match="backend must be one of"), fastdrop.use_backend(name):
        pass
    assert fastdrop.get_backend() == before


def test_environment_chooses_the_backend() -> None:
    show = "print(fastdrop.get_backend())"
    assert run(show, FASTDROP_BACKEND="reference") == "reference"
    assert run(show, FASTDROP_BACKEND="") == fastdrop.available_backends()[0]
    assert "backend must be one of" in run(show, FASTDROP_BACKEND="fortran")


def test_set_num_threads(threads: int) -> None:
    assert fastdrop.get_num_threads() == threads
    fastdrop.set_num_threads(np.int64(7))
    assert fastdrop.get_num_threads() == 7
    assert type(fastdrop.get_num_threads()) is int


@pytest.mark.parametrize(
    ("n", "error"),
    [(0, ValueError), (-1, ValueError), (1.0, TypeError), (True, TypeError), ("2", TypeError)],
)
def test_a_bad_number_of_threads_is_refused(n: Any, error: type[Exception]) -> None:
    before = fastdrop.get_num_threads()
    with pytest.raises(error, match="n must be"):
        fastdrop.set_num_threads(n)
    assert fastdrop.get_num_threads() == before


@pytest.mark.parametrize(
    ("value", "expected"), [("3", "3"), ("5,2", "5"), (" 4 ", "4"), ("0", None), ("x", None)]
)
def test_environment_sets_the_number_of_threads(value: str, expected: str | None) -> None:
    printed = run("print(fastdrop.get_num_threads())", OMP_NUM_THREADS=value)
    assert printed == (expected or str(threads_module._usable_processors()))


@pytest.mark.skipif(not hasattr(os, "sched_setaffinity"), reason="no CPU affinity here")
def test_threads_keep_to_the_cpu_affinity() -> None:
    one = min(os.sched_getaffinity(0))
    code = f"import os; os.sched_setaffinity(0, [{one}]); print(fastdrop.get_num_threads())"
    assert run(code, OMP_NUM_THREADS="") == "1"


def test_show_config_says_what_runs(backend: str, capsys: pytest.CaptureFixture[str]) -> None:
    fastdrop.show_config()
    lines = dict(line.split(":", 1) for line in capsys.readouterr().out.splitlines())
    shown = {key: value.strip() for key, value in lines.items()}
    assert shown["fastdrop"] == fastdrop.__version__
    assert shown["numpy"] == np.__version__
    assert shown["backend"] == backend
    assert shown["mask format"] == "2"
    assert shown["threads"] == str(fastdrop.get_num_threads())
    assert shown["available backends"] == ", ".join(fastdrop.available_backends())
    assert shown["default rng"] == "ars4x32"
    assert shown["rngs"] == ", ".join(fastdrop.available_rngs())
    assert ("yes" in shown["compiled extension"]) == ("cython" in fastdrop.available_backends())


def test_instruction_sets_agree_bit_for_bit() -> None:
    """Each one that this machine has gives the same bytes, in a process that is forced to it."""
    if "cython" not in fastdrop.available_backends():
        pytest.skip("the cython backend is not available here")
    from fastdrop._cy import core

    code = """
import hashlib, numpy as np
digest = hashlib.sha256()
for dtype in ("e", "f", "d", "F", "D"):
    x = np.frombuffer(np.random.default_rng(1).bytes(20000 * np.dtype(dtype).itemsize), dtype)
    for p in (.5, .3, 1 / 64):
        for rng in (fastdrop.ARS4x32, fastdrop.Philox4x32, fastdrop.Philox, fastdrop.PCG64):
            for view in (x, x[::-1], x[::3], x[:19999].reshape(7, -1).T):
                digest.update(fastdrop.dropout(view, p, rng=rng(2)).tobytes())
from fastdrop._cy import core
print(core.isa(), digest.hexdigest())"""
    printed = {
        isa: run(code, FASTDROP_ISA=isa, FASTDROP_BACKEND="cython").split()
        for isa in core.available_isas()
    }
    assert {isa: words[0] for isa, words in printed.items()} == {isa: isa for isa in printed}
    assert len({words[1] for words in printed.values()}) == 1
    expected = run(code, FASTDROP_BACKEND="reference").split()[1]
    assert {words[1] for words in printed.values()} == {expected}


def test_an_instruction_set_that_is_not_there_is_refused() -> None:
    if "cython" not in fastdrop.available_backends():
        pytest.skip("the cython backend is not available here")
    assert "FASTDROP_ISA must be one of" in run("", FASTDROP_ISA="quantum")
