"""``fee_coins.json``: venues whose coin of fees was looked for in this run of the instance, over every restart of the
poller: what an operator switches later stands. A run is a life of the supervisor, under one unit a process as well."""

from __future__ import annotations

from pathlib import Path

import msgspec

from shm.liveness import LivenessView
from workers.state_folder import replace_file

FILE_NAME = "fee_coins.json"


class _Seen(msgspec.Struct, frozen=True):
    run: str
    venues: list[str]


def _run_of(instance: str) -> str:
    supervisor = LivenessView.attach(instance, "supervisor", missing_ok=True)
    return f"{supervisor.pid} {supervisor.start_ticks}" if supervisor.mapped else ""


def _read(state_dir: Path, run: str) -> list[str]:
    try:
        found = msgspec.json.decode((state_dir / FILE_NAME).read_bytes(), type=_Seen)
    except (OSError, msgspec.DecodeError):
        return []
    return found.venues if run and found.run == run else []


def fee_coin_seen(state_dir: Path, instance: str, venue: str) -> bool:
    """Whether the coin of a venue was looked for in this run; not where nobody can say which run it is."""
    return venue in _read(state_dir, _run_of(instance))


def note_fee_coin_seen(state_dir: Path, instance: str, venue: str) -> None:
    """The coin of a venue was looked for. Raises OSError."""
    run = _run_of(instance)
    replace_file(state_dir / FILE_NAME, msgspec.json.encode(_Seen(run, sorted({*_read(state_dir, run), venue}))))
