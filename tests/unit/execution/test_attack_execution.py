"""Attacks on the execution core: orders of events that venues may produce, and what must not follow from them."""

from __future__ import annotations

from decimal import Decimal

import pytest
from msgspec.structs import replace

from pipeline.exchanges.base import OutcomeKind, SessionState
from pipeline.execution.events import (
    BalancesAnswer,
    Command,
    CommandKind,
    FetchBalances,
    Opportunity,
    OpportunityLeg,
    SweepVenue,
)
from pipeline.execution.market import Instruments
from pipeline.execution.plan import malformed
from pipeline.execution.records import Outcome
from pipeline.model.enums import (
    BalanceCheck,
    FeeAssetRule,
    InstrumentKind,
    OpportunityType,
    OrderSide,
    OrderState,
    Refusal,
)
from pipeline.rehearsal.instruments import rows_for, spec
from tests.worlds.execution_starts import ready_world
from tests.worlds.execution_world import MS, Faults, World, make_config
from tests.worlds.venue_messages import fill_of, finish_order, moved_by, only, order_on, outcome_of, sweep_of, update_of

SILENT = Faults(drop_request=1.0)


# --- fills: once, all of them ---


def test_a_fill_reported_twice_before_the_acknowledgement_is_booked_once() -> None:
    """The stream tells a fill without our id; REST tells it again with it; the acknowledgement never came."""
    world = ready_world(faults=SILENT)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    order = order_on(world, "gateio_spot")
    world.feed(fill_of(world, order, client_id=""))
    assert order.filled == 0
    world.feed(fill_of(world, order, source="rest"))
    assert order.filled == order.intent.qty
    assert len(only(world).fills) == 1
    assert "bad_fill" not in world.core.ledger.breakers


def test_fills_that_came_before_their_acknowledgement_block_the_book_like_any_other() -> None:
    world = ready_world(faults=SILENT)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    order = order_on(world, "mexc_spot")
    world.feed(fill_of(world, order, client_id=""))
    world.feed(update_of(world, order, OrderState.OPEN, None))
    assert order.filled == order.intent.qty
    assert world.core.risk.gate.last_fill(order.intent.venue, order.intent.symbol)[0] == world.now_ns


def test_fills_of_orders_that_were_refused_reopen_the_operation() -> None:
    """Both legs were refused, then both turn out filled: no crash, one completed operation, its money counted."""
    world = ready_world(faults=SILENT)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    orders = list(world.core.ledger.orders.values())
    for order in orders:
        world.feed(outcome_of(world, order, OutcomeKind.REJECTED))
    assert only(world).result is not None and only(world).result.outcome is Outcome.FAILED  # type: ignore[union-attr]
    for order in orders:
        world.feed(update_of(world, order, OrderState.FILLED, order.intent.qty))
    for order in orders:
        world.feed(fill_of(world, order))
    result = only(world).result
    assert result is not None and result.outcome in (Outcome.COMPLETED, Outcome.RECOVERED)
    assert not world.core.ledger.open_operations
    assert world.core.ledger.total_pnl == result.pnl_numeraire


# --- unknown is never rejected ---


def test_a_refusal_of_an_order_that_the_venue_has_shown_is_a_question() -> None:
    world = ready_world(faults=SILENT)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    order = order_on(world, "mexc_spot")
    world.feed(update_of(world, order, OrderState.OPEN, Decimal(0)))
    world.feed(outcome_of(world, order, OutcomeKind.REJECTED))
    assert not order.settled
    assert order.client_id in world.core.ledger.unsettled


def test_a_resting_word_does_not_hold_an_order_open_for_ever() -> None:
    """Its ending was lost and the venue no longer lists it (zero fills): a complete sweep settles it, as unknown."""
    world = ready_world(faults=SILENT)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    for order in list(world.core.ledger.orders.values()):
        world.feed(update_of(world, order, OrderState.OPEN, Decimal(0)))
    world.calm(6000)
    assert not world.core.ledger.unsettled
    assert not world.core.ledger.open_operations


def test_a_restart_keeps_the_baseline_of_a_balance() -> None:
    """The order executed, its venue shows neither order nor fill, and the executor restarts: no proof of absence."""
    world = ready_world(faults=SILENT)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    client_id = order_on(world, "mexc_spot").client_id
    moved_by(world, fill_of(world, order_on(world, "mexc_spot")))
    world.kill()
    world.run(8000)
    assert world.core.ledger.orders[client_id].state is OrderState.UNKNOWN
    assert any(getattr(report, "code", "") == "unknown_unproved" for report in world.reports)


def test_a_coin_that_the_account_never_listed_is_evidence_too() -> None:
    """Venues leave zero balances out: the first coin of an asset appears where nothing was listed before."""
    world = World(1, config=make_config())
    del world.venues["mexc_spot"].balances["BTC"]
    world.run(100)
    world.faults = SILENT
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    order = order_on(world, "mexc_spot")
    world.venues["mexc_spot"].balances["BTC"] = Decimal(0)
    moved_by(world, fill_of(world, order))
    world.run(8000)
    assert order.state is OrderState.UNKNOWN


def test_a_coin_that_is_gone_from_the_account_is_evidence_too() -> None:
    world = ready_world(faults=SILENT)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    order = order_on(world, "gateio_spot")  # a sell
    del world.venues["gateio_spot"].balances["BTC"]
    world.run(8000)
    assert order.state is OrderState.UNKNOWN


# --- readiness ---


def test_a_sweep_that_is_never_answered_is_asked_again(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []

    def swallow(self: World, action: SweepVenue) -> None:
        asked.append(action.venue)

    monkeypatch.setattr(World, "_sweep", swallow)
    world = World(1, config=make_config())
    world.run(200_000)
    assert len(asked) > 3
    assert world.core.ready, "disabled, not waited for"
    assert "mexc_spot" not in world.core.recovery


def test_a_sweep_from_before_the_session_came_back_does_not_count() -> None:
    world = ready_world()
    before = sweep_of(world, "mexc_spot")
    world.run(10)
    world.feed(SessionState(venue="mexc_spot", state="down", recv_mono_ns=world.now_ns))
    world.feed(SessionState(venue="mexc_spot", state="up", recv_mono_ns=world.now_ns))
    world.feed(before)
    assert "mexc_spot" not in world.core.recovery
    world.run(3000)
    assert "mexc_spot" in world.core.recovery


# --- strict balances ---


class Strict:
    """A world whose answers to ``FetchBalances`` are held back."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch, seed: int = 1) -> None:
        self.asked: list[FetchBalances] = []
        monkeypatch.setattr(World, "_fetch_balances", lambda _world, action: self.asked.append(action))
        cooldown = {"cooldown_ms": 1000}
        self.world = ready_world(seed, execution={"balance_check": BalanceCheck.STRICT}, detection=cooldown)

    def answer(self, action: FetchBalances, error: str = "") -> None:
        world = self.world
        balances = tuple(b for name in action.venues for b in world.rest_balances(world.venues[name]))
        world.feed(BalancesAnswer(action.token, () if error else balances, error))


def test_strict_trades_one_direction_once_however_often_it_was_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    strict = Strict(monkeypatch)
    world = strict.world
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(2)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(10)
    world.faults = SILENT
    for action in strict.asked:
        strict.answer(action)
    assert len(world.core.ledger.operations) <= 1, "a second intent on symbols with own unsettled orders"


def test_strict_keeps_the_cooldown_of_an_operation_that_ended_while_the_venues_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    strict = Strict(monkeypatch)
    world = strict.world
    for _ in range(2):
        world.feed(world.offer("mexc_spot", "gateio_spot"))
        world.run(2)
    world.run(10)
    strict.answer(strict.asked[0])
    world.run(200)
    assert world.core.ledger.operations and not world.core.ledger.open_operations
    strict.answer(strict.asked[1])
    assert len(world.core.ledger.operations) == 1 and world.refusals[-1] is Refusal.COOLDOWN


def test_strict_opens_no_second_hedge_against_one_that_was_opened_while_the_venues_answered(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    strict = Strict(monkeypatch)
    world = strict.world
    world.feed(world.offer("gateio_spot", "gateio_futures"))
    world.run(10)
    world.core.risk.gate.leaves_a_hedge = lambda direction_key: True
    strict.answer(strict.asked[0])
    assert not world.core.ledger.operations and world.refusals[-1] is Refusal.NETS


@pytest.mark.parametrize("silent", [False, True])
def test_strict_without_an_answer_does_not_trade(monkeypatch: pytest.MonkeyPatch, silent: bool) -> None:
    strict = Strict(monkeypatch)
    world = strict.world
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(10)
    if silent:
        world.run(2000)
    else:
        strict.answer(strict.asked[0], error="HTTP 503")
    assert not world.core.ledger.operations
    assert world.refusals[-1] is Refusal.BALANCE_UNPROVED


def test_strict_obeys_a_breaker_that_trips_while_the_venues_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    strict = Strict(monkeypatch)
    world = strict.world
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(10)
    world.core.risk.force_emergency_shutdown("test")
    strict.answer(strict.asked[0])
    assert not world.core.ledger.operations
    assert world.refusals[-1] is Refusal.BREAKER


# --- forged opportunities ---


def test_a_detection_from_the_future_is_refused_and_blocks_nothing() -> None:
    world = ready_world()
    world.feed(world.offer("mexc_spot", "gateio_spot", detect_mono_ns=world.now_ns + 10_000 * MS))
    assert world.refusals == [Refusal.STALE_AT_EXECUTOR]
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    assert len(world.core.ledger.operations) == 1


def triangle(sides: tuple[int, int, int], venues: tuple[str, str, str] = ("mexc_spot",) * 3) -> str:
    config = make_config()
    symbols = (("BTC", "USDT"), ("ETH", "BTC"), ("ETH", "USDT"))
    names = sorted({"mexc_spot", *venues})
    specs = [
        spec(
            venue,
            base + quote,
            base,
            quote=quote,
            lot=Decimal("0.01"),
            min_qty=Decimal("0.01"),
            min_notional=Decimal(1),
            fee_rule=FeeAssetRule.RECEIVED,
        )
        for venue in names
        for base, quote in symbols
    ]
    rows = rows_for(config, specs)
    instruments = Instruments(rows)
    legs = []
    for (base, quote), side, venue in zip(symbols, sides, venues, strict=True):
        row = instruments.find(venue, base + quote)
        assert row is not None
        leg = OpportunityLeg(row.instrument_id, side, 100, 100, 1, 1, 1, 1, 100, 1.0, row.row_epoch, 1)
        legs.append(leg)
    opportunity = Opportunity(1, int(OpportunityType.TRIANGULAR), -1, 1, 1, 1, 9.0, 9.0, 1.0, 0, 1, tuple(legs))
    return malformed(opportunity, instruments)


def test_a_triangle_is_a_cycle_on_one_venue() -> None:
    assert triangle((1, 1, -1)) == ""
    assert triangle((-1, -1, 1)) == ""
    assert triangle((1, 1, 1)) != ""
    assert triangle((1, -1, -1)) != ""
    assert triangle((1, 1, -1), ("mexc_spot", "mexc_spot", "gateio_spot")) != ""


def test_two_perpetuals_are_no_opportunity_by_whatever_name() -> None:
    world = ready_world()
    offered = world.offer("mexc_spot", "gateio_spot")
    assert malformed(offered, Instruments(world.rows)) == ""
    perpetuals = [replace(row, spec=replace(row.spec, kind=InstrumentKind.PERPETUAL)) for row in world.rows]
    for kind in (OpportunityType.SPOT_SPOT, OpportunityType.SPOT_FUTURES_HEDGE):
        assert malformed(replace(offered, type=int(kind)), Instruments(perpetuals)).startswith("kinds ")


def test_the_exit_of_a_hedge_is_no_entry_whoever_offers_it() -> None:
    world = ready_world()
    offered = replace(world.offer("mexc_spot", "gateio_spot"), type=int(OpportunityType.HEDGE_EXIT), manual=True)
    assert malformed(offered, Instruments(world.rows)) == f"type {int(OpportunityType.HEDGE_EXIT)}"


# --- operators ---


def test_a_recovery_that_an_operator_took_over_is_left_alone_also_after_a_restart() -> None:
    world = ready_world(faults=Faults(no_fill=0.0))
    world.faults = SILENT
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    finish_order(world, order_on(world, "mexc_spot"))
    world.venues["gateio_spot"].bid = world.venues["gateio_spot"].ask = Decimal("100.40")
    for name in world.venues:
        world.up[name] = False
        world.feed(SessionState(venue=name, state="down", recv_mono_ns=world.now_ns))
    finish_order(world, order_on(world, "gateio_spot"), Decimal(0))
    world.run(500)
    recovery_id = f"r{only(world).operation_id}"
    world.feed(Command(CommandKind.CANCEL_RECOVERY, recovery_id, "by hand"))
    before = len(world.core.ledger.orders)
    world.faults = Faults()
    for name in world.venues:
        world.up[name] = True
        world.feed(SessionState(venue=name, state="up", recv_mono_ns=world.now_ns))
    world.run(3000)
    assert len(world.core.ledger.orders) == before, "the engine traded what an operator had taken over"
    world.kill()
    world.run(3000)
    assert len(world.core.ledger.orders) == before, "... after its restart"
    assert world.core.ledger.recoveries[recovery_id].state == "cancelled"
    assert only(world).operation_id in world.core.ledger.open_operations, "its exposure stays counted"


def test_after_a_restart_the_venues_are_asked_before_a_leg_is_unwound() -> None:
    """Leg one's fill is journalled, leg two's fill happened while we were dead: nothing is to be repaired."""
    for seed in range(10):
        world = ready_world(seed)
        world.feed(world.offer("mexc_spot", "gateio_spot"))
        while not only(world).fills:
            world.run(0.5)
        world.run(0.1)
        known = {f.client_id for f in only(world).fills}
        world.life += 1  # every message on its way is lost
        world.run(60)  # ... and the other leg ends at its venue
        world.now_ns += 2000 * MS
        world.kill()
        world.run(5000)
        if len(known) == 1:
            assert len(world.core.ledger.orders) == 2, "a leg was unwound although the other had filled"
        world.judge()


# --- the venues' budgets ---


def test_a_repair_goes_where_an_order_is_taken_now() -> None:
    """The cheaper venue is silent after 429: the leg is closed at the other one at once."""
    world = ready_world(faults=SILENT)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.core.risk.gate.order_budget = lambda venue, _count: venue != "gateio_spot"
    finish_order(world, order_on(world, "mexc_spot"))
    finish_order(world, order_on(world, "gateio_spot"), Decimal(0))
    repairs = [o.intent.venue for o in world.core.ledger.orders.values()][2:]
    assert repairs == ["mexc_spot"]


def test_leaving_a_hedge_waits_for_the_budget_that_entries_need() -> None:
    world = ready_world()
    world.feed(world.offer("mexc_spot", "gateio_futures", edge_bps=90.0))
    world.run(100)
    asked: list[int] = []

    def short(venue: str, count: int) -> bool:
        asked.append(count)
        return False

    world.core.risk.gate.order_budget = short
    world.calm(2000)
    assert asked, "leaving pays"
    assert len(world.core.ledger.operations) == 1
    world.core.risk.gate.order_budget = None
    world.run(1000)
    assert not world.core.ledger.hedges


# --- what stands still ---


def test_a_repaired_operation_whose_other_order_is_unknown_stops_its_symbol_and_not_the_engine() -> None:
    world = ready_world(faults=SILENT, limits={"max_unhedged_ms": 800})
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    finish_order(world, order_on(world, "mexc_spot"))
    world.faults = Faults()
    world.run(500)  # the other leg has become UNKNOWN, the first is unwound
    world.run(400)
    assert not world.core.risk.gate.reducing
    unwound = [o for o in world.core.ledger.orders.values() if o.intent.side is OrderSide.SELL and o.filled]
    assert unwound and order_on(world, "gateio_spot").state is OrderState.UNKNOWN


def test_an_exposure_that_no_venue_takes_stops_the_engine() -> None:
    world = ready_world(faults=SILENT)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    finish_order(world, order_on(world, "mexc_spot"))
    world.run(450)
    world.up["mexc_spot"] = False
    world.feed(SessionState(venue="mexc_spot", state="down", recv_mono_ns=world.now_ns))
    world.run(world.config.risk_limits.max_unhedged_ms + 100)
    assert world.core.risk.gate.reducing


def test_a_fill_that_is_not_reported_yet_is_not_external() -> None:
    """The balance has moved by our own order, whose answer and events are lost: no alarm while it is being asked."""
    world = ready_world(faults=SILENT)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    moved_by(world, fill_of(world, order_on(world, "mexc_spot")))
    world.run(1400)
    assert "external" not in [getattr(report, "code", "") for report in world.reports]
