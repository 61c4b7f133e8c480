"""The base of a wire dialect, what it needs of its host, and the socket through which it pushes frames.

One exchange = one aiohttp application on one loopback socket that serves REST and WebSocket of all its venues. A
``Dialect`` mounts its paths on it and speaks the venue's wire format; everything that is the same on every venue
(request arrival in the ledger, network latency, faults, connection registry) is done by the server's middleware and
by ``SimSocket``, so that a dialect holds nothing but the format.
"""

from __future__ import annotations

import asyncio
import re
from collections import deque
from typing import Any, ClassVar, Protocol

from aiohttp import WSMessage, WSMsgType, web

from pipeline.sim.exchange.faults import FaultPlan, RequestFaults
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.exchange.venue_ledger import VenueLedger

_NUMBER = re.compile(r'"\d+\.\d+"')  # a price or quantity as text
QUEUE_MAX = 20_000  # frames a slow client may lag before its socket is closed, as venues do


class Host(Protocol):
    """What a dialect needs of the server that hosts it; ``SimExchangeServer`` is the only implementation."""

    @property
    def faults(self) -> FaultPlan:
        """The armed fault rules, asked by sockets for what they do to handshakes and frames."""

    @property
    def ledger(self) -> VenueLedger:
        """The venue ledger, which notes every handshake."""

    async def admit(
        self,
        venue: str,
        operation: str,
        *,
        symbol: str = "*",
        client_id: str = "",
        via: str = "ws_api",
        detail: dict[str, Any] | None = None,
    ) -> RequestFaults:
        """A request has arrived: writes its ledger row, applies faults and the network latency on the way in.

        REST requests pass here by the server's middleware; a dialect calls this itself for each call of a WebSocket
        API, obeys the result (``status``: refuse with it; ``drop_request``: close, execute nothing;
        ``drop_response``: execute, close; ``status_after``: execute, answer the error) and awaits ``release``.
        """

    async def release(self, venue: str, operation: str, faults: RequestFaults) -> None:
        """The reply leaves: applies the network latency on the way back and a fault's delay."""


class Dialect:
    """Base of every wire dialect.

    ``venues``: the venues of this exchange by name (``gateio_spot`` ...), which the dialect serves.
    ``host``: the server around it.
    A dialect is found by its folder: ``wire/<name>/exchange.py`` names its class ``DIALECT`` (see ``discovery``).
    """

    client_id_prefix = ""  # that this venue wants before a client's own order id
    key_prefix = ""  # of the API keys that an account gets
    trigger_keeps_fee = True  # a liquidation's trigger asks for the taker fee of closing, too
    splits_fee_deduction = False  # a deduction coin pays what is there, the plain asset the rest
    account_per_market = False  # one account's markets spend the same coins: each simulated one has its own, with keys
    signed_ahead_ms_max: int | None = None  # a request signed further ahead of the venue's clock is refused
    orders_per_s: ClassVar[dict[str, int]] = {}  # market -> orders of one account in a second; unlisted: 10

    def __init__(self, venues: dict[str, SimVenue], host: Host) -> None:
        self.venues = venues
        self.host = host
        self.sockets: set[SimSocket] = set()

    def routes(self, app: web.Application) -> None:
        """Adds the dialect's REST and WebSocket paths."""

    def urls(self, host: str, port: int) -> dict[str, dict[str, str]]:
        """venue name -> {"rest": ..., "ws": ..., optional "ws_private", "ws_api"}: what a configuration needs."""
        return {}

    def classify(self, method: str, path: str, query: dict[str, str]) -> tuple[str, str, str] | None:
        """(venue name, operation of ``faults.OPERATIONS``, symbol or "*") of a REST request.

        None for a path that is not this dialect's. Not called for WebSocket upgrades.
        """
        return None

    def error_response(self, venue: str, status: int, retry_after_s: float) -> web.Response:
        """The venue's body for an injected 5xx, 418 or 429."""
        headers = {"Retry-After": str(max(1, round(retry_after_s)))} if retry_after_s else {}
        return web.json_response({"code": status, "msg": "injected"}, status=status, headers=headers)

    def order_id_text(self, order_id: int) -> str:
        """An order id as this venue writes it; the ledger keeps it beside the number."""
        return str(order_id)

    def trade_id_text(self, trade_id: int) -> str:
        """A trade id as this venue writes it."""
        return str(trade_id)

    def on_start(self) -> None:
        """Called once when the market is about to run: subscribe to the venues here (``venue.on_market``)."""

    async def close(self) -> None:
        """Called at shutdown, after the sockets are closed."""


def gateway_page(status: int) -> web.Response:
    """What an edge (CDN, WAF) answers before the venue sees anything; source: public reports of its 403 pages."""
    text = (
        '<!DOCTYPE HTML PUBLIC "-//W3C//DTD HTML 4.01 Transitional//EN">\n'
        "<HTML><HEAD><TITLE>ERROR: The request could not be satisfied</TITLE></HEAD><BODY>\n"
        f"<H1>{status} ERROR</H1>\nRequest blocked. Try again later.\n</BODY></HTML>\n"
    )
    return web.Response(status=status, text=text, content_type="text/html")


class SimSocket:
    """A WebSocket of one client with one writer task: sends are synchronous and keep their order.

    Usage in a handler::

        sock = SimSocket(self, request, "gateio_spot", "public")
        if (refused := await sock.open()) is not None:
            return refused
        async for message in sock:          # aiohttp WSMessage, TEXT and BINARY only
            ...
        return sock.response

    ``scope`` is "public" or "private"; a socket that turns private (login, listenKey) sets ``sock.scope``.
    """

    def __init__(self, dialect: Dialect, request: web.Request, venue: str, scope: str) -> None:
        self.dialect = dialect
        self.request = request
        self.venue = venue
        self.scope = scope
        self.response = web.WebSocketResponse(autoping=True, max_msg_size=1 << 20, compress=False)
        self.sent_count = 0
        self.closed = False
        self._queue: deque[str | bytes] = deque()
        self._wake = asyncio.Event()
        self._writer: asyncio.Task[None] | None = None

    async def open(self) -> web.StreamResponse | None:
        """Accepts the handshake; a response instead of None means that a fault refused it: return that."""
        rule = self.dialect.host.faults.stream("refuse_connect", self.venue, self.scope)
        self.dialect.host.ledger.request(
            venue=self.venue, via="ws", operation="connect", detail={"path": self.request.path, "scope": self.scope}
        )
        if rule is not None:
            return web.Response(status=rule.status, text="refused")
        rule = self.dialect.host.faults.stream("gateway_page", self.venue, self.scope)
        if rule is not None:
            return gateway_page(rule.status)
        await self.response.prepare(self.request)
        self.dialect.sockets.add(self)
        self._writer = asyncio.create_task(self._write())
        return None

    def send(self, frame: str | bytes) -> None:
        """Queues a text (str) or binary (bytes) frame. Never blocks; a client that lags too far is cut off."""
        if self.closed:
            return
        if len(self._queue) >= QUEUE_MAX:
            self.kill()
            return
        if self.dialect.host.faults.rules:
            frame = self._damaged(frame)
        self._queue.append(frame)
        self._wake.set()

    def _damaged(self, frame: str | bytes) -> str | bytes:
        faults = self.dialect.host.faults
        if faults.stream("corrupt", self.venue, self.scope) is not None:
            return frame[: len(frame) * 2 // 3]
        if isinstance(frame, str) and _NUMBER.search(frame):
            rule = faults.stream("bad_number", self.venue, self.scope)
            if rule is not None:
                return _NUMBER.sub(f'"{rule.text}"', frame, count=1)
        return frame

    def kill(self) -> None:
        """Closes the TCP connection without a close frame, as a lost connection looks."""
        if self.closed:
            return
        self.closed = True
        self._wake.set()
        transport = self.request.transport
        if transport is not None:
            transport.abort()

    def __aiter__(self) -> SimSocket:
        return self

    async def __anext__(self) -> WSMessage:
        while True:
            message = await self.response.receive()
            if message.type in (WSMsgType.TEXT, WSMsgType.BINARY):
                return message
            if message.type in (WSMsgType.CLOSE, WSMsgType.CLOSED, WSMsgType.CLOSING, WSMsgType.ERROR):
                await self._finish()
                raise StopAsyncIteration

    async def close(self) -> None:
        """Orderly close with a close frame."""
        if not self.response.closed:
            await self.response.close()
        await self._finish()

    async def _finish(self) -> None:
        self.closed = True
        self.dialect.sockets.discard(self)
        self._wake.set()
        if self._writer is not None and self._writer is not asyncio.current_task():
            self._writer.cancel()

    async def _write(self) -> None:
        try:
            while not self.closed:
                if not self._queue:
                    self._wake.clear()
                    await self._wake.wait()
                    continue
                frame = self._queue.popleft()
                if isinstance(frame, str):
                    await self.response.send_str(frame)
                else:
                    await self.response.send_bytes(frame)
                self.sent_count += 1
        except (ConnectionError, RuntimeError):
            self.kill()
        finally:
            self.dialect.sockets.discard(self)
