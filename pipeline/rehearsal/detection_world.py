"""A private world for detection tests: feed segments, catalogue rows and queues in plain arrays."""

from __future__ import annotations

from dataclasses import dataclass, field
from fractions import Fraction

import numpy as np

from pipeline.detection.kernel_arrays import private_ports
from pipeline.detection.memory import (
    FD_OFF,
    SE_COOLDOWN_NS,
    SE_MAX_AGE_NS,
    SE_MAX_SKEW_NS,
    SE_NEXT_ID,
    SE_NOW_NS,
    SE_RECHECK_NS,
    Memory,
)
from pipeline.detection.scan_loop import scan_once
from pipeline.detection.thresholds import Terms
from pipeline.detection.topology import build_topology
from pipeline.model.catalogue_row import text_to_words
from pipeline.model.config import HedgeConfig
from pipeline.model.enums import FeeAssetRule, InstrumentKind, OpportunityType
from shm import layout as ly
from shm.bookring import conn_close, conn_frame, conn_open, init_feed, publish_book
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
    flags: int = ly.CAT_FLAG_DEPOSIT | ly.CAT_FLAG_WITHDRAW
    pair_id: int = 0
    price_exp: int = PRICE_EXP
    qty_exp: int = QTY_EXP
    funding_ppb: int = 0
    funding_interval_s: int = 0
    venue: int = -1  # default: the feed


def catalogue_rows(listings: list[Listing]) -> np.ndarray:
    rows = np.zeros((len(listings), ly.CATALOGUE_ROW_WORDS), dtype=np.int64)
    next_book: dict[int, int] = {}
    for index, listing in enumerate(listings):
        row = rows[index]
        row[ly.CR_VENUE] = listing.feed if listing.venue < 0 else listing.venue
        row[ly.CR_FEED] = listing.feed
        row[ly.CR_BOOK_INDEX] = next_book.setdefault(listing.feed, 0)
        next_book[listing.feed] += 1
        row[ly.CR_PAIR] = listing.pair_id
        row[ly.CR_KIND] = listing.kind
        row[ly.CR_STATUS] = listing.status
        row[ly.CR_PRICE_EXP], row[ly.CR_QTY_EXP] = listing.price_exp, listing.qty_exp
        row[ly.CR_TICK_FP] = 1
        row[ly.CR_LOT_FP] = listing.lot
        row[ly.CR_MIN_QTY_FP], row[ly.CR_MAX_QTY_FP] = listing.min_qty, listing.max_qty
        row[ly.CR_MIN_NOTIONAL_FP] = listing.min_notional
        row[ly.CR_TAKER_FEE_PPM] = listing.fee_ppm
        row[ly.CR_FEE_ASSET_RULE] = listing.rule
        row[ly.CR_MULTIPLIER_FP] = 10**listing.qty_exp
        row[ly.CR_ROW_EPOCH] = 1
        row[ly.CR_FUNDING_RATE_PPB] = listing.funding_ppb
        row[ly.CR_FUNDING_INTERVAL_S] = listing.funding_interval_s
        row[ly.CR_FLAGS] = listing.flags
        row[ly.CR_SYMBOL : ly.CR_SYMBOL + ly.CR_SYMBOL_WORDS] = text_to_words(f"S{index}", ly.CR_SYMBOL_WORDS)
        row[ly.CR_PAIR_TEXT : ly.CR_PAIR_TEXT + ly.CR_PAIR_TEXT_WORDS] = text_to_words(
            listing.pair, ly.CR_PAIR_TEXT_WORDS
        )
    return rows


def book_record(bids: Levels, asks: Levels, **fields: int) -> np.ndarray:
    """int64[96] from (price, qty) levels, best first."""
    record = np.zeros(ly.BOOK_RECORD_WORDS, dtype=np.int64)
    record[ly.BR_BID_PRICE : ly.BR_BID_PRICE + ly.BOOK_DEPTH] = ly.ABSENT_BID
    record[ly.BR_ASK_PRICE : ly.BR_ASK_PRICE + ly.BOOK_DEPTH] = ly.ABSENT_ASK
    record[ly.BR_BID_COUNT], record[ly.BR_ASK_COUNT] = len(bids), len(asks)
    for k, (price, qty) in enumerate(bids):
        record[ly.BR_BID_PRICE + k], record[ly.BR_BID_QTY + k] = price, qty
    for k, (price, qty) in enumerate(asks):
        record[ly.BR_ASK_PRICE + k], record[ly.BR_ASK_QTY + k] = price, qty
    record[ly.BR_ROW_EPOCH] = 1
    record[ly.BR_PUBLISH_MONO_NS] = 1
    for name, value in fields.items():
        record[getattr(ly, f"BR_{name.upper()}")] = value
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
        self.feed_words = ly.feed_segment_words(self.books)
        self.feeds = np.zeros(feed_count * self.feed_words, dtype=np.int64)
        self.topology = build_topology(
            self.rows, self.terms, feed_count=feed_count, book_capacity=self.books, usd_rates=self.usd_rates
        )
        self.memory = Memory(self.topology, feed_count=feed_count)
        self.mem, self.flt = self.memory.mem, self.memory.flt
        self.generations = []
        for feed in range(feed_count):
            offset = feed * self.feed_words
            self.feeds[offset + ly.SEG_EPOCH] = 1
            init_feed(self.feeds, offset, self.books)
            self.generations.append(int(conn_open(self.feeds, offset, 0, feed, 0)))
            self.memory.feeds[feed, FD_OFF] = offset
        reports = np.zeros(queue_words(QUEUE, ly.REPORT_WORDS), dtype=np.int64)
        init_queue(reports, 0, QUEUE, ly.REPORT_WORDS, 0)
        inventory = np.zeros(ly.INVENTORY_WORDS, dtype=np.int64) if self.inventory else None
        self.ports = private_ports(self.feeds, capacity=self.queue_capacity, inventory=inventory)._replace(
            reports=reports, reports_cursor=np.zeros(ly.C_WORDS, dtype=np.int64)
        )
        self.now(NOW)
        self.mem[SE_MAX_AGE_NS] = 100_000_000
        self.mem[SE_MAX_SKEW_NS] = 150_000_000
        self.mem[SE_COOLDOWN_NS] = 250_000_000
        self.mem[SE_RECHECK_NS] = 1_000_000
        self.mem[SE_NEXT_ID] = 1

    def now(self, ns: int) -> None:
        self.mem[SE_NOW_NS] = ns

    def publish(self, instrument: int, bids: Levels, asks: Levels, **fields: int) -> None:
        """Publishes a book of ``instrument`` received now, on its feed's connection, and its frame."""
        feed = self.listings[instrument].feed
        now = int(self.mem[SE_NOW_NS])
        values = {
            "instrument": instrument,
            "recv_mono_ns": now,
            "conn": 0,
            "conn_generation": self.generations[feed],
            **fields,
        }
        record = book_record(bids, asks, **values)
        publish_book(self.feeds, feed * self.feed_words, int(self.rows[instrument, ly.CR_BOOK_INDEX]), record)
        self.frame(feed, values["recv_mono_ns"])

    def frame(self, feed: int, ns: int) -> None:
        conn_frame(self.feeds, feed * self.feed_words, 0, ns)

    def disconnect(self, feed: int) -> None:
        conn_close(self.feeds, feed * self.feed_words, 0)

    def set_inventory(self, instrument: int, *, buy: float, sell: int, state: int = 1, blocked_ns: int = 0) -> None:
        row = np.zeros(ly.INVENTORY_ROW_WORDS, dtype=np.int64)
        row[ly.IR_BUY_NOTIONAL] = np.float64(buy).view(np.int64)
        row[ly.IR_SELL_QTY_FP] = sell
        row[ly.IR_STATE] = state
        row[ly.IR_BLOCKED_UNTIL_MONO_NS] = blocked_ns
        write_row(self.ports.inventory, ly.INV_ROWS_OFF + instrument * ly.INVENTORY_ROW_WORDS, row)

    def report(self, key: int, cooldown_until_ns: int, outcome: int = 0) -> None:
        payload = np.zeros(ly.REPORT_WORDS, dtype=np.int64)
        payload[ly.RP_DIRECTION_KEY] = key
        payload[ly.RP_OUTCOME] = outcome
        payload[ly.RP_COOLDOWN_UNTIL_MONO_NS] = cooldown_until_ns
        assert push(self.ports.reports, 0, self.ports.reports_cursor, 0, payload)

    def scan(self) -> list[np.ndarray]:
        """One pass; the opportunities that it pushed."""
        scan_once(self.ports, self.mem, self.flt)
        found = []
        out = np.zeros(ly.OPPORTUNITY_WORDS, dtype=np.int64)
        while pop(self.ports.opps, 0, self.ports.opps_cursor, 0, out):
            found.append(out.copy())
        return found

    def counter(self, index: int) -> int:
        return int(self.mem[index])
