"""Counter: gives out ranges of a stream, each word to one caller only."""

from __future__ import annotations

import os
import threading
from typing import Any

from .._cy import core

STREAM_END = (1 << 64) - 1  # words in a stream: positions are 64 bits wide

# One lock for all counters: it is held for an addition, and a single lock is
# easily made anew in a forked child, where its holder may not exist any more.
_lock = threading.Lock()


def exclusive() -> threading.Lock:
    """Return that lock, for what else must not happen in two threads at once and is short."""
    return _lock


def _renew_lock() -> None:
    global _lock
    _lock = threading.Lock()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_renew_lock)


class PythonCounter:
    """Words of a stream that have been given out, behind a lock."""

    def __init__(self, taken: int, limit: int) -> None:
        self.position = taken
        self.limit = limit

    def take(self, words: int) -> int:
        """Return the position of the next `words` words, which no other call gets.

        Raises
        ------
        RuntimeError
            If fewer are left. None is taken then.
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


# The compiled one needs no lock, which makes it several times faster.
Counter: Any = PythonCounter if core is None else core.Counter
