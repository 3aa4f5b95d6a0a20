"""NumPy's own bit generators as RNGs: PCG64, Philox, MT19937, SFC64 and any other.

PCG64 and Philox are recognised and run on fastdrop's own code. Any other bit
generator can only be asked for its next word, so one thread draws its masks.
"""

from __future__ import annotations

import copy
import ctypes
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np

from .base import Stream, Words
from .builtin import BuiltinRNG
from .counter import exclusive
from .pcg64 import PCG64, key_of
from .philox import Philox, numpy_state

if TYPE_CHECKING:
    from numpy.random import BitGenerator

_CHUNK = 1 << 16  # words drawn at a time to skip words


class _BitgenT(ctypes.Structure):
    """NumPy's `bitgen_t` (numpy/random/bitgen.h)."""

    _fields_ = tuple(
        (field, ctypes.c_void_p)
        for field in ("state", "next_uint64", "next_uint32", "next_double", "next_raw")
    )


_capsule_pointer = ctypes.PYFUNCTYPE(ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)(
    ("PyCapsule_GetPointer", ctypes.pythonapi)
)


def _bitgen(bit_generator: BitGenerator) -> _BitgenT:
    return _BitgenT.from_address(_capsule_pointer(bit_generator.capsule, b"BitGenerator"))


class SequentialStream(Stream):
    """The words that a bit generator yields from a snapshot of its state on."""

    __slots__ = ("_snapshot",)

    sequential: ClassVar[bool] = True

    def __init__(self, bit_generator: BitGenerator) -> None:
        self._snapshot = copy.deepcopy(bit_generator)
        super().__init__(SequentialAlgorithm, np.zeros(SequentialAlgorithm.key_words(), np.uint64))

    def words(self, position: int, n: int) -> Words:
        clone = copy.deepcopy(self._snapshot)
        _skip(clone, position)
        return _next_words(clone, n)

    def open(self) -> Words:
        return _OpenedKey(copy.deepcopy(self._snapshot)).view

    @property
    def state(self) -> dict[str, Any]:
        """The snapshot's state, its arrays as lists."""
        return {"rng": "numpy", "bit_generator": _plain(self._snapshot.state)}

    def __reduce__(self) -> tuple[Any, ...]:
        return SequentialStream, (self._snapshot,)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, SequentialStream) and self.state == other.state

    def __hash__(self) -> int:
        return hash(repr(self.state))


def sequential_stream(state: dict[str, Any]) -> SequentialStream:
    """Return the stream that `SequentialStream.state` describes.

    Raises
    ------
    ValueError
        If it is not one of NumPy's own bit generators.
    """
    name = state["bit_generator"]["bit_generator"]
    kind = getattr(np.random, name, None)
    if not (isinstance(kind, type) and issubclass(kind, np.random.BitGenerator)):
        raise ValueError(f"state must be one of NumPy's own bit generators, but got {name!r}")
    bit_generator = kind(0)
    bit_generator.state = state["bit_generator"]
    return SequentialStream(bit_generator)


def _plain(state: Any) -> Any:
    """Return a bit generator's state with lists for arrays."""
    if isinstance(state, dict):
        return {key: _plain(value) for key, value in state.items()}
    return state.tolist() if isinstance(state, np.ndarray | np.generic) else state


class _OpenedKey:
    """A clone's `next_uint64` and state for compiled code, and words taken so far."""

    def __init__(self, clone: BitGenerator) -> None:
        bitgen = _bitgen(clone)
        self.view = np.array([bitgen.next_uint64, bitgen.state, 0], np.uint64).view(_Key)
        self.view.clone = clone


class _Key(np.ndarray[Any, np.dtype[np.uint64]]):
    """A key that keeps the bit generator it points into alive."""

    clone: BitGenerator


class SequentialAlgorithm(BuiltinRNG):
    """What compiled code has to know of `SequentialStream`: the key's layout."""

    name = "sequential"
    _key_words = 3  # next_uint64, its state, words taken


class NumpyRNG:
    """A NumPy bit generator whose stream masks are drawn from, and which moves on.

    Parameters
    ----------
    bit_generator : numpy.random.BitGenerator or numpy.random.Generator
        The generator itself is used, under its own lock, not a copy: whoever
        else draws from it sees that it has advanced by the words used.
    """

    def __init__(self, bit_generator: BitGenerator | np.random.Generator) -> None:
        if isinstance(bit_generator, np.random.Generator):
            bit_generator = bit_generator.bit_generator
        if not _bitgen(bit_generator).next_uint64:
            raise TypeError(
                "a BitGenerator must provide next_uint64, but "
                f"{type(bit_generator).__qualname__} leaves it NULL"
            )
        self.bit_generator = bit_generator

    @property
    def name(self) -> str:
        """The bit generator's class."""
        return type(self.bit_generator).__name__

    def reserve(self, words: int) -> tuple[Stream, int]:
        """Take the next `words` words for one draw, and return where they are."""
        bit_generator = self.bit_generator
        with bit_generator.lock:
            stream, draw = _snapshot(bit_generator)
            _skip(bit_generator, words)
        return stream, draw

    def random_raw(self, size: int | None = None) -> int | Words:
        """Return the next 64-bit words of the stream, one as an int for None."""
        if size is not None and size < 0:
            raise ValueError(f"size must be 0 or more, but got {size}")
        words = _next_words(self.bit_generator, 1 if size is None else size)
        return int(words[0]) if size is None else words

    def spawn(self, n_children: int) -> list[NumpyRNG]:
        """Return RNGs with independent streams, as the bit generator spawns them."""
        with exclusive():
            children = self.bit_generator.spawn(n_children)
        return [NumpyRNG(child) for child in children]

    @property
    def state(self) -> dict[str, Any]:
        """The bit generator's own state."""
        return {"rng": "numpy", "bit_generator": self.bit_generator.state}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        if (
            not isinstance(state, dict)
            or state.get("rng") != "numpy"
            or "bit_generator" not in state
        ):
            raise ValueError(
                f"state must be that of a NumPy bit generator (rng='numpy'), but got {state!r:.200}"
            )
        self.bit_generator.state = state["bit_generator"]

    def __repr__(self) -> str:
        return f"NumpyRNG({self.name})"


def _snapshot(bit_generator: BitGenerator) -> tuple[Stream, int]:
    """Return a stream and the position in it of the bit generator's next word."""
    kind = type(bit_generator)
    if kind is np.random.PCG64:
        return Stream(PCG64, key_of(bit_generator)), 0
    if kind is np.random.Philox:
        state = bit_generator.state
        # Position 0 lies in the block that the counter has just been used for.
        counter = _counter(state) - 1
        words = numpy_state(state["state"]["key"], counter)["state"]
        key = np.concatenate([words["key"], words["counter"]])
        return Stream(Philox, key), int(state["buffer_pos"])
    return SequentialStream(bit_generator), 0


def _skip(bit_generator: BitGenerator, words: int) -> None:
    """Advance a bit generator, whose lock is held, by `words` calls of its next_uint64.

    Before NumPy 2.4 that lock cannot be taken twice, and what draws takes it: clones draw.
    """
    kind = type(bit_generator)
    if kind is np.random.PCG64 or kind is np.random.PCG64DXSM:  # one step is one word
        before = bit_generator.state
        bit_generator.advance(words)  # type: ignore[attr-defined]
        _put_half_word_back(bit_generator, before)
    elif kind is np.random.Philox:
        state = bit_generator.state
        position = int(state["buffer_pos"]) + words
        whole, rest = divmod(position - 1, 4) if position else (0, -1)
        counter = _counter(state) + whole
        # Up to the start of the block that the position lies in, then into it.
        clone: BitGenerator = np.random.Philox(0)
        clone.state = numpy_state(state["state"]["key"], counter - 1)
        clone.random_raw(rest + 1, output=False)
        _put_half_word_back(clone, state)
        bit_generator.state = clone.state
    else:
        clone = copy.deepcopy(bit_generator)
        for done in range(0, words, _CHUNK):
            _next_words(clone, min(_CHUNK, words - done))
        bit_generator.state = clone.state


def _put_half_word_back(bit_generator: BitGenerator, before: Any) -> None:
    """Restore what NumPy has put aside for its next 32-bit number: advancing drops it."""
    if before["has_uint32"]:
        half = {"has_uint32": 1, "uinteger": before["uinteger"]}
        bit_generator.state = {**bit_generator.state, **half}


def _counter(state: Any) -> int:
    return sum(int(word) << (64 * i) for i, word in enumerate(state["state"]["counter"]))


def _next_words(bit_generator: BitGenerator, n: int) -> Words:
    # random_raw would yield 32-bit words for MT19937; this calls next_uint64.
    high = np.iinfo(np.uint64).max
    return np.random.Generator(bit_generator).integers(0, high, n, np.uint64, endpoint=True)
