"""AlphaDropout: dropout for self-normalising networks, which keeps mean and variance."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Final

from ..backends.form import SCALE, Form
from ..mask_format import Rate
from .base import MaskLayer

if TYPE_CHECKING:
    from ..rng import RNGLike

# SELU's limit at minus infinity, -scale * alpha, which is what a dropped unit is set to.
SATURATION: Final = -1.0507009873554804934193349852946 * 1.6732632423543772848170429916717


class AlphaDropout(MaskLayer):
    """Set elements to SELU's negative limit with probability `p`, and restore mean and variance.

    With a' = -1.7580993408473766, kept elements become ``a * x + b`` and dropped
    ones ``a * a' + b``, where ``a = ((1 - p) * (1 + p * a'**2)) ** -0.5`` and ``b =
    -a * p * a'``: zero mean and unit variance in, zero mean and unit variance out.
    For p = 1 the output is 0, as in torch.

    Parameters
    ----------
    p : float, optional
        Drop probability, 0 <= p <= 1. May be assigned later.
    inplace : bool, optional
        Write into the input.
    always : bool, optional
        Drop in eval mode too.
    rng : optional
        As for `Dropout`.

    Raises
    ------
    TypeError
        When called with a complex input.

    Notes
    -----
    The mask's `scale` is a, so that ``mask.apply(grad)`` is the gradient.

    References
    ----------
    G. Klambauer, T. Unterthiner, A. Mayr, S. Hochreiter, "Self-normalizing
    neural networks", NeurIPS 2017, arXiv:1706.02515.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> x = np.random.default_rng(0).normal(size=100_000)
    >>> y = fastdrop.AlphaDropout(p=0.2, rng=1)(x)
    >>> bool(abs(y.mean()) < 0.02 and abs(y.std() - 1) < 0.02)
    True
    """

    _takes_complex = False

    def __init__(
        self,
        p: float = 0.5,
        inplace: bool = False,
        *,
        always: bool = False,
        rng: RNGLike = None,
    ) -> None:
        super().__init__(p, inplace, always, rng)

    def _scaled(self, rate: Rate) -> Rate:
        return rate.with_scale(affine(rate.p)[0])

    def _form(self, rate: Rate) -> Form:
        if rate.p == 1.0:
            return SCALE
        _, shift, dropped = affine(rate.p)
        return Form("affine", shift, dropped)


class FeatureAlphaDropout(AlphaDropout):
    """`AlphaDropout` of whole channels of inputs of shape (N, C, *).

    Parameters
    ----------
    p : float, optional
        As for `AlphaDropout`.
    inplace : bool, optional
        As for `AlphaDropout`.
    always : bool, optional
        As for `AlphaDropout`.
    rng : optional
        As for `AlphaDropout`.

    Raises
    ------
    RuntimeError
        When called with an input of fewer than 2 dimensions, as in torch.

    References
    ----------
    See `AlphaDropout` and `Dropout1d`.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> y = fastdrop.FeatureAlphaDropout(p=0.5, rng=1)(np.ones((2, 3, 4)))
    >>> bool((y == y[:, :, :1]).all())
    True
    """

    def _noise_shape(self, shape: tuple[int, ...]) -> tuple[int, ...]:
        if len(shape) < 2:
            raise RuntimeError(
                "FeatureAlphaDropout expects 2 dimensions or more, batch and channels first, "
                f"but got {len(shape)}"
            )
        return shape[:2] + (1,) * (len(shape) - 2)


def affine(p: float) -> tuple[float, float, float]:
    """Return a and b of ``a * x + b``, which kept elements become, and what dropped ones do."""
    if p == 1.0:
        return 0.0, 0.0, 0.0
    a = 1.0 / math.sqrt((1.0 - p) * (1.0 + p * SATURATION**2))
    b = -a * p * SATURATION
    return a, b, a * SATURATION + b
