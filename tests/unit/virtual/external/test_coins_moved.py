"""Hedges whose coins spot-spot trades of ours have moved to another venue, on virtual time; the simulator's ledger
judges."""

from __future__ import annotations

from decimal import ROUND_DOWN, Decimal
from pathlib import Path

import msgspec
import pytest

from pipeline.execution.events import CatalogueChanged, CommandKind
from pipeline.execution.external_records import ExternalFlowRecord
from pipeline.execution.ledger import Order
from pipeline.execution.records import HedgeRecord, Purpose
from pipeline.model.config import ExecutionConfig
from pipeline.model.enums import OrderState
from pipeline.model.instruments import InstrumentRow
from pipeline.virtual.market import Quote
from pipeline.virtual.world import VirtualWorld
from tests.worlds.execution_starts import Operator
from tests.worlds.external_world import (
    CONTRACT,
    FUTURES,
    HEDGE_QTY,
    LISTINGS,
    MID,
    external_world,
    force,
    hedge,
    judge,
    naked_ms,
    place,
    records,
    repairs,
)

D = Decimal
HOME, AWAY, THIRD = "gateio_spot", "mexc_spot", "binance_spot"


def taken_out(world: VirtualWorld, venue: str, qty: Decimal) -> None:
    """An operator withdraws coins, and lets the venue trade again."""
    world.arm(kind="withdraw", venue=venue, asset="BTC", amount=float(qty))
    world.run(3000)
    world.command(CommandKind.REARM, f"venue.{venue}", "mine")


def with_closed_wallet(row: InstrumentRow) -> InstrumentRow:
    assert row.spec.identity is not None
    identity = msgspec.structs.replace(row.spec.identity, deposit_enabled=False, withdraw_enabled=False)
    return msgspec.structs.replace(row, spec=msgspec.structs.replace(row.spec, identity=identity))


def moved_world(stock: str = "0", third: str = "") -> tuple[VirtualWorld, HedgeRecord]:
    """A hedge of a venue that has ``stock`` besides, all of whose coins spot-spot trades have sold there and bought at
    another venue. ``third``: coins at a third spot venue of the pair, "" = there is none."""
    quotes = {(THIRD, "BTCUSDT"): Quote(MID, qty=D("0.5"))} if third else {}
    world, besides = external_world(quotes=quotes, scenario="four_venues" if third else "demo"), D(stock)
    if third:
        taken_out(world, THIRD, world.wallet(THIRD, "BTC") - D(third))
    taken_out(world, HOME, world.wallet(HOME, "BTC") - besides)
    hedge(world)
    (hedged,) = world.core.ledger.hedges.values()
    bought = world.wallet(HOME, "BTC") - besides
    while (left := world.wallet(HOME, "BTC") - besides) >= D("0.0001"):
        world.market.move(HOME, CONTRACT, MID)
        world.market.move(AWAY, "BTCUSDT", MID * D("0.995"))
        world.run(50)
        qty = min(left, D("0.01")).quantize(D("0.0001"), rounding=ROUND_DOWN)
        offered = world.opportunity(AWAY, HOME, "BTC/USDT", qty=qty)
        assert offered is not None
        world.feed(offered)
        world.run(1500)
        assert world.wallet(HOME, "BTC") - besides < left, world.refusals[-3:]
    world.market.move(HOME, CONTRACT, MID)
    world.market.move(AWAY, "BTCUSDT", MID)
    world.run(3000)
    assert bought > 0 and world.core.idle and not world.core.ledger.breakers
    assert world.core.ledger.hedges == {hedged.operation_id: hedged}
    return world, hedged


def shortages(world: VirtualWorld) -> list[ExternalFlowRecord]:
    return [record for record in records(world, ExternalFlowRecord) if record.cause == "shortage"]


@pytest.mark.parametrize("amount", ["0.004", "0.00000001"])
def test_coins_that_arrive_at_a_venue_whose_coins_were_moved_take_nothing_of_the_hedge(amount: str) -> None:
    world, hedged = moved_world()
    held = world.position(FUTURES, CONTRACT)
    world.arm(kind="deposit", venue=HOME, asset="BTC", amount=float(amount))
    world.run(8000)
    assert records(world, ExternalFlowRecord)[-1].amount == D(amount)
    assert not shortages(world) and world.position(FUTURES, CONTRACT) == held
    assert world.core.ledger.hedges == {hedged.operation_id: hedged}
    judge(world)


def test_stock_that_is_withdrawn_where_coins_were_moved_is_no_hedges_loss() -> None:
    """Its coins lie at the other venue: what is withdrawn here was never the hedge's."""
    world, hedged = moved_world(stock="0.5")
    held = world.position(FUTURES, CONTRACT)
    taken_out(world, HOME, world.wallet(HOME, "BTC") - D("0.001"))
    world.run(8000)
    assert not shortages(world) and world.position(FUTURES, CONTRACT) == held
    assert world.core.ledger.hedges == {hedged.operation_id: hedged}
    judge(world)


def test_coins_that_somebody_sells_where_coins_were_moved_are_no_hedges_loss() -> None:
    world, hedged = moved_world(stock="0.01")
    held = world.position(FUTURES, CONTRACT)
    place(world, HOME, CONTRACT, -D("0.009"))
    world.run(8000)
    assert not shortages(world) and world.position(FUTURES, CONTRACT) == held
    assert world.core.ledger.hedges == {hedged.operation_id: hedged}


def test_a_hedge_loses_what_all_venues_together_have_no_more() -> None:
    """Where the moved coins went they are withdrawn as well, and then some of what lay at its own venue."""
    world, hedged = moved_world(stock="0.5")
    taken_out(world, AWAY, world.wallet(AWAY, "BTC"))
    world.run(3000)
    assert not shortages(world)
    taken_out(world, HOME, world.wallet(HOME, "BTC") - D("0.01"))
    world.run(8000)
    (gone,) = shortages(world)
    assert sum(share.qty for share in gone.taken) == pytest.approx(hedged.qty - D("0.01"), abs=D("0.0001"))
    assert -world.position(FUTURES, CONTRACT) == pytest.approx(D("0.01"), abs=D("0.0002")), "the contract follows"


def test_coins_that_go_while_the_hedge_is_still_reduced_are_missed_when_that_ends() -> None:
    world = external_world()
    taken_out(world, HOME, world.wallet(HOME, "BTC"))
    hedge(world)
    (hedged,) = world.core.ledger.hedges.values()
    rule = world.arm(kind="reject", venue=FUTURES, target="place", count=0, reason="too_many_orders")
    world.arm(kind="withdraw", venue=HOME, asset="BTC", amount=0.01)
    assert world.run_until(lambda: hedged.operation_id in world.core.ledger.open_operations, limit_ms=5000)
    world.arm(kind="withdraw", venue=HOME, asset="BTC", amount=0.012)
    world.run(100)
    assert hedged.operation_id in world.core.ledger.open_operations
    world.faults.remove(rule)
    world.run(8000)
    assert sum(share.qty for record in shortages(world) for share in record.taken) == pytest.approx(
        D("0.022"), abs=D("0.0001")
    )
    assert -world.position(FUTURES, CONTRACT) == pytest.approx(world.wallet(HOME, "BTC"), abs=D("0.0002"))
    judge(world)


@pytest.mark.parametrize("restarts", [False, True])
def test_coins_that_go_while_the_hedge_is_being_opened_are_missed_when_it_is(restarts: bool) -> None:
    world = external_world(
        execution=ExecutionConfig(entry_window_ms=10_000, order_timeout_ms=10_000), max_execution_time_ms=10_000
    )
    taken_out(world, HOME, world.wallet(HOME, "BTC"))
    world.market.move(HOME, CONTRACT, MID)
    world.market.move(FUTURES, CONTRACT, MID * D("1.006"))
    world.run(50)
    world.arm(kind="delay_request", venue=FUTURES, target="place", count=1, delay_ms=4000)
    offered = world.opportunity(HOME, FUTURES, "BTC/USDT", qty=HEDGE_QTY)
    assert offered is not None
    world.feed(offered)
    assert world.run_until(lambda: world.wallet(HOME, "BTC") > 0, limit_ms=200)
    world.arm(kind="withdraw", venue=HOME, asset="BTC", amount=0.01)
    world.run(3000)
    assert records(world, ExternalFlowRecord)[-1].amount == D("-0.01") and not world.core.ledger.hedges
    if restarts:  # no repair goes out before the contract's order has filled
        refused = [
            world.arm(kind="reject", venue=venue, target="place", count=0, reason="too_many_orders")
            for venue in (HOME, AWAY)
        ]
        world.kill()
        world.run(2000)
        for rule in refused:
            world.faults.remove(rule)
    world.run(8000)
    assert -world.position(FUTURES, CONTRACT) == pytest.approx(world.wallet(HOME, "BTC"), abs=D("0.0002"))
    (hedged,) = world.core.ledger.hedges.values()
    assert hedged.qty == -world.position(FUTURES, CONTRACT) and len(shortages(world)) == 1
    assert not world.core.ledger.external.missed
    judge(world)


def leaving_pays(world: VirtualWorld) -> None:
    """The contract is far below spot: the exit by choice passes its threshold by far, with depth for all of it."""
    world.market.move(HOME, CONTRACT, MID)
    world.market.move(FUTURES, CONTRACT, MID * D("0.99"))
    world.market.move(AWAY, "BTCUSDT", MID * D("0.9"))


def refused(world: VirtualWorld) -> list[Order]:
    return [order for order in world.core.ledger.orders.values() if order.state is OrderState.REJECTED]


def test_an_exit_by_choice_sends_nothing_where_its_coins_were_moved(tmp_path: Path) -> None:
    """The sale must be refused there, and the contract alone would have to be opened again."""
    world, hedged = moved_world()
    operator = Operator(world, tmp_path)
    sent = len(world.core.ledger.orders)
    leaving_pays(world)
    world.run(20_000)
    assert len(world.core.ledger.orders) == sent and not refused(world)
    assert world.core.ledger.hedges == {hedged.operation_id: hedged}
    (row,) = operator.ask("hedges")["hedges"]
    why = f"{HOME} {CONTRACT}: free 0.0000000188 BTC, 0.0299 needed; bring BTC there (arb balance), or arb close"
    assert row["not_closed"].startswith(f"{why} {hedged.operation_id} ")
    judge(world)
    world.market.move(FUTURES, CONTRACT, MID * D("1.006"))
    world.run(1000)
    assert operator.ask("hedges")["hedges"][0]["not_closed"] is None, "leaving does not pay any more"


def test_an_exit_by_choice_takes_as_much_as_its_coins_cover() -> None:
    world, hedged = moved_world(stock="0.01")
    leaving_pays(world)
    assert world.run_until(lambda: world.core.ledger.hedges[hedged.operation_id].qty < hedged.qty, limit_ms=5000)
    world.run(20_000)
    (left,) = world.core.ledger.hedges.values()
    assert left.qty == pytest.approx(hedged.qty - D("0.01"), abs=D("0.0002")) and not refused(world)
    assert -world.position(FUTURES, CONTRACT) == left.qty
    judge(world)


def short_of_margin(world: VirtualWorld, factor: str) -> None:
    """No free money is left at the futures venue, and every price rises."""
    world.arm(kind="withdraw", venue=FUTURES, asset="USDT", amount=float(world.core.balances.usable(FUTURES, "USDT")))
    world.run(3000)
    for venue, symbol in LISTINGS:
        world.market.move(venue, symbol, MID * D("1.006" if venue == FUTURES else "1") * D(factor))


def is_cut(world: VirtualWorld, hedged: HedgeRecord) -> bool:
    open_of_it = world.core.ledger.hedges.get(hedged.operation_id)
    return world.core.idle and (open_of_it is None or open_of_it.qty < hedged.qty)


@pytest.mark.parametrize("factor", ["1.1", "1.15"])
def test_a_margin_that_runs_short_sells_the_coins_where_they_lie(factor: str) -> None:
    world, hedged = moved_world()
    short_of_margin(world, factor)
    assert world.run_until(lambda: is_cut(world, hedged), limit_ms=20_000), [a.text for a in world.alerts][-5:]
    world.run(3000)
    sold = {o.intent.venue for o in world.core.ledger.orders.values() if o.intent.purpose is Purpose.CLOSE and o.filled}
    assert sold == {AWAY, FUTURES} and not refused(world)
    assert not world.ledger.of_kind("forced")


@pytest.mark.parametrize("stock", ["0", "0.01"])
@pytest.mark.parametrize("kind", ["liquidate", "adl"])
def test_where_the_venue_ends_the_contract_the_coins_are_sold_where_they_lie(kind: str, stock: str) -> None:
    world, hedged = moved_world(stock)
    at_ns = force(world, kind, hedged.qty)
    assert world.run_until(lambda: world.core.idle and not world.core.ledger.hedges, limit_ms=8000)
    assert naked_ms(world, at_ns) < 1000
    sold = {(o.intent.venue, o.filled) for o in repairs(world)}
    at_home = D(stock).quantize(D("0.0001"))
    assert sold == ({(AWAY, hedged.qty - at_home), (HOME, at_home)} if at_home else {(AWAY, hedged.qty)})
    assert not refused(world)
    judge(world)


@pytest.mark.parametrize(("factor", "wallet"), [("0.8", "open"), ("0.99", "open"), ("1.001", "closed")])
def test_coins_are_sold_where_they_bring_most_and_to_no_stub(factor: str, wallet: str) -> None:
    """The venue to which they went bids little, or its wallet is closed; a third one has fewer of them."""
    world, hedged = moved_world(third="0.02")
    world.market.move(AWAY, "BTCUSDT", MID * D(factor))
    if wallet == "closed":
        rows = [row for row in world.instruments if row.spec.venue == AWAY]
        world.feed(CatalogueChanged(tuple(with_closed_wallet(row) for row in rows)))
    world.run(50)
    world.core.hedges.hard_exit(hedged, "as told")
    world.run(8000)
    sold = [(o.intent.venue, o.filled) for o in world.core.ledger.orders.values() if o.intent.purpose is Purpose.CLOSE]
    first = [(venue, filled) for venue, filled in sold if venue != FUTURES]
    assert first[0][0] == THIRD and first[0][1] == pytest.approx(D("0.02"), abs=D("0.0001"))
    if factor == "0.8":
        assert len(first) == 1 and world.core.ledger.hedges
        why = world.core.hedges.exits.hard[hedged.operation_id].why
        assert f"{HOME} {CONTRACT}: free" in why and f"{AWAY} BTCUSDT: its price is more than 200 bps from" in why
    else:
        assert [venue for venue, _ in first] == [THIRD, AWAY] and not world.core.ledger.hedges
