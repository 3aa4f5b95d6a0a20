"""The backends' interface: what one provides, and the draw whose mask it evaluates."""

from __future__ import annotations

import itertools
import math
from abc import ABC, abstractmethod
from typing import TYPE_CHECKING, Any, ClassVar, Final

import numpy as np

from .._formulas.normal import Noise
from .._formulas.softmax import Scores
from ..arrays import Array
from ..mask_format import BLOCK, Rate
from ..rng import AnyRNG
from ..rng.base import Stream
from ..sharing import Strides, canonical, noise_of, packed_strides
from .form import Form

if TYPE_CHECKING:
    from numpy.typing import NDArray

# What backends raise only before they write: the random numbers of an operation that fails so
# are given back.
NOTHING_WRITTEN: Final = (MemoryError, TypeError)


class Draw:
    """What decides which elements are kept: all that the mask function takes but the index.

    Nothing changes one that has been made: masks keep theirs.

    Attributes
    ----------
    stream : Stream
        Whose words are compared with the drop probability.
    position : int
        Where in the stream the draw's words begin.
    rate : Rate
        How likely each element is kept, and what it is multiplied by then.
    first : int
        Logical index, in the draw, of the first element asked for.
    """

    # No frozen dataclass or NamedTuple: to make one takes twice as long, which small arrays feel.
    __slots__ = ("first", "position", "rate", "stream")

    def __init__(self, stream: Stream, position: int, rate: Rate, first: int = 0) -> None:
        self.stream = stream
        self.position = position
        self.rate = rate
        self.first = first

    def starting_at(self, first: int) -> Draw:
        """Return the same draw from another element on."""
        return Draw(self.stream, self.position, self.rate, first)

    def alone(self) -> Draws:
        """Return the draws of one sample."""
        return Draws(self.stream, np.array([self.position], np.uint64), self.rate, self.first)


class Draws:
    """Draws of samples, one each, that differ in their position only.

    Attributes
    ----------
    stream, rate, first
        As those of a `Draw`.
    positions : ndarray of uint64, shape (samples,)
        Contiguous. Nothing changes it.
    """

    __slots__ = ("first", "positions", "rate", "stream")

    def __init__(
        self, stream: Stream, positions: NDArray[np.uint64], rate: Rate, first: int = 0
    ) -> None:
        self.stream = stream
        self.positions = positions
        self.rate = rate
        self.first = first

    def __len__(self) -> int:
        return len(self.positions)

    def __getitem__(self, sample: int) -> Draw:
        return Draw(self.stream, int(self.positions[sample]), self.rate, self.first)

    def picked(self, samples: slice, first: int) -> Draws:
        """Return the draws of some samples from another element on."""
        positions = np.ascontiguousarray(self.positions[samples])
        return Draws(self.stream, positions, self.rate, first)


class Backend(ABC):
    """Evaluates the mask function. All backends agree bit for bit."""

    name: ClassVar[str]

    @abstractmethod
    def bits(self, draw: Draw, n: int, out: NDArray[np.uint8]) -> None:
        """Write the keep bits of n elements to `out`, shape (ceil(n / 8),).

        Element i is bit i % 8 of byte i // 8; bits past the last are 0.
        """

    def draw(
        self, rng: AnyRNG, rate: Rate, x: Array, inplace: bool, out: Array | None
    ) -> tuple[Array, Stream, int] | None:
        """Do all of `fastdrop.backends.draw_in_steps` at once, where that is faster.

        None means that this backend, or these arguments, need it done step by
        step; nothing was written or taken from the generator then.
        """
        return None

    @abstractmethod
    def apply(self, draw: Draw, x: Array, out: Array) -> None:
        """Write x * draw.rate.scale where kept and +0.0 elsewhere to `out`.

        x and out have one shape and one supported dtype in native byte order,
        any strides; out is x itself or does not overlap it. Elements count in
        C order. Half-precision numbers are multiplied in single precision and
        rounded once.
        """

    def evaluate(self, draw: Draw, strides: Strides, form: Form, x: Array, out: Array) -> None:
        """Write `form` of x to `out` under a mask that elements may share.

        Element x[i, j, ...] looks at the draw's element ``draw.first + i *
        strides[0] + j * strides[1] + ...``. Arrays are as for `apply`, operands read only.
        """
        noise = noise_of(x.shape, strides)
        keep = self.window(draw, noise, strides)
        self.evaluate_bits(keep, packed_strides(x.shape, noise), draw.rate.scale, form, x, out)

    def window(self, draw: Draw, shape: tuple[int, ...], strides: Strides) -> NDArray[np.uint64]:
        """Return keep bits in whole words, packed in C order; bits past the last are 0.

        Element i, j, ... is the draw's element ``draw.first + i * strides[0] + j * strides[1]``
        and so on.
        """
        n = math.prod(shape)
        keep = np.zeros(-(-n // 64), np.uint64)
        if n and canonical(shape, strides) is None:
            self.bits(draw, n, keep.view(np.uint8)[: -(-n // 8)])
        elif n:
            self.sample_bits(draw.alone(), shape, strides, keep)
        return keep

    def evaluate_samples(
        self, draws: Draws, strides: Strides, form: Form, x: Array, out: Array
    ) -> None:
        """Do as `evaluate`, where each of x's rows is a sample with a draw of its own.

        The strides are those along x's axes after the first one.
        """
        noise = noise_of(x.shape[1:], strides)
        keep = self.sample_window(draws, noise, strides)
        steps = packed_strides(x.shape, (len(draws), *noise))
        self.evaluate_bits(keep, steps, draws.rate.scale, form, x, out)

    def sample_window(
        self, draws: Draws, shape: tuple[int, ...], strides: Strides
    ) -> NDArray[np.uint64]:
        """Return `window` of each draw, packed one after the other in whole words."""
        n = math.prod(shape)
        keep = np.zeros(-(-n * len(draws) // 64), np.uint64)
        if len(keep):
            self.sample_bits(draws, shape, strides, keep)
        return keep

    def sample_bits(
        self, draws: Draws, shape: tuple[int, ...], strides: Strides, out: NDArray[np.uint64]
    ) -> None:
        """Write the bits of windows to `out`, as `sample_window` returns them."""
        rows = [self._picked(draws[i], shape, strides) for i in range(len(draws))]
        kept = np.packbits(np.concatenate(rows), bitorder="little")
        out.view(np.uint8)[: len(kept)] = kept

    def _picked(self, draw: Draw, shape: tuple[int, ...], strides: Strides) -> NDArray[np.uint8]:
        """Return 1 or 0 for each of a window's elements, of which there is one at least."""
        if canonical(shape, strides) is None:
            n = math.prod(shape)
            packed = np.empty(-(-n // 8), np.uint8)
            self.bits(draw, n, packed)
            return np.unpackbits(packed, count=n, bitorder="little")
        index = np.full((), draw.first, np.int64)
        for n, stride in zip(shape, strides, strict=True):
            index = np.add.outer(index, stride * np.arange(n))
        blocks, place = np.divmod(index.reshape(-1), BLOCK)
        made = np.unique(blocks)
        if draw.stream.sequential:  # it would begin anew for each piece
            made = np.arange(made[0], made[-1] + 1)
        octets = np.empty((len(made), BLOCK // 8), np.uint8)
        ends = [0, *(np.flatnonzero(np.diff(made) != 1) + 1).tolist(), len(made)]
        for begin, end in itertools.pairwise(ends):
            part = draw.starting_at(int(made[begin]) * BLOCK)
            self.bits(part, (end - begin) * BLOCK, octets[begin:end].reshape(-1))
        place += np.searchsorted(made, blocks) * BLOCK
        bits: NDArray[np.uint8] = octets.reshape(-1)[place >> 3] >> (place & 7).astype(np.uint8)
        return bits & np.uint8(1)

    @abstractmethod
    def evaluate_bits(
        self,
        keep: NDArray[np.uint64],
        strides: Strides,
        scale: float,
        form: Form,
        x: Array,
        out: Array,
    ) -> None:
        """Do as `evaluate` under a mask that is given as packed bits, in whole words."""

    @abstractmethod
    def add_noise(self, stream: Stream, position: int, noise: Noise, x: Array, out: Array) -> None:
        """Write x with noise to `out`: element i, in C order, takes word ``position + i``.

        Arrays are as for `apply`, of a real dtype; half precision is computed in
        single. See `fastdrop._formulas.normal` for what is computed.
        """

    @abstractmethod
    def softmax(
        self, draw: Draw | None, scores: Scores, x: Array, out: Array, lse: Array | None = None
    ) -> None:
        """Write the softmax of x's rows, dropped by a draw if there is one, to `out`.

        x, shape (rows, columns), is float32 or float64, aligned and contiguous, as is `out`, which
        may be x. `lse` takes the logarithm of each row's sum of exponentials. See
        `fastdrop._formulas.softmax` for what is computed.
        """

    @abstractmethod
    def softmax_backward(
        self,
        draw: Draw | None,
        scores: Scores,
        x: Array,
        grad: Array,
        lse: Array | None = None,
        delta: Array | None = None,
    ) -> None:
        """Make of `grad`, the gradient of what `softmax` wrote, that of the scores.

        Given `lse` and `delta`, each row's sum of gradient times dropped probability, x becomes
        the dropped probabilities. Without both, they are computed, and x remains.
        """

    def info(self) -> dict[str, Any]:
        """Return what `show_config` says of this backend."""
        return {}
