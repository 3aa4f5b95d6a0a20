"""Gaussian noise, multiplied or added, from the same streams as masks.

Element i, in C order, takes word i of its draw (see `fastdrop.normal`), in plain
NumPy for every backend: the same numbers on every machine, at NumPy's speed.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar, Final

import numpy as np

from ..arrays import Array, check_array, identity, prepare
from ..backends.form import narrowed, widened
from ..layer import Layer
from ..mask_format import rate
from ..normal import Floats, normals
from ..rng import Stream

if TYPE_CHECKING:
    from ..rng import RNGLike

_AT_ONCE: Final = 1 << 14  # elements whose intermediate arrays stay in cache


class _Noise(Layer):
    """A layer that draws one normal variate for each element."""

    def _forget(self) -> None:
        self._newest: tuple[Stream, int, tuple[int, ...]] | None = None
        self._called = False

    @abstractmethod
    def _is_identity(self) -> bool:
        """Return whether there is no noise to add in training mode."""

    @abstractmethod
    def _combine(self, x: Array, z: Floats) -> Array:
        """Return x, in its own or single precision, with noise of variates z."""

    def __call__(self, x: Array, out: Array | None = None) -> Array:
        """Return `x` with noise, or `x` itself in eval mode and where there is none.

        Parameters
        ----------
        x : ndarray of a real dtype
            Any shape.
        out : ndarray, optional
            Where to write: of x's shape and dtype; `x` itself, or no overlap.
        """
        check_array(x)
        if x.dtype.kind == "c":
            raise TypeError(f"x must be of a real dtype for noise, but got {x.dtype}")
        if not (self.training or self.always) or self._is_identity():
            y = identity(x, self.inplace, out)
            self._newest, self._called = None, True
            return y
        y = prepare(x, self.inplace, out)
        stream, draw = self.rng.reserve(x.size)
        self._write(stream, draw, x, y)
        self._newest, self._called = (stream, draw, x.shape), True
        return y

    def _write(self, stream: Stream, draw: int, x: Array, out: Array) -> None:
        # A sequential stream would go back to its start for every piece.
        step = max(x.size, 1) if stream.sequential else _AT_ONCE
        native = x.dtype.newbyteorder("=")
        for start in range(0, x.size, step):
            piece = x.flat[start : start + step].astype(native, copy=False)
            z = normals(stream.words(draw + start, piece.size))
            with np.errstate(all="ignore"):
                y = narrowed(self._combine(widened(piece), z), native)
            out.flat[start : start + step] = y

    def backward(self, grad: Array, out: Array | None = None) -> Array:
        """Return the gradient with respect to the newest forward's input.

        Parameters
        ----------
        grad : ndarray
            Gradient with respect to the output, of its shape.
        out : ndarray, optional
            Where to write; `grad` itself is allowed.
        """
        if not self._called:
            raise RuntimeError("backward needs a forward before it, but there was none")
        newest = self._newest  # read once: another thread's forward may replace it
        if newest is None:
            return identity(grad, False, out)
        stream, draw, shape = newest
        check_array(grad, "grad")
        if grad.shape != shape:
            raise ValueError(f"grad must have the forward's shape {shape}, but got {grad.shape}")
        return self._differentiate(stream, draw, grad, out)

    @abstractmethod
    def _differentiate(self, stream: Stream, draw: int, grad: Array, out: Array | None) -> Array:
        """Return the gradient under a draw's noise."""


class GaussianDropout(_Noise):
    """Multiply each element by a normal variate of mean 1 and variance p / (1 - p).

    The mean and variance of the factor are those of dropout.

    Parameters
    ----------
    p : float, optional
        The drop probability of the dropout it stands for, 0 <= p < 1. May be
        assigned later, after the backward of the forward before.
    inplace : bool, optional
        Write into the input.
    always : bool, optional
        Also in eval mode.
    rng : optional
        As for `Dropout`.

    Raises
    ------
    ValueError
        If `p` is out of range.

    References
    ----------
    N. Srivastava et al., "Dropout: a simple way to prevent neural networks from
    overfitting", JMLR 15, 2014, section 10.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> y = fastdrop.GaussianDropout(p=0.5, rng=0)(np.ones(100_000))
    >>> bool(abs(y.mean() - 1) < 0.02 and abs(y.std() - 1) < 0.02)
    True
    """

    _settings: ClassVar[tuple[str, ...]] = ("p", "inplace", "always")

    def __init__(
        self,
        p: float = 0.5,
        inplace: bool = False,
        *,
        always: bool = False,
        rng: RNGLike = None,
    ) -> None:
        super().__init__(inplace, always, rng)
        self.p = p

    @property
    def p(self) -> float:
        """Drop probability of the dropout that this stands for."""
        return self._p

    @p.setter
    def p(self, p: float) -> None:
        checked = rate(p).p
        if checked == 1.0:
            raise ValueError("p must be below 1, at which the noise is infinite, but got 1.0")
        self._p = checked

    def _is_identity(self) -> bool:
        return self._p == 0.0

    def _combine(self, x: Array, z: Floats) -> Array:
        factor = 1.0 + math.sqrt(self._p / (1.0 - self._p)) * z
        y: Array = x * factor.astype(x.dtype)
        return y

    def _differentiate(self, stream: Stream, draw: int, grad: Array, out: Array | None) -> Array:
        y = prepare(grad, False, out)
        self._write(stream, draw, grad, y)
        return y


class GaussianNoise(_Noise):
    """Add a normal variate of mean 0 to each element.

    Parameters
    ----------
    stddev : float, optional
        Standard deviation, 0 or more and finite. May be assigned later.
    inplace : bool, optional
        Write into the input.
    always : bool, optional
        Also in eval mode.
    rng : optional
        As for `Dropout`.

    Raises
    ------
    ValueError
        If `stddev` is out of range.

    References
    ----------
    C. M. Bishop, "Training with noise is equivalent to Tikhonov regularization",
    Neural Computation 7, 1995.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> y = fastdrop.GaussianNoise(stddev=2.0, rng=0)(np.zeros(100_000))
    >>> bool(abs(y.mean()) < 0.04 and abs(y.std() - 2) < 0.04)
    True
    """

    _settings: ClassVar[tuple[str, ...]] = ("stddev", "inplace", "always")

    def __init__(
        self,
        stddev: float = 1.0,
        inplace: bool = False,
        *,
        always: bool = False,
        rng: RNGLike = None,
    ) -> None:
        super().__init__(inplace, always, rng)
        self.stddev = stddev

    @property
    def stddev(self) -> float:
        """Standard deviation of the noise."""
        return self._stddev

    @stddev.setter
    def stddev(self, stddev: float) -> None:
        if not 0.0 <= stddev < math.inf:
            raise ValueError(f"stddev must be 0 or more, and finite, but got {stddev}")
        self._stddev = float(stddev)

    def _is_identity(self) -> bool:
        return self._stddev == 0.0

    def _combine(self, x: Array, z: Floats) -> Array:
        y: Array = x + (self._stddev * z).astype(x.dtype)
        return y

    def _differentiate(self, stream: Stream, draw: int, grad: Array, out: Array | None) -> Array:
        return identity(grad, False, out)
