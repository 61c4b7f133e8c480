"""What does it cost the detector to look at everything: 10 exchanges x 200 symbols, 18,000 ordered pairs?

::

    2,000 book rings --> [ sweep of each feed: all best prices in place, then every group screened ] --> hit list

The engine is driven by updates and does this only when it meets a feed or was lapped. One process, warm caches, one
pass a sample. The C floor reads the same 2,000 rings and screens each group by its highest bid and lowest ask, exactly
only where these cross; ours screens both ways for each book, so that each hit has its book. Peer: numpy over a table of
best prices that is there already. All must find the same number of pairs and hold the same best prices.
"""

from __future__ import annotations

import ctypes
import hashlib
import time

import numpy as np

from bench.cfloor import I64, PTR, address, load
from bench.detection import FEES_PPM, MID, SEED, STEP, VENUES, Floats
from bench.report import OURS, PEER, Report, Row
from bench.settings import BenchFailed, Settings
from pipeline.detection.memory import DETECTOR
from pipeline.detection.scan_loop import sweep
from pipeline.rehearsal.detection_world import Listing, World, book_record
from shm.atomics import mono_ns
from shm.bookring import publish_book
from shm.jit import njit_bare
from shm.layout import BOOK, BOOK_DEPTH, BOOK_RING, BOOK_SLOTS, FEED
from shm.words import Words

NAME = "scan"
SYMBOLS = 200
CASE = f"{VENUES} exchanges x {SYMBOLS} symbols"


@njit_bare
def scans(words: Words, mem: Words, flt: Floats, samples: Words) -> int:
    """A sweep of every feed a sample; the hits of the last one."""
    hits = 0
    for k in range(len(samples)):
        start = mono_ns()
        hits = 0
        for feed in range(VENUES):
            hits = sweep(words, mem, flt, feed)
        samples[k] = mono_ns() - start
    return hits


def make_world() -> World:
    """Every venue lists every symbol, in the same order: book index = symbol, group member = venue."""
    listings = [
        Listing(feed=venue, fee_ppm=fee, pair=f"C{symbol}/USDT", pair_id=symbol)
        for symbol in range(SYMBOLS)
        for venue, fee in enumerate(FEES_PPM)
    ]
    world = World(listings, books=SYMBOLS)
    random = np.random.default_rng(SEED)
    bids = MID + np.rint(random.normal(0, STEP, (SYMBOLS, VENUES))).astype(np.int64)
    asks = bids + random.integers(1, 200, (SYMBOLS, VENUES))
    record = book_record([(1, 1)] * BOOK_DEPTH, [(1, 1)] * BOOK_DEPTH)
    for symbol in range(SYMBOLS):
        for venue in range(VENUES):
            record[BOOK.bid_price_fp], record[BOOK.ask_price_fp] = bids[symbol, venue], asks[symbol, venue]
            record[BOOK.instrument] = symbol * VENUES + venue
            publish_book(world.feeds, venue * world.feed_words, symbol, record)
    return world


def factors(world: World) -> Floats:
    """(symbol, buyer, seller): the seller's bid must reach the buyer's ask times this."""
    at = int(world.mem[DETECTOR.screen_by_buyer_off])
    return world.flt[at : at + SYMBOLS * VENUES * VENUES].reshape(SYMBOLS, VENUES, VENUES)


def outcome(pairs: int, bids: Floats, asks: Floats) -> str:
    digest = hashlib.blake2b(bids.tobytes() + asks.tobytes(), digest_size=4)
    return f"{digest.hexdigest()}/{pairs}"


def ours_round(world: World, passes: int) -> tuple[Words, str]:
    samples = np.zeros(passes, dtype=np.int64)
    scans(world.feeds, world.mem, world.flt, samples)
    found: set[int] = set()
    for feed in range(VENUES):
        hits = int(sweep(world.feeds, world.mem, world.flt, feed))
        at = int(world.mem[DETECTOR.hits_off])
        found.update(int(direction) for direction in world.mem[at : at + hits])
    return samples, outcome(len(found), world.memory.top_bid, world.memory.top_ask)


def floor_round(library: ctypes.CDLL, world: World, passes: int) -> tuple[Words, str]:
    library.scan.argtypes, library.scan.restype = [PTR] * 6, I64
    need = np.ascontiguousarray(factors(world))
    bids, asks = np.zeros(SYMBOLS * VENUES), np.zeros(SYMBOLS * VENUES)
    rings = (world.feed_words, FEED.books, BOOK_RING.WORDS, BOOK_RING.records, BOOK.WORDS)
    fields = (BOOK.bid_count, BOOK.ask_count, BOOK.bid_price_fp, BOOK.ask_price_fp)
    shape = np.array((VENUES, SYMBOLS, BOOK_SLOTS, passes, *rings, *fields), dtype=np.int64)
    samples = np.zeros(passes, dtype=np.int64)
    pairs = library.scan(*(address(array) for array in (world.feeds, shape, need, bids, asks, samples)))
    return samples, outcome(int(pairs), bids, asks)


def numpy_round(world: World, passes: int) -> tuple[Words, str]:
    """The best prices are in a table already; one broadcast comparison."""
    bids = world.memory.top_bid.reshape(SYMBOLS, 1, VENUES)
    asks = world.memory.top_ask.reshape(SYMBOLS, VENUES, 1)
    need, clock = factors(world), time.monotonic_ns
    samples, pairs = np.zeros(passes, dtype=np.int64), 0
    for k in range(passes):
        start = clock()
        pairs = np.count_nonzero(bids >= asks * need)
        samples[k] = clock() - start
    return samples, outcome(int(pairs), world.memory.top_bid, world.memory.top_ask)


def run(settings: Settings, report: Report) -> None:
    """Alternating rounds over one world; the first warms up."""
    passes = settings.pick(3, 300, 2_000)
    world, library = make_world(), load("scan")
    ours, floor = Row(NAME, CASE, OURS, figure="p50"), Row(NAME, CASE, "C", figure="p50")
    peer = Row(NAME, CASE, "numpy", figure="p50", role=PEER)
    for number in range(settings.rounds + 1):
        found = [(ours, *ours_round(world, passes))]
        if library is not None:
            found.append((floor, *floor_round(library, world, passes)))
        if settings.peers:
            found.append((peer, *numpy_round(world, passes)))
        for row, samples, result in found:
            row.check(result)
            if row.result != ours.result:
                raise BenchFailed(f"scan: ours {ours.result}, {row.who} {row.result}")
            if number:
                row.add_round(samples)
    report.rows += [row for row in (ours, floor, peer) if row.hist.count]
