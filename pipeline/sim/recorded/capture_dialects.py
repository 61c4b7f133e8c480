"""Recorded frames over the wire: Binance (spot, USDⓈ-M) and Gate.io (spot, USDT futures), public endpoints only."""

from __future__ import annotations

from typing import Any

import msgspec
from aiohttp import web

from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.recorded.capture_frames import Frame
from pipeline.sim.recorded.capture_source import CaptureDialect
from pipeline.sim.wire.binance.public_wire import USDM, BinanceWire, filters, info_row
from pipeline.sim.wire.dialect import Host, SimSocket

_encode = msgspec.json.Encoder().encode
GATE_DEPTH_MAX = 1000


def _recorded_market(frame: Frame) -> str:
    return frame.venue.partition("_")[2]


class BinanceCaptureDialect(BinanceWire, CaptureDialect):
    """Binance from recordings. Instrument rows come from the ``instruments.json`` beside them."""

    def routes(self, app: web.Application) -> None:
        super().routes(app)
        for prefix in ("", USDM):
            app.router.add_get(f"{prefix}/fapi/v1/fundingInfo", self._no_adjustments)

    async def _no_adjustments(self, request: web.Request) -> web.Response:
        """Every contract has the usual funding interval: the list names those with another one."""
        return _reply([])

    def venue_of(self, market: str) -> str | None:
        return self.market_venues.get(market)

    def server_time_ms(self, market: str) -> int:
        return self.source.now_ms(self.market_venues[market])

    def exchange_info(self, market: str) -> dict[str, Any]:
        is_futures = market == "futures"
        rows = []
        for recording in self.source.of_venue(self.market_venues[market]):
            for row in recording.instruments:
                rules = filters(row["tick"], row["step"], row["min_qty"], row["min_notional"], is_futures=is_futures)
                rows.append(info_row(row["symbol"], row["base"], row["quote"], rules, is_futures=is_futures))
        return {"rateLimits": [], "symbols": rows}

    async def depth(self, market: str, symbol: str, limit: int) -> dict[str, Any] | None:
        return await self.source.snapshot(self.market_venues[market], symbol, limit)

    def push(self, frame: Frame) -> int:
        return self.publish(_recorded_market(frame), frame.symbol, frame.topic, frame.data)

    def has_subscriber(self, venue: str, symbol: str) -> bool:
        return self.listens(venue.rpartition("_")[2], symbol, "depth")


class GateioCaptureDialect(CaptureDialect):
    """Gate.io from recordings: subscribe, acknowledge, push the recorded texts unchanged."""

    def __init__(self, venues: dict[str, SimVenue], host: Host) -> None:
        super().__init__(venues, host)
        self._topics: dict[tuple[str, str], set[SimSocket]] = {}  # (channel, symbol) -> sockets

    def routes(self, app: web.Application) -> None:
        app.router.add_get("/ws/v4/", self._socket)
        app.router.add_get("/v4/ws/usdt", self._socket)
        add = app.router.add_get
        add("/api/v4/spot/time", self._time)
        add("/api/v4/spot/currency_pairs", self._rows)
        add("/api/v4/spot/currency_pairs/{symbol}", self._rows)
        add("/api/v4/spot/currencies", self._empty)
        add("/api/v4/spot/order_book", self._depth)
        add("/api/v4/futures/usdt/contracts", self._rows)
        add("/api/v4/futures/usdt/contracts/{symbol}", self._rows)
        add("/api/v4/futures/usdt/order_book", self._depth)

    def urls(self, host: str, port: int) -> dict[str, dict[str, str]]:
        paths = {"spot": "/ws/v4/", "futures": "/v4/ws/usdt"}
        return {
            name: {"rest": f"http://{host}:{port}/api/v4", "ws": f"ws://{host}:{port}{paths[market]}"}
            for market, name in self.market_venues.items()
        }

    def has_subscriber(self, venue: str, symbol: str) -> bool:
        channel = f"{venue.rpartition('_')[2]}.order_book_update"
        return bool(self._topics.get((channel, symbol)))

    def push(self, frame: Frame) -> int:
        listeners = self._topics.get((frame.topic, frame.symbol), ())
        text = frame.data.decode()
        for sock in listeners:
            sock.send(text)
        return len(listeners)

    def _venue(self, request: web.Request) -> str:
        is_futures = "/futures/" in request.path or request.path.endswith("/usdt")
        return self.market_venues.get("futures" if is_futures else "spot", "")

    async def _time(self, request: web.Request) -> web.Response:
        name = self.market_venues.get("spot") or self.market_venues["futures"]
        return _reply({"server_time": self.source.now_ms(name)})

    async def _empty(self, request: web.Request) -> web.Response:
        return _reply([])

    async def _rows(self, request: web.Request) -> web.Response:
        rows = [row for recording in self.source.of_venue(self._venue(request)) for row in recording.instruments]
        symbol = request.match_info.get("symbol")
        if symbol is None:
            return _reply(rows)
        for row in rows:
            if row.get("id", row.get("name")) == symbol:
                return _reply(row)
        return _reply({"label": "INVALID_CURRENCY_PAIR", "message": symbol}, 400)

    async def _depth(self, request: web.Request) -> web.Response:
        symbol = request.query.get("currency_pair") or request.query.get("contract") or ""
        text = request.query.get("limit", "10")
        limit = min(GATE_DEPTH_MAX, int(text)) if text.isdigit() else 10
        book = await self.source.snapshot(self._venue(request), symbol, limit)
        if book is None:
            return _reply({"label": "INVALID_CURRENCY_PAIR", "message": symbol}, 400)
        return _reply(book)

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        venue = self._venue(request)
        if not venue:
            return web.Response(status=404)
        sock = SimSocket(self, request, venue, "public")
        refused = await sock.open()
        if refused is not None:
            return refused
        try:
            async for message in sock:
                sock.send(self._control(sock, venue, message.data))
        finally:
            for listeners in self._topics.values():
                listeners.discard(sock)
        return sock.response

    def _control(self, sock: SimSocket, venue: str, data: str | bytes) -> str:
        try:
            row = msgspec.json.decode(data)
            channel, event = str(row["channel"]), str(row.get("event", ""))
        except (msgspec.DecodeError, KeyError, TypeError, AttributeError):
            return '{"error":{"code":1,"message":"malformed"},"result":null}'
        now_ms = self.source.now_ms(venue)
        answer: dict[str, Any] = {"time": now_ms // 1000, "time_ms": now_ms, "channel": channel, "event": event}
        if "id" in row:
            answer["id"] = row["id"]
        if channel.endswith(".ping"):
            return _encode({**answer, "channel": channel.replace("ping", "pong"), "result": None}).decode()
        payload = row.get("payload") or []
        known = {name for recording in self.source.of_venue(venue) for name in recording.symbols}
        symbols = [name for name in payload if name in known]
        if event not in ("subscribe", "unsubscribe") or not symbols:
            answer |= {"error": {"code": 2, "message": f"unknown currency pair: {payload[:1]}"}}
            return _encode({**answer, "result": {"status": "fail"}}).decode()
        for symbol in symbols:
            listeners = self._topics.setdefault((channel, symbol), set())
            if event == "subscribe":
                listeners.add(sock)
            else:
                listeners.discard(sock)
        return _encode({**answer, "error": None, "result": {"status": "success"}}).decode()


def _reply(value: Any, status: int = 200) -> web.Response:
    return web.Response(body=_encode(value), status=status, content_type="application/json")


CAPTURE_DIALECTS: dict[str, type[CaptureDialect]] = {
    "binance": BinanceCaptureDialect,
    "gateio": GateioCaptureDialect,
}
