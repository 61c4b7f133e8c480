"""Books whose connection is changed for another one, or may have lost an update of any of them."""

from __future__ import annotations

import numpy as np

from pipeline.book.freshness import SILENCE_NS, set_on_time
from pipeline.book.memory import BOOK_ROW, BOOKS, STATE_ALIGNING, WATCH
from shm.bookring import conn_open, newest_offset, proof_mono_ns
from shm.jit import njit_bare as njit
from shm.layout import BOOK, CONN_CAPACITY, CONNECTION, FEED, FLAG_UNPROVED
from shm.words import Words

WAITS = 0  # it does not stand
STANDS = 1  # proved to this moment
DOUBTED = 2  # it stands, and nothing says that no update of it was lost


@njit
def hand_over(mem: Words, words: Words, book: int, new: int) -> int:
    """``new`` carries from now on the book at word ``book``, which another connection carries: ``WAITS``, ``STANDS``
    or ``DOUBTED``. Publishes nothing.

    Doubted is what the old connection does not prove as it is published: from before a silence, contradicted, late; or
    from before a silence of either that ends only now. What the old one has lost came over the new one only if that
    was subscribed by then.
    """
    old_watch = BOOKS.connections + mem[book + BOOK_ROW.conn] * WATCH.WORDS
    new_watch = BOOKS.connections + new * WATCH.WORDS
    verdict = WAITS
    if mem[book + BOOK_ROW.state] >= STATE_ALIGNING:
        feed = mem[BOOKS.feed_off]
        at = newest_offset(words, feed, mem[book + BOOK_ROW.book_index])
        record = words[at : at + BOOK.WORDS]
        known = at > 0 and not record[BOOK.flags] & FLAG_UNPROVED and proof_mono_ns(words, feed, record) > 0
        silent = mem[new_watch + WATCH.data_ns] - mem[old_watch + WATCH.data_ns] > SILENCE_NS
        newer_life = mem[book + BOOK_ROW.recv_ns] < mem[new_watch + WATCH.life_ns]
        verdict = STANDS if known and not silent and not newer_life else DOUBTED
    if mem[book + BOOK_ROW.lead_ns]:  # each connection counts its own flow
        mem[book + BOOK_ROW.lead_ns] += mem[new_watch + WATCH.flow_ns] - mem[old_watch + WATCH.flow_ns]
    mem[book + BOOK_ROW.conn] = new
    return verdict


@njit
def stand_by(mem: Words, words: Words, book: int, silent: int, new: int, life: int) -> bool:
    """Whether ``new`` carries from now on the book at word ``book`` (BOOK_ROW), if it is one of ``silent``, beside
    which ``new`` has had the same since its life ``life``, and which is silent. Publishes nothing.

    What ``silent`` has lost came over ``new``; so the book is all that ``new`` has brought, unless that was silent,
    too, about when the book had its newest update or later. One that has had nothing since then proves nothing.
    """
    if mem[book + BOOK_ROW.conn] != silent or mem[book + BOOK_ROW.state] < STATE_ALIGNING:
        return False
    feed = mem[BOOKS.feed_off]
    at = newest_offset(words, feed, mem[book + BOOK_ROW.book_index])
    if at <= 0 or words[at + BOOK.flags] & FLAG_UNPROVED or words[at + BOOK.conn_generation] < life:
        return False
    watch = BOOKS.connections + new * WATCH.WORDS
    life_ns = mem[watch + WATCH.life_ns]
    if mem[watch + WATCH.data_ns] < mem[book + BOOK_ROW.recv_ns]:
        return False
    if not mem[watch + WATCH.on_time] or (life_ns and mem[book + BOOK_ROW.recv_ns] - life_ns < SILENCE_NS):
        return False
    old_watch = BOOKS.connections + silent * WATCH.WORDS
    if mem[book + BOOK_ROW.lead_ns]:  # each connection counts its own flow
        mem[book + BOOK_ROW.lead_ns] += mem[watch + WATCH.flow_ns] - mem[old_watch + WATCH.flow_ns]
    mem[book + BOOK_ROW.conn] = new
    return True


def carry(mem: Words, book: int, conn: int) -> None:
    """The book at word ``book`` (BOOK_ROW in ``mem``) is as new as what ``conn`` has brought, and is proved by it from
    now on. A ticker that is ahead of it is so from now on: each connection counts its own flow."""
    mem[book + BOOK_ROW.conn] = conn
    if mem[book + BOOK_ROW.lead_ns]:
        known = 0 <= conn < CONN_CAPACITY
        flow_ns = int(mem[BOOKS.connections + conn * WATCH.WORDS + WATCH.flow_ns]) if known else 0
        mem[book + BOOK_ROW.lead_ns] = flow_ns + 1


def begin_tickers(mem: Words, conn: int, capacity: int) -> None:
    """A connection opens in row ``conn``: it has brought no ticker yet of any of the ``capacity`` books in ``mem``
    (BOOKS, int64)."""
    first = int(mem[BOOKS.rows_off])
    rows = mem[first : first + capacity * BOOK_ROW.WORDS].reshape(capacity, BOOK_ROW.WORDS)
    rows[:, BOOK_ROW.ticker_conns] &= ~np.left_shift(np.int64(1), np.int64(conn))


def begin_life(mem: Words, words: Words, conn: int, recv_ns: int) -> None:
    """A frame of ``conn`` cannot be read, and nobody knows whose update it was: no other frame proves any of its books
    until they have had an update of their own, which their sequence rule judges."""
    row = BOOKS.connections + conn * WATCH.WORDS
    if not 0 <= conn < CONN_CAPACITY or not mem[row + WATCH.open]:
        return
    feed = int(mem[BOOKS.feed_off])
    shared = feed + FEED.connections + conn * CONNECTION.WORDS
    venue, lag_ns = int(words[shared + CONNECTION.venue]), int(words[shared + CONNECTION.cross_topic_lag_ns])
    conn_open(words, feed, conn, venue, lag_ns)
    set_on_time(mem, words, conn, int(mem[row + WATCH.on_time]))
    mem[row + WATCH.life_ns] = recv_ns + 1  # not what came just before, in the same piece of the stream
