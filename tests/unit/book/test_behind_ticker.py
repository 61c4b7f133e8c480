"""A book whose ticker is ahead has an update to come; it is lost when that does not come, not when nothing comes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from pipeline.book.memory import BOOK_ROW, BOOKS
from pipeline.book.recording.capture_books import CaptureBooks
from pipeline.book.recording.capture_files import SNAPSHOT, read_capture
from pipeline.book.recording.message_order import CONN as RECORDED_CONN
from pipeline.book.results import SnapshotResult
from pipeline.book.tickers import flow_ns
from pipeline.book.venue_books import VenueBooks
from pipeline.exchanges.factory import feed_codec, recording_shapes
from pipeline.exchanges.feed.market_feed import BEHIND_TICKER_NS, TICK_S
from shm import bookring
from shm.layout import feed_segment_words
from tests.naive.tickers import Lead
from tests.worlds.venue_books_rig import watch_from

S, MS = 1_000_000_000, 1_000_000
MAX_BEHIND_NS = 400 * MS
NOTICED_MS_MAX = 500  # after the ticker whose update is lost, looked at every ``TICK_S``
CONN, NEXT_CONN = 3, 4
BTC, ETH = "BTC_USDT", "ETH_USDT"


class Rig:
    """Two books of one connection, both at id 100 at the time 10 s."""

    def __init__(self) -> None:
        self.words = np.zeros(feed_segment_words(2), dtype=np.int64)
        bookring.init_feed(self.words, 0, 2)
        codec = feed_codec("gateio", "futures")
        self.books = VenueBooks(codec=codec, words=self.words, feed_off=0, venue_id=1, capacity=2)
        for index, symbol in enumerate((BTC, ETH)):
            self.books.add(book_index=index, instrument_id=index, symbol=symbol, price_exp=2, qty_exp=2)
        for conn in (CONN, NEXT_CONN):
            bookring.conn_open(self.words, 0, conn, 1, 0)
            watch_from(self.books, conn, 10 * S)
        self.update(100, 10 * S, full=True)
        self.update(100, 10 * S, ETH, full=True)

    def _push(self, channel: str, result: dict[str, Any], at_ns: int, conn: int) -> None:
        message = {"channel": f"futures.{channel}", "event": "update", "result": result}
        self.books.on_frame(json.dumps(message).encode(), at_ns, conn)

    def update(self, last: int, at_ns: int, symbol: str = BTC, *, full: bool = False, conn: int = CONN) -> None:
        ids = {"full": True} if full else {"U": int(self.row(symbol)[BOOK_ROW.update_id]) + 1}
        levels = {"b": [{"p": "10", "s": 1}], "a": [{"p": "11", "s": 1}]}
        self._push("order_book_update", {"t": 0, "s": symbol, "u": last, **ids, **levels}, at_ns, conn)

    def ticker(self, update_id: int, at_ns: int, symbol: str = BTC, conn: int = CONN) -> None:
        result = {"t": 0, "u": update_id, "s": symbol, "b": "10", "B": 1, "a": "11", "A": 1}
        self._push("book_ticker", result, at_ns, conn)

    def others(self, from_ns: int, to_ns: int, step_ns: int = 50 * MS, conn: int = CONN) -> None:
        """Tickers of the other book, which say nothing new."""
        for at_ns in range(from_ns, to_ns + 1, step_ns):
            self.ticker(100, at_ns, ETH, conn)

    def row(self, symbol: str) -> Any:
        slot = self.books._slots[symbol]
        at = int(self.books.mem[BOOKS.rows_off]) + slot * BOOK_ROW.WORDS
        return self.books.mem[at : at + BOOK_ROW.WORDS]

    def behind(self) -> list[int]:
        return self.books.invalidate_books_behind_ticker(MAX_BEHIND_NS)


def test_a_book_is_lost_when_its_update_does_not_come_while_others_do() -> None:
    rig = Rig()
    rig.ticker(105, 10 * S)
    rig.others(10 * S, 10 * S + 400 * MS)
    assert rig.behind() == []
    rig.others(10 * S + 450 * MS, 10 * S + 450 * MS)
    assert rig.behind() == [0] and rig.books.counters.gaps == 1 and not rig.books.is_synced(0)
    assert rig.behind() == []


def test_a_feed_notices_a_lost_update_within_half_a_second() -> None:
    assert BEHIND_TICKER_NS == MAX_BEHIND_NS, "what is tried here is what feeds do"
    rig, tick_ns = Rig(), int(TICK_S * S)
    rig.ticker(105, 10 * S)
    for now_ns in range(10 * S, 11 * S, tick_ns):
        rig.others(now_ns - tick_ns + 10 * MS, now_ns, 10 * MS)
        if rig.behind():
            break
    assert now_ns - 10 * S <= NOTICED_MS_MAX * MS


def test_time_in_which_nothing_comes_is_not_counted() -> None:
    """A venue, a network or this process stood still for seconds: the update comes in the same burst."""
    rig = Rig()
    rig.ticker(105, 10 * S)
    assert rig.behind() == []
    rig.others(13 * S, 13 * S)
    assert rig.behind() == [], "one frame after three seconds: the update may be the next one"
    rig.update(105, 13 * S + 1 * MS)
    rig.others(13 * S + 50 * MS, 14 * S)
    assert rig.behind() == [] and rig.books.counters.gaps == 0


def test_a_loss_is_noticed_on_a_connection_that_says_little() -> None:
    rig = Rig()
    rig.ticker(105, 10 * S)
    rig.others(10 * S + 400 * MS, 12 * S, 400 * MS)
    assert rig.behind() == [0]


def test_a_ticker_from_before_the_snapshot_is_not_held_against_it() -> None:
    """Tickers went on for seconds while the book waited; the snapshot stands a moment before the newest one."""
    rig = Rig()
    rig.books.invalidate(0)
    for k in range(40):
        rig.ticker(105 + k, 10 * S + k * 50 * MS)
    snapshot = {"id": 143, "current": 1, "update": 1, "bids": [{"p": "10", "s": 1}], "asks": [{"p": "11", "s": 1}]}
    assert rig.books.on_snapshot(0, json.dumps(snapshot).encode(), 12 * S, CONN) is SnapshotResult.SYNCED
    assert rig.behind() == [], "the update is to come within its time from now on"
    rig.others(12 * S, 12 * S + 500 * MS)
    assert rig.behind() == [0]


def test_what_is_expected_moves_with_the_book_to_its_next_connection() -> None:
    rig = Rig()
    rig.others(10 * S, 15 * S)
    rig.others(10 * S, 10 * S + 500 * MS, conn=NEXT_CONN)
    rig.ticker(105, 15 * S)
    rig.others(15 * S + 50 * MS, 15 * S + 250 * MS)
    rig.books.move_connection(CONN, NEXT_CONN)
    assert rig.behind() == []
    rig.others(10 * S + 550 * MS, 10 * S + 650 * MS, conn=NEXT_CONN)
    assert rig.behind() == []
    rig.others(10 * S + 700 * MS, 10 * S + 700 * MS, conn=NEXT_CONN)
    assert rig.behind() == [0]


STEPS = some.lists(
    some.tuples(
        some.integers(0, 250) | some.sampled_from([99, 100, 101, 5000]),  # ms since the frame before
        some.sampled_from(["ticker", "update", "other"]),
        some.integers(0, 3),
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_the_kernels_count_as_the_plain_twin(steps: list[tuple[int, str, int]]) -> None:
    rig, twin, now_ns, newest = Rig(), Lead(10 * S, 100), 10 * S, 100
    for wait_ms, kind, ids in steps:
        now_ns += wait_ms * MS
        twin.frame(now_ns)
        newest += ids
        if kind == "ticker":
            rig.ticker(newest, now_ns)
            twin.ticker(newest)
        elif kind == "update" and twin.book_id + ids > twin.book_id:
            rig.update(twin.book_id + ids, now_ns)
            twin.update(twin.book_id + ids)
        else:
            rig.ticker(100, now_ns, ETH)
        behind = twin.behind(MAX_BEHIND_NS)
        assert rig.behind() == ([0] if behind else [])
        if behind:
            return


def replay_watched(path: Path) -> int:
    """The longest flow for which a ticker was ahead of its book in a recording."""
    words = np.zeros(feed_segment_words(16), dtype=np.int64)
    bookring.init_feed(words, 0, 16)
    capture = read_capture(path, recording_shapes())
    books = VenueBooks(
        codec=feed_codec(capture.dialect, capture.market), words=words, feed_off=0, venue_id=1, capacity=16
    )
    recorded = CaptureBooks(capture, books)
    recorded.prepare()
    watch_from(books, RECORDED_CONN, next(one.time_ns for one in capture.records if one.kind != SNAPSHOT))
    longest_ns = 0
    for index in range(len(capture.records)):
        recorded.step(index)
        at = int(books.mem[BOOKS.rows_off]) + int(books.mem[BOOKS.last_slot]) * BOOK_ROW.WORDS
        if books.mem[BOOKS.last_slot] >= 0 and books.mem[at + BOOK_ROW.lead_ns]:
            longest_ns = max(longest_ns, flow_ns(books.mem, at) + 1 - int(books.mem[at + BOOK_ROW.lead_ns]))
        assert index % 100 or books.invalidate_books_behind_ticker(MAX_BEHIND_NS) == []
    assert books.counters.gaps == 0
    return longest_ns


@pytest.mark.parametrize(
    "name",
    ["spot_btcusdt_20240808.gz", "spot_ethusdt_20240808.gz", "usdm_btcusdt_20240808.gz", "GATEIO_FUTURES"],
)
def test_no_recorded_book_is_ever_behind(captures_dir: Path, name: str) -> None:
    """Recorded frames as if they came over one watched connection; the bound is twice what they lack at most."""
    longest_ns = replay_watched(captures_dir / name)
    assert 0 < longest_ns < MAX_BEHIND_NS // 2
