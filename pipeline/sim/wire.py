"""The seam between a wire dialect and whatever carries its bytes.

A dialect (``dialect_mexc``, ``dialect_gateio``, ``dialect_binance``) turns requests and frames into calls of the
venue core and back; it opens no socket. The server that hosts it owns sockets, ports and the event loop::

    server  -- HttpRequest -->  dialect.http()     -- HttpReply -->  server
    server  -- upgrade ------>  dialect.connect(connection) -> WsSession | None (404)
    server  -- text frame --->  session.on_text()  -- connection.send_text/send_binary -->  server

``WsConnection.send_*`` never waits: the bytes are handed to the socket's buffer before it returns.
Market pushes are encoded once per channel and the same ``bytes`` object goes to every subscriber.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Protocol

import msgspec


class HttpRequest(msgspec.Struct, frozen=True, kw_only=True):
    """One request as it came: ``query`` is the raw text after ``?`` (signatures cover it unchanged)."""

    method: str
    path: str  # with the venue's prefix, e.g. /api/v3/order
    query: str
    headers: Mapping[str, str]  # keys lower case
    body: bytes
    remote: str  # peer address, for limits per IP


class HttpReply(msgspec.Struct, frozen=True, kw_only=True):
    """``drop``: the request was carried out, but the connection dies before an answer (an unknown outcome)."""

    status: int = 200
    body: bytes = b""
    headers: Mapping[str, str] = {}
    content_type: str = "application/json"
    drop: bool = False


class WsConnection(Protocol):
    """What the server gives a session to talk back with."""

    remote: str

    def send_text(self, payload: bytes) -> None: ...

    def send_binary(self, payload: bytes) -> None: ...

    def close(self, code: int = 1000, reason: str = "") -> None: ...


class WsSession(Protocol):
    """One open WebSocket of one client, seen from the venue's side."""

    def on_text(self, payload: bytes) -> None: ...

    def on_binary(self, payload: bytes) -> None: ...

    def on_close(self) -> None: ...


class Dialect(Protocol):
    """One exchange's wire formats over one or two venues (spot, futures)."""

    async def http(self, request: HttpRequest) -> HttpReply: ...

    def connect(self, path: str, query: str, headers: Mapping[str, str], connection: WsConnection) -> WsSession | None:
        """Accept an upgrade. None: no such path. Raises :class:`UpgradeRefused` for any other refusal."""
        ...


class UpgradeRefused(Exception):
    """The venue answers an upgrade with this HTTP status instead of 101."""

    def __init__(self, status: int, body: bytes = b"") -> None:
        super().__init__(f"upgrade refused: status={status}")
        self.status = status
        self.body = body
