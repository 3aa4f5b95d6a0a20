"""Skipped tests must not look like passed ones: CI has all that they need.

It installs torch and distributed later, for the tests that need them, and imports them there.
"""

import importlib
import os

import pytest

NEEDED = [
    "numba",
    "sklearn",
    "ml_dtypes",
    "importlinter",
    "dask",
    "fastdrop._cy._core",
]


@pytest.mark.skipif(os.environ.get("CI") != "true", reason="only CI has to have everything")
@pytest.mark.parametrize("module", NEEDED)
def test_ci_has_what_the_other_tests_need(module: str) -> None:
    importlib.import_module(module)
