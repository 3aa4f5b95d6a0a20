"""DropBlock and Gaussian noise: what is dropped or drawn, and that it can be had again."""

from __future__ import annotations

import copy
import json
import math
import pickle
from typing import Any

import numpy as np
import pytest
from support import any_bits, contents, dtype_of, poisoned

import fastdrop
from fastdrop._formulas.normal import normals

SHAPE = (3, 4, 17, 13)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 13, 20])
@pytest.mark.parametrize("batchwise", [False, True])
def test_dropblock_is_its_corners_spread_by_torchs_max_pooling(
    size: int, batchwise: bool, backend: str
) -> None:
    torch = pytest.importorskip("torch")
    x = np.random.default_rng(0).normal(size=SHAPE)
    layer = fastdrop.DropBlock2d(0.4, size, batchwise=batchwise, rng=3)
    y = layer(x)
    side = min(size, 13)
    corners = (1 if batchwise else 3, 4, 18 - side, 14 - side)
    gamma = 0.4 * 17 * 13 / side**2 / (corners[2] * corners[3])
    drawn = fastdrop.dropout(np.ones(corners), gamma, rng=3, return_mask=True)[1].to_bool()
    padded = torch.nn.functional.pad(torch.tensor(1.0 - drawn), (side - 1,) * 4)
    kept = torch.nn.functional.max_pool2d(padded, side, 1).numpy() == 0
    assert np.array_equal(layer.mask, np.broadcast_to(kept, SHAPE))
    scale = kept.size / kept.sum() if kept.any() else 0.0
    np.testing.assert_allclose(y, np.where(kept, x * scale, 0.0), rtol=1e-14)
    assert contents(layer.backward(x)) == contents(y)


def test_dropblock_drops_p(backend: str) -> None:
    p, shape = 0.05, (64, 32, 32, 32)
    layer = fastdrop.DropBlock2d(p, 3, rng=1)
    layer(np.ones(shape, np.float32))
    share = 1 - layer.mask.to_bool().mean()
    gamma = p * 32**2 / 9 / 30**2
    # Inside, an element stays if none of 9 corners is drawn; those near edges have fewer.
    reach = np.minimum(np.minimum(np.arange(32), np.arange(32)[::-1]) + 1, 3)
    expected = 1 - ((1 - gamma) ** np.multiply.outer(reach, reach)).mean()
    # Squares of 9 move together: 5 standard errors, one false alarm in two million runs.
    assert abs(share - expected) < 5 * 3 * math.sqrt(expected / math.prod(shape))


@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64", "complex64"])
def test_dropblock_takes_every_dtype_and_layout(dtype: str, backend: str) -> None:
    x = np.random.default_rng(0).normal(size=SHAPE).astype(dtype_of(dtype))
    with fastdrop.use_backend("reference"):
        expected = fastdrop.DropBlock2d(0.3, 3, rng=5)(x)
    channels_last = np.ascontiguousarray(np.moveaxis(x, 1, -1))
    for layout in (x, np.asfortranarray(x), np.moveaxis(channels_last, -1, 1)):
        assert contents(fastdrop.DropBlock2d(0.3, 3, rng=5)(layout)) == contents(expected)
    out = poisoned(SHAPE, x.dtype)
    assert fastdrop.DropBlock2d(0.3, 3, rng=5)(x, out) is out
    assert contents(out) == contents(expected)
    assert fastdrop.DropBlock2d(0.3, 3, inplace=True, rng=5)(x) is x
    assert contents(x) == contents(expected)


def test_dropblock_refuses_bad_arguments() -> None:
    for arguments, error in (
        ({"block_size": 0}, ValueError),
        ({"block_size": 2.0}, TypeError),
        ({"gamma_scale": -1.0}, ValueError),
        ({"p": 2.0}, ValueError),
    ):
        with pytest.raises(error):
            fastdrop.DropBlock2d(**arguments)
    with pytest.raises(ValueError, match="expects 4 dimensions"):
        fastdrop.DropBlock2d()(np.ones((3, 4, 5)))


def test_dropblock_drops_everything_for_p_1() -> None:
    y = fastdrop.DropBlock2d(1.0, 3, gamma_scale=9.0, rng=0)(np.full(SHAPE, np.nan))
    assert contents(y) == contents(np.zeros(SHAPE))


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normals_are_the_normal_distributions(dtype: str) -> None:
    n = 1_000_000
    z = np.sort(normals(fastdrop.Philox(1).random_raw(n), dtype))
    below = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in z[:: n // 2000]])
    distance = np.abs(below - np.arange(0, n, n // 2000) / n).max()
    assert distance < 2.75 / math.sqrt(n)  # Kolmogorov: exceeded once in two million runs
    assert abs(z.mean(dtype=float)) < 5 / math.sqrt(n)
    assert abs(z.var(dtype=float) - 1) < 5 * math.sqrt(2 / n)
    for far in (2.0, 3.0, 4.0):  # tails: five standard errors, by the normal approximation
        expected = n * math.erfc(far / math.sqrt(2))
        assert abs((np.abs(z) > far).sum() - expected) < 5 * math.sqrt(expected) + 5


def words_of(numbers: list[int]) -> np.ndarray:
    return np.array(numbers, np.uint64)


WORDS = words_of(
    [0, 2**64 - 1, 2**63, 2**63 - 1]
    + [sign ^ (2**bit - less) for bit in range(11, 63) for less in (0, 1) for sign in (0, 2**63)]
)


def test_normals_are_quantiles_to_the_last_bits() -> None:
    """Of the nearer tail's probability, with 40 digits; far out and near 0 too."""
    mpmath = pytest.importorskip("mpmath")
    words = np.concatenate([WORDS, fastdrop.Philox(1).random_raw(300)])
    for word, z in zip(words, normals(words), strict=True):
        steps = int(word) >> 11
        assert (z > 0) == (steps >= 2**52)
        with mpmath.workdps(40):
            t = mpmath.mpf(2 * min(steps, 2**53 - 1 - steps) + 1) / 2**53
            exact = mpmath.sqrt(2) * mpmath.erfinv(1 - t)
            assert abs(abs(float(z)) / exact - 1) < 1e-15
    assert np.abs(normals(words)).max() == pytest.approx(8.29236, abs=1e-5)


def test_single_precision_is_double_precision_rounded_nearly() -> None:
    words = np.concatenate([WORDS, fastdrop.Philox(1).random_raw(1_000_000)])
    single, double = normals(words, np.float32), normals(words)
    assert single.dtype == np.float32
    assert np.array_equal(np.signbit(single), np.signbit(double))
    assert (np.abs(single - double) <= np.maximum(6e-7 * np.abs(double), 1.2e-7)).all()
    assert single.max() == -single.min() == pytest.approx(8.29236, abs=1e-5)


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_normals_are_symmetric_and_rise(dtype: str) -> None:
    words = np.sort(fastdrop.Philox(1).random_raw(200_000))
    z = normals(words, dtype)
    assert np.array_equal(normals(~words, dtype), -z)
    # As far as rounding lets them: neighbours differ by less than their error at times.
    assert (np.diff(z) >= -1e-6 if dtype == "float32" else np.diff(z) >= 0).all()


LAYERS = {
    "GaussianDropout": lambda **more: fastdrop.GaussianDropout(0.3, **{"rng": 3, **more}),
    "GaussianNoise": lambda **more: fastdrop.GaussianNoise(0.7, **{"rng": 3, **more}),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("generator", [np.random.MT19937, np.random.PCG64, fastdrop.ARS4x32])
def test_noise_is_the_formula_of_the_streams_words(
    name: str, generator: Any, backend: str, threads: int
) -> None:
    x = np.random.default_rng(0).normal(size=(3, 40, 701))
    layer = LAYERS[name](rng=generator(3))
    z = normals(fastdrop.Dropout(rng=generator(3)).rng.random_raw(x.size)).reshape(x.shape)
    is_factor = name == "GaussianDropout"
    expected = x * (1 + math.sqrt(0.3 / 0.7) * z) if is_factor else x + 0.7 * z
    assert np.array_equal(layer(x), expected)
    assert np.array_equal(layer.backward(x), expected if is_factor else x)
    assert np.array_equal(LAYERS[name](rng=generator(3))(np.asfortranarray(x)), expected)
    own = x.copy()
    assert np.array_equal(LAYERS[name](rng=generator(3), inplace=True)(own), expected)


every_noise = pytest.mark.parametrize("name", LAYERS)
REAL = ["float16", "bfloat16", "float32", "float64", ">f4"]
SHAPES = [(), (0,), (1,), (7,), (70_001,), (300, 401), (3, 40, 101), (33, 65, 5), (5, 1, 64, 1, 40)]


def layouts(x: np.ndarray) -> list[np.ndarray]:
    """Return x in other layouts: by columns, with axes swapped, and with gaps."""
    if x.ndim < 2:
        return (
            [np.repeat(x, 2)[::2].reshape(x.shape), x[..., ::-1].copy()[..., ::-1]]
            if x.ndim
            else []
        )
    wide = np.zeros((*x.shape[:-1], x.shape[-1] + 3), x.dtype)
    wide[..., :-3] = x
    return [
        np.asfortranarray(x),
        np.ascontiguousarray(x.swapaxes(0, 1)).swapaxes(0, 1),
        np.repeat(x, 2, axis=-1)[..., ::2],
        x[..., ::-1].copy()[..., ::-1],
        wide[..., :-3],
    ]


def check_noise(name: str, dtype: str) -> None:
    for shape in SHAPES:
        x = np.random.default_rng(0).normal(size=shape).astype(dtype_of(dtype))
        with fastdrop.use_backend("reference"):
            expected = LAYERS[name]()(x)
        for layout in (x, *layouts(x)):
            assert contents(LAYERS[name]()(layout)) == contents(expected)
            out = np.full_like(layout, 77)
            assert LAYERS[name]()(layout, out) is out
            assert contents(out) == contents(expected)
            own = layout.copy("K")
            assert LAYERS[name](inplace=True)(own) is own
            assert contents(own) == contents(expected)


@every_noise
@pytest.mark.parametrize("dtype", REAL)
def test_noise_is_the_references_to_the_bit(
    name: str, dtype: str, backend: str, threads: int
) -> None:
    check_noise(name, dtype)


@every_noise
@pytest.mark.parametrize("dtype", REAL)
def test_noise_of_any_bit_pattern_is_the_references(name: str, dtype: str, backend: str) -> None:
    """NaNs with payloads, infinities, -0 and subnormals, among all others."""
    x = any_bits((70_001,), dtype_of(dtype))
    with fastdrop.use_backend("reference"):
        expected = LAYERS[name]()(x)
    assert contents(LAYERS[name]()(x)) == contents(expected)


@every_noise
@pytest.mark.parametrize("dtype", REAL)
def test_noise_is_the_same_on_every_instruction_set(name: str, dtype: str, isa: str) -> None:
    check_noise(name, dtype)


@every_noise
def test_large_noise_is_written_past_the_caches(name: str) -> None:
    """More than a cache holds, misaligned and not: another way to store, and the same bits."""
    n = 9_000_001
    store = np.ones(n + 3, np.float32)
    expected = LAYERS[name]()(store[:5000])
    for start in range(4):
        x = store[start : start + n]
        y = LAYERS[name]()(x)
        assert np.array_equal(y[:5000], expected)
        for at in (1, n // 3, n - 4000):
            piece = np.ones(4000, np.float32)
            layer = LAYERS[name]()
            layer.rng.reserve(at)
            assert np.array_equal(y[at : at + 4000], layer(piece))


@every_noise
def test_noise_of_special_values_is_the_formulas(name: str, backend: str) -> None:
    x = np.array([math.nan, math.inf, -math.inf, -0.0] * 50, np.float32)
    y = LAYERS[name]()(x)
    assert np.array_equal(np.isnan(y), np.isnan(x))
    assert (np.isinf(y) == np.isinf(x)).all()


@every_noise
def test_noise_takes_real_dtypes_and_outputs(name: str) -> None:
    for dtype, digits in (("float16", 1e-3), ("bfloat16", 8e-3), ("float32", 6e-7), (">f4", 6e-7)):
        x = np.random.default_rng(0).normal(size=(5, 701)).astype(dtype_of(dtype))
        expected = LAYERS[name]()(x.astype(np.float64))
        y = LAYERS[name]()(x)
        assert y.dtype == x.dtype
        np.testing.assert_allclose(y.astype(np.float64), expected, rtol=digits, atol=digits)
    with pytest.raises(TypeError, match="real dtype"):
        LAYERS[name]()(np.ones(3, np.complex64))


@every_noise
def test_noise_is_kerass_formula_and_its_backward_torchs_autograd(name: str) -> None:
    """Keras: x * N(1, rate / (1 - rate)), and x + N(0, stddev**2)."""
    torch = pytest.importorskip("torch")
    x, grad = (np.random.default_rng(i).normal(size=(60, 701)) for i in range(2))
    layer = LAYERS[name]()
    y = layer(x)
    words = fastdrop.Dropout(rng=3).rng.random_raw(x.size)
    z = torch.tensor(normals(words).reshape(x.shape))
    t = torch.tensor(x, requires_grad=True)
    theirs = t * (1 + math.sqrt(0.3 / 0.7) * z) if name == "GaussianDropout" else t + 0.7 * z
    theirs.backward(torch.tensor(grad))
    np.testing.assert_allclose(y, theirs.detach().numpy(), rtol=1e-14, atol=1e-14)
    back = layer.backward(grad)
    np.testing.assert_allclose(back, t.grad.numpy(), rtol=1e-14)
    step = np.random.default_rng(2).normal(size=x.shape) * 1e-3
    moved = LAYERS[name]()(x + step)
    assert np.vdot(grad, moved - y) == pytest.approx(np.vdot(back, step), rel=1e-7, abs=1e-9)


@pytest.mark.slow
@every_noise
def test_noise_has_the_mean_and_variance_it_says(name: str, backend: str) -> None:
    n = 1_000_000
    y = LAYERS[name]()(np.full(n, 2.0, np.float32)).astype(np.float64)
    variance = 4 * 0.3 / 0.7 if name == "GaussianDropout" else 0.7**2
    # 5 standard errors: one false alarm in two million runs each.
    assert abs(y.mean() - 2) < 5 * math.sqrt(variance / n)
    assert abs(y.var() - variance) < 5 * variance * math.sqrt(2 / n)


def test_backward_uses_the_p_of_its_forward(backend: str) -> None:
    layer, x = fastdrop.GaussianDropout(0.3, rng=1), np.ones(1000)
    y = layer(x)
    layer.p = 0.7
    assert contents(layer.backward(x)) == contents(y)
    layer(x)
    assert not np.array_equal(layer.backward(x), y)


MAKERS = {
    **LAYERS,
    "DropBlock2d": lambda **more: fastdrop.DropBlock2d(0.3, 3, **{"rng": 3, **more}),
}


@pytest.mark.parametrize("name", MAKERS)
def test_masks_outlive_later_forwards(name: str, backend: str) -> None:
    layer, x = MAKERS[name](), np.random.default_rng(0).normal(size=SHAPE)
    assert layer.mask is None
    pairs = [layer.forward_mask(x) for _ in range(3)]
    assert len({contents(y) for y, _ in pairs}) == 3
    assert layer.mask == pairs[-1][1] != pairs[0][1]
    for y, mask in reversed(pairs):
        expected = x if name == "GaussianNoise" else y
        assert contents(mask.apply(x)) == contents(expected)
        assert pickle.loads(pickle.dumps(mask)) == copy.deepcopy(mask) == mask
        own = x.copy()
        assert mask.apply(own, own) is own
        assert contents(own) == contents(expected)
        with pytest.raises(ValueError, match="shape"):
            mask.apply(np.ones((3, 4, 17, 14)))
    used = layer.rng.position
    y, mask = layer.eval().forward_mask(x)
    assert y is x
    assert layer.mask is None
    assert contents(mask.apply(x)) == contents(x)
    assert layer.rng.position == used
    if name == "GaussianDropout":
        with pytest.raises(TypeError, match="real dtype"):
            pairs[0][1].apply(x.astype(complex))


@pytest.mark.parametrize("name", MAKERS)
def test_noise_layers_resume_exactly(name: str) -> None:
    make, x = MAKERS[name], np.ones(SHAPE)
    layer, other = make(), make(rng=9)
    layer(x)
    other.load_state_dict(json.loads(json.dumps(layer.state_dict())))
    assert np.array_equal(other(x), layer(x))
    assert repr(other) == repr(layer)
    assert layer.eval()(x) is x
    assert layer.backward(x) is x


def test_dropblocks_mask_is_an_array_when_asked() -> None:
    layer, x = fastdrop.DropBlock2d(0.3, 3, rng=3), np.ones(SHAPE)
    kept = layer(x) > 0
    assert np.array_equal(layer.mask, kept)
    assert np.asarray(layer.mask, np.float32).dtype == np.float32
    with pytest.raises(ValueError, match="without a copy"):
        np.asarray(layer.mask, copy=False)
    assert fastdrop.DropBlock2d(0.3, 3, rng=3)(np.ones((0, 4, 17, 13))).shape == (0, 4, 17, 13)
    assert fastdrop.DropBlock2d(0.3, 3, rng=3)(np.ones((2, 4, 0, 13))).shape == (2, 4, 0, 13)


def test_bad_noise_is_refused() -> None:
    with pytest.raises(ValueError, match="below 1"):
        fastdrop.GaussianDropout(1.0)
    for stddev in (-1.0, math.inf, math.nan):
        with pytest.raises(ValueError, match="stddev must be"):
            fastdrop.GaussianNoise(stddev)
    layer = fastdrop.GaussianDropout(rng=0)
    with pytest.raises(RuntimeError, match="needs a forward"):
        layer.backward(np.ones(3))
    layer(np.ones(3))
    with pytest.raises(ValueError, match="forward's shape"):
        layer.backward(np.ones(4))


@pytest.mark.parametrize("columns", [1, 63, 64, 65, 128, 129])
def test_noise_of_columns_that_fill_no_row_of_words(columns: int, backend: str) -> None:
    x = np.asfortranarray(np.random.default_rng(0).normal(size=(70, columns)))
    y = fastdrop.GaussianNoise(rng=1)(x)
    assert contents(y) == contents(fastdrop.GaussianNoise(rng=1)(np.ascontiguousarray(x)))
