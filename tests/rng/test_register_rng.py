"""The generators' interface: what can be registered, and what is refused before it can crash."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from capsules import COUNTING, address_of, capsule, counting, generator

import fastdrop
from fastdrop import rng as interface

X = np.ones(100, np.float32)


@pytest.fixture(autouse=True)
def _register_of_its_own(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(interface, "_registry", dict(interface._registry))


def test_a_capsules_words_drive_the_mask(backend: str) -> None:
    cls = generator(capsule())
    fastdrop.register_rng("custom", cls)
    assert "custom" in fastdrop.available_rngs()
    rng = cls(1)
    words = rng.key[0] + np.arange(64, dtype=np.uint64)
    y = fastdrop.dropout(np.ones(4096, np.float32), rng=rng)
    expected = 2 * (1 - np.unpackbits(words.astype("<u8").view(np.uint8), bitorder="little"))
    np.testing.assert_array_equal(y, expected)
    assert type(interface.as_rng("custom")) is cls


def test_make_capsule_makes_what_c_makes() -> None:
    ours = interface.capsule.open_capsule(fastdrop.make_capsule(COUNTING, key_words=3))
    theirs = interface.capsule.open_capsule(capsule(key_words=3))
    assert ours == theirs == (COUNTING, 3)


def test_a_larger_struct_of_a_later_build_is_accepted() -> None:
    fastdrop.register_rng("custom", generator(capsule(struct_size=64)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"fill": 0}, "must have a fill function, but got NULL"),
        ({"abi_version": 0}, "must have abi_version 1, but got 0"),
        ({"abi_version": 2}, "must have abi_version 1, but got 2"),
        ({"struct_size": 16}, "must have struct_size 24 or more, but got 16"),
        ({"struct_size": 0}, "must have struct_size 24 or more, but got 0"),
        ({"key_words": 0}, "must have key_words of 1 or more, but got 0"),
    ],
)
def test_a_wrong_struct_is_refused(fields: dict[str, int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        fastdrop.register_rng("custom", generator(capsule(**fields)))
    assert "custom" not in fastdrop.available_rngs()


@pytest.mark.parametrize("wrong", [object(), 1, b"fastdrop.rng", capsule(name=b"other")])
def test_what_is_no_capsule_of_ours_is_refused(wrong: object) -> None:
    with pytest.raises(TypeError, match=r"capsule must be a PyCapsule named 'fastdrop.rng'"):
        fastdrop.register_rng("custom", generator(wrong))


def test_no_capsule_and_no_words_is_refused() -> None:
    with pytest.raises(TypeError, match="capsule must be"):
        fastdrop.register_rng("custom", generator(None))


def test_make_capsule_refuses_null() -> None:
    with pytest.raises(ValueError, match="NULL"):
        fastdrop.make_capsule(0, key_words=1)


def test_fill_that_remembers_is_refused() -> None:
    calls = []

    def impure(key: Any, position: int, n: int, out: Any) -> int:
        calls.append(n)
        for i in range(n):
            out[i] = len(calls) * 1000 + i
        return 0

    with pytest.raises(ValueError, match="fill must be a pure function"):
        fastdrop.register_rng("custom", generator(capsule(fill=address_of(impure))))
    assert "custom" not in fastdrop.available_rngs()


def test_fill_that_fails_is_refused() -> None:
    fails = address_of(lambda key, position, n, out: 3)
    with pytest.raises(RuntimeError, match="'custom' failed: its fill function returned 3"):
        fastdrop.register_rng("custom", generator(capsule(fill=fails)))


def test_fill_that_fails_later_raises(backend: str) -> None:
    def failing(key: Any, position: int, n: int, out: Any) -> int:
        return 7 if position >= 1000 else counting(key, position, n, out)

    cls = generator(capsule(fill=address_of(failing)))
    fastdrop.register_rng("custom", cls)
    rng = cls(1)
    rng.random_raw(1000)
    with pytest.raises(RuntimeError, match="'custom' failed: its fill function returned 7"):
        fastdrop.dropout(X, rng=rng)
    with pytest.raises(RuntimeError, match="'custom' failed: its fill function returned 7"):
        fastdrop.dropout(X, rng=rng, return_mask=True, p=0.3)


KINDS = [int, object, None, "pcg64", interface.NumpyRNG, np.random.Generator]


@pytest.mark.parametrize("cls", KINDS)
def test_a_class_of_another_kind_is_refused(cls: Any) -> None:
    with pytest.raises(TypeError, match="cls must be a subclass of"):
        fastdrop.register_rng("custom", cls)


@pytest.mark.parametrize("name", ["", None, 1, b"custom"])
def test_name_has_to_be_text(name: Any) -> None:
    with pytest.raises(TypeError, match="name must be a non-empty string"):
        fastdrop.register_rng(name, generator(capsule()))


def test_a_taken_name_is_refused_but_the_same_class_is_not() -> None:
    cls = generator(capsule())
    fastdrop.register_rng("custom", cls)
    fastdrop.register_rng("custom", cls)
    with pytest.raises(ValueError, match="'custom' is registered already"):
        fastdrop.register_rng("custom", generator(capsule()))
    with pytest.raises(ValueError, match="'philox' is registered already"):
        fastdrop.register_rng("philox", np.random.SFC64)
    assert type(interface.as_rng("custom")) is cls


def test_a_class_has_one_name() -> None:
    with pytest.raises(ValueError, match=r"name must be Custom.name, 'custom', but got 'other'"):
        fastdrop.register_rng("other", generator(capsule()))


def test_numpys_bit_generators_can_be_registered(backend: str) -> None:
    fastdrop.register_rng("mersenne", np.random.MT19937)
    fastdrop.register_rng("mersenne", np.random.MT19937)
    assert "mersenne" in fastdrop.available_rngs()
    assert (fastdrop.dropout(X, rng="mersenne") > 0).any()
    with pytest.raises(ValueError, match="'mersenne' is registered already"):
        fastdrop.register_rng("mersenne", np.random.SFC64)


class PurePython(np.random.BitGenerator):
    """NumPy accepts this class; its C functions are all NULL."""


def test_a_bit_generator_in_python_alone_is_refused() -> None:
    with pytest.raises(TypeError, match="must provide next_uint64, but PurePython leaves it NULL"):
        fastdrop.register_rng("python", PurePython)
    with pytest.raises(TypeError, match="must provide next_uint64"):
        fastdrop.dropout(X, rng=PurePython(1))
    with pytest.raises(TypeError, match="must provide next_uint64"):
        fastdrop.Dropout(rng=np.random.Generator(PurePython(1)))
