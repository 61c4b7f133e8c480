"""Plays a recording's messages into books in their order; a snapshot only where its book needs one.

A live book takes no snapshot: a recorder's periodic snapshots would hide whether the updates are whole. The newest one
that was not needed is kept: where a recorder connected again, its snapshot may stand in the file before the first
update behind the hole, and then it is what that update is aligned with.
"""

from __future__ import annotations

import re

from pipeline.book.memory import BOOK_COUNTERS
from pipeline.book.recording.capture_files import SNAPSHOT, Capture, Record
from pipeline.book.results import FrameResult
from pipeline.book.venue_books import VenueBooks

_SNAPSHOT_ID = re.compile(rb'"(?:lastUpdateId|id)"\s*:\s*([0-9]{1,19})')
_NEED_SNAPSHOT = int(FrameResult.NEED_SNAPSHOT)
_ID_MAX = 2**63 - 1
CONN = 0  # the one connection that proves all of a recording's books: it does not say when one of several ended


class RecordedBooks:
    """``owners``: record index of a snapshot -> its symbol."""

    def __init__(self, capture: Capture, books: VenueBooks, owners: dict[int, str]) -> None:
        self.capture = capture
        self.books = books
        self._owners = owners
        self._spare: dict[int, Record] = {}  # book index -> newest snapshot that was not needed
        self._filled = 0

    def step(self, index: int, time_ns: int) -> int:
        """One record; returns the ``FrameResult`` of a frame, ``OTHER_TOPIC`` for a snapshot. ``BUFFERED`` where it
        filled a gap: ``VenueBooks.on_applied`` has told each update."""
        record = self.capture.records[index]
        if record.kind == SNAPSHOT:
            book = self.books.index_of(self._owners.get(index, ""))
            if book >= 0 and self.books.is_synced(book):
                self._spare[book] = record
            elif book >= 0:
                self.books.on_snapshot(book, record.payload, time_ns, CONN)
            return int(FrameResult.OTHER_TOPIC)
        result = self.books.on_frame(record.payload, time_ns, CONN, record.conn)
        if result == _NEED_SNAPSHOT:
            self._use_spare(self.books.last_book_index, time_ns)
        filled = int(self.books.mem[BOOK_COUNTERS.filled])
        if filled > self._filled:
            self._filled, result = filled, int(FrameResult.BUFFERED)
        return result

    def _use_spare(self, book: int, time_ns: int) -> None:
        """Behind a hole: the kept snapshot, if it is newer than what the book had."""
        record = self._spare.pop(book, None)
        found = _SNAPSHOT_ID.search(record.payload) if record is not None else None
        if record is None or found is None or not self.books.top(book).update_id < int(found[1]) <= _ID_MAX:
            return
        self.books.on_snapshot(book, record.payload, time_ns, CONN)
