"""Entry worlds in the states that tests begin from, and both ways of an entry on them."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from decimal import Decimal
from pathlib import Path
from typing import Any

from pipeline.execution.events import Entered
from pipeline.execution.plan import Plan, Rejected
from pipeline.execution.shared_reads import decode_opportunity
from pipeline.rehearsal.entry_world import EntryWorld, Level


@contextmanager
def a_world(**changes: Any) -> Iterator[EntryWorld]:
    with tempfile.TemporaryDirectory() as folder:
        world = EntryWorld(Path(folder), **changes)
        try:
            yield world
        finally:
            world.close()


def levels(first: str, step: str, *quantities: str) -> list[Level]:
    return [(Decimal(first) + k * Decimal(step), Decimal(qty)) for k, qty in enumerate(quantities)]


def opened(world: EntryWorld) -> None:
    """Funds, and books on which buying on MEXC and selling on Gate.io pays."""
    world.fund_all()
    world.publish(0, levels("98.99", "-0.01", "5", "5"), levels("99.10", "0.05", "0.3", "4"))
    world.publish(1, levels("100.00", "-0.05", "0.4", "4"), levels("100.10", "0.05", "5"))
    world.publish(2, levels("100.20", "-0.05", "0.4", "4"), levels("100.30", "0.05", "5"))


def ordinary(world: EntryWorld, **changes: Any) -> Any:
    legs = [(0, 1, Decimal("0.5"), Decimal("99.5")), (1, -1, Decimal("0.5"), Decimal("99.6"))]
    return world.record(legs, **changes)


def exact(world: EntryWorld, record: Any) -> Plan | Rejected:
    """The exact path's word on the same state."""
    world.core.context.now = world.now()
    world.core.risk.gate.ready = world.core.ready
    return world.core.risk.gate.judge(decode_opportunity(record, world.now_ns))


def written(world: EntryWorld) -> Entered:
    world.fast_entry.write(world.journal, world.now(), world.now_ns, lambda _venue: world.now().wall_ms)
    return world.fast_entry.entered(world.journal)
