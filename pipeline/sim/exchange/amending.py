"""Amending open orders: another price, another quantity, or both, as Gate.io does it.

Only a smaller quantity at the same price keeps the order's place in the queue; everything else joins the end of the
queue at its price, and matches first if it now crosses. A quantity that is already filled ends the order. What cannot
be carried out (funds, limits, a post-only order that would take) changes nothing. A reduce-only order grows to what is
held and no further.
Source: Gate.io APIv4 "Amend single order" (spot and futures).
"""

from __future__ import annotations

from decimal import Decimal

from pipeline.model.enums import OrderKind, OrderSide
from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.exchange.admission import check_limits, check_status, check_unfillable
from pipeline.sim.exchange.decimals import ZERO
from pipeline.sim.exchange.futures.positions import mode_of
from pipeline.sim.exchange.instruments import SimInstrument
from pipeline.sim.exchange.matching_engine import MatchingEngine
from pipeline.sim.exchange.order_book import ASK, BID
from pipeline.sim.exchange.orders import RejectReason, SimAmendRequest, SimOrder, SimOrderRequest, SimReject
from pipeline.sim.exchange.settlement import opening_qty


class OrderAmender(MatchingEngine):
    """A matching engine whose open orders can be amended."""

    def amend(self, account: SimAccount, request: SimAmendRequest) -> SimOrder:
        """Changes an open order now; returns a copy. Raises ``SimReject``: nothing has changed then."""
        symbol, qty = request.symbol, request.qty
        order = self._open_order(account, symbol, request.order_id, request.client_id)
        row = self.instruments[symbol]
        if qty is not None and order.reduce_only:
            qty = min(qty, order.filled_qty + self._reducible(account, row, order))
        wanted = _whole_order(
            order, order.price if request.price is None else request.price, order.qty if qty is None else qty
        )
        if request.expiry_wall_ms and self.now_ms() > request.expiry_wall_ms:
            raise SimReject(RejectReason.EXPIRED, f"now={self.now_ms()} expiry={request.expiry_wall_ms}")
        units = self._checked_units(row, order, wanted)
        if wanted.qty is not None and wanted.qty <= order.filled_qty:
            order.amend_text = request.amend_text or order.amend_text
            self._end(account, order, "cancelled")
            return order.copy()
        keeps_place = wanted.price == order.price and wanted.qty is not None and wanted.qty <= order.qty
        side, limit = BID if order.side is OrderSide.BUY else ASK, row.ticks(wanted.price)
        if not keeps_place and self._rejects_unfillable:
            check_unfillable(self.books[symbol], side, limit, units, wanted, id(account))
        self._fund(account, row, order, wanted)
        order.price, order.qty = wanted.price, wanted.qty or ZERO
        order.amend_text = request.amend_text or order.amend_text
        order.updated_ms = self.now_ms()
        order.update_seq += 1
        left = units - int(order.filled_qty / row.unit)
        if keeps_place:
            self.books[symbol].shrink(self._resting[order.order_id], left)
            self._update(account, row, order)
            self._trim_reducing(account, row)
            return order.copy()
        self.books[symbol].withdraw(self._resting.pop(order.order_id))
        self._update(account, row, order)
        self._match(account, row, self.books[symbol], order, side, limit, left)
        self._trim_reducing(account, row)
        return order.copy()

    def _checked_units(self, row: SimInstrument, order: SimOrder, wanted: SimOrderRequest) -> int:
        """Units of the whole amended order; the checks of a new one."""
        check_status(row, wanted, self.now_ms())
        if wanted.qty is None or wanted.qty <= 0 or wanted.price <= 0:
            raise SimReject(RejectReason.BAD_PARAMETER, f"price={wanted.price} qty={wanted.qty}")
        row.ticks(wanted.price)
        units = row.units(wanted.qty)
        check_limits(row, wanted, units, self.mark_price(row.symbol))
        if order.is_close and wanted.qty != order.qty:
            raise SimReject(RejectReason.BAD_PARAMETER, "the size of a closing order cannot be changed")
        return units

    def _fund(self, account: SimAccount, row: SimInstrument, order: SimOrder, wanted: SimOrderRequest) -> None:
        """Locks or reserves what the amended rest needs in place of what the order held; refuses when short."""
        left = (wanted.qty or ZERO) - order.filled_qty
        if not row.is_futures:
            self.settlement.amend_lock(account, row, order, wanted.price, left)
            return
        position = self.position(account, row.symbol, mode_of(account, order.side, order.reduce_only))
        opening = ZERO if order.reduce_only else opening_qty(position, order.side, left)
        available = self.margin_account(account).available
        self.settlement.amend_margin(account, order, left, opening * wanted.price, position.leverage, available)


def _whole_order(order: SimOrder, price: Decimal, qty: Decimal) -> SimOrderRequest:
    return SimOrderRequest(
        symbol=order.symbol,
        side=order.side,
        kind=OrderKind.LIMIT,
        tif=order.tif,
        qty=qty,
        price=price,
        reduce_only=order.reduce_only,
    )
