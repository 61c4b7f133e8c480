"""What does the executor pay to have an order's intent survive its own death?

::

    OrderIntentRecord --> [ Journal.append: msgpack, BLAKE2b chain, CRC-32, store, commit ] --> mapped segment file
    ready bytes       --> [ C: store, commit                                             ] --> mapped file

One call from Python per record, clock included; the journal's own thread syncs in the background as in production
(``durability: process``). The file lies in the temporary folder (``TMPDIR``); its device takes part only through page
faults and write-back. Excluded: building the record, ``sync()`` before a send (``durability: power``). The C floor
stores as many bytes, already encoded: what a perfect encoder and checksum would still pay. At the end the journal is
read back whole, chain and checksums verified.
"""

from __future__ import annotations

import ctypes
import hashlib
import mmap
import os
import tempfile
import time
from decimal import Decimal
from pathlib import Path

import numpy as np

from bench.cfloor import I64, PTR, address, load
from bench.report import OURS, Report, Row
from bench.settings import BenchFailed, Settings
from pipeline.execution.journal import RECORD_HEADER_BYTES, Journal, read_journal, segment_path
from pipeline.execution.records import OrderIntentRecord, Purpose
from pipeline.model.enums import Durability, InstrumentKind, OrderKind, OrderSide, TimeInForce
from shm.words import Words

NAME = "journal"
CASE = "append order intent"
INTENT = OrderIntentRecord(
    client_id="a1x0000000001",
    operation_id="op-0000000001",
    leg=0,
    purpose=Purpose.ENTRY,
    instrument_id=7,
    venue="gateio_futures",
    symbol="BTC_USDT",
    kind=InstrumentKind.PERPETUAL,
    base="BTC",
    quote="USDT",
    side=OrderSide.BUY,
    order_kind=OrderKind.LIMIT,
    tif=TimeInForce.IOC,
    qty=Decimal("0.0123"),
    price=Decimal("61837.64"),
    reduce_only=False,
    multiplier=Decimal("0.0001"),
    expiry_wall_ms=1723161255343,
    reserve_asset="USDT",
    reserve_amount=Decimal("760.98"),
    book_seq=50093239212,
    update_id=50093239219,
)


def ours_round(folder: Path, n: int) -> tuple[Words, str]:
    """ns of each append, then the hash of what is read back."""
    journal = Journal.open(folder, durability=Durability.PROCESS)
    append, clock = journal.append, time.monotonic_ns
    taken = []
    for _ in range(n):
        start = clock()
        append(INTENT, start, start)
        taken.append(clock() - start)
    journal.close()
    count = 0
    for entry in read_journal(folder):
        count += 1
        if entry.record != INTENT or entry.seq != count:
            raise BenchFailed(f"journal: record {count} came back as {entry}")
    if count != n:
        raise BenchFailed(f"journal: {count} of {n} records came back")
    return np.array(taken, dtype=np.int64), f"{count} read back"


def record_bytes(folder: Path) -> int:
    """Bytes of one stored intent, padding apart."""
    journal = Journal.open(folder)
    before = journal.room_bytes()
    journal.append(INTENT, 1, 1)
    used = before - journal.room_bytes()
    journal.close()
    if not segment_path(folder, 1).exists() or used <= RECORD_HEADER_BYTES:
        raise BenchFailed(f"journal: an intent took {used} bytes")
    return used


def floor_round(library: ctypes.CDLL, folder: Path, n: int, length: int) -> tuple[Words, str]:
    library.journal_store.argtypes, library.journal_store.restype = [PTR, ctypes.c_char_p, I64, I64, PTR], I64
    record = hashlib.blake2b(b"record").digest() * (length // 64 + 1)
    size = ((length + 7) & ~7) * n
    path = folder / "floor.seg"
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600)
    try:
        os.posix_fallocate(descriptor, 0, size)
        samples = np.zeros(n, dtype=np.int64)
        with mmap.mmap(descriptor, size) as mapped:
            view = np.frombuffer(mapped, dtype=np.int64)
            used = library.journal_store(address(view), record, length, n, address(samples))
            rows = view.reshape(n, -1)
            right = int((rows == rows[0]).all(axis=1).sum())
            right = right if rows[0].tobytes()[:length] == record[:length] and used == size else 0
            del view, rows
    finally:
        os.close(descriptor)
        path.unlink()
    if right != n:
        raise BenchFailed(f"journal: floor stored {right} of {n} records right")
    return samples, f"{right} read back"


def run(settings: Settings, report: Report) -> None:
    """Alternating rounds, each in a fresh folder."""
    n = settings.pick(200, 20_000, 100_000)
    library = load("journal")
    with tempfile.TemporaryDirectory(prefix="arb-bench-") as scratch:
        length = record_bytes(Path(scratch) / "size")
        case = f"{CASE} ({length} B)"
        ours, floor = Row(NAME, case, OURS), Row(NAME, case, "C store only")
        for number in range(settings.rounds):
            samples, result = ours_round(Path(scratch) / f"round{number}", n)
            ours.add_round(samples)
            ours.check(result)
            if library is not None:
                samples, result = floor_round(library, Path(scratch), n, length)
                floor.add_round(samples)
                floor.check(result)
    report.rows += [ours, floor] if library is not None else [ours]
