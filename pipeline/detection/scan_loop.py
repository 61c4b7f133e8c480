"""The scan loop: notices of every feed in, episodes and opportunities out; no Python inside.

Per update: the notice names the book, its best prices are read in place, then only the directions of its own group
and the cycles through it are looked at. A lapped reader looks at every book of that feed (and counts the lap): what
was in between is conflated, never lost for good.

Open episodes are looked at again when a proof may have come (a frame on one of the connections that their books came
over), and at least every ``recheck_ns``: what was refused as ``quiet_unproved`` becomes tradable without an update.
"""

# Kernels: words of an array are int64 to numba, Any to mypy.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.detection.cross_venue import check_member, direction_row, evaluate_direction
from pipeline.detection.cycle_size import cycle_row
from pipeline.detection.cycles import CYCLE, LEGS
from pipeline.detection.edge import screen_ask, screen_bid
from pipeline.detection.episodes import episode_row, may_be_looked_at
from pipeline.detection.gates import instrument_row
from pipeline.detection.hedge_exits import direction_of_key, evaluate_exit, load_exits
from pipeline.detection.input_log import (
    NOTICE,
    NOTICE_ENTRY,
    OFF,
    RECHECK,
    RECHECKED,
    REPORTED,
    SWEEP,
    TOPS,
    append,
    note_one,
    note_three,
)
from pipeline.detection.kernel_arrays import NOTHING, Ports
from pipeline.detection.memory import (
    CLOSED,
    DETECTOR,
    DETECTOR_COUNTERS,
    DETECTOR_SETTINGS,
    EPISODE,
    FEED_READER,
    INPUT_LOG,
)
from pipeline.detection.publish import clock_of, send_held
from pipeline.detection.topology import DIRECTION, INSTRUMENT, NO_FEED
from pipeline.detection.triangular import check_cycles, evaluate_cycle
from shm.atomics import cpu_pause, f64_to_bits, fence_acquire, load_acquire, load_relaxed, mono_ns, sched_yield
from shm.bookring import (
    NOTICE_LAPPED,
    NOTICE_NONE,
    newest_offset,
    newest_publication,
    notice_tail,
    read_notice,
    record_offset,
)
from shm.declare import Table, word, words_of
from shm.jit import njit_bare
from shm.layout import ABSENT_ASK, ABSENT_BID, BOOK, CONN_CAPACITY, CONNECTION, FEED, HEADER, REPORT
from shm.layout_pages import CATALOGUE, INVENTORY
from shm.metrics import hist_record
from shm.queue import is_empty, pop
from shm.words import Words

Floats = npt.NDArray[np.float64]

TOP_READS = 64  # tries at a record that its writer keeps replacing
BURST = 64  # notices of one feed before the next feed is looked at
LOG_ENOUGH_WORDS = 1 << 15  # recorded: the caller takes it away
SAMPLE_MASK = 15  # one update in 16 goes to the histogram of publish-to-scan times

# why the loop came back
RAN_OUT = 0  # deadline
IDLE = 1  # nothing to do for the idle time
REFRESH = 2  # the catalogue changed
EXITS = 3  # recording: exits of open hedges changed, which the caller loads and writes down

# how it waits
SPIN = 0
YIELD = 1


class ScanPass(Table, words=16, start=DETECTOR.scan_pass, writer="detector"):
    """Stamps of the update that is looked at, and where the pass over the feeds stands.

    line 0 | notice[2] | recv_ns | publish_ns | trigger | feed | notices_left | notices_seen |
    line 1 | sample_ns | book_seq | 0[6] |
    """

    notice = words_of(2, "book index and next cursor, as read_notice gives them")
    recv_ns = word("when the update's frame was received", unit="ns of the monotonic clock")
    publish_ns = word("when its book was published", unit="ns of the monotonic clock")
    trigger = word("its instrument; -1 = a sweep")
    feed = word("feed that is looked at")
    notices_left = word("notices of this feed that may still be read in this pass", unit="notices")
    notices_seen = word("notices read in this pass", unit="notices")
    sample_ns = word("publish-to-scan time that waits for its histogram")
    book_seq = word("of the record whose best prices were read last")


SCAN_PASS = ScanPass()


@njit_bare
def read_top(words: Words, mem: Words, flt: Floats, offset: int, book: int, slot: int) -> int:
    """Newest best prices of a book into the tops of ``slot`` (-1: nowhere), read in place; its receive and publish
    stamps to SCAN_PASS. 1 = read, 0 = no book, -1 = torn."""
    for _ in range(TOP_READS):
        n = newest_publication(words, offset, book)
        if n == 0:
            return 0
        at = record_offset(offset, book, n)
        seq = load_acquire(words, at + BOOK.seq)  # SYNC book.seq: acquire; pairs with publish_book
        if seq != 2 * n:
            continue
        bids, asks = load_relaxed(words, at + BOOK.bid_count), load_relaxed(words, at + BOOK.ask_count)
        bid = load_relaxed(words, at + BOOK.bid_price_fp)
        ask = load_relaxed(words, at + BOOK.ask_price_fp)
        received_ns = load_relaxed(words, at + BOOK.recv_mono_ns)
        published_ns = load_relaxed(words, at + BOOK.publish_mono_ns)
        fence_acquire()  # SYNC book.seq: the fields are read before seq is read again
        if load_relaxed(words, at + BOOK.seq) == seq:
            mem[SCAN_PASS.recv_ns], mem[SCAN_PASS.publish_ns] = received_ns, published_ns
            mem[SCAN_PASS.book_seq] = seq
            if slot >= 0:
                flt[mem[DETECTOR.top_bid_off] + slot] = screen_bid(bid if bids > 0 else ABSENT_BID)
                flt[mem[DETECTOR.top_ask_off] + slot] = screen_ask(ask if asks > 0 else ABSENT_ASK)
            return 1
    return -1


@njit_bare
def on_book(words: Words, mem: Words, flt: Floats, feed: int, book: int) -> int:
    """One updated book (``book``: its row in FEED ``feed`` of ``words``): its tops into the table in DETECTOR memory.
    Returns the instrument, or -1 when there is nothing to check."""
    instrument = -1
    if 0 <= book < mem[DETECTOR.book_capacity]:
        instrument = mem[mem[DETECTOR.books_off] + feed * mem[DETECTOR.book_capacity] + book]
    if instrument < 0:
        mem[DETECTOR_COUNTERS.unknown_book] += 1
        return -1
    slot = mem[instrument_row(mem, instrument) + INSTRUMENT.slot]
    status = read_top(
        words, mem, flt, mem[mem[DETECTOR.feeds_off] + feed * FEED_READER.WORDS + FEED_READER.feed_off], book, slot
    )
    if status < 0:
        mem[DETECTOR_COUNTERS.torn] += 1
    return instrument if status > 0 else -1


@njit_bare
def check(mem: Words, flt: Floats, instrument: int, at: int) -> int:
    """Episodes that an update of ``instrument`` may have opened, changed or ended: to the hit list in DETECTOR memory,
    from place ``at`` on. Returns the new length of the list."""
    at = check_member(mem, flt, instrument, at)
    if mem[DETECTOR.cycle_count] > 0:
        at = check_cycles(mem, flt, instrument, at)
    return at


@njit_bare
def sweep(words: Words, mem: Words, flt: Floats, feed: int) -> int:
    """Looks at the newest BOOK of each known instrument of one feed (first sight, new writer, or after a lap); how many
    hits stand in DETECTOR memory.

    Two rounds: with all tops in place first, no edge is seen against a book that was never read. Hits of a sweep have
    no trigger of their own. Bound: an episode is hit at most once for each of its books.
    """
    books = mem[DETECTOR.books_off] + feed * mem[DETECTOR.book_capacity]
    recording = mem[INPUT_LOG.mode] != OFF
    for book in range(mem[DETECTOR.book_capacity]):
        if mem[books + book] >= 0:
            instrument = on_book(words, mem, flt, feed, book)
            if recording and instrument >= 0:
                note_tops(mem, flt, TOPS, instrument)
    if recording:
        note_one(mem, SWEEP, feed)
    return check_swept(mem, flt, feed)


@njit_bare
def check_swept(mem: Words, flt: Floats, feed: int) -> int:
    """The second round of :func:`sweep`: hits over all known books of a feed."""
    books = mem[DETECTOR.books_off] + feed * mem[DETECTOR.book_capacity]
    hits = 0
    for book in range(mem[DETECTOR.book_capacity]):
        if mem[books + book] >= 0:
            mem[DETECTOR_COUNTERS.events] += 1
            hits = check(mem, flt, mem[books + book], hits)
    mem[SCAN_PASS.trigger] = -1
    mem[SCAN_PASS.recv_ns] = 0
    mem[SCAN_PASS.publish_ns] = 0
    return hits


@njit_bare
def note_tops(mem: Words, flt: Floats, kind: int, instrument: int) -> None:
    """Recording: the best prices of a book that was looked at, with its stamps and now."""
    at = append(mem, kind, NOTICE_ENTRY.WORDS)
    if at < 0:
        return
    slot = mem[instrument_row(mem, instrument) + INSTRUMENT.slot]
    mem[at + NOTICE_ENTRY.instrument] = instrument
    mem[at + NOTICE_ENTRY.book_seq] = mem[SCAN_PASS.book_seq]
    mem[at + NOTICE_ENTRY.top_bid] = f64_to_bits(flt[mem[DETECTOR.top_bid_off] + slot]) if slot >= 0 else 0
    mem[at + NOTICE_ENTRY.top_ask] = f64_to_bits(flt[mem[DETECTOR.top_ask_off] + slot]) if slot >= 0 else 0
    mem[at + NOTICE_ENTRY.recv_ns] = mem[SCAN_PASS.recv_ns]
    mem[at + NOTICE_ENTRY.publish_ns] = mem[SCAN_PASS.publish_ns]
    mem[at + NOTICE_ENTRY.scan_ns] = mono_ns()


@njit_bare
def start_pass(mem: Words) -> None:
    """The next pass begins with the first feed: SCAN_PASS in DETECTOR memory."""
    mem[SCAN_PASS.feed] = 0
    mem[SCAN_PASS.notices_left] = BURST
    mem[SCAN_PASS.notices_seen] = 0


@njit_bare
def next_hits(words: Words, mem: Words, flt: Floats) -> int:
    """Works through the notices of this pass until something must be evaluated; how many hits, 0 = the pass is over.

    Takes no more than these three arrays, because every other would cost it more than the check itself. Where it
    stands is in SCAN_PASS: at most BURST notices of a feed, then the next feed.
    """
    notice = mem[DETECTOR.scan_pass : DETECTOR.scan_pass + 2]
    feeds = mem[DETECTOR.feed_count]
    while mem[SCAN_PASS.feed] < feeds:
        feed = mem[SCAN_PASS.feed]
        row = mem[DETECTOR.feeds_off] + feed * FEED_READER.WORDS
        offset = mem[row + FEED_READER.feed_off]
        status = NOTICE_NONE
        hits = 0
        if offset != NO_FEED and mem[SCAN_PASS.notices_left] > 0:
            epoch = load_relaxed(words, offset + HEADER.epoch)
            if epoch != mem[row + FEED_READER.epoch]:
                mem[row + FEED_READER.epoch] = epoch
                mem[DETECTOR_COUNTERS.epochs] += 1
                status = NOTICE_LAPPED
            else:
                status = read_notice(words, offset, mem[row + FEED_READER.cursor], notice)
                mem[DETECTOR_COUNTERS.laps] += status == NOTICE_LAPPED
        if status == NOTICE_NONE:
            mem[SCAN_PASS.feed] = feed + 1
            mem[SCAN_PASS.notices_left] = BURST
            continue
        mem[SCAN_PASS.notices_seen] += 1
        mem[SCAN_PASS.notices_left] -= 1
        if status == NOTICE_LAPPED:
            mem[row + FEED_READER.cursor] = notice_tail(words, offset)
            hits = sweep(words, mem, flt, feed)
        else:
            mem[row + FEED_READER.cursor] = notice[1]
            instrument = on_book(words, mem, flt, feed, notice[0])
            if instrument >= 0:
                mem[DETECTOR_COUNTERS.events] += 1
                if mem[DETECTOR_COUNTERS.events] & SAMPLE_MASK == 0 and mem[DETECTOR_SETTINGS.hist_scan] >= 0:
                    mem[SCAN_PASS.sample_ns] = mono_ns() - mem[SCAN_PASS.publish_ns]
                mem[SCAN_PASS.trigger] = instrument
                if mem[INPUT_LOG.mode] != OFF:
                    note_tops(mem, flt, NOTICE, instrument)
                hits = check(mem, flt, instrument, 0)
        if hits > 0:
            return hits
    return 0


@njit_bare
def evaluate_hits(ports: Ports, mem: Words, flt: Floats, hits: int) -> None:
    """Evaluates the hit list, in its order, and pushes what may be traded, best first. Exits of open hedges go before
    entries: they are pushed as they are found."""
    received_ns, published_ns, trigger = mem[SCAN_PASS.recv_ns], mem[SCAN_PASS.publish_ns], mem[SCAN_PASS.trigger]
    directions = mem[DETECTOR.direction_count]
    for k in range(hits):
        episode = mem[mem[DETECTOR.hits_off] + k]
        if episode >= directions:
            evaluate_cycle(ports, mem, flt, episode - directions, trigger, received_ns, published_ns)
        elif mem[DETECTOR.exit_count] != 0 and mem[mem[DETECTOR.exit_of_off] + episode] != 0:
            evaluate_exit(ports, mem, flt, episode, trigger, received_ns, published_ns)
        else:
            evaluate_direction(ports, mem, flt, episode, trigger, received_ns, published_ns)
    send_held(ports, mem, flt)


@njit_bare
def frame_time(words: Words, mem: Words, instrument: int) -> int:
    """Receive time of the last frame on the connection that carries the instrument's newest book; 0 = unknown."""
    row = instrument_row(mem, instrument)
    offset = mem[mem[DETECTOR.feeds_off] + mem[row + INSTRUMENT.feed] * FEED_READER.WORDS + FEED_READER.feed_off]
    if offset == NO_FEED:
        return 0
    at = newest_offset(words, offset, mem[row + INSTRUMENT.book])
    if at == 0:
        return 0
    conn = load_relaxed(words, at + BOOK.conn)
    if conn < 0 or conn >= CONN_CAPACITY:
        return 0
    # SYNC conn.last_frame: acquire; pairs with conn_frame
    return load_acquire(words, offset + FEED.connections + conn * CONNECTION.WORDS + CONNECTION.last_frame_mono_ns)


@njit_bare
def recheck_episode(ports: Ports, mem: Words, flt: Floats, episode: int, now_ns: int) -> None:
    """Looks again at one open episode if one of its connections had a frame, or ``recheck_ns`` have passed."""
    directions = mem[DETECTOR.direction_count]
    if not may_be_looked_at(mem, episode, now_ns):
        return
    watch = 0
    newest = 0
    for leg in range(LEGS):
        if episode < directions:
            if leg == 2:
                break
            instrument = mem[direction_row(mem, episode) + (DIRECTION.buy if leg == 0 else DIRECTION.sell)]
        else:
            instrument = mem[cycle_row(mem, episode - directions) + CYCLE.instruments + leg]
        frame_ns = frame_time(ports.feeds, mem, instrument)
        watch = (watch << 1) ^ frame_ns
        newest = max(newest, frame_ns)
    row = episode_row(mem, episode)
    if (
        watch == mem[row + EPISODE.watch]
        and now_ns - mem[row + EPISODE.evaluated_ns] < mem[DETECTOR_SETTINGS.recheck_ns]
    ):
        return
    note_three(mem, RECHECK, episode, watch, newest)
    recheck_now(ports, mem, flt, episode, watch, newest)


@njit_bare
def recheck_now(ports: Ports, mem: Words, flt: Floats, episode: int, watch: int, newest: int) -> None:
    """Evaluates an open episode anew. ``watch``: what its connections' frame times add up to; ``newest`` of them."""
    directions = mem[DETECTOR.direction_count]
    row = episode_row(mem, episode)
    if episode < directions:
        first = mem[direction_row(mem, episode) + DIRECTION.buy]
    else:
        first = mem[cycle_row(mem, episode - directions) + CYCLE.instruments]
    mem[row + EPISODE.watch] = watch
    trigger_ns = max(mem[row + EPISODE.evaluated_ns], newest)
    mem[DETECTOR_COUNTERS.rechecks] += 1
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
    while at < mem[DETECTOR_COUNTERS.active]:
        episode = mem[mem[DETECTOR.active_off] + at]
        recheck_episode(ports, mem, flt, episode, now_ns)
        # an episode that ended was replaced by the last of the list: then this place is looked at again
        if at < mem[DETECTOR_COUNTERS.active] and mem[mem[DETECTOR.active_off] + at] == episode:
            at += 1
    if mem[DETECTOR.held_count] > 0:
        note_one(mem, RECHECKED, 0)
    send_held(ports, mem, flt)


@njit_bare
def episode_of_key(mem: Words, key: int) -> int:
    """Episode index of a direction key; -1 = unknown (the catalogue changed meanwhile)."""
    if key < 0:
        for cycle in range(mem[DETECTOR.cycle_count]):
            if mem[cycle_row(mem, cycle) + CYCLE.key] == key:
                return mem[DETECTOR.direction_count] + cycle
        return -1
    return direction_of_key(mem, key)


@njit_bare
def take_report(mem: Words, key: int, until_ns: int) -> None:
    """One report: the direction cools down until ``until_ns`` and may be pushed again after that."""
    mem[DETECTOR_COUNTERS.reports] += 1
    episode = episode_of_key(mem, key)
    if episode >= 0:
        row = episode_row(mem, episode)
        mem[row + EPISODE.cooldown_until_ns] = max(mem[row + EPISODE.cooldown_until_ns], until_ns)
        if mem[row + EPISODE.state] != CLOSED:
            mem[row + EPISODE.rearmed] = 1


@njit_bare
def drain_reports(reports: Words, cursor: Words, mem: Words) -> None:
    """The executor's reports, as they come."""
    report = mem[DETECTOR.report : DETECTOR.report + REPORT.WORDS]
    for _ in range(BURST):
        if pop(reports, 0, cursor, 0, report) == 0:
            return
        key, until_ns = report[REPORT.direction_key], report[REPORT.cooldown_until_mono_ns]
        note_three(mem, REPORTED, key, until_ns, 0)
        take_report(mem, key, until_ns)


@njit_bare
def exits_changed(inventory: Words, mem: Words) -> bool:
    """Whether the executor has changed an exit of an open hedge since they were loaded."""
    if len(inventory) <= NOTHING:
        return False
    # SYNC inventory.exits: acquire, before the rows; pairs with InventoryPage.write_exits
    return load_acquire(inventory, INVENTORY.exit_version) != mem[DETECTOR_SETTINGS.exit_version]


@njit_bare
def refresh_exits(inventory: Words, mem: Words) -> None:
    """Loads the exits of open hedges where the executor has changed any."""
    if exits_changed(inventory, mem):
        # SYNC inventory.exits: acquire, before the rows; pairs with InventoryPage.write_exits
        load_exits(inventory, mem, load_acquire(inventory, INVENTORY.exit_version))


@njit_bare
def scan_once(ports: Ports, mem: Words, flt: Floats) -> int:
    """One pass over all feeds, the reports and the open episodes; returns how many notices there were. ``mem`` and
    ``flt``: DETECTOR memory and DETECTOR_FLOATS."""
    words = ports.feeds
    start_pass(mem)
    hits = next_hits(words, mem, flt)
    while hits > 0:
        evaluate_hits(ports, mem, flt, hits)
        hits = next_hits(words, mem, flt)
    if len(ports.reports) > NOTHING:
        drain_reports(ports.reports, ports.reports_cursor, mem)
    refresh_exits(ports.inventory, mem)
    if mem[DETECTOR_COUNTERS.active] > 0:
        recheck(ports, mem, flt, clock_of(mem))
    return mem[SCAN_PASS.notices_seen]


@njit_bare
def scan_loop(ports: Ports, mem: Words, flt: Floats, deadline_mono_ns: int, idle_ns: int, wait: int) -> int:
    """Scans until ``deadline_mono_ns``, or until enough has been recorded: RAN_OUT; or nothing came for ``idle_ns``:
    IDLE; or the catalogue's version is not that of the settings: REFRESH; or EXITS. ``wait`` (SPIN, YIELD): what an
    empty pass does.

    The pass of :func:`scan_once`, with the ports that every round needs taken out of the tuple once.
    """
    words, catalogue, metrics = ports.feeds, ports.catalogue, ports.metrics
    reports, reports_cursor, inventory = ports.reports, ports.reports_cursor, ports.inventory
    quiet_since_ns = mono_ns()
    while True:
        start_pass(mem)
        hits = next_hits(words, mem, flt)
        while hits > 0:
            evaluate_hits(ports, mem, flt, hits)
            hits = next_hits(words, mem, flt)
        if len(reports) > NOTHING and not is_empty(reports, 0, reports_cursor, 0):
            drain_reports(reports, reports_cursor, mem)
        if mem[INPUT_LOG.mode] == OFF:
            refresh_exits(inventory, mem)
        elif exits_changed(inventory, mem):
            return EXITS
        if mem[DETECTOR_COUNTERS.active] > 0:
            recheck(ports, mem, flt, clock_of(mem))
        if mem[SCAN_PASS.sample_ns] != 0:
            hist_record(metrics, 0, mem[DETECTOR_SETTINGS.hist_scan], mem[SCAN_PASS.sample_ns])
            mem[SCAN_PASS.sample_ns] = 0
        now_ns = mono_ns()
        if len(catalogue) > NOTHING:
            # SYNC catalogue.version: acquire; pairs with CataloguePage._changed
            version = load_acquire(catalogue, CATALOGUE.version)
            if version != mem[DETECTOR_SETTINGS.catalogue_version]:
                return REFRESH
        if now_ns >= deadline_mono_ns or mem[INPUT_LOG.at] > mem[INPUT_LOG.log_off] + LOG_ENOUGH_WORDS:
            return RAN_OUT
        if mem[SCAN_PASS.notices_seen] > 0:
            quiet_since_ns = now_ns
        elif now_ns - quiet_since_ns >= idle_ns:
            return IDLE
        elif wait == SPIN:
            cpu_pause()
        else:
            sched_yield()
