"""Fused operations: one pass gives what the separate passes give."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from support import DTYPES, contents, dtype_of, poisoned

import fastdrop

REAL = [name for name in DTYPES if not name.startswith("complex")]
SHAPE = (6, 5, 701)


def sample(name: str, seed: int = 0, shape: tuple[int, ...] = SHAPE) -> np.ndarray:
    rng = np.random.default_rng(seed)
    x = rng.normal(size=shape)
    return (x + 1j * rng.normal(size=shape) if "complex" in name else x).astype(dtype_of(name))


def in_single(x: np.ndarray) -> np.ndarray:
    """Return halves in single precision, which is what they are computed in."""
    return x.astype(np.float32) if x.itemsize == 2 else x


def calls(x: np.ndarray) -> dict[str, tuple[Any, Any]]:
    """Return each operation and the passes that it stands for."""
    name = x.dtype.name
    residual, bias = sample(name, 1), sample(name, 2, (701,))
    wide, wide_residual, wide_bias = in_single(x), in_single(residual), in_single(bias)

    def plain(value: np.ndarray) -> np.ndarray:
        return fastdrop.dropout(value, 0.3, rng=4)

    def run(function: Any, *operands: Any) -> Any:
        return lambda **k: function(k.pop("x", x), *operands, p=0.3, rng=4, **k)

    made = {
        "dropout_add": (run(fastdrop.dropout_add, residual), plain(wide) + wide_residual),
        "bias_dropout": (run(fastdrop.bias_dropout_add, bias), plain(wide + wide_bias)),
        "bias_dropout_add": (
            run(fastdrop.bias_dropout_add, bias, residual),
            plain(wide + wide_bias) + wide_residual,
        ),
    }
    if name in REAL:
        relu = plain(np.where(wide <= 0, wide.dtype.type(0), wide))
        made["relu_dropout"] = (run(fastdrop.relu_dropout), relu)
    return {key: (call, y.astype(x.dtype)) for key, (call, y) in made.items()}


@pytest.mark.parametrize("dtype", DTYPES)
def test_one_pass_is_bit_for_bit_the_separate_ones(dtype: str, backend: str, threads: int) -> None:
    x = sample(dtype)
    for name, (call, expected) in calls(x).items():
        assert contents(call()) == contents(expected), name
        out = poisoned(SHAPE, x.dtype)
        assert call(out=out) is out
        assert contents(out) == contents(expected), name
        for layout in (np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2]):
            assert contents(call(x=layout)) == contents(expected), name
            assert call(x=layout, out=layout) is layout
            assert contents(layout) == contents(expected), name


@pytest.mark.parametrize("dtype", DTYPES)
def test_in_place_is_out_of_place(dtype: str, backend: str) -> None:
    x = sample(dtype)
    for name, (call, expected) in calls(x).items():
        for layout in (x.copy(), np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2]):
            assert call(x=layout, inplace=True) is layout
            assert contents(layout) == contents(expected), name
        own = x.copy()
        y, mask = call(x=own, inplace=True, out=own, return_mask=True)
        assert y is own
        assert mask.shape == x.shape
        with pytest.raises(ValueError, match="inplace=True writes into x"):
            call(inplace=True, out=np.empty_like(x))


def test_in_place_with_a_mask_of_ones_own_and_out_of_training() -> None:
    x, kept = sample("float32"), sample("float32", 5) > 0
    mask = fastdrop.ArrayMask(kept, p=0.5)
    y = x.copy()
    assert fastdrop.dropout_add(y, x, inplace=True, mask=mask) is y
    np.testing.assert_array_equal(y, x + mask.apply(x))
    y = x.copy()
    assert fastdrop.relu_dropout(y, training=False, inplace=True) is y
    np.testing.assert_array_equal(y, np.maximum(x, 0))
    y = x.copy()
    assert fastdrop.dropout_add(y, y, training=False, inplace=True) is y
    np.testing.assert_array_equal(y, x + x)


def test_in_place_may_not_write_over_an_operand() -> None:
    x = np.ones((4, 6))
    for operand in (x[0], x[:, :1]):
        with pytest.raises(ValueError, match="x, with inplace=True, must be bias itself"):
            fastdrop.bias_dropout_add(x, operand, inplace=True, rng=1)
    readonly = np.broadcast_to(1.0, (4, 6))
    with pytest.raises(ValueError, match=r"x, with inplace=True, must be writable"):
        fastdrop.dropout_add(readonly, x, inplace=True)
    assert (x == 1).all()


@pytest.mark.parametrize("dtype", REAL)
def test_relu_backward_is_the_separate_ones(dtype: str, backend: str) -> None:
    x, grad = sample(dtype), sample(dtype, 3)
    x[0, 0, :3] = [np.nan, 0.0, -0.0]
    mask = fastdrop.relu_dropout(x, 0.3, rng=4, return_mask=True)[1]
    zero = grad.dtype.type(0)
    expected = mask.apply(np.where(np.asarray(x, np.float64) <= 0, zero, grad))
    assert contents(fastdrop.relu_dropout_backward(grad, x, mask)) == contents(expected)
    out = grad.copy()
    assert fastdrop.relu_dropout_backward(out, x, mask, out=out) is out
    assert contents(out) == contents(expected)


def test_backward_is_torchs_autograd(backend: str) -> None:
    torch = pytest.importorskip("torch")
    x, residual, bias = sample("float64"), sample("float64", 1), sample("float64", 2, (701,))
    grad = sample("float64", 3)
    y, mask = fastdrop.bias_dropout_add(x, bias, residual, 0.3, rng=1, return_mask=True)
    tx, tr, tb = (torch.tensor(a, requires_grad=True) for a in (x, residual, bias))
    kept = torch.tensor(mask.to_bool() * mask.scale)
    ty = tr + (tx + tb) * kept
    ty.backward(torch.tensor(grad))
    gx = fastdrop.dropout_backward(grad, mask)
    np.testing.assert_allclose(y, ty.detach().numpy(), rtol=1e-13)
    np.testing.assert_allclose(gx, tx.grad.numpy(), rtol=1e-13)
    np.testing.assert_allclose(gx.sum((0, 1)), tb.grad.numpy(), rtol=1e-12, atol=1e-12)
    np.testing.assert_array_equal(grad, tr.grad.numpy())
    y, mask = fastdrop.relu_dropout(x, 0.3, rng=1, return_mask=True)
    tx.grad = None
    (torch.relu(tx) * torch.tensor(mask.to_bool() * mask.scale)).backward(torch.tensor(grad))
    gx = fastdrop.relu_dropout_backward(grad, x, mask)
    np.testing.assert_allclose(gx, tx.grad.numpy(), rtol=1e-13)


def test_eval_mode_and_p_0_keep_everything_and_spend_nothing(backend: str) -> None:
    x, residual, rng = sample("float32"), sample("float32", 1), fastdrop.Philox(1)
    for settings in ({"p": 0.0}, {"training": False}):
        assert np.array_equal(fastdrop.dropout_add(x, residual, **settings, rng=rng), x + residual)
        y = fastdrop.relu_dropout(x, **settings, rng=rng)
        assert np.array_equal(y, np.maximum(x, 0))
    assert rng.position == 0


@pytest.mark.parametrize("generator", [np.random.MT19937, np.random.PCG64, fastdrop.PCG64])
def test_any_generator_drives_them(generator: Any, backend: str) -> None:
    x, residual = sample("float32"), sample("float32", 1)
    y = fastdrop.dropout_add(x, residual, 0.3, rng=generator(3))
    assert np.array_equal(y, fastdrop.dropout(x, 0.3, rng=generator(3)) + residual)


def test_residual_may_be_the_output(backend: str) -> None:
    x, residual = sample("float32"), sample("float32", 1)
    expected = fastdrop.dropout_add(x, residual, rng=2)
    assert fastdrop.dropout_add(x, residual, rng=2, out=residual) is residual
    assert np.array_equal(residual, expected)


def test_bad_operands_are_refused_before_anything_is_spent() -> None:
    x, rng = np.ones((4, 6)), fastdrop.Philox(1)
    bad: list[tuple[Any, type[Exception], str, dict[str, Any]]] = [
        (np.ones((4, 6), np.float32), TypeError, "residual must have x's dtype", {}),
        (np.ones((3, 6)), ValueError, "residual must have x's shape", {}),
        (np.ones((2, 4, 6)), ValueError, "residual must have x's shape", {}),
        ([1.0], TypeError, "residual must be a numpy.ndarray", {}),
    ]
    store = np.ones((5, 6))
    bad.append((store[1:], ValueError, "out must be residual itself", {"out": store[:-1]}))
    for residual, error, message, more in bad:
        with pytest.raises(error, match=message):
            fastdrop.dropout_add(x, residual, rng=rng, **more)
    row = np.ones((1, 6))
    with pytest.raises(ValueError, match="out must be bias itself"):
        fastdrop.bias_dropout_add(row, row[0], rng=rng, out=row)
    with pytest.raises(TypeError, match="real dtype"):
        fastdrop.relu_dropout(np.ones(3, np.complex64), rng=rng)
    mask = fastdrop.dropout(np.ones(5), return_mask=True, rng=0)[1]
    with pytest.raises(ValueError, match="mask's shape"):
        fastdrop.relu_dropout_backward(np.ones(4), np.ones(4), mask)
    assert rng.position == 0


@pytest.mark.parametrize("dtype", DTYPES)
def test_monte_carlo_copies_are_those_of_one_draw(dtype: str, backend: str) -> None:
    x = sample(dtype, shape=(7, 300))
    y, mask = fastdrop.mc_dropout(x, 9, 0.3, rng=5, return_mask=True)
    stacked = np.repeat(x[None], 9, axis=0)
    assert contents(y) == contents(fastdrop.dropout(stacked, 0.3, rng=5))
    assert all(contents(mask[t].apply(x)) == contents(y[t]) for t in range(9))
    out = poisoned(y.shape, x.dtype)
    assert fastdrop.mc_dropout(x, 9, 0.3, rng=5, out=out) is out
    assert contents(out) == contents(y)
    assert fastdrop.mc_dropout(x, 0).shape == (0, 7, 300)


def test_monte_carlo_copies_out_of_training(backend: str) -> None:
    x, rng = sample("float32", shape=(7, 300)), fastdrop.Philox(1)
    y, mask = fastdrop.mc_dropout(x, 3, 0.5, False, rng=rng, return_mask=True)
    np.testing.assert_array_equal(y, np.stack([x] * 3))
    assert (mask.shape, mask.p) == (y.shape, 0.0)
    assert rng.position == 0
    for training in (True, False):
        with pytest.raises(ValueError, match="between 0 and 1"):
            fastdrop.mc_dropout(x, 3, 2.0, training)


def test_p_is_checked_out_of_training_too() -> None:
    x = np.ones(4)
    for call in (fastdrop.relu_dropout, fastdrop.act_dropout, fastdrop.dropout):
        with pytest.raises(ValueError, match="between 0 and 1"):
            call(x, p=2.0, training=False)


def test_bad_sample_counts_are_refused() -> None:
    for samples, error in ((-1, ValueError), (2.0, TypeError), (True, TypeError)):
        with pytest.raises(error, match="samples must be"):
            fastdrop.mc_dropout(np.ones(3), samples)
    x = np.ones((1, 3))
    with pytest.raises(ValueError, match="not overlap"):
        fastdrop.mc_dropout(x[0], 1, out=x)
