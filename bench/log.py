"""What does a log record cost the one who writes it, from Python and in jit?

::

    LogRing.event / log_event --> 64 bytes in the process's ring, stamped; a recorder elsewhere reads them
    logging.FileHandler       --> one line of text in a file (peer)

Anonymous memory of the ring's layout, no segment. Batches of calls, clock outside. The C floor stores as many words
with a stamp. Excluded: the reader. At the end the ring must hold the last record.
"""

from __future__ import annotations

import ctypes
import logging
import tempfile
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any, cast

import numpy as np

from bench.cfloor import I64, PTR, address, load
from bench.report import OURS, PEER, Report, Row
from bench.settings import BenchFailed, Settings
from shm.atomics import mono_ns
from shm.jit import njit_bare
from shm.layout import LOG, LOG_CAPACITY_DEFAULT, LOG_SLOT
from shm.logring import LogRing, log_event
from shm.segment import Segment
from shm.words import Words

NAME = "log"
PER = 200
CODE = 77


@njit_bare
def jitted(words: Words, samples: Words, per: int) -> None:
    """``per`` records a sample, each stamped for itself."""
    for batch in range(len(samples)):
        start = mono_ns()
        for k in range(per):
            log_event(words, 0, mono_ns(), CODE, batch, k, 3, 4, 5)
        samples[batch] = mono_ns() - start


def make_ring() -> LogRing:
    words = np.zeros(LOG.slots + LOG_CAPACITY_DEFAULT * LOG_SLOT.WORDS, dtype=np.int64)
    words[LOG.capacity] = LOG_CAPACITY_DEFAULT
    return LogRing(cast(Segment, SimpleNamespace(words=words)))


def last_record(words: Words) -> str:
    """What the newest slot holds, its stamp apart."""
    at = LOG.slots + ((int(words[LOG.tail]) - 1) & (LOG_CAPACITY_DEFAULT - 1)) * LOG_SLOT.WORDS
    if int(words[at]) != int(words[LOG.tail]):
        raise BenchFailed(f"log: slot {words[at]} is not the newest, {words[LOG.tail]}")
    return ",".join(str(int(word)) for word in words[at + 2 : at + 8])


def python_round(event: Any, batches: int) -> Words:
    clock = time.monotonic_ns
    samples = np.zeros(batches, dtype=np.int64)
    for batch in range(batches):
        start = clock()
        for k in range(PER):
            event(CODE, batch, k, 3, 4, 5)
        samples[batch] = clock() - start
    return samples


def file_round(folder: Path, batches: int) -> Words:
    """The standard library's logger into a file; an integer code and five arguments a line."""
    logger = logging.Logger("bench")
    handler = logging.FileHandler(folder / "log.txt", mode="w")
    handler.setFormatter(logging.Formatter("%(asctime)s %(levelname)s %(message)s"))
    logger.addHandler(handler)

    def event(*values: int) -> None:
        logger.info("event %d: %d %d %d %d %d", *values)

    samples = python_round(event, batches)
    handler.close()
    with (folder / "log.txt").open(encoding="utf-8") as lines:
        count = sum(1 for _ in lines)
    if count != batches * PER:
        raise BenchFailed(f"log: FileHandler wrote {count} lines")
    return samples


def floor_round(library: ctypes.CDLL, words: Words, batches: int) -> Words:
    library.log_store.argtypes, library.log_store.restype = [PTR, I64, I64, I64, PTR], I64
    samples = np.zeros(batches, dtype=np.int64)
    slots = address(words[LOG.slots :])
    words[LOG.tail] = library.log_store(slots, LOG_CAPACITY_DEFAULT, PER, batches, address(samples))
    return samples


def run(settings: Settings, report: Report) -> None:
    """In jit beside C, from Python beside the standard library; rounds alternate."""
    batches = settings.pick(3, 300, 1_500)
    jit, python = (Row(NAME, case, OURS, per=PER, figure="p50") for case in ("record, in jit", "record, from Python"))
    floor = Row(NAME, jit.case, "C store", per=PER, figure="p50")
    peer = Row(NAME, python.case, "logging.FileHandler", per=PER, figure="p50", role=PEER)
    library = load("log")
    with tempfile.TemporaryDirectory() as folder:
        for number in range(settings.rounds + 1):
            found = []
            ring, samples = make_ring(), np.zeros(batches, dtype=np.int64)
            jitted(ring.words, samples, PER)
            found.append((jit, samples, last_record(ring.words)))
            if library is not None:
                ring = make_ring()
                found.append((floor, floor_round(library, ring.words, batches), last_record(ring.words)))
            ring = make_ring()
            found.append((python, python_round(ring.event, batches), last_record(ring.words)))
            if settings.peers:
                found.append((peer, file_round(Path(folder), max(1, batches // 10)), python.result))
            for row, taken, result in found:
                row.check(result)
                if number:
                    row.add_round(taken)
    if library is not None and jit.result != floor.result:
        raise BenchFailed(f"log: ours {jit.result}, floor {floor.result}")
    report.rows += [row for row in (jit, floor, python, peer) if row.hist.count]
