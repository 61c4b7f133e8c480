"""Which journal the recorder follows: the one of its stored position, or another one from its beginning."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import msgspec

from pipeline.execution.journal import JournalEntry, JournalPosition, JournalReader, segment_indices, segment_path
from pipeline.execution.journal.format import FILE_HEADER_BYTES
from pipeline.execution.journal.segments import fits
from workers.recorder.sqlite_ledger import SqliteLedger


def begin_of(directory: Path, ledger: SqliteLedger) -> tuple[JournalPosition | None, bool]:
    """Where to read the journal in ``directory`` on, None for its beginning, and whether the stored position was of
    another journal: it is forgotten then, since nothing would ever be read from there. Raises OSError."""
    position = ledger.position()
    if position is None or _is_of(directory, position):
        return position, False
    ledger.begin_anew()
    return None, True


class FollowedJournal:
    """Reads the journal in ``directory`` from where ``ledger`` is; another one that takes its place, before a start or
    while it is read, from its beginning. ``begun_anew`` is called then."""

    def __init__(self, directory: Path, ledger: SqliteLedger, begun_anew: Callable[[], None]) -> None:
        self._directory, self._ledger, self._begun_anew = directory, ledger, begun_anew
        self._reader = self._opened()
        self._segment = (0, 0)  # index and inode of what is read

    @property
    def position(self) -> JournalPosition | None:
        """Where the next :meth:`poll` goes on."""
        return self._reader.position

    def poll(self) -> list[JournalEntry]:
        """What is new, in order. Raises JournalError, OSError."""
        if self._replaced():
            self._reader.close()
            self._reader, self._segment = self._opened(), (0, 0)
        entries = self._reader.poll()
        position = self._reader.position
        if position is not None and position.index != self._segment[0]:
            self._segment = position.index, self._inode(position.index)
        return entries

    def _opened(self) -> JournalReader:
        begin, other = begin_of(self._directory, self._ledger)
        if other:
            self._begun_anew()
        return JournalReader(self._directory, begin)

    def _replaced(self) -> bool:
        """Whether the segment that is read is not the one of its name any more: what is mapped never grows then."""
        position = self._reader.position
        if position is None:
            return False
        inode = self._inode(position.index)
        if not inode:
            return bool(segment_indices(self._directory))
        return self._segment[0] == position.index and self._segment[1] not in (0, inode)

    def _inode(self, index: int) -> int:
        """Of the segment; 0 where it is not there."""
        try:
            return segment_path(self._directory, index).stat().st_ino
        except FileNotFoundError:
            return 0

    def close(self) -> None:
        """Unmaps the segment."""
        self._reader.close()


def _is_of(directory: Path, position: JournalPosition) -> bool:
    """Whether the journal has what is before ``position``. Where its segment alone is gone, the reader says so."""
    try:
        segment_path(directory, position.index).open("rb").close()
    except FileNotFoundError:
        return any(index > position.index for index in segment_indices(directory))
    begun = position if position.offset else msgspec.structs.replace(position, offset=FILE_HEADER_BYTES)
    return fits(directory, begun)
