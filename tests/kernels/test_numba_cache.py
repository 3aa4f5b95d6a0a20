"""Kernels that Numba has cached on disk: who may load them, and when they are made anew."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import fastdrop
from fastdrop import mask_format

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


@pytest.mark.slow
def test_kernels_of_several_processes_are_told_apart(tmp_path: Path) -> None:
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(tmp_path)}
    for names in (["float32"], ["float64"], ["float32", "float64"]):
        before = sorted(tmp_path.rglob("*.nbc"))
        result = subprocess.run(
            [sys.executable, "-c", SCRIPT, *names], env=environment, capture_output=True, text=True
        )
        assert result.returncode == 0, result.stderr
    assert before == sorted(tmp_path.rglob("*.nbc"))  # the last process compiled nothing


BITS = """
import hashlib, numpy as np, fastdrop
from fastdrop.mask_format import REFINE_WORDS

def bits(backend):
    with fastdrop.use_backend(backend):
        return mask.to_packed().tobytes()

with fastdrop.use_backend("reference"):
    mask = fastdrop.dropout(np.ones(40_000), 0.1, rng=1, return_mask=True)[1]
print(REFINE_WORDS, hashlib.sha256(bits("numba")).hexdigest(), bits("numba") == bits("reference"))
"""


def test_a_changed_constant_recompiles(tmp_path: Path) -> None:
    """The kernels' own files stay as they are: the constant is in another."""
    package, cache = tmp_path / "fastdrop", tmp_path / "cache"
    leave = shutil.ignore_patterns("__pycache__", "*.so", "*.pyd", "*.c", "*.h", "torch")
    shutil.copytree(Path(fastdrop.__file__).parent, package, ignore=leave)
    environment = {**os.environ, "NUMBA_CACHE_DIR": str(cache), "PYTHONPATH": str(tmp_path)}
    source = package / "mask_format.py"
    right = source.read_text()
    wrong = right.replace("REFINE_WORDS: Final = 16", "REFINE_WORDS: Final = 8")
    assert wrong != right

    def run() -> tuple[list[str], int]:
        """Return what the script prints, and how many kernels there are then."""
        result = subprocess.run(
            [sys.executable, "-c", BITS],
            env=environment,
            cwd=tmp_path,
            capture_output=True,
            text=True,
        )
        assert result.returncode == 0, result.stderr
        return result.stdout.split(), len(list(cache.rglob("*.nbc")))

    first, compiled = run()
    source.write_text(wrong)
    second, more = run()
    source.write_text(right)
    assert first[0] == "16"
    assert second[0] == "8"
    assert first[2] == second[2] == "True"  # the reference's bits with that constant
    assert first[1] != second[1]
    assert more == 2 * compiled
    assert run() == (first, more)  # the first ones are still there


def test_kernels_are_known_by_all_that_they_are_made_of() -> None:
    from fastdrop.backends.numba import kernels, sources

    found = set(sources.imported(kernels.__name__))
    package = Path(fastdrop.__file__).parent
    folders = {"_formulas": set(), "backends/numba": {"__init__", "backend", "ranges", "threads"}}
    for folder, called in folders.items():
        names = {file.stem for file in (package / folder).glob("*.py")} - called - {"__init__"}
        assert {f"fastdrop.{folder.replace('/', '.')}.{name}" for name in names} <= found
    assert {"fastdrop.mask_format", "fastdrop.backends.form", "fastdrop.rng.base"} <= found
    assert not any(name.startswith("numpy") or name == "fastdrop" for name in found)


def test_constants_count_as_they_are_now(monkeypatch: pytest.MonkeyPatch) -> None:
    from fastdrop._formulas import coefficients
    from fastdrop.backends.numba import kernels, sources

    def digest() -> str:
        return sources.digest.__wrapped__(kernels.__name__)

    before = digest()
    assert before == digest() == sources.digest(kernels.__name__)
    monkeypatch.setattr(mask_format, "REFINE_WORDS", 8)
    changed = digest()
    monkeypatch.setattr(coefficients, "SINGLE", coefficients.SINGLE._replace(peak=0.5))
    assert len({before, changed, digest()}) == 3
