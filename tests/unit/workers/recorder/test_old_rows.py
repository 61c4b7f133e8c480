"""Rows leave the ledger by age, and no report of what is kept says anything else than before."""

from __future__ import annotations

import sqlite3
from collections.abc import Sequence
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.execution.events import CommandKind
from pipeline.execution.journal import JournalEntry
from pipeline.execution.records import FundingRecord
from pipeline.model.units import NS_PER_DAY, NS_PER_S
from tests.worlds.execution_starts import broken_run
from tests.worlds.external_world import CONTRACT, FUTURES, external_world, hedge
from workers.cli.report import read_report
from workers.cli.why import round_trip
from workers.recorder.old_rows import forget, forgotten, opening
from workers.recorder.sqlite_ledger import SqliteLedger, open_reader

DAYS = 8
TABLES = ("operations", "orders", "fills", "operation_states", "events", "balances")


def over_days(entries: Sequence[JournalEntry]) -> list[JournalEntry]:
    """The same records over ``DAYS`` days."""
    step = DAYS * NS_PER_DAY // len(entries)
    return [msgspec.structs.replace(entry, wall_ns=10_000 * NS_PER_DAY + at * step) for at, entry in enumerate(entries)]


def counts(path: Path) -> dict[str, int]:
    with open_reader(path) as db:
        return {name: db.execute(f"SELECT COUNT(*) FROM {name}").fetchone()[0] for name in TABLES}


def report(since_ns: int) -> dict[str, Any]:
    found = read_report("t-one", datetime.fromtimestamp(since_ns / NS_PER_S, UTC).isoformat(), "operation")
    return {key: value for key, value in found.items() if key not in ("read", "uptime_s")}


@pytest.fixture
def ledger(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ARB_STATE_DIR", str(tmp_path))
    (tmp_path / "t-one").mkdir()
    return tmp_path / "t-one" / "ledger.sqlite"


@pytest.mark.parametrize("kept_days", [1, 2, 4])
def test_a_report_of_what_is_kept_does_not_change_and_what_has_left_does_not_come_again(
    ledger: Path, kept_days: int
) -> None:
    world = broken_run(24)
    entries = over_days(world.entries)
    before_ns = (entries[-1].wall_ns // NS_PER_DAY - kept_days) * NS_PER_DAY
    made = SqliteLedger(ledger)
    made.apply(entries, None)
    whole, expected = counts(ledger), report(before_ns)
    assert expected["operations"]["total"] > 0 and expected["pnl"]
    with made.transaction() as db:
        assert forget(db, 0) == 0
        while forgotten(db) < before_ns:
            forget(db, before_ns)
        assert opening(db).futures
        assert forget(db, before_ns) == 0, "once a day"
        kept = {row[0] for row in db.execute("SELECT operation_id FROM operations")}
    assert world.core.ledger.hedges.keys() <= kept, "an open hedge stays, however old"
    left = counts(ledger)
    assert all(left[name] < whole[name] for name in TABLES), (whole, left)
    assert report(before_ns) == expected
    ledger.with_name("report.sqlite").unlink()
    assert report(before_ns) == expected
    made.begin_anew()
    made.apply(entries, None)  # the journal, restored from a copy, is read again
    assert counts(ledger) == left and report(before_ns) == expected
    made.close()


def test_what_leaves_while_a_journal_is_read_again_does_not_come_again_either(ledger: Path) -> None:
    entries = over_days(broken_run(24).entries)
    made = SqliteLedger(ledger)
    made.apply(entries, None)
    last = entries[-1].wall_ns // NS_PER_DAY
    for day in (last - 4, last - 2):
        with made.transaction() as db:
            while forgotten(db) < day * NS_PER_DAY:
                forget(db, day * NS_PER_DAY)
        if day == last - 4:
            made.begin_anew()
    left, expected = counts(ledger), report((last - 2) * NS_PER_DAY)
    made.apply(entries, None)
    assert counts(ledger) == left and report((last - 2) * NS_PER_DAY) == expected
    made.close()


def test_what_leaves_is_all_or_nothing(ledger: Path) -> None:
    made = SqliteLedger(ledger)
    entries = over_days(broken_run(8).entries)
    made.apply(entries, None)
    whole = counts(ledger)
    with pytest.raises(sqlite3.OperationalError), made.transaction() as db:
        assert forget(db, entries[-1].wall_ns)
        db.execute("SELECT no such column")
    assert counts(ledger) == whole
    with made.transaction() as db:
        assert forgotten(db) == 0 and not opening(db).flows
    made.close()


def two_hedges() -> tuple[list[JournalEntry], str]:
    """Hedges on one contract: one is open from day 1 to day 7, one from day 1 to day 2, and funding is paid at noon of
    each day; and which one stays longer."""
    world, seen, entries = external_world(), 0, list[JournalEntry]()

    def at(hour: int, new: Sequence[JournalEntry]) -> None:
        start_ns = (10_000 * 24 + hour) * 3600 * NS_PER_S
        entries.extend(msgspec.structs.replace(e, wall_ns=start_ns + i * NS_PER_S) for i, e in enumerate(new))

    hedge(world)
    (first,) = world.core.ledger.hedges
    hedge(world)
    (second,) = world.core.ledger.hedges.keys() - {first}
    closes = {1: second, 6: first}
    for day in range(7):
        if day in closes:
            world.command(CommandKind.CLOSE_HEDGES, closes[day])
            world.run(8000)
            assert closes[day] not in world.core.ledger.hedges
        at(day * 24 + 4, world.entries[seen:])
        seen, noon_ms = len(world.entries), (10_000 + day) * 86_400_000 + 43_200_000
        paid = FundingRecord(FUTURES, CONTRACT, str(day), "USDT", Decimal(4), noon_ms, Decimal(4))
        at(day * 24 + 12, [msgspec.structs.replace(world.entries[-1], record=paid)])
    return [msgspec.structs.replace(entry, seq=seq) for seq, entry in enumerate(entries, 1)], first


def test_all_of_two_hedges_that_overlap_leaves_and_until_then_the_later_one_knows_what_it_was_paid(
    ledger: Path,
) -> None:
    """Fills of the one that has ended stay behind those of the other on their contract, for as long as these do."""
    entries, name = two_hedges()
    made = SqliteLedger(ledger)
    made.apply(entries, None)

    def trip() -> Any:
        with open_reader(ledger) as db:
            row = db.execute("SELECT * FROM operations WHERE operation_id = ?", (name,)).fetchone()
            return round_trip(db, row)

    whole = trip()
    assert 20 < whole["funding"] < 24, "six days, one of them with the other hedge"
    for day in (3, 4, 7):
        with made.transaction() as db:
            while forgotten(db) < (10_000 + day) * NS_PER_DAY:
                forget(db, (10_000 + day) * NS_PER_DAY)
        assert trip() == whole
    with made.transaction() as db:
        while forgotten(db) < (10_000 + 9) * NS_PER_DAY:
            forget(db, (10_000 + 9) * NS_PER_DAY)
        assert not db.execute("SELECT * FROM fills").fetchall()
        kinds = {kind for (kind,) in db.execute("SELECT kind FROM events")}
    assert not kinds & {"hedge", "funding"}
    made.close()
