"""The margin watch through the real core and the simulator's venues: storms of 60 % in 60 s on virtual time.

``python -m bench.margin_storm`` runs 200 seeds a row.
"""

from __future__ import annotations

from collections import Counter
from decimal import Decimal

import msgspec
import pytest

from pipeline.economics.margin import Tier, disagree, liquidation_price
from pipeline.execution.events import AddMargin, FetchRiskTiers, RiskTiersAnswer
from pipeline.execution.hedging.margin_cuts import cut_plan
from pipeline.execution.market import Instruments
from pipeline.execution.records import OrderIntentRecord, Purpose
from pipeline.execution.settled import retirement
from pipeline.model.config import MarginConfig
from pipeline.risk import margin_watch
from pipeline.risk.margin_state import MarginState
from pipeline.sim.exchange.latency import NS_PER_S
from pipeline.virtual.margin_storm import (
    BASIS,
    FUTURES,
    MID,
    PAIR,
    QTY,
    SLOW,
    SPOT,
    SYMBOL,
    Storm,
    run_storm,
    storm_world,
)
from pipeline.virtual.market import Quote
from pipeline.virtual.venue_link import VenueLink
from pipeline.virtual.world import VirtualWorld

D = Decimal
ASLEEP = MarginConfig(trigger_pct=D("0.02"), target_pct=D("0.03"), out_pct=D("0.01"))
TEN = Storm(10, D("0.25"), MarginConfig(trigger_pct=D(20), target_pct=D(25), out_pct=D(7)))


@pytest.mark.parametrize("seed", range(20))
def test_a_fast_venue_liquidates_nothing_at_three_times(seed: int) -> None:
    end = run_storm(Storm(), seed, up=seed % 2 == 0)
    assert end.entered and not end.liquidated
    assert end.cuts > 0 and end.added > 0 and end.left < D("0.3")
    assert abs(end.left - end.spot_left) < D("0.01"), "the legs are cut together"


@pytest.mark.parametrize(("seed", "up"), [(9, True), (12, True), (0, False), (1, False)])
def test_a_slow_venue_liquidates_nothing_either(seed: int, up: bool) -> None:
    """Seeds in which an exit by choice, a leg that was undone, or too narrow a limit cost the contract."""
    end = run_storm(Storm(venue=SLOW), seed, up=up)
    assert end.entered and not end.liquidated and end.cuts > 0
    assert abs(end.left - end.spot_left) < D("0.01")


@pytest.mark.parametrize("seed", range(4))
def test_ten_times_lives_on_its_buffer(seed: int) -> None:
    end = run_storm(TEN, seed, up=seed % 2 == 0)
    assert end.entered and not end.liquidated and end.added > 0


@pytest.mark.parametrize("up", [True, False])
def test_without_the_watch_the_same_storm_liquidates_and_the_other_leg_is_gone_within_five_seconds(up: bool) -> None:
    end = run_storm(Storm(margin=ASLEEP), 1, up=up)
    assert end.liquidated and 0 < end.naked_s <= 5
    assert (end.left, round(end.spot_left, 3)) == (0, 0)


def test_accounts_are_read_as_often_as_the_poller_reads_them() -> None:
    world = storm_world(Storm(), 1, up=True)
    assert world.account_poll_ns == world.config.execution.balance_refresh_interval_ms * NS_PER_S // 2000
    seen = []
    for _ in range(100):
        world.run(100)
        seen.append(world.core.risk.gate.margin.readings[FUTURES, SYMBOL].position.recv_mono_ns)
    assert 18 <= len(set(seen)) <= 21


def test_no_exit_by_choice_begins_below_the_trigger() -> None:
    """It would hold the hedge, at limits that protect a profit, while its margin runs out."""
    world = storm_world(Storm(), 1, up=True)
    control = world.core.hedges
    assert world.run_until(lambda: bool(control.exit_rows()), limit_ms=5000)
    world.stalled.add(SPOT)  # nothing can be cut
    world.run(6000)
    mid = world.market.quotes[FUTURES, SYMBOL].mid
    world.market.move(FUTURES, SYMBOL, mid * D("1.18"))
    world.run(1000)
    state = world.core.risk.gate.margin
    assert state.short(FUTURES, SYMBOL) and state.bound_bps(FUTURES, SYMBOL) > 500
    assert not control.exit_rows() and world.core.ledger.hedges


def test_ten_times_without_a_buffer_does_not_enter() -> None:
    assert not run_storm(Storm(10, D("0.05")), 1, up=True).entered
    assert run_storm(Storm(10, D("0.12")), 1, up=True).entered


def test_only_the_limit_on_the_contract_reaches_as_far_as_the_price_band_allows() -> None:
    """Sizes stay what the books hold within the usual bound, the spot leg's limit too; a limit that the venue would
    refuse cuts nothing."""
    world = storm_world(Storm(venue=SLOW), 1, up=False)
    world.run(50)
    context, (hedge,) = world.core.context, world.core.ledger.hedges.values()
    half = context.config.execution.unwind_max_slippage_bps

    def reach(bound_bps: int) -> tuple[Decimal, Decimal]:
        plan = cut_plan(context, hedge, QTY, D(bound_bps))
        assert not isinstance(plan, str)
        futures, spot = plan.legs
        bps = [abs(leg.limit / leg.best - 1) * 10_000 for leg in plan.legs]
        assert futures.qty == spot.qty < QTY  # 5 levels of what one order may take
        return round(bps[0]), round(bps[1])

    assert reach(50) == (half, half)
    assert reach(400) == (400, half)
    row = context.instruments.find(FUTURES, SYMBOL)
    band = D(row.spec.price_band_ppm) / 100 if row is not None else D(0)
    assert reach(9000) == (round(band * D("0.8")) if band else 9000, half)


def test_a_short_margin_widens_repairs_on_the_contract_and_not_on_the_spot_venue() -> None:
    """The spot leg's order of a cut is lost: what is repaired there is sold within the usual bound."""
    world = storm_world(Storm(), 1, up=True)
    for name in (SPOT, FUTURES):
        world.market.move(name, SYMBOL, world.market.quotes[name, SYMBOL].mid * D("1.2"))
    world.arm(kind="drop_request", venue=SPOT, target="place", count=1)
    world.arm(kind="drop_request", venue=FUTURES, target="leverage", count=0)  # no margin is added: it stays short
    state, orders = world.core.risk.gate.margin, world.core.ledger.orders

    def repairs() -> list[OrderIntentRecord]:
        return [o.intent for o in orders.values() if o.intent.venue == SPOT and o.intent.purpose is Purpose.REPAIR]

    assert world.run_until(lambda: bool(repairs()), limit_ms=30_000)
    assert state.bound_bps(FUTURES, SYMBOL) > 500
    most_bps = world.core.context.config.execution.unwind_max_slippage_bps
    best = world.market.quotes[SPOT, SYMBOL].mid
    assert 0 <= (1 - repairs()[0].price / best) * 10_000 <= most_bps + 2
    assert world.run_until(lambda: not world.core.ledger.open_operations, limit_ms=30_000)


@pytest.mark.parametrize("kept", [False, True])
def test_free_balance_is_added_before_anything_is_cut(kept: bool) -> None:
    """Also what is set aside (``kept``): that is kept from new risk, not from what keeps a position alive."""
    world = storm_world(Storm(buffer=D("0.3")), 1, up=True)
    watch, balances = world.core.margin, world.core.balances
    if kept:
        balances.set_aside("mine", FUTURES, "USDT", balances.usable(FUTURES, "USDT"))
    for name in (SPOT, FUTURES):
        world.market.move(name, SYMBOL, world.market.quotes[name, SYMBOL].mid * D("1.2"))
    world.run(5000)
    reading = world.core.risk.gate.margin.readings[FUTURES, SYMBOL]
    assert watch.added > 0 and watch.cuts == 0
    assert abs(reading.distance - D("0.20")) < D("0.001")
    assert -reading.position.qty == next(iter(world.core.ledger.hedges.values())).qty


def test_an_added_margin_whose_answer_is_lost_is_not_waited_for_for_ever(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(margin_watch, "ADDING_MAX_NS", 2 * NS_PER_S)
    lost: list[AddMargin] = []
    answered = VenueLink.add_margin

    def add_margin(link: VenueLink, action: AddMargin) -> None:
        if lost:
            answered(link, action)
        else:
            lost.append(action)

    monkeypatch.setattr(VenueLink, "add_margin", add_margin)
    world = storm_world(Storm(buffer=D("0.3")), 1, up=True)
    for name in (SPOT, FUTURES):
        world.market.move(name, SYMBOL, world.market.quotes[name, SYMBOL].mid * D("1.2"))
    world.run(8000)
    assert lost and world.core.margin.added > 0
    assert any("no answer" in alert.text for alert in world.alerts)
    assert abs(world.core.risk.gate.margin.readings[FUTURES, SYMBOL].distance - D("0.20")) < D("0.001")


def test_a_jump_below_the_last_bound_closes_both_legs() -> None:
    world = storm_world(Storm(), 1, up=True)
    for name in (SPOT, FUTURES):
        quote = world.market.quotes[name, SYMBOL]
        world.market.move(name, SYMBOL, quote.mid * D("1.29"))
    world.run(10_000)
    assert not world.core.ledger.hedges and world.core.margin.closes == 1
    assert world.position(FUTURES, SYMBOL) == 0 and not world.ledger.of_kind("forced")
    assert abs(world.core.positions.delta().get("BTC", D(0))) < D("0.0001")


def said(world: VirtualWorld) -> list[str]:
    """What the watch has said, in order."""
    return [alert.text.removeprefix(f"{FUTURES} {SYMBOL}: ") for alert in world.alerts if alert.code == "margin"]


def jump(world: VirtualWorld, factor: str) -> None:
    for name in (SPOT, FUTURES):
        world.market.move(name, SYMBOL, world.market.quotes[name, SYMBOL].mid * D(factor))


def test_nothing_is_said_to_be_closed_before_it_is() -> None:
    world = storm_world(Storm(), 1, up=True)
    hedge_id, held = next(iter(world.core.ledger.hedges)), world.position(FUTURES, SYMBOL)
    jump(world, "1.29")
    assert world.run_until(lambda: bool(said(world)), limit_ms=5000)
    assert world.position(FUTURES, SYMBOL) == held, "the order is on its way"
    (sent,) = said(world)
    assert "are being closed on both legs" in sent
    assert world.run_until(lambda: len(said(world)) > 1, limit_ms=10_000)
    assert world.position(FUTURES, SYMBOL) == 0 and not world.core.ledger.hedges
    (operation,) = world.core.ledger.closings[hedge_id]
    assert said(world)[1] == f"operation {operation.operation_id} ended: {-held} BTC closed, hedge {hedge_id} is flat"


def test_an_exit_that_is_refused_says_once_that_everything_stays_open() -> None:
    world = storm_world(Storm(), 1, up=True)
    (hedge_id,) = world.core.ledger.hedges
    world.arm(kind="reject", target="place", venue=FUTURES, count=0, reason="price_band")
    world.arm(kind="reject", target="place", venue=SPOT, count=0, reason="insufficient_balance")
    jump(world, "1.29")
    assert world.run_until(lambda: len(world.core.ledger.closings.get(hedge_id, ())) > 2, limit_ms=30_000)
    (ended,) = [text for text in said(world) if "ended: " in text]
    assert "nothing closed (nothing filled: " in ended and f"of hedge {hedge_id} stay open" in ended
    assert not any("flat" in text for text in said(world)) and world.core.ledger.hedges


def test_an_exit_whose_other_leg_nobody_takes_says_what_waits_for_an_operator() -> None:
    world = storm_world(Storm(), 1, up=True)
    (hedge_id,) = world.core.ledger.hedges
    world.arm(kind="reject", target="place", venue=SPOT, count=0, reason="insufficient_balance")
    world.arm(kind="reject", target="place", venue=FUTURES, after=1, count=0, reason="price_band")
    jump(world, "1.29")
    assert world.run_until(lambda: any("waits for an operator" in text for text in said(world)), limit_ms=60_000)
    world.run(5000)
    text = next(text for text in said(world) if "waits for an operator" in text)
    (operation,) = world.core.ledger.closings[hedge_id]
    bought = sum(fill.qty for fill in operation.fills)
    assert bought and text.startswith(
        f"operation {operation.operation_id} waits for an operator (arb recoveries --approve "
        f"r{operation.operation_id}): {bought} BTC stand alone, "
    )
    assert not any("ended: " in text for text in said(world))


def test_a_part_that_is_cut_says_what_stays_open() -> None:
    world = storm_world(Storm(), 1, up=True)
    ((hedge_id, hedge),) = world.core.ledger.hedges.items()
    jump(world, "1.19")
    assert world.run_until(lambda: any("ended: " in text for text in said(world)), limit_ms=10_000)
    (sent,) = [text for text in said(world) if "are being cut off both legs" in text]
    ended = said(world)[-1]
    left = world.core.ledger.hedges[hedge_id].qty
    assert said(world).index(sent) < said(world).index(ended) and ended.endswith(
        f" {left} BTC of hedge {hedge_id} stay open"
    )
    assert f"{hedge.qty - left} BTC closed" in ended and -world.position(FUTURES, SYMBOL) == left


def test_a_cut_whose_coins_nobody_takes_for_now_does_not_end_the_watch_over_its_contract() -> None:
    """Its futures part has filled and set margin free, which is added; the venue of its coins is away."""
    world = storm_world(Storm(), 1, up=True)
    ((hedge_id, hedge),) = world.core.ledger.hedges.items()
    world.arm(kind="drop_request", venue=SPOT, target="place", count=1)
    jump(world, "1.19")
    assert world.run_until(lambda: bool(world.core.ledger.closings.get(hedge_id)), limit_ms=5000)
    world.links[SPOT].disconnect("gone")
    assert world.run_until(lambda: -world.position(FUTURES, SYMBOL) < hedge.qty, limit_ms=5000)
    left, watch = world.position(FUTURES, SYMBOL), world.core.margin
    assert world.run_until(lambda: watch.added > 0, limit_ms=5000)
    (operation,) = world.core.ledger.closings[hedge_id]
    assert operation.operation_id in world.core.ledger.open_operations and watch.cuts == 1
    world.run(5000)
    assert world.position(FUTURES, SYMBOL) == left, "nothing more is cut of what is being cut"
    assert world.core.risk.gate.margin.readings[FUTURES, SYMBOL].distance > D("0.19")
    world.links[SPOT].connect()
    assert world.run_until(lambda: not world.core.ledger.open_operations, limit_ms=20_000)
    assert world.core.ledger.hedges[hedge_id].qty == -left


def test_margin_is_said_to_be_added_when_the_venue_has_taken_it() -> None:
    world = storm_world(Storm(buffer=D("0.3")), 1, up=True)
    jump(world, "1.2")
    assert world.run_until(lambda: bool(said(world)), limit_ms=5000)
    assert said(world)[0].endswith(" USDT are being added") and not world.core.margin.added
    assert world.run_until(lambda: bool(world.core.margin.added), limit_ms=5000)
    assert said(world)[1].endswith(" of margin added")


def test_a_cut_that_has_left_memory_does_not_matter_to_the_next_hedge(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(retirement, "RETIRE_AFTER_NS", 3 * NS_PER_S)
    monkeypatch.setattr(retirement, "LOOK_EVERY_NS", NS_PER_S // 10)
    world = storm_world(Storm(buffer=D(1)), 1, up=True)
    ledger = world.core.ledger
    for name in (SPOT, FUTURES):
        world.market.move(name, SYMBOL, world.market.quotes[name, SYMBOL].mid * D("1.29"))
    assert world.run_until(lambda: bool(ledger.retired_operations) and not ledger.operations, limit_ms=30_000)
    assert world.core.margin.closes == 1
    for name in (SPOT, FUTURES):
        world.market.quote(name, SYMBOL, Quote(MID * BASIS if name == FUTURES else MID, qty=QTY))
    world.run(2000)
    offered = world.opportunity(SPOT, FUTURES, PAIR, qty=QTY / 2)
    assert offered is not None
    world.feed(offered)
    assert world.run_until(lambda: bool(ledger.hedges), limit_ms=10_000), world.refusals
    world.run(1000)
    assert (FUTURES, SYMBOL) in world.core.risk.gate.margin.readings


@pytest.mark.parametrize("up", [True, False])
def test_below_out_the_contract_alone_is_closed_while_the_spot_venues_are_away(up: bool) -> None:
    """No free margin, no book and no session there: the coins stand alone, and are reduced when they are back."""
    world = storm_world(Storm(), 1, up=up)
    held, away = world.position(FUTURES, SYMBOL), [name for name in world.links if name != FUTURES]
    for name in away:
        world.stalled.add(name)
        world.links[name].disconnect("gone")
    world.run(6000)
    jump(world, "1.29" if up else "0.69")
    assert world.run_until(lambda: world.position(FUTURES, SYMBOL) == 0, limit_ms=10_000), said(world)
    assert not world.ledger.of_kind("forced") and world.core.margin.closes == 1
    assert any("alone, its coins follow" in text and f"{SPOT} {SYMBOL}: no live book" in text for text in said(world))
    closing = [o.intent for o in world.core.ledger.orders.values() if o.intent.purpose is Purpose.FLATTEN]
    assert [(intent.venue, intent.reduce_only) for intent in closing] == [(FUTURES, True)]
    world.run(90_000)  # longer than any price of the plan stands
    assert world.position(FUTURES, SYMBOL) == 0, "nothing is bought back"
    (operation,) = world.core.ledger.open_operations.values()
    assert operation.exposure()["BTC"] == -held, "its coins stand alone, and are counted"
    for name in away:
        world.links[name].connect()
        world.stalled.discard(name)
    jump(world, "1.001")
    assert world.run_until(lambda: not world.core.ledger.open_operations, limit_ms=30_000)
    assert not world.core.ledger.hedges and world.position(FUTURES, SYMBOL) == 0
    assert abs(world.core.positions.delta().get("BTC", D(0))) < D("0.0001")


def test_what_an_earlier_cut_has_left_of_the_contract_is_closed_below_out_while_its_coins_wait() -> None:
    world = storm_world(Storm(), 1, up=True)
    ((hedge_id, hedge),) = world.core.ledger.hedges.items()
    world.arm(kind="drop_request", venue=SPOT, target="place", count=1)
    jump(world, "1.19")
    assert world.run_until(lambda: bool(world.core.ledger.closings.get(hedge_id)), limit_ms=5000)
    world.links[SPOT].disconnect("gone")
    assert world.run_until(lambda: 0 < -world.position(FUTURES, SYMBOL) < hedge.qty, limit_ms=5000)
    world.run(3000)
    jump(world, "1.16")
    assert world.run_until(lambda: world.position(FUTURES, SYMBOL) == 0, limit_ms=10_000), said(world)
    assert not world.ledger.of_kind("forced") and len(world.core.ledger.closings[hedge_id]) == 2
    world.links[SPOT].connect()
    assert world.run_until(lambda: not world.core.ledger.open_operations, limit_ms=30_000)
    assert not world.core.ledger.hedges and world.position(FUTURES, SYMBOL) == 0
    assert abs(world.core.positions.delta().get("BTC", D(0))) < D("0.0001")


def test_a_watch_that_can_cut_nothing_says_why_once() -> None:
    world = storm_world(Storm(), 1, up=True)
    world.stalled.add(SPOT)  # no book: no price to bound the spot leg with
    mid = world.market.quotes[FUTURES, SYMBOL].mid
    world.run(6000)
    world.market.move(FUTURES, SYMBOL, mid * D("1.19"))
    world.run(3000)
    assert world.position(FUTURES, SYMBOL) != 0, "above out it stays: its coins could not follow"
    texts = [alert.text for alert in world.alerts if alert.code == "margin" and "nothing can be cut" in alert.text]
    assert len(texts) == 1 and f"{SPOT} {SYMBOL}: no live book" in texts[0]


def dearer_contract(world: VirtualWorld) -> None:
    """Both legs 8 % up, and the contract 80 bps more: a loss of the hedge that is no reason to leave it."""
    for name in (SPOT, FUTURES):
        mid = world.market.quotes[name, SYMBOL].mid * D("1.08")
        world.market.move(name, SYMBOL, mid * D("1.008") if name == FUTURES else mid)
    world.run(2500)


def test_exposure_is_valued_at_mark_and_its_loss_counts() -> None:
    world = storm_world(Storm(buffer=D("0.5")), 1, up=True)
    gate = world.core.risk.gate
    before = gate.exposure().hedges
    dearer_contract(world)
    assert abs(gate.exposure().hedges / before / (D("1.08") * D("1.008")) - 1) < D("0.002")
    lost = QTY * MID * (D("1.08") * (BASIS * D("1.008") - 1) - (BASIS - 1))
    assert abs(-gate.worth.unrealised / lost - 1) < D("0.1")
    assert gate.worth.day_loss() > -gate.worth.unrealised  # fees besides


def test_our_liquidation_price_is_the_venues() -> None:
    for up in (True, False):
        world = storm_world(Storm(), 1, up=up)
        state = world.core.risk.gate.margin
        world.run(2500)
        reading = state.readings[FUTURES, SYMBOL]
        reported, own = reading.position.liquidation_price, reading.own_liquidation
        assert reported is not None and own is not None and abs(own / reported - 1) < D("0.0001")
        assert not state.doubted and D("0.31") < reading.distance < D("0.34")


def steep(cap: int) -> tuple[dict[str, str | int], ...]:
    """0.5 % of the first ``cap`` quote coins, 2 % of what is beyond."""
    return (
        {"cap": str(cap), "maintenance_rate": "0.005", "leverage_max": 100},
        {"cap": "1000000", "maintenance_rate": "0.02", "leverage_max": 20, "deduction": f"{cap * 0.015}"},
    )


@pytest.mark.parametrize(("up", "cap"), [(True, 3500), (False, 2700)])
def test_our_liquidation_price_is_the_venues_where_it_lies_in_another_tier(up: bool, cap: int) -> None:
    world = storm_world(Storm(risk_tiers=steep(cap)), 1, up=up)
    state = world.core.risk.gate.margin
    world.run(2500)
    reading = state.readings[FUTURES, SYMBOL]
    position = reading.position
    reported, own = position.liquidation_price, reading.own_liquidation
    assert reported is not None and own is not None and abs(own / reported - 1) < D("0.0001")
    assert not state.doubted
    assert position.maintenance_margin is not None
    deduction = position.maintenance_rate * abs(position.qty) * position.mark_price - position.maintenance_margin
    now = (Tier(D("Infinity"), position.maintenance_rate, deduction),)
    side, qty = reading.side, abs(position.qty)
    by_now = liquidation_price(side, qty, position.entry_price, position.margin, now, D("0.0002"))
    assert disagree(by_now, reported), "the tier of now alone would be taken for misread"


def test_a_loss_that_is_not_realised_trips_the_limit_of_the_day() -> None:
    world = storm_world(Storm(buffer=D("0.5")), 1, up=True)
    limits = msgspec.structs.replace(world.config.risk_limits, max_daily_loss_usd=D(20))
    world.core.reconfigure(msgspec.structs.replace(world.config, risk_limits=limits))
    world.run(2500)
    assert "daily_loss" not in world.core.ledger.breakers
    dearer_contract(world)
    world.run(11_000)
    assert "not realised" in world.core.ledger.breakers["daily_loss"]


def test_a_hedge_without_a_usd_rate_is_named_and_never_counts_as_one_dollar() -> None:
    world = storm_world(Storm(), 1, up=True)
    gate = world.core.risk.gate
    assert gate.exposure().hedges > 1000
    world.core.rates.rate_since = lambda asset, mono_ns: None  # type: ignore[method-assign]
    found = gate.exposure()
    assert (found.hedges, found.unvalued) == (0, {"USDT"})
    world.run(2500)
    assert [alert.code for alert in world.alerts if "no USD rate for USDT" in alert.text] == ["exposure"]


def test_one_contract_whose_tiers_are_refused_keeps_no_other_waiting() -> None:
    """A question a second, answered at once; one contract is refused each time."""
    world = storm_world(Storm(), 1, up=True)
    context = world.core.context
    known = next(row for row in context.instruments if row.spec.venue == FUTURES)
    names = [f"C{number}_USDT" for number in range(200)]
    specs = [msgspec.structs.replace(known.spec, symbol=name) for name in names]
    context.instruments = Instruments(
        msgspec.structs.replace(known, instrument_id=number, spec=spec) for number, spec in enumerate(specs)
    )
    state = MarginState(context, world.core.balances)
    refused, asked, began = names[3], Counter[str](), context.now
    for second in range(3599):
        context.now = msgspec.structs.replace(began, mono_ns=began.mono_ns + second * NS_PER_S)
        context.actions.clear()
        state.ask_tiers([FUTURES])
        for question in context.actions:
            assert isinstance(question, FetchRiskTiers)
            asked[question.symbol] += 1
            error = "refused" if question.symbol == refused else ""
            state.on_tiers(RiskTiersAnswer(FUTURES, question.symbol, error=error))
    assert asked.pop(refused) > 10
    assert asked == dict.fromkeys([name for name in names if name != refused], 1)
