"""Whole instances in tests: state in a folder of the test's own, random names, nothing left behind."""

from __future__ import annotations

import contextlib
import secrets
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from workers.control_plane.launch import Launched
from workers.credentials import store_credentials
from workers.demo.demo import keys_of
from workers.demo.simulator import SimulatorProcess


@pytest.fixture(autouse=True)
def own_state(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """``ARB_STATE_DIR`` in the test's folder; no ``ARB_*`` of the caller's shell reaches the engine."""
    for name in ("ARB_MODE", "ARB_ENGINE_NAME", "ARB_CONFIG", "ARB_CRASH_AT"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ARB_STATE_DIR", str(tmp_path / "state"))
    return tmp_path / "state"


class Running:
    """Simulated venues and an engine on them."""

    def __init__(self, scenario: str, instance: str) -> None:
        self.engine = Launched(instance)
        self.simulator = SimulatorProcess(
            seed=1, scenario=scenario, log=self.engine.state_dir / "log" / "simulator.log"
        )
        self.sim = self.simulator.wait_ready()
        self.config: dict[str, Any] = {**self.sim.pop("engine_config"), "engine_name": instance}

    @property
    def instance(self) -> str:
        return self.engine.instance

    def start(self) -> None:
        for exchange, key in keys_of(self.sim["venues"]).items():
            store_credentials(self.instance, exchange, key)
        self.engine.configure(self.config)
        self.engine.wait_ready()

    def close(self) -> None:
        with contextlib.suppress(OSError):
            self.engine.stop()
        self.simulator.stop()
        self.engine.clean()


@pytest.fixture
def running() -> Iterator[Running]:
    """A READY instance on the demo's venues."""
    started = Running("demo", f"t-{secrets.token_hex(4)}")
    try:
        started.start()
        yield started
    finally:
        started.close()


def segments_of(instance: str) -> list[str]:
    """What the shared-memory file system holds of an instance."""
    return sorted(path.name for path in Path("/dev/shm").glob(f"arb.{instance}.*"))
