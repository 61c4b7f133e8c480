"""``arb stop --flatten`` while a guard stands in for the executor: it is carried out, or names what comes next."""

from __future__ import annotations

import asyncio
import fcntl
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import msgspec
import pytest

from workers.cli import main as cli
from workers.cli.closing import EXECUTOR_SOCKET
from workers.control_plane.instances import write_run_file
from workers.control_plane.preflight import lock_instance
from workers.control_plane.requests import Requests
from workers.control_socket import EXECUTOR_READY, GUARD_SOCKET, SUPERVISOR_SOCKET, ControlServer, Handler
from workers.exit_codes import EXIT_COULD_NOT_START
from workers.halt_file import OPEN, Block, read_halt, write_halt
from workers.state_folder import instance_dir

CLOSED: dict[str, Any] = {"dry_run": False, "orders": [], "hedges": [], "open_hedges": [], "recoveries": []}


@contextmanager
def answered(instance: str, handlers: dict[str, Handler]) -> Iterator[int]:
    """A running instance whose sockets answer so; the descriptor of its lock."""
    instance_dir(instance, create=True)
    lock, loop = lock_instance(instance), asyncio.new_event_loop()
    servers = [ControlServer(instance_dir(instance) / name, handler, print) for name, handler in handlers.items()]
    for server in servers:
        loop.run_until_complete(server.start())
    thread = threading.Thread(target=loop.run_forever)
    thread.start()
    try:
        yield lock
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()
        for server in servers:
            loop.run_until_complete(server.close())
        loop.close()
        os.close(lock)


async def taking_over(request: dict[str, Any]) -> dict[str, Any]:
    """A guard whose takeover ended between two questions: the executor is READY again."""
    return {} if request["op"] == "drain" else {"error": EXECUTOR_READY}


def test_an_executor_that_is_ready_by_the_time_the_guard_is_asked_is_asked_again(
    state_dir: Path, instance: str, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    async def executor(request: dict[str, Any]) -> dict[str, Any]:
        asked.append(request["op"])
        return {"error": "the executor is fenced"} if len(asked) == 1 else {**CLOSED, "flat": True}

    with answered(instance, {EXECUTOR_SOCKET: executor, GUARD_SOCKET: taking_over}):
        assert cli.main(["flatten", "--instance", instance, "--json"]) == 0
    assert msgspec.json.decode(capsys.readouterr().out)["drained"] is True
    assert asked == ["flatten", "flatten"]


def test_a_stop_that_cannot_flatten_says_that_nothing_was_stopped_and_what_comes_next(
    state_dir: Path, instance: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def fenced(request: dict[str, Any]) -> dict[str, Any]:
        return {"error": "the executor is fenced"}

    with answered(instance, {EXECUTOR_SOCKET: fenced}):  # and no guard
        assert cli.main(["stop", "--flatten", "--instance", instance]) == EXIT_COULD_NOT_START
    said = capsys.readouterr().err
    assert "nothing was stopped" in said and "`arb stop --flatten` closes it and stops" in said
    assert "`arb stop` stops now" in said
    assert "no new risk is taken" not in said, "nobody has drained it"
    assert "new risk may still be taken" in said and "`arb halt --reason R`" in said


class UnderUnits:
    """A supervisor that has started nobody."""

    units = True

    def __init__(self, instance: str) -> None:
        self.instance = instance
        self.state_dir = instance_dir(instance)
        self.stops = 0

    def request_stop(self) -> None:
        self.stops += 1


@pytest.mark.parametrize("flags", [(), ("--flatten",)], ids=["stop", "flatten first"])
def test_a_stop_under_units_is_refused_with_the_command_that_stops_them_all(
    state_dir: Path, instance: str, capsys: pytest.CaptureFixture[str], flags: tuple[str, ...]
) -> None:
    """The supervisor's end would end nobody else: executor and guard would trade on under the word "stopped"."""
    asked: list[str] = []

    async def executor(request: dict[str, Any]) -> dict[str, Any]:
        asked.append(request["op"])
        return {**CLOSED, "flat": True}

    instance_dir(instance, create=True)
    supervisor = UnderUnits(instance)
    requests = Requests(supervisor)  # type: ignore[arg-type]
    sockets = {SUPERVISOR_SOCKET: requests.handle, EXECUTOR_SOCKET: executor, GUARD_SOCKET: taking_over}
    for units in (True, False):  # as the supervisor writes it, and before it has written it
        write_run_file(instance_dir(instance), {"pid": os.getpid(), "units": units})
        with answered(instance, sockets):
            assert cli.main(["stop", *(flags if units else ()), "--instance", instance]) != 0
        said = capsys.readouterr().err
        assert "nothing was stopped" in said and f"systemctl stop arb@{instance}.target" in said
    assert not supervisor.stops and not asked, "nothing was closed either"


def test_what_could_not_be_drained_is_never_said_to_take_no_risk(
    state_dir: Path, instance: str, capsys: pytest.CaptureFixture[str]
) -> None:
    async def executor(request: dict[str, Any]) -> dict[str, Any]:
        return {**CLOSED, "flat": True} if request["op"] == "flatten" else {"error": "the executor is fenced"}

    async def full(request: dict[str, Any]) -> dict[str, Any]:
        return {"error": "halt.json: no space left on the device"}

    async def drains(request: dict[str, Any]) -> dict[str, Any]:
        return {}

    with answered(instance, {EXECUTOR_SOCKET: executor, GUARD_SOCKET: full}):
        assert cli.main(["flatten", "--instance", instance]) == 0
    said = capsys.readouterr().out
    assert "new risk stays off" not in said and "no space left on the device" in said
    with answered(instance, {EXECUTOR_SOCKET: executor, GUARD_SOCKET: drains}):
        assert cli.main(["flatten", "--instance", instance]) == 0
    assert "new risk stays off until `arb resume --reason R`" in capsys.readouterr().out


@pytest.mark.parametrize("first", [(), ("--flatten",), ("--flatten", "--reason", "a new kernel")])
@pytest.mark.parametrize("then", [(), ("--flatten",)], ids=["stop", "flatten again"])
@pytest.mark.parametrize("others", [None, Block(reason="arb flatten", by="uid 7 (ann)", wall_ns=1)])
def test_a_stop_that_ends_leaves_no_drain_of_a_stop_and_every_other_one(
    state_dir: Path, instance: str, first: tuple[str, ...], then: tuple[str, ...], others: Block | None
) -> None:
    folder = instance_dir(instance, create=True)
    write_halt(folder, msgspec.structs.replace(OPEN, drain=others))
    fails, held = [bool(first)], [-1]

    async def executor(request: dict[str, Any]) -> dict[str, Any]:
        return {"error": "the executor is fenced"} if fails.pop() else {**CLOSED, "flat": True}

    async def guard(request: dict[str, Any]) -> dict[str, Any]:
        if request["op"] != "drain":
            return {"error": "no journal"}
        block = Block(reason=request["reason"], by="uid 0", wall_ns=2)
        write_halt(folder, msgspec.structs.replace(read_halt(folder), drain=block))
        return {}

    async def supervisor(request: dict[str, Any]) -> dict[str, Any]:
        fcntl.flock(held[0], fcntl.LOCK_UN)  # it has ended
        return {}

    with answered(instance, {EXECUTOR_SOCKET: executor, GUARD_SOCKET: guard, SUPERVISOR_SOCKET: supervisor}) as lock:
        held[0] = lock
        if first:
            assert cli.main(["stop", *first, "--instance", instance]) == EXIT_COULD_NOT_START
            assert read_halt(folder).drain is not None, "nothing was stopped, and no new risk is taken"
        fails[:] = [False]
        assert cli.main(["stop", *then, "--instance", instance]) == 0
    assert read_halt(folder).drain == others
