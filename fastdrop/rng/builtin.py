"""What the built-in generators share: compiled where a compiler was, NumPy always."""

from __future__ import annotations

from .._cy import core as _core
from .base import RNG
from .capsule import make_capsule


class BuiltinRNG(RNG):
    """An RNG whose `fill` every compiled backend brings its own code for."""

    _key_words: int

    @classmethod
    def key_words(cls) -> int:
        return cls._key_words

    def __init_subclass__(cls) -> None:
        if _core is not None:
            cls.capsule = make_capsule(_core.fill_address(cls.name), cls._key_words)
