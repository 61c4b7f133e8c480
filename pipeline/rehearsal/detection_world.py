"""A private world for detection tests: feed segments, catalogue rows and queues in plain arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from pipeline.detection.kernel_arrays import private_ports
from pipeline.detection.memory import DETECTOR_SETTINGS, FEED_READER, Memory
from pipeline.detection.scan_loop import scan_once
from pipeline.detection.thresholds import Terms
from pipeline.detection.topology import build_topology
from pipeline.model.catalogue_row import text_to_words
from pipeline.model.config import HedgeConfig
from pipeline.model.enums import FeeAssetRule, InstrumentKind, OpportunityType
from shm.bookring import conn_close, conn_frame, conn_open, init_feed, publish_book
from shm.layout import ABSENT_ASK, ABSENT_BID, BOOK, BOOK_DEPTH, CURSOR, HEADER, OPPORTUNITY, REPORT, feed_segment_words
from shm.layout_pages import (
    CAT_FLAG_DEPOSIT,
    CAT_FLAG_WITHDRAW,
    CATALOGUE_ROW,
    CATALOGUE_TEXT_WORDS,
    INVENTORY,
    INVENTORY_ROW,
)
from shm.pages import write_row
from shm.queue import init_queue, pop, push, queue_words

Levels = list[tuple[int, int]]
BOOKS = 16
QUEUE = 64
PRICE_EXP = 2
QTY_EXP = 4
NOW = 1_000_000_000_000


@dataclass
class Listing:
    """One instrument; integers are fixed point at the rig's exponents unless said otherwise."""

    feed: int = 0
    pair: str = "BTC/USDT"
    kind: InstrumentKind = InstrumentKind.SPOT
    fee_ppm: int = 0
    rule: FeeAssetRule = FeeAssetRule.QUOTE
    lot: int = 1
    min_qty: int = 0
    max_qty: int = 0
    min_notional: int = 0
    status: int = 0
    flags: int = CAT_FLAG_DEPOSIT | CAT_FLAG_WITHDRAW
    pair_id: int = 0
    price_exp: int = PRICE_EXP
    qty_exp: int = QTY_EXP
    funding_ppb: int = 0
    funding_interval_s: int = 0
    venue: int = -1  # default: the feed


def catalogue_rows(listings: list[Listing]) -> np.ndarray:
    rows = np.zeros((len(listings), CATALOGUE_ROW.WORDS), dtype=np.int64)
    next_book: dict[int, int] = {}
    for index, listing in enumerate(listings):
        row = rows[index]
        row[CATALOGUE_ROW.venue] = listing.feed if listing.venue < 0 else listing.venue
        row[CATALOGUE_ROW.feed] = listing.feed
        row[CATALOGUE_ROW.book_index] = next_book.setdefault(listing.feed, 0)
        next_book[listing.feed] += 1
        row[CATALOGUE_ROW.pair] = listing.pair_id
        row[CATALOGUE_ROW.kind] = listing.kind
        row[CATALOGUE_ROW.status] = listing.status
        row[CATALOGUE_ROW.price_exp], row[CATALOGUE_ROW.qty_exp] = listing.price_exp, listing.qty_exp
        row[CATALOGUE_ROW.tick_fp] = 1
        row[CATALOGUE_ROW.lot_fp] = listing.lot
        row[CATALOGUE_ROW.min_qty_fp], row[CATALOGUE_ROW.max_qty_fp] = listing.min_qty, listing.max_qty
        row[CATALOGUE_ROW.min_notional_fp] = listing.min_notional
        row[CATALOGUE_ROW.taker_fee_ppm] = listing.fee_ppm
        row[CATALOGUE_ROW.fee_asset_rule] = listing.rule
        row[CATALOGUE_ROW.multiplier_fp] = 10**listing.qty_exp
        row[CATALOGUE_ROW.row_epoch] = 1
        row[CATALOGUE_ROW.funding_rate_ppb] = listing.funding_ppb
        row[CATALOGUE_ROW.funding_interval_s] = listing.funding_interval_s
        row[CATALOGUE_ROW.flags] = listing.flags
        row[CATALOGUE_ROW.symbol : CATALOGUE_ROW.symbol + CATALOGUE_TEXT_WORDS] = text_to_words(
            f"S{index}", CATALOGUE_TEXT_WORDS
        )
        row[CATALOGUE_ROW.pair_text : CATALOGUE_ROW.pair_text + CATALOGUE_TEXT_WORDS] = text_to_words(
            listing.pair, CATALOGUE_TEXT_WORDS
        )
    return rows


def book_record(bids: Levels, asks: Levels, **fields: int) -> np.ndarray:
    """int64[BOOK.WORDS] from (price, qty) levels, best first."""
    record = np.zeros(BOOK.WORDS, dtype=np.int64)
    record[BOOK.bid_price_fp : BOOK.bid_price_fp + BOOK_DEPTH] = ABSENT_BID
    record[BOOK.ask_price_fp : BOOK.ask_price_fp + BOOK_DEPTH] = ABSENT_ASK
    record[BOOK.bid_count], record[BOOK.ask_count] = len(bids), len(asks)
    for k, (price, qty) in enumerate(bids):
        record[BOOK.bid_price_fp + k], record[BOOK.bid_qty_fp + k] = price, qty
    for k, (price, qty) in enumerate(asks):
        record[BOOK.ask_price_fp + k], record[BOOK.ask_qty_fp + k] = price, qty
    record[BOOK.row_epoch] = 1
    record[BOOK.publish_mono_ns] = 1
    for name, value in fields.items():
        record[getattr(BOOK, name)] = value
    return record


def terms(**changes: object) -> Terms:
    values: dict[str, object] = {
        "types": tuple(OpportunityType),
        "min_edge": Fraction(0),
        "execute_edge": Fraction(0),
        "hedge": HedgeConfig(),
        "max_notional_usd": 1e9,
        "entry_only": True,
    }
    values.update(changes)
    return Terms(**values)  # type: ignore[arg-type]


@dataclass
class World:
    """Feeds, catalogue rows, queues and the memory of a detector that has never scanned; ``books``: rows a feed."""

    listings: list[Listing]
    terms: Terms = field(default_factory=terms)
    inventory: bool = False
    usd_rates: dict[str, float] = field(default_factory=dict)
    queue_capacity: int = QUEUE
    books: int = BOOKS

    def __post_init__(self) -> None:
        feed_count = 1 + max(listing.feed for listing in self.listings)
        self.rows = catalogue_rows(self.listings)
        self.feed_words = feed_segment_words(self.books)
        self.feeds = np.zeros(feed_count * self.feed_words, dtype=np.int64)
        self.topology = build_topology(
            self.rows, self.terms, feed_count=feed_count, book_capacity=self.books, usd_rates=self.usd_rates
        )
        self.memory = Memory(self.topology, feed_count=feed_count)
        self.mem, self.flt = self.memory.mem, self.memory.flt
        self.generations = []
        for feed in range(feed_count):
            offset = feed * self.feed_words
            self.feeds[offset + HEADER.epoch] = 1
            init_feed(self.feeds, offset, self.books)
            self.generations.append(int(conn_open(self.feeds, offset, 0, feed, 0)))
            self.memory.feeds[feed, FEED_READER.feed_off] = offset
        reports = np.zeros(queue_words(QUEUE, REPORT.WORDS), dtype=np.int64)
        init_queue(reports, 0, QUEUE, REPORT.WORDS, 0)
        inventory = np.zeros(INVENTORY.END, dtype=np.int64) if self.inventory else None
        self.ports = private_ports(self.feeds, capacity=self.queue_capacity, inventory=inventory)._replace(
            reports=reports, reports_cursor=np.zeros(CURSOR.END, dtype=np.int64)
        )
        self.now(NOW)
        self.mem[DETECTOR_SETTINGS.max_age_ns] = 100_000_000
        self.mem[DETECTOR_SETTINGS.max_skew_ns] = 150_000_000
        self.mem[DETECTOR_SETTINGS.cooldown_ns] = 250_000_000
        self.mem[DETECTOR_SETTINGS.recheck_ns] = 1_000_000
        self.mem[DETECTOR_SETTINGS.next_id] = 1

    def now(self, ns: int) -> None:
        """Sets the detector's clock, monotonic ns; 0 gives it back the machine's."""
        self.mem[DETECTOR_SETTINGS.now_ns] = ns

    def publish(self, instrument: int, bids: Levels, asks: Levels, **fields: int) -> None:
        """Publishes a book of ``instrument`` received now, on its feed's connection, and its frame."""
        feed = self.listings[instrument].feed
        now = int(self.mem[DETECTOR_SETTINGS.now_ns])
        values = {
            "instrument": instrument,
            "recv_mono_ns": now,
            "conn": 0,
            "conn_generation": self.generations[feed],
            **fields,
        }
        record = book_record(bids, asks, **values)
        publish_book(self.feeds, feed * self.feed_words, int(self.rows[instrument, CATALOGUE_ROW.book_index]), record)
        self.frame(feed, values["recv_mono_ns"])

    def frame(self, feed: int, ns: int) -> None:
        """A frame without an update came in on the feed's connection at ``ns``: it proves the feed's books."""
        conn_frame(self.feeds, feed * self.feed_words, 0, ns)

    def disconnect(self, feed: int) -> None:
        """The feed's connection is gone: its books are unproved."""
        conn_close(self.feeds, feed * self.feed_words, 0)

    def set_inventory(self, instrument: int, *, buy: float, sell: int, state: int = 1, blocked_ns: int = 0) -> None:
        """What may be bought for (``buy``, quote) and sold (``sell``, qty_fp); only in a world with ``inventory``.
        ``state`` 0: nothing; ``blocked_ns``: no new intent on a book received before it."""
        row = np.zeros(INVENTORY_ROW.WORDS, dtype=np.int64)
        row[INVENTORY_ROW.buy_notional] = np.float64(buy).view(np.int64)
        row[INVENTORY_ROW.sell_qty_fp] = sell
        row[INVENTORY_ROW.state] = state
        row[INVENTORY_ROW.blocked_until_mono_ns] = blocked_ns
        write_row(self.ports.inventory, INVENTORY.rows + instrument * INVENTORY_ROW.WORDS, row)

    def report(self, key: int, cooldown_until_ns: int, outcome: int = 0) -> None:
        """The executor's answer to an opportunity of the direction ``key``: nothing more of it before
        ``cooldown_until_ns``."""
        payload = np.zeros(REPORT.WORDS, dtype=np.int64)
        payload[REPORT.direction_key] = key
        payload[REPORT.outcome] = outcome
        payload[REPORT.cooldown_until_mono_ns] = cooldown_until_ns
        assert push(self.ports.reports, 0, self.ports.reports_cursor, 0, payload)

    def scan(self) -> list[np.ndarray]:
        """One pass; the opportunities that it pushed, each int64[OPPORTUNITY.WORDS]."""
        scan_once(self.ports, self.mem, self.flt)
        found = []
        out = np.zeros(OPPORTUNITY.WORDS, dtype=np.int64)
        while pop(self.ports.opps, 0, self.ports.opps_cursor, 0, out):
            found.append(out.copy())
        return found

    def counter(self, index: int) -> int:
        """Word ``index`` of the detector's memory, as ``DETECTOR_COUNTERS.active``."""
        return int(self.mem[index])
