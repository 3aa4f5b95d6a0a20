"""Subclasses that users write of every layer: a constructor and a forward of their own."""

from __future__ import annotations

import copy
import json
import pickle
import threading
from typing import Any

import numpy as np
import pytest

import fastdrop
from fastdrop.layers.base import Layer

NAMES = sorted(
    name
    for name in fastdrop.__all__
    if isinstance(getattr(fastdrop, name), type) and issubclass(getattr(fastdrop, name), Layer)
)
SHAPES = {
    "SpatialDropout1D": (4, 5, 6),
    "SpatialDropout3D": (2, 3, 3, 3, 4),
    "Dropout1d": (8, 9, 4),
}
every_layer = pytest.mark.parametrize("name", NAMES)


def ones(name: str) -> np.ndarray:
    return np.ones(SHAPES.get(name, (4, 5, 6, 7)))


class OfWidth:
    """A constructor that takes none of the layer's settings."""

    def __init__(self, width: int) -> None:
        super().__init__(rng=3)
        self.width = width


class Doubled:
    """A forward that does something first, and remembers it."""

    calls = 0

    def forward(self, x: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        self.calls += 1
        return super().forward(2 * x, out)


def subclass(name: str, part: type) -> Any:
    """Return a subclass with one of these before the layer."""
    return type(part.__name__, (part, getattr(fastdrop, name)), {})


@every_layer
def test_repr_of_a_subclass_with_its_own_constructor(name: str) -> None:
    base = getattr(fastdrop, name)
    layer = subclass(name, OfWidth)(100)
    assert repr(layer) == repr(base()).replace(name, "OfWidth")
    layer.always = True
    assert repr(layer).endswith(", always=True)")


@every_layer
def test_state_copies_and_children_of_such_a_subclass(name: str) -> None:
    layer, twin = subclass(name, OfWidth)(100), subclass(name, OfWidth)(100)
    twin.load_state_dict(json.loads(json.dumps(layer.state_dict())))
    for each in (twin, copy.deepcopy(layer), layer.spawn(1)[0], layer.reset(3)):
        assert (each.width, repr(each)) == (100, repr(layer))


@every_layer
def test_calls_run_a_subclass_own_forward(name: str) -> None:
    x, base = ones(name), getattr(fastdrop, name)
    layer, plain = subclass(name, Doubled)(rng=1), base(rng=1)
    for each in (layer, plain):
        each.eval()
    assert (layer(x) == 2 * x).all()
    for each in (layer, plain):
        each.train()
    assert (layer(x) == plain(2 * x)).all()
    assert (layer.forward(x) == plain.forward(2 * x)).all()
    out = np.empty_like(x)
    assert layer(x, out) is out or layer._is_identity()
    assert layer.calls == 4
    assert (layer.backward(x) == layer.mask.apply(x) if layer.mask else x).all()


def test_a_forward_written_in_the_class_body_and_one_below_it() -> None:
    class Negative(fastdrop.Dropout):
        def forward(self, x: np.ndarray) -> np.ndarray:
            return -super().forward(x)

    class Same(Negative):
        pass

    class Twice(Same):
        def forward(self, x: np.ndarray) -> np.ndarray:
            return 2 * super().forward(x)

    class Called(Twice):
        def __call__(self, x: np.ndarray) -> np.ndarray:
            return self.forward(x) + 1

    x = np.ones(99)
    y = fastdrop.Dropout(0.5, rng=1)(x)
    for cls, expected in ((Negative, -y), (Same, -y), (Twice, -2 * y), (Called, 1 - 2 * y)):
        assert (cls(0.5, rng=1)(x) == expected).all()
        z, mask = cls(0.5, rng=1).forward_mask(x)
        assert (z == expected).all()
        assert (mask.apply(x) == y).all()


@every_layer
def test_forward_mask_of_a_subclass_own_forward(name: str) -> None:
    x, base = ones(name), getattr(fastdrop, name)
    layer, plain = subclass(name, Doubled)(rng=1), base(rng=1)
    y, mask = layer.forward_mask(x)
    expected, other = plain.forward_mask(2 * x)
    assert (y == expected).all()
    assert (mask.apply(x) == other.apply(x)).all()
    assert layer.calls == 1
    assert (layer.backward(x) == plain.backward(x)).all()
    layer.eval()
    y, mask = layer.forward_mask(x)
    assert (y == 2 * x).all()
    assert (mask.apply(x) == x).all()


def test_forward_mask_where_another_thread_forwards_meanwhile() -> None:
    class Interrupted(fastdrop.Dropout):
        def forward(self, x: np.ndarray) -> np.ndarray:
            y = super().forward(x)
            if threading.current_thread() is threading.main_thread():
                other = threading.Thread(target=layer, args=(x,))
                other.start()
                other.join()
            return -y

    x = np.ones(99)
    layer = Interrupted(0.5, rng=1)
    y, mask = layer.forward_mask(x)
    assert (mask.apply(x) == -y).all()
    assert (-y == fastdrop.Dropout(0.5, rng=1)(x)).all()


def test_a_forward_without_its_bases_has_no_mask() -> None:
    class Sum(fastdrop.Dropout):
        def forward(self, x: np.ndarray) -> np.ndarray:
            return x + x

    layer = Sum()
    assert (layer(np.ones(3)) == 2).all()
    with pytest.raises(RuntimeError, match=r"Sum\.forward must call its base's forward"):
        layer.forward_mask(np.ones(3))


@every_layer
def test_backward_of_an_identity_takes_its_forwards_shape_only(name: str) -> None:
    layer, x = getattr(fastdrop, name)().eval(), ones(name)
    for forward in (layer, layer.forward_mask, copy.copy(layer).forward_mask):
        forward(x)
        assert layer.backward(x) is x
        for shape in ((), x.shape[1:], (1, *x.shape), x.shape[::-1]):
            with pytest.raises(ValueError, match=r"grad must have the forward's shape \("):
                layer.backward(np.ones(shape))
    with pytest.raises(TypeError, match="grad must be a numpy"):
        layer.backward([1.0])
    fresh = pickle.loads(pickle.dumps(layer))
    assert fresh.backward(x) is x


def test_an_identity_for_p_0_and_out_remembers_the_shape_too() -> None:
    x = np.ones((2, 3))
    for layer in (fastdrop.Dropout(0.0), fastdrop.Dropout(0.0, noise_shape=(None, 1))):
        layer(x, np.empty_like(x))
        with pytest.raises(ValueError, match="shape"):
            layer.backward(np.ones(6))


@pytest.mark.parametrize(
    "call",
    [
        lambda x: fastdrop.DropPath(0.5)(x),
        lambda x: fastdrop.DropPath(0.0)(x),
        lambda x: fastdrop.DropPath(0.5).forward_mask(x),
        lambda x: fastdrop.dropout(x, broadcast_dims=(0,)),
        lambda x: fastdrop.Dropout(broadcast_dims=(-1,))(x),
    ],
)
def test_an_array_without_axes_has_none_to_name(call: Any) -> None:
    with pytest.raises(ValueError, match="an array of 0 dimensions has none"):
        call(np.ones(()))


def test_a_mask_without_rows_has_none_to_pick() -> None:
    _, mask = fastdrop.dropout(np.ones((0, 3)), return_mask=True)
    ids = np.zeros(0, int)
    _, by_sample = fastdrop.dropout(np.ones((0, 3)), sample_ids=ids, return_mask=True)
    for each in (mask, by_sample):
        with pytest.raises(IndexError, match="a mask of 0 rows has none"):
            each[0]
