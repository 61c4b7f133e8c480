"""One venue's public side, feed included, against a simulated exchange."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager

import numpy as np
import pytest

from pipeline.exchanges.factory import feed_codec, make_public_stream, make_venue
from pipeline.exchanges.feed.connection import ConnectionRows, FeedConnection
from pipeline.exchanges.feed.kept_connection import KeptConnection, Twin
from pipeline.exchanges.feed.market_feed import MarketFeed
from pipeline.exchanges.feed.types import FeedInstrument, FeedSettings
from pipeline.model.clock import mono_ns
from pipeline.model.instruments import InstrumentRow, VenueRef, build_rows
from shm.bookring import init_feed, proof_mono_ns, read_book
from shm.layout import BOOK, FLAGS_UNTRADABLE, feed_segment_words
from shm.words import Words
from tests.worlds.exchange_world import World, world
from tests.worlds.waiting import until_async as until

CAPACITY = 32


class Bench:
    """One venue's feed over private memory."""

    def __init__(self, box: World, name: str, rows: list[InstrumentRow], settings: FeedSettings) -> None:
        self.box = box
        self.name = name
        self.rows = rows
        self.words: Words = np.zeros(feed_segment_words(CAPACITY), dtype=np.int64)
        init_feed(self.words, 0, CAPACITY)
        self.record: Words = np.zeros(BOOK.WORDS, dtype=np.int64)
        self.said: list[str] = []
        config = box.venue(name)
        self.feed = MarketFeed(
            venue=config,
            public=make_public_stream(config),
            client=make_venue(config),
            codec=feed_codec(config.dialect, config.market),
            words=self.words,
            feed_off=0,
            connection_rows=ConnectionRows(8),
            capacity=CAPACITY,
            settings=settings,
            say=lambda level, text: self.said.append(text),
        )

    def instrument(self, row: InstrumentRow) -> FeedInstrument:
        return FeedInstrument(
            symbol=row.spec.symbol,
            book_index=row.book_index,
            instrument_id=row.instrument_id,
            price_exp=row.price_exp,
            qty_exp=row.qty_exp,
            row_epoch=row.row_epoch,
            multiplier=row.spec.multiplier,
        )

    def read(self, row: InstrumentRow) -> Words:
        assert read_book(self.words, 0, row.book_index, self.record) > 0, f"{row.spec.symbol}: no book"
        return self.record

    def tradable(self, row: InstrumentRow) -> bool:
        if read_book(self.words, 0, row.book_index, self.record) <= 0:
            return False
        return not self.record[BOOK.flags] & FLAGS_UNTRADABLE and proof_mono_ns(self.words, 0, self.record) > 0

    def all_tradable(self) -> bool:
        return self.feed.synced and all(self.tradable(row) for row in self.rows)

    def equals_venue(self, row: InstrumentRow) -> bool:
        """Best prices equal to the simulator's own book at the same update id."""
        update_id, bids, asks = self.box.server.venues[self.name].depth(row.spec.symbol, 1)
        record = self.read(row)
        if record[BOOK.update_id] != update_id:
            return False
        places = self.box.server.venues[self.name].instruments[row.spec.symbol]
        bid = float(record[BOOK.bid_price_fp]) / 10**row.price_exp
        ask = float(record[BOOK.ask_price_fp]) / 10**row.price_exp
        tick = float(places.tick)
        assert bid == pytest.approx(bids[0][0] * tick) and ask == pytest.approx(asks[0][0] * tick), row.spec.symbol
        return True

    async def equal(self) -> None:
        """Every book was seen equal to the venue's at the same id."""
        waiting = {row.instrument_id: row for row in self.rows}

        def look() -> bool:
            for key, row in list(waiting.items()):
                if self.equals_venue(row):
                    del waiting[key]
            return not waiting

        await until(look, f"equality of {[row.spec.symbol for row in waiting.values()]}")

    async def moved(self, row: InstrumentRow) -> None:
        """The book has taken an update behind its snapshot: before, the snapshot may hold what a fault removes."""
        began = int(self.read(row)[BOOK.update_id])
        await until(lambda: int(self.read(row)[BOOK.update_id]) > began, f"an update of {row.spec.symbol}")


@asynccontextmanager
async def swallowing(it: Bench, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[list[asyncio.StreamWriter]]:
    """Whoever opens a stream meanwhile is taken and answered nothing, and its time does not run out: those that have
    come."""
    for name in ("OPEN_TIMEOUT_S", "HANDSHAKE_TIMEOUT_S"):
        monkeypatch.setattr(f"pipeline.exchanges.transport.websocket.{name}", 1e6)
    come: list[asyncio.StreamWriter] = []

    async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        come.append(writer)

    server, url = await asyncio.start_server(silent, "127.0.0.1", 0), it.feed.public.url
    it.feed.public.url = lambda: f"ws://127.0.0.1:{server.sockets[0].getsockname()[1]}/"  # type: ignore[method-assign]
    try:
        yield come
    finally:
        it.feed.public.url = url  # type: ignore[method-assign]
        server.close()
        for writer in come:
            writer.close()


@asynccontextmanager
async def bench(
    name: str, *, scenario: str = "demo", settings: FeedSettings | None = None, wait: bool = True, add: bool = True
) -> AsyncIterator[Bench]:
    async with world(scenario) as box:
        client = make_venue(box.venue(name))
        specs = await client.instruments(box.venue(name).symbols)
        await client.close()
        rows = build_rows(specs, [VenueRef(name=name, venue_id=0, feed_id=0)])
        it = Bench(box, name, rows, settings or FeedSettings())
        if add:
            for row in rows:
                it.feed.add(it.instrument(row))
        task = asyncio.ensure_future(it.feed.run())
        try:
            if wait:
                await until(it.all_tradable, "whole, proved books")
            yield it
            assert not task.done(), "the feed ended by itself"
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await it.feed.client.close()


def on(name: str, scenario: Callable[[Bench], Awaitable[None]], **options: object) -> None:
    async def body() -> None:
        async with bench(name, **options) as it:  # type: ignore[arg-type]
            await scenario(it)

    asyncio.run(body())


def parts(it: Bench) -> tuple[KeptConnection, Twin, FeedConnection, FeedConnection]:
    """The kept connection and its twin; the sockets of both."""
    (kept,) = it.feed._kept
    assert kept.twin is not None and kept.live is not None and kept.twin.connection is not None
    return kept, kept.twin, kept.live, kept.twin.connection


def beside_each_other(it: Bench) -> bool:
    (kept,) = it.feed._kept
    twin = kept.twin and kept.twin.connection
    return bool(kept.live and twin and twin.acked >= kept.live.acked)


async def at_rest(it: Bench) -> None:
    assert it.box.server.market is not None
    it.box.server.market.stop()
    await until(lambda: all(it.equals_venue(row) for row in it.rows), "the market at rest")


def push(it: Bench, row: InstrumentRow, over: FeedConnection, steps: int = 1, **more: object) -> None:
    """An update ``steps`` behind the book's newest one that changes nothing, over one of the connections."""
    number = int(it.read(row)[BOOK.update_id]) + steps
    result = {"t": it.box.server.venues[it.name].now_ms(), "s": row.spec.symbol, "U": number, "u": number}
    frame = {"channel": "spot.order_book_update", "event": "update", "result": {**result, "b": [], "a": [], **more}}
    it.feed._sink(over.conn)(memoryview(json.dumps(frame).encode()), True, mono_ns())
