"""torch's own threads, for kernels that run between torch's operations (see team.c for why)."""

from __future__ import annotations

import ctypes
import os
from typing import Any, Final

import torch

from .._cy import core

ENVIRONMENT: Final = "FASTDROP_TORCH_TEAM"  # 0: use fastdrop's own threads
FUNCTIONS: Final = ("GOMP_parallel", "omp_get_thread_num", "omp_get_num_threads")


def find() -> Any:
    """Return the team of the OpenMP runtime that torch is linked with, or None.

    libgomp has the functions, and LLVM's and Intel's runtimes have them except on Windows.
    """
    openmp = "ATen parallel backend: OpenMP" in torch.__config__.parallel_info()
    if core is None or not openmp or os.environ.get(ENVIRONMENT) == "0":
        return None
    try:
        # This library is loaded already. The search includes its dependencies.
        library = ctypes.CDLL(torch._C.__file__)
        functions = [getattr(library, name) for name in FUNCTIONS]
    except (OSError, AttributeError):
        return None
    return core.Team(*(ctypes.cast(f, ctypes.c_void_p).value for f in functions))


team: Any = find()


def _forget() -> None:
    global team
    team = None  # after a process has used an OpenMP runtime, its forked children hang in it


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)
