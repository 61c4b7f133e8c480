"""Prices that are moved by hand: books, marks, the triangle and liquidations follow, and the ledger stays whole."""

from __future__ import annotations

from decimal import Decimal

import pytest

from pipeline.model.enums import OrderKind, OrderSide, TimeInForce
from pipeline.sim.exchange.faults import BadFault
from pipeline.sim.exchange.futures.timers import arm_timers
from pipeline.sim.exchange.latency import NS_PER_MS, NS_PER_S
from pipeline.sim.exchange.orders import SimOrderRequest
from pipeline.sim.exchange.paths import SETTLED_NS, Moves
from pipeline.sim.scenarios.specs import load_scenario
from tests.worlds.sim_support import MarketWorld as World


def opened(name: str = "null_flat") -> World:
    world = World(load_scenario(name), 3)
    world.market.start()
    for venue in world.venues.values():
        arm_timers(venue)
    world.clock.advance(NS_PER_S)
    return world


def mids(world: World, pair: str) -> dict[str, float]:
    """Venue -> middle of its book."""
    found = {}
    for maker in world.market.makers[pair]:
        bid, ask = maker.book.best_bid(), maker.book.best_ask()
        assert bid is not None and ask is not None and bid < ask
        found[maker.venue.name] = float(maker.instrument.price(bid) + maker.instrument.price(ask)) / 2
    return found


def moved_bps(world: World, pair: str, before: dict[str, float]) -> dict[str, float]:
    return {venue: (mid / before[venue] - 1) * 1e4 for venue, mid in mids(world, pair).items()}


def test_a_pair_moves_on_all_venues_along_its_time_and_stays_there() -> None:
    world = opened("demo")
    eth, btc, cross = (mids(world, pair) for pair in ("ETH/USDT", "BTC/USDT", "ETH/BTC"))
    assert world.market.move_price("*", "ETH_USDT", 0.7, 20 * NS_PER_S) >= 4, "the listings of ETH, and its triangle"
    fell = []
    for _ in range(40):
        world.clock.advance(500 * NS_PER_MS)
        fell.append(moved_bps(world, "ETH/USDT", eth)["gateio_futures"])
    assert -2_500 < fell[19] < -900, "halfway, half of the way"
    world.clock.advance(5 * NS_PER_S)
    for pair, before in (("ETH/USDT", eth), ("ETH/BTC", cross)):
        assert all(-3_100 < size < -2_900 for size in moved_bps(world, pair, before).values()), pair
    assert all(abs(size) < 100 for size in moved_bps(world, "BTC/USDT", btc).values())
    world.market.move_price("*", "ETH/USDT", 1 / 0.7, 0)
    world.clock.advance(NS_PER_S)
    assert all(abs(size) < 100 for size in moved_bps(world, "ETH/USDT", eth).values()), "and back, at once"


def test_a_listing_moves_alone() -> None:
    world = opened()
    before = mids(world, "ETH/USDT")
    assert world.market.move_price("gateio_futures", "ETH_USDT", 1.02, 0) == 1
    world.clock.advance(2 * NS_PER_S)
    sizes = moved_bps(world, "ETH/USDT", before)
    assert 150 < sizes.pop("gateio_futures") < 250
    assert all(abs(size) < 50 for size in sizes.values())
    assert world.market.move_price("gateio_futures", "NONE_USDT", 1.02, 0) == 0


def test_what_follows_from_two_other_pairs_is_not_moved_on_all_venues() -> None:
    world = opened("demo")
    with pytest.raises(BadFault, match="found ETH/BTC, which follows two other pairs on all venues; wanted one of"):
        world.market.move_price("*", "ETH/BTC", 1.01, 0)
    assert world.market.move_price("mexc_spot", "ETH/BTC", 1.01, 0) == 1


def test_a_move_liquidates_what_has_no_margin_for_it_and_every_entry_balances() -> None:
    world = opened()
    venue = world.venues["gateio_futures"]
    account = next(iter(venue.accounts.values()))
    venue.set_leverage(account, "ETH_USDT", Decimal(20))
    venue.place(
        account,
        SimOrderRequest(
            symbol="ETH_USDT", side=OrderSide.BUY, kind=OrderKind.MARKET, tif=TimeInForce.IOC,
            qty=venue.instruments["ETH_USDT"].lot * 50,
        ),
    )  # fmt: skip
    assert venue.position(account, "ETH_USDT").qty > 0
    world.market.move_price("*", "ETH/USDT", 0.9, 10 * NS_PER_S)
    world.clock.advance(12 * NS_PER_S)
    assert venue.position(account, "ETH_USDT").qty == 0 and account.forced, "liquidated on the way down"
    for name, one in world.venues.items():
        owner = next(iter(one.accounts.values()))
        for asset, wallet in owner.wallets.items():
            assert wallet.total == world.ledger.total(name, f"user:{owner.uid}", asset)


def test_moves_of_long_ago_are_folded_and_count_on() -> None:
    moves = Moves()
    assert not moves and moves.factor_at(5) == 1.0
    for number in range(200):
        moves.add(number * SETTLED_NS, NS_PER_S, 1.01)
    assert len(moves._rows) <= 3
    assert moves.factor_at(201 * SETTLED_NS) == pytest.approx(1.01**200)
