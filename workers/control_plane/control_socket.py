"""The control sockets of an instance: one JSON request a line, one JSON reply a line, over a UNIX stream socket.

Only the socket's owner (and root) may speak: the peer's user is read from the kernel (``SO_PEERCRED``), not believed
from the message. ``supervisor.sock`` belongs to the supervisor, ``guard.sock`` to the guard, ``executor.sock`` to the
executor; a process serves its own with :class:`ControlServer`, anybody asks with :func:`ask`.

A path of more than 107 bytes does not fit a socket address, so both sides go through ``/proc/self/fd/<folder>``.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import struct
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import msgspec

from pipeline.model.errors import ArbitrageEngineError, BadInput

REQUEST_BYTES_MAX = 256 * 1024
BAD_INPUT = "bad_input"  # what a refusal is marked with that the asker has to answer for
Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class ControlError(ArbitrageEngineError):
    """Nobody answers at a control socket, or the answer is a refusal."""


def _open_folder(path: Path) -> int:
    return os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def listen(path: Path) -> socket.socket:
    """A listening socket at ``path`` (0600), in place of a dead one. The caller holds the instance's lock."""
    folder = _open_folder(path)
    server = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC)
    try:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(path)
        server.bind(f"/proc/self/fd/{folder}/{path.name}")
        os.chmod(path, 0o600)
        server.listen(16)
        server.setblocking(False)
    finally:
        os.close(folder)
    return server


def peer_uid(connection: socket.socket) -> int:
    """User id of the process at the other end, as the kernel knows it."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", raw)[1])


class ControlServer:
    """Serves ``handler`` at a path inside an asyncio loop. Errors of the engine become ``{"error": ...}``."""

    def __init__(self, path: Path, handler: Handler) -> None:
        self._path = path
        self._handler = handler
        self._server: asyncio.AbstractServer | None = None

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(
            self._serve, sock=listen(self._path), limit=REQUEST_BYTES_MAX, start_serving=True
        )

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            raw = writer.get_extra_info("socket").getsockopt(
                socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i")
            )
            if struct.unpack("3i", raw)[1] not in (0, os.geteuid()):
                writer.write(msgspec.json.encode({"error": "refused: another user"}) + b"\n")
                return
            while line := await reader.readline():
                writer.write(msgspec.json.encode(await self._answer(line)) + b"\n")
                await writer.drain()
        except (ConnectionError, ValueError, asyncio.LimitOverrunError):
            return
        finally:
            writer.close()

    async def _answer(self, line: bytes) -> dict[str, Any]:
        try:
            request = msgspec.json.decode(line, type=dict[str, Any])
        except (msgspec.DecodeError, UnicodeDecodeError) as error:
            return {"error": f"not a JSON object: {error}"}
        try:
            return await self._handler(request)
        except BadInput as error:
            return {"error": str(error), "kind": BAD_INPUT}
        except ArbitrageEngineError as error:
            return {"error": str(error)}


def ask(path: Path, request: dict[str, Any], *, timeout_s: float = 5.0) -> dict[str, Any]:
    """One request, one reply.

    Raises ControlError when nobody listens, on a time-out, and for a refusal; BadInput where the request is at fault.
    """
    if not path.parent.is_dir():
        raise ControlError(f"no instance at {path.parent}: start it with `arb up`, or name another with --instance")
    folder = _open_folder(path)
    try:
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as client:
            client.settimeout(timeout_s)
            client.connect(f"/proc/self/fd/{folder}/{path.name}")
            client.sendall(msgspec.json.encode(request) + b"\n")
            with client.makefile("rb") as stream:
                line = stream.readline()
    except TimeoutError:
        raise ControlError(f"{path.name}: no answer in {timeout_s} s") from None
    except OSError as error:
        raise ControlError(f"{path.name}: nobody answers ({error.strerror}); is the instance running?") from None
    finally:
        os.close(folder)
    if not line:
        raise ControlError(f"{path.name}: closed without an answer")
    reply = msgspec.json.decode(line, type=dict[str, Any])
    if reply.get("kind") == BAD_INPUT:
        raise BadInput(str(reply["error"]))
    if "error" in reply:
        raise ControlError(str(reply["error"]))
    return reply
