"""The market as it is kept: the recording rings of feeds and detector into gzip pieces, within a quota and an age.

The format is that of ``pipeline.book.recording.pieces``. A piece begins with its source's header; where the recorder
itself begins anew in the middle of one, a new file repeats the header that it finds in the newest file. What the disk
does not take is gone: counted, and said in the piece by a ``DROPPED`` message as soon as it takes something again.
"""

from __future__ import annotations

import contextlib
import struct
import time
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import IO

from pipeline.book.recording.byte_ring import RingReader, dropped_count
from pipeline.book.recording.pieces import DROPPED, PIECE, SUFFIX, message, messages
from pipeline.model.units import NS_PER_HOUR
from workers.recording.rings import RING_BYTES, ring_of

ROUND_BYTES = RING_BYTES // 2
LEVEL = 1  # of zlib: a core compresses 60 MB/s of frames
FLUSH_NS = 2_000_000_000  # a killed recorder loses so much at most
LIMITS_NS = 10_000_000_000
GZIP = 16 + zlib.MAX_WBITS
_COUNT = struct.Struct("<Q")


def _stands_for(kind: int, payload: bytes) -> int:
    """How many recorded messages are gone with this one; the header of a piece is kept."""
    if kind == PIECE:
        return 0
    return dropped_count(payload) if kind == DROPPED else 1


class _Source:
    """One ring and the file that it goes to."""

    def __init__(self, instance: str, name: str, folder: Path) -> None:
        self.name = name
        self.folder = folder / name
        self.ring = RingReader.create(instance, ring_of(name), capacity_bytes=RING_BYTES)
        self.path: Path | None = None
        self.written = 0
        self._file: IO[bytes] | None = None
        self._packer = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP)
        self._flushed_ns = 0
        self._header = self._newest_header()
        self._unsaid = 0  # messages that the disk did not take
        self._unflushed = 0  # messages that the compressor or the file's buffer may still have

    def _newest_header(self) -> bytes:
        """The header of the newest file: of the piece that an earlier recorder was within."""
        for path in sorted(self.folder.glob(f"*{SUFFIX}"), reverse=True):
            first = next(messages(path), None)
            if first is not None and first[0] == PIECE:
                return first[1]
        return b""

    def poll(self, bytes_max: int) -> int:
        """Messages from the ring to the file; raises ``OSError`` for what the disk does not take (it is gone)."""
        self.ring.refresh()
        found = self.ring.read(bytes_max)
        self.ring.done()  # what follows may fail: then these messages are lost, and counted
        put = 0
        try:
            for kind, payload in found:
                self._write(kind, payload)
                put += 1
            if found and time.monotonic_ns() - self._flushed_ns >= FLUSH_NS:
                self._flush(zlib.Z_SYNC_FLUSH)
        except OSError:
            self._lose(found[put:])
            self._abandon()
            raise
        return len(found)

    def _lose(self, rest: Sequence[tuple[int, bytes]]) -> None:
        """Counts ``rest`` and what was put since the last flush: the file ends somewhere within that."""
        self._unsaid += self._unflushed + sum(_stands_for(kind, payload) for kind, payload in rest)
        self._unflushed = 0
        for kind, payload in rest:
            if kind == PIECE:
                self._header = payload  # what follows is of this piece

    def _write(self, kind: int, payload: bytes) -> None:
        if kind == PIECE:
            self._header = payload
            self.close()
        if self._file is None:
            if not self._header:
                return  # of a piece that began before there was a recorder: the next one is whole
            self._open()
        if kind == PIECE:
            return
        if self._unsaid:
            self._put(message(DROPPED, _COUNT.pack(self._unsaid)))
            self._unflushed += self._unsaid
            self._unsaid = 0
        self._put(message(kind, payload))
        self._unflushed += _stands_for(kind, payload)

    def _open(self) -> None:
        self.folder.mkdir(parents=True, exist_ok=True)
        self.path = self.folder / f"{time.time_ns()}{SUFFIX}"
        self._file = open(self.path, "xb")  # noqa: SIM115  closed by close
        self._packer = zlib.compressobj(LEVEL, zlib.DEFLATED, GZIP)
        self._put(message(PIECE, self._header))

    def _put(self, data: bytes) -> None:
        assert self._file is not None
        packed = self._packer.compress(data)
        if packed:
            self._file.write(packed)
            self.written += len(packed)

    def _flush(self, mode: int) -> None:
        self._flushed_ns = time.monotonic_ns()
        if self._file is not None:
            packed = self._packer.flush(mode)
            self._file.write(packed)
            self._file.flush()
            self.written += len(packed)
            self._unflushed = 0

    def _abandon(self) -> None:
        """The file cannot be written any more: its end is cut off, and the next message begins another."""
        file, self._file, self.path = self._file, None, None
        with contextlib.suppress(OSError):  # said by the failure that led here
            if file is not None:
                file.close()

    def close(self) -> None:
        """Ends the file as a whole one; raises ``OSError``."""
        if self._file is not None:
            self._flush(zlib.Z_FINISH)
            self._file.close()
        self._file = self.path = None


class MarketFiles:
    """All sources of an instance. ``folder``: ``market/`` of its state folder."""

    def __init__(self, instance: str, sources: Sequence[str], folder: Path, *, bytes_max: int, keep_hours: int) -> None:
        self.folder = folder
        self._sources = [_Source(instance, name, folder) for name in sources]
        self._bytes_max = bytes_max
        self._keep_ns = keep_hours * NS_PER_HOUR
        self._limits_at_ns = 0
        self.removed = 0  # pieces

    def round(self) -> int:
        """What is new in every ring; the number of messages. Raises ``OSError`` for what the disk does not take."""
        trouble: OSError | None = None
        count = 0
        for source in self._sources:
            try:
                count += source.poll(ROUND_BYTES)
            except OSError as error:
                trouble = error
        now_ns = time.monotonic_ns()
        if now_ns >= self._limits_at_ns:
            self._limits_at_ns = now_ns + LIMITS_NS
            self.keep_limits()
        if trouble is not None:
            raise trouble
        return count

    @property
    def written(self) -> int:
        """Compressed bytes written by this recorder."""
        return sum(source.written for source in self._sources)

    def keep_limits(self) -> None:
        """Removes pieces that are too old, then the oldest ones until the rest is within the quota; never one that is
        being written."""
        busy = {source.path for source in self._sources}
        pieces = sorted(self.folder.glob(f"*/*{SUFFIX}"), key=lambda path: path.name)
        sizes = {path: path.stat() for path in pieces}
        total = sum(stat.st_size for stat in sizes.values())
        now_ns = time.time_ns()
        for path, stat in sizes.items():
            if path not in busy and (total > self._bytes_max or now_ns - stat.st_mtime_ns > self._keep_ns):
                path.unlink()
                total -= stat.st_size
                self.removed += 1

    def close(self) -> None:
        """Ends every file; raises ``OSError``."""
        for source in self._sources:
            source.close()
            source.ring.close()
