"""Normal variates as a function of a word of the stream.

Word k gives u = (k >> 11) + 1/2 in units of 2**-53, and u the number below which a
standard normal variate falls with that probability (Wichura's algorithm AS 241,
accurate to 2e-15 relative here). So the largest variate is 8.29, and tails are
exact down to probability 1e-16. Only + - * / and sqrt are used, which round the
same everywhere: the logarithm is written out, for libraries' differ in the last bit.

M. J. Wichura, "Algorithm AS 241: the percentage points of the normal
distribution", Applied Statistics 37, 1988.
"""

from __future__ import annotations

from typing import Any, Final

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]

# Numerators and denominators, highest power first, of the centre and of two tails.
_CENTRE: Final = (
    (
        2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4,
        4.5921953931549871457e4, 1.3731693765509461125e4, 1.9715909503065514427e3,
        1.3314166789178437745e2, 3.3871328727963666080,
    ),
    (
        5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4,
        2.1213794301586595867e4, 5.3941960214247511077e3, 6.8718700749205790830e2,
        4.2313330701600911252e1, 1.0,
    ),
)  # fmt: skip
_TAIL: Final = (
    (
        7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1,
        1.27045825245236838258, 3.64784832476320460504, 5.76949722146069140550,
        4.63033784615654529590, 1.42343711074968357734,
    ),
    (
        1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2,
        1.48103976427480074590e-1, 6.89767334985100004550e-1, 1.67638483018380384940,
        2.05319162663775882187, 1.0,
    ),
)  # fmt: skip
_FAR_TAIL: Final = (
    (
        2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3,
        2.65321895265761230930e-2, 2.96560571828504891230e-1, 1.78482653991729133580,
        5.46378491116411436990, 6.65790464350110377720,
    ),
    (
        2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5,
        7.86869131145613259100e-4, 1.48753612908506148525e-2, 1.36929880922735805310e-1,
        5.99832206555887937690e-1, 1.0,
    ),
)  # fmt: skip
_LOG2: Final = 0.6931471805599453


def normals(words: NDArray[np.uint64]) -> Floats:
    """Return a standard normal variate for each word: float64, of the same shape.

    Examples
    --------
    >>> import numpy as np
    >>> z = normals(np.array([0, 1 << 63, (1 << 64) - 1], np.uint64))
    >>> [round(float(v), 3) for v in z]
    [-8.292, 0.0, 8.292]
    """
    steps = (words >> np.uint64(11)).astype(np.int64)
    q = ((steps - (1 << 52)) + 0.5) * 2.0**-53
    z = q * _ratio(_CENTRE, 0.180625 - q * q)
    tail = np.flatnonzero(np.abs(q) > 0.425)
    if tail.size:
        nearest = np.minimum(steps[tail], (1 << 53) - 1 - steps[tail])
        r = np.sqrt(-_log((nearest + 0.5) * 2.0**-53))
        value = np.where(r <= 5.0, _ratio(_TAIL, r - 1.6), _ratio(_FAR_TAIL, r - 5.0))
        z[tail] = np.where(q[tail] < 0, -value, value)
    return z


def _ratio(coefficients: tuple[tuple[float, ...], tuple[float, ...]], x: Floats) -> Floats:
    above, below = (_polynomial(c, x) for c in coefficients)
    return above / below


def _polynomial(coefficients: tuple[float, ...], x: Floats) -> Floats:
    value: Any = np.full_like(x, coefficients[0])
    for coefficient in coefficients[1:]:
        value = value * x + coefficient
    return value  # type: ignore[no-any-return]


def _log(x: Floats) -> Floats:
    """Return log(x) as exponent * log(2) + 2 atanh(s), by atanh's series."""
    mantissa, exponent = np.frexp(x)
    low = mantissa < 0.7071067811865476
    mantissa, exponent = np.where(low, mantissa * 2, mantissa), exponent - low
    s = (mantissa - 1.0) / (mantissa + 1.0)
    series = _polynomial(tuple(1.0 / n for n in range(23, 0, -2)), s * s)
    return exponent * _LOG2 + 2.0 * s * series
