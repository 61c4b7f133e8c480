"""The sender of approved entries between sessions of MEXC and Gate.io, over plain sockets of this host or by TLS."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import AsyncIterator, Callable, Coroutine
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import msgspec
import uvloop
from picows import WSFrame, WSListener, WSTransport, ws_create_server

from pipeline.exchanges.base import OrderLine
from pipeline.exchanges.gateio.order_session import GateTrading
from pipeline.exchanges.mexc.order_session import MexcTrading
from pipeline.exchanges.transport.websocket import open_ws
from pipeline.execution.crash_points import nothing
from pipeline.execution.records import OrderIntentRecord
from pipeline.model.structs import Credentials
from pipeline.rehearsal.entry_world import EntryWorld, engine_config
from pipeline.risk.last_look import LastLook
from tests.worlds.fast_entry_world import opened, ordinary
from tests.worlds.tls.certificates import certificates
from tests.worlds.waiting import until_async
from workers.executor.fast_sender import FastSender, Sending

KEY = Credentials(api_key="key", api_secret="secret")


class Http(asyncio.Protocol):
    """Answers nothing by itself: what it answers would end the order."""

    def __init__(self, rig: Rig) -> None:
        self._rig = rig

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._rig.venue_side.append(transport)

    def data_received(self, data: bytes) -> None:
        self._rig.http += data


class Ws(WSListener):
    def __init__(self, rig: Rig) -> None:
        self._rig = rig

    def on_ws_connected(self, transport: WSTransport) -> None:
        self._rig.venue_side.append(transport.underlying_transport)

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        self._rig.frames.append(frame.get_payload_as_bytes())


class Rig:
    """A world whose two spot venues are sessions over sockets; ``steps``: with a hook of crash points that does
    nothing, so that every step is called for itself."""

    def __init__(self, folder: Path, age_most_ms: int, *, tls: bool) -> None:
        self._folder, self._age_most_ms = folder, age_most_ms
        self._tls = certificates().server_context() if tls else None
        self._s = "s" if tls else ""
        self.http, self.frames = b"", list[bytes]()
        self.venue_side: list[Any] = []
        self.events: list[Any] = []
        self.passed: list[str] = []

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        self._servers = [
            await loop.create_server(lambda: Http(self), "127.0.0.1", 0, ssl=self._tls),
            await ws_create_server(lambda _request: Ws(self), "127.0.0.1", 0, ssl=self._tls, use_aiofastnet=False),
        ]
        ports = [server.sockets[0].getsockname()[1] for server in self._servers]
        config = engine_config(detection={"max_age_to_trade_ms": self._age_most_ms})
        venues = {venue.name: venue for venue in config.venues}
        mexc = msgspec.structs.replace(venues["mexc_spot"], rest=f"http{self._s}://127.0.0.1:{ports[0]}")
        self.mexc = MexcTrading(mexc, KEY, self.events.append)
        self.gate = GateTrading(venues["gateio_spot"], KEY, self.events.append)
        await self.mexc._pool.start()
        self.link = await open_ws(
            f"ws{self._s}://127.0.0.1:{ports[1]}",
            venue="gateio_spot",
            on_frame=lambda *_: None,
            on_close=lambda reason: self.gate.end_all_unknown(reason),
            own_tls=True,
        )
        self.gate.entry._link = self.link
        self.trading: dict[str, Any] = {"mexc_spot": self.mexc, "gateio_spot": self.gate}
        self.world = EntryWorld(
            self._folder,
            config=config,
            template_of=lambda venue, terms: self.trading[venue].template(terms) if venue in self.trading else None,
        )
        opened(self.world)

    async def close(self) -> None:
        self.gate.entry._link = None
        self.link.disconnect("done")
        self.gate.end_all_unknown("done")
        await self.mexc.close()
        await self.gate.client.close()
        for server in self._servers:
            server.close()
        self.world.close()

    def send(
        self, *, steps: bool = False, clock: Callable[[], int] | None = None, crash: Callable[[str], None] = nothing
    ) -> Sending:
        """``clock``: the world's, where it is None."""
        world = self.world
        assert world.fast_entry.offer(ordinary(world), world.halt, world.now()), world.fast_entry.last_no
        sender = FastSender(
            world.journal,
            self.trading,
            LastLook(world.core.context, world, {row.spec.venue: row.venue_id for row in world.rows}),
            note_sent=lambda *_: None,
            crash=self.passed.append if steps else crash,
            clock=clock or (lambda: world.now_ns),
        )
        return sender.send(world.fast_entry, world.halt, world.now(), world.config.execution.entry_window_ms)

    def ids(self) -> list[str]:
        return [record.client_id for record in self.world.journal.recent(3) if isinstance(record, OrderIntentRecord)]

    def quiet(self) -> bool:
        """Everything that comes with a new connection has been read: both sockets take bytes at once."""
        return self.mexc.direct_line() is not None and self.gate.direct_line() is not None

    async def until(self, what: Any) -> None:
        await until_async(what, "it came")


def in_loop(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Runs a test in uvloop, as the executor runs."""

    @functools.wraps(test)
    def run(**arguments: Any) -> None:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            runner.run(test(**arguments))

    return run


def found(session: MexcTrading | GateTrading) -> tuple[OrderLine, int]:
    line = session.direct_line()
    assert line is not None
    return line


@asynccontextmanager
async def opened_rig(folder: Path, *, age_most_ms: int = 60_000, tls: bool = False) -> AsyncIterator[Rig]:
    """``age_most_ms``: of books; on the real clock a host that stands still makes them older."""
    rig = Rig(folder, age_most_ms, tls=tls)
    await rig.open()
    await rig.until(rig.quiet)
    try:
        yield rig
    finally:
        await rig.close()
