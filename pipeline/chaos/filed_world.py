"""The world of a schedule with its journals as files: a death may come inside a record, a rotation, a checkpoint, a
start. What a start finds in the files must be what was written before the death, to the last record."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

from pipeline.chaos.files import StateFiles
from pipeline.chaos.schedule import Schedule
from pipeline.chaos.tape import Row
from pipeline.chaos.world import ChaosWorld
from pipeline.execution.events import Append, Now
from pipeline.execution.journal import JournalEntry
from pipeline.execution.journal.guard_journal import Base, missing
from pipeline.execution.ledger import Ledger
from pipeline.sim.exchange.latency import NS_PER_MS
from pipeline.virtual.world import ProcessKilled

RECORDER_NS = 50 * NS_PER_MS


class FiledWorld(ChaosWorld):
    """As :class:`ChaosWorld`; ``folder``: an empty one, for the files."""

    def __init__(self, schedule: Schedule, on_row: Callable[[Row], None], folder: Path) -> None:
        super().__init__(schedule, on_row)
        self.files = StateFiles(folder, self._survive)

    def replayed(self) -> tuple[Ledger, Base, list[JournalEntry]]:
        """From the files."""
        if self.takes_over:
            ledger, base, more = self.files.start_guard()
            self._compare(ledger)
            return ledger, base, more
        written = Ledger()
        for entry in self.entries:
            written.apply(entry.record, entry.mono_ns, entry.wall_ns)
        lacking = missing(written, self.guard_entries)
        ledger, more, appended = self.files.start_executor()
        self.entries += more[:appended]
        self._compare(ledger)
        if [one.record for one in more] != [one.record for one in lacking]:
            self.note("start", digest_equal=False, text=f"{len(more)} records of the guard found, {len(lacking)} were")
        if appended < len(more):
            raise ProcessKilled
        return ledger, (0, 0), []

    def _compare(self, found: Ledger) -> None:
        """Files against everything that was ever written."""
        written = Ledger()
        for entry in self.entries:
            written.apply(entry.record, entry.mono_ns, entry.wall_ns)
        text = f"{found.records} records found, {written.records} were written"
        equal = (found.records, found.digest()) == (written.records, written.digest())
        self.note("start", digest_equal=equal, text=text)

    def _start_life(self) -> None:
        super()._start_life()
        self._repeat(self.lives, RECORDER_NS, self.files.record)

    def _append(self, action: Append, now: Now) -> None:
        self.files.append(action.record, self.core.ledger.boot_epoch, now.mono_ns, now.wall_ns)
        super()._append(action, now)
