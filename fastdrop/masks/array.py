"""ArrayMask: a mask that is given and not drawn."""

from __future__ import annotations

import copy
import math
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, Self

import numpy as np

from .. import backends
from ..arrays import Array, check_class
from ..backends.form import Form
from ..checks import as_float, entry, shown, stored_float
from ..mask_format import rate, stored_rate
from ..sharing import as_ints, noise_of, packed_strides, span
from .base import KeepMask, stored_shape
from .windows import Index, window_of

if TYPE_CHECKING:
    from numpy.typing import NDArray


class ArrayMask(KeepMask):
    """A mask of one's own, which stands wherever a drawn one does.

    ``mask.apply(x)`` is dropout with it, `dropout_backward` and the fused
    functions (``mask=``) take it. One bit an element is stored.

    Parameters
    ----------
    kept : ndarray of bool
        True where an element is kept. It is copied.
    p : float, optional
        The drop probability it stands for: kept elements are multiplied by
        1 / (1 - p).
    scale : float, optional
        Or what kept elements are multiplied by, 0 or more and finite. One of
        the two must be given.
    shape : sequence of int, optional
        A shape that `kept` broadcasts to: elements along its axes of length 1
        share their fate. Its own if not given.

    Attributes
    ----------
    shape : tuple of int
    noise_shape : tuple of int
        `shape` with length 1 along the axes whose elements share their fate.
    p : float or None
        None where `scale` was given.
    scale : float

    Raises
    ------
    TypeError
        If `kept` is no array of bool, or `p` or `scale` no number.
    ValueError
        If not one of `p` and `scale` is given, one is out of range, or `kept`
        does not broadcast to `shape`.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x, kept = np.arange(6.0).reshape(2, 3), np.array([True, False, True])
    >>> mask = fastdrop.ArrayMask(kept, p=0.5, shape=(2, 3))
    >>> mask.apply(x)
    array([[ 0.,  0.,  4.],
           [ 6.,  0., 10.]])
    >>> fastdrop.dropout_backward(np.ones((2, 3)), mask)
    array([[2., 0., 2.],
           [2., 0., 2.]])
    """

    __slots__ = ("_keep", "_strides", "noise_shape", "p", "scale", "shape")

    _kind = "array"

    p: float | None
    scale: float

    def __init__(
        self,
        kept: NDArray[np.bool_],
        *,
        p: float | None = None,
        scale: float | None = None,
        shape: Iterable[int] | None = None,
    ) -> None:
        _check_kind(kept, np.bool_, "kept")
        self.p, self.scale = _checked_scale(p, scale)
        self._hold(kept, kept.shape if shape is None else as_ints(shape, "shape"))

    @classmethod
    def from_packed(
        cls,
        bits: NDArray[np.uint8],
        shape: Iterable[int],
        *,
        p: float | None = None,
        scale: float | None = None,
    ) -> ArrayMask:
        """Return the mask whose `to_packed` these bits are.

        Parameters
        ----------
        bits : ndarray of uint8, shape (ceil(size / 8),)
            Element i, in C order, is kept if bit i % 8 of byte i // 8 is 1.
        shape : sequence of int
            The mask's.
        p : float, optional
            As for `ArrayMask`.
        scale : float, optional
            As for `ArrayMask`.

        Examples
        --------
        >>> import numpy as np, fastdrop
        >>> mask = fastdrop.ArrayMask.from_packed(np.array([5], np.uint8), (3,), scale=1.0)
        >>> mask.to_bool()
        array([ True, False,  True])
        """
        _check_kind(bits, np.uint8, "bits")
        lengths = as_ints(shape, "shape")
        size = math.prod(lengths)
        if any(n < 0 for n in lengths) or bits.shape != (-(-size // 8),):
            raise ValueError(
                "bits must have a byte for each 8 elements of shape, in 1 dimension, "
                f"but got shapes {bits.shape} and {shown(lengths)}"
            )
        return cls(_unpacked(bits, lengths), p=p, scale=scale)

    def _hold(self, kept: NDArray[np.bool_], shape: tuple[int, ...]) -> None:
        try:
            np.broadcast_to(kept, shape)
        except (ValueError, OverflowError):
            raise ValueError(
                f"shape must be one that kept's, {kept.shape}, broadcasts to, "
                f"but got {shown(shape)}"
            ) from None
        self.shape = shape
        self.noise_shape = (1,) * (len(shape) - kept.ndim) + kept.shape
        self._strides = packed_strides(shape, self.noise_shape)
        octets = np.packbits(kept, bitorder="little")
        self._keep = np.zeros(-(-kept.size // 64), np.uint64)
        self._keep.view(np.uint8)[: octets.size] = octets

    def _kept(self) -> NDArray[np.bool_]:
        """Return which elements are kept, in the noise shape."""
        return _unpacked(self._keep.view(np.uint8), self.noise_shape)

    def write(self, form: Form, x: Array, out: Array) -> None:
        """Write a `Form` of x, checked arrays, to `out`, as `Mask.write` does."""
        self._check_shape(x)
        backends.evaluate_bits(self._keep, self._strides, self.scale, form, x, out)

    def to_bool(self) -> NDArray[np.bool_]:
        """Return the mask as an array, True where it keeps: bool, shape `shape`."""
        return np.broadcast_to(self._kept(), self.shape).copy()

    def __getitem__(self, index: Index) -> ArrayMask:
        """Return the mask of a window: ints, slices of positive steps, ``...`` and None."""
        first, shape, strides = window_of(index, self.shape, self._strides)
        noise = noise_of(shape, strides)
        n = span(noise, strides)
        octets = self._keep.view(np.uint8)[first // 8 : (first + n + 7) // 8]
        bits = np.unpackbits(octets, bitorder="little")[first % 8 :][:n].view(np.bool_)
        part = copy.copy(self)
        part._hold(np.lib.stride_tricks.as_strided(bits, noise, strides), shape)
        return part

    def _identity(self) -> tuple[object, ...]:
        return self.shape, self.noise_shape, self.p, self.scale, self._keep.tobytes()

    @property
    def state(self) -> dict[str, Any]:
        """The mask as a dictionary that JSON can hold, its bits included, in base64.

        See `AnyMask.from_state`.
        """
        from binascii import b2a_base64

        octets = np.packbits(self._kept(), bitorder="little").tobytes()
        return {
            "kind": self._kind,
            "bits": b2a_base64(octets, newline=False).decode(),
            "shape": list(self.shape),
            "noise_shape": list(self.noise_shape),
            "p": self.p,
            "scale": self.scale,
        }

    @classmethod
    def _from_state(cls, state: dict[str, Any]) -> Self:
        bits, shape, noise_shape, p, scale = (
            entry(state, name, "ArrayMask.state")
            for name in ("bits", "shape", "noise_shape", "p", "scale")
        )
        mask = cls.__new__(cls)
        mask.p = None if p is None else stored_rate(p).p
        mask.scale = stored_float(scale, "scale")
        lengths = stored_shape(noise_shape, "noise_shape")
        kept = _unpacked(_stored_octets(bits, math.prod(lengths)), lengths)
        mask._hold(kept, stored_shape(shape))
        return mask

    def __repr__(self) -> str:
        shared = "" if self.noise_shape == self.shape else f", noise_shape={self.noise_shape}"
        number = f"scale={self.scale}" if self.p is None else f"p={self.p}"
        return f"ArrayMask(shape={self.shape}{shared}, {number})"


def _unpacked(octets: NDArray[np.uint8], shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return packed bits as an array of bool."""
    bits = np.unpackbits(octets, count=math.prod(shape), bitorder="little")
    return bits.view(np.bool_).reshape(shape)


def _stored_octets(bits: Any, size: int) -> NDArray[np.uint8]:
    """Return the packed bits of a state, or raise ValueError if they are not `size` bits."""
    from binascii import a2b_base64

    try:
        octets = a2b_base64(bits, strict_mode=True) if isinstance(bits, str) else None
    except ValueError:  # what binascii raises is one, too
        octets = None
    if octets is None or len(octets) != -(-size // 8):
        raise ValueError(
            f"state's bits must be the base64 of {-(-size // 8)} bytes, but got {shown(bits)}"
        )
    return np.frombuffer(octets, np.uint8)


def _check_kind(a: Any, dtype: type[np.generic], name: str) -> None:
    check_class(a, name)
    if a.dtype != dtype:
        raise TypeError(f"{name} must be an array of {dtype.__name__}, but got {a.dtype}")


def _checked_scale(p: Any, scale: Any) -> tuple[float | None, float]:
    """Return a mask's p, as far as it is known, and its scale."""
    if (p is None) == (scale is None):
        raise ValueError(
            f"one of p and scale must be given, but got p={shown(p)} and scale={shown(scale)}"
        )
    if scale is None:
        checked = rate(p)
        return checked.p, checked.scale
    number = as_float(scale, "scale")
    if not 0.0 <= number < math.inf:
        raise ValueError(f"scale must be 0 or more, and finite, but got {shown(scale)}")
    return None, number
