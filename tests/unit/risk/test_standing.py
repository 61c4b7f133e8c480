"""A re-arm whose reason still stands is refused with it; what solves a breaker goes by what holds now."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.execution.events import CatalogueChanged
from pipeline.model.config import CanaryConfig
from pipeline.model.errors import BadInput
from pipeline.risk.breakers import DAILY_LOSS, NAKED, TOTAL_LOSS
from tests.worlds.execution_starts import (
    Operator,
    daily_loss,
    naked,
    ready_world,
    reported_fill,
    sent_order,
    total_loss,
)
from tests.worlds.execution_world import World

FEE = "fee.mexc_spot.BTCUSDT"
D = Decimal


def solve_of(operator: Operator, name: str) -> str:
    (row,) = [row for row in operator.ask("breakers")["breakers"] if row["name"] == name]
    (reason,) = [one for one in operator.all_reasons() if one.what.startswith(f"breaker {name}: ")]
    assert reason.solve == row["solve"]
    return str(row["solve"])


def refused(operator: Operator, name: str, **request: Any) -> str:
    with pytest.raises(BadInput) as caught:
        operator.ask("rearm", name=name, reason="looked at it", **request)
    assert name in operator.world.core.ledger.breakers
    return str(caught.value)


def reload(world: World, **limits: Any) -> None:
    changed = msgspec.structs.replace(world.core.config.risk_limits, **limits)
    world.core.reconfigure(msgspec.structs.replace(world.core.config, risk_limits=changed))


def test_a_loss_that_is_still_beyond_its_limit_is_not_rearmed(tmp_path: Path) -> None:
    world = daily_loss()
    operator = Operator(world, tmp_path)
    for request in ({}, {"dry_run": True}):
        text = refused(operator, DAILY_LOSS, **request)
        assert "11.00 USD lost today, at most 10 (risk_limits.max_daily_loss_usd)" in text
        assert "would trip again" in text and "arb config reload" in text
    reload(world, max_daily_loss_usd=D(900), max_total_loss_usd=D(3600))
    reply = operator.ask("rearm", name=DAILY_LOSS, reason="raised")
    assert reply["rearmed"] == DAILY_LOSS and reply["trips_again"] is None and not reply["breakers"]


def test_who_knows_better_says_so(tmp_path: Path) -> None:
    world = total_loss()
    operator = Operator(world, tmp_path)
    refused(operator, TOTAL_LOSS)
    reply = operator.ask("rearm", name=TOTAL_LOSS, reason="to see", anyway=True)
    assert "11.00 USD below the highest P&L" in reply["trips_again"]


def test_what_solves_a_loss_names_the_limit_that_holds_now(tmp_path: Path) -> None:
    world = daily_loss()
    operator = Operator(world, tmp_path)
    assert solve_of(operator, DAILY_LOSS).startswith("raise risk_limits.max_daily_loss_usd above it")
    narrow = CanaryConfig(
        max_daily_loss_usd=D(6), max_notional_usd=D(1000), max_total_exposure_usd=D(5000), max_open_operations=8
    )
    own = msgspec.structs.replace(world.core.config, canary=narrow)
    own = msgspec.structs.replace(own, risk_limits=msgspec.structs.replace(own.risk_limits, max_daily_loss_usd=D(50)))
    world.core.reconfigure(own.as_canary())
    assert solve_of(operator, DAILY_LOSS).startswith("raise canary.max_daily_loss_usd (and")
    assert "at most 6 (canary.max_daily_loss_usd)" in refused(operator, DAILY_LOSS)
    reload(world, max_daily_loss_usd=D(50))
    assert solve_of(operator, DAILY_LOSS) == (
        "the loss is within its limit by now: arb breakers --rearm daily_loss --reason R"
    )


def charged(ppm: int, *, maker: bool = False, asset: str = "USDT") -> World:
    """A fill whose fee was so much of its worth."""
    world = ready_world()
    order = sent_order(world)
    worth = order.intent.qty * order.intent.price
    reported_fill(world, order, fee=worth * ppm / 1_000_000, fee_asset=asset, is_maker=maker)
    assert FEE in world.core.ledger.breakers
    return world


def counted_with(world: World, **fees: int) -> None:
    row = world.core.context.instruments.find("mexc_spot", "BTCUSDT")
    assert row is not None
    world.feed(CatalogueChanged((msgspec.structs.replace(row, spec=msgspec.structs.replace(row.spec, **fees)),)))


@pytest.mark.parametrize(("maker", "side"), [(False, "taker"), (True, "maker")])
def test_a_fee_is_not_rearmed_before_it_is_counted_with(tmp_path: Path, maker: bool, side: str) -> None:
    """Each re-arm would cost a trade to find the same fee again."""
    world = charged(2000, maker=maker)
    operator = Operator(world, tmp_path)
    row = world.core.context.instruments.find("mexc_spot", "BTCUSDT")
    assert row is not None
    now = row.spec.maker_fee_ppm if maker else row.spec.taker_fee_ppm
    text = refused(operator, FEE)
    assert world.core.orders.repairs.usable.barred(row.spec) == (f"breaker {FEE}", solve_of(operator, FEE))
    assert f"the account was charged 2000 ppm as {side}, {now} ppm is what is counted with" in text
    assert "fees.mexc_spot" in text and "--anyway" in text
    counted_with(world, **{f"{side}_fee_ppm": 1990})
    refused(operator, FEE)
    counted_with(world, **{f"{side}_fee_ppm": 2000})
    assert solve_of(operator, FEE) == (
        f"the fee that was charged is what counts by now: arb breakers --rearm {FEE} --reason R"
    )
    operator.ask("rearm", name=FEE, reason="configured")
    assert not world.core.ledger.breakers


def test_a_fee_that_was_charged_once_only_is_rearmed_by_who_says_so(tmp_path: Path) -> None:
    world = charged(2000)
    operator = Operator(world, tmp_path)
    refused(operator, FEE)
    assert "2000 ppm" in operator.ask("rearm", name=FEE, reason="a promotion ended", anyway=True)["trips_again"]
    assert not world.core.ledger.breakers


def test_a_fee_in_a_coin_is_rearmed_once_the_coin_is_named(tmp_path: Path) -> None:
    world = charged(50, asset="XYZ")
    operator = Operator(world, tmp_path)
    assert "a fee was taken in XYZ, which nobody has named" in refused(operator, FEE)
    world.core.fees.reported({"mexc_spot": "XYZ"})
    operator.ask("rearm", name=FEE, reason="named")
    assert not world.core.ledger.breakers


def test_what_an_older_journal_says_of_a_fee_is_rearmed_as_before(tmp_path: Path) -> None:
    world = ready_world()
    world.core.context.trip(FEE, "fee 2.0596 USDT, expected 0 USDT")
    operator = Operator(world, tmp_path)
    assert "say so in fees.mexc_spot" in solve_of(operator, FEE)
    operator.ask("rearm", name=FEE, reason="configured")
    assert not world.core.ledger.breakers


def test_what_still_stands_alone_is_said_at_the_rearm_that_counts_it_anew(tmp_path: Path) -> None:
    world = naked()
    reply = Operator(world, tmp_path).ask("rearm", name=NAKED, reason="looked at it")
    assert "counted anew, up to 20 USD x s" in reply["trips_again"] and "arb recoveries" in reply["trips_again"]
