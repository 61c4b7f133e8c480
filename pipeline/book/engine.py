"""From a scanned frame to a published book, jitted: look up, judge, scale, apply, check, publish.

A frame's levels arrive as raw numbers (mantissa, digits after the point), because some venues name the symbol after
the levels. They are scaled to the book's exponents first, all of them, so that a refused number leaves the book as it
was. Results are the ``R_*`` values; those up to ``R_CONTROL`` are final, the others are for Python.
"""

from __future__ import annotations

import numpy as np

from pipeline.book import state as st
from pipeline.book.level2 import NO_ROOM, best_key, best_qty, clear_side, copy_top, set_level
from pipeline.book.sequencer import APPLY, OLD, WAIT, judge
from shm import layout as lay
from shm.bookring import conn_frame, publish_book
from shm.bytewords import load8
from shm.jit import njit
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

POW10 = np.array([10**k for k in range(19)], dtype=np.int64)
_FLOAT_LIMIT = float(st.FP_LIMIT) * (1 - 1e-12)  # float64 screens a product with a relative error below 1e-15


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
        slot = mem[entry + st.SY_SLOT]
        if slot == 0:
            return -1
        if slot > 0 and mem[entry] == a and mem[entry + 1] == b and mem[entry + 2] == c:
            return slot - 1
        i = (i + 1) & mask
    return -1


@njit
def book_row(mem: Words, slot: int) -> int:
    """Word offset of a slot's row."""
    return mem[st.H_BOOK_OFF] + slot * st.BOOK_WORDS


@njit
def scale_price(mantissa: int, digits: int, exp: int) -> int:
    """Price in fixed point; -1: digits beyond the exponent; -2: for the reference decoder to judge."""
    if mantissa <= 0:
        return -2
    if digits <= exp:
        if exp - digits > 18:
            return -2
        power = POW10[exp - digits]
        if float(mantissa) * float(power) > _FLOAT_LIMIT:
            return -2
        return mantissa * power
    if digits - exp > 18:
        return -2
    power = POW10[digits - exp]
    price = mantissa // power
    return price if price * power == mantissa else -1


@njit
def scale_qty(mantissa: int, digits: int, exp: int, mult: int, mult_exp: int) -> tuple[int, int]:
    """(base quantity in fixed point cut down, 1 if digits were cut); (-2, 0): for the reference decoder to judge."""
    if mantissa == 0:
        return 0, 0
    if float(mantissa) * float(mult) > _FLOAT_LIMIT:
        return -2, 0
    value = mantissa * mult
    shift = exp - digits - mult_exp
    if shift >= 0:
        if shift > 18 or float(value) * float(POW10[shift]) > _FLOAT_LIMIT:
            return -2, 0
        return value * POW10[shift], 0
    if shift < -18:
        return -2, 0
    power = POW10[-shift]
    cut = value // power
    return cut, 1 if cut * power != value else 0


@njit
def scale_levels(mem: Words, book: int, off: int, count: int) -> int:
    """Scales raw levels in place; 0, or an ``R_*`` refusal (levels may then be half scaled: the frame is dead)."""
    price_exp = mem[book + st.B_PRICE_EXP]
    qty_exp = mem[book + st.B_QTY_EXP]
    mult = mem[book + st.B_MULT]
    mult_exp = mem[book + st.B_MULT_EXP]
    inexact = 0
    for level in range(off, off + count * st.LEVEL_WORDS, st.LEVEL_WORDS):
        digits = mem[level + st.LV_PRICE_DIGITS]
        price = scale_price(mem[level], digits, price_exp)
        if price < 0:
            if price == -1:
                mem[st.H_NEEDED_EXP] = significant_digits(mem[level], digits)
                return R_PRICE_PRECISION
            return R_UNKNOWN_SHAPE
        qty, cut = scale_qty(mem[level + 1], mem[level + st.LV_QTY_DIGITS], qty_exp, mult, mult_exp)
        if qty < 0:
            return R_UNKNOWN_SHAPE
        mem[level] = price
        mem[level + 1] = qty
        inexact += cut
    mem[st.EV_INEXACT] += inexact
    return 0


@njit
def significant_digits(mantissa: int, digits: int) -> int:
    """Digits after the point without trailing zeros."""
    while digits > 0 and mantissa % 10 == 0:
        mantissa //= 10
        digits -= 1
    return digits


@njit
def apply_side(mem: Words, side: int, sign: int, off: int, count: int) -> int:
    """Applies scaled levels; 0 or what :func:`set_level` refuses with."""
    for level in range(off, off + count * st.LEVEL_WORDS, st.LEVEL_WORDS):
        done = set_level(mem, side, sign * mem[level], mem[level + 1])
        if done:
            return done
    return 0


@njit
def apply_side_reversed(mem: Words, side: int, sign: int, off: int, count: int) -> int:
    """As :func:`apply_side`, last level first: whole books come best first, and appending is cheapest."""
    for k in range(count - 1, -1, -1):
        level = off + k * st.LEVEL_WORDS
        done = set_level(mem, side, sign * mem[level], mem[level + 1])
        if done:
            return done
    return 0


@njit
def is_crossed(mem: Words, book: int) -> bool:
    """Best bid at or above best ask."""
    bid = best_key(mem, book + st.B_SIDE)
    ask = -best_key(mem, book + st.B_SIDE + st.SIDE_WORDS)
    return bid > 0 and ask > 0 and bid >= ask


@njit
def publish(mem: Words, words: Words, book: int, flags: int) -> None:
    """Publishes the book's top with ``flags``, the owner's sticky flags and those pending for one record."""
    feed = mem[st.H_FEED_OFF]
    record = st.RECORD
    conn = mem[book + st.B_CONN]
    flags |= mem[book + st.B_STICKY_FLAGS] | mem[book + st.B_PENDING_FLAGS]
    mem[book + st.B_PENDING_FLAGS] = 0
    mem[book + st.B_LAST_FLAGS] = flags
    recv_ns = mem[book + st.B_RECV_NS]
    mem[record + lay.BR_INSTRUMENT] = mem[book + st.B_INSTRUMENT]
    mem[record + lay.BR_FLAGS] = flags
    mem[record + lay.BR_UPDATE_ID] = mem[book + st.B_UPDATE_ID]
    mem[record + lay.BR_VENUE_WALL_NS] = mem[book + st.B_VENUE_NS]
    mem[record + lay.BR_RECV_MONO_NS] = recv_ns
    mem[record + lay.BR_CONN] = conn
    generation = 0
    if 0 <= conn < lay.CONN_CAPACITY:
        generation = words[feed + lay.FEED_CONN_OFF + conn * lay.CONN_WORDS + lay.CONN_GENERATION]
    mem[record + lay.BR_CONN_GENERATION] = generation
    mem[record + lay.BR_ROW_EPOCH] = mem[book + st.B_ROW_EPOCH]
    bids = book + st.B_SIDE
    asks = bids + st.SIDE_WORDS
    depth = lay.BOOK_DEPTH
    count = copy_top(mem, bids, 1, record + lay.BR_BID_PRICE, record + lay.BR_BID_QTY, depth)
    mem[record + lay.BR_BID_COUNT] = count
    for k in range(count, depth):
        mem[record + lay.BR_BID_PRICE + k] = lay.ABSENT_BID
        mem[record + lay.BR_BID_QTY + k] = 0
    count = copy_top(mem, asks, -1, record + lay.BR_ASK_PRICE, record + lay.BR_ASK_QTY, depth)
    mem[record + lay.BR_ASK_COUNT] = count
    for k in range(count, depth):
        mem[record + lay.BR_ASK_PRICE + k] = lay.ABSENT_ASK
        mem[record + lay.BR_ASK_QTY + k] = 0
    mem[record + lay.BR_PUBLISH_MONO_NS] = recv_ns if mem[st.H_RECORDED] else 0  # 0: the ring stamps it
    publish_book(words, feed, mem[book + st.B_BOOK_INDEX], mem[record : record + lay.BOOK_RECORD_WORDS])
    mem[st.C_PUBLISHED] += 1


@njit
def lose(mem: Words, words: Words, book: int, flags: int) -> None:
    """Continuity is lost: says so to readers before anything else, then waits for a snapshot."""
    mem[book + st.B_STATE] = st.STATE_WAITING
    if not mem[st.H_QUIET]:
        publish(mem, words, book, flags)


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
    return (
        mem[at + 1] != best_key(mem, bids)
        or mem[at + 2] != best_qty(mem, bids)
        or mem[at + 3] != -best_key(mem, asks)
        or mem[at + 4] != best_qty(mem, asks)
    )


@njit
def contradicted(mem: Words, book: int, slot: int) -> bool:
    """Whether a remembered ticker proves the live book wrong.

    Where every change of the top makes a ticker, the newest one not above the book's id must equal the book; it is
    known to be the newest once one above the book's id has come, or when the ids are equal. Where tickers are
    conflated, only equal ids compare.
    """
    local = mem[book + st.B_UPDATE_ID]
    count = mem[book + st.B_TICKER_COUNT]
    base = mem[st.H_TICKER_OFF] + slot * st.TICKER_RING * st.TICKER_WORDS
    every = mem[st.H_TICKER] == st.TICKER_EVERY
    for index in range(count - 1, max(0, count - st.TICKER_RING) - 1, -1):
        update_id = mem[base + (index % st.TICKER_RING) * st.TICKER_WORDS]
        if update_id > local:
            continue
        if update_id == local or (every and index < count - 1):
            return ticker_disagrees(mem, book, slot, index)
        return False
    return False


@njit
def settle(mem: Words, words: Words, book: int, slot: int) -> int:
    """After an update: quarantine a crossed or contradicted book, else publish. Returns an ``R_*``."""
    if is_crossed(mem, book):
        mem[st.C_CROSSED] += 1
        lose(mem, words, book, lay.FLAG_CROSSED)
        return R_RESYNC
    if mem[book + st.B_TICKER_COUNT] and mem[st.H_TICKER] and contradicted(mem, book, slot):
        mem[st.C_CONTRADICTED] += 1
        mem[st.C_GAPS] += 1
        lose(mem, words, book, lay.FLAG_UNPROVED | lay.FLAG_GAP)
        return R_RESYNC
    if not mem[st.H_QUIET]:
        publish(mem, words, book, 0)
    return R_APPLIED


@njit
def load_book(mem: Words, words: Words, book: int, recv_ns: int, conn: int) -> int:
    """Replaces the book by the event's levels (a snapshot or a whole-book push); 0 or an ``R_*`` refusal.

    Sets id and times, not the state. On a refusal the book is empty and the state as before: the caller decides.
    """
    bid_off, bid_count = mem[st.EV_BID_OFF], mem[st.EV_BID_COUNT]
    ask_off, ask_count = mem[st.EV_ASK_OFF], mem[st.EV_ASK_COUNT]
    if not mem[st.EV_SCALED]:
        refused = scale_levels(mem, book, bid_off, bid_count)
        if not refused:
            refused = scale_levels(mem, book, ask_off, ask_count)
        if refused:
            return refused
    bids = book + st.B_SIDE
    asks = bids + st.SIDE_WORDS
    clear_side(mem, bids)
    clear_side(mem, asks)
    done = apply_side_reversed(mem, bids, 1, bid_off, bid_count)
    if not done:
        done = apply_side_reversed(mem, asks, -1, ask_off, ask_count)
    if done:
        return R_GROW if done == NO_ROOM else R_OVERFLOW
    mem[st.C_INEXACT] += mem[st.EV_INEXACT]
    mem[book + st.B_UPDATE_ID] = mem[st.EV_LAST]
    mem[book + st.B_RECV_NS] = max(recv_ns, mem[book + st.B_RECV_NS])
    mem[book + st.B_CONN] = conn
    if mem[st.EV_TIME]:
        mem[book + st.B_VENUE_NS] = venue_ns(mem[st.EV_TIME])
    return 0


@njit
def synced(mem: Words, book: int, state: int) -> None:
    """The book stands on a snapshot or whole-book push again."""
    mem[book + st.B_STATE] = state
    mem[book + st.B_OLD_RUN] = 0
    mem[book + st.B_PENDING_FLAGS] = lay.FLAG_SNAPSHOT
    if mem[book + st.B_WAS_SYNCED]:
        mem[st.C_RESYNCS] += 1
    mem[book + st.B_WAS_SYNCED] = 1


@njit
def full_event(mem: Words, words: Words, slot: int, recv_ns: int, conn: int) -> int:
    """A push that carries the whole book: replaces it in any state, unless it is older than the book."""
    book = book_row(mem, slot)
    was = mem[book + st.B_STATE]
    if was >= st.STATE_ALIGNING and mem[st.EV_LAST] < mem[book + st.B_UPDATE_ID]:
        mem[st.C_DROPPED] += 1
        return R_DROPPED
    refused = load_book(mem, words, book, recv_ns, conn)
    if refused:
        return refused
    if was < st.STATE_ALIGNING:
        synced(mem, book, st.STATE_LIVE)
    mem[book + st.B_STATE] = st.STATE_LIVE
    mem[st.C_APPLIED] += 1
    return settle(mem, words, book, slot)


@njit
def update_event(mem: Words, words: Words, slot: int, recv_ns: int, conn: int) -> int:
    """An admitted update: scale, apply, settle."""
    book = book_row(mem, slot)
    bid_off, bid_count = mem[st.EV_BID_OFF], mem[st.EV_BID_COUNT]
    ask_off, ask_count = mem[st.EV_ASK_OFF], mem[st.EV_ASK_COUNT]
    if not mem[st.EV_SCALED]:
        refused = scale_levels(mem, book, bid_off, bid_count)
        if not refused:
            refused = scale_levels(mem, book, ask_off, ask_count)
        if refused:
            return refused
    bids = book + st.B_SIDE
    done = apply_side(mem, bids, 1, bid_off, bid_count)
    if not done:
        done = apply_side(mem, bids + st.SIDE_WORDS, -1, ask_off, ask_count)
    if done:
        return R_GROW if done == NO_ROOM else R_OVERFLOW
    mem[st.C_INEXACT] += mem[st.EV_INEXACT]
    mem[book + st.B_STATE] = st.STATE_LIVE
    mem[book + st.B_UPDATE_ID] = mem[st.EV_LAST]
    mem[book + st.B_OLD_RUN] = 0
    mem[book + st.B_RECV_NS] = max(recv_ns, mem[book + st.B_RECV_NS])
    mem[book + st.B_CONN] = conn
    if mem[st.EV_TIME]:
        mem[book + st.B_VENUE_NS] = venue_ns(mem[st.EV_TIME])
    mem[st.C_APPLIED] += 1
    return settle(mem, words, book, slot)


@njit
def depth_event(mem: Words, words: Words, slot: int, recv_ns: int, conn: int) -> int:
    """A depth message of a known symbol through sequencer and book. Returns an ``R_*``."""
    book = book_row(mem, slot)
    if mem[st.EV_FULL]:
        return full_event(mem, words, slot, recv_ns, conn)
    verdict = judge(mem, book, mem[st.EV_FIRST], mem[st.EV_LAST], mem[st.EV_PREVIOUS])
    if verdict == APPLY:
        return update_event(mem, words, slot, recv_ns, conn)
    if verdict == WAIT:
        mem[st.C_BUFFERED] += 1
        if mem[book + st.B_STATE] == st.STATE_EMPTY:
            mem[book + st.B_STATE] = st.STATE_WAITING
            return R_NEED_SNAPSHOT
        return R_BUFFERED
    if verdict == OLD:
        live = mem[book + st.B_STATE] == st.STATE_LIVE
        mem[book + st.B_OLD_RUN] += 1
        if not live or mem[book + st.B_OLD_RUN] < st.OLD_RUN_MAX:
            mem[st.C_DROPPED] += 1
            return R_DROPPED
    if mem[st.H_QUIET]:
        mem[st.C_STALE_SNAPSHOTS] += 1
    else:
        mem[st.C_GAPS] += 1
        mem[st.C_BUFFERED] += 1
    lose(mem, words, book, lay.FLAG_GAP)
    return R_NEED_SNAPSHOT


@njit
def ticker_event(mem: Words, words: Words, slot: int) -> int:
    """Remembers a best-price ticker; one whose id is comparable may prove the book wrong. Returns an ``R_*``."""
    mode = mem[st.H_TICKER]
    if mode == st.TICKER_NONE:
        return R_TICKER
    book = book_row(mem, slot)
    count = mem[book + st.B_TICKER_COUNT]
    base = mem[st.H_TICKER_OFF] + slot * st.TICKER_RING * st.TICKER_WORDS
    update_id = mem[st.EV_LAST]
    if count:
        newest = mem[base + ((count - 1) % st.TICKER_RING) * st.TICKER_WORDS]
        if update_id <= newest:
            return R_TICKER  # a second connection repeats it, or an older one: nothing new
    at = base + (count % st.TICKER_RING) * st.TICKER_WORDS
    for k in range(2):
        raw = st.EV_TICK + 4 * k
        price = 0
        qty = 0
        if mem[raw + 1] >= 0:
            digits, qty_digits = mem[raw + 1], mem[raw + 3]
            if mem[st.EV_SCALED]:
                price, qty = mem[raw], mem[raw + 2]
            else:
                if mem[raw] > 0:
                    price = scale_price(mem[raw], digits, mem[book + st.B_PRICE_EXP])
                qty, _ = scale_qty(
                    mem[raw + 2], qty_digits, mem[book + st.B_QTY_EXP], mem[book + st.B_MULT], mem[book + st.B_MULT_EXP]
                )
            if price < 0 or qty < 0:
                return R_UNKNOWN_SHAPE if price == -2 or qty == -2 else R_TICKER
        mem[at + 1 + 2 * k] = price
        mem[at + 2 + 2 * k] = qty
    mem[at] = update_id
    mem[book + st.B_TICKER_COUNT] = count + 1
    local = mem[book + st.B_UPDATE_ID]
    if mem[book + st.B_STATE] != st.STATE_LIVE:
        return R_TICKER
    wrong = False
    if update_id == local:
        wrong = ticker_disagrees(mem, book, slot, count)
    elif mode == st.TICKER_EVERY and update_id > local and count:
        # The first one above the book's id tells that its predecessor was the newest not above it.
        if mem[base + ((count - 1) % st.TICKER_RING) * st.TICKER_WORDS] <= local:
            wrong = ticker_disagrees(mem, book, slot, count - 1)
    if not wrong:
        return R_TICKER
    mem[st.C_CONTRADICTED] += 1
    mem[st.C_GAPS] += 1
    lose(mem, words, book, lay.FLAG_UNPROVED | lay.FLAG_GAP)
    return R_RESYNC


@njit
def route(mem: Words, words: Words, topic: int, recv_ns: int, conn: int) -> int:
    """A scanned frame to its book. Returns an ``R_*``; counts, and stamps the connection after the book's change."""
    result = dispatch(mem, words, topic, recv_ns, conn)
    if result < R_UNKNOWN_SHAPE and not mem[st.H_QUIET]:
        if topic == st.TOPIC_DEPTH and result != R_OTHER:
            mem[st.C_MESSAGES] += 1
        conn_frame(words, mem[st.H_FEED_OFF], conn, recv_ns)
    return result


@njit
def dispatch(mem: Words, words: Words, topic: int, recv_ns: int, conn: int) -> int:
    """The part of :func:`route` that may touch a book. May be repeated after ``R_GROW``, from the scan on."""
    mem[st.H_LAST_SLOT] = -1
    if topic == st.TOPIC_CONTROL:
        mem[st.C_CONTROL] += 1
        return R_CONTROL
    slot = -1
    if topic != st.TOPIC_OTHER and mem[st.EV_SYMBOL_LEN]:
        slot = find_symbol(mem, mem[st.EV_SYMBOL_BYTE], mem[st.EV_SYMBOL_LEN])
    mem[st.H_LAST_SLOT] = slot
    if topic == st.TOPIC_UNKNOWN:
        return R_UNKNOWN_SHAPE
    if slot < 0:
        mem[st.C_OTHER] += 1
        return R_OTHER
    if topic == st.TOPIC_TICKER:
        result = ticker_event(mem, words, slot)
        if result < R_UNKNOWN_SHAPE:
            mem[st.C_TICKERS] += 1
        return result
    return depth_event(mem, words, slot, recv_ns, conn)


@njit
def snapshot_event(mem: Words, words: Words, slot: int, recv_ns: int, conn: int) -> int:
    """A scanned or decoded REST snapshot into its book: ``R_APPLIED`` or a refusal. Publishes nothing.

    On a refusal the book waits for another snapshot.
    """
    book = book_row(mem, slot)
    mem[st.H_LAST_SLOT] = slot
    refused = load_book(mem, words, book, recv_ns, conn)
    if refused:
        if mem[book + st.B_STATE] >= st.STATE_ALIGNING:
            mem[book + st.B_STATE] = st.STATE_WAITING
        return refused
    mem[book + st.B_STATE] = st.STATE_ALIGNING
    mem[book + st.B_OLD_RUN] = 0
    mem[st.C_SNAPSHOTS] += 1
    return R_APPLIED


@njit
def route_decoded(mem: Words, words: Words, topic: int, slot: int, recv_ns: int, conn: int) -> int:
    """As :func:`route` for an event that the reference decoder wrote; ``slot`` is its book or -1."""
    mem[st.H_LAST_SLOT] = slot
    if topic == st.TOPIC_CONTROL:
        mem[st.C_CONTROL] += 1
        result = R_CONTROL
    elif topic == st.TOPIC_OTHER or slot < 0:
        mem[st.C_OTHER] += 1
        result = R_OTHER
    elif topic == st.TOPIC_TICKER:
        mem[st.C_TICKERS] += 1
        result = ticker_event(mem, words, slot)
    else:
        result = depth_event(mem, words, slot, recv_ns, conn)
    if result < R_UNKNOWN_SHAPE and not mem[st.H_QUIET]:
        if topic == st.TOPIC_DEPTH and result != R_OTHER:
            mem[st.C_MESSAGES] += 1
        conn_frame(words, mem[st.H_FEED_OFF], conn, recv_ns)
    return result


@njit
def publish_synced(mem: Words, words: Words, slot: int) -> int:
    """The book stands on a snapshot and the updates buffered since: publishes it as such, unless it is crossed."""
    book = book_row(mem, slot)
    if is_crossed(mem, book):
        mem[st.C_CROSSED] += 1
        lose(mem, words, book, lay.FLAG_CROSSED)
        return R_RESYNC
    synced(mem, book, mem[book + st.B_STATE])
    publish(mem, words, book, 0)
    return R_APPLIED


@njit
def publish_slot(mem: Words, words: Words, slot: int, flags: int) -> None:
    """Publishes one book from Python."""
    publish(mem, words, book_row(mem, slot), flags)


@njit
def lose_slot(mem: Words, words: Words, slot: int, flags: int) -> None:
    """Invalidates one book from Python."""
    lose(mem, words, book_row(mem, slot), flags)
