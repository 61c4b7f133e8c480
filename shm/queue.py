"""Single-producer single-consumer queue: bounded, lossless, slot-sequence; full = refused and counted, never waited.

Two segments: the producer writes the slots, the consumer writes only its cursor (and its sleeping flag) in its own
segment, which the producer maps read-only. A slot's word 0 is its sequence (index + 1 when whole); the payload is the
slot's other words, so that a payload array has ``slot_words`` words (whole cache lines) of which word 0 is not the
caller's.

Death of the producer in the middle of a push: before the slot's sequence is there the consumer sees nothing, and the
next producer writes the slot again; after it the item counts (:func:`recover_queue`). Death of the consumer after
reading and before its cursor moved: its successor reads the same item once more (the executor refuses ids that it
knows). Indices wrap at 2^64.
"""

from __future__ import annotations

from shm.atomics import (
    copy_lines,
    fence_acquire,
    fence_release,
    load_acquire,
    load_relaxed,
    store_relaxed,
    store_release,
    wrap_add,
    wrap_sub,
)
from shm.errors import SegmentMissing, ShmError
from shm.jit import njit
from shm.layout import CURSOR, LINE_WORDS, QUEUE
from shm.segment import Arena, Segment, attach_arena, segment_name
from shm.words import Words

READ_LOST = -1


def queue_words(capacity: int, slot_words: int) -> int:
    """Size of a producer's segment in words."""
    return QUEUE.slots + capacity * slot_words


@njit
def init_queue(words: Words, off: int, capacity: int, slot_words: int, start: int) -> None:
    """Empty QUEUE at word ``off`` whose first item has index ``start``; ``capacity`` must be a power of two."""
    store_relaxed(words, off + QUEUE.capacity, capacity)
    store_relaxed(words, off + QUEUE.slot_words, slot_words)
    store_relaxed(words, off + QUEUE.refused, 0)
    store_relaxed(words, off + QUEUE.cursor_seen, start)
    store_release(words, off + QUEUE.tail, start)


@njit
def recover_queue(words: Words, off: int) -> None:
    """A new producer on a dead one's queue: counts the item whose sequence is there and whose tail is not.

    The consumer may have taken it already; written again, its place would hold an item that nobody comes to.
    """
    tail = load_relaxed(words, off + QUEUE.tail)
    capacity = load_relaxed(words, off + QUEUE.capacity)
    slot = off + QUEUE.slots + (tail & (capacity - 1)) * load_relaxed(words, off + QUEUE.slot_words)
    following = wrap_add(tail, 1)
    if load_relaxed(words, slot) == following:
        store_release(words, off + QUEUE.tail, following)


@njit
def push(queue_words: Words, queue_off: int, cursor_words: Words, cursor_off: int, payload: Words) -> bool:
    """Appends ``payload`` (int64[slot_words], word 0 ignored); False = full: refused and counted."""
    capacity = load_relaxed(queue_words, queue_off + QUEUE.capacity)
    slot_words = load_relaxed(queue_words, queue_off + QUEUE.slot_words)
    tail = load_relaxed(queue_words, queue_off + QUEUE.tail)
    used = wrap_sub(tail, load_relaxed(queue_words, queue_off + QUEUE.cursor_seen))
    if used >= capacity or used < 0:
        # SYNC queue.cursor: acquire: the consumer has read the slot before we write it again; pairs with pop
        cursor = load_acquire(cursor_words, cursor_off + CURSOR.cursor)
        store_relaxed(queue_words, queue_off + QUEUE.cursor_seen, cursor)
        used = wrap_sub(tail, cursor)
    if used >= capacity or used < 0:  # < 0: a cursor of another life of the queue; its consumer must re-attach
        refused = load_relaxed(queue_words, queue_off + QUEUE.refused)
        store_relaxed(queue_words, queue_off + QUEUE.refused, wrap_add(refused, 1))
        return False
    slot = queue_off + QUEUE.slots + (tail & (capacity - 1)) * slot_words
    # SYNC queue.tail: lossy readers (read_at) see the tail at this item before its slot changes
    fence_release()
    for k in range(1, LINE_WORDS):
        store_relaxed(queue_words, slot + k, payload[k])
    copy_lines(payload, LINE_WORDS, queue_words, slot + LINE_WORDS, slot_words // LINE_WORDS - 1)
    store_release(queue_words, slot, wrap_add(tail, 1))  # SYNC queue.seq: release; pairs with the acquire in pop
    # SYNC queue.tail: release; pairs with the acquire in read_at
    store_release(queue_words, queue_off + QUEUE.tail, wrap_add(tail, 1))
    return True


@njit
def pop(queue_words: Words, queue_off: int, cursor_words: Words, cursor_off: int, out: Words) -> int:
    """Takes the oldest item into ``out`` (int64[slot_words], word 0 = its sequence): 1, or 0 when empty."""
    capacity = load_relaxed(queue_words, queue_off + QUEUE.capacity)
    if capacity == 0:  # no producer yet (zero pages)
        return 0
    slot_words = load_relaxed(queue_words, queue_off + QUEUE.slot_words)
    cursor = load_relaxed(cursor_words, cursor_off + CURSOR.cursor)
    slot = queue_off + QUEUE.slots + (cursor & (capacity - 1)) * slot_words
    following = wrap_add(cursor, 1)
    seq = load_acquire(queue_words, slot)  # SYNC queue.seq: acquire; pairs with push
    if seq != following:
        _skip_overwritten(queue_words, queue_off, cursor_words, cursor_off, wrap_sub(seq, following))
        return 0
    copy_lines(queue_words, slot, out, 0, slot_words // LINE_WORDS)
    out[0] = following
    # SYNC queue.cursor: release: the slot has been read before the producer may reuse it; pairs with push
    store_release(cursor_words, cursor_off + CURSOR.cursor, following)
    return 1


@njit
def _skip_overwritten(queue_words: Words, queue_off: int, cursor_words: Words, cursor_off: int, ahead: int) -> None:
    """A consumer made anew may begin at items that its producer, with the old cursor in mind, overwrites: go on behind.

    Never happens to a consumer that was there before, or that took its predecessor's cursor over.
    """
    capacity = load_relaxed(queue_words, queue_off + QUEUE.capacity)
    if ahead <= 0 or ahead & (capacity - 1) != 0:  # an older item, or a slot that was never written
        return
    lost = load_relaxed(cursor_words, cursor_off + CURSOR.lost)
    cursor = load_relaxed(cursor_words, cursor_off + CURSOR.cursor)
    store_relaxed(cursor_words, cursor_off + CURSOR.lost, wrap_add(lost, ahead))
    store_release(cursor_words, cursor_off + CURSOR.cursor, wrap_add(cursor, ahead))


@njit
def is_empty(queue_words: Words, queue_off: int, cursor_words: Words, cursor_off: int) -> bool:
    """Whether :func:`pop` would find nothing in the QUEUE at ``queue_off`` (the re-check before parking); the
    consumer's CURSOR lies at ``cursor_off``."""
    capacity = load_relaxed(queue_words, queue_off + QUEUE.capacity)
    if capacity == 0:
        return True
    cursor = load_relaxed(cursor_words, cursor_off + CURSOR.cursor)
    slot_words = load_relaxed(queue_words, queue_off + QUEUE.slot_words)
    slot = queue_off + QUEUE.slots + (cursor & (capacity - 1)) * slot_words
    return load_acquire(queue_words, slot) != wrap_add(cursor, 1)


@njit
def read_at(queue_words: Words, queue_off: int, index: int, out: Words) -> int:
    """Item ``index`` of the QUEUE at ``queue_off`` for a second, lossy reader: 1 got, 0 not there yet, -1 overwritten
    (go on, count what is lost). ``out``: (slot_words,), word 0 = its sequence."""
    capacity = load_relaxed(queue_words, queue_off + QUEUE.capacity)
    if capacity == 0:
        return 0
    slot_words = load_relaxed(queue_words, queue_off + QUEUE.slot_words)
    slot = queue_off + QUEUE.slots + (index & (capacity - 1)) * slot_words
    following = wrap_add(index, 1)
    ahead = wrap_sub(load_acquire(queue_words, queue_off + QUEUE.tail), index)  # SYNC queue.tail: acquire
    if ahead <= 0:
        return 0
    if ahead >= capacity or load_acquire(queue_words, slot) != following:
        return READ_LOST
    copy_lines(queue_words, slot, out, 0, slot_words // LINE_WORDS)
    fence_acquire()
    # SYNC queue.tail: the slot is overwritten only once the tail stands a whole ring further
    if wrap_sub(load_relaxed(queue_words, queue_off + QUEUE.tail), index) >= capacity:
        return READ_LOST
    out[0] = following
    return 1


class QueueProducer:
    """The producing end in Python; kernels use ``words``, ``cursor_words`` and :func:`push` directly.

    The consumer may come later: its cursor then reads 0 until :meth:`refresh` maps it.
    """

    def __init__(self, segment: Segment, cursor: Arena) -> None:
        self.segment = segment
        self.words = segment.words
        self.cursor_words = cursor.words
        self._cursor = cursor

    @classmethod
    def create(cls, instance: str, queue: str, *, capacity: int, slot_words: int) -> QueueProducer:
        """Creates or takes over ``queue``; a new one begins at the consumer's cursor. Raises as ``Segment.create``."""
        if capacity < 2 or capacity & (capacity - 1):
            raise ShmError(f"capacity must be a power of two, at least 2: capacity={capacity}")
        if slot_words < LINE_WORDS or slot_words % LINE_WORDS:
            raise ShmError(f"slot_words must be whole lines of {LINE_WORDS}: slot_words={slot_words}")
        size = queue_words(capacity, slot_words)
        segment = Segment.create(segment_name(instance, queue), size_words=size, kind=QUEUE.KIND, instance=instance)
        cursor = attach_arena([segment_name(instance, f"{queue}.cursor")], CURSOR.KIND, instance, CURSOR.END)
        shape = (int(segment.words[QUEUE.capacity]), int(segment.words[QUEUE.slot_words]))
        if not segment.taken_over or shape != (capacity, slot_words):
            segment.words[QUEUE.slots :] = 0
            init_queue(segment.words, 0, capacity, slot_words, int(load_acquire(cursor.words, CURSOR.cursor)))
        recover_queue(segment.words, 0)
        store_relaxed(segment.words, QUEUE.cursor_seen, int(load_acquire(cursor.words, CURSOR.cursor)))
        segment.set_ready()
        return cls(segment, cursor)

    def push(self, payload: Words) -> bool:
        """See :func:`push`."""
        return bool(push(self.words, 0, self.cursor_words, 0, payload))

    @property
    def refused(self) -> int:
        """Pushes refused because the queue was full."""
        return int(load_relaxed(self.words, QUEUE.refused))

    @property
    def depth(self) -> int:
        """Items pushed and not yet consumed."""
        return int(wrap_sub(load_acquire(self.words, QUEUE.tail), load_acquire(self.cursor_words, CURSOR.cursor)))

    def refresh(self) -> bool:
        """Looks for a consumer that appeared or was replaced; whether one did."""
        changed = bool(self._cursor.refresh())
        if changed:
            store_relaxed(self.words, QUEUE.cursor_seen, int(load_acquire(self.cursor_words, CURSOR.cursor)))
        return changed

    def close(self) -> None:
        """Gives up the ownership: items stay for the consumer, and the next producer goes on behind them."""
        self.segment.close()


class QueueConsumer:
    """The consuming end in Python; kernels use ``words``, ``cursor_words`` and :func:`pop` directly.

    The producer may come later: the queue then reads as empty until :meth:`refresh` maps it.
    """

    def __init__(self, segment: Segment, queue: Arena) -> None:
        self.segment = segment
        self.cursor_words = segment.words
        self.words = queue.words
        self._queue = queue
        self.skipped = 0

    @classmethod
    def create(
        cls, instance: str, queue: str, *, capacity: int, slot_words: int, start: str = "oldest"
    ) -> QueueConsumer:
        """Creates or takes over ``<queue>.cursor`` and maps ``queue`` read-only if it is there.

        A taken-over cursor goes on where its dead owner stopped. A new one begins at the ``oldest`` item that is still
        there, or at the ``newest`` end (``skipped`` counts what it passes over).
        """
        if start not in ("oldest", "newest"):
            raise ShmError(f"start must be oldest or newest: start={start!r}")
        name = segment_name(instance, f"{queue}.cursor")
        segment = Segment.create(name, size_words=CURSOR.END, kind=CURSOR.KIND, instance=instance)
        size = queue_words(capacity, slot_words)
        arena = attach_arena([segment_name(instance, queue)], QUEUE.KIND, instance, size)
        consumer = cls(segment, arena)
        if not segment.taken_over:
            consumer._begin(capacity, newest=start == "newest")
        consumer._heal()
        segment.set_ready()
        return consumer

    def _begin(self, capacity: int, *, newest: bool) -> None:
        tail = int(load_acquire(self.words, QUEUE.tail))
        slot_words = int(load_relaxed(self.words, QUEUE.slot_words))
        cursor = tail
        while int(wrap_sub(tail, cursor)) < capacity:
            before = int(wrap_sub(cursor, 1))
            slot = QUEUE.slots + (before & (capacity - 1)) * slot_words
            if slot_words == 0 or int(load_acquire(self.words, slot)) != cursor or cursor == 0:
                break
            cursor = before
        self.skipped = int(wrap_sub(tail, cursor)) if newest else 0
        store_release(self.cursor_words, CURSOR.cursor, tail if newest else cursor)

    def _heal(self) -> None:
        """A cursor beyond the tail belongs to an earlier queue that is gone: nothing before the tail is ours."""
        if self._queue.is_mapped(0):
            tail = int(load_acquire(self.words, QUEUE.tail))
            if int(wrap_sub(tail, load_relaxed(self.cursor_words, CURSOR.cursor))) < 0:
                store_release(self.cursor_words, CURSOR.cursor, tail)

    def pop(self, out: Words) -> bool:
        """Takes the oldest item into ``out`` (int64[slot_words], word 0 = its sequence); False when empty."""
        return bool(pop(self.words, 0, self.cursor_words, 0, out))

    @property
    def lost(self) -> int:
        """Items that were overwritten before this consumer, made anew beside a living producer, came to them."""
        return int(load_relaxed(self.cursor_words, CURSOR.lost))

    @property
    def empty(self) -> bool:
        """Whether nothing waits; also while there is no producer."""
        return bool(is_empty(self.words, 0, self.cursor_words, 0))

    def refresh(self) -> bool:
        """Looks for a producer that appeared or was replaced; whether one did."""
        changed = bool(self._queue.refresh())
        if changed:
            self._heal()
        return changed

    def close(self) -> None:
        """Gives up the ownership: the next consumer goes on where this one stopped."""
        self.segment.close()


def attach_queue(instance: str, queue: str) -> Segment:
    """The producer's segment, read-only, for a lossy second reader (:func:`read_at`); raises SegmentMissing."""
    segment = Segment.attach(segment_name(instance, queue), kind=QUEUE.KIND, instance=instance)
    if int(load_relaxed(segment.words, QUEUE.capacity)) == 0:
        raise SegmentMissing(f"queue {segment.name} is not initialised")
    return segment
