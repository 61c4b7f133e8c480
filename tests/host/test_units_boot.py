"""The unit files under a real systemd: an instance trades, is read by its group, takes in a changed limit, loses its
executor, trades again and stops."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from shm.sources import cache_root
from tests.host.booted_container import Container, missing

pytestmark = [pytest.mark.host, pytest.mark.skipif(bool(missing()), reason=missing() or "can boot")]


def test_an_instance_of_units_boots_survives_a_kill_and_stops(tmp_path: Path) -> None:
    container = Container(tmp_path)
    try:
        if container.refused:
            pytest.skip(f"no overlay here: {container.refused}")
        container.install(cache_root())
        text = container.boot()
        assert text, container.log()
        seen = json.loads(text)
    finally:
        container.close()
    assert seen["uids"] == ["arb"]
    running = [unit.removeprefix("arb-").partition("@main")[0] for unit in seen["units"] if "feed" not in unit]
    assert seen["users"]["watcher"] == ["sim", sorted([*running, "feed.gateio", "feed.mexc"])]
    assert seen["users"]["halt"][0] != 0 and seen["users"]["halt"][1] is False, "a reader halts nothing"
    assert "wanted its user" in seen["users"]["stranger"] or "Permission denied" in seen["users"]["stranger"]
    assert "4321" in seen["reload"]
    executor = "arb-executor@main.service"
    assert seen["restarts"] == {unit: int(unit == executor) for unit in seen["units"]}
    assert seen["ends"] == dict.fromkeys(seen["units"], "success")
    assert seen["one_unit"] == {
        "stopped": ["success", True],
        "killed": ["signal", True],
        "starting": ["activating", "success", True],
    }, "the executor ended in order"
