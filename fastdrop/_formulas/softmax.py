"""Softmax with dropout of rows, and its backward pass, in plain NumPy.

`_cy/kernels/softmax_body.h` takes the same steps in the same order. Sums have an order of their
own: 64 bytes of lanes, one after the other along the row, and then lanes by halves.

The backward pass makes probabilities again, from each row's logarithm of its sum of exponentials
(T. Dao, D. Y. Fu, S. Ermon, A. Rudra, C. Ré, "FlashAttention: fast and memory-efficient exact
attention with IO-awareness", NeurIPS 2022, arXiv:2205.14135).
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final, NamedTuple

import numpy as np

from .elementary import Reals, exp_below, log

if TYPE_CHECKING:
    from numpy.typing import NDArray

_LANE_BYTES: Final = 64


class Scores(NamedTuple):
    """What rows of numbers become before their softmax: scores.

    Attributes
    ----------
    scale : float
        What they are multiplied by; finite.
    bias : ndarray or None
        What is added then: contiguous, of the rows' dtype and length. Row r has row
        ``r % len(bias)`` of it.
    causal : int
        0, or the number of rows in a matrix: its row i ends after i + 1 columns, and the others
        do not count.
    row : int
        Which row of a matrix the first one is.
    width : int
        Elements of the mask that belong to a row: row r, column c has element r * width + c. 0: as
        many as columns.
    """

    scale: float = 1.0
    bias: Reals | None = None
    causal: int = 0
    row: int = 0
    width: int = 0

    def counts(self, rows: int, columns: int) -> NDArray[np.bool_]:
        """Return which elements of the rows count."""
        if not self.causal:
            return np.ones((rows, columns), np.bool_)
        ends = (self.row + np.arange(rows)) % self.causal + 1
        return np.arange(columns) < ends[:, None]

    def of(self, x: Reals) -> Reals:
        """Return the scores of x's rows, -inf where columns do not count."""
        rows, columns = x.shape
        score: Reals = x * x.dtype.type(self.scale)
        if self.bias is not None:
            score = score + self.bias[np.arange(rows) % len(self.bias)]
        return np.where(self.counts(rows, columns), score, x.dtype.type(-np.inf))


def softmax(
    scores: Scores, kept: NDArray[np.bool_] | None, keep_scale: float, x: Reals
) -> tuple[Reals, Reals]:
    """Return dropped probabilities, and the logarithm of each row's sum of exponentials.

    A row in which nothing counts is 0, and its logarithm -inf.
    """
    e, factor, lse = _exponentials(scores, keep_scale, x)
    counts = scores.counts(*x.shape)
    return _only(counts if kept is None else counts & kept, e * factor[:, None]), lse


def softmax_backward(
    scores: Scores,
    kept: NDArray[np.bool_] | None,
    keep_scale: float,
    x: Reals,
    grad: Reals,
    lse: Reals | None,
    delta: Reals | None,
) -> tuple[Reals, Reals]:
    """Return the dropped probabilities, and the gradient with respect to the scores.

    `grad` is that with respect to the dropped probabilities, and `delta` each row's sum of their
    product. `lse` is what `softmax` returned. Without both, they are computed.
    """
    counts = scores.counts(*x.shape)
    kept = counts if kept is None else counts & kept
    if lse is None or delta is None:
        e, factor, lse = _exponentials(scores, keep_scale, x)
        delta = factor * row_sums(_only(kept, _only(kept, e) * grad))
    p = exp_below(scores.of(x) - base_again(lse)[:, None])
    number = x.dtype.type(keep_scale)
    g = _only(kept, grad * number)
    return _only(kept, p * number), _only(counts, p * (g - delta[:, None]))


def _exponentials(scores: Scores, keep_scale: float, x: Reals) -> tuple[Reals, Reals, Reals]:
    """Return each element's exponential, and each row's factor and logarithm."""
    score = scores.of(x)
    low = x.dtype.type(-np.inf)
    highest = np.max(np.where(np.isnan(score), low, score), axis=1, initial=low)
    e = exp_below(score - base_of(highest)[:, None])
    return e, *ended(highest, row_sums(e), x.dtype.type(keep_scale))


def base_of(highest: Reals) -> Reals:
    """Return what is subtracted from a row's scores, given their maximum."""
    number = highest.dtype.type
    return np.where(highest > number(-np.inf), highest, number(0))


def ended(highest: Reals, total: Reals, keep_scale: Any) -> tuple[Reals, Reals]:
    """Return what a row's exponentials are multiplied by, and the logarithm of their sum.

    Given are the maximum of the row's scores, and the sum of their exponentials but for that.
    """
    number = highest.dtype.type
    positive, fault = total > 0, np.isnan(total)
    divisor = np.where(positive, total, number(1))
    factor = np.where(positive, keep_scale / divisor, np.where(fault, total, number(0)))
    logs = highest + log(divisor)
    return factor, np.where(positive, logs, np.where(fault, total, number(-np.inf)))


def base_again(lse: Reals) -> Reals:
    """Return what is subtracted from a row's scores to make its probabilities again."""
    number = lse.dtype.type
    # -inf, of a row in which nothing counts, would make infinity of it.
    return np.where(lse < np.finfo(number).min, number(np.inf), lse)


def row_sums(x: Reals) -> Reals:
    """Return the sum of each row."""
    lanes = _LANE_BYTES // x.itemsize
    rows, columns = x.shape
    sums = np.zeros((rows, lanes), x.dtype)
    for start in range(0, columns, lanes):
        group = x[:, start : start + lanes]
        sums[:, : group.shape[1]] += group
    while lanes > 1:
        lanes //= 2
        sums = sums[:, :lanes] + sums[:, lanes:]
    return sums[:, 0]


def _only(where: Any, x: Reals) -> Reals:
    """Return x, and +0.0 elsewhere."""
    return np.where(where, x, x.dtype.type(0))
