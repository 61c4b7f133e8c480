"""Queues and bells between two real processes: nothing lost, doubled or torn; no wake-up lost; either end killed."""

from __future__ import annotations

import mmap
import random
import signal
from pathlib import Path

import numpy as np
import pytest

from shm.atomics import mono_ns
from shm.jit import JIT_DISABLED
from shm.layout import CURSOR, QUEUE
from shm.queue import QueueConsumer, QueueProducer, init_queue, queue_words
from shm.segment import attach_arena, cleanup_instance, list_segments, segment_name
from shm.wait import PARK_TIMEOUT_MAX_MS, Bell, BellRinger
from tests.stress import kernels as kr
from tests.stress.support import Signpost, all_end_well, children

pytestmark = pytest.mark.skipif(JIT_DISABLED, reason="stress runs the jitted kernels")

SLOT = 64
ITEMS = 500_000
LIVES = 12  # of a producer and a consumer that are killed


@pytest.fixture(scope="module", autouse=True)
def warm(tmp_path_factory: pytest.TempPathFactory) -> None:
    """Every kernel is compiled here, before any fork."""
    words, cursor = np.zeros(queue_words(4, SLOT), np.int64), np.zeros(CURSOR.END, np.int64)
    init_queue(words, 0, 4, SLOT, 0)
    kr.produce(words, cursor, 0, 2, np.zeros(1, np.int64))
    assert kr.consume(words, cursor, 1, 2, 0) == 0
    bell = Bell.create(tmp_path_factory.mktemp("bell") / "b", cursor)
    ringer = BellRinger.open(bell.path, cursor)
    bell.prepare_park()
    assert ringer.ring_if_sleeping() and bell.park(0)
    ringer.close()
    bell.close()


@pytest.mark.parametrize(("capacity", "pauses"), [(2, 0), (64, 0), (64, 20), (1024, 0)])
def test_every_item_arrives_once_in_order_and_whole(instance: str, capacity: int, pauses: int) -> None:
    items = ITEMS // (10 if pauses or capacity == 2 else 1)
    consumer = QueueConsumer.create(instance, "q", capacity=capacity, slot_words=SLOT)
    begun = Signpost()

    def send() -> None:
        producer = QueueProducer.create(instance, "q", capacity=capacity, slot_words=SLOT)
        begun.reached()
        refusals = np.zeros(1, np.int64)
        kr.produce(producer.words, producer.cursor_words, 0, items, refusals)
        assert producer.refused == refusals[0]

    with children(send) as (producer,):
        begun.await_reached()
        assert consumer.refresh()
        assert kr.consume(consumer.words, consumer.cursor_words, 1, items, pauses) == 0
        assert producer.wait() == 0
    assert consumer.empty
    consumer.close()
    assert len(cleanup_instance(instance)) == 2 and list_segments(instance) == []


def test_either_end_may_be_killed_at_any_time_and_nothing_is_lost(instance: str) -> None:
    rng = random.Random(20240808)
    done = 10**12  # nobody gets that far: everybody is killed

    def send(begun: Signpost) -> None:
        producer = QueueProducer.create(instance, "q", capacity=64, slot_words=SLOT)
        tail = int(producer.words[QUEUE.tail])
        begun.reached()
        kr.produce(producer.words, producer.cursor_words, tail, done, np.zeros(1, np.int64))

    def receive(begun: Signpost) -> None:
        consumer = QueueConsumer.create(instance, "q", capacity=64, slot_words=SLOT)
        begun.reached()
        first = int(consumer.cursor_words[CURSOR.cursor]) + 1
        wrong = kr.consume(consumer.words, consumer.cursor_words, first, done, 0)
        raise AssertionError(f"item {wrong} is wrong")

    # the first consumer exists before the first producer, so that the producer finds its cursor
    QueueConsumer.create(instance, "q", capacity=64, slot_words=SLOT).close()
    posts = [Signpost(), Signpost()]
    consumed = 0
    for life in range(1, LIVES + 1):
        with children(lambda: send(posts[0])) as (producer,):
            posts[0].await_reached()
            with children(lambda: receive(posts[1])) as (consumer,):
                posts[1].await_reached()
                for _ in range(rng.randrange(1, 200_000)):
                    pass
                if life == LIVES and not consumed:  # a busy machine may have given neither a turn
                    cursor = attach_arena([segment_name(instance, "q.cursor")], CURSOR.KIND, instance, CURSOR.END)
                    while not cursor.words[CURSOR.cursor]:
                        pass
                for victim in rng.sample([producer, consumer], 2):
                    victim.kill()
                    assert victim.wait() == -signal.SIGKILL
        probe = QueueConsumer.create(instance, "q", capacity=64, slot_words=SLOT)
        now = int(probe.cursor_words[CURSOR.cursor])
        tail = int(probe.words[QUEUE.tail])
        # killed between its slot's sequence and the tail, the producer leaves one item more than the tail counts
        assert consumed <= now <= tail + 1 and tail - now <= 64
        consumed = now
        probe.close()
    assert consumed > 0
    assert len(cleanup_instance(instance)) == 2 and list_segments(instance) == []


def test_no_wake_up_is_lost_between_two_parked_processes(instance: str, tmp_path: Path) -> None:
    """Each side parks until the other has sent. Lost = a park ran to its end although the other side had looked at the
    flag, and rung or not, while that was set: both sides note when, so that a slow machine loses nothing."""
    rounds = 3000
    begun = Signpost()
    looked = np.frombuffer(mmap.mmap(-1, 2 * rounds * 8), dtype=np.int64).reshape(2, rounds)  # ns, by sender and item

    def side(mine: str, theirs: str, *, first: bool) -> None:
        consumer = QueueConsumer.create(instance, mine, capacity=4, slot_words=8)
        bell = Bell.create(tmp_path / mine, consumer.cursor_words)
        producer = QueueProducer.create(instance, theirs, capacity=4, slot_words=8)
        ringer = BellRinger.open(tmp_path / theirs, producer.cursor_words)
        if not first:
            begun.reached()
        while not (producer.refresh() or producer._cursor.is_mapped(0)) or not ringer.refresh():
            pass
        item, got = np.zeros(8, np.int64), np.zeros(8, np.int64)
        mine_looked, theirs_looked = (looked[0], looked[1]) if first else (looked[1], looked[0])

        def send(k: int) -> None:
            assert producer.push(item)
            ringer.ring_if_sleeping()
            mine_looked[k] = mono_ns()

        lost = 0
        for k in range(rounds):
            if first:
                send(k)
            while consumer.empty:
                consumer.refresh()
                bell.prepare_park()
                set_until = mono_ns() + PARK_TIMEOUT_MAX_MS * 1_000_000
                if not consumer.empty:
                    bell.cancel_park()
                elif not bell.park(PARK_TIMEOUT_MAX_MS) and not consumer.empty:
                    while not theirs_looked[k]:
                        pass
                    lost += theirs_looked[k] < set_until and not bell.park(0)
            assert consumer.pop(got)
            if not first:
                send(k)
        assert lost == 0, f"{lost} wake-ups lost"

    with children(lambda: side("b", "a", first=False)) as other:
        begun.await_reached()
        with children(lambda: side("a", "b", first=True)) as one:
            assert all_end_well([*one, *other])
    assert len(cleanup_instance(instance)) == 4
