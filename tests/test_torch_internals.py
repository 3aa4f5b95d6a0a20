"""A torch that lacks a name which is not public: fastdrop says so, and is right all the same."""

from __future__ import annotations

import json

import pytest

pytest.importorskip("torch")

from torch_support import in_a_fresh_process

NAMES = [
    "_C._len_torch_dispatch_stack",
    "_C._autograd._profiler_enabled",
    "_C._dispatch_tls_is_dispatch_key_included",
    "_C._is_tracing",
    "_C._has_storage",
    "_C._current_graph_task_id",
]

EACH_IN_A_CHILD = """
import json, os, sys, traceback, warnings
import torch, torch._dynamo
import fastdrop

def check(name):
    *path, last = name.split(".")
    owner = torch
    for part in path:
        owner = getattr(owner, part)
    delattr(owner, last)
    import fastdrop.torch as ft
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        ft.enable()
    assert any(f"torch.{name}" in str(warning.message) for warning in caught), caught
    for functional in torch.nn.functional, ft.functional:
        for n in 16, 5000:
            x = torch.ones(n, requires_grad=True)
            y = functional.dropout(x, 0.5)
            assert set(y.tolist()) == {0.0, 2.0}
            y.sum().backward()
            assert torch.equal(x.grad, y.detach())

for name in json.loads(sys.argv[1]):
    child = os.fork()
    if child == 0:
        status = 1
        try:
            check(name)
            status = 0
        except BaseException:
            traceback.print_exc()
        finally:
            sys.stderr.flush()
            os._exit(status)
    if os.waitpid(child, 0)[1] == 0:
        print(name)
"""


@pytest.fixture(scope="module")
def right() -> list[str]:
    return in_a_fresh_process(EACH_IN_A_CHILD, json.dumps(NAMES)).split()


@pytest.mark.parametrize("name", NAMES)
def test_without_a_name(right: list[str], name: str) -> None:
    assert name in right


def test_nothing_is_unknown_of_the_torch_that_is_here() -> None:
    from fastdrop.torch._internals import UNKNOWN

    assert UNKNOWN == []


def test_enable_is_refused_without_the_way_to_torchs_own_kernels() -> None:
    code = (
        "import torch, fastdrop.torch as ft\n"
        "from fastdrop.torch import _dispatch\n"
        "_dispatch._BY_KEY = 'gone'\n"
        "try:\n    ft.enable()\n"
        "except RuntimeError as error:\n    print(error)\n"
        "print(ft.is_enabled())"
    )
    printed = in_a_fresh_process(code)
    assert "must have gone" in printed
    assert printed.endswith("False\n")
