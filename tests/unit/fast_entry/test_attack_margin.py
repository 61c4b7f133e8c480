"""Attacks on the margin rules: an entry that would stand too near its liquidation passes neither path."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec
import pytest

from pipeline.execution.events import AccountSnapshot
from pipeline.execution.plan import Plan, Rejected
from pipeline.model.config import EngineConfig
from pipeline.model.enums import InstrumentKind, OpportunityType, Refusal
from pipeline.model.structs import Balance, Position
from pipeline.rehearsal.entry_world import EntryWorld, engine_config
from pipeline.rehearsal.instruments import spec
from tests.worlds.fast_entry_world import a_world, exact, levels

D = Decimal
SPECS = [spec("mexc_spot"), spec("mexc_spot", symbol="BTC_PERP", kind=InstrumentKind.PERPETUAL)]
LEGS = [(0, 1, D("0.5"), D("99.5")), (1, -1, D("0.5"), D("99.6"))]


def config(leverage: int = 3, target_pct: int = 20) -> EngineConfig:
    base = engine_config()
    margin = msgspec.structs.replace(base.detection.hedge.margin, target_pct=D(target_pct))
    hedge = msgspec.structs.replace(base.detection.hedge, leverage=D(leverage), margin=margin)
    return msgspec.structs.replace(base, detection=msgspec.structs.replace(base.detection, hedge=hedge))


def hedge(world: EntryWorld, *, free: str = "1000000", position: Position | None = None) -> Any:
    """The record of a hedge: 0.5 spot bought and the contract sold. ``free``: USDT of the venue."""
    world.fund_all()
    world.publish(0, levels("98.99", "-0.01", "5"), levels("99.10", "0.05", "3"))
    world.publish(1, levels("100.00", "-0.05", "4"), levels("100.10", "0.05", "5"))
    cash = Balance(venue="mexc_spot", asset="USDT", free=D(free), locked=D(0), recv_mono_ns=world.now_ns, source="rest")
    held = () if position is None else (position,)
    world.feed(AccountSnapshot((cash,), held, {"mexc_spot": world.now_ns}))
    return world.record(LEGS, OpportunityType.SPOT_FUTURES_HEDGE)


def short(margin: str, reported: str | None) -> Position:
    """One contract coin sold at 100, now at 100."""
    return Position(
        venue="mexc_spot", symbol="BTC_PERP", qty=D(-1), entry_price=D(100), mark_price=D(100), recv_mono_ns=1,
        margin=D(margin), liquidation_price=None if reported is None else D(reported), maintenance_rate=D("0.005"),
        maintenance_margin=D("0.5"),
    )  # fmt: skip


def refused_by_both(world: EntryWorld, record: Any, text: str) -> None:
    assert not world.fast_entry.offer(record, world.halt, world.now())
    verdict = exact(world, record)
    assert isinstance(verdict, Rejected) and verdict.refusal is Refusal.MARGIN_LIMIT and text in verdict.detail


def test_an_entry_that_leaves_too_little_distance_passes_neither_path() -> None:
    with a_world(config=config(3), specs=SPECS) as world:
        assert world.fast_entry.offer(hedge(world), world.halt, world.now())
    with a_world(config=config(3), specs=SPECS) as world:
        assert isinstance(exact(world, hedge(world)), Plan)
    # ten times: 0.1 of the notional backs it, 0.21 are wanted; free balance counts on the exact path alone
    for free, passes in (("1000", True), ("60", False)):
        with a_world(config=config(10), specs=SPECS) as world:
            record = hedge(world, free=free)
            assert not world.fast_entry.offer(record, world.halt, world.now())
            if passes:
                assert isinstance(exact(world, record), Plan)
            else:
                refused_by_both(world, record, "to liquidation with this entry")


def test_what_a_position_lacks_is_not_free_for_the_next_entry() -> None:
    """The short's 12 of margin are 9 below the target; a new hedge brings a part of that."""
    poor = short("12", None)
    for free, passes in (("200", True), ("68", False)):
        with a_world(config=config(3), specs=SPECS) as world:
            record = hedge(world, free=free, position=poor)
            assert not world.fast_entry.offer(record, world.halt, world.now())
            assert isinstance(exact(world, record), Plan if passes else Rejected)
    with a_world(config=config(3), specs=SPECS) as world:
        rich = hedge(world, position=short("40", None))
        assert world.fast_entry.offer(rich, world.halt, world.now())


@pytest.mark.parametrize(("reported", "agreed"), [("132.6", True), ("140", False), ("0", False)])
def test_a_liquidation_price_that_differs_from_the_venues_passes_neither_path(reported: str, agreed: bool) -> None:
    with a_world(config=config(3), specs=SPECS) as world:
        fee = SPECS[1].taker_fee_ppm / D(1_000_000)
        own = (D(100) + D("33.3333")) / (1 + D("0.005") + fee)
        record = hedge(world, position=short("33.3333", str(own) if agreed else reported))
        if agreed:
            assert world.fast_entry.offer(record, world.halt, world.now())
        else:
            refused_by_both(world, record, "misread")
