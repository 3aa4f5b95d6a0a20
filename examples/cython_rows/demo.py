"""Run a loop in Cython that drops elements row by row. Build it first, see setup.py."""

import numpy as np
import rows

import fastdrop

x = np.random.default_rng(0).normal(size=(1000, 999)).astype(np.float32)
for threads in (1, 2, 8):
    y = x.copy()
    rows.drop_rows(y, fastdrop.mask(x.shape, p=0.1, rng=42), threads)
    same = np.array_equal(y, fastdrop.dropout(x, p=0.1, rng=42))
    print(f"{threads} threads: as fastdrop.dropout: {same}")
    assert same
