"""The number of threads that an operation may use."""

from __future__ import annotations

import math
import os
import sys
from collections.abc import Iterator
from typing import Final

from ._version import __version__
from .checks import shown

MOST_THREADS: Final = 256  # the pool's limit

_set: int | None = None
_default: int | None = None


def set_num_threads(n: int) -> None:
    """Set the number of threads that an operation may use, for the whole process.

    Parameters
    ----------
    n : int
        1 to 256. Results do not depend on it.

    Raises
    ------
    TypeError
        If `n` is not an int.
    ValueError
        If `n` is below 1 or above 256.

    Examples
    --------
    >>> import fastdrop
    >>> before = fastdrop.get_num_threads()
    >>> fastdrop.set_num_threads(1); fastdrop.get_num_threads()
    1
    >>> fastdrop.set_num_threads(before)
    """
    global _set
    if isinstance(n, bool) or not hasattr(n, "__index__"):
        raise TypeError(f"n must be an int of 1 or more, but got {shown(n)} ({type(n).__name__})")
    if not 1 <= n <= MOST_THREADS:
        raise ValueError(f"n must be between 1 and {MOST_THREADS}, but got {shown(n)}")
    _set = n.__index__()


def get_num_threads() -> int:
    """Return the number of threads that an operation may use.

    The default is the first number in OMP_NUM_THREADS. If there is none, it is the number
    of processors that the CPU affinity and the cgroups' quotas allow this process.

    Examples
    --------
    >>> import fastdrop
    >>> fastdrop.get_num_threads() >= 1
    True
    """
    global _default
    if _set is not None:
        return _set
    if _default is None:
        _default = _from_environment() or _usable_processors()
    return _default


def _from_environment() -> int | None:
    first = os.environ.get("OMP_NUM_THREADS", "").split(",")[0].strip()
    if not first.isdecimal() or len(first) > 9 or int(first) == 0:
        return None
    return min(int(first), MOST_THREADS)


def _usable_processors() -> int:
    if hasattr(os, "sched_getaffinity"):
        processors = len(os.sched_getaffinity(0))
    else:
        processors = os.cpu_count() or 1
    return max(1, min(processors, _cgroup_quota() or processors, MOST_THREADS))


def _cgroup_quota() -> int | None:
    """Return the tightest control group's quota as a number of processors, rounded up."""
    quotas = (_quota(folder) for folder in _control_groups())
    return min((quota for quota in quotas if quota), default=None)


def _control_groups() -> Iterator[str]:
    """Yield the folders of this process's control groups and their parents, if they exist."""
    for line in _read("/proc/self/cgroup").splitlines():
        _, controllers, path = line.split(":", 2)
        if controllers and "cpu" not in controllers.split(","):
            continue
        root = "/sys/fs/cgroup/cpu" if controllers else "/sys/fs/cgroup"  # version 1, or version 2
        names = [name for name in path.split("/") if name]
        for depth in range(len(names), -1, -1):
            yield "/".join([root, *names[:depth]])


def _quota(folder: str) -> int | None:
    words = _read(f"{folder}/cpu.max").split()  # version 2: quota and period
    if not words:
        words = [_read(f"{folder}/cpu.cfs_{name}_us").strip() for name in ("quota", "period")]
    if len(words) != 2 or not all(word.isdecimal() and int(word) for word in words):
        return None  # "max", -1, or no such file
    quota, period = map(int, words)
    return math.ceil(quota / period)


def _read(file: str) -> str:
    try:
        with open(file) as opened:
            return opened.read()
    except OSError:
        return ""


def use_threadpoolctl() -> None:
    """Let threadpoolctl see and limit fastdrop's threads, like those of BLAS and OpenMP.

    ``import fastdrop`` does this itself if threadpoolctl was imported before. Otherwise
    call this after both imports. It needs the compiled extension.

    Raises
    ------
    ImportError
        If threadpoolctl is not installed.

    Examples
    --------
    >>> import fastdrop, threadpoolctl
    >>> fastdrop.use_threadpoolctl()
    >>> with threadpoolctl.threadpool_limits(limits=1):
    ...     fastdrop.get_num_threads()
    1
    """
    import threadpoolctl

    class Controller(threadpoolctl.LibController):  # type: ignore[misc]
        user_api = internal_api = "fastdrop"
        filename_prefixes = ("_core",)  # the extension's file
        check_symbols = ("drop_evaluate", "drop_bits")  # to exclude another project's _core

        def get_num_threads(self) -> int:
            return get_num_threads()

        def set_num_threads(self, num_threads: int) -> None:
            set_num_threads(num_threads)

        def get_version(self) -> str:
            return __version__

    threadpoolctl.register(Controller)


if "threadpoolctl" in sys.modules:
    use_threadpoolctl()
