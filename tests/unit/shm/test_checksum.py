"""CRC-32 of words is zlib's."""

from __future__ import annotations

import zlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shm.checksum import crc32_record, crc32_words

WORDS = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=64)


@given(WORDS, st.integers(0, 63))
@settings(deadline=None)
def test_crc_is_zlibs_also_in_parts(values: list[int], cut: int) -> None:
    words = np.array(values, np.int64)
    cut = min(cut, len(words))
    wanted = zlib.crc32(words.astype("<i8").tobytes())
    assert crc32_words(words, 0, len(words), 0) == wanted
    assert crc32_words(words, cut, len(words), int(crc32_words(words, 0, cut, 0))) == wanted


@given(st.lists(st.integers(-(2**63), 2**63 - 1), min_size=16, max_size=16), st.integers(0, 15), st.integers(0, 63))
@settings(deadline=None)
def test_record_crc_sees_every_flipped_bit_but_those_of_seq_and_crc(values: list[int], at: int, bit: int) -> None:
    words = np.array([0, 0, *values], np.int64)
    before = int(crc32_record(words, 2, 16, 5))
    flipped = words.copy()
    flipped[2 + at : 3 + at].view(np.uint64)[:] ^= np.uint64(1 << bit)
    assert (int(crc32_record(flipped, 2, 16, 5)) == before) == (at in (0, 5))
