"""Dropout in HIPS autograd: gradients of any order under the forward's mask.

    python examples/autograd_primitive.py

The script compares with `mask.apply`.
"""

from __future__ import annotations

import autograd.numpy as anp
import numpy as np
from autograd import elementwise_grad, grad
from autograd.extend import defvjp, primitive

import fastdrop


@primitive
def apply(mask: fastdrop.Mask, x: np.ndarray) -> np.ndarray:
    return mask.apply(x)


# A mask is linear and its own transpose: the gradient is `apply` again, which has a gradient too.
defvjp(apply, lambda y, mask, x: lambda g: apply(mask, g), argnums=[1])


def dropout(x: np.ndarray, p: float = 0.5, rng: fastdrop.RNG | int | None = None) -> np.ndarray:
    """Drop elements of an array that autograd may be watching."""
    return apply(fastdrop.mask(x.shape, p, rng=rng), x)


def main() -> None:
    random = np.random.default_rng(0)
    x, weights = random.normal(size=(2, 200, 300)).astype(np.float32)
    y, mask = fastdrop.dropout(x, p=0.1, rng=7, return_mask=True)
    print("forward equals fastdrop.dropout:", np.array_equal(dropout(x, 0.1, rng=7), y))

    def loss(x: np.ndarray) -> np.ndarray:
        return anp.sum(weights * dropout(x, 0.1, rng=7))

    print("gradient equals mask.apply:", np.array_equal(grad(loss)(x), mask.apply(weights)))

    def cubes(x: np.ndarray) -> np.ndarray:
        return dropout(x, 0.1, rng=7) ** 3

    slopes = elementwise_grad(elementwise_grad(cubes))(x)  # 6 y, through the mask twice
    print("second derivatives agree:", np.allclose(slopes, mask.apply(mask.apply(6 * y))))


if __name__ == "__main__":
    main()
