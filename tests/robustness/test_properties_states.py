"""Malformed states: refused with nothing changed, or as good as one that was written here."""

from __future__ import annotations

import copy
import json
import warnings
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import fastdrop
from fastdrop import Mask
from fastdrop.layers.base import Layer
from fastdrop.rng import as_rng

LAYERS = {
    cls.__name__: cls
    for cls in (getattr(fastdrop, name) for name in fastdrop.__all__)
    if isinstance(cls, type) and issubclass(cls, Layer)
}
RANKS = {"Dropout2d": 4, "SpatialDropout2D": 4, "DropBlock2d": 4, "Dropout3d": 5}
RANKS |= {"SpatialDropout3D": 5}
GENERATORS = [
    fastdrop.ARS4x32,
    fastdrop.Philox,
    fastdrop.PCG64,
    np.random.MT19937,
    np.random.PCG64,
    np.random.PCG64DXSM,
    np.random.Philox,
    np.random.SFC64,
]


def nested(depth: int) -> list:
    """Return lists inside each other, deeper than repr goes."""
    value: list = []
    for _ in range(depth):
        value = [value]
    return value


hostile = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.sampled_from([-1, 0, 1, 3, 4, 5, 624, 625, 2**31, 2**32, 2**63, 2**64 - 1, 2**64, 2**70]),
    st.just(10**5000),
    st.floats(),
    st.text(max_size=5),
    st.sampled_from(["philox", "pcg64", "numpy", "MT19937", "BitGenerator", "Generator", "os"]),
    st.binary(max_size=5),
    st.lists(st.integers() | st.floats() | st.none() | st.text(max_size=2), max_size=8),
    st.lists(st.integers(0, 2**64 - 1), max_size=8),
    st.builds(lambda: [0] * 700),
    st.dictionaries(st.text(max_size=3) | st.integers(), st.integers(), max_size=3),
    st.builds(nested, st.just(3000)),
    st.builds(object),
    st.sampled_from([np.int64(3), np.float64(0.5), np.uint64(7)]),
    st.builds(np.arange, st.just(4)),
    st.builds(np.array, st.just(1)),
)


def places(state: Any, path: tuple = ()) -> Iterator[tuple]:
    """Yield the path to each entry of nested dictionaries and lists."""
    if len(path) > 6:
        return
    if isinstance(state, dict):
        items: Any = state.items()
    elif isinstance(state, list):
        items = list(enumerate(state))[:9]
    else:
        return
    for key, value in items:
        yield (*path, key)
        yield from places(value, (*path, key))


@st.composite
def damaged(draw: Any, state: Any) -> Any:
    """Draw a copy of a state with one to three entries lost, replaced or added."""
    state = copy.deepcopy(state)
    for _ in range(draw(st.integers(1, 3))):
        paths = list(places(state))
        if not paths:
            return state
        *parents, last = draw(st.sampled_from(paths))
        inner = state
        for key in parents:
            inner = inner[key]
        what = draw(st.sampled_from(["replace", "replace", "replace", "lose", "add"]))
        if what == "lose":
            del inner[last]
        elif what == "add" and isinstance(inner, dict):
            inner[draw(st.text(max_size=3) | st.integers())] = draw(hostile)
        else:
            inner[last] = draw(hostile)
    return state


def plain(state: Any) -> Any:
    """Return a state as something that can be compared, whatever is in it."""
    if isinstance(state, dict):
        return {key: plain(value) for key, value in state.items()}
    if isinstance(state, list | tuple):
        return [plain(value) for value in state]
    return state.tobytes() if isinstance(state, np.ndarray) else state


def refused(error: Exception) -> None:
    """Check that an error is one that names the state or what of it was wrong."""
    assert type(error) in (TypeError, ValueError)
    text = str(error)
    assert "state" in text or "dropout probability" in text or "must be" in text
    assert len(text) < 1000


def results(layer: Layer) -> list[bytes]:
    """Return what a layer makes of the same input on each backend, from where it is."""
    x = np.arange(1.0, 1 + 2 * 3 * 4 * 5 * 2).reshape(2, 3, 4, 5, 2)
    x = x.reshape(*x.shape[: RANKS.get(type(layer).__name__, 3) - 1], -1)
    found = []
    for name in fastdrop.available_backends():
        twin = copy.deepcopy(layer)
        with fastdrop.use_backend(name), warnings.catch_warnings():
            warnings.simplefilter("ignore", UserWarning)
            try:
                found.append(twin(x.copy()).tobytes())
            except (TypeError, ValueError, RuntimeError) as error:  # settings that suit other x
                found.append(repr(error).encode())
    return found


@given(data=st.data(), name=st.sampled_from(sorted(LAYERS)), generator=st.sampled_from(GENERATORS))
def test_layers(data: Any, name: str, generator: Any) -> None:
    layer, twin = (LAYERS[name](rng=generator(seed)) for seed in (1, 2))
    before = plain(layer.state_dict())
    state = data.draw(damaged(twin.state_dict()))
    try:
        layer.load_state_dict(state)
    except Exception as error:
        refused(error)
        assert plain(layer.state_dict()) == before
        return
    again = LAYERS[name](rng=generator(3))
    again.load_state_dict(copy.deepcopy(layer.state_dict()))
    assert plain(again.state_dict()) == plain(layer.state_dict())
    assert len({*results(layer), *results(again)}) == 1


@given(data=st.data(), generator=st.sampled_from(GENERATORS))
def test_generators(data: Any, generator: Any) -> None:
    rng = as_rng(generator(1))
    before = plain(rng.state)
    state = data.draw(damaged(as_rng(generator(2)).state))
    try:
        rng.state = state
    except Exception as error:
        refused(error)
        assert plain(rng.state) == before
        return
    again = as_rng(generator(3))
    again.state = copy.deepcopy(rng.state)
    assert plain(again.state) == plain(rng.state)
    if generator in GENERATORS[:3] and rng.position > 2**64 - 100:
        return
    assert [rng.random_raw() for _ in range(7)] == list(again.random_raw(7))
    assert repr(rng.spawn(2)) == repr(again.spawn(2))


@given(data=st.data(), generator=st.sampled_from(GENERATORS), shared=st.booleans())
def test_masks(data: Any, generator: Any, shared: bool) -> None:
    options = {"noise_shape": (3, 1, None)} if shared else {}
    mask = fastdrop.dropout(np.ones((3, 4, 5)), 0.3, rng=generator(1), return_mask=True, **options)[
        1
    ]
    state = data.draw(damaged(json.loads(json.dumps(mask.state))))
    try:
        found = Mask.from_state(state)
    except ValueError as error:
        refused(error)
        return
    assert Mask.from_state(json.loads(json.dumps(found.state))) == found
    last = 1 + sum((n - 1) * s for n, s in zip(found.shape, found._strides or (), strict=False))
    if found.size > 10_000 or last > 10_000 or found._draw.first + found._draw.position > 10_000:
        return  # right, but larger than a test, or further into a stream than one goes
    bits = []
    for name in fastdrop.available_backends():
        with fastdrop.use_backend(name):
            bits.append(found.to_bool().tobytes() + found.to_packed().tobytes())
            bits.append(bits.pop() + found.apply(np.ones(found.shape)).tobytes())
    assert len(set(bits)) == 1


MAPS = np.ones((3, 2, 5, 5))
OTHER_MASKS = {
    "block": lambda rng: fastdrop.DropBlock2d(0.3, 2, rng=rng).forward_mask(MAPS)[1],
    "rows of a block": lambda rng: fastdrop.DropBlock2d(0.3, 2, rng=rng).forward_mask(MAPS)[1][1:],
    "noise": lambda rng: fastdrop.GaussianDropout(0.3, rng=rng).forward_mask(MAPS)[1],
    "sample": lambda rng: fastdrop.dropout(
        MAPS, 0.3, rng=rng, sample_ids=[3, 1, 5], return_mask=True
    )[1],
    "array": lambda rng: fastdrop.ArrayMask(
        np.asarray(rng.integers(0, 2, (2, 5)), np.bool_), p=0.3, shape=(3, 2, 5)
    ),
}


def masks_of_other_kinds(generator: Any) -> Iterator[fastdrop.AnyMask]:
    """Yield a mask of each kind but Mask, as far as it takes this generator."""
    for kind, make in OTHER_MASKS.items():
        if kind == "array":
            yield make(np.random.default_rng(1))
        elif kind != "sample" or generator in GENERATORS[:3]:
            yield make(generator(1))


def is_large(mask: fastdrop.AnyMask) -> bool:
    """Whether evaluating it would take a test too long."""
    ends = [mask.size]
    if isinstance(mask, fastdrop.BlockMask):
        ends += [mask.corners.size, mask.corners._draw.first + mask.corners._draw.position]
        ends.append(sum(mask.corners._strides or ()))
    if isinstance(mask, fastdrop.NoiseMask):
        ends.append(mask.draw)
    return max(ends) > 10_000


@given(data=st.data(), generator=st.sampled_from(GENERATORS))
def test_masks_of_other_kinds(data: Any, generator: Any) -> None:
    mask = data.draw(st.sampled_from([*masks_of_other_kinds(generator)]))
    state = data.draw(damaged(json.loads(json.dumps(mask.state))))
    try:
        found = fastdrop.AnyMask.from_state(state)
    except ValueError as error:
        refused(error)
        return
    assert fastdrop.AnyMask.from_state(json.loads(json.dumps(found.state))) == found
    if is_large(found):
        return  # right, but larger than a test, or further into a stream than one goes
    bits = []
    for name in fastdrop.available_backends():
        with fastdrop.use_backend(name):
            bits.append(found.apply(np.ones(found.shape)).tobytes())
            if isinstance(found, fastdrop.masks.KeepMask):
                bits.append(bits.pop() + found.to_bool().tobytes() + found.to_packed().tobytes())
    assert len(set(bits)) == 1


@pytest.mark.parametrize("generator", GENERATORS)
def test_each_entry_of_other_masks_is_needed(generator: Any) -> None:
    for mask in masks_of_other_kinds(generator):
        state = json.loads(json.dumps(mask.state))
        for path in places(state):
            if isinstance(path[-1], str):
                lacking = copy.deepcopy(state)
                inner = lacking
                for key in path[:-1]:
                    inner = inner[key]
                del inner[path[-1]]
                with pytest.raises(ValueError, match="state"):
                    type(mask).from_state(lacking)
                with pytest.raises(ValueError, match="state"):
                    fastdrop.AnyMask.from_state(lacking)


@pytest.mark.parametrize("generator", GENERATORS)
def test_each_entry_is_needed(generator: Any) -> None:
    layer = fastdrop.Dropout(0.3, rng=generator(1))
    state = layer.state_dict()
    mask = fastdrop.dropout(np.ones((3, 4)), rng=generator(1), return_mask=True)[1].state
    for path in places(json.loads(json.dumps(mask))):
        if not isinstance(path[-1], str):
            continue
        lacking = json.loads(json.dumps(mask))
        inner = lacking
        for key in path[:-1]:
            inner = inner[key]
        del inner[path[-1]]
        with pytest.raises(ValueError, match="state"):
            Mask.from_state(lacking)
    for name in state:
        with pytest.raises(ValueError, match=f"lacks.*{name}"):
            layer.load_state_dict({k: v for k, v in state.items() if k != name})
    for name in state["rng"]:
        rest = {k: v for k, v in state["rng"].items() if k != name}
        with pytest.raises(ValueError, match="state must be"):
            layer.load_state_dict({**state, "rng": rest})


@pytest.mark.parametrize(
    ("generator", "place", "value"),
    [
        (np.random.MT19937, ("state", "pos"), 10**8),
        (np.random.MT19937, ("state", "pos"), 625),
        (np.random.MT19937, ("state", "pos"), -1),
        (np.random.Philox, ("buffer_pos",), 5),
        (np.random.Philox, ("buffer_pos",), -(10**8)),
    ],
)
def test_positions_that_numpy_would_read_at_are_refused(
    generator: Any, place: tuple[str, ...], value: int
) -> None:
    """NumPy takes them unchecked from a state and reads its buffer there."""
    layer = fastdrop.Dropout(0.3, rng=generator(1))
    mask = fastdrop.dropout(np.ones(9), rng=np.random.MT19937(1), return_mask=True)[1].state
    state = layer.state_dict()
    before = plain(state)
    for root in (state["rng"]["bit_generator"], mask["stream"]["bit_generator"]):
        if root["bit_generator"] == generator.__name__:
            inner = root
            for key in place[:-1]:
                inner = inner[key]
            inner[place[-1]] = value
    with pytest.raises(ValueError, match=f"{place[-1]} must be an int of 0 or more"):
        layer.load_state_dict(state)
    assert plain(layer.state_dict()) == before
    if generator is np.random.MT19937:
        with pytest.raises(ValueError, match="pos must be an int of 0 or more"):
            Mask.from_state(mask)


@pytest.mark.parametrize("pool_size", [2**30, 2**13, 3, -1, 4.0])
def test_a_seeds_pool_has_a_sane_size(pool_size: Any) -> None:
    """Mixing a pool of a billion words would take a century."""
    rng = fastdrop.ARS4x32(1)
    state = rng.state
    state["seed"]["pool_size"] = pool_size
    with pytest.raises(ValueError, match="pool_size must be"):
        rng.state = state


@pytest.mark.parametrize("scale", [10**400, float("inf"), float("nan"), -1.0, True, "1", None])
def test_a_masks_scale_is_a_finite_number(scale: Any) -> None:
    mask = fastdrop.dropout(np.ones(9), rng=1, return_mask=True)[1].state
    with pytest.raises(ValueError, match="state's scale must be"):
        Mask.from_state({**mask, "scale": scale})


def test_a_mask_cannot_lie_beyond_its_streams_end() -> None:
    mask = fastdrop.dropout(np.ones(4096), rng=1, return_mask=True)[1].state
    for change in ({"draw": 2**64 - 1}, {"first": 2**63 - 1}, {"shape": [2**32, 2**32]}):
        with pytest.raises(ValueError, match="end before its stream does"):
            Mask.from_state({**mask, **change})
    assert Mask.from_state({**mask, "draw": 2**64 - 1 - 64}).shape == (4096,)
