"""Attacks on the fast path's limits: positions, breakers, and what only the exact path judges."""

from __future__ import annotations

from contextlib import AbstractContextManager
from decimal import Decimal
from typing import Any

import msgspec
import pytest

from pipeline.execution.events import Command, CommandKind
from pipeline.execution.plan import Plan, Rejected
from pipeline.execution.records import HedgeRecord
from pipeline.fast_entry.memory import LIMITS
from pipeline.model.config import FeatureConfig, HedgeConfig, LimitConfig
from pipeline.model.enums import (
    BalanceCheck,
    InstrumentKind,
    OpportunityType,
    OrderSide,
    OrderState,
    Refusal,
)
from pipeline.model.venue_events import SessionState
from pipeline.rehearsal.entry_world import EntryWorld, engine_config, plain_template
from pipeline.rehearsal.instruments import spec
from pipeline.templates.template import OrderTerms, Pieces
from tests.worlds.fast_entry_world import (
    a_world,
    changed,
    configured,
    entered,
    exact,
    levels,
    opened,
    ordinary,
    other_direction,
    tripped,
    written,
)


@pytest.mark.parametrize("check", [BalanceCheck.STRICT, BalanceCheck.CONFIRMED])
def test_balances_that_are_asked_at_the_decision_are_the_exact_paths(check: BalanceCheck) -> None:
    with a_world(config=engine_config(execution={"balance_check": check})) as world:
        opened(world)
        assert world.fast_entry.offer(ordinary(world), world.halt, world.now()) is (check is BalanceCheck.CONFIRMED)


def test_what_has_no_checks_or_scoped_limits_is_the_exact_paths() -> None:
    features = FeatureConfig(enable_risk_checks=False)
    with a_world(config=msgspec.structs.replace(engine_config(), features=features)) as world:
        opened(world)
        assert not world.fast_entry.offer(ordinary(world), world.halt, world.now())
    with a_world() as world:
        opened(world)
        configured(world, per_pair={"BTC/USDT": LimitConfig(max_position_size_usd=Decimal(1000))})
        record = ordinary(world)
        assert not world.fast_entry.offer(record, world.halt, world.now())
        assert isinstance(exact(world, record), Plan)


@pytest.mark.parametrize("instrument_id", [0, 1])
def test_numbers_of_different_exponents_are_not_compared(instrument_id: int) -> None:
    """One pair's quantities have one exponent; should they not, the lots of both legs are no common numbers."""
    with a_world() as world:
        changed(world, instrument_id, qty_exp=world.rows[instrument_id].qty_exp + 1)
        opened(world)
        two = Decimal(2)  # a tenth of it is no dust either
        legs = [(0, 1, two, Decimal("99.5")), (1, -1, two, Decimal("99.6"))]
        assert not world.fast_entry.offer(world.record(legs), world.halt, world.now())
        assert isinstance(exact(world, world.record(legs)), Plan)


def test_a_book_of_another_instrument_is_none() -> None:
    with a_world() as world:
        opened(world)
        world.publish(1, levels("100.00", "-0.05", "4"), levels("100.10", "0.05", "5"), instrument=2)
        assert not world.fast_entry.offer(ordinary(world), world.halt, world.now())


def test_a_venue_that_pays_for_taking_is_the_exact_paths() -> None:
    specs = [spec(venue.name, taker_fee_ppm=-100) for venue in engine_config().venues]
    with a_world(specs=specs) as world:
        opened(world)
        assert not world.fast_entry.offer(ordinary(world), world.halt, world.now())
        assert isinstance(exact(world, ordinary(world)), Plan)


# --- the position limit ---


def hedged(name: str) -> HedgeRecord:
    """One coin, bought for 99 on MEXC and sold for 100 as a contract on Gate.io."""
    return HedgeRecord(
        name, "BTC", 0, 2, "mexc_spot", "BTCUSDT", "gateio_futures", "BTC_USDT", OrderSide.BUY,
        Decimal(1), Decimal(99), Decimal(100), "",
    )  # fmt: skip


@pytest.mark.parametrize(("limit", "taken"), [(140, False), (160, True)])
def test_a_hedge_counts_in_the_position_of_its_coin_on_each_of_its_venues(limit: int, taken: bool) -> None:
    """100 USD are hedged with MEXC's spot; the next 50 USD there and on Gate.io's spot market come on top."""
    with a_world() as world:
        opened(world)
        entered(world)
        (name, operation), *_ = world.core.ledger.open_operations.items()
        world.core.ledger.hedges[name] = hedged(name)
        del world.core.ledger.open_operations[name]
        configured(world, max_position_size_usd=Decimal(limit))
        assert_both(world, other_direction(world), taken)
        assert operation.record.notional_usd < 60


def two_quotes(**limits: Any) -> AbstractContextManager[EntryWorld]:
    """One coin against two USD coins on both venues: other instruments, the same position."""
    specs = [spec("mexc_spot"), spec("gateio_spot"), spec("mexc_spot", symbol="BTCUSDC", quote="USDC")]
    specs.append(spec("gateio_spot", symbol="BTC_USDC", quote="USDC"))
    return a_world(specs=specs, config=engine_config(limits=limits))


def in_the_other_quote(world: EntryWorld) -> Any:
    world.publish(2, levels("98.99", "-0.01", "5", "5"), levels("99.10", "0.05", "0.3", "4"))
    world.publish(3, levels("100.00", "-0.05", "4", "4"), levels("100.10", "0.05", "5"))
    return world.record([(2, 1, Decimal("0.5"), Decimal("99.5")), (3, -1, Decimal("0.5"), Decimal("99.6"))])


def opened_two(world: EntryWorld) -> None:
    world.fund_all()
    world.publish(0, levels("98.99", "-0.01", "5", "5"), levels("99.10", "0.05", "0.3", "4"))
    world.publish(1, levels("100.00", "-0.05", "0.4", "4"), levels("100.10", "0.05", "5"))


def assert_both(world: EntryWorld, record: Any, taken: bool) -> None:
    """Both paths approve the record, or the position limit refuses it on both."""
    assert world.fast_entry.offer(record, world.halt, world.now()) is taken
    world.fast_entry.limits_table.all_changed()
    judged = exact(world, record)
    assert isinstance(judged, Plan) is taken, judged
    assert taken or (isinstance(judged, Rejected) and judged.refusal is Refusal.POSITION_LIMIT)


@pytest.mark.parametrize("state", [OrderState.FILLED, OrderState.SENT, OrderState.UNKNOWN])
def test_an_operation_counts_whole_in_the_position_whatever_its_orders_outcome(state: OrderState) -> None:
    """The other instruments are not blocked by the unsettled orders, but their coin is the same on the same venues."""
    with two_quotes() as world:
        opened_two(world)
        assert world.fast_entry.offer(ordinary(world), world.halt, world.now())
        world.feed(written(world))
        for order in world.core.ledger.orders.values():
            order.state = state
        for limit, taken in ((80, False), (110, True)):
            configured(world, max_position_size_usd=Decimal(limit))
            assert_both(world, in_the_other_quote(world), taken)


def test_what_the_verdict_approved_counts_in_the_position_before_the_ledger_has_it() -> None:
    with two_quotes(max_position_size_usd=Decimal(80)) as world:
        opened_two(world)
        assert world.fast_entry.offer(ordinary(world), world.halt, world.now())
        assert not world.fast_entry.offer(in_the_other_quote(world), world.halt, world.now())


def test_an_exit_under_way_adds_nothing_to_the_position_of_the_hedge_that_it_leaves() -> None:
    with two_quotes(max_position_size_usd=Decimal(110)) as world:
        opened_two(world)
        assert world.fast_entry.offer(ordinary(world), world.halt, world.now())
        world.feed(written(world))
        operation = next(iter(world.core.ledger.open_operations.values()))
        assert_both(world, in_the_other_quote(world), True)
        configured(world, max_position_size_usd=Decimal(80))
        assert_both(world, in_the_other_quote(world), False)
        operation.record = msgspec.structs.replace(operation.record, closes="a hedge")
        world.core.update_limits_table()
        assert_both(world, in_the_other_quote(world), True)


# --- breakers ---


@pytest.mark.parametrize(
    "name",
    ["venue.gateio_futures", "venue.elsewhere_spot", "fee.gateio_futures.BTC_USDT", "fee.mexc_spot.ETHUSDT", "fee.x.y"],
)
def test_a_breaker_of_another_venue_or_instrument_leaves_the_fast_path_on(name: str) -> None:
    with a_world() as world:
        opened(world)
        record = tripped(name)(world)
        assert world.fast_entry.offer(record, world.halt, world.now())
        assert isinstance(exact(world, record), Plan)


@pytest.mark.parametrize("name", ["venue.gateio_spot", "fee.mexc_spot.BTCUSDT", "recovery_hold"])
def test_a_breaker_that_is_re_armed_opens_the_fast_path_again(name: str) -> None:
    with a_world() as world:
        opened(world)
        assert not world.fast_entry.offer(tripped(name)(world), world.halt, world.now())
        world.feed(Command(CommandKind.REARM, name, "test"))
        assert world.fast_entry.offer(ordinary(world), world.halt, world.now())


# --- what only the exact path judges ---


def test_a_hedge_whose_coin_has_a_moving_rate_is_valued_by_the_exact_path() -> None:
    """Its exposure moves with each book; the limits table is refreshed with each event."""
    with a_world() as world:
        opened(world)
        entered(world)
        (name, operation), *_ = world.core.ledger.open_operations.items()
        legs = tuple(msgspec.structs.replace(leg, quote="EUR") for leg in operation.record.legs)
        operation.record = msgspec.structs.replace(operation.record, legs=legs)
        world.core.ledger.hedges[name] = hedged(name)
        del world.core.ledger.open_operations[name]
        world.core.update_limits_table()
        assert not world.fast_entry.limits_table.ints[LIMITS.enabled]


def test_numbers_that_no_template_writes_take_the_exact_path_and_end_nothing() -> None:
    def template(venue: str, terms: OrderTerms) -> Pieces | None:
        return plain_template(venue, terms)

    with a_world(template_of=template) as world:
        opened(world)
        changed(world, 1, tick=Decimal("1e-30"))
        assert not world.fast_entry.offer(ordinary(world), world.halt, world.now())


@pytest.mark.parametrize("digits", ["3.141592653589793238462643", "20000"])
def test_limits_that_no_word_holds_end_nothing(digits: str) -> None:
    with a_world() as world:
        opened(world)
        configured(world, max_slippage_bps=Decimal(digits), max_open_operations=10**30)
        assert not world.fast_entry.offer(ordinary(world), world.halt, world.now())


def test_a_session_that_fell_is_in_the_limits_table_before_the_next_opportunity() -> None:
    with a_world() as world:
        opened(world)
        world.feed(SessionState(venue="mexc_spot", state="down", recv_mono_ns=world.now_ns, reason="test"))
        assert not world.fast_entry.offer(ordinary(world), world.halt, world.now())
        world.feed(SessionState(venue="mexc_spot", state="up", recv_mono_ns=world.now_ns))
        record = ordinary(world)
        assert world.fast_entry.offer(record, world.halt, world.now()) is isinstance(exact(world, record), Plan)


@pytest.mark.parametrize("what", ["breaker", "venue's breaker", "fee breaker", "reducing", "not ready", "user"])
def test_a_stop_holds_before_the_limits_table_has_heard_of_it(what: str) -> None:
    """Strategies and tools speak to gate and risk manager between two events."""
    with a_world() as world:
        opened(world)
        gate = world.core.risk.gate
        if what == "breaker":
            world.core.risk.force_emergency_shutdown("test")
        elif what == "venue's breaker":
            world.core.context.trip("venue.gateio_spot", "test")
        elif what == "fee breaker":
            world.core.context.trip("fee.gateio_spot.BTC_USDT", "test")
        elif what == "reducing":
            gate.reducing = "operation x"
        elif what == "not ready":
            gate.ready = False
        else:
            gate.user_check = lambda _plan: "no"
        assert not world.fast_entry.offer(ordinary(world), world.halt, world.now())


# --- shapes that only the exact path may take ---


def test_a_hedge_within_one_balance_needs_the_sum() -> None:
    """Spot and contract of one venue, paid from one balance; and both orders from one budget."""
    config = engine_config()
    specs = [spec("mexc_spot"), spec("mexc_spot", symbol="BTC_PERP", kind=InstrumentKind.PERPETUAL)]
    legs = [(0, 1, Decimal("0.5"), Decimal("99.5")), (1, -1, Decimal("0.5"), Decimal("99.6"))]

    def record(world: EntryWorld) -> Any:
        world.fund_all()
        world.publish(0, levels("98.99", "-0.01", "5"), levels("99.10", "0.05", "3"))
        world.publish(1, levels("100.00", "-0.05", "4"), levels("100.10", "0.05", "5"))
        return world.record(legs, OpportunityType.SPOT_FUTURES_HEDGE)

    with a_world(config=config, specs=specs) as world:
        assert world.fast_entry.offer(record(world), world.halt, world.now())
    with a_world(config=config, specs=specs) as world:
        first = record(world)
        judged = exact(world, first)
        assert isinstance(judged, Plan)
        amounts = [amount for _, _, amount in judged.needs()]
        world.fund({("mexc_spot", "USDT"): sum(amounts, Decimal(0)) - Decimal("0.01")})
        assert max(amounts) < sum(amounts, Decimal(0)) - 1
        second = record(world)
        world.fund({("mexc_spot", "USDT"): sum(amounts, Decimal(0)) - Decimal("0.01")})
        assert not world.fast_entry.offer(second, world.halt, world.now())
        refused = exact(world, second)
        assert isinstance(refused, Rejected) and refused.refusal is Refusal.MARGIN_LIMIT
    with a_world(config=config, specs=specs) as world:
        world.core.risk.gate.order_budget = lambda _venue, orders: orders <= 2
        first = record(world)
        assert not world.fast_entry.offer(first, world.halt, world.now())
        refused = exact(world, first)
        assert isinstance(refused, Rejected) and refused.refusal is Refusal.ORDER_RATE


def test_a_quote_without_a_declared_rate_is_the_exact_paths() -> None:
    specs = [spec(venue.name, quote="EUR") for venue in engine_config().venues]
    with a_world(specs=specs) as world:
        opened(world)
        assert not world.fast_entry.offer(ordinary(world), world.halt, world.now())
        refused = exact(world, ordinary(world))
        assert isinstance(refused, Rejected) and refused.refusal is Refusal.EXPOSURE_LIMIT


@pytest.mark.parametrize(
    ("exchanges", "refusal"), [(("mexc", "gateio"), Refusal.QUARANTINED), (("gateio",), Refusal.MALFORMED)]
)
def test_what_is_of_an_exchange_that_is_not_traded_on_passes_neither_path(
    exchanges: tuple[str, ...], refusal: Refusal
) -> None:
    """Its rows are of no pair; one of them and one of a pair are no entry at all."""
    base = engine_config()
    books_alone = {name: msgspec.structs.replace(base.exchanges[name], trade=False) for name in exchanges}
    with a_world(config=msgspec.structs.replace(base, exchanges={**base.exchanges, **books_alone})) as world:
        opened(world)
        assert not world.fast_entry.offer(ordinary(world), world.halt, world.now())
        refused = exact(world, ordinary(world))
        assert isinstance(refused, Rejected) and refused.refusal is refusal, refused


def test_amounts_that_no_word_holds_are_the_exact_paths() -> None:
    """The reservation's text is a product of four integers; beyond a word it would be another amount."""
    much = Decimal(10) ** 13
    config = engine_config(limits={"max_position_size_usd": much, "max_total_exposure_usd": much})
    with a_world(config=config) as world:
        opened(world)
        world.fund_all(Decimal(10) ** 12)
        huge = Decimal(10) ** 8
        world.publish(0, [(Decimal(99), huge)], [(Decimal("99.1"), huge)])
        world.publish(1, [(Decimal(100), huge)], [(Decimal("100.1"), huge)])
        record = world.record([(0, 1, huge, Decimal("99.5")), (1, -1, huge, Decimal("99.6"))])
        assert not world.fast_entry.offer(record, world.halt, world.now())
        assert isinstance(exact(world, record), Plan)


def test_a_lot_between_the_books_numbers_is_the_exact_paths() -> None:
    with a_world() as world:
        opened(world)
        changed(world, 1, lot=Decimal("0.000000015"))
        assert not world.fast_entry.offer(ordinary(world), world.halt, world.now())


def test_an_own_order_and_an_own_fill_outlive_a_change_of_their_row() -> None:
    with a_world() as world:
        opened(world)
        entered(world, settled=False)
        changed(world, 0, funding_rate_ppb=5)
        assert not world.fast_entry.offer(other_direction(world), world.halt, world.now())
    with a_world() as world:
        opened(world)
        world.core.risk.gate.note_fill("mexc_spot", "BTCUSDT", world.now_ns, 0)
        world.core.update_limits_table()
        changed(world, 0, funding_rate_ppb=5)
        assert not world.fast_entry.offer(ordinary(world), world.halt, world.now())


def test_a_direction_whose_inventory_has_a_price_needs_that_much_more_edge() -> None:
    with a_world() as world:
        opened(world)
        record = ordinary(world)
        judged = exact(world, record)
        assert isinstance(judged, Plan)
        buy, sell = (leg.row.instrument_id for leg in judged.legs)
        spare = judged.edge_send_bps - float(world.config.execute_edge_bps)
        prices = {(buy, sell): spare + 0.001, (sell, buy): -1000.0}
        world.core.risk.gate.direction_price_bps = lambda buy, sell: prices.get((buy, sell), 0.0)
        refused = exact(world, ordinary(world))
        assert isinstance(refused, Rejected) and refused.refusal is Refusal.MOVED
        assert not world.fast_entry.offer(ordinary(world), world.halt, world.now())
        prices[buy, sell] = spare - 0.001
        assert isinstance(exact(world, ordinary(world)), Plan)
        assert world.fast_entry.offer(ordinary(world), world.halt, world.now())


def test_a_hedge_whose_exit_has_a_price_needs_that_much_more_edge() -> None:
    """The price as the core computes it, for what the configuration expects the exit's basis to be."""
    legs = [(0, 1, Decimal("0.5"), Decimal("99.5")), (2, -1, Decimal("0.5"), Decimal("99.6"))]
    taken = []
    for basis_bps in (0, 60, 120, None):
        hedge = HedgeConfig(expected_exit_basis_bps=None if basis_bps is None else Decimal(basis_bps))
        with a_world(config=engine_config(detection={"hedge": hedge})) as world:
            opened(world)
            judged = exact(world, world.record(legs, OpportunityType.SPOT_FUTURES_HEDGE))
            fast = world.fast_entry.offer(
                world.record(legs, OpportunityType.SPOT_FUTURES_HEDGE), world.halt, world.now()
            )
            assert isinstance(judged, Plan) is fast
            assert fast or (isinstance(judged, Rejected) and judged.refusal is Refusal.MOVED)
            taken.append(fast)
    assert taken == [True, True, False, False]  # of 111 bps; and a pair that nobody has looked at yet is not entered


def test_a_trade_that_brings_inventory_back_goes_at_an_edge_below_the_minimum() -> None:
    with a_world(config=engine_config(limits={"min_profit_margin_bps": Decimal(1000)})) as world:
        opened(world)
        assert not world.fast_entry.offer(ordinary(world), world.halt, world.now())
        world.core.risk.gate.direction_price_bps = lambda buy, sell: -1000.0
        assert isinstance(exact(world, ordinary(world)), Plan)
        assert world.fast_entry.offer(ordinary(world), world.halt, world.now())
