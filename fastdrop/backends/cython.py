"""The C kernels, called through Cython without the GIL."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from .._cy import core as _core
from .._formulas.normal import Noise
from ..arrays import Array
from ..mask_format import BLOCK, Rate
from ..rng import AnyRNG, Stream
from ..rng.base import check_status
from ..sharing import Strides, c_strides, span
from ..threads import get_num_threads
from .base import Backend
from .form import KINDS, Form


class CythonBackend(Backend):
    """C kernels for the best instruction set here, on a pool of threads."""

    name = "cython"

    def bits(
        self, stream: Stream, draw: int, rate: Rate, first: int, n: int, out: NDArray[np.uint8]
    ) -> None:
        key = stream.open()
        if not stream.sequential:
            status = _core.bits(
                stream.fill_address,
                key.ctypes.data,
                draw,
                rate.threshold,
                first,
                n,
                out,
                get_num_threads(),
            )
        else:
            # A block is made once or, by a generator that cannot go back, not at all:
            # start with a whole one.
            lead = first % BLOCK
            whole = np.empty(-(-(n + lead) // 8), np.uint8)
            status = _core.bits(
                stream.fill_address,
                key.ctypes.data,
                draw,
                rate.threshold,
                first - lead,
                n + lead,
                whole,
                1,
            )
            kept = np.unpackbits(whole, count=n + lead, bitorder="little")[lead:]
            out[...] = np.packbits(kept, bitorder="little")
        if status:
            _raise(status, stream)

    def draw(
        self, rng: AnyRNG, rate: Rate, x: Array, inplace: bool, out: Array | None
    ) -> tuple[Array, Stream, int] | None:
        source = rng.source
        if source is None:
            return None
        stream, counter = source
        try:
            drawn: tuple[Array, Stream, int] | None = _core.draw(
                stream,
                counter,
                stream.fill_address,
                stream.key_address,
                rate.block_words,
                rate.threshold,
                rate.scale,
                x,
                inplace,
                out,
                get_num_threads,
            )
        except _core.KernelError as error:
            _raise(error.args[0], stream)
        return drawn

    def apply(
        self, stream: Stream, draw: int, rate: Rate, first: int, x: Array, out: Array
    ) -> None:
        if stream.sequential:
            self._apply_in_order(stream, draw, rate, first, x, out)
            return
        status = _core.apply(
            stream.fill_address,
            stream.key_address,
            draw,
            rate.threshold,
            rate.scale,
            first,
            x,
            out,
            get_num_threads(),
        )
        if status:
            _raise(status, stream)

    def _apply_in_order(
        self, stream: Stream, draw: int, rate: Rate, first: int, x: Array, out: Array
    ) -> None:
        # Other layouts than C order are walked in memory's order, and a sequential
        # generator cannot go back: a copy in C order can.
        c = np.array(x, order="C")
        key = stream.open()
        status = _core.apply(
            stream.fill_address, key.ctypes.data, draw, rate.threshold, rate.scale, first, c, c, 1
        )
        if status:
            _raise(status, stream)
        np.copyto(out, c)

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
        if stream.sequential or not (out.flags.c_contiguous or _rows_are_last(out)):
            # Bits that are wanted in another order are made ahead.
            super().evaluate(stream, draw, rate, first, strides, form, x, out)
            return
        status = _core.evaluate(
            stream.fill_address,
            stream.key_address,
            draw,
            rate.threshold,
            first,
            strides,
            0 if strides == c_strides(x.shape) else span(x.shape, strides),
            KINDS.index(form.kind),
            rate.scale,
            form.shift,
            form.dropped,
            (x, *form.operands),
            out,
            get_num_threads(),
        )
        if status:
            _raise(status, stream)

    def evaluate_bits(
        self,
        keep: NDArray[np.uint64],
        strides: Strides,
        scale: float,
        form: Form,
        x: Array,
        out: Array,
    ) -> None:
        # Memory's order, whatever the mask's is: its bits are small, and near.
        axes = sorted(range(out.ndim), key=lambda axis: -abs(out.strides[axis]))
        _core.evaluate_bits(
            keep,
            tuple(strides[axis] for axis in axes),
            KINDS.index(form.kind),
            scale,
            form.shift,
            form.dropped,
            tuple(a.transpose(axes) for a in (x, *form.operands)),
            out.transpose(axes),
            get_num_threads(),
        )

    def add_noise(self, stream: Stream, draw: int, noise: Noise, x: Array, out: Array) -> None:
        if stream.sequential:
            # It cannot go back, and other layouts than C order are walked in memory's.
            c, key = np.array(x, order="C"), stream.open()
            status = _core.add_noise(stream.fill_address, key.ctypes.data, draw, *noise, c, c, 1)
            np.copyto(out, c)
        else:
            status = _core.add_noise(
                stream.fill_address, stream.key_address, draw, *noise, x, out, get_num_threads()
            )
        if status:
            _raise(status, stream)

    def info(self) -> dict[str, Any]:
        return {
            "instruction set": _core.isa(),
            "available instruction sets": _core.available_isas(),
        }


def _rows_are_last(out: Array) -> bool:
    """Whether the last axis of any length has the smallest steps."""
    steps = [abs(step) for step, n in zip(out.strides, out.shape, strict=True) if n > 1]
    return not steps or steps[-1] == min(steps)


def _raise(status: int, stream: Stream) -> None:
    if status == _core.NO_MEMORY:
        raise MemoryError("no memory for the mask's bits")
    check_status(status, stream.algorithm.name)
