"""Private memory of one venue's books: one ``int64`` array, every offset written here. Words unless said otherwise.

::

    | head | event | record | frame bytes | raw levels | symbol table | book rows | tickers | directories | blocks ... |

One array, because each array argument of a kernel costs a hundred nanoseconds per call. Only the blocks grow: they lie
last, so that a bigger array with the old contents in front keeps every offset valid. One process reads and writes it;
nothing here is shared. Kernels carry these constants: they are compiled in.
"""

from __future__ import annotations

import numpy as np

from shm import layout
from shm.words import Words

# --- head: venue rules (data, written once) ---
H_FEED_OFF = 0  # word offset of the feed segment in the shared words
H_LINK = 1  # LINK_*: how an update names its predecessor
H_DROP_OFFSET = 2  # an update with last < snapshot + this is older than the snapshot
H_FIRST_OFFSET = 3  # the first update must have first <= snapshot + this
H_OVERLAP = 4  # 1: an update that begins at or below the local id and ends above it is applied
H_TICKER = 5  # TICKER_*: what a ticker's update id proves
H_QUIET = 7  # 1 while buffered updates are replayed: nothing is published
H_RECORDED = 8  # 1: recorded time: publish time = receive time, and a doubted book goes on (nobody can be asked)
H_BOOK_OFF = 9  # word offset of the book rows
H_SYMBOL_OFF = 10
H_SYMBOL_MASK = 11
H_TICKER_OFF = 12
H_DIRECTORY_OFF = 13
H_BLOCK_OFF = 14
H_BLOCK_COUNT = 15  # blocks in the array
H_BLOCK_FREE = 16  # head of the free list (block number + 1; 0 = none)
H_BLOCK_USED = 17  # blocks ever taken from the tail
# --- head: about the last call ---
H_LAST_SLOT = 18  # slot of the book that the last result was about; -1 = none
H_PUBLISH = 20  # flags that the frame's book is to be published with; -1 = not
H_NEEDED_EXP = 19  # digits after the point that a refused price needs
# --- head: counters ---
H_COUNTERS = 24
COUNTER_NAMES = (
    "frames",  # every frame handed in
    "messages",  # depth messages of known symbols
    "applied",
    "dropped",  # older than the book or its snapshot
    "gaps",
    "resyncs",  # synchronised again after having been synchronised before
    "fast_path",  # frames decoded by the byte scanner
    "slow_path",  # frames that went to the reference decoder
    "crossed",
    "rejected",  # bytes that the venue's documents do not allow
    "inexact_levels",  # quantities with digits beyond the exponent, cut down
    "tickers",
    "contradicted",  # tickers that proved a book wrong (each is a gap too)
    "other",  # other topics, unknown symbols
    "control",
    "snapshots",  # snapshots loaded
    "stale_snapshots",  # snapshots that the buffered updates do not reach
    "buffered",
    "published",
    "overflowed",  # books or buffers that outgrew their bound
)
(
    C_FRAMES,
    C_MESSAGES,
    C_APPLIED,
    C_DROPPED,
    C_GAPS,
    C_RESYNCS,
    C_FAST_PATH,
    C_SLOW_PATH,
    C_CROSSED,
    C_REJECTED,
    C_INEXACT,
    C_TICKERS,
    C_CONTRADICTED,
    C_OTHER,
    C_CONTROL,
    C_SNAPSHOTS,
    C_STALE_SNAPSHOTS,
    C_BUFFERED,
    C_PUBLISHED,
    C_OVERFLOWED,
) = range(H_COUNTERS, H_COUNTERS + len(COUNTER_NAMES))
# --- head: are frames of now (freshness.py) ---
H_TICK_NS = 48  # when the owner's loop last came round; 0 = nobody watches it
H_CLOCK_KNOWN = 49
H_CLOCK_OFFSET_MS = 50  # venue unix ms = monotonic ms + this
H_GAP_KNOWN = 51
H_LEAST_GAP_MS = 52  # least (receive ms - venue ms) ever seen
H_LAG_MS = 53  # what the rows allow topics to run apart
H_BACK_MS = 54  # the backward step that exceeded it
H_NOTICE = 55  # freshness.NOTICE_*: what the owner must look at after this frame
HEAD_WORDS = 64
assert H_COUNTERS + len(COUNTER_NAMES) <= H_TICK_NS

LINK_FIRST = 0  # first id == predecessor's last id + 1
LINK_PREVIOUS = 1  # the update carries its predecessor's last id

TICKER_NONE = 0  # ids of tickers and depth do not compare
TICKER_EQUAL = 1  # comparable when equal (conflated tickers)
TICKER_EVERY = 2  # every change of the top makes a ticker: the newest not above the book's id must equal the book

# --- event: what a scanner found in one frame ---
EV = HEAD_WORDS
EV_TOPIC = EV  # TOPIC_*
EV_SYMBOL_BYTE = EV + 1  # byte index in this array
EV_SYMBOL_LEN = EV + 2  # 0 = not seen
EV_FIRST = EV + 3
EV_LAST = EV + 4
EV_PREVIOUS = EV + 5
EV_FULL = EV + 6
EV_TIME = EV + 7  # as sent: ms or us since 1970; 0 = not sent
EV_BID_OFF = EV + 8  # word offset of the first raw bid level
EV_BID_COUNT = EV + 9
EV_ASK_OFF = EV + 10
EV_ASK_COUNT = EV + 11
EV_SCALED = EV + 12  # 1: levels are fixed point of the book already (reference decoder)
EV_SEEN = EV + 13  # bits of keys seen
EV_KIND = EV + 14  # packed text of the event or channel
EV_TIME_2 = EV + 15  # the other time key (Gate.io ``t``)
EV_TICK = EV + 16  # 4 raw numbers: bid, bid qty, ask, ask qty; as (mantissa, digits) pairs; digits -1 = empty
EV_INEXACT = EV + 24  # quantities cut down in this frame
EV_SLOT = EV + 25  # the book's slot, with EV_SCALED
EVENT_WORDS = 32

TOPIC_UNKNOWN = 0  # shape that the scanner does not know: to the reference decoder
TOPIC_DEPTH = 1
TOPIC_TICKER = 2
TOPIC_OTHER = 3
TOPIC_CONTROL = 4
TOPIC_SNAPSHOT = 5

# --- connections that the owner watches, by row of the feed's connection table ---
CONNS = EV + EVENT_WORDS
CW_OPEN = 0
CW_ON_TIME = 1
CW_TIME_MAX = 2  # latest venue time of a frame, as sent
CW_LATE_NS = 3  # when the last late frame came
CW_DATA_NS = 4  # when the last frame that is no answer or notice came
CW_BACK_MS = 5  # largest backward step since the owner took it
CW_TIMED = 6  # frames that carried a time
CW_LIFE_NS = 7  # since when its frames follow each other without a silence (0: since it opened)
CW_WORDS = 8

RECORD = CONNS + layout.CONN_CAPACITY * CW_WORDS  # 96 words, handed to the book ring
assert (RECORD * layout.WORD_BYTES) % 64 == 0
FRAME = RECORD + layout.BOOK_RECORD_WORDS
FRAME_CAP_BYTES = 4 << 20  # what the sockets let through; a REST snapshot of 5000 levels a side is 0.4 MB
# Zero bytes behind the frame stop every scan. Levels begin half a page off the frame: a load whose address equals that
# of a store just before it in the low twelve bits waits for it, and levels are stored while the frame is read.
FRAME_WORDS = FRAME_CAP_BYTES // 8 + 256
FRAME_BYTE = FRAME * 8

# --- raw levels: | price | qty | price digits after the point | qty digits after the point | ---
LV_PRICE = 0
LV_QTY = 1
LV_PRICE_DIGITS = 2
LV_QTY_DIGITS = 3
LEVEL_WORDS = 4
LEVEL_CAP = 131072  # levels of both sides in one frame
LEVELS = FRAME + FRAME_WORDS
assert (LEVELS - FRAME) * 8 % 4096 == 2048
SYMBOLS = LEVELS + LEVEL_CAP * LEVEL_WORDS

# --- symbol table: open addressing; | text 3 words, zero padded | slot + 1 (0 = free) | ---
SYMBOL_WORDS = 3
SYMBOL_BYTES = SYMBOL_WORDS * 8
SY_SLOT = 3
SYMBOL_ENTRY_WORDS = 4

# --- book row ---
B_INSTRUMENT = 0
B_BOOK_INDEX = 1
B_STATE = 2  # STATE_*
B_UPDATE_ID = 3
B_PRICE_EXP = 4
B_QTY_EXP = 5
B_MULT = 6  # base quantity = contracts x B_MULT x 10**-B_MULT_EXP
B_MULT_EXP = 7
B_ROW_EPOCH = 8
B_CONN = 9
B_RECV_NS = 10
B_VENUE_NS = 11
B_WAS_SYNCED = 12
B_OLD_RUN = 13  # old updates in a row since the last applied one
B_STICKY_FLAGS = 14  # set by the owner (halted), in every record
B_PENDING_FLAGS = 15  # in the next record only (snapshot)
B_LAST_FLAGS = 16  # of the newest published record
B_TICKER_COUNT = 17
B_USED = 18
B_SIDE = 20  # two sides: | blocks | directory offset | -- bids, then asks
SIDE_BLOCKS = 0
SIDE_DIRECTORY = 1
SIDE_WORDS = 2
BID = 0
ASK = 1
BOOK_WORDS = 32
assert B_SIDE + 2 * SIDE_WORDS <= BOOK_WORDS

STATE_EMPTY = 0  # nothing seen yet: the first update asks for a snapshot
STATE_WAITING = 1  # asked: updates are buffered
STATE_ALIGNING = 2  # snapshot loaded, no update on top of it yet
STATE_LIVE = 3

# --- recent tickers of a book: | update id | bid | bid qty | ask | ask qty | ---
TICKER_RING = 64
TICKER_WORDS = 5

# --- directory: the blocks of a side, worst prices first: | first key | block * 128 + count | ---
BLOCK_LEVELS = 64
BLOCK_WORDS = 2 * BLOCK_LEVELS  # a level is | key | quantity |
DIRECTORY_CAP = 2048  # blocks of a side; at least 65536 levels
ENTRY_WORDS = 2
DIRECTORY_WORDS = DIRECTORY_CAP * ENTRY_WORDS
COUNT_BITS = 7
COUNT_MASK = (1 << COUNT_BITS) - 1
BLOCKS_START = 64

OLD_RUN_MAX = 64  # so many old updates in a row on a live book: the venue's numbering restarted, resynchronise
FP_LIMIT = 2**62
_COPY_WORDS = 4096


def table_size(capacity: int) -> int:
    """Entries of the symbol table for ``capacity`` books: a power of two, at most half full."""
    return 1 << max(4, (2 * capacity - 1).bit_length())


def new_memory(capacity: int, feed_off: int, *, blocks: int = BLOCKS_START) -> Words:
    """Zeroed memory for ``capacity`` books with its offsets filled; pages are only used once touched."""
    entries = table_size(capacity)
    book_off = SYMBOLS + entries * SYMBOL_ENTRY_WORDS
    ticker_off = book_off + capacity * BOOK_WORDS
    directory_off = ticker_off + capacity * TICKER_RING * TICKER_WORDS
    block_off = directory_off + capacity * 2 * DIRECTORY_WORDS
    mem = np.zeros(block_off + blocks * BLOCK_WORDS, dtype=np.int64)
    mem[H_FEED_OFF] = feed_off
    mem[H_BOOK_OFF] = book_off
    mem[H_SYMBOL_OFF] = SYMBOLS
    mem[H_SYMBOL_MASK] = entries - 1
    mem[H_TICKER_OFF] = ticker_off
    mem[H_DIRECTORY_OFF] = directory_off
    mem[H_BLOCK_OFF] = block_off
    mem[H_BLOCK_COUNT] = blocks
    mem[H_LAST_SLOT] = -1
    return mem


def grown(mem: Words) -> Words:
    """Memory with twice the blocks and the same contents in front. Pages that hold nothing stay untouched."""
    blocks = int(mem[H_BLOCK_COUNT]) * 2
    bigger = np.zeros(int(mem[H_BLOCK_OFF]) + blocks * BLOCK_WORDS, dtype=np.int64)
    for at in range(0, len(mem), _COPY_WORDS):
        part = mem[at : at + _COPY_WORDS]
        if part.any():
            bigger[at : at + len(part)] = part
    bigger[H_BLOCK_COUNT] = blocks
    return bigger
