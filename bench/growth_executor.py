"""A real executor on the journal of a long life: how soon it is READY, and what memory that takes.

Simulated venues, the supervisor without children, guard, poller, feeds and executor as processes of their own, as
systemd starts them; no recorder (it would write a life into SQLite that a real one has followed). The executor is
started, ended by SIGKILL and started again: forked from a warmed parent, as under ``arb up`` (``growth_fork``), and
once more as a program of its own, which has Python and the compiled kernels to load besides.
"""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import yaml

from pipeline.model.enums import ProcessState
from shm.liveness import LivenessView
from shm.segment import cleanup_instance
from workers.control_socket import SUPERVISOR_SOCKET, ControlError, ask
from workers.credentials import store_credentials
from workers.demo.simulator import SimulatorProcess, keys_of
from workers.state_folder import instance_dir

WAIT_S = 300.0
SERVING = (ProcessState.READY, ProcessState.DEGRADED)
BEFORE = ("guard", "poller")  # of what the executor needs, beside supervisor and feeds


def new_instance() -> str:
    """A name that no other instance has."""
    return f"growth-{secrets.token_hex(4)}"


class Processes:
    """Children of this process, ended by their handles."""

    def __init__(self, instance: str) -> None:
        self.instance = instance
        self.folder = instance_dir(instance, create=True)
        self._children: dict[str, subprocess.Popen[bytes]] = {}

    def begin(self, process: str, *more: str, module: str = "") -> int:
        """Starts ``workers.<process>``; its pid."""
        name = module or f"workers.{process.partition('.')[0]}"
        arguments = [
            sys.executable,
            "-m",
            name,
            "--instance",
            self.instance,
            "--config",
            str(self.folder / "config.yaml"),
        ]
        (self.folder / "log").mkdir(exist_ok=True)
        with (self.folder / "log" / f"{process}.log").open("ab") as log:
            child = subprocess.Popen([*arguments, *more], stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        self._children[process] = child
        return child.pid

    def fork_server(self, dialects: list[str]) -> subprocess.Popen[str]:
        """A warm fork server (``growth_fork``)."""
        log, config = self.folder / "log" / "executor.log", self.folder / "config.yaml"
        arguments = [sys.executable, "-m", "bench.growth_fork", self.instance, str(config), str(log), *dialects]
        child = subprocess.Popen(arguments, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
        assert child.stdout is not None
        if child.stdout.readline() != "warm\n":
            raise SystemExit("the fork server is not warm")
        return child

    def end(self, process: str) -> None:
        """SIGKILL."""
        child = self._children.pop(process)
        child.kill()
        child.wait()

    def wait_ready(self, process: str, pid: int = 0) -> None:
        """Until the process is READY; ``pid``: of one that is no child. Raises SystemExit where it ends before, or does
        not come."""
        view = LivenessView.attach(self.instance, process, missing_ok=True)
        deadline, child = time.monotonic() + WAIT_S, self._children.get(process)
        wanted = pid if child is None else child.pid
        while True:
            view.refresh()
            if view.mapped and view.alive() and view.pid == wanted and view.state in SERVING:
                return
            ended = not Path(f"/proc/{pid}").exists() if child is None else child.poll() is not None
            if ended or time.monotonic() > deadline:
                log = (self.folder / "log" / f"{process}.log").read_text(errors="replace")
                raise SystemExit(f"{process} is not READY:\n{log[-2000:]}")
            time.sleep(0.005)

    def close(self) -> None:
        """Ends all of them."""
        for process in list(self._children)[::-1]:
            self.end(process)
        cleanup_instance(self.instance)


def _published(folder: Path) -> bool:
    """Whether the supervisor has rows: the others may start."""
    with contextlib.suppress(ControlError):
        return bool(ask(folder / SUPERVISOR_SOCKET, {"op": "symbols"})["instruments"])
    return False


@contextlib.contextmanager
def instance_without_executor(instance: str) -> Iterator[Processes]:
    """Venues and every process that the executor needs, READY."""
    processes = Processes(instance)
    (processes.folder / "log").mkdir(exist_ok=True)
    simulator = SimulatorProcess(seed=1, scenario="demo", log=processes.folder / "log" / "simulator.log")
    try:
        sim = simulator.wait_ready()
        for exchange, key in keys_of(sim["venues"]).items():
            store_credentials(instance, exchange, key)
        config = {**sim["engine_config"], "engine_name": instance}
        (processes.folder / "config.yaml").write_text(yaml.safe_dump(config))
        processes.begin("supervisor", "--units", module="workers.control_plane")
        deadline = time.monotonic() + WAIT_S
        while not _published(processes.folder) and time.monotonic() < deadline:
            time.sleep(0.05)
        for exchange in config["exchanges"]:
            processes.begin(f"feed.{exchange}", "--exchange", exchange)
        for process in BEFORE:
            processes.begin(process)
        for process in (*(f"feed.{exchange}" for exchange in config["exchanges"]), *BEFORE):
            processes.wait_ready(process)
        yield processes
    finally:
        processes.close()
        simulator.stop()


def memory_mb(pid: int) -> dict[str, int]:
    """Resident memory of a process now and at its most."""
    rows = dict(line.split(":", 1) for line in Path(f"/proc/{pid}/status").read_text().splitlines() if ":" in line)
    return {name: int(rows[key].split()[0]) // 1024 for name, key in (("now_mb", "VmRSS"), ("peak_mb", "VmHWM"))}


def executor_starts(instance: str, starts: int = 2) -> list[dict[str, Any]]:
    """Starts the executor on what lies in the instance's state folder, ``starts`` times forked from a warmed parent:
    seconds and memory; then once as a program (``launch_s``)."""
    found: list[dict[str, Any]] = []
    with instance_without_executor(instance) as processes:
        config = yaml.safe_load((processes.folder / "config.yaml").read_text())
        dialects = sorted({row["dialect"] for row in config["exchanges"].values()})
        with processes.fork_server(dialects) as server:
            assert server.stdin is not None and server.stdout is not None
            for _ in range(starts):
                began_s = time.monotonic()
                server.stdin.write("start\n")
                server.stdin.flush()
                pid = int(server.stdout.readline())
                processes.wait_ready("executor", pid)
                found.append({"ready_s": round(time.monotonic() - began_s, 3), **memory_mb(pid)})
                os.kill(pid, signal.SIGKILL)
                server.stdout.readline()
        began_s = time.monotonic()
        pid = processes.begin("executor")
        processes.wait_ready("executor")
        found.append({"launch_s": round(time.monotonic() - began_s, 3), **memory_mb(pid)})
    return found
