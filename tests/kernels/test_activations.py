"""Activations fused with dropout: their values to the last bits, everywhere, and as torch's."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
from paths import ROOT
from support import any_bits, contents, dtype_of, poisoned

import fastdrop
from fastdrop._formulas import coefficients
from fastdrop._formulas.activations import ACTIVATIONS

REAL = ["float16", "bfloat16", "float32", "float64"]
every_activation = pytest.mark.parametrize("activation", ACTIVATIONS)
every_dtype = pytest.mark.parametrize("dtype", REAL)


def numbers(dtype: str) -> np.ndarray:
    """Return every number of a half precision, or many of another and all special ones."""
    if dtype in ("float16", "bfloat16"):
        return np.arange(1 << 16, dtype=np.uint16).view(dtype_of(dtype))
    rng = np.random.default_rng(0)
    special = [0.0, -0.0, math.inf, -math.inf, math.nan, 1e30, -1e30, 88.0, -88.4, -709.0, 13.25]
    parts = [rng.normal(size=20_000) * spread for spread in (1e-3, 1, 10, 100, 1000)]
    plain = np.concatenate([*parts, np.linspace(-20, 20, 20_001), special]).astype(dtype)
    return np.concatenate([plain, any_bits((50_000,), dtype)])


def single(x: np.ndarray) -> np.ndarray:
    """Return halves in single precision, which is what they are computed in."""
    return x.astype(np.float32) if x.itemsize == 2 else x


# Bits.


@every_dtype
@every_activation
def test_kernels_are_the_reference_to_the_bit(activation: str, dtype: str, isa: str) -> None:
    check_against_the_reference(activation, dtype)


@every_dtype
@every_activation
def test_backends_are_the_reference_to_the_bit(activation: str, dtype: str, backend: str) -> None:
    check_against_the_reference(activation, dtype)


def check_against_the_reference(activation: str, dtype: str) -> None:
    x = numbers(dtype)
    grad = np.where(np.isnan(single(x)), np.ones((), x.dtype), x)[::-1].copy()  # two NaNs may vary
    results = []
    for name in (fastdrop.get_backend(), "reference"):
        with fastdrop.use_backend(name):
            y, mask = fastdrop.act_dropout(x, activation, 0.3, rng=1, return_mask=True)
            back = fastdrop.act_dropout_backward(grad, x, mask, activation=activation)
        results.append((contents(y), contents(back)))
    assert results[0] == results[1]
    out = poisoned(x.shape, x.dtype)
    assert fastdrop.act_dropout(x, activation, 0.3, rng=1, out=out) is out
    assert contents(out) == results[1][0]
    for own in (x.copy(), grad.copy()):
        of_x = (grad, own) if contents(own) == contents(x) else (own, x)
        fastdrop.act_dropout_backward(*of_x, mask, activation=activation, out=own)
        assert contents(own) == results[1][1]


@every_activation
def test_layouts_and_threads_agree(activation: str, backend: str, threads: int) -> None:
    x = np.random.default_rng(0).normal(size=(6, 5, 701)).astype(np.float32)
    y, mask = fastdrop.act_dropout(x, activation, 0.3, rng=4, return_mask=True)
    back = fastdrop.act_dropout_backward(x, x, mask, activation=activation)
    for layout in (np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2], x.astype(">f4")):
        assert np.array_equal(fastdrop.act_dropout(layout, activation, 0.3, rng=4), y)
        other = fastdrop.act_dropout_backward(layout, layout, mask, activation=activation)
        assert np.array_equal(other, back)
    tiny = np.array(0.5, np.float32)
    assert fastdrop.act_dropout(tiny, activation, 0.0).shape == ()


@every_activation
def test_one_pass_is_the_separate_ones(activation: str, backend: str) -> None:
    x = np.random.default_rng(0).normal(size=(40, 701))
    alone = fastdrop.act_dropout(x, activation, training=False)
    y = fastdrop.act_dropout(x, activation, 0.3, rng=4)
    assert contents(y) == contents(fastdrop.dropout(alone, 0.3, rng=4))


def test_both_languages_have_the_same_coefficients() -> None:
    header = (ROOT / "fastdrop" / "_cy" / "math" / "coefficients.h").read_text()
    found = {}
    for line in header.replace("{\n", "{").split(";"):
        if "=" in line:
            name, values = line.split("drop_")[1].split(" = ")
            words = values.replace("{", " ").replace("}", " ").replace(",", " ").split()
            found[name.removesuffix("[]")] = [float(word.rstrip("f")) for word in words]
    for suffix, table in (("f32", coefficients.SINGLE), ("f64", coefficients.DOUBLE)):
        for name, value in table._asdict().items():
            values = np.array(found.pop(f"{name}_{suffix}"), value.dtype)
            assert np.array_equal(values, np.atleast_1d(value)), name
    assert not found


# Values.

# activation: the largest error in units of the last place, where results are normal numbers.
ULPS = {"relu": 0, "gelu": 7, "silu": 4}
# And that of all, of gelu_tanh too, and of slopes, in the units that 1 has in its last place.
OF_X, OF_SLOPE = 2, 4


def oracle(activation: str, x: float) -> tuple[Any, Any]:
    """Return an activation and its slope with 40 digits."""
    mpmath = pytest.importorskip("mpmath")
    with mpmath.workdps(40):
        x = mpmath.mpf(x)
        if activation == "gelu":
            return x * mpmath.ncdf(x), mpmath.ncdf(x) + x * mpmath.npdf(x)
        if activation == "relu":
            return max(x, 0), int(x > 0)
        c = 2 * mpmath.sqrt(2 / mpmath.pi) if activation == "gelu_tanh" else mpmath.mpf(1)
        cube = mpmath.mpf("0.044715") if activation == "gelu_tanh" else 0
        u, rise = c * (x + cube * x**3), c * (1 + 3 * cube * x**2)
        below, above = 1 / (1 + mpmath.exp(-u)), 1 / (1 + mpmath.exp(u))
        return x * below, below + x * below * above * rise


def slope(activation: str, x: np.ndarray) -> np.ndarray:
    backward = ACTIVATIONS[activation][1]
    return backward(np.ones_like(x), x)


@pytest.mark.slow
@every_activation
@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_values_are_accurate_tails_included(activation: str, dtype: str) -> None:
    """Against 40 digits, on a grid of ten thousand points."""
    last = 88.0 if dtype == "float32" else 709.0
    x = np.concatenate([np.linspace(-40, 12, 5001), np.linspace(-last, last, 3001)])
    x = np.concatenate([x, -np.logspace(-20, 0, 1001), np.logspace(-20, 0, 1001)]).astype(dtype)
    with np.errstate(under="ignore"):
        y, gradient = ACTIVATIONS[activation][0](x), slope(activation, x)
    info = np.finfo(dtype)
    for value, derivative, point in zip(y, gradient, x, strict=True):
        exact, exact_slope = oracle(activation, float(point))
        error = abs(float(value) - exact)
        assert error <= OF_X * info.eps * abs(float(point)), point
        assert abs(float(derivative) - exact_slope) <= OF_SLOPE * info.eps, point
        # Farther out the exponential in it is no normal number, and 0 takes its place.
        if activation in ULPS and abs(exact) > 2 * info.smallest_normal * abs(float(point)):
            assert error <= ULPS[activation] * float(np.spacing(abs(value))), point


@every_activation
def test_single_precision_is_accurate_everywhere(activation: str) -> None:
    """Against double precision, on a million points."""
    x = np.linspace(-90, 90, 1_000_001).astype(np.float32)
    x = np.concatenate([x, np.linspace(-14, 14, 1_000_001).astype(np.float32)])
    with np.errstate(under="ignore"):
        y, exact = (ACTIVATIONS[activation][0](a) for a in (x, x.astype(np.float64)))
        gradient, exact_slope = (slope(activation, a) for a in (x, x.astype(np.float64)))
    error, eps = np.abs(y - exact), np.finfo(np.float32).eps
    assert (error <= OF_X * eps * np.abs(x)).all()
    assert np.abs(gradient - exact_slope).max() <= OF_SLOPE * eps
    if activation in ULPS:
        normal = np.abs(exact) > 2e-36  # see above
        assert (error[normal] <= ULPS[activation] * np.spacing(np.abs(y[normal]))).all()
        assert error[~normal].max(initial=0) < 1e-36


# Side by side with torch.


def torchs(activation: str) -> Any:
    functional = pytest.importorskip("torch").nn.functional
    if activation == "gelu_tanh":
        return lambda t: functional.gelu(t, approximate="tanh")
    return getattr(functional, activation)


# Torch's own error, and ours: a few units, of x or of the slope's size, which is about 1.
TOLERANCE = {"float16": 2e-3, "bfloat16": 1.6e-2, "float32": 1e-6, "float64": 2e-15}


@every_dtype
@every_activation
def test_forward_and_backward_are_torchs(activation: str, dtype: str, backend: str) -> None:
    torch = pytest.importorskip("torch")
    rng = np.random.default_rng(0)
    x, grad = (rng.normal(size=(60, 701)) * spread for spread in (3, 1))
    tx, tgrad = (torch.tensor(a, dtype=getattr(torch, dtype)) for a in (x, grad))
    x, grad = (t.double().numpy().astype(dtype_of(dtype)) for t in (tx, tgrad))
    y, mask = fastdrop.act_dropout(x, activation, 0.25, rng=1, return_mask=True)
    back = fastdrop.act_dropout_backward(grad, x, mask, activation=activation)
    tx.requires_grad_()
    ty = torchs(activation)(tx) * torch.tensor(mask.to_bool() * mask.scale).to(tx.dtype)
    ty.backward(tgrad)
    close = TOLERANCE[dtype]
    # torch's 1 + tanh(u) cancels on the negative side, and its slope multiplies that by 3 u.
    near = 10 * close if activation == "gelu_tanh" else 4 * close
    for ours, theirs in ((y, ty.detach()), (back, tx.grad)):
        np.testing.assert_allclose(
            ours.astype(np.float64), theirs.double().numpy(), rtol=2 * close, atol=near
        )


@every_dtype
@every_activation
def test_special_values_are_torchs(activation: str, dtype: str, backend: str) -> None:
    """Signs of zeros, infinities and NaN; and where torch itself is not sure, the limit."""
    torch = pytest.importorskip("torch")
    huge = 6e4 if dtype == "float16" else 1e38
    points = [0.0, -0.0, math.inf, -math.inf, math.nan, huge, -huge, 1.0, -1.0, 200.0, -200.0]
    t = torch.tensor(points * 8, dtype=getattr(torch, dtype), requires_grad=True)
    value = torchs(activation)(t)
    value.backward(torch.ones_like(value))
    x = t.detach().double().numpy().astype(dtype_of(dtype))
    y, mask = fastdrop.act_dropout(x, activation, 0.0, return_mask=True)
    slope = fastdrop.act_dropout_backward(np.ones_like(x), x, mask, activation=activation)
    y, slope = y.astype(np.float64), slope.astype(np.float64)
    expected, expected_slope = (a.detach().double().numpy() for a in (value, t.grad))
    if activation == "gelu":
        # torch's single precision makes NaN of gelu(inf), its double precision does not.
        expected = np.where(x == math.inf, math.inf, expected)
        # Without AVX-512 torch's gelu(-0.0) is 0.0, and so are those of numbers far below 0.
        expected = np.where(expected == 0, np.copysign(0.0, x.astype(np.float64)), expected)
    if activation == "gelu_tanh":
        # A square overflows in torch's slope at large numbers, and NaN comes of it.
        wide = x.astype(np.float64)
        far = np.isfinite(wide) & (np.abs(wide) >= 200)
        expected_slope = np.where(far, wide > 0, expected_slope)
    if activation == "relu":
        expected = np.where(x == 0, 0.0, expected)  # torch's relu(-0.0) is -0.0
    close = {"rtol": 4 * TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    np.testing.assert_allclose(y, expected, **close)
    np.testing.assert_allclose(slope, expected_slope, **close)
    zeros = (y == 0) & (expected == 0)
    assert np.array_equal(np.signbit(y[zeros]), np.signbit(expected[zeros]))


@every_activation
def test_backward_is_the_slope(activation: str, backend: str) -> None:
    """By central differences of the forward under the same mask."""
    rng = np.random.default_rng(0)
    x, grad = (rng.normal(size=(30, 701)) for _ in range(2))
    if activation == "relu":
        x = np.where(np.abs(x) < 1e-3, 1.0, x)  # away from its corner
    mask = fastdrop.act_dropout(x, activation, 0.3, rng=1, return_mask=True)[1]
    back = fastdrop.act_dropout_backward(grad, x, mask, activation=activation)
    step = 1e-4
    above, below = (fastdrop.act_dropout(x + h, activation, 0.3, rng=1) for h in (step, -step))
    np.testing.assert_allclose(back, grad * (above - below) / (2 * step), rtol=1e-6, atol=1e-6)


# What it takes.


def test_it_is_the_identity_of_nothing() -> None:
    """Out of training and for p = 0 the activation is left, and no random number is spent."""
    x, rng = np.linspace(-3, 3, 701), fastdrop.Philox(1)
    for activation in ACTIVATIONS:
        y = fastdrop.act_dropout(x, activation, 0.5, False, rng=rng)
        assert contents(y) == contents(fastdrop.act_dropout(x, activation, 0.0, rng=rng))
        assert not np.array_equal(y, x)
    assert rng.position == 0
    assert contents(fastdrop.act_dropout(x, p=1.0)) == contents(np.zeros_like(x))


def test_relu_dropout_is_its_relu(backend: str) -> None:
    x = np.random.default_rng(0).normal(size=5000).astype(np.float32)
    y, mask = fastdrop.relu_dropout(x, 0.3, rng=1, return_mask=True)
    assert contents(fastdrop.act_dropout(x, "relu", 0.3, rng=1)) == contents(y)
    back = fastdrop.relu_dropout_backward(x, x, mask)
    assert contents(back) == contents(fastdrop.act_dropout_backward(x, y, mask))


def test_bad_arguments_are_refused_before_anything_is_spent() -> None:
    x, rng = np.ones(5), fastdrop.Philox(1)
    with pytest.raises(ValueError, match=r"one of \['relu', 'gelu', 'gelu_tanh', 'silu'\], but"):
        fastdrop.act_dropout(x, "swish", rng=rng)
    with pytest.raises(ValueError, match="activation must be one of"):
        fastdrop.act_dropout(x, 0.5, rng=rng)
    with pytest.raises(TypeError, match="x must be of a real dtype for an activation"):
        fastdrop.act_dropout(x.astype(np.complex64), "gelu", rng=rng)
    with pytest.raises(ValueError, match="between 0 and 1"):
        fastdrop.act_dropout(x, "gelu", 2.0, rng=rng)
    store = np.ones(6)
    with pytest.raises(ValueError, match="overlaps in part"):
        fastdrop.act_dropout(store[1:], "gelu", rng=rng, out=store[:-1])
    assert rng.position == 0
    mask = fastdrop.dropout(x, return_mask=True, rng=0)[1]
    for grad, operand, error, message in (
        (np.ones(4), np.ones(4), ValueError, "mask's shape"),
        (x, np.ones(4), ValueError, "x must have grad's shape"),
        (x, x.astype(np.float32), TypeError, "x must have grad's dtype"),
        (x.astype(complex), x.astype(complex), TypeError, "grad must be of a real dtype"),
    ):
        with pytest.raises(error, match=message):
            fastdrop.act_dropout_backward(grad, operand, mask, activation="silu")
    with pytest.raises(TypeError, match=r"must be a fastdrop\.Mask"):
        fastdrop.act_dropout_backward(x, x, mask.to_bool(), activation="silu")
    with pytest.raises(ValueError, match="activation must be one of"):
        fastdrop.act_dropout_backward(x, x, mask, activation="tanh")
