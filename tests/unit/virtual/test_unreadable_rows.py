"""Rows of ours that a venue's lists have and that cannot be read: they stop their instrument, and nothing else."""

from __future__ import annotations

from collections.abc import Callable
from decimal import Decimal
from typing import Any

import msgspec

from pipeline.execution.events import (
    FILL_LISTS,
    ORDER_LISTS,
    POSITION_LISTS,
    AccountSnapshot,
    CommandKind,
    FillsAnswer,
    QueryAnswer,
    SweepAnswer,
)
from pipeline.execution.external_records import ExternalFillRecord, ExternalPositionRecord
from pipeline.model.enums import OrderState, Refusal
from pipeline.model.structs import UnreadableRow
from pipeline.virtual.world import VirtualWorld
from tests.worlds.external_world import (
    CONTRACT,
    FUTURES,
    MID,
    external_world,
    hedge,
    judge,
    naked_ms,
    records,
    venue_delta,
)

D = Decimal
SPOT = "gateio_spot"


FIELDS = {ORDER_LISTS: "orders", FILL_LISTS: "fills", POSITION_LISTS: "positions"}


class Unreadable:
    """While ``on``: rows of one venue's lists ``what`` that ``which`` says cannot be read, single orders among them."""

    def __init__(self, world: VirtualWorld, venue: str, what: tuple[str, ...], which: Callable[[Any], bool]) -> None:
        self.on = True
        self.sweeps = 0
        self._what, self._which = what, which
        link = world.links[venue]
        later, feed = link.later, world.feed

        def answered(event: Any) -> None:
            later(self._answered(event) if self.on else event)

        def polled(event: Any) -> None:
            if self.on and isinstance(event, AccountSnapshot) and POSITION_LISTS in what:
                bad = [row for row in event.positions if row.venue == venue and which(row)]
                event = msgspec.structs.replace(
                    event,
                    positions=tuple(row for row in event.positions if row not in bad),
                    unreadable=tuple((row.venue, row.symbol) for row in bad),
                )
            feed(event)

        link.later = answered  # type: ignore[method-assign]
        world.feed = polled  # type: ignore[method-assign]

    def _answered(self, event: Any) -> Any:
        if isinstance(event, SweepAnswer) and not event.error:
            self.sweeps += 1
            return self._swept(event)
        if isinstance(event, FillsAnswer) and FILL_LISTS in self._what:
            kept = tuple(row for row in event.fills if not self._which(row))
            return msgspec.structs.replace(event, fills=kept, error="cannot be read")
        if isinstance(event, QueryAnswer) and ORDER_LISTS in self._what and event.update and self._which(event.update):
            return msgspec.structs.replace(event, update=None, error="cannot be read")
        return event

    def _swept(self, event: SweepAnswer) -> SweepAnswer:
        missing: list[UnreadableRow] = []
        for what in self._what:
            rows = getattr(event, FIELDS[what])
            bad = [row for row in rows if self._which(row)]
            for row in bad:
                order_id, client_id = getattr(row, "order_id", ""), getattr(row, "client_id", "")
                missing.append(
                    UnreadableRow(what=what, name=row.symbol, order_id=order_id, client_id=client_id, reason="odd")
                )
            event = msgspec.structs.replace(event, **{FIELDS[what]: tuple(row for row in rows if row not in bad)})
        return msgspec.structs.replace(event, unreadable=tuple(missing))


def ours(row: Any) -> bool:
    return bool(row.client_id)


def unanswered(world: VirtualWorld, venue: str, duration_ms: int = 0) -> None:
    """Orders there have no answer and no stream."""
    for kind, target in (("drop_response", "place"), ("drop_event", "private")):
        world.arm(kind=kind, venue=venue, target=target, count=0, duration_ms=duration_ms)


def doubt(world: VirtualWorld, venue: str) -> str:
    row = next(row for row in world.instruments if (row.spec.venue, row.spec.symbol) == (venue, CONTRACT))
    return world.core.recovery.account.doubtful(row.spec)


def trade(world: VirtualWorld, buy: str = "mexc_spot", sell: str = SPOT) -> Any:
    """A spot-spot operation is offered; what became of it."""
    world.market.move(buy, "BTCUSDT" if buy == "mexc_spot" else CONTRACT, MID * D("0.995"))
    world.market.move(sell, CONTRACT, MID)
    world.run(50)
    offered = world.opportunity(buy, sell, "BTC/USDT", qty=D("0.01"))
    assert offered is not None
    before = len(world.refusals)
    world.feed(offered)
    return list(world.refusals)[before:]


def offered_hedge(world: VirtualWorld) -> Any:
    """The same with a hedge."""
    world.market.move(SPOT, CONTRACT, MID)
    world.market.move(FUTURES, CONTRACT, MID * D("1.006"))
    world.run(50)
    offered = world.opportunity(SPOT, FUTURES, "BTC/USDT", qty=D("0.01"))
    assert offered is not None
    before = len(world.refusals)
    world.feed(offered)
    return list(world.refusals)[before:]


def ours_at(world: VirtualWorld, venue: str) -> Any:
    return next(order for order in world.core.ledger.orders.values() if order.intent.venue == venue)


def test_an_order_whose_rows_cannot_be_read_stays_unknown_and_only_its_instrument_waits() -> None:
    world = external_world()
    unanswered(world, SPOT, 8000)
    odd = Unreadable(world, SPOT, (ORDER_LISTS, FILL_LISTS), ours)
    assert trade(world) == []
    world.run(8000)
    order = ours_at(world, SPOT)
    assert order.state is OrderState.UNKNOWN and order.filled == 0, "no proof of absence without its row"
    assert SPOT in world.core.recovery, "the venue itself is reconciled"
    assert "cannot be read" in doubt(world, SPOT)
    assert offered_hedge(world) == [Refusal.INSTRUMENT_BLOCKED]
    world.run(30_000)
    assert order.state is OrderState.UNKNOWN
    odd.on = False
    world.run(40_000)
    assert order.filled > 0 and not world.core.ledger.unsettled and not world.core.ledger.open_operations
    assert doubt(world, SPOT) == ""
    judge(world)


def test_the_fills_of_an_order_whose_row_cannot_be_read_count() -> None:
    world = external_world()
    unanswered(world, SPOT, 8000)
    Unreadable(world, SPOT, (ORDER_LISTS,), ours)
    assert trade(world) == []
    world.run(8000)
    order = ours_at(world, SPOT)
    assert order.filled == order.intent.qty and not world.core.ledger.unsettled
    world.run(40_000)
    assert doubt(world, SPOT) == "", "a settled order's row is needed no more"
    judge(world)


def test_an_order_that_is_listed_without_its_fills_stays_open() -> None:
    world = external_world()
    unanswered(world, SPOT, 8000)
    odd = Unreadable(world, SPOT, (FILL_LISTS,), ours)
    assert trade(world) == []
    world.run(8000)
    order = ours_at(world, SPOT)
    assert order.state is OrderState.FILLED and order.filled == 0 and world.core.ledger.unsettled
    assert offered_hedge(world) == [Refusal.INSTRUMENT_BLOCKED]
    odd.on = False
    world.run(40_000)
    assert order.filled == order.intent.qty and not world.core.ledger.unsettled
    judge(world)


def test_rows_of_a_settled_order_are_needed_no_more() -> None:
    world = external_world()
    assert trade(world) == []
    world.run(2000)
    assert not world.core.ledger.unsettled
    odd = Unreadable(world, SPOT, (ORDER_LISTS, FILL_LISTS), ours)
    world.core.recovery._look_at(SPOT, {CONTRACT}, "test")
    assert world.run_until(lambda: odd.sweeps > 0, limit_ms=5000)
    world.run(1000)
    assert doubt(world, SPOT) == ""


def test_sweeps_for_a_row_that_stays_unreadable_come_less_and_less_often() -> None:
    world = external_world()
    unanswered(world, SPOT)
    odd = Unreadable(world, SPOT, (ORDER_LISTS, FILL_LISTS), ours)
    trade(world)
    world.run(60_000)
    first, odd.sweeps = odd.sweeps, 0
    world.run(60_000)
    assert 0 < odd.sweeps < first and odd.sweeps <= 4


def test_a_position_that_cannot_be_read_is_not_taken_for_none() -> None:
    world = external_world()
    hedge(world)
    odd = Unreadable(world, FUTURES, (POSITION_LISTS,), lambda row: row.symbol == CONTRACT)
    world.core.recovery.account.question(FUTURES, CONTRACT)
    world.run(40_000)
    assert not records(world, ExternalPositionRecord) and not records(world, ExternalFillRecord)
    assert len(world.core.ledger.hedges) == 1
    assert not world.core.recovery.account.gone(FUTURES, CONTRACT)
    assert "cannot be read" in doubt(world, FUTURES) and FUTURES in world.core.recovery
    odd.on = False
    world.run(35_000)
    assert doubt(world, FUTURES) == ""
    world.command(CommandKind.CLOSE_HEDGES)
    world.run(3000)
    assert not world.core.ledger.hedges and world.position(FUTURES, CONTRACT) == 0
    judge(world)


def test_a_position_that_cannot_be_read_at_the_start_becomes_no_baseline() -> None:
    world = external_world()
    hedge(world)
    held = world.position(FUTURES, CONTRACT)
    world.entries.clear()
    world.kill()
    odd = Unreadable(world, FUTURES, (POSITION_LISTS,), lambda row: row.symbol == CONTRACT)
    world.run(8000)
    assert (FUTURES, CONTRACT) not in world.core.ledger.position_offsets
    assert "cannot be read" in doubt(world, FUTURES)
    odd.on = False
    world.run(35_000)
    assert world.core.ledger.expected_position(FUTURES, CONTRACT) == held
    assert "unknown_past" in world.core.ledger.breakers


def test_a_liquidation_beside_an_unreadable_order_of_ours_is_answered() -> None:
    world = external_world()
    hedge(world)
    world.arm(kind="drop_request", venue=FUTURES, target="place", count=1)
    Unreadable(world, FUTURES, (ORDER_LISTS,), ours)
    world.command(CommandKind.CLOSE_HEDGES)
    world.run(100)
    at_ns = world.clock.mono_ns()
    world.arm(kind="liquidate", venue=FUTURES, symbol=CONTRACT, amount=0)
    world.run(30_000)
    assert venue_delta(world, "BTC") == world.core.ledger.dust.get("BTC", D(0))
    assert naked_ms(world, at_ns) <= 5000
    assert world.position(FUTURES, CONTRACT) == 0 and not world.core.ledger.hedges
    judge(world)
