"""Forms under bits that are given, of arrays in any layout."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

import numpy as np

from ..form import OPERANDS
from .blocks import shifted
from .compiling import inner, like, named
from .elements import SIZES
from .memory import put_word, stack, word_at
from .parts import PART, part_of
from .steps import write_word

_PART_BITS: Final = PART // 8
_0, _1 = np.uint64(0), np.uint64(1)

# An axis of the arrays: its length, and the steps along it, in bytes but for the mask's, whose
# are elements.
AXIS: Final = ("length", "mask", "out", "x", "u", "v")


@inner()
def place(axes: Any, element: int) -> tuple[int, int, int, int, int]:
    """Return how far an element, counted along the axes, is from the first, by each of `AXIS`."""
    mask, out, x, u, v = 0, 0, 0, 0, 0
    for axis in axes[::-1]:
        index = element % axis[0]
        element //= axis[0]
        mask += index * axis[1]
        out += index * axis[2]
        x += index * axis[3]
        u += index * axis[4]
        v += index * axis[5]
    return mask, out, x, u, v


@inner()
def _row_bits(keep: int, bit: int, step: int, n: int, out: int) -> None:
    """Write the bits of n elements, `step` bits from one to the next."""
    if step == 1:
        shifted(keep, bit, n, out)
        return
    for start in range(0, n, 64):
        word = _0
        for i in range(min(64, n - start)):
            at = bit + (start + i) * step
            word |= (word_at(keep + 8 * (at >> 6)) >> np.uint64(at & 63) & _1) << np.uint64(i)
        put_word(out + start // 8, word)


@cache
def _row(name: str, kind: str) -> Any:
    """Return a function that writes n elements of a row."""
    size, operands, part = SIZES[name], OPERANDS[kind], part_of(name, kind)

    @inner(name, kind)
    def row(
        keep: int, bit: int, bit_step: int, n: int, numbers: Any, x: int, x_step: int, u: int,
        u_step: int, v: int, v_step: int, out: int, out_step: int,
    ) -> None:  # fmt: skip
        scale, shift, dropped = numbers
        bits = stack(_PART_BITS)
        even = x_step == size and out_step == size
        if operands > 0:
            even = even and u_step == size
        if operands > 1:
            even = even and v_step == size
        while n > 0:
            take = min(n, PART)
            _row_bits(keep, bit, bit_step, take, bits)
            if even and take == PART:
                for w in range(PART // 64):
                    at, word = w * 64 * size, word_at(bits + 8 * w)
                    write_word(
                        name, kind, 0, word, scale, shift, dropped, x + at, u + at, v + at, out + at
                    )
            else:
                part(bits, take, numbers, x, x_step, u, u_step, v, v_step, out, out_step)
            n, bit = n - take, bit + take * bit_step
            x, out = x + take * x_step, out + take * out_step
            u, v = u + take * u_step, v + take * v_step

    return row


def walk(variant: Any, keep: Any, axes: Any, bounds: Any, numbers: Any, at: Any) -> Any:
    """Write elements begin to end - 1, counted along the axes, last axis first."""


@like(walk)
def _walk_of(variant: Any, keep: Any, axes: Any, bounds: Any, numbers: Any, at: Any) -> Any:
    name, kind = (part.literal_value for part in variant)
    row = _row(name, kind)

    def walk(variant, keep, axes, bounds, numbers, at):  # type: ignore[no-untyped-def]
        (words, first), (element, end), (x, u, v, out) = keep, bounds, at
        last = axes[-1]
        while element < end:
            n = min(last[0] - element % last[0], end - element)
            bit, to, a, b, c = place(axes, element)
            row(
                words, first + bit, last[1], n, numbers, x + a, last[3], u + b, last[4], v + c,
                last[5], out + to, last[2],
            )  # fmt: skip
            element += n
        return 0

    return named(walk, name, kind)
