"""What a generator gives, if its counters yield two words each: its rounds, vector by vector."""

from __future__ import annotations

from typing import Any, ClassVar

from .vector import Value

Word = Any  # np.uint64: NumPy's own types would have mypy want a cast for each shift


class Lanes:
    """The numbers of several vectors of counters, side by side, on their way to words.

    `run` is the address of what all counters of a run share, and `counter` the first one's
    number. A round is a chain of dependent instructions, and vectors side by side fill its gaps.
    """

    step: ClassVar[int]  # words of one vector's counters
    side: ClassVar[int]  # how many vectors fill the gaps
    side_of_all: ClassVar[int]  # and in a pipeline, of blocks with second planes
    side_of_few: ClassVar[int]  # and of others: as many as leave no words of a block
    rounds: ClassVar[int]
    run_bytes: ClassVar[int]
    has_pipe: ClassVar[bool] = True

    def __init__(self, run: Value, counter: Value, side: int) -> None:
        raise NotImplementedError

    def round(self, number: int) -> None:
        raise NotImplementedError

    def made_here(self) -> None:
        """Have the rounds so far made before what comes next is written."""
        raise NotImplementedError

    def end(self, out: Value) -> None:
        """Write the words."""
        raise NotImplementedError
