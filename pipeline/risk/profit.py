"""The least profit of an entry, judged in USD on what the plan is expected to earn net."""

from __future__ import annotations

from decimal import Decimal

from pipeline.execution.market import UsdRates
from pipeline.execution.plan import Plan, Rejected
from pipeline.model.enums import Refusal


def least_profit(plan: Plan, least_usd: Decimal, rates: UsdRates) -> Rejected | None:
    """Refuses a plan whose ``profit`` is worth less than ``least_usd``; one that cannot be valued in USD is not known
    to be worth enough."""
    rate = rates.rate(plan.profit_asset)
    if rate is None:
        return Rejected(Refusal.BELOW_MIN_PROFIT, f"no USD rate for {plan.profit_asset}")
    if not plan.profit * rate >= least_usd:
        return Rejected(Refusal.BELOW_MIN_PROFIT, f"{plan.profit * rate:.4f} USD expected, at least {least_usd}")
    return None
