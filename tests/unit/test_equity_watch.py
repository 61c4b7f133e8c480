"""The executor's equity over a running core: equal to the venues' own books at one mark, transfers and prices apart."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from pipeline.equity_watch import DayStart, EquityFigures, EquityWatch
from pipeline.execution.events import CatalogueChanged, Command, CommandKind
from pipeline.execution.ledger import UNKNOWN_PAST
from pipeline.model.units import NS_PER_DAY
from pipeline.virtual.market import Quote
from pipeline.virtual.world import VirtualWorld
from tests.worlds.execution_starts import ready_world
from tests.worlds.execution_world import Faults, World, make_config

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


def test_an_account_that_answers_after_the_first_reading_moves_no_profit() -> None:
    """A venue that is away at the start is not waited for; what lies there is no gain when it comes."""
    world = World(1, config=make_config())
    late = world.venues["gateio_futures"].balances.pop("USDT")
    world.run(100)
    assert world.core.ready and ("gateio_futures", "USDT") not in world.core.ledger.baseline
    watch = EquityWatch(world.core)
    at(world, "99.95", "100.05")
    before = read(world, watch)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(300)
    at(world, "99.95", "100.05")
    traded = read(world, watch).daily
    assert traded.trading
    world.venues["gateio_futures"].balances["USDT"] = late
    world.kill()  # a sweep that begins anew finds it
    world.run(500)
    assert ("gateio_futures", "USDT") in world.core.ledger.baseline
    again = EquityWatch(world.core, watch.start)
    found = read(world, again)
    assert found.equity.value == before.equity.value + traded.total + late
    assert found.daily == traded, "what came late was there before"
    assert read(world, EquityWatch(world.core, again.start)).daily == traded


def test_a_venue_whose_first_balances_are_taken_in_the_course_of_a_day_brings_no_profit() -> None:
    """It could not be reached before, or its key came later."""
    world = World(1)
    world.up["mexc_spot"] = False
    world.run(1000)
    at(world, "99.95", "100.05")
    first = EquityWatch(world.core)
    assert read(world, first).equity.value == D(25_000)
    world.up["mexc_spot"] = True
    world.kill()
    world.run(5000)
    second = EquityWatch(world.core, first.start)
    at(world, "99.95", "100.05")
    found = read(world, second)
    assert found.equity.value == D(40_000) and found.daily == (0, 0, 0)
    at(world, "109.95", "110.05")
    assert read(world, second).daily == (D(1000), D(0), D(1000)), "its coins count from then on"


def with_a_coin_that_is_added(world: World) -> CatalogueChanged:
    """Begins the journal without MEXC's BTC, which the account has none of; what adds it."""
    rows, added = world.rows, next(row for row in world.rows if row.spec.venue == "mexc_spot")
    del world.venues["mexc_spot"].balances["BTC"]
    world.entries.clear()
    world.rows = [row for row in rows if row is not added]
    world.kill()
    world.rows = rows
    world.run(200)
    world.venues["mexc_spot"].balances["BTC"] = D(0)
    assert world.core.ready and ("mexc_spot", "BTC") not in world.core.ledger.baseline
    return CatalogueChanged((added,))


@pytest.mark.parametrize("midnight", [False, True])
def test_coins_that_were_bought_before_their_first_balance_was_taken_are_no_stock_of_the_morning(
    midnight: bool,
) -> None:
    """What they cost was there in the morning."""
    world = World(1)
    event = with_a_coin_that_is_added(world)
    at(world, "99.95", "100.05")
    watch = EquityWatch(world.core)
    read(world, watch)
    world.faults = Faults(rest_error=1.0)
    world.feed(event)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(300)
    at(world, "99.95", "100.05")
    assert len(world.core.ledger.fills_seen) > 1 and ("mexc_spot", "BTC") not in world.core.ledger.baseline
    if midnight:
        watch.start = msgspec.structs.replace(watch.start or pytest.fail("no start"), day=0)
        read(world, watch)
    world.faults = Faults()
    world.run(15_000)
    assert world.core.ledger.baseline["mexc_spot", "BTC"] == (D(1), D(1))
    gained = D(0) if midnight else venues_equity(world, D(100)) - (10_000 + 15_000 + 10_000)
    assert 0 <= gained < D("0.5") and read(world, watch).daily.total == gained


@pytest.mark.parametrize("under_way", [False, True])
def test_a_coin_that_is_added_gets_its_first_balance_at_once_or_after_the_order_that_may_move_it(
    under_way: bool,
) -> None:
    world = World(1)
    event = with_a_coin_that_is_added(world)
    world.run(1200)
    world.feed(event)
    if under_way:
        world.faults = Faults(drop_response=1.0, drop_stream=1.0)
        world.feed(world.offer("mexc_spot", "gateio_spot"))
        world.run(100)
        assert world.core.ledger.unsettled and ("mexc_spot", "BTC") not in world.core.ledger.baseline
        world.faults = Faults()
    world.run(2000 if under_way else 100)
    assert world.core.ledger.baseline["mexc_spot", "BTC"] == ((D(1), D(1)) if under_way else (D(0), D(0)))


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
    assert second.start.day == world.now().wall_ns // NS_PER_DAY


def test_a_day_begins_anew_with_a_journal_that_began_in_its_course_and_with_what_is_taken_over() -> None:
    """What was withdrawn before is not in it, and what a position earned before is of no day of it."""
    world = ready_world()
    at(world, "99.95", "100.05")
    first = EquityWatch(world.core)
    read(world, first)
    world.venues["mexc_spot"].balances["USDT"] -= 5000
    world.run(5000)
    at(world, "99.95", "100.05")
    assert read(world, first).daily.total == 0, "a withdrawal is no loss"
    futures = world.venues["gateio_futures"]
    futures.position, futures.cost = D(1), D(100)
    world.entries.clear()
    world.kill()
    world.run(5000)
    second = EquityWatch(world.core, first.start)
    at(world, "99.95", "100.05")
    assert read(world, second).daily == (0, 0, 0)
    at(world, "109.95", "110.05")
    assert read(world, second).daily.inventory > 900 and UNKNOWN_PAST in world.core.ledger.breakers
    world.feed(Command(CommandKind.ADOPT, "", "journal lost"))
    assert UNKNOWN_PAST not in world.core.ledger.breakers
    assert [one.what for one in world.core.adopted] == ["baseline"]
    assert read(world, second).daily == (0, 0, 0)
    at(world, "119.95", "120.05")
    now = read(world, second).daily
    assert now.inventory == D(1010), "100 BTC and the position, from the adoption on"
    third = EquityWatch(world.core, second.start)
    assert read(world, third).daily == now, "the day that began in this journal goes on"
    assert third.start == second.start


def test_a_coin_whose_books_are_away_keeps_its_last_mark() -> None:
    world = ready_world()
    watch = EquityWatch(world.core)
    at(world, "99.95", "100.05")
    before = read(world, watch)
    world.blind = True
    world.run(60_000)
    assert read(world, watch).equity == before.equity


def test_a_day_that_begins_while_a_coins_books_are_away_begins_with_its_first_living_mark() -> None:
    """What the price did while nobody saw it is no profit of a day that began with the price of before."""
    world = ready_world()
    watch = EquityWatch(world.core)
    at(world, "99.95", "100.05")
    read(world, watch)
    world.blind = True
    world.run(60_000)
    assert watch.start is not None
    watch.start = msgspec.structs.replace(watch.start, day=0)  # midnight
    assert read(world, watch).daily.total == 0
    assert watch.start.stale == ("BTC@gateio_spot", "BTC@mexc_spot")
    world.blind = False
    at(world, "109.95", "110.05")
    found = read(world, watch)
    assert found.daily == (0, 0, 0), "100 BTC rose by 10 each, but not on this day"
    assert found.equity.value == venues_equity(world, D(110)) and watch.start.stale == ()
    at(world, "119.95", "120.05")
    assert read(world, watch).daily == (D(1000), D(0), D(1000)), "from now on it counts"


def test_a_day_begins_with_living_marks_however_long_a_round_of_looks_takes() -> None:
    """Each instrument is looked at once in a round, the others of it after: eight seconds, and 40 (4096 are 51)."""
    for round_ms in (8000, 40_000):
        world = ready_world()
        watch = EquityWatch(world.core)
        at(world, "99.95", "100.05")
        read(world, watch)
        assert watch.start is not None
        watch.start = msgspec.structs.replace(watch.start, day=0)  # midnight
        world.run(round_ms)
        world.core.context.now = world.now()
        watch.look([])
        assert watch.figures() is not None
        assert watch.start.stale == ()
        assert watch.mid(world.rows[0].instrument_id) == D(100)


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


ORB = {"mexc_spot": ("ORBUSDT", D("0.8")), "gateio_spot": ("ORB_USDT", D("5.6"))}


def test_two_coins_of_one_ticker_are_marked_apart_also_when_the_books_of_one_grow_old() -> None:
    """4000 of each; one median over both books was 3.2, and 0.8 once the other venue's book was old: 19,200 lost."""
    world = VirtualWorld("demo", 1)
    quotes = {(venue, symbol): Quote(price, qty=D(500)) for venue, (symbol, price) in ORB.items()}
    world.open(quotes | {("mexc_spot", "BTCUSDT"): Quote(D(64000)), ("gateio_spot", "BTC_USDT"): Quote(D(64000))})
    assert world.run_until(lambda: world.core.ready, limit_ms=5000)
    watch = EquityWatch(world.core)

    def figures() -> EquityFigures | None:
        world.core.context.now = world.now()
        watch.look(world.instruments)
        return watch.figures()

    figures()
    world.run(61_000)  # coins without a book are waited for
    before = figures()
    assert before is not None
    for venue, (_, price) in ORB.items():
        assert before.marks[f"ORB@{venue}"] == price
    usdt = sum((world.wallet(venue, "USDT") for venue in world.venues), D(0))
    btc = sum((world.wallet(venue, "BTC") for venue in ORB), D(0))
    assert before.equity.value == usdt + btc * 64000 + 4000 * (D("0.8") + D("5.6"))
    world.stalled.add("gateio_spot")
    world.run(61_000)
    after = figures()
    assert after is not None and after.equity.value == before.equity.value
    assert after.daily == (0, 0, 0)
