"""Recomputation: checkpoints, memory budgets, dispatch modes; a mask comes back as it was."""

from __future__ import annotations

import shutil
from contextlib import nullcontext
from functools import partial

import pytest

torch = pytest.importorskip("torch")
F = torch.nn.functional

from torch.utils._python_dispatch import TorchDispatchMode  # noqa: E402
from torch.utils.checkpoint import (  # noqa: E402
    CheckpointPolicy,
    checkpoint,
    create_selective_checkpoint_contexts,
)
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402
from torch_support import affine  # noqa: E402

import fastdrop.torch as ft  # noqa: E402

P = 0.4
SHAPES = {
    "dropout": [(16,), (300,), (1000,), (5000,)],  # on both sides of any limit
    "alpha_dropout": [(16,), (300,), (1000,), (5000,)],
    "dropout2d": [(2, 8, 5, 5), (20, 50, 3, 3)],
    "feature_alpha_dropout": [(2, 8, 5, 5), (20, 50, 3, 3)],
}
CASES = [(name, shape) for name, shapes in SHAPES.items() for shape in shapes]
GRAPHS = ["aot_eager", "aot_eager_decomp_partition"]
INDUCTOR = pytest.param(
    "inductor",
    marks=[
        pytest.mark.slow,
        pytest.mark.skipif(not shutil.which("g++"), reason="inductor needs a C++ compiler"),
    ],
)


class Logger(TorchDispatchMode):
    def __torch_dispatch__(self, func, types, args=(), kwargs=None):
        return func(*args, **(kwargs or {}))


MODES = {"logger": Logger, "flops": partial(FlopCounterMode, display=False)}


@pytest.fixture(autouse=True)
def _enabled():
    torch._dynamo.reset()
    torch.manual_seed(7)
    with ft.enabled():
        yield
    torch._dynamo.reset()


def squared(x, name="dropout", functional=F, inplace=False, **options):
    """Return the square of a dropout, for which autograd keeps it, and itself to look at."""
    y = getattr(functional, name)(x * 1.0, P, True, inplace, **options)
    return y * y, y.detach().clone()


def slope(name):
    return affine(P)[0] if "alpha" in name else 1 / (1 - P)


def check(x, y, name):
    """Assert that the gradient of y's squared sum meets the mask that y shows for ones."""
    kept = y > 0  # what alpha dropout drops is negative
    assert 0 < kept.double().mean() < 1
    torch.testing.assert_close(x.grad, torch.where(kept, 2 * slope(name) * y, 0))


@pytest.mark.parametrize(
    ("functional", "budget"),
    [(F, 0.9), (F, 0.5), (F, 0.3), (ft.functional, 0.5)],
    ids=["0.9", "0.5", "0.3", "functional"],
)
@pytest.mark.parametrize("backend", ["aot_eager_decomp_partition", INDUCTOR])
def test_memory_budget(backend, functional, budget):
    """At 0.3 torch's own dropout recomputes its mask, and its gradients are wrong."""

    def layers(x):
        y = functional.dropout(x.sin(), P)
        z = functional.dropout(y.cos(), P)
        return y, z

    x = torch.randn(40, 1000, requires_grad=True)
    with torch._functorch.config.patch(activation_memory_budget=budget):
        y, z = torch.compile(layers, backend=backend, fullgraph=True)(x)
        z.sum().backward()
    s = 1 / (1 - P)
    through_z = torch.where(z != 0, -s * y.sin(), 0)
    torch.testing.assert_close(x.grad, torch.where(y != 0, s * x.cos() * through_z, 0))


@pytest.mark.parametrize(
    ("name", "shape"),
    [("dropout", (16,)), *((name, shapes[-1]) for name, shapes in SHAPES.items())],
)
def test_a_seed_gives_one_mask_in_eager_and_in_graphs(name, shape):
    f = partial(getattr(F, name), p=P, training=True)
    compiled = torch.compile(f, backend="aot_eager", fullgraph=True)
    x, differing = torch.ones(shape), []
    for seed in range(50):
        torch.manual_seed(seed)
        expected = f(x)
        torch.manual_seed(seed)
        if not torch.equal(compiled(x), expected):
            differing.append(seed)
    assert not differing


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "shape"), CASES)
def test_a_seed_gives_one_mask_and_one_state_under_modes(name, shape, mode):
    x = torch.ones(shape)
    for seed in range(20):
        torch.manual_seed(seed)
        expected = getattr(F, name)(x, P, True)
        state = torch.get_rng_state()
        torch.manual_seed(seed)
        with MODES[mode]():
            y = getattr(F, name)(x, P, True)
        assert torch.equal(y, expected)
        assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("reentrant", [False, True])
@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("under_mode", ["forward", "backward", "both"])
@pytest.mark.parametrize(("name", "shape"), CASES)
def test_checkpoint_meets_a_mode_in_one_pass_or_both(name, shape, under_mode, mode, reentrant):
    def passing(name):
        return MODES[mode]() if under_mode in (name, "both") else nullcontext()

    for seed in range(4):  # some pairs of keys were alike
        torch.manual_seed(seed)
        x = torch.ones(shape, requires_grad=True)
        with passing("forward"):
            squares, y = checkpoint(squared, x, name, use_reentrant=reentrant)
            loss = squares.sum()
        with passing("backward"):
            loss.backward()
        check(x, y, name)


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize(("name", "shape"), CASES)
def test_a_mode_changes_nothing_of_what_is_saved(name, shape, mode):
    def saved():
        found = []

        def pack(tensor):
            found.append((tuple(tensor.shape), tensor.dtype))
            return tensor

        x = torch.ones(shape, requires_grad=True)
        with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
            squared(x, name)
        return found

    plain = saved()
    with MODES[mode]():
        assert saved() == plain


@pytest.mark.parametrize("checkpointed", ["no", "reentrant", "not reentrant"])
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize(("name", "shape"), CASES)
def test_generators_never_give_a_wrong_gradient(name, shape, inplace, checkpointed):
    """A checkpoint does not know of the generator: right, or refused in words that name it."""
    generator = torch.Generator().manual_seed(1)
    f = partial(squared, name=name, functional=ft.functional, inplace=inplace, generator=generator)
    x = torch.ones(shape, requires_grad=True)
    if checkpointed == "no":
        squares, y = f(x)
        squares.sum().backward()
    else:
        try:
            squares, y = checkpoint(f, x, use_reentrant=checkpointed == "reentrant")
            squares.sum().backward()
        except RuntimeError as error:
            assert "generator" in str(error)  # noqa: PT017
            return
    check(x, y, name)


def test_generators_beside_a_checkpoint_are_taken():
    generator = torch.Generator().manual_seed(1)
    x = torch.ones(1000, requires_grad=True)
    y = ft.functional.dropout(x, P, generator=generator)
    z = checkpoint(torch.sin, y, use_reentrant=False)
    z.sum().backward()
    s = 1 / (1 - P)
    torch.testing.assert_close(x.grad, torch.where(y != 0, s * y.cos(), 0))


@pytest.mark.parametrize("backend", [GRAPHS[1], INDUCTOR])
@pytest.mark.parametrize(("name", "shape"), [("dropout", (300,)), ("dropout2d", (20, 50, 3, 3))])
@pytest.mark.parametrize("functional", [F, ft.functional], ids=["enabled", "functional"])
def test_one_tensor_dropped_twice_gets_two_masks(functional, name, shape, backend):
    def twice(x):
        h = x.exp()
        return getattr(functional, name)(h, P), getattr(functional, name)(h, P)

    x = torch.zeros(shape, requires_grad=True)
    first, second = torch.compile(twice, backend=backend, fullgraph=True)(x)
    assert not torch.equal(first, second)
    (first + 3 * second).sum().backward()
    torch.testing.assert_close(x.grad, (first + 3 * second).detach())


POLICIES = {
    "nothing": lambda *_, **__: CheckpointPolicy.MUST_RECOMPUTE,
    "everything": lambda *_, **__: CheckpointPolicy.MUST_SAVE,
    "products": lambda _, operator, *__, **___: (
        CheckpointPolicy.MUST_SAVE
        if operator in (torch.ops.aten.mm.default, torch.ops.aten.mul.Tensor)
        else CheckpointPolicy.PREFER_RECOMPUTE
    ),
}


@pytest.mark.parametrize("policy", POLICIES)
@pytest.mark.parametrize(("name", "shape"), CASES)
def test_selective_checkpoint(name, shape, policy):
    if policy == "everything" and "alpha" in name:
        pytest.skip("torch's own writes to tensors that are kept, and is refused, too")
    x = torch.ones(shape, requires_grad=True)
    contexts = partial(create_selective_checkpoint_contexts, POLICIES[policy])
    squares, y = checkpoint(squared, x, name, use_reentrant=False, context_fn=contexts)
    squares.sum().backward()
    check(x, y, name)


@pytest.mark.parametrize("backend", [*GRAPHS, INDUCTOR])
@pytest.mark.parametrize("name", SHAPES)
def test_checkpoint_within_a_compiled_graph(name, backend):
    x = torch.ones(SHAPES[name][-1], requires_grad=True)

    @partial(torch.compile, backend=backend, fullgraph=True)
    def run(x):
        return checkpoint(squared, x, name, use_reentrant=False)

    squares, y = run(x)
    squares.sum().backward()
    check(x, y, name)


@pytest.mark.parametrize("reentrant", [False, True])
def test_compiled_graph_within_a_checkpoint(reentrant):
    x = torch.ones(1000, requires_grad=True)
    f = torch.compile(squared, backend="aot_eager", fullgraph=True)
    squares, y = checkpoint(f, x, use_reentrant=reentrant)
    F.dropout(torch.ones(10))  # moves the generator on
    squares.sum().backward()
    check(x, y, "dropout")
