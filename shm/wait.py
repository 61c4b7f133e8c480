"""How a consumer waits: spin, yield or park; and the bell that wakes a parked one.

The bell is a FIFO per consumer (event loops can poll it; its time-outs are monotonic). The sleeping flag lies in the
consumer's own segment; producers read it. Fence protocol, SYNC bell.sleeping:

    consumer                                producer
    sleeping = 1                            publish the item
    fence seq_cst                           fence seq_cst
    look once more; something? go on        sleeping == 1? write one byte to the FIFO
    poll the FIFO

Without both fences either side could read the other's old word, and the wake-up would be lost. A lost wake-up would
still end at the time-out: nobody parks without one.
"""

from __future__ import annotations

import os
import select
import stat
from pathlib import Path

from shm.atomics import (
    fence_seq_cst,
    load_relaxed,
    store_relaxed,
    store_release,
    write_byte,
)
from shm.errors import ShmError
from shm.jit import njit
from shm.layout import CURSOR
from shm.segment import Arena, attach_arena, segment_name
from shm.words import Words

SPIN, YIELD, PARK, AUTO = "spin", "yield", "park", "auto"
PARK_TIMEOUT_MAX_MS = 500  # the period of beats while parked
_DRAIN_BYTES = 65536  # a whole pipe at once
_FIFO_MODE = 0o660


def resolve_wait(strategy: str, *, cores: int, spinners: int) -> str:
    """``auto`` by cores: spin where every spinning process has a core and one is left; yield where each has one, none
    is left, and there are more than two; else park. Other strategies stay; raises ShmError on an unknown one.
    """
    if strategy in (SPIN, YIELD, PARK):
        return strategy
    if strategy != AUTO:
        raise ShmError(f"wait must be spin, yield, park or auto: wait={strategy!r}")
    if cores > spinners:
        return SPIN
    return YIELD if cores == spinners and cores > 2 else PARK


@njit
def prepare_park(words: Words, off: int) -> None:
    """Consumer: announces that it is about to sleep; look once more after this."""
    store_relaxed(words, off, 1)
    fence_seq_cst()  # SYNC bell.sleeping: pairs with the fence in ring_if_sleeping


@njit
def cancel_park(words: Words, off: int) -> None:
    """Consumer: awake (again)."""
    store_release(words, off, 0)


@njit
def ring_if_sleeping(words: Words, off: int, fd: int) -> bool:
    """Producer, after publishing: rings where the consumer's CURSOR.sleeping, word ``off``, is 1; whether it rang.
    ``fd`` < 0: no bell yet, False. Also from jitted loops."""
    fence_seq_cst()  # SYNC bell.sleeping: pairs with the fence in prepare_park
    if load_relaxed(words, off) != 1 or fd < 0:
        return False
    write_byte(fd, words, off)  # a full pipe means that it has been rung already
    return True


class Bell:
    """The consumer's end. ``words[offset]`` is its sleeping flag, in a segment that it owns."""

    def __init__(self, path: Path, fd: int, words: Words, offset: int) -> None:
        self.path = path
        self._fd = fd
        self.words = words
        self.offset = offset
        self._poll = select.poll()
        self._poll.register(fd, select.POLLIN)

    @classmethod
    def create(cls, path: Path | str, words: Words, offset: int = CURSOR.sleeping) -> Bell:
        """Makes the FIFO (or takes the one that is there) and clears the flag at word ``offset`` of the consumer's
        CURSOR segment; raises ShmError for a file that is no FIFO of ours."""
        path = Path(path)
        path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        try:
            os.mkfifo(path, _FIFO_MODE)
            os.chmod(path, _FIFO_MODE)
        except FileExistsError:
            pass
        # O_RDWR: the FIFO never reports "no writer", and producers may come and go
        fd = os.open(path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
        found = os.fstat(fd)
        if not stat.S_ISFIFO(found.st_mode) or found.st_uid != os.geteuid():
            os.close(fd)
            raise ShmError(f"bell refused, not a FIFO of ours: {path}")
        cancel_park(words, offset)
        bell = cls(path, fd, words, offset)
        bell.drain()
        return bell

    def fileno(self) -> int:
        """For event loops: readable = rung; call :meth:`drain` then."""
        return self._fd

    def prepare_park(self) -> None:
        """See :func:`prepare_park`; then look once more, then :meth:`park` or :meth:`cancel_park`."""
        prepare_park(self.words, self.offset)

    def cancel_park(self) -> None:
        """Awake after all: the last look before :meth:`park` found something."""
        cancel_park(self.words, self.offset)

    def park(self, timeout_ms: int) -> bool:
        """Sleeps until rung or ``timeout_ms`` (bounded to 500); whether it was rung. The flag is clear afterwards."""
        rung = bool(self._poll.poll(max(0, min(timeout_ms, PARK_TIMEOUT_MAX_MS))))
        cancel_park(self.words, self.offset)
        if rung:
            self.drain()
        return rung

    def drain(self) -> None:
        """Takes all rings that are in the pipe."""
        try:
            while len(os.read(self._fd, _DRAIN_BYTES)) == _DRAIN_BYTES:
                pass
        except BlockingIOError:
            pass

    def close(self) -> None:
        """Clears the flag, so that nobody rings any more; the FIFO stays for the next consumer."""
        cancel_park(self.words, self.offset)
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class BellRinger:
    """A producer's end: ``words[offset]`` is the consumer's flag, mapped read-only (zeros: it never sleeps)."""

    def __init__(self, path: Path, words: Words, offset: int) -> None:
        self.path = path
        self.words = words
        self.offset = offset
        self.fd = -1
        self._arena: Arena | None = None
        self.refresh()

    @classmethod
    def open(cls, path: Path | str, words: Words, offset: int = CURSOR.sleeping) -> BellRinger:
        """For a producer that has mapped the consumer's CURSOR segment; the FIFO may come later: :meth:`refresh` looks
        for it."""
        return cls(Path(path), words, offset)

    @classmethod
    def attach(cls, path: Path | str, instance: str, cursor: str) -> BellRinger:
        """For a producer without a queue to that consumer (a feed): maps its segment ``cursor`` as well."""
        arena = attach_arena([segment_name(instance, cursor)], CURSOR.KIND, instance, CURSOR.END)
        ringer = cls(Path(path), arena.words, CURSOR.sleeping)
        ringer._arena = arena
        return ringer

    def refresh(self) -> bool:
        """Looks for the FIFO (and the flag's segment) if they were not there before; whether the FIFO is open now."""
        if self._arena is not None:
            self._arena.refresh()
        if self.fd < 0:
            try:
                fd = os.open(self.path, os.O_RDWR | os.O_NONBLOCK | os.O_CLOEXEC | os.O_NOFOLLOW)
            except FileNotFoundError:
                return False
            if not stat.S_ISFIFO(os.fstat(fd).st_mode):
                os.close(fd)
                raise ShmError(f"bell refused, not a FIFO: {self.path}")
            self.fd = fd
        return True

    def ring_if_sleeping(self) -> bool:
        """See :func:`ring_if_sleeping`."""
        if self.fd < 0:
            self.refresh()
        return bool(ring_if_sleeping(self.words, self.offset, self.fd))

    def close(self) -> None:
        """Closes the FIFO; a :meth:`ring_if_sleeping` after it opens it again."""
        if self.fd >= 0:
            os.close(self.fd)
            self.fd = -1
