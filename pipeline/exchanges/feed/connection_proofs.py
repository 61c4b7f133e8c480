"""Which frames prove books current: the rows of one venue's connections in the feed's connection table.

A later frame on its connection proves a book current (the rule: ``shm/bookring.py``, ``proof_mono_ns``). That holds
only while

* the connection is alive and its frames are not late: ``pipeline.book.freshness`` judges each frame before anything of
  it is published and marks the row dead; here is what follows from that, and the venue's clock;
* topics of one connection run no further apart than the row's lag. The lag follows backward steps of venue time:

  - it begins at the recorded value of the dialect (``PublicStream.cross_topic_lag_ms``);
  - after ``OBSERVED_FRAMES`` and ``OBSERVED_NS`` without a step beyond it, it is ``MARGIN`` times the largest step of
    the last ``WINDOW_NS``, at least ``FLOOR_MS`` (or the recorded value, where that is smaller), at most the recorded
    value;
  - one step beyond it sets it back to the recorded value at once;
  - ``DISORDERS_TO_RAISE`` steps beyond the recorded value within ``DISORDER_WINDOW_NS`` raise it to the largest of
    them, until none has come for ``DISORDER_FORGET_NS``.

A venue's clock that has moved is found by the time of the next frame, and asked at once. Orders are stamped by what the
poller reads every ``MEASURE_EVERY_S``: until then the venue could refuse one leg of two for its time, so no book of it
is proved for ``MOVED_NS``.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from pipeline.book import freshness as freshness
from pipeline.book.connection_life import begin_tickers
from pipeline.book.memory import BOOKS, WATCH
from pipeline.book.venue_books import VenueBooks
from pipeline.exchanges.base import VenueClient
from pipeline.exchanges.feed.connection import FeedConnection
from pipeline.exchanges.feed.types import Counters
from pipeline.model.clock import mono_ns
from pipeline.model.errors import VenueError
from pipeline.model.units import NS_PER_MS
from pipeline.model.venue_clock import MEASURE_EVERY_S, ClockEstimate
from shm.atomics import store_relaxed
from shm.bookring import conn_close, conn_open
from shm.layout import CONNECTION, FEED
from shm.words import Words

DISORDERS_TO_RAISE = 3
DISORDER_WINDOW_NS = 60 * 1_000_000_000
DISORDER_FORGET_NS = 600 * 1_000_000_000
WINDOW_NS = 600 * 1_000_000_000  # a step that large may come again for so long
OBSERVED_NS = 30 * 1_000_000_000
OBSERVED_FRAMES = 1000
MARGIN = 2  # a step that has not come yet may be larger than every one that has
FLOOR_MS = 20
FAR_MEASURES = 10  # one a second
FAR_FORGET_MEASURES = 600  # in time for so long: what comes after is said anew
CLOCK_SYNC_NS = 60 * 1_000_000_000
CLOCK_AGAIN_NS = 5 * 1_000_000_000  # where the answer's way was so long that it leaves much open
CLOCK_DOUBTED_NS = 2 * 1_000_000_000  # where frames are late, or ahead of it
MOVED_NS = (MEASURE_EVERY_S + 2) * 1_000_000_000  # the poller's reading, and what that and its row take
CLOCK_ERROR_MAX_NS = 100 * NS_PER_MS  # more is not taken off what frames may be late: a slow way would prove nothing


class Proofs:
    """Connection rows of one venue. ``lag_ms`` is what its rows allow for now."""

    def __init__(
        self,
        *,
        venue: str,
        venue_id: int,
        books: VenueBooks,
        feed_off: int,
        lag_ms: int,
        counters: Counters,
        say: Callable[[str, str], None],
        on_turn: Callable[[], None] = lambda: None,
    ) -> None:
        """``on_turn``: called inside a frame, about once per second of the venue's own time."""
        self.lag_ms = lag_ms
        self._on_turn = on_turn
        self._base_lag_ms = lag_ms
        self._venue = venue
        self._venue_id = venue_id
        self._books = books
        self._words: Words = books.words
        self._feed_off = feed_off
        self._counters = counters
        self._say = say
        self._connections: dict[int, FeedConnection] = {}
        self._disorders: deque[tuple[int, int]] = deque(maxlen=DISORDERS_TO_RAISE)
        self._clock = ClockEstimate()
        self._clock_asked_ns = 0
        self._clock_doubted = False
        self._disorder_seen_ns = 0
        self._steps: deque[tuple[int, int]] = deque()  # (when, largest step since the one before), the newest last
        self._observed_since_ns = 0  # since when, and over how many frames, no step exceeded the lag
        self._observed_frames = 0
        self._far_measures = 0  # successive ones with frames, and with no connection in time
        self._near_measures = 0  # successive ones with a connection in time
        self._far_said = False
        books.on_notice = self._notice
        self._set(BOOKS.lag_ms, lag_ms)

    # --- the books' private memory ---

    def _set(self, offset: int, value: int) -> None:
        self._books.mem[offset] = value

    def _row(self, conn: int) -> int:
        return BOOKS.connections + conn * WATCH.WORDS

    def ticked(self, now_ns: int) -> None:
        """The feed's loop has come round. Where it has not for a while, frames in the sockets are old."""
        self._set(BOOKS.tick_ns, now_ns)

    @property
    def clock_known(self) -> bool:
        """The venue has answered at least once what time it is."""
        return bool(self._books.mem[BOOKS.clock_known])

    def clock_is_due(self, now_ns: int) -> bool:
        """Whether the venue should be asked what time it is."""
        known_for_ns = CLOCK_SYNC_NS if self.clock_is_sharp else CLOCK_AGAIN_NS
        return now_ns - self._clock_asked_ns >= (CLOCK_DOUBTED_NS if self._clock_doubted else known_for_ns)

    async def ask_clock(self, client: VenueClient) -> None:
        """Ask the venue what time it is. That it does not say is told as long as it never has."""
        sent_ns = self._clock_asked_ns = mono_ns()
        try:
            server_ms = await client.server_time_ms()
        except VenueError as error:
            if not self.clock_known:
                self._say("warning", f"{self._venue}: no server time: {error.message}")
            return
        self.learn(server_ms, sent_ns, mono_ns())

    def learn(self, server_ms: int, send_mono_ns: int, recv_mono_ns: int) -> None:
        """One answer of the venue's time endpoint. What its way leaves open is taken off what frames may be late, up to
        ``CLOCK_ERROR_MAX_NS``: else frames that are later than ``LATE_MS`` could pass."""
        before_ns, error_ns, was_known = self._clock.offset_ns, self._clock.error_ns, self.clock_known
        self._clock.learn(server_ms, send_mono_ns, recv_mono_ns)
        moved_ns, error_ns = self._clock.offset_ns - before_ns, error_ns + self._clock.error_ns
        if was_known and abs(moved_ns) > freshness.LATE_MS * NS_PER_MS + error_ns:
            self._moved(moved_ns // NS_PER_MS, recv_mono_ns)
        self._clock_doubted = False
        self._set(BOOKS.ahead_known, 0)
        self._set(BOOKS.clock_offset_ms, self._clock.offset_ns // NS_PER_MS)
        self._set(BOOKS.clock_error_ms, -(-min(self._clock.error_ns, CLOCK_ERROR_MAX_NS) // NS_PER_MS))
        self._set(BOOKS.clock_known, 1)

    def _moved(self, moved_ms: int, now_ns: int) -> None:
        self._set(BOOKS.closed_until_ns, now_ns + MOVED_NS)
        for each in self._connections.values():
            freshness.set_on_time(self._books.mem, self._words, each.conn, 0)
            each.on_time = False
        self._say(
            "warning",
            f"{self._venue}: its clock has moved by {moved_ms:+d} ms: no book of it is proved for "
            f"{MOVED_NS // 1_000_000_000} s, until orders are stamped by it again; nothing to do",
        )

    @property
    def clock_is_sharp(self) -> bool:
        """Whether an answer came by a way so short that the next one is not urgent."""
        return self.clock_known and self._clock.error_ns <= CLOCK_ERROR_MAX_NS

    def last_data_ns(self, conn: int) -> int:
        """When the last frame came on ``conn`` that is no answer or notice."""
        return int(self._books.mem[self._row(conn) + WATCH.data_ns])

    # --- connections ---

    def open(self, connection: FeedConnection) -> None:
        """Opens the row for a new connection; it proves nothing until its first frame that is not late."""
        self._connections[connection.conn] = connection
        conn_open(self._words, self._feed_off, connection.conn, self._venue_id, self.lag_ms * NS_PER_MS)
        row = self._row(connection.conn)
        self._books.mem[row : row + WATCH.WORDS] = 0
        begin_tickers(self._books.mem, connection.conn, self._books.capacity)
        self._set(row + WATCH.data_ns, mono_ns())
        self._set(row + WATCH.open, 1)
        freshness.set_on_time(self._books.mem, self._words, connection.conn, 0)
        connection.on_time = False

    def close(self, connection: FeedConnection) -> None:
        """The connection is gone: its row proves nothing any more."""
        self._connections.pop(connection.conn, None)
        self._set(self._row(connection.conn) + WATCH.open, 0)
        conn_close(self._words, self._feed_off, connection.conn)

    def _notice(self, notice: int, recv_mono_ns: int, conn: int) -> None:
        """What the kernel found; the rows say it already."""
        if notice & freshness.NOTICE_PAUSED:
            self._counters.pauses += 1
        if notice & freshness.NOTICE_LATE:
            self._counters.late_episodes += 1
        if notice & (freshness.NOTICE_LATE | freshness.NOTICE_AHEAD):
            self._clock_doubted = True
        if notice & freshness.NOTICE_SILENCE:
            self._counters.silences += 1
        if notice & freshness.NOTICE_TURN:
            self._on_turn()
        if notice & freshness.NOTICE_DISORDER:
            self._exceeded(int(self._books.mem[BOOKS.back_ms]), recv_mono_ns)
        for each in self._connections.values():
            each.on_time = bool(self._books.mem[self._row(each.conn) + WATCH.on_time])

    # --- how far topics run apart ---

    def measure(self, now_ns: int) -> None:
        """Once a second or so: the steps since the last time into the window; the lag by what the window holds."""
        largest = timed = 0
        for conn in self._connections:
            row = self._row(conn)
            timed += int(self._books.mem[row + WATCH.timed])
            largest = max(largest, int(self._books.mem[row + WATCH.back_ms]))
            self._books.mem[row + WATCH.back_ms] = self._books.mem[row + WATCH.timed] = 0
        self._observed_frames += timed
        self._look_for_far(timed)
        self._counters.disorder_ms_max = max(self._counters.disorder_ms_max, largest)
        self._observed_since_ns = self._observed_since_ns or now_ns
        if largest > self._base_lag_ms:
            self._disorder_seen_ns = now_ns
        while self._steps and self._steps[-1][1] <= largest:
            self._steps.pop()  # never the largest of a window again
        self._steps.append((now_ns, largest))
        while now_ns - self._steps[0][0] > WINDOW_NS:
            self._steps.popleft()
        if self.lag_ms > self._base_lag_ms:
            if now_ns - self._disorder_seen_ns > DISORDER_FORGET_NS:
                self._write_lag(self._base_lag_ms)
            return
        seen_enough = self._observed_frames >= OBSERVED_FRAMES and now_ns - self._observed_since_ns >= OBSERVED_NS
        wanted = max(min(FLOOR_MS, self._base_lag_ms), MARGIN * self._steps[0][1])
        self._write_lag(min(wanted, self._base_lag_ms) if seen_enough else self._base_lag_ms)

    def _look_for_far(self, timed: int) -> None:
        """Says once that frames come, and have been in time on no connection for long. Measures are counted, not time:
        what piled up while this process stood still is of one measure."""
        near = any(one.on_time for one in self._connections.values())
        self._near_measures = self._near_measures + 1 if near else 0
        self._far_measures = self._far_measures + 1 if timed and not near else 0
        if self._near_measures >= FAR_FORGET_MEASURES:
            self._far_said = False
        if self._far_measures >= FAR_MEASURES and not self._far_said:
            self._far_said = True
            self._say(
                "warning",
                f"{self._venue}: frames come, and for {FAR_MEASURES} s none came within {freshness.ON_TIME_MS} ms "
                "of its own time: no book is proved; `arb doctor` shows the way to the venue, a nearer host solves it",
            )

    def _exceeded(self, back_ms: int, recv_mono_ns: int) -> None:
        """A step beyond what the rows allow: back to the recorded lag; beyond that, again and again, to the step."""
        self._observed_since_ns, self._observed_frames = recv_mono_ns, 0
        if self.lag_ms < self._base_lag_ms:
            self._write_lag(self._base_lag_ms)
        if back_ms <= self.lag_ms:
            return
        self._disorder_seen_ns = recv_mono_ns
        self._disorders.append((recv_mono_ns, back_ms))
        first_ns = self._disorders[0][0]
        if len(self._disorders) == DISORDERS_TO_RAISE and recv_mono_ns - first_ns < DISORDER_WINDOW_NS:
            self._write_lag(max(ms for _, ms in self._disorders))
            self._disorders.clear()
            self._say("warning", f"{self._venue}: topics run apart by {self.lag_ms} ms; proofs are that much older")

    def _write_lag(self, lag_ms: int) -> None:
        if lag_ms == self.lag_ms:
            return
        self.lag_ms = lag_ms
        self._set(BOOKS.lag_ms, lag_ms)
        for conn in self._connections:
            row = self._feed_off + FEED.connections + conn * CONNECTION.WORDS
            store_relaxed(self._words, row + CONNECTION.cross_topic_lag_ns, lag_ms * NS_PER_MS)
