"""One process a unit, as systemd starts them, but as children of the test: no process depends on another's life."""

from __future__ import annotations

import contextlib
import secrets
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest
import yaml

from pipeline.execution.journal.guard_journal import whole_journal
from shm.segment import cleanup_instance
from tests.worlds.instance_rig import LIVELY, SHORT_WINDOWS, exposure, half_done, taken_over
from tests.worlds.waiting import until
from workers.control_plane.instances import run_file
from workers.control_socket import SUPERVISOR_SOCKET, ControlError, ask
from workers.credentials import store_credentials
from workers.demo.simulator import SimulatorProcess, keys_of
from workers.demo.summary import JournalTotals, plain_ledger
from workers.last_run.half_done import replayed
from workers.state_folder import instance_dir

pytestmark = [pytest.mark.e2e, pytest.mark.slice]

FEEDS = ("mexc", "gateio")
OTHERS = ("guard", "recorder", "poller", "executor", "detector")


class Units:
    """An instance of units on simulated venues; what :mod:`tests.worlds.instance_rig` asks of a rig."""

    def __init__(self) -> None:
        self.instance = f"u-{secrets.token_hex(4)}"
        self.engine = SimpleNamespace(state_dir=instance_dir(self.instance, create=True))
        self.path = self.engine.state_dir / "config.yaml"
        self.running: dict[str, subprocess.Popen[bytes]] = {}
        (self.engine.state_dir / "log").mkdir(exist_ok=True)
        self.simulator = SimulatorProcess(seed=1, scenario=LIVELY, log=self.engine.state_dir / "log" / "simulator.log")
        sim = self.simulator.wait_ready()
        config: dict[str, Any] = {**sim.pop("engine_config"), "engine_name": self.instance}
        for section, values in {**SHORT_WINDOWS, "guard": {"restart_within_ms": 2000}}.items():
            config[section] = {**config.get(section, {}), **values}
        self.path.write_text(yaml.safe_dump(config))
        self.uids = frozenset(str(row["uid"]) for row in sim["venues"].values())
        for exchange, key in keys_of(sim["venues"]).items():
            store_credentials(self.instance, exchange, key)

    def begin(self, name: str, module: str, *more: str) -> None:
        arguments = [sys.executable, "-m", module, "--instance", self.instance, "--config", str(self.path), *more]
        log = self.engine.state_dir / "log" / f"{name}.log"
        with log.open("ab") as stream:
            self.running[name] = subprocess.Popen(arguments, stdin=subprocess.DEVNULL, stdout=stream, stderr=stream)

    def published(self) -> bool:
        """Whether the other units may start: the supervisor has rows."""
        with contextlib.suppress(ControlError):
            return bool(ask(self.engine.state_dir / SUPERVISOR_SOCKET, {"op": "symbols"})["instruments"])
        return False

    def start(self) -> None:
        self.begin("supervisor", "workers.control_plane", "--units")
        until(self.published, "the catalogue's rows")
        for exchange in FEEDS:
            self.begin(f"feed.{exchange}", "workers.feed", "--exchange", exchange)
        for process in OTHERS:
            self.begin(process, f"workers.{process}")
        until(lambda: run_file(self.instance).get("state") == "ready", "every unit READY")

    def fault(self, **rule: Any) -> None:
        self.simulator.control("/faults", msgspec.json.encode(rule))

    def ledger(self) -> list[dict[str, Any]]:
        return plain_ledger(self.simulator.control("/ledger")["rows"])

    def close(self) -> None:
        for process in reversed(self.running.values()):
            process.kill()
            process.wait()
        self.simulator.stop()
        cleanup_instance(self.instance)


@pytest.fixture
def units() -> Iterator[Any]:
    found = Units()
    try:
        found.start()
        yield found
    finally:
        found.close()


def test_every_kernel_is_there_before_a_unit_begins(units: Any) -> None:
    """A fork server loads the shared ones for its children; a unit has to do it for itself."""
    for name in units.running:
        said = (units.engine.state_dir / "log" / f"{name}.log").read_text(errors="replace")
        assert "came after the start" not in said, name


def test_what_an_executor_leaves_that_dies_with_the_supervisor_is_closed_by_the_guard_alone(units: Any) -> None:
    """Neither comes back: systemd has given both up."""
    half_done(units, "gateio_futures")
    for name in ("executor", "supervisor"):
        units.running[name].kill()
        units.running[name].wait()
    ended = taken_over(units)
    assert ended["flat"] and not ended["left"]
    ledger = replayed(units.engine.state_dir)
    assert ledger is not None and not (ledger.open_operations or ledger.unsettled or ledger.hedges)
    assert exposure(units) == JournalTotals(list(whole_journal(units.engine.state_dir))).targets("USDT")
