"""Masks in a child process, after its parent has worked in parallel.

python tests/forked.py BACKEND METHOD, with os.fork, fork, forkserver or spawn:
exits with 0 if the children draw what the parent draws. Run by
test_threads_and_forks.py, since a forked test runner would run the tests twice.
"""

from __future__ import annotations

import hashlib
import multiprocessing
import os
import sys

import numpy as np

import fastdrop

SHAPE = (1200, 1100)  # enough for several threads


def digest(backend: str) -> str:
    """Return the digest of a dropout that runs on two threads, in two layouts."""
    fastdrop.set_backend(backend)
    fastdrop.set_num_threads(2)
    x = np.ones(SHAPE, np.float32)
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
        return [in_os_fork(backend) for _ in range(2)]
    with multiprocessing.get_context(method).Pool(2) as pool:
        return pool.map(digest, [backend] * 2, chunksize=1)


def main(backend: str, method: str) -> int:
    """Compare parent and children, before and after."""
    expected = digest(backend)
    same = [expected] * 2 == children(backend, method)
    return 0 if same and digest(backend) == expected else 1


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
