"""A simulated venue: its instruments, clock, matching, accounts, and what it pushes. Wire formats live in dialects.

``SimVenue`` runs in one asyncio thread. ``place``/``cancel`` are what the matching engine does at the moment a
request reaches it; ``submit``/``submit_cancel`` put the network and the engine around them (order latency, matching
time, acknowledgement) and are what a dialect calls. Pushes come by callback after feed or private-stream latency, in
order. See ``types`` for every structure.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from decimal import Decimal
from functools import partial

from pipeline.model.enums import InstrumentKind, OrderKind, OrderSide, TimeInForce, TradingStatus
from pipeline.sim.faults import FaultPlan
from pipeline.sim.feedline import FeedLine
from pipeline.sim.latency import NS_PER_MS, LatencyProfile, Line, ManualClock
from pipeline.sim.ledger import Ledger
from pipeline.sim.matching import ASK, BID, Resting, SimBook
from pipeline.sim.settlement import MarginAccount, Settlement, opening_qty
from pipeline.sim.types import (
    PPM,
    ZERO,
    AccountCallback,
    AccountEvent,
    ApiKey,
    Level,
    MarketCallback,
    OrderEvent,
    OrderStatus,
    RejectReason,
    SimAccount,
    SimInstrument,
    SimOrder,
    SimOrderRequest,
    SimPosition,
    SimReject,
    SimTrade,
    TradeEvent,
)

OPEN_ORDERS_MAX = 200
OwnFillCallback = Callable[[str, OrderSide, int, int], None]  # symbol, side, price ticks, units


class SimVenue:
    """One tradable segment of one exchange."""

    def __init__(
        self,
        *,
        name: str,
        exchange: str,
        kind: InstrumentKind,
        instruments: list[SimInstrument],
        clock: ManualClock,
        ledger: Ledger,
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
        lines = random.Random(f"{seed}:{name}:latency")
        jitter = self.latency.jitter
        self._order_line = Line(clock, lines, self.latency.order_us, jitter)
        self._ack_line = Line(clock, lines, self.latency.match_us + self.latency.ack_us, jitter)
        self._private_line = Line(clock, lines, self.latency.match_us + self.latency.private_us, jitter)
        self.rest_line = Line(clock, lines, self.latency.rest_us, jitter)
        first_id = random.Random(f"{seed}:{name}:ids").randrange(10**9, 9 * 10**9)
        self.books: dict[str, SimBook] = {}
        for index, symbol in enumerate(self.instruments):
            self.books[symbol] = SimBook(first_id + index * 50_000_000)
        self.feed = FeedLine(
            venue=name,
            books=self.books,
            clock=clock,
            ledger=ledger,
            faults=faults,
            line=Line(clock, lines, self.latency.feed_us, jitter),
            now_ms=self.now_ms,
            ticker_interval_ms=ticker_interval_ms,
            shift_ns=int(self.latency.feed_delay_ms * NS_PER_MS),
        )
        self.settlement = Settlement(name, ledger, self._push, self.now_ms)
        self.last_prices: dict[str, Decimal] = {}
        self.on_own_fill: list[OwnFillCallback] = []
        self._order_seq = first_id
        self._trade_seq = first_id // 7
        self._orders: dict[int, SimOrder] = {}
        self._owner: dict[int, SimAccount] = {}
        self._resting: dict[int, Resting] = {}
        self._by_client: dict[tuple[str, str, str], int] = {}  # (uid, symbol, client id) -> newest order id
        self._trades: dict[str, list[SimTrade]] = {}  # by uid
        self._listeners: dict[int, list[AccountCallback]] = {}  # by id(account)
        ledger.add_venue(name, self.wall_ns)
        for row in instruments:
            row.reference = partial(self.mark_price, row.symbol)
            ledger.append(
                "instrument",
                name,
                symbol=row.symbol,
                base=row.base,
                quote=row.quote,
                instrument_kind=row.kind.name.lower(),
                tick=row.tick,
                lot=row.lot,
                multiplier=row.multiplier,
                taker_fee_ppm=row.taker_fee_ppm,
                maker_fee_ppm=row.maker_fee_ppm,
            )

    # --- time and accounts ---

    def wall_ns(self) -> int:
        """The venue's own clock (a fault may skew it)."""
        return self.clock.wall_ns() + self.skew_ms * NS_PER_MS

    def now_ms(self) -> int:
        return self.wall_ns() // NS_PER_MS

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

    def print_trade(self, symbol: str, price: int, units: int, taker: OrderSide) -> int:
        """Publishes one trade; returns its id."""
        self._trade_seq += 1
        self.last_prices[symbol] = self.instruments[symbol].price(price)
        self.feed.trade(symbol, price, units, taker, self._trade_seq)
        return self._trade_seq

    # --- order entry: with the network around it ---

    async def submit(self, account: SimAccount, request: SimOrderRequest, *, delay_after_ns: int = 0) -> SimOrder:
        """Order latency, ``place``, acknowledgement latency. Raises ``SimReject``, also after the acknowledgement."""
        await self._order_line.travel()
        try:
            order = self.place(account, request)
        except SimReject as refusal:
            await self._ack(delay_after_ns)
            raise refusal from None
        await self._ack(delay_after_ns)
        return order

    async def submit_cancel(
        self, account: SimAccount, symbol: str, *, order_id: int | None = None, client_id: str | None = None
    ) -> SimOrder:
        await self._order_line.travel()
        try:
            order = self.cancel(account, symbol, order_id=order_id, client_id=client_id)
        except SimReject as refusal:
            await self._ack(0)
            raise refusal from None
        await self._ack(0)
        return order

    async def submit_cancel_all(
        self, account: SimAccount, symbol: str | None, side: OrderSide | None = None
    ) -> list[SimOrder]:
        await self._order_line.travel()
        orders = self.cancel_all(account, symbol, side)
        await self._ack(0)
        return orders

    async def _ack(self, delay_after_ns: int) -> None:
        await self.clock.sleep_until(self._ack_line.arrival_ns() + delay_after_ns)

    # --- order entry: the matching engine ---

    def place(self, account: SimAccount, request: SimOrderRequest) -> SimOrder:
        """Checks, accepts and matches an order now; returns a copy. Raises ``SimReject`` (nothing happened)."""
        try:
            return self._place(account, request)
        except SimReject as refusal:
            self.ledger.append(
                "reject",
                self.name,
                client_id=request.client_id,
                symbol=request.symbol,
                reason=refusal.reason.value,
                text=refusal.text,
            )
            raise

    def _place(self, account: SimAccount, request: SimOrderRequest) -> SimOrder:
        row = self.instruments.get(request.symbol)
        if row is None:
            raise SimReject(RejectReason.UNKNOWN_SYMBOL, request.symbol)
        self._check_admission(account, row, request)
        if self.faults.rules and (rule := self.faults.stream("reject", self.name, "place", row.symbol)) is not None:
            raise SimReject(RejectReason(rule.reason), rule.text or "injected")
        side = BID if request.side is OrderSide.BUY else ASK
        book = self.books[request.symbol]
        limit = None if request.kind is OrderKind.MARKET else row.ticks(request.price)
        units = self._wanted_units(account, row, request)
        self._check_limits(row, request, units)
        self._check_standing(book, side, limit, units, request)
        order = self._new_order(row, request, units, book.update_id)
        self._reserve(account, row, order, side, limit, units)
        self._orders[order.order_id] = order
        self._owner[order.order_id] = account
        if request.client_id:
            self._by_client[(account.uid, request.symbol, request.client_id)] = order.order_id
        self._record(order)
        self._push(account, OrderEvent(order.copy(), "put", self.now_ms()))
        self._match(account, row, book, order, side, limit, units)
        return order.copy()

    def _match(
        self,
        account: SimAccount,
        row: SimInstrument,
        book: SimBook,
        order: SimOrder,
        side: int,
        limit: int | None,
        units: int,
    ) -> None:
        if order.tif is TimeInForce.FOK and order.quote_qty is None and book.takeable(side, limit) < units:
            self._finish(account, row, order, "fok")
            return
        if order.tif is TimeInForce.POST_ONLY and book.takeable(side, limit) > 0:
            self._finish(account, row, order, "poc")
            return
        refill_ns = self.clock.mono_ns() + int(self._rng.expovariate(1.0) * self._refill_ms * NS_PER_MS)
        fills = book.take(side, units, limit, refill_ns)
        for price, filled in fills:
            units -= filled
            self._settle(account, row, order, price, filled, is_maker=False)
        if order.quote_qty is not None:
            order.qty = order.filled_qty
        if units == 0 or (order.quote_qty is not None and order.filled_qty):
            self._finish(account, row, order, "filled")
        elif order.kind is OrderKind.LIMIT and order.tif in (TimeInForce.GTC, TimeInForce.POST_ONLY):
            if limit is not None and self._meets_own(book, side, limit):
                self._finish(account, row, order, "stp")
                return
            self._resting[order.order_id] = book.rest(order.order_id, side, limit or 0, units)
            if fills:
                self._update(account, row, order)
        else:
            self._finish(account, row, order, "fok" if order.tif is TimeInForce.FOK else "ioc")

    def cancel(
        self, account: SimAccount, symbol: str, *, order_id: int | None = None, client_id: str | None = None
    ) -> SimOrder:
        """Cancels an open order; returns a copy. Raises ``SimReject`` (ORDER_NOT_FOUND, ORDER_FINISHED)."""
        order = self._find(account, symbol, order_id, client_id)
        if order is None:
            raise SimReject(RejectReason.ORDER_NOT_FOUND, f"order_id={order_id} client_id={client_id}")
        if not order.is_open:
            raise SimReject(RejectReason.ORDER_FINISHED, f"order {order.order_id} is {order.finish_as}")
        self._end(account, order, "cancelled")
        return order.copy()

    def cancel_all(
        self, account: SimAccount, symbol: str | None = None, side: OrderSide | None = None
    ) -> list[SimOrder]:
        cancelled = []
        for order in self._open_of(account, symbol):
            if side is None or order.side is side:
                self._end(account, order, "cancelled")
                cancelled.append(order.copy())
        return cancelled

    # --- queries: the truth now (a dialect adds the venue's own look-up rules) ---

    def order(
        self, account: SimAccount, symbol: str, *, order_id: int | None = None, client_id: str | None = None
    ) -> SimOrder | None:
        found = self._find(account, symbol, order_id, client_id)
        return None if found is None else found.copy()

    def open_orders(self, account: SimAccount, symbol: str | None = None) -> list[SimOrder]:
        return [order.copy() for order in self._open_of(account, symbol)]

    def finished_orders(self, account: SimAccount, symbol: str | None = None, since_ms: int = 0) -> list[SimOrder]:
        """Oldest first."""
        return [
            order.copy()
            for order_id, order in self._orders.items()
            if self._owner[order_id] is account
            and not order.is_open
            and (symbol is None or order.symbol == symbol)
            and order.finished_ms >= since_ms
        ]

    def trades(self, account: SimAccount, symbol: str | None = None, since_ms: int = 0) -> list[SimTrade]:
        """Oldest first."""
        return [
            trade
            for trade in self._trades.get(account.uid, [])
            if (symbol is None or trade.symbol == symbol) and trade.ts_ms >= since_ms
        ]

    def position(self, account: SimAccount, symbol: str) -> SimPosition:
        """The futures position, zero if there never was one."""
        return account.positions.setdefault(symbol, SimPosition(symbol=symbol))

    def set_leverage(self, account: SimAccount, symbol: str, leverage: Decimal) -> None:
        self.position(account, symbol).leverage = leverage

    def margin_account(self, account: SimAccount) -> MarginAccount:
        return self.settlement.margin(account, self.settle_asset, self.mark_price, self.instruments)

    # --- market's side: called by the market and by faults ---

    def settle_own(self, fills: list[tuple[Resting, int]], symbol: str) -> None:
        """Own resting orders that the market has hit: they filled at their own price, as maker."""
        row = self.instruments[symbol]
        for resting, units in fills:
            order = self._orders[resting.order_id]
            account = self._owner[resting.order_id]
            self._settle(account, row, order, resting.price, units, is_maker=True)
            if resting.left == 0:
                self._resting.pop(order.order_id, None)
                self._finish(account, row, order, "filled")
            else:
                self._update(account, row, order)

    def apply_funding(self, symbol: str) -> None:
        """Charges funding to every position of the symbol and schedules the next time."""
        row = self.instruments[symbol]
        mark = self.mark_price(symbol)
        for account in {id(one): one for one in self.accounts.values()}.values():
            self.settlement.fund(account, row, mark, row.funding_rate)

    def force_close(self, account: SimAccount, symbol: str, finish_as: str) -> SimOrder | None:
        """Liquidation or auto-deleveraging: the venue closes the position at the market."""
        position = account.positions.get(symbol)
        if position is None or not position.qty:
            return None
        self.cancel_all(account, symbol)
        row, book = self.instruments[symbol], self.books[symbol]
        side = OrderSide.SELL if position.qty > 0 else OrderSide.BUY
        request = SimOrderRequest(
            symbol=symbol, side=side, kind=OrderKind.MARKET, tif=TimeInForce.IOC, qty=abs(position.qty)
        )
        units = int(abs(position.qty) / row.unit)
        order = self._new_order(row, request, units, book.update_id)
        self._orders[order.order_id] = order
        self._owner[order.order_id] = account
        for price, filled in book.take(BID if side is OrderSide.BUY else ASK, units, None, self.clock.mono_ns()):
            self._settle(account, row, order, price, filled, is_maker=False)
        self._finish(account, row, order, finish_as)
        return order.copy()

    def check_margins(self) -> None:
        """Liquidates accounts whose equity has fallen below the maintenance margin of their positions."""
        for account in {id(one): one for one in self.accounts.values()}.values():
            held = [row for row in account.positions.values() if row.qty]
            if not held:
                continue
            maintenance = sum(
                (
                    abs(row.qty) * self.mark_price(row.symbol) * self.instruments[row.symbol].maintenance_rate
                    for row in held
                ),
                ZERO,
            )
            if self.margin_account(account).equity < maintenance:
                for row in held:
                    self.force_close(account, row.symbol, "liquidated")

    # --- checks ---

    def _check_admission(self, account: SimAccount, row: SimInstrument, request: SimOrderRequest) -> None:
        if request.expiry_wall_ms and self.now_ms() > request.expiry_wall_ms:
            raise SimReject(RejectReason.EXPIRED, f"now={self.now_ms()} expiry={request.expiry_wall_ms}")
        if row.status is TradingStatus.HALTED:
            raise SimReject(RejectReason.SYMBOL_HALTED, row.symbol)
        barred = {TradingStatus.BUY_ONLY: OrderSide.SELL, TradingStatus.SELL_ONLY: OrderSide.BUY}.get(row.status)
        if barred is request.side:
            raise SimReject(RejectReason.SIDE_BARRED, f"{row.symbol} is {row.status.name}")
        if request.client_id:
            known = self._by_client.get((account.uid, request.symbol, request.client_id))
            if known is not None and self._orders[known].is_open:
                raise SimReject(RejectReason.DUPLICATE_CLIENT_ID, request.client_id)
        if len(self._resting) >= OPEN_ORDERS_MAX:
            raise SimReject(RejectReason.TOO_MANY_ORDERS, f"open={len(self._resting)}")

    def _wanted_units(self, account: SimAccount, row: SimInstrument, request: SimOrderRequest) -> int:
        """Units of the order; a quote quantity becomes the units that the book gives for it."""
        if request.close_position or request.reduce_only:
            return self._reducing_units(account, row, request)
        if request.quote_qty is not None:
            return self._units_for_quote(row, request.quote_qty)
        if request.qty is None or request.qty <= 0:
            raise SimReject(RejectReason.BAD_PARAMETER, f"quantity must be positive: qty={request.qty}")
        return row.units(request.qty)

    def _reducing_units(self, account: SimAccount, row: SimInstrument, request: SimOrderRequest) -> int:
        position = account.positions.get(row.symbol)
        held = position.qty if position is not None else ZERO
        if not row.is_futures or not held or (held > 0) == (request.side is OrderSide.BUY):
            raise SimReject(RejectReason.REDUCE_ONLY, f"nothing to reduce: position={held}")
        wanted = abs(held) if request.close_position else min(abs(held), request.qty or ZERO)
        return int(wanted / row.unit)

    def _units_for_quote(self, row: SimInstrument, quote: Decimal) -> int:
        """Whole lots that a market buy of ``quote`` gets from the visible book."""
        book, units, left = self.books[row.symbol], 0, quote
        for price, available in book.reachable(BID, None):
            cost = row.price(price) * row.unit
            affordable = min(available, int(left / cost))
            units += affordable
            left -= cost * affordable
            if affordable < available:
                break
        if units == 0:
            raise SimReject(RejectReason.NO_LIQUIDITY, f"{row.symbol}: quote={quote}")
        return units - units % row.lot_units or units

    def _check_limits(self, row: SimInstrument, request: SimOrderRequest, units: int) -> None:
        qty = row.qty(units)
        if qty < row.min_qty and not request.reduce_only:
            raise SimReject(RejectReason.QTY_TOO_SMALL, f"{qty} < {row.min_qty}")
        if row.max_qty and qty > row.max_qty:
            raise SimReject(RejectReason.QTY_TOO_LARGE, f"{qty} > {row.max_qty}")
        if request.kind is OrderKind.LIMIT and request.price <= 0:
            raise SimReject(RejectReason.BAD_PARAMETER, f"price must be positive: price={request.price}")
        mark = self.mark_price(row.symbol)
        price = request.price if request.kind is OrderKind.LIMIT else mark
        notional = request.quote_qty if request.quote_qty is not None else price * qty
        if row.min_notional and notional < row.min_notional and not request.reduce_only:
            raise SimReject(RejectReason.NOTIONAL_TOO_SMALL, f"{notional} < {row.min_notional}")
        if row.max_notional and notional > row.max_notional:
            raise SimReject(RejectReason.NOTIONAL_TOO_LARGE, f"{notional} > {row.max_notional}")
        if request.kind is not OrderKind.LIMIT:
            return
        if mark and row.price_band_ppm and abs(price - mark) > mark * row.price_band_ppm / PPM:
            raise SimReject(RejectReason.PRICE_BAND, f"price={price} mark={mark}")

    def _check_standing(
        self, book: SimBook, side: int, limit: int | None, units: int, request: SimOrderRequest
    ) -> None:
        if limit is None and book.takeable(side, None) == 0:
            raise SimReject(RejectReason.NO_LIQUIDITY, request.symbol)
        if not self._rejects_unfillable:
            return
        if request.post_only and book.takeable(side, limit) > 0:
            raise SimReject(RejectReason.POST_ONLY_WOULD_TAKE, f"price={request.price}")
        if request.tif is TimeInForce.FOK and book.takeable(side, limit) < units:
            raise SimReject(RejectReason.FOK_NOT_FILLED, f"qty={request.qty}")

    def _meets_own(self, book: SimBook, side: int, limit: int) -> bool:
        """True if resting would cross an own order of the other side (self-trade prevention)."""
        best = book.best(ASK if side == BID else BID)
        return best is not None and (best <= limit if side == BID else best >= limit)

    def _reserve(
        self, account: SimAccount, row: SimInstrument, order: SimOrder, side: int, limit: int | None, units: int
    ) -> None:
        if row.is_futures:
            price = order.price if limit is not None else self.mark_price(row.symbol)
            position = self.position(account, row.symbol)
            opening = ZERO if order.reduce_only else opening_qty(position, order.side, order.qty)
            margin = self.margin_account(account)
            self.settlement.reserve_margin(order, opening * price, position.leverage, margin.available)
            return
        if limit is not None:
            cost = order.price * order.qty
        elif order.quote_qty is not None:
            cost = order.quote_qty
        else:
            cost = self._walk_cost(row, side, units)
        self.settlement.lock_spot(account, row, order, cost)

    def _walk_cost(self, row: SimInstrument, side: int, units: int) -> Decimal:
        cost = ZERO
        for price, available in self.books[row.symbol].reachable(side, None):
            taken = min(units, available)
            cost += row.price(price) * row.qty(taken)
            units -= taken
            if not units:
                break
        return cost

    # --- order state ---

    def _new_order(self, row: SimInstrument, request: SimOrderRequest, units: int, book_id: int) -> SimOrder:
        self._order_seq += 1
        now_ms = self.now_ms()
        return SimOrder(
            order_id=self._order_seq,
            client_id=request.client_id,
            symbol=request.symbol,
            side=request.side,
            kind=request.kind,
            tif=TimeInForce.IOC if request.kind is OrderKind.MARKET and request.tif is TimeInForce.GTC else request.tif,
            price=request.price,
            qty=row.qty(units),
            quote_qty=request.quote_qty,
            reduce_only=request.reduce_only or request.close_position,
            is_close=request.close_position,
            created_ms=now_ms,
            updated_ms=now_ms,
            book_id=book_id,
        )

    def _settle(
        self, account: SimAccount, row: SimInstrument, order: SimOrder, ticks: int, units: int, *, is_maker: bool
    ) -> None:
        """One execution: money, order totals, ledger, private push, public print."""
        price, qty = row.price(ticks), row.qty(units)
        taker = order.side if not is_maker else OrderSide(-order.side)
        trade_id = self.print_trade(row.symbol, ticks, units, taker)
        order.filled_qty += qty
        order.filled_quote += price * qty
        order.last_fill_qty, order.last_fill_price = qty, price
        move = self.settlement.fill_futures if row.is_futures else self.settlement.fill_spot
        settled = move(account, row, order, price, qty, is_maker, trade_id)
        order.fees[settled.fee_asset] = order.fees.get(settled.fee_asset, ZERO) + settled.fee
        order.status = OrderStatus.PARTIALLY_FILLED
        order.updated_ms = self.now_ms()
        order.update_seq += 1
        trade = SimTrade(
            trade_id=trade_id,
            order_id=order.order_id,
            client_id=order.client_id,
            symbol=row.symbol,
            side=order.side,
            price=price,
            qty=qty,
            quote=price * qty,
            fee=settled.fee,
            fee_asset=settled.fee_asset,
            is_maker=is_maker,
            ts_ms=order.updated_ms,
            realised_pnl=settled.realised_pnl,
            close_qty=settled.close_qty,
        )
        self._trades.setdefault(account.uid, []).append(trade)
        self.ledger.append(
            "fill",
            self.name,
            uid=account.uid,
            trade_id=str(trade_id),
            order_id=str(order.order_id),
            client_id=order.client_id,
            symbol=row.symbol,
            side=order.side.name.lower(),
            price=price,
            qty=qty,
            quote=trade.quote,
            fee=trade.fee,
            fee_asset=trade.fee_asset,
            is_maker=is_maker,
            realised_pnl=trade.realised_pnl,
            book_id=self.books[row.symbol].update_id,
        )
        self._push(account, TradeEvent(trade, order.copy(), order.updated_ms))
        for callback in self.on_own_fill:
            callback(row.symbol, order.side, ticks, units)

    def _update(self, account: SimAccount, row: SimInstrument, order: SimOrder) -> None:
        self._release(account, row, order)
        self._record(order)
        self._push(account, OrderEvent(order.copy(), "update", self.now_ms()))

    def _finish(self, account: SimAccount, row: SimInstrument, order: SimOrder, finish_as: str) -> None:
        filled = order.filled_qty == order.qty and bool(order.filled_qty)
        order.status = OrderStatus.FILLED if filled else OrderStatus.CANCELED
        order.finish_as = "filled" if filled and finish_as in ("filled", "ioc", "fok") else finish_as
        order.finished_ms = order.updated_ms = self.now_ms()
        order.update_seq += 1
        self._release(account, row, order)
        self._record(order)
        self._push(account, OrderEvent(order.copy(), "finish", self.now_ms()))

    def _end(self, account: SimAccount, order: SimOrder, finish_as: str) -> None:
        resting = self._resting.pop(order.order_id, None)
        if resting is not None:
            self.books[order.symbol].withdraw(resting)
        self._finish(account, self.instruments[order.symbol], order, finish_as)

    def _release(self, account: SimAccount, row: SimInstrument, order: SimOrder) -> None:
        if row.is_futures:
            self.settlement.release_margin(order)
        else:
            reason = "order-cancel" if order.status is OrderStatus.CANCELED else "order-match"
            self.settlement.relock_spot(account, row, order, reason)

    def _record(self, order: SimOrder) -> None:
        self.ledger.append(
            "order",
            self.name,
            uid=self._owner[order.order_id].uid,
            order_id=str(order.order_id),
            client_id=order.client_id,
            symbol=order.symbol,
            side=order.side.name.lower(),
            order_kind=order.kind.name.lower(),
            tif=order.tif.name.lower(),
            price=order.price,
            qty=order.qty,
            filled_qty=order.filled_qty,
            filled_quote=order.filled_quote,
            status=order.status.value,
            finish_as=order.finish_as,
            reduce_only=order.reduce_only,
            book_id=order.book_id,
        )

    def _find(self, account: SimAccount, symbol: str, order_id: int | None, client_id: str | None) -> SimOrder | None:
        if order_id is None and client_id is not None:
            order_id = self._by_client.get((account.uid, symbol, client_id))
        if order_id is None:
            return None
        order = self._orders.get(order_id)
        if order is None or self._owner[order_id] is not account or order.symbol != symbol:
            return None
        return order

    def _open_of(self, account: SimAccount, symbol: str | None) -> list[SimOrder]:
        return [
            self._orders[order_id]
            for order_id in self._resting
            if self._owner[order_id] is account and (symbol is None or self._orders[order_id].symbol == symbol)
        ]

    # --- private stream ---

    def _push(self, account: SimAccount, event: AccountEvent) -> None:
        """Delivers to the account's listeners after the private-stream latency, in order; faults may interfere."""
        listeners = self._listeners.get(id(account))
        if not listeners:
            return
        copies = 1
        if self.faults.rules:
            if self.faults.stream("stall", self.name, "private") or self.faults.stream(
                "drop_event", self.name, "private"
            ):
                return
            if self.faults.stream("duplicate_event", self.name, "private"):
                copies = 2
            delay = self.faults.stream("delay_stream", self.name, "private")
            self._private_line.extra_ns = int(delay.delay_ms * NS_PER_MS) if delay is not None else 0

        def deliver() -> None:
            for listener in list(listeners):
                listener(event)

        for _ in range(copies):
            self._private_line.deliver(deliver)
