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
    """An execution beside the planned legs: ``d`` +1 bought, -1 sold; ``qty`` base units, ``price`` numeraire."""

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
        """Sum of all fields: what was gained, fees and funding included."""
        return sum(self, ZERO)


def attribute(
    legs: Sequence[LegFill],
    repairs: Sequence[RepairFill],
    fees: Decimal,
    funding: Decimal,
    marks: Mapping[str, Decimal],
    matched: Sequence[Decimal] | None = None,
) -> Attribution:
    """``fees`` paid (positive), ``funding`` received (negative: paid), ``marks``: numeraire per unit of each leg's
    asset. ``matched``: per leg what was executed on every leg, where legs differ in size or unit (a fee taken from what
    is bought, a cycle); without it the least filled quantity. The sum does not depend on it.

    Raises ``KeyError`` for a leg whose asset has no mark: an unmarked asset has no P&L.
    """
    least = min(leg.filled for leg in legs)
    pairs = list(zip(legs, matched or [least] * len(legs), strict=True))

    def total(part: Callable[[LegFill, Decimal], Decimal]) -> Decimal:
        return sum((leg.d * part(leg, both) for leg, both in pairs), ZERO)

    return Attribution(
        edge=-total(lambda leg, both: leg.planned * leg.price_detected),
        missed=total(lambda leg, both: (leg.planned - both) * leg.price_detected),
        latency=-total(lambda leg, both: both * (leg.price_sent - leg.price_detected)),
        slippage=-total(lambda leg, both: both * (leg.price_filled - leg.price_sent)),
        broken=total(lambda leg, both: (leg.filled - both) * (marks[leg.asset] - leg.price_filled))
        + sum((fill.d * fill.qty * (marks[fill.asset] - fill.price) for fill in repairs), ZERO),
        marks=total(lambda leg, both: both * marks[leg.asset]),
        fees=-fees,
        funding=funding,
    )
