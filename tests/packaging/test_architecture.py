"""The package's modules import each other as pyproject.toml and the map in docs/design.md say."""

from __future__ import annotations

import re
import sys
from itertools import pairwise
from pathlib import Path

import pytest
from paths import ROOT

import fastdrop

grimp = pytest.importorskip("grimp")
cli = pytest.importorskip("importlinter.cli")

PACKAGE = Path(fastdrop.__file__).parent
DESIGN = ROOT / "docs" / "design.md"

UNDRAWN = {"_version", "cli"}  # __main__ alone imports cli

Imports = set[tuple[str, str]]


@pytest.fixture(scope="module")
def imports() -> Imports:
    """Return who imports whom, of the modules and folders directly within the package."""
    graph = grimp.build_graph("fastdrop", cache_dir=None)
    edges = (
        (module.split(".")[1], imported.split(".")[1])
        for module in graph.modules - {"fastdrop"}
        for imported in graph.find_modules_directly_imported_by(module) - {"fastdrop"}
    )
    return {(above, below) for above, below in edges if above != below}


def drawn() -> Imports:
    """Return the arrows of the map in docs/design.md."""
    [chart] = re.findall(r"```mermaid\n(.*?)```", DESIGN.read_text(), re.DOTALL)
    arrows = set()
    for line in chart.splitlines():
        names = [part.split("&") for part in line.split("-->")]
        for above, below in pairwise(names):
            arrows |= {(a.strip(), b.strip()) for a in above for b in below}
    return arrows


def reachable(arrows: Imports) -> Imports:
    """Return which pairs a way of one or several arrows joins."""
    found = set(arrows)
    while more := {(a, d) for a, b in found for c, d in arrows if b == c} - found:
        found |= more
    return found


def test_imports_keep_to_the_contract(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Also those inside functions, and through other modules."""
    monkeypatch.setattr(sys, "path", [*sys.path])  # the linter puts a folder first
    status = cli.lint_imports(config_filename=str(ROOT / "pyproject.toml"), no_cache=True)
    assert status == 0, capsys.readouterr().out


def test_the_map_draws_the_imports_that_there_are(imports: Imports) -> None:
    arrows = drawn()
    assert not arrows - imports, "drawn, but nothing is imported"
    missing = imports - reachable(arrows)
    assert not {(above, below) for above, below in missing if below not in UNDRAWN}


def test_the_map_has_no_arrow_that_others_imply() -> None:
    arrows = drawn()
    implied = {(a, c) for a, b in arrows for b2, c in reachable(arrows) if b == b2}
    assert not arrows & implied


def test_the_table_names_every_part_of_the_package() -> None:
    section = DESIGN.read_text().split("## The folders")[1].split("\n## ")[0]
    named = set(re.findall(r"`(\w+)(?:/|\.py)`", "\n".join(re.findall(r"^\|.*?\|", section, re.M))))
    parts = {path.stem for path in PACKAGE.iterdir() if path.suffix == ".py" or path.is_dir()}
    assert named == parts - {"__init__", "__pycache__"}
    assert {name for arrow in drawn() for name in arrow} <= named
