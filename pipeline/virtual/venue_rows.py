"""Orders, trades and positions of a simulated venue as the core gets them from the venue's codec."""

from __future__ import annotations

from pipeline.model.enums import OrderState
from pipeline.model.structs import ZERO, Fill, OrderUpdate, Position
from pipeline.sim.exchange.accounts import SimAccount, SimPosition
from pipeline.sim.exchange.futures.margin import maintenance_margin, tier_of, unrealised
from pipeline.sim.exchange.orders import OrderStatus, SimOrder, SimTrade
from pipeline.sim.exchange.venue import SimVenue


def order_update(venue: SimVenue, order: SimOrder, source: str) -> OrderUpdate:
    """An order as the venue's codec reads it: a forced one has no id of ours and did not end as ``filled``."""
    state = {
        OrderStatus.NEW: OrderState.OPEN,
        OrderStatus.PARTIALLY_FILLED: OrderState.PARTIALLY_FILLED,
        OrderStatus.FILLED: OrderState.FILLED,
        OrderStatus.CANCELED: OrderState.CANCELLED,
    }[order.status]
    if order.forced and order.finish_as != "filled":
        state = OrderState.CANCELLED
    return OrderUpdate(
        venue=venue.name,
        symbol=order.symbol,
        client_id=order.client_id,
        order_id=str(order.order_id),
        state=state,
        filled_qty=order.filled_qty,
        average_price=order.average_price if order.filled_qty else None,
        venue_wall_ms=order.updated_ms,
        recv_mono_ns=venue.clock.mono_ns(),
        source=source,
        reason="" if order.is_open else order.text if order.finish_as == "filled" else order.finish_as,
    )


def fill_of(venue: SimVenue, trade: SimTrade, source: str) -> Fill:
    """As the codecs tell it: a deduction coin's part stands alone where nothing was paid in the plain asset."""
    parts = ((trade.fee_asset, trade.fee), (trade.coin_asset, trade.coin_fee))
    (asset, fee), *extra = [part for part in parts if part[1]] or parts[:1]
    return Fill(
        venue=venue.name,
        symbol=trade.symbol,
        trade_id=str(trade.trade_id),
        order_id=str(trade.order_id),
        client_id=trade.client_id,
        side=trade.side,
        qty=trade.qty,
        price=trade.price,
        fee=fee,
        fee_asset=asset,
        extra_fees=tuple(extra),
        is_maker=trade.is_maker,
        venue_wall_ms=trade.ts_ms,
        recv_mono_ns=venue.clock.mono_ns(),
        source=source,
    )


def position_of(venue: SimVenue, account: SimAccount, row: SimPosition) -> Position:
    """A position as the venue states it now."""
    mark, listing = venue.mark_price(row.symbol), venue.instruments[row.symbol]
    return Position(
        venue=venue.name,
        symbol=row.symbol,
        qty=row.qty,
        entry_price=row.entry_price,
        mark_price=mark,
        recv_mono_ns=venue.clock.mono_ns(),
        margin=row.margin,
        unrealised_pnl=unrealised(row, mark),
        liquidation_price=venue.liquidation_price(account, row) or ZERO,
        maintenance_rate=tier_of(listing, abs(row.qty) * mark).maintenance_rate,
        maintenance_margin=maintenance_margin(listing, row.qty, mark),
    )
