"""The backends' seam: what a backend provides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from ..arrays import Array
from ..mask_format import Rate
from ..rng import Stream


class Backend(ABC):
    """Evaluates the mask function. All backends agree bit for bit.

    The mask is ``(stream, draw, rate)``: which words, from which position, and
    how likely each element is kept. `first` is the logical index, in the mask,
    of the first element asked for.
    """

    name: ClassVar[str]

    @abstractmethod
    def bits(
        self, stream: Stream, draw: int, rate: Rate, first: int, n: int, out: NDArray[np.uint8]
    ) -> None:
        """Write the keep bits of n elements to `out`, shape (ceil(n / 8),).

        Element i is bit i % 8 of byte i // 8; bits past the last are 0.
        """

    @abstractmethod
    def apply(
        self, stream: Stream, draw: int, rate: Rate, first: int, x: Array, out: Array
    ) -> None:
        """Write x * rate.scale where kept and +0.0 elsewhere to `out`.

        x and out have one shape and one supported dtype in native byte order,
        any strides; out is x itself or does not overlap it. Elements count in
        C order. Half-precision numbers are multiplied in single precision and
        rounded once.
        """

    def info(self) -> dict[str, Any]:
        """Return what `show_config` says of this backend."""
        return {}
