"""A liquidation, ADL or somebody's order has ended a position of ours: which operations lose how much of which leg, and
what they may still trade."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal

import msgspec

from pipeline.execution.ledger import SECOND_ENGINE, UNKNOWN_PAST, Ledger, Operation, Order
from pipeline.execution.records import LegPlan
from pipeline.model.enums import InstrumentKind, OrderSide
from pipeline.model.instruments import USD_COINS, InstrumentRow
from pipeline.model.structs import ZERO

A_HAIR = Decimal("1.01")


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


def group_holds(ledger: Ledger, operation: Operation, leg: LegPlan, *, everywhere: bool = False) -> Decimal:
    """Signed base coins that an operation's group may still reduce on the instrument of ``leg``. Coins are the same on
    every venue: where a hedge was bought on one and is sold on another, neither is held for itself. ``everywhere``: on
    all spot venues together."""
    here = group_net(ledger, operation, leg.venue, leg.symbol)
    if leg.kind is not InstrumentKind.SPOT:
        return here
    fills = (fill for member in group_of(ledger, operation) for fill in member.fills)
    total = sum((f.qty * int(f.side) for f in fills if f.kind is InstrumentKind.SPOT and f.base == leg.base), ZERO)
    if everywhere:
        return total
    return min(here, total, key=abs) if here * total > 0 else ZERO


def may_leave(ledger: Ledger, operation: Operation, leg: LegPlan, amount: Decimal) -> bool:
    """Whether an order that closes ``amount`` (signed, base coins) on a leg keeps what is left of the hedge on the
    hedge's own side: one that leaves it ends at nothing, it never opens the hedge's opposite, which nobody would keep.
    A hair more is allowed: fees in base coins."""
    side = _opened_side(ledger, operation, leg)
    if amount * side <= 0:
        return True  # it leaves no hedge, or its closing is undone (see undoes)
    return abs(amount) <= max(ZERO, group_holds(ledger, operation, leg, everywhere=True) * side) * A_HAIR


def undoes(ledger: Ledger, operation: Operation, leg: LegPlan, amount: Decimal) -> bool:
    """Whether an order that closes ``amount`` (signed, base coins) on a leg opens again what the hedge had opened there
    and this operation has closed."""
    return amount * _opened_side(ledger, operation, leg) < 0


def ending_part(ledger: Ledger, operation: Operation, leg: LegPlan, amount: Decimal) -> Decimal:
    """How much of ``amount`` (signed, base coins) an operation that may not be undone closes on a leg: all of it where
    it leaves the hedge as :func:`may_leave` allows, else at most what the hedge still holds there of that sign, and a
    hair for fees in base coins. So it opens nothing again: it only takes back what several exits together have traded
    beyond nothing."""
    if not undoes(ledger, operation, leg, amount) and may_leave(ledger, operation, leg, amount):
        return amount
    holds = group_holds(ledger, operation, leg, everywhere=True)
    if amount * holds <= 0:
        return ZERO
    return amount if abs(amount) <= abs(holds) * A_HAIR else holds


def _opened_side(ledger: Ledger, operation: Operation, leg: LegPlan) -> int:
    """The side on which the hedge that an operation leaves was opened on such a leg; 0: it leaves none."""
    if not operation.record.closes:
        return 0
    opened = ledger.operations[operation.record.closes].record.legs
    return next((int(one.side) for one in opened if one.kind is leg.kind and one.base == leg.base), 0)


def unpriced(operation: Operation, leg: LegPlan) -> bool:
    """Whether no living book had a price of a leg when an exit was planned: its planned price is another's. A book
    without a number may be a venue's own snapshot, which is a price as well."""
    return bool(operation.record.closes) and not leg.proof_mono_ns


def must_end(ledger: Ledger, operation: Operation, *, taking_over: bool, urgent: bool) -> bool:
    """Whether an operation that leaves a hedge may not be undone: it was commanded, or a rule demands it, of itself or
    of a later one that leaves the same hedge, or it runs in a takeover, which would only close the hedge again;
    ``urgent``: the contract's margin is short."""
    if not operation.record.closes:
        return False
    exits = ledger.closings.get(operation.record.closes, [])
    own = next((at for at, exit_ in enumerate(exits) if exit_ is operation), 0)
    return taking_over or urgent or any(exit_.record.manual for exit_ in exits[own:])


def in_doubt(ledger: Ledger, operation: Operation, leg: LegPlan, amount: Decimal) -> list[Order]:
    """Orders beside which none of ``operation`` may go out on a leg: unsettled ones there, of spot also elsewhere."""
    there = list(ledger.unsettled_of_symbol(leg.venue, leg.symbol))
    spot = leg.kind is InstrumentKind.SPOT
    return there + (in_doubt_elsewhere(ledger, operation, leg.base, amount) if spot else [])


def in_doubt_elsewhere(ledger: Ledger, operation: Operation, base: str, amount: Decimal) -> list[Order]:
    """Spot orders of other operations that leave the same hedge, on any venue and on the side that closes ``amount``
    (signed, base coins), which may still trade: what they have traded is not there for this one."""
    side = OrderSide.SELL if amount > 0 else OrderSide.BUY
    return [
        order
        for member in (group_of(ledger, operation)[1:] if operation.record.closes else ())
        for order in ledger.unsettled_of_operation(member)
        if member is not operation and (order.intent.kind, order.intent.base) == (InstrumentKind.SPOT, base)
        if order.intent.side is side
    ]


def may_fill(order: Order) -> Decimal:
    """Base coins by which an unsettled order may still move what the ledger knows: all of it that is not filled, or
    what its venue counted beyond the fills that came."""
    most = order.intent.qty
    if order.state.is_terminal and order.reported_filled is not None:
        most = min(most, order.reported_filled)
    return max(ZERO, most - order.filled)


def others_decide(ledger: Ledger, operation: Operation, base: str, amount: Decimal) -> bool:
    """Whether orders of other exits of the same hedge, which may still trade, decide how much of ``amount`` (signed)
    this one has to close: it does not end before they are known. A hair (fees in base coins) is no matter."""
    may = sum((may_fill(order) for order in in_doubt_elsewhere(ledger, operation, base, amount)), ZERO)
    return may > 0 and abs(amount) > may * (A_HAIR - 1)


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
    """Spot legs of a hedge whose coins lie on another instrument than the one on which the operation that leaves it
    trades spot (``hedging/netting.py``): (index of the operation's own spot leg, the hedge's leg with the best price
    that the operation saw)."""
    own = operation.record.legs
    places = {(leg.venue, leg.symbol) for leg in own}
    return [
        (index, msgspec.structs.replace(held, best_price=leg.best_price, proof_mono_ns=leg.proof_mono_ns))
        for held in ledger.operations[operation.record.closes].record.legs
        for index, leg in enumerate(own)
        if held.kind is leg.kind is InstrumentKind.SPOT and (held.venue, held.symbol) not in places
    ]


def own_side_only(ledger: Ledger, operation: Operation) -> bool:
    """Whether an operation may only reduce what its group still holds, each leg on its own instrument.

    True once others have ended a leg for certain (a part of it was taken from a member of the group) or perhaps (a
    venue has refused an order that only reduces). Buying back what the other leg has sold would open a position that
    nothing hedges.
    """
    return any(
        member.forced or any(ledger.orders[client_id].refused_to_reduce for client_id in member.orders)
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


def futures_taken(
    ledger: Ledger, venue: str, symbol: str, signed: Decimal, by_hand: Iterable[tuple[Operation, Decimal]] = ()
) -> list[tuple[Operation, Decimal]]:
    """Which operations lose how much (base coins) of their leg to an external change of a futures position.

    What was ``by_hand`` of it (:func:`done_by_hand`) goes before all, then what nobody owns, then the oldest holders of
    the other sign. A hedge that is being left loses it from the operation that leaves it: that one's own order finds
    nothing any more.
    """
    done = {operation.operation_id: qty if signed > 0 else -qty for operation, qty in by_hand}
    left = abs(signed) - abs(sum(done.values(), ZERO))
    unowned = ledger.external.unowned.get((venue, symbol), ZERO)
    if unowned * signed < 0:
        left = max(ZERO, left - abs(unowned))
    found: list[tuple[Operation, Decimal]] = []
    for opening in _holders(ledger):
        net = group_net(ledger, opening, venue, symbol)
        net += sum((done.get(member.operation_id, ZERO) for member in group_of(ledger, opening)), ZERO)
        if net * signed < 0 and left > 0:
            taken = min(abs(net), left)
            left -= taken
            closing = [o for o in group_of(ledger, opening)[1:] if o.operation_id in ledger.open_operations]
            found.append((closing[0] if closing else opening, taken))
    return found


def done_by_hand(
    ledger: Ledger, venue: str, symbol: str, base: str, signed: Decimal
) -> list[tuple[Operation, Decimal]]:
    """Operations that an operator has taken over, oldest first, and how much (base coins) of what stands alone in each
    an order on one of its own instruments that is not ours has done away with; ``signed``: what that order moved."""
    left = abs(signed)
    found: list[tuple[Operation, Decimal]] = []
    for name, operation in ledger.open_operations.items():
        known = ledger.recoveries.get(f"r{name}")
        if known is None or known.state != "cancelled":
            continue
        if all((leg.venue, leg.symbol, leg.base) != (venue, symbol, base) for leg in operation.record.legs):
            continue
        alone = operation.exposure().get(base, ZERO) - operation.moved_to_dust.get(base, ZERO)
        if alone * signed < 0 and left > 0:
            part = min(abs(alone), left)
            left -= part
            found.append((operation, part))
    return found


def spot_taken(ledger: Ledger, venue: str, base: str, total: Decimal) -> list[tuple[Operation, str, Decimal]]:
    """(operation, symbol, base coins) by which the coins that hedges bought on a venue exceed ``total``, what is there;
    the newest hedge loses first. What an exit under way has sold of a hedge is not there and is nobody's loss."""
    held = [
        hedge
        for hedge in ledger.hedges.values()
        if (hedge.spot_venue, hedge.base) == (venue, base)
        and hedge.spot_side is OrderSide.BUY
        and hedge.operation_id not in ledger.open_operations
    ]
    parts = {h.operation_id: min(h.qty, _coins_of_group(ledger, h.operation_id, venue, base)) for h in held}
    short = sum(parts.values(), ZERO) - total
    found: list[tuple[Operation, str, Decimal]] = []
    for hedge in reversed(held):
        taken = min(parts[hedge.operation_id], short)
        if taken > 0:
            short -= taken
            found.append((ledger.operations[hedge.operation_id], hedge.spot_symbol, taken))
    return found


def _coins_of_group(ledger: Ledger, operation_id: str, venue: str, base: str) -> Decimal:
    """Coins that the fills of a hedge's group left on a spot venue; 0 where they took some away."""
    fills = (fill for member in group_of(ledger, ledger.operations[operation_id]) for fill in member.fills)
    here = (f for f in fills if (f.kind, f.venue, f.base) == (InstrumentKind.SPOT, venue, base))
    return max(ZERO, sum((fill.qty * int(fill.side) for fill in here), ZERO))


def is_traded(instruments: Iterable[InstrumentRow], coin: str) -> bool:
    """Whether a coin is one of any instrument's two: one that is none of ours to trade counts in no limit."""
    return any(coin in (row.spec.base, row.spec.quote) for row in instruments)


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
