"""NoiseMask: the noise of one draw of GaussianDropout or GaussianNoise."""

from __future__ import annotations

from dataclasses import dataclass

from .. import backends
from .._formulas.normal import Noise
from ..arrays import Array, check_array, identity, prepare
from ..rng import Stream
from .base import AnyMask


@dataclass(frozen=True, slots=True)
class NoiseMask(AnyMask):
    """The noise of one draw: evaluated when asked for, never stored.

    `forward_mask` and `mask` of GaussianDropout and GaussianNoise return these.

    Attributes
    ----------
    stream : Stream
    draw : int
        Where in the stream the noise comes from.
    noise : Noise
        Whether it is a factor, and its standard deviation.
    shape : tuple of int

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> y, mask = fastdrop.GaussianDropout(p=0.5, rng=1).forward_mask(np.ones(3))
    >>> bool((mask.apply(np.ones(3)) == y).all())
    True
    """

    stream: Stream
    draw: int
    noise: Noise
    shape: tuple[int, ...]

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
