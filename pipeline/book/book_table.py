"""The books of a venue as a table that is read: who is in it, how each one stands, its levels."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from pipeline.book import level2
from pipeline.book.codec import FeedCodec, OutOfRange, PricePrecision, exact_price, exact_qty
from pipeline.book.holes import Holes
from pipeline.book.horizon import best_is_beyond, next_near
from pipeline.book.memory import (
    BLOCK_WORDS,
    BOOK_ROW,
    BOOKS,
    COUNT_BITS,
    COUNT_MASK,
    COUNTER_NAMES,
    ENTRY,
    SIDE,
    STATE_ALIGNING,
    STATE_WAITING,
)
from pipeline.book.results import BookCounters, Top
from pipeline.model.errors import ProtocolViolation
from shm.layout import BOOK_DEPTH, FLAG_CROSSED, FLAG_UNPROVED
from shm.words import Words


class BookTable:
    """Which book is in which row of the private memory, and how it stands. Changes no book (``VenueBooks`` does)."""

    def __init__(self, mem: Words, capacity: int, codec: FeedCodec) -> None:
        self.mem = mem
        self.codec = codec
        self.capacity = capacity
        self._slots: dict[str, int] = {}
        self._indices: dict[str, int] = {}  # symbol -> book index
        self._symbols: dict[int, str] = {}
        self._slot_of_index: dict[int, int] = {}
        self._holes = Holes()

    def needs_snapshot(self) -> list[int]:
        """Book indices that wait for a snapshot (an untouched book asks with its first update)."""
        return [
            index
            for index, slot in self._slot_of_index.items()
            if self.mem[self._row(slot) + BOOK_ROW.state] == STATE_WAITING
        ]

    def is_synced(self, book_index: int) -> bool:
        """Whether the book stands on a snapshot with no gap since."""
        return bool(self.mem[self._row(self._slot_of_index[book_index]) + BOOK_ROW.state] >= STATE_ALIGNING)

    def has_hole(self, book_index: int) -> bool:
        """Whether a book lacks nothing but updates that another connection may bring."""
        slot = self._slot_of_index.get(book_index, -1)
        waits = slot >= 0 and self.mem[self._row(slot) + BOOK_ROW.state] == STATE_WAITING
        return bool(waits and slot in self._holes)

    def was_overtaken(self, book_index: int) -> bool:
        """Whether the update that has shown a book's last gap had nothing new when that was filled: it was no loss, two
        connections cut the same updates differently."""
        return self._slot_of_index.get(book_index, -1) in self._holes.overtaken

    def ever_synced(self, book_index: int) -> bool:
        """Whether the book has stood on a snapshot that its updates reached, at any time."""
        return bool(self.mem[self._row(self._slot_of_index[book_index]) + BOOK_ROW.was_synced])

    @property
    def last_book_index(self) -> int:
        """Which book the last result was about; -1 = none."""
        slot = int(self.mem[BOOKS.last_slot])
        return int(self.mem[self._row(slot) + BOOK_ROW.book_index]) if slot >= 0 else -1

    @property
    def needed_price_exp(self) -> int:
        """Digits after the point that the last refused price needs (``PRICE_PRECISION``)."""
        return int(self.mem[BOOKS.needed_exp])

    @property
    def counters(self) -> BookCounters:
        """All totals since the start."""
        return BookCounters(*self.mem[BOOKS.counters : BOOKS.counters + len(COUNTER_NAMES)].tolist())

    def symbol_of(self, book_index: int) -> str:
        """The symbol of a book index."""
        return self._symbols[self._slot_of_index[book_index]]

    def index_of(self, symbol: str) -> int:
        """The book index of a symbol; -1 if it is not ours."""
        return self._indices.get(symbol, -1)

    def near_horizon(self) -> list[int]:
        """Book indices that want a new snapshot: their price has come near the end of what the last one knew."""
        found = []
        slot = next_near(self.mem, 0, self.capacity)
        while slot >= 0:
            found.append(int(self.mem[self._row(slot) + BOOK_ROW.book_index]))
            slot = next_near(self.mem, slot + 1, self.capacity)
        return found

    def venue_ns(self, book_index: int) -> int:
        """The venue's time of a book's newest update (ns since 1970); 0 where it sent none."""
        return int(self.mem[self._row(self._slot_of_index[book_index]) + BOOK_ROW.venue_ns])

    def received_ns(self, book_index: int) -> int:
        """When a book's newest update or snapshot came (ns of the monotonic clock)."""
        return int(self.mem[self._row(self._slot_of_index[book_index]) + BOOK_ROW.recv_ns])

    def conn_of(self, book_index: int) -> int:
        """The connection that brought a book's newest update or snapshot; -1 = none."""
        return int(self.mem[self._row(self._slot_of_index[book_index]) + BOOK_ROW.conn])

    def doubts(self, book_index: int) -> tuple[bool, bool, bool]:
        """(crossed, contradicted, beyond its horizon) as the last frame left a book; the first two of recordings, whose
        doubted books go on."""
        flags = max(0, int(self.mem[BOOKS.publish_flags]))
        row = self._row(self._slot_of_index[book_index])
        return bool(flags & FLAG_CROSSED), bool(flags & FLAG_UNPROVED), bool(best_is_beyond(self.mem, row))

    def top(self, book_index: int) -> Top:
        """Update id and best levels of a book, whatever its state."""
        return top_of(self.mem, self._row(self._slot_of_index[book_index]))

    def levels(self, book_index: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """All (price_fp, qty_fp) of both sides, best first, those beyond the horizon among them."""
        return levels_of(self.mem, self._row(self._slot_of_index[book_index]))

    def agrees(self, book_index: int, payload: bytes) -> bool:
        """Whether a REST order book has the same published top as a standing book. Changes nothing."""
        slot = self._slot_of_index[book_index]
        row = self._row(slot)
        if not self.is_synced(book_index):
            return False
        price_exp, qty_exp = int(self.mem[row + BOOK_ROW.price_exp]), int(self.mem[row + BOOK_ROW.qty_exp])
        mult, mult_exp = int(self.mem[row + BOOK_ROW.multiplier]), int(self.mem[row + BOOK_ROW.multiplier_exp])
        try:
            theirs = self.codec.reference_snapshot(payload)
            sides = [
                sorted(((exact_price(p, price_exp), exact_qty(q, qty_exp, mult, mult_exp)[0]) for p, q in side if q[0]))
                for side in (theirs.bids, theirs.asks)
            ]
        except (ProtocolViolation, OutOfRange, PricePrecision):
            return False
        bids, asks = self.levels(book_index)
        return bids[:BOOK_DEPTH] == sides[0][::-1][:BOOK_DEPTH] and asks[:BOOK_DEPTH] == sides[1][:BOOK_DEPTH]

    @contextmanager
    def _unpublished(self) -> Iterator[None]:
        """What becomes of books meanwhile is not published."""
        self.mem[BOOKS.quiet] = 1
        try:
            yield
        finally:
            self.mem[BOOKS.quiet] = 0

    def _row(self, slot: int) -> int:
        return int(self.mem[BOOKS.rows_off]) + slot * BOOK_ROW.WORDS


def top_of(mem: Words, row: int) -> Top:
    """Update id and best levels of the book at word offset ``row``."""
    bids, asks = row + BOOK_ROW.sides, row + BOOK_ROW.sides + SIDE.WORDS
    return Top(
        int(mem[row + BOOK_ROW.update_id]),
        int(level2.best_key(mem, bids)),
        int(level2.best_qty(mem, bids)),
        -int(level2.best_key(mem, asks)),
        int(level2.best_qty(mem, asks)),
    )


def levels_of(mem: Words, row: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
    """All (price_fp, qty_fp) of both sides of the book at word offset ``row``, best first."""
    return (
        [(key, qty) for key, qty in _side(mem, row + BOOK_ROW.sides)],
        [(-key, qty) for key, qty in _side(mem, row + BOOK_ROW.sides + SIDE.WORDS)],
    )


def _side(mem: Words, side: int) -> Iterator[tuple[int, int]]:
    directory = int(mem[side + SIDE.directory_off])
    for index in range(int(mem[side + SIDE.blocks]) - 1, -1, -1):
        packed = int(mem[directory + index * ENTRY.WORDS + 1])
        base = int(mem[BOOKS.blocks_off]) + (packed >> COUNT_BITS) * BLOCK_WORDS
        for k in range((packed & COUNT_MASK) - 1, -1, -1):
            yield int(mem[base + 2 * k]), int(mem[base + 2 * k + 1])
