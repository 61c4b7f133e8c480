"""Where numbers of tickers and depth do not compare (MEXC): a book that is other than a later ticker has an update to
come, and is lost when that does not come."""

from __future__ import annotations

import dataclasses
import itertools
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as some

from pipeline.book.memory import TICKER_TOP, TOPIC_DEPTH
from pipeline.book.recording.capture_books import CaptureBooks
from pipeline.book.recording.capture_files import SNAPSHOT, read_capture
from pipeline.book.recording.message_order import CONN as RECORDED_CONN
from pipeline.book.results import SnapshotResult
from pipeline.book.scaling import venue_ns
from pipeline.book.venue_books import VenueBooks
from pipeline.exchanges.factory import feed_codec, recording_shapes
from pipeline.sim.wire.mexc import push_frames as frames
from shm import bookring
from shm.layout import BOOK, feed_segment_words
from tests.naive.tickers import Quote, TopLead
from tests.worlds.venue_books_rig import watch_from

S, MS = 1_000_000_000, 1_000_000
MAX_BEHIND_NS = 400 * MS
SENT_MS = 1_700_000_000_000  # of the venue's clock, at 10 s of ours
CONN = 3
BTC, ETH = "BTCUSDT", "ETHUSDT"
DEPTH, TICKER = b"spot@public.aggre.depth.v3.api.pb@10ms@", b"spot@public.aggre.bookTicker.v3.api.pb@10ms@"


def sent_ms(at_ns: int) -> int:
    return SENT_MS + (at_ns - 10 * S) // MS


class Rig:
    """Two MEXC books of one connection, bid 10 and ask 11 at version 100 and 10 s; versions of tickers from 1 on."""

    def __init__(self) -> None:
        self.conn = CONN
        self.words = np.zeros(feed_segment_words(2), dtype=np.int64)
        bookring.init_feed(self.words, 0, 2)
        codec = feed_codec("mexc", "spot")
        self.books = VenueBooks(codec=codec, words=self.words, feed_off=0, venue_id=1, capacity=2)
        self.last = {BTC: 99, ETH: 99}
        self.best: dict[str, Quote] = {BTC: (10, 11), ETH: (10, 11)}
        for index, symbol in enumerate((BTC, ETH)):
            self.books.add(book_index=index, instrument_id=index, symbol=symbol, price_exp=2, qty_exp=2)
        watch_from(self.books, CONN, 10 * S)
        for index in range(2):
            self.snapshot(index)
        self.update((10, 11), 10 * S)
        self.update((10, 11), 10 * S, ETH)

    def snapshot(self, index: int, quote: Quote = (10, 11), last: int = 99, at_ns: int = 10 * S) -> None:
        body = b'{"lastUpdateId":%d,"bids":[["%d","1"]],"asks":[["%d","1"]]}' % (last, *quote)
        assert self.books.on_snapshot(index, body, at_ns, CONN) is SnapshotResult.SYNCED

    def update(self, quote: Quote, at_ns: int, symbol: str = BTC, *, lost: bool = False) -> None:
        """An update that moves the best prices; ``lost`` on its way, as the ones behind it will tell."""
        old, first = self.best[symbol], self.last[symbol] + 1
        self.last[symbol], self.best[symbol] = first, quote
        if lost:
            return
        bids, asks = ([(b"%d" % quote[k], b"1"), (b"%d" % old[k], b"0")][: 1 + (old[k] != quote[k])] for k in range(2))
        body = frames.aggre_depths(asks, bids, DEPTH[:-1], first, first)
        self._push(DEPTH, symbol, frames.AGGRE_DEPTHS, body, at_ns, sent_ms(at_ns))

    def ticker(
        self, version: int, quote: Quote, at_ns: int, symbol: str = BTC, *, qty: bytes = b"1", ms: int | None = None
    ) -> None:
        body = frames.aggre_book_ticker((b"%d" % quote[0], qty), (b"%d" % quote[1], b"1"), version)
        self._push(TICKER, symbol, frames.AGGRE_BOOK_TICKER, body, at_ns, sent_ms(at_ns) if ms is None else ms)

    def _push(self, channel: bytes, symbol: str, kind: int, body: bytes, at_ns: int, ms: int) -> None:
        name = symbol.encode()
        self.books.on_frame(frames.wrap(channel + name, name, kind, body, send_ms=ms), at_ns, self.conn)

    def others(self, from_ns: int, to_ns: int, step_ns: int = 50 * MS) -> None:
        """Tickers of the other book, which agree."""
        for at_ns in range(from_ns, to_ns + 1, step_ns):
            self.ticker(1, (10, 11), at_ns, ETH)

    def behind(self) -> list[int]:
        return self.books.invalidate_books_behind_ticker(MAX_BEHIND_NS)


@pytest.mark.parametrize(("quote", "qty"), [((9, 11), b"1"), ((10, 12), b"1"), ((10, 11), b"2")])
def test_a_book_is_lost_when_what_its_ticker_tells_does_not_come(quote: Quote, qty: bytes) -> None:
    rig = Rig()
    rig.ticker(1, quote, 10 * S + 10 * MS, qty=qty)
    rig.others(10 * S + 20 * MS, 10 * S + 370 * MS)
    assert rig.behind() == []
    rig.others(10 * S + 420 * MS, 10 * S + 470 * MS)
    assert rig.behind() == [0] and rig.books.counters.gaps == 1 and not rig.books.is_synced(0)
    assert rig.books.counters.contradicted == 0 and rig.behind() == []


def test_frames_lost_for_a_moment_are_noticed_within_500_ms_though_nothing_follows_them() -> None:
    """The other topic goes on, and repeats itself where nothing changes."""
    rig = Rig()
    lost_at = 10 * S + 100 * MS
    for number in range(5):
        rig.update((10 + number, 12 + number), lost_at + number * 10 * MS, lost=True)
    noticed = None
    for at_ns in range(lost_at, lost_at + S, 10 * MS):
        rig.ticker(2, rig.best[BTC], at_ns)
        if rig.behind():
            noticed = at_ns
            break
    assert noticed is not None and noticed - lost_at <= 500 * MS


@pytest.mark.parametrize("how", ["update", "ticker", "older ticker"])
def test_an_update_or_a_ticker_that_agrees_ends_the_wait(how: str) -> None:
    rig = Rig()
    if how == "older ticker":
        rig.ticker(1, (9, 11), 10 * S + 10 * MS, ms=sent_ms(10 * S - 5 * MS))
    else:
        rig.ticker(1, (9, 11), 10 * S + 10 * MS)
    rig.others(10 * S + 20 * MS, 10 * S + 320 * MS)
    if how == "update":
        rig.update((9, 11), 10 * S + 330 * MS)
    elif how == "ticker":  # what it told was taken back before the update was made
        rig.ticker(2, (10, 11), 10 * S + 330 * MS)
    rig.others(10 * S + 350 * MS, 11 * S)
    assert rig.behind() == [] and rig.books.counters.gaps == 0


def test_an_update_that_is_older_than_the_ticker_leaves_the_next_one_expected() -> None:
    rig = Rig()
    rig.ticker(1, (8, 11), 10 * S + 20 * MS)
    rig.update((9, 11), 10 * S + 15 * MS)
    rig.others(10 * S + 30 * MS, 10 * S + 480 * MS)
    assert rig.behind() == [0]


def test_a_ticker_from_before_the_snapshot_says_nothing_about_it() -> None:
    rig = Rig()
    rig.books.invalidate(0)
    rig.ticker(1, (9, 11), 10 * S + 10 * MS)
    rig.snapshot(0, (10, 11), last=rig.last[BTC], at_ns=10 * S + 20 * MS)
    rig.others(10 * S + 30 * MS, 11 * S)
    assert rig.behind() == []
    rig.ticker(1, (9, 11), 11 * S + 10 * MS)
    rig.others(11 * S + 20 * MS, 11 * S + 470 * MS)
    assert rig.behind() == [0], "what is told again afterwards does"


def lose_again(rig: Rig, turn: int, *, updates: bool = True) -> list[int]:
    """A snapshot, an update where there is one, and tickers of another quantity for half a second."""
    at_ns = 10 * S + turn * S
    if not rig.books.is_synced(0):
        rig.snapshot(0, last=rig.last[BTC], at_ns=at_ns)
    if updates:
        rig.update((10, 11), at_ns + 10 * MS)
    rig.ticker(10 * turn + 1, (10, 11), at_ns + 20 * MS, qty=b"%d" % (2 + turn % 2))
    assert rig.behind() == []
    rig.others(at_ns + 30 * MS, at_ns + 480 * MS)
    return rig.behind()


def test_a_book_that_is_other_than_its_tickers_for_good_is_compared_no_more() -> None:
    rig = Rig()
    assert [lose_again(rig, turn) for turn in range(5)] == [[0], [0], [0], [], []]
    assert rig.books.ticker_trust.take_news() == [0] and rig.books.ticker_trust.take_news() == []
    assert rig.books.counters.gaps == 3 and rig.books.is_synced(0)
    rig.books.invalidate_connection(CONN)
    assert lose_again(rig, 6) == [0], "a new connection is compared again"


def proof_ns(rig: Rig) -> int:
    """When BTC's newest record was proved."""
    record = np.zeros(BOOK.WORDS, dtype=np.int64)
    assert bookring.read_book(rig.words, 0, 0, record) > 0
    return int(bookring.proof_mono_ns(rig.words, 0, record))


def uncompared() -> Rig:
    """BTC has been lost three times in a row, and stands again since 13.0 s; its last update came at 13.01 s."""
    rig = Rig()
    assert [lose_again(rig, turn) for turn in range(4)] == [[0], [0], [0], []]
    assert rig.books.is_synced(0)
    return rig


def test_what_is_compared_no_more_is_proved_by_its_own_updates_alone() -> None:
    """Its depth stops, and its tickers tell something else with every frame."""
    rig = uncompared()
    assert proof_ns(rig) == 13 * S + 10 * MS
    for at_ns in range(13 * S + 500 * MS, 40 * S, 20 * MS):
        rig.ticker(500 + at_ns // MS, (8, 12), at_ns)
        rig.others(at_ns + 10 * MS, at_ns + 10 * MS)
    assert rig.behind() == [] and proof_ns(rig) == 13 * S + 10 * MS
    rig.update((10, 11), 40 * S + 10 * MS)
    assert proof_ns(rig) == 40 * S + 10 * MS, "one that goes on is traded by its own age"
    rig.books.set_halted(0, True)
    rig.books.set_halted(0, False)
    rig.others(40 * S + 20 * MS, 41 * S)
    assert proof_ns(rig) == 40 * S + 10 * MS, "whatever else is published of it"


def lost_from(rig: Rig, from_ns: int, to_ns: int) -> list[int]:
    """Tickers and updates that never agree: ms after ``from_ns`` of each loss. A snapshot follows each."""
    found = []
    for at_ns in range(from_ns, to_ns, 50 * MS):
        rig.ticker(1000 + at_ns // MS, (10, 11), at_ns, qty=b"7")
        if rig.behind():
            found.append((at_ns - from_ns) // MS)
            rig.snapshot(0, last=rig.last[BTC], at_ns=at_ns)
            rig.update((10, 11), at_ns)
    return found


def test_what_is_compared_no_more_is_asked_again_for_one_loss_a_minute() -> None:
    rig = uncompared()
    assert rig.books.ticker_trust.take_news() == [0]
    found = lost_from(rig, 13 * S + 500 * MS, 214 * S)
    assert len(found) == 3 and all(60_000 <= b - a <= 61_000 for a, b in itertools.pairwise(found))
    assert rig.books.ticker_trust.take_news() == [], "said once"


def test_the_minute_goes_on_whichever_of_two_connections_brings_the_updates() -> None:
    rig = uncompared()
    watch_from(rig.books, CONN + 1, 13 * S)
    trust, at_ns = rig.books.ticker_trust, 13 * S
    while not trust.compares(0):
        at_ns += 100 * MS
        for conn in (CONN, CONN + 1):
            rig.conn = conn
            rig.ticker(1, (10, 11), at_ns, ETH)
        rig.conn = CONN + at_ns // (100 * MS) % 2
        rig.update((10, 11), at_ns)
        assert rig.behind() == []
    assert 59 * S < at_ns - 13 * S < 62 * S


def test_frames_of_other_topics_prove_it_again_once_a_ticker_agrees() -> None:
    rig = uncompared()
    for at_ns in range(13 * S + 500 * MS, 80 * S, 50 * MS):
        rig.ticker(1000 + at_ns // MS, (10, 11), at_ns)
        assert rig.behind() == []
    assert proof_ns(rig) == 80 * S - 50 * MS
    for at_ns in range(80 * S, 80 * S + 600 * MS, 50 * MS):
        rig.ticker(1000 + at_ns // MS, (10, 11), at_ns, qty=b"7")
    assert rig.behind() == [0], "and it is compared as before"


def test_one_ticker_that_agrees_begins_the_count_anew() -> None:
    rig = Rig()
    for turn in range(9):
        assert lose_again(rig, turn) == [0]
        if turn % 2:
            rig.snapshot(0, last=rig.last[BTC], at_ns=10 * S + turn * S + 500 * MS)
            rig.ticker(10 * turn + 2, (10, 11), 10 * S + turn * S + 510 * MS)
            assert rig.behind() == []
    assert rig.books.ticker_trust.take_news() == []


def test_a_book_whose_depth_has_stopped_is_compared_for_ever() -> None:
    """Its tickers are other than every snapshot, and no update has come since."""
    rig = Rig()
    assert [lose_again(rig, turn, updates=False) for turn in range(8)] == [[0]] * 8
    assert rig.books.ticker_trust.take_news() == []


STEPS = some.lists(
    some.tuples(
        some.integers(0, 250),  # ms since the frame before
        some.sampled_from(["ticker", "update", "other"]),
        some.sampled_from([(10, 11), (9, 11), (10, 12)]),
        some.integers(0, 1),  # versions on
        some.integers(-3, 3),  # how much earlier or later than the frame the venue has sent it
    ),
    min_size=1,
    max_size=40,
)


@settings(max_examples=150, deadline=None)
@given(STEPS)
def test_the_kernels_count_as_the_plain_twin(steps: list[tuple[int, str, Quote, int, int]]) -> None:
    rig, twin, now_ns, version = Rig(), TopLead(10 * S, (10, 11), SENT_MS), 10 * S, 1
    latest: Quote | None = None
    for wait_ms, kind, quote, more, off_ms in steps:
        now_ns += wait_ms * MS
        twin.frame(now_ns)
        if kind == "ticker":
            latest = quote if latest is None or more else latest
            version += more
            ms = sent_ms(now_ns) + off_ms * 10
            rig.ticker(version, latest, now_ns, ms=ms)
            twin.take_ticker(version, latest, ms)
        elif kind == "update":
            rig.update(quote, now_ns)
            twin.update(quote, sent_ms(now_ns))
        else:
            rig.ticker(1, (10, 11), now_ns, ETH)
        behind = twin.behind(MAX_BEHIND_NS)
        assert rig.behind() == ([0] if behind else [])
        if behind:
            return


# --- recordings, as if their numbers did not compare ---

RECORDED = [
    *(f"{kind}_{coin}usdt_20240808.gz" for kind in ("spot", "usdm") for coin in ("btc", "eth")),
    "GATEIO_FUTURES",
]


def prepared(path: Path) -> CaptureBooks:
    """A recording's books under the rule of this file."""
    words = np.zeros(feed_segment_words(16), dtype=np.int64)
    bookring.init_feed(words, 0, 16)
    capture = read_capture(path, recording_shapes())
    codec = feed_codec(capture.dialect, capture.market)
    codec = dataclasses.replace(codec, rule=dataclasses.replace(codec.rule, ticker=TICKER_TOP))
    recorded = CaptureBooks(capture, VenueBooks(codec=codec, words=words, feed_off=0, venue_id=1, capacity=16))
    recorded.prepare()
    watch_from(recorded.books, RECORDED_CONN, next(one.time_ns for one in capture.records if one.kind != SNAPSHOT))
    return recorded


@pytest.mark.parametrize("name", RECORDED)
def test_no_recorded_book_is_ever_other_than_its_ticker_for_long(captures_dir: Path, name: str) -> None:
    recorded = prepared(captures_dir / name)
    for index in range(len(recorded.capture.records)):
        recorded.step(index)
        assert recorded.books.invalidate_books_behind_ticker(MAX_BEHIND_NS) == []
    assert recorded.books.counters.gaps == 0 and recorded.books.counters.tickers > 0


def losses(recorded: CaptureBooks) -> Iterator[int]:
    """ms of the venue's time between the first depth frame that is lost and the notice; all depth frames are lost from
    then on. The tickers' frames go on."""
    codec, first_ns = recorded.books.codec, 0
    for index, record in enumerate(recorded.capture.records):
        if record.kind == SNAPSHOT or index < 2000:
            recorded.step(index)
            continue
        event = codec.reference(record.payload)
        if event.topic == TOPIC_DEPTH:
            first_ns = first_ns or venue_ns(event.time)
            continue
        recorded.step(index)
        if recorded.books.invalidate_books_behind_ticker(MAX_BEHIND_NS):
            yield (venue_ns(event.time) - first_ns) // MS
            return


def test_recorded_depth_that_stops_is_noticed_by_the_tickers_that_go_on(captures_dir: Path) -> None:
    """Within half a second of the venue's own time."""
    (noticed_ms,) = losses(prepared(captures_dir / "usdm_btcusdt_20240808.gz"))
    assert 0 < noticed_ms <= 500
