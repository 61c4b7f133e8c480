"""Books by REST: the snapshots that diffs are aligned with, and what is shown while a stream is down.

One queue per venue, a few requests in flight, the venue's request budget in front, jittered backoff per book: a gap on
every symbol at once drains in order and costs no 429.

A snapshot proves a book only together with a stream that carried the book's topic *before* the snapshot was asked for:
otherwise an update could fall between the two, unseen.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Collection, Iterable, Sequence

import numpy as np

from pipeline.book.results import SnapshotResult
from pipeline.book.venue_books import VenueBooks
from pipeline.exchanges.base import VenueClient
from pipeline.exchanges.feed.connection import FeedConnection
from pipeline.exchanges.feed.frame_tap import FrameTap
from pipeline.exchanges.feed.kept_connection import KeptConnection
from pipeline.exchanges.feed.types import Counters, FeedInstrument
from pipeline.exchanges.transport.backoff import Backoff
from pipeline.model.clock import mono_ns
from pipeline.model.errors import VenueError
from shm.bookring import publish_book, read_book
from shm.layout import BOOK, FLAG_CROSSED, FLAG_GAP, FLAG_UNPROVED
from shm.words import Words

IN_FLIGHT_MAX = 4
FALLBACK_AFTER_S = 1.0  # a reconnect usually takes less
FALLBACK_PERIOD_S = 1.0
RETRY_BASE_S = 0.05
RETRY_CAP_S = 10.0
STOOD_NS = 5_000_000_000  # a book that was lost sooner after its snapshot is asked for less and less often
DEEPEN_AGAIN_NS = 5_000_000_000  # of the book's own time: no more often does it ask for a deeper snapshot
WHOLE_BOOK_NS = 1_000_000_000  # a pushed whole book comes with the answer to its subscription
LOSSES_NS = 60_000_000_000
LOSSES_SAID_MAX = 20  # of a venue, in ``LOSSES_NS``: a storm of gaps must not be a storm of lines
QUIET_NS = 30_000_000_000  # a book without an update of its own for so long is compared with the venue's
QUIET_ASKED_MAX = 5  # books of a silent connection that are compared with the venue's
TOO_FINE_AGAIN_S = 60.0  # a price of digits that no row will hold may have been the venue's slip
COMPARE_S = 1.0  # no more than one request in that time
NO_CONN = -1  # a book that no connection carries: nothing can prove it

#: The connection that carries an instrument's book topic, acknowledged; None = none does
Carrier = Callable[[FeedInstrument], FeedConnection | None]


class Snapshots:
    """The queue of one venue. ``instruments`` is the feed's table by book index, kept by the feed."""

    def __init__(
        self,
        *,
        venue: str,
        client: VenueClient,
        books: VenueBooks,
        words: Words,
        feed_off: int,
        instruments: dict[int, FeedInstrument],
        carrier: Carrier,
        book_topic: Callable[[str], str],
        whole_books_pushed: bool = False,
        counters: Counters,
        say: Callable[[str, str], None],
        tap: FrameTap | None = None,
    ) -> None:
        self._venue = venue
        self._client = client
        self._books = books
        self._words = words
        self._feed_off = feed_off
        self._instruments = instruments
        self._carrier = carrier
        self._book_topic = book_topic  # of a symbol
        self._pushed = whole_books_pushed  # by the stream, with the answer to a subscription
        self._subscribed_ns: dict[int, int] = {}  # by book: when its topic was last acknowledged or asked for anew
        self._counters = counters
        self._say = say
        self._tap = tap
        self._wanted: dict[int, None] = {}  # ordered set of book indices
        self._running: set[int] = set()
        self._backoff: dict[int, Backoff] = {}
        self._synced_ns: dict[int, int] = {}  # by book that stands: since when
        self._paused: set[int] = set()  # books that were lost too soon: asked for later
        self._deepening: set[int] = set()  # standing books that get a new snapshot
        self._deepened_ns: dict[int, int] = {}  # when they last asked for one, by their own time
        self._renewing: dict[int, int] = {}  # books whose snapshot a recording needs -> not asked for before then
        self._renewed_ns = 0  # since when it needs them
        self._compared_ns: dict[int, int] = {}  # by quiet book: when REST was asked for it
        self._differed: dict[int, int] = {}  # by quiet book that was other than REST: its update id then
        self._event = asyncio.Event()
        self._losses_began_ns = mono_ns()
        self._losses = 0  # since then
        self._too_fine: set[int] = set()  # books whose prices need a finer exponent than their row has
        self.wanted_digits: dict[int, int] = {}  # by instrument: most digits that a refused price needed
        self._record: Words = np.zeros(BOOK.WORDS, dtype=np.int64)

    # --- asking ---

    def want(self, book_index: int) -> None:
        """Queue one book; once, however often it is asked for."""
        out = book_index in self._too_fine or book_index in self._running or book_index in self._paused
        if book_index in self._instruments and not out:
            self._wanted.setdefault(book_index)
            self._event.set()

    def deepen_near(self) -> None:
        """A new snapshot for every book that has come near its horizon, or that a recording still needs."""
        for book_index in self._books.near_horizon():
            self.keep_updates_for_snapshot(book_index)
        now_ns = mono_ns()
        for book_index, due_ns in self._renewing.items():
            if now_ns >= due_ns and self._books.is_synced(book_index) and self._deepen(book_index):
                self._renewing[book_index] = now_ns + DEEPEN_AGAIN_NS

    def renew(self) -> None:
        """A new snapshot for every book, while it goes on: a piece of a recording begins with them. One that fails, or
        is older than its book, is asked for again, and so is one that was on its way already: updates behind it may
        stand in the piece before. Pushed whole books get none: a new subscription would interrupt them."""
        if not self._pushed:
            self._renewing, self._renewed_ns = dict.fromkeys(self._instruments, 0), mono_ns()
        self.deepen_near()

    def keep_updates_for_snapshot(self, book_index: int) -> None:
        """A standing book is near the end of what its snapshot knew: a new one, while the book goes on."""
        now_ns = self._books.venue_ns(book_index) or mono_ns()
        asked_ns = self._deepened_ns.get(book_index)
        if asked_ns is not None and 0 <= now_ns - asked_ns < DEEPEN_AGAIN_NS:
            return
        if self._deepen(book_index):
            self._deepened_ns[book_index] = now_ns

    def _deepen(self, book_index: int) -> bool:
        if book_index in self._wanted or book_index in self._running or book_index not in self._instruments:
            return False
        self._deepening.add(book_index)
        self._books.keep_updates_for_snapshot(book_index)
        self.want(book_index)
        return True

    def acknowledged(self, topics: Collection[str]) -> None:
        """Book topics stand: their books may be aligned."""
        for instrument in self._of(topics):
            self.carried(instrument)

    def refused(self, topics: Collection[str]) -> None:
        """The venue refuses book topics that nothing carries: no later frame of another topic may prove their books."""
        for instrument in self._of(topics):
            self._say_lost(instrument.book_index, "its topic is refused")
            self._books.invalidate(instrument.book_index, FLAG_UNPROVED)

    def _of(self, topics: Collection[str]) -> list[FeedInstrument]:
        return [row for row in self._instruments.values() if self._book_topic(row.symbol) in topics]

    def lost(self, book_index: int, reason: str = "") -> None:
        """A book fell out of sync; ``reason`` "": what its newest record is flagged with. Says so, and queues it."""
        self._say_lost(book_index, reason)
        self.want(book_index)

    def _say_lost(self, book_index: int, reason: str) -> None:
        """One line for a book that stood; at most ``LOSSES_SAID_MAX`` in ``LOSSES_NS``, the rest are counted."""
        instrument = self._instruments.get(book_index)
        if instrument is None or not self._books.ever_synced(book_index):
            return
        now_ns = mono_ns()
        if now_ns - self._losses_began_ns >= LOSSES_NS:
            self._losses_began_ns, self._losses = now_ns, max(0, self._losses - LOSSES_SAID_MAX)
            if self._losses:
                self._say("warning", f"{self._venue}: {self._losses} more books were lost")
            self._losses = 0
        self._losses += 1
        if self._losses <= LOSSES_SAID_MAX:
            why = reason or self._flagged(book_index)
            self._say("warning", f"{self._venue} {instrument.symbol}: book lost: {why}")

    def _flagged(self, book_index: int) -> str:
        if read_book(self._words, self._feed_off, book_index, self._record) <= 0:
            return "gap"
        flags = int(self._record[BOOK.flags])
        return "crossed" if flags & FLAG_CROSSED else "contradicted by its ticker" if flags & FLAG_UNPROVED else "gap"

    def carried(self, instrument: FeedInstrument) -> None:
        """A stream carries the book's topic now: align it (a quiet book gets no update that would ask for it)."""
        index = instrument.book_index
        self._subscribed_ns[index] = mono_ns()
        if self._books.is_synced(index) and not self._stands(index):  # as REST shows it
            self._books.invalidate(index, FLAG_UNPROVED | FLAG_GAP)
        if not self._books.is_synced(index):
            self._books.request_snapshot(index)
            self.want(index)

    def forget(self, book_index: int) -> None:
        """The instrument is removed or starts anew."""
        self._wanted.pop(book_index, None)
        self._backoff.pop(book_index, None)
        self._synced_ns.pop(book_index, None)
        self._paused.discard(book_index)
        self._deepening.discard(book_index)
        self._deepened_ns.pop(book_index, None)
        self._renewing.pop(book_index, None)
        self._subscribed_ns.pop(book_index, None)
        self._too_fine.discard(book_index)
        self._compared_ns.pop(book_index, None)
        self._differed.pop(book_index, None)

    def too_fine(self, book_index: int) -> None:
        """A price has more digits than the row's exponent holds: halted until the catalogue brings a finer row, and
        asked for again after a while where it brings none."""
        instrument = self._instruments.get(book_index)
        if instrument is None or book_index in self._too_fine:
            return
        self._too_fine.add(book_index)
        asyncio.get_running_loop().call_later(TOO_FINE_AGAIN_S, self._ask_again, instrument)
        digits, known = self._books.needed_price_exp, self.wanted_digits.get(instrument.instrument_id)
        self.wanted_digits[instrument.instrument_id] = digits
        if digits != known:
            self._say(
                "warning",
                f"{self._venue} {instrument.symbol}: halted, a price has {digits} digits after "
                f"the point, the catalogue row holds {instrument.price_exp}",
            )

    def _ask_again(self, instrument: FeedInstrument) -> None:
        if instrument.book_index in self._too_fine and self._instruments.get(instrument.book_index) is instrument:
            self._too_fine.discard(instrument.book_index)
            self.carried(instrument)

    def whole(self, instrument: FeedInstrument) -> bool:
        """The book stands on a snapshot and a stream, or cannot (too fine: said, halted, waited for by nobody)."""
        index = instrument.book_index
        return index in self._too_fine or self._stands(index)

    def _stands(self, index: int) -> bool:
        """A stream carries the book on. (What REST shows while none does is of no connection.)"""
        return self._books.is_synced(index) and self._books.conn_of(index) != NO_CONN

    # --- working ---

    def start(self, group: asyncio.TaskGroup, *, compare_quiet: bool) -> None:
        """The workers, as tasks of ``group``."""
        for _ in range(IN_FLIGHT_MAX):
            group.create_task(self.work())
        if compare_quiet:
            group.create_task(self._compare_quiet())

    async def work(self) -> None:
        """One of ``IN_FLIGHT_MAX`` workers; until cancelled."""
        while True:
            while not self._wanted:
                self._event.clear()
                await self._event.wait()
            first = next(iter(self._wanted))  # books that stand can wait
            book_index = next((index for index in self._wanted if index not in self._deepening), first)
            del self._wanted[book_index]
            instrument = self._instruments.get(book_index)
            if instrument is None:
                continue
            self._running.add(book_index)
            try:
                again = await self._align(instrument)
            finally:
                self._running.discard(book_index)
                if book_index in self._deepening:
                    self._deepening.discard(book_index)
                    self._books.stop_keeping_updates(book_index)
            if again:
                self.want(book_index)

    async def _align(self, instrument: FeedInstrument) -> bool:
        """Fetch and load one snapshot; True = ask again."""
        index = instrument.book_index
        connection = self._carrier(instrument)
        if connection is None:
            return False  # the acknowledgement of its topic asks again
        backoff = self._backoff.setdefault(index, Backoff(base_s=RETRY_BASE_S, cap_s=RETRY_CAP_S))
        if self._pauses(index, backoff):
            return False
        if self._pushed:
            return await self._await_whole(instrument, connection, backoff, self._book_topic(instrument.symbol))
        asked_ns = mono_ns()  # the answer is at least as new as its question
        try:
            payload = await self._client.depth_snapshot(instrument.symbol)
        except VenueError as error:
            self._counters.snapshots_failed += 1
            self._say("warning", f"{self._venue} {instrument.symbol}: snapshot failed: {error.message}")
            await asyncio.sleep(backoff.next_s())
            return True
        if self._instruments.get(index) is not instrument:
            return True
        deepening = index in self._deepening and self._books.is_synced(index)
        if self._books.is_synced(index) and not deepening:
            self._synced_ns[index] = mono_ns()  # the stream itself brought a whole book meanwhile
            return False
        if not connection.is_open or self._carrier(instrument) is None:
            return self._carrier(instrument) is not None  # asked for too early for the stream that carries it now
        if self._tap is not None:
            self._tap.snapshot(instrument.symbol, asked_ns, payload)
        result = self._books.on_snapshot(index, payload, asked_ns, connection.conn)
        if result == SnapshotResult.SYNCED:
            if asked_ns >= self._renewed_ns:
                self._renewing.pop(index, None)
            self._synced_ns[index] = self._synced_ns.get(index, 0) if deepening else mono_ns()
            self._counters.deepened += deepening
            return False
        if deepening and self._books.is_synced(index):
            return False  # from before it was asked for; the book goes on, and asks again
        if result == SnapshotResult.PRICE_PRECISION:
            self.too_fine(index)
            return False
        self._counters.snapshots_failed += 1
        if result == SnapshotResult.REJECTED:
            self._say("warning", f"{self._venue} {instrument.symbol}: snapshot could not be read")
        await asyncio.sleep(backoff.next_s())
        return not self._books.is_synced(index) if index in self._instruments else False

    def _pauses(self, index: int, backoff: Backoff) -> bool:
        """Whether a lost book has to wait, because it did not stand for long: whatever loses it may lose it again. No
        worker waits with it."""
        synced_ns = None if self._books.is_synced(index) else self._synced_ns.pop(index, None)
        if synced_ns is None:
            return False
        if mono_ns() - synced_ns >= STOOD_NS:
            backoff.reset()
            return False
        self._paused.add(index)
        asyncio.get_running_loop().call_later(backoff.next_s(), self._resume, index)
        return True

    def _resume(self, index: int) -> None:
        if index in self._paused:
            self._paused.discard(index)
            self.want(index)

    async def _await_whole(
        self, instrument: FeedInstrument, connection: FeedConnection, backoff: Backoff, topic: str
    ) -> bool:
        """The stream brings whole books itself: one is on its way just after a subscription, else a new one is made."""
        index = instrument.book_index
        left_ns = self._subscribed_ns.get(index, 0) + WHOLE_BOOK_NS - mono_ns()
        if left_ns > 0:
            await asyncio.sleep(left_ns / 1e9)
        if self._instruments.get(index) is not instrument:
            return True
        if self._books.is_synced(index):
            self._synced_ns.setdefault(index, mono_ns())
            return False
        self._counters.snapshots_failed += 1
        await asyncio.sleep(backoff.next_s())
        if self._instruments.get(index) is not instrument or self._carrier(instrument) is not connection:
            return True
        if self._books.is_synced(index):  # its whole book came meanwhile: a book that stands keeps its subscription
            return True
        self._subscribed_ns[index] = mono_ns()
        await connection.unsubscribe([topic])
        if index in self._instruments:
            # what came meanwhile is of a subscription that has ended: other topics must not go on proving it
            self._books.invalidate(index, FLAG_UNPROVED | FLAG_GAP)
            await connection.subscribe([topic])
        return True

    async def confirms(self, carried: Sequence[FeedInstrument]) -> bool:
        """Whether the venue's REST shows the same books of a silent connection, of which there are some."""
        for instrument in carried[:QUIET_ASKED_MAX]:
            try:
                payload = await self._client.depth_snapshot(instrument.symbol)
            except VenueError:
                return False
            index = instrument.book_index
            if self._instruments.get(index) is not instrument or not self._books.agrees(index, payload):
                return False
        return bool(carried)

    async def _compare_quiet(self) -> None:
        while True:
            await asyncio.sleep(COMPARE_S)
            await self.compare_quietest(mono_ns())

    async def compare_quietest(self, now_ns: int) -> None:
        """Other frames of its connection prove a book, also where the venue has stopped to send its updates. The one
        that has been quiet and unasked for longest, beyond ``QUIET_NS``, is compared with REST; the second time that it
        differs, with no update between, it is lost: the first time the update may be on its way."""
        standing = [index for index in self._instruments if self._books.is_synced(index)]
        known_ns = {index: max(self._books.received_ns(index), self._compared_ns.get(index, 0)) for index in standing}
        index = min(standing, key=known_ns.__getitem__, default=-1)
        if index < 0 or now_ns - known_ns[index] < QUIET_NS:
            return
        instrument, update_id = self._instruments[index], self._books.top(index).update_id
        try:
            payload = await self._client.depth_snapshot(instrument.symbol)
        except VenueError:
            self._compared_ns[index] = now_ns  # cannot be asked: the others first
            return
        stands = self._instruments.get(index) is instrument and self._books.is_synced(index)
        if not stands or self._books.top(index).update_id != update_id:
            return
        if self._books.agrees(index, payload):
            self._compared_ns[index] = now_ns
            self._differed.pop(index, None)
        elif self._differed.get(index) != update_id:
            self._differed[index] = update_id
        else:
            del self._differed[index]
            self._books.invalidate(index, FLAG_UNPROVED | FLAG_GAP)
            self.lost(index, "it was quiet, and the venue shows another one")

    # --- while a connection is down ---

    async def show_while_down(self, kept: Sequence[KeptConnection]) -> None:
        """Shows the books of connections that have been down for a while; until cancelled."""
        while True:
            await asyncio.sleep(FALLBACK_PERIOD_S)
            now_ns = mono_ns()
            for one in kept:
                if one.live is None and now_ns - one.down_since_ns > FALLBACK_AFTER_S * 1e9:
                    shown = [row for row in self._instruments.values() if row.symbol in one.symbols]
                    await self.show(shown, lambda one=one: one.live is None)  # type: ignore[misc]

    async def show(self, instruments: Iterable[FeedInstrument], still_down: Callable[[], bool]) -> None:
        """Books by REST, shown and flagged: no stream stands behind them, so nothing proves them afterwards. But where
        a twin's updates had waited for one."""
        for instrument in instruments:
            if self._instruments.get(instrument.book_index) is not instrument or self._stands(instrument.book_index):
                continue  # it is gone, or stands over the twin of the one that is down
            asked_ns = mono_ns()
            try:
                payload = await self._client.depth_snapshot(instrument.symbol)
            except VenueError:
                self._counters.snapshots_failed += 1
                continue
            index = instrument.book_index
            if not still_down():
                return
            if self._instruments.get(index) is not instrument or self._stands(index):
                continue
            if self._tap is not None:
                self._tap.snapshot(instrument.symbol, asked_ns, payload)
            if self._books.on_snapshot(index, payload, asked_ns, NO_CONN) != SnapshotResult.SYNCED:
                continue
            if self._books.conn_of(index) != NO_CONN:
                continue  # updates of the twin, which could not stand in yet, go on top: they carry the book on
            self._counters.rest_books += 1
            if read_book(self._words, self._feed_off, index, self._record) > 0:
                self._record[BOOK.flags] |= FLAG_UNPROVED
                self._record[BOOK.publish_mono_ns] = 0
                publish_book(self._words, self._feed_off, index, self._record)
