"""The tape of a run that is over, made from ledger and journal: nothing is found in a good one, each wrong fact is."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from functools import cache
from typing import Any

import pytest
from msgspec.structs import replace

from pipeline.chaos.checker.judge import Judge
from pipeline.chaos.directed import directed
from pipeline.chaos.recorded import act, lease_lost, recorded_tape
from pipeline.chaos.world import ChaosWorld
from pipeline.execution.journal import JournalEntry
from pipeline.execution.records import FillRecord, OperationRecord, OrderIntentRecord, OrderStateRecord, Purpose
from pipeline.model.enums import InstrumentKind, OrderState
from pipeline.sim.exchange.latency import NS_PER_MS
from pipeline.sim.exchange.venue_ledger import plain

OURS = ("record", "wire", "act", "book", "config", "end", "step")
ENDING = {"rested": True, "planted": True, "idle": True, "ready": True, "waiting": [], "refused": []}
Entries = list[JournalEntry]


@cache
def played() -> ChaosWorld:
    """A world in which an entry was sent, lost its answer, and was settled."""
    schedule = directed()["lost answer"]
    world = ChaosWorld(schedule, lambda row: None)
    world.begin()
    began_ns = world.clock.mono_ns()
    for step in schedule.steps:
        world.run(max(0.0, (began_ns + step["at_ms"] * NS_PER_MS - world.clock.mono_ns()) / NS_PER_MS))
        world.carry_out(step)
    world.run(3_000)
    world.heal()
    assert world.settle() and world.plant()
    world.end(rested=True, planted=True)
    return world


def entries() -> Entries:
    return [
        JournalEntry(number, 0, entry.mono_ns, entry.wall_ns, 77, entry.record)
        for number, entry in enumerate(played().entries, 1)
    ]


def broken(
    found: Entries, acts: list[dict[str, Any]] | None = None, slow: int = 1, exit_basis_bps: Decimal | None = Decimal(0)
) -> set[str]:
    """Rules that are broken, with the ledger as its control endpoint serves it."""
    config = played().config
    hedge = replace(config.detection.hedge, expected_exit_basis_bps=exit_basis_bps)
    config = replace(config, detection=replace(config.detection, hedge=hedge))
    served = [plain(row) for row in played().ledger.rows if row["kind"] not in OURS]
    judge = Judge()
    for row in recorded_tape(config, served, found, acts or [], ENDING, slow):
        judge.look(row)
    return {one.rule for one in judge.violations}


def changed(kind: type, change: Callable[[Any], Any], when: Callable[[Any], bool] = lambda record: True) -> Entries:
    """The journal with the first such record changed, or without it (None)."""
    found = entries()
    number = next(n for n, entry in enumerate(found) if isinstance(entry.record, kind) and when(entry.record))
    new = change(found[number].record)
    rest = [] if new is None else [replace(found[number], record=new)]
    return [*found[:number], *rest, *found[number + 1 :]]


def older(record: OperationRecord) -> OperationRecord:
    """Decided on books of long ago."""
    legs = [replace(leg, proof_mono_ns=leg.proof_mono_ns - 900 * NS_PER_MS) for leg in record.legs]
    return replace(record, legs=tuple(legs))


def without_edge(record: OperationRecord) -> OperationRecord:
    """Sold for what was paid."""
    price = record.legs[0].best_price
    legs = [replace(leg, best_price=price) for leg in record.legs]
    return replace(record, legs=tuple(legs))


def as_hedge(record: OperationRecord) -> OperationRecord:
    first, second = without_edge(record).legs
    futures = replace(second, kind=InstrumentKind.PERPETUAL)
    return replace(record, legs=(first, futures))


def test_a_good_run_breaks_no_rule() -> None:
    assert broken(entries()) == set()


@pytest.mark.parametrize(
    ("rule", "wrong"),
    {
        "fills": lambda: changed(FillRecord, lambda record: None),
        "accounted": lambda: changed(
            OrderIntentRecord, lambda record: replace(record, qty=record.qty + Decimal("0.001"))
        ),
        "rejected": lambda: changed(
            OrderStateRecord,
            lambda record: replace(record, state=OrderState.REJECTED),
            lambda record: record.state in (OrderState.FILLED, OrderState.CANCELLED),
        ),
        "money": lambda: changed(FillRecord, lambda record: replace(record, fee=record.fee * 2)),
        "books": lambda: changed(OperationRecord, older),
        "edge": lambda: changed(OperationRecord, without_edge),
    }.items(),
)
def test_a_wrong_fact_is_found(rule: str, wrong: Callable[[], Entries]) -> None:
    assert rule in broken(wrong())


@pytest.mark.parametrize("given", [True, False])
def test_what_a_hedge_earns_is_judged_where_its_exit_basis_was_given(given: bool) -> None:
    """A basis that the engine has learned is an edge at any prices that are far enough from it."""
    known = None if not given else Decimal(0)
    assert ("edge" in broken(changed(OperationRecord, as_hedge), exit_basis_bps=known)) is given


def test_on_a_slow_host_a_way_takes_longer_and_what_is_counted_stays_judged() -> None:
    assert "books" not in broken(changed(OperationRecord, older), slow=10)
    assert "fills" in broken(changed(FillRecord, lambda record: None), slow=10)


def test_an_entry_that_leaves_behind_the_latch_or_the_lease_is_found() -> None:
    intents = [entry for entry in entries() if isinstance(entry.record, OrderIntentRecord)]
    first_ns = next(entry.mono_ns for entry in intents if entry.record.purpose is Purpose.ENTRY)  # type: ignore[union-attr]
    assert "halt" in broken(entries(), [act("halt", first_ns - 1, on=True)])
    assert "halt" not in broken(entries(), [act("halt", first_ns - 2, on=True), act("halt", first_ns - 1, on=False)])
    assert "lease" in broken(entries(), lease_lost(first_ns - 10_000_000, first_ns + 1, 5))
    assert lease_lost(0, 4_000_000, 5) == []
