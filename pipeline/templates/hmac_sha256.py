"""HMAC-SHA256 in hex, in jitted code: the signature of an order that is filled from a template.

The key's two pads are hashed once (:func:`pads_of`), so that a signature costs the blocks of the message and one more.
Only eight rounds are unrolled: code that runs once in a while has to be fetched first.

*Source:* FIPS 180-4 (SHA-256), RFC 2104 (HMAC).
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shm.jit import njit_bare
from shm.words import Octets

Cells = npt.NDArray[np.uint64]

BLOCK_BYTES = 64
DIGEST_WORDS = 8
SCHEDULE_WORDS = 64
SCRATCH_CELLS = DIGEST_WORDS + SCHEDULE_WORDS
_W = np.uint32
_START = (
    0x6A09E667, 0xBB67AE85, 0x3C6EF372, 0xA54FF53A, 0x510E527F, 0x9B05688C, 0x1F83D9AB, 0x5BE0CD19,
)  # fmt: skip
_ROUND_KEYS = np.array(
    [
        0x428A2F98, 0x71374491, 0xB5C0FBCF, 0xE9B5DBA5, 0x3956C25B, 0x59F111F1, 0x923F82A4, 0xAB1C5ED5,
        0xD807AA98, 0x12835B01, 0x243185BE, 0x550C7DC3, 0x72BE5D74, 0x80DEB1FE, 0x9BDC06A7, 0xC19BF174,
        0xE49B69C1, 0xEFBE4786, 0x0FC19DC6, 0x240CA1CC, 0x2DE92C6F, 0x4A7484AA, 0x5CB0A9DC, 0x76F988DA,
        0x983E5152, 0xA831C66D, 0xB00327C8, 0xBF597FC7, 0xC6E00BF3, 0xD5A79147, 0x06CA6351, 0x14292967,
        0x27B70A85, 0x2E1B2138, 0x4D2C6DFC, 0x53380D13, 0x650A7354, 0x766A0ABB, 0x81C2C92E, 0x92722C85,
        0xA2BFE8A1, 0xA81A664B, 0xC24B8B70, 0xC76C51A3, 0xD192E819, 0xD6990624, 0xF40E3585, 0x106AA070,
        0x19A4C116, 0x1E376C08, 0x2748774C, 0x34B0BCB5, 0x391C0CB3, 0x4ED8AA4A, 0x5B9CCA4F, 0x682E6FF3,
        0x748F82EE, 0x78A5636F, 0x84C87814, 0x8CC70208, 0x90BEFFFA, 0xA4506CEB, 0xBEF9A3F7, 0xC67178F2,
    ],
    np.uint32,
)  # fmt: skip


@njit_bare(forceinline=True)
def _turn(value: np.uint32, bits: int) -> np.uint32:
    return _W(_W(value >> _W(bits)) | _W(value << _W(32 - bits)))


@njit_bare(forceinline=True)
def _round(
    a: np.uint32,
    b: np.uint32,
    c: np.uint32,
    d: np.uint32,
    e: np.uint32,
    f: np.uint32,
    g: np.uint32,
    h: np.uint32,
    key: np.uint32,
    word: np.uint32,
) -> tuple[np.uint32, np.uint32]:
    """The two variables that a round changes: what ``d`` and ``h`` become."""
    choice = _W(g ^ _W(e & _W(f ^ g)))
    first = _W(h + _W(_turn(e, 6) ^ _turn(e, 11) ^ _turn(e, 25)) + choice + key + word)
    majority = _W(_W(a & b) | _W(c & _W(a | b)))
    second = _W(_W(_turn(a, 2) ^ _turn(a, 13) ^ _turn(a, 22)) + majority)
    return _W(d + first), _W(first + second)


@njit_bare
def compress(cells: Cells) -> None:
    """One block: the first 16 words behind the state in ``cells`` (uint64[SCRATCH_CELLS], 32 bits in each) into it."""
    w = DIGEST_WORDS
    for k in range(16, SCHEDULE_WORDS):
        x, y = _W(cells[w + k - 15]), _W(cells[w + k - 2])
        small_0 = _W(_turn(x, 7) ^ _turn(x, 18) ^ _W(x >> _W(3)))
        small_1 = _W(_turn(y, 17) ^ _turn(y, 19) ^ _W(y >> _W(10)))
        cells[w + k] = _W(_W(cells[w + k - 16]) + _W(cells[w + k - 7]) + small_0 + small_1)
    a, b, c, d = _W(cells[0]), _W(cells[1]), _W(cells[2]), _W(cells[3])
    e, f, g, h = _W(cells[4]), _W(cells[5]), _W(cells[6]), _W(cells[7])
    for k in range(0, SCHEDULE_WORDS, 8):  # eight rounds: then every variable has its own place again
        at = w + k
        d, h = _round(a, b, c, d, e, f, g, h, _W(_ROUND_KEYS[k]), _W(cells[at]))
        c, g = _round(h, a, b, c, d, e, f, g, _W(_ROUND_KEYS[k + 1]), _W(cells[at + 1]))
        b, f = _round(g, h, a, b, c, d, e, f, _W(_ROUND_KEYS[k + 2]), _W(cells[at + 2]))
        a, e = _round(f, g, h, a, b, c, d, e, _W(_ROUND_KEYS[k + 3]), _W(cells[at + 3]))
        h, d = _round(e, f, g, h, a, b, c, d, _W(_ROUND_KEYS[k + 4]), _W(cells[at + 4]))
        g, c = _round(d, e, f, g, h, a, b, c, _W(_ROUND_KEYS[k + 5]), _W(cells[at + 5]))
        f, b = _round(c, d, e, f, g, h, a, b, _W(_ROUND_KEYS[k + 6]), _W(cells[at + 6]))
        e, a = _round(b, c, d, e, f, g, h, a, _W(_ROUND_KEYS[k + 7]), _W(cells[at + 7]))
    cells[0], cells[1] = _W(_W(cells[0]) + a), _W(_W(cells[1]) + b)
    cells[2], cells[3] = _W(_W(cells[2]) + c), _W(_W(cells[3]) + d)
    cells[4], cells[5] = _W(_W(cells[4]) + e), _W(_W(cells[5]) + f)
    cells[6], cells[7] = _W(_W(cells[6]) + g), _W(_W(cells[7]) + h)


@njit_bare
def _big_endian(octets: Octets, at: int) -> np.int64:
    """Four bytes as a number."""
    number = np.int64(0)
    for k in range(4):
        number = number << 8 | np.int64(octets[at + k])
    return number


@njit_bare
def _state(pool: Octets, at: int, cells: Cells) -> None:
    """The state behind one pad, out of the key's pads."""
    for k in range(DIGEST_WORDS):
        cells[k] = _big_endian(pool, at + 4 * k)


@njit_bare
def _absorb(octets: Octets, start: int, size: int, cells: Cells) -> None:
    """The whole message, with its end and its length, into a state that has seen one block."""
    blocks = (size + 8) // BLOCK_BYTES + 1
    for block in range(blocks):
        first = block * BLOCK_BYTES
        for k in range(16):
            at = first + 4 * k
            if at + 4 <= size:
                cells[DIGEST_WORDS + k] = _big_endian(octets, start + at)
                continue
            word = np.int64(0)
            for i in range(at, at + 4):
                word <<= 8
                if i < size:
                    word |= np.int64(octets[start + i])
                elif i == size:
                    word |= 0x80
            cells[DIGEST_WORDS + k] = word
        if block == blocks - 1:
            cells[DIGEST_WORDS + 15] = (BLOCK_BYTES + size) * 8
        compress(cells)


@njit_bare
def sign_hex(octets: Octets, start: int, stop: int, place: int, pool: Octets, pads: int, cells: Cells) -> None:
    """HMAC-SHA256 of ``octets[start:stop]`` as 64 hex digits at ``place``, under the key whose pads lie at ``pads`` of
    ``pool``. ``cells``: uint64[SCRATCH_CELLS]."""
    _state(pool, pads, cells)
    _absorb(octets, start, stop - start, cells)
    for k in range(DIGEST_WORDS):  # the inner digest is the outer message: a block with its end and its length
        cells[DIGEST_WORDS + k] = cells[k]
        cells[2 * DIGEST_WORDS + k] = 0
    cells[2 * DIGEST_WORDS] = 0x80000000
    cells[DIGEST_WORDS + 15] = (BLOCK_BYTES + 4 * DIGEST_WORDS) * 8
    _state(pool, pads + 4 * DIGEST_WORDS, cells)
    compress(cells)
    for k in range(DIGEST_WORDS):
        word = np.int64(cells[k])
        for i in range(8):
            digit = word >> (28 - 4 * i) & 15
            octets[place + 8 * k + i] = digit + (48 if digit < 10 else 87)


def pads_of(key: bytes) -> bytes:
    """The states behind both pads of a key, 64 bytes, big-endian, as secret as the key. The caller hashes keys that are
    longer than a block (RFC 2104)."""
    assert len(key) <= BLOCK_BYTES
    states = b""
    for pad in (0x36, 0x5C):
        block = bytes(byte ^ pad for byte in key.ljust(BLOCK_BYTES, b"\0"))
        cells = np.zeros(SCRATCH_CELLS, np.uint64)
        cells[:DIGEST_WORDS] = _START
        cells[DIGEST_WORDS : DIGEST_WORDS + 16] = np.frombuffer(block, ">u4")
        compress(cells)
        states += cells[:DIGEST_WORDS].astype(">u4").tobytes()
    return states
