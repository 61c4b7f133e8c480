"""Won and lost are counted by round trips: a hedge is one trip from its entry to its last closing."""

from __future__ import annotations

import sqlite3
from decimal import Decimal
from pathlib import Path

import pytest

from pipeline.execution.events import Command, CommandKind
from pipeline.execution.journal import JournalPosition
from pipeline.execution.results.counts import counts_of
from pipeline.execution.results.round_trips import RoundTrips, round_trips
from pipeline.model.errors import BadInput
from tests.worlds.hedged_world import hedged_world, leave
from workers.cli.report import read_report
from workers.demo.summary import JournalTotals, losing
from workers.recorder.sqlite_ledger import SqliteLedger, open_reader


def dec(**values: str) -> dict[str, Decimal]:
    return {name: Decimal(value) for name, value in values.items()}


def test_a_hedge_and_its_closings_are_one_trip() -> None:
    pnl = dec(spot="-1", entry="-0.6", first="0.4", second="0.5")
    trips = round_trips(pnl, {"first": "entry", "second": "entry"}, set())
    assert trips.closed() == dec(spot="-1", entry="0.3")
    assert (trips.won, trips.lost) == (1, 1)


def test_an_open_hedge_is_not_judged_and_nothing_is_neither() -> None:
    pnl = dec(entry="-0.6", part="0.9", empty="0")
    trips = round_trips(pnl, {"part": "entry"}, {"entry"})
    assert trips.closed() == dec(empty="0")
    assert (trips.won, trips.lost) == (0, 0)


def test_counts_follow_in_whatever_order_hedges_and_results_come() -> None:
    trips = RoundTrips()
    trips.add("entry", "", Decimal("-0.6"))
    assert (trips.won, trips.lost) == (0, 1)
    trips.hedge("entry", is_open=True)
    assert (trips.won, trips.lost) == (0, 0)
    trips.add("exit", "entry", Decimal("0.9"))
    trips.hedge("entry", is_open=False)
    assert (trips.won, trips.lost) == (1, 0)
    trips.add("exit", "entry", Decimal("-0.9"))  # late evidence takes the first result back
    trips.add("exit", "entry", Decimal("0.1"))
    assert (trips.won, trips.lost) == (0, 1)


def test_the_summary_judges_a_hedge_when_it_is_closed() -> None:
    world = hedged_world()
    books = JournalTotals(world.entries)
    assert next(iter(books.results.values())).pnl_numeraire < 0, "an entry alone is its fees"
    assert (books.counts().won, books.counts().lost) == (0, 0)
    assert losing(books) == []
    leave(world)
    books = JournalTotals(world.entries)
    assert books.counts().completed == 2
    assert (books.counts().won, books.counts().lost) == (1, 0)
    assert sum(books.round_trips().closed().values()) == sum(r.pnl_numeraire for r in books.results.values())


def test_a_hedge_that_is_left_at_a_loss_is_one_lost_trip() -> None:
    world = hedged_world()
    for name in ("gateio_spot", "gateio_futures"):
        world.venues[name].bid, world.venues[name].ask = Decimal("99.00"), Decimal("101.00")
    world.run(50)
    world.feed(Command(CommandKind.CLOSE_HEDGES, reason="test"))
    world.run(1000)
    assert not world.core.ledger.hedges
    books = JournalTotals(world.entries)
    assert (books.counts().won, books.counts().lost) == (0, 1)
    (row,) = losing(books)
    assert row["pnl_numeraire"] == sum(r.pnl_numeraire for r in books.results.values())
    assert len(row["closed_by"]) == 1
    assert row["edge_fill_bps"] < 0


def test_the_report_judges_as_the_summary_does(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARB_STATE_DIR", str(tmp_path))
    (tmp_path / "t-one").mkdir()
    world = hedged_world()

    def folded() -> dict[str, int]:
        ledger = SqliteLedger(tmp_path / "t-one" / "ledger.sqlite")
        ledger.apply(world.entries, None)
        ledger.close()
        found: dict[str, int] = read_report("t-one", "")["operations"]
        return found

    assert (folded()["won"], folded()["lost"]) == (0, 0)
    leave(world)
    assert folded() == counts_of(world.core.ledger).fields() == JournalTotals(world.entries).counts().fields()
    assert (folded()["entries"], folded()["exits"], folded()["completed"], folded()["won"]) == (1, 1, 2, 1)
    with open_reader(tmp_path / "t-one" / "ledger.sqlite") as db:
        since_ns = db.execute("SELECT MAX(wall_ns) FROM operations").fetchone()[0]
    monkeypatch.setattr("workers.cli.report.since_wall_ns", lambda text: since_ns)
    only_closing = read_report("t-one", "5s")
    found = only_closing["operations"]
    assert (found["total"], found["exits"], found["completed"], found["won"], found["lost"]) == (1, 1, 1, 1, 0)


def test_the_reported_change_holds_what_futures_realised(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """The closing fills alone look like a position of their own: their profit stands against the entry's."""
    monkeypatch.setenv("ARB_STATE_DIR", str(tmp_path))
    (tmp_path / "t-one").mkdir()
    world = hedged_world()
    entered = JournalTotals(world.entries).pnl()
    leave(world)
    ledger = SqliteLedger(tmp_path / "t-one" / "ledger.sqlite")
    ledger.apply(world.entries, None)
    ledger.close()
    whole = JournalTotals(world.entries).pnl()
    realised = sum(position.realised for position in JournalTotals(world.entries).accounts.futures.values())
    assert realised, "the contract moved between entry and exit"
    assert read_report("t-one", "")["pnl"] == {asset: amount for asset, amount in whole.items() if amount}
    with open_reader(tmp_path / "t-one" / "ledger.sqlite") as db:
        since_ns = db.execute("SELECT MAX(wall_ns) FROM operations").fetchone()[0]
    monkeypatch.setattr("workers.cli.report.since_wall_ns", lambda text: since_ns)
    gained = {asset: amount - entered.get(asset, Decimal(0)) for asset, amount in whole.items()}
    assert read_report("t-one", "5s")["pnl"] == {asset: amount for asset, amount in gained.items() if amount}


def test_an_older_ledger_is_folded_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ARB_STATE_DIR", str(tmp_path))
    (tmp_path / "t-one").mkdir()
    path = tmp_path / "t-one" / "ledger.sqlite"
    world = hedged_world()
    ledger = SqliteLedger(path)
    ledger.apply(world.entries, JournalPosition(index=1, offset=64, next_seq=9, chain=bytes(8)))
    ledger.close()
    old = sqlite3.connect(path)
    for column in ("kind", "base", "quote"):
        old.execute(f"ALTER TABLE fills DROP COLUMN {column}")
    old.execute("ALTER TABLE operations DROP COLUMN closes")
    old.execute("UPDATE meta SET value = '3' WHERE key = 'schema'")
    old.commit()
    old.close()
    with pytest.raises(BadInput, match="version 3"):
        read_report("t-one", "")
    ledger = SqliteLedger(path)
    assert ledger.position() is None, "the journal is read from its beginning"
    ledger.apply(world.entries, None)
    ledger.close()
    assert read_report("t-one", "")["pnl"] == {a: v for a, v in JournalTotals(world.entries).pnl().items() if v}
