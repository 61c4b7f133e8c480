"""Queues: lossless, in order, bounded; refusals counted; wraps; restarts of either end."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from shm.atomics import store_relaxed
from shm.errors import SegmentMissing, ShmError
from shm.layout import CURSOR, QUEUE
from shm.queue import (
    READ_LOST,
    QueueConsumer,
    QueueProducer,
    attach_queue,
    init_queue,
    is_empty,
    pop,
    push,
    queue_words,
    read_at,
)
from shm.segment import cleanup_instance, segment_name
from shm.words import Words
from tests.naive.shm import NaiveQueue, wrap64
from tests.worlds.queue_items import pop_new

CAPACITY = 4
SLOT = 16


def make(start: int = 0, capacity: int = CAPACITY, slot: int = SLOT) -> tuple[Words, Words]:
    words, cursor = np.zeros(queue_words(capacity, slot), np.int64), np.zeros(CURSOR.END, np.int64)
    init_queue(words, 0, capacity, slot, start)
    cursor[CURSOR.cursor] = start
    return words, cursor


def item(value: int, slot: int = SLOT) -> Words:
    return np.arange(value * 100, value * 100 + slot, dtype=np.int64)


@given(st.lists(st.sampled_from(["push", "pop", "at"]), max_size=80), st.sampled_from([0, 2**32 - 2, 2**63 - 5]))
@settings(deadline=None)
def test_queue_does_what_its_plain_twin_does(operations: list[str], start: int) -> None:
    (words, cursor), naive = make(start), NaiveQueue(CAPACITY)
    out = np.zeros(SLOT, np.int64)
    for k, kind in enumerate(operations):
        if kind == "push":
            assert bool(push(words, 0, cursor, 0, item(k))) == naive.push(tuple(item(k)[1:].tolist()))
        elif kind == "pop":
            assert bool(is_empty(words, 0, cursor, 0)) == (not naive.items)
            got, wanted = int(pop(words, 0, cursor, 0, out)), naive.pop()
            assert got == (wanted is not None)
            if wanted is not None:
                assert tuple(out[1:].tolist()) == wanted
        else:
            for index in range(len(naive.history) + 1):
                status, wanted = naive.at(index)
                assert read_at(words, 0, wrap64(start + index), out) == status
                if wanted is not None:
                    assert tuple(out[1:].tolist()) == wanted
    assert words[QUEUE.refused] == naive.refused


@pytest.mark.parametrize("start", [2**31 - 2, 2**32 - 2, 2**63 - 2, -2])
def test_indices_wrap_without_loss(start: int) -> None:
    words, cursor = make(start)
    out = np.zeros(SLOT, np.int64)
    for value in range(1, 20):
        assert push(words, 0, cursor, 0, item(value))
        assert pop(words, 0, cursor, 0, out) == 1
        assert out[1:].tolist() == item(value)[1:].tolist() and int(out[0]) == wrap64(start + value)
    assert pop(words, 0, cursor, 0, out) == 0 and int(cursor[CURSOR.cursor]) == wrap64(start + 19)


def test_full_queue_refuses_counts_and_keeps_what_it_has() -> None:
    words, cursor = make()
    assert [bool(push(words, 0, cursor, 0, item(v))) for v in range(1, 7)] == [True] * 4 + [False] * 2
    out = np.zeros(SLOT, np.int64)
    assert [int(pop(words, 0, cursor, 0, out)) and int(out[1]) for _ in range(5)] == [101, 201, 301, 401, 0]
    assert words[QUEUE.refused] == 2 and push(words, 0, cursor, 0, item(9))


def test_producer_killed_inside_a_push_leaves_an_unseen_slot_that_is_written_again() -> None:
    words, cursor = make()
    out = np.zeros(SLOT, np.int64)
    push(words, 0, cursor, 0, item(1))
    store_relaxed(words, QUEUE.slots + SLOT + 3, 666)  # payload half written, no sequence
    assert pop(words, 0, cursor, 0, out) == 1 and pop(words, 0, cursor, 0, out) == 0
    store_relaxed(words, QUEUE.slots + SLOT, 2)  # sequence written, tail not yet
    assert read_at(words, 0, 1, out) == 0
    assert push(words, 0, cursor, 0, item(2)) and pop(words, 0, cursor, 0, out) == 1
    assert out[1:].tolist() == item(2)[1:].tolist() and pop(words, 0, cursor, 0, out) == 0


def test_item_whose_producer_died_before_the_tail_moved_counts_for_its_successor(instance: str) -> None:
    producer = QueueProducer.create(instance, "q", capacity=CAPACITY, slot_words=SLOT)
    consumer = QueueConsumer.create(instance, "q", capacity=CAPACITY, slot_words=SLOT)
    assert producer.push(item(1)) and producer.push(item(2))
    store_relaxed(producer.words, QUEUE.tail, 1)  # killed between the second item's sequence and the tail
    got = [pop_new(consumer), pop_new(consumer)]
    assert all(g is not None for g in got) and consumer.cursor_words[CURSOR.cursor] == 2
    producer.close()
    successor = QueueProducer.create(instance, "q", capacity=CAPACITY, slot_words=SLOT)
    assert successor.depth == 0 and successor.push(item(3))
    third = pop_new(consumer)
    assert third is not None and third[1] == 301


def test_lossy_reader_is_told_what_it_lost_and_never_disturbs() -> None:
    words, cursor = make()
    out = np.zeros(SLOT, np.int64)
    for value in range(1, 7):
        assert push(words, 0, cursor, 0, item(value))
        pop(words, 0, cursor, 0, out)
    assert [int(read_at(words, 0, index, out)) for index in range(8)] == [READ_LOST] * 3 + [1, 1, 1, 0, 0]
    assert int(cursor[CURSOR.cursor]) == 6


def test_ends_find_each_other_in_either_order(instance: str) -> None:
    producer = QueueProducer.create(instance, "q", capacity=CAPACITY, slot_words=SLOT)
    assert producer.push(item(1))
    consumer = QueueConsumer.create(instance, "q", capacity=CAPACITY, slot_words=SLOT)
    assert not consumer.empty and producer.refresh() and not producer.refresh()
    got = pop_new(consumer)
    assert got is not None and got[1:].tolist() == item(1)[1:].tolist() and producer.depth == 0

    early = QueueConsumer.create(instance, "r", capacity=CAPACITY, slot_words=SLOT)
    assert pop_new(early) is None and early.empty
    late = QueueProducer.create(instance, "r", capacity=CAPACITY, slot_words=SLOT)
    assert late.push(item(2)) and early.refresh() and pop_new(early) is not None


def test_restarted_producer_and_consumer_go_on_where_they_were(instance: str) -> None:
    producer = QueueProducer.create(instance, "q", capacity=CAPACITY, slot_words=SLOT)
    consumer = QueueConsumer.create(instance, "q", capacity=CAPACITY, slot_words=SLOT)
    producer.refresh()
    for value in (1, 2, 3):
        assert producer.push(item(value))
    assert pop_new(consumer) is not None
    consumer.close()
    consumer = QueueConsumer.create(instance, "q", capacity=CAPACITY, slot_words=SLOT)
    producer.close()
    producer = QueueProducer.create(instance, "q", capacity=CAPACITY, slot_words=SLOT)
    assert producer.segment.taken_over and producer.segment.epoch == 2 and producer.depth == 2
    assert producer.push(item(4)) and producer.push(item(5)) and not producer.push(item(6))
    values = []
    while (got := pop_new(consumer)) is not None:
        values.append(int(got[1]))
    assert values == [201, 301, 401, 501]


def test_queue_made_anew_continues_at_the_cursor_of_its_living_consumer(instance: str) -> None:
    producer = QueueProducer.create(instance, "q", capacity=CAPACITY, slot_words=SLOT)
    consumer = QueueConsumer.create(instance, "q", capacity=CAPACITY, slot_words=SLOT)
    producer.refresh()
    for value in (1, 2, 3):
        assert producer.push(item(value)) and pop_new(consumer) is not None
    producer.close()
    assert cleanup_instance(instance) == [segment_name(instance, "q")]
    fresh = QueueProducer.create(instance, "q", capacity=CAPACITY, slot_words=SLOT)
    assert not fresh.segment.taken_over and fresh.depth == 0
    assert fresh.push(item(7)) and consumer.refresh()
    got = pop_new(consumer)
    assert got is not None and got[1] == 701 and consumer.empty


def test_consumer_with_a_cursor_of_another_life_starts_at_the_tail_and_producer_refuses_until_then(
    instance: str,
) -> None:
    old = QueueConsumer.create(instance, "q", capacity=CAPACITY, slot_words=SLOT)
    old.cursor_words[CURSOR.cursor] = 900
    cursor, words = np.zeros(CURSOR.END, np.int64), make()[0]
    cursor[CURSOR.cursor] = words[QUEUE.cursor_seen] = 900  # as refresh() leaves it
    assert not push(words, 0, cursor, 0, item(1)) and words[QUEUE.refused] == 1
    producer = QueueProducer.create(instance, "q", capacity=CAPACITY, slot_words=SLOT)
    store_relaxed(producer.words, QUEUE.tail, 5)
    assert old.refresh() and old.cursor_words[CURSOR.cursor] == 5
    assert producer.push(item(1)) and pop_new(old) is not None


@pytest.mark.parametrize(("start", "values", "skipped"), [("oldest", [301, 401, 501, 601], 0), ("newest", [], 4)])
def test_new_consumer_of_an_old_queue_begins_where_it_is_told(
    instance: str, start: str, values: list[int], skipped: int
) -> None:
    producer = QueueProducer.create(instance, "q", capacity=CAPACITY, slot_words=SLOT)
    first = QueueConsumer.create(instance, "q", capacity=CAPACITY, slot_words=SLOT)
    producer.refresh()
    for value in range(1, 7):
        assert producer.push(item(value))
        if value <= 2:
            pop_new(first)
    first.close()
    cleanup_instance(instance)
    consumer = QueueConsumer.create(instance, "q", capacity=CAPACITY, slot_words=SLOT, start=start)
    found = []
    while (got := pop_new(consumer)) is not None:
        found.append(int(got[1]))
    assert found == values and consumer.skipped == skipped


@pytest.mark.parametrize(("capacity", "slot_words"), [(3, 8), (0, 8), (1, 8), (4, 0), (4, 12)])
def test_impossible_shapes_are_refused(instance: str, capacity: int, slot_words: int) -> None:
    with pytest.raises(ShmError, match="must be"):
        QueueProducer.create(instance, "q", capacity=capacity, slot_words=slot_words)


def test_second_reader_attaches_only_to_a_queue_that_exists(instance: str) -> None:
    with pytest.raises(SegmentMissing):
        attach_queue(instance, "q")
    producer = QueueProducer.create(instance, "q", capacity=CAPACITY, slot_words=SLOT)
    producer.push(item(1))
    out = np.zeros(SLOT, np.int64)
    assert read_at(attach_queue(instance, "q").words, 0, 0, out) == 1


def test_consumer_made_anew_that_is_overtaken_goes_on_behind_and_counts(instance: str) -> None:
    producer = QueueProducer.create(instance, "q", capacity=CAPACITY, slot_words=SLOT)
    first = QueueConsumer.create(instance, "q", capacity=CAPACITY, slot_words=SLOT)
    producer.refresh()
    for value in range(1, 7):
        assert producer.push(item(value)) and pop_new(first) is not None
    first.close()
    assert len(cleanup_instance(instance)) == 1
    consumer = QueueConsumer.create(instance, "q", capacity=CAPACITY, slot_words=SLOT)
    for value in (7, 8, 9):  # the producer still sees the old cursor: 7 .. 9 overwrite 3 .. 5
        assert producer.push(item(value))
    found = []
    for _ in range(12):
        got = pop_new(consumer)
        if got is not None:
            found.append(int(got[1]))
    assert found == [701, 801, 901] and consumer.lost == 4 and consumer.empty, "from 3 on, all are accounted for"
    assert producer.refresh() and producer.depth == 0
