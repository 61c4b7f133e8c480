"""One flat JSON object of market data to the event in memory, jitted: its keys, in any order, by what they mean.

What of text and numbers is known here, and what goes to the reference decoder, says
:mod:`pipeline.exchanges.parsing.json_scanner`.
"""

from __future__ import annotations

from pipeline.book import memory
from pipeline.book.memory import (
    BOOKS,
    EVENT,
    FRAME_BYTE,
    LEVEL,
    TOPIC_DEPTH,
    TOPIC_SNAPSHOT,
    TOPIC_TICKER,
    TOPIC_UNKNOWN,
)
from pipeline.exchanges.parsing.json_scanner import (
    BACKSLASH,
    BAD,
    CLOSE,
    COLON,
    COMMA,
    CONTROL,
    OPEN,
    OPEN_LIST,
    OTHER,
    QUOTE,
    V_FALSE,
    V_TRUE,
    at_end,
    end_frame,
    expect,
    packed,
    scan_decimal,
    scan_integer,
    scan_levels,
    skip_scalar,
    skip_space,
    skip_string,
    word_at,
)
from shm.bytewords import get, load1, put
from shm.jit import njit_bare as njit
from shm.words import Words

# keys of one and two characters, and the longer ones by their first eight
K_A_LOWER = packed("a")
K_B_LOWER = packed("b")
K_A_UPPER = packed("A")
K_B_UPPER = packed("B")
K_E_LOWER = packed("e")
K_E_UPPER = packed("E")
K_S_LOWER = packed("s")
K_T_LOWER = packed("t")
K_U_LOWER = packed("u")
K_U_UPPER = packed("U")
K_PU = packed("pu")
K_ID = packed("id")
K_BIDS = packed("bids")
K_ASKS = packed("asks")
K_FULL = packed("full")
K_CODE = packed("code")
K_MSG = packed("msg")
K_ERROR = packed("error")
K_RESULT = packed("result")
K_LAST_1 = packed("lastUpda")
K_LAST_2 = packed("teId")
V_DEPTH_1 = packed("depthUpd")
V_DEPTH_2 = packed("ate")
V_TICKER_1 = packed("bookTick")
V_TICKER_2 = packed("er")
V_SHUTDOWN_1 = packed("serverSh")
V_SHUTDOWN_2 = packed("utdown")

TICKER_NUMBERS = memory.KEY_BID_PRICE | memory.KEY_BID_QTY | memory.KEY_ASK_PRICE | memory.KEY_ASK_QTY
TICKER_KEYS = memory.KEY_SYMBOL | memory.KEY_LAST | TICKER_NUMBERS
TICKER_FORBIDDEN = memory.KEY_FIRST | memory.KEY_BID | memory.KEY_ASK | memory.KEY_PREVIOUS

MODE_FRAME = 0
MODE_SNAPSHOT = 1


@njit
def clear_event(mem: Words) -> None:
    """Forgets the last frame: EVENT in the memory of BOOKS is zero, and both lists of levels are empty."""
    for k in range(BOOKS.event, BOOKS.event + EVENT.WORDS):
        put(mem, k, 0)
    put(mem, EVENT.bid_off, BOOKS.levels)
    put(mem, EVENT.ask_off, BOOKS.levels)


@njit
def mark(mem: Words, bit: int) -> bool:
    """Notes a key; False if it was there already (which value counts is not for the scanner to say)."""
    if get(mem, EVENT.seen_keys) & bit:
        return False
    put(mem, EVENT.seen_keys, get(mem, EVENT.seen_keys) | bit)
    return True


@njit
def field_levels(mem: Words, i: int, bit: int, is_bid: bool) -> int:
    """Bids or asks of an event."""
    if not mark(mem, bit):
        return BAD
    off = BOOKS.levels + (get(mem, EVENT.bid_count) + get(mem, EVENT.ask_count)) * LEVEL.WORDS
    i, count = scan_levels(mem, i, off)
    if i < 0:
        return BAD
    if is_bid:
        put(mem, EVENT.bid_off, off)
        put(mem, EVENT.bid_count, count)
    else:
        put(mem, EVENT.ask_off, off)
        put(mem, EVENT.ask_count, count)
    return i


@njit
def field_tick(mem: Words, i: int, bit: int, slot: int) -> int:
    """One number of a ticker; an empty string is an empty side (digits -1)."""
    if not mark(mem, bit):
        return BAD
    if load1(mem, i) == QUOTE and load1(mem, i + 1) == QUOTE:
        put(mem, slot, 0)
        put(mem, slot + 1, -1)
        return i + 2
    value, digits, i = scan_decimal(mem, i)
    put(mem, slot, value)
    put(mem, slot + 1, digits)
    return i


@njit
def field_integer(mem: Words, i: int, bit: int, slot: int) -> int:
    """An integer of an event."""
    if not mark(mem, bit):
        return BAD
    value, i = scan_integer(mem, i)
    put(mem, slot, value)
    return i


@njit
def field_event(mem: Words, i: int) -> int:
    """The value of ``e``: goes on for depth and tickers, else ``OTHER`` or ``CONTROL``."""
    if load1(mem, i) != QUOTE or not mark(mem, memory.KEY_EVENT):
        return BAD
    end = skip_string(mem, i + 1)
    if end < 0:
        return BAD
    length = end - i - 1
    one, two = word_at(mem, i + 1, length), word_at(mem, i + 9, length - 8)
    if length == 11 and one == V_DEPTH_1 and two == V_DEPTH_2:
        mem[EVENT.kind] = TOPIC_DEPTH
    elif length == 10 and one == V_TICKER_1 and two == V_TICKER_2:
        mem[EVENT.kind] = TOPIC_TICKER
    elif length == 14 and one == V_SHUTDOWN_1 and two == V_SHUTDOWN_2:
        return CONTROL
    else:
        return OTHER
    return end + 1


@njit
def field_symbol(mem: Words, i: int) -> int:
    """The value of ``s``."""
    if load1(mem, i) != QUOTE or not mark(mem, memory.KEY_SYMBOL):
        return BAD
    end = skip_string(mem, i + 1)
    if end < 0:
        return BAD
    mem[EVENT.symbol_byte] = i + 1
    mem[EVENT.symbol_len] = end - i - 1
    return end + 1


@njit
def field_full(mem: Words, i: int) -> int:
    """``"full":true``."""
    if not mark(mem, memory.KEY_FULL):
        return BAD
    if word_at(mem, i, 4) == V_TRUE:
        mem[EVENT.full] = 1
        return i + 4
    return i + 5 if word_at(mem, i, 5) == V_FALSE else BAD


@njit
def field_short(mem: Words, i: int, key: int) -> int:
    """Value of a key of one or two characters; see :func:`scan_fields`."""
    c = load1(mem, i)
    if key == K_B_LOWER:
        if c == OPEN_LIST:
            return field_levels(mem, i, memory.KEY_BID, True)
        return field_tick(mem, i, memory.KEY_BID_PRICE, EVENT.tick)
    if key == K_A_LOWER:
        if c == OPEN_LIST:
            return field_levels(mem, i, memory.KEY_ASK, False)
        return field_tick(mem, i, memory.KEY_ASK_PRICE, EVENT.tick + 4)
    if key == K_U_LOWER:
        return field_integer(mem, i, memory.KEY_LAST, EVENT.last_id)
    if key == K_U_UPPER:
        return field_integer(mem, i, memory.KEY_FIRST, EVENT.first_id)
    if key == K_PU:
        return field_integer(mem, i, memory.KEY_PREVIOUS, EVENT.previous_id)
    if key == K_S_LOWER:
        return field_symbol(mem, i)
    if key == K_E_UPPER:
        return field_integer(mem, i, memory.KEY_TIME, EVENT.time)
    if key == K_T_LOWER:
        return field_integer(mem, i, memory.KEY_TIME_2, EVENT.time_2)
    if key == K_E_LOWER:
        return field_event(mem, i)
    if key == K_B_UPPER:
        return field_tick(mem, i, memory.KEY_BID_QTY, EVENT.tick + 2)
    if key == K_A_UPPER:
        return field_tick(mem, i, memory.KEY_ASK_QTY, EVENT.tick + 6)
    return skip_scalar(mem, i)


@njit
def field_long(mem: Words, i: int, key: int, key_2: int, length: int, mode: int) -> int:
    """Value of a longer key (and of ``id``); see :func:`scan_fields`."""
    whole = (length == 12 and key == K_LAST_1 and key_2 == K_LAST_2) or (length == 2 and key == K_ID)
    if mode == MODE_SNAPSHOT:
        if whole:
            return field_integer(mem, i, memory.KEY_LAST, EVENT.last_id)
        if length == 4 and key in (K_BIDS, K_ASKS):
            if load1(mem, i) != OPEN_LIST:
                return BAD
            return field_levels(mem, i, memory.KEY_BID if key == K_BIDS else memory.KEY_ASK, key == K_BIDS)
        return skip_scalar(mem, i)
    if length == 4 and key == K_FULL:
        return field_full(mem, i)
    if length == 12 and whole:
        return OTHER  # partial books of a fixed depth name no symbol
    if (
        (length == 2 and key == K_ID)
        or (length == 3 and key == K_MSG)
        or (length == 4 and key == K_CODE)
        or (length == 5 and key == K_ERROR)
        or (length == 6 and key == K_RESULT)
    ):
        return CONTROL
    return skip_scalar(mem, i)


@njit
def scan_fields(mem: Words, i: int, mode: int) -> int:
    """One flat object into EVENT of the books' memory; ``i`` at its brace. Index behind it, ``BAD``, ``OTHER`` or
    ``CONTROL``.

    Keys in any order: ``e s U u pu b a B A E t full`` of frames; ``lastUpdateId`` or ``id``, ``bids``, ``asks`` of
    snapshots; others are read over. ``OTHER`` and ``CONTROL`` are returned at the first key that shows them; the rest
    of such a frame is not read.
    """
    i = skip_space(mem, i + 1)
    if load1(mem, i) == CLOSE:
        return i + 1
    while True:
        if load1(mem, i) != QUOTE:
            return BAD
        if load1(mem, i + 2) == QUOTE:
            length = 1
            key = load1(mem, i + 1)
            if key < 32 or key > 127 or key in (BACKSLASH, QUOTE):
                return BAD
            key_2 = 0
            i += 3
        else:
            end = skip_string(mem, i + 1)
            if end < 0:
                return BAD
            length = end - i - 1
            key = word_at(mem, i + 1, length)
            key_2 = word_at(mem, i + 9, length - 8)
            i = end + 1
        i = expect(mem, i, COLON)
        if i < 0:
            return BAD
        c = load1(mem, i)
        if c == 32 or c == 10 or c == 13 or c == 9:
            i = skip_space(mem, i)
        if length == 1 or (length == 2 and key == K_PU):
            i = field_short(mem, i, key) if mode == MODE_FRAME else skip_scalar(mem, i)
        else:
            i = field_long(mem, i, key, key_2, length, mode)
        if i < 0:
            return i
        c = load1(mem, i)
        if c != COMMA and c != CLOSE:
            i = skip_space(mem, i)
            c = load1(mem, i)
        if c == CLOSE:
            return i + 1
        if c != COMMA:
            return BAD
        i += 1
        if load1(mem, i) != QUOTE:
            i = skip_space(mem, i)


@njit
def scan_snapshot(mem: Words, length: int) -> int:
    """A REST order book of ``length`` bytes at FRAME_BYTE (``lastUpdateId`` or ``id``, ``bids``, ``asks``) into EVENT
    of the books' memory; TOPIC_SNAPSHOT, or TOPIC_UNKNOWN for anything else."""
    clear_event(mem)
    end_frame(mem, length)
    i = skip_space(mem, FRAME_BYTE)
    if load1(mem, i) != OPEN:
        return TOPIC_UNKNOWN
    i = scan_fields(mem, i, MODE_SNAPSHOT)
    if i < 0 or not at_end(mem, i, length):
        return TOPIC_UNKNOWN
    wanted = memory.KEY_LAST | memory.KEY_BID | memory.KEY_ASK
    if mem[EVENT.seen_keys] & wanted != wanted or mem[EVENT.last_id] <= 0:
        return TOPIC_UNKNOWN
    return TOPIC_SNAPSHOT
