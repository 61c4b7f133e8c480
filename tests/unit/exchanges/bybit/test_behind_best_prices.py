"""Two topics of one book are compared: what is lost of the book shows in its best prices."""

from __future__ import annotations

import json
from typing import Any

import numpy as np
import pytest

from pipeline.book.venue_books import VenueBooks
from pipeline.exchanges.factory import feed_codec
from shm import bookring
from shm.layout import feed_segment_words
from tests.worlds.venue_books_rig import watch_from

S, MS = 1_000_000_000, 1_000_000
MAX_BEHIND_NS = 400 * MS
SENT_MS = 1_700_000_000_000  # of the venue's clock, at 10 s of ours
CONN = 3
Quote = tuple[str, str]


class Rig:
    """Two books of 50 levels on one connection, bid 10 and ask 11 at 10 s; best prices are pushed by themselves."""

    def __init__(self, market: str) -> None:
        self.words = np.zeros(feed_segment_words(2), dtype=np.int64)
        bookring.init_feed(self.words, 0, 2)
        codec = feed_codec("bybit", market)
        self.books = VenueBooks(codec=codec, words=self.words, feed_off=0, venue_id=1, capacity=2)
        self.u = 100
        for index, symbol in enumerate(("BTCUSDT", "ETHUSDT")):
            self.books.add(book_index=index, instrument_id=index, symbol=symbol, price_exp=2, qty_exp=2)
        watch_from(self.books, CONN, 10 * S)
        for symbol in ("BTCUSDT", "ETHUSDT"):
            self.push(f"orderbook.50.{symbol}", self.u, ("10", "11"), 10 * S, kind="snapshot")

    def push(
        self,
        topic: str,
        u: int,
        quote: Quote,
        at_ns: int,
        *,
        kind: str = "delta",
        gone: Quote = ("", ""),
        qty: str = "1",
    ) -> None:
        sides = [[[price, qty], *([[old, "0"]] if old else [])] for price, old in zip(quote, gone, strict=True)]
        data: dict[str, Any] = {"s": topic.rpartition(".")[2], "b": sides[0], "a": sides[1], "u": u, "seq": u}
        ms = SENT_MS + (at_ns - 10 * S) // MS
        frame = {"topic": topic, "type": kind, "ts": ms, "data": data, "cts": ms}
        self.books.on_frame(json.dumps(frame, separators=(",", ":")).encode(), at_ns, CONN)

    def best(self, u: int, quote: Quote, at_ns: int, symbol: str = "BTCUSDT", *, qty: str = "1") -> None:
        self.push(f"orderbook.1.{symbol}", u, quote, at_ns, kind="snapshot", qty=qty)

    def others(self, from_ns: int, to_ns: int) -> None:
        """Best prices of the other book, which agree."""
        for at_ns in range(from_ns, to_ns + 1, 50 * MS):
            self.best(7, ("10", "11"), at_ns, "ETHUSDT")

    def behind(self) -> list[int]:
        return self.books.invalidate_books_behind_ticker(MAX_BEHIND_NS)


@pytest.mark.parametrize("market", ["spot", "futures"])
@pytest.mark.parametrize(("quote", "qty"), [(("9", "11"), "1"), (("10", "12"), "1"), (("10", "11"), "2")])
def test_a_lost_update_that_nothing_follows_is_noticed_within_500_ms(market: str, quote: Quote, qty: str) -> None:
    rig = Rig(market)
    rig.best(7, quote, 10 * S + 10 * MS, qty=qty)
    rig.others(10 * S + 20 * MS, 10 * S + 370 * MS)
    assert rig.behind() == []
    rig.others(10 * S + 420 * MS, 10 * S + 470 * MS)
    assert rig.behind() == [0] and not rig.books.is_synced(0) and rig.books.is_synced(1)


def test_a_book_that_follows_its_best_prices_stands() -> None:
    """The book is pushed every 20 ms, best prices every 10 ms: they are ahead for a moment, again and again."""
    rig = Rig("spot")
    was: Quote = ("10", "11")
    for step in range(1, 200):
        at_ns, now = 10 * S + step * 20 * MS, (f"{10 + step % 3}", f"{14 + step % 3}")
        rig.best(7 + step, now, at_ns - 10 * MS)
        gone = tuple(old if old != new else "" for old, new in zip(was, now, strict=True))
        rig.push("orderbook.50.BTCUSDT", rig.u + step, now, at_ns, gone=(gone[0], gone[1]))
        was = now
        assert rig.behind() == []
    rig.others(14 * S, 17 * S)
    rig.best(206, was, 17 * S)  # repeated after 3 s
    rig.others(17 * S, 18 * S)
    assert rig.behind() == [] and rig.books.counters.gaps == 0


def test_best_prices_that_were_pushed_before_the_book_say_nothing_of_it() -> None:
    rig = Rig("spot")
    rig.push("orderbook.50.BTCUSDT", 101, ("12", "13"), 10 * S + 30 * MS, gone=("10", "11"))
    rig.best(7, ("10", "11"), 10 * S + 20 * MS)
    rig.others(10 * S + 30 * MS, 11 * S)
    assert rig.behind() == [] and rig.books.is_synced(0)
