"""Variational dropout in a recurrent network: one mask for all time steps.

A new mask at every step would destroy what the network remembers. With
`broadcast_dims`, all time steps of the input share one mask. The hidden state's mask is
drawn once for a sequence and applied at every step.

    python examples/variational_rnn.py

Reference: Y. Gal, Z. Ghahramani, "A theoretically grounded application of dropout
in recurrent neural networks", NeurIPS 2016, arXiv:1512.05287.
"""

from __future__ import annotations

import numpy as np

import fastdrop


def run(x: np.ndarray, weights: list[np.ndarray], rng: fastdrop.ARS4x32) -> np.ndarray:
    """Return the hidden states, shape (batch, steps, units), of x, (batch, steps, features)."""
    inward, across = weights
    x = fastdrop.Dropout(0.25, broadcast_dims=(1,), rng=rng)(x)
    state = np.zeros((len(x), len(across)), x.dtype)
    _, mask = fastdrop.dropout(state, 0.25, rng=rng, return_mask=True)
    states = []
    for step in range(x.shape[1]):
        state = np.tanh(x[:, step] @ inward + mask.apply(state) @ across)
        states.append(state)
    return np.stack(states, axis=1)


def main() -> np.ndarray:
    numbers = np.random.default_rng(0)
    x = numbers.normal(size=(4, 30, 8)).astype(np.float32)
    weights = [numbers.normal(0, n**-0.5, (n, 16)).astype(np.float32) for n in (8, 16)]
    states = run(x, weights, fastdrop.ARS4x32(1))
    dropped = fastdrop.Dropout(0.25, broadcast_dims=(1,), rng=1)(x) == 0
    counts = dropped.all(axis=1).sum(axis=1)
    print("features dropped in each sequence, at all of its steps:", counts)
    return states


if __name__ == "__main__":
    main()
