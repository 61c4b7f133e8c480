"""The guard: what stands on the disk is obeyed before each lease, and nothing is forgotten by a restart."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from pipeline.model.enums import ProcessState
from pipeline.takeover import TakeoverResult
from shm.liveness import Liveness
from shm.metrics import Metrics
from shm.pages import HaltPage
from tests.worlds.execution_world import make_config
from workers.audit_log import FILE_NAME as AUDIT
from workers.control_plane.giving_up import BY
from workers.guard.process import Guard
from workers.halt_file import latch_on_disk, read_halt
from workers.tradable import halt_reasons


class Context:
    """What the guard uses of its process."""

    def __init__(self, instance: str, folder: Path) -> None:
        self.instance = instance
        self.config = make_config()
        self.state_dir = folder
        self.metrics = Metrics.private("guard")
        self.said: list[str] = []
        self.restarts = 0

    def say(self, level: str, text: str) -> None:
        self.said.append(f"{level}: {text}")


class Life:
    """A guard on real pages, which can be born again on the same state folder."""

    def __init__(self, instance: str, folder: Path) -> None:
        self.instance = instance
        self.executor = Liveness.create(instance, "executor")
        self.executor.set_state(ProcessState.READY)
        self.context = Context(instance, folder)
        self.page = HaltPage.create(instance)
        self.guard = Guard(self.context, self.page)  # type: ignore[arg-type]

    def again(self) -> None:
        """SIGKILL and restart."""
        self.page.close()
        self.page = HaltPage.create(self.instance)
        self.guard = Guard(self.context, self.page)  # type: ignore[arg-type]

    def ask(self, **request: Any) -> dict[str, Any]:
        return self.guard.handle({**request, "uid": os.geteuid()})

    def may_send(self, now_ns: int) -> bool:
        """One lease period at ``now_ns``, then whether the executor may send new risk right after it."""
        self.executor.beat()
        self.guard.look(now_ns)
        return self.page.may_send(self.executor.epoch, now_ns + 1)

    def close(self) -> None:
        self.page.close()
        self.executor.close()


@pytest.fixture
def life(instance: str, tmp_path: Path) -> Iterator[Life]:
    made = Life(instance, tmp_path)
    yield made
    made.close()


def now_of(life: Life) -> int:
    return now_of_host()


def now_of_host() -> int:
    from pipeline.model.clock import mono_ns

    return mono_ns()


def test_a_halt_that_was_latched_while_the_guard_hung_is_obeyed_before_the_next_lease(life: Life) -> None:
    assert life.may_send(now_of(life))
    latch_on_disk(life.context.state_dir, "restart storm of executor", by="uid 7 (ann)")  # as the supervisor does
    assert not life.may_send(now_of(life))
    assert life.page.reason == "restart storm of executor"
    assert not life.ask(op="resume", reason="looked at it")["halted"]
    assert life.may_send(now_of(life))


def test_halt_drain_and_blocks_survive_the_guard(life: Life) -> None:
    assert life.ask(op="drain", reason="maintenance")["draining"]
    assert life.ask(op="block", venue="mexc_spot", reason="odd books")["blocked_venues"] == ["mexc_spot"]
    life.ask(op="undrain")
    life.again()
    assert [life.page.venue_blocked(number) for number in range(3)] == [True, False, False]
    life.ask(op="drain", reason="again")
    life.again()
    assert all(life.page.venue_blocked(number) for number in range(3))
    assert not life.page.latched
    reply = life.ask(op="resume", reason="over")
    assert reply == {"halted": False, "reason": "over", "draining": False, "blocked_venues": [], "fenced": False}
    life.again()
    assert not any(life.page.venue_blocked(number) for number in range(3))


def test_breakers_and_holds_lie_beside_the_halt_and_survive_a_resume(life: Life) -> None:
    row = {"name": "daily_loss", "reason": "5001 USD lost", "since_wall_ns": 7}
    life.ask(op="note", breakers=[row], holds=["ra1x2"])
    life.ask(op="halt", reason="look")
    life.ask(op="resume", reason="looked")
    life.again()
    state = life.guard.keeper.state
    assert [(b.name, b.since_wall_ns) for b in state.breakers] == [("daily_loss", 7)]
    assert state.holds == ("ra1x2",)
    life.ask(op="note", breakers=[], holds=[])
    assert read_halt(life.context.state_dir).breakers == ()


def test_every_decision_has_a_line_that_says_who_when_and_why(life: Life) -> None:
    life.ask(op="halt", reason="look")
    life.ask(op="state")
    life.ask(op="resume", reason="looked")
    rows = [msgspec.json.decode(line) for line in (life.context.state_dir / AUDIT).read_bytes().splitlines()]
    assert [(row["op"], row["reason"]) for row in rows] == [("halt", "look"), ("resume", "looked")]
    assert all(row["by"].startswith(f"uid {os.geteuid()}") and row["wall_ns"] > 0 for row in rows)


def test_a_halt_of_the_supervisor_is_no_users(life: Life) -> None:
    life.ask(op="halt", reason="restart storm of executor", process=BY)
    (first, *_) = halt_reasons(life.guard.keeper.state, [], running=True)
    assert first.what == "HALTED by supervisor: restart storm of executor"


def test_the_fence_outlives_the_guard_and_a_resume_and_takes_the_lease(life: Life) -> None:
    assert life.may_send(now_of(life))
    life.guard.keeper.fence("the executor hangs", ())
    assert life.page.fenced and life.page.latched and not life.page.may_send(life.executor.epoch, now_of(life))
    assert not life.ask(op="resume", reason="now")["halted"]
    assert life.page.fenced and read_halt(life.context.state_dir).fence is not None
    life.page.close()
    life.page = HaltPage.create(life.instance)
    assert life.page.fenced, "a page that is taken over keeps it"


@pytest.mark.parametrize("what", ["", "the guard sent 2 orders"])
def test_the_latch_goes_with_the_fence_only_where_nothing_was_open(life: Life, what: str) -> None:
    keeper = life.guard.keeper
    keeper.fence("the executor hangs", ())
    assert keeper.lift_fence(what) == ""
    assert not life.page.fenced and keeper.state.fence is None
    assert keeper.state.halted == life.page.latched == bool(what)
    assert what in keeper.state.reason


def test_a_halt_that_stood_before_stands_after_a_takeover(life: Life) -> None:
    life.ask(op="halt", reason="look")
    life.guard.keeper.fence("the executor hangs", ())
    life.guard.keeper.lift_fence("")
    assert life.page.latched and life.guard.keeper.state.reason == "look"


def test_a_serving_executor_is_asked_itself(life: Life) -> None:
    assert life.may_send(now_of(life))
    assert "READY" in life.ask(op="close", ids=None)["error"]
    assert not life.page.fenced


def test_a_file_that_is_taken_away_releases_nothing(life: Life) -> None:
    life.ask(op="halt", reason="look")
    (life.context.state_dir / "halt.json").unlink()
    assert not life.may_send(now_of(life))


def test_a_commanded_close_is_remembered_and_goes_on_after_the_guard_died(instance: str, tmp_path: Path) -> None:
    context, page = Context(instance, tmp_path), HaltPage.create(instance)
    uid = os.geteuid()
    first = Guard(context, page)  # type: ignore[arg-type]  # no executor has ever been there
    assert first.handle({"op": "close", "ids": ["a1x1"], "reason": "out", "uid": uid})["taking_over"]
    assert _hedges_of(context) == ("a1x1",)
    first.handle({"op": "close", "ids": ["a1x9", "a1x1"], "reason": "these too", "uid": uid})
    page.close()
    page = HaltPage.create(instance)
    second = Guard(context, page)  # type: ignore[arg-type]
    assert second.taking_over.active and page.fenced
    assert second.taking_over.hedges == ("a1x1", "a1x9"), "those that were named, whatever is configured"
    second.handle({"op": "close", "ids": None, "reason": "everything", "uid": uid})
    page.close()
    page = HaltPage.create(instance)
    third = Guard(context, page)  # type: ignore[arg-type]
    assert third.taking_over.hedges is None
    page.close()


def test_an_executor_that_is_given_up_in_a_commanded_close_leaves_as_configured(instance: str, tmp_path: Path) -> None:
    context, page = Context(instance, tmp_path), HaltPage.create(instance)
    guard = Guard(context, page)  # type: ignore[arg-type]
    guard.handle({"op": "close", "ids": ["a1x1"], "reason": "out", "uid": os.geteuid()})
    guard.handle({"op": "take_over", "reason": "restart storm of executor", "uid": os.geteuid()})
    assert guard.taking_over.hedges is None and _hedges_of(context) is None
    page.close()


def test_a_dead_executor_is_stood_in_for_once_and_not_every_ten_seconds(instance: str, tmp_path: Path) -> None:
    context, page = Context(instance, tmp_path), HaltPage.create(instance)
    context.restarts = 1  # so that an executor has been there, which has left no page
    guard = Guard(context, page)  # type: ignore[arg-type]
    taking_over = guard.taking_over
    looks = iter(range(now_of_host(), 1 << 62, 100_000_000))
    while not taking_over.active:
        guard.look_at_executor(next(looks))
    done: Any = SimpleNamespace(result=TakeoverResult(), orders=[], reasons={}, acted=True, error="")
    taking_over._closed(done, next(looks))
    assert not taking_over.active and not page.fenced
    for _ in range(3 * context.config.guard.restart_within_ms // 100):
        guard.look_at_executor(next(looks))
        assert not taking_over.active
    executor = Liveness.create(instance, "executor")  # the next one: what it leaves is nobody's yet
    executor.set_state(ProcessState.READY)
    guard.look_at_executor(next(looks))
    assert not taking_over.has_closed(executor.epoch)
    executor.close()
    page.close()


def _hedges_of(context: Context) -> tuple[str, ...] | None:
    fence = read_halt(context.state_dir).fence
    assert fence is not None
    return fence.hedges
