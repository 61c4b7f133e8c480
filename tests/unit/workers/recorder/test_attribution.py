"""The P&L in its parts: on the journals of whole runs the parts add up to the results, whatever broke, left or was
taken; a record that is missing leaves a residual."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.execution.journal import JournalEntry
from pipeline.execution.records import TYPE_OF_RECORD, FundingRecord, HedgeRecord, Record
from tests.worlds.execution_world import Faults, World
from tests.worlds.external_world import CONTRACT, FUTURES, external_world, hedge
from tests.worlds.hedged_world import hedged_world, leave
from workers.cli.report import parts_text, read_report, report_text
from workers.cli.why import read_trail, trail_text
from workers.executor_file import amount
from workers.recorder.sqlite_ledger import SqliteLedger

D = Decimal
TERMS = ("edge", "missed", "latency", "slippage", "broken", "marks", "fees", "funding", "total")


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ARB_STATE_DIR", str(tmp_path))
    (tmp_path / "t-one").mkdir()
    return tmp_path / "t-one" / "ledger.sqlite"


def fold(path: Path, entries: Sequence[JournalEntry]) -> None:
    ledger = SqliteLedger(path)
    ledger.apply(entries, None)
    ledger.close()


def broken_run(seed: int) -> World:
    world = World(seed, Faults(partial=0.4, no_fill=0.3, reject=0.1))
    world.run(100)
    for turn in range(12):
        buy, sell = [("mexc_spot", "gateio_spot"), ("gateio_spot", "gateio_futures")][turn % 2]
        world.feed(world.offer(buy, sell))
        world.run(400)
    world.calm(5000)
    return world


def assert_adds_up(report: dict[str, Any]) -> dict[str, Decimal]:
    parts: dict[str, Decimal] = report["attribution"]
    assert parts["residual"] == 0 and report["attribution"]["unknown"] == []
    profit = sum(report["profit"].values())
    assert abs(parts["total"] - profit) < D("1e-9")
    assert abs(sum(parts[name] for name in TERMS[:-1]) - parts["total"]) < D("1e-8")
    for row in report["rows"]:
        assert row["residual"] == 0
    if report["rows"]:
        for name in TERMS:
            assert abs(sum(row[name] for row in report["rows"]) - parts[name]) < D("1e-7"), name
        assert sum(row["operations"] for row in report["rows"]) <= report["operations"]["total"]
    return parts


@pytest.mark.parametrize("seed", [3, 9, 21])
@pytest.mark.parametrize("by", ["operation", "day", "run"])
def test_the_parts_of_a_run_with_broken_legs_add_up(seed: int, by: str, ledger: Path) -> None:
    world = broken_run(seed)
    fold(ledger, world.entries)
    report = read_report("t-one", "", by)
    parts = assert_adds_up(report)
    assert report["operations"]["recovered"] and parts["broken"] and parts["missed"] and parts["edge"] > 0
    assert parts["fees"] < 0
    assert "residual 0" in report_text(report) and by in report_text(report)


def test_a_hedge_is_taken_apart_at_its_entry_and_at_its_exit(ledger: Path) -> None:
    world = hedged_world()
    fold(ledger, world.entries)
    entry = assert_adds_up(read_report("t-one", "", "operation"))
    assert entry["total"] == entry["fees"] < 0  # its basis is not earned yet
    (began,) = world.core.ledger.hedges
    assert f"hedge {began} still open; so far {amount(entry['total'])} " in trail_text(read_trail("t-one", began))
    leave(world)
    fold(ledger, world.entries)
    report = read_report("t-one", "", "operation")
    both = assert_adds_up(report)
    assert both["total"] > 0 and len(report["rows"]) == 2
    closer = report["rows"][1]
    assert closer["closes"] == began and closer["pair"] and closer["at"]
    assert f"{closer['at']} {closer['pair']} {closer['outcome']}, closes {began}" in report_text(report)
    for name in (began, closer["operation"]):
        said = trail_text(read_trail("t-one", name))
        assert f"hedge {began} closed by {closer['operation']}; round trip +{amount(both['total'])} " in said


def test_a_round_trip_counts_the_funding_that_its_hedge_was_paid(ledger: Path) -> None:
    """What its contract was paid while it was open, its share of it, each booking once; before and after it, none."""
    world = hedged_world()
    (began,) = world.core.ledger.hedges
    hedge = next(entry.record for entry in world.entries if isinstance(entry.record, HedgeRecord))
    at_ms = world.now().wall_ns // 1_000_000
    other = msgspec.structs.replace(hedge, operation_id="other", qty=hedge.qty * 3)

    def paid(event: str, ms: int, usd: int) -> FundingRecord:
        return FundingRecord(hedge.futures_venue, hedge.futures_symbol, event, "USDT", D(usd), ms, D(usd))

    def add(*records: Record) -> None:
        for record in records:
            last = world.entries[-1]
            wall_ns = world.now().wall_ns
            changes = {"seq": last.seq + 1, "type": TYPE_OF_RECORD[type(record)], "record": record, "wall_ns": wall_ns}
            world.entries.append(msgspec.structs.replace(last, **changes))

    add(paid("before", at_ms - 60_000, 100), paid("alone", at_ms, 3), paid("alone", at_ms, 3))
    world.run(10)
    add(other)
    world.run(10)
    add(paid("shared", world.now().wall_ns // 1_000_000, 4))
    fold(ledger, world.entries)
    trip = read_trail("t-one", began)["round_trip"]
    assert trip["funding"] == 4 and trip["profit"] == trip["pnl"] + 4
    assert f"so far {amount(trip['profit'])} USDT, 4.00 of it funding" in trail_text(read_trail("t-one", began))
    leave(world)
    world.run(10)
    add(paid("after", world.now().wall_ns // 1_000_000, 100))
    fold(ledger, world.entries)
    trail = read_trail("t-one", began)
    assert trail["round_trip"]["funding"] == 4
    lines = trail_text(trail).splitlines()
    assert any(f"round trip +{amount(trail['round_trip']['profit'])} USDT, 4.00 of it funding" in one for one in lines)
    (money,) = [line for line in lines if line.startswith("  P&L ")]
    assert money.startswith(f"  P&L {trail['operation']['pnl_numeraire']} USDT; changes ") and "; fees " in money


@pytest.mark.parametrize(("kind", "qty"), [("liquidate", "0.0299"), ("adl", "0.02")])
def test_what_others_took_of_a_leg_is_a_part(kind: str, qty: str, ledger: Path) -> None:
    world = external_world()
    hedge(world)
    world.arm(kind=kind, venue=FUTURES, symbol=CONTRACT, amount=float(qty))
    world.run(6000)
    fold(ledger, world.entries)
    report = read_report("t-one", "", "operation")
    assert_adds_up(report)
    assert report["events"]["external_fill"] >= 1


def test_latency_is_the_move_of_the_best_price_between_detection_and_send(ledger: Path) -> None:
    world = hedged_world()
    fold(ledger, world.entries)
    before = read_report("t-one", "")["attribution"]
    with sqlite3.connect(ledger) as db:
        (row,) = db.execute("SELECT opportunity_id, detect_mono_ns, legs_json FROM operations").fetchall()
        legs = msgspec.json.decode(row[2])
        detected = []
        for leg in legs:  # a buy was one cheaper when it was found, and the walk another half dearer than the best
            best = Decimal(leg["best_price"]) - leg["side"]
            qty = Decimal(leg["qty"])
            walk = best + leg["side"] * D("0.5")
            detected.append({"venue": leg["venue"], "symbol": leg["symbol"], "qty": str(qty), "best_price": str(best),
                             "notional": str(walk * qty)})  # fmt: skip
        db.execute(
            "INSERT INTO opportunities VALUES (?,?,0,'',?,0,0,0,0,?)",
            (row[0], row[1], "BTC/USDT", msgspec.json.encode(detected).decode()),
        )
    after = read_report("t-one", "")["attribution"]
    sizes = sum(Decimal(leg["qty"]) for leg in legs)
    assert after["latency"] == -sizes and before["latency"] == 0
    assert after["edge"] == before["edge"] + sizes / 2
    assert after["slippage"] == before["slippage"] + sizes / 2  # filled at the best price: the walk was not needed
    assert after["residual"] == 0 and after["total"] == before["total"]


def test_a_missing_fill_leaves_a_residual(ledger: Path) -> None:
    world = broken_run(3)
    fold(ledger, world.entries)
    with sqlite3.connect(ledger) as db:
        db.execute("DELETE FROM fills WHERE trade_id = (SELECT trade_id FROM fills LIMIT 1)")
    parts = read_report("t-one", "")["attribution"]
    assert parts["residual"] != 0 and "residual 0;" not in parts_text(parts)


def test_results_of_earlier_builds_are_named_and_not_guessed(ledger: Path) -> None:
    world = hedged_world()
    fold(ledger, world.entries)
    with sqlite3.connect(ledger) as db:
        db.execute("UPDATE operations SET marks_json = NULL")
    parts = read_report("t-one", "")["attribution"]
    assert len(parts["unknown"]) == 1 and parts["total"] == 0
    assert "1 operations without marks" in parts_text(parts)
