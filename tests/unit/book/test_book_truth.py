"""What a book may be believed: numbering that restarts, depth that nobody knows, tickers that are ahead of it."""

from __future__ import annotations

import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from pipeline.book.memory import BOOKS, FP_LIMIT, OLD_RUN_MAX, WATCH
from pipeline.book.results import FrameResult, SnapshotResult
from pipeline.exchanges.mexc.protobuf import PushDataV3ApiWrapper
from shm import bookring
from shm.layout import BOOK, BOOK_DEPTH, FLAG_GAP, FLAG_HORIZON, FLAG_SNAPSHOT, FLAG_UNPROVED
from tests.naive.book import known_top, snapshot_horizon
from tests.worlds.venue_books_rig import CONN, Rig, snapshot, spot_update, ticker

CASES = Path(__file__).parents[2] / "cases" / "books"
T0_MS = 1700000000000


def proof_ns(rig: Rig) -> int:
    return int(bookring.proof_mono_ns(rig.words, 0, rig.read()))


# --- numbering ---


def test_numbering_that_restarts_lower_is_a_gap_with_its_first_update() -> None:
    rig = Rig().live()
    rig.snap(snapshot(900_000_010))
    assert rig.frame(spot_update(900_000_011, 900_000_011, E=T0_MS)) is FrameResult.APPLIED
    assert rig.frame(spot_update(1000, 1000, [["90.0", "1"]], E=T0_MS + 100)) is FrameResult.NEED_SNAPSHOT
    assert rig.flags() & FLAG_GAP and rig.books.counters.gaps == 1
    assert rig.frame(spot_update(1001, 1001, E=T0_MS + 200)) is FrameResult.BUFFERED
    assert rig.snap(snapshot(1000, [["90.0", "1"]], [["90.1", "1"]])) is SnapshotResult.SYNCED
    assert rig.read()[BOOK.bid_price_fp] == 900000


def test_tickers_of_the_numbering_before_the_restart_are_forgotten() -> None:
    rig = Rig().live()
    rig.snap(snapshot(900_000_010))
    rig.frame(spot_update(900_000_011, 900_000_011, E=T0_MS))
    rig.frame(ticker(900_000_011, "100.0", "1", "101.0", "2"))
    rig.frame(spot_update(1000, 1000, E=T0_MS + 100))
    assert rig.snap(snapshot(1001)) is SnapshotResult.SYNCED
    assert rig.frame(spot_update(1002, 1002, E=T0_MS + 200)) is FrameResult.APPLIED
    assert rig.frame(ticker(1002, "99.0", "1", "101.0", "2")) is FrameResult.RESYNC  # it compares again


def test_a_whole_book_of_the_new_numbering_is_taken_at_once() -> None:
    rig = Rig("gateio", "spot", "BTC_USDT")

    def push(last: int, t: int, bid: str, full: bool) -> bytes:
        result = {"t": t, "s": "BTC_USDT", "U": last, "u": last, "b": [[bid, "1"]], "a": [["101", "1"]]}
        result |= {"full": True} if full else {}
        body = {"time": 1, "channel": "spot.order_book_update", "event": "update", "result": result}
        return json.dumps(body).encode()

    assert rig.frame(push(900_000, T0_MS, "100", True)) is FrameResult.APPLIED
    assert rig.frame(push(100, T0_MS - 5, "95", True)) is FrameResult.DROPPED  # of before
    assert rig.frame(push(1000, T0_MS + 100, "90", True)) is FrameResult.APPLIED
    record = rig.read()
    assert record[BOOK.bid_price_fp] == 900000 and record[BOOK.flags] == FLAG_SNAPSHOT
    assert rig.frame(push(1001, T0_MS + 200, "91", False)) is FrameResult.APPLIED


def test_what_a_second_connection_repeats_is_no_restart() -> None:
    """Two connections bring every update twice, each with its time; another clock may add some milliseconds."""
    rig = Rig().live()
    for k in range(12, 112):
        assert rig.frame(spot_update(k, k, E=T0_MS + k)) is FrameResult.APPLIED
        assert rig.frame(spot_update(k, k, E=T0_MS + k + 20)) is FrameResult.DROPPED
        assert rig.flags() == 0
    assert rig.books.counters.gaps == 0


def test_the_backlog_of_a_connection_that_stalled_is_no_restart() -> None:
    """Another one has gone on meanwhile; what comes late comes in a burst, before the next update."""
    rig = Rig().live()
    missed = [spot_update(k, k, E=T0_MS + k) for k in range(12, 12 + 2 * OLD_RUN_MAX)]
    assert {rig.frame(frame) for frame in missed} == {FrameResult.APPLIED}
    assert {rig.frame(frame) for frame in missed} == {FrameResult.DROPPED}
    assert rig.books.counters.gaps == 0 and rig.flags() == 0


@pytest.mark.parametrize("sent_ms", [0, T0_MS + 1])
def test_an_update_that_is_old_without_a_time_or_of_a_later_one_needs_a_run(sent_ms: int) -> None:
    rig = Rig().live()
    rig.books.mem[BOOKS.lag_ms] = 100
    results = [rig.frame(spot_update(1, 1, E=sent_ms)) for _ in range(OLD_RUN_MAX)]
    assert results == [FrameResult.DROPPED] * (OLD_RUN_MAX - 1) + [FrameResult.NEED_SNAPSHOT]


def test_the_first_ticker_of_a_second_connection_says_nothing_of_what_came_before_it() -> None:
    """It comes before the first connection's tickers 12 and 13, which tell of a change that 14 has taken back."""
    rig = Rig().live()
    rig.frame(ticker(11, "100.0", "1", "101.0", "2"))
    rig.books.on_frame(ticker(14, "100.0", "1", "101.0", "2"), rig.time + 5, CONN + 1)
    rig.frame(ticker(12, "100.5", "1", "101.0", "2"))
    assert rig.frame(spot_update(12, 12, [["100.5", "1"]])) is FrameResult.APPLIED
    rig.books.on_frame(ticker(15, "100.2", "1", "101.0", "2"), rig.time + 5, CONN + 1)
    rig.frame(spot_update(13, 13))
    assert rig.frame(spot_update(14, 14)) is FrameResult.RESYNC, "its next ones do"


def test_a_dropped_update_proves_no_book() -> None:
    rig = Rig().live()
    before = proof_ns(rig)
    rig.time += 10_000
    assert rig.frame(spot_update(11, 11)) is FrameResult.DROPPED
    assert proof_ns(rig) == before
    rig.frame(ticker(11, "100.0", "1", "101.0", "2"))
    assert proof_ns(rig) == rig.time


def test_an_old_update_of_a_much_later_time_unproves_its_book_until_one_is_applied() -> None:
    rig = Rig().live()
    for k in range(12, 20):
        rig.frame(spot_update(k, k))
    assert rig.frame(spot_update(15, 15, E=T0_MS + 400)) is FrameResult.DROPPED  # not from far back: no restart
    assert rig.flags() == FLAG_UNPROVED
    assert rig.frame(spot_update(20, 20, E=T0_MS + 500)) is FrameResult.APPLIED
    assert rig.flags() == 0


# --- depth ---


def deep(last: int, middle: int = 10_000, levels: int = 1000) -> bytes:
    """A snapshot of ``levels`` levels a side, one unit apart."""
    bids = [[f"{middle - 1 - k}", "1"] for k in range(levels)]
    asks = [[f"{middle + k}", "1"] for k in range(levels)]
    return snapshot(last, bids, asks)


def deep_rig(levels: int = 1000, **more: Any) -> Rig:
    rig = Rig(**more)
    rig.frame(spot_update(9, 9))
    assert rig.snap(deep(10, levels=levels)) is SnapshotResult.SYNCED
    assert rig.frame(spot_update(11, 11)) is FrameResult.APPLIED
    return rig


def drop_bids(rig: Rig, first: int, count: int, update_id: int) -> None:
    """The best bid falls: the levels from ``first`` down go, the offers follow."""
    bids = [[f"{first - k}", "0"] for k in range(count)]
    assert rig.frame(spot_update(update_id, update_id, bids, [[f"{first - count + 1}", "1"]])) is FrameResult.APPLIED


def test_levels_behind_the_snapshots_last_one_are_not_published() -> None:
    rig = deep_rig()
    rig.frame(spot_update(12, 12, [["8000", "7"]]))  # placed since: known, but not alone there perhaps
    drop_bids(rig, 9999, 990, 13)
    record = rig.read()
    assert record[BOOK.flags] == FLAG_HORIZON
    assert record[BOOK.bid_count] == 10 and record[BOOK.bid_price_fp + 9] == 9000 * 10_000
    assert record[BOOK.ask_count] == BOOK_DEPTH
    drop_bids(rig, 9009, 10, 14)
    assert rig.read()[BOOK.bid_count] == 0 and rig.books.top(2).bid == 8000 * 10_000
    assert rig.books.doubts(2)[2]


def test_a_side_that_the_snapshot_holds_whole_has_no_horizon() -> None:
    rig = deep_rig(levels=60)
    drop_bids(rig, 9999, 50, 12)
    rig.frame(spot_update(13, 13, [["8000", "7"]]))
    record = rig.read()
    assert (record[BOOK.flags], record[BOOK.bid_count]) == (0, 11)
    assert rig.books.near_horizon() == []


def test_a_book_asks_for_a_snapshot_before_the_price_is_at_its_horizon() -> None:
    rig = deep_rig()
    drop_bids(rig, 9999, 400, 12)
    assert rig.books.near_horizon() == []
    drop_bids(rig, 9599, 200, 13)
    assert rig.books.near_horizon() == [2] and rig.flags() == 0


@pytest.mark.parametrize("last", [12, 13, 14, 20])
def test_a_standing_book_takes_the_new_snapshot_of_any_moment_since_it_was_asked_for(last: int) -> None:
    """Older than the book, as old, newer: the updates of the meantime go on top of it."""
    rig = deep_rig()
    drop_bids(rig, 9999, 600, 12)
    rig.books.keep_updates_for_snapshot(2)
    assert rig.frame(spot_update(13, 13, [["9199.5", "5"]])) is FrameResult.APPLIED
    assert rig.frame(spot_update(14, 14, [["9199.6", "6"]])) is FrameResult.APPLIED
    seq = rig.read()[BOOK.seq]
    assert rig.snap(deep(last, middle=9200)) is SnapshotResult.SYNCED
    record = rig.read()
    assert record[BOOK.seq] == seq + 2 and record[BOOK.flags] == FLAG_SNAPSHOT  # one publication
    assert rig.books.near_horizon() == [] and rig.books.is_synced(2)
    assert rig.books.levels(2)[0][-1][0] == 8200 * 10_000
    if last < 14:
        assert record[BOOK.update_id] == 14 and rig.books.levels(2)[0][0] == (91_996_000, 60_000)
        assert rig.frame(spot_update(15, 15)) is FrameResult.APPLIED


def test_a_snapshot_from_before_it_was_asked_for_changes_nothing() -> None:
    rig = deep_rig()
    drop_bids(rig, 9999, 600, 12)
    rig.books.keep_updates_for_snapshot(2)
    before = rig.books.levels(2)
    assert rig.snap(deep(11, middle=9200)) is SnapshotResult.STALE
    assert rig.books.levels(2) == before and rig.flags() == 0
    rig.books.stop_keeping_updates(2)
    assert rig.snap(deep(12, middle=9200)) is SnapshotResult.STALE


def test_a_gap_while_the_new_snapshot_is_on_its_way_is_a_gap() -> None:
    rig = deep_rig()
    rig.books.keep_updates_for_snapshot(2)
    rig.frame(spot_update(12, 12))
    assert rig.frame(spot_update(15, 15)) is FrameResult.NEED_SNAPSHOT
    assert rig.snap(deep(13)) is SnapshotResult.STALE and rig.flags() & FLAG_GAP
    assert rig.snap(deep(14)) is SnapshotResult.SYNCED and rig.books.top(2).update_id == 15


def test_a_book_that_was_lost_and_healed_meanwhile_keeps_nothing_for_the_snapshot() -> None:
    """Its updates since then were not kept: an older snapshot would take it back in time."""
    rig = Rig("mexc", "spot")

    def push(first: int, last: int) -> bytes:
        wrapper = PushDataV3ApiWrapper(channel="c", symbol="BTCUSDT")
        depth = wrapper.publicAggreDepths
        depth.fromVersion, depth.toVersion = str(first), str(last)
        return bytes(wrapper.SerializeToString())

    rig.frame(push(9, 9))
    rig.snap(deep(10))
    rig.frame(push(11, 11))
    rig.books.keep_updates_for_snapshot(2)
    assert rig.frame(push(14, 14)) is FrameResult.NEED_SNAPSHOT
    assert rig.snap(deep(13)) is SnapshotResult.SYNCED
    assert rig.frame(push(15, 15)) is FrameResult.APPLIED
    assert rig.snap(deep(14)) is SnapshotResult.STALE and rig.books.top(2).update_id == 15


def test_a_ticker_does_not_contradict_a_best_price_that_lies_beyond_the_horizon() -> None:
    rig = deep_rig()
    rig.frame(spot_update(12, 12, [["8000", "7"]]))
    drop_bids(rig, 9999, 1000, 13)
    assert rig.frame(ticker(13, "8999.5", "3", "9000", "1")) is FrameResult.TICKER
    assert rig.books.counters.contradicted == 0 and rig.books.near_horizon() == [2]


# --- tickers ahead ---


def watched_rig() -> Rig:
    """Live, over a connection that its owner has opened; a frame comes every 10 ns."""
    rig = Rig()
    row = BOOKS.connections + CONN * WATCH.WORDS
    rig.books.mem[row + WATCH.open] = rig.books.mem[row + WATCH.on_time] = 1
    rig.books.mem[row + WATCH.data_ns] = rig.time
    return rig.live()


def test_a_book_whose_update_does_not_follow_its_ticker_is_lost() -> None:
    rig = watched_rig()
    rig.frame(ticker(12, "100.5", "1", "101.0", "2"))
    rig.frame(ticker(13, "100.6", "1", "101.0", "2"))
    assert rig.books.invalidate_books_behind_ticker(10) == []
    rig.frame(ticker(14, "100.7", "1", "101.0", "2"))
    assert rig.books.invalidate_books_behind_ticker(10) == [2]
    assert rig.flags() == FLAG_UNPROVED | FLAG_GAP and rig.books.needs_snapshot() == [2]
    assert rig.books.counters.gaps == 1


def test_a_book_that_has_come_as_far_as_its_tickers_is_not_behind() -> None:
    rig = watched_rig()
    rig.frame(ticker(12, "100.5", "1", "101.0", "2"))
    rig.frame(ticker(14, "100.6", "1", "101.0", "2"))
    assert rig.frame(spot_update(12, 12, [["100.5", "1"]])) is FrameResult.APPLIED
    assert rig.books.invalidate_books_behind_ticker(0) == []  # 14 is still to come, from now on
    assert rig.frame(spot_update(13, 14, [["100.6", "1"]])) is FrameResult.APPLIED
    assert rig.books.invalidate_books_behind_ticker(0) == []
    rig.frame(ticker(15, "100.7", "1", "101.0", "2"))
    rig.snap(snapshot(15))
    rig.frame(ticker(15, "100.7", "1", "101.0", "2"))
    assert rig.books.invalidate_books_behind_ticker(0) == []  # the snapshot has brought it along


# --- quantities beyond fixed point ---


@pytest.mark.parametrize("name", ["N_wall_4700000000000000", "N_wall_9000000000000000", "N_tiny_price_huge_qty"])
def test_one_giant_level_is_cut_and_the_book_stands(name: str) -> None:
    rig = Rig(price_exp=13, qty_exp=4)
    assert rig.frame(spot_update(9, 9)) is FrameResult.NEED_SNAPSHOT
    body = (CASES / f"{name}.json").read_bytes()
    assert rig.snap(body) is SnapshotResult.SYNCED
    bids, _ = rig.books.levels(2)
    for (_, qty_fp), (_, qty) in zip(bids, json.loads(body)["bids"], strict=True):
        assert qty_fp == min(int(Decimal(qty) * 10**4), FP_LIMIT)
    assert max(qty for _, qty in bids) == FP_LIMIT
    assert rig.books.counters.inexact_levels > 0 and rig.books.counters.rejected == 0
    giant = spot_update(11, 11, [["0.0000000000001", "9" * 18]], [["0.0000000020000", "9" * 17]])
    assert rig.frame(giant) is FrameResult.APPLIED
    assert rig.books.levels(2)[0][-1][1] == rig.books.levels(2)[1][-1][1] == FP_LIMIT


# --- partial books ---


def test_a_partial_book_is_told_from_an_update_by_its_stream() -> None:
    rig = Rig("binance", "futures")
    rig.frame(spot_update(9, 9, pu=8))
    rig.snap(snapshot(10))
    assert rig.frame(spot_update(10, 11, pu=9)) is FrameResult.APPLIED

    def wrapped(stream: str, **more: Any) -> bytes:
        return json.dumps({"stream": stream, "data": json.loads(spot_update(12, 12, pu=11, **more))}).encode()

    for stream in ("btcusdt@depth5", "btcusdt@depth20@100ms", "btcusdt@depth10@500ms"):
        for slow in ({}, {"b": [[1.2e-05, 3]]}):  # by the scanner, by the reference decoder
            assert rig.frame(wrapped(stream, **slow)) is FrameResult.OTHER_TOPIC
    for at, stream in enumerate(("btcusdt@depth@100ms", "btcusdt@depth")):
        update = json.loads(spot_update(12 + at, 12 + at, pu=11 + at))
        assert rig.frame(json.dumps({"stream": stream, "data": update}).encode()) is FrameResult.APPLIED


# --- the horizon against its plain twin ---


@given(
    counts=st.tuples(st.sampled_from([5, 99, 100, 101, 120, 500]), st.sampled_from([5, 99, 100, 101, 120, 500])),
    moves=st.lists(st.tuples(st.integers(0, 1), st.integers(1, 700), st.booleans()), max_size=80),
    fall=st.integers(0, 130),
    rise=st.integers(0, 130),
)
@example(counts=(100, 5), moves=[(0, 300, True)], fall=95, rise=0)
@example(counts=(120, 120), moves=[(1, 400, True), (0, 400, True)], fall=0, rise=119)
def test_the_published_top_ends_where_the_twins_does(
    counts: tuple[int, int], moves: list[tuple[int, int, bool]], fall: int, rise: int
) -> None:
    rig = Rig()
    sides = [{Decimal(1000 - k) for k in range(counts[0])}, {Decimal(1001 + k) for k in range(counts[1])}]
    horizons = [
        snapshot_horizon(list(side), len(sides[1 - which]), bids=which == 0) for which, side in enumerate(sides)
    ]
    rig.frame(spot_update(9, 9))
    rig.snap(snapshot(10, *([[str(price), "1"] for price in sorted(side)] for side in sides)))  # in any order
    changes: list[list[list[str]]] = [[], []]
    for which, cut in ((0, fall), (1, rise)):
        for price in sorted(sides[which], reverse=which == 0)[: min(cut, len(sides[which]) - 1)]:
            sides[which].discard(price)
            changes[which].append([str(price), "0"])
    for which, distance, placed in moves:
        price = Decimal(1000 - distance if which == 0 else 1001 + distance)
        (sides[which].add if placed else sides[which].discard)(price)
        changes[which].append([str(price), "1" if placed else "0"])
    assert rig.frame(spot_update(11, 11, *changes)) is FrameResult.APPLIED
    record = rig.read()
    cut_any = False
    for which, (count, prices) in enumerate(((BOOK.bid_count, BOOK.bid_price_fp), (BOOK.ask_count, BOOK.ask_price_fp))):
        wanted = known_top(list(sides[which]), horizons[which], which == 0, BOOK_DEPTH)
        assert [int(p) for p in record[prices : prices + int(record[count])]] == [int(p * 10**4) for p in wanted]
        cut_any |= len(wanted) < min(BOOK_DEPTH, len(sides[which]))
    assert bool(record[BOOK.flags] & FLAG_HORIZON) == cut_any
