"""Dropout in PyTensor: an operation whose gradient is the operation itself.

    python examples/pytensor_op.py

The script compares with `mask.apply`.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytensor
import pytensor.tensor as pt
from pytensor.gradient import disconnected_type
from pytensor.graph import Apply, Op

import fastdrop


class Dropout(Op):
    """Drop elements of x. The mask follows from the seed and a number, such as the step.

    PyTensor merges and reorders operations, so equal inputs must give equal outputs. A generator
    that moves on with each call would break this.
    """

    __props__ = ("p", "seed")

    def __init__(self, p: float, seed: int) -> None:
        self.p, self.seed = p, seed

    def make_node(self, x: Any, step: Any) -> Apply:
        """Return a node of the graph."""
        x, step = pt.as_tensor(x), pt.as_tensor(step)
        return Apply(self, [x, step], [x.type()])

    def perform(self, node: Apply, inputs: list[Any], outputs: list[list[Any]]) -> None:
        """Compute the output."""
        x, step = inputs
        rng = np.random.SeedSequence((self.seed, int(step)))
        outputs[0][0] = fastdrop.mask(x.shape, self.p, rng=rng).apply(x)

    def pullback(self, inputs: list[Any], outputs: list[Any], cotangents: list[Any]) -> list[Any]:
        """Return the gradients: the same mask on that of the output, and none of the step."""
        return [self(cotangents[0], inputs[1]), disconnected_type()]

    def connection_pattern(self, node: Apply) -> list[list[bool]]:
        """Say that the output has a gradient by x, and none by the step."""
        return [[True], [False]]

    def infer_shape(self, fgraph: Any, node: Apply, shapes: list[Any]) -> list[Any]:
        """Return the output's shape, which is that of x."""
        return [shapes[0]]


def main() -> None:
    x, weights = pt.matrices("x", "weights")
    step = pytensor.shared(0, name="step")
    y = Dropout(p=0.1, seed=7)(x, step)
    gradient = pt.grad((weights * y).sum(), x)
    train = pytensor.function([x, weights], [y, gradient], updates={step: step + 1})

    random = np.random.default_rng(0)
    data, factors = random.normal(size=(2, 200, 300))
    for number in range(2):
        found, slopes = train(data, factors)
        rng = np.random.SeedSequence((7, number))
        expected, mask = fastdrop.dropout(data, p=0.1, rng=rng, return_mask=True)
        print(f"step {number}: forward equals fastdrop.dropout:", np.array_equal(found, expected))
        same = np.array_equal(slopes, mask.apply(factors))
        print(f"step {number}: gradient equals mask.apply:", same)


if __name__ == "__main__":
    main()
