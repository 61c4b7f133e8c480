"""The status reading: books as the aggregator sees them, beats, an instance that starts, counts after a stop."""

from __future__ import annotations

import asyncio
import os
import signal
import time
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.equity_watch import EquityWatch
from pipeline.market_data import MarketDataAggregator
from pipeline.model.units import NS_PER_DAY
from pipeline.trade_state import Effect, Reason
from shm.atomics import mono_ns
from shm.errors import SegmentMismatch
from shm.layout import FLAG_GAP
from shm.liveness import Liveness, LivenessView, beat
from tests.worlds.books_world import CONFIG, FUTURE_NS, BooksWorld
from tests.worlds.execution_starts import ready_world
from tests.worlds.execution_world import World
from workers.executor.publisher import Publisher
from workers.executor.views import CoreViews
from workers.executor_file import write_executor_state
from workers.state_folder import instance_dir
from workers.view.book_verdict import BookJudge
from workers.view.live_view import BOOKS_MAX, _book_rows, progress_text
from workers.view.status import POSITION_FIELDS, Reader, books, with_marks
from workers.view.status_text import answer_lines, loss_line, position_line, status_text

OTHER_UID = 65534


def test_the_loss_of_a_day_that_is_over_is_not_todays(instance: str, state_dir: Path) -> None:
    world, folder = ready_world(), instance_dir(instance, create=True)
    world.core.context.now = world.now()
    said = Publisher(world.core, folder, lambda level, text: None).state(stopped=True)
    for age_ns, shown in ((0, True), (NS_PER_DAY, False)):
        write_executor_state(folder, msgspec.structs.replace(said, wall_ns=time.time_ns() - age_ns))
        reading = Reader(instance).read()
        assert bool(loss_line(reading)) is shown
        assert "losses" not in reading, "they stand under risk"


@pytest.mark.skipif(os.geteuid() != 0, reason="needs root to act as two users")
def test_root_reads_an_instance_that_another_user_runs(instance: str, state_dir: Path) -> None:
    """`sudo arb status` of a unit's instance: what belongs to the owner of the state folder, and nobody else's."""
    folder = instance_dir(instance, create=True)
    (folder / "lock").touch()
    Liveness.create(instance, "poller").close()  # loads what the other user may not be able to read
    ready, tell = os.pipe()
    pid = os.fork()
    if not pid:
        try:
            os.setgroups([])
            os.setgid(OTHER_UID)
            os.setuid(OTHER_UID)
            owned = Liveness.create(instance, "detector")
            os.write(tell, b"." if owned is not None else b"")
            signal.pause()
        finally:
            os._exit(1)
    try:
        os.close(tell)
        assert os.read(ready, 1) == b"."
        with pytest.raises(SegmentMismatch, match=f"uid {OTHER_UID}"):
            Reader(instance).read()  # the folder is root's own still
        os.chown(folder, OTHER_UID, OTHER_UID)
        assert "detector" in Reader(instance).read()["processes"]
    finally:
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        os.close(ready)
        for path in Path("/dev/shm").glob(f"arb.{instance}.*"):
            path.unlink()


@pytest.fixture
def world(instance: str) -> Iterator[BooksWorld]:
    """Two feeds that live."""
    made = BooksWorld(instance)
    beating = [Liveness.create(instance, f"feed.{name}") for name in ("aa", "bb")]
    for live in beating:  # of the future: a slow host does not make them hang
        beat(live.words, 0, int(mono_ns()) + FUTURE_NS)
    yield made
    for live in beating:
        live.close()
    made.close()


def attached(world: BooksWorld) -> MarketDataAggregator:
    market = MarketDataAggregator(world.instance, CONFIG)
    asyncio.run(market.start_aggregation())
    return market


def living(world: BooksWorld) -> dict[str, LivenessView]:
    return LivenessView.attach_all(world.instance)


def test_books_show_the_best_level_their_age_and_whether_they_are_tradable(world: BooksWorld) -> None:
    market, views, judge = attached(world), living(world), BookJudge(world.instance, {}, [])
    assert books(market, views, judge) == []
    world.publish(0, "100.5", "101")
    world.publish(1, "100", "101", flags=FLAG_GAP)
    good, gap = books(market, views, judge)
    assert (good["bid"], good["bid_qty"], good["ask"], good["ask_qty"]) == (
        Decimal("100.5"), Decimal(2), Decimal(101), Decimal(3),
    )  # fmt: skip
    assert (good["venue"], good["pair"], good["tradable"]) == ("aa_spot", "BTC/USDT", True)
    assert not gap["tradable"]
    rows = _book_rows({"books": [good, gap]})
    assert rows[1][:4] == ["BTC/USDT", "aa_spot", "100.5 x 2", "101 x 3"]
    assert rows[0][4] == "refused"
    assert _book_rows({"books": [good] * (BOOKS_MAX + 3)})[-1][0].startswith("and 3 more")


def test_a_book_is_tradable_here_where_inspect_says_so(world: BooksWorld) -> None:
    """Age, the life of its feed and what stops the instance count, not its flags alone."""
    market, views, judge = attached(world), living(world), BookJudge(world.instance, {}, [])
    stopped = Reason(what="HALTED", solve="x", effect=Effect.HALTS)
    halted = BookJudge(world.instance, {}, [stopped])
    alone = BookJudge(world.instance, {"venues": {"aa_spot": {"trade": False}, "bb_spot": {"trade": True}}}, [])
    for feed in (0, 1):
        world.publish(feed, "100", "101")
    assert [row["tradable"] for row in books(market, views, judge)] == [True, True]
    assert [row["tradable"] for row in books(market, {"feed.bb": views["feed.bb"]}, judge)] == [False, True]
    assert [row["tradable"] for row in books(market, views, halted)] == [False, False]
    assert [row["tradable"] for row in books(market, views, alone)] == [False, True]
    world.publish(0, "100", "101", recv_mono_ns=int(mono_ns()) - (CONFIG.detection.max_age_to_trade_ms + 1) * 1_000_000)
    old, young = books(market, views, judge)
    assert old["age_ms"] > CONFIG.detection.max_age_to_trade_ms and not old["tradable"] and young["tradable"]


@pytest.mark.parametrize("bad", [{"tradable": False}, {"age_ms": None}])
def test_books_that_are_refused_come_before_those_that_have_no_room(bad: dict[str, Any]) -> None:
    sides = {"bid": None, "ask": None, "venue": "a"}
    good = [{**sides, "pair": f"A{number}", "tradable": True, "age_ms": 1.0} for number in range(BOOKS_MAX + 2)]
    rows = _book_rows({"books": [*good, {**good[0], "pair": "Z", **bad}]})
    assert rows[0][0] == "Z" and rows[-1][0] == "and 3 more, none of them refused"


def test_a_beat_after_the_readers_clock_is_no_negative_age(instance: str) -> None:
    live = Liveness.create(instance, "feed.x")
    try:
        live.beat()
        view = LivenessView.attach(instance, "feed.x")
        assert view.beat_age_ns(view.beat_mono_ns - 3_000_000) == 0
        assert view.beat_age_ns(view.beat_mono_ns + 7) == 7
    finally:
        live.close()


def test_a_position_of_the_account_page_has_its_mark_and_liquidation() -> None:
    own = {"venue": "gateio_futures", "symbol": "BTC_USDT", "qty": Decimal("-0.5"), "entry_price": Decimal(60000)}
    said = {**own, "qty": "-0.50", "mark_price": "61000", "liquidation_distance_pct": "31.2", "funding": "1.5"}
    said |= {"base": "BTC", "quote": "USDT", "foreign_qty": "-0.1"}
    nothing = dict.fromkeys(POSITION_FIELDS)
    assert with_marks([own], [said]) == [{**nothing, **said, **own}]
    (other,) = with_marks([own], [{**said, "qty": "-0.4"}])
    whole = {"base": "BTC", "quote": "USDT", "mark_price": "61000"}
    assert other == {**nothing, **whole, **own}, "what a quantity changes is not known of another one"
    assert "mark 61000" in position_line(other)
    assert "NOT OURS" not in position_line(other), "whose part went is not known"
    assert with_marks([own], []) == [{**nothing, **own}] and "mark" not in position_line({**nothing, **own})
    assert with_marks([], [said]) == [{**nothing, **said}]


def test_the_executor_says_every_field_of_a_position() -> None:
    """Rows of a published position and rows that only the account page has must have the same fields."""
    world = World(1)
    world.core.ledger.position_offsets["gateio_futures", "BTC_USDT"] = Decimal("0.3")
    (row,) = CoreViews(world.core, EquityWatch(world.core)).positions()
    assert set(row) == set(POSITION_FIELDS)


def test_coins_that_are_not_ours_stand_in_the_text(instance: str) -> None:
    reading = Reader(instance).read()
    assert "not ours" not in status_text(reading)
    coin = {"venue": "mexc_spot", "asset": "ETH", "foreign_qty": "0.27", "mark_price": "3000", "quote": "USDT"}
    (line,) = [line for line in status_text({**reading, "foreign_coins": [coin]}).splitlines() if "not ours" in line]
    assert "0.27 ETH on mexc_spot" in line and "810 USDT" in line


def test_an_instance_that_starts_says_so() -> None:
    reading = {"instance": "x", "state": "stopped", "phase": "starting", "halted": False, "mode": None}
    reading |= {"reasons": [], "notes": []}
    assert answer_lines(reading) == ["x: starting"]
    assert answer_lines({**reading, "phase": "stopping"}) == ["x: stopping"]
    assert answer_lines({**reading, "phase": "ready", "mode": "sim"}) == ["x: stopped, mode sim"]


def test_a_note_stands_with_what_solves_it_once() -> None:
    """What is open after a stop, or stands alone by an operator's decision, is a note: its command is not in JSON
    alone."""
    notes = [
        {"what": "2 hedges are open", "since": None, "solve": "arb hedges; arb close --all"},
        {"what": "GT is dear; buy some", "since": None, "solve": "buy some"},
    ]
    reading = {"instance": "x", "state": "ready", "phase": "ready", "halted": False, "mode": "sim"}
    lines = answer_lines({**reading, "reasons": [], "notes": notes})
    first = "  note: 2 hedges are open; solve: arb hedges; arb close --all"
    assert lines[1:] == [first, "  note: GT is dear; buy some"]


def test_a_run_without_a_terminal_tells_how_it_does_in_words() -> None:
    reading = {"opportunities": {"detected": 3}, "orders": {"events": 9}, "state": "ready", "reasons": []}
    assert progress_text(reading) == "3 episodes, nothing sent yet"
    counts = {"entries": 2, "orders_sent": 5, "fills": 7, "open_hedges": 1, "operations.won": 1, "countdowns": 4}
    counts |= {"daily_pnl_cents": -150, "operations.lost": 0}
    halted = {"state": "halted", "reasons": [{"what": "HALTED by guard"}, {"what": "more"}]}
    assert progress_text({**reading, **halted, "orders": counts}) == (
        "3 episodes, 2 entries, 5 orders, 7 fills, 1 hedges open, 1 won, P&L today -1.50 USD, HALTED by guard"
    )
    long = {"state": "stopped", "reasons": [{"what": "too little USDT; " * 20}]}
    assert progress_text({**reading, **long}).endswith("too little USDT; too little U... (arb status)")
