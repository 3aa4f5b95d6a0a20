"""Mask format 2: how a drop probability becomes planes of random bits.

docs/mask-format.md is the specification. This module has the arithmetic that all
backends share. Any change here is a breaking change.
"""

from __future__ import annotations

import math
import numbers
from typing import Any, Final

import numpy as np

from .checks import shown

FORMAT: Final = 2
BLOCK: Final = 4096  # elements that share a range of the stream
STRIP: Final = 512  # elements whose bit planes are adjacent
PLANES: Final = 4  # the most bits that every element gets
SECOND_PLANES: Final = 8  # more bits, for elements that the first bits leave undecided
COLUMNS: Final = 512  # elements per block with second planes: twice the average need
REFINE_WORDS: Final = 16  # words for elements still undecided, which take 32 bits each
PRECISION: Final = 40  # bits of the threshold
ONE: Final = 1 << PRECISION
RATES_KEPT: Final = 1024


class Rate:
    """A drop probability and what format 2 derives from it.

    Attributes
    ----------
    p : float
        Drop probability, 0 <= p <= 1.
    threshold : int
        Keep probability in units of 2**-40, rounded to nearest.
    scale : float
        The factor of kept elements: 1 / (1 - p), or 0 for p = 1, where no element is
        kept, unless `with_scale` changed it.
    planes, second : int
        Bits for each element, 0 to 4, and for each undecided element, 0 to 8.
    refines : bool
        Whether some elements need 32 bits more.
    block_words : int
        64-bit words of the stream that a block of 4096 elements reserves.
    numbers : tuple
        Block words, threshold and scale: what the compiled kernels take.
    """

    __slots__ = ("block_words", "numbers", "p", "planes", "refines", "scale", "second", "threshold")

    def __init__(self, p: float) -> None:
        self.p = p
        # p * 2**40 is exact, so for every p the threshold is within half a unit of 1 - p.
        # For small p, 1 - p itself would already be rounded.
        self.threshold = ONE - round(math.ldexp(p, PRECISION))
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
        self._scale_by(1.0 / (1.0 - p) if p < 1.0 else 0.0)

    def words(self, size: int) -> int:
        """Return how many words of the stream a mask of `size` elements reserves."""
        return -(-size // BLOCK) * self.block_words

    def with_scale(self, scale: float) -> Rate:
        """Return the same rate with another scale for kept elements."""
        other = Rate(self.p)
        other._scale_by(float(scale))
        return other

    def _scale_by(self, scale: float) -> None:
        self.scale = scale
        self.numbers = self.block_words, self.threshold, scale

    def __setstate__(self, state: tuple[None, dict[str, Any]]) -> None:
        # All else follows from p and the scale, and pickles of older versions have no more.
        fields = state[1]
        Rate.__init__(self, fields["p"])
        self._scale_by(fields["scale"])


def rate(p: Any) -> Rate:
    """Check a drop probability and return its `Rate`.

    Raises
    ------
    TypeError
        If `p` is not a real number.
    ValueError
        If `p` is NaN or outside [0, 1]. The message is PyTorch's.
    """
    if type(p) is not float:
        p = _as_float(p)
    return known_rate(p) or _new_rate(p)


def effective_rate(p: Any, training: bool) -> Rate:
    """Return the rate to drop with, 0 out of training, and check p in both modes."""
    checked = rate(p)
    return checked if training else rate(0.0)


def stored_rate(p: Any) -> Rate:
    """Return the `Rate` of a probability from a state. All its errors are ValueErrors."""
    try:
        return rate(p)
    except TypeError as error:
        raise ValueError(f"state's p: {error}") from error


def _as_float(p: Any) -> float:
    is_scalar = isinstance(p, numbers.Real) or (
        isinstance(p, np.ndarray | np.generic) and np.ndim(p) == 0 and p.dtype.kind in "biufV"
    )
    try:
        if is_scalar:
            return float(p)
    except OverflowError:  # an int that no float can hold
        return math.inf if p > 0 else -math.inf
    except TypeError:  # kind V: bfloat16, but also structured scalars
        pass
    raise TypeError(
        f"dropout probability has to be a real number between 0 and 1, but got {shown(p)} "
        f"({type(p).__name__})"
    )


# The rates of recent calls: making one takes longer than dropout of a small array.
_rates: dict[float, Rate] = {}
known_rate = _rates.get


def _new_rate(p: float) -> Rate:
    if not 0.0 <= p <= 1.0:
        raise ValueError(f"dropout probability has to be between 0 and 1, but got {p}")
    if len(_rates) >= RATES_KEPT:
        _rates.clear()
    return _rates.setdefault(p, Rate(p + 0.0))  # -0.0 is 0.0


def _trailing_zeros(n: int) -> int:
    return (n & -n).bit_length() - 1
