"""Attacks on what the fast path of an entry writes: rotations between its records, deaths between two of them."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.execution.journal import Journal, JournalEntry, read_journal, segment_path
from pipeline.execution.records import StopRecord
from pipeline.rehearsal.entry_world import EntryWorld
from tests.worlds.fast_entry_world import a_world, opened, ordinary


def encoded(world: EntryWorld, journal: Journal) -> list[str]:
    """One more entry of the numbers that were approved, into ``journal``; the ids of its records."""
    world.fast_entry.write(journal, world.now(), (0, 0))
    orders = world.fast_entry.orders()
    entered = world.fast_entry.entered(journal)
    assert [order.client_id for order in orders] == [intent.client_id for intent in entered.intents]
    return [entered.operation.operation_id, *(intent.client_id for intent in entered.intents)]


def test_entries_and_ordinary_records_are_one_chain_over_every_rotation(tmp_path: Path) -> None:
    with a_world() as world:
        opened(world)
        assert world.fast_entry.offer(ordinary(world), world.halt, world.now())
        journal = Journal.open(tmp_path, segment_bytes=16 * 1024)
        journal.boot_epoch = 7
        ids: list[str] = []
        notes = 0
        for number in range(90):
            for _ in range(number % 4):
                journal.append(StopRecord("x" * (number * 7 % 300), 0, 0), number, number)
                notes += 1
            ids += encoded(world, journal)
        found = list(read_journal(tmp_path))
        assert [entry.seq for entry in found] == list(range(1, len(found) + 1))
        assert len(found) == notes + len(ids) and len(set(ids)) == len(ids)
        journal.close()
        entries: list[JournalEntry] = []
        journal = Journal.open(tmp_path, segment_bytes=16 * 1024, each=entries.append)
        assert [entry.record for entry in entries] == [entry.record for entry in found]
        ids += encoded(world, journal)
        assert len(list(read_journal(tmp_path))) == notes + len(ids)
        assert len(list(tmp_path.glob("*.seg"))) > 5, "it rotated"
        journal.close()


@pytest.mark.parametrize("whole", [0, 1, 2])
def test_an_entry_that_was_written_in_part_is_cut_to_its_whole_records(tmp_path: Path, whole: int) -> None:
    """A death between two of its records: the ones that were committed stand, and the journal goes on behind them."""
    with a_world() as world:
        opened(world)
        assert world.fast_entry.offer(ordinary(world), world.halt, world.now())
        journal = Journal.open(tmp_path, segment_bytes=64 * 1024)
        encoded(world, journal)
        segment = segment_path(tmp_path, 1)
        image = bytearray(segment.read_bytes())
        magic = image[64:68]
        marks = [64]
        while (at := image.find(magic, marks[-1] + 4)) != -1:
            marks.append(at)
        assert len(marks) == 3
        for mark in marks[whole:]:  # not committed yet
            image[mark : mark + 4] = bytes(4)
        journal.close()
        segment.write_bytes(image)
        entries: list[JournalEntry] = []
        journal = Journal.open(tmp_path, segment_bytes=64 * 1024, each=entries.append)
        assert len(entries) == whole and journal.truncated_bytes
        encoded(world, journal)
        assert len(list(read_journal(tmp_path))) == whole + 3
        journal.close()


def test_a_segment_of_any_size_is_written_to(tmp_path: Path) -> None:
    """Its size is configured in bytes, and an older run may have left one of an odd size."""
    journal = Journal.open(tmp_path, segment_bytes=100_001)
    journal.claim(8192)
    journal.close()
    entries: list[JournalEntry] = []
    journal = Journal.open(tmp_path, segment_bytes=100_001, each=entries.append)
    assert not entries and list(read_journal(tmp_path)) == []
    journal.close()
