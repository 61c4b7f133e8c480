"""One segment file: its bytes read and checked record by record, its creation, and its length on disk."""

from __future__ import annotations

import contextlib
import errno
import mmap
import os
import zlib
from pathlib import Path

import msgspec

from pipeline.execution.journal.format import (
    DECODERS,
    FILE_HEADER,
    FILE_HEADER_BYTES,
    FILE_MAGIC,
    FORMAT_VERSION,
    MAGIC,
    NO_MAGIC,
    RECORD_BYTES_MAX,
    RECORD_HEADER,
    RECORD_HEADER_BYTES,
    RECORD_MAGIC,
    SPARE_NAME,
    JournalEntry,
    JournalPosition,
    chain_of,
    crc32_of,
    padded,
    segment_indices,
    segment_path,
)
from pipeline.model.errors import JournalError

BLOCK_BYTES = 256 * 1024  # of a segment that is looked through: stays in the CPU's cache
_ZEROS = bytes(BLOCK_BYTES)


class BrokenRecord(Exception):
    """Bytes that are not the record that must follow; ``text`` says what is wrong with them."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


def end_of_bytes(segment: mmap.mmap, start: int) -> int:
    """Where the bytes from ``start`` on end that are not zero; ``start`` where all are.

    Block by block: a segment is preallocated, and what lies behind its last record is tens of megabytes of nothing,
    which every start of the executor looks at.
    """
    end = start
    for at in range(start, len(segment), BLOCK_BYTES):
        block = segment[at : at + BLOCK_BYTES]
        if not _ZEROS.startswith(block):
            end = at + len(block.rstrip(b"\0"))
    return end


class SegmentView:
    """Read access to the bytes of one segment. Raises JournalError for a file that is no segment of this format."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as handle:
            size = os.fstat(handle.fileno()).st_size
            if size < FILE_HEADER_BYTES:
                raise JournalError(f"journal segment shorter than its header: path={path} bytes={size}")
            self.map = mmap.mmap(handle.fileno(), size, prot=mmap.PROT_READ)
        self.size = size
        fields = FILE_HEADER.unpack_from(self.map, 0)
        magic, version, header_bytes, self.index, self.first_seq, self.seed, _, crc, _ = fields
        if magic != FILE_MAGIC or header_bytes != FILE_HEADER_BYTES:
            raise JournalError(f"not a journal segment: path={path} magic={magic!r}")
        if version != FORMAT_VERSION:
            raise JournalError(f"journal format unknown: path={path} version={version} wanted={FORMAT_VERSION}")
        blank = FILE_HEADER.pack(magic, version, header_bytes, self.index, self.first_seq, self.seed, bytes(16), 0, 0)
        if zlib.crc32(blank) != crc:
            raise JournalError(f"journal segment header damaged: path={path} crc={crc}")

    def close(self) -> None:
        """Unmaps the file."""
        self.map.close()

    def record_at(self, offset: int, seq: int, chain: bytes) -> tuple[JournalEntry, int, bytes] | None:
        """The whole record at ``offset``, the offset behind it and its chain; None where nothing was committed.

        Raises BrokenRecord when bytes are there but are not the record that must follow.
        """
        if offset + RECORD_HEADER_BYTES > self.size:
            return None
        header = self.map[offset : offset + RECORD_HEADER_BYTES]
        if header[:4] == NO_MAGIC:  # SYNC journal.magic: acquire; the checksum guards the rest
            return None
        magic, version, kind, length, crc, got_seq, mono_ns, wall_ns, epoch, got_chain = RECORD_HEADER.unpack(header)
        if magic != RECORD_MAGIC:
            raise BrokenRecord(f"record magic {magic:#x}")
        if length > RECORD_BYTES_MAX or offset + RECORD_HEADER_BYTES + length > self.size:
            raise BrokenRecord(f"record length {length}")
        body = self.map[offset + RECORD_HEADER_BYTES : offset + RECORD_HEADER_BYTES + length]
        blank = RECORD_HEADER.pack(0, version, kind, length, 0, got_seq, mono_ns, wall_ns, epoch, got_chain)
        if crc32_of(blank, body) != crc:
            raise BrokenRecord("checksum")
        if got_seq != seq:
            raise BrokenRecord(f"sequence {got_seq}, wanted {seq}")
        if chain_of(chain, body) != got_chain:
            raise BrokenRecord("hash chain")
        decoder = DECODERS.get(kind)
        if version != FORMAT_VERSION or decoder is None:
            raise JournalError(
                f"journal record of unknown type: path={self.path} offset={offset} type={kind} version={version}"
            )
        try:
            record = decoder.decode(body)
        except msgspec.MsgspecError as error:
            raise JournalError(f"journal record cannot be decoded: path={self.path} offset={offset} {error}") from error
        entry = JournalEntry(got_seq, kind, mono_ns, wall_ns, epoch, record)
        return entry, offset + RECORD_HEADER_BYTES + padded(length), got_chain

    def whole_record_after(self, offset: int) -> bool:
        """Whether any record with a right checksum begins behind ``offset`` (then a break there is no torn tail)."""
        needle = MAGIC.pack(RECORD_MAGIC)
        end = end_of_bytes(self.map, offset) + len(needle)
        at = self.map.find(needle, offset + 4, end)
        while at != -1 and at + RECORD_HEADER_BYTES <= self.size:
            fields = RECORD_HEADER.unpack_from(self.map, at)
            _, version, kind, length, crc, seq, mono_ns, wall_ns, epoch, chain = fields
            if at + RECORD_HEADER_BYTES + length <= self.size and length <= RECORD_BYTES_MAX:
                body = self.map[at + RECORD_HEADER_BYTES : at + RECORD_HEADER_BYTES + length]
                blank = RECORD_HEADER.pack(0, version, kind, length, 0, seq, mono_ns, wall_ns, epoch, chain)
                if crc32_of(blank, body) == crc:
                    return True
            at = self.map.find(needle, at + 4, end)
        return False


def fits(directory: Path, position: JournalPosition) -> bool:
    """Whether the journal has exactly the records before ``position``: one ends there, with its number and chain.

    Headers are walked, bodies are not read; what follows is checked by its reader.
    """
    path = segment_path(directory, position.index)
    try:
        view = SegmentView(path)
    except (JournalError, OSError):
        return False
    try:
        offset, seq, chain = FILE_HEADER_BYTES, view.first_seq, view.seed
        while offset < min(position.offset, view.size - RECORD_HEADER_BYTES):
            magic, _, _, length, _, got_seq, _, _, _, got_chain = RECORD_HEADER.unpack_from(view.map, offset)
            if magic != RECORD_MAGIC or got_seq != seq or length > RECORD_BYTES_MAX:
                return False
            offset += RECORD_HEADER_BYTES + padded(length)
            seq, chain = seq + 1, got_chain
        return (offset, seq, chain) == (position.offset, position.next_seq, position.chain)
    finally:
        view.close()


def shrink(directory: Path) -> int:
    """Gives back what a journal preallocated and did not use; returns the bytes. ``Journal.open`` extends it again.

    Only while no process writes it. A reader that stands at the end is safe: a page of zeros stays behind the last
    record, and it looks no further. Damage stays as it is: ``Journal.open`` reports it.
    """
    indices = segment_indices(directory)
    freed = 0
    spare = directory / SPARE_NAME
    with contextlib.suppress(FileNotFoundError):
        freed = spare.stat().st_size
        spare.unlink()
    if not indices:
        return freed
    path = segment_path(directory, indices[-1])
    try:
        end = end_of_segment(path)
    except (JournalError, BrokenRecord):
        return freed
    size = path.stat().st_size
    kept = -(-end // mmap.PAGESIZE) * mmap.PAGESIZE + mmap.PAGESIZE
    if kept < size:
        os.truncate(path, kept)
        freed += size - kept
    return freed


def end_of_segment(path: Path) -> int:
    """Where the last record ends. Raises JournalError or BrokenRecord where something else than zeros follows it."""
    view = SegmentView(path)
    try:
        offset, seq, chain = FILE_HEADER_BYTES, view.first_seq, view.seed
        while (found := view.record_at(offset, seq, chain)) is not None:
            _, offset, chain = found
            seq += 1
        if end_of_bytes(view.map, offset) > offset:
            raise BrokenRecord("bytes behind the end")
        return offset
    finally:
        view.close()


def extend_segment(path: Path, size_bytes: int) -> None:
    """Preallocates a segment again that :func:`shrink` has cut; a full disk leaves it short."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_size < size_bytes:
            with contextlib.suppress(OSError):
                os.posix_fallocate(descriptor, 0, size_bytes)
    finally:
        os.close(descriptor)


def create_segment(directory: Path, path: Path, size_bytes: int, header: bytes) -> None:
    """Creates a preallocated file of ``size_bytes``, whole or not at all: written beside ``path``, renamed, folder
    synced. Raises JournalError (no space, or cannot create)."""
    temporary = path.with_suffix(".new")
    descriptor = os.open(temporary, os.O_RDWR | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size_bytes)
        if header:
            os.pwrite(descriptor, header, 0)
        os.fdatasync(descriptor)
        os.rename(temporary, path)
    except OSError as error:
        temporary.unlink(missing_ok=True)
        kind = "no space" if error.errno in (errno.ENOSPC, errno.EDQUOT) else "cannot create"
        raise JournalError(f"journal segment: {kind}: path={path} bytes={size_bytes} {error}") from error
    finally:
        os.close(descriptor)
    folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
