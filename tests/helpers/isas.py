"""A `backend` fixture for tests of kernels: each instruction set's in C, and the others."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager, nullcontext

import pytest

import fastdrop
from fastdrop import _cy
from fastdrop.backends import NAMES

ISAS = ("baseline", "avx2", "avx512")


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


@pytest.fixture(params=[*(f"cython-{isa}" for isa in ISAS), *NAMES[1:]])
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test with each backend, and each instruction set, for all threads of the process."""
    name, _, isa = request.param.partition("-")
    if name not in fastdrop.available_backends():
        pytest.skip(f"the {name} backend is not available here")
    before = fastdrop.get_backend()
    fastdrop.set_backend(name)
    with use_isa(isa) if isa else nullcontext():
        yield name
    fastdrop.set_backend(before)
