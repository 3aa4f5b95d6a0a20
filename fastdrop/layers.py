"""Dropout: a layer with a drop probability, a mode and a generator."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from . import backends
from .arrays import Array, identity, prepare
from .mask import Mask
from .mask_format import FORMAT, Rate, rate
from .rng import AnyRNG, Stream, as_rng, default_rng

if TYPE_CHECKING:
    from .rng import RNGLike


class Dropout:
    """Dropout that switches with train and eval mode, as torch.nn.Dropout does.

    In training mode each element becomes +0.0 with probability `p`, and the
    others are multiplied by 1/(1-p). In eval mode the layer is the identity.

    Parameters
    ----------
    p : float, optional
        Drop probability, 0 <= p <= 1. May be assigned later.
    inplace : bool, optional
        Write into the input.
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

    def __init__(self, p: float = 0.5, inplace: bool = False, *, rng: RNGLike = None) -> None:
        self._rate = rate(p)
        self.inplace = bool(inplace)
        self.training = True
        self._rng: AnyRNG | None = None if rng is None else as_rng(rng)
        self._newest: tuple[Stream, int, Rate, tuple[int, ...]] | None = None
        self._called = False

    @property
    def p(self) -> float:
        """Drop probability."""
        return self._rate.p

    @p.setter
    def p(self, p: float) -> None:
        self._rate = rate(p)

    @property
    def rng(self) -> AnyRNG:
        """The generator that masks are drawn from."""
        return self._rng or default_rng()

    @property
    def mask(self) -> Mask | None:
        """The newest forward's mask."""
        return None if self._newest is None else Mask(*self._newest)

    def train(self, mode: bool = True) -> Self:
        """Switch to training mode, or to eval mode with ``mode=False``; return self."""
        self.training = bool(mode)
        return self

    def eval(self) -> Self:
        """Switch to eval mode; return self."""
        return self.train(False)

    def __call__(self, x: Array, out: Array | None = None) -> Array:
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
        rate = self._rate
        if not self.training or rate.p == 0.0:
            self._newest = None
            self._called = True
            return identity(x, self.inplace, out)
        y = prepare(x, self.inplace, out)
        stream, draw = (self._rng or default_rng()).reserve(rate.words(x.size))
        backends.apply(stream, draw, rate, 0, x, y)
        self._newest = stream, draw, rate, x.shape
        self._called = True
        return y

    forward = __call__

    def backward(self, grad: Array, out: Array | None = None) -> Array:
        """Return the gradient with respect to the newest forward's input.

        The forward's mask is evaluated again: ``grad * scale`` where it kept,
        +0.0 elsewhere, and `grad` itself after an identity.

        Parameters
        ----------
        grad : ndarray
            Gradient with respect to the output, of its shape.
        out : ndarray, optional
            Where to write; `grad` itself is allowed.
        """
        if not self._called:
            raise RuntimeError("backward needs a forward before it, but there was none")
        if self._newest is not None:
            return Mask(*self._newest).apply(grad, out)
        return identity(grad, False, out)

    def state_dict(self) -> dict[str, Any]:
        """Return what an exact resume needs: p, mode, and the generator's state."""
        return {
            "mask_format": FORMAT,
            "p": self.p,
            "inplace": self.inplace,
            "training": self.training,
            "rng": self.rng.state,
        }

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a `state_dict`: the next mask is the one that would have come.

        Raises
        ------
        ValueError
            If `state` lacks an entry, or comes from another mask format or RNG.
        """
        missing = {"mask_format", "p", "inplace", "training", "rng"} - set(state)
        if missing:
            raise ValueError(
                f"state must have the entries of state_dict(), but lacks {sorted(missing)}"
            )
        if state["mask_format"] != FORMAT:
            raise ValueError(
                f"state must be of mask format {FORMAT}, but got {state['mask_format']!r}"
            )
        checked = rate(state["p"])
        self.rng.state = state["rng"]
        self._rate = checked
        self.inplace = bool(state["inplace"])
        self.training = bool(state["training"])

    def __repr__(self) -> str:
        return f"{type(self).__name__}(p={self.p}, inplace={self.inplace})"
