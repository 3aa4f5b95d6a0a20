"""A small network in NumPy: forward, backward and a step, layer by layer.

`fastdrop.Dropout` fits among its layers as it is: called, then ``backward``.
"""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

import numpy as np
from numpy.typing import NDArray

from ..layers.dropout import Dropout
from ..rng import AnyRNG

Floats = NDArray[np.float32]
Labels = NDArray[np.intp]


class Linear:
    """x @ weight + bias, trained by gradient descent with momentum."""

    def __init__(self, inputs: int, outputs: int, generator: np.random.Generator) -> None:
        # He's initialisation keeps the variance through a ReLU.
        weight = generator.standard_normal((inputs, outputs)) * np.sqrt(2 / inputs)
        self.parameters: list[Floats] = [
            weight.astype(np.float32),
            np.zeros(outputs, np.float32),
        ]
        self.gradients: list[Floats] = []
        self.velocities = [np.zeros_like(parameter) for parameter in self.parameters]
        self._x: Floats

    def __call__(self, x: Floats) -> Floats:
        """Return the layer's output for x, shape (batch, inputs)."""
        self._x = x
        weight, bias = self.parameters
        return x @ weight + bias

    def backward(self, grad: Floats) -> Floats:
        """Return the loss's gradient with respect to x; keep those for the parameters."""
        self.gradients = [self._x.T @ grad, grad.sum(axis=0)]
        return grad @ self.parameters[0].T

    def step(self, rate: float, momentum: float) -> None:
        """Move the parameters against their gradients."""
        for parameter, gradient, velocity in zip(
            self.parameters, self.gradients, self.velocities, strict=True
        ):
            velocity *= momentum
            velocity -= rate * gradient
            parameter += velocity


class ReLU:
    """max(x, 0)."""

    def __init__(self) -> None:
        self._y: Floats

    def __call__(self, x: Floats) -> Floats:
        """Return x with zeros for its negative elements."""
        self._y = np.maximum(x, 0)
        return self._y

    def backward(self, grad: Floats) -> Floats:
        """Return the loss's gradient with respect to x."""
        return grad * (self._y > 0)


class MLP:
    """Linear layers with a ReLU and a Dropout after each but the last.

    Parameters
    ----------
    widths : sequence of int
        Numbers of inputs, of units in each hidden layer, and of classes.
    p : float
        Drop probability of the hidden units.
    generator : numpy.random.Generator
        Where the first weights come from.
    mask_rng : RNG
        Where the masks come from.
    """

    def __init__(
        self, widths: Sequence[int], p: float, generator: np.random.Generator, mask_rng: AnyRNG
    ) -> None:
        *hidden, last = (Linear(*pair, generator) for pair in pairwise(widths))
        self.layers: list[Linear | ReLU | Dropout] = [
            layer for linear in hidden for layer in (linear, ReLU(), Dropout(p, rng=mask_rng))
        ]
        self.layers.append(last)

    def __call__(self, x: Floats) -> Floats:
        """Return the classes' logits for x, shape (batch, classes)."""
        for layer in self.layers:
            x = layer(x)
        return x

    def train(self, mode: bool = True) -> None:
        """Switch the dropout layers to training mode, or to eval mode."""
        for layer in self.layers:
            if isinstance(layer, Dropout):
                layer.train(mode)

    def learn(self, x: Floats, labels: Labels, rate: float, momentum: float) -> None:
        """Take one step down the cross-entropy of a batch."""
        grad = softmax(self(x))
        grad[np.arange(len(labels)), labels] -= 1
        grad /= len(labels)
        for layer in reversed(self.layers):
            grad = layer.backward(grad)
        for layer in self.layers:
            if isinstance(layer, Linear):
                layer.step(rate, momentum)

    def score(self, x: Floats, labels: Labels) -> tuple[float, float]:
        """Return accuracy and mean cross-entropy in eval mode."""
        self.train(False)
        probabilities = softmax(self(x))
        self.train()
        accuracy = np.mean(probabilities.argmax(axis=1) == labels)
        right = probabilities[np.arange(len(labels)), labels]
        loss = -np.mean(np.log(np.maximum(right, np.finfo(np.float32).tiny)))
        return float(accuracy), float(loss)


def softmax(x: NDArray[Any]) -> NDArray[Any]:
    """Return exp(x) over its sum along each row."""
    e = np.exp(x - x.max(axis=1, keepdims=True))
    return e / e.sum(axis=1, keepdims=True)  # type: ignore[no-any-return]
