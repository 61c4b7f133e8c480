"""The execution core against venues that lose, delay, double and refuse, and against its own death."""

from __future__ import annotations

import random
from decimal import Decimal

import pytest

from pipeline.core import ExecutionCore
from pipeline.execution.ledger import Ledger
from pipeline.execution.records import Outcome, Purpose
from pipeline.model.enums import ArbitrageState, BalanceCheck, OrderState, Refusal
from tests.worlds.execution_starts import ready_world, trade
from tests.worlds.execution_world import Faults, World

SPOT = ("mexc_spot", "gateio_spot")


def replayed(world: World) -> Ledger:
    ledger = Ledger()
    for entry in world.entries:
        ledger.apply(entry.record, entry.mono_ns, entry.wall_ns)
    return ledger


def test_both_legs_fill_and_the_books_agree() -> None:
    world = ready_world()
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(100)
    operation = next(iter(world.core.ledger.operations.values()))
    assert operation.state is ArbitrageState.COMPLETED
    assert operation.result is not None and operation.result.outcome is Outcome.COMPLETED
    assert operation.result.pnl_numeraire > 0
    world.judge()


def test_what_is_sold_is_what_is_received_when_the_fee_is_taken_in_base() -> None:
    world = ready_world()
    world.feed(world.offer("gateio_spot", "mexc_spot"))
    world.run(100)
    legs = {o.intent.side: o for o in world.core.ledger.orders.values()}
    assert {side.name: order.intent.qty for side, order in legs.items()} == {
        "BUY": Decimal("1.00"),
        "SELL": Decimal("0.99"),
    }
    world.judge()
    assert world.core.ledger.dust["BTC"] == Decimal("0.0099")


@pytest.mark.parametrize("fault", ["reject", "no_fill", "drop_request", "partial", "not_sent"])
@pytest.mark.parametrize("seed", range(6))
def test_a_broken_leg_is_repaired_within_bounds(fault: str, seed: int) -> None:
    world = ready_world(seed, Faults(**{fault: 0.6}))
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(60)
    world.calm(8000)
    assert not world.core.ledger.open_operations
    world.judge()


@pytest.mark.parametrize("seed", range(40))
def test_storms_end_flat_with_every_fill_known_once(seed: int) -> None:
    rng = random.Random(seed)
    world = ready_world(seed, Faults.storm(rng))
    trade(world, 12, rng)
    world.calm()
    world.judge()
    assert replayed(world).digest() == world.core.ledger.digest(), "a replay of the journal is the live state"


@pytest.mark.parametrize("seed", range(40))
def test_kills_at_any_action_lose_and_double_nothing(seed: int) -> None:
    rng = random.Random(1000 + seed)
    world = ready_world(seed, Faults.storm(rng) if seed % 2 else None)
    for _ in range(8):
        world.crash_after = rng.randint(0, 25)
        trade(world, 2, rng)
    world.calm()
    assert world.life > 0
    world.judge()
    assert replayed(world).digest() == world.core.ledger.digest()


def test_every_action_of_one_operation_is_a_place_to_die() -> None:
    """Crash enumeration: die before action i, for each i, with the second leg refused half of the time."""
    for index in range(40):
        world = ready_world(index)
        world.faults = Faults(no_fill=0.5)
        world.crash_after = index
        world.feed_safely(world.offer("mexc_spot", "gateio_spot"))
        world.run(50)
        world.calm(10_000)
        world.judge()
        assert not world.core.ledger.open_operations


def test_a_dropped_answer_is_unknown_until_the_venue_is_swept_after_expiry() -> None:
    world = ready_world(3, Faults(drop_request=1.0))
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(600)
    states = {order.state for order in world.core.ledger.orders.values()}
    assert states == {OrderState.UNKNOWN}
    world.run(800)  # expiry 500 ms + grace 1000 ms are not over
    assert {order.state for order in world.core.ledger.orders.values()} == {OrderState.UNKNOWN}
    world.run(1500)
    assert {order.state for order in world.core.ledger.orders.values()} == {OrderState.EXPIRED}
    world.judge()


def test_an_unknown_order_blocks_its_symbol_and_counts_as_exposure() -> None:
    world = ready_world(3, Faults(drop_request=1.0))
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(600)
    world.faults = Faults()
    world.feed(world.offer("gateio_spot", "mexc_spot"))
    assert world.refusals[-1] is Refusal.INSTRUMENT_BLOCKED
    assert world.core.risk.get_current_risk_metrics().total_exposure_usd >= 99


def test_the_halt_stops_entries_and_lets_repairs_pass() -> None:
    world = ready_world(5, Faults(no_fill=0.0))
    offer = world.offer("mexc_spot", "gateio_spot")
    world.venues["gateio_spot"].bid = Decimal("100.40")
    world.feed(offer)
    world.latched = True
    world.venues["gateio_spot"].bid = Decimal("90")  # the sell leg's price is gone before it arrives
    world.run(3000)
    purposes = [order.intent.purpose for order in world.core.ledger.orders.values()]
    assert Purpose.REPAIR in purposes
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    assert world.refusals[-1] is Refusal.HALT_LATCH
    world.calm(3000)
    world.judge()


def test_ids_are_never_repeated_over_restarts() -> None:
    world = ready_world(8)
    for _ in range(5):
        world.feed(world.offer("mexc_spot", "gateio_spot"))
        world.run(200)
        world.kill()
        world.run(200)
    ids = [entry.record.client_id for entry in world.entries if entry.type == 4]
    assert len(ids) == len(set(ids)) >= 8
    assert all(len(text) <= 28 and text.isalnum() for text in ids)


def test_a_hedge_stays_open_as_a_target_and_closes_when_leaving_pays() -> None:
    world = ready_world(9)
    world.feed(world.offer("gateio_spot", "gateio_futures"))
    world.run(100)
    assert len(world.core.ledger.hedges) == 1
    world.judge()
    world.venues["gateio_spot"].bid = Decimal("100.60")
    world.venues["gateio_spot"].ask = Decimal("100.61")
    world.venues["gateio_futures"].bid = Decimal("100.20")
    world.venues["gateio_futures"].ask = Decimal("100.21")
    world.run(1000)
    assert not world.core.ledger.hedges
    world.judge()
    assert world.core.ledger.total_pnl > 0


def test_an_unreachable_venue_is_disabled_and_the_others_trade() -> None:
    world = World(4)
    world.up["gateio_futures"] = False
    world.kill()
    world.run(300)
    assert world.core.ready
    world.feed(world.offer("gateio_spot", "gateio_futures"))
    assert world.refusals[-1] is Refusal.SESSION_DOWN
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(100)
    assert world.core.ledger.outcomes[Outcome.COMPLETED] == 1


def test_the_same_seed_gives_the_same_trace() -> None:
    digests = []
    for _ in range(2):
        rng = random.Random(5)
        world = ready_world(5, Faults.storm(rng))
        trade(world, 10, rng)
        world.calm(3000)
        digests.append((world.core.ledger.digest(), world.actions_done))
    assert digests[0] == digests[1]


def test_strict_balances_are_asked_for_at_decision_time() -> None:
    world = ready_world(1, execution={"balance_check": BalanceCheck.STRICT})
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    assert not world.core.ledger.operations, "nothing is decided before the venues have answered"
    world.run(100)
    assert isinstance(world.core, ExecutionCore)
    assert world.core.ledger.outcomes[Outcome.COMPLETED] == 1


@pytest.mark.parametrize(("limit_ms", "wanted"), [(60, ArbitrageState.RECOVERING), (1000, ArbitrageState.EXECUTING)])
def test_the_longest_execution_time_bounds_the_wait_for_an_answer(limit_ms: int, wanted: ArbitrageState) -> None:
    world = ready_world(6, Faults(drop_response=1.0, drop_stream=1.0), limits={"max_execution_time_ms": limit_ms})
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(120)
    operation = next(iter(world.core.ledger.operations.values()))
    assert operation.state is wanted
    unknown = [order.state is OrderState.UNKNOWN for order in world.core.ledger.orders.values()]
    assert all(unknown) is (wanted is ArbitrageState.RECOVERING)
    world.calm(20_000)
    world.judge()
