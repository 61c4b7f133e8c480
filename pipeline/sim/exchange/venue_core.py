"""The base of a simulated venue: instruments, clock, books, accounts and pushes."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import replace
from decimal import Decimal
from functools import partial

from pipeline.model.enums import InstrumentKind, OrderSide
from pipeline.sim.exchange.accounts import ApiKey, SimAccount, SimPosition
from pipeline.sim.exchange.candles import CandleSeries
from pipeline.sim.exchange.decimals import ZERO
from pipeline.sim.exchange.events import AccountCallback, AccountEvent, MarketCallback, TradeEvent, symbol_of
from pipeline.sim.exchange.faults import FaultPlan
from pipeline.sim.exchange.futures.margin import MarginAccount, backing, liquidation_price, required_margin, unrealised
from pipeline.sim.exchange.futures.positions import position_of, positions_of
from pipeline.sim.exchange.instruments import Level, SimInstrument
from pipeline.sim.exchange.latency import NS_PER_MS, LatencyProfile, Link, ManualClock
from pipeline.sim.exchange.market_events import VenueFeed
from pipeline.sim.exchange.order_book import ASK, BID, SimBook
from pipeline.sim.exchange.orders import RejectReason, SimReject
from pipeline.sim.exchange.settlement import Settlement
from pipeline.sim.exchange.venue_ledger import VenueLedger

OwnFillCallback = Callable[[str, OrderSide, int, int], None]  # symbol, side, price ticks, units


class VenueCore:
    """Instruments, clock, books, accounts and pushes: everything of a venue but orders."""

    def __init__(
        self,
        *,
        name: str,
        exchange: str,
        kind: InstrumentKind,
        instruments: list[SimInstrument],
        clock: ManualClock,
        ledger: VenueLedger,
        faults: FaultPlan,
        seed: int,
        latency: LatencyProfile | None = None,
        ticker_interval_ms: int = 10,
        refill_ms: float = 400.0,
        rejects_unfillable: bool = True,
        settle_asset: str = "USDT",
    ) -> None:
        """``rejects_unfillable``: a FOK or post-only order that cannot stand is refused (Gate.io) instead of being
        accepted and cancelled at once (MEXC). ``refill_ms``: mean time until makers come back to a price that an
        own order consumed."""
        self.name = name
        self.exchange = exchange
        self.kind = kind
        self.settle_asset = settle_asset
        self.clock = clock
        self.ledger = ledger
        self.faults = faults
        self.latency = latency or LatencyProfile()
        self.instruments: dict[str, SimInstrument] = {row.symbol: row for row in instruments}
        self.accounts: dict[str, SimAccount] = {}  # by API key; several keys may share one account
        self.skew_ms = 0
        self._refill_ms = refill_ms
        self._rejects_unfillable = rejects_unfillable
        self._rng = random.Random(f"{seed}:{name}:reaction")  # never drawn from by the market path
        rng = random.Random(f"{seed}:{name}:latency")
        jitter = self.latency.jitter
        self.order_link = Link(clock, rng, self.latency.order_us, jitter)
        self.ack_link = Link(clock, rng, self.latency.match_us + self.latency.ack_us, jitter)
        self._private_link = Link(clock, rng, self.latency.match_us + self.latency.private_us, jitter)
        self.rest_link = Link(clock, rng, self.latency.rest_us, jitter)
        first_id = random.Random(f"{seed}:{name}:ids").randrange(10**9, 9 * 10**9)
        self.books: dict[str, SimBook] = {}
        for index, symbol in enumerate(self.instruments):
            self.books[symbol] = SimBook(first_id + index * 50_000_000)
        self.feed = VenueFeed(
            venue=name,
            books=self.books,
            clock=clock,
            ledger=ledger,
            faults=faults,
            link=Link(clock, rng, self.latency.feed_us, jitter),
            now_ms=self.now_ms,
            ticker_interval_ms=ticker_interval_ms,
            shift_ns=int(self.latency.feed_delay_ms * NS_PER_MS),
        )
        self.settlement = Settlement(name, ledger, self._push, self.now_ms, clock.mono_ns, settle_asset)
        self.last_prices: dict[str, Decimal] = {}
        self.candles: dict[str, CandleSeries] = {symbol: CandleSeries() for symbol in self.instruments}
        self.mark_candles: dict[str, CandleSeries] = {symbol: CandleSeries() for symbol in self.instruments}
        self.funding_paid: dict[str, list[tuple[int, Decimal]]] = {}  # (wall seconds, rate) of each funding so far
        self.on_own_fill: list[OwnFillCallback] = []
        self._order_seq = first_id
        self._trade_seq = first_id // 7
        self._held_event: AccountEvent | None = None  # kept back to be sent after its successor
        self.order_id_text: Callable[[int], str] = str  # as the wire writes them; set by the server
        self.trade_id_text: Callable[[int], str] = str
        self.client_id_prefix = ""  # that the wire puts before a client's own id
        self.signed_ahead_ms_max: int | None = None  # as the wire dialect has it
        self.orders_per_s = 10  # of one account
        self._listeners: dict[int, list[AccountCallback]] = {}  # by id(account)
        ledger.add_venue(name, self.wall_ns)
        self._enlist(instruments)

    def _enlist(self, instruments: list[SimInstrument]) -> None:
        """Gives each instrument its mark price and the ledger its row."""
        for row in instruments:
            row.reference = partial(self.mark_price, row.symbol)
            self.ledger.append(
                "instrument",
                self.name,
                symbol=row.symbol,
                base=row.base,
                quote=row.quote,
                instrument_kind=row.kind.name.lower(),
                tick=row.tick,
                lot=row.lot,
                multiplier=row.multiplier,
                taker_fee_ppm=row.taker_fee_ppm,
                maker_fee_ppm=row.maker_fee_ppm,
                fee_rule=row.fee_rule.name,
                min_qty=row.min_qty,
                min_notional=row.min_notional,
            )

    # --- time and accounts ---

    def wall_ns(self) -> int:
        """The venue's own clock (a fault may skew it)."""
        return self.clock.wall_ns() + self.skew_ms * NS_PER_MS

    def now_ms(self) -> int:
        """The same in unix ms."""
        return self.wall_ns() // NS_PER_MS

    def stream_ms(self) -> int:
        """The time that a frame which arrives now was sent at: the clock less a constant delay of the feed."""
        return self.now_ms() - int(self.latency.feed_delay_ms)

    def add_account(self, uid: str, keys: list[ApiKey], balances: dict[str, Decimal]) -> SimAccount:
        """Opens an account with starting balances (ledger entries with reason ``deposit``)."""
        account = SimAccount(uid=uid, keys={key.api_key: key for key in keys})
        for key in keys:
            self.accounts[key.api_key] = account
        for asset, amount in balances.items():
            self.settlement.external(account, asset, amount, "deposit")
        return account

    def on_account(self, account: SimAccount, callback: AccountCallback) -> Callable[[], None]:
        """Registers a private-stream listener; returns its removal."""
        listeners = self._listeners.setdefault(id(account), [])
        listeners.append(callback)

        def remove() -> None:
            if callback in listeners:
                listeners.remove(callback)

        return remove

    # --- market data ---

    def on_market(self, callback: MarketCallback) -> Callable[[], None]:
        """Registers for every ``MarketEvent`` of this venue (deltas of every open interval, trades, tickers)."""
        return self.feed.listen(callback)

    def open_book_stream(self, symbol: str, interval_ms: int) -> None:
        """Starts (once) the deltas of ``symbol`` aggregated per ``interval_ms``; they come as ``BookDelta``."""
        self.feed.open(symbol, interval_ms)

    def depth(self, symbol: str, limit: int) -> tuple[int, list[Level], list[Level]]:
        """(update id, bids, asks) now, best first, in ticks and units; own resting orders included."""
        book = self.books[symbol]
        return book.update_id, book.top(BID, limit), book.top(ASK, limit)

    def mark_price(self, symbol: str) -> Decimal:
        """Mid of the book; the last trade, then 0, where a side is empty."""
        book, row = self.books[symbol], self.instruments[symbol]
        bid, ask = book.best_bid(), book.best_ask()
        if bid is None or ask is None:
            return self.last_prices.get(symbol, ZERO)
        return (row.price(bid) + row.price(ask)) / 2

    def open_charts(self) -> None:
        """The charts begin at the opening price, without a trade: a venue's chart is never empty."""
        for symbol in self.instruments:
            price = self.mark_price(symbol)
            if price:
                self.candles[symbol].add(self.now_ms(), price, ZERO)
                self.mark_candles[symbol].add(self.now_ms(), price, ZERO)

    def publish_trade(self, symbol: str, price: int, units: int, taker: OrderSide) -> int:
        """Publishes one trade; returns its id."""
        self._trade_seq += 1
        row, now_ms = self.instruments[symbol], self.now_ms()
        self.last_prices[symbol] = row.price(price)
        self.candles[symbol].add(now_ms, row.price(price), row.qty(units))
        if row.is_futures:
            self.mark_candles[symbol].add(now_ms, self.mark_price(symbol), ZERO)
        self.feed.trade(symbol, price, units, taker, self._trade_seq)
        return self._trade_seq

    # --- positions ---

    def position(self, account: SimAccount, symbol: str, mode: str = "single") -> SimPosition:
        """The futures position, zero if there never was one."""
        return position_of(account, symbol, mode)

    def set_leverage(
        self,
        account: SimAccount,
        symbol: str,
        leverage: Decimal,
        *,
        is_cross: bool | None = None,
        mode: str | None = None,
    ) -> None:
        """Leverage and margin mode of a contract, in dual mode of both sides unless ``mode`` names one.

        ``is_cross`` None leaves the margin mode. Raises ``SimReject`` when the margin is not there or the position
        would be liquidated at once.
        """
        mark = self.mark_price(symbol)
        for position in positions_of(account, symbol):
            if mode not in (None, position.mode):
                continue
            cross = position.is_cross if is_cross is None else is_cross
            if position.qty and not cross:
                margin = abs(position.cost) / leverage + unrealised(position, mark)
                if margin <= required_margin(self.instruments[symbol], position.qty, mark):
                    raise SimReject(RejectReason.WOULD_LIQUIDATE, f"{symbol}: margin balance {margin:.8f}")
            free = self.margin_account(account).available
            self.settlement.set_margin_mode(account, position, leverage, cross, mark, free)

    def margin_account(self, account: SimAccount) -> MarginAccount:
        """The futures wallet at the marks of now."""
        return self.settlement.margin(account, self.settle_asset, self.mark_price, self.instruments)

    def backing(self, account: SimAccount, position: SimPosition, *, less_required: bool = True) -> Decimal:
        """See ``margin.backing``; at the marks of now."""
        held = list(account.positions.values())
        total = account.wallet(self.settle_asset).total
        return backing(position, total, held, self.mark_price, self.instruments, less_required=less_required)

    def liquidation_price(self, account: SimAccount, position: SimPosition) -> Decimal | None:
        """The mark at which the position is liquidated, all others as now; None = never, or no position."""
        row = self.instruments[position.symbol]
        return liquidation_price(row, position.qty, position.cost, self.backing(account, position))

    # --- private stream ---

    def _push(self, account: SimAccount, event: AccountEvent) -> None:
        """Delivers to the account's listeners after the private-stream latency, in order; faults may interfere."""
        listeners = self._listeners.get(id(account))
        if not listeners:
            return
        copies = 1
        held, self._held_event = self._held_event, None
        if self.faults.rules:
            hits = partial(self.faults.stream, venue=self.name, target="private", symbol=symbol_of(event))
            if hits("stall") or hits("drop_event"):
                return
            if hits("duplicate_event"):
                copies = 2
            if held is None and hits("reorder_event"):
                self._held_event = event
                return
            if isinstance(event, TradeEvent) and hits("overfill"):
                qty = event.trade.qty + event.order.qty
                trade = replace(event.trade, qty=qty, quote=event.trade.quote * qty / event.trade.qty)
                event = replace(event, trade=trade)
            if isinstance(event, TradeEvent) and hits("unnamed_fee"):
                event = replace(event, trade=replace(event.trade, fee=ZERO, fee_asset="", coin_fee=ZERO, coin_asset=""))
            delay = hits("delay_stream")
            self._private_link.extra_ns = int(delay.delay_ms * NS_PER_MS) if delay is not None else 0

        def deliver() -> None:
            for listener in list(listeners):
                listener(event)
                if held is not None:
                    listener(held)

        for _ in range(copies):
            self._private_link.deliver(deliver)
