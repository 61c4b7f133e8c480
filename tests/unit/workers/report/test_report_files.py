"""``arb report`` by day, pair, venue, operation, leg; as HTML, CSV, Parquet: judged by the simulator's own ledger."""

from __future__ import annotations

import contextlib
import csv
import importlib.util
import random
import sqlite3
from collections.abc import Sequence
from decimal import Decimal
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.execution.accounts import fold_fills
from pipeline.execution.journal import JournalEntry
from pipeline.model.config import DetectionConfig, ExecutionConfig, RiskLimits
from pipeline.model.errors import BadInput
from pipeline.model.fixedpoint import plain
from pipeline.virtual.market import Quote
from pipeline.virtual.world import VirtualWorld
from tests.worlds.execution_starts import broken_run
from tests.worlds.hedged_world import hedged_world, leave
from workers.cli.app import run
from workers.cli.report import read_report
from workers.recorder.report_cache import ReportCache
from workers.recorder.sqlite_ledger import SqliteLedger, open_reader, read_fill
from workers.report.charts import POINTS_MAX
from workers.report.files import check_parquet, csv_bytes, parquet_bytes, written
from workers.report.html_page import report_page
from workers.report.parts import REPORT_BY
from workers.report.tables import ROWS_MAX, TABLES

D = Decimal
TERMS = ("edge", "missed", "latency", "slippage", "broken", "marks", "fees", "funding", "total")
LAST = 2**62


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ARB_STATE_DIR", str(tmp_path))
    (tmp_path / "t-one").mkdir()
    return tmp_path / "t-one" / "ledger.sqlite"


def fold(path: Path, entries: Sequence[JournalEntry]) -> None:
    written_to = SqliteLedger(path)
    written_to.apply(entries, None)
    written_to.close()


def spot_run() -> VirtualWorld:
    settings = {
        "risk_limits": RiskLimits(min_profit_margin_bps=D(3), max_slippage_bps=D(50)),
        "execution": ExecutionConfig(),
        "detection": DetectionConfig(cooldown_ms=5),
    }
    world = VirtualWorld("demo", 1, settings=settings)
    listings = (("mexc_spot", "BTCUSDT"), ("gateio_spot", "BTC_USDT"), ("gateio_futures", "BTC_USDT"))
    world.open({listing: Quote(D(64000), qty=D("0.05")) for listing in listings})
    assert world.run_until(lambda: world.core.ready, limit_ms=5000)
    world.finder_on = True
    world.market.move("mexc_spot", "BTCUSDT", D("63744"))
    world.run(2000)
    world.finder_on = False
    world.run(2000)
    return world


def test_each_venue_gained_what_its_own_ledger_says_and_nothing_is_left_over(ledger: Path) -> None:
    world = spot_run()
    fold(ledger, world.entries)
    report = read_report("t-one", "", "venue")
    changes = world.ledger.changes()
    with open_reader(ledger) as db:
        marks = [msgspec.json.decode(row[0]) for row in db.execute("SELECT marks_json FROM operations")]
    assert report["operations"]["completed"] and report["attribution"]["residual"] == 0
    traded = {"mexc_spot", "gateio_spot"}
    rows = {row["venue"]: row for row in report["rows"]}
    assert traded <= set(rows)
    for venue in traded:
        moved = {asset: amount for asset, amount in changes[venue].items() if amount}
        (worth,) = {
            sum((amount * D(mark[asset]) for asset, amount in moved.items()), D(0)).quantize(D("1e-9"))
            for mark in marks
        }
        assert rows[venue]["total"] == worth, venue
    total = sum(row["total"] for row in report["rows"])
    assert total == report["attribution"]["total"] > 0


@pytest.mark.parametrize("by", REPORT_BY)
def test_every_table_has_the_same_sums(by: str, ledger: Path) -> None:
    world = broken_run()
    fold(ledger, world.entries)
    report = read_report("t-one", "", by)
    assert report["operations"]["recovered"] and report["recovery_rate"] is not None
    assert sum((row["residual"] for row in report["rows"]), D(0)) == 0
    for term in TERMS:
        assert abs(sum(row[term] for row in report["rows"]) - report["attribution"][term]) < D("1e-7"), term
    if by in ("run", "day", "pair"):
        assert sum(row["recovered"] for row in report["rows"]) == report["operations"]["recovered"]


def test_an_open_hedge_carries_its_basis_between_the_venues_until_it_is_closed(ledger: Path) -> None:
    world = hedged_world()
    fold(ledger, world.entries)
    entry = read_report("t-one", "", "venue")
    assert {row["venue"]: row for row in entry["rows"]}["between venues"]["marks"] == -entry["attribution"]["edge"] != 0
    leave(world)
    fold(ledger, world.entries)
    report = read_report("t-one", "", "venue")
    between = {row["venue"]: row for row in report["rows"]}["between venues"]
    assert between["marks"] == between["residual"] == report["attribution"]["residual"] == 0


def test_a_leg_shows_what_was_expected_and_what_it_got(ledger: Path) -> None:
    world = spot_run()
    fold(ledger, world.entries)
    rows = read_report("t-one", "", "leg")["rows"]
    assert len(rows) >= 2
    for row in rows:
        assert row["side"] in ("buy", "sell") and row["filled"] == row["planned"] > 0
        worse = (row["filled_price"] - row["expected_price"]) * (1 if row["side"] == "buy" else -1)
        assert row["worse_bps"] == pytest.approx(float(worse / row["expected_price"]) * 1e4, abs=1e-3)


def test_a_call_computes_only_what_is_new(ledger: Path) -> None:
    world = broken_run()
    half = len(world.entries) // 2
    fold(ledger, world.entries[:half])
    first = read_report("t-one", "")
    assert first["read"]["operations"] > 1 and first["read"]["fills"] > 2
    assert read_report("t-one", "")["read"] == {"operations": 0, "fills": 0}
    fold(ledger, world.entries[half:])
    second = read_report("t-one", "", "leg")
    with open_reader(ledger) as db:
        operations, fills = (
            db.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0] for name in ("operations", "fills")
        )
    assert 0 < second["read"]["operations"] < operations and 0 < second["read"]["fills"] < fills
    (ledger.with_name("report.sqlite")).unlink()
    anew = read_report("t-one", "", "leg")
    assert anew["read"]["fills"] == fills
    assert {**anew, "read": 0} == {**second, "read": 0}


def test_the_accounts_are_the_same_from_every_checkpoint_and_after_a_late_fill(ledger: Path, tmp_path: Path) -> None:
    world = broken_run(16)
    fold(ledger, world.entries)
    with open_reader(ledger) as db:
        rows = db.execute("SELECT * FROM fills ORDER BY wall_ns").fetchall()
        cache = ReportCache(tmp_path / "report.sqlite")
        for row in rows[::3]:
            until = row["wall_ns"]
            slow = fold_fills(read_fill(other) for other in rows if other["wall_ns"] < until)
            assert cache.accounts_before(db, until) == slow
        slow = fold_fills(read_fill(row) for row in rows)
        assert cache.accounts_before(db, LAST) == slow
    futures = next(row for row in rows if row["kind"] != "spot")
    with sqlite3.connect(ledger) as db:  # a fill older than all checkpoints: what stood on them is computed anew
        db.row_factory = sqlite3.Row
        db.execute(
            "UPDATE fills SET wall_ns = 1 WHERE trade_id = ? AND venue = ?", (rows[-1]["trade_id"], rows[-1]["venue"])
        )
        late = {**dict(futures), "trade_id": "0", "wall_ns": LAST - 2}
        db.execute(f"INSERT INTO fills VALUES ({','.join('?' * len(late))})", tuple(late.values()))
        slow = fold_fills(read_fill(row) for row in db.execute("SELECT * FROM fills").fetchall())
        assert cache.accounts_before(db, LAST) == slow
    cache.save()


def test_a_damaged_cache_is_computed_anew(ledger: Path) -> None:
    fold(ledger, broken_run(4).entries)
    before = read_report("t-one", "")
    ledger.with_name("report.sqlite").write_bytes(b"no database" * 100)
    assert {**read_report("t-one", ""), "read": 0} == {**before, "read": 0}
    assert read_report("t-one", "")["read"] == {"operations": 0, "fills": 0}, "and kept again"


@pytest.mark.parametrize("body", [b"\x00damaged", b'{"flows": 7}', None], ids=["bytes", "shape", "nothing"])
def test_a_damaged_row_of_the_cache_is_computed_anew(ledger: Path, body: bytes | None) -> None:
    fold(ledger, broken_run(4).entries)
    before = read_report("t-one", "", "leg")
    with contextlib.closing(sqlite3.connect(ledger.with_name("report.sqlite"))) as db, db:
        for table in ("accounts", "operations"):
            assert db.execute(f"UPDATE {table} SET body = ?", (body,)).rowcount > 0
    assert {**read_report("t-one", "", "leg"), "read": 0} == {**before, "read": 0}
    assert read_report("t-one", "")["read"] == {"operations": 0, "fills": 0}, "and kept again"


def test_a_folder_that_takes_no_file_costs_a_computation_and_nothing_else(ledger: Path) -> None:
    fold(ledger, broken_run(4).entries)
    before = read_report("t-one", "")
    ledger.with_name("report.sqlite").unlink()
    ledger.with_name("report.sqlite").mkdir()
    for _ in range(2):
        assert read_report("t-one", "") == before


class Tags(HTMLParser):
    """What a page consists of."""

    def __init__(self, text: str) -> None:
        super().__init__()
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.open: list[str] = []
        self.texts: list[str] = []
        self.feed(text)

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in ("meta", "line", "polyline"):
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        self.texts.append(data)


def report_files(folder: Path) -> dict[str, Any]:
    report = read_report("t-one", "", tables=True)
    tables = report.pop("tables")
    files = written(report, tables, html=folder / "out.html", csv_folder=folder / "csv", parquet_folder=None)
    assert len(files) == 1 + len(TABLES)
    return {"report": report, "tables": tables}


def test_the_page_needs_nothing_else_and_shows_every_table(ledger: Path, tmp_path: Path) -> None:
    writer = SqliteLedger(ledger)
    for minute, value in enumerate((100, 104, 101)):
        pnl = {"asset": "USDT", "equity": value, "daily": 1, "trading": 1, "inventory": 0, "realised": 1}
        writer.equity(1_700_000_000_000_000_000 + minute * 60_000_000_000, pnl)
    writer.close()
    fold(ledger, broken_run().entries)
    made = report_files(tmp_path)
    page = Tags((tmp_path / "out.html").read_text(encoding="utf-8"))
    assert page.open == []
    tags = [tag for tag, _ in page.tags]
    assert "script" not in tags and "link" not in tags and "img" not in tags
    assert not any("src" in attributes or "href" in attributes or "style" in attributes for _, attributes in page.tags)
    lines = [attributes["points"] for tag, attributes in page.tags if tag == "polyline"]
    assert len(lines) >= 4 and all("nan" not in str(points) for points in lines)
    for name, title in TABLES.items():
        assert title in page.texts or name in ("pnl", "equity")
    assert [row["equity"] for row in made["tables"]["equity"]] == [100, 104, 101]
    assert plain(made["report"]["max_drawdown"]) in page.texts


def test_the_page_begins_with_profit_equity_and_the_day_and_then_names_each_asset(ledger: Path) -> None:
    fold(ledger, broken_run(2).entries)
    report = read_report("t-one", "", tables=True)
    money = {"asset": "USDT", "daily": D(1), "trading": D(1), "inventory": D(0), "equity": D(104), "realised": D(2)}
    page = report_page({**report, "today": {**money, "as_of": "2026-01-01T00:00:00Z"}}, report["tables"])
    texts = Tags(page).texts
    heads = [texts.index(name) for name in ("P&L, realised", "Today and equity", "Changes of the accounts")]
    assert heads == sorted(heads) and "equity 104.00 USDT" in texts[heads[1] + 1]
    assert all(asset in texts[heads[2] + 1] for asset in report["pnl"])


def test_a_page_alone_reads_the_rows_that_it_shows(ledger: Path, tmp_path: Path) -> None:
    fold(ledger, broken_run().entries)
    rng = random.Random(3)
    begin, values = 1_700_000_000_000_000_000, [100 + rng.randint(-9, 9) for _ in range(3000)]
    values[777], values[2345] = 9, 999
    with contextlib.closing(sqlite3.connect(ledger)) as db, db:
        for minute, value in enumerate(values):
            row = (begin + minute * 60_000_000_000, "USDT", str(value), "1", "1", "0", "1")
            db.execute("INSERT INTO equity VALUES (?, ?, ?, ?, ?, ?, ?)", row)
        columns = [name for _, name, *_ in db.execute("PRAGMA table_info(fills)").fetchall()]
        fill = dict(zip(columns, db.execute("SELECT * FROM fills").fetchone(), strict=True))
        for number in range(ROWS_MAX):
            row = tuple({**fill, "trade_id": f"n{number}", "wall_ns": LAST - 2}.values())
            db.execute(f"INSERT INTO fills VALUES ({','.join('?' * len(row))})", row)
    every, page = (read_report("t-one", "", tables=True, of_page=of_page) for of_page in (False, True))
    shown, tables = page.pop("tables"), every.pop("tables")
    assert len(tables["equity"]) == 3000 and len(tables["fills"]) == every["fills"] == page["fills"] > ROWS_MAX
    assert shown["fills"] == tables["fills"][-ROWS_MAX:]
    assert 300 < len(shown["equity"]) <= POINTS_MAX
    assert [row for row in tables["equity"] if row in shown["equity"]] == shown["equity"], "in their order, as they are"
    for row in (0, 777, 2345, 2999):
        assert tables["equity"][row] in shown["equity"]
    files = written(page, shown, html=tmp_path / "a.html", csv_folder=None, parquet_folder=None)
    assert f"The {every['fills'] - ROWS_MAX} rows before these" in Path(files[0]).read_text(encoding="utf-8")
    assert run(["report", "--html", str(tmp_path / "b.html"), "--instance", "t-one"]) == 0
    assert (tmp_path / "b.html").read_text(encoding="utf-8") == Path(files[0]).read_text(encoding="utf-8")


def test_csv_has_every_row_exactly(ledger: Path, tmp_path: Path) -> None:
    fold(ledger, broken_run().entries)
    tables = report_files(tmp_path)["tables"]
    for name in TABLES:
        with (tmp_path / "csv" / f"{name}.csv").open(newline="", encoding="utf-8") as file:
            rows = list(csv.DictReader(file))
        assert len(rows) == len(tables[name])
        for row, wanted in zip(rows, tables[name], strict=True):
            for key, value in wanted.items():
                if isinstance(value, Decimal):
                    assert D(row[key]) == value and "E" not in row[key]
                else:
                    assert row[key] == ("" if value is None else str(value))
    assert len(tables["fills"]) > 10 and len(tables["operation"]) > 5
    assert csv_bytes([]) == b"\r\n"


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is not None, reason="pyarrow is installed")
def test_parquet_without_pyarrow_is_refused_with_the_command_that_mends_it() -> None:
    with pytest.raises(BadInput, match=r"pip install 'pyarrow>=18'"):
        check_parquet()


@pytest.mark.skipif(importlib.util.find_spec("pyarrow") is None, reason="pyarrow is not installed")
def test_parquet_has_what_the_table_has() -> None:
    import pyarrow as arrow
    import pyarrow.parquet as parquet

    rows = [{"day": "2026-01-01", "total": D("1.25"), "n": 2}, {"day": "2026-01-02", "total": None, "n": 3}]
    found = parquet.read_table(arrow.BufferReader(parquet_bytes(rows))).to_pylist()
    assert found == rows
    assert parquet.read_table(arrow.BufferReader(parquet_bytes([]))).num_rows == 0
    large = [{"qty": D(10**10)}, {"qty": D("99999999999999999999.000000000000000001")}, {"qty": None}]
    assert parquet.read_table(arrow.BufferReader(parquet_bytes(large))).to_pylist() == large
    larger = parquet.read_table(arrow.BufferReader(parquet_bytes([*large, {"qty": D(10**20)}]))).to_pylist()
    assert [row["qty"] for row in larger] == [
        "10000000000",
        "99999999999999999999.000000000000000001",
        None,
        "100000000000000000000",
    ]
