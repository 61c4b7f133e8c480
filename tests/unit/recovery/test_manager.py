"""Recovery: proof before absence, an operator before giving up, the account's own movements seen."""

from __future__ import annotations

from decimal import Decimal

import msgspec

from pipeline.exchanges.base import SessionState
from pipeline.execution.events import Command, CommandKind
from pipeline.execution.external_records import ExternalFlowRecord
from pipeline.execution.ledger import LATE_NS
from pipeline.execution.records import Outcome, Purpose, RecoveryRecord
from pipeline.model.enums import OrderState, Refusal
from tests.worlds.execution_starts import half_filled, held_world, ready_world
from tests.worlds.execution_world import MS, Faults, World


def test_the_ladder_ends_with_an_operator_and_a_breaker() -> None:
    world = held_world()
    active = world.core.recovery.get_active_recoveries()
    assert [(a["strategy"], a["requires_manual_approval"]) for a in active] == [("hold", True)]
    assert "recovery_hold" in world.core.ledger.breakers
    world.faults = Faults()
    world.feed(world.offer("gateio_spot", "mexc_spot"))
    assert world.refusals[-1] in (Refusal.BREAKER,)


def test_an_approval_lets_the_ladder_begin_again() -> None:
    world = held_world()
    world.faults = Faults()
    world.venues["gateio_spot"].bid = world.venues["mexc_spot"].bid = Decimal("99.90")
    recovery_id = str(world.core.recovery.get_active_recoveries()[0]["recovery_id"])
    world.run(5000)
    assert world.core.ledger.open_operations, "nothing moves without the operator"
    world.feed(Command(CommandKind.APPROVE, recovery_id, "go on"))
    world.run(2000)
    assert not world.core.ledger.open_operations
    assert not world.core.recovery.get_active_recoveries()
    assert world.core.recovery.get_recovery_statistics()["success_rate"] == 1.0
    world.judge()


def test_a_cancelled_recovery_is_left_to_the_operator() -> None:
    world = held_world()
    recovery_id = str(world.core.recovery.get_active_recoveries()[0]["recovery_id"])
    world.feed(Command(CommandKind.CANCEL_RECOVERY, recovery_id, "mine"))
    assert not world.core.recovery.get_active_recoveries()
    states = [e.record.state for e in world.entries if isinstance(e.record, RecoveryRecord)]
    assert states[-1] == "cancelled"
    assert world.core.risk.get_current_risk_metrics().total_exposure_usd > 90, "its exposure stays counted"


def test_no_trace_but_moved_balances_is_no_proof() -> None:
    """Both coins have moved as the order would have moved them: it may have executed."""
    world = ready_world(3, Faults(drop_request=1.0))
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.venues["mexc_spot"].balances["BTC"] += Decimal("0.5")
    world.venues["mexc_spot"].balances["USDT"] -= Decimal("0.5") * Decimal("99.95")
    world.faults = Faults()
    world.run(4000)
    states = {o.intent.venue: o.state for o in world.core.ledger.orders.values()}
    assert states == {"mexc_spot": OrderState.UNKNOWN, "gateio_spot": OrderState.EXPIRED}


def test_a_deposit_is_no_execution_and_leaves_an_unknown_order_decidable() -> None:
    """An execution moves both coins; only one has moved, so somebody received coins meanwhile."""
    world = ready_world(3, Faults(drop_request=1.0))
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.venues["mexc_spot"].balances["BTC"] += Decimal("0.5")
    world.faults = Faults()
    world.run(4000)
    assert {o.state for o in world.core.ledger.orders.values()} == {OrderState.EXPIRED}
    flows = [e.record for e in world.entries if isinstance(e.record, ExternalFlowRecord)]
    assert [(f.venue, f.asset, f.amount, f.cause) for f in flows] == [
        ("mexc_spot", "BTC", Decimal("0.5"), "unexplained")
    ]


def test_one_incomplete_sweep_proves_nothing() -> None:
    world = ready_world(3, Faults(drop_request=1.0))
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.faults = Faults(rest_error=1.0)
    world.run(6000)
    assert {o.state for o in world.core.ledger.orders.values()} == {OrderState.UNKNOWN}
    world.faults = Faults()
    world.run(12_000)
    assert {o.state for o in world.core.ledger.orders.values()} == {OrderState.EXPIRED}


def test_a_fill_found_only_by_the_sweep_is_booked_and_repaired() -> None:
    world = ready_world(6)
    world.faults = Faults(drop_stream=1.0, drop_response=1.0)
    half_filled(world)
    assert not world.core.ledger.fills_seen
    world.kill()
    world.calm(5000)
    world.judge()
    purposes = [o.intent.purpose for o in world.core.ledger.orders.values()]
    assert Purpose.REPAIR in purposes
    assert world.core.ledger.outcomes[Outcome.RECOVERED] == 1


def test_coins_that_move_without_us_are_recorded_within_seconds() -> None:
    world = ready_world(4)
    world.venues["mexc_spot"].balances["BTC"] -= 1
    world.run(1500)
    found = [e.record for e in world.entries if isinstance(e.record, ExternalFlowRecord)]
    assert [(f.venue, f.asset, f.amount, f.witness) for f in found] == [("mexc_spot", "BTC", Decimal(-1), "poll")]
    assert {"venue.mexc_spot", "unexplained_loss"} <= world.core.ledger.breakers.keys(), "100 USD without a reason"


def test_a_position_that_moves_without_us_stops_its_venue() -> None:
    world = ready_world(4)
    world.venues["gateio_futures"].position = Decimal(-1)
    world.venues["gateio_futures"].cost = Decimal(-100)
    world.run(1500)
    assert "venue.gateio_futures" in world.core.ledger.breakers
    world.feed(world.offer("gateio_spot", "gateio_futures"))
    assert world.refusals[-1] is Refusal.BREAKER
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(50)
    assert world.core.ledger.outcomes[Outcome.COMPLETED] == 1, "the other venues trade"


def test_recovery_is_idempotent_over_repeated_deaths() -> None:
    world = ready_world(7)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.venues["gateio_spot"].bid = Decimal("90")
    for at in range(12):
        world.crash_after = at
        world.run(15)
        world.kill()
    world.calm(8000)
    world.judge()
    assert not world.core.ledger.open_operations


def swept(world: World) -> dict[str, tuple[str, ...]]:
    """Venue -> symbols of its first sweep since the last call."""
    found: dict[str, tuple[str, ...]] = {}
    for action in world.sweeps:
        found.setdefault(action.venue, action.symbols)
    world.sweeps.clear()
    return found


def test_only_what_no_sweep_has_covered_is_swept_again() -> None:
    world = ready_world(1)
    assert set(swept(world).values()) == {("BTCUSDT",)}, "a new journal may be a lost one"
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(100)
    world.kill()
    world.run(400)
    expected = {"mexc_spot": ("BTCUSDT",), "gateio_spot": ("BTCUSDT",), "gateio_futures": ()}
    assert swept(world) == expected
    world.kill()
    world.run(400)
    assert swept(world) == expected, "a venue may still add a fill: one early sweep does not close the past"
    world.run(LATE_NS / MS)
    world.kill()
    world.run(400)
    assert swept(world) == expected
    world.kill()
    world.run(400)
    assert set(swept(world).values()) == {()}
    world.host_boot = "second"
    world.kill()
    world.run(400)
    assert set(swept(world).values()) == {("BTCUSDT",)}, "the host died: the journal may lack what was sent"
    assert world.core.ready


def test_the_first_sweep_looks_back_to_the_last_record_of_the_run_before() -> None:
    world = ready_world(1)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(100)
    alive_ms = world.now().wall_ms
    world.life += 1  # dead
    world.run(7_200_000)
    world.sweeps.clear()
    world.kill()
    world.run(400)
    assert all(action.since_wall_ms <= alive_ms - LATE_NS // MS for action in world.sweeps)
    world.sweeps.clear()
    for venue in ("mexc_spot", "gateio_spot"):
        world.feed(SessionState(venue=venue, state="down", recv_mono_ns=world.now_ns))
        world.feed(SessionState(venue=venue, state="up", recv_mono_ns=world.now_ns))
    world.run(1500)
    assert world.sweeps
    assert all(action.since_wall_ms > alive_ms for action in world.sweeps), "once is enough"


def test_a_fill_added_to_an_ended_order_is_found_by_the_balances() -> None:
    world = ready_world(2)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(100)
    world.kill()
    world.run(LATE_NS / MS + 1000)
    world.kill()
    world.run(1000)  # their past is closed
    venue = world.venues["mexc_spot"]
    order = next(iter(venue.orders.values()))
    order.request = msgspec.structs.replace(order.request, qty=order.filled)
    world._execute(venue, order, Decimal("0.01"), Decimal("99.95"))  # and nobody says so
    world.run(1500)
    assert len(world.core.ledger.fills_seen) == len(venue.fills) + len(world.venues["gateio_spot"].fills)


def test_a_position_that_changed_while_we_were_dead_stops_its_venue() -> None:
    world = ready_world(4)
    world.feed(world.offer("gateio_spot", "gateio_futures"))
    world.run(300)
    assert world.core.ledger.hedges
    world.kill()
    world.run(1000)
    assert not world.core.ledger.breakers
    world.life += 1  # dead
    world.venues["gateio_futures"].position += Decimal("0.4")
    world.run(5000)
    world.kill()
    world.run(1000)
    assert "venue.gateio_futures" in world.core.ledger.breakers


def test_a_position_is_evidence_over_a_restart() -> None:
    """An order of the run before left no trace, but the position has moved: that is no proof that it never executed."""
    world = ready_world(3)
    world.faults = Faults(drop_request=1.0)
    world.feed(world.offer("gateio_spot", "gateio_futures"))
    world.life += 1
    world.venues["gateio_futures"].position -= Decimal("0.5")
    world.faults = Faults()
    world.kill()
    world.run(6000)
    states = {o.intent.venue: o.state for o in world.core.ledger.orders.values()}
    assert states["gateio_futures"] is OrderState.UNKNOWN
    assert states["gateio_spot"] is OrderState.EXPIRED
