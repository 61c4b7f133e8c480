"""The components that the processes are built from, under their names, and one behaviour of each.

The processes are built from these very objects: the executor's core holds five of them and the recovery manager, the
detector worker runs an OpportunityDetector. Each has a test file of its own that goes deeper.
"""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Iterator
from decimal import Decimal

import pytest

from pipeline.detection.detector import OpportunityDetector
from pipeline.detection.opportunity_record import OpportunityRecord
from pipeline.execution.balances import BalanceMonitor
from pipeline.execution.operation_states import StateController
from pipeline.execution.orchestrator import OrderOrchestrator
from pipeline.execution.plan import Plan, Rejected
from pipeline.execution.positions import PositionEntry, PositionManager
from pipeline.execution.records import DustRecord, Outcome
from pipeline.market_data import MarketDataAggregator
from pipeline.model.config import RiskLimits
from pipeline.model.enums import ArbitrageState, OpportunityType, OrderSide, Refusal
from pipeline.model.errors import (
    ArbitrageEngineError,
    BadInput,
    OrderExecutionError,
    RecoveryError,
    RiskManagementError,
)
from pipeline.model.structs import ArbitrageOpportunity
from pipeline.recovery.manager import RecoveryManager
from pipeline.risk.exposure import RiskMetrics
from pipeline.risk.manager import CIRCUIT_BREAKER_TRIGGERED, RiskManager
from tests.worlds.books_world import CONFIG, BooksWorld
from tests.worlds.detector_world import DetectorWorld
from tests.worlds.execution_starts import held_world, ready_world
from tests.worlds.execution_world import World

NAMES: dict[type, str] = {
    OpportunityDetector: "start_detection stop_detection validate_opportunity_risk add_symbol_monitoring",
    PositionManager: "create_position get_positions calculate_total_exposure calculate_total_pnl atomic_operation",
    OrderOrchestrator: "execute_opportunity cancel_all_orders get_execution_statistics",
    StateController: "create_operation transition_state transition_to_recovery get_operations_by_state",
    RiskManager: "validate_opportunity_risk start_monitoring force_emergency_shutdown get_current_risk_metrics"
    " get_risk_statistics get_circuit_breaker_status",
    BalanceMonitor: "get_balance check_sufficient_balance reserve_balance start_monitoring",
    RecoveryManager: "initiate_recovery get_active_recoveries cancel_recovery get_recovery_statistics",
    MarketDataAggregator: "start_aggregation get_latest_snapshot add_symbol_subscription is_aggregating",
}
BEHAVIOUR_OF_INSTANCES = {RiskManager: "is_monitoring risk_alert_callback", BalanceMonitor: "is_monitoring"}


@pytest.mark.parametrize("component", NAMES, ids=lambda component: component.__name__)
def test_the_names_exist(component: type) -> None:
    for name in NAMES[component].split():
        assert callable(getattr(component, name)) or isinstance(inspect.getattr_static(component, name), property), name


def test_the_executors_core_is_made_of_the_components() -> None:
    core = ready_world().core
    parts = (
        (core.risk, RiskManager),
        (core.orders, OrderOrchestrator),
        (core.states, StateController),
        (core.positions, PositionManager),
        (core.balances, BalanceMonitor),
        (core.recovery, RecoveryManager),
    )
    for part, component in parts:
        assert type(part) is component
        for name in BEHAVIOUR_OF_INSTANCES.get(component, "").split():
            assert hasattr(part, name)
    assert core.risk.is_monitoring


def traded_world() -> World:
    world = ready_world()
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(100)
    return world


def opportunity(**changes: object) -> ArbitrageOpportunity:
    values: dict[str, object] = {
        "opportunity_id": "1",
        "opportunity_type": OpportunityType.SPOT_SPOT,
        "symbol": "BTC/USDT",
        "buy_exchange": "mexc_spot",
        "sell_exchange": "gateio_spot",
        "buy_price": Decimal(60_000),
        "sell_price": Decimal(60_300),
        "max_quantity": Decimal(1),
        "profit_per_unit": Decimal(300),
        "total_profit_estimate": Decimal(300),
        "profit_margin_bps": Decimal(50),
        **changes,
    }
    return ArbitrageOpportunity(**values)  # type: ignore[arg-type]


def test_opportunities_are_frozen() -> None:
    with pytest.raises(AttributeError):
        opportunity().symbol = "ETH/USDT"  # type: ignore[misc]


# --- OpportunityDetector ---


def test_detector_finds_validates_and_narrows() -> None:
    # a slow host neither makes the books old nor ends the cooldown
    setup = DetectorWorld(max_age_to_trade_ms=60_000, max_skew_ms=60_000, cooldown_ms=60_000)
    found: list[OpportunityRecord] = []
    detector = setup.detector(on_opportunity=found.append)
    setup.dislocate()
    detector.step(idle_ns=0)
    assert [(r.kind, r.pair) for r in found] == [(OpportunityType.SPOT_SPOT, "BTC/USDT")]
    setup.dislocate()
    assert detector.validate_opportunity_risk(opportunity()).refusal is Refusal.COOLDOWN  # it was pushed just now
    assert not detector.validate_opportunity_risk(opportunity(buy_exchange="gateio_spot", sell_exchange="mexc_spot"))
    assert detector.add_symbol_monitoring("ETH/USDT") == 2
    detector.start_detection()
    assert detector.is_detecting
    detector.stop_detection()
    assert not detector.is_detecting


# --- PositionManager ---


def test_positions_are_views_of_the_fills() -> None:
    world = ready_world(9)
    world.feed(world.offer("gateio_spot", "gateio_futures"))
    world.run(100)
    positions = world.core.positions
    entries = {entry.exchange: entry for entry in positions.get_positions()}
    assert set(entries) == {"gateio_spot", "gateio_futures"}
    assert entries["gateio_spot"].side is OrderSide.BUY and entries["gateio_futures"].side is OrderSide.SELL
    assert positions.get_positions(exchange="gateio_spot") == [entries["gateio_spot"]]
    assert positions.get_positions(symbol="NOTHING") == []
    wanted = "position_id opportunity_id exchange symbol side quantity entry_price state recovered"
    assert set(wanted.split()) <= set(PositionEntry.__struct_fields__)
    exposure = positions.calculate_total_exposure()
    assert exposure is not None and exposure < Decimal(1)  # USD: both legs stand against each other
    assert positions.calculate_total_pnl()["USDT"] < 0  # spot was paid for, the contract is open
    assert positions.age_ns(entries["gateio_spot"], world.now_ns) > 0
    world.blind = True
    assert positions.calculate_total_exposure() is None, "coins without a rate are not nothing"


def test_an_atomic_operation_applies_all_or_nothing() -> None:
    world = ready_world()
    positions, dust = world.core.positions, DustRecord("BTC", Decimal(1), "op", "test")
    with pytest.raises(RuntimeError), positions.atomic_operation() as batch:
        batch.append(dust)
        raise RuntimeError
    assert "BTC" not in world.core.ledger.dust
    with positions.atomic_operation() as batch:
        batch.append(dust)
        assert "BTC" not in world.core.ledger.dust
    assert positions.targets() == {"BTC": Decimal(1)}


# --- OrderOrchestrator ---


def test_orchestrator_executes_both_legs_and_counts() -> None:
    world = traded_world()
    statistics = world.core.orders.get_execution_statistics()
    assert (statistics["executed"], statistics["completed"], statistics["success_rate"]) == (1.0, 1.0, 1.0)
    assert statistics["average_execution_time_ms"] > 0
    assert world.core.orders.cancel_all_orders() == 0  # nothing of ours rests
    world.feed(world.offer("gateio_spot", "mexc_spot"))
    assert world.core.orders.cancel_all_orders() == 2


# --- StateController ---


def test_states_move_by_the_table_and_leave_a_trail() -> None:
    world = traded_world()
    states = world.core.states
    (operation,) = states.get_operations_by_state(ArbitrageState.COMPLETED)
    steps = [step.to_state for _, step in states.audit_trail(operation.operation_id)]
    assert steps == [
        ArbitrageState.DETECTING,
        ArbitrageState.OPPORTUNITY_FOUND,
        ArbitrageState.EXECUTING,
        ArbitrageState.COMPLETED,
    ]
    with pytest.raises(OrderExecutionError, match="no step"):
        states.transition_state(operation, ArbitrageState.DETECTING, "test")
    states.transition_to_recovery(operation, "test")
    assert states.get_operations_by_state(ArbitrageState.RECOVERING) == [operation]


# --- RiskManager ---


def test_risk_manager_judges_alerts_and_shuts_down() -> None:
    world = ready_world()
    risk, heard = world.core.risk, list[tuple[str, RiskMetrics]]()
    risk.start_monitoring(lambda kind, metrics: heard.append((kind, metrics)))
    world.core.context.now = world.now()
    assert isinstance(risk.validate_opportunity_risk(world.offer("mexc_spot", "gateio_spot")), Plan)
    assert risk.get_circuit_breaker_status().triggered_breakers == ()
    risk.force_emergency_shutdown("test")
    world.run(1500)
    assert [kind for kind, _ in heard] == [CIRCUIT_BREAKER_TRIGGERED]
    assert heard[0][1].tripped_breakers == risk.get_circuit_breaker_status().triggered_breakers == ("emergency",)
    world.core.context.now = world.now()
    verdict = risk.validate_opportunity_risk(world.offer("mexc_spot", "gateio_spot"))
    assert isinstance(verdict, Rejected) and verdict.refusal is Refusal.BREAKER
    statistics = risk.get_risk_statistics()
    assert (statistics["circuit_breaker_triggers"], statistics["daily_realized_pnl"]) == (1, Decimal(0))
    assert risk.get_current_risk_metrics().total_exposure_usd == 0
    assert risk.rearm("emergency", "an operator") and not risk.rearm("emergency", "again")


def test_exposure_above_the_warning_alerts_once() -> None:
    world = ready_world(limits={"warn_exposure_usd": Decimal(50)})
    heard: list[str] = []
    world.core.risk.start_monitoring(lambda kind, metrics: heard.append(kind))
    world.venues["gateio_futures"].bid = Decimal("100.40")
    world.feed(world.offer("gateio_spot", "gateio_futures"))  # a hedge stays open: 100 USD
    world.run(3000)
    assert heard == ["HIGH_EXPOSURE"]


def test_limits_have_the_names_that_users_know() -> None:
    wanted = (
        "max_position_size_usd max_total_exposure_usd max_daily_loss_usd min_profit_margin_bps max_execution_time_ms"
        " max_slippage_bps"
    )
    assert set(wanted.split()) <= set(RiskLimits.__struct_fields__)


# --- BalanceMonitor ---


def test_balances_are_checked_reserved_and_watched() -> None:
    world = ready_world()
    balances = world.core.balances
    assert balances.get_balance("mexc_spot", "USDT") == Decimal(10_000)
    assert balances.get_balance("mexc_spot", "NOTHING") is None
    enough = [("mexc_spot", "USDT", Decimal(9_000))]
    assert balances.check_sufficient_balance(enough, world.now_ns)[0] is Refusal.NONE
    assert balances.check_sufficient_balance(enough * 2, world.now_ns)[0] is Refusal.BALANCE_SHORT
    world.feed(world.offer("mexc_spot", "gateio_spot"))  # its intents reserve
    assert balances.usable("mexc_spot", "USDT") < balances.get_balance("mexc_spot", "USDT")
    balances.start_monitoring({("mexc_spot", "USDT"): Decimal(20_000)})
    assert balances.is_monitoring
    world.run(500)
    assert any("balance_low" in str(report) for report in world.reports)


# --- RecoveryManager ---


def test_recoveries_are_listed_decided_and_counted() -> None:
    world = held_world()
    recovery = world.core.recovery
    (active,) = recovery.get_active_recoveries()
    assert {"recovery_id", "requires_manual_approval"} <= set(active)
    assert active["requires_manual_approval"] is True
    assert recovery.get_recovery_statistics()["success_rate"] < 1
    operation = recovery.cancel_recovery(str(active["recovery_id"]), "test")
    assert operation is not None and operation.operation_id == active["operation_id"]
    assert recovery.get_active_recoveries() == []
    assert recovery.cancel_recovery("nothing") is None


def test_a_broken_leg_is_recovered_without_an_operator() -> None:
    world = ready_world(2)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.venues["gateio_spot"].bid = Decimal("99.80")  # the attractive leg is gone before the order arrives
    world.venues["gateio_spot"].ask = Decimal("99.90")
    world.run(2000)
    assert world.core.ledger.outcomes[Outcome.RECOVERED] == 1
    assert world.core.recovery.get_recovery_statistics()["success_rate"] == 1.0


# --- MarketDataAggregator ---


@pytest.fixture
def books(instance: str) -> Iterator[BooksWorld]:
    made = BooksWorld(instance)
    yield made
    made.close()


def test_aggregator_gives_a_synchronised_snapshot(books: BooksWorld) -> None:
    books.publish(0, "100.01", "100.02")
    books.publish(1, "100.03", "100.04")
    asked: list[tuple[str, str]] = []

    async def subscribe(venue: str, symbol: str) -> None:
        asked.append((venue, symbol))

    async def use() -> None:
        aggregator = MarketDataAggregator(books.instance, CONFIG, subscribe)
        assert not aggregator.is_aggregating
        await aggregator.start_aggregation()
        assert aggregator.is_aggregating
        snapshot = aggregator.get_latest_snapshot(["BTC/USDT"])
        assert snapshot.synchronised
        assert [book.bids[0][0] for book in snapshot.books] == [Decimal("100.01"), Decimal("100.03")]
        await aggregator.add_symbol_subscription("aa_spot", "ETHUSDT")
        await aggregator.stop_aggregation()

    asyncio.run(use())
    assert asked == [("aa_spot", "ETHUSDT")]


# --- errors ---


def test_errors_have_one_root() -> None:
    for error in (OrderExecutionError, RiskManagementError, RecoveryError, BadInput):
        assert issubclass(error, ArbitrageEngineError)
