"""Gradients: the backward pass meets the forward's mask, and keeps nothing but its key."""

from __future__ import annotations

import gc
import threading

import pytest

torch = pytest.importorskip("torch")
F = torch.nn.functional

import fastdrop.torch as ft  # noqa: E402

SHAPES = [(16,), (5000,), (8, 9, 10, 11)]
NAMES = ["dropout", "alpha_dropout", "feature_alpha_dropout", "dropout2d"]


@pytest.fixture(autouse=True)
def _enabled():
    torch.manual_seed(7)
    with ft.enabled():
        yield


def seeded(f):
    """Return f with the same mask in each call."""

    def run(*args):
        torch.manual_seed(3)
        return f(*args)

    return run


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("p", [0.1, 0.5, 1.0])
def test_backward_meets_the_forwards_mask(shape, inplace, p):
    x = torch.ones(shape, requires_grad=True)
    y = F.dropout(x * 1, p, inplace=inplace)
    y.backward(torch.ones(shape))
    assert torch.equal(x.grad, y.detach())


@pytest.mark.parametrize("shape", [(5000,), (8, 9, 10, 11)])
def test_gradients_in_another_layout(shape):
    x = torch.ones(shape, requires_grad=True)
    y = F.dropout(x)
    y.backward(torch.full((2, *reversed(shape)), 1.0)[0].permute(*reversed(range(len(shape)))))
    assert torch.equal(x.grad, y.detach())
    x.grad = None
    y = F.dropout(x)
    y.backward(torch.ones(()).expand(shape))
    assert torch.equal(x.grad, y.detach())


@pytest.mark.parametrize("name", NAMES)
@pytest.mark.parametrize("shape", [(3, 4, 2, 1), (3, 4, 5, 6)])
@pytest.mark.parametrize("inplace", [False, True])
def test_gradcheck(name, shape, inplace):
    f = seeded(lambda x: getattr(F, name)(x * 1, 0.4, True, inplace))
    x = torch.randn(shape, dtype=torch.float64, requires_grad=True)
    assert torch.autograd.gradcheck(
        f, x, check_forward_ad=True, check_batched_grad=True, fast_mode=True
    )
    assert torch.autograd.gradgradcheck(f, x, fast_mode=True)


def test_gradcheck_complex():
    x = torch.randn(5000, dtype=torch.complex128, requires_grad=True)
    assert torch.autograd.gradcheck(seeded(F.dropout), x, fast_mode=True)


def test_double_backward_has_the_mask():
    x = torch.randn(5000, requires_grad=True)
    y = F.dropout(x, 0.3)
    (g,) = torch.autograd.grad((y**3).sum(), x, create_graph=True)
    g.sum().backward()
    kept = y.detach() != 0
    torch.testing.assert_close(x.grad, torch.where(kept, 6 * x.detach() / 0.7**3, 0))


@pytest.mark.parametrize("n", [16, 5000])
def test_forward_mode(n):
    x, tangent = torch.ones(n), torch.randn(n)
    with torch.autograd.forward_ad.dual_level():
        y = F.dropout(torch.autograd.forward_ad.make_dual(x, tangent), 0.5)
        primal, pushed = torch.autograd.forward_ad.unpack_dual(y)
    assert torch.equal(pushed, torch.where(primal != 0, 2 * tangent, 0))


def test_batched_gradients():
    x = torch.ones(5000, requires_grad=True)
    y = F.dropout(x, 0.5)
    grads = torch.randn(3, 5000)
    (batched,) = torch.autograd.grad(y, x, grads, is_grads_batched=True)
    assert torch.equal(batched, torch.where(y.detach() != 0, 2 * grads, 0))


@pytest.mark.parametrize("name", ["dropout", "alpha_dropout"])
def test_nothing_is_saved_for_backward(name):
    saved = []

    def pack(tensor):
        saved.append(tensor)
        return tensor

    x = torch.ones(100_000, requires_grad=True)
    with torch.autograd.graph.saved_tensors_hooks(pack, lambda tensor: tensor):
        getattr(F, name)(x, 0.5, True)
    assert sum(t.numel() for t in saved) == 0


def test_input_is_freed_after_the_forward():
    x = torch.ones(100_000, requires_grad=True) * 1
    freed = threading.Event()
    torch_storage = x.untyped_storage()
    del torch_storage
    import weakref

    weakref.finalize(x, freed.set)
    y = F.dropout(x)
    del x
    gc.collect()
    assert freed.is_set()
    y.sum().backward()


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoint_recomputes_the_same_mask(reentrant):
    x = torch.ones(5000, requires_grad=True)
    outputs = []

    def block(v):
        y = F.dropout(v, 0.3)
        outputs.append(y.detach())
        return y * y

    y = torch.utils.checkpoint.checkpoint(block, x, use_reentrant=reentrant)
    F.dropout(torch.ones(10))  # moves the generator on
    y.sum().backward()
    assert len(outputs) == 2
    assert torch.equal(*outputs)
    torch.testing.assert_close(x.grad, 2 * outputs[0] ** 2)


@pytest.mark.parametrize("n", [16, 5000])
def test_inplace_spoils_what_was_saved(n):
    x = torch.ones(n, requires_grad=True)
    y = x.exp()
    F.dropout(y, inplace=True)
    with pytest.raises(RuntimeError, match="modified by an inplace operation"):
        y.sum().backward()


@pytest.mark.parametrize("n", [16, 5000])
@pytest.mark.parametrize("view", [False, True])
def test_inplace_on_a_leaf_is_refused_and_changes_nothing(n, view):
    x = torch.ones(n, requires_grad=True)
    state = torch.get_rng_state()
    with pytest.raises(RuntimeError, match="leaf Variable that requires grad"):
        F.dropout(x.view(-1) if view else x, inplace=True)
    assert torch.equal(x.detach(), torch.ones(n))
    assert torch.equal(torch.get_rng_state(), state)


@pytest.mark.parametrize("n", [16, 5000])
def test_inplace_on_a_view_of_a_computed_tensor(n):
    x = torch.ones(2 * n, requires_grad=True)
    base = x * 1
    F.dropout(base[n:], 0.5, inplace=True)
    base.sum().backward()
    assert torch.equal(x.grad, base.detach())
    assert torch.equal(x.grad[:n], torch.ones(n))


def test_bf16_autocast():
    layer = torch.nn.Linear(64, 64)
    with torch.autocast("cpu", torch.bfloat16):
        h = layer(torch.randn(32, 64))
        y = F.dropout(h, 0.5)
    assert y.dtype == torch.bfloat16
    kept = y != 0
    assert torch.equal(y[kept], 2 * h[kept])
    y.sum().backward()
    assert layer.weight.grad.dtype == torch.float32


def test_backward_in_many_threads():
    failures = []

    def work(seed):
        x = torch.ones(70_000, requires_grad=True)
        for _ in range(20):
            y = F.dropout(x, 0.2)
            (g,) = torch.autograd.grad(y.sum(), x)
            if not torch.equal(g, y.detach()):
                failures.append(seed)

    threads = [threading.Thread(target=work, args=(i,)) for i in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert not failures


def test_a_mode_sees_what_happens():
    from torch.utils._python_dispatch import TorchDispatchMode

    class Record(TorchDispatchMode):
        def __init__(self):
            super().__init__()
            self.names = []

        def __torch_dispatch__(self, func, types, args=(), kwargs=None):
            self.names.append(func.name())
            return func(*args, **(kwargs or {}))

    x = torch.ones(5000, requires_grad=True)
    with Record() as record:
        y = F.dropout(x)
    assert "fastdrop::masked" in record.names
    y.backward(torch.ones(5000))
    assert torch.equal(x.grad, y.detach())
