"""The SQLite ledger: a fold of the journal that a kill can neither lose from nor double."""

from __future__ import annotations

import sqlite3
from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from pipeline.execution.journal import SEGMENT_BYTES_MIN, Journal, JournalReader, segment_path
from pipeline.execution.records import (
    BalanceRecord,
    BootRecord,
    FillRecord,
    LegPlan,
    OperationRecord,
    OperationResultRecord,
    OperationStateRecord,
    OrderIntentRecord,
    OrderSentRecord,
    OrderStateRecord,
    Outcome,
    Purpose,
    Record,
)
from pipeline.model.enums import (
    ArbitrageState,
    InstrumentKind,
    OpportunityType,
    OrderKind,
    OrderSide,
    OrderState,
    TimeInForce,
)
from pipeline.model.errors import BadInput
from workers.cli.report import read_report
from workers.cli.why import read_trail, trail_text
from workers.recorder.sqlite_ledger import EVENT_KINDS, SqliteLedger, open_reader, read_fill
from workers.report.times import since_wall_ns

#: A journal with one record of every type (tests/unit/execution/journal/test_journal_golden.py holds it to that).
EVERY_RECORD = Path(__file__).parents[2] / "execution" / "golden" / "journal.bin"

LEG = LegPlan(
    instrument_id=0, venue="v_spot", symbol="S", kind=InstrumentKind.SPOT, base="BTC", quote="USDT", side=OrderSide.BUY,
    qty=Decimal("0.1"), limit_price=Decimal("101"), best_price=Decimal("100"), book_seq=4, update_id=9,
    proof_mono_ns=1, book_recv_mono_ns=1,
)  # fmt: skip


def records() -> list[Record]:
    return [
        BootRecord(boot_epoch=1, instance="t", mode="sim", pid=1, build_hash=2),
        OperationRecord(
            operation_id="op1", opportunity_id=5, type=OpportunityType.SPOT_SPOT, pair="BTC/USDT", legs=(LEG,),
            edge_detect_bps=12.5, edge_send_bps=11.0, direction_key=1, notional_usd=Decimal("10"),
            trigger_recv_mono_ns=1000, detect_mono_ns=2000, dequeued_mono_ns=3000, gate_mono_ns=4000,
        ),
        OperationStateRecord("op1", ArbitrageState.OPPORTUNITY_FOUND, ArbitrageState.EXECUTING, "gate approved"),
        OrderIntentRecord(
            client_id="c1", operation_id="op1", leg=0, purpose=Purpose.ENTRY, instrument_id=0, venue="v_spot",
            symbol="S",
            kind=InstrumentKind.SPOT, base="BTC", quote="USDT", side=OrderSide.BUY, order_kind=OrderKind.LIMIT,
            tif=TimeInForce.IOC, qty=Decimal("0.1"), price=Decimal("101"), reduce_only=False, multiplier=Decimal(1),
            expiry_wall_ms=0, reserve_asset="USDT", reserve_amount=Decimal("10.1"), book_seq=4, update_id=9,
        ),
        OrderSentRecord("c1", 5000),
        FillRecord(
            venue="v_spot", symbol="S", trade_id="77", order_id="o1", client_id="c1", operation_id="op1",
            instrument_id=0, kind=InstrumentKind.SPOT, base="BTC", quote="USDT", side=OrderSide.BUY, qty=Decimal("0.1"),
            price=Decimal("100.5"), fee=Decimal("0.0000000000001"), fee_asset="BTC", is_maker=False, venue_wall_ms=1,
            recv_mono_ns=6000, source="ws", extra_fees=(("GT", Decimal("0.25")), ("POINT", Decimal("1E-12"))),
        ),
        OrderStateRecord("c1", "o1", OrderState.FILLED, Decimal("0.1"), Decimal("100.5"), 1, 6500, "ws"),
        OrderStateRecord("c1", "o1", OrderState.OPEN, None, None, 1, 7000, "rest", "late"),
        BalanceRecord("v_spot", "USDT", Decimal("1E+3"), Decimal(0), "rest", 1),
        OperationStateRecord("op1", ArbitrageState.EXECUTING, ArbitrageState.COMPLETED, "all legs filled"),
        OperationResultRecord(
            operation_id="op1", opportunity_id=5, outcome=Outcome.COMPLETED,
            pnl={"BTC": Decimal("0.1"), "USDT": Decimal("-10.05")}, pnl_numeraire=Decimal("-0.5"), numeraire="USDT",
            fees={"BTC": Decimal("0.0000000000001")}, edge_detect_bps=12.5, edge_send_bps=11.0, edge_fill_bps=-3.0,
            filled_qty=Decimal("0.1"), dust={}, hedge_open=False, reason="all legs filled", started_mono_ns=3000,
            ended_mono_ns=8000, stamps={"send": 5000, "first_ack": 6400},
        ),
    ]  # fmt: skip


@pytest.fixture
def journal(tmp_path: Path) -> Path:
    folder = tmp_path / "journal"
    writer = Journal.open(folder, segment_bytes=64 * 1024)
    for number, record in enumerate(records()):
        writer.append(record, 1000 + number, 1_700_000_000_000_000_000 + number)
    writer.close()
    return folder


def fold(journal: Path, path: Path, step: int) -> None:
    """Read the journal ``step`` entries at a time, closing and opening everything in between, as kills would."""
    for _ in range(100):
        ledger = SqliteLedger(path)
        reader = JournalReader(journal, ledger.position())
        entries = reader.poll(step)
        ledger.apply(entries, reader.position)
        reader.close()
        ledger.close()
        if not entries:
            return


def dump(path: Path) -> dict[str, list[tuple[object, ...]]]:
    with open_reader(path) as db:
        tables = [row[0] for row in db.execute("SELECT name FROM sqlite_master WHERE type = 'table' ORDER BY name")]
        return {name: [tuple(row) for row in db.execute(f"SELECT * FROM {name}")] for name in tables}


def test_restarts_at_any_entry_give_the_same_ledger(journal: Path, tmp_path: Path) -> None:
    fold(journal, tmp_path / "whole.sqlite", 1000)
    for step in (1, 2, 3):
        fold(journal, tmp_path / f"{step}.sqlite", step)
        assert dump(tmp_path / f"{step}.sqlite") == dump(tmp_path / "whole.sqlite")


def test_entries_that_come_twice_change_nothing(journal: Path, tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    fold(journal, path, 1000)
    before = dump(path)
    ledger = SqliteLedger(path)
    reader = JournalReader(journal)
    ledger.apply(reader.poll(), None)
    ledger.close()
    assert dump(path) == before


def test_a_failed_transaction_leaves_rows_and_position_alone(journal: Path, tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    ledger = SqliteLedger(path)
    entries = JournalReader(journal).poll()
    broken = [*entries[:3], object()]
    with pytest.raises(AttributeError):
        ledger.apply(broken, None)  # type: ignore[arg-type]
    ledger.close()
    assert dump(path)["operations"] == []


def test_a_record_of_every_type_has_its_row(tmp_path: Path) -> None:
    folder = tmp_path / "journal"
    folder.mkdir()
    segment_path(folder, 1).write_bytes(EVERY_RECORD.read_bytes().ljust(SEGMENT_BYTES_MIN, b"\0"))
    fold(folder, tmp_path / "ledger.sqlite", 1)
    with open_reader(tmp_path / "ledger.sqlite") as db:
        assert {row["kind"] for row in db.execute("SELECT kind FROM events")} == set(EVENT_KINDS.values())
        fills = [read_fill(row) for row in db.execute("SELECT * FROM fills ORDER BY trade_id")]
    assert [(fill.trade_id, fill.source) for fill in fills] == [("t1", "rest"), ("t2", "external liquidation")]


def test_numbers_are_exact_text_and_terminal_states_stay(journal: Path, tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    fold(journal, path, 1000)
    with open_reader(path) as db:
        fill = db.execute("SELECT * FROM fills").fetchone()
        order = db.execute("SELECT * FROM orders").fetchone()
        balance = db.execute("SELECT * FROM balances").fetchone()
    assert (fill["fee"], fill["qty"], fill["side"]) == ("0.0000000000001", "0.1", "buy")
    assert (order["state"], order["filled"], order["send_mono_ns"]) == ("filled", "0.1", 5000)
    assert balance["free"] == "1000"
    assert path.stat().st_mode & 0o777 == 0o600


def test_trail_and_report_read_it_back(journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARB_STATE_DIR", str(tmp_path))
    (tmp_path / "t-one").mkdir()
    fold(journal, tmp_path / "t-one" / "ledger.sqlite", 1000)
    trail = read_trail("t-one", "op1")
    assert trail["stages_us"]["tick_to_order"] == 4.0
    assert read_trail("t-one", "5")["operation"]["operation_id"] == "op1"
    text = trail_text(trail)
    assert "gate approved" in text and "fill 77" in text and "edge bps: detected 12.50" in text
    assert "fee 0.0000000000001 BTC + 0.25 GT + 1E-12 POINT (ws)" in text
    report = read_report("t-one", "")
    found = report["operations"]
    assert (found["total"], found["completed"], found["won"], found["lost"]) == (1, 1, 0, 1)
    changes = {"BTC": "0.0999999999999", "USDT": "-10.05", "GT": "-0.25", "POINT": "-1E-12"}
    assert report["pnl"] == {asset: Decimal(text) for asset, text in changes.items()}, "fees taken off"
    assert report["edge_bps"] == {"expected": 12.5, "at_send": 11.0, "realised": -3.0}
    assert read_report("t-one", "2100-01-01")["operations"]["total"] == 0


@pytest.mark.parametrize("before", ["SELECT * FROM fills", "SELECT MAX(wall_ns)", "SELECT operation_id, COUNT(*)"])
def test_a_fill_that_is_committed_while_a_report_is_read_is_in_the_next_one(
    before: str, journal: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The recorder commits every 100 ms; a report reads for longer."""
    monkeypatch.setenv("ARB_STATE_DIR", str(tmp_path))
    (tmp_path / "t-one").mkdir()
    path = tmp_path / "t-one" / "ledger.sqlite"
    fold(journal, path, 1000)
    (first,) = (record for record in records() if isinstance(record, FillRecord))
    writer = Journal.open(journal, segment_bytes=64 * 1024)
    writer.append(msgspec.structs.replace(first, trade_id="78"), 2000, 1_700_000_000_000_002_000)
    writer.close()
    between: list[str] = []

    def watched(ledger: Path) -> sqlite3.Connection:
        def recorder(statement: str) -> None:
            if statement.startswith(before) and not between:
                between.append(statement)
                fold(journal, path, 1000)

        reader = open_reader(ledger)
        reader.set_trace_callback(recorder)
        return reader

    monkeypatch.setattr("workers.cli.report.open_reader", watched)
    during = read_report("t-one", "")
    assert between and (during["fills"], during["pnl"]["GT"]) == (1, Decimal("-0.25")), "all of one moment"
    after = read_report("t-one", "")
    assert (after["fills"], after["pnl"]["GT"]) == (2, Decimal("-0.5"))


def test_since_understands_spans_and_iso_times() -> None:
    assert since_wall_ns("") == 0
    assert since_wall_ns("1970-01-01T00:00:01+00:00") == 1_000_000_000
    assert since_wall_ns("1970-01-01T00:00:01") == 1_000_000_000, "UTC, as every time that is shown"
    assert since_wall_ns("2h") - since_wall_ns("1h") < 0
    assert since_wall_ns("9999-01-01") == 2**63 - 1

    for text in ("yesterday", "5x", "-3h"):
        with pytest.raises(BadInput, match="--since"):
            since_wall_ns(text)


def test_a_fill_is_read_back_with_every_part_of_its_fee(journal: Path, tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    fold(journal, path, 100)
    (written,) = (record for record in records() if isinstance(record, FillRecord))
    with open_reader(path) as db:
        (found,) = (read_fill(row) for row in db.execute("SELECT * FROM fills"))
    assert found == msgspec.structs.replace(written, instrument_id=-1)


def test_a_table_of_the_time_of_one_fee_a_fill_is_brought_up_to_date(journal: Path, tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    fold(journal, path, 100)
    with sqlite3.connect(path) as db:
        db.execute("ALTER TABLE fills DROP COLUMN extra_fees_json")
    with open_reader(path) as db:
        assert [read_fill(row).extra_fees for row in db.execute("SELECT * FROM fills")] == [()]
    SqliteLedger(path).close()
    with open_reader(path) as db:
        assert [read_fill(row).extra_fees for row in db.execute("SELECT * FROM fills")] == [()]


def test_a_ledger_of_schema_4_gets_the_columns_of_marks(journal: Path, tmp_path: Path) -> None:
    path = tmp_path / "ledger.sqlite"
    fold(journal, path, 1000)
    with sqlite3.connect(path) as old:
        for column in ("marks_json", "carried"):
            old.execute(f"ALTER TABLE operations DROP COLUMN {column}")
        old.execute("UPDATE meta SET value = '4' WHERE key = 'schema'")
    fold(journal, path, 1000)
    with open_reader(path) as db:
        assert db.execute("SELECT marks_json, outcome FROM operations").fetchone()["outcome"] == "completed"
