"""Dropout's relatives as functions: each gives and refuses what its layer does."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdrop

# The function, its layer, an input's shape, and settings by the names that both have.
FAMILY: list[tuple[Callable[..., Any], type[Any], tuple[int, ...], dict[str, Any]]] = [
    (fastdrop.dropout1d, fastdrop.Dropout1d, (4, 3, 50), {}),
    (fastdrop.dropout1d, fastdrop.Dropout1d, (300, 50), {"p": 0.1}),
    (fastdrop.dropout2d, fastdrop.Dropout2d, (4, 300, 5, 6), {"p": 0.2}),
    (fastdrop.dropout3d, fastdrop.Dropout3d, (4, 3, 5, 6, 7), {}),
    (fastdrop.alpha_dropout, fastdrop.AlphaDropout, (70, 80), {"p": 0.3}),
    (fastdrop.feature_alpha_dropout, fastdrop.FeatureAlphaDropout, (40, 30, 7), {}),
    (fastdrop.gaussian_dropout, fastdrop.GaussianDropout, (70, 80), {"p": 0.25}),
    (fastdrop.drop_path, fastdrop.DropPath, (90, 8, 9), {"p": 0.3}),
    (
        fastdrop.drop_path,
        fastdrop.DropPath,
        (9, 80, 7),
        {"p": 0.3, "scale_by_keep": False, "batch_axis": 1},
    ),
    (fastdrop.drop_block2d, fastdrop.DropBlock2d, (4, 3, 20, 21), {}),
    (
        fastdrop.drop_block2d,
        fastdrop.DropBlock2d,
        (4, 3, 20, 21),
        {"p": 0.3, "block_size": 2, "gamma_scale": 0.5, "batchwise": True},
    ),
]
NAMES = [f"{function.__name__}-{i}" for i, (function, *_) in enumerate(FAMILY)]
every_function = pytest.mark.parametrize(
    ("function", "layer", "shape", "settings"), FAMILY, ids=NAMES
)


def normal(shape: tuple[int, ...]) -> np.ndarray:
    return np.random.default_rng(0).normal(size=shape).astype(np.float32)


@every_function
@pytest.mark.parametrize("rng", [7, "a generator", np.random.PCG64, np.random.MT19937])
def test_a_function_is_its_layer(
    function: Any, layer: Any, shape: tuple[int, ...], settings: dict[str, Any], rng: Any
) -> None:
    def source() -> Any:
        return fastdrop.Philox(3) if isinstance(rng, str) else rng if rng == 7 else rng(7)

    x, mine, its = normal(shape), source(), source()
    module = layer(**settings, rng=its)
    for _ in range(2):  # a generator moves on, and is the same for both; an int starts over
        expected, mask = module.forward_mask(x)
        y, found = function(x, **settings, rng=mine, return_mask=True)
        assert y.tobytes() == expected.tobytes()
        assert (type(found), found) == (type(mask), mask)
        np.testing.assert_array_equal(fastdrop.dropout_backward(x, found), module.backward(x))
        if rng == 7:
            module.reset(7)
    assert not np.array_equal(y, x) or settings.get("p", layer().p) == 0


@every_function
def test_the_default_generator_is_used_and_moves_on(
    function: Any, layer: Any, shape: tuple[int, ...], settings: dict[str, Any]
) -> None:
    x = normal(shape)
    fastdrop.manual_seed(1)
    first, second = (function(x, **settings) for _ in range(2))
    fastdrop.manual_seed(1)
    module = layer(**settings)
    for y in (first, second):
        np.testing.assert_array_equal(y, module(x))


@every_function
def test_where_it_writes(
    function: Any, layer: Any, shape: tuple[int, ...], settings: dict[str, Any]
) -> None:
    x = normal(shape)
    expected, out = function(x, **settings, rng=1), np.empty_like(x)
    assert function(x, **settings, rng=1, out=out) is out
    np.testing.assert_array_equal(out, expected)
    assert function(x, **settings, rng=1, inplace=True) is x
    np.testing.assert_array_equal(x, expected)
    y, mask = function(x, **settings, rng=1, out=out, return_mask=True)
    assert y is out
    assert mask.shape == shape
    with pytest.raises(ValueError, match="inplace=True writes into x"):
        function(x, **settings, inplace=True, out=out)


@every_function
@pytest.mark.parametrize("how", [{"training": False}, {"p": 0.0}])
def test_identities(
    function: Any, layer: Any, shape: tuple[int, ...], settings: dict[str, Any], how: dict[str, Any]
) -> None:
    x, rng = normal(shape), fastdrop.ARS4x32(1)
    options = {**settings, "rng": rng, **how}
    assert function(x, **options) is x
    out = np.empty_like(x)
    assert function(x, **options, out=out) is out
    np.testing.assert_array_equal(out, x)
    y, mask = function(x, **options, return_mask=True)
    assert y is x
    np.testing.assert_array_equal(mask.apply(x), x)
    assert rng.position == 0


@every_function
def test_what_it_refuses(
    function: Any, layer: Any, shape: tuple[int, ...], settings: dict[str, Any]
) -> None:
    x, rng = normal(shape), fastdrop.ARS4x32(1)
    refused: list[tuple[type[Exception], str, dict[str, Any]]] = [
        (TypeError, "must be a numpy.ndarray", {"x": [1.0]}),
        (TypeError, "one of the dtypes", {"x": np.ones(shape, int)}),
        (ValueError, "between 0 and 1", {"p": 1.5}),
        (ValueError, "between 0 and 1", {"p": 1.5, "training": False}),
        (TypeError, "real number", {"p": "a"}),
        (ValueError, "must have x's shape", {"out": np.empty(3, np.float32)}),
        (TypeError, "must have x's dtype", {"out": np.empty(shape)}),
        (ValueError, "rng must be one of", {"rng": "unheard of"}),
        (ValueError, "rng must be one of", {"rng": "unheard of", "training": False}),
    ]
    for error, message, change in refused:
        with pytest.raises(error, match=message):
            function(**{"x": x, "rng": rng, **settings, **change})
    assert rng.position == 0
    np.testing.assert_array_equal(x, normal(shape))


@pytest.mark.parametrize(
    ("function", "shape", "error"),
    [
        (fastdrop.dropout1d, (4,), RuntimeError),
        (fastdrop.dropout1d, (4, 3, 2, 2), RuntimeError),
        (fastdrop.feature_alpha_dropout, (4,), RuntimeError),
        (fastdrop.drop_path, (), ValueError),
        (fastdrop.drop_block2d, (4, 3, 2), ValueError),
    ],
)
@pytest.mark.parametrize("training", [True, False])
def test_ranks_it_refuses(
    function: Any, shape: tuple[int, ...], error: type[Exception], training: bool
) -> None:
    with pytest.raises(error, match="dimensions"):
        function(np.ones(shape), 0.3, training=training)


@pytest.mark.parametrize("name", ["alpha_dropout", "feature_alpha_dropout", "gaussian_dropout"])
def test_complex_inputs_are_refused(name: str) -> None:
    with pytest.raises(TypeError, match="real dtype"):
        getattr(fastdrop, name)(np.ones((2, 3), complex))


def test_arguments_go_by_position_as_elsewhere() -> None:
    """In the order of torch.nn.functional, timm and, as far as it is ours, torchvision."""
    x, y = normal((6, 5, 8)), normal((2, 3, 8, 8))
    assert fastdrop.dropout1d(x, 0.5, False, True) is x
    unscaled = fastdrop.drop_path(x, 0.5, True, False, rng=1)
    kept = unscaled != 0
    assert kept.any()
    np.testing.assert_array_equal(unscaled[kept], x[kept])
    fastdrop.drop_block2d(y, 0.2, 3)
    with pytest.raises(TypeError, match="positional"):  # torchvision's inplace is the fourth
        fastdrop.drop_block2d(y, 0.2, 3, False)  # type: ignore[call-overload]


@pytest.mark.parametrize(
    ("dimensions", "layer", "function"),
    [
        (3, fastdrop.Dropout2d, fastdrop.dropout2d),
        (5, fastdrop.Dropout2d, fastdrop.dropout2d),
        (6, fastdrop.Dropout3d, fastdrop.dropout3d),
    ],
)
def test_warnings_name_the_line_that_called(dimensions: int, layer: Any, function: Any) -> None:
    class Own(layer):  # type: ignore[misc]
        def forward(self, x: Any) -> Any:
            return super().forward(x)

    x = np.ones((2,) * dimensions)
    for call in (
        lambda: layer()(x),
        lambda: layer().forward_mask(x),
        lambda: function(x),
        lambda: function(x, return_mask=True),
        lambda: Own()(x),
    ):
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            call()
        assert {warning.filename for warning in caught} == {__file__}


def test_the_default_generator_is_the_processs() -> None:
    rng = fastdrop.default_rng()
    assert rng is fastdrop.manual_seed(4)
    before = rng.position
    fastdrop.dropout(np.ones(5000))
    assert fastdrop.default_rng() is rng
    assert rng.position > before
    np.testing.assert_array_equal(fastdrop.dropout(np.ones(9), rng=rng).shape, (9,))
