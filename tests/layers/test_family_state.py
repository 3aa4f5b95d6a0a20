"""State that survives: resuming, masks rebuilt elsewhere, layers reset and spawned."""

from __future__ import annotations

import copy
import json
import pickle
import subprocess
import sys
from typing import Any

import numpy as np
import pytest

import fastdrop
from fastdrop import Mask

X = np.arange(1.0, 6001.0).reshape(2, 3, 1000)
RNGS = {
    "ars4x32": fastdrop.ARS4x32,
    "philox": fastdrop.Philox,
    "pcg64": fastdrop.PCG64,
    "numpy pcg64": np.random.PCG64,
    "MT19937": np.random.MT19937,
}
LAYERS = {
    "Dropout": lambda rng: fastdrop.Dropout(0.3, rng=rng),
    "shared": lambda rng: fastdrop.Dropout(0.3, noise_shape=(None, 1, None), rng=rng),
    "Dropout1d": lambda rng: fastdrop.Dropout1d(0.3, rng=rng),
    "SpatialDropout1D": lambda rng: fastdrop.SpatialDropout1D(0.3, channel_axis=1, rng=rng),
    "DropPath": lambda rng: fastdrop.DropPath(0.3, batch_axis=2, scale_by_keep=False, rng=rng),
    "AlphaDropout": lambda rng: fastdrop.AlphaDropout(0.3, rng=rng),
}
every_rng = pytest.mark.parametrize("make_rng", RNGS.values(), ids=RNGS)
every_layer = pytest.mark.parametrize("make", LAYERS.values(), ids=LAYERS)


@every_rng
@every_layer
def test_resuming_gives_the_masks_that_would_have_come(make: Any, make_rng: Any) -> None:
    layer = make(make_rng(5))
    layer(X)
    state = layer.state_dict()
    copies = [copy.deepcopy(layer), pickle.loads(pickle.dumps(layer)), make(make_rng(99))]
    copies[2].load_state_dict(copy.deepcopy(state))
    expected = [layer(X) for _ in range(3)]
    for other in copies:
        assert all(np.array_equal(y, other(X)) for y in expected)
        assert repr(other) == repr(layer)


@every_layer
def test_state_is_small_json(make: Any) -> None:
    layer = make(fastdrop.Philox(3))
    layer(X)
    text = json.dumps(layer.state_dict())
    assert len(text) < 1024
    assert len(pickle.dumps(layer.state_dict())) < 1024
    other = make(fastdrop.Philox(4))
    other.load_state_dict(json.loads(text))
    assert np.array_equal(other(X), layer(X))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask_format": 1}, "mask format 2, but got 1"),
        ({"layer": "Dropout2d"}, "one of Dropout, but got one of 'Dropout2d'"),
        ({"rng": fastdrop.PCG64(1).state}, "ars4x32"),
        ({"rng": {}}, "state must be"),
        ({"p": 1.5}, "between 0 and 1"),
        ({"noise": None}, r"also has \['noise'\]"),
    ],
)
def test_foreign_states_are_refused_and_change_nothing(change: dict, message: str) -> None:
    layer = fastdrop.Dropout(0.3, rng=1)
    layer(X)
    before = layer.state_dict()
    other = {**fastdrop.Dropout(0.9, inplace=True, rng=2).eval().state_dict(), **change}
    with pytest.raises(ValueError, match=message):
        layer.load_state_dict(other)
    assert layer.state_dict() == before
    del other["p"]
    with pytest.raises(ValueError, match=r"lacks|also has"):
        layer.load_state_dict(other)
    with pytest.raises(TypeError, match="must be a dictionary"):
        layer.load_state_dict([])  # type: ignore[arg-type]


@every_rng
@every_layer
def test_mask_is_rebuilt_from_its_description(make: Any, make_rng: Any) -> None:
    layer = make(make_rng(5))
    layer(X)
    for mask in (layer.mask, layer.mask[1:], layer.mask[0]):
        again = Mask.from_state(json.loads(json.dumps(mask.state)))
        assert again == mask
        assert hash(again) == hash(mask)
        x = X[: mask.shape[0]] if mask.ndim == 3 else X[0]
        assert np.array_equal(again.apply(x), mask.apply(x))
        assert np.array_equal(pickle.loads(pickle.dumps(mask)), again)
        assert copy.deepcopy(mask) == mask


def test_mask_is_rebuilt_in_another_process() -> None:
    layer = fastdrop.Dropout1d(0.4, rng=8)
    layer(X)
    code = (
        "import sys, json, numpy, fastdrop; fastdrop.set_backend('reference')\n"
        "mask = fastdrop.Mask.from_state(json.load(sys.stdin))\n"
        "print(mask.to_packed().tobytes().hex())"
    )
    state = json.dumps(layer.mask.state)
    run = subprocess.run(
        [sys.executable, "-c", code], input=state, capture_output=True, text=True, check=True
    )
    assert run.stdout.strip() == layer.mask.to_packed().tobytes().hex()


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"mask_format": 1}, "mask format 2"),
        ({"p": -1}, "between 0 and 1"),
        ({"shape": [2, -3]}, r"shape\[1\] must be an int of 0 or more"),
        ({"shape": None}, "shape must be a list of ints"),
        ({"strides": [1]}, "a stride for each dimension"),
        ({"stream": {"rng": "unheard of", "key": []}}, "RNG must be one of"),
        ({"stream": {"rng": "philox", "key": [1]}}, "key must have"),
        ({"stream": {"rng": "philox", "key": [-1] * 6}}, r"key\[0\] must be an int of 0"),
        ({"stream": {"rng": "numpy", "bit_generator": {"bit_generator": "os"}}}, "NumPy's own"),
    ],
)
def test_bad_mask_descriptions_are_refused(change: dict, message: str) -> None:
    mask = fastdrop.dropout(X, rng=1, return_mask=True)[1]
    with pytest.raises(ValueError, match=message):
        Mask.from_state({**mask.state, **change})


def test_tokens_outlive_later_forwards() -> None:
    layer = fastdrop.Dropout(0.5, rng=3)
    pairs = [layer.forward_mask(X) for _ in range(3)]
    assert len({mask for _, mask in pairs}) == 3
    for y, mask in reversed(pairs):
        assert np.array_equal(mask.apply(X), y)
    assert layer.mask == pairs[-1][1]


@every_rng
def test_reset_starts_over_alone(make_rng: Any) -> None:
    shared = fastdrop.Dropout(rng=make_rng(1)).rng
    a, b = fastdrop.Dropout(rng=shared), fastdrop.Dropout(rng=shared)
    a(X)
    state = b.state_dict()
    assert a.reset(1) is a
    assert np.array_equal(a(X), fastdrop.Dropout(rng=make_rng(1))(X))
    assert repr(b.state_dict()) == repr(state)
    assert a.reset(2).mask is None


@every_rng
def test_spawned_layers_are_independent_and_reproducible(make_rng: Any) -> None:
    def outputs(layer: fastdrop.Dropout) -> list[bytes]:
        return [child(X).tobytes() for child in layer.spawn(2) + layer.spawn(1)]

    layers = [fastdrop.Dropout(0.3, always=True, rng=make_rng(4)) for _ in range(2)]
    first, second = (outputs(layer) for layer in layers)
    assert first == second
    assert len({*first, layers[0](X).tobytes()}) == 4
    assert all(child.p == 0.3 and child.always for child in layers[0].spawn(2))


def test_layers_sharing_a_generator_never_share_a_mask() -> None:
    rng = fastdrop.ARS4x32(6)
    a, b = fastdrop.Dropout(rng=rng), fastdrop.Dropout(rng=rng)
    assert len({layer(X).tobytes() for layer in (a, b, a, b)}) == 4


def test_p_may_change_between_calls() -> None:
    layer = fastdrop.Dropout(0.1, rng=2)
    for step in range(5):
        layer.p = step / 5
        layer(X)
        assert layer.mask is None if step == 0 else layer.mask.p == step / 5
    with pytest.raises(ValueError, match="between 0 and 1"):
        layer.p = 2
    assert layer.p == 4 / 5
