"""Dropout: a layer with a drop probability, a mode and a generator."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import TYPE_CHECKING, ClassVar

from .. import backends
from ..arrays import Array, plain_shape
from ..rng import default_rng
from ..sharing import as_ints, noise_entries, noise_shape_of
from .base import MaskLayer

if TYPE_CHECKING:
    from ..rng import RNGLike


class Dropout(MaskLayer):
    """Dropout that switches with train and eval mode, as torch.nn.Dropout does.

    In training mode each element becomes +0.0 with probability `p`, and the
    others are multiplied by 1/(1-p). In eval mode the layer is the identity.

    Parameters
    ----------
    p : float, optional
        Drop probability, 0 <= p <= 1. May be assigned later.
    inplace : bool, optional
        Write into the input.
    noise_shape : sequence of int or None, optional
        Shape to draw masks over, as for `dropout`. May be assigned later.
    broadcast_dims : iterable of int, optional
        Or the axes whose elements share their fate, as for `dropout`.
    always : bool, optional
        Drop in eval mode too, as Monte-Carlo dropout does.
    rng : optional
        As for `dropout`. None stands for the default generator, which belongs
        to no layer: pickle and copy do not carry it, and load_state_dict sets
        it for the whole process, as restoring torch's generator does. Anything
        else is the layer's own.

    Attributes
    ----------
    p : float
    inplace : bool
    training : bool
        True at first; `train` and `eval` set it.
    mask : Mask or None
        The newest forward's mask; None before the first and after an identity.

    References
    ----------
    G. E. Hinton, N. Srivastava, A. Krizhevsky, I. Sutskever, R. R.
    Salakhutdinov, "Improving neural networks by preventing co-adaptation of
    feature detectors", arXiv:1207.0580, 2012.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> layer = fastdrop.Dropout(p=0.5, rng=0)
    >>> x = np.ones((2, 4), np.float32)
    >>> layer(x).shape
    (2, 4)
    >>> layer.eval()(x) is x
    True
    >>> layer
    Dropout(p=0.5, inplace=False)
    """

    _settings: ClassVar[tuple[str, ...]] = (
        "p",
        "inplace",
        "noise_shape",
        "broadcast_dims",
        "always",
    )

    def __init__(
        self,
        p: float = 0.5,
        inplace: bool = False,
        *,
        noise_shape: Sequence[int | None] | None = None,
        broadcast_dims: Iterable[int] = (),
        always: bool = False,
        rng: RNGLike = None,
    ) -> None:
        super().__init__(p, inplace, always, rng)
        self._noise: tuple[int | None, ...] | None = None
        self._dims: tuple[int, ...] = ()
        self.noise_shape = noise_shape
        self.broadcast_dims = broadcast_dims

    @property
    def noise_shape(self) -> tuple[int | None, ...] | None:
        """The shape that masks are drawn over; None entries are x's."""
        return self._noise

    @noise_shape.setter
    def noise_shape(self, noise_shape: Sequence[int | None] | None) -> None:
        self._noise = None if noise_shape is None else noise_entries(noise_shape)
        self._shares = self._noise is not None or self._dims != ()

    @property
    def broadcast_dims(self) -> tuple[int, ...]:
        """Axes along which elements share their fate."""
        return self._dims

    @broadcast_dims.setter
    def broadcast_dims(self, broadcast_dims: Iterable[int]) -> None:
        self._dims = as_ints(broadcast_dims, "broadcast_dims")
        self._shares = self._noise is not None or self._dims != ()

    def _noise_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        return noise_shape_of(shape, self._noise, self._dims)

    def forward(self, x: Array, out: Array | None = None) -> Array:
        """Return `x` with elements dropped, or `x` itself in eval mode and for p = 0.

        Parameters
        ----------
        x : ndarray
            Any shape; dtypes as for `dropout`.
        out : ndarray, optional
            Where to write: of x's shape and dtype; `x` itself, or no overlap.

        Returns
        -------
        ndarray
            `out`, or `x` if `inplace`, or a new array in x's layout.
        """
        if self._shares:
            return self._run(x, out)[0]
        if self.training or self.always:
            rate = self._rate
            if rate.p != 0.0:
                source, inplace = self._rng or default_rng(), self.inplace
                drawn = backends.quick(source, rate, x, inplace, out)
                y, stream, position = drawn or backends.draw_in_steps(source, rate, x, inplace, out)
                self._newest = stream, position, rate, x.shape, 0, None
                return y
        if out is None and (shape := plain_shape(x)) is not None:
            self._passed, self._newest = shape, None
            return x
        return self._pass(x, out)

    __call__ = forward
