"""What does one book update cost the detector, against nine other venues of the same pair?

::

    10 feeds' book rings --> [ on_book: newest best prices in place ] --> [ check: 9 others, both ways ] --> hit list
    10 notice rings      --> [ next_hits: the same, found by its notice, all ten feeds polled            ]

Case ``check``: batches of ten updates, one a venue, timed together; compared with C that does the same; the lines were
just written by the same core. ``lines dirty``: the same, the books written by another process on another core between
the batches. Case ``pass``: one update a pass, timed alone, clock included. Prices move at random; few updates are hits,
and hits are counted, not evaluated: sizing, gates and the push to the executor are excluded. Both sides must count the
same hits and end with the same tops.
"""

from __future__ import annotations

import ctypes
import hashlib
import os

import numpy as np
import numpy.typing as npt

from bench.cfloor import I64, PTR, address, load
from bench.report import OURS, Report, Row
from bench.settings import BenchFailed, Settings
from bench.two_processes import DEADLINE_NS, YIELD_AFTER, round_trips, shared, waited
from pipeline.detection.memory import DETECTOR
from pipeline.detection.scan_loop import check, next_hits, on_book, start_pass
from pipeline.rehearsal.detection_world import Listing, World, book_record
from shm.atomics import load_acquire, mono_ns, store_release
from shm.bookring import publish_book
from shm.jit import njit_bare
from shm.layout import BOOK, BOOK_DEPTH, BOOK_RING, BOOK_SLOTS, FEED
from shm.words import Words

Floats = npt.NDArray[np.float64]
NAME = "detection"
VENUES = 10
SEED = 20240808
MID = 6_000_000  # two digits after the point
STEP = 1_000  # standard deviation of a venue's price around the middle
ASKED, HITS, WRITTEN = 0, 1, 8  # words of the flags; the two that are waited for on lines of their own
FLAGS_WORDS = 16
FEES_PPM = (1000, 500, 800, 200, 750, 1000, 600, 400, 1000, 300)


@njit_bare
def publish(words: Words, feed_words: int, record: Words, venue: int, bid: int, ask: int) -> None:
    """A new record of the venue's one book."""
    record[BOOK.instrument] = venue
    record[BOOK.bid_price_fp] = bid
    record[BOOK.ask_price_fp] = ask
    publish_book(words, venue * feed_words, 0, record)


@njit_bare
def batches(
    words: Words, mem: Words, flt: Floats, feed_words: int, record: Words, prices: Words, samples: Words
) -> int:
    """A batch = one update of every venue, published first, then checked; ns a batch; returns all hits."""
    hits = 0
    for batch in range(len(samples)):
        at = batch * VENUES
        for venue in range(VENUES):
            publish(words, feed_words, record, venue, prices[2 * (at + venue)], prices[2 * (at + venue) + 1])
        start = mono_ns()
        for venue in range(VENUES):
            hits += check(mem, flt, on_book(words, mem, flt, venue, 0), 0)
        samples[batch] = mono_ns() - start
    return hits


@njit_bare
def wait_for(flags: Words, i: int, value: int, deadline_ns: int, yield_after: int) -> bool:
    """Spins until flags[i] == value; False when the deadline passed."""
    empty = 0
    while load_acquire(flags, i) != value:
        empty += 1
        if not waited(empty, deadline_ns, yield_after):
            return False
    return True


@njit_bare
def write_batches(
    words: Words,
    feed_words: int,
    record: Words,
    prices: Words,
    flags: Words,
    batches: int,
    deadline_ns: int,
    yield_after: int,
) -> int:
    """The other core: a batch of updates whenever flags[ASKED] asks for it; how many."""
    for batch in range(batches):
        if not wait_for(flags, ASKED, batch + 1, deadline_ns, yield_after):
            return batch
        at = batch * VENUES
        for venue in range(VENUES):
            publish(words, feed_words, record, venue, prices[2 * (at + venue)], prices[2 * (at + venue) + 1])
        store_release(flags, WRITTEN, batch + 1)
    return batches


@njit_bare
def read_batches(
    words: Words, mem: Words, flt: Floats, flags: Words, samples: Words, deadline_ns: int, yield_after: int
) -> int:
    """Checks each batch that the other core has written; how many. All hits in flags[HITS]."""
    hits = 0
    for batch in range(len(samples)):
        store_release(flags, ASKED, batch + 1)
        if not wait_for(flags, WRITTEN, batch + 1, deadline_ns, yield_after):
            return batch
        start = mono_ns()
        for venue in range(VENUES):
            hits += check(mem, flt, on_book(words, mem, flt, venue, 0), 0)
        samples[batch] = mono_ns() - start
    flags[HITS] = hits
    return len(samples)


@njit_bare
def passes(words: Words, mem: Words, flt: Floats, feed_words: int, record: Words, prices: Words, samples: Words) -> int:
    """One update, one pass over all feeds' notices; ns a pass; returns all hits."""
    hits = 0
    for event in range(len(samples)):
        publish(words, feed_words, record, event % VENUES, prices[2 * event], prices[2 * event + 1])
        start = mono_ns()
        start_pass(mem)
        found = next_hits(words, mem, flt)
        samples[event] = mono_ns() - start
        while found > 0:
            hits += found
            found = next_hits(words, mem, flt)
    return hits


def make_prices(events: int) -> Words:
    """Flat (bid, ask) pairs, event ``e`` for venue ``e % 10``."""
    random = np.random.default_rng(SEED)
    bids = MID + np.rint(random.normal(0, STEP, events)).astype(np.int64)
    return np.stack([bids, bids + random.integers(1, 200, events)], axis=1).reshape(-1).copy()


def make_world() -> World:
    """Ten venues, one pair, an empty detector."""
    return World([Listing(feed=venue, fee_ppm=fee) for venue, fee in enumerate(FEES_PPM)])


def outcome(hits: int, bids: Floats, asks: Floats) -> str:
    """Hits and the hash of all tops."""
    digest = hashlib.blake2b(bids.tobytes() + asks.tobytes(), digest_size=4)
    return f"{digest.hexdigest()}/{hits}"


def ours_batches(prices: Words) -> tuple[Words, str]:
    world = make_world()
    samples = np.zeros(len(prices) // 2 // VENUES, dtype=np.int64)
    record = book_record([(1, 1)] * BOOK_DEPTH, [(1, 1)] * BOOK_DEPTH)
    hits = batches(world.feeds, world.mem, world.flt, world.feed_words, record, prices, samples)
    return samples, outcome(int(hits), world.memory.top_bid, world.memory.top_ask)


def ours_passes(prices: Words) -> tuple[Words, str]:
    world = make_world()
    world.scan()  # the first pass sweeps the feeds that it never saw
    samples = np.zeros(len(prices) // 2, dtype=np.int64)
    record = book_record([(1, 1)] * BOOK_DEPTH, [(1, 1)] * BOOK_DEPTH)
    hits = passes(world.feeds, world.mem, world.flt, world.feed_words, record, prices, samples)
    return samples, outcome(int(hits), world.memory.top_bid, world.memory.top_ask)


def ours_dirty(prices: Words, cpus: list[int]) -> tuple[Words, str]:
    """Rings in pages that a forked writer shares."""
    world = make_world()
    words, flags = shared(len(world.feeds)), shared(FLAGS_WORDS)
    words[:] = world.feeds
    samples = np.zeros(len(prices) // 2 // VENUES, dtype=np.int64)
    record = book_record([(1, 1)] * BOOK_DEPTH, [(1, 1)] * BOOK_DEPTH)
    deadline, yield_after = int(mono_ns()) + DEADLINE_NS, 0 if cpus else YIELD_AFTER
    writer = (words, world.feed_words, record, prices, flags)
    write_batches(*writer, 0, deadline, yield_after)  # compiled before the fork
    read_batches(words, world.mem, world.flt, flags, samples[:0], deadline, yield_after)
    round_trips(
        "detection, lines dirty",
        lambda: int(read_batches(words, world.mem, world.flt, flags, samples, deadline, yield_after)),
        lambda: int(write_batches(*writer, len(samples), deadline, yield_after)),
        len(samples),
        cpus,
    )
    return samples, outcome(int(flags[HITS]), world.memory.top_bid, world.memory.top_ask)


def floor_dirty(library: ctypes.CDLL, prices: Words, cpus: list[int]) -> tuple[Words, str]:
    library.detect_write.argtypes, library.detect_write.restype = [PTR] * 4 + [I64] * 2, I64
    library.detect_read.argtypes, library.detect_read.restype = [PTR] * 8 + [I64] * 2, I64
    world = make_world()
    words, flags = shared(len(world.feeds)), shared(FLAGS_WORDS)
    words[:] = world.feeds
    shape, screen_by_buyer, screen_by_seller, bids, asks = floor_arrays(world, len(prices) // 2)
    samples = np.zeros(len(prices) // 2 // VENUES, dtype=np.int64)
    deadline, yield_after = int(mono_ns()) + DEADLINE_NS, 0 if cpus else YIELD_AFTER
    reader = [address(array) for array in (words, shape, screen_by_buyer, screen_by_seller, bids, asks, flags, samples)]
    writer = [address(array) for array in (words, shape, prices, flags)]
    round_trips(
        "detection, lines dirty, floor",
        lambda: int(library.detect_read(*reader, deadline, yield_after)),
        lambda: int(library.detect_write(*writer, deadline, yield_after)),
        len(samples),
        cpus,
    )
    return samples, outcome(int(flags[HITS]), bids, asks)


def floor_arrays(world: World, events: int) -> tuple[Words, Floats, Floats, Floats, Floats]:
    """The shape of everything, the factors both ways and the tops, for the floor."""
    mem, flt = world.mem, world.flt
    square = VENUES * VENUES
    screen_by_buyer = flt[
        int(mem[DETECTOR.screen_by_buyer_off]) : int(mem[DETECTOR.screen_by_buyer_off]) + square
    ].copy()
    screen_by_seller = flt[
        int(mem[DETECTOR.screen_by_seller_off]) : int(mem[DETECTOR.screen_by_seller_off]) + square
    ].copy()
    rings = (BOOK_SLOTS, world.feed_words, FEED.books, BOOK_RING.records, BOOK.WORDS)
    fields = (BOOK.bid_count, BOOK.ask_count, BOOK.bid_price_fp, BOOK.ask_price_fp)
    shape = np.array((VENUES, events, *rings, *fields), dtype=np.int64)
    return shape, screen_by_buyer, screen_by_seller, world.memory.top_bid.copy(), world.memory.top_ask.copy()


def floor_batches(library: ctypes.CDLL, prices: Words) -> tuple[Words, str]:
    library.detect.argtypes, library.detect.restype = [PTR] * 8, I64
    world = make_world()  # for its factors and its memory; the floor touches nothing else of it
    events = len(prices) // 2
    shape, screen_by_buyer, screen_by_seller, bids, asks = floor_arrays(world, events)
    samples = np.zeros(events // VENUES, dtype=np.int64)
    arrays = (world.feeds, shape, screen_by_buyer, screen_by_seller, bids, asks, prices, samples)
    hits = library.detect(*(address(array) for array in arrays))
    return samples, outcome(int(hits), bids, asks)


def run(settings: Settings, report: Report) -> None:
    """Alternating rounds of ours and the floor; then passes."""
    prices = make_prices(settings.pick(1_000, 200_000, 1_000_000))
    cpus = list(settings.cpus) or sorted(os.sched_getaffinity(0))[:2]
    cpus = cpus if len(cpus) == 2 else []
    library = load("detection")
    case = "check, 1 update x 9 others"
    ours, floor = Row(NAME, case, OURS, per=VENUES, figure="p50"), Row(NAME, case, "C", per=VENUES, figure="p50")
    dirty = Row(NAME, f"{case}, lines dirty", OURS, per=VENUES, figure="p50")
    dirty_floor = Row(NAME, dirty.case, "C", per=VENUES, figure="p50")
    single = Row(NAME, "pass, 10 feeds polled, 1 update", OURS, figure="p50")
    for number in range(settings.rounds + 1):
        found = [(ours, *ours_batches(prices)), (dirty, *ours_dirty(prices, cpus))]
        if library is not None:
            found.append((floor, *floor_batches(library, prices)))
            found.append((dirty_floor, *floor_dirty(library, prices, cpus)))
        found.append((single, *ours_passes(prices)))
        for row, samples, result in found:
            row.check(result)
            if number:  # the first round warms up
                row.add_round(samples)
            if row is not single and result != ours.result:
                raise BenchFailed(f"detection: ours {ours.result}, {row.who} {row.case} {result}")
    report.rows += [row for row in (ours, floor, dirty, dirty_floor, single) if row.hist.count]
