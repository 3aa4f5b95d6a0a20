"""torch's own threads, for what runs among torch's operations (see team.h for why)."""

from __future__ import annotations

import ctypes
import os
from typing import Any, Final

import torch

from .._cy import core

ENVIRONMENT: Final = "FASTDROP_TORCH_TEAM"  # 0: keep to fastdrop's own threads
FUNCTIONS: Final = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")


def find() -> Any:
    """Return the team of the OpenMP runtime that torch is linked with, or None.

    libgomp has the functions, and so have LLVM's and Intel's runtimes, except on Windows.
    """
    openmp = "ATen parallel backend: OpenMP" in torch.__config__.parallel_info()
    if core is None or not openmp or os.environ.get(ENVIRONMENT) == "0":
        return None
    try:
        # This is loaded already; what it depends on is searched too.
        library = ctypes.CDLL(torch._C.__file__)
        functions = [getattr(library, name) for name in FUNCTIONS]
    except (OSError, AttributeError):
        return None
    return core.Team(*(ctypes.cast(f, ctypes.c_void_p).value for f in functions))


team: Any = find()


def _forget() -> None:
    global team
    team = None  # an OpenMP runtime hangs a forked child of a process that has used it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
