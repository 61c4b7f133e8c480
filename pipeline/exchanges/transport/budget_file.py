"""Request budgets that outlive their process: a small mapped file per process and venue.

A killed process would forget its last second of orders, its weight of the last ten seconds and the silence that a 429
or 418 asked for; its successor would begin with full budgets and be refused in the middle of a recovery. Pages belong
to the file, so what was written survives the writer. All times are CLOCK_MONOTONIC of one host; a time that lies in
the future is of another boot of the host and counts as nothing.

::

    words (int64): magic | hash of the bucket names | silent until | 0 ... | bucket 0 | bucket 1 | ...
    bucket:        silent until | stamp or count | tokens x 10^6 | ring of (time, units x 10^3)
"""

from __future__ import annotations

import mmap
import os
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path

MAGIC = 0x4152_4254_4852_0001
RING = 128  # more than any venue's orders in one window
HEADER_WORDS = 8
BUCKET_WORDS = 4 + 2 * RING
SILENT, STAMP, TOKENS, ENTRIES = 0, 1, 2, 4
TOKEN_SCALE = 1_000_000
UNIT_SCALE = 1_000


class BudgetMemory:
    """The words (int64) of one file; one process writes it at a time. Raises OSError when it cannot be had."""

    def __init__(self, path: Path, names: Sequence[str]) -> None:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        size_bytes = 8 * (HEADER_WORDS + len(names) * BUCKET_WORDS)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            os.posix_fallocate(descriptor, 0, size_bytes)  # a page that cannot be had later would kill the writer
            self._map = mmap.mmap(descriptor, size_bytes)
        finally:
            os.close(descriptor)
        self.words = memoryview(self._map).cast("q")
        identity = zlib.crc32("\n".join(names).encode())
        if (self.words[0], self.words[1]) != (MAGIC, identity):  # new, or of a version with other buckets
            self._map[:] = bytes(size_bytes)
            self.words[1] = identity
            self.words[0] = MAGIC

    @staticmethod
    def base(index: int) -> int:
        """Where a bucket's words begin."""
        return HEADER_WORDS + index * BUCKET_WORDS

    def push(self, base: int, at_ns: int, units: float) -> None:
        """Adds an entry to a bucket's ring; the count is stored last."""
        words = self.words
        count = words[base + STAMP]
        at = base + ENTRIES + 2 * (count % RING)
        words[at] = at_ns
        words[at + 1] = int(units * UNIT_SCALE)
        words[base + STAMP] = count + 1

    def entries(self, base: int) -> Iterator[tuple[int, float]]:
        """(time, units) of a bucket's ring, oldest first."""
        count = self.words[base + STAMP]
        for number in range(max(0, count - RING), count):
            at = base + ENTRIES + 2 * (number % RING)
            yield self.words[at], self.words[at + 1] / UNIT_SCALE
