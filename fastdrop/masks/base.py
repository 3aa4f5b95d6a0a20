"""What every mask has, and what those that keep or drop elements share."""

from __future__ import annotations

import math
import sys
from typing import TYPE_CHECKING, Any, ClassVar, Self

import numpy as np

from ..arrays import Array, prepare
from ..backends.form import SCALE, Form
from ..checks import is_same, shown, stored_ints
from ..mask_format import FORMAT
from ..rng.counter import STREAM_END
from ..sharing import Strides, canonical
from .windows import MOST_DIMENSIONS, Index

if TYPE_CHECKING:
    from numpy.typing import NDArray


class AnyMask:
    """What every mask of fastdrop's has: what a forward leaves for its backward.

    A mask is a function of an element's index, and holds what that function takes
    besides: some hundred bytes, whatever its shape is. (An `ArrayMask` holds bits, a
    `SampleMask` a number for each sample.) It can be asked for in this way, whatever kind it is:

    * ``mask.apply(x)`` makes the gradient with respect to the input of one with
      respect to the output; where the mask keeps or drops elements it is the forward, too.
    * ``mask[3]``, ``mask[2:5]`` and ``mask[..., None, 10:20:2]`` are masks of windows, indexed as
      an array is: ``mask[2:5].apply(x[2:5])`` is ``mask.apply(x)[2:5]``. Nothing is evaluated
      before it is asked for, and then only the blocks of 4096 elements that the window touches.
    * ``mask.state`` is a small dictionary that JSON can hold, and
      ``AnyMask.from_state(state)`` makes the mask of it again, of whatever kind it is.
    * Masks are equal, and have equal hashes, if they are of one kind and hold the same.
    * ``mask.shape``, ``mask.size``, ``mask.ndim`` and ``len(mask)`` are those of an array.

    Masks that keep or drop each element, which are all but `NoiseMask`, also have

    * ``mask.p``, the drop probability, or None where no number is known for it,
    * ``mask.scale``, what kept elements are multiplied by,
    * ``mask.to_bool()`` and ``np.asarray(mask)``, an array of bool, True where it keeps,
    * ``mask.to_packed()``, the same with eight elements in a byte.

    Examples
    --------
    >>> import json, numpy as np, fastdrop
    >>> layer = fastdrop.DropBlock2d(p=0.2, block_size=2, rng=1)
    >>> y, mask = layer.forward_mask(np.ones((3, 2, 6, 6)))
    >>> stored = json.dumps(mask.state)
    >>> fastdrop.AnyMask.from_state(json.loads(stored)) == mask
    True
    """

    # No ABC: its isinstance takes as long as a small array's backward.

    __slots__ = ()

    _kind: ClassVar[str]  # what a state calls masks like this one
    _kinds: ClassVar[dict[str, type[AnyMask]]] = {}

    shape: tuple[int, ...]

    def __init_subclass__(cls) -> None:
        if "_kind" in vars(cls):  # a user's subclass is of its base's kind
            AnyMask._kinds[cls._kind] = cls

    # What a kind provides.

    def apply(self, x: Array, out: Array | None = None) -> Array:
        """Return the gradient with respect to the input, of one with respect to the output."""
        raise NotImplementedError

    def __getitem__(self, index: Index) -> AnyMask:
        """Return the mask of a window: ints, slices of positive steps, ``...`` and None."""
        raise NotImplementedError

    @property
    def state(self) -> dict[str, Any]:
        """The mask as a small dictionary that JSON can hold; see `from_state`."""
        raise NotImplementedError

    @classmethod
    def _from_state(cls, state: dict[str, Any]) -> Self:
        """Return the mask of a state of this kind, or raise ValueError."""
        raise NotImplementedError

    def _identity(self) -> tuple[object, ...]:
        """Return what equal masks have in common."""
        raise NotImplementedError

    # What it gets.

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Self:
        """Return the mask that a `state` describes, in whatever process and on whatever machine.

        ``AnyMask.from_state`` takes the state of any mask, and the `from_state` of a
        kind, such as ``SampleMask.from_state``, that of its own.

        Raises
        ------
        ValueError
            If `state` is none or of another kind, or comes from another mask format or
            from a generator that is not registered here.
        """
        if not isinstance(state, dict):
            raise ValueError(
                f"state must be a dictionary as a mask's state is, but got {shown(state)}"
            )
        name = state.get("kind", "mask")  # the states of a Mask name none
        kind = AnyMask._kinds.get(name) if isinstance(name, str) else None
        if kind is None:
            raise ValueError(
                f"state's kind must be one of {sorted(AnyMask._kinds)}, but got {shown(name)}"
            )
        if issubclass(cls, kind):
            return cls._from_state(state)
        if not issubclass(kind, cls):
            raise ValueError(
                f"state must be one of a {cls.__name__}, but got one of a {kind.__name__}"
            )
        return kind._from_state(state)

    @property
    def size(self) -> int:
        """Number of elements."""
        return math.prod(self.shape)

    @property
    def ndim(self) -> int:
        """Number of dimensions."""
        return len(self.shape)

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("a mask of 0 dimensions has no length")
        return self.shape[0]

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, AnyMask) or other._kind != self._kind:
            return NotImplemented
        return self._identity() == other._identity()

    def __hash__(self) -> int:
        return hash((self._kind, self._identity()))


class KeepMask(AnyMask):
    """A mask that keeps or drops each element."""

    __slots__ = ()

    @property
    def p(self) -> float | None:
        """Drop probability; None where no number is known for it."""
        raise NotImplementedError

    @property
    def scale(self) -> float:
        """What kept elements are multiplied by."""
        raise NotImplementedError

    def write(self, form: Form, x: Array, out: Array) -> None:
        """Write a `Form` of x, checked arrays, to `out`: what the family's operations do."""
        raise NotImplementedError

    def to_bool(self) -> NDArray[np.bool_]:
        """Return the mask as an array, True where it keeps: bool, shape `shape`."""
        raise NotImplementedError

    def __getitem__(self, index: Index) -> KeepMask:
        """Return the mask of a window: ints, slices of positive steps, ``...`` and None."""
        raise NotImplementedError

    def apply(self, x: Array, out: Array | None = None) -> Array:
        """Return x * scale where the mask keeps, +0.0 elsewhere, as `Mask.apply` does."""
        y = prepare(x, False, out)
        self.write(SCALE, x, y)
        return y

    def to_packed(self) -> NDArray[np.uint8]:
        """Return the keep bits, as `Mask.to_packed` does."""
        return np.packbits(self.to_bool(), bitorder="little")

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> Array:
        if copy is False:
            raise ValueError(
                f"{type(self).__name__} stores no array that could be used without a copy"
            )
        array = self.to_bool()
        return array if dtype is None else array.astype(dtype)

    def _check_shape(self, x: Array) -> None:
        if x.shape != self.shape:
            raise ValueError(f"x must have the mask's shape {self.shape}, but got {x.shape}")


class DrawnMask(KeepMask):
    """A mask whose bits a backend makes, over the shape that was drawn for."""

    __slots__ = ()

    @property
    def noise_shape(self) -> tuple[int, ...]:
        """The shape that was drawn for: 1 along shared axes."""
        raise NotImplementedError

    def _window(self) -> NDArray[np.uint64]:
        """Return the keep bits over the noise shape, packed in whole words."""
        raise NotImplementedError

    def to_packed(self) -> NDArray[np.uint8]:
        """Return the keep bits, as `Mask.to_packed` does."""
        if self.noise_shape != self.shape:
            return super().to_packed()
        return self._window().view(np.uint8)[: -(-self.size // 8)]

    def to_bool(self) -> NDArray[np.bool_]:
        """Return the mask as an array, True where it keeps: bool, shape `shape`."""
        noise = self.noise_shape
        packed = self._window().view(np.uint8)
        bits = np.unpackbits(packed, count=math.prod(noise), bitorder="little")
        kept = bits.view(np.bool_).reshape(noise)
        return kept if noise == self.shape else np.broadcast_to(kept, self.shape).copy()


def check_mask(mask: Any, kind: type[Any]) -> None:
    """Raise TypeError unless `mask` is a mask of this kind."""
    if not isinstance(mask, kind):
        raise TypeError(
            "mask must be a fastdrop.Mask, a fastdrop.ArrayMask or another mask of fastdrop's, "
            f"but got {type(mask).__name__}"
        )


# States come from files: see checks.py.


def check_format(found: Any) -> None:
    """Raise ValueError unless a state's mask format is this one."""
    if not is_same(found, FORMAT):
        raise ValueError(f"state must be of mask format {FORMAT}, but got {shown(found)}")


def stored_shape(shape: Any, name: str = "shape") -> tuple[int, ...]:
    """Return a shape from a state, or raise ValueError."""
    lengths = tuple(stored_ints(shape, name, sys.maxsize))
    if len(lengths) > MOST_DIMENSIONS:
        raise ValueError(
            f"state's {name} must have at most {MOST_DIMENSIONS} dimensions, but got {len(lengths)}"
        )
    return lengths


def stored_strides(state: dict[str, Any], strides: Any, shape: tuple[int, ...]) -> Strides | None:
    """Return a shape's strides from a state, or raise ValueError."""
    found = tuple(stored_ints(strides, "strides", sys.maxsize))
    if len(found) != len(shape):
        raise ValueError(f"state must have a stride for each dimension, but got {shown(state)}")
    return canonical(shape, found)


def check_end(state: Any, position: int, words: int, elements: int) -> None:
    """Raise ValueError if a draw goes on beyond its stream's end: none that was made does."""
    if elements > sys.maxsize or position + words > STREAM_END:
        raise ValueError(f"state's mask must end before its stream does, but got {shown(state)}")
