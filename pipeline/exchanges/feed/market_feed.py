"""The public side of one venue inside a feed process: connections, subscriptions, snapshots, books.

What happens when:

* a frame -> one call into the books, which decode, sequence, apply and publish it;
* a book needs a snapshot (first time, gap, crossed, bad bytes) -> that one book, through a queue with the venue's
  request budget and jittered backoff per book; the others go on;
* a connection is lost, silent or stalled -> its books are unproved at once; jittered backoff; meanwhile REST books are
  polled, published as unproved: they show the market and prove nothing;
* a connection comes to its planned end (24 h, or the venue says so) -> the next one stands and is subscribed before the
  old one goes; books that nothing has changed meanwhile are moved over, so that no hole appears in their proof;
* too many bad frames -> the connection is replaced;
* ``settings.sockets`` is 2 -> each connection has a twin (``kept_connection.py``).
"""

from __future__ import annotations

import asyncio
import contextlib
from collections import deque
from collections.abc import Callable, Coroutine
from typing import TYPE_CHECKING, Any

from pipeline.book.codec import FeedCodec
from pipeline.book.results import FrameResult
from pipeline.book.venue_books import VenueBooks
from pipeline.exchanges.base import VenueClient
from pipeline.exchanges.feed.connection import STABLE_S, ConnectionRows, FeedConnection
from pipeline.exchanges.feed.connection_proofs import Proofs
from pipeline.exchanges.feed.frame_tap import FrameTap
from pipeline.exchanges.feed.kept_connection import KeptConnection, Twin
from pipeline.exchanges.feed.planned_change import first_of, opened_unless, overlap, replaces
from pipeline.exchanges.feed.public_stream import ControlKind, PublicStream
from pipeline.exchanges.feed.snapshots import Snapshots
from pipeline.exchanges.feed.topics import has_room, topics_of
from pipeline.exchanges.feed.types import Counters, FeedInstrument, FeedSettings
from pipeline.exchanges.transport.backoff import ReconnectPauses
from pipeline.model.clock import mono_ns
from pipeline.model.errors import ProtocolViolation, VenueError
from shm.layout import FLAG_UNPROVED
from shm.words import Words

if TYPE_CHECKING:
    from pipeline.model.config import VenueConfig

BAD_FRAMES_MAX = 20  # per connection and BAD_FRAMES_WINDOW_S
BAD_FRAMES_WINDOW_S = 10.0
TICK_S = 0.1
BEHIND_TICKER_NS = 400_000_000  # of flow: an update follows its ticker within that (recorded: 212 ms at most)
MEASURE_S = 1.0
_CONTROL = int(FrameResult.CONTROL)
_NEED_SNAPSHOT = int(FrameResult.NEED_SNAPSHOT)
_REJECTED = int(FrameResult.REJECTED)
_PRICE_PRECISION = int(FrameResult.PRICE_PRECISION)


class MarketFeed:
    """Keeps every instrument's book of one venue. ``run()`` until cancelled; ``add`` and ``remove`` at any time."""

    def __init__(
        self,
        *,
        venue: VenueConfig,
        public: PublicStream,
        client: VenueClient,
        codec: FeedCodec,
        words: Words,
        feed_off: int,
        connection_rows: ConnectionRows,
        capacity: int,
        settings: FeedSettings | None = None,
        say: Callable[[str, str], None],
        on_frame_done: Callable[[int], None] | None = None,
        tap: FrameTap | None = None,
    ) -> None:
        self.venue = venue
        self.public = public
        self.client = client
        self.counters = Counters()
        settings = settings or FeedSettings()
        self._life_s = settings.life_s if settings.life_s is not None else public.life_s
        self._stall_after_s = settings.stall_after_s if settings.stall_after_s is not None else public.stall_after_s
        self.sockets = settings.sockets if public.can_be_doubled else 1
        self._connection_rows = connection_rows
        self._say = say
        self._on_frame_done, self._tap = on_frame_done, tap
        self.books = VenueBooks(codec=codec, words=words, feed_off=feed_off, venue_id=venue.venue_id, capacity=capacity)
        self.instruments: dict[str, FeedInstrument] = {}
        self._by_book: dict[int, FeedInstrument] = {}
        self._kept: list[KeptConnection] = []
        self._connections: dict[int, FeedConnection] = {}  # by conn
        self._bad: dict[int, deque[int]] = {}
        self._tasks: set[asyncio.Task[None]] = set()
        self._running = False
        self.proofs = Proofs(
            venue=venue.name,
            venue_id=venue.venue_id,
            books=self.books,
            feed_off=feed_off,
            lag_ms=public.cross_topic_lag_ms,
            counters=self.counters,
            say=say,
            on_turn=self._turned,
        )
        self.snapshots = Snapshots(
            venue=venue.name,
            client=client,
            books=self.books,
            words=words,
            feed_off=feed_off,
            instruments=self._by_book,
            carrier=self._carrier,
            book_topic=public.book_topic,
            whole_books_pushed=public.whole_books_pushed,
            counters=self.counters,
            say=say,
            tap=tap,
        )

    # --- instruments ---

    def add(self, instrument: FeedInstrument) -> None:
        """A new instrument; subscribed at once when running."""
        self._register(instrument)
        kept = next((kept for kept in self._kept if has_room(self.public, len(kept.symbols))), None)
        if kept is None:
            kept = KeptConnection()
            self._kept.append(kept)
            if self._running:
                self._start(kept)
        kept.symbols[instrument.symbol] = None
        kept.changed.set()

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
        self.snapshots.forget(old.book_index)
        self._register(instrument)
        self.books.request_snapshot(instrument.book_index)
        self.snapshots.want(instrument.book_index)

    def set_halted(self, symbol: str, halted: bool) -> None:
        """Flag a book (the venue or the catalogue says that its instrument must not be traded), or end that."""
        instrument = self.instruments.get(symbol)
        if instrument is not None:
            self.books.set_halted(instrument.book_index, halted)

    def remove(self, symbol: str) -> None:
        """Unsubscribes an instrument; its last record is a gap. Unknown symbols: nothing."""
        instrument = self.instruments.pop(symbol, None)
        if instrument is None:
            return
        self._by_book.pop(instrument.book_index, None)
        self.snapshots.forget(instrument.book_index)
        self.books.remove(symbol)
        for kept in self._kept:
            if symbol in kept.symbols:
                del kept.symbols[symbol]
                kept.changed.set()

    # --- state for the process ---

    @property
    def synced(self) -> bool:
        """Every instrument that the venue did not refuse has a whole book."""
        return not self.waiting_for()

    def waiting_for(self) -> list[str]:
        """Symbols without a whole book, refused ones left out."""
        refused = {topic for kept in self._kept if kept.live is not None for topic in kept.live.refused}
        return [
            symbol
            for symbol, instrument in self.instruments.items()
            if not self.snapshots.whole(instrument) and self.public.book_topic(symbol) not in refused
        ]

    @property
    def twins(self) -> int:
        """Connections beside which a second one stands that could take over now."""
        return sum(kept.twin is not None and kept.twin.stands for kept in self._kept)

    @property
    def lag_ms(self) -> int:
        """What the proof rule allows topics to run apart."""
        return self.proofs.lag_ms

    @property
    def connected(self) -> bool:
        """Every connection that has symbols stands."""
        return bool(self._kept) and all(
            kept.live is not None and kept.live.is_open for kept in self._kept if kept.symbols
        )

    # --- running ---

    async def run(self) -> None:
        """Until cancelled."""
        self._running = True
        try:
            async with asyncio.TaskGroup() as group:
                self._group = group
                await self.proofs.ask_clock(self.client)
                self.proofs.ticked(mono_ns())
                group.create_task(self._tick())
                for kept in self._kept:
                    self._start(kept)
                self.snapshots.start(group, compare_quiet=self.public.compares_quiet_books)
                group.create_task(self.snapshots.show_while_down(self._kept))
        finally:
            self._running = False
            for connection in list(self._connections.values()):
                connection.close()
                self.proofs.close(connection)

    def _start(self, kept: KeptConnection) -> None:
        kept.task = self._group.create_task(self._keep(kept))
        if self.sockets > 1:
            kept.twin = Twin(
                kept,
                books=self.books,
                connect=self._connect,
                room=lambda: self._connection_rows.roomy,
                hand_over=self._hand_over,
                end=self._end,
                topics=lambda: topics_of(self.public, kept.symbols, self.instruments),
                say=lambda level, text: self._say(level, f"{self.venue.name}: {text}"),
            )
            self._group.create_task(kept.twin.keep())

    async def _keep(self, kept: KeptConnection) -> None:
        """Own one connection for ever: open, subscribe, watch, replace."""
        pauses = ReconnectPauses()
        while True:
            while not kept.symbols:  # a connection without subscriptions is closed by its venue
                kept.changed.clear()
                await kept.changed.wait()
            heir: FeedConnection | None = None
            refused: VenueError | None = None
            try:
                heir = kept.live = await kept.opened(self._connect, self._end)
                if heir.acked:  # its twin
                    self._carried(kept)
            except VenueError as error:
                refused = error
                self._say("warning", error.message)
            while heir is not None:
                connection = await self._live(kept, heir)
                heir = self._lost(kept, connection)
                if heir is None and connection.age_s > STABLE_S:
                    pauses.reset()
            await kept.pause(pauses.next_s(refused))

    async def _connect(self) -> FeedConnection:
        conn = self._connection_rows.take()
        connection = FeedConnection(
            self.public,
            venue=self.venue.name,
            conn=conn,
            sink=self._sink(conn) if self._tap is None else self._tap.behind(self._sink(conn), conn),
            last_data_ns=lambda: self.proofs.last_data_ns(conn),
            life_s=self._life_s,
            stall_after_s=self._stall_after_s,
            on_ack=lambda _, topics: self.snapshots.acknowledged(topics),
            on_refused=self._refused,
            is_quiet=self._is_quiet,
        )
        self._connections[conn] = connection
        self._bad[conn] = deque(maxlen=BAD_FRAMES_MAX)
        self.proofs.open(connection)
        try:
            await connection.open()
        except BaseException:
            self._forget(connection)
            raise
        self.counters.connects += 1
        return connection

    async def _live(self, kept: KeptConnection, connection: FeedConnection) -> FeedConnection:
        """Until the connection (or the last of its planned successors) is gone."""
        while True:
            await first_of(connection.watch(), self._steer(kept, connection))
            if not connection.is_open:
                return connection
            successor = await self._change_over(kept, connection)
            if successor is None:
                connection.put_off_change()  # it still serves
            else:
                connection = successor

    async def _steer(self, kept: KeptConnection, connection: FeedConnection) -> None:
        """Keep the subscriptions as wanted; return when the connection should be changed for a new one."""
        kept.changed.set()  # one that was a twin may carry what is wanted no more
        while not connection.due:
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(0.25):
                    await kept.changed.wait()
            if not kept.changed.is_set():
                continue
            kept.changed.clear()  # before the topics are taken: a change while they are sent must not be lost
            wanted = topics_of(self.public, kept.symbols, self.instruments)
            if not wanted:
                connection.drop("no symbols left")
                return
            await connection.unsubscribe([topic for topic in connection.wanted if topic not in wanted])
            await connection.subscribe([topic for topic in wanted if topic not in connection.wanted])

    async def _change_over(self, kept: KeptConnection, old: FeedConnection) -> FeedConnection | None:
        """Planned change: the new connection is complete before the old one goes. None: that stays, or has ended."""
        try:
            new = await opened_unless(lambda: not old.is_open, self._connect, self._end)
        except VenueError as error:
            self._say("warning", f"planned change put off: {error.message}")
            return None
        if new is None:
            return None
        await new.subscribe(topics_of(self.public, kept.symbols, self.instruments))
        await first_of(old.watch(), new.watch(), overlap(old, new))
        if new.is_open and old.is_open and replaces(old, new):
            kept.live = new
            self._hand_over(old, new)
            self.counters.planned_changes += 1
        elif old.is_open:  # the successor did not prove itself
            self._hand_over(new, old)
        elif (heir := self._lost(kept, old)) is not None:
            self._hand_over(new, heir)
        else:  # nor did it have everything when the old one was lost; it is the only one left
            kept.live = new
        self._carried(kept)
        return None if kept.live is old else kept.live

    def _carried(self, kept: KeptConnection) -> None:
        """Asks for what was lost, or asked for while nobody carried it."""
        for symbol in kept.symbols:
            self.snapshots.carried(self.instruments[symbol])

    def _hand_over(self, source: FeedConnection, target: FeedConnection) -> None:
        """End ``source``. What came over it while both were subscribed came over ``target``, too; books that it does
        not carry, or not prove, are fetched again."""
        of_source = [one for one in self.instruments.values() if self.books.conn_of(one.book_index) == source.conn]
        lost = [one.book_index for one in of_source if self.public.book_topic(one.symbol) not in target.acked]
        for book_index in lost:
            self.books.invalidate(book_index, FLAG_UNPROVED)
        for book_index in lost + self.books.move_connection(source.conn, target.conn):
            self.snapshots.lost(book_index, "unproved when its connection was changed")
        source.close()
        self._forget(source)

    def _end(self, connection: FeedConnection) -> None:
        """End a connection whose books no other one carries on: they are unproved at once, and asked for again where
        another one carries them."""
        for book_index in self.books.invalidate_connection(connection.conn):
            self.snapshots.want(book_index)
        connection.close()
        self._forget(connection)

    def _forget(self, connection: FeedConnection) -> None:
        self.proofs.close(connection)
        self._connections.pop(connection.conn, None)
        self._bad.pop(connection.conn, None)
        self._connection_rows.give_back(connection.conn)

    def _lost(self, kept: KeptConnection, connection: FeedConnection) -> FeedConnection | None:
        """Unplanned end: its books are its twin's, which is returned, or unproved at once; one warning is logged."""
        self.counters.disconnects += 1
        # A connection that goes because nothing is left to carry needs no heir.
        kept.live = kept.twin.take(connection) if kept.twin is not None and kept.symbols else None
        self._say("warning", f"{self.venue.name}: connection {connection.conn} lost: {connection.end_reason}")
        if kept.live is not None:
            self._hand_over(connection, kept.live)
        else:
            kept.went_down(connection)
            self._end(connection)
        return kept.live

    # --- frames ---

    def _sink(self, conn: int) -> Callable[[memoryview, bool, int], None]:
        """What takes every frame of one connection: the hot path, of local names: cold code is what it waits for."""
        on_frame = self.books.on_frame
        done = self._on_frame_done

        def take(payload: memoryview, is_text: bool, recv_mono_ns: int) -> None:
            result = on_frame(payload, recv_mono_ns, conn)
            if result == _CONTROL:
                self._control(bytes(payload), conn)
                return
            if done is not None:
                done(recv_mono_ns)
            if result >= _NEED_SNAPSHOT:
                self._trouble(result, conn, recv_mono_ns)

        return take

    async def _tick(self) -> None:
        """Every ``TICK_S``: that the loop runs, which books are behind their tickers; now and then how far topics run
        apart, which books are near their horizon (:meth:`_turned` also asks), and the venue's clock."""
        next_measure_ns = 0
        while True:
            now_ns = mono_ns()
            self.proofs.ticked(now_ns)
            for book_index in self.books.invalidate_books_behind_ticker(BEHIND_TICKER_NS):
                self.counters.behind_ticker += 1
                self.snapshots.lost(book_index, "no update followed its ticker")
            for symbol in map(self.books.symbol_of, self.books.ticker_trust.take_news()):
                self._say("warning", f"{self.venue.name} {symbol}: never agrees with its ticker: own updates prove it")
            self.counters.uncompared = self.books.ticker_trust.uncompared
            if now_ns >= next_measure_ns:
                next_measure_ns = now_ns + int(MEASURE_S * 1e9)
                self.proofs.measure(now_ns)
                self.snapshots.deepen_near()
            if self.proofs.clock_is_due(now_ns):
                self._spawn(self.proofs.ask_clock(self.client))
            await asyncio.sleep(TICK_S)

    def _turned(self) -> None:
        """A second of the venue's time has passed; the frame that showed it is still being worked through."""
        asyncio.get_running_loop().call_soon(self.snapshots.deepen_near)

    async def _is_quiet(self, connection: FeedConnection) -> bool:
        """Whether nothing has come over a connection because nothing has happened: nothing over another one with its
        topics either, and its books are those of REST. (Another one keeps them current where this one is dead.)"""
        others = [one for one in self._connections.values() if one is not connection and one.acked]
        if any(one.acked <= connection.acked and connection.is_behind(one) for one in others):
            return False
        carried = [one for one in self.instruments.values() if connection.carries(self.public.book_topic(one.symbol))]
        quiet = await self.snapshots.confirms(carried)
        self.counters.quiet += quiet
        return quiet

    def _spawn(self, work: Coroutine[Any, Any, None]) -> None:
        self._tasks.add(task := self._group.create_task(work))
        task.add_done_callback(self._tasks.discard)

    def _trouble(self, result: int, conn: int, recv_mono_ns: int) -> None:
        """A book fell out of sync: gap, crossed, contradicted, bad bytes, digits beyond its exponent."""
        book_index = self.books.last_book_index
        if result == _REJECTED:
            self._bad_frame(conn, recv_mono_ns)
        if result == _PRICE_PRECISION:
            self.snapshots.too_fine(book_index)
        elif book_index >= 0:
            kept = self._kept_of(self.books.symbol_of(book_index))
            if kept is None or kept.twin is None or not kept.twin.fills(book_index, conn, self.snapshots.lost):
                self.snapshots.lost(book_index, "its bytes cannot be read" if result == _REJECTED else "")

    def _control(self, payload: bytes, conn: int) -> None:
        connection = self._connections.get(conn)
        if connection is None:
            return
        try:
            control = self.public.control(payload)
        except ProtocolViolation as error:
            self._say("warning", error.message)
            self._bad_frame(conn, mono_ns())
            return
        if control.kind is ControlKind.OTHER and control.reason:
            self._say("info", f"{self.venue.name}: {control.reason}")
        connection.on_control(control)

    def _bad_frame(self, conn: int, recv_mono_ns: int) -> None:
        self.counters.bad_frames += 1
        seen = self._bad.get(conn)
        if seen is None:
            return
        seen.append(recv_mono_ns)
        if len(seen) == BAD_FRAMES_MAX and recv_mono_ns - seen[0] < BAD_FRAMES_WINDOW_S * 1e9:
            self._connections[conn].drop(f"{BAD_FRAMES_MAX} bad frames within {BAD_FRAMES_WINDOW_S:g} s")

    def _carrier(self, instrument: FeedInstrument) -> FeedConnection | None:
        """The open connection that carries the instrument's book topic, acknowledged."""
        kept, topic = self._kept_of(instrument.symbol), self.public.book_topic(instrument.symbol)
        return kept.live if kept is not None and kept.live is not None and kept.live.carries(topic) else None

    def _kept_of(self, symbol: str) -> KeptConnection | None:
        return next((kept for kept in self._kept if symbol in kept.symbols), None)

    def _refused(self, connection: FeedConnection, topics: tuple[str, ...], reason: str) -> None:
        self.counters.refused_topics += len(topics)
        named = ", ".join(topics) or "a topic that the answer does not name"
        self._say("warning", f"{self.venue.name}: refused {named}: {reason}")
        carried = {topic for one in self._connections.values() for topic in topics if one.carries(topic)}
        self.snapshots.refused([topic for topic in topics if topic not in carried])
