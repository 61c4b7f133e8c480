"""The protocols under thousands of seeded interleavings of two processes with x86 store buffers, kills included.

The kernels run as plain Python here (``NUMBA_DISABLE_JIT``); in a jitted test run this file starts itself once more
without the jit. A failing seed is in the assertion; ``ARB_INTERLEAVINGS`` multiplies the number of schedules.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

from shm import bookring, pages, queue, wait
from shm.declare import Table
from shm.jit import JIT_DISABLED
from shm.layout import BOOK, BOOK_RING, CURSOR, FEED, NOTICE, QUEUE, feed_segment_words
from shm.layout_pages import HALT
from tests.naive.interleave import Machine, SharedWords
from tests.paths import REPO

plain = pytest.mark.skipif(not JIT_DISABLED, reason="run by test_protocols_without_the_jit")
FACTOR = int(os.environ.get("ARB_INTERLEAVINGS", "1"))
SLOT = 16


@pytest.mark.skipif(JIT_DISABLED, reason="this is that run")
def test_protocols_without_the_jit() -> None:
    done = subprocess.run(
        [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(Path(__file__).resolve())],
        cwd=REPO,
        env={**os.environ, "NUMBA_DISABLE_JIT": "1"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


def record_of(value: int, width: int) -> np.ndarray:
    """Every word tells the value."""
    return np.arange(value * 1000, value * 1000 + width, dtype=np.int64)


def value_of(record: np.ndarray, skip: tuple[int, ...]) -> int:
    """The value that all words agree on; -1 = torn."""
    values = {(int(v) - k) // 1000 if (int(v) - k) % 1000 == 0 else -1 for k, v in enumerate(record) if k not in skip}
    return values.pop() if len(values) == 1 else -1


def like(table: Table, **changes: int) -> Table:
    """The same table with other numbers."""
    copy = type(table)()
    vars(copy).update(changes)
    return copy


@pytest.fixture
def small_books(monkeypatch: pytest.MonkeyPatch) -> int:
    """Two slots a ring, records of two lines, four notices: laps within a few steps. Returns words of a segment."""
    slots, record, notices = 2, 16, 4
    ring = BOOK_RING.records + slots * record
    off = FEED.notices + notices * NOTICE.WORDS
    for name, value in {
        "BOOK_SLOTS": slots,
        "_SLOT_MASK": slots - 1,
        "BOOK": like(BOOK, WORDS=record),
        "_RECORD_LINES": record // 8,
        "BOOK_RING": like(BOOK_RING, WORDS=ring),
        "FEED": like(FEED, books=off),
        "NOTICE_CAPACITY": notices,
        "_NOTICE_MASK": notices - 1,
    }.items():
        monkeypatch.setattr(bookring, name, value)
    return off + 2 * ring


BOOK_SKIP = (BOOK.seq, BOOK.writer_epoch)


@plain
@pytest.mark.parametrize("kill", [False, True], ids=["live", "killed"])
def test_books_are_whole_newest_and_noticed(monkeypatch: pytest.MonkeyPatch, small_books: int, kill: bool) -> None:
    copies = 0
    for seed in range(120 * FACTOR):
        machine = Machine(seed)
        machine.patch(monkeypatch, bookring)
        words = SharedWords.zeros(small_books)
        bookring.init_feed(words, 0, 2)
        seen: list[tuple[int, int]] = []

        def write(words: SharedWords = words) -> None:
            for value in range(1, 9):
                bookring.publish_book(words, 0, 1, record_of(value, 16))

        def read(words: SharedWords = words, seen: list[tuple[int, int]] = seen) -> None:
            out = np.zeros(16, np.int64)
            for _ in range(12):
                seq = bookring.read_book(words, 0, 1, out)
                if seq > 0:
                    seen.append((seq, value_of(out, BOOK_SKIP)))

        machine.run(write, read, kill_after={0: machine.random.randrange(1, 220)} if kill else None)
        assert all(seq == 2 * value for seq, value in seen), (seed, seen)
        assert [s for s, _ in seen] == sorted(s for s, _ in seen), (seed, seen)
        copies += len(seen)
        published = int(words[bookring.book_offset(0, 1)])
        bookring.publish_book(words, 0, 1, record_of(published + 1, 16))  # a successor after whatever the dead left
        out = np.zeros(16, np.int64)
        assert bookring.read_book(words, 0, 1, out) == 2 * published + 2, seed
        assert value_of(out, BOOK_SKIP) == published + 1, seed
    assert copies > 100


@plain
def test_notices_are_read_in_order_or_lapped(monkeypatch: pytest.MonkeyPatch, small_books: int) -> None:
    laps = reads = 0
    for seed in range(120 * FACTOR):
        machine = Machine(seed)
        machine.patch(monkeypatch, bookring)
        words = SharedWords.zeros(small_books)
        bookring.init_feed(words, 0, 2)
        pattern = [0, 1, 1, 0, 1, 0, 0, 1, 1, 1, 0, 1]
        got: list[tuple[int, int]] = []
        lapped: list[int] = []

        def write(words: SharedWords = words, pattern: list[int] = pattern) -> None:
            for book in pattern:
                bookring._publish_notice(words, 0, book)

        def read(words: SharedWords = words, got: list[tuple[int, int]] = got, lapped: list[int] = lapped) -> None:
            out, cursor = np.zeros(2, np.int64), 0
            for _ in range(40):
                status = bookring.read_notice(words, 0, cursor, out)
                if status == bookring.NOTICE_ONE:
                    got.append((cursor, int(out[0])))
                    cursor = int(out[1])
                elif status == bookring.NOTICE_LAPPED:
                    lapped.append(cursor)
                    cursor = bookring.notice_tail(words, 0)

        machine.run(write, read)
        assert all(pattern[cursor] == book for cursor, book in got), (seed, got)
        laps, reads = laps + len(lapped), reads + len(got)
    assert laps > 10 and reads > 50


@plain
def test_no_notice_is_missed_when_its_writer_dies(monkeypatch: pytest.MonkeyPatch, small_books: int) -> None:
    """Whatever the dead writer leaves: every notice of its successor reaches the reader that follows all along."""
    monkeypatch.setattr(bookring, "NOTICE_CAPACITY", 8)
    monkeypatch.setattr(bookring, "_NOTICE_MASK", 7)
    for seed in range(150 * FACTOR):
        machine = Machine(seed)
        machine.patch(monkeypatch, bookring)
        words = SharedWords.zeros(small_books + 16)
        got: list[int] = []
        cursors = [0]

        def dies(words: SharedWords = words) -> None:
            bookring.init_feed(words, 0, 2)
            for _ in range(3):
                bookring._publish_notice(words, 0, 0)

        def successor(words: SharedWords = words) -> None:
            bookring.init_feed(words, 0, 2)
            for _ in range(2):
                bookring._publish_notice(words, 0, 1)

        def follow(words: SharedWords = words, got: list[int] = got, cursors: list[int] = cursors) -> None:
            out = np.zeros(2, np.int64)
            for _ in range(12):
                if bookring.read_notice(words, 0, cursors[0], out) == bookring.NOTICE_ONE:
                    got.append(int(out[0]))
                    cursors[0] = int(out[1])

        machine.run(dies, follow, kill_after={0: machine.random.randrange(60, 90)})
        machine.run(successor, follow)
        machine.run(follow)
        assert got == sorted(got) and got.count(1) == 2, (seed, got)


@plain
def test_proof_times_never_belong_to_another_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Generation g has frames at g * 1000; a proof of generation g is its own frame time, its receive time, or none."""
    proved = 0
    for seed in range(150 * FACTOR):
        machine = Machine(seed)
        machine.patch(monkeypatch, bookring)
        words = SharedWords.zeros(feed_segment_words(1))
        proofs: list[tuple[int, int]] = []

        def write(words: SharedWords = words) -> None:
            for generation in range(1, 5):
                assert bookring.conn_open(words, 0, 0, 0, 0) == generation
                bookring.conn_frame(words, 0, 0, generation * 1000)
                bookring.conn_close(words, 0, 0)

        def read(words: SharedWords = words, proofs: list[tuple[int, int]] = proofs) -> None:
            record = np.zeros(BOOK.WORDS, np.int64)
            for k in range(16):
                record[BOOK.conn_generation], record[BOOK.recv_mono_ns] = 1 + k % 4, (1 + k % 4) * 1000 - 1
                proofs.append((1 + k % 4, bookring.proof_mono_ns(words, 0, record)))

        machine.run(write, read)
        for generation, proof in proofs:
            assert proof in (0, generation * 1000 - 1, generation * 1000), (seed, generation, proof)
            proved += proof != 0
    assert proved > 10


def queue_pair(capacity: int = 2) -> tuple[SharedWords, SharedWords]:
    words = SharedWords.zeros(queue.queue_words(capacity, SLOT))
    queue.init_queue(words, 0, capacity, SLOT, 0)
    return words, SharedWords.zeros(CURSOR.END)


@plain
def test_queue_items_arrive_once_in_order_and_whole(monkeypatch: pytest.MonkeyPatch) -> None:
    arrived = refused = 0
    for seed in range(120 * FACTOR):
        machine = Machine(seed)
        machine.patch(monkeypatch, queue)
        words, cursor = queue_pair()
        sent: list[int] = []
        got: list[int] = []
        lossy: list[tuple[int, int]] = []

        def produce(words: SharedWords = words, cursor: SharedWords = cursor, sent: list[int] = sent) -> None:
            for value in range(1, 12):
                if queue.push(words, 0, cursor, 0, record_of(value, SLOT)):
                    sent.append(value)

        def consume(words: SharedWords = words, cursor: SharedWords = cursor, got: list[int] = got) -> None:
            out = np.zeros(SLOT, np.int64)
            for _ in range(16):
                if queue.pop(words, 0, cursor, 0, out):
                    got.append(value_of(out, (0,)))

        def watch(words: SharedWords = words, lossy: list[tuple[int, int]] = lossy) -> None:
            out, index = np.zeros(SLOT, np.int64), 0
            for _ in range(16):
                status = queue.read_at(words, 0, index, out)
                if status == 1:
                    lossy.append((index, value_of(out, (0,))))
                index += status != 0

        machine.run(produce, consume, watch)
        out = np.zeros(SLOT, np.int64)
        while queue.pop(words, 0, cursor, 0, out):
            got.append(value_of(out, (0,)))
        assert got == sent, seed
        assert all(sent[index] == value for index, value in lossy), (seed, lossy, sent)
        arrived, refused = arrived + len(got), refused + int(words[QUEUE.refused])
    assert arrived > 100 and refused > 10


@plain
def test_queue_survives_the_death_of_either_end_at_any_step(monkeypatch: pytest.MonkeyPatch) -> None:
    for seed in range(150 * FACTOR):
        machine = Machine(seed)
        machine.patch(monkeypatch, queue)
        words, cursor = queue_pair(4)
        accepted: list[int] = []
        got: list[int] = []

        def produce(words: SharedWords = words, cursor: SharedWords = cursor, done: list[int] = accepted) -> None:
            queue.recover_queue(words, 0)
            for _ in range(5):
                value = queue.load_relaxed(words, QUEUE.tail) + 1
                if queue.push(words, 0, cursor, 0, record_of(value, SLOT)):
                    done.append(value)

        def consume(words: SharedWords = words, cursor: SharedWords = cursor, got: list[int] = got) -> None:
            out = np.zeros(SLOT, np.int64)
            for _ in range(6):
                if queue.pop(words, 0, cursor, 0, out):
                    got.append(value_of(out, (0,)))

        for _ in range(4):  # lives
            dies = machine.random.choice((0, 1))
            machine.run(produce, consume, kill_after={dies: machine.random.randrange(1, 60)})
        machine.run(consume)
        # an item may arrive twice: taken, and its consumer killed before the cursor moved; nothing is skipped or torn
        assert -1 not in got, (seed, got)
        assert sorted(set(got)) == list(range(1, max(got, default=0) + 1)), (seed, got)
        assert set(accepted) <= set(got) | set(range(max(got, default=0) + 1, 100)), (seed, got, accepted)


@plain
def test_no_wake_up_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    rung_at_all = 0
    for seed in range(400 * FACTOR):
        machine = Machine(seed)
        machine.patch(monkeypatch, queue, wait)
        rings: list[int] = []
        monkeypatch.setattr(wait, "write_byte", lambda fd, words, i, rings=rings: rings.append(1))
        words, cursor = queue_pair(4)
        asleep: list[bool] = []

        def produce(words: SharedWords = words, cursor: SharedWords = cursor) -> None:
            queue.push(words, 0, cursor, 0, record_of(1, SLOT))
            wait.ring_if_sleeping(cursor, CURSOR.sleeping, 3)

        def consume(words: SharedWords = words, cursor: SharedWords = cursor, asleep: list[bool] = asleep) -> None:
            wait.prepare_park(cursor, CURSOR.sleeping)
            asleep.append(queue.is_empty(words, 0, cursor, 0))

        machine.run(produce, consume)
        assert not asleep[0] or rings, f"seed {seed}: it sleeps, the item is there, and nobody rang"
        rung_at_all += len(rings)
    assert rung_at_all > 20


@plain
@pytest.mark.parametrize("kill", [False, True], ids=["live", "killed"])
def test_page_rows_are_whole(monkeypatch: pytest.MonkeyPatch, kill: bool) -> None:
    monkeypatch.setattr(pages, "ROW_READ_ATTEMPTS", 20)
    whole = 0
    for seed in range(150 * FACTOR):
        machine = Machine(seed)
        machine.patch(monkeypatch, pages)
        words = SharedWords.zeros(8)
        got: list[int] = []

        def write(words: SharedWords = words) -> None:
            for value in range(1, 7):
                pages.write_row(words, 0, record_of(value, 8))

        def read(words: SharedWords = words, got: list[int] = got) -> None:
            out = np.zeros(8, np.int64)
            for _ in range(6):
                if pages.read_row(words, 0, out) > 0:
                    got.append(value_of(out, (0,)))

        machine.run(write, read, kill_after={0: machine.random.randrange(1, 60)} if kill else None)
        assert -1 not in got and got == sorted(got), (seed, got)
        whole += len(got)
        pages.write_row(words, 0, record_of(50, 8))
        out = np.zeros(8, np.int64)
        assert pages.read_row(words, 0, out) > 0 and value_of(out, (0,)) == 50, seed
    assert whole > 50


@plain
def test_lease_changes_hands_without_an_instant_of_two_holders(monkeypatch: pytest.MonkeyPatch) -> None:
    """While the guard moves the lease from 1 to 2, an executor that is told it may send is told so of its own token."""
    for seed in range(200 * FACTOR):
        machine = Machine(seed)
        machine.patch(monkeypatch, pages)
        page = pages.HaltPage.__new__(pages.HaltPage)
        page.words = SharedWords.zeros(HALT.END)
        page.words[HALT.lease_token], page.words[HALT.lease_expiry_mono_ns] = 1, 100
        verdicts: list[tuple[bool, bool]] = []

        def guard(page: pages.HaltPage = page) -> None:
            page.grant(2, 200)

        def executors(page: pages.HaltPage = page, verdicts: list[tuple[bool, bool]] = verdicts) -> None:
            for _ in range(6):
                new = pages.may_send(page.words, 0, 2, 50)
                verdicts.append((pages.may_send(page.words, 0, 1, 50), new))

        machine.run(guard, executors)
        assert (True, True) not in verdicts, seed
        newest = [new for _, new in verdicts]
        assert newest == sorted(newest), seed
        assert pages.may_send(page.words, 0, 2, 50) and not pages.may_send(page.words, 0, 1, 50)
