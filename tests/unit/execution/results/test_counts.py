"""One definition of counts and rates: engine, metrics, status, report and demo agree on the same run."""

from __future__ import annotations

from pathlib import Path

import pytest

from pipeline.execution.journal import Journal
from pipeline.execution.records import Outcome
from pipeline.execution.results.counts import EndedOperation, OpenTrips, OperationCounts, counts_from, counts_of
from pipeline.execution.results.round_trips import RoundTrips
from shm.metrics import Metrics
from tests.worlds.execution_world import Faults, World
from workers.cli.report import read_report, report_text
from workers.demo.summary import JournalTotals
from workers.executor.pages import ExecutorNumbers
from workers.executor.publisher import Publisher
from workers.executor_file import write_executor_state
from workers.recorder.sqlite_ledger import SqliteLedger
from workers.view.status import executor_fields


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


def test_the_win_rate_stands_beside_the_one_that_counts_open_hedges_at_what_leaving_brings() -> None:
    """In the closed ones alone no hedge is lost that stays open because it loses."""
    counts = OperationCounts(won=3)
    rows = [{"value_of_leaving_bps": value} for value in ("-40.1", -2, 7.5, 0, None)] + [{}]
    open_ = OpenTrips.of(rows)
    assert open_ == OpenTrips(won=1, lost=2, unknown=2)
    assert (counts.win_rate, counts.win_rate_with(open_)) == (1.0, pytest.approx(4 / 6, abs=1e-4))
    said = "3 won, 0 lost, win rate 100.0 % of the closed, 66.7 % with the 5 open (1 would win, 2 lose, 2 not known)"
    assert counts.trips_text(open_) == said and counts.text(open_).endswith(f"round trips {said}")
    assert counts.text().endswith("round trips 3 won, 0 lost, win rate 100.0 %")
    assert OperationCounts().win_rate_with(OpenTrips(lost=1)) == 0.0


def shown_by_views(world: World, folder: Path) -> dict[str, dict[str, int]]:
    """The counts as each view shows them: metrics, the executor's file, status while it runs, after a stop, a crash."""
    metrics = Metrics.private()
    ExecutorNumbers(metrics).gauges(world.core)
    counters = metrics.counters()
    fields = OperationCounts().fields()
    world.core.context.now = world.now()
    found = {
        "metrics": {n: counters["operations" if n == "total" else f"operations.{n}"] for n in fields},
        "status after a crash": {},
    }
    journal = Journal.open(folder / "journal", segment_bytes=4 * 1024 * 1024)
    for entry in world.entries:
        journal.append(entry.record, entry.mono_ns, entry.wall_ns)
    journal.close()
    found["status after a crash"] = executor_fields(folder, running=False)["operations"]
    publisher = Publisher(world.core, folder, lambda level, text: None)
    state = publisher.state()
    write_executor_state(folder, state)
    found["executor.json"] = OperationCounts.of(state.operations).fields()
    running = executor_fields(folder, running=True)
    found["status"] = running["operations"]
    counts = OperationCounts.of(running["operations"])
    assert (running["success_rate"], running["win_rate"]) == (counts.success_rate, counts.win_rate)
    assert counters["open_hedges"] == len(running["hedges"]) == len(world.core.ledger.hedges)
    assert counters["breakers"] == len(running["breakers"])
    return found


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
    assert f"{live.text(OpenTrips(unknown=len(world.core.ledger.hedges)))}\n" in report_text(report)
    views = shown_by_views(world, tmp_path / "t-one")
    report, hedges = read_report("t-one", ""), Publisher(world.core, tmp_path, lambda level, text: None).state().hedges
    shown = executor_fields(tmp_path / "t-one", running=True)
    assert report["win_rate_with_open"] == shown["win_rate_with_open"] == live.win_rate_with(OpenTrips.of(hedges))
    assert f"{live.text(OpenTrips.of(hedges))}\n" in report_text(report)
    for name, fields in views.items():
        assert fields == live.fields(), name
    profit = sum(report["profit"].values())
    assert (
        profit
        == world.core.ledger.total_pnl
        == sum(r.pnl_numeraire for r in JournalTotals(world.entries).results.values())
    )
    statistics = world.core.orders.get_execution_statistics()
    assert statistics["success_rate"] == (live.success_rate or 0.0)
    assert sum(statistics[name] for name in ("completed", "failed", "recovered", "unresolved")) == live.total
