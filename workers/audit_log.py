"""``audit.jsonl``: who asked an instance for what, when, why, and what came of it. One JSON object a line.

Every process that carries out a command appends its own line (one ``write`` to a file opened for appending). The
file is begun anew at ``BYTES_MAX``; the one before is kept as ``audit.1.jsonl``.
"""

from __future__ import annotations

import contextlib
import datetime
import os
import pwd
import time
from pathlib import Path
from typing import Any

import msgspec

FILE_NAME = "audit.jsonl"
OLD_NAME = "audit.1.jsonl"
BYTES_MAX = 4 * 1024 * 1024


def who(uid: object) -> str:
    """``uid N (name)``, as far as the host knows the name."""
    if not isinstance(uid, int):
        return "unknown"
    with contextlib.suppress(KeyError, OverflowError):
        return f"uid {uid} ({pwd.getpwuid(uid).pw_name})"
    return f"uid {uid}"


def audit(state_dir: Path, *, op: str, by: str, reason: str, **fields: Any) -> None:
    """Append one line. Best effort: a disk that takes nothing more must not stop a command that reduces risk."""
    now_ns = time.time_ns()
    at = datetime.datetime.fromtimestamp(now_ns // 1_000_000_000, datetime.UTC)
    row = {"wall_ns": now_ns, "at": f"{at:%Y-%m-%dT%H:%M:%SZ}", "op": op, "by": by, "reason": reason, **fields}
    path = state_dir / FILE_NAME
    with contextlib.suppress(OSError):
        if path.exists() and path.stat().st_size > BYTES_MAX:
            path.replace(state_dir / OLD_NAME)
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, msgspec.json.encode(row, enc_hook=str) + b"\n")
        finally:
            os.close(descriptor)
