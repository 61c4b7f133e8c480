"""Which books are compared with what their tickers say, where only that compares (``TICKER_TOP``).

A book whose update was lost is other than its ticker until a snapshot has brought it; then the two agree. A book that
is other than its ticker again and again, though snapshots and updates came between, is none that lost updates: the
venue's tickers say something else than its depth. Comparing it would lose it for ever, a snapshot each time.

Nothing sees then whether its depth goes on. So no frame but its own updates proves it (``FLAG_OWN_PROOF``), until a
ticker agrees with it; that is asked now and then, each time for one loss at most.
"""

from __future__ import annotations

from pipeline.book.memory import BOOK_ROW, BOOKS, STATE_ALIGNING, STATE_LIVE, TICKER_TOP, WATCH
from pipeline.book.tickers import newest_agrees
from shm.jit import direct
from shm.layout import CONN_CAPACITY, FLAG_OWN_PROOF
from shm.words import Words

LOSSES_MAX = 3  # in a row
ASK_AGAIN_NS = 60_000_000_000  # of frames on its connection, until a book is compared again


class TickerTrust:
    """Losses by ticker of one venue's books, by slot. ``mem``: the books' memory as it is now."""

    flag = FLAG_OWN_PROOF  # in the records of those that their own updates alone prove

    def __init__(self, mem: Words) -> None:
        self._newest_agrees = direct(newest_agrees, mem, 0, 0)
        self._losses: dict[int, int] = {}  # in a row, of books that had an update since their snapshot
        self._stopped: dict[int, int] = {}  # not compared -> for how much flow (ns) of the connections that carried it
        self._flows = _flows(mem)  # at the last look
        self._alone: set[int] = set()  # proved by their own updates alone: stopped, or asked again and not agreed yet
        self._news: list[int] = []

    def look(self, mem: Words) -> list[int]:
        """A book that its newest ticker agrees with begins anew; to be called before any is lost. Returns the slots of
        those that frames of other topics prove again: to be published so."""
        before, self._flows = self._flows, _flows(mem)
        for slot in list(self._stopped):
            conn = int(mem[_row(mem, slot) + BOOK_ROW.conn])
            if 0 <= conn < CONN_CAPACITY:  # of two, whichever came first
                self._stopped[slot] += max(0, int(self._flows[conn] - before[conn]))
            if self._stopped[slot] >= ASK_AGAIN_NS:
                del self._stopped[slot]
                self._losses[slot] = LOSSES_MAX - 1
        agreeing = [slot for slot in self._losses if self._agrees(mem, slot)]
        for slot in agreeing:
            del self._losses[slot]
        trusted = [slot for slot in agreeing if slot in self._alone]
        for slot in trusted:
            self.forget(mem, slot)
        return trusted

    def compares(self, slot: int) -> bool:
        """Whether a ticker that is ahead of the book says that an update of it was lost."""
        return slot not in self._stopped

    @property
    def uncompared(self) -> int:
        """How many books their own updates alone prove now."""
        return len(self._alone)

    def lost(self, mem: Words, slot: int) -> None:
        """One loss more, to be reported before the book is invalidated; the last one in a row ends the comparing.

        A book that has had no update since its snapshot proves nothing against its ticker: its depth may have stopped.
        """
        row = _row(mem, slot)
        if mem[BOOKS.ticker_rule] != TICKER_TOP or mem[row + BOOK_ROW.state] != STATE_LIVE:
            return
        self._losses[slot] = self._losses.get(slot, 0) + 1
        if self._losses[slot] >= LOSSES_MAX:
            del self._losses[slot]
            self._stopped[slot] = 0
            if slot not in self._alone:
                self._alone.add(slot)
                self._news.append(int(mem[row + BOOK_ROW.book_index]))
            mem[row + BOOK_ROW.sticky_flags] |= FLAG_OWN_PROOF

    def take_news(self) -> list[int]:
        """Indices of books that, since the last call, are proved by their own updates alone."""
        news, self._news = self._news, []
        return news

    def forget(self, mem: Words, slot: int) -> None:
        """The book starts anew, or its connection does."""
        self._losses.pop(slot, None)
        self._stopped.pop(slot, None)
        self._alone.discard(slot)
        mem[_row(mem, slot) + BOOK_ROW.sticky_flags] &= ~FLAG_OWN_PROOF

    def _agrees(self, mem: Words, slot: int) -> bool:
        row = _row(mem, slot)
        stands = mem[row + BOOK_ROW.state] >= STATE_ALIGNING and mem[row + BOOK_ROW.ticker_count] > 0
        return bool(stands and self._newest_agrees(mem, row, slot))


def _row(mem: Words, slot: int) -> int:
    return int(mem[BOOKS.rows_off]) + slot * BOOK_ROW.WORDS


def _flows(mem: Words) -> Words:
    """By connection: the time in which frames of it came (ns)."""
    first = BOOKS.connections + WATCH.flow_ns
    return mem[first : first + CONN_CAPACITY * WATCH.WORDS : WATCH.WORDS].copy()
