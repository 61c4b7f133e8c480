"""Every word that processes share: the single place where an offset or a size is written.

All segments are arrays of little-endian 64-bit words (``int64[:]``); offsets below are in **words** unless a
name says ``_BYTES``. One cache line is 8 words. A segment has exactly one writing process; everything that a
consumer writes (cursor, sleeping flag, acknowledgement) lies in the consumer's own segment.

Segment (every kind)::

    line 0  | magic | layout_version | schema_hash | build_hash | owner_pid | owner_start | epoch | size_words |
    line 1  | ready | kind           | instance    | created_ns |        reserved ...                           |
    line 2..| body, by kind                                                                                     |

``ready`` is written last (release) and read first (acquire): SYNC segment.ready.

Any change here bumps ``LAYOUT_VERSION``; attaching refuses a mismatch.
"""

from __future__ import annotations

LAYOUT_VERSION = 2
WORD_BYTES = 8
LINE_WORDS = 8
MAGIC = 0x31_42_52_41_2E_45_48_54  # "THE.ARB1", little-endian

# --- absent prices: comparisons fail safe; compare before subtracting (int64 wraps silently in jitted code) ---
ABSENT_BID = -(2**63)
ABSENT_ASK = 2**63 - 1

# --- segment header ---
SEG_MAGIC = 0
SEG_LAYOUT_VERSION = 1
SEG_SCHEMA_HASH = 2
SEG_BUILD_HASH = 3
SEG_OWNER_PID = 4
SEG_OWNER_START = 5  # process start time, clock ticks since boot (/proc/<pid>/stat field 22)
SEG_EPOCH = 6  # +1 at each take-over of the same segment by a new owner
SEG_SIZE_WORDS = 7
SEG_READY = 8  # 0 while being (re)initialised, 1 when valid. SYNC segment.ready
SEG_KIND = 9
SEG_INSTANCE = 10  # hash of the instance name
SEG_CREATED_NS = 11  # wall ns
SEG_HEADER_WORDS = 16

# --- segment kinds ---
KIND_FEED = 1
KIND_QUEUE = 2
KIND_CURSOR = 3
KIND_METRICS = 4
KIND_LIVENESS = 5
KIND_CATALOGUE = 6
KIND_ACCOUNT = 7
KIND_INVENTORY = 8
KIND_HALT = 9
KIND_LOG = 10

# --- book record: 12 lines = 96 words = 768 bytes ---
#   line 0  | seq  | instrument | flags | writer_epoch | update_id | venue_wall_ns | recv_mono_ns | publish_mono_ns |
#   line 1  | conn | conn_generation | bid_count | ask_count | row_epoch | 0 | 0 | 0 |
#   line 2..4   bid price_fp[20] (best first) | ..., then bid qty_fp[20], ask price_fp[20], ask qty_fp[20]
# seq: 2*n-1 while publication n is being written, 2*n when it is whole. SYNC book.seq
BOOK_DEPTH = 20
BR_SEQ = 0
BR_INSTRUMENT = 1
BR_FLAGS = 2
BR_WRITER_EPOCH = 3
BR_UPDATE_ID = 4
BR_VENUE_WALL_NS = 5
BR_RECV_MONO_NS = 6
BR_PUBLISH_MONO_NS = 7
BR_CONN = 8  # row in the feed's connection table
BR_CONN_GENERATION = 9
BR_BID_COUNT = 10
BR_ASK_COUNT = 11
BR_ROW_EPOCH = 12  # catalogue row epoch whose exponents the fixed-point numbers use
BR_BID_PRICE = 16
BR_BID_QTY = BR_BID_PRICE + BOOK_DEPTH
BR_ASK_PRICE = BR_BID_QTY + BOOK_DEPTH
BR_ASK_QTY = BR_ASK_PRICE + BOOK_DEPTH
BOOK_RECORD_WORDS = 96
assert BR_ASK_QTY + BOOK_DEPTH == BOOK_RECORD_WORDS and BOOK_RECORD_WORDS % LINE_WORDS == 0

# flags of a book record; any of FLAGS_UNTRADABLE set = never trade on it
FLAG_SNAPSHOT = 1  # first record after a (re)synchronisation
FLAG_GAP = 2  # continuity lost; waiting for a snapshot
FLAG_CROSSED = 4  # best bid >= best ask
FLAG_UNPROVED = 8  # connection lost, or contradicted by a comparable ticker
FLAG_HALTED = 16  # tick, lot, multiplier or status changed; instrument not tradable
FLAGS_UNTRADABLE = FLAG_GAP | FLAG_CROSSED | FLAG_UNPROVED | FLAG_HALTED

# --- feed segment: header | feed words | connection table | notice ring | book rings ---
BOOK_SLOTS = 8  # slots per instrument's ring (power of two)
NOTICE_CAPACITY = 8192  # entries (power of two)
CONN_CAPACITY = 64
#   feed line | notice_tail | book_capacity | venue_count | 0... |
FEED_NOTICE_TAIL = SEG_HEADER_WORDS  # number of notices published. SYNC notice.tail
FEED_BOOK_CAPACITY = SEG_HEADER_WORDS + 1
FEED_CONN_OFF = SEG_HEADER_WORDS + LINE_WORDS
#   connection row, one line: | generation | alive | last_frame_mono_ns | cross_topic_lag_ns | venue | 0 | 0 | 0 |
# Proof time of a book = max(recv_mono_ns, last_frame_mono_ns - cross_topic_lag_ns) while alive and generation equal.
CONN_GENERATION = 0
CONN_ALIVE = 1
CONN_LAST_FRAME_MONO_NS = 2
CONN_CROSS_TOPIC_LAG_NS = 3
CONN_VENUE = 4
CONN_WORDS = 8
FEED_NOTICE_OFF = FEED_CONN_OFF + CONN_CAPACITY * CONN_WORDS
#   notice: | seq (= index + 1, release) | book_index | -- two words. SYNC notice.seq
NOTICE_WORDS = 2
FEED_BOOK_OFF = FEED_NOTICE_OFF + NOTICE_CAPACITY * NOTICE_WORDS
#   per instrument: | head line: published count, ... | BOOK_SLOTS records |
BOOK_HEAD_WORDS = LINE_WORDS
BOOK_HEAD_COUNT = 0  # publications so far; newest slot = (count - 1) % BOOK_SLOTS. SYNC book.count
BOOK_RING_WORDS = BOOK_HEAD_WORDS + BOOK_SLOTS * BOOK_RECORD_WORDS
FEED_BOOK_CAPACITY_DEFAULT = 512
assert FEED_BOOK_OFF % LINE_WORDS == 0


def feed_segment_words(book_capacity: int) -> int:
    """Size in words of a feed segment for ``book_capacity`` instruments."""
    return FEED_BOOK_OFF + book_capacity * BOOK_RING_WORDS


# --- catalogue row: 6 lines = 48 words; row index = instrument id ---
# Text is fixed width, UTF-8, zero padded: symbol 24 bytes (3 words), pair 32 bytes (4 words).
CATALOGUE_CAPACITY = 4096
CAT_COUNT = SEG_HEADER_WORDS  # rows appended (release after the row). SYNC catalogue.count
CAT_VERSION = SEG_HEADER_WORDS + 1  # +1 at every change of any row
CAT_ROWS_OFF = SEG_HEADER_WORDS + LINE_WORDS
CR_SEQ = 0  # seqlock of the row: odd while written
CR_VENUE = 1  # dense venue id (index of the configuration's venue list)
CR_FEED = 2  # dense feed id = index of the exchange in the configuration
CR_BOOK_INDEX = 3  # index in that feed's book table
CR_PAIR = 4  # dense id of the tradable pair; -1 = quarantined (identity in doubt)
CR_BASE_ASSET = 5
CR_QUOTE_ASSET = 6
CR_KIND = 7  # InstrumentKind
CR_STATUS = 8  # TradingStatus
CR_PRICE_EXP = 9  # decimal digits after the point in price_fp
CR_QTY_EXP = 10
CR_TICK_FP = 11
CR_LOT_FP = 12  # base quantity step (futures: contract step x multiplier)
CR_MIN_QTY_FP = 13
CR_MAX_QTY_FP = 14  # 0 = none
CR_MIN_NOTIONAL_FP = 15  # quote, price exponent
CR_TAKER_FEE_PPM = 16
CR_MAKER_FEE_PPM = 17
CR_FEE_ASSET_RULE = 18  # FeeAssetRule
CR_MULTIPLIER_FP = 19  # base per contract at qty_exp; spot: 10**qty_exp
CR_ROW_EPOCH = 20  # +1 on a change of tick, lot, multiplier or exponents
CR_FUNDING_RATE_PPB = 21  # per funding interval, parts per billion, signed: + = longs pay
CR_FUNDING_INTERVAL_S = 22
CR_FUNDING_NEXT_WALL_S = 23
CR_FLAGS = 24  # bit0 deposit enabled, bit1 withdraw enabled, bit2 identity known, bit3 removed
CR_PRICE_BAND_PPM = 25  # |price - mark| <= mark * band; 0 = none
CR_SYMBOL = 32
CR_SYMBOL_WORDS = 4
CR_PAIR_TEXT = 36
CR_PAIR_TEXT_WORDS = 4
CATALOGUE_ROW_WORDS = 48
CATALOGUE_WORDS = CAT_ROWS_OFF + CATALOGUE_CAPACITY * CATALOGUE_ROW_WORDS
CAT_FLAG_DEPOSIT = 1
CAT_FLAG_WITHDRAW = 2
CAT_FLAG_IDENTITY = 4
CAT_FLAG_REMOVED = 8

# --- inventory page (executor): one line per instrument, then venue lines ---
#   | seq | buy_notional (float64 bits: quote that may be spent, leverage included) | sell_qty_fp | position_qty_fp |
#   | blocked_until_recv_mono_ns | state (0 blocked, 1 tradable) | 0 | 0 |
INV_ROWS_OFF = SEG_HEADER_WORDS
IR_SEQ = 0
IR_BUY_NOTIONAL = 1
IR_SELL_QTY_FP = 2
IR_POSITION_QTY_FP = 3
IR_BLOCKED_UNTIL_MONO_NS = 4  # no new intent on a book received before this
IR_STATE = 5
INVENTORY_ROW_WORDS = 8
INVENTORY_WORDS = INV_ROWS_OFF + CATALOGUE_CAPACITY * INVENTORY_ROW_WORDS

# --- halt page (guard) ---
HALT_LATCH = SEG_HEADER_WORDS  # 0 = may trade, 1 = halted. SYNC halt.latch
HALT_LEASE_EXPIRY_MONO_NS = SEG_HEADER_WORDS + 1  # the executor sends nothing after this. SYNC halt.lease
HALT_LEASE_TOKEN = SEG_HEADER_WORDS + 2  # fencing token: executor epoch that the lease is for
HALT_REASON_OFF = SEG_HEADER_WORDS + LINE_WORDS  # 32 words = 256 bytes of UTF-8
HALT_REASON_WORDS = 32
HALT_VENUE_OFF = HALT_REASON_OFF + HALT_REASON_WORDS  # one word per venue id: 1 = blocked
VENUE_CAPACITY = 64
HALT_INSTRUMENT_OFF = HALT_VENUE_OFF + VENUE_CAPACITY  # one word per instrument: 1 = blocked
HALT_WORDS = HALT_INSTRUMENT_OFF + CATALOGUE_CAPACITY

# --- liveness page: one small segment per process ---
LIVE_BEAT_MONO_NS = SEG_HEADER_WORDS  # proof of progress. SYNC live.beat
LIVE_STATE = SEG_HEADER_WORDS + 1  # ProcessState
LIVE_PROGRESS = SEG_HEADER_WORDS + 2  # loop counter
LIVE_PARKED = SEG_HEADER_WORDS + 3  # 1 while parked (beats every 500 ms are then enough)
LIVE_CPU = SEG_HEADER_WORDS + 4  # CPU that the process last ran on
LIVE_WORDS = SEG_HEADER_WORDS + 2 * LINE_WORDS

# --- SPSC queue: producer segment = header, tail line, shape line, slots; consumer segment = header, cursor line ---
#   slot: | seq (= index + 1 when whole, release) | payload words ... |. SYNC queue.seq / queue.cursor
Q_TAIL = SEG_HEADER_WORDS
Q_REFUSED = SEG_HEADER_WORDS + 1  # pushes refused because the queue was full
Q_CURSOR_SEEN = SEG_HEADER_WORDS + 2  # producer's copy of the cursor, so that a push touches the consumer's line rarely
# What both ends read at every turn and nobody writes: on the tail's line each push would take it from the consumer.
Q_CAPACITY = SEG_HEADER_WORDS + LINE_WORDS
Q_SLOT_WORDS = SEG_HEADER_WORDS + LINE_WORDS + 1
Q_SLOTS_OFF = SEG_HEADER_WORDS + 2 * LINE_WORDS
C_CURSOR = SEG_HEADER_WORDS  # items consumed. SYNC queue.cursor
C_LOST = SEG_HEADER_WORDS + 1  # items overwritten before a consumer that was made anew came to them
C_SLEEPING = SEG_HEADER_WORDS + LINE_WORDS  # 1 while parked. SYNC bell.sleeping
C_WORDS = SEG_HEADER_WORDS + 2 * LINE_WORDS

# --- opportunity record (queue slot payload; word 0 is the slot's seq) ---
#   line 0 | seq | id | type | pair | leg_count | detect_mono_ns | trigger_recv_mono_ns | trigger_publish_mono_ns |
#   line 1 | edge_bps (f64) | profit_quote (f64) | trigger_instrument | direction_key | crc32 | entry_edge_bps | 0 | 0 |
#   line 2.. 3 legs, 2 lines each
#     | instrument | side (+1 buy, -1 sell) | limit_price_fp | qty_fp | book_seq | update_id |
#     | proof_mono_ns | recv_mono_ns |
#     | best_price_fp | notional (f64) | row_epoch | writer_epoch | 0 | 0 | 0 | 0 |
OP_SEQ = 0
OP_ID = 1
OP_TYPE = 2  # OpportunityType
OP_PAIR = 3
OP_LEG_COUNT = 4
OP_DETECT_MONO_NS = 5
OP_TRIGGER_RECV_MONO_NS = 6
OP_TRIGGER_PUBLISH_MONO_NS = 7
OP_EDGE_BPS = 8  # after everything that the strategy charges
OP_PROFIT_QUOTE = 9
OP_TRIGGER_INSTRUMENT = 10
OP_DIRECTION_KEY = 11  # buy instrument * CATALOGUE_CAPACITY + sell instrument (triangular: hash of the cycle)
OP_CRC32 = 12
OP_ENTRY_EDGE_BPS = 13
OP_LEGS = 16
LEG_INSTRUMENT = 0
LEG_SIDE = 1
LEG_LIMIT_PRICE_FP = 2
LEG_QTY_FP = 3
LEG_BOOK_SEQ = 4
LEG_UPDATE_ID = 5
LEG_PROOF_MONO_NS = 6
LEG_RECV_MONO_NS = 7
LEG_BEST_PRICE_FP = 8
LEG_NOTIONAL = 9
LEG_ROW_EPOCH = 10
LEG_WRITER_EPOCH = 11
LEG_WORDS = 16
LEG_CAPACITY = 3
OPPORTUNITY_WORDS = OP_LEGS + LEG_CAPACITY * LEG_WORDS
assert OPPORTUNITY_WORDS % LINE_WORDS == 0

# --- report record (executor -> detector), one line:
#   | seq | opportunity_id | outcome | direction_key | cooldown_until_mono_ns | 0.. |
RP_OPPORTUNITY_ID = 1
RP_OUTCOME = 2  # ReportOutcome
RP_DIRECTION_KEY = 3
RP_COOLDOWN_UNTIL_MONO_NS = 4
RP_REFUSAL = 5  # Refusal, where the outcome is REFUSED; else 0
REPORT_WORDS = 8

# --- metrics segment: header | counts line | counter names | histogram names | counter values | histograms ---
#   name row, 2 lines: | label, 48 bytes of UTF-8 (6 words) | doc, 80 bytes (10 words) |. SYNC metrics.count
#   histogram: | count | sum_ns | min_ns | max_ns | 0 | 0 | 0 | 0 | buckets ... |
# Buckets are log-linear: values below 2*HIST_SUB are exact, above there are HIST_SUB buckets per power of two.
MX_COUNTER_COUNT = SEG_HEADER_WORDS  # named counters (release after the name)
MX_HIST_COUNT = SEG_HEADER_WORDS + 1
MX_COUNTER_CAPACITY = 256
MX_HIST_CAPACITY = 32
MX_NAME_WORDS = 16
MX_LABEL_WORDS = 6
MX_DOC_WORDS = 10
MX_COUNTER_NAMES_OFF = SEG_HEADER_WORDS + LINE_WORDS
MX_HIST_NAMES_OFF = MX_COUNTER_NAMES_OFF + MX_COUNTER_CAPACITY * MX_NAME_WORDS
MX_COUNTERS_OFF = MX_HIST_NAMES_OFF + MX_HIST_CAPACITY * MX_NAME_WORDS
MX_HISTS_OFF = MX_COUNTERS_OFF + MX_COUNTER_CAPACITY
HIST_SUB_BITS = 7  # relative error of a percentile at most 2^-7
HIST_SUB = 1 << HIST_SUB_BITS
HIST_MAX_BITS = 40  # values of 2^40 ns (18 min) and more count in the last bucket; max_ns stays exact
HIST_COUNT = 0
HIST_SUM_NS = 1
HIST_MIN_NS = 2
HIST_MAX_NS = 3
HIST_BUCKETS_OFF = LINE_WORDS
HIST_BUCKETS = (HIST_MAX_BITS - HIST_SUB_BITS + 1) * HIST_SUB
HIST_WORDS = HIST_BUCKETS_OFF + HIST_BUCKETS
METRICS_WORDS = MX_HISTS_OFF + MX_HIST_CAPACITY * HIST_WORDS
assert MX_COUNTERS_OFF % LINE_WORDS == 0 and HIST_WORDS % LINE_WORDS == 0

# --- account page (poller): header | counts line | venue rows | balance rows | position rows; each row a seqlock ---
#   venue row: | seq | sweep_begin_mono_ns | sweep_end_mono_ns | state (0 never, 1 ok, 2 failing) | failures |
#              | clock_offset_ns (venue - wall) | 0 | 0 |
#   balance row: | seq | venue | asset, 16 bytes (2 words) | free_fp | locked_fp | exp | confirmed_mono_ns |
#   position row: | seq | venue | instrument | qty_fp (base, signed) | entry_price_fp | qty_exp | price_exp |
#                 | confirmed_mono_ns | margin_fp | upnl_fp (both quote, price_exp) | liquidation_price_fp | 0.. |
# confirmed_mono_ns = when the request that carried the value was *sent*. Rows are appended, never moved.
AP_BALANCE_COUNT = SEG_HEADER_WORDS  # rows in use (release after the row). SYNC account.balance_count
AP_POSITION_COUNT = SEG_HEADER_WORDS + 1
AP_VENUES_OFF = SEG_HEADER_WORDS + LINE_WORDS
AP_BALANCE_CAPACITY = 2048
AP_POSITION_CAPACITY = 512
AP_VENUE_WORDS = LINE_WORDS
AP_BALANCE_WORDS = LINE_WORDS
AP_POSITION_WORDS = 2 * LINE_WORDS
AP_BALANCES_OFF = AP_VENUES_OFF + VENUE_CAPACITY * AP_VENUE_WORDS
AP_POSITIONS_OFF = AP_BALANCES_OFF + AP_BALANCE_CAPACITY * AP_BALANCE_WORDS
ACCOUNT_WORDS = AP_POSITIONS_OFF + AP_POSITION_CAPACITY * AP_POSITION_WORDS
AV_SEQ = 0
AV_SWEEP_BEGIN_MONO_NS = 1
AV_SWEEP_END_MONO_NS = 2
AV_STATE = 3
AV_FAILURES = 4
AV_CLOCK_OFFSET_NS = 5
AB_SEQ = 0
AB_VENUE = 1
AB_ASSET = 2
AB_ASSET_WORDS = 2
AB_FREE_FP = 4
AB_LOCKED_FP = 5
AB_EXP = 6
AB_CONFIRMED_MONO_NS = 7
APO_SEQ = 0
APO_VENUE = 1
APO_INSTRUMENT = 2
APO_QTY_FP = 3
APO_ENTRY_PRICE_FP = 4
APO_QTY_EXP = 5
APO_PRICE_EXP = 6
APO_CONFIRMED_MONO_NS = 7
APO_MARGIN_FP = 8
APO_UPNL_FP = 9
APO_LIQUIDATION_PRICE_FP = 10

# --- log ring: header | tail line | slots of one line ---
#   event: | seq (index + 1) | mono_ns | code | 5 arguments |. SYNC log.seq
#   text:  | seq | mono_ns | level << 24 + length << 32 | 5 words of text |, and where it is longer than 40 bytes
#          | seq | -k (k-th continuation) | 6 words of text |
LOG_TAIL = SEG_HEADER_WORDS  # slots written. SYNC log.tail
LOG_CAPACITY_OFF = SEG_HEADER_WORDS + 1
LOG_SLOTS_OFF = SEG_HEADER_WORDS + LINE_WORDS
LOG_SLOT_WORDS = LINE_WORDS
LOG_CAPACITY_DEFAULT = 4096  # slots (power of two)
LOG_TEXT_CODE = 0  # low 24 bits of a text's third word; events use codes from 1 to 2^24 - 1
