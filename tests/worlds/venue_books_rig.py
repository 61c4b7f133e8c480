"""Books of one venue on private words, frames of Binance's shape for them, and what their readers see."""

from __future__ import annotations

import json
from typing import Any

import numpy as np

from pipeline.book.memory import BOOKS, WATCH
from pipeline.book.results import FrameResult, SnapshotResult
from pipeline.book.venue_books import VenueBooks
from pipeline.exchanges.factory import feed_codec
from shm import bookring
from shm.layout import BOOK, feed_segment_words

CONN = 3


def spot_update(first: int, last: int, b: Any = (), a: Any = (), s: str = "BTCUSDT", **more: Any) -> bytes:
    body = {"e": "depthUpdate", "E": 1700000000000, "s": s, "U": first, "u": last, "b": b, "a": a, **more}
    return json.dumps(body).encode()


def snapshot(last: int, bids: Any = (("100.0", "1"),), asks: Any = (("101.0", "2"),)) -> bytes:
    return json.dumps({"lastUpdateId": last, "bids": bids, "asks": asks}).encode()


def ticker(last: int, b: str, bq: str, a: str, aq: str) -> bytes:
    return json.dumps({"u": last, "s": "BTCUSDT", "b": b, "B": bq, "a": a, "A": aq}).encode()


class Rig:
    """A venue's books on private words, and what its readers see."""

    def __init__(self, dialect: str = "binance", market: str = "spot", symbol: str = "BTCUSDT", **more: Any) -> None:
        self.words = np.zeros(feed_segment_words(4), dtype=np.int64)
        bookring.init_feed(self.words, 0, 4)
        self.generation = bookring.conn_open(self.words, 0, CONN, 1, 0)
        self.books = VenueBooks(codec=feed_codec(dialect, market), words=self.words, feed_off=0, venue_id=1, capacity=4)
        row = {"book_index": 2, "instrument_id": 77, "symbol": symbol, "price_exp": 4, "qty_exp": 4, "row_epoch": 9}
        self.books.add(**{**row, **more})
        self.time = 1000

    def frame(self, frame: bytes) -> FrameResult:
        self.time += 10
        return FrameResult(self.books.on_frame(frame, self.time, CONN))

    def snap(self, payload: bytes) -> SnapshotResult:
        self.time += 10
        return self.books.on_snapshot(2, payload, self.time, CONN)

    def read(self, book_index: int = 2) -> Any:
        out = np.zeros(BOOK.WORDS, dtype=np.int64)
        assert bookring.read_book(self.words, 0, book_index, out) > 0
        return out

    def flags(self) -> int:
        return int(self.read()[BOOK.flags])

    def live(self) -> Rig:
        """Synchronised at id 10 with 100.0 x 1 / 101.0 x 2, live at id 11."""
        assert self.frame(spot_update(9, 9)) is FrameResult.NEED_SNAPSHOT
        assert self.snap(snapshot(10)) is SnapshotResult.SYNCED
        assert self.frame(spot_update(11, 11)) is FrameResult.APPLIED
        return self


def watch_from(books: VenueBooks, conn: int, at_ns: int) -> None:
    """What the owner does when a connection opens."""
    row = BOOKS.connections + conn * WATCH.WORDS
    books.mem[row + WATCH.open] = books.mem[row + WATCH.on_time] = 1
    books.mem[row + WATCH.data_ns] = at_ns
