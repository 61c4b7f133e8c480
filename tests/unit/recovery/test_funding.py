"""Funding: the venue's bookings, each once, through lost pushes, late listings, refused questions and deaths."""

from __future__ import annotations

import asyncio
from decimal import Decimal

import pytest

from pipeline.exchanges.gateio.rest_client import make_client
from pipeline.execution.events import Command, CommandKind, FetchFunding, FundingAnswer
from pipeline.execution.ledger import Ledger
from pipeline.execution.records import FundingRecord
from pipeline.model.structs import Funding
from pipeline.model.venue_events import FundingNotice
from pipeline.recovery import funding
from pipeline.recovery.funding import INTERVAL_NS
from tests.worlds.exchange_world import World as Exchange
from tests.worlds.exchange_world import world as exchange
from tests.worlds.execution_world import MS, Faults, World

PAID, RECEIVED = Decimal("-1.234567890123"), Decimal("0.000000000007")


def hedged_world(seed: int = 1, faults: Faults | None = None) -> World:
    """READY, with a hedge open."""
    world = World(seed)
    world.run(400)
    world.feed(world.offer("gateio_spot", "gateio_futures"))
    world.run(200)
    assert world.core.ledger.hedges
    world.faults = faults or Faults()
    return world


def booked(world: World) -> list[FundingRecord]:
    return [entry.record for entry in world.entries if isinstance(entry.record, FundingRecord)]


def check(world: World, *amounts: Decimal) -> None:
    """Every payment once, and the account's flow is the venue's, to the last digit."""
    assert sorted(row.amount for row in booked(world)) == sorted(amounts)
    ledger = world.core.ledger
    fills = sum((f.fee for o in ledger.operations.values() for f in o.fills if f.venue == "gateio_futures"), Decimal(0))
    realised = ledger.accounts.futures["gateio_futures", "BTCUSDT"].realised
    assert ledger.accounts.flows["gateio_futures", "USDT"] == sum(amounts) - fills + realised
    again = Ledger()
    for entry in world.entries:
        again.apply(entry.record, entry.mono_ns, entry.wall_ns)
    assert again.digest() == ledger.digest()


def test_funding_noticed_by_the_stream_is_booked_at_once() -> None:
    world = hedged_world()
    before = world.core.ledger.total_pnl
    world.fund(PAID)
    world.fund(RECEIVED)
    world.run(1000)
    check(world, PAID, RECEIVED)
    assert world.core.ledger.total_pnl - before == PAID + RECEIVED
    assert not world.core.funding.pending


def test_funding_whose_push_was_lost_is_found_by_the_minutes_question() -> None:
    world = hedged_world(faults=Faults(drop_stream=1.0))
    world.fund(PAID)
    world.run(INTERVAL_NS / MS + 1000)
    check(world, PAID)


def test_a_booking_that_is_listed_late_is_asked_for_again() -> None:
    world = hedged_world()
    world.fund(PAID, listed_after_ms=3000)
    world.run(1000)
    assert not booked(world)
    assert world.core.funding.pending
    world.run(6000)
    check(world, PAID)


def test_what_was_booked_while_we_were_dead_is_booked_after_the_start() -> None:
    world = hedged_world()
    world.fund(PAID)
    world.run(500)
    world.life += 1  # dead: what the venue says now nobody hears
    world.fund(RECEIVED)
    world.run(7_200_000)
    world.fund(PAID)
    world.kill()
    world.run(1500)
    check(world, PAID, RECEIVED, PAID)


@pytest.mark.parametrize("seed", range(12))
def test_through_deaths_and_faults_each_payment_counts_once(seed: int) -> None:
    world = hedged_world(seed, Faults(drop_stream=0.4, rest_error=0.4, duplicate=0.5, late=0.5))
    amounts = []
    for number in range(6):
        amounts.append(PAID * (number + 1))
        world.fund(amounts[-1], listed_after_ms=world.rng.choice([0, 0, 400]))
        world.crash_after = world.rng.randint(0, 4)
        world.run(world.rng.randint(50, 900))
        world.kill()
    world.calm(70_000)
    check(world, *amounts)


def test_a_stop_waits_for_the_last_booking_and_for_no_longer() -> None:
    world = hedged_world(faults=Faults(drop_stream=1.0))
    world.fund(PAID)
    world.feed(Command(CommandKind.STOP, reason="test"))
    assert world.core.idle
    assert not world.core.finished
    world.run(500)
    check(world, PAID)
    assert world.core.finished
    world.faults = Faults(rest_error=1.0)
    world.feed(Command(CommandKind.STOP, reason="test"))
    world.run(500)
    assert not world.core.finished, "an answer that failed proves nothing"


def test_an_answer_to_an_earlier_question_does_not_end_the_wait_of_a_stop() -> None:
    """It may have left the venue before the newest payment was booked."""
    world = hedged_world(faults=Faults(drop_stream=1.0))
    world.run(INTERVAL_NS / MS)
    while not world.core.funding._venues["gateio_futures"].asked_mono_ns:
        world.run(1)
    asked = FundingAnswer("gateio_futures", ())  # what that question will be told
    world.fund(PAID)
    world.feed(Command(CommandKind.STOP, reason="end"))
    world.feed(asked)
    assert world.core.funding.pending and not booked(world)
    world.run(1000)
    check(world, PAID)
    assert not world.core.funding.pending


def test_what_a_venue_paid_before_its_first_balances_is_not_ours_though_the_journal_had_begun() -> None:
    """Its key came later, or it could not be reached: the payment is in the balances that are taken then."""
    world = World(3)
    world.up["gateio_futures"] = False
    world.run(1000)
    world.fund(PAID)
    world.run(5000)
    world.up["gateio_futures"] = True
    world.kill()
    world.run(INTERVAL_NS / MS + 5000)
    ledger = world.core.ledger
    assert "gateio_futures" in ledger.based_wall_ms and not booked(world)
    assert ledger.total_pnl == ledger.day_pnl == 0
    assert ledger.expected_balance("gateio_futures", "USDT") == world.venues["gateio_futures"].balances["USDT"]
    world.fund(RECEIVED)
    world.run(INTERVAL_NS / MS + 5000)
    assert [row.amount for row in booked(world)] == [RECEIVED]


def test_what_the_account_paid_before_the_journal_began_is_not_ours() -> None:
    world = World(3)
    old = Funding(
        venue="gateio_futures", symbol="BTCUSDT", event_id="old", asset="USDT", amount=PAID,
        venue_wall_ms=world.now().wall_ms - 1,
    )  # fmt: skip
    world.venues["gateio_futures"].funding.append(old)
    world.run(1000)
    assert not booked(world)


def test_a_payment_in_the_second_of_the_first_balances_is_ours_where_the_stream_told_of_it() -> None:
    """Venues list it by the whole second, which is before them."""
    world = World(3)
    world.run(300)
    began = world.core.ledger.based_wall_ms["gateio_futures"] // 1000 * 1000 + 265
    world.core.ledger.based_wall_ms["gateio_futures"] = began
    noticed, silent = (
        Funding(
            venue="gateio_futures", symbol=symbol, event_id=symbol, asset="USDT", amount=PAID,
            venue_wall_ms=began // 1000 * 1000,
        )
        for symbol in ("BTCUSDT", "ETHUSDT")
    )  # fmt: skip
    assert noticed.venue_wall_ms < began
    world.venues["gateio_futures"].funding += [noticed, silent]
    world.feed(
        FundingNotice(
            venue=noticed.venue, symbol=noticed.symbol, venue_wall_ms=noticed.venue_wall_ms, recv_mono_ns=world.now_ns
        )
    )
    world.run(2000)
    assert [record.event_id for record in booked(world)] == ["BTCUSDT"]
    assert not world.core.funding.pending


def test_an_answer_is_counted_once_however_often_it_comes() -> None:
    world = hedged_world()
    world.fund(PAID)
    world.run(500)
    answer = FundingAnswer("gateio_futures", tuple(world.venues["gateio_futures"].funding))
    for _ in range(3):
        world.feed(answer)
    check(world, PAID)


async def futures_with_a_position(at: Exchange) -> None:
    from pipeline.model.enums import OrderKind, OrderSide, TimeInForce
    from pipeline.sim.exchange.orders import SimOrderRequest

    venue = at.server.venues["gateio_futures"]
    for symbol in ("BTC_USDT", "ETH_USDT"):
        venue.place(
            next(iter(venue.accounts.values())),
            SimOrderRequest(
                symbol=symbol, side=OrderSide.SELL, kind=OrderKind.MARKET, tif=TimeInForce.IOC,
                qty=venue.instruments[symbol].lot * 3,
            ),
        )  # fmt: skip


def test_the_client_reads_every_page_of_the_account_book() -> None:
    rows, paid = asyncio.run(read_every_page())
    assert len(rows) == len({row.event_id for row in rows}) == 120
    assert sum(row.amount for row in rows) == paid != 0
    assert {row.symbol for row in rows} == {"BTC_USDT", "ETH_USDT"}


async def read_every_page() -> tuple[list[Funding], Decimal]:
    """The client's rows, and what the venue's ledger has moved."""
    async with exchange() as at:
        await futures_with_a_position(at)
        client = make_client(at.venue("gateio_futures"), at.credentials("gateio_futures"))
        try:
            since = await client.server_time_ms() - 1000
            for _ in range(60):
                at.fault(kind="funding", venue="gateio_futures")
            rows = await client.funding(since)
        finally:
            await client.close()
        return rows, at.server.ledger.by_reason()["gateio_futures"]["fund"]["USDT"]


def test_a_spot_venue_pays_no_funding() -> None:
    assert asyncio.run(ask_a_spot_venue()) == []


async def ask_a_spot_venue() -> list[Funding]:
    async with exchange() as at:
        client = make_client(at.venue("gateio_spot"), at.credentials("gateio_spot"))
        try:
            return await client.funding(0)
        finally:
            await client.close()


def test_questions_reach_back_behind_the_newest_booking_but_never_before_the_first_balances(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(funding, "SINCE_MARGIN_MS", 60_000)
    world = hedged_world()
    asked = [action for action in world.core.funding._context.drain() if isinstance(action, FetchFunding)]
    assert not asked
    based_ms = world.core.ledger.based_wall_ms["gateio_futures"]
    assert world.core.funding._since_ms("gateio_futures") == based_ms // 1000 * 1000
    world.run(100_000)
    world.fund(PAID)
    world.run(500)
    since = world.core.funding._since_ms("gateio_futures")
    assert based_ms < since < booked(world)[0].venue_wall_ms
