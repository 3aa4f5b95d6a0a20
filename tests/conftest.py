"""What the tests share: backends, a seed, hypothesis' settings, their order, and what is slow."""

from __future__ import annotations

import os
from collections.abc import Generator, Iterator
from pathlib import Path
from typing import Any

import checks
import pytest
from hypothesis import HealthCheck, settings
from isas import ISAS, use_isa
from paths import TESTS
from support import OTHER_DTYPES

import fastdrop
from fastdrop.backends import NAMES

collect_ignore = ["helpers"]  # no tests; one of them needs torch

settings.register_profile(
    "fastdrop",
    deadline=None,  # numba compiles at first use
    max_examples=int(os.environ.get("FASTDROP_EXAMPLES", "60")),
    derandomize=os.environ.get("CI") == "true",
    suppress_health_check=[HealthCheck.function_scoped_fixture],  # `backend` suits all examples
)
settings.load_profile("fastdrop")

# The most valuable first: digests and the backends, what is built on them, then the surroundings.
FOLDERS = ("kernels", "rng", "layers", "statistics", "pytorch", "robustness", "packaging")
LONGEST = ("test_properties_long.py",)
MOST_PROCESSES = 8  # of `pytest -n auto`: each compiles Numba's kernels, and takes memory


@pytest.hookimpl(tryfirst=True)  # before -m chooses
def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Put tests in order, golden digests first, and mark variants that are slow."""
    # The longest tests by far come before all: at the end one processor would wait for them.
    items.sort(key=lambda item: (item.path.name not in LONGEST, rank(item.path)))
    for item in items:
        if hasattr(item, "callspec") and is_slow(item.callspec.params):
            item.add_marker("slow")


@pytest.hookimpl(wrapper=True)
def pytest_make_collect_report(
    collector: pytest.Collector,
) -> Generator[None, pytest.CollectReport, pytest.CollectReport]:
    """Fail where a file of tests cannot be imported.

    --doctest-ignore-import-errors is meant for modules of the package that need torch, but takes
    a test's wrong import for the same, and none of its tests would run.
    """
    report = yield
    if "unable to import module" in str(report.longrepr) and TESTS in collector.path.parents:
        report.outcome = "failed"
    return report


def rank(path: Path) -> int:
    """Return a place in the order of FOLDERS, golden digests first and doctests last."""
    folder = path.parent.name
    return path.stem != "test_golden" and 1 + (*FOLDERS, folder).index(folder)


def is_slow(parameters: dict[str, object]) -> bool:
    """Whether a test's parameters ask for much that other tests ask for too."""
    backend = parameters.get("backend")
    if backend == "reference":  # which has no threads
        return parameters.get("threads", 1) != 1
    return backend == "numba" and any(  # which compiles a kernel for each form and dtype
        value == OTHER_DTYPES or (isinstance(value, str) and value in OTHER_DTYPES)
        for value in parameters.values()
    )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_auto_num_workers() -> int:
    """Return the number of processes for `-n auto`."""
    return min(fastdrop.get_num_threads(), MOST_PROCESSES)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Return what gives the tests to processes."""
    from processes import Scheduling

    config.option.loadscopereorder = False
    return Scheduling(config, log)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Send one of several processes' checks of statistics to the first."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["z"] = checks.tally.z


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Take the checks of a process that has ended."""
    checks.tally.z += getattr(node, "workeroutput", {}).get("z", [])


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Say how many checks were made, and how likely a false alarm was."""
    if checks.tally.z:
        terminalreporter.write_line(f"statistics: {checks.tally}")


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


@pytest.fixture(params=ISAS)
def isa(request: pytest.FixtureRequest) -> Iterator[str]:
    """Run the test on the C kernels for each instruction set."""
    with use_isa(request.param), fastdrop.use_backend("cython"):
        yield request.param


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
