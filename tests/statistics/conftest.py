"""Say, when the tests have run, how many checks they made and how likely a false alarm was."""

from __future__ import annotations

import checks
import pytest


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    if checks.tally.z:
        terminalreporter.write_line(f"statistics: {checks.tally}")
