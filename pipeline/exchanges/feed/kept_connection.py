"""A connection that is kept up, and its twin: a second one with the same topics, of which whatever comes first counts.

The sequence rule drops what comes twice, so that both may go into the same books. A twin stands in for the first where
it has *matched* it: both complete and on time beside each other for as long as a planned change takes, and the first
without a silence. Whatever was said before the twin subscribed has then come over the first, whatever is said later
comes over the twin. From then on

* the first one ends: its books are the twin's, proved as before, and a new twin is opened;
* the twin ends: its books are the first one's. A planned end waits for that: before, only REST could bring them;
* one of them is silent: the other one carries its quiet books, which nothing would prove meanwhile, nor after
  it until each one's next update.

One that could not stand in when the first one ended does so as soon as it carries everything in time, also while a new
first one is being opened; then what the first one carried is fetched for it. One that lacks a topic of the first one
waits ``LACKING_S`` for a new one, which usually has all of them sooner.

A gap of one of them is filled by the other where that has what is missing (``pipeline.book.holes``), else after
``FILL_S`` by a snapshot. Two connections that do not bring the same updates would lose books again and again: after
``GAPS_MAX`` gaps within ``GAPS_NS`` between an update of the one and one of the other there is one connection for
``APART_S``, and a warning says so. Those within ``GAP_NS`` of each other are one: a gap that the venue makes on both is
shown of many books in one instant, by either of them, whichever brought a book's last update. What the first one has
lost and the twin has brought is none: the twin is there for that.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Awaitable, Callable

from pipeline.book.freshness import SILENCE_NS
from pipeline.book.memory import BOOKS
from pipeline.book.venue_books import VenueBooks
from pipeline.exchanges.feed.connection import STABLE_S, FeedConnection
from pipeline.exchanges.feed.planned_change import OVERLAP_S, first_of, opened_unless, replaces
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
LACKING_S = 1.0
SILENT_NS = 1_000_000_000  # one that has had nothing for so long, while the other has, cannot stand in for it


class KeptConnection:
    """The symbols that share a connection, and the connection that carries them now (None: it is down)."""

    def __init__(self) -> None:
        self.symbols: dict[str, None] = {}
        self.live: FeedConnection | None = None
        self.down_since_ns = mono_ns()
        self._carried: set[str] = set()  # topics, by the one that was the last
        self.task: asyncio.Task[None] | None = None
        self.changed = asyncio.Event()
        self.twin: Twin | None = None

    def went_down(self, last: FeedConnection) -> None:
        """``last`` was the one that carried them, and no other one does now."""
        self.down_since_ns, self._carried = mono_ns(), last.acked

    def lacks(self, other: FeedConnection) -> bool:
        """Whether ``other`` does not carry what was carried and is still wanted, and a new one may be here soon."""
        lacking = (self._carried & other.wanted.keys()) - other.acked
        return bool(lacking) and mono_ns() - self.down_since_ns < LACKING_S * 1e9

    async def opened(
        self, connect: Callable[[], Awaitable[FeedConnection]], end: Callable[[FeedConnection], None]
    ) -> FeedConnection:
        """It is down: its twin as soon as that could carry everything, or a new one by ``connect``, whichever is first.
        Raises what ``connect`` raises. ``end``: of a new one that came too late."""
        twin = self.twin
        while True:
            if twin is not None and (heir := twin.stand_in()) is not None:
                return heir
            new = await opened_unless(lambda: twin is not None and twin.could_stand_in, connect, end)
            if new is not None:
                return new

    async def pause(self, pause_s: float) -> None:
        """For so long, or until the twin could stand in."""
        loop = asyncio.get_running_loop()
        end_s, twin = loop.time() + pause_s, self.twin
        while (left_s := end_s - loop.time()) > 0:
            if twin is not None and twin.could_stand_in:
                return
            await asyncio.sleep(left_s if twin is None else min(left_s, LOOK_S))


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
        self._lives = (0, 0)  # of the first one and of this one, when they matched
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
        return self._given(twin)

    @property
    def could_stand_in(self) -> bool:
        """The first one is down, and this one carries everything, in time, and has had data since: what was lost can be
        fetched for it."""
        twin = self.connection
        if twin is None or self._kept.live is not None or twin.last_data_ns() <= self._kept.down_since_ns:
            return False
        return twin.is_open and twin.on_time and twin.complete and bool(twin.acked) and not self._kept.lacks(twin)

    def stand_in(self) -> FeedConnection | None:
        """The connection, for the first one that is down; None where it could not stand in."""
        return self._given(self.connection) if self.connection is not None and self.could_stand_in else None

    def _given(self, twin: FeedConnection) -> FeedConnection:
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
                self._lives = (self._life(first), self._life(twin))
            return
        for one, other, life in ((first, twin, self._lives[0]), (twin, first, self._lives[1])):
            is_silent = other.last_data_ns() - one.last_data_ns() > SILENCE_NS
            if is_silent and other.is_open and replaces(one, other):
                self._books.stand_by(one.conn, other.conn, life)

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
        shown_by_twin = conn == self.connection.conn
        # Before they match, one of them may have begun with an update that the other is still to bring.
        counts = beside and matched and shown_by_twin
        if counts:
            self._note_gap()
        asyncio.get_running_loop().call_later(
            FILL_S, self._looked_again, book_index, beside and not counts, matched, lost
        )
        return True

    def _looked_again(self, book_index: int, may_count: bool, matched: bool, lost: Callable[[int], None]) -> None:
        """A while after a gap. One that was filled counts where the two had ``matched`` and it was no loss."""
        unfilled = self._books.has_hole(book_index)
        if may_count and (unfilled or (matched and self._books.was_overtaken(book_index))):
            self._note_gap()
        if unfilled:
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
