"""The newest public trades of a venue's symbols, for the REST lists, and the day's figures that follow from them."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from decimal import Decimal

from pipeline.sim.exchange.events import MarketTrade
from pipeline.sim.exchange.instruments import SimInstrument
from pipeline.sim.wire.numbers import exact_text

TRADES_KEPT = 1000  # of each symbol


class RecentTrades:
    """The last ``TRADES_KEPT`` trades of each symbol."""

    def __init__(self) -> None:
        self._kept: dict[str, deque[MarketTrade]] = {}

    def add(self, trade: MarketTrade) -> None:
        """Keeps a trade; the oldest of its symbol goes when there are too many."""
        self._kept.setdefault(trade.symbol, deque(maxlen=TRADES_KEPT)).append(trade)

    def of(self, symbol: str) -> Sequence[MarketTrade]:
        """Oldest first."""
        return self._kept.get(symbol) or ()

    def newest(self, symbol: str, limit: int) -> list[MarketTrade]:
        """At most ``limit``, newest first."""
        return list(self.of(symbol))[-limit:][::-1]


@dataclass(frozen=True, slots=True)
class DayFigures:
    """Statistics of the trades that are kept: the simulated day starts with the process.

    Prices are text in the instrument's digits; before the first trade all are the reference price, the volumes 0.
    """

    first: str
    last: str
    high: str
    low: str
    base: Decimal  # volume in base coin
    quote: Decimal  # volume in quote coin

    @property
    def ratio(self) -> Decimal:
        """Last price over first, less 1."""
        return Decimal(self.last) / Decimal(self.first) - 1 if Decimal(self.first) else Decimal(0)


def day_figures(instrument: SimInstrument, trades: Sequence[MarketTrade]) -> DayFigures:
    """``trades``: of the instrument, oldest first."""
    if not trades:
        price = exact_text(instrument.reference_price())
        return DayFigures(price, price, price, price, Decimal(0), Decimal(0))
    prices = [one.price for one in trades]
    first, last, high, low = map(instrument.price_text, (prices[0], prices[-1], max(prices), min(prices)))
    base = sum((instrument.qty(one.qty) for one in trades), Decimal(0))
    quote = sum((instrument.qty(one.qty) * instrument.price(one.price) for one in trades), Decimal(0))
    return DayFigures(first, last, high, low, base, quote)
