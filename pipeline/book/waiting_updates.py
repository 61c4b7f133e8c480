"""Updates of a book that waits for its snapshot, as received, within a bound."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import NamedTuple

WAITING_FRAMES_MAX = 4096  # a snapshot takes well under a second; 10 ms streams bring 100 updates in one
WAITING_BYTES_MAX = 8 << 20


class WaitingUpdate(NamedTuple):
    """One frame as received."""

    frame: bytes
    recv_mono_ns: int
    conn: int  # -1: it has ended since


class WaitingUpdates:
    """The updates of one book, oldest first."""

    __slots__ = ("_size_bytes", "updates")

    def __init__(self) -> None:
        self.updates: deque[WaitingUpdate] = deque()
        self._size_bytes = 0

    def keep(self, update: WaitingUpdate) -> int:
        """Adds the newest one; returns how many old ones went because the bound was reached (a later snapshot covers
        them)."""
        self.updates.append(update)
        self._size_bytes += len(update.frame)
        dropped = 0
        while len(self.updates) > WAITING_FRAMES_MAX or self._size_bytes > WAITING_BYTES_MAX:
            self.drop_oldest()
            dropped += 1
        return dropped

    def drop_oldest(self) -> None:
        """Removes the oldest one."""
        self._size_bytes -= len(self.updates.popleft().frame)

    def clear(self) -> None:
        """Removes all."""
        self.updates.clear()
        self._size_bytes = 0


def forget_connection(books: Iterable[WaitingUpdates], conn: int) -> None:
    """A connection is no more: its row may be another's by the time that its updates are used."""
    for waiting in books:
        for at, update in enumerate(waiting.updates):
            if update.conn == conn:
                waiting.updates[at] = update._replace(conn=-1)
