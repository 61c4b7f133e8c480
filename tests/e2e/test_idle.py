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
AWAKE_S_MAX = 0.1  # CPU time from one sleep to the next; parked, it is some 2 ms
WAKES_PER_S_MAX = 200  # parked, the busiest wakes some 50 times a second
WORKERS = ("detector", "executor", "feed.mexc", "feed.gateio", "guard", "poller", "recorder")


def processes(instance: str) -> dict[str, Any]:
    rows: dict[str, Any] = read_status(instance)["processes"]
    return rows


def cpu_s(pid: int) -> float:
    """User and system time of a process, /proc/<pid>/stat fields 14 and 15."""
    raw = Path(f"/proc/{pid}/stat").read_bytes()
    fields = raw[raw.rindex(b")") + 2 :].split()
    return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def sleeps(pid: int) -> int:
    """How often a process gave its CPU away by itself."""
    (line,) = (line for line in Path(f"/proc/{pid}/status").read_text().splitlines() if line.startswith("voluntary"))
    return int(line.split()[1])


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
            began_s = time.monotonic()
            used = {name: -cpu_s(pid) for name, pid in pids.items()}
            slept = {name: -sleeps(pid) for name, pid in pids.items()}
            time.sleep(LOOK_S)
            for name, pid in pids.items():
                used[name] += cpu_s(pid)
                slept[name] += sleeps(pid)
            # CPU time and sleeps of the process's own: a busy host cannot raise the one, and who spins has none of the
            # other, however little CPU it gets. The wall's time only grows there.
            awake_s = {name: used[name] / (slept[name] + 1) for name in WORKERS}
            assert max(awake_s.values()) < AWAKE_S_MAX, awake_s
            # Who wakes all the time, counted: a slow host makes that fewer, not more.
            assert max(slept.values()) < WAKES_PER_S_MAX * (time.monotonic() - began_s), slept
        finally:
            os.kill(simulator, signal.SIGCONT)
        seen = read_status(running.instance)["feeds"]["mexc_spot"]["messages"]
        until(
            lambda: read_status(running.instance)["feeds"]["mexc_spot"]["messages"] > seen, "frames after the silence"
        )
    finally:
        running.close()
