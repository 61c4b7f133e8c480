"""Writing the journal: the one appender of records, its segments ahead of need, and its syncs to the device."""

from __future__ import annotations

import mmap
import os
import threading
from collections.abc import Callable
from pathlib import Path

import msgspec
import numpy as np
import numpy.typing as npt

from pipeline.execution.crash_points import nothing
from pipeline.execution.journal.format import (
    DECODERS,
    FILE_HEADER_BYTES,
    FORMAT_VERSION,
    MAGIC,
    RECORD_BYTES_MAX,
    RECORD_HEADER,
    RECORD_HEADER_BYTES,
    RECORD_MAGIC,
    SPARE_NAME,
    JournalEntry,
    JournalPosition,
    chain_of,
    crc32_of,
    file_header,
    padded,
    segment_indices,
    segment_path,
)
from pipeline.execution.journal.reader import JournalReader
from pipeline.execution.journal.segments import create_segment, end_of_bytes, extend_segment
from pipeline.execution.records import TYPE_OF_RECORD, Record
from pipeline.model.enums import Durability
from pipeline.model.errors import JournalError
from shm.words import Words

SEGMENT_BYTES_DEFAULT = 64 * 1024 * 1024
SEGMENT_BYTES_MIN = 16 * 1024
RESERVE_BYTES = 256 * 1024  # kept for fills, cancels and unwinds when the disk is full; entries stop before it
SCRATCH_CELLS = 128
UNASKED_S = 0.25  # the background thread looks by itself; its owner kicks it at every tick

_ENCODER = msgspec.msgpack.Encoder()


class Place:
    """Where the jitted writer of whole entries (``pipeline/fast_entry/encoder.py``) goes on in the open segment.

    ``offset``: first free byte. ``octets`` (uint8) and ``words`` (int64) are the segment's bytes. ``chain``: 8 bytes,
    the hash chain behind the last record, at the head of ``scratch`` (uint64[SCRATCH_CELLS], the jitted writer's
    working memory).
    """

    __slots__ = ("chain", "octets", "offset", "scratch", "words")

    def __init__(self) -> None:
        self.offset = 0
        self.scratch = np.zeros(SCRATCH_CELLS, np.uint64)  # the chain so far; the rest is the writer's
        self.chain = memoryview(self.scratch.data).cast("B")[:8]
        self.show(None)

    def show(self, segment: mmap.mmap | None) -> None:
        """Exchanges the bytes for those of another segment (None: of none, so that the old one can be unmapped)."""
        self.octets: npt.NDArray[np.uint8] = np.frombuffer(segment if segment is not None else bytearray(8), np.uint8)
        whole = len(self.octets) & ~7  # a segment's size is configured in bytes; records begin at words
        self.words: Words = self.octets[:whole].view(np.int64)


class Journal:
    """The one writer of a journal. Made by :meth:`open`; one thread appends, another syncs in the background.

    ``directory`` must have no other writer. ``truncated_bytes``: torn tail that ``open`` cut off.
    ``synced_seq``: newest record that is on the device. ``boot_epoch`` goes into every record's header.
    """

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
        self._synced = threading.Condition()
        self._missed_seq = 0  # newest record whose sync was waited for in vain
        self._spare_lock = threading.Lock()
        self._folder = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        self._file = os.open(segment_path(directory, position.index), os.O_RDWR | os.O_CLOEXEC)
        self._map = mmap.mmap(self._file, os.fstat(self._file).st_size)
        self._capacity = len(self._map)
        self._place = Place()
        self._place.show(self._map)
        self._spare: tuple[int, mmap.mmap] | None = None  # opened and mapped: a rotation needs no descriptor
        self._retired: list[int] = []
        self._prepare_spare()
        self.passing: Callable[[str], None] = nothing  # the crash points of a rotation
        self._thread = threading.Thread(target=self._background, name="journal-sync", daemon=True)
        self._thread.start()

    @classmethod
    def open(
        cls,
        directory: Path,
        *,
        segment_bytes: int = SEGMENT_BYTES_DEFAULT,
        durability: Durability = Durability.PROCESS,
        start: JournalPosition | None = None,
        each: Callable[[JournalEntry], None] = lambda entry: None,
    ) -> Journal:
        """Reads what is there from ``start`` on (None: from the beginning), cuts a torn tail off, goes on behind it.

        ``each`` is called with every entry that was read. Raises JournalError when the journal is damaged in the
        middle, or the directory has no room for a segment.
        """
        if segment_bytes < SEGMENT_BYTES_MIN:
            raise JournalError(f"segment_bytes below {SEGMENT_BYTES_MIN}: segment_bytes={segment_bytes}")
        directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        if not segment_indices(directory):
            create_segment(directory, segment_path(directory, 1), segment_bytes, file_header(1, 1, bytes(8)))
        reader = JournalReader(directory, start)
        while batch := reader.poll(1000):
            for entry in batch:
                each(entry)
        position, lost_mark = reader.position, reader.whole_record_follows()
        assert position is not None  # a segment exists
        reader.close()
        if lost_mark:  # a record without its mark reads as the end, but an end has nothing whole behind it
            raise JournalError(
                f"journal damaged in the middle: path={segment_path(directory, position.index)} "
                f"offset={position.offset} whole records follow a place without one"
            )
        extend_segment(segment_path(directory, position.index), segment_bytes)
        journal = cls(directory, position, segment_bytes=segment_bytes, durability=durability)
        journal._cut_tail()
        return journal

    # --- writing ---

    def append(self, record: Record, mono_ns: int, wall_ns: int) -> int:
        """Stores ``record``; it survives this process from here on. Returns its sequence number.

        Raises JournalError when there is no room or an earlier sync failed: nothing may be sent then.
        """
        if self._error is not None:
            raise JournalError(f"journal sync failed before, nothing more is written: {self._error}")
        body = _ENCODER.encode(record)
        length = len(body)
        need = RECORD_HEADER_BYTES + padded(length)
        if length > RECORD_BYTES_MAX:
            raise JournalError(f"journal record too long: bytes={length} max={RECORD_BYTES_MAX}")
        if self._offset + need > self._capacity:
            self._rotate(need)
        kind = TYPE_OF_RECORD[type(record)]
        chain = chain_of(self._chain_value, body)
        blank = RECORD_HEADER.pack(
            0, FORMAT_VERSION, kind, length, 0, self._seq, mono_ns, wall_ns, self.boot_epoch, chain
        )
        header = RECORD_HEADER.pack(
            0, FORMAT_VERSION, kind, length, crc32_of(blank, body), self._seq, mono_ns, wall_ns, self.boot_epoch, chain
        )
        at = self._offset
        self._map[at : at + RECORD_HEADER_BYTES + length] = header + body
        MAGIC.pack_into(self._map, at, RECORD_MAGIC)  # SYNC journal.magic: last; commits the record
        self._offset = at + need
        self._chain_value = chain
        seq = self._seq
        self._seq = seq + 1
        self.appended += 1
        return seq

    def claim(self, size_bytes: int) -> Place:
        """Room for records of up to ``size_bytes`` in all; whoever writes them there reports it by :meth:`claimed`.

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
            _, _, kind, length, *_ = RECORD_HEADER.unpack_from(self._map, at)
            body = self._map[at + RECORD_HEADER_BYTES : at + RECORD_HEADER_BYTES + length]
            found.append(DECODERS[kind].decode(body))
            at += RECORD_HEADER_BYTES + padded(length)
        return found

    @property
    def next_seq(self) -> int:
        """Sequence number of the next record."""
        return self._seq

    def room_bytes(self) -> int:
        """Bytes that can be appended for certain, spare segment included."""
        return (
            self._capacity - self._offset + (self.segment_bytes - FILE_HEADER_BYTES if self._spare is not None else 0)
        )

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
                if retired:  # a segment was begun by a rename, which is on the device when its folder is
                    os.fsync(self._folder)
            except OSError as error:
                self._error = error
                raise JournalError(f"fdatasync failed, the process must stop: {error}") from error
            for descriptor in retired:
                self._retired.remove(descriptor)
                os.close(descriptor)
            self.synced_seq = target
        with self._synced:
            self._synced.notify_all()

    def sync_within(self, wait_s: float) -> bool:
        """As :meth:`sync`, by the background thread; False where the device has not answered in ``wait_s``, or still
        does not answer after it was waited for. What was appended survives this process all the same."""
        target = self._seq - 1
        self.kick()
        with self._synced:
            missed = self.synced_seq < self._missed_seq
            ended = self._synced.wait_for(
                lambda: self.synced_seq >= target or self._error is not None, 0 if missed else wait_s
            )
        if self._error is not None:
            raise JournalError(f"journal sync failed: {self._error}")
        if not ended:
            self._missed_seq = max(self._missed_seq, target)
        return ended

    def kick(self) -> None:
        """Asks the background thread to sync soon, where anything is to be synced or the next segment is missing; costs
        no I/O here."""
        if self.synced_seq < self._seq - 1 or self._spare is None:
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
        if self._spare is not None:
            descriptor, fresh = self._spare
            fresh.close()
            os.close(descriptor)
            self._spare = None
        os.close(self._file)
        os.close(self._folder)

    # --- segments ---

    def _spare_path(self) -> Path:
        return self.directory / SPARE_NAME

    def _prepare_spare(self) -> None:
        """Preallocates, opens and maps the next segment ahead of need; a full disk, or no descriptor, leaves
        ``room_bytes`` to say so."""
        spare = self._spare_path()
        with self._spare_lock:
            if self._spare is not None:
                return
            try:
                if not (spare.exists() and spare.stat().st_size == self.segment_bytes):
                    create_segment(self.directory, spare, self.segment_bytes, b"")
                descriptor = os.open(spare, os.O_RDWR | os.O_CLOEXEC)
                try:
                    self._spare = descriptor, mmap.mmap(descriptor, self.segment_bytes)
                except OSError:
                    os.close(descriptor)
            except (JournalError, OSError):
                return

    def _rotate(self, need: int) -> None:
        if self._spare is None:
            self._prepare_spare()
        if self._spare is None or need > self.segment_bytes - FILE_HEADER_BYTES:
            raise JournalError(f"journal is full: directory={self.directory} record_bytes={need}")
        index = self._index + 1
        descriptor, fresh = self._spare
        fresh[:FILE_HEADER_BYTES] = file_header(index, self._seq, self._chain_value)
        self.passing("rotating")
        # The rename is what makes the segment part of the journal: a kill before it leaves a spare, after it a
        # segment whose header is whole. Old or new, never neither.
        with self._spare_lock:
            os.rename(self._spare_path(), segment_path(self.directory, index))
            self._spare = None
        self.passing("rotated")
        self._place.show(fresh)  # the old segment is unmapped only when nothing shows its bytes
        self._map.close()
        self._retired.append(self._file)
        self._file, self._map = descriptor, fresh
        self._index, self._offset, self._capacity = index, FILE_HEADER_BYTES, self.segment_bytes
        self._wake.set()

    def _cut_tail(self) -> None:
        """Zeroes a torn record (and whatever follows it) so that the next append begins on clean bytes."""
        used = end_of_bytes(self._map, self._offset) - self._offset
        if used:
            self.truncated_bytes = used
            self._map[self._offset : self._offset + used] = bytes(used)

    def _background(self) -> None:
        """Syncs what was appended when it is kicked, else within ``UNASKED_S``; prepares the spare segment."""
        while not self._stopping:
            self._wake.wait(timeout=UNASKED_S)
            self._wake.clear()
            if self._error is not None:
                return
            if self._spare is None:
                self._prepare_spare()
            if self.synced_seq < self._seq - 1:
                try:
                    self.sync()
                except JournalError:
                    with self._synced:
                        self._synced.notify_all()
                    return  # ``failed`` shows it to the owner
