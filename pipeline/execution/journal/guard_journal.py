"""The guard's journal: what the guard did while it stood in for the executor, as records of the executor's own kind.

The guard boots the execution core on the executor's journal and writes what follows into a journal of its own, under
boot epochs of its own. The ledger after it is the fold of the executor's records and then of the guard's. The next
executor appends them to its journal as they are, epoch and times included, before it boots: from there on its journal
is whole again. A kill in between is harmless: how many are there already follows from the number of records.

Each run of the guard begins with a TakeoverRecord: how many records the executor's journal had, and of which run the
newest were. Records whose executor's journal was lost or exchanged by an older one are left where they are: to a ledger
that knows nothing of what they continue they would be nonsense (what is at the venues then waits for ``arb resume
--adopt``).
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from pathlib import Path

from pipeline.execution.journal import Journal, JournalEntry, read_journal, segment_indices, segment_path
from pipeline.execution.ledger import Ledger
from pipeline.execution.records import TakeoverRecord

GUARD_JOURNAL = "guard_journal"  # its folder, in the state folder
EXECUTOR_JOURNAL = "journal"
Base = tuple[int, int]  # (records of the executor's journal, boot epoch of the newest)


def _block(guard: Sequence[JournalEntry]) -> tuple[Base, list[JournalEntry]]:
    """What the newest run of the guard continues, and the records of all its runs that continue the same."""
    bases: dict[int, Base] = {}
    for entry in guard:
        if isinstance(entry.record, TakeoverRecord):
            bases[entry.boot_epoch] = (entry.record.own_records, entry.record.own_epoch)
    base = next((bases[e.boot_epoch] for e in reversed(guard) if e.boot_epoch in bases), (0, 0))
    return base, [entry for entry in guard if bases.get(entry.boot_epoch) == base]


def missing(own: Ledger, guard: Sequence[JournalEntry]) -> list[JournalEntry]:
    """Those of the guard's entries that the executor's journal, whose fold is ``own``, lacks; [] where they do not
    continue it."""
    (records, epoch), block = _block(guard)
    there = own.records - records
    epochs = {entry.boot_epoch for entry in block}
    if not 0 <= there < len(block) or own.boot_epoch not in ({epoch} if not there else epochs | {epoch}):
        return []
    return block[there:]


def orphaned(own: Ledger, guard: Sequence[JournalEntry]) -> bool:
    """Whether the newest run of the guard is neither in ``own`` nor continues it."""
    return bool(guard) and guard[-1].boot_epoch not in own.epochs and not missing(own, guard)


def base_of(own: Ledger, guard: Sequence[JournalEntry]) -> Base:
    """What a further run of the guard continues: with a block that is not folded yet, the same as that."""
    return _block(guard)[0] if missing(own, guard) else (own.records, own.boot_epoch)


def fold_in(journal: Journal, own: Ledger, guard: Sequence[JournalEntry]) -> int:
    """Appends what the executor's journal lacks of the guard's, there and to its fold ``own``, synced when this
    returns; how many. Raises JournalError."""
    found = missing(own, guard)
    for entry in found:
        journal.boot_epoch = entry.boot_epoch
        journal.append(entry.record, entry.mono_ns, entry.wall_ns)
        own.apply(entry.record, entry.mono_ns, entry.wall_ns)
    if found:
        journal.sync()
    return len(found)


def read_guard_journal(state_dir: Path) -> list[JournalEntry]:
    """Every entry of the guard's journal; [] where there is none. Raises JournalError."""
    folder = state_dir / GUARD_JOURNAL
    return list(read_journal(folder)) if folder.is_dir() else []


def whole_journal(state_dir: Path) -> Iterator[JournalEntry]:
    """The executor's journal from its first segment, and what it lacks of the guard's. Raises JournalError."""
    ledger = Ledger()
    for entry in read_journal(state_dir / EXECUTOR_JOURNAL):
        ledger.apply(entry.record, entry.mono_ns, entry.wall_ns)
        yield entry
    yield from missing(ledger, read_guard_journal(state_dir))


def clear(directory: Path) -> None:
    """Removes a journal whose every record is in the executor's. The newest segment goes first: what a kill leaves is a
    beginning, of which nothing is missing there."""
    for index in reversed(segment_indices(directory)):
        segment_path(directory, index).unlink()
