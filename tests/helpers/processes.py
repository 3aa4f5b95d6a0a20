"""Which tests pytest-xdist gives to one process: `pytest -n auto` asks by conftest.py's hook."""

from __future__ import annotations

import re

from xdist.scheduler import LoadScopeScheduling

# What takes gigabytes must not run at the same time.
HUGE = ("test_more_than_2_to_the_32_elements", "test_a_file_larger_than_the_address_space")


class Scheduling(LoadScopeScheduling):
    """One process has all tests of a kind, in the order in which the tests were collected."""

    def _split_scope(self, nodeid: str) -> str:
        return group(nodeid)


def group(nodeid: str) -> str:
    """Return what a test has in common with those for the same process.

    Those of the Numba backend compile the same kernels, and those of a compiler the same driver.
    xdist_group marks would say it too, if pytest-xdist 3.8 saw them with pytest 9.2.
    """
    function, _, parameters = nodeid.partition("[")
    if function.endswith(HUGE):
        return "huge"
    if "numba" in re.split(r"[\]-]", parameters):
        return "numba"
    file, _, name = function.partition("::")
    return f"{file}[{parameters}" if file.endswith("test_portable.py") else f"{file}::{name}"
