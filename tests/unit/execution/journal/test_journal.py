"""The journal: what survives a kill, what is cut, what is refused."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import signal
import threading
import tracemalloc
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from pipeline.execution import journal as jn
from pipeline.execution.journal import Journal, JournalEntry, JournalReader, read_journal, segment_path
from pipeline.execution.journal.format import MAGIC
from pipeline.execution.journal.segments import BLOCK_BYTES, end_of_bytes
from pipeline.execution.journal.writer import SEGMENT_BYTES_DEFAULT
from pipeline.execution.records import RECORD_TYPES, TYPE_OF_RECORD, BreakerRecord, OrderSentRecord, Record
from pipeline.model.enums import Durability
from pipeline.model.errors import JournalError
from tests.exhausted import no_descriptors
from tests.worlds.waiting import WAIT_S, until

SMALL = jn.SEGMENT_BYTES_MIN


def fill(journal: Journal, count: int, start: int = 0) -> list[Record]:
    records: list[Record] = [OrderSentRecord(f"a1x{number}", number) for number in range(start, start + count)]
    for record in records:
        journal.append(record, 1, 2)
    return records


def opened(path: Path, **options: object) -> tuple[Journal, list[Record]]:
    entries: list[JournalEntry] = []
    journal = Journal.open(path, segment_bytes=SMALL, each=entries.append, **options)  # type: ignore[arg-type]
    return journal, [entry.record for entry in entries]


def test_what_was_appended_is_read_back_in_order(tmp_path: Path) -> None:
    journal, before = opened(tmp_path / "j")
    assert before == []
    records = fill(journal, 10)
    journal.close()
    again, entries = opened(tmp_path / "j")
    assert entries == records
    assert [entry.seq for entry in read_journal(tmp_path / "j")] == list(range(1, 11))
    again.close()


def test_segments_rotate_and_chain(tmp_path: Path) -> None:
    journal, _ = opened(tmp_path)
    records = fill(journal, 800)
    journal.close()
    assert len(jn.segment_indices(tmp_path)) > 2
    assert [entry.record for entry in read_journal(tmp_path)] == records


def test_a_shrunk_journal_goes_on_and_its_readers_too(tmp_path: Path) -> None:
    size = 64 * SMALL
    journal = Journal.open(tmp_path, segment_bytes=size)
    records = fill(journal, 20)
    reader = JournalReader(tmp_path)
    assert [entry.record for entry in reader.poll()] == records
    journal.close()
    assert jn.shrink(tmp_path) > 2 * size - 4 * mmap.PAGESIZE
    assert sum(path.stat().st_size for path in tmp_path.iterdir()) <= 3 * mmap.PAGESIZE
    assert reader.poll() == [], "a page stands behind the end"
    early = JournalReader(tmp_path)  # maps the short file, as a recorder does that is up before the executor
    assert [entry.record for entry in early.poll()] == records
    assert jn.shrink(tmp_path) == 0
    entries: list[JournalEntry] = []
    again = Journal.open(tmp_path, segment_bytes=size, each=entries.append)
    assert [entry.record for entry in entries] == records
    assert segment_path(tmp_path, 1).stat().st_size == size and again.room_bytes() > size
    more = fill(again, 200, start=20)
    assert [entry.record for entry in reader.poll()] == more, "where it stood"
    assert [entry.record for entry in early.poll()] == more
    early.close()
    again.close()
    reader.close()
    assert len(jn.segment_indices(tmp_path)) == 1


def test_damage_is_not_cut_away_by_shrinking(tmp_path: Path) -> None:
    journal, _ = opened(tmp_path)
    fill(journal, 5)
    journal.close()
    path = segment_path(tmp_path, 1)
    raw = bytearray(path.read_bytes())
    raw[-1] = 7
    path.write_bytes(raw)
    jn.shrink(tmp_path)
    assert path.read_bytes() == bytes(raw)
    assert jn.shrink(tmp_path / "none") == 0


def test_a_reader_follows_the_writer_and_resumes_where_it_stood(tmp_path: Path) -> None:
    journal, _ = opened(tmp_path)
    reader = JournalReader(tmp_path)
    seen: list[Record] = []
    written: list[Record] = []
    for round_number in range(6):
        written += fill(journal, 150, start=round_number * 150)
        seen += [entry.record for entry in reader.poll()]
        position = reader.position
        reader.close()
        reader = JournalReader(tmp_path, position)
    assert seen == written
    assert reader.poll() == []
    reader.close()
    journal.close()


def used_bytes(path: Path) -> int:
    return len(path.read_bytes().rstrip(b"\0"))


@pytest.mark.parametrize("cut", [1, 7, 20, 55])
def test_a_torn_tail_is_cut_and_the_rest_goes_on(tmp_path: Path, cut: int) -> None:
    journal, _ = opened(tmp_path)
    records = fill(journal, 5)
    journal.close()
    path = segment_path(tmp_path, 1)
    end = used_bytes(path)
    with path.open("r+b") as handle:
        handle.seek(end - cut)
        handle.write(bytes(cut))
    again, entries = opened(tmp_path)
    assert entries == records[:4]
    assert again.truncated_bytes > 0
    fill(again, 2, start=50)
    again.close()
    assert len(list(read_journal(tmp_path))) == 6


def test_an_open_journal_copies_nothing_of_what_is_preallocated(tmp_path: Path) -> None:
    """A segment has 64 MB, nearly all of it zeros: they are looked through in the time of a recovery."""
    Journal.open(tmp_path).close()
    tracemalloc.start()
    try:
        Journal.open(tmp_path).close()
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert peak_bytes < SEGMENT_BYTES_DEFAULT / 8


@given(size=st.integers(1, 5 * BLOCK_BYTES), data=st.data())
@settings(max_examples=40)
def test_the_end_of_the_bytes_is_found_in_whatever_block_it_lies(size: int, data: st.DataObject) -> None:
    with mmap.mmap(-1, size) as memory:
        start = data.draw(st.integers(0, size - 1))
        for at in data.draw(st.lists(st.integers(0, size - 1), max_size=3)):
            memory[at] = 1
        assert end_of_bytes(memory, start) == start + len(memory[start:].rstrip(b"\0"))


@given(st.data())
@settings(max_examples=60, deadline=None)
def test_a_flip_before_the_last_record_is_refused(
    tmp_path_factory: pytest.TempPathFactory, data: st.DataObject
) -> None:
    tmp_path = tmp_path_factory.mktemp("flip")
    journal, _ = opened(tmp_path)
    fill(journal, 6)
    journal.close()
    path = segment_path(tmp_path, 1)
    content = bytearray(path.read_bytes())
    last = bytes(content).rfind(MAGIC.pack(jn.RECORD_MAGIC))
    at = data.draw(st.integers(jn.FILE_HEADER_BYTES, last - 1))
    bit = data.draw(st.integers(0, 7))
    content[at] ^= 1 << bit
    path.write_bytes(content)
    try:
        found = list(read_journal(tmp_path))
    except JournalError:
        return
    # the one harmless place: zero padding between two records, which no checksum covers
    assert len(found) == 6


def test_a_removed_segment_is_noticed(tmp_path: Path) -> None:
    journal, _ = opened(tmp_path)
    fill(journal, 800)
    journal.close()
    segment_path(tmp_path, 2).unlink()
    segment_path(tmp_path, 3).rename(segment_path(tmp_path, 2))
    with pytest.raises(JournalError):
        list(read_journal(tmp_path))


def test_an_unknown_record_type_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, _ = opened(tmp_path)
    monkeypatch.setitem(TYPE_OF_RECORD, BreakerRecord, 999)
    journal.append(BreakerRecord("x", True, "y"), 1, 2)
    journal.close()
    with pytest.raises(JournalError, match="unknown type"):
        list(read_journal(tmp_path))


def test_a_full_disk_refuses_before_the_reserve_is_touched(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, _ = opened(tmp_path)

    def no_space(*_: object) -> None:
        raise JournalError("no space")

    monkeypatch.setattr("pipeline.execution.journal.writer.create_segment", no_space)
    while journal._index == 1:  # the spare is used up too
        fill(journal, 1)
    assert journal._spare is None
    while journal.has_room(1024):
        fill(journal, 1)
    assert journal.room_bytes() > SMALL // 8, "exits still have room"
    fill(journal, 5)
    with pytest.raises(JournalError, match="full"):
        fill(journal, 1000)
    journal.close()


def test_a_rotation_needs_no_descriptor_and_the_end_of_the_spare_is_a_full_journal(tmp_path: Path) -> None:
    journal, _ = opened(tmp_path)
    journal._prepare_spare()
    with no_descriptors():
        records = []
        while journal.has_room(1024):
            records += fill(journal, 1, len(records))
        assert journal._index == 2, "the spare is used"
        records += fill(journal, 5, len(records))
        with pytest.raises(JournalError, match="full"):
            fill(journal, 1000)
    more = fill(journal, 300, 5000)
    assert journal._index >= 3
    journal.close()
    read = [entry.record for entry in read_journal(tmp_path)]
    assert read[: len(records)] == records and read[-300:] == more


def test_a_reader_without_descriptors_goes_on_where_it_was(tmp_path: Path) -> None:
    journal, _ = opened(tmp_path)
    records = fill(journal, 800)
    journal.close()  # its thread opens and closes files: what it closes would be a descriptor for the reader
    reader = JournalReader(tmp_path)
    found = [entry.record for entry in reader.poll(1)]
    with no_descriptors():
        found += [entry.record for entry in reader.poll()]  # to the end of the segment that is mapped
        with pytest.raises(OSError, match="open files"):
            reader.poll()
    found += [entry.record for entry in reader.poll()]
    assert found == records
    reader.close()


def test_a_device_that_takes_seconds_holds_up_no_record(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """``durability: process``: the background thread waits for the device, the order path never does."""
    asked, answers, real = threading.Event(), threading.Event(), os.fdatasync

    def slow(descriptor: int) -> None:
        asked.set()
        answers.wait()
        real(descriptor)

    journal, _ = opened(tmp_path)
    journal._prepare_spare()
    monkeypatch.setattr(os, "fdatasync", slow)
    records = fill(journal, 1)
    journal.kick()
    assert asked.wait(WAIT_S)
    while journal._index == 1:  # over a rotation
        records += fill(journal, 1, len(records))
    assert journal.synced_seq == 0 and not answers.is_set()
    answers.set()
    journal.close()
    assert [entry.record for entry in read_journal(tmp_path)] == records


def test_a_device_that_hangs_is_waited_for_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    answers, real = threading.Event(), os.fdatasync

    def slow(descriptor: int) -> None:
        answers.wait()
        real(descriptor)

    journal, _ = opened(tmp_path)
    monkeypatch.setattr(os, "fdatasync", slow)
    records = fill(journal, 1)
    assert not journal.sync_within(0.01)
    records += fill(journal, 1, 1)
    assert not journal.sync_within(threading.TIMEOUT_MAX), "it still hangs: nothing is waited for"
    answers.set()
    while not journal.sync_within(WAIT_S):
        pass
    assert journal.synced_seq == 2
    journal.close()
    assert [entry.record for entry in read_journal(tmp_path)] == records


class Counted(threading.Event):
    """Counts how often it is set."""

    sets = 0

    def set(self) -> None:
        self.sets += 1
        super().set()


def test_a_kick_wakes_the_thread_where_something_is_new_or_the_next_segment_is_missing(tmp_path: Path) -> None:
    journal, _ = opened(tmp_path)
    journal._prepare_spare()
    journal.sync()
    wakes = journal._wake = Counted()
    journal.kick()
    assert wakes.sets == 0
    records = fill(journal, 1)
    journal.kick()
    assert wakes.sets == 1
    until(lambda: journal.synced_seq == len(records), "the records on the device")
    spare, journal._spare = journal._spare, None
    journal.kick()
    assert wakes.sets == 2
    journal._spare = spare
    journal.close()


def test_a_failed_sync_is_final(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    journal, _ = opened(tmp_path, durability=Durability.POWER)
    fill(journal, 1)

    def broken(_: int) -> None:
        raise OSError(5, "Input/output error")

    monkeypatch.setattr(os, "fdatasync", broken)
    with pytest.raises(JournalError):
        journal.sync()
    monkeypatch.undo()
    with pytest.raises(JournalError):
        fill(journal, 1)
    with pytest.raises(JournalError):
        journal.sync()
    assert not journal.has_room(1)
    journal._stopping = True
    journal._wake.set()
    journal._thread.join()


def _append_for_ever(path: str, ready: multiprocessing.synchronize.Event) -> None:
    journal = Journal.open(Path(path), segment_bytes=SMALL)
    number = 0
    while True:
        fill(journal, 1, start=number)
        number += 1
        if number == 500:
            ready.set()


@pytest.mark.parametrize("run", range(3))
def test_a_killed_writer_loses_nothing_that_it_appended(tmp_path: Path, run: int) -> None:
    context = multiprocessing.get_context("spawn")
    ready = context.Event()
    writer = context.Process(target=_append_for_ever, args=(str(tmp_path), ready))
    writer.start()
    assert ready.wait(WAIT_S)
    assert writer.pid is not None
    os.kill(writer.pid, signal.SIGKILL)
    writer.join()
    journal, records = opened(tmp_path)
    assert len(records) >= 500
    assert records == [OrderSentRecord(f"a1x{number}", number) for number in range(len(records))]
    journal.close()


def test_type_numbers_are_unique_and_every_record_has_one() -> None:
    assert len(set(RECORD_TYPES.values())) == len(RECORD_TYPES)
    assert {TYPE_OF_RECORD[kind] for kind in RECORD_TYPES.values()} == set(RECORD_TYPES)
