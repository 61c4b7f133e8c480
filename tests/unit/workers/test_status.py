"""The status reading's books: best levels as the aggregator sees them."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal

import pytest

from pipeline.market_data import MarketDataAggregator
from shm.layout import FLAG_GAP
from tests.worlds.books_world import CONFIG, BooksWorld
from workers.view.live_view import BOOKS_MAX, _book_rows
from workers.view.status import books


@pytest.fixture
def world(instance: str) -> Iterator[BooksWorld]:
    made = BooksWorld(instance)
    yield made
    made.close()


def test_books_show_the_best_level_their_age_and_whether_they_are_whole(world: BooksWorld) -> None:
    market = MarketDataAggregator(world.instance, CONFIG)
    asyncio.run(market.start_aggregation())
    assert books(market) == []
    world.publish(0, "100.5", "101")
    world.publish(1, "100", "101", flags=FLAG_GAP)
    whole, gap = books(market)
    assert (whole["bid"], whole["bid_qty"], whole["ask"], whole["ask_qty"]) == (
        Decimal("100.5"), Decimal(2), Decimal(101), Decimal(3),
    )  # fmt: skip
    assert (whole["venue"], whole["pair"], whole["whole"]) == ("aa_spot", "BTC/USDT", True)
    assert not gap["whole"]
    rows = _book_rows({"books": [whole, gap]})
    assert rows[0][:4] == ["BTC/USDT", "aa_spot", "100.5 x 2", "101 x 3"]
    assert rows[1][4] == "not whole"
    assert _book_rows({"books": [whole] * (BOOKS_MAX + 3)})[-1][0] == "and 3 more"
