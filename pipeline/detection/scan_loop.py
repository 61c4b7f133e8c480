"""The scan loop: notices of every feed in, episodes and opportunities out; no Python inside.

Per update: the notice names the book, its best prices are read in place, then only the directions of its own group
and the cycles through it are looked at. A lapped reader looks at every book of that feed (and counts the lap): what
was in between is conflated, never lost for good.

Open episodes are looked at again when a proof may have come (a frame on one of the connections that their books came
over), and at least every ``SE_RECHECK_NS``: what was refused as ``quiet_unproved`` becomes tradable without an update.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.detection.cross_venue import check_member, evaluate_direction, now_of
from pipeline.detection.cycles import CY_INSTRUMENT, CY_KEY
from pipeline.detection.edge import screen_ask, screen_bid
from pipeline.detection.state import (
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
    PUSHED,
    SE_CATALOGUE_VERSION,
    SE_RECHECK_NS,
    Memory,
    State,
)
from pipeline.detection.topology import (
    DR_BUY,
    DR_SELL,
    GR_BLOCK,
    GR_COUNT,
    GR_START,
    IN_BOOK,
    IN_FEED,
    IN_GROUP,
    IN_SLOT,
    NO_FEED,
    Topology,
)
from pipeline.detection.triangular import check_cycles, evaluate_cycle
from shm import layout as ly
from shm.atomics import cpu_pause, fence_acquire, load_acquire, load_relaxed, mono_ns, sched_yield
from shm.bookring import NOTICE_LAPPED, NOTICE_ONE, newest_offset, notice_tail, read_notice
from shm.jit import njit
from shm.queue import pop

Words = npt.NDArray[np.int64]

TOP_READS = 64  # tries at a record that its writer keeps replacing
BURST = 64  # notices of one feed before the next feed is looked at

# why the loop came back
RAN_OUT = 0  # deadline
IDLE = 1  # nothing to do for the idle time
REFRESH = 2  # the catalogue changed

# how it waits
SPIN = 0
YIELD = 1


@njit
def read_top(memory: Memory, state: State, offset: int, book: int, slot: int, stamps: Words) -> int:
    """Newest best prices of a book into the tops of ``slot`` (-1: nowhere), read in place; its receive and publish
    stamps into ``stamps[0:2]``. 1 = read, 0 = no book, -1 = torn."""
    words = memory.feeds
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
            stamps[0], stamps[1] = received_ns, published_ns
            if slot >= 0:
                state.top_bid[slot] = screen_bid(bid if bids > 0 else ly.ABSENT_BID)
                state.top_ask[slot] = screen_ask(ask if asks > 0 else ly.ABSENT_ASK)
            return 1
    return -1


@njit
def on_book(memory: Memory, topology: Topology, state: State, feed: int, book: int) -> None:
    """One updated book: tops, its pairs, its cycles."""
    instrument = -1
    if 0 <= book < topology.books.shape[1]:
        instrument = topology.books[feed, book]
    if instrument < 0:
        state.counters[C_UNKNOWN_BOOK] += 1
        return
    state.counters[C_EVENTS] += 1
    slot = topology.instruments[instrument, IN_SLOT]
    status = read_top(memory, state, state.feeds[feed, FD_OFF], book, slot, state.notice)
    if status < 0:
        state.counters[C_TORN] += 1
        return
    if status == 0:
        return
    received_ns, published_ns = state.notice[0], state.notice[1]
    check_member(memory, topology, state, instrument, received_ns, published_ns)
    check_cycles(memory, topology, state, instrument, received_ns, published_ns)


@njit
def every_book(memory: Memory, topology: Topology, state: State, feed: int) -> None:
    """Looks at the newest record of each known book of one feed (first sight, or after a lap)."""
    for book in range(topology.books.shape[1]):
        if topology.books[feed, book] >= 0:
            on_book(memory, topology, state, feed, book)


@njit
def drain_feed(memory: Memory, topology: Topology, state: State, feed: int) -> int:
    """Up to BURST notices of one feed; returns how many there were (a lap or a new writer counts as one)."""
    row = state.feeds[feed]
    offset = row[FD_OFF]
    if offset == NO_FEED:
        return 0
    words = memory.feeds
    epoch = load_relaxed(words, offset + ly.SEG_EPOCH)
    if epoch != row[FD_EPOCH]:
        row[FD_EPOCH] = epoch
        row[FD_CURSOR] = notice_tail(words, offset)
        state.counters[C_EPOCHS] += 1
        every_book(memory, topology, state, feed)
        return 1
    for done in range(BURST):
        status = read_notice(words, offset, row[FD_CURSOR], state.notice)
        if status == NOTICE_ONE:
            row[FD_CURSOR] = state.notice[1]
            on_book(memory, topology, state, feed, state.notice[0])
        elif status == NOTICE_LAPPED:
            state.counters[C_LAPS] += 1
            row[FD_CURSOR] = notice_tail(words, offset)
            every_book(memory, topology, state, feed)
            return done + 1
        else:
            return done
    return BURST


@njit
def frame_time(memory: Memory, topology: Topology, state: State, instrument: int) -> int:
    """Receive time of the last frame on the connection that carries the instrument's newest book; 0 = unknown."""
    offset = state.feeds[topology.instruments[instrument, IN_FEED], FD_OFF]
    if offset == NO_FEED:
        return 0
    at = newest_offset(memory.feeds, offset, topology.instruments[instrument, IN_BOOK])
    if at == 0:
        return 0
    conn = load_relaxed(memory.feeds, at + ly.BR_CONN)
    if conn < 0 or conn >= ly.CONN_CAPACITY:
        return 0
    return load_acquire(memory.feeds, offset + ly.FEED_CONN_OFF + conn * ly.CONN_WORDS + ly.CONN_LAST_FRAME_MONO_NS)


@njit
def recheck(memory: Memory, topology: Topology, state: State, now_ns: int) -> None:
    """Looks again at open episodes whose connections had a frame, or that were not looked at for SE_RECHECK_NS.

    The trigger of what is pushed here is the frame that brought the proof, but never earlier than the evaluation
    that still refused: latency is not flattered by the wait for a proof.
    """
    directions = len(topology.directions)
    at = 0
    while at < state.counters[C_ACTIVE]:
        episode = state.active[at]
        row = state.episodes[episode]
        first_frame = second_frame = third_frame = 0
        if episode < directions:
            first_frame = frame_time(memory, topology, state, topology.directions[episode, DR_BUY])
            second_frame = frame_time(memory, topology, state, topology.directions[episode, DR_SELL])
        else:
            cycle = topology.cycles[episode - directions]
            first_frame = frame_time(memory, topology, state, cycle[CY_INSTRUMENT])
            second_frame = frame_time(memory, topology, state, cycle[CY_INSTRUMENT + 1])
            third_frame = frame_time(memory, topology, state, cycle[CY_INSTRUMENT + 2])
        watch = (first_frame ^ (second_frame << 1)) ^ (third_frame << 2)
        waiting = row[EP_STATE] == PUSHED and (row[EP_REARMED] == 0 or now_ns < row[EP_COOLDOWN_UNTIL_NS])
        due = watch != row[EP_WATCH] or now_ns - row[EP_EVALUATED_NS] >= state.settings[SE_RECHECK_NS]
        if due and not waiting:
            row[EP_WATCH] = watch
            trigger_ns = max(row[EP_EVALUATED_NS], max(first_frame, max(second_frame, third_frame)))
            state.counters[C_RECHECKS] += 1
            if episode < directions:
                buy = topology.directions[episode, DR_BUY]
                evaluate_direction(memory, topology, state, episode, buy, trigger_ns, trigger_ns)
            else:
                evaluate_cycle(memory, topology, state, episode - directions, -1, trigger_ns, trigger_ns)
        # an episode that ended was replaced by the last of the list: look at this place again
        if at < state.counters[C_ACTIVE] and state.active[at] == episode:
            at += 1


@njit
def episode_of_key(topology: Topology, key: int) -> int:
    """Episode index of a direction key; -1 = unknown (the catalogue changed meanwhile)."""
    if key < 0:
        for cycle in range(len(topology.cycles)):
            if topology.cycles[cycle, CY_KEY] == key:
                return len(topology.directions) + cycle
        return -1
    buy, sell = key // ly.CATALOGUE_CAPACITY, key % ly.CATALOGUE_CAPACITY
    if buy >= len(topology.instruments) or sell >= len(topology.instruments):
        return -1
    group = topology.instruments[buy, IN_GROUP]
    if group < 0 or topology.instruments[sell, IN_GROUP] != group:
        return -1
    start = topology.groups[group, GR_START]
    i, j = topology.instruments[buy, IN_SLOT] - start, topology.instruments[sell, IN_SLOT] - start
    return topology.groups[group, GR_BLOCK] + i * topology.groups[group, GR_COUNT] + j


@njit
def drain_reports(memory: Memory, topology: Topology, state: State) -> None:
    """The executor's reports: the direction cools down until it says, and may be pushed again after that."""
    if len(memory.reports) <= ly.Q_SLOTS_OFF:
        return
    for _ in range(BURST):
        if pop(memory.reports, 0, memory.reports_cursor, 0, state.report) == 0:
            return
        state.counters[C_REPORTS] += 1
        episode = episode_of_key(topology, state.report[ly.RP_DIRECTION_KEY])
        if episode >= 0:
            row = state.episodes[episode]
            row[EP_COOLDOWN_UNTIL_NS] = max(row[EP_COOLDOWN_UNTIL_NS], state.report[ly.RP_COOLDOWN_UNTIL_MONO_NS])
            if row[EP_STATE] != CLOSED:
                row[EP_REARMED] = 1


@njit
def scan_once(memory: Memory, topology: Topology, state: State) -> int:
    """One pass over all feeds, the reports and the open episodes; returns how many notices there were."""
    seen = 0
    for feed in range(len(state.feeds)):
        seen += drain_feed(memory, topology, state, feed)
    drain_reports(memory, topology, state)
    if state.counters[C_ACTIVE] > 0:
        recheck(memory, topology, state, now_of(state))
    return seen


@njit
def scan_loop(memory: Memory, topology: Topology, state: State, deadline_mono_ns: int, idle_ns: int, wait: int) -> int:
    """Scans until ``deadline_mono_ns``: RAN_OUT; or nothing came for ``idle_ns``: IDLE; or the catalogue's version is
    not that of the settings: REFRESH."""
    quiet_since_ns = mono_ns()
    while True:
        seen = scan_once(memory, topology, state)
        now_ns = mono_ns()
        if len(memory.catalogue) > 1:
            version = load_acquire(memory.catalogue, ly.CAT_VERSION)  # SYNC catalogue.count: acquire
            if version != state.settings[SE_CATALOGUE_VERSION]:
                return REFRESH
        if now_ns >= deadline_mono_ns:
            return RAN_OUT
        if seen > 0:
            quiet_since_ns = now_ns
        elif now_ns - quiet_since_ns >= idle_ns:
            return IDLE
        elif wait == SPIN:
            cpu_pause()
        else:
            sched_yield()
