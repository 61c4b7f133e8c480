"""``detection.json``: detection was stopped by somebody (``stop_detection()``), so that no restart undoes that.

The supervisor writes it; supervisor and detector read it when they begin, whatever has started them. It stands over
``detection.enabled`` of the configuration until ``start_detection()``, a reload of the configuration, or an orderly
stop of the instance (under one unit a process only the supervisor itself is stopped, and that ends nothing). That
detection was started is not kept: where the configuration has it off, it is off again after a restart.
"""

from __future__ import annotations

import time
from pathlib import Path

import msgspec

from pipeline.model.config import EngineConfig
from workers.state_folder import replace_file

FILE_NAME = "detection.json"


class Stopped(msgspec.Struct, frozen=True, kw_only=True):
    """Who has stopped detection (the ``who`` of the audit log), why, and when (wall clock)."""

    by: str
    reason: str
    wall_ns: int


def keep_stopped(state_dir: Path, *, by: str, reason: str) -> None:
    """Keep that detection is stopped. Raises OSError."""
    stopped = Stopped(by=by, reason=reason, wall_ns=time.time_ns())
    replace_file(state_dir / FILE_NAME, msgspec.json.encode(stopped))


def forget_stopped(state_dir: Path) -> None:
    """Detection is as the configuration says again. Raises OSError."""
    (state_dir / FILE_NAME).unlink(missing_ok=True)


def as_switched(config: EngineConfig, state_dir: Path) -> EngineConfig:
    """``config``, with detection off where it was stopped. What stands in the file is for people: that it is there
    counts."""
    if not config.detection.enabled or not (state_dir / FILE_NAME).exists():
        return config
    return msgspec.structs.replace(config, detection=msgspec.structs.replace(config.detection, enabled=False))
