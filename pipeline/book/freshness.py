"""Do a connection's frames come in time, and by how much do its topics differ in delay? Jitted, asked of each frame
before it is published.

A frame that comes late is stamped as received just now, so age by receipt alone would call old books fresh: a delayed
stream, a process that was stopped and reads its full socket buffers, a proxy that holds
things back. So the time that a frame carries is held against the venue's own clock, on our monotonic clock (steps of
our wall clock do not matter), and the connection's row says "dead" from the first late frame on, until frames of now
have come for a while. Only connections that their owner has opened (``WATCH.open``) are judged; recordings are not.

A frame from further ahead than any before says that the venue's clock was moved, or ours stood still: nothing is proved
before that clock has been asked again, as frames that are late would pass.

A connection that was silent and goes on begins a new life: see ``note_frame``.

Venue times that run backward tell how far topics of one connection run apart; the largest step is kept for the owner
(``WATCH.back_ms``), and one beyond what the row allows is reported at once.
"""

from __future__ import annotations

from pipeline.book.memory import BOOKS, EVENT, WATCH
from shm.atomics import load_relaxed, store_release
from shm.bookring import conn_open
from shm.jit import njit_bare as njit
from shm.layout import CONN_CAPACITY, CONNECTION, FEED
from shm.words import Words

LATE_MS = 500  # a frame this far behind the venue's clock, less what that leaves open, proves nothing
ON_TIME_MS = 250  # and one within this ends the lateness: not less for a clock that is not sharp, as the way is long
FOREIGN_MS = 3_600_000  # frames an hour away from the venue's own clock: no clock to compare with
SETTLED_NS = 200_000_000  # frames in time, and no late one, for so long end a lateness
CALM_NS = 5_000_000_000  # for so long after a late frame backward steps of venue time are not counted as disorder
SILENCE_NS = 500_000_000  # an anchored connection that says nothing for so long may have lost something
FLOW_STEP_NS = 100_000_000  # a gap between two frames counts as this much flow at most: see ``note_frame``
PAUSE_NS = 1_000_000_000  # a loop that has not come round for so long has been stopped or starved
DISORDER_MAX_MS = 250  # more is no disorder of delivery: a first whole book carries the time of its last change
TURN_MS = 1000  # of the venue's time: so often the owner looks at what changes slowly (also where a replay runs faster)
MICROSECONDS_FROM = 10**14  # venue times are unix ms, or us from here on
MICROSECONDS_BACK = 250_000  # a difference as large as this is in microseconds (or no disorder)

# what the owner is notified of (``BOOKS.notice``, added up)
NOTICE_ON_TIME = 1
NOTICE_LATE = 2
NOTICE_DISORDER = 4
NOTICE_PAUSED = 8
NOTICE_SILENCE = 16
NOTICE_TURN = 32
NOTICE_AHEAD = 64


@njit
def late_ms(mem: Words, venue_time: int, recv_ns: int) -> int:
    """How long after its own time a frame came (unix ms or us as sent, > 0). Negative: ahead of the clock.

    Without a venue clock, or where frames live in another hour altogether, the least gap ever seen counts as on time:
    then only a growing delay shows.
    """
    if venue_time >= MICROSECONDS_FROM:
        venue_time //= 1000
    gap: int = recv_ns // 1_000_000 - venue_time
    if mem[BOOKS.clock_known]:
        late: int = gap + mem[BOOKS.clock_offset_ms]
        if -FOREIGN_MS < late < FOREIGN_MS:
            return late
    if not mem[BOOKS.gap_known] or gap < mem[BOOKS.least_gap_ms]:
        mem[BOOKS.gap_known] = 1
        mem[BOOKS.least_gap_ms] = gap
    least: int = mem[BOOKS.least_gap_ms]
    return gap - least


@njit
def set_on_time(mem: Words, words: Words, conn: int, on_time: int) -> None:
    """Whether (1 or 0) frames of row ``conn`` prove anything from now on: noted in the books' memory ``mem`` (WATCH)
    and written for readers of the FEED in ``words`` (CONNECTION)."""
    mem[BOOKS.connections + conn * WATCH.WORDS + WATCH.on_time] = on_time
    row = mem[BOOKS.feed_off] + FEED.connections + conn * CONNECTION.WORDS
    # SYNC conn.alive: release; pairs with the acquire in proof_mono_ns
    store_release(words, row + CONNECTION.alive, on_time)


@njit
def check_pause(mem: Words, words: Words, recv_ns: int) -> None:
    """This process stood still: what the sockets hold is old. Nothing is proved until frames of now come."""
    if mem[BOOKS.tick_ns] == 0 or recv_ns - mem[BOOKS.tick_ns] <= PAUSE_NS:
        return
    mem[BOOKS.tick_ns] = recv_ns
    mem[BOOKS.notice] |= NOTICE_PAUSED
    for conn in range(CONN_CAPACITY):
        if mem[BOOKS.connections + conn * WATCH.WORDS + WATCH.open]:
            set_on_time(mem, words, conn, 0)


@njit
def note_frame(mem: Words, words: Words, conn: int, recv_ns: int) -> None:
    """A frame with data on an open connection. The first one after a silence begins a new life of the row, on time or
    not.

    Whoever held frames back may have dropped some: a frame of another topic must not prove the books from before the
    silence. They wait for an update of their own, which their sequence rule judges.

    The flow is the time in which its frames came. How long an update is missing is counted in it, because the clock
    goes on where a venue, a network or this process stands still and nothing can come.
    """
    row = BOOKS.connections + conn * WATCH.WORDS
    first = mem[row + WATCH.flow_ns] == 0
    mem[row + WATCH.flow_ns] += min(recv_ns - mem[row + WATCH.data_ns], FLOW_STEP_NS)
    if not first and recv_ns - mem[row + WATCH.data_ns] > SILENCE_NS:
        shared = mem[BOOKS.feed_off] + FEED.connections + conn * CONNECTION.WORDS
        venue, lag_ns = (
            load_relaxed(words, shared + CONNECTION.venue),
            load_relaxed(words, shared + CONNECTION.cross_topic_lag_ns),
        )
        conn_open(words, mem[BOOKS.feed_off], conn, venue, lag_ns)
        set_on_time(mem, words, conn, mem[row + WATCH.on_time])
        mem[row + WATCH.life_ns] = recv_ns
        mem[BOOKS.notice] |= NOTICE_SILENCE
    mem[row + WATCH.data_ns] = recv_ns


@njit
def is_ahead(mem: Words, venue_time_ms: int, recv_ns: int) -> bool:
    """Whether a frame is further ahead of the venue's clock than frames have been since that was asked, by more than
    they may be late."""
    if not mem[BOOKS.clock_known]:
        return False
    ahead = venue_time_ms - recv_ns // 1_000_000 - mem[BOOKS.clock_offset_ms]
    if mem[BOOKS.ahead_known] and ahead > mem[BOOKS.ahead_ms] + LATE_MS:
        return True
    mem[BOOKS.ahead_ms] = max(ahead, mem[BOOKS.ahead_ms] if mem[BOOKS.ahead_known] else 0)
    mem[BOOKS.ahead_known] = 1
    return False


@njit
def judge_time(mem: Words, words: Words, conn: int, recv_ns: int) -> None:
    """The time of the frame in the event (0 = not sent), on an open connection: lateness and disorder."""
    row = BOOKS.connections + conn * WATCH.WORDS
    venue_time = mem[EVENT.time]
    if venue_time <= 0:
        settled = not mem[row + WATCH.time_max] and recv_ns >= mem[BOOKS.closed_until_ns]
        if not mem[row + WATCH.on_time] and settled:
            set_on_time(mem, words, conn, 1)  # nothing on this connection has carried a time yet
            mem[BOOKS.notice] |= NOTICE_ON_TIME
        return
    time_ms = venue_time // 1000 if venue_time >= MICROSECONDS_FROM else venue_time
    if not 0 < mem[BOOKS.turn_ms] - time_ms <= 2 * TURN_MS:  # has come, or was set by a time from somewhere else
        mem[BOOKS.turn_ms] = time_ms + TURN_MS
        mem[BOOKS.notice] |= NOTICE_TURN
    late = late_ms(mem, venue_time, recv_ns)
    settled = recv_ns - mem[row + WATCH.late_ns] > SETTLED_NS and recv_ns >= mem[BOOKS.closed_until_ns]
    if is_ahead(mem, time_ms, recv_ns):
        mem[row + WATCH.late_ns] = recv_ns
        mem[BOOKS.notice] |= NOTICE_AHEAD
        if mem[row + WATCH.on_time]:
            set_on_time(mem, words, conn, 0)
    elif late > LATE_MS - mem[BOOKS.clock_error_ms]:
        mem[row + WATCH.late_ns] = recv_ns
        if mem[row + WATCH.on_time]:
            set_on_time(mem, words, conn, 0)
            mem[BOOKS.notice] |= NOTICE_LATE
    elif not mem[row + WATCH.on_time] and late < ON_TIME_MS and settled:
        set_on_time(mem, words, conn, 1)
        mem[BOOKS.notice] |= NOTICE_ON_TIME
    mem[row + WATCH.timed] += 1
    back = mem[row + WATCH.time_max] - venue_time
    if back <= 0:
        mem[row + WATCH.time_max] = venue_time
    elif recv_ns - mem[row + WATCH.late_ns] > CALM_NS:
        if back > MICROSECONDS_BACK:
            back //= 1000
        if back <= DISORDER_MAX_MS:
            mem[row + WATCH.back_ms] = max(mem[row + WATCH.back_ms], back)
            if back > mem[BOOKS.lag_ms]:
                mem[BOOKS.back_ms] = back
                mem[BOOKS.notice] |= NOTICE_DISORDER
