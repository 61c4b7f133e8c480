"""Every word that processes share. Offsets and sizes are written here and in :mod:`shm.layout_pages`, nowhere else.

All segments are arrays of little-endian 64-bit words (``int64[:]``); offsets are in **words** unless a name says
``_BYTES``. One cache line is 8 words. A segment has exactly one writing process; everything that a consumer writes
(cursor, sleeping flag, acknowledgement) lies in the consumer's own segment.

Each record, row and segment is a table (:mod:`shm.declare`): its fields with unit, writer and SYNC name, its drawing
(0 = a word that nobody uses), its size. Import tables by name: ``from shm.layout import BOOK`` and
``words[at + BOOK.flags]``. A segment's offsets count from its first word, header included; ``END`` is its size.

Any change here bumps ``LAYOUT_VERSION`` and changes the schema hash in every segment's header (:mod:`shm.segment`);
attaching refuses a mismatch.
"""

from __future__ import annotations

from shm.declare import LINE_WORDS as LINE_WORDS
from shm.declare import Table, real, rows_of, text_of, word, words_of

LAYOUT_VERSION = 6
WORD_BYTES = 8
MAGIC = 0x31_42_52_41_2E_45_48_54  # "THE.ARB1", little-endian

# --- absent prices: comparisons fail safe; compare before subtracting (int64 wraps silently in jitted code) ---
ABSENT_BID = -(2**63)
ABSENT_ASK = 2**63 - 1

# --- capacities ---
BOOK_DEPTH = 20  # levels of a side in a book record
BOOK_SLOTS = 8  # slots of each instrument's ring (power of two)
NOTICE_CAPACITY = 8192  # entries (power of two)
CONN_CAPACITY = 64
FEED_BOOK_CAPACITY_DEFAULT = 512
LEG_CAPACITY = 3
COUNTER_CAPACITY = 256
HISTOGRAM_CAPACITY = 32
METRIC_LABEL_WORDS = 6  # 48 bytes
METRIC_DOC_WORDS = 10  # 80 bytes
HIST_SUB_BITS = 7  # relative error of a percentile at most 2^-7
HIST_SUB = 1 << HIST_SUB_BITS
HIST_MAX_BITS = 40  # values of 2^40 ns (18 min) and more count in the last bucket; max_ns stays exact
HIST_BUCKETS = (HIST_MAX_BITS - HIST_SUB_BITS + 1) * HIST_SUB
LOG_CAPACITY_DEFAULT = 4096  # slots (power of two)
LOG_TEXT_CODE = 0  # low 24 bits of a text's third word; events use codes from 1 to 2^24 - 1

# --- flags of a book record; any of FLAGS_UNTRADABLE set = never trade on it ---
FLAG_SNAPSHOT = 1  # first record after a (re)synchronisation
FLAG_GAP = 2  # continuity lost; waiting for a snapshot
FLAG_CROSSED = 4  # best bid >= best ask
FLAG_UNPROVED = 8  # the feed does not vouch for it: no connection (REST alone), late frames, its ticker contradicts
FLAG_HALTED = 16  # tick, lot, multiplier or status changed; instrument not tradable
FLAG_HORIZON = 32  # levels end where the snapshot's depth ended: what lies behind is not known whole, and left out
FLAG_OWN_PROOF = 64  # proved by its own updates alone, by no other frame of its connection
FLAGS_UNTRADABLE = FLAG_GAP | FLAG_CROSSED | FLAG_UNPROVED | FLAG_HALTED


class Header(Table, words=16, writer="the segment's owner"):
    """What every segment begins with; its body follows, by kind.

    ``ready`` is written last (release) and read first (acquire): SYNC segment.ready.

    line 0 | magic | layout_version | schema_hash | build_hash | owner_pid | owner_start | epoch | size_words |
    line 1 | ready | kind | instance | created_wall_ns | 0[4] |
    """

    magic = word("MAGIC: that this is a segment of ours")
    layout_version = word("LAYOUT_VERSION of the writer")
    schema_hash = word("hash of every declaration of shared memory (shm.schema)")
    build_hash = word("hash of the sources that the owner runs")
    owner_pid = word("process that owns the segment, or owned it last")
    owner_start = word("its start time (/proc/<pid>/stat field 22)", unit="clock ticks since boot")
    epoch = word("+1 at each take-over of the same segment by a new owner")
    size_words = word("size of the whole segment")
    ready = word("0 while being (re)initialised, 1 when valid", sync="segment.ready", codes={0: "no", 1: "ready"})
    kind = word("which table the body is (KIND of the tables below)")
    instance = word("hash of the instance's name")
    created_wall_ns = word("when this owner created it or took it over")


HEADER = Header()


class Book(Table, words=96, writer="feed"):
    """One publication of one instrument's order book: the best BOOK_DEPTH levels of both sides, best first.

    line 0     | seq | instrument | flags | writer_epoch | update_id | venue_wall_ns | recv_mono_ns | publish_mono_ns |
    line 1     | conn | conn_generation | bid_count | ask_count | row_epoch | 0 | 0 | 0 |
    line 2..6  | bid_price_fp[20] | bid_qty_fp[20] |
    line 7..11 | ask_price_fp[20] | ask_qty_fp[20] |
    """

    seq = word("2n - 1 while publication n is being written, 2n when it is whole", sync="book.seq")
    instrument = word("row of the catalogue")
    flags = word(
        "FLAG_*; any of FLAGS_UNTRADABLE set = never trade on it",
        flags={
            FLAG_SNAPSHOT: "snapshot",
            FLAG_GAP: "gap",
            FLAG_CROSSED: "crossed",
            FLAG_UNPROVED: "unproved",
            FLAG_HALTED: "halted",
            FLAG_HORIZON: "horizon",
            FLAG_OWN_PROOF: "own_proof",
        },
    )
    writer_epoch = word("epoch of the feed segment when this was written")
    update_id = word("the venue's number of the last update in it")
    venue_wall_ns = word("the venue's own time of that update; 0 = not sent")
    recv_mono_ns = word("when the frame with that update was received")
    publish_mono_ns = word("when this record was published")
    conn = word("row of the feed's connection table", at=8)
    conn_generation = word("life of that connection which carried the update")
    bid_count = word("levels in use", unit="levels")
    ask_count = word("levels in use", unit="levels")
    row_epoch = word("catalogue row epoch whose exponents the fixed-point numbers use")
    bid_price_fp = words_of(BOOK_DEPTH, "ABSENT_BID where there is no level", at=16)
    bid_qty_fp = words_of(BOOK_DEPTH, "0 where there is no level")
    ask_price_fp = words_of(BOOK_DEPTH, "ABSENT_ASK where there is no level")
    ask_qty_fp = words_of(BOOK_DEPTH, "0 where there is no level")


BOOK = Book()


class Connection(Table, words=8, writer="feed"):
    """One connection of a feed. Proof time of a book = max(recv_mono_ns, last_frame_mono_ns - cross_topic_lag_ns) while
    ``alive`` and the generation is the book's.

    | generation | alive | last_frame_mono_ns | cross_topic_lag_ns | venue | 0 | 0 | 0 |
    """

    generation = word("+1 with every new life of this row", sync="conn.generation")
    alive = word("1 while its frames prove something", sync="conn.alive", codes={0: "no", 1: "yes"})
    last_frame_mono_ns = word("when its last frame was received", sync="conn.last_frame")
    cross_topic_lag_ns = word("how far apart the topics on one connection may run")
    venue = word("venue id")


CONNECTION = Connection()


class Notice(Table, words=2, writer="feed"):
    """One publication, as the notice ring of a feed tells it.

    | seq | book_index |
    """

    seq = word("index + 1, stored last", sync="notice.seq")
    book_index = word("which of the feed's books was published")


NOTICE = Notice()


class BookRing(Table, writer="feed"):
    """The newest publications of one instrument; the newest slot is (count - 1) % BOOK_SLOTS.

    line 0     | count | 0[7] |
    line 1..96 | records: 8 BOOK ... |
    """

    count = word("publications so far", sync="book.count")
    records = rows_of(BOOK, BOOK_SLOTS, "slots", at=LINE_WORDS)


BOOK_RING = BookRing()


class Feed(Table, start=HEADER.END, writer="feed", kind=1):
    """Segment ``feed.<exchange>``: what one feed process publishes.

    line 0        | notice_tail | book_capacity | 0[6] |
    line 1..64    | connections: 64 CONNECTION ... |
    line 65..2112 | notices: 8192 NOTICE ... |
    line 2113     | books: BOOK_RING ... |
    """

    notice_tail = word("notices published so far", sync="notice.tail")
    book_capacity = word("rings in the segment")
    connections = rows_of(CONNECTION, CONN_CAPACITY, "connection table", at=LINE_WORDS)
    notices = rows_of(NOTICE, NOTICE_CAPACITY, "notice ring")
    books = rows_of(BOOK_RING, 0, "one ring for each of book_capacity instruments")


FEED = Feed()


def feed_segment_words(book_capacity: int) -> int:
    """Size in words of a feed segment for ``book_capacity`` instruments."""
    return FEED.books + book_capacity * BOOK_RING.WORDS


class Liveness(Table, words=16, start=HEADER.END, writer="the process itself", kind=5):
    """Segment ``live.<process>``: proof that a process makes progress.

    line 0..1 | beat_mono_ns | state | progress | parked | cpu | 0[11] |
    """

    beat_mono_ns = word("last proof of progress", sync="live.beat")
    state = word("ProcessState")
    progress = word("+1 with every beat")
    parked = word("whether beats every 500 ms are enough", codes={0: "no", 1: "parked"})
    cpu = word("CPU that the process last ran on")


LIVENESS = Liveness()


class Queue(Table, start=HEADER.END, writer="producer", kind=2):
    """Segment ``<queue>``: one producer's items. What both ends read at every turn and nobody writes has a line of its
    own: on the tail's line each push would take it from the consumer.

    A slot: | seq (= index + 1 when whole, release) | payload words ... |: SYNC queue.seq.

    line 0 | tail | refused | cursor_seen | 0[5] |
    line 1 | capacity | slot_words | 0[6] |
    line 2 | slots[...] |
    """

    tail = word("items pushed so far", unit="items", sync="queue.tail")
    refused = word("pushes refused because the queue was full", unit="items")
    cursor_seen = word(
        "the producer's copy of the cursor, so that a push touches the consumer's line rarely", unit="items"
    )
    capacity = word("slots (power of two)", at=LINE_WORDS)
    slot_words = word("size of a slot")
    slots = words_of(0, "slots of slot_words", at=2 * LINE_WORDS)


QUEUE = Queue()


class Cursor(Table, words=16, start=HEADER.END, writer="consumer", kind=3):
    """Segment ``<queue>.cursor``: how far the consumer has come, and whether it must be woken.

    line 0 | cursor | lost | 0[6] |
    line 1 | sleeping | 0[7] |
    """

    cursor = word("items consumed", unit="items", sync="queue.cursor")
    lost = word("items overwritten before a consumer that was made anew came to them", unit="items")
    sleeping = word("1 while parked", at=LINE_WORDS, sync="bell.sleeping", codes={0: "awake", 1: "sleeping"})


CURSOR = Cursor()


class Leg(Table, words=16, writer="detector"):
    """One leg of an opportunity.

    line 0 | instrument | side | limit_price_fp | qty_fp | book_seq | update_id | proof_mono_ns | recv_mono_ns |
    line 1 | best_price_fp | notional | row_epoch | writer_epoch | 0[4] |
    """

    instrument = word("row of the catalogue")
    side = word("what the leg does", codes={1: "buy", -1: "sell"})
    limit_price_fp = word("worst price that the size was computed with")
    qty_fp = word("size")
    book_seq = word("seq of the book record that was read")
    update_id = word("the venue's number of the last update in it")
    proof_mono_ns = word("when that book was last proved current")
    recv_mono_ns = word("when its last update was received")
    best_price_fp = word("best price of that book")
    notional = real("what the leg costs or brings at that book", unit="quote")
    row_epoch = word("of the catalogue row that was used")
    writer_epoch = word("of the feed segment that was read")


LEG = Leg()


class Opportunity(Table, words=64, writer="detector"):
    """Item of the queue ``opps``: detector -> executor.

    line 0    | seq | id | type | pair | leg_count | detect_mono_ns | trigger_recv_mono_ns | trigger_publish_mono_ns |
    line 1    | edge_bps | profit_quote | trigger_instrument | direction_key | crc32 | entry_edge_bps | 0 | 0 |
    line 2..7 | legs: 3 LEG ... |
    """

    seq = word("the slot's sequence", sync="queue.seq")
    id = word("the detector's running number")
    type = word("OpportunityType")
    pair = word("dense id of the pair")
    leg_count = word("legs in use", unit="legs")
    detect_mono_ns = word("when it was found")
    trigger_recv_mono_ns = word("when the frame that led to it was received")
    trigger_publish_mono_ns = word("when the book of that frame was published")
    edge_bps = real("after everything that the strategy charges")
    profit_quote = real("the same as an amount", unit="quote")
    trigger_instrument = word("row of the catalogue whose book led to it")
    direction_key = word("buy instrument * CATALOGUE_CAPACITY + sell instrument (triangular: negative, of the cycle)")
    crc32 = word("of the other words of the record")
    entry_edge_bps = real("of the best prices after the entry's fees")
    legs = rows_of(LEG, LEG_CAPACITY, "leg_count of them are in use", at=16)


OPPORTUNITY = Opportunity()


class Report(Table, words=8, writer="executor"):
    """Item of the queue ``reports``: executor -> detector.

    | seq | opportunity_id | outcome | direction_key | cooldown_until_mono_ns | refusal | 0 | 0 |
    """

    seq = word("the slot's sequence", sync="queue.seq")
    opportunity_id = word("id of the opportunity")
    outcome = word("ReportOutcome")
    direction_key = word("as in the opportunity")
    cooldown_until_mono_ns = word("the direction is not pushed again before")
    refusal = word("Refusal, where the outcome is REFUSED; else 0")


REPORT = Report()


class MetricName(Table, words=16, writer="the process itself"):
    """Name and help text of a counter or histogram.

    line 0..1 | label[6] | doc[10] |
    """

    label = text_of(METRIC_LABEL_WORDS, "unique in the process")
    doc = text_of(METRIC_DOC_WORDS, "what is counted")


METRIC_NAME = MetricName()


class Histogram(Table, writer="the process itself"):
    """Counts of values in ns. Buckets are log-linear: values below 2 * HIST_SUB are exact, above there are HIST_SUB
    buckets for each power of two.

    line 0      | count | sum_ns | min_ns | max_ns | 0[4] |
    line 1..544 | buckets[4352] |
    """

    count = word("values", unit="values", sync="hist.count")
    sum_ns = word("of all values")
    min_ns = word("exact; 0 where empty")
    max_ns = word("exact; 0 where empty")
    buckets = words_of(HIST_BUCKETS, "values in each bucket", unit="values", at=LINE_WORDS)


HISTOGRAM = Histogram()


class Metrics(Table, start=HEADER.END, writer="the process itself", kind=4):
    """Segment ``metrics.<process>``: what a process counts and measures, with names.

    line 0          | counter_count | hist_count | 0[6] |
    line 1..512     | counter_names: 256 METRIC_NAME ... |
    line 513..576   | hist_names: 32 METRIC_NAME ... |
    line 577..608   | counters[256] |
    line 609..18048 | hists: 32 HISTOGRAM ... |
    """

    counter_count = word("named counters (release after the name)", sync="metrics.count")
    hist_count = word("named histograms (release after the name)", sync="metrics.count")
    counter_names = rows_of(METRIC_NAME, COUNTER_CAPACITY, "by index of the counter", at=LINE_WORDS)
    hist_names = rows_of(METRIC_NAME, HISTOGRAM_CAPACITY, "by index of the histogram")
    counters = words_of(COUNTER_CAPACITY, "values", unit="as named")
    hists = rows_of(HISTOGRAM, HISTOGRAM_CAPACITY, "values")


METRICS = Metrics()


class LogSlot(Table, words=8, writer="the process itself"):
    """One event from jitted code; or a text, which goes on in slots that hold
    | seq | -k (k-th continuation) | 6 words of text |.

    | seq | mono_ns | code | args[5] |
    """

    seq = word("index + 1, stored last", sync="log.seq")
    mono_ns = word("when it was written")
    code = word("of an event; LOG_TEXT_CODE + level << 24 + length << 32 of a text")
    args = words_of(5, "numbers of an event; the first 40 bytes of a text")


LOG_SLOT = LogSlot()


class Log(Table, start=HEADER.END, writer="the process itself", kind=10):
    """Segment ``log.<process>``: the newest records of one process.

    line 0 | tail | capacity | 0[6] |
    line 1 | slots: LOG_SLOT ... |
    """

    tail = word("slots written so far", unit="slots", sync="log.tail")
    capacity = word("slots in the ring (power of two)", unit="slots")
    slots = rows_of(LOG_SLOT, 0, "capacity of them", at=LINE_WORDS)


LOG = Log()


class ByteRing(Table, start=HEADER.END, writer="producer", kind=11):
    """Segment ``<ring>``: messages of bytes for one reader, whose cursor counts bytes. What does not fit is dropped and
    counted, and the next message that fits says how many were.

    A message: | length, kind: two uint32 | payload, padded to whole words |; it may go round the ring's end.

    line 0 | head | dropped | 0[6] |
    line 1 | capacity | 0[7] |
    line 2 | data[...] |
    """

    head = word("bytes written so far", unit="bytes", sync="bytes.head")
    dropped = word("messages that found no room", unit="messages")
    capacity = word("room for messages (whole words)", unit="bytes", at=LINE_WORDS)
    data = words_of(0, "capacity bytes", at=2 * LINE_WORDS)


BYTE_RING = ByteRing()
