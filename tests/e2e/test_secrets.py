"""A running instance whose venues answer with every kind of error: its secrets stay in their key files."""

from __future__ import annotations

import os
import signal
from pathlib import Path

import pytest

from tests.worlds.instance_rig import Rig, arb, segments_of
from tests.worlds.waiting import until
from workers.demo.simulator import keys_of
from workers.view.status import read_status

pytestmark = pytest.mark.e2e

VENUES = ("mexc_spot", "gateio_spot", "gateio_futures")
REASONS = ("insufficient_balance", "price_band", "not_permitted")


def texts_of(rig: Rig) -> dict[str, bytes]:
    """Everything that an instance leaves or shows: files but its keys, segments, arguments, environments, outputs."""
    found = {str(path): path.read_bytes() for path in rig.engine.state_dir.rglob("*") if path.is_file()}
    found = {path: raw for path, raw in found.items() if f"{rig.engine.state_dir}/keys/" not in path}
    found |= {name: (Path("/dev/shm") / name).read_bytes() for name in segments_of(rig.instance)}
    pids = [rig.engine.pid, *(row["pid"] for row in read_status(rig.instance)["processes"].values())]
    for pid in pids:
        for part in ("cmdline", "environ"):
            found[f"/proc/{pid}/{part}"] = Path(f"/proc/{pid}/{part}").read_bytes()
    for command in ("status", "balance", "positions", "breakers"):
        done = arb(command, "--instance", rig.instance, "--json")
        found[f"arb {command}"] = (done.stdout + done.stderr).encode()
    return found


def test_no_secret_leaves_its_key_file(running: Rig) -> None:
    secrets = [key.api_secret for key in keys_of(running.sim["venues"]).values()]
    for venue, reason in zip(VENUES, REASONS, strict=True):
        running.fault(kind="reject", venue=venue, target="place", reason=reason, count=3)
        running.fault(kind="gateway_page", venue=venue, target="balances", count=1)
        running.fault(kind="drop_response", venue=venue, target="place", count=1)
        running.fault(kind="disconnect", venue=venue, target="private")
    until(lambda: len(running.entries()) > 20, "records of the faults")
    before = running.engine.process_pid("poller")
    os.kill(before, signal.SIGABRT)
    until(lambda: running.engine.process_pid("poller") not in (0, before) and running.engine.all_ready(), "a poller")
    found = texts_of(running)
    assert any("executor" in name for name in found) and any(name.startswith("/proc/") for name in found)
    assert [name for name, raw in found.items() if any(secret.encode() in raw for secret in secrets)] == []
    kept = b"".join(path.read_bytes() for path in (running.engine.state_dir / "keys").iterdir())
    assert all(secret.encode() in kept for secret in secrets), "the search looks for what is there"
