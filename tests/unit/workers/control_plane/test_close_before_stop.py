"""What an orderly stop waits for after the executor's end, and what it does not wait for."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from pipeline.execution.journal import Journal
from pipeline.model.config import GuardConfig
from pipeline.model.enums import OnLoss
from tests.worlds.execution_starts import half_filled, ready_world
from tests.worlds.execution_world import make_config
from tests.worlds.guard.answering import served
from tests.worlds.guard.life import born
from workers.control_plane.children import STOP_ORDER, STOP_TIMEOUT_S, Children
from workers.control_plane.close_before_stop import (
    END_S,
    EXECUTOR_S,
    EXECUTOR_SOCKET,
    LAST_LOOK_S,
    REASON,
    StopClosing,
    close_hedges,
    closings_s,
    finish_half_done,
    guard_bound_s,
    stop_bound_s,
    stop_notice,
)
from workers.control_plane.stopping import GROUP_S, KILLED_S, REPORT_S
from workers.control_socket import EXECUTOR_READY, GUARD_SOCKET, ControlError, listen
from workers.halt_file import read_halt


def left_half_done(folder: Path) -> None:
    """A leg without its partner in the journal, and no last word."""
    world = ready_world(2)
    half_filled(world)
    assert world.core.ledger.open_operations
    journal = Journal.open(folder / "journal", segment_bytes=4 * 1024 * 1024)
    for entry in world.entries:
        journal.boot_epoch = entry.boot_epoch
        journal.append(entry.record, entry.mono_ns, entry.wall_ns)
    journal.close()


@pytest.mark.parametrize(("guard_can_come", "left_s"), [(False, 1e6), (True, -1.0)], ids=["no guard", "no time"])
def test_what_nobody_ends_is_said_and_not_waited_for(tmp_path: Path, guard_can_come: bool, left_s: float) -> None:
    left_half_done(tmp_path)
    said = list[str]()
    asyncio.run(
        finish_half_done(
            tmp_path,
            make_config(),
            lambda level, text: said.append(f"{level}: {text}"),
            lambda: guard_can_come,
            time.monotonic() + left_s,
        )
    )
    (line,) = said
    assert line.startswith("error: not ended before the stop: 1 operations half done") and "next start" in line


def closed(folder: Path, come: Callable[[], bool] = lambda: True, left_s: float = 1e6) -> list[str]:
    """What the closing of hedges says."""
    said = list[str]()
    say: Callable[[str, str], None] = lambda level, text: said.append(f"{level}: {text}")  # noqa: E731
    asyncio.run(close_hedges(folder, make_config(), say, come, time.monotonic() + left_s))
    return said


async def not_ready(_request: dict[str, Any]) -> dict[str, Any]:
    return {"error": "the executor is not READY"}


def test_where_no_executor_is_ready_the_guard_closes_and_leaves_no_latch(instance: str, tmp_path: Path) -> None:
    _, page, guard = born(instance, tmp_path)

    async def ask(request: dict[str, Any]) -> dict[str, Any]:
        if request["op"] == "takeover":
            return {"taking_over": None, "left": {"h1": "no book"}}
        return guard.handle(request)

    with served(tmp_path, {EXECUTOR_SOCKET: not_ready, GUARD_SOCKET: ask}):
        assert closed(tmp_path) == ["warning: hedge h1 stays open: no book"]
    fence = read_halt(tmp_path).fence
    assert fence is not None and fence.planned and fence.hedges is None and REASON in fence.reason
    page.close()


def test_an_executor_that_is_ready_needs_no_guard_to_close(tmp_path: Path) -> None:
    children = Children(["binance"])  # whose guard is not alive
    said = list[str]()
    config = msgspec.structs.replace(make_config(), guard=GuardConfig(on_stop=OnLoss.FLATTEN))
    closing = StopClosing(config, children, tmp_path, lambda _level, text: said.append(text), lambda: None)
    asked = list[dict[str, Any]]()

    async def executor(request: dict[str, Any]) -> dict[str, Any]:
        asked.append(request)
        return {"hedges": []}

    with served(tmp_path, {EXECUTOR_SOCKET: executor}):
        asyncio.run(closing.before([children["executor"]], lambda: None))
    assert [request["op"] for request in asked] == ["flatten"] and not said


def test_hedges_that_nobody_can_close_are_said(tmp_path: Path) -> None:
    (line,) = closed(tmp_path, come=lambda: False)
    assert line.startswith("error: hedges are not closed before the stop") and "guard" in line


def test_an_executor_that_is_ready_by_the_time_the_guard_is_asked_is_asked_again(tmp_path: Path) -> None:
    asked = list[str]()

    async def executor(request: dict[str, Any]) -> dict[str, Any]:
        asked.append(request["op"])
        return {"error": "the executor is not READY"} if len(asked) == 1 else {"hedges": []}

    async def guard(_request: dict[str, Any]) -> dict[str, Any]:
        return {"error": EXECUTOR_READY}

    with served(tmp_path, {EXECUTOR_SOCKET: executor, GUARD_SOCKET: guard}):
        assert closed(tmp_path) == [] and asked == ["flatten", "flatten"]


def test_the_guard_closes_what_an_executor_that_dies_between_two_answers_has_left(tmp_path: Path) -> None:
    asked = list[str]()

    async def executor(request: dict[str, Any]) -> dict[str, Any]:
        asked.append(f"executor {request['op']}")
        if len(asked) > 1:
            return await not_ready(request)  # it has been started again
        return {"hedges": [{"hedge_id": "h1", "closed": False, "reason": "no depth"}]}

    async def guard(request: dict[str, Any]) -> dict[str, Any]:
        asked.append(f"guard {request['op']}")
        return {"taking_over": None, "left": {}}

    with served(tmp_path, {EXECUTOR_SOCKET: executor, GUARD_SOCKET: guard}):
        assert closed(tmp_path) == []
    assert asked == ["executor flatten", "executor flatten", "guard close"]


@pytest.mark.parametrize(("answer_s", "times"), [(20.0, 1), (10.0, 2)])
def test_an_executor_that_closes_in_part_is_asked_again_only_in_its_own_share_of_the_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, answer_s: float, times: int
) -> None:
    """What follows is the guard's: an order without an answer has to be proved before anything can be repaired."""
    config = msgspec.structs.replace(make_config(), guard=GuardConfig(on_stop=OnLoss.FLATTEN))
    said, now, begin_s = list[str](), [time.monotonic()], time.monotonic()
    closing = StopClosing(config, Children(["binance"]), tmp_path, lambda _, text: said.append(text), lambda: None)
    executor_child = Children(["binance"])["executor"]
    asked = list[str]()

    async def executor(request: dict[str, Any]) -> dict[str, Any]:
        asked.append(request["op"])
        now[0] += answer_s
        return {"hedges": [{"hedge_id": "h1", "closed": False, "reason": "an order is not proved"}]}

    monkeypatch.setattr("workers.control_plane.close_before_stop.time", SimpleNamespace(monotonic=lambda: now[0]))
    with served(tmp_path, {EXECUTOR_SOCKET: executor}):
        asyncio.run(closing.before([executor_child], lambda: None))
    assert asked == ["flatten"] * times and said == ["hedge h1 stays open: an order is not proved"]
    assert begin_s + closings_s(config) - now[0] >= guard_bound_s(config)


def test_nobody_is_asked_past_the_deadline_of_a_stop(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Not when it has passed, and for no longer than until then."""
    waited = dict[str, float]()

    def ask(path: Path, _request: dict[str, Any], *, timeout_s: float = 5.0) -> dict[str, Any]:
        waited[path.name] = timeout_s
        raise ControlError(f"{path.name}: found no answer")

    monkeypatch.setattr("workers.control_plane.close_before_stop.ask", ask)
    (line,) = closed(tmp_path, left_s=-1.0)
    assert line.startswith("error: hedges are not closed before the stop") and "no time is left" in line
    assert not waited
    assert closed(tmp_path, come=lambda: False, left_s=4.0) and len(waited) == 2
    assert all(0 < timeout_s <= 4.0 for timeout_s in waited.values())


@contextmanager
def trickling(folder: Path, names: list[str], ended: threading.Event) -> Iterator[None]:
    """Sockets whose answer comes byte by byte and never ends before ``ended``: no single read of one times out."""

    def serve(server: socket.socket) -> None:
        client, _ = server.accept()
        with client:
            while not ended.wait(0.01):
                client.sendall(b" ")

    servers = [listen(folder / name) for name in names]
    for server in servers:
        server.setblocking(True)
    threads = [threading.Thread(target=serve, args=(server,), daemon=True) for server in servers]
    for thread in threads:
        thread.start()
    try:
        yield
    finally:
        ended.set()
        for server in servers:
            server.close()


def test_an_answer_that_never_ends_is_not_waited_for_past_the_deadline(tmp_path: Path) -> None:
    """Each read of it has a time of its own; the question has one, too."""
    left_half_done(tmp_path)
    said, ended = list[str](), threading.Event()
    give_up = threading.Timer(20.0, ended.set)  # a stop that waits for ever fails here and does not hang
    give_up.start()
    say: Callable[[str, str], None] = lambda level, text: said.append(f"{level}: {text}")  # noqa: E731
    with trickling(tmp_path, [EXECUTOR_SOCKET, GUARD_SOCKET], ended):
        asyncio.run(close_hedges(tmp_path, make_config(), say, lambda: True, time.monotonic() + 0.2))
        assert not ended.is_set()
    with trickling(tmp_path, [GUARD_SOCKET], ended := threading.Event()):
        give_up.cancel()
        give_up = threading.Timer(20.0, ended.set)
        give_up.start()
        asyncio.run(finish_half_done(tmp_path, make_config(), say, lambda: True, time.monotonic() + 0.2))
        assert not ended.is_set()
    give_up.cancel()
    assert [line.split(":")[1].strip() for line in said] == [
        "hedges are not closed before the stop",
        "not ended before the stop",
    ]


def test_a_journal_that_is_not_read_in_time_is_said(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("workers.control_plane.close_before_stop.LAST_LOOK_S", 0.0)
    read = threading.Event()

    def slow(_state_dir: Path) -> str:
        read.wait(20.0)
        return ""

    monkeypatch.setattr("workers.control_plane.close_before_stop.half_done", slow)
    said = list[str]()
    asyncio.run(
        finish_half_done(
            tmp_path, make_config(), lambda _level, text: said.append(text), lambda: True, time.monotonic() - 1.0
        )
    )
    read.set()
    (line,) = said
    assert "not read in time" in line and "next start" in line


def test_where_nothing_is_open_nothing_is_said(tmp_path: Path) -> None:
    said = list[str]()
    asyncio.run(
        finish_half_done(
            tmp_path, make_config(), lambda level, text: said.append(text), lambda: True, time.monotonic() + 1e6
        )
    )
    assert said == []


def test_the_bound_of_a_stop_is_the_sum_of_what_it_waits_for() -> None:
    """Closings from the executor's turn on, and of each group the orderly end, the end by SIGKILL and its report."""
    config = make_config()
    closings_s = EXECUTOR_S + guard_bound_s(config) + LAST_LOOK_S
    groups_s = len(STOP_ORDER) * (STOP_TIMEOUT_S + KILLED_S + REPORT_S)
    assert stop_bound_s(config) > closings_s + groups_s + END_S
    slower = msgspec.structs.replace(
        config, execution=msgspec.structs.replace(config.execution, unknown_grace_ms=60_000)
    )
    assert stop_bound_s(slower) > stop_bound_s(config) + 45, "longer windows are longer proofs"


def test_systemd_is_told_the_bound_of_a_stop_at_its_beginning() -> None:
    config = make_config()
    stopping, extend = stop_notice(config).splitlines()
    assert stopping == "STOPPING=1" and extend == f"EXTEND_TIMEOUT_USEC={round(stop_bound_s(config) * 1e6)}"


def test_the_end_of_the_executors_group_takes_nothing_of_the_guards_time(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The bound of a stop counts that end apart: only what the first closing took is gone from the second."""
    children = Children(["binance"])
    children["guard"].want(0.0)
    said = list[str]()
    config = msgspec.structs.replace(make_config(), guard=GuardConfig(on_stop=OnLoss.FLATTEN))
    closing = StopClosing(config, children, tmp_path, lambda _level, text: said.append(text), lambda: None)
    now = [1000.0]
    deadlines = list[float]()

    async def closes(*arguments: Any) -> None:
        deadlines.append(arguments[-1])
        now[0] += 10.0

    monkeypatch.setattr("workers.control_plane.close_before_stop.time", SimpleNamespace(monotonic=lambda: now[0]))
    for name in ("close_hedges", "finish_half_done"):
        monkeypatch.setattr(f"workers.control_plane.close_before_stop.{name}", closes)

    async def stop() -> None:
        await closing.before([children["executor"]], lambda: None)
        now[0] += GROUP_S
        await closing.after([children["executor"]], lambda: None)

    asyncio.run(stop())
    first, second = deadlines
    assert first == 1000.0 + closings_s(config) and second == first + GROUP_S and not said
