"""What a futures venue does to positions by itself: liquidation, auto-deleveraging, settlement at a delisting.

Liquidation, in the venue's order: open orders of the contract are cancelled, what exceeds the next lower risk tier (or
all) is sold at the market down to the bankruptcy price, and the venue takes the rest over at that price; then it looks
again. No more than what backs the position can be lost. Auto-deleveraging and settlement fill off the book at one
price.

Each leaves an order of the venue (no client id, a text of its own), a ``forced`` row in the venue ledger and a
``ForcedClose`` of the account. Source: Gate.io futures help "Liquidation process", "ADL"; order texts of APIv4.
"""

from __future__ import annotations

from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal
from typing import Any, NamedTuple

from pipeline.model.enums import OrderKind, OrderSide, TimeInForce
from pipeline.sim.exchange.accounts import ForcedClose, SimAccount, SimPosition
from pipeline.sim.exchange.amending import OrderAmender
from pipeline.sim.exchange.decimals import ZERO
from pipeline.sim.exchange.events import ForcedEvent
from pipeline.sim.exchange.futures.margin import bankruptcy_price, required_margin, tier_of, unrealised
from pipeline.sim.exchange.futures.positions import positions_of
from pipeline.sim.exchange.instruments import SimInstrument
from pipeline.sim.exchange.order_book import ASK, BID
from pipeline.sim.exchange.orders import SimOrder, SimOrderRequest

STEPS_MAX = 20  # of one liquidation: tiers, and one more


class _Kind(NamedTuple):
    finish_as: str  # of the forced order
    cancelled_as: str  # of the open orders that it cancels
    text: str  # ``{id}`` is the order's id


_KINDS = {
    "liquidation": _Kind("liquidated", "liquidated", "liq-{id}"),
    "adl": _Kind("auto_deleveraged", "auto_deleveraged", "auto_deleveraging"),
    "settlement": _Kind("filled", "position_closed", "clear"),
}


class Liquidator(OrderAmender):
    """A matching engine that watches margins and closes positions by force."""

    def __init__(self, **options: Any) -> None:
        """Options: see ``VenueCore``."""
        super().__init__(**options)
        self._check_planned = False

    # --- margins ---

    def _position_changes(self, account: SimAccount) -> None:
        """Margins are checked right after an own fill, when everything of it is booked."""
        if not self._check_planned:
            self._check_planned = True
            self.clock.call_later(0, self._planned_check)

    def _planned_check(self) -> None:
        self._check_planned = False
        self.check_margins()

    def check_margins(self) -> None:
        """Liquidates what no longer keeps its maintenance margin at the marks of now."""
        for account in {id(one): one for one in self.accounts.values()}.values():
            for position in list(account.positions.values()):
                if position.qty and not position.is_cross:
                    self._check_isolated(account, position)
            self._check_cross(account)

    def _check_isolated(self, account: SimAccount, position: SimPosition) -> None:
        row = self.instruments[position.symbol]
        for _ in range(STEPS_MAX):
            mark = self.mark_price(position.symbol)
            if not position.qty or not mark:
                return
            if position.margin + unrealised(position, mark) > required_margin(row, position.qty, mark):
                return
            self._liquidate(account, position, mark)

    def _check_cross(self, account: SimAccount) -> None:
        """The account's cross positions together; the largest requirement goes first."""
        for _ in range(STEPS_MAX * len(account.positions)):
            held = [one for one in account.positions.values() if one.qty and one.is_cross]
            marks = {one.symbol: self.mark_price(one.symbol) for one in held}
            if not held or not all(marks.values()):
                return
            required = {
                id(one): required_margin(self.instruments[one.symbol], one.qty, marks[one.symbol]) for one in held
            }
            if self.margin_account(account).cross_balance > sum(required.values(), ZERO):
                return
            worst = max(held, key=lambda one: required[id(one)])
            self._liquidate(account, worst, marks[worst.symbol])

    def _liquidate(self, account: SimAccount, position: SimPosition, mark: Decimal) -> None:
        """One step: down one risk tier, or all of it."""
        row, held = self.instruments[position.symbol], abs(position.qty)
        tier = tier_of(row, held * mark)
        index = row.tiers.index(tier)
        qty = held
        if index:
            lots = (row.tiers[index - 1].cap / mark / row.lot).to_integral_value(ROUND_FLOOR)
            qty = held - lots * row.lot
        behind = self.backing(account, position, less_required=False)
        price = bankruptcy_price(row, position.qty, position.cost, behind)
        # Towards the account's loss, but never beyond what is there.
        rounding = ROUND_CEILING if position.qty > 0 else ROUND_FLOOR
        limit = (price / row.tick).to_integral_value(rounding) * row.tick
        self._force_out(account, position, qty, forced="liquidation", limit=limit, rest_price=limit)

    # --- closed by force ---

    def force_close(
        self, account: SimAccount, symbol: str, forced: str, *, qty: Decimal = ZERO, price: Decimal | None = None
    ) -> SimOrder | None:
        """Closes ``qty`` base coins (0 = all) of each position of a contract; the last such order.

        ``forced``: ``liquidation`` fills at the market, ``adl`` and ``settlement`` off the book at ``price`` (None =
        the mark).
        """
        last: SimOrder | None = None
        row, mark = self.instruments[symbol], self.mark_price(symbol)
        at = _on_tick(row, mark if price is None else price)
        for position in positions_of(account, symbol):
            if position.qty:
                wanted = min(qty, abs(position.qty)) if qty else abs(position.qty)
                last = self._force_out(account, position, wanted, forced=forced, limit=None, rest_price=at)
        return last

    def _force_out(
        self,
        account: SimAccount,
        position: SimPosition,
        qty: Decimal,
        *,
        forced: str,
        limit: Decimal | None,
        rest_price: Decimal,
    ) -> SimOrder:
        """``limit``: worst price at the market (None = any); what stays open fills off the book at ``rest_price``."""
        row, kind = self.instruments[position.symbol], _KINDS[forced]
        before = position.copy()
        liq_price = self.liquidation_price(account, position) or ZERO
        for order in self._open_of(account, position.symbol):
            self._end(account, order, kind.cancelled_as)
        order = self._forced_order(account, row, position, int(qty / row.unit), forced, limit)
        units = int(qty / row.unit)
        if forced == "liquidation":
            side = BID if order.side is OrderSide.BUY else ASK
            ticks = None if limit is None else row.ticks(limit)
            units, _ = self._take(account, row, self.books[row.symbol], order, side, ticks, units)
        if units and rest_price > 0:
            self._settle(account, row, order, row.ticks(rest_price), units, is_maker=False, off_book=True)
        self._finish(account, row, order, kind.finish_as)
        self._note(account, row, order, before, position, limit, liq_price)
        return order.copy()

    def _forced_order(
        self,
        account: SimAccount,
        row: SimInstrument,
        position: SimPosition,
        units: int,
        forced: str,
        limit: Decimal | None,
    ) -> SimOrder:
        request = SimOrderRequest(
            symbol=row.symbol,
            side=OrderSide.SELL if position.qty > 0 else OrderSide.BUY,
            kind=OrderKind.MARKET if limit is None else OrderKind.LIMIT,
            tif=TimeInForce.IOC,
            qty=row.qty(units),
            price=limit or ZERO,
            reduce_only=account.dual_side,
        )
        order = self._new_order(row, request, units, self.books[row.symbol].update_id)
        order.forced, order.text = forced, _KINDS[forced].text.format(id=order.order_id)
        self._orders[order.order_id] = order
        self._owner[order.order_id] = account
        return order

    def _note(
        self,
        account: SimAccount,
        row: SimInstrument,
        order: SimOrder,
        before: SimPosition,
        after: SimPosition,
        limit: Decimal | None,
        liq_price: Decimal,
    ) -> None:
        """The ledger's ``forced`` row, the account's own record and its push."""
        close = ForcedClose(
            kind=order.forced,
            symbol=row.symbol,
            mode=before.mode,
            order_id=order.order_id,
            position_qty=before.qty,
            closed_qty=order.filled_qty,
            left_qty=after.qty,
            entry_price=before.entry_price,
            mark_price=self.mark_price(row.symbol),
            liq_price=liq_price,
            order_price=limit or ZERO,
            fill_price=order.average_price,
            margin=before.margin,
            leverage=ZERO if before.is_cross else before.leverage,
            fee=sum(order.fees.values(), ZERO),
            ts_ms=self.now_ms(),
        )
        account.forced.append(close)
        self.ledger.append(
            "forced",
            self.name,
            uid=account.uid,
            forced=close.kind,
            order_id=str(order.order_id),
            wire_order_id=self.order_id_text(order.order_id),
            text=order.text,
            symbol=close.symbol,
            side=order.side.name.lower(),
            qty=close.closed_qty,
            price=close.fill_price,
            fee=close.fee,
            position_before=close.position_qty,
            position_after=close.left_qty,
            mark_price=close.mark_price,
            liq_price=close.liq_price,
        )
        self._push(account, ForcedEvent(close, close.ts_ms))


def _on_tick(row: SimInstrument, price: Decimal) -> Decimal:
    return (price / row.tick).to_integral_value() * row.tick
