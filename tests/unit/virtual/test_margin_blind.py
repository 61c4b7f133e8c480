"""The margin watch while the venue shows no account, or rows without a mark: it goes by our own book and formula."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from pipeline.execution.events import AddMargin, MarginAnswer
from pipeline.model.structs import Position
from pipeline.trade_state import Effect, Lasting, Reason, executor_reasons
from pipeline.virtual.margin_storm import BASIS, FUTURES, MID, PAIR, QTY, SPOT, SYMBOL, Storm, storm_world
from pipeline.virtual.market import Quote
from pipeline.virtual.venue_link import VenueLink
from pipeline.virtual.venue_rows import VenueRows
from pipeline.virtual.world import VirtualWorld

D = Decimal
ROWS_GONE = {"kind": "http_error", "venue": FUTURES, "target": "balances", "status": 503, "count": 1_000_000}
NO_BUFFER, BUFFER = Storm(), Storm(buffer=D("0.3"))


def climb(world: VirtualWorld, factor: str, *, seconds: float) -> None:
    """Both legs go to ``factor`` of their price in equal steps."""
    for name in (SPOT, FUTURES):
        start = world.market.quotes[name, SYMBOL].mid

        def at(elapsed_s: float, start: Decimal = start) -> Decimal:
            part = min(D(1), D(repr(round(elapsed_s / seconds, 6))))
            return start * (1 + (D(factor) - 1) * part)

        world.market.follow([(name, SYMBOL)], at, seconds=seconds, step_ms=100)
    world.run(seconds * 1000)


def without_marks(monkeypatch: pytest.MonkeyPatch) -> None:
    """The venue's rows come, and say 0 where their mark price stands."""
    shown: Callable[[VenueRows], list[Position]] = VenueRows.positions

    def positions(rows: VenueRows) -> list[Position]:
        return [msgspec.structs.replace(row, mark_price=D(0), liquidation_price=None) for row in shown(rows)]

    monkeypatch.setattr(VenueRows, "positions", positions)


def nothing_was_liquidated(world: VirtualWorld) -> None:
    """Nothing was forced, something was done, and the legs were reduced together."""
    assert world.run_until(lambda: not world.core.ledger.open_operations, limit_ms=10_000)
    assert not world.ledger.of_kind("forced")
    watch = world.core.margin
    assert watch.cuts + watch.closes > 0 or watch.added > 0
    spot = world.core.positions.delta().get("BTC", D(0)) - world.position(FUTURES, SYMBOL)
    assert abs(spot + world.position(FUTURES, SYMBOL)) < QTY * D("0.01")


def rows_reasons(world: VirtualWorld) -> list[Reason]:
    return [reason for reason in executor_reasons(world.core) if reason.what.startswith(f"account of {FUTURES}")]


@pytest.mark.parametrize("up", [True, False])
@pytest.mark.parametrize("storm", [NO_BUFFER, BUFFER])
def test_without_account_rows_both_legs_are_reduced_before_the_venue_liquidates(storm: Storm, up: bool) -> None:
    world = storm_world(storm, 1, up=up)
    world.run(2000)
    world.arm(**ROWS_GONE)
    climb(world, "1.6" if up else "0.4", seconds=60)
    nothing_was_liquidated(world)
    assert any(alert.code == "margin" and "own book" in alert.text for alert in world.alerts)


def test_a_position_that_no_row_ever_showed_is_watched_too() -> None:
    world = storm_world(NO_BUFFER, 1, up=True)
    world.arm(**ROWS_GONE)
    world.kill()  # the next life reads the journal, and the venue's sweeps, and no row of the account poller
    assert world.run_until(lambda: world.core.ready, limit_ms=20_000)
    climb(world, "1.6", seconds=60)
    nothing_was_liquidated(world)


@pytest.mark.parametrize("up", [True, False])
def test_rows_without_a_mark_are_watched_by_our_own_book(monkeypatch: pytest.MonkeyPatch, up: bool) -> None:
    world = storm_world(NO_BUFFER, 1, up=up)
    world.run(2000)
    without_marks(monkeypatch)
    climb(world, "1.6" if up else "0.4", seconds=60)
    nothing_was_liquidated(world)
    assert not world.ledger.of_kind("forced") and world.core.margin.cuts + world.core.margin.closes > 0


def test_after_five_seconds_without_rows_the_one_answer_says_so_until_they_come_again() -> None:
    world = storm_world(BUFFER, 1, up=True)
    world.run(2000)
    rule = world.arm(**ROWS_GONE)
    world.run(4000)
    assert not rows_reasons(world)
    world.run(2000)
    (reason,) = rows_reasons(world)
    assert reason.venues == (FUTURES,)
    assert reason.effect >= Effect.DEGRADES and "arb status" in reason.solve
    world.faults.remove(rule)
    world.run(1000)
    assert not rows_reasons(world)


def entry(world: VirtualWorld, **changes: Any) -> None:
    """The opportunity that the world was opened with, once more."""
    for name in (SPOT, FUTURES):
        world.market.quote(name, SYMBOL, Quote(MID * BASIS if name == FUTURES else MID, qty=QTY))
    world.run(1000)
    offered = world.opportunity(SPOT, FUTURES, PAIR, qty=QTY / 10, **changes)
    assert offered is not None
    world.feed(offered)


def test_no_entry_goes_to_a_venue_whose_positions_nobody_shows() -> None:
    """Its balances are proved all the same: the private stream and its questions answer."""
    world = storm_world(Storm(buffer=D(2)), 1, up=True)
    world.run(2000)
    hedges = len(world.core.ledger.hedges)
    entry(world)
    world.run(3000)
    assert len(world.core.ledger.hedges) > hedges
    world.arm(**ROWS_GONE)
    world.run(6000)
    hedges, orders = len(world.core.ledger.hedges), len(world.core.ledger.orders)
    entry(world)
    world.run(3000)
    assert (len(world.core.ledger.hedges), len(world.core.ledger.orders)) == (hedges, orders)


def test_neither_rows_nor_a_book_is_a_reason_and_an_alarm() -> None:
    world = storm_world(NO_BUFFER, 1, up=True)
    world.run(2000)
    world.arm(**ROWS_GONE)
    world.stalled.add(FUTURES)
    world.run(8000)
    seen = Lasting()
    for effect in (Effect.NOTE, Effect.DEGRADES):
        (reason,) = [one for one in executor_reasons(world.core, None, seen) if "no live book" in one.what]
        assert (reason.effect, reason.venues, reason.symbol) == (effect, (FUTURES,), SYMBOL)
        world.run(6000)
    critical = [alert for alert in world.alerts if alert.severity == 2 and "no live book" in alert.text]
    assert len(critical) == 1


@pytest.mark.parametrize(("error", "refused"), [("HTTP 503", False), ("RISK_LIMIT", True)])
def test_margin_that_the_venue_does_not_take_does_not_keep_the_watch_from_cutting(
    monkeypatch: pytest.MonkeyPatch, error: str, refused: bool
) -> None:
    asked: list[AddMargin] = []

    def not_taken(link: VenueLink, action: AddMargin) -> None:
        asked.append(action)
        link.later(MarginAnswer(action.venue, action.symbol, action.amount, error, refused))

    monkeypatch.setattr(VenueLink, "add_margin", not_taken)
    world = storm_world(BUFFER, 1, up=True)
    climb(world, "1.6", seconds=60)
    assert asked and not world.ledger.of_kind("forced")
    assert world.core.margin.cuts > 0


@pytest.mark.parametrize("lost", ["drop_request", "drop_response", "taken, no answer"])
def test_margin_whose_answer_is_lost_is_added_again_where_it_did_not_come_and_nothing_is_cut(
    monkeypatch: pytest.MonkeyPatch, lost: str
) -> None:
    world = storm_world(BUFFER, 1, up=True)
    world.run(2000)
    asked: list[AddMargin] = []
    add_margin = VenueLink.add_margin

    def counted(link: VenueLink, action: AddMargin) -> None:
        asked.append(action)
        if lost == "taken, no answer" and len(asked) == 1:
            venue, account = link.venue, link.account
            venue.settlement.add_margin(
                account, venue.position(account, SYMBOL), action.amount, venue.margin_account(account).available
            )
            link.later(MarginAnswer(action.venue, action.symbol, action.amount, "no answer in 5 s"))
        else:
            add_margin(link, action)

    monkeypatch.setattr(VenueLink, "add_margin", counted)
    if lost.startswith("drop"):
        world.arm(kind=lost, venue=FUTURES, target="leverage", count=1)
    climb(world, "1.2", seconds=10)
    world.run(3000)
    watch = world.core.margin
    assert asked and watch.cuts == watch.closes == 0 and not world.ledger.of_kind("forced")
    assert world.core.ledger.hedges and (watch.added > 0 or lost == "taken, no answer")
    assert any("not known to be added" in alert.text for alert in world.alerts)


def test_what_was_added_blind_is_counted_once() -> None:
    """The free balance is as old as the rows: what was added of it since is gone, and is margin."""
    world = storm_world(BUFFER, 1, up=True)
    world.run(2000)
    free = world.core.balances.usable(FUTURES, "USDT", reducing=True)
    world.arm(**ROWS_GONE)
    climb(world, "1.2", seconds=10)
    world.run(5000)
    watch = world.core.margin
    assert 0 < watch.added <= free and watch.cuts == 0
    reading = world.core.risk.gate.margin.readings[FUTURES, SYMBOL]
    shown = world.venues[FUTURES].position(next(iter(world.venues[FUTURES].accounts.values())), SYMBOL)
    assert abs(reading.position.margin - shown.margin) < D("0.01")
    venue = world.venues[FUTURES]
    price = venue.liquidation_price(next(iter(venue.accounts.values())), shown)
    assert price is not None and reading.own_liquidation is not None
    assert abs(reading.own_liquidation / price - 1) < D("0.0005")


def test_pauses_that_other_exits_have_earned_do_not_delay_a_cut() -> None:
    world = storm_world(NO_BUFFER, 1, up=True)
    world.run(2000)
    (hedge, *_) = world.core.ledger.hedges.values()
    attempts = world.core.hedges.attempts
    for _ in range(8):
        attempts.attempted(hedge)  # an exit by rule, within narrow bounds
    world.run(600)
    assert not attempts.is_due(hedge) and attempts.is_due(hedge, urgent=True)
    for name in (SPOT, FUTURES):
        world.market.move(name, SYMBOL, world.market.quotes[name, SYMBOL].mid * D("1.28"))
    world.run(1500)
    watch = world.core.margin
    assert watch.cuts + watch.closes > 0, "its distance fell only now"
    assert not world.ledger.of_kind("forced")


@pytest.mark.parametrize("blind", [True, False])
def test_cuts_that_the_venues_refuse_are_paced(blind: bool) -> None:
    """Each look, ten a second without rows, sent both legs again."""
    world = storm_world(NO_BUFFER, 1, up=True)
    world.run(2000)
    rows = world.arm(**ROWS_GONE) if blind else 0
    world.run(4000)
    refused = {"kind": "reject", "target": "place", "reason": "insufficient_margin", "count": 1_000_000}
    rules = [world.arm(**refused, venue=venue) for venue in (SPOT, FUTURES)]
    watch, orders = world.core.margin, world.core.ledger.orders
    before = len(orders)
    for name in (SPOT, FUTURES):
        world.market.move(name, SYMBOL, world.market.quotes[name, SYMBOL].mid * D("1.28"))
    world.run(12_000)
    assert 2 <= watch.cuts + watch.closes <= 24, "pauses of 250 ms, then of 500 ms: each moment may be the last"
    assert 4 <= len(orders) - before <= 96
    for rule in [*rules, *([rows] if blind else [])]:
        world.faults.remove(rule)
    assert world.run_until(lambda: not world.core.ledger.hedges, limit_ms=8000)
    assert not world.ledger.of_kind("forced")
