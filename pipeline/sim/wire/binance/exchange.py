"""Simulated Binance: public data of spot and USDⓈ-M (``public_wire``), their private sides (``spot``, ``futures``)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
from aiohttp import web

from pipeline.model.enums import OrderSide, TradingStatus
from pipeline.sim.exchange.events import BookDelta, MarketEvent, MarketTrade, Ticker
from pipeline.sim.exchange.instruments import Level, SimInstrument
from pipeline.sim.exchange.latency import NS_PER_S
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.binance.formats import BinanceError
from pipeline.sim.wire.binance.futures import COMBINED_PATHS, STREAM_PATHS, BinanceFutures
from pipeline.sim.wire.binance.futures import PREFIXES as FUTURES_PREFIXES
from pipeline.sim.wire.binance.limits import headers_of
from pipeline.sim.wire.binance.private_side import PrivateSide, refused
from pipeline.sim.wire.binance.public_wire import USDM, BinanceWire, Handler, filters, info_row, market_of
from pipeline.sim.wire.binance.spot import PREFIXES as SPOT_PREFIXES
from pipeline.sim.wire.binance.spot import BinanceSpot
from pipeline.sim.wire.binance.ws_api import ApiSession
from pipeline.sim.wire.dialect import Host, SimSocket
from pipeline.sim.wire.numbers import exact_text

WS_API = {"spot": "/ws-api/v3", "futures": "/ws-fapi/v1"}
QTY_MAX = Decimal(9_000_000)  # where an instrument has no limit of its own
#: Weight of public requests by the last part of their path; a book's is by its levels.
WEIGHTS = {
    "spot": {"ping": 1, "time": 1, "exchangeInfo": 20, "bookTicker": 4},
    "futures": {"ping": 1, "time": 1, "exchangeInfo": 1, "bookTicker": 5},
}
DEPTH_WEIGHTS = {
    "spot": ((100, 5), (500, 25), (1000, 50), (5000, 250)),
    "futures": ((50, 2), (100, 5), (500, 10), (1000, 20)),
}
MARK_PUSH_NS = NS_PER_S
_encode = msgspec.json.Encoder().encode


def _weight(market: str, request: web.Request) -> int:
    """Of a public request."""
    name = request.path.rpartition("/")[2]
    if name != "depth":
        return WEIGHTS[market].get(name, 1)
    limit = request.query.get("limit", "100")
    levels = int(limit) if limit.isdigit() else 100
    steps = DEPTH_WEIGHTS[market]
    return next((weight for most, weight in steps if levels <= most), steps[-1][1])


class BinanceDialect(BinanceWire):
    """Simulated Binance venues: public data and private sides of both markets."""

    trigger_keeps_fee = False

    def __init__(self, venues: dict[str, SimVenue], host: Host) -> None:
        super().__init__(venues, host)
        self._by_market = {name.rpartition("_")[2]: venue for name, venue in venues.items()}
        spot, futures = self._by_market.get("spot"), self._by_market.get("futures")
        self.spot = BinanceSpot(spot) if spot is not None else None
        self.futures = BinanceFutures(futures) if futures is not None else None
        self.sides: dict[str, PrivateSide] = {}
        if self.spot is not None:
            self.sides["spot"] = self.spot
        if self.futures is not None:
            self.sides["futures"] = self.futures

    def on_start(self) -> None:
        for market, venue in self._by_market.items():
            venue.on_market(lambda event, market=market, venue=venue: self._on_market(market, venue, event))  # type: ignore[misc]
        if self.futures is not None:
            self._push_marks(self.futures.venue)

    def routes(self, app: web.Application) -> None:
        super().routes(app)
        for market, prefixes in (("spot", SPOT_PREFIXES), ("futures", FUTURES_PREFIXES)):
            side = self.sides.get(market)
            if side is None:
                continue
            app.router.add_get(WS_API[market], self._api_socket)
            for prefix in prefixes:
                app.router.add_route("*", f"{prefix}{{tail:.*}}", side.serve)
        if self.futures is not None:
            for path in STREAM_PATHS:
                app.router.add_get(path, self._user_stream)
            for path in COMBINED_PATHS:
                app.router.add_get(path, self._user_streams)

    def urls(self, host: str, port: int) -> dict[str, dict[str, str]]:
        found = super().urls(host, port)
        for market, side in self.sides.items():
            found[side.venue.name]["ws_api"] = f"ws://{host}:{port}{WS_API[market]}"
        return found

    def classify(self, method: str, path: str, query: dict[str, str]) -> tuple[str, str, str] | None:
        side = self.sides.get(market_of(path))
        route = side.routes.get((method, path.removeprefix(USDM))) if side is not None else None
        if route is not None and side is not None:
            return side.venue.name, route.operation, query.get("symbol") or "*"
        return super().classify(method, path, query)

    def error_response(self, venue: str, status: int, retry_after_s: float) -> web.Response:
        code = -1003 if status in (418, 429) else -1000
        now_ms = self.venues[venue].now_ms()
        silent_until_ms = now_ms + int(retry_after_s * 1000) if retry_after_s else 0
        return refused(BinanceError(code, "injected", status, silent_until_ms), now_ms)

    def limited(self, handler: Handler) -> Handler:
        async def counted(request: web.Request) -> web.StreamResponse:
            market = market_of(request.path)
            side = self.sides.get(market)
            is_socket = request.headers.get("Upgrade", "").lower() == "websocket"
            if side is None or is_socket or (request.method, request.path.removeprefix(USDM)) in side.routes:
                return await handler(request)
            now_ms = side.venue.now_ms()
            try:
                state = side.spend.take_weight(request.remote or "", _weight(market, request), now_ms)
            except BinanceError as error:
                return refused(error, now_ms)
            response = await handler(request)
            response.headers.update(headers_of(state, None))
            return response

        return counted

    async def _premium_index(self, request: web.Request) -> web.Response:
        return await self.sides["futures"].serve(request) if "futures" in self.sides else web.Response(status=404)

    async def _user_stream(self, request: web.Request) -> web.StreamResponse:
        assert self.futures is not None, "only served with a futures venue"
        return await self.futures.user_stream(self, request)

    async def _user_streams(self, request: web.Request) -> web.StreamResponse:
        assert self.futures is not None, "only served with a futures venue"
        return await self.futures.user_streams(self, request)

    async def _api_socket(self, request: web.Request) -> web.StreamResponse:
        side = self.sides["futures" if request.path == WS_API["futures"] else "spot"]
        sock = SimSocket(self, request, side.venue.name, "private")
        answer = await sock.open()
        if answer is not None:
            return answer
        session = ApiSession(side, sock)
        try:
            async for message in sock:
                session.on_message(message.data)
        finally:
            session.end()
        return sock.response

    def venue_of(self, market: str) -> str | None:
        venue = self._by_market.get(market)
        return venue.name if venue is not None else None

    def server_time_ms(self, market: str) -> int:
        return self._by_market[market].now_ms()

    def exchange_info(self, market: str) -> dict[str, Any]:
        is_futures = market == "futures"
        rows = []
        for row in self._by_market[market].instruments.values():
            rules = filters(
                f"{row.tick:f}",
                f"{row.lot:f}",
                f"{row.min_qty:f}",
                f"{row.min_notional:f}",
                is_futures=is_futures,
                max_qty=f"{row.max_qty or QTY_MAX:f}",
            )
            halted = "HALT" if not is_futures else "SETTLING"
            status = "TRADING" if row.status is TradingStatus.TRADING else halted
            rows.append(info_row(row.symbol, row.base, row.quote, rules, is_futures=is_futures, status=status))
        return {"rateLimits": self.sides[market].spend.rate_limits(), "symbols": rows}

    async def depth(self, market: str, symbol: str, limit: int) -> dict[str, Any] | None:
        venue = self._by_market[market]
        row = venue.instruments.get(symbol)
        if row is None:
            return None
        last, bids, asks = venue.depth(symbol, limit)
        answer: dict[str, Any] = {"lastUpdateId": last}
        if market == "futures":
            answer |= {"E": venue.now_ms(), "T": venue.now_ms()}
        return {**answer, "bids": _levels(row, bids), "asks": _levels(row, asks)}

    def subscribed(self, market: str, symbol: str, topic: str) -> None:
        venue = self._by_market[market]
        if topic == "depth" and symbol in venue.instruments:
            venue.open_book_stream(symbol, 100)

    def _on_market(self, market: str, venue: SimVenue, event: MarketEvent) -> None:
        row = venue.instruments[event.symbol]
        if isinstance(event, MarketTrade):
            self._keep_trade(market, event)
        if isinstance(event, BookDelta):
            if event.interval_ms != 100 or not self.listens(market, event.symbol, "depth"):
                return
            data: dict[str, Any] = {"e": "depthUpdate", "E": event.ts_ms, "s": event.symbol, "U": event.first_id}
            data["u"] = event.last_id
            if market == "futures":
                data |= {"T": event.ts_ms, "pu": event.prev_id}
            data |= {"b": _levels(row, event.bids), "a": _levels(row, event.asks)}
            self.publish(market, event.symbol, "depth", _encode(data))
        elif isinstance(event, Ticker):
            if self.listens(market, event.symbol, "bookTicker"):
                self.publish(market, event.symbol, "bookTicker", _encode(_ticker(row, event, market)))
        else:
            if market == "futures" and self.listens(market, event.symbol, "aggTrade"):
                self.publish(market, event.symbol, "aggTrade", _encode(_aggregate(row, event)))
            if not self.listens(market, event.symbol, "trade"):
                return
            data = {"e": "trade", "E": event.ts_ms, "s": event.symbol, "t": event.trade_id, "T": event.ts_ms}
            data |= {"p": row.price_text(event.price), "q": row.qty_text(event.qty), "m": event.side is OrderSide.SELL}
            self.publish(market, event.symbol, "trade", _encode(data))

    def _keep_trade(self, market: str, event: MarketTrade) -> None:
        side = self.futures if market == "futures" else self.spot
        if side is not None:
            side.on_trade(event)

    def _push_marks(self, venue: SimVenue) -> None:
        """``markPriceUpdate`` of every contract that somebody listens to, once a second."""
        for symbol, row in venue.instruments.items():
            if not self.listens("futures", symbol, "markPrice"):
                continue
            mark = exact_text(round(row.reference_price(), 8))
            data = {"e": "markPriceUpdate", "E": venue.stream_ms(), "s": symbol, "p": mark, "ap": mark, "i": mark}
            data |= {"P": mark, "r": exact_text(row.funding_rate), "T": row.funding_next_s * 1000}
            self.publish("futures", symbol, "markPrice", _encode(data))
        venue.clock.call_later(MARK_PUSH_NS, lambda: self._push_marks(venue))


def _aggregate(row: SimInstrument, event: MarketTrade) -> dict[str, Any]:
    """A trade by itself, as ``aggTrade``."""
    data: dict[str, Any] = {"e": "aggTrade", "E": event.ts_ms, "a": event.trade_id, "s": event.symbol}
    data |= {"p": row.price_text(event.price), "q": row.qty_text(event.qty), "f": event.trade_id, "l": event.trade_id}
    return data | {"T": event.ts_ms, "m": event.side is OrderSide.SELL}


def _levels(row: SimInstrument, levels: list[Level]) -> list[list[str]]:
    return [[row.price_text(price), row.qty_text(units)] for price, units in levels]


def _ticker(row: SimInstrument, event: Ticker, market: str) -> dict[str, Any]:
    data: dict[str, Any] = {"u": event.update_id, "s": event.symbol}
    for level, price_key, qty_key in ((event.bid, "b", "B"), (event.ask, "a", "A")):
        data[price_key] = row.price_text(level[0]) if level else format(Decimal(0).quantize(row.tick), "f")
        data[qty_key] = row.qty_text(level[1]) if level else format(Decimal(0).quantize(row.unit), "f")
    if market == "futures":
        data = {"e": "bookTicker", **data, "T": event.ts_ms, "E": event.ts_ms}
    return data


DIALECT = BinanceDialect
