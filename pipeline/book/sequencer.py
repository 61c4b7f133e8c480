"""When an update may touch a book: gap detection and resync of every venue, rules as data.

An update covers the ids ``first .. last`` (absolute quantities), a snapshot stands at id ``L``::

            +----------- gap, crossed, contradicted, rejected, connection lost ------------+
            v                                                                              |
    EMPTY -> WAITING --snapshot--> ALIGNING --first update that reaches back to L--> LIVE -+
             (buffers)  ^              |
                        +-- the update begins after L (snapshot too old: fetch again)

===============  ===================  ==========================  ==============================================
venue            dropped              first applied               then
===============  ===================  ==========================  ==============================================
Binance spot     u <= L               U <= L+1 <= u               U == local+1; u <= local is old; U > local+1 gap
Binance USDM     u < L                U <= L <= u (pu <= L)       pu == local; u <= local is old
Gate.io          u < L+1              U <= L+1 <= u               U == local+1; ``full`` replaces the book
MEXC             toVersion < L        fromVersion <= L+1          fromVersion == local+1
===============  ===================  ==========================  ==============================================

Source: the venues' documentation of local order books (read 2026). Choices where it is silent:

* USDM: ``pu <= L`` instead of ``U <= L``. Ids are shared by all symbols, and an update holds everything after ``pu``;
  so nothing of this symbol lies between ``pu`` and ``U``, and every ``U <= L`` has ``pu < L`` too.
* An update that begins at or below the local id and ends above it: Binance spot and Gate.io only call ``U > local+1`` a
  gap, quantities are absolute, so it is applied; MEXC and USDM demand equality, so it is a gap.
* An update that is old by its id on a live book, later than the book by the venue's time, and of an id that the book
  had passed ``OVERLAP_NS`` ago is a restart of the venue's numbering: a gap at once (a whole book is taken as it is).
  Two connections that overlap bring every update twice, with its time, and never from so far back.
* ``OLD_RUN_MAX`` old updates in a row on a live book are the same, where the venue names no time or a later one than
  the book's. Others are the backlog of a connection that stalled while another one went on. An old update proves no
  book; one that is later by ``CONTRADICTS_MS`` unproves its own.
"""

from __future__ import annotations

from dataclasses import dataclass

from pipeline.book.memory import (
    BOOK_ROW,
    BOOKS,
    LINK_FIRST,
    LINK_PREVIOUS,
    STATE_ALIGNING,
)
from shm.jit import njit_bare as njit
from shm.words import Words

APPLY = 0
OLD = 1
GAP = 2
WAIT = 3


@dataclass(frozen=True, slots=True, kw_only=True)
class SequenceRule:
    """One venue's rule; see the table above. Offsets are added to the snapshot's id. Written down in the
    ``feed_codec.py`` of each dialect."""

    link: int = LINK_FIRST
    drop_offset: int
    first_offset: int
    overlap: bool
    ticker: int
    deep: bool  # updates come from any depth, not from a view that the snapshot holds whole

    def write(self, mem: Words) -> None:
        """Puts the rule into the head of a memory of BOOKS."""
        mem[BOOKS.link] = self.link
        mem[BOOKS.drop_offset] = self.drop_offset
        mem[BOOKS.first_offset] = self.first_offset
        mem[BOOKS.overlap] = int(self.overlap)
        mem[BOOKS.ticker_rule] = self.ticker
        mem[BOOKS.deep] = int(self.deep)


@njit
def judge(mem: Words, book: int, first: int, last: int, previous: int) -> int:
    """What to do with an update: ``APPLY``, ``OLD`` (drop), ``GAP`` or ``WAIT`` (buffer). Changes nothing.

    ``book`` is the word offset of the book's row; ``previous`` counts only under ``LINK_PREVIOUS``.
    """
    state = mem[book + BOOK_ROW.state]
    if state < STATE_ALIGNING:
        return WAIT
    local = mem[book + BOOK_ROW.update_id]
    linked = mem[BOOKS.link] == LINK_PREVIOUS
    if state == STATE_ALIGNING:
        if last < local + mem[BOOKS.drop_offset]:
            return OLD
        if linked:
            return APPLY if previous <= local else GAP
        return APPLY if first <= local + mem[BOOKS.first_offset] else GAP
    if last <= local:
        return OLD
    if linked:
        return APPLY if previous == local else GAP
    if first == local + 1:
        return APPLY
    return APPLY if first <= local and mem[BOOKS.overlap] else GAP
