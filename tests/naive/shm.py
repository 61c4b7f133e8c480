"""Plain Python twins of the shared-memory kernels: what they promise, in the most obvious words."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from fractions import Fraction

Record = tuple[int, ...]


@dataclass
class NaiveConnection:
    generation: int = 0
    alive: bool = False
    last_frame_ns: int = 0
    lag_ns: int = 0


@dataclass
class NaiveFeed:
    """Books by index, notices in order, connections: one process, nothing concurrent."""

    capacity: int
    notice_capacity: int
    books: dict[int, list[Record]] = field(default_factory=dict)
    notices: list[int] = field(default_factory=list)
    connections: dict[int, NaiveConnection] = field(default_factory=dict)

    def publish(self, book: int, record: Record) -> int:
        """Publication number, 0 for a book that does not exist."""
        if not 0 <= book < self.capacity:
            return 0
        self.books.setdefault(book, []).append(record)
        self.notices.append(book)
        return len(self.books[book])

    def newest(self, book: int) -> tuple[int, Record] | None:
        """(seq, record) of the newest publication."""
        found = self.books.get(book)
        return (2 * len(found), found[-1]) if found else None

    def notice(self, cursor: int) -> tuple[int, int]:
        """(1, book), (0, 0) for none yet, (-1, 0) for lapped."""
        if cursor >= len(self.notices):
            return 0, 0
        if len(self.notices) - cursor >= self.notice_capacity:
            return -1, 0
        return 1, self.notices[cursor]

    def open(self, conn: int, lag_ns: int) -> int:
        row = self.connections.setdefault(conn, NaiveConnection())
        row.generation += 1
        row.alive, row.last_frame_ns, row.lag_ns = True, 0, lag_ns
        return row.generation

    def close(self, conn: int) -> None:
        self.connections.setdefault(conn, NaiveConnection()).alive = False

    def frame(self, conn: int, recv_ns: int) -> None:
        self.connections.setdefault(conn, NaiveConnection()).last_frame_ns = recv_ns

    def proof(self, conn: int, generation: int, recv_ns: int, *, own: bool = False) -> int:
        row = self.connections.get(conn, NaiveConnection())
        if not row.alive or row.generation != generation:
            return 0
        return recv_ns if own else max(recv_ns, row.last_frame_ns - row.lag_ns)


@dataclass
class NaiveQueue:
    """Bounded, first in first out, refuses when full."""

    capacity: int
    items: deque[Record] = field(default_factory=deque)
    history: list[Record] = field(default_factory=list)
    refused: int = 0

    def push(self, item: Record) -> bool:
        if len(self.items) >= self.capacity:
            self.refused += 1
            return False
        self.items.append(item)
        self.history.append(item)
        return True

    def pop(self) -> Record | None:
        return self.items.popleft() if self.items else None

    def at(self, index: int) -> tuple[int, Record | None]:
        """The lossy second reader: (1, item), (0, None) not there yet, (-1, None) overwritten or about to be."""
        if index >= len(self.history):
            return 0, None
        if len(self.history) - index >= self.capacity:
            return -1, None
        return 1, self.history[index]


@dataclass
class NaiveHistogram:
    """Keeps every value."""

    values: list[int] = field(default_factory=list)

    def record(self, value_ns: int) -> None:
        self.values.append(max(value_ns, 0))

    def percentile(self, p: float) -> int:
        """Exact value of rank ceil(p/100 * n), at least 1."""
        if not self.values:
            return 0
        rank = max(1, math.ceil(Fraction(str(p)) * len(self.values) / 100))
        return sorted(self.values)[min(rank, len(self.values)) - 1]


def naive_bucket(value: int, sub_bits: int, max_bits: int) -> int:
    """Bucket of the log-linear histogram by walking the octaves."""
    value = min(max(value, 0), 2**max_bits - 1)
    if value < 2 ** (sub_bits + 1):
        return value
    octave = value.bit_length() - 1 - sub_bits
    return octave * 2**sub_bits + value // 2**octave


@dataclass
class NaiveRow:
    """A seqlock row as one thread sees it."""

    values: Record = ()
    seq: int = 0

    def write(self, values: Record) -> None:
        self.values = values
        self.seq += 2


def wrap64(value: int) -> int:
    """Two's complement, 64 bits."""
    return (value + 2**63) % 2**64 - 2**63


@dataclass
class NaiveSpend:
    """What processes have used of one budget: everything that was ever sent, with its time."""

    slice_ns: int
    slices: int
    sent: list[tuple[str, int, int]] = field(default_factory=list)  # (process, when, units)

    def used(self, now_ns: int, without: str = "") -> int:
        """Units whose slice of time is not older than ``slices``."""
        oldest = now_ns // self.slice_ns - self.slices
        return sum(units for who, at_ns, units in self.sent if who != without and at_ns // self.slice_ns >= oldest)
