"""Generators: seeds, children, reserved ranges, state, and what `rng=` takes."""

from __future__ import annotations

import copy
import json
import pickle
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.random import SeedSequence

import fastdrop
from fastdrop.rng import as_rng
from fastdrop.rng.numpy_adapter import NumpyRNG

OWN = [fastdrop.ARS4x32, fastdrop.Philox4x32, fastdrop.Philox, fastdrop.PCG64]
FOREIGN = [np.random.MT19937, np.random.SFC64, np.random.PCG64DXSM]
X = np.ones(100, np.float32)

own = pytest.mark.parametrize("cls", OWN)


# Seeds and children.


@own
@pytest.mark.parametrize("seed", [0, np.int64(7), 2**200, [1, 2, 3], SeedSequence(5)])
def test_a_seed_is_what_seed_sequence_takes(cls: Any, seed: Any) -> None:
    same = cls(SeedSequence(seed) if not isinstance(seed, SeedSequence) else seed)
    assert (cls(seed).random_raw(9) == same.random_raw(9)).all()


@own
def test_no_seed_means_fresh_entropy(cls: Any) -> None:
    assert (cls().key != cls().key).any()


@own
@pytest.mark.parametrize("seed", [-1, [1, -2]])
def test_negative_seed_is_refused(cls: Any, seed: Any) -> None:
    with pytest.raises(ValueError, match="seed must be"):
        cls(seed)


@own
@pytest.mark.parametrize("seed", [True, 1.5, "1", b"1", {}, object()])
def test_seed_of_another_type_is_refused(cls: Any, seed: Any) -> None:
    with pytest.raises(TypeError, match="seed must be"):
        cls(seed)


@own
def test_children_are_seed_sequences_children(cls: Any) -> None:
    parent = cls(11)
    children = parent.spawn(2) + parent.spawn(1)
    expected = [cls(seed) for seed in SeedSequence(11).spawn(3)]
    assert [c.key.tolist() for c in children] == [e.key.tolist() for e in expected]
    assert len({tuple(rng.key.tolist()) for rng in [parent, *children]}) == 4
    assert parent.position == 0
    with pytest.raises(ValueError, match="n_children must be 0 or more"):
        parent.spawn(-1)


def test_children_of_a_handed_in_generator_are_its_own() -> None:
    children = NumpyRNG(np.random.SFC64(11)).spawn(2)
    for child, expected in zip(children, np.random.SFC64(11).spawn(2), strict=True):
        assert (child.random_raw(5) == expected.random_raw(5)).all()


@own
def test_key_is_read_only(cls: Any) -> None:
    with pytest.raises(ValueError, match="read-only"):
        cls(1).key[0] = 0


# The stream and its ranges.


@own
@given(pieces=st.lists(st.integers(0, 50), max_size=6))
def test_pieces_make_up_the_stream(cls: Any, pieces: list[int]) -> None:
    rng = cls(3)
    got = np.concatenate([rng.random_raw(n) for n in [*pieces, 1]])
    assert (got == cls(3).random_raw(sum(pieces) + 1)).all()


@own
def test_random_raw_refuses_a_negative_size(cls: Any) -> None:
    rng = cls(3)
    with pytest.raises(ValueError, match="size must be 0 or more, but got -1"):
        rng.random_raw(-1)
    assert rng.position == 0


def test_random_raw_of_a_handed_in_generator() -> None:
    rng = NumpyRNG(np.random.SFC64(3))
    expected = np.random.SFC64(3)
    assert rng.random_raw() == expected.random_raw()
    assert (rng.random_raw(5) == expected.random_raw(5)).all()


@pytest.mark.parametrize("kind", [*OWN, lambda seed: NumpyRNG(np.random.PCG64(seed))])
def test_threads_never_get_the_same_range(kind: Any) -> None:
    """Eight threads draw words: together they hold each word of the stream once."""
    rng, calls, words = kind(5), 8 * 200, 7
    with ThreadPoolExecutor(8) as pool:
        pieces = list(pool.map(lambda _: rng.random_raw(words), range(calls), chunksize=1))
    got = np.sort(np.concatenate(pieces))
    assert (got == np.sort(kind(5).random_raw(calls * words))).all()


@own
def test_a_used_up_stream_raises_and_stays(cls: Any) -> None:
    rng = cls(1)
    rng.state = {**rng.state, "position": 2**64 - 11}
    with pytest.raises(RuntimeError, match="10 words left, but 11 are needed"):
        rng.random_raw(11)
    with pytest.raises(RuntimeError, match="words left"):
        fastdrop.dropout(X, rng=rng)
    assert rng.random_raw(10).size == 10
    assert rng.position == 2**64 - 1


# State.


@own
@pytest.mark.parametrize("seed", [4, [4, 2**70], SeedSequence(4, spawn_key=(1, 2), pool_size=8)])
def test_state_resumes_exactly_through_json(cls: Any, seed: Any) -> None:
    rng = cls(seed)
    rng.random_raw(13)
    rng.spawn(2)
    resumed = cls(99)
    resumed.state = json.loads(json.dumps(rng.state))
    assert resumed.state == rng.state
    assert (resumed.random_raw(9) == rng.random_raw(9)).all()
    assert (resumed.spawn(1)[0].key == rng.spawn(1)[0].key).all()


@own
@pytest.mark.parametrize(
    "twin", [copy.copy, copy.deepcopy, lambda r: pickle.loads(pickle.dumps(r))]
)
def test_copies_go_on_alike_and_apart(cls: Any, twin: Any) -> None:
    rng = cls(4)
    rng.random_raw(13)
    other = twin(rng)
    ahead = other.random_raw(9)
    assert rng.position == 13
    assert (ahead == rng.random_raw(9)).all()


def test_state_of_a_handed_in_generator_is_its_own() -> None:
    rng = NumpyRNG(np.random.SFC64(4))
    state = rng.state
    first = rng.random_raw(5)
    rng.state = state
    assert (rng.random_raw(5) == first).all()
    with pytest.raises(ValueError, match="state must be that of a NumPy bit generator"):
        rng.state = fastdrop.PCG64(1).state


@own
@pytest.mark.parametrize(
    "broken",
    [
        None,
        {},
        {"rng": "other"},
        {"key": [1]},
        {"key": [-1, 0]},
        {"key": [2**64, 0]},
        {"key": "text"},
        {"position": -1},
        {"position": 2**64},
        {"position": "first"},
        {"seed": {"entropy": -1}},
        {"seed": {"other": 1}},
        {"seed": None},
    ],
)
def test_bad_state_is_refused_and_changes_nothing(cls: Any, broken: Any) -> None:
    rng = cls(1)
    rng.random_raw(3)
    before = rng.state
    with pytest.raises(ValueError, match="state"):
        rng.state = {**before, **broken} if broken else broken
    assert rng.state == before


def test_state_of_another_algorithm_is_refused() -> None:
    with pytest.raises(ValueError, match="'philox', but got one of 'pcg64'"):
        fastdrop.Philox(1).state = fastdrop.PCG64(1).state


@own
def test_reseeding_starts_over(cls: Any) -> None:
    rng = cls(1)
    rng.random_raw(3)
    rng.reseed(2)
    assert rng.state == cls(2).state
    with pytest.raises(TypeError, match="seed must be"):
        rng.reseed("x")
    assert rng.state == cls(2).state


@own
def test_repr_names_the_class_and_position(cls: Any) -> None:
    assert repr(cls(1)) == f"{cls.__name__}(position=0)"


# What rng= takes.


def test_none_is_the_default_generator() -> None:
    default = fastdrop.manual_seed(7)
    first = fastdrop.dropout(X)
    assert default.position > 0
    assert (fastdrop.dropout(X) != first).any()
    fastdrop.manual_seed(7)
    assert (fastdrop.dropout(X) == first).all()


@pytest.mark.parametrize("seed", [7, np.int64(7), np.uint8(7), SeedSequence(7)])
def test_a_seed_makes_the_default_kind(seed: Any) -> None:
    expected = fastdrop.dropout(X, rng=fastdrop.ARS4x32(7))
    assert (fastdrop.dropout(X, rng=seed) == expected).all()


@pytest.mark.parametrize("cls", [*OWN, *FOREIGN, np.random.PCG64, np.random.Philox])
def test_a_generator_is_used_itself(cls: Any) -> None:
    rng, twin = cls(7), cls(7)
    first, second = fastdrop.dropout(X, rng=rng), fastdrop.dropout(X, rng=rng)
    assert (first != second).any()
    assert (fastdrop.dropout(X, rng=as_rng(twin)) == first).all()
    assert (fastdrop.dropout(X, rng=twin) == second).all()


def test_numpys_generator_stands_for_its_bit_generator() -> None:
    expected = fastdrop.dropout(X, rng=np.random.PCG64(7))
    assert (fastdrop.dropout(X, rng=np.random.default_rng(7)) == expected).all()
    assert (fastdrop.dropout(X, rng=fastdrop.PCG64(7)) == expected).all()
    expected = fastdrop.dropout(X, rng=np.random.Philox(7))
    assert (fastdrop.dropout(X, rng=fastdrop.Philox(7)) == expected).all()


@pytest.mark.parametrize("cls", OWN)
def test_a_name_makes_a_new_generator_of_its_kind(cls: Any) -> None:
    assert cls.name in fastdrop.available_rngs()
    rng = as_rng(cls.name)
    assert type(rng) is cls
    assert (rng.key != as_rng(cls.name).key).any()


def test_an_unknown_name_is_refused_with_the_known_ones() -> None:
    with pytest.raises(
        ValueError, match=r"rng must be one of \[.*'philox4x32'.*\], but got 'gauss'"
    ):
        fastdrop.dropout(X, rng="gauss")


@pytest.mark.parametrize(
    "bad",
    [True, np.True_, 1.0, b"pcg64", [1], np.random, np.random.PCG64, fastdrop.PCG64, object()],
)
def test_rng_of_another_kind_is_refused(bad: Any) -> None:
    with pytest.raises(TypeError, match="rng must be None, an int"):
        fastdrop.dropout(X, rng=bad)
    with pytest.raises(TypeError, match="rng must be None, an int"):
        fastdrop.Dropout(rng=bad)


def test_a_negative_seed_is_refused_where_it_comes_in() -> None:
    with pytest.raises(ValueError, match="seed must be"):
        fastdrop.dropout(X, rng=-1)


def test_mersenne_twisters_old_interface_is_refused() -> None:
    with pytest.raises(TypeError, match="RandomState"):
        fastdrop.dropout(X, rng=np.random.RandomState(1))
