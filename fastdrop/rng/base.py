"""The RNG interface: what a generator provides, and what it inherits.

A subclass defines how a seed becomes a key, and where its compiled `fill` is.
Position, locking, seeding, spawning and state come from here.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Final, Self

import numpy as np

from .._cy import core
from ..checks import as_count, entry, is_same, shown, stored_int, stored_ints
from ..threads import get_num_threads
from .capsule import FILL, Fill, open_capsule
from .counter import STREAM_END, Counter, exclusive

if TYPE_CHECKING:  # numpy.random is loaded at its first use, by NumPy and by fastdrop
    from numpy.random import SeedSequence

    Seed = int | np.integer[Any] | Sequence[int] | SeedSequence | None

Words = np.ndarray[Any, np.dtype[np.uint64]]

# A backend may have compiled a built-in generator for itself: this returns its `fill`'s address,
# and may have to compile it first, which few words are not worth.
compiled_fills: Final[dict[type[RNG], Callable[[], int]]] = {}
_COMPILED_FROM: Final = 1 << 12

# SeedSequence numbers children from 0 in 32 bits. The spawn key of a forked child has a number
# that spawn never reaches. So the child differs from all spawned generators.
_FORKED: Final = (1 << 32) - 1
_MOST_CHILDREN: Final = (1 << 32) - 1
_LARGEST_POOL: Final = 1 << 12  # mixing a SeedSequence's pool takes time quadratic in its size

# What the kernels return if `fill` returned 0 without writing its last word. That word was
# set to the first of these numbers, and to the other one in a second call.
UNWRITTEN: Final = -(2**31) + 1
_SENTINELS: Final = (0x9D5C1A7BE3F04286, 0x62A3E5841C0FBD79)


class Stream:
    """A stream of 64-bit words: an algorithm and a key, without a position.

    It is immutable, so a mask can keep it. Any thread may call `words`.
    """

    __slots__ = ("algorithm", "fill_address", "key", "key_address")

    sequential: ClassVar[bool] = False  # whether words need the words before them

    def __init__(self, algorithm: type[RNG], key: Words) -> None:
        self.algorithm = algorithm
        self.key = _checked_key(algorithm, key)
        self.key.flags.writeable = False
        self.key_address: int = self.key.ctypes.data
        # 0 without a compiled fill: then only a backend with its own code can run it.
        self.fill_address: int = fill_address(algorithm)

    def words(self, position: int, n: int) -> Words:
        """Return words `position` to `position + n - 1`."""
        return self.algorithm.words(self.key, position, n)

    def made(self, position: int, n: int) -> Words:
        """Return the same words by a compiled `fill` where there is one, in threads for many."""
        if core is not None and self.fill_address:
            out = np.empty(n, np.uint64)
            where = self.fill_address, self.key_address, position
            status = core.fill_words(*where, out, get_num_threads())
            check_status(status, self.algorithm.name)
            return out
        fill = compiled_fills.get(self.algorithm)
        if fill is not None and n >= _COMPILED_FROM:
            return _filled(fill(), self.key, position, n, self.algorithm.name)
        return self.words(position, n)

    def open(self) -> Words:
        """Return the key to pass to a compiled `fill`, for one evaluation."""
        return self.key

    @property
    def state(self) -> dict[str, Any]:
        """Algorithm and key as a dictionary that JSON can hold."""
        return {"rng": self.algorithm.name, "key": [int(word) for word in self.key]}

    def __reduce__(self) -> tuple[Any, ...]:
        # Addresses are not valid in another process or in a copy.
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

    * `name`: what users write in ``rng="name"``,
    * `capsule`: a PyCapsule around a compiled `fill` (`make_capsule`, or C's
      ``fastdrop_rng.h``),

    then call `register_rng`. `fill` must be pure: word n of the stream depends
    only on the key and n. Override `seed_key` if some keys are bad.

    References
    ----------
    The interface, a stateless function of key and counter, is that of Random123:
    J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random numbers: as easy
    as 1, 2, 3", SC 2011.

    Examples
    --------
    >>> import fastdrop
    >>> rng = fastdrop.ARS4x32(2)
    >>> isinstance(rng, fastdrop.RNG), rng.name
    (True, 'ars4x32')
    """

    name: ClassVar[str]
    capsule: ClassVar[object] = None
    source: tuple[Stream, Any]  # and the counter that reserves its words
    _seeded: tuple[SeedSequence, Any]  # and the counter of forked children

    def __init__(self, seed: Seed = None) -> None:
        self.reseed(seed)

    def _seed_by(self, seed: SeedSequence, forks: int = 0) -> None:
        # One assignment: the count of forks belongs to this seed.
        self._seeded = seed, Counter(forks, _MOST_CHILDREN)

    def _start(self, key: Words, position: int) -> None:
        # One assignment, so no thread sees a stream with the position of another.
        stream = Stream(type(self), key)
        self.source = stream, Counter(position, STREAM_END, stream)

    # What a subclass provides.

    @classmethod
    def opened(cls) -> Fill:
        """Return the address of the compiled `fill` and the size of its key."""
        return open_capsule(cls.capsule)

    @classmethod
    def key_words(cls) -> int:
        """Return the number of 64-bit words in a key."""
        return cls.opened().key_words

    @classmethod
    def seed_key(cls, seed: SeedSequence) -> Words:
        """Return the key of a seed: uint64, shape (key_words,)."""
        words: Words = seed.generate_state(cls.key_words(), np.uint64)  # type: ignore[assignment]
        return words

    @classmethod
    def words(cls, key: Words, position: int, n: int) -> Words:
        """Return n words of the key's stream from `position`: uint64, shape (n,)."""
        return _filled(cls.opened().address, key, position, n, cls.name)

    # What a subclass inherits.

    def reserve(self, words: int) -> tuple[Stream, int]:
        """Reserve the next `words` words for one draw, and return their place.

        Returns
        -------
        stream : Stream
        draw : int
            Position of the first word. No other call gets any of these words.

        Raises
        ------
        RuntimeError
            If fewer of the stream's 2**64 - 1 words are left.
        """
        stream, counter = self.source
        return stream, counter.take(words)

    def give_back(self, stream: Stream, draw: int, words: int) -> None:
        """Undo a `reserve` whose words were not used, unless another has followed."""
        newest, counter = self.source
        if newest is stream:
            counter.give_back(draw, words)

    def random_raw(self, size: int | None = None) -> int | Words:
        """Return the next words of the stream, as NumPy's bit generators do.

        Parameters
        ----------
        size : int, optional
            The number of words. None returns one word, as an int.

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
        return stream.made(draw, n)

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
        """The SeedSequence of the key and of spawned children."""
        return self._seeded[0]

    def spawn(self, n_children: int) -> list[Self]:
        """Return generators of the same kind with independent streams.

        The children are the same each time a program runs, and each call gives new
        ones, as with `numpy.random.SeedSequence.spawn`.
        """
        count = as_count(n_children, "n_children")
        with exclusive():  # without the GIL, two threads might get the same children
            seeds = self.seed_seq.spawn(count)
        return [type(self)(seed) for seed in seeds]

    def next_fork(self) -> SeedSequence:
        """Count a fork of the process, and return this generator's seed in the child.

        Each fork gives another seed, the same each time a program runs. `spawn` gives
        none of these seeds. Position and spawned children do not change.
        """
        seed, forks = self._seeded
        return np.random.SeedSequence(
            seed.entropy,
            spawn_key=(*seed.spawn_key, _FORKED, forks.take(1)),
            pool_size=seed.pool_size,
        )

    def reseed(self, seed: Seed = None) -> None:
        """Start again like a new generator with this seed."""
        seeds = as_seed_sequence(seed)
        self._seed_by(seeds)
        self._start(self.seed_key(seeds), 0)

    @property
    def state(self) -> dict[str, Any]:
        """Algorithm, key, position and seed as a dictionary that JSON can hold.

        Assign it, in this or another process, to resume exactly.
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
    """Return a checked copy of a key, since compiled code does not check its length."""
    words = np.array(key, order="C")
    needed = algorithm.key_words()
    if words.shape != (needed,) or words.dtype != np.uint64:
        raise ValueError(
            f"the key of {algorithm.__qualname__} must have {needed} words of uint64, "
            f"but got shape {words.shape} and dtype {words.dtype}"
        )
    return words


def checked_size(size: Any) -> int:
    """Return the number of words to draw, or raise before drawing, also for lack of memory."""
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
    """Return a SeedSequence's entropy as an int or a flat list, with the same effect."""
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


def _filled(address: int, key: Words, position: int, n: int, name: str) -> Words:
    """Return n words that the `fill` at an address writes."""
    out, fill = np.empty(n, np.uint64), FILL(address)
    for unwritten in _SENTINELS if n > 0 else ():
        out[-1] = unwritten
        check_status(fill(key.ctypes.data, position, n, out.ctypes.data), name)
        if out[-1] != unwritten:
            return out
    if n > 0:
        check_status(UNWRITTEN, name)
    return out


def fill_address(algorithm: type[RNG]) -> int:
    """Return the address of an algorithm's compiled `fill`, or 0. It is looked up once."""
    address: int | None = algorithm.__dict__.get("_fill_address")
    if address is None:
        address = 0 if algorithm.capsule is None else algorithm.opened().address
        algorithm._fill_address = address  # type: ignore[attr-defined]
    return address
