"""bfloat16 numbers as bits: the upper half of a single-precision number's."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray


def from_bfloat16(bits: NDArray[np.uint16]) -> NDArray[np.float32]:
    """Return the numbers that bits stand for."""
    return (bits.astype(np.uint32) << np.uint32(16)).view(np.float32)


def to_bfloat16(x: NDArray[Any]) -> NDArray[np.uint16]:
    """Return the bits of the nearest bfloat16, ties to even; NaN keeps its upper bits."""
    bits = x.view(np.uint32)
    rounded = bits + np.uint32(0x7FFF) + (bits >> np.uint32(16) & np.uint32(1))
    # Rounding could carry a NaN over into the sign.
    nearest = np.where(np.isnan(x), bits | np.uint32(0x400000), rounded)
    return (nearest >> np.uint32(16)).astype(np.uint16)
