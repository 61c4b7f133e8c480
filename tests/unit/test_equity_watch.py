"""The executor's equity over a running core: equal to the venues' own books at one mark, transfers and prices apart."""

from __future__ import annotations

from decimal import Decimal

from pipeline.equity_watch import DAY_NS, DayStart, EquityFigures, EquityWatch
from pipeline.execution.events import Command, CommandKind
from tests.worlds.execution_starts import ready_world
from tests.worlds.execution_world import World

D = Decimal


def read(world: World, watch: EquityWatch) -> EquityFigures:
    world.core.context.now = world.now()
    watch.look(world.rows)
    figures = watch.figures()
    assert figures is not None
    return figures


def at(world: World, bid: str, ask: str) -> None:
    for venue in world.venues.values():
        venue.bid, venue.ask = D(bid), D(ask)
    world.run(50)


def venues_equity(world: World, mark: Decimal) -> Decimal:
    """By the venues' own books: balances at the mark, the open contract at the mark."""
    worth = sum((v.balances["USDT"] + v.balances.get("BTC", D(0)) * mark for v in world.venues.values()), D(0))
    futures = world.venues["gateio_futures"]
    return worth + futures.position * mark - futures.cost


def test_equity_is_what_the_venues_hold_at_one_mark() -> None:
    world = ready_world()
    watch = EquityWatch(world.core)
    at(world, "99.95", "100.05")
    start = read(world, watch)
    assert start.equity.value == venues_equity(world, D(100)) == D(40_000)
    assert start.daily == (0, 0, 0)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(300)
    world.feed(world.offer("gateio_spot", "gateio_futures"))
    world.run(60)
    at(world, "99.00", "101.00")  # leaving costs: it stays
    assert world.core.ledger.hedges, "a hedge is open and counts at its mark"
    now = read(world, watch)
    assert now.equity.value == venues_equity(world, D(100))
    assert now.daily.total == now.equity.value - 40_000 == now.daily.trading
    assert now.daily.inventory == 0
    assert now.hedging.gross == 2 * now.hedging.hedged + now.hedging.net
    move = world.core.hedges.watch.basis_move()
    assert move > 0 and now.stress == now.hedging.net * D("0.1") + now.hedging.hedged * move


def test_a_price_is_inventory_and_a_closed_hedge_is_trading() -> None:
    world = ready_world()
    watch = EquityWatch(world.core)
    at(world, "99.95", "100.05")
    read(world, watch)
    at(world, "109.95", "110.05")
    found = read(world, watch)
    assert found.daily == (D(1000), D(0), D(1000)), "100 BTC rose by 10 each; nothing was traded"
    world.feed(world.offer("gateio_spot", "gateio_futures"))
    world.run(300)
    at(world, "109.95", "110.05")
    world.feed(Command(CommandKind.CLOSE_HEDGES, "", "test"))
    world.run(1000)
    found = read(world, watch)
    assert found.daily.inventory == D(1000)
    assert found.daily.trading == found.daily.total - 1000 != 0


def test_a_deposit_and_a_withdrawal_are_no_profit() -> None:
    world = ready_world()
    watch = EquityWatch(world.core)
    at(world, "99.95", "100.05")
    start = read(world, watch).equity.value
    world.venues["mexc_spot"].balances["BTC"] += D("0.5")
    world.venues["gateio_spot"].balances["USDT"] -= D(20)
    world.run(5000)
    found = read(world, watch)
    assert found.equity.value == start + 50 - 20
    assert found.daily.total == 0


def test_a_day_goes_on_over_a_restart_and_begins_anew_at_midnight() -> None:
    world = ready_world()
    at(world, "99.95", "100.05")
    first = EquityWatch(world.core)
    read(world, first)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(300)
    at(world, "99.95", "100.05")
    before = read(world, first).daily
    world.kill()
    world.run(500)
    second = EquityWatch(world.core, first.start)
    assert read(world, second).daily == before
    assert isinstance(second.start, DayStart)
    second.start = DayStart(**{**{f: getattr(second.start, f) for f in second.start.__struct_fields__}, "day": 0})
    assert read(world, second).daily.total == 0
    assert second.start.day == world.now().wall_ns // DAY_NS


def test_a_coin_whose_books_are_away_keeps_its_last_mark() -> None:
    world = ready_world()
    watch = EquityWatch(world.core)
    at(world, "99.95", "100.05")
    before = read(world, watch)
    world.blind = True
    world.run(60_000)
    assert read(world, watch).equity == before.equity


def test_a_coin_that_is_marked_late_moves_no_profit() -> None:
    world = ready_world()
    world.blind = True
    watch = EquityWatch(world.core)
    world.core.context.now = world.now()
    assert watch.figures() is None, "100 BTC without a mark: no figure yet"
    world.run(61_000)
    world.core.context.now = world.now()
    found = watch.figures()
    assert found is not None and found.equity.unmarked == ("BTC",)
    world.blind = False
    at(world, "99.95", "100.05")
    found = read(world, watch)
    assert (found.equity.value, found.daily.total) == (D(40_000), D(0))


def test_a_run_that_knows_no_prices_yet_does_not_show_the_coins_as_lost() -> None:
    world = ready_world()
    at(world, "99.95", "100.05")
    first = EquityWatch(world.core)
    before = read(world, first)
    world.kill()
    world.run(500)
    world.blind = True
    second = EquityWatch(world.core, first.start)
    world.core.context.now = world.now()
    assert second.figures() is None, "100 BTC without a mark of this run: no figure yet"
    world.run(61_000)
    world.core.context.now = world.now()
    found = second.figures()
    assert found is not None and found.equity.value == before.equity.value, "marked as the day began"
    assert found.daily.total == 0
