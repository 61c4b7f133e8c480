"""Entries and the venues' clocks: what nobody has read, or a venue has refused, waits for a reading; exits do not."""

from __future__ import annotations

from decimal import Decimal

from pipeline.execution.events import AccountSnapshot
from pipeline.model.enums import OrderSide
from pipeline.model.venue_events import SessionState
from pipeline.trade_state import executor_reasons
from tests.worlds.execution_starts import ready_world
from tests.worlds.execution_world import Faults, World
from tests.worlds.venue_messages import finish_order, order_on

UNREAD = "gateio_spot: it does not tell its time; its clock is being asked for"


def opened(world: World, *, clock_known: bool) -> None:
    world.feed(SessionState(venue="gateio_spot", state="up", recv_mono_ns=world.now_ns, clock_known=clock_known))


def reading(world: World) -> AccountSnapshot:
    now = world.now()
    return AccountSnapshot(
        (),
        clock_offsets_ns={"gateio_spot": now.wall_ns - now.mono_ns},
        clock_read_mono_ns={"gateio_spot": now.mono_ns},
    )


def test_a_session_that_goes_by_our_own_clock_takes_no_entry_until_the_venues_is_read() -> None:
    world = ready_world()
    opened(world, clock_known=True)
    assert not world.core.risk.gate.clocks.closed()
    opened(world, clock_known=False)
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    assert not world.core.ledger.operations
    assert world.core.risk.gate.clocks.refusal("gateio_spot") == UNREAD
    assert f"venue {UNREAD}" in [reason.what for reason in executor_reasons(world.core)]
    world.feed(reading(world))
    assert not world.core.risk.gate.clocks.closed()
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    assert len(world.core.ledger.operations) == 1


def test_a_leg_that_stands_alone_is_repaired_by_our_own_clock() -> None:
    world = ready_world(faults=Faults(drop_request=1.0))
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    opened(world, clock_known=False)
    alone = order_on(world, "gateio_spot")
    world.core.risk.gate.order_budget = lambda venue, _count: venue == "gateio_spot"
    finish_order(world, alone)
    finish_order(world, order_on(world, "mexc_spot"), Decimal(0))
    repairs = [o.intent for o in world.core.ledger.orders.values()][2:]
    assert [(o.venue, o.side) for o in repairs] == [("gateio_spot", OrderSide(-alone.intent.side))]
