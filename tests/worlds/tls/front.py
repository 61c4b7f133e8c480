"""TLS in front of plain servers of this host: what they answer comes encrypted."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from urllib.parse import urlsplit, urlunsplit

import msgspec

from pipeline.model.config import VenueConfig
from tests.worlds.tls.certificates import HOST, certificates

_SECURE = {"http": "https", "ws": "wss"}


class Front:
    """One port of TLS for each plain port that is asked for."""

    def __init__(self) -> None:
        self._servers: dict[int, asyncio.Server] = {}
        self._writers: set[asyncio.StreamWriter] = set()
        self.connections = 0

    async def url(self, plain: str) -> str:
        """The address in front of a plain one; "" is none."""
        if not plain:
            return ""
        parts = urlsplit(plain)
        assert parts.port is not None
        port = await self._port(parts.port)
        return urlunsplit(parts._replace(scheme=_SECURE[parts.scheme], netloc=f"{HOST}:{port}"))

    async def venue(self, plain: VenueConfig) -> VenueConfig:
        """A venue with TLS in front of all its addresses."""
        fields = {name: await self.url(getattr(plain, name)) for name in ("rest", "ws", "ws_private", "ws_api")}
        return msgspec.structs.replace(plain, **fields)

    async def _port(self, behind: int) -> int:
        if behind not in self._servers:

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                self.connections += 1
                inner_reader, inner_writer = await asyncio.open_connection(HOST, behind)
                self._writers |= {writer, inner_writer}
                await asyncio.gather(_pump(reader, inner_writer), _pump(inner_reader, writer))
                self._writers -= {writer, inner_writer}

            context = certificates().server_context()
            self._servers[behind] = await asyncio.start_server(serve, HOST, 0, ssl=context)
        return int(self._servers[behind].sockets[0].getsockname()[1])

    def close(self) -> None:
        for server in self._servers.values():
            server.close()
        self.cut()

    def cut(self) -> None:
        """Ends every connection."""
        for writer in list(self._writers):
            writer.transport.abort()


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(1 << 16):
            writer.write(data)
    writer.close()


@asynccontextmanager
async def front() -> AsyncIterator[Front]:
    made = Front()
    try:
        yield made
    finally:
        made.close()
