"""``arb demo`` as a user runs it, judged by the venues' own ledger."""

from __future__ import annotations

import contextlib
import json
import sqlite3
from decimal import Decimal
from pathlib import Path

import pytest

from pipeline.execution.journal.guard_journal import whole_journal
from pipeline.execution.records import OperationRecord
from pipeline.model.enums import OpportunityType
from tests.command_line import assert_contract
from tests.worlds.instance_rig import PATIENT, segments_of
from workers.cli.report import read_report
from workers.demo.demo import DemoOptions, run_demo
from workers.demo.summary_text import summary_text
from workers.executor_file import amount
from workers.output import to_json
from workers.view.status import read_status

pytestmark = pytest.mark.e2e


def patient(folder: Path, scenario: str) -> str:
    """The same venues with a guard that takes no executor of a busy host for hung."""
    path = folder / f"{scenario}.yaml"
    path.write_text(json.dumps({"extends": scenario, "name": f"{scenario}_patient", "engine": {"guard": PATIENT}}))
    return str(path)


def test_executor_killed_between_two_legs_comes_back_and_everything_reconciles(own_state: Path, tmp_path: Path) -> None:
    scenario = patient(tmp_path, "demo")
    for seconds in (12, 60, 240):  # longer only where the machine is too busy for it all
        result = run_demo(DemoOptions(seconds=seconds, scenario=scenario, kill="executor", quiet=True))
        fields = result.fields
        assert_contract("demo", fields)
        assert fields["violations"] == []
        killed = fields["killed"]
        in_flight = killed["at"] == "one leg filled, the other in flight" and killed.get("recovery_ms") is not None
        if fields["operations"]["completed"] >= 3 and in_flight and "outcome" in killed:
            break
    assert fields["pnl"]["equal"] is True
    assert fields["pnl"]["engine"] == fields["pnl"]["venue"]
    assert fields["flat"] is True
    assert fields["operations"]["unresolved"] == 0
    assert fields["operations"]["completed"] >= 3
    assert fields["killed"]["at"] == "one leg filled, the other in flight"
    assert fields["killed"]["recovery_ms"] is not None
    assert fields["killed"]["outcome"] in ("recovered", "completed", "failed")
    assert fields["latency_us"]["tick_to_order"]["n"] > 0
    assert result.healthy
    assert '"pnl"' in to_json(fields)
    left = [path.name for path in own_state.iterdir() if path.name != "key-locks"]  # locks stay, one file a key
    assert left == [fields["instance"]]  # the state of the last run is kept, and no other
    assert Path(fields["state"]) == own_state / fields["instance"]
    assert read_report(fields["instance"], "")["attribution"]["residual"] == 0


def test_report_status_and_summary_of_a_demo_agree_and_its_parts_add_up(own_state: Path, tmp_path: Path) -> None:
    scenario = patient(tmp_path, "demo")
    for seconds in (8, 60):  # longer only where the machine is too busy for it all
        fields = run_demo(DemoOptions(seconds=seconds, scenario=scenario, keep=True, quiet=True)).fields
        types = {e.record.type for e in whole_journal(Path(fields["state"])) if isinstance(e.record, OperationRecord)}
        if OpportunityType.TRIANGULAR in types and fields["pnl"]["numeraire"].get("equity") is not None:
            break
    assert OpportunityType.TRIANGULAR in types, "cycles are on in the demo"
    instance = fields["instance"]
    report = read_report(instance, "", "operation")
    status = read_status(instance)
    assert fields["operations"]["total"] > 0
    assert fields["operations"] == report["operations"] == status["operations"]
    assert (fields["win_rate"], fields["success_rate"]) == (report["win_rate"], report["success_rate"])
    assert report["success_rate"] == status["success_rate"]
    assert fields["win_rate_with_open"] == report["win_rate_with_open"] == status["win_rate_with_open"]
    assert len(fields["open_hedges"]) == len(status["hedges"])
    seen = {row["hedge_id"]: row for row in status["hedges"]}
    for row in fields["open_hedges"]:  # entry, age, funding, marks, result, the way to its liquidation: in every view
        shown = seen[row["operation_id"]]
        for name in HEDGE_FIELDS:
            assert row[name] == shown[name], name  # None where the executor did not know it yet
    equity = status["pnl"]["equity"]
    assert equity is not None and fields["pnl"]["numeraire"]["equity"] == equity
    assert f"equity {amount(equity)}" in summary_text(fields).splitlines()[0]
    assert report["attribution"]["residual"] == 0 and report["attribution"]["unknown"] == []
    assert all(row["residual"] == 0 for row in report["rows"])
    profit = sum(report["profit"].values())
    assert abs(report["attribution"]["total"] - profit) < Decimal("1e-9")
    assert abs(Decimal(status["pnl"]["realised"]) - profit) < Decimal("1e-9")
    said = "".join(path.read_text() for path in (own_state / instance / "log").glob("*.log"))
    assert "came after the start" not in said  # every process had its kernels before it was forked


@pytest.mark.slice
def test_five_venues_trade_and_reconcile(own_state: Path, tmp_path: Path) -> None:
    """Binance USDⓈ-M takes its part: its fills are in the ledger, and money agrees on every venue."""
    scenario = patient(tmp_path, "five_venues")
    for seconds in (15, 60, 240):  # longer only where the machine is too busy for it all
        result = run_demo(DemoOptions(seconds=seconds, scenario=scenario, keep=True, quiet=True))
        instance = max(own_state.glob("demo-*"), key=lambda path: path.stat().st_mtime_ns)
        with contextlib.closing(sqlite3.connect(instance / "ledger.sqlite")) as ledger:
            venues = {row[0] for row in ledger.execute("select distinct venue from fills")}
        assert result.healthy and result.fields["violations"] == []
        if "binance_futures" in venues:
            break
    assert "binance_futures" in venues
    assert result.fields["pnl"]["equal"] is True and result.fields["flat"] is True


HEDGE_FIELDS = ("age_s", "funding", "spot_mark", "futures_mark", "unrealised", "liquidation_distance_pct")
NULL_MARKETS = ("null_below_fees", "null_shifted")
MORE_NULL_MARKETS = ("null_flat", "null_same_ticker", "null_closed_wallet")


@pytest.mark.parametrize(
    "scenario", [*NULL_MARKETS, *(pytest.param(name, marks=pytest.mark.slice) for name in MORE_NULL_MARKETS)]
)
def test_null_markets_give_no_order(scenario: str) -> None:
    result = run_demo(DemoOptions(seconds=3, scenario=scenario, quiet=True))
    assert result.fields["expect_no_orders"] is True
    assert result.fields["orders"] == 0
    assert result.fields["fills"] == 0
    assert result.fields["messages"] > 0
    assert result.healthy


#: More of everything than any book offers, and no minimum: nothing but lateness is left to refuse an edge. Spot against
#: spot only: those directions touch the late venue (the others lie inside Gate.io, whose books are fresh).
RICH_AND_CAREFREE = """
extends: null_shifted
name: shifted_rich
exchanges:
  mexc: {venues: {spot: {balances: &rich {USDT: "100000000", BTC: "1000", ETH: "50000", SOL: "900000", XRP: "100000000",
    DOGE: "500000000", NOVA: "4000000", ORB: "4000000"}}}}
  gateio: {venues: {spot: {balances: *rich}}}
engine:
  detection: {types: [spot_spot], min_edge_bps: "0", execute_edge_bps: "0"}
  guard: {hung_after_ms: 10000}
  risk_limits: {min_profit_margin_bps: "0", min_profit_usd: "0"}
"""
#: A busy host keeps a feed off its CPU (``writer_dead``), an executor, the guard that lends to it, or the poller.
ABOUT_TIME = {
    "unproved", "quiet_unproved", "skew", "gap", "no_book", "torn", "writer_dead", "stale_at_executor", "stale_at_send",
    "lease", "not_ready", "balance_unproved", "session_down", "clock_skew", "queue_full", "halted", "crossed",
}  # fmt: skip


def test_lateness_alone_refuses_a_late_venue(tmp_path: Path) -> None:
    scenario = tmp_path / "rich.yaml"
    scenario.write_text(RICH_AND_CAREFREE, encoding="utf-8")
    for seconds in (6, 60):  # longer only where the machine is too busy for it all
        result = run_demo(DemoOptions(seconds=seconds, seed=9, scenario=str(scenario), quiet=True))
        refused = result.fields["opportunities"]["refused"]
        was_halted = result.fields["engine_state"]["state"] == "halted" or "halt_latch" in refused
        if refused.get("unproved", 0) > 0 and not was_halted:
            break
    assert result.fields["orders"] == 0
    assert not was_halted, "a halted engine places nothing, whatever it thinks of the books"
    assert refused.get("unproved", 0) > 0, "old prices look like edges"
    assert set(refused) <= ABOUT_TIME | {"quarantined"}, "no other gate had a say"
    assert result.healthy


def test_no_segment_of_a_demo_stays_behind() -> None:
    fields = run_demo(DemoOptions(seconds=1, quiet=True)).fields
    assert segments_of(fields["instance"]) == []  # its own: demos of others may be about to stop
