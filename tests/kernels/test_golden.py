"""Every backend gives the digests in tests/data/golden.txt, and nothing goes without."""

from __future__ import annotations

import subprocess
import sys
from collections import Counter

import golden
import pytest
from isas import backend_of_masks

import fastdrop
from fastdrop.backends import NAMES, Backend, available_backends, use_backend
from fastdrop.layers.base import Layer

PROMISED = golden.read()
backend = backend_of_masks


@pytest.mark.parametrize("what", ["words", "mask", "y"])
@pytest.mark.parametrize("generator", golden.GENERATORS)
def test_backend_gives_the_golden_digests(backend: str, generator: str, what: str) -> None:
    cases = [case for case in PROMISED if case[:2] == (what, generator)]
    if what == "y" and generator not in golden.PIPED:
        assert not cases  # what is multiplied does not depend on the generator
        return
    assert cases
    assert {case: golden.digest(case) for case in cases} == {c: PROMISED[c] for c in cases}


@pytest.mark.parametrize("what", golden.FAMILY)
def test_the_family_gives_the_golden_digests(backend: str, what: str) -> None:
    cases = [case for case in PROMISED if case[0] == what]
    assert cases
    assert {case: golden.digest(case) for case in cases} == {c: PROMISED[c] for c in cases}


def test_every_layer_has_digests() -> None:
    layers = {
        name
        for name, value in vars(fastdrop).items()
        if isinstance(value, type) and issubclass(value, Layer) and name != "Dropout"
    }
    assert layers - {"Layer"} <= set(golden.FAMILY)


def test_file_has_all_cases_and_no_others() -> None:
    assert list(PROMISED) == list(golden.cases())


def test_no_digest_stands_twice() -> None:
    """A generator that yields one constant, or ignores p or size, would repeat itself."""
    assert max(Counter(PROMISED.values()).values()) == 1


def test_every_registered_generator_has_digests() -> None:
    # In a new process: other tests and doctests register generators of their own.
    code = "import fastdrop; print(*fastdrop.available_rngs())"
    result = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    registered = result.stdout.split()
    assert registered
    for name in registered:
        assert any(case[:2] == ("mask", name) for case in PROMISED), name


def test_every_backend_is_compared_with_them() -> None:
    for name in available_backends():
        with use_backend(name):
            pass  # loads it
    assert {cls.name for cls in Backend.__subclasses__()} <= set(NAMES)
