"""Which instance a command means, and what the supervisor has written into its state folder."""

from __future__ import annotations

import fcntl
import os
from pathlib import Path
from typing import Any

import msgspec

from pipeline.model.config import VenueConfig
from pipeline.model.config_load import ENGINE_NAME_RE
from pipeline.model.errors import BadInput
from workers.last_run.start_hint import start_hint
from workers.state_folder import LAST_DEMO, instance_dir, replace_file, state_root


def is_running(instance: str) -> bool:
    """Whether a supervisor holds the instance's lock, or may: one that this user may not open says nothing."""
    try:
        descriptor = os.open(instance_dir(instance) / "lock", os.O_RDONLY | os.O_CLOEXEC)
    except PermissionError:
        return True
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_SH | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    finally:
        os.close(descriptor)
    return False


def known_instances() -> list[str]:
    """Instances that have a state folder, by name."""
    root = state_root()
    return sorted(path.name for path in root.iterdir() if os.path.exists(path / "lock")) if root.is_dir() else []


def instance_of(path: Path) -> str:
    """The instance in whose state folder ``path`` lies; "" for none."""
    root, found = state_root().resolve(), path.resolve()
    return found.relative_to(root).parts[0] if root in found.parents else ""


def resolve(instance: str) -> str:
    """The named instance; else ``ARB_ENGINE_NAME``; else the only running one; else the only known one, the last demo
    only where there is nothing else.

    Raises BadInput for a name that no instance can have, and where none or several could be meant.
    """
    name = instance or os.environ.get("ARB_ENGINE_NAME", "")
    if name:
        if not ENGINE_NAME_RE.fullmatch(name):
            raise BadInput(
                f"--instance: found {name!r}, wanted lower-case letters, digits, '-', '_', at most 32; see `arb status`"
            )
        return name
    every = known_instances()
    known = [name for name in every if not (instance_dir(name) / LAST_DEMO).exists()] or every
    running = [name for name in known if is_running(name)]
    if len(running) > 1:
        raise BadInput(f"found several running instances, wanted one: {', '.join(running)}; name it with --instance")
    if running:
        return running[0]
    if len(known) > 1:
        newest = max(known, key=_last_written)
        listed = ", ".join(f"{name} (newest)" if name == newest else name for name in known)
        raise BadInput(
            f"no instance runs, several have run: {listed}; name one with --instance, e.g. --instance {newest}"
        )
    if not known:
        raise BadInput(f"no instance in {state_root()}; start one with `arb up` (or try `arb demo`)")
    return known[0]


def _last_written(instance: str) -> int:
    """When a supervisor last wrote of the instance (ns of the file system's clock); 0 where none did."""
    try:
        return (instance_dir(instance) / "run.json").stat().st_mtime_ns
    except OSError:
        return 0


def existing(instance: str) -> str:
    """As :func:`resolve`, and the instance must have a state folder."""
    name = resolve(instance)
    if not instance_dir(name).is_dir():
        known = ", ".join(known_instances()) or "none"
        raise BadInput(f"no instance {name!r} in {state_root()} (known: {known}); start one with `arb up`")
    return name


def run_file(instance: str) -> dict[str, Any]:
    """``run.json`` as the supervisor last wrote it; {} when there is none that can be read."""
    path = instance_dir(instance) / "run.json"
    try:
        return msgspec.json.decode(path.read_bytes(), type=dict[str, Any])
    except (OSError, msgspec.DecodeError):
        return {}


def write_run_file(state_dir: Path, described: dict[str, Any]) -> None:
    """Replace ``run.json`` whole: a reader sees the old or the new one. Raises OSError."""
    raw = msgspec.json.format(msgspec.json.encode(described), indent=1)
    replace_file(state_dir / "run.json", raw, shared=True)


def venue_row(venue: VenueConfig, *, reachable: bool) -> dict[str, Any]:
    """A venue as ``run.json`` shows it; ``reachable``: its instruments could be read."""
    return {"rest": venue.rest, "ws": venue.ws, "reachable": reachable, "trade": venue.trade}


def described(instance: str) -> dict[str, Any]:
    """As :func:`run_file`, but {} while a new supervisor has not yet replaced the file of an earlier run; as it stands
    where this user may not see whose that is."""
    found = run_file(instance)
    try:
        holder = int((instance_dir(instance) / "lock").read_text(encoding="ascii"))
    except PermissionError:
        return found
    except (OSError, ValueError):
        holder = 0
    return {} if is_running(instance) and holder != found.get("pid") else found


def start_command(instance: str) -> str:
    """The command that starts the instance (again)."""
    return start_hint({"instance": instance, **described(instance)})


def stopped_by_systemd(instance: str) -> str:
    """Why the stop of an instance of one unit a process is refused, and the command that stops it."""
    return (
        f"nothing was stopped: every process of {instance} is a unit of systemd, which alone ends them all: "
        f"`systemctl stop arb@{instance}.target` as root; where hedges are to leave before, `arb flatten` first"
    )


def ledger_path(instance: str) -> Path:
    """The recorder's SQLite ledger of an instance; it may not exist yet."""
    return instance_dir(instance) / "ledger.sqlite"
