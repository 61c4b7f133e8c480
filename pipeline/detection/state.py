"""What the detector remembers between events: private arrays, one writer (its own thread).

``Memory`` is what kernels read from outside, ``State`` what they keep. Episode rows are numbered as directions, then
cycles: ``episode = direction`` or ``directions + cycle``.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.detection.topology import NO_FEED, Topology
from pipeline.detection.walk import LEG_LIMIT_WORDS, MONEY_WORDS, SIZE_WORDS
from shm import layout as ly

Words = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]


class Memory(NamedTuple):
    """Shared (or, in replays and tests, private) words that kernels work on.

    ``feeds``: the arena of feed segments; ``inventory``: the executor's page, or an array of length 1 = unlimited;
    ``catalogue``: its page (only ``CAT_VERSION`` is read), or length 1 = never changes; ``opps``/``opps_cursor``: the
    queue to the executor; ``reports``/``reports_cursor``: the queue back.
    """

    feeds: Words
    inventory: Words
    catalogue: Words
    opps: Words
    opps_cursor: Words
    reports: Words
    reports_cursor: Words


# feed columns
FD_OFF = 0  # word of the feed's segment in the arena; NO_FEED = not mapped
FD_CURSOR = 1  # next notice
FD_EPOCH = 2  # writer epoch that the cursor belongs to
FD_ALIVE = 3  # 1 = its process is alive and beats (set from Python)
FD_WORDS = 4

# episode columns
EP_STATE = 0
EP_REASON = 1  # Refusal of the evaluation that came furthest
EP_OPENED_NS = 2
EP_COOLDOWN_UNTIL_NS = 3  # survives the episode
EP_POSITION = 4  # index in ``active``
EP_EVALUATED_NS = 5
EP_WATCH = 6  # sum of the frame times of its connections at the last evaluation
EP_REARMED = 7  # the executor has reported on what was pushed
EP_WORDS = 8
CLOSED = 0
OPEN = 1
PUSHED = 2

# counters, int64[COUNTER_WORDS]; ``C_REFUSED + code`` per Refusal of the detector
C_EVENTS = 0  # book updates looked at
C_EVALUATIONS = 1  # directions whose books were read whole
C_OPENED = 2  # episodes opened; also the end of the ``opened`` ring
C_PUSHED = 3  # episodes pushed to the executor
C_ENDED = 4  # episodes that ended refused
C_LAPS = 5
C_TORN = 6
C_RECHECKS = 7
C_REPORTS = 8
C_UNKNOWN_BOOK = 9  # notices of books that the catalogue does not know (yet)
C_ACTIVE = 10  # open episodes now: length of ``active``
C_EPOCHS = 11  # writer epochs that changed
C_REFUSED = 16
REFUSAL_CODES = 32
COUNTER_WORDS = C_REFUSED + REFUSAL_CODES

# settings, int64[SETTING_WORDS]
SE_NOW_NS = 0  # 0 = the monotonic clock; replays set recorded time
SE_MAX_AGE_NS = 1
SE_MAX_SKEW_NS = 2
SE_COOLDOWN_NS = 3
SE_RECHECK_NS = 4
SE_NEXT_ID = 5
SE_CATALOGUE_VERSION = 6
SE_BELL_FD = 7  # FIFO of the executor's bell; -1 = none
SETTING_WORDS = 8

OPENED_RING = 256  # newest opened episodes, for alerts and replays; lossy, a power of two


class State(NamedTuple):
    top_bid: Floats  # (slots,) newest best bid per member slot as the screen uses it
    top_ask: Floats
    episodes: Words  # (directions + cycles, EP_WORDS)
    group_open: Words  # (groups,) open episodes per group
    active: Words  # open episodes, unordered; length in counters[C_ACTIVE]
    opened: Words  # (OPENED_RING,) episode indices
    feeds: Words  # (feeds, FD_WORDS)
    counters: Words
    settings: Words
    records: Words  # (3, BOOK_RECORD_WORDS) copies of the books of one evaluation
    proofs: Words  # (3,)
    rows: Words  # (3, INVENTORY_ROW_WORDS)
    limits: Words  # (2, LEG_LIMIT_WORDS)
    money: Floats
    size: Words
    notice: Words
    opportunity: Words
    report: Words
    flow: Floats  # scratch of the triangular kernel
    digits: Words  # (2, DIGIT_CAPACITY) scratch of the triangular kernel's exact products


DIGIT_CAPACITY = 24  # 31-bit digits: constants of up to 12 digits times three prices of 2


def new_state(topology: Topology, *, feed_count: int) -> State:
    """Empty memory for ``topology``; feeds unmapped."""
    episodes = len(topology.directions) + len(topology.cycles)
    slots = max(1, len(topology.members))
    feeds = np.zeros((max(1, feed_count), FD_WORDS), dtype=np.int64)
    feeds[:, FD_OFF] = NO_FEED
    feeds[:, FD_ALIVE] = 1
    settings = np.zeros(SETTING_WORDS, dtype=np.int64)
    settings[SE_BELL_FD] = -1
    return State(
        top_bid=np.full(slots, -1.0),
        top_ask=np.full(slots, np.inf),
        episodes=np.zeros((episodes, EP_WORDS), dtype=np.int64),
        group_open=np.zeros(len(topology.groups), dtype=np.int64),
        active=np.zeros(episodes + 1, dtype=np.int64),
        opened=np.zeros(OPENED_RING, dtype=np.int64),
        feeds=feeds,
        counters=np.zeros(COUNTER_WORDS, dtype=np.int64),
        settings=settings,
        records=np.zeros((3, ly.BOOK_RECORD_WORDS), dtype=np.int64),
        proofs=np.zeros(3, dtype=np.int64),
        rows=np.zeros((3, ly.INVENTORY_ROW_WORDS), dtype=np.int64),
        limits=np.zeros((2, LEG_LIMIT_WORDS), dtype=np.int64),
        money=np.zeros(MONEY_WORDS),
        size=np.zeros(SIZE_WORDS, dtype=np.int64),
        notice=np.zeros(2, dtype=np.int64),
        opportunity=np.zeros(ly.OPPORTUNITY_WORDS, dtype=np.int64),
        report=np.zeros(ly.REPORT_WORDS, dtype=np.int64),
        flow=np.zeros(16),
        digits=np.zeros((2, DIGIT_CAPACITY), dtype=np.int64),
    )
