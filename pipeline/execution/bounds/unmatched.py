"""The unmatched quantities of an operation: the net amounts that its fills left behind.

A leg filled, and the other one did not, or not as far.
"""

from __future__ import annotations

from dataclasses import dataclass
from decimal import Decimal

from pipeline.execution.accounts import EXACT
from pipeline.execution.external_shares import may_fill
from pipeline.execution.ledger import Ledger, Operation
from pipeline.model.enums import OrderSide
from pipeline.model.structs import ZERO


@dataclass(slots=True)
class UnmatchedQuantity:
    """Net amount of one asset that an operation left (signed): ``amount`` its own, ``dust`` what earlier ones left."""

    asset: str
    amount: Decimal
    dust: Decimal


def unmatched_quantities(operation: Operation, numeraire: str, dust: dict[str, Decimal]) -> list[UnmatchedQuantity]:
    """Unmatched quantity per asset but the start asset, in order of the assets' names; those that are 0 are left out.

    What was moved out to the dust ledger is taken off. ``dust``: the dust that a repair may close along with it.
    """
    start = operation_start(operation, numeraire)
    found: list[UnmatchedQuantity] = []
    exposure = operation.exposure()
    for asset in sorted(set(exposure) | set(operation.moved_to_dust)):
        if asset == start or not any(leg.base == asset or leg.quote == asset for leg in operation.record.legs):
            continue
        amount = EXACT.subtract(exposure.get(asset, ZERO), operation.moved_to_dust.get(asset, ZERO))
        if amount:
            found.append(UnmatchedQuantity(asset, amount, dust.get(asset, ZERO)))
    return found


def operation_start(operation: Operation, numeraire: str) -> str:
    """The asset in which the operation begins and ends: the quote of its pair; of a cycle the numeraire, or else the
    commonest quote."""
    quotes = [leg.quote for leg in operation.record.legs]
    if len(quotes) < 3:
        return quotes[0]
    return numeraire if numeraire in quotes else max(quotes, key=quotes.count)


def opened_mono_ns(ledger: Ledger, operation: Operation) -> int:
    """Since when an operation is open: again, where it had ended (others took a part of a leg, or a fill came late). 0
    where that was before the host's last boot: monotonic stamps of then do not compare."""
    started = (operation.started_mono_ns, operation.boot_epoch)
    at_ns, epoch = operation.reopened if operation.reopened[1] else started
    return at_ns if epoch in ledger.host_epochs else 0


def less_in_flight(ledger: Ledger, operation: Operation, quantity: UnmatchedQuantity) -> UnmatchedQuantity:
    """What no order that is on its way, or whose outcome is not known, may still close; dust waits for them."""
    side = OrderSide.SELL if quantity.amount > 0 else OrderSide.BUY
    orders = ledger.unsettled_of_operation(operation)
    flying = sum((may_fill(o) for o in orders if o.intent.side is side and o.intent.base == quantity.asset), ZERO)
    if not flying:
        return quantity
    left = max(ZERO, abs(quantity.amount) - flying)
    return UnmatchedQuantity(quantity.asset, -int(side) * left, ZERO)
