"""Counter: reserves ranges of a stream, each word for one caller only."""

from __future__ import annotations

import os
from _thread import LockType, allocate_lock  # threading takes a tenth of fastdrop's import
from typing import Any

from .._cy import core

STREAM_END = (1 << 64) - 1  # words in a stream: positions are 64 bits wide

# One lock for all counters: it is held only for an addition. In a forked child its
# holder may not exist any more, and a single lock is easy to renew there.
_lock = allocate_lock()


def exclusive() -> LockType:
    """Return that lock, for other short code that must not run in two threads at once."""
    return _lock


def _renew_lock() -> None:
    global _lock
    _lock = allocate_lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


class PythonCounter:
    """The number of reserved words of a stream, protected by a lock.

    The compiled one also holds the stream, for kernels that take from it themselves.
    """

    def __init__(self, taken: int, limit: int, stream: object = None) -> None:
        self.position = taken
        self.limit = limit

    def take(self, words: int) -> int:
        """Return the position of the next `words` words, which no other call gets.

        Raises
        ------
        RuntimeError
            If fewer are left. Then no words are reserved.
        """
        with _lock:
            position = self.position
            if words > self.limit - position:
                raise RuntimeError(
                    f"the stream has {self.limit - position} words left, but {words} are needed: "
                    "seed it anew"
                )
            self.position = position + words
        return position

    def give_back(self, position: int, words: int) -> None:
        """Undo a `take` whose words were not used, unless another has followed."""
        with _lock:
            if self.position == position + words:
                self.position = position


# The compiled counter is several times faster, because it needs no lock.
Counter: Any = PythonCounter if core is None else core.Counter
