"""The detector's private memory: two arrays, one writer (its own thread), sections found by offsets in a header.

Two flat arrays, because every array that a kernel passes on costs it seven words and reference counts: with one array
per column an event cost 870 ns, with these two it costs a tenth. ``mem`` int64 holds what is counted and compared,
``flt`` float64 what is screened and reported. :class:`Memory` gives Python named views of the same words.

Episode rows are numbered as directions, then cycles: ``episode = direction`` or ``directions + cycle``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.detection.cycles import CY_KEY, LEGS
from pipeline.detection.depth_walk import LEG_LIMIT_WORDS, MONEY_WORDS, SIZE_WORDS
from pipeline.detection.topology import DR_BUY, DR_KEY, IN_GROUP, NO_FEED, Topology
from shm import layout as ly

Words = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# --- header of ``mem``: where the sections begin, how long they are ---
H_INSTRUMENTS = 0
H_INSTRUMENT_COUNT = 1
H_GROUPS = 2
H_DIRECTIONS = 3
H_DIRECTION_COUNT = 4
H_BOOKS = 5  # feed-major table of instrument ids
H_BOOK_CAPACITY = 6
H_CYCLES = 7
H_CYCLE_COUNT = 8
H_CYCLE_OF = 9
H_EPISODES = 10
H_GROUP_OPEN = 11
H_ACTIVE = 12
H_FEEDS = 13
H_FEED_COUNT = 14
H_HITS = 15  # episodes that must be evaluated; in a sweep one may be hit once for each of its books
# the same in ``flt``
H_TOP_BID = 16
H_TOP_ASK = 17
H_NEED = 18
H_NEED_T = 19
H_DIRECTION_FLOATS = 20
H_CAPS = 21
H_CYCLE_FLOATS = 22
HEADER_WORDS = 32

# --- counters; ``REFUSED + code`` per Refusal of the detector ---
COUNTERS = HEADER_WORDS
C_EVENTS = COUNTERS  # book updates looked at
C_EVALUATIONS = COUNTERS + 1  # directions whose books were read whole
C_OPENED = COUNTERS + 2  # episodes opened; also the end of the ``opened`` ring
C_PUSHED = COUNTERS + 3  # episodes pushed to the executor
C_ENDED = COUNTERS + 4  # episodes that ended refused
C_LAPS = COUNTERS + 5
C_TORN = COUNTERS + 6
C_RECHECKS = COUNTERS + 7
C_REPORTS = COUNTERS + 8
C_UNKNOWN_BOOK = COUNTERS + 9  # notices of books that the catalogue does not know (yet)
C_ACTIVE = COUNTERS + 10  # open episodes now: length of the list of active ones
C_EPOCHS = COUNTERS + 11  # first sights of a feed, and changes of its writer
C_REFUSED = COUNTERS + 16
REFUSAL_CODES = 32
COUNTER_WORDS = 16 + REFUSAL_CODES

# --- settings ---
SETTINGS = COUNTERS + COUNTER_WORDS
SE_NOW_NS = SETTINGS  # 0 = the monotonic clock; replays set recorded time
SE_MAX_AGE_NS = SETTINGS + 1
SE_MAX_SKEW_NS = SETTINGS + 2
SE_COOLDOWN_NS = SETTINGS + 3
SE_RECHECK_NS = SETTINGS + 4
SE_NEXT_ID = SETTINGS + 5
SE_CATALOGUE_VERSION = SETTINGS + 6
SE_BELL_FD = SETTINGS + 7  # FIFO of the executor's bell; -1 = none
SE_HIST_SCAN = SETTINGS + 8  # histogram indices in the metrics words; -1 = none
SE_HIST_PUBLISH = SETTINGS + 9
SE_HIST_RECEIVE = SETTINGS + 10
SE_STRICT = SETTINGS + 11  # 1 = a book that may not be traded on has no edge at all (replays)
SETTING_WORDS = 16

# --- scratch of one evaluation ---
RECORDS = SETTINGS + SETTING_WORDS  # copies of up to three books
PROOFS = RECORDS + LEGS * ly.BOOK_RECORD_WORDS
ROWS = PROOFS + 8  # copies of up to three inventory rows
LIMITS = ROWS + LEGS * ly.INVENTORY_ROW_WORDS  # two legs
SIZE = LIMITS + 16
NOTICE = SIZE + 32
REPORT = NOTICE + 16
OPPORTUNITY = REPORT + ly.REPORT_WORDS
DIGIT_CAPACITY = 24  # 31-bit digits: constants of up to 12 digits times three prices of 2
DIGITS = OPPORTUNITY + ly.OPPORTUNITY_WORDS
CYCLE_SCRATCH = DIGITS + 2 * DIGIT_CAPACITY  # statuses, prices, quantities, levels of three legs
OPENED_RING = 256  # newest opened episodes, for alerts and replays; lossy, a power of two
OPENED = CYCLE_SCRATCH + 16
SECTIONS = OPENED + OPENED_RING
assert 2 * LEG_LIMIT_WORDS <= 16 and SIZE_WORDS <= 32

# --- head of ``flt`` ---
MONEY = 0
FLOW = MONEY + 8  # scratch of the triangular kernel
FLOAT_SECTIONS = FLOW + 16
assert MONEY_WORDS <= 8

# --- feed columns ---
FD_OFF = 0  # word of the feed's segment in the arena; NO_FEED = not mapped
FD_CURSOR = 1  # next notice
FD_EPOCH = 2  # writer epoch that the cursor belongs to
FD_ALIVE = 3  # 1 = its process is alive and beats (set from Python)
FD_WORDS = 8

# --- episode columns ---
EP_STATE = 0
EP_REASON = 1  # Refusal of the evaluation that came furthest
EP_OPENED_NS = 2
EP_COOLDOWN_UNTIL_NS = 3  # survives the episode
EP_POSITION = 4  # index in the list of active ones
EP_EVALUATED_NS = 5
EP_WATCH = 6  # frame times of its connections at the last evaluation
EP_REARMED = 7  # the executor has reported on what was pushed
EP_WORDS = 8
CLOSED = 0
OPEN = 1
PUSHED = 2
SETTLED = 3  # refused for good and counted already: nothing but its end is waited for


class Memory:
    """``mem`` and ``flt`` for one topology, and views of their sections for Python."""

    def __init__(self, topology: Topology, *, feed_count: int) -> None:
        self.topology = topology
        episodes = len(topology.directions) + len(topology.cycles)
        slots = max(1, len(topology.members))
        feeds = max(1, feed_count)
        sizes = {
            H_INSTRUMENTS: topology.instruments.size,
            H_GROUPS: topology.groups.size,
            H_DIRECTIONS: topology.directions.size,
            H_BOOKS: topology.books.size,
            H_CYCLES: topology.cycles.size,
            H_CYCLE_OF: topology.cycle_of.size,
            H_EPISODES: episodes * EP_WORDS,
            H_GROUP_OPEN: len(topology.groups),
            H_ACTIVE: episodes + 1,
            H_FEEDS: feeds * FD_WORDS,
            H_HITS: LEGS * episodes + 1,
        }
        float_sizes = {
            H_TOP_BID: slots,
            H_TOP_ASK: slots,
            H_NEED: topology.need.size,
            H_NEED_T: topology.need_t.size,
            H_DIRECTION_FLOATS: topology.floats.size,
            H_CAPS: topology.cap_quote.size,
            H_CYCLE_FLOATS: topology.cycle_floats.size,
        }
        self.mem: Words = np.zeros(_end(SECTIONS, sizes), dtype=np.int64)
        self.flt: Floats = np.zeros(_end(FLOAT_SECTIONS, float_sizes), dtype=np.float64)
        self._place(sizes, SECTIONS)
        self._place(float_sizes, FLOAT_SECTIONS)
        mem = self.mem
        mem[H_INSTRUMENT_COUNT] = len(topology.instruments)
        mem[H_DIRECTION_COUNT] = len(topology.directions)
        mem[H_BOOK_CAPACITY] = topology.books.shape[1]
        mem[H_CYCLE_COUNT] = len(topology.cycles)
        mem[H_FEED_COUNT] = feeds
        mem[SE_BELL_FD] = -1
        mem[SE_HIST_SCAN] = mem[SE_HIST_PUBLISH] = mem[SE_HIST_RECEIVE] = -1
        self._fill(mem, H_INSTRUMENTS, topology.instruments)
        self._fill(mem, H_GROUPS, topology.groups)
        self._fill(mem, H_DIRECTIONS, topology.directions)
        self._fill(mem, H_BOOKS, topology.books)
        self._fill(mem, H_CYCLES, topology.cycles)
        self._fill(mem, H_CYCLE_OF, topology.cycle_of)
        self._fill(self.flt, H_NEED, topology.need)
        self._fill(self.flt, H_NEED_T, topology.need_t)
        self._fill(self.flt, H_DIRECTION_FLOATS, topology.floats)
        self._fill(self.flt, H_CAPS, topology.cap_quote)
        self._fill(self.flt, H_CYCLE_FLOATS, topology.cycle_floats)
        self.episodes = self._view(H_EPISODES, episodes, EP_WORDS)
        self.feeds = self._view(H_FEEDS, feeds, FD_WORDS)
        self.active = mem[mem[H_ACTIVE] : mem[H_ACTIVE] + episodes + 1]
        self.group_open = mem[mem[H_GROUP_OPEN] : mem[H_GROUP_OPEN] + len(topology.groups)]
        self.opened = mem[OPENED : OPENED + OPENED_RING]
        self.counters = mem[COUNTERS : COUNTERS + COUNTER_WORDS]
        self.settings = mem[SETTINGS : SETTINGS + SETTING_WORDS]
        self.top_bid = self.flt[mem[H_TOP_BID] : mem[H_TOP_BID] + slots]
        self.top_ask = self.flt[mem[H_TOP_ASK] : mem[H_TOP_ASK] + slots]
        self.caps = self.flt[mem[H_CAPS] : mem[H_CAPS] + topology.cap_quote.size]
        self.top_bid[:] = -1.0
        self.top_ask[:] = np.inf
        self.feeds[:, FD_OFF] = NO_FEED
        self.feeds[:, FD_EPOCH] = -1
        self.feeds[:, FD_ALIVE] = 1

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

    @property
    def keys(self) -> list[int]:
        """Direction keys by episode index: buy instrument * CATALOGUE_CAPACITY + sell; negative = a cycle's."""
        return [*self.topology.directions[:, DR_KEY].tolist(), *self.topology.cycles[:, CY_KEY].tolist()]

    def lost_in(self, new: Memory) -> list[int]:
        """Open episodes of this memory whose direction does not exist in ``new``."""
        keys, kept = self.keys, set(new.keys)
        return [int(episode) for episode in self.active[: int(self.mem[C_ACTIVE])] if keys[int(episode)] not in kept]

    def carry_over(self, old: Memory) -> None:
        """Takes counters, settings, feeds and the episodes whose direction still exists from ``old``.

        The caller has ended :meth:`lost_in` before.
        """
        self.counters[:] = old.counters
        self.settings[:] = old.settings
        count = min(len(self.feeds), len(old.feeds))
        self.feeds[:count] = old.feeds[:count]
        self.feeds[:, FD_EPOCH] = -1  # every book is looked at again: tops are empty
        places = {key: index for index, key in enumerate(self.keys)}
        self.mem[C_ACTIVE] = 0
        for index, key in enumerate(old.keys):
            place = places.get(key)
            if place is None:
                continue
            self.episodes[place] = old.episodes[index]
            if self.episodes[place, EP_STATE] == SETTLED:
                self.episodes[place, EP_STATE] = CLOSED  # the new catalogue may judge otherwise
            if self.episodes[place, EP_STATE] != CLOSED:
                position = int(self.mem[C_ACTIVE])
                self.episodes[place, EP_POSITION] = position
                self.active[position] = place
                self.mem[C_ACTIVE] = position + 1
                if place < len(self.topology.directions):
                    self.group_open[self._group_of(place)] += 1

    def _group_of(self, direction: int) -> int:
        return int(self.topology.instruments[self.topology.directions[direction, DR_BUY], IN_GROUP])


def _lines(size: int) -> int:
    """Sections begin on whole cache lines."""
    return -(-size // ly.LINE_WORDS) * ly.LINE_WORDS


def _end(start: int, sizes: dict[int, int]) -> int:
    return start + sum(_lines(size) for size in sizes.values())
