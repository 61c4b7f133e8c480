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

import contextlib
import errno
import mmap
import os
import struct
import threading
import zlib
from collections.abc import Iterator
from hashlib import blake2b
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.execution.records import RECORD_TYPES, TYPE_OF_RECORD, Record
from pipeline.model.enums import Durability
from pipeline.model.errors import JournalError

SEGMENT_BYTES_DEFAULT = 64 * 1024 * 1024
SEGMENT_BYTES_MIN = 16 * 1024
RESERVE_BYTES = 256 * 1024  # kept for fills, cancels and unwinds when the disk is full; entries stop before it
RECORD_BYTES_MAX = 1 << 20

FILE_MAGIC = b"ARBJRNL1"
FORMAT_VERSION = 1
RECORD_MAGIC = 0x4A42_5241  # "ARBJ"
_FILE_HEADER = struct.Struct("<8sIIqq8s16sII")
_RECORD_HEADER = struct.Struct("<IHHIIqqqq8s")
_MAGIC = struct.Struct("<I")
FILE_HEADER_BYTES = _FILE_HEADER.size
RECORD_HEADER_BYTES = _RECORD_HEADER.size
assert FILE_HEADER_BYTES == 64 and RECORD_HEADER_BYTES == 56
_NO_MAGIC = b"\0\0\0\0"

_ENCODER = msgspec.msgpack.Encoder()
_DECODERS = {number: msgspec.msgpack.Decoder(kind) for number, kind in RECORD_TYPES.items()}


class JournalEntry(msgspec.Struct, frozen=True):
    """One record with its place and times. ``seq`` grows by one over all segments, from 1."""

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
    return directory / f"journal-{index:08d}.seg"


def segment_indices(directory: Path) -> list[int]:
    """Indices of the segments in ``directory``, ascending; the unused spare of the writer is not among them."""
    return sorted(int(path.stem.split("-")[1]) for path in directory.glob("journal-????????.seg"))


def segment_start(directory: Path, index: int) -> JournalPosition:
    """Where a reader begins that wants segment ``index`` and what follows. Raises JournalError for a damaged header."""
    view = _SegmentView(segment_path(directory, index))
    try:
        return JournalPosition(index, FILE_HEADER_BYTES, view.first_seq, view.seed)
    finally:
        view.close()


def _crc(header: bytes, body: bytes | memoryview) -> int:
    return zlib.crc32(body, zlib.crc32(header[_MAGIC.size :]))


def _chain(previous: bytes, body: bytes | memoryview) -> bytes:
    digest = blake2b(previous, digest_size=8)
    digest.update(body)
    return digest.digest()


def _padded(length: int) -> int:
    return (length + 7) & ~7


def _file_header(index: int, first_seq: int, seed: bytes) -> bytes:
    blank = _FILE_HEADER.pack(FILE_MAGIC, FORMAT_VERSION, FILE_HEADER_BYTES, index, first_seq, seed, bytes(16), 0, 0)
    return _FILE_HEADER.pack(
        FILE_MAGIC, FORMAT_VERSION, FILE_HEADER_BYTES, index, first_seq, seed, bytes(16), zlib.crc32(blank), 0
    )


class _Broken(Exception):
    """A record that is not whole; ``text`` says how."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.text = text


class _SegmentView:
    """Read access to the bytes of one segment."""

    def __init__(self, path: Path) -> None:
        self.path = path
        with path.open("rb") as handle:
            size = os.fstat(handle.fileno()).st_size
            if size < FILE_HEADER_BYTES:
                raise JournalError(f"journal segment shorter than its header: path={path} bytes={size}")
            self.map = mmap.mmap(handle.fileno(), size, prot=mmap.PROT_READ)
        self.size = size
        fields = _FILE_HEADER.unpack_from(self.map, 0)
        magic, version, header_bytes, self.index, self.first_seq, self.seed, _, crc, _ = fields
        if magic != FILE_MAGIC or header_bytes != FILE_HEADER_BYTES:
            raise JournalError(f"not a journal segment: path={path} magic={magic!r}")
        if version != FORMAT_VERSION:
            raise JournalError(f"journal format unknown: path={path} version={version} wanted={FORMAT_VERSION}")
        blank = _FILE_HEADER.pack(magic, version, header_bytes, self.index, self.first_seq, self.seed, bytes(16), 0, 0)
        if zlib.crc32(blank) != crc:
            raise JournalError(f"journal segment header damaged: path={path} crc={crc}")

    def close(self) -> None:
        self.map.close()

    def record_at(self, offset: int, seq: int, chain: bytes) -> tuple[JournalEntry, int, bytes] | None:
        """The whole record at ``offset``, the offset behind it and its chain; None where nothing was committed.

        Raises _Broken when bytes are there but are not the record that must follow.
        """
        if offset + RECORD_HEADER_BYTES > self.size:
            return None
        header = self.map[offset : offset + RECORD_HEADER_BYTES]
        if header[:4] == _NO_MAGIC:  # SYNC journal.magic
            return None
        magic, version, kind, length, crc, got_seq, mono_ns, wall_ns, epoch, got_chain = _RECORD_HEADER.unpack(header)
        if magic != RECORD_MAGIC:
            raise _Broken(f"record magic {magic:#x}")
        if length > RECORD_BYTES_MAX or offset + RECORD_HEADER_BYTES + length > self.size:
            raise _Broken(f"record length {length}")
        body = self.map[offset + RECORD_HEADER_BYTES : offset + RECORD_HEADER_BYTES + length]
        blank = _RECORD_HEADER.pack(0, version, kind, length, 0, got_seq, mono_ns, wall_ns, epoch, got_chain)
        if _crc(blank, body) != crc:
            raise _Broken("checksum")
        if got_seq != seq:
            raise _Broken(f"sequence {got_seq}, wanted {seq}")
        if _chain(chain, body) != got_chain:
            raise _Broken("hash chain")
        decoder = _DECODERS.get(kind)
        if version != FORMAT_VERSION or decoder is None:
            raise JournalError(
                f"journal record of unknown type: path={self.path} offset={offset} type={kind} version={version}"
            )
        try:
            record = decoder.decode(body)
        except msgspec.MsgspecError as error:
            raise JournalError(f"journal record cannot be decoded: path={self.path} offset={offset} {error}") from error
        entry = JournalEntry(got_seq, kind, mono_ns, wall_ns, epoch, record)
        return entry, offset + RECORD_HEADER_BYTES + _padded(length), got_chain

    def whole_record_after(self, offset: int) -> bool:
        """Whether any record with a right checksum begins behind ``offset`` (then a break there is no torn tail)."""
        needle = _MAGIC.pack(RECORD_MAGIC)
        at = self.map.find(needle, offset + 4)
        while at != -1 and at + RECORD_HEADER_BYTES <= self.size:
            fields = _RECORD_HEADER.unpack_from(self.map, at)
            _, version, kind, length, crc, seq, mono_ns, wall_ns, epoch, chain = fields
            if at + RECORD_HEADER_BYTES + length <= self.size and length <= RECORD_BYTES_MAX:
                body = self.map[at + RECORD_HEADER_BYTES : at + RECORD_HEADER_BYTES + length]
                blank = _RECORD_HEADER.pack(0, version, kind, length, 0, seq, mono_ns, wall_ns, epoch, chain)
                if _crc(blank, body) == crc:
                    return True
            at = self.map.find(needle, at + 4)
        return False


class JournalReader:
    """Follows a journal, also while the executor writes it, from any position; never writes.

    ``poll()`` returns what is new; call it again later for more. Raises JournalError at a flip in the middle.
    """

    def __init__(self, directory: Path, position: JournalPosition | None = None) -> None:
        self.directory = directory
        self._view: _SegmentView | None = None
        self._position = position

    @property
    def position(self) -> JournalPosition | None:
        """Where the next ``poll`` goes on; store it to resume. None before the first segment exists."""
        return self._position

    def poll(self, limit: int = 10_000) -> list[JournalEntry]:
        """Up to ``limit`` entries that were not returned yet, in order."""
        entries: list[JournalEntry] = []
        while len(entries) < limit:
            if self._view is None and not self._open():
                break
            view, position = self._view, self._position
            assert view is not None and position is not None
            following = segment_path(self.directory, position.index + 1).exists()  # looked at before the record
            try:
                found = view.record_at(position.offset, position.next_seq, position.chain)
            except _Broken as broken:
                if self._grown(view):
                    continue
                if following or view.whole_record_after(position.offset):
                    raise JournalError(
                        f"journal damaged in the middle: path={view.path} offset={position.offset} {broken.text}"
                    ) from None
                break
            if found is not None:
                entry, offset, chain = found
                entries.append(entry)
                self._position = JournalPosition(position.index, offset, entry.seq + 1, chain)
            elif self._grown(view):
                continue
            elif following:
                view.close()
                self._view = None
                self._position = JournalPosition(position.index + 1, 0, position.next_seq, position.chain)
            else:
                break
        return entries

    def _grown(self, view: _SegmentView) -> bool:
        """Whether the segment is longer than it was when it was mapped (it was shrunk then); it is mapped anew."""
        if view.path.stat().st_size <= view.size:
            return False
        view.close()
        self._view = None
        return True

    def _open(self) -> bool:
        position = self._position
        if position is None:
            indices = segment_indices(self.directory)
            if not indices:
                return False
            index, offset = indices[0], 0
        else:
            index, offset = position.index, position.offset
            if not segment_path(self.directory, index).exists():
                return False
        view = _SegmentView(segment_path(self.directory, index))
        if view.index != index:
            raise JournalError(f"journal segment under a wrong name: path={view.path} index={view.index}")
        if position is None or offset == 0:
            if position is not None and (view.first_seq, view.seed) != (position.next_seq, position.chain):
                raise JournalError(f"journal segment does not continue the one before: path={view.path}")
            self._position = JournalPosition(index, FILE_HEADER_BYTES, view.first_seq, view.seed)
        self._view = view
        return True

    def close(self) -> None:
        if self._view is not None:
            self._view.close()
            self._view = None


def read_journal(directory: Path) -> Iterator[JournalEntry]:
    """Every entry of the journal from its first segment on. Raises JournalError at a flip in the middle."""
    reader = JournalReader(directory)
    try:
        while entries := reader.poll(1000):
            yield from entries
    finally:
        reader.close()


class Place:
    """Where the writer of ready-made records (encoder.py) goes on: the open segment's bytes, and what a header
    needs."""

    __slots__ = ("chain", "octets", "offset", "scratch", "words")

    def __init__(self) -> None:
        self.offset = 0
        self.scratch = np.zeros(32, np.uint64)  # the chain so far; the rest is the writer's
        self.chain = memoryview(self.scratch.data).cast("B")[:8]
        self.show(None)

    def show(self, segment: mmap.mmap | None) -> None:
        """The bytes of another segment (None: of none, so that it can be unmapped)."""
        self.octets: npt.NDArray[np.uint8] = np.frombuffer(segment if segment is not None else bytearray(8), np.uint8)
        whole = len(self.octets) & ~7  # a segment's size is configured in bytes; records begin at words
        self.words: npt.NDArray[np.int64] = self.octets[:whole].view(np.int64)


class Journal:
    """The one writer. Use ``Journal.open``; one thread appends, a thread of its own syncs in the background."""

    def __init__(
        self, directory: Path, position: JournalPosition, *, segment_bytes: int, durability: Durability
    ) -> None:
        self.directory = directory
        self.durability = durability
        self.segment_bytes = segment_bytes
        self.truncated_bytes = 0
        self.boot_epoch = 0
        self.appended = 0
        self.synced_seq = position.next_seq - 1
        self._index = position.index
        self._offset = position.offset
        self._seq = position.next_seq
        self._chain_value = position.chain
        self._error: OSError | None = None
        self._wake = threading.Event()
        self._stopping = False
        self._sync_lock = threading.Lock()
        self._spare_lock = threading.Lock()
        self._file = os.open(segment_path(directory, position.index), os.O_RDWR | os.O_CLOEXEC)
        self._map = mmap.mmap(self._file, os.fstat(self._file).st_size)
        self._capacity = len(self._map)
        self._place = Place()
        self._place.show(self._map)
        self._spare_ready = False
        self._retired: list[int] = []
        self._prepare_spare()
        self._thread = threading.Thread(target=self._background, name="journal-sync", daemon=True)
        self._thread.start()

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        segment_bytes: int = SEGMENT_BYTES_DEFAULT,
        durability: Durability = Durability.PROCESS,
    ) -> tuple[Journal, list[JournalEntry]]:
        """Replays what is there, cuts a torn tail off, and goes on behind it: (journal, every entry so far).

        Raises JournalError when the journal is damaged in the middle, or the directory has no room for a segment.
        """
        if segment_bytes < SEGMENT_BYTES_MIN:
            raise JournalError(f"segment_bytes below {SEGMENT_BYTES_MIN}: segment_bytes={segment_bytes}")
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not segment_indices(directory):
            _create_segment(directory, segment_path(directory, 1), segment_bytes, _file_header(1, 1, bytes(8)))
        reader = JournalReader(directory)
        entries: list[JournalEntry] = []
        while batch := reader.poll():
            entries.extend(batch)
        position, view = reader.position, reader._view
        assert position is not None and view is not None  # a segment exists
        lost_mark = view.whole_record_after(position.offset)
        reader.close()
        if lost_mark:  # a record without its mark reads as the end, but an end has nothing whole behind it
            raise JournalError(
                f"journal damaged in the middle: path={segment_path(directory, position.index)} "
                f"offset={position.offset} whole records follow a place without one"
            )
        _extend(segment_path(directory, position.index), segment_bytes)
        journal = cls(directory, position, segment_bytes=segment_bytes, durability=durability)
        journal._cut_tail()
        return journal, entries

    # --- writing ---

    def append(self, record: Record, mono_ns: int, wall_ns: int) -> int:
        """Stores ``record``; it survives this process from here on. Returns its sequence number.

        Raises JournalError when there is no room or an earlier sync failed: nothing may be sent then.
        """
        if self._error is not None:
            raise JournalError(f"journal sync failed before, nothing more is written: {self._error}")
        body = _ENCODER.encode(record)
        length = len(body)
        need = RECORD_HEADER_BYTES + _padded(length)
        if length > RECORD_BYTES_MAX:
            raise JournalError(f"journal record too long: bytes={length} max={RECORD_BYTES_MAX}")
        if self._offset + need > self._capacity:
            self._rotate(need)
        kind = TYPE_OF_RECORD[type(record)]
        chain = _chain(self._chain_value, body)
        blank = _RECORD_HEADER.pack(
            0, FORMAT_VERSION, kind, length, 0, self._seq, mono_ns, wall_ns, self.boot_epoch, chain
        )
        header = _RECORD_HEADER.pack(
            0, FORMAT_VERSION, kind, length, _crc(blank, body), self._seq, mono_ns, wall_ns, self.boot_epoch, chain
        )
        at = self._offset
        self._map[at : at + RECORD_HEADER_BYTES + length] = header + body
        _MAGIC.pack_into(self._map, at, RECORD_MAGIC)  # SYNC journal.magic: last; commits the record
        self._offset = at + need
        self._chain_value = chain
        seq = self._seq
        self._seq = seq + 1
        self.appended += 1
        return seq

    def claim(self, size_bytes: int) -> Place:
        """Room for records of up to ``size_bytes`` in all, to be written there at once and told by :meth:`claimed`.

        Raises as :meth:`append`.
        """
        if self._error is not None:
            raise JournalError(f"journal sync failed before, nothing more is written: {self._error}")
        if self._offset + size_bytes > self._capacity:
            self._rotate(size_bytes)
        place = self._place
        place.offset = self._offset
        place.chain[:] = self._chain_value
        return place

    def claimed(self, end: int, count: int) -> None:
        """``count`` records were committed up to byte ``end``."""
        self._offset = end
        self._chain_value = bytes(self._place.chain)
        self._seq += count
        self.appended += count

    def recent(self, count: int) -> list[Record]:
        """The last ``count`` records written since ``claim``, as a reader would find them."""
        found: list[Record] = []
        at = self._place.offset
        for _ in range(count):
            _, _, kind, length, *_ = _RECORD_HEADER.unpack_from(self._map, at)
            body = self._map[at + RECORD_HEADER_BYTES : at + RECORD_HEADER_BYTES + length]
            found.append(_DECODERS[kind].decode(body))
            at += RECORD_HEADER_BYTES + _padded(length)
        return found

    @property
    def next_seq(self) -> int:
        return self._seq

    def room_bytes(self) -> int:
        """Bytes that can be appended for certain, spare segment included."""
        return self._capacity - self._offset + (self.segment_bytes - FILE_HEADER_BYTES if self._spare_ready else 0)

    def has_room(self, size_bytes: int) -> bool:
        """Whether ``size_bytes`` of new risk fit and the reserve for exits still remains. False after an error."""
        reserve = min(RESERVE_BYTES, self.segment_bytes // 4)
        return self._error is None and self.room_bytes() >= size_bytes + reserve

    def sync(self) -> None:
        """Everything appended so far is on the device when this returns (``durability: power`` before a send)."""
        with self._sync_lock:
            if self._error is not None:
                raise JournalError(f"journal sync failed before: {self._error}")
            # A rotation may run meanwhile (it takes no lock: the order path never waits for a device). It retires
            # the old file before it exchanges it, so every record up to ``target`` lies in one of these files.
            target = self._seq - 1
            current = self._file
            retired = list(self._retired)
            try:
                for descriptor in {*retired, current}:
                    os.fdatasync(descriptor)
            except OSError as error:
                self._error = error
                raise JournalError(f"fdatasync failed, the process must stop: {error}") from error
            for descriptor in retired:
                self._retired.remove(descriptor)
                os.close(descriptor)
            self.synced_seq = target

    def kick(self) -> None:
        """Asks the background thread to sync soon; costs no I/O here."""
        self._wake.set()

    @property
    def failed(self) -> OSError | None:
        """The I/O error that killed the journal, if any: the process must exit."""
        return self._error

    def close(self) -> None:
        """Stops the thread, syncs, unmaps."""
        self._stopping = True
        self._wake.set()
        self._thread.join()
        if self._error is None:
            self.sync()
        self._place.show(None)
        self._map.close()
        os.close(self._file)

    # --- segments ---

    def _spare_path(self) -> Path:
        return self.directory / "spare.seg"

    def _prepare_spare(self) -> None:
        """Preallocates the next segment ahead of need; a full disk leaves ``room_bytes`` to say so."""
        spare = self._spare_path()
        with self._spare_lock:
            if self._spare_ready:
                return
            try:
                if not (spare.exists() and spare.stat().st_size == self.segment_bytes):
                    _create_segment(self.directory, spare, self.segment_bytes, b"")
                self._spare_ready = True
            except JournalError:
                self._spare_ready = False

    def _rotate(self, need: int) -> None:
        if not self._spare_ready:
            self._prepare_spare()
        if not self._spare_ready or need > self.segment_bytes - FILE_HEADER_BYTES:
            raise JournalError(f"journal is full: directory={self.directory} record_bytes={need}")
        index = self._index + 1
        descriptor = os.open(self._spare_path(), os.O_RDWR | os.O_CLOEXEC)
        fresh = mmap.mmap(descriptor, self.segment_bytes)
        fresh[:FILE_HEADER_BYTES] = _file_header(index, self._seq, self._chain_value)
        # The rename is what makes the segment part of the journal: a kill before it leaves a spare, after it a
        # segment whose header is whole. Old or new, never neither.
        with self._spare_lock:
            os.rename(self._spare_path(), segment_path(self.directory, index))
            self._spare_ready = False
        self._place.show(fresh)  # the old segment is unmapped only when nothing shows its bytes
        self._map.close()
        self._retired.append(self._file)
        self._file, self._map = descriptor, fresh
        self._index, self._offset, self._capacity = index, FILE_HEADER_BYTES, self.segment_bytes
        self._wake.set()

    def _cut_tail(self) -> None:
        """Zeroes a torn record (and whatever follows it) so that the next append begins on clean bytes."""
        tail = self._map[self._offset : self._capacity]
        used = len(tail.rstrip(b"\0"))
        if used:
            self.truncated_bytes = used
            self._map[self._offset : self._offset + used] = bytes(used)

    def _background(self) -> None:
        """Syncs at most every 50 ms, only when something new was appended; prepares the spare segment."""
        while not self._stopping:
            self._wake.wait(timeout=0.05)
            self._wake.clear()
            if self._error is not None:
                return
            if not self._spare_ready:
                self._prepare_spare()
            if self.synced_seq < self._seq - 1:
                try:
                    self.sync()
                except JournalError:
                    return  # ``failed`` tells the owner


def shrink(directory: Path) -> int:
    """Gives back what a journal preallocated and did not use; returns the bytes. ``Journal.open`` extends it again.

    Only while no process writes it. A reader that stands at the end is safe: a page of zeros stays behind the last
    record, and it looks no further. Damage stays as it is, for ``open`` to tell.
    """
    indices = segment_indices(directory)
    freed = 0
    spare = directory / "spare.seg"
    with contextlib.suppress(FileNotFoundError):
        freed = spare.stat().st_size
        spare.unlink()
    if not indices:
        return freed
    path = segment_path(directory, indices[-1])
    try:
        end = _end_of_segment(path)
    except (JournalError, _Broken):
        return freed
    size = path.stat().st_size
    kept = -(-end // mmap.PAGESIZE) * mmap.PAGESIZE + mmap.PAGESIZE
    if kept < size:
        os.truncate(path, kept)
        freed += size - kept
    return freed


def _end_of_segment(path: Path) -> int:
    """Where the last record ends. Raises JournalError or _Broken where something else than zeros follows it."""
    view = _SegmentView(path)
    try:
        offset, seq, chain = FILE_HEADER_BYTES, view.first_seq, view.seed
        while (found := view.record_at(offset, seq, chain)) is not None:
            _, offset, chain = found
            seq += 1
        if view.map[offset:].rstrip(b"\0"):
            raise _Broken("bytes behind the end")
        return offset
    finally:
        view.close()


def _extend(path: Path, size_bytes: int) -> None:
    """The preallocation of a segment that :func:`shrink` has cut; a full disk leaves it short."""
    descriptor = os.open(path, os.O_RDWR | os.O_CLOEXEC)
    try:
        if os.fstat(descriptor).st_size < size_bytes:
            with contextlib.suppress(OSError):
                os.posix_fallocate(descriptor, 0, size_bytes)
    finally:
        os.close(descriptor)


def _create_segment(directory: Path, path: Path, size_bytes: int, header: bytes) -> None:
    """A preallocated file of ``size_bytes`` at ``path``, whole or absent: written beside it, renamed, folder synced."""
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
