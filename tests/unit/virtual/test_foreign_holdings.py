"""What others hold on our accounts by their trades counts in limits and losses, at its mark; what nobody can value
stops entries. On virtual time; the simulator's ledger judges."""

from __future__ import annotations

import asyncio
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import pytest

from pipeline.execution.accounts import FuturesPosition
from pipeline.execution.events import CommandKind
from pipeline.execution.external_records import ExternalFlowRecord
from pipeline.execution.ledger import UNKNOWN_PAST, Ledger
from pipeline.execution.market import Instruments
from pipeline.execution.records import AdoptedRecord
from pipeline.execution.results.foreign_trades import ForeignTrades
from pipeline.model.enums import Refusal
from pipeline.trade_state import Effect, executor_reasons
from pipeline.virtual.world import VirtualWorld
from tests.worlds.execution_starts import Operator
from tests.worlds.external_world import (
    CONTRACT,
    FUTURES,
    HEDGE_QTY,
    MID,
    account_of,
    external_world,
    force_unlisted,
    hedge,
    judge,
    place,
    records,
)

D = Decimal
GATEIO, MEXC = "gateio_spot", "mexc_spot"
QTY = D("0.5")


def booked(world: VirtualWorld) -> None:
    """The movement is noticed and booked, and valued at the next look."""
    assert world.run_until(lambda: world.core.ledger.external.trades.quotes, limit_ms=8000)
    world.run(2500)


def refused(world: VirtualWorld, buy: str = GATEIO, sell: str = MEXC) -> Refusal:
    """The refusal of an entry that pays; NONE where it is taken."""
    for venue, mid in ((buy, MID), (sell, MID * D("1.006"))):
        world.market.move(venue, "BTCUSDT" if venue == MEXC else CONTRACT, mid)
    world.run(50)
    offered = world.opportunity(buy, sell, "BTC/USDT", qty=D("0.01"))
    assert offered is not None
    before = len(world.refusals)
    world.feed(offered)
    return world.refusals[-1] if len(world.refusals) > before else Refusal.NONE


@pytest.mark.parametrize("signed", [QTY, -QTY])
def test_a_contract_that_others_opened_counts_at_its_mark_and_with_its_loss(signed: Decimal) -> None:
    world = external_world()
    place(world, FUTURES, CONTRACT, signed)
    booked(world)
    gate = world.core.risk.gate
    now = gate.exposure()
    assert now.foreign == pytest.approx(QTY * MID, rel=D("0.01")) and now.total == now.foreign
    assert now.by_venue == {FUTURES: now.foreign} and now.by_asset == {"BTC": now.foreign}
    assert now.by_position == {(FUTURES, "BTC"): now.foreign} and now.by_pair == {"BTC/USDT": now.foreign}
    against = MID * (1 - D("0.05") * (1 if signed > 0 else -1))
    world.market.move(FUTURES, CONTRACT, against)
    world.run(2500)
    assert gate.exposure().foreign == pytest.approx(QTY * against, rel=D("0.01")), "at mark, not at what it cost"
    assert gate.worth.day_loss() == pytest.approx(QTY * MID * D("0.05"), rel=D("0.02"))
    judge(world)


def test_a_position_from_before_the_journal_that_is_closed_by_hand_has_lost_what_it_had_and_no_more() -> None:
    """The market goes on after the order by hand: neither the loss that was counted nor an adoption follows it."""
    world = external_world()
    place(world, FUTURES, CONTRACT, QTY)
    world.entries.clear()
    world.kill()
    world.run(2000)
    world.market.move(FUTURES, CONTRACT, MID * D("0.9"))
    world.run(2500)
    worth, lost = world.core.risk.gate.worth, QTY * MID * D("0.1")
    assert worth.day_loss() == pytest.approx(lost, rel=D("0.01"))
    place(world, FUTURES, CONTRACT, -QTY)
    world.run(5000)
    assert worth.day_loss() == pytest.approx(lost, rel=D("0.01")) and worth.total_loss() == worth.day_loss()
    world.market.move(FUTURES, CONTRACT, MID * D("0.95"))
    world.kill()
    world.run(5000)
    worth = world.core.risk.gate.worth
    closed = worth.day_loss()
    assert closed == pytest.approx(lost, rel=D("0.01")) and not worth.unknown
    assert world.core.risk.gate.exposure().foreign == 0, "nobody holds anything"
    world.command(CommandKind.ADOPT, "", "closed by hand")
    world.run(2500)
    worth = world.core.risk.gate.worth
    assert worth.day_loss() == closed and worth.total_loss() == closed and not worth.foreign
    ledger, replayed = world.core.ledger, Ledger()
    assert not ledger.external.unowned and not any(ledger.position_offsets.values())
    for entry in world.entries:
        replayed.apply(entry.record, entry.mono_ns, entry.wall_ns)
    assert replayed.digest() == ledger.digest()


@pytest.mark.parametrize(("signed", "part"), [(QTY, QTY), (-QTY, QTY), (QTY, QTY / 5)])
def test_a_position_from_before_the_journal_that_the_venue_ends_unlisted_has_lost_what_it_had(
    signed: Decimal, part: Decimal
) -> None:
    """Its money is its result: the loss that was counted stays, and none of it is gone without a reason."""
    world = external_world()
    place(world, FUTURES, CONTRACT, signed)
    world.entries.clear()
    world.kill()
    world.run(2000)
    world.market.move(FUTURES, CONTRACT, MID * (1 - D("0.02") * (1 if signed > 0 else -1)))
    world.run(32_000)  # what the ledger expected before is no stale answer any more
    worth, lost = world.core.risk.gate.worth, QTY * MID * D("0.02")
    assert worth.day_loss() == pytest.approx(lost, rel=D("0.01"))
    force_unlisted(world, "adl", part)
    world.run(20_000)
    assert worth.day_loss() == pytest.approx(lost, rel=D("0.01")) and worth.total_loss() == worth.day_loss()
    (flow,) = records(world, ExternalFlowRecord)
    assert (flow.cause, flow.trading) == ("settlement", True)
    assert world.core.ledger.breakers.keys() == {UNKNOWN_PAST}
    assert world.core.ledger.expected_balance(FUTURES, "USDT") == world.wallet(FUTURES, "USDT")
    world.command(CommandKind.ADOPT, "", "it was mine")
    world.run(2500)
    assert not world.core.ledger.breakers
    assert worth.day_loss() == pytest.approx(lost, rel=D("0.01"))
    assert world.core.ledger.accounts.futures_qty(FUTURES, CONTRACT) == world.position(FUTURES, CONTRACT)


def test_coins_that_others_bought_or_sold_count_and_those_that_came_or_went_do_not() -> None:
    world = external_world()
    place(world, GATEIO, CONTRACT, QTY)
    booked(world)
    gate = world.core.risk.gate
    assert gate.exposure().by_position == {(GATEIO, "BTC"): gate.exposure().foreign}
    assert gate.exposure().foreign == pytest.approx(QTY * MID, rel=D("0.01"))
    held = world.core.ledger.external.trades.coins[GATEIO, "BTC"].qty
    world.arm(kind="deposit", venue=MEXC, asset="BTC", amount=3.0)
    world.run(8000)
    assert gate.exposure().foreign == pytest.approx(QTY * MID, rel=D("0.01")), "a deposit is stock"
    world.arm(kind="withdraw", venue=GATEIO, asset="BTC", amount=float(held))
    world.run(8000)
    assert gate.exposure().foreign == 0, "bought by hand and sent away: nobody holds it here"
    judge(world)


def test_what_others_hold_is_in_every_limit_of_an_entry() -> None:
    world = external_world(max_total_exposure_usd=QTY * MID)
    assert refused(world) is Refusal.NONE
    world.run(2000)
    place(world, FUTURES, CONTRACT, QTY)
    booked(world)
    assert refused(world) is Refusal.EXPOSURE_LIMIT
    limits = msgspec.structs.replace(world.core.config.risk_limits, max_total_exposure_usd=QTY * MID * 3)
    world.core.reconfigure(msgspec.structs.replace(world.core.config, risk_limits=limits))
    world.command(CommandKind.REARM, f"venue.{FUTURES}", "looked at it")
    assert refused(world, GATEIO, FUTURES) is Refusal.POSITION_LIMIT


def test_a_loss_of_others_trips_the_limit_of_the_day_and_a_restart_remembers_it() -> None:
    world = external_world(max_daily_loss_usd=D(300))
    place(world, FUTURES, CONTRACT, QTY)
    booked(world)
    assert "daily_loss" not in world.core.ledger.breakers
    world.market.move(FUTURES, CONTRACT, MID * D("0.98"))
    world.run(2500)
    assert "daily_loss" not in world.core.ledger.breakers, "a price of a moment trips nothing"
    world.run(11_000)
    assert "by trades of others" in world.core.ledger.breakers["daily_loss"]
    place(world, FUTURES, CONTRACT, -QTY)  # realised now
    world.run(8000)
    worth = world.core.risk.gate.worth
    lost = worth.day_loss()
    assert not worth.foreign and lost > 600 and worth.total_loss() == lost
    judge(world)
    world.kill()
    world.run(3000)
    assert world.core.risk.gate.worth.day_loss() == lost
    replayed = Ledger()
    for entry in world.entries:
        replayed.apply(entry.record, entry.mono_ns, entry.wall_ns)
    assert replayed.external.trades.realised == world.core.ledger.external.trades.realised


def test_coins_that_an_operator_takes_for_stock_count_no_more() -> None:
    world = external_world()
    place(world, GATEIO, CONTRACT, QTY)
    booked(world)
    assert world.core.risk.gate.exposure().foreign > 0
    world.command(CommandKind.ADOPT, "", "bought as stock")
    assert world.core.risk.gate.exposure().foreign == 0
    judge(world)


def adopted_flat(world: VirtualWorld) -> None:
    """An operator takes over everything: nothing is held, and nothing was gained or lost by it."""
    world.run(8000)
    before = dict(world.core.ledger.external.trades.realised)
    world.command(CommandKind.ADOPT, "", "bought as stock")
    world.run(2500)
    trades = world.core.ledger.external.trades
    assert not trades.coins and trades.realised == before
    assert not world.core.recovery.adoption.waiting()
    worth = world.core.risk.gate.worth
    assert not worth.foreign and worth.day_loss() < 100, "fees only"
    judge(world)


def test_coins_are_taken_for_stock_once_however_often_an_operator_adopts() -> None:
    world = external_world()
    place(world, GATEIO, CONTRACT, QTY)
    booked(world)
    adopted_flat(world)
    place(world, GATEIO, CONTRACT, D("0.1"))
    booked(world)
    adopted_flat(world)
    (*_, second) = [r for r in records(world, AdoptedRecord) if r.what == "baseline"]
    assert second.qty == pytest.approx(D("0.1"), rel=D("0.01"))
    adopted_flat(world)
    assert [r.what for r in records(world, AdoptedRecord)] == ["baseline", "baseline"]


def test_coins_that_were_withdrawn_before_an_adoption_are_not_taken_for_stock() -> None:
    world = external_world()
    place(world, GATEIO, CONTRACT, QTY)
    booked(world)
    world.arm(kind="withdraw", venue=GATEIO, asset="BTC", amount=0.3)
    adopted_flat(world)
    assert not world.core.ledger.external.trades.coins and "total_loss" not in world.core.ledger.breakers


def test_stock_that_is_sold_by_hand_is_seen_and_taken_over() -> None:
    world = external_world()
    place(world, GATEIO, CONTRACT, QTY)
    booked(world)
    adopted_flat(world)
    place(world, GATEIO, CONTRACT, -D("0.4"))
    booked(world)
    assert world.core.ledger.external.trades.coins[GATEIO, "BTC"].qty == -D("0.4")
    adopted_flat(world)


def test_coins_that_left_after_an_adoption_hedge_nothing() -> None:
    world = external_world()
    place(world, MEXC, "BTCUSDT", QTY)
    booked(world)
    adopted_flat(world)
    world.arm(kind="withdraw", venue=MEXC, asset="BTC", amount=float(world.wallet(MEXC, "BTC")))
    world.run(8000)
    place(world, FUTURES, CONTRACT, -QTY)
    booked(world)
    world.command(CommandKind.ADOPT, "", "by hand")
    world.run(2500)
    assert not [h for h in world.core.ledger.hedges.values() if h.spot_venue == MEXC], "no coin lies there"
    judge(world)


def test_coins_that_were_sold_and_taken_for_stock_long_ago_close_no_hedge() -> None:
    world = external_world()
    place(world, GATEIO, CONTRACT, -HEDGE_QTY)
    booked(world)
    adopted_flat(world)
    world.command(CommandKind.REARM, f"venue.{GATEIO}", "looked at it")
    hedge(world)
    place(world, FUTURES, CONTRACT, HEDGE_QTY, client_id="a9z9x1")  # an engine's order closes its futures leg
    assert world.run_until(lambda: "second_engine" in world.core.ledger.breakers, limit_ms=5000)
    world.run(1000)
    world.command(CommandKind.ADOPT, "", "the other one is stopped")
    (closed,) = [r for r in world.core.adopted if r.what == "closed"]
    assert [fill.venue for fill in closed.fills] == [FUTURES], world.core.adopted
    world.run(3000)
    assert not world.core.ledger.hedges
    judge(world)


@pytest.mark.parametrize(("handed", "left"), [("0.6", "0"), ("-0.1", "0.5"), ("0.2", "0.3"), ("0.5", "0")])
def test_an_adoption_of_an_older_journal_makes_no_position(handed: str, left: str) -> None:
    """Older journals took over what all executions of others had moved, also what had been taken over before."""
    trades = ForeignTrades()
    trades.coins[GATEIO, "BTC"] = FuturesPosition(QTY, QTY * MID)
    trades.quotes[GATEIO, "BTC"] = "USDT"
    trades.handed_over((GATEIO, "BTC"), D(handed), D(0), futures=False)
    assert {key: held.qty for key, held in trades.coins.items()} == ({(GATEIO, "BTC"): D(left)} if D(left) else {})
    assert not trades.realised


def test_a_hedge_whose_books_are_away_has_no_known_worth_and_nothing_is_entered() -> None:
    world = external_world()
    hedge(world)
    gate = world.core.risk.gate
    world.run(1500)
    known = gate.worth.unrealised
    assert known and not gate.worth.unknown
    world.stalled.add(FUTURES)
    world.run(2500)
    assert gate.worth.unrealised == known and not gate.worth.unknown, "a book may be away for a moment"
    world.run(5000)
    (what,) = gate.worth.unknown
    assert what.startswith("hedge ")
    assert refused(world) is Refusal.EXPOSURE_LIMIT
    world.core.context.now = world.now()
    (reason,) = [r for r in executor_reasons(world.core) if "is not known" in r.what]
    assert reason.effect is Effect.STOPS and CONTRACT in reason.what and reason.solve
    world.stalled.discard(FUTURES)
    world.run(1500)
    assert not gate.worth.unknown


def delisted(world: VirtualWorld, venue: str) -> None:
    """The catalogue has the venue's BTC row no more."""
    context = world.core.context
    context.instruments = Instruments(
        r for r in context.instruments if (r.spec.venue, r.spec.symbol) != (venue, CONTRACT)
    )
    world.run(7500)


def adopt_twice(world: VirtualWorld) -> None:
    """Given once more when the venue has said what stands, as the control socket does."""
    for _ in range(2):
        world.command(CommandKind.ADOPT, "", "settled by the venue")
        world.run(2500)


def solution(world: VirtualWorld) -> str:
    """What ends the one worth that is not known."""
    world.core.context.now = world.now()
    (reason,) = [r for r in executor_reasons(world.core) if "is not known" in r.what]
    assert reason.effect is Effect.STOPS and "not in the catalogue" in reason.what
    return reason.solve


@pytest.mark.parametrize("adopted", [False, True])
def test_a_position_of_others_whose_contract_is_delisted_is_taken_out_when_its_venue_lacks_it(adopted: bool) -> None:
    world = external_world()
    place(world, FUTURES, CONTRACT, QTY)
    booked(world)
    if adopted:
        world.command(CommandKind.ADOPT, "", "not ours")
    delisted(world, FUTURES)
    assert "arb resume --adopt" in solution(world) and f"arb symbols add {FUTURES} {CONTRACT}" in solution(world)
    for _ in range(2):
        world.command(CommandKind.ADOPT, "", "delisted")
        world.run(3000)
        assert [(r.what, r.qty) for r in world.core.adopted] == [("left", QTY)], "it stands at the venue: it counts"
    assert world.core.ledger.expected_position(FUTURES, CONTRACT) == world.position(FUTURES, CONTRACT) == QTY
    solution(world)
    world.market.move(FUTURES, CONTRACT, MID * D("0.95"))
    world.run(3000)
    place(world, FUTURES, CONTRACT, -QTY)
    world.run(3000)
    adopt_twice(world)
    external = world.core.ledger.external
    assert not external.unowned and not external.trades.contracts and not world.core.risk.gate.worth.unknown
    lost = QTY * MID * D("0.05")
    assert -external.trades.realised["USDT"] == pytest.approx(lost, rel=D("0.05")), "at its last mark"
    replayed = Ledger()
    for entry in world.entries:
        replayed.apply(entry.record, entry.mono_ns, entry.wall_ns)
    assert replayed.digest() == world.core.ledger.digest()


@pytest.mark.parametrize("stands", [True, False])
def test_one_command_asks_the_venue_what_stands_on_a_delisted_contract(tmp_path: Path, stands: bool) -> None:
    world = external_world()
    place(world, FUTURES, CONTRACT, QTY)
    booked(world)
    delisted(world, FUTURES)
    if not stands:
        account_of(world, FUTURES).positions.clear()  # settled by the venue, which tells nobody
    control = Operator(world, tmp_path).control()

    async def asked() -> list[dict[str, Any]]:
        reply = asyncio.create_task(control.handle({"op": "adopt", "uid": 0, "reason": "delisted"}))
        while not reply.done():
            world.run(100)
            await asyncio.sleep(0)
        found: list[dict[str, Any]] = (await reply)["adopted"]
        return found

    found = asyncio.run(asked())
    assert [(row["what"], row["qty"]) for row in found] == ([("left", QTY)] if stands else [])
    assert all("close it at the venue" in row["detail"] for row in found)
    assert world.core.ledger.expected_position(FUTURES, CONTRACT) == (QTY if stands else 0)


def test_a_hedge_whose_spot_leg_is_delisted_says_what_ends_it() -> None:
    world = external_world()
    hedge(world)
    delisted(world, GATEIO)
    assert f"arb symbols add {GATEIO} {CONTRACT}" in solution(world)


def test_a_hedge_whose_quote_cannot_be_converted_has_no_known_worth() -> None:
    world = external_world()
    hedge(world)
    (held,) = world.core.ledger.hedges.values()
    operation = world.core.ledger.operations[held.operation_id]
    legs = tuple(msgspec.structs.replace(leg, quote="EURI") for leg in operation.record.legs)
    operation.record = msgspec.structs.replace(operation.record, legs=legs)
    world.run(7500)
    worth = world.core.risk.gate.worth
    (why,) = worth.unknown.values()
    assert why == "no USD rate for EURI"
