"""``alerts.json`` in the state folder: the alerts, the messages that are not delivered yet, and how far logs are read.

The monitor is its writer; ``arb alerts --ack`` writes it only where no monitor runs. No URL stands in it.
"""

from __future__ import annotations

from pathlib import Path

import msgspec

from workers.monitor.alert_list import Alert, Message
from workers.state_folder import replace_file

FILE_NAME = "alerts.json"
BROKEN_NAME = "alerts.broken.json"


class LogPosition(msgspec.Struct, frozen=True):
    """Where the reader of one log ring goes on: which ring, and its next slot."""

    inode: int
    cursor: int


class TargetState(msgspec.Struct, kw_only=True):
    """How the delivery to one target stands. ``last_error`` has no word of its URL."""

    waiting: list[Message] = []
    sent: int = 0
    failed_attempts: int = 0
    dropped: int = 0  # beyond ``queue_max``
    refused: int = 0  # the target would not take them: nothing is gained by another attempt
    last_error: str = ""
    last_sent_wall_ns: int = 0


class AlertState(msgspec.Struct, kw_only=True):
    """Content of the file. ``boot_id``: the boot of the host that ``log_positions`` belong to."""

    wall_ns: int = 0
    url: str = ""  # where metrics and health are served
    next_id: int = 1
    dropped: int = 0
    alerts: list[Alert] = []
    targets: dict[str, TargetState] = {}
    boot_id: str = ""
    log_positions: dict[str, LogPosition] = {}


def read_alerts(state_dir: Path) -> AlertState | None:
    """What was last written; None where there is no file that can be read."""
    try:
        return msgspec.json.decode((state_dir / FILE_NAME).read_bytes(), type=AlertState)
    except (OSError, msgspec.MsgspecError, UnicodeDecodeError):
        return None


def set_aside_broken(state_dir: Path) -> bool:
    """Move a file that is there but cannot be read out of the way. Raises OSError."""
    path = state_dir / FILE_NAME
    if not path.exists():
        return False
    path.replace(state_dir / BROKEN_NAME)
    return True


def write_alerts(state_dir: Path, state: AlertState) -> None:
    """Replace the file. Raises OSError."""
    replace_file(state_dir / FILE_NAME, msgspec.json.encode(state), shared=True)
