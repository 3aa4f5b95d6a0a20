"""dropout and Dropout: what they return, keep, accept and refuse."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from support import DTYPES, any_bits, contents, dtype_of, poisoned, reference

import fastdrop
from fastdrop import arrays
from fastdrop.backends import Draw
from fastdrop.rng.numpy_adapter import NumpyRNG

DROPOUTS: dict[str, Callable[..., np.ndarray]] = {
    "function": lambda x, p=0.5, *, out=None, inplace=False, rng=None: fastdrop.dropout(
        x, p, inplace=inplace, rng=rng, out=out
    ),
    "layer": lambda x, p=0.5, *, out=None, inplace=False, rng=None: fastdrop.Dropout(
        p, inplace, rng=rng
    )(x, out),
}


@pytest.fixture(params=DROPOUTS)
def dropout(request: pytest.FixtureRequest) -> Callable[..., np.ndarray]:
    """Run the test with the function and with the layer."""
    return DROPOUTS[request.param]


@pytest.fixture(params=["compiled", "python"])
def _checks(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> None:
    """Run the test with the compiled checks of arrays and without them."""
    if request.param == "python":
        monkeypatch.setattr(arrays, "core", None)
    elif arrays.core is None:
        pytest.skip("the extension is not compiled here")


checks = pytest.mark.usefixtures("_checks")


def ones(*shape: int) -> np.ndarray:
    return np.ones(shape, np.float32)


# What comes out.


def test_two_by_four(backend: str) -> None:
    layer = fastdrop.Dropout(p=0.5, rng=42)
    y = layer(ones(2, 4))
    assert y.dtype == np.float32
    assert set(y.ravel()) <= {0.0, 2.0}
    x = ones(2, 4)
    assert layer.eval()(x) is x


def test_function_and_layer_draw_alike(backend: str) -> None:
    layer = fastdrop.Dropout(0.3, rng=1)
    rng = fastdrop.ARS4x32(1)
    for _ in range(3):
        expected = fastdrop.dropout(ones(50, 50), 0.3, rng=rng)
        np.testing.assert_array_equal(layer(ones(50, 50)), expected)
    assert (layer.forward(ones(99)) == fastdrop.dropout(ones(99), 0.3, rng=rng)).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_kept_elements_are_scaled(backend: str, dtype: str) -> None:
    x = ones(999).astype(dtype_of(dtype))
    y, mask = fastdrop.dropout(x, 0.75, rng=1, return_mask=True)
    assert y.dtype == x.dtype
    np.testing.assert_array_equal(y.astype(complex), np.where(mask, 4, 0))
    assert 0 < np.sum(mask) < 999


def test_two_draws_differ(backend: str, dropout: Any) -> None:
    rng = fastdrop.Philox(1)
    assert (dropout(ones(99), rng=rng) != dropout(ones(99), rng=rng)).any()


def test_input_is_left_alone(backend: str, dropout: Any) -> None:
    x = ones(999)
    assert dropout(x, rng=1) is not x
    assert (x == 1).all()


@pytest.mark.parametrize("dtype", DTYPES)
def test_p_of_one_gives_zeros(backend: str, dropout: Any, dtype: str) -> None:
    x = any_bits((999,), dtype_of(dtype))
    out = poisoned(x.shape, x.dtype)
    assert not any(contents(dropout(x, 1.0, out=out)))
    assert not any(contents(dropout(x, 1.0)))


@checks
@pytest.mark.parametrize("shape", [(0,), (3, 0, 2), ()])
def test_empty_and_0d(backend: str, dropout: Any, shape: tuple[int, ...]) -> None:
    x = np.full(shape, 3.0)
    y = dropout(x, rng=1)
    assert type(y) is np.ndarray
    assert y.shape == shape
    assert (np.isin(y, [0.0, 6.0])).all()


# The identity.


@checks
@pytest.mark.parametrize("inplace", [False, True])
def test_eval_and_p_of_zero_return_x_itself(dropout: Any, inplace: bool) -> None:
    rng = fastdrop.PCG64(1)
    for x in (ones(5), np.asfortranarray(ones(3, 4)), np.broadcast_to(ones(1), (4, 5))):
        before = x.copy()
        assert dropout(x, 0.0, rng=rng) is x
        assert fastdrop.dropout(x, 0.5, training=False, rng=rng) is x
        assert fastdrop.Dropout(0.5, rng=rng).eval()(x) is x
        assert (x == before).all()
    x = ones(5)
    assert dropout(x, 0.0, rng=rng, inplace=inplace) is x
    assert rng.position == 0


@checks
def test_identity_with_out_copies(dropout: Any) -> None:
    x, out = any_bits((7, 5), np.float32), poisoned((7, 5), np.float32)
    assert dropout(x, 0.0, out=out) is out
    assert contents(out) == contents(x)
    out = poisoned((5, 7), np.float32).T
    assert fastdrop.Dropout(0.5).eval()(x, out) is out
    assert contents(out) == contents(x)
    assert dropout(x, 0.0, out=x) is x


@checks
def test_identity_checks_its_input_too(dropout: Any) -> None:
    with pytest.raises(TypeError, match="x must have one of the dtypes"):
        dropout(np.arange(3), 0.0)
    with pytest.raises(TypeError, match=r"x must be a numpy\.ndarray"):
        fastdrop.Dropout().eval()([1.0])
    with pytest.raises(ValueError, match="out must have x's shape"):
        fastdrop.Dropout().eval()(ones(3), ones(4))


def test_identitys_mask_keeps_all() -> None:
    for p, training in ((0.0, True), (0.5, False)):
        x = ones(9)
        y, mask = fastdrop.dropout(x, p, training, return_mask=True)
        assert y is x
        assert np.asarray(mask).all()
        assert mask.scale == 1.0


# Layout, out and in place.


@checks
def test_layout_is_kept(dropout: Any) -> None:
    nhwc = ones(2, 5, 6, 3)
    for x in (
        ones(4, 5),
        ones(4, 5).T,
        nhwc.transpose(0, 3, 1, 2),
        np.asfortranarray(ones(3, 4, 5)),
    ):
        y = dropout(x)
        assert (y.shape, y.strides) == (x.shape, x.strides)
    assert dropout(ones(8, 8)[::2, ::2]).flags.c_contiguous
    assert dropout(np.broadcast_to(ones(1, 5), (4, 5))).flags.owndata


@checks
@pytest.mark.parametrize("p", [0.3, 0.5, 1.0])
def test_out_is_written_and_returned(backend: str, dropout: Any, p: float) -> None:
    x, out = ones(33, 9), poisoned((33, 9), np.float32)
    assert dropout(x, p, rng=1, out=out) is out
    np.testing.assert_array_equal(out, dropout(x, p, rng=1))
    assert dropout(x, p, rng=1, out=x) is x
    np.testing.assert_array_equal(out, x)


@checks
def test_in_place_writes_into_x(backend: str, dropout: Any) -> None:
    expected = dropout(ones(33, 9), rng=1)
    for x in (ones(33, 9), np.asfortranarray(ones(33, 9)), ones(66, 9)[::2]):
        assert dropout(x, rng=1, inplace=True) is x
        np.testing.assert_array_equal(x, expected)
    x = ones(33, 9)
    assert dropout(x, rng=1, inplace=True, out=x) is x
    np.testing.assert_array_equal(x, expected)


@checks
def test_another_view_of_the_same_elements_is_x_itself(backend: str, dropout: Any) -> None:
    x = ones(33, 9)
    expected = dropout(x, rng=1)
    assert dropout(x, rng=1, out=x[:]) is not x
    np.testing.assert_array_equal(x, expected)


@checks
def test_interleaved_views_do_not_overlap(backend: str, dropout: Any) -> None:
    buffer = ones(200)
    expected = dropout(ones(100), rng=1)
    dropout(buffer[::2], rng=1, out=buffer[1::2])
    np.testing.assert_array_equal(buffer[1::2], expected)
    assert (buffer[::2] == 1).all()


@checks
def test_adjacent_halves_do_not_overlap(backend: str, dropout: Any) -> None:
    buffer = ones(200)
    dropout(buffer[:100], rng=1, out=buffer[100:])
    assert (buffer[:100] == 1).all()
    np.testing.assert_array_equal(buffer[100:], dropout(ones(100), rng=1))


@checks
def test_memory_maps_are_arrays(backend: str, dropout: Any, tmp_path: Path) -> None:
    expected = dropout(ones(50, 20), rng=1)
    mapped = np.memmap(tmp_path / "x", np.float32, "w+", shape=(50, 20))
    mapped[...] = 1
    y = dropout(mapped, rng=1)
    assert type(y) is np.ndarray
    np.testing.assert_array_equal(y, expected)
    assert dropout(mapped, rng=1, inplace=True) is mapped
    mapped.flush()
    np.testing.assert_array_equal(np.fromfile(tmp_path / "x", np.float32).reshape(50, 20), expected)
    read_only = np.memmap(tmp_path / "x", np.float32, "r", shape=(50, 20))
    np.testing.assert_array_equal(dropout(read_only, 0.5, rng=1), expected * expected)


# What is refused: before anything is written or drawn.

X = ones(6, 4)
OVERLAPPING = np.ones(40, np.float32)


class Subclass(np.ndarray):
    pass


WRONG_X = {
    "int": np.arange(24).reshape(6, 4),
    "bool": np.ones((6, 4), bool),
    "object": np.ones((6, 4), object),
    "structured": np.zeros((6, 4), [("a", np.float32)]),
    "text": np.full((6, 4), "a"),
    "bytes": np.full((6, 4), b"a"),
    "void": np.zeros((6, 4), "V2"),
    "datetime": np.zeros((6, 4), "M8[s]"),
    "masked": np.ma.masked_array(X, X > 2),
    "matrix": X.view(np.matrix),
    "recarray": np.zeros(3, [("a", np.float32)]).view(np.recarray),
    "subclass": X.view(Subclass),
    "list": [1.0, 2.0],
    "float": 1.0,
    "scalar": np.float32(1),
    "none": None,
    "array interface": memoryview(X),
}
if np.dtype(np.longdouble) != np.float64:
    WRONG_X["longdouble"] = np.ones((6, 4), np.longdouble)
    WRONG_X["clongdouble"] = np.ones((6, 4), np.clongdouble)


@checks
@pytest.mark.parametrize("inplace", [False, True])
@pytest.mark.parametrize("kind", WRONG_X)
def test_x_of_another_type_is_refused(dropout: Any, kind: str, inplace: bool) -> None:
    rng = fastdrop.ARS4x32(1)
    x = WRONG_X[kind]
    before = copy.deepcopy(x) if not isinstance(x, memoryview) else x
    with pytest.raises(TypeError, match=r"^x must "):
        dropout(x, rng=rng, inplace=inplace)
    assert rng.position == 0
    assert np.array_equal(x, before) or kind == "subclass"


def read_only(x: np.ndarray) -> np.ndarray:
    x.flags.writeable = False
    return x


# name: (x, out, error, message)
WRONG_OUT: dict[str, tuple[np.ndarray, Any, type[Exception], str]] = {
    "shape": (X, ones(4, 6), ValueError, r"out must have x's shape \(6, 4\), but got \(4, 6\)"),
    "broadcastable": (ones(1, 4), ones(6, 4), ValueError, "out must have x's shape"),
    "rank": (X, ones(24), ValueError, "out must have x's shape"),
    "dtype": (X, np.ones((6, 4)), TypeError, "out must have x's dtype float32, but got float64"),
    "byte order": (X, X.astype(">f4"), TypeError, "out must have x's dtype float32, but got >f4"),
    "int": (X, np.ones((6, 4), int), TypeError, "out must have one of the dtypes"),
    "list": (X, [1.0], TypeError, r"out must be a numpy\.ndarray, but got builtins\.list"),
    "masked": (X, np.ma.masked_array(ones(6, 4)), TypeError, "out must be a plain numpy.ndarray"),
    "read-only": (X, read_only(ones(6, 4)), ValueError, "out must be writable"),
    "broadcast": (
        X,
        np.lib.stride_tricks.as_strided(ones(4), (6, 4), (0, 4)),
        ValueError,
        "out must have memory of its own for each element",
    ),
    "windows": (
        ones(6, 4),
        np.lib.stride_tricks.as_strided(ones(9), (6, 4), (4, 4)),
        ValueError,
        "out must have memory of its own for each element",
    ),
    "shifted": (OVERLAPPING[:-1], OVERLAPPING[1:], ValueError, "it overlaps in part"),
    "reversed": (OVERLAPPING, OVERLAPPING[::-1], ValueError, "it overlaps in part"),
    "transposed": (
        OVERLAPPING[:36].reshape(6, 6),
        OVERLAPPING[:36].reshape(6, 6).T,
        ValueError,
        "it overlaps in part",
    ),
}


@checks
@pytest.mark.parametrize("kind", WRONG_OUT)
def test_wrong_out_is_refused(dropout: Any, kind: str) -> None:
    x, out, error, message = WRONG_OUT[kind]
    rng = fastdrop.ARS4x32(1)
    before = copy.deepcopy(x), copy.deepcopy(out)
    with pytest.raises(error, match=message):
        dropout(x, rng=rng, out=out)
    drawn = Draw(*rng.reserve(0), fastdrop.mask_format.rate(0.5))
    with pytest.raises(error, match=message):
        fastdrop.Mask(drawn, x.shape).apply(x, out)
    assert rng.position == 0
    assert np.array_equal(x, before[0])
    assert np.array_equal(out, before[1])


@checks
@pytest.mark.parametrize("p", [0.5, 0.0])
def test_in_place_with_another_out_is_refused(dropout: Any, p: float) -> None:
    rng = fastdrop.ARS4x32(1)
    x, out = ones(6, 4), ones(6, 4)
    with pytest.raises(ValueError, match="out must be None or x itself"):
        dropout(x, p, inplace=True, out=out, rng=rng)
    assert rng.position == 0
    assert (x == 1).all()
    assert (out == 1).all()


@checks
@pytest.mark.parametrize(
    ("x", "message"),
    [
        (read_only(ones(6, 4)), "x, with inplace=True, must be writable"),
        (np.broadcast_to(ones(1, 4), (6, 4)), "x, with inplace=True, must be writable"),
        (
            np.lib.stride_tricks.as_strided(ones(4), (6, 4), (0, 4)),
            "x, with inplace=True, must have memory of its own for each element",
        ),
    ],
    ids=["read-only", "broadcast", "writable broadcast"],
)
def test_in_place_needs_memory_to_write(dropout: Any, x: np.ndarray, message: str) -> None:
    rng = fastdrop.ARS4x32(1)
    before = x.copy()
    with pytest.raises(ValueError, match=message):
        dropout(x, rng=rng, inplace=True)
    assert rng.position == 0
    assert (x == before).all()
    assert (dropout(x, rng=rng) != 1).all()  # without inplace it is a fine input


@pytest.mark.parametrize("p", [-0.1, 1.1, np.nan, np.inf])
def test_p_out_of_range_is_refused(dropout: Any, p: float) -> None:
    rng, x = fastdrop.ARS4x32(1), ones(9)
    message = "dropout probability has to be between 0 and 1, but got"
    with pytest.raises(ValueError, match=message):
        dropout(x, p, rng=rng, inplace=True)
    with pytest.raises(ValueError, match=message):
        fastdrop.dropout(x, p, training=False, rng=rng)
    assert rng.position == 0
    assert (x == 1).all()


def test_p_of_another_type_is_refused(dropout: Any) -> None:
    rng = fastdrop.ARS4x32(1)
    with pytest.raises(TypeError, match="dropout probability has to be a real number"):
        dropout(ones(9), "0.5", rng=rng)
    assert rng.position == 0


# The layer.


def test_modes() -> None:
    layer = fastdrop.Dropout(rng=1)
    assert layer.training
    assert layer.eval() is layer
    assert not layer.training
    assert layer.train() is layer
    assert layer.training
    assert not layer.train(False).training


def test_p_may_change_and_is_checked(backend: str) -> None:
    layer = fastdrop.Dropout(0.5, rng=1)
    layer.p = 0.75
    assert set(layer(ones(99))) == {0.0, 4.0}
    layer.p = 0
    x = ones(9)
    assert layer(x) is x
    for bad, error in ((1.5, ValueError), (np.nan, ValueError), ("1", TypeError)):
        with pytest.raises(error, match="dropout probability has to be"):
            layer.p = bad
    assert layer.p == 0.0


def test_inplace_may_change() -> None:
    layer = fastdrop.Dropout(rng=1)
    layer.inplace = True
    x = ones(99)
    assert layer(x) is x
    assert (x == 0).any()


def test_repr() -> None:
    assert repr(fastdrop.Dropout()) == "Dropout(p=0.5, inplace=False)"
    assert repr(fastdrop.Dropout(0.1, True, rng=3)) == "Dropout(p=0.1, inplace=True)"


def test_backward_evaluates_the_mask_again(backend: str) -> None:
    layer = fastdrop.Dropout(0.3, rng=1)
    layer(ones(40, 30))
    y = layer(ones(40, 30))
    grad = any_bits((40, 30), np.float32)
    expected = reference(layer.mask, grad)
    assert contents(layer.backward(grad)) == contents(expected)
    assert contents(layer.backward(grad, grad)) == contents(expected)
    np.testing.assert_array_equal(layer.backward(ones(40, 30)), y)
    assert layer.backward(np.ones((40, 30))).dtype == np.float64


def test_backward_after_an_identity_is_the_identity() -> None:
    layer = fastdrop.Dropout(0.3, rng=1)
    layer(ones(5))
    layer.eval()(ones(5))
    assert layer.mask is None
    grad = ones(5)
    assert layer.backward(grad) is grad
    out = poisoned((5,), np.float32)
    assert layer.backward(grad, out) is out
    assert (out == 1).all()


def test_backward_refuses() -> None:
    layer = fastdrop.Dropout(0.3, rng=1)
    assert layer.mask is None
    with pytest.raises(RuntimeError, match="backward needs a forward before it"):
        layer.backward(ones(5))
    layer(ones(5))
    with pytest.raises(ValueError, match=r"shape \(5,\), but got \(6,\)"):
        layer.backward(ones(6))
    with pytest.raises(TypeError, match="must have one of the dtypes"):
        layer.backward(np.arange(5))


def test_a_failed_forward_changes_nothing() -> None:
    layer = fastdrop.Dropout(0.3, rng=1)
    layer(ones(5))
    mask, position = layer.mask, layer.rng.position
    with pytest.raises(TypeError):
        layer(np.arange(5))
    with pytest.raises(ValueError, match="shape"):
        layer(ones(5), ones(6))
    assert layer.mask == mask
    assert layer.rng.position == position


@pytest.mark.parametrize("dtype", ["float32", "float64"])
def test_gradient_agrees_with_finite_differences(dtype: str) -> None:
    layer = fastdrop.Dropout(0.3, rng=1)
    x = np.random.default_rng(1).normal(size=50).astype(dtype)
    y = layer(x)
    again = layer.mask.apply(x + np.asarray(0.5, dtype))
    slope = (again - y) / 0.5
    np.testing.assert_allclose(layer.backward(np.ones_like(x)), slope, rtol=1e-4, atol=1e-5)


def test_without_rng_the_layer_draws_from_the_default_generator() -> None:
    layer = fastdrop.Dropout()
    default = fastdrop.manual_seed(1)
    assert layer.rng is default
    first = layer(ones(99))
    fastdrop.manual_seed(1)
    assert (fastdrop.dropout(ones(99)) == first).all()


def test_layers_can_share_a_generator() -> None:
    rng = fastdrop.ARS4x32(1)
    a, b = fastdrop.Dropout(rng=rng), fastdrop.Dropout(rng=rng)
    assert a.rng is b.rng is rng
    assert (a(ones(99)) != b(ones(99))).any()


# State.


@pytest.mark.parametrize("rng", [1, "pcg64", fastdrop.Philox(2)], ids=["seed", "name", "generator"])
def test_state_resumes_exactly(backend: str, rng: Any) -> None:
    layer = fastdrop.Dropout(0.3, True, rng=rng)
    layer(ones(999))
    state = json.loads(json.dumps(layer.state_dict()))
    resumed = fastdrop.Dropout(rng=type(layer.rng)())
    resumed.load_state_dict(state)
    assert repr(resumed) == "Dropout(p=0.3, inplace=True)"
    assert resumed.state_dict() == state
    np.testing.assert_array_equal(resumed(ones(999)), layer(ones(999)))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda layer: pickle.loads(pickle.dumps(layer))])
@pytest.mark.parametrize("kind", [fastdrop.PCG64, np.random.SFC64, np.random.default_rng])
def test_copies_draw_what_would_have_come(backend: str, kind: Any, copied: Any) -> None:
    layer = fastdrop.Dropout(0.3, rng=kind(1))
    layer(ones(99))
    layer.eval()
    other = copied(layer)
    assert not other.training
    assert (
        other.mask == layer.mask or kind is np.random.SFC64
    )  # whose masks are equal to themselves
    np.testing.assert_array_equal(other.train()(ones(99)), layer.train()(ones(99)))


def test_a_shallow_copy_shares_the_generator() -> None:
    layer = fastdrop.Dropout(0.3, rng=1)
    assert copy.copy(layer).rng is layer.rng


def test_a_copy_can_go_backward(backend: str) -> None:
    layer = fastdrop.Dropout(0.3, rng=1)
    y = layer(ones(99))
    for copied in (copy.deepcopy(layer), pickle.loads(pickle.dumps(layer))):
        np.testing.assert_array_equal(copied.backward(ones(99)), y)


def test_pickled_layer_is_small() -> None:
    layer = fastdrop.Dropout(0.3, rng=1)
    layer(ones(10_000))
    assert len(pickle.dumps(layer)) < 1024
    assert len(json.dumps(layer.state_dict())) < 1024


@pytest.mark.parametrize(
    ("change", "error", "message"),
    [
        ({"mask_format": 1}, ValueError, "state must be of mask format 2, but got 1"),
        ({"rng": fastdrop.PCG64(1).state}, ValueError, "'ars4x32', but got one of 'pcg64'"),
        ({"rng": NumpyRNG(np.random.SFC64(1)).state}, ValueError, "state"),
        ({"rng": None}, ValueError, "state must be a dictionary"),
        ({"p": 1.5}, ValueError, "dropout probability"),
        ({"p": "0.5"}, TypeError, "dropout probability"),
    ],
)
def test_wrong_state_is_refused_and_changes_nothing(
    change: dict[str, Any], error: type[Exception], message: str
) -> None:
    layer = fastdrop.Dropout(0.3, rng=1)
    before = layer.state_dict()
    other = fastdrop.Dropout(0.7, True, rng=2).eval().state_dict()
    with pytest.raises(error, match=message):
        layer.load_state_dict({**other, **change})
    assert layer.state_dict() == before


@pytest.mark.parametrize("entry", ["mask_format", "p", "inplace", "training", "rng"])
def test_state_has_to_be_complete(entry: str) -> None:
    layer = fastdrop.Dropout(0.3, rng=1)
    state = layer.state_dict()
    del state[entry]
    with pytest.raises(ValueError, match=rf"lacks \['{entry}'\]"):
        layer.load_state_dict(state)
