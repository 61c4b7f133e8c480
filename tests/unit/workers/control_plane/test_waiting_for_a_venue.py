"""An instance that has traded waits for its first venue: meanwhile it answers, beats, and ends when it is to."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.model.config_load import config_from_mapping
from pipeline.model.errors import BadInput
from shm.liveness import LivenessView
from tests.worlds.waiting import until_async
from workers.control_plane.instances import run_file
from workers.control_plane.launch import waits_for_venue
from workers.control_plane.supervisor import Supervisor
from workers.control_socket import ControlError, ask_supervisor
from workers.exit_codes import EXIT_COULD_NOT_START, EXIT_OK
from workers.state_folder import instance_dir

VENUE = {"rest": "http://127.0.0.1:1", "ws": "ws://127.0.0.1:1", "symbols": ["BTC_USDT"]}
CONFIG = {"mode": "paper", "exchanges": {"gateio": {"dialect": "gateio", "markets": {"spot": VENUE}}}}


@pytest.fixture
def own_signals() -> Iterator[None]:
    """An instance that has ended ignores stops; this process does not."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGHUP, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


def ended(
    instance: str, meanwhile: Callable[[socket.socket], Awaitable[None]], *, stop: bool = False
) -> tuple[int, str | None]:
    """Exit code and error of an instance without any venue; ``meanwhile`` gets the fork server's end of its channel."""
    (instance_dir(instance, create=True) / "journal").mkdir(exist_ok=True)
    (instance_dir(instance) / "journal" / "journal-00000001.seg").touch()
    said = list[dict[str, Any]]()
    ours, others = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)

    async def body() -> tuple[int, str | None]:
        config = config_from_mapping({"engine_name": instance, **CONFIG})
        supervisor = Supervisor(
            instance=instance,
            config=config,
            config_path=None,
            fork_server=(0, ours),
            units=False,
            on_event=said.append,
        )
        running = asyncio.create_task(supervisor.run())
        try:
            await until_async(lambda: any("unreachable" in event["text"] for event in said), "no venue answers")
            await meanwhile(others)
            if stop:
                supervisor.request_stop()
            return await asyncio.wait_for(asyncio.shield(running), 30.0), supervisor.ended["error"]
        finally:
            supervisor.request_stop()
            await running

    with others:
        return asyncio.run(body())


def asked(instance: str, **request: Any) -> Awaitable[dict[str, Any]]:
    return asyncio.to_thread(ask_supervisor, instance, request)


def test_it_is_stopped_by_the_command(instance: str, state_dir: Path, own_signals: None) -> None:
    async def stops(_fork_server: socket.socket) -> None:
        assert (await asked(instance, op="stop"))["stopping"]

    assert ended(instance, stops) == (EXIT_OK, None)


def test_every_request_has_an_answer_before_there_is_a_row(instance: str, state_dir: Path, own_signals: None) -> None:
    async def asks(_fork_server: socket.socket) -> None:
        status = await asked(instance, op="status")
        assert status["state"] == "starting" and not status["processes"]["guard"]["pid"]
        assert not status["venues"]["gateio_spot"]["reachable"] and waits_for_venue(run_file(instance))
        assert (await asked(instance, op="symbols"))["instruments"] == []
        with pytest.raises(BadInput, match="not in the catalogue"):
            await asked(instance, op="symbols", action="remove", venue="gateio_spot", symbol="BTC_USDT")
        with pytest.raises(ControlError, match=r"127\.0\.0\.1"):
            await asked(instance, op="symbols", action="add", venue="gateio_spot", symbol="ETH_USDT")
        assert (await asked(instance, op="detection"))["enabled"]
        assert (await asked(instance, op="halt", reason="no venue"))["halted"]
        assert not (await asked(instance, op="resume", reason="go on"))["halted"]
        for op in ("drain", "operations", "execute"):
            with pytest.raises(ControlError, match="no process answers"):
                await asked(instance, op=op, reason="x")
        await asked(instance, op="stop")

    assert ended(instance, asks) == (EXIT_OK, None)


def test_it_beats(instance: str, state_dir: Path, own_signals: None) -> None:
    async def looks(_fork_server: socket.socket) -> None:
        view = LivenessView.attach(instance, "supervisor")
        beats = view.progress
        await until_async(lambda: view.progress > beats, "a beat", 20.0)

    assert ended(instance, looks, stop=True) == (EXIT_OK, None)


def test_it_ends_with_its_fork_server(instance: str, state_dir: Path, own_signals: None) -> None:
    async def dies(fork_server: socket.socket) -> None:
        fork_server.close()

    code, error = ended(instance, dies)
    assert code == EXIT_COULD_NOT_START and "fork server ended" in str(error)


class Readings:
    """A catalogue whose readings fail for the venues that are told, one reading after the other."""

    def __init__(self, *failed: list[str]) -> None:
        self._failed = list(failed)

    async def load(self, venues: object) -> list[Any]:
        return [SimpleNamespace(venue=venue) for venue in self._failed.pop(0)]


def test_a_venue_that_could_not_be_read_anew_is_shown_as_read_once_it_was(instance: str, state_dir: Path) -> None:
    ours, theirs = socket.socketpair()
    config = config_from_mapping({"engine_name": instance, **CONFIG})
    supervisor = Supervisor(instance=instance, config=config, config_path=None, fork_server=(0, ours), units=True)
    catalogue: Any = Readings(["gateio_spot"], [])
    supervisor.catalogue = catalogue
    try:
        for wanted in (False, True):
            supervisor._run_file_due = False
            asyncio.run(supervisor._refresh(["gateio_spot"]))
            assert supervisor._run_file_due, "who reads the instance's file hears of it"
            supervisor.write_run_file()
            assert run_file(instance)["venues"]["gateio_spot"]["reachable"] is wanted
    finally:
        supervisor.announcer.close()
        for end in (ours, theirs):
            end.close()
