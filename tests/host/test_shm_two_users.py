"""Feed and consumer as two different users: whatever one writes the other can only read. Root would hide a breach."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest

from shm.bookring import create_feed, init_feed, publish_book, read_book
from shm.errors import SegmentMismatch
from shm.jit import JIT_DISABLED
from shm.layout import BOOK, CURSOR, FEED, QUEUE, feed_segment_words
from shm.queue import QueueConsumer, QueueProducer
from shm.segment import Segment, attach_arena, cleanup_instance, list_segments, segment_name, trust_owner_uids
from shm.wait import Bell, BellRinger
from tests.stress import kernels as kr
from tests.stress.support import Signpost, all_end_well, children

pytestmark = [
    pytest.mark.host,
    pytest.mark.skipif(os.geteuid() != 0, reason="needs root to act as two users"),
    pytest.mark.skipif(JIT_DISABLED, reason="stress runs the jitted kernels"),
]

FEED_UID, READER_UID, GROUP = 65534, 65533, 0
ITEMS = 20_000
SLOT = 64


@pytest.fixture
def shared_folder() -> Iterator[Path]:
    """Writable by the group: where the bell lies (pytest's own folder is closed to other users)."""
    path = Path(tempfile.mkdtemp())
    os.chown(path, 0, GROUP)
    path.chmod(0o770)
    yield path
    shutil.rmtree(path)


def become(uid: int) -> None:
    os.setgroups([])
    os.setgid(GROUP)
    os.setuid(uid)
    trust_owner_uids([FEED_UID, READER_UID])


def warm(instance: str, folder: Path) -> None:
    """Every kernel is compiled here: the cache folder is closed to the other users."""
    words, out = np.zeros(feed_segment_words(2), np.int64), np.zeros(BOOK.WORDS, np.int64)
    init_feed(words, 0, 2)
    kr.fill(out, 1, 1)
    publish_book(words, 0, 1, out)
    read_book(words, 0, 1, out)
    assert kr.is_whole(out, 1)
    producer = QueueProducer.create(instance, "q", capacity=2, slot_words=SLOT)
    consumer = QueueConsumer.create(instance, "q", capacity=2, slot_words=SLOT)
    assert producer.refresh()
    kr.produce(producer.words, producer.cursor_words, 0, 1, np.zeros(1, np.int64))
    assert kr.consume(consumer.words, consumer.cursor_words, 1, 1, 0) == 0
    bell = Bell.create(folder / "warm", consumer.cursor_words)
    ringer = BellRinger.attach(bell.path, instance, "q.cursor")
    bell.prepare_park()
    assert ringer.ring_if_sleeping() and bell.park(0)
    for end in (ringer, bell, producer, consumer):
        end.close()
    assert len(cleanup_instance(instance)) == 2


def test_books_items_and_bells_cross_between_users_and_no_segment_has_two_writers(
    instance: str, shared_folder: Path
) -> None:
    warm(instance, shared_folder)
    made, parked = Signpost(), Signpost()
    bell_path = shared_folder / "consumer"
    names = {what: segment_name(instance, what) for what in ("feed.x", "q", "q.cursor")}

    def refuse_writing(what: str, kind: int) -> None:
        with pytest.raises(SegmentMismatch, match="not ours"):
            Segment.attach(names[what], kind=kind, instance=instance, writable=True)
        with pytest.raises(PermissionError):
            os.truncate(f"/dev/shm{names[what]}", 0)
        with pytest.raises(PermissionError):
            os.unlink(f"/dev/shm{names[what]}")

    def feed() -> None:
        become(FEED_UID)
        books = create_feed(instance, "x", 2)
        record = np.zeros(BOOK.WORDS, np.int64)
        kr.fill(record, 1, 7)
        publish_book(books.words, 0, 1, record)
        producer = QueueProducer.create(instance, "q", capacity=64, slot_words=SLOT)
        made.reached()
        parked.await_reached()
        assert producer.refresh()
        refuse_writing("q.cursor", CURSOR.KIND)
        ringer = BellRinger.attach(bell_path, instance, "q.cursor")
        assert ringer.ring_if_sleeping()
        kr.produce(producer.words, producer.cursor_words, 0, ITEMS, np.zeros(1, np.int64))

    def consumer() -> None:
        become(READER_UID)
        made.await_reached()
        arena = attach_arena([names["feed.x"]], FEED.KIND, instance, feed_segment_words(2))
        out = np.zeros(BOOK.WORDS, np.int64)
        assert read_book(arena.words, 0, 1, out) == 2 and kr.is_whole(out, 1)
        refuse_writing("feed.x", FEED.KIND)
        refuse_writing("q", QUEUE.KIND)
        queue = QueueConsumer.create(instance, "q", capacity=64, slot_words=SLOT)
        bell = Bell.create(bell_path, queue.cursor_words)
        bell.prepare_park()
        parked.reached()
        while not bell.park(500):
            bell.prepare_park()
        assert kr.consume(queue.words, queue.cursor_words, 1, ITEMS, 0) == 0

    with children(feed, consumer) as both:
        assert all_end_well(both)
    assert list_segments(instance) == sorted(names.values())
    for name in names.values():
        os.unlink(f"/dev/shm{name}")
