"""Skipped tests must not look like passed ones: CI has all that they need.

It installs torch and distributed later, for the tests that need them, and imports them there.
"""

import ast
import importlib
import os

import pytest
from paths import ROOT

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


LATER = ("torch", "xarray", "autograd")  # what .ci/run installs for some tests, and picks them by


def test_tests_that_ci_runs_later_have_the_name_of_what_they_need() -> None:
    found = 0
    for file in (ROOT / "tests").rglob("test_*.py"):
        if file.parent.name == "pytorch":
            continue
        for function in ast.walk(ast.parse(file.read_text())):
            if isinstance(function, ast.FunctionDef) and function.name.startswith("test_"):
                for library in needed_by(function):
                    found += 1
                    assert library in function.name, f"{file.name}: {function.name}"
    assert found > 10


def needed_by(function: ast.FunctionDef) -> list[str]:
    """Return what a function passes to importorskip and CI installs later."""
    named = [
        call.args[0].value.partition(".")[0]
        for call in ast.walk(function)
        if isinstance(call, ast.Call)
        and getattr(call.func, "attr", "") == "importorskip"
        and isinstance(call.args[0], ast.Constant)
    ]
    return [library for library in named if library in LATER]
