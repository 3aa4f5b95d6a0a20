"""random_raw: compiled, in threads for many words, and the words of the formula in NumPy."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from capsules import address_of, capsule, generator

import fastdrop
from fastdrop import _cy
from fastdrop.rng import base

OWN = [fastdrop.ARS4x32, fastdrop.Philox4x32, fastdrop.Philox, fastdrop.PCG64]
LENGTHS = [0, 1, 2, 3, 999, (1 << 14) - 1, 1 << 14, (1 << 14) + 1, (1 << 17) + 777]


@pytest.mark.parametrize("position", [0, 1, 6, 2**33 - 5, 2**64 - 2**20])
@pytest.mark.parametrize("kind", OWN)
def test_words_are_those_of_the_formula(isa: str, threads: int, kind: Any, position: int) -> None:
    rng, n = kind(3), sum(LENGTHS)
    rng.reserve(position)
    expected, start = kind.words(rng.key, position, n), 0
    for length in LENGTHS:
        words = rng.random_raw(length)
        assert (words.dtype, words.flags.owndata) == (np.uint64, True)
        np.testing.assert_array_equal(words, expected[start : start + length])
        start += length
    assert rng.position == position + n


@pytest.mark.skipif(_cy.core is None, reason="no compiled extension here")
@pytest.mark.parametrize("kind", OWN)
def test_the_formula_is_for_want_of_a_compiler(kind: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def never(*_: Any) -> None:
        raise AssertionError

    monkeypatch.setattr(kind, "words", never)
    assert kind(1).random_raw(70).shape == (70,)
    with pytest.raises(AssertionError):
        kind(1).source[0].words(0, 1)


def counting(key: Any, position: int, n: int, out: Any) -> int:
    """Write each word's position, and fail behind the first 20000."""
    for i in range(n):
        out[i] = position + i
    return 5 if position + n > 20_000 else 0


def test_a_plug_ins_words_and_its_failures(threads: int) -> None:
    kind = generator(capsule(fill=address_of(counting)))
    rng = kind(1)
    np.testing.assert_array_equal(rng.random_raw(19_000), np.arange(19_000))
    assert rng.random_raw() == 19_000
    with pytest.raises(RuntimeError, match="'custom' failed: its fill function returned 5"):
        rng.random_raw(1500)
    with pytest.raises(RuntimeError, match="'custom' failed: its fill function returned 5"):
        kind(1).random_raw(1 << 18)  # in tasks, of which some succeed


def test_a_fill_that_writes_nothing_is_noticed(threads: int) -> None:
    silent = generator(capsule(fill=address_of(lambda key, position, n, out: 0)))
    for n in (1, 5, 1 << 18):
        with pytest.raises(RuntimeError, match="did not write all words"):
            silent(1).random_raw(n)


def test_numbas_compiled_generators_give_the_same_words(monkeypatch: pytest.MonkeyPatch) -> None:
    """Those serve where there is no extension."""
    pytest.importorskip("numba")
    with fastdrop.use_backend("numba"):
        assert set(base.compiled_fills) == set(OWN)
    monkeypatch.setattr(base, "core", None)
    for kind in OWN:
        rng = kind(4)
        stream, n = rng.source[0], 10_001
        np.testing.assert_array_equal(rng.random_raw(n), kind.words(stream.key, 0, n))
        monkeypatch.setattr(kind, "words", None)
        rng.random_raw(n)
        with pytest.raises(TypeError):
            rng.random_raw(5)  # so few are not worth compiling for
