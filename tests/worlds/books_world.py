"""Two feeds in shared memory with one book each, and their catalogue page."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import numpy as np

from pipeline.model.catalogue_row import row_to_words
from pipeline.model.config import EngineConfig
from pipeline.model.config_load import config_from_mapping
from pipeline.rehearsal.instruments import rows_for, spec
from shm.atomics import mono_ns
from shm.bookring import conn_open, create_feed, publish_book
from shm.layout import BOOK, FEED_BOOK_CAPACITY_DEFAULT
from shm.pages import CataloguePage
from shm.segment import Segment

_NOWHERE = {"rest": "http://127.0.0.1:1", "ws": "ws://127.0.0.1:1", "symbols": ["S"]}
_EXCHANGES: dict[str, Any] = {name: {"dialect": "mexc", "markets": {"spot": _NOWHERE}} for name in ("aa", "bb")}


def config_with(**exchanges: Any) -> EngineConfig:
    """The configuration of the two feeds, and of more exchanges."""
    return config_from_mapping({"engine_name": "t-x", "mode": "sim", "exchanges": {**_EXCHANGES, **exchanges}})


def gateio(**changes: Any) -> dict[str, Any]:
    """An exchange with both markets at which nobody answers."""
    return {"dialect": "gateio", "markets": {"spot": _NOWHERE, "futures": _NOWHERE}, **changes}


CONFIG = config_with()
FUTURE_NS = 10**12


class BooksWorld:
    """Two feeds with one book each, and the catalogue."""

    def __init__(self, instance: str) -> None:
        self.instance = instance
        specs = [spec(f"{name}_spot", "S", lot=Decimal("0.001"), min_qty=Decimal(0)) for name in ("aa", "bb")]
        self.rows = rows_for(CONFIG, specs)
        self.page = CataloguePage.create(instance)
        for row in self.rows:
            self.page.append(row_to_words(row))
        self.feeds: list[Segment] = [create_feed(instance, name, FEED_BOOK_CAPACITY_DEFAULT) for name in ("aa", "bb")]
        self.generations = [int(conn_open(feed.words, 0, 0, i, 0)) for i, feed in enumerate(self.feeds)]

    def publish(
        self,
        feed: int,
        bid: str,
        ask: str,
        *,
        recv_mono_ns: int | None = None,
        flags: int = 0,
        instrument: int | None = None,
    ) -> None:
        row = self.rows[feed]
        record = np.zeros(BOOK.WORDS, dtype=np.int64)
        record[BOOK.instrument] = row.instrument_id if instrument is None else instrument
        record[BOOK.flags] = flags
        record[BOOK.update_id] = 7
        record[BOOK.writer_epoch] = self.feeds[feed].epoch
        # by default received in the future: a slow host does not make the book old
        record[BOOK.recv_mono_ns] = int(mono_ns()) + FUTURE_NS if recv_mono_ns is None else recv_mono_ns
        record[BOOK.conn_generation] = self.generations[feed]
        record[BOOK.bid_count] = record[BOOK.ask_count] = 1
        record[BOOK.row_epoch] = 1
        record[BOOK.bid_price_fp] = int(Decimal(bid).scaleb(row.price_exp))
        record[BOOK.bid_qty_fp] = int(Decimal(2).scaleb(row.qty_exp))
        record[BOOK.ask_price_fp] = int(Decimal(ask).scaleb(row.price_exp))
        record[BOOK.ask_qty_fp] = int(Decimal(3).scaleb(row.qty_exp))
        publish_book(self.feeds[feed].words, 0, row.book_index, record)

    def close(self) -> None:
        for feed in self.feeds:
            feed.close()
        self.page.close()
