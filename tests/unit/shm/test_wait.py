"""Wait strategies and bells: who sleeps is rung, who is awake costs nothing, nobody sleeps without an end."""

from __future__ import annotations

import os
import select
from pathlib import Path

import numpy as np
import pytest

from shm.errors import ShmError
from shm.layout import CURSOR
from shm.queue import QueueConsumer
from shm.wait import (
    AUTO,
    PARK,
    SPIN,
    YIELD,
    Bell,
    BellRinger,
    resolve_wait,
    ring_if_sleeping,
)


@pytest.fixture
def bell(tmp_path: Path):  # type: ignore[no-untyped-def]
    made = Bell.create(tmp_path / "bells" / "x", np.zeros(CURSOR.END, np.int64))
    yield made
    made.close()


def test_only_a_sleeper_is_rung(bell: Bell) -> None:
    ringer = BellRinger.open(bell.path, bell.words)
    assert not ringer.ring_if_sleeping() and not bell.park(0)
    bell.prepare_park()
    assert bell.words[CURSOR.sleeping] == 1 and ringer.ring_if_sleeping() and ringer.ring_if_sleeping()
    assert select.select([bell], [], [], 0)[0] == [bell], "an event loop can wait for it"
    assert bell.park(0) and bell.words[CURSOR.sleeping] == 0
    assert not bell.park(0), "all rings were taken at once"
    ringer.close()


def test_ring_between_the_flag_and_the_poll_is_not_lost(bell: Bell) -> None:
    ringer = BellRinger.open(bell.path, bell.words)
    bell.prepare_park()
    ringer.ring_if_sleeping()
    assert bell.park(60_000)
    bell.prepare_park()
    bell.cancel_park()
    assert not ringer.ring_if_sleeping()
    ringer.close()


def test_full_pipe_is_as_good_as_rung(bell: Bell) -> None:
    bell.prepare_park()
    fd = os.open(bell.path, os.O_RDWR | os.O_NONBLOCK)
    with pytest.raises(BlockingIOError):
        while True:
            os.write(fd, b"x" * 65536)
    assert ring_if_sleeping(bell.words, CURSOR.sleeping, fd)
    assert bell.park(0) and not bell.park(0)
    os.close(fd)


def test_ringer_may_come_first_and_consumers_may_restart(tmp_path: Path) -> None:
    words = np.zeros(CURSOR.END, np.int64)
    ringer = BellRinger.open(tmp_path / "b", words)
    words[CURSOR.sleeping] = 1
    assert not ringer.ring_if_sleeping() and not ringer.refresh()
    first = Bell.create(tmp_path / "b", words)
    first.prepare_park()
    assert ringer.ring_if_sleeping()
    first.close()
    second = Bell.create(tmp_path / "b", words)
    assert not second.park(0), "rings for the dead are not for its successor"
    second.prepare_park()
    assert ringer.ring_if_sleeping() and second.park(0), "the producer's end outlives its consumer"
    second.close()
    ringer.close()


def test_producer_without_a_queue_rings_by_the_consumers_cursor_segment(instance: str, tmp_path: Path) -> None:
    ringer = BellRinger.attach(tmp_path / "b", instance, "reports.cursor")
    assert not ringer.ring_if_sleeping(), "nobody there yet"
    consumer = QueueConsumer.create(instance, "reports", capacity=4, slot_words=8)
    bell = Bell.create(tmp_path / "b", consumer.cursor_words)
    bell.prepare_park()
    assert ringer.refresh() and ringer.ring_if_sleeping() and bell.park(0)
    ringer.close()
    bell.close()
    consumer.close()


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_no_fifo_is_refused(tmp_path: Path, kind: str) -> None:
    target = tmp_path / "target"
    target.write_text("secret")
    path = target if kind == "file" else tmp_path / "link"
    if kind == "link":
        path.symlink_to(target)
    words = np.zeros(CURSOR.END, np.int64)
    for attempt in (Bell.create, BellRinger.open):
        with pytest.raises((ShmError, OSError)):
            attempt(path, words)
    assert target.read_text() == "secret"


@pytest.mark.parametrize(
    ("strategy", "cores", "spinners", "wanted"),
    [
        (SPIN, 1, 9, SPIN),
        (YIELD, 1, 9, YIELD),
        (PARK, 9, 1, PARK),
        (AUTO, 8, 5, SPIN),
        (AUTO, 5, 5, YIELD),
        (AUTO, 2, 2, PARK),
        (AUTO, 2, 5, PARK),
        (AUTO, 1, 1, PARK),
    ],
)
def test_auto_picks_by_cores(strategy: str, cores: int, spinners: int, wanted: str) -> None:
    assert resolve_wait(strategy, cores=cores, spinners=spinners) == wanted


def test_unknown_strategy_is_refused() -> None:
    with pytest.raises(ShmError, match="sleep"):
        resolve_wait("sleep", cores=2, spinners=1)
