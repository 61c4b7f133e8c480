"""The byte ring: every message once and in order; what does not fit is dropped, counted, said; either end restarts."""

from __future__ import annotations

from collections import deque

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.book.recording.byte_ring import DROPPED, RingReader, RingWriter, dropped_count
from shm.errors import ShmError
from shm.layout import BYTE_RING
from shm.segment import cleanup_instance

CAPACITY = 256


def ends(instance: str, capacity: int = CAPACITY) -> tuple[RingWriter, RingReader]:
    writer = RingWriter.create(instance, "market.feed.x", capacity_bytes=capacity)
    reader = RingReader.create(instance, "market.feed.x", capacity_bytes=capacity)
    writer.refresh()
    reader.refresh()
    return writer, reader


def taken(reader: RingReader, bytes_max: int = CAPACITY) -> list[tuple[int, bytes]]:
    found = reader.read(bytes_max)
    reader.done()
    return found


def test_messages_of_every_length_arrive_in_order_over_many_rounds(instance: str) -> None:
    writer, reader = ends(instance)
    for length in range(3 * CAPACITY):
        payload = bytes((length + k) & 255 for k in range(length % (CAPACITY - 8)))
        assert writer.write(7, payload[: length // 2], memoryview(payload)[length // 2 :])
        assert taken(reader) == [(7, payload)]
    assert writer.dropped == 0


def test_what_finds_no_room_is_counted_and_said_before_the_next_message(instance: str) -> None:
    writer, reader = ends(instance)
    sent = [writer.write(1, bytes(56)) for _ in range(6)]
    assert sent == [True] * 4 + [False] * 2 and writer.dropped == 2
    assert not writer.write(2, b"x"), "nothing was read: there is room for nothing"
    assert taken(reader) == [(1, bytes(56))] * 4
    assert writer.write(3, b"y")
    (kind, payload), after = taken(reader)
    assert (kind, dropped_count(payload), after) == (DROPPED, 3, (3, b"y"))


def test_a_message_larger_than_the_ring_is_dropped(instance: str) -> None:
    writer, reader = ends(instance)
    assert not writer.write(1, bytes(CAPACITY)) and writer.write(2, b"")
    assert [kind for kind, _ in taken(reader)] == [DROPPED, 2]


def test_what_was_read_and_not_done_is_read_again_by_the_next_reader(instance: str) -> None:
    writer, reader = ends(instance)
    writer.write(1, b"a")
    assert reader.read(CAPACITY) == [(1, b"a")]
    reader.close()
    again = RingReader.create(instance, "market.feed.x", capacity_bytes=CAPACITY)
    assert taken(again) == [(1, b"a")] and taken(again) == []


def test_the_next_writer_goes_on_and_a_reader_that_comes_late_misses_nothing(instance: str) -> None:
    writer = RingWriter.create(instance, "market.feed.x", capacity_bytes=CAPACITY)
    writer.write(1, b"first life")
    writer.close()
    second = RingWriter.create(instance, "market.feed.x", capacity_bytes=CAPACITY)
    second.write(2, b"second life")
    reader = RingReader.create(instance, "market.feed.x", capacity_bytes=CAPACITY)
    assert taken(reader) == [(1, b"first life"), (2, b"second life")]


def test_a_ring_that_was_made_anew_begins_where_its_reader_is(instance: str) -> None:
    writer, reader = ends(instance)
    writer.write(1, b"before")
    assert taken(reader) == [(1, b"before")]
    writer.segment.unlink()
    writer, _ = RingWriter.create(instance, "market.feed.x", capacity_bytes=CAPACITY), None
    reader.refresh()
    writer.write(2, b"after")
    assert taken(reader) == [(2, b"after")]


def test_bytes_that_are_no_messages_are_refused(instance: str) -> None:
    writer, reader = ends(instance)
    writer.write(1, bytes(8))
    writer.segment.words[BYTE_RING.data] = 2**30  # a length that goes beyond the head
    with pytest.raises(ShmError, match="does not end before"):
        reader.read(CAPACITY)


@pytest.mark.parametrize("capacity", [0, 24, 100])
def test_a_capacity_that_is_no_ring_is_refused(instance: str, capacity: int) -> None:
    with pytest.raises(ShmError, match=f"capacity_bytes={capacity}"):
        RingWriter.create(instance, "market.feed.x", capacity_bytes=capacity)


class NaiveRing:
    """The slow, obvious ring: a list of messages and their sizes."""

    def __init__(self) -> None:
        self.held: deque[tuple[int, int, bytes]] = deque()  # size, kind, payload
        self.unsaid = 0

    def write(self, kind: int, payload: bytes) -> bool:
        size = 8 + -(-len(payload) // 8) * 8
        wanted = size + (16 if self.unsaid else 0)
        if sum(size for size, _, _ in self.held) + wanted > CAPACITY:
            self.unsaid += 1
            return False
        if self.unsaid:
            self.held.append((16, DROPPED, self.unsaid.to_bytes(8, "little")))
            self.unsaid = 0
        self.held.append((size, kind, payload))
        return True

    def read(self) -> list[tuple[int, bytes]]:
        found = [(kind, payload) for _, kind, payload in self.held]
        self.held.clear()
        return found


@given(st.lists(st.one_of(st.none(), st.binary(max_size=120)), max_size=60))
def test_it_does_what_a_list_of_messages_does(steps: list[bytes | None]) -> None:
    instance = "t-bytering"
    cleanup_instance(instance)
    (writer, reader), naive = ends(instance), NaiveRing()
    try:
        for step in steps:
            if step is None:
                assert taken(reader) == naive.read()
            else:
                assert writer.write(9, step) == naive.write(9, step)
        assert taken(reader) == naive.read()
    finally:
        writer.close()
        reader.close()
        cleanup_instance(instance)
