"""A journal that keeps one entry in memory: what the fast path writes to where nothing is to stay."""

from __future__ import annotations

import struct

import msgspec
import numpy as np

from pipeline.execution.journal import Place
from pipeline.execution.records import RECORD_TYPES, Record

ENTRY_BYTES = 1 << 16
RECORD_HEADER = struct.Struct("<IHHIIqqqq8s")


class MemoryJournal:
    """As far as an encoder, the gate and a world need a journal; every entry lies where the one before it lay."""

    def __init__(self) -> None:
        self.boot_epoch = 0
        self.next_seq = 1
        self._place = Place()
        self._place.octets = np.zeros(ENTRY_BYTES, np.uint8)
        self._place.words = self._place.octets.view(np.int64)

    def has_room(self, size_bytes: int) -> bool:
        """Always: nothing stays."""
        return size_bytes <= ENTRY_BYTES

    def claim(self, size_bytes: int) -> Place:
        """The place of every entry."""
        assert size_bytes <= len(self._place.octets)
        return self._place

    def claimed(self, end: int, count: int) -> None:
        """``count`` records were written."""
        self.next_seq += count

    def recent(self, count: int) -> list[Record]:
        """The records of the last entry."""
        found: list[Record] = []
        at = 0
        for _ in range(count):
            kind, length = RECORD_HEADER.unpack_from(self._place.octets.data, at)[2:4]
            body = bytes(self._place.octets[at + RECORD_HEADER.size : at + RECORD_HEADER.size + length])
            found.append(msgspec.msgpack.decode(body, type=RECORD_TYPES[kind]))
            at += RECORD_HEADER.size + ((length + 7) & ~7)
        return found

    def append(self, record: Record, mono_ns: int, wall_ns: int) -> None:
        """Drops a record of the exact path."""
        self.next_seq += 1

    def close(self) -> None:
        """Nothing was opened."""
