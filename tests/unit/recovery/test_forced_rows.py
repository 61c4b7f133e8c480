"""Rows of forced closes that a venue lists late: each movement is booked once, under one cause, over restarts too."""

from __future__ import annotations

from decimal import Decimal
from types import SimpleNamespace
from typing import Any

import pytest

from pipeline.execution.external import KEPT_MAX, LISTED, ExternalState, Unheld
from pipeline.execution.external_fills import EXTERNAL
from pipeline.execution.external_records import ExternalFillRecord, ExternalPositionRecord
from pipeline.execution.ledger import Ledger
from pipeline.execution.records import ExternalRecord
from pipeline.execution.settled.checkpoint import ledger_of, state_of
from pipeline.virtual.world import VirtualWorld
from tests.worlds.external_world import CONTRACT, FUTURES, MID, account_of, external_world, hedge, place, records

D = Decimal
STALE_MS = 31_000  # what the ledger expected longer ago is no stale answer any more


def hedged() -> VirtualWorld:
    world = external_world()
    hedge(world)
    world.run(STALE_MS)
    return world


def hide_rows(world: VirtualWorld) -> list[Any]:
    """The venue lists its forced closes later."""
    forced = account_of(world, FUTURES).forced
    rows = list(forced)
    forced.clear()
    return rows


def hide_trades(world: VirtualWorld, known: int) -> list[Any]:
    """Neither the stream nor the list shows what was executed since there were ``known`` trades."""
    trades = world.venues[FUTURES]._trades[account_of(world, FUTURES).uid]
    hidden = trades[known:]
    del trades[known:]
    return hidden


def trades_of(world: VirtualWorld) -> list[Any]:
    rows: list[Any] = world.venues[FUTURES]._trades[account_of(world, FUTURES).uid]
    return rows


def unheard(world: VirtualWorld) -> None:
    world.arm(kind="drop_event", venue=FUTURES, target="private", count=0)


def close_unheard(world: VirtualWorld, kind: str, qty: str) -> list[Any]:
    """A forced close of which only the position and the list of such closes tell; its trades."""
    known = len(trades_of(world))
    world.arm(kind=kind, venue=FUTURES, symbol=CONTRACT, amount=float(D(qty)))
    return hide_trades(world, known)


def foreign_unheard(world: VirtualWorld, signed: str) -> None:
    """Another client's order of which only the position tells."""
    known = len(trades_of(world))
    place(world, FUTURES, CONTRACT, D(signed))
    hide_trades(world, known)


def moved(world: VirtualWorld) -> list[tuple[Decimal, str]]:
    return [(row.qty - row.qty_before, row.cause) for row in records(world, ExternalPositionRecord)]


def replay_is_the_live_state(world: VirtualWorld) -> None:
    """So does a checkpoint; the position is the venue's. (Its money is, within what a wallet may differ.)"""
    ledger = world.core.ledger
    assert ledger.accounts.futures_qty(FUTURES, CONTRACT) == world.position(FUTURES, CONTRACT)
    replayed = Ledger()
    for entry in world.entries:
        replayed.apply(entry.record, entry.mono_ns, entry.wall_ns)
    assert replayed.digest() == ledger.digest()
    assert ledger_of(state_of(ledger)).external == ledger.external


@pytest.mark.parametrize("kill", [False, True])
def test_a_close_that_was_booked_before_its_row_was_listed_lends_its_cause_to_nothing_else(kill: bool) -> None:
    world = hedged()
    world.arm(kind="adl", venue=FUTURES, symbol=CONTRACT, amount=0.01)
    rows = hide_rows(world)
    assert world.run_until(lambda: bool(records(world, ExternalFillRecord)), limit_ms=5000)
    world.run(STALE_MS)
    account_of(world, FUTURES).forced.extend(rows)
    unheard(world)
    if kill:
        world.kill()
        world.run(STALE_MS)
    foreign_unheard(world, "0.01")
    world.run(5000)
    assert moved(world) == [(D("0.01"), "unlisted")]
    assert "venue.gateio_futures" in world.core.ledger.breakers
    replay_is_the_live_state(world)


@pytest.mark.parametrize("kill", [False, True])
def test_a_position_that_was_booked_before_its_row_was_listed_claims_it(kill: bool) -> None:
    world = hedged()
    unheard(world)
    close_unheard(world, "adl", "0.01")
    rows = hide_rows(world)
    world.run(5000)
    assert moved(world) == [(D("0.01"), "unlisted")]
    account_of(world, FUTURES).forced.extend(rows)
    if kill:
        world.kill()
    world.run(STALE_MS)
    foreign_unheard(world, "0.01")
    world.run(5000)
    assert moved(world) == [(D("0.01"), "unlisted"), (D("0.01"), "unlisted")]
    listed = [row for row in records(world, ExternalRecord) if row.what == LISTED]
    assert [(row.order_id, row.asset, row.amount) for row in listed] == [(str(rows[0].order_id), CONTRACT, D("0.01"))]
    replay_is_the_live_state(world)


@pytest.mark.parametrize("kill", [False, True])
def test_two_rows_of_one_movement_explain_no_second_one(kill: bool) -> None:
    world = hedged()
    unheard(world)
    for qty in ("0.005", "0.004"):
        close_unheard(world, "adl", qty)
    world.run(5000)
    assert moved(world) == [(D("0.009"), "adl")]
    if kill:
        world.kill()
    world.run(STALE_MS)
    foreign_unheard(world, "0.01")
    world.run(5000)
    assert moved(world) == [(D("0.009"), "adl"), (D("0.01"), "unlisted")]
    replay_is_the_live_state(world)


def test_a_forced_close_explains_no_position_that_grew() -> None:
    world = hedged()
    unheard(world)
    close_unheard(world, "adl", "0.01")
    foreign_unheard(world, "-0.03")
    world.run(5000)
    assert moved(world) == [(D("-0.02"), "unlisted")]
    world.run(STALE_MS)
    foreign_unheard(world, "0.01")
    world.run(5000)
    assert moved(world)[1:] == [(D("0.01"), "unlisted")]
    replay_is_the_live_state(world)


@pytest.mark.parametrize("kill", [False, True])
def test_executions_that_are_listed_after_their_position_was_booked_move_nothing_more(kill: bool) -> None:
    world = hedged()
    unheard(world)
    hidden = close_unheard(world, "adl", "0.01")
    world.run(5000)
    assert moved(world) == [(D("0.01"), "adl")]
    trades_of(world).extend(hidden)
    if kill:
        world.kill()
    else:
        world.core.recovery.account.question(FUTURES, CONTRACT)
    world.run(STALE_MS)
    late = records(world, ExternalFillRecord)
    assert [(row.qty, row.booked, row.cause) for row in late] == [(D("0.01"), False, "adl")]
    assert moved(world) == [(D("0.01"), "adl")], "and no correction follows"
    assert not world.core.ledger.external.unlisted_positions
    replay_is_the_live_state(world)


@pytest.mark.parametrize("closed", ["0.2", "0.5"])
def test_what_others_closed_without_a_listed_execution_is_lost_at_the_mark(closed: str) -> None:
    world = external_world()
    place(world, FUTURES, CONTRACT, D("0.5"))
    world.run(STALE_MS)
    trades = world.core.ledger.external.trades
    assert trades.contracts[FUTURES, CONTRACT].qty == D("0.5")
    fee = trades.realised["USDT"]
    unheard(world)
    world.market.move(FUTURES, CONTRACT, MID * D("0.95"))
    world.run(5000)
    foreign_unheard(world, f"-{closed}")
    world.run(5000)
    assert moved(world) == [(-D(closed), "unlisted")]
    assert fee - trades.realised["USDT"] == pytest.approx(D(closed) * MID * D("0.05"), rel=D("0.02"))
    replay_is_the_live_state(world)


def test_what_is_left_of_an_execution_without_a_holder_keeps_its_share_of_the_fee() -> None:
    """3 coins for a fee of 1: two operations that turn out to have held 1 and 2 of them pay 1 together."""
    state, key = ExternalState(), (FUTURES, CONTRACT)
    state.unheld[key] = [Unheld(D(-3), 1000, D(64000), D(1))]
    given = []
    for qty in (D(1), D(2)):
        (one,) = state.unheld[key]
        given.append(one.fee * qty / abs(one.signed))
        fill: Any = SimpleNamespace(venue=FUTURES, symbol=CONTRACT, source=EXTERNAL, venue_wall_ms=1000)
        state._found_holder(fill, -qty)
    assert key not in state.unheld and abs(sum(given) - 1) < D("1e-11")


def test_what_is_remembered_of_orders_and_rows_is_bounded() -> None:
    state = ExternalState()
    for number in range(KEPT_MAX + 100):
        state.note(ExternalRecord("venue", LISTED, "", str(number), f"liquidates {number}"))
    assert len(state.orders) + len(state.witnesses) == len(state.kept) == KEPT_MAX
    newest = KEPT_MAX + 99
    assert ("venue", str(newest)) in state.orders and ("venue", f"liquidates {newest}") in state.witnesses
    assert ("venue", "0") not in state.orders and ("venue", "liquidates 0") not in state.witnesses
