"""python -m fuzz.lines: which lines of _core.pyx the tests run; fails below 95%.

Needs coverage.py. What it says of Python files `coverage run -m pytest` says better:
a build that tells its lines is slow, and only tests of the extension run here.
"""

from __future__ import annotations

import sys

from .__main__ import call
from .build import ROOT, package

TESTS = (
    *("layers/test_dropout", "layers/test_mask", "layers/test_family_fused"),
    *("layers/test_pickling", "rng/test_streams", "rng/test_rng", "rng/test_register_rng"),
    *("robustness/test_failures", "robustness/test_threads_and_forks", "packaging/test_settings"),
    *("kernels/test_golden", "pytorch/test_behaviour"),
)
CONFIG = """\
[run]
source_pkgs = fastdrop
plugins = Cython.Coverage
parallel = true
patch = subprocess
"""


def main() -> None:
    """Build the extension in a copy, run tests with it, and report."""
    folder = package("lines", "# cython: linetrace=True\n")
    config = folder / "coveragerc"
    config.write_text(CONFIG)
    environment = {
        "PYTHONSAFEPATH": "1",
        "PYTHONPATH": str(folder),
        "COVERAGE_FILE": str(folder / ".coverage"),
        "COVERAGE_RCFILE": str(config),
    }
    files = [ROOT / "tests" / f"{name}.py" for name in TESTS]
    coverage = [sys.executable, "-m", "coverage"]
    pytest = ["pytest", "-q", "-p", "no:cacheprovider", "-k", "not numba", *files]
    call([*coverage, "run", "-m", *pytest], environment, folder)
    call([*coverage, "combine", "-q", folder], environment, folder)
    call(
        [*coverage, "report", "-m", "--fail-under=95", "--include=*_core.pyx"], environment, folder
    )


if __name__ == "__main__":
    main()
