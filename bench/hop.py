"""What does a message cost from one process to another and back?

::

    process A (CPU a)                          process B (CPU b)
    [ push ] --> | queue, 64 slots of 64 B | --> [ pop ]
    [ pop  ] <-- | queue, 64 slots of 64 B | <-- [ push ]

Both ends are jitted loops over ``shm.queue``'s push and pop, as the detector uses them; both spin. ``Python at one
end``: process B is a Python loop over the same two, as the executor's; beside it, with peers, the standard library's
pipe and queue between processes (both block). Every word of every message is checked. The C floor is a ring of slots
with a sequence each, same size, same payload, same spin. Excluded: bells and parking, the segments' set-up (the queues
lie in anonymous shared pages). With fewer than two CPUs nothing is pinned and an empty poll yields now and then: a
scheduler's number.
"""

from __future__ import annotations

import ctypes
import multiprocessing
import os
import time
from collections.abc import Callable

import numpy as np

from bench.cfloor import I64, PTR, address, load
from bench.report import OURS, PEER, Report, Row
from bench.settings import BenchFailed, Settings
from bench.two_processes import DEADLINE_NS, LOOK_AT_CLOCK, YIELD_AFTER, round_trips, shared, waited
from shm.atomics import mono_ns
from shm.jit import direct, njit
from shm.layout import CURSOR, LINE_WORDS
from shm.queue import init_queue, pop, push, queue_words
from shm.words import Words

NAME = "hop"
CASE = "round trip, 64 B"
PYTHON = ", Python at one end"
PEER_SHARE = 50  # a blocking round trip takes a hundred times as long: so many fewer of them
SLOTS = 64


@njit
def take(queue: Words, cursor: Words, out: Words, deadline_ns: int, yield_after: int) -> bool:
    """Spins until there is an item; False when the deadline passed."""
    empty = 0
    while pop(queue, 0, cursor, 0, out) == 0:
        empty += 1
        if not waited(empty, deadline_ns, yield_after):
            return False
    return True


@njit
def ping(
    there: Words,
    there_cursor: Words,
    back: Words,
    back_cursor: Words,
    samples: Words,
    deadline_ns: int,
    yield_after: int,
) -> int:
    """``len(samples)`` round trips, ns each; returns how many came back with every word right."""
    payload = np.zeros(LINE_WORDS, np.int64)
    got = np.zeros(LINE_WORDS, np.int64)
    right = 0
    for v in range(len(samples)):
        for k in range(1, LINE_WORDS):
            payload[k] = v * k + 1
        start = mono_ns()
        push(there, 0, there_cursor, 0, payload)
        if not take(back, back_cursor, got, deadline_ns, yield_after):
            return right
        samples[v] = mono_ns() - start
        wrong = 0
        for k in range(1, LINE_WORDS):
            wrong |= got[k] ^ (v * k + 1)
        right += wrong == 0
    return right


@njit
def pong(
    there: Words, there_cursor: Words, back: Words, back_cursor: Words, n: int, deadline_ns: int, yield_after: int
) -> int:
    """Sends ``n`` messages back as they came; returns how many."""
    got = np.zeros(LINE_WORDS, np.int64)
    for v in range(n):
        if not take(there, there_cursor, got, deadline_ns, yield_after):
            return v
        push(back, 0, back_cursor, 0, got)
    return n


def python_pong(
    there: Words, there_cursor: Words, back: Words, back_cursor: Words, n: int, deadline_ns: int, yield_after: int
) -> int:
    """:func:`pong` in Python: every poll and every push is a call into jitted code."""
    got = np.zeros(LINE_WORDS, dtype=np.int64)
    take_one, put_one = direct(pop, there, 0, there_cursor, 0, got), direct(push, back, 0, back_cursor, 0, got)
    for v in range(n):
        empty = 0
        while not take_one(there, 0, there_cursor, 0, got):
            empty += 1
            if yield_after and empty % yield_after == 0:
                os.sched_yield()
            if not empty & LOOK_AT_CLOCK and time.monotonic_ns() > deadline_ns:
                return v
        put_one(back, 0, back_cursor, 0, got)
    return n


def ours_round(n: int, cpus: list[int], yield_after: int, partner: Callable[..., int] = pong) -> Words:
    """ns of each round trip over ``shm.queue``."""
    size = queue_words(SLOTS, LINE_WORDS)
    there, there_cursor, back, back_cursor = shared(size), shared(CURSOR.END), shared(size), shared(CURSOR.END)
    for queue in (there, back):
        init_queue(queue, 0, SLOTS, LINE_WORDS, 0)
    samples = np.zeros(n, dtype=np.int64)
    deadline = int(mono_ns()) + DEADLINE_NS
    ends = (there, there_cursor, back, back_cursor)
    ping(*ends, samples[:0], deadline, yield_after)  # compiled before the fork
    partner(*ends, 0, deadline, yield_after)
    round_trips(
        "hop, ours",
        lambda: int(ping(*ends, samples, deadline, yield_after)),
        lambda: int(partner(*ends, n, deadline, yield_after)),
        n,
        cpus,
    )
    return samples


def floor_round(library: ctypes.CDLL, n: int, cpus: list[int], yield_after: int) -> Words:
    """ns of each round trip over the C ring."""
    library.hop_ping.argtypes, library.hop_ping.restype = [PTR, PTR, I64, PTR, I64, I64], I64
    library.hop_pong.argtypes, library.hop_pong.restype = [PTR, PTR, I64, I64, I64], I64
    there, back = shared(SLOTS * LINE_WORDS), shared(SLOTS * LINE_WORDS)
    samples = np.zeros(n, dtype=np.int64)
    deadline = int(mono_ns()) + DEADLINE_NS
    round_trips(
        "hop, floor",
        lambda: int(library.hop_ping(address(there), address(back), n, address(samples), deadline, yield_after)),
        lambda: int(library.hop_pong(address(there), address(back), n, deadline, yield_after)),
        n,
        cpus,
    )
    return samples


class PipeEnds:
    """multiprocessing.Pipe: 64 bytes each way."""

    who = "multiprocessing.Pipe"

    def __init__(self) -> None:
        self._ours, self._theirs = multiprocessing.Pipe()

    def send(self, message: bytes) -> bytes:
        self._ours.send_bytes(message)
        return self._ours.recv_bytes()

    def echo(self) -> None:
        self._theirs.send_bytes(self._theirs.recv_bytes())


class QueueEnds:
    """multiprocessing.SimpleQueue, one each way (the faster of its queues: no thread between)."""

    who = "multiprocessing.SimpleQueue"

    def __init__(self) -> None:
        self._there, self._back = multiprocessing.SimpleQueue(), multiprocessing.SimpleQueue()

    def send(self, message: bytes) -> bytes:
        self._there.put(message)
        return bytes(self._back.get())

    def echo(self) -> None:
        self._back.put(self._there.get())


def peer_round(ends: PipeEnds | QueueEnds, n: int, cpus: list[int]) -> Words:
    """ns of each round trip; every message differs and must come back as it went."""
    samples, clock = np.zeros(n, dtype=np.int64), time.monotonic_ns

    def go() -> int:
        right = 0
        for v in range(n):
            message = v.to_bytes(8, "little") * LINE_WORDS
            start = clock()
            back = ends.send(message)
            samples[v] = clock() - start
            right += back == message
        return right

    def answer() -> int:
        for _ in range(n):
            ends.echo()
        return n

    round_trips(f"hop, {ends.who}", go, answer, n, cpus)
    return samples


def run(settings: Settings, report: Report) -> None:
    """Alternating rounds; the first tenth of each warms up."""
    allowed = sorted(os.sched_getaffinity(0))
    cpus = list(settings.cpus) or allowed[:2]
    if settings.cpus and (len(set(cpus)) != 2 or not set(cpus) <= set(allowed)):
        raise BenchFailed(f"hop: needs two different CPUs of {allowed}: cpus={cpus}")
    case, yield_after = CASE, 0
    if len(cpus) < 2:
        cpus, yield_after, case = [], YIELD_AFTER, f"{CASE}, one CPU"
        report.notes.append("hop: fewer than two CPUs: not pinned, yields; the scheduler is what it measured")
    n = settings.pick(200, 50_000, 200_000)
    library = load("hop")
    # p50: the mean of two spinning processes is that of the scheduler's breaks
    rows = {
        (where, who): Row(NAME, case + where, who, figure="p50")
        for where in ("", PYTHON)
        for who in ([OURS, "C slot ring"] if library is not None else [OURS])
    }
    for ends in (PipeEnds, QueueEnds) if settings.peers else ():
        rows[PYTHON, ends.who] = Row(NAME, case + PYTHON, ends.who, figure="p50", role=PEER)
    for _ in range(settings.rounds):
        found = {("", OURS): ours_round(n, cpus, yield_after)}
        found[PYTHON, OURS] = ours_round(n // 4, cpus, yield_after, python_pong)
        if library is not None:
            found["", "C slot ring"] = found[PYTHON, "C slot ring"] = floor_round(library, n, cpus, yield_after)
        for ends in (PipeEnds, QueueEnds) if settings.peers else ():
            found[PYTHON, ends.who] = peer_round(ends(), max(10, n // PEER_SHARE), cpus)
        for key, samples in found.items():
            rows[key].add_round(samples[len(samples) // 10 :])
            rows[key].check("all right")
    report.rows += rows.values()
