"""``arb books``: recorded frames through the production codec, sequencer and book.

Normal form of decimals in the output: plain notation, never an exponent, no trailing zeros after the point, ``0`` for
zero, so equal values are equal strings. An empty side has null price and quantity. Quantities of futures are base coin
(contracts x contract size of the recorded contract list); where the size is not 1, ``bid_contracts`` and
``ask_contracts`` are there too.

Exponents are chosen from the capture's own digits, so that every number is held exactly. Whose a snapshot without a
symbol is: ``pipeline.book.recording.contents``. A symbol with updates that no snapshot reaches has no book:
``bookless`` names it.
``broken`` names symbols whose book stood and was lost (gap, contradiction) with no later snapshot to heal it.

A row that cannot be believed says so in ``marks``: ``crossed`` (best bid at or above best ask), ``contradicted`` (by a
ticker that must equal it), ``beyond_horizon`` (its best price lies behind the snapshot's last level, where an order
that stood there before is not known: :mod:`pipeline.book.horizon`). The first two are the recording's fault, the last
one is not. Rows are written ``ROWS_HELD_MAX`` rows late, because the ticker that contradicts one comes after it.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from decimal import Decimal
from pathlib import Path
from typing import IO, TypeVar

import msgspec
import numpy as np

from pipeline.book.codec import CodecOf
from pipeline.book.memory import BOOKS
from pipeline.book.recording.capture_files import Capture, is_json, read_capture
from pipeline.book.recording.contents import CaptureContents
from pipeline.book.recording.message_order import RecordedBooks
from pipeline.book.recording.pieces import is_recording, read_recording
from pipeline.book.recording.shapes import Shapes
from pipeline.book.results import FrameResult
from pipeline.book.venue_books import VenueBooks
from pipeline.model.clock import mono_ns
from pipeline.model.errors import ArbitrageEngineError, BadInput
from pipeline.model.fixedpoint import from_fp, plain
from shm import bookring
from shm.layout import FEED_BOOK_CAPACITY_DEFAULT, feed_segment_words

Row = dict[str, object]
ROWS_HELD_MAX = 65536  # a ticker that contradicts a row comes soon after it
CAPACITY = FEED_BOOK_CAPACITY_DEFAULT
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
    "overflowed",
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
    out: IO[bytes] | None = None
    damage: str = ""
    beyond_horizon: int = 0  # rows
    _held: deque[Row] = field(default_factory=deque)
    _last: dict[int, Row] = field(default_factory=dict)  # book index -> its newest row
    recorded: RecordedBooks = field(init=False)

    def prepare(self) -> None:
        """Reads the capture's digits, adds its symbols, finds the owner of every snapshot."""
        contents = CaptureContents(self.capture, self.books.codec)
        self.recorded = RecordedBooks(self.capture, self.books, contents.owners)
        if len(contents.digits) > self.books.capacity:
            raise BadInput(f"{self.capture.name}: {len(contents.digits)} symbols, room for {self.books.capacity}")
        for index, (symbol, own) in enumerate(sorted(contents.digits.items())):
            multiplier = self.capture.multipliers.get(symbol, Decimal(1))
            price_exp, qty_exp = own.exponents(symbol, multiplier)
            self.instruments[index] = _Instrument(symbol, price_exp, qty_exp, multiplier)
            self.books.add(
                book_index=index,
                instrument_id=index,
                symbol=symbol,
                price_exp=price_exp,
                qty_exp=qty_exp,
                qty_multiplier=multiplier,
            )

    def step(self, index: int) -> None:
        """One record through the books."""
        record = self.capture.records[index]
        result = self.recorded.step(index, record.time_ns)
        if result == FrameResult.APPLIED:
            self.line(self.books.last_book_index)
        elif result == FrameResult.TICKER and self.books.mem[BOOKS.publish_flags] > 0:
            _mark(self._last.get(self.books.last_book_index), "contradicted")
        elif result == FrameResult.REJECTED and not is_json(record.payload):
            self.damage = f"{record.file}:{record.line}: message is not whole JSON"

    def run(self) -> None:
        """All records, until the first damaged one."""
        self.books.on_applied = self.line
        for index in range(len(self.capture.records)):
            self.step(index)
            if self.damage:
                break
        self._write_held(0)
        self.damage = self.damage or self.capture.damage

    @property
    def broken(self) -> list[str]:
        """Symbols whose book stood and was lost, and no later snapshot has brought it."""
        return [
            self.instruments[index].symbol for index in self.books.needs_snapshot() if self.books.ever_synced(index)
        ]

    def line(self, book_index: int) -> None:
        """The output line of an applied depth message."""
        crossed, contradicted, beyond = self.books.doubts(book_index)
        self.beyond_horizon += beyond
        if self.out is None:
            return
        instrument = self.instruments[book_index]
        top = self.books.top(book_index)
        row: dict[str, object] = {"venue": self.capture.name_of_venue, "symbol": instrument.symbol, "u": top.update_id}
        for side, price, qty in (("bid", top.bid, top.bid_qty), ("ask", top.ask, top.ask_qty)):
            base = from_fp(qty, instrument.qty_exp)
            row[side] = plain(from_fp(price, instrument.price_exp)) if price else None
            row[f"{side}_qty"] = plain(base) if price else None
            if instrument.multiplier != 1:
                row[f"{side}_contracts"] = plain(base / instrument.multiplier) if price else None
        for mark, found in (("crossed", crossed), ("contradicted", contradicted), ("beyond_horizon", beyond)):
            if found:
                _mark(row, mark)
        self._held.append(row)
        self._last[book_index] = row
        self._write_held(ROWS_HELD_MAX)

    def _write_held(self, kept: int) -> None:
        """Writes the oldest rows that are held back, all but ``kept``."""
        while self.out is not None and len(self._held) > kept:
            self.out.write(msgspec.json.encode(self._held.popleft()))
            self.out.write(b"\n")


def _mark(row: Row | None, mark: str) -> None:
    if row is not None:
        marks = row.setdefault("marks", [])
        assert isinstance(marks, list)
        if mark not in marks:
            marks.append(mark)


def open_capture(path: str | Path, codec_of: CodecOf, shapes: Shapes, out: IO[bytes] | None = None) -> CaptureBooks:
    """Reads a capture and makes its books on private words; raises ``BadInput``.

    ``codec_of`` finds the feed codec of the venue that the capture turns out to be of, by ``shapes``.
    ``out``: where the lines go.
    """
    return books_of_capture(read_capture(path, shapes), codec_of, out)


def read_captures(path: str | Path, shapes: Shapes) -> list[Capture]:
    """The captures that a path stands for: those of all venues of an own recording, else the one of the file or
    prefix; raises ``BadInput``."""
    own = Path(path)
    return read_recording(own) if is_recording(own) else [read_capture(path, shapes)]


Books = TypeVar("Books", bound=CaptureBooks)


def books_of_capture(capture: Capture, codec_of: CodecOf, out: IO[bytes] | None = None) -> CaptureBooks:
    """The books of a capture on private words; see :func:`open_capture`."""
    return books_as(CaptureBooks, capture, codec_of, out)


def books_as(kind: type[Books], capture: Capture, codec_of: CodecOf, out: IO[bytes] | None = None) -> Books:
    """As :func:`books_of_capture`, for who does something else with each applied message (``line``)."""
    words = np.zeros(feed_segment_words(CAPACITY), dtype=np.int64)
    bookring.init_feed(words, 0, CAPACITY)
    bookring.conn_open(words, 0, 0, 0, 0)
    books = VenueBooks(
        codec=codec_of(capture.dialect, capture.market),
        words=words,
        feed_off=0,
        venue_id=0,
        capacity=CAPACITY,
        recorded_time=True,
    )
    books_of = kind(capture, books, out=out)
    books_of.prepare()
    return books_of


@contextmanager
def output_file(path: str | Path | None) -> Iterator[IO[bytes] | None]:
    """The file that lines go to (None: nowhere). Raises BadInput where it cannot be one, ArbitrageEngineError where it
    takes no more (a full disk): it then holds less than it should."""
    if path is None:
        yield None
        return
    try:
        handle = open(path, "wb")  # noqa: SIM115  closed below, where a failure has other words
    except OSError as error:
        raise BadInput(f"cannot write {path}: {error.strerror or error}") from None
    try:
        with handle:
            yield handle
    except OSError as error:
        raise ArbitrageEngineError(f"cannot write all of {path}: {error.strerror or error}") from None


def run_books(
    paths: Iterable[str | Path], codec_of: CodecOf, shapes: Shapes, out: str | Path | None = None
) -> dict[str, object]:
    """Runs every capture through its own books, in the order given; writes one JSON line per applied depth message.

    Returns ``messages`` (depth messages), ``applied``, ``dropped``, ``gaps``, ``resyncs``, ``fast_path``,
    ``slow_path`` (frames by decoder), ``seconds`` (in the books, reading and compiling apart) and more totals. Raises
    ``BadInput`` when a capture cannot be read at all, before anything is written; ``DamagedCapture`` after everything
    before the damage has gone through; and what ``output_file`` raises.
    """
    totals = dict.fromkeys(SUMMED, 0)
    symbols: list[str] = []
    bookless: list[str] = []
    broken: list[str] = []
    damages: list[str] = []
    nanos = beyond_horizon = 0
    captures = [books_of_capture(capture, codec_of) for path in paths for capture in read_captures(path, shapes)]
    with output_file(out) as sink:
        for books_of in captures:
            books_of.out = sink
            start_ns = mono_ns()
            books_of.run()
            nanos += mono_ns() - start_ns
            beyond_horizon += books_of.beyond_horizon
            counters = msgspec.structs.asdict(books_of.books.counters)
            for name in SUMMED:
                totals[name] += counters[name]
            venue, lost = books_of.capture.name_of_venue, books_of.broken
            symbols += [f"{venue}:{instrument.symbol}" for instrument in books_of.instruments.values()]
            broken += [f"{venue}:{symbol}" for symbol in lost]
            for index in books_of.books.needs_snapshot():
                if books_of.instruments[index].symbol not in lost:
                    bookless.append(f"{venue}:{books_of.instruments[index].symbol}")
            if books_of.damage:
                damages.append(books_of.damage)
    result: dict[str, object] = {**totals, "seconds": nanos / 1e9, "symbols": symbols}
    result |= {"bookless": bookless, "broken": broken, "beyond_horizon": beyond_horizon}
    dropped = {
        books_of.capture.name_of_venue: books_of.capture.dropped for books_of in captures if books_of.capture.dropped
    }
    if dropped:
        result["not_recorded"] = dropped  # messages that the recorder says it did not take down
    if damages:
        raise DamagedCapture("; ".join(damages), result)
    return result
