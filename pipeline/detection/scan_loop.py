"""The scan loop: notices of every feed in, episodes and opportunities out; no Python inside.

Per update: the notice names the book, its best prices are read in place, then only the directions of its own group
and the cycles through it are looked at. A lapped reader looks at every book of that feed (and counts the lap): what
was in between is conflated, never lost for good.

Open episodes are looked at again when a proof may have come (a frame on one of the connections that their books came
over), and at least every ``SE_RECHECK_NS``: what was refused as ``quiet_unproved`` becomes tradable without an update.
"""

# Kernels: words of an array are int64 to numba, Any to mypy.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.detection.cross_venue import check_member, direction_row, evaluate_direction
from pipeline.detection.cycles import CY_INSTRUMENT, CY_KEY, LEGS
from pipeline.detection.edge import screen_ask, screen_bid
from pipeline.detection.episodes import episode_row, may_be_looked_at
from pipeline.detection.gates import instrument_row
from pipeline.detection.kernel_arrays import NOTHING, Ports
from pipeline.detection.memory import (
    C_ACTIVE,
    C_EPOCHS,
    C_EVENTS,
    C_LAPS,
    C_RECHECKS,
    C_REPORTS,
    C_TORN,
    C_UNKNOWN_BOOK,
    CLOSED,
    EP_COOLDOWN_UNTIL_NS,
    EP_EVALUATED_NS,
    EP_REARMED,
    EP_STATE,
    EP_WATCH,
    FD_CURSOR,
    FD_EPOCH,
    FD_OFF,
    FD_WORDS,
    H_ACTIVE,
    H_BOOK_CAPACITY,
    H_BOOKS,
    H_CYCLE_COUNT,
    H_DIRECTION_COUNT,
    H_FEED_COUNT,
    H_FEEDS,
    H_GROUPS,
    H_HITS,
    H_INSTRUMENT_COUNT,
    H_TOP_ASK,
    H_TOP_BID,
    NOTICE,
    REPORT,
    SE_CATALOGUE_VERSION,
    SE_HIST_SCAN,
    SE_RECHECK_NS,
)
from pipeline.detection.publish import now_of
from pipeline.detection.topology import (
    DR_BUY,
    DR_SELL,
    GR_BLOCK,
    GR_COUNT,
    GR_START,
    GR_WORDS,
    IN_BOOK,
    IN_FEED,
    IN_GROUP,
    IN_SLOT,
    NO_FEED,
)
from pipeline.detection.triangular import check_cycles, cycle_row, evaluate_cycle
from shm import layout as ly
from shm.atomics import cpu_pause, fence_acquire, load_acquire, load_relaxed, mono_ns, sched_yield
from shm.bookring import NOTICE_LAPPED, NOTICE_NONE, newest_offset, notice_tail, read_notice
from shm.jit import njit_bare
from shm.metrics import hist_record
from shm.queue import is_empty, pop

Words = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

TOP_READS = 64  # tries at a record that its writer keeps replacing
BURST = 64  # notices of one feed before the next feed is looked at
SAMPLE_MASK = 15  # one update in 16 goes to the histogram of publish-to-scan times

# why the loop came back
RAN_OUT = 0  # deadline
IDLE = 1  # nothing to do for the idle time
REFRESH = 2  # the catalogue changed

# how it waits
SPIN = 0
YIELD = 1

# stamps of the update that is looked at, and where the pass stands
STAMP_RECV = NOTICE + 2
STAMP_PUBLISH = NOTICE + 3
PASS_TRIGGER = NOTICE + 4  # its instrument; -1 = a sweep
PASS_FEED = NOTICE + 5
PASS_LEFT = NOTICE + 6  # notices of this feed that may still be read in this pass
PASS_SEEN = NOTICE + 7  # notices read in this pass
SAMPLE_NS = NOTICE + 8  # publish-to-scan time that waits for its histogram


@njit_bare
def read_top(words: Words, mem: Words, flt: Floats, offset: int, book: int, slot: int) -> int:
    """Newest best prices of a book into the tops of ``slot`` (-1: nowhere), read in place; its receive and publish
    stamps to STAMP_*. 1 = read, 0 = no book, -1 = torn."""
    for _ in range(TOP_READS):
        at = newest_offset(words, offset, book)
        if at == 0:
            return 0
        seq = load_acquire(words, at + ly.BR_SEQ)  # SYNC book.seq: acquire; pairs with publish_book
        if seq & 1:
            continue
        bids, asks = load_relaxed(words, at + ly.BR_BID_COUNT), load_relaxed(words, at + ly.BR_ASK_COUNT)
        bid = load_relaxed(words, at + ly.BR_BID_PRICE)
        ask = load_relaxed(words, at + ly.BR_ASK_PRICE)
        received_ns = load_relaxed(words, at + ly.BR_RECV_MONO_NS)
        published_ns = load_relaxed(words, at + ly.BR_PUBLISH_MONO_NS)
        fence_acquire()  # SYNC book.seq: the fields are read before seq is read again
        if load_relaxed(words, at + ly.BR_SEQ) == seq:
            mem[STAMP_RECV], mem[STAMP_PUBLISH] = received_ns, published_ns
            if slot >= 0:
                flt[mem[H_TOP_BID] + slot] = screen_bid(bid if bids > 0 else ly.ABSENT_BID)
                flt[mem[H_TOP_ASK] + slot] = screen_ask(ask if asks > 0 else ly.ABSENT_ASK)
            return 1
    return -1


@njit_bare
def on_book(words: Words, mem: Words, flt: Floats, feed: int, book: int) -> int:
    """One updated book: its tops into the table; returns the instrument, or -1 when there is nothing to check."""
    instrument = -1
    if 0 <= book < mem[H_BOOK_CAPACITY]:
        instrument = mem[mem[H_BOOKS] + feed * mem[H_BOOK_CAPACITY] + book]
    if instrument < 0:
        mem[C_UNKNOWN_BOOK] += 1
        return -1
    slot = mem[instrument_row(mem, instrument) + IN_SLOT]
    status = read_top(words, mem, flt, mem[mem[H_FEEDS] + feed * FD_WORDS + FD_OFF], book, slot)
    if status < 0:
        mem[C_TORN] += 1
    return instrument if status > 0 else -1


@njit_bare
def check(mem: Words, flt: Floats, instrument: int, at: int) -> int:
    """Episodes that an update of ``instrument`` may have opened, changed or ended: to the hit list from ``at`` on.
    Returns the new length of the list."""
    at = check_member(mem, flt, instrument, at)
    if mem[H_CYCLE_COUNT] > 0:
        at = check_cycles(mem, flt, instrument, at)
    return at


@njit_bare
def sweep(words: Words, mem: Words, flt: Floats, feed: int) -> int:
    """Looks at the newest record of each known book of one feed (first sight, new writer, or after a lap); hits.

    Two rounds: with all tops in place first, no edge is seen against a book that was never read. Hits of a sweep have
    no trigger of their own. Bound: an episode is hit at most once for each of its books.
    """
    books = mem[H_BOOKS] + feed * mem[H_BOOK_CAPACITY]
    for book in range(mem[H_BOOK_CAPACITY]):
        if mem[books + book] >= 0:
            on_book(words, mem, flt, feed, book)
    hits = 0
    for book in range(mem[H_BOOK_CAPACITY]):
        if mem[books + book] >= 0:
            mem[C_EVENTS] += 1
            hits = check(mem, flt, mem[books + book], hits)
    mem[PASS_TRIGGER] = -1
    mem[STAMP_RECV] = 0
    mem[STAMP_PUBLISH] = 0
    return hits


@njit_bare
def start_pass(mem: Words) -> None:
    """The next pass begins with the first feed."""
    mem[PASS_FEED] = 0
    mem[PASS_LEFT] = BURST
    mem[PASS_SEEN] = 0


@njit_bare
def next_hits(words: Words, mem: Words, flt: Floats) -> int:
    """Works through the notices of this pass until something must be evaluated; how many hits, 0 = the pass is over.

    Takes no more than these three arrays, because every other would cost it more than the check itself. Where it
    stands is in PASS_*: at most BURST notices of a feed, then the next feed.
    """
    notice = mem[NOTICE : NOTICE + 2]
    feeds = mem[H_FEED_COUNT]
    while mem[PASS_FEED] < feeds:
        feed = mem[PASS_FEED]
        row = mem[H_FEEDS] + feed * FD_WORDS
        offset = mem[row + FD_OFF]
        status = NOTICE_NONE
        hits = 0
        if offset != NO_FEED and mem[PASS_LEFT] > 0:
            epoch = load_relaxed(words, offset + ly.SEG_EPOCH)
            if epoch != mem[row + FD_EPOCH]:
                mem[row + FD_EPOCH] = epoch
                mem[C_EPOCHS] += 1
                status = NOTICE_LAPPED
            else:
                status = read_notice(words, offset, mem[row + FD_CURSOR], notice)
                mem[C_LAPS] += status == NOTICE_LAPPED
        if status == NOTICE_NONE:
            mem[PASS_FEED] = feed + 1
            mem[PASS_LEFT] = BURST
            continue
        mem[PASS_SEEN] += 1
        mem[PASS_LEFT] -= 1
        if status == NOTICE_LAPPED:
            mem[row + FD_CURSOR] = notice_tail(words, offset)
            hits = sweep(words, mem, flt, feed)
        else:
            mem[row + FD_CURSOR] = notice[1]
            instrument = on_book(words, mem, flt, feed, notice[0])
            if instrument >= 0:
                mem[C_EVENTS] += 1
                if mem[C_EVENTS] & SAMPLE_MASK == 0 and mem[SE_HIST_SCAN] >= 0:
                    mem[SAMPLE_NS] = mono_ns() - mem[STAMP_PUBLISH]
                mem[PASS_TRIGGER] = instrument
                hits = check(mem, flt, instrument, 0)
        if hits > 0:
            return hits
    return 0


@njit_bare
def evaluate_hits(ports: Ports, mem: Words, flt: Floats, hits: int) -> None:
    """Evaluates the hit list, in its order."""
    received_ns, published_ns, trigger = mem[STAMP_RECV], mem[STAMP_PUBLISH], mem[PASS_TRIGGER]
    directions = mem[H_DIRECTION_COUNT]
    for k in range(hits):
        episode = mem[mem[H_HITS] + k]
        if episode < directions:
            evaluate_direction(ports, mem, flt, episode, trigger, received_ns, published_ns)
        else:
            evaluate_cycle(ports, mem, flt, episode - directions, trigger, received_ns, published_ns)


@njit_bare
def frame_time(words: Words, mem: Words, instrument: int) -> int:
    """Receive time of the last frame on the connection that carries the instrument's newest book; 0 = unknown."""
    row = instrument_row(mem, instrument)
    offset = mem[mem[H_FEEDS] + mem[row + IN_FEED] * FD_WORDS + FD_OFF]
    if offset == NO_FEED:
        return 0
    at = newest_offset(words, offset, mem[row + IN_BOOK])
    if at == 0:
        return 0
    conn = load_relaxed(words, at + ly.BR_CONN)
    if conn < 0 or conn >= ly.CONN_CAPACITY:
        return 0
    return load_acquire(words, offset + ly.FEED_CONN_OFF + conn * ly.CONN_WORDS + ly.CONN_LAST_FRAME_MONO_NS)


@njit_bare
def recheck_episode(ports: Ports, mem: Words, flt: Floats, episode: int, now_ns: int) -> None:
    """Looks again at one open episode if one of its connections had a frame, or SE_RECHECK_NS have passed."""
    directions = mem[H_DIRECTION_COUNT]
    if not may_be_looked_at(mem, episode, now_ns):
        return
    first = 0
    watch = 0
    newest = 0
    for leg in range(LEGS):
        if episode < directions:
            if leg == 2:
                break
            instrument = mem[direction_row(mem, episode) + (DR_BUY if leg == 0 else DR_SELL)]
        else:
            instrument = mem[cycle_row(mem, episode - directions) + CY_INSTRUMENT + leg]
        if leg == 0:
            first = instrument
        frame_ns = frame_time(ports.feeds, mem, instrument)
        watch = (watch << 1) ^ frame_ns
        newest = max(newest, frame_ns)
    row = episode_row(mem, episode)
    if watch == mem[row + EP_WATCH] and now_ns - mem[row + EP_EVALUATED_NS] < mem[SE_RECHECK_NS]:
        return
    mem[row + EP_WATCH] = watch
    trigger_ns = max(mem[row + EP_EVALUATED_NS], newest)
    mem[C_RECHECKS] += 1
    if episode < directions:
        evaluate_direction(ports, mem, flt, episode, first, trigger_ns, trigger_ns)
    else:
        evaluate_cycle(ports, mem, flt, episode - directions, first, trigger_ns, trigger_ns)


@njit_bare
def recheck(ports: Ports, mem: Words, flt: Floats, now_ns: int) -> None:
    """Looks again at the open episodes: a proof may have come without an update.

    The trigger of what is pushed here is the frame that brought the proof, but never earlier than the evaluation
    that still refused: latency is not flattered by the wait for a proof.
    """
    at = 0
    while at < mem[C_ACTIVE]:
        episode = mem[mem[H_ACTIVE] + at]
        recheck_episode(ports, mem, flt, episode, now_ns)
        # an episode that ended was replaced by the last of the list: then this place is looked at again
        if at < mem[C_ACTIVE] and mem[mem[H_ACTIVE] + at] == episode:
            at += 1


@njit_bare
def episode_of_key(mem: Words, key: int) -> int:
    """Episode index of a direction key; -1 = unknown (the catalogue changed meanwhile)."""
    if key < 0:
        for cycle in range(mem[H_CYCLE_COUNT]):
            if mem[cycle_row(mem, cycle) + CY_KEY] == key:
                return mem[H_DIRECTION_COUNT] + cycle
        return -1
    buy, sell = key // ly.CATALOGUE_CAPACITY, key % ly.CATALOGUE_CAPACITY
    if buy >= mem[H_INSTRUMENT_COUNT] or sell >= mem[H_INSTRUMENT_COUNT]:
        return -1
    buy_row, sell_row = instrument_row(mem, buy), instrument_row(mem, sell)
    group = mem[buy_row + IN_GROUP]
    if group < 0 or mem[sell_row + IN_GROUP] != group:
        return -1
    at = mem[H_GROUPS] + group * GR_WORDS
    i, j = mem[buy_row + IN_SLOT] - mem[at + GR_START], mem[sell_row + IN_SLOT] - mem[at + GR_START]
    return mem[at + GR_BLOCK] + i * mem[at + GR_COUNT] + j


@njit_bare
def drain_reports(reports: Words, cursor: Words, mem: Words) -> None:
    """The executor's reports: the direction cools down until it says, and may be pushed again after that."""
    report = mem[REPORT : REPORT + ly.REPORT_WORDS]
    for _ in range(BURST):
        if pop(reports, 0, cursor, 0, report) == 0:
            return
        mem[C_REPORTS] += 1
        episode = episode_of_key(mem, report[ly.RP_DIRECTION_KEY])
        if episode >= 0:
            row = episode_row(mem, episode)
            until_ns = max(mem[row + EP_COOLDOWN_UNTIL_NS], report[ly.RP_COOLDOWN_UNTIL_MONO_NS])
            mem[row + EP_COOLDOWN_UNTIL_NS] = until_ns
            if mem[row + EP_STATE] != CLOSED:
                mem[row + EP_REARMED] = 1


@njit_bare
def scan_once(ports: Ports, mem: Words, flt: Floats) -> int:
    """One pass over all feeds, the reports and the open episodes; returns how many notices there were."""
    words = ports.feeds
    start_pass(mem)
    hits = next_hits(words, mem, flt)
    while hits > 0:
        evaluate_hits(ports, mem, flt, hits)
        hits = next_hits(words, mem, flt)
    if len(ports.reports) > NOTHING:
        drain_reports(ports.reports, ports.reports_cursor, mem)
    if mem[C_ACTIVE] > 0:
        recheck(ports, mem, flt, now_of(mem))
    return mem[PASS_SEEN]


@njit_bare
def scan_loop(ports: Ports, mem: Words, flt: Floats, deadline_mono_ns: int, idle_ns: int, wait: int) -> int:
    """Scans until ``deadline_mono_ns``: RAN_OUT; or nothing came for ``idle_ns``: IDLE; or the catalogue's version is
    not that of the settings: REFRESH. ``wait`` (SPIN, YIELD): what an empty pass does.

    The pass of :func:`scan_once`, with the ports that every round needs taken out of the tuple once.
    """
    words, catalogue, metrics = ports.feeds, ports.catalogue, ports.metrics
    reports, reports_cursor = ports.reports, ports.reports_cursor
    quiet_since_ns = mono_ns()
    while True:
        start_pass(mem)
        hits = next_hits(words, mem, flt)
        while hits > 0:
            evaluate_hits(ports, mem, flt, hits)
            hits = next_hits(words, mem, flt)
        if len(reports) > NOTHING and not is_empty(reports, 0, reports_cursor, 0):
            drain_reports(reports, reports_cursor, mem)
        if mem[C_ACTIVE] > 0:
            recheck(ports, mem, flt, now_of(mem))
        if mem[SAMPLE_NS] != 0:
            hist_record(metrics, 0, mem[SE_HIST_SCAN], mem[SAMPLE_NS])
            mem[SAMPLE_NS] = 0
        now_ns = mono_ns()
        if len(catalogue) > NOTHING:
            version = load_acquire(catalogue, ly.CAT_VERSION)  # SYNC catalogue.count: acquire
            if version != mem[SE_CATALOGUE_VERSION]:
                return REFRESH
        if now_ns >= deadline_mono_ns:
            return RAN_OUT
        if mem[PASS_SEEN] > 0:
            quiet_since_ns = now_ns
        elif now_ns - quiet_since_ns >= idle_ns:
            return IDLE
        elif wait == SPIN:
            cpu_pause()
        else:
            sched_yield()
