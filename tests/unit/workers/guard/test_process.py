"""The guard: what stands on the disk is obeyed before each lease, and nothing is forgotten by a restart."""

from __future__ import annotations

import os
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from pipeline.execution.crash_points import crash_points
from pipeline.execution.events import CommandKind
from pipeline.execution.journal import Journal
from pipeline.model.enums import OnLoss, ProcessState
from pipeline.takeover import TakeoverResult
from shm.liveness import Liveness
from shm.pages import HaltPage
from tests.exhausted import full_disk, no_descriptors
from tests.stress.support import fork
from tests.worlds.external_world import FUTURES, external_world, hedge
from tests.worlds.guard.life import Context, Life, born
from tests.worlds.waiting import WAIT_S, until
from workers.audit_log import FILE_NAME as AUDIT
from workers.control_plane.restart_storm import BY
from workers.control_socket import GUARD_SOCKET, listen
from workers.guard import keeper as keeper_module
from workers.guard.keeper import RETRY_NS, HaltKeeper
from workers.guard.process import Guard, _serve_one
from workers.halt_file import latch_on_disk, read_halt
from workers.halt_page import latch_page
from workers.halting import halt_instance
from workers.tradable import halt_reasons


@pytest.fixture(autouse=True)
def patient_disk(monkeypatch: pytest.MonkeyPatch) -> None:
    """A disk that is slow is no disk that hangs: ``test_slow_disk.py`` is about those."""
    monkeypatch.setattr(keeper_module, "BLOCK_WAIT_S", WAIT_S)
    monkeypatch.setattr(keeper_module, "RELEASE_WAIT_S", WAIT_S)


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


def test_a_guard_that_is_killed_inside_a_halt_has_halted_all_the_same(instance: str, tmp_path: Path) -> None:
    """Its page shows the latch, the disk does not have it: whoever asked gets no answer and latches both himself."""
    folder = tmp_path / instance
    folder.mkdir()
    life, server = Life(instance, folder), listen(folder / GUARD_SOCKET)
    assert life.may_send(now_of(life))

    def dies() -> None:
        life.guard.keeper._crash = crash_points("guard_latched")
        server.setblocking(True)
        _serve_one(server, life.guard, print)

    child = fork(dies)
    server.close()
    reply = halt_instance(folder, "look")
    assert child.wait() == -signal.SIGKILL
    assert reply["halted"] and life.page.latched and not life.page.may_send(life.executor.epoch, now_of(life))
    life.again()
    assert not life.saves(now_of(life)) and life.guard.keeper.state.reason == "look"
    assert read_halt(folder).halted and not life.page.unsaved
    life.close()


@pytest.mark.parametrize("what", ["", "the guard sent 2 orders"])
def test_the_latch_goes_with_the_fence_only_where_nothing_was_open(life: Life, what: str) -> None:
    keeper = life.guard.keeper
    keeper.fence("the executor hangs", ())
    assert keeper.lift_fence(what, stays=bool(what)) == ""
    assert not life.page.fenced and keeper.state.fence is None
    assert keeper.state.halted == life.page.latched == bool(what)
    assert what in keeper.state.reason


def test_a_halt_that_stood_before_stands_after_a_takeover(life: Life) -> None:
    life.ask(op="halt", reason="look")
    life.guard.keeper.fence("the executor hangs", ())
    life.guard.keeper.lift_fence("", stays=False)
    assert life.page.latched and life.guard.keeper.state.reason == "look"


def test_a_serving_executor_is_asked_itself(life: Life) -> None:
    assert life.may_send(now_of(life))
    assert "READY" in life.ask(op="close", ids=None)["error"]
    assert not life.page.fenced


def test_a_file_that_is_taken_away_releases_nothing(life: Life) -> None:
    life.ask(op="halt", reason="look")
    (life.context.state_dir / "halt.json").unlink()
    assert not life.may_send(now_of(life))


def test_a_halt_that_the_disk_does_not_take_survives_the_guard_and_is_written_later(life: Life) -> None:
    with full_disk():
        reply = life.ask(op="halt", reason="odd fills")
        assert reply["halted"] and "cannot be written" in reply["warning"]
        assert not life.saves(now_of(life))
        life.again()
        assert not life.saves(now_of(life)) and life.guard.keeper.state.reason == "odd fills"
        assert not read_halt(life.context.state_dir).halted
    assert not life.saves(now_of(life) + RETRY_NS)
    assert read_halt(life.context.state_dir).reason == "odd fills" and not life.page.unsaved
    assert sum("cannot be written" in line for line in life.context.said) == 2, "said once by each guard"
    assert not life.ask(op="resume", reason="looked")["halted"]
    assert life.may_send(now_of(life) + 2 * RETRY_NS)


def test_a_halt_that_a_command_has_latched_becomes_the_guards(life: Life) -> None:
    assert life.may_send(now_of(life))
    latch_page(life.instance, "by hand")
    assert not life.page.may_send(life.executor.epoch, now_of(life)), "in force without the guard"
    assert not life.saves(now_of(life))
    assert read_halt(life.context.state_dir).reason == "by hand" and life.guard.keeper.state.halted
    assert not life.ask(op="resume", reason="looked")["halted"]
    assert life.may_send(now_of(life))


@pytest.mark.parametrize(
    "request_",
    [{"op": "note", "holds": ["ra1x2"]}, {"op": "undrain"}, {"op": "block", "venue": "mexc_spot", "reason": "odd"}],
    ids=lambda request: request["op"],
)
def test_no_write_of_another_matter_ends_a_halt_that_a_command_has_latched(
    life: Life, request_: dict[str, Any]
) -> None:
    life.ask(op="drain", reason="maintenance")
    latch_page(life.instance, "by hand")
    life.ask(**request_)
    assert life.page.latched and life.guard.keeper.state.halted, "in force without a gap"
    assert not life.saves(now_of(life))
    assert read_halt(life.context.state_dir).reason == "by hand" and not life.page.unsaved
    assert not life.ask(op="resume", reason="looked")["halted"]
    assert life.may_send(now_of(life) + RETRY_NS)


def test_a_halt_that_a_command_latches_while_the_guard_writes_stays(life: Life) -> None:
    def at(point: str) -> None:
        if point == "guard_latched":  # the page shows what is about to be written
            latch_page(life.instance, "by hand")

    keeper = HaltKeeper(life.context, life.page, crash=at)  # type: ignore[arg-type]
    keeper.handle({"op": "note", "holds": ["ra1x2"]})
    assert life.page.latched and keeper.state.halted
    assert not life.saves(now_of(life)) and read_halt(life.context.state_dir).reason == "by hand"


@pytest.mark.parametrize("second", ["the first", "the second", "on disk"])
def test_a_halt_that_a_command_latches_while_a_resume_is_written_stays(
    life: Life, monkeypatch: Any, second: str
) -> None:
    life.ask(op="drain", reason="maintenance")
    latch_page(life.instance, "the first")  # on the page alone, as a guard that hung leaves it
    written, folder = keeper_module.write_halt, life.context.state_dir

    def slowly(*given: Any, **known: Any) -> None:
        monkeypatch.undo()
        if second == "on disk":
            latch_on_disk(folder, second, by="me")
        written(*given, **known)
        latch_page(life.instance, second)

    monkeypatch.setattr(keeper_module, "write_halt", slowly)
    life.guard.keeper.handle({"op": "resume", "reason": "looked"})
    assert life.page.latched and life.guard.keeper.state.halted and not life.may_send(now_of(life))
    life.saves(now_of(life) + RETRY_NS)
    assert read_halt(folder).reason == second


@pytest.mark.parametrize("before", [True, False])
def test_a_halt_that_a_command_latches_stands_after_a_takeover(life: Life, before: bool) -> None:
    if before:
        latch_page(life.instance, "by hand")
    life.guard.keeper.fence("the executor hangs", ())
    if not before:
        latch_page(life.instance, "by hand")
    assert life.guard.keeper.lift_fence("", stays=False) == ""
    assert life.page.latched and not life.may_send(now_of(life))
    assert read_halt(life.context.state_dir).reason == "by hand"


def test_a_fence_that_the_disk_does_not_take_leaves_no_latch_where_nothing_was_open(life: Life) -> None:
    with full_disk():
        life.guard.keeper.fence("the executor hangs", ())
        assert life.page.unsaved
    assert life.guard.keeper.lift_fence("", stays=False) == ""
    assert not life.page.latched and not life.guard.keeper.state.halted


def test_a_file_that_cannot_be_read_for_a_moment_halts_for_that_moment_and_forgets_nothing(life: Life) -> None:
    path = life.context.state_dir / "halt.json"
    life.ask(op="drain", reason="maintenance")
    content = path.read_bytes()
    path.unlink()
    path.mkdir()  # read as EISDIR
    assert not life.may_send(now_of(life))
    assert life.guard.keeper.state.halted and life.guard.keeper.state.drain is not None
    path.rmdir()
    path.write_bytes(content)
    assert life.may_send(now_of(life)), "the lease; the drain blocks by venue"
    assert not life.guard.keeper.state.halted and all(life.page.venue_blocked(number) for number in range(3))


def test_without_descriptors_leases_go_on(life: Life, tmp_path: Path) -> None:
    server = listen(tmp_path / "guard.sock")
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.connect(str(tmp_path / "guard.sock"))
    with no_descriptors():
        _serve_one(server, life.guard, print)
        assert life.may_send(now_of(life)), "an executor that cannot be looked at is not dead"
    client.sendall(b'{"op": "state"}\n')
    _serve_one(server, life.guard, print)
    assert msgspec.json.decode(client.recv(1000))["halted"] is False
    client.close()
    server.close()


@pytest.mark.parametrize("ids", ["5", '"a1x1"', "{}", "true"])
def test_a_request_that_is_wrong_closes_nothing_and_ends_no_guard(life: Life, tmp_path: Path, ids: str) -> None:
    server = listen(tmp_path / "guard.sock")
    client = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    client.connect(str(tmp_path / "guard.sock"))
    client.sendall(b'{"op": "close", "ids": ' + ids.encode() + b"}\n")
    _serve_one(server, life.guard, print)
    assert msgspec.json.decode(client.recv(1000))["kind"] == "bad_input"
    assert not life.guard.taking_over.active
    client.close()
    server.close()


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
    context, page, guard = born(instance, tmp_path)
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
    done: Any = SimpleNamespace(result=TakeoverResult(), orders=[], reasons={}, acted=True, error="", taken=None)
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


@pytest.mark.parametrize("half_done", [False, True])
def test_a_first_start_has_two_minutes_only_where_the_last_run_left_nothing_half_done(
    instance: str, tmp_path: Path, half_done: bool
) -> None:
    world = external_world()
    hedge(world)  # an open hedge may wait
    if half_done:
        world.arm(kind="drop_request", venue=FUTURES, target="place", count=1)
        world.command(CommandKind.CLOSE_HEDGES)
        assert world.run_until(lambda: bool(world.core.ledger.unsettled), limit_ms=2000)
    journal = Journal.open(tmp_path / "journal", segment_bytes=4 * 1024 * 1024)
    for entry in world.entries:
        journal.boot_epoch = entry.boot_epoch
        journal.append(entry.record, entry.mono_ns, entry.wall_ns)
    journal.close()  # a crash of the host: no last word
    context, page, guard = born(instance, tmp_path)
    looks = iter(range(now_of_host(), 1 << 62, 100_000_000))  # no executor comes for longer than a restart may take
    for _ in range(2 * context.config.guard.restart_within_ms // 100):
        guard.look_at_executor(next(looks))
    until(lambda: "last-run" not in [thread.name for thread in threading.enumerate()], "the end of the replay")
    for _ in range(2):
        guard.look_at_executor(next(looks))
    assert guard.taking_over.active is half_done
    page.close()


def test_a_guard_that_looks_up_the_last_run_goes_on_and_kills_nobody_who_came_meanwhile(
    instance: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    executor = Liveness.create(instance, "executor")
    executor.set_state(ProcessState.WARMING)
    seen = threading.Event()

    def long_journal(state_dir: Path) -> str:
        assert seen.wait(240), "the guard stands still while the journal is read"
        return "1 operations half done"

    monkeypatch.setattr("workers.guard.last_run.half_done", long_journal)
    context, page, guard = born(instance, tmp_path)
    looks = iter(range(now_of_host(), 1 << 62, 100_000_000))
    for _ in range(2 * context.config.guard.restart_within_ms // 100):
        guard.look_at_executor(next(looks))
        executor.beat()
    assert "last-run" in [thread.name for thread in threading.enumerate()]
    executor.set_state(ProcessState.READY)
    seen.set()
    until(lambda: "last-run" not in [thread.name for thread in threading.enumerate()], "the end of the replay")
    for _ in range(5):
        executor.beat()
        guard.look_at_executor(now := next(looks))
    assert not guard.taking_over.active and page.may_send(executor.epoch, now + 1)
    assert guard.handle({"op": "state"})["fenced"] is False
    page.close()
    executor.close()


@pytest.mark.parametrize("planned", [False, True], ids=["a loss", "an orderly stop"])
def test_an_orderly_stop_leaves_no_latch_though_the_guard_has_acted_in_it(
    instance: str, tmp_path: Path, planned: bool
) -> None:
    context, page, guard = born(instance, tmp_path)
    guard.handle({"op": "close", "ids": [], "reason": "stop", "planned": planned, "uid": os.geteuid()})
    assert guard.taking_over.active and page.fenced and page.latched
    result = TakeoverResult(orders=("g1x1",), closed=("a1x1",), left=("a1x2",))
    done: Any = SimpleNamespace(result=result, orders=[], reasons={}, acted=True, error="", taken=None)
    guard.taking_over._closed(done, now_of_host())
    assert not page.fenced and page.latched is not planned
    words = "the guard sent 1 orders, closed 1 hedges, 1 hedges are left"
    rows = [msgspec.json.decode(line) for line in (tmp_path / AUDIT).read_bytes().splitlines()]
    for text in (context.said[-1], rows[-1]["reason"]):
        assert words in text and ("arb resume" in text) is not planned, "what it did is said in any case"
    page.close()


@pytest.mark.parametrize("acted", [False, True])
def test_an_orderly_stop_that_the_guard_could_not_end_leaves_no_latch_where_nobody_acted(
    instance: str, tmp_path: Path, acted: bool
) -> None:
    """The next start refuses what is wrong by itself, and goes on with what is open."""
    _, page, guard = born(instance, tmp_path)
    guard.handle({"op": "close", "ids": [], "reason": "stop", "planned": True, "uid": os.geteuid()})
    failed: Any = SimpleNamespace(result=None, orders=[], reasons={}, acted=acted, error="ConfigInvalid: no venue")
    while guard.taking_over.active:
        guard.taking_over._closed(failed, now_of_host())
    assert not page.fenced and page.latched is acted
    page.close()


def test_a_fence_of_an_orderly_stop_is_one_for_the_next_guard(instance: str, tmp_path: Path) -> None:
    _, page, guard = born(instance, tmp_path)
    guard.handle({"op": "close", "ids": [], "reason": "stop", "planned": True, "uid": os.geteuid()})
    page.close()  # the guard ends in the middle
    _, page, guard = born(instance, tmp_path)
    assert guard.taking_over.active
    done: Any = SimpleNamespace(
        result=TakeoverResult(orders=("g1x1",)), orders=[], reasons={}, acted=True, error="", taken=()
    )
    guard.taking_over._closed(done, now_of_host())
    assert not page.fenced and not page.latched
    page.close()


def _hedges_of(context: Context) -> tuple[str, ...] | None:
    fence = read_halt(context.state_dir).fence
    assert fence is not None
    return fence.hedges


def test_a_reloaded_configuration_is_that_of_the_next_takeover(instance: str, tmp_path: Path) -> None:
    context, page, guard = born(instance, tmp_path)
    assert guard.taking_over.by_configuration() is None
    settings = msgspec.structs.replace(context.config.guard, on_executor_loss=OnLoss.HOLD)
    context.accepted = msgspec.structs.replace(context.config, guard=settings)
    guard.look(now_of_host())
    assert guard.taking_over.by_configuration() == ()
    page.close()
