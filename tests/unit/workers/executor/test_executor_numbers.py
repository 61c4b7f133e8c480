"""Frames that order sessions drop are counted by venue, and an alert says so when the count rises."""

from __future__ import annotations

import asyncio

import pytest

from pipeline.exchanges.factory import make_trading
from pipeline.model.errors import ProtocolViolation
from pipeline.model.fixedpoint import to_fp_floor
from shm.layout_pages import INVENTORY, INVENTORY_ROW
from shm.metrics import Metrics
from shm.pages import InventoryPage
from tests.worlds.exchange_world import Events, world
from tests.worlds.execution_starts import ready_world
from workers.executor import pages
from workers.executor.pages import INVENTORY_IDLE_TURN_TICKS, VIOLATION_EVERY_NS, ExecutorNumbers, InventoryWriter


def test_dropped_frames_are_counted_and_said_once_a_minute() -> None:
    async def run() -> None:
        async with world("demo") as box:
            trading = {
                name: make_trading(box.venue(name), box.credentials(name), Events())
                for name in ("mexc_spot", "gateio_spot")
            }
            metrics = Metrics.private()
            numbers = ExecutorNumbers(metrics)
            assert numbers.sessions(trading, 0) == []
            trading["mexc_spot"].violation(ProtocolViolation("mexc_spot: no known push", venue="mexc_spot"))  # type: ignore[attr-defined]
            (text,) = numbers.sessions(trading, 1)
            assert text == "protocol: mexc_spot: 1 frames dropped, the last: mexc_spot: no known push"
            for _ in range(3):
                trading["mexc_spot"].violation(ProtocolViolation("mexc_spot: cut", venue="mexc_spot"))  # type: ignore[attr-defined]
            assert numbers.sessions(trading, 2) == []
            assert len(numbers.sessions(trading, 1 + VIOLATION_EVERY_NS)) == 1
            assert numbers.sessions(trading, 2 + 2 * VIOLATION_EVERY_NS) == []
            counted = metrics.counters()
            assert (counted["protocol_violations.mexc_spot"], counted["protocol_violations.gateio_spot"]) == (4, 0)
            for session in trading.values():
                await session.close()

    asyncio.run(run())


def seqs(page: InventoryPage, count: int) -> list[int]:
    """How often each row was written."""
    return [int(page.words[INVENTORY.rows + i * INVENTORY_ROW.WORDS]) // 2 for i in range(count)]


def test_inventory_rows_are_written_when_something_of_them_has_changed(instance: str) -> None:
    world = ready_world()
    page, core = InventoryPage.create(instance), world.core
    instruments = core.context.instruments
    rows, writer = len(instruments), InventoryWriter(page, instruments)
    blocked = seqs(page, rows)
    writer.write(core, world.now())
    assert seqs(page, rows) == [count + 1 for count in blocked], "the first tick after a record writes every row"
    for _ in range(3 * INVENTORY_IDLE_TURN_TICKS):
        writer.write(core, world.now())
    assert seqs(page, rows) == [count + 1 for count in blocked], "nothing has changed"
    world.feed(world.offer("mexc_spot", "gateio_spot"))
    world.run(300)
    for _ in range(INVENTORY_IDLE_TURN_TICKS):
        writer.write(core, world.now())
    for row in core.inventory(world.now()):
        words, instrument = page.row(row.instrument_id), instruments.get(row.instrument_id)
        assert words is not None and instrument is not None
        exp = instrument.qty_exp
        assert words[INVENTORY_ROW.sell_qty_fp] == to_fp_floor(row.sell_qty, exp)
        assert words[INVENTORY_ROW.blocked_until_mono_ns] == row.blocked_until_mono_ns
        assert words[INVENTORY_ROW.state] == row.tradable
    writer.block_all()
    page.close()


def test_rows_that_a_balance_has_moved_are_written_at_the_full_pace(
    instance: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two a tick, and one a tick while nothing moves. The turn before has one row left when the balances move: that
    tick looks at one row, and no row is counted that nobody looked at."""
    monkeypatch.setattr(pages, "INVENTORY_ROWS_PER_TICK", 2)
    world = ready_world()
    page, core = InventoryPage.create(instance), world.core
    rows, writer = len(core.context.instruments), InventoryWriter(page, core.context.instruments)
    assert rows == 3
    for _ in range(2 * rows):
        writer.write(core, world.now())
    while len(writer._due) != 1:
        writer.write(core, world.now())
    settled = seqs(page, rows)
    for venue, asset in core.balances.totals():
        core.balances.set_aside(f"{venue} {asset}", venue, asset, core.balances.usable(venue, asset) / 2)
    writer.write(core, world.now())
    writer.write(core, world.now())
    assert seqs(page, rows) == [count + 1 for count in settled]
    page.close()
