"""The journal's format as code: header structs, checksum and hash chain of a record, names of segment files.

The drawing of both headers stands in the package's docstring (``pipeline/execution/journal/__init__.py``).
"""

from __future__ import annotations

import struct
import zlib
from hashlib import blake2b
from pathlib import Path

import msgspec

from pipeline.execution.records import RECORD_TYPES, Record

RECORD_BYTES_MAX = 1 << 20
SPARE_NAME = "spare.seg"  # the writer's preallocated next segment; no part of the journal before its rename

FILE_MAGIC = b"ARBJRNL1"
FORMAT_VERSION = 1
RECORD_MAGIC = 0x4A42_5241  # "ARBJ"
FILE_HEADER = struct.Struct("<8sIIqq8s16sII")
RECORD_HEADER = struct.Struct("<IHHIIqqqq8s")
MAGIC = struct.Struct("<I")
FILE_HEADER_BYTES = FILE_HEADER.size
RECORD_HEADER_BYTES = RECORD_HEADER.size
assert FILE_HEADER_BYTES == 64 and RECORD_HEADER_BYTES == 56
NO_MAGIC = b"\0\0\0\0"

DECODERS = {number: msgspec.msgpack.Decoder(kind) for number, kind in RECORD_TYPES.items()}


class JournalEntry(msgspec.Struct, frozen=True):
    """One record with its sequence number and times. ``seq`` grows by one over all segments, from 1."""

    seq: int
    type: int
    mono_ns: int
    wall_ns: int
    boot_epoch: int
    record: Record


class JournalPosition(msgspec.Struct, frozen=True):
    """Where a reader stands: resumes exactly after the last entry that it returned."""

    index: int
    offset: int
    next_seq: int
    chain: bytes


def segment_path(directory: Path, index: int) -> Path:
    """File of segment ``index`` (from 1) of the journal in ``directory``."""
    return directory / f"journal-{index:08d}.seg"


def segment_indices(directory: Path) -> list[int]:
    """Indices of the segments in ``directory``, ascending; the unused spare of the writer is not among them."""
    return sorted(int(path.stem.split("-")[1]) for path in directory.glob("journal-????????.seg"))


def crc32_of(header: bytes, body: bytes | memoryview) -> int:
    """Checksum of a record; ``header``: its 56 bytes with the checksum at 0 (the magic is left out)."""
    return zlib.crc32(body, zlib.crc32(header[MAGIC.size :]))


def chain_of(previous: bytes, body: bytes | memoryview) -> bytes:
    """Hash chain behind a record, 8 bytes; ``previous``: the chain before it, or the segment's seed."""
    digest = blake2b(previous, digest_size=8)
    digest.update(body)
    return digest.digest()


def padded(length: int) -> int:
    """``length`` in bytes, rounded up to the records' alignment of 8."""
    return (length + 7) & ~7


def file_header(index: int, first_seq: int, seed: bytes) -> bytes:
    """The 64 bytes at the beginning of segment ``index``; ``seed``: chain behind the segment before."""
    blank = FILE_HEADER.pack(FILE_MAGIC, FORMAT_VERSION, FILE_HEADER_BYTES, index, first_seq, seed, bytes(16), 0, 0)
    return FILE_HEADER.pack(
        FILE_MAGIC, FORMAT_VERSION, FILE_HEADER_BYTES, index, first_seq, seed, bytes(16), zlib.crc32(blank), 0
    )
