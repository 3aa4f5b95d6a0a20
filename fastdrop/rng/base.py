"""The RNG seam's contract: what a generator provides, and what it gets for it.

A subclass says how to turn a seed into a key and where its compiled `fill`
lives. Position, locking, seeding, spawning and state come from here.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np
from numpy.typing import NDArray

from .capsule import FILL, Fill, open_capsule
from .counter import STREAM_END, Counter, exclusive

if TYPE_CHECKING:  # NumPy loads numpy.random at its first use, and so does fastdrop
    from numpy.random import SeedSequence

    Seed = int | np.integer[Any] | Sequence[int] | SeedSequence | None

Words = NDArray[np.uint64]


class Stream:
    """A stream of 64-bit words: an algorithm and a key, and no position.

    Immutable, so a mask can keep it; `words` may be called from any thread.
    """

    __slots__ = ("algorithm", "fill_address", "key", "key_address")

    sequential: ClassVar[bool] = False  # whether words cost those before them

    def __init__(self, algorithm: type[RNG], key: Words) -> None:
        self.algorithm = algorithm
        self.key = np.array(key, dtype=np.uint64)
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

    def __init__(self, seed: Seed = None) -> None:
        self._seed_seq = as_seed_sequence(seed)
        self._start(self.seed_key(self._seed_seq), 0)

    def _start(self, key: Words, position: int) -> None:
        if key.shape != (type(self).key_words(),):
            raise ValueError(
                f"the key of {self.name} must have {type(self).key_words()} words, "
                f"but seed_key returned one of shape {key.shape}"
            )
        # One assignment, so that no thread sees a stream with another's position.
        self._source = Stream(type(self), key), Counter(position, STREAM_END)

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
        status = FILL(cls.opened().address)(key.ctypes.data, position, n, out.ctypes.data)
        check_status(status, cls.name)
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
        stream, counter = self._source
        return stream, counter.take(words)

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
        if size < 0:
            raise ValueError(f"size must be 0 or more, but got {size}")
        stream, draw = self.reserve(size)
        return stream.words(draw, size)

    @property
    def position(self) -> int:
        """Words used so far."""
        return int(self._source[1].position)

    @property
    def key(self) -> Words:
        """The key, uint64, read-only."""
        return self._source[0].key

    @property
    def seed_seq(self) -> SeedSequence:
        """The SeedSequence that the key and spawned children come from."""
        return self._seed_seq

    def spawn(self, n_children: int) -> list[Self]:
        """Return generators of the same kind with independent streams.

        The same children come each time a program runs, and others from each
        further call, as with `numpy.random.SeedSequence.spawn`.
        """
        if n_children < 0:
            raise ValueError(f"n_children must be 0 or more, but got {n_children}")
        with exclusive():  # without the GIL, two threads could get the same children
            seeds = self._seed_seq.spawn(n_children)
        return [type(self)(seed) for seed in seeds]

    def reseed(self, seed: Seed = None) -> None:
        """Start over, as a new generator with this seed would."""
        self._seed_seq = as_seed_sequence(seed)
        self._start(self.seed_key(self._seed_seq), 0)

    @property
    def state(self) -> dict[str, Any]:
        """Algorithm, key, position and seed as a dictionary that JSON can hold.

        Assigning it back, here or in another process, resumes exactly.
        """
        seed, (stream, counter) = self._seed_seq, self._source
        return {
            "rng": self.name,
            "key": [int(word) for word in stream.key],
            "position": int(counter.position),
            "seed": {
                "entropy": _plain(seed.entropy),
                "spawn_key": [int(k) for k in seed.spawn_key],
                "pool_size": seed.pool_size,
                "n_children_spawned": seed.n_children_spawned,
            },
        }

    @state.setter
    def state(self, state: dict[str, Any]) -> None:
        key, position, seed = _checked_state(state, self.name, type(self).key_words())
        self._seed_seq = seed
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
            f"but got {seed!r} ({type(seed).__name__})"
        )
    try:
        return np.random.SeedSequence(seed)
    except (TypeError, ValueError) as error:
        raise type(error)(
            "seed must be None, an int of 0 or more, a sequence of them or a SeedSequence, "
            f"but got {seed!r}"
        ) from error


def check_status(status: int, name: str) -> None:
    """Raise RuntimeError if a compiled `fill` reported a failure."""
    if status != 0:
        raise RuntimeError(f"the RNG {name!r} failed: its fill function returned {status}")


def _plain(entropy: Any) -> Any:
    if entropy is None or isinstance(entropy, int):
        return entropy
    if isinstance(entropy, np.integer):
        return int(entropy)
    return [int(word) for word in entropy]


def _checked_state(state: Any, name: str, key_words: int) -> tuple[Words, int, SeedSequence]:
    try:
        found = state["rng"]
        key = np.array([int(word) for word in state["key"]], dtype=np.uint64)
        position = int(state["position"])
        seed = np.random.SeedSequence(**state["seed"])
    except (TypeError, KeyError, ValueError, OverflowError) as error:
        raise ValueError(
            "state must be a dictionary as .state returns it, with rng, key, position and seed, "
            f"but got {state!r:.200}"
        ) from error
    if found != name:
        raise ValueError(f"state must be one of the RNG {name!r}, but got one of {found!r}")
    if key.shape != (key_words,):
        raise ValueError(f"state's key must have {key_words} words, but got {key.size}")
    if not 0 <= position <= STREAM_END:
        raise ValueError(f"state's position must be between 0 and 2**64 - 1, but got {position}")
    return key, position, seed


def fill_address(algorithm: type[RNG]) -> int:
    """Return the address of an algorithm's compiled `fill`, opened once; 0 without one."""
    address: int | None = algorithm.__dict__.get("_fill_address")
    if address is None:
        address = 0 if algorithm.capsule is None else algorithm.opened().address
        algorithm._fill_address = address  # type: ignore[attr-defined]
    return address
