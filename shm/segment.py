"""Segments of shared memory with exactly one proved owner, and read-only maps of them.

A segment is a POSIX shared-memory object ``/arb.<instance>.<what>``, mode 0640, created with ``O_EXCL`` and
``posix_fallocate`` (a full file system is an error here, not a SIGBUS later). Its owner holds an exclusive open-file-
description lock on it for as long as it lives; the kernel drops the lock at death, however it came, so that *holding
the lock is the proof* that nobody else owns the segment. The lock needs write permission: a reader (0640) asks for it
(``F_OFD_GETLK``) and never takes it. Forked children drop the inherited descriptors: no dead parent's ownership stays.

Only who holds the lock of an object unlinks it, and only while the name leads to it: so the cleaner is unique.

Take-over: a new owner keeps a dead owner's segment of the same layout, build, kind and size (readers stay attached):
ready = 0, epoch + 1, its own pid, and ``ready`` = 1 again after ``set_ready()``. Anything else of ours that is dead is
unlinked and made anew, with the old epoch + 1 where the old header could be read.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import mmap
import os
import stat
import struct
import time
import weakref
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path

import posix_ipc

from shm.atomics import load_acquire, load_relaxed, store_relaxed, store_release
from shm.errors import SegmentBusy, SegmentMismatch, SegmentMissing, ShmError, ShmFull
from shm.layout import HEADER, LAYOUT_VERSION, MAGIC, WORD_BYTES
from shm.schema import schema_hash
from shm.sources import build_hash
from shm.words import MAP_FIXED, MAP_NORESERVE, Mapping, Words, map_pages, pages_bytes

SHM_FOLDER = Path("/dev/shm")
PREFIX = "arb"
MODE = 0o640
CREATE_ATTEMPTS = 400  # a lost attempt means that a cleaner or another starter won a race just now
_CLEANER_WAIT_S = 0.001
_OWNER = 1  # lengths of the lock: bytes 0..1 for an owner, 0..2 for a cleaner, so that who looks can tell them apart
_CLEANER = 2
_NAME_MAX = 200

_owned: weakref.WeakSet[Segment] = weakref.WeakSet()
_trusted_uids: set[int] = set()


def _drop_locks_in_child() -> None:
    for segment in list(_owned):
        segment.close()


os.register_at_fork(after_in_child=_drop_locks_in_child)


def segment_name(instance: str, what: str) -> str:
    """``/arb.<instance>.<what>``; raises ShmError on characters that a name cannot carry."""
    name = f"/{PREFIX}.{instance}.{what}"
    plain = all(c.isalnum() or c in "._-" for c in name[1:])
    if not instance or "." in instance or not what or not plain or len(name) > _NAME_MAX:
        raise ShmError(f"segment name of letters, digits, '-', '_' wanted: instance={instance!r} what={what!r}")
    return name


def instance_hash(instance: str) -> int:
    """The instance's name as a signed 64-bit word of the header."""
    digest = hashlib.blake2b(instance.encode(), digest_size=8).digest()
    return int.from_bytes(digest, "little", signed=True)


_WORD = 2**64 - 1
_OF_BUILD = frozenset({"layout version", "schema hash", "build hash"})
# Taken when this module is loaded: it names the code that runs, not what lies on the disk when a segment is made.
_BUILD_HASH = build_hash()


def trust_owner_uids(uids: Iterable[int]) -> None:
    """Also attach to segments of these users (a deployment that runs its processes as several users)."""
    _trusted_uids.update(uids)


def process_start_ticks(pid: int) -> int:
    """Start time of a process in clock ticks since boot (/proc/<pid>/stat field 22); 0 when there is none."""
    try:
        raw = Path(f"/proc/{pid}/stat").read_bytes()
    except OSError:
        return 0
    return int(raw[raw.rindex(b")") + 2 :].split()[19])


def _flock_record(kind: int, length: int) -> bytes:
    # struct flock { short l_type; short l_whence; off_t l_start; off_t l_len; pid_t l_pid; } on 64-bit Linux
    return struct.pack("hhqqi4x", kind, os.SEEK_SET, 0, length, 0)


def _lock(fd: int, length: int) -> bool:
    """Takes the ownership (``_OWNER``) or the right to clean (``_CLEANER``); they exclude each other."""
    try:
        fcntl.fcntl(fd, fcntl.F_OFD_SETLK, _flock_record(fcntl.F_WRLCK, length))
    except (BlockingIOError, PermissionError):  # EAGAIN, EACCES: held by another open file description
        return False
    return True


def _owner_lives(fd: int) -> bool:
    """Whether an owner holds the lock; a cleaner, who holds it for an instant, is known by its length."""
    reply = fcntl.fcntl(fd, fcntl.F_OFD_GETLK, _flock_record(fcntl.F_WRLCK, _OWNER))
    kind, _, _, length, _ = struct.unpack("hhqqi4x", reply)
    return bool(kind != fcntl.F_UNLCK and length == _OWNER)


def _same_object(name: str, fd: int) -> bool:
    try:
        named = os.stat(SHM_FOLDER / name[1:], follow_symlinks=False)
    except FileNotFoundError:
        return False
    held = os.fstat(fd)
    return (named.st_dev, named.st_ino) == (held.st_dev, held.st_ino)


def _unlink(name: str) -> bool:
    try:
        posix_ipc.unlink_shared_memory(name)
    except posix_ipc.ExistentialError:
        return False
    return True


def _open(name: str, *, writable: bool) -> int:
    try:
        memory = posix_ipc.SharedMemory(name, flags=0, read_only=not writable)
    except posix_ipc.ExistentialError:
        raise SegmentMissing(f"no segment {name}: is its process running?") from None
    except (posix_ipc.PermissionsError, OSError) as error:
        raise SegmentMismatch(f"segment {name} is not ours to open: {error}") from None
    return int(memory.fd)


def _check_file(name: str, fd: int, uids: set[int]) -> int:
    """Refuses what another user made or loosened; returns the size in bytes. SegmentMissing = a newborn."""
    found = os.fstat(fd)
    mode = stat.S_IMODE(found.st_mode)
    if found.st_size == 0 and found.st_uid in uids:  # between O_EXCL and posix_fallocate; mode not set yet either
        raise SegmentMissing(f"segment {name} is not READY: its owner is creating it, or died while creating it")
    if not stat.S_ISREG(found.st_mode) or found.st_uid not in uids or mode != MODE:
        raise SegmentMismatch(
            f"segment {name} refused: uid {found.st_uid} (wanted {sorted(uids)}), mode {mode:o} (wanted {MODE:o})"
        )
    if found.st_size < HEADER.WORDS * WORD_BYTES or found.st_size % WORD_BYTES:
        raise SegmentMismatch(f"segment {name} refused: {found.st_size} bytes is no segment")
    return int(found.st_size)


def _check_header(name: str, words: Words, size_bytes: int, kind: int, instance: str, skip: Collection[str]) -> None:
    wanted = {
        "magic": (HEADER.magic, MAGIC),
        "layout version": (HEADER.layout_version, LAYOUT_VERSION),
        "schema hash": (HEADER.schema_hash, schema_hash()),
        "build hash": (HEADER.build_hash, _BUILD_HASH),
        "size in words": (HEADER.size_words, size_bytes // WORD_BYTES),
        "kind": (HEADER.kind, kind),
        "instance": (HEADER.instance, instance_hash(instance)),
    }
    for label, (offset, value) in wanted.items():
        found = int(load_relaxed(words, offset))
        if found != value and label not in skip:
            text = f"segment {name} refused: {label} is {found & _WORD:#x}, wanted {value & _WORD:#x}"
            raise SegmentMismatch(text + (_who_made(words) if label in _OF_BUILD else ""))


def _who_made(words: Words) -> str:
    """What to use on a segment of another build: the ``arb`` beside its owner's Python, while that lives."""
    arb, process = Path(), Path(f"/proc/{int(load_relaxed(words, HEADER.owner_pid))}")
    with contextlib.suppress(OSError):  # it is gone, or another user's
        command = os.fsdecode((process / "cmdline").read_bytes().split(b"\0")[0])
        arb = Path(os.path.join("" if command[:1] == "/" else (process / "cwd").readlink(), command)).with_name("arb")
    return f"; another installation made it: use the arb that started it{f' ({arb})' if arb.is_file() else ''}"


def _map_fd(fd: int, size_bytes: int, writable: bool) -> Words:
    # A map keeps its open file description, and with it an owner lock, alive: also in forked children, which inherit
    # the map. So what is mapped is a second description of the same object.
    mapped = os.open(f"/proc/self/fd/{fd}", (os.O_RDWR if writable else os.O_RDONLY) | os.O_CLOEXEC)
    try:
        address = map_pages(None, size_bytes, writable, mmap.MAP_SHARED | mmap.MAP_POPULATE, mapped)
    finally:
        os.close(mapped)
    return Mapping(address, size_bytes).array()


class Segment:
    """One mapped segment. ``words`` is the whole of it, header included.

    Keep ``words`` for as long as it is used: the map lives as long as any array on it, also after :meth:`close`.
    """

    def __init__(self, name: str, words: Words, *, lock_fd: int, inode: int, taken_over: bool) -> None:
        self.name = name
        self.words = words
        self.inode = inode
        self.taken_over = taken_over
        self._lock_fd = lock_fd

    @classmethod
    def create(cls, name: str, *, size_words: int, kind: int, instance: str, epoch_takeover: bool = True) -> Segment:
        """Creates or takes over ``name``, owned by this process until it ends or closes it; not READY yet.

        ``size_words`` counts the header. ``taken_over`` says whether the body is a dead owner's (else it is zeros).
        Raises SegmentBusy (a live owner), SegmentMismatch (another user's object under our name), ShmFull.
        """
        if size_words < HEADER.WORDS:
            raise ShmError(f"segment smaller than its header: {name} size_words={size_words}")
        size_bytes = size_words * WORD_BYTES
        for _ in range(CREATE_ATTEMPTS):
            epoch = 1
            try:
                memory = posix_ipc.SharedMemory(name, flags=posix_ipc.O_CREX, mode=MODE, size=0)
            except posix_ipc.ExistentialError:
                found = cls._take_over(name, size_bytes, kind, instance, epoch_takeover)
                if isinstance(found, Segment):
                    return found
                if found is None:
                    continue
                # the mismatching predecessor is gone; its successor is created here, with the next epoch
                epoch = found
                try:
                    memory = posix_ipc.SharedMemory(name, flags=posix_ipc.O_CREX, mode=MODE, size=0)
                except posix_ipc.ExistentialError:
                    continue
            made = cls._initialise(name, int(memory.fd), size_bytes, kind, instance, epoch)
            if made is not None:
                return made
        raise SegmentBusy(f"segment {name}: lost {CREATE_ATTEMPTS} races for it; is the process started twice?")

    @classmethod
    def _initialise(cls, name: str, fd: int, size_bytes: int, kind: int, instance: str, epoch: int) -> Segment | None:
        # Between O_EXCL and the lock a cleaner may take the newborn for an orphan: then the name leads elsewhere.
        if not _lock(fd, _OWNER) or not _same_object(name, fd):
            os.close(fd)
            return None
        try:
            os.fchmod(fd, MODE)  # whatever the umask
            os.posix_fallocate(fd, 0, size_bytes)
        except OSError as error:
            _unlink(name)
            os.close(fd)
            raise ShmFull(
                f"no room for {name}: {size_bytes} bytes wanted in {SHM_FOLDER} ({error.strerror}); "
                f"`df -h {SHM_FOLDER}` shows what it holds (a start removes what an instance of its name left there); "
                f"`mount -o remount,size=1G {SHM_FOLDER}` enlarges it"
            ) from error
        words = _map_fd(fd, size_bytes, writable=True)
        segment = cls(name, words, lock_fd=fd, inode=os.fstat(fd).st_ino, taken_over=False)
        segment._write_header(kind, instance, epoch)
        _owned.add(segment)
        return segment

    @classmethod
    def _take_over(cls, name: str, size_bytes: int, kind: int, instance: str, keep: bool) -> Segment | int | None:
        """The dead owner's segment; or the epoch for its successor after unlinking it; None = look again."""
        try:
            fd = _open(name, writable=True)
        except SegmentMissing:
            return None
        if os.fstat(fd).st_uid != os.geteuid():
            owner = os.fstat(fd).st_uid
            os.close(fd)
            raise SegmentMismatch(f"segment {name} belongs to uid {owner}, not to us ({os.geteuid()}): refused")
        if not _lock(fd, _OWNER):
            busy = _owner_lives(fd)
            os.close(fd)
            if busy:
                raise SegmentBusy(f"segment {name} has a live owner: is the process already running?")
            time.sleep(_CLEANER_WAIT_S)
            return None
        if not _same_object(name, fd):
            os.close(fd)
            return None
        epoch = 1
        try:
            found_bytes = _check_file(name, fd, {os.geteuid()})
            words = _map_fd(fd, found_bytes, writable=True)
            if int(words[HEADER.magic]) == MAGIC:
                epoch = max(0, int(words[HEADER.epoch])) + 1
                store_release(words, HEADER.ready, 0)  # readers of an abandoned object see that it is dead
            if keep and found_bytes == size_bytes:
                _check_header(name, words, found_bytes, kind, instance, ())
                segment = cls(name, words, lock_fd=fd, inode=os.fstat(fd).st_ino, taken_over=True)
                segment._write_header(kind, instance, epoch)
                _owned.add(segment)
                return segment
        except (SegmentMismatch, SegmentMissing):
            pass  # a dead predecessor of another layout, build or size, or one that never came to be: replaced below
        _unlink(name)
        os.close(fd)
        return epoch

    def _write_header(self, kind: int, instance: str, epoch: int) -> None:
        fields = {
            HEADER.layout_version: LAYOUT_VERSION,
            HEADER.schema_hash: schema_hash(),
            HEADER.build_hash: _BUILD_HASH,
            HEADER.owner_pid: os.getpid(),
            HEADER.owner_start: process_start_ticks(os.getpid()),
            HEADER.size_words: len(self.words),
            HEADER.kind: kind,
            HEADER.instance: instance_hash(instance),
            HEADER.created_wall_ns: time.time_ns(),
            HEADER.magic: MAGIC,
        }
        store_release(self.words, HEADER.ready, 0)
        for offset, value in fields.items():
            store_relaxed(self.words, offset, value)
        store_release(self.words, HEADER.epoch, epoch)

    @classmethod
    def attach(
        cls,
        name: str,
        *,
        kind: int,
        instance: str,
        writable: bool = False,
        owner_uids: Iterable[int] | None = None,
        unchecked: Collection[str] = (),
    ) -> Segment:
        """Maps a READY segment after verifying owner uid, mode, size, magic, layout, schema, build, kind, instance, but
        for what is ``unchecked`` ("build hash").

        ``owner_uids`` default: our own uid and those of :func:`trust_owner_uids`. ``writable`` is for tests and tools:
        a segment has one writing process. Raises SegmentMissing (also while not READY) or SegmentMismatch.
        """
        uids = {os.geteuid()} | _trusted_uids if owner_uids is None else set(owner_uids)
        fd = _open(name, writable=writable)
        try:
            size_bytes = _check_file(name, fd, uids)
            words = _map_fd(fd, size_bytes, writable)
            # SYNC segment.ready: acquire; pairs with the release in set_ready
            if load_acquire(words, HEADER.ready) != 1:
                raise SegmentMissing(f"segment {name} is not READY: its owner is starting, or died while starting")
            _check_header(name, words, size_bytes, kind, instance, unchecked)
            return cls(name, words, lock_fd=-1, inode=os.fstat(fd).st_ino, taken_over=False)
        finally:
            os.close(fd)

    @property
    def epoch(self) -> int:
        """Grows by one with every new owner."""
        return int(load_acquire(self.words, HEADER.epoch))

    @property
    def ready(self) -> bool:
        """False while its owner makes it, or died making it."""
        return bool(load_acquire(self.words, HEADER.ready) == 1)

    @property
    def owner_pid(self) -> int:
        """Process that owns it or owned it last."""
        return int(load_relaxed(self.words, HEADER.owner_pid))

    @property
    def owner_start(self) -> int:
        """Its start, clock ticks since boot."""
        return int(load_relaxed(self.words, HEADER.owner_start))

    def is_current(self) -> bool:
        """Whether the name still leads to this object (false after a successor of another build replaced it)."""
        try:
            return os.stat(SHM_FOLDER / self.name[1:]).st_ino == self.inode
        except FileNotFoundError:
            return False

    def set_ready(self) -> None:
        """The body is valid."""
        store_release(self.words, HEADER.ready, 1)  # SYNC segment.ready: release; pairs with the acquire in attach

    def close(self) -> None:
        """Gives up the ownership; the object stays for readers and successors. ``words`` stays mapped while used."""
        if self._lock_fd >= 0:
            _owned.discard(self)
            os.close(self._lock_fd)
            self._lock_fd = -1

    def unlink(self) -> None:
        """Removes the name, if this process owns the object that the name leads to. Readers keep their maps."""
        if self._lock_fd < 0:
            raise ShmError(f"only the owner unlinks a segment: {self.name}")
        if _same_object(self.name, self._lock_fd):
            _unlink(self.name)


def owner_lives(name: str) -> bool:
    """Whether a live process holds the owner lock of ``name``; raises SegmentMissing, SegmentMismatch."""
    fd = _open(name, writable=False)
    try:
        return _owner_lives(fd)
    finally:
        os.close(fd)


def list_segments(instance: str) -> list[str]:
    """Names of the instance's segments, sorted."""
    prefix = segment_name(instance, "x")[1:-1]
    return sorted("/" + entry for entry in os.listdir(SHM_FOLDER) if entry.startswith(prefix))


def cleanup_instance(instance: str, passed: Callable[[str], bool] = lambda name: True) -> list[str]:
    """The janitor: unlinks the instance's segments that have ``passed`` (by name) and whose owners, of our user, are
    provably dead; returns their names. Any number may run at once: each segment is removed by exactly one."""
    removed = []
    for name in filter(passed, list_segments(instance)):
        try:
            fd = _open(name, writable=True)
        except (SegmentMissing, SegmentMismatch):
            continue
        try:
            ours = os.fstat(fd).st_uid == os.geteuid()
            if ours and _lock(fd, _CLEANER) and _same_object(name, fd) and _unlink(name):
                removed.append(name)
        finally:
            os.close(fd)
    return removed


class Arena:
    """Many segments, read-only, in one contiguous reservation, so that one array spans them all.

    Slot ``i`` starts at ``offset_of(i)`` words. A slot whose segment does not exist yet reads as zeros (capacity 0,
    epoch 0, not READY) until :meth:`refresh` finds it. Arrays and offsets never move.
    """

    def __init__(self, names: Sequence[str], kind: int, instance: str, capacity_words: int) -> None:
        self._names = list(names)
        self._paths = [f"{SHM_FOLDER}/{name[1:]}" for name in self._names]  # looked at at every beat
        self._kind, self._instance = kind, instance
        self._slot_bytes = pages_bytes(max(capacity_words, HEADER.WORDS))
        size_bytes = max(1, len(self._names)) * self._slot_bytes
        flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
        self._mapping = Mapping(map_pages(None, size_bytes, False, flags, -1), size_bytes)
        self.words = self._mapping.array()
        self._inodes = [0] * len(self._names)
        self.refresh()

    def offset_of(self, i: int) -> int:
        """First word of slot ``i``."""
        if not 0 <= i < len(self._names):
            raise ShmError(f"arena slot out of range: {i} of {len(self._names)}")
        return i * self._slot_bytes // WORD_BYTES

    def is_mapped(self, i: int) -> bool:
        """Whether slot ``i`` shows a segment (else zeros)."""
        return self._inodes[i] != 0

    def refresh(self) -> list[int]:
        """Maps segments that appeared or were replaced since; returns their slots. Cheap enough for every beat.

        A segment that is not what its name promises raises SegmentMismatch; one that is missing or not READY stays
        as it is.
        """
        changed: list[int] = []
        for i, name in enumerate(self._names):
            try:
                inode = os.stat(self._paths[i], follow_symlinks=False).st_ino
            except FileNotFoundError:
                continue
            if inode != self._inodes[i] and self._map(i, name):
                changed.append(i)
        return changed

    def _map(self, i: int, name: str) -> bool:
        try:
            segment = Segment.attach(name, kind=self._kind, instance=self._instance)
            fd = _open(name, writable=False)
        except SegmentMissing:  # also one that went in between: its instance stops
            return False
        size_bytes = segment.words.nbytes
        try:
            if pages_bytes(len(segment.words)) > self._slot_bytes:
                raise SegmentMismatch(f"segment {name} has {size_bytes} bytes, arena slots {self._slot_bytes}")
            if os.fstat(fd).st_ino != segment.inode:  # replaced in between: the next refresh takes it
                return False
            address = self._mapping.address + i * self._slot_bytes
            map_pages(address, size_bytes, False, mmap.MAP_SHARED | mmap.MAP_POPULATE | MAP_FIXED, fd)
            tail = self._slot_bytes - pages_bytes(len(segment.words))
            if tail:  # a smaller successor: no page of its predecessor stays behind it
                flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE | MAP_FIXED
                map_pages(address + self._slot_bytes - tail, tail, False, flags, -1)
        finally:
            os.close(fd)
        self._inodes[i] = segment.inode
        return True


def attach_arena(names: list[str], kind: int, instance: str, capacity_words: int) -> Arena:
    """Maps ``names`` read-only into one reservation of ``len(names)`` slots of ``capacity_words`` words each."""
    return Arena(names, kind, instance, capacity_words)
