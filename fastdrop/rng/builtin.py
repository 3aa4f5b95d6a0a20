"""The base of the built-in generators: compiled if a compiler was there, always in NumPy."""

from __future__ import annotations

from .._cy import core as _core
from .base import RNG
from .capsule import make_capsule


class BuiltinRNG(RNG):
    """An RNG for which every compiled backend has its own code of `fill`."""

    _key_words: int

    @classmethod
    def key_words(cls) -> int:
        return cls._key_words

    def __init_subclass__(cls) -> None:
        if _core is not None:
            cls.capsule = make_capsule(_core.fill_address(cls.name), cls._key_words)
