"""Reading a journal: from its beginning, from any stored position, and while the executor goes on writing it."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from pipeline.execution.journal.format import (
    FILE_HEADER_BYTES,
    JournalEntry,
    JournalPosition,
    segment_indices,
    segment_path,
)
from pipeline.execution.journal.segments import BrokenRecord, SegmentView
from pipeline.model.errors import JournalError


class JournalReader:
    """Follows a journal, also while the executor writes it, from any position; never writes.

    ``poll()`` returns what is new; call it again later for more. Raises JournalError at a flip in the middle.
    """

    def __init__(self, directory: Path, position: JournalPosition | None = None) -> None:
        self.directory = directory
        self._view: SegmentView | None = None
        self._position = position

    @property
    def position(self) -> JournalPosition | None:
        """Where the next ``poll`` goes on; store it to resume. None before the first segment exists."""
        return self._position

    def poll(self, limit: int = 10_000) -> list[JournalEntry]:
        """Up to ``limit`` entries that were not returned yet, in order. Raises OSError; the next call goes on then."""
        entries: list[JournalEntry] = []
        following = False  # whether the next segment was there before the record was looked for: asked at an end only
        while len(entries) < limit:
            try:
                if self._view is None and not self._open():
                    break
            except OSError:  # no descriptor: what was read is given first, and the next call raises
                if entries:
                    break
                raise
            view, position = self._view, self._position
            assert view is not None and position is not None
            found, broken = None, ""
            try:
                found = view.record_at(position.offset, position.next_seq, position.chain)
            except BrokenRecord as error:
                broken = error.text
            if found is not None:
                entry, offset, chain = found
                entries.append(entry)
                self._position = JournalPosition(position.index, offset, entry.seq + 1, chain)
                following = False
            elif self._grown(view):
                following = False
            elif not following and segment_path(self.directory, position.index + 1).exists():
                following = True  # the writer may have gone on meanwhile: the place is looked at once more
            elif broken and (following or view.whole_record_after(position.offset)):
                raise JournalError(f"journal damaged in the middle: path={view.path} offset={position.offset} {broken}")
            elif following:
                view.close()
                self._view, following = None, False
                self._position = JournalPosition(position.index + 1, 0, position.next_seq, position.chain)
            else:
                break
        return entries

    def whole_record_follows(self) -> bool:
        """Whether a whole record lies behind the end that ``poll`` found: then that end is damage, no torn tail."""
        view, position = self._view, self._position
        assert view is not None and position is not None, "poll() first, on a journal with a segment"
        return view.whole_record_after(position.offset)

    def _grown(self, view: SegmentView) -> bool:
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
                self._refuse_gap(index)
                return False
        view = SegmentView(segment_path(self.directory, index))
        if view.index != index:
            raise JournalError(f"journal segment under a wrong name: path={view.path} index={view.index}")
        if position is None or offset == 0:
            if position is not None and (view.first_seq, view.seed) != (position.next_seq, position.chain):
                raise JournalError(f"journal segment does not continue the one before: path={view.path}")
            self._position = JournalPosition(index, FILE_HEADER_BYTES, view.first_seq, view.seed)
        self._view = view
        return True

    def _refuse_gap(self, index: int) -> None:
        left = [other for other in segment_indices(self.directory) if other > index]
        if left:
            raise JournalError(
                f"journal segment is gone: path={segment_path(self.directory, index)}, the next is {left[0]}. "
                "Segments go once the SQLite ledger has them: restore both from one backup, or move ledger.sqlite away "
                "(it is built anew from what is left)"
            )

    def close(self) -> None:
        """Unmaps the segment; ``position`` stays valid."""
        if self._view is not None:
            self._view.close()
            self._view = None


def segment_start(directory: Path, index: int) -> JournalPosition:
    """Where a reader begins that wants segment ``index`` and what follows. Raises JournalError for a damaged header."""
    view = SegmentView(segment_path(directory, index))
    try:
        return JournalPosition(index, FILE_HEADER_BYTES, view.first_seq, view.seed)
    finally:
        view.close()


def read_journal(directory: Path) -> Iterator[JournalEntry]:
    """Every entry of the journal from its first segment on. Raises JournalError at a flip in the middle."""
    reader = JournalReader(directory)
    try:
        while entries := reader.poll(1000):
            yield from entries
    finally:
        reader.close()
