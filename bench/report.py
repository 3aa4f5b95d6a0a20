"""The table of must / aim / measured, and the section of docs/performance.md it goes to."""

from __future__ import annotations

import datetime
import math
from collections.abc import Iterable
from pathlib import Path
from typing import Final

from fastdrop.cli.bench import machine, versions

from .measure import Lab, UnavailableError
from .rows import Case, Measured

BEGIN: Final = "<!-- measured: written by `python -m bench --write`, do not edit -->"
END: Final = "<!-- end of measured -->"

Found = tuple[Case, Measured | str]  # a result, or why there is none
HEADINGS: Final = ("row", "case", "in", "must", "aim", "measured", "")
MISSED: Final = "must missed"


def outcome(case: Case, lab: Lab) -> Found:
    """Measure a case; a quick run's figure is not kept, for it says nothing."""
    try:
        measured = case.run(lab)
    except UnavailableError as missing:
        return case, str(missing)
    if not 0 < measured.value < math.inf:
        raise ValueError(f"{case.id} must measure a positive number, but got {measured.value}")
    return case, "works (not measured)" if lab.quick else measured


def verdict(case: Case, measured: Measured) -> str:
    if case.reaches(measured.value, case.aim):
        return "aim reached"
    if case.reaches(measured.value, case.must):
        return "must reached"
    return MISSED if measured.binding else "not binding here"


def cells(found: Found) -> tuple[str, ...]:
    """Return a table line's cells."""
    case, measured = found
    sign = ">=" if case.higher else "<="
    goals = (case.row, case.label, case.unit, f"{sign} {case.must:g}", f"{case.aim:g}")
    if isinstance(measured, str):
        return (*goals, "-", measured)
    said = verdict(case, measured) + (f" ({measured.note})" if measured.note else "")
    return (*goals, number(measured.value), said)


def number(value: float) -> str:
    return f"{value:.0f}" if value >= 100 else f"{value:.3g}"


def text_table(results: Iterable[Found]) -> list[str]:
    """Return the table for a terminal."""
    lines = [HEADINGS, *map(cells, results)]
    widths = [max(map(len, column)) for column in zip(*lines, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    ]


def markdown_table(results: Iterable[Found]) -> list[str]:
    """Return the table for docs/performance.md, missed goals in bold."""
    lines = ["| " + " | ".join(HEADINGS) + " |", "|" + "---|" * len(HEADINGS)]
    for found in results:
        line = cells(found)
        if line[-1].startswith(MISSED):
            line = (*line[:-2], f"**{line[-2]}**", line[-1].replace(MISSED, f"**{MISSED}**", 1))
        lines.append("| " + " | ".join(line) + " |")
    return lines


def tally(results: list[Found]) -> str:
    """Return how many of the goals were reached, in a sentence."""
    said = [verdict(c, m) for c, m in results if isinstance(m, Measured)]
    missed = said.count(MISSED)
    return (
        f"{len(said)} of {len(results)} cases measured: {said.count('aim reached')} reach the aim, "
        f"{missed} {'misses' if missed == 1 else 'miss'} the must."
    )


def write(path: Path, results: list[Found]) -> None:
    """Replace the marked section of a page.

    Raises
    ------
    ValueError
        If the page has no such section.
    """
    page = path.read_text()
    before, begin, rest = page.partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{path} must have a section between the lines {BEGIN!r} and {END!r}")
    section = [
        BEGIN,
        "",
        f"{machine()}, {datetime.date.today():%d %B %Y}. {versions()}.",
        "",
        tally(results),
        "",
        *markdown_table(results),
        "",
        END,
    ]
    path.write_text(before + "\n".join(section) + after)
