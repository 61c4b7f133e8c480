"""What an operation may amount to once its unknown orders are known, and whether one more order could make that worse.

An order without an answer has executed, or it has not. The exposure of an operation lies between what its proved fills
say and what they say with every unsettled order executed. A repair beside such orders is allowed only where the worst
of all these outcomes is no worse than before, or than one leg alone: so no order is ever made up for twice.

An order that only reduces cannot take a position through zero, however many of them arrive: together they count with at
most the position.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal

from pipeline.execution.bounds.windows import answer_expected
from pipeline.execution.core_context import CoreContext
from pipeline.execution.external_shares import may_fill, of_group, stands_against
from pipeline.execution.ledger import Ledger, Operation, Order
from pipeline.execution.records import OrderIntentRecord
from pipeline.model.enums import InstrumentKind, OrderSide
from pipeline.model.structs import ZERO

SLACK = Decimal("1.01")  # fees in base coins: a leg and its repair differ by them
Place = tuple[str, str]  # venue and symbol


def signed_rest(order: Order) -> Decimal:
    """Signed base coins that an unsettled order may still execute."""
    return may_fill(order) * int(order.intent.side)


def may_repair(
    ledger: Ledger, operation: Operation, asset: str, amount: Decimal, place: Place, signed: Decimal, reduces: bool
) -> bool:
    """Whether an order of ``signed`` base coins at ``place`` keeps the worst case within bounds.

    ``amount``: the unmatched quantity of ``asset`` by proved fills, dust that is to be taken along included;
    ``reduces``: the order only reduces a futures position.
    """
    open_orders = [o for o in ledger.unsettled_of_operation(operation) if o.intent.base == asset]
    if not open_orders:
        return True
    plain: list[Decimal] = []
    reducing: dict[Place, list[Decimal]] = {}
    for order in open_orders:
        intent = order.intent
        if intent.reduce_only:
            reducing.setdefault((intent.venue, intent.symbol), []).append(signed_rest(order))
        else:
            plain.append(signed_rest(order))
    before = _worst(ledger, amount, plain, reducing)
    if reduces:
        reducing.setdefault(place, []).append(signed)
    else:
        plain.append(signed)
    leg = max((leg.qty for leg in operation.record.legs if leg.base == asset), default=ZERO)
    return _worst(ledger, amount, plain, reducing) <= max(before, abs(amount), leg) * SLACK


def sold_beside(
    context: CoreContext, operation: Operation, place: Place, base: str, qty: Decimal, unsettled: Sequence[Order]
) -> bool:
    """Whether ``qty`` coins of a hedge that must leave may be sold on a spot instrument beside ``unsettled`` orders of
    others there, whose answers are overdue and of which none rests against it.

    The venue's coins cover it whatever those orders, and all others that sell there, execute; so nothing is sold twice.
    What these have done stays decidable: this order's own fills are known by their ids, and no balance that may be
    older than they are proves an order empty (``recovery/differences.py``). It is for coins that are there alone: a
    buy would spend money whose balance every other instrument of the venue moves as well.
    """
    ledger, coins = context.ledger, context.ledger.expected_balance(place[0], base)
    if coins is None or of_group(ledger, operation, unsettled):
        return False
    if any(answer_expected(context, order) or stands_against(order, OrderSide.SELL) for order in unsettled):
        return False
    sells = (order for order in ledger.unsettled.values() if order.intent.side is OrderSide.SELL)
    here = (o for o in sells if (o.intent.venue, o.intent.base, o.intent.kind) == (place[0], base, InstrumentKind.SPOT))
    return coins - sum((may_fill(order) for order in here), ZERO) >= qty


def _worst(ledger: Ledger, amount: Decimal, plain: list[Decimal], reducing: dict[Place, list[Decimal]]) -> Decimal:
    """Largest exposure, without its sign, over all outcomes."""
    low = high = amount
    for signed in plain:
        low, high = low + min(ZERO, signed), high + max(ZERO, signed)
    for place, orders in reducing.items():
        for side in OrderSide:
            part = sum((abs(o) for o in orders if o * int(side) > 0), ZERO)
            part = min(part, _reducible(ledger, place, side))
            if side is OrderSide.SELL:
                low -= part
            else:
                high += part
    return max(abs(low), abs(high))


def _reducible(ledger: Ledger, place: Place, side: OrderSide) -> Decimal:
    """Base coins that orders of ``side`` which only reduce can execute at most: the position, and what unsettled orders
    may still add to it."""
    position = ledger.expected_position(*place) * -int(side)
    adding = sum((may_fill(o) for o in ledger.unsettled_of_symbol(*place) if _adds(o.intent, side)), ZERO)
    return max(ZERO, position) + adding


def _adds(intent: OrderIntentRecord, side: OrderSide) -> bool:
    return not intent.reduce_only and intent.side is not side
