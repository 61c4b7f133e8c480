"""Log ring of one process: fixed 64-byte events from jitted code, texts from Python; readers are lossy and counted.

The writer never waits: it overwrites the oldest records. A reader that was lapped goes on at the oldest record that is
still whole and counts what it lost. Records outlive the process.
"""

from __future__ import annotations

import struct
import time
from dataclasses import dataclass

import numpy as np

from shm.atomics import (
    X86,
    fence_acquire,
    fence_release,
    load_acquire,
    load_relaxed,
    mono_ns,
    store_relaxed,
    store_release,
    wrap_add,
    wrap_sub,
)
from shm.errors import ShmError
from shm.jit import njit
from shm.layout import LOG, LOG_CAPACITY_DEFAULT, LOG_SLOT, LOG_TEXT_CODE
from shm.segment import Segment, segment_name
from shm.words import Words

_WHAT = "log."
_FIRST_TEXT_WORDS = 5
_NEXT_TEXT_WORDS = 6
TEXT_BYTES_MAX = 1024  # longer texts are cut
_LEVEL_SHIFT = 24
_LENGTH_SHIFT = 32
EVENT_CODE_MAX = 2**24 - 1
_INT64_MAX = 2**63 - 1
_TAIL = LOG.tail  # a table's field costs Python 25 ns more than a name, twice a record
_SLOTS_BYTES = LOG.slots * 8
_SLOT_SHIFT = 6  # 2^6 bytes in a slot
assert LOG_SLOT.WORDS * 8 == 1 << _SLOT_SHIFT
_pack_slot = struct.Struct("@8q").pack_into
LOST = -1


@njit
def _slot(words: Words, off: int, index: int) -> int:
    capacity = load_relaxed(words, off + LOG.capacity)
    return off + LOG.slots + (index & (capacity - 1)) * LOG_SLOT.WORDS


@njit
def log_event(words: Words, off: int, now_mono_ns: int, code: int, a: int, b: int, c: int, d: int, e: int) -> None:
    """Writes one event to the LOG at word ``off``: ``code`` from 1 to ``EVENT_CODE_MAX`` with five numbers, stamped
    ``now_mono_ns``."""
    tail = load_relaxed(words, off + LOG.tail)
    slot = _slot(words, off, tail)
    fence_release()  # SYNC log.tail: the tail stands at this record before its slot changes; pairs with read_slot
    store_relaxed(words, slot + 1, now_mono_ns)
    store_relaxed(words, slot + 2, code)
    store_relaxed(words, slot + 3, a)
    store_relaxed(words, slot + 4, b)
    store_relaxed(words, slot + 5, c)
    store_relaxed(words, slot + 6, d)
    store_relaxed(words, slot + 7, e)
    store_release(words, slot, wrap_add(tail, 1))  # SYNC log.seq: release; pairs with the acquire in read_slot
    store_release(words, off + LOG.tail, wrap_add(tail, 1))


@njit
def log_text(words: Words, off: int, now_mono_ns: int, level: int, length: int, text: Words) -> None:
    """Writes ``length`` bytes of UTF-8 (in ``text``, zero padded words) over as many slots as they take."""
    tail = load_relaxed(words, off + LOG.tail)
    slots = text_slots(length)
    for k in range(slots):
        slot = _slot(words, off, wrap_add(tail, k))
        fence_release()  # SYNC log.tail
        if k == 0:
            store_relaxed(words, slot + 1, now_mono_ns)
            store_relaxed(words, slot + 2, LOG_TEXT_CODE | (level << _LEVEL_SHIFT) | (length << _LENGTH_SHIFT))
            for j in range(_FIRST_TEXT_WORDS):
                store_relaxed(words, slot + 3 + j, text[j] if j < len(text) else 0)
        else:
            first = _FIRST_TEXT_WORDS + (k - 1) * _NEXT_TEXT_WORDS
            store_relaxed(words, slot + 1, -k)  # no stamp is negative: this is where a text goes on
            for j in range(_NEXT_TEXT_WORDS):
                store_relaxed(words, slot + 2 + j, text[first + j] if first + j < len(text) else 0)
        store_release(words, slot, wrap_add(tail, k + 1))  # SYNC log.seq
        store_release(words, off + LOG.tail, wrap_add(tail, k + 1))


@njit
def text_slots(length: int) -> int:
    """Slots that a text of ``length`` bytes takes."""
    words = (length + 7) // 8
    if words <= _FIRST_TEXT_WORDS:
        return 1
    return 1 + (words - _FIRST_TEXT_WORDS + _NEXT_TEXT_WORDS - 1) // _NEXT_TEXT_WORDS


@njit
def read_slot(words: Words, off: int, index: int, out: Words) -> int:
    """Slot number ``index`` into ``out`` (int64[8]): 1 got, 0 not there yet, -1 overwritten."""
    capacity = load_relaxed(words, off + LOG.capacity)
    ahead = wrap_sub(load_acquire(words, off + LOG.tail), index)  # SYNC log.tail: acquire
    if ahead <= 0:
        return 0
    slot = _slot(words, off, index)
    if ahead >= capacity or load_acquire(words, slot) != wrap_add(index, 1):  # SYNC log.seq: acquire
        return LOST
    for k in range(LOG_SLOT.WORDS):
        out[k] = load_relaxed(words, slot + k)
    fence_acquire()
    if wrap_sub(load_relaxed(words, off + LOG.tail), index) >= capacity:
        return LOST
    return 1


@dataclass(frozen=True, slots=True)
class LogRecord:
    """``code`` 0: ``text`` with ``level``; else an event with five ``args``. Lost slots before it are in the reader."""

    mono_ns: int
    code: int
    level: int
    args: tuple[int, ...]
    text: str


class LogRing:
    """The writing end; one per process."""

    def __init__(self, segment: Segment) -> None:
        self.segment = segment
        self.words = segment.words
        self._mask = int(segment.words[LOG.capacity]) - 1
        self._bytes = memoryview(segment.words).cast("B")  # type: ignore[arg-type]
        self._items = memoryview(segment.words)  # type: ignore[arg-type]
        self._jitted = not X86

    @classmethod
    def create(cls, instance: str, process: str, *, capacity: int = LOG_CAPACITY_DEFAULT) -> LogRing:
        """Creates or takes over ``log.<process>``; ``capacity`` in slots, a power of two."""
        if capacity < 256 or capacity & (capacity - 1):
            raise ShmError(f"capacity must be a power of two, at least 256: capacity={capacity}")
        size = LOG.slots + capacity * LOG_SLOT.WORDS
        segment = Segment.create(
            segment_name(instance, _WHAT + process), size_words=size, kind=LOG.KIND, instance=instance
        )
        store_release(segment.words, LOG.capacity, capacity)
        segment.set_ready()
        return cls(segment)

    def event(self, code: int, a: int = 0, b: int = 0, c: int = 0, d: int = 0, e: int = 0) -> None:
        """See :func:`log_event`; stamped now."""
        if not code or code >> _LEVEL_SHIFT:
            raise ShmError(f"an event's code is 1 to {EVENT_CODE_MAX}: code={code}")
        items = self._items
        tail = items[_TAIL]
        if self._jitted or tail == _INT64_MAX:
            log_event(self.words, 0, mono_ns(), code, a, b, c, d, e)
            return
        # Two thirds of the price of a call into jitted code with nine arguments. What orders the stores is the
        # interpreter (it emits them as written) and x86 (stores become visible in order); native "q" stores whole
        # words.
        at = _SLOTS_BYTES + ((tail & self._mask) << _SLOT_SHIFT)
        _pack_slot(self._bytes, at, tail + 1, time.monotonic_ns(), code, a, b, c, d, e)
        items[_TAIL] = tail + 1  # SYNC log.tail: this store publishes the record

    def text(self, level: int, text: str) -> None:
        """A line for people; ``level`` 0 to 255; cut to ``TEXT_BYTES_MAX`` bytes."""
        raw = text.encode()[:TEXT_BYTES_MAX]
        padded = raw.ljust(-(-len(raw) // 8) * 8, b"\0")
        words = np.frombuffer(padded, dtype="<i8").astype(np.int64) if padded else np.zeros(1, np.int64)
        log_text(self.words, 0, mono_ns(), level & 0xFF, len(raw), words)

    def close(self) -> None:
        """Gives up the ownership; what was written stays for readers and for the next life of the process."""
        self.segment.close()


class LogReader:
    """A lossy reader; ``lost`` counts the slots that were overwritten before it came."""

    def __init__(self, segment: Segment, cursor: int) -> None:
        self.segment = segment
        self.words = segment.words
        self.cursor = cursor
        self.lost = 0

    @classmethod
    def attach(cls, instance: str, process: str) -> LogReader:
        """Begins at the oldest record that is still there; raises SegmentMissing, SegmentMismatch."""
        segment = Segment.attach(segment_name(instance, _WHAT + process), kind=LOG.KIND, instance=instance)
        reader = cls(segment, 0)
        tail = int(load_acquire(segment.words, LOG.tail))
        capacity = int(load_relaxed(segment.words, LOG.capacity))
        if int(wrap_sub(tail, 0)) >= capacity or tail < 0:
            reader.cursor = int(wrap_sub(tail, capacity - 1))
        return reader

    def read(self) -> LogRecord | None:
        """The next whole record, or None when there is none yet."""
        slot = np.zeros(LOG_SLOT.WORDS, np.int64)
        while True:
            found = int(read_slot(self.words, 0, self.cursor, slot))
            if found == 0:
                return None
            if found == LOST:
                self._skip()
            elif int(slot[1]) < 0:  # inside of a text whose beginning is lost
                self._drop(1)
            elif int(slot[2]) & EVENT_CODE_MAX != LOG_TEXT_CODE:
                self.cursor = int(wrap_add(self.cursor, 1))
                args = tuple(int(v) for v in slot[3:8])
                return LogRecord(int(slot[1]), int(slot[2]), 0, args, "")
            else:
                raw = self._text(slot)
                if raw is None:
                    return None
                if raw:
                    level, length = (int(slot[2]) >> _LEVEL_SHIFT) & 0xFF, int(slot[2]) >> _LENGTH_SHIFT
                    return LogRecord(int(slot[1]), LOG_TEXT_CODE, level, (), raw[:length].decode(errors="replace"))

    def _text(self, slot: Words) -> bytes | None:
        """The text's padded bytes; None = its rest is not written yet; empty = it is lost."""
        slots = int(text_slots(int(slot[2]) >> _LENGTH_SHIFT))
        raw = slot[3:8].astype("<i8").tobytes()
        part = np.zeros(LOG_SLOT.WORDS, np.int64)
        for k in range(1, slots):
            found = int(read_slot(self.words, 0, int(wrap_add(self.cursor, k)), part))
            if found == 0:
                return None
            if found == LOST:
                self._skip()
                return b""
            if int(part[1]) != -k:  # its writer died in it, and the next one began anew
                self._drop(k)
                return b""
            raw += part[2:8].astype("<i8").tobytes()
        self.cursor = int(wrap_add(self.cursor, slots))
        return raw

    def _drop(self, slots: int) -> None:
        self.lost += slots
        self.cursor = int(wrap_add(self.cursor, slots))

    def _skip(self) -> None:
        capacity = int(load_relaxed(self.words, LOG.capacity))
        oldest = int(wrap_sub(load_acquire(self.words, LOG.tail), capacity // 2))
        self._drop(max(1, int(wrap_sub(oldest, self.cursor))))

    def close(self) -> None:
        """For symmetry with the writer: a reader owns nothing, and its map goes with its last array."""
        self.segment.close()
