"""A whole instance on simulated venues that is run and broken: processes by signals, venues by their control endpoint.

Nothing inside the engine takes part.
"""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from typing import Any

import msgspec

from pipeline.chaos.recorded import act, lease_lost
from pipeline.chaos.tape import Row
from pipeline.execution.journal import JournalEntry
from pipeline.execution.journal.guard_journal import whole_journal
from pipeline.execution.records import BreakerRecord
from pipeline.model.errors import ArbitrageEngineError, BadInput
from workers.control_plane.launch import Launched, block_new_risk
from workers.control_socket import ControlError, ask
from workers.credentials import store_credentials
from workers.demo.kill import await_half_done, kill_executor
from workers.demo.simulator import SimulatorProcess, keys_of
from workers.demo.summary import plain_ledger
from workers.kills.watch import ProcessWatch
from workers.view.status import Reader, read_status

IN_FLIGHT_WAIT_S = 4.0
DRAIN_S = 240.0  # unknown orders need their grace, a silenced venue its silence
POLL_S = 0.05
LEASE_MS = 550  # after the last grant of a guard that stands still, and a look of it later


class NeverCame(ArbitrageEngineError):
    """What a run waits for did not come."""


def until(condition: Callable[[], bool], what: str, wait_s: float = DRAIN_S) -> None:
    """Polls until ``condition``. Raises NeverCame."""
    deadline = time.monotonic() + wait_s
    while not condition():
        if time.monotonic() >= deadline:
            raise NeverCame(f"never came true: {what}")
        time.sleep(POLL_S)


class BrokenInstance:
    """Venues and an engine on them. Waits end by NeverCame."""

    def __init__(
        self,
        instance: str,
        *,
        scenario: str = "demo",
        seed: int = 1,
        environment: dict[str, str] | None = None,
        waits: bool = False,
        **config: Any,
    ) -> None:
        """``waits``: the scenario's paths and timed faults begin when the instance is READY first."""
        self.engine = Launched(instance, environment=environment)
        self.simulator = SimulatorProcess(
            seed=seed, scenario=scenario, waits=waits, log=self.engine.state_dir / "log" / "simulator.log"
        )
        self.sim = self.simulator.wait_ready()
        self.config: dict[str, Any] = {**self.sim.pop("engine_config"), "engine_name": instance}
        for section, values in config.items():
            self.config[section] = {**self.config.get(section, {}), **values}
        self.uids = frozenset(str(row["uid"]) for row in self.sim["venues"].values())
        self.restarts = 0
        self.watch = ProcessWatch(lambda: self.engine.describe())
        self.acts: list[Row] = []  # what was done to the processes (``pipeline/chaos/recorded.py``)

    @property
    def instance(self) -> str:
        return self.engine.instance

    # --- life ---

    def start(self) -> None:
        """Keys, configuration, and READY; then the scenario's time begins. Raises LaunchError."""
        self.launch()
        self.begin()

    def begin(self) -> None:
        """The scenario's paths and timed faults count from now on, where they have waited."""
        self.simulator.control("/begin", b"{}")

    def launch(self) -> None:
        """As :meth:`start`, and the scenario's time waits for :meth:`begin`."""
        for exchange, key in keys_of(self.sim["venues"]).items():
            store_credentials(self.instance, exchange, key)
        self.watch.start()
        self.engine.configure(self.config)
        self.engine.wait_ready()

    def start_again(self) -> None:
        """``arb up`` on the same state, after the instance has ended."""
        self.restarts += 1
        self.watch.look()
        self.engine = Launched(self.instance)
        self.engine.configure(self.config)
        self.engine.wait_ready()

    def kill_instance(self) -> None:
        """SIGKILL of the supervisor; the kernel kills every process below it."""
        os.kill(self.engine.pid, signal.SIGKILL)
        self.watch.deaths["supervisor"] += 1
        self.engine.stop()

    def fork_server(self) -> int:
        """Pid of the fork server."""
        (pid,) = children_of(self.engine.pid)
        return pid

    def kill_fork_server(self) -> None:
        """SIGKILL of the fork server: its children die with it, and the instance begins anew by itself."""
        begun = self.engine.describe()["started_wall_ns"]
        self.watch.look()
        self.watch.deaths["fork_server"] += 1
        os.kill(self.fork_server(), signal.SIGKILL)
        self.begun_anew(begun)

    def begun_anew(self, begun_wall_ns: int) -> None:
        """Waits until the instance that began at ``begun_wall_ns`` has begun again and is READY."""
        until(
            lambda: self.engine.describe()["started_wall_ns"] != begun_wall_ns and self.engine.all_ready(),
            "the instance's next life",
        )
        self.restarts += 1

    def kill(self, process: str) -> None:
        """SIGKILL; does not wait."""
        self.engine.kill(process)

    def kill_in_flight(self, venue: str) -> None:
        """SIGKILL of the executor with one leg filled and the other on its way, if such a moment comes soon."""
        give_up = time.monotonic() + IN_FLIGHT_WAIT_S
        kill_executor(self.engine, self.simulator, venue, lambda: time.monotonic() < give_up)

    def kill_in_state(self, process: str, state: str) -> None:
        """SIGKILL once the executor counts any of ``state`` (a counter of `arb status`), if that comes soon."""
        give_up = time.monotonic() + IN_FLIGHT_WAIT_S
        while not self.counter(state) and time.monotonic() < give_up:
            time.sleep(POLL_S)
        self.kill(process)

    def hang_in_flight(self, venue: str, seconds: float) -> None:
        """SIGSTOP of the executor with one leg filled and the other on its way, if such a moment comes soon; what is
        left of it goes on later."""
        give_up = time.monotonic() + IN_FLIGHT_WAIT_S
        await_half_done(self.engine, self.simulator, venue, lambda: time.monotonic() < give_up)
        self.pause("executor", seconds)

    def halted(self, seconds: float) -> None:
        """Latch the halt, wait, release it."""
        with contextlib.suppress(ControlError):
            self.engine.ask(op="halt", reason="campaign")
            self.acts.append(act("halt", time.monotonic_ns(), on=True))
            time.sleep(seconds)
            self.acts.append(act("halt", time.monotonic_ns(), on=False))
        self.resume()

    def resume(self) -> None:
        """Release the latch, whoever latched it; processes that were given up start again."""
        until(lambda: self._answers("supervisor.sock", {"op": "resume", "reason": "campaign"}), "the resume")

    def _answers(self, socket: str, request: dict[str, Any]) -> bool:
        with contextlib.suppress(ControlError):
            ask(self.engine.state_dir / socket, request, timeout_s=15.0)
            return True
        return False

    def all_ready(self) -> bool:
        """Every process READY and no halt; breakers and venues are not asked."""
        return self.engine.alive() and self.engine.all_ready() and not self.reading()["halted"]

    def breakers(self) -> dict[str, str]:
        """Tripped breakers and their reasons, as the journal says."""
        found: dict[str, str] = {}
        for entry in self.entries():
            if isinstance(entry.record, BreakerRecord):
                found.pop(entry.record.name, None)
                if entry.record.tripped:
                    found[entry.record.name] = entry.record.reason
        return found

    def rearm(self, name: str) -> None:
        """Re-arm a breaker, unless that has happened by itself meanwhile. Raises BadInput."""
        request = {"op": "rearm", "name": name, "reason": "campaign", "anyway": True}

        def rearmed() -> bool:
            try:
                return self._answers("executor.sock", request)
            except BadInput:  # it may have been answered by an executor that died before we heard of it
                if name in self.breakers():
                    raise
                return True

        until(rearmed, f"{name} re-armed")

    def pause(self, process: str, seconds: float) -> None:
        """SIGSTOP, SIGCONT later."""
        pid = self.engine.process_pid(process)
        if not pid:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            stopped_ns = time.monotonic_ns()
            time.sleep(seconds)
            if process == "guard":
                self.acts += lease_lost(stopped_ns, time.monotonic_ns(), LEASE_MS)
            os.kill(pid, signal.SIGCONT)

    def wake(self) -> None:
        """SIGCONT to every process: what has stopped at a point goes on."""
        for process in self.engine.describe().get("processes", {}):
            pid = self.engine.process_pid(process)
            if pid:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(pid, signal.SIGCONT)

    def fault(self, **rule: Any) -> None:
        self.simulator.control("/faults", msgspec.json.encode(rule))

    def heal(self) -> None:
        """Remove every fault; halted symbols trade again."""
        self.simulator.clear_faults()
        self.fault(kind="resume_symbol")

    def close(self) -> None:
        self.watch.stop()
        with contextlib.suppress(OSError):
            self.engine.stop()
        self.simulator.stop()
        self.engine.clean(keep_state=bool(os.environ.get("ARB_TEST_KEEP")))

    # --- what is to be seen ---

    def reading(self) -> dict[str, Any]:
        return read_status(self.instance)

    def counter(self, name: str) -> int:
        return int(self.reading()["orders"].get(name, 0))

    def entries(self) -> list[JournalEntry]:
        """What the executor and the guard have written."""
        return list(whole_journal(self.engine.state_dir))

    def ledger(self) -> list[dict[str, Any]]:
        return plain_ledger(self.simulator.control("/ledger")["rows"])

    # --- the end ---

    def end(self) -> None:
        """No new risk; every operation and order ends; the engine stops."""
        block_new_risk(self.engine)
        reader = Reader(self.instance)
        deadline = time.monotonic() + DRAIN_S
        while time.monotonic() < deadline:
            orders = reader.read()["orders"]
            if not orders.get("open_operations", 1) and not orders.get("unsettled_orders", 1):
                break
            time.sleep(POLL_S)
        self.watch.look()
        self.engine.stop()


def children_of(pid: int) -> list[int]:
    """Pids of the children of a process."""
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as handle:
        return [int(word) for word in handle.read().split()]
