"""What becomes of an instance's processes while they are killed."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import Any

from workers.kills.watch import ProcessWatch


def row(pid: int, restarts: int, *, ready: bool = True, recovery_ms: float | None = None) -> dict[str, Any]:
    return {"pid": pid, "restarts": restarts, "ready": ready, "recovery_ms": recovery_ms}


def test_deaths_and_recoveries_are_counted_once_over_every_life_of_the_instance() -> None:
    said: dict[str, Any] = {}
    watch = ProcessWatch(lambda: said)
    watch.look()
    for begun, processes in (
        (1, {"executor": row(0, 0), "feed.mexc": row(0, 0)}),
        (1, {"executor": row(0, 1, ready=False), "feed.mexc": row(0, 0)}),
        (1, {"executor": row(0, 1, recovery_ms=700.0), "feed.mexc": row(0, 2, recovery_ms=300.0)}),
        (1, {"executor": row(0, 1, recovery_ms=700.0), "feed.mexc": row(0, 2, recovery_ms=300.0)}),
        (1, {"executor": row(0, 2, ready=False, recovery_ms=700.0), "feed.mexc": row(0, 2, recovery_ms=300.0)}),
        (2, {"executor": row(0, 0)}),  # another life: its counts begin at 0
        (2, {"executor": row(0, 1, recovery_ms=900.0)}),
    ):
        said = {"pid": os.getpid(), "started_wall_ns": begun, "processes": processes}
        watch.look()
    assert dict(watch.deaths) == {"executor": 3, "feed.mexc": 2}
    assert watch.recovery_ms == {"executor": [700.0, 900.0], "feed.mexc": [300.0]}


def test_a_process_that_outlives_its_instance_is_left() -> None:
    child = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    watch = ProcessWatch(lambda: {"processes": {"feed.mexc": row(child.pid, 0)}})
    watch.start()
    try:
        watch.look()
        assert watch.left() == [child.pid]
    finally:
        child.kill()
        child.wait()
        watch.stop()
    assert watch.left() == []
