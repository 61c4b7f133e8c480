"""The synthetic market: determinism, books that never cross, dislocations and their account, null markets."""

from __future__ import annotations

import hashlib
import itertools
from functools import cache

import pytest

from pipeline.model.enums import OrderKind, OrderSide, TimeInForce
from pipeline.sim.exchange.events import BookDelta, MarketEvent
from pipeline.sim.exchange.latency import NS_PER_MS, NS_PER_S
from pipeline.sim.exchange.order_book import ASK, BID
from pipeline.sim.exchange.orders import SimOrderRequest
from pipeline.sim.exchange.venue import SimVenue
from pipeline.sim.market.dislocation import Dislocation
from pipeline.sim.scenarios.specs import Scenario, load_scenario, scenario_names
from tests.worlds.sim_support import MarketWorld

NULLS = [name for name in scenario_names() if name.startswith("null_")]


class World(MarketWorld):
    def digest(self) -> str:
        found = hashlib.sha256()
        for name, venue in sorted(self.venues.items()):
            for symbol in sorted(venue.instruments):
                found.update(repr((name, symbol, venue.depth(symbol, 50))).encode())
        return found.hexdigest()


@cache
def scenario(name: str) -> Scenario:
    return load_scenario(name)


def edges_bps(world: World, pair: str, *, seen_late: dict[str, int] | None = None) -> list[float]:
    """Edges after both taker fees over every ordered pair of listings, now."""
    found = []
    for cheap, rich in itertools.permutations(world.market.makers[pair], 2):
        ask, bid = cheap.book.best_ask(), rich.book.best_bid()
        if ask is None or bid is None:
            continue
        paid = float(cheap.instrument.price(ask)) * (1 + cheap.instrument.taker_fee_ppm * 1e-6)
        got = float(rich.instrument.price(bid)) * (1 - rich.instrument.taker_fee_ppm * 1e-6)
        found.append((got / paid - 1) * 1e4)
    return found


def test_same_seed_gives_the_same_path_however_time_passes() -> None:
    coarse, fine, other = (World(scenario("demo"), seed) for seed in (5, 5, 6))
    for world in (coarse, fine, other):
        world.market.start()
    coarse.clock.advance(4 * NS_PER_S)
    for _ in range(1600):
        fine.clock.advance(4 * NS_PER_S // 1600)
    other.clock.advance(4 * NS_PER_S)
    assert coarse.digest() == fine.digest()
    assert coarse.digest() != other.digest()
    assert coarse.market.dislocations.summary() == fine.market.dislocations.summary()


def test_books_never_cross_and_keep_their_depth() -> None:
    world = World(scenario("hard"), 2)
    world.market.start()
    for _ in range(1000):
        world.clock.advance(5 * NS_PER_MS)
        for makers in world.market.makers.values():
            for maker in makers:
                bid, ask = maker.book.best_bid(), maker.book.best_ask()
                assert bid is not None and ask is not None and 0 < bid < ask, maker.instrument.symbol
    for makers in world.market.makers.values():
        for maker in makers:
            assert 8 <= maker.book.count(BID) <= 60 and 8 <= maker.book.count(ASK) <= 60


def test_busy_and_quiet_instruments_and_a_bearable_rate() -> None:
    world = World(scenario("demo"), 3)
    counts: dict[str, int] = {}
    for name, venue in world.venues.items():
        for symbol in venue.instruments:
            venue.open_book_stream(symbol, 10 if name == "mexc_spot" else 100)
        venue.on_market(lambda event: counts.__setitem__(event.symbol, counts.get(event.symbol, 0) + 1))
    world.market.start()
    world.clock.advance(20 * NS_PER_S)
    total = sum(counts.values()) / 20
    assert 120 < total < 450, "messages a second over all venues"
    assert counts["BTCUSDT"] > 10 * counts["NOVAUSDT"]


def test_born_dislocations_have_the_edge_that_they_claim() -> None:
    world = World(scenario("demo"), 4)
    world.market.start()
    checked, known = 0, 0
    for _ in range(20_000):
        world.clock.advance(NS_PER_MS)
        records = world.market.dislocations.records
        for born in records[known:]:
            age_ms = (world.clock.mono_ns() - born.born_ns) / NS_PER_MS
            if born.kind != "triangular" and not born.end and age_ms <= 1.0:
                best = max(edges_bps(world, born.pair))
                assert best > born.edge_bps - 1.5, (born.describe(), best)
                checked += 1
        known = len(records)
    offered = world.market.dislocations.offered
    assert 35 <= offered <= 85, "about three a second over 20 s"
    assert checked > 20


def lives_ms(name: str, seconds: int) -> list[Dislocation]:
    world = World(scenario(name), 9)
    world.market.start()
    world.clock.advance(seconds * NS_PER_S)
    return [born for born in world.market.dislocations.records if born.end]


@pytest.mark.parametrize(("name", "half_life_ms"), [("demo", 50.0), ("hard", 10.0)])
def test_rivals_close_dislocations_on_the_fitted_survival_curve(name: str, half_life_ms: float) -> None:
    """Captures: half gone after one half-life (10 ms), 83 % after five (50 ms)."""
    ended = lives_ms(name, 150)
    planned = [(born.dies_ns - born.born_ns) / NS_PER_MS for born in ended]
    gone = [sum(life <= factor * half_life_ms for life in planned) / len(planned) for factor in (1, 5)]
    assert 0.40 < gone[0] < 0.60
    assert 0.75 < gone[1] < 0.91
    attractive = sum(born.attractive_first for born in ended) / len(ended)
    assert 0.66 < attractive < 0.84, "the attractive leg vanishes first more often"


def test_consumed_stray_quote_is_gone_and_counts_as_captured() -> None:
    world = World(scenario("null_flat"), 1)
    world.market.start()
    world.clock.advance(NS_PER_S)
    assert world.market.plant("BTC/USDT", 25.0, 2000.0, 900.0)
    (born,) = world.market.dislocations.records
    venue = born.stray.venue
    account = next(iter(venue.accounts.values()))
    row = born.stray.instrument
    worst = born.stray.stray[2] if born.stray.stray is not None else 0
    order = venue.place(
        account,
        SimOrderRequest(
            symbol=row.symbol,
            side=OrderSide.BUY,
            kind=OrderKind.LIMIT,
            tif=TimeInForce.IOC,
            qty=row.lot * int(row.qty(born.units) / row.lot),
            price=row.price(worst),
        ),
    )
    assert order.filled_qty == order.qty
    assert world.market.dislocations.summary()["captured"] == 1
    consumed = born.price
    for _ in range(20):
        world.clock.advance(5 * NS_PER_MS)
        assert max(edges_bps(world, "BTC/USDT")) < 3.0, "what was consumed does not come back"
        best = venue.books[row.symbol].best_ask()
        assert best is not None and best > consumed


def test_own_resting_order_is_hit_when_the_market_moves_through_it() -> None:
    world = World(scenario("null_shifted"), 8)
    world.market.start()
    venue = world.venues["gateio_spot"]
    account = next(iter(venue.accounts.values()))
    _, bids, asks = venue.depth("SOL_USDT", 1)
    row = venue.instruments["SOL_USDT"]
    for side, price in ((OrderSide.BUY, bids[0][0] - 3), (OrderSide.SELL, asks[0][0] + 3)):
        venue.place(
            account,
            SimOrderRequest(
                symbol="SOL_USDT",
                side=side,
                kind=OrderKind.LIMIT,
                tif=TimeInForce.GTC,
                qty=row.lot * 50,
                price=row.price(price),
            ),
        )
    world.clock.advance(40 * NS_PER_S)
    trades = venue.trades(account)
    assert trades and all(trade.is_maker for trade in trades)


@pytest.mark.parametrize("name", NULLS)
def test_null_markets_offer_nothing_above_the_engines_threshold(name: str) -> None:
    """True books of tradable pairs never show 3 bps after fees, the margin in the engine configuration."""
    assert scenario(name).expect_no_orders
    world = World(scenario(name), 11)
    world.market.start()
    traps = {"NOVA/USDT", "ORB/USDT"} | ({"XRP/USDT"} if name == "null_closed_wallet" else set())
    worst = -1e9
    for _ in range(2000):
        world.clock.advance(10 * NS_PER_MS)
        for pair in world.market.makers.keys() - traps:
            worst = max(worst, *edges_bps(world, pair))
    margin = float(scenario(name).engine["risk_limits"]["min_profit_margin_bps"])
    assert worst < margin


@pytest.mark.parametrize("name", [name for name in NULLS if name != "null_shifted"])
def test_null_markets_look_flat_through_delayed_streams_too(name: str) -> None:
    """Books as an engine sees them (100 ms streams of Gate.io, latency) must not add up to an edge either."""
    world = World(scenario(name), 21)
    traps = {"NOVA", "ORB"} | ({"XRP"} if name == "null_closed_wallet" else set())
    seen: dict[str, dict[str, tuple[float, float]]] = {}  # pair -> venue -> (bid less fee, ask plus fee)
    worst = -1e9
    for venue_name, venue in world.venues.items():
        for row in venue.instruments.values():
            venue.open_book_stream(row.symbol, 10 if venue_name == "mexc_spot" else 100)

        def look(event: MarketEvent, venue: SimVenue = venue) -> None:
            nonlocal worst
            row = venue.instruments[event.symbol]
            if not isinstance(event, BookDelta) or row.base in traps or not event.best_bid or not event.best_ask:
                return
            fee = row.taker_fee_ppm * 1e-6
            bid, ask = float(row.price(event.best_bid[0])) * (1 - fee), float(row.price(event.best_ask[0])) * (1 + fee)
            views = seen.setdefault(row.pair, {})
            for other, (other_bid, other_ask) in views.items():
                if other != venue.name:
                    worst = max(worst, (bid / other_ask - 1) * 1e4, (other_bid / ask - 1) * 1e4)
            views[venue.name] = (bid, ask)

        venue.on_market(look)
    world.market.start()
    world.clock.advance(90 * NS_PER_S)
    assert worst < 3.0


def test_traps_really_tempt() -> None:
    closed = World(scenario("null_closed_wallet"), 1)
    closed.market.start()
    closed.clock.advance(2 * NS_PER_S)
    assert max(edges_bps(closed, "XRP/USDT")) > 20
    assert not closed.venues["mexc_spot"].instruments["XRPUSDT"].identity.withdraw_enabled
    same = World(scenario("null_same_ticker"), 1)
    same.market.start()
    same.clock.advance(2 * NS_PER_S)
    assert max(edges_bps(same, "NOVA/USDT")) > 50
    first = same.venues["mexc_spot"].instruments["NOVAUSDT"].identity
    assert first.networks != same.venues["gateio_spot"].instruments["NOVA_USDT"].identity.networks


def test_below_fees_market_parts_before_fees() -> None:
    world = World(scenario("null_below_fees"), 3)
    world.market.start()
    gross = -1e9
    for _ in range(1000):
        world.clock.advance(10 * NS_PER_MS)
        for pair in ("BTC/USDT", "ETH/USDT"):
            gross = max(gross, max(edges_bps(world, pair)) + 20.0)
    assert gross > 6.0


def test_shifted_venue_delivers_ten_seconds_late() -> None:
    world = World(scenario("null_shifted"), 3)
    ages: list[int] = []
    late = world.venues["mexc_spot"]
    late.open_book_stream("BTCUSDT", 10)
    late.on_market(lambda event: ages.append(late.now_ms() - event.ts_ms))
    world.market.start()
    world.clock.advance(9 * NS_PER_S)
    assert not ages
    world.clock.advance(3 * NS_PER_S)
    assert ages and all(9_990 < age < 10_100 for age in ages)


def test_steps_that_are_late_follow_a_burst_of_now() -> None:
    """A busy host runs what is due after a burst that was asked for meanwhile: the market goes on."""
    world = World(load_scenario("demo"), 1)
    world.market.start()
    world.clock.advance(NS_PER_S)
    pump, world.market._pump = world.market._pump, lambda _token_ns: None  # type: ignore[method-assign]
    world.clock.advance(NS_PER_S)
    world.market.burst("*", 5)
    before = world.market.steps
    pump(0)
    assert world.market.steps > before
