"""Funding on open hedges, in real processes: booked by the venue, counted once, also across the executor's death."""

from __future__ import annotations

import secrets
import time
from pathlib import Path

import pytest

from pipeline.execution.records import FundingRecord, HedgeRecord
from tests.worlds.instance_rig import LIVELY, Rig
from tests.worlds.waiting import until
from workers.demo.demo import DemoOptions, run_demo

pytestmark = pytest.mark.e2e


def hedged(rig: Rig) -> bool:
    newest = {e.record.operation_id: e.record for e in rig.entries() if isinstance(e.record, HedgeRecord)}
    return sum(1 for record in newest.values() if record.qty) >= 2


def payments(rig: Rig) -> int:
    return sum(1 for row in rig.ledger() if row["kind"] == "entry" and row["reason"] == "fund")


def booked(rig: Rig) -> list[FundingRecord]:
    return [entry.record for entry in rig.entries() if isinstance(entry.record, FundingRecord)]


def pay(rig: Rig, times: int = 1) -> None:
    """``times`` payments more; a stamp without a position (hedges leave by themselves) pays nothing and is repeated."""

    def paid() -> bool:
        if payments(rig) < wanted:
            rig.fault(kind="funding", venue="gateio_futures")
        return payments(rig) >= wanted

    wanted = payments(rig) + times
    until(paid, f"{times} payments")


def test_funding_of_open_hedges_is_in_the_profit_and_loss_to_the_last_digit() -> None:
    rig = Rig(f"t-{secrets.token_hex(4)}", scenario=LIVELY)
    try:
        rig.start()
        until(lambda: hedged(rig), "two open hedges")
        hedged_s = int(time.time())  # and the first balances were taken before, maybe in this very second
        until(lambda: time.time() >= hedged_s + 1, "a second of its own: the venue lists payments by the second")
        pay(rig, 3)
        until(lambda: len(booked(rig)) >= 3, "the payments in the journal")
        before = rig.engine.process_pid("executor")
        rig.engine.kill("executor")
        pay(rig, 2)  # nobody hears of these
        until(lambda: rig.engine.process_pid("executor") not in (0, before) and rig.engine.all_ready(), "READY again")
        until(lambda: len(booked(rig)) == payments(rig), "what was paid meanwhile")
        rig.fault(kind="drop_event", venue="gateio_futures", target="private", count=0)
        pay(rig)  # the stream says nothing: the stop has to ask
        rig.end()
        if len(booked(rig)) < payments(rig):  # a stop waits 6 s for the answer: the next start asks as well
            rig.start_again()
            until(lambda: len(booked(rig)) == payments(rig), "what the stop had no time for")
            rig.end()
        records = booked(rig)
        assert len(records) == payments(rig) >= 6
        assert len({record.event_id for record in records}) == len(records)
        engine, venues = rig.money()
        assert engine == venues
        assert rig.judge() == []
    finally:
        rig.close()


BOOKS_AWAY = """
extends: funding_turn
name: books_away
engine: {{guard: {{hung_after_ms: 10000}}}}
faults:
  - {{kind: http_error, venue: gateio_futures, target: account_book, at_s: {at_s}, duration_ms: 15000, count: 0}}
"""


def test_a_demo_ends_when_the_funding_that_the_venues_have_booked_is_read(tmp_path: Path) -> None:
    """The books cannot be read at the end of the run, for longer than a stop waits for them."""
    scenario = tmp_path / "away.yaml"
    for seconds in (12, 60, 180):  # longer only where the machine is too busy for hedges
        scenario.write_text(BOOKS_AWAY.format(at_s=seconds - 3), encoding="utf-8")
        result = run_demo(DemoOptions(seconds=seconds, scenario=str(scenario), quiet=True))
        assert result.fields["funding"]["unread"] == 0 and result.fields["pnl"]["equal"]
        if result.fields["funding"]["payments"]:
            break
    assert result.fields["funding"]["payments"] and result.healthy
