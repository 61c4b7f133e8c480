"""For how long a leg stands alone in storms on virtual time, with the windows of production."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from pipeline.execution.journal import JournalEntry
from pipeline.execution.records import FillRecord, OperationRecord
from tests.worlds.external_world import FUTURES, external_world, force, hedge, records
from tests.worlds.judging.naked_spans import naked_spans, quantile
from tests.worlds.judging.naked_storm import storm

D = Decimal


@pytest.mark.parametrize("loss", ["", "drop_request", "drop_response"])
def test_hardly_any_leg_stands_alone_for_a_second(loss: str) -> None:
    """Refusals and prices that go are in every storm; a lost request or answer is made up for elsewhere."""
    spans = [span for seed in range(2) for span in storm(seed, 25, loss=loss)]
    assert len(spans) > 30
    assert quantile(spans, 0.99) <= 1000.0


def replaced_legs(entry: JournalEntry) -> JournalEntry:
    """An entry whose operation has its legs on instruments where none of its orders went."""
    if not isinstance(entry.record, OperationRecord):
        return entry
    legs = tuple(msgspec.structs.replace(leg, symbol="ELSEWHERE") for leg in entry.record.legs)
    return msgspec.structs.replace(entry, record=msgspec.structs.replace(entry.record, legs=legs))


def test_spans_by_operation_are_those_of_its_fills() -> None:
    """A hedge whose legs fill a moment apart, and one whose futures leg is refused, so that spot is sold again."""
    world = external_world()
    hedge(world)
    (whole,) = world.core.ledger.operations
    world.arm(kind="reject", venue=FUTURES, target="place", count=9)
    world.market.move("gateio_spot", "BTC_USDT", world.market.quotes["gateio_spot", "BTC_USDT"].mid * D("0.999"))
    world.market.move(FUTURES, "BTC_USDT", world.market.quotes[FUTURES, "BTC_USDT"].mid * D("1.001"))
    world.run(50)
    offered = world.opportunity("gateio_spot", FUTURES, "BTC/USDT", qty=D("0.01"))
    assert offered is not None
    world.feed(offered)
    world.run(3000)
    (broken,) = world.core.ledger.operations.keys() - {whole}
    spans = naked_spans(world.ledger.rows, world.entries, world.clock.mono_ns())
    assert spans.keys() == {whole, broken}
    for name, operation in world.core.ledger.operations.items():
        at_ns = [row["mono_ns"] for row in world.ledger.of_kind("fill") if row["client_id"] in operation.orders]
        assert spans[name] == pytest.approx((max(at_ns) - min(at_ns)) / 1e6) and spans[name] > 0
    assert len(records(world, FillRecord)) >= 4
    elsewhere = [replaced_legs(entry) for entry in world.entries]
    assert naked_spans(world.ledger.rows, elsewhere, world.clock.mono_ns()) == spans, "a repair where no leg was"
    only_bought = [row for row in world.ledger.rows if row["kind"] != "fill" or row["side"] == "buy"]
    left = naked_spans(only_bought, world.entries, world.clock.mono_ns())
    assert left[broken] > 2900 and left[whole] > left[broken], "what never finds its partner is naked until the end"


@pytest.mark.parametrize("rebooted", [False, True])
def test_what_has_just_lost_a_leg_may_be_repaired_before_new_risk_stops(rebooted: bool) -> None:
    """The hedge has ended long ago, in an earlier boot of the host or in this one; only what came then counts."""
    world = external_world()
    hedge(world)
    world.run(60_000)
    if rebooted:
        world.host_boot = "another"
        world.kill()
    assert world.run_until(lambda: world.core.ready, limit_ms=5000)
    world.run(60_000)
    force(world, "adl", D("0.01"))
    broken, gate = world.core.ledger.open_operations, world.core.risk.gate
    assert world.run_until(lambda: bool(broken), limit_ms=5000, step_ms=1)
    world.arm(kind="halt_symbol", venue="gateio_spot", symbol="BTC_USDT")
    world.arm(kind="halt_symbol", venue="mexc_spot", symbol="BTCUSDT")
    world.arm(kind="halt_symbol", venue=FUTURES, symbol="BTC_USDT")
    limit_ms = world.config.risk_limits.max_unhedged_ms
    world.run(limit_ms - 100)
    assert broken and not gate.reducing
    world.run(200)
    assert broken and gate.reducing
    world.kill()
    world.run(100)
    assert world.core.ledger.open_operations and world.core.risk.gate.reducing, "a restart does not count anew"
    world.host_boot = "a third"
    world.kill()
    world.run(100)
    assert world.core.risk.gate.reducing, "it is older than the host's boot"
