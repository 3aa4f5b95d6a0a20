"""A `backend` fixture for tests of kernels: each instruction set's in C, and the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest

import fastdrop
from fastdrop import _cy
from fastdrop.backends import NAMES

ISAS = ("baseline", "aes", "avx2", "vaes", "avx512")
WHOLE = ("baseline", "avx2", "avx512")  # the others have kernels of their own for masks only


@contextmanager
def use_isa(name: str) -> Iterator[None]:
    """Run a block on the C kernels of an instruction set; skip the test where there are none."""
    core = _cy.core
    if core is None or name not in core.available_isas():
        pytest.skip(f"no kernels for {name} here")
    before = core.isa()
    core.choose_isa(name)
    try:
        yield
    finally:
        core.choose_isa(before)


def _backends(isas: tuple[str, ...]) -> list[str]:
    return [*(f"cython-{isa}" for isa in isas), *NAMES[1:]]


@pytest.fixture(params=_backends(WHOLE))
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test with each backend, and each instruction set, for all threads of the process."""
    yield from _run_by(request.param)


@pytest.fixture(name="backend", params=_backends(ISAS))
def backend_of_masks(request: pytest.FixtureRequest) -> Iterator[str]:
    """Do so with the instruction sets, too, that differ from another one in masks only."""
    yield from _run_by(request.param)


def _run_by(which: str) -> Iterator[str]:
    name, _, isa = which.partition("-")
    if name not in fastdrop.available_backends():
        pytest.skip(f"the {name} backend is not available here")
    before = fastdrop.get_backend()
    fastdrop.set_backend(name)
    with use_isa(isa) if isa else nullcontext():
        yield name
    fastdrop.set_backend(before)
