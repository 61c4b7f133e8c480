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

from collections.abc import Callable, Iterator
from decimal import Decimal

from pipeline.book import frame_kernels as engine
from pipeline.book import level2
from pipeline.book import memory as st
from pipeline.book.codec import FeedCodec, OutOfRange, PricePrecision
from pipeline.book.decoded_event import write_event
from pipeline.book.results import BookCounters, FrameResult, SnapshotResult, Top
from pipeline.book.symbol_table import rewrite_symbols, write_symbol
from pipeline.book.waiting_updates import WaitingUpdate, WaitingUpdates
from pipeline.model.errors import ArbitrageEngineError, ProtocolViolation
from shm import layout
from shm.jit import direct
from shm.words import Words

_FRAME_CAP_BYTES = st.FRAME_CAP_BYTES
_FINAL = engine.R_CONTROL  # results up to this need nothing from Python


class VenueBooks:
    """All books of one venue (one market of one exchange). Single-threaded."""

    def __init__(
        self,
        *,
        codec: FeedCodec,
        words: Words,
        feed_off: int,
        venue_id: int,
        capacity: int = layout.FEED_BOOK_CAPACITY_DEFAULT,
        recorded_time: bool = False,
    ) -> None:
        """``codec``: how this venue's frames are read and sequenced (``pipeline.exchanges.factory.feed_codec``).
        ``capacity``: most books at once. ``recorded_time``: publish stamps are the receive times (replay)."""
        self.codec = codec
        self.venue_id = venue_id
        self.capacity = capacity
        self.words = words
        self.mem = st.new_memory(capacity, feed_off)
        self.mem[st.H_RECORDED] = int(recorded_time)
        self.codec.rule.write(self.mem)
        self._frame = memoryview(self.mem.data).cast("B")[st.FRAME_BYTE : st.FRAME_BYTE + st.FRAME_CAP_BYTES]
        # Compiled or loaded here, so that no frame waits for it.
        self._kernel = direct(self.codec.on_frame, self.mem, self.words, 0, 0, 0)
        self._route = direct(engine.route, self.mem, self.words, 0, 0, 0)
        self._owner_publish = direct(engine.owner_publish, self.mem, self.words, 0, 0, 0)
        self._scan_snapshot = direct(self.codec.scan_snapshot, self.mem, 0)
        self._slots: dict[str, int] = {}
        self._symbols: dict[int, str] = {}
        self._slot_of_index: dict[int, int] = {}
        self._waiting: dict[int, WaitingUpdates] = {}  # by slot
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
        if not 0 < len(raw) <= st.SYMBOL_BYTES:
            raise ArbitrageEngineError(f"symbol does not fit the table: {symbol!r}, at most {st.SYMBOL_BYTES} bytes")
        if symbol in self._slots:
            self.remove(symbol)
        if book_index in self._slot_of_index:
            raise ArbitrageEngineError(f"book index {book_index} is taken by {self.symbol_of(book_index)}")
        slot = next((s for s in range(self.capacity) if not self.mem[self._row(s) + st.B_USED]), None)
        if slot is None:
            raise ArbitrageEngineError(f"no room for {symbol}: capacity={self.capacity}")
        sign, digits, exponent = qty_multiplier.normalize().as_tuple()
        assert not sign and isinstance(exponent, int), f"multiplier must be positive: {qty_multiplier}"
        mult = int("".join(map(str, digits))) * 10 ** max(0, exponent)
        row = self._row(slot)
        self.mem[row : row + st.BOOK_WORDS] = 0
        self.mem[row + st.B_USED] = 1
        self.mem[row + st.B_INSTRUMENT] = instrument_id
        self.mem[row + st.B_BOOK_INDEX] = book_index
        self.mem[row + st.B_PRICE_EXP] = price_exp
        self.mem[row + st.B_QTY_EXP] = qty_exp
        self.mem[row + st.B_MULT] = mult
        self.mem[row + st.B_MULT_EXP] = max(0, -exponent)
        self.mem[row + st.B_ROW_EPOCH] = row_epoch
        self.mem[row + st.B_CONN] = -1
        for side in (st.BID, st.ASK):
            directory = int(self.mem[st.H_DIRECTORY_OFF]) + (slot * 2 + side) * st.DIRECTORY_WORDS
            self.mem[row + st.B_SIDE + side * st.SIDE_WORDS + st.SIDE_DIRECTORY] = directory
        self._slots[symbol] = slot
        self._symbols[slot] = symbol
        self._slot_of_index[book_index] = slot
        self._waiting[slot] = WaitingUpdates()
        write_symbol(self.mem, symbol, slot)

    def remove(self, symbol: str) -> None:
        """Forgets an instrument; its last record says gap, so that nobody trades on it. Unknown symbols: nothing."""
        slot = self._slots.get(symbol)
        if slot is None:
            return
        row = self._row(slot)
        if self.mem[row + st.B_WAS_SYNCED]:
            self._owner(slot, layout.FLAG_GAP, engine.OWNER_LOSE)
        for side in (st.BID, st.ASK):
            level2.clear_side(self.mem, row + st.B_SIDE + side * st.SIDE_WORDS)
        del self._slots[symbol]
        del self._symbols[slot]
        del self._slot_of_index[int(self.mem[row + st.B_BOOK_INDEX])]
        del self._waiting[slot]
        self.mem[row + st.B_USED] = 0
        rewrite_symbols(self.mem, self._slots)

    # --- frames ---

    def on_frame(self, frame: bytes | bytearray | memoryview, recv_mono_ns: int, conn: int) -> int:
        """One received frame (a ``memoryview`` must be of bytes); returns a ``FrameResult`` value."""
        length = len(frame)
        if length > _FRAME_CAP_BYTES:
            return self._refuse(-1)
        self._frame[:length] = frame
        result = self._kernel(self.mem, self.words, length, recv_mono_ns, conn)
        if result <= _FINAL:
            return result
        return self._rare(result, bytes(frame), recv_mono_ns, conn)

    def _apply_result(self, result: int, recv_mono_ns: int, conn: int) -> int:
        """The result alone; what it says about connections goes to ``on_notice``."""
        if result & engine.R_NOTICE:
            result &= ~engine.R_NOTICE
            if self.on_notice is not None:
                self.on_notice(int(self.mem[st.H_NOTICE]), recv_mono_ns, conn)
        return result

    def _rare(self, result: int, frame: bytes, recv_mono_ns: int, conn: int) -> int:
        result = self._apply_result(result, recv_mono_ns, conn)
        while result == engine.R_GROW:
            self._grow()
            result = self._apply_result(
                self._kernel(self.mem, self.words, len(frame), recv_mono_ns, conn), recv_mono_ns, conn
            )
        if result == engine.R_UNKNOWN_SHAPE:
            result = self._slow(frame, recv_mono_ns, conn)
        slot = int(self.mem[st.H_LAST_SLOT])
        if result == engine.R_OVERFLOW:
            self.mem[st.C_OVERFLOWED] += 1
            self._lose(slot, layout.FLAG_GAP)
            return FrameResult.NEED_SNAPSHOT
        if result in (engine.R_BUFFERED, engine.R_NEED_SNAPSHOT):
            if result == engine.R_NEED_SNAPSHOT:
                self._waiting[slot].clear()  # of an earlier wait that a whole-book push ended
            self.mem[st.C_OVERFLOWED] += self._waiting[slot].keep(WaitingUpdate(frame, recv_mono_ns, conn))
        elif result in (engine.R_RESYNC, engine.R_PRICE_PRECISION):
            self._waiting[slot].clear()
        return result

    def _slow(self, frame: bytes, recv_mono_ns: int, conn: int) -> int:
        """The reference decoder's turn."""
        mem = self.mem
        seen_slot = int(mem[st.H_LAST_SLOT])
        try:
            decoded = self.codec.reference(frame)
        except ProtocolViolation:
            return self._refuse(seen_slot)
        slot = self._slots.get(decoded.symbol, -1)
        topic = decoded.topic
        try:
            write_event(self.mem, decoded, slot)
        except OutOfRange:
            return self._refuse(slot)
        except PricePrecision as error:
            if topic == st.TOPIC_DEPTH:
                self._lose(slot, layout.FLAG_GAP | layout.FLAG_HALTED)
                mem[st.H_LAST_SLOT] = slot
                mem[st.H_NEEDED_EXP] = error.digits
                return FrameResult.PRICE_PRECISION
            topic = st.TOPIC_OTHER  # nothing that the book could be compared with
        result = self._apply_result(self._route(self.mem, self.words, topic, recv_mono_ns, conn), recv_mono_ns, conn)
        while result == engine.R_GROW:
            self._grow()
            result = self._apply_result(
                self._route(self.mem, self.words, topic, recv_mono_ns, conn), recv_mono_ns, conn
            )
        return result

    def _refuse(self, slot: int) -> int:
        """A frame that the venue's documents do not allow: its book, where it is known, is invalid."""
        self.mem[st.H_LAST_SLOT] = slot
        self.mem[st.C_REJECTED] += 1
        if slot >= 0:
            self._lose(slot, layout.FLAG_GAP)
        return FrameResult.REJECTED

    def _lose(self, slot: int, flags: int) -> None:
        self._waiting[slot].clear()
        self._owner(slot, flags, engine.OWNER_LOSE)

    def _owner(self, slot: int, flags: int, action: int) -> int:
        return self._owner_publish(self.mem, self.words, slot, flags, action)

    def _grow(self) -> None:
        self.mem = st.grown(self.mem)
        self._frame = memoryview(self.mem.data).cast("B")[st.FRAME_BYTE : st.FRAME_BYTE + st.FRAME_CAP_BYTES]

    # --- snapshots ---

    def on_snapshot(self, book_index: int, payload: bytes, recv_mono_ns: int, conn: int) -> SnapshotResult:
        """A REST order book (body as received) for one book; replays the buffered updates on top of it.

        ``recv_mono_ns``: better the time when the request was sent: the book is known to be current as of then.
        ``conn``: the stream connection that carries this book's updates. One publication at the end, flagged
        ``FLAG_SNAPSHOT``. A live book takes no snapshot older than itself (``STALE``).
        """
        slot = self._slot_of_index[book_index]
        row = self._row(slot)
        if len(payload) > st.FRAME_CAP_BYTES:
            self._refuse(slot)
            return SnapshotResult.REJECTED
        self._frame[: len(payload)] = payload
        scanned = self._scan_snapshot(self.mem, len(payload)) == st.TOPIC_SNAPSHOT
        if not scanned and not self._read_snapshot(payload, slot):
            return SnapshotResult.REJECTED
        live = self.mem[row + st.B_STATE] >= st.STATE_ALIGNING
        if live and self.mem[st.EV_LAST] <= self.mem[row + st.B_UPDATE_ID]:
            return SnapshotResult.STALE
        refused = self._load_snapshot(payload, slot, recv_mono_ns, conn)
        if refused is not None:
            return refused
        return self._replay(slot)

    def _read_snapshot(self, payload: bytes, slot: int) -> bool:
        self.mem[st.C_SLOW_PATH] += 1
        try:
            write_event(self.mem, self.codec.reference_snapshot(payload), slot)
        except (ProtocolViolation, OutOfRange):
            self._refuse(slot)
            return False
        except PricePrecision as error:
            self.mem[st.H_NEEDED_EXP] = error.digits
            self._lose(slot, layout.FLAG_GAP | layout.FLAG_HALTED)
            return False
        return True

    def _load_snapshot(self, payload: bytes, slot: int, recv_mono_ns: int, conn: int) -> SnapshotResult | None:
        """Loads the scanned snapshot; None if it stands, else what to report."""
        mem = self.mem
        mem[st.EV_SLOT], mem[st.H_QUIET] = slot, 1
        result = self._route(mem, self.words, st.TOPIC_SNAPSHOT, recv_mono_ns, conn)
        mem[st.H_QUIET] = 0
        if result == engine.R_APPLIED:
            return None
        if result == engine.R_GROW:
            self._grow()
            if not self.mem[st.EV_SCALED]:
                self._scan_snapshot(self.mem, len(payload))
            return self._load_snapshot(payload, slot, recv_mono_ns, conn)
        if result == engine.R_UNKNOWN_SHAPE:
            if not self._read_snapshot(payload, slot):
                return SnapshotResult.REJECTED
            return self._load_snapshot(payload, slot, recv_mono_ns, conn)
        if result == engine.R_PRICE_PRECISION:
            self._lose(slot, layout.FLAG_GAP | layout.FLAG_HALTED)
            return SnapshotResult.PRICE_PRECISION
        mem[st.C_OVERFLOWED] += 1
        self._lose(slot, layout.FLAG_GAP)
        return SnapshotResult.REJECTED

    def _replay(self, slot: int) -> SnapshotResult:
        """Buffered updates on top of a fresh snapshot, unpublished; then one publication."""
        self.mem[st.H_QUIET] = 1
        try:
            outcome = self._replay_quietly(slot, self._waiting[slot])
        finally:
            self.mem[st.H_QUIET] = 0
        if outcome is not SnapshotResult.SYNCED:
            return outcome
        self._waiting[slot].clear()
        crossed = self._owner(slot, 0, engine.OWNER_SYNCED) == engine.R_RESYNC
        return SnapshotResult.STALE if crossed else outcome

    def _replay_quietly(self, slot: int, waiting: WaitingUpdates) -> SnapshotResult:
        index = int(self.mem[self._row(slot) + st.B_BOOK_INDEX])
        while waiting.updates:
            item = waiting.updates[0]
            self._frame[: len(item.frame)] = item.frame
            result = self._kernel(self.mem, self.words, len(item.frame), item.recv_mono_ns, item.conn)
            while result == engine.R_GROW:
                self._grow()
                result = self._kernel(self.mem, self.words, len(item.frame), item.recv_mono_ns, item.conn)
            if result == engine.R_UNKNOWN_SHAPE:
                result = self._slow(item.frame, item.recv_mono_ns, item.conn)
            if result in (engine.R_APPLIED, engine.R_RESYNC) and self.on_applied is not None:
                self.on_applied(index)
            if result == engine.R_NEED_SNAPSHOT:
                return SnapshotResult.STALE  # this update and those after it stay buffered
            if result == engine.R_PRICE_PRECISION:
                self._lose(slot, layout.FLAG_GAP | layout.FLAG_HALTED)
                return SnapshotResult.PRICE_PRECISION
            if result not in (engine.R_APPLIED, engine.R_DROPPED):
                # crossed, rejected, out of bounds: this history cannot be used; wait for a later snapshot
                self._lose(slot, layout.FLAG_GAP)
                return SnapshotResult.STALE
            waiting.drop_oldest()
        return SnapshotResult.SYNCED

    # --- state ---

    def invalidate(self, book_index: int, reason: str, flags: int = layout.FLAG_GAP) -> None:
        """Publishes the book as untradable and waits for a snapshot. ``reason`` is for the caller's log."""
        del reason
        self._lose(self._slot_of_index[book_index], flags)

    def invalidate_connection(self, conn: int) -> list[int]:
        """The connection is lost: every book that it carried is unproved. Returns their book indices."""
        lost = [index for index, slot in self._slot_of_index.items() if self.mem[self._row(slot) + st.B_CONN] == conn]
        for index in lost:
            self._lose(self._slot_of_index[index], layout.FLAG_UNPROVED | layout.FLAG_GAP)
        return lost

    def move_connection(self, old: int, new: int) -> None:
        """``new`` carries everything that ``old`` carried (planned reconnect): books stay valid, republished."""
        for slot in self._symbols:
            row = self._row(slot)
            if self.mem[row + st.B_CONN] == old:
                self.mem[row + st.B_CONN] = new
                if self.mem[row + st.B_STATE] >= st.STATE_ALIGNING:
                    self._owner(slot, 0, engine.OWNER_REPEAT)

    def set_halted(self, book_index: int, halted: bool) -> None:
        """Flags every record of a book ``FLAG_HALTED`` (tick, lot, multiplier or status changed), or ends that."""
        slot = self._slot_of_index[book_index]
        row = self._row(slot)
        self.mem[row + st.B_STICKY_FLAGS] = layout.FLAG_HALTED if halted else 0
        kept = int(self.mem[row + st.B_LAST_FLAGS]) & ~(layout.FLAG_HALTED | layout.FLAG_SNAPSHOT)
        self._owner(slot, kept, engine.OWNER_REPEAT)

    def needs_snapshot(self) -> list[int]:
        """Book indices that wait for a snapshot (an untouched book asks with its first update)."""
        return [
            index
            for index, slot in self._slot_of_index.items()
            if self.mem[self._row(slot) + st.B_STATE] == st.STATE_WAITING
        ]

    def request_snapshot(self, book_index: int) -> None:
        """Makes an untouched book wait for its snapshot before any update has come (quiet instruments)."""
        row = self._row(self._slot_of_index[book_index])
        if self.mem[row + st.B_STATE] == st.STATE_EMPTY:
            self.mem[row + st.B_STATE] = st.STATE_WAITING

    def is_synced(self, book_index: int) -> bool:
        """Whether the book stands on a snapshot with no gap since."""
        return bool(self.mem[self._row(self._slot_of_index[book_index]) + st.B_STATE] >= st.STATE_ALIGNING)

    def ever_synced(self, book_index: int) -> bool:
        """Whether the book has stood on a snapshot that its updates reached, at any time."""
        return bool(self.mem[self._row(self._slot_of_index[book_index]) + st.B_WAS_SYNCED])

    @property
    def last_book_index(self) -> int:
        """Which book the last result was about; -1 = none."""
        slot = int(self.mem[st.H_LAST_SLOT])
        return int(self.mem[self._row(slot) + st.B_BOOK_INDEX]) if slot >= 0 else -1

    @property
    def needed_price_exp(self) -> int:
        """Digits after the point that the last refused price needs (``PRICE_PRECISION``)."""
        return int(self.mem[st.H_NEEDED_EXP])

    @property
    def counters(self) -> BookCounters:
        """All totals since the start."""
        values = self.mem[st.H_COUNTERS : st.H_COUNTERS + len(st.COUNTER_NAMES)]
        return BookCounters(*(int(value) for value in values))

    def symbol_of(self, book_index: int) -> str:
        """The symbol of a book index."""
        return self._symbols[self._slot_of_index[book_index]]

    def index_of(self, symbol: str) -> int:
        """The book index of a symbol; -1 if it is not ours."""
        slot = self._slots.get(symbol, -1)
        return int(self.mem[self._row(slot) + st.B_BOOK_INDEX]) if slot >= 0 else -1

    def top(self, book_index: int) -> Top:
        """Update id and best levels of a book, whatever its state."""
        row = self._row(self._slot_of_index[book_index])
        bids, asks = row + st.B_SIDE, row + st.B_SIDE + st.SIDE_WORDS
        mem = self.mem
        return Top(
            int(mem[row + st.B_UPDATE_ID]),
            int(level2.best_key(mem, bids)),
            int(level2.best_qty(mem, bids)),
            -int(level2.best_key(mem, asks)),
            int(level2.best_qty(mem, asks)),
        )

    def levels(self, book_index: int) -> tuple[list[tuple[int, int]], list[tuple[int, int]]]:
        """All (price_fp, qty_fp) of both sides, best first."""
        row = self._row(self._slot_of_index[book_index])
        return (
            [(key, qty) for key, qty in self._side(row + st.B_SIDE)],
            [(-key, qty) for key, qty in self._side(row + st.B_SIDE + st.SIDE_WORDS)],
        )

    def _side(self, side: int) -> Iterator[tuple[int, int]]:
        directory = int(self.mem[side + st.SIDE_DIRECTORY])
        for index in range(int(self.mem[side + st.SIDE_BLOCKS]) - 1, -1, -1):
            packed = int(self.mem[directory + index * st.ENTRY_WORDS + 1])
            base = int(self.mem[st.H_BLOCK_OFF]) + (packed >> st.COUNT_BITS) * st.BLOCK_WORDS
            for k in range((packed & st.COUNT_MASK) - 1, -1, -1):
                yield int(self.mem[base + 2 * k]), int(self.mem[base + 2 * k + 1])

    def _row(self, slot: int) -> int:
        return int(self.mem[st.H_BOOK_OFF]) + slot * st.BOOK_WORDS
