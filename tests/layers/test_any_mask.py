"""What every kind of mask has: rows, a state, equality, and travelling as a pickle."""

from __future__ import annotations

import copy
import json
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest

import fastdrop
from fastdrop.masks import AnyMask, KeepMask

MAPS = (np.random.default_rng(0).normal(size=(4, 3, 6, 7)) + 3).astype(np.float32)


def drawn(**options: Any) -> AnyMask:
    return fastdrop.dropout(MAPS, 0.3, rng=5, return_mask=True, **options)[1]


def of(layer: Any) -> AnyMask:
    return layer.forward_mask(MAPS)[1]


# Each has MAPS' shape.
KINDS: dict[str, Callable[[], AnyMask]] = {
    "Mask": drawn,
    "Mask, shared": lambda: drawn(noise_shape=(None, 3, 1, 1)),
    "Mask, affine": lambda: of(fastdrop.AlphaDropout(0.3, rng=5)),
    "SampleMask": lambda: drawn(sample_ids=[3, 1, 4, 15]),
    "BlockMask": lambda: of(fastdrop.DropBlock2d(0.2, 3, rng=5)),
    "BlockMask, batchwise": lambda: of(fastdrop.DropBlock2d(0.2, 3, batchwise=True, rng=5)),
    "BlockMask, nothing": lambda: of(fastdrop.DropBlock2d(0.0, 3, rng=5)),
    "NoiseMask": lambda: of(fastdrop.GaussianDropout(0.3, rng=5)),
    "NoiseMask, MT19937": lambda: of(fastdrop.GaussianDropout(0.3, rng=np.random.MT19937(5))),
    "NoiseMask, added": lambda: of(fastdrop.GaussianNoise(0.3, rng=5)),
    "ArrayMask": lambda: fastdrop.ArrayMask(MAPS > 3, p=0.3),
    "ArrayMask, shared": lambda: fastdrop.ArrayMask(MAPS[:1] > 3, scale=1.5, shape=MAPS.shape),
}
every_kind = pytest.mark.parametrize("make", KINDS.values(), ids=KINDS)


@every_kind
def test_rows_are_those_of_the_whole(make: Callable[[], AnyMask], backend: str) -> None:
    mask = make()
    whole = mask.apply(MAPS)
    assert (len(mask), mask.ndim, mask.size) == (4, 4, MAPS.size)
    for rows in (slice(1, 3), slice(2, None), slice(0, 4), slice(3, 1), 2, -4, np.int64(1)):
        part = mask[rows]
        assert part.shape == whole[rows].shape
        np.testing.assert_array_equal(part.apply(MAPS[rows]), whole[rows])
        if isinstance(part, KeepMask):
            assert (part.p, part.scale) == (mask.p, mask.scale)
            np.testing.assert_array_equal(part.to_bool(), mask.to_bool()[rows])
            np.testing.assert_array_equal(np.asarray(part), part.to_bool())
            packed = np.packbits(part.to_bool(), bitorder="little")
            np.testing.assert_array_equal(part.to_packed(), packed)
    np.testing.assert_array_equal(mask[1:][2][1].apply(MAPS[3, 1]), whole[3, 1])
    np.testing.assert_array_equal([row.apply(x) for row, x in zip(mask, MAPS, strict=True)], whole)


@every_kind
def test_windows_are_those_of_the_whole(make: Callable[[], AnyMask], backend: str) -> None:
    mask = make()
    whole = mask.apply(MAPS)
    for index in (
        np.s_[::2], np.s_[1:, 2], np.s_[3, ::2], np.s_[..., :, :], np.s_[1:3, 1:, 2:5, ::3],
        np.s_[..., 6], np.s_[1:, None, 0, ..., 1:4], np.s_[2:1, ..., ::2], np.s_[1, 2, 3, 4],
        np.s_[:, :, ::5, 1:2],
    ):  # fmt: skip
        is_of_maps = whole[index].shape[-2:] == MAPS.shape[-2:]
        if isinstance(mask, fastdrop.BlockMask) and not is_of_maps:
            with pytest.raises(IndexError, match=r"squares lie across them|new axes"):
                mask[index]
            continue
        part = mask[index]
        assert part.shape == whole[index].shape
        np.testing.assert_array_equal(part.apply(np.asarray(MAPS[index])), whole[index])
        for again in (AnyMask.from_state(json.loads(json.dumps(part.state))), copy.copy(part)):
            assert again == part
            np.testing.assert_array_equal(again.apply(np.asarray(MAPS[index])), whole[index])
        assert pickle.loads(pickle.dumps(part)) == part
        if isinstance(part, KeepMask):
            np.testing.assert_array_equal(part.to_bool(), np.asarray(mask)[index])


@every_kind
def test_other_indices_are_refused(make: Callable[[], AnyMask]) -> None:
    for index in (4, -5, slice(None, None, 0), slice(None, None, -1), "a", True, 1.0, (0,) * 5,
                  np.array([0, 1]), (0, np.array([0])), (..., *[None] * 61)):  # fmt: skip
        with pytest.raises(IndexError, match=r"row|slice|indexed|indices|dimensions|new axes"):
            make()[index]


@pytest.mark.parametrize("rng", [5, np.random.MT19937(5)], ids=["ars4x32", "numpy"])
def test_far_columns_of_noise(backend: str, rng: Any) -> None:
    x = np.ones((7, 3, 2000))
    mask = fastdrop.GaussianDropout(0.3, rng=rng).forward_mask(x)[1]
    whole = mask.apply(x)
    for index in (
        np.s_[..., 5], np.s_[:, 1, ::3], np.s_[::2, 0, 7], np.s_[1, 2, 3], np.s_[:, :, ::700],
    ):  # fmt: skip
        part = mask[index].apply(np.asarray(x[index]))
        np.testing.assert_array_equal(part, whole[index])


def test_a_state_of_noise_may_say_that_elements_share_it() -> None:
    mask = fastdrop.GaussianDropout(0.3, rng=5).forward_mask(np.ones((4, 3)))[1]
    shared = AnyMask.from_state({**mask.state, "strides": [1, 0]}).apply(np.ones((4, 3)))
    expected = mask.apply(np.ones((4, 3))).ravel()[:4]
    np.testing.assert_array_equal(shared, np.repeat(expected[:, None], 3, axis=1))


def test_a_column_of_huge_noise_takes_no_memory_between() -> None:
    """Its words lie over 10^15."""
    mask = fastdrop.GaussianDropout(0.3, rng=5).forward_mask(np.ones(4))[1]
    huge = fastdrop.NoiseMask(mask.stream, mask.draw, mask.noise, (10**6, 10**9))
    column = huge[:: 10**5, 0].apply(np.ones(10))
    assert column[0] == mask.apply(np.ones(4))[0]
    assert len(set(column)) == 10


def test_no_axis_before_that_of_samples() -> None:
    with pytest.raises(IndexError, match="first axis is that of its samples"):
        drawn(sample_ids=[3, 1, 4, 15])[None]


def test_squares_lie_across_the_lines_of_a_map() -> None:
    with pytest.raises(IndexError, match="squares lie across them"):
        of(fastdrop.DropBlock2d(0.2, 3, rng=5))[0][0][0]


@every_kind
def test_a_state_is_the_mask(make: Callable[[], AnyMask], backend: str) -> None:
    for mask in (make(), make()[1:], make()[0:0], make()[2]):
        state = mask.state
        stored = json.dumps(state)
        for again in (
            AnyMask.from_state(json.loads(stored)),
            type(mask).from_state(json.loads(stored)),
            pickle.loads(pickle.dumps(mask)),
            copy.deepcopy(mask),
            copy.copy(mask),
        ):
            assert type(again) is type(mask)
            assert again == mask
            assert hash(again) == hash(mask)
            assert again.state == state
            assert again.shape == mask.shape
            x = MAPS[: mask.shape[0]] if mask.ndim == 4 else MAPS[0]
            np.testing.assert_array_equal(again.apply(x), mask.apply(x))


def test_masks_are_equal_if_they_hold_the_same() -> None:
    masks = [make() for make in KINDS.values()]
    parts = [part for mask in masks for part in (mask[1:], mask[1])]
    assert len({*masks, *parts}) == len(masks) + len(parts)
    assert masks == [make() for make in KINDS.values()]
    assert [mask[:] for mask in masks] == masks
    assert masks[0] != 1
    assert masks[0] != "mask"


@every_kind
def test_a_state_is_of_its_kind(make: Callable[[], AnyMask]) -> None:
    state = make().state
    kinds = [fastdrop.Mask, fastdrop.SampleMask, fastdrop.BlockMask, fastdrop.NoiseMask]
    for kind in {*kinds, fastdrop.ArrayMask} - {type(make())}:
        with pytest.raises(ValueError, match=f"one of a {kind.__name__}, but got one of a"):
            kind.from_state(state)
    if isinstance(make(), KeepMask):
        assert KeepMask.from_state(state) == make()
    else:
        with pytest.raises(ValueError, match="one of a KeepMask, but got one of a NoiseMask"):
            KeepMask.from_state(state)
    for kind in (None, "unheard of", ["mask"], 3):
        with pytest.raises(ValueError, match="state's kind must be one of"):
            AnyMask.from_state({**state, "kind": kind})
    for other in (None, [], "mask", 3):
        with pytest.raises(ValueError, match="state must be a dictionary"):
            AnyMask.from_state(other)  # type: ignore[arg-type]


def test_the_state_of_a_plain_mask_is_what_it_was_before_there_were_kinds() -> None:
    state = drawn().state
    assert set(state) == {
        *("mask_format", "stream", "draw", "p", "scale", "first", "shape", "strides")
    }


def test_a_subclass_reads_its_bases_states() -> None:
    class Named(fastdrop.Mask):
        name = "of the user's"

    named = Named.from_state(drawn().state)
    assert type(named) is Named
    assert named == drawn()
    assert type(AnyMask.from_state(named.state)) is fastdrop.Mask
    named.note = 3  # it has a dictionary
    assert pickle.loads(pickle.dumps(drawn())) == drawn()
    assert copy.copy(named).note == 3


def test_what_a_block_mask_drops() -> None:
    layer = fastdrop.DropBlock2d(0.2, 3, rng=5)
    mask = of(layer)
    kept = mask.to_bool()
    assert mask.p == layer.p == mask[0].p
    assert mask.scale == kept.size / np.count_nonzero(kept)
    assert mask[0].scale == mask.scale
    assert of(fastdrop.DropBlock2d(0.0, 3, rng=5)).p == 0.0
    assert fastdrop.BlockMask(mask.corners, mask.shape).p is None


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"shape": [4, 3, 6]}, "corners must be those of squares"),
        ({"shape": [4, 3, 6, 8]}, "corners must be those of squares"),
        ({"shape": [4, 3, 2, 3]}, "corners must be those of squares"),
        ({"shape": [4, 2, 6, 7]}, "corners must be those of squares"),
        ({"shape": [2, 3, 6, 7]}, "corners must be those of squares"),
        ({"corners": None}, "state must be a dictionary"),
        ({"p": 2.0}, "between 0 and 1"),
        ({"scale": float("nan")}, "scale must be 0 or more"),
    ],
)
def test_bad_states_of_squares_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AnyMask.from_state({**KINDS["BlockMask"]().state, **change})


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"bits": "A"}, "base64 of 63 bytes"),
        ({"bits": "AAAA"}, "base64 of 63 bytes"),
        ({"bits": "é" * 84}, "base64 of 63 bytes"),
        ({"bits": [0] * 63}, "base64 of 63 bytes"),
        ({"noise_shape": [4, 3, 6, 6]}, "base64 of 54 bytes"),
        ({"shape": [4, 3, 6]}, "broadcasts to"),
        ({"shape": [4, 3, 6, 2**62]}, "broadcasts to"),
    ],
)
def test_bad_states_of_arrays_are_refused(change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AnyMask.from_state({**KINDS["ArrayMask"]().state, **change})


@pytest.mark.parametrize(
    ("kind", "change", "message"),
    [
        ("SampleMask", {"draws": [1, 2]}, "a draw for each row"),
        ("SampleMask", {"draws": [2**64 - 1] * 4}, "end before its stream does"),
        ("SampleMask", {"draws": [-1] * 4}, r"draws\[0\] must be an int of 0 or more"),
        ("SampleMask", {"stream": None}, "state must be a dictionary"),
        ("SampleMask", {"mask_format": 1}, "mask format 2"),
        ("NoiseMask", {"mask_format": 1}, "mask format 2"),
        ("NoiseMask", {"draw": 2**64 - 2}, "end before its stream does"),
        ("NoiseMask", {"factor": 1}, "factor must be True or False"),
        ("NoiseMask", {"spread": -1.0}, "spread must be 0 or more"),
        ("NoiseMask", {"shape": [1] * 65}, "at most 64 dimensions"),
    ],
)
def test_bad_states_are_refused(kind: str, change: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        AnyMask.from_state({**KINDS[kind]().state, **change})


def test_noise_keeps_nothing() -> None:
    mask = KINDS["NoiseMask"]()
    assert not hasattr(mask, "to_bool")
    with pytest.raises(TypeError, match="stands for no array of bool"):
        np.asarray(mask)


@every_kind
def test_dropout_backward_takes_every_kind(make: Callable[[], AnyMask]) -> None:
    np.testing.assert_array_equal(fastdrop.dropout_backward(MAPS, make()), make().apply(MAPS))
