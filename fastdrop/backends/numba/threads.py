"""Kernels on Numba's threads: one caller at a time, and none in a forked child."""

from __future__ import annotations

import atexit
import os
import threading
from typing import Any

import numba
from numba.core.compiler_lock import global_compiler_lock

from ...threads import get_num_threads
from .compiling import Kernel

# Numba's layer "workqueue" aborts the process when a second thread enters a
# parallel function. Whoever finds the lock taken runs serially.
_parallel_lock = threading.Lock()
_serial_only = False


def _after_fork_in_child() -> None:
    # Numba's threads do not exist in a forked child, and its OpenMP layer kills
    # a child that enters a parallel function. The lock's holder may be gone too.
    global _parallel_lock, _serial_only
    _parallel_lock = threading.Lock()
    _serial_only = _serial_only or layer() is not None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork_in_child)
    # A child forked while another thread compiles could never compile: that thread holds
    # Numba's lock and does not exist there. So a fork waits until it can hold it itself.
    os.register_at_fork(
        before=global_compiler_lock.acquire,
        after_in_parent=global_compiler_lock.release,
        after_in_child=global_compiler_lock.release,
    )


def _before_exit() -> None:
    # From now on Python ends each thread that asks for its lock, as a plug-in's fill may do,
    # and OpenMP aborts the process if that thread is one of its own: it gets no more work.
    # Those that come late find the lock taken. Work that hangs does not keep the program.
    _parallel_lock.acquire(timeout=10)


atexit.register(_before_exit)


def layer() -> str | None:
    """Return which of Numba's threading layers has been started, if one has."""
    try:
        return str(numba.threading_layer())
    except ValueError:  # not started
        return None


def run(kernel: Kernel, arguments: tuple[Any, ...]) -> int:
    """Run a kernel on many elements, in parallel where it may: given are its serial arguments."""
    threads = 1 if _serial_only else min(get_num_threads(), numba.config.NUMBA_NUM_THREADS)
    lock = _parallel_lock
    if threads == 1 or lock.locked():
        return kernel.serial(*arguments)
    # Not acquire and try: a KeyboardInterrupt between the two would leave it locked for
    # good. Another thread may come first here, and then this one waits for it.
    with lock:
        return kernel.parallel(threads, *arguments[1:])
