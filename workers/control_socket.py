"""The control sockets of an instance: one JSON request a line, one JSON reply a line, over a UNIX stream socket.

Only the socket's owner and root are answered: the peer's user is read from the kernel (``SO_PEERCRED``), never from
the message, and handed to the handler as ``uid``. Supervisor, guard and executor each serve their own socket in the
state folder; a client uses :func:`ask`.

A path of more than 107 bytes does not fit a socket address, so both sides go through ``/proc/self/fd/<folder>``.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import traceback
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec

from pipeline.model.errors import ArbitrageEngineError, BadInput
from workers.output import plain_values
from workers.state_folder import instance_dir

if TYPE_CHECKING:
    import asyncio
    from asyncio.trsock import TransportSocket

SUPERVISOR_SOCKET = "supervisor.sock"
GUARD_SOCKET = "guard.sock"
MONITOR_SOCKET = "monitor.sock"
REQUEST_BYTES_MAX = 256 * 1024
EXECUTOR_READY = "the executor is READY: ask it"  # the guard's answer to a request that is the executor's
BAD_INPUT = "bad_input"  # ``kind`` of an error reply whose cause is the request itself
Handler = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]
Say = Callable[[str, str], object]  # (level, text): one line for the operator


class ControlError(ArbitrageEngineError):
    """No process answers at a control socket, or its answer is a refusal (:class:`Refused`)."""


class Refused(ControlError):
    """A process answers, and refuses: nobody else is asked to carry out the same in its place."""


def _open_folder(path: Path) -> int:
    return os.open(path.parent, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)


def listen(path: Path) -> socket.socket:
    """A listening, non-blocking socket at ``path`` (0600); replaces the file of a process that has ended.

    The caller must be the only process that serves ``path`` (the supervisor by the instance's lock, others as its
    children). Raises OSError.
    """
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


def peer_uid(connection: socket.socket | TransportSocket) -> int:
    """User id of the process at the other end, as the kernel knows it."""
    raw = connection.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, struct.calcsize("3i"))
    return int(struct.unpack("3i", raw)[1])


class ControlServer:
    """Serves ``handler`` at a path inside an asyncio loop. Whatever it raises becomes ``{"error": ...}``; what is no
    ArbitrageEngineError or OSError is a bug, and said by ``say`` as well."""

    def __init__(self, path: Path, handler: Handler, say: Say) -> None:
        self._path = path
        self._handler = handler
        self._say = say
        self._server: asyncio.AbstractServer | None = None

    async def start(self) -> None:
        """Listen and serve. Raises OSError."""
        import asyncio  # not at the top of the file: a command that halts must not wait for it

        self._server = await asyncio.start_unix_server(
            self._serve, sock=listen(self._path), limit=REQUEST_BYTES_MAX, start_serving=True
        )

    async def close(self) -> None:
        """Stop listening and remove the socket file."""
        if self._server is not None:
            self._server.close()
            self._server = None
        with contextlib.suppress(FileNotFoundError):
            self._path.unlink()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from asyncio import LimitOverrunError  # as above

        try:
            uid = peer_uid(writer.get_extra_info("socket"))
            if uid not in (0, os.geteuid()):
                text = f"refused: found user {uid}, wanted {os.geteuid()} or root; run the command as that user"
                writer.write(msgspec.json.encode({"error": text}) + b"\n")
                return
            while line := await reader.readline():
                writer.write(await self._answer(line, uid))
                await writer.drain()
        except (ConnectionError, ValueError, LimitOverrunError):
            return
        finally:
            writer.close()

    async def _answer(self, line: bytes, uid: int) -> bytes:
        """The reply's line. The outermost frame of a request: what a request breaks must not end a process that trades.
        A fault of the process itself, met on the way, ends it where it was met (``Performer.end_by``), whatever is
        answered here."""
        try:
            reply = await self._handler({**decoded(line), "uid": uid})
            return msgspec.json.encode(plain_values(reply)) + b"\n"
        except Exception as error:  # noqa: BLE001  see above
            return msgspec.json.encode(error_reply(error, line, self._say)) + b"\n"


def decoded(line: bytes) -> dict[str, Any]:
    """A request as it came. Raises BadInput."""
    try:
        return msgspec.json.decode(line, type=dict[str, Any])
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
        raise BadInput(f"found {line[:40]!r}, wanted one JSON object a line: {error}") from None


def error_reply(error: Exception, line: bytes, say: Say) -> dict[str, Any]:
    """What a request is answered that raised ``error``; a bug is said, with the line that met it."""
    if isinstance(error, BadInput):
        return {"error": str(error), "kind": BAD_INPUT}
    if isinstance(error, (ArbitrageEngineError, OSError)):  # a full disk, no descriptors: the answer, not the end
        return {"error": str(error)}
    frame = traceback.extract_tb(error.__traceback__)[-1]
    text = f"{type(error).__name__}: {error} ({Path(frame.filename).name}:{frame.lineno})"
    say("error", f"a request could not be answered: {text}; the request: {line[:200]!r}")
    return {"error": f"the request could not be answered: {text}"}


def ask(path: Path, request: dict[str, Any], *, timeout_s: float = 5.0) -> dict[str, Any]:
    """Send one request to the socket at ``<state folder>/<name>.sock`` and return its reply.

    Raises ControlError when no process listens and on a time-out, Refused for a refusal, BadInput for a request that is
    wrong.
    """
    if not path.parent.is_dir():
        raise ControlError(f"no instance at {path.parent}: start it with `arb up`, or name another with --instance")
    look = f"see `arb status --instance {path.parent.name}`"
    folder = -1
    try:
        folder = _open_folder(path)
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM | socket.SOCK_CLOEXEC) as client:
            client.settimeout(timeout_s)
            client.connect(f"/proc/self/fd/{folder}/{path.name}")
            client.sendall(msgspec.json.encode(request) + b"\n")
            with client.makefile("rb") as stream:
                line = stream.readline()
    except TimeoutError:
        raise ControlError(f"{path.name}: found no answer in {timeout_s} s, wanted one; {look}") from None
    except OSError as error:
        raise ControlError(
            f"{path.name}: no process answers ({error.strerror}); is the instance running? {look}"
        ) from None
    finally:
        if folder >= 0:
            os.close(folder)
    if not line:
        raise ControlError(f"{path.name}: found a closed connection, wanted an answer; {look}")
    reply = msgspec.json.decode(line, type=dict[str, Any])
    if reply.get("kind") == BAD_INPUT:
        raise BadInput(str(reply["error"]))
    if "error" in reply:
        raise Refused(str(reply["error"]))
    return reply


def ask_supervisor(instance: str, request: dict[str, Any], *, timeout_s: float = 5.0) -> dict[str, Any]:
    """One request to an instance's supervisor. Raises as :func:`ask`."""
    return ask(instance_dir(instance) / SUPERVISOR_SOCKET, request, timeout_s=timeout_s)
