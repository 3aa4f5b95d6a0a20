"""The demo's network in NumPy: forward, backward and a step, as in examples/mlp_backward.py."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from ..layers.dropout import Dropout
from ..rng import AnyRNG

Floats = NDArray[np.float32]
Labels = NDArray[np.intp]


class MLP:
    """Linear layers, with a ReLU and a Dropout after each one except the last.

    Parameters
    ----------
    widths : sequence of int
        Numbers of inputs, of units in each hidden layer, and of classes.
    p : float
        Drop probability of the hidden units.
    generator : numpy.random.Generator
        The source of the first weights.
    mask_rng : RNG
        The source of the masks.
    """

    def __init__(
        self, widths: Sequence[int], p: float, generator: np.random.Generator, mask_rng: AnyRNG
    ) -> None:
        self._layers: list[tuple[Floats, Floats]] = []
        for shape in pairwise(widths):
            # He's initialisation keeps the variance through a ReLU.
            weight = generator.standard_normal(shape) * np.sqrt(2 / shape[0])
            self._layers.append((weight.astype(np.float32), np.zeros(shape[1], np.float32)))
        self._velocities = [tuple(map(np.zeros_like, layer)) for layer in self._layers]
        self._dropouts = [Dropout(p, rng=mask_rng) for _ in widths[1:-1]]

    def _forward(self, x: Floats) -> list[Floats]:
        """Return the input of each linear layer, and the classes' scores."""
        values = [x]
        for (weight, bias), dropout in zip(self._layers, self._dropouts, strict=False):
            values.append(dropout(np.maximum(values[-1] @ weight + bias, 0)))
        weight, bias = self._layers[-1]
        return [*values, values[-1] @ weight + bias]

    def learn(self, x: Floats, labels: Labels, rate: float, momentum: float) -> None:
        """Take one gradient step, with momentum, on the cross-entropy of a batch."""
        *inputs, scores = self._forward(x)
        grad = softmax(scores)
        grad[np.arange(len(labels)), labels] -= 1
        grad /= len(labels)
        for i, x in reversed(list(enumerate(inputs))):
            gradients = (x.T @ grad, grad.sum(axis=0))
            if i > 0:  # the layer below needs the gradient for the old weight
                grad = self._dropouts[i - 1].backward(grad @ self._layers[i][0].T) * (x > 0)
            for parameter, velocity, gradient in zip(
                self._layers[i], self._velocities[i], gradients, strict=True
            ):
                velocity *= momentum
                velocity -= rate * gradient
                parameter += velocity

    def score(self, x: Floats, labels: Labels) -> tuple[float, float]:
        """Return accuracy and mean cross-entropy in eval mode."""
        for dropout in self._dropouts:
            dropout.eval()
        chances = softmax(self._forward(x)[-1])
        for dropout in self._dropouts:
            dropout.train()
        accuracy = np.mean(chances.argmax(axis=1) == labels)
        right = chances[np.arange(len(labels)), labels]
        loss = -np.mean(np.log(np.maximum(right, np.finfo(np.float32).tiny)))
        return float(accuracy), float(loss)


def softmax(x: Floats) -> Floats:
    """Return exp(x), divided by its sum along each row."""
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]
