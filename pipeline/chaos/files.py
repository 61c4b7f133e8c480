"""The journals of a world as files, as the product writes and reads them; every step of writing is a place to die.

Executor and guard append through :class:`~pipeline.execution.journal.Journal`, in small segments, so that there is a
rotation every few records; a recorder of its own writes checkpoints and removes the segments that they cover. A start
reads what a dead process has left: torn records, a segment that has its header and not its name, half a checkpoint.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from pipeline.execution.journal import (
    FILE_HEADER_BYTES,
    SEGMENT_BYTES_MIN,
    Journal,
    JournalEntry,
    JournalPosition,
    JournalReader,
    segment_indices,
    segment_path,
)
from pipeline.execution.journal.guard_journal import (
    EXECUTOR_JOURNAL,
    GUARD_JOURNAL,
    Base,
    base_of,
    clear,
    fold_in,
    missing,
    read_guard_journal,
)
from pipeline.execution.ledger import Ledger
from pipeline.execution.records import Record
from pipeline.execution.settled.checkpoint import (
    Recovered,
    checkpoint_paths,
    newest_checkpoint,
    read_checkpoint,
    recover,
    write_checkpoint,
)
from pipeline.virtual.world import ProcessKilled

USED_BYTES = 4096  # of a segment: about fifteen records
CHECKPOINT_RECORDS = 24
GUARD_SEGMENTS_KEPT = 2  # above it a guard's journal that the executor's has taken over begins anew
MAGIC_BYTES = 4
#: Places of a death beside those that the product names (rotations, checkpoints): inside a record, inside a
#: checkpoint's file, before a segment that is covered goes.
RECORD, HALF_CHECKPOINT, REMOVAL = "record", "half a checkpoint", "removal"


class MortalJournal(Journal):
    """``step`` is called with the name of each place where a death can come; it raises ``ProcessKilled`` then."""

    step: Callable[[str], None]

    def mortal(self, step: Callable[[str], None]) -> None:
        """Dies by ``step`` from now on."""
        self.step = self.passing = step
        self._capacity = min(self._capacity, USED_BYTES)

    def append(self, record: Record, mono_ns: int, wall_ns: int) -> int:
        """As every journal; a death in it leaves half a record without its mark."""
        try:
            self.step(RECORD)
        except ProcessKilled:
            self._tear(record, mono_ns, wall_ns)
            raise
        return super().append(record, mono_ns, wall_ns)

    def _tear(self, record: Record, mono_ns: int, wall_ns: int) -> None:
        self.passing = lambda point: None
        index, begin = self._index, self._offset
        super().append(record, mono_ns, wall_ns)
        if self._index != index:
            begin = FILE_HEADER_BYTES
        half = (begin + self._offset) // 2
        self._map[half : self._offset] = bytes(self._offset - half)
        self._map[begin : begin + MAGIC_BYTES] = bytes(MAGIC_BYTES)  # it is stored last
        self.appended -= 1

    def _rotate(self, need: int) -> None:
        super()._rotate(need)
        self._capacity = min(self._capacity, USED_BYTES)


class StateFiles:
    """The files of one world in ``folder``. One process at a time writes: ``journal`` is the one that lives."""

    def __init__(self, folder: Path, step: Callable[[], None]) -> None:
        self._state = folder
        self._folder = folder / EXECUTOR_JOURNAL
        self._dies = step
        self.journal: MortalJournal | None = None
        self._checkpointed: Recovered | None = None
        self._reader: JournalReader | None = None
        self._since = 0
        self.died_at: list[str] = []  # names of the places
        self.torn = 0  # starts that had a torn record to cut off

    def _step(self, place: str) -> None:
        try:
            self._dies()
        except ProcessKilled:
            self.died_at.append(place)
            raise

    def start_executor(self) -> tuple[Ledger, list[JournalEntry], int]:
        """As the executor starts: the ledger of everything in its journal, what that lacked of the guard's, and how
        much of it was appended when the process died, all of it where it did not: ``ProcessKilled`` is not raised
        here but by the next step. Raises JournalError."""
        self.close()
        before = newest_checkpoint(self._folder)
        journal = self._open(self._folder, before.position, before.fold)
        guard = read_guard_journal(self._state)
        found = missing(before.ledger, guard)
        try:
            fold_in(journal, before.ledger, guard)
        except ProcessKilled:
            return before.ledger, found, journal.appended
        return before.ledger, found, len(found)

    def start_guard(self) -> tuple[Ledger, Base, list[JournalEntry]]:
        """As the guard stands in: the fold of the executor's journal, what its own records continue, what the
        executor's journal lacks of them. Raises JournalError."""
        self.close()
        ledger = recover(self._folder).ledger
        guard, folder = read_guard_journal(self._state), self._state / GUARD_JOURNAL
        if len(segment_indices(folder)) > GUARD_SEGMENTS_KEPT and not missing(ledger, guard):
            clear(folder)
            guard = []
        self._open(folder)
        return ledger, base_of(ledger, guard), missing(ledger, guard)

    def _open(
        self,
        folder: Path,
        start: JournalPosition | None = None,
        each: Callable[[JournalEntry], None] = lambda entry: None,
    ) -> MortalJournal:
        journal = MortalJournal.open(folder, segment_bytes=SEGMENT_BYTES_MIN, start=start, each=each)
        assert isinstance(journal, MortalJournal)
        journal.mortal(self._step)
        self.torn += bool(journal.truncated_bytes)
        self.journal = journal
        return journal

    def append(self, record: Record, boot_epoch: int, mono_ns: int, wall_ns: int) -> None:
        """A record of the process that lives."""
        journal = self.journal
        assert journal is not None
        journal.boot_epoch = boot_epoch
        journal.append(record, mono_ns, wall_ns)

    def record(self) -> None:
        """What a recorder does beside the executor: folds what is new; a checkpoint now and then."""
        if self._reader is None or self._checkpointed is None:
            self._checkpointed = newest_checkpoint(self._folder)
            self._reader = JournalReader(self._folder, self._checkpointed.position)
        for entry in self._reader.poll():
            self._checkpointed.fold(entry)
            self._since += 1
        position = self._reader.position
        if self._since < CHECKPOINT_RECORDS or position is None:
            return
        write_checkpoint(self._folder, self._checkpointed.ledger, position, passing=self._passing)
        self._since = 0
        self._compact()

    def _passing(self, point: str) -> None:
        if point == "checkpointing":
            try:
                self._step(HALF_CHECKPOINT)
            except ProcessKilled:
                for path in self._folder.glob("*.new"):
                    if path.name != "spare.new":  # the journal's own, which its thread is about to rename
                        os.truncate(path, path.stat().st_size // 2)
                raise
        self._step(point)

    def _compact(self) -> None:
        """Segments that the older one of two checkpoints covers."""
        paths = checkpoint_paths(self._folder)
        if len(paths) < 2:
            return
        _, oldest = read_checkpoint(paths[0])
        for index in segment_indices(self._folder):
            if index < oldest.index:
                self._step(REMOVAL)
                segment_path(self._folder, index).unlink()

    def close(self) -> None:
        """What the end of a process leaves: files, as they are. The recorder ends as well."""
        if self.journal is not None:
            self.journal.close()
            self.journal = None
        if self._reader is not None:
            self._reader.close()
            self._reader = self._checkpointed = None
