"""The supervisor's end of its channel to the fork server (the messages: see ``fork_server``)."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable
from typing import Any

import msgspec

from workers.control_plane.fork_server import MESSAGE_BYTES_MAX

GONE = "gone"  # the event that this end adds: the fork server has ended, and its children with it


class ForkServerClient:
    """Sends requests, and calls ``on_event`` with every message from the event loop that is running at creation."""

    def __init__(self, channel: socket.socket, on_event: Callable[[dict[str, Any]], None]) -> None:
        self._channel = channel
        self._on_event = on_event
        channel.setblocking(False)
        asyncio.get_running_loop().add_reader(channel, self._receive)

    def send(self, **message: Any) -> None:
        """One request; dropped after :meth:`close`."""
        if self._channel.fileno() >= 0:
            self._channel.send(msgspec.json.encode(message))

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
        if raw:
            self._on_event(msgspec.json.decode(raw, type=dict[str, Any]))
        else:
            asyncio.get_running_loop().remove_reader(self._channel)
            self._on_event({"event": GONE})
