"""Best-price tickers beside a book, jitted: what is remembered of them, which one must equal it, which one it lags.

A ticker of a number that the book has not reached says that the book has changed, and that its update is on its way.
Where the update does not come in time, it was lost, and no later frame of another topic may prove the book
(``next_behind``). The time is that in which frames of its connection come (``WATCH.flow_ns``): while none comes, none
proves the book, and the update may be in the same queue. Numbers of tickers and depth compare where ``TICKER_*`` says
so (:mod:`pipeline.book.sequencer`). Where they do not (``TICKER_TOP``), a ticker that is later than the book by the
venue's time and has another best price or quantity says the same, until an update or a ticker that agrees has come.
"""

from __future__ import annotations

from collections.abc import Iterator

from pipeline.book.horizon import best_is_beyond
from pipeline.book.level2 import best_key, best_qty
from pipeline.book.memory import (
    BOOK_ROW,
    BOOKS,
    EVENT,
    SIDE,
    STATE_ALIGNING,
    TICKER,
    TICKER_EVERY,
    TICKER_RING,
    TICKER_TOP,
    WATCH,
)
from pipeline.book.scaling import scale_price, scale_qty, venue_ns
from shm.bytewords import get, put
from shm.jit import njit_bare as njit
from shm.layout import CONN_CAPACITY
from shm.words import Words


@njit
def newest_ticker(mem: Words, book: int, slot: int) -> int:
    """Id of the ticker remembered last; the caller knows that there is one."""
    last = mem[book + BOOK_ROW.ticker_count] - 1
    update_id: int = mem[mem[BOOKS.tickers_off] + (slot * TICKER_RING + last % TICKER_RING) * TICKER.WORDS]
    return update_id


@njit
def ticker_disagrees(mem: Words, book: int, slot: int, index: int) -> bool:
    """Whether ticker number ``index`` of the ring differs from the book's best prices and quantities."""
    at = mem[BOOKS.tickers_off] + (slot * TICKER_RING + index % TICKER_RING) * TICKER.WORDS
    bids = book + BOOK_ROW.sides
    asks = bids + SIDE.WORDS
    same_prices = get(mem, at + TICKER.bid_price_fp) == best_key(mem, bids) and get(
        mem, at + TICKER.ask_price_fp
    ) == -best_key(mem, asks)
    same_qtys = get(mem, at + TICKER.bid_qty_fp) == best_qty(mem, bids) and get(
        mem, at + TICKER.ask_qty_fp
    ) == best_qty(mem, asks)
    return not (same_prices and same_qtys)


@njit
def newest_agrees(mem: Words, book: int, slot: int) -> bool:
    """Whether the newest ticker, which the caller knows to be there, has the book's best prices and quantities."""
    return not ticker_disagrees(mem, book, slot, mem[book + BOOK_ROW.ticker_count] - 1)


@njit
def newest_not_above(mem: Words, book: int, slot: int) -> int:
    """Number of the remembered ticker that must equal the book as it stands; -1 if none is known to.

    Where every change of the top makes a ticker, it is the newest one not above the book's id; it is known to be the
    newest once one above the book's id has come, or when the ids are equal. Where tickers are conflated, only equal
    ids compare; with ``TICKER_TOP`` none does.
    """
    if mem[BOOKS.ticker_rule] == TICKER_TOP:
        return -1
    local = mem[book + BOOK_ROW.update_id]
    count = mem[book + BOOK_ROW.ticker_count]
    base = mem[BOOKS.tickers_off] + slot * TICKER_RING * TICKER.WORDS
    for index in range(count - 1, max(0, count - TICKER_RING) - 1, -1):
        update_id = mem[base + (index % TICKER_RING) * TICKER.WORDS]
        if update_id == local:
            return index
        if update_id < local:
            return index if mem[BOOKS.ticker_rule] == TICKER_EVERY and index < count - 1 else -1
    return -1


@njit
def remember_ticker(mem: Words, book: int, at: int) -> int:
    """Writes the event's ticker to word offset ``at``: 1 written, 0 not comparable, -1 for the reference decoder."""
    for k in range(2):
        raw = EVENT.tick + 4 * k
        price = mem[raw]
        qty = mem[raw + 2]
        if not mem[EVENT.scaled]:
            if price > 0:
                price = scale_price(price, mem[raw + 1], mem[book + BOOK_ROW.price_exp])
            if qty > 0:
                shift = mem[book + BOOK_ROW.qty_exp] - mem[book + BOOK_ROW.multiplier_exp] - mem[raw + 3]
                qty, _ = scale_qty(qty, shift, mem[book + BOOK_ROW.multiplier])
            if price < 0 or qty < 0:
                return 0 if price == -1 else -1
        mem[at + TICKER.bid_price_fp + 2 * k] = price
        mem[at + TICKER.bid_qty_fp + 2 * k] = qty
    mem[at + TICKER.update_id] = mem[EVENT.last_id]
    mem[at + TICKER.venue_ns] = venue_ns(mem[EVENT.time]) if mem[EVENT.time] > 0 else 0
    return 1


@njit
def is_ahead(mem: Words, book: int, slot: int, came_last: bool) -> bool:
    """Whether the newest ticker, which the caller knows to be there, tells of an update that the book has not had.

    ``came_last``: it has come after the newest update; decides where the venue says no times (``TICKER_TOP`` only).
    """
    if mem[BOOKS.ticker_rule] != TICKER_TOP:
        newer: bool = newest_ticker(mem, book, slot) > mem[book + BOOK_ROW.update_id]
        return newer
    index = mem[book + BOOK_ROW.ticker_count] - 1
    sent = mem[mem[BOOKS.tickers_off] + (slot * TICKER_RING + index % TICKER_RING) * TICKER.WORDS + TICKER.venue_ns]
    book_ns = mem[book + BOOK_ROW.venue_ns]
    later = sent > book_ns if sent and book_ns else came_last
    return bool(later and ticker_disagrees(mem, book, slot, index) and not best_is_beyond(mem, book))


@njit
def note_lead(mem: Words, book: int, slot: int, snapshot: bool) -> None:
    """Since when, from now on, a ticker is ahead of the book: after an update, and when a snapshot was loaded. Where no
    number says which of the two is newer, a ticker from before a snapshot says nothing about it."""
    ahead = get(mem, book + BOOK_ROW.ticker_count) > 0
    if ahead:
        ahead = is_ahead(mem, book, slot, False) and not (snapshot and get(mem, BOOKS.ticker_rule) == TICKER_TOP)
    put(mem, book + BOOK_ROW.lead_ns, flow_ns(mem, book) + 1 if ahead else 0)


@njit
def note_ticker(mem: Words, book: int, slot: int) -> None:
    """The same after a ticker that was remembered: the time goes on for a book that was behind before it."""
    if mem[book + BOOK_ROW.state] < STATE_ALIGNING and mem[BOOKS.ticker_rule] == TICKER_TOP:
        return  # there is nothing to compare with
    if not is_ahead(mem, book, slot, True):
        mem[book + BOOK_ROW.lead_ns] = 0
    elif not mem[book + BOOK_ROW.lead_ns]:
        mem[book + BOOK_ROW.lead_ns] = flow_ns(mem, book) + 1


@njit
def note_repeat(mem: Words, book: int, slot: int) -> None:
    """The newest ticker has come again (MEXC repeats unchanged quotes): where it is judged by time, it says the same
    of a later one."""
    if mem[BOOKS.ticker_rule] != TICKER_TOP or not mem[EVENT.time]:
        return
    index = mem[book + BOOK_ROW.ticker_count] - 1
    at = mem[BOOKS.tickers_off] + (slot * TICKER_RING + index % TICKER_RING) * TICKER.WORDS + TICKER.venue_ns
    mem[at] = max(mem[at], venue_ns(mem[EVENT.time]))
    note_ticker(mem, book, slot)


@njit
def flow_ns(mem: Words, book: int) -> int:
    """The flow of the connection that carries the book; 0 where none does."""
    conn = get(mem, book + BOOK_ROW.conn)
    if conn < 0 or conn >= CONN_CAPACITY:
        return 0
    flow: int = get(mem, BOOKS.connections + conn * WATCH.WORDS + WATCH.flow_ns)
    return flow


@njit
def next_behind(mem: Words, slot: int, capacity: int, max_behind_ns: int) -> int:
    """The first slot from ``slot`` on whose book stands and has had a ticker ahead of it for more than
    ``max_behind_ns`` of its connection's flow; -1 = none. A connection whose frames are late is judged once they are
    on time again."""
    for at in range(slot, capacity):
        book = mem[BOOKS.rows_off] + at * BOOK_ROW.WORDS
        if not mem[book + BOOK_ROW.used] or mem[book + BOOK_ROW.state] < STATE_ALIGNING:
            continue
        if not mem[book + BOOK_ROW.lead_ns] or flow_ns(mem, book) + 1 - mem[book + BOOK_ROW.lead_ns] <= max_behind_ns:
            continue
        watch = BOOKS.connections + mem[book + BOOK_ROW.conn] * WATCH.WORDS
        if mem[book + BOOK_ROW.conn] >= 0 and mem[watch + WATCH.open] and not mem[watch + WATCH.on_time]:
            continue
        if mem[book + BOOK_ROW.ticker_count] and is_ahead(mem, book, at, True):
            return at
        mem[book + BOOK_ROW.lead_ns] = 0  # a snapshot has brought it along
    return -1


def slots_behind(mem: Words, capacity: int, max_behind_ns: int) -> Iterator[int]:
    """The slots of :func:`next_behind`, one after the other."""
    slot = next_behind(mem, 0, capacity, max_behind_ns)
    while slot >= 0:
        yield slot
        slot = next_behind(mem, slot + 1, capacity, max_behind_ns)
