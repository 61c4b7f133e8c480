"""What the Python package may ask of a core: an emergency stop, a recovery begun by hand, money that is set aside."""

from __future__ import annotations

from decimal import Decimal

from pipeline.detection.memory import DETECTOR_COUNTERS
from pipeline.execution.events import Command, CommandKind
from pipeline.execution.plan import Rejected
from pipeline.model.enums import ArbitrageState, Refusal
from tests.worlds.detector_world import DetectorWorld, engine_config
from tests.worlds.execution_starts import half_filled, held_world, ready_world
from tests.worlds.execution_world import make_config
from tests.worlds.fast_entry_world import FastEntryWorld


def test_an_emergency_stop_refuses_entries_and_counts_as_one_trigger() -> None:
    world = ready_world()
    world.feed(Command(CommandKind.EMERGENCY, reason="by hand"))
    world.core.context.now = world.now()
    verdict = world.core.risk.validate_opportunity_risk(world.offer("mexc_spot", "gateio_spot"))
    assert isinstance(verdict, Rejected) and (verdict.refusal, verdict.detail) == (Refusal.BREAKER, "emergency")
    world.run(1500)
    assert world.core.risk.get_risk_statistics()["circuit_breaker_triggers"] == 1
    world.feed(Command(CommandKind.REARM, "emergency", "over"))
    world.run(1500)
    assert world.core.risk.get_circuit_breaker_status().triggered_breakers == ()
    assert world.core.risk.get_risk_statistics()["circuit_breaker_triggers"] == 1  # triggers, not what stands now


def test_a_recovery_begun_by_hand_ends_by_itself() -> None:
    world = ready_world(2)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    (operation,) = world.core.ledger.open_operations.values()
    world.feed(Command(CommandKind.RECOVER, operation.operation_id, "by hand"))
    assert operation.state is ArbitrageState.RECOVERING
    assert world.core.ledger.recoveries[f"r{operation.operation_id}"].reason == "by hand"
    sent = len(world.core.ledger.orders)
    world.run(3000)
    assert operation.state is ArbitrageState.COMPLETED and not world.core.ledger.open_operations
    assert len(world.core.ledger.orders) == sent, "both legs filled: there was nothing to repair"
    assert world.core.ledger.recoveries[f"r{operation.operation_id}"].state == "done"


def test_a_broken_leg_recovered_by_hand_is_repaired_once() -> None:
    world = ready_world(2)
    half_filled(world)
    (operation,) = world.core.ledger.open_operations.values()
    world.feed(Command(CommandKind.RECOVER, operation.operation_id, "by hand"))
    world.feed(Command(CommandKind.RECOVER, operation.operation_id, "again"))
    world.run(5000)
    assert operation.recovered and not world.core.ledger.open_operations
    assert abs(world.core.positions.delta().get("BTC", Decimal(0))) < Decimal("0.01")


def test_what_waits_for_an_operator_is_not_begun_by_hand() -> None:
    world = held_world()
    (operation,) = world.core.ledger.open_operations.values()
    before = len(world.core.ledger.orders)
    world.feed(Command(CommandKind.RECOVER, operation.operation_id, "by hand"))
    world.feed(Command(CommandKind.RECOVER, "nothing", "by hand"))
    assert world.core.recovery.held_by_operator(operation) and len(world.core.ledger.orders) == before


def test_money_that_is_set_aside_is_refused_on_both_paths() -> None:
    world = FastEntryWorld(1, config=make_config())
    world.run(100)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(2000)
    assert (world.taken, len(world.core.ledger.operations)) == (1, 1)
    balances = world.core.balances
    usable = balances.usable("mexc_spot", "USDT")
    balances.set_aside("mine", "mexc_spot", "USDT", usable - 1)
    world.core.update_limits_table()
    assert balances.usable("mexc_spot", "USDT") == 1 and balances.reserved("mexc_spot", "USDT") == usable - 1
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(100)
    assert (world.taken, len(world.core.ledger.operations)) == (1, 1)
    assert world.core.refusals.newest is Refusal.BALANCE_SHORT
    assert balances.release("mine") and not balances.release("mine")
    assert balances.usable("mexc_spot", "USDT") == usable and balances.set_asides == {}
    world.core.update_limits_table()
    world.run(2000)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    assert world.taken == 2


def test_detection_that_is_off_opens_no_episode_and_ends_those_that_are_open() -> None:
    setup = DetectorWorld(enabled=False, cooldown_ms=0)
    off, on = setup.config, engine_config(enabled=True, cooldown_ms=0)
    detector = setup.detector()
    setup.dislocate()
    detector.step(idle_ns=0)
    assert detector.counters()["opened"] == 0
    detector.reconfigure(on)
    setup.dislocate()
    detector.step(idle_ns=0)
    assert (detector.counters()["opened"], detector.counters()["taken"]) == (1, 1)
    assert detector.memory.mem[DETECTOR_COUNTERS.active] == 1, "its edge is still there"
    detector.reconfigure(off)
    setup.dislocate()
    detector.step(idle_ns=0)
    assert (detector.counters()["opened"], detector.counters()["taken"]) == (1, 1)
    assert detector.memory.mem[DETECTOR_COUNTERS.active] == 0
