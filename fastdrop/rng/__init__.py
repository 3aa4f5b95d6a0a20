"""The RNG interface: the registry, the default generator, and what `rng=` takes."""

from __future__ import annotations

import os
from _thread import _local
from collections.abc import Callable
from typing import TYPE_CHECKING, Any, Final

import numpy as np

from ..checks import entry, is_same, shown
from .ars4x32 import ARS4x32
from .base import RNG, Stream, stored_key
from .capsule import get_include, make_capsule
from .counter import exclusive
from .numpy_adapter import NumpyRNG, sequential_stream
from .pcg64 import PCG64
from .philox import Philox
from .philox4x32 import Philox4x32

if TYPE_CHECKING:
    from numpy.random import BitGenerator, Generator, SeedSequence

    from .base import Seed

    RNGLike = (
        RNG
        | NumpyRNG
        | Generator
        | BitGenerator
        | SeedSequence
        | int
        | np.integer[Any]
        | str
        | None
    )

__all__ = [
    "PCG64",
    "RNG",
    "ARS4x32",
    "Philox",
    "Philox4x32",
    "available_rngs",
    "default_rng",
    "get_include",
    "make_capsule",
    "manual_seed",
    "register_rng",
]

AnyRNG = RNG | NumpyRNG

BUILTIN: Final[tuple[type[RNG], ...]] = (ARS4x32, Philox4x32, Philox, PCG64)

# What `rng=None`, an int or a SeedSequence stands for, and what fastdrop.torch draws from.
DEFAULT: Final = ARS4x32

_registry: dict[str, Callable[[Seed], AnyRNG]] = {}


def register_rng(name: str, cls: type[RNG] | type[BitGenerator]) -> None:
    """Make a generator available as ``rng=name``.

    Parameters
    ----------
    name : str
        What users pass as `rng`. Registering a name again for the same class does nothing.
    cls : subclass of fastdrop.RNG or of numpy.random.BitGenerator
        See `RNG` for what a subclass provides.

    Raises
    ------
    TypeError
        If `cls` is not such a class, or its capsule is not a fastdrop capsule.
    ValueError
        If the name is taken, the capsule's version or size is wrong, or `fill`
        is not a pure function of the position.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> fastdrop.register_rng("sfc64", np.random.SFC64)
    >>> fastdrop.dropout(np.ones(4), rng="sfc64").shape
    (4,)
    """
    if not isinstance(name, str) or not name:
        raise TypeError(f"name must be a non-empty string, but got {shown(name)}")
    if not isinstance(cls, type) or not issubclass(cls, RNG | np.random.BitGenerator):
        raise TypeError(
            "cls must be a subclass of fastdrop.RNG or numpy.random.BitGenerator, "
            f"but got {shown(cls)}"
        )
    make = _checked_rng(name, cls) if issubclass(cls, RNG) else _checked_bit_generator(cls)
    if name in _registry:
        if getattr(_registry[name], "registered", _registry[name]) is cls:
            return
        raise ValueError(f"name must be a new one, but {name!r} is registered already")
    _registry[name] = make


def _checked_rng(name: str, cls: type[RNG]) -> type[RNG]:
    own = getattr(cls, "name", name)
    if own != name:
        raise ValueError(f"name must be {cls.__qualname__}.name, {own!r}, but got {name!r}")
    cls.opened()
    stream = Stream(cls, cls.seed_key(np.random.SeedSequence(0)))
    whole = stream.words(0, 64)
    pieces = [stream.words(a, b - a) for a, b in ((37, 64), (0, 5), (5, 37))]
    if not np.array_equal(whole, np.concatenate([pieces[1], pieces[2], pieces[0]])):
        raise ValueError(
            f"fill must be a pure function of key and position, but {cls.__qualname__}'s words "
            "0 to 63 differ when they are asked for in pieces"
        )
    cls.name = name
    return cls


def _checked_bit_generator(cls: type[BitGenerator]) -> Callable[[Seed], NumpyRNG]:
    def make(seed: Seed = None) -> NumpyRNG:
        return NumpyRNG(cls(seed))

    make(0)
    make.registered = cls  # type: ignore[attr-defined]
    return make


def available_rngs() -> list[str]:
    """Return the registered names, sorted.

    Examples
    --------
    >>> import fastdrop
    >>> set(fastdrop.available_rngs()) >= {"ars4x32", "pcg64", "philox", "philox4x32"}
    True
    """
    return sorted(_registry)


# Without register_rng, whose check of `fill` would load numpy.random at import.
_registry |= {cls.name: cls for cls in BUILTIN}

_default: RNG | None = None


def default_rng() -> RNG:
    """Return the generator that ``rng=None`` stands for: the process's, not a new one.

    Every function and every layer without a generator of its own draws from it. It is a
    `ARS4x32`, first seeded with the system's entropy; `manual_seed` seeds it anew.

    Returns
    -------
    RNG
        The same object each time.

    Notes
    -----
    This is not `numpy.random.default_rng`, which makes a generator: that is what
    ``fastdrop.ARS4x32(seed)`` does.

    Examples
    --------
    >>> import fastdrop
    >>> fastdrop.default_rng() is fastdrop.manual_seed(3)
    True
    >>> before = fastdrop.default_rng().state  # to come back to later
    """
    global _default
    if _default is None:
        with exclusive():
            _default = _default or DEFAULT()
    return _default


# A forked child must not draw the masks of its parent or its siblings. So its default
# generator, the same object, gets a new seed. The forking thread makes that seed before the
# fork. It is thread-local, because other threads may fork at the same time.
_fork = _local()


def _before_fork() -> None:
    _fork.seed = None if _default is None else _default.next_fork()


def _after_fork_in_parent() -> None:
    _fork.seed = None


def _after_fork_in_child() -> None:
    if _default is not None:
        # Without a seed this takes fresh entropy: another thread made the generator in between,
        # or a program in C forked and ran only the child's hooks.
        _default.reseed(getattr(_fork, "seed", None))
    _fork.seed = None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(
        before=_before_fork,
        after_in_parent=_after_fork_in_parent,
        after_in_child=_after_fork_in_child,
    )


def manual_seed(seed: Seed) -> RNG:
    """Seed the default generator, as `torch.manual_seed` seeds torch's.

    Parameters
    ----------
    seed : int, sequence of int, numpy.random.SeedSequence, or None

    Returns
    -------
    RNG
        The default generator.

    Notes
    -----
    A process that is forked later gets other masks. The n-th fork after this call gives its child
    the same default generator each time a program runs. docs/seeds.md has more on processes.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x = np.ones(8, np.float32)
    >>> _ = fastdrop.manual_seed(1); a = fastdrop.dropout(x)
    >>> _ = fastdrop.manual_seed(1); b = fastdrop.dropout(x)
    >>> bool((a == b).all())
    True
    """
    default = default_rng()
    default.reseed(seed)
    return default


def make_rng(name: str, seed: Seed = None) -> AnyRNG:
    """Return a new generator of a registered kind."""
    if name not in _registry:
        raise ValueError(f"rng must be one of {available_rngs()}, but got {shown(name)}")
    return _registry[name](seed)


def as_rng(rng: Any) -> AnyRNG:
    """Return the generator for an `rng` argument.

    None is the default generator. A fastdrop RNG, a NumPy Generator or a
    BitGenerator is used itself. An int or a SeedSequence seeds a new one of the default kind.
    A registered name makes a new generator of that kind with fresh entropy.
    """
    if rng is None:
        return default_rng()
    if isinstance(rng, RNG | NumpyRNG):
        return rng
    if isinstance(rng, np.random.Generator | np.random.BitGenerator):
        return NumpyRNG(rng)
    if isinstance(rng, str):
        return make_rng(rng)
    if isinstance(rng, np.random.SeedSequence) or (
        isinstance(rng, int | np.integer) and not isinstance(rng, bool)
    ):
        return DEFAULT(rng)
    raise TypeError(
        "rng must be None, an int, a SeedSequence, a NumPy BitGenerator or Generator, a fastdrop "
        f"RNG or one of the names {available_rngs()}, but got {shown(rng)} ({type(rng).__name__})"
    )


def stream_from(state: dict[str, Any]) -> Stream:
    """Return the stream that a `Stream.state` describes.

    Raises
    ------
    ValueError
        If its generator is not registered here, or its key does not fit.
    """
    name = entry(state, "rng", "Stream.state")
    if is_same(name, "numpy"):
        return sequential_stream(state)
    algorithm = _registry.get(name) if isinstance(name, str) else None
    if not (isinstance(algorithm, type) and issubclass(algorithm, RNG)):
        raise ValueError(
            f"state's RNG must be one of {available_rngs()} here, but got {shown(name)}"
        )
    return Stream(algorithm, stored_key(entry(state, "key", "Stream.state"), algorithm.key_words()))
