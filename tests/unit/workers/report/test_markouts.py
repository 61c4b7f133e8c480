"""Markouts: books in shared memory are looked at when a fill's time has come, kept in the ledger, and summed up."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal
from fractions import Fraction
from pathlib import Path

import pytest

from pipeline.execution.journal import JournalEntry
from pipeline.execution.records import FillRecord
from pipeline.market_data import MarketDataAggregator
from pipeline.model.enums import InstrumentKind, OrderSide
from shm.atomics import mono_ns
from shm.layout import FLAG_GAP
from tests.worlds.books_world import CONFIG, BooksWorld
from workers.cli.report import read_report, report_text
from workers.recorder.markouts import HORIZONS_S, LATE_NS_MAX, PENDING_MAX, Markouts
from workers.recorder.sqlite_ledger import Markout, SqliteLedger, open_reader
from workers.report.markouts import markout_rows, markout_text

D = Decimal
S = 1_000_000_000
WALL = 1_700_000_000 * S


def entry(
    trade: str, side: OrderSide, price: str, qty: str = "2", *, venue: str = "aa_spot", wall_ns: int = WALL
) -> JournalEntry:
    fill = FillRecord(
        venue, "S", trade, "o", "c", "op", 0, InstrumentKind.SPOT, "BTC", "USDT", side, D(qty), D(price), D(0), "USDT",
        False, 0, 0, "push",
    )  # fmt: skip
    return JournalEntry(1, 0, 0, wall_ns, 1, fill)


@pytest.fixture
def world(instance: str) -> Iterator[BooksWorld]:
    made = BooksWorld(instance)
    yield made
    made.close()


@pytest.fixture
def market(world: BooksWorld) -> MarketDataAggregator:
    found = MarketDataAggregator(world.instance, CONFIG)
    asyncio.run(found.start_aggregation())
    return found


def test_a_fills_own_book_is_looked_at_after_each_horizon(world: BooksWorld, market: MarketDataAggregator) -> None:
    markouts, began = Markouts(market, 5000), int(mono_ns())
    world.publish(0, "100", "102")
    world.publish(1, "500", "502")
    markouts.note([entry("t1", OrderSide.BUY, "100")], began, WALL)
    assert markouts.measured(began + S - 1) == []
    assert markouts.measured(began + S) == [Markout("aa_spot", "S", "t1", 1, D(101))]
    world.publish(0, "103", "105")
    assert markouts.measured(began + 10 * S) == [Markout("aa_spot", "S", "t1", 10, D(104))]
    assert markouts.measured(began + 60 * S) == [Markout("aa_spot", "S", "t1", 60, D(104))]
    assert markouts.measured(began + 600 * S) == []


def test_a_look_that_is_late_or_has_no_living_book_is_left_out(world: BooksWorld, market: MarketDataAggregator) -> None:
    markouts, began = Markouts(market, 5000), int(mono_ns())
    fills = [entry("t1", OrderSide.SELL, "100")]
    markouts.note(fills, began, WALL)
    assert markouts.measured(began + S) == [], "no book"
    world.publish(0, "100", "102", flags=FLAG_GAP)
    assert markouts.measured(began + 10 * S) == [], "a gap"
    world.publish(0, "100", "102", recv_mono_ns=began)
    assert markouts.measured(began + 60 * S) == [], "a book that was proved a minute ago"
    world.publish(0, "100", "102")
    markouts.note(fills, began, WALL)
    assert [one.horizon_s for one in markouts.measured(began + 10 * S + LATE_NS_MAX)] == [10], "the first is too late"


def test_records_that_are_read_again_have_no_looks_but_those_still_to_come(
    world: BooksWorld, market: MarketDataAggregator
) -> None:
    markouts, began = Markouts(market, 5000), int(mono_ns())
    world.publish(0, "100", "102")
    markouts.note([entry("old", OrderSide.BUY, "100", wall_ns=WALL - 3600 * S)], began, WALL)
    markouts.note([entry("late", OrderSide.BUY, "100", wall_ns=WALL - 4 * S)], began, WALL)
    markouts.note([entry("ahead", OrderSide.BUY, "100", wall_ns=WALL + S)], began, WALL)  # the clock was set back
    seen = [(one.trade_id, one.horizon_s) for at_s in (1, 6, 10, 56, 60) for one in markouts.measured(began + at_s * S)]
    assert seen == [("ahead", 1), ("late", 10), ("ahead", 10), ("late", 60), ("ahead", 60)]


def test_what_waits_is_bounded(market: MarketDataAggregator) -> None:
    markouts = Markouts(market, 5000)
    markouts.note((entry(str(n), OrderSide.BUY, "1") for n in range(PENDING_MAX)), 0, WALL)
    assert PENDING_MAX <= len(markouts._pending) < PENDING_MAX + len(HORIZONS_S)


def naive(fills: list[tuple[str, str, str, str]]) -> float:
    """The move in the fills' direction by notional, in exact fractions: side, qty, price, mid."""
    gained = sum(
        (Fraction(mid) - Fraction(p)) * Fraction(q) * (1 if side == "buy" else -1) for side, q, p, mid in fills
    )
    return round(float(gained / sum(Fraction(q) * Fraction(p) for _, q, p, _ in fills) * 10_000), 3)


def test_the_report_weighs_by_notional_and_says_of_how_many_fills_it_speaks(state_dir: Path, instance: str) -> None:
    folder = state_dir / instance
    folder.mkdir()
    ledger = SqliteLedger(folder / "ledger.sqlite")
    entries = [
        entry("1", OrderSide.BUY, "100", "1"),
        entry("2", OrderSide.SELL, "200", "3"),
        entry("3", OrderSide.BUY, "50", "2", venue="bb_spot"),
        entry("4", OrderSide.BUY, "50", "2", venue="bb_spot"),
    ]
    ledger.apply(entries, None)
    rows = [Markout("aa_spot", "S", "1", 1, D("100.5")), Markout("aa_spot", "S", "2", 1, D("200.4"))]
    assert (
        ledger.markouts([*rows, Markout("bb_spot", "S", "3", 1, D(49)), Markout("bb_spot", "S", "3", 10, D(51))]) == 4
    )
    assert ledger.markouts(rows) == 2, "written twice it is the same"
    ledger.close()
    with open_reader(folder / "ledger.sqlite") as db:
        found = {(row["venue"], row["horizon_s"]): row for row in markout_rows(db, 0)}
        assert markout_rows(db, WALL + 1) == []
    a = [("buy", "1", "100", "100.5"), ("sell", "3", "200", "200.4")]
    b = [("buy", "2", "50", "49")]
    assert found["aa_spot", 1] == {"venue": "aa_spot", "horizon_s": 1, "fills": 2, "measured": 2, "bps": naive(a)}
    assert found["bb_spot", 1]["bps"] == naive(b) == -200
    assert found["all", 1] == {"venue": "all", "horizon_s": 1, "fills": 4, "measured": 3, "bps": naive(a + b)}
    assert found["bb_spot", 10]["bps"] == 200 and set(found) == {
        ("aa_spot", 1), ("bb_spot", 1), ("bb_spot", 10), ("all", 1), ("all", 10)
    }  # fmt: skip
    report = read_report(instance, "", tables=True)
    assert report["markouts"] == report["tables"]["markouts"] == list(found.values())
    assert f"markouts       {naive(a + b):+.2f} bps after 1 s (3 of 4 fills), +200.00 bps after 10 s" in report_text(
        report
    )
    assert markout_text([]) == "nothing measured"
