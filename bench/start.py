"""How long until a whole pipeline is READY, what it weighs, and what it costs while nothing happens?

::

    launch --> [ supervisor, fork server, guard, feeds, detector, executor, poller, recorder ] --> READY
    venues stopped (SIGSTOP: sockets stand, nothing comes) --> all parked --> CPU time over some seconds

A real instance on simulated exchanges in a market where nothing may be traded (``null_flat``), kernels from the cache.
``first start``: the same with an empty cache (full size only; a minute of the machine). Memory is unique (USS): what
would come back if the process ended; a feed shares numba and its kernels with the process that it was forked from.
Idle CPU: the sum over the engine's processes, in percent of one core. No floors: goals are absolute.
"""

from __future__ import annotations

import os
import secrets
import signal
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import psutil

from bench.report import OURS, Report, Row
from bench.settings import BenchFailed, Settings
from workers.control_plane.launch import Launched
from workers.credentials import store_credentials
from workers.demo.simulator import SimulatorProcess, keys_of
from workers.view.status import read_status

NAME = "start"
PARKED_WAIT_S = 20.0
POLL_S = 0.05
MB = 1_000_000


class Instance:
    """Simulated venues and an engine on them, under a name of its own."""

    def __init__(self) -> None:
        self.name = f"bench-{secrets.token_hex(4)}"
        log = Path(tempfile.gettempdir()) / f"{self.name}.log"
        self.simulator = SimulatorProcess(seed=1, scenario="null_flat", log=log)
        try:
            sim = self.simulator.wait_ready()
            log.unlink()
            self.config = {**sim.pop("engine_config"), "engine_name": self.name}
            self.config["processes"] = {name: {"wait": "park"} for name in ("feed", "detector", "executor")}
            self.keys = keys_of(sim["venues"])
            self.engine = Launched(self.name)
        except BaseException:
            self.simulator.stop()
            raise

    def start(self) -> float:
        """Seconds from the launch to READY."""
        for exchange, key in self.keys.items():
            store_credentials(self.name, exchange, key)
        self.engine.configure(self.config)
        return self.engine.wait_ready()

    def pids(self) -> dict[str, int]:
        """Of every process of the engine, the supervisor and its fork server too."""
        found = {name: row["pid"] for name, row in self.engine.describe()["processes"].items()}
        known = {*found.values(), self.engine.pid}
        children = psutil.Process(self.engine.pid).children(recursive=True)
        others = [child.pid for child in children if child.pid not in known]
        return {**found, "supervisor": self.engine.pid, **{f"fork server.{k}": pid for k, pid in enumerate(others)}}

    def close(self) -> None:
        self.engine.stop()
        self.simulator.stop()
        self.engine.clean()


@contextmanager
def instance() -> Iterator[Instance]:
    """State and keys in a folder that goes with it."""
    before = os.environ.get("ARB_STATE_DIR")
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ARB_STATE_DIR"] = folder
        try:
            made = Instance()
            try:
                yield made
            finally:
                made.close()
        finally:
            if before is None:
                del os.environ["ARB_STATE_DIR"]
            else:
                os.environ["ARB_STATE_DIR"] = before


def until(condition: Callable[[], bool]) -> bool:
    deadline = time.monotonic() + PARKED_WAIT_S
    while not condition():
        if time.monotonic() > deadline:
            return False
        time.sleep(POLL_S)
    return True


def cpu_s(pids: dict[str, int]) -> float:
    times = [psutil.Process(pid).cpu_times() for pid in pids.values()]
    return sum(spent.user + spent.system for spent in times)


def idle_percent(made: Instance, seconds: float) -> float:
    """CPU of all processes while the venues say nothing, in percent of one core."""
    os.kill(made.simulator.pid, signal.SIGSTOP)
    try:
        workers = list(made.engine.describe()["processes"])
        rows = lambda: read_status(made.name)["processes"]  # noqa: E731
        if not until(lambda: all(rows()[name]["parked"] for name in workers)):
            raise BenchFailed("start: not every process parked while the venues were silent")
        pids = made.pids()
        before, began = cpu_s(pids), time.monotonic()
        time.sleep(seconds)
        return 100 * (cpu_s(pids) - before) / (time.monotonic() - began)
    finally:
        os.kill(made.simulator.pid, signal.SIGCONT)


def first_start() -> float:
    """Seconds to READY with an empty cache."""
    before = os.environ.get("ARB_CACHE_DIR")
    with tempfile.TemporaryDirectory() as cache:
        os.environ["ARB_CACHE_DIR"] = cache
        try:
            with instance() as made:
                return made.start()
        finally:
            if before is None:
                del os.environ["ARB_CACHE_DIR"]
            else:
                os.environ["ARB_CACHE_DIR"] = before


def note(rows: dict[str, Row], case: str, unit: str, scale: int, value: float, result: str) -> None:
    """One measurement of one case: a sample of ``value * scale``."""
    row = rows.setdefault(case, Row(NAME, case, OURS, per=scale, unit=unit, figure="p50"))
    row.add_round(np.array([round(value * scale)], dtype=np.int64))
    row.check(result)


def run(settings: Settings, report: Report) -> None:
    """Some starts of a whole instance; memory and idle CPU in each."""
    rows: dict[str, Row] = {}
    if settings.size == 2:
        note(rows, "first start ever, to READY", "s", 1_000, first_start(), "READY")
    for number in range(settings.pick(1, 3, 6)):
        with instance() as made:
            seconds = made.start()
            if settings.size and not number:
                continue  # whatever was not in the cache is there now
            note(rows, "warm start, to READY", "s", 1_000, seconds, "READY")
            for name, pid in made.pids().items():
                if name.startswith("feed."):
                    uss = psutil.Process(pid).memory_full_info().uss
                    note(rows, f"memory of {name}, USS", "MB", 1_000, uss / MB, "READY")
            total = sum(psutil.Process(pid).memory_full_info().uss for pid in made.pids().values())
            note(rows, "memory of all processes, USS", "MB", 1_000, total / MB, "READY")
            share = idle_percent(made, settings.pick(1, 3, 10))
            note(rows, "parked pipeline, CPU of one core", "%", 1_000, share, "parked")
    report.rows += rows.values()
