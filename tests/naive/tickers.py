"""The plain twins of ``pipeline.book.tickers``: how long a ticker has been ahead of its book, in frames' time."""

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

    def behind(self, max_behind_ns: int) -> bool:
        """Whether the update has been expected for more than ``max_behind_ns``."""
        if self.ahead_since is None:
            return False
        since = self.moments[self.ahead_since :]
        gaps = (after - before for before, after in pairwise(since))
        return sum(min(gap, STEP_NS) for gap in gaps) > max_behind_ns


Quote = tuple[int, int]  # best bid, best ask


class TopLead:
    """The same where numbers of tickers and depth do not compare: by what they say and when the venue sent it."""

    def __init__(self, opened_ns: int, quote: Quote, sent_ms: int) -> None:
        self.moments: list[int] = [opened_ns]
        self.book, self.book_sent_ms = quote, sent_ms
        self.ticker: Quote | None = None
        self.ticker_version = self.ticker_sent_ms = 0
        self.ahead_since: int | None = None

    def frame(self, recv_ns: int) -> None:
        """Any frame of the connection, before its effect."""
        self.moments.append(recv_ns)

    def _ahead(self) -> bool:
        return self.ticker is not None and self.ticker != self.book and self.ticker_sent_ms > self.book_sent_ms

    def take_ticker(self, version: int, quote: Quote, sent_ms: int) -> None:
        """A ticker in the newest frame; an older version than the newest says nothing, the same one says it again."""
        if version < self.ticker_version:
            return
        if version > self.ticker_version:
            self.ticker, self.ticker_version, self.ticker_sent_ms = quote, version, sent_ms
        self.ticker_sent_ms = max(self.ticker_sent_ms, sent_ms)
        if not self._ahead():
            self.ahead_since = None
        elif self.ahead_since is None:
            self.ahead_since = len(self.moments) - 1

    def update(self, quote: Quote, sent_ms: int) -> None:
        """The book's next update, in the newest frame."""
        self.book, self.book_sent_ms = quote, sent_ms
        self.ahead_since = len(self.moments) - 1 if self._ahead() else None

    def behind(self, max_behind_ns: int) -> bool:
        """Whether the update has been expected for more than ``max_behind_ns``."""
        if self.ahead_since is None:
            return False
        gaps = (after - before for before, after in pairwise(self.moments[self.ahead_since :]))
        return sum(min(gap, STEP_NS) for gap in gaps) > max_behind_ns
