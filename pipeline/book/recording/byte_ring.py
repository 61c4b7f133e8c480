"""Messages of bytes from one process to one other: what is recorded, never what is traded on.

The writer never waits: a message that finds no room is dropped and counted, and before the next one that fits stands a
message of kind ``DROPPED`` that says how many were. The reader's cursor lies in a segment of its own
(``<ring>.cursor``), which the writer maps read-only; both ends run in Python, outside of every kernel.

Death of the writer within a message: its bytes lie behind the head, and the next writer's lie over them. Death of the
reader between a read and its cursor: its successor reads those messages once more.
"""

from __future__ import annotations

import struct

from shm.atomics import load_acquire, load_relaxed, store_relaxed, store_release
from shm.errors import ShmError
from shm.layout import BYTE_RING, CURSOR
from shm.segment import Arena, Segment, attach_arena, segment_name

DROPPED = 0  # kind of the message whose payload is the number of dropped ones (uint64)
_HEAD = struct.Struct("<II")
_COUNT = struct.Struct("<Q")
_WORD = 8
_DROPPED_ROOM = 2 * _WORD


def ring_words(capacity_bytes: int) -> int:
    """Size of a ring's segment in words."""
    return BYTE_RING.data + capacity_bytes // _WORD


class RingWriter:
    """The writing end. The reader may come later: until :meth:`refresh` maps it, its cursor reads as 0."""

    def __init__(self, segment: Segment, cursor: Arena) -> None:
        self.segment = segment
        self._words = segment.words
        self._cursor = cursor
        self.capacity = int(segment.words[BYTE_RING.capacity])
        self._bytes = memoryview(segment.words.data).cast("B")[BYTE_RING.data * _WORD :][: self.capacity]
        self._head = int(load_relaxed(segment.words, BYTE_RING.head))
        self._read = int(load_acquire(cursor.words, CURSOR.cursor))
        self._unsaid = 0  # dropped since the last message that fitted

    @classmethod
    def create(cls, instance: str, ring: str, *, capacity_bytes: int) -> RingWriter:
        """Creates or takes over ``ring``; a new one begins at its reader's cursor. Raises as ``Segment.create``, and
        ``ShmError`` for a capacity that is not whole words."""
        if capacity_bytes < 2 * _DROPPED_ROOM or capacity_bytes % _WORD:
            raise ShmError(
                f"capacity_bytes must be whole words of {_WORD}, at least 32: capacity_bytes={capacity_bytes}"
            )
        segment = Segment.create(
            segment_name(instance, ring),
            size_words=ring_words(capacity_bytes),
            kind=BYTE_RING.KIND,
            instance=instance,
        )
        cursor = attach_arena([segment_name(instance, f"{ring}.cursor")], CURSOR.KIND, instance, CURSOR.END)
        if not segment.taken_over or int(segment.words[BYTE_RING.capacity]) != capacity_bytes:
            store_relaxed(segment.words, BYTE_RING.capacity, capacity_bytes)
            store_relaxed(segment.words, BYTE_RING.dropped, 0)
            store_release(segment.words, BYTE_RING.head, int(load_acquire(cursor.words, CURSOR.cursor)))
        segment.set_ready()
        return cls(segment, cursor)

    def write(self, kind: int, *parts: bytes | memoryview) -> bool:
        """Appends one message of ``parts`` (bytes, one behind the other); False = no room: dropped and counted."""
        length = sum(map(len, parts))
        if self._unsaid:
            said = _padded(length) + _WORD + _DROPPED_ROOM
            if not self._has_room(said):
                return self._drop()
            self._put(DROPPED, _COUNT.size, (_COUNT.pack(self._unsaid),))
            self._unsaid = 0
        elif not self._has_room(_padded(length) + _WORD):
            return self._drop()
        self._put(kind, length, parts)
        # SYNC bytes.head: release, after the bytes; pairs with the acquire in RingReader.read
        store_release(self._words, BYTE_RING.head, self._head)
        return True

    def _has_room(self, size: int) -> bool:
        if self._head + size - self._read > self.capacity:
            # SYNC queue.cursor: acquire: the reader has read what is overwritten now; pairs with RingReader.done
            self._read = int(load_acquire(self._cursor.words, CURSOR.cursor))
        return 0 <= self._head + size - self._read <= self.capacity

    def _drop(self) -> bool:
        self._unsaid += 1
        store_relaxed(self._words, BYTE_RING.dropped, self.dropped + 1)
        return False

    def _put(self, kind: int, length: int, parts: tuple[bytes | memoryview, ...]) -> None:
        self._copy(self._head, _HEAD.pack(length, kind))
        at = self._head + _HEAD.size
        for part in parts:
            self._copy(at, part)
            at += len(part)
        self._head += _HEAD.size + _padded(length)

    def _copy(self, at: int, part: bytes | memoryview) -> None:
        start = at % self.capacity
        first = self.capacity - start
        if len(part) <= first:
            self._bytes[start : start + len(part)] = part
        else:
            self._bytes[start:] = part[:first]
            self._bytes[: len(part) - first] = part[first:]

    @property
    def dropped(self) -> int:
        """Messages dropped since the ring was made."""
        return int(load_relaxed(self._words, BYTE_RING.dropped))

    def refresh(self) -> None:
        """Looks for a reader that appeared or was replaced."""
        self._cursor.refresh()

    def close(self) -> None:
        """Gives the segment up; what is in it can still be read."""
        self._bytes.release()
        self.segment.close()


class RingReader:
    """The reading end. The writer may come later: until then, and while it is gone, there is nothing to read."""

    def __init__(self, segment: Segment, ring: Arena, capacity_bytes: int) -> None:
        self._segment = segment
        self._ring = ring
        self._capacity = capacity_bytes
        self._bytes = memoryview(ring.words.data).cast("B")[BYTE_RING.data * _WORD :][:capacity_bytes]
        self._next = int(load_relaxed(segment.words, CURSOR.cursor))

    @classmethod
    def create(cls, instance: str, ring: str, *, capacity_bytes: int) -> RingReader:
        """Creates or takes over ``<ring>.cursor`` and maps ``ring`` read-only where it is there. A cursor that was
        taken over goes on where its owner stopped."""
        segment = Segment.create(
            segment_name(instance, f"{ring}.cursor"), size_words=CURSOR.END, kind=CURSOR.KIND, instance=instance
        )
        names = [segment_name(instance, ring)]
        arena = attach_arena(names, BYTE_RING.KIND, instance, ring_words(capacity_bytes))
        reader = cls(segment, arena, capacity_bytes)
        reader._heal()
        segment.set_ready()
        return reader

    def _heal(self) -> None:
        """A cursor of another life of the ring: everything up to the head is passed over."""
        if self._ring.is_mapped(0):
            head = int(load_acquire(self._ring.words, BYTE_RING.head))
            if not 0 <= head - self._next <= self._capacity:
                self._next = head
                self.done()

    def refresh(self) -> None:
        """Looks for a writer that appeared or was replaced."""
        if self._ring.refresh():
            self._heal()

    def read(self, bytes_max: int) -> list[tuple[int, bytes]]:
        """(kind, payload) of the messages that follow, whole ones, about ``bytes_max`` of them. They stay in the ring
        until :meth:`done`. Raises ``ShmError`` where the ring's bytes are no messages."""
        # SYNC bytes.head: acquire, before the bytes; pairs with the release in RingWriter.write
        head = int(load_acquire(self._ring.words, BYTE_RING.head)) if self._ring.is_mapped(0) else self._next
        found: list[tuple[int, bytes]] = []
        end = min(head, self._next + bytes_max)
        while self._next < end:
            length, kind = _HEAD.unpack(self._take(self._next, _HEAD.size))
            following = self._next + _HEAD.size + _padded(length)
            if following > head:
                raise ShmError(f"{self._segment.name}: a message of {length} bytes does not end before the ring's head")
            found.append((kind, self._take(self._next + _HEAD.size, length)))
            self._next = following
        return found

    def done(self) -> None:
        """Everything that was read may be overwritten."""
        # SYNC queue.cursor: release: read before the writer may reuse the bytes; pairs with RingWriter._has_room
        store_release(self._segment.words, CURSOR.cursor, self._next)

    def _take(self, at: int, length: int) -> bytes:
        start = at % self._capacity
        first = self._capacity - start
        if length <= first:
            return bytes(self._bytes[start : start + length])
        return bytes(self._bytes[start:]) + bytes(self._bytes[: length - first])

    def close(self) -> None:
        """Gives the cursor's segment up; the next reader goes on from it."""
        self._bytes.release()
        self._segment.close()


def dropped_count(payload: bytes) -> int:
    """How many messages a ``DROPPED`` message stands for."""
    count: int = _COUNT.unpack(payload)[0]
    return count


def _padded(length: int) -> int:
    return -(-length // _WORD) * _WORD
