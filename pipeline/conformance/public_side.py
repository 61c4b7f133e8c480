"""Market data of a dialect against its simulated venue: lists, precision, books, gaps, lost connections, limits."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from decimal import Decimal

import msgspec
import numpy as np

from pipeline.conformance.venue import Checked, need, until
from pipeline.exchanges.factory import feed_codec, make_public_stream, make_venue
from pipeline.exchanges.feed.connection import ConnectionRows
from pipeline.exchanges.feed.market_feed import MarketFeed
from pipeline.exchanges.feed.types import FeedInstrument, FeedSettings
from pipeline.model.errors import GatewayRefused, OutcomeUnknown, RateLimited, VenueError, VenueUnavailable
from pipeline.model.fixedpoint import from_fp
from pipeline.model.instruments import InstrumentRow, VenueRef, build_rows
from shm.bookring import init_feed, proof_mono_ns, read_book
from shm.layout import BOOK, FLAGS_UNTRADABLE, feed_segment_words
from shm.words import Words

_CAPACITY = 8
CLOCK_APART_MS = 2_000


async def lists(it: Checked) -> None:
    """Instruments as the venue has them, exact; unlisted ones left out; the clock; the list of everything."""
    server_ms = await it.client.server_time_ms()
    need(abs(server_ms - it.sim.now_ms()) < CLOCK_APART_MS, f"server time: found {server_ms}, wanted the venue's clock")
    symbols = list(it.config.symbols)
    specs = await it.client.instruments([symbols[0], it.facts.spell("NOSUCH", "USDT"), *symbols[1:]])
    need([one.symbol for one in specs] == symbols, f"instruments: found {[one.symbol for one in specs]}")
    for spec in specs:
        own = it.sim.instruments[spec.symbol]
        found = (spec.base, spec.quote, spec.kind, spec.tick, spec.lot)
        wanted = (own.base, own.quote, own.kind, own.tick, own.lot)
        need(found == wanted, f"{spec.symbol}: found {found}, wanted {wanted}")
        least = spec.min_notional or own.min_notional  # not every market has such a field
        need(least == own.min_notional, f"{spec.symbol}: least amount {least}, wanted {own.min_notional}")
        need(spec.reference_price > 0, f"{spec.symbol}: no reference price")
        need(re.fullmatch(it.facts.symbol_form, spec.symbol), f"{spec.symbol}: not of the manifest's symbol_form")
    listed = {(one.symbol, one.base, one.quote) for one in await it.client.listing()}
    wanted_rows = {(row.symbol, row.base, row.quote) for row in it.sim.instruments.values()}
    need(listed == wanted_rows, f"listing: found {sorted(listed)}, wanted {sorted(wanted_rows)}")


async def questions(it: Checked) -> None:
    """What is refused, lost or answered by a gateway, for a question that needs no key."""
    symbol = it.config.symbols[0]
    snapshot = feed_codec(it.dialect, it.market).reference_snapshot(await it.client.depth_snapshot(symbol))
    need(snapshot.bids and snapshot.asks, "depth snapshot: found an empty side")
    cases: tuple[tuple[dict[str, object], type[VenueError]], ...] = (
        ({"kind": "rate_limit", "target": "depth", "retry_after_s": 0.0}, RateLimited),
        ({"kind": "http_error", "target": "depth"}, OutcomeUnknown),
        ({"kind": "gateway_page", "target": "depth"}, GatewayRefused),
    )
    for rule, wanted in cases:
        client = make_venue(it.config)  # a silence that one answer asked for must not hide the next
        it.fault(**rule)
        try:
            await client.depth_snapshot(symbol)
        except VenueError as error:
            need(isinstance(error, wanted), f"{rule['kind']}: found {type(error).__name__}, wanted {wanted.__name__}")
            limited = wanted is RateLimited
            need(client.rate_limit_hits == limited, f"{rule['kind']}: {client.rate_limit_hits} hits of the rate limit")
        else:
            need(False, f"{rule['kind']}: found an answer, wanted {wanted.__name__}")
        finally:
            await client.close()
            it.end_faults()


class FeedBench:
    """The feed of the venue over memory of its own."""

    def __init__(self, it: Checked, rows: list[InstrumentRow]) -> None:
        self.it = it
        self.rows = rows
        self.words: Words = np.zeros(feed_segment_words(_CAPACITY), dtype=np.int64)
        init_feed(self.words, 0, _CAPACITY)
        self.record: Words = np.zeros(BOOK.WORDS, dtype=np.int64)
        self.said: list[str] = []
        self.running: asyncio.Future[None] | None = None
        self.feed = MarketFeed(
            venue=it.config,
            public=make_public_stream(it.config),
            client=make_venue(it.config),
            codec=feed_codec(it.dialect, it.market),
            words=self.words,
            feed_off=0,
            connection_rows=ConnectionRows(_CAPACITY),
            capacity=_CAPACITY,
            settings=FeedSettings(),
            say=lambda level, text: self.said.append(text),
        )
        for row in rows:
            self.feed.add(
                FeedInstrument(
                    symbol=row.spec.symbol,
                    book_index=row.book_index,
                    instrument_id=row.instrument_id,
                    price_exp=row.price_exp,
                    qty_exp=row.qty_exp,
                    row_epoch=row.row_epoch,
                    multiplier=row.spec.multiplier,
                )
            )

    def whole(self) -> bool:
        """Every book is proved and may be traded on."""
        for row in self.rows:
            if read_book(self.words, 0, row.book_index, self.record) <= 0:
                return False
            if self.record[BOOK.flags] & FLAGS_UNTRADABLE or proof_mono_ns(self.words, 0, self.record) <= 0:
                return False
        return self.feed.synced

    def equal(self, row: InstrumentRow) -> bool:
        """Best prices and quantities of a book are the venue's own, exactly, at this moment."""
        if read_book(self.words, 0, row.book_index, self.record) <= 0:
            return False
        _, bids, asks = self.it.sim.depth(row.spec.symbol, 1)
        own = self.it.sim.instruments[row.spec.symbol]
        for side, (price_fp, qty_fp) in (
            (bids, (BOOK.bid_price_fp, BOOK.bid_qty_fp)),
            (asks, (BOOK.ask_price_fp, BOOK.ask_qty_fp)),
        ):
            if not side:
                return False
            price = from_fp(int(self.record[price_fp]), row.price_exp)
            qty = from_fp(int(self.record[qty_fp]), row.qty_exp)
            if price != side[0][0] * own.tick or qty != Decimal(side[0][1]) * own.unit:
                return False
        return True

    async def until(self, condition: Callable[[], object], said: str) -> None:
        """Waits for a condition, for as long as the feed runs."""
        await until(lambda: self._ended() or condition(), f"{said}; the feed said {self.said[-3:]}")
        self.still_runs()

    def _ended(self) -> bool:
        return self.running is not None and self.running.done()

    def still_runs(self) -> None:
        """Raises what ended the feed: it must not end by itself."""
        if self.running is not None and self.running.done():
            self.running.result()  # raises what it raised
            need(False, f"the feed ended by itself; it said {self.said[-3:]}")

    async def all_equal(self, when: str) -> None:
        """Each book is seen to equal the venue's."""
        await self.until(self.whole, f"whole, proved books {when}")
        for row in self.rows:
            await self.until(lambda row=row: self.equal(row), f"{row.spec.symbol} equal to the venue's book {when}")  # type: ignore[misc]


@asynccontextmanager
async def feed_bench(it: Checked, *strange: FeedInstrument) -> AsyncIterator[FeedBench]:
    """A running feed; ``strange``: instruments beside those of the venue."""
    specs = await it.client.instruments(it.config.symbols)
    bench = FeedBench(it, build_rows(specs, [VenueRef(name=it.name, venue_id=0, feed_id=0)]))
    for instrument in strange:
        bench.feed.add(instrument)
    task = bench.running = asyncio.ensure_future(bench.feed.run())
    try:
        yield bench
        bench.still_runs()
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)
        await bench.feed.client.close()


async def books(it: Checked) -> None:
    """Books equal the venue's own; lost, doubled and damaged frames and a lost connection are noticed and mended."""
    async with feed_bench(it) as bench:
        await bench.all_equal("at the start")
        counters = bench.feed.counters
        need(counters.bad_frames == 0 and bench.feed.books.counters.rejected == 0, "frames of a healthy venue refused")
        need(bench.feed.books.counters.fast_path > 0, "no frame was read by the scanner")
        gaps = bench.feed.books.counters.gaps
        it.fault(kind="drop_delta", target="depth", symbol=it.config.symbols[0])
        await bench.until(lambda: bench.feed.books.counters.gaps > gaps, "the gap of a lost update")
        await bench.all_equal("after a lost update")
        dropped = bench.feed.books.counters.dropped
        it.fault(kind="duplicate_delta", target="depth", count=3)
        await bench.until(lambda: bench.feed.books.counters.dropped >= dropped + 3, "doubled updates that are dropped")
        await bench.all_equal("after doubled updates")
        it.fault(kind="corrupt", target="public", count=1)
        await bench.until(lambda: counters.bad_frames > 0, "a damaged frame that is refused")
        await bench.all_equal("after a damaged frame")
        lost = counters.disconnects
        it.fault(kind="disconnect", target="public")
        await bench.until(lambda: counters.disconnects > lost, "a lost connection that is noticed")
        await bench.all_equal("after a lost connection")


async def unknown_symbol(it: Checked) -> None:
    """A topic of a symbol that the venue does not have costs the others nothing."""
    strange = FeedInstrument(
        symbol=it.facts.spell("NOSUCH", "USDT"), book_index=7, instrument_id=7, price_exp=2, qty_exp=2, row_epoch=1
    )
    async with feed_bench(it, strange) as bench:
        for row in bench.rows:
            await bench.until(lambda row=row: bench.equal(row), f"{row.spec.symbol} beside an unknown symbol")  # type: ignore[misc]


async def dead_venue(it: Checked) -> None:
    """Nobody listens: nothing was sent, in the engine's words."""
    gone = make_venue(msgspec.structs.replace(it.config, rest="http://127.0.0.1:1"))
    try:
        await gone.server_time_ms()
    except VenueUnavailable:
        return
    finally:
        await gone.close()
    need(False, "a dead address: found an answer, wanted VenueUnavailable")
