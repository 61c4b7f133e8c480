"""Simulated Binance: public data of spot and USDⓈ-M (``public_wire``), spot's private side (``spot``, ``ws_api``)."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
from aiohttp import web

from pipeline.model.enums import OrderSide, TradingStatus
from pipeline.sim.exchange.events import BookDelta, MarketEvent, MarketTrade, Ticker
from pipeline.sim.exchange.instruments import Level, SimInstrument
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.binance.formats import BinanceError
from pipeline.sim.wire.binance.limits import BinanceLimits, headers_of
from pipeline.sim.wire.binance.public_wire import BinanceWire, Handler, filters, info_row, market_of
from pipeline.sim.wire.binance.spot import PREFIXES, BinanceSpot, refused
from pipeline.sim.wire.binance.ws_api import ApiSession
from pipeline.sim.wire.dialect import Host, SimSocket

WS_API = "/ws-api/v3"
QTY_MAX = Decimal(9_000_000)  # where an instrument has no limit of its own
#: Weight of public requests by the last part of their path; a book's is by its levels.
WEIGHTS = {"ping": 1, "time": 1, "exchangeInfo": 20, "bookTicker": 4, "premiumIndex": 10}
_encode = msgspec.json.Encoder().encode


def _weight(request: web.Request) -> int:
    """Of a public request on spot."""
    name = request.path.rpartition("/")[2]
    if name != "depth":
        return WEIGHTS.get(name, 1)
    limit = request.query.get("limit", "100")
    levels = int(limit) if limit.isdigit() else 100
    return next((weight for most, weight in ((100, 5), (500, 25), (1000, 50)) if levels <= most), 250)


class BinanceDialect(BinanceWire):
    """Simulated Binance venues: public data of both markets, the private side of spot."""

    def __init__(self, venues: dict[str, SimVenue], host: Host, limits: BinanceLimits | None = None) -> None:
        super().__init__(venues, host)
        self._by_market = {name.rpartition("_")[2]: venue for name, venue in venues.items()}
        spot = self._by_market.get("spot")
        self.spot = BinanceSpot(spot, limits or BinanceLimits()) if spot is not None else None

    def on_start(self) -> None:
        for market, venue in self._by_market.items():
            venue.on_market(lambda event, market=market, venue=venue: self._on_market(market, venue, event))  # type: ignore[misc]

    def routes(self, app: web.Application) -> None:
        super().routes(app)
        if self.spot is not None:
            app.router.add_get(WS_API, self._api_socket)
            for prefix in PREFIXES:
                app.router.add_route("*", f"{prefix}{{tail:.*}}", self.spot.serve)

    def urls(self, host: str, port: int) -> dict[str, dict[str, str]]:
        found = super().urls(host, port)
        if self.spot is not None:
            found[self.spot.venue.name]["ws_api"] = f"ws://{host}:{port}{WS_API}"
        return found

    def classify(self, method: str, path: str, query: dict[str, str]) -> tuple[str, str, str] | None:
        route = self.spot.routes.get((method, path)) if self.spot is not None else None
        if route is not None and self.spot is not None:
            return self.spot.venue.name, route.operation, query.get("symbol") or "*"
        return super().classify(method, path, query)

    def error_response(self, venue: str, status: int, retry_after_s: float) -> web.Response:
        code = -1003 if status in (418, 429) else -1000
        now_ms = self.venues[venue].now_ms()
        silent_until_ms = now_ms + int(retry_after_s * 1000) if retry_after_s else 0
        return refused(BinanceError(code, "injected", status, silent_until_ms), now_ms)

    def limited(self, handler: Handler) -> Handler:
        spot = self.spot
        if spot is None:
            return handler

        async def counted(request: web.Request) -> web.StreamResponse:
            is_socket = request.headers.get("Upgrade", "").lower() == "websocket"
            if is_socket or market_of(request.path) != "spot":
                return await handler(request)
            now_ms = spot.venue.now_ms()
            try:
                state = spot.spend.take_weight(request.remote or "", _weight(request), now_ms)
            except BinanceError as error:
                return refused(error, now_ms)
            response = await handler(request)
            response.headers.update(headers_of(state, None))
            return response

        return counted

    async def _api_socket(self, request: web.Request) -> web.StreamResponse:
        assert self.spot is not None, "only served with a spot venue"
        sock = SimSocket(self, request, self.spot.venue.name, "private")
        answer = await sock.open()
        if answer is not None:
            return answer
        session = ApiSession(self.spot, sock)
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
        limits = self.spot.spend.rate_limits() if self.spot is not None and not is_futures else []
        return {"rateLimits": limits, "symbols": rows}

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
        if isinstance(event, MarketTrade) and market == "spot" and self.spot is not None:
            self.spot.on_trade(event)
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
        elif self.listens(market, event.symbol, "trade"):
            data = {"e": "trade", "E": event.ts_ms, "s": event.symbol, "t": event.trade_id, "T": event.ts_ms}
            data |= {"p": row.price_text(event.price), "q": row.qty_text(event.qty), "m": event.side is OrderSide.SELL}
            self.publish(market, event.symbol, "trade", _encode(data))


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
