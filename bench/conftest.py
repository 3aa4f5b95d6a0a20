"""Options of `pytest bench`, and the table at its end."""

from __future__ import annotations

import pytest

from .measure import Lab
from .report import Found, tally, text_table

RESULTS = pytest.StashKey[list[Found]]()


def pytest_addoption(parser: pytest.Parser) -> None:
    group = parser.getgroup("bench")
    group.addoption("--quick", action="store_true", help="cut sizes, run once: only show it works")
    group.addoption("--seconds", type=float, default=Lab.seconds, help="budget of each row's case")


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    config.stash[RESULTS] = []
    if config.getoption("--quick"):
        config.option.benchmark_disable = True  # pytest-benchmark then runs each once


@pytest.fixture(scope="session")
def lab(pytestconfig: pytest.Config) -> Lab:
    return Lab(pytestconfig.getoption("--seconds"), pytestconfig.getoption("--quick"))


@pytest.fixture(scope="session")
def results(pytestconfig: pytest.Config) -> list[Found]:
    """What the rows' measurements are recorded in."""
    return pytestconfig.stash[RESULTS]


def pytest_terminal_summary(
    terminalreporter: pytest.TerminalReporter, config: pytest.Config
) -> None:
    found = config.stash[RESULTS]
    if not found:
        return
    terminalreporter.section("goals for speed: must / aim / measured")
    for line in [*text_table(found), "", tally(found)]:
        terminalreporter.line(line)
