"""Late frames prove nothing, and prove it before they are published; how far topics run apart is measured."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from pipeline.book import freshness as freshness
from pipeline.book.memory import BOOKS, EVENT, WATCH, new_memory
from pipeline.book.venue_books import VenueBooks
from pipeline.exchanges.factory import feed_codec
from pipeline.exchanges.feed import connection_proofs as pf
from pipeline.exchanges.feed.connection_proofs import Proofs
from pipeline.exchanges.feed.snapshots import Snapshots
from pipeline.exchanges.feed.types import Counters, FeedInstrument
from pipeline.model.clock import mono_ns
from shm import bookring
from shm.layout import BOOK, CONNECTION, FEED, feed_segment_words
from tests.naive.freshness import Clock, Judge

S = 1_000_000_000
MS = 1_000_000
CONN = 3
NOW_MS = 1_700_000_000_000


class Stream:
    """What ``Proofs`` needs of a connection."""

    def __init__(self, conn: int = CONN) -> None:
        self.conn = conn
        self.on_time = False


class Rig:
    """Books of a venue whose ids and times the test chooses, watched by ``Proofs``."""

    def __init__(self, lag_ms: int = 100) -> None:
        self.words = np.zeros(feed_segment_words(4), dtype=np.int64)
        bookring.init_feed(self.words, 0, 4)
        self.books = VenueBooks(
            codec=feed_codec("gateio", "futures"), words=self.words, feed_off=0, venue_id=1, capacity=4
        )
        for index, symbol in enumerate(("BTC_USDT", "ETH_USDT")):
            self.books.add(book_index=index, instrument_id=index, symbol=symbol, price_exp=2, qty_exp=2)
        self.counters = Counters()
        self.said: list[str] = []
        self.proofs = Proofs(
            venue="gateio_futures",
            venue_id=1,
            books=self.books,
            feed_off=0,
            lag_ms=lag_ms,
            counters=self.counters,
            say=lambda level, text: self.said.append(text),
        )
        self.stream = Stream()
        self.proofs.open(self.stream)  # type: ignore[arg-type]
        self.last = 1

    def frame(self, venue_time: int, recv_ns: int, symbol: str = "BTC_USDT") -> None:
        """A whole-book push of ``symbol`` that carries ``venue_time``."""
        self.last += 1
        levels = {"b": [{"p": "10", "s": 1}], "a": [{"p": "11", "s": 1}]}
        result: dict[str, Any] = {"t": venue_time, "full": True, "s": symbol, "u": self.last, **levels}
        message = {"channel": "futures.order_book_update", "event": "update", "result": result}
        self.books.on_frame(json.dumps(message).encode(), recv_ns, CONN)

    def record(self, index: int = 0) -> Any:
        out = np.zeros(BOOK.WORDS, dtype=np.int64)
        assert bookring.read_book(self.words, 0, index, out) > 0
        return out

    def proof(self, index: int = 0) -> int:
        return int(bookring.proof_mono_ns(self.words, 0, self.record(index)))

    @property
    def row_lag_ms(self) -> int:
        row = FEED.connections + CONN * CONNECTION.WORDS
        return int(self.words[row + CONNECTION.cross_topic_lag_ns]) // MS


@settings(max_examples=200, deadline=None)
@given(
    offset=some.one_of(some.none(), some.integers(-1000, 1000)),
    error=some.integers(0, 100),
    lag=some.integers(0, 120),
    frames=some.lists(
        some.tuples(some.integers(0, 3000), some.integers(-400, 900), some.sampled_from([0, 1, 1, 1, 1000])),
        min_size=1,
        max_size=40,
    ),
)
def test_the_kernel_judges_as_the_plain_twin(
    offset: int | None, error: int, lag: int, frames: list[tuple[int, int, int]]
) -> None:
    mem = new_memory(1, 0)
    words = np.zeros(feed_segment_words(1), dtype=np.int64)
    row = BOOKS.connections + CONN * WATCH.WORDS
    mem[row + WATCH.open], mem[BOOKS.lag_ms], mem[BOOKS.clock_error_ms] = 1, lag, error
    clock = Clock()
    if offset is not None:
        clock.offset_ms = NOW_MS - 100_000 + offset
        mem[BOOKS.clock_known], mem[BOOKS.clock_offset_ms] = 1, clock.offset_ms
    twin = Judge(clock, lag, error)
    said: list[str] = []
    recv_ns = 100 * S
    for wait_ms, late_ms, unit in frames:
        recv_ns += wait_ms * MS
        sent = (NOW_MS + (recv_ns - 100 * S) // MS - late_ms) * unit
        twin.frame(sent, recv_ns)
        mem[EVENT.time], mem[BOOKS.notice] = sent, 0
        freshness.judge_time(mem, words, CONN, recv_ns)
        notice = int(mem[BOOKS.notice])
        said += ["late"] if notice & freshness.NOTICE_LATE else []
        said += ["on time"] if notice & freshness.NOTICE_ON_TIME else []
        said += [f"disorder {mem[BOOKS.back_ms]}"] if notice & freshness.NOTICE_DISORDER else []
        assert (mem[row + WATCH.on_time], mem[row + WATCH.time_max]) == (twin.on_time, twin.time_max)
        assert words[FEED.connections + CONN * CONNECTION.WORDS + CONNECTION.alive] == twin.on_time
    assert (said, mem[row + WATCH.back_ms]) == (twin.said, twin.back_ms)


def test_a_second_of_the_venues_own_time_is_told_however_fast_it_passes() -> None:
    rig, turns = Rig(), [0]

    def turned() -> None:
        turns[0] += 1

    rig.proofs._on_turn = turned
    for k in range(101):
        rig.frame(NOW_MS + k * 100, 10 * S + k * MS)  # a hundred times faster than it was recorded
    assert turns[0] == 11
    rig.frame((NOW_MS + 10_500) * 1000, 11 * S)
    assert turns[0] == 11
    rig.frame(NOW_MS + 3_600_000, 11 * S)
    rig.frame(NOW_MS + 10_600, 11 * S + MS)
    assert turns[0] == 13, "a time from somewhere else holds nothing up"


def test_a_book_asks_for_a_deeper_snapshot_by_its_own_time() -> None:
    rig = Rig()
    btc = FeedInstrument(symbol="BTC_USDT", book_index=0, instrument_id=0, price_exp=2, qty_exp=2, row_epoch=0)
    snapshots = Snapshots(
        venue="gateio_futures",
        client=None,  # type: ignore[arg-type]  # never asked
        books=rig.books,
        words=rig.words,
        feed_off=0,
        instruments={0: btc},
        carrier=lambda instrument: None,
        book_topic=lambda symbol: symbol,
        counters=rig.counters,
        say=lambda level, text: None,
    )
    asked = []
    for k, at_ms in enumerate((0, 100, 4_900, 5_000, 5_100, 10_000)):
        rig.frame(NOW_MS + at_ms, 10 * S + k * MS)
        snapshots.keep_updates_for_snapshot(0)
        asked += [at_ms] if snapshots._wanted else []
        snapshots._wanted.clear()
    assert asked == [0, 5_000, 10_000]


def test_a_late_frame_is_unproved_when_it_is_published_and_frames_of_now_end_that() -> None:
    rig = Rig()
    rig.proofs.learn(NOW_MS, 10 * S, 10 * S)
    rig.frame(NOW_MS, 10 * S)
    assert rig.stream.on_time and rig.proof() == 10 * S
    rig.frame(NOW_MS, 11 * S)  # a second old
    assert not rig.stream.on_time and rig.proof() == 0 and rig.counters.late_episodes == 1
    rig.frame(NOW_MS + 1100, 11 * S + 100 * MS)
    assert rig.proof() == 0, "too soon after the late one"
    rig.frame(NOW_MS + 1300, 11 * S + 300 * MS)
    assert rig.stream.on_time and rig.proof() == 11 * S + 300 * MS


@pytest.mark.parametrize("moved_ms", [1200, -1200, 5 * 3_600_000])
def test_a_venues_clock_that_moves_is_asked_at_once_and_proves_nothing_until_orders_go_by_it(moved_ms: int) -> None:
    """The poller, whose reading stamps orders, finds it within seconds: before, one leg of two would be refused."""
    rig = Rig()
    rig.proofs.learn(NOW_MS, 10 * S, 10 * S)
    rig.proofs._clock_asked_ns = 8 * S
    rig.frame(NOW_MS, 10 * S)
    assert rig.proof() == 10 * S and not rig.proofs.clock_is_due(10 * S)
    for at_ms in (100, 200, 600):
        rig.frame(NOW_MS + at_ms + moved_ms, 10 * S + at_ms * MS)
        assert rig.proof() == 0 and not rig.stream.on_time and rig.proofs.clock_is_due(10 * S + at_ms * MS)
    rig.proofs.learn(NOW_MS + 700 + moved_ms, 10 * S + 700 * MS, 10 * S + 700 * MS)
    assert f"its clock has moved by {moved_ms:+d} ms" in rig.said[-1]
    for at_ms in (800, 1100, 6000):
        rig.frame(NOW_MS + at_ms + moved_ms, 10 * S + at_ms * MS)
        assert rig.proof() == 0 and not rig.stream.on_time
    at_ms = 700 + pf.MOVED_NS // MS
    rig.frame(NOW_MS + at_ms + moved_ms, 10 * S + at_ms * MS)
    assert rig.stream.on_time and rig.proof() == 10 * S + at_ms * MS and not rig.proofs.clock_is_due(12 * S)


def test_frames_that_are_late_by_a_clock_that_has_not_moved_are_waited_for_no_longer() -> None:
    rig = Rig()
    rig.proofs.learn(NOW_MS, 10 * S, 10 * S)
    rig.frame(NOW_MS, 10 * S)
    rig.frame(NOW_MS + 100, 12 * S)
    assert rig.proof() == 0 and rig.proofs.clock_is_due(mono_ns())
    rig.proofs.learn(NOW_MS + 2100, 12 * S + 100 * MS, 12 * S + 100 * MS)
    rig.frame(NOW_MS + 2300, 12 * S + 300 * MS)
    assert rig.stream.on_time and not rig.said


def test_a_stream_whose_hosts_are_ahead_of_the_one_that_tells_the_time_is_as_good_as_any() -> None:
    rig = Rig()
    rig.proofs.learn(NOW_MS, 10 * S, 10 * S)
    rig.frame(NOW_MS + 900, 10 * S)
    assert rig.stream.on_time
    rig.frame(NOW_MS + 2000, 10 * S + 500 * MS)
    assert not rig.stream.on_time
    rig.proofs.learn(NOW_MS + 600, 10 * S + 600 * MS, 10 * S + 600 * MS)  # which has not moved
    rig.frame(NOW_MS + 2300, 10 * S + 800 * MS)
    assert rig.stream.on_time and not rig.said


def test_a_long_way_to_the_venue_leaves_its_books_proved_up_to_a_quarter_of_a_second() -> None:
    """The time's answer takes 170 ms each way, and so does a frame."""
    rig = Rig()
    rig.proofs.learn(NOW_MS, 10 * S - 170 * MS, 10 * S + 170 * MS)
    rig.frame(NOW_MS + 10, 10 * S + 180 * MS)
    assert rig.stream.on_time and rig.proof() == 10 * S + 180 * MS
    rig.frame(NOW_MS + 20, 10 * S + 420 * MS)
    assert rig.stream.on_time, "400 ms late, by a clock that may be 100 ms behind"
    rig.frame(NOW_MS + 30, 10 * S + 440 * MS)
    assert not rig.stream.on_time and rig.proof() == 0


def test_a_way_that_is_too_long_is_said_once() -> None:
    rig = Rig()
    rig.proofs.learn(NOW_MS, 10 * S - 300 * MS, 10 * S + 300 * MS)
    for k in range(300):
        rig.frame(NOW_MS + k * 100, 10 * S + 300 * MS + k * 100 * MS)
        if k % 10 == 0:
            rig.proofs.measure(10 * S + 300 * MS + k * 100 * MS)
    assert not rig.stream.on_time and [text for text in rig.said if "no book is proved" in text] == rig.said[-1:]


def test_late_frames_before_a_silence_or_a_standstill_are_no_way_that_is_too_long() -> None:
    rig = Rig()
    rig.proofs.learn(NOW_MS + 10_000, 10 * S, 10 * S)
    rig.frame(NOW_MS, 10 * S)
    for second in range(30):
        rig.proofs.measure((11 + second) * S)
    rig.frame(NOW_MS, 50 * S)
    rig.proofs.measure(50 * S)
    rig.frame(NOW_MS, 90 * S)
    rig.proofs.measure(90 * S)
    assert not rig.stream.on_time and rig.said == []


def test_a_way_that_becomes_too_long_again_after_long_is_said_again() -> None:
    rig = Rig()
    rig.proofs.learn(NOW_MS, 0, 0)

    def seconds(start_s: int, number: int, late_ms: int) -> int:
        for second in range(start_s, start_s + number):
            rig.frame(NOW_MS + second * 1000 - late_ms, second * S)
            rig.proofs.measure(second * S)
        return start_s + number

    now_s = 1
    for number_of_times, in_time in enumerate([10, 10, pf.FAR_FORGET_MEASURES + 1]):
        now_s = seconds(now_s, 2 * pf.FAR_MEASURES, late_ms=2000)
        assert len(rig.said) == 1, f"after {number_of_times} times"
        now_s = seconds(now_s, in_time, late_ms=0)
    seconds(now_s, 2 * pf.FAR_MEASURES, late_ms=2000)
    assert len(rig.said) == 2


def test_a_stream_late_from_its_first_frame_proves_nothing() -> None:
    rig = Rig()
    rig.proofs.learn(NOW_MS + 10_000, 10 * S, 10 * S)
    for k in range(50):
        rig.frame(NOW_MS + k * 100, 10 * S + k * 100 * MS)
        assert rig.proof() == 0 and not rig.stream.on_time


@pytest.mark.parametrize("foreign", [False, True], ids=["no_clock", "recorded_time"])
def test_without_a_usable_clock_only_growing_delay_shows(foreign: bool) -> None:
    rig = Rig()
    if foreign:
        rig.proofs.learn(NOW_MS + 7 * 24 * 3_600_000, 10 * S, 10 * S)
    rig.frame(NOW_MS, 10 * S)
    assert rig.proof() == 10 * S
    rig.frame(NOW_MS + 100, 12 * S)
    assert rig.proof() == 0


def test_a_process_that_stood_still_proves_nothing_with_what_its_sockets_held() -> None:
    rig = Rig()
    rig.proofs.ticked(10 * S)
    rig.frame(0, 10 * S)
    assert rig.stream.on_time
    rig.frame(0, 10 * S + 900 * MS)
    assert rig.stream.on_time and rig.counters.pauses == 0
    rig.books.on_frame(b'{"channel":"futures.pong","event":""}', 12 * S, CONN)
    assert not rig.stream.on_time and rig.proof() == 0 and rig.counters.pauses == 1


def test_after_a_silence_a_book_waits_for_an_update_of_its_own() -> None:
    rig = Rig()
    rig.frame(0, 10 * S)
    rig.frame(0, 10 * S + 400 * MS, "ETH_USDT")
    assert rig.proof() == 10 * S + 300 * MS, "another topic proves it, less the lag"
    rig.frame(0, 10 * S + 1000 * MS, "ETH_USDT")
    assert rig.proof() == 0 and rig.proof(1) == 10 * S + 1000 * MS and rig.counters.silences == 1
    rig.frame(0, 10 * S + 1200 * MS, "ETH_USDT")
    assert rig.proof() == 0, "still none of its own"
    rig.books.set_halted(0, halted=False)  # publishes it again as it is
    assert rig.proof() == 0
    rig.frame(0, 10 * S + 1300 * MS)
    rig.frame(0, 10 * S + 1500 * MS, "ETH_USDT")
    assert rig.proof() == 10 * S + 1400 * MS and rig.counters.silences == 1


def test_answers_to_pings_prove_no_book() -> None:
    """A gateway answers while the data behind it stands still."""
    rig = Rig()
    rig.frame(0, 10 * S)
    rig.frame(0, 10 * S + 100 * MS, "ETH_USDT")
    proved = rig.proof()
    rig.books.on_frame(b'{"channel":"futures.pong","event":""}', 11 * S, CONN)
    assert rig.proof() == proved == 10 * S


def test_after_a_silence_or_pause_of_a_late_connection_too_a_book_waits_for_its_own() -> None:
    rig = Rig()
    rig.proofs.ticked(10 * S)
    rig.frame(0, 10 * S)
    rig.frame(0, 10 * S + 200 * MS, "ETH_USDT")
    rig.frame(0, 40 * S, "ETH_USDT")  # this process stood still, and what the venue held back may have been dropped
    rig.frame(0, 40 * S + 300 * MS, "ETH_USDT")
    assert rig.stream.on_time and rig.proof(1) > 40 * S and rig.proof() == 0
    rig.frame(0, 40 * S + 400 * MS)
    assert rig.proof() == 40 * S + 400 * MS


def test_the_way_of_the_clocks_answer_counts_as_lateness_of_frames() -> None:
    """An answer that came by the slowest way would let frames pass that are later than the bound by half of it."""
    rig = Rig()
    rig.proofs.learn(NOW_MS, 10 * S, 10 * S + 900 * MS)  # its way back took all of it: it is 900 ms later there
    assert not rig.proofs.clock_is_sharp
    rig.proofs.learn(NOW_MS + 1000, 11 * S, 11 * S + 2 * MS)
    assert rig.proofs.clock_is_sharp
    rig.frame(NOW_MS + 2000 - 480, 12 * S)
    rig.frame(NOW_MS + 2000 - 520, 12 * S)
    assert not rig.stream.on_time
    rig.proofs.learn(NOW_MS + 5000, 15 * S, 15 * S + 900 * MS)  # agrees and is less sharp: it adds nothing
    assert rig.proofs.clock_is_sharp


def test_control_frames_are_no_data_and_closed_rows_are_not_judged() -> None:
    rig = Rig()
    began = rig.proofs.last_data_ns(CONN)
    rig.books.on_frame(b'{"channel":"futures.pong","event":""}', began + 5, CONN)
    assert rig.proofs.last_data_ns(CONN) == began
    rig.frame(NOW_MS, began + 9)
    assert rig.proofs.last_data_ns(CONN) == began + 9
    rig.proofs.close(rig.stream)  # type: ignore[arg-type]
    rig.frame(NOW_MS, began + 20)
    assert rig.proofs.last_data_ns(CONN) == began + 9 and rig.proof() == 0


def observed(rig: Rig, back_ms: int, start_s: int = 10, seconds: int = 40) -> int:
    """Two topics, the second always ``back_ms`` behind, 40 frames a second; returns the time after it in ns."""
    for second in range(start_s, start_s + seconds):
        for k in range(40):
            now_ns = second * S + k * 25 * MS
            sent = NOW_MS + now_ns // MS
            symbol, sent = ("ETH_USDT", sent - back_ms - 25) if k % 2 else ("BTC_USDT", sent)
            rig.frame(sent, now_ns, symbol)
        rig.proofs.measure((second + 1) * S)
    return (start_s + seconds) * S


@pytest.mark.parametrize(("back_ms", "lag_ms"), [(3, 20), (15, 30), (45, 90), (84, 100)])
def test_the_lag_comes_down_to_twice_what_is_measured(back_ms: int, lag_ms: int) -> None:
    rig = Rig(lag_ms=100)
    observed(rig, back_ms, seconds=20)
    assert rig.row_lag_ms == 100, "not seen for long enough"
    observed(rig, back_ms, start_s=30)
    assert rig.row_lag_ms == rig.proofs.lag_ms == lag_ms
    assert rig.counters.disorder_ms_max == back_ms


def test_a_step_beyond_the_measured_lag_puts_the_recorded_one_back_at_once() -> None:
    rig = Rig(lag_ms=100)
    now_ns = observed(rig, 3)
    assert rig.row_lag_ms == 20
    rig.frame(NOW_MS + now_ns // MS, now_ns)
    rig.frame(NOW_MS + now_ns // MS - 30, now_ns, "ETH_USDT")
    assert rig.row_lag_ms == 100
    after_ns = observed(rig, 3, start_s=now_ns // S)
    assert rig.row_lag_ms == 60, "twice the step, for as long as it is in the window"
    rig.proofs.measure(after_ns + pf.WINDOW_NS)
    assert rig.row_lag_ms == 20


def test_a_recorded_lag_below_the_floor_stays_and_larger_steps_raise_it_only_again_and_again() -> None:
    rig = Rig(lag_ms=10)
    now_ns = observed(rig, 2)
    assert rig.row_lag_ms == 10
    for k in range(pf.DISORDERS_TO_RAISE):
        assert rig.row_lag_ms == 10
        sent = NOW_MS + now_ns // MS + k * 60
        rig.frame(sent, now_ns + k * 60 * MS)
        rig.frame(sent - 50 - k, now_ns + k * 60 * MS, "ETH_USDT")
    assert rig.row_lag_ms == 52 and len(rig.said) == 1
    rig.proofs.measure(now_ns + S)
    rig.proofs.measure(now_ns + 2 * S + pf.DISORDER_FORGET_NS)
    assert rig.row_lag_ms == 10
