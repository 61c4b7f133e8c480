"""What is shown beside every breaker and hold, typed as it stands into the real command line, releases it."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
import shlex
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from pipeline.trade_state import Effect
from tests.worlds.execution_starts import ADOPTED, TRIPS, Operator, held_world, mended, ready_world
from tests.worlds.execution_world import Faults, World
from workers.cli.closing import EXECUTOR_SOCKET
from workers.cli.main import main
from workers.control_socket import SUPERVISOR_SOCKET, ControlServer
from workers.exit_codes import EXIT_USAGE

INSTANCE = "mine"
DECIDES = re.compile(
    r"arb (?:breakers --rearm \S+ --reason R|resume --adopt --reason R|recoveries --approve \S+|balance --release .+)"
)


@contextlib.contextmanager
def served(operator: Operator) -> Iterator[None]:
    """The executor's socket over the operator's world, in a thread of its own; the supervisor's passes an adoption on
    to it."""
    control = operator.control()

    async def supervisor(request: dict[str, Any]) -> dict[str, Any]:
        adopted = await control.handle({**request, "op": "adopt"})
        return {"halted": False, "reason": request["reason"], "blocking": [], **adopted}

    loop, ready = asyncio.new_event_loop(), threading.Event()
    servers = [
        ControlServer(operator.folder / name, handler, print)
        for name, handler in ((EXECUTOR_SOCKET, control.handle), (SUPERVISOR_SOCKET, supervisor))
    ]

    async def start() -> None:
        for server in servers:
            await server.start()
        ready.set()

    async def close() -> None:
        for server in servers:
            await server.close()

    def serve() -> None:
        loop.run_until_complete(start())
        loop.run_forever()
        loop.run_until_complete(close())
        loop.close()

    thread = threading.Thread(target=serve)
    thread.start()
    try:
        assert ready.wait(10)
        yield
    finally:
        loop.call_soon_threadsafe(loop.stop)
        thread.join()


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ARB_STATE_DIR", str(tmp_path))
    (tmp_path / INSTANCE).mkdir()
    return tmp_path / INSTANCE


def typed(command: str) -> list[str]:
    """Words of a shown command; its ``R`` is the operator's reason."""
    words = ["looked at it" if word == "R" else word for word in shlex.split(command)[1:]]
    return [*words, "--instance", INSTANCE]


def shown(capsys: pytest.CaptureFixture[str], *command: str) -> dict[str, Any]:
    main([*command, "--instance", INSTANCE, "--json"])
    found: dict[str, Any] = json.loads(capsys.readouterr().out)
    return found


@pytest.mark.parametrize(("trip", "name"), TRIPS, ids=[name for _, name in TRIPS])
def test_the_last_command_beside_a_breaker_rearms_it(
    trip: Callable[[], World], name: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    world = trip()
    operator = Operator(world, folder)
    with served(operator):
        (row,) = [row for row in shown(capsys, "breakers")["breakers"] if row["name"] == name]
        (reason,) = [one for one in operator.all_reasons() if one.what.startswith(f"breaker {name}: ")]
        assert row["solve"] == reason.solve and row["reason"] in reason.what
        command = DECIDES.findall(reason.solve)[-1]
        assert ("--adopt" in command) is (name in ADOPTED)
        world.faults = Faults()
        mended(world, name)
        assert main(typed(command)) in (0, 1)
    assert name not in world.core.ledger.breakers, capsys.readouterr()


def test_the_command_beside_a_held_recovery_lets_it_go_on(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = held_world()
    operator = Operator(world, folder)
    with served(operator):
        (row,) = shown(capsys, "recoveries")["recoveries"]
        (reason,) = [one for one in operator.all_reasons() if one.what.startswith("recovery ")]
        (command,) = DECIDES.findall(reason.solve)
        main(typed(command))
    assert not world.core.recovery.waiting() and row["recovery_id"] in command


def test_the_command_beside_what_is_set_aside_ends_it(folder: Path) -> None:
    world = ready_world()
    world.core.balances.set_aside("my script", "mexc_spot", "USDT", world.core.balances.usable("mexc_spot", "USDT"))
    operator = Operator(world, folder)
    (note,) = [one for one in operator.all_reasons() if one.effect is Effect.NOTE and "are kept" in one.what]
    with served(operator):
        (command,) = DECIDES.findall(note.solve)
        assert main(typed(command)) == 0
    assert not world.core.balances.set_asides


def test_a_command_without_its_reason_decides_nothing(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    world = held_world()
    with served(Operator(world, folder)):
        assert main(["breakers", "--rearm", "recovery_hold", "--instance", INSTANCE]) == EXIT_USAGE
    assert "--reason" in capsys.readouterr().err and "recovery_hold" in world.core.ledger.breakers
