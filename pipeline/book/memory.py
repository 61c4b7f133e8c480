"""Private memory of one venue's books: one ``int64`` array, declared in tables (:mod:`shm.declare`).

::

    | BOOKS: head, counters, event, connections, record, frame bytes, raw levels | symbol table | book rows | tickers |
    | directories | blocks ... |

One array, because each array argument of a kernel costs a hundred nanoseconds per call. Only the blocks grow: they lie
last, so that a bigger array with the old contents in front keeps every offset valid. One process reads and writes it;
nothing here is shared. Kernels carry these constants: they are compiled in.
"""

from __future__ import annotations

import numpy as np

from shm.declare import Table, rows_of, word, words_of
from shm.layout import BOOK, CONN_CAPACITY, LINE_WORDS
from shm.words import Words

FEED = "feed"  # who writes all of it: the process that owns the books

# --- how an update names its predecessor ---
LINK_FIRST = 0  # first id == predecessor's last id + 1
LINK_PREVIOUS = 1  # the update carries its predecessor's last id

# --- what a ticker's update id proves ---
TICKER_NONE = 0  # ids of tickers and depth do not compare
TICKER_EQUAL = 1  # comparable when equal (conflated tickers)
TICKER_EVERY = 2  # every change of the top makes a ticker: the newest not above the book's id must equal the book
TICKER_TOP = 3  # ids do not compare: a later ticker of another best price or quantity has an update to come

# --- what a frame is about ---
TOPIC_UNKNOWN = 0  # shape that the scanner does not know: to the reference decoder
TOPIC_DEPTH = 1
TOPIC_TICKER = 2
TOPIC_OTHER = 3
TOPIC_CONTROL = 4
TOPIC_SNAPSHOT = 5

# --- which keys a frame has had ---
KEY_EVENT = 1
KEY_SYMBOL = 2
KEY_FIRST = 4
KEY_LAST = 8
KEY_PREVIOUS = 16
KEY_BID = 32
KEY_ASK = 64
KEY_BID_QTY = 128
KEY_ASK_QTY = 256
KEY_TIME = 512
KEY_TIME_2 = 1024
KEY_FULL = 2048
KEY_BID_PRICE = 4096
KEY_ASK_PRICE = 8192

# --- how a book stands ---
STATE_EMPTY = 0  # nothing seen yet: the first update asks for a snapshot
STATE_WAITING = 1  # asked: updates are buffered
STATE_ALIGNING = 2  # snapshot loaded, no update on top of it yet
STATE_LIVE = 3

BID = 0
ASK = 1

FRAME_CAP_BYTES = 4 << 20  # what the sockets let through; a REST snapshot of 5000 levels a side is 0.4 MB
# Zero bytes behind the frame stop every scan. Levels begin half a page off the frame: a load whose address equals that
# of a store just before it in the low twelve bits waits for it, and levels are stored while the frame is read.
FRAME_WORDS = FRAME_CAP_BYTES // 8 + 256
LEVEL_CAP = 131072  # levels of both sides in one frame
SYMBOL_TEXT_WORDS = 3
SYMBOL_BYTES = SYMBOL_TEXT_WORDS * 8
TICKER_RING = 64  # tickers remembered for each book
BLOCK_LEVELS = 64
BLOCK_WORDS = 2 * BLOCK_LEVELS  # a level is | key | quantity |
DIRECTORY_CAP = 2048  # blocks of a side; at least 65536 levels
COUNT_BITS = 7
COUNT_MASK = (1 << COUNT_BITS) - 1
BLOCKS_START = 64

OLD_RUN_MAX = 64  # so many old updates in a row, none known to be repeated: the venue's numbering has restarted
OVERLAP_NS = 5_000_000_000  # connections overlap for a second: an update that another one repeats is never older
HORIZON_NONE = -(2**63)  # below every key: the side is known whole
FP_LIMIT = 2**62
_COPY_WORDS = 4096


class Watch(Table, words=16, writer=FEED):
    """A connection that the owner watches (:mod:`pipeline.book.freshness`), by row of the feed's connection table.

    line 0 | open | on_time | time_max | late_ns | data_ns | back_ms | timed | life_ns |
    line 1 | flow_ns | 0[7] |
    """

    open = word("1 = its owner has opened it: its frames are judged")
    on_time = word("1 = its frames prove something")
    time_max = word("latest venue time of a frame", unit="as sent: ms or us since 1970")
    late_ns = word("when the last late frame came", unit="ns of the monotonic clock")
    data_ns = word("when the last frame that is no answer or notice came", unit="ns of the monotonic clock")
    back_ms = word("largest backward step since the owner took it")
    timed = word("frames that carried a time", unit="frames")
    life_ns = word(
        "since when its frames follow each other without a silence; 0 = since it opened",
        unit="ns of the monotonic clock",
    )
    flow_ns = word("time in which frames came, since it opened: of a gap between two, FLOW_STEP_NS at most", unit="ns")


WATCH = Watch()


class Level(Table, words=4, writer=FEED):
    """A level as a scanner found it; scaled to the book's exponents in place.

    | price | qty | price_digits | qty_digits |
    """

    price = word("mantissa, then price_fp", unit="10^-price_digits")
    qty = word("mantissa, then qty_fp", unit="10^-qty_digits")
    price_digits = word("digits after the point", unit="digits")
    qty_digits = word("digits after the point", unit="digits")


LEVEL = Level()


class Books(Table, writer=FEED):
    """What does not depend on how many books there are: the head, and the work area of one frame.

    line 0             | feed_off | link | drop_offset | first_offset | overlap | ticker_rule | deep | quiet |
    line 1             | recorded | rows_off | symbols_off | symbol_mask | tickers_off | directories_off | blocks_off |
                       | block_count |
    line 2             | block_free | block_used | last_slot | needed_exp | publish_flags | 0 | 0 | 0 |
    line 3..5          | counters[24] |
    line 6             | tick_ns | clock_known | clock_offset_ms | gap_known | least_gap_ms | lag_ms | back_ms |
                       | notice |
    line 7             | turn_ms | clock_error_ms | ahead_known | ahead_ms | closed_until_ns | 0 | 0 | 0 |
    line 8..11         | event[32] |
    line 12..139       | connections: 64 WATCH ... |
    line 140..151      | record: 1 BOOK ... |
    line 152..65719    | frame[524544] |
    line 65720..131255 | levels: 131072 LEVEL ... |
    """

    # venue rules (data, written once)
    feed_off = word("the feed segment in the shared words")
    link = word("LINK_*: how an update names its predecessor", codes={LINK_FIRST: "first", LINK_PREVIOUS: "previous"})
    drop_offset = word("an update with last < snapshot + this is older than the snapshot")
    first_offset = word("the first update must have first <= snapshot + this")
    overlap = word("1: an update that begins at or below the local id and ends above it is applied")
    ticker_rule = word("TICKER_*: what a ticker proves")
    deep = word("1: updates come from any depth, so that a snapshot that was cut off leaves a horizon")
    quiet = word("1 while buffered updates are replayed: nothing is published")
    recorded = word("1: recorded time: publish time = receive time, and a doubted book goes on (nobody can be asked)")
    # where the parts behind this table begin
    rows_off = word("BOOK_ROW, by slot")
    symbols_off = word("the symbol table")
    symbol_mask = word("entries of the symbol table - 1")
    tickers_off = word("TICKER_RING rows of TICKER for each slot")
    directories_off = word("two directories for each slot: bids, asks")
    blocks_off = word("blocks of BLOCK_WORDS")
    block_count = word("blocks in the array", unit="blocks")
    block_free = word("head of the free list (block number + 1; 0 = none)")
    block_used = word("blocks ever taken from the tail", unit="blocks")
    # about the last call
    last_slot = word("slot of the book that the last result was about; -1 = none")
    needed_exp = word("what the exponent must be for the price that was refused")
    publish_flags = word("flags that the frame's book is to be published with; -1 = not")
    counters = words_of(24, "BOOK_COUNTERS", at=24)
    # are frames of now (freshness.py)
    tick_ns = word("when the owner's loop last came round; 0 = nobody watches it", unit="ns of the monotonic clock")
    clock_known = word("1 = clock_offset_ms is known")
    clock_offset_ms = word("venue unix ms = monotonic ms + this")
    gap_known = word("1 = least_gap_ms is known")
    least_gap_ms = word("least (receive ms - venue ms) ever seen")
    lag_ms = word("what the rows allow topics to run apart")
    back_ms = word("the backward step that exceeded it")
    notice = word("freshness.NOTICE_*: what the owner must look at after this frame")
    turn_ms = word("venue time of the next NOTICE_TURN", unit="unix ms")
    clock_error_ms = word("a frame may be later by so much than clock_offset_ms says")
    ahead_known = word("1 = ahead_ms is known")
    ahead_ms = word("frames come with times as far ahead of the venue's clock since that was asked")
    closed_until_ns = word("no frame from before proves anything: the venue's clock has moved")
    event = words_of(32, "EVENT: what a scanner found in the frame", at=64)
    connections = rows_of(WATCH, CONN_CAPACITY, "by row of the feed's connection table")
    record = rows_of(BOOK, 1, "handed to the book ring")
    frame = words_of(FRAME_WORDS, "the frame's bytes, zeros behind them", unit="bytes")
    levels = rows_of(LEVEL, LEVEL_CAP, "both sides of the frame")


BOOKS = Books()
FRAME_BYTE = BOOKS.frame * 8
assert BOOKS.record % LINE_WORDS == 0
assert (BOOKS.levels - BOOKS.frame) * 8 % 4096 == 2048


class BookCounters(Table, words=24, start=BOOKS.counters, writer=FEED):
    """What is counted of one venue's frames and books.

    line 0 | frames | messages | applied | dropped | gaps | resyncs | fast_path | slow_path |
    line 1 | crossed | rejected | inexact_levels | tickers | contradicted | other | control | snapshots |
    line 2 | stale_snapshots | buffered | published | overflowed | filled | 0 | 0 | 0 |
    """

    frames = word("every frame handed in", unit="frames")
    messages = word("depth messages of known symbols", unit="messages")
    applied = word("updates applied", unit="messages")
    dropped = word("older than the book or its snapshot", unit="messages")
    gaps = word("continuity lost")
    resyncs = word("synchronised again after having been synchronised before")
    fast_path = word("frames decoded by the byte scanner", unit="frames")
    slow_path = word("frames that went to the reference decoder", unit="frames")
    crossed = word("books found with best bid >= best ask")
    rejected = word("bytes that the venue's documents do not allow", unit="frames")
    inexact_levels = word("quantities with digits beyond the exponent, or beyond fixed point, cut down", unit="levels")
    tickers = word("tickers of known symbols", unit="messages")
    contradicted = word("tickers that proved a book wrong (each is a gap too)", unit="messages")
    other = word("other topics, unknown symbols", unit="frames")
    control = word("answers and notices", unit="frames")
    snapshots = word("snapshots loaded")
    stale_snapshots = word("snapshots that the buffered updates do not reach")
    buffered = word("updates kept until their snapshot is there", unit="messages")
    published = word("records published")
    overflowed = word("books or buffers that outgrew their bound")
    filled = word("gaps that another connection has filled")


BOOK_COUNTERS = BookCounters()
COUNTER_NAMES = tuple(field.name for field in BOOK_COUNTERS.FIELDS)


class Event(Table, words=32, start=BOOKS.event, writer=FEED):
    """What a scanner found in one frame.

    line 0 | topic | symbol_byte | symbol_len | first_id | last_id | previous_id | full | time |
    line 1 | bid_off | bid_count | ask_off | ask_count | scaled | seen_keys | kind | time_2 |
    line 2 | tick[8] |
    line 3 | inexact | slot | 0[6] |
    """

    topic = word("TOPIC_*")
    symbol_byte = word("where the symbol stands", unit="byte index in this array")
    symbol_len = word("0 = not seen", unit="bytes")
    first_id = word("first update id that it covers")
    last_id = word("last update id that it covers")
    previous_id = word("its predecessor's last id, where the venue says it")
    full = word("1 = a whole book")
    time = word("0 = not sent", unit="as sent: ms or us since 1970")
    bid_off = word("first raw bid level")
    bid_count = word("raw bid levels", unit="levels")
    ask_off = word("first raw ask level")
    ask_count = word("raw ask levels", unit="levels")
    scaled = word("1: levels are fixed point of the book already (reference decoder)")
    seen_keys = word(
        "KEY_*: its keys so far; one that comes twice makes the frame unknown",
        flags={
            KEY_EVENT: "event",
            KEY_SYMBOL: "symbol",
            KEY_FIRST: "first id",
            KEY_LAST: "last id",
            KEY_PREVIOUS: "previous id",
            KEY_BID: "bids",
            KEY_ASK: "asks",
            KEY_BID_QTY: "bid quantity",
            KEY_ASK_QTY: "ask quantity",
            KEY_TIME: "time",
            KEY_TIME_2: "other time",
            KEY_FULL: "full",
            KEY_BID_PRICE: "bid price",
            KEY_ASK_PRICE: "ask price",
        },
    )
    kind = word("packed text of the event or channel")
    time_2 = word("the other time key (``t``)", unit="as sent")
    tick = words_of(8, "4 raw numbers: bid, bid qty, ask, ask qty; as (mantissa, digits) pairs; digits -1 = empty")
    inexact = word("quantities cut down in this frame", unit="levels")
    slot = word("the book's slot, with ``scaled``")


EVENT = Event()


class Symbol(Table, words=4, writer=FEED):
    """Entry of the symbol table: open addressing by the text's hash.

    | text[3] | slot |
    """

    text = words_of(SYMBOL_TEXT_WORDS, "the venue's name, padded with zeros")
    slot = word("slot + 1; 0 = free")


SYMBOL = Symbol()


class Side(Table, words=2, writer=FEED):
    """One side of a book.

    | blocks | directory_off |
    """

    blocks = word("blocks in its directory", unit="blocks")
    directory_off = word("its directory")


SIDE = Side()


class BookRow(Table, words=40, writer=FEED):
    """One book.

    line 0 | instrument | book_index | state | update_id | price_exp | qty_exp | multiplier | multiplier_exp |
    line 1 | row_epoch | conn | recv_ns | venue_ns | was_synced | old_run | sticky_flags | pending_flags |
    line 2 | last_flags | ticker_count | used | floor_ns | sides: 2 SIDE ... |
    line 3 | horizon[2] | reach[2] | kept | lead_ns | floor_id | next_floor_id |
    line 4 | ticker_conns | 0[7] |
    """

    instrument = word("row of the catalogue")
    book_index = word("ring in the feed segment")
    state = word(
        "STATE_*",
        codes={STATE_EMPTY: "empty", STATE_WAITING: "waiting", STATE_ALIGNING: "aligning", STATE_LIVE: "live"},
    )
    update_id = word("last id of the newest update in it")
    price_exp = word("of its price_fp")
    qty_exp = word("of its qty_fp")
    multiplier = word("base quantity = contracts * multiplier * 10^-multiplier_exp")
    multiplier_exp = word("of the multiplier")
    row_epoch = word("of the catalogue row that the exponents are from")
    conn = word("connection that brought the newest update")
    recv_ns = word("when it came", unit="ns of the monotonic clock")
    venue_ns = word("the venue's time of it; 0 = not sent", unit="ns since 1970")
    was_synced = word("1 = has been synchronised before")
    old_run = word("old updates since the last applied one, less those repeated by their time", unit="messages")
    sticky_flags = word("set by the owner (halted), in every record")
    pending_flags = word("in the next record only (snapshot)")
    last_flags = word("of the newest published record")
    ticker_count = word("tickers ever remembered", unit="messages")
    used = word("1 = the slot is taken")
    floor_ns = word("when next_floor_id was the newest one", unit="ns of the monotonic clock")
    sides = rows_of(SIDE, 2, "bids, asks", at=20)
    horizon = words_of(2, "bids, asks: worst key up to which all levels are known; HORIZON_NONE = all are")
    reach = words_of(2, "best key - horizon when its snapshot was loaded", unit="price_fp")
    kept = word("1 = updates are applied and kept as well, for a snapshot that is being fetched")
    lead_ns = word(
        "flow_ns of its connection, plus one, when a ticker was first ahead of the book; 0 = none is", unit="ns"
    )
    floor_id = word("an id that was the newest one at least OVERLAP_NS ago")
    next_floor_id = word("the next floor_id")
    ticker_conns = word("bit for each connection that has brought a ticker of it since it opened")


BOOK_ROW = BookRow()


class Ticker(Table, words=6, writer=FEED):
    """A recent ticker of a book.

    | update_id | bid_price_fp | bid_qty_fp | ask_price_fp | ask_qty_fp | venue_ns |
    """

    update_id = word("the venue's number")
    bid_price_fp = word("best bid; 0 = none")
    bid_qty_fp = word("its quantity")
    ask_price_fp = word("best ask; 0 = none")
    ask_qty_fp = word("its quantity")
    venue_ns = word("the venue's time of it; 0 = not sent", unit="ns since 1970")


TICKER = Ticker()


class Entry(Table, words=2, writer=FEED):
    """A block of a side, in its directory: worst prices first.

    | first_key | packed |
    """

    first_key = word("of the block's first level", unit="price_fp of a bid, -price_fp of an ask")
    packed = word("block number << COUNT_BITS | levels in it")


ENTRY = Entry()
DIRECTORY_WORDS = DIRECTORY_CAP * ENTRY.WORDS


def table_size(capacity: int) -> int:
    """Entries of the symbol table for ``capacity`` books: a power of two, at most half full."""
    return 1 << max(4, (2 * capacity - 1).bit_length())


def new_memory(capacity: int, feed_off: int, *, blocks: int = BLOCKS_START) -> Words:
    """Zeroed memory (BOOKS, int64) for ``capacity`` books with its offsets filled; pages are only used once touched.
    ``feed_off``: where the FEED lies in the words that the kernels get with it."""
    entries = table_size(capacity)
    book_off = BOOKS.END + entries * SYMBOL.WORDS
    ticker_off = book_off + capacity * BOOK_ROW.WORDS
    directory_off = ticker_off + capacity * TICKER_RING * TICKER.WORDS
    block_off = directory_off + capacity * 2 * DIRECTORY_WORDS
    mem = np.zeros(block_off + blocks * BLOCK_WORDS, dtype=np.int64)
    mem[BOOKS.feed_off] = feed_off
    mem[BOOKS.rows_off] = book_off
    mem[BOOKS.symbols_off] = BOOKS.END
    mem[BOOKS.symbol_mask] = entries - 1
    mem[BOOKS.tickers_off] = ticker_off
    mem[BOOKS.directories_off] = directory_off
    mem[BOOKS.blocks_off] = block_off
    mem[BOOKS.block_count] = blocks
    mem[BOOKS.last_slot] = -1
    return mem


def frame_bytes(mem: Words) -> memoryview:
    """Where a frame is written for the scanners."""
    return memoryview(mem.data).cast("B")[FRAME_BYTE : FRAME_BYTE + FRAME_CAP_BYTES]


def grown(mem: Words) -> Words:
    """Memory with twice the blocks and the same contents in front. Pages that hold nothing stay untouched."""
    blocks = int(mem[BOOKS.block_count]) * 2
    bigger = np.zeros(int(mem[BOOKS.blocks_off]) + blocks * BLOCK_WORDS, dtype=np.int64)
    for at in range(0, len(mem), _COPY_WORDS):
        part = mem[at : at + _COPY_WORDS]
        if part.any():
            bigger[at : at + len(part)] = part
    bigger[BOOKS.block_count] = blocks
    return bigger
