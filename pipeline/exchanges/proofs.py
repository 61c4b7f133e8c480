"""Whose frames count as proof: the rows of one venue's connections in the feed's connection table.

A book is proved current by later frames on its connection (the rule is in ``shm/layout.py``). That holds only while

* the connection is alive and its frames are of now: a late stream, or sockets read after the process stood still, bring
  old frames that look new; then the row is marked dead until frames of now have come for a while;
* topics of one connection do not run apart further than the row's lag allows: measured by venue times that run
  backward, raised where they do so again and again, and back to the recorded value when that is over.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from pipeline.exchanges.feedtypes import Counters
from pipeline.exchanges.stream import PublicStream
from pipeline.exchanges.timeliness import LATE_MS, ON_TIME_MS, Timeliness
from shm.atomics import store_relaxed, store_release
from shm.bookring import conn_close, conn_open
from shm.layout import CONN_ALIVE, CONN_CROSS_TOPIC_LAG_NS, CONN_WORDS, FEED_CONN_OFF
from shm.words import Words

SETTLED_NS = 200_000_000  # frames of now, and nothing else, for so long end a lateness
CALM_NS = 5_000_000_000  # disorder right after a lateness is the lateness
DISORDER_MAX_MS = 250  # more is no disorder of delivery: a first whole book carries the time of its last change
DISORDERS_TO_RAISE = 3
DISORDER_WINDOW_NS = 60 * 1_000_000_000
DISORDER_FORGET_NS = 600 * 1_000_000_000
MICROSECONDS_FROM = 250_000  # a difference as large as this is in microseconds (or no disorder)
NS_PER_MS = 1_000_000


class Proofs:
    """Connection rows of one venue. ``lag_ms`` is what its rows allow for now."""

    def __init__(
        self,
        *,
        venue: str,
        venue_id: int,
        words: Words,
        feed_off: int,
        lag_ms: int,
        counters: Counters,
        say: Callable[[str, str], None],
    ) -> None:
        self.timeliness = Timeliness()
        self.lag_ms = lag_ms
        self._base_lag_ms = lag_ms
        self._venue = venue
        self._venue_id = venue_id
        self._words = words
        self._feed_off = feed_off
        self._counters = counters
        self._say = say
        self._streams: dict[int, PublicStream] = {}
        self._disorders: deque[tuple[int, int]] = deque(maxlen=DISORDERS_TO_RAISE)
        self._disorder_seen_ns = 0

    def open(self, stream: PublicStream) -> None:
        """A new life of the stream's row; it proves nothing until its first frame of now."""
        self._streams[stream.conn] = stream
        conn_open(self._words, self._feed_off, stream.conn, self._venue_id, self.lag_ms * NS_PER_MS)
        self._set(stream, False)

    def close(self, stream: PublicStream) -> None:
        self._streams.pop(stream.conn, None)
        conn_close(self._words, self._feed_off, stream.conn)

    def paused(self) -> None:
        """This process stood still: what the sockets hold is old. Nothing is proved until frames of now come."""
        self._counters.pauses += 1
        for stream in self._streams.values():
            self._set(stream, False)

    def judge(self, stream: PublicStream, venue_time: int, recv_mono_ns: int) -> None:
        """One frame's own time (unix ms or us as sent, 0 = not sent): lateness and disorder."""
        if venue_time <= 0:
            if not stream.on_time and not stream.venue_time_max:
                self._set(stream, True)  # nothing on this connection has carried a time yet
            return
        late_ms = self.timeliness.late_ms(venue_time, recv_mono_ns)
        if late_ms > LATE_MS:
            stream.late_mono_ns = recv_mono_ns
            if stream.on_time:
                self._counters.late_episodes += 1
                self._set(stream, False)
        elif not stream.on_time and late_ms < ON_TIME_MS and recv_mono_ns - stream.late_mono_ns > SETTLED_NS:
            self._set(stream, True)
        if venue_time >= stream.venue_time_max:
            stream.venue_time_max = venue_time
        elif recv_mono_ns - stream.late_mono_ns > CALM_NS:
            self._disorder(stream.venue_time_max - venue_time, recv_mono_ns)

    def calm_down(self, now_ns: int) -> None:
        """Back to the recorded lag when nothing has exceeded it for a while."""
        if self.lag_ms > self._base_lag_ms and now_ns - self._disorder_seen_ns > DISORDER_FORGET_NS:
            self.lag_ms = self._base_lag_ms
            self._write_lag()

    def _set(self, stream: PublicStream, on_time: bool) -> None:
        stream.on_time = on_time
        row = self._feed_off + FEED_CONN_OFF + stream.conn * CONN_WORDS
        # SYNC conn.alive: release; pairs with the acquire in proof_mono_ns
        store_release(self._words, row + CONN_ALIVE, int(on_time))

    def _disorder(self, back: int, recv_mono_ns: int) -> None:
        """Venue time ran backward between topics. More than the rows allow for, again and again: allow for it."""
        back_ms = back // 1000 if back > MICROSECONDS_FROM else back
        if back_ms > DISORDER_MAX_MS:
            return
        self._counters.disorder_ms_max = max(self._counters.disorder_ms_max, back_ms)
        if back_ms > self._base_lag_ms:
            self._disorder_seen_ns = recv_mono_ns
        if back_ms <= self.lag_ms:
            return
        self._disorders.append((recv_mono_ns, back_ms))
        first_ns = self._disorders[0][0]
        if len(self._disorders) == DISORDERS_TO_RAISE and recv_mono_ns - first_ns < DISORDER_WINDOW_NS:
            self.lag_ms = max(ms for _, ms in self._disorders)
            self._disorders.clear()
            self._say("warning", f"{self._venue}: topics run apart by {self.lag_ms} ms; proofs are that much older")
            self._write_lag()

    def _write_lag(self) -> None:
        for conn in self._streams:
            row = self._feed_off + FEED_CONN_OFF + conn * CONN_WORDS
            store_relaxed(self._words, row + CONN_CROSS_TOPIC_LAG_NS, self.lag_ms * NS_PER_MS)
