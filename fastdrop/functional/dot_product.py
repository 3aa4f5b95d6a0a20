"""Scaled dot-product attention with dropout, in memory that grows with L and not with L * S."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final, Literal, NamedTuple, overload

import numpy as np

from .. import backends
from .._formulas.softmax import Scores
from ..arrays import Array, check_alike, check_real
from ..backends import Draw
from ..backends.form import narrowed, widened
from ..mask_format import effective_rate
from ..masks.mask import Mask
from ..rng import as_rng
from .softmax import bias_rows, checked_bias, checked_scale, number_of, write

if TYPE_CHECKING:
    from ..rng import RNGLike

_TILE: Final = 1 << 19  # scores that are held at once, if as many rows as these have no more:
_LEAST_ROWS: Final = 16
_CAUSAL_ROWS: Final = 256  # at most, so that scores above the diagonal need not be made


@overload
def attention(
    q: Array,
    k: Array,
    v: Array,
    p: float = ...,
    *,
    mask: Array | None = ...,
    causal: bool = ...,
    scale: float | None = ...,
    training: bool = ...,
    rng: RNGLike = ...,
    return_saved: Literal[False] = ...,
) -> Array: ...
@overload
def attention(
    q: Array,
    k: Array,
    v: Array,
    p: float = ...,
    *,
    mask: Array | None = ...,
    causal: bool = ...,
    scale: float | None = ...,
    training: bool = ...,
    rng: RNGLike = ...,
    return_saved: Literal[True],
) -> tuple[Array, SavedAttention]: ...
def attention(
    q: Array,
    k: Array,
    v: Array,
    p: float = 0.0,
    *,
    mask: Array | None = None,
    causal: bool = False,
    scale: float | None = None,
    training: bool = True,
    rng: RNGLike = None,
    return_saved: bool = False,
) -> Array | tuple[Array, SavedAttention]:
    """Return ``dropout(softmax(scale * q @ k.T + mask), p) @ v``, without holding the softmax.

    Parameters
    ----------
    q : ndarray, shape (..., L, D)
        Queries: float16, bfloat16, float32 or float64, any layout.
    k : ndarray, shape (..., S, D)
        Keys, of q's dtype.
    v : ndarray, shape (..., S, E)
        Values, of q's dtype. The leading dimensions of all three broadcast.
    p : float, optional
        Probability of dropping a probability, 0 <= p <= 1.
    mask : ndarray, optional
        What is added to the scaled scores, of q's dtype, or an array of bool, True where a key
        takes part, as in torch. It broadcasts to (..., L, S).
    causal : bool, optional
        Query i sees keys 0 to i only, as torch's ``is_causal``.
    scale : float, optional
        What scores are multiplied by; 1 / sqrt(D) if not given.
    training : bool, optional
        If False, nothing is dropped.
    rng : optional
        As for `dropout`.
    return_saved : bool, optional
        Return what the backward pass needs, too.

    Returns
    -------
    out : ndarray, shape (..., L, E)
        Of q's dtype. A query that sees no key has 0.
    saved : SavedAttention
        Only with ``return_saved=True``. ``saved.backward(grad)`` returns the gradients with respect
        to q, k and v. It reads the operands, `mask` and `out` again: do not change them before.

    Raises
    ------
    TypeError
        If q, k or v is no plain array of a real dtype, they differ in dtype, or `mask` is neither
        of bool nor of their dtype.
    ValueError
        If the shapes do not suit each other, `p` is out of range, or `scale` is not finite.

    Notes
    -----
    Probability (b, h, i, j) is dropped where `dropout` of an array of shape (B, H, L, S) drops that
    element, in C order, for the same generator: ``saved.mask`` is that mask. Scores are made for
    some rows at a time, in the backward pass once more. Half precision is computed in single.

    Matrix products are NumPy's. With another number of threads, they may round otherwise.

    References
    ----------
    A. Vaswani et al., "Attention is all you need", NeurIPS 2017, arXiv:1706.03762.

    T. Dao, D. Y. Fu, S. Ermon, A. Rudra, C. Ré, "FlashAttention: fast and memory-efficient exact
    attention with IO-awareness", NeurIPS 2022, arXiv:2205.14135.

    Examples
    --------
    >>> import numpy as np, fastdrop
    >>> q, k, v = np.random.default_rng(0).normal(size=(3, 2, 5, 4))
    >>> out, saved = fastdrop.attention(q, k, v, p=0.5, causal=True, rng=1, return_saved=True)
    >>> out.shape, saved.mask.shape
    ((2, 5, 4), (2, 5, 5))
    >>> scores = np.where(np.tri(5, dtype=bool), q @ k.swapaxes(1, 2) / 2, -np.inf)
    >>> bool(np.allclose(out, fastdrop.softmax_dropout(scores, p=0.5, rng=1) @ v))
    True
    >>> [gradient.shape for gradient in saved.backward(np.ones_like(out))]
    [(2, 5, 4), (2, 5, 4), (2, 5, 4)]
    """
    checked = effective_rate(p, training)
    operands = _Operands(q, k, v, mask, causal, scale)
    source = as_rng(rng)  # a bad one is refused before memory is allocated
    shape = operands.shape
    with backends.reserved(source, checked, math.prod(shape)) as draw:
        out, lse = operands.attend(draw if draw.rate.p else None)
    if not return_saved:
        return out
    return out, SavedAttention(operands, out, lse, Mask(draw, shape))


class SavedAttention:
    """What `attention` leaves for its backward pass.

    Attributes
    ----------
    q, k, v : ndarray
        The forward's, not copied. They, `out` and the forward's `mask` must not have changed.
    out : ndarray, shape (..., L, E)
        The array that the forward returned.
    lse : ndarray of float32 or float64, shape (..., L)
        The logarithm of each query's sum of exponentials; -inf if it sees no key.
    mask : Mask
        Of the probabilities, shape (..., L, S).
    """

    __slots__ = ("_operands", "lse", "mask", "out")

    def __init__(self, operands: _Operands, out: Array, lse: Array, mask: Mask) -> None:
        self._operands, self.out, self.lse, self.mask = operands, out, lse, mask

    @property
    def q(self) -> Array:
        """The forward's q."""
        return self._operands.given[0]

    @property
    def k(self) -> Array:
        """The forward's k."""
        return self._operands.given[1]

    @property
    def v(self) -> Array:
        """The forward's v."""
        return self._operands.given[2]

    def backward(self, grad: Array) -> tuple[Array, Array, Array]:
        """Return the gradients with respect to q, k and v.

        Parameters
        ----------
        grad : ndarray, shape (..., L, E)
            Gradient with respect to the output, of its dtype.

        Returns
        -------
        dq, dk, dv : ndarray
            Of the shapes and dtypes of q, k and v.

        Raises
        ------
        TypeError, ValueError
            If `grad` is no plain array of the output's shape and dtype.
        """
        check_alike(grad, "grad", self.out, "the output")
        draw = self.mask._draw
        return self._operands.go_back(draw if draw.rate.p else None, self.out, self.lse, grad)

    def __repr__(self) -> str:
        return f"SavedAttention(out={self.out.shape}, mask={self.mask})"


class _Heads(NamedTuple):
    """Some heads whose scores are made together."""

    at: tuple[Any, ...]  # where they are in the leading dimensions
    first: int  # number of the first one
    length: int  # how many


class _Tile(NamedTuple):
    """Some rows of those heads: all rows, if there are several heads."""

    rows: slice
    first: int  # its first row's number among all rows of all heads
    length: int  # rows of all its heads
    columns: int  # which some of its rows see


class _Operands:
    """q, k and v, and how their products become scores: arguments, checked."""

    def __init__(self, q: Any, k: Any, v: Any, mask: Any, causal: Any, scale: Any) -> None:
        self.given: tuple[Array, Array, Array] = (q, k, v)
        self.causal = bool(causal)
        batch = _checked_batch(q, k, v)
        self.rows, self.width = q.shape[-2:]
        self.columns, self.value_width = v.shape[-2:]
        self.shape = (*batch, self.rows, self.columns)
        self.number = number_of(q.dtype)
        default = (self.width or 1) ** -0.5
        self.scale = default if scale is None else checked_scale(scale, self.number)
        # One dimension at least leads, that of the heads.
        self.batch = batch or (1,)
        self.q, self.k, self.v = (
            np.broadcast_to(a, (*self.batch, *a.shape[-2:])) for a in self.given
        )
        self.mask = None
        if mask is not None:
            bias = checked_bias(mask, "mask", q.dtype, self.shape, "q")
            self.mask = np.broadcast_to(bias, (*self.batch, self.rows, self.columns))

    # How scores are shared out.

    def _heads(self) -> Iterator[_Heads]:
        """Yield heads, as many at once as a tile holds."""
        *leading, heads = self.batch
        most = max(1, _TILE // max(self.rows * self.columns, 1))
        if self.causal and self.rows > _CAUSAL_ROWS:
            most = 1
        for number, at in enumerate(np.ndindex(*leading)):
            for first in range(0, heads, most):
                count = min(most, heads - first)
                yield _Heads((*at, slice(first, first + count)), number * heads + first, count)

    def _tiles(self, heads: _Heads) -> Iterator[_Tile]:
        """Yield the tiles of some heads."""
        step = max(_LEAST_ROWS, _TILE // max(self.columns, 1))
        if self.causal and self.rows > _CAUSAL_ROWS:
            step = min(step, _CAUSAL_ROWS)
        for begin in range(0, self.rows, step):
            end = min(begin + step, self.rows)
            columns = min(end, self.columns) if self.causal else self.columns
            first = heads.first * self.rows + begin
            yield _Tile(slice(begin, end), first, heads.length * (end - begin), columns)

    def _rows_of(self, a: Array, heads: _Heads, rows: slice = slice(None)) -> Array:
        """Return rows of some heads' matrices as numbers that BLAS takes where they are."""
        return _matrices(a[heads.at][:, rows], self.number)

    def _scores(self, heads: _Heads, tile: _Tile) -> Scores:
        bias = None
        if self.mask is not None:
            bias = bias_rows(self.mask[heads.at][:, tile.rows, : tile.columns], self.number)
        causal = self.rows if self.causal else 0
        return Scores(self.scale, bias, causal, tile.rows.start, self.columns)

    def _draw_of(self, draw: Draw | None, tile: _Tile) -> Draw | None:
        return draw and draw.starting_at(draw.first + tile.first * self.columns)

    # Both passes.

    def attend(self, draw: Draw | None) -> tuple[Array, Array]:
        """Return the output, and the logarithms of the rows' sums of exponentials."""
        q = self.given[0]
        out = np.zeros((*self.batch, self.rows, self.value_width), q.dtype)
        lse = np.full((*self.batch, self.rows), -np.inf, self.number)
        room = _Room(self.number)
        for heads in self._heads() if self.columns else ():
            k, v = (self._rows_of(a, heads) for a in (self.k, self.v))
            for tile in self._tiles(heads):
                q, n = self._rows_of(self.q, heads, tile.rows), tile.columns
                scores = room.product(q, k[:, :n].swapaxes(1, 2))
                rows = scores.reshape(tile.length, n)
                sums = lse.reshape(-1)[tile.first : tile.first + tile.length]
                here = self._draw_of(draw, tile)
                backends.current().softmax(here, self._scores(heads, tile), rows, rows, sums)
                write(np.matmul(scores, v[:, :n]), out[heads.at][:, tile.rows])
        batch = self.shape[:-2]
        return out.reshape(*batch, *out.shape[-2:]), lse.reshape(*batch, self.rows)

    def go_back(
        self, draw: Draw | None, out: Array, lse: Array, grad: Array
    ) -> tuple[Array, Array, Array]:
        """Return the gradients with respect to q, k and v."""
        out, grad = (a.reshape(*self.batch, *a.shape[-2:]) for a in (out, grad))
        dq, dk, dv = sums = [np.zeros(a.shape, self._sums_in(a)) for a in (self.q, self.k, self.v)]
        rooms = _Room(self.number), _Room(self.number)
        for heads in self._heads() if self.columns else ():
            k, v = (self._rows_of(a, heads) for a in (self.k, self.v))
            of_k, of_v = np.zeros(k.shape, self.number), np.zeros(v.shape, self.number)
            for tile in self._tiles(heads):
                q, y, g = (self._rows_of(a, heads, tile.rows) for a in (self.q, out, grad))
                n = tile.columns
                scores = rooms[0].product(q, k[:, :n].swapaxes(1, 2))
                slopes = rooms[1].product(g, v[:, :n].swapaxes(1, 2))
                delta = (y * g).sum(axis=-1).reshape(-1)
                backends.current().softmax_backward(
                    self._draw_of(draw, tile),
                    self._scores(heads, tile),
                    scores.reshape(tile.length, n),
                    slopes.reshape(tile.length, n),
                    lse.reshape(-1)[tile.first : tile.first + tile.length],
                    delta,
                )
                of_v[:, :n] += np.matmul(scores.swapaxes(1, 2), g)
                of_k[:, :n] += np.matmul(slopes.swapaxes(1, 2), q)
                write(self._scaled(np.matmul(slopes, k[:, :n])), dq[heads.at][:, tile.rows])
            write(self._scaled(of_k), dk[heads.at])
            write(of_v, dv[heads.at])
        return tuple(map(_summed, sums, self.given))  # type: ignore[return-value]

    def _scaled(self, products: Array) -> Array:
        products *= self.number.type(self.scale)
        return products

    def _sums_in(self, a: Array) -> np.dtype[Any]:
        """Return the dtype of a gradient that may be summed over what was broadcast."""
        return self.number if 0 in a.strides[:-2] else a.dtype


class _Room:
    """Memory for scores that is used again: as much as the largest tile so far has needed."""

    def __init__(self, number: np.dtype[Any]) -> None:
        self._numbers = np.empty(0, number)

    def product(self, a: Array, b: Array) -> Array:
        """Return the matrix products of a and b there."""
        shape = len(a), a.shape[1], b.shape[2]
        size = math.prod(shape)
        if size > self._numbers.size:
            self._numbers = np.empty(size, self._numbers.dtype)
        out: Array = self._numbers[:size].reshape(shape)
        np.matmul(a, b, out=out)
        return out


def _checked_batch(q: Any, k: Any, v: Any) -> tuple[int, ...]:
    """Return the leading dimensions of the scores, or raise TypeError or ValueError."""
    for name, a, shape in (("q", q, "L, D"), ("k", k, "S, D"), ("v", v, "S, E")):
        check_real(a, name, "a softmax")
        if a.ndim < 2:
            raise ValueError(
                f"{name} must have at least 2 dimensions, (..., {shape}), but got shape {a.shape}"
            )
        if a.dtype != q.dtype:
            raise TypeError(f"{name} must have q's dtype {q.dtype}, but got {a.dtype}")
    if k.shape[-1] != q.shape[-1]:
        raise ValueError(
            f"k must be as long as q along the last axis, {q.shape[-1]}, but got shape {k.shape}"
        )
    if v.shape[-2] != k.shape[-2]:
        raise ValueError(f"v must have k's number of rows {k.shape[-2]}, but got shape {v.shape}")
    try:
        return np.broadcast_shapes(*(a.shape[:-2] for a in (q, k, v)))
    except ValueError:
        raise ValueError(
            "the leading dimensions of q, k and v must broadcast, "
            f"but got shapes {q.shape}, {k.shape} and {v.shape}"
        ) from None


def _matrices(a: Array, number: np.dtype[Any]) -> Array:
    """Return matrices as numbers, copied if BLAS could not read them where they are."""
    a = widened(a)
    if a.dtype == number and a.flags.aligned and _side_by_side(a):
        return a
    return np.require(a, number, ["C", "A"])


def _side_by_side(a: Array) -> bool:
    """Return whether a matrix's rows or its columns have no gaps, and follow each other."""
    by_row, by_column = (step // a.itemsize for step in a.strides[-2:])
    rows, columns = a.shape[-2:]
    return (by_column == 1 and by_row >= columns) or (by_row == 1 and by_column >= rows)


def _summed(gradient: Array, a: Array) -> Array:
    """Return the gradient with respect to `a`, summed over what was broadcast."""
    axes = gradient.ndim - a.ndim
    if gradient.shape != a.shape:
        gradient = gradient.sum(axis=tuple(range(max(axes, 0))))
        short = tuple(i for i, n in enumerate(a.shape) if n == 1 and gradient.shape[i] != 1)
        gradient = gradient.sum(axis=short, keepdims=True)
    return gradient if gradient.dtype == a.dtype else narrowed(gradient, a.dtype)
