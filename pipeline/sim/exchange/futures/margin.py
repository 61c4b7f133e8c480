"""Margin of futures positions: what backs them, what they must keep, and where they are liquidated.

A position is liquidated when its margin balance (what backs it and its unrealised PnL at the mark) is not above its
maintenance margin and, where the venue's trigger asks for it, the taker fee of closing it. Isolated: the position's own
margin backs it. Cross: the wallet less all isolated margins backs all cross positions together. Quantities are signed
base coins, prices and money quote coins.

Source: Gate.io futures help "Liquidation process", "Risk limits" (margin balance / maintenance margin <= 100 %);
Binance USDⓈ-M, leverage and margin (maintenance margin / margin balance >= 100 %, without a fee).
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from decimal import Decimal

from pipeline.sim.exchange.accounts import SimPosition
from pipeline.sim.exchange.decimals import PPM, ZERO
from pipeline.sim.exchange.instruments import RiskTier, SimInstrument

Marks = Callable[[str], Decimal]


@dataclass(slots=True, frozen=True)
class MarginAccount:
    """A futures wallet as the venue shows it; all in the settlement asset."""

    total: Decimal  # realised balance
    unrealised_pnl: Decimal
    position_margin: Decimal  # isolated margins and the initial margins of cross positions
    order_margin: Decimal
    available: Decimal  # may be used for new orders; never below 0
    maintenance: Decimal = ZERO  # of all positions
    isolated_margin: Decimal = ZERO
    cross_initial: Decimal = ZERO
    cross_maintenance: Decimal = ZERO
    cross_unrealised: Decimal = ZERO

    @property
    def equity(self) -> Decimal:
        """Realised balance and unrealised PnL."""
        return self.total + self.unrealised_pnl

    @property
    def cross_balance(self) -> Decimal:
        """Margin balance of the cross positions together."""
        return self.total - self.isolated_margin + self.cross_unrealised


def tier_of(row: SimInstrument, value: Decimal) -> RiskTier:
    """The tier of a position of this value; the last one above every cap."""
    tiers = row.tiers
    return next((tier for tier in tiers if value <= tier.cap), tiers[-1])


def unrealised(position: SimPosition, mark: Decimal) -> Decimal:
    """Gain (loss below 0) of what is open at ``mark``."""
    return position.qty * mark - position.cost


def initial_margin(position: SimPosition, mark: Decimal) -> Decimal:
    """Value at ``mark`` over leverage."""
    return abs(position.qty) * mark / position.leverage


def maintenance_margin(row: SimInstrument, qty: Decimal, price: Decimal) -> Decimal:
    """What a position must keep, as its row shows it."""
    value = abs(qty) * price
    tier = tier_of(row, value)
    return max(ZERO, value * tier.maintenance_rate - tier.deduction)


def required_margin(row: SimInstrument, qty: Decimal, price: Decimal) -> Decimal:
    """Maintenance margin and the fee that the trigger asks for: it compares with this."""
    return maintenance_margin(row, qty, price) + abs(qty) * price * _kept_fee(row)


def _kept_fee(row: SimInstrument) -> Decimal:
    """The taker fee as a fraction, where a position must keep it."""
    return row.taker_fee_ppm / PPM if row.trigger_keeps_fee else ZERO


def valued(
    total: Decimal,
    held: Iterable[SimPosition],
    marks: Marks,
    order_margin: Decimal,
    instruments: dict[str, SimInstrument],
) -> MarginAccount:
    """A realised balance and positions at their marks."""
    isolated = isolated_pnl = maintenance = cross_initial = cross_maintenance = cross_pnl = ZERO
    for position in held:
        if not position.qty:
            continue
        mark = marks(position.symbol)
        kept = maintenance_margin(instruments[position.symbol], position.qty, mark)
        maintenance += kept
        if position.is_cross:
            cross_initial += initial_margin(position, mark)
            cross_maintenance += kept
            cross_pnl += unrealised(position, mark)
        else:
            isolated += position.margin
            isolated_pnl += unrealised(position, mark)
    available = total - isolated + cross_pnl - cross_initial - order_margin
    return MarginAccount(
        total=total,
        unrealised_pnl=isolated_pnl + cross_pnl,
        position_margin=isolated + cross_initial,
        order_margin=order_margin,
        available=max(ZERO, available),
        maintenance=maintenance,
        isolated_margin=isolated,
        cross_initial=cross_initial,
        cross_maintenance=cross_maintenance,
        cross_unrealised=cross_pnl,
    )


def backing(
    position: SimPosition,
    total: Decimal,
    held: Iterable[SimPosition],
    marks: Marks,
    instruments: dict[str, SimInstrument],
    *,
    less_required: bool,
) -> Decimal:
    """What stands behind a position apart from its own unrealised PnL.

    Isolated: its margin. Cross: the wallet less isolated margins, and the unrealised PnL of the other cross positions;
    ``less_required`` takes off what those must keep.
    """
    if not position.is_cross:
        return position.margin
    found = total
    for other in held:
        if not other.qty or (other.symbol, other.mode) == (position.symbol, position.mode):
            continue
        if not other.is_cross:
            found -= other.margin
            continue
        mark = marks(other.symbol)
        found += unrealised(other, mark)
        if less_required:
            found -= required_margin(instruments[other.symbol], other.qty, mark)
    return found


def liquidation_price(row: SimInstrument, qty: Decimal, cost: Decimal, behind: Decimal) -> Decimal | None:
    """The mark at which ``behind`` and the position's loss meet what it must keep; None = no mark does.

    ``cost``: signed open cost. The balance is behind + qty P - cost, the requirement |qty| P (rate + fee) - deduction;
    the tier is that of the value at the price that is found.
    """
    if not qty:
        return None
    fee, size, tiers = _kept_fee(row), abs(qty), row.tiers
    bounds = [(ZERO if index == 0 else tiers[index - 1].cap, tier) for index, tier in enumerate(tiers)]
    # A falling price meets the highest tier first, a rising one the lowest: it matters where tiers leave a step.
    for floor, tier in reversed(bounds) if qty > 0 else bounds:
        price = (cost - behind - tier.deduction) / (qty - size * (tier.maintenance_rate + fee))
        top = None if tier is tiers[-1] else tier.cap / size
        if qty > 0 and (price * size > floor or not floor):
            found = price if top is None else min(price, top)
            return found if found > 0 else None
        if qty < 0 and (top is None or price <= top):
            found = max(price, floor / size)
            return found if found > 0 else None
    return None


def bankruptcy_price(row: SimInstrument, qty: Decimal, cost: Decimal, behind: Decimal) -> Decimal:
    """The price at which closing, its taker fee paid, leaves nothing of ``behind``; 0 where no price does."""
    slope = qty - abs(qty) * row.taker_fee_ppm / PPM
    return max(ZERO, (cost - behind) / slope) if qty else ZERO
