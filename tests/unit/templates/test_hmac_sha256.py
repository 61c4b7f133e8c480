"""The jitted signature is the library's, for every length of message and key."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as some

from pipeline.templates.hmac_sha256 import BLOCK_BYTES, SCRATCH_CELLS, pads_of, sign_hex
from tests.naive.orders import hex_signature


@settings(deadline=None)
@given(some.binary(max_size=400), some.binary(min_size=1, max_size=BLOCK_BYTES), some.integers(0, 9))
def test_a_signature_is_the_librarys(message: bytes, key: bytes, before: int) -> None:
    pads = pads_of(key)
    pool = np.frombuffer(bytes(before) + pads, np.uint8).copy()
    out = np.zeros(before + len(message) + 64, np.uint8)
    end = before + len(message)
    out[before:end] = np.frombuffer(message, np.uint8)
    cells = np.full(SCRATCH_CELLS, 2**64 - 1, np.uint64)  # of whatever was there before
    sign_hex(out, before, end, end, pool, before, cells)
    assert bytes(out[end:]).decode() == hex_signature(key, message)
    assert bytes(out[before:end]) == message


def test_every_length_around_a_blocks_end() -> None:
    pool, cells = np.frombuffer(pads_of(b"key"), np.uint8).copy(), np.zeros(SCRATCH_CELLS, np.uint64)
    for size in range(200):
        message = bytes(k % 251 for k in range(size))
        out = np.frombuffer(message + bytes(64), np.uint8).copy()
        sign_hex(out, 0, size, size, pool, 0, cells)
        assert bytes(out[size:]).decode() == hex_signature(b"key", message)
