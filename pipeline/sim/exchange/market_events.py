"""The market feed of a venue: book changes become deltas per interval and tickers, with feed latency and feed faults.

A delta of an interval holds the net changed levels since the delta before; nothing is sent for an interval without
change. Flushes fall on a grid (the venue's ticks of 10, 20, 100 ms) with one phase per symbol. Tickers follow a
change of a best level, at most one per ``ticker_interval_ms`` and symbol, with the newest values.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field, replace
from functools import partial

from pipeline.model.enums import OrderSide
from pipeline.sim.exchange.events import BookDelta, MarketCallback, MarketEvent, MarketTrade, Ticker
from pipeline.sim.exchange.faults import FaultPlan
from pipeline.sim.exchange.instruments import Level
from pipeline.sim.exchange.latency import NS_PER_MS, Link, ManualClock
from pipeline.sim.exchange.order_book import ASK, BID, Changes, SimBook
from pipeline.sim.exchange.venue_ledger import VenueLedger


@dataclass(slots=True, eq=False)
class _Stream:
    """One aggregation of one symbol."""

    symbol: str
    interval_ms: int
    prev_id: int
    phase_ns: int
    changes: Changes = field(default_factory=Changes)
    scheduled: bool = False


@dataclass(slots=True)
class _TickerState:
    bid: Level | None = None
    ask: Level | None = None
    scheduled: bool = False
    last_ns: int = -(1 << 62)


class VenueFeed:
    """Publishes the books and trades of one venue to its listeners."""

    def __init__(
        self,
        *,
        venue: str,
        books: dict[str, SimBook],
        clock: ManualClock,
        ledger: VenueLedger,
        faults: FaultPlan,
        link: Link,
        now_ms: Callable[[], int],
        ticker_interval_ms: int,
        shift_ns: int,
    ) -> None:
        self._venue = venue
        self._books = books
        self._clock = clock
        self._ledger = ledger
        self._faults = faults
        self._link = link
        self._now_ms = now_ms
        self._ticker_interval_ns = ticker_interval_ms * NS_PER_MS
        self._shift_ns = shift_ns
        self._link.extra_ns = shift_ns
        self._callbacks: list[MarketCallback] = []
        self._streams: dict[str, list[_Stream]] = {symbol: [] for symbol in books}
        self._tickers: dict[str, _TickerState] = {symbol: _TickerState() for symbol in books}
        self._held: BookDelta | None = None  # a delta kept back to be swapped with its successor
        self.delivered = 0
        for symbol, book in books.items():
            book.on_change = partial(self._changed, symbol)

    def listen(self, callback: MarketCallback) -> Callable[[], None]:
        self._callbacks.append(callback)

        def remove() -> None:
            if callback in self._callbacks:
                self._callbacks.remove(callback)

        return remove

    def open(self, symbol: str, interval_ms: int) -> None:
        streams = self._streams[symbol]
        if any(stream.interval_ms == interval_ms for stream in streams):
            return
        book = self._books[symbol]
        interval_ns = interval_ms * NS_PER_MS
        phase_ns = (len(self._streams) * 7_919_003 + sum(symbol.encode()) * 104_729) % interval_ns
        stream = _Stream(symbol, interval_ms, book.update_id, phase_ns)
        streams.append(stream)
        book.dirty = False
        book.sinks.append(stream.changes)

    def trade(self, symbol: str, price: int, units: int, taker: OrderSide, trade_id: int) -> None:
        self._emit(MarketTrade(symbol, price, units, taker, trade_id, self._now_ms()))

    def _changed(self, symbol: str) -> None:
        """First change since the last flush: schedules what is not scheduled; the flushes clear the flags."""
        now_ns = self._clock.mono_ns()
        for stream in self._streams[symbol]:
            if not stream.scheduled:
                stream.scheduled = True
                interval_ns = stream.interval_ms * NS_PER_MS
                due_ns = now_ns - (now_ns - stream.phase_ns) % interval_ns + interval_ns
                self._clock.call_at(due_ns, partial(self._flush, stream))
        state = self._tickers[symbol]
        if not state.scheduled:
            state.scheduled = True
            due_ns = max(now_ns, state.last_ns + self._ticker_interval_ns)
            self._clock.call_at(due_ns, lambda: self._flush_ticker(symbol, state))

    def _flush(self, stream: _Stream) -> None:
        stream.scheduled = False
        changes, book = stream.changes, self._books[stream.symbol]
        book.dirty = False
        if not changes:
            return
        ts_ms = self._now_ms()
        bid, ask = book.best_level(BID), book.best_level(ASK)
        delta = BookDelta(
            stream.symbol,
            stream.interval_ms,
            stream.prev_id + 1,
            book.update_id,
            stream.prev_id,
            sorted(changes.bids.items(), reverse=True),
            sorted(changes.asks.items()),
            ts_ms,
            bid,
            ask,
        )
        changes.clear()
        stream.prev_id = book.update_id
        bid_price, bid_qty = bid or (-1, -1)
        ask_price, ask_qty = ask or (-1, -1)
        version = (book.update_id, ts_ms, self._clock.mono_ns(), bid_price, bid_qty, ask_price, ask_qty)
        self._ledger.versions.add(
            self._venue, stream.symbol, stream.interval_ms, version, (delta.bids, delta.asks), book.whole
        )
        self._emit(delta)

    def _flush_ticker(self, symbol: str, state: _TickerState) -> None:
        state.scheduled = False
        book = self._books[symbol]
        book.dirty = False
        bid, ask = book.best_level(BID), book.best_level(ASK)
        if bid == state.bid and ask == state.ask:
            return
        state.bid, state.ask, state.last_ns = bid, ask, self._clock.mono_ns()
        self._emit(Ticker(symbol, bid, ask, book.update_id, self._now_ms()))

    def _emit(self, event: MarketEvent) -> None:
        if not self._callbacks:
            return
        if not self._faults.rules and self._held is None:
            self._link.extra_ns = self._shift_ns
            self._deliver(event)
            return
        for passed in self._with_faults(event):
            self._deliver(passed)

    def _with_faults(self, event: MarketEvent) -> list[MarketEvent]:
        plan, venue = self._faults, self._venue
        if plan.stream("stall", venue, "public", event.symbol) is not None:
            return []
        delay = plan.stream("delay_stream", venue, "public", event.symbol)
        self._link.extra_ns = self._shift_ns + (int(delay.delay_ms * NS_PER_MS) if delay is not None else 0)
        if not isinstance(event, BookDelta):
            return [event]
        if self._held is not None and self._held.symbol == event.symbol:
            held, self._held = self._held, None
            return [event, held]
        if plan.stream("drop_delta", venue, "depth", event.symbol) is not None:
            return []
        if plan.stream("duplicate_delta", venue, "depth", event.symbol) is not None:
            return [event, event]
        if plan.stream("crossed_delta", venue, "depth", event.symbol) is not None and event.best_ask is not None:
            price, units = event.best_ask
            return [replace(event, bids=[(price + 1, units), *event.bids])]
        if plan.stream("reorder_delta", venue, "depth", event.symbol) is not None:
            self._held = event
            return []
        return [event]

    def _deliver(self, event: MarketEvent) -> None:
        self.delivered += 1

        def hand_over() -> None:
            for callback in list(self._callbacks):
                callback(event)

        self._link.deliver(hand_over)
