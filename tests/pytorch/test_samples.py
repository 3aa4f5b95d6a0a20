"""Masks by sample id, for tensors."""

from __future__ import annotations

import pytest

torch = pytest.importorskip("torch")

from torch.utils.checkpoint import checkpoint  # noqa: E402
from torch.utils.flop_counter import FlopCounterMode  # noqa: E402

import fastdrop.torch as ft  # noqa: E402

IDS = [5, 1, 7, 10**9, 100, 3]
FLOATS = [torch.float16, torch.bfloat16, torch.float32, torch.float64, torch.complex64]


def drop(x, ids=IDS, p=0.3, **more):
    more.setdefault("generator", torch.Generator().manual_seed(3))
    return ft.functional.dropout(x, p, sample_ids=ids, **more)


@pytest.mark.parametrize("dtype", FLOATS)
def test_rows_and_gradients_do_not_depend_on_the_batch(dtype):
    x = torch.randn(6, 70).to(dtype).requires_grad_()
    y = drop(x)
    assert torch.equal(drop(x[[2, 0]], [7, 5]), y[[2, 0]])
    kept = (y != 0).detach()
    assert 0.6 < kept.float().mean() < 0.8
    scaled = (x.detach().float() if dtype == torch.bfloat16 else x.detach()) * (1 / 0.7)
    assert torch.equal(y.detach(), torch.where(kept, scaled.to(dtype), 0))
    (grad,) = torch.autograd.grad(y, x, torch.ones_like(y))
    assert torch.equal(grad != 0, kept)


def test_masks_are_those_of_numpy_for_the_generators_next_key():
    generator = torch.Generator().manual_seed(3)
    before = generator.get_state()
    x = torch.randn(6, 5, 20)
    y = drop(x, generator=generator)
    assert torch.equal(generator.get_state(), before)
    assert torch.equal(drop(x, generator=generator), y)
    assert not torch.equal(drop(x, generator=torch.Generator().manual_seed(4)), y)
    assert torch.equal(drop(x.transpose(1, 2).contiguous().transpose(1, 2)), y)
    torch.manual_seed(3)
    assert torch.equal(drop(x, generator=None), y)
    assert torch.equal(
        drop(x, (2, [5, 1, 7, 0, 9, 8])),
        drop(x, torch.tensor([[2, i] for i in (5, 1, 7, 0, 9, 8)])),
    )


def test_derivatives_of_any_order_and_recomputation():
    x = torch.randn(3, 5, dtype=torch.float64, requires_grad=True)

    def run(x):
        return drop(x, [1, 2, 3]).sin()

    assert torch.autograd.gradcheck(run, x, check_forward_ad=True)
    assert torch.autograd.gradgradcheck(run, x)
    assert torch.autograd.gradcheck(run, x, check_batched_grad=True)
    y, factors = drop(x, [1, 2, 3], p=0.1), drop(torch.ones_like(x).detach(), [1, 2, 3], p=0.1)
    ones = torch.ones_like(x).detach()
    with FlopCounterMode(display=False):
        assert torch.equal(torch.autograd.grad(y, x, ones, retain_graph=True)[0], factors)
    many = torch.stack([ones, torch.full_like(ones, torch.inf)])
    found = torch.autograd.grad(y, x, many, is_grads_batched=True)[0]
    assert torch.equal(found[0], factors)
    assert torch.equal(found[1], torch.where(factors != 0, torch.inf, 0.0))
    (grad,) = torch.vmap(lambda g: torch.autograd.grad(y, x, g))(many)
    assert torch.equal(grad, found)
    plain = torch.autograd.grad(run(x).sum(), x)[0]
    again = checkpoint(run, x, use_reentrant=False)
    assert torch.equal(torch.autograd.grad(again.sum(), x)[0], plain)


def test_modes_and_places():
    x = torch.randn(3, 5)
    assert drop(x, [1, 2, 3], training=False) is x
    assert drop(x, [1, 2, 3], p=0.0) is x
    own = x.clone()
    assert drop(own, [1, 2, 3], inplace=True) is own
    assert torch.equal(own, drop(x, [1, 2, 3]))
    leaf = torch.randn(3, 5, requires_grad=True)
    with pytest.raises(RuntimeError, match="in-place"):
        drop(leaf, [1, 2, 3], inplace=True)
    assert not (drop(x, [1, 2, 3], p=1.0) != 0).any()


@pytest.mark.parametrize(
    ("more", "error", "message"),
    [
        ({"ids": [1, 2]}, ValueError, "one id for each row"),
        ({"ids": [1.5] * 6}, TypeError, "must be ints"),
        ({"p": 1.5}, ValueError, "between 0 and 1"),
        ({"generator": 3}, TypeError, "torch.Generator"),
    ],
)
def test_bad_arguments_are_refused(more, error, message):
    with pytest.raises(error, match=message):
        drop(torch.ones(6, 2), **more)


def test_tensors_that_are_left_to_torch_are_refused():
    with pytest.raises(RuntimeError, match=r"torch\.int32"):
        drop(torch.ones(6, 2, dtype=torch.int32))
    with pytest.raises(RuntimeError, match="transforms"):
        torch.func.vmap(drop)(torch.ones(2, 6, 3))
    with pytest.raises(RuntimeError, match="meta"):
        drop(torch.ones(6, 2, device="meta"))


def test_compiled_code_calls_it():
    x = torch.randn(3, 5)
    compiled = torch.compile(lambda x: drop(x * 2, [1, 2, 3]) + 1, backend="eager")
    assert torch.equal(compiled(x), drop(x * 2, [1, 2, 3]) + 1)
