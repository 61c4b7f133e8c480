"""Where an instance keeps what outlives its processes, and how a file there is replaced."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

LAST_DEMO = "last_demo"  # a file in the folder of a demo that is kept until the next one; a start on it ends that
#: Files that readers of ``monitoring.group`` may see, where there are any: what `arb status` reads.
SHARED = ("lock", "run.json", "halt.json", "executor.json", "alerts.json")
BESIDE_BYTES = 8 * 1024 * 1024  # the guard's journal, SQLite ledger, logs and small files of a start
FILES_WANTED = 64
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


def room_problem(state_dir: Path, segment_bytes: int) -> str:
    """Why the disk of a state folder has no room for what a start writes; "" where it has. Raises OSError where it
    cannot be asked."""
    place = next(folder for folder in (state_dir, *state_dir.parents) if folder.exists())
    disk = os.statvfs(place)
    free, wanted = disk.f_bavail * disk.f_frsize, wanted_bytes(state_dir, segment_bytes)
    if free < wanted:
        kept = f"wanted {wanted / 1e6:.1f} MB for the journal and what is kept beside it"
        return f"no room in {place}: found {free / 1e6:.1f} MB free, {kept}"
    if disk.f_files and disk.f_favail < FILES_WANTED:
        return f"no room in {place}: found {disk.f_favail} free inodes, wanted {FILES_WANTED}"
    return ""


def wanted_bytes(state_dir: Path, segment_bytes: int) -> int:
    """What a start takes of the disk at least. 0 for a journal whose newest segment is whole, as a crash leaves it: an
    instance that crashed starts on a full disk as well, to end what is open."""
    segments = sorted((state_dir / "journal").glob("journal-*.seg"))
    if not segments:
        return segment_bytes + BESIDE_BYTES
    return 0 if segments[-1].stat().st_size >= segment_bytes else min(segment_bytes, BESIDE_BYTES)


def open_to_group(folder: Path, group: bool) -> None:
    """Let the group of this process look into an instance's state folder and at its status, or nobody but its user.
    What is there may be of a run under another group. Raises OSError."""
    if group:
        _hand_to_group(folder)
    mode = 0o750 if group else 0o700
    if folder.stat().st_mode & 0o777 != mode:
        folder.chmod(mode)
    for path in (folder / name for name in SHARED if group):
        with contextlib.suppress(OSError):  # not there yet, or closed by its file system
            _hand_to_group(path)
            path.chmod(0o640)


def _hand_to_group(path: int | Path) -> None:
    if os.stat(path).st_gid != os.getegid():
        os.chown(path, -1, os.getegid())


def share(descriptor: int, folder: Path) -> None:
    """Who may look into the state folder by its group (``monitoring.group``) may read this file of it. A file system
    that refuses leaves it closed."""
    with contextlib.suppress(OSError):
        if folder.stat().st_mode & 0o040:
            _hand_to_group(descriptor)
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
