"""Books between two real processes: nothing torn, laps counted, killed writers seen, restarts without new readers.

``ARB_STRESS_READS`` (default 100 million, as continuous integration demands) is the number of book reads of each
torn-read test; the rest of this file is small beside it.
"""

from __future__ import annotations

import os
import random
import signal

import numpy as np
import pytest

from shm.atomics import mono_ns, store_relaxed
from shm.bookring import book_offset, create_feed, init_feed, proof_mono_ns, publish_book, read_book
from shm.jit import JIT_DISABLED
from shm.layout import BOOK, BOOK_RING, FEED, HEADER, LIVENESS, feed_segment_words
from shm.liveness import Liveness, LivenessView
from shm.segment import Arena, attach_arena, cleanup_instance, list_segments, owner_lives, segment_name
from shm.words import Words
from tests.stress import kernels as kr
from tests.stress.support import Signpost, children, pin, pinned

pytestmark = pytest.mark.skipif(JIT_DISABLED, reason="stress runs the jitted kernels")

BOOKS = 8
READS = int(os.environ.get("ARB_STRESS_READS", "100_000_000"))
ENDLESS = 10**12
CHUNK = 1_000_000
CHANGES = READS // 1000 if len(os.sched_getaffinity(0)) > 1 else READS // 1_000_000


@pytest.fixture(scope="module", autouse=True)
def warm() -> None:
    """Every kernel is compiled here, before any fork."""
    words, live = np.zeros(feed_segment_words(BOOKS), np.int64), np.zeros(LIVENESS.END, np.int64)
    init_feed(words, 0, BOOKS)
    kr.write_books(words, BOOKS, BOOKS, 0, np.zeros(1, np.int64))
    Reader(words, BOOKS).read(BOOKS)
    seen = np.zeros(BOOKS + 2, np.int64)
    kr.follow_notices(words, 0, BOOKS, BOOKS, 0, np.zeros(BOOK.WORDS, np.int64), seen)
    kr.read_without_a_protocol(words, 0, 1, np.zeros(BOOK.WORDS, np.int64))
    kr.publish_and_beat.compile(kr.write_books.signatures[0][:1] * 2 + (kr.write_books.signatures[0][1],))
    proof_mono_ns(words, 0, np.zeros(BOOK.WORDS, np.int64))
    kr.beat(live, 0, mono_ns())


class Reader:
    """Reads and judges books; keeps what it saw between calls."""

    def __init__(self, words: Words, books: int) -> None:
        self.words = words
        self.books = books
        self.out = np.zeros(BOOK.WORDS, np.int64)
        self.last = np.zeros(books, np.int64)
        self.result = np.zeros(kr.RESULT_WORDS, np.int64)

    def read(self, reads: int) -> None:
        kr.read_books(self.words, 0, self.books, reads, self.out, self.last, self.result)

    def assert_nothing_wrong(self) -> None:
        found = self.result.tolist()
        wrong = {k: found[getattr(kr, k)] for k in ("TORN_RECORDS", "GAVE_UP", "WENT_BACK", "NO_DATA_AFTER_DATA")}
        assert not any(wrong.values()), wrong


def arena_of(instance: str) -> Arena:
    return attach_arena([segment_name(instance, "feed.x")], FEED.KIND, instance, feed_segment_words(BOOKS))


@pytest.mark.parametrize(("books", "pauses"), [(1, 0), (BOOKS, 8)], ids=["back-to-back", "paced"])
def test_no_read_is_torn_while_another_process_publishes(instance: str, books: int, pauses: int) -> None:
    begun = Signpost()

    def write() -> None:
        pin(1)
        feed = create_feed(instance, "x", BOOKS)
        begun.reached()
        kr.write_books(feed.words, books, ENDLESS, pauses, np.zeros(1, np.int64))

    with children(write), pinned(0):
        begun.await_reached()
        reader = Reader(arena_of(instance).words, books)
        # on a busy host the writer may be kept off its CPU: then it takes more reads until enough books changed
        while reader.result[kr.READS] < READS or reader.result[kr.CHANGES] < CHANGES:
            reader.read(CHUNK)
    reader.assert_nothing_wrong()
    assert cleanup_instance(instance) == [segment_name(instance, "feed.x")] and list_segments(instance) == []


def test_the_judge_sees_torn_records_where_there_is_no_protocol(instance: str) -> None:
    begun = Signpost()

    def write() -> None:
        pin(1)
        feed = create_feed(instance, "x", BOOKS)
        begun.reached()
        kr.write_books(feed.words, 1, ENDLESS, 0, np.zeros(1, np.int64))

    out = np.zeros(BOOK.WORDS, np.int64)
    with children(write), pinned(0):
        begun.await_reached()
        words = arena_of(instance).words
        assert kr.read_without_a_protocol(words, 0, 200 * CHUNK, out) > 0


def test_lapped_reader_counts_its_laps_and_ends_with_every_newest_book(instance: str) -> None:
    count = 400_000
    begun = Signpost()

    def write() -> None:
        pin(1)
        feed = create_feed(instance, "x", BOOKS)
        begun.reached()
        kr.write_books(feed.words, BOOKS, count, 0, np.zeros(1, np.int64))

    with children(write) as (writer,), pinned(0):
        begun.await_reached()
        words = arena_of(instance).words
        seen, out = np.zeros(BOOKS + 2, np.int64), np.zeros(BOOK.WORDS, np.int64)
        laps = kr.follow_notices(words, 0, BOOKS, count, 40, out, seen)
        assert writer.wait() == 0
    assert laps > 0 and seen[BOOKS + 1] == 0 and seen[BOOKS] < count, "slower than the writer, never wrong"
    assert seen[count % BOOKS] == count
    for book in range(BOOKS):
        assert read_book(words, 0, book, out) > 0
        assert out[BOOK.update_id] == max(v for v in range(count - BOOKS + 1, count + 1) if v % BOOKS == book)


def test_killed_writers_leave_whole_books_and_successors_need_no_new_readers(instance: str) -> None:
    arena, reader = arena_of(instance), None
    rng = random.Random(20240808)
    for life in range(1, 13):
        begun = Signpost()

        def write(point: Signpost = begun) -> None:
            feed = create_feed(instance, "x", BOOKS)
            kr.write_books(feed.words, BOOKS, BOOKS, 0, np.zeros(1, np.int64))  # every book has one of this epoch
            point.reached()
            kr.write_books(feed.words, BOOKS, ENDLESS, 0, np.zeros(1, np.int64))

        with children(write) as (writer,):
            begun.await_reached()
            begun.close()
            arena.refresh()
            reader = reader or Reader(arena.words, BOOKS)
            reader.read(rng.randrange(1, 200_000))
            writer.kill()
            reader.read(rng.randrange(1, 200_000))
            assert writer.wait() == -signal.SIGKILL
        reader.read(BOOKS * 4)
        reader.assert_nothing_wrong()
        assert arena.words[HEADER.epoch] == life and not owner_lives(segment_name(instance, "feed.x"))
        assert reader.out[BOOK.writer_epoch] == life
    assert cleanup_instance(instance) == [segment_name(instance, "feed.x")] and list_segments(instance) == []


@pytest.mark.parametrize("words_written", [0, 1, 40, 87])
def test_writer_killed_in_the_middle_of_a_publication(instance: str, words_written: int) -> None:
    whole = np.zeros(BOOK.WORDS, np.int64)
    kr.fill(whole, 3, 1)

    def die_inside() -> None:
        feed = create_feed(instance, "x", BOOKS)
        publish_book(feed.words, 0, 3, whole)
        slot = int(book_offset(0, 3)) + BOOK_RING.records + BOOK.WORDS
        store_relaxed(feed.words, slot + BOOK.seq, 3)
        for k in range(words_written):
            store_relaxed(feed.words, slot + 8 + k, 666)
        os.kill(os.getpid(), signal.SIGKILL)

    with children(die_inside) as (writer,):
        assert writer.wait() == -signal.SIGKILL
    words, out = arena_of(instance).words, np.zeros(BOOK.WORDS, np.int64)
    assert read_book(words, 0, 3, out) == 2 and kr.is_whole(out, 3)
    successor = create_feed(instance, "x", BOOKS)
    assert read_book(words, 0, 3, out) == 2 and out[BOOK.writer_epoch] == 1 < words[HEADER.epoch], "known as old"
    kr.fill(whole, 3, 2)
    publish_book(successor.words, 0, 3, whole)
    assert read_book(words, 0, 3, out) == 4 and kr.is_whole(out, 3) and out[BOOK.writer_epoch] == 2
    successor.close()


def test_death_of_a_publishing_feed_is_seen_by_pid_beat_and_epoch(instance: str) -> None:
    begun = Signpost()

    def feed() -> None:
        live, segment = Liveness.create(instance, "feed.x"), create_feed(instance, "x", BOOKS)
        begun.reached()
        kr.publish_and_beat(segment.words, live.words, BOOKS)

    with children(feed) as (writer,):
        begun.await_reached()
        view, arena = LivenessView.attach(instance, "feed.x"), arena_of(instance)
        assert view.alive()
        reader = Reader(arena.words, BOOKS)
        reader.read(100_000)
        writer.kill()
        os.waitid(os.P_PID, writer.pid, os.WEXITED | os.WNOWAIT)
        assert not view.alive()
        dead_at = int(mono_ns())
        assert view.hung(dead_at + 100_000_000), "by its beat alone, at most 100 ms after its death"
        writer.wait()
    with children(feed):
        begun.await_reached()
        assert view.epoch == 2 == arena.words[HEADER.epoch] and view.alive(), "same maps, new writer"
        reader.read(100_000)
    reader.assert_nothing_wrong()
