"""The detector's gates of one book and one venue. Each answers a ``Refusal`` code; 0 = passed.

Here: torn, no_book, gap, crossed, unproved, halted, writer_dead, quiet_unproved (``book_gate``) and status
(``status_gate``). ``cross_venue.py`` and ``triangular.py`` ask all of them in order, with those of a whole opportunity:
skew, quarantined, (status,) inventory, below_minimum, below_threshold, cooldown, not_after_own_fill; last
below_min_profit (``publish.profit_gate``), and queue_full where the record cannot be pushed (``publish.send_held``). A
gate is asked of every leg before the next gate is asked of any. ``arb inspect book`` says the gates of one book in
sentences (``workers/view/book_verdict.py``). The executor judges again, on books read again: ``execution/plan.py``,
``risk/gate.py``, ``risk/last_look.py``.
"""

# Kernels: words of an array are int64 to numba, Any to mypy.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from pipeline.detection.input_log import OFF, REPLAYING, note_read, note_stock, take_read, take_stock
from pipeline.detection.memory import DETECTOR, DETECTOR_SETTINGS, FEED_READER, INPUT_LOG
from pipeline.detection.topology import INSTRUMENT, NO_FEED
from pipeline.model.enums import InstrumentKind, Refusal, TradingStatus
from shm.atomics import fence_acquire, load_relaxed
from shm.bookring import newest_offset, proof_mono_ns, read_book
from shm.jit import njit_bare
from shm.layout import BOOK, FLAG_CROSSED, FLAG_GAP, FLAG_HALTED, FLAG_UNPROVED, HEADER
from shm.layout_pages import CAT_FLAG_DEPOSIT, CAT_FLAG_ENDING, CAT_FLAG_WITHDRAW, INVENTORY, INVENTORY_ROW
from shm.pages import read_row
from shm.words import Words

NO_BOOK = int(Refusal.NO_BOOK)
GAP = int(Refusal.GAP)
CROSSED = int(Refusal.CROSSED)
UNPROVED = int(Refusal.UNPROVED)
HALTED = int(Refusal.HALTED)
WRITER_DEAD = int(Refusal.WRITER_DEAD)
QUIET_UNPROVED = int(Refusal.QUIET_UNPROVED)
STATUS = int(Refusal.STATUS)
TORN = int(Refusal.TORN)
SPOT = int(InstrumentKind.SPOT)
TRADING = int(TradingStatus.TRADING)
BUY_ONLY = int(TradingStatus.BUY_ONLY)
SELL_ONLY = int(TradingStatus.SELL_ONLY)

WALLET_OPEN = CAT_FLAG_DEPOSIT | CAT_FLAG_WITHDRAW
PROVED_READS = 4  # copies tried until book and proof belong together


@njit_bare
def instrument_row(mem: Words, instrument: int) -> int:
    """Word of the instrument's columns."""
    return mem[DETECTOR.instruments_off] + instrument * INSTRUMENT.WORDS


@njit_bare
def record_at(leg: int) -> int:
    """Word of the copy of a leg's book."""
    return DETECTOR.records + leg * BOOK.WORDS


@njit_bare
def read_leg(words: Words, mem: Words, instrument: int, leg: int) -> int:
    """The instrument's newest book to the leg's record and its proof time to ``DETECTOR.proofs + leg``, from the books
    or, in a replay of what the detector read, from its log. Returns read_book's status."""
    mode = mem[INPUT_LOG.mode]
    if mode == REPLAYING:
        return take_read(mem, instrument, leg, record_at(leg), DETECTOR.proofs + leg)
    status = read_newest(words, mem, instrument, leg)
    if mode != OFF:
        row = mem[DETECTOR.feeds_off] + mem[instrument_row(mem, instrument) + INSTRUMENT.feed] * FEED_READER.WORDS
        offset = mem[row + FEED_READER.feed_off]
        epoch = load_relaxed(words, offset + HEADER.epoch) if offset != NO_FEED else 0
        note_read(mem, instrument, leg, status, record_at(leg), mem[DETECTOR.proofs + leg], epoch)
    return status


@njit_bare
def read_newest(words: Words, mem: Words, instrument: int, leg: int) -> int:
    """Copies the instrument's newest book to the leg's record and its proof time to ``DETECTOR.proofs + leg``.

    A proof that arrives after the copy may be of a newer book: the proof counts only if the copy is still the newest
    after it was read; otherwise once more, and in the end only the record's own receive time proves it.
    Returns read_book's status: > 0, 0 = no book, -1 = torn.
    """
    row = instrument_row(mem, instrument)
    offset = mem[mem[DETECTOR.feeds_off] + mem[row + INSTRUMENT.feed] * FEED_READER.WORDS + FEED_READER.feed_off]
    mem[DETECTOR.proofs + leg] = 0
    if offset == NO_FEED:
        return 0
    book = mem[row + INSTRUMENT.book]
    at = record_at(leg)
    record = mem[at : at + BOOK.WORDS]
    status = 0
    for _ in range(PROVED_READS):
        status = read_book(words, offset, book, record)
        if status <= 0:
            return status
        proof = proof_mono_ns(words, offset, record)
        fence_acquire()  # SYNC book.seq: the proof is read before the newest record is looked for
        newest = newest_offset(words, offset, book)
        if load_relaxed(words, newest + BOOK.seq) == status:
            mem[DETECTOR.proofs + leg] = proof
            return status
        mem[DETECTOR.proofs + leg] = min(proof, record[BOOK.recv_mono_ns])
    return status


@njit_bare
def book_gate(words: Words, mem: Words, instrument: int, leg: int, status: int, now_ns: int) -> int:
    """First of the book's own gates that fails (no book ... quiet unproved), or 0."""
    if status == -1:
        return TORN
    record = record_at(leg)
    if status == 0 or mem[record + BOOK.instrument] != instrument:  # its feed goes by an earlier catalogue
        return NO_BOOK
    row = instrument_row(mem, instrument)
    flags = mem[record + BOOK.flags]
    if flags & FLAG_GAP:
        return GAP
    if flags & FLAG_CROSSED:
        return CROSSED
    if flags & FLAG_UNPROVED:
        return UNPROVED
    if flags & FLAG_HALTED or mem[record + BOOK.row_epoch] != mem[row + INSTRUMENT.row_epoch]:
        return HALTED
    feed = mem[DETECTOR.feeds_off] + mem[row + INSTRUMENT.feed] * FEED_READER.WORDS
    if mem[INPUT_LOG.mode] != OFF:  # the one that was read with the book, so that a replay judges alike
        epoch = mem[INPUT_LOG.epochs + leg]
    else:
        epoch = load_relaxed(words, mem[feed + FEED_READER.feed_off] + HEADER.epoch)
    if mem[feed + FEED_READER.alive] == 0 or mem[record + BOOK.writer_epoch] != epoch:
        return WRITER_DEAD
    if mem[DETECTOR.proofs + leg] == 0:
        return UNPROVED
    if now_ns - mem[DETECTOR.proofs + leg] > mem[DETECTOR_SETTINGS.max_age_ns]:
        return QUIET_UNPROVED
    return 0


@njit_bare
def first_gate(a: int, b: int) -> int:
    """The earlier gate of two legs; 0 = passed. A torn read says nothing of any gate, so it comes first."""
    if a == TORN or b == TORN:
        return TORN
    if a == 0:
        return b
    if b == 0:
        return a
    return min(a, b)


@njit_bare
def status_gate(mem: Words, instrument: int, side: int) -> int:
    """Whether the venue takes this side, for long enough, and, for a spot leg, lets the coin in and out."""
    row = instrument_row(mem, instrument)
    status = mem[row + INSTRUMENT.status]
    if status != TRADING and not (status == BUY_ONLY and side > 0) and not (status == SELL_ONLY and side < 0):
        return STATUS
    if mem[row + INSTRUMENT.flags] & CAT_FLAG_ENDING:
        return STATUS
    if mem[row + INSTRUMENT.kind] == SPOT and mem[row + INSTRUMENT.flags] & WALLET_OPEN != WALLET_OPEN:
        return STATUS
    return 0


@njit_bare
def read_inventory(inventory: Words, mem: Words, instrument: int, at: int) -> bool:
    """Copies one inventory row to word ``at``; False = blocked: not tradable, never written, or torn by a death."""
    if mem[INPUT_LOG.mode] == REPLAYING:
        return take_stock(mem, instrument, at)
    out = mem[at : at + INVENTORY_ROW.WORDS]
    usable = (
        read_row(inventory, INVENTORY.rows + instrument * INVENTORY_ROW.WORDS, out) > 0
        and mem[at + INVENTORY_ROW.state] == 1
    )
    if mem[INPUT_LOG.mode] != OFF:
        note_stock(mem, instrument, usable, at)
    return usable
