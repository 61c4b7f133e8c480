"""``halt.json``: everything that keeps new risk away by decision, so that a restarted guard forgets nothing.

The halt latch, the drain, venue blocks, and the breakers and held recoveries that the executor has passed on (its
journal is their source; here they outlive a lost journal). The guard is the file's writer; commands and the
supervisor write it only where no guard answers. The guard looks at the file before each lease: what stands in it is
obeyed, whoever wrote it.
"""

from __future__ import annotations

import errno
import os
import threading
import time
from collections.abc import Callable
from pathlib import Path

import msgspec

from workers.state_folder import share

FILE_NAME = "halt.json"
NO_REASON = 'found no reason, wanted one to be kept with the latch; add one, e.g. --reason "looking at odd fills"'
HANGS = "the executor hangs"  # how the reason of a takeover begins that is for one
BY_UNREADABLE = "the disk"  # who halted, where the file cannot be read for the moment
_WRITING = threading.Lock()  # threads of a process share the name of the temporary file
FOLLOWED_NS = 2_000_000_000  # the guard has shown on the page by then what was written
Stamp = tuple[int, int, int]  # inode, modification time in ns, size in bytes: which content the file has


class Block(msgspec.Struct, frozen=True, kw_only=True):
    """A decision against new risk: why, by whom (``uid N``), when (wall clock)."""

    reason: str
    by: str
    wall_ns: int


class Fence(Block, frozen=True, kw_only=True):
    """The guard has taken over from the executor. ``hedges``: ids of those that it closes, by command or as configured;
    None = all. ``planned``: in an orderly stop. A guard that is born while the fence stands goes on with it."""

    hedges: tuple[str, ...] | None = None
    planned: bool = False


class KeptBreaker(msgspec.Struct, frozen=True, kw_only=True):
    """A tripped breaker as the executor passed it on."""

    name: str
    reason: str
    since_wall_ns: int = 0


class HaltState(msgspec.Struct, frozen=True, kw_only=True):
    """Content of ``halt.json``: latched or not, why, by whom (``uid N (name)`` or a process), when (wall clock).

    ``drain``: every venue is blocked for new risk. ``venues``: blocked venues by name. ``holds``: recoveries that wait
    for an operator. ``fence``: the guard has taken over from the executor, and why; ends with the takeover alone.
    """

    halted: bool
    reason: str
    by: str
    wall_ns: int
    drain: Block | None = None
    venues: dict[str, Block] = {}
    breakers: tuple[KeptBreaker, ...] = ()
    holds: tuple[str, ...] = ()
    fence: Fence | None = None


OPEN = HaltState(halted=False, reason="", by="", wall_ns=0)


def stamp_of(state_dir: Path) -> Stamp | None:
    """Which content the file has now; None where there is none, or the disk does not say."""
    try:
        found = os.stat(state_dir / FILE_NAME)
    except OSError:
        return None
    return found.st_ino, found.st_mtime_ns, found.st_size


def just_written(state_dir: Path) -> bool:
    """Whether the file changed so lately that the guard, which looks before each lease, may not have followed yet."""
    stamp = stamp_of(state_dir)
    return stamp is not None and 0 <= time.time_ns() - stamp[1] < FOLLOWED_NS


def read_halt(state_dir: Path) -> HaltState:
    """What stands on the disk; open where there is no file. A file that cannot be read or decoded counts as a halt."""
    try:
        raw = (state_dir / FILE_NAME).read_bytes()
    except FileNotFoundError:
        return OPEN
    except OSError as error:
        reason = f"{FILE_NAME} cannot be read: {error.strerror}"
        return HaltState(halted=True, reason=reason, by=BY_UNREADABLE, wall_ns=time.time_ns())
    try:
        return msgspec.json.decode(raw, type=HaltState)
    except (msgspec.DecodeError, UnicodeDecodeError):
        return HaltState(halted=True, reason=f"{FILE_NAME} cannot be read", by="guard", wall_ns=time.time_ns())


class ChangedMeanwhile(OSError):
    """Somebody else has written ``halt.json`` since it was read."""


def write_halt(
    state_dir: Path, state: HaltState, *, known: Stamp | None = None, wanted: Callable[[], bool] = lambda: True
) -> None:
    """Replace ``halt.json``; returns only when the disk has it. Raises OSError.

    ``known``: what the writer has read; where the file is another one by now, ChangedMeanwhile is raised and nothing is
    written: a slow disk may keep one writer waiting while the other latches. ``wanted``: asked before the file is
    replaced whether it still is to be.
    """
    with _WRITING:
        _replace(state_dir, state, known, wanted)


def _replace(state_dir: Path, state: HaltState, known: Stamp | None, wanted: Callable[[], bool]) -> None:
    path = state_dir / FILE_NAME
    temporary = path.with_suffix(f".{os.getpid()}.tmp")
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    try:
        share(descriptor, state_dir)
        raw = msgspec.json.encode(state)
        if os.write(descriptor, raw) != len(raw):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))
        os.fdatasync(descriptor)
    except OSError:
        temporary.unlink(missing_ok=True)
        raise
    finally:
        os.close(descriptor)
    if known is not None and stamp_of(state_dir) != known:
        temporary.unlink()
        raise ChangedMeanwhile(errno.ESTALE, f"{FILE_NAME} was changed meanwhile")
    if not wanted():
        temporary.unlink()
        raise OSError(errno.ECANCELED, "nobody waits for it any more")
    temporary.replace(path)
    folder = os.open(state_dir, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read_to_change(state_dir: Path) -> HaltState:
    """What stands on the disk, where it can be read: what cannot must not be replaced. Raises OSError."""
    found = read_halt(state_dir)
    if found.by == BY_UNREADABLE:
        raise OSError(errno.EIO, found.reason)
    return found


def latch_on_disk(state_dir: Path, reason: str, *, by: str) -> None:
    """Halt an instance whose guard does not answer: in force as soon as a guard runs again. ``by``: who decided it (the
    ``who`` of the audit log, or a process). Raises OSError."""
    found = _read_to_change(state_dir)
    write_halt(state_dir, msgspec.structs.replace(found, halted=True, reason=reason, by=by, wall_ns=time.time_ns()))


def release_on_disk(state_dir: Path, reason: str, *, by: str, wanted: Callable[[], bool] = lambda: True) -> None:
    """End halt, drain and blocks of an instance that does not run. ``by``: as above; ``wanted``: as of
    :func:`write_halt`. Raises OSError; ChangedMeanwhile for a halt that came after what was read."""
    known = stamp_of(state_dir)
    found = _read_to_change(state_dir)
    write_halt(state_dir, released(found, reason=reason, by=by), known=known, wanted=wanted)


def released(state: HaltState, *, reason: str, by: str) -> HaltState:
    """``state`` without halt, drain and blocks; breakers and holds are the executor's, the fence is the guard's."""
    return msgspec.structs.replace(
        state, halted=False, reason=reason, by=by, wall_ns=time.time_ns(), drain=None, venues={}
    )


def stricter(state: HaltState, other: HaltState) -> HaltState:
    """``state`` with everything that ``other`` keeps away besides; breakers and holds are those of ``other``."""
    halt = other if other.halted and not state.halted else state
    return msgspec.structs.replace(
        other,
        halted=halt.halted,
        reason=halt.reason,
        by=halt.by,
        wall_ns=halt.wall_ns,
        drain=state.drain or other.drain,
        venues={**other.venues, **state.venues},
        fence=other.fence or state.fence,
    )


def if_hung(reason: str) -> str:
    """What to look at after a halt by the guard for this ``reason``, besides the command; "" where it was another."""
    if not reason.startswith(HANGS):
        return ""
    return "; a loaded host can be the cause: give the executor a CPU of its own, or raise guard.hung_after_ms"
