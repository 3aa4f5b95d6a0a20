"""DropConnect: dropout of a layer's weights."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .base import MaskLayer

if TYPE_CHECKING:
    from ..rng import RNGLike


class DropConnect(MaskLayer):
    """Zero each weight with probability `p` and scale the others: call it on the weights.

    ``x @ layer(w)`` drops connections, where ``layer(x) @ w`` would drop units.
    `backward` takes the gradient with respect to the dropped weights to that
    with respect to the weights.

    Parameters
    ----------
    p : float, optional
        Drop probability, 0 <= p <= 1. May be assigned later.
    inplace : bool, optional
        Write into the weights, which are lost then.
    always : bool, optional
        Drop in eval mode too.
    rng : optional
        As for `Dropout`.

    References
    ----------
    L. Wan, M. Zeiler, S. Zhang, Y. LeCun, R. Fergus, "Regularization of neural
    networks using DropConnect", ICML 2013. At inference the paper samples from
    a normal approximation; this layer uses the mean, as weight dropout does
    elsewhere.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> layer, x, w = fastdrop.DropConnect(p=0.5, rng=0), np.ones((3, 4)), np.ones((4, 2))
    >>> y = x @ layer(w)
    >>> grad_w = layer.backward(x.T @ np.ones_like(y))
    >>> grad_w.shape
    (4, 2)
    """

    def __init__(
        self,
        p: float = 0.5,
        inplace: bool = False,
        *,
        always: bool = False,
        rng: RNGLike = None,
    ) -> None:
        super().__init__(p, inplace, always, rng)
