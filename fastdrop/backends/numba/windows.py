"""Windows: a mask's elements that an index picks, packed in C order, of one draw or of many.

drivers/window.c says more.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from ...mask_format import BLOCK
from .blocks import BLOCK_WORDS, block_bits
from .compiling import inner
from .memory import put_word, stack, word_at

_BLOCK_BYTES = 8 * BLOCK_WORDS
_1 = np.uint64(1)
_63 = np.uint64(63)


def elements_made(axes: NDArray[np.int64], n: int) -> int:
    """Return about how many elements the blocks have that a window's n elements lie in."""
    length, step = (int(number) for number in axes[-1][:2])
    row = length * min(max(step, 1), BLOCK)
    above = int(axes[-2][1]) if len(axes) > 1 else row
    return n // length * (row if row > above else min(above, row + BLOCK))


@inner()
def pack(mask: Any, draws: Any, first: int, axes: Any, bounds: Any, out: int) -> int:
    """Write the bits of elements begin to end - 1 of all draws' windows; begin is a multiple of 64.

    The mask's own draw is not looked at.
    """
    fill, key, _, compare, threshold = mask
    at, end = bounds
    each = 1
    for axis in axes:
        each *= axis[0]
    while at < end:
        inside = at % each
        n = min(each - inside, end - at)
        drawn = fill, key, draws[at // each], compare, threshold
        status = _pack_one(drawn, first, axes, inside, n, out, at)
        if status:
            return status
        at += n
    return 0


@inner()
def _pack_one(mask: Any, first: int, axes: Any, at: int, n: int, out: int, to: int) -> int:
    """Write the bits of a window's elements at to at + n - 1, at bit `to`."""
    end = at + n
    keep, block, known = stack(_BLOCK_BYTES), -1, 0
    length, step = axes[-1, 0], axes[-1, 1]
    while at < end:
        element, rest = first, at
        for axis in range(len(axes) - 1, -1, -1):
            element += rest % axes[axis, 0] * axes[axis, 1]
            rest //= axes[axis, 0]
        row_end = min(at - at % length + length, end)
        while at < row_end:
            inside = element % BLOCK
            n = min(row_end - at, (BLOCK - 1 - inside) // step + 1) if step else 1
            top = inside + (n - 1) * step
            if element // BLOCK != block or top >= known:
                # A second row in the same block: it is made as a whole.
                known = BLOCK if element // BLOCK == block else top + 1
                block = element // BLOCK
                status = block_bits(mask, block, known, keep)
                if status:
                    return status
            if step == 1:
                _copy(keep, inside, n, out, to)
            else:
                for i in range(n):
                    _copy(keep, inside + i * step, 1, out, to + i)
            at, to = at + n, to + n
            element += n * step
    return 0


@inner()
def _copy(keep: int, bit: int, n: int, out: int, to: int) -> None:
    """Append n bits, from bit number `bit` on, at bit `to`; the rest of the last word becomes 0."""
    while n > 0:
        take = min(n, 64 - to % 64)
        at, down = keep + 8 * (bit // 64), np.uint64(bit % 64)
        word = word_at(at) >> down
        if bit % 64 + take > 64:
            word |= word_at(at + 8) << _1 << (_63 - down)
        if take < 64:
            word &= (_1 << np.uint64(take)) - _1
        target = out + 8 * (to // 64)
        if to % 64 == 0:
            put_word(target, word)
        else:
            put_word(target, word_at(target) | word << np.uint64(to % 64))
        bit, to, n = bit + take, to + take, n - take
