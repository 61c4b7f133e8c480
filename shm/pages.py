"""Pages: rows and single words that one process writes and any number read.

Rows are seqlocks: word 0 is odd while the row is written. They change rarely (a REST sweep, a fill, a configuration),
so that a single slot does not starve readers; books, which change all the time, have rings (bookring).

A writer killed in the middle of a row leaves it odd: readers get ``TORN`` after a bounded number of attempts and treat
the row as no data; the next owner's first write of that row heals it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Self

import numpy as np

from shm.atomics import (
    cpu_pause,
    fence_acquire,
    fence_release,
    load_acquire,
    load_relaxed,
    store_relaxed,
    store_release,
    wrap_add,
)
from shm.errors import ShmError
from shm.jit import njit
from shm.layout_pages import (
    ACCOUNT,
    ACCOUNT_BALANCE,
    ACCOUNT_FAULT,
    ACCOUNT_FAULT_WORDS,
    ACCOUNT_POSITION,
    ACCOUNT_VENUE,
    BALANCE_CAPACITY,
    CATALOGUE,
    CATALOGUE_CAPACITY,
    CATALOGUE_ROW,
    EXIT_CAPACITY,
    EXIT_ROW,
    FEE_COIN_WORDS,
    HALT,
    HALT_REASON_WORDS,
    INVENTORY,
    INVENTORY_PRICE,
    INVENTORY_ROW,
    POSITION_CAPACITY,
    PRICE_CAPACITY,
    VENUE_CAPACITY,
)
from shm.segment import Arena, Segment, attach_arena, segment_name
from shm.words import Words, pack_text, unpack_text

ROW_READ_ATTEMPTS = 1000  # with a pause each, some 10 us: far longer than a live writer is inside a row
ROW_TORN = -1


@njit
def write_row(words: Words, row_off: int, values: Words) -> None:
    """Writes ``values[1:]`` into the seqlock row at word ``row_off`` (int64, as long as the row's table); ``values[0]``
    is ignored, the row's seq grows by 2 (or heals an odd one)."""
    seq = load_relaxed(words, row_off) | 1
    store_relaxed(words, row_off, seq)
    fence_release()  # SYNC row.seq: odd before any word of the row; pairs with fence_acquire in read_row
    for k in range(1, len(values)):
        store_relaxed(words, row_off + k, values[k])
    store_release(words, row_off, wrap_add(seq, 1))  # SYNC row.seq: release; pairs with the acquire in read_row


@njit
def read_row(words: Words, row_off: int, out: Words) -> int:
    """Copies ``len(out)`` int64 words of the seqlock row at word ``row_off``: its seq (even; 0 = never written), or
    ``ROW_TORN``."""
    for _ in range(ROW_READ_ATTEMPTS):
        seq = load_acquire(words, row_off)  # SYNC row.seq: acquire; pairs with write_row
        if seq & 1 == 0:
            for k in range(1, len(out)):
                out[k] = load_relaxed(words, row_off + k)
            fence_acquire()  # SYNC row.seq: the copy is done before seq is read again
            if load_relaxed(words, row_off) == seq:
                out[0] = seq
                return seq
        cpu_pause()
    return ROW_TORN


@njit
def may_send(words: Words, off: int, token: int, now_mono_ns: int) -> bool:
    """Whether the HALT page at word ``off`` is not latched, and the guard's lease is granted to ``token`` and not over:
    checked before each send."""
    # SYNC halt.lease: acquire; pairs with HaltPage.grant: who sees an expiry sees the token that it is for
    expiry = load_acquire(words, off + HALT.lease_expiry_mono_ns)
    if load_acquire(words, off + HALT.lease_token) != token or now_mono_ns >= expiry:
        return False
    # The expiry may have been the lease of the token before, which was revoked between the two loads.
    if load_relaxed(words, off + HALT.lease_expiry_mono_ns) != expiry:
        return False
    return load_acquire(words, off + HALT.latch) == 0  # SYNC halt.latch: acquire; pairs with HaltPage.latch


class Page:
    """A segment of one kind with fixed size: created by its writer, attached read-only by everybody else."""

    KIND = 0
    WORDS = 0
    WHAT = ""

    def __init__(self, segment: Segment | None, arena: Arena | None = None) -> None:
        self._segment = segment
        self._arena = arena
        source = segment if segment is not None else arena
        assert source is not None
        self.words: Words = source.words

    @classmethod
    def create(cls, instance: str) -> Self:
        """Creates or takes over the page and marks it READY; raises as ``Segment.create``."""
        name = segment_name(instance, cls.WHAT)
        segment = Segment.create(name, size_words=cls.WORDS, kind=cls.KIND, instance=instance)
        page = cls(segment)
        page._taken_over(segment.taken_over)
        segment.set_ready()
        return page

    @classmethod
    def attach(cls, instance: str) -> Self:
        """Maps the page read-only; zeros until its writer has created it and :meth:`refresh` was called."""
        return cls(None, attach_arena([segment_name(instance, cls.WHAT)], cls.KIND, instance, cls.WORDS))

    def _taken_over(self, taken_over: bool) -> None:
        """What a new owner must not inherit."""

    def refresh(self) -> bool:
        """Reader: looks for a page that appeared or was replaced; whether one did."""
        return bool(self._arena.refresh()) if self._arena is not None else False

    @property
    def mapped(self) -> bool:
        """Whether there is a page behind the words."""
        return self._arena is None or self._arena.is_mapped(0)

    @property
    def segment(self) -> Segment:
        """The writer's segment; raises ShmError at a reader."""
        if self._segment is None:
            raise ShmError(f"page {self.WHAT} is attached read-only")
        return self._segment

    def close(self) -> None:
        """A writer gives up the ownership, and what it wrote stays; at a reader nothing happens."""
        if self._segment is not None:
            self._segment.close()

    def _row(self, off: int, row_words: int) -> Words | None:
        out = np.zeros(row_words, np.int64)
        return out if read_row(self.words, off, out) > 0 else None


class CataloguePage(Page):
    """Instrument rows (supervisor): append-only, index = instrument id."""

    KIND = CATALOGUE.KIND
    WORDS = CATALOGUE.END
    WHAT = "catalogue"

    @property
    def count(self) -> int:
        """Rows so far; each of them is whole."""
        return int(load_acquire(self.words, CATALOGUE.count))  # SYNC catalogue.count: acquire; pairs with append

    @property
    def version(self) -> int:
        """Grows with every change of any row."""
        return int(load_acquire(self.words, CATALOGUE.version))  # SYNC catalogue.version: acquire; pairs with _changed

    def append(self, row: Words) -> int:
        """Adds a row (int64[CATALOGUE_ROW.WORDS]); returns its index = instrument id."""
        index = self.count
        if index >= CATALOGUE_CAPACITY:
            raise ShmError(f"catalogue is full: {index} rows")
        self._write(index, row)
        store_release(self.words, CATALOGUE.count, index + 1)  # SYNC catalogue.count: release; pairs with count
        self._changed()
        return index

    def update(self, index: int, row: Words) -> None:
        """Replaces row ``index`` (int64[CATALOGUE_ROW.WORDS]); raises ShmError where there is none or the shape is
        another."""
        if not 0 <= index < self.count:
            raise ShmError(f"no catalogue row {index}: {self.count} rows")
        self._write(index, row)
        self._changed()

    def row(self, index: int) -> Words | None:
        """A whole copy of the row (int64[CATALOGUE_ROW.WORDS]); None if there is none or its writer died in it."""
        if not 0 <= index < self.count:
            return None
        return self._row(CATALOGUE.rows + index * CATALOGUE_ROW.WORDS, CATALOGUE_ROW.WORDS)

    def _write(self, index: int, row: Words) -> None:
        if row.shape != (CATALOGUE_ROW.WORDS,):
            raise ShmError(f"catalogue rows have {CATALOGUE_ROW.WORDS} words: shape={row.shape}")
        write_row(self.words, CATALOGUE.rows + index * CATALOGUE_ROW.WORDS, row)

    def _changed(self) -> None:
        # SYNC catalogue.version: release after the rows; pairs with the acquire in version, scan_loop
        store_release(self.words, CATALOGUE.version, int(wrap_add(self.version, 1)))


class InventoryPage(Page):
    """What may be bought and sold per instrument (executor)."""

    KIND = INVENTORY.KIND
    WORDS = INVENTORY.END
    WHAT = "inventory"

    def _taken_over(self, taken_over: bool) -> None:
        self.block_all()  # nothing of a dead executor's inventory is tradable

    def block_all(self) -> None:
        """Every row state 0: before READY and after a take-over."""
        empty = np.zeros(INVENTORY_ROW.WORDS, np.int64)
        for instrument in range(CATALOGUE_CAPACITY):
            write_row(self.words, INVENTORY.rows + instrument * INVENTORY_ROW.WORDS, empty)
        # SYNC inventory.price_count: release; pairs with the acquire in price_words
        store_release(self.words, INVENTORY.price_count, 0)
        self.write_exits(np.zeros((0, EXIT_ROW.WORDS), np.int64))

    def write(self, instrument: int, row: Words) -> None:
        """Replaces the instrument's row (int64[8], see INVENTORY_ROW)."""
        if not 0 <= instrument < CATALOGUE_CAPACITY or row.shape != (INVENTORY_ROW.WORDS,):
            raise ShmError(f"inventory row refused: instrument={instrument} shape={row.shape}")
        write_row(self.words, INVENTORY.rows + instrument * INVENTORY_ROW.WORDS, row)

    def write_exits(self, rows: Words) -> None:
        """Replaces all exit rows (int64[n, 8], see EXIT_ROW; n at most EXIT_CAPACITY), then their version."""
        if rows.ndim != 2 or len(rows) > EXIT_CAPACITY or rows.shape[1] != EXIT_ROW.WORDS:
            raise ShmError(f"exit rows refused: shape={rows.shape}")
        free = np.zeros(EXIT_ROW.WORDS, np.int64)
        for index in range(EXIT_CAPACITY):
            row = rows[index] if index < len(rows) else free
            write_row(self.words, INVENTORY.exits + index * EXIT_ROW.WORDS, row)
        version = int(load_relaxed(self.words, INVENTORY.exit_version))
        store_release(self.words, INVENTORY.exit_version, version + 1)  # SYNC inventory.exits: release after the rows

    def row(self, instrument: int) -> Words | None:
        """A whole copy of the row (int64[8])."""
        return self._row(INVENTORY.rows + instrument * INVENTORY_ROW.WORDS, INVENTORY_ROW.WORDS)

    def write_prices(self, prices: Iterable[tuple[int, int, int]]) -> None:
        """Prices as (row, key, milli-bps), see INVENTORY_PRICE. A row keeps its key; new rows follow the last one. What
        has no room is left out: there the executor alone judges with it."""
        count = int(load_relaxed(self.words, INVENTORY.price_count))
        for row, key, price_mbps in prices:
            if row >= PRICE_CAPACITY:
                continue
            at = INVENTORY.prices + row * INVENTORY_PRICE.WORDS
            store_relaxed(self.words, at + INVENTORY_PRICE.key, key)
            store_relaxed(self.words, at + INVENTORY_PRICE.price_mbps, price_mbps)
            count = max(count, row + 1)
        # SYNC inventory.price_count: release after the rows; pairs with the acquire in price_words
        store_release(self.words, INVENTORY.price_count, count)


def price_words(inventory: Words) -> Words:
    """A copy of the inventory page's prices, int64[n, INVENTORY_PRICE.WORDS]."""
    # SYNC inventory.price_count: acquire, before the rows; pairs with the release in write_prices, block_all
    count = int(load_acquire(inventory, INVENTORY.price_count))
    end = INVENTORY.prices + count * INVENTORY_PRICE.WORDS
    return inventory[INVENTORY.prices : end].reshape(count, INVENTORY_PRICE.WORDS).copy()


class AccountPage(Page):
    """Balances, positions and the freshness of each venue's sweep (poller); ACCOUNT and its rows."""

    KIND = ACCOUNT.KIND
    WORDS = ACCOUNT.END
    WHAT = "account"

    @property
    def balance_count(self) -> int:
        """Balance rows so far; each of them is whole."""
        return int(load_acquire(self.words, ACCOUNT.balance_count))  # SYNC account.count: acquire; pairs with _put

    @property
    def position_count(self) -> int:
        """Position rows so far; each of them is whole."""
        return int(load_acquire(self.words, ACCOUNT.position_count))  # SYNC account.count: acquire; pairs with _put

    def write_venue(self, venue: int, row: Words) -> None:
        """Replaces the venue's row (int64[16])."""
        if not 0 <= venue < VENUE_CAPACITY or row.shape != (ACCOUNT_VENUE.WORDS,):
            raise ShmError(f"account venue row refused: venue={venue} shape={row.shape}")
        write_row(self.words, ACCOUNT.venues + venue * ACCOUNT_VENUE.WORDS, row)

    def venue(self, venue: int) -> Words | None:
        """A whole copy of the venue's ACCOUNT_VENUE row; None if it was never written or its writer died in it."""
        return self._row(ACCOUNT.venues + venue * ACCOUNT_VENUE.WORDS, ACCOUNT_VENUE.WORDS)

    def write_fault(self, venue: int, text: str) -> None:
        """Why the last reading of a venue failed; "" = it has not."""
        row = np.zeros(ACCOUNT_FAULT.WORDS, dtype=np.int64)
        row[ACCOUNT_FAULT.text : ACCOUNT_FAULT.WORDS] = pack_text(text, ACCOUNT_FAULT_WORDS)
        write_row(self.words, ACCOUNT.faults + venue * ACCOUNT_FAULT.WORDS, row)

    def fault(self, venue: int) -> str:
        """What ``write_fault`` wrote last."""
        row = self._row(ACCOUNT.faults + venue * ACCOUNT_FAULT.WORDS, ACCOUNT_FAULT.WORDS)
        return "" if row is None else unpack_text(row[ACCOUNT_FAULT.text : ACCOUNT_FAULT.WORDS])

    def fee_coin(self, venue: int) -> str | None:
        """The coin that a venue takes the account's fees in, "" for plain fees; None where it has not said."""
        row = self.venue(venue)
        if row is None or not row[ACCOUNT_VENUE.fee_reported]:
            return None
        return unpack_text(row[ACCOUNT_VENUE.fee_coin : ACCOUNT_VENUE.fee_coin + FEE_COIN_WORDS])

    def write_balance(self, index: int, row: Words) -> None:
        """Replaces balance row ``index``, or appends it where ``index == balance_count`` (int64[8])."""
        self._put(index, row, ACCOUNT.balances, ACCOUNT_BALANCE.WORDS, BALANCE_CAPACITY, ACCOUNT.balance_count)

    def balance(self, index: int) -> Words | None:
        """A whole copy of an ACCOUNT_BALANCE row; None if there is none or its writer died in it."""
        if not 0 <= index < self.balance_count:
            return None
        return self._row(ACCOUNT.balances + index * ACCOUNT_BALANCE.WORDS, ACCOUNT_BALANCE.WORDS)

    def write_position(self, index: int, row: Words) -> None:
        """Replaces position row ``index``, or appends it where ``index == position_count`` (int64[16])."""
        self._put(index, row, ACCOUNT.positions, ACCOUNT_POSITION.WORDS, POSITION_CAPACITY, ACCOUNT.position_count)

    def position(self, index: int) -> Words | None:
        """A whole copy of an ACCOUNT_POSITION row; None if there is none or its writer died in it."""
        if not 0 <= index < self.position_count:
            return None
        return self._row(ACCOUNT.positions + index * ACCOUNT_POSITION.WORDS, ACCOUNT_POSITION.WORDS)

    def _put(self, index: int, row: Words, base: int, width: int, capacity: int, count_off: int) -> None:
        count = int(load_relaxed(self.words, count_off))
        if not 0 <= index <= count or index >= capacity or row.shape != (width,):
            raise ShmError(f"account row refused: index={index} of {count}, capacity {capacity}, shape={row.shape}")
        write_row(self.words, base + index * width, row)
        if index == count:
            store_release(self.words, count_off, count + 1)  # SYNC account.count: release after the row


class HaltPage(Page):
    """Halt latch, the executor's lease, blocks per venue and instrument (guard).

    A new owner inherits latch, fence, reason and blocks, never the lease.
    """

    KIND = HALT.KIND
    WORDS = HALT.END
    WHAT = "halt"

    def _taken_over(self, taken_over: bool) -> None:
        self.revoke()

    def latch(self, reason: str) -> None:
        """Halts: the latch first, then the reason for people (at most 256 bytes)."""
        store_release(self.words, HALT.latch, 1)  # SYNC halt.latch: release; pairs with may_send
        text = pack_text(reason, HALT_REASON_WORDS)
        for k in range(HALT_REASON_WORDS):
            store_relaxed(self.words, HALT.reason + k, int(text[k]))
        fence_release()

    def release(self) -> None:
        """Ends the halt; only an operator's ``resume`` calls this."""
        store_release(self.words, HALT.latch, 0)  # SYNC halt.latch: release; pairs with may_send

    def keep_unsaved(self, unsaved: bool) -> None:
        """Whether the halt is only here: the guard that is born next takes it over then."""
        store_release(self.words, HALT.unsaved, int(unsaved))  # SYNC halt.unsaved: release; pairs with unsaved

    @property
    def unsaved(self) -> bool:
        """A halt that is not on the disk yet: a command's, or one that the disk refused."""
        return bool(load_acquire(self.words, HALT.unsaved) != 0)  # SYNC halt.unsaved: acquire; pairs with latch_page

    @property
    def latched(self) -> bool:
        """Also true where there is no page: no guard, no trade."""
        return not self.mapped or bool(load_acquire(self.words, HALT.latch) != 0)

    @property
    def reason(self) -> str:
        """Why it was halted last, for people: it stays after :meth:`release`, and "" means that it never was."""
        return unpack_text(self.words[HALT.reason : HALT.reason + HALT_REASON_WORDS])

    def grant(self, token: int, expiry_mono_ns: int) -> None:
        """Lets the executor of epoch ``token`` send until ``expiry_mono_ns``; another token loses the lease first."""
        if int(load_relaxed(self.words, HALT.lease_token)) != token:
            self.revoke()
            store_relaxed(self.words, HALT.lease_token, token)
        # SYNC halt.lease: release: the token is visible before the expiry; pairs with may_send
        store_release(self.words, HALT.lease_expiry_mono_ns, expiry_mono_ns)

    def revoke(self) -> None:
        """Nobody may send new risk from now on."""
        store_release(self.words, HALT.lease_expiry_mono_ns, 0)
        fence_release()

    def fence(self) -> None:
        """No executor sends anything from now on, whether it adds risk or not: the guard is about to take over."""
        self.revoke()
        store_release(self.words, HALT.fence, 1)  # SYNC halt.fence: release; pairs with fenced

    def lift_fence(self) -> None:
        """The next executor goes on."""
        store_release(self.words, HALT.fence, 0)  # SYNC halt.fence: release; pairs with fenced

    @property
    def fenced(self) -> bool:
        """Whether even what reduces risk must stay; not where there is no page, because nobody takes over then."""
        # SYNC halt.fence: acquire; pairs with fence
        return self.mapped and bool(load_acquire(self.words, HALT.fence) != 0)

    @property
    def lease(self) -> tuple[int, int]:
        """(token, expiry_mono_ns)."""
        expiry = int(load_acquire(self.words, HALT.lease_expiry_mono_ns))
        return int(load_relaxed(self.words, HALT.lease_token)), expiry

    def may_send(self, token: int, now_mono_ns: int) -> bool:
        """See :func:`may_send`."""
        return bool(may_send(self.words, 0, token, now_mono_ns))

    def block_venue(self, venue: int, blocked: bool) -> None:
        """No new risk at a venue id from now on, or again; what reduces risk goes on. Raises ShmError outside of the
        table."""
        self._block(HALT.venue_blocked, venue, VENUE_CAPACITY, blocked)

    def block_instrument(self, instrument: int, blocked: bool) -> None:
        """The same for an instrument id. Raises ShmError outside of the table."""
        self._block(HALT.instrument_blocked, instrument, CATALOGUE_CAPACITY, blocked)

    def venue_blocked(self, venue: int) -> bool:
        """Also true for an id outside of the table."""
        return self._blocked(HALT.venue_blocked, venue, VENUE_CAPACITY)

    def instrument_blocked(self, instrument: int) -> bool:
        """Also true for an id outside of the table."""
        return self._blocked(HALT.instrument_blocked, instrument, CATALOGUE_CAPACITY)

    def _block(self, base: int, index: int, capacity: int, blocked: bool) -> None:
        if not 0 <= index < capacity:
            raise ShmError(f"nothing to block at {index}: capacity {capacity}")
        # SYNC halt.block: release; pairs with may_launch, the verdict of the fast path and _blocked
        store_release(self.words, base + index, int(blocked))

    def _blocked(self, base: int, index: int, capacity: int) -> bool:
        # SYNC halt.block: acquire; pairs with _block
        return not 0 <= index < capacity or bool(load_acquire(self.words, base + index) != 0)
