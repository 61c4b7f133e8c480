"""One budget, many processes, some killed at any moment: no window ever holds more than the limit."""

from __future__ import annotations

import os
import random
import struct
import time

from pipeline.exchanges.transport.shared_budgets import Joined
from pipeline.exchanges.transport.spend import OF_ALL
from pipeline.exchanges.transport.throttle import Limit, Throttle, Window
from shm.segment import cleanup_instance, list_segments
from tests.stress.support import Gate, children

WINDOW_S = 0.05
LIMIT = Limit(20, WINDOW_S, part=1.0)
TAKES = 240  # of all processes together at least
IDENTITY = 77
RECORD = struct.Struct("=q")


class Clock:
    """Remembers what it said at last: when a unit was taken. A process may stand still before it tells us."""

    now_ns = 0

    def __call__(self) -> int:
        self.now_ns = time.monotonic_ns()
        return self.now_ns


class Shared:
    """The windows of one process: what :class:`Throttle` asks for."""

    def __init__(self, instance: str, process: str) -> None:
        self._joined = Joined(instance, process)
        self.lock = self._joined.lock
        self.fence = self._joined.table.fence
        self.refresh = self._joined.table.refresh

    def window(self, bucket: str, limit: Limit) -> Window:
        return self._joined.window(IDENTITY + len(bucket), bucket, limit)


def take(instance: str, name: str, gate: Gate, sink: int) -> None:
    """Takes as often as it can and says when; for ever."""
    gate.wait()
    shared = Shared(instance, name)
    clock = Clock()
    throttle = Throttle({"order": LIMIT}, shared=shared, clock_ns=clock)
    while True:
        if throttle.delay_s("order", take=True, look=True) == 0.0:
            os.write(sink, RECORD.pack(clock.now_ns))
        else:
            os.sched_yield()
            shared.refresh()


def test_no_window_holds_more_than_the_limit_whoever_is_killed(instance: str) -> None:
    rng = random.Random(7)
    times: list[int] = []
    read_end, write_end = os.pipe()
    for life in range(3):
        gate = Gate()
        bodies = [
            lambda gate=gate, name=f"p{life}{number}": take(instance, name, gate, write_end) for number in range(3)
        ]
        with children(*bodies) as running:
            gate.open()
            wanted = len(times) + TAKES // 3
            while len(times) < wanted:
                times.append(RECORD.unpack(os.read(read_end, RECORD.size))[0])
            for child in rng.sample(running, 2):  # the third goes on alone for a while, on what the dead have left
                child.kill()
            for _ in range(30):
                times.append(RECORD.unpack(os.read(read_end, RECORD.size))[0])
    os.close(write_end)
    while rest := os.read(read_end, RECORD.size):
        times.append(RECORD.unpack(rest)[0])
    os.close(read_end)
    times.sort()
    assert len(times) >= TAKES
    window_ns = int(WINDOW_S * 1e9)
    for first, last in zip(times, times[int(LIMIT.capacity) :], strict=False):
        assert last - first >= window_ns, "one more than the limit within one window"
    heir = Shared(instance, "heir")._joined.table
    while names := [name for name in list_segments(OF_ALL) if f".{instance}.p" in name]:
        heir._look(time.monotonic_ns())  # until the windows of the dead have passed
        assert len(names) <= 9
    heir.leave()
    cleanup_instance(OF_ALL, lambda name: f".{instance}." in name)
