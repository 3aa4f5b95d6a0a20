"""Some elements at any distance from each other, which go through buffers."""

from __future__ import annotations

from functools import cache
from typing import Any, Final

from ..form import OPERANDS
from .compiling import inner
from .elements import SIZES
from .memory import copy_bytes, copy_element, stack, word_at
from .steps import write_word

PART: Final = 512  # elements that go through buffers at once


@cache
def elements_of(size: int) -> Any:
    """Return a function that copies n elements of a size from one address to another."""

    @inner(size)
    def elements(source: int, step: int, target: int, target_step: int, n: int) -> None:
        if step == size and target_step == size:
            copy_bytes(source, target, n * size)
            return
        for i in range(n):
            copy_element(size, source + i * step, target + i * target_step)

    return elements


@cache
def part_of(name: str, kind: str) -> Any:
    """Return a function that writes up to 512 elements at any distance, through buffers."""
    size, operands, elements = SIZES[name], OPERANDS[kind], elements_of(SIZES[name])
    room_size = PART * size

    @inner(name, kind)
    def part(
        keep: int, n: int, numbers: Any, x: int, x_step: int, u: int, u_step: int, v: int,
        v_step: int, out: int, out_step: int,
    ) -> None:  # fmt: skip
        scale, shift, dropped = numbers
        room = stack(room_size)
        a, b, c = room, room, room
        elements(x, x_step, a, size, n)
        if operands > 0:
            b = stack(room_size)
            elements(u, u_step, b, size, n)
        if operands > 1:
            c = stack(room_size)
            elements(v, v_step, c, size, n)
        for w in range((n + 63) // 64):
            at = w * 64 * size
            bits = word_at(keep + 8 * w)
            write_word(
                name, kind, 0, bits, scale, shift, dropped, a + at, b + at, c + at, room + at
            )
        elements(room, size, out, out_step, n)

    return part
