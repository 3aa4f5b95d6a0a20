"""exp and log to the last bits, the same everywhere.

Libraries' functions differ from one to the next in the last bit, and so would what is made of
them. These use + - * /, square roots and the bits of numbers only, which IEEE 754 defines
exactly. Single precision is computed in single, double in double. tools/coefficients.py fits the
polynomials.

`_cy/math/elementary.h` takes the same steps in the same order. The Numba backend compiles these
functions as they are: it calls them with vectors that take part in NumPy's functions
(`backends/numba/vector.py`).

The reductions are the customary ones: J.-M. Muller, "Elementary functions: algorithms and
implementation", 3rd edition, 2016, chapter 11.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from .coefficients import DOUBLE, SINGLE, Coefficients

if TYPE_CHECKING:
    from numpy.typing import NDArray

Reals = np.ndarray[Any, np.dtype[Any]]  # float32 or float64


class Precision(NamedTuple):
    """How a precision's numbers are made of bits."""

    number: type[np.floating[Any]]
    bits: type[np.unsignedinteger[Any]]
    mantissa: int  # bits of the fraction
    bias: int  # exponent field of 1.0
    coefficients: Coefficients


_PRECISIONS: Final = {
    4: Precision(np.float32, np.uint32, 23, 127, SINGLE),
    8: Precision(np.float64, np.uint64, 52, 1023, DOUBLE),
}


def precision_of(x: Reals) -> Precision:
    """Return the precision of float32 or float64 numbers."""
    return _PRECISIONS[x.dtype.itemsize]


def polynomial(coefficients: NDArray[Any], x: Reals) -> Reals:
    """Return a polynomial of x, highest power first.

    By Horner's rule for odd and even powers apart: a processor works on both at once.
    """
    square = x * x
    a, b = coefficients[:2]
    for i in range(2, len(coefficients) - 1, 2):
        a, b = a * square + coefficients[i], b * square + coefficients[i + 1]
    if len(coefficients) % 2:
        return (a * square + coefficients[-1]) + b * x  # type: ignore[no-any-return]
    return a * x + b  # type: ignore[no-any-return]


def exp(x: Reals, more: Reals) -> Reals:
    """Return exp(x + more) for x from the last that is not 0 up to 0, and a small `more`.

    `more` is what rounding took from x. x = n log(2) + r, and a polynomial of r is multiplied
    by 2**n, which is 0 for the smallest n.
    """
    number, bits, mantissa, bias, c = precision_of(x)
    shift = number(1.5 * 2.0**mantissa)  # rounds what is added to it to a whole number
    shifted = x * c.per_log2 + shift
    n = shifted - shift
    r = (x - n * c.log2_upper) + (more - n * c.log2_lower)
    power = (shifted.view(bits) << bits(mantissa)) + bits(bias << mantissa)
    value: Reals = (number(1) + (r + (r * r) * polynomial(c.exp, r))) * power.view(number)
    return value


def exp_below(x: Reals) -> Reals:
    """Return exp(x) for x from -inf up to 0, and NaN of NaN.

    Results below the least normal number are 0. The relative error of the others is within 8.3e-8
    in single precision, less than a unit in the last place, and 1.5e-16 in double.
    """
    number, bits, mantissa, bias, c = precision_of(x)
    least = -(number(bias) * c.log2)
    x = np.where(x < least, least, x)
    shift = number(1.5 * 2.0**mantissa)
    shifted = x * c.per_log2 + shift
    n = shifted - shift
    r = (x - n * c.log2_upper) - n * c.log2_lower
    power = (shifted.view(bits) << bits(mantissa)) + bits(bias << mantissa)
    value: Reals = (number(1) + (r + (r * r) * polynomial(c.exp, r))) * power.view(number)
    return value


def log(x: Reals) -> Reals:
    """Return log(x) for positive normal x.

    x = 2**n m with m between sqrt(1/2) and sqrt(2), and log(m) = 2 atanh((m - 1) / (m + 1)).
    """
    number, bits, mantissa, bias, c = precision_of(x)
    least = c.root_half.view(bits)
    above = x.view(bits) - least + bits((bias + 1) << mantissa)
    m = ((above & bits((1 << mantissa) - 1)) + least).view(number)
    # A whole number below 2**mantissa, as the fraction of 2**mantissa.
    whole = (above >> bits(mantissa) | bits((bias + mantissa) << mantissa)).view(number)
    n = whole - number((1 << mantissa) + bias + 1)
    s = (m - number(1)) / (m + number(1))
    square = s * s
    value: Reals = n * c.log2 + s * (number(2) + square * polynomial(c.log, square))
    return value
