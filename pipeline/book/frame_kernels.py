"""From a scanned frame to a published book, jitted: look up, judge, scale, apply, check, publish.

A frame's levels arrive as raw numbers (mantissa, digits after the point), because some venues name the symbol after
the levels. They are scaled to the book's exponents first, all of them, so that a refused number leaves the book as it
was. Results are the ``RESULT_*`` values; those up to ``RESULT_CONTROL`` are final, the others are for Python.
"""

from __future__ import annotations

from pipeline.book.freshness import check_pause, judge_time, note_frame
from pipeline.book.horizon import best_is_beyond, cut_at, known_levels, set_horizon
from pipeline.book.level2 import NO_ROOM, best_key, clear_side, copy_top, set_level
from pipeline.book.memory import (
    BOOK_COUNTERS,
    BOOK_ROW,
    BOOKS,
    EVENT,
    LEVEL,
    OLD_RUN_MAX,
    OVERLAP_NS,
    SIDE,
    STATE_ALIGNING,
    STATE_EMPTY,
    STATE_LIVE,
    STATE_WAITING,
    TICKER,
    TICKER_NONE,
    TICKER_RING,
    TOPIC_CONTROL,
    TOPIC_DEPTH,
    TOPIC_OTHER,
    TOPIC_SNAPSHOT,
    TOPIC_TICKER,
    TOPIC_UNKNOWN,
    WATCH,
)
from pipeline.book.scaling import scale_price, scale_qty, significant_digits, venue_ns
from pipeline.book.sequencer import APPLY, OLD, WAIT, judge
from pipeline.book.symbol_table import find_symbol
from pipeline.book.tickers import (
    newest_not_above,
    note_lead,
    note_repeat,
    note_ticker,
    remember_ticker,
    ticker_disagrees,
)
from shm.bookring import conn_frame, publish_book
from shm.bytewords import get, put
from shm.jit import njit_bare as njit
from shm.layout import (
    ABSENT_ASK,
    ABSENT_BID,
    BOOK,
    BOOK_DEPTH,
    CONN_CAPACITY,
    CONNECTION,
    FEED,
    FLAG_CROSSED,
    FLAG_GAP,
    FLAG_HALTED,
    FLAG_SNAPSHOT,
    FLAG_UNPROVED,
)
from shm.words import Words

# results; numbers are the values of venue_books.FrameResult and SnapshotResult
RESULT_APPLIED = 0
RESULT_DROPPED = 1
RESULT_TICKER = 2
RESULT_OTHER = 3
RESULT_CONTROL = 4
RESULT_BUFFERED = 5  # to be kept until the snapshot is there
RESULT_NEED_SNAPSHOT = 6  # the same, and the book has just lost its continuity (or never had it)
RESULT_RESYNC = 7  # crossed or contradicted: applied and published as untradable, snapshot wanted
RESULT_REJECTED = 8
RESULT_PRICE_PRECISION = 9  # a price has digits beyond the exponent: raise the row's epoch
RESULT_KEPT = 10  # applied, and to be kept for the snapshot that is being fetched
RESULT_UNKNOWN_SHAPE = 20
RESULT_GROW = 21
RESULT_OVERFLOW = 22
RESULT_NOTICE = 64  # added to a result: BOOKS.notice says what the connections' owner must look at

CONTRADICTS_MS = 250  # the same update over two connections bears times that differ by less

OWNER_REPEAT = 0
OWNER_LOSE = 1
OWNER_SYNCED = 2
OWNER_DEEPER = 3


@njit
def book_row(mem: Words, slot: int) -> int:
    """Word offset of a slot's row."""
    row: int = mem[BOOKS.rows_off] + slot * BOOK_ROW.WORDS
    return row


@njit
def scale_event(mem: Words, book: int) -> int:
    """Scales the event's raw levels in place; 0, or an ``RESULT_*`` refusal (then half scaled: the frame is dead)."""
    price_exp = get(mem, book + BOOK_ROW.price_exp)
    qty_exp = get(mem, book + BOOK_ROW.qty_exp)
    mult = get(mem, book + BOOK_ROW.multiplier)
    qty_shift = qty_exp - get(mem, book + BOOK_ROW.multiplier_exp)
    inexact = 0
    for side in range(2):
        off = get(mem, EVENT.bid_off + 2 * side)
        for level in range(off, off + get(mem, EVENT.bid_count + 2 * side) * LEVEL.WORDS, LEVEL.WORDS):
            digits = get(mem, level + LEVEL.price_digits)
            price = scale_price(get(mem, level), digits, price_exp)
            if price < 0:
                if price == -1:
                    put(mem, BOOKS.needed_exp, significant_digits(get(mem, level), digits))
                    return RESULT_PRICE_PRECISION
                return RESULT_UNKNOWN_SHAPE
            qty, cut = scale_qty(get(mem, level + 1), qty_shift - get(mem, level + LEVEL.qty_digits), mult)
            if qty < 0:
                return RESULT_UNKNOWN_SHAPE
            put(mem, level, price)
            put(mem, level + 1, qty)
            inexact += cut
    put(mem, EVENT.inexact, inexact)
    return 0


@njit
def is_crossed(mem: Words, book: int) -> bool:
    """Best bid at or above best ask."""
    bid = best_key(mem, book + BOOK_ROW.sides)
    ask = -best_key(mem, book + BOOK_ROW.sides + SIDE.WORDS)
    return bid > 0 and ask > 0 and bid >= ask


@njit
def publish(mem: Words, words: Words, book: int, flags: int) -> None:
    """Publishes the book's top with ``flags``, the owner's sticky flags and those pending for one record.

    ``FLAG_HORIZON`` says that the top reaches beyond the book's horizon: what lies there is left out. (Not of a
    recorded book: it can ask nobody for more.)
    """
    feed = get(mem, BOOKS.feed_off)
    record = BOOKS.record
    conn = get(mem, book + BOOK_ROW.conn)
    flags |= get(mem, book + BOOK_ROW.sticky_flags) | get(mem, book + BOOK_ROW.pending_flags)
    put(mem, book + BOOK_ROW.pending_flags, 0)
    put(mem, book + BOOK_ROW.last_flags, flags)
    recv_ns = get(mem, book + BOOK_ROW.recv_ns)
    put(mem, record + BOOK.instrument, get(mem, book + BOOK_ROW.instrument))
    put(mem, record + BOOK.flags, flags)
    put(mem, record + BOOK.update_id, get(mem, book + BOOK_ROW.update_id))
    put(mem, record + BOOK.venue_wall_ns, get(mem, book + BOOK_ROW.venue_ns))
    put(mem, record + BOOK.recv_mono_ns, recv_ns)
    put(mem, record + BOOK.conn, conn)
    generation = 0
    # a book from before its connection's silence stays unproved, also where it is published again as it is
    if 0 <= conn < CONN_CAPACITY and recv_ns >= get(mem, BOOKS.connections + conn * WATCH.WORDS + WATCH.life_ns):
        generation = words[feed + FEED.connections + conn * CONNECTION.WORDS + CONNECTION.generation]
    put(mem, record + BOOK.conn_generation, generation)
    put(mem, record + BOOK.row_epoch, get(mem, book + BOOK_ROW.row_epoch))
    bids = book + BOOK_ROW.sides
    asks = bids + SIDE.WORDS
    depth = BOOK_DEPTH
    count = copy_top(mem, bids, 1, record + BOOK.bid_price_fp, record + BOOK.bid_qty_fp, depth)
    known = known_levels(mem, record + BOOK.bid_price_fp, count, 1, get(mem, book + BOOK_ROW.horizon))
    if known < count:
        count = cut_at(mem, book, known, count)
    put(mem, record + BOOK.bid_count, count)
    for k in range(count, depth):
        put(mem, record + BOOK.bid_price_fp + k, ABSENT_BID)
        put(mem, record + BOOK.bid_qty_fp + k, 0)
    count = copy_top(mem, asks, -1, record + BOOK.ask_price_fp, record + BOOK.ask_qty_fp, depth)
    known = known_levels(mem, record + BOOK.ask_price_fp, count, -1, get(mem, book + BOOK_ROW.horizon + 1))
    if known < count:
        count = cut_at(mem, book, known, count)
    put(mem, record + BOOK.ask_count, count)
    for k in range(count, depth):
        put(mem, record + BOOK.ask_price_fp + k, ABSENT_ASK)
        put(mem, record + BOOK.ask_qty_fp + k, 0)
    # 0: the ring stamps it
    put(mem, record + BOOK.publish_mono_ns, recv_ns if get(mem, BOOKS.recorded) else 0)
    publish_book(words, feed, get(mem, book + BOOK_ROW.book_index), mem[record : record + BOOK.WORDS])
    put(mem, BOOK_COUNTERS.published, get(mem, BOOK_COUNTERS.published) + 1)


@njit
def lose(mem: Words, book: int, flags: int) -> None:
    """Continuity is lost: the book waits for a snapshot. ``flags`` are those that :func:`route` publishes
    the book with, once the frame has been worked through."""
    mem[book + BOOK_ROW.state] = STATE_WAITING
    mem[book + BOOK_ROW.kept] = 0
    mem[book + BOOK_ROW.lead_ns] = 0
    mem[BOOKS.publish_flags] = flags


@njit
def check_tickers(mem: Words, book: int, slot: int) -> bool:
    """Quarantines a live book that a ticker contradicts; whether it did.

    In a recording the state is published as unproved and the next one is judged anew: there is no snapshot to ask for,
    and recorders and venues did lose tickers (COIN-M in 2021: 3 of 1730).
    """
    index = newest_not_above(mem, book, slot)
    if index < 0 or not ticker_disagrees(mem, book, slot, index):
        return False
    if best_is_beyond(mem, book):
        return False  # an order that stood there before the snapshot is not known: published as cut, nothing trades
    mem[BOOK_COUNTERS.contradicted] += 1
    if mem[BOOKS.recorded]:
        mem[BOOKS.publish_flags] = FLAG_UNPROVED
        return True
    mem[BOOK_COUNTERS.gaps] += 1
    lose(mem, book, FLAG_UNPROVED | FLAG_GAP)
    return True


@njit
def synced(mem: Words, book: int, was_lost: bool) -> None:
    """The book stands on a snapshot or whole-book push; its next record says so. ``was_lost``: it did not before."""
    mem[book + BOOK_ROW.pending_flags] = FLAG_SNAPSHOT
    if was_lost and mem[book + BOOK_ROW.was_synced]:
        mem[BOOK_COUNTERS.resyncs] += 1
    mem[book + BOOK_ROW.was_synced] = 1


@njit
def newer_by_ms(mem: Words, book: int) -> int:
    """How much later than the book the event is by the venue's own time; 0 where either names none."""
    at = mem[book + BOOK_ROW.venue_ns]
    if mem[EVENT.time] <= 0 or at <= 0:
        return 0
    newer: int = (venue_ns(mem[EVENT.time]) - at) // 1_000_000
    return newer


@njit
def repeats(mem: Words, book: int) -> bool:
    """Whether an event that is old by its number is none that is later by its time: what another connection has brought
    before. The backlog of one that stalled is long."""
    timed = mem[EVENT.time] > 0 and mem[book + BOOK_ROW.venue_ns] > 0
    return bool(timed and newer_by_ms(mem, book) <= 0)


@njit
def is_restart(mem: Words, book: int) -> bool:
    """Whether the venue has restarted its numbering: the event's number is older than any that a connection repeats,
    but its time is later than the book's by more than two topics differ."""
    return bool(newer_by_ms(mem, book) > mem[BOOKS.lag_ms] and mem[EVENT.last_id] < mem[book + BOOK_ROW.floor_id])


@njit
def forget_numbering(mem: Words, book: int) -> None:
    """The venue counts anew: what is remembered by number compares with nothing any more."""
    mem[book + BOOK_ROW.ticker_count] = mem[book + BOOK_ROW.lead_ns] = 0
    mem[book + BOOK_ROW.floor_id] = mem[book + BOOK_ROW.next_floor_id] = 0


@njit
def admit(mem: Words, book: int) -> int:
    """Sequencer: ``RESULT_APPLIED`` = to be applied, else the frame's result."""
    if mem[EVENT.full]:
        old = mem[book + BOOK_ROW.state] >= STATE_ALIGNING and mem[EVENT.last_id] < mem[book + BOOK_ROW.update_id]
        if not old:
            return RESULT_APPLIED
        if is_restart(mem, book):  # and this is the whole book in the new numbering
            mem[BOOK_COUNTERS.gaps] += 1
            mem[book + BOOK_ROW.state] = STATE_WAITING
            forget_numbering(mem, book)
            return RESULT_APPLIED
        mem[BOOK_COUNTERS.dropped] += 1
        return RESULT_DROPPED
    verdict = judge(mem, book, mem[EVENT.first_id], mem[EVENT.last_id], mem[EVENT.previous_id])
    if verdict == APPLY:
        return RESULT_APPLIED
    if verdict == WAIT:
        mem[BOOK_COUNTERS.buffered] += 1
        if mem[book + BOOK_ROW.state] == STATE_EMPTY:
            mem[book + BOOK_ROW.state] = STATE_WAITING
            return RESULT_NEED_SNAPSHOT
        return RESULT_BUFFERED
    if verdict == OLD:
        if not repeats(mem, book):
            mem[book + BOOK_ROW.old_run] += 1
        live = mem[book + BOOK_ROW.state] == STATE_LIVE
        if not live or (mem[book + BOOK_ROW.old_run] < OLD_RUN_MAX and not is_restart(mem, book)):
            mem[BOOK_COUNTERS.dropped] += 1
            if live and newer_by_ms(mem, book) > CONTRADICTS_MS:
                mem[BOOKS.publish_flags] = FLAG_UNPROVED  # of an earlier id and a later time: one of them is wrong
            return RESULT_DROPPED
        forget_numbering(mem, book)
    if not mem[BOOKS.quiet]:
        mem[BOOK_COUNTERS.gaps] += 1
        mem[BOOK_COUNTERS.buffered] += 1
    lose(mem, book, FLAG_GAP)
    return RESULT_NEED_SNAPSHOT


@njit
def depth_event(mem: Words, slot: int, snapshot: bool, recv_ns: int, conn: int) -> int:
    """A depth message of a known symbol, or a REST snapshot, through sequencer and book. Returns a ``RESULT_*``.

    A refused number leaves the book as it was; ``RESULT_GROW`` leaves it half changed: repeat the whole frame after
    growth (quantities are absolute). A whole book is emptied first and goes in last level first: it comes best first,
    and appending at the best end is cheapest.
    """
    book = book_row(mem, slot)
    if not snapshot:
        verdict = admit(mem, book)
        if verdict != RESULT_APPLIED:
            return verdict
    if not get(mem, EVENT.scaled):
        refused = scale_event(mem, book)
        if refused:
            if refused == RESULT_PRICE_PRECISION:
                lose(mem, book, FLAG_GAP | FLAG_HALTED)
            return refused
    whole = snapshot or get(mem, EVENT.full) == 1
    for which in range(2):
        side = book + BOOK_ROW.sides + which * SIDE.WORDS
        sign = 1 - 2 * which
        level = get(mem, EVENT.bid_off + 2 * which)
        count = get(mem, EVENT.bid_count + 2 * which)
        step = LEVEL.WORDS
        if whole:
            clear_side(mem, side)
            level += (count - 1) * step
            step = -step
        for _ in range(count):
            done = set_level(mem, side, sign * get(mem, level), get(mem, level + 1))
            if done:
                return RESULT_GROW if done == NO_ROOM else RESULT_OVERFLOW
            level += step
    if whole:
        set_horizon(mem, book)
        put(mem, book + BOOK_ROW.floor_ns, recv_ns)
        put(mem, book + BOOK_ROW.floor_id, get(mem, EVENT.last_id))
        put(mem, book + BOOK_ROW.next_floor_id, get(mem, EVENT.last_id))
    put(mem, BOOK_COUNTERS.inexact_levels, get(mem, BOOK_COUNTERS.inexact_levels) + get(mem, EVENT.inexact))
    put(mem, book + BOOK_ROW.update_id, get(mem, EVENT.last_id))
    if recv_ns - get(mem, book + BOOK_ROW.floor_ns) > OVERLAP_NS:
        put(mem, book + BOOK_ROW.floor_ns, recv_ns)
        put(mem, book + BOOK_ROW.floor_id, get(mem, book + BOOK_ROW.next_floor_id))
        put(mem, book + BOOK_ROW.next_floor_id, get(mem, EVENT.last_id))
    put(mem, book + BOOK_ROW.old_run, 0)
    put(mem, book + BOOK_ROW.recv_ns, max(recv_ns, get(mem, book + BOOK_ROW.recv_ns)))
    put(mem, book + BOOK_ROW.conn, conn)
    if get(mem, EVENT.time):
        put(mem, book + BOOK_ROW.venue_ns, venue_ns(get(mem, EVENT.time)))
    return applied(mem, book, slot, snapshot, whole)


@njit
def applied(mem: Words, book: int, slot: int, snapshot: bool, whole: bool) -> int:
    """State and publication after the levels are in: quarantines a crossed or contradicted book (a recorded one only
    for as long as it is so). Returns a ``RESULT_*``."""
    if snapshot:
        note_lead(mem, book, slot, True)
        put(mem, book + BOOK_ROW.state, STATE_ALIGNING)
        put(mem, BOOK_COUNTERS.snapshots, get(mem, BOOK_COUNTERS.snapshots) + 1)
        return RESULT_APPLIED
    if whole and get(mem, book + BOOK_ROW.state) < STATE_ALIGNING:
        synced(mem, book, True)
    put(mem, book + BOOK_ROW.state, STATE_LIVE)
    put(mem, BOOK_COUNTERS.applied, get(mem, BOOK_COUNTERS.applied) + 1)
    doubted = RESULT_APPLIED if get(mem, BOOKS.recorded) else RESULT_RESYNC
    if is_crossed(mem, book):
        put(mem, BOOK_COUNTERS.crossed, get(mem, BOOK_COUNTERS.crossed) + 1)
        if doubted == RESULT_RESYNC:
            lose(mem, book, FLAG_CROSSED)
        else:
            put(mem, BOOKS.publish_flags, FLAG_CROSSED)
        return doubted
    note_lead(mem, book, slot, False)
    if get(mem, book + BOOK_ROW.ticker_count) and check_tickers(mem, book, slot):
        return doubted
    put(mem, BOOKS.publish_flags, 0)
    return RESULT_KEPT if get(mem, book + BOOK_ROW.kept) else RESULT_APPLIED


@njit
def ticker_event(mem: Words, slot: int, conn: int) -> int:
    """Remembers a best-price ticker; one whose id is comparable may prove the book wrong. Returns a ``RESULT_*``.

    The first one of a connection that is newer than all others begins anew: what lies between is not known.
    """
    if mem[BOOKS.ticker_rule] == TICKER_NONE:
        return RESULT_TICKER
    book = book_row(mem, slot)
    count = mem[book + BOOK_ROW.ticker_count]
    base = mem[BOOKS.tickers_off] + slot * TICKER_RING * TICKER.WORDS
    newest = mem[base + ((count + TICKER_RING - 1) % TICKER_RING) * TICKER.WORDS]
    known = True
    if 0 <= conn < CONN_CAPACITY:
        known = mem[book + BOOK_ROW.ticker_conns] >> conn & 1 == 1
        mem[book + BOOK_ROW.ticker_conns] |= 1 << conn
    if count and mem[EVENT.last_id] <= newest:
        if mem[EVENT.last_id] == newest:
            note_repeat(mem, book, slot)
        return RESULT_TICKER  # a second connection or the venue repeats it, or it is an older one: nothing new
    if not known:
        mem[book + BOOK_ROW.ticker_count] = count = 0
    kept = remember_ticker(mem, book, base + (count % TICKER_RING) * TICKER.WORDS)
    if kept < 1:
        return RESULT_TICKER if kept == 0 else RESULT_UNKNOWN_SHAPE
    mem[book + BOOK_ROW.ticker_count] = count + 1
    note_ticker(mem, book, slot)
    # Only the first ticker at or above the book's id tells something new about the book as it stands.
    if mem[book + BOOK_ROW.state] != STATE_LIVE or newest >= mem[book + BOOK_ROW.update_id]:
        return RESULT_TICKER
    return RESULT_RESYNC if check_tickers(mem, book, slot) and not mem[BOOKS.recorded] else RESULT_TICKER


@njit
def watch_connection(mem: Words, words: Words, topic: int, slot: int, recv_ns: int, conn: int) -> None:
    """Before anything of a frame is published: whether its connection's frames are of now. Sets ``BOOKS.notice``."""
    mem[BOOKS.notice] = 0
    check_pause(mem, words, recv_ns)
    row = BOOKS.connections + conn * WATCH.WORDS
    if conn < 0 or conn >= CONN_CAPACITY or not mem[row + WATCH.open] or topic == TOPIC_CONTROL:
        return
    note_frame(mem, words, conn, recv_ns)
    if slot >= 0 and (topic == TOPIC_DEPTH or topic == TOPIC_TICKER):  # noqa: SIM109  a tuple is a loop to numba
        judge_time(mem, words, conn, recv_ns)


@njit
def route(mem: Words, words: Words, topic: int, recv_ns: int, conn: int) -> int:
    """A scanned frame to its book. Returns an ``RESULT_*``; counts, publishes, and stamps the connection after that.

    An event that the reference decoder wrote is routed the same way; it knows its slot, and so does a snapshot
    (``TOPIC_SNAPSHOT``, only while ``BOOKS.quiet`` is set: it publishes nothing).
    """
    slot = -1
    if mem[EVENT.scaled] or topic == TOPIC_SNAPSHOT:
        slot = mem[EVENT.slot]
    elif topic != TOPIC_OTHER and topic != TOPIC_CONTROL and mem[EVENT.symbol_len]:
        slot = find_symbol(mem, mem[EVENT.symbol_byte], mem[EVENT.symbol_len])
    mem[BOOKS.last_slot] = slot
    mem[BOOKS.publish_flags] = -1
    if topic == TOPIC_UNKNOWN:
        return RESULT_UNKNOWN_SHAPE
    live = not mem[BOOKS.quiet] and not mem[BOOKS.recorded]
    if live:
        watch_connection(mem, words, topic, slot, recv_ns, conn)
    if topic == TOPIC_CONTROL:
        mem[BOOK_COUNTERS.control] += 1
        result = RESULT_CONTROL
    elif slot < 0:
        mem[BOOK_COUNTERS.other] += 1
        result = RESULT_OTHER
    elif topic == TOPIC_TICKER:
        result = ticker_event(mem, slot, conn)
    else:
        result = depth_event(mem, slot, topic == TOPIC_SNAPSHOT, recv_ns, conn)
    if live and mem[BOOKS.notice]:
        result |= RESULT_NOTICE
    if (result & ~RESULT_NOTICE) >= RESULT_UNKNOWN_SHAPE or mem[BOOKS.quiet]:
        return result
    if mem[BOOKS.publish_flags] >= 0:
        publish(mem, words, book_row(mem, slot), mem[BOOKS.publish_flags])
    # What its own book does not believe proves no other; and a gateway answers pings while its data stands still.
    if topic != TOPIC_CONTROL and (result & ~RESULT_NOTICE) != RESULT_DROPPED:
        conn_frame(words, mem[BOOKS.feed_off], conn, recv_ns)
    mem[BOOK_COUNTERS.frames] += 1
    mem[BOOK_COUNTERS.slow_path if mem[EVENT.scaled] else BOOK_COUNTERS.fast_path] += 1
    if slot >= 0:
        mem[BOOK_COUNTERS.tickers if topic == TOPIC_TICKER else BOOK_COUNTERS.messages] += 1
    return result


@njit
def owner_publish(mem: Words, words: Words, slot: int, flags: int, action: int) -> int:
    """What Python publishes: ``OWNER_SYNCED`` after a snapshot and its replay (``RESULT_RESYNC`` if the book is
    crossed), ``OWNER_DEEPER`` where the book stood before it too, ``OWNER_LOSE`` when a book becomes invalid,
    ``OWNER_REPEAT`` to publish it again as it is."""
    book = book_row(mem, slot)
    result = RESULT_APPLIED
    if action == OWNER_LOSE:
        lose(mem, book, flags)
    elif action >= OWNER_SYNCED:
        if is_crossed(mem, book):
            mem[BOOK_COUNTERS.crossed] += 1
            flags = FLAG_CROSSED
            if mem[BOOKS.recorded]:
                synced(mem, book, action == OWNER_SYNCED)
            else:
                lose(mem, book, flags)
                result = RESULT_RESYNC
        else:
            synced(mem, book, action == OWNER_SYNCED)
    publish(mem, words, book, flags)
    return result
