"""The executor's write-ahead journal: append-only, preallocated, memory-mapped segments.

::

    <dir>/journal-00000001.seg     segment_bytes long (default 64 MiB), preallocated, zero beyond the last record

    segment header, 64 bytes
    | magic "ARBJRNL1" 8 | version u32 | header_bytes u32 | index i64 | first_seq i64 | chain seed 8 | reserved 16 |
    | crc32 u32 | 0 u32 |

    record, 8-byte aligned
    | magic u32 | version u16 | type u16 | length u32 | crc32 u32 | seq i64 | mono_ns i64 | wall_ns i64 |
    | boot_epoch i64 | chain 8 |
    | body: msgpack of the struct in records.py, ``length`` bytes | zero padding to 8 |

``crc32`` covers the header (with magic and crc zero) and the body. ``chain`` = BLAKE2b-64 of the previous record's
chain and this body; the first record of a segment chains to the segment's seed, which is the last chain of the
segment before, so that a removed or exchanged record or segment is found.

The body is stored first and ``magic`` last: a process killed in between leaves no record (SYNC journal.magic; pairs
with the reader's check of magic). Pages belong to the file, so a killed process loses nothing that it appended.
Against a dead host: ``durability: process`` syncs in the background, ``power`` when the caller asks (``sync()``).

Reading: a broken record with nothing whole after it is a torn tail and is cut off; one with a whole record after it
is a flip in the middle and is refused (JournalError). After an I/O error on a sync the journal is dead for ever
(fdatasync reports an error once and then lies): every later append raises.
"""

from __future__ import annotations

from pipeline.execution.journal.format import (
    FILE_HEADER_BYTES,
    FORMAT_VERSION,
    RECORD_HEADER_BYTES,
    RECORD_MAGIC,
    JournalEntry,
    JournalPosition,
    segment_indices,
    segment_path,
)
from pipeline.execution.journal.reader import JournalReader, read_journal, segment_start
from pipeline.execution.journal.segments import fits, shrink
from pipeline.execution.journal.writer import SEGMENT_BYTES_MIN, Journal, Place

__all__ = [
    "FILE_HEADER_BYTES",
    "FORMAT_VERSION",
    "RECORD_HEADER_BYTES",
    "RECORD_MAGIC",
    "SEGMENT_BYTES_MIN",
    "Journal",
    "JournalEntry",
    "JournalPosition",
    "JournalReader",
    "Place",
    "fits",
    "read_journal",
    "segment_indices",
    "segment_path",
    "segment_start",
    "shrink",
]
