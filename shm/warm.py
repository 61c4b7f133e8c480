"""Compiles, or loads from the cache, every kernel of this package that Python calls: on private words, for real.

Who forks processes calls it first, so that none of them compiles one alone, on its way to READY or behind it.
"""

from __future__ import annotations

import numpy as np

from shm import atomics, bookring, liveness, logring, metrics, pages, queue, wait
from shm.layout import BOOK, CURSOR, LINE_WORDS, LOG, LOG_SLOT, METRICS, feed_segment_words
from shm.words import Words

_ANY = 1


def warm() -> None:
    """Every kernel once, with the types that its callers pass."""
    words = np.zeros(max(feed_segment_words(1), METRICS.END), dtype=np.int64)
    _warm_words(words)
    _warm_books(words)
    words[:] = 0
    _warm_rows(words)


def _warm_words(words: Words) -> None:
    atomics.store_relaxed(words, 0, _ANY)
    atomics.store_release(words, 0, 0)
    atomics.load_acquire(words, 0)
    atomics.load_relaxed(words, 0)
    atomics.fence_release()
    atomics.fence_acquire()
    atomics.wrap_add(_ANY, _ANY)
    atomics.wrap_sub(_ANY, _ANY)
    atomics.mono_ns()
    atomics.wall_ns()
    atomics.current_cpu()
    atomics.cpu_pause()
    atomics.sched_yield()
    wait.prepare_park(words, 0)
    wait.cancel_park(words, 0)
    wait.ring_if_sleeping(words, 0, -1)


def _warm_books(words: Words) -> None:
    record = np.zeros(BOOK.WORDS, dtype=np.int64)
    bookring.init_feed(words, 0, 1)
    bookring.conn_open(words, 0, 0, 0, 0)
    bookring.publish_book(words, 0, 0, record)
    bookring.read_book(words, 0, 0, record)
    bookring.newest_offset(words, 0, 0)
    bookring.notice_tail(words, 0)
    bookring.conn_close(words, 0, 0)


def _warm_rows(words: Words) -> None:
    metrics.inc(words, 0, 0, _ANY)
    metrics.set_gauge(words, 0, 0, _ANY)
    metrics.get_counter(words, 0, 0)
    metrics.hist_record(words, 0, 0, _ANY)
    metrics.bucket_of(_ANY)
    metrics.Histogram(words, METRICS.hists).percentiles([50.0])
    row = np.zeros(LINE_WORDS, dtype=np.int64)
    pages.write_row(words, 0, row)
    pages.read_row(words, 0, row)
    pages.may_send(words, 0, _ANY, _ANY)
    liveness.beat(words, 0, _ANY)
    ring = np.zeros(queue.queue_words(2, LINE_WORDS), dtype=np.int64)
    cursor = np.zeros(CURSOR.END, dtype=np.int64)
    queue.init_queue(ring, 0, 2, LINE_WORDS, 0)
    queue.recover_queue(ring, 0)
    queue.push(ring, 0, cursor, 0, row)
    queue.is_empty(ring, 0, cursor, 0)
    queue.read_at(ring, 0, 0, row)
    queue.pop(ring, 0, cursor, 0, row)
    log = np.zeros(LOG.slots + 2 * LOG_SLOT.WORDS, dtype=np.int64)
    log[LOG.capacity] = 2
    slot = np.zeros(LOG_SLOT.WORDS, dtype=np.int64)
    logring.log_text(log, 0, _ANY, _ANY, 8, slot)
    logring.text_slots(8)
    logring.read_slot(log, 0, 0, slot)
