"""VenueBooks: every book of one venue, from frames to published records.

One jitted call per frame does the work; Python holds what is rare: updates buffered while a snapshot is fetched, frames
for the reference decoder, growth of memory. No sockets, no clock: the caller brings frames, snapshots and times.

A caller's loop::

    result = books.on_frame(frame, recv_mono_ns, conn)
    if result == FrameResult.CONTROL: ...the caller reads the text
    elif result >= FrameResult.NEED_SNAPSHOT: fetch for books.needs_snapshot(), then books.on_snapshot(...)

``conn`` is the row of the connection in the feed's connection table; the caller opens and closes it
(``shm.bookring.conn_open``). ``words``/``feed_off`` name the feed segment, or any private array of that layout.
"""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

from pipeline.book.book_table import BookTable
from pipeline.book.codec import FeedCodec, OutOfRange, PricePrecision
from pipeline.book.connection_life import DOUBTED, STANDS, begin_life, carry, hand_over, stand_by
from pipeline.book.decoded_event import write_event
from pipeline.book.frame_kernels import (
    OWNER_DEEPER,
    OWNER_LOSE,
    OWNER_REPEAT,
    OWNER_SYNCED,
    RESULT_APPLIED,
    RESULT_BUFFERED,
    RESULT_CONTROL,
    RESULT_DROPPED,
    RESULT_GROW,
    RESULT_KEPT,
    RESULT_NEED_SNAPSHOT,
    RESULT_NOTICE,
    RESULT_OVERFLOW,
    RESULT_PRICE_PRECISION,
    RESULT_RESYNC,
    RESULT_UNKNOWN_SHAPE,
    owner_publish,
    route,
)
from pipeline.book.memory import (
    BOOK_COUNTERS,
    BOOK_ROW,
    BOOKS,
    EVENT,
    FRAME_CAP_BYTES,
    STATE_ALIGNING,
    STATE_EMPTY,
    STATE_LIVE,
    STATE_WAITING,
    SYMBOL_BYTES,
    TOPIC_DEPTH,
    TOPIC_OTHER,
    TOPIC_SNAPSHOT,
    frame_bytes,
    grown,
    new_memory,
)
from pipeline.book.new_row import clear_levels, write_row
from pipeline.book.results import FrameResult, SnapshotResult
from pipeline.book.symbol_table import rewrite_symbols, write_symbol
from pipeline.book.ticker_trust import TickerTrust
from pipeline.book.tickers import slots_behind
from pipeline.book.waiting_updates import WaitingUpdate, WaitingUpdates, forget_connection
from pipeline.model.errors import ArbitrageEngineError, ProtocolViolation
from shm.jit import direct
from shm.layout import FEED_BOOK_CAPACITY_DEFAULT, FLAG_GAP, FLAG_HALTED, FLAG_SNAPSHOT, FLAG_UNPROVED
from shm.words import Words


class VenueBooks(BookTable):
    """All books of one venue (one market of one exchange). Single-threaded."""

    def __init__(
        self,
        *,
        codec: FeedCodec,
        words: Words,
        feed_off: int,
        venue_id: int,
        capacity: int = FEED_BOOK_CAPACITY_DEFAULT,
        recorded_time: bool = False,
    ) -> None:
        """``codec``: how this venue's frames are read and sequenced (``pipeline.exchanges.factory.feed_codec``).
        ``capacity``: most books at once. ``recorded_time``: publish stamps are the receive times (replay)."""
        super().__init__(new_memory(capacity, feed_off), capacity, codec)
        self.venue_id = venue_id
        self.words = words
        self.mem[BOOKS.recorded] = int(recorded_time)
        self.codec.rule.write(self.mem)
        self._frame = frame_bytes(self.mem)
        # Compiled or loaded here, so that no frame waits for it.
        self._kernel = direct(self.codec.on_frame, self.mem, self.words, 0, 0, 0)
        self._route = direct(route, self.mem, self.words, 0, 0, 0)
        self._owner_publish = direct(owner_publish, self.mem, self.words, 0, 0, 0)
        self._hand_over = direct(hand_over, self.mem, self.words, 0, 0)
        self._stand_by = direct(stand_by, self.mem, self.words, 0, 0, 0, 0)
        self._scan_snapshot = direct(self.codec.scan_snapshot, self.mem, 0)
        self.ticker_trust = TickerTrust(self.mem)
        self._waiting: dict[int, WaitingUpdates] = {}  # by slot
        self._kept_from: dict[int, int] = {}  # by slot: since which id its updates are kept for a new snapshot
        self.on_applied: Callable[[int], None] | None = None  # called with the book index after each replayed update
        self.on_notice: Callable[[int, int, int], None] | None = None  # freshness.NOTICE_*, receive time, connection

    # --- instruments ---

    def add(
        self,
        *,
        book_index: int,
        instrument_id: int,
        symbol: str,
        price_exp: int,
        qty_exp: int,
        row_epoch: int = 1,
        qty_multiplier: Decimal = Decimal(1),
    ) -> None:
        """Adds an instrument, or gives it new exponents, multiplier or epoch (its book then starts anew).

        ``qty_multiplier``: base coins per unit of quantity (futures: contract size). Raises ``ArbitrageEngineError``
        when the room is full, the symbol too long or the book index taken.
        """
        raw = symbol.encode()
        if not 0 < len(raw) <= SYMBOL_BYTES:
            raise ArbitrageEngineError(f"symbol does not fit the table: {symbol!r}, at most {SYMBOL_BYTES} bytes")
        if symbol in self._slots:
            self.remove(symbol)
        if book_index in self._slot_of_index:
            raise ArbitrageEngineError(f"book index {book_index} is taken by {self.symbol_of(book_index)}")
        slot = next((s for s in range(self.capacity) if not self.mem[self._row(s) + BOOK_ROW.used]), None)
        if slot is None:
            raise ArbitrageEngineError(f"no room for {symbol}: capacity={self.capacity}")
        numbers = {"price_exp": price_exp, "qty_exp": qty_exp, "row_epoch": row_epoch}
        ids = {"book_index": book_index, "instrument_id": instrument_id}
        write_row(self.mem, slot, **ids, **numbers, qty_multiplier=qty_multiplier)
        self._slots[symbol], self._indices[symbol] = slot, book_index
        self._symbols[slot], self._slot_of_index[book_index] = symbol, slot
        self._waiting[slot] = WaitingUpdates()
        write_symbol(self.mem, symbol, slot)

    def remove(self, symbol: str) -> None:
        """Forgets an instrument; its last record says gap, so that nobody trades on it. Unknown symbols: nothing."""
        slot = self._slots.get(symbol)
        if slot is None:
            return
        row = self._row(slot)
        if self.mem[row + BOOK_ROW.was_synced]:
            self._owner(slot, FLAG_GAP, OWNER_LOSE)
        clear_levels(self.mem, row)
        del self._slots[symbol], self._indices[symbol], self._symbols[slot], self._waiting[slot]
        del self._slot_of_index[int(self.mem[row + BOOK_ROW.book_index])]
        self._kept_from.pop(slot, None)
        self._holes.forget(slot)
        self.ticker_trust.forget(self.mem, slot)
        self.mem[row + BOOK_ROW.used] = 0
        rewrite_symbols(self.mem, self._slots)

    # --- frames ---

    def on_frame(
        self, frame: bytes | bytearray | memoryview, recv_mono_ns: int, conn: int, source: int | None = None
    ) -> int:
        """One received frame (a ``memoryview`` must be of bytes); returns a ``FrameResult`` value. ``source``: which of
        several connections brought it, where that is not ``conn`` (replays: gaps of one are filled by another)."""
        length = len(frame)
        if length > FRAME_CAP_BYTES:
            return self._refuse(-1, recv_mono_ns, conn)
        self._frame[:length] = frame
        result = self._kernel(self.mem, self.words, length, recv_mono_ns, conn)
        if result <= RESULT_CONTROL:  # results up to this need nothing from Python
            return result
        return self._rare(result, bytes(frame), recv_mono_ns, conn, conn if source is None else source)

    def _with_room(self, result: int, again: Callable[[], int], recv_mono_ns: int, conn: int) -> int:
        """``result``, or that of the same once more with as much memory as it needs. What one says about connections
        goes to ``on_notice``."""
        while True:
            if result & RESULT_NOTICE:
                result &= ~RESULT_NOTICE
                if self.on_notice is not None:
                    self.on_notice(int(self.mem[BOOKS.notice]), recv_mono_ns, conn)
            if result != RESULT_GROW:
                return result
            self._grow()
            result = again()

    def _rare(self, result: int, frame: bytes, recv_mono_ns: int, conn: int, source: int) -> int:
        at = (recv_mono_ns, conn)
        result = self._with_room(result, lambda: self._kernel(self.mem, self.words, len(frame), *at), *at)
        if result == RESULT_UNKNOWN_SHAPE:
            result = self._slow(frame, recv_mono_ns, conn)
        slot = int(self.mem[BOOKS.last_slot])
        if result == RESULT_OVERFLOW:
            self.mem[BOOK_COUNTERS.overflowed] += 1
            self._invalidate(slot, FLAG_GAP)
            return FrameResult.NEED_SNAPSHOT
        if result in (RESULT_BUFFERED, RESULT_NEED_SNAPSHOT):
            if result == RESULT_NEED_SNAPSHOT:
                self._waiting[slot].clear()  # of an earlier wait that a whole-book push ended
                self._holes.note(self.mem, self._row(slot), slot, source)
            fills = result == RESULT_BUFFERED and self._holes.is_filled(self.mem, self._row(slot), slot, source)
            self.mem[BOOK_COUNTERS.overflowed] += self._waiting[slot].keep(WaitingUpdate(frame, recv_mono_ns, conn))
            return self._fill(slot, conn) if fills else result
        if result in (RESULT_RESYNC, RESULT_PRICE_PRECISION):
            self._waiting[slot].clear()
            self._holes.forget(slot)
        elif result == RESULT_KEPT:
            if self._waiting[slot].keep(WaitingUpdate(frame, recv_mono_ns, conn)):
                self.stop_keeping_updates(self.last_book_index)  # too many came meanwhile: not this time
            return FrameResult.APPLIED
        return result

    def _fill(self, slot: int, conn: int) -> int:
        """What was missing has come over another connection, ``conn``: all that waited goes on top of the book in its
        turn. What lay beyond the gap may be of long ago; the book is now what ``conn`` has brought to this moment."""
        row = self._row(slot)

        def again(update: WaitingUpdate) -> int:
            self.mem[row + BOOK_ROW.state] = STATE_LIVE
            return self._again(slot, update)

        with self._unpublished():
            whole = self._holes.in_turn(slot, self._waiting[slot], again)
        if whole is None:
            self._invalidate(slot, FLAG_GAP)
            return FrameResult.NEED_SNAPSHOT
        if not whole:
            self.mem[row + BOOK_ROW.state] = STATE_WAITING
            return FrameResult.BUFFERED
        self._holes.forget(slot)
        self.mem[BOOK_COUNTERS.filled] += 1
        carry(self.mem, row, conn)
        self._owner(slot, 0, OWNER_REPEAT)
        return FrameResult.APPLIED

    def _slow(self, frame: bytes, recv_mono_ns: int, conn: int) -> int:
        """The reference decoder's turn."""
        mem = self.mem
        seen_slot = int(mem[BOOKS.last_slot])
        try:
            decoded = self.codec.reference(frame)
        except ProtocolViolation as error:
            return self._refuse(self._slots.get(error.symbol, seen_slot), recv_mono_ns, conn)
        slot = self._slots.get(decoded.symbol, -1)
        topic = decoded.topic
        try:
            write_event(self.mem, decoded, slot)
        except OutOfRange:
            return self._refuse(slot)
        except PricePrecision as error:
            if topic == TOPIC_DEPTH:
                self._invalidate(slot, FLAG_GAP | FLAG_HALTED)
                mem[BOOKS.last_slot] = slot
                mem[BOOKS.needed_exp] = error.digits
                return FrameResult.PRICE_PRECISION
            topic = TOPIC_OTHER  # nothing that the book could be compared with
        at = (recv_mono_ns, conn)
        result = self._route(self.mem, self.words, topic, *at)
        return self._with_room(result, lambda: self._route(self.mem, self.words, topic, *at), *at)

    def _refuse(self, slot: int, recv_mono_ns: int = 0, conn: int = -1) -> int:
        """A frame that the venue's documents do not allow: its book is invalid, or any of ``conn`` may be."""
        self.mem[BOOKS.last_slot] = slot
        self.mem[BOOK_COUNTERS.rejected] += 1
        if slot >= 0:
            self._invalidate(slot, FLAG_GAP)
        else:
            begin_life(self.mem, self.words, conn, recv_mono_ns)
        return FrameResult.REJECTED

    def _invalidate(self, slot: int, flags: int) -> None:
        """The book stands no longer: publishes it with ``flags`` and waits for a snapshot; buffered updates go."""
        self._waiting[slot].clear()
        self._holes.forget(slot)
        self._owner(slot, flags, OWNER_LOSE)

    def _owner(self, slot: int, flags: int, action: int) -> int:
        return self._owner_publish(self.mem, self.words, slot, flags, action)

    def _grow(self) -> None:
        self.mem = grown(self.mem)
        self._frame = frame_bytes(self.mem)

    # --- snapshots ---

    def on_snapshot(self, book_index: int, payload: bytes, recv_mono_ns: int, conn: int) -> SnapshotResult:
        """A REST order book (body as received) for one book; replays the buffered updates on top of it.

        ``recv_mono_ns``: better the time when the request was sent: the book is known to be current as of then.
        ``conn``: the stream connection that carries this book's updates. One publication at the end, flagged
        ``FLAG_SNAPSHOT``. A live book takes no snapshot older than itself (``STALE``), but for one that
        ``keep_updates_for_snapshot`` has kept its updates for.
        """
        slot = self._slot_of_index[book_index]
        row = self._row(slot)
        if len(payload) > FRAME_CAP_BYTES:
            self._refuse(slot)
            return SnapshotResult.REJECTED
        self._frame[: len(payload)] = payload
        scanned = self._scan_snapshot(self.mem, len(payload)) == TOPIC_SNAPSHOT
        if not scanned and not self._read_snapshot(payload, slot):
            return SnapshotResult.REJECTED
        live = self.mem[row + BOOK_ROW.state] >= STATE_ALIGNING
        if live and self.mem[EVENT.last_id] <= self.mem[row + BOOK_ROW.update_id]:
            kept_from = self._kept_from.get(slot) if self.mem[row + BOOK_ROW.kept] else None
            if kept_from is None or self.mem[EVENT.last_id] < kept_from:
                return SnapshotResult.STALE
        self._stop_keeping(slot)
        self._holes.forget(slot)
        refused = self._load_snapshot(payload, slot, recv_mono_ns, conn)
        if refused is not None:
            return refused
        outcome = self._replay(slot, OWNER_DEEPER if live else OWNER_SYNCED, recv_mono_ns, conn)
        if live and outcome is SnapshotResult.STALE and self.mem[row + BOOK_ROW.state] == STATE_WAITING:
            self._owner(slot, FLAG_GAP, OWNER_LOSE)  # what was published before it stands no longer
        return outcome

    def keep_updates_for_snapshot(self, book_index: int) -> None:
        """A synchronised book is about to get a new, deeper snapshot (its known levels run out): its updates are kept
        from now on, so that the snapshot may be of any moment since. ``stop_keeping_updates`` ends that."""
        slot = self._slot_of_index[book_index]
        row = self._row(slot)
        if self.mem[row + BOOK_ROW.state] >= STATE_ALIGNING and not self.mem[row + BOOK_ROW.kept]:
            self._waiting[slot].clear()
            self._kept_from[slot] = int(self.mem[row + BOOK_ROW.update_id])
            self.mem[row + BOOK_ROW.kept] = 1

    def stop_keeping_updates(self, book_index: int) -> None:
        """The snapshot did not come: the book goes on as it is."""
        slot = self._slot_of_index[book_index]
        if self._stop_keeping(slot):
            self._waiting[slot].clear()

    def _stop_keeping(self, slot: int) -> bool:
        row = self._row(slot)
        was = bool(self.mem[row + BOOK_ROW.kept])
        self.mem[row + BOOK_ROW.kept] = 0
        self._kept_from.pop(slot, None)
        return was

    def _read_snapshot(self, payload: bytes, slot: int) -> bool:
        self.mem[BOOK_COUNTERS.slow_path] += 1
        try:
            write_event(self.mem, self.codec.reference_snapshot(payload), slot)
        except (ProtocolViolation, OutOfRange):
            self._refuse(slot)
            return False
        except PricePrecision as error:
            self.mem[BOOKS.needed_exp] = error.digits
            self._invalidate(slot, FLAG_GAP | FLAG_HALTED)
            return False
        return True

    def _load_snapshot(self, payload: bytes, slot: int, recv_mono_ns: int, conn: int) -> SnapshotResult | None:
        """Loads the scanned snapshot; None if it stands, else what to report."""
        mem = self.mem
        mem[EVENT.slot] = slot
        with self._unpublished():
            result = self._route(mem, self.words, TOPIC_SNAPSHOT, recv_mono_ns, conn)
        if result == RESULT_APPLIED:
            return None
        if result == RESULT_GROW:
            self._grow()
            if not self.mem[EVENT.scaled]:
                self._scan_snapshot(self.mem, len(payload))
            return self._load_snapshot(payload, slot, recv_mono_ns, conn)
        if result == RESULT_UNKNOWN_SHAPE:
            if not self._read_snapshot(payload, slot):
                return SnapshotResult.REJECTED
            return self._load_snapshot(payload, slot, recv_mono_ns, conn)
        if result == RESULT_PRICE_PRECISION:
            self._invalidate(slot, FLAG_GAP | FLAG_HALTED)
            return SnapshotResult.PRICE_PRECISION
        mem[BOOK_COUNTERS.overflowed] += 1
        self._invalidate(slot, FLAG_GAP)
        return SnapshotResult.REJECTED

    def _replay(self, slot: int, action: int, recv_mono_ns: int, conn: int) -> SnapshotResult:
        """Buffered updates on top of a fresh snapshot, which came over ``conn``, unpublished; then one publication."""
        waiting = self._waiting[slot]
        newest = waiting.updates[-1] if waiting.updates else None
        with self._unpublished():
            outcome = self._replay_quietly(slot, waiting)
        if outcome is not SnapshotResult.SYNCED:
            return outcome
        waiting.clear()
        row = self._row(slot)
        if self.mem[row + BOOK_ROW.conn] < 0:  # the one of the newest update has ended: the snapshot's proves the book
            if newest is not None and action == OWNER_SYNCED and conn >= 0 and newest.recv_mono_ns < recv_mono_ns:
                # which is older than its question: that update had come before, and what came after it may be missing
                waiting.keep(newest)
                self.mem[row + BOOK_ROW.state] = STATE_WAITING
                self.mem[BOOK_COUNTERS.stale_snapshots] += 1
                return SnapshotResult.STALE
            carry(self.mem, row, conn)
            self.mem[row + BOOK_ROW.recv_ns] = recv_mono_ns
        crossed = self._owner(slot, 0, action) == RESULT_RESYNC
        return SnapshotResult.STALE if crossed else outcome

    def _replay_quietly(self, slot: int, waiting: WaitingUpdates) -> SnapshotResult:
        while waiting.updates:
            result = self._again(slot, waiting.updates[0])
            if result == RESULT_NEED_SNAPSHOT:
                self.mem[BOOK_COUNTERS.stale_snapshots] += 1
                return SnapshotResult.STALE  # this update and those after it stay buffered
            if result == RESULT_PRICE_PRECISION:
                self._invalidate(slot, FLAG_GAP | FLAG_HALTED)
                return SnapshotResult.PRICE_PRECISION
            if result not in (RESULT_APPLIED, RESULT_DROPPED):
                # crossed, rejected, out of bounds: this history cannot be used; wait for a later snapshot
                self._invalidate(slot, FLAG_GAP)
                return SnapshotResult.STALE
            waiting.drop_oldest()
        return SnapshotResult.SYNCED

    def _again(self, slot: int, update: WaitingUpdate) -> int:
        """A buffered update once more, unpublished."""
        self._frame[: len(update.frame)] = update.frame
        result = self._kernel(self.mem, self.words, len(update.frame), update.recv_mono_ns, update.conn)
        while result == RESULT_GROW:
            self._grow()
            result = self._kernel(self.mem, self.words, len(update.frame), update.recv_mono_ns, update.conn)
        if result == RESULT_UNKNOWN_SHAPE:
            result = self._slow(update.frame, update.recv_mono_ns, update.conn)
        if result in (RESULT_APPLIED, RESULT_RESYNC) and self.on_applied is not None:
            self.on_applied(int(self.mem[self._row(slot) + BOOK_ROW.book_index]))
        return result

    # --- state ---

    def invalidate(self, book_index: int, flags: int = FLAG_GAP) -> None:
        """Publishes the book as untradable and waits for a snapshot."""
        self._invalidate(self._slot_of_index[book_index], flags)

    def invalidate_connection(self, conn: int) -> list[int]:
        """The connection is lost: every book that it carried is unproved. Returns their book indices."""
        lost = [index for index in self._slot_of_index if self.conn_of(index) == conn]
        for index in lost:
            self.ticker_trust.forget(self.mem, self._slot_of_index[index])
            self._invalidate(self._slot_of_index[index], FLAG_UNPROVED)
        forget_connection(self._waiting.values(), conn)
        return lost

    def move_connection(self, old: int, new: int) -> list[int]:
        """``new`` carries everything that ``old`` carried (planned reconnect): books stay valid, republished. Those
        that nothing proves are unproved from now on and wait for a snapshot: returns their book indices."""
        lost = []
        for index, slot in self._slot_of_index.items():
            if self.mem[self._row(slot) + BOOK_ROW.conn] == old:
                verdict = self._hand_over(self.mem, self.words, self._row(slot), new)
                if verdict == STANDS:
                    self._repeat(slot, 0)
                elif verdict == DOUBTED:
                    lost.append(index)
                    self._invalidate(slot, FLAG_UNPROVED)
        forget_connection(self._waiting.values(), old)
        return lost

    def stand_by(self, silent: int, new: int, life: int) -> None:
        """``silent`` brings nothing of now, and ``new`` has carried the same beside it since its life ``life``: books
        that ``new`` proves are its own from now on, published so."""
        for slot in self._slot_of_index.values():
            if self._stand_by(self.mem, self.words, self._row(slot), silent, new, life):
                self._repeat(slot, 0)

    def set_halted(self, book_index: int, halted: bool) -> None:
        """Flags every record of a book ``FLAG_HALTED`` (tick, lot, multiplier or status changed), or ends that."""
        slot = self._slot_of_index[book_index]
        at = self._row(slot) + BOOK_ROW.sticky_flags
        self.mem[at] = self.mem[at] & ~FLAG_HALTED | (FLAG_HALTED if halted else 0)
        self._repeat(slot, FLAG_HALTED)

    def _repeat(self, slot: int, flag: int) -> None:
        """Publishes a book again as it is; ``flag`` as its owner has it now."""
        kept = int(self.mem[self._row(slot) + BOOK_ROW.last_flags]) & ~(flag | FLAG_SNAPSHOT)
        self._owner(slot, kept, OWNER_REPEAT)

    def request_snapshot(self, book_index: int) -> None:
        """Makes an untouched book wait for its snapshot before any update has come (quiet instruments)."""
        row = self._row(self._slot_of_index[book_index])
        if self.mem[row + BOOK_ROW.state] == STATE_EMPTY:
            self.mem[row + BOOK_ROW.state] = STATE_WAITING

    def invalidate_books_behind_ticker(self, max_behind_ns: int) -> list[int]:
        """Invalidates the books that have had a ticker ahead of them for more than ``max_behind_ns`` in which frames
        of their connection came: their updates were lost. Returns their book indices; each is counted as a gap."""
        found = []
        for slot in self.ticker_trust.look(self.mem):
            self._repeat(slot, self.ticker_trust.flag)
        for slot in slots_behind(self.mem, self.capacity, max_behind_ns):
            if self.ticker_trust.compares(slot):
                self.ticker_trust.lost(self.mem, slot)
                found.append(int(self.mem[self._row(slot) + BOOK_ROW.book_index]))
                self.mem[BOOK_COUNTERS.gaps] += 1
                self._invalidate(slot, FLAG_UNPROVED | FLAG_GAP)
        return found
