"""What an orderly stop waits for after the executor's end, and what it does not wait for."""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest

from pipeline.execution.journal import Journal
from tests.worlds.execution_starts import half_filled, ready_world
from tests.worlds.execution_world import make_config
from workers.control_plane.close_before_stop import finish_half_done, guard_bound_s, stop_bound_s


def left_half_done(folder: Path) -> None:
    """A leg without its partner in the journal, and no last word."""
    world = ready_world(2)
    half_filled(world)
    assert world.core.ledger.open_operations
    journal = Journal.open(folder / "journal", segment_bytes=4 * 1024 * 1024)
    for entry in world.entries:
        journal.boot_epoch = entry.boot_epoch
        journal.append(entry.record, entry.mono_ns, entry.wall_ns)
    journal.close()


@pytest.mark.parametrize(("guard_can_come", "left_s"), [(False, 1e6), (True, -1.0)], ids=["no guard", "no time"])
def test_what_nobody_ends_is_said_and_not_waited_for(tmp_path: Path, guard_can_come: bool, left_s: float) -> None:
    left_half_done(tmp_path)
    said = list[str]()
    asyncio.run(
        finish_half_done(
            tmp_path,
            make_config(),
            lambda level, text: said.append(f"{level}: {text}"),
            lambda: guard_can_come,
            time.monotonic() + left_s,
        )
    )
    (line,) = said
    assert line.startswith("error: not ended before the stop: 1 operations half done") and "next start" in line


def test_where_nothing_is_open_nothing_is_said(tmp_path: Path) -> None:
    said = list[str]()
    asyncio.run(
        finish_half_done(
            tmp_path, make_config(), lambda level, text: said.append(text), lambda: True, time.monotonic() + 1e6
        )
    )
    assert said == []


def test_whoever_waits_for_a_stop_waits_longer_than_what_is_in_it() -> None:
    config = make_config()
    assert stop_bound_s(config) > 2 * guard_bound_s(config)
