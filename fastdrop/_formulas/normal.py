"""Normal variates as a function of a word of the stream, and what noise makes of them.

Word k gives u = (k >> 11) + 1/2 in units of 2**-53, and u the number z below which a standard
normal variate falls with that probability. With t = 2 min(u, 1 - u), the probability of being
farther out than z,

    |z| = l N(r) / D(r),   l = -log(t),   r = sqrt(l + log(2)),

for polynomials N and D that tools/coefficients.py fits. There are no cases: r is the square root
of -log(t / 2), in which tails are all but straight, and l is 0 where z is. So the largest
variate is 8.29, and tails are exact down to probability 2**-53. In double precision |z| is within
1e-15 of its value, relatively; in single, which reads the same word, within 6e-7, or 1.2e-7
absolutely where that is more. `_cy/math/normal.h` takes the same steps.

The inverse as a function of sqrt(-log(t / 2)) is that of M. J. Wichura, "Algorithm AS 241: the
percentage points of the normal distribution", Applied Statistics 37, 1988.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from .elementary import Reals, log, polynomial, precision_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


class Noise(NamedTuple):
    """What noise does with an element x and its normal variate z."""

    factor: bool  # x * (1 + spread * z), or x + spread * z
    spread: float


def normals(words: NDArray[np.uint64], dtype: Any = np.float64) -> Reals:
    """Return a standard normal variate for each word: float32 or float64, of the same shape.

    Examples
    --------
    >>> import numpy as np
    >>> z = normals(np.array([0, 1 << 63, (1 << 64) - 1], np.uint64))
    >>> [round(float(v), 3) for v in z]
    [-8.292, 0.0, 8.292]
    """
    return of_levels(levels(words, dtype))


def levels(words: NDArray[np.uint64], dtype: Any) -> Reals:
    """Return the first part of variates: l, with the sign of z."""
    nearest = words ^ -(words >> np.uint64(63))  # counted from the nearer end, in 63 bits
    t = _single(nearest) if np.dtype(dtype) == np.float32 else _double(nearest)
    number, bits, *_ = precision_of(t)
    # The upper half of words is above 0: the sign's bit is the opposite of a word's first one.
    sign = (~words >> np.uint64(64 - 8 * t.dtype.itemsize)).astype(bits) & number(-0.0).view(bits)
    return _with_sign(number(0) - log(t), sign)


def of_levels(signed: Reals) -> Reals:
    """Return the variates whose first part this is."""
    number, bits, _, _, c = precision_of(signed)
    level = np.abs(signed)
    r = np.sqrt(level + c.log2)
    z = level * (polynomial(c.quantile_above, r) / polynomial(c.quantile_below, r))
    return _with_sign(z, signed.view(bits) & number(-0.0).view(bits))


def _with_sign(x: Reals, sign: Any) -> Reals:
    """Return x, 0 or more, with the sign's bit set where it is in `sign`."""
    signed: Reals = (x.view(sign.dtype) | sign).view(x.dtype)
    return signed


def with_noise(factor: bool, spread: Any, x: Reals, z: Reals) -> Reals:
    """Return x with noise, as `Noise` says. All numbers are of one precision."""
    moved = spread * z
    y: Reals = x * (x.dtype.type(1) + moved) if factor else x + moved
    return y


_ONE: Final = np.uint64(0x3FF << 52)


def _double(nearest: NDArray[np.uint64]) -> Reals:
    """Return (m + 1/2) 2**-52 for the upper 52 of 63 bits, m: exactly."""
    return (nearest >> np.uint64(11) | _ONE).view(np.float64) - (1.0 - 2.0**-53)


def _single(nearest: NDArray[np.uint64]) -> Reals:
    """Return the same, nearly rounded to single precision, from its upper 31 and lower 21 bits."""
    upper = (nearest >> np.uint64(32)).astype(np.int32).astype(np.float32)
    lower = (nearest.astype(np.uint32) >> np.uint32(11)).astype(np.float32)
    scaled = (lower + np.float32(0.5)) * np.float32(2.0**-52)
    return upper * np.float32(2.0**-31) + scaled
