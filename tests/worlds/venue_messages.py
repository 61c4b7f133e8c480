"""What venues say of an order in an execution world: fills, updates, outcomes, sweeps."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from pipeline.exchanges.base import OutcomeKind, PlaceOutcome
from pipeline.execution.events import (
    SweepAnswer,
)
from pipeline.execution.ledger import Operation, Order
from pipeline.model.enums import (
    OrderSide,
    OrderState,
)
from pipeline.model.errors import VenueRejected
from pipeline.model.structs import Fill, OrderUpdate
from tests.worlds.execution_world import World


def only(world: World) -> Operation:
    return next(iter(world.core.ledger.operations.values()))


def order_on(world: World, venue: str) -> Order:
    return next(o for o in world.core.ledger.orders.values() if o.intent.venue == venue)


def fill_of(world: World, order: Order, **changes: Any) -> Fill:
    intent = order.intent
    fee_in_base = intent.venue == "gateio_spot" and intent.side is OrderSide.BUY
    price = intent.price
    values: dict[str, Any] = {
        "venue": intent.venue,
        "symbol": intent.symbol,
        "trade_id": f"t-{order.client_id}",
        "order_id": f"v-{order.client_id}",
        "client_id": order.client_id,
        "side": intent.side,
        "qty": intent.qty,
        "price": price,
        "fee": intent.qty * (1 if fee_in_base else price) / 10_000,
        "fee_asset": "BTC" if fee_in_base else "USDT",
        "is_maker": False,
        "venue_wall_ms": world.now().wall_ms,
        "recv_mono_ns": world.now_ns,
        "source": "ws",
    }
    return Fill(**{**values, **changes})


def update_of(world: World, order: Order, state: OrderState, filled: Decimal | None, **changes: Any) -> OrderUpdate:
    values: dict[str, Any] = {
        "venue": order.intent.venue,
        "symbol": order.intent.symbol,
        "client_id": order.client_id,
        "order_id": f"v-{order.client_id}",
        "state": state,
        "filled_qty": filled,
        "average_price": None,
        "venue_wall_ms": world.now().wall_ms,
        "recv_mono_ns": world.now_ns,
        "source": "ws",
    }
    return OrderUpdate(**{**values, **changes})


def outcome_of(world: World, order: Order, kind: OutcomeKind, text: str = "no") -> PlaceOutcome:
    error = None if kind is OutcomeKind.ACKED else VenueRejected(text, venue=order.intent.venue)
    return PlaceOutcome(
        venue=order.intent.venue,
        symbol=order.intent.symbol,
        client_id=order.client_id,
        kind=kind,
        update=None,
        error=error,
        recv_mono_ns=world.now_ns,
    )


def sweep_of(world: World, venue: str, **changes: Any) -> SweepAnswer:
    model = world.venues[venue]
    values: dict[str, Any] = {
        "venue": venue,
        "began_mono_ns": world.now_ns,
        "began_wall_ms": world.now().wall_ms,
        "since_wall_ms": 0,
        "symbols": ("BTCUSDT",),
        "balances": tuple(world.rest_balances(model)),
    }
    return SweepAnswer(**{**values, **changes})


def moved_by(world: World, fill: Fill) -> None:
    """The venue's own books after an execution that only the test knows of."""
    venue, sign = world.venues[fill.venue], int(fill.side)
    if venue.spot:
        venue.balances["BTC"] += sign * fill.qty
        venue.balances["USDT"] -= sign * fill.qty * fill.price
    else:
        venue.move_position(sign * fill.qty, fill.price)
    venue.balances[fill.fee_asset] -= fill.fee


def finish_order(world: World, order: Order, qty: Decimal | None = None) -> None:
    qty = order.intent.qty if qty is None else qty
    if qty:
        fill = fill_of(world, order, qty=qty, fee=qty * order.intent.price / 10_000)
        moved_by(world, fill)
        world.feed(fill)
    state = OrderState.FILLED if qty == order.intent.qty else OrderState.CANCELLED
    world.feed(update_of(world, order, state, qty))
