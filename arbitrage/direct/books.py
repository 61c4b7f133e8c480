"""Books of one venue in this process: one answer read, or all of its changes followed by the engine's own feed."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncGenerator, Sequence
from decimal import Decimal

import numpy as np

from arbitrage.direct.structs import OrderBook, PriceLevel
from pipeline.book.codec import Level
from pipeline.exchanges.factory import feed_codec, make_public_stream, make_venue
from pipeline.exchanges.feed.connection import ConnectionRows
from pipeline.exchanges.feed.market_feed import MarketFeed
from pipeline.exchanges.feed.types import FeedInstrument
from pipeline.model.config import VenueConfig
from pipeline.model.errors import BadInput
from pipeline.model.fixedpoint import from_fp
from pipeline.model.instruments import InstrumentRow, VenueRef, build_rows
from pipeline.model.structs import InstrumentSpec
from shm.bookring import init_feed, read_book
from shm.layout import BOOK, CONN_CAPACITY, FLAGS_UNTRADABLE, feed_segment_words
from shm.words import Words

SYMBOLS_MAX = 64  # of one object; an engine's feed has more
_log = logging.getLogger(__name__)
_LEVELS = {"debug": logging.DEBUG, "info": logging.INFO, "warning": logging.WARNING, "error": logging.ERROR}


def book_of(venue: VenueConfig, spec: InstrumentSpec, payload: bytes, limit: int, recv_mono_ns: int) -> OrderBook:
    """A REST order book as its dialect reads it, at most ``limit`` levels a side. Raises ``ProtocolViolation``."""
    found = feed_codec(venue.dialect, venue.market).reference_snapshot(payload)
    bids = sorted(_levels(found.bids, spec.multiplier), reverse=True)
    asks = sorted(_levels(found.asks, spec.multiplier))
    return OrderBook(
        venue=venue.name,
        symbol=spec.symbol,
        bids=tuple(bids[:limit]),
        asks=tuple(asks[:limit]),
        update_id=0 if make_public_stream(venue).whole_books_pushed else found.last,  # those number their pushes alone
        recv_mono_ns=recv_mono_ns,
    )


def _levels(levels: Sequence[Level], multiplier: Decimal) -> list[PriceLevel]:
    return [
        (Decimal(price).scaleb(-digits), Decimal(qty).scaleb(-places) * multiplier)
        for (price, digits), (qty, places) in levels
        if qty
    ]


class BookStream:
    """Follows books over the venue's streams, in memory of this process; the best 20 levels a side."""

    def __init__(self, venue: VenueConfig) -> None:
        self._venue = venue
        self._words: Words = np.zeros(feed_segment_words(SYMBOLS_MAX), dtype=np.int64)
        self._record: Words = np.zeros(BOOK.WORDS, dtype=np.int64)
        init_feed(self._words, 0, SYMBOLS_MAX)
        self._rows: list[InstrumentRow] = []
        self._changed: list[asyncio.Event] = []
        self._feed = MarketFeed(
            venue=venue,
            public=make_public_stream(venue),
            client=make_venue(venue),
            codec=feed_codec(venue.dialect, venue.market),
            words=self._words,
            feed_off=0,
            connection_rows=ConnectionRows(CONN_CAPACITY),
            capacity=SYMBOLS_MAX,
            say=lambda level, text: _log.log(_LEVELS.get(level, logging.INFO), "%s", text),
            on_frame_done=self._frame_done,
        )
        self._task: asyncio.Task[None] | None = None

    async def follow(self, specs: Sequence[InstrumentSpec]) -> AsyncGenerator[OrderBook, None]:
        """Each book of ``specs`` when it is first whole, and whenever it has changed: the newest, not every step.

        Ends with :meth:`close`. Raises BadInput for more symbols than it takes, and what has ended the feed."""
        rows = [self._row(spec) for spec in specs]
        changed = asyncio.Event()
        self._changed.append(changed)
        if self._task is None:
            self._task = asyncio.create_task(self._feed.run())
        seen: dict[int, int] = {}
        try:
            while not self._task.done():
                changed.clear()
                for row in rows:
                    book = self._newest(row, seen)
                    if book is not None:
                        yield book
                if not changed.is_set():
                    waiting = asyncio.ensure_future(changed.wait())
                    await asyncio.wait([waiting, self._task], return_when=asyncio.FIRST_COMPLETED)
                    waiting.cancel()
            if not self._task.cancelled():
                self._task.result()  # raises what ended the feed
        finally:
            self._changed.remove(changed)

    def _row(self, spec: InstrumentSpec) -> InstrumentRow:
        for row in self._rows:
            if row.spec.symbol == spec.symbol:
                return row
        if len(self._rows) == SYMBOLS_MAX:
            raise BadInput(f"{self._venue.name}: found more than {SYMBOLS_MAX} symbols; an engine's feed takes more")
        self._rows = build_rows([spec], [VenueRef(name=self._venue.name, venue_id=0, feed_id=0)], existing=self._rows)
        row = self._rows[-1]
        self._feed.add(
            FeedInstrument(
                symbol=spec.symbol,
                book_index=row.book_index,
                instrument_id=row.instrument_id,
                price_exp=row.price_exp,
                qty_exp=row.qty_exp,
                row_epoch=row.row_epoch,
                multiplier=spec.multiplier,
            )
        )
        return row

    def _frame_done(self, _recv_mono_ns: int) -> None:
        for changed in self._changed:
            changed.set()

    def _newest(self, row: InstrumentRow, seen: dict[int, int]) -> OrderBook | None:
        """The row's book where it is another than ``seen`` says, and whole."""
        record = self._record
        number = int(read_book(self._words, 0, row.book_index, record))
        if number <= 0 or number == seen.get(row.instrument_id) or int(record[BOOK.flags]) & FLAGS_UNTRADABLE:
            return None
        seen[row.instrument_id] = number
        return OrderBook(
            venue=self._venue.name,
            symbol=row.spec.symbol,
            bids=_side(record, row, BOOK.bid_price_fp, BOOK.bid_qty_fp, BOOK.bid_count),
            asks=_side(record, row, BOOK.ask_price_fp, BOOK.ask_qty_fp, BOOK.ask_count),
            update_id=int(record[BOOK.update_id]),
            recv_mono_ns=int(record[BOOK.recv_mono_ns]),
        )

    async def close(self) -> None:
        """Ends the connections; whoever follows sees the end of its books."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._feed.client.close()


def _side(record: Words, row: InstrumentRow, price_at: int, qty_at: int, count_at: int) -> tuple[PriceLevel, ...]:
    return tuple(
        (from_fp(int(record[price_at + i]), row.price_exp), from_fp(int(record[qty_at + i]), row.qty_exp))
        for i in range(int(record[count_at]))
    )
