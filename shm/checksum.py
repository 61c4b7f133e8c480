"""CRC-32 (the zlib polynomial) of words, jitted: guards queue records against bit flips.

Equal to ``zlib.crc32`` of the words' little-endian bytes. Slicing by 8: one table step per word.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from shm.jit import njit
from shm.words import Words

_POLYNOMIAL = 0xEDB88320


def _tables() -> npt.NDArray[np.int64]:
    """table[k][b]: the CRC of byte b followed by k zero bytes; flat, 8 x 256."""
    table = np.zeros((8, 256), np.int64)
    for byte in range(256):
        crc = byte
        for _ in range(8):
            crc = (crc >> 1) ^ (_POLYNOMIAL if crc & 1 else 0)
        table[0, byte] = crc
    for k in range(1, 8):
        table[k] = (table[k - 1] >> 8) ^ table[0][table[k - 1] & 0xFF]
    return table.reshape(-1)


_TABLES = _tables()


@njit
def crc32_words(words: Words, start: int, stop: int, crc: int) -> int:
    """CRC-32 of ``words[start:stop]`` as bytes, continuing from ``crc`` (0 to begin); 0 to 2^32 - 1."""
    state = crc ^ 0xFFFFFFFF
    for i in range(start, stop):
        word = words[i]
        low = (word ^ state) & 0xFFFFFFFF
        high = (word >> 32) & 0xFFFFFFFF
        state = (
            _TABLES[7 * 256 + (low & 0xFF)]
            ^ _TABLES[6 * 256 + ((low >> 8) & 0xFF)]
            ^ _TABLES[5 * 256 + ((low >> 16) & 0xFF)]
            ^ _TABLES[4 * 256 + (low >> 24)]
            ^ _TABLES[3 * 256 + (high & 0xFF)]
            ^ _TABLES[2 * 256 + ((high >> 8) & 0xFF)]
            ^ _TABLES[256 + ((high >> 16) & 0xFF)]
            ^ _TABLES[high >> 24]
        )
    found: int = state ^ 0xFFFFFFFF
    return found
