"""The guard's journal: what the guard did while it stood in for the executor, as records of the executor's own kind.

The guard boots the execution core on the executor's journal and writes what follows into a journal of its own, under
boot epochs of its own. The ledger after it is the fold of the executor's records and then of the guard's. The next
executor appends them to its journal as they are, epoch and times included, before it boots: from there on its journal
is whole again. A kill in between is harmless: the records of the guard's epochs that are there already are counted.

Each run of the guard begins with a TakeoverRecord that names the executor's record behind which it continues. Records
whose executor's journal was lost or exchanged by an older one are left where they are: to a ledger that knows nothing
of what they continue they would be nonsense (what is at the venues then waits for ``arb resume --adopt``).
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

from pipeline.execution.journal.format import JournalEntry, segment_indices, segment_path
from pipeline.execution.journal.reader import read_journal
from pipeline.execution.journal.writer import Journal
from pipeline.execution.records import TakeoverRecord

GUARD_JOURNAL = "guard_journal"  # its folder, in the state folder
EXECUTOR_JOURNAL = "journal"
Base = tuple[int, int]  # (sequence number, boot epoch) of a record of the executor; (0, 0): of none


def unfolded(own: Iterable[JournalEntry], guard: Sequence[JournalEntry]) -> list[JournalEntry]:
    """Those of the guard's entries that the executor's journal (``own``) lacks, in order: always the last ones."""
    epochs = {entry.boot_epoch for entry in guard}
    folded = sum(1 for entry in own if entry.boot_epoch in epochs) if epochs else 0
    return list(guard[folded:])


def base_of(own: Sequence[JournalEntry], guard: Sequence[JournalEntry]) -> Base:
    """The newest record of ``own`` that is not the guard's."""
    epochs = {entry.boot_epoch for entry in guard}
    newest = next((entry for entry in reversed(own) if entry.boot_epoch not in epochs), None)
    return (0, 0) if newest is None else (newest.seq, newest.boot_epoch)


def missing(own: Sequence[JournalEntry], guard: Sequence[JournalEntry]) -> list[JournalEntry]:
    """As :func:`unfolded`, but nothing where ``own`` is not what the guard's records continue."""
    found = unfolded(own, guard)
    if not found:
        return []
    bases = {
        e.boot_epoch: (e.record.own_seq, e.record.own_epoch) for e in guard if isinstance(e.record, TakeoverRecord)
    }
    return found if bases.get(found[0].boot_epoch) == base_of(own, guard) else []


def fold_in(journal: Journal, own: list[JournalEntry], guard: Sequence[JournalEntry]) -> int:
    """Appends what the executor's journal lacks of the guard's, there and to ``own``, synced when this returns; how
    many. Raises JournalError."""
    found = missing(own, guard)
    for entry in found:
        journal.boot_epoch = entry.boot_epoch
        seq = journal.append(entry.record, entry.mono_ns, entry.wall_ns)
        own.append(msgspec.structs.replace(entry, seq=seq))
    if found:
        journal.sync()
    return len(found)


def read_guard_journal(state_dir: Path) -> list[JournalEntry]:
    """Every entry of the guard's journal; [] where there is none. Raises JournalError."""
    folder = state_dir / GUARD_JOURNAL
    return list(read_journal(folder)) if folder.is_dir() else []


def whole_journal(state_dir: Path) -> Iterator[JournalEntry]:
    """The executor's journal and what it lacks of the guard's: everything that is known. Raises JournalError."""
    guard = read_guard_journal(state_dir)
    if not guard:
        yield from read_journal(state_dir / EXECUTOR_JOURNAL)
        return
    own = list(read_journal(state_dir / EXECUTOR_JOURNAL))
    yield from own
    yield from missing(own, guard)


def clear(directory: Path) -> None:
    """Removes a journal whose every record is in the executor's. The newest segment goes first: what a kill leaves is a
    beginning, of which nothing is missing there."""
    for index in reversed(segment_indices(directory)):
        segment_path(directory, index).unlink()
