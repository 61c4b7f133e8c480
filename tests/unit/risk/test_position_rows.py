"""What a futures position must be by now: rows older than what we have added since, and rows without a rate."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import msgspec

from pipeline.execution.events import MarginAnswer
from pipeline.model.structs import Position
from pipeline.risk.position_rows import PositionRows
from pipeline.virtual.margin_storm import FUTURES, SYMBOL, Storm, storm_world
from pipeline.virtual.world import VirtualWorld

D = Decimal
KEY = (FUTURES, SYMBOL)


def held() -> tuple[VirtualWorld, PositionRows, Position]:
    """A world with an open hedge, its position rows, and the newest row of the contract."""
    world = storm_world(Storm(buffer=D("0.3")), 1, up=True)
    world.run(2000)
    state = world.core.risk.gate.margin
    world.core.context.now = world.now()
    return world, state.rows, state.readings[KEY].position


def take(world: VirtualWorld, rows: PositionRows, row: Position, **changes: Any) -> Position:
    """The venue's list has this row, received now."""
    now_ns = world.core.context.now.mono_ns
    fresh = msgspec.structs.replace(row, recv_mono_ns=now_ns, **changes)
    rows.take([fresh], {FUTURES: now_ns}, ())
    return fresh


def test_a_list_read_before_margin_was_added_does_not_take_that_margin_away() -> None:
    world, rows, row = held()
    shown = take(world, rows, row)
    before = rows.estimate(KEY)
    assert before is not None
    world.run(20)
    world.core.context.now = world.now()
    world.core.margin.on_answer(MarginAnswer(FUTURES, SYMBOL, D(50)))
    for late in ([shown], []):  # delivered now: with the row as it was, and without any
        rows.take(late, {FUTURES: shown.recv_mono_ns}, ())
        after = rows.estimate(KEY)
        assert after is not None and after.margin == before.margin + 50
    world.run(20)
    world.core.context.now = world.now()
    newer = take(world, rows, row, margin=row.margin + 49)
    after = rows.estimate(KEY)
    assert after is not None and after.margin == newer.margin


def test_a_maintenance_margin_without_its_rate_moves_with_the_position_and_the_mark() -> None:
    world, rows, row = held()
    shown = take(world, rows, row, maintenance_margin=D(40), maintenance_rate=D(0))
    world.market.move(FUTURES, SYMBOL, world.market.quotes[FUTURES, SYMBOL].mid * D("1.04"))
    world.run(20)
    now = rows.estimate(KEY)
    assert now is not None and now.maintenance_margin is not None and now.mark_price > shown.mark_price
    wanted = D(40) * abs(now.qty) * now.mark_price / (abs(shown.qty) * shown.mark_price)
    assert abs(now.maintenance_margin / wanted - 1) < D("1e-12")
