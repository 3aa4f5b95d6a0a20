"""DropBlock and Gaussian noise: what is dropped or drawn, and that it can be had again."""

from __future__ import annotations

import json
import math
from typing import Any

import numpy as np
import pytest
from support import contents, dtype_of, poisoned

import fastdrop
from fastdrop.normal import normals

SHAPE = (3, 4, 17, 13)


@pytest.mark.parametrize("size", [1, 2, 3, 4, 7, 13, 20])
@pytest.mark.parametrize("batchwise", [False, True])
def test_dropblock_is_its_corners_spread_by_max_pooling(
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
    share = 1 - layer.mask.mean()
    gamma = p * 32**2 / 9 / 30**2
    # Inside, an element stays if none of 9 corners is drawn; those near edges have fewer.
    reach = np.minimum(np.minimum(np.arange(32), np.arange(32)[::-1]) + 1, 3)
    expected = 1 - ((1 - gamma) ** np.multiply.outer(reach, reach)).mean()
    # Squares of 9 move together: 5 standard errors, one false alarm in two million runs.
    assert abs(share - expected) < 5 * 3 * math.sqrt(expected / layer.mask.size)


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


def test_normals_are_the_normal_distributions() -> None:
    n = 1_000_000
    z = np.sort(normals(fastdrop.Philox(1).random_raw(n)))
    below = np.array([0.5 * math.erfc(-v / math.sqrt(2)) for v in z[:: n // 2000]])
    distance = np.abs(below - np.arange(0, n, n // 2000) / n).max()
    assert distance < 2.75 / math.sqrt(n)  # Kolmogorov: exceeded once in two million runs
    assert abs(z.mean()) < 5 / math.sqrt(n)
    assert abs(z.var() - 1) < 5 * math.sqrt(2 / n)


def test_normals_are_exact_far_out_and_symmetric() -> None:
    words = np.uint64(1) << np.arange(11, 64, dtype=np.uint64)
    words = np.concatenate([np.zeros(1, np.uint64), words])
    z = normals(words)
    u = ((words >> np.uint64(11)).astype(float) + 0.5) * 2.0**-53
    inside = u < 0.5
    for value, probability in zip(z[inside], u[inside], strict=True):
        assert 0.5 * math.erfc(-value / math.sqrt(2)) == pytest.approx(probability, rel=1e-13)
    assert np.array_equal(normals(~words), -z)


LAYERS = {
    "GaussianDropout": lambda **more: fastdrop.GaussianDropout(0.3, **{"rng": 3, **more}),
    "GaussianNoise": lambda **more: fastdrop.GaussianNoise(0.7, **{"rng": 3, **more}),
}


@pytest.mark.parametrize("name", LAYERS)
@pytest.mark.parametrize("generator", [np.random.MT19937, np.random.PCG64, fastdrop.Philox4x32])
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


@pytest.mark.parametrize("name", LAYERS)
def test_noise_takes_real_dtypes_and_outputs(name: str) -> None:
    for dtype, digits in (("float16", 1e-3), ("bfloat16", 8e-3), ("float32", 3e-7), (">f4", 3e-7)):
        x = np.random.default_rng(0).normal(size=(5, 701)).astype(dtype_of(dtype))
        expected = LAYERS[name]()(x.astype(np.float64))
        y = LAYERS[name]()(x)
        assert y.dtype == x.dtype
        np.testing.assert_allclose(y.astype(np.float64), expected, rtol=digits, atol=digits)
        out = poisoned(x.shape, x.dtype)
        assert LAYERS[name]()(x, out) is out
        assert contents(out) == contents(y)
        assert LAYERS[name](inplace=True)(x) is x
        assert contents(x) == contents(y)
    with pytest.raises(TypeError, match="real dtype"):
        LAYERS[name]()(np.ones(3, np.complex64))


@pytest.mark.parametrize("name", [*LAYERS, "DropBlock2d"])
def test_noise_layers_resume_exactly(name: str) -> None:
    make = LAYERS.get(name) or (lambda **more: fastdrop.DropBlock2d(0.3, 3, **{"rng": 3, **more}))
    x = np.ones(SHAPE)
    layer, other = make(), make(rng=9)
    layer(x)
    other.load_state_dict(json.loads(json.dumps(layer.state_dict())))
    assert np.array_equal(other(x), layer(x))
    assert repr(other) == repr(layer)
    assert layer.eval()(x) is x
    assert layer.backward(x) is x


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
