"""Where an instance keeps what outlives its processes, and how a file there is replaced."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

LAST_DEMO = "last_demo"  # a file in the folder of a demo that is kept until the next one; a start on it ends that
LOG_BYTES_MAX = 4 * 1024 * 1024  # what a process wrote to stderr is begun anew beyond this; logs/ has it in order


def state_root() -> Path:
    """Folder of all instances: ``ARB_STATE_DIR``, else ``~/.local/state/arb``."""
    base = os.environ.get("ARB_STATE_DIR")
    return Path(base) if base else Path.home() / ".local" / "state" / "arb"


def instance_dir(instance: str, *, create: bool = False) -> Path:
    """State folder of one instance; created 0700 with its subfolders when asked. Raises OSError then."""
    path = state_root() / instance
    if create:
        state_root().mkdir(parents=True, exist_ok=True)
        for folder in (path, path / "journal", path / "bells", path / "keys", path / "log"):
            folder.mkdir(mode=0o700, exist_ok=True)
    return path


def replace_file(path: Path, raw: bytes) -> None:
    """Write ``path`` anew: a reader sees the old content or the new one, never a part. Not synced to the disk.

    Raises OSError.
    """
    temporary = path.with_suffix(".tmp")
    try:
        temporary.write_bytes(raw)
        temporary.replace(path)
    except OSError:
        with contextlib.suppress(OSError):  # a part of it must not keep what little room there is
            temporary.unlink()
        raise


def trim_logs(folder: Path, bytes_max: int) -> None:
    """Empty every ``*.log`` of ``folder`` beyond ``bytes_max``; its writer appends, and so goes on at the beginning.

    Raises OSError (no descriptor for the folder).
    """
    for log in folder.glob("*.log"):
        if log.stat().st_size > bytes_max:
            os.truncate(log, 0)
