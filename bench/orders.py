"""From an opportunity record to the bytes of both orders on their sockets: what does the executor's own part cost?

::

    record --> [ judge: gate and plan ] --> [ journal: ids, three records, order bytes ] --> [ send ]

Loopback sockets, the adapters of MEXC (signed HTTP/1.1) and Gate.io (WebSocket) as they are in production; behind the
sockets two sinks in the same loop that read and answer. ``ours``: the fast path (pipeline/fast_entry/entry.py).
``exact path``: the same record decoded, judged by the exact gate, journalled record by record, made into bytes by the
codecs and sent.
Both alternate within each round, on the same books and balances; what they ordered must be equal. ``cold``: 64 MiB
are read through before each entry, so that nothing of the path is left in a cache. ``rehearsed``: the same, then a
rehearsal as a spinning executor makes it (pipeline/rehearsal/fast_lane.py) and 1 ms. Excluded: the queue's pop, what is
done behind the sends, the venues. ``two writes``: the floor of every stage, as a floor belongs to a heat: as many ready
bytes into two sockets, nothing else, after the same preparations and in the same alternation. All of it once more over
TLS, beside ``two SSL_write`` of ready bytes.
"""

from __future__ import annotations

import asyncio
import gc
import hashlib
import os
import socket
import ssl
import tempfile
import time
from collections.abc import Callable
from contextlib import ExitStack
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import uvloop
from picows import WSFrame, WSListener, WSMsgType, WSTransport, ws_create_server

from bench.report import FLOOR, OURS, PEER, Report, Row
from bench.settings import BenchFailed, Settings
from bench.worlds.orders_tls import HOST, TwoSealedWrites, trusted_server
from pipeline.exchanges.gateio.order_session import GateTrading
from pipeline.exchanges.mexc.order_session import MexcTrading
from pipeline.exchanges.transport.throttle import Limit, Throttle
from pipeline.exchanges.transport.websocket import WsLink, open_ws
from pipeline.execution.crash_points import nothing
from pipeline.execution.events import Append, Place, Sent, Tick, request_of
from pipeline.execution.records import OrderIntentRecord
from pipeline.execution.shared_reads import decode_opportunity
from pipeline.model.clock import wall_ns
from pipeline.model.enums import FeeAssetRule, OrderState
from pipeline.model.structs import Credentials, Fill, OrderUpdate
from pipeline.rehearsal.entry_world import EntryWorld, engine_config
from pipeline.rehearsal.fast_lane import FastLane
from pipeline.rehearsal.instruments import spec
from pipeline.risk.last_look import LastLook
from pipeline.templates.template import OrderTerms, Pieces
from shm.words import Words
from workers.executor.fast_sender import FastSender
from workers.executor.loopback import Loopback

NAME = "orders"
STAGES = ("judge", "journal", "send", "whole")
HEATS = ("warm", "cold", "rehearsed")
REHEARSED_BEFORE_NS = 1_000_000
WRITES, SEALED_WRITES = "two writes", "two SSL_write"
TLS = ", TLS"
KEY = Credentials(api_key="key", api_secret="secret")
TRASH_WORDS = 8 << 20
REPLY = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"
PAUSE_NS = 2_000_000_000  # between entries, in the world's time: longer than every limit that counts by the second
ANSWER_ROUNDS_MAX = 10_000


class _HttpSink(asyncio.Protocol):
    """Answers every request at once, and keeps it."""

    def __init__(self, seen: list[bytes]) -> None:
        self._seen = seen

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport: Any = transport

    def data_received(self, data: bytes) -> None:
        self._seen.append(data)
        self._transport.write(REPLY)


class _WsSink(WSListener):
    def __init__(self, seen: list[bytes]) -> None:
        self._seen = seen

    def on_ws_frame(self, transport: WSTransport, frame: WSFrame) -> None:
        if frame.msg_type == WSMsgType.TEXT:
            self._seen.append(frame.get_payload_as_bytes())


class Lane:
    """A world with two venues behind loopback sockets, and both ways of an entry."""

    def __init__(self, folder: Path, tls: ssl.SSLContext | None = None) -> None:
        """``tls``: of the sinks."""
        self._folder, self._tls = folder, tls
        self.seen: list[bytes] = []
        self._began_ns = 0
        self._ended: list[Any] = []
        self._servers: list[asyncio.base_events.Server] = []

    async def open(self) -> None:
        loop = asyncio.get_running_loop()
        http = await loop.create_server(lambda: _HttpSink(self.seen), HOST, 0, ssl=self._tls)
        ws = await ws_create_server(lambda _request: _WsSink(self.seen), HOST, 0, ssl=self._tls)
        s = "s" if self._tls else ""
        self._servers = [http, ws]
        ports = [server.sockets[0].getsockname()[1] for server in self._servers]
        # a host that stands still for a second ends no bench
        config = engine_config(
            execution={"balance_refresh_interval_ms": 10_000, "entry_window_ms": 5000},
            detection={"max_age_to_trade_ms": 5000},
        )
        venues = {venue.name: venue for venue in config.venues}
        self.mexc = MexcTrading(
            msgspec.structs.replace(venues["mexc_spot"], rest=f"http{s}://{HOST}:{ports[0]}"), KEY, self._ended.append
        )
        self.gate = GateTrading(venues["gateio_spot"], KEY, self._ended.append)
        for trading in (self.mexc, self.gate):  # a bench sends faster than any venue allows
            trading._throttle = Throttle({"order": Limit(1e9, 1.0)})
        await self.mexc._pool.start()  # order entry alone: no private streams, no questions here
        self._link: WsLink = await open_ws(
            f"ws{s}://{HOST}:{ports[1]}",
            venue="gateio_spot",
            on_frame=lambda *_: None,
            on_close=lambda _: None,
            own_tls=True,
            ping_idle_s=3600.0,  # what came and was not read sends an entry the other way
        )
        self.gate.entry._link = self._link
        self.trading: dict[str, MexcTrading | GateTrading] = {"mexc_spot": self.mexc, "gateio_spot": self.gate}
        specs = [spec(venue.name, taker_fee_ppm=0, fee_rule=FeeAssetRule.QUOTE) for venue in config.venues]
        self.world = EntryWorld(self._folder, config=config, specs=specs, template_of=self._template)
        self._sender = FastSender(
            self.world.journal,
            self.trading,
            LastLook(self.world.core.context, self.world, {venue.name: venue.venue_id for venue in config.venues}),
            note_sent=lambda *_: None,
            crash=nothing,
            clock=self._now_ns,
        )
        self.world.feed(Tick())  # what runs in turn has run once: directions have their prices

    def _template(self, venue: str, terms: OrderTerms) -> Pieces | None:
        trading = self.trading.get(venue)
        return trading.template(terms) if trading is not None else None

    async def close(self) -> None:
        self.gate.entry._link = None
        self._link.disconnect("done")
        self.gate.end_all_unknown("done")
        await self.mexc.close()
        await self.gate.client.close()
        for server in self._servers:
            server.close()
        self.world.close()

    # --- one entry ---

    def prepare(self, number: int) -> Words:
        """Fresh books and balances; the record of an opportunity. Prices and depth move with ``number``."""
        world = self.world
        world.now_ns += PAUSE_NS
        world.wall_offset_ns = wall_ns() - world.now_ns  # the adapters read the real one
        world.fund_all()
        step = Decimal(number % 17) / 100
        world.publish(
            0, [(99 - step, Decimal(5))], [(Decimal("99.10") + step, Decimal("0.3")), (Decimal("99.30"), Decimal(4))]
        )
        world.publish(
            1, [(100 + step, Decimal("0.4")), (Decimal("99.9"), Decimal(4))], [(Decimal("100.3"), Decimal(5))]
        )
        qty = Decimal("0.5") + Decimal(number % 7) / 100
        return world.record([(0, 1, qty, Decimal("99.50")), (1, -1, qty, Decimal("99.60"))])

    def ours(self, record: Words) -> list[int]:
        """The stamps of the fast path, as the executor's performer goes it; the last one is the second send's."""
        world, fast_entry, clock = self.world, self.world.fast_entry, time.monotonic_ns
        now = world.now()
        self._began_ns = began = clock()
        if not fast_entry.offer(record, world.halt, now):
            raise BenchFailed(f"orders: the fast path says no: {fast_entry.last_no}")
        judged = clock()
        sending = self._sender.send(fast_entry, world.halt, now, world.config.execution.entry_window_ms)
        behind = clock()
        entered = fast_entry.entered(world.journal)
        world.feed(entered)
        self._end(list(entered.intents))
        if sending.kept_back is not None:
            raise BenchFailed(f"orders: not sent: {sending.kept_back}")
        written, sent = (stamp - now.mono_ns + began for stamp in (sending.written_mono_ns, sending.last_mono_ns))
        if not judged <= written <= sent <= behind:
            raise BenchFailed(f"orders: stamps out of order: {[judged, written, sent, behind]}")
        return [judged - began, written - judged, sent - written, sent - began]

    def _now_ns(self) -> int:
        """The world's time, which goes on while an entry is made."""
        return self.world.now_ns + time.monotonic_ns() - self._began_ns

    def exact(self, record: Words) -> list[int]:
        """The stamps of the exact path."""
        world, clock = self.world, time.monotonic_ns
        now = world.now()
        began = clock()
        opportunity = decode_opportunity(record, now.mono_ns)
        actions = world.core.handle(opportunity, now)
        judged = clock()
        places = [action for action in actions if isinstance(action, Place)]
        left = len(places)
        behind = []
        for action in actions:
            if isinstance(action, Place):
                left -= 1
            elif isinstance(action, Append):
                if left:
                    world.journal.append(action.record, now.mono_ns, now.wall_ns)
                else:
                    behind.append(action)
        journalled = clock()
        sends = [self.trading[place.request.venue].prepare(place.request) for place in places]
        for send in sends:
            send()
        sent = clock()
        world.perform(list(behind))
        if len(places) != 2:
            raise BenchFailed(f"orders: the exact path says {world.core.refusals.last}")
        orders = world.core.ledger.orders
        self._end([orders[place.request.client_id].intent for place in places])
        return [judged - began, journalled - judged, sent - journalled, sent - began]

    def _end(self, intents: list[OrderIntentRecord]) -> None:
        """Both orders fill, so that nothing is open when the next opportunity comes."""
        world = self.world
        for intent in intents:
            world.now_ns += 1_000
            request = request_of(intent)
            world.feed(Sent(intent.client_id, world.now_ns))
            reported = {
                "venue": request.venue,
                "symbol": request.symbol,
                "client_id": request.client_id,
                "order_id": f"o{request.client_id}",
                "venue_wall_ms": world.now().wall_ms,
                "recv_mono_ns": world.now_ns,
                "source": "ws",
            }
            world.feed(
                Fill(
                    **reported,
                    trade_id=f"t{request.client_id}",
                    side=request.side,
                    qty=request.qty,
                    price=request.price,
                    fee=Decimal(0),
                    fee_asset="USDT",
                    is_maker=False,
                )
            )
            world.feed(
                OrderUpdate(**reported, state=OrderState.FILLED, filled_qty=request.qty, average_price=request.price)
            )

    async def answered(self) -> None:
        """Both sinks have read, and the HTTP connection is free again."""
        for _ in range(ANSWER_ROUNDS_MAX):
            if len(self.seen) >= 2 and self.mexc._pool.idle_count:
                break
            await asyncio.sleep(0)
        self.gate.end_all_unknown("bench")  # the sink answers no frame
        self._ended.clear()

    def ordered(self) -> bytes:
        """What the venues read in the last entry, without ids, times and signatures."""
        texts = sorted(self.seen, key=len)
        self.seen.clear()
        words = b" ".join(texts).replace(b"&", b" ").replace(b",", b" ").split()
        kept = (b"symbol", b"side", b"type", b"quantity", b"price", b'"currency_pair', b'"side', b'"amount', b'"price')
        return b" ".join(word for word in words if word.startswith(kept))


async def measure(settings: Settings, rows: dict[tuple[str, str], Row], *, tls: bool = False) -> None:
    """Alternating entries of both ways, at every heat; ``tls``: over encrypted connections."""
    few = settings.pick(2, 60, 300)
    n = {"warm": settings.pick(3, 300, 2000), "cold": few, "rehearsed": few}
    heats = Heats(settings, sealed=tls)
    writes, floor, suffix = (TwoSealedWrites(), SEALED_WRITES, TLS) if tls else (TwoWrites(), WRITES, "")
    with ExitStack() as around:
        folder = Path(around.enter_context(tempfile.TemporaryDirectory(prefix="arb-bench-")))
        lane = Lane(folder, around.enter_context(trusted_server(folder)) if tls else None)
        await lane.open()
        ways: dict[str, Callable[[Words], list[int]]] = {OURS: lane.ours, "exact path": lane.exact}
        for number in range(settings.pick(1, 200, 200)):  # bytecode and branch predictors
            for way in ways.values():
                way(lane.prepare(number))
                await lane.answered()
                lane.seen.clear()
        gc.collect()
        gc.freeze()
        if not settings.gc_on:
            gc.disable()
        try:
            for _ in range(settings.rounds):
                for heat, count in n.items():
                    taken: dict[str, list[list[int]]] = {who: [] for who in ways}
                    digests = {who: hashlib.blake2b(digest_size=4) for who in ways}
                    for number in range(count):
                        for who, way in ways.items():
                            record = lane.prepare(number)
                            heats.reach(heat)
                            taken[who].append(way(record))
                            await lane.answered()
                            digests[who].update(lane.ordered())
                        lane.prepare(number)
                        heats.reach(heat)
                        taken.setdefault(floor, []).append([writes.once()] * len(STAGES))
                    digests[floor] = digests[OURS]
                    for who, stages in taken.items():
                        for stage, column in zip(STAGES, zip(*stages, strict=True), strict=True):
                            row = rows[who, f"{stage}, {heat}{suffix}"]
                            row.add_round(np.array(column, dtype=np.int64))
                            row.check(f"{count} {digests[who].hexdigest()}")
        finally:
            gc.enable()
            gc.unfreeze()
            writes.close()
            heats.close()
            await lane.close()


class Heats:
    """Brings this process's caches to a heat right before an entry."""

    def __init__(self, settings: Settings, *, sealed: bool) -> None:
        self._trash = np.arange(TRASH_WORDS if settings.size else 8, dtype=np.int64)
        loopback = Loopback(sealed=sealed)
        self._rehearsed = FastLane(loopback)
        self._rehearsed.warm_up()
        self.close = loopback.close

    def reach(self, heat: str) -> None:
        """Warm is what stands already."""
        if heat == "warm":
            return
        self._trash.sum()
        if heat == "rehearsed":
            self._rehearsed.once()
            until_ns = time.monotonic_ns() + REHEARSED_BEFORE_NS
            while time.monotonic_ns() < until_ns:
                pass


class TwoWrites:
    """Ready bytes of an order's size into two connected sockets, one after the other."""

    def __init__(self) -> None:
        self._pairs = [_connected() for _ in range(2)]
        self._first, self._second = (ours.fileno() for ours, _ in self._pairs)
        self._payload = bytes(400)

    def once(self) -> int:
        """ns of both writes."""
        write, clock, payload = os.write, time.monotonic_ns, self._payload
        start = clock()
        write(self._first, payload)
        write(self._second, payload)
        taken = clock() - start
        for _, theirs in self._pairs:
            theirs.recv(4096)
        return taken

    def close(self) -> None:
        for pair in self._pairs:
            for end in pair:
                end.close()


def _connected() -> tuple[socket.socket, socket.socket]:
    with socket.create_server(("127.0.0.1", 0)) as server:
        ours = socket.create_connection(server.getsockname())
        theirs, _ = server.accept()
    ours.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return ours, theirs


def run(settings: Settings, report: Report) -> None:
    """Every stage at every heat, the fast path beside the exact one."""
    rows = {
        (who, f"{stage}, {heat}{suffix}"): Row(NAME, f"{stage}, {heat}{suffix}", who, figure="p50", role=role)
        for suffix, floor in (("", WRITES), (TLS, SEALED_WRITES))
        for heat in HEATS
        for stage in STAGES
        for who, role in ((OURS, FLOOR), (floor, FLOOR), ("exact path", PEER))
    }
    loop = uvloop.new_event_loop()
    try:
        loop.run_until_complete(measure(settings, rows))
        loop.run_until_complete(measure(settings, rows, tls=True))
    finally:
        loop.close()
    report.rows += rows.values()
