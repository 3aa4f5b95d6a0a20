"""Caches: what a compiler remembers, on disk or in memory, is of dropout as it is now."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

pytest.importorskip("torch")

from torch.compiler import config
from torch_support import in_a_fresh_process

import fastdrop.torch
from fastdrop.torch._compile_cache import digest

# Raises unless a compiled function drops what it drops when run as it is, with its gradient:
# where inductor's random numbers are torch's own, a seed gives both the same.
COMPILE = """
import sys
import torch
import torch._functorch.config, torch._inductor.config
torch._inductor.config.fx_graph_cache = True
torch._functorch.config.enable_autograd_cache = True
torch._inductor.config.fallback_random = True
torch._inductor.config.compile_threads = 1
F = torch.nn.functional
ones = torch.ones(3000)

def dropped(x):
    return F.dropout(x.sin(), 0.5).cos()

def run(f):
    x = ones.clone().requires_grad_()
    torch.manual_seed(2)
    y = f(x)
    y.sum().backward()
    return y.detach(), x.grad

for state in sys.argv[1:]:
    if state != "without":
        import fastdrop.torch
        (fastdrop.torch.enable if state == "enabled" else fastdrop.torch.disable)()
    torch._dynamo.reset()
    y, grad = run(torch.compile(dropped))
    torch.testing.assert_close((y, grad), run(dropped))
    slope = -2 * ones.cos() * torch.sin(2 * ones.sin())
    torch.testing.assert_close(grad, torch.where(y != 1, slope, 0))
assert ("fastdrop" in sys.modules) == (set(sys.argv[1:]) != {"without"})
"""

ORDERS = {
    "enabled first": [["enabled"], ["without"]],
    "enabled second": [["without"], ["enabled"]],
    "in turns": [["enabled"], ["without"], ["enabled"], ["without"]],
    "imported": [["enabled"], ["disabled"]],
    "switched": [["disabled", "enabled", "disabled"]],
}


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="inductor needs a C++ compiler")
@pytest.mark.parametrize("order", ORDERS)
def test_compile_caches_on_disk(tmp_path, order):
    for states in ORDERS[order]:
        in_a_fresh_process(COMPILE, *states, TORCHINDUCTOR_CACHE_DIR=str(tmp_path))


def test_a_changed_operator_is_another_key(tmp_path):
    """A graph on disk names an operator. What it returns may have changed since."""
    folder = Path(fastdrop.torch.__file__).parent
    assert digest(folder) in config.cache_key_tag
    for change in ("", "# changed"):
        copy = shutil.copytree(folder, tmp_path / f"torch{len(change)}")
        with (copy / "_attention.py").open("a") as file:
            file.write(change)
        assert (digest(copy) == digest(folder)) == (change == "")


# Prints for each state which kinds of graph mention fastdrop, and which torch's random numbers.
GRAPHS = """
import json, sys
import torch
from torch._dynamo.backends.common import aot_autograd
from torch.fx.experimental.proxy_tensor import make_fx
import fastdrop.torch

F = torch.nn.functional
RANDOM = "aten.native_dropout", "aten.bernoulli", "aten.rand_like", "aten.rand."
NAMES = "dropout", "dropout2d", "alpha_dropout", "feature_alpha_dropout"
X = torch.ones(20, 30, 4, 3)

class Drops(torch.nn.Module):
    def __init__(self, name):
        super().__init__()
        self.name = name

    def forward(self, x):
        return getattr(F, self.name)(x * 1.0, 0.5, training=True)

def exported(module):
    return torch.export.export(module, (X,)).run_decompositions().graph_module.code

def compiled(module):
    codes = []
    def keep(graph, inputs):
        codes.append(graph.code)
        return graph
    torch._dynamo.reset()
    y = torch.compile(module, backend=aot_autograd(fw_compiler=keep), fullgraph=True)(X)
    kept = y > 0
    assert 0.4 < kept.double().mean() < 0.6
    assert torch.equal(y, torch.where(kept, y.max(), y.min()))
    return "".join(codes)

def made(module):
    return make_fx(module)(X).code

for state in sys.argv[1:]:
    (fastdrop.torch.enable if state == "enabled" else fastdrop.torch.disable)()
    found = {}
    for name in NAMES:
        for how in exported, compiled, made:
            code = how(Drops(name))
            found[f"{how.__name__} {name}"] = [
                "ops.fastdrop." in code, any(word in code for word in RANDOM)
            ]
    print(json.dumps(found))
"""


@pytest.mark.parametrize(
    "states",
    [
        ["disabled", "enabled", "disabled", "enabled"],
        pytest.param(["enabled", "disabled"], marks=pytest.mark.slow),
    ],
    ids="-".join,
)
def test_graphs_hold_the_dropout_of_the_time_they_are_made(states):
    """Decompositions, remembered from a graph before, are not what is enabled now."""
    lines = in_a_fresh_process(GRAPHS, *states).splitlines()
    for state, line in zip(states, lines, strict=True):
        expected = [True, False] if state == "enabled" else [False, True]
        found = json.loads(line)
        assert found == dict.fromkeys(found, expected)
