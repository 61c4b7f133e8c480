"""A liquidation, ADL or somebody's order has ended a position of ours: which operations lose how much of which leg, and
what they may still trade."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal

import msgspec

from pipeline.execution.ledger import SECOND_ENGINE, UNKNOWN_PAST, Ledger, Operation, Order
from pipeline.execution.records import LegPlan
from pipeline.model.enums import InstrumentKind, OrderSide, TimeInForce
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


def group_holds(ledger: Ledger, operation: Operation, leg: LegPlan) -> Decimal:
    """Signed base coins that an operation's group may still reduce on the instrument of ``leg``: of coins what it holds
    on all spot venues together. They are the same everywhere: where a hedge was bought on one and is sold on another,
    neither is held for itself."""
    if leg.kind is not InstrumentKind.SPOT:
        return group_net(ledger, operation, leg.venue, leg.symbol)
    fills = (fill for member in group_of(ledger, operation) for fill in member.fills)
    return sum((f.qty * int(f.side) for f in fills if f.kind is InstrumentKind.SPOT and f.base == leg.base), ZERO)


def may_leave(ledger: Ledger, operation: Operation, leg: LegPlan, amount: Decimal) -> bool:
    """Whether an order that closes ``amount`` (signed, base coins) on a leg keeps what is left of the hedge on the
    hedge's own side: one that leaves it ends at nothing, it never opens the hedge's opposite, which nobody would keep.
    A hair more is allowed: fees in base coins."""
    side = _opened_side(ledger, operation, leg)
    if amount * side <= 0:
        return True  # it leaves no hedge, or its closing is undone (see undoes)
    return abs(amount) <= max(ZERO, group_holds(ledger, operation, leg) * side) * A_HAIR


def undoes(ledger: Ledger, operation: Operation, leg: LegPlan, amount: Decimal) -> bool:
    """Whether an order that closes ``amount`` (signed, base coins) on a leg opens again what the hedge had opened there
    and this operation has closed."""
    return amount * _opened_side(ledger, operation, leg) < 0


def ending_part(ledger: Ledger, operation: Operation, leg: LegPlan, amount: Decimal) -> Decimal:
    """How much of ``amount`` (signed, base coins) an operation that may not be undone closes on a leg: at most what the
    hedge still holds there of that sign, and a hair for fees in base coins. So it opens nothing again: it only takes
    back what several exits together have traded beyond nothing.

    Of a contract it leaves what orders of the other exits there may still trade: the venue lets another hedge's share
    of the position go with the second of two orders that only reduce. (Of coins nothing is sold beside such an order:
    :func:`in_doubt`.)"""
    if not _opened_side(ledger, operation, leg):
        return amount
    holds = group_holds(ledger, operation, leg)
    if leg.kind is not InstrumentKind.SPOT:
        others = in_doubt_elsewhere(ledger, operation, leg.kind, leg.base, amount)
        holds += sum((may_fill(order) * int(order.intent.side) for order in others), ZERO)
    if amount * holds <= 0:
        return ZERO
    return amount if abs(amount) <= abs(holds) * A_HAIR else holds


def own_side_part(ledger: Ledger, operation: Operation, leg: LegPlan, amount: Decimal) -> Decimal:
    """How much of ``amount`` (signed, base coins) an operation that only reduces (:func:`own_side_only`) closes on a
    leg: at most what its group holds there of that sign, less what every order of the group on its way may still trade,
    of coins on all venues. So together they never trade more than is held."""
    here = group_net(ledger, operation, leg.venue, leg.symbol)
    total = group_holds(ledger, operation, leg)
    for member in group_of(ledger, operation):
        for order in ledger.unsettled_of_operation(member):
            intent, signed = order.intent, may_fill(order) * int(order.intent.side)
            if signed * amount < 0 and (intent.kind, intent.base) == (leg.kind, leg.base):
                total += signed
                here += signed if (intent.venue, intent.symbol) == (leg.venue, leg.symbol) else ZERO
    free = min(here, total, key=abs) if here * total > 0 else ZERO
    return min(amount, free, key=abs) if amount * free > 0 else ZERO


def moved_part(ledger: Ledger, operation: Operation, leg: LegPlan, amount: Decimal) -> Decimal:
    """How much of ``amount`` (base coins to sell) an operation that only reduces sells elsewhere than where its group
    has bought: what its own venues have no more by the ledger, as trades of ours have moved it; 0 of a buy.
    ``leg``: any spot leg of the coin."""
    found, group = ZERO, group_of(ledger, operation)
    legs = (one for member in group for one in member.record.legs if (one.kind, one.base) == (leg.kind, leg.base))
    for venue, symbol in {(one.venue, one.symbol) for one in legs}:
        there = ledger.expected_balance(venue, leg.base)
        place = msgspec.structs.replace(leg, venue=venue, symbol=symbol)
        if there is not None:
            found += max(ZERO, own_side_part(ledger, operation, place, amount) - max(ZERO, there))
    return min(max(ZERO, amount), found)


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
    return there + (in_doubt_elsewhere(ledger, operation, leg.kind, leg.base, amount) if spot else [])


def of_group(ledger: Ledger, operation: Operation, orders: Iterable[Order]) -> list[Order]:
    """Those of ``orders`` that are of the operation's group."""
    members = {member.operation_id for member in group_of(ledger, operation)}
    return [order for order in orders if order.intent.operation_id in members]


def in_doubt_elsewhere(
    ledger: Ledger, operation: Operation, kind: InstrumentKind, base: str, amount: Decimal
) -> list[Order]:
    """Orders of other operations that leave the same hedge, on any venue and on the side that closes ``amount``
    (signed, base coins), which may still trade: what they have traded is not there for this one."""
    side = OrderSide.SELL if amount > 0 else OrderSide.BUY
    return [
        order
        for member in (group_of(ledger, operation)[1:] if operation.record.closes else ())
        for order in ledger.unsettled_of_operation(member)
        if member is not operation and (order.intent.kind, order.intent.base) == (kind, base)
        if order.intent.side is side
    ]


def stands_against(order: Order, side: OrderSide) -> bool:
    """Whether an order of ours rests that one of ``side`` could trade with. One that does not rest is not waited for:
    its answer may take as long again as the order for what others have left alone."""
    return order.intent.side is not side and order.intent.tif is TimeInForce.GTC


def may_fill(order: Order) -> Decimal:
    """Base coins by which an unsettled order may still move what the ledger knows: all of it that is not filled, or
    what its venue counted beyond the fills that came."""
    most = order.intent.qty
    if order.state.is_terminal and order.reported_filled is not None:
        most = min(most, order.reported_filled)
    return max(ZERO, most - order.filled)


def only_shrinks(ledger: Ledger, place: tuple[str, str], side: OrderSide, qty: Decimal, *, after_all: bool) -> bool:
    """Whether an order on a contract only shrinks the position; ``after_all``: as it is once all on its way has
    filled."""
    orders = ledger.unsettled_of_symbol(*place) if after_all else ()
    flying = sum((may_fill(order) for order in orders if order.intent.side is side), ZERO)
    return -int(side) * ledger.accounts.futures_qty(*place) - flying >= qty > 0


def others_decide(ledger: Ledger, operation: Operation, base: str, amount: Decimal) -> bool:
    """Whether orders of other exits of the same hedge, which may still trade, decide how much of ``amount`` (signed)
    this one has to close: it does not end before they are known. A hair (fees in base coins) is no matter."""
    orders = (in_doubt_elsewhere(ledger, operation, kind, base, amount) for kind in InstrumentKind)
    may = sum((may_fill(order) for found in orders for order in found), ZERO)
    return may > 0 and abs(amount) > may * (A_HAIR - 1)


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


def netted(ledger: Ledger, operation: Operation, leg: LegPlan, amount: Decimal) -> bool:
    """Whether other operations hold so much of a contract the other way that the account has only the difference: an
    order that closes what this one's group holds there (``amount``, signed) may go through zero, and opens nothing."""
    held = group_net(ledger, operation, leg.venue, leg.symbol)
    others = ledger.accounts.futures_qty(leg.venue, leg.symbol) - held
    return leg.kind is InstrumentKind.PERPETUAL and held * others < 0 and held * amount > 0 and abs(amount) <= abs(held)


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


def spot_taken(ledger: Ledger, venue: str, base: str, lost: Decimal) -> list[tuple[Operation, str, Decimal]]:
    """(operation, symbol, base coins) that hedges bought on a venue lose to something that has just taken ``lost``
    coins from there, never more than that; the newest hedge loses first.

    What nobody's hedge needs goes first. Nobody loses what an exit under way has sold, nor what trades of ours have
    moved to other venues, unless the coins of all venues together are fewer than those of all hedges.
    """
    coins = ledger.expected_balance(venue, base)
    if coins is None or lost <= 0:
        return []
    bought = [h for h in ledger.hedges.values() if h.base == base and h.spot_side is OrderSide.BUY]
    parts = {h.operation_id: min(h.qty, _coins_of_group(ledger, h.operation_id, h.spot_venue, base)) for h in bought}
    held = [h for h in bought if h.spot_venue == venue and h.operation_id not in ledger.open_operations]
    whole = sum((parts[hedge.operation_id] for hedge in held), ZERO)
    here = min(whole, max(ZERO, traded_coins(ledger, venue, base)))
    everywhere = sum((ledger.expected_balance(*key) or ZERO for key in ledger.baseline if key[1] == base), ZERO)
    short = min(lost, max(here - coins, sum(parts.values(), ZERO) - everywhere))
    found: list[tuple[Operation, str, Decimal]] = []
    for hedge in reversed(held):
        taken = min(parts[hedge.operation_id], short)
        if taken > 0:
            short -= taken
            found.append((ledger.operations[hedge.operation_id], hedge.spot_symbol, taken))
    return found


def traded_coins(ledger: Ledger, venue: str, coin: str) -> Decimal:
    """Coins that operations have left on a venue, or taken away (< 0): by their own fills, and by what an adoption gave
    them or an external movement took of them."""
    key = (venue, coin)
    return ledger.accounts.flows.get(key, ZERO) - ledger.external.foreign_spot.get(key, ZERO)


def _coins_of_group(ledger: Ledger, operation_id: str, venue: str, base: str) -> Decimal:
    """Coins that the fills of a hedge's group left on a spot venue; 0 where they took some away."""
    fills = (fill for member in group_of(ledger, ledger.operations[operation_id]) for fill in member.fills)
    here = (f for f in fills if (f.kind, f.venue, f.base) == (InstrumentKind.SPOT, venue, base))
    return max(ZERO, sum((fill.qty * int(fill.side) for fill in here), ZERO))


def is_traded(instruments: Iterable[InstrumentRow], coin: str) -> bool:
    """Whether a coin is one of any instrument's two: one that is none of ours to trade counts in no limit."""
    return any(coin in (row.spec.base, row.spec.quote) for row in instruments)


def coins_of_others(ledger: Ledger) -> dict[tuple[str, str], tuple[Decimal, Decimal]]:
    """(venue, coin) -> (what trades of others hold there, < 0: sold beyond it; what came or went without a trade since
    the journal began). Only the first is anybody's exposure: what was withdrawn is stock that left, and what an
    adoption gave to a hedge is the hedge's. Money in USD coins is left out."""
    held, flows = ledger.external.trades.coins, ledger.accounts.external
    found = {key: (held[key].qty if key in held else ZERO, flows.get(key, ZERO)) for key in sorted({*held, *flows})}
    return {key: both for key, both in found.items() if any(both) and key[1] not in USD_COINS}


def _holders(ledger: Ledger) -> list[Operation]:
    """Operations that opened something which may still be held, oldest first."""
    names = dict.fromkeys(ledger.hedges)
    names.update(dict.fromkeys(o.record.closes or o.operation_id for o in ledger.open_operations.values()))
    return sorted((ledger.operations[name] for name in names), key=lambda o: o.started_mono_ns)
