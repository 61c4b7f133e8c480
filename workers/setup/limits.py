"""Limits from the capital: how much of it one entry, one coin, all positions and one day may put at stake.

The fractions are our choice for a first evening, not a rule of any venue; every one is a line of the written file.
"""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal
from enum import StrEnum

import msgspec

from pipeline.model.config import DetectionConfig, RiskLimits

CAPITAL_MIN_USD = Decimal(50)
CAPITAL_MAX_USD = Decimal(10_000_000)
NAKED_S = 10  # every operation with one leg alone for so long; a repair takes a second or two
TOTAL_LOSS_DAYS = 4  # so many days at the loss of one day, and nothing more is begun at all
CENT = Decimal("0.01")
PROFIT_STEP = Decimal("0.0001")
BPS = Decimal(10_000)


class Profile(StrEnum):
    """How much of the capital is put at stake."""

    CAUTIOUS = "cautious"
    STANDARD = "standard"
    BOLD = "bold"


class _Shares(msgspec.Struct, frozen=True):
    """Fractions of the capital, and the least edge."""

    entry: Decimal
    position: Decimal
    exposure: Decimal
    daily_loss: Decimal
    margin_bps: Decimal
    open_operations: int


_SHARES = {
    Profile.CAUTIOUS: _Shares(Decimal("0.03"), Decimal("0.10"), Decimal("0.30"), Decimal("0.01"), Decimal(50), 2),
    Profile.STANDARD: _Shares(Decimal("0.05"), Decimal("0.20"), Decimal("0.50"), Decimal("0.02"), Decimal(30), 4),
    Profile.BOLD: _Shares(Decimal("0.10"), Decimal("0.40"), Decimal("0.80"), Decimal("0.05"), Decimal(20), 8),
}


class DerivedLimits(msgspec.Struct, frozen=True, kw_only=True):
    """``risk_limits`` and ``detection.max_notional_usd`` of a configuration."""

    limits: RiskLimits
    max_notional_usd: Decimal
    per_exchange_usd: Decimal | None  # what one venue may hold of the exposure; None: all of it is less


def derive_limits(capital_usd: Decimal, profile: Profile, exchanges: int) -> DerivedLimits:
    """Limits for ``capital_usd`` (all accounts together), spread over ``exchanges`` accounts."""
    shares = _SHARES[profile]
    entry = min(_cents(capital_usd * shares.entry), DetectionConfig().max_notional_usd)
    exposure = _cents(capital_usd * shares.exposure)
    per_exchange = _cents(capital_usd / exchanges)
    daily_loss = _cents(capital_usd * shares.daily_loss)
    limits = RiskLimits(
        max_position_size_usd=_cents(capital_usd * shares.position),
        max_total_exposure_usd=exposure,
        warn_exposure_usd=_cents(exposure * Decimal("0.8")),
        max_daily_loss_usd=daily_loss,
        max_total_loss_usd=daily_loss * TOTAL_LOSS_DAYS,
        min_profit_margin_bps=shares.margin_bps,
        # Half of what a whole entry earns at the least edge: an entry cut to half its size still passes.
        min_profit_usd=(entry * shares.margin_bps / BPS / 2).quantize(PROFIT_STEP, ROUND_DOWN),
        max_orders_per_s=5,
        max_open_operations=shares.open_operations,
        max_naked_usd_s=_cents(entry * shares.open_operations * NAKED_S),
        max_unexplained_loss_usd=max(Decimal(1), _cents(daily_loss / 2)),
    )
    return DerivedLimits(
        limits=limits,
        max_notional_usd=entry,
        per_exchange_usd=per_exchange if per_exchange < exposure else None,
    )


def _cents(value: Decimal) -> Decimal:
    return value.quantize(CENT, ROUND_DOWN)
