"""DropBlock: dropout of contiguous squares of feature maps."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from .. import backends
from ..arrays import Array, check_array, identity, prepare
from ..backends.form import SCALE
from ..layer import RateLayer
from ..mask import Mask
from ..mask_format import rate
from ..sharing import Strides, c_strides

if TYPE_CHECKING:
    from ..rng import RNGLike


class DropBlock2d(RateLayer):
    """Zero squares of a (N, C, H, W) input, so that some `p` of all elements go.

    The corners of squares are drawn with probability ``gamma = gamma_scale * p *
    H * W / block_size**2 / ((H - block_size + 1) * (W - block_size + 1))``, and the
    elements that no square covers are multiplied by total / kept, so that the
    sum is kept.

    Parameters
    ----------
    p : float, optional
        Drop probability, 0 <= p <= 1, reached while squares rarely overlap. May
        be assigned later.
    block_size : int, optional
        Side of a square, cut to the shorter of H and W.
    gamma_scale : float, optional
        0 or more; gamma is cut to 1.
    inplace : bool, optional
        Write into the input.
    batchwise : bool, optional
        Draw one mask for all samples of the batch.
    always : bool, optional
        Drop in eval mode too.
    rng : optional
        As for `Dropout`.

    Raises
    ------
    ValueError
        When called with an input that has not 4 dimensions.

    Notes
    -----
    Squares are spread in plain NumPy, in memory of a byte for each element of the mask;
    what follows is one compiled pass.

    References
    ----------
    G. Ghiasi, T.-Y. Lin, Q. V. Le, "DropBlock: a regularization method for
    convolutional networks", NeurIPS 2018, arXiv:1810.12890.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> y = fastdrop.DropBlock2d(p=0.2, block_size=3, rng=0)(np.ones((2, 4, 16, 16)))
    >>> bool(abs(y.sum() - y.size) < 1e-9)
    True
    """

    _settings: ClassVar[tuple[str, ...]] = (
        "p",
        "block_size",
        "gamma_scale",
        "inplace",
        "batchwise",
        "always",
    )

    def __init__(
        self,
        p: float = 0.1,
        block_size: int = 7,
        gamma_scale: float = 1.0,
        inplace: bool = False,
        *,
        batchwise: bool = False,
        always: bool = False,
        rng: RNGLike = None,
    ) -> None:
        super().__init__(p, inplace, always, rng)
        self.block_size = block_size
        self.gamma_scale = gamma_scale
        self.batchwise = batchwise

    @property
    def block_size(self) -> int:
        """Side of a square."""
        return self._block_size

    @block_size.setter
    def block_size(self, block_size: int) -> None:
        if isinstance(block_size, bool) or not hasattr(block_size, "__index__"):
            raise TypeError(f"block_size must be an int of 1 or more, but got {block_size!r}")
        if block_size < 1:
            raise ValueError(f"block_size must be 1 or more, but got {block_size}")
        self._block_size = block_size.__index__()

    @property
    def gamma_scale(self) -> float:
        """What gamma is multiplied by."""
        return self._gamma_scale

    @gamma_scale.setter
    def gamma_scale(self, gamma_scale: float) -> None:
        if not 0.0 <= gamma_scale < math.inf:
            raise ValueError(f"gamma_scale must be 0 or more, and finite, but got {gamma_scale}")
        self._gamma_scale = float(gamma_scale)

    def _forget(self) -> None:
        self._newest: tuple[Mask, tuple[int, ...]] | None = None
        self._called = False

    def __call__(self, x: Array, out: Array | None = None) -> Array:
        """Return `x` with squares dropped, or `x` itself in eval mode and for p = 0.

        Parameters
        ----------
        x : ndarray, shape (N, C, H, W)
            Dtypes as for `dropout`.
        out : ndarray, optional
            Where to write: of x's shape and dtype; `x` itself, or no overlap.
        """
        check_array(x)
        if x.ndim != 4:
            raise ValueError(f"DropBlock2d expects 4 dimensions, N, C, H and W, but got {x.ndim}")
        if not (self.training or self.always) or self.p == 0.0 or x.size == 0:
            y = identity(x, self.inplace, out)
            self._newest, self._called = None, True
            return y
        y = prepare(x, self.inplace, out)
        samples, channels, height, width = x.shape
        size = min(self.block_size, height, width)
        corners = (1 if self.batchwise else samples, channels, height - size + 1, width - size + 1)
        gamma = self.gamma_scale * self.p * height * width / size**2 / math.prod(corners[2:])
        checked = rate(min(gamma, 1.0))
        with backends.reserved(self.rng, checked.words(math.prod(corners))) as (stream, draw):
            newest = Mask(stream, draw, checked, corners), x.shape
            _apply(*newest, x, y)
        self._newest, self._called = newest, True
        return y

    @property
    def mask(self) -> NDArray[np.bool_] | None:
        """The newest forward's mask: bool, of its input's shape; None after an identity."""
        newest = self._newest  # read once: another thread's forward may replace it
        if newest is None:
            return None
        return np.broadcast_to(_kept(*newest), newest[1])

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
        corners, shape = newest
        check_array(grad, "grad")
        if grad.shape != shape:
            raise ValueError(f"grad must have the forward's shape {shape}, but got {grad.shape}")
        y = prepare(grad, False, out)
        _apply(corners, shape, grad, y)
        return y


def _apply(corners: Mask, shape: tuple[int, ...], x: Array, out: Array) -> None:
    kept = _kept(corners, shape)
    count = int(np.count_nonzero(kept))
    strides: Strides = c_strides(kept.shape)
    if len(kept) < shape[0]:
        strides = (0, *strides[1:])
    packed = np.zeros(-(-kept.size // 64), np.uint64)
    octets = np.packbits(kept, bitorder="little")
    packed.view(np.uint8)[: octets.size] = octets
    backends.evaluate_bits(packed, strides, kept.size / count if count else 0.0, SCALE, x, out)


def _kept(corners: Mask, shape: tuple[int, ...]) -> NDArray[np.bool_]:
    """Return which elements no square covers: bool, shape (N or 1, C, H, W)."""
    size = shape[2] - corners.shape[2] + 1
    dropped = np.zeros((*corners.shape[:2], *shape[2:]), np.bool_)
    dropped[:, :, : corners.shape[2], : corners.shape[3]] = ~corners.to_bool()
    for axis in (2, 3):
        reach = 1  # doubled until the squares are as wide as they should be
        while reach < size:
            step = min(reach, size - reach)
            lines: Any = np.moveaxis(dropped, axis, 0)
            lines[step:] |= lines[:-step].copy()
            reach += step
    return ~dropped
