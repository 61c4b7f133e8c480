"""A feed's books in shared memory: a small ring per instrument, one notice ring, the connection table, the proof rule.

Jitted; ``words`` is a feed segment, or an arena of them, or any private array; ``feed_off`` is the word where the feed
segment begins in it. One process writes (the feed), any number read. Readers never wait for the writer and never spin
on a dead one: a slot is only looked for once its publication has been counted, and then it is whole until the writer
has published ``BOOK_SLOTS`` - 1 more. A slot that holds another publication than the counted one is looked for again:
a later one may be whole and not counted yet, and the next read would find an older book than this one.

What a killed writer leaves: the slot that it was writing is not counted yet, so no reader looks at it; the next owner
writes it again. Its books keep the old ``writer_epoch``: a reader compares it with the header's epoch.

Publication numbers n run 1, 2, ... and their seq is 2n, so that seq > 0 for whole records; after 2^62 - 1 comes
``BOOK_SLOTS`` again (the same slot as 2^62), never 0.
"""

from __future__ import annotations

from shm.atomics import (
    copy_lines,
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
from shm.jit import njit
from shm.layout import (
    BOOK,
    BOOK_RING,
    BOOK_SLOTS,
    CONN_CAPACITY,
    CONNECTION,
    FEED,
    FLAG_OWN_PROOF,
    HEADER,
    LINE_WORDS,
    NOTICE,
    NOTICE_CAPACITY,
    feed_segment_words,
)
from shm.segment import Segment, segment_name
from shm.words import Words

READ_ATTEMPTS = 64  # a writer would have to publish 7 times during each of 64 copies of one book
NO_DATA = 0
TORN = -1
NOTICE_NONE = 0
NOTICE_ONE = 1
NOTICE_LAPPED = -1
_LAST_PUBLICATION = 2**62 - 1
_SLOT_MASK = BOOK_SLOTS - 1
_NOTICE_MASK = NOTICE_CAPACITY - 1
_RECORD_LINES = BOOK.WORDS // LINE_WORDS
assert BOOK_SLOTS & _SLOT_MASK == 0 and NOTICE_CAPACITY & _NOTICE_MASK == 0


@njit
def init_feed(words: Words, feed_off: int, book_capacity: int) -> None:
    """Makes an empty or taken-over FEED segment at word ``feed_off`` usable: capacity set, every connection dead. Books
    and notices stay.

    A notice whose sequence is there and whose tail is not (its writer was killed between the two) counts: a reader may
    have taken it already, and would not come to another one in its place.
    """
    following = wrap_add(load_relaxed(words, feed_off + FEED.notice_tail), 1)
    entry = feed_off + FEED.notices + (wrap_sub(following, 1) & _NOTICE_MASK) * NOTICE.WORDS
    if load_relaxed(words, entry) == following:
        store_release(words, feed_off + FEED.notice_tail, following)
    for conn in range(CONN_CAPACITY):
        conn_close(words, feed_off, conn)
    store_release(words, feed_off + FEED.book_capacity, book_capacity)


@njit
def next_publication(n: int) -> int:
    """The publication number after ``n``."""
    if n == _LAST_PUBLICATION:
        return BOOK_SLOTS
    return n + 1


@njit
def book_offset(feed_off: int, book_index: int) -> int:
    """First word of an instrument's ring."""
    return feed_off + FEED.books + book_index * BOOK_RING.WORDS


@njit
def newest_publication(words: Words, feed_off: int, book_index: int) -> int:
    """Number of the newest counted publication in the FEED at word ``feed_off``, 0 if there is none: its record lies at
    :func:`record_offset`, and its seq is twice the number.

    To read it in place: its ``seq`` by acquire (must be twice the number), then the fields, then ``fence_acquire()``,
    then ``seq`` again: another seq at either look = lapped, begin again with this function.
    """
    if book_index < 0 or book_index >= load_relaxed(words, feed_off + FEED.book_capacity):
        return 0
    # SYNC book.count: acquire; pairs with publish_book
    n: int = load_acquire(words, book_offset(feed_off, book_index) + BOOK_RING.count)
    return n


@njit
def record_offset(feed_off: int, book_index: int, n: int) -> int:
    """First word of the slot of publication ``n`` (> 0)."""
    slot: int = book_offset(feed_off, book_index) + BOOK_RING.records + ((n - 1) & _SLOT_MASK) * BOOK.WORDS
    return slot


@njit
def newest_offset(words: Words, feed_off: int, book_index: int) -> int:
    """Word of ``words`` where the newest counted BOOK of the FEED at ``feed_off`` begins, 0 if none was ever published.
    Good for single words: a record that its writer replaces meanwhile is not noticed."""
    n = newest_publication(words, feed_off, book_index)
    if n == 0:
        return 0
    slot: int = record_offset(feed_off, book_index, n)
    return slot


@njit
def publish_book(words: Words, feed_off: int, book_index: int, record: Words) -> int:
    """Publishes ``record`` (int64[BOOK.WORDS]) and its notice; returns the publication number (0: no such book).

    ``seq`` and ``writer_epoch`` are filled here; ``publish_mono_ns`` too where the record carries 0. ``record`` itself
    stays as it is.
    """
    if book_index < 0 or book_index >= load_relaxed(words, feed_off + FEED.book_capacity):
        return 0
    ring = book_offset(feed_off, book_index)
    n: int = next_publication(load_relaxed(words, ring + BOOK_RING.count))
    slot = ring + BOOK_RING.records + ((n - 1) & _SLOT_MASK) * BOOK.WORDS
    store_relaxed(words, slot + BOOK.seq, 2 * n - 1)
    # SYNC book.seq: the odd seq is visible before any word of the new record; pairs with fence_acquire in read_book
    fence_release()
    copy_lines(record, LINE_WORDS, words, slot + LINE_WORDS, _RECORD_LINES - 1)
    for k in range(BOOK.seq + 1, LINE_WORDS):
        store_relaxed(words, slot + k, record[k])
    store_relaxed(words, slot + BOOK.writer_epoch, load_relaxed(words, feed_off + HEADER.epoch))
    if record[BOOK.publish_mono_ns] == 0:
        store_relaxed(words, slot + BOOK.publish_mono_ns, mono_ns())
    store_release(words, slot + BOOK.seq, 2 * n)  # SYNC book.seq: release; pairs with the acquire in read_book
    store_release(words, ring + BOOK_RING.count, n)  # SYNC book.count: release; pairs with newest_publication
    _publish_notice(words, feed_off, book_index)
    return n


@njit
def _publish_notice(words: Words, feed_off: int, book_index: int) -> None:
    tail = load_relaxed(words, feed_off + FEED.notice_tail)
    entry = feed_off + FEED.notices + (tail & _NOTICE_MASK) * NOTICE.WORDS
    # SYNC notice.tail: every earlier notice's tail is visible before this entry is overwritten; pairs with read_notice
    fence_release()
    store_relaxed(words, entry + NOTICE.book_index, book_index)
    store_release(words, entry, wrap_add(tail, 1))  # SYNC notice.seq: release; pairs with the acquire in read_notice
    store_release(words, feed_off + FEED.notice_tail, wrap_add(tail, 1))


@njit
def read_book(words: Words, feed_off: int, book_index: int, out: Words) -> int:
    """Copies the newest whole record to ``out`` (int64[BOOK.WORDS]): its seq (> 0), or NO_DATA 0, or TORN -1.

    Bounded: at most ``READ_ATTEMPTS`` tries, each only because the writer lapped the copy. Lock-free for the writer.
    """
    for _ in range(READ_ATTEMPTS):
        n = newest_publication(words, feed_off, book_index)
        if n == 0:
            return NO_DATA
        slot = record_offset(feed_off, book_index, n)
        seq = load_acquire(words, slot + BOOK.seq)  # SYNC book.seq: acquire; pairs with publish_book
        if seq != 2 * n:
            continue
        copy_lines(words, slot, out, 0, _RECORD_LINES)
        fence_acquire()  # SYNC book.seq: the copy is done before seq is read again
        if load_relaxed(words, slot + BOOK.seq) == seq:
            out[BOOK.seq] = seq
            return seq
    return TORN


@njit
def notice_tail(words: Words, feed_off: int) -> int:
    """Notices that the FEED at word ``feed_off`` has published so far: the cursor of a reader that wants only what
    comes next."""
    return load_acquire(words, feed_off + FEED.notice_tail)


@njit
def read_notice(words: Words, feed_off: int, cursor: int, out: Words) -> int:
    """Notice number ``cursor`` of the FEED at word ``feed_off``: 1 and ``out[0]`` = book index, ``out[1]`` = next
    cursor; 0 none yet; -1 lapped.

    A lapped reader goes on from :func:`notice_tail`, looks at every book, and counts the lap.
    """
    entry = feed_off + FEED.notices + (cursor & _NOTICE_MASK) * NOTICE.WORDS
    following = wrap_add(cursor, 1)
    seq = load_acquire(words, entry)  # SYNC notice.seq: acquire; pairs with _publish_notice
    if seq != following:
        # Not this one: an older entry (nothing yet) or a newer one (lapped). The tail tells.
        if wrap_sub(load_acquire(words, feed_off + FEED.notice_tail), cursor) > 0:
            # The tail may have passed between the two loads: then the entry is there now.
            if load_acquire(words, entry) != following:
                return NOTICE_LAPPED
        else:
            return NOTICE_NONE
    book_index = load_relaxed(words, entry + NOTICE.book_index)
    fence_acquire()
    # SYNC notice.tail: the writer overwrites this entry only once the tail stands a whole ring further
    if wrap_sub(load_relaxed(words, feed_off + FEED.notice_tail), cursor) >= NOTICE_CAPACITY:
        return NOTICE_LAPPED
    out[0] = book_index
    out[1] = following
    return NOTICE_ONE


@njit
def conn_open(words: Words, feed_off: int, conn: int, venue_id: int, lag_ns: int) -> int:
    """A new life of row ``conn`` of the CONNECTION table in the FEED at word ``feed_off``; returns its generation,
    which its books carry (0: no such row). ``lag_ns``: how far apart the topics on it may run."""
    if conn < 0 or conn >= CONN_CAPACITY:
        return 0
    row = feed_off + FEED.connections + conn * CONNECTION.WORDS
    generation: int = wrap_add(load_relaxed(words, row + CONNECTION.generation), 1)
    store_relaxed(words, row + CONNECTION.generation, generation)
    # SYNC conn.generation: whoever sees a word below sees the new generation; pairs with the fence in proof_mono_ns
    fence_release()
    store_relaxed(words, row + CONNECTION.last_frame_mono_ns, 0)
    store_relaxed(words, row + CONNECTION.cross_topic_lag_ns, lag_ns)
    store_relaxed(words, row + CONNECTION.venue, venue_id)
    store_release(words, row + CONNECTION.alive, 1)  # SYNC conn.alive: release; pairs with the acquire in proof_mono_ns
    return generation


@njit
def conn_close(words: Words, feed_off: int, conn: int) -> None:
    """The row ``conn`` of the CONNECTION table is dead: every book that it carried is unproved from now on. No such
    row: nothing happens."""
    if 0 <= conn < CONN_CAPACITY:
        # SYNC conn.alive: release; pairs with the acquire in proof_mono_ns
        store_release(words, feed_off + FEED.connections + conn * CONNECTION.WORDS + CONNECTION.alive, 0)


@njit
def conn_frame(words: Words, feed_off: int, conn: int, recv_mono_ns: int) -> None:
    """A frame came in on row ``conn`` of the CONNECTION table. Call it after the frame's own effect on books is
    published. No such row: nothing happens."""
    if 0 <= conn < CONN_CAPACITY:
        row = feed_off + FEED.connections + conn * CONNECTION.WORDS
        # SYNC conn.last_frame: release: a proof time never runs ahead of the books that the frame changed
        store_release(words, row + CONNECTION.last_frame_mono_ns, recv_mono_ns)


@njit
def proof_mono_ns(words: Words, feed_off: int, record: Words) -> int:
    """When this copy of a BOOK was last proved current (monotonic ns); 0 = its connection is dead or another one.

    max(recv_mono_ns, last frame on the connection - cross_topic_lag); recv_mono_ns with ``FLAG_OWN_PROOF``. Read the
    book *after* taking this time where the exact newest is wanted; a proof time taken after the copy may prove a book
    that has just been replaced.
    """
    conn = record[BOOK.conn]
    if conn < 0 or conn >= CONN_CAPACITY:
        return 0
    row = feed_off + FEED.connections + conn * CONNECTION.WORDS
    alive = load_acquire(words, row + CONNECTION.alive)  # SYNC conn.alive: acquire; pairs with conn_open
    last = load_acquire(words, row + CONNECTION.last_frame_mono_ns)  # SYNC conn.last_frame: acquire
    lag = load_relaxed(words, row + CONNECTION.cross_topic_lag_ns)
    fence_acquire()
    # SYNC conn.generation: read last: unchanged means that the times above are of this life of the connection
    generation = load_relaxed(words, row + CONNECTION.generation)
    if alive != 1 or generation != record[BOOK.conn_generation]:
        return 0
    proof: int = record[BOOK.recv_mono_ns]
    if not record[BOOK.flags] & FLAG_OWN_PROOF:
        proof = max(proof, last - lag)
    return proof


def create_feed(instance: str, exchange: str, book_capacity: int) -> Segment:
    """Creates or takes over ``feed.<exchange>``, initialised and READY; raises what ``Segment.create`` raises."""
    size_words = feed_segment_words(book_capacity)
    name = segment_name(instance, f"feed.{exchange}")
    segment = Segment.create(name, size_words=size_words, kind=FEED.KIND, instance=instance)
    init_feed(segment.words, 0, book_capacity)
    segment.set_ready()
    return segment
