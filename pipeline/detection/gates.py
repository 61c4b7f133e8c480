"""The gates between an edge and an opportunity, in order. Each answers a ``Refusal`` code; 0 = passed.

Order: no book, gap, crossed, unproved, halted, writer dead, quiet unproved (age), skew, quarantined, status,
inventory, minimum, threshold, cooldown, own fill. A gate is asked of every leg before the next gate is asked of any.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.detection.state import (
    FD_ALIVE,
    FD_OFF,
    SE_MAX_AGE_NS,
    Memory,
    State,
)
from pipeline.detection.topology import (
    IN_BOOK,
    IN_FEED,
    IN_FLAGS,
    IN_KIND,
    IN_ROW_EPOCH,
    IN_STATUS,
    NO_FEED,
    Topology,
)
from pipeline.model.enums import InstrumentKind, Refusal, TradingStatus
from shm import layout as ly
from shm.atomics import fence_acquire, load_relaxed
from shm.bookring import newest_offset, proof_mono_ns, read_book
from shm.jit import njit
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


@njit
def read_leg(memory: Memory, topology: Topology, state: State, instrument: int, leg: int) -> int:
    """Copies the instrument's newest book to ``state.records[leg]`` and its proof time to ``state.proofs[leg]``.

    A proof that arrives after the copy may be of a newer book: the proof counts only if the copy is still the newest
    after it was read; otherwise once more, and in the end only the record's own receive time proves it.
    Returns read_book's status: > 0, 0 = no book, -1 = torn.
    """
    feed = topology.instruments[instrument, IN_FEED]
    offset = state.feeds[feed, FD_OFF]
    state.proofs[leg] = 0
    if offset == NO_FEED:
        return 0
    book = topology.instruments[instrument, IN_BOOK]
    record = state.records[leg]
    status = 0
    for _ in range(PROVED_READS):
        status = read_book(memory.feeds, offset, book, record)
        if status <= 0:
            return status
        proof = proof_mono_ns(memory.feeds, offset, record)
        fence_acquire()
        newest = newest_offset(memory.feeds, offset, book)
        if load_relaxed(memory.feeds, newest + ly.BR_SEQ) == status:
            state.proofs[leg] = proof
            return status
        state.proofs[leg] = min(proof, record[ly.BR_RECV_MONO_NS])
    return status


@njit
def book_gate(
    memory: Memory, topology: Topology, state: State, instrument: int, leg: int, status: int, now_ns: int
) -> int:
    """First of the book's own gates that fails (no book ... quiet unproved), or 0."""
    if status == -1:
        return TORN
    if status == 0:
        return NO_BOOK
    record = state.records[leg]
    flags = record[ly.BR_FLAGS]
    if flags & ly.FLAG_GAP:
        return GAP
    if flags & ly.FLAG_CROSSED:
        return CROSSED
    if flags & ly.FLAG_UNPROVED:
        return UNPROVED
    if flags & ly.FLAG_HALTED or record[ly.BR_ROW_EPOCH] != topology.instruments[instrument, IN_ROW_EPOCH]:
        return HALTED
    feed = state.feeds[topology.instruments[instrument, IN_FEED]]
    epoch = load_relaxed(memory.feeds, feed[FD_OFF] + ly.SEG_EPOCH)
    if feed[FD_ALIVE] == 0 or record[ly.BR_WRITER_EPOCH] != epoch:
        return WRITER_DEAD
    if state.proofs[leg] == 0:
        return UNPROVED
    if now_ns - state.proofs[leg] > state.settings[SE_MAX_AGE_NS]:
        return QUIET_UNPROVED
    return 0


@njit
def first_gate(a: int, b: int) -> int:
    """The earlier gate of two legs; 0 = passed. A torn read says nothing of any gate, so it comes first."""
    if a == TORN or b == TORN:
        return TORN
    if a == 0:
        return b
    if b == 0:
        return a
    return min(a, b)


@njit
def status_gate(topology: Topology, instrument: int, side: int) -> int:
    """Whether the venue takes this side and, for a spot leg, the coin can be moved in and out of the venue."""
    row = topology.instruments[instrument]
    status = row[IN_STATUS]
    if status != TRADING and not (status == BUY_ONLY and side > 0) and not (status == SELL_ONLY and side < 0):
        return STATUS
    if row[IN_KIND] == SPOT and row[IN_FLAGS] & WALLET_OPEN != WALLET_OPEN:
        return STATUS
    return 0


@njit
def read_inventory(inventory: Words, instrument: int, out: Words) -> bool:
    """Copies one inventory row; False = never written or its writer died in it, which counts as blocked."""
    return read_row(inventory, ly.INV_ROWS_OFF + instrument * ly.INVENTORY_ROW_WORDS, out) > 0
