"""Sizes: around every boundary, past 2**32 elements, and more than there is memory for."""

from __future__ import annotations

import doctest
import math
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from paths import HELPERS, ROOT
from support import DTYPES, any_bits, contents, dtype_of, poisoned, reference

import fastdrop
from fastdrop.backends import Draw
from fastdrop.mask_format import rate
from fastdrop.masks.mask import Mask

COMPILED = [name for name in fastdrop.available_backends() if name != "reference"]
GUARD = 64  # elements behind an array that nobody may touch

# Where something ends: a word, a strip, a block, a task of the C kernels and one of Numba's,
# the sizes from which each takes several threads.
EDGES = (64, 512, 4096, 2 * 4096, 8 * 4096, 16 * 4096, 1 << 18, 1 << 19)
LENGTHS = sorted({0, 1, 63 * 64, *(edge + d for edge in EDGES for d in (-1, 0, 1))})


@pytest.mark.parametrize("p", [0.5, 0.3])
@pytest.mark.parametrize("dtype", DTYPES)
def test_every_length_around_a_boundary(backend: str, dtype: str, p: float) -> None:
    """A shorter mask is a longer one's beginning, so that one reference serves all."""
    if dtype == "bfloat16":
        pytest.importorskip("ml_dtypes")
    kind = dtype_of(dtype)
    x = any_bits((LENGTHS[-1] + 70,), kind)
    whole = Mask(Draw(*fastdrop.ARS4x32(3).reserve(0), rate(p)), x.shape)
    expected = {first: contents(reference(whole[first:], x[first:])) for first in (0, 67)}
    lengths = LENGTHS if backend != "reference" else LENGTHS[::4]
    before = fastdrop.get_num_threads()
    fastdrop.set_num_threads(2)
    for n in lengths:
        for first, right in expected.items():
            buffer = poisoned((n + GUARD,), kind)
            whole[first : first + n].apply(x[first : first + n], buffer[:n])
            assert contents(buffer[:n]) == right[: n * kind.itemsize], (n, first)
            assert contents(buffer[n:]) == contents(poisoned((GUARD,), kind)), (n, first)
    fastdrop.set_num_threads(before)


def limited(*arguments: Any, timeout: int = 120) -> None:
    """Run limited.py, which limits its own memory."""
    script = str(HELPERS / "limited.py")
    command = [sys.executable, script, *map(str, arguments)]
    # glibc keeps what it once gave out, which would then be there whatever the limit is.
    environment = {**os.environ, "MALLOC_MMAP_THRESHOLD_": str(128 << 10)}
    result = subprocess.run(
        command, timeout=timeout, capture_output=True, text=True, env=environment
    )
    assert result.returncode == 0, result.stderr


linux = pytest.mark.skipif(not sys.platform.startswith("linux"), reason="reads /proc/self/status")


@linux
def test_refused_memory_changes_nothing(backend: str) -> None:
    """MemoryError, and output, generator and memory in use are what they were."""
    limited("refused", backend)


def ones_file(path: Path, n: int) -> Path:
    """Write an .npy file of n float32 ones."""
    x = np.lib.format.open_memmap(path, "w+", np.float32, (n,))
    for at in range(0, n, 1 << 24):
        x[at : at + (1 << 24)] = 1
    x.flush()
    return path


@linux
@pytest.mark.parametrize("task", ["windows", "mapped"])
@pytest.mark.parametrize("backend", COMPILED)
def test_a_file_with_no_room_for_it(backend: str, task: str, tmp_path: Path) -> None:
    """Three times what the limit leaves, in place."""
    limited(task, backend, ones_file(tmp_path / "x.npy", (1 << 24) + 4097), 0)


def test_the_documents_example(backend: str) -> None:
    path = ROOT / "docs" / "large-arrays.md"
    failed, tried = doctest.testfile(str(path), module_relative=False)
    assert (failed, tried > 5) == (0, True)


@linux
@pytest.mark.slow
@pytest.mark.parametrize("backend", COMPILED)
def test_a_file_larger_than_the_address_space(backend: str, tmp_path: Path) -> None:
    """3 GB in a process that may address 2 GB."""
    path = ones_file(tmp_path / "x.npy", 3 << 28)
    limited("windows", backend, path, 2 << 30, timeout=600)


@pytest.mark.slow
@pytest.mark.parametrize("backend", COMPILED)
def test_more_than_2_to_the_32_elements(backend: str) -> None:
    """float16 in place, 8.6 GB, in C order and in Fortran's; masks of rows are made apart."""
    n = (1 << 32) + 3 * 4096 + 17
    columns = (1 << 16) + 1
    rows = -(-n // columns)
    memory = np.ones(rows * columns, np.float16)
    fastdrop.set_num_threads(2)
    with fastdrop.use_backend(backend):
        flat = memory[:n]
        _, mask = fastdrop.dropout(flat, 0.3, rng=1, inplace=True, return_mask=True)
        for start in (0, (1 << 31) - 5000, (1 << 32) - 5000, n - 4099):
            piece = slice(start, start + 10_000)
            ones = np.ones(flat[piece].size, np.float16)
            assert contents(flat[piece]) == contents(reference(mask[piece], ones)), start
        kept = sum(np.count_nonzero(flat[at : at + (1 << 28)]) for at in range(0, n, 1 << 28))
        assert abs(kept - 0.7 * n) < 6 * math.sqrt(n * 0.3 * 0.7)
        packed = mask[(1 << 31) :].to_packed()
        assert packed.size == -(-(n - (1 << 31)) // 8)
        last = np.unpackbits(packed[-8:], bitorder="little")
        end = (n - (1 << 31) - 1) % 8 + 57  # elements in the last eight bytes
        assert np.array_equal(last[:end], flat[-end:] != 0)

        memory[:] = 1
        transposed = memory.reshape(rows, columns).T  # element (j, i) is number j * rows + i
        _, mask = fastdrop.dropout(transposed, 0.3, rng=1, inplace=True, return_mask=True)
        for column in (0, (1 << 31) // rows, (1 << 32) // rows, columns - 1):
            piece = slice(column, column + 2)
            ones = np.ones(transposed[piece].shape, np.float16)
            assert contents(transposed[piece]) == contents(reference(mask[piece], ones)), column
