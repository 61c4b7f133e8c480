"""A guard whose control plane has ended: what it still does, and that it ends."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.execution.events import CommandKind
from pipeline.execution.journal import Journal
from shm.liveness import LivenessView
from shm.metrics import Metrics
from shm.pages import HaltPage
from tests.worlds.execution_world import make_config
from tests.worlds.external_world import FUTURES, external_world, hedge
from workers.base import WorkerContext, _install_signals
from workers.guard.keeper import HaltKeeper
from workers.guard.orphan import CLOSING_NS, EXECUTOR_NS, Orphan
from workers.guard.taking_over import TakingOver
from workers.halt_file import if_hung, read_halt

LOOK_NS = 100_000_000
EPOCH = 7


class World:
    """An orphan on real pages; of the executor there is what ``lives`` says, and no page: nothing to kill."""

    def __init__(self, instance: str, folder: Path) -> None:
        self.said: list[str] = []
        self.context: Any = SimpleNamespace(
            instance=instance,
            config=make_config(),
            state_dir=folder,
            metrics=Metrics.private("guard"),
            say=lambda level, text: self.said.append(f"{level}: {text}"),
            progress=lambda: None,
        )
        self.lives = True
        self.page = HaltPage.create(instance)
        keeper = HaltKeeper(self.context, self.page)
        none = LivenessView.attach(instance, "executor", missing_ok=True)
        self.taking_over = TakingOver(self.context, keeper, none)
        self.orphan = Orphan(self.context, keeper, self.taking_over)
        self.page.grant(EPOCH, 1 << 62)

    def goes_on(self, now_ns: int, *, hangs: bool = False) -> bool:
        return self.orphan.goes_on(now_ns, lives=self.lives, hangs=hangs)


@pytest.fixture
def world(instance: str, tmp_path: Path) -> Iterator[World]:
    made = World(instance, tmp_path)
    yield made
    made.page.close()


def leave(folder: Path, *, half_done: bool) -> None:
    """The journal of an executor that was killed with a hedge open, and perhaps an order on its way."""
    world = external_world()
    hedge(world)
    if half_done:
        world.arm(kind="drop_request", venue=FUTURES, target="place", count=1)
        world.command(CommandKind.CLOSE_HEDGES)
        assert world.run_until(lambda: bool(world.core.ledger.unsettled), limit_ms=2000)
    journal = Journal.open(folder / "journal", segment_bytes=4 * 1024 * 1024)
    for entry in world.entries:
        journal.boot_epoch = entry.boot_epoch
        journal.append(entry.record, entry.mono_ns, entry.wall_ns)
    journal.close()


def test_an_executor_that_lives_ends_what_is_open_itself_and_takes_no_new_risk(world: World) -> None:
    assert world.page.may_send(EPOCH, LOOK_NS)
    for now_ns in range(LOOK_NS, EXECUTOR_NS, LOOK_NS):
        assert world.goes_on(now_ns)
    assert not world.page.may_send(EPOCH, LOOK_NS)
    assert not world.taking_over.active and not world.page.latched
    world.lives = False
    assert not world.goes_on(EXECUTOR_NS), "nothing is half done"


@pytest.mark.parametrize("lives", [False, True], ids=["dead", "stopped"])
def test_what_a_dead_executor_left_half_done_is_taken_over_and_hedges_stay(
    world: World, tmp_path: Path, lives: bool
) -> None:
    leave(tmp_path, half_done=True)
    if not lives:
        world.lives = False
    assert world.goes_on(LOOK_NS)
    assert world.taking_over.active is not lives
    begun_ns = LOOK_NS
    if lives:  # one that does not end, and beats
        begun_ns += EXECUTOR_NS
        assert world.goes_on(begun_ns)
    assert world.taking_over.active and world.taking_over.hedges == () and world.page.fenced
    assert world.goes_on(begun_ns + CLOSING_NS - 1), "the takeover has its time from when it began"
    assert not world.goes_on(begun_ns + CLOSING_NS), "the next start must not wait for ever"
    assert world.said[-1].startswith("error: what is open is not ended in time")


def test_what_an_executor_that_hangs_has_left_half_done_does_not_wait_for_its_time_to_end(
    world: World, tmp_path: Path
) -> None:
    leave(tmp_path, half_done=True)
    assert world.goes_on(LOOK_NS) and not world.taking_over.active
    assert world.goes_on(2 * LOOK_NS, hangs=True)
    assert world.taking_over.active and world.taking_over.hedges == () and world.page.fenced
    assert any("the executor hangs" in line for line in world.said)
    assert "guard.hung_after_ms" in if_hung(read_halt(tmp_path).reason), "what to look at is said of this halt too"


def test_one_that_hangs_with_nothing_half_done_may_still_end_by_itself(world: World, tmp_path: Path) -> None:
    leave(tmp_path, half_done=False)
    assert all(world.goes_on(now_ns, hangs=True) for now_ns in range(LOOK_NS, EXECUTOR_NS, LOOK_NS))
    assert not world.taking_over.active
    world.lives = False
    assert not world.goes_on(EXECUTOR_NS)


def test_an_open_hedge_alone_is_nothing_half_done(world: World, tmp_path: Path) -> None:
    leave(tmp_path, half_done=False)
    world.lives = False
    assert not world.goes_on(LOOK_NS) and not world.taking_over.active


def test_a_lost_parent_makes_an_orphan_of_the_guard_and_a_second_signal_ends_it(
    instance: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    parent, kept = os.getppid(), {number: signal.getsignal(number) for number in (1, 2, 13, 14, 15)}
    context = WorkerContext(
        config=make_config(), instance=instance, process="guard", exchange="", state_dir=tmp_path, restarts=0
    )
    try:
        _install_signals(context, supervised=True)
        monkeypatch.setattr(os, "getppid", lambda: parent + 1)
        os.kill(os.getpid(), signal.SIGTERM)
        assert context.orphaned and not context.stop_requested()
        os.kill(os.getpid(), signal.SIGTERM)
        assert context.stop_requested()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        for number, handler in kept.items():
            signal.signal(number, handler)
