"""The generators whose counters yield two words each, as Numba's kernels have them."""

from __future__ import annotations

from typing import Any, Final, NamedTuple

from .ars4x32 import ARS4x32Lanes, left_of_ars4x32, start_ars4x32
from .lanes import Lanes
from .philox4x32 import Philox4x32Lanes, left_of_philox4x32, start_philox4x32


class Pairs(NamedTuple):
    """A generator whose counters yield two words each.

    `start` is called with addresses of a key and of a run, and a counter between them: it writes
    what all counters of the run share. `left` returns how many words from a position on it is for.
    """

    lanes: type[Lanes]
    start: Any
    left: Any


PAIRS: Final = {
    "ars4x32": Pairs(ARS4x32Lanes, start_ars4x32, left_of_ars4x32),
    "philox4x32": Pairs(Philox4x32Lanes, start_philox4x32, left_of_philox4x32),
}
