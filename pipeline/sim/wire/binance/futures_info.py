"""Binance USDⓈ-M public lists around a contract: mark price, funding, open interest, candles of the mark.

Source: Binance USDⓈ-M futures API "Market Data" (read 2026).
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pipeline.sim.exchange.instruments import SimInstrument
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.binance.formats import BinanceError
from pipeline.sim.wire.binance.futures_rows import places
from pipeline.sim.wire.binance.public_api import KLINES
from pipeline.sim.wire.binance.request import ApiRequest, Route, instrument_of
from pipeline.sim.wire.numbers import exact_text

USUAL_INTERVAL_S = 8 * 3600
ROWS_MAX = 1000


class FuturesInfoApi:
    """Handlers that need no key."""

    def __init__(self, venue: SimVenue) -> None:
        self._venue = venue

    def rest_routes(self) -> dict[tuple[str, str], Route]:
        v1 = "/fapi/v1"
        return {
            ("GET", f"{v1}/premiumIndex"): Route(self._premium, "ticker", 10, False),
            ("GET", f"{v1}/fundingRate"): Route(self._funding_rates, "ticker", 1, False),
            ("GET", f"{v1}/fundingInfo"): Route(self._funding_info, "instruments", 1, False),
            ("GET", f"{v1}/openInterest"): Route(self._open_interest, "ticker", 1, False),
            ("GET", f"{v1}/markPriceKlines"): Route(self._mark_klines, "candles", 1, False),
            ("GET", f"{v1}/indexPriceKlines"): Route(self._mark_klines, "candles", 1, False),
        }

    def _chosen(self, call: ApiRequest) -> list[SimInstrument]:
        symbol = call.params.get("symbol")
        return [instrument_of(self._venue, symbol)] if symbol else list(self._venue.instruments.values())

    def mark_row(self, row: SimInstrument) -> dict[str, Any]:
        """Mark, index and funding of a contract now."""
        mark = places(row.reference_price())
        return {"mark": mark, "rate": exact_text(row.funding_rate), "next_ms": row.funding_next_s * 1000}

    async def _premium(self, call: ApiRequest) -> Any:
        """The mark is the index here."""
        found = []
        for row in self._chosen(call):
            shown = self.mark_row(row)
            found.append(
                {
                    "symbol": row.symbol,
                    "markPrice": shown["mark"],
                    "indexPrice": shown["mark"],
                    "estimatedSettlePrice": shown["mark"],
                    "lastFundingRate": shown["rate"],
                    "interestRate": "0.00010000",
                    "nextFundingTime": shown["next_ms"],
                    "time": call.now_ms,
                }
            )
        return found[0] if "symbol" in call.params else found

    async def _funding_info(self, call: ApiRequest) -> Any:
        """Only contracts with another interval than the usual one."""
        return [
            {
                "symbol": row.symbol,
                "adjustedFundingRateCap": "0.02000000",
                "adjustedFundingRateFloor": "-0.02000000",
                "fundingIntervalHours": row.funding_interval_s // 3600,
                "disclaimer": False,
            }
            for row in self._venue.instruments.values()
            if row.funding_interval_s not in (0, USUAL_INTERVAL_S) and row.funding_interval_s % 3600 == 0
        ]

    async def _funding_rates(self, call: ApiRequest) -> Any:
        """What has been applied since the start, oldest first."""
        start_ms, end_ms = call.integer("startTime", 0), call.integer("endTime", call.now_ms)
        found = [
            {
                "symbol": row.symbol,
                "fundingRate": exact_text(rate),
                "fundingTime": time_s * 1000,
                "markPrice": places(row.reference_price()),
            }
            for row in self._chosen(call)
            for time_s, rate in self._venue.funding_paid.get(row.symbol, [])
            if start_ms <= time_s * 1000 <= end_ms
        ]
        return found[-min(call.integer("limit", 100), ROWS_MAX) :]

    async def _open_interest(self, call: ApiRequest) -> Any:
        """What the simulated users hold; no other is known."""
        row = instrument_of(self._venue, call.required("symbol"))
        accounts = {id(one): one for one in self._venue.accounts.values()}.values()
        held = sum(
            (abs(one.qty) for account in accounts for one in account.positions.values() if one.symbol == row.symbol),
            Decimal(0),
        )
        return {"symbol": row.symbol, "openInterest": exact_text(held), "time": call.now_ms}

    async def _mark_klines(self, call: ApiRequest) -> Any:
        """Oldest first."""
        symbol = call.params.get("symbol") or call.required("pair")
        row, length_s = instrument_of(self._venue, symbol), KLINES.get(call.required("interval"))
        if length_s is None:
            raise BinanceError(-1120, "Invalid interval.")
        end_s = min(call.integer("endTime", call.now_ms), call.now_ms) // 1000
        start_s = -(-call.integer("startTime", 0) // 1000)
        limit = min(call.integer("limit", 500) or 500, ROWS_MAX)
        found = self._venue.mark_candles[row.symbol].between(length_s, start_s, end_s, monday=True)
        return [
            [
                one.start_s * 1000,
                *(places(value) for value in (one.open, one.high, one.low, one.close)),
                "0",
                (one.start_s + length_s) * 1000 - 1,
                "0", 0, "0", "0", "0",
            ]
            for one in (found[:limit] if start_s else found[-limit:])
        ]  # fmt: skip
