"""Jitted loops of the stress tests: a writer whose every record can be judged by itself, and readers that judge it.

Record of publication ``v`` of book ``b``: word k (8 and up) = mix(b, v) + k, ``update_id`` = v, ``instrument`` = b. Any
mixture of two records is caught by any two of its words.
"""

from __future__ import annotations

import numpy as np

from shm.atomics import copy_lines, cpu_pause, load_acquire, mono_ns, sched_yield
from shm.bookring import book_offset, notice_tail, publish_book, read_book, read_notice
from shm.jit import njit
from shm.layout import BOOK, BOOK_RING, BOOK_SLOTS, LINE_WORDS
from shm.liveness import beat
from shm.queue import pop, push
from shm.words import Words

# columns of the readers' results
READS, TORN_RECORDS, GAVE_UP, WENT_BACK, CHANGES, NO_DATA_AFTER_DATA = range(6)
RESULT_WORDS = 8
_MIX = 1_000_003
_SPREAD = 1 << 40


@njit
def mix(book: int, value: int) -> int:
    return book * _SPREAD + value * _MIX


@njit
def fill(record: Words, book: int, value: int) -> None:
    base = mix(book, value)
    for k in range(LINE_WORDS, BOOK.WORDS):
        record[k] = base + k
    record[BOOK.instrument] = book
    record[BOOK.update_id] = value
    record[BOOK.publish_mono_ns] = 1


@njit
def is_whole(record: Words, book: int) -> bool:
    base = mix(book, record[BOOK.update_id])
    wrong = record[BOOK.instrument] ^ book
    for k in range(LINE_WORDS, BOOK.WORDS):
        wrong |= record[k] ^ (base + k)
    return wrong == 0


@njit
def write_books(words: Words, books: int, count: int, pauses: int, stop: Words) -> int:
    """Publishes until ``count`` publications or ``stop[0]``; ``pauses`` between two; every book in turn."""
    record = np.zeros(BOOK.WORDS, np.int64)
    for v in range(1, count + 1):
        book = v % books
        fill(record, book, v)
        publish_book(words, 0, book, record)
        for _ in range(pauses):
            cpu_pause()
        if v & 1023 == 0 and load_acquire(stop, 0) != 0:
            return v
    return count


@njit
def read_books(words: Words, off: int, books: int, reads: int, out: Words, last: Words, result: Words) -> None:
    """Reads all books in turn, ``reads`` times together, and judges every word of every changed copy.

    An unchanged seq with the same update id is the copy that was judged before; its first and last words are compared.
    """
    for k in range(reads):
        book = k % books
        seq = read_book(words, off, book, out)
        if seq > 0:
            if seq != last[book]:
                result[CHANGES] += 1
                if seq < last[book]:
                    result[WENT_BACK] += 1
                last[book] = seq
                if not is_whole(out, book):
                    result[TORN_RECORDS] += 1
            elif (out[LINE_WORDS] - LINE_WORDS) != mix(book, out[BOOK.update_id]) or (
                out[BOOK.WORDS - 1] - out[LINE_WORDS] != BOOK.WORDS - 1 - LINE_WORDS
            ):
                result[TORN_RECORDS] += 1
            if out[BOOK.seq] != seq or seq & 1:
                result[TORN_RECORDS] += 1
        elif seq < 0:
            result[GAVE_UP] += 1
        elif last[book] > 0:
            result[NO_DATA_AFTER_DATA] += 1
    result[READS] += reads


@njit
def follow_notices(words: Words, off: int, books: int, until: int, spare: int, out: Words, seen: Words) -> int:
    """Follows the notices to publication ``until`` of all books together, slowed by ``spare`` pauses; returns laps.

    ``seen[b]`` = newest update id of book b, ``seen[books]`` = notices read, ``seen[books + 1]`` = wrong records.
    """
    notice = np.zeros(2, np.int64)
    cursor = 0
    laps = 0
    newest = 0
    while newest < until:
        status = read_notice(words, off, cursor, notice)
        if status == 1:
            cursor = notice[1]
            seen[books] += 1
            first, stop = notice[0], notice[0] + 1
            if first < 0 or first >= books:
                seen[books + 1] += 1
                continue
        elif status == 0:
            cpu_pause()
            continue
        else:
            laps += 1
            cursor = notice_tail(words, off)  # read before the books: nothing falls between
            first, stop = 0, books
        for book in range(first, stop):
            if read_book(words, off, book, out) > 0:
                if not is_whole(out, book) or out[BOOK.update_id] < seen[book]:
                    seen[books + 1] += 1
                seen[book] = out[BOOK.update_id]
                newest = max(newest, out[BOOK.update_id])
        for _ in range(spare):
            cpu_pause()
    return laps


@njit
def produce(queue: Words, cursor: Words, begin: int, end: int, refusals: Words) -> None:
    """Pushes begin + 1 .. end, each until it is accepted; payload word k = value * k."""
    payload = np.zeros(64, np.int64)
    for v in range(begin + 1, end + 1):
        for k in range(1, 64):
            payload[k] = v * k
        while not push(queue, 0, cursor, 0, payload):
            refusals[0] += 1
            if refusals[0] & 63 == 0:
                sched_yield()  # the consumer may share this CPU
            cpu_pause()


@njit
def consume(queue: Words, cursor: Words, first: int, last: int, pauses: int) -> int:
    """Pops ``first..last`` in order; returns the first value that is lost, doubled or torn, else 0."""
    out = np.zeros(64, np.int64)
    v = first
    empty = 0
    while v <= last:
        if pop(queue, 0, cursor, 0, out) == 0:
            empty += 1
            if empty & 63 == 0:
                sched_yield()  # the producer may share this CPU
            cpu_pause()
            continue
        for k in range(1, 64):
            if out[k] != v * k:
                return v
        for _ in range(pauses):
            cpu_pause()
        v += 1
    return 0


@njit
def read_without_a_protocol(words: Words, off: int, attempts: int, out: Words) -> int:
    """Copies slots of book 0 as they are until a copy is torn; how many copies that took, 0 = none in ``attempts``.

    The judge's own test: it must see what a reader without the sequence check would get.
    """
    slots = book_offset(off, 0) + BOOK_RING.records
    for k in range(1, attempts + 1):
        copy_lines(words, slots + (k % BOOK_SLOTS) * BOOK.WORDS, out, 0, BOOK.WORDS // LINE_WORDS)
        if out[BOOK.update_id] != 0 and not is_whole(out, 0):
            return k
    return 0


@njit
def publish_and_beat(words: Words, live: Words, books: int) -> None:
    """A feed that never ends: publishes and beats."""
    record = np.zeros(BOOK.WORDS, np.int64)
    v = 0
    while True:
        v += 1
        fill(record, v % books, v)
        publish_book(words, 0, v % books, record)
        if v & 15 == 0:
            beat(live, 0, mono_ns())
