"""The public side of one venue inside a feed process: connections, subscriptions, snapshots, books.

What happens when (fault rows 1-17 of the reliability notes):

* a frame -> one call into the books, which decode, sequence, apply and publish it;
* a book needs a snapshot (first time, gap, crossed, bad bytes) -> that one book, through a queue with the venue's
  request budget and jittered backoff per book; the others go on;
* a connection is lost, silent or stalled -> its books are unproved at once; jittered backoff; meanwhile REST books are
  polled, published as unproved: they show the market and prove nothing;
* a connection comes to its planned end (24 h, or the venue says so) -> the next one stands and is subscribed before the
  old one goes; books that nothing has changed meanwhile are moved over, so that no hole appears in their proof;
* too many bad frames -> the connection is replaced.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine, Iterable
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from pipeline.book.builder import FrameResult, SnapshotResult, VenueBooks
from pipeline.book.state import EV_TIME
from pipeline.exchanges.backoff import Backoff
from pipeline.exchanges.base import VenueClient
from pipeline.exchanges.public import ControlKind, PublicSession
from pipeline.exchanges.stream import STABLE_S, PublicStream
from pipeline.exchanges.timeliness import LATE_MS, ON_TIME_MS, Timeliness
from pipeline.model.clock import mono_ns
from pipeline.model.errors import ProtocolViolation, RateLimited, VenueError, VenueRejected
from shm.atomics import store_relaxed, store_release
from shm.bookring import conn_close, conn_open, publish_book, read_book
from shm.layout import (
    BOOK_RECORD_WORDS,
    BR_FLAGS,
    BR_PUBLISH_MONO_NS,
    CONN_ALIVE,
    CONN_CROSS_TOPIC_LAG_NS,
    CONN_WORDS,
    FEED_CONN_OFF,
    FLAG_GAP,
    FLAG_UNPROVED,
)
from shm.words import Words

if TYPE_CHECKING:
    from pipeline.model.config import VenueConfig

SNAPSHOTS_IN_FLIGHT_MAX = 4
SNAPSHOT_RETRY_BASE_S = 0.05
SNAPSHOT_RETRY_CAP_S = 10.0
REST_FALLBACK_AFTER_S = 1.0  # a reconnect usually takes less
REST_FALLBACK_PERIOD_S = 1.0
REFUSED_RETRY_S = 60.0
BAD_FRAMES_MAX = 20  # per connection and BAD_FRAMES_WINDOW_S
BAD_FRAMES_WINDOW_S = 10.0
OVERLAP_S = 2.0  # both connections run so long at a planned change
TICK_S = 0.1
PAUSE_NS = 1_000_000_000  # a loop that has not come round for so long has been stopped or starved
CLOCK_SYNC_S = 60.0
CLOCK_TRIP_MAX_NS = 1_000_000_000  # a slower answer tells the time too badly
SETTLED_NS = 200_000_000  # frames of now, and nothing else, for so long end a lateness
CALM_NS = 5_000_000_000  # disorder right after a lateness is the lateness
DISORDER_MAX_MS = 250
DISORDERS_TO_RAISE = 3
DISORDER_WINDOW_S = 60.0
DISORDER_FORGET_S = 600.0
MICROSECONDS_FROM = 250_000  # a difference as large as this is in microseconds (or no disorder)
NO_CONN = -1  # a book that no connection carries: nothing can prove it
_CONTROL = int(FrameResult.CONTROL)
_NEED_SNAPSHOT = int(FrameResult.NEED_SNAPSHOT)
_REJECTED = int(FrameResult.REJECTED)
_TIMED = frozenset(  # results that leave the frame's own time behind
    int(result)
    for result in (
        FrameResult.APPLIED,
        FrameResult.DROPPED,
        FrameResult.TICKER,
        FrameResult.BUFFERED,
        FrameResult.NEED_SNAPSHOT,
    )
)
_PRICE_PRECISION = int(FrameResult.PRICE_PRECISION)
ANCHORS = ("BTC", "ETH", "SOL", "XRP", "DOGE", "BNB")  # busiest first, where the venue lists them


class FeedInstrument(msgspec.Struct, frozen=True, kw_only=True):
    """What a feed needs of a catalogue row."""

    symbol: str
    book_index: int
    instrument_id: int
    price_exp: int
    qty_exp: int
    row_epoch: int
    multiplier: Decimal = Decimal(1)


class FeedSettings(msgspec.Struct, frozen=True, kw_only=True):
    """Overrides for tests; None = the session's own."""

    life_s: float | None = None
    stall_after_s: float | None = None


class Counters(msgspec.Struct):
    """What a feed counts beside the books' own counters."""

    connects: int = 0
    disconnects: int = 0
    planned_changes: int = 0
    refused_topics: int = 0
    snapshots_failed: int = 0
    rest_books: int = 0
    bad_frames: int = 0
    control_frames: int = 0
    disorder_ms_max: int = 0
    late_episodes: int = 0
    pauses: int = 0


class ConnSlots:
    """Rows of the feed's connection table, shared by the markets of one exchange."""

    def __init__(self, capacity: int) -> None:
        self._free = deque(range(capacity))

    def take(self) -> int:
        """The row that has been free for longest. Raises ``VenueRejected`` when all are in use."""
        if not self._free:
            raise VenueRejected("no free row in the feed's connection table")
        return self._free.popleft()

    def give_back(self, conn: int) -> None:
        self._free.append(conn)


def anchor_symbol(symbols: Iterable[str]) -> str:
    """The symbol whose ticker pushes most, by the usual order of markets; "" when there is none."""
    known = list(symbols)
    for base in ANCHORS:
        for symbol in known:
            if symbol.startswith(base):
                return symbol
    return known[0] if known else ""


class _Place:
    """One kept-up connection: its symbols and, in turn, the streams that carry them."""

    def __init__(self) -> None:
        self.symbols: dict[str, None] = {}
        self.stream: PublicStream | None = None
        self.down_since_ns = mono_ns()
        self.task: asyncio.Task[None] | None = None
        self.changed = asyncio.Event()


class MarketFeed:
    """Keeps every instrument's book of one venue. ``run()`` until cancelled; ``add`` and ``remove`` at any time."""

    def __init__(
        self,
        *,
        venue: VenueConfig,
        session: PublicSession,
        client: VenueClient,
        words: Words,
        feed_off: int,
        slots: ConnSlots,
        capacity: int,
        settings: FeedSettings | None = None,
        say: Callable[[str, str], None],
        on_frame_done: Callable[[int], None] | None = None,
    ) -> None:
        self.venue = venue
        self.session = session
        self.client = client
        self.counters = Counters()
        settings = settings or FeedSettings()
        self._life_s = settings.life_s if settings.life_s is not None else session.life_s
        self._stall_after_s = settings.stall_after_s if settings.stall_after_s is not None else session.stall_after_s
        self._words = words
        self._feed_off = feed_off
        self._slots = slots
        self._say = say
        self._on_frame_done = on_frame_done
        self.books = VenueBooks(
            dialect=venue.dialect,
            market=venue.market,
            words=words,
            feed_off=feed_off,
            venue_id=venue.venue_id,
            capacity=capacity,
        )
        self.instruments: dict[str, FeedInstrument] = {}
        self._by_book: dict[int, FeedInstrument] = {}
        self._places: list[_Place] = []
        self._streams: dict[int, PublicStream] = {}  # by conn
        self._bad: dict[int, deque[int]] = {}
        self._snapshot_wanted: dict[int, None] = {}
        self._snapshot_running: set[int] = set()
        self._snapshot_backoff: dict[int, Backoff] = {}
        self._snapshot_event = asyncio.Event()
        self._rest_filled: set[int] = set()  # books that show a REST snapshot without a stream behind it
        self._too_fine: set[int] = set()  # books whose prices need a finer exponent than their row has
        self._record: Words = np.zeros(BOOK_RECORD_WORDS, dtype=np.int64)
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = False
        self.last_data_mono_ns = 0
        self.lag_ms = session.cross_topic_lag_ms
        self._timeliness = Timeliness()
        self._disorder_seen_ns = 0
        self._tick_ns = 0
        self._disorders: deque[tuple[int, int]] = deque(maxlen=DISORDERS_TO_RAISE)

    # --- instruments ---

    def add(self, instrument: FeedInstrument) -> None:
        """A new instrument; subscribed at once when running."""
        self._register(instrument)
        place = next((place for place in self._places if self._room(place)), None)
        if place is None:
            place = _Place()
            self._places.append(place)
            if self._running:
                self._start(place)
        place.symbols[instrument.symbol] = None
        place.changed.set()

    def _register(self, instrument: FeedInstrument) -> None:
        self.instruments[instrument.symbol] = instrument
        self._by_book[instrument.book_index] = instrument
        self.books.add(
            book_index=instrument.book_index,
            instrument_id=instrument.instrument_id,
            symbol=instrument.symbol,
            price_exp=instrument.price_exp,
            qty_exp=instrument.qty_exp,
            row_epoch=instrument.row_epoch,
            qty_multiplier=instrument.multiplier,
        )

    def replace(self, instrument: FeedInstrument) -> None:
        """A changed row (exponents, multiplier, epoch): the book starts anew under the new numbers."""
        old = self.instruments[instrument.symbol]
        self.books.remove(old.symbol)
        self._by_book.pop(old.book_index, None)
        self._too_fine.discard(old.book_index)
        self._register(instrument)
        self.books.request_snapshot(instrument.book_index)
        self.want_snapshot(instrument.book_index)

    def set_halted(self, symbol: str, halted: bool) -> None:
        """Flag a book (the venue or the catalogue says that its instrument must not be traded), or end that."""
        instrument = self.instruments.get(symbol)
        if instrument is not None:
            self.books.set_halted(instrument.book_index, halted)

    def remove(self, symbol: str) -> None:
        instrument = self.instruments.pop(symbol, None)
        if instrument is None:
            return
        self._by_book.pop(instrument.book_index, None)
        self._snapshot_wanted.pop(instrument.book_index, None)
        self.books.remove(symbol)
        for place in self._places:
            if symbol in place.symbols:
                del place.symbols[symbol]
                place.changed.set()

    def _room(self, place: _Place) -> bool:
        per_symbol = 2 if self.session.ticker_of_every_symbol else 1
        anchor = 0 if self.session.ticker_of_every_symbol else 1
        return (len(place.symbols) + 1) * per_symbol + anchor <= self.session.topics_per_connection_max

    def _topics(self, place: _Place) -> list[str]:
        """Topics of a connection, the anchor first."""
        if not place.symbols:
            return []
        anchor = anchor_symbol(place.symbols if self.session.ticker_of_every_symbol else self.instruments)
        tickers = [anchor]
        if self.session.ticker_of_every_symbol:
            tickers += [symbol for symbol in place.symbols if symbol != anchor]
        return [self.session.anchor_topic(symbol) for symbol in tickers] + [
            self.session.book_topic(symbol) for symbol in place.symbols
        ]

    # --- state for the process ---

    @property
    def synced(self) -> bool:
        """Every instrument that the venue did not refuse has a whole book."""
        return not self.waiting_for()

    def waiting_for(self) -> list[str]:
        """Symbols without a whole book, refused ones left out."""
        refused = {topic for stream in self._streams.values() for topic in stream.refused}
        return [
            symbol
            for symbol, instrument in self.instruments.items()
            if not (self.books.is_synced(instrument.book_index) and instrument.book_index not in self._rest_filled)
            and self.session.book_topic(symbol) not in refused
            and instrument.book_index not in self._too_fine
        ]

    @property
    def connected(self) -> bool:
        return bool(self._places) and all(p.stream is not None and p.stream.is_open for p in self._places if p.symbols)

    # --- running ---

    async def run(self) -> None:
        """Until cancelled."""
        self._running = True
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                self._tick_ns = mono_ns()
                await self._sync_clock()
                self._tick_ns = mono_ns()
                group.create_task(self._tick())
                for place in self._places:
                    self._start(place)
                for _ in range(SNAPSHOTS_IN_FLIGHT_MAX):
                    group.create_task(self._snapshots())
                group.create_task(self._fallback())
        finally:
            self._running = False
            for stream in list(self._streams.values()):
                stream.close()
                conn_close(self._words, self._feed_off, stream.conn)

    def _start(self, place: _Place) -> None:
        place.task = self._group.create_task(self._keep(place))

    async def _keep(self, place: _Place) -> None:
        """Own one connection for ever: open, subscribe, watch, replace."""
        backoff = Backoff()
        while True:
            floor_s = 0.0
            try:
                stream = await self._open(place)
            except RateLimited as error:
                floor_s = error.retry_after_s
                self._say("warning", error.message)
            except VenueError as error:
                self._say("warning", error.message)
            else:
                stream = await self._live(place, stream)
                self._lost(place, stream)
                if stream.age_s > STABLE_S:
                    backoff.reset()
            await asyncio.sleep(backoff.next_s(floor_s))

    async def _open(self, place: _Place) -> PublicStream:
        conn = self._slots.take()
        stream = PublicStream(
            self.session,
            venue=self.venue.name,
            conn=conn,
            sink=self._frame,
            life_s=self._life_s,
            stall_after_s=self._stall_after_s,
            on_ack=self._acked,
            on_refused=self._refused,
        )
        self._streams[conn] = stream
        self._bad[conn] = deque(maxlen=BAD_FRAMES_MAX)
        conn_open(self._words, self._feed_off, conn, self.venue.venue_id, self.lag_ms * 1_000_000)
        self._set_on_time(stream, False)
        try:
            await stream.open()
        except BaseException:
            self._forget(stream)
            raise
        self.counters.connects += 1
        place.stream = stream
        return stream

    async def _live(self, place: _Place, stream: PublicStream) -> PublicStream:
        """Until the connection (or the last of its planned successors) is gone."""
        while True:
            await _first_of(stream.watch(), self._steer(place, stream))
            if not stream.is_open:
                return stream
            successor = await self._change_over(place, stream)
            if successor is None:
                stream.life_s += 60.0  # could not be replaced now; the old one still serves
            else:
                stream = successor

    async def _steer(self, place: _Place, stream: PublicStream) -> None:
        """Keep the subscriptions as wanted; return when the connection should be changed for a new one."""
        place.changed.clear()  # before the topics are taken: a change that comes while they are sent must not be lost
        await stream.subscribe(self._topics(place))
        retry_at = asyncio.get_running_loop().time() + REFUSED_RETRY_S
        while not stream.renew_asked and (stream.life_s <= 0 or stream.age_s < stream.life_s):
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(place.changed.wait(), 0.25)
            if place.changed.is_set():
                place.changed.clear()
                wanted = self._topics(place)
                await stream.unsubscribe([topic for topic in stream.wanted if topic not in wanted])
                await stream.subscribe([topic for topic in wanted if topic not in stream.wanted])
            if stream.refused and asyncio.get_running_loop().time() > retry_at:
                retry_at = asyncio.get_running_loop().time() + REFUSED_RETRY_S
                await stream.subscribe(list(stream.refused))

    async def _change_over(self, place: _Place, old: PublicStream) -> PublicStream | None:
        """Make before break: None when no successor could be opened."""
        try:
            new = await self._open(place)
        except VenueError as error:
            place.stream = old
            self._say("warning", f"planned change put off: {error.message}")
            return None
        await new.subscribe(self._topics(place))
        await _first_of(old.watch(), new.watch(), asyncio.sleep(OVERLAP_S))
        if not (new.is_open and new.complete and new.on_time and old.is_open):
            # the successor did not prove itself: it goes, unless it is the only one left
            worse, better = (new, old) if old.is_open else (old, new)
            self._retire(worse)
            place.stream = better
            return better if better is new else None
        # whatever came over the old one while both were subscribed came over the new one, too
        self.books.move_connection(old.conn, new.conn)
        self._retire(old)
        self.counters.planned_changes += 1
        return new

    def _retire(self, stream: PublicStream) -> None:
        stream.close()
        self._forget(stream)

    def _forget(self, stream: PublicStream) -> None:
        conn_close(self._words, self._feed_off, stream.conn)
        self._streams.pop(stream.conn, None)
        self._bad.pop(stream.conn, None)
        self._slots.give_back(stream.conn)

    def _lost(self, place: _Place, stream: PublicStream) -> None:
        """Unplanned end: unproved at once, said once."""
        self.counters.disconnects += 1
        self.books.invalidate_connection(stream.conn)
        self._forget(stream)
        place.stream = None
        place.down_since_ns = mono_ns()
        self._say("warning", f"{self.venue.name}: connection {stream.conn} lost: {stream.end_reason}")

    # --- frames ---

    def _frame(self, payload: memoryview, is_text: bool, recv_mono_ns: int, conn: int) -> None:
        """Every frame of every connection: the hot path."""
        if recv_mono_ns - self._tick_ns > PAUSE_NS:
            self._paused(recv_mono_ns)
        result = self.books.on_frame(payload, recv_mono_ns, conn)
        if result == _CONTROL:
            self._control(bytes(payload), conn)
            return
        self.last_data_mono_ns = recv_mono_ns
        stream = self._streams.get(conn)
        if stream is not None:
            stream.last_data_mono_ns = recv_mono_ns
            if result in _TIMED:
                self._judge_time(stream, int(self.books.mem[EV_TIME]), recv_mono_ns)
        if self._on_frame_done is not None:
            self._on_frame_done(recv_mono_ns)
        if result >= _NEED_SNAPSHOT:
            self._trouble(result, conn, recv_mono_ns)

    def _paused(self, recv_mono_ns: int) -> None:
        """This process stood still: what the sockets hold is old. Nothing is proved until frames of now come."""
        self.counters.pauses += 1
        self._tick_ns = recv_mono_ns
        for stream in self._streams.values():
            self._set_on_time(stream, False)

    def _judge_time(self, stream: PublicStream, venue_time: int, recv_mono_ns: int) -> None:
        """Late frames make the connection's proofs void, frames of now make them count (again)."""
        if venue_time <= 0:
            if not stream.on_time and not stream.venue_time_max:
                self._set_on_time(stream, True)  # nothing on this connection has carried a time yet
            return
        late_ms = self._timeliness.late_ms(venue_time, recv_mono_ns)
        if late_ms > LATE_MS:
            stream.late_mono_ns = recv_mono_ns
            if stream.on_time:
                self.counters.late_episodes += 1
                self._set_on_time(stream, False)
        elif not stream.on_time and late_ms < ON_TIME_MS and recv_mono_ns - stream.late_mono_ns > SETTLED_NS:
            self._set_on_time(stream, True)
        if venue_time >= stream.venue_time_max:
            stream.venue_time_max = venue_time
        elif recv_mono_ns - stream.late_mono_ns > CALM_NS:
            self._disorder(stream.venue_time_max - venue_time, recv_mono_ns)

    def _set_on_time(self, stream: PublicStream, on_time: bool) -> None:
        stream.on_time = on_time
        row = self._feed_off + FEED_CONN_OFF + stream.conn * CONN_WORDS
        # SYNC conn.alive: release; pairs with the acquire in proof_mono_ns
        store_release(self._words, row + CONN_ALIVE, int(on_time))

    async def _tick(self) -> None:
        """The loop's own pulse, and the venue's clock every ``CLOCK_SYNC_S``."""
        next_sync_ns = 0
        while True:
            now_ns = mono_ns()
            self._tick_ns = now_ns
            if now_ns >= next_sync_ns:
                next_sync_ns = now_ns + int(CLOCK_SYNC_S * 1e9)
                self._calm_down(now_ns)
                self._spawn(self._sync_clock())
            await asyncio.sleep(TICK_S)

    async def _sync_clock(self) -> None:
        sent_ns = mono_ns()
        try:
            server_ms = await self.client.server_time_ms()
        except VenueError as error:
            if not self._timeliness.clock_known:
                self._say("warning", f"{self.venue.name}: no server time: {error.message}")
            return
        received_ns = mono_ns()
        if received_ns - sent_ns < CLOCK_TRIP_MAX_NS or not self._timeliness.clock_known:
            self._timeliness.learn(server_ms, sent_ns, received_ns)

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        task = self._group.create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _disorder(self, back: int, recv_mono_ns: int) -> None:
        """Venue time ran backward between topics. More than the proof rule allows for, again and again: raise it.

        Far more is no disorder of delivery but old content (a first whole book carries the time of its last change).
        """
        back_ms = back // 1000 if back > MICROSECONDS_FROM else back
        self.counters.disorder_ms_max = max(self.counters.disorder_ms_max, min(back_ms, DISORDER_MAX_MS))
        if self.session.cross_topic_lag_ms < back_ms <= DISORDER_MAX_MS:
            self._disorder_seen_ns = recv_mono_ns
        if not self.lag_ms < back_ms <= DISORDER_MAX_MS:
            return
        self._disorders.append((recv_mono_ns, back_ms))
        first_ns = self._disorders[0][0]
        if len(self._disorders) == DISORDERS_TO_RAISE and recv_mono_ns - first_ns < DISORDER_WINDOW_S * 1e9:
            self.lag_ms = max(ms for _, ms in self._disorders)
            self._disorders.clear()
            self._say("warning", f"{self.venue.name}: topics run apart by {self.lag_ms} ms; proofs are that much older")
            self._write_lag()

    def _write_lag(self) -> None:
        for conn in self._streams:
            row = self._feed_off + FEED_CONN_OFF + conn * CONN_WORDS
            store_relaxed(self._words, row + CONN_CROSS_TOPIC_LAG_NS, self.lag_ms * 1_000_000)

    def _calm_down(self, now_ns: int) -> None:
        """Back to the recorded lag when nothing has exceeded it for a while."""
        base_ms = self.session.cross_topic_lag_ms
        if self.lag_ms > base_ms and now_ns - self._disorder_seen_ns > DISORDER_FORGET_S * 1e9:
            self.lag_ms = base_ms
            self._write_lag()

    def _trouble(self, result: int, conn: int, recv_mono_ns: int) -> None:
        """A book fell out of sync: gap, crossed, contradicted, bad bytes, digits beyond its exponent."""
        book_index = self.books.last_book_index
        if result == _REJECTED:
            self._bad_frame(conn, recv_mono_ns)
        if result == _PRICE_PRECISION:
            self._say_too_fine(book_index)
        elif book_index >= 0:
            self.want_snapshot(book_index)

    def _say_too_fine(self, book_index: int) -> None:
        instrument = self._by_book.get(book_index)
        if instrument is not None and book_index not in self._too_fine:
            self._too_fine.add(book_index)
            digits = self.books.needed_price_exp
            self._say(
                "warning",
                f"{self.venue.name} {instrument.symbol}: halted, a price has {digits} digits after the point, the "
                f"catalogue row holds {instrument.price_exp}",
            )

    def _control(self, payload: bytes, conn: int) -> None:
        self.counters.control_frames += 1
        stream = self._streams.get(conn)
        if stream is None:
            return
        try:
            control = self.session.control(payload)
        except ProtocolViolation as error:
            self._say("warning", error.message)
            self._bad_frame(conn, mono_ns())
            return
        if control.kind is ControlKind.OTHER and control.reason:
            self._say("info", f"{self.venue.name}: {control.reason}")
        stream.on_control(control)

    def _bad_frame(self, conn: int, recv_mono_ns: int) -> None:
        self.counters.bad_frames += 1
        seen = self._bad.get(conn)
        if seen is None:
            return
        seen.append(recv_mono_ns)
        if len(seen) == BAD_FRAMES_MAX and recv_mono_ns - seen[0] < BAD_FRAMES_WINDOW_S * 1e9:
            self._streams[conn].drop(f"{BAD_FRAMES_MAX} bad frames within {BAD_FRAMES_WINDOW_S:g} s")

    def _acked(self, stream: PublicStream, topics: tuple[str, ...]) -> None:
        """A book topic stands: its snapshot may be asked (a quiet book gets no update that would ask for it)."""
        for symbol, instrument in self.instruments.items():
            if self.session.book_topic(symbol) not in topics:
                continue
            index = instrument.book_index
            if index in self._rest_filled:
                self._rest_filled.discard(index)
                self.books.invalidate(index, "a stream carries it again", FLAG_UNPROVED | FLAG_GAP)
            if not self.books.is_synced(index):
                self.books.request_snapshot(index)
                self.want_snapshot(index)

    def _refused(self, stream: PublicStream, topics: tuple[str, ...], reason: str) -> None:
        self.counters.refused_topics += len(topics)
        named = ", ".join(topics) or "a topic that the answer does not name"
        self._say("warning", f"{self.venue.name}: refused {named}: {reason}")

    # --- snapshots ---

    def want_snapshot(self, book_index: int) -> None:
        """Queue one book's snapshot; once, however often it is asked for."""
        if book_index not in self._by_book or book_index in self._too_fine:
            return
        if book_index not in self._snapshot_running:
            self._snapshot_wanted.setdefault(book_index)
            self._snapshot_event.set()

    async def _snapshots(self) -> None:
        """One of the workers that empty the queue."""
        while True:
            while not self._snapshot_wanted:
                self._snapshot_event.clear()
                await self._snapshot_event.wait()
            book_index = next(iter(self._snapshot_wanted))
            del self._snapshot_wanted[book_index]
            instrument = self._by_book.get(book_index)
            place = self._place_of(instrument)
            if instrument is None or place is None or place.stream is None:
                continue  # asked again by the acknowledgement of the next connection
            self._snapshot_running.add(book_index)
            try:
                done = await self._one_snapshot(instrument, place)
            finally:
                self._snapshot_running.discard(book_index)
            if not done and book_index in self._by_book:
                self.want_snapshot(book_index)

    def _place_of(self, instrument: FeedInstrument | None) -> _Place | None:
        if instrument is None:
            return None
        return next((place for place in self._places if instrument.symbol in place.symbols), None)

    async def _one_snapshot(self, instrument: FeedInstrument, place: _Place) -> bool:
        """Fetch and load one snapshot; False = ask again (after this book's backoff)."""
        index = instrument.book_index
        backoff = self._snapshot_backoff.setdefault(
            index, Backoff(base_s=SNAPSHOT_RETRY_BASE_S, cap_s=SNAPSHOT_RETRY_CAP_S)
        )
        asked_ns = mono_ns()  # the answer is at least as new as its question
        try:
            payload = await self.client.depth_snapshot(instrument.symbol)
        except VenueError as error:
            self.counters.snapshots_failed += 1
            self._say("warning", f"{self.venue.name} {instrument.symbol}: snapshot failed: {error.message}")
            await asyncio.sleep(backoff.next_s())
            return False
        stream = place.stream
        if stream is None or not stream.is_open or index not in self._by_book:
            return True  # nothing to align with; the next connection asks again
        result = self.books.on_snapshot(index, payload, asked_ns, stream.conn)
        if result == SnapshotResult.SYNCED or self.books.is_synced(index):
            backoff.reset()  # also where the stream itself brought a whole book meanwhile
            return True
        if result == SnapshotResult.PRICE_PRECISION:
            self._say_too_fine(index)
            return True
        self.counters.snapshots_failed += 1
        if result == SnapshotResult.REJECTED:
            self._say("warning", f"{self.venue.name} {instrument.symbol}: snapshot could not be read")
        await asyncio.sleep(backoff.next_s())
        return index not in self._by_book or self.books.is_synced(index)

    # --- REST while a stream is down ---

    async def _fallback(self) -> None:
        """Poll books of connections that have been down for a while."""
        while True:
            await asyncio.sleep(REST_FALLBACK_PERIOD_S)
            now_ns = mono_ns()
            for place in self._places:
                if place.stream is not None or now_ns - place.down_since_ns < REST_FALLBACK_AFTER_S * 1e9:
                    continue
                for symbol in list(place.symbols):
                    if place.stream is not None:
                        break
                    instrument = self.instruments.get(symbol)
                    if instrument is not None:
                        await self._rest_book(instrument, place)

    async def _rest_book(self, instrument: FeedInstrument, place: _Place) -> None:
        """One book by REST, shown and flagged: no stream stands behind it, so nothing proves it after this moment."""
        asked_ns = mono_ns()
        try:
            payload = await self.client.depth_snapshot(instrument.symbol)
        except VenueError:
            self.counters.snapshots_failed += 1
            return
        index = instrument.book_index
        if place.stream is not None or self._by_book.get(index) is not instrument:
            return
        if self.books.on_snapshot(index, payload, asked_ns, NO_CONN) != SnapshotResult.SYNCED:
            return
        self.counters.rest_books += 1
        self._rest_filled.add(index)
        record = self._record
        if read_book(self._words, self._feed_off, index, record) > 0:
            record[BR_FLAGS] |= FLAG_UNPROVED
            record[BR_PUBLISH_MONO_NS] = 0
            publish_book(self._words, self._feed_off, index, record)


async def _first_of(*work: Coroutine[Any, Any, None]) -> None:
    """Until the first of ``work`` returns; the others are cancelled. An exception of any of them comes out."""
    tasks = [asyncio.ensure_future(item) for item in work]
    try:
        await asyncio.wait(tasks, return_when=asyncio.FIRST_COMPLETED)
    finally:
        for task in tasks:
            task.cancel()
        ends = await asyncio.gather(*tasks, return_exceptions=True)
    for end in ends:
        if isinstance(end, BaseException) and not isinstance(end, asyncio.CancelledError):
            raise end
