"""Values along time: price, basis and funding paths of a scenario, on the synthetic market and on scripted books."""

from __future__ import annotations

import random
from decimal import Decimal
from typing import Any

import pytest

from pipeline.model.enums import OrderKind, OrderSide, TimeInForce
from pipeline.model.errors import ConfigInvalid
from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.exchange.faults import FaultPlan
from pipeline.sim.exchange.futures.timers import arm_timers, follow_funding_paths
from pipeline.sim.exchange.latency import NS_PER_S, ManualClock
from pipeline.sim.exchange.orders import SimOrderRequest
from pipeline.sim.exchange.paths import path_error, value_at
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.exchange.venue_ledger import VenueLedger
from pipeline.sim.factory import build_venues
from pipeline.sim.market.synthetic import SyntheticMarket
from pipeline.sim.scenarios.specs import load_scenario
from pipeline.virtual.market import Quote, ScriptedMarket

D = Decimal


class Market:
    """A scenario's venues and synthetic market on virtual time."""

    def __init__(self, scenario: Any, seed: int = 3) -> None:
        self.scenario = load_scenario(scenario)
        self.clock = ManualClock()
        self.ledger = VenueLedger(self.clock.mono_ns)
        faults = FaultPlan(self.clock, random.Random(1))
        self.venues: dict[str, SimVenue] = build_venues(self.scenario, self.clock, self.ledger, faults, seed)
        self.market = SyntheticMarket(self.scenario, self.venues, self.clock, seed)
        self.market.start()
        for venue in self.venues.values():
            arm_timers(venue)
            follow_funding_paths(venue)

    def run(self, seconds: float) -> None:
        self.clock.advance(int(seconds * NS_PER_S))

    def mark(self, venue: str, symbol: str) -> float:
        return float(self.venues[venue].mark_price(symbol))


def only(pair: str, **changes: Any) -> dict[str, Any]:
    """The demo's market with one pair that does not wander by itself."""
    demo = load_scenario("demo")
    others = {name: None for name in demo.pairs if name != pair}
    quiet = {"vol_bps": 0.0, "jump_share": 0.0, "noise_bps": 0.0}
    pairs = others | {pair: quiet | changes}
    return {"extends": "demo", "name": "one", "pairs": pairs, "dislocations": {"rate_per_s": 0}}


def test_values_are_linear_between_points_and_constant_outside() -> None:
    path = ((10.0, 1.0), (20.0, 3.0), (30.0, 2.0))
    assert [value_at(path, at) for at in (0, 10, 15, 20, 25, 30, 99)] == [1, 1, 2, 3, 2.5, 2, 2]
    assert path_error(path) == "" and path_error([(1, 1), (1, 2)]) and path_error([(-1, 1)])


def test_a_price_path_moves_every_venue_by_its_factor() -> None:
    world = Market(only("BTC/USDT", path=[[5, 1], [35, 1.3]]))
    venues = {"mexc_spot": "BTCUSDT", "gateio_spot": "BTC_USDT", "gateio_futures": "BTC_USDT"}
    start = {venue: world.mark(venue, symbol) for venue, symbol in venues.items()}
    world.run(5)
    for venue, symbol in venues.items():
        assert world.mark(venue, symbol) == pytest.approx(start[venue], rel=2e-4)
    world.run(15)
    for venue, symbol in venues.items():
        assert world.mark(venue, symbol) == pytest.approx(start[venue] * 1.15, rel=3e-3)
    world.run(20)
    for venue, symbol in venues.items():
        assert world.mark(venue, symbol) == pytest.approx(start[venue] * 1.3, rel=1e-3)


def test_a_basis_path_moves_one_listing_against_the_others() -> None:
    listing = {"gateio_futures": {"basis_bps": [[0, 30], [10, 30], [20, -10]]}}
    world = Market(only("ETH/USDT", listings=listing))

    def basis_bps() -> float:
        return (world.mark("gateio_futures", "ETH_USDT") / world.mark("gateio_spot", "ETH_USDT") - 1) * 1e4

    assert basis_bps() == pytest.approx(30, abs=2)
    world.run(9)
    assert basis_bps() == pytest.approx(30, abs=2)
    world.run(13)
    assert basis_bps() == pytest.approx(-10, abs=2)


def test_a_funding_path_turns_and_is_paid_at_its_stamps() -> None:
    listing = {"gateio_futures": {"funding_interval_s": 20, "funding_path": [[0, 0.0004], [30, 0.0004], [40, -0.0006]]}}
    world = Market(only("BTC/USDT", listings=listing))
    venue = world.venues["gateio_futures"]
    row = venue.instruments["BTC_USDT"]
    assert row.funding_rate == D("0.0004")
    world.run(61)
    assert row.funding_rate == D("-0.0006")
    rates = [rate for _, rate in venue.funding_paid["BTC_USDT"]]
    assert len(rates) == 3 and rates[0] == D("0.0004") and rates[-1] == D("-0.0006")


def test_paths_that_wait_begin_when_they_are_told_to() -> None:
    world = Market(
        only("BTC/USDT", path=[[5, 1], [15, 1.1]], listings={"gateio_futures": {"basis_bps": [[0, 30], [10, -10]]}})
    )
    spot, futures = ("gateio_spot", "BTC_USDT"), ("gateio_futures", "BTC_USDT")
    world.market.paths.began_ns = None
    start = world.mark(*spot)
    world.run(20)
    assert world.mark(*spot) == pytest.approx(start, rel=3e-4)
    assert (world.mark(*futures) / world.mark(*spot) - 1) * 1e4 == pytest.approx(30, abs=2)
    world.market.begin_paths()
    world.run(10)
    assert world.mark(*spot) == pytest.approx(start * 1.05, rel=3e-3)
    world.run(10)
    assert world.mark(*spot) == pytest.approx(start * 1.1, rel=1e-3)
    assert (world.mark(*futures) / world.mark(*spot) - 1) * 1e4 == pytest.approx(-10, abs=2)


def test_scripted_books_follow_a_scenarios_paths() -> None:
    scenario = load_scenario("liquidation")
    clock = ManualClock()
    ledger = VenueLedger(clock.mono_ns)
    venues = build_venues(scenario, clock, ledger, FaultPlan(clock, random.Random(1)), 1)
    market = ScriptedMarket(venues, clock)
    market.quote("gateio_spot", "BTC_USDT", Quote(D(60_000)))
    market.quote("gateio_futures", "BTC_USDT", Quote(D("60003.6")))
    market.follow_scenario(scenario, seconds=92)
    clock.advance(78 * NS_PER_S)
    assert float(venues["gateio_spot"].mark_price("BTC_USDT")) == pytest.approx(96_000, rel=1e-4)
    assert float(venues["gateio_futures"].mark_price("BTC_USDT")) == pytest.approx(98_400, rel=1e-4)


@pytest.mark.parametrize("name", ["drift", "liquidation", "funding_turn", "foreign_orders"])
def test_packaged_scenarios_run(name: str) -> None:
    world = Market(name)
    world.run(3)
    for venue in world.venues.values():
        for symbol in venue.instruments:
            assert venue.mark_price(symbol) > 0


def test_drift_leaves_mexc_cheaper_and_nothing_else_apart() -> None:
    world = Market("drift")
    gaps = []
    for _ in range(40):
        world.run(0.5)
        gaps.append(world.mark("mexc_spot", "BTCUSDT") / world.mark("gateio_spot", "BTC_USDT") - 1)
    assert sum(gaps) / len(gaps) * 1e4 == pytest.approx(-14, abs=1)
    assert world.market.dislocations.offered == 0


def test_the_liquidation_scenario_takes_a_short_at_leverage_twenty_and_leaves_one_at_two() -> None:
    for leverage, gone in ((20, True), (1, False)):
        world = Market("liquidation")
        venue = world.venues["gateio_futures"]
        account = next(iter(venue.accounts.values()))
        position = venue.position(account, "BTC_USDT")
        assert position.leverage == 20 and not position.is_cross
        if leverage != 20:
            venue.set_leverage(account, "BTC_USDT", D(leverage))
        world.run(2)
        place_short(venue, account)
        assert position.qty == D("-0.1")
        world.run(30)
        assert (position.qty == 0) is gone
        assert len(world.ledger.of_kind("forced")) == int(gone)


def place_short(venue: SimVenue, account: SimAccount) -> None:
    request = SimOrderRequest(
        symbol="BTC_USDT", side=OrderSide.SELL, kind=OrderKind.MARKET, tif=TimeInForce.IOC, qty=D("0.1")
    )
    venue.place(account, request)


@pytest.mark.parametrize(
    ("change", "text"),
    [
        ({"path": [[5, 1], [5, 2]]}, "times must rise"),
        ({"path": [[0, 1], [5, -1]]}, "must be positive"),
        ({"listings": {"gateio_futures": {"basis_bps": []}}}, "at least one point"),
        ({"listings": {"gateio_futures": {"funding_path": [[3, 0], [1, 0]]}}}, "times must rise"),
        (
            {
                "listings": {
                    "gateio_futures": {"risk_tiers": [{"cap": 5, "maintenance_rate": "0.1", "leverage_max": 5}] * 2}
                }
            },
            "caps must rise",
        ),
    ],
)
def test_bad_paths_and_tiers_are_refused(change: dict[str, Any], text: str) -> None:
    with pytest.raises(ConfigInvalid, match=text):
        load_scenario(only("BTC/USDT", **change))
