"""Masks in a child process, whose parent works in parallel before, after, or all the while.

python tests/helpers/forked.py BACKENDS METHOD [WHEN] with os.fork, fork, forkserver or spawn
exits with 0 if the children draw what the parent draws, with each of the backends
(commas between). WHEN is one of

    busy            other threads of the parent draw while it forks
    torch-before    torch is imported before fastdrop, and works in parallel too
    torch-after     ... after it

Run by test_threads_and_forks.py, since a forked test runner would run the tests twice.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import sys
import threading
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

WHEN = sys.argv[3] if __name__ == "__main__" and len(sys.argv) > 3 else ""


def work_with_torch() -> None:
    """Import torch and have it start its threads."""
    import torch

    torch.set_num_threads(2)
    assert torch.ones(1 << 22).add(1).sum() == 1 << 23


if WHEN == "torch-before":
    work_with_torch()

import fastdrop  # noqa: E402 (the order is what is tried)

SHAPE = (1200, 1100)  # enough for several threads


def digest(backend: str) -> str:
    """Return the digest of a dropout that runs on two threads, in two layouts."""
    fastdrop.set_num_threads(2)
    x = np.ones(SHAPE, np.float32)
    with fastdrop.use_backend(backend):
        y = fastdrop.dropout(x, 0.3, rng=1)
        z, mask = fastdrop.dropout(x.T, 0.3, rng=2, return_mask=True)
        return hashlib.sha256(y.tobytes() + z.tobytes() + mask.to_packed().tobytes()).hexdigest()


def in_os_fork(backend: str) -> str:
    """Return the digest that a child made by os.fork sends through a pipe."""
    read, write = os.pipe()
    if os.fork() == 0:
        os.write(write, digest(backend).encode())
        os._exit(0)
    os.close(write)
    with os.fdopen(read) as pipe:
        result = pipe.read()
    os.wait()
    return result


def children(backend: str, method: str) -> list[str]:
    """Return the digests of child processes."""
    if method == "os.fork":
        return [in_os_fork(backend) for _ in range(10 if WHEN == "busy" else 2)]
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(digest, [backend] * 2, chunksize=1)


@contextmanager
def others_drawing(backend: str) -> Iterator[None]:
    """Have two more threads draw meanwhile, and see to it that they draw right."""
    expected, done, wrong = digest(backend), threading.Event(), []

    def draw() -> None:
        while not done.is_set():
            if digest(backend) != expected:
                wrong.append(backend)

    threads = [threading.Thread(target=draw) for _ in range(2)]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        done.set()
        for thread in threads:
            thread.join()
    assert not wrong


def main(backends: str, method: str) -> int:
    """Compare parent and children, before and after."""
    if WHEN == "torch-after":
        work_with_torch()
    for backend in backends.split(","):
        expected = digest(backend)
        if WHEN == "busy":
            with others_drawing(backend):
                found = children(backend, method)
        else:
            found = children(backend, method)
        if {expected} != {*found, digest(backend)}:
            return 1
    if WHEN.startswith("torch"):
        work_with_torch()
    return 0


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:3]))
