"""What `import fastdrop` brings: light, complete and documented."""

from __future__ import annotations

import doctest
import inspect
import subprocess
import sys
import types
from pathlib import Path

import pytest

import fastdrop

# Modules that take a part of a millisecond or more.
SLOW = [
    "argparse", "asyncio", "binascii", "concurrent", "dataclasses", "email", "importlib.metadata",
    "inspect", "ipaddress", "json", "logging", "numpy.random", "numpy.typing", "pathlib", "pickle",
    "platform", "random", "shutil", "socket", "subprocess", "tempfile", "unittest", "urllib",
    "zipfile",
]  # fmt: skip
OPTIONAL = [
    "numba",
    "llvmlite",
    "torch",
    "ml_dtypes",
    "sklearn",
    "matplotlib",
    "tqdm",
    "Cython",
    "dask",
]
PUBLIC = [name for name in fastdrop.__all__ if not name.startswith("__")]
CALLABLE = [name for name in PUBLIC if callable(getattr(fastdrop, name))]


@pytest.fixture(scope="module")
def loaded() -> set[str]:
    """Return the modules that fastdrop loads in a process that has loaded numpy.

    Without `site`: what that loads, for an editable install say, would not count.
    """
    code = (
        f"import sys; sys.path = {sys.path}; import numpy; before = set(sys.modules);"
        "import fastdrop; print(*set(sys.modules) - before)"
    )
    command = [sys.executable, "-I", "-S", "-c", code]
    result = subprocess.run(command, capture_output=True, text=True, check=True)
    found = set(result.stdout.split())
    assert "fastdrop.layers.dropout" in found
    return found


def test_import_loads_nothing_optional(loaded: set[str]) -> None:
    assert not loaded & set(OPTIONAL)


def test_import_loads_nothing_slow(loaded: set[str]) -> None:
    """What only some functions need is imported inside them."""
    assert not loaded & set(SLOW)


def test_all_is_what_there_is() -> None:
    defined = {
        name
        for name, value in vars(fastdrop).items()
        if not name.startswith("_") and not isinstance(value, types.ModuleType)
    }
    assert defined == set(PUBLIC)
    assert len(set(fastdrop.__all__)) == len(fastdrop.__all__)


@pytest.mark.parametrize("name", CALLABLE)
def test_public_things_are_documented_with_an_example(name: str) -> None:
    thing = getattr(fastdrop, name)
    documentation = inspect.getdoc(thing) or ""
    assert "Examples\n--------" in documentation
    assert doctest.DocTestParser().get_examples(documentation)


@pytest.mark.parametrize("name", CALLABLE)
def test_every_parameter_is_documented(name: str) -> None:
    thing = getattr(fastdrop, name)
    documentation = inspect.getdoc(thing) or ""
    if name in ("Mask", "SampleMask"):  # made by dropout, not by users
        return
    for parameter in inspect.signature(thing).parameters:
        assert f"\n{parameter} : " in documentation, parameter


def test_types_are_shipped() -> None:
    assert Path(fastdrop.__file__).with_name("py.typed").exists()
