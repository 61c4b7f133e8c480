"""A simulated venue: its instruments, clock, matching, accounts and pushes. Wire formats live in ``sim/wire``.

``SimVenue`` runs in one asyncio thread. ``place``, ``cancel`` and ``amend`` are what the matching engine does at the
moment a request reaches it; ``submit``, ``submit_cancel`` and ``submit_amend``, which a dialect calls, put latencies
around them (order, matching, acknowledgement). Pushes come by callback after feed or private-stream latency, in order
(``venue_core``).
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import TypeVar

from pipeline.model.enums import OrderSide
from pipeline.sim.exchange.accounts import SimAccount, SimPosition, Wallet
from pipeline.sim.exchange.decimals import ZERO
from pipeline.sim.exchange.futures.liquidation import Liquidator
from pipeline.sim.exchange.futures.margin import MarginAccount, valued
from pipeline.sim.exchange.futures.positions import positions_of
from pipeline.sim.exchange.history import STALE_NS
from pipeline.sim.exchange.latency import NS_PER_MS
from pipeline.sim.exchange.orders import SimAmendRequest, SimOrder, SimOrderRequest, SimTrade

T = TypeVar("T")


class SimVenue(Liquidator):
    """One tradable segment of one exchange."""

    # --- order entry: with the network around it ---

    async def submit(self, account: SimAccount, request: SimOrderRequest) -> SimOrder:
        """Places an order with the network around it. Raises ``SimReject`` when the refusal has come back."""
        return await self._with_latency(lambda: self.place(account, request))

    async def submit_cancel(
        self, account: SimAccount, symbol: str, *, order_id: int | None = None, client_id: str | None = None
    ) -> SimOrder:
        """Cancels an order with the network around it. Raises ``SimReject``."""
        return await self._with_latency(lambda: self.cancel(account, symbol, order_id=order_id, client_id=client_id))

    async def submit_amend(self, account: SimAccount, request: SimAmendRequest) -> SimOrder:
        """Amends an order with the network around it. Raises ``SimReject``."""
        return await self._with_latency(lambda: self.amend(account, request))

    async def submit_cancel_all(
        self, account: SimAccount, symbol: str | None, side: OrderSide | None = None
    ) -> list[SimOrder]:
        """Cancels all open orders (of a symbol, of a side) with the network around it."""
        return await self._with_latency(lambda: self.cancel_all(account, symbol, side))

    async def _with_latency(self, action: Callable[[], T]) -> T:
        """Order latency, ``action`` in the matching engine, then the latency of its acknowledgement or refusal."""
        await self.order_link.transit()
        try:
            return action()
        finally:
            await self.ack_link.transit()

    # --- queries: the state now, or an older one while a fault makes answers stale; a dialect adds its own rules ---

    def _as_of_ns(self) -> int | None:
        """The moment that answers of the request at hand show; None = now."""
        stale_ns = STALE_NS.get()
        return self.clock.mono_ns() - stale_ns if stale_ns else None

    def _seen(self, order: SimOrder) -> SimOrder | None:
        at_ns = self._as_of_ns()
        return order.copy() if at_ns is None else self.settlement.history.order_at(order.order_id, at_ns)

    def _orders_of(self, account: SimAccount, symbol: str | None, wanted: Callable[[SimOrder], bool]) -> list[SimOrder]:
        """Those that show as ``wanted``, oldest first."""
        own = [
            order
            for order_id, order in self._orders.items()
            if self._owner[order_id] is account and (symbol is None or order.symbol == symbol)
        ]
        if self._as_of_ns() is None:
            return [order.copy() for order in own if wanted(order)]
        return [seen for order in own if (seen := self._seen(order)) is not None and wanted(seen)]

    def order(
        self, account: SimAccount, symbol: str, *, order_id: int | None = None, client_id: str | None = None
    ) -> SimOrder | None:
        """One order of the account by id or client id; None when it has no such order."""
        found = self._find(account, symbol, order_id, client_id)
        return None if found is None else self._seen(found)

    def open_orders(self, account: SimAccount, symbol: str | None = None) -> list[SimOrder]:
        """Open orders of the account, oldest first."""
        if self._as_of_ns() is None:
            return [order.copy() for order in self._open_of(account, symbol)]
        return self._orders_of(account, symbol, lambda order: order.is_open)

    def finished_orders(self, account: SimAccount, symbol: str | None = None, since_ms: int = 0) -> list[SimOrder]:
        """Oldest first."""
        return self._orders_of(account, symbol, lambda order: not order.is_open and order.finished_ms >= since_ms)

    def trades(self, account: SimAccount, symbol: str | None = None, since_ms: int = 0) -> list[SimTrade]:
        """Oldest first."""
        stale_ms = STALE_NS.get() // NS_PER_MS
        until_ms = self.now_ms() - stale_ms if stale_ms else None
        return [
            trade
            for trade in self._trades.get(account.uid, [])
            if (symbol is None or trade.symbol == symbol)
            and trade.ts_ms >= since_ms
            and (until_ms is None or trade.ts_ms <= until_ms)
        ]

    def wallets(self, account: SimAccount) -> dict[str, Wallet]:
        """asset -> wallet of the account."""
        at_ns = self._as_of_ns()
        if at_ns is None:
            return dict(account.wallets)
        seen = {asset: self.settlement.history.wallet_at(account, asset, at_ns) for asset in account.wallets}
        return {asset: wallet for asset, wallet in seen.items() if wallet is not None}

    def shown_positions(self, account: SimAccount, symbol: str | None = None) -> list[SimPosition]:
        """Of one contract (both sides in dual mode), or of every contract that was ever touched."""
        symbols = [symbol] if symbol else list(dict.fromkeys(one.symbol for one in account.positions.values()))
        rows = [position for name in symbols for position in positions_of(account, name)]
        at_ns = self._as_of_ns()
        if at_ns is None:
            return rows
        return [self.settlement.history.position_at(account, row, at_ns) for row in rows]

    def shown_margin(self, account: SimAccount) -> MarginAccount:
        """The margin account as it shows: stale wallet, positions and orders at the marks of now."""
        if self._as_of_ns() is None:
            return self.margin_account(account)
        wallet = self.wallets(account).get(self.settle_asset, Wallet())
        reserved = sum(
            (
                order.left_qty * order.price / self.position(account, order.symbol).leverage
                for order in self.open_orders(account)
                if not order.reduce_only
            ),
            ZERO,
        )
        shown = self.shown_positions(account)
        return valued(wallet.total, shown, self.mark_price, reserved, self.instruments)

    # --- called by the market and by faults ---

    def apply_funding(self, symbol: str, rate: Decimal | None = None) -> int:
        """Charges funding to every position of the symbol, at ``rate`` or the contract's own; how many there are."""
        row, paid = self.instruments[symbol], 0
        mark, rate = self.mark_price(symbol), row.funding_rate if rate is None else rate
        self.funding_paid.setdefault(symbol, []).append((self.now_ms() // 1000, rate))
        for account in {id(one): one for one in self.accounts.values()}.values():
            paid += self.settlement.fund(account, row, mark, rate)
        return paid
