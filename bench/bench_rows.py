"""The goals for speed, measured: ``pytest bench -k large-out``.

A goal that is missed is reported in the table and fails nothing: speed depends on the machine.
"""

from __future__ import annotations

from collections.abc import Callable

import pytest

from .measure import Lab
from .report import Found, outcome
from .rows import CASES, Case, Measured


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.id)
def test_row(
    case: Case, lab: Lab, results: list[Found], record_property: Callable[[str, object], None]
) -> None:
    found = outcome(case, lab)
    results.append(found)
    if isinstance(found[1], Measured):
        record_property("measured", found[1].value)
    elif not lab.quick:
        pytest.skip(found[1])
