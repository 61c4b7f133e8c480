"""Control sockets: who may speak, what comes back, paths longer than a socket address."""

from __future__ import annotations

import asyncio
import os
import socket
from pathlib import Path
from typing import Any

import pytest

from pipeline.model.errors import BadInput
from tests.stress.support import fork
from workers.control_socket import ControlError, ControlServer, ask

OTHER = 65534  # a user that is not ours


async def echo(request: dict[str, Any]) -> dict[str, Any]:
    if request.get("op") == "refuse":
        raise BadInput("not today")
    return {"heard": request}


async def serving(path: Path, *requests: dict[str, Any]) -> list[Any]:
    server = ControlServer(path, echo, print)
    await server.start()
    answers: list[Any] = []
    try:
        for request in requests:
            try:
                answers.append(await asyncio.to_thread(ask, path, request))
            except (BadInput, ControlError) as error:
                answers.append(error)
    finally:
        await server.close()
    return answers


def test_requests_and_refusals_travel(tmp_path: Path) -> None:
    heard, refused = asyncio.run(serving(tmp_path / "a.sock", {"op": "x", "n": 1, "uid": 4711}, {"op": "refuse"}))
    assert heard == {"heard": {"op": "x", "n": 1, "uid": os.geteuid()}}, "the user is the kernel's, not the message's"
    assert isinstance(refused, BadInput) and str(refused) == "not today"
    assert not (tmp_path / "a.sock").exists()


def test_paths_beyond_a_socket_address_work(tmp_path: Path) -> None:
    folder = tmp_path / ("long" * 30)
    folder.mkdir()
    path = folder / "supervisor.sock"
    assert len(str(path)) > 108
    assert asyncio.run(serving(path, {"op": "x"})) == [{"heard": {"op": "x", "uid": os.geteuid()}}]


def test_socket_is_for_its_owner_only(tmp_path: Path) -> None:
    async def mode() -> int:
        server = ControlServer(tmp_path / "a.sock", echo, print)
        await server.start()
        try:
            return (tmp_path / "a.sock").stat().st_mode & 0o777
        finally:
            await server.close()

    assert asyncio.run(mode()) == 0o600


@pytest.mark.host
@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to act as two users")
@pytest.mark.parametrize("mode", [0o600, 0o666])
def test_another_user_is_not_answered(tmp_path: Path, mode: int) -> None:
    """Not by a socket that was opened to all, either: the kernel says who speaks."""
    folder = os.open(tmp_path, os.O_PATH)

    def speaks() -> None:
        os.setgroups([])
        os.setgid(OTHER)
        os.setuid(OTHER)
        with socket.socket(socket.AF_UNIX) as client:
            try:
                client.connect(f"/proc/self/fd/{folder}/a.sock")
                client.sendall(b'{"op": "x"}\n')
                answer = client.recv(1000)
            except PermissionError:
                answer = b""
        assert answer == b"" if mode == 0o600 else b"refused: found user" in answer and b"heard" not in answer

    async def body() -> None:
        server = ControlServer(tmp_path / "a.sock", echo, print)
        await server.start()
        try:
            (tmp_path / "a.sock").chmod(mode)
            tmp_path.chmod(0o755)
            assert await asyncio.to_thread(fork(speaks).wait) == 0
        finally:
            await server.close()

    asyncio.run(body())
    os.close(folder)


def test_garbage_gets_an_error_and_the_server_lives(tmp_path: Path) -> None:
    path = tmp_path / "a.sock"

    async def talk() -> tuple[bytes, Any]:
        server = ControlServer(path, echo, print)
        await server.start()
        try:

            def raw() -> bytes:
                with socket.socket(socket.AF_UNIX) as client:
                    folder = os.open(tmp_path, os.O_PATH)
                    client.connect(f"/proc/self/fd/{folder}/a.sock")
                    os.close(folder)
                    client.sendall(b"[1, 2]\n")
                    return client.recv(1000)

            first = await asyncio.to_thread(raw)
            return first, await asyncio.to_thread(ask, path, {"op": "x"})
        finally:
            await server.close()

    first, second = asyncio.run(talk())
    assert b"error" in first
    assert second == {"heard": {"op": "x", "uid": os.geteuid()}}


def test_silence_is_explained(tmp_path: Path) -> None:
    with pytest.raises(ControlError, match="is the instance running"):
        ask(tmp_path / "none.sock", {"op": "x"})
    with pytest.raises(ControlError, match="arb up"):
        ask(tmp_path / "nowhere" / "none.sock", {"op": "x"})
