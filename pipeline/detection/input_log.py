"""What the detector saw, so that the same kernels can be run on it again: every outside word that decides something.

A kernel reads the world in few places: a notice and the best prices behind it, whole books with their proofs, inventory
rows, the clock, the executor's reports, whether the queue took a record. While ``INPUT_LOG.mode`` is ``RECORDING``,
each of them appends an entry to a section of the detector's memory, in the order of reading; while it is ``REPLAYING``,
each takes its entry from there instead (``input_replay``), so that everything that is computed from them comes out
again bit for bit. A book and an inventory row stand in the log once, when they are first read as they are.

An entry: | kind, words << 8 | ... |, of the kinds below. Off, it costs a load and a branch at each place.
"""

# Kernels: words of an array are int64 to numba, Any to mypy.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from pipeline.detection.memory import DETECTOR_THREAD, INPUT_LOG, SEEN
from shm.declare import Table, word, words_of
from shm.jit import njit_bare
from shm.layout import BOOK, OPPORTUNITY
from shm.layout_pages import INVENTORY_ROW
from shm.words import Words

# modes
OFF = 0
RECORDING = 1
REPLAYING = 2

# kinds
NOTICE = 1
TOPS = 2
SWEEP = 3
READ = 4
STOCK = 5
NOW = 6
RECHECK = 7
RECHECKED = 8
REPORTED = 9
NOT_PUSHED = 10
PUSHED = 11
CHANGE = 12

KIND_BITS = 8
KIND_MASK = (1 << KIND_BITS) - 1


class NoticeEntry(Table, words=8, writer=DETECTOR_THREAD):
    """A notice that was looked at: its book's best prices went into the tops, and what they may have changed was
    evaluated; ``TOPS`` is the same of one book in a sweep, which is evaluated with ``SWEEP``.

    | entry | instrument | book_seq | top_bid | top_ask | recv_ns | publish_ns | scan_ns |
    """

    entry = word("kind and length")
    instrument = word("row of the catalogue")
    book_seq = word("of the record that was read")
    top_bid = word("as the screen takes it", unit="bits of a float64")
    top_ask = word("as the screen takes it", unit="bits of a float64")
    recv_ns = word("when its frame was received", unit="ns of the monotonic clock")
    publish_ns = word("when it was published", unit="ns of the monotonic clock")
    scan_ns = word("when it was looked at", unit="ns of the monotonic clock")


NOTICE_ENTRY = NoticeEntry()


class ReadEntry(Table, words=8, writer=DETECTOR_THREAD):
    """A book that was read whole for a leg. Where it differs from the last one read, the record follows.

    | entry | instrument | leg | status | proof_mono_ns | epoch | 0 | 0 |
    """

    entry = word("kind and length")
    instrument = word("row of the catalogue")
    leg = word("0, 1 or 2")
    status = word("of read_book: > 0, 0 = no book, -1 = torn")
    proof_mono_ns = word("when it was proved current", unit="ns of the monotonic clock")
    epoch = word("of the feed's segment at that moment")


READ_ENTRY = ReadEntry()


class StockEntry(Table, words=3 + INVENTORY_ROW.WORDS, writer=DETECTOR_THREAD):
    """An inventory row that is other than when it was last read.

    | entry | instrument | usable | row[8] |
    """

    entry = word("kind and length")
    instrument = word("row of the catalogue")
    usable = word("1 = it may be traded on")
    row = words_of(INVENTORY_ROW.WORDS, "INVENTORY_ROW")


STOCK_ENTRY = StockEntry()


@njit_bare
def append(mem: Words, kind: int, words: int) -> int:
    """Word of a new entry of ``words`` words, its first one written; -1 = not recording, or no room (counted)."""
    if mem[INPUT_LOG.mode] != RECORDING:
        return -1
    at = mem[INPUT_LOG.at]
    if at + words > mem[INPUT_LOG.end]:
        mem[INPUT_LOG.missed] += 1
        return -1
    mem[INPUT_LOG.at] = at + words
    mem[at] = kind | words << KIND_BITS
    return at


@njit_bare
def is_next(mem: Words, kind: int) -> bool:
    """Whether the entry that follows is of this kind (replay)."""
    at = mem[INPUT_LOG.at]
    return at < mem[INPUT_LOG.end] and mem[at] & KIND_MASK == kind


@njit_bare
def take(mem: Words, kind: int) -> int:
    """Word of the entry that follows, which must be of this kind; -1 = it is not: the replay has gone another way."""
    if mem[INPUT_LOG.fault] != 0 or not is_next(mem, kind):
        if mem[INPUT_LOG.fault] == 0:
            mem[INPUT_LOG.fault] = kind
            mem[INPUT_LOG.fault_at] = mem[INPUT_LOG.at]
        return -1
    at = mem[INPUT_LOG.at]
    mem[INPUT_LOG.at] = at + (mem[at] >> KIND_BITS)
    return at


@njit_bare
def fail(mem: Words, kind: int) -> None:
    """The entry that was taken is of something else than what is computed here."""
    if mem[INPUT_LOG.fault] == 0:
        mem[INPUT_LOG.fault] = kind
        mem[INPUT_LOG.fault_at] = mem[INPUT_LOG.at]


@njit_bare
def seen_row(mem: Words, instrument: int) -> int:
    """Word of what was last read of an instrument."""
    return mem[INPUT_LOG.seen_off] + instrument * SEEN.WORDS


@njit_bare
def note_read(mem: Words, instrument: int, leg: int, status: int, record: int, proof_ns: int, epoch: int) -> None:
    """Recording: a book was read to word ``record``."""
    mem[INPUT_LOG.epochs + leg] = epoch
    seen = seen_row(mem, instrument) + SEEN.book
    fresh = status > 0 and (
        mem[seen + BOOK.seq] != mem[record + BOOK.seq]
        or mem[seen + BOOK.writer_epoch] != mem[record + BOOK.writer_epoch]
    )
    at = append(mem, READ, READ_ENTRY.WORDS + (BOOK.WORDS if fresh else 0))
    if at < 0:
        return
    mem[at + READ_ENTRY.instrument] = instrument
    mem[at + READ_ENTRY.leg] = leg
    mem[at + READ_ENTRY.status] = status
    mem[at + READ_ENTRY.proof_mono_ns] = proof_ns
    mem[at + READ_ENTRY.epoch] = epoch
    if fresh:
        for k in range(BOOK.WORDS):
            mem[at + READ_ENTRY.WORDS + k] = mem[record + k]
            mem[seen + k] = mem[record + k]


@njit_bare
def take_read(mem: Words, instrument: int, leg: int, record: int, proof: int) -> int:
    """Replay: the book to word ``record``, its proof to word ``proof``; the status, as it was."""
    at = take(mem, READ)
    if at < 0:
        return 0
    if mem[at + READ_ENTRY.instrument] != instrument or mem[at + READ_ENTRY.leg] != leg:
        fail(mem, READ)
        return 0
    mem[INPUT_LOG.epochs + leg] = mem[at + READ_ENTRY.epoch]
    mem[proof] = mem[at + READ_ENTRY.proof_mono_ns]
    seen = seen_row(mem, instrument) + SEEN.book
    if mem[at] >> KIND_BITS > READ_ENTRY.WORDS:
        for k in range(BOOK.WORDS):
            mem[seen + k] = mem[at + READ_ENTRY.WORDS + k]
    if mem[at + READ_ENTRY.status] > 0:
        for k in range(BOOK.WORDS):
            mem[record + k] = mem[seen + k]
    return mem[at + READ_ENTRY.status]


@njit_bare
def note_stock(mem: Words, instrument: int, usable: bool, row: int) -> None:
    """Recording: an inventory row was read to word ``row``."""
    seen = seen_row(mem, instrument)
    same = mem[seen + SEEN.usable] == (1 if usable else 0) and mem[seen + SEEN.known] == 1
    for k in range(INVENTORY_ROW.WORDS):
        same = same and mem[seen + SEEN.stock + k] == mem[row + k]
    if same:
        return
    at = append(mem, STOCK, STOCK_ENTRY.WORDS)
    if at < 0:
        return
    mem[at + STOCK_ENTRY.instrument] = instrument
    mem[at + STOCK_ENTRY.usable] = 1 if usable else 0
    mem[seen + SEEN.usable] = mem[at + STOCK_ENTRY.usable]
    mem[seen + SEEN.known] = 1
    for k in range(INVENTORY_ROW.WORDS):
        mem[at + STOCK_ENTRY.row + k] = mem[row + k]
        mem[seen + SEEN.stock + k] = mem[row + k]


@njit_bare
def take_stock(mem: Words, instrument: int, row: int) -> bool:
    """Replay: the inventory row to word ``row``; whether it may be traded on, as it was."""
    seen = seen_row(mem, instrument)
    if is_next(mem, STOCK) and mem[mem[INPUT_LOG.at] + STOCK_ENTRY.instrument] == instrument:
        at = take(mem, STOCK)
        mem[seen + SEEN.usable] = mem[at + STOCK_ENTRY.usable]
        mem[seen + SEEN.known] = 1
        for k in range(INVENTORY_ROW.WORDS):
            mem[seen + SEEN.stock + k] = mem[at + STOCK_ENTRY.row + k]
    if mem[seen + SEEN.known] == 0:
        fail(mem, STOCK)
    for k in range(INVENTORY_ROW.WORDS):
        mem[row + k] = mem[seen + SEEN.stock + k]
    return mem[seen + SEEN.usable] == 1


@njit_bare
def note_one(mem: Words, kind: int, value: int) -> None:
    """Recording: an entry of one word."""
    at = append(mem, kind, 2)
    if at >= 0:
        mem[at + 1] = value


@njit_bare
def note_three(mem: Words, kind: int, first: int, second: int, third: int) -> None:
    """Recording: an entry of three words."""
    at = append(mem, kind, 4)
    if at >= 0:
        mem[at + 1] = first
        mem[at + 2] = second
        mem[at + 3] = third


@njit_bare
def log_pushed(mem: Words, record: Words) -> None:
    """Recording: a record that the queue took, as it was pushed."""
    at = append(mem, PUSHED, 1 + OPPORTUNITY.WORDS)
    if at >= 0:
        for k in range(OPPORTUNITY.WORDS):
            mem[at + 1 + k] = record[k]


@njit_bare
def take_pushed(mem: Words, record: Words) -> bool:
    """Replay: whether the queue took the record; one that differs in any bit from what was pushed is counted."""
    if is_next(mem, NOT_PUSHED):
        take(mem, NOT_PUSHED)
        return False
    at = take(mem, PUSHED)
    if at >= 0:
        same = True
        for k in range(OPPORTUNITY.WORDS):
            same = same and mem[at + 1 + k] == record[k]
        if same:
            mem[INPUT_LOG.equal] += 1
        else:
            mem[INPUT_LOG.unequal] += 1
    return True
