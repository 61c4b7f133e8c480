"""Futures legs that the venue or others end, on virtual time; the simulator's ledger judges."""

from __future__ import annotations

from decimal import Decimal
from pathlib import Path

import msgspec
import pytest

from pipeline.execution.events import CatalogueChanged, CommandKind
from pipeline.execution.external_records import ExternalFillRecord, ExternalFlowRecord, ExternalPositionRecord
from pipeline.execution.records import FillRecord, HedgeRecord
from pipeline.model.enums import OrderKind, OrderSide, Refusal, TimeInForce
from pipeline.model.fixedpoint import plain, quantize_down
from pipeline.sim.exchange.orders import SimOrderRequest
from pipeline.virtual.market import Quote
from pipeline.virtual.world import VirtualWorld
from tests.worlds.execution_starts import Operator
from tests.worlds.external_world import (
    CONTRACT,
    FUTURES,
    LISTINGS,
    MID,
    account_of,
    external_world,
    force,
    force_unlisted,
    hedge,
    judge,
    moved_unlisted,
    naked_ms,
    place,
    records,
    repairs,
    venue_delta,
)
from workers.cli.commands_trading import _recovery_lines

D = Decimal
BOUND_MS = 5000.0
HEDGED = D("0.0299")  # of 0.03 that were bought: the fee is taken in coins, and a contract is 0.0001


def spot_bought_after(world: VirtualWorld, since_ns: int) -> Decimal:
    rows = world.ledger.of_kind("fill")
    bought = [r for r in rows if r["venue"].endswith("spot") and r["side"] == "buy" and r["mono_ns"] > since_ns]
    return sum((row["qty"] for row in bought), D(0))


@pytest.mark.parametrize(("kind", "qty"), [("liquidate", "0.0299"), ("liquidate", "0.01"), ("adl", "0.02")])
@pytest.mark.parametrize("kill", [False, True])
def test_what_a_venue_takes_of_a_futures_leg_its_spot_leg_loses(kind: str, qty: str, kill: bool) -> None:
    world = external_world()
    hedge(world)
    at_ns = force(world, kind, D(qty))
    if kill:
        world.kill()
    assert world.run_until(lambda: venue_delta(world, "BTC") == world.core.ledger.dust.get("BTC", D(0)), limit_ms=5000)
    world.run(1000)
    assert naked_ms(world, at_ns) <= BOUND_MS
    assert sum((h.qty for h in world.core.ledger.hedges.values()), D(0)) == HEDGED - D(qty)
    taken = records(world, ExternalFillRecord)
    assert {row.cause for row in taken} == {"liquidation" if kind == "liquidate" else "adl"}
    assert sum((row.qty for row in taken), D(0)) == D(qty)
    listed_in = "liquidates" if kind == "liquidate" else "auto_deleverages"
    assert all(row.witness == f"{listed_in} {row.order_id}" for row in taken)
    assert ("venue.gateio_futures" in world.core.ledger.breakers) is (kind == "liquidate")
    assert spot_bought_after(world, at_ns) == 0
    judge(world)
    world.kill()
    world.run(3000)
    judge(world)


def test_a_remainder_below_the_lot_of_the_spot_leg_is_dust_that_delta_shows() -> None:
    world = external_world()
    hedge(world)
    row = next(r for r in world.instruments if r.spec.venue == "gateio_spot" and r.spec.symbol == "BTC_USDT")
    before = world.core.ledger.dust["BTC"]
    spec = msgspec.structs.replace(row.spec, min_notional=D(3000))
    world.feed(CatalogueChanged((msgspec.structs.replace(row, spec=spec),)))
    force(world, "adl", D("0.02"))
    world.run(4000)
    assert world.core.ledger.dust == {"BTC": D("0.02") + before}
    assert world.core.positions.delta()["BTC"] == D("0.02") + before
    judge(world)


@pytest.mark.parametrize("command", [CommandKind.CLOSE_HEDGES, CommandKind.FLATTEN])
def test_closing_a_hedge_whose_futures_leg_is_gone_sells_the_spot_once(command: CommandKind) -> None:
    """The command comes before the notice: the reduce-only leg is refused, and nothing is bought back."""
    world = external_world()
    hedge(world)
    world.arm(kind="drop_event", venue=FUTURES, target="private", count=0)
    at_ns = force(world, "liquidate", HEDGED)
    world.command(command)
    world.run(4000)
    assert not world.core.ledger.hedges and not world.core.ledger.open_operations
    assert spot_bought_after(world, at_ns) == 0
    assert naked_ms(world, at_ns) <= BOUND_MS
    assert venue_delta(world, "BTC") == world.core.ledger.dust.get("BTC", D(0))
    judge(world)


def test_a_leg_that_is_taken_while_the_hedge_is_left_counts_for_the_closing() -> None:
    """The spot leg of the exit is on its way when the futures leg is liquidated."""
    world = external_world()
    hedge(world)
    world.arm(kind="delay_request", venue=FUTURES, target="place", count=1, delay_ms=300)
    world.command(CommandKind.CLOSE_HEDGES)
    world.run(60)
    at_ns = force(world, "liquidate", HEDGED)
    world.run(5000)
    assert not world.core.ledger.hedges and not world.core.ledger.open_operations
    assert spot_bought_after(world, at_ns) == 0
    judge(world)


def test_the_rest_of_a_sold_spot_leg_is_bought_back_although_a_fee_in_coins_makes_it_more_than_was_sold() -> None:
    """A part of the spot leg is bought back, its fee taken in coins, when the futures leg is liquidated: the rest of
    the sold coins is bought, not called dust."""
    world = external_world()
    world.market.move("gateio_spot", CONTRACT, MID * D("1.006"))
    world.run(50)
    offered = world.opportunity(FUTURES, "gateio_spot", "BTC/USDT", qty=D("0.03"))
    assert offered is not None
    world.feed(offered)
    assert world.run_until(lambda: bool(world.core.ledger.hedges), limit_ms=2000)
    world.market.quote("gateio_spot", CONTRACT, Quote(MID * D("1.006"), qty=D("0.002")))
    world.run(300)
    world.arm(kind="delay_request", venue=FUTURES, target="place", count=1, delay_ms=300)
    world.command(CommandKind.CLOSE_HEDGES)
    world.run(60)
    assert world.core.ledger.open_operations
    world.market.quote("gateio_spot", CONTRACT, Quote(MID * D("1.006"), qty=D("0.5")))
    at_ns = world.clock.mono_ns()
    world.arm(kind="liquidate", venue=FUTURES, symbol=CONTRACT, amount=0.03)
    assert world.run_until(lambda: abs(venue_delta(world, "BTC")) < D("0.0001"), limit_ms=BOUND_MS)
    world.run(1000)
    assert not world.core.ledger.hedges and not world.core.ledger.open_operations
    assert naked_ms(world, at_ns) <= BOUND_MS
    judge(world)


def test_an_empty_book_gets_no_repair_and_the_next_quote_does() -> None:
    world = external_world()
    hedge(world)
    world.market.quote("gateio_spot", CONTRACT, Quote(MID, qty=D(0)))
    world.run(50)
    at_ns, orders = force(world, "liquidate", HEDGED), len(world.ledger.of_kind("order"))
    assert world.run_until(lambda: bool(records(world, ExternalFillRecord)), limit_ms=2000)
    world.run(1000)
    ours = [row for row in world.ledger.of_kind("order")[orders:] if row["client_id"]]
    assert not ours and not world.ledger.of_kind("reject")
    world.market.quote("gateio_spot", CONTRACT, Quote(MID, qty=D("0.5")))
    assert world.run_until(lambda: abs(venue_delta(world, "BTC")) < D("0.0001"), limit_ms=1000)
    world.run(500)
    assert naked_ms(world, at_ns) <= BOUND_MS
    judge(world)


def test_entries_on_a_contract_wait_until_the_account_agrees_again() -> None:
    world = external_world()
    hedge(world)
    force(world, "adl", HEDGED)
    assert world.run_until(lambda: bool(records(world, ExternalFillRecord)), limit_ms=2000)
    offered = world.opportunity("mexc_spot", FUTURES, "BTC/USDT", qty=D("0.01"))
    assert offered is not None
    world.feed(offered)
    assert world.refusals[-1] in (Refusal.INSTRUMENT_BLOCKED, Refusal.SESSION_DOWN)
    world.run(2500)
    world.market.move(FUTURES, CONTRACT, MID * D("1.0061"))
    world.run(50)
    offered = world.opportunity("mexc_spot", FUTURES, "BTC/USDT", qty=D("0.01"))
    assert offered is not None
    world.feed(offered)
    world.run(1000)
    assert len(world.core.ledger.hedges) == 1, world.refusals


def test_the_order_of_another_client_takes_from_the_hedge_or_stays_his() -> None:
    world = external_world()
    hedge(world)
    place(world, FUTURES, CONTRACT, D("-0.01"))  # adds to the short: not ours
    world.run(3000)
    assert world.core.ledger.external.unowned == {(FUTURES, CONTRACT): D("-0.01")}
    assert "venue.gateio_futures" in world.core.ledger.breakers
    assert sum((h.qty for h in world.core.ledger.hedges.values()), D(0)) == HEDGED
    judge(world)
    place(world, FUTURES, CONTRACT, D("0.02"))  # his 0.01, and 0.01 of the hedge
    world.run(4000)
    assert not world.core.ledger.external.unowned
    assert sum((h.qty for h in world.core.ledger.hedges.values()), D(0)) == HEDGED - D("0.01")
    assert all(row.witness == f"my_trades {row.trade_id}" for row in records(world, ExternalFillRecord))
    judge(world)


def test_a_repair_that_no_venue_takes_says_which_one_why_and_what_comes_before_its_approval(tmp_path: Path) -> None:
    """A contract is bought by hand against the hedge's short, and an order by hand keeps the coins that it leaves."""
    world = external_world()
    hedge(world)
    here = world.wallet("gateio_spot", "BTC")
    kept = quantize_down(here, D("0.01"))
    world.venues["gateio_spot"].place(
        account_of(world, "gateio_spot"),
        SimOrderRequest(
            symbol=CONTRACT,
            side=OrderSide.SELL,
            kind=OrderKind.LIMIT,
            tif=TimeInForce.GTC,
            qty=kept,
            price=MID * D("1.05"),
        ),
    )
    place(world, FUTURES, CONTRACT, D("0.02"))
    assert world.run_until(lambda: world.core.recovery.waiting(), limit_ms=60_000)
    operator, (waiting,) = Operator(world, tmp_path), world.core.recovery.waiting()
    (row,) = operator.ask("recoveries")["recoveries"]
    sold = sum((order.filled for order in repairs(world)), D(0))  # what his order leaves
    assert sold == quantize_down(here - kept, D("0.0001"))
    left, wanted = here - kept - sold, D("0.02") - sold
    why = f"gateio_spot {CONTRACT}: {plain(left)} BTC are free there, {plain(wanted)} are wanted"
    assert row["reason"] == f"no venue takes the repair: {why}" and why in world.core.ledger.breakers["recovery_hold"]
    (held,) = [one for one in operator.all_reasons() if one.what.startswith(f"recovery {waiting}")]
    solve = f"arb recoveries --approve {waiting} (or --cancel {waiting})"
    assert held.solve == f"bring BTC to gateio_spot (arb balance); then {solve}"
    assert held.solve in _recovery_lines(row)
    (shown,) = operator.ask("approve", id=waiting, dry_run=True)["repairs"]
    assert not shown["orders"] and why in shown["reason"]
    world.arm(kind="deposit", venue="gateio_spot", asset="BTC", amount="0.02")
    world.run(2000)
    assert not operator.ask("recoveries")["recoveries"][0]["first"], "approved now, it is sold"
    operator.ask("approve", id=waiting, reason="the coins are there")
    assert world.run_until(lambda: not world.core.ledger.open_operations, limit_ms=5000)
    assert "recovery_hold" not in world.core.ledger.breakers


def test_a_breaker_that_keeps_another_venue_from_a_repair_is_named_with_the_command_that_re_arms_it() -> None:
    world = external_world()
    spec = next(row.spec for row in world.instruments if row.spec.venue == "mexc_spot")
    assert world.core.orders.repairs.usable.barred(spec) is None
    place(world, "mexc_spot", "BTCUSDT", D("0.01"))
    assert world.run_until(lambda: "venue.mexc_spot" in world.core.ledger.breakers, limit_ms=8000)
    rearm = "look at the account's withdrawals and orders; then arb breakers --rearm venue.mexc_spot --reason R"
    assert world.core.orders.repairs.usable.barred(spec) == ("breaker venue.mexc_spot", rearm)


def test_a_position_without_any_listed_execution_moves_the_ledger_all_the_same() -> None:
    world = external_world()
    hedge(world)
    world.run(31_000)  # what the ledger expected before the entry is no stale answer any more
    at_ns = force_unlisted(world, "adl", HEDGED)
    world.run(5000)
    moved = records(world, ExternalPositionRecord)
    assert [(row.qty_before, row.qty, row.cause) for row in moved] == [(-HEDGED, D(0), "adl")]
    assert moved[0].witness == f"auto_deleverages {account_of(world, FUTURES).forced[-1].order_id}"
    assert "venue.gateio_futures" not in world.core.ledger.breakers
    assert naked_ms(world, at_ns) <= BOUND_MS
    assert not world.core.ledger.hedges and venue_delta(world, "BTC") == world.core.ledger.dust.get("BTC", D(0))


def test_what_a_position_without_executions_has_brought_is_booked_however_little_it_is() -> None:
    """The venue's wallet and ours stay the same, and what is gone afterwards is excused by it no more."""
    world = external_world()
    hedge(world)
    world.run(31_000)
    force_unlisted(world, "adl", HEDGED)
    assert world.run_until(lambda: bool(records(world, ExternalPositionRecord)), limit_ms=5000)
    expected = world.core.ledger.expected_balance(FUTURES, "USDT")
    assert expected is not None and 0 < abs(off := world.wallet(FUTURES, "USDT") - expected) < 1
    world.run(8000)
    (flow,) = records(world, ExternalFlowRecord)
    assert (flow.amount, flow.cause, flow.trading) == (off, "settlement", True)
    assert not world.core.ledger.external.unpriced_positions
    moved_unlisted(world, "withdraw", FUTURES, "USDT", 500)
    world.run(20_000)
    flow = records(world, ExternalFlowRecord)[-1]
    assert abs(flow.amount + 500) < 1 and (flow.cause, flow.trading) == ("unexplained", False)
    assert "venue.gateio_futures" in world.core.ledger.breakers


@pytest.mark.parametrize(("amount", "later_ms"), [(2500, 1000), (500, 60_000)])
def test_what_is_gone_after_a_position_without_executions_is_no_settlement_of_it(
    amount: int, later_ms: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """More than the position was worth, or long after it, where it has brought nothing by itself."""
    monkeypatch.setattr("pipeline.execution.external.UNLISTED_KEPT_MS", 50_000)
    monkeypatch.setattr("pipeline.recovery.wallets.SETTLED_TOLERANCE", D(1))
    world = external_world()
    hedge(world)
    world.run(31_000)
    force_unlisted(world, "adl", HEDGED)
    world.run(5000)
    assert len(records(world, ExternalPositionRecord)) == 1 and not records(world, ExternalFlowRecord)
    world.run(later_ms)
    moved_unlisted(world, "withdraw", FUTURES, "USDT", amount)
    world.run(20_000)
    (flow,) = records(world, ExternalFlowRecord)
    assert abs(flow.amount + amount) < 1 and (flow.cause, flow.trading) == ("unexplained", False)
    assert "venue.gateio_futures" in world.core.ledger.breakers


def test_what_a_short_brings_that_is_closed_below_half_of_its_entry_is_its_result() -> None:
    """More than the position is worth by then; it is neither money from outside, nor does any of it excuse a loss."""
    world = external_world()
    hedge(world)
    world.run(31_000)
    for venue, symbol in LISTINGS:
        world.market.move(venue, symbol, world.market.quotes[venue, symbol].mid * D("0.3"))
    world.run(2000)
    assert world.core.ledger.hedges
    force_unlisted(world, "adl", HEDGED)
    world.run(20_000)
    (moved,), (flow,) = records(world, ExternalPositionRecord), records(world, ExternalFlowRecord)
    assert flow.amount > abs(moved.qty_before) * moved.price > 0
    assert (flow.cause, flow.trading) == ("settlement", True) and not world.core.ledger.accounts.external
    assert not world.core.ledger.external.unpriced_positions
    judge(world)


def test_a_stale_answer_moves_nothing() -> None:
    """REST shows the account as it was before the entry: no position, no trade."""
    world = external_world()
    for target in ("positions", "balances", "trades", "finished_orders"):
        world.arm(kind="stale", venue=FUTURES, target=target, delay_ms=4000, count=0)
    hedge(world)
    world.run(3000)
    assert not records(world, ExternalPositionRecord) and not records(world, ExternalFillRecord)
    assert len(world.core.ledger.hedges) == 1


def test_two_hedges_lose_in_the_order_of_their_age() -> None:
    world = external_world()
    hedge(world, D("0.02"))
    hedge(world, D("0.01"))
    first, second = world.core.ledger.hedges.values()
    force(world, "adl", D("0.025"))
    world.run(4000)
    left = {h.operation_id: h.qty for h in world.core.ledger.hedges.values()}
    assert left == {second.operation_id: first.qty + second.qty - D("0.025")} and first.operation_id not in left
    shown = [row for row in records(world, HedgeRecord) if row.operation_id == first.operation_id]
    assert shown[-1].qty == 0 and shown[-1].spot_side is OrderSide.BUY
    sold = [f for f in records(world, FillRecord) if f.side is OrderSide.SELL and f.venue == "gateio_spot"]
    assert abs(sum((f.qty for f in sold), D(0)) - D("0.025")) <= D("0.001")
    judge(world)


@pytest.mark.parametrize("action", [*range(12), 15, 20, 25])
def test_a_core_that_dies_at_any_action_of_the_answer_ends_flat_and_equal(action: int) -> None:
    world = external_world(3)
    hedge(world)
    world.crash_after = action
    at_ns = force(world, "liquidate", D("0.02"))
    world.run(8000)
    assert sum((h.qty for h in world.core.ledger.hedges.values()), D(0)) == HEDGED - D("0.02")
    assert venue_delta(world, "BTC") == world.core.ledger.dust.get("BTC", D(0))
    assert spot_bought_after(world, at_ns) == 0 and not world.core.ledger.open_operations
    judge(world)
