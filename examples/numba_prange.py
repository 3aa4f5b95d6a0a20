"""Dropout in a parallel loop of one's own, compiled by Numba.

Each task adds a bias to some rows, applies relu and drops elements while the rows are in the
cache. The result is that of `fastdrop.dropout` for the whole array, for any number of threads and
any size of the tasks. The second run of this program compiles nothing.

    python examples/numba_prange.py
"""

import numpy as np
from numba import njit, prange

import fastdrop
import fastdrop.numba as fn

ROWS = 32  # of a task


@njit(parallel=True, cache=True)
def forward(key, draw, p, x, bias, out):
    """Write dropout(relu(x + bias)) to `out`."""
    rows, columns = x.shape
    status = 0
    for task in prange((rows + ROWS - 1) // ROWS):
        low, high = task * ROWS, min(task * ROWS + ROWS, rows)
        for row in range(low, high):
            for column in range(columns):
                out[row, column] = max(x[row, column] + bias[column], np.float32(0))
        part = out[low:high]
        # Numba loses errors in prange: this returns a status, and the loop keeps the largest.
        status = max(status, fn.dropout_range(key, draw, p, low * columns, part, part))
    fn.check(status)


@njit(cache=True)
def count_kept(key, draw, p, n):
    """Return how many of the mask's first n elements are kept."""
    bits, threshold, count = np.empty(64, np.uint64), fn.threshold(p), 0
    for first in range(0, n, 4096):
        fn.check(fn.block_bits(key, draw, threshold, first // 4096, bits))
        for i in range(min(4096, n - first)):
            count += fn.kept(bits, i)
    return count


def main() -> float:
    rng = np.random.default_rng(0)
    x = rng.standard_normal((1000, 784), np.float32)
    bias = rng.standard_normal(784, np.float32)
    out, p = np.empty_like(x), 0.1
    # The words are taken here, in Python; compiled code only evaluates the mask.
    key, draw = fn.reserve(fastdrop.ARS4x32(seed=3), x.size, p, dtype=x.dtype)
    forward(key, draw, p, x, bias, out)
    expected = fastdrop.dropout(np.maximum(x + bias, 0), p, rng=fastdrop.ARS4x32(seed=3))
    assert np.array_equal(out, expected)
    share = float(count_kept(key, draw, p, x.size) / x.size)
    print(f"equal to fastdrop.dropout; {share:.4f} of the elements are kept")
    return share


if __name__ == "__main__":
    main()
