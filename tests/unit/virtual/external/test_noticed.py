"""Every kind of external event is in the journal within five seconds of the venue's stamp of it, heard or polled."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal

import pytest

from pipeline.execution.events import Now
from pipeline.execution.external_records import ExternalFillRecord, ExternalFlowRecord
from pipeline.model.venue_events import MoneyNotice
from pipeline.trade_state import MOVED_NS, Effect, executor_reasons
from pipeline.virtual.world import VirtualWorld
from tests.worlds.external_world import CONTRACT, FUTURES, external_world, force, hedge, judge, place, records

D = Decimal
NOTICED_NS = 5_000_000_000


def _force(kind: str, qty: str) -> Callable[[VirtualWorld], None]:
    return lambda world: _arm(world, kind=kind, venue=FUTURES, symbol=CONTRACT, amount=float(qty))


def _money(kind: str, venue: str, asset: str, amount: float) -> Callable[[VirtualWorld], None]:
    return lambda world: _arm(world, kind=kind, venue=venue, asset=asset, amount=amount)


def _arm(world: VirtualWorld, **rule: object) -> None:
    world.arm(**rule)


#: name -> (venue, what happens there, cause of its record, kind of the venue's own row, that row's reason or "")
EVENTS: dict[str, tuple[str, Callable[[VirtualWorld], None], str, str, str]] = {
    "liquidation": (FUTURES, _force("liquidate", "0.0299"), "liquidation", "fill", ""),
    "partial liquidation": (FUTURES, _force("liquidate", "0.01"), "liquidation", "fill", ""),
    "whole deleveraging": (FUTURES, _force("adl", "0.0299"), "adl", "fill", ""),
    "partial deleveraging": (FUTURES, _force("adl", "0.01"), "adl", "fill", ""),
    "foreign futures order": (FUTURES, lambda world: place(world, FUTURES, CONTRACT, D("0.01")), "order", "fill", ""),
    "foreign spot order": (
        "gateio_spot",
        lambda world: place(world, "gateio_spot", "BTC_USDT", D("0.2")),
        "order",
        "fill",
        "",
    ),
    "foreign spot order at mexc": (
        "mexc_spot",
        lambda world: place(world, "mexc_spot", "BTCUSDT", D("-0.2")),
        "order",
        "fill",
        "",
    ),
    "deposit": ("gateio_spot", _money("deposit", "gateio_spot", "USDT", 1500), "deposit", "entry", "deposit"),
    "deposit of coins": ("mexc_spot", _money("deposit", "mexc_spot", "BTC", 0.5), "deposit", "entry", "deposit"),
    "withdrawal": ("mexc_spot", _money("withdraw", "mexc_spot", "USDT", 2500), "withdrawal", "entry", "withdraw"),
    "withdrawal of margin": (FUTURES, _money("withdraw", FUTURES, "USDT", 1000), "transfer", "entry", "withdraw"),
    "settlement": (
        FUTURES,
        lambda world: _arm(
            world, kind="announce_delisting", venue=FUTURES, symbol=CONTRACT, delay_ms=1000, duration_ms=1000
        ),
        "settlement",
        "fill",
        "",
    ),
}


@pytest.mark.parametrize("heard", [True, False], ids=["push", "poll"])
@pytest.mark.parametrize("name", EVENTS)
def test_an_external_event_is_booked_within_five_seconds_of_the_venues_stamp(name: str, heard: bool) -> None:
    venue, happens, cause, row_kind, reason = EVENTS[name]
    world = external_world()
    hedge(world)
    world.run(2000)
    if not heard:
        world.arm(kind="drop_event", venue=venue, target="private", count=0)
    before = len(world.ledger.rows)
    happens(world)
    world.run(12_000)
    stamps = [
        row["mono_ns"]
        for row in world.ledger.rows[before:]
        if row["kind"] == row_kind and row["venue"] == venue
        if (row["reason"] == reason if reason else not row["client_id"])
    ]
    booked = [
        (entry.mono_ns, entry.record)
        for entry in world.entries
        if isinstance(entry.record, (ExternalFillRecord, ExternalFlowRecord))
        and entry.record.venue == venue
        and entry.record.cause == cause
    ]
    assert stamps and booked, (stamps, [type(entry.record).__name__ for entry in world.entries[-20:]])
    assert max(at for at, _ in booked) - min(stamps) <= NOTICED_NS
    assert all(at >= min(stamps) for at, _ in booked)
    assert all(record.witness not in ("push", "poll") for _, record in booked), "a list of the venue proves it"
    said = [reason for reason in executor_reasons(world.core) if reason.what.startswith(f"moved by others: {venue} ")]
    apart_ns = world.clock.wall_ns() - world.clock.mono_ns()
    assert max(reason.since_wall_ns for reason in said) - apart_ns - min(stamps) <= NOTICED_NS, "in `arb status`, too"
    assert all(cause in reason.what and reason.effect is Effect.NOTE for reason in said)
    judge(world)


def test_what_was_moved_is_said_for_an_hour() -> None:
    world = external_world()
    hedge(world)
    at_ns = force(world, "adl", D("0.01"))
    world.run(4000)
    context = world.core.context
    said_ms = (MOVED_NS - (world.clock.mono_ns() - at_ns)) // 1_000_000
    (text,) = [one.what for one in executor_reasons(world.core) if "adl: BUY 0.01 BTC_USDT" in one.what]
    for later_ms, found in ((said_ms - 10_000, [text]), (said_ms + 10_000, [])):
        now = context.now
        context.now = Now(now.mono_ns, now.wall_ns + later_ms * 1_000_000)
        assert [one.what for one in executor_reasons(world.core) if one.what == text] == found
        context.now = now


def test_the_breaker_says_whose_order_it_was_in_plain_digits() -> None:
    world = external_world()
    world.run(2000)
    place(world, "gateio_spot", "BTC_USDT", D("0.2"))
    name = "venue.gateio_spot"
    assert world.run_until(lambda: name in world.core.ledger.breakers, limit_ms=6000)
    assert "order of another client: BUY 0.2 BTC_USDT at " in str(world.core.ledger.breakers[name])


def test_a_notice_of_a_coin_that_the_account_never_had_puts_nothing_in_doubt() -> None:
    """The sweep that it asks for takes the first balance of the coin; nothing is there that could differ."""
    world = external_world()
    account = world.core.recovery.account
    at_ns = world.clock.mono_ns()
    world.feed(MoneyNotice(venue="mexc_spot", asset="PEPE", amount=D(5), reason="deposit", recv_mono_ns=at_ns))
    assert not account.doubts
    world.arm(kind="deposit", venue="mexc_spot", asset="PEPE", amount=5)
    world.run(3000)
    assert world.core.ledger.expected_balance("mexc_spot", "PEPE") == D(5) and not account.doubts
    judge(world)


@pytest.mark.parametrize(("kill", "held_ms"), [(False, 600_000), (True, 3000)])
def test_a_leg_that_is_taken_stands_alone_since_then_and_not_since_the_hedge_was_opened(
    kill: bool, held_ms: int
) -> None:
    """A coin's remainder that no contract could match was dust all the time: it adds no naked time either."""
    world = external_world(max_unhedged_ms=2000, max_naked_usd_s=D(900) if kill else D(200))
    hedge(world)
    world.run(held_ms)
    for venue in ("gateio_spot", "mexc_spot"):
        world.arm(kind="delay_request", venue=venue, target="place", count=1, delay_ms=300)
    force(world, "adl", D("0.005"))
    if kill:
        world.run(200)
        world.kill()
    assert world.run_until(lambda: bool(records(world, ExternalFillRecord)), limit_ms=5000)
    assert world.run_until(lambda: not world.core.ledger.open_operations, limit_ms=5000)
    alerts = [alert.text for alert in world.alerts if alert.code == "unhedged"]
    assert not alerts and not world.core.ledger.breakers
    judge(world)
