"""Bybit's market endpoints over one simulated venue: instruments, books, tickers, trades; the envelope of all answers.

Source: Bybit V5 documentation "Get Instruments Info", "Get Orderbook", "Get Tickers", "Get Public Recent Trading",
"Get Risk Limit".
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from decimal import Decimal
from typing import Any

import msgspec
from aiohttp import web

from pipeline.model.enums import OrderSide, TradingStatus
from pipeline.sim.exchange.events import MarketTrade
from pipeline.sim.exchange.instruments import Level, SimInstrument
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.numbers import exact_text
from pipeline.sim.wire.recent_trades import RecentTrades, day_figures

_encode = msgspec.json.Encoder().encode
PAGE_DEFAULT, PAGE_MAX = 500, 1000
TRADES_DEFAULT = {"spot": 60, "linear": 500}
DEPTH_DEFAULT = {"spot": 1, "linear": 25}
DEPTH_MAX = {"spot": 200, "linear": 500}
QTY_MAX = Decimal(1_000_000)
MINUTE_S = 60


class BybitError(Exception):
    """A refusal: ``retCode`` and ``retMsg``, under HTTP 200 where nothing else is said."""

    def __init__(self, code: int, text: str) -> None:
        super().__init__(text)
        self.code = code
        self.text = text


def reply(
    result: Mapping[str, Any],
    now_ms: int,
    error: BybitError | None = None,
    *,
    status: int = 200,
    headers: Mapping[str, str] | None = None,
) -> web.Response:
    """The envelope of every answer."""
    body = {"retCode": error.code if error else 0, "retMsg": error.text if error else "OK", "result": result}
    payload = _encode({**body, "retExtInfo": {}, "time": now_ms})
    return web.Response(body=payload, status=status, headers=headers, content_type="application/json")


def levels(row: SimInstrument, side: list[Level]) -> list[list[str]]:
    """Levels as the venue writes them."""
    return [[row.price_text(price), row.qty_text(units)] for price, units in side]


def trade_row(row: SimInstrument, trade: MarketTrade, identity: str, at: str) -> dict[str, Any]:
    """A public trade; REST and stream name its fields otherwise."""
    side = "Buy" if trade.side is OrderSide.BUY else "Sell"
    price, qty = row.price_text(trade.price), row.qty_text(trade.qty)
    if identity == "i":
        found: dict[str, Any] = {at: trade.ts_ms, "s": row.symbol, "S": side, "v": qty, "p": price, "BT": False}
    else:
        found = {at: str(trade.ts_ms), "symbol": row.symbol, "side": side, "size": qty, "price": price}
        found["isBlockTrade"] = False
    return found | {identity: str(trade.trade_id), "seq": trade.trade_id}


class BybitMarket:
    """``category`` spot or linear of one venue."""

    def __init__(self, venue: SimVenue, category: str) -> None:
        self.venue = venue
        self.category = category
        self.trades = RecentTrades()
        self.handlers: dict[str, Callable[[dict[str, str]], dict[str, Any]]] = {
            "instruments-info": self.instruments,
            "orderbook": self.orderbook,
            "tickers": self.tickers,
            "recent-trade": self.recent_trades,
            "risk-limit": self.risk_limits,
        }

    def row(self, query: Mapping[str, str]) -> SimInstrument:
        """The instrument that a request names. Raises ``BybitError``."""
        found = self.venue.instruments.get(query.get("symbol", ""))
        if found is None:
            raise BybitError(10001, "Not supported symbols")
        return found

    def _number(self, query: Mapping[str, str], default: int, most: int) -> int:
        text = query.get("limit", str(default))
        if not text.isascii() or not text.isdigit() or not 0 < int(text) <= most:
            raise BybitError(10001, "params error: limit is invalid")
        return int(text)

    def instruments(self, query: dict[str, str]) -> dict[str, Any]:
        """``instruments-info``: spot in one page, linear in pages with a cursor (here the next row's number)."""
        rows = [self.row(query)] if "symbol" in query else list(self.venue.instruments.values())
        wanted = query.get("status", "Trading")
        shown = [_info(row, self.category) for row in rows]
        shown = [row for row in shown if row["status"] == wanted or "symbol" in query]
        if self.category == "spot":
            return {"category": "spot", "list": shown}
        limit = self._number(query, PAGE_DEFAULT, PAGE_MAX)
        cursor = query.get("cursor", "") or "0"
        if not cursor.isdigit():
            raise BybitError(10001, "params error: cursor is invalid")
        start = int(cursor)
        after = str(start + limit) if start + limit < len(shown) else ""
        return {"category": self.category, "list": shown[start : start + limit], "nextPageCursor": after}

    def orderbook(self, query: dict[str, str]) -> dict[str, Any]:
        """``orderbook``: its ``u`` is not that of the streams of other depths."""
        row = self.row(query)
        limit = self._number(query, DEPTH_DEFAULT[self.category], DEPTH_MAX[self.category])
        last, bids, asks = self.venue.depth(row.symbol, limit)
        now_ms = self.venue.now_ms()
        body: dict[str, Any] = {"s": row.symbol, "b": levels(row, bids), "a": levels(row, asks), "ts": now_ms}
        return {**body, "u": last, "seq": last, "cts": now_ms}

    def tickers(self, query: dict[str, str]) -> dict[str, Any]:
        """``tickers`` of one symbol or of all."""
        rows = [self.row(query)] if "symbol" in query else list(self.venue.instruments.values())
        return {"category": self.category, "list": [self._ticker(row) for row in rows]}

    def recent_trades(self, query: dict[str, str]) -> dict[str, Any]:
        """``recent-trade``: newest first."""
        row = self.row(query)
        newest = self.trades.newest(row.symbol, self._number(query, TRADES_DEFAULT[self.category], PAGE_MAX))
        return {"category": self.category, "list": [trade_row(row, one, "execId", "time") for one in newest]}

    def risk_limits(self, query: dict[str, str]) -> dict[str, Any]:
        """``risk-limit`` of one contract: its tiers, the smallest first."""
        if self.category != "linear":
            raise BybitError(10001, "params error: Category is invalid")
        row = self.row(query)
        found = [
            {
                "id": number,
                "symbol": row.symbol,
                "riskLimitValue": exact_text(tier.cap),
                "maintenanceMargin": exact_text(tier.maintenance_rate),
                "initialMargin": exact_text(tier.initial_rate),
                "isLowestRisk": int(number == 1),
                "maxLeverage": str(tier.leverage_max),
                "mmDeduction": exact_text(tier.deduction) if tier.deduction else "",
            }
            for number, tier in enumerate(row.tiers, 1)
        ]
        return {"category": self.category, "list": found, "nextPageCursor": ""}

    def _ticker(self, row: SimInstrument) -> dict[str, Any]:
        _, bids, asks = self.venue.depth(row.symbol, 1)
        mark = exact_text(round(self.venue.mark_price(row.symbol), 8))
        day = day_figures(row, self.trades.of(row.symbol))
        (bid, bid_qty), (ask, ask_qty) = (levels(row, side)[0] if side else ["", ""] for side in (bids, asks))
        found: dict[str, Any] = {"symbol": row.symbol, "bid1Price": bid, "bid1Size": bid_qty, "ask1Price": ask}
        found |= {"ask1Size": ask_qty, "lastPrice": day.last, "prevPrice24h": day.first}
        found |= {"price24hPcnt": exact_text(round(day.ratio, 6)), "highPrice24h": day.high, "lowPrice24h": day.low}
        found |= {"turnover24h": exact_text(day.quote), "volume24h": exact_text(day.base)}
        if self.category == "linear":
            found |= {"markPrice": mark, "indexPrice": mark, "fundingRate": exact_text(row.funding_rate)}
            found |= {"nextFundingTime": str(row.funding_next_s * 1000), "openInterest": "0", "openInterestValue": "0"}
        return found


def _info(row: SimInstrument, category: str) -> dict[str, Any]:
    status = "Trading" if row.status is TradingStatus.TRADING else "Closed"
    found: dict[str, Any] = {"symbol": row.symbol, "baseCoin": row.base, "quoteCoin": row.quote, "status": status}
    most = exact_text(row.max_qty or QTY_MAX)
    if category == "spot":
        lots = {
            "basePrecision": exact_text(row.lot),
            "quotePrecision": "0.00000001",
            "minOrderQty": exact_text(row.lot),
        }
        lots |= {"maxOrderQty": most, "maxLimitOrderQty": most, "maxMarketOrderQty": most}
        lots |= {"minOrderAmt": exact_text(row.min_notional), "maxOrderAmt": "4000000"}
        found |= {"innovation": "0", "symbolType": "", "marginTrading": "none", "lotSizeFilter": lots}
        return {**found, "priceFilter": {"tickSize": exact_text(row.tick)}}
    lots = {"minOrderQty": exact_text(row.min_qty or row.lot), "qtyStep": exact_text(row.lot), "maxOrderQty": most}
    lots |= {"maxMktOrderQty": most, "minNotionalValue": exact_text(row.min_notional), "postOnlyMaxOrderQty": most}
    found |= {"contractType": "LinearPerpetual", "settleCoin": row.quote, "launchTime": "1585526400000"}
    found |= {"deliveryTime": "0", "deliveryFeeRate": "", "priceScale": "2", "unifiedMarginTrade": True}
    found |= {"leverageFilter": {"minLeverage": "1", "maxLeverage": str(row.leverage_max), "leverageStep": "0.01"}}
    found |= {"lotSizeFilter": lots, "fundingInterval": row.funding_interval_s // MINUTE_S, "copyTrading": "none"}
    prices = {"minPrice": exact_text(row.tick), "maxPrice": "1999999.98", "tickSize": exact_text(row.tick)}
    return {**found, "priceFilter": prices}
