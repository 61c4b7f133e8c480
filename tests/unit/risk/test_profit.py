"""The least profit in USD: what a plan earns is what the venues' own figures say, and an unknown rate is not one."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from typing import Any

import pytest

from pipeline.execution.market import Instruments, UsdRates
from pipeline.execution.plan import Plan, Rejected
from pipeline.model.enums import OrderSide, Refusal
from pipeline.rehearsal.entry_world import EntryWorld
from pipeline.risk.profit import least_profit
from tests.worlds.fast_entry_world import a_world, configured, exact, opened, ordinary

D = Decimal
CENT = D("0.01")


def judged(world: EntryWorld) -> Plan:
    plan = exact(world, ordinary(world))
    assert isinstance(plan, Plan)
    return plan


def by_hand(plan: Plan) -> Decimal:
    """Sale less purchase less both fees; what is bought beyond the sale, or taken as a fee, at the price of the buy."""
    buy = next(leg for leg in plan.legs if leg.side is OrderSide.BUY)
    sell = next(leg for leg in plan.legs if leg.side is OrderSide.SELL)
    fees = sum(leg.qty * leg.average * leg.row.spec.taker_fee_ppm / 1_000_000 for leg in plan.legs)
    return sell.qty * sell.average - buy.qty * buy.average + (buy.qty - sell.qty) * buy.average - fees


def test_the_profit_of_a_plan_is_what_is_sold_less_what_is_bought_less_the_fees() -> None:
    with a_world() as world:
        opened(world)
        plan = judged(world)
        assert plan.profit_asset == "USDT"
        assert abs(plan.profit - by_hand(plan)) < D("1e-9") and plan.profit > 0


@pytest.mark.parametrize(("above", "taken"), [(D("-0.0001"), True), (D("0.0001"), False)])
def test_both_paths_draw_the_line_at_the_same_profit(above: Decimal, taken: bool) -> None:
    with a_world() as world:
        opened(world)
        configured(world, min_profit_usd=judged(world).profit + above)
        assert world.fast_entry.offer(ordinary(world), world.halt, world.now()) is taken
        answer = exact(world, ordinary(world))
        assert isinstance(answer, Plan) if taken else answer.refusal is Refusal.BELOW_MIN_PROFIT


@pytest.mark.parametrize(("price_bps", "taken"), [(0.0, True), (30.0, False), (-30.0, True)])
def test_the_price_of_inventory_is_taken_off_the_profit(price_bps: float, taken: bool) -> None:
    """30 bps of 50 USD are 15 cents: with them to pay the least profit is missed by a cent."""
    with a_world() as world:
        opened(world)
        plan = judged(world)
        cost = plan.legs[0].qty * plan.legs[0].average * D(30) / 10_000
        configured(world, min_profit_usd=plan.profit - cost + CENT)
        world.core.risk.gate.direction_price_bps = lambda buy, sell: price_bps
        assert world.fast_entry.offer(ordinary(world), world.halt, world.now()) is taken
        answer = exact(world, ordinary(world))
        assert isinstance(answer, Plan) if taken else answer.refusal is Refusal.BELOW_MIN_PROFIT


def test_a_profit_without_a_usd_rate_is_refused_whatever_its_amount() -> None:
    with a_world() as world:
        opened(world)
        plan = replace(judged(world), profit=D(10) ** 6, profit_asset="XYZ")
        refused = least_profit(plan, D("0.5"), UsdRates(Instruments(world.rows), world))
        assert isinstance(refused, Rejected) and refused.refusal is Refusal.BELOW_MIN_PROFIT
        assert "XYZ" in refused.detail


def test_a_profit_in_another_coin_counts_at_its_rate() -> None:
    rates: Any = UsdRates(Instruments([]), None)  # type: ignore[arg-type]
    rates.rate = lambda asset: D(50_000) if asset == "BTC" else None
    with a_world() as world:
        opened(world)
        plan = replace(judged(world), profit=D("0.00002"), profit_asset="BTC")
        assert least_profit(plan, D("0.99"), rates) is None
        assert least_profit(plan, D("1.01"), rates) is not None
