"""CRC-32 of words is zlib's."""

from __future__ import annotations

import zlib

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from shm.checksum import crc32_words

WORDS = st.lists(st.integers(-(2**63), 2**63 - 1), min_size=1, max_size=64)


@given(WORDS, st.integers(0, 63))
@settings(deadline=None)
def test_crc_is_zlibs_also_in_parts(values: list[int], cut: int) -> None:
    words = np.array(values, np.int64)
    cut = min(cut, len(words))
    wanted = zlib.crc32(words.astype("<i8").tobytes())
    assert crc32_words(words, 0, len(words), 0) == wanted
    assert crc32_words(words, cut, len(words), int(crc32_words(words, 0, cut, 0))) == wanted
