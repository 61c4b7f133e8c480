"""An idle pipeline parks and hardly uses a core; CPU sets that were asked for are seen in the status."""

from __future__ import annotations

import os
import secrets
import signal
import time
from pathlib import Path
from typing import Any

import pytest

from tests.worlds.instance_rig import PATIENT, Rig
from tests.worlds.waiting import until
from workers.view.status import read_status
from workers.view.status_text import status_text

pytestmark = pytest.mark.e2e

LOOK_S = 3.0
WORKERS = ("detector", "executor", "feed.mexc", "feed.gateio", "guard", "poller", "recorder")


def processes(instance: str) -> dict[str, Any]:
    rows: dict[str, Any] = read_status(instance)["processes"]
    return rows


def cpu_s(pid: int) -> float:
    """User and system time of a process, /proc/<pid>/stat fields 14 and 15."""
    raw = Path(f"/proc/{pid}/stat").read_bytes()
    fields = raw[raw.rindex(b")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def test_a_pipeline_without_frames_parks_and_wakes_again() -> None:
    running = Rig(f"t-{secrets.token_hex(4)}", scenario="null_flat", guard=PATIENT)
    running.config["processes"] = {name: {"wait": "park"} for name in ("feed", "detector", "executor")}
    cpu = min(os.sched_getaffinity(0))
    running.config["processes"]["detector"]["cpus"] = [cpu]
    try:
        running.start()
        rows = processes(running.instance)
        assert (rows["detector"]["cpus_wanted"], rows["detector"]["cpus"]) == ([cpu], [cpu])
        assert rows["executor"]["cpus"] == sorted(os.sched_getaffinity(0))
        text = status_text(read_status(running.instance))
        assert "detector" in text and "(any)" in text  # the executor's set was not asked for
        simulator = running.simulator._process.pid
        os.kill(simulator, signal.SIGSTOP)  # half-open: the sockets stand, nothing comes
        try:
            until(lambda: all(processes(running.instance)[name]["parked"] for name in WORKERS), "every process parked")
            pids = {name: processes(running.instance)[name]["pid"] for name in WORKERS}
            before, began = {name: cpu_s(pid) for name, pid in pids.items()}, time.monotonic()
            time.sleep(LOOK_S)
            shares = {name: (cpu_s(pid) - before[name]) / (time.monotonic() - began) for name, pid in pids.items()}
            assert max(shares.values()) < 0.2, shares  # a spinning process would stand at 1
        finally:
            os.kill(simulator, signal.SIGCONT)
        seen = read_status(running.instance)["feeds"]["mexc_spot"]["messages"]
        until(
            lambda: read_status(running.instance)["feeds"]["mexc_spot"]["messages"] > seen, "frames after the silence"
        )
    finally:
        running.close()
