"""The detector's private memory: two arrays, one writer (its own thread), sections found by offsets in a header.

Two flat arrays, because every array that a kernel passes on costs it seven words and reference counts: with one array
per column an event cost 870 ns, with these two it costs a tenth. ``mem`` int64 holds what is counted and compared,
``flt`` float64 what is screened and reported. :class:`Memory` gives Python named views of the same words.

Episode rows are numbered as directions, then cycles: ``episode = direction`` or ``directions + cycle``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.detection.cycles import CYCLE, LEGS
from pipeline.detection.depth_walk import LEG_LIMITS, MONEY, SIZE
from pipeline.detection.thresholds import Terms
from pipeline.detection.topology import (
    DIRECTION,
    DIRECTION_FLOATS,
    GROUP,
    INSTRUMENT,
    NO_FEED,
    Topology,
    fill_direction,
)
from shm.declare import Table, real, reals_of, rows_of, word, words_of
from shm.layout import BOOK, LINE_WORDS, OPPORTUNITY, REPORT
from shm.layout_pages import CATALOGUE_CAPACITY, EXIT_CAPACITY, EXIT_ROW, INVENTORY_ROW
from shm.words import Words

Floats = npt.NDArray[np.float64]

DIGIT_CAPACITY = 24  # 31-bit digits: constants of up to 12 digits times three prices of 2
OPENED_RING = 256  # newest opened episodes, for alerts and replays; lossy, a power of two
REFUSAL_CODES = 32

# --- state of an episode ---
CLOSED = 0
OPEN = 1
PUSHED = 2
SETTLED = 3  # refused for good and counted already: nothing but its end is waited for
HELD = 4  # passed every gate; is pushed when all hits of this event have been judged

HELD_CAPACITY = 32  # records of one event that are put in order; what comes beyond is put in order on its own

NOT_LOADED = -1  # version of exit rows that no page has
DETECTOR_THREAD = "detector"  # who writes all of it


class Detector(Table, writer=DETECTOR_THREAD):
    """What does not depend on the catalogue in ``mem``: where the other sections begin, and the work area of one
    evaluation.

    line 0        | instruments_off | instrument_count | groups_off | directions_off | direction_count | books_off |
                  | book_capacity | cycles_off |
    line 1        | cycle_count | cycle_of_off | episodes_off | group_open_off | active_off | feeds_off | feed_count |
                  | hits_off |
    line 2        | top_bid_off | top_ask_off | screen_by_buyer_off | screen_by_seller_off | direction_floats_off |
                  | caps_off | cycle_floats_off | exits_off |
    line 3        | exit_count | exit_of_off | quote_usd_off | held_off | held_of_off | held_worth_off | held_count |
                  | 0 |
    line 4..9     | counters[48] |
    line 10..11   | settings[16] |
    line 12..47   | records: 3 BOOK ... |
    line 48       | proofs[8] |
    line 49..51   | inventory_rows: 3 INVENTORY_ROW ... |
    line 52..53   | limits[16] |
    line 54..57   | size[32] |
    line 58..59   | scan_pass[16] |
    line 60       | report: 1 REPORT ... |
    line 61..68   | opportunity: 1 OPPORTUNITY ... |
    line 69..74   | digits[48] |
    line 75..76   | cycle_walk[16] |
    line 77..108  | opened[256] |
    line 109      | exit_row: 1 EXIT_ROW ... |
    line 110..111 | input_log[16] |
    """

    # sections of ``mem`` behind this table
    instruments_off = word("INSTRUMENT rows")
    instrument_count = word("of them", unit="rows")
    groups_off = word("GROUP rows")
    directions_off = word("DIRECTION rows")
    direction_count = word("of them", unit="rows")
    books_off = word("instrument ids by feed and book; -1 = none")
    book_capacity = word("books of a feed", unit="books")
    cycles_off = word("CYCLE rows")
    cycle_count = word("of them", unit="rows")
    cycle_of_off = word("cycle indices, grouped by instrument")
    episodes_off = word("EPISODE rows")
    group_open_off = word("open episodes, by group")
    active_off = word("indices of the open episodes")
    feeds_off = word("FEED_READER rows")
    feed_count = word("of them", unit="rows")
    hits_off = word("episodes that must be evaluated; in a sweep one may be hit once for each of its books")
    # sections of ``flt``
    top_bid_off = word("best bids, by member slot")
    top_ask_off = word("best asks, by member slot")
    screen_by_buyer_off = word("screen factors, by direction")
    screen_by_seller_off = word("the same, transposed in each group")
    direction_floats_off = word("DIRECTION_FLOATS rows")
    caps_off = word("greatest notional, by instrument")
    cycle_floats_off = word("CYCLE_FLOATS rows")
    # sections of ``mem`` for open hedges
    exits_off = word("EXIT rows")
    exit_count = word("of them in use", unit="rows")
    exit_of_off = word("by direction: index of its EXIT row + 1; 0 = none")
    quote_usd_off = word("in ``flt``: USD of one unit of the quote, by instrument; 0 = unknown")
    # what one event offers, until all of it has been judged
    held_off = word("OPPORTUNITY rows")
    held_of_off = word("episode of each; -1 = pushed already")
    held_worth_off = word("in ``flt``: expected net profit of each, USD")
    held_count = word("of them in use", unit="rows")
    counters = words_of(16 + REFUSAL_CODES, "DETECTOR_COUNTERS", at=32)
    settings = words_of(16, "DETECTOR_SETTINGS")
    records = rows_of(BOOK, LEGS, "copies of up to three books")
    proofs = words_of(8, "when each of them was proved", unit="ns of the monotonic clock")
    inventory_rows = rows_of(INVENTORY_ROW, LEGS, "copies of up to three")
    limits = words_of(16, "two LEG_LIMITS")
    size = words_of(32, "SIZE")
    scan_pass = words_of(16, "SCAN_PASS: where the pass over the feeds stands")
    report = rows_of(REPORT, 1, "of the executor")
    opportunity = rows_of(OPPORTUNITY, 1, "that is being built")
    digits = words_of(2 * DIGIT_CAPACITY, "two numbers", unit="31-bit digits")
    cycle_walk = words_of(16, "CYCLE_WALK: scratch of the triangular kernel")
    opened = words_of(OPENED_RING, "newest opened episodes")
    exit_row = rows_of(EXIT_ROW, 1, "of the executor")
    input_log = words_of(16, "INPUT_LOG")


DETECTOR = Detector()
assert 2 * LEG_LIMITS.WORDS <= 16 and SIZE.WORDS <= 32


class DetectorFloats(Table, words=32, writer=DETECTOR_THREAD):
    """What does not depend on the catalogue in ``flt``.

    line 0    | money[8] |
    line 1..2 | flow[16] |
    line 3    | min_profit_usd | spent | brought | profit | worth_usd | 0 | 0 | 0 |
    """

    money = reals_of(8, "MONEY")
    flow = reals_of(16, "FLOW: scratch of the triangular kernel")
    min_profit_usd = real("least expected net profit of a trade that is offered; -inf = none")
    # of the trade that was sized last
    spent = real("what its buy leg costs before fees", unit="quote")
    brought = real("what its sell leg brings before fees", unit="quote")
    profit = real("expected, after all fees and later costs", unit="start asset")
    worth_usd = real("the same less the price of the inventory that it moves; -inf = no USD rate")


DETECTOR_FLOATS = DetectorFloats()
assert MONEY.WORDS <= 8


class DetectorCounters(Table, words=16 + REFUSAL_CODES, start=DETECTOR.counters, writer=DETECTOR_THREAD):
    """What is counted.

    line 0    | events | evaluations | opened | pushed | ended | laps | torn | rechecks |
    line 1    | reports | unknown_book | active | epochs | exits | 0 | 0 | 0 |
    line 2..5 | refused[32] |
    """

    events = word("book updates looked at", unit="updates")
    evaluations = word("directions whose books were read whole", unit="evaluations")
    opened = word("episodes opened; also the end of the ``opened`` ring", unit="episodes")
    pushed = word("episodes pushed to the executor", unit="episodes")
    ended = word("episodes that ended refused", unit="episodes")
    laps = word("times that a feed's notices overtook the reader", unit="laps")
    torn = word("books that could not be read whole", unit="reads")
    rechecks = word("open episodes looked at again without an update", unit="evaluations")
    reports = word("reports of the executor", unit="reports")
    unknown_book = word("notices of books that the catalogue does not know (yet)", unit="notices")
    active = word("open episodes now: length of the list of active ones", unit="episodes")
    epochs = word("first sights of a feed, and changes of its writer")
    exits = word("exits of open hedges offered to the executor", unit="exits")
    refused = words_of(REFUSAL_CODES, "by Refusal of the detector", unit="episodes", at=16)


DETECTOR_COUNTERS = DetectorCounters()


class DetectorSettings(Table, words=16, start=DETECTOR.settings, writer=DETECTOR_THREAD):
    """What Python sets.

    line 0 | now_ns | max_age_ns | max_skew_ns | cooldown_ns | recheck_ns | next_id | catalogue_version | bell_fd |
    line 1 | hist_scan | hist_publish | hist_receive | strict | exit_version | 0 | 0 | 0 |
    """

    now_ns = word("0 = the monotonic clock; replays set recorded time", unit="ns of the monotonic clock")
    max_age_ns = word("a book proved longer ago than this is not traded on")
    max_skew_ns = word("proofs of two books further apart than this are not compared")
    cooldown_ns = word("cooldown of a direction after a push")
    recheck_ns = word("how often an open episode is looked at without a frame")
    next_id = word("of the next opportunity")
    catalogue_version = word("that the topology was built from")
    bell_fd = word("FIFO of the executor's bell; -1 = none")
    hist_scan = word("histogram index in the metrics words; -1 = none")
    hist_publish = word("histogram index in the metrics words; -1 = none")
    hist_receive = word("histogram index in the metrics words; -1 = none")
    strict = word("1 = a book that may not be traded on has no edge at all (replays)")
    exit_version = word("of the executor's exit rows that were loaded; NOT_LOADED = none")


DETECTOR_SETTINGS = DetectorSettings()


class InputLog(Table, words=16, start=DETECTOR.input_log, writer=DETECTOR_THREAD):
    """Where what the detector read is written down, or taken from again (``input_log``).

    line 0 | mode | at | end | missed | log_off | seen_off | fault | fault_at |
    line 1 | epochs[3] | equal | unequal | 0 | 0 | 0 |
    """

    mode = word("input_log's OFF, RECORDING or REPLAYING")
    at = word("word of the next entry")
    end = word("behind the last word that an entry may use, or was written to")
    missed = word("entries that found no room", unit="entries")
    log_off = word("the section for entries, the last of all")
    seen_off = word("SEEN rows, by instrument")
    fault = word("replay: kind of the entry that was wanted where another one was found; 0 = none")
    fault_at = word("replay: the word where that was")
    epochs = words_of(3, "of the feeds of the books that were read, by leg")
    equal = word("replay: pushed records that came out as they were", unit="records")
    unequal = word("replay: those that did not", unit="records")


INPUT_LOG = InputLog()


class Seen(Table, words=BOOK.WORDS + 16, writer=DETECTOR_THREAD):
    """What was last read of an instrument, so that the log has it once.

    line 0..11 | book: 1 BOOK ... |
    line 12    | stock[8] |
    line 13    | usable | known | 0[6] |
    """

    book = rows_of(BOOK, 1, "its record")
    stock = words_of(INVENTORY_ROW.WORDS, "INVENTORY_ROW")
    usable = word("1 = that row may be traded on")
    known = word("1 = there is such a row")


SEEN = Seen()


class Exit(Table, words=8, writer=DETECTOR_THREAD):
    """A direction in which open hedges leave, as the executor wrote it (shm EXIT_ROW).

    | direction | threshold_milli_bps | side | qty_fp | cooldown_until_ns | 0 | 0 | 0 |
    """

    direction = word("its index")
    threshold_milli_bps = word("1000 x the basis at and below which leaving beats holding")
    side = word("of the hedge", codes={1: "long spot, short futures", -1: "short spot, long futures"})
    qty_fp = word("base coins that are open")
    cooldown_until_ns = word("not pushed again before", unit="ns of the monotonic clock")


EXIT = Exit()


class FeedReader(Table, words=8, writer=DETECTOR_THREAD):
    """How far the notices of one feed have been read.

    | feed_off | cursor | epoch | alive | 0[4] |
    """

    feed_off = word("the feed's segment in the arena; NO_FEED = not mapped")
    cursor = word("next notice")
    epoch = word("writer epoch that the cursor belongs to")
    alive = word("1 = its process is alive and beats (set from Python)")


FEED_READER = FeedReader()


EPISODE_STATES = {CLOSED: "closed", OPEN: "open", PUSHED: "pushed", SETTLED: "settled", HELD: "held"}


class Episode(Table, words=8, writer=DETECTOR_THREAD):
    """One direction or cycle, from its first edge above the minimum to the first at or below it.

    | state | reason | opened_ns | cooldown_until_ns | position | evaluated_ns | watch | rearmed |
    """

    state = word("how it stands", codes=EPISODE_STATES)
    reason = word("Refusal of the evaluation that came furthest")
    opened_ns = word("when it was opened", unit="ns of the monotonic clock")
    cooldown_until_ns = word("not pushed before; survives the episode", unit="ns of the monotonic clock")
    position = word("index in the list of active ones")
    evaluated_ns = word("last evaluation", unit="ns of the monotonic clock")
    watch = word("frame times of its connections at the last evaluation")
    rearmed = word("1 = the executor has reported on what was pushed")


EPISODE = Episode()


class Memory:
    """``mem`` and ``flt`` for one topology, and views of their sections for Python."""

    def __init__(self, topology: Topology, *, feed_count: int, log_words: int = 0) -> None:
        """``log_words``: room for the log of what is read; 0 = it is not written down."""
        self.topology = topology
        episodes = len(topology.directions) + len(topology.cycles)
        slots = max(1, len(topology.members))
        feeds = max(1, feed_count)
        sizes = {
            DETECTOR.instruments_off: topology.instruments.size,
            DETECTOR.groups_off: topology.groups.size,
            DETECTOR.directions_off: topology.directions.size,
            DETECTOR.books_off: topology.books.size,
            DETECTOR.cycles_off: topology.cycles.size,
            DETECTOR.cycle_of_off: topology.cycle_of.size,
            DETECTOR.episodes_off: episodes * EPISODE.WORDS,
            DETECTOR.group_open_off: len(topology.groups),
            DETECTOR.active_off: episodes + 1,
            DETECTOR.feeds_off: feeds * FEED_READER.WORDS,
            DETECTOR.hits_off: LEGS * episodes + 1,
            DETECTOR.exits_off: EXIT_CAPACITY * EXIT.WORDS,
            DETECTOR.exit_of_off: len(topology.directions),
            DETECTOR.held_off: HELD_CAPACITY * OPPORTUNITY.WORDS,
            DETECTOR.held_of_off: HELD_CAPACITY,
            INPUT_LOG.seen_off: len(topology.instruments) * SEEN.WORDS if log_words else 0,
            INPUT_LOG.log_off: log_words,
        }
        float_sizes = {
            DETECTOR.top_bid_off: slots,
            DETECTOR.top_ask_off: slots,
            DETECTOR.screen_by_buyer_off: topology.screen_by_buyer.size,
            DETECTOR.screen_by_seller_off: topology.screen_by_seller.size,
            DETECTOR.direction_floats_off: topology.floats.size,
            DETECTOR.quote_usd_off: topology.quote_usd.size,
            DETECTOR.caps_off: topology.cap_quote.size,
            DETECTOR.cycle_floats_off: topology.cycle_floats.size,
            DETECTOR.held_worth_off: HELD_CAPACITY,
        }
        self.mem: Words = np.zeros(_end(DETECTOR.WORDS, sizes), dtype=np.int64)
        self.flt: Floats = np.zeros(_end(DETECTOR_FLOATS.WORDS, float_sizes), dtype=np.float64)
        self._place(sizes, DETECTOR.WORDS)
        self._place(float_sizes, DETECTOR_FLOATS.WORDS)
        mem = self.mem
        mem[DETECTOR.instrument_count] = len(topology.instruments)
        mem[DETECTOR.direction_count] = len(topology.directions)
        mem[DETECTOR.book_capacity] = topology.books.shape[1]
        mem[DETECTOR.cycle_count] = len(topology.cycles)
        mem[DETECTOR.feed_count] = feeds
        mem[INPUT_LOG.at], mem[INPUT_LOG.end] = mem[INPUT_LOG.log_off], mem[INPUT_LOG.log_off] + log_words
        mem[DETECTOR_SETTINGS.bell_fd] = -1
        mem[DETECTOR_SETTINGS.exit_version] = NOT_LOADED
        mem[DETECTOR_SETTINGS.hist_scan] = mem[DETECTOR_SETTINGS.hist_publish] = mem[
            DETECTOR_SETTINGS.hist_receive
        ] = -1
        self._fill(mem, DETECTOR.instruments_off, topology.instruments)
        self._fill(mem, DETECTOR.groups_off, topology.groups)
        self._fill(mem, DETECTOR.directions_off, topology.directions)
        self._fill(mem, DETECTOR.books_off, topology.books)
        self._fill(mem, DETECTOR.cycles_off, topology.cycles)
        self._fill(mem, DETECTOR.cycle_of_off, topology.cycle_of)
        self._fill(self.flt, DETECTOR.screen_by_buyer_off, topology.screen_by_buyer)
        self._fill(self.flt, DETECTOR.screen_by_seller_off, topology.screen_by_seller)
        self._fill(self.flt, DETECTOR.direction_floats_off, topology.floats)
        self._fill(self.flt, DETECTOR.quote_usd_off, topology.quote_usd)
        self._fill(self.flt, DETECTOR.caps_off, topology.cap_quote)
        self.flt[DETECTOR_FLOATS.min_profit_usd] = topology.min_profit_usd
        self._fill(self.flt, DETECTOR.cycle_floats_off, topology.cycle_floats)
        self.episodes = self._view(DETECTOR.episodes_off, episodes, EPISODE.WORDS)
        self.feeds = self._view(DETECTOR.feeds_off, feeds, FEED_READER.WORDS)
        self.active = mem[mem[DETECTOR.active_off] : mem[DETECTOR.active_off] + episodes + 1]
        self.group_open = mem[mem[DETECTOR.group_open_off] : mem[DETECTOR.group_open_off] + len(topology.groups)]
        self.opened = mem[DETECTOR.opened : DETECTOR.opened + OPENED_RING]
        self.counters = mem[DETECTOR.counters : DETECTOR.counters + DETECTOR_COUNTERS.WORDS]
        self.settings = mem[DETECTOR.settings : DETECTOR.settings + DETECTOR_SETTINGS.WORDS]
        self.top_bid = self.flt[mem[DETECTOR.top_bid_off] : mem[DETECTOR.top_bid_off] + slots]
        self.top_ask = self.flt[mem[DETECTOR.top_ask_off] : mem[DETECTOR.top_ask_off] + slots]
        self.caps = self.flt[mem[DETECTOR.caps_off] : mem[DETECTOR.caps_off] + topology.cap_quote.size]
        self.quote_usd = self.flt[mem[DETECTOR.quote_usd_off] : mem[DETECTOR.quote_usd_off] + topology.quote_usd.size]
        self.top_bid[:], self.top_ask[:] = -1.0, np.inf
        self.feeds[:, FEED_READER.feed_off] = NO_FEED
        self.feeds[:, FEED_READER.epoch] = -1
        self.feeds[:, FEED_READER.alive] = 1

    def _place(self, sizes: dict[int, int], start: int) -> None:
        at = start
        for header, size in sizes.items():
            self.mem[header] = at
            at += _lines(size)

    def _fill(self, array: Words | Floats, header: int, values: Words | Floats) -> None:
        at = int(self.mem[header])
        array[at : at + values.size] = values.reshape(-1)

    def _view(self, header: int, count: int, width: int) -> Words:
        at = int(self.mem[header])
        return self.mem[at : at + count * width].reshape(count, width)

    def set_price(self, key: int, price_mbps: int, rows: Words, terms: Terms) -> None:
        """Thresholds of one direction at another price of its inventory; nothing where there is no such direction.

        ``rows``: int64[n, CATALOGUE_ROW.WORDS] that the topology was built from. By the thread that runs the kernels,
        between passes.
        """
        ids = divmod(key, CATALOGUE_CAPACITY)
        count = int(self.mem[DETECTOR.instrument_count])
        if max(ids) >= count:
            return
        buy, sell = (self.topology.instruments[number] for number in ids)
        group = int(buy[INSTRUMENT.group])
        if group < 0 or group != int(sell[INSTRUMENT.group]):
            return
        start, members, block = (int(self.topology.groups[group, column]) for column in range(GROUP.WORDS))
        i, j = int(buy[INSTRUMENT.slot]) - start, int(sell[INSTRUMENT.slot]) - start
        at = block + i * members + j
        mem, flt = self.mem, self.flt
        row = int(mem[DETECTOR.directions_off]) + at * DIRECTION.WORDS
        floats = int(mem[DETECTOR.direction_floats_off]) + at * DIRECTION_FLOATS.WORDS
        factor = fill_direction(
            rows[ids[0]],
            rows[ids[1]],
            ids,
            terms,
            price_mbps,
            mem[row : row + DIRECTION.WORDS],
            flt[floats : floats + DIRECTION_FLOATS.WORDS],
        )
        flt[mem[DETECTOR.screen_by_buyer_off] + at] = factor
        flt[mem[DETECTOR.screen_by_seller_off] + block + j * members + i] = factor

    @property
    def keys(self) -> list[int]:
        """Direction keys by episode index: buy instrument * CATALOGUE_CAPACITY + sell; negative = a cycle's."""
        return [*self.topology.directions[:, DIRECTION.key].tolist(), *self.topology.cycles[:, CYCLE.key].tolist()]

    def lost_in(self, new: Memory) -> list[int]:
        """Open episodes of this memory whose direction does not exist in ``new``."""
        keys, kept = self.keys, set(new.keys)
        return [
            int(episode)
            for episode in self.active[: int(self.mem[DETECTOR_COUNTERS.active])]
            if keys[int(episode)] not in kept
        ]

    def carry_over(self, old: Memory) -> None:
        """Takes counters, settings, feeds and the episodes whose direction still exists from ``old``.

        The caller has ended :meth:`lost_in` before.
        """
        self.counters[:] = old.counters
        self.settings[:] = old.settings
        self.mem[DETECTOR_SETTINGS.exit_version] = NOT_LOADED
        count = min(len(self.feeds), len(old.feeds))
        self.feeds[:count] = old.feeds[:count]
        self.feeds[:, FEED_READER.epoch] = -1  # every book is looked at again: tops are empty
        places = {key: index for index, key in enumerate(self.keys)}
        self.mem[DETECTOR_COUNTERS.active] = 0
        for index, key in enumerate(old.keys):
            place = places.get(key)
            if place is None:
                continue
            self.episodes[place] = old.episodes[index]
            if self.episodes[place, EPISODE.state] == SETTLED:
                self.episodes[place, EPISODE.state] = CLOSED  # the new catalogue may judge otherwise
            if self.episodes[place, EPISODE.state] != CLOSED:
                position = int(self.mem[DETECTOR_COUNTERS.active])
                self.episodes[place, EPISODE.position] = position
                self.active[position] = place
                self.mem[DETECTOR_COUNTERS.active] = position + 1
                if place < len(self.topology.directions):
                    self.group_open[self._group_of(place)] += 1

    def forget_exits(self) -> None:
        """No direction is an exit until the executor's rows are loaded again."""
        at = int(self.mem[DETECTOR.exit_of_off])
        self.mem[at : at + len(self.topology.directions)] = 0
        self.mem[DETECTOR.exit_count] = 0
        self.mem[DETECTOR_SETTINGS.exit_version] = NOT_LOADED

    def _group_of(self, direction: int) -> int:
        return int(self.topology.instruments[self.topology.directions[direction, DIRECTION.buy], INSTRUMENT.group])


def _lines(size: int) -> int:
    """Sections begin on whole cache lines."""
    return -(-size // LINE_WORDS) * LINE_WORDS


def _end(start: int, sizes: dict[int, int]) -> int:
    return start + sum(_lines(size) for size in sizes.values())
