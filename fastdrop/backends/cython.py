"""The C kernels, called through Cython without the GIL."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._cy import core as _core
from .._formulas.normal import Noise
from .._formulas.softmax import Scores
from ..arrays import Array
from ..mask_format import BLOCK
from ..rng import DEFAULT
from ..rng.base import Stream, check_status
from ..sharing import Strides, c_strides, canonical, noise_of
from ..threads import get_num_threads
from .base import Backend, Draw, Draws
from .form import Form

_draw: Any = getattr(_core, "draw", None)  # there may be no extension


class CythonBackend(Backend):
    """C kernels for the best instruction set here, on a pool of threads."""

    name = "cython"

    def bits(self, draw: Draw, n: int, out: NDArray[np.uint8]) -> None:
        stream, first = draw.stream, draw.first
        fill, key = stream.fill_address, stream.open()
        where = fill, key.ctypes.data, draw.position, draw.rate.threshold
        if not stream.sequential:
            status = _core.bits(*where, first, n, out, get_num_threads())
        else:
            # A block is made once or, by a generator that cannot go back, not at all:
            # start with a whole one.
            lead = first % BLOCK
            whole = np.empty(-(-(n + lead) // 8), np.uint8)
            status = _core.bits(*where, first - lead, n + lead, whole, 1)
            kept = np.unpackbits(whole, count=n + lead, bitorder="little")[lead:]
            out[...] = np.packbits(kept, bitorder="little")
        if status:
            _raise(status, stream)

    # Without a Python function around it, which small arrays would feel.
    draw = staticmethod(_draw)

    def apply(self, draw: Draw, x: Array, out: Array) -> None:
        stream, rate = draw.stream, draw.rate
        if stream.sequential:
            self._apply_in_order(draw, x, out)
            return
        status = _core.apply(
            stream.fill_address,
            stream.key_address,
            draw.position,
            rate.threshold,
            rate.scale,
            draw.first,
            x,
            out,
            get_num_threads(),
        )
        if status:
            _raise(status, stream)

    def _apply_in_order(self, draw: Draw, x: Array, out: Array) -> None:
        # Other layouts than C order are walked in memory's order, and a sequential
        # generator cannot go back: a copy in C order can.
        stream, rate = draw.stream, draw.rate
        c = np.array(x, order="C")
        fill, key = stream.fill_address, stream.open()
        where = fill, key.ctypes.data, draw.position
        status = _core.apply(*where, rate.threshold, rate.scale, draw.first, c, c, 1)
        if status:
            _raise(status, stream)
        np.copyto(out, c)

    def evaluate(self, draw: Draw, strides: Strides, form: Form, x: Array, out: Array) -> None:
        stream, rate = draw.stream, draw.rate
        noise = noise_of(x.shape, strides)
        if stream.sequential or canonical(noise, strides) is not None:
            # Its bits are made ahead: in order, or those of a window.
            super().evaluate(draw, strides, form, x, out)
            return
        status = _core.evaluate(
            stream.fill_address,
            stream.key_address,
            draw.position,
            rate.threshold,
            draw.first,
            strides,
            0 if strides == c_strides(x.shape) else math.prod(noise),
            _core.FORMS[form.kind],
            rate.scale,
            form.shift,
            form.dropped,
            (x, *form.operands),
            out,
            get_num_threads(),
        )
        if status:
            _raise(status, stream)

    def sample_bits(
        self, draws: Draws, shape: tuple[int, ...], strides: Strides, out: NDArray[np.uint64]
    ) -> None:
        if draws.stream.sequential:
            super().sample_bits(draws, shape, strides, out)
            return
        where = *_where(draws), shape, strides
        status = _core.window_bits(*where, out, get_num_threads())
        if status:
            _raise(status, draws.stream)

    def evaluate_samples(
        self, draws: Draws, strides: Strides, form: Form, x: Array, out: Array
    ) -> None:
        arrays = x, *form.operands
        if (
            draws.stream.sequential
            or canonical(x.shape[1:], strides) is not None
            or not all(a.flags.c_contiguous for a in (*arrays, out))
        ):
            super().evaluate_samples(draws, strides, form, x, out)
            return
        numbers = draws.rate.scale, form.shift, form.dropped
        how = *_where(draws), _core.FORMS[form.kind], *numbers
        status = _core.evaluate_samples(*how, arrays, out, get_num_threads())
        if status:
            _raise(status, draws.stream)

    def evaluate_bits(
        self,
        keep: NDArray[np.uint64],
        strides: Strides,
        scale: float,
        form: Form,
        x: Array,
        out: Array,
    ) -> None:
        _core.evaluate_bits(
            keep,
            strides,
            _core.FORMS[form.kind],
            scale,
            form.shift,
            form.dropped,
            (x, *form.operands),
            out,
            get_num_threads(),
        )

    def add_noise(self, stream: Stream, position: int, noise: Noise, x: Array, out: Array) -> None:
        if stream.sequential:
            # It cannot go back, and other layouts than C order are walked in memory's.
            c, fill, key = np.array(x, order="C"), stream.fill_address, stream.open()
            status = _core.add_noise(fill, key.ctypes.data, position, *noise, c, c, 1)
            np.copyto(out, c)
        else:
            where = stream.fill_address, stream.key_address, position
            status = _core.add_noise(*where, *noise, x, out, get_num_threads())
        if status:
            _raise(status, stream)

    def softmax(
        self, draw: Draw | None, scores: Scores, x: Array, out: Array, lse: Array | None = None
    ) -> None:
        self._softmax(draw, scores, x, out, lse, None, None)

    def softmax_backward(
        self,
        draw: Draw | None,
        scores: Scores,
        x: Array,
        grad: Array,
        lse: Array | None = None,
        delta: Array | None = None,
    ) -> None:
        self._softmax(draw, scores, x, None, lse, grad, delta)

    def _softmax(self, draw: Draw | None, scores: Scores, x: Array, *arrays: Array | None) -> None:
        drawn, keep, scale, first = None, None, 1.0, 0
        if draw is not None:
            scale = draw.rate.scale
            if draw.stream.sequential:
                # Its bits are made ahead, in order, and a word more than they need.
                n = len(x) * (scores.width or x.shape[1])
                keep = np.zeros(n // 64 + 2, np.uint64)
                self.bits(draw, n, keep.view(np.uint8)[: -(-n // 8)])
            else:
                stream = draw.stream
                where = stream.fill_address, stream.key_address, draw.position
                drawn, first = (*where, draw.rate.threshold), draw.first
        threads = get_num_threads()
        status = _core.softmax(drawn, scale, first, keep, tuple(scores), x, *arrays, threads)
        if status:
            _raise(status, draw.stream if draw else None)

    def info(self) -> dict[str, Any]:
        return {
            "instruction set": _core.isa(),
            "available instruction sets": _core.available_isas(),
            "random words": f"{DEFAULT.name} by {_core.random_words()}",
        }


def _where(draws: Draws) -> tuple[Any, ...]:
    """Return what the C functions take of draws."""
    stream = draws.stream
    where = stream.fill_address, stream.key_address, draws.positions
    return *where, draws.rate.threshold, draws.first


def _raise(status: int, stream: Stream | None) -> None:
    if status == _core.NO_MEMORY or stream is None:
        raise MemoryError("no memory for the mask's bits")
    check_status(status, stream.algorithm.name)


if _core is not None:
    _core.connect(get_num_threads, _raise)
