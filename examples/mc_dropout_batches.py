"""Monte-Carlo dropout in batches: each pass has one mask, for all samples and all batches.

A pass is then one network, asked about every sample. Joint statistics of samples need that,
such as the correlations here, or BatchBALD's scores: with a mask for each sample, answers about
two samples would come from two networks.

    python examples/mc_dropout_batches.py

Reference: A. Kirsch, J. van Amersfoort, Y. Gal, "BatchBALD: efficient and diverse batch
acquisition for deep Bayesian active learning", NeurIPS 2019, arXiv:1906.08158.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

import fastdrop

Layers = Sequence[np.ndarray]


def answers(layers: Layers, x: np.ndarray, passes: int, p: float, shared: bool) -> np.ndarray:
    """Return a network's answers in each pass, of shape (passes, samples, outputs)."""
    x = np.broadcast_to(x, (passes, *x.shape))
    for number, weights in enumerate(layers):
        # The mask's own shape is (passes, 1, features), which does not depend on the batch. An int
        # as rng gives the same mask in each call, and each layer has an int of its own.
        noise_shape = (None, 1, None) if shared else None
        x = fastdrop.dropout(x, p, noise_shape=noise_shape, rng=number) @ weights
        if number < len(layers) - 1:
            x = np.maximum(x, 0)
    return x


def in_batches(layers: Layers, x: np.ndarray, size: int, shared: bool = True) -> np.ndarray:
    """Return the answers in 50 passes, computed for `size` samples at a time."""
    batches = (x[start : start + size] for start in range(0, len(x), size))
    return np.concatenate([answers(layers, batch, 50, 0.2, shared) for batch in batches], axis=1)


def main() -> dict[bool, tuple[float, float]]:
    rng = np.random.default_rng(0)
    layers = [rng.normal(0, n**-0.5, (n, m)) for n, m in ((20, 100), (100, 100), (100, 1))]
    x = rng.normal(size=(60, 20))
    x[1::2] = x[::2] + 0.01 * x[1::2]  # pairs of samples that are nearly equal
    found = {}
    for shared in (True, False):
        all_at_once = in_batches(layers, x, len(x), shared)
        change = float(np.abs(in_batches(layers, x, 7, shared) - all_at_once).max())
        deviations = all_at_once[..., 0] - all_at_once[..., 0].mean(axis=0)
        first, second = deviations[:, ::2], deviations[:, 1::2]
        correlation = float((first * second).sum() / np.sqrt((first**2).sum() * (second**2).sum()))
        found[shared] = change, correlation
        print(
            f"{'one mask a pass' if shared else 'a mask for each sample'}: batches change answers "
            f"by {change:.1g}, nearly equal samples correlate by {correlation:.2f}"
        )
    return found


if __name__ == "__main__":
    main()
