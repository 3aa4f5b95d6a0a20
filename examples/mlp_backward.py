"""A network in plain NumPy on handwritten digits, trained with dropout.

The backward pass needs no stored mask: the layer evaluates it again.

    python examples/mlp_backward.py
"""

from __future__ import annotations

import numpy as np
from sklearn.datasets import load_digits

import fastdrop


class Network:
    """64 pixels, 128 hidden units, 10 digits; trained by plain gradient descent."""

    def __init__(self, p: float, seed: int) -> None:
        rng = np.random.default_rng(seed)
        self.weights = [
            rng.normal(0.0, fan_in**-0.5, (fan_in, fan_out)).astype(np.float32)
            for fan_in, fan_out in ((64, 128), (128, 10))
        ]
        self.dropout = fastdrop.Dropout(p, rng=seed)

    def scores(self, x: np.ndarray) -> np.ndarray:
        """Return a score for each digit, without dropout."""
        return np.maximum(x @ self.weights[0], 0) @ self.weights[1]

    def step(self, x: np.ndarray, digits: np.ndarray, rate: float = 0.2) -> float:
        """Take one gradient step on the cross-entropy of a batch and return the loss."""
        first, second = self.weights
        hidden = np.maximum(x @ first, 0)
        dropped = self.dropout(hidden)
        scores = dropped @ second
        scores -= scores.max(axis=1, keepdims=True)
        chances = np.exp(scores) / np.exp(scores).sum(axis=1, keepdims=True)
        rows = np.arange(len(x))
        loss = -np.log(chances[rows, digits]).mean()

        grad = chances
        grad[rows, digits] -= 1
        grad /= len(x)
        grad_dropped = grad @ second.T
        grad_hidden = self.dropout.backward(grad_dropped, out=grad_dropped)
        grad_hidden *= hidden > 0
        second -= rate * (dropped.T @ grad)
        first -= rate * (x.T @ grad_hidden)
        return float(loss)


def digits() -> tuple[np.ndarray, np.ndarray]:
    """Return the images, scaled to 0..1, and what they show."""
    x, y = load_digits(return_X_y=True)
    return (x / 16).astype(np.float32), y


def main(epochs: int = 30) -> float:
    x, y = digits()
    network, order = Network(p=0.2, seed=0), np.random.default_rng(1)
    for _ in range(epochs):
        for batch in np.array_split(order.permutation(1400), 22):
            network.step(x[batch], y[batch])
    accuracy = float((network.scores(x[1400:]).argmax(axis=1) == y[1400:]).mean())
    print(f"accuracy on digits not trained on: {accuracy:.3f}")
    return accuracy


if __name__ == "__main__":
    main()
