"""A simulated venue: its instruments, clock, matching, accounts, and what it pushes. Wire formats live in dialects.

``SimVenue`` runs in one asyncio thread. ``place``/``cancel`` (``desk``) are what the matching engine does at the moment
a request reaches it; ``submit``/``submit_cancel`` put the network and the engine around them (order latency, matching
time, acknowledgement) and are what a dialect calls. Pushes come by callback after feed or private-stream latency, in
order (``venue_core``). See ``types`` for every structure.
"""

from __future__ import annotations

from pipeline.model.enums import OrderKind, OrderSide, TimeInForce
from pipeline.sim.desk import OrderDesk
from pipeline.sim.matching import ASK, BID, Resting
from pipeline.sim.types import ZERO, SimAccount, SimOrder, SimOrderRequest, SimReject, SimTrade
from pipeline.sim.venue_core import OwnFillCallback

__all__ = ["OwnFillCallback", "SimVenue"]


class SimVenue(OrderDesk):
    """One tradable segment of one exchange."""

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
