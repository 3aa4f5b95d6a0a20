"""An extension that is there and does not work: its fault is named, and nothing runs instead."""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastdrop
from fastdrop import _cy

PACKAGE = Path(fastdrop.__file__).parent
needs_extension = pytest.mark.skipif(_cy.core is None, reason="no compiled extension here")
PRINT = "import fastdrop; print(fastdrop.get_backend(), fastdrop.__file__)"


@pytest.fixture
def copied(tmp_path: Path) -> Path:
    """Return the folder of a copy's extension, which is not in it."""
    skipped = shutil.ignore_patterns("_core*", "__pycache__", "torch", "cli")
    shutil.copytree(PACKAGE, tmp_path / "fastdrop", ignore=skipped)
    return tmp_path / "fastdrop" / "_cy"


def imported(folder: Path) -> subprocess.CompletedProcess[str]:
    """Import that copy in a process of its own."""
    settings = {"PYTHONPATH": str(folder.parents[1]), "PYTHONDONTWRITEBYTECODE": "1"}
    settings["FASTDROP_BACKEND"] = settings["FASTDROP_ISA"] = ""
    return subprocess.run(
        [sys.executable, "-c", PRINT],
        env={**os.environ, **settings},
        cwd=folder,
        capture_output=True,
        text=True,
    )


def fault(folder: Path, file: Path) -> str:
    """Return what the import of a copy raises, which names the file and what to do."""
    result = imported(folder)
    assert result.returncode == 1, result.stdout + result.stderr
    message = result.stderr.strip().splitlines()[-1]
    assert message.startswith("ImportError: fastdrop's compiled kernels")
    assert str(file) in message
    assert "pip install --force-reinstall" in message
    return message


@needs_extension
@pytest.mark.parametrize("share", [0.0, 0.01, 0.5, 0.99])
def test_a_truncated_extension_is_named(copied: Path, share: float) -> None:
    """Most of these ended the process by SIGBUS, and an empty file was as good as none."""
    whole = Path(_cy.core.__file__)
    octets = whole.read_bytes()
    file = copied / whole.name
    file.write_bytes(octets[: int(share * len(octets))])
    message = fault(copied, file)
    if sys.platform == "linux":
        assert ("file too short" if share == 0 else "the file is cut short") in message


@needs_extension
def test_an_extension_of_another_kind_of_file_is_named(copied: Path) -> None:
    file = copied / Path(_cy.core.__file__).name
    file.write_bytes(b"<html>404</html>" * 100)
    fault(copied, file)


@pytest.mark.parametrize(
    ("source", "found"),
    [
        ("", "None"),  # from before there was a number
        (f"INTERFACE = {_cy.INTERFACE + 1}", str(_cy.INTERFACE + 1)),
        (f"INTERFACE = {_cy.INTERFACE - 1}", str(_cy.INTERFACE - 1)),
    ],
)
def test_an_extension_of_another_version_is_named(copied: Path, source: str, found: str) -> None:
    file = copied / "_core.py"
    file.write_text(source)
    message = fault(copied, file)
    assert f"must have number {_cy.INTERFACE}, but has {found}." in message


def test_an_extension_that_fails_is_named(copied: Path) -> None:
    file = copied / "_core.py"
    file.write_text("import no_such_module_of_numpys")
    assert "No module named 'no_such_module_of_numpys'" in fault(copied, file)


@needs_extension
def test_a_whole_extension_is_taken_and_none_is_no_fault(copied: Path) -> None:
    assert imported(copied).stdout.split()[0] in ("numba", "reference")
    shutil.copy(_cy.core.__file__, copied)
    assert imported(copied).stdout.split() == ["cython", str(copied.parent / "__init__.py")]


def test_the_interface_has_another_number_after_each_change() -> None:
    """Count INTERFACE up in `_cy/__init__.py` and in `_core.pyx`, and write both numbers here."""
    source = PACKAGE / "_cy" / "_core.pyx"
    if not source.exists():
        pytest.skip("installed without sources")
    defined = re.findall(r"^ *(?:cdef class|def) (.+?):\n", source.read_text(), re.DOTALL | re.M)
    text = "\n".join(re.sub(r"\s+", " ", signature) for signature in defined)
    digest = hashlib.sha256(text.encode()).hexdigest()[:16]
    assert (_cy.INTERFACE, digest) == (9, "8935533b0950b15e")
