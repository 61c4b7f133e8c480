"""Candles of one venue, fed by its own trades from the opening price on; nothing is made up before.

Trades are kept in steps of ten seconds (the finest that a venue offers), wider windows are built when a client
asks. A window without a trade repeats the close before it, flat and with no volume, as the venues' charts do.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal

from pipeline.sim.exchange.decimals import ZERO

STEP_S = 10
STEPS_MAX = 60_480  # a week in which every step has trades
MONTH_S = 30 * 86_400  # the name of a calendar month: windows of this length are months
WEEK_S = 7 * 86_400
_MONDAY_S = 4 * 86_400  # 1970-01-05, the first Monday


@dataclass(slots=True)
class Candle:
    """``base`` and ``quote`` are the volumes; ``start_s`` the first second of the window."""

    start_s: int
    open: Decimal
    high: Decimal
    low: Decimal
    close: Decimal
    base: Decimal = ZERO
    quote: Decimal = ZERO

    def absorb(self, later: Candle) -> None:
        """Adds the trades of a later candle of the same window."""
        self.high, self.low = max(self.high, later.high), min(self.low, later.low)
        self.close = later.close
        self.base += later.base
        self.quote += later.quote


def window_start_s(time_s: int, length_s: int, *, monday: bool = False) -> int:
    """First second of the window that holds ``time_s``; months are calendar months, weeks start at the epoch's
    weekday or on Mondays."""
    if length_s == MONTH_S:
        moment = datetime.fromtimestamp(time_s, UTC)
        return int(moment.replace(day=1, hour=0, minute=0, second=0).timestamp())
    shift_s = _MONDAY_S if monday and length_s == WEEK_S else 0
    return (time_s - shift_s) // length_s * length_s + shift_s


def window_end_s(start_s: int, length_s: int) -> int:
    """First second after the window."""
    if length_s == MONTH_S:
        return window_start_s(start_s + 32 * 86_400, length_s)
    return start_s + length_s


class CandleSeries:
    """The trades of one symbol as candles."""

    def __init__(self) -> None:
        self._steps: deque[Candle] = deque(maxlen=STEPS_MAX)

    def add(self, time_ms: int, price: Decimal, qty: Decimal) -> None:
        """One trade, in order of time."""
        start_s = time_ms // 1000 // STEP_S * STEP_S
        trade = Candle(start_s, price, price, price, price, qty, price * qty)
        if self._steps and self._steps[-1].start_s >= start_s:
            self._steps[-1].absorb(trade)
        else:
            self._steps.append(trade)

    def between(self, length_s: int, first_s: int, last_s: int, *, monday: bool = False, most: int = 0) -> list[Candle]:
        """Windows whose start lies in ``first_s`` ... ``last_s``, oldest first; of more than ``most`` the newest."""
        found: list[Candle] = []
        for step in self._steps:
            start_s = window_start_s(step.start_s, length_s, monday=monday)
            if start_s > last_s:
                break
            self._fill_to(found, start_s, length_s)
            if found and found[-1].start_s == start_s:
                found[-1].absorb(step)
            else:
                found.append(Candle(start_s, step.open, step.high, step.low, step.close, step.base, step.quote))
        self._fill_to(found, window_end_s(window_start_s(last_s, length_s, monday=monday), length_s), length_s)
        chosen = [one for one in found if first_s <= one.start_s <= last_s]
        return chosen[-most:] if most else chosen

    def _fill_to(self, found: list[Candle], until_s: int, length_s: int) -> None:
        """Flat candles between the last one and ``until_s``."""
        while found and (next_s := window_end_s(found[-1].start_s, length_s)) < until_s:
            close = found[-1].close
            found.append(Candle(next_s, close, close, close, close))

    def newest(self, length_s: int, now_s: int, *, monday: bool = False) -> Candle | None:
        """The window that holds now; None before the first trade."""
        start_s = window_start_s(now_s, length_s, monday=monday)
        if not self._steps:
            return None
        found: Candle | None = None
        for step in reversed(self._steps):
            if step.start_s < start_s:
                break
            merged = Candle(start_s, step.open, step.high, step.low, step.close, step.base, step.quote)
            if found is not None:
                merged.absorb(found)
            found = merged
        if found is None:
            close = self._steps[-1].close
            found = Candle(start_s, close, close, close, close)
        return found
