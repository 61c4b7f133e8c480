"""MarketDataAggregator: all venues' books and instruments, read from live shared memory at each call.

``MarketDataAggregator`` maps the catalogue and every feed's segment read-only. The executor judges
by its :meth:`~MarketDataAggregator.book`; ``arb status`` and ``top``, the recorder and a Python user read with the same
object. A synchronised snapshot is one in which no book of the set changed while the set was read. Feeds (streams, REST
while a stream is down) fill the memory; a reader starts nothing and does not slow a feed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal

import msgspec
import numpy as np

from pipeline.execution.events import BookView
from pipeline.execution.market import Instruments, levels, tradable
from pipeline.execution.shared_reads import read_proved
from pipeline.model.catalogue_row import words_to_row
from pipeline.model.config import EngineConfig
from pipeline.model.enums import OrderSide
from pipeline.model.errors import BadInput
from pipeline.model.fixedpoint import from_fp
from pipeline.model.instruments import InstrumentRow
from shm.atomics import load_relaxed, mono_ns
from shm.bookring import newest_offset
from shm.layout import BOOK, FEED, FEED_BOOK_CAPACITY_DEFAULT, feed_segment_words
from shm.layout_pages import CAT_FLAG_REMOVED, CATALOGUE_ROW
from shm.pages import CataloguePage
from shm.segment import Arena, attach_arena, segment_name
from shm.words import Words

SNAPSHOT_ATTEMPTS = 64  # a set that changes under 64 readings in a row is reported as it is, marked unsynchronised

Level = tuple[Decimal, Decimal]


class BookSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """One instrument's book. ``age_ms`` is the time since it was last proved current; None = not proved."""

    venue: str
    symbol: str
    pair: str
    update_id: int
    bids: tuple[Level, ...]
    asks: tuple[Level, ...]
    flags: int
    tradable: bool
    age_ms: float | None
    recv_mono_ns: int


class MarketSnapshot(msgspec.Struct, frozen=True, kw_only=True):
    """Books that were current at one instant (``synchronised``); ``skew_ms``: how far apart their proofs are."""

    mono_ns: int
    synchronised: bool
    skew_ms: float | None
    books: tuple[BookSnapshot, ...]


def _side(view: BookView, row: InstrumentRow, side: OrderSide) -> tuple[Level, ...]:
    return tuple((from_fp(price, row.price_exp), from_fp(qty, row.qty_exp)) for price, qty in levels(view, side))


class MarketDataAggregator:
    """Every venue's books and instruments of a running instance. Not thread-safe: one per thread.

    ``subscribe``: how a new symbol is asked for (the supervisor's control socket); without it
    ``add_symbol_subscription`` refuses. ``traded_alone``: without the instruments of exchanges with ``trade: false``.
    Nothing is cached: every call reads shared memory.
    """

    def __init__(
        self,
        instance: str,
        config: EngineConfig,
        subscribe: Callable[[str, str], Awaitable[None]] | None = None,
        *,
        traded_alone: bool = False,
    ) -> None:
        self._instance = instance
        self._config = config
        self._subscribe = subscribe
        self.dead_after_ns = config.detection.dead_after_ms * 1_000_000
        self.max_age_ms = config.detection.max_age_to_trade_ms
        self.feeds = tuple(config.feeds)  # by the feed's number
        venues = config.trading_venues if traded_alone else config.venues
        self._venues = {venue.venue_id: venue.name for venue in venues}
        self._catalogue: CataloguePage | None = None
        self._arena: Arena | None = None
        self._version = -1
        self._words: Words = np.zeros(0, np.int64)
        self._offsets: list[int] = []
        self._record = np.zeros(BOOK.WORDS, np.int64)
        self.instruments = Instruments()
        self.removed: set[int] = set()

    # --- life ---

    @property
    def is_aggregating(self) -> bool:
        """Whether the memory is attached."""
        return self._arena is not None

    def attach(self) -> None:
        """Map the catalogue and the feeds' memory. Feeds may come later: :meth:`refresh` finds them. Idempotent."""
        if self._arena is None:
            feeds = self._config.feeds
            names = [segment_name(self._instance, f"feed.{feed}") for feed in feeds]
            size_words = feed_segment_words(FEED_BOOK_CAPACITY_DEFAULT)
            self._arena = attach_arena(names, FEED.KIND, self._instance, size_words)
            self._catalogue = CataloguePage.attach(self._instance)
            self._words = self._arena.words
            self._offsets = [self._arena.offset_of(feed_id) for feed_id in range(len(feeds))]
            self.refresh()

    async def start_aggregation(self) -> None:
        """:meth:`attach`, under the name that the other components have."""
        self.attach()

    async def stop_aggregation(self) -> None:
        """Release the memory; snapshots that were read stay valid."""
        self._arena = self._catalogue = None
        self._version, self._words, self._offsets = -1, np.zeros(0, np.int64), []
        self.instruments, self.removed = Instruments(), set()

    async def add_symbol_subscription(self, venue: str, symbol: str) -> None:
        """Ask for one more instrument while the engine runs. Raises BadInput without ``subscribe``."""
        if self._subscribe is None:
            raise BadInput(f"no running instance to add {symbol} of {venue} to: start one with `arb up`")
        await self._subscribe(venue, symbol)

    def refresh(self) -> list[InstrumentRow]:
        """Maps feeds that appeared; returns instruments that are new or changed since the last call.

        Cheap where nothing changed. Raises SegmentMismatch for memory of another build.
        """
        if self._arena is None or self._catalogue is None:
            return []
        self._arena.refresh()
        if self._catalogue.refresh():
            self._version = -1
        if not self._catalogue.mapped or self._catalogue.version == self._version:
            return []
        self._version = self._catalogue.version
        changed: list[InstrumentRow] = []
        for instrument_id in range(self._catalogue.count):
            words = self._catalogue.row(instrument_id)
            if words is None:  # its writer died in it: read again at the next refresh
                self._version = -1
                continue
            venue = self._venues.get(int(words[CATALOGUE_ROW.venue]))
            if venue is None:
                continue
            if int(words[CATALOGUE_ROW.flags]) & CAT_FLAG_REMOVED:
                self.removed.add(instrument_id)
            else:
                self.removed.discard(instrument_id)
            row = words_to_row(instrument_id, words, venue)
            if self.instruments.get(instrument_id) != row:
                changed.append(row)
        self.instruments.update(changed)
        return changed

    @property
    def memory(self) -> tuple[Words, list[int]]:
        """FEED segments of all feeds, and the word where each feed begins in them: for kernels that read books
        themselves."""
        return self._words, self._offsets

    # --- books ---

    def book(self, instrument_id: int) -> BookView | None:
        """Newest whole book of an instrument and the time of its proof; None where there is none (``MarketPort``)."""
        row = self.instruments.get(instrument_id)
        if row is None or not 0 <= row.feed_id < len(self._offsets):
            return None
        proof = int(read_proved(self._words, self._offsets[row.feed_id], row.book_index, self._record))
        if proof < 0 or self._record[BOOK.instrument] != instrument_id:
            return None
        return BookView(self._record.tolist(), proof)

    def get_latest_snapshot(self, pairs: Sequence[str] = ()) -> MarketSnapshot:
        """Books of ``pairs`` (BASE/QUOTE; empty = all) that were all current at one instant.

        The set is read and then checked: if a book was published meanwhile, the whole set is read again. One that
        changes during each of ``SNAPSHOT_ATTEMPTS`` is returned with ``synchronised`` False.
        Raises BadInput before ``start_aggregation``.
        """
        if self._arena is None:
            raise BadInput("start_aggregation() first")
        self.refresh()
        wanted = [
            row
            for row in self.instruments
            if row.instrument_id not in self.removed and (not pairs or row.spec.pair in pairs)
        ]
        found: list[tuple[InstrumentRow, BookView]] = []
        synchronised = False
        for _ in range(SNAPSHOT_ATTEMPTS):
            before = self._sequences(wanted)
            found = [(row, view) for row in wanted if (view := self.book(row.instrument_id)) is not None]
            if self._sequences(wanted) == before:
                synchronised = True
                break
        now = int(mono_ns())
        proofs = [view.proof_mono_ns for _, view in found if view.proof_mono_ns]
        return MarketSnapshot(
            mono_ns=now,
            synchronised=synchronised,
            skew_ms=(max(proofs) - min(proofs)) / 1e6 if proofs else None,
            books=tuple(self._snapshot(row, view, now) for row, view in found),
        )

    def _sequences(self, rows: Sequence[InstrumentRow]) -> list[int]:
        """Number of the newest publication of each instrument; 0 = none yet."""
        found = []
        for row in rows:
            newest = int(newest_offset(self._words, self._offsets[row.feed_id], row.book_index))
            found.append(int(load_relaxed(self._words, newest + BOOK.seq)) if newest else 0)
        return found

    def _snapshot(self, row: InstrumentRow, view: BookView, now: int) -> BookSnapshot:
        age = (now - view.proof_mono_ns) / 1e6 if view.proof_mono_ns else None
        fresh = age is not None and age <= self.max_age_ms
        return BookSnapshot(
            venue=row.spec.venue,
            symbol=row.spec.symbol,
            pair=row.spec.pair,
            update_id=view.words[BOOK.update_id],
            bids=_side(view, row, OrderSide.SELL),
            asks=_side(view, row, OrderSide.BUY),
            flags=view.words[BOOK.flags],
            tradable=fresh and tradable(view, row) and row.tradable_pair,
            age_ms=age,
            recv_mono_ns=view.words[BOOK.recv_mono_ns],
        )
