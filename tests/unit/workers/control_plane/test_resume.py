"""A resume at the supervisor: a refusal of the guard stays one, and the disk is written only where no guard answers."""

from __future__ import annotations

import asyncio
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from pipeline.model.config import EngineConfig
from tests.exhausted import full_disk
from tests.worlds.guard.answering import served
from tests.worlds.guard.life import Life
from tests.worlds.waiting import WAIT_S
from workers import halting
from workers.cli import main as cli
from workers.control_plane.preflight import lock_instance
from workers.control_plane.requests import Requests
from workers.control_socket import GUARD_SOCKET, SUPERVISOR_SOCKET, ControlError, Refused
from workers.exit_codes import EXIT_OK
from workers.halt_file import HaltState, latch_on_disk, read_halt
from workers.halt_page import latch_page
from workers.state_folder import instance_dir


@pytest.fixture
def folder(instance: str, state_dir: Path) -> Path:
    return instance_dir(instance, create=True)


@pytest.fixture
def life(instance: str, folder: Path) -> Iterator[Life]:
    made = Life(instance, folder)
    yield made
    made.close()


def requests(instance: str, folder: Path) -> Requests:
    answer = SimpleNamespace(reasons=())
    announcer = SimpleNamespace(answer=lambda fields: answer)
    running: Any = SimpleNamespace(instance=instance, state_dir=folder, config=EngineConfig(), children=())
    running.announcer, running.describe = announcer, dict
    return Requests(running)


def halted_meanwhile(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The next write of ``halt.json`` finds that somebody has halted since it was read."""
    real = os.fdatasync

    def slow(descriptor: int) -> None:
        monkeypatch.setattr(os, "fdatasync", real)
        newer = HaltState(halted=True, reason="nobody has looked at it", by="supervisor", wall_ns=1)
        (folder / "halt.json").write_bytes(msgspec.json.encode(newer))

    monkeypatch.setattr(os, "fdatasync", slow)


def test_a_halt_that_came_meanwhile_is_released_by_nobody_who_has_not_seen_it(
    life: Life, instance: str, folder: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    asked: list[str] = []

    async def guard(request: dict[str, Any]) -> dict[str, Any]:
        asked.append(request["op"])
        return life.guard.handle(request)

    life.ask(op="halt", reason="odd fills")
    supervisor, resume = requests(instance, folder), {"op": "resume", "reason": "looked at odd fills", "uid": 0}
    with served(folder, {GUARD_SOCKET: guard, SUPERVISOR_SOCKET: supervisor.handle}):
        halted_meanwhile(folder, monkeypatch)
        with pytest.raises(Refused, match="nobody has looked at it; ask again"):
            asyncio.run(supervisor.handle(resume))
        assert read_halt(folder).reason == "nobody has looked at it" and life.page.latched
        asked.clear()
        life.ask(op="halt", reason="odd fills")
        halted_meanwhile(folder, monkeypatch)
        lock = lock_instance(instance)
        assert cli.main(["resume", "--instance", instance, "--reason", "looked at odd fills"]) != EXIT_OK
        os.close(lock)
        assert "nobody has looked at it; ask again" in capsys.readouterr().err
        assert asked == ["resume"] and read_halt(folder).halted and life.page.latched, "and the guard is asked once"


def test_what_the_guards_disk_does_not_take_stays_halted_with_its_mark(life: Life, instance: str, folder: Path) -> None:
    async def guard(request: dict[str, Any]) -> dict[str, Any]:
        with full_disk():
            return life.guard.handle(request)

    life.ask(op="halt", reason="odd fills")
    latch_page(instance, "odd fills")
    resume = {"op": "resume", "reason": "looked", "uid": 0}
    with served(folder, {GUARD_SOCKET: guard}), pytest.raises(Refused, match="not carried out"):
        asyncio.run(requests(instance, folder).handle(resume))
    assert read_halt(folder).halted and life.page.latched and life.page.unsaved


def test_without_a_guard_the_disk_is_released_but_not_by_one_that_hangs_nor_later(
    life: Life, instance: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    latch_on_disk(folder, "odd fills", by="uid 7")
    latch_page(instance, "odd fills")
    resume, supervisor = {"op": "resume", "reason": "looked", "uid": 0}, requests(instance, folder)
    answers, real = threading.Event(), os.fdatasync

    def slow(descriptor: int) -> None:
        answers.wait(WAIT_S)
        real(descriptor)

    with monkeypatch.context() as patched:
        patched.setattr(halting, "RELEASE_S", 0.0)
        patched.setattr(os, "fdatasync", slow)
        with pytest.raises(ControlError, match="not released: the disk has not answered"):
            asyncio.run(supervisor.handle(resume))
        answers.set()
        for thread in threading.enumerate():
            if thread.name == "release-on-disk":
                thread.join(WAIT_S)
        assert read_halt(folder).halted and life.page.unsaved
    reply = asyncio.run(supervisor.handle(resume))
    assert not reply["halted"] and not read_halt(folder).halted and not life.page.unsaved
