"""NumPy's bit generators as RNGs: PCG64, Philox, MT19937, SFC64 and any other.

PCG64 and Philox are recognised and run on fastdrop's own code. Any other bit
generator can only return its next word, so one thread draws its masks.
"""

from __future__ import annotations

import copy
import ctypes
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from ..checks import as_count, entry, is_same, shown, stored_int
from .base import Stream, Words, checked_size
from .builtin import BuiltinRNG
from .capsule import pointer_of
from .counter import exclusive
from .pcg64 import PCG64, key_of
from .philox import Philox, numpy_state

if TYPE_CHECKING:
    from numpy.random import BitGenerator

_CHUNK = 1 << 16  # words drawn at a time to skip words
_NUMPYS_OWN: Final = ("MT19937", "PCG64", "PCG64DXSM", "Philox", "SFC64")


class _BitgenT(ctypes.Structure):
    """NumPy's `bitgen_t` (numpy/random/bitgen.h)."""

    _fields_ = tuple(
        (field, ctypes.c_void_p)
        for field in ("state", "next_uint64", "next_uint32", "next_double", "next_raw")
    )


def _bitgen(bit_generator: BitGenerator) -> _BitgenT:
    return _BitgenT.from_address(pointer_of(bit_generator.capsule, b"BitGenerator"))


class SequentialStream(Stream):
    """The words of a bit generator that follow a snapshot of its state."""

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
    own = entry(state, "bit_generator", "Stream.state")
    name = entry(own, "bit_generator", "BitGenerator.state")
    if not (isinstance(name, str) and name in _NUMPYS_OWN):
        raise ValueError(
            f"state must be that of one of NumPy's own bit generators, {', '.join(_NUMPYS_OWN)}, "
            f"but got {shown(name)}"
        )
    bit_generator: BitGenerator = getattr(np.random, name)(0)
    _restore(bit_generator, own)
    return SequentialStream(bit_generator)


def _restore(bit_generator: BitGenerator, state: Any) -> None:
    """Set a bit generator's state, or raise ValueError and leave it unchanged.

    NumPy reads its buffers at positions from a state, and does not check them.
    """
    kind = type(bit_generator)
    if kind is np.random.MT19937:
        inner = entry(state, "state", "MT19937.state")
        stored_int(entry(inner, "pos", "MT19937.state"), "pos", 624)
    if kind is np.random.Philox:
        stored_int(entry(state, "buffer_pos", "Philox.state"), "buffer_pos", 4)
    trial = copy.deepcopy(bit_generator)  # NumPy may fail after setting some parts
    try:
        trial.state = state
    except Exception as error:
        raise ValueError(
            f"state must be one that {kind.__name__}.state returned, but got {shown(state)}"
        ) from error
    bit_generator.state = trial.state


def _plain(state: Any) -> Any:
    """Return a bit generator's state with lists instead of arrays."""
    if isinstance(state, dict):
        return {key: _plain(value) for key, value in state.items()}
    return state.tolist() if isinstance(state, np.ndarray | np.generic) else state


class _OpenedKey:
    """A clone's `next_uint64`, its state, and the number of words taken, for compiled code."""

    def __init__(self, clone: BitGenerator) -> None:
        bitgen = _bitgen(clone)
        self.view = np.array([bitgen.next_uint64, bitgen.state, 0], np.uint64).view(_Key)
        self.view.clone = clone


class _Key(np.ndarray[Any, np.dtype[np.uint64]]):
    """A key that keeps the bit generator behind its pointers alive."""

    clone: BitGenerator


class SequentialAlgorithm(BuiltinRNG):
    """The layout of a `SequentialStream`'s key, for compiled code."""

    name = "sequential"
    _key_words = 3  # next_uint64, its state, words taken


class NumpyRNG:
    """A NumPy bit generator from which masks are drawn. Each draw advances it.

    Parameters
    ----------
    bit_generator : numpy.random.BitGenerator or numpy.random.Generator
        The generator itself is used, not a copy, and under its own lock: for
        others who draw from it, it has advanced by the words used.
    """

    source: ClassVar[None] = None  # the bit generator has its own position
    # The stream of the newest reserve, and the bit generator's state before it.
    _newest: tuple[Stream, Any] | None = None

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
        """Reserve the next `words` words for one draw, and return their place."""
        bit_generator = self.bit_generator
        with bit_generator.lock:
            before = bit_generator.state
            stream, draw = _snapshot(bit_generator)
            _skip(bit_generator, words)
            self._newest = stream, before
        return stream, draw

    def give_back(self, stream: Stream, draw: int, words: int) -> None:
        """Undo a `reserve` whose words were not used, unless the generator has advanced since."""
        bit_generator = self.bit_generator
        with bit_generator.lock:
            newest = self._newest
            if newest is None or newest[0] is not stream:
                return
            left = copy.deepcopy(bit_generator)
            left.state = newest[1]
            _skip(left, words)
            if _plain(left.state) == _plain(bit_generator.state):
                bit_generator.state = newest[1]

    def random_raw(self, size: int | None = None) -> int | Words:
        """Return the next 64-bit words of the stream. For None, return one, as an int."""
        n = 1 if size is None else checked_size(size)
        words = _next_words(self.bit_generator, n)
        return int(words[0]) if size is None else words

    def spawn(self, n_children: int) -> list[NumpyRNG]:
        """Return RNGs with independent streams, as the bit generator spawns them."""
        count = as_count(n_children, "n_children")
        with exclusive():
            children = self.bit_generator.spawn(count)
        return [NumpyRNG(child) for child in children]

    @property
    def state(self) -> dict[str, Any]:
        """The bit generator's own state."""
        return {"rng": "numpy", "bit_generator": self.bit_generator.state}

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        if not is_same(entry(state, "rng", "NumpyRNG.state"), "numpy"):
            raise ValueError(
                f"state must be that of a NumPy bit generator (rng='numpy'), but got {shown(state)}"
            )
        _restore(self.bit_generator, entry(state, "bit_generator", "NumpyRNG.state"))

    def __getstate__(self) -> dict[str, Any]:
        return {"bit_generator": self.bit_generator}

    def __repr__(self) -> str:
        return f"NumpyRNG({self.name})"


def _snapshot(bit_generator: BitGenerator) -> tuple[Stream, int]:
    """Return a stream, and the position of the bit generator's next word in it."""
    kind = type(bit_generator)
    if kind is np.random.PCG64:
        return Stream(PCG64, key_of(bit_generator)), 0
    if kind is np.random.Philox:
        state = bit_generator.state
        # Position 0 is in the block that was made with the current counter.
        counter = _counter(state) - 1
        words = numpy_state(state["state"]["key"], counter)["state"]
        key = np.concatenate([words["key"], words["counter"]])
        return Stream(Philox, key), int(state["buffer_pos"])
    return SequentialStream(bit_generator), 0


def _skip(bit_generator: BitGenerator, words: int) -> None:
    """Advance a bit generator, whose lock is held, by `words` calls of its next_uint64.

    Drawing takes the lock, and before NumPy 2.4 it cannot be taken twice. So clones draw.
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
        # To the start of the position's block, and then to the position.
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
    """Restore the half word that NumPy keeps for its next 32-bit number: advancing drops it."""
    if before["has_uint32"]:
        half = {"has_uint32": 1, "uinteger": before["uinteger"]}
        bit_generator.state = {**bit_generator.state, **half}


def _counter(state: Any) -> int:
    return sum(int(word) << (64 * i) for i, word in enumerate(state["state"]["counter"]))


def _next_words(bit_generator: BitGenerator, n: int) -> Words:
    # This calls next_uint64. For MT19937, random_raw would yield 32-bit words.
    high = np.iinfo(np.uint64).max
    return np.random.Generator(bit_generator).integers(0, high, n, np.uint64, endpoint=True)
