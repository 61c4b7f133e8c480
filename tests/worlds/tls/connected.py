"""Connections of our own TLS to a :class:`Peer`, and protocols on them that keep what they hear."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from typing import Any

import uvloop

from pipeline.exchanges.transport.openssl import client_context
from pipeline.exchanges.transport.tls import TlsTransport, connect
from tests.worlds.tls.certificates import HOST, certificates
from tests.worlds.tls.peer import BUFFER_BYTES, Peer
from tests.worlds.waiting import until_async as until


class Above(asyncio.Protocol):
    """Keeps what it hears."""

    def __init__(self) -> None:
        self.data = b""
        self.heard: list[str] = []
        self.error: Exception | None = None
        self.on_data: Callable[[], None] = lambda: None

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        assert isinstance(transport, TlsTransport)
        self.transport = transport
        self.heard.append("made")

    def data_received(self, data: bytes) -> None:
        self.data += data
        self.on_data()

    def eof_received(self) -> bool:
        self.heard.append("eof")
        return False

    def connection_lost(self, exc: Exception | None) -> None:
        self.error = exc
        self.heard.append("lost")

    def pause_writing(self) -> None:
        self.heard.append("paused")

    def resume_writing(self) -> None:
        self.heard.append("resumed")

    async def lost(self) -> None:
        await until(lambda: "lost" in self.heard, "the end")


class Buffered(asyncio.BufferedProtocol):
    """The same, into a buffer of its own that is smaller than a record."""

    def __init__(self) -> None:
        self._room = bytearray(1000)
        self.data = b""

    def get_buffer(self, sizehint: int) -> memoryview:
        return memoryview(self._room)

    def buffer_updated(self, nbytes: int) -> None:
        self.data += self._room[:nbytes]


def in_loops(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs a test in uvloop, as the executor runs, and in asyncio's own loop."""

    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        for loop in (uvloop.new_event_loop, asyncio.new_event_loop):
            with asyncio.Runner(loop_factory=loop) as runner:
                runner.run(test(**arguments))

    return run


def made_small(transport: TlsTransport) -> None:
    """Its socket takes little at once."""
    transport.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, BUFFER_BYTES)


async def opened(port: int, factory: Callable[[], Any] = Above, host: str = HOST) -> tuple[TlsTransport, Any]:
    context = client_context()
    assert context is not None
    return await connect(asyncio.get_running_loop().create_connection, factory, host, port, context)


@asynccontextmanager
async def peered(factory: Callable[[], Any] = Above, **how: Any) -> AsyncIterator[tuple[Peer, TlsTransport, Any]]:
    """A connection that stands, its session tickets read."""
    with Peer(certificates(), **how) as peer:
        running = asyncio.create_task(peer.runs())
        try:
            transport, above = await opened(peer.port, factory)
        finally:
            running.cancel()
            await asyncio.gather(running, return_exceptions=True)
        await peer.until(lambda: peer.is_secure, "the end of the handshake")
        peer.say(b"hello")
        await until(lambda: above.data == b"hello", "a word of the peer")
        above.data = b""
        try:
            yield peer, transport, above
        finally:
            transport.abort()
            for _ in range(3):
                await asyncio.sleep(0)
