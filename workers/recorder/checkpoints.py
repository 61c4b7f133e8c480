"""Writes checkpoints of the ledger and removes segments of the journal that nothing needs any more.

A fold of its own over the journal, by the executor's code; nobody waits for it. It is behind where the recorder was
away, and catches up in slices.
"""

from __future__ import annotations

import time
from pathlib import Path

from pipeline.execution.journal import JournalPosition, JournalReader, segment_indices, segment_path
from pipeline.execution.settled.checkpoint import (
    Recovered,
    checkpoint_paths,
    newest_checkpoint,
    read_checkpoint,
    set_unfit_aside,
    write_checkpoint,
)
from pipeline.model.errors import JournalError

EVERY_RECORDS = 40_000  # a start replays at most about twice as many: about two seconds
STOP_RECORDS = 200  # so many are worth a checkpoint at a planned stop
SLICE_RECORDS = 2_000
RETRY_S = 60.0  # after a disk that took nothing


class Checkpoints:
    """Follows the journal in ``directory``. ``journal_bytes_max``: above it, segments that a checkpoint covers and that
    are in the SQLite ledger are removed, oldest first. ``problem``: what stands in its way, or "". A disk that takes
    nothing is tried again; a journal that cannot be followed ends it."""

    def __init__(self, directory: Path, journal_bytes_max: int) -> None:
        self._directory = directory
        self._bytes_max = journal_bytes_max
        self._state: Recovered | None = None
        self._reader: JournalReader | None = None
        self._since = 0
        self._retry_at_s = 0.0
        self._over = False
        self._stuck = False  # the journal could not be read for the moment
        self.written = 0
        self.removed_segments = 0
        self.problem = ""
        self.set_aside: list[str] = []

    @property
    def position(self) -> JournalPosition | None:
        """How far it has folded; None before its first round."""
        return None if self._reader is None else self._reader.position

    def round(self, recorded: JournalPosition | None, *, last: bool = False) -> bool:
        """Folds the next slice; writes and removes what is due. Whether there is more to fold.

        ``recorded``: how far the SQLite ledger is. ``last``: at a planned stop.
        """
        if self._over or (self._stuck and time.monotonic() < self._retry_at_s):
            return False
        try:
            entries = self._fold()
        except JournalError as error:
            self.problem, self._over = str(error), True
            return False
        except OSError as error:  # of the moment: a disk, or no descriptors
            self.problem, self._stuck, self._retry_at_s = str(error), True, time.monotonic() + RETRY_S
            return False
        if self._stuck:
            self.problem, self._stuck = "", False
        if self._since >= (STOP_RECORDS if last and entries < SLICE_RECORDS else EVERY_RECORDS):
            self._write(recorded)
        return entries == SLICE_RECORDS

    def _fold(self) -> int:
        if self._state is None or self._reader is None:
            self.set_aside = set_unfit_aside(self._directory)
            self._state = newest_checkpoint(self._directory)
            self._reader = JournalReader(self._directory, self._state.position)
        entries = self._reader.poll(SLICE_RECORDS)
        for entry in entries:
            self._state.fold(entry)
        self._since += len(entries)
        return len(entries)

    def _write(self, recorded: JournalPosition | None) -> None:
        if time.monotonic() < self._retry_at_s:
            return
        assert self._state is not None and self._reader is not None and self._reader.position is not None
        try:
            write_checkpoint(self._directory, self._state.ledger, self._reader.position)
            self._since = 0
            self.written += 1
            self._compact(recorded, self._reader.position)
        except OSError as error:
            self.problem, self._retry_at_s = str(error), time.monotonic() + RETRY_S
        else:
            self.problem = ""

    def _compact(self, recorded: JournalPosition | None, folded: JournalPosition) -> None:
        """Removes segments before the oldest checkpoint that is kept, once that is known to be readable. It is read (a
        second ledger in memory) only where something has to go."""
        paths = checkpoint_paths(self._directory)
        sizes = {i: segment_path(self._directory, i).stat().st_size for i in segment_indices(self._directory)}
        total = sum(sizes.values())
        if recorded is None or len(paths) < 2 or total <= self._bytes_max:
            return
        try:
            _, oldest = read_checkpoint(paths[0])
        except JournalError:  # damaged since it was written: the next one takes its place
            paths[0].unlink(missing_ok=True)
            return
        for index in sorted(sizes):
            if total <= self._bytes_max or index >= min(oldest.index, recorded.index, folded.index):
                return
            segment_path(self._directory, index).unlink()
            total -= sizes[index]
            self.removed_segments += 1

    def close(self) -> None:
        """Unmaps the journal."""
        if self._reader is not None:
            self._reader.close()
