"""ARS4x32 against published answers, and its rounds against those of AES."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import pytest
from paths import DATA
from support import words_by_backend

from fastdrop.rng import ARS4x32
from fastdrop.rng.ars4x32 import ROUNDS, aes_last_round, aes_round, round_key, tables
from fastdrop.rng.base import Stream


class Answer(NamedTuple):
    """A line of the file; counter, key and words are two numbers of 64 bits each."""

    rounds: int
    counter: list[int]
    key: list[int]
    words: list[int]

    def stream(self) -> Stream:
        return Stream(ARS4x32, np.array(self.key, np.uint64))


def known_answers() -> list[Answer]:
    answers = []
    for line in (DATA / "ars4x32_kat.txt").read_text().splitlines():
        if not line.startswith("#"):
            rounds, *numbers = line.split()
            halves = [int(number, 16) for number in numbers]
            both = [low | high << 32 for low, high in zip(halves[::2], halves[1::2], strict=True)]
            answers.append(Answer(int(rounds), both[:2], both[2:4], both[4:]))
    return answers


# A stream's counter has 64 bits; the published ones have 128, and not all have ARS4x32's rounds.
ANSWERS = [answer for answer in known_answers() if answer.rounds == ROUNDS]
OF_STREAMS = [answer for answer in ANSWERS if not answer.counter[1]]


def test_the_published_answers_use_each_byte() -> None:
    assert (len(known_answers()), len(ANSWERS), len(OF_STREAMS)) == (52, 49, 46)
    for values in ([a.counter for a in ANSWERS], [a.key for a in OF_STREAMS]):
        assert np.bitwise_or.reduce(np.array(values, "<u8")).view(np.uint8).all()


@pytest.mark.parametrize("answer", known_answers())
def test_the_rounds_give_the_published_answers(answer: Answer) -> None:
    key = np.array(answer.key, np.uint64)
    block = np.array([answer.counter], np.uint64) ^ round_key(key, 0)
    for number in range(1, answer.rounds):
        block = aes_round(block) ^ round_key(key, number)
    block = aes_last_round(block) ^ round_key(key, answer.rounds)
    assert block.tolist() == [answer.words]


def test_ars4x32_gives_the_published_answers() -> None:
    for answer in OF_STREAMS:
        position = 2 * answer.counter[0]
        assert answer.stream().words(position, 2).tolist() == answer.words


def test_backend_gives_the_published_answers(backend: str) -> None:
    # Some counters lie beyond a stream's end at 2**64 words.
    reachable = [answer for answer in OF_STREAMS if answer.counter[0] < 2**63]
    assert len(reachable) == 42
    for answer in reachable:
        position = 2 * answer.counter[0]
        assert words_by_backend(answer.stream(), position, 2).tolist() == answer.words


# The rounds are those of AES: with its key schedule they make AES itself.

FIPS_197 = [  # key, plain text and cipher text of its appendices B and C.1
    (
        "2b7e151628aed2a6abf7158809cf4f3c",
        "3243f6a8885a308d313198a2e0370734",
        "3925841d02dc09fbdc118597196a0b32",
    ),
    (
        "000102030405060708090a0b0c0d0e0f",
        "00112233445566778899aabbccddeeff",
        "69c4e0d86a7b0430d8cdb78070b4c55a",
    ),
]


def aes_round_keys(key: bytes) -> np.ndarray:
    """Return the eleven round keys of AES-128: uint64, shape (11, 2). (FIPS 197, section 5.2.)"""
    sbox, _ = tables()
    columns, constant = list(np.frombuffer(key, np.uint8).reshape(4, 4)), 1
    while len(columns) < 44:
        changed = columns[-1]
        if len(columns) % 4 == 0:
            changed = sbox[np.roll(changed, -1)]
            changed[0] ^= constant
            constant = constant << 1 ^ (constant >> 7) * 0x11B
        columns.append(columns[-4] ^ changed)
    return np.array(columns).reshape(11, 16).view("<u8").astype(np.uint64)


@pytest.mark.parametrize(("key", "plain", "cipher"), FIPS_197)
def test_the_rounds_make_aes(key: str, plain: str, cipher: str) -> None:
    first, *inner, last = aes_round_keys(bytes.fromhex(key))
    blocks = np.frombuffer(bytes.fromhex(plain), "<u8").reshape(1, 2).astype(np.uint64) ^ first
    for each in inner:
        blocks = aes_round(blocks) ^ each
    blocks = aes_last_round(blocks) ^ last
    assert blocks.astype("<u8").tobytes().hex() == cipher


def test_the_sbox_is_that_of_aes() -> None:
    sbox, _ = tables()
    assert sorted(sbox.tolist()) == list(range(256))
    assert [int(sbox[x]) for x in (0x00, 0x01, 0x53, 0xFF)] == [0x63, 0x7C, 0xED, 0x16]
