"""Book rings, notices, connections and the proof rule against their plain Python twin; laps, wraps, dead writers."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shm.atomics import store_relaxed, store_release
from shm.bookring import (
    NO_DATA,
    NOTICE_LAPPED,
    TORN,
    book_offset,
    conn_close,
    conn_frame,
    conn_open,
    create_feed,
    init_feed,
    newest_offset,
    next_publication,
    notice_tail,
    proof_mono_ns,
    publish_book,
    read_book,
    read_notice,
)
from shm.jit import njit
from shm.layout import (
    BOOK,
    BOOK_RING,
    BOOK_SLOTS,
    CONN_CAPACITY,
    FEED,
    FLAG_OWN_PROOF,
    HEADER,
    NOTICE_CAPACITY,
    feed_segment_words,
)
from shm.segment import Segment, attach_arena, segment_name
from shm.words import Words
from tests.naive.shm import NaiveFeed

BOOKS = 4


def make_feed(books: int = BOOKS, epoch: int = 3) -> Words:
    words = np.zeros(feed_segment_words(books), np.int64)
    words[HEADER.epoch] = epoch
    init_feed(words, 0, books)
    return words


def record(value: int) -> Words:
    """A record whose every word tells its value; stamps included."""
    return np.arange(value * 1000, value * 1000 + BOOK.WORDS, dtype=np.int64)


def read(words: Words, book: int, off: int = 0) -> tuple[int, Words]:
    out = np.full(BOOK.WORDS, -7, np.int64)
    return int(read_book(words, off, book, out)), out


def payload(out: Words) -> list[int]:
    """Without the two words that the publisher fills."""
    return [int(v) for k, v in enumerate(out) if k not in (BOOK.seq, BOOK.writer_epoch)]


@njit
def publish_many(words, book, rec, count):  # type: ignore[no-untyped-def]
    for _ in range(count):
        publish_book(words, 0, book, rec)


OPERATIONS = st.lists(
    st.one_of(
        st.tuples(st.just("publish"), st.integers(-1, BOOKS), st.integers(1, 1_000_000)),
        st.tuples(st.just("open"), st.integers(0, 2), st.integers(0, 200)),
        st.tuples(st.just("close"), st.integers(0, 2), st.just(0)),
        st.tuples(st.just("frame"), st.integers(0, 2), st.integers(0, 10_000)),
    ),
    max_size=60,
)


@given(OPERATIONS)
@settings(max_examples=60, deadline=None)
def test_feed_does_what_its_plain_twin_does(operations: list[tuple[str, int, int]]) -> None:
    words, naive = make_feed(), NaiveFeed(BOOKS, NOTICE_CAPACITY)
    out2 = np.zeros(2, np.int64)
    for kind, which, value in operations:
        if kind == "publish":
            rec = record(value)
            assert publish_book(words, 0, which, rec) == naive.publish(which, tuple(payload(rec)))
        elif kind == "open":
            assert conn_open(words, 0, which, 1, value) == naive.open(which, value)
        elif kind == "close":
            conn_close(words, 0, which)
            naive.close(which)
        else:
            conn_frame(words, 0, which, value)
            naive.frame(which, value)
    for book in range(-1, BOOKS + 1):
        seq, out = read(words, book)
        newest = naive.newest(book)
        assert (seq, tuple(payload(out))) == newest if newest else seq == NO_DATA
    for cursor in range(len(naive.notices) + 1):
        status = int(read_notice(words, 0, cursor, out2))
        wanted = naive.notice(cursor)
        assert status == wanted[0]
        if status == 1:
            assert out2.tolist() == [wanted[1], cursor + 1]
    assert notice_tail(words, 0) == len(naive.notices)
    for conn in range(3):
        for generation in range(4):
            rec = record(1)
            rec[BOOK.conn], rec[BOOK.conn_generation], rec[BOOK.recv_mono_ns] = conn, generation, 5000
            assert proof_mono_ns(words, 0, rec) == naive.proof(conn, generation, 5000)
            rec[BOOK.flags] |= FLAG_OWN_PROOF
            assert proof_mono_ns(words, 0, rec) == naive.proof(conn, generation, 5000, own=True)


def test_record_carries_epoch_and_publish_stamp_of_its_publisher() -> None:
    words, rec = make_feed(epoch=9), record(1)
    rec[BOOK.publish_mono_ns] = 0
    publish_book(words, 0, 0, rec)
    _, first = read(words, 0)
    assert first[BOOK.writer_epoch] == 9 and first[BOOK.publish_mono_ns] > 0
    assert rec[BOOK.publish_mono_ns] == 0, "the caller's record is not written"
    rec[BOOK.publish_mono_ns] = 77
    publish_book(words, 0, 0, rec)
    assert read(words, 0)[1][BOOK.publish_mono_ns] == 77


def test_quiet_instrument_keeps_its_newest_book_while_others_publish_without_end() -> None:
    words = make_feed()
    publish_book(words, 0, 2, record(5))
    publish_many(words, 1, record(6), 3 * NOTICE_CAPACITY)
    seq, out = read(words, 2)
    assert seq == 2 and payload(out) == payload(record(5))


def test_lapped_notice_reader_is_told_and_finds_every_newest_book() -> None:
    words, out = make_feed(), np.zeros(2, np.int64)
    publish_many(words, 0, record(1), NOTICE_CAPACITY)
    assert read_notice(words, 0, 0, out) == NOTICE_LAPPED, "the entry may be overwritten at any moment"
    assert read_notice(words, 0, 1, out) == 1
    publish_many(words, 3, record(2), 10)
    assert read_notice(words, 0, 10, out) == NOTICE_LAPPED
    assert read_notice(words, 0, 11, out) == 1
    cursor = int(notice_tail(words, 0))
    assert read_notice(words, 0, cursor, out) == 0
    assert [read(words, book)[0] for book in range(BOOKS)] == [2 * NOTICE_CAPACITY, 0, 0, 20]


def test_feeds_in_one_array_do_not_touch_each_other() -> None:
    size = feed_segment_words(BOOKS)
    words = np.zeros(2 * size, np.int64)
    init_feed(words, 0, BOOKS)
    init_feed(words, size, BOOKS)
    publish_book(words, size, BOOKS - 1, record(8))
    assert not words[HEADER.WORDS + 2 : size].any()
    assert read(words, BOOKS - 1, size)[0] == 2 and read(words, BOOKS - 1, 0)[0] == NO_DATA


@pytest.mark.parametrize("start", [2**31 - 2, 2**32 - 2, 2**61 - 2, 2**62 - 10, 2**62 - 2])
def test_publication_numbers_continue_over_their_wraps(start: int) -> None:
    words = make_feed()
    ring = book_offset(0, 1)
    words[ring + BOOK_RING.count] = start
    seen = []
    for value in range(1, 25):
        n = int(publish_book(words, 0, 1, record(value)))
        seq, out = read(words, 1)
        assert seq == 2 * n > 0 and payload(out) == payload(record(value))
        seen.append((n - 1) % BOOK_SLOTS)
    slots = [(start + k) % BOOK_SLOTS for k in range(24)]
    assert seen == slots, "slots go round without a jump"
    assert next_publication(2**62 - 1) == BOOK_SLOTS


@pytest.mark.parametrize("start", [0, 2**31 - 3, 2**32 - 3, 2**63 - 3])
def test_notices_continue_over_their_wraps(start: int) -> None:
    words, out = make_feed(), np.zeros(2, np.int64)
    words[FEED.notice_tail] = start
    cursor = start
    for k in range(8):
        assert read_notice(words, 0, cursor, out) == 0
        publish_book(words, 0, k % BOOKS, record(1))
        assert read_notice(words, 0, cursor, out) == 1 and out[0] == k % BOOKS
        cursor = int(out[1])
    assert cursor == int(notice_tail(words, 0))


def partial_publications(rec: Words) -> list[list[tuple[int, int]]]:
    """Stores of ``publish_book`` in order as (offset from the ring, value), cut after each SYNC point."""
    slot = BOOK_RING.records + 1 * BOOK.WORDS  # the second publication
    odd = [(slot + BOOK.seq, 3)]
    half = [(slot + k, int(rec[k])) for k in range(8, 40)]
    rest = [(slot + k, int(rec[k])) for k in range(40, 96)] + [(slot + k, int(rec[k])) for k in range(1, 8)]
    whole = [(slot + BOOK.seq, 4)]
    return [odd, odd + half, odd + half + rest, odd + half + rest + whole]


@pytest.mark.parametrize("point", range(4))
def test_writer_killed_inside_a_publication_leaves_the_last_whole_book(point: int) -> None:
    words, new = make_feed(), record(2)
    publish_book(words, 0, 1, record(1))
    ring = int(book_offset(0, 1))
    for at, value in partial_publications(new)[point]:
        store_relaxed(words, ring + at, value)
    seq, out = read(words, 1)
    assert seq == 2 and payload(out) == payload(record(1)), "not counted, not seen"
    store_release(words, HEADER.epoch, 4)  # the next owner
    publish_book(words, 0, 1, record(3))
    seq, out = read(words, 1)
    assert seq == 4 and payload(out) == payload(record(3)) and out[BOOK.writer_epoch] == 4


def test_notice_whose_writer_died_before_the_tail_moved_counts_for_its_successor() -> None:
    words, out = make_feed(), np.zeros(2, np.int64)
    publish_book(words, 0, 1, record(1))
    store_relaxed(words, FEED.notice_tail, 0)
    assert read_notice(words, 0, 0, out) == 1 and out.tolist() == [1, 1]
    init_feed(words, 0, BOOKS)
    publish_book(words, 0, 2, record(1))
    assert read_notice(words, 0, 1, out) == 1 and out.tolist() == [2, 2]


def test_reader_that_always_finds_an_odd_slot_gives_up_as_torn() -> None:
    words = make_feed()
    publish_book(words, 0, 0, record(1))
    words[newest_offset(words, 0, 0) + BOOK.seq] = 1  # no writer does this: memory was overwritten
    assert read(words, 0)[0] == TORN


def test_a_whole_record_that_is_not_counted_yet_is_not_read() -> None:
    """A reader that came by an old count may find its slot a whole lap later, before that lap is counted."""
    words = make_feed()
    for value in range(1, BOOK_SLOTS + 2):
        publish_book(words, 0, 0, record(value))
    words[book_offset(0, 0) + BOOK_RING.count] = 1
    assert read(words, 0)[0] == TORN, "in the next look the count has come, or an older book would follow a newer one"


def test_books_of_a_missing_feed_read_as_no_data(instance: str) -> None:
    arena = attach_arena(
        [segment_name(instance, "feed.a"), segment_name(instance, "feed.b")],
        FEED.KIND,
        instance,
        feed_segment_words(BOOKS),
    )
    out = np.zeros(2, np.int64)
    off = arena.offset_of(1)
    assert read(arena.words, 0, off)[0] == NO_DATA and read_notice(arena.words, off, 0, out) == 0
    feed = create_feed(instance, "b", BOOKS)
    assert arena.refresh() == [1]
    publish_book(feed.words, 0, 0, record(4))
    assert read(arena.words, 0, off)[0] == 2 and read(arena.words, 0, arena.offset_of(0))[0] == NO_DATA
    feed.close()


def test_restarted_feed_keeps_its_books_under_a_new_epoch_with_dead_connections(instance: str) -> None:
    feed = create_feed(instance, "a", BOOKS)
    reader = Segment.attach(feed.name, kind=FEED.KIND, instance=instance)
    rec = record(1)
    rec[BOOK.conn], rec[BOOK.recv_mono_ns] = 2, 10
    rec[BOOK.conn_generation] = conn_open(feed.words, 0, 2, 0, 0)
    publish_book(feed.words, 0, 1, rec)
    _, before = read(reader.words, 1)
    assert proof_mono_ns(reader.words, 0, before) == 10
    feed.close()
    again = create_feed(instance, "a", BOOKS)
    seq, after = read(reader.words, 1)
    assert again.taken_over and seq == 2 and after.tolist() == before.tolist()
    assert after[BOOK.writer_epoch] == 1 and reader.epoch == 2, "the reader sees that its writer is gone"
    assert proof_mono_ns(reader.words, 0, after) == 0
    assert conn_open(again.words, 0, 2, 0, 0) == rec[BOOK.conn_generation] + 1
    assert proof_mono_ns(reader.words, 0, after) == 0, "a new connection proves no book of the old one"
    again.close()


@pytest.mark.parametrize("conn", [-1, CONN_CAPACITY, 2**40])
def test_connections_out_of_range_are_nobody(conn: int) -> None:
    words = make_feed()
    before = words.copy()
    assert conn_open(words, 0, conn, 0, 0) == 0
    conn_close(words, 0, conn)
    conn_frame(words, 0, conn, 5)
    rec = record(1)
    rec[BOOK.conn] = conn
    assert proof_mono_ns(words, 0, rec) == 0 and words.tolist() == before.tolist()
