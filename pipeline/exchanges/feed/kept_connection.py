"""A connection that is kept up, and its twin: a second one with the same topics, of which whatever comes first counts.

The sequence rule drops what comes twice, so that both may go into the same books. A twin stands in for the first where
it has *matched* it: both complete and on time beside each other for as long as a planned change takes, and the first
without a silence. Whatever was said before the twin subscribed has then come over the first, whatever is said later
comes over the twin. From then on

* the first one ends: its books are the twin's, proved as before, and a new twin is opened;
* the twin ends: its books are the first one's. A planned end waits for that: before, only REST could bring them.

A gap of one of them is filled by the other where that has what is missing (``pipeline.book.holes``), else after
``FILL_S`` by a snapshot. Two connections that do not bring the same updates would lose books again and again: after
``GAPS_MAX`` gaps within ``GAPS_NS`` between an update of the one and one of the other there is one connection for
``APART_S``, and a warning says so. Those within ``GAP_NS`` of each other are one: a gap that the venue makes on both is
shown of many books in one instant, by either of them, whichever brought a book's last update.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from pipeline.book.memory import BOOKS
from pipeline.book.venue_books import VenueBooks
from pipeline.exchanges.feed.connection import STABLE_S, FeedConnection
from pipeline.exchanges.feed.planned_change import OVERLAP_S, first_of, replaces
from pipeline.exchanges.transport.backoff import ReconnectPauses
from pipeline.model.clock import mono_ns
from pipeline.model.errors import VenueError
from shm.layout import CONNECTION, FEED

LOOK_S = 0.05
FILL_S = 0.1
GAPS_MAX = 6
GAPS_NS = 60_000_000_000
GAP_NS = 1_000_000_000
APART_S = 600.0
SILENT_NS = 1_000_000_000  # one that has had nothing for so long, while the other has, cannot stand in for it


class KeptConnection:
    """The symbols that share a connection, and the connection that carries them now (None: it is down)."""

    def __init__(self) -> None:
        self.symbols: dict[str, None] = {}
        self.live: FeedConnection | None = None
        self.down_since_ns = mono_ns()
        self.task: asyncio.Task[None] | None = None
        self.changed = asyncio.Event()
        self.twin: Twin | None = None


class Twin:
    """The second connection of a kept one. ``connect`` opens one where there is ``room``, ``hand_over`` ends one
    whose books another carries on, ``end`` one whose books nobody does; ``topics``: what the first one should carry."""

    def __init__(
        self,
        kept: KeptConnection,
        *,
        books: VenueBooks,
        connect: Callable[[], Awaitable[FeedConnection]],
        room: Callable[[], bool],
        hand_over: Callable[[FeedConnection, FeedConnection], None],
        end: Callable[[FeedConnection], None],
        topics: Callable[[], list[str]],
        say: Callable[[str, str], None],
    ) -> None:
        self._kept = kept
        self._books = books
        self._connect = connect
        self._room = room
        self._hand_over = hand_over
        self._end = end
        self._topics = topics
        self._say = say
        self.connection: FeedConnection | None = None
        self._taken = asyncio.Event()
        self._beside: tuple[FeedConnection, int] | None = None  # the first one and its life, since ``_since_ns``
        self._since_ns = 0
        self._matched: FeedConnection | None = None
        self._gaps: deque[int] = deque(maxlen=GAPS_MAX)  # when updates of the one did not follow those of the other

    @property
    def stands(self) -> bool:
        """It has matched the first connection, is not silent beside it, and could stand in for it now."""
        first, twin = self._kept.live, self.connection
        if first is None or twin is None or self._matched is not first:
            return False
        return twin.is_open and twin.on_time and first.last_data_ns() - twin.last_data_ns() <= SILENT_NS

    def take(self, first: FeedConnection) -> FeedConnection | None:
        """``first`` has ended: the connection that carries its books from now on; None where there is none."""
        twin = self.connection
        if twin is None or self._kept.live is not first or not self.stands or not replaces(first, twin):
            return None
        self.connection = None
        self._forget_match()
        self._taken.set()
        return twin

    async def keep(self) -> None:
        """Own the second connection for ever: open, watch, replace."""
        pauses = ReconnectPauses()
        while True:
            if self._kept.live is None or not self._kept.live.complete or not self._room():
                await asyncio.sleep(LOOK_S)
                continue
            refused: VenueError | None = None
            try:
                twin = self.connection = await self._connect()
            except VenueError as error:
                refused = error
                self._say("warning", f"second connection: {error.message}")
            else:
                self._taken.clear()
                await first_of(twin.watch(), self._steer(twin), self._taken.wait())
                if self._taken.is_set():
                    continue
                unlike = len(self._gaps) == GAPS_MAX
                self._lost(twin)
                if unlike:
                    self._gaps.clear()
                    await asyncio.sleep(APART_S)
                    continue
                if twin.age_s > STABLE_S:
                    pauses.reset()
            await asyncio.sleep(pauses.next_s(refused))

    async def _steer(self, twin: FeedConnection) -> None:
        """The topics as the first one's, and who carries which books; until it ends."""
        await twin.subscribe(self._topics())
        while not (twin.due and self.stands):
            await asyncio.sleep(LOOK_S)
            wanted = self._topics()
            if set(wanted) != set(twin.wanted):
                self._forget_match()  # a new topic has not come over both yet
                await twin.unsubscribe([topic for topic in twin.wanted if topic not in wanted])
                await twin.subscribe([topic for topic in wanted if topic not in twin.wanted])
            if not wanted:
                return
            self._look(twin)
            if self._unlike():
                self._say(
                    "warning",
                    f"{GAPS_MAX} gaps within a minute beside each other: do both connections bring the same updates? "
                    f"One of them for {APART_S / 60:g} minutes; exchanges.*.sockets: 1 is for good",
                )
                return

    def _look(self, twin: FeedConnection) -> None:
        first = self._kept.live
        if first is None:
            self._forget_match()
            return
        if self._matched is not first:
            beside = (first, self._life(first))
            if beside != self._beside or not (replaces(first, twin) and replaces(twin, first)):
                self._beside, self._since_ns, self._matched = beside, mono_ns(), None
            elif mono_ns() - self._since_ns >= OVERLAP_S * 1e9:
                self._matched = first  # a silence of the first from now on is no matter: the twin has what it lost

    def _forget_match(self) -> None:
        self._beside = self._matched = None

    def _life(self, first: FeedConnection) -> int:
        """Number of the first one's life: a silence begins a new one."""
        row = self._books.mem[BOOKS.feed_off] + FEED.connections + first.conn * CONNECTION.WORDS
        return int(self._books.words[row + CONNECTION.generation])

    def fills(self, book_index: int, conn: int, lost: Callable[[int], None]) -> bool:
        """Whether the other one may bring what a frame of ``conn`` has shown to be missing of a book; ``lost`` is
        called where it has not done so for a while."""
        if self.connection is None or not self._books.has_hole(book_index):
            return False
        beside = self._books.conn_of(book_index) != conn
        matched = self._matched is not None and self._matched is self._kept.live
        if beside and matched:  # before, one of them may have begun with an update that the other is still to bring
            self._note_gap()
        counts = beside and not matched
        asyncio.get_running_loop().call_later(FILL_S, self._unfilled, book_index, counts, lost)
        return True

    def _unfilled(self, book_index: int, counts: bool, lost: Callable[[int], None]) -> None:
        if self._books.has_hole(book_index):
            if counts:
                self._note_gap()
            lost(book_index)

    def _note_gap(self) -> None:
        now_ns = mono_ns()
        if not self._gaps or now_ns - self._gaps[-1] >= GAP_NS:
            self._gaps.append(now_ns)

    def _unlike(self) -> bool:
        """Whether they have had ``GAPS_MAX`` gaps within ``GAPS_NS`` beside each other."""
        while self._gaps and mono_ns() - self._gaps[0] >= GAPS_NS:
            self._gaps.popleft()
        return len(self._gaps) == GAPS_MAX

    def _lost(self, twin: FeedConnection) -> None:
        """It has ended, or is let go: what it carried is the first one's, where the two are alike."""
        first = self._kept.live
        if first is not None and first.is_open and self._matched is first and replaces(twin, first):
            self._hand_over(twin, first)
        else:
            self._end(twin)
        self.connection = None
        self._forget_match()
        self._say("info", f"second connection {twin.conn} ended: {twin.end_reason}")
