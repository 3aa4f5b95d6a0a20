"""Graphs of every kind, data-dependent shapes, nested tensors, and odd places to be imported in."""

from __future__ import annotations

import os
import re
import shutil

import pytest

torch = pytest.importorskip("torch")
F = torch.nn.functional

from torch_support import (  # noqa: E402
    MODULES,
    in_a_fresh_process,
    no_warnings,
    outcome,
    run_right_in_children,
    state_after,
)

import fastdrop.torch as ft  # noqa: E402

P = 0.5
SHAPES = {
    "Dropout": (50, 40),
    "Dropout1d": (50, 40, 3),
    "Dropout2d": (50, 40, 3, 2),
    "Dropout3d": (50, 40, 3, 2, 2),
    "AlphaDropout": (50, 40),
    "FeatureAlphaDropout": (50, 40, 3),
}
SIZES = [16, 300, 5000, 100_000]


@pytest.fixture(autouse=True)
def _fresh():
    torch._dynamo.reset()
    torch.manual_seed(7)
    yield
    torch._dynamo.reset()


def converted(name, generator=None):
    """Return a model of one of torch's dropout modules, converted, and an input."""
    model = torch.nn.Sequential(torch.nn.Identity(), getattr(torch.nn, name)(P))
    return ft.convert(model, generator=generator), torch.randn(SHAPES[name])


def assert_drops(f, x):
    """Assert that a function drops half of what it is given, anew each time, and its gradient."""
    x = x.detach().clone().requires_grad_()
    y = f(x)
    unlike = f(x)
    assert not torch.equal(y, unlike)
    y.sum().backward()
    assert abs((x.grad != 0).double().mean().item() - 0.5) < 0.1
    assert torch.unique(x.grad).numel() == 2
    slope = x.grad.max()
    kept = x.grad != 0
    shift = (y - slope * x)[kept]  # 0, or alpha dropout's intercept
    torch.testing.assert_close(shift, shift.mean().expand_as(shift), atol=1e-5, rtol=0)


# Feature extraction in torchvision and timm is symbolic tracing.


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("with_generator", [False, True])
def test_symbolic_trace(name, with_generator):
    generator = torch.Generator().manual_seed(1) if with_generator else None
    model, x = converted(name, generator)
    try:
        traced = torch.fx.symbolic_trace(model)
    except RuntimeError as error:
        assert with_generator and "generator" in str(error)  # noqa: PT017, PT018
        return
    state = torch.get_rng_state()
    assert_drops(traced, x)
    assert torch.equal(torch.get_rng_state(), state) == with_generator
    assert torch.equal(torch.fx.symbolic_trace(model.eval())(x), x)


@pytest.mark.parametrize("name", SHAPES)
def test_a_traced_module_follows_its_mode(name):
    model, x = converted(name)
    traced = torch.fx.symbolic_trace(model)
    assert torch.equal(traced.eval()(x), x)
    assert_drops(traced.train(), x)


def all_modules():
    nn = torch.nn
    return nn.Sequential(
        nn.Dropout3d(0.1),
        nn.Flatten(3),
        nn.Dropout2d(0.1),
        nn.Flatten(2),
        nn.Dropout1d(0.1),
        nn.FeatureAlphaDropout(0.1),
        nn.AlphaDropout(0.1),
        nn.Dropout(0.1, inplace=True),
    )


def test_symbolic_trace_of_all_modules_at_once():
    model = ft.convert(all_modules())
    assert sum(type(module).__module__.startswith("fastdrop") for module in model) == 6
    traced = torch.fx.symbolic_trace(model)
    x = torch.randn(20, 30, 2, 2, 2, requires_grad=True)
    y = traced(x)
    assert not torch.equal(y, traced(x))
    y.sum().backward()
    assert 0 < (x.grad != 0).double().mean() < 1
    assert torch.equal(traced.eval()(x), x.flatten(2))


@pytest.mark.parametrize("name", MODULES)
def test_functional_in_a_symbolic_trace(name):
    f = getattr(ft.functional, name)
    traced = torch.fx.symbolic_trace(lambda x: f(x * 2.0, P, training=True))
    x = torch.randn(SHAPES[MODULES[name]])
    assert_drops(lambda x: traced(x / 2), x)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("with_generator", [False, True])
def test_script(name, with_generator):
    """Scripted as torch's modules are, or refused in words that say what to do instead."""
    generator = torch.Generator().manual_seed(1) if with_generator else None
    model, x = converted(name, generator)
    with no_warnings():
        try:
            scripted = torch.jit.script(model)
        except Exception as error:
            word = "generator" if with_generator else r"enable\(\)"
            assert re.search(word, str(error))  # noqa: PT017
            return
        state = torch.get_rng_state()
        for _ in range(4):  # what runs is specialised after two
            assert_drops(scripted, x)
        assert torch.equal(torch.get_rng_state(), state) == with_generator
        assert torch.equal(scripted.eval()(x), x)


@pytest.mark.parametrize("name", SHAPES)
def test_jit_trace(name):
    model, x = converted(name)
    with no_warnings():
        traced = torch.jit.trace(model, x, check_trace=False)
        assert_drops(traced, x)
        assert torch.equal(torch.jit.trace(model.eval(), x)(x), x)


class Duck:
    """No tensor, but what takes part in torch's functions."""

    seen = ()

    @classmethod
    def __torch_function__(cls, func, types, args=(), kwargs=None):
        cls.seen = (func.__name__, types, args, kwargs or {})
        return "quack"


@pytest.mark.parametrize("name", MODULES)
def test_functional_hands_over_to_torch_function(name):
    duck = Duck()
    assert getattr(ft.functional, name)(duck, 0.3, training=True) == "quack"
    seen, types, args, kwargs = Duck.seen
    assert seen == name
    assert tuple(types) == (Duck,)
    assert args[0] is duck
    assert 0.3 in (*args[1:], kwargs.get("p"))


class Functions(torch.overrides.TorchFunctionMode):
    def __init__(self):
        super().__init__()
        self.names = []

    def __torch_function__(self, func, types, args=(), kwargs=None):
        self.names.append(getattr(func, "__name__", ""))
        return func(*args, **(kwargs or {}))


@pytest.mark.parametrize("name", MODULES)
def test_function_modes_see_functional(name):
    x = torch.randn(SHAPES[MODULES[name]])
    with Functions() as mode:
        y = getattr(ft.functional, name)(x, P, training=True)
    assert name in mode.names
    assert not torch.equal(y, x)


class Subclass(torch.Tensor):
    pass


@pytest.mark.parametrize("name", MODULES)
def test_functional_keeps_a_subclass(name):
    x = torch.randn(SHAPES[MODULES[name]]).as_subclass(Subclass)
    y = getattr(ft.functional, name)(x, P, training=True)
    assert type(y) is Subclass
    assert not torch.equal(y, x)


DATA_DEPENDENT = {
    "dropout": lambda x: x[x > 0],
    "alpha_dropout": lambda x: x[x > 0],
    "feature_alpha_dropout": lambda x: x[x[:, 0, 0] > 0],
    "dropout1d": lambda x: x[x[:, 0, 0] > 0],
}


@pytest.mark.slow
@pytest.mark.parametrize("name", DATA_DEPENDENT)
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("backend", ["eager", "aot_eager"])
@pytest.mark.parametrize("functional", [F, ft.functional], ids=["enabled", "functional"])
def test_shapes_that_depend_on_data(functional, backend, inplace, name):
    """Of these torch's own takes dropout, not in place."""

    def some(x):
        return getattr(functional, name)(DATA_DEPENDENT[name](x), P, True, inplace)

    with ft.enabled(), torch._dynamo.config.patch(capture_dynamic_output_shape_ops=True):
        compiled = torch.compile(some, backend=backend, fullgraph=True)
        for n in 50, 60:
            x = torch.randn(n, 20, 3, requires_grad=True)
            y = compiled(x)
            assert y.shape == DATA_DEPENDENT[name](x).shape
            y.sum().backward()
            assert torch.unique(x.grad).numel() == 2
        assert compiled(-torch.ones(50, 20, 3)).numel() == 0


@pytest.mark.parametrize("length", [2, 200, 20_000])
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("name", ["dropout", "alpha_dropout"])
def test_nested_tensors_go_torchs_way(name, requires_grad, inplace, length):
    """That way takes native_dropout of what is nested, so the masks may be fastdrop's."""

    def step():
        torch.manual_seed(1)
        parts = [torch.ones(2, length), torch.ones(3, length)]
        x = torch.nested.nested_tensor(parts, requires_grad=requires_grad)
        y = getattr(F, name)(x.clone(), 0.5, True, inplace)
        if requires_grad:
            torch.nested.to_padded_tensor(y, 0.0).sum().backward()
            assert all(map(torch.equal, x.grad.unbind(), y.detach().unbind()))
        return [set(part.flatten().tolist()) for part in y.unbind() if length > 2]

    with no_warnings():
        torchs = outcome(step)
        with ft.enabled():
            assert outcome(step) == torchs


@pytest.fixture
def replaced(monkeypatch):
    """Put fastdrop's functions where users put them: over torch's."""
    for name in MODULES:
        monkeypatch.setattr(F, name, getattr(ft.functional, name))


@pytest.mark.usefixtures("replaced")
@pytest.mark.parametrize("name", MODULES)
class TestFunctionalInTorchsPlace:
    def test_bad_p(self, name):
        x = torch.randn(SHAPES[MODULES[name]])
        with pytest.raises(ValueError, match="has to be between 0 and 1, but got 2"):
            getattr(F, name)(x, 2, training=True)

    def test_vmap(self, name):
        x = torch.randn(SHAPES[MODULES[name]])
        with no_warnings():
            f = torch.vmap(lambda x: getattr(F, name)(x, P, training=True), randomness="different")
            assert not torch.equal(f(torch.stack([x, x])), torch.stack([x, x]))

    def test_meta(self, name):
        x = torch.ones(SHAPES[MODULES[name]], device="meta")
        assert getattr(F, name)(x, P, training=True).device.type == "meta"

    def test_integers(self, name):
        x = torch.ones(SHAPES[MODULES[name]], dtype=torch.int64)
        with pytest.raises(RuntimeError):
            getattr(F, name)(x, P, training=True)

    def test_drops(self, name):
        x = torch.randn(SHAPES[MODULES[name]])
        assert_drops(lambda x: getattr(F, name)(x, P, training=True), x)


WITHOUT_FALLBACKS = """
import sys, torch, torch._inductor.config as config
import fastdrop.torch as ft
config.implicit_fallbacks, config.force_disable_caches, config.compile_threads = False, True, 1
name, functional = sys.argv[1], ft.functional
if sys.argv[2] == "enabled":
    ft.enable()
    functional = torch.nn.functional
f = torch.compile(lambda x: getattr(functional, name)(x, 0.5, training=True) * 1.0)
x = torch.ones(20, 30, 4, 3, requires_grad=True)
y = f(x)
y.sum().backward()
kept = y > 0
assert 0.4 < kept.double().mean() < 0.6
assert torch.equal(x.grad, torch.where(kept, x.grad.max(), 0))
"""


@pytest.mark.slow
@pytest.mark.skipif(not shutil.which("g++"), reason="inductor needs a C++ compiler")
@pytest.mark.parametrize("name", ["dropout", "dropout2d", "alpha_dropout", "feature_alpha_dropout"])
@pytest.mark.parametrize("api", ["enabled", "functional"])
def test_inductor_without_implicit_fallbacks(api, name):
    """In a fresh process: a fallback, once used, stays registered."""
    in_a_fresh_process(WITHOUT_FALLBACKS, name, api)


@pytest.mark.parametrize("n", SIZES)
def test_torchscript_training_stays_with_fastdrop(n):
    """After two steps the JIT differentiates by itself, and calls another operator."""
    x = torch.ones(n, requires_grad=True)
    with no_warnings(), ft.enabled():
        scripted = torch.jit.script(torch.nn.Sequential(torch.nn.Dropout(P), torch.nn.Sigmoid()))
        for step in range(6):
            torch.manual_seed(step)
            expected = F.dropout(torch.ones(n), P)
            torch.manual_seed(step)
            y = scripted(x)
            assert torch.equal(y.detach(), expected.sigmoid())
            x.grad = None
            y.sum().backward()
            torch.testing.assert_close(x.grad, (expected * y * (1 - y)).detach())
        assert torch.equal(scripted.eval()(x), x.sigmoid())


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("p", [0.0, 0.1, 0.5, 1.0])
def test_native_dropout(n, p):
    x = torch.randn(n, requires_grad=True)
    with ft.enabled():
        y, mask = torch.native_dropout(x, p, True)
        y.sum().backward()
        scale = 0.0 if p == 1 else 1 / (1 - p)
        direct = torch.ops.aten.native_dropout_backward(torch.ones(n), mask, scale)
    assert mask.dtype == torch.bool
    torch.testing.assert_close(y, torch.where(mask, scale * x, 0))
    torch.testing.assert_close(x.grad, scale * mask)
    torch.testing.assert_close(direct, scale * mask)
    assert abs(mask.double().mean().item() - (1 - p)) <= 5 * (p * (1 - p) / n) ** 0.5


@pytest.mark.parametrize("train", [False, None])
def test_native_dropout_without_training_is_torchs(train):
    def run():
        y, mask = torch.native_dropout(torch.arange(9.0), P, train)
        return y.tolist(), mask.tolist(), mask.dtype

    torch.manual_seed(1)
    expected = outcome(run)
    torch.manual_seed(1)
    with ft.enabled():
        found = outcome(run)
    if train is None:  # which is training, whose masks are fastdrop's
        expected, found = expected[0], found[0]
    assert found == expected


def test_native_dropout_draws_a_key_and_no_more():
    x = torch.ones(100_000)
    with ft.enabled():
        of_a_key = state_after(lambda: F.dropout(x[:7], P))
        assert state_after(lambda: torch.native_dropout(x, P, True)) == of_a_key


KINDS_OF_X = {
    "plain": lambda x: x,
    "computed": lambda x: x.requires_grad_().exp(),
    "view": lambda x: x[:],
    "view of computed": lambda x: x.requires_grad_().exp()[:],
}


@pytest.mark.parametrize("shape", [(16,), (300,), (100_000,), (4, 3, 2, 1), (40, 30, 2, 1)])
@pytest.mark.parametrize("kind", KINDS_OF_X)
@pytest.mark.parametrize("functional", [F, ft.functional], ids=["enabled", "functional"])
def test_in_place_is_one_change(functional, kind, shape):
    name = "dropout" if len(shape) == 1 else "dropout2d"
    with ft.enabled():
        x = KINDS_OF_X[kind](torch.ones(shape))
        version = x._version
        getattr(functional, name)(x, P, inplace=True)
        assert x._version == version + 1
        with torch.no_grad():
            getattr(functional, name)(x, P, inplace=True)
        assert x._version == version + 2


ODD_PLACES = {
    "fake tensor mode": """
from torch._subclasses import FakeTensorMode
with FakeTensorMode():
    import fastdrop.torch
""",
    "inference mode": """
with torch.inference_mode():
    import fastdrop.torch
""",
    "device meta": """
with torch.device("meta"):
    import fastdrop.torch
""",
    "grad": """
def f(x):
    import fastdrop.torch
    return x.sum()
torch.func.grad(f)(torch.ones(3))
""",
    "vmap": """
def f(x):
    import fastdrop.torch
    return x.sum()
torch.vmap(f)(torch.ones(3, 2))
""",
    "dispatch mode": """
with FlopCounterMode(display=False):
    import fastdrop.torch
""",
}

WORKS = """
import fastdrop.torch as ft
F = torch.nn.functional
assert type(torch.ones(1)) is torch.Tensor
ft.enable()
for functional in F, ft.functional:
    for n in 16, 300, 5000, 100_000:
        x = torch.ones(n, requires_grad=True)
        for inplace in False, True:
            y = functional.dropout(x.clone(), 0.5, inplace=inplace)
            assert set(y.tolist()) == {0.0, 2.0}, set(y.tolist())
            x.grad = None
            y.sum().backward()
            assert torch.equal(x.grad, y.detach())
        functional.dropout(torch.ones(n), 0.5)
        functional.alpha_dropout(x, 0.5, True).sum().backward()
        functional.dropout2d(torch.ones(n, 2, 2, 2, requires_grad=True)).sum().backward()
    with torch.inference_mode():
        assert set(functional.dropout(torch.ones(300), 0.5).tolist()) == {0.0, 2.0}
    with FlopCounterMode(display=False):
        assert set(functional.dropout(torch.ones(300), 0.5).tolist()) == {0.0, 2.0}
"""


@pytest.fixture(scope="module")
def good_places():
    codes = {place: code + WORKS for place, code in ODD_PLACES.items()}
    return run_right_in_children(codes)


@pytest.mark.slow
@pytest.mark.skipif(not hasattr(os, "fork"), reason="importing torch for each takes long")
@pytest.mark.parametrize("place", ODD_PLACES)
def test_imported_in_odd_places(good_places, place):
    assert place in good_places
