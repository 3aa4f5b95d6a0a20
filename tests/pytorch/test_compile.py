"""torch.compile: whole graphs, a fresh mask every call, the same mask in both passes."""

from __future__ import annotations

import shutil

import pytest

torch = pytest.importorskip("torch")
F = torch.nn.functional

import fastdrop.torch as ft  # noqa: E402

BACKENDS = [
    "eager",
    "aot_eager",
    pytest.param(
        "inductor",
        marks=[
            pytest.mark.slow,
            pytest.mark.skipif(not shutil.which("g++"), reason="inductor needs a C++ compiler"),
        ],
    ),
]


def by_torchs_api(x):
    return F.dropout(x, 0.3) * 1


def by_fastdrops_api(x):
    return ft.functional.dropout(x, 0.3) * 1


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    torch.manual_seed(1)
    with ft.enabled():
        yield
    torch._dynamo.reset()


@pytest.mark.parametrize("function", [by_torchs_api, by_fastdrops_api])
@pytest.mark.parametrize("backend", BACKENDS)
def test_compiled(function, backend):
    compiled = torch.compile(function, backend=backend, fullgraph=True)
    x = torch.ones(20, 1000, requires_grad=True)
    masks = []
    for _ in range(3):
        y = compiled(x)
        y.backward(torch.ones(1000, 20).t())
        assert torch.equal(x.grad, y.detach())
        assert abs((y != 0).double().mean().item() - 0.7) < 0.02
        x.grad = None
        masks.append(y.detach())
    assert not torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[1], masks[2])
    torch.manual_seed(1)
    assert torch.equal(compiled(x), masks[0])


@pytest.mark.parametrize("backend", BACKENDS)
def test_module_family(backend):
    model = torch.nn.Sequential(
        torch.nn.Conv2d(3, 8, 3),
        torch.nn.Dropout2d(0.2),
        torch.nn.SELU(),
        ft.AlphaDropout(0.1),
        ft.Dropout2d(0.2),
        torch.nn.Dropout(0.5, inplace=True),
    )
    compiled = torch.compile(model, backend=backend, fullgraph=True)
    x = torch.randn(2, 3, 8, 8).to(memory_format=torch.channels_last)
    first, second = compiled(x), compiled(x)
    assert not torch.equal(first, second)
    first.sum().backward()
    model.eval()
    assert torch.equal(compiled(x), compiled(x))


def test_compiled_autograd_meets_the_forwards_mask():
    x = torch.randn(1000, requires_grad=True)
    y = F.dropout(x * 1, 0.3)
    with torch._dynamo.compiled_autograd._enable(torch.compile(backend="eager")):
        y.sum().backward()
    torch.testing.assert_close(x.grad * x.detach(), y.detach())


def graph_of(function, x):
    return torch.fx.experimental.proxy_tensor.make_fx(lambda x: function(x))(x).code


def test_graphs_hold_fastdrops_operator_only_while_enabled():
    x = torch.ones(1000)
    with ft.enabled():
        assert "fastdrop.masked" in graph_of(F.dropout, x)
    # The fixture's block is still open, so this is what nesting means.
    assert "fastdrop.masked" in graph_of(F.dropout, x)


def test_tracing_caches_nothing_of_what_was_enabled():
    x = torch.ones(1000)
    before = graph_of(F.dropout, x)
    ft._dispatch._switch(blocks=-1)
    try:
        assert "fastdrop.masked" in before
        assert "fastdrop.masked" not in graph_of(F.dropout, x)
    finally:
        ft._dispatch._switch(blocks=1)
    assert graph_of(F.dropout, x) == before


def test_operator_passes_torchs_own_checks():
    key = torch.randint(1 << 62, (2,))
    for x in torch.randn(1000), torch.randn(2, 5, 6, 7).to(memory_format=torch.channels_last):
        torch.library.opcheck(torch.ops.fastdrop.masked, (x.requires_grad_(), key, 0.3, 1 / 0.7))
