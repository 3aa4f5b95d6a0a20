"""The property tests with three times the examples, and others each time."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

FILES = sorted(Path(__file__).parent.glob("test_properties*.py"))


@pytest.mark.slow
@pytest.mark.parametrize(
    "file", [file for file in FILES if file != Path(__file__)], ids=lambda f: f.stem
)
def test_more_examples(file: Path) -> None:
    environment = os.environ | {"FASTDROP_EXAMPLES": "180", "CI": ""}
    result = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-x", "-p", "no:cacheprovider", str(file)],
        env=environment,
        capture_output=True,
        text=True,
    )
    assert result.returncode == 0, result.stdout[-10000:] + result.stderr[-2000:]
