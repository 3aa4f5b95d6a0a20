"""What the documents name is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from paths import ROOT

DOCUMENTS = sorted([*ROOT.glob("*.md"), *ROOT.glob("*/*.md")])
NAMED = re.compile(r"(?<![\w/.])(?:tests|examples|bench|fuzz|tools)/[\w./*-]*[\w*/]")

pytestmark = pytest.mark.skipif(
    not (ROOT / "setup.py").exists(), reason="only a source tree has all that is named"
)


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_files_and_folders_that_are_named_exist(document: Path) -> None:
    named = set(NAMED.findall(document.read_text()))
    assert not [name for name in sorted(named) if not any(ROOT.glob(name.rstrip("/")))]


def test_names_are_found() -> None:
    text = "`bench/rows.py`, build/fuzz/corpus, `tests/data/golden.txt` and tests/rng/test_*.py."
    found = NAMED.findall(text)
    assert found == ["bench/rows.py", "tests/data/golden.txt", "tests/rng/test_*.py"]
