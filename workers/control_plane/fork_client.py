"""The supervisor's end of its channel to the fork server (the messages: see ``fork_server``)."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec

from pipeline.execution.crash_points import VARIABLE, of_life
from workers.control_plane.children import Child
from workers.control_plane.fork_server import MESSAGE_BYTES_MAX

WATCHDOG_US = 10_000_000
PING_S = 1.0
LOOK_MAX_S = 1.0  # a look counts for no more, however late it comes
SILENT_MAX_S = 10.0
GONE = "gone"  # the event that this end adds: the fork server has ended, and its children with it


class ForkWatch:
    """Whether the fork server answers: without one nothing that dies is started again, and no death is reported.

    It is given every question, look and answer. Only time in which the supervisor itself ran counts.
    """

    def __init__(self) -> None:
        self._silent_s = 0.0
        self._looked_s = 0.0
        self._asked_s = 0.0

    def due(self, now_s: float) -> bool:
        """Whether the next question is due; it counts as asked then. Times are monotonic seconds."""
        if now_s - self._asked_s < PING_S:
            return False
        self._asked_s = now_s
        return True

    def answered(self) -> None:
        """An answer, or any other message of it."""
        self._silent_s = 0.0

    def hangs(self, now_s: float) -> bool:
        """Whether it has said nothing for ``SILENT_MAX_S``."""
        passed_s = now_s - self._looked_s if self._looked_s else 0.0
        self._looked_s = now_s
        self._silent_s += min(max(passed_s, 0.0), LOOK_MAX_S)
        return self._silent_s > SILENT_MAX_S


def spawn_request(child: Child, instance: str, state_dir: Path, notify_address: str) -> dict[str, Any]:
    """The request for one process. Of ``ARB_CRASH_AT`` it is given what acts in its life."""
    environment = {"NOTIFY_SOCKET": notify_address, "WATCHDOG_USEC": str(WATCHDOG_US)}
    crash_at = of_life(os.environ.get(VARIABLE, ""), child.restarts + 1)
    if crash_at:
        environment[VARIABLE] = crash_at
    return {
        "op": "spawn",
        "process": child.process,
        "exchange": child.exchange,
        "instance": instance,
        "restarts": child.restarts,
        "env": environment,
        "log": str(state_dir / "log" / f"{child.process}.log"),
    }


class ForkServerClient:
    """Sends requests, and calls ``on_event`` with every message from the event loop that is running at creation.

    ``pid``: the fork server, a child of this process.
    """

    def __init__(self, channel: socket.socket, pid: int, on_event: Callable[[dict[str, Any]], None]) -> None:
        self._channel = channel
        self._pid = pid
        self._watch = ForkWatch()
        self._on_event = on_event
        channel.setblocking(False)
        asyncio.get_running_loop().add_reader(channel, self._receive)

    def send(self, **message: Any) -> bool:
        """One request. False where it was dropped: after :meth:`close`, or the fork server hangs or has ended."""
        if self._channel.fileno() < 0:
            return False
        try:
            self._channel.send(msgspec.json.encode(message))
        except OSError:
            return False
        return True

    def ended_because_it_hangs(self, now_s: float) -> bool:
        """Asks whether it lives. One that hangs is killed, and the kernel ends its children (the executor in order)."""
        if self._watch.due(now_s):
            self.send(op="ping")
        if not self._watch.hangs(now_s):
            return False
        self._watch.answered()
        with contextlib.suppress(ProcessLookupError):
            os.kill(self._pid, signal.SIGKILL)
        return True

    def close(self) -> None:
        """Close the channel, on which the fork server ends. May be called twice."""
        if self._channel.fileno() >= 0:
            asyncio.get_running_loop().remove_reader(self._channel)
            self._channel.close()

    def _receive(self) -> None:
        try:
            raw = self._channel.recv(MESSAGE_BYTES_MAX)
        except BlockingIOError:
            return
        except OSError:
            raw = b""
        self._watch.answered()
        if raw:
            self._on_event(msgspec.json.decode(raw, type=dict[str, Any]))
        else:
            asyncio.get_running_loop().remove_reader(self._channel)
            self._on_event({"event": GONE})
