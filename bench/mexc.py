"""What does a MEXC protobuf push of twenty levels cost, from its bytes in memory to the full book?

::

    bytes --> [ VenueBooks.on_frame: copy in, scan, sequence, full book, publish top 20 + notice ] --> record
    bytes --> [ google protobuf (upb) --> float price and quantity --> a dict a side              ]   (peer)

One core, one symbol, warm caches, synthetic pushes (ten levels a side; a third are deletions). The
peer neither sorts nor knows its best price, checks no sequence and publishes nothing: favourable to it. There is no C
floor. Both must end with the same levels.
"""

from __future__ import annotations

import hashlib
import time

import numpy as np

from bench.report import OURS, PEER, Report, Row
from bench.settings import BenchFailed, Settings
from pipeline.book.results import FrameResult, SnapshotResult
from pipeline.book.venue_books import VenueBooks
from pipeline.exchanges.factory import feed_codec
from pipeline.exchanges.mexc.protobuf import PushDataV3ApiWrapper
from pipeline.sim.wire.mexc.push_frames import aggre_depths, wrap
from shm.layout import feed_segment_words
from shm.words import Words

NAME = "mexc"
SYMBOL = "BTCUSDT"
CHANNEL = b"spot@public.aggre.depth.v3.api.pb@10ms@BTCUSDT"
BODY = 313
SEED = 20240808
MID = 6_000_000  # two digits after the point
PRICE_EXP, QTY_EXP = 2, 6
LEVELS = 10  # of a side in a push
SNAPSHOT = b'{"lastUpdateId":1,"bids":[["59000.00","1.000000"]],"asks":[["61000.00","1.000000"]]}'
Level = tuple[bytes, bytes]


def make_pushes(count: int) -> list[bytes]:
    """Contiguous pushes: versions 2, 3, ..."""
    random = np.random.default_rng(SEED)
    pushes = []
    for k in range(count):
        away = np.sort(random.choice(np.arange(1, 400), (2, LEVELS), replace=False).reshape(2, LEVELS), axis=1)
        sizes = random.integers(1, 5_000_000, (2, LEVELS)) * (random.random((2, LEVELS)) > 1 / 3)
        bids = [_level(MID - int(a), int(q)) for a, q in zip(away[0], sizes[0], strict=True)]
        asks = [_level(MID + int(a), int(q)) for a, q in zip(away[1], sizes[1], strict=True)]
        body = aggre_depths(asks, bids, CHANNEL[:40], k + 2, k + 2)
        pushes.append(wrap(CHANNEL, SYMBOL.encode(), BODY, body, send_ms=1_700_000_000_000 + k))
    return pushes


def _level(price_fp: int, qty_fp: int) -> Level:
    price = b"%d.%02d" % divmod(price_fp, 10**PRICE_EXP)
    return price, b"%d.%06d" % divmod(qty_fp, 10**QTY_EXP) if qty_fp else b"0"


def levels_hash(sides: list[dict[int, int]]) -> str:
    digest = hashlib.blake2b(repr([sorted(side.items()) for side in sides]).encode(), digest_size=4)
    return f"{digest.hexdigest()}/{len(sides[0])}+{len(sides[1])}"


def ours_round(pushes: list[bytes]) -> tuple[float, Words, str]:
    """CPU ns a push of the whole pass, ns of each push of a second one, the levels."""
    means = []
    for timed in (False, True):
        words = np.zeros(feed_segment_words(1), dtype=np.int64)
        books = VenueBooks(codec=feed_codec("mexc", "spot"), words=words, feed_off=0, venue_id=0, capacity=1)
        books.add(book_index=0, instrument_id=0, symbol=SYMBOL, price_exp=PRICE_EXP, qty_exp=QTY_EXP)
        books.request_snapshot(0)
        if books.on_snapshot(0, SNAPSHOT, 1, 0) is not SnapshotResult.SYNCED:
            raise BenchFailed("mexc: snapshot refused")
        on_frame, clock, applied = books.on_frame, time.monotonic_ns, int(FrameResult.APPLIED)
        now, wrong = clock(), 0
        samples = []
        began = time.thread_time_ns()
        if timed:
            for push in pushes:
                start = clock()
                on_frame(push, start, 0)
                samples.append(clock() - start)
        else:
            for push in pushes:
                wrong += on_frame(push, now, 0) != applied
            means.append((time.thread_time_ns() - began) / len(pushes))
        if wrong:
            raise BenchFailed(f"mexc: {wrong} pushes were not applied")
    bids, asks = books.levels(0)
    return means[0], np.array(samples, dtype=np.int64), levels_hash([dict(map(tuple, bids)), dict(map(tuple, asks))])


def google_round(pushes: list[bytes]) -> tuple[float, Words, str]:
    """The same by google protobuf and floats; whole pass, then each push."""
    parse, clock = PushDataV3ApiWrapper.FromString, time.monotonic_ns
    means = []
    for timed in (False, True):
        bids: dict[float, float] = {59000.0: 1.0}
        asks: dict[float, float] = {61000.0: 1.0}
        samples = []
        began = time.thread_time_ns()
        for push in pushes:
            start = clock() if timed else 0
            depth = parse(push).publicAggreDepths
            for side, items in ((bids, depth.bids), (asks, depth.asks)):
                for item in items:
                    qty = float(item.quantity)
                    if qty:
                        side[float(item.price)] = qty
                    else:
                        side.pop(float(item.price), None)
            if timed:
                samples.append(clock() - start)
        if not timed:
            means.append((time.thread_time_ns() - began) / len(pushes))
    sides = [{round(p * 10**PRICE_EXP): round(q * 10**QTY_EXP) for p, q in side.items()} for side in (bids, asks)]
    return means[0], np.array(samples, dtype=np.int64), levels_hash(sides)


def run(settings: Settings, report: Report) -> None:
    """Alternating rounds; the first warms up."""
    pushes = make_pushes(settings.pick(50, 2_000, 10_000))
    case = f"push of {2 * LEVELS} levels ({sum(map(len, pushes)) // len(pushes)} B)"
    ours = Row(NAME, case, OURS, figure="mean CPU")
    google = Row(NAME, case, "google protobuf", figure="mean CPU", role=PEER)
    runners = [(ours, ours_round)] + ([(google, google_round)] if settings.peers else [])
    for number in range(settings.rounds + 1):
        for row, runner in runners:
            mean, samples, result = runner(pushes)
            row.check(result)
            if number:
                row.rounds_ns.append(mean)
                row.add(samples)
    if settings.peers and ours.result != google.result:
        raise BenchFailed(f"mexc: levels differ: ours {ours.result}, google {google.result}")
    report.rows += [row for row, _ in runners]
