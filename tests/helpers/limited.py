"""Draws in a process that may not have all the memory it asks for.

python tests/helpers/limited.py TASK BACKEND [FILE LIMIT], run by test_size.py: a limit is for a
whole process. Exits with 0 if all is as it should be.

    refused     memory runs out in many ways: output, generator and memory stay as they were
    windows     FILE, an .npy of float32 ones, is dropped in place, a window at a time, with
                LIMIT bytes of address space (0: a third of the file more than is in use)
    mapped      ... as a whole, with room for a third of the file in private memory
"""

from __future__ import annotations

import gc
import hashlib
import os
import resource
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

import fastdrop
from fastdrop.rng.numpy_adapter import NumpyRNG

P = 0.3
WINDOW = 1 << 20  # elements, whole blocks of 4096


def used(field: str) -> int:
    """Return a figure of this process' memory in bytes, named as in /proc/self/status."""
    with open("/proc/self/status") as status:
        return next(int(line.split()[1]) << 10 for line in status if line.startswith(field))


@contextmanager
def limited(kind: int, limit: int) -> Iterator[None]:
    """Limit this process' memory for a while."""
    before = resource.getrlimit(kind)
    resource.setrlimit(kind, (limit, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(kind, before)


@contextmanager
def no_room(more: int) -> Iterator[None]:
    """Leave `more` bytes of address space, and no larger piece than that in the heap's holes."""
    hoard = []
    with limited(resource.RLIMIT_AS, used("VmSize") + more):
        if more == 0:
            try:
                while True:
                    hoard.append(bytearray(128 << 10))
            except MemoryError:
                pass
        yield
        del hoard


def refused(backend: str) -> None:
    """See that operations that get no memory leave everything as it was."""
    n = 1 << (22 if backend != "reference" else 20)
    room = 2 * n  # half an array
    flat = np.ones(n, np.float32)
    square = flat.reshape(1 << 15, -1).T  # in Fortran's order
    foreign = np.ones(n, ">f4")
    layer = fastdrop.Dropout(P, rng=1)
    counter, sequential, jumping = fastdrop.ARS4x32(1), np.random.SFC64(1), np.random.PCG64(1)

    def drop(x: np.ndarray, rng: Any, **more: Any) -> Callable[[], object]:
        return lambda: fastdrop.dropout(x, P, rng=rng, **{"out": x, **more})

    # What is tried: a call, the array that it writes to, its generator, and the room it gets.
    tried: list[tuple[Callable[[], object], np.ndarray, Any, int]] = [
        (drop(flat, counter, out=None), flat, counter, room),
        (lambda: layer(flat), flat, layer.rng, room),
        (lambda: layer(foreign, foreign), foreign, layer.rng, room),
        (drop(foreign, counter), foreign, counter, room),
        (drop(foreign, jumping), foreign, jumping, room),
        (drop(foreign, sequential), foreign, sequential, room),
        (lambda: fastdrop.Dropout2d(P, rng=counter)(flat.reshape(1, -1, 64, 64)), flat,
         counter, room),
        (lambda: fastdrop.dropout_add(flat, flat, P, rng=counter), flat, counter, room),
    ]  # fmt: skip
    if backend == "cython":
        tried += [(drop(square, counter), flat, counter, 0), (drop(flat, sequential), flat,
                  sequential, room)]  # fmt: skip
    elif backend == "numba":
        tried += [(drop(square, counter), flat, counter, 0)]
    else:
        tried += [(drop(flat, counter), flat, counter, room)]

    def state(rng: Any) -> str:
        return repr((rng if hasattr(rng, "state") else NumpyRNG(rng)).state)

    for call, written, rng, left in tried:
        # Compiled, its threads started, and the allocator's habits formed.
        fastdrop.dropout(written[: 1 << 19], P, rng=1)
        call()
        gc.collect()
        before = state(rng), hashlib.sha256(written).digest()
        resident = used("VmRSS")
        for _ in range(3):
            with no_room(left):
                try:
                    call()
                except MemoryError:
                    pass
                else:
                    raise AssertionError(
                        f"there was memory for {tried.index((call, written, rng, left))}"
                    )
        gc.collect()
        assert (state(rng), hashlib.sha256(written).digest()) == before
        assert used("VmRSS") - resident < 4 * n
        call()
        assert state(rng) != before[0]


def header(path: str) -> int:
    """Return where an .npy file's elements start."""
    with open(path, "rb") as file:
        assert np.lib.format.read_magic(file) == (1, 0)
        np.lib.format.read_array_header_1_0(file)
        return file.tell()


def check(path: str) -> None:
    """Compare a file with the mask of a draw over the whole of it, piece by piece."""
    start = header(path)
    n = (os.path.getsize(path) - start) // 4
    mask = fastdrop.dropout(np.broadcast_to(np.float32(1), (0,)), P, rng=1, return_mask=True)[1]
    whole = fastdrop.Mask(mask._draw, (n,))
    ones = np.ones(WINDOW, np.float32)
    with open(path, "rb") as file:
        file.seek(start)
        for at in range(0, n, WINDOW):
            found = np.frombuffer(file.read(4 * WINDOW), np.float32)
            piece = whole[at : at + found.size]
            assert np.array_equal(found, piece.apply(ones[: found.size])), at


def windows(path: str, limit: int) -> None:
    """Drop a file's elements in place, mapping a window of it at a time."""
    start = header(path)
    n = (os.path.getsize(path) - start) // 4
    rng = fastdrop.ARS4x32(1)
    with limited(resource.RLIMIT_AS, limit or used("VmSize") + 4 * n // 3):
        try:
            np.load(path, mmap_mode="r+")
        except OSError:
            pass
        else:
            raise AssertionError("the whole file could be mapped")
        for at in range(0, n, WINDOW):
            x = np.memmap(path, np.float32, "r+", start + 4 * at, min(WINDOW, n - at))
            fastdrop.dropout(x, P, rng=rng, inplace=True)
            del x


def mapped(path: str) -> None:
    """Drop a file's elements in place in one call: a shared mapping is not private memory."""
    x = np.load(path, mmap_mode="r+")
    with limited(resource.RLIMIT_DATA, used("VmData") + x.nbytes // 3):
        try:
            np.empty_like(x, subok=False)
        except MemoryError:
            pass
        else:
            raise AssertionError("there was memory for a copy")
        fastdrop.dropout(x, P, rng=1, inplace=True)
    x.flush()


def main(task: str, backend: str, *arguments: str) -> None:
    """Run a task with a backend."""
    fastdrop.set_backend(backend)
    fastdrop.set_num_threads(2)
    # Compile for one thread and for several, and start the threads, before memory is limited.
    for n in (1 << 12, 1 << 20):
        fastdrop.dropout(np.ones(n, np.float32), P, inplace=True, rng=1)
    if task == "refused":
        refused(backend)
    elif task == "windows":
        windows(arguments[0], int(arguments[1]))
        check(arguments[0])
    else:
        mapped(arguments[0])
        check(arguments[0])


if __name__ == "__main__":
    main(*sys.argv[1:])
