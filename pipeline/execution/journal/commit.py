"""Jitted commit of journal records whose bodies lie in their place already: header, hash chain, checksum, magic last.

The same bytes as ``Journal.append`` writes (format: the docstring of ``pipeline/execution/journal``);
``tests/unit/fast_entry`` compares both, and the two hash functions with hashlib and zlib.
Source of the hash: BLAKE2b, RFC 7693.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shm.atomics import store_release
from shm.checksum import crc32_words
from shm.jit import njit_bare
from shm.words import Octets, Words

Cells = npt.NDArray[np.uint64]

HEADER_WORDS = 7
_U = np.uint64
_IV = np.array(
    [
        0x6A09E667F3BCC908, 0xBB67AE8584CAA73B, 0x3C6EF372FE94F82B, 0xA54FF53A5F1D36F1,
        0x510E527FADE682D1, 0x9B05688C2B3E6C1F, 0x1F83D9ABFB41BD6B, 0x5BE0CD19137E2179,
    ],
    np.uint64,
)  # fmt: skip
_SIGMA_ROWS = (
    (0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15),
    (14, 10, 4, 8, 9, 15, 13, 6, 1, 12, 0, 2, 11, 7, 5, 3),
    (11, 8, 12, 0, 5, 2, 15, 13, 10, 14, 3, 6, 7, 1, 9, 4),
    (7, 9, 3, 1, 13, 12, 11, 14, 2, 6, 5, 10, 4, 0, 15, 8),
    (9, 0, 5, 7, 2, 4, 10, 15, 14, 1, 11, 12, 6, 8, 3, 13),
    (2, 12, 6, 10, 0, 11, 8, 3, 4, 13, 7, 5, 15, 14, 1, 9),
    (12, 5, 1, 15, 14, 13, 4, 10, 0, 7, 6, 3, 9, 2, 8, 11),
    (13, 11, 7, 14, 12, 1, 3, 9, 5, 0, 15, 4, 8, 6, 2, 10),
    (6, 15, 14, 9, 11, 3, 0, 8, 12, 2, 13, 7, 1, 4, 10, 5),
    (10, 2, 8, 4, 7, 6, 1, 5, 15, 11, 9, 14, 3, 12, 13, 0),
)
ROUNDS = 12
_SIGMA = np.array([_SIGMA_ROWS[k % 10] for k in range(ROUNDS)], np.int64).reshape(-1)
BLOCK_WORDS = 16
_PARAMETERS = 0x01010008  # digest of 8 bytes, no key, fan-out and depth 1


def _byte_table() -> Words:
    """The CRC of each single byte."""
    table = np.zeros(256, np.int64)
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (0xEDB88320 if crc & 1 else 0)
        table[byte] = crc
    return table


_BYTE_TABLE = _byte_table()


@njit_bare
def crc32_octets(octets: Octets, start: int, stop: int, crc: int) -> int:
    """zlib's CRC-32 of ``octets[start:stop]``, continuing from ``crc``."""
    state = crc ^ 0xFFFFFFFF
    for k in range(start, stop):
        state = (state >> 8) ^ _BYTE_TABLE[(state ^ octets[k]) & 0xFF]
    return state ^ 0xFFFFFFFF


@njit_bare(forceinline=True)
def _turn(value: np.uint64, bits: int) -> np.uint64:
    return (value >> _U(bits)) | (value << _U(64 - bits))


@njit_bare(forceinline=True)
def _mix(
    a: np.uint64, b: np.uint64, c: np.uint64, d: np.uint64, x: np.uint64, y: np.uint64
) -> tuple[np.uint64, np.uint64, np.uint64, np.uint64]:
    a = a + b + x
    d = _turn(d ^ a, 32)
    c = c + d
    b = _turn(b ^ c, 24)
    a = a + b + y
    d = _turn(d ^ a, 16)
    c = c + d
    b = _turn(b ^ c, 63)
    return a, b, c, d


@njit_bare
def _compress(h: Cells, m: Cells, counted: int, last: bool) -> None:
    """One block of BLAKE2b: ``m`` into ``h``; ``counted`` bytes so far, this block included."""
    v0, v1, v2, v3, v4, v5, v6, v7 = h[0], h[1], h[2], h[3], h[4], h[5], h[6], h[7]
    v8, v9, v10, v11 = _IV[0], _IV[1], _IV[2], _IV[3]
    v12, v13, v14, v15 = _IV[4] ^ _U(counted), _IV[5], _IV[6], _IV[7]
    if last:
        v14 = ~v14
    for turn in range(ROUNDS):
        s = turn * 16
        v0, v4, v8, v12 = _mix(v0, v4, v8, v12, m[_SIGMA[s]], m[_SIGMA[s + 1]])
        v1, v5, v9, v13 = _mix(v1, v5, v9, v13, m[_SIGMA[s + 2]], m[_SIGMA[s + 3]])
        v2, v6, v10, v14 = _mix(v2, v6, v10, v14, m[_SIGMA[s + 4]], m[_SIGMA[s + 5]])
        v3, v7, v11, v15 = _mix(v3, v7, v11, v15, m[_SIGMA[s + 6]], m[_SIGMA[s + 7]])
        v0, v5, v10, v15 = _mix(v0, v5, v10, v15, m[_SIGMA[s + 8]], m[_SIGMA[s + 9]])
        v1, v6, v11, v12 = _mix(v1, v6, v11, v12, m[_SIGMA[s + 10]], m[_SIGMA[s + 11]])
        v2, v7, v8, v13 = _mix(v2, v7, v8, v13, m[_SIGMA[s + 12]], m[_SIGMA[s + 13]])
        v3, v4, v9, v14 = _mix(v3, v4, v9, v14, m[_SIGMA[s + 14]], m[_SIGMA[s + 15]])
    h[0] ^= v0 ^ v8
    h[1] ^= v1 ^ v9
    h[2] ^= v2 ^ v10
    h[3] ^= v3 ^ v11
    h[4] ^= v4 ^ v12
    h[5] ^= v5 ^ v13
    h[6] ^= v6 ^ v14
    h[7] ^= v7 ^ v15


@njit_bare
def chain_of(previous: np.uint64, words: Words, start: int, size: int, h: Cells, m: Cells) -> np.uint64:
    """BLAKE2b-64 of ``previous`` (8 bytes) and ``size`` bytes from word ``start`` of ``words``.

    ``h`` (8 words) and ``m`` (16 words) are scratch. The bytes behind ``size`` in its last word must be zero.
    """
    for k in range(8):
        h[k] = _IV[k]
    h[0] ^= _U(_PARAMETERS)
    total = size + 8
    count = (total + 7) >> 3
    blocks = (count + BLOCK_WORDS - 1) // BLOCK_WORDS
    for block in range(blocks):
        for k in range(BLOCK_WORDS):
            word = block * BLOCK_WORDS + k - 1  # of the body: the first word of the message is the chain before
            m[k] = previous if word < 0 else _U(words[start + word]) if word < count - 1 else _U(0)
        last = block == blocks - 1
        _compress(h, m, total if last else (block + 1) * BLOCK_WORDS * 8, last)
    chain: np.uint64 = h[0]
    return chain


@njit_bare
def commit_record(
    octets: Octets,
    words: Words,
    at: int,
    size: int,
    kind_and_version: int,
    magic: int,
    seq: int,
    mono_ns: int,
    wall_ns: int,
    boot_epoch: int,
    scratch: Cells,
) -> None:
    """Commits the record whose body of ``size`` bytes lies at byte ``at`` + 56: header, chain, checksum, magic last.

    ``octets`` and ``words`` are the same bytes. ``scratch``: the chain before (becomes the chain behind), then 8 and
    16 words to work in.
    """
    word = at >> 3
    body = word + HEADER_WORDS
    chain = chain_of(scratch[0], words, body, size, scratch[1:9], scratch[9:25])
    words[word] = kind_and_version << 32
    words[word + 1] = size
    words[word + 2] = seq
    words[word + 3] = mono_ns
    words[word + 4] = wall_ns
    words[word + 5] = boot_epoch
    words[word + 6] = np.int64(chain)
    crc = crc32_octets(octets, at + 4, at + 8, 0)
    whole = size >> 3
    crc = crc32_words(words, word + 1, body + whole, crc)
    crc = crc32_octets(octets, at + 56 + (whole << 3), at + 56 + size, crc)
    words[word + 1] = size | (crc << 32)
    scratch[0] = chain
    store_release(words, word, kind_and_version << 32 | magic)  # SYNC journal.magic: last; commits the record
