"""Softmax with dropout, and attention: masks, values, gradients, memory and refusals."""

from __future__ import annotations

import math
import tracemalloc
from typing import Any

import numpy as np
import pytest
from support import contents, dtype_of, poisoned

import fastdrop
from fastdrop.backends import current

HALVES = ["float16", "bfloat16"]
TOLERANCE = {"float16": 3e-3, "bfloat16": 2e-2, "float32": 3e-6, "float64": 3e-15}
every_dtype = pytest.mark.parametrize("dtype", [*HALVES, "float32", "float64"])


def softmax(x: np.ndarray, axis: int = -1) -> np.ndarray:
    """Return the softmax in double precision; 0 along rows in which all is -inf."""
    x = x.astype(np.float64)
    highest = x.max(axis=axis, keepdims=True, initial=-np.inf)
    e = np.exp(x - np.where(np.isinf(highest), 0, highest))
    total = e.sum(axis=axis, keepdims=True)
    return np.divide(e, total, out=np.zeros_like(e), where=total > 0)


def normal(shape: tuple[int, ...], dtype: str = "float64", seed: int = 0) -> np.ndarray:
    return np.random.default_rng(seed).normal(size=shape).astype(dtype_of(dtype))


# --- Softmax with dropout ---------------------------------------------------------------------


def test_its_mask_is_that_of_plain_dropout(backend: str) -> None:
    x = normal((3, 4, 701), "float32")
    whole = fastdrop.softmax_dropout(x, 0.0)
    for p in (0.1, 0.5, 0.999, 1.0):
        rngs = fastdrop.ARS4x32(5), fastdrop.ARS4x32(5)
        y, mask = fastdrop.softmax_dropout(x, p, rng=rngs[0], return_mask=True)
        plain, expected = fastdrop.dropout(whole, p, rng=rngs[1], return_mask=True)
        assert mask == expected
        assert rngs[0].position == rngs[1].position
        assert contents(y == 0) == contents(plain == 0)
        np.testing.assert_allclose(y, plain, rtol=3e-7)


@every_dtype
def test_it_is_the_softmax(dtype: str, backend: str) -> None:
    x = normal((5, 6, 77), dtype)
    wide = x.astype(np.float64)
    bias = normal((6, 1), dtype, 1) + normal((5, 1, 77), dtype, 2)
    close = {"rtol": TOLERANCE[dtype], "atol": TOLERANCE[dtype]}
    for arguments, scores in (
        ({}, wide),
        ({"scale": 0.25}, wide / 4),
        ({"bias": bias}, wide + bias.astype(np.float64)),
        ({"bias": x[0] > 0}, np.where(x[0] > 0, wide, -np.inf)),
        ({"bias": x[:, :1] > 0}, np.where(x[:, :1] > 0, wide, -np.inf)),
        ({"bias": np.zeros(77, bool)}, np.full(x.shape, -np.inf)),
        ({"causal": True}, np.where(np.tri(6, 77, dtype=bool), wide, -np.inf)),
    ):
        y = fastdrop.softmax_dropout(x, p=0.5, training=False, **arguments)
        assert y.dtype == x.dtype
        np.testing.assert_allclose(y.astype(np.float64), softmax(scores), **close)
        dropped, mask = fastdrop.softmax_dropout(x, 0.3, rng=1, return_mask=True, **arguments)
        expected = softmax(scores) * mask.to_bool() * mask.scale
        np.testing.assert_allclose(dropped.astype(np.float64), expected, **close)


@pytest.mark.parametrize("axis", [0, 1, 2, -2])
def test_axes_and_layouts_agree(axis: int, backend: str) -> None:
    x = normal((6, 5, 70), "float32")
    y, mask = fastdrop.softmax_dropout(x, 0.3, axis, rng=2, return_mask=True)
    expected = softmax(x, axis) * mask.to_bool() * mask.scale
    np.testing.assert_allclose(y, expected, rtol=2e-6)
    bias = normal((5, 70), seed=1) > -1
    assert mask == fastdrop.softmax_dropout(x, 0.3, rng=2, return_mask=True)[1]
    grad = normal(x.shape, "float32", 3)
    settings: dict[str, Any] = {"axis": axis, "scale": 0.5, "bias": bias}
    back = fastdrop.softmax_dropout_backward(grad, x, mask, **settings)
    shifted = np.frombuffer(b"." + contents(x), np.float32, offset=1).reshape(x.shape)
    for other in (np.asfortranarray(x), np.repeat(x, 2, axis=0)[::2], x.astype(">f4"), shifted):
        assert np.array_equal(fastdrop.softmax_dropout(other, 0.3, axis, rng=2), y)
        of_y = grad.astype(other.dtype)
        found = fastdrop.softmax_dropout_backward(of_y, other, mask, **settings)
        assert np.array_equal(found, back)


@every_dtype
def test_its_gradient_is_that_of_the_formula(dtype: str, backend: str) -> None:
    x, grad = normal((4, 5, 90), dtype), normal((4, 5, 90), dtype, 1)
    for axis in (-1, 1):
        _, mask = fastdrop.softmax_dropout(
            x, 0.3, axis, scale=0.5, bias=x[:1], rng=4, return_mask=True
        )
        back = fastdrop.softmax_dropout_backward(grad, x, mask, axis=axis, scale=0.5, bias=x[:1])
        p = softmax(x.astype(np.float64) / 2 + x[:1].astype(np.float64), axis)
        of_p = grad.astype(np.float64) * mask.to_bool() * mask.scale
        expected = 0.5 * p * (of_p - (of_p * p).sum(axis=axis, keepdims=True))
        assert back.dtype == x.dtype
        np.testing.assert_allclose(back.astype(np.float64), expected, atol=TOLERANCE[dtype])


def test_its_gradient_is_its_slope(backend: str) -> None:
    """By central differences of the forward under the same mask."""
    x, grad, step = normal((3, 8)), normal((3, 8), seed=1), 1e-6
    settings: dict[str, Any] = {"scale": 0.7, "causal": True}
    mask = fastdrop.softmax_dropout(x, 0.4, rng=6, return_mask=True, **settings)[1]
    back = fastdrop.softmax_dropout_backward(grad, x, mask, **settings)
    for at in np.ndindex(x.shape):
        moved = [x.copy() for _ in range(2)]
        moved[0][at] += step
        moved[1][at] -= step
        up, down = (fastdrop.softmax_dropout(m, 0.4, rng=6, **settings) for m in moved)
        assert back[at] == pytest.approx((grad * (up - down)).sum() / (2 * step), abs=1e-8)


def test_another_mask_goes_back_too(backend: str) -> None:
    x, grad = normal((6, 50)), normal((6, 50), seed=1)
    mask = fastdrop.softmax_dropout(x, 0.3, rng=1, return_mask=True)[1]
    back = fastdrop.softmax_dropout_backward(grad, x, mask)
    given = fastdrop.ArrayMask(mask.to_bool(), p=0.3)
    assert contents(fastdrop.softmax_dropout_backward(grad, x, given)) == contents(back)
    spoiled = np.where(mask.to_bool(), grad, math.nan)
    assert contents(fastdrop.softmax_dropout_backward(spoiled, x, mask)) == contents(back)


def test_where_it_writes(backend: str) -> None:
    x, grad = normal((9, 70), "float32"), normal((9, 70), "float32", 1)
    y, mask = fastdrop.softmax_dropout(x, 0.3, rng=1, return_mask=True)
    out, own = poisoned(x.shape, x.dtype), x.copy()
    assert fastdrop.softmax_dropout(x, 0.3, rng=1, out=out) is out
    assert fastdrop.softmax_dropout(own, 0.3, rng=1, inplace=True) is own
    assert contents(out) == contents(own) == contents(y)
    back, own = fastdrop.softmax_dropout_backward(grad, x, mask), grad.copy()
    assert fastdrop.softmax_dropout_backward(grad, x, mask, out=out) is out
    assert fastdrop.softmax_dropout_backward(own, x, mask, out=own) is own
    assert contents(out) == contents(own) == contents(back)
    columns = np.asfortranarray(x)
    assert fastdrop.softmax_dropout(columns, 0.3, rng=1).flags.f_contiguous
    assert fastdrop.softmax_dropout(columns, 0.3, rng=1, inplace=True) is columns
    assert contents(columns) == contents(y)


def test_empty_and_small_arrays(backend: str) -> None:
    for shape in ((0,), (3, 0), (0, 3), (2, 0, 3)):
        y, mask = fastdrop.softmax_dropout(np.ones(shape), rng=1, return_mask=True)
        assert y.shape == shape
        assert fastdrop.softmax_dropout_backward(y, y, mask).shape == shape
    assert fastdrop.softmax_dropout(np.array([7.0]), 0.0) == [1.0]


def test_softmax_refuses_before_anything_is_spent() -> None:
    x, rng = np.ones((3, 5)), fastdrop.Philox(1)
    store = np.ones(16)
    run, refused = fastdrop.softmax_dropout, pytest.raises
    for error, message, arguments in (
        (TypeError, "x must be of a real dtype for a softmax, but got complex128", {"x": x + 0j}),
        (TypeError, "x must be a numpy.ndarray, but got builtins.list", {"x": [1.0]}),
        (TypeError, "x must have one of the dtypes", {"x": np.ones(3, int)}),
        (ValueError, "between 0 and 1, but got 1.5", {"p": 1.5}),
        (ValueError, "axis must be between -2 and 1 .* but got 2", {"axis": 2}),
        (ValueError, "an array of 0 dimensions has none", {"x": np.array(1.0)}),
        (TypeError, "axis must hold ints, but got 0.5", {"axis": 0.5}),
        (ValueError, "scale must be finite as float64, but got inf", {"scale": math.inf}),
        (ValueError, "scale must be finite as float64, but got 1000", {"scale": 10**400}),
        (TypeError, "scale must be a real number, but got '1'", {"scale": "1"}),
        (TypeError, "bias must be of bool or of x's dtype float64", {"bias": x.astype("f4")}),
        (TypeError, "bias must be a numpy.ndarray", {"bias": 1.0}),
        (ValueError, r"bias must have shape \(3, 5\) or broadcast to it", {"bias": np.ones(3)}),
        (ValueError, "causal=True needs .* the last one as axis", {"causal": True, "axis": 0}),
        (ValueError, "causal=True needs .* 2 dimensions", {"causal": True, "x": np.ones(3)}),
        (ValueError, "out must not overlap bias", {"out": x.copy(), "bias": None}),
        (ValueError, "overlaps in part", {"x": store[1:], "out": store[:-1]}),
        (TypeError, "rng", {"rng": 0.5}),
    ):
        given: dict[str, Any] = {"x": x, "rng": rng, **arguments}
        if "overlap bias" in message:
            given["bias"] = given["out"]
        with refused(error, match=message):
            run(**given)
    assert rng.position == 0
    assert (x == 1).all()
    mask = fastdrop.dropout(x, rng=0, return_mask=True)[1]
    for error, message, grad, of, out in (
        (ValueError, "x must have grad's shape", x, np.ones((3, 4)), None),
        (TypeError, "x must have grad's dtype", x, x.astype("f4"), None),
        (ValueError, "grad must have the mask's shape", x[:2], x[:2], None),
        (ValueError, "out must be grad itself or not overlap x", x.copy(), x, x),
    ):
        with refused(error, match=message):
            fastdrop.softmax_dropout_backward(grad, of, mask, out=out)
    with refused(TypeError, match=r"mask must be a fastdrop\.Mask"):
        fastdrop.softmax_dropout_backward(x, x, mask.to_bool())  # type: ignore[arg-type]


# --- Attention --------------------------------------------------------------------------------


def formula(
    q: np.ndarray, k: np.ndarray, v: np.ndarray, kept: np.ndarray, bias: Any, grad: np.ndarray
) -> list[np.ndarray]:
    """Return attention and its gradients in double precision; `kept` has the masks' scale."""
    q, k, v, grad = (a.astype(np.float64) for a in (q, k, v, grad))
    scale = q.shape[-1] ** -0.5
    p = softmax(scale * q @ k.swapaxes(-1, -2) + bias)
    of_p = (grad @ v.swapaxes(-1, -2)) * kept
    scores = p * (of_p - (of_p * p).sum(axis=-1, keepdims=True)) * scale
    dropped = p * kept
    return [
        dropped @ v,
        scores @ k,
        scores.swapaxes(-1, -2) @ q,
        dropped.swapaxes(-1, -2) @ grad,
    ]


# Leading dimensions, L and S: one tile, several, many heads in one, few rows, few columns.
SHAPES = [((), 5, 7), ((2, 3), 40, 33), ((1, 2), 300, 70), ((3, 2, 2), 1, 60)]


@pytest.mark.parametrize("shape", SHAPES, ids=str)
@pytest.mark.parametrize("causal", [False, True])
def test_attention_is_its_formula(shape: Any, causal: bool, backend: str) -> None:
    batch, rows, columns = shape
    q, k, v = (
        normal((*batch, *last), "float32", i)
        for i, last in enumerate([(rows, 8), (columns, 8), (columns, 6)])
    )
    grad = normal((*batch, rows, 6), "float32", 3)
    rng = np.random.default_rng(4)
    masks = [
        None,
        rng.random((rows, columns)) < 0.8,
        rng.random((*batch[:1], *[1] * len(batch[1:]), 1, columns)) < 0.8,
        normal((*batch, rows, columns), "float32", 5),
    ]
    for mask in masks:
        bias: Any = 0.0
        if mask is not None:
            bias = np.where(mask, 0, -np.inf) if mask.dtype == bool else mask
        if causal:
            bias = np.where(np.tri(rows, columns, dtype=bool), bias, -np.inf)
        out, saved = fastdrop.attention(
            q, k, v, 0.3, mask=mask, causal=causal, rng=1, return_saved=True
        )
        expected = formula(q, k, v, saved.mask.to_bool() * saved.mask.scale, bias, grad)
        for found, exact in zip((out, *saved.backward(grad)), expected, strict=True):
            np.testing.assert_allclose(found, exact, atol=3e-5)
            assert found.dtype == q.dtype


def test_its_mask_is_that_of_the_probabilities(backend: str) -> None:
    q, k, v = (normal((2, 3, 20, 4), "float32", i) for i in range(3))
    rngs = [fastdrop.ARS4x32(7) for _ in range(2)]
    _, saved = fastdrop.attention(q, k, v, 0.1, rng=rngs[0], return_saved=True)
    whole = np.ones((2, 3, 20, 20), np.float32)
    _, mask = fastdrop.dropout(whole, 0.1, rng=rngs[1], return_mask=True)
    assert saved.mask == mask
    assert rngs[0].position == rngs[1].position
    eye = np.broadcast_to(np.eye(20, dtype=np.float32), (2, 3, 20, 20))
    probabilities = fastdrop.attention(q, k, eye, 0.1, rng=7)  # times the identity
    kept = fastdrop.dropout(fastdrop.attention(q, k, eye), 0.1, rng=7)
    assert contents(probabilities == 0) == contents(kept == 0)


def test_generators_that_cannot_go_back_give_their_masks(backend: str) -> None:
    q, k, v = (normal((2, 300, 4), "float32", i) for i in range(3))
    k, v = (np.repeat(a, 7, axis=1) for a in (k, v))  # of several tiles
    generators = [np.random.Generator(np.random.MT19937(3)) for _ in range(2)]
    out, saved = fastdrop.attention(q, k, v, 0.3, rng=generators[0], return_saved=True)
    whole = np.ones((2, 300, 2100), np.float32)
    _, mask = fastdrop.dropout(whole, 0.3, rng=generators[1], return_mask=True)
    assert np.array_equal(saved.mask.to_bool(), mask.to_bool())
    exact = formula(q, k, v, mask.to_bool() * mask.scale, 0.0, out)
    for found, expected in zip((out, *saved.backward(out)), exact, strict=True):
        np.testing.assert_allclose(found, expected, atol=3e-5)


@every_dtype
def test_attention_of_every_dtype_and_layout(dtype: str, backend: str) -> None:
    q, k, v, grad = (normal((3, 2, 50, 8), dtype, i) for i in range(4))
    out, saved = fastdrop.attention(q, k, v, 0.3, rng=2, return_saved=True)
    gradients = saved.backward(grad)
    expected = formula(q, k, v, saved.mask.to_bool() * saved.mask.scale, 0.0, grad)
    for found, exact in zip((out, *gradients), expected, strict=True):
        assert found.dtype == q.dtype
        error = np.abs(found.astype(np.float64) - exact).max()
        assert error <= 8 * TOLERANCE[dtype] * np.abs(exact).max()

    def moved(a: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(a.transpose(0, 2, 1, 3)).transpose(0, 2, 1, 3)

    def strided(a: np.ndarray) -> np.ndarray:
        return np.repeat(np.repeat(a, 2, axis=-1), 2, axis=1)[:, ::2, :, ::2]

    close = {"rtol": 10 * TOLERANCE[dtype], "atol": 10 * TOLERANCE[dtype]}
    layouts = [moved, strided, lambda a: a[..., ::-1].copy()[..., ::-1], np.asfortranarray]
    if dtype != "bfloat16":  # which has no other byte order
        layouts.append(lambda a: a.astype(a.dtype.newbyteorder()))
    for layout in layouts:
        other, kept = fastdrop.attention(*map(layout, (q, k, v)), 0.3, rng=2, return_saved=True)
        for found, plain in zip(
            (other, *kept.backward(layout(grad))), (out, *gradients), strict=True
        ):
            np.testing.assert_allclose(found.astype(float), plain.astype(float), **close)


def test_leading_dimensions_broadcast_and_gradients_are_summed(backend: str) -> None:
    """As when heads of queries share those of keys and values."""
    q, k, v = normal((2, 4, 3, 9, 5)), normal((2, 1, 3, 11, 5), seed=1), normal((3, 11, 6), seed=2)
    grad = normal((2, 4, 3, 9, 6), seed=3)
    out, saved = fastdrop.attention(q, k, v, 0.2, rng=1, return_saved=True)
    whole = [np.broadcast_to(a, (2, 4, 3, *a.shape[-2:])).copy() for a in (q, k, v)]
    expected, every = fastdrop.attention(*whole, 0.2, rng=1, return_saved=True)
    np.testing.assert_allclose(out, expected, atol=1e-12)
    dq, dk, dv = every.backward(grad)
    sums = dq, dk.sum(axis=1, keepdims=True), dv.sum(axis=(0, 1))
    for found, of in zip(saved.backward(grad), sums, strict=True):
        assert found.shape == of.shape
        np.testing.assert_allclose(found, of, atol=1e-12)


def test_it_is_torchs_without_dropout(backend: str) -> None:
    torch = pytest.importorskip("torch")
    q, k, v, grad = (normal((2, 3, 40, 8), "float32", i) for i in range(4))
    mask = normal((40, 40), "float32", 5)
    for ours, theirs in (
        ({}, {}),
        ({"causal": True}, {"is_causal": True}),
        ({"mask": mask}, {"attn_mask": torch.tensor(mask)}),
        ({"mask": mask > 0}, {"attn_mask": torch.tensor(mask > 0)}),
        ({"scale": 0.1}, {"scale": 0.1}),
    ):
        tensors = [torch.tensor(a, requires_grad=True) for a in (q, k, v)]
        expected = torch.nn.functional.scaled_dot_product_attention(*tensors, **theirs)
        expected.backward(torch.tensor(grad))
        out, saved = fastdrop.attention(q, k, v, return_saved=True, **ours)
        np.testing.assert_allclose(out, expected.detach().numpy(), atol=3e-6)
        for found, tensor in zip(saved.backward(grad), tensors, strict=True):
            np.testing.assert_allclose(found, tensor.grad.numpy(), atol=1e-5)


def test_a_query_that_sees_no_key_has_zero(backend: str) -> None:
    q, k, v = (normal((2, 6, 4), seed=i) for i in range(3))
    mask = np.ones((6, 6), bool)
    mask[2] = False
    out, saved = fastdrop.attention(q, k, v, 0.5, mask=mask, rng=1, return_saved=True)
    assert not out[:, 2].any()
    assert (saved.lse[:, 2] == -np.inf).all()
    dq, dk, dv = saved.backward(np.ones_like(out))
    assert not dq[:, 2].any()
    assert np.isfinite(dk).all()
    assert np.isfinite(dv).all()


def test_rates_of_0_and_1_and_evaluation(backend: str) -> None:
    q, k, v = (normal((2, 6, 4), seed=i) for i in range(3))
    rng, whole = fastdrop.Philox(1), fastdrop.attention(q, k, v)
    assert contents(fastdrop.attention(q, k, v, 0.5, training=False, rng=rng)) == contents(whole)
    assert contents(fastdrop.attention(q, k, v, 0.0, rng=rng)) == contents(whole)
    assert rng.position == 0
    out, saved = fastdrop.attention(q, k, v, 1.0, rng=rng, return_saved=True)
    assert not out.any()
    assert not any(a.any() for a in saved.backward(np.ones_like(out)))
    spoiled = np.full_like(v, math.nan)  # dropped, but 0 times NaN is NaN, as in any product
    assert np.isnan(fastdrop.attention(q, k, spoiled, 1.0)).all()


def test_nothing_at_all(backend: str) -> None:
    for batch, rows, columns, width, values in (
        ((0,), 3, 4, 5, 6),
        ((2,), 0, 4, 5, 6),
        ((2,), 3, 0, 5, 6),
        ((2,), 3, 4, 0, 6),
        ((2,), 3, 4, 5, 0),
    ):
        q, k, v = (
            normal((*batch, *last)) for last in [(rows, width), (columns, width), (columns, values)]
        )
        out, saved = fastdrop.attention(q, k, v, 0.5, rng=1, return_saved=True)
        assert out.shape == (*batch, rows, values)
        assert np.isfinite(out).all()
        for found, a in zip(saved.backward(np.ones_like(out)), (q, k, v), strict=True):
            assert found.shape == a.shape
            assert np.isfinite(found).all()


def test_memory_grows_with_rows_and_not_with_scores(backend: str) -> None:
    if backend == "reference":
        pytest.skip("it unpacks a tile's mask")
    n = 3000
    q, k, v = (normal((1, n, 4), "float32", i) for i in range(3))
    fastdrop.attention(q[:, :9], k[:, :9], v[:, :9], 0.1)  # what is compiled is
    tracemalloc.start()
    _, saved = fastdrop.attention(q, k, v, 0.1, rng=1, return_saved=True)
    saved.backward(q)
    _, most = tracemalloc.get_traced_memory()
    tracemalloc.stop()
    assert most < 4 * n * n / 3  # bytes of one array of scores


def test_failures_give_random_numbers_back(backend: str, monkeypatch: pytest.MonkeyPatch) -> None:
    def no_memory(*_: object) -> None:
        raise MemoryError

    monkeypatch.setattr(type(current()), "softmax", no_memory)
    rng = fastdrop.Philox(1)
    x = np.ones((3, 4, 5))
    with pytest.raises(MemoryError):
        fastdrop.attention(x, x, x, 0.5, rng=rng)
    with pytest.raises(MemoryError):
        fastdrop.softmax_dropout(x, 0.5, rng=rng)
    assert rng.position == 0


def test_attention_refuses_before_anything_is_spent() -> None:
    q, k, v = np.ones((2, 3, 4)), np.ones((2, 5, 4)), np.ones((2, 5, 6))
    rng = fastdrop.Philox(1)
    for error, message, arguments in (
        (TypeError, "q must be a numpy.ndarray, but got builtins.list", {"q": [1.0]}),
        (TypeError, "k must be of a real dtype for a softmax", {"k": k + 0j}),
        (TypeError, "v must have q's dtype float64, but got float32", {"v": v.astype("f4")}),
        (ValueError, r"q must have at least 2 dimensions, \(..., L, D\)", {"q": np.ones(4)}),
        (ValueError, "k must be as long as q along the last axis, 4", {"k": np.ones((5, 3))}),
        (ValueError, "v must have k's number of rows 5", {"v": np.ones((4, 6))}),
        (ValueError, "leading dimensions of q, k and v must broadcast", {"v": np.ones((3, 5, 6))}),
        (ValueError, "between 0 and 1, but got -0.5", {"p": -0.5}),
        (TypeError, "mask must be of bool or of q's dtype", {"mask": np.ones((3, 5), int)}),
        (ValueError, r"mask must have shape \(2, 3, 5\) or broadcast", {"mask": np.ones((5, 3))}),
        (ValueError, "scale must be finite as float64, but got nan", {"scale": math.nan}),
        (TypeError, "rng", {"rng": 0.5}),
    ):
        given: dict[str, Any] = {"q": q, "k": k, "v": v, "p": 0.5, "rng": rng, **arguments}
        with pytest.raises(error, match=message):
            fastdrop.attention(**given)
    assert rng.position == 0
    _, saved = fastdrop.attention(q, k, v, return_saved=True)
    assert saved.q is q
    assert saved.k is k
    assert saved.v is v
    with pytest.raises(ValueError, match="grad must have the output's shape"):
        saved.backward(np.ones((2, 3, 4)))
    with pytest.raises(TypeError, match="grad must have the output's dtype"):
        saved.backward(np.ones((2, 3, 6), np.float32))


@pytest.mark.parametrize("order", ["F", "K"])
def test_masks_of_bool_may_have_any_layout(backend: str, order: Any) -> None:
    rng = np.random.default_rng(0)
    x, keep = rng.normal(size=(5, 4, 9)), rng.random((5, 4, 9)) < 0.7
    other = keep.transpose(2, 0, 1).copy().transpose(1, 2, 0) if order == "K" else keep.copy("F")
    for axis in (-1, 0, 1):
        right = fastdrop.softmax_dropout(np.where(keep, x, -np.inf), 0.0, axis)
        for bias in (keep, other):
            np.testing.assert_array_equal(fastdrop.softmax_dropout(x, 0.0, axis, bias=bias), right)
    q, k, v = rng.normal(size=(3, 5, 9, 4))
    mask = rng.random((5, 9, 9)) < 0.7
    right = fastdrop.attention(q, k, v, mask=mask)
    np.testing.assert_array_equal(fastdrop.attention(q, k, v, mask=np.asfortranarray(mask)), right)


def test_a_scale_must_be_finite_in_the_numbers_precision() -> None:
    with pytest.raises(ValueError, match=r"scale must be finite as float32, but got 1e\+39"):
        fastdrop.softmax_dropout(np.ones((2, 3), np.float32), 0.0, scale=1e39)
