"""Books that begin with a pushed whole one: asked for anew by a new subscription, and never proved without one."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.conformance.venue import checked_venue
from pipeline.exchanges.feed.connection import FeedConnection
from pipeline.exchanges.feed.snapshots import LOSSES_SAID_MAX
from pipeline.exchanges.feed.types import FeedInstrument, FeedSettings
from pipeline.exchanges.transport.backoff import Backoff
from pipeline.model.clock import mono_ns
from pipeline.model.instruments import VenueRef, build_rows
from shm.layout import BOOK
from tests.worlds.feed_bench import Bench
from tests.worlds.waiting import until_async as until
from workers.feed import warm


@pytest.fixture(scope="module", autouse=True)
def machine_code() -> None:
    warm(["bybit"])


class Standing(Bench):
    """One book of a simulated Bybit that stands; the market rests."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.instruments = [self.instrument(row) for row in self.rows]

    @property
    def first(self) -> FeedInstrument:
        return self.instruments[0]

    @property
    def topic(self) -> str:
        return self.feed.public.book_topic(self.first.symbol)

    @property
    def carrier(self) -> FeedConnection:
        connection = self.feed._carrier(self.first)
        assert connection is not None
        return connection

    def push_whole(self) -> None:
        """A whole book as the venue pushes it, on the book's connection."""
        number = int(self.read(self.rows[0])[BOOK.update_id]) + 1
        data = {"s": self.first.symbol, "b": [["1.0", "1"]], "a": [["2.0", "1"]], "u": number, "seq": number}
        frame = {"topic": self.topic, "type": "snapshot", "ts": 1700000000000, "data": data, "cts": 1700000000000}
        text = json.dumps(frame, separators=(",", ":")).encode()
        self.feed.books.on_frame(text, mono_ns(), self.carrier_conn)
        assert self.feed.books.is_synced(self.first.book_index)

    async def await_whole(self, backoff: Backoff) -> None:
        self.carrier_conn = self.carrier.conn
        snapshots = self.feed.snapshots
        self.feed.books.invalidate(self.first.book_index)
        snapshots._subscribed_ns[self.first.book_index] = 0
        assert await snapshots._await_whole(self.first, self.carrier, backoff, self.topic)


@asynccontextmanager
async def standing() -> AsyncIterator[Standing]:
    async with checked_venue("bybit", "spot") as venue:
        rows = build_rows(
            await venue.client.instruments(venue.config.symbols), [VenueRef(name=venue.name, venue_id=0, feed_id=0)]
        )
        box = SimpleNamespace(venue=lambda _name: venue.config, server=venue.server)
        it = Standing(box, venue.name, rows, FeedSettings())
        for instrument in it.instruments:
            it.feed.add(instrument)
        task = asyncio.ensure_future(it.feed.run())
        try:
            await until(it.all_tradable, "whole, proved books")
            assert venue.server.market is not None
            venue.server.market.stop()
            yield it
        finally:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)
            await it.feed.client.close()


class Pause(Backoff):
    """No pause; what happens in it."""

    def __init__(self, happens: Any = None) -> None:
        super().__init__(base_s=1, cap_s=1)
        self._happens = happens

    def next_s(self, floor_s: float = 0.0) -> float:
        if self._happens is not None:
            self._happens()
        return 0.0


def test_a_book_that_came_while_it_was_waited_for_keeps_its_subscription() -> None:
    async def body() -> None:
        async with standing() as it:
            asked = it.carrier._public._ids_taken
            await it.await_whole(Pause(it.push_whole))
            assert it.carrier._public._ids_taken == asked, "nothing was unsubscribed or asked for anew"
            assert it.carrier.carries(it.topic) and it.feed.books.is_synced(it.first.book_index)

    asyncio.run(body())


def test_a_book_of_an_ended_subscription_is_proved_by_nothing_until_the_next_brings_one() -> None:
    async def body() -> None:
        async with standing() as it:
            connection, stood = it.carrier, []
            unsubscribe, subscribe = connection.unsubscribe, connection.subscribe

            async def late(topics: Sequence[str]) -> None:
                await unsubscribe(topics)
                it.push_whole()

            async def asked(topics: Sequence[str]) -> None:
                stood.append(it.tradable(it.rows[0]))
                await subscribe(topics)

            connection.unsubscribe, connection.subscribe = late, asked  # type: ignore[method-assign, assignment]
            await it.await_whole(Pause())
            assert stood == [False]
            await until(it.all_tradable, "the whole book of the new subscription")

    asyncio.run(body())


def test_a_book_whose_topic_is_refused_is_unproved_and_the_line_says_so() -> None:
    async def body() -> None:
        async with standing() as it:
            it.feed._refused(it.carrier, (it.topic,), "no such topic")
            assert it.tradable(it.rows[0]), "another subscription carries it"
            connection = it.carrier
            connection.acked.discard(it.topic)
            it.feed._refused(connection, (it.topic,), "no such topic")
            assert not it.tradable(it.rows[0])
            assert any(f"{it.first.symbol}: book lost: its topic is refused" in text for text in it.said)

    asyncio.run(body())


def test_a_piece_of_a_recording_interrupts_no_pushed_book() -> None:
    async def body() -> None:
        async with standing() as it:
            it.feed.snapshots.renew()
            assert not it.feed.snapshots._wanted and not it.feed.snapshots._deepening
            assert it.all_tradable()

    asyncio.run(body())


def test_a_storm_of_losses_is_no_storm_of_lines() -> None:
    async def body() -> None:
        async with standing() as it:
            snapshots, index = it.feed.snapshots, it.first.book_index
            for _ in range(3 * LOSSES_SAID_MAX):
                snapshots.lost(index)
            assert sum("book lost: gap" in text for text in it.said) == LOSSES_SAID_MAX
            snapshots._losses_began_ns = 0
            snapshots.lost(index, "its bytes cannot be read")
            assert it.said[-2:] == [
                f"{it.name}: {2 * LOSSES_SAID_MAX} more books were lost",
                f"{it.name} {it.first.symbol}: book lost: its bytes cannot be read",
            ]

    asyncio.run(body())
