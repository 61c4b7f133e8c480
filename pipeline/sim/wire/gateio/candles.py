"""Gate.io candlesticks of both markets, REST and streams: spot in arrays of text, futures in objects.

Source: Gate.io APIv4 "Market K-line chart", "Futures market K-line chart"; WebSocket v4 "candlesticks".
"""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pipeline.sim.exchange.candles import MONTH_S, WEEK_S, Candle, CandleSeries, window_end_s
from pipeline.sim.exchange.instruments import SimInstrument
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.wire.gateio.formats import ApiRequest, GateError
from pipeline.sim.wire.gateio.futures_rows import contracts, size
from pipeline.sim.wire.numbers import exact_text

INTERVALS = {
    "10s": 10,
    "1m": 60,
    "5m": 300,
    "15m": 900,
    "30m": 1800,
    "1h": 3600,
    "4h": 14_400,
    "8h": 28_800,
    "1d": 86_400,
    "7d": WEEK_S,
    "30d": MONTH_S,
}
STREAM_INTERVALS = {name: length_s for name, length_s in INTERVALS.items() if name != "30d"}
FUTURES_INTERVALS = INTERVALS | {"1w": WEEK_S}
AGO_MAX = 10_000  # points that a query may reach back
_MARK, _INDEX = "mark_", "index_"


def split_contract(name: str) -> tuple[str, bool]:
    """(contract, is it a mark or index price): ``mark_BTC_USDT`` is the mark price of ``BTC_USDT``."""
    for prefix in (_MARK, _INDEX):
        if name.startswith(prefix):
            return name.removeprefix(prefix), True
    return name, False


def series_of(venue: SimVenue, name: str) -> CandleSeries | None:
    """The trades of a symbol, or its marks; None when there is no such symbol."""
    symbol, is_mark = split_contract(name)
    return (venue.mark_candles if is_mark else venue.candles).get(symbol)


def _chosen(call: ApiRequest, series: CandleSeries, intervals: dict[str, int], default: str, most: int) -> list[Candle]:
    """``limit``, or ``from`` and ``to``: never both."""
    name = call.text("interval", default)
    length_s = intervals.get(name)
    if length_s is None:
        raise GateError("INVALID_PARAM_VALUE", f"Invalid request parameter `interval` value: {name}")
    has_span = bool(call.text("from") or call.text("to"))
    if has_span and call.text("limit"):
        raise GateError("INVALID_PARAM_VALUE", "Invalid request parameter `limit`: conflicts with `from` and `to`")
    now_s = call.now_ms // 1000
    to_s = call.integer("to", now_s)
    points = call.integer("limit", 100)
    from_s = call.integer("from", to_s - (points - 1) * length_s)
    if points > most or (to_s - from_s) // length_s + 1 > most + 1:
        text = f"Candlestick range too broad. Maximum {most} data points are allowed per request"
        raise GateError("INVALID_PARAM_VALUE", text)
    if (now_s - from_s) // length_s > AGO_MAX:
        text = f"Candlestick too long ago. Maximum {AGO_MAX} points ago are allowed"
        raise GateError("INVALID_PARAM_VALUE", text)
    start_s = from_s - length_s + 1 if not has_span else from_s
    return series.between(length_s, start_s, min(to_s, now_s), monday=name == "1w", most=points if not has_span else 0)


def spot_rows(call: ApiRequest, series: CandleSeries) -> list[list[str]]:
    """GET /spot/candlesticks: time, quote volume, close, high, low, open, base volume, whether it has closed."""
    length_s, now_s = INTERVALS.get(call.text("interval", "30m"), 0), call.now_ms // 1000
    return [
        [
            str(one.start_s),
            exact_text(one.quote),
            exact_text(one.close),
            exact_text(one.high),
            exact_text(one.low),
            exact_text(one.open),
            exact_text(one.base),
            "true" if window_end_s(one.start_s, length_s) <= now_s else "false",
        ]
        for one in _chosen(call, series, INTERVALS, "30m", 1000)
    ]


def futures_rows(call: ApiRequest, instrument: SimInstrument, name: str, series: CandleSeries) -> list[dict[str, Any]]:
    """GET /futures/usdt/candlesticks; mark and index prices have no volume."""
    _, is_mark = split_contract(name)
    found = []
    for one in _chosen(call, series, FUTURES_INTERVALS, "5m", 2000):
        row: dict[str, Any] = {"t": one.start_s, "c": exact_text(one.close), "h": exact_text(one.high)}
        row |= {"l": exact_text(one.low), "o": exact_text(one.open)}
        if not is_mark:
            row |= {"v": _contracts(instrument, one.base, call.decimal_sizes), "sum": exact_text(one.quote)}
        found.append(row)
    return found


def _contracts(instrument: SimInstrument, base: Decimal, decimal_sizes: bool) -> str | int:
    return size(contracts(instrument, base), decimal_sizes)


def spot_push(candle: Candle, subscription: str, closed: bool) -> dict[str, Any]:
    """``spot.candlesticks``: all text.

    ``v``: quote volume, ``a``: base volume, ``n``: the subscription, ``w``: whether the window has closed.
    """
    return {
        "t": str(candle.start_s),
        "v": exact_text(candle.quote),
        "c": exact_text(candle.close),
        "h": exact_text(candle.high),
        "l": exact_text(candle.low),
        "o": exact_text(candle.open),
        "n": subscription,
        "a": exact_text(candle.base),
        "w": closed,
    }


def futures_push(
    candle: Candle, subscription: str, closed: bool, instrument: SimInstrument, decimal_sizes: bool
) -> list[dict[str, Any]]:
    """``futures.candlesticks``: an array; time and volume (contracts) are numbers."""
    volume = _contracts(instrument, candle.base, decimal_sizes)
    return [spot_push(candle, subscription, closed) | {"t": candle.start_s, "v": volume}]
