"""What the programs that test random bits get to read."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

import fastdrop
from fastdrop.backends import Draw
from fastdrop.mask_format import rate
from fastdrop.masks.mask import Mask

pytest.importorskip("numba")

import stream


@pytest.mark.parametrize("p", [0.5, 0.1])
def test_the_first_of_two_elements_that_differ_is_taken(p: float) -> None:
    source, _ = fastdrop.Philox4x32(1).reserve(0)
    mask = Mask(Draw(source, 0, rate(p)), (1 << 16,))
    first, second = mask.to_bool().reshape(-1, 2).T
    expected = np.packbits(first[first != second], bitorder="little")
    got = stream.pairs(mask.to_packed().view(np.uint64)).view(np.uint8)
    assert len(got) == len(expected) // 8 * 8
    assert got.tobytes() == expected[: len(got)].tobytes()


@pytest.mark.parametrize("name", stream.GENERATORS)
def test_draws_follow_each_other(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(stream, "DRAW", 1 << 16)
    pieces = itertools.islice(stream.stream(name, 3, 0.5, "draws"), 3)
    words = np.frombuffer(b"".join(pieces), "<u8")
    assert words.tolist() == (~stream.GENERATORS[name](3).random_raw(3 << 10)).tolist()


@pytest.mark.parametrize("of", ["children", "keys", "seeds"])
def test_masks_take_turns_word_by_word(of: str) -> None:
    sources = stream.masks_of("philox", 3, of)
    assert len(set(sources)) == len(sources) == stream.MASKS
    words = np.frombuffer(next(stream.stream("philox", 3, 0.5, of)), "<u8")
    for turn, source in enumerate(sources):
        mask = Mask(Draw(source, 0, rate(0.5)), (640,))
        assert words[turn :: stream.MASKS][:10].tolist() == mask.to_packed().view("<u8").tolist()
