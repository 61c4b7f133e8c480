"""Inside the container: simulated venues, the engine's units, one kill; what was seen goes into a file as JSON.

Started by tests/host/booted_container.py with systemd as process 1. What systemctl and ``arb status`` say is looked
at, nothing else.
"""

from __future__ import annotations

import json
import subprocess
import sys
import traceback
from pathlib import Path
from typing import Any

import yaml

from tests.worlds.waiting import until
from workers.credentials import store_credentials
from workers.demo.simulator import SimulatorProcess, keys_of

UNITS = "/etc/systemd/system"
PROCESSES = ("supervisor", "guard", "recorder", "poller", "executor", "detector", "monitor")
WATCHER, STRANGER = "watcher", "stranger"  # a member of the monitoring group, and a user who is in none
PYTHON = "/opt/arb/.venv/bin/python"


def run(*command: str, check: bool = True) -> str:
    """Output of a command."""
    return subprocess.run(command, check=check, capture_output=True, text=True).stdout.strip()


def show(unit: str, name: str) -> str:
    """A property of a unit."""
    return run("systemctl", "show", "--value", "-p", name, unit)


def asked(user: str, *command: str) -> subprocess.CompletedProcess[str]:
    """A command of ``arb`` about the instance, by a user of the container."""
    environment = ["env", "HOME=/tmp", "ARB_STATE_DIR=/var/lib/arb"]
    environment += ["ARB_CACHE_DIR=/var/cache/arb"] if user == "arb" else [f"ARB_CACHE_DIR=/tmp/cache-{user}"]
    arb = ["runuser", "-u", user, "--", *environment, PYTHON, "-m", "workers"]
    return subprocess.run([*arb, *command, "--instance", "main", "--json"], capture_output=True, text=True)


def status(user: str = "arb") -> dict[str, Any]:
    """``arb status --json`` as a user; {} while it cannot say anything."""
    text = asked(user, "status").stdout.strip()
    found: dict[str, Any] = json.loads(text) if text.startswith("{") else {}
    return found


def other_users() -> dict[str, Any]:
    """What a member of the monitoring group reads and may not do, and what a stranger hears."""
    watched, halted = status(WATCHER), asked(WATCHER, "halt", "--reason", "not mine")
    return {
        "watcher": [watched.get("mode"), sorted(name for name, row in watched["processes"].items() if row["alive"])],
        "halt": [halted.returncode, status()["halted"]],
        "stranger": str(status(STRANGER).get("error")),
    }


def reload() -> str:
    """A changed limit, taken in by ``systemctl reload``: what the journal says of it."""
    path = Path("/etc/arb/main.yaml")
    config = yaml.safe_load(path.read_text())
    config["risk_limits"] = {**config.get("risk_limits", {}), "max_daily_loss_usd": 4321}
    path.write_text(yaml.safe_dump(config))
    run("systemctl", "reload", "arb-supervisor@main.service")
    said: list[str] = []

    def taken() -> bool:
        said[:] = run("journalctl", "--no-pager", "-o", "cat", "-u", "arb-supervisor@main.service").splitlines()
        return any("configuration reloaded" in line for line in said)

    until(taken, "the reload")
    return next(line for line in said if "configuration reloaded" in line)


def completed() -> int:
    """Operations that the running engine has completed."""
    return int(status().get("orders", {}).get("operations.completed", 0))


def wait_ready() -> None:
    """Waits until ``arb status`` says ready; while it does not, the driver's log has why not."""

    def ready() -> bool:
        found = status()
        print("status:", found.get("state"), [row["what"] for row in found.get("reasons", [])], flush=True)
        return found.get("state") == "ready"

    until(ready, "a ready instance after the kill")


def drive() -> dict[str, Any]:
    """Starts the target, waits for operations, kills the executor, waits again, stops: what was seen."""
    run("ldconfig")
    run("systemd-sysusers")
    run("useradd", "--no-create-home", "--groups", "arb", WATCHER)
    run("useradd", "--no-create-home", STRANGER)
    Path("/etc/arb").mkdir(exist_ok=True)
    simulator = SimulatorProcess(seed=1, scenario="demo", log=Path("/opt/simulator.log"))
    fields = simulator.wait_ready()
    config = {**fields.pop("engine_config"), "engine_name": "main", "monitoring": {"group": "arb"}}
    config["guard"] = {**config.get("guard", {}), "hung_after_ms": 10_000, "restart_within_ms": 60_000}  # a busy host
    Path("/etc/arb/main.yaml").write_text(yaml.safe_dump(config))
    for exchange, key in keys_of(fields["venues"]).items():
        store_credentials("main", exchange, key)
    Path("/var/cache/arb").mkdir(exist_ok=True)
    for folder in ("/var/lib/arb", "/var/cache/arb"):
        run("chown", "-R", "arb:arb", folder)
    run(PYTHON, "-m", "workers.control_plane.systemd_units", "--config", "/etc/arb/main.yaml", "--out", UNITS)
    run("systemctl", "daemon-reload")
    units = [f"arb-{process}@main.service" for process in PROCESSES]
    units += [f"arb-feed@main:{exchange}.service" for exchange in config["exchanges"]]
    run("systemctl", "start", "arb@main.target")
    until(lambda: all(show(unit, "ActiveState") == "active" for unit in units), "every unit active")
    seen: dict[str, Any] = {
        "units": units,
        "uids": sorted({run("stat", "-c", "%U", f"/proc/{show(u, 'MainPID')}") for u in units}),
    }
    until(lambda: completed() > 0, "an operation")
    seen["users"], seen["reload"] = other_users(), reload()
    before = show("arb-executor@main.service", "MainPID")
    run("systemctl", "kill", "-s", "KILL", "arb-executor@main.service")
    until(
        lambda: (
            show("arb-executor@main.service", "MainPID") not in ("0", before)
            and show("arb-executor@main.service", "ActiveState") == "active"
        ),
        "the executor's return",
    )
    seen["restarts"] = {unit: int(show(unit, "NRestarts")) for unit in units}
    again = completed()
    until(lambda: completed() > again, "an operation after the kill")
    wait_ready()
    run("systemctl", "stop", "arb@main.target")
    until(lambda: all(show(unit, "ActiveState") in ("inactive", "failed") for unit in units), "every unit stopped")
    seen["ends"] = {unit: show(unit, "Result") for unit in units}
    seen["segments"] = [path.name for path in Path("/dev/shm").glob("arb.main.*")]
    seen["one_unit"] = one_unit()
    simulator.stop()
    return seen


def one_unit() -> dict[str, Any]:
    """``arb@main.service`` stopped, its supervisor killed (the others have their time), and stopped before READY."""
    unit, state = "arb@main.service", Path("/var/lib/arb/main/executor.json")
    run("mkdir", "-p", f"{UNITS}/{unit}.d")
    Path(f"{UNITS}/{unit}.d/99-once.conf").write_text("[Service]\nRestart=no\n")  # what is left behind is looked at
    run("systemctl", "daemon-reload")
    ends: dict[str, Any] = {}
    for what, command in (("stopped", ("systemctl", "stop", unit)), ("killed", ("kill", "-KILL"))):
        run("systemctl", "start", unit)
        until(lambda: not json.loads(state.read_bytes())["stopped"] and completed() > 0, "an operation of the one unit")
        run(*command, *([show(unit, "MainPID")] if what == "killed" else []))
        until(lambda: show(unit, "ActiveState") in ("inactive", "failed"), "the end of the one unit")
        ends[what] = [show(unit, "Result"), json.loads(state.read_bytes())["stopped"]]
    log = state.parent / "log" / "recorder.log"
    log.unlink(missing_ok=True)
    log.mkdir()  # the recorder cannot start, so the unit never says READY
    run("systemctl", "start", "--no-block", unit)
    until(lambda: not json.loads(state.read_bytes())["stopped"], "the executor of a unit that is still starting")
    before = show(unit, "ActiveState")
    run("systemctl", "stop", unit)
    ends["starting"] = [before, show(unit, "Result"), json.loads(state.read_bytes())["stopped"]]
    return ends


def main() -> int:
    """Writes the result to the file named by the argument; 1 when something did not come true."""
    out = Path(sys.argv[1])
    try:
        out.write_text(json.dumps(drive()))
    except BaseException:  # noqa: BLE001  (the outermost frame: the container's end is the only way out)
        traceback.print_exc()
        print(run("systemctl", "--no-pager", "list-units", "arb*", "--all", check=False))
        print(run("journalctl", "--no-pager", "-n", "80", check=False))
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
