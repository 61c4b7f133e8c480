"""Whose leg an external movement took: the operations that held it, and what they may still do about it."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import msgspec

from pipeline.execution.ledger import SECOND_ENGINE, UNKNOWN_PAST, Ledger, Operation, Order
from pipeline.execution.records import LegPlan
from pipeline.model.enums import InstrumentKind, OrderSide, OrderState
from pipeline.model.instruments import USD_COINS
from pipeline.model.structs import ZERO


def group_of(ledger: Ledger, operation: Operation) -> list[Operation]:
    """The operation that opened a hedge and those that leave it; any other operation alone."""
    opening = ledger.operations[operation.record.closes] if operation.record.closes else operation
    return [opening, *ledger.closings.get(opening.operation_id, ())]


def group_net(ledger: Ledger, operation: Operation, venue: str, symbol: str) -> Decimal:
    """Signed base coins that an operation's group holds on one instrument, by its fills."""
    return sum(
        (
            fill.qty * int(fill.side)
            for member in group_of(ledger, operation)
            for fill in member.fills
            if fill.symbol == symbol and fill.venue == venue
        ),
        ZERO,
    )


def may_fill(order: Order) -> Decimal:
    """Base coins by which an unsettled order may still move what the ledger knows: its whole rest, or what its venue
    counted beyond the fills that came."""
    most = order.intent.qty
    if order.state.is_terminal and order.reported_filled is not None:
        most = min(most, order.reported_filled)
    return max(ZERO, most - order.filled)


def group_in_flight(ledger: Ledger, operation: Operation, venue: str, symbol: str, side: OrderSide) -> Decimal:
    """Base coins that unsettled orders of an operation's group may still trade on one instrument and side."""
    members = {member.operation_id for member in group_of(ledger, operation)}
    return sum(
        (
            may_fill(order)
            for order in ledger.unsettled_of_symbol(venue, symbol)
            if order.intent.side is side and order.intent.operation_id in members
        ),
        ZERO,
    )


def held_elsewhere(ledger: Ledger, operation: Operation) -> list[tuple[int, LegPlan]]:
    """The spot leg of the hedge that an operation leaves, where that trades spot on another instrument (it nets a
    contract): (index of its own spot leg, the leg, with the best price that this operation saw)."""
    own = operation.record.legs
    places = {(leg.venue, leg.symbol) for leg in own}
    return [
        (index, msgspec.structs.replace(held, best_price=leg.best_price))
        for held in ledger.operations[operation.record.closes].record.legs
        for index, leg in enumerate(own)
        if held.kind is leg.kind is InstrumentKind.SPOT and (held.venue, held.symbol) not in places
    ]


def own_side_only(ledger: Ledger, operation: Operation) -> bool:
    """Whether an operation may only reduce what its group still holds, each leg on its own instrument.

    So from when on a leg is known, or must be feared, to have been ended by others: a part of it was taken, or a
    venue refused to reduce it. Buying back what the other leg has sold would open a position that nothing hedges.
    """
    return any(
        member.forced
        or any(
            (order := ledger.orders[client_id]).state is OrderState.REJECTED and order.intent.reduce_only
            for client_id in member.orders
        )
        for member in group_of(ledger, operation)
    )


def position_unknown(ledger: Ledger, operation: Operation, questioned: Callable[[str, str], bool]) -> bool:
    """Whether others may have ended a leg, and how much of it is not known yet: by the venue, or by an operator where
    orders of an engine are there that the journal lacks. ``questioned(venue, symbol)``: it is being looked up."""
    if not own_side_only(ledger, operation):
        return False
    if UNKNOWN_PAST in ledger.breakers or SECOND_ENGINE in ledger.breakers:
        return True
    return any(questioned(leg.venue, leg.symbol) for leg in operation.record.legs)


def futures_taken(ledger: Ledger, venue: str, symbol: str, signed: Decimal) -> list[tuple[Operation, Decimal]]:
    """Which operations lose how much (base coins) of their leg to an external change of a futures position.

    What nobody owns goes first, then the oldest holders of the other sign. A hedge that is being left loses it from
    the operation that leaves it: that one's own order finds nothing any more.
    """
    left = abs(signed)
    unowned = ledger.external.unowned.get((venue, symbol), ZERO)
    if unowned * signed < 0:
        left = max(ZERO, left - abs(unowned))
    found: list[tuple[Operation, Decimal]] = []
    for opening in _holders(ledger):
        net = group_net(ledger, opening, venue, symbol)
        if net * signed < 0 and left > 0:
            taken = min(abs(net), left)
            left -= taken
            closing = [o for o in group_of(ledger, opening)[1:] if o.operation_id in ledger.open_operations]
            found.append((closing[0] if closing else opening, taken))
    return found


def spot_taken(ledger: Ledger, venue: str, base: str, total: Decimal) -> list[tuple[Operation, str, Decimal]]:
    """(operation, symbol, base coins) by which the coins that hedges bought on a venue exceed ``total``, what is there;
    the newest hedge loses first."""
    held = [
        hedge
        for hedge in ledger.hedges.values()
        if (hedge.spot_venue, hedge.base) == (venue, base)
        and hedge.spot_side is OrderSide.BUY
        and hedge.operation_id not in ledger.open_operations
    ]
    short = sum((hedge.qty for hedge in held), ZERO) - total
    found: list[tuple[Operation, str, Decimal]] = []
    for hedge in reversed(held):
        if short > 0:
            taken = min(hedge.qty, short)
            short -= taken
            found.append((ledger.operations[hedge.operation_id], hedge.spot_symbol, taken))
    return found


def coins_of_others(ledger: Ledger) -> dict[tuple[str, str], Decimal]:
    """(venue, coin) -> what trades of others, deposits and withdrawals left there, or took away (< 0). Money in USD
    coins is no exposure and is left out."""
    spot, flows = ledger.external.foreign_spot, ledger.accounts.external
    found = {key: spot.get(key, ZERO) + flows.get(key, ZERO) for key in sorted({*spot, *flows})}
    return {key: qty for key, qty in found.items() if qty and key[1] not in USD_COINS}


def _holders(ledger: Ledger) -> list[Operation]:
    """Operations that opened something which may still be held, oldest first."""
    names = dict.fromkeys(ledger.hedges)
    names.update(dict.fromkeys(o.record.closes or o.operation_id for o in ledger.open_operations.values()))
    return sorted((ledger.operations[name] for name in names), key=lambda o: o.started_mono_ns)
