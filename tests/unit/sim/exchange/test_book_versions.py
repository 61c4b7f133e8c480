"""Published book versions: the levels to depth twenty, put together from what has changed."""

from __future__ import annotations

import random

from pipeline.sim.exchange.book_versions import DEPTH_MAX, KEYFRAME_EVERY, Versions
from pipeline.sim.exchange.events import BookDelta, MarketEvent
from pipeline.sim.exchange.faults import FaultPlan
from pipeline.sim.exchange.latency import NS_PER_S, ManualClock
from pipeline.sim.exchange.venue_ledger import VenueLedger
from pipeline.sim.factory import build_venues
from pipeline.sim.market.synthetic import SyntheticMarket
from pipeline.sim.scenarios.specs import load_scenario


def test_versions_of_a_running_market_are_the_books_that_its_deltas_build() -> None:
    scenario, clock = load_scenario("demo"), ManualClock()
    ledger = VenueLedger(clock.mono_ns)
    venues = build_venues(scenario, clock, ledger, FaultPlan(clock, random.Random(1)), 3)
    market = SyntheticMarket(scenario, venues, clock, 3)
    venue = venues["gateio_futures"]
    market.start()
    venue.open_book_stream("BTC_USDT", 20)
    _, bids, asks = venue.depth("BTC_USDT", 1000)
    book = (dict(bids), dict(asks))
    wanted: dict[int, tuple[list[tuple[int, int]], list[tuple[int, int]]]] = {}

    def follow(event: MarketEvent) -> None:
        if not isinstance(event, BookDelta) or event.symbol != "BTC_USDT":
            return
        for side, changed in zip(book, (event.bids, event.asks), strict=True):
            side.update(changed)
            for price in [price for price, units in side.items() if not units]:
                del side[price]
        wanted[event.last_id] = (
            sorted(book[0].items(), reverse=True)[:DEPTH_MAX],
            sorted(book[1].items())[:DEPTH_MAX],
        )

    venue.on_market(follow)
    clock.advance(30 * NS_PER_S)
    market.stop()
    rows = list(ledger.versions.rows(venue="gateio_futures", symbol="BTC_USDT", depth=DEPTH_MAX))
    assert len(rows) > KEYFRAME_EVERY, "more than one whole book"
    compared = 0
    for row in rows:
        update_id, best_bid, interval_ms, bids, asks = row[2], row[5], row[9], row[10], row[11]
        assert interval_ms == 20 and best_bid == bids[0][0]
        if update_id in wanted:  # the last of them are still on their way
            assert (bids, asks) == wanted[update_id]
            compared += 1
    assert compared >= len(rows) - 2
    some = rows[10][2]
    (chosen,) = ledger.versions.rows(symbol="BTC_USDT", depth=5, first_id=some, last_id=some)
    assert (chosen[10], chosen[11]) == (rows[10][10][:5], rows[10][11][:5])
    assert all(len(row) == 9 for row in ledger.versions.rows())


def test_levels_are_unknown_until_the_next_whole_book_that_is_kept() -> None:
    versions = Versions(most=KEYFRAME_EVERY)
    for update_id in range(1, KEYFRAME_EVERY + 30):
        sides = ([(100, update_id)], [(101, 5)])
        version = (update_id, 0, 0, 100, update_id, 101, 5)
        versions.add("v", "S", 10, version, sides, lambda sides=sides: sides)  # type: ignore[misc]
    rows = list(versions.rows(depth=1))
    assert len(rows) == KEYFRAME_EVERY and versions.recorded == KEYFRAME_EVERY + 29
    known = [row for row in rows if row[10] is not None]
    assert rows[0][10] is None and known
    assert all(row[10] == [(100, row[2])] and row[11] == [(101, 5)] for row in known)
