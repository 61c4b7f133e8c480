"""The gates between an edge and an opportunity, in order. Each answers a ``Refusal`` code; 0 = passed.

Order: no book, gap, crossed, unproved, halted, writer dead, quiet unproved (age), skew, quarantined, status,
inventory, minimum, threshold, cooldown, own fill. A gate is asked of every leg before the next gate is asked of any.
"""

# Kernels: words of an array are int64 to numba, Any to mypy.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.detection.memory import (
    FD_ALIVE,
    FD_OFF,
    FD_WORDS,
    H_FEEDS,
    H_INSTRUMENTS,
    PROOFS,
    RECORDS,
    SE_MAX_AGE_NS,
)
from pipeline.detection.topology import (
    IN_BOOK,
    IN_FEED,
    IN_FLAGS,
    IN_KIND,
    IN_ROW_EPOCH,
    IN_STATUS,
    IN_WORDS,
    NO_FEED,
)
from pipeline.model.enums import InstrumentKind, Refusal, TradingStatus
from shm import layout as ly
from shm.atomics import fence_acquire, load_relaxed
from shm.bookring import newest_offset, proof_mono_ns, read_book
from shm.jit import njit_bare
from shm.pages import read_row

Words = npt.NDArray[np.int64]

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

WALLET_OPEN = ly.CAT_FLAG_DEPOSIT | ly.CAT_FLAG_WITHDRAW
PROVED_READS = 4  # copies tried until book and proof belong together


@njit_bare
def instrument_row(mem: Words, instrument: int) -> int:
    """Word of the instrument's columns."""
    return mem[H_INSTRUMENTS] + instrument * IN_WORDS


@njit_bare
def record_at(leg: int) -> int:
    """Word of the copy of a leg's book."""
    return RECORDS + leg * ly.BOOK_RECORD_WORDS


@njit_bare
def read_leg(words: Words, mem: Words, instrument: int, leg: int) -> int:
    """Copies the instrument's newest book to the leg's record and its proof time to ``PROOFS + leg``.

    A proof that arrives after the copy may be of a newer book: the proof counts only if the copy is still the newest
    after it was read; otherwise once more, and in the end only the record's own receive time proves it.
    Returns read_book's status: > 0, 0 = no book, -1 = torn.
    """
    row = instrument_row(mem, instrument)
    offset = mem[mem[H_FEEDS] + mem[row + IN_FEED] * FD_WORDS + FD_OFF]
    mem[PROOFS + leg] = 0
    if offset == NO_FEED:
        return 0
    book = mem[row + IN_BOOK]
    at = record_at(leg)
    record = mem[at : at + ly.BOOK_RECORD_WORDS]
    status = 0
    for _ in range(PROVED_READS):
        status = read_book(words, offset, book, record)
        if status <= 0:
            return status
        proof = proof_mono_ns(words, offset, record)
        fence_acquire()
        newest = newest_offset(words, offset, book)
        if load_relaxed(words, newest + ly.BR_SEQ) == status:
            mem[PROOFS + leg] = proof
            return status
        mem[PROOFS + leg] = min(proof, record[ly.BR_RECV_MONO_NS])
    return status


@njit_bare
def book_gate(words: Words, mem: Words, instrument: int, leg: int, status: int, now_ns: int) -> int:
    """First of the book's own gates that fails (no book ... quiet unproved), or 0."""
    if status == -1:
        return TORN
    if status == 0:
        return NO_BOOK
    record = record_at(leg)
    row = instrument_row(mem, instrument)
    flags = mem[record + ly.BR_FLAGS]
    if flags & ly.FLAG_GAP:
        return GAP
    if flags & ly.FLAG_CROSSED:
        return CROSSED
    if flags & ly.FLAG_UNPROVED:
        return UNPROVED
    if flags & ly.FLAG_HALTED or mem[record + ly.BR_ROW_EPOCH] != mem[row + IN_ROW_EPOCH]:
        return HALTED
    feed = mem[H_FEEDS] + mem[row + IN_FEED] * FD_WORDS
    epoch = load_relaxed(words, mem[feed + FD_OFF] + ly.SEG_EPOCH)
    if mem[feed + FD_ALIVE] == 0 or mem[record + ly.BR_WRITER_EPOCH] != epoch:
        return WRITER_DEAD
    if mem[PROOFS + leg] == 0:
        return UNPROVED
    if now_ns - mem[PROOFS + leg] > mem[SE_MAX_AGE_NS]:
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
    """Whether the venue takes this side and, for a spot leg, the coin can be moved in and out of the venue."""
    row = instrument_row(mem, instrument)
    status = mem[row + IN_STATUS]
    if status != TRADING and not (status == BUY_ONLY and side > 0) and not (status == SELL_ONLY and side < 0):
        return STATUS
    if mem[row + IN_KIND] == SPOT and mem[row + IN_FLAGS] & WALLET_OPEN != WALLET_OPEN:
        return STATUS
    return 0


@njit_bare
def read_inventory(inventory: Words, mem: Words, instrument: int, at: int) -> bool:
    """Copies one inventory row to word ``at``; False = blocked: not tradable, never written, or torn by a death."""
    out = mem[at : at + ly.INVENTORY_ROW_WORDS]
    if read_row(inventory, ly.INV_ROWS_OFF + instrument * ly.INVENTORY_ROW_WORDS, out) <= 0:
        return False
    return mem[at + ly.IR_STATE] == 1
