"""What an opportunity of an exact replay is worth, at once and some milliseconds later: what a millisecond is worth.

An opportunity is found at its first event (``pipeline.replay``). At that moment, and again after each latency in
recorded time, its direction is sized anew on the books as they stand then, at the execution threshold and within the
notional cap, and valued at the levels that the size takes, after fees. What cannot be executed then is worth nothing.
Nothing that we would have taken is missing from the books: it is the value of being there, each time alone.

Only directions in a quote that counts as one dollar are valued; what falls due behind the recording's last message is
left out and counted (``beyond_end``).
"""

from __future__ import annotations

import heapq
from collections.abc import Sequence
from typing import Protocol

import msgspec

from pipeline.detection.cross_venue import (
    BUY_LIMITS,
    BUY_RECORD,
    SELL_LIMITS,
    SELL_RECORD,
    fill_limits,
    fill_money,
    size_at,
    worth_gate,
)
from pipeline.detection.gates import read_leg
from pipeline.detection.kernel_arrays import Ports
from pipeline.detection.memory import DETECTOR_FLOATS, Memory
from pipeline.detection.topology import DIRECTION
from pipeline.model.instruments import USD_COINS, InstrumentRow
from pipeline.model.units import NS_PER_MS
from shm.layout import BOOK, FLAGS_UNTRADABLE


class Replayed(Protocol):
    """What of a replay is looked at (``pipeline.replay.ExactReplay``)."""

    memory: Memory
    ports: Ports
    rows: list[InstrumentRow]


class Value(msgspec.Struct):
    """What all opportunities together are worth after one latency."""

    latency_ms: float
    executable: int = 0  # opportunities that still are
    profit_usd: float = 0.0
    beyond_end: int = 0


class Worth:
    """Values the opportunities of one replay; ``run`` of the replay tells it what is found and how time goes on."""

    def __init__(self, replay: Replayed, latencies_ms: Sequence[float]) -> None:
        self._replay = replay
        self.values = [Value(latency_ms=latency_ms) for latency_ms in sorted(set(latencies_ms))]
        self._due: list[tuple[int, int, int]] = []  # when, which value, direction
        self.valued = 0

    def found(self, time_ns: int, direction: int) -> None:
        """An opportunity was found at ``time_ns``."""
        row = self._replay.memory.topology.directions[direction]
        if self._replay.rows[int(row[DIRECTION.buy])].spec.quote not in USD_COINS:
            return
        self.valued += 1
        for number, value in enumerate(self.values):
            if value.latency_ms == 0:
                self._take(number, direction)
            else:
                heapq.heappush(self._due, (time_ns + int(value.latency_ms * NS_PER_MS), number, direction))

    def until(self, time_ns: int) -> None:
        """The next message is of ``time_ns``: what falls due before it is judged on the books as they are."""
        while self._due and self._due[0][0] < time_ns:
            _, number, direction = heapq.heappop(self._due)
            self._take(number, direction)

    def end(self) -> None:
        """There are no more messages."""
        for _, number, _ in self._due:
            self.values[number].beyond_end += 1
        self._due.clear()

    def _take(self, number: int, direction: int) -> None:
        usd = self._worth_usd(direction)
        self.values[number].executable += usd > 0
        self.values[number].profit_usd += usd

    def _worth_usd(self, direction: int) -> float:
        """What the direction is worth on the books as they are; 0 = not executable."""
        mem, flt = self._replay.memory.mem, self._replay.memory.flt
        row = self._replay.memory.topology.directions[direction]
        buy, sell = int(row[DIRECTION.buy]), int(row[DIRECTION.sell])
        for leg, (instrument, record) in enumerate(((buy, BUY_RECORD), (sell, SELL_RECORD))):
            if read_leg(self._replay.ports.feeds, mem, instrument, leg) <= 0:
                return 0.0
            if mem[record + BOOK.flags] & FLAGS_UNTRADABLE:
                return 0.0
        fill_limits(mem, buy, BUY_LIMITS)
        fill_limits(mem, sell, SELL_LIMITS)
        fill_money(mem, flt, direction)
        if not size_at(mem, flt, direction, DIRECTION.exec_num):
            return 0.0
        worth_gate(mem, flt, direction)
        return max(0.0, float(flt[DETECTOR_FLOATS.worth_usd]))
