"""The status reading: books as the aggregator sees them, beats, an instance that starts, counts after a stop."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pipeline.market_data import MarketDataAggregator
from pipeline.trade_state import Effect, Reason
from shm.atomics import mono_ns
from shm.errors import SegmentMismatch
from shm.layout import FLAG_GAP
from shm.liveness import Liveness, LivenessView, beat
from tests.worlds.books_world import CONFIG, FUTURE_NS, BooksWorld
from workers.state_folder import instance_dir
from workers.view.book_verdict import BookJudge
from workers.view.live_view import BOOKS_MAX, _book_rows
from workers.view.status import Reader, books, with_marks
from workers.view.status_text import answer_lines

OTHER_UID = 65534


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
    assert with_marks([own], [said]) == [{**said, **own}]
    assert with_marks([own], [{**said, "qty": "-0.4"}]) == [own], "of another quantity nothing is shown"
    assert with_marks([], [said]) == [said]


def test_an_instance_that_starts_says_so() -> None:
    reading = {"instance": "x", "state": "stopped", "phase": "starting", "halted": False, "mode": None}
    reading |= {"reasons": [], "notes": []}
    assert answer_lines(reading) == ["x: starting"]
    assert answer_lines({**reading, "phase": "stopping"}) == ["x: stopping"]
    assert answer_lines({**reading, "phase": "ready", "mode": "sim"}) == ["x: stopped, mode sim"]
