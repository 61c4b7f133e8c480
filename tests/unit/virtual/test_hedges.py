"""An open hedge until it leaves: funding, deadline, partial exits, forced exits, limits that protect the decision."""

from __future__ import annotations

from decimal import Decimal

import msgspec
import pytest

from pipeline.execution.events import CatalogueChanged, Opportunity
from pipeline.execution.records import FundingRecord
from pipeline.model.config import DetectionConfig, ExecutionConfig, HedgeConfig, HedgeExitConfig, RiskLimits
from pipeline.model.enums import OpportunityType, Refusal
from pipeline.virtual.market import Quote
from pipeline.virtual.world import VirtualWorld

D = Decimal
SPOT, FUTURES = ("gateio_spot", "BTC_USDT"), ("gateio_futures", "BTC_USDT")
MID = D("64000")


def make(**exit_settings: object) -> VirtualWorld:
    """A world whose core holds one hedge: long spot, short futures, entered at a basis of about 60 bps that is there
    still."""
    hedge = HedgeConfig(exit=HedgeExitConfig(**exit_settings))  # type: ignore[arg-type]
    settings = {
        "detection": DetectionConfig(cooldown_ms=5, hedge=hedge),
        "risk_limits": RiskLimits(min_profit_margin_bps=D(3), max_slippage_bps=D(50)),
        "execution": ExecutionConfig(),
    }
    world = VirtualWorld("demo", 1, settings=settings)
    world.open({listing: Quote(MID, qty=D("0.05")) for listing in (("mexc_spot", "BTCUSDT"), SPOT, FUTURES)})
    assert world.run_until(lambda: world.core.ready, limit_ms=5000)
    world.market.move(*FUTURES, MID * D("1.006"))
    world.run(50)
    offer = world.opportunity(SPOT[0], FUTURES[0], "BTC/USDT")
    assert offer is not None
    world.feed(offer)
    world.run(2500)
    assert len(world.core.ledger.hedges) == 1 and not world.core.ledger.unsettled
    return world


def restore_depth(world: VirtualWorld) -> None:
    """What the entry took from the books is there again."""
    for listing in (SPOT, FUTURES):
        world.market.move(*listing, world.market.quotes[listing].mid)


def pay_funding(world: VirtualWorld, bps: float, event: str) -> None:
    """The venue books a payment of so many bps of the hedge's notional; + = received."""
    hedge = next(iter(world.core.ledger.hedges.values()))
    amount = hedge.qty * hedge.entry_futures_price * D(str(bps)) / 10_000
    record = FundingRecord(FUTURES[0], FUTURES[1], event, "USDT", amount, world.clock.wall_ns() // 1_000_000, amount)
    world.core.ledger.apply(record, world.clock.mono_ns(), world.clock.wall_ns())


def set_funding(world: VirtualWorld, rate_ppb: int, next_in_s: int = 0) -> None:
    """The catalogue's next refresh brings this rate and, where given, this stamp."""
    row = next(row for row in world.instruments if (row.spec.venue, row.spec.symbol) == FUTURES)
    spec = msgspec.structs.replace(row.spec, funding_rate_ppb=rate_ppb)
    if next_in_s:
        stamp_s = world.clock.wall_ns() // 1_000_000_000 + next_in_s
        spec = msgspec.structs.replace(spec, funding_next_wall_s=stamp_s)
    world.feed(CatalogueChanged((msgspec.structs.replace(row, spec=spec),)))


def leave_hard(world: VirtualWorld) -> None:
    """The hedge must leave (as for a delisting that was announced)."""
    world.core.hedges.hard_exit(next(iter(world.core.ledger.hedges.values())), "as told")


def is_flat(world: VirtualWorld) -> bool:
    return not world.core.ledger.hedges and world.position(*FUTURES) == 0


def test_a_basis_that_has_not_moved_keeps_the_hedge_open() -> None:
    world = make()
    restore_depth(world)
    world.run(30_000)
    assert len(world.core.ledger.hedges) == 1


def test_money_that_funding_brought_is_sunk_and_the_basis_takes_the_hedge_home() -> None:
    world = make()
    restore_depth(world)
    pay_funding(world, 500, "received")
    world.run(5000)
    reading = next(iter(world.core.hedges.watch.readings.values()))
    assert 480 < reading.value_bps < 500 and abs(reading.funding_bps - 500) < 0.01
    assert not is_flat(world)
    world.market.move(*FUTURES, MID)  # a dip far deeper than a round trip
    world.run(3000)
    assert is_flat(world)


def test_funding_that_has_turned_ends_the_hedge() -> None:
    world = make()
    restore_depth(world)
    pay_funding(world, -40, "first")
    pay_funding(world, -40, "second")
    world.run(3000)
    assert not is_flat(world)  # not announced to go on
    set_funding(world, -1_000_000)
    world.run(5000)
    assert is_flat(world)
    assert any("funding turned" in alert.text for alert in world.alerts)


def test_a_payment_that_the_reversion_does_not_earn_back_is_left_before_its_stamp() -> None:
    world = make()
    restore_depth(world)
    set_funding(world, -5_000_000, next_in_s=600)
    world.run(1500)
    assert not is_flat(world)
    world.market.move(*FUTURES, MID * D("1.00595"))  # any basis that is not above its mean of two minutes will do
    world.run(1500)
    assert is_flat(world)
    assert not any(alert.code == "hedge_exit" for alert in world.alerts)  # by choice


def test_a_receipt_within_the_stamp_window_is_not_counted_and_nothing_leaves_in_it() -> None:
    world = make()
    restore_depth(world)
    set_funding(world, 500_000, next_in_s=40)
    world.market.move(*FUTURES, MID)
    world.run(2000)
    assert not is_flat(world)
    world.market.move(*FUTURES, MID * D("1.006"))
    world.run(45_000)
    world.market.move(*FUTURES, MID)
    world.run(2000)
    assert is_flat(world)


def test_a_loss_beyond_the_bound_ends_the_hedge() -> None:
    world = make()
    restore_depth(world)
    world.market.move(*FUTURES, MID * D("1.03"))
    world.run(3000)
    assert is_flat(world)
    assert any("loss" in alert.text for alert in world.alerts)


def test_the_deadline_ends_the_hedge() -> None:
    world = make(deadline_hours=D("0.005"))
    restore_depth(world)
    world.run(14_000)
    assert not is_flat(world)
    world.run(6000)
    assert is_flat(world)


def test_a_thin_book_lets_a_part_leave_and_the_rest_later() -> None:
    world = make()
    held = next(iter(world.core.ledger.hedges.values())).qty
    restore_depth(world)
    world.market.quote(*SPOT, Quote(MID, qty=held / 8))
    world.run(50)
    world.market.quote(*FUTURES, Quote(MID, qty=held / 8))
    world.run(1000)
    left = next(iter(world.core.ledger.hedges.values())).qty
    assert D(0) < left < held
    assert world.position(*FUTURES) == -left
    for _ in range(6):
        restore_depth(world)
        world.run(1000)
    assert is_flat(world)


def test_a_forced_exit_that_cannot_go_says_why() -> None:
    world = make()
    for listing in (SPOT, FUTURES):
        world.market.quote(*listing, Quote(MID, qty=D("0")))
    leave_hard(world)
    world.run(14_000)
    assert not any(alert.code == "hedge_exit_blocked" for alert in world.alerts)
    world.run(3000)
    said = [alert for alert in world.alerts if alert.code == "hedge_exit_blocked"]
    assert len(said) == 1 and "no depth" in said[0].text
    for listing in (SPOT, FUTURES):
        world.market.quote(*listing, Quote(MID, qty=D("0.05")))
    world.run(2000)
    assert is_flat(world)


def test_a_forced_exit_widens_its_bound() -> None:
    world = make()
    for listing in (SPOT, FUTURES):  # a lot at the best price, all else 15 bps away
        world.market.quote(*listing, Quote(MID, qty=D("0.0001"), step_bps=D(100)))
    leave_hard(world)
    hedge = next(iter(world.core.ledger.hedges.values()))
    bounds = []
    for _ in range(4):
        bounds.append(world.core.hedges.exits.bound_bps(hedge))
        world.run(5040)
    assert bounds == [D(10), D(20), D(50), D(50)]


def test_an_exit_that_the_market_leaves_in_flight_gives_away_no_more_than_its_slack() -> None:
    """The basis is a little below the threshold; both legs move 19 bps against us before the orders arrive."""
    world = make()
    restore_depth(world)
    world.run(20_000)
    before = world.core.ledger.total_pnl
    reading = next(iter(world.core.hedges.watch.readings.values()))
    assert reading.threshold_milli_bps is not None
    target = D(reading.threshold_milli_bps) / 1000 - D("1.5")
    hedge = next(iter(world.core.ledger.hedges.values()))
    world.market.move(*FUTURES, MID * (1 + (target - 2) / 10_000))
    assert world.run_until(lambda: bool(world.core.ledger.unsettled), limit_ms=1000, step_ms=1)
    limits = {order.intent.venue: order.intent.price for order in world.core.ledger.unsettled.values()}
    reading = next(iter(world.core.hedges.watch.readings.values()))
    y_at_limits = (limits[FUTURES[0]] - limits[SPOT[0]]) / limits[SPOT[0]] * 10_000
    assert y_at_limits <= D(reading.threshold_milli_bps) / 1000 + D("0.05")
    world.market.move(*FUTURES, MID * (1 + (target + 19) / 10_000))
    world.market.move(*SPOT, MID * (1 - D(19) / 10_000))
    world.run(1000)
    assert world.core.ledger.hedges[hedge.operation_id].qty == hedge.qty
    assert world.core.ledger.total_pnl == before


def test_the_models_of_a_pair_go_on_after_a_restart() -> None:
    world = make()
    world.run(180_000)
    states = world.core.hedges.watch.states()
    key = "gateio_spot BTC_USDT gateio_futures BTC_USDT"
    assert states[key].model[0] >= 3
    world.kill()
    world.core.hedges.watch.restore(states)
    assert world.core.hedges.watch.states()[key] == states[key]
    hedge = next(iter(world.core.ledger.hedges.values()))
    assert world.core.hedges.watch.age_h(hedge) > 0.05  # the age outlives the run


def offered_exit(world: VirtualWorld) -> Opportunity:
    """What the detector pushes when it sees the exit of the open hedge."""
    (row,) = world.core.hedges.exit_rows()
    entry = world.opportunity(SPOT[0], FUTURES[0], "BTC/USDT")
    assert entry is not None
    return msgspec.structs.replace(
        entry, type=int(OpportunityType.HEDGE_EXIT), direction_key=row.direction_key, manual=False
    )


def test_an_offered_exit_is_judged_again_on_the_books_of_now() -> None:
    world = make()
    restore_depth(world)
    world.run(2000)
    exit_offer = offered_exit(world)
    world.feed(exit_offer)  # the basis is where it was
    assert not world.core.ledger.unsettled
    world.market.move(*FUTURES, MID)
    assert world.run_until(lambda: bool(world.core.ledger.unsettled), limit_ms=300, step_ms=1)
    assert world.core.hedges.exit_rows() == []  # it is on its way out
    world.run(2000)
    assert is_flat(world)


def test_the_opposite_opportunity_is_no_second_hedge() -> None:
    world = make()
    restore_depth(world)
    world.run(100)
    world.market.move(*FUTURES, MID * D("0.99"))
    assert world.run_until(
        lambda: world.opportunity(FUTURES[0], SPOT[0], "BTC/USDT") is not None, limit_ms=100, step_ms=1
    )
    opposite = world.opportunity(FUTURES[0], SPOT[0], "BTC/USDT")
    assert opposite is not None
    world.feed(opposite)
    assert world.refusals[-1] is Refusal.NETS
    world.run(3000)
    assert is_flat(world)


def test_a_hedge_shows_what_it_is_worth_if_it_left_now() -> None:
    world = make()
    restore_depth(world)
    pay_funding(world, 10, "received")
    world.run(2000)
    hedge = next(iter(world.core.ledger.hedges.values()))
    reading = world.core.hedges.watch.readings[hedge.operation_id]
    assert reading.leaves_at_bps is not None and reading.leaves_at_bps < reading.y_bps
    notional = hedge.qty * hedge.entry_spot_price
    leave_hard(world)
    assert world.core.hedges.exits.hard[hedge.operation_id].reason == "as told"
    world.run(2000)
    assert is_flat(world)
    results = [operation.result for operation in world.core.ledger.operations.values() if operation.result is not None]
    round_trip = sum((result.pnl_numeraire for result in results), D(0)) + notional * D("0.001")
    assert abs(round_trip - notional * D(reading.value_bps) / 10_000) < D("0.5")  # of 2000: depth, ticks and carry


def test_a_row_that_cannot_be_read_takes_no_entry_and_drives_no_hedge_out() -> None:
    world = make()
    restore_depth(world)
    world.run(2000)
    assert not is_flat(world)
    for row in list(world.instruments):
        spec = msgspec.structs.replace(row.spec, ending=True, unreadable=True)
        world.feed(CatalogueChanged((msgspec.structs.replace(row, spec=spec),)))
    world.run(5000)
    assert not is_flat(world)


@pytest.mark.parametrize("leg", [SPOT, FUTURES])
def test_a_hedge_leaves_before_the_announced_end_of_one_of_its_markets(leg: tuple[str, str]) -> None:
    world = make()
    restore_depth(world)
    world.run(2000)
    assert not is_flat(world)
    row = next(row for row in world.instruments if (row.spec.venue, row.spec.symbol) == leg)
    until_s = world.clock.wall_ns() // 1_000_000_000 + 3600
    spec = msgspec.structs.replace(row.spec, trading_until_wall_s=until_s, ending=True)
    world.feed(CatalogueChanged((msgspec.structs.replace(row, spec=spec),)))
    world.run(5000)
    assert is_flat(world)
    assert any("ends trading at" in alert.text for alert in world.alerts)
    world.market.move(*FUTURES, MID * D("1.012"))
    world.run(1500)
    offer = world.opportunity(SPOT[0], FUTURES[0], "BTC/USDT")
    assert offer is not None  # an operator's; the detector does not offer it
    world.feed(offer)
    world.run(1500)
    assert is_flat(world)
