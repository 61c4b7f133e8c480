"""Liquidation price of a futures position, the distance to it, and how much of a hedge to close.

Quantities are base coins, prices and margins quote coins, rates fractions (0.005 = 0.5 %), all ``Decimal``. ``d`` is +1
for a long position and -1 for a short one.

Source: Gate.io (trigger at margin balance <= maintenance incl. taker fee, at mark price), Binance USDⓈ-M leverage
brackets (maintenance = notional x rate - cum). Both are ``maintenance = q P (m + f) - c`` with their own f and c.
"""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import NamedTuple

ZERO, ONE = Decimal(0), Decimal(1)
DISAGREE_BPS = 20  # own and venue's liquidation price differ by more: tier or mode is misread


class Tier(NamedTuple):
    """One row of a venue's tiers: up to ``cap`` quote of notional, maintenance = notional x ``rate`` -
    ``deduction``. ``keeps_fee``: the venue's trigger asks for the taker fee of closing, too (Gate.io; Binance: no)."""

    cap: Decimal
    rate: Decimal
    deduction: Decimal
    keeps_fee: bool = True

    def required(self, fee: Decimal) -> Decimal:
        """Rate at which the requirement grows with the notional; ``fee``: the taker fee."""
        return self.rate + fee if self.keeps_fee else self.rate


def endless(tiers: Sequence[Tier]) -> tuple[Tier, ...]:
    """The same tiers, the last without an end: a position above a venue's last limit counts as in its last tier."""
    return (*tiers[:-1], *(tier._replace(cap=Decimal("Infinity")) for tier in tiers[-1:]))


def liquidation_price(
    d: int, qty: Decimal, entry: Decimal, equity: Decimal, tiers: Sequence[Tier], fee: Decimal
) -> Decimal | None:
    """The mark price at which the venue liquidates; None = never.

    ``equity``: what backs the position without its own unrealised P&L: the position margin when isolated; when cross
    the
    wallet plus the other positions' unrealised P&L less their maintenance. ``tiers`` rise, the last cap is infinite.
    The tier is that of the notional at the liquidation price (continuous and convex in the price: one solution).
    """
    for tier in tiers:
        denominator = qty * (d - tier.required(fee))
        price = (d * qty * entry - equity - tier.deduction) / denominator
        if qty * price <= tier.cap:
            return price if price > 0 else None
    raise ValueError(f"the last tier ends at {tiers[-1].cap if tiers else 'nothing'}, wanted Infinity")


def maintenance_rate(qty: Decimal, price: Decimal, tiers: Sequence[Tier], fee: Decimal) -> Decimal:
    """Maintenance margin as a fraction of the notional at ``price``, with the taker fee ``fee`` where the venue's
    trigger asks for it."""
    notional = qty * price
    tier = next((tier for tier in tiers if notional <= tier.cap), None)
    if tier is None:
        raise ValueError(f"no tier for a notional of {notional}, wanted a last cap of Infinity")
    return tier.required(fee) - (tier.deduction / notional if notional else ZERO)


def distance(d: int, mark: Decimal, liquidation: Decimal | None) -> Decimal:
    """How far ``mark`` may move against the position, as a fraction of ``mark``; infinite where nothing liquidates."""
    if liquidation is None:
        return Decimal("Infinity")
    return d * (mark - liquidation) / mark


def distance_of(d: int, qty: Decimal, entry: Decimal, equity: Decimal, mark: Decimal, maintenance: Decimal) -> Decimal:
    """The same from equity: (a - M)/(1 + M) for a short, (a - M)/(1 - M) for a long position, a = margin ratio at
    mark."""
    ratio = (equity + d * qty * (mark - entry)) / (qty * mark)
    return (ratio - maintenance) / (ONE - d * maintenance)


def share_to_close(
    mark: Decimal,
    entry: Decimal,
    qty: Decimal,
    equity: Decimal,
    d: int,
    maintenance: Decimal,
    target: Decimal,
    cost: Decimal,
) -> Decimal:
    """The share (0 to 1) of both legs to close so that the distance becomes ``target``.

    ``cost``: fee and slippage of the cut as a fraction of its notional. The released margin must be added back to an
    isolated position: a cut alone leaves its liquidation price where it was.
    """
    ratio = (equity + d * qty * (mark - entry)) / (qty * mark)
    wanted = target * (ONE - d * maintenance) + maintenance
    if wanted <= cost:
        return ZERO
    return min(ONE, max(ZERO, (wanted - ratio) / (wanted - cost)))


def disagree(own: Decimal | None, venues: Decimal | None) -> bool:
    """Whether our liquidation price and the venue's are too far apart to trade on (one of them is misread)."""
    if own is None or venues is None:
        return own is not venues
    return abs(own - venues) * 10_000 > DISAGREE_BPS * venues
