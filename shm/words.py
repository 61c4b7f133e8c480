"""The one array type of shared memory, and fixed-width text in it."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

Words = npt.NDArray[np.int64]
"""A segment or a part of it: C-contiguous ``int64``, shape (n,), little-endian."""


def pack_text(text: str, width_words: int) -> Words:
    """UTF-8, zero padded, in ``width_words`` words; cut at the last whole character that fits."""
    raw = text.encode()[: width_words * 8].decode(errors="ignore").encode()
    return np.frombuffer(raw.ljust(width_words * 8, b"\0"), dtype="<i8").astype(np.int64)


def unpack_text(words: Words) -> str:
    """Inverse of :func:`pack_text`; bytes that are no UTF-8 become replacement characters."""
    return words.astype("<i8").tobytes().split(b"\0", 1)[0].decode(errors="replace")
