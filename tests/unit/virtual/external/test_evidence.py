"""Fills that cannot be, journals that lack what happened, a second engine: on virtual time, the simulator judges."""

from __future__ import annotations

from dataclasses import replace
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from pipeline.execution.core_context import epoch_of
from pipeline.execution.events import CommandKind, Now
from pipeline.execution.external_records import ExternalFillRecord, HeldFillRecord
from pipeline.execution.external_shares import coins_of_others
from pipeline.execution.market import Instruments
from pipeline.execution.records import AdoptedRecord, FillRecord
from pipeline.model.enums import OrderSide, Refusal
from pipeline.model.errors import BadInput
from pipeline.recovery.external_book import forced_cause
from pipeline.sim.exchange.events import TradeEvent
from pipeline.sim.exchange.latency import NS_PER_S
from pipeline.trade_state import Effect, executor_reasons
from pipeline.virtual.market import Quote
from pipeline.virtual.venue_rows import fill_of
from pipeline.virtual.world import VirtualWorld
from tests.worlds.execution_starts import Operator
from tests.worlds.external_world import (
    CONTRACT,
    FUTURES,
    MID,
    external_world,
    hedge,
    judge,
    naked_ms,
    place,
    records,
    repairs,
    spot_trade,
    venue_delta,
)

D = Decimal


@pytest.mark.parametrize("kill", [False, True])
def test_a_fill_beyond_its_order_waits_for_rest_and_nothing_is_repaired_from_it(kill: bool) -> None:
    world = external_world()
    world.arm(kind="overfill", venue="gateio_spot", target="private", count=1)
    spot_trade(world)
    assert world.run_until(lambda: bool(records(world, HeldFillRecord)), limit_ms=1000)
    if kill:
        world.kill()
    world.run(3000)
    assert "bad_fill" in world.core.ledger.breakers
    fills = {(r.venue, r.trade_id): r.qty for r in records(world, FillRecord)}
    theirs = {(r["venue"], r["trade_id"]): r["qty"] for r in world.ledger.of_kind("fill")}
    assert fills == theirs
    assert not repairs(world) and not world.core.ledger.open_operations and not world.core.ledger.external.held
    judge(world)


def changed_stream(world: VirtualWorld, venue: str, **changes: Any) -> None:
    """The venue's stream reports the next execution otherwise than it was; REST tells the truth."""
    sim, push = world.venues[venue], world.venues[venue]._push
    left = [1]

    def altered(account: Any, event: Any) -> None:
        if isinstance(event, TradeEvent) and left:
            left.clear()
            event = replace(event, trade=replace(event.trade, **changes))
        push(account, event)

    sim._push = altered  # type: ignore[method-assign]


@pytest.mark.parametrize("changes", [{"side": OrderSide.BUY}, {"price": D(1000)}])
def test_a_fill_of_the_wrong_side_or_beyond_its_limit_waits_for_rest(changes: dict[str, Any]) -> None:
    world = external_world()
    changed_stream(world, "gateio_spot", **changes)
    spot_trade(world)
    world.run(3000)
    assert len(records(world, HeldFillRecord)) == 1
    assert "bad_fill" in world.core.ledger.breakers
    assert not repairs(world) and not world.core.ledger.open_operations
    judge(world)


def test_a_fill_without_its_fees_asset_is_confirmed_and_trips_nothing() -> None:
    world = external_world()
    changed_stream(world, "gateio_spot", fee_asset="", fee=D(0))
    spot_trade(world)
    world.run(3000)
    assert [row.reason for row in records(world, HeldFillRecord)] == ["no fee asset"]
    assert not world.core.ledger.breakers and not repairs(world)
    judge(world)


def test_a_fill_that_no_venue_lists_is_denied() -> None:
    world = external_world()
    spot_trade(world)
    world.run(2000)
    true = next(r for r in records(world, FillRecord) if r.venue == "gateio_spot")
    link = world.links["gateio_spot"]
    trade = next(t for rows in world.venues["gateio_spot"]._trades.values() for t in rows if t.client_id)
    world.feed(fill_of(link.venue, replace(trade, trade_id=1, qty=true.qty), "ws"))
    assert [row.state for row in records(world, HeldFillRecord)] == ["held"]
    world.run(10_000)
    assert [row.state for row in records(world, HeldFillRecord)] == ["held", "denied"]
    assert not world.core.ledger.unsettled and not world.core.ledger.open_operations and not repairs(world)
    judge(world)


# --- journals that lack what happened ---


def blocked(world: VirtualWorld) -> bool:
    spot_trade(world)
    return world.refusals[-1:] == [Refusal.BREAKER]


def test_a_lost_journal_with_a_position_halts_until_it_is_adopted() -> None:
    world = external_world()
    hedge(world)
    held = -world.position(FUTURES, CONTRACT)
    world.entries.clear()
    world.kill()
    world.run(2000)
    assert "unknown_past" in world.core.ledger.breakers and blocked(world)
    world.command(CommandKind.REARM, "unknown_past")
    assert "unknown_past" in world.core.ledger.breakers, "only adoption releases it"
    world.command(CommandKind.ADOPT, reason="journal lost")
    assert [(r.what, r.venue, r.symbol, r.qty) for r in world.core.adopted] == [("hedge", FUTURES, CONTRACT, -held)]
    assert "unknown_past" not in world.core.ledger.breakers
    (adopted,) = world.core.ledger.hedges.values()
    assert (adopted.qty, adopted.spot_side) == (held, OrderSide.BUY)
    assert world.core.ledger.accounts.futures_qty(FUTURES, CONTRACT) == -held
    assert world.core.ledger.total_pnl == 0
    world.kill()
    world.run(2000)
    assert not world.core.ledger.breakers and len(world.core.ledger.hedges) == 1
    world.market.move(FUTURES, CONTRACT, D(64000))
    world.run(100)
    world.command(CommandKind.CLOSE_HEDGES)
    world.run(3000)
    assert not world.core.ledger.hedges and world.position(FUTURES, CONTRACT) == 0
    assert not coins_of_others(world.core.ledger), "its coins were its own: closing it leaves nothing of others"
    delta = world.core.positions.delta()
    assert {a: q for a, q in delta.items() if q and a != "USDT"} == world.core.positions.targets()


@pytest.mark.parametrize("closed", [False, True])
def test_a_position_on_a_contract_that_the_catalogue_lacks_is_listed_and_not_adopted(closed: bool) -> None:
    world = external_world()
    hedge(world)
    held = -world.position(FUTURES, CONTRACT)
    world.entries.clear()
    world.kill()
    world.run(2000)
    context = world.core.context
    whole = list(context.instruments)
    context.instruments = Instruments(row for row in whole if (row.spec.venue, row.spec.symbol) != (FUTURES, CONTRACT))
    world.command(CommandKind.ADOPT, reason="journal lost")
    assert [(r.what, r.venue, r.symbol, r.qty) for r in world.core.adopted] == [("left", FUTURES, CONTRACT, -held)]
    assert "unknown_past" in world.core.ledger.breakers and not records(world, AdoptedRecord)
    if closed:
        place(world, FUTURES, CONTRACT, held)
        world.run(2000)
    else:
        context.instruments = Instruments(whole)
    world.command(CommandKind.ADOPT, reason="once more")
    assert [r.what for r in world.core.adopted] == ([] if closed else ["hedge"])
    assert "unknown_past" not in world.core.ledger.breakers
    assert len(world.core.ledger.hedges) == (not closed)


def test_adoption_waits_until_every_venue_has_been_swept_once(tmp_path: Path) -> None:
    """Trading need not wait for a venue that hangs, but what is taken over is listed whole, in one go."""
    world = external_world()
    hedge(world)
    world.entries.clear()
    world.arm(kind="delay_request", venue="mexc_spot", target="finished_orders", count=0, delay_ms=20_000)
    world.kill()
    world.run(6000)
    core, operator = world.core, Operator(world, tmp_path)
    assert core.ready and set(core.recovery.awaited()) == {"mexc_spot"}
    with pytest.raises(BadInput, match=r"mexc_spot \(being asked\) not swept yet"):
        operator.ask("adopt", reason="journal lost")
    assert "unknown_past" in core.ledger.breakers
    world.run(20_000)
    found = operator.ask("adopt", reason="journal lost")["adopted"]
    assert ("hedge", FUTURES) in [(row["what"], row["venue"]) for row in found]
    world.run(60_000)
    assert "unknown_past" not in core.ledger.breakers, "nothing that was found later needs a second adoption"


def test_an_older_journal_without_an_entry_takes_the_hedge_over_with_its_own_coins() -> None:
    world = external_world()
    world.run(1000)
    old = list(world.entries)
    hedge(world)
    held = -world.position(FUTURES, CONTRACT)
    world.entries[:] = old
    world.kill()
    world.run(6000)
    assert "unknown_past" in world.core.ledger.breakers
    assert {row.cause for row in records(world, ExternalFillRecord)} == {"engine"}
    judge(world)
    world.command(CommandKind.ADOPT, reason="restored from a copy")
    assert ("hedge", -held) in [(r.what, r.qty) for r in world.core.adopted]
    (adopted,) = world.core.ledger.hedges.values()
    assert (adopted.qty, adopted.spot_venue) == (held, "gateio_spot")
    judge(world)


def test_an_older_journal_without_an_exit_closes_its_hedge_and_sells_nothing_twice() -> None:
    world = external_world()
    hedge(world)
    world.run(500)
    old = list(world.entries)
    world.command(CommandKind.CLOSE_HEDGES)
    world.run(2000)
    assert world.position(FUTURES, CONTRACT) == 0
    orders = len(world.ledger.of_kind("fill"))
    world.entries[:] = old
    world.kill()
    world.run(6000)
    assert "unknown_past" in world.core.ledger.breakers and len(world.core.ledger.hedges) == 1
    world.command(CommandKind.ADOPT, reason="restored from a copy")
    world.run(2000)
    assert "closed" in [r.what for r in records(world, AdoptedRecord)]
    assert not world.core.ledger.hedges and not world.core.ledger.open_operations
    assert len(world.ledger.of_kind("fill")) == orders, "nothing was traded"
    judge(world)


@pytest.mark.parametrize("how", ["by choice", "by command", "because it must"])
def test_a_hedge_that_an_earlier_run_has_left_does_not_leave_again_before_it_is_taken_over(how: str) -> None:
    """Its contract is gone, the journal does not know: another order for it would open the other way."""
    world = external_world()
    hedge(world)
    world.run(500)
    old = list(world.entries)
    world.command(CommandKind.CLOSE_HEDGES)
    world.run(2000)
    fills = len(world.ledger.of_kind("fill"))
    world.entries[:] = old
    world.kill()
    world.run(6000)
    (known,) = world.core.ledger.hedges.values()
    if how == "by choice":
        world.market.move("gateio_spot", CONTRACT, MID)
        world.market.move(FUTURES, CONTRACT, MID * D("0.98"))  # far below any threshold
        world.run(3000)
        assert world.core.hedges.exit_rows() == []
    elif how == "by command":
        world.command(CommandKind.CLOSE_HEDGES)
        world.run(3000)
        assert "arb resume --adopt" in world.core.forced_close.answers[known.operation_id].reason
    else:
        world.core.hedges.hard_exit(known, "as told")
        world.run(3000)
        assert "arb resume --adopt" in world.core.hedges.exits.hard[known.operation_id].why
    assert len(world.ledger.of_kind("fill")) == fills and world.position(FUTURES, CONTRACT) == 0
    world.command(CommandKind.ADOPT, reason="restored from a copy")
    world.run(3000)
    assert not world.core.ledger.hedges and len(world.ledger.of_kind("fill")) == fills
    judge(world)


def test_a_hedge_of_which_an_earlier_run_has_left_a_part_leaves_with_the_rest_alone() -> None:
    world = external_world()
    hedge(world, D("0.1"))
    held = -world.position(FUTURES, CONTRACT)
    world.run(500)
    old = list(world.entries)
    world.market.quote(FUTURES, CONTRACT, Quote(MID, qty=held / 8, step_bps=D(100)))
    world.command(CommandKind.CLOSE_HEDGES)
    world.run(100)
    left = -world.position(FUTURES, CONTRACT)
    assert D(0) < left < held
    world.entries[:] = old
    world.kill()
    world.market.quote(FUTURES, CONTRACT, Quote(MID, qty=D(1)))
    world.run(6000)
    world.command(CommandKind.CLOSE_HEDGES)
    world.run(3000)
    assert world.position(FUTURES, CONTRACT) == 0, "what stood is closed, and not a coin more"


def test_a_position_without_coins_becomes_a_baseline() -> None:
    world = external_world()
    place(world, FUTURES, CONTRACT, D("0.02"))  # long: no sold coins are known
    world.entries.clear()
    world.kill()
    world.run(2000)
    assert "unknown_past" in world.core.ledger.breakers
    world.command(CommandKind.ADOPT, reason="mine")
    assert [(r.what, r.qty) for r in world.core.adopted] == [("baseline", D("0.02"))]
    assert world.core.positions.targets() == {"BTC": D("0.02")} and not world.core.ledger.hedges
    assert not world.core.ledger.breakers


def test_a_journal_that_is_new_on_an_unused_account_trades_at_once() -> None:
    world = external_world()
    place(world, "gateio_spot", "BTC_USDT", D("0.01"))
    world.entries.clear()
    world.kill()
    world.run(2000)
    assert not world.core.ledger.breakers, "what happened before the journal's first balances is in them"


# --- a second engine ---


def test_orders_with_ids_of_another_engine_halt() -> None:
    world = external_world()
    hedge(world)
    assert epoch_of("a9z9x1") not in (None, world.core.ledger.boot_epoch)
    place(world, FUTURES, CONTRACT, D("0.01"), client_id="a9z9x1")
    assert world.run_until(lambda: "second_engine" in world.core.ledger.breakers, limit_ms=5000)
    world.run(1000)
    assert blocked(world) and not repairs(world)
    judge(world)
    world.command(CommandKind.ADOPT, reason="the other one is stopped")
    world.run(3000)
    assert "second_engine" not in world.core.ledger.breakers
    assert venue_delta(world, "BTC") == world.core.positions.targets()["BTC"]
    judge(world)


def test_a_clock_that_was_ahead_at_the_first_balances_hides_no_second_engine(monkeypatch: pytest.MonkeyPatch) -> None:
    """Set back since: by the journal's stamps everything that happens now is older than its first balances."""
    ahead_ns = [600 * NS_PER_S]
    monkeypatch.setattr(
        VirtualWorld, "now", lambda world: Now(world.clock.mono_ns(), world.clock.wall_ns() + ahead_ns[0])
    )
    world = external_world()
    world.run(5000)
    ahead_ns[0] = 0
    world.run(1000)
    place(world, FUTURES, CONTRACT, D("0.01"), client_id="a9z9x1")
    assert world.run_until(lambda: bool(world.core.ledger.breakers), limit_ms=10_000)
    assert list(world.core.ledger.breakers) == ["second_engine"]
    world.run(1000)
    assert blocked(world)
    judge(world)


@pytest.mark.parametrize("status", [429, 500])
def test_adoption_waits_for_a_sweep_that_is_complete(tmp_path: Path, status: int) -> None:
    """A first sweep that failed has ended as well, and has listed nothing."""
    world = external_world()
    hedge(world)
    world.entries.clear()
    rule = {"kind": "http_error", "venue": "mexc_spot", "target": "finished_orders", "status": status}
    world.arm(**rule, count=0, duration_ms=8000)
    world.kill()
    world.run(6000)
    operator = Operator(world, tmp_path)
    core = world.core
    assert core.ready and set(core.recovery.awaited()) == {"mexc_spot"}
    held, records = core.ledger.position_offsets[FUTURES, CONTRACT], len(world.entries)
    with pytest.raises(BadInput) as refused:
        operator.ask("adopt", reason="journal lost")
    text = str(refused.value)
    assert "nothing was adopted" in text and f"Found so far: {FUTURES} {CONTRACT} position {held}" in text
    assert f"{status}" in text.partition(") not swept yet")[0].partition("mexc_spot (")[2], "why it is missing"
    assert "arb doctor" in text and "by hand at its venue" in text, "what the operator can do"
    assert core.ledger.position_offsets[FUTURES, CONTRACT] == held and len(world.entries) == records
    world.run(20_000)
    assert core.recovery.awaited() == {}
    assert operator.ask("adopt", reason="journal lost")["adopted"]
    world.run(5000)
    assert not core.ledger.breakers


def test_orders_of_the_lost_journal_that_are_listed_only_later_trip_nothing_after_the_adoption(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """The first sweep asks about so many symbols; the contract's come up when its position is liquidated. Until an
    adoption the leg that is left stands alone, and that is a reason; after it the leg is flat within seconds."""
    monkeypatch.setattr("pipeline.recovery.manager.FIRST_SYMBOLS_MAX", 0)
    world = external_world()
    hedge(world)
    world.run(2000)
    world.entries.clear()
    world.kill()
    world.run(6000)
    assert "unknown_past" in world.core.ledger.breakers
    world.command(CommandKind.ADOPT, reason="journal lost")
    assert not world.core.ledger.breakers and len(world.core.ledger.hedges) == 1
    since_ns = world.clock.mono_ns()
    world.arm(kind="liquidate", venue=FUTURES, symbol=CONTRACT, amount="0")
    world.run(15_000)
    assert set(world.core.ledger.breakers) == {f"venue.{FUTURES}"}
    reported = [alert.text for alert in world.alerts if "of a run before this journal" in alert.text]
    assert reported, "it is said"
    assert not world.core.ledger.open_operations and not world.core.ledger.hedges
    assert 0 < naked_ms(world, since_ns) <= 5000


def test_a_leg_that_waits_for_an_adoption_is_a_reason_that_names_it() -> None:
    world = external_world()
    hedge(world)
    world.core.context.trip("unknown_past", "gateio_spot order a9x9: the journal lacks what an earlier run did")
    world.arm(kind="liquidate", venue=FUTURES, symbol=CONTRACT, amount="0")
    world.run(5000)
    (operation,) = world.core.ledger.open_operations
    found = [reason for reason in executor_reasons(world.core) if reason.what.startswith(f"operation {operation}: ")]
    assert [(reason.solve, reason.effect) for reason in found] == [("arb resume --adopt --reason R", Effect.STOPS)]
    assert "0.0299" in found[0].what and "BTC stand alone" in found[0].what
    world.command(CommandKind.ADOPT, reason="looked at")
    world.run(5000)
    assert not world.core.ledger.open_operations
    assert not [reason for reason in executor_reasons(world.core) if reason.what.startswith("operation ")]
    judge(world)


@pytest.mark.parametrize(
    ("reason", "cause"),
    [
        ("adl_autoclose", "adl"),
        ("settlement_autoclose-1", "settlement"),
        ("autoclose-1596107620040000020", "liquidation"),
        ("liquidated", "liquidation"),
        ("auto_deleveraged", "adl"),
        ("NEW_INSURANCE", "liquidation"),
        ("t-mine", "order"),
    ],
)
def test_a_forced_order_is_what_the_longer_name_says(reason: str, cause: str) -> None:
    assert forced_cause(reason) == cause
