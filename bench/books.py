"""What does one recorded depth message cost, from its bytes in memory to the full book?

::

    recorded bytes --> [ VenueBooks.on_frame: copy in, scan, sequence, full book, publish top 20 + notice ] --> record
    recorded bytes --> [ C, A: bytes one by one, sequence, one sorted array a side                        ]
    recorded bytes --> [ C, B: eight bytes at a time, sequence, sorted blocks of 64 levels                ]

One core, one symbol, warm caches. Every round loads the REST snapshot (not timed), then applies every later update:
one production call per message. The first pass of a round is timed as a whole, by this thread's CPU time (the mean,
the ratio), so that a neighbour on the CPU does not count; the second message by message (the percentiles, clock
included). At the end all must hold the same levels, all of them, on both sides.
"""

from __future__ import annotations

import ctypes
import hashlib
import time
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path

import msgspec
import numpy as np

from bench.books_ccxt import CcxtBook
from bench.cfloor import I64, PTR, address, load
from bench.report import OURS, PEER, Report, Row
from bench.settings import BenchFailed, BenchSkipped, Settings
from pipeline.book.memory import BOOKS
from pipeline.book.recording.capture_books import open_capture
from pipeline.book.recording.capture_files import SNAPSHOT
from pipeline.book.results import FrameResult, SnapshotResult
from pipeline.book.venue_books import VenueBooks
from pipeline.exchanges.factory import feed_codec, recording_shapes
from shm.words import Words

NAME = "books"
CAPTURES = (
    "spot_btcusdt_20240808.gz",
    "usdm_btcusdt_20240808.gz",
    "spot_ethusdt_20240808.gz",
    "usdm_ethusdt_20240808.gz",
)
FLOORS = {"books_a": "C floor A", "books_b": "C floor B"}
TINY_MESSAGES = 300
FIGURE = "mean CPU"
ROUNDS = 3  # times as many as elsewhere: a pass takes some milliseconds, about one scheduler slice, and may lose it
_SIDE_ROOM = 65536
_BEHIND = bytes(8)  # a floor may read that far behind a text


class _Ids(msgspec.Struct):
    e: str = ""
    u: int = 0


class _Message(msgspec.Struct):
    data: _Ids


class _Snapshot(msgspec.Struct):
    lastUpdateId: int


@dataclass(slots=True)
class Input:
    """One capture: its books (one instrument, index 0), its snapshot, the updates that stand on it."""

    case: str
    books: VenueBooks
    snapshot: bytes
    frames: list[bytes]
    price_exp: int
    qty_exp: int
    previous_key: bool


def read_input(path: Path, messages_max: int) -> Input:
    """The snapshot and the updates behind it; raises ``BenchFailed`` for a capture that is damaged or has none."""
    opened = open_capture(path, feed_codec, recording_shapes())
    records = opened.capture.records
    snapshot = next((record.payload for record in records if record.kind == SNAPSHOT), None)
    if opened.capture.damage or snapshot is None or len(opened.instruments) != 1:
        raise BenchFailed(f"capture is damaged, has no snapshot or more than one symbol: {path}")
    previous_key = opened.capture.venue == "binance_futures"
    from_id = msgspec.json.decode(snapshot, type=_Snapshot).lastUpdateId + (0 if previous_key else 1)
    frames = []
    for record in records:
        if record.kind != SNAPSHOT:
            ids = msgspec.json.decode(record.payload, type=_Message).data
            if ids.e == "depthUpdate" and ids.u >= from_id:
                frames.append(record.payload)
    opened.books.mem[BOOKS.recorded] = 0  # publish stamps from the clock, as in production
    instrument = opened.instruments[0]
    return Input(
        path.name.removesuffix(".gz"),
        opened.books,
        snapshot,
        frames[:messages_max],
        instrument.price_exp,
        instrument.qty_exp,
        previous_key,
    )


def levels_hash(bids: Words, asks: Words) -> str:
    """Hash of all levels, best first, rows of (price_fp, qty_fp)."""
    digest = hashlib.blake2b(digest_size=4)
    digest.update(np.ascontiguousarray(bids, dtype=np.int64).tobytes())
    digest.update(b"|")
    digest.update(np.ascontiguousarray(asks, dtype=np.int64).tobytes())
    return f"{digest.hexdigest()}/{len(bids)}+{len(asks)}"


class Ours:
    """The production call."""

    def __init__(self, source: Input) -> None:
        self.source = source

    def _load(self) -> None:
        books = self.source.books
        books.invalidate(0)
        if books.on_snapshot(0, self.source.snapshot, 1, 0) is not SnapshotResult.SYNCED:
            raise BenchFailed(f"{self.source.case}: snapshot refused")

    def whole(self) -> float:
        """CPU ns per message of one pass that is timed as a whole."""
        self._load()
        on_frame, clock, applied = self.source.books.on_frame, time.thread_time_ns, int(FrameResult.APPLIED)
        wrong = 0
        now = time.monotonic_ns()
        start = clock()
        for frame in self.source.frames:
            wrong += on_frame(frame, now, 0) != applied
        taken = clock() - start
        if wrong:
            raise BenchFailed(f"{self.source.case}: {wrong} messages were not applied")
        return taken / len(self.source.frames)

    def each(self) -> Words:
        """ns of every message."""
        self._load()
        on_frame, clock = self.source.books.on_frame, time.monotonic_ns
        samples = []
        for frame in self.source.frames:
            start = clock()
            on_frame(frame, start, 0)
            samples.append(clock() - start)
        return np.array(samples, dtype=np.int64)

    def result(self) -> str:
        bids, asks = self.source.books.levels(0)
        return levels_hash(np.array(bids, dtype=np.int64), np.array(asks, dtype=np.int64))


class Floor:
    """A C floor over the same bytes."""

    def __init__(self, library: ctypes.CDLL, source: Input) -> None:
        self.source = source
        self.library = library
        library.book_new.argtypes, library.book_new.restype = [I64, I64, I64], PTR
        library.book_snapshot.argtypes, library.book_snapshot.restype = [PTR, ctypes.c_char_p], I64
        library.book_run.argtypes, library.book_run.restype = [PTR, ctypes.c_char_p, PTR, I64, PTR], I64
        library.book_levels.argtypes, library.book_levels.restype = [PTR, I64, PTR], I64
        library.book_free.argtypes, library.book_free.restype = [PTR], None
        self.book = library.book_new(source.price_exp, source.qty_exp, int(source.previous_key))
        if not self.book:
            raise BenchFailed("floor: no memory")
        self.snapshot = source.snapshot + _BEHIND
        self.text = b"\0".join(source.frames) + _BEHIND
        lengths = [len(frame) + 1 for frame in source.frames]
        self.offsets = np.concatenate(([0], np.cumsum(lengths)[:-1])).astype(np.int64)

    def _run(self, samples: Words | None) -> int:
        if self.library.book_snapshot(self.book, self.snapshot):
            raise BenchFailed(f"{self.source.case}: floor refused the snapshot")
        count = len(self.offsets)
        start = time.thread_time_ns()
        where = None if samples is None else address(samples)
        done = self.library.book_run(self.book, self.text, address(self.offsets), count, where)
        taken = time.thread_time_ns() - start
        if done != count:
            raise BenchFailed(f"{self.source.case}: floor refused message {done}")
        return taken

    def whole(self) -> float:
        return self._run(None) / len(self.offsets)

    def each(self) -> Words:
        samples = np.zeros(len(self.offsets), dtype=np.int64)
        self._run(samples)
        return samples

    def result(self) -> str:
        sides = []
        for side in (0, 1):
            out = np.zeros((_SIDE_ROOM, 2), dtype=np.int64)
            sides.append(out[: self.library.book_levels(self.book, side, address(out))])
        return levels_hash(*sides)

    def close(self) -> None:
        self.library.book_free(self.book)


class Ccxt:
    """The peer, with the same results."""

    def __init__(self, source: Input) -> None:
        self._book = CcxtBook(source.snapshot, source.frames, source.previous_key, source.price_exp, source.qty_exp)
        self.whole, self.each = self._book.whole, self._book.each

    def result(self) -> str:
        return levels_hash(*self._book.levels())


def measure(source: Input, rounds: int, report: Report, peers: bool = False) -> None:
    """Alternating rounds of ours and the floors; raises ``BenchFailed`` unless all end with the same book."""
    size = sum(map(len, source.frames)) // len(source.frames)
    case = f"{source.case} ({size} B)"
    runners: list[tuple[Row, Ours | Floor | Ccxt]] = [(Row(NAME, case, OURS, figure=FIGURE), Ours(source))]
    for name, who in FLOORS.items():
        library = load(name)
        if library is not None:
            runners.append((Row(NAME, case, who, figure=FIGURE), Floor(library, source)))
    if peers and find_spec("ccxt") is not None:
        runners.append((Row(NAME, case, "ccxt.pro", figure=FIGURE, role=PEER), Ccxt(source)))
    for number in range(rounds + 1):
        for row, runner in runners:
            if isinstance(runner, Ccxt) and number % ROUNDS:
                continue  # slow, and steady enough for fewer rounds
            mean = runner.whole()
            samples = runner.each()
            if number or isinstance(runner, Ccxt):  # the first round warms up
                row.rounds_ns.append(mean)
                row.add(samples)
            row.check(runner.result())
    for row, runner in runners:
        if isinstance(runner, Floor):
            runner.close()
        if row.result != runners[0][0].result:
            raise BenchFailed(f"{case}: books differ: ours {runners[0][0].result}, {row.who} {row.result}")
    report.rows += [row for row, _ in runners]


def run(settings: Settings, report: Report) -> None:
    """Every capture that is there."""
    names = CAPTURES[: settings.pick(1, 2, len(CAPTURES))]
    paths = [settings.captures / name for name in names]
    present = [path for path in paths if path.is_file()]
    if not present:
        raise BenchSkipped(f"no recorded Binance messages at {settings.captures}; set ARB_CAPTURES")
    for path in present:
        measure(
            read_input(path, settings.pick(TINY_MESSAGES, 1 << 30, 1 << 30)),
            settings.rounds * settings.pick(1, ROUNDS, ROUNDS),
            report,
            settings.peers,
        )
    missing = [path.name for path in paths if path not in present]
    if missing:
        report.notes.append(f"books: captures not there: {', '.join(missing)}")
