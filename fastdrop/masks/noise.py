"""NoiseMask: the noise of one draw of GaussianDropout or GaussianNoise."""

from __future__ import annotations

import math
from typing import Any, Final, NoReturn, Self

import numpy as np

from .. import backends
from .._formulas.normal import Noise
from ..arrays import Array, check_array, identity, prepare
from ..checks import entry, shown, stored_float, stored_int
from ..mask_format import FORMAT
from ..rng import stream_from
from ..rng.base import Stream
from ..rng.counter import STREAM_END
from ..sharing import Strides, canonical, span, strides_of
from .base import AnyMask, check_end, check_format, stored_shape, stored_strides
from .windows import Index, window_of

_FAR: Final = 512  # words apart: to make those between takes longer than a call for each element
_AT_ONCE: Final = 1 << 16  # words


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
    strides : tuple of int, optional
        How many words behind an element's the next one's is, along each axis; in C order if
        not given. Windows have others, and are worked on row by row, with every word of a row
        from its first element to its last.

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

    __slots__ = ("_strides", "draw", "noise", "shape", "stream")

    _kind = "noise"

    def __init__(
        self,
        stream: Stream,
        draw: int,
        noise: Noise,
        shape: tuple[int, ...],
        strides: Strides | None = None,
    ) -> None:
        self.stream = stream
        self.draw = draw
        self.noise = noise
        self.shape = shape
        self._strides = strides

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
        self._add(grad, y)
        return y

    def _add(self, x: Array, out: Array) -> None:
        """Write x with the noise, added or multiplied, to `out`: real arrays of this shape."""
        if self._strides is None:
            backends.add_noise(self.stream, self.draw, self.noise, x, out)
        elif out.size:
            axes = [(n, step) for n, step in zip(self.shape, self._strides, strict=True) if n != 1]
            add = self._add_to_all if self.stream.sequential else self._add_by_rows
            add(axes, x.squeeze(), out.squeeze())

    def _add_to_all(self, axes: list[tuple[int, int]], x: Array, y: Array) -> None:
        """Do as `_add_by_rows` by a generator that would begin anew for each row."""
        whole = np.zeros(1 + sum((n - 1) * step for n, step in axes), x.dtype)
        steps = [step * x.itemsize for _, step in axes]
        window = np.lib.stride_tricks.as_strided(whole, x.shape, steps)
        window[...] = x
        backends.add_noise(self.stream, self.draw, self.noise, whole, whole)
        y[...] = window

    def _add_by_rows(self, axes: list[tuple[int, int]], x: Array, y: Array) -> None:
        """Write x with a window's noise to y, of no axis of length 1."""
        if not axes or not 0 < axes[-1][1] <= _FAR:  # 0: only a state can say so
            axes, x, y = [*axes, (1, 1)], x[..., None], y[..., None]
        *outer, (_, step) = axes
        for index in np.ndindex(*(n for n, _ in outer)):
            draw = self.draw + sum(i * way for i, (_, way) in zip(index, outer, strict=True))
            if step == 1:
                backends.add_noise(self.stream, draw, self.noise, x[index], y[index])
            else:
                self._add_to_row(draw, step, x[index], y[index])

    def _add_to_row(self, draw: int, step: int, x: Array, y: Array) -> None:
        """Write a row whose elements' words are `step` apart: those between are made, too."""
        piece = _AT_ONCE // step
        for begin in range(0, len(x), piece):
            part = x[begin : begin + piece]
            words = np.zeros((len(part) - 1) * step + 1, x.dtype)
            words[::step] = part
            backends.add_noise(self.stream, draw + begin * step, self.noise, words, words)
            y[begin : begin + piece] = words[::step]

    def __getitem__(self, index: Index) -> NoiseMask:
        """Return the mask of a window: ints, slices of positive steps, ``...`` and None."""
        whole = strides_of(self.shape, self._strides)
        first, shape, strides = window_of(index, self.shape, whole)
        draw = self.draw + first
        return NoiseMask(self.stream, draw, self.noise, shape, canonical(shape, strides))

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> NoReturn:
        # Without this NumPy would take a mask for a sequence of its rows.
        raise TypeError("a NoiseMask keeps or drops nothing: it stands for no array of bool")

    def _identity(self) -> tuple[object, ...]:
        return self.stream, self.draw, self.noise, self.shape, self._strides

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
            **({} if self._strides is None else {"strides": list(self._strides)}),
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
        draw, strides = stored_int(draw, "draw", STREAM_END), state.get("strides")
        if strides is not None:
            strides = stored_strides(state, strides, shape)
        words = span(shape, strides_of(shape, strides))
        check_end(state, draw, words, max(words, math.prod(shape)))
        return cls(stream_from(stream), draw, noise, shape, strides)

    def __getstate__(self) -> list[Any]:
        # What pickles have held since this was a dataclass, and what has come behind it.
        return [self.stream, self.draw, self.noise, self.shape, self._strides]

    def __setstate__(self, state: list[Any]) -> None:
        self.stream, self.draw, self.noise, self.shape, self._strides = [*state, None][:5]

    def __repr__(self) -> str:
        rng = self.stream.algorithm.name
        return f"NoiseMask(shape={self.shape}, noise={self.noise}, rng={rng!r})"
