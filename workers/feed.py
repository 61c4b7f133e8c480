"""The feed process of one exchange: sockets -> books -> shared memory, for both markets and all instruments.

It reads the catalogue page for its instruments (and again whenever the page's version changes), creates the segment
``feed.<exchange>``, and is READY when every book is whole, or after ``WARM_TIMEOUT_S`` with those that are (DEGRADED).
One thread, one uvloop loop; a frame is handled inside the socket's callback.

Test switches: ``ARB_TEST_FEED_LIFE_S`` (planned life of a connection), ``ARB_TEST_FEED_STALL_S``.
"""

from __future__ import annotations

import asyncio
import gc
import os
import sys
import time
from collections.abc import Sequence

import msgspec
import numpy as np
import uvloop

from pipeline.book import freshness
from pipeline.book.venue_books import VenueBooks
from pipeline.exchanges.factory import feed_codec, make_public_stream, make_venue
from pipeline.exchanges.feed.connection import ConnectionRows
from pipeline.exchanges.feed.market_feed import MarketFeed
from pipeline.exchanges.feed.types import WANTED_DIGITS, FeedInstrument, FeedSettings
from pipeline.exchanges.transport import spend
from pipeline.model.catalogue_row import words_to_row
from pipeline.model.clock import mono_ns
from pipeline.model.config import VenueConfig
from pipeline.model.enums import TradingStatus
from pipeline.model.errors import ArbitrageEngineError, ConfigInvalid, SegmentMissing
from pipeline.model.instruments import InstrumentRow
from shm.atomics import store_relaxed, store_release
from shm.bookring import conn_close, conn_open, create_feed, init_feed, publish_book, read_book
from shm.jit import direct
from shm.layout import BOOK, CONN_CAPACITY, FEED_BOOK_CAPACITY_DEFAULT, feed_segment_words
from shm.layout_pages import CAT_FLAG_REMOVED, CATALOGUE_ROW
from shm.pages import CataloguePage
from shm.wait import BellRinger, ring_if_sleeping
from workers.base import WorkerContext, run_worker
from workers.recording.of_feed import FeedRecording

CATALOGUE_LOOK_S = 0.1
CATALOGUE_WAIT_S = 30.0
WARM_TIMEOUT_S = 20.0
BEAT_S = 0.02
PARKED_BEAT_S = 0.4  # a parked process beats every 500 ms
PARK_AFTER_S = 1.0
METRICS_S = 0.5
SPARE_CPUS = 3  # as in control_plane/cores.py: for the system and the processes that only park
LATENCY_SAMPLE = 8  # one frame in eight goes into the histogram: recording costs more than handling most frames


def warm(dialects: Sequence[str]) -> None:
    """Compile, or load from the cache, every kernel that a feed of ``dialects`` calls, with private arrays."""
    spend.warm()
    words = np.zeros(feed_segment_words(2), dtype=np.int64)
    record = np.zeros(BOOK.WORDS, dtype=np.int64)
    init_feed(words, 0, 2)
    store_relaxed(words, 0, 0)
    store_release(words, 0, 0)
    conn_open(words, 0, 0, 0, 0)
    publish_book(words, 0, 1, record)
    read_book(words, 0, 1, record)
    for dialect in dict.fromkeys(dialects):
        for market in ("spot", "futures"):
            try:
                codec = feed_codec(dialect, market)
            except ArbitrageEngineError:
                continue  # this dialect has no such market
            books = VenueBooks(codec=codec, words=words, feed_off=0, venue_id=0, capacity=2)
            books.add(book_index=0, instrument_id=0, symbol="WARM_UP", price_exp=8, qty_exp=8)
            books.on_frame(b"{}", 1, 0)
            books.request_snapshot(0)
            books.on_snapshot(0, b'{"id":1,"lastUpdateId":1,"bids":[["1","1"]],"asks":[["2","1"]]}', 1, 0)
            books.near_horizon()
            books.invalidate_books_behind_ticker(0)
            books.remove("WARM_UP")
            freshness.set_on_time(books.mem, words, 0, 0)
    conn_close(words, 0, 0)
    ring_if_sleeping(words, 0, -1)


def sockets_of(asked: int, cpus: int, feeds: int) -> int:
    """Connections with the same streams: as ``asked``, or (0) two where feeds, detector and executor leave a CPU free
    and what only parks finds room: a second one costs a feed as much again."""
    return asked or (2 if cpus >= feeds + 2 + SPARE_CPUS else 1)


class FeedProcess:
    """The markets of one exchange, the catalogue watch and the beat, in one event loop."""

    def __init__(self, ctx: WorkerContext) -> None:
        self.ctx = ctx
        self.venues: list[VenueConfig] = [v for v in ctx.config.venues if v.exchange == ctx.exchange]
        if not self.venues:
            raise ConfigInvalid([f"exchanges: {ctx.exchange!r} is not configured or not enabled"])
        self.feed_id = self.venues[0].feed_id
        self.markets: dict[int, MarketFeed] = {}  # by venue id
        self.recording = FeedRecording(ctx, self.venues) if ctx.config.recording.market else None
        self._connection_rows = ConnectionRows(CONN_CAPACITY)
        self._rows: dict[int, tuple[InstrumentRow, bool]] = {}  # instrument id -> row, removed
        self._version = -1
        self._frames = 0
        self._latency = ctx.metrics.histogram("feed_frame_ns", "receive stamp to end of the frame's handling")
        self._gauges: dict[str, int] = {}

    def build(self, catalogue: CataloguePage) -> None:
        """Create the segment, a session and a client per market, and add the instruments that are listed now."""
        segment = create_feed(self.ctx.instance, self.ctx.exchange, FEED_BOOK_CAPACITY_DEFAULT)
        self._segment = segment
        # the detector's sleeping flag lies beside its cursor of the report queue
        self._bell = BellRinger.attach(self.ctx.bells_dir() / "detector", self.ctx.instance, "reports.cursor")
        self._ring = direct(ring_if_sleeping, self._bell.words, 0, 0)
        settings = self._settings()
        for number, venue in enumerate(self.venues):
            self.markets[venue.venue_id] = MarketFeed(
                venue=venue,
                public=make_public_stream(venue),
                client=make_venue(venue),
                codec=feed_codec(venue.dialect, venue.market),
                words=segment.words,
                feed_off=0,
                connection_rows=self._connection_rows,
                capacity=FEED_BOOK_CAPACITY_DEFAULT,
                settings=settings,
                say=self.ctx.say,
                on_frame_done=self._frame_done,
                tap=self.recording.tap(number) if self.recording is not None else None,
            )
        self.read_catalogue(catalogue)
        if self.recording is not None:
            self.recording.begin(self._listed())

    def _settings(self) -> FeedSettings:
        life, stall = os.environ.get("ARB_TEST_FEED_LIFE_S"), os.environ.get("ARB_TEST_FEED_STALL_S")
        asked, cpus, feeds = (
            self.ctx.config.exchanges[self.ctx.exchange].sockets,
            os.cpu_count() or 1,
            self.ctx.config.feeds,
        )
        sockets = sockets_of(asked, cpus, len(feeds))
        if sockets == 1 and not asked:
            self.ctx.say(
                "info",
                f"one connection a stream: {cpus} CPUs leave none free beside {len(feeds)} feeds, the detector and the "
                f"executor; exchanges.{self.ctx.exchange}.sockets: 2 doubles them all the same",
            )
        return FeedSettings(
            sockets=sockets,
            life_s=float(life) if life else None,
            stall_after_s=float(stall) if stall else None,
        )

    def _frame_done(self, recv_mono_ns: int) -> None:
        self._frames = frames = self._frames + 1
        bell = self._bell
        if bell.fd >= 0:
            self._ring(bell.words, bell.offset, bell.fd)
        if not frames % LATENCY_SAMPLE:
            self.ctx.metrics.record(self._latency, mono_ns() - recv_mono_ns)

    # --- catalogue ---

    def read_catalogue(self, catalogue: CataloguePage) -> None:
        """Take over what has changed since the last call: new, removed, changed and halted instruments."""
        version = catalogue.version
        if version == self._version:
            return
        names = {venue.venue_id: venue.name for venue in self.venues}
        complete = True
        for index in range(catalogue.count):
            words = catalogue.row(index)
            if words is None:  # being written just now: read again at the next call
                complete = False
                continue
            if int(words[CATALOGUE_ROW.feed]) != self.feed_id:
                continue
            row = words_to_row(index, words, names.get(int(words[1]), ""))
            self._take(row, bool(int(words[CATALOGUE_ROW.flags]) & CAT_FLAG_REMOVED))
        if complete:
            self._version = version

    def _take(self, row: InstrumentRow, removed: bool) -> None:
        market = self.markets.get(row.venue_id)
        if market is None:
            return
        known = self._rows.get(row.instrument_id)
        self._rows[row.instrument_id] = (row, removed)
        symbol = row.spec.symbol
        if known is None:
            if not removed:
                market.add(_instrument(row))
                self._halt(market, row)
            return
        old, was_removed = known
        if removed and not was_removed:
            market.remove(symbol)
        elif not removed and was_removed:
            market.add(_instrument(row))
            self._halt(market, row)
        elif not removed:
            if _instrument(row) != _instrument(old):
                market.replace(_instrument(row))
                self._halt(market, row)
            elif (row.spec.status is TradingStatus.HALTED) != (old.spec.status is TradingStatus.HALTED):
                market.set_halted(symbol, row.spec.status is TradingStatus.HALTED)

    def _listed(self) -> dict[str, list[InstrumentRow]]:
        """The instruments of every venue that are listed now."""
        found: dict[str, list[InstrumentRow]] = {venue.name: [] for venue in self.venues}
        for row, removed in self._rows.values():
            if not removed:
                found[row.spec.venue].append(row)
        return found

    def _halt(self, market: MarketFeed, row: InstrumentRow) -> None:
        if row.spec.status is TradingStatus.HALTED:
            market.set_halted(row.spec.symbol, True)

    # --- the loop ---

    async def run(self, catalogue: CataloguePage) -> None:
        """Feed every market until the stop request. Raises what ended a market's task."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        loop.add_reader(self.ctx.stop_fd, stop.set)
        jobs = [asyncio.ensure_future(market.run()) for market in self.markets.values()]
        jobs += [
            asyncio.ensure_future(self._watch_catalogue(catalogue)),
            asyncio.ensure_future(self._beat()),
            asyncio.ensure_future(self._publish_metrics()),
            asyncio.ensure_future(self._become_ready()),
        ]
        stopped = asyncio.ensure_future(stop.wait())
        try:
            done, _ = await asyncio.wait({stopped, *jobs}, return_when=asyncio.FIRST_COMPLETED)
            while stopped not in done:
                for job in done:
                    job.result()  # raises what ended it; _become_ready returns
                jobs = [job for job in jobs if not job.done()]
                done, _ = await asyncio.wait({stopped, *jobs}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            loop.remove_reader(self.ctx.stop_fd)
            for job in (*jobs, stopped):
                job.cancel()
            await asyncio.gather(*jobs, stopped, return_exceptions=True)
            for market in self.markets.values():
                await market.client.close()

    async def _watch_catalogue(self, catalogue: CataloguePage) -> None:
        while True:
            await asyncio.sleep(CATALOGUE_LOOK_S)
            catalogue.refresh()
            self.read_catalogue(catalogue)
            self._bell.refresh()  # a detector that came later than this feed
            self.look_at_recording(mono_ns())

    def look_at_recording(self, now_ns: int) -> None:
        """Begins a new piece of the recording where one is due, and asks for every book, with which it begins."""
        due = self.recording is not None and self.recording.look(now_ns)
        if due and self.recording is not None and self.recording.begin(self._listed()):
            for market in self.markets.values():
                market.snapshots.renew()

    async def _beat(self) -> None:
        """Beat from the loop, so that a blocked loop stops beating; parked while no frame has come for a second."""
        seen, quiet_since = -1, mono_ns()
        while True:
            now_ns = mono_ns()
            if self._frames != seen:
                seen, quiet_since = self._frames, now_ns
            parked = now_ns - quiet_since > PARK_AFTER_S * 1e9
            if self.ctx.liveness.parked != parked:
                self.ctx.liveness.parked = parked
            self.ctx.progress()
            await asyncio.sleep(PARKED_BEAT_S if parked else BEAT_S)

    async def _become_ready(self) -> None:
        """Report READY once every book is whole, or after ``WARM_TIMEOUT_S`` with those that are."""
        deadline = mono_ns() + int(WARM_TIMEOUT_S * 1e9)
        while mono_ns() < deadline:
            if all(market.synced for market in self.markets.values()):
                break
            await asyncio.sleep(0.02)
        gc.collect()
        gc.freeze()
        count = sum(len(market.instruments) for market in self.markets.values())
        waiting = [f"{m.venue.name} {symbol}" for m in self.markets.values() for symbol in m.waiting_for()]
        self.ctx.ready(f"{count - len(waiting)} of {count} books")
        if waiting:
            self.ctx.degraded(f"books wait for their snapshots: {', '.join(waiting[:10])}")
            whole = False
            while not whole:
                await asyncio.sleep(0.25)
                whole = not any(market.waiting_for() for market in self.markets.values())
            self.ctx.recovered(f"{count} of {count} books")

    async def _publish_metrics(self) -> None:
        period_s = float(os.environ.get("ARB_TEST_FEED_METRICS_S", METRICS_S))
        while True:
            for market in self.markets.values():
                values = msgspec.structs.asdict(market.books.counters) | msgspec.structs.asdict(market.counters)
                values["connected"] = int(market.connected)
                values["cross_topic_lag_ms"] = market.lag_ms
                values["sockets"], values["twins"] = market.sockets, market.twins
                values["books_whole"] = len(market.instruments) - len(market.waiting_for())
                for instrument_id, digits in market.snapshots.wanted_digits.items():
                    values[f"{WANTED_DIGITS}.{instrument_id}"] = digits
                for name, value in values.items():
                    label = f"{market.venue.name}.{name}"
                    if label not in self._gauges:
                        self._gauges[label] = self.ctx.metrics.counter(label)
                    self.ctx.metrics.set(self._gauges[label], value)
            await asyncio.sleep(period_s)


def _instrument(row: InstrumentRow) -> FeedInstrument:
    return FeedInstrument(
        symbol=row.spec.symbol,
        book_index=row.book_index,
        instrument_id=row.instrument_id,
        price_exp=row.price_exp,
        qty_exp=row.qty_exp,
        row_epoch=row.row_epoch,
        multiplier=row.spec.multiplier,
    )


def _attach_catalogue(ctx: WorkerContext) -> CataloguePage:
    """The supervisor's catalogue page; waits up to 30 s for it, because systemd may start this process first."""
    deadline = mono_ns() + int(CATALOGUE_WAIT_S * 1e9)
    while True:
        try:
            return CataloguePage.attach(ctx.instance)
        except SegmentMissing:
            if mono_ns() > deadline or ctx.stop_requested():
                raise
            ctx.progress()
            time.sleep(0.05)


def run(ctx: WorkerContext) -> None:
    """The feed's life: wait for the catalogue, build the markets, feed them until SIGTERM."""
    process = FeedProcess(ctx)
    catalogue = _attach_catalogue(ctx)
    process.build(catalogue)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(process.run(catalogue))


def main(argv: Sequence[str] | None = None) -> int:
    """``python -m workers.feed --instance I --config F --exchange NAME``."""
    return run_worker("feed", run, argv)


if __name__ == "__main__":
    sys.exit(main())
