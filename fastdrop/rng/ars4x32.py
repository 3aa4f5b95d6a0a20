"""ARS4x32-7: the rounds of AES, which processors have an instruction for."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

import numpy as np

from .base import Words
from .builtin import BuiltinRNG

if TYPE_CHECKING:
    from numpy.typing import NDArray

WEYL: Final = 0x9E3779B97F4A7C15, 0xBB67AE8584CAA73B  # what a round's key differs from the last by
ROUNDS: Final = 7

_MASK: Final = (1 << 64) - 1
# ShiftRows: byte i of column c is taken from column c + i.
_SHIFTED: Final = [4 * ((column + i) % 4) + i for column in range(4) for i in range(4)]


class ARS4x32(BuiltinRNG):
    """ARS4x32-7, a counter-based generator from AES's rounds, and fastdrop's default.

    Parameters
    ----------
    seed : None, int, sequence of int, or numpy.random.SeedSequence, optional
        What `numpy.random.SeedSequence` takes.

    Notes
    -----
    Words 2n and 2n + 1 of the stream are the two halves, low half first, of the block that n,
    as a 128-bit number, becomes. Each of seven rounds is one of AES's, as FIPS 197 defines
    them. The words of the key are the first round key, low half first. Each key has 2**64 words.

    Where the processor has instructions for AES, this is the fastest of the generators. Where it
    has none, tables take nine times as long as `Philox4x32`: ``fastdrop.show_config()`` tells.

    It is no cipher: its keys follow a simple sequence, and seven rounds are fewer than AES has.

    References
    ----------
    J. K. Salmon, M. A. Moraes, R. O. Dror, D. E. Shaw, "Parallel random
    numbers: as easy as 1, 2, 3", SC 2011.

    NIST, "Advanced Encryption Standard (AES)", FIPS 197, 2001.

    Examples
    --------
    >>> import fastdrop
    >>> rng = fastdrop.ARS4x32(0)
    >>> rng.random_raw(2).dtype, rng.position
    (dtype('uint64'), 2)
    """

    name = "ars4x32"
    _key_words = 2

    @classmethod
    def words(cls, key: Words, position: int, n: int) -> Words:
        first, last = position // 2, (position + n + 1) // 2
        blocks = np.zeros((last - first, 2), np.uint64)
        blocks[:, 0] = np.uint64(first) + np.arange(last - first, dtype=np.uint64)
        blocks ^= round_key(key, 0)
        for number in range(1, ROUNDS):
            blocks = aes_round(blocks) ^ round_key(key, number)
        blocks = aes_last_round(blocks) ^ round_key(key, ROUNDS)
        return blocks.reshape(-1)[position % 2 : position % 2 + n]


def round_key(key: Words, number: int) -> Words:
    """Return a round's key: uint64, shape (2,)."""
    words = (int(word) + number * weyl & _MASK for word, weyl in zip(key, WEYL, strict=True))
    return np.array(list(words), np.uint64)


def aes_round(blocks: Words) -> Words:
    """Return AES's SubBytes, ShiftRows and MixColumns of blocks: uint64, shape (n, 2)."""
    _, columns = tables()
    taken = _bytes(blocks)[:, _SHIFTED].reshape(-1, 4, 4)
    mixed = columns[0][taken[..., 0]]
    for i in range(1, 4):
        mixed = mixed ^ columns[i][taken[..., i]]
    return np.ascontiguousarray(mixed, "<u4").view("<u8").astype(np.uint64)


def aes_last_round(blocks: Words) -> Words:
    """Return the same without MixColumns."""
    sbox, _ = tables()
    taken = _bytes(blocks)[:, _SHIFTED]
    return np.ascontiguousarray(sbox[taken]).view("<u8").astype(np.uint64)


def _bytes(blocks: Words) -> NDArray[np.uint8]:
    return blocks.astype("<u8").view(np.uint8)


@cache
def tables() -> tuple[NDArray[np.uint8], NDArray[np.uint32]]:
    """Return AES's S-box, and the column that a round makes of byte number i of one.

    The second array has shape (4, 256). (FIPS 197, sections 5.1.1 and 5.1.3.)
    """
    powers = [1]  # of 3: all numbers but 0, and power n is the inverse of power 255 - n
    while len(powers) < 255:
        powers.append(powers[-1] ^ _doubled(powers[-1]))
    inverses = {powers[n]: powers[-n % 255] for n in range(255)} | {0: 0}
    sbox = [_affine(inverses[x]) for x in range(256)]
    once = [_doubled(s) | s << 8 | s << 16 | (s ^ _doubled(s)) << 24 for s in sbox]
    columns = [[(c << 8 * i | c >> 32 - 8 * i) & 0xFFFFFFFF for c in once] for i in range(4)]
    return np.array(sbox, np.uint8), np.array(columns, np.uint32)


def _doubled(x: int) -> int:
    """Return a number of AES's field times the polynomial x."""
    return x << 1 ^ (x >> 7) * 0x11B


def _affine(x: int) -> int:
    """Return SubBytes of a number whose inverse is x."""
    made = 0x63
    for i in range(4, 9):
        made ^= (x * 0x101) >> i & 0xFF  # rotated
    return made
