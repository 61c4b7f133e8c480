"""Limits of one venue, asset or pair (``per_venue``, ``per_asset``, ``per_pair``), beside those of everything."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal

from pipeline.execution.plan import Plan, Rejected
from pipeline.model.config import LimitConfig, RiskLimits
from pipeline.model.enums import Refusal
from pipeline.model.structs import ZERO, InstrumentSpec
from pipeline.risk.exposure import Coin, Exposure


class Scopes:
    """What the limits of scopes say of an entry."""

    __slots__ = ("_any", "_limits")

    def __init__(self, limits: RiskLimits) -> None:
        self._limits = limits
        self._any = bool(limits.per_venue or limits.per_asset or limits.per_pair)

    def disabled(self, spec: InstrumentSpec) -> str:
        """The scope whose limits switch this instrument off; "" when none does."""
        if not self._any:
            return ""
        limits = self._limits
        for scope, key in ((limits.per_venue, spec.venue), (limits.per_asset, spec.base), (limits.per_pair, spec.pair)):
            if key in scope and not scope[key].enabled:
                return key
        return ""

    def refusal(self, plan: Plan, now: Exposure, positions: Mapping[Coin, Decimal]) -> Rejected | None:
        """Why a plan is too much within a scope. ``now``: what is open; ``positions``: USD of each coin on each venue
        with this plan."""
        if not self._any:
            return None
        limits, size = self._limits, plan.notional_usd
        scoped: list[tuple[str, LimitConfig | None, Decimal, Decimal]] = []
        for name in venues_of(plan):
            position = max(usd for (venue, _), usd in positions.items() if venue == name)
            scoped.append((f"venue {name}", limits.per_venue.get(name), position, now.by_venue.get(name, ZERO)))
        for name in {leg.row.spec.base for leg in plan.legs}:
            position = max(usd for (_, coin), usd in positions.items() if coin == name)
            scoped.append((f"asset {name}", limits.per_asset.get(name), position, now.by_asset.get(name, ZERO)))
        position, open_usd = max(positions.values()), now.by_pair.get(plan.pair, ZERO)
        scoped.append((f"pair {plan.pair}", limits.per_pair.get(plan.pair), position, open_usd))
        for name, limit, position, open_usd in scoped:
            refused = _refusal(name, limit, position, open_usd, size)
            if refused is not None:
                return refused
        return None


def venues_of(plan: Plan) -> set[str]:
    """The venues of a plan's legs."""
    return {leg.row.spec.venue for leg in plan.legs}


def _refusal(
    name: str, limit: LimitConfig | None, position: Decimal, open_usd: Decimal, size: Decimal
) -> Rejected | None:
    if limit is None:
        return None
    if limit.max_position_size_usd is not None and not position <= limit.max_position_size_usd:
        return Rejected(Refusal.POSITION_LIMIT, f"{name}: {position:.2f} USD, at most {limit.max_position_size_usd}")
    if limit.max_exposure_usd is not None and not open_usd + size <= limit.max_exposure_usd:
        return Rejected(Refusal.EXPOSURE_LIMIT, f"{name}: {open_usd:.2f} + {size:.2f} USD")
    return None
