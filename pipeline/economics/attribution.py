"""The P&L of one operation, taken apart so that the parts add up exactly.

``edge`` promised by the books at detection, ``missed`` because a leg did not fill, ``latency`` between detection and
send, ``slippage`` between send and fill, ``broken`` what unmatched legs and their repairs cost, ``marks`` the worth of
the matched part at the operation's end, ``fees``, ``funding``. Their sum is cash plus holdings at mark; what the
venue's ledger says beyond it is a record that is foreign or missing.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import NamedTuple

ZERO = Decimal(0)


class LegFill(NamedTuple):
    """``d``: +1 bought, -1 sold. Quantities in common base units. Prices are walk prices of the planned quantity."""

    asset: str
    d: int
    planned: Decimal
    filled: Decimal
    price_detected: Decimal
    price_sent: Decimal
    price_filled: Decimal


class RepairFill(NamedTuple):
    asset: str
    d: int
    qty: Decimal
    price: Decimal


class Attribution(NamedTuple):
    """In the numeraire. Field order is the order in which a report shows them."""

    edge: Decimal
    missed: Decimal
    latency: Decimal
    slippage: Decimal
    broken: Decimal
    marks: Decimal
    fees: Decimal
    funding: Decimal

    @property
    def total(self) -> Decimal:
        return sum(self, ZERO)


def attribute(
    legs: Sequence[LegFill],
    repairs: Sequence[RepairFill],
    fees: Decimal,
    funding: Decimal,
    marks: Mapping[str, Decimal],
) -> Attribution:
    """``fees`` paid (positive), ``funding`` received (negative: paid), ``marks``: numeraire per unit of each leg's
    asset.

    Raises ``KeyError`` for a leg whose asset has no mark: an unmarked asset has no P&L.
    """
    matched = min(leg.filled for leg in legs)

    def total(part: Callable[[LegFill], Decimal]) -> Decimal:
        return sum((leg.d * part(leg) for leg in legs), ZERO)

    return Attribution(
        edge=-total(lambda leg: leg.planned * leg.price_detected),
        missed=total(lambda leg: (leg.planned - matched) * leg.price_detected),
        latency=-total(lambda leg: matched * (leg.price_sent - leg.price_detected)),
        slippage=-total(lambda leg: matched * (leg.price_filled - leg.price_sent)),
        broken=total(lambda leg: (leg.filled - matched) * (marks[leg.asset] - leg.price_filled))
        + sum((fill.d * fill.qty * (marks[fill.asset] - fill.price) for fill in repairs), ZERO),
        marks=total(lambda leg: matched * marks[leg.asset]),
        fees=-fees,
        funding=funding,
    )
