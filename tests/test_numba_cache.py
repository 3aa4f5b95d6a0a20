"""Kernels that Numba has cached on disk, for one process to load what several compiled."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytest.importorskip("numba")

SCRIPT = """
import sys, numpy as np, fastdrop
for name in sys.argv[1:]:
    x = np.ones(9000, name)
    with fastdrop.use_backend("numba"):
        y = fastdrop.dropout(x, 0.3, rng=1)
    with fastdrop.use_backend("reference"):
        np.testing.assert_array_equal(y, fastdrop.dropout(x, 0.3, rng=1))
"""


def test_kernels_of_several_processes_are_told_apart(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    for names in (["float32"], ["float64"], ["float32", "float64"]):
        before = sorted(tmp_path.rglob("*.nbc"))
        result = subprocess.run(
            [sys.executable, "-c", SCRIPT, *names], env=environment, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr
    assert before == sorted(tmp_path.rglob("*.nbc"))  # the last process compiled nothing
