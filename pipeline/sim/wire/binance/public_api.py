"""Binance's public lists beyond books and symbols, of spot and USDⓈ-M: trades, candles, day figures, prices.

Source: Binance spot REST API "Market Data endpoints", USDⓈ-M futures API "Market Data" (read 2026).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pipeline.model.enums import OrderSide
from pipeline.sim.exchange.candles import MONTH_S, WEEK_S, window_end_s
from pipeline.sim.exchange.events import MarketTrade
from pipeline.sim.exchange.instruments import SimInstrument
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.binance.formats import BinanceError, eight
from pipeline.sim.wire.binance.request import ApiRequest, Route, instrument_of
from pipeline.sim.wire.recent_trades import TRADES_KEPT, RecentTrades, day_figures

DAY_MS = 86_400_000
_KLINES_MAX = 1000
_MINUTES = {"1m": 1, "3m": 3, "5m": 5, "15m": 15, "30m": 30}
_HOURS = {"1h": 1, "2h": 2, "4h": 4, "6h": 6, "8h": 8, "12h": 12}
KLINES = (
    {name: 60 * count for name, count in _MINUTES.items()}
    | {name: 3600 * count for name, count in _HOURS.items()}
    | {"1d": 86_400, "3d": 3 * 86_400, "1w": WEEK_S, "1M": MONTH_S}
)


class PublicApi:
    """Handlers that need no key, and the trades behind their lists."""

    def __init__(self, venue: SimVenue) -> None:
        self._venue = venue
        self._recent = RecentTrades()
        self.on_trade = self._recent.add

    def rest_routes(self, v3: str) -> dict[tuple[str, str], Route]:
        """``v3``: the market's prefix of its paths."""
        return {
            ("GET", f"{v3}/trades"): Route(self._trades, "public_trades", 25, False),
            ("GET", f"{v3}/historicalTrades"): Route(self._trades, "public_trades", 25, False),
            ("GET", f"{v3}/aggTrades"): Route(self._agg_trades, "public_trades", 4, False),
            ("GET", f"{v3}/klines"): Route(self._klines, "candles", 2, False),
            ("GET", f"{v3}/avgPrice"): Route(self._average_price, "ticker", 2, False),
            ("GET", f"{v3}/ticker/price"): Route(self._price, "ticker", 4, False),
            ("GET", f"{v3}/ticker/24hr"): Route(self._ticker_24h, "ticker", 80, False),
        }

    def _newest(self, call: ApiRequest) -> tuple[SimInstrument, list[MarketTrade]]:
        """Oldest first."""
        row = instrument_of(self._venue, call.required("symbol"))
        return row, self._recent.newest(row.symbol, min(call.integer("limit", 500), TRADES_KEPT))[::-1]

    async def _trades(self, call: ApiRequest) -> Any:
        row, trades = self._newest(call)
        return [
            {
                "id": one.trade_id,
                "price": eight(row.price(one.price)),
                "qty": eight(row.qty(one.qty)),
                "quoteQty": eight(row.price(one.price) * row.qty(one.qty)),
                "time": one.ts_ms,
                "isBuyerMaker": one.side is OrderSide.SELL,
                "isBestMatch": True,
            }
            for one in trades
        ]

    async def _agg_trades(self, call: ApiRequest) -> Any:
        """Every trade by itself."""
        row, trades = self._newest(call)
        return [
            {
                "a": one.trade_id,
                "p": eight(row.price(one.price)),
                "q": eight(row.qty(one.qty)),
                "f": one.trade_id,
                "l": one.trade_id,
                "T": one.ts_ms,
                "m": one.side is OrderSide.SELL,
                "M": True,
            }
            for one in trades
        ]

    async def _klines(self, call: ApiRequest) -> Any:
        """Oldest first; with a start the oldest ``limit`` windows from it, else the newest."""
        row = instrument_of(self._venue, call.required("symbol"))
        length_s = KLINES.get(call.required("interval"))
        if length_s is None:
            raise BinanceError(-1120, "Invalid interval.")
        limit = min(call.integer("limit", 500) or 500, _KLINES_MAX)
        end_s = min(call.integer("endTime", call.now_ms), call.now_ms) // 1000
        start_s = -(-call.integer("startTime", 0) // 1000)
        found = self._venue.candles[row.symbol].between(length_s, start_s, end_s, monday=True)
        return [
            [
                one.start_s * 1000,
                *(eight(value) for value in (one.open, one.high, one.low, one.close, one.base)),
                window_end_s(one.start_s, length_s) * 1000 - 1,
                eight(one.quote),
                0,
                "0",
                "0",
                "0",
            ]
            for one in (found[:limit] if start_s else found[-limit:])
        ]

    async def _average_price(self, call: ApiRequest) -> Any:
        row = instrument_of(self._venue, call.required("symbol"))
        return {"mins": 5, "price": eight(row.reference_price()), "closeTime": call.now_ms}

    def _rows(self, call: ApiRequest) -> list[SimInstrument]:
        symbol = call.params.get("symbol")
        return [instrument_of(self._venue, symbol)] if symbol else list(self._venue.instruments.values())

    async def _price(self, call: ApiRequest) -> Any:
        found = [
            {"symbol": row.symbol, "price": day_figures(row, self._recent.of(row.symbol)).last}
            for row in self._rows(call)
        ]
        return found[0] if "symbol" in call.params else found

    async def _ticker_24h(self, call: ApiRequest) -> Any:
        found = [self._day(row, call.now_ms) for row in self._rows(call)]
        return found[0] if "symbol" in call.params else found

    def _day(self, row: SimInstrument, now_ms: int) -> dict[str, Any]:
        trades = self._recent.of(row.symbol)
        day = day_figures(row, trades)
        _, bids, asks = self._venue.depth(row.symbol, 1)
        quotes = {
            "bidPrice": row.price_text(bids[0][0]) if bids else "0",
            "bidQty": row.qty_text(bids[0][1]) if bids else "0",
            "askPrice": row.price_text(asks[0][0]) if asks else "0",
            "askQty": row.qty_text(asks[0][1]) if asks else "0",
        }
        return {
            "symbol": row.symbol,
            "priceChange": eight(Decimal(day.last) - Decimal(day.first)),
            "priceChangePercent": format(round(day.ratio * 100, 3), "f"),
            "weightedAvgPrice": eight(day.quote / day.base if day.base else Decimal(day.last)),
            "prevClosePrice": day.first,
            "lastPrice": day.last,
            "lastQty": eight(row.qty(trades[-1].qty)) if trades else "0",
            **quotes,
            "openPrice": day.first,
            "highPrice": day.high,
            "lowPrice": day.low,
            "volume": eight(day.base),
            "quoteVolume": eight(day.quote),
            "openTime": now_ms - DAY_MS,
            "closeTime": now_ms,
            "firstId": trades[0].trade_id if trades else -1,
            "lastId": trades[-1].trade_id if trades else -1,
            "count": len(trades),
        }
