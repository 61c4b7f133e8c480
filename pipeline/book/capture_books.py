"""``arb books``: recorded frames through the production codec, sequencer and book.

Normal form of decimals in the output: plain notation, never an exponent, no trailing zeros after the point, ``0`` for
zero, so equal values are equal strings. An empty side has null price and quantity. Quantities of futures are base coin
(contracts x contract size of the recorded contract list); where the size is not 1, ``bid_contracts`` and
``ask_contracts`` are there too.

Exponents are chosen from the capture's own digits, so that every number is held exactly. A snapshot that names no
symbol belongs to the capture's one symbol, else to the one whose prices are near its own.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import ExitStack
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import IO

import msgspec
import numpy as np

from pipeline.book import state as st
from pipeline.book.builder import FrameResult, VenueBooks
from pipeline.book.capture import SNAPSHOT, Capture, Record, is_json, read_capture
from pipeline.book.digits import DigitCounter, Digits
from pipeline.model.clock import mono_ns
from pipeline.model.errors import BadInput
from pipeline.model.fixedpoint import digits_after_point, from_fp, plain
from shm import bookring, layout

CAPACITY = layout.FEED_BOOK_CAPACITY_DEFAULT
NEAR = 0.2  # a snapshot's top and its symbol's prices differ by less than this share
SUMMED = (
    "messages",
    "applied",
    "dropped",
    "gaps",
    "resyncs",
    "fast_path",
    "slow_path",
    "frames",
    "tickers",
    "contradicted",
    "crossed",
    "rejected",
    "inexact_levels",
    "snapshots",
    "stale_snapshots",
)


class DamagedCapture(BadInput):
    """A capture is cut off or damaged. Everything before the damage went through; ``result`` is what it gave."""


@dataclass(slots=True)
class _Instrument:
    symbol: str
    price_exp: int
    qty_exp: int
    multiplier: Decimal


@dataclass(slots=True)
class CaptureBooks:
    """The books of one capture; also for replays in recorded time, which bring their own words."""

    capture: Capture
    books: VenueBooks
    instruments: dict[int, _Instrument] = field(default_factory=dict)
    snapshot_symbols: dict[int, str] = field(default_factory=dict)  # record index -> symbol
    out: IO[bytes] | None = None
    damage: str = ""

    def prepare(self) -> None:
        """Reads the capture's digits, adds its symbols, tells which snapshot is whose."""
        counter = DigitCounter(self.books.codec)
        snapshots: list[tuple[int, Digits]] = []
        for index, record in enumerate(self.capture.records):
            if record.kind != SNAPSHOT:
                counter.frame(record.payload)
                continue
            found = counter.snapshot(record.payload)
            if found is not None:
                snapshots.append((index, found))
        for index, found in snapshots:
            symbol = self._owner(self.capture.records[index], found, counter.symbols)
            self.snapshot_symbols[index] = symbol
            counter.merge(symbol, found)
        if len(counter.symbols) > self.books.capacity:
            raise BadInput(f"{self.capture.name}: {len(counter.symbols)} symbols, room for {self.books.capacity}")
        for index, (symbol, own) in enumerate(sorted(counter.symbols.items())):
            multiplier = self.capture.multipliers.get(symbol, Decimal(1))
            price_exp, qty_exp = own.exponents(symbol, digits_after_point(multiplier))
            self.instruments[index] = _Instrument(symbol, price_exp, qty_exp, multiplier)
            self.books.add(
                book_index=index,
                instrument_id=index,
                symbol=symbol,
                price_exp=price_exp,
                qty_exp=qty_exp,
                qty_multiplier=multiplier,
            )

    def _owner(self, record: Record, found: Digits, symbols: dict[str, Digits]) -> str:
        """Whose snapshot it is; ``BadInput`` where that cannot be told."""
        if record.symbol:
            return record.symbol
        if len(symbols) == 1:
            return next(iter(symbols))
        near = [
            symbol
            for symbol, own in symbols.items()
            if own.near_price and abs(own.near_price - found.near_price) <= NEAR * own.near_price
        ]
        if len(near) != 1:
            raise BadInput(f"{record.file}:{record.line}: snapshot without a symbol fits {near or 'no symbol'}")
        return near[0]

    def step(self, index: int) -> None:
        """One record through the books."""
        record = self.capture.records[index]
        if record.kind == SNAPSHOT:
            book = self.books.index_of(self.snapshot_symbols.get(index, ""))
            # A live book needs none: periodic snapshots of a recorder would hide whether the updates are whole.
            if book >= 0 and not self.books.is_synced(book):
                self.books.on_snapshot(book, record.payload, record.time_ns, 0)
            return
        applied = int(self.books.mem[st.C_APPLIED])
        result = self.books.on_frame(record.payload, record.time_ns, 0)
        if self.books.mem[st.C_APPLIED] != applied:
            self.line(self.books.last_book_index)
        elif result == FrameResult.REJECTED and not is_json(record.payload):
            self.damage = f"{record.file}:{record.line}: message is not whole JSON"

    def run(self) -> None:
        """All records, until the first damaged one."""
        self.books.on_applied = self.line
        for index in range(len(self.capture.records)):
            self.step(index)
            if self.damage:
                return
        self.damage = self.capture.damage

    def line(self, book_index: int) -> None:
        """The output line of an applied depth message."""
        if self.out is None:
            return
        instrument = self.instruments[book_index]
        top = self.books.top(book_index)
        row: dict[str, object] = {"venue": self.capture.venue, "symbol": instrument.symbol, "u": top.update_id}
        for side, price, qty in (("bid", top.bid, top.bid_qty), ("ask", top.ask, top.ask_qty)):
            base = from_fp(qty, instrument.qty_exp)
            row[side] = plain(from_fp(price, instrument.price_exp)) if price else None
            row[f"{side}_qty"] = plain(base) if price else None
            if instrument.multiplier != 1:
                row[f"{side}_contracts"] = plain(base / instrument.multiplier) if price else None
        self.out.write(msgspec.json.encode(row))
        self.out.write(b"\n")


def open_capture(path: str | Path, out: IO[bytes] | None = None) -> CaptureBooks:
    """Reads a capture and makes its books on private words; raises ``BadInput``."""
    capture = read_capture(path)
    words = np.zeros(layout.feed_segment_words(CAPACITY), dtype=np.int64)
    bookring.init_feed(words, 0, CAPACITY)
    bookring.conn_open(words, 0, 0, 0, 0)
    books = VenueBooks(
        dialect=capture.dialect,
        market=capture.market,
        words=words,
        feed_off=0,
        venue_id=0,
        capacity=CAPACITY,
        recorded_time=True,
    )
    books_of = CaptureBooks(capture, books, out=out)
    books_of.prepare()
    return books_of


def run_books(paths: Iterable[str | Path], out: str | Path | None = None) -> dict[str, object]:
    """Runs every capture through its own books, in the order given; writes one JSON line per applied depth message.

    Returns ``messages`` (depth messages), ``applied``, ``dropped``, ``gaps``, ``resyncs``, ``fast_path``,
    ``slow_path`` (frames by decoder), ``seconds`` (in the books, reading and compiling apart) and more totals. Raises
    ``BadInput`` when a capture cannot be read at all, before anything is written; ``DamagedCapture`` after
    everything before the damage has gone through.
    """
    totals = dict.fromkeys(SUMMED, 0)
    symbols: list[str] = []
    damages: list[str] = []
    nanos = 0
    with ExitStack() as stack:
        captures = [open_capture(path) for path in paths]
        try:
            sink = stack.enter_context(open(out, "wb")) if out is not None else None
        except OSError as error:
            raise BadInput(f"cannot write {out}: {error.strerror or error}") from None
        for books_of in captures:
            books_of.out = sink
            start_ns = mono_ns()
            books_of.run()
            nanos += mono_ns() - start_ns
            counters = msgspec.structs.asdict(books_of.books.counters)
            for name in SUMMED:
                totals[name] += counters[name]
            symbols += [f"{books_of.capture.venue}:{i.symbol}" for i in books_of.instruments.values()]
            if books_of.damage:
                damages.append(books_of.damage)
    result: dict[str, object] = {**totals, "seconds": nanos / 1e9, "symbols": symbols}
    if damages:
        raise DamagedCapture("; ".join(damages), result)
    return result
