"""How deep a book is known, jitted: a snapshot of so many levels a side knows nothing of what lies behind the last one.

Updates tell every change from the snapshot on, at any price; an order that stood behind its last level before it was
taken is not reported until it changes. So each side has a *horizon*, the key of the snapshot's worst level (keys:
:mod:`pipeline.book.level2`): between the best price and it the side is whole, beyond it levels may be missing. Beyond
levels are kept (they become known with the next snapshot) and never published. Where the venue's updates are changes
of a view of its own (Gate.io: the best hundred), there is no horizon.
"""

from __future__ import annotations

from pipeline.book.level2 import best_key
from pipeline.book.memory import BOOK_ROW, BOOKS, EVENT, FP_LIMIT, HORIZON_NONE, LEVEL, SIDE, STATE_ALIGNING
from shm.bytewords import get, put
from shm.jit import njit_bare as njit
from shm.layout import BOOK, FLAG_HORIZON
from shm.words import Words

CUT_LEVELS = 1000  # snapshots are asked for with as many: a side that has them goes on behind them
LIMITS_FROM = 100  # recorded snapshots may have been asked for with less: 100, 500, or as many on both sides
REFRESH_PART = 2  # a new snapshot is wanted where the best price has used up one half of its way to the horizon


@njit
def is_cut(count: int, other: int) -> bool:
    """Whether a snapshot's side of ``count`` levels, beside one of ``other``, ends where the reply's limit was."""
    if count >= CUT_LEVELS:
        return True
    return count >= LIMITS_FROM and (count == other or count % (4 * LIMITS_FROM) == LIMITS_FROM)  # 100, 500


@njit
def set_horizon(mem: Words, book: int) -> None:
    """After a whole book was loaded: how deep it is known, by the event that brought it. The venue may send levels in
    any order."""
    for which in range(2):
        count = get(mem, EVENT.bid_count + 2 * which)
        horizon = HORIZON_NONE
        if get(mem, BOOKS.deep) and is_cut(count, get(mem, EVENT.bid_count + 2 - 2 * which)):
            sign = 1 - 2 * which
            level = get(mem, EVENT.bid_off + 2 * which)
            horizon = sign * get(mem, level)
            for k in range(1, count):
                horizon = min(horizon, sign * get(mem, level + k * LEVEL.WORDS))
        put(mem, book + BOOK_ROW.horizon + which, horizon)
        best = best_key(mem, book + BOOK_ROW.sides + which * SIDE.WORDS)
        put(mem, book + BOOK_ROW.reach + which, best - horizon if horizon != HORIZON_NONE and best else 0)


@njit
def known_levels(mem: Words, prices: int, count: int, sign: int, horizon: int) -> int:
    """How many of ``count`` prices (best first, from word offset ``prices``) are not beyond ``horizon``. ``sign``: 1
    for bids, -1 for asks."""
    while count > 0 and sign * get(mem, prices + count - 1) < horizon:
        count -= 1
    return count


@njit
def best_is_beyond(mem: Words, book: int) -> bool:
    """Whether the best level of a side lies beyond its horizon (an empty side: what it had is gone, all of it)."""
    for which in range(2):
        horizon = get(mem, book + BOOK_ROW.horizon + which)
        if horizon == HORIZON_NONE:
            continue
        best = best_key(mem, book + BOOK_ROW.sides + which * SIDE.WORDS)
        if best == 0 or best < horizon:
            return True
    return False


@njit
def is_near(mem: Words, book: int) -> bool:
    """Whether the best price of a side has come near its horizon: a new snapshot is wanted."""
    for which in range(2):
        horizon = get(mem, book + BOOK_ROW.horizon + which)
        if horizon == HORIZON_NONE:
            continue
        best = best_key(mem, book + BOOK_ROW.sides + which * SIDE.WORDS)
        if best == 0 or best - horizon < get(mem, book + BOOK_ROW.reach + which) // REFRESH_PART:
            return True
    return False


@njit
def cut_at(mem: Words, book: int, known: int, count: int) -> int:
    """How many of the ``count`` levels of the record's top are published when ``known`` of them lie within the horizon.
    Marks the record; the book is near its horizon from then on, however far that is in price."""
    put(mem, BOOKS.record + BOOK.flags, get(mem, BOOKS.record + BOOK.flags) | FLAG_HORIZON)
    put(mem, book + BOOK_ROW.reach, FP_LIMIT)
    put(mem, book + BOOK_ROW.reach + 1, FP_LIMIT)
    return count if get(mem, BOOKS.recorded) else known


@njit
def next_near(mem: Words, slot: int, capacity: int) -> int:
    """The first slot from ``slot`` on whose book stands and is near its horizon; -1 = none."""
    for at in range(slot, capacity):
        book = mem[BOOKS.rows_off] + at * BOOK_ROW.WORDS
        if mem[book + BOOK_ROW.used] and mem[book + BOOK_ROW.state] >= STATE_ALIGNING and is_near(mem, book):
            return at
    return -1
