"""NoiseMask: the noise of one draw of GaussianDropout or GaussianNoise."""

from __future__ import annotations

import math
from typing import Any, NoReturn, Self

from .. import backends
from .._formulas.normal import Noise
from ..arrays import Array, check_array, identity, prepare
from ..checks import entry, shown, stored_float, stored_int
from ..mask_format import FORMAT
from ..rng import stream_from
from ..rng.base import Stream
from ..rng.counter import STREAM_END
from .base import AnyMask, check_end, check_format, picked, stored_shape


class NoiseMask(AnyMask):
    """The noise of one draw: evaluated when asked for, never stored.

    `forward_mask` and `mask` of GaussianDropout and GaussianNoise return these.
    Noise drops nothing, so that there is nothing to keep, no `p` or `scale`, and no
    `to_bool`: the rest is what every mask has (`AnyMask`).

    Parameters
    ----------
    stream : Stream
        Where the noise comes from.
    draw : int
        The first element's word in the stream; each element takes one.
    noise : Noise
        Whether it is a factor, and its standard deviation.
    shape : tuple of int
        The mask's.

    Attributes
    ----------
    stream : Stream
    draw : int
    noise : Noise
    shape : tuple of int

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x = np.ones((4, 3))
    >>> y, mask = fastdrop.GaussianDropout(p=0.5, rng=1).forward_mask(x)
    >>> bool((mask.apply(x) == y).all()), bool((mask[2:].apply(x[2:]) == y[2:]).all())
    (True, True)
    """

    __slots__ = ("draw", "noise", "shape", "stream")

    _kind = "noise"

    def __init__(self, stream: Stream, draw: int, noise: Noise, shape: tuple[int, ...]) -> None:
        self.stream = stream
        self.draw = draw
        self.noise = noise
        self.shape = shape

    def apply(self, grad: Array, out: Array | None = None) -> Array:
        """Return the gradient with respect to the input, of one with respect to the output.

        Parameters
        ----------
        grad : ndarray
            Of the mask's shape.
        out : ndarray, optional
            Where to write; `grad` itself is allowed.

        Returns
        -------
        ndarray
            `grad` times the factor; for noise that was added, `grad` itself.
        """
        check_array(grad, "grad")
        if grad.shape != self.shape:
            raise ValueError(
                f"grad must have the forward's shape {self.shape}, but got {grad.shape}"
            )
        if not self.noise.factor or self.noise.spread == 0.0:
            return identity(grad, False, out)
        if grad.dtype.kind == "c":
            raise TypeError(f"grad must be of a real dtype for noise, but got {grad.dtype}")
        y = prepare(grad, False, out)
        backends.add_noise(self.stream, self.draw, self.noise, grad, y)
        return y

    def __getitem__(self, rows: int | slice) -> NoiseMask:
        """Return the mask of some rows (the first axis): an int, or a slice of step 1."""
        start, shape = picked(rows, self.shape)
        draw = self.draw + start * math.prod(self.shape[1:])
        return NoiseMask(self.stream, draw, self.noise, shape)

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NoReturn:
        # Without this NumPy would take a mask for a sequence of its rows.
        raise TypeError("a NoiseMask keeps or drops nothing: it stands for no array of bool")

    def _identity(self) -> tuple[object, ...]:
        return self.stream, self.draw, self.noise, self.shape

    @property
    def state(self) -> dict[str, Any]:
        """The mask as a small dictionary that JSON can hold; see `AnyMask.from_state`."""
        return {
            "kind": self._kind,
            "mask_format": FORMAT,
            "stream": self.stream.state,
            "draw": self.draw,
            "factor": self.noise.factor,
            "spread": self.noise.spread,
            "shape": list(self.shape),
        }

    @classmethod
    def _from_state(cls, state: dict[str, Any]) -> Self:
        check_format(entry(state, "mask_format", "NoiseMask.state"))
        stream, draw, factor, spread, shape = (
            entry(state, name, "NoiseMask.state")
            for name in ("stream", "draw", "factor", "spread", "shape")
        )
        if type(factor) is not bool:
            raise ValueError(f"state's factor must be True or False, but got {shown(factor)}")
        noise, shape = Noise(factor, stored_float(spread, "spread")), stored_shape(shape)
        draw, size = stored_int(draw, "draw", STREAM_END), math.prod(shape)
        check_end(state, draw, size, size)
        return cls(stream_from(stream), draw, noise, shape)

    def __getstate__(self) -> list[Any]:
        # What pickles have held since this was a dataclass.
        return [self.stream, self.draw, self.noise, self.shape]

    def __setstate__(self, state: list[Any]) -> None:
        self.stream, self.draw, self.noise, self.shape = state

    def __repr__(self) -> str:
        rng = self.stream.algorithm.name
        return f"NoiseMask(shape={self.shape}, noise={self.noise}, rng={rng!r})"
