"""Run an extension in C that makes a mask's bits itself. Build it first, see setup.py."""

import keptmean
import numpy as np

import fastdrop

x = np.random.default_rng(0).normal(size=(5, 10_000))
mask = fastdrop.mask(x.shape, p=0.9, rng=42)
in_c = keptmean.kept_means(x, mask)
in_numpy = np.mean(x, axis=1, where=np.asarray(mask))
print("C:    ", np.round(in_c, 4))
print("NumPy:", np.round(in_numpy, 4))
assert np.allclose(in_c, in_numpy)
