"""The plain twin of ``pipeline.book.tickers``: how long a ticker has been ahead of its book, in frames' time."""

from __future__ import annotations

from itertools import pairwise

STEP_NS = 100_000_000


class Lead:
    """One book and one ticker stream on one connection. Ids and times as the test feeds them."""

    def __init__(self, opened_ns: int, book_id: int) -> None:
        self.moments: list[int] = [opened_ns]  # of every frame
        self.book_id = book_id
        self.ticker_id = 0
        self.ahead_since: int | None = None  # number of the frame

    def frame(self, recv_ns: int) -> None:
        """Any frame of the connection, before its effect."""
        self.moments.append(recv_ns)

    def ticker(self, update_id: int) -> None:
        """A ticker of ``update_id``, in the newest frame."""
        self.ticker_id = max(self.ticker_id, update_id)
        if self.ahead_since is None and self.ticker_id > self.book_id:
            self.ahead_since = len(self.moments) - 1

    def update(self, update_id: int) -> None:
        """The book comes to ``update_id``, in the newest frame."""
        self.book_id = update_id
        self.ahead_since = len(self.moments) - 1 if self.ticker_id > self.book_id else None

    def behind(self, owed_ns: int) -> bool:
        """Whether the update has been owed for more than ``owed_ns``."""
        if self.ahead_since is None:
            return False
        since = self.moments[self.ahead_since :]
        gaps = (after - before for before, after in pairwise(since))
        return sum(min(gap, STEP_NS) for gap in gaps) > owed_ns
