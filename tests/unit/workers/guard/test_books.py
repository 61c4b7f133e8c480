"""Books of a takeover: a venue's snapshot by REST is the book that its feed would have published."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.exchanges.factory import make_venue
from pipeline.execution.events import BookView
from pipeline.model.config import EngineConfig, ExchangeConfig, MarketConfig
from pipeline.model.instruments import InstrumentRow, VenueRef, build_rows
from pipeline.virtual.books import book_words
from pipeline.virtual.world import VirtualWorld
from shm.layout import BOOK, BOOK_DEPTH
from tests.worlds.exchange_world import TRADED, World, world
from tests.worlds.external_world import external_world, hedge
from workers.guard.books import TakeoverBooks

SIDES = ((BOOK.bid_count, BOOK.bid_price_fp, BOOK.bid_qty_fp), (BOOK.ask_count, BOOK.ask_price_fp, BOOK.ask_qty_fp))


class Feeds:
    """What the feeds prove."""

    def __init__(self) -> None:
        self.views: dict[int, BookView] = {}

    def book(self, instrument_id: int) -> BookView | None:
        return self.views.get(instrument_id)


def config_of(box: World) -> EngineConfig:
    exchanges: dict[str, ExchangeConfig] = {}
    for name in TRADED:
        venue = box.venue(name)
        known = exchanges.get(venue.exchange)
        markets = {**(known.markets if known else {}), venue.market: MarketConfig(symbols=venue.symbols)}
        exchanges[venue.exchange] = ExchangeConfig(dialect=venue.dialect, markets=markets)
    return EngineConfig(engine_name="books", exchanges=exchanges)


@pytest.mark.parametrize("name", TRADED)
def test_a_snapshot_is_the_book_of_the_venue_in_the_rows_fixed_point(name: str) -> None:
    async def body() -> None:
        async with world("demo") as box:
            venue = box.server.venues[name]
            client = make_venue(box.venue(name), box.credentials(name))
            symbol = "BTCUSDT" if name == "mexc_spot" else "BTC_USDT"
            (spec,) = await client.instruments([symbol])
            (row,) = build_rows([spec], [VenueRef(name=name, venue_id=0, feed_id=0)])
            books = TakeoverBooks(config_of(box), Feeds())
            for _ in range(1000):  # the market moves on: a snapshot between two equal looks at the venue's own book
                before = book_words(row, venue, seq=2, recv_mono_ns=9, venue_wall_ns=0)
                payload = await client.depth_snapshot(symbol)
                if book_words(row, venue, seq=2, recv_mono_ns=9, venue_wall_ns=0) == before:
                    break
            assert books.take(row, payload, 7, 9) == ""
            view = books.book(row.instrument_id)
            assert view is not None and view.proof_mono_ns == 7
            for count, price_at, qty_at in SIDES:
                shown = view.words[count]
                assert 0 < shown <= BOOK_DEPTH
                for at in (price_at, qty_at):
                    assert list(view.words[at : at + shown]) == before[at : at + shown]
            await client.close()

    asyncio.run(body())


def rows_of(made: VirtualWorld) -> dict[tuple[str, str], InstrumentRow]:
    return {(row.spec.venue, row.spec.symbol): row for row in made.instruments}


def test_snapshots_are_wanted_of_what_is_open_and_not_proved_any_more() -> None:
    made = external_world()
    feeds, now_ns = Feeds(), made.clock.mono_ns()
    books = TakeoverBooks(made.config, feeds)
    assert books.wanted(made.core.ledger, rows_of(made), now_ns) == []
    hedge(made)
    rows, (held,) = rows_of(made), made.core.ledger.hedges.values()
    legs = {(held.spot_venue, held.spot_symbol), (held.futures_venue, held.futures_symbol)}
    now_ns = made.clock.mono_ns()
    assert {(r.spec.venue, r.spec.symbol) for r in books.wanted(made.core.ledger, rows, now_ns)} == legs
    for name in legs:
        feeds.views[rows[name].instrument_id] = BookView([0] * BOOK.WORDS, now_ns)
    assert books.wanted(made.core.ledger, rows, now_ns) == []
    assert len(books.wanted(made.core.ledger, rows, now_ns + 60_000_000_000)) == 2


@pytest.mark.parametrize("payload", [b"", b"{}", b'{"lastUpdateId":1,"bids":[["2","1"]],"asks":[["1","1"]]}'])
def test_a_snapshot_that_cannot_be_or_is_crossed_is_no_book(payload: bytes) -> None:
    made = external_world()
    row = rows_of(made)["mexc_spot", "BTCUSDT"]
    books = TakeoverBooks(made.config, Feeds())
    assert books.take(row, payload, 7, 9) != ""
    assert books.book(row.instrument_id) is None
