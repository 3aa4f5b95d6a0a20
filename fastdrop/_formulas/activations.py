"""Activations and their slopes, in plain NumPy, for the operations that fuse them with dropout.

`_cy/math/activations.h` takes the same steps. x is float32 or float64; half precision is widened
before. Where x is NaN so is the result, with x's payload: each formula meets x in one place only.

gelu is x Phi(x) with the normal distribution's Phi (D. Hendrycks, K. Gimpel, "Gaussian error
linear units", arXiv:1606.08415). Phi(-a) = exp(-a**2 / 2) M(a), where M, Mills' ratio but for a
factor, is a quotient of polynomials: so the negative side keeps its relative accuracy, which
1 + erf(x) loses.

silu is x sigmoid(x) (S. Elfwing, E. Uchibe, K. Doya, "Sigmoid-weighted linear units", Neural
Networks 107, 2018), and gelu_tanh, torch's ``approximate="tanh"``, is x sigmoid(2 u) for the u
whose tanh it names.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

import numpy as np

from .elementary import Reals, exp, polynomial, precision_of

# exp(-a**2 / 2) and exp(-a) are 0 from here on, in single and in double precision.
_LAST_GELU: Final = {4: 13.25, 8: 37.65625}
_LAST_EXP: Final = {4: 88.0, 8: 709.0}
_LAST_TANH: Final = 16.0  # the tanh of u is 1 from here on


def relu(x: Reals) -> Reals:
    """Return max(x, 0), and +0.0 for -0.0."""
    y: Reals = np.where(x <= 0, x.dtype.type(0), x)
    return y


def relu_backward(grad: Reals, x: Reals) -> Reals:
    """Return `grad`, and +0.0 where x is negative or zero, whatever the gradient is there."""
    y: Reals = np.where(x <= 0, x.dtype.type(0), grad)
    return y


def gelu(x: Reals) -> Reals:
    """Return x Phi(x)."""
    y: Reals = x * _normal(x)[0]
    return y


def gelu_slope(x: Reals) -> Reals:
    """Return Phi(x) + x Phi'(x)."""
    below, density = _normal(x)
    slope: Reals = below + x * (density * precision_of(x).coefficients.peak)
    return slope


def gelu_tanh(x: Reals) -> Reals:
    """Return x (1 + tanh(u)) / 2 for u = sqrt(2 / pi) (x + 0.044715 x**3)."""
    c = precision_of(x).coefficients
    return _times_sigmoid(x, x * (c.tanh_1 + c.tanh_3 * (x * x)))


def gelu_tanh_slope(x: Reals) -> Reals:
    """Return the derivative of gelu_tanh."""
    c = precision_of(x).coefficients
    below, above = _sigmoids(x * (c.tanh_1 + c.tanh_3 * (x * x)))
    a = _clipped(x, _LAST_TANH)
    slope: Reals = below + (x * (below * above)) * (c.tanh_1 + c.tanh_3_slope * (a * a))
    return slope


def silu(x: Reals) -> Reals:
    """Return x / (1 + exp(-x))."""
    return _times_sigmoid(x, x)


def silu_slope(x: Reals) -> Reals:
    """Return the derivative of silu."""
    below, above = _sigmoids(x)
    slope: Reals = below * (x.dtype.type(1) + x * above)
    return slope


def _backward(slope: Callable[[Reals], Reals]) -> Callable[[Reals, Reals], Reals]:
    return lambda grad, x: grad * slope(x)


# name: the activation of x, and the gradient with respect to x for one of its value, and x.
ACTIVATIONS: Final[dict[str, tuple[Callable[[Reals], Reals], Callable[[Reals, Reals], Reals]]]] = {
    "relu": (relu, relu_backward),
    "gelu": (gelu, _backward(gelu_slope)),
    "gelu_tanh": (gelu_tanh, _backward(gelu_tanh_slope)),
    "silu": (silu, _backward(silu_slope)),
}


def _clipped(x: Reals, last: float) -> Reals:
    """Return |x|, at most `last`, and `last` for NaN."""
    a = np.abs(x)
    return np.where(a < last, a, x.dtype.type(last))


def _normal(x: Reals) -> tuple[Reals, Reals]:
    """Return Phi(x) and exp(-x**2 / 2)."""
    number, bits, mantissa, _, c = precision_of(x)
    a = _clipped(x, _LAST_GELU[x.itemsize])
    # a = high + low, where high has so few bits that its square is exact.
    high = (a.view(bits) & ~bits((1 << (mantissa + 2) // 2) - 1)).view(number)
    half = number(-0.5)
    density = exp(half * (high * high), half * ((a - high) * (a + high)))
    tail = density * polynomial(c.mills_above, a) / polynomial(c.mills_below, a)
    return np.where(x > 0, number(1) - tail, tail), density


def _sigmoid_parts(x: Reals) -> tuple[Reals, Reals, Reals]:
    """Return n, m and d, where n / d is sigmoid(x) and m / d is sigmoid(-x)."""
    one: Any = x.dtype.type(1)
    small = exp(-_clipped(x, _LAST_EXP[x.itemsize]), x.dtype.type(0))
    return np.where(x > 0, one, small), np.where(x > 0, small, one), one + small


def _times_sigmoid(x: Reals, u: Reals) -> Reals:
    n, _, d = _sigmoid_parts(u)
    y: Reals = (x * n) / d
    return y


def _sigmoids(u: Reals) -> tuple[Reals, Reals]:
    n, m, d = _sigmoid_parts(u)
    return n / d, m / d
