"""The RNG seam's contract: what a generator provides, and what it gets for it.

A subclass says how to turn a seed into a key and where its compiled `fill`
lives. Position, locking, seeding, spawning and state come from here.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import numpy as np
from numpy.typing import NDArray

from ..checks import as_count, entry, is_same, shown, stored_int, stored_ints
from .capsule import FILL, Fill, open_capsule
from .counter import STREAM_END, Counter, exclusive

if TYPE_CHECKING:  # NumPy loads numpy.random at its first use, and so does fastdrop
    from numpy.random import SeedSequence

    Seed = int | np.integer[Any] | Sequence[int] | SeedSequence | None

Words = NDArray[np.uint64]

# SeedSequence numbers children from 0 in 32 bits. A fork's child lies behind a number that
# spawn never gets to, so that it is none of the children that a user spawns, nor one of theirs.
_FORKED: Final = (1 << 32) - 1
_MOST_CHILDREN: Final = (1 << 32) - 1
_LARGEST_POOL: Final = 1 << 12  # mixing a SeedSequence's pool takes the square of its size

# What the kernels return if `fill` returned 0 and had not written its last word: it had
# the first of these numbers in it, and in a second call the other.
UNWRITTEN: Final = -(2**31) + 1
_SENTINELS: Final = (0x9D5C1A7BE3F04286, 0x62A3E5841C0FBD79)


class Stream:
    """A stream of 64-bit words: an algorithm and a key, and no position.

    Immutable, so a mask can keep it; `words` may be called from any thread.
    """

    __slots__ = ("algorithm", "fill_address", "key", "key_address")

    sequential: ClassVar[bool] = False  # whether words cost those before them

    def __init__(self, algorithm: type[RNG], key: Words) -> None:
        self.algorithm = algorithm
        self.key = _checked_key(algorithm, key)
        self.key.flags.writeable = False
        self.key_address: int = self.key.ctypes.data
        # 0 without a compiled fill: then only a backend with code of its own can run it.
        self.fill_address: int = fill_address(algorithm)

    def words(self, position: int, n: int) -> Words:
        """Return words `position` to `position + n - 1`."""
        return self.algorithm.words(self.key, position, n)

    def open(self) -> Words:
        """Return what a compiled `fill` takes as its key, for one evaluation."""
        return self.key

    @property
    def state(self) -> dict[str, Any]:
        """Algorithm and key as a dictionary that JSON can hold."""
        return {"rng": self.algorithm.name, "key": [int(word) for word in self.key]}

    def __reduce__(self) -> tuple[Any, ...]:
        # Addresses mean nothing in another process, nor in a copy.
        return type(self), (self.algorithm, self.key)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, Stream):
            return NotImplemented
        return self.algorithm is other.algorithm and np.array_equal(self.key, other.key)

    def __hash__(self) -> int:
        return hash((self.algorithm, self.key.tobytes()))


class RNG:
    """A random number generator that masks can be drawn from.

    Parameters
    ----------
    seed : None, int, sequence of int, or numpy.random.SeedSequence, optional
        What `numpy.random.SeedSequence` takes: None draws fresh entropy from
        the operating system, ints must not be negative.

    Notes
    -----
    To add a generator, subclass and set

    * `name`: what users type in ``rng="name"``,
    * `capsule`: a PyCapsule around a compiled `fill` (`make_capsule`, or C's
      ``fastdrop_rng.h``),

    then call `register_rng`. `fill` must be pure: word n of the stream depends
    on the key and n alone. Override `seed_key` if not every key is a good one.

    References
    ----------
    The shape, a stateless function of key and counter, is that of Random123: J. K. Salmon,
    M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy as
    1, 2, 3", SC 2011.

    Examples
    --------
    >>> import fastdrop
    >>> rng = fastdrop.Philox4x32(2)
    >>> isinstance(rng, fastdrop.RNG), rng.name
    (True, 'philox4x32')
    """

    name: ClassVar[str]
    capsule: ClassVar[object] = None
    source: tuple[Stream, Any]  # and the counter that gives out its words
    _seeded: tuple[SeedSequence, Any]  # and the counter of forked children

    def __init__(self, seed: Seed = None) -> None:
        self.reseed(seed)

    def _seed_by(self, seed: SeedSequence, forks: int = 0) -> None:
        # One assignment: forks are counted since this seed, and no other.
        self._seeded = seed, Counter(forks, _MOST_CHILDREN)

    def _start(self, key: Words, position: int) -> None:
        # One assignment, so that no thread sees a stream with another's position.
        self.source = Stream(type(self), key), Counter(position, STREAM_END)

    # What a subclass provides.

    @classmethod
    def opened(cls) -> Fill:
        """Return the compiled `fill`'s address and its key's size."""
        return open_capsule(cls.capsule)

    @classmethod
    def key_words(cls) -> int:
        """Return the number of 64-bit words in a key."""
        return cls.opened().key_words

    @classmethod
    def seed_key(cls, seed: SeedSequence) -> Words:
        """Return the key that a seed stands for: uint64, shape (key_words,)."""
        words: Words = seed.generate_state(cls.key_words(), np.uint64)  # type: ignore[assignment]
        return words

    @classmethod
    def words(cls, key: Words, position: int, n: int) -> Words:
        """Return n words of the key's stream from `position`: uint64, shape (n,)."""
        out = np.empty(n, np.uint64)
        fill = FILL(cls.opened().address)
        for unwritten in _SENTINELS if n > 0 else ():
            out[-1] = unwritten
            check_status(fill(key.ctypes.data, position, n, out.ctypes.data), cls.name)
            if out[-1] != unwritten:
                return out
        if n > 0:
            check_status(UNWRITTEN, cls.name)
        return out

    # What it gets.

    def reserve(self, words: int) -> tuple[Stream, int]:
        """Take the next `words` words for one draw, and return where they are.

        Returns
        -------
        stream : Stream
        draw : int
            Position of the first word. No other call gets any of these words.

        Raises
        ------
        RuntimeError
            If the stream of 2**64 - 1 words has fewer left.
        """
        stream, counter = self.source
        return stream, counter.take(words)

    def give_back(self, stream: Stream, draw: int, words: int) -> None:
        """Undo a `reserve` of which no word was used, unless there has been another since."""
        newest, counter = self.source
        if newest is stream:
            counter.give_back(draw, words)

    def random_raw(self, size: int | None = None) -> int | Words:
        """Return the next words of the stream, as NumPy's bit generators do.

        Parameters
        ----------
        size : int, optional
            How many: an array of them. None returns one, as an int.

        Returns
        -------
        int or ndarray of uint64, shape (size,)

        Examples
        --------
        >>> import numpy as np, fastdrop
        >>> bool((fastdrop.PCG64(7).random_raw(5) == np.random.PCG64(7).random_raw(5)).all())
        True
        """
        if size is None:
            return int(self.random_raw(1)[0])  # type: ignore[index]
        n = checked_size(size)
        stream, draw = self.reserve(n)
        return stream.words(draw, n)

    @property
    def position(self) -> int:
        """Words used so far."""
        return int(self.source[1].position)

    @property
    def key(self) -> Words:
        """The key, uint64, read-only."""
        return self.source[0].key

    @property
    def seed_seq(self) -> SeedSequence:
        """The SeedSequence that the key and spawned children come from."""
        return self._seeded[0]

    def spawn(self, n_children: int) -> list[Self]:
        """Return generators of the same kind with independent streams.

        The same children come each time a program runs, and others from each
        further call, as with `numpy.random.SeedSequence.spawn`.
        """
        count = as_count(n_children, "n_children")
        with exclusive():  # without the GIL, two threads could get the same children
            seeds = self.seed_seq.spawn(count)
        return [type(self)(seed) for seed in seeds]

    def next_fork(self) -> SeedSequence:
        """Count a fork of the process, and return the seed of this generator in the child.

        Another one for each fork, the same each time a program runs, and none that
        `spawn` gives. Position and spawned children stay as they are.
        """
        seed, forks = self._seeded
        return np.random.SeedSequence(
            seed.entropy,
            spawn_key=(*seed.spawn_key, _FORKED, forks.take(1)),
            pool_size=seed.pool_size,
        )

    def reseed(self, seed: Seed = None) -> None:
        """Start over, as a new generator with this seed would."""
        seeds = as_seed_sequence(seed)
        self._seed_by(seeds)
        self._start(self.seed_key(seeds), 0)

    @property
    def state(self) -> dict[str, Any]:
        """Algorithm, key, position and seed as a dictionary that JSON can hold.

        Assigning it back, here or in another process, resumes exactly.
        """
        (seed, forks), (stream, counter) = self._seeded, self.source
        return {
            "rng": self.name,
            "key": [int(word) for word in stream.key],
            "position": int(counter.position),
            "seed": {
                "entropy": _plain(seed.entropy),
                "spawn_key": [int(k) for k in seed.spawn_key],
                "pool_size": seed.pool_size,
                "n_children_spawned": seed.n_children_spawned,
                "n_forks": int(forks.position),
            },
        }

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        key, position, seed, forks = _checked_state(state, self.name, type(self).key_words())
        self._seed_by(seed, forks)
        self._start(key, position)

    def __getstate__(self) -> dict[str, Any]:
        return self.state

    def __setstate__(self, state: dict[str, Any]) -> None:
        self.state = state

    def __repr__(self) -> str:
        return f"{type(self).__name__}(position={self.position})"


def as_seed_sequence(seed: Seed) -> SeedSequence:
    """Return the SeedSequence of a seed, or raise TypeError or ValueError."""
    if isinstance(seed, np.random.SeedSequence):
        return seed
    if isinstance(seed, bool | np.bool_ | str | bytes | float):
        raise TypeError(
            "seed must be None, an int of 0 or more, a sequence of them or a SeedSequence, "
            f"but got {shown(seed)} ({type(seed).__name__})"
        )
    try:
        return np.random.SeedSequence(seed)
    except (TypeError, ValueError) as error:
        raise type(error)(
            "seed must be None, an int of 0 or more, a sequence of them or a SeedSequence, "
            f"but got {shown(seed)}"
        ) from error


def _checked_key(algorithm: type[RNG], key: Words) -> Words:
    """Return a copy of a key, which compiled code reads without looking at its length."""
    words = np.array(key, order="C")
    needed = algorithm.key_words()
    if words.shape != (needed,) or words.dtype != np.uint64:
        raise ValueError(
            f"the key of {algorithm.__qualname__} must have {needed} words of uint64, "
            f"but got shape {words.shape} and dtype {words.dtype}"
        )
    return words


def checked_size(size: Any) -> int:
    """Return how many words to draw, or raise before any are: also where memory is short."""
    n = as_count(size, "size")
    if n > sys.maxsize // 8:
        raise ValueError(f"size must be at most {sys.maxsize // 8}, but got {shown(n)}")
    np.empty(n, np.uint64)
    return n


def check_status(status: int, name: str) -> None:
    """Raise RuntimeError if a compiled `fill` reported a failure."""
    if status == UNWRITTEN:
        raise RuntimeError(
            f"the RNG {name!r} failed: its fill function returned 0 but did not write all words; "
            "an exception in it was reported to sys.unraisablehook"
        )
    if status != 0:
        raise RuntimeError(f"the RNG {name!r} failed: its fill function returned {status}")


def _plain(entropy: Any) -> Any:
    """Return a SeedSequence's entropy as an int or a flat list, which seeds the same."""
    return list(_ints(entropy)) if np.iterable(entropy) else int(entropy)


def _ints(entropy: Any) -> Iterator[int]:
    for item in entropy:
        yield from _ints(item) if np.iterable(item) else (int(item),)


def _checked_state(state: Any, name: str, key_words: int) -> tuple[Words, int, SeedSequence, int]:
    found, key, position, seed = (
        entry(state, part, f"{name}.state") for part in ("rng", "key", "position", "seed")
    )
    if not is_same(found, name):
        raise ValueError(f"state must be one of the RNG {name!r}, but got one of {shown(found)}")
    return (
        stored_key(key, key_words),
        stored_int(position, "position", STREAM_END),
        *_stored_seed(seed),
    )


def stored_key(key: Any, key_words: int) -> Words:
    """Return a key from a state, or raise ValueError."""
    words = stored_ints(key, "key", (1 << 64) - 1)
    if len(words) != key_words:
        raise ValueError(f"state's key must have {key_words} words, but got {len(words)}")
    return np.array(words, np.uint64)


def _stored_seed(seed: Any) -> tuple[SeedSequence, int]:
    entropy, spawn_key, pool_size, spawned, forks = (
        entry(seed, part, "a seed's part of RNG.state")
        for part in ("entropy", "spawn_key", "pool_size", "n_children_spawned", "n_forks")
    )
    if isinstance(entropy, list | tuple):
        entropy = stored_ints(entropy, "entropy")
    else:
        entropy = stored_int(entropy, "entropy")
    size = stored_int(pool_size, "pool_size", _LARGEST_POOL)
    if size < 4:
        raise ValueError(f"state's pool_size must be 4 or more, as SeedSequence's, but got {size}")
    seeds = np.random.SeedSequence(
        entropy,
        spawn_key=stored_ints(spawn_key, "spawn_key"),
        pool_size=size,
        n_children_spawned=stored_int(spawned, "n_children_spawned", _MOST_CHILDREN),
    )
    return seeds, stored_int(forks, "n_forks", _MOST_CHILDREN)


def fill_address(algorithm: type[RNG]) -> int:
    """Return the address of an algorithm's compiled `fill`, opened once; 0 without one."""
    address: int | None = algorithm.__dict__.get("_fill_address")
    if address is None:
        address = 0 if algorithm.capsule is None else algorithm.opened().address
        algorithm._fill_address = address  # type: ignore[attr-defined]
    return address
