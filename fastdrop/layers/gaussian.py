"""Gaussian noise, multiplied or added, from the same streams as masks.

Element i, in C order, takes word i of its draw: see `fastdrop.normal`.
"""

from __future__ import annotations

import math
from abc import abstractmethod
from typing import TYPE_CHECKING, ClassVar

from .. import backends
from .._formulas.normal import Noise
from ..arrays import Array
from ..mask_format import rate
from ..masks.noise import NoiseMask
from .base import Drawn, Layer, Shape

if TYPE_CHECKING:
    from ..rng import RNGLike


class NoiseLayer(Layer):
    """A layer that draws one normal variate for each element."""

    _takes_complex = False

    @abstractmethod
    def _noise(self) -> Noise:
        """Return what is done with the variates."""

    def _is_identity(self) -> bool:
        return self._noise().spread == 0.0

    def _draw(self, noise_shape: Shape, x: Array, out: Array) -> Drawn:
        noise = self._noise()
        stream, position = self.rng.reserve(x.size)
        backends.add_noise(stream, position, noise, x, out)
        return stream, position, noise, x.shape

    def _ahead(self, noise_shape: Shape, shape: Shape) -> tuple[Drawn, None]:
        noise = self._noise()
        return (*self.rng.reserve(math.prod(shape)), noise, shape), None

    def _nothing(self, shape: Shape) -> Drawn:
        return *self.rng.reserve(0), self._noise()._replace(spread=0.0), shape

    def _mask_of(self, drawn: Drawn) -> NoiseMask:
        return NoiseMask(*drawn)


class GaussianDropout(NoiseLayer):
    """Multiply each element by a normal variate of mean 1 and variance p / (1 - p).

    The mean and variance of the factor are those of dropout.

    Parameters
    ----------
    p : float, optional
        The drop probability of the dropout it stands for, 0 <= p < 1. May be
        assigned later.
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

    def _noise(self) -> Noise:
        return Noise(True, math.sqrt(self._p / (1.0 - self._p)))


class GaussianNoise(NoiseLayer):
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

    def _noise(self) -> Noise:
        return Noise(False, self._stddev)
