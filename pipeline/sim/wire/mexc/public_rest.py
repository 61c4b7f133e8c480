"""MEXC spot public REST: symbols, books, trades, tickers, time.

Source: MEXC spot v3 "Market Data Endpoints"; recorded rows; what ccxt 4.5 asks for beyond them.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pipeline.model.enums import OrderSide
from pipeline.sim.exchange.candles import MONTH_S, STEP_S, WEEK_S, window_end_s
from pipeline.sim.exchange.events import MarketTrade
from pipeline.sim.exchange.instruments import SimInstrument
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.mexc import formats
from pipeline.sim.wire.mexc.formats import MexcError
from pipeline.sim.wire.mexc.request import ApiRequest, Route, instrument_of
from pipeline.sim.wire.numbers import exact_text
from pipeline.sim.wire.recent_trades import TRADES_KEPT, DayFigures, RecentTrades, day_figures

DAY_MS = 86_400_000
_DEPTH_DEFAULT, _DEPTH_MAX = 100, 5000
_KLINES_MAX = 1000
_AVERAGE_MINUTES = 5
KLINES = {
    "1m": 60,
    "5m": 300,
    "15m": 900,
    "30m": 1800,
    "60m": 3600,
    "4h": 14_400,
    "1d": 86_400,
    "1W": WEEK_S,
    "1M": MONTH_S,
}


class MexcPublic:
    """Handlers that need no key, and the trades behind their lists."""

    def __init__(self, venue: SimVenue) -> None:
        self._venue = venue
        self._recent_trades = RecentTrades()
        self.on_trade = self._recent_trades.add

    def routes(self) -> dict[tuple[str, str], Route]:
        v3 = "/api/v3"
        return {
            ("GET", f"{v3}/ping"): Route(self._ping, "time", 1),
            ("GET", f"{v3}/time"): Route(self._time, "time", 1),
            ("GET", f"{v3}/defaultSymbols"): Route(self._default_symbols, "instruments", 1),
            ("GET", f"{v3}/exchangeInfo"): Route(self._exchange_info, "instruments", 10),
            ("GET", f"{v3}/symbol/offline"): Route(self._offline, "instruments", 1),
            ("GET", f"{v3}/depth"): Route(self._depth, "depth", 1),
            ("GET", f"{v3}/trades"): Route(self._trades, "public_trades", 5),
            ("GET", f"{v3}/historicalTrades"): Route(self._trades, "public_trades", 5),
            ("GET", f"{v3}/aggTrades"): Route(self._agg_trades, "public_trades", 1),
            ("GET", f"{v3}/klines"): Route(self._klines, "candles", 1),
            ("GET", f"{v3}/avgPrice"): Route(self._average_price, "ticker", 1),
            ("GET", f"{v3}/ticker/bookTicker"): Route(self._book_ticker, "ticker", 1),
            ("GET", f"{v3}/ticker/price"): Route(self._price, "ticker", 1),
            ("GET", f"{v3}/ticker/24hr"): Route(self._ticker_24h, "ticker", 1),
            ("GET", "/api/v1/contract/detail"): Route(self._no_contracts, "instruments", 1),
            ("GET", f"{v3}/selfSymbols"): Route(self._default_symbols, "instruments", 1, True),
        }

    async def _offline(self, call: ApiRequest) -> Any:
        """Announced ends of trading; the fields as a public client library reads them."""
        rows = [
            {"symbol": one.symbol, "status": "3" if one.is_delisted else "1", "offlineTime": one.delisted_s * 1000}
            for one in self._venue.instruments.values()
            if one.delisted_s
        ]
        return {"data": rows, "code": 0, "msg": "success", "timestamp": call.now_ms}

    async def _ping(self, call: ApiRequest) -> Any:
        return {}

    async def _time(self, call: ApiRequest) -> Any:
        return {"serverTime": call.now_ms}

    async def _default_symbols(self, call: ApiRequest) -> Any:
        return {"code": 200, "data": list(self._venue.instruments), "msg": None}

    async def _no_contracts(self, call: ApiRequest) -> Any:
        """The perpetual market of this exchange is not simulated; clients that load all markets see none."""
        return {"success": True, "code": 0, "data": []}

    async def _exchange_info(self, call: ApiRequest) -> Any:
        wanted = call.params.get("symbols") or call.params.get("symbol")
        symbols = wanted.split(",") if wanted else list(self._venue.instruments)
        rows = [formats.symbol_row(instrument_of(self._venue, symbol)) for symbol in symbols]
        return {
            "timezone": "CST",
            "serverTime": call.now_ms,
            "rateLimits": [],
            "exchangeFilters": [],
            "symbols": rows,
        }

    async def _depth(self, call: ApiRequest) -> Any:
        instrument = instrument_of(self._venue, call.required("symbol"))
        limit = min(call.integer("limit", _DEPTH_DEFAULT) or _DEPTH_DEFAULT, _DEPTH_MAX)
        update_id, bids, asks = self._venue.depth(instrument.symbol, limit)
        return {
            "lastUpdateId": update_id,
            "bids": [[instrument.price_text(p), instrument.qty_text(q)] for p, q in bids],
            "asks": [[instrument.price_text(p), instrument.qty_text(q)] for p, q in asks],
            "timestamp": call.now_ms,
        }

    def _recent(self, call: ApiRequest) -> tuple[SimInstrument, list[MarketTrade]]:
        instrument = instrument_of(self._venue, call.required("symbol"))
        limit = min(call.integer("limit", 500), TRADES_KEPT)
        return instrument, self._recent_trades.newest(instrument.symbol, limit)

    async def _trades(self, call: ApiRequest) -> Any:
        instrument, trades = self._recent(call)
        rows = []
        for one in trades:
            price, qty = instrument.price(one.price), instrument.qty(one.qty)
            buyer_maker = one.side is OrderSide.SELL
            rows.append(
                {
                    "id": None,
                    "price": instrument.price_text(one.price),
                    "qty": exact_text(qty),
                    "quoteQty": exact_text(price * qty),
                    "time": one.ts_ms,
                    "isBuyerMaker": buyer_maker,
                    "isBestMatch": True,
                    "tradeType": "ASK" if buyer_maker else "BID",
                }
            )
        return rows

    async def _agg_trades(self, call: ApiRequest) -> Any:
        instrument, trades = self._recent(call)
        return [
            {
                "a": None,
                "f": None,
                "l": None,
                "p": instrument.price_text(one.price),
                "q": exact_text(instrument.qty(one.qty)),
                "T": one.ts_ms,
                "m": one.side is OrderSide.SELL,
                "M": True,
            }
            for one in trades
        ]

    async def _klines(self, call: ApiRequest) -> Any:
        """Oldest first; with a start the oldest ``limit`` windows from it, else the newest."""
        instrument = instrument_of(self._venue, call.required("symbol"))
        length_s = KLINES.get(call.required("interval"))
        if length_s is None:
            raise MexcError(-1121, "Invalid interval.")
        limit = min(call.integer("limit", 500) or 500, _KLINES_MAX)
        end_s = min(call.integer("endTime", call.now_ms), call.now_ms) // 1000
        start_s = -(-call.integer("startTime", 0) // 1000)
        found = self._venue.candles[instrument.symbol].between(length_s, start_s, end_s, monday=True)
        chosen = found[:limit] if start_s else found[-limit:]
        return [
            [
                one.start_s * 1000,
                exact_text(one.open),
                exact_text(one.high),
                exact_text(one.low),
                exact_text(one.close),
                exact_text(one.base),
                window_end_s(one.start_s, length_s) * 1000,
                exact_text(one.quote),
            ]
            for one in chosen
        ]

    async def _average_price(self, call: ApiRequest) -> Any:
        """Mean of the trades of the last minutes, weighted by quantity."""
        instrument = instrument_of(self._venue, call.required("symbol"))
        now_s = call.now_ms // 1000
        found = self._venue.candles[instrument.symbol].between(STEP_S, now_s - _AVERAGE_MINUTES * 60, now_s)
        base = sum((one.base for one in found), Decimal(0))
        quote = sum((one.quote for one in found), Decimal(0))
        price = round(quote / base, 12) if base else instrument.reference_price()
        return {"mins": _AVERAGE_MINUTES, "price": exact_text(price)}

    def _quotes(self, symbol: str) -> dict[str, Any]:
        instrument = instrument_of(self._venue, symbol)
        _, bids, asks = self._venue.depth(symbol, 1)
        return {
            "symbol": symbol,
            "bidPrice": instrument.price_text(bids[0][0]) if bids else "",
            "bidQty": instrument.qty_text(bids[0][1]) if bids else "",
            "askPrice": instrument.price_text(asks[0][0]) if asks else "",
            "askQty": instrument.qty_text(asks[0][1]) if asks else "",
        }

    async def _book_ticker(self, call: ApiRequest) -> Any:
        symbol = call.params.get("symbol")
        return self._quotes(symbol) if symbol else [self._quotes(name) for name in self._venue.instruments]

    def _last_price(self, symbol: str) -> str:
        return self._figures(symbol).last

    def _figures(self, symbol: str) -> DayFigures:
        return day_figures(instrument_of(self._venue, symbol), self._recent_trades.of(symbol))

    async def _price(self, call: ApiRequest) -> Any:
        symbol = call.params.get("symbol")
        if symbol:
            return {"symbol": symbol, "price": self._last_price(symbol)}
        return [{"symbol": name, "price": self._last_price(name)} for name in self._venue.instruments]

    def _day(self, symbol: str, now_ms: int) -> dict[str, Any]:
        day = self._figures(symbol)
        return self._quotes(symbol) | {
            "priceChange": exact_text(Decimal(day.last) - Decimal(day.first)),
            "priceChangePercent": exact_text(round(day.ratio, 6)),
            "prevClosePrice": day.first,
            "lastPrice": day.last,
            "openPrice": day.first,
            "highPrice": day.high,
            "lowPrice": day.low,
            "volume": exact_text(day.base),
            "quoteVolume": exact_text(day.quote),
            "openTime": now_ms - DAY_MS,
            "closeTime": now_ms,
            "count": None,
        }

    async def _ticker_24h(self, call: ApiRequest) -> Any:
        symbol = call.params.get("symbol")
        if symbol:
            return self._day(symbol, call.now_ms)
        return [self._day(name, call.now_ms) for name in self._venue.instruments]
