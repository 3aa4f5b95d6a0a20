"""What the tests share: each backend, a fixed seed, and hypothesis' settings."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest
from hypothesis import HealthCheck, settings

import fastdrop
from fastdrop import _cy
from fastdrop.backends import NAMES

settings.register_profile(
    "fastdrop",
    deadline=None,  # numba compiles at first use
    max_examples=int(os.environ.get("FASTDROP_EXAMPLES", "60")),
    derandomize=os.environ.get("CI") == "true",
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # `backend` suits all examples
)
settings.load_profile("fastdrop")


@pytest.fixture(params=NAMES)
def backend(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test with each backend, for all threads of the process."""
    name = request.param
    if name not in fastdrop.available_backends():
        pytest.skip(f"the {name} backend is not available here")
    before = fastdrop.get_backend()
    fastdrop.set_backend(name)
    yield name
    fastdrop.set_backend(before)


@pytest.fixture(params=["baseline", "avx2", "avx512"])
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test on the C kernels for each instruction set."""
    if _cy.core is None or request.param not in _cy.core.available_isas():
        pytest.skip(f"no kernels for {request.param} here")
    before = _cy.core.isa()
    _cy.core.choose_isa(request.param)
    with fastdrop.use_backend("cython"):
        yield request.param
    _cy.core.choose_isa(before)


@pytest.fixture(params=[1, 2, 3])
def threads(request: pytest.FixtureRequest) -> Iterator[int]:
    """Run the test with each number of threads."""
    before = fastdrop.get_num_threads()
    fastdrop.set_num_threads(request.param)
    yield request.param
    fastdrop.set_num_threads(before)


@pytest.fixture(autouse=True)
def _seeded() -> None:
    fastdrop.manual_seed(20140615)
