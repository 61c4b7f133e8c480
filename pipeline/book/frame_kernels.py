"""From a scanned frame to a published book, jitted: look up, judge, scale, apply, check, publish.

A frame's levels arrive as raw numbers (mantissa, digits after the point), because some venues name the symbol after
the levels. They are scaled to the book's exponents first, all of them, so that a refused number leaves the book as it
was. Results are the ``R_*`` values; those up to ``R_CONTROL`` are final, the others are for Python.
"""

from __future__ import annotations

import numpy as np

from pipeline.book import memory as st
from pipeline.book.freshness import check_pause, judge_time, note_frame
from pipeline.book.level2 import NO_ROOM, best_key, best_qty, clear_side, copy_top, set_level
from pipeline.book.sequencer import APPLY, OLD, WAIT, judge
from shm import layout as lay
from shm.bookring import conn_frame, publish_book
from shm.bytewords import get, load8, put
from shm.jit import njit_bare as njit
from shm.words import Words

# results; numbers are the values of builder.FrameResult and builder.SnapshotResult
R_APPLIED = 0
R_DROPPED = 1
R_TICKER = 2
R_OTHER = 3
R_CONTROL = 4
R_BUFFERED = 5  # to be kept until the snapshot is there
R_NEED_SNAPSHOT = 6  # the same, and the book has just lost its continuity (or never had it)
R_RESYNC = 7  # crossed or contradicted: applied and published as untradable, snapshot wanted
R_REJECTED = 8
R_PRICE_PRECISION = 9  # a price has digits beyond the exponent: raise the row's epoch
R_UNKNOWN_SHAPE = 20
R_GROW = 21
R_OVERFLOW = 22
R_NOTICE = 64  # added to a result: H_NOTICE says what the connections' owner must look at

OWNER_REPEAT = 0
OWNER_LOSE = 1
OWNER_SYNCED = 2

POW10 = np.array([10**k for k in range(19)], dtype=np.int64)
FP_MAX = np.array([st.FP_LIMIT // 10**k for k in range(19)], dtype=np.int64)  # largest that may be multiplied


@njit
def symbol_hash(a: int, b: int, c: int) -> int:
    """Mixes the three words of a symbol; not negative."""
    # Folded to 31 bits first, so that no product overflows.
    h = ((a ^ (a >> 32)) & 0x7FFFFFFF) * 0x5BD1E995
    h ^= ((b ^ (b >> 32)) & 0x7FFFFFFF) * 0x2545F491
    h ^= ((c ^ (c >> 32)) & 0x7FFFFFFF) * 0x1E3779B1
    return (h ^ (h >> 29)) & 0x7FFFFFFF


@njit
def symbol_words(mem: Words, at: int, length: int) -> tuple[int, int, int]:
    """The symbol at byte index ``at`` as three zero-padded words (``length`` <= 24)."""
    a = load8(mem, at)
    if length < 8:
        return a & ((1 << (8 * length)) - 1), 0, 0
    if length == 8:
        return a, 0, 0
    b = load8(mem, at + 8)
    if length < 16:
        return a, b & ((1 << (8 * (length - 8))) - 1), 0
    if length == 16:
        return a, b, 0
    c = load8(mem, at + 16)
    if length < 24:
        c &= (1 << (8 * (length - 16))) - 1
    return a, b, c


@njit
def find_symbol(mem: Words, at: int, length: int) -> int:
    """Slot of the book of the symbol at byte index ``at``; -1 if there is none."""
    if length < 1 or length > st.SYMBOL_BYTES:
        return -1
    a, b, c = symbol_words(mem, at, length)
    mask = mem[st.H_SYMBOL_MASK]
    base = mem[st.H_SYMBOL_OFF]
    i = symbol_hash(a, b, c) & mask
    for _ in range(mask + 1):
        entry = base + i * st.SYMBOL_ENTRY_WORDS
        slot: int = mem[entry + st.SY_SLOT]
        if slot == 0:
            return -1
        if mem[entry] == a and mem[entry + 1] == b and mem[entry + 2] == c:
            return slot - 1
        i = (i + 1) & mask
    return -1


@njit
def book_row(mem: Words, slot: int) -> int:
    """Word offset of a slot's row."""
    row: int = mem[st.H_BOOK_OFF] + slot * st.BOOK_WORDS
    return row


@njit
def scale_price(mantissa: int, digits: int, exp: int) -> int:
    """Price in fixed point; -1: digits beyond the exponent; -2: for the reference decoder to judge."""
    if mantissa <= 0:
        return -2
    shift = exp - digits
    if shift >= 0:
        if shift > 18 or mantissa > FP_MAX[shift]:
            return -2
        scaled: int = mantissa * POW10[shift]
        return scaled
    if shift < -18:
        return -2
    power: int = POW10[-shift]
    price = mantissa // power
    return price if price * power == mantissa else -1


@njit
def scale_qty(mantissa: int, shift: int, mult: int) -> tuple[int, int]:
    """(base quantity in fixed point cut down, 1 if digits were cut) of ``mantissa * mult * 10**shift``; (-2, 0): for
    the reference decoder to judge. ``shift`` = exponent - digits - the multiplier's own exponent."""
    if mult != 1:
        if mantissa > st.FP_LIMIT // mult:
            return -2, 0
        mantissa *= mult
    if shift >= 0:
        if shift > 18 or mantissa > FP_MAX[shift]:
            return (-2, 0) if mantissa else (0, 0)
        return mantissa * POW10[shift], 0
    if shift < -18:
        return (-2, 0) if mantissa else (0, 0)
    power = POW10[-shift]
    cut = mantissa // power
    return cut, 1 if cut * power != mantissa else 0


@njit
def scale_event(mem: Words, book: int) -> int:
    """Scales the event's raw levels in place; 0, or an ``R_*`` refusal (then half scaled: the frame is dead)."""
    price_exp = get(mem, book + st.B_PRICE_EXP)
    qty_exp = get(mem, book + st.B_QTY_EXP)
    mult = get(mem, book + st.B_MULT)
    qty_shift = qty_exp - get(mem, book + st.B_MULT_EXP)
    inexact = 0
    for side in range(2):
        off = get(mem, st.EV_BID_OFF + 2 * side)
        for level in range(off, off + get(mem, st.EV_BID_COUNT + 2 * side) * st.LEVEL_WORDS, st.LEVEL_WORDS):
            digits = get(mem, level + st.LV_PRICE_DIGITS)
            price = scale_price(get(mem, level), digits, price_exp)
            if price < 0:
                if price == -1:
                    put(mem, st.H_NEEDED_EXP, significant_digits(get(mem, level), digits))
                    return R_PRICE_PRECISION
                return R_UNKNOWN_SHAPE
            qty, cut = scale_qty(get(mem, level + 1), qty_shift - get(mem, level + st.LV_QTY_DIGITS), mult)
            if qty < 0:
                return R_UNKNOWN_SHAPE
            put(mem, level, price)
            put(mem, level + 1, qty)
            inexact += cut
    put(mem, st.EV_INEXACT, inexact)
    return 0


@njit
def significant_digits(mantissa: int, digits: int) -> int:
    """Digits after the point without trailing zeros."""
    while digits > 0 and mantissa % 10 == 0:
        mantissa //= 10
        digits -= 1
    return digits


@njit
def is_crossed(mem: Words, book: int) -> bool:
    """Best bid at or above best ask."""
    bid = best_key(mem, book + st.B_SIDE)
    ask = -best_key(mem, book + st.B_SIDE + st.SIDE_WORDS)
    return bid > 0 and ask > 0 and bid >= ask


@njit
def publish(mem: Words, words: Words, book: int, flags: int) -> None:
    """Publishes the book's top with ``flags``, the owner's sticky flags and those pending for one record."""
    feed = get(mem, st.H_FEED_OFF)
    record = st.RECORD
    conn = get(mem, book + st.B_CONN)
    flags |= get(mem, book + st.B_STICKY_FLAGS) | get(mem, book + st.B_PENDING_FLAGS)
    put(mem, book + st.B_PENDING_FLAGS, 0)
    put(mem, book + st.B_LAST_FLAGS, flags)
    recv_ns = get(mem, book + st.B_RECV_NS)
    put(mem, record + lay.BR_INSTRUMENT, get(mem, book + st.B_INSTRUMENT))
    put(mem, record + lay.BR_FLAGS, flags)
    put(mem, record + lay.BR_UPDATE_ID, get(mem, book + st.B_UPDATE_ID))
    put(mem, record + lay.BR_VENUE_WALL_NS, get(mem, book + st.B_VENUE_NS))
    put(mem, record + lay.BR_RECV_MONO_NS, recv_ns)
    put(mem, record + lay.BR_CONN, conn)
    generation = 0
    # a book from before its connection's silence stays unproved, also where it is published again as it is
    if 0 <= conn < lay.CONN_CAPACITY and recv_ns >= get(mem, st.CONNS + conn * st.CW_WORDS + st.CW_LIFE_NS):
        generation = words[feed + lay.FEED_CONN_OFF + conn * lay.CONN_WORDS + lay.CONN_GENERATION]
    put(mem, record + lay.BR_CONN_GENERATION, generation)
    put(mem, record + lay.BR_ROW_EPOCH, get(mem, book + st.B_ROW_EPOCH))
    bids = book + st.B_SIDE
    asks = bids + st.SIDE_WORDS
    depth = lay.BOOK_DEPTH
    count = copy_top(mem, bids, 1, record + lay.BR_BID_PRICE, record + lay.BR_BID_QTY, depth)
    put(mem, record + lay.BR_BID_COUNT, count)
    for k in range(count, depth):
        put(mem, record + lay.BR_BID_PRICE + k, lay.ABSENT_BID)
        put(mem, record + lay.BR_BID_QTY + k, 0)
    count = copy_top(mem, asks, -1, record + lay.BR_ASK_PRICE, record + lay.BR_ASK_QTY, depth)
    put(mem, record + lay.BR_ASK_COUNT, count)
    for k in range(count, depth):
        put(mem, record + lay.BR_ASK_PRICE + k, lay.ABSENT_ASK)
        put(mem, record + lay.BR_ASK_QTY + k, 0)
    # 0: the ring stamps it
    put(mem, record + lay.BR_PUBLISH_MONO_NS, recv_ns if get(mem, st.H_RECORDED) else 0)
    publish_book(words, feed, get(mem, book + st.B_BOOK_INDEX), mem[record : record + lay.BOOK_RECORD_WORDS])
    put(mem, st.C_PUBLISHED, get(mem, st.C_PUBLISHED) + 1)


@njit
def lose(mem: Words, book: int, flags: int) -> None:
    """Continuity is lost: the book waits for a snapshot, and ``flags`` are published before anything else."""
    mem[book + st.B_STATE] = st.STATE_WAITING
    mem[st.H_PUBLISH] = flags


@njit
def venue_ns(sent: int) -> int:
    """Venue time in ns; venues send ms, Binance on request us (told apart by size: 1e14 ms is the year 5138)."""
    return sent * 1000 if sent > 100_000_000_000_000 else sent * 1_000_000


@njit
def ticker_disagrees(mem: Words, book: int, slot: int, index: int) -> bool:
    """Whether ticker number ``index`` of the ring differs from the book's best prices and quantities."""
    at = mem[st.H_TICKER_OFF] + (slot * st.TICKER_RING + index % st.TICKER_RING) * st.TICKER_WORDS
    bids = book + st.B_SIDE
    asks = bids + st.SIDE_WORDS
    same_bid = get(mem, at + 1) == best_key(mem, bids) and get(mem, at + 2) == best_qty(mem, bids)
    same_ask = get(mem, at + 3) == -best_key(mem, asks) and get(mem, at + 4) == best_qty(mem, asks)
    return not (same_bid and same_ask)


@njit
def newest_not_above(mem: Words, book: int, slot: int) -> int:
    """Number of the remembered ticker that must equal the book as it stands; -1 if none is known to.

    Where every change of the top makes a ticker, it is the newest one not above the book's id; it is known to be the
    newest once one above the book's id has come, or when the ids are equal. Where tickers are conflated, only equal
    ids compare.
    """
    local = mem[book + st.B_UPDATE_ID]
    count = mem[book + st.B_TICKER_COUNT]
    base = mem[st.H_TICKER_OFF] + slot * st.TICKER_RING * st.TICKER_WORDS
    for index in range(count - 1, max(0, count - st.TICKER_RING) - 1, -1):
        update_id = mem[base + (index % st.TICKER_RING) * st.TICKER_WORDS]
        if update_id == local:
            return index
        if update_id < local:
            return index if mem[st.H_TICKER] == st.TICKER_EVERY and index < count - 1 else -1
    return -1


@njit
def check_tickers(mem: Words, book: int, slot: int) -> bool:
    """Quarantines a live book that a ticker contradicts; whether it did.

    In a recording the state is published as unproved and the next one is judged anew: there is no snapshot to ask for,
    and recorders and venues did lose tickers (COIN-M in 2021: 3 of 1730).
    """
    index = newest_not_above(mem, book, slot)
    if index < 0 or not ticker_disagrees(mem, book, slot, index):
        return False
    mem[st.C_CONTRADICTED] += 1
    if mem[st.H_RECORDED]:
        mem[st.H_PUBLISH] = lay.FLAG_UNPROVED
        return True
    mem[st.C_GAPS] += 1
    lose(mem, book, lay.FLAG_UNPROVED | lay.FLAG_GAP)
    return True


@njit
def synced(mem: Words, book: int) -> None:
    """The book stands on a snapshot or whole-book push again; its next record says so."""
    mem[book + st.B_PENDING_FLAGS] = lay.FLAG_SNAPSHOT
    if mem[book + st.B_WAS_SYNCED]:
        mem[st.C_RESYNCS] += 1
    mem[book + st.B_WAS_SYNCED] = 1


@njit
def admit(mem: Words, book: int) -> int:
    """Sequencer: ``R_APPLIED`` = to be applied, else the frame's result."""
    if mem[st.EV_FULL]:
        old = mem[book + st.B_STATE] >= st.STATE_ALIGNING and mem[st.EV_LAST] < mem[book + st.B_UPDATE_ID]
        if old:
            mem[st.C_DROPPED] += 1
        return R_DROPPED if old else R_APPLIED
    verdict = judge(mem, book, mem[st.EV_FIRST], mem[st.EV_LAST], mem[st.EV_PREVIOUS])
    if verdict == APPLY:
        return R_APPLIED
    if verdict == WAIT:
        mem[st.C_BUFFERED] += 1
        if mem[book + st.B_STATE] == st.STATE_EMPTY:
            mem[book + st.B_STATE] = st.STATE_WAITING
            return R_NEED_SNAPSHOT
        return R_BUFFERED
    if verdict == OLD:
        mem[book + st.B_OLD_RUN] += 1
        if mem[book + st.B_STATE] != st.STATE_LIVE or mem[book + st.B_OLD_RUN] < st.OLD_RUN_MAX:
            mem[st.C_DROPPED] += 1
            return R_DROPPED
    if mem[st.H_QUIET]:
        mem[st.C_STALE_SNAPSHOTS] += 1
    else:
        mem[st.C_GAPS] += 1
        mem[st.C_BUFFERED] += 1
    lose(mem, book, lay.FLAG_GAP)
    return R_NEED_SNAPSHOT


@njit
def depth_event(mem: Words, slot: int, snapshot: bool, recv_ns: int, conn: int) -> int:
    """A depth message of a known symbol, or a REST snapshot, through sequencer and book. Returns an ``R_*``.

    A refused number leaves the book as it was; ``R_GROW`` leaves it half changed: repeat the whole frame after growth
    (quantities are absolute). A whole book is emptied first and goes in last level first: it comes best first, and
    appending at the best end is cheapest.
    """
    book = book_row(mem, slot)
    if not snapshot:
        verdict = admit(mem, book)
        if verdict != R_APPLIED:
            return verdict
    if not get(mem, st.EV_SCALED):
        refused = scale_event(mem, book)
        if refused:
            if refused == R_PRICE_PRECISION:
                lose(mem, book, lay.FLAG_GAP | lay.FLAG_HALTED)
            return refused
    whole = snapshot or get(mem, st.EV_FULL) == 1
    for which in range(2):
        side = book + st.B_SIDE + which * st.SIDE_WORDS
        sign = 1 - 2 * which
        level = get(mem, st.EV_BID_OFF + 2 * which)
        count = get(mem, st.EV_BID_COUNT + 2 * which)
        step = st.LEVEL_WORDS
        if whole:
            clear_side(mem, side)
            level += (count - 1) * step
            step = -step
        for _ in range(count):
            done = set_level(mem, side, sign * get(mem, level), get(mem, level + 1))
            if done:
                return R_GROW if done == NO_ROOM else R_OVERFLOW
            level += step
    put(mem, st.C_INEXACT, get(mem, st.C_INEXACT) + get(mem, st.EV_INEXACT))
    put(mem, book + st.B_UPDATE_ID, get(mem, st.EV_LAST))
    put(mem, book + st.B_OLD_RUN, 0)
    put(mem, book + st.B_RECV_NS, max(recv_ns, get(mem, book + st.B_RECV_NS)))
    put(mem, book + st.B_CONN, conn)
    if get(mem, st.EV_TIME):
        put(mem, book + st.B_VENUE_NS, venue_ns(get(mem, st.EV_TIME)))
    return applied(mem, book, slot, snapshot, whole)


@njit
def applied(mem: Words, book: int, slot: int, snapshot: bool, whole: bool) -> int:
    """State and publication after the levels are in: quarantines a crossed or contradicted book (a recorded one only
    for as long as it is so). An ``R_*``."""
    if snapshot:
        put(mem, book + st.B_STATE, st.STATE_ALIGNING)
        put(mem, st.C_SNAPSHOTS, get(mem, st.C_SNAPSHOTS) + 1)
        return R_APPLIED
    if whole and get(mem, book + st.B_STATE) < st.STATE_ALIGNING:
        synced(mem, book)
    put(mem, book + st.B_STATE, st.STATE_LIVE)
    put(mem, st.C_APPLIED, get(mem, st.C_APPLIED) + 1)
    doubted = R_APPLIED if get(mem, st.H_RECORDED) else R_RESYNC
    if is_crossed(mem, book):
        put(mem, st.C_CROSSED, get(mem, st.C_CROSSED) + 1)
        if doubted == R_RESYNC:
            lose(mem, book, lay.FLAG_CROSSED)
        else:
            put(mem, st.H_PUBLISH, lay.FLAG_CROSSED)
        return doubted
    if get(mem, book + st.B_TICKER_COUNT) and check_tickers(mem, book, slot):
        return doubted
    put(mem, st.H_PUBLISH, 0)
    return R_APPLIED


@njit
def remember_ticker(mem: Words, book: int, at: int) -> int:
    """Writes the event's ticker to word offset ``at``: 1 written, 0 not comparable, -1 for the reference decoder."""
    for k in range(2):
        raw = st.EV_TICK + 4 * k
        price = mem[raw]
        qty = mem[raw + 2]
        if not mem[st.EV_SCALED]:
            if price > 0:
                price = scale_price(price, mem[raw + 1], mem[book + st.B_PRICE_EXP])
            if qty > 0:
                shift = mem[book + st.B_QTY_EXP] - mem[book + st.B_MULT_EXP] - mem[raw + 3]
                qty, _ = scale_qty(qty, shift, mem[book + st.B_MULT])
            if price < 0 or qty < 0:
                return 0 if price == -1 else -1
        mem[at + 1 + 2 * k] = price
        mem[at + 2 + 2 * k] = qty
    mem[at] = mem[st.EV_LAST]
    return 1


@njit
def ticker_event(mem: Words, slot: int) -> int:
    """Remembers a best-price ticker; one whose id is comparable may prove the book wrong. Returns an ``R_*``."""
    if mem[st.H_TICKER] == st.TICKER_NONE:
        return R_TICKER
    book = book_row(mem, slot)
    count = mem[book + st.B_TICKER_COUNT]
    base = mem[st.H_TICKER_OFF] + slot * st.TICKER_RING * st.TICKER_WORDS
    newest = mem[base + ((count + st.TICKER_RING - 1) % st.TICKER_RING) * st.TICKER_WORDS]
    if count and mem[st.EV_LAST] <= newest:
        return R_TICKER  # a second connection repeats it, or an older one: nothing new
    kept = remember_ticker(mem, book, base + (count % st.TICKER_RING) * st.TICKER_WORDS)
    if kept < 1:
        return R_TICKER if kept == 0 else R_UNKNOWN_SHAPE
    mem[book + st.B_TICKER_COUNT] = count + 1
    # Only the first ticker at or above the book's id tells something new about the book as it stands.
    if mem[book + st.B_STATE] != st.STATE_LIVE or newest >= mem[book + st.B_UPDATE_ID]:
        return R_TICKER
    return R_RESYNC if check_tickers(mem, book, slot) and not mem[st.H_RECORDED] else R_TICKER


@njit
def watch_connection(mem: Words, words: Words, topic: int, slot: int, recv_ns: int, conn: int) -> None:
    """Before anything of a frame is published: whether its connection's frames are of now. Sets ``H_NOTICE``."""
    mem[st.H_NOTICE] = 0
    check_pause(mem, words, recv_ns)
    row = st.CONNS + conn * st.CW_WORDS
    if conn < 0 or conn >= lay.CONN_CAPACITY or not mem[row + st.CW_OPEN] or topic == st.TOPIC_CONTROL:
        return
    note_frame(mem, words, conn, recv_ns)
    if slot >= 0 and (topic == st.TOPIC_DEPTH or topic == st.TOPIC_TICKER):
        judge_time(mem, words, conn, recv_ns)


@njit
def route(mem: Words, words: Words, topic: int, recv_ns: int, conn: int) -> int:
    """A scanned frame to its book. Returns an ``R_*``; counts, publishes, and stamps the connection after that.

    An event that the reference decoder wrote is routed the same way; it knows its slot, and so does a snapshot
    (``TOPIC_SNAPSHOT``, only while ``H_QUIET``: it publishes nothing).
    """
    slot = -1
    if mem[st.EV_SCALED] or topic == st.TOPIC_SNAPSHOT:
        slot = mem[st.EV_SLOT]
    elif topic != st.TOPIC_OTHER and topic != st.TOPIC_CONTROL and mem[st.EV_SYMBOL_LEN]:
        slot = find_symbol(mem, mem[st.EV_SYMBOL_BYTE], mem[st.EV_SYMBOL_LEN])
    mem[st.H_LAST_SLOT] = slot
    mem[st.H_PUBLISH] = -1
    if topic == st.TOPIC_UNKNOWN:
        return R_UNKNOWN_SHAPE
    live = not mem[st.H_QUIET] and not mem[st.H_RECORDED]
    if live:
        watch_connection(mem, words, topic, slot, recv_ns, conn)
    if topic == st.TOPIC_CONTROL:
        mem[st.C_CONTROL] += 1
        result = R_CONTROL
    elif slot < 0:
        mem[st.C_OTHER] += 1
        result = R_OTHER
    elif topic == st.TOPIC_TICKER:
        result = ticker_event(mem, slot)
    else:
        result = depth_event(mem, slot, topic == st.TOPIC_SNAPSHOT, recv_ns, conn)
    if live and mem[st.H_NOTICE]:
        result |= R_NOTICE
    if (result & ~R_NOTICE) >= R_UNKNOWN_SHAPE or mem[st.H_QUIET]:
        return result
    if mem[st.H_PUBLISH] >= 0:
        publish(mem, words, book_row(mem, slot), mem[st.H_PUBLISH])
    conn_frame(words, mem[st.H_FEED_OFF], conn, recv_ns)
    mem[st.C_FRAMES] += 1
    mem[st.C_SLOW_PATH if mem[st.EV_SCALED] else st.C_FAST_PATH] += 1
    if slot >= 0:
        mem[st.C_TICKERS if topic == st.TOPIC_TICKER else st.C_MESSAGES] += 1
    return result


@njit
def owner_publish(mem: Words, words: Words, slot: int, flags: int, action: int) -> int:
    """What Python publishes: ``OWNER_SYNCED`` after a snapshot and its replay (``R_RESYNC`` if the book is crossed),
    ``OWNER_LOSE`` when a book becomes invalid, ``OWNER_REPEAT`` to publish it again as it is."""
    book = book_row(mem, slot)
    result = R_APPLIED
    if action == OWNER_LOSE:
        lose(mem, book, flags)
    elif action == OWNER_SYNCED:
        if is_crossed(mem, book):
            mem[st.C_CROSSED] += 1
            flags = lay.FLAG_CROSSED
            if mem[st.H_RECORDED]:
                synced(mem, book)
            else:
                lose(mem, book, flags)
                result = R_RESYNC
        else:
            synced(mem, book)
    publish(mem, words, book, flags)
    return result
