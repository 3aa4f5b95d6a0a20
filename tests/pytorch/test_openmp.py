"""Masks by the threads of torch's own OpenMP team: the same bits, and no hang after a fork."""

from __future__ import annotations

import os
import subprocess
import sys

import pytest

torch = pytest.importorskip("torch")
F = torch.nn.functional

import fastdrop.torch as ft  # noqa: E402
from fastdrop.torch import _openmp  # noqa: E402

HAS_TEAM = pytest.mark.skipif(_openmp.team is None, reason="this torch has no OpenMP team to share")

INPUTS = {
    "contiguous": lambda: torch.randn(300_007),
    "one row": lambda: torch.randn(1, 1, 200_000),
    "few rows": lambda: torch.randn(3, 70_001).t().contiguous().t(),
    "channels_last": lambda: torch.randn(5, 16, 33, 31).to(memory_format=torch.channels_last),
    "strided": lambda: torch.randn(400, 1000)[:, ::3],
    "broadcast": lambda: torch.randn(1, 70_000).expand(4, 70_000),
    "bfloat16": lambda: torch.randn(2, 70_000).bfloat16(),
    "complex": lambda: torch.randn(100_000, dtype=torch.complex128),
}


@pytest.fixture(params=[1, 2, 3])
def torch_threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield request.param
    torch.set_num_threads(before)


def dropped(x):
    """Return dropout of x and, of its gradient, what the same mask makes."""
    torch.manual_seed(1)
    y = ft.functional.dropout(x, 0.3)
    torch.manual_seed(1)
    v = x.clone().requires_grad_()
    (g,) = torch.autograd.grad(ft.functional.dropout(v, 0.3), v, x)
    return y, g


@HAS_TEAM
@pytest.mark.parametrize("name", INPUTS)
def test_a_team_gives_the_same_bits(name, torch_threads, monkeypatch):
    x = INPUTS[name]()
    by_team = dropped(x)
    monkeypatch.setattr(_openmp, "team", None)
    by_own_threads = dropped(x)
    for found, expected in zip(by_team, by_own_threads, strict=True):
        assert torch.equal(found, expected)
        assert found.stride() == expected.stride()
    assert torch.equal(*by_team)
    kept = (by_team[0] != 0).double().mean().item()
    assert abs(kept - 0.7) < 0.02


def test_nothing_is_found_where_it_is_switched_off(monkeypatch):
    monkeypatch.setenv("FASTDROP_TORCH_TEAM", "0")
    assert _openmp.find() is None


def test_nothing_is_found_in_a_torch_without_openmp(monkeypatch):
    monkeypatch.setattr(torch.__config__, "parallel_info", lambda: "ATen parallel backend: native")
    assert _openmp.find() is None


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="others may have no such runtime")
def test_it_is_found_in_torchs_linux_builds():
    import fastdrop

    if "cython" not in fastdrop.available_backends() or "OpenMP" not in (
        torch.__config__.parallel_info()
    ):
        pytest.skip("needs the compiled kernels and a torch on OpenMP")
    assert _openmp.find() is not None


FORKED = """
import os, signal, sys, torch, fastdrop.torch as ft

x = torch.ones(1_000_000)  # torch itself would hang if the child made it

def masks():
    torch.manual_seed(1)
    return ft.functional.dropout(x, 0.3)

torch.set_num_threads(2)
expected = masks()
if os.fork() == 0:
    signal.alarm(60)  # ends a child that waits for threads it does not have
    os._exit(0 if (masks().numpy() == expected.numpy()).all() else 3)
sys.exit(os.waitstatus_to_exitcode(os.wait()[1]))
"""


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
def test_a_forked_child_does_not_wait_for_its_parents_team():
    assert subprocess.run([sys.executable, "-c", FORKED], check=False, timeout=120).returncode == 0
