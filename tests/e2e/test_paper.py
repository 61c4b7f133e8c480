"""Paper mode as a user starts it: ``arb sim`` for the public endpoints, ``arb up --mode paper``, no key anywhere."""

from __future__ import annotations

import contextlib
import os
import secrets
import signal
import subprocess
import sys
import time
from decimal import Decimal
from pathlib import Path
from typing import Any
from urllib import request

import msgspec
import pytest
import yaml

from pipeline.execution.journal import read_journal
from tests.worlds.instance_rig import PATIENT, segments_of
from tests.worlds.waiting import until
from workers.control_plane.instances import run_file
from workers.control_plane.launch import READY_TIMEOUT_S
from workers.control_socket import ControlError, ask
from workers.demo.replay_live import paper_changes
from workers.demo.run_checker import check_flat, check_money
from workers.demo.summary import JournalTotals
from workers.view.status import read_status

pytestmark = pytest.mark.e2e

WANTED = 5  # operations that have ended


def start(*arguments: str, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as errors:
        return subprocess.Popen([sys.executable, "-m", "workers", *arguments], stdout=subprocess.PIPE, stderr=errors)


def stop(process: subprocess.Popen[bytes]) -> int:
    process.terminate()
    try:
        process.communicate(timeout=240)
    finally:
        process.kill()
        process.wait()
    return process.returncode


def public_only(engine_config: dict[str, Any], instance: str) -> dict[str, Any]:
    """The configuration without private endpoints: what somebody without an account writes."""
    markets = [m for exchange in engine_config["exchanges"].values() for m in exchange["markets"].values()]
    for market in markets:
        market.pop("ws_private", None)
        market.pop("ws_api", None)
    patient = {**engine_config.get("guard", {}), **PATIENT}
    return {**engine_config, "engine_name": instance, "mode": "live", "guard": patient}  # --mode overrides it


def ready_venues(sim: subprocess.Popen[bytes], instance: str, folder: Path) -> tuple[dict[str, Any], Path]:
    """What the simulated venues print when they are ready, and a configuration for ``instance`` on them."""
    assert sim.stdout is not None
    ready: dict[str, Any] = msgspec.json.decode(sim.stdout.readline())
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(public_only(ready["engine_config"], instance)))
    return ready, path


def until_ready(engine: subprocess.Popen[bytes], instance: str) -> None:
    """The first start of a build compiles its kernels: the watchdog is that of a launch, not of a test."""
    deadline = time.monotonic() + READY_TIMEOUT_S
    while (found := run_file(instance)).get("pid") != engine.pid or found.get("state") != "ready":
        assert engine.poll() is None, "the engine ended before it was READY"
        if found.get("warming"):
            deadline = time.monotonic() + READY_TIMEOUT_S
        assert time.monotonic() < deadline, "never READY"
        time.sleep(0.05)


def drained(state: Path) -> bool:
    """Whether the drain was taken; it may be asked for twice."""
    with contextlib.suppress(ControlError):
        return bool(ask(state / "supervisor.sock", {"op": "drain"}, timeout_s=60)["draining"])
    return False


def ended(instance: str) -> int:
    orders = read_status(instance)["orders"]
    return sum(orders.get(f"operations.{outcome}", 0) for outcome in ("completed", "recovered"))


def test_paper_trades_on_public_feeds_reconciles_and_stops(own_state: Path, tmp_path: Path) -> None:
    instance = f"t-{secrets.token_hex(4)}"
    state = own_state / instance
    sim = start("sim", "--seed", "3", "--json", log=tmp_path / "sim.log")
    engine = None
    try:
        ready, path = ready_venues(sim, instance, tmp_path)
        engine = start("up", "--config", str(path), "--mode", "paper", log=tmp_path / "up.log")
        until_ready(engine, instance)

        def ready_and_traded() -> bool:
            reading = read_status(instance)
            assert reading["mode"] == "paper"
            return reading["state"] == "ready" and ended(instance) >= WANTED

        until(ready_and_traded, f"{WANTED} operations")
        until(lambda: drained(state), "the drain")
        until(lambda: not read_status(instance)["orders"]["open_operations"], "open operations ended")
        assert stop(engine) == 0
        with request.urlopen(f"{ready['control']}/ledger", timeout=240) as reply:
            rows = msgspec.json.decode(reply.read())["rows"]
        entries = list(read_journal(state / "journal"))
        books = JournalTotals(entries)
        changes, positions, fills = paper_changes(state / "paper", list(ready["venues"]))
        assert check_money(books.pnl(), changes) == [], "engine and paper accounts, to the last decimal"
        assert len(fills) == books.fills > 0
        assert books.counts().unresolved == 0
        delta = {asset: amount for asset, amount in changes.items() if asset != "USDT"}
        for name, qty in positions.items():
            base = name.partition(" ")[2].partition("_")[0]
            delta[base] = delta.get(base, Decimal(0)) + qty
        assert check_flat(delta, books.dust) == []
        kinds = {row["kind"] for row in rows}
        assert not kinds & {"order", "fill", "fee"}, f"a paper engine sent something private: {kinds}"
        assert segments_of(instance) == []
        assert list((state / "keys").iterdir()) == []
    finally:
        for process in (engine, sim):
            if process is not None and process.poll() is None:
                stop(process)
    assert sim.returncode == 0


@pytest.mark.slice
def test_a_paper_account_outlives_its_engine(own_state: Path, tmp_path: Path) -> None:
    """Killed with everything and started again: the account goes on, and nothing is sent twice."""
    instance = f"t-{secrets.token_hex(4)}"
    state = own_state / instance
    sim = start("sim", "--seed", "4", log=tmp_path / "sim.log")
    engine = None
    try:
        ready, path = ready_venues(sim, instance, tmp_path)
        engine = start("up", "--config", str(path), "--mode", "paper", log=tmp_path / "up.log")
        until_ready(engine, instance)
        until(lambda: ended(instance) > 0, "an operation")
        os.kill(engine.pid, signal.SIGKILL)
        engine.communicate(timeout=240)
        until(lambda: not any(row["alive"] for row in read_status(instance)["processes"].values()), "all gone")
        assert {row["state"] for row in read_status(instance)["processes"].values()} <= {"dead", "stopped"}
        engine = start("up", "--config", str(path), "--mode", "paper", log=tmp_path / "up.log")
        until(
            lambda: read_status(instance)["state"] == "ready" and ended(instance) > 0, "an operation of the second run"
        )
        until(lambda: drained(state), "the drain")
        until(lambda: not read_status(instance)["orders"]["open_operations"], "open operations ended")
        assert stop(engine) == 0
        books = JournalTotals(list(read_journal(state / "journal")))
        changes, _, fills = paper_changes(state / "paper", list(ready["venues"]))
        assert check_money(books.pnl(), changes) == []
        assert len({(fill.venue, fill.trade_id) for fill in fills}) == len(fills) == books.fills
    finally:
        for process in (engine, sim):
            if process is not None and process.poll() is None:
                stop(process)
