"""Masks of one's own: what drawn ones do, from an array or from packed bits."""

from __future__ import annotations

import copy
import pickle
from typing import Any

import numpy as np
import pytest
from support import DTYPES, any_bits, contents, dtype_of, poisoned

import fastdrop

SHAPES = [(), (0,), (3, 0, 2), (1,), (64,), (9, 7), (3, 65, 70), (2, 3, 4, 5)]
NOISES = [((9, 70), (9, 1)), ((9, 70), (1, 70)), ((9, 70), (70,)), ((3, 5, 7), (1, 5, 1))]


def drawn(shape: tuple[int, ...], p: float = 0.3) -> Any:
    """Return a drawn mask and the same one made of an array."""
    _, mask = fastdrop.dropout(np.ones(shape), p, rng=5, return_mask=True)
    return mask, fastdrop.ArrayMask(mask.to_bool(), p=p)


@pytest.mark.parametrize("shape", SHAPES)
@pytest.mark.parametrize("dtype", DTYPES)
def test_it_applies_as_the_drawn_mask_does(
    backend: str, dtype: str, shape: tuple[int, ...]
) -> None:
    mask, own = drawn(shape)
    x = any_bits(shape, dtype_of(dtype))
    for view in (x, x.T.copy().T, x[..., ::-1] if shape else x):
        expected = contents(mask.apply(view))
        assert contents(own.apply(view)) == expected
        assert contents(fastdrop.dropout_backward(view, own)) == expected
        out = poisoned(shape, x.dtype)
        assert own.apply(view, out) is out
        assert contents(out) == expected
    assert own.apply(x, x) is x
    assert (own.shape, own.size, own.ndim, own.scale) == (shape, x.size, x.ndim, mask.scale)
    assert contents(own.to_packed()) == contents(mask.to_packed())
    assert contents(np.asarray(own)) == contents(mask.to_bool())


@pytest.mark.parametrize(("shape", "noise"), NOISES)
def test_a_smaller_array_is_shared(
    backend: str, shape: tuple[int, ...], noise: tuple[int, ...]
) -> None:
    kept = np.random.default_rng(1).random(noise) < 0.6
    shared = fastdrop.ArrayMask(kept, scale=3.0, shape=shape)
    whole = fastdrop.ArrayMask(np.broadcast_to(kept, shape), scale=3.0)
    x = any_bits(shape, np.float32)
    for layout in (x, np.asfortranarray(x)):
        assert contents(shared.apply(layout)) == contents(whole.apply(layout))
    assert (shared.to_bool() == whole.to_bool()).all()
    assert shared.noise_shape == (1,) * (len(shape) - len(noise)) + noise
    assert (shared[1:3].to_bool() == whole.to_bool()[1:3]).all()
    assert (shared[-1].to_bool() == whole.to_bool()[-1]).all()


@pytest.mark.parametrize("shape", SHAPES)
def test_packed_bits_are_the_same_mask(shape: tuple[int, ...]) -> None:
    mask, own = drawn(shape)
    bits = mask.to_packed()
    if mask.size % 8:
        bits[-1] |= 0x80  # past the last element: of no account
    again = fastdrop.ArrayMask.from_packed(bits, shape, scale=mask.scale)
    assert contents(again.to_packed()) == contents(own.to_packed())
    assert again.p is None
    assert again.scale == own.scale


FUSED = {
    "dropout_add": lambda x, a, **m: fastdrop.dropout_add(x, a, 0.3, **m),
    "bias": lambda x, a, **m: fastdrop.bias_dropout_add(x, a[0], None, 0.3, **m),
    "bias_dropout_add": lambda x, a, **m: fastdrop.bias_dropout_add(x, a[0], a, 0.3, **m),
    "gelu": lambda x, a, **m: fastdrop.act_dropout(x, "gelu", 0.3, **m),
    "relu": lambda x, a, **m: fastdrop.relu_dropout(x, 0.3, **m),
}


@pytest.mark.parametrize("name", FUSED)
@pytest.mark.parametrize("dtype", ["float16", "bfloat16", "float32", "float64"])
def test_fused_forwards_take_it(backend: str, dtype: str, name: str) -> None:
    x, a = (np.random.default_rng(i).normal(size=(9, 70)).astype(dtype_of(dtype)) for i in (1, 2))
    call, before = FUSED[name], fastdrop.rng.default_rng().position
    y, mask = call(x, a, rng=5, return_mask=True)
    own = fastdrop.ArrayMask(mask.to_bool(), p=0.3)
    for given in (mask, own):
        z, same = call(x, a, mask=given, return_mask=True)
        assert contents(z) == contents(y)
        assert same is given
        assert contents(call(x, a, mask=given, out=(out := poisoned(x.shape, x.dtype)))) == (
            contents(out)
        )
        assert contents(out) == contents(y)
    assert contents(call(x, a, training=False, mask=own)) == contents(call(x, a, training=False))
    assert fastdrop.rng.default_rng().position == before


@pytest.mark.parametrize("activation", ["relu", "gelu", "gelu_tanh", "silu"])
def test_activations_backwards_take_it(backend: str, activation: str) -> None:
    x, grad = (np.random.default_rng(i).normal(size=(9, 70)) for i in (1, 2))
    mask, own = drawn(x.shape)
    back = fastdrop.act_dropout_backward(grad, x, mask, activation=activation)
    assert contents(back) == contents(
        fastdrop.act_dropout_backward(grad, x, own, activation=activation)
    )
    if activation == "relu":
        assert contents(back) == contents(fastdrop.relu_dropout_backward(grad, x, own))


def test_fused_functions_take_all_masks_that_keep_or_drop(backend: str) -> None:
    x = np.random.default_rng(1).normal(size=(4, 3, 8, 8))
    layer = fastdrop.DropBlock2d(0.3, 3, batchwise=True, rng=1)
    masks = [
        fastdrop.Dropout2d(0.5, rng=1).forward_mask(x)[1],
        fastdrop.dropout(x, rng=1, sample_ids=[3, 1, 2, 9], return_mask=True)[1],
        layer.forward_mask(x)[1],
    ]
    for mask in masks:
        y = mask.apply(x)
        assert (fastdrop.dropout_add(x, x, mask=mask) == x + y).all()
        assert (fastdrop.relu_dropout(x, mask=mask) == mask.apply(np.maximum(x, 0))).all()
        back = fastdrop.relu_dropout_backward(x, x, mask)
        assert (back == mask.apply(x) * (x > 0)).all()
        assert (np.unpackbits(mask.to_packed(), bitorder="little") == mask.to_bool().ravel()).all()


def test_dropout_backward_takes_every_mask() -> None:
    grad = np.random.default_rng(1).normal(size=(4, 3, 8, 8))
    for layer in (
        fastdrop.DropBlock2d(0.3, 3),
        fastdrop.GaussianDropout(),
        fastdrop.GaussianNoise(),
    ):
        layer(grad)
        expected = layer.backward(grad)
        assert (fastdrop.dropout_backward(grad, layer.mask) == expected).all()


def test_rows_copies_and_later_changes() -> None:
    kept = np.random.default_rng(1).random((5, 6, 7)) < 0.5
    mask, before = fastdrop.ArrayMask(kept, p=0.25), kept.copy()
    kept[...] = True
    assert (mask.to_bool() == before).all()
    for rows in (slice(1, 4), slice(None), slice(4, 2), 0, -1, np.int64(3)):
        part = mask[rows]
        assert (part.to_bool() == before[rows]).all()
        assert (part.p, part.scale, part.shape) == (0.25, 4 / 3, before[rows].shape)
    for again in (copy.deepcopy(mask), pickle.loads(pickle.dumps(mask))):
        assert contents(again.apply(np.ones(kept.shape))) == contents(
            mask.apply(np.ones(kept.shape))
        )
    assert len(mask) == 5
    assert repr(mask) == "ArrayMask(shape=(5, 6, 7), p=0.25)"
    shared = fastdrop.ArrayMask(before[0], scale=2, shape=(5, 6, 7))
    assert repr(shared) == "ArrayMask(shape=(5, 6, 7), noise_shape=(1, 6, 7), scale=2.0)"
    for bad in (5, -6, slice(None, None, -2), "a"):
        with pytest.raises(IndexError):
            mask[bad]


def test_foreign_byte_order(backend: str) -> None:
    x, own = np.arange(1, 71, dtype=np.float32), drawn((70,))[1]
    assert (own.apply(x.astype(">f4")) == own.apply(x)).all()


OK = np.ones((2, 3), bool)


@pytest.mark.parametrize(
    ("make", "error", "message"),
    [
        (lambda m: m([True], p=0.5), TypeError, "kept must be a numpy.ndarray"),
        (lambda m: m(OK.astype(float), p=0.5), TypeError, "kept must be an array of bool, but got"),
        (lambda m: m(np.ma.array(OK), p=0.5), TypeError, "subclass"),
        (lambda m: m(OK), ValueError, "one of p and scale must be given"),
        (lambda m: m(OK, p=0.5, scale=2.0), ValueError, "one of p and scale must be given"),
        (lambda m: m(OK, p=1.5), ValueError, "between 0 and 1"),
        (lambda m: m(OK, scale=-1.0), ValueError, "scale must be 0 or more"),
        (lambda m: m(OK, scale=np.inf), ValueError, "scale must be 0 or more, and finite"),
        (lambda m: m(OK, scale=10**400), ValueError, "scale must be 0 or more, and finite"),
        (lambda m: m(OK, scale=np.nan), ValueError, "scale must be 0 or more"),
        (lambda m: m(OK, scale=True), TypeError, "scale must be a real number"),
        (lambda m: m(OK, scale="2"), TypeError, "scale must be a real number"),
        (lambda m: m(OK, p=0.5, shape=(2,)), ValueError, r"shape must be one that kept's, \(2, 3"),
        (lambda m: m(OK, p=0.5, shape=(-2, 3)), ValueError, "shape must be one that"),
        (lambda m: m(OK, p=0.5, shape=(2**70, 2, 3)), ValueError, "shape must be one that"),
        (lambda m: m(OK, p=0.5, shape=(2.0, 3)), TypeError, "shape must hold ints"),
        (lambda m: m.from_packed(OK, (2, 3), p=0), TypeError, "bits must be an array of uint8"),
        (
            lambda m: m.from_packed(np.zeros(2, np.uint8), (2, 3), p=0),
            ValueError,
            "a byte for each",
        ),
        (lambda m: m.from_packed(np.zeros(1, np.uint8), (-2, -3), p=0), ValueError, "a byte for"),
        (lambda m: m(OK, p=0.5).apply(np.ones(3)), ValueError, "x must have the mask's shape"),
        (
            lambda m: fastdrop.dropout_add(np.ones(3), np.ones(3), mask=m(OK, p=0.5)),
            ValueError,
            "x must have the mask's shape",
        ),
        (
            lambda m: fastdrop.relu_dropout(np.ones((2, 3)), mask=m(OK, p=0.5), rng=1),
            ValueError,
            "only one of rng and mask may be given",
        ),
        (
            lambda m: fastdrop.relu_dropout(np.ones((2, 3)), mask=OK),
            TypeError,
            r"mask must be a fastdrop\.Mask, a fastdrop\.ArrayMask or .*, but got ndarray",
        ),
        (
            lambda m: fastdrop.dropout_backward(np.ones((2, 3)), OK),
            TypeError,
            r"fastdrop\.ArrayMask",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(make: Any, error: type, message: str) -> None:
    with pytest.raises(error, match=message):
        make(fastdrop.ArrayMask)
