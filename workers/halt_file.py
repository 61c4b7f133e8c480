"""``halt.json``: the halt latch as it stands on the disk, so that a halt outlives every process.

The guard is its writer. Commands and the supervisor write it only where no guard answers; the guard reads it at its
start.
"""

from __future__ import annotations

import os
import time
from pathlib import Path

import msgspec

FILE_NAME = "halt.json"
NO_REASON = 'found no reason, wanted one to be kept with the latch; add --reason "why"'


class HaltState(msgspec.Struct, frozen=True, kw_only=True):
    """Content of ``halt.json``: latched or not, why, by whom (``uid N``, ``disk``, ``guard``), when (wall clock)."""

    halted: bool
    reason: str
    by: str
    wall_ns: int


def read_halt(state_dir: Path) -> HaltState:
    """The latch on the disk; open where there is no file. A file that cannot be decoded counts as a halt."""
    try:
        raw = (state_dir / FILE_NAME).read_bytes()
    except FileNotFoundError:
        return HaltState(halted=False, reason="", by="", wall_ns=0)
    try:
        return msgspec.json.decode(raw, type=HaltState)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return HaltState(halted=True, reason="halt.json cannot be read", by="guard", wall_ns=time.time_ns())


def write_halt(state_dir: Path, state: HaltState) -> None:
    """Replace ``halt.json``; returns only when the disk has it. Raises OSError."""
    path = state_dir / FILE_NAME
    temporary = path.with_suffix(".tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        os.write(descriptor, msgspec.json.encode(state))
        os.fdatasync(descriptor)
    finally:
        os.close(descriptor)
    temporary.replace(path)
    folder = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def latch_on_disk(state_dir: Path, reason: str) -> None:
    """Halt an instance whose guard does not answer: in force from its next start. Raises OSError."""
    write_halt(state_dir, HaltState(halted=True, reason=reason, by="disk", wall_ns=time.time_ns()))
