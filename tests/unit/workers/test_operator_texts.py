"""What an operator reads who knows ``arb --help`` alone: after a stop, without an executor, of other people's trades."""

from __future__ import annotations

from pathlib import Path

import msgspec
import pytest

from pipeline.virtual.margin_storm import Storm, storm_world
from pipeline.virtual.world import VirtualWorld
from workers.cli import main as cli
from workers.executor.publisher import Publisher
from workers.executor_file import write_executor_state
from workers.state_folder import instance_dir


@pytest.fixture(scope="module")
def hedged() -> VirtualWorld:
    """A core with an open hedge."""
    world = storm_world(Storm(), 1, up=True)
    world.run(2500)
    world.core.context.now = world.now()
    return world


def stopped(world: VirtualWorld, instance: str) -> Path:
    """The state folder of ``instance`` as an orderly stop of ``world`` leaves it."""
    folder = instance_dir(instance, create=True)
    (folder / "run.json").write_bytes(msgspec.json.encode({"state": "stopped", "mode": "sim"}))
    (folder / "lock").touch()
    write_executor_state(folder, Publisher(world.core, folder, lambda level, text: None).state(stopped=True))
    return folder


@pytest.mark.parametrize("rows", [40, 60])
def test_top_shows_what_stays_open_after_a_stop(
    rows: int,
    hedged: VirtualWorld,
    state_dir: Path,
    instance: str,
    capsys: pytest.CaptureFixture[str],
) -> None:
    from workers.view.live_view import render
    from workers.view.small_view import small_screen
    from workers.view.status import read_status

    stopped(hedged, instance)
    reading = read_status(instance)
    assert reading["positions"], "the world holds a position"
    qty = reading["positions"][0]["qty"]
    assert cli.main(["top", "--once", "--instance", instance]) == 0
    assert str(qty) in capsys.readouterr().out
    assert any(f"{qty} @ " in line for line in small_screen(reading, "", 120, rows))
    render(reading, "", 120, rows)
