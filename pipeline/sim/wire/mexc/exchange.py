"""MEXC spot as a whole: REST v3 and the protobuf WebSocket over one simulated venue.

One socket path ``/ws``: public channels for anybody, private ones after a connection with ``?listenKey=K``.
Rules of the socket: 30 topics, 100 messages a second in, closed after 30 s without a subscription or 60 s without
data, 24 h of life. Source: MEXC spot v3 "WebSocket Market Streams", "WebSocket User Data Streams".
"""

from __future__ import annotations

from typing import Any, ClassVar

import msgspec
from aiohttp import web

from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.exchange.events import AccountEvent, MarketEvent, MarketTrade
from pipeline.sim.exchange.latency import NS_PER_S
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.dialect import Dialect, Host, SimSocket
from pipeline.sim.wire.mexc import formats
from pipeline.sim.wire.mexc import private_pushes as private
from pipeline.sim.wire.mexc import streams as stream
from pipeline.sim.wire.mexc.auth import MEXC_FUTURE_TOLERANCE_MS, MexcLimits
from pipeline.sim.wire.mexc.listen_keys import ListenKeys
from pipeline.sim.wire.mexc.rest import MexcRest
from pipeline.sim.wire.rate_limits import WindowLimiter

_NO_SUBSCRIPTION_NS = 30 * NS_PER_S
_NO_DATA_NS = 60 * NS_PER_S
_LIFE_NS = 24 * 3600 * NS_PER_S
_INVALID_KEY_TEXT = "Invalid listen key"


class MexcDialect(Dialect):
    """``venues`` holds exactly one venue: MEXC spot."""

    key_prefix = "mx0v"
    signed_ahead_ms_max = MEXC_FUTURE_TOLERANCE_MS
    orders_per_s: ClassVar[dict[str, int]] = {"spot": 5}

    def __init__(self, venues: dict[str, SimVenue], host: Host, limits: MexcLimits | None = None) -> None:
        super().__init__(venues, host)
        ((self.venue_name, self.venue),) = venues.items()
        self.limits = limits or MexcLimits()
        self.keys = ListenKeys(self.limits.listen_keys_max, self.limits.sockets_per_key_max)
        self.rest = MexcRest(self.venue, self.keys, self.limits)
        self.stream = stream.MexcStream(self.venue)

    def routes(self, app: web.Application) -> None:
        app.router.add_get("/ws", self._socket)
        app.router.add_route("*", "/api/{tail:.*}", self.rest.serve)

    def urls(self, host: str, port: int) -> dict[str, dict[str, str]]:
        socket = f"ws://{host}:{port}/ws"
        return {self.venue_name: {"rest": f"http://{host}:{port}/api/v3", "ws": socket, "ws_private": socket}}

    def classify(self, method: str, path: str, query: dict[str, str]) -> tuple[str, str, str] | None:
        route = self.rest.routes.get((method, path))
        if route is not None:
            return self.venue_name, route.operation, query.get("symbol") or "*"
        return (self.venue_name, "other", "*") if path.startswith("/api/") else None

    def order_id_text(self, order_id: int) -> str:
        return formats.order_id_text(order_id)

    def trade_id_text(self, trade_id: int) -> str:
        return formats.trade_id_text(trade_id)

    def on_start(self) -> None:
        self.venue.on_market(self._on_market)

    def _on_market(self, event: MarketEvent) -> None:
        if isinstance(event, MarketTrade):
            self.rest.on_trade(event)
        self.stream.on_market(event)

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        key = request.query.get("listenKey", "")
        sock = SimSocket(self, request, self.venue_name, "private" if key else "public")
        refused = await sock.open()
        if refused is not None:
            return refused
        session = MexcSession(self, sock, key)
        if not session.opened:
            sock.send(_INVALID_KEY_TEXT)
            self.venue.clock.call_later(NS_PER_S // 10, sock.kill)
        try:
            async for message in sock:
                if session.opened:
                    session.on_message(message.data)
        finally:
            session.end()
        return sock.response


class MexcSession:
    """One socket: its topics, its listen key, its limits."""

    def __init__(self, dialect: MexcDialect, sock: SimSocket, key: str) -> None:
        self._dialect = dialect
        self._venue = dialect.venue
        self._sock = sock
        self._key = key
        self._topics: list[str] = []
        self._limiter = WindowLimiter()
        self._remove_listener: Any = None
        self._seen_sent = 0
        self._account: SimAccount | None = None
        self.opened = True
        if key:
            self._account = dialect.keys.account_of(key, self._venue.now_ms())
            self.opened = self._account is not None and dialect.keys.socket_opened(key)
            if self.opened and self._account is not None:
                self._remove_listener = self._venue.on_account(self._account, self._on_account)
        clock = self._venue.clock
        clock.call_later(_NO_SUBSCRIPTION_NS, self._check_subscribed)
        clock.call_later(_NO_DATA_NS, self._check_flow)
        clock.call_later(_LIFE_NS, self._sock.kill)

    def end(self) -> None:
        self._dialect.stream.drop(self._sock)
        if self._remove_listener is not None:
            self._remove_listener()
            self._dialect.keys.socket_closed(self._key)
        self.opened = False

    def _check_subscribed(self) -> None:
        if not self._topics:
            self._sock.kill()

    def _check_flow(self) -> None:
        """Closed when nothing, not even a pong, went out for the whole span."""
        if self._sock.closed:
            return
        if self._sock.sent_count == self._seen_sent:
            self._sock.kill()
            return
        self._seen_sent = self._sock.sent_count
        self._venue.clock.call_later(_NO_DATA_NS, self._check_flow)

    def on_message(self, data: str | bytes) -> None:
        state = self._limiter.take(self._dialect.limits.ws_in, "in", "", self._venue.now_ms())
        if not state.allowed:
            self._sock.kill()
            return
        try:
            request = msgspec.json.decode(data, type=stream.ControlRequest)
        except msgspec.DecodeError:
            self._sock.send(stream.control("msg format is invalid"))
            return
        method = request.method.upper()
        if method == "PING":
            self._sock.send(stream.control("PONG", request.answer_id))
        elif method in ("SUBSCRIPTION", "UNSUBSCRIPTION"):
            names = [name for name in request.params if isinstance(name, str)]
            handle = self._subscribe if method == "SUBSCRIPTION" else self._unsubscribe
            self._sock.send(handle(names, request.answer_id))
        else:
            self._sock.send(stream.control("msg format is invalid", request.answer_id))

    def _subscribe(self, names: list[str], answer_id: int) -> str:
        accepted, refused = [], []
        for name in names:
            room = name in self._topics or len(self._topics) < self._dialect.limits.ws_topics_max
            known = self._account is not None if name in private.CHANNELS else None
            if room and (known if known is not None else self._dialect.stream.subscribe(name, self._sock)):
                accepted.append(name)
                if name not in self._topics:
                    self._topics.append(name)
            else:
                refused.append(name)
        return stream.ack(accepted, refused, answer_id)

    def _unsubscribe(self, names: list[str], answer_id: int) -> str:
        for name in names:
            if name in self._topics:
                self._topics.remove(name)
                self._dialect.stream.unsubscribe(name, self._sock)
        return stream.ack(names, [], answer_id)

    def _on_account(self, event: AccountEvent) -> None:
        """A key that has run out ends its socket, as a client that forgot to extend it sees it."""
        if self._dialect.keys.account_of(self._key, self._venue.now_ms()) is None:
            self._sock.kill()
            return
        encoded = private.encode(event)
        if encoded is not None and encoded[0] in self._topics:
            self._sock.send(encoded[1])


DIALECT = MexcDialect
