"""Side by side with PyTorch: the same interface, eval mode, errors and statistics."""

from __future__ import annotations

import inspect
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdrop

torch = pytest.importorskip("torch")
functional = torch.nn.functional


def parameters(function: Callable[..., Any]) -> list[tuple[str, Any]]:
    """Return the positional parameters and their defaults."""
    return [
        (name, parameter.default)
        for name, parameter in inspect.signature(function).parameters.items()
        if parameter.kind is parameter.POSITIONAL_OR_KEYWORD and name not in ("self", "input", "x")
    ]


def test_parameters_are_torchs() -> None:
    assert parameters(fastdrop.Dropout) == parameters(torch.nn.Dropout)
    assert parameters(fastdrop.dropout) == parameters(functional.dropout)


def test_layers_look_alike() -> None:
    ours, theirs = fastdrop.Dropout(0.2, True), torch.nn.Dropout(0.2, True)
    assert repr(ours) == repr(theirs)
    for name in ("p", "inplace", "training"):
        assert getattr(ours, name) == getattr(theirs, name)
    for name in ("train", "eval", "forward", "state_dict", "load_state_dict"):
        assert callable(getattr(ours, name))
        assert callable(getattr(theirs, name))
    assert ours.eval().training == theirs.eval().training
    assert ours.train().training == theirs.train().training


def test_eval_and_p_of_zero_return_the_input() -> None:
    array, tensor = np.ones((3, 4), np.float32), torch.ones(3, 4)
    assert fastdrop.Dropout(0.5).eval()(array) is array
    assert torch.nn.Dropout(0.5).eval()(tensor) is tensor
    assert fastdrop.dropout(array, 0.5, False) is array
    assert functional.dropout(tensor, 0.5, False) is tensor
    np.testing.assert_array_equal(fastdrop.dropout(array, 0.0), functional.dropout(tensor, 0.0))


def test_p_of_one_gives_zeros() -> None:
    array, tensor = np.ones((3, 4), np.float32), torch.ones(3, 4)
    np.testing.assert_array_equal(fastdrop.dropout(array, 1.0), functional.dropout(tensor, 1.0))


def test_in_place_returns_the_input_written() -> None:
    array, tensor = np.ones((30, 40), np.float32), torch.ones(30, 40)
    assert fastdrop.Dropout(0.5, True)(array) is array
    assert torch.nn.Dropout(0.5, True)(tensor) is tensor
    assert set(np.unique(array)) == set(np.unique(tensor.numpy())) == {0.0, 2.0}


@pytest.mark.parametrize("p", [-0.1, 1.1, 2, math.inf])
def test_bad_p_has_torchs_error(p: float) -> None:
    for ours, theirs in (
        (lambda: fastdrop.Dropout(p), lambda: torch.nn.Dropout(p)),
        (
            lambda: fastdrop.dropout(np.ones(3), p),
            lambda: functional.dropout(torch.ones(3), p),
        ),
    ):
        with pytest.raises(ValueError, match="dropout probability") as our_error:
            ours()
        with pytest.raises(ValueError, match="dropout probability") as their_error:
            theirs()
        assert str(our_error.value) == str(their_error.value).replace(f"got {p}", f"got {float(p)}")


@pytest.mark.parametrize("dtype", ["float16", "float32", "float64"])  # torch takes no complex ones
def test_values_of_what_is_kept_are_torchs(dtype: str) -> None:
    x = (np.arange(2000) % 97 + 1).astype(dtype)
    p = 0.3
    ours, mask = fastdrop.dropout(x, p, rng=1, return_mask=True)
    tensor = functional.dropout(torch.from_numpy(x), p)
    kept = np.asarray(mask) & (tensor != 0).numpy()
    assert kept.sum() > 500
    tolerance = 2 * np.finfo(dtype).eps
    np.testing.assert_allclose(ours[kept], tensor.numpy()[kept], rtol=tolerance)
    assert ours.dtype == tensor.numpy().dtype


@pytest.mark.parametrize("dtype", ["int32", "int64", "bool"])
def test_integers_are_refused_by_both(dtype: str) -> None:
    x = np.ones(9, dtype)
    with pytest.raises(TypeError, match="dtypes"):
        fastdrop.dropout(x)
    with pytest.raises(RuntimeError, match="result type"):
        functional.dropout(torch.from_numpy(x), 0.5)


@pytest.mark.parametrize("shape", [(), (0,), (3, 0), (5,), (2, 3, 4, 5)])
def test_shapes_come_out_alike(shape: tuple[int, ...]) -> None:
    ours = fastdrop.dropout(np.ones(shape, np.float32))
    assert ours.shape == tuple(functional.dropout(torch.ones(shape)).shape)


@pytest.mark.parametrize("axes", [(0, 1, 2, 3), (0, 3, 1, 2), (3, 2, 1, 0), (1, 0, 2, 3)])
def test_dense_layouts_come_out_alike(axes: tuple[int, ...]) -> None:
    x = np.ones((2, 3, 4, 5), np.float32).transpose(axes)
    theirs = functional.dropout(torch.from_numpy(x))
    assert fastdrop.dropout(x).strides == tuple(4 * stride for stride in theirs.stride())


@pytest.mark.parametrize("p", [0.1, 0.5, 0.9])
def test_statistics_agree(p: float) -> None:
    """Keep rates within chance of each other: the alarm rate is 1e-9 (see tests/statistics)."""
    n = 1 << 20
    ours = int(np.count_nonzero(fastdrop.dropout(np.ones(n, np.float32), p, rng=1)))
    torch.manual_seed(1)
    theirs = int(torch.count_nonzero(functional.dropout(torch.ones(n), p)))
    assert abs(ours - theirs) <= 6.2 * math.sqrt(2 * n * p * (1 - p))


def test_gradient_of_the_same_mask_is_autograds() -> None:
    layer = fastdrop.Dropout(0.3, rng=1)
    x = np.random.default_rng(1).normal(size=(20, 30)).astype(np.float32)
    y = layer(x)
    tensor = torch.from_numpy(x).requires_grad_()
    keep = torch.from_numpy(np.asarray(layer.mask, np.float32))
    expected = tensor * keep * layer.mask.scale
    np.testing.assert_allclose(y, expected.detach().numpy(), rtol=1e-6)
    grad = np.random.default_rng(2).normal(size=(20, 30)).astype(np.float32)
    expected.backward(torch.from_numpy(grad))
    np.testing.assert_allclose(layer.backward(grad), tensor.grad.numpy(), rtol=1e-6)


def test_manual_seed_repeats_in_both() -> None:
    for seed, run in (
        (fastdrop.manual_seed, lambda: fastdrop.dropout(np.ones(99))),
        (torch.manual_seed, lambda: functional.dropout(torch.ones(99)).numpy()),
    ):
        seed(3)
        first, second = run(), run()
        seed(3)
        np.testing.assert_array_equal(run(), first)
        assert (first != second).any()
