"""Liveness: beats, hangs, deaths, pids that were given to others."""

from __future__ import annotations

import os

import pytest

from shm.atomics import mono_ns
from shm.errors import SegmentBusy, SegmentMissing
from shm.liveness import (
    BEAT_BUSY_MS,
    BEAT_PARKED_MS,
    MISSED_BEATS,
    Liveness,
    LivenessView,
    LivenessViews,
    is_alive,
)
from shm.segment import process_start_ticks
from tests.stress.support import Signpost, children, fork

MS = 1_000_000


def test_reader_sees_state_beats_progress_and_owner(instance: str) -> None:
    live = Liveness.create(instance, "detector")
    view = LivenessView.attach(instance, "detector")
    before, beat = view.progress, view.beat_mono_ns
    live.beat()
    live.set_state(2)
    assert view.progress == before + 1 and view.beat_mono_ns >= beat > 0
    assert (view.state, view.pid, view.epoch, view.parked) == (2, os.getpid(), 1, False)
    assert view.start_ticks == process_start_ticks(os.getpid()) and view.alive() and view.cpu >= 0
    with pytest.raises(SegmentBusy):
        Liveness.create(instance, "detector")
    live.close()


def test_hang_is_a_missed_beat_and_parked_processes_have_more_time(instance: str) -> None:
    live = Liveness.create(instance, "x")
    view = LivenessView.attach(instance, "x")
    beat = view.beat_mono_ns
    busy, parked = MISSED_BEATS * BEAT_BUSY_MS * MS, MISSED_BEATS * BEAT_PARKED_MS * MS
    assert not view.hung(beat + busy) and view.hung(beat + busy + 1)
    live.parked = True
    assert live.parked and not view.hung(beat + parked) and view.hung(beat + parked + 1)
    assert view.beat_age_ns(beat + 5) == 5 and view.beat_age_ns() >= 0
    live.close()


def test_killed_process_is_dead_at_once_and_by_beat_within_100_ms(instance: str) -> None:
    beating = Signpost()

    def run() -> None:
        live = Liveness.create(instance, "x")
        live.beat()
        beating.reached()
        while True:
            live.beat()

    with children(run) as (child,):
        beating.await_reached()
        view = LivenessView.attach(instance, "x")
        assert view.alive()
        child.kill()
        os.waitid(os.P_PID, child.pid, os.WEXITED | os.WNOWAIT)
        dead_at = int(mono_ns())
        assert not view.alive(), "a zombie that nobody has waited for is dead"
        assert view.beat_mono_ns <= dead_at and view.hung(dead_at + 100 * MS)
        child.wait()
        assert not view.alive()
    again = Liveness.create(instance, "x")
    assert view.epoch == 2 and view.alive() and view.pid == os.getpid()
    again.close()


def test_pid_of_another_process_is_not_taken_for_ours() -> None:
    start = process_start_ticks(os.getpid())
    assert is_alive(os.getpid(), start) and not is_alive(os.getpid(), start + 1)
    gone = fork(lambda: None)
    gone.wait()
    assert not is_alive(gone.pid, start) and not is_alive(0, 0)


def test_view_may_come_before_the_process(instance: str) -> None:
    with pytest.raises(SegmentMissing, match="never started"):
        LivenessView.attach(instance, "x")
    view = LivenessView.attach(instance, "x", missing_ok=True)
    assert not view.mapped and not view.alive() and view.hung() and view.pid == 0
    live = Liveness.create(instance, "x")
    assert view.refresh() and view.alive()
    assert list(LivenessView.attach_all(instance)) == ["x"]
    live.close()


def test_views_of_all_processes_follow_who_comes_and_goes(instance: str) -> None:
    views = LivenessViews(instance)
    assert views.look() == {}
    live = Liveness.create(instance, "x")
    first = views.look()["x"]
    assert first.alive() and views.look()["x"] is first, "mapped once"
    live.segment.unlink()
    live.close()
    assert views.look() == {}
    live = Liveness.create(instance, "x")
    assert views.look()["x"].alive()
    live.close()
