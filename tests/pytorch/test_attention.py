"""Attention with dropout: the masks and values of separate operations, in all cases of torch."""

from __future__ import annotations

import math
import shutil
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

torch = pytest.importorskip("torch")
nn, F = torch.nn, torch.nn.functional

from torch.utils.checkpoint import checkpoint  # noqa: E402

import fastdrop.torch as ft  # noqa: E402
from fastdrop.mask_format import rate  # noqa: E402
from fastdrop.torch import _attention, _blas, _masks  # noqa: E402
from fastdrop.torch._attention import Call, attend, attend_by_math, is_fused, is_known  # noqa: E402

pytestmark = pytest.mark.skipif(
    _blas.products is None or not _masks.core, reason="the kernels or torch's BLAS are missing"
)

P = 0.3
attention = ft.functional.scaled_dot_product_attention


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(5)


@pytest.fixture
def fused(monkeypatch) -> list[Call]:
    """Collect the calls that the kernels take."""
    calls = []

    def noted(call, *generator):
        calls.append(call)
        return attend(call, *generator)

    for module in ("_dispatch", "functional"):
        monkeypatch.setattr(f"fastdrop.torch.{module}.attend", noted)
    return calls


def tensors(*shapes: tuple[int, ...], dtype: Any = torch.float64, grad: bool = True) -> list[Any]:
    return [
        torch.randn(shape, dtype=torch.float64).to(dtype).requires_grad_(grad) for shape in shapes
    ]


def seeded(function: Callable[..., Any], *arguments: Any, seed: int = 11, **named: Any) -> Any:
    torch.manual_seed(seed)
    return function(*arguments, **named)


def results(way: Callable[[Call], Any], call: Call, seed: int = 11) -> list[Any]:
    """Return the output and the gradients, of operands that are copied first."""
    leaves = [t.detach().clone(memory_format=torch.preserve_format) for t in call[:3]]
    leaves = [t.requires_grad_() for t in leaves]
    out = seeded(way, Call(*leaves, *call[3:]), seed=seed)
    weight = torch.linspace(-1, 1, out.numel(), dtype=torch.float64).view(out.shape)
    out.backward(weight.to(out.dtype))
    return [out.detach(), *(t.grad for t in leaves)]


def in_double(call: Call) -> Call:
    mask = call.attn_mask
    if mask is not None and mask.dtype is not torch.bool:
        mask = mask.double()
    return Call(*(t.double() for t in call[:3]), mask, *call[4:])


SHAPES = {
    "square": ((2, 3, 200, 16), (2, 3, 200, 16), (2, 3, 200, 16)),
    "several blocks": ((1, 2, 300, 8), (1, 2, 1100, 8), (1, 2, 1100, 24)),
    "one row": ((2, 2, 1, 8), (2, 2, 65, 8), (2, 2, 65, 8)),
    "one column": ((2, 2, 70, 8), (2, 2, 1, 8), (2, 2, 1, 3)),
    "width of one": ((1, 2, 70, 1), (1, 2, 70, 1), (1, 2, 70, 1)),
    "2 dimensions": ((130, 8), (77, 8), (77, 5)),
    "3 dimensions": ((3, 130, 8), (3, 77, 8), (3, 77, 5)),
    "5 dimensions": ((2, 1, 3, 130, 8), (2, 1, 3, 77, 8), (2, 1, 3, 77, 5)),
}


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("shape", SHAPES.values(), ids=SHAPES)
def test_it_is_the_separate_operations(shape, causal):
    call = Call(*tensors(*shape), None, P, causal)
    assert is_known(call)
    assert is_fused(call)
    for ours, theirs in zip(results(attend, call), results(attend_by_math, call), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("causal", [False, True])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16, torch.float16])
def test_errors_are_no_larger_than_those_of_separate_operations(dtype, causal):
    call = Call(*tensors(*((2, 3, 333, 32),) * 3, dtype=dtype), None, P, causal)
    exact = results(attend_by_math, in_double(call))
    ours, theirs = results(attend, call), results(attend_by_math, call)
    assert all(t.dtype is dtype for t in ours)
    for our, their, right in zip(ours, theirs, exact, strict=True):
        error, allowed = ((t.double() - right).square().mean().sqrt() for t in (our, their))
        # Half precision is computed in single. In single both are as good, up to luck.
        assert error <= allowed * (1.1 if dtype is torch.float32 else 1.0)


MASKS = {
    "bool": lambda: torch.rand(2, 3, 150, 170) < 0.6,
    "bool, one for all rows": lambda: torch.rand(2, 1, 1, 170) < 0.6,
    "bool, one for all columns": lambda: torch.rand(3, 150, 1) < 0.6,
    "bool, no dimension": lambda: torch.tensor(True),
    "bool, strided": lambda: (torch.rand(170, 150) < 0.6).t(),
    "numbers": lambda: torch.randn(2, 3, 150, 170),
    "numbers, one for all heads": lambda: torch.randn(150, 170),
    "numbers, one for all rows": lambda: torch.randn(2, 1, 1, 170),
    "numbers, strided": lambda: torch.randn(2, 3, 170, 300)[..., ::2].transpose(-1, -2),
    "numbers and -inf": lambda: torch.randn(150, 170).masked_fill(
        torch.rand(150, 170) < 0.3, -math.inf
    ),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16, torch.float16])
@pytest.mark.parametrize("mask", MASKS.values(), ids=MASKS)
def test_masks(mask, dtype):
    mask = mask()
    mask = mask if mask.dtype is torch.bool else mask.to(dtype)
    shapes = (2, 3, 150, 8), (2, 3, 170, 8), (2, 3, 170, 8)
    call = Call(*tensors(*shapes, dtype=dtype), mask, P)
    assert is_known(call)
    exact = results(attend_by_math, in_double(call))
    tolerance = {
        torch.float64: 1e-10,
        torch.float32: 1e-4,
        torch.bfloat16: 0.06,
        torch.float16: 0.01,
    }
    for ours, right in zip(results(attend, call), exact, strict=True):
        torch.testing.assert_close(
            ours.double(), right, rtol=tolerance[dtype], atol=tolerance[dtype]
        )


@pytest.mark.parametrize("mask", ["bool", "numbers"])
def test_rows_that_are_masked_are_torchs(mask):
    keep = torch.rand(100, 140) < 0.5
    keep[3] = keep[64] = False
    mask = keep if mask == "bool" else torch.zeros(100, 140).double().masked_fill(~keep, -math.inf)
    q, k, v = tensors((1, 2, 100, 8), (1, 2, 140, 8), (1, 2, 140, 8))
    ours = results(attend, Call(q, k, v, mask, P))
    for our, their in zip(ours, results(attend_by_math, Call(q, k, v, mask, P)), strict=True):
        torch.testing.assert_close(our, their, rtol=1e-10, atol=1e-12)
    torchs = F.scaled_dot_product_attention(q, k, v, mask, 0.3)
    assert not ours[0][0, 0, 3].any()
    assert not torchs[0, 0, 3].any()


def test_numbers_that_are_not_finite_go_where_torchs_go():
    for bad in (math.nan, math.inf):
        q, k, v = tensors(*((1, 1, 70, 4),) * 3, grad=False)
        q[0, 0, 5, 0] = bad
        ours = seeded(attend, Call(q, k, v, None, P))
        theirs = seeded(attend_by_math, Call(q, k, v, None, P))
        assert torch.equal(ours.isfinite(), theirs.isfinite())


def test_groups_of_heads_share_keys():
    q, k, v = tensors((2, 6, 140, 8), (2, 2, 150, 8), (2, 2, 150, 4))
    call = Call(q, k, v, None, P, enable_gqa=True)
    assert is_fused(call)
    for ours, theirs in zip(results(attend, call), results(attend_by_math, call), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)
    with ft.enabled():
        whole = seeded(F.scaled_dot_product_attention, q, k, v, None, P, enable_gqa=True)
    assert torch.equal(whole, seeded(attend, call))


@pytest.mark.parametrize("scale", [0.3, 1.0, -0.5, 0.0])
def test_scales(scale):
    call = Call(*tensors(*((1, 2, 130, 8),) * 3), None, P, False, scale)
    for ours, theirs in zip(results(attend, call), results(attend_by_math, call), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


LAYOUTS: dict[str, Callable[[Any], Any]] = {
    "heads side by side": lambda x: x.transpose(1, 2).contiguous().transpose(1, 2),
    "columns apart": lambda x: x.transpose(2, 3).contiguous().transpose(2, 3),
    "every other": lambda x: torch.stack([x, x], -1).flatten(-2)[..., ::2],
    "part of a row": lambda x: torch.cat([x, x, x], -1)[..., 8:16],
    "reversed heads": lambda x: x.flip(1).contiguous().flip(1),
}


@pytest.mark.parametrize("dtype", [torch.float64, torch.bfloat16])
@pytest.mark.parametrize("layout", LAYOUTS.values(), ids=LAYOUTS)
def test_layouts(layout, dtype):
    plain = Call(*tensors(*((2, 3, 140, 8),) * 3, dtype=dtype), None, P)
    moved = Call(*(layout(t.detach()) for t in plain[:3]), *plain[3:])
    for a, b in zip(results(attend, plain), results(attend, moved), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-12)


def test_an_expanded_gradient_and_expanded_keys():
    q, k, v = tensors((2, 3, 140, 8), (1, 3, 1, 8), (1, 1, 140, 8))
    k, v = k.expand(2, 3, 140, 8), v.expand(2, 3, 140, 8)
    call = Call(q, k, v, None, P)
    found = [seeded(way, call).sum() for way in (attend, attend_by_math)]
    for a, b in zip(*(torch.autograd.grad(y, (q, k, v)) for y in found), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def kept(shape: tuple[int, ...], seed: int, dtype: Any = torch.float32) -> Any:
    """Return the mask that attention applies to equal probabilities, told apart by values."""
    *heads, rows, columns = shape
    q, k = torch.zeros(*heads, rows, 4, dtype=dtype), torch.zeros(*heads, columns, 4, dtype=dtype)
    v = torch.eye(columns, dtype=dtype).expand(*heads, columns, columns)
    return seeded(attend, Call(q, k, v, None, P), seed=seed) != 0


@pytest.mark.parametrize("shape", [(2, 3, 260, 130), (1, 1, 5, 1030), (2, 700, 64)])
def test_the_mask_is_that_of_a_plain_dropout(shape, monkeypatch):
    torch.manual_seed(3)
    mask = *_masks.new_key(None), rate(P), 1.0
    plain = _masks.ones(mask, math.prod(shape), torch.bool).view(shape)
    assert torch.equal(kept(shape, 3), plain)
    assert torch.equal(kept(shape, 3, torch.bfloat16), plain)
    before = torch.get_num_threads()
    try:
        torch.set_num_threads(1)
        assert torch.equal(kept(shape, 3), plain)
    finally:
        torch.set_num_threads(before)
    monkeypatch.setattr(_masks._openmp, "team", None)
    assert torch.equal(kept(shape, 3), plain)
    with ft.enabled():
        dropped = seeded(F.dropout, torch.ones(shape), P, seed=3)
    assert torch.equal(dropped != 0, plain)


def test_the_share_of_kept_probabilities():
    n, share = 4 * 500 * 500, kept((4, 500, 500), 1).double().mean().item()
    assert abs(share - (1 - P)) < 5.1 * math.sqrt(P * (1 - P) / n)  # fails once in 3e6 times


def test_gradients_by_differences():
    q, k, v = tensors((1, 2, 9, 3), (1, 1, 12, 3), (1, 1, 12, 2))
    mask = torch.rand(9, 12) < 0.7

    def function(*three):
        return seeded(attend, Call(*three, mask, P, enable_gqa=True))

    assert torch.autograd.gradcheck(function, (q, k, v))
    assert torch.autograd.gradgradcheck(function, (q, k, v))


def test_batched_gradients():
    q, k, v = tensors(*((1, 2, 9, 3),) * 3)

    def function(x):
        return seeded(attend, Call(x, k, v, None, P))

    one_by_one = torch.autograd.functional.jacobian(function, q)
    at_once = torch.autograd.functional.jacobian(function, q, vectorize=True)
    torch.testing.assert_close(one_by_one, at_once)


def test_compiled_autograd():
    compiled_autograd = pytest.importorskip("torch._dynamo.compiled_autograd")
    if not hasattr(compiled_autograd, "_enable"):
        pytest.skip("this torch has no compiled autograd to enable")
    q, k, v = tensors(*((1, 2, 70, 3),) * 3)
    right = torch.autograd.grad(seeded(attend, Call(q, k, v, None, P)).sum(), (q, k, v))
    out = seeded(attend, Call(q, k, v, None, P)).sum()
    with compiled_autograd._enable(torch.compile(backend="eager")):
        out.backward()
    for t, grad in zip((q, k, v), right, strict=True):
        torch.testing.assert_close(t.grad, grad)


def test_all_threads_give_the_same_gradients():
    call = Call(*tensors(*((2, 3, 300, 16),) * 3, dtype=torch.float32), None, P)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(results(attend, call))
    finally:
        torch.set_num_threads(before)
    for other in found[1:]:
        for a, b in zip(found[0], other, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-4, atol=1e-5)


def test_more_threads_than_heads():
    call = Call(*tensors((1, 1, 1000, 16), (1, 1, 700, 16), (1, 1, 700, 16)), None, P)
    for ours, theirs in zip(results(attend, call), results(attend_by_math, call), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-10, atol=1e-12)


# --- enable() and the public function ------------------------------------------------------------


def test_enable_takes_it(fused):
    q, k, v = tensors(*((2, 3, 140, 8),) * 3, dtype=torch.float32)
    torchs = seeded(F.scaled_dot_product_attention, q, k, v, None, P)
    assert not fused
    with ft.enabled() as names:
        assert "aten::scaled_dot_product_attention" in names
        ours = seeded(F.scaled_dot_product_attention, q, k, v, None, P)
        by_keywords = seeded(
            F.scaled_dot_product_attention, query=q, key=k, value=v, dropout_p=P, is_causal=True
        )
    assert len(fused) == 2
    assert not torch.equal(ours, torchs)
    assert torch.equal(ours, seeded(attention, q, k, v, None, P))
    assert torch.equal(by_keywords, seeded(attention, q, k, v, dropout_p=P, is_causal=True))


def test_inference_mode(fused):
    with torch.inference_mode(), ft.enabled():
        q = torch.randn(2, 3, 140, 8)
        ours = seeded(F.scaled_dot_product_attention, q, q, q, None, P)
    assert len(fused) == 1
    assert torch.equal(ours, seeded(attention, q.clone(), q.clone(), q.clone(), None, P))


def without_dropout():
    return F.scaled_dot_product_attention(*tensors(*((2, 140, 8),) * 3), None, 0.0)


def test_without_dropout_it_is_torchs(fused):
    theirs = seeded(without_dropout)
    with ft.enabled():
        ours = seeded(without_dropout)
    assert not fused
    assert torch.equal(ours, theirs)
    q, k, v = tensors(*((2, 140, 8),) * 3)
    state = torch.get_rng_state()
    assert torch.equal(attention(q, k, v), F.scaled_dot_product_attention(q, k, v))
    assert torch.equal(state, torch.get_rng_state())


MODELS = {
    "MultiheadAttention": lambda x: nn.MultiheadAttention(16, 2, dropout=P, batch_first=True)(
        x, x, x, need_weights=False
    )[0],
    "TransformerEncoderLayer": lambda x: nn.TransformerEncoderLayer(16, 2, 32, P, batch_first=True)(
        x
    ),
    "TransformerDecoderLayer": lambda x: nn.TransformerDecoderLayer(16, 2, 32, P, batch_first=True)(
        x,
        x,
        tgt_is_causal=True,
        tgt_mask=nn.Transformer.generate_square_subsequent_mask(x.shape[1]),
    ),
    "Transformer": lambda x: nn.Transformer(16, 2, 1, 1, 32, P, batch_first=True)(x, x),
}


@pytest.mark.parametrize("model", MODELS)
def test_models_have_it(model, fused, monkeypatch):
    x = torch.randn(2, 140, 16, requires_grad=True)
    with ft.enabled():
        torch.manual_seed(1)
        ours = MODELS[model](x)
        taken = len(fused)
        monkeypatch.setattr("fastdrop.torch._dispatch.is_fused", lambda call: False)
        torch.manual_seed(1)
        by_math = MODELS[model](x)
    assert taken == {"TransformerDecoderLayer": 2, "Transformer": 3}.get(model, 1)
    assert len(fused) == taken
    torch.testing.assert_close(ours, by_math, rtol=1e-3, atol=1e-4)


WRONG = {
    "p above 1": lambda q: ((q, q, q), {"dropout_p": 1.5}),
    "p below 0": lambda q: ((q, q, q), {"dropout_p": -0.5}),
    "widths": lambda q: ((q, q[..., :3], q), {}),
    "lengths": lambda q: ((q, q, q[:, :, :30]), {}),
    "dtypes": lambda q: ((q, q.double(), q), {}),
    "mask and causal": lambda q: ((q, q, q, torch.ones(40, 40) > 0), {"is_causal": True}),
    "mask's shape": lambda q: ((q, q, q, torch.ones(40, 7) > 0), {}),
    "mask's dtype": lambda q: ((q, q, q, torch.ones(40, 40, dtype=torch.int64)), {}),
    "groups": lambda q: ((q, q[:, :2], q[:, :2]), {"enable_gqa": True}),
    "one dimension": lambda q: ((q[0, 0, 0], q[0, 0, 0], q[0, 0, 0]), {}),
    "integers": lambda q: ((q.long(), q.long(), q.long()), {}),
}


@pytest.mark.parametrize("wrong", WRONG.values(), ids=WRONG)
def test_bad_arguments_have_torchs_errors(wrong):
    q = torch.randn(2, 3, 40, 8)
    arguments, named = wrong(q)
    named = {"dropout_p": P, **named}
    with pytest.raises(Exception) as theirs:  # noqa: PT011 - whatever torch raises
        F.scaled_dot_product_attention(*arguments, **named)
    for function in (F.scaled_dot_product_attention, attention):
        state = torch.get_rng_state()
        with ft.enabled(), pytest.raises(theirs.type) as ours:
            function(*arguments, **named)
        if "groups" not in str(wrong):
            assert str(ours.value).splitlines()[0] == str(theirs.value).splitlines()[0]
        assert torch.equal(state, torch.get_rng_state())


def test_empty_tensors_are_torchs():
    for shapes in (((0, 2, 5, 8),) * 3, ((2, 2, 0, 8), (2, 2, 5, 8), (2, 2, 5, 8))):
        q, k, v = tensors(*shapes)
        theirs = F.scaled_dot_product_attention(q, k, v, None, P)
        with ft.enabled():
            assert F.scaled_dot_product_attention(q, k, v, None, P).shape == theirs.shape
        assert attention(q, k, v, None, P).shape == theirs.shape


def test_a_probability_of_1_drops_all():
    q, k, v = tensors(*((2, 140, 8),) * 3)
    with ft.enabled():
        assert not F.scaled_dot_product_attention(q, k, v, None, 1.0).any()
    assert not attention(q, k, v, None, 1.0).any()


def test_a_mask_that_wants_a_gradient_goes_by_math(fused):
    q, k, v = tensors(*((2, 2, 140, 8),) * 3)
    mask = torch.randn(140, 140, dtype=torch.float64, requires_grad=True)
    with ft.enabled():
        out = seeded(F.scaled_dot_product_attention, q, k, v, mask, P)
    assert not fused
    (grad,) = torch.autograd.grad(out.sum(), mask)
    assert grad.any()
    expected = seeded(attend, Call(q, k, v, mask.detach(), P))
    torch.testing.assert_close(out, expected, rtol=1e-10, atol=1e-12)
    torch.testing.assert_close(
        seeded(attention, q, k, v, mask, P), expected, rtol=1e-10, atol=1e-12
    )


def test_generators():
    q, k, v = tensors(*((2, 2, 140, 8),) * 3)
    generator = torch.Generator().manual_seed(4)
    state = torch.get_rng_state()
    ours = attention(q, k, v, None, P, generator=generator)
    assert torch.equal(state, torch.get_rng_state())
    assert torch.equal(ours, seeded(attention, q, k, v, None, P, seed=4))
    with pytest.raises(
        TypeError, match=r"generator must be a torch\.Generator or None, but got int"
    ):
        attention(q, k, v, None, P, generator=4)
    with pytest.raises(RuntimeError, match="generator must be None for a tensor that fastdrop"):
        attention(q.to("meta"), k.to("meta"), v.to("meta"), None, P, generator=generator)


def test_autocast(fused):
    x = torch.randn(2, 2, 140, 8, requires_grad=True)
    with ft.enabled(), torch.autocast("cpu", torch.bfloat16):
        out = F.scaled_dot_product_attention(x, x, x, None, P)
        own = attention(x, x, x, None, P)
        masked = attention(x, x.bfloat16(), x, torch.zeros(140, 140), P)
    assert out.dtype is fused[0].query.dtype is torch.bfloat16
    assert own.dtype is masked.dtype is torch.bfloat16
    out.sum().backward()
    assert x.grad.dtype is torch.float32


def test_what_is_saved_is_no_matrix():
    length, saved = 600, []
    q, k, v = tensors(*((1, 2, length, 16),) * 3, dtype=torch.float32)
    with torch.autograd.graph.saved_tensors_hooks(lambda t: saved.append(t) or t, lambda t: t):
        attend(Call(q, k, v, None, P))
    assert sum(t.numel() for t in saved) < 5 * q.numel()


@pytest.mark.parametrize("reentrant", [False, True])
def test_checkpoints_draw_the_same_mask(reentrant, fused):
    q, k, v = tensors(*((2, 2, 140, 8),) * 3)

    def function(*three):
        return F.scaled_dot_product_attention(*three, None, P).sin()

    with ft.enabled():
        plain = seeded(function, q, k, v)
        right = torch.autograd.grad(plain.sum(), (q, k, v))
        again = seeded(checkpoint, function, q, k, v, use_reentrant=reentrant)
        assert torch.equal(plain, again)
        again.sum().backward()
    assert len(fused) == 3
    for t, grad in zip((q, k, v), right, strict=True):
        assert torch.equal(t.grad, grad)


def test_a_generator_is_refused_in_a_recomputation():
    q, k, v = tensors(*((2, 2, 140, 8),) * 3)
    generator = torch.Generator()
    out = checkpoint(
        lambda x: attention(x, k, v, None, P, generator=generator), q, use_reentrant=False
    )
    with pytest.raises(RuntimeError, match=r"inside torch\.utils.checkpoint"):
        out.sum().backward()


INDUCTOR = pytest.param(
    "inductor",
    False,
    marks=[
        pytest.mark.slow,
        pytest.mark.skipif(not shutil.which("g++"), reason="inductor needs a C++ compiler"),
    ],
)


GRAPHS = [(backend, dynamic) for backend in ("eager", "aot_eager") for dynamic in (False, True)]


@pytest.mark.parametrize(("backend", "dynamic"), [*GRAPHS, INDUCTOR])
def test_compiled(backend, dynamic):
    torch._dynamo.reset()
    q, k, v = tensors(*((2, 2, 140, 8),) * 3)

    def function(q, k, v):
        return F.scaled_dot_product_attention(q, k, v, None, P, True) * 2

    with ft.enabled():
        right = seeded(function, q, k, v)
        out = seeded(torch.compile(function, backend=backend, dynamic=dynamic), q, k, v)
        torch.testing.assert_close(out, right)
        expected = torch.autograd.grad(right.sin().sum(), (q, k, v))
        for a, b in zip(torch.autograd.grad(out.sin().sum(), (q, k, v)), expected, strict=True):
            torch.testing.assert_close(a, b)
    torch._dynamo.reset()


@pytest.mark.parametrize("p", [P, 1.0])
@pytest.mark.parametrize("leading", [(2, 2), (1, 2)])
def test_the_function_in_a_graph(p, leading):
    torch._dynamo.reset()
    q, k, v = tensors((2, 2, 70, 8), (*leading, 70, 8), (*leading, 70, 8))

    def function(q, k, v):
        return attention(q, k, v, None, p) * 2

    right = seeded(function, q, k, v)
    out = seeded(torch.compile(function, backend="aot_eager", fullgraph=True), q, k, v)
    torch.testing.assert_close(out, right)
    expected = torch.autograd.grad(right.sin().sum(), (q, k, v))
    for a, b in zip(torch.autograd.grad(out.sin().sum(), (q, k, v)), expected, strict=True):
        torch.testing.assert_close(a, b)
    torch._dynamo.reset()


def test_leading_dimensions_broadcast(fused):
    q, k, v = tensors((2, 3, 70, 8), (1, 3, 70, 8), (2, 1, 70, 8))
    with ft.enabled():
        out = seeded(F.scaled_dot_product_attention, q, k, v, None, P)
    assert len(fused) == 1
    right = seeded(attend_by_math, Call(q, k, v, None, P))
    torch.testing.assert_close(out, right, rtol=1e-10, atol=1e-12)
    for a, b in zip(*(torch.autograd.grad(y.sum(), (q, k, v)) for y in (out, right)), strict=True):
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-12)


def test_operands_that_are_one_or_are_made_of_each_other():
    q, k = tensors((1, 2, 9, 3), (1, 2, 9, 3))

    def function(q, k):
        return seeded(attend, Call(q, k, k, None, P)) + seeded(attend, Call(q, q * 2, k, None, P))

    assert torch.autograd.gradcheck(function, (q, k))
    assert torch.autograd.gradgradcheck(function, (q, k))
    key = _masks.new_key_tensor(None)
    out, _ = torch.ops.fastdrop.attention(q, k, k, key, None, P, 0.5, False)
    first = torch.autograd.grad(out.sum(), k, retain_graph=True)
    torch.testing.assert_close(torch.autograd.grad(out.sum(), k, create_graph=True), first)


def test_the_output_may_be_changed_in_place():
    for shape in SHAPES.values():
        q, k, v = tensors(*shape)
        out = attend(Call(q, k, v, None, P))
        assert out.mul_(2).sum().isfinite()
        with pytest.raises(RuntimeError, match="modified by an inplace operation"):
            out.sum().backward()  # as without dropout: the backward pass needs it
    with torch.no_grad():
        F.dropout(attend(Call(q, k, v, None, P)), 0.1, inplace=True)


def test_rows_too_far_apart_for_blas():
    try:
        memory = torch.empty((1 << 31) + 300, dtype=torch.float32)  # hardly any of it is touched
    except RuntimeError:
        pytest.skip("this system lends no memory that is not touched")
    q = torch.as_strided(memory, (1, 1, 2, 64), (0, 0, (1 << 31) + 64, 1)).normal_()
    near = q.contiguous()
    far = seeded(attend, Call(q, near, near, None, P))
    assert torch.equal(far, seeded(attend, Call(near, near, near, None, P)))


TYPES: dict[str, dict[str, Any]] = {
    "scale is text": {"scale": "a"},
    "scale is complex": {"scale": 1j},
    "is_causal is a number": {"is_causal": 1},
    "is_causal is None": {"is_causal": None},
    "enable_gqa is a number": {"enable_gqa": 1},
    "p is text": {"dropout_p": "a"},
    "p is None": {"dropout_p": None},
}


@pytest.mark.parametrize("named", TYPES.values(), ids=TYPES)
def test_wrong_types_have_torchs_errors(named):
    q = torch.randn(2, 3, 40, 8)
    state = torch.get_rng_state()
    for function in (F.scaled_dot_product_attention, attention):
        with ft.enabled(), pytest.raises(TypeError):
            function(q, q, q, **{"dropout_p": P, **named})
    assert torch.equal(state, torch.get_rng_state())


def test_numbers_of_other_types():
    q = torch.randn(2, 3, 40, 8)
    right = seeded(attention, q, q, q, dropout_p=0.25, scale=1.0)
    for p in (torch.tensor(0.25), np.float32(0.25), np.float64(0.25)):
        assert torch.equal(seeded(attention, q, q, q, dropout_p=p, scale=1), right)
    assert not attention(q, q, q, dropout_p=1).any()
    generator = torch.Generator()
    assert not attention(q, q, q, dropout_p=1.0, generator=generator).any()
    empty = q[:, :, :0]
    assert attention(empty, q, q, dropout_p=P, generator=generator).shape == empty.shape


def test_exported_and_traced():
    class Model(nn.Module):
        def forward(self, q, k, v):
            return F.scaled_dot_product_attention(q, k, v, None, P)

    q, k, v = tensors(*((2, 2, 140, 8),) * 3, grad=False)
    with ft.enabled():
        right = seeded(Model(), q, k, v)
        exported = torch.export.export(Model(), (q, k, v))
        assert torch.equal(seeded(exported.module(), q, k, v), right)
        traced = seeded(torch.jit.trace, Model(), (q, k, v), check_trace=False)
        assert torch.equal(seeded(traced, q, k, v), right)


def test_operators_are_registered_right():
    q, k, v = tensors(*((1, 2, 40, 8),) * 3)
    arguments = q, k, v, _masks.new_key_tensor(None), None, P, 0.5, False
    torch.library.opcheck(torch.ops.fastdrop.attention.default, arguments)


def test_transforms_are_torchs(fused):
    q = torch.randn(3, 2, 140, 8)
    with ft.enabled():
        out = torch.func.vmap(
            lambda x: F.scaled_dot_product_attention(x, x, x, None, P), randomness="different"
        )(q)
        torch.func.grad(lambda x: F.scaled_dot_product_attention(x, x, x, None, P).sum())(q)
        F.scaled_dot_product_attention(*[q.to("meta")] * 3, None, P)
    assert out.shape == q.shape
    assert not fused


def test_forward_derivatives_go_by_math(fused):
    q, k, v = tensors(*((1, 2, 20, 4),) * 3, grad=False)
    with ft.enabled(), torch.autograd.forward_ad.dual_level():
        dual = torch.autograd.forward_ad.make_dual(q, torch.ones_like(q))
        out = F.scaled_dot_product_attention(dual, k, v, None, P)
        assert torch.autograd.forward_ad.unpack_dual(out).tangent is not None
    assert not fused


def test_no_memory_is_an_error(monkeypatch):
    q = torch.randn(1, 2, 200, 8)
    monkeypatch.setattr(
        _attention, "core", type("Core", (), {"attend": staticmethod(lambda *_: -1)})
    )
    with pytest.raises((RuntimeError, MemoryError)):
        attend(Call(q, q, q, None, P))
