"""One definition of counts and rates: ledger, demo and report give the same numbers for the same journal."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.execution.records import Outcome
from pipeline.execution.results.counts import EndedOperation, OperationCounts, counts_from, counts_of
from pipeline.execution.results.round_trips import RoundTrips
from tests.worlds.execution_world import Faults, World
from workers.cli.report import read_report
from workers.demo.summary import JournalTotals
from workers.recorder.sqlite_ledger import SqliteLedger


def test_every_operation_counts_once() -> None:
    rows = [EndedOperation(outcome, "") for outcome in Outcome] + [EndedOperation(None, ""), EndedOperation(None, "x")]
    counts = counts_from(rows, RoundTrips())
    assert counts.fields() == {
        "total": 6, "entries": 5, "exits": 1, "completed": 1, "failed": 1, "recovered": 1, "unresolved": 3,
        "won": 0, "lost": 0,
    }  # fmt: skip
    assert counts.success_rate == pytest.approx(1 / 3, abs=1e-4)
    assert counts.win_rate is None
    assert OperationCounts.of(counts.fields()) == counts
    assert OperationCounts().success_rate is None


@pytest.mark.parametrize("seed", [3, 9, 21])
def test_engine_demo_and_report_agree(seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    world = World(seed, Faults(partial=0.4, no_fill=0.3, reject=0.1))
    world.run(100)
    for turn in range(12):
        buy, sell = [("mexc_spot", "gateio_spot"), ("gateio_spot", "gateio_futures")][turn % 2]
        world.feed(world.offer(buy, sell))
        world.run(400)
    world.calm(5000)
    live = counts_of(world.core.ledger)
    assert live.total > 3
    assert JournalTotals(world.entries).counts() == live
    monkeypatch.setenv("ARB_STATE_DIR", str(tmp_path))
    (tmp_path / "t-one").mkdir()
    ledger = SqliteLedger(tmp_path / "t-one" / "ledger.sqlite")
    ledger.apply(world.entries, None)
    ledger.close()
    report = read_report("t-one", "")
    assert report["operations"] == live.fields()
    assert (report["success_rate"], report["win_rate"]) == (live.success_rate, live.win_rate)
    statistics = world.core.orders.get_execution_statistics()
    assert statistics["success_rate"] == (live.success_rate or 0.0)
    assert sum(statistics[name] for name in ("completed", "failed", "recovered", "unresolved")) == live.total
