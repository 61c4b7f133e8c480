"""Futures positions of one account: one per contract, or a long and a short one in dual (hedge) mode.

In dual mode an order that opens goes to the position of its own direction, a reducing one to the other: a sell that
reduces belongs to the long position. Source: Gate.io APIv4 "Futures", dual mode.
"""

from __future__ import annotations

from decimal import ROUND_HALF_EVEN, Decimal

from pipeline.model.enums import OrderSide
from pipeline.sim.exchange.accounts import PositionClose, SimAccount, SimPosition
from pipeline.sim.exchange.decimals import MONEY_STEP, ZERO

LONG, SHORT = "dual_long", "dual_short"


def mode_of(account: SimAccount, side: OrderSide, reduces: bool) -> str:
    """Which position of a contract an order touches."""
    if not account.dual_side:
        return "single"
    return LONG if (side is OrderSide.BUY) is not reduces else SHORT


def position_of(account: SimAccount, symbol: str, mode: str = "single") -> SimPosition:
    """The position, zero if there never was one. In single mode the key is the symbol alone."""
    key = symbol if mode == "single" else f"{symbol}:{mode}"
    found = account.positions.get(key)
    if found is None:
        found = account.positions[key] = SimPosition(
            symbol=symbol, mode=mode, leverage=account.default_leverage, is_cross=account.default_cross
        )
    return found


def positions_of(account: SimAccount, symbol: str) -> list[SimPosition]:
    """What the account shows for a contract in its mode: one row, or the long and the short one."""
    if not account.dual_side:
        return [position_of(account, symbol)]
    return [position_of(account, symbol, LONG), position_of(account, symbol, SHORT)]


def apply_fill(position: SimPosition, price: Decimal, signed: Decimal) -> tuple[Decimal, Decimal]:
    """Adds a signed base quantity at a price; returns (realised PnL, closed quantity).

    What is closed sets its share of the margin free, what is opened adds its initial margin.
    """
    realised = closed = ZERO
    if position.qty and (position.qty > 0) != (signed > 0):
        closed = min(abs(position.qty), abs(signed))
        if closed == abs(position.qty):
            released, freed = position.cost, position.margin
        else:
            share = closed / abs(position.qty)
            released = (position.cost * closed / abs(position.qty)).quantize(MONEY_STEP, ROUND_HALF_EVEN)
            freed = (position.margin * share).quantize(MONEY_STEP, ROUND_HALF_EVEN)
        direction = 1 if position.qty > 0 else -1
        realised = price * closed * direction - released
        position.cost -= released
        position.margin -= freed
        position.qty -= closed * direction
        signed += closed * direction
    if signed:
        position.qty += signed
        position.cost += price * signed
        position.margin += (price * abs(signed) / position.leverage).quantize(MONEY_STEP, ROUND_HALF_EVEN)
    return realised.normalize() + ZERO, closed


def record_span(
    account: SimAccount,
    position: SimPosition,
    *,
    before: Decimal,
    price: Decimal,
    closed: Decimal,
    opened: Decimal,
    now_ms: int,
    text: str,
) -> PositionClose | None:
    """Records a position's life from flat to flat; its end becomes a ``PositionClose``, which is returned.

    ``text``: of the order that filled.
    Called after ``apply_fill`` and after the fill's gain and fee are counted; a caller that opens from flat starts the
    span before those.
    """
    span = position.span
    ended: PositionClose | None = None
    if closed:
        span.exited_qty += closed
        span.exited_quote += closed * price
        if not position.qty or (position.qty > 0) != (before > 0):
            ended = _closed(position, before, now_ms, text)
            account.closes.append(ended)
            span.start(position, now_ms)
    if opened:
        span.entered_qty += opened
        span.entered_quote += opened * price
    span.max_qty = max(span.max_qty, abs(position.qty))
    return ended


def _closed(position: SimPosition, before: Decimal, now_ms: int, text: str) -> PositionClose:
    span = position.span
    return PositionClose(
        symbol=position.symbol,
        is_long=before > 0,
        opened_ms=span.opened_ms,
        closed_ms=now_ms,
        realised_pnl=position.realised_pnl - span.realised_pnl,
        paid_fees=position.paid_fees - span.paid_fees,
        paid_funding=position.paid_funding - span.paid_funding,
        max_qty=span.max_qty,
        total_qty=span.entered_qty,
        entry_price=span.entered_quote / span.entered_qty if span.entered_qty else ZERO,
        exit_price=span.exited_quote / span.exited_qty if span.exited_qty else ZERO,
        text=text,
    )
