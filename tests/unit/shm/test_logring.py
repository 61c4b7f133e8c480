"""Log ring: events and texts in order; lapped readers count what they lost and never get half a text."""

from __future__ import annotations

import os

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shm.errors import SegmentMissing, ShmError
from shm.layout import LOG, LOG_SLOT
from shm.logring import EVENT_CODE_MAX, TEXT_BYTES_MAX, LogReader, LogRecord, LogRing, log_event, log_text, text_slots
from shm.segment import Segment
from tests.stress.support import fork

CAPACITY = 256


def private(start: int = 0, capacity: int = CAPACITY) -> tuple[LogRing, LogReader]:
    words = np.zeros(LOG.slots + capacity * LOG_SLOT.WORDS, np.int64)
    words[LOG.capacity], words[LOG.tail] = capacity, start
    segment = Segment("", words, lock_fd=-1, inode=0, taken_over=False)
    return LogRing(segment), LogReader(segment, start)


def drain(reader: LogReader) -> list[LogRecord]:
    found = []
    while (record := reader.read()) is not None:
        found.append(record)
    return found


TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=300)


@given(st.lists(st.one_of(TEXTS, st.integers(1, EVENT_CODE_MAX)), max_size=12), st.sampled_from([0, 2**63 - 4]))
@settings(deadline=None)
def test_reader_gets_what_was_written_in_order(items: list[str | int], start: int) -> None:
    ring, reader = private(start, 1024)
    for k, entry in enumerate(items):
        if isinstance(entry, str):
            ring.text(k, entry)
        else:
            ring.event(entry, k, -k, 2**63 - 1, -(2**63), 0)
    found = drain(reader)
    assert [r.text if r.code == 0 else r.code for r in found] == items and reader.lost == 0
    for k, record in enumerate(found):
        assert record.mono_ns > 0
        if record.code:
            assert record.args == (k, -k, 2**63 - 1, -(2**63), 0)
        else:
            assert record.level == k


def test_jitted_and_python_events_are_the_same_record() -> None:
    ring, reader = private()
    ring.event(7, 1, 2, 3, 4, 5)
    log_event(ring.words, 0, 99, 7, 1, 2, 3, 4, 5)
    first, second = drain(reader)
    assert (first.code, first.args) == (second.code, second.args) and second.mono_ns == 99


@pytest.mark.parametrize("length", [0, 1, 39, 40, 41, 88, 89, TEXT_BYTES_MAX, TEXT_BYTES_MAX + 1])
def test_texts_of_every_length_come_back_and_long_ones_are_cut(length: int) -> None:
    ring, reader = private()
    text = ("abcdefghij" * 200)[:length]
    ring.text(3, text)
    ring.event(1)
    first, second = drain(reader)
    assert first.text == text[:TEXT_BYTES_MAX] and second.code == 1
    assert int(ring.words[LOG.tail]) == int(text_slots(min(length, TEXT_BYTES_MAX))) + 1


@given(st.lists(st.integers(0, 200), min_size=60, max_size=120))
@settings(deadline=None, max_examples=40)
def test_lapped_reader_skips_whole_records_and_accounts_for_every_slot(lengths: list[int]) -> None:
    ring, reader = private()
    slots = 0
    for k, length in enumerate(lengths):
        ring.text(1, f"{k:04d}" + "x" * length)
        slots += int(text_slots(4 + length))
    found = drain(reader)
    numbers = [int(r.text[:4]) for r in found]
    assert all(r.text == f"{n:04d}" + "x" * lengths[n] for n, r in zip(numbers, found, strict=True))
    assert numbers == list(range(numbers[0], len(lengths))), "no hole after the first record that is still there"
    kept = sum(int(text_slots(4 + lengths[n])) for n in numbers)
    assert reader.lost + kept == slots


def test_text_whose_writer_died_in_it_is_dropped_when_the_next_one_writes() -> None:
    ring, reader = private()
    text = np.full(20, 0x6161616161616161, np.int64)
    log_text(ring.words, 0, 5, 1, 160, text)
    ring.words[LOG.tail] = 2  # killed after two of its slots
    assert reader.read() is None, "the rest may still come"
    ring.text(1, "next")
    assert [r.text for r in drain(reader)] == ["next"] and reader.lost == 2


def test_records_outlive_their_process(instance: str) -> None:
    def writer() -> None:
        ring = LogRing.create(instance, "x", capacity=CAPACITY)
        ring.text(2, "last words")
        os.kill(os.getpid(), 9)

    assert fork(writer).wait() == -9
    reader = LogReader.attach(instance, "x")
    assert [r.text for r in drain(reader)] == ["last words"]
    again = LogRing.create(instance, "x", capacity=CAPACITY)
    again.event(4)
    assert [r.code for r in drain(reader)] == [4]
    again.close()


def test_late_reader_begins_at_the_oldest_record_that_is_still_there(instance: str) -> None:
    ring = LogRing.create(instance, "x", capacity=CAPACITY)
    for k in range(1000):
        ring.event(1, k)
    found = drain(LogReader.attach(instance, "x"))
    assert [r.args[0] for r in found] == list(range(1000 - CAPACITY + 1, 1000))
    ring.close()


def test_impossible_rings_and_codes_are_refused(instance: str) -> None:
    for capacity in (0, 100, 300):
        with pytest.raises(ShmError, match="power of two"):
            LogRing.create(instance, "x", capacity=capacity)
    ring, _ = private()
    for code in (0, -1, EVENT_CODE_MAX + 1):
        with pytest.raises(ShmError, match="code"):
            ring.event(code)
    with pytest.raises(SegmentMissing):
        LogReader.attach(instance, "x")
