"""A torch that lacks a name which is not public: fastdrop says so, and is right all the same."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from torch_support import in_a_fresh_process, run_right_in_children

NAMES = [
    "_C._len_torch_dispatch_stack",
    "_C._autograd._profiler_enabled",
    "_C._dispatch_tls_is_dispatch_key_included",
    "_C._is_tracing",
    "_C._has_storage",
    "_C._current_graph_task_id",
]

WITHOUT = """
import warnings
owner, _, last = {name!r}.rpartition(".")
delattr(eval("torch." + owner), last)
import fastdrop.torch as ft
with warnings.catch_warnings(record=True) as caught:
    warnings.simplefilter("always")
    ft.enable()
assert any("torch." + {name!r} in str(warning.message) for warning in caught), caught
for functional in torch.nn.functional, ft.functional:
    for n in 16, 5000:
        x = torch.ones(n, requires_grad=True)
        y = functional.dropout(x, 0.5)
        assert set(y.tolist()) == {{0.0, 2.0}}
        y.sum().backward()
        assert torch.equal(x.grad, y.detach())
"""


@pytest.fixture(scope="module")
def right() -> list[str]:
    return run_right_in_children({name: WITHOUT.format(name=name) for name in NAMES})


@pytest.mark.parametrize("name", NAMES)
def test_without_a_name(right: list[str], name: str) -> None:
    assert name in right


def test_nothing_is_unknown_of_the_torch_that_is_here() -> None:
    from fastdrop.torch._internals import UNKNOWN

    assert UNKNOWN == []


@pytest.mark.slow
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
