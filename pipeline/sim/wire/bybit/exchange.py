"""Bybit V5 over simulated venues: market endpoints, public streams, signed requests, private sockets.

A whole book (type ``snapshot``) answers each subscription of a book and comes before its acknowledgement; then each
push has the next ``u`` of its topic. ``u`` of the 50 levels, of the best prices and of REST count by themselves.

One account's markets spend the same coins; here each market has an account (and keys) of its own, as of a sub-account,
so that a key says which market a request without a category is about.

Sources: Bybit V5 documentation "Market", "WebSocket Public", "Rate Limit Rules", "Error Codes" (read 2026).
"""

from __future__ import annotations

from typing import Any, ClassVar

from aiohttp import web

from pipeline.model.enums import InstrumentKind
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.bybit.auth import AHEAD_MS
from pipeline.sim.wire.bybit.market import BybitError, BybitMarket, reply
from pipeline.sim.wire.bybit.private_side import PREFIXES, PrivateSide
from pipeline.sim.wire.bybit.private_sockets import PrivateStream, TradeSession
from pipeline.sim.wire.bybit.rows import order_id_text, trade_id_text
from pipeline.sim.wire.bybit.streams import BybitStreams
from pipeline.sim.wire.dialect import Dialect, Host, SimSocket
from pipeline.sim.wire.rate_limits import Budget, WindowLimiter

ADDRESS = Budget(600, 5_000)
CATEGORY_OF = {InstrumentKind.SPOT: "spot", InstrumentKind.PERPETUAL: "linear"}
OPERATIONS = {"time": "time", "instruments-info": "instruments", "orderbook": "depth"}


class BybitDialect(Dialect):
    """Spot, linear or both, by what ``venues`` holds."""

    account_per_market = True
    signed_ahead_ms_max = AHEAD_MS
    orders_per_s: ClassVar[dict[str, int]] = {"spot": 20, "futures": 10}

    def __init__(self, venues: dict[str, SimVenue], host: Host) -> None:
        super().__init__(venues, host)
        self._limiter = WindowLimiter()
        self.markets = {
            CATEGORY_OF[venue.kind]: BybitMarket(venue, CATEGORY_OF[venue.kind]) for venue in venues.values()
        }
        self.streams = {category: BybitStreams(market) for category, market in self.markets.items()}
        self.side = PrivateSide({category: market.venue for category, market in self.markets.items()}, host)

    def routes(self, app: web.Application) -> None:
        app.router.add_get("/v5/market/{name}", self._market)
        for category in self.markets:
            app.router.add_get(f"/v5/public/{category}", self._socket)
        for prefix in PREFIXES:
            app.router.add_route("*", f"{prefix}{{tail:.*}}", self.side.serve)
        app.router.add_get("/v5/private", self._private)
        app.router.add_get("/v5/trade", self._trade)

    def urls(self, host: str, port: int) -> dict[str, dict[str, str]]:
        base = f"ws://{host}:{port}/v5"
        private = {"rest": f"http://{host}:{port}", "ws_private": f"{base}/private", "ws_api": f"{base}/trade"}
        return {
            market.venue.name: {**private, "ws": f"{base}/public/{category}"}
            for category, market in self.markets.items()
        }

    def order_id_text(self, order_id: int) -> str:
        return order_id_text(order_id)

    def trade_id_text(self, trade_id: int) -> str:
        return trade_id_text(trade_id)

    def classify(self, method: str, path: str, query: dict[str, str]) -> tuple[str, str, str] | None:
        if not path.startswith("/v5/market/"):
            return None
        market = self.markets.get(query.get("category", "")) or next(iter(self.markets.values()))
        name = path.rpartition("/")[2]
        return market.venue.name, OPERATIONS.get(name, "other"), query.get("symbol") or "*"

    def error_response(self, venue: str, status: int, retry_after_s: float) -> web.Response:
        """A rate limit is a code under HTTP 200; the reset stands in a header."""
        now_ms = self.venues[venue].now_ms()
        if status in (418, 429):
            headers = {"X-Bapi-Limit-Reset-Timestamp": str(now_ms + int(retry_after_s * 1000))}
            return reply({}, now_ms, BybitError(10006, "Too many visits!"), headers=headers)
        return reply({}, now_ms, BybitError(10016, "Server error."), status=status)

    def on_start(self) -> None:
        for category, market in self.markets.items():
            market.venue.on_market(self.streams[category].on_market)

    async def _market(self, request: web.Request) -> web.Response:
        query = dict(request.query)
        name = request.match_info["name"]
        known = next(iter(self.markets.values()))
        now_ms = known.venue.now_ms()
        if not self._limiter.take(ADDRESS, "ip", request.remote or "", now_ms).allowed:
            return reply({}, now_ms, BybitError(10403, "access too frequent, please try again later"), status=403)
        try:
            if name == "time":
                found: dict[str, Any] = {"timeSecond": str(now_ms // 1000), "timeNano": f"{now_ms}000000"}
            else:
                found = self._answer(name, query)
        except BybitError as error:
            return reply({}, now_ms, error)
        return reply(found, now_ms)

    def _answer(self, name: str, query: dict[str, str]) -> dict[str, Any]:
        category = query.get("category", "")
        if category not in ("spot", "linear", "inverse", "option"):
            raise BybitError(10001, "params error: Category is invalid")
        market = self.markets.get(category)
        if market is None:
            return {"category": category, "list": [], "nextPageCursor": ""}
        handler = market.handlers.get(name)
        if handler is None:
            raise BybitError(10001, f"Request parameter error: {name}")
        return handler(query)

    async def _socket(self, request: web.Request) -> web.StreamResponse:
        category = request.path.rpartition("/")[2]
        sock = SimSocket(self, request, self.markets[category].venue.name, "public")
        refused = await sock.open()
        if refused is not None:
            return refused
        streams = self.streams[category]
        try:
            async for message in sock:
                streams.on_message(sock, message.data)
        finally:
            streams.forget(sock)
        return sock.response

    async def _private(self, request: web.Request) -> web.StreamResponse:
        return await self._session(request, PrivateStream)

    async def _trade(self, request: web.Request) -> web.StreamResponse:
        return await self._session(request, TradeSession)

    async def _session(
        self, request: web.Request, kind: type[PrivateStream] | type[TradeSession]
    ) -> web.StreamResponse:
        venue = next(iter(self.markets.values())).venue
        sock = SimSocket(self, request, venue.name, "private")
        refused = await sock.open()
        if refused is not None:
            return refused
        session = kind(self.side, sock)
        try:
            async for message in sock:
                session.on_message(message.data)
        finally:
            session.end()
        return sock.response


DIALECT = BybitDialect
