"""Gate.io futures: public lists around a contract, and the account's book.

Source: Gate.io APIv4 "Futures": candlesticks, premium index, funding rates, risk limit tiers, contract statistics,
insurance, index constituents, liquidations, account book.
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pipeline.sim.exchange.accounts import BookEntry
from pipeline.sim.exchange.history import shown_book
from pipeline.sim.wire.gateio import candles
from pipeline.sim.wire.gateio.api import DAY_S, FuturesContracts, Route, page, span_ms
from pipeline.sim.wire.gateio.formats import ApiRequest, GateError
from pipeline.sim.wire.numbers import exact_text

_KINDS = {
    "deposit": "dnw",
    "withdraw": "dnw",
    "pnl": "pnl",
    "fee": "fee",
    "fund": "fund",
    "point-fee": "point_fee",
}
_KIND_NAMES = frozenset(
    ("dnw", "pnl", "fee", "refr", "fund", "point_dnw", "point_fee", "point_refr", "bonus_offset", "cross_settle")
)
_STILL = (  # figures of other traders: there are none
    *("lsr_taker", "lsr_account", "top_lsr_account", "top_lsr_size"),
    *("long_liq_size", "long_liq_amount", "long_liq_usd", "short_liq_size", "short_liq_amount", "short_liq_usd"),
)


class FuturesInfoApi(FuturesContracts):
    """Handlers of lists that no order depends on."""

    def routes(self) -> dict[tuple[str, str], Route]:
        usdt = "/api/v4/futures/usdt"
        return {
            ("GET", f"{usdt}/candlesticks"): Route(self._candles, "candles", False),
            ("GET", f"{usdt}/premium_index"): Route(self._premium, "candles", False),
            ("GET", f"{usdt}/funding_rate"): Route(self._funding_rate, "ticker", False),
            ("GET", f"{usdt}/risk_limit_tiers"): Route(self._tiers, "instruments", False),
            ("GET", f"{usdt}/contract_stats"): Route(self._stats, "ticker", False),
            ("GET", f"{usdt}/insurance"): Route(self._insurance, "ticker", False),
            ("GET", f"{usdt}/index_constituents/{{}}"): Route(self._constituents, "instruments", False),
            ("GET", f"{usdt}/liq_orders"): Route(self._liquidations, "public_trades", False),
            ("GET", f"{usdt}/account_book"): Route(self._book, "account_book"),
        }

    async def _candles(self, call: ApiRequest) -> Any:
        """``mark_`` and ``index_`` before a contract ask for those prices."""
        name = call.required("contract")
        instrument = self.instrument(candles.split_contract(name)[0])
        series = candles.series_of(self.venue, name)
        return candles.futures_rows(call, instrument, name, series) if series is not None else []

    async def _premium(self, call: ApiRequest) -> Any:
        """The mark is the index here: no premium at any time."""
        name = self.instrument(call.required("contract")).symbol
        series = self.venue.mark_candles[name]
        found = candles.futures_rows(call, self.venue.instruments[name], f"mark_{name}", series)
        return [{"t": one["t"], "c": "0", "h": "0", "l": "0", "o": "0"} for one in found]

    async def _funding_rate(self, call: ApiRequest) -> Any:
        """What has been applied since the start, newest first."""
        symbol = self.instrument(call.required("contract")).symbol
        start_s, end_s = call.integer("from", 0), call.integer("to", call.now_ms // 1000)
        paid = [one for one in self.venue.funding_paid.get(symbol, []) if start_s <= one[0] <= end_s]
        return [{"t": time_s, "r": exact_text(rate)} for time_s, rate in page(paid[::-1], call)]

    async def _tiers(self, call: ApiRequest) -> Any:
        symbol = call.text("contract")
        wanted = [self.instrument(symbol)] if symbol else page(list(self.venue.instruments.values()), call)
        return [
            {
                "tier": index + 1,
                "risk_limit": exact_text(tier.cap),
                "initial_rate": exact_text(tier.initial_rate),
                "maintenance_rate": exact_text(tier.maintenance_rate),
                "leverage_max": str(tier.leverage_max),
                "deduction": exact_text(tier.deduction),
                "contract": one.symbol,
            }
            for one in wanted
            for index, tier in enumerate(one.tiers)
        ]

    async def _stats(self, call: ApiRequest) -> Any:
        """Open interest is what the simulated users hold; no other is known."""
        instrument = self.instrument(call.required("contract"))
        accounts = {id(one): one for one in self.venue.accounts.values()}.values()
        held = sum(
            (abs(row.qty) for one in accounts for row in one.positions.values() if row.symbol == instrument.symbol),
            Decimal(0),
        )
        length_s = candles.INTERVALS.get(call.text("interval", "5m"))
        if length_s is None:
            raise GateError("INVALID_PARAM_VALUE", "Invalid request parameter `interval`")
        now_s = call.now_ms // 1000
        limit = max(1, min(call.integer("limit", 30), 100))
        first_s = call.integer("from", now_s - (limit + 1) * length_s)
        found = self.venue.mark_candles[instrument.symbol].between(length_s, first_s, now_s, most=limit)
        interest = held / instrument.multiplier
        still = dict.fromkeys(_STILL, 0)
        return [
            still
            | {
                "time": one.start_s,
                "open_interest": int(interest),
                "open_interest_usd": float(held * one.close),
                "mark_price": float(one.close),
            }
            for one in found
        ]

    async def _insurance(self, call: ApiRequest) -> Any:
        return [{"t": call.now_ms // 1000 // DAY_S * DAY_S, "b": "0"}]

    async def _constituents(self, call: ApiRequest) -> Any:
        symbol = self.instrument(call.args[0]).symbol
        return {"index": symbol, "constituents": [{"exchange": "Gate.io", "symbols": [symbol]}]}

    async def _liquidations(self, call: ApiRequest) -> Any:
        """Liquidations of other traders: none. A user's own are in ``liquidates``."""
        if call.text("contract"):
            self.instrument(call.text("contract"))
        return []

    async def _book(self, call: ApiRequest) -> Any:
        """Newest first; ``type`` and ``contract`` choose."""
        start_ms, end_ms = span_ms(call, default_s=30 * DAY_S)
        kind, symbol = call.text("type"), call.text("contract")
        if kind and kind not in _KIND_NAMES:
            raise GateError("INVALID_PARAM_VALUE", f"Invalid request parameter `type` value: {kind}")
        found = [
            one
            for one in reversed(shown_book(call.owner, call.now_ms))
            if start_ms <= one.ts_ms <= end_ms
            and kind in ("", _KINDS.get(one.reason, "dnw"))
            and symbol in ("", one.symbol)
        ]
        return [_book_row(one) for one in page(found, call)]


def _book_row(entry: BookEntry) -> dict[str, Any]:
    """``time`` is a number that may have a fraction; whole seconds are sent: ccxt's Python cannot read others."""
    return {
        "time": entry.ts_ms // 1000,
        "change": exact_text(entry.change),
        "balance": exact_text(entry.balance),
        "text": f"{entry.symbol}:{entry.order_id}" if entry.order_id else entry.symbol,
        "type": _KINDS.get(entry.reason, "dnw"),
        "contract": entry.symbol,
        "trade_id": str(entry.trade_id) if entry.trade_id else "",
        "id": str(entry.entry_id),
    }
