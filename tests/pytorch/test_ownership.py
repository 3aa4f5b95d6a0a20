"""Gradients that nobody else holds are masked where they lie; all others stay as they are."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

import fastdrop.torch.functional as ftf  # noqa: E402
from fastdrop.torch import _ownership  # noqa: E402
from fastdrop.torch._autograd import SMALL  # noqa: E402

N = SMALL + 1000  # fewer are multiplied by the mask

CAN_TELL = pytest.mark.skipif(
    not (_ownership._FREE and hasattr(torch.autograd.Function, "boxed_grads_call")),
    reason="this torch does not tell owners, or is one itself",
)


def chain(upstream):
    """Return x, dropout's output of x, and `upstream` of that: a scalar."""
    x = torch.randn(N, requires_grad=True)
    y = ftf.dropout(x * 1, 0.4)
    return x, y, upstream(y)


@CAN_TELL
def test_a_free_gradient_is_not_copied():
    addresses = []

    class Spy(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            addresses.append(grad.data_ptr())
            return grad

    class Source(Spy):
        @staticmethod
        def backward(ctx, grad):
            new = grad * 3
            addresses.append(new.data_ptr())
            return new

    x = torch.randn(N, requires_grad=True)
    y = ftf.dropout(Spy.apply(x), 0.4)
    Source.apply(y).sum().backward()
    assert addresses[0] == addresses[1]
    torch.testing.assert_close(x.grad * x.detach(), 3 * y.detach())


def kept_by_function(hold):
    """Return an operation whose gradient stays with something that `hold` makes of it."""

    class Keep(torch.autograd.Function):
        held = None
        copy = None

        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            new = torch.randn(N)
            Keep.copy = new.clone()
            with torch.enable_grad():
                Keep.held = hold(new)
            return new

    return Keep


HOLDERS = {
    "the tensor": lambda g: g,
    "a view": lambda g: g[5:],
    "detached": lambda g: g.detach(),
    "its storage": lambda g: g.untyped_storage(),
    "an array": lambda g: g.numpy(),
    "a capsule": lambda g: torch.utils.dlpack.to_dlpack(g),
    "a saved tensor": lambda g: torch.ones(N, requires_grad=True) * g,
}


@pytest.mark.parametrize("holder", HOLDERS)
def test_what_others_hold_is_left_alone(holder):
    keep = kept_by_function(HOLDERS[holder])
    x, y, out = chain(keep.apply)
    out.sum().backward()
    held = keep.held
    if holder == "its storage":
        held = torch.empty(0).set_(held)
    elif holder == "a capsule":
        held = torch.utils.dlpack.from_dlpack(held)
    elif holder == "a saved tensor":
        held = held.grad_fn._saved_other
    held = torch.as_tensor(held)
    assert torch.equal(held, keep.copy[-len(held) :])
    torch.testing.assert_close(x.grad, torch.where(y.detach() != 0, keep.copy / 0.6, 0))


@pytest.mark.parametrize("memory", ["array", "buffer"])
def test_memory_from_elsewhere_is_left_alone(memory):
    import numpy as np

    source = np.arange(1, N + 1, dtype=np.float32)

    class Foreign(torch.autograd.Function):
        @staticmethod
        def forward(ctx, x):
            return x.clone()

        @staticmethod
        def backward(ctx, grad):
            if memory == "array":
                return torch.from_numpy(source)
            return torch.frombuffer(source, dtype=torch.float32)

    x, y, out = chain(Foreign.apply)
    out.sum().backward()
    assert np.array_equal(source, np.arange(1, N + 1))
    expected = torch.arange(1, N + 1, dtype=torch.float32) / 0.6
    torch.testing.assert_close(x.grad, torch.where(y.detach() != 0, expected, 0))


def test_a_users_gradient_is_left_alone():
    y = chain(lambda y: y)[1]
    grad = torch.ones(N)
    y.backward(grad)
    assert torch.equal(grad, torch.ones(N))


@pytest.mark.parametrize("how", ["retain_grad", "hook", "inputs", "prehook"])
def test_gradients_of_the_output_are_those_before_the_mask(how):
    x, y, out = chain(lambda y: y * 3)
    seen = []
    if how == "retain_grad":
        y.retain_grad()
        out.sum().backward()
        seen.append(y.grad)
    elif how == "inputs":
        seen.append(torch.autograd.grad(out.sum(), (y, x))[0])
    else:
        owner = y if how == "hook" else y.grad_fn
        hook = (lambda g: seen.append(g)) if how == "hook" else (lambda g: seen.extend(g))
        owner.register_hook(hook) if how == "hook" else owner.register_prehook(hook)
        out.sum().backward()
    assert torch.equal(seen[0], torch.full((N,), 3.0))


def test_two_branches_and_a_second_pass():
    x = torch.randn(N, requires_grad=True)
    h = x * 1
    a, b = ftf.dropout(h, 0.4), ftf.dropout(h, 0.4)
    out = (a + b).sum()  # one gradient goes to both
    (first,) = torch.autograd.grad(out, x, retain_graph=True)
    (second,) = torch.autograd.grad(out, x)
    torch.testing.assert_close(first * x.detach(), (a + b).detach())
    assert torch.equal(first, second)


@pytest.mark.parametrize("shape", [(N,), (2, N // 2)])
def test_slices_of_one_gradient(shape):
    x = torch.randn(2, *shape, requires_grad=True)
    a, b = (ftf.dropout(v, 0.4) for v in (x * 1).unbind(0))
    weights = torch.randn(2, *shape)
    (torch.stack([a, b]) * weights).sum().backward()
    expected = torch.where(torch.stack([a, b]).detach() != 0, weights / 0.6, 0)
    torch.testing.assert_close(x.grad, expected)
