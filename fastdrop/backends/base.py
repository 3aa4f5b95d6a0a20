"""The backends' seam: what a backend provides."""

from __future__ import annotations

from abc import ABC, abstractmethod
from typing import Any, ClassVar, Final

import numpy as np
from numpy.typing import NDArray

from .._formulas.normal import Noise, normals, with_noise
from ..arrays import Array
from ..mask_format import Rate
from ..rng import AnyRNG, Stream
from ..sharing import Strides, span
from .form import Form, evaluate, narrowed, widened

_AT_ONCE: Final = 1 << 14  # elements whose intermediate arrays stay in cache

# What backends raise only before they write: the random numbers of an operation that fails so
# are given back.
NOTHING_WRITTEN: Final = (MemoryError, TypeError)


class Backend(ABC):
    """Evaluates the mask function. All backends agree bit for bit.

    The mask is ``(stream, draw, rate)``: which words, from which position, and
    how likely each element is kept. `first` is the logical index, in the mask,
    of the first element asked for.
    """

    name: ClassVar[str]

    @abstractmethod
    def bits(
        self, stream: Stream, draw: int, rate: Rate, first: int, n: int, out: NDArray[np.uint8]
    ) -> None:
        """Write the keep bits of n elements to `out`, shape (ceil(n / 8),).

        Element i is bit i % 8 of byte i // 8; bits past the last are 0.
        """

    def draw(
        self, rng: AnyRNG, rate: Rate, x: Array, inplace: bool, out: Array | None
    ) -> tuple[Array, Stream, int] | None:
        """Do all of `fastdrop.backends.draw` at once, where that is faster.

        None means that this backend, or these arguments, need it done step by
        step; nothing was written or taken from the generator then.
        """
        return None

    @abstractmethod
    def apply(
        self, stream: Stream, draw: int, rate: Rate, first: int, x: Array, out: Array
    ) -> None:
        """Write x * rate.scale where kept and +0.0 elsewhere to `out`.

        x and out have one shape and one supported dtype in native byte order,
        any strides; out is x itself or does not overlap it. Elements count in
        C order. Half-precision numbers are multiplied in single precision and
        rounded once.
        """

    def evaluate(
        self,
        stream: Stream,
        draw: int,
        rate: Rate,
        first: int,
        strides: Strides,
        form: Form,
        x: Array,
        out: Array,
    ) -> None:
        """Write `form` of x to `out` under a mask that elements may share.

        Element x[i, j, ...] looks at the mask's element ``first + i * strides[0]
        + j * strides[1] + ...``. Arrays are as for `apply`, operands read only.
        """
        n = span(x.shape, strides)
        keep = np.empty(-(-n // 64), np.uint64)
        self.bits(stream, draw, rate, first, n, keep.view(np.uint8)[: -(-n // 8)])
        self.evaluate_bits(keep, strides, rate.scale, form, x, out)

    def evaluate_bits(
        self,
        keep: NDArray[np.uint64],
        strides: Strides,
        scale: float,
        form: Form,
        x: Array,
        out: Array,
    ) -> None:
        """Do as `evaluate` under a mask that is given as packed bits, in whole words.

        This is plain NumPy: a backend that has no kernels for it inherits it,
        and `show_config` says so.
        """
        bits = np.unpackbits(keep.view(np.uint8), bitorder="little").view(np.bool_)
        kept = np.lib.stride_tricks.as_strided(bits, x.shape, strides, writeable=False)
        out[...] = evaluate(kept, x, scale, form)

    def add_noise(self, stream: Stream, draw: int, noise: Noise, x: Array, out: Array) -> None:
        """Write x with noise to `out`: element i, in C order, takes word ``draw + i``.

        Arrays are as for `apply`, of a real dtype; half precision is computed in
        single. See `fastdrop.normal` for what is computed.

        This is plain NumPy: a backend that has no kernels for it inherits it,
        and `show_config` says so.
        """
        # A sequential stream would go back to its start for every piece.
        step = max(x.size, 1) if stream.sequential else _AT_ONCE
        for start in range(0, x.size, step):
            piece = widened(x.flat[start : start + step])
            z = normals(stream.words(draw + start, piece.size), piece.dtype)
            with np.errstate(all="ignore"):
                y = narrowed(with_noise(noise, piece, z), x.dtype)
            out.flat[start : start + step] = y

    def info(self) -> dict[str, Any]:
        """Return what `show_config` says of this backend."""
        return {}
