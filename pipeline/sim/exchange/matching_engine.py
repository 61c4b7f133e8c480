"""The matching engine of a simulated venue: orders accepted, matched, settled, ended."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pipeline.model.enums import OrderKind, OrderSide, TimeInForce
from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.exchange.admission import (
    check_limits,
    check_status,
    check_unfillable,
    meets_own,
    walk_cost,
    wanted_units,
)
from pipeline.sim.exchange.decimals import ZERO
from pipeline.sim.exchange.events import OrderEvent, TradeEvent
from pipeline.sim.exchange.futures.positions import mode_of
from pipeline.sim.exchange.instruments import SimInstrument
from pipeline.sim.exchange.latency import NS_PER_MS
from pipeline.sim.exchange.order_book import ASK, BID, Resting, SimBook
from pipeline.sim.exchange.orders import OrderStatus, RejectReason, SimOrder, SimOrderRequest, SimReject, SimTrade
from pipeline.sim.exchange.settlement import opening_qty
from pipeline.sim.exchange.venue_core import VenueCore

OPEN_ORDERS_MAX = 200


class MatchingEngine(VenueCore):
    """Orders of a venue. Everything happens at the moment of the call; latency is ``SimVenue``'s."""

    def __init__(self, **options: Any) -> None:
        """Options: see ``VenueCore``."""
        super().__init__(**options)
        self._orders: dict[int, SimOrder] = {}
        self._owner: dict[int, SimAccount] = {}
        self._resting: dict[int, Resting] = {}
        self._by_client: dict[tuple[str, str, str], int] = {}  # (uid, symbol, client id) -> newest order id
        self._trades: dict[str, list[SimTrade]] = {}  # by uid

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
        check_status(row, request, self.now_ms())
        self._check_open_orders(account, request)
        if self.faults.rules and (rule := self.faults.stream("reject", self.name, "place", row.symbol)) is not None:
            raise SimReject(RejectReason(rule.reason), rule.text)
        side = BID if request.side is OrderSide.BUY else ASK
        book = self.books[request.symbol]
        limit = None if request.kind is OrderKind.MARKET else row.ticks(request.price)
        units = wanted_units(row, book, account, request)
        check_limits(row, request, units, self.mark_price(row.symbol))
        if limit is None and book.takeable(side, None, id(account)) == 0:
            raise SimReject(RejectReason.NO_LIQUIDITY, request.symbol)
        if self._rejects_unfillable:
            check_unfillable(book, side, limit, units, request, id(account))
        order = self._new_order(row, request, units, book.update_id)
        self._reserve(account, row, order, side, limit, units)
        self._orders[order.order_id] = order
        self._owner[order.order_id] = account
        if request.client_id:
            self._by_client[(account.uid, request.symbol, request.client_id)] = order.order_id
        self._record(order)
        self._push(account, OrderEvent(order.copy(), "put", self.now_ms()))
        self._match(account, row, book, order, side, limit, units)
        self._trim_reducing(account, row)
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
        late = self.faults.stream("late_fill", self.name, "place", row.symbol) if self.faults.rules else None
        if late is not None:
            self._finish(account, row, order, "ioc")
            delay_ns = int(late.delay_ms * NS_PER_MS)
            self.clock.call_later(delay_ns, lambda: self._fill_late(account, row, order, side, limit, units))
            return
        owner = id(account)
        if order.tif is TimeInForce.FOK and order.quote_qty is None and book.takeable(side, limit, owner) < units:
            self._finish(account, row, order, "fok")
            return
        if order.tif is TimeInForce.POST_ONLY and book.takeable(side, limit, owner) > 0:
            self._finish(account, row, order, "poc")
            return
        units, met = self._take(account, row, book, order, side, limit, units)
        if order.quote_qty is not None:
            order.qty = order.filled_qty
        if units == 0 or (order.quote_qty is not None and order.filled_qty):
            self._finish(account, row, order, "filled")
        elif order.kind is OrderKind.LIMIT and order.tif in (TimeInForce.GTC, TimeInForce.POST_ONLY):
            if limit is not None and meets_own(book, side, limit):
                self._finish(account, row, order, "stp")
                return
            self._resting[order.order_id] = book.rest(order.order_id, side, limit or 0, units, owner)
            if met:
                self._update(account, row, order)
        else:
            self._finish(account, row, order, "fok" if order.tif is TimeInForce.FOK else "ioc")

    def _take(
        self,
        account: SimAccount,
        row: SimInstrument,
        book: SimBook,
        order: SimOrder,
        side: int,
        limit: int | None,
        units: int,
    ) -> tuple[int, bool]:
        """Matches by price and time and settles both ends; returns (units left, whether anything was met).

        Between two users it is one trade: the resting order's price, one id, a row for each of them.
        """
        refill_ns = self.clock.mono_ns() + int(self._rng.expovariate(1.0) * self._refill_ms * NS_PER_MS)
        met = False
        while units and (takes := book.take(side, units, limit, refill_ns, id(account))):
            met = True
            makers: list[SimAccount] = []
            for take in takes:
                filled = self._allowed(row, take.maker, take.units)
                units -= filled
                trade_id = self._settle(account, row, order, take.price, filled, is_maker=False) if filled else 0
                if take.maker is not None:
                    makers.append(self._settle_maker(row, take.maker, filled, trade_id))
            for maker in makers:
                self._trim_reducing(maker, row)
        return units, met

    def _fill_late(
        self, account: SimAccount, row: SimInstrument, order: SimOrder, side: int, limit: int | None, units: int
    ) -> None:
        """A venue finds an execution of an order that it had called ended with nothing filled: it is booked whole, at
        the order's limit. Nothing happens where the money for it is not there any more."""
        if limit is None or order.filled_qty:
            return
        order.status = OrderStatus.NEW
        try:
            self._reserve(account, row, order, side, limit, units)
        except SimReject:
            order.status = OrderStatus.CANCELED
            return
        self._settle(account, row, order, limit, units, is_maker=False, off_book=True)
        self._finish(account, row, order, "filled")

    def settle_own(self, fills: list[tuple[Resting, int]], symbol: str) -> None:
        """Users' resting orders that the market has hit: they filled at their own price, as maker."""
        row = self.instruments[symbol]
        makers = [self._settle_maker(row, resting, self._allowed(row, resting, units), 0) for resting, units in fills]
        for account in makers:
            self._trim_reducing(account, row)

    def _allowed(self, row: SimInstrument, resting: Resting | None, units: int) -> int:
        """Of what hits a resting order, the part that may fill: a reduce-only order whose position an order before it
        in the same sweep has closed fills no further."""
        order = self._orders[resting.order_id] if resting is not None else None
        if order is None or not order.reduce_only:
            return units
        return min(units, int(self._reducible(self._owner[order.order_id], row, order) / row.unit))

    def _reducible(self, account: SimAccount, row: SimInstrument, order: SimOrder) -> Decimal:
        held = self.position(account, row.symbol, mode_of(account, order.side, True)).qty
        return abs(held) if held and (held > 0) is (order.side is OrderSide.SELL) else ZERO

    def _settle_maker(self, row: SimInstrument, resting: Resting, units: int, trade_id: int) -> SimAccount:
        """``trade_id``: of the trade that the taker's side has published; 0 = publish one. Returns the owner."""
        order, account = self._orders[resting.order_id], self._owner[resting.order_id]
        if units:
            self._settle(account, row, order, resting.price, units, is_maker=True, trade_id=trade_id)
        if resting.left == 0:
            self._resting.pop(order.order_id, None)
        if not order.left_qty:
            self._finish(account, row, order, "filled")
        elif resting.left == 0:
            self._finish(account, row, order, "reduce_out")
        else:
            self._update(account, row, order)
        return account

    def _trim_reducing(self, account: SimAccount, row: SimInstrument) -> None:
        """Reduce-only orders that rest never exceed what is held: the oldest of those too many end."""
        if not row.is_futures:
            return
        room: dict[str, Decimal] = {}
        for order in reversed(self._open_of(account, row.symbol)):
            if not order.reduce_only:
                continue
            mode = mode_of(account, order.side, True)
            left = room.get(mode, self._reducible(account, row, order)) - order.left_qty
            if left >= 0:
                room[mode] = left
            else:
                self._end(account, order, "reduce_out")

    def cancel(
        self, account: SimAccount, symbol: str, *, order_id: int | None = None, client_id: str | None = None
    ) -> SimOrder:
        """Cancels an open order now; returns a copy. Raises ``SimReject`` (ORDER_NOT_FOUND, ORDER_FINISHED)."""
        order = self._open_order(account, symbol, order_id, client_id)
        self._end(account, order, "cancelled")
        return order.copy()

    def cancel_all(
        self, account: SimAccount, symbol: str | None = None, side: OrderSide | None = None
    ) -> list[SimOrder]:
        """Cancels the account's open orders (of a symbol, of a side) at once, without the network; copies of them."""
        cancelled = []
        for order in self._open_of(account, symbol):
            if side is None or order.side is side:
                self._end(account, order, "cancelled")
                cancelled.append(order.copy())
        return cancelled

    def _check_open_orders(self, account: SimAccount, request: SimOrderRequest) -> None:
        if request.client_id:
            known = self._by_client.get((account.uid, request.symbol, request.client_id))
            if known is not None and self._orders[known].is_open:
                raise SimReject(RejectReason.DUPLICATE_CLIENT_ID, request.client_id)
        if len(self._resting) >= OPEN_ORDERS_MAX:
            held = sum(self._owner[order_id] is account for order_id in self._resting)
            if held >= OPEN_ORDERS_MAX:
                raise SimReject(RejectReason.TOO_MANY_ORDERS, f"open={held}")

    def _reserve(
        self, account: SimAccount, row: SimInstrument, order: SimOrder, side: int, limit: int | None, units: int
    ) -> None:
        if row.is_futures:
            price = order.price if limit is not None else self.mark_price(row.symbol)
            position = self.position(account, row.symbol, mode_of(account, order.side, order.reduce_only))
            opening = ZERO if order.reduce_only else opening_qty(position, order.side, order.qty)
            margin = self.margin_account(account)
            self.settlement.reserve_margin(account, order, opening * price, position.leverage, margin.available)
            return
        if limit is not None:
            cost = order.price * order.qty
        elif order.quote_qty is not None:
            cost = order.quote_qty
        else:
            cost = walk_cost(row, self.books[row.symbol], side, units, id(account))
        self.settlement.lock_spot(account, row, order, cost)

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
        self,
        account: SimAccount,
        row: SimInstrument,
        order: SimOrder,
        ticks: int,
        units: int,
        *,
        is_maker: bool,
        trade_id: int = 0,
        off_book: bool = False,
    ) -> int:
        """One execution: money, order totals, ledger, private push, public trade (unless it has an id already).

        ``off_book``: between the venue and the account; the book and the public trades know nothing of it.
        """
        price, qty = row.price(ticks), row.qty(units)
        taker = order.side if not is_maker else OrderSide(-order.side)
        if off_book:
            self._trade_seq += 1
            trade_id = self._trade_seq
        trade_id = trade_id or self.publish_trade(row.symbol, ticks, units, taker)
        order.filled_qty += qty
        order.filled_quote += price * qty
        order.last_fill_qty = qty
        if row.is_futures:
            self._position_changes(account)
        move = self.settlement.fill_futures if row.is_futures else self.settlement.fill_spot
        settled = move(account, row, order, price, qty, is_maker, trade_id)
        fees = settled.fees
        order.fees[fees.asset] = order.fees.get(fees.asset, ZERO) + fees.amount
        if fees.coin:
            order.coin_fees[fees.coin] = order.coin_fees.get(fees.coin, ZERO) + fees.coin_amount
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
            fee=fees.amount,
            fee_asset=fees.asset,
            coin_fee=fees.coin_amount,
            coin_asset=fees.coin,
            is_maker=is_maker,
            ts_ms=order.updated_ms,
            realised_pnl=settled.realised_pnl,
            close_qty=settled.close_qty,
            text=order.text,
        )
        self._trades.setdefault(account.uid, []).append(trade)
        self._record_fill(account, row, order, trade)
        self._push(account, TradeEvent(trade, order.copy(), order.updated_ms))
        for callback in () if off_book else self.on_own_fill:
            callback(row.symbol, order.side, ticks, units)
        return trade_id

    def _record_fill(self, account: SimAccount, row: SimInstrument, order: SimOrder, trade: SimTrade) -> None:
        self.ledger.append(
            "fill",
            self.name,
            uid=account.uid,
            trade_id=str(trade.trade_id),
            order_id=str(order.order_id),
            wire_trade_id=self.trade_id_text(trade.trade_id),
            wire_order_id=self.order_id_text(order.order_id),
            client_id=order.client_id,
            symbol=row.symbol,
            side=order.side.name.lower(),
            price=trade.price,
            qty=trade.qty,
            quote=trade.quote,
            fee=trade.fee,
            fee_asset=trade.fee_asset,
            coin_fee=trade.coin_fee,
            coin_asset=trade.coin_asset,
            is_maker=trade.is_maker,
            realised_pnl=trade.realised_pnl,
            forced=order.forced,
            book_id=self.books[row.symbol].update_id,
        )

    def _position_changes(self, account: SimAccount) -> None:
        """A hook: a futures fill of the account."""

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
        self.settlement.history.record_order(self.clock.mono_ns(), order)
        self.ledger.append(
            "order",
            self.name,
            uid=self._owner[order.order_id].uid,
            order_id=str(order.order_id),
            wire_order_id=self.order_id_text(order.order_id),
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
            forced=order.forced,
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

    def _open_order(self, account: SimAccount, symbol: str, order_id: int | None, client_id: str | None) -> SimOrder:
        """Raises ``SimReject`` (ORDER_NOT_FOUND, ORDER_FINISHED)."""
        order = self._find(account, symbol, order_id, client_id)
        if order is None:
            raise SimReject(RejectReason.ORDER_NOT_FOUND, f"order_id={order_id} client_id={client_id}")
        if not order.is_open:
            raise SimReject(RejectReason.ORDER_FINISHED, f"order {order.order_id} is {order.finish_as}")
        return order

    def _open_of(self, account: SimAccount, symbol: str | None) -> list[SimOrder]:
        return [
            self._orders[order_id]
            for order_id in self._resting
            if self._owner[order_id] is account and (symbol is None or self._orders[order_id].symbol == symbol)
        ]
