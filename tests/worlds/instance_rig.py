"""A whole instance on simulated venues, for tests that run or break it, and its check by the venues' own ledger.

``Rig`` starts the instance, breaks it (processes by signals, venues by their control endpoint), starts it again on the
same state, stops it and checks it. Nothing inside the engine takes part, and where the venues' ledger has a fact, the
engine's own account of it is not used.
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
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec

from pipeline.execution.journal import JournalEntry, read_journal
from pipeline.execution.records import BreakerRecord
from tests.worlds.waiting import POLL_S, until
from workers.control_plane.launch import Launched, block_new_risk
from workers.control_socket import ControlError, ask
from workers.credentials import store_credentials
from workers.demo.kill import IN_FLIGHT_MS, HalfDone, kill_executor
from workers.demo.run_checker import Violation, check_all, deltas, until_stop, venue_changes
from workers.demo.simulator import SimulatorProcess, keys_of
from workers.demo.summary import JournalTotals, plain_journal, plain_ledger
from workers.view.status import Reader, read_status

IN_FLIGHT_WAIT_S = 4.0
DRAIN_S = 240.0  # unknown orders need their grace, a silenced venue its silence


class Rig:
    """Venues and an engine on them."""

    def __init__(
        self,
        instance: str,
        *,
        scenario: str = "demo",
        seed: int = 1,
        environment: dict[str, str] | None = None,
        **config: Any,
    ) -> None:
        self.engine = Launched(instance, environment=environment)
        self.simulator = SimulatorProcess(
            seed=seed, scenario=scenario, log=self.engine.state_dir / "log" / "simulator.log"
        )
        self.sim = self.simulator.wait_ready()
        self.config: dict[str, Any] = {**self.sim.pop("engine_config"), "engine_name": instance}
        for section, values in config.items():
            self.config[section] = {**self.config.get(section, {}), **values}
        self.uids = frozenset(str(row["uid"]) for row in self.sim["venues"].values())
        self.restarts = 0
        self.halts: list[tuple[int, int]] = []  # monotonic ns between which the latch stood

    @property
    def instance(self) -> str:
        return self.engine.instance

    # --- life ---

    def start(self) -> None:
        """Keys, configuration, and READY. Raises LaunchError."""
        for exchange, key in keys_of(self.sim["venues"]).items():
            store_credentials(self.instance, exchange, key)
        self.engine.configure(self.config)
        self.engine.wait_ready()

    def start_again(self) -> None:
        """``arb up`` on the same state, after the instance has ended."""
        self.restarts += 1
        self.engine = Launched(self.instance)
        self.engine.configure(self.config)
        self.engine.wait_ready()

    def kill_instance(self) -> None:
        """SIGKILL of the supervisor; the kernel kills every process below it."""
        os.kill(self.engine.pid, signal.SIGKILL)
        self.engine.stop()

    def fork_server(self) -> int:
        """Pid of the fork server."""
        (pid,) = _children_of(self.engine.pid)
        return pid

    def pids(self) -> list[int]:
        """Every process of the instance as the kernel knows them, the control plane first."""
        return [self.engine.pid, self.fork_server(), *_children_of(self.fork_server())]

    def kill_fork_server(self) -> None:
        """SIGKILL of the fork server: its children die with it, and the instance begins anew by itself."""
        begun = self.engine.describe()["started_wall_ns"]
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

    def halted(self, seconds: float) -> None:
        """Latch the halt, wait, release it."""
        with contextlib.suppress(ControlError):
            self.engine.ask(op="halt", reason="campaign")
            first = time.monotonic_ns()
            time.sleep(seconds)
            self.halts.append((first, time.monotonic_ns()))
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
        request = {"op": "rearm", "name": name, "reason": "campaign"}
        until(lambda: self._answers("executor.sock", request), f"{name} re-armed")

    def pause(self, process: str, seconds: float) -> None:
        """SIGSTOP, SIGCONT later."""
        pid = self.engine.process_pid(process)
        if not pid:
            return
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGSTOP)
            time.sleep(seconds)
            os.kill(pid, signal.SIGCONT)

    def fault(self, **rule: Any) -> None:
        self.simulator.control("/faults", msgspec.json.encode(rule))

    def heal(self) -> None:
        """Remove every fault; halted symbols trade again."""
        from urllib import request

        url = self.simulator.fields["control"].rstrip("/") + "/faults"
        request.urlopen(request.Request(url, method="DELETE"), timeout=10).close()
        self.fault(kind="resume_symbol")

    def close(self) -> None:
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
        return list(read_journal(self.engine.state_dir / "journal"))

    def books(self) -> JournalTotals:
        return JournalTotals(self.entries())

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
        self.engine.stop()

    def judge(self) -> list[Violation]:
        """Every invariant that the venues' ledger can be asked for, after :meth:`end`."""
        entries = self.entries()
        books, journal = JournalTotals(entries), plain_journal(entries)
        return check_all(
            ledger=until_stop(self.ledger(), journal),
            journal=journal,
            uids=self.uids,
            numeraire="USDT",
            engine_pnl=books.pnl(),
            dust=books.targets("USDT"),
        )

    def money(self) -> tuple[dict[str, Any], dict[str, Any]]:
        """(the engine's, the venues') change per asset."""
        entries = self.entries()
        ledger = until_stop(self.ledger(), plain_journal(entries))
        return JournalTotals(entries).pnl(), dict(venue_changes(ledger, self.uids))


@contextlib.contextmanager
def ready_rig(scenario: str = "demo") -> Iterator[Rig]:
    """A READY instance of a random name on ``scenario``; nothing of it is left afterwards."""
    rig = Rig(f"t-{secrets.token_hex(4)}", scenario=scenario)
    try:
        rig.start()
        yield rig
    finally:
        rig.close()


#: Short windows: what is unknown is decided within two seconds.
SHORT_WINDOWS: dict[str, Any] = {
    "execution": {"entry_window_ms": 800, "unknown_grace_ms": 1200},
    "risk_limits": {"max_orders_per_s": 100},
}


@contextlib.contextmanager
def running(**config: Any) -> Iterator[Rig]:
    """A READY instance of short windows, sections of its configuration replaced by ``config``."""
    rig = Rig(f"g-{secrets.token_hex(4)}", **{**SHORT_WINDOWS, **config})
    try:
        rig.start()
        yield rig
    finally:
        rig.close()


def takeover(rig: Rig) -> dict[str, Any]:
    """What the guard says about its takeover; {} while it does not answer."""
    with contextlib.suppress(ControlError):
        return ask(rig.engine.state_dir / "guard.sock", {"op": "takeover"})
    return {}


def taken_over(rig: Rig) -> dict[str, Any]:
    """Waits for a takeover that has ended; how."""
    until(lambda: takeover(rig).get("flat") is not None, "a takeover that ended")
    return takeover(rig)


def holds_a_hedge(rig: Rig) -> None:
    """Waits for an open hedge."""
    until(lambda: int(rig.reading()["orders"].get("open_hedges", 0)) > 0, "an open hedge")


def half_done(rig: Rig, venue: str) -> bool:
    """Waits for an operation with one leg filled and the other on its way to ``venue``; False where none comes."""
    watch = HalfDone(rig.engine.state_dir / "journal")
    watch.poll()
    give_up = time.monotonic() + 30
    try:
        rig.fault(kind="delay_request", venue=venue, target="place", count=1, delay_ms=IN_FLIGHT_MS)
        while time.monotonic() < give_up:
            watch.poll()
            if watch.find() is not None:
                return True
        return False
    finally:
        watch.close()


def exposure(rig: Rig) -> dict[str, Decimal]:
    """Net exposure per asset by the venues' ledger."""
    return deltas(rig.ledger(), rig.uids, "USDT")


def is_judged(rig: Rig) -> None:
    """Every invariant after an orderly end, and the money to the last digit."""
    rig.end()
    assert rig.judge() == []
    ours, theirs = rig.money()
    assert {k: v for k, v in ours.items() if v} == {k: v for k, v in theirs.items() if v}


def segments_of(instance: str) -> list[str]:
    """The shared-memory segments of an instance."""
    return sorted(path.name for path in Path("/dev/shm").glob(f"arb.{instance}.*"))


def arb(*arguments: str, timeout: float = 240, **kwargs: object) -> subprocess.CompletedProcess[str]:
    """The command line as a process of its own; its output as text."""
    return subprocess.run(
        [sys.executable, "-m", "workers", *arguments],
        capture_output=True,
        text=True,
        timeout=timeout,
        check=False,
        **kwargs,  # type: ignore[call-overload]
    )


def _children_of(pid: int) -> list[int]:
    with open(f"/proc/{pid}/task/{pid}/children", encoding="ascii") as handle:
        return [int(word) for word in handle.read().split()]
