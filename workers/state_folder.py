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


def open_to_group(folder: Path, group: bool) -> None:
    """Let the folder's group look into an instance's state folder, or nobody but its user. Raises OSError."""
    mode = 0o750 if group else 0o700
    if folder.stat().st_mode & 0o777 != mode:
        folder.chmod(mode)


def share(descriptor: int, folder: Path) -> None:
    """Who may look into the state folder by its group (``monitoring.group``) may read this file of it. A file system
    that refuses leaves it closed."""
    with contextlib.suppress(OSError):
        if folder.stat().st_mode & 0o040:
            os.fchmod(descriptor, 0o640)


def replace_file(path: Path, raw: bytes, *, shared: bool = False) -> None:
    """Write ``path`` anew: a reader sees the old content or the new one, never a part. Not synced to the disk.

    ``shared``: for the readers of ``monitoring.group`` too; not for what may hold a secret. Raises OSError.
    """
    temporary = path.with_suffix(".tmp")
    try:
        with temporary.open("wb") as file:
            if shared:
                share(file.fileno(), path.parent)
            file.write(raw)
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
