"""Synchronised snapshots out of shared memory, against books that are written here."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from decimal import Decimal

import msgspec
import pytest

from pipeline.market_data import MarketDataAggregator
from pipeline.model.catalogue_row import row_to_words
from pipeline.model.errors import BadInput
from shm.bookring import conn_close
from shm.layout import FEED, FEED_BOOK_CAPACITY_DEFAULT, FLAG_GAP, feed_segment_words
from shm.layout_pages import CAT_FLAG_REMOVED, CATALOGUE_ROW
from shm.segment import Segment
from tests.worlds.books_world import CONFIG, BooksWorld


@pytest.fixture
def world(instance: str) -> Iterator[BooksWorld]:
    made = BooksWorld(instance)
    yield made
    made.close()


def aggregator(world: BooksWorld) -> MarketDataAggregator:
    found = MarketDataAggregator(world.instance, CONFIG)
    asyncio.run(found.start_aggregation())
    return found


def test_a_snapshot_holds_exact_numbers_of_both_venues(world: BooksWorld) -> None:
    world.publish(0, "100.01", "100.02")
    world.publish(1, "100.03", "100.04")
    snapshot = aggregator(world).get_latest_snapshot(["BTC/USDT"])
    assert snapshot.synchronised
    assert [book.venue for book in snapshot.books] == ["aa_spot", "bb_spot"]
    assert snapshot.books[0].bids == ((Decimal("100.01"), Decimal(2)),)
    assert snapshot.books[1].asks == ((Decimal("100.04"), Decimal(3)),)
    assert all(book.tradable and book.update_id == 7 for book in snapshot.books)
    assert snapshot.skew_ms is not None and snapshot.skew_ms >= 0


def test_books_that_are_old_flagged_or_cut_off_are_not_tradable(world: BooksWorld) -> None:
    world.publish(0, "100", "101", recv_mono_ns=1)
    world.publish(1, "100", "101", flags=FLAG_GAP)
    old, flagged = aggregator(world).get_latest_snapshot().books
    assert not old.tradable and old.age_ms is not None and old.age_ms > 100
    assert not flagged.tradable and flagged.flags == FLAG_GAP
    world.publish(0, "100", "101")
    conn_close(world.feeds[0].words, 0, 0)
    cut = aggregator(world).get_latest_snapshot().books[0]
    assert (cut.tradable, cut.age_ms) == (False, None)


def test_a_book_of_a_dead_writers_epoch_proves_nothing(world: BooksWorld) -> None:
    world.publish(0, "100", "101")
    books = aggregator(world)
    found = books.book(0)
    assert found is not None and found.proof_mono_ns > 0
    world.feeds[0].close()
    taken = Segment.create(
        world.feeds[0].name,
        size_words=feed_segment_words(FEED_BOOK_CAPACITY_DEFAULT),
        kind=FEED.KIND,
        instance=world.instance,
    )
    found = books.book(0)
    assert found is not None and found.proof_mono_ns == 0
    taken.close()


def test_pairs_filter_and_instruments_without_a_book(world: BooksWorld) -> None:
    world.publish(0, "100", "101")
    found = aggregator(world)
    assert [book.venue for book in found.get_latest_snapshot().books] == ["aa_spot"]
    assert found.get_latest_snapshot(["ETH/USDT"]).books == ()
    assert found.book(0) is not None
    assert found.book(1) is None, "nothing was published yet"
    assert found.book(99) is None, "not in the catalogue"


def test_a_book_of_another_instrument_is_no_book(world: BooksWorld) -> None:
    world.publish(0, "100", "101", instrument=5)
    assert aggregator(world).book(0) is None


def test_instruments_come_change_and_go(world: BooksWorld) -> None:
    found = aggregator(world)
    assert len(found.instruments) == 2
    assert found.refresh() == []
    row = msgspec.structs.replace(world.rows[1], row_epoch=2)
    words = row_to_words(row)
    words[CATALOGUE_ROW.flags] |= CAT_FLAG_REMOVED
    world.page.update(1, words)
    (changed,) = found.refresh()
    assert (changed.instrument_id, changed.row_epoch) == (1, 2)
    world.publish(1, "100", "101")
    assert found.get_latest_snapshot().books == ()
    assert found.removed == {1}
    asyncio.run(found.stop_aggregation())
    assert (found.is_aggregating, len(found.instruments), found.book(0), found.refresh()) == (False, 0, None, [])
    asyncio.run(found.start_aggregation())
    assert len(found.instruments) == 2


def test_before_the_start_and_without_an_instance_it_says_so() -> None:
    found = MarketDataAggregator("t-nobody", CONFIG)
    assert not found.is_aggregating
    with pytest.raises(BadInput, match="start_aggregation"):
        found.get_latest_snapshot()
    with pytest.raises(BadInput, match="arb up"):
        asyncio.run(found.add_symbol_subscription("aa_spot", "T"))


def test_subscriptions_go_to_whoever_can_be_asked(world: BooksWorld) -> None:
    asked: list[tuple[str, str]] = []

    async def subscribe(venue: str, symbol: str) -> None:
        asked.append((venue, symbol))

    found = MarketDataAggregator(world.instance, CONFIG, subscribe)
    asyncio.run(found.add_symbol_subscription("aa_spot", "T"))
    assert asked == [("aa_spot", "T")]
