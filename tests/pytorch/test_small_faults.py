"""Alpha dropout's rounding, second backward passes, and arguments that are not quite right."""

from __future__ import annotations

import warnings
from functools import partial

import pytest

torch = pytest.importorskip("torch")
F = torch.nn.functional

from torch_support import MODULES, affine  # noqa: E402

import fastdrop.torch as ft  # noqa: E402

SHAPES = {
    "dropout": (20, 30),
    "dropout1d": (20, 30, 4),
    "dropout2d": (20, 30, 4, 2),
    "dropout3d": (20, 30, 4, 2, 2),
    "alpha_dropout": (20, 30),
    "feature_alpha_dropout": (20, 30, 4),
}
ALPHAS = {"alpha_dropout": (20_000,), "feature_alpha_dropout": (40, 100, 5)}
DTYPES = [torch.bfloat16, torch.float16, torch.float32]
SIZES = [16, 300, 5000, 100_000]


@pytest.fixture(autouse=True)
def _seed():
    torch.manual_seed(7)


@pytest.fixture(params=["enabled", "functional"])
def functional(request):
    if request.param == "functional":
        yield ft.functional
    else:
        with ft.enabled():
            yield F


def exact(x, y, p):
    """Return which elements alpha dropout kept, and what they would be without rounding."""
    a, b, dropped = affine(p)
    if_kept = a * x.double() + b
    kept = (y.double() - if_kept).abs() < (y.double() - dropped).abs()
    return kept, torch.where(kept, if_kept, dropped)


@pytest.mark.parametrize("p", [0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ALPHAS)
@pytest.mark.parametrize("inplace", [False, True])
def test_alpha_dropout_is_rounded_once(functional, inplace, name, dtype, p):
    x = torch.randn(ALPHAS[name]).to(dtype)
    original = x.clone()
    y = getattr(functional, name)(x, p, True, inplace)
    kept, expected = exact(original, y, p)
    assert abs(kept.double().mean().item() - (1 - p)) < 0.03
    if dtype == torch.float32:
        a, b, _ = affine(p)
        largest = torch.where(kept, a * original.double().abs() + b, expected.abs())
        bound = 1.5 * torch.finfo(dtype).eps * largest
        assert ((y - expected).abs() <= bound).all()
    else:  # coefficients in float32 are as good as exact, but for what lies half-way
        assert (y == expected.to(dtype)).double().mean() > 0.998


@pytest.mark.parametrize("p", [1e-12, 0.01, 0.1, 0.5, 0.9])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ALPHAS)
def test_alpha_dropout_is_as_exact_as_torchs(functional, name, dtype, p):
    x = torch.randn(ALPHAS[name]).to(dtype)

    def error(y):
        return (y.double() - exact(x, y, p)[1]).square().mean().sqrt().item()

    ours = error(getattr(functional, name)(x, p, True))
    with torch.enable_grad():
        operator = getattr(torch.ops.aten, name).default
        key = torch._C.DispatchKey.CompositeImplicitAutograd
        torchs = error(operator._op_dk(key, x, p, True))
    assert ours <= 1.05 * torchs + 1e-12


@pytest.mark.parametrize("n", [16, 300, 5000])
@pytest.mark.parametrize("requires_grad", [False, True])
@pytest.mark.parametrize("dtype", DTYPES)
def test_alpha_dropout_keeps_small_inputs_apart(functional, dtype, requires_grad, n):
    p = 0.01
    a, b, _ = affine(p)
    for value in 0.0, 0.003, -0.003:
        x = torch.full((n,), value, dtype=dtype, requires_grad=requires_grad)
        y = functional.alpha_dropout(x, p, True)
        kept = y[y > 0].double()
        expected = torch.tensor(a * x[0].item() + b, dtype=torch.float64)
        assert kept.numel() > 0.8 * n
        assert ((kept - expected).abs() <= torch.finfo(dtype).eps * expected).all()


@pytest.mark.parametrize("name", ALPHAS)
@pytest.mark.parametrize("scale", [1.0, 1e-3, 1e-7])
def test_alpha_dropout_of_almost_nothing_loses_nothing(functional, scale, name):
    x = torch.randn(ALPHAS[name]) * scale
    y = getattr(functional, name)(x, 1e-12, True)
    torch.testing.assert_close(y, (x.double() + affine(1e-12)[1]).float(), rtol=2e-7, atol=0)


@pytest.mark.parametrize("p", [0.1, 0.5])
@pytest.mark.parametrize("dtype", DTYPES)
@pytest.mark.parametrize("name", ALPHAS)
@pytest.mark.parametrize("inplace", [False, True])
def test_alpha_dropouts_gradient_is_its_slope(functional, inplace, name, dtype, p):
    x = torch.randn(ALPHAS[name]).to(dtype).requires_grad_()
    y = getattr(functional, name)(x.clone(), p, True, inplace)
    y.backward(torch.ones_like(y))
    kept, _ = exact(x.detach(), y.detach(), p)
    a, _, dropped = affine(p)
    # Where x is near -ALPHA, kept and dropped look alike.
    clear = (a * x.detach().double() + affine(p)[1] - dropped).abs() > 0.05
    slope = torch.tensor(a, dtype=dtype)
    assert clear.double().mean() > 0.95
    torch.testing.assert_close(
        x.grad[clear],
        torch.where(kept, slope, 0)[clear],
        rtol=torch.finfo(dtype).eps,
        atol=0,
    )


WAYS = {
    "dropout": lambda x: F.dropout(x),
    "in place": lambda x: F.dropout(x.clone(), inplace=True),
    "alpha_dropout": lambda x: F.alpha_dropout(x, 0.5, True),
    "dropout2d": lambda x: F.dropout2d(x.view(-1, 2, 2, 1)),
    "functional": lambda x: ft.functional.dropout(x),
    "generator": lambda x: ft.functional.dropout(x, generator=torch.Generator()),
    "generator, in place": lambda x: ft.functional.dropout(
        x.clone(), inplace=True, generator=torch.Generator()
    ),
    "not contiguous": lambda x: F.dropout(x.view(-1, 2).t()),
}


@pytest.mark.parametrize("way", WAYS)
@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("retained", [False, True])
def test_second_backward(way, n, retained):
    """A sum keeps nothing for its backward pass: that there is none again is dropout's to say."""
    x = torch.ones(n, requires_grad=True)
    with ft.enabled():
        y = WAYS[way](x).sum()
    if retained:
        y.backward(retain_graph=True)
        once = x.grad.clone()
        y.backward()
        assert torch.equal(x.grad, 2 * once)
    else:
        y.backward()
    with pytest.raises(RuntimeError, match="backward through the graph a second time"):
        y.backward()


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("p", [0.5, 0.0, 1.0])
@pytest.mark.parametrize("how", ["functional", "module", "convert", "enabled"])
def test_p_as_a_tensor(name, how, p):
    x = torch.randn(SHAPES[name])
    tensor = torch.tensor(p)
    if how == "functional":
        f = partial(getattr(ft.functional, name), p=tensor, training=True)
    elif how == "module":
        f = getattr(ft, MODULES[name])(tensor)
    elif how == "convert":
        f = ft.convert(getattr(torch.nn, MODULES[name])(tensor))
    else:
        f = partial(getattr(F, name), p=tensor, training=True)
    torch.manual_seed(1)
    expected = getattr(ft.functional, name)(x, p, True)
    with ft.enabled():
        torch.manual_seed(1)
        assert torch.equal(f(x), expected)


@pytest.mark.parametrize("name", SHAPES)
@pytest.mark.parametrize("how", ["functional", "module", "convert"])
@pytest.mark.parametrize("generator", [5, "5", 0], ids=repr)
def test_a_generator_that_is_none(name, how, generator):
    x = torch.ones(SHAPES[name])
    state = torch.get_rng_state()

    def drop():
        if how == "functional":
            return getattr(ft.functional, name)(x, 0.5, True, True, generator=generator)
        if how == "module":
            return getattr(ft, MODULES[name])(0.5, True, generator=generator)(x)
        return ft.convert(getattr(torch.nn, MODULES[name])(0.5, True), generator=generator)(x)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        with pytest.raises(TypeError) as error:
            drop()
    words = str(error.value)
    assert "generator must be" in words
    assert "torch.Generator" in words
    assert repr(generator) in words or type(generator).__name__ in words
    assert torch.equal(torch.get_rng_state(), state)
    assert torch.equal(x, torch.ones(SHAPES[name]))
