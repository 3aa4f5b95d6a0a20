"""Mask format 2: how a drop probability becomes planes of random bits.

docs/mask-format.md is the specification; this is the arithmetic that every
backend shares. A change of anything here is a breaking change.
"""

from __future__ import annotations

import math
import numbers
from copy import copy
from functools import lru_cache
from typing import Any, Final

import numpy as np

FORMAT: Final = 2
BLOCK: Final = 4096  # elements that share a range of the stream
STRIP: Final = 512  # elements whose bit planes lie side by side
PLANES: Final = 4  # bits that every element gets at most
SECOND_PLANES: Final = 8  # bits that those get which the first ones leave undecided
COLUMNS: Final = 512  # elements for which a block has such bits: twice what it needs on average
REFINE_WORDS: Final = 16  # words for those still undecided, 32 bits each
PRECISION: Final = 40  # bits of the threshold
ONE: Final = 1 << PRECISION


class Rate:
    """A drop probability and what format 2 derives from it.

    Attributes
    ----------
    p : float
        Drop probability, 0 <= p <= 1.
    threshold : int
        Keep probability in units of 2**-40, rounded to nearest.
    scale : float
        What kept elements are multiplied by: 1 / (1 - p), or 0 for p = 1, which
        keeps nothing to scale, unless `with_scale` changed it.
    planes, second : int
        Bits drawn for each element, 0 to 4, and for each that they leave undecided, 0 to 8.
    refines : bool
        Whether some need 32 bits more.
    block_words : int
        64-bit words of the stream that a block of 4096 elements reserves.
    """

    __slots__ = ("block_words", "p", "planes", "refines", "scale", "second", "threshold")

    def __init__(self, p: float) -> None:
        self.p = p
        # p * 2**40 is exact, so the threshold is within half a unit of 1 - p
        # however small p is; 1 - p itself would already have been rounded.
        self.threshold = ONE - round(math.ldexp(p, PRECISION))
        self.scale = 1.0 / (1.0 - p) if p < 1.0 else 0.0
        certain = self.threshold in (0, ONE)
        significant = 0 if certain else PRECISION - _trailing_zeros(self.threshold)
        self.planes = min(significant, PLANES)
        self.second = min(significant - self.planes, SECOND_PLANES)
        self.refines = significant > PLANES + SECOND_PLANES
        self.block_words = (
            COLUMNS // 64 * self.second
            + (REFINE_WORDS if self.refines else 0)
            + BLOCK // 64 * self.planes
        )

    def words(self, size: int) -> int:
        """Words of the stream that a mask of `size` elements reserves."""
        return -(-size // BLOCK) * self.block_words

    def with_scale(self, scale: float) -> Rate:
        """Return the same rate for an operation that scales kept elements otherwise."""
        other = copy(self)
        other.scale = float(scale)
        return other


def rate(p: Any) -> Rate:
    """Return the `Rate` of a drop probability, checked.

    Raises
    ------
    TypeError
        If `p` is no real number.
    ValueError
        If `p` is NaN or outside [0, 1], in PyTorch's words.
    """
    if type(p) is not float:
        p = _as_float(p)
    return _rate(p + 0.0)  # -0.0 is 0.0


def _as_float(p: Any) -> float:
    is_scalar = isinstance(p, numbers.Real) or (
        isinstance(p, np.ndarray | np.generic) and np.ndim(p) == 0 and p.dtype.kind in "biufV"
    )
    try:
        if is_scalar:
            return float(p)
    except OverflowError:  # an int that no float can hold
        return math.inf if p > 0 else -math.inf
    except TypeError:  # kind V is bfloat16's, and that of structured scalars too
        pass
    raise TypeError(
        f"dropout probability has to be a real number between 0 and 1, but got {p!r} "
        f"({type(p).__name__})"
    )


@lru_cache(maxsize=1024)
def _rate(p: float) -> Rate:
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    return Rate(p)


def _trailing_zeros(n: int) -> int:
    return (n & -n).bit_length() - 1
