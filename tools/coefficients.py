"""Fit the polynomials of the elementary functions, and write them down for Python and for C.

Each function below is smooth on its interval, and Remez's exchange finds the polynomial,
or quotient of two, whose largest relative error is smallest (E. W. Cheney, "Introduction
to approximation theory", 1966, chapters 3 and 5). fastdrop/_formulas/ says how each is used.

    python tools/coefficients.py            print the fits and their errors
    python tools/coefficients.py --write    write their two files, in Python and in C

Needs mpmath. Takes half a minute.
"""

from __future__ import annotations

import operator
import sys
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

import mpmath
import numpy as np
from mpmath import mp, mpf

mp.dps = 50

ROOT = Path(__file__).parent.parent
Polynomial = list[mpf]


class Fit(NamedTuple):
    """A function to fit, where, and the degrees for single and for double precision."""

    name: str
    what: str
    function: Callable[[mpf], mpf]
    intervals: tuple[tuple[mpf, mpf], tuple[mpf, mpf]]
    degrees: tuple[tuple[int, int], tuple[int, int]]


def exponential(r: mpf) -> mpf:
    """Return (exp(r) - 1 - r) / r**2."""
    return mpmath.hyp1f1(1, 3, r) / 2


def logarithm(square: mpf) -> mpf:
    """Return (2 atanh(s) - 2 s) / s**3 for a square s**2."""
    return 2 * mpmath.hyp2f1(1, mpf(3) / 2, mpf(5) / 2, square) / 3


def mills(a: mpf) -> mpf:
    """Return Phi(-a) * exp(a**2 / 2), Mills' ratio but for a factor."""
    return mpmath.erfc(a / mpmath.sqrt(2)) * mpmath.exp(a * a / 2) / 2


def quantile(r: mpf) -> mpf:
    """Return z / l for l = r**2 - log(2), where |N(0, 1)| > z has probability exp(-l)."""
    level = r * r - mpmath.log(2)
    if abs(level) < mpf(10) ** -30:
        return mpmath.sqrt(mpmath.pi / 2)
    tail = mpmath.exp(-level)
    z = mpmath.sqrt(2 * level) if level > 1 else (1 - tail) * mpmath.sqrt(mpmath.pi / 2)
    while True:  # Halley's method
        density = mpmath.sqrt(2 / mpmath.pi) * mpmath.exp(-z * z / 2)
        step = (mpmath.erfc(z / mpmath.sqrt(2)) - tail) / density
        step /= 1 - step * z / 2
        z += step
        if abs(step) < mpf(10) ** -40:
            return z / level


LOG2 = mpmath.log(2)
# Half of log(2), and what gelu's second part of an argument adds to it.
EXP = (mpf("-0.4"), mpf("0.4"))
# The square of (m - 1) / (m + 1) for m = sqrt(2), and a little more.
LOG = (mpf(0), mpf("0.02944"))
# As far as exp(-a**2 / 2) is not 0 in each precision.
MILLS = ((mpf(0), mpf("13.25")), (mpf(0), mpf("37.66")))
# From probability 1 down to 2**-53.
QUANTILE = (mpmath.sqrt(LOG2), mpmath.sqrt(54 * LOG2))

FITS = [
    Fit("exp", "(exp(r) - 1 - r) / r**2", exponential, (EXP, EXP), ((5, 0), (10, 0))),
    Fit("log", "(log(m) - 2 s) / s**3, of s**2", logarithm, (LOG, LOG), ((2, 0), (6, 0))),
    Fit("mills", "Phi(-a) * exp(a**2 / 2)", mills, MILLS, ((4, 5), (9, 10))),
    Fit("quantile", "z / (r**2 - log(2))", quantile, (QUANTILE, QUANTILE), ((3, 4), (9, 10))),
]


# --- Remez's exchange -----------------------------------------------------------------------

GRID = 500  # points that the error is looked at


def remez(
    f: Callable[[mpf], mpf], a: mpf, b: mpf, above: int, below: int
) -> tuple[Polynomial, Polynomial, mpf]:
    """Return numerator, denominator (lowest power first) and the largest relative error."""
    points = [(a + b) / 2 - (b - a) / 2 * mpmath.cos(mpmath.pi * i / GRID) for i in range(GRID + 1)]
    values = [f(x) for x in points]
    basis = [_chebyshev(max(above, below), (2 * x - a - b) / (b - a)) for x in points]
    nodes = above + below + 2
    chosen = [round(GRID * i / (nodes - 1)) for i in range(nodes)]
    for _ in range(30):
        level, n, d = _levelled(values, basis, chosen, above, below)
        errors = [_sum(n, t) / _sum(d, t) / v - 1 for t, v in zip(basis, values, strict=True)]
        worst = max(abs(error) for error in errors)
        if worst < 1.01 * abs(level):
            break
        chosen = _extrema(errors, nodes)
    one = _monomials(d, a, b)[0]
    return (
        [c / one for c in _monomials(n, a, b)],
        [c / one for c in _monomials(d, a, b)],
        worst,
    )


def _levelled(
    values: Polynomial, basis: list[Polynomial], chosen: list[int], above: int, below: int
) -> tuple[mpf, Polynomial, Polynomial]:
    """Return the quotient whose relative error at the chosen points is plus and minus one level.

    n(x) = (1 + level * sign) * f(x) * d(x) at all of them. Combinations of the points that no n
    can see leave a problem of eigenvalues for d alone.
    """
    f = [values[i] for i in chosen]
    sign = [mpf((-1) ** k) for k in range(len(chosen))]
    unseen = _null_space([basis[i][: above + 1] for i in chosen])

    def projected(weight: Polynomial) -> mpmath.matrix:
        rows = [
            [
                _sum(q, [w * basis[i][j] for w, i in zip(weight, chosen, strict=True)])
                for q in unseen
            ]
            for j in range(below + 1)
        ]
        return mpmath.matrix(rows).T

    plain = projected(f)
    signed = projected([v * s for v, s in zip(f, sign, strict=True)])
    levels, vectors = mpmath.eig(-mpmath.inverse(signed) * plain)
    for level, column in sorted(
        ((level, vectors[:, i]) for i, level in enumerate(levels)), key=lambda pair: abs(pair[0])
    ):
        largest = max(column, key=abs)
        d = [mpmath.re(c / largest) for c in column]
        signs = {_sum(d, t) > 0 for t in basis}
        if abs(mpmath.im(level)) < abs(level) * mpf(10) ** -15 and len(signs) == 1:  # no pole
            level, some = mpmath.re(level), range(above + 1)
            wanted = [(1 + level * sign[k]) * f[k] * _sum(d, basis[chosen[k]]) for k in some]
            powers = [basis[chosen[k]][: above + 1] for k in some]
            return level, list(mpmath.lu_solve(mpmath.matrix(powers), mpmath.matrix(wanted))), d
    raise ArithmeticError("no quotient without poles: try other degrees")


def _null_space(rows: list[Polynomial]) -> list[Polynomial]:
    """Return vectors q with sum(q[k] * rows[k]) = 0 that span all of them."""
    a = [list(column) for column in zip(*rows, strict=True)]
    size, pivots = len(rows), []
    for column in range(size):
        top = len(pivots)
        if top == len(a):
            break
        best = max(range(top, len(a)), key=lambda i: abs(a[i][column]))
        a[top], a[best] = a[best], a[top]
        a[top] = [v / a[top][column] for v in a[top]]
        for i in range(len(a)):
            if i != top:
                a[i] = [u - a[i][column] * v for u, v in zip(a[i], a[top], strict=True)]
        pivots.append(column)
    found = []
    for free in set(range(size)) - set(pivots):
        q = [mpf(0)] * size
        q[free] = mpf(1)
        for i, pivot in enumerate(pivots):
            q[pivot] = -a[i][free]
        found.append(q)
    return found


def _extrema(errors: Polynomial, count: int) -> list[int]:
    """Return where the error is largest between its changes of sign."""
    found: list[int] = []
    for i, error in enumerate(errors):
        if not found or (error > 0) != (errors[found[-1]] > 0):
            found.append(i)
        elif abs(error) > abs(errors[found[-1]]):
            found[-1] = i
    while len(found) > count:
        found.pop(0 if abs(errors[found[0]]) < abs(errors[found[-1]]) else -1)
    if len(found) < count:
        raise ArithmeticError("the error changes sign too seldom: try other degrees")
    return found


def _chebyshev(degree: int, u: mpf) -> Polynomial:
    values = [mpf(1), u]
    while len(values) <= degree:
        values.append(2 * u * values[-1] - values[-2])
    return values


def _sum(coefficients: Polynomial, values: Polynomial) -> mpf:
    return mpmath.fsum(map(operator.mul, coefficients, values))  # as many as the shorter has


def _monomials(coefficients: Polynomial, a: mpf, b: mpf) -> Polynomial:
    """Return the powers' coefficients of a sum of Chebyshev polynomials over [a, b]."""
    inner = [-(a + b) / (b - a), 2 / (b - a)]
    terms = [[mpf(1)], inner]
    while len(terms) < len(coefficients):
        term = [mpf(0)] * (len(terms[-1]) + 1)
        for i, c in enumerate(terms[-1]):
            term[i] += 2 * inner[0] * c
            term[i + 1] += 2 * inner[1] * c
        for i, c in enumerate(terms[-2]):
            term[i] -= c
        terms.append(term)
    total = [mpf(0)] * len(coefficients)
    for coefficient, term in zip(coefficients, terms[: len(coefficients)], strict=True):
        for i, c in enumerate(term):
            total[i] += coefficient * c
    return total


# --- What is written ------------------------------------------------------------------------

PRECISIONS = {"SINGLE": np.float32, "DOUBLE": np.float64}
EXACT_BITS = (16, 42)  # of log(2)'s upper part: its products with exponents are exact


def constants(precision: int) -> dict[str, mpf]:
    """Return the single numbers that the formulas take, for single (0) and double (1)."""
    bits = EXACT_BITS[precision]
    upper = mpmath.floor(mpmath.ldexp(LOG2, bits)) / 2**bits
    tanh = 2 * mpmath.sqrt(2 / mpmath.pi)
    return {
        "log2": LOG2,
        "log2_upper": upper,
        "log2_lower": LOG2 - upper,
        "per_log2": 1 / LOG2,
        "root_half": mpmath.sqrt(mpf(1) / 2),
        "peak": 1 / mpmath.sqrt(2 * mpmath.pi),
        "tanh_1": tanh,
        "tanh_3": tanh * mpf("0.044715"),
        "tanh_3_slope": 3 * tanh * mpf("0.044715"),
    }


def fits(precision: int) -> dict[str, Polynomial]:
    """Return the polynomials, highest power first, and say how good they are."""
    found = {}
    for fit in FITS:
        degrees = fit.degrees[precision]
        n, d, error = remez(fit.function, *fit.intervals[precision], *degrees)
        print(f"{fit.name}: degrees {degrees}, relative error 2**{float(mpmath.log(error, 2)):.1f}")
        if degrees[1]:
            found[f"{fit.name}_above"], found[f"{fit.name}_below"] = n[::-1], d[::-1]
        else:
            found[fit.name] = n[::-1]
    return found


def main() -> None:
    """Fit everything; with --write, write both files."""
    tables = {name: (fits(i), constants(i)) for i, name in enumerate(PRECISIONS)}
    if sys.argv[1:] == ["--write"]:
        (ROOT / "fastdrop" / "_formulas" / "coefficients.py").write_text(in_python(tables))
        (ROOT / "fastdrop" / "_cy" / "math" / "coefficients.h").write_text(in_c(tables))
    else:
        print(in_python(tables))


Tables = dict[str, tuple[dict[str, Polynomial], dict[str, mpf]]]
NOTE = "Written by tools/coefficients.py, which fits them: change that and run it again."


def in_python(tables: Tables) -> str:
    """Return fastdrop/_formulas/coefficients.py."""
    polynomials, numbers = tables["SINGLE"]
    lines = [
        f'"""Coefficients of the elementary functions.\n\n{NOTE}\n"""\n',
        "from typing import Any, Final, NamedTuple\n",
        "import numpy as np\n\n",
        "class Coefficients(NamedTuple):",
        '    """Polynomials, highest power first, and numbers, of one precision."""\n',
        *(f"    {key}: np.ndarray[Any, Any]" for key in polynomials),
        *(f"    {key}: Any" for key in numbers),
        "\n\n# fmt: off",
    ]
    for name, (polynomials, numbers) in tables.items():
        number = PRECISIONS[name]
        lines.append(f"{name}: Final = Coefficients(")
        for key, polynomial in polynomials.items():
            lines += [f"    {key}=np.array([", *_wrapped(polynomial, number, " " * 8, "")]
            lines.append(f"    ], np.{number.__name__}),")
        for key, value in numbers.items():
            lines.append(f"    {key}=np.{number.__name__}({_shortest(value, number)}),")
        lines.append(")")
    return "\n".join(lines) + "\n"


def in_c(tables: Tables) -> str:
    """Return fastdrop/_cy/math/coefficients.h."""
    lines = [f"/* {NOTE} */", "#ifndef DROP_COEFFICIENTS_H", "#define DROP_COEFFICIENTS_H\n"]
    for name, (polynomials, numbers) in tables.items():
        number = PRECISIONS[name]
        kind, width, end = ("float", 32, "f") if number is np.float32 else ("double", 64, "")
        for key, polynomial in polynomials.items():
            lines.append(f"static const {kind} drop_{key}_f{width}[] = {{")
            lines += [*_wrapped(polynomial, number, " " * 4, end), "};"]
        for key, value in numbers.items():
            text = _shortest(value, number) + end
            lines.append(f"static const {kind} drop_{key}_f{width} = {text};")
        lines.append("")
    return "\n".join([*lines, "#endif"]) + "\n"


def _wrapped(polynomial: Polynomial, number: type, indent: str, end: str) -> list[str]:
    text = " ".join(f"{_shortest(value, number)}{end}," for value in polynomial)
    return textwrap.wrap(text, 96, initial_indent=indent, subsequent_indent=indent)


def _shortest(value: mpf, number: type) -> str:
    """Return the shortest decimal that reads back as the nearest number of a type."""
    return np.format_float_scientific(number(mpmath.nstr(value, 40)), trim="0")


if __name__ == "__main__":
    main()
