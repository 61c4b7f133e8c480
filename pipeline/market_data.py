"""Books of all venues as one reader sees them: live shared memory, never a copy kept for later.

``SharedBooks`` maps the catalogue and every feed's segment read-only and answers "the newest whole book now, and when
it was last proved current". ``MarketDataAggregator`` is the Python user's way in (requirements S9): a synchronised
snapshot is one in which no book of the set changed while the set was read. Feeds (streams, REST while a stream is down)
fill the memory; a reader starts nothing and cannot slow a feed.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Sequence
from decimal import Decimal

import msgspec
import numpy as np

from pipeline.execution.events import BookView
from pipeline.model.catalogue_words import words_to_row
from pipeline.model.config import EngineConfig
from pipeline.model.errors import BadInput
from pipeline.model.fixedpoint import from_fp
from pipeline.model.instruments import InstrumentRow
from shm import layout as ly
from shm.atomics import load_relaxed, mono_ns
from shm.bookring import newest_offset, proof_mono_ns, read_book
from shm.pages import CataloguePage
from shm.segment import attach_arena, segment_name

SNAPSHOT_ATTEMPTS = 64  # a set that changes under 64 readings in a row is reported as it is, marked unsynchronised
PROVED_READS = 4  # copies tried until book and proof belong together

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
    """Books that were true at one instant (``synchronised``), and how far apart their proofs are."""

    mono_ns: int
    synchronised: bool
    skew_ms: float | None
    books: tuple[BookSnapshot, ...]


class SharedBooks:
    """Read-only view of every feed of an instance. Not thread-safe: one per thread."""

    def __init__(self, instance: str, config: EngineConfig) -> None:
        self._venues = [venue.name for venue in config.venues]
        self._feeds = config.feeds
        self._catalogue = CataloguePage.attach(instance)
        self._arena = attach_arena(
            [segment_name(instance, f"feed.{feed}") for feed in config.feeds],
            ly.KIND_FEED,
            instance,
            ly.feed_segment_words(ly.FEED_BOOK_CAPACITY_DEFAULT),
        )
        self.words = self._arena.words
        self._record = np.zeros(ly.BOOK_RECORD_WORDS, dtype=np.int64)
        self._version = -1
        self.rows: list[InstrumentRow] = []
        self.removed: set[int] = set()
        self.refresh()

    def refresh(self) -> bool:
        """Feeds that appeared, rows that changed; whether any row did. Cheap where nothing changed."""
        self._arena.refresh()
        self._catalogue.refresh()
        if not self._catalogue.mapped or self._catalogue.version == self._version:
            return False
        self._version = self._catalogue.version
        rows: list[InstrumentRow] = []
        for instrument_id in range(self._catalogue.count):
            words = self._catalogue.row(instrument_id)
            if words is None:  # its writer died in it: read again at the next refresh
                self._version = -1
                break
            rows.append(words_to_row(instrument_id, words, self._venues[int(words[ly.CR_VENUE])]))
            if int(words[ly.CR_FLAGS]) & ly.CAT_FLAG_REMOVED:
                self.removed.add(instrument_id)
        self.rows = rows
        return True

    def read(self, instrument_id: int) -> tuple[np.ndarray[tuple[int], np.dtype[np.int64]], int] | None:
        """(copy of the newest whole record, proof time; 0 = unproved); None where there is no book yet."""
        row = self.rows[instrument_id]
        offset = self._arena.offset_of(row.feed_id)
        proof = 0
        for _ in range(PROVED_READS):
            seq = int(read_book(self.words, offset, row.book_index, self._record))
            if seq <= 0:
                return None
            proof = int(proof_mono_ns(self.words, offset, self._record))
            # a proof that arrived after the copy may be of a newer book: it counts only if the copy is the newest
            newest = int(newest_offset(self.words, offset, row.book_index))
            if int(load_relaxed(self.words, newest + ly.BR_SEQ)) == seq:
                break
            proof = min(proof, int(self._record[ly.BR_RECV_MONO_NS]))
        if int(self._record[ly.BR_WRITER_EPOCH]) != int(load_relaxed(self.words, offset + ly.SEG_EPOCH)):
            proof = 0  # written by a feed that has died since
        return self._record.copy(), proof

    def sequence(self, row: InstrumentRow) -> int:
        """Publication that is the newest of the instrument; 0 = none yet."""
        newest = int(newest_offset(self.words, self._arena.offset_of(row.feed_id), row.book_index))
        return int(load_relaxed(self.words, newest + ly.BR_SEQ)) if newest else 0

    def book(self, instrument_id: int) -> BookView | None:
        """The ``MarketPort`` of the execution room."""
        if not 0 <= instrument_id < len(self.rows):
            return None
        found = self.read(instrument_id)
        return None if found is None else BookView(words=found[0].tolist(), proof_mono_ns=found[1])


def _side(record: np.ndarray[tuple[int], np.dtype[np.int64]], row: InstrumentRow, bid: bool) -> tuple[Level, ...]:
    count = int(record[ly.BR_BID_COUNT if bid else ly.BR_ASK_COUNT])
    price = ly.BR_BID_PRICE if bid else ly.BR_ASK_PRICE
    qty = ly.BR_BID_QTY if bid else ly.BR_ASK_QTY
    return tuple(
        (from_fp(int(record[price + i]), row.price_exp), from_fp(int(record[qty + i]), row.qty_exp))
        for i in range(min(count, ly.BOOK_DEPTH))
    )


class MarketDataAggregator:
    """Synchronised market data of a running instance (requirements S9).

    ``subscribe``: how a new symbol is asked for (the supervisor's control socket); without it
    ``add_symbol_subscription`` refuses. Nothing is cached: every snapshot reads shared memory.
    """

    def __init__(
        self,
        instance: str,
        config: EngineConfig,
        subscribe: Callable[[str, str], Awaitable[None]] | None = None,
    ) -> None:
        self._instance = instance
        self._config = config
        self._subscribe = subscribe
        self._books: SharedBooks | None = None

    @property
    def is_aggregating(self) -> bool:
        return self._books is not None

    async def start_aggregation(self) -> None:
        """Map the feeds' memory. Feeds may come later: their books appear as they do."""
        if self._books is None:
            self._books = SharedBooks(self._instance, self._config)

    async def stop_aggregation(self) -> None:
        self._books = None

    async def add_symbol_subscription(self, venue: str, symbol: str) -> None:
        """Ask for one more instrument while the engine runs. Raises BadInput where nobody can be asked."""
        if self._subscribe is None:
            raise BadInput(f"no running instance to add {symbol} of {venue} to: start one with `arb up`")
        await self._subscribe(venue, symbol)

    def get_latest_snapshot(self, pairs: Sequence[str] = ()) -> MarketSnapshot:
        """Books of ``pairs`` (BASE/QUOTE; empty = all) that were all true at one instant.

        The set is read, then looked at again: if any book was published meanwhile, it is read once more. A set that
        never holds still within ``SNAPSHOT_ATTEMPTS`` is returned with ``synchronised`` False.
        Raises BadInput before ``start_aggregation``.
        """
        books = self._books
        if books is None:
            raise BadInput("start_aggregation() first")
        books.refresh()
        wanted = [
            row
            for row in books.rows
            if row.instrument_id not in books.removed and (not pairs or row.spec.pair in pairs)
        ]
        found: list[tuple[InstrumentRow, np.ndarray[tuple[int], np.dtype[np.int64]], int]] = []
        synchronised = False
        for _ in range(SNAPSHOT_ATTEMPTS):
            before = self._sequences(books, wanted)
            found = [(row, *got) for row in wanted if (got := books.read(row.instrument_id)) is not None]
            if self._sequences(books, wanted) == before:
                synchronised = True
                break
        now = int(mono_ns())
        proofs = [proof for _, _, proof in found if proof]
        return MarketSnapshot(
            mono_ns=now,
            synchronised=synchronised,
            skew_ms=(max(proofs) - min(proofs)) / 1e6 if proofs else None,
            books=tuple(self._snapshot(row, record, proof, now) for row, record, proof in found),
        )

    @staticmethod
    def _sequences(books: SharedBooks, rows: Sequence[InstrumentRow]) -> list[int]:
        return [books.sequence(row) for row in rows]

    def _snapshot(
        self, row: InstrumentRow, record: np.ndarray[tuple[int], np.dtype[np.int64]], proof: int, now: int
    ) -> BookSnapshot:
        flags = int(record[ly.BR_FLAGS])
        age = (now - proof) / 1e6 if proof else None
        fresh = age is not None and age <= self._config.detection.max_age_to_trade_ms
        return BookSnapshot(
            venue=row.spec.venue,
            symbol=row.spec.symbol,
            pair=row.spec.pair,
            update_id=int(record[ly.BR_UPDATE_ID]),
            bids=_side(record, row, bid=True),
            asks=_side(record, row, bid=False),
            flags=flags,
            tradable=fresh and not flags & ly.FLAGS_UNTRADABLE and row.tradable_pair,
            age_ms=age,
            recv_mono_ns=int(record[ly.BR_RECV_MONO_NS]),
        )
