"""What may be compared with what: dense arrays built from the catalogue, read by every kernel.

Groups: instruments of one base/quote text, members contiguous (``member`` slots), all prices at one exponent. An
instrument whose identity is in doubt stays in the group of its ticker, and every direction that touches it is marked
quarantined: its dislocations are counted, never traded.

Directions of a group of n members lie in one n x n block: direction ``block + buy * n + sell``. ``need`` holds the
screen factors row-wise (this member buys), ``need_t`` the transpose (this member sells), so that an event on one
member reads two contiguous rows, whatever the number of instruments.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.detection.catalogue_rows import STABLE_QUOTES, buy_fees, pair_text, tradable_row
from pipeline.detection.cycles import build_cycles
from pipeline.detection.edge import DISABLED, edge_ratio, screen_factor
from pipeline.detection.spot_futures import HedgeTerms, hedge_cost
from pipeline.detection.thresholds import Terms
from pipeline.model.enums import InstrumentKind, OpportunityType
from shm import layout as ly

Words = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

NO_FEED = -1

# instrument columns
IN_FEED = 0
IN_BOOK = 1
IN_SLOT = 2  # member slot; -1 = in no group
IN_GROUP = 3
IN_KIND = 4
IN_STATUS = 5
IN_FLAGS = 6  # CAT_FLAG_*
IN_LOT = 7
IN_MIN_QTY = 8
IN_MAX_QTY = 9  # NUMBER_LIMIT = none
IN_MIN_NOTIONAL = 10
IN_QTY_UNIT = 11
IN_ROW_EPOCH = 12
IN_CYCLE_START = 13  # range in ``cycle_of``
IN_CYCLE_END = 14
IN_PAIR = 15
IN_WORDS = 16

# direction columns
DR_TYPE = 0  # OpportunityType, or -1 = never
DR_BUY = 1
DR_SELL = 2
DR_NUM = 3  # episode threshold
DR_DEN = 4
DR_EXEC_NUM = 5  # execution threshold
DR_EXEC_DEN = 6
DR_BUY_BASE_PPM = 7
DR_QUARANTINED = 8
DR_KEY = 9
DR_WORDS = 10

# direction floats: for sizes and records, never to decide
DF_FEE = 0  # (1-s)(1-r)/(1+q)
DF_COST = 1  # what a hedge costs beyond its entry, fraction of the notional
DF_SELL_KEEP = 2  # 1-s
DF_BUY_COST = 3  # 1+q
DF_SCALE = 4  # quote per price unit x quantity unit
DF_WORDS = 5

# group columns
GR_START = 0  # first member slot
GR_COUNT = 1
GR_BLOCK = 2  # first direction
GR_WORDS = 3


class Topology(NamedTuple):
    """Arrays that kernels take; see the column names above. ``cycles`` belong to :mod:`triangular`."""

    instruments: Words  # (instruments, IN_WORDS)
    members: Words  # (slots,) instrument ids
    groups: Words  # (groups, GR_WORDS)
    directions: Words  # (directions, DR_WORDS)
    floats: Floats  # (directions, DF_WORDS)
    need: Floats  # (directions,)
    need_t: Floats
    books: Words  # (feeds, book capacity) instrument id or -1
    cap_quote: Floats  # (instruments,) max notional in the instrument's quote; 0 = rate unknown, never traded
    cycles: Words  # (cycles, CY_WORDS)
    cycle_floats: Floats
    cycle_of: Words  # cycle indices, grouped by instrument


@lru_cache(maxsize=65536)
def _ratio(sell_ppm: int, base_ppm: int, quote_ppm: int, threshold: Fraction) -> tuple[int, int]:
    return edge_ratio(sell_ppm=sell_ppm, buy_base_ppm=base_ppm, buy_quote_ppm=quote_ppm, threshold=threshold)


def direction_type(buy: Words, sell: Words) -> OpportunityType | None:
    """Which strategy a direction belongs to; None for two contracts (no strategy of ours trades them), and for two
    instruments of one venue and kind (they are one market)."""
    kinds = {int(buy[ly.CR_KIND]), int(sell[ly.CR_KIND])}
    if len(kinds) == 1 and int(buy[ly.CR_VENUE]) == int(sell[ly.CR_VENUE]):
        return None
    if kinds == {int(InstrumentKind.SPOT)}:
        return OpportunityType.SPOT_SPOT
    if kinds == {int(InstrumentKind.SPOT), int(InstrumentKind.PERPETUAL)}:
        return OpportunityType.SPOT_FUTURES_HEDGE
    return None


def cost_beyond_entry(buy: Words, sell: Words, terms: Terms) -> Fraction:
    """What a direction costs beyond its two entry fees, as a fraction of the notional."""
    if terms.entry_only or direction_type(buy, sell) is not OpportunityType.SPOT_FUTURES_HEDGE:
        return Fraction(0)
    short = int(sell[ly.CR_KIND]) == InstrumentKind.PERPETUAL
    spot, futures = (buy, sell) if short else (sell, buy)
    return hedge_cost(
        HedgeTerms(
            spot_taker_ppm=int(spot[ly.CR_TAKER_FEE_PPM]),
            futures_taker_ppm=int(futures[ly.CR_TAKER_FEE_PPM]),
            funding_rate_ppb=int(futures[ly.CR_FUNDING_RATE_PPB]),
            funding_interval_s=int(futures[ly.CR_FUNDING_INTERVAL_S]),
            short_futures=short,
        ),
        terms.hedge,
    )


def group_rows(rows: Words) -> list[list[int]]:
    """Instrument ids of one ticker pair and one pair of exponents, for every pair with at least two members."""
    found: dict[tuple[str, int, int], list[int]] = {}
    for instrument in range(len(rows)):
        row = rows[instrument]
        if tradable_row(row):
            key = (pair_text(row), int(row[ly.CR_PRICE_EXP]), int(row[ly.CR_QTY_EXP]))
            found.setdefault(key, []).append(instrument)
    return list(found.values())


def _instrument_columns(rows: Words) -> Words:
    table = np.zeros((max(1, len(rows)), IN_WORDS), dtype=np.int64)
    table[:, IN_SLOT] = -1
    table[:, IN_GROUP] = -1
    for instrument, row in enumerate(rows):
        out = table[instrument]
        out[IN_FEED], out[IN_BOOK] = row[ly.CR_FEED], row[ly.CR_BOOK_INDEX]
        out[IN_KIND], out[IN_STATUS], out[IN_FLAGS] = row[ly.CR_KIND], row[ly.CR_STATUS], row[ly.CR_FLAGS]
        out[IN_LOT], out[IN_MIN_QTY] = row[ly.CR_LOT_FP], row[ly.CR_MIN_QTY_FP]
        out[IN_MAX_QTY] = row[ly.CR_MAX_QTY_FP] if row[ly.CR_MAX_QTY_FP] > 0 else 2**62
        out[IN_MIN_NOTIONAL] = row[ly.CR_MIN_NOTIONAL_FP]
        out[IN_QTY_UNIT] = 10 ** int(row[ly.CR_QTY_EXP])
        out[IN_ROW_EPOCH], out[IN_PAIR] = row[ly.CR_ROW_EPOCH], row[ly.CR_PAIR]
    return table


def _fill_direction(buy: Words, sell: Words, ids: tuple[int, int], terms: Terms, out: Words, floats: Floats) -> float:
    """One direction's columns; returns its screen factor."""
    kind = direction_type(buy, sell)
    out[DR_TYPE] = -1
    out[DR_BUY], out[DR_SELL] = ids
    out[DR_KEY] = ids[0] * ly.CATALOGUE_CAPACITY + ids[1]
    if kind is None or kind not in terms.types or ids[0] == ids[1]:
        return DISABLED
    cost = cost_beyond_entry(buy, sell, terms)
    base_ppm, quote_ppm = buy_fees(buy)
    sell_ppm = int(sell[ly.CR_TAKER_FEE_PPM])
    if not -1 < terms.min_edge + cost < 1 or not terms.execute_edge + cost < 1:
        return DISABLED
    out[DR_TYPE] = kind
    out[DR_NUM], out[DR_DEN] = _ratio(sell_ppm, base_ppm, quote_ppm, terms.min_edge + cost)
    out[DR_EXEC_NUM], out[DR_EXEC_DEN] = _ratio(sell_ppm, base_ppm, quote_ppm, terms.execute_edge + cost)
    out[DR_BUY_BASE_PPM] = base_ppm
    out[DR_QUARANTINED] = int(buy[ly.CR_PAIR]) < 0 or int(sell[ly.CR_PAIR]) < 0
    floats[DF_FEE] = (1 - sell_ppm / 1e6) * (1 - base_ppm / 1e6) / (1 + quote_ppm / 1e6)
    floats[DF_COST] = float(cost)
    floats[DF_SELL_KEEP] = 1 - sell_ppm / 1e6
    floats[DF_BUY_COST] = 1 + quote_ppm / 1e6
    floats[DF_SCALE] = 10.0 ** -(int(buy[ly.CR_PRICE_EXP]) + int(buy[ly.CR_QTY_EXP]))
    return screen_factor(int(out[DR_NUM]), int(out[DR_DEN]))


def notional_caps(rows: Words, terms: Terms, usd_rates: Mapping[str, float]) -> Floats:
    """Max notional in each instrument's own quote. A stable coin counts as one dollar here (a cap, not an account);
    another quote needs a rate in ``usd_rates``, and without one its instruments are not traded."""
    caps = np.zeros(max(1, len(rows)), dtype=np.float64)
    for instrument, row in enumerate(rows):
        quote = pair_text(row).partition("/")[2]
        rate = 1.0 if quote in STABLE_QUOTES else usd_rates.get(quote, 0.0)
        caps[instrument] = terms.max_notional_usd / rate if rate > 0.0 else 0.0
    return caps


def build_topology(
    rows: Words, terms: Terms, *, feed_count: int, book_capacity: int, usd_rates: Mapping[str, float] | None = None
) -> Topology:
    """Arrays for ``rows`` int64[n, 48] of the catalogue. Raises ``ValueError`` for a book index beyond capacity."""
    instruments = _instrument_columns(rows)
    groups = group_rows(rows)
    members = np.array([*itertools.chain.from_iterable(groups)] or [0], dtype=np.int64)
    total = max(1, sum(len(group) ** 2 for group in groups))
    table = np.zeros((max(1, len(groups)), GR_WORDS), dtype=np.int64)
    directions = np.full((total, DR_WORDS), -1, dtype=np.int64)
    floats = np.zeros((total, DF_WORDS), dtype=np.float64)
    need, need_t = np.full(total, DISABLED), np.full(total, DISABLED)
    start = block = 0
    for index, group in enumerate(groups):
        count = len(group)
        table[index] = (start, count, block)
        for i, buy in enumerate(group):
            instruments[buy, IN_SLOT], instruments[buy, IN_GROUP] = start + i, index
            for j, sell in enumerate(group):
                at = block + i * count + j
                factor = _fill_direction(rows[buy], rows[sell], (buy, sell), terms, directions[at], floats[at])
                need[at] = factor
                need_t[block + j * count + i] = factor
        start += count
        block += count * count
    books = np.full((max(1, feed_count), book_capacity), -1, dtype=np.int64)
    for instrument, row in enumerate(rows):
        feed, book = int(row[ly.CR_FEED]), int(row[ly.CR_BOOK_INDEX])
        if not (0 <= feed < feed_count and 0 <= book < book_capacity):
            raise ValueError(f"instrument {instrument}: book {book} of feed {feed} is beyond {feed_count} feeds")
        books[feed, book] = instrument
    found = build_cycles(rows, terms)
    for instrument, (first, last) in found.ranges.items():
        instruments[instrument, IN_CYCLE_START], instruments[instrument, IN_CYCLE_END] = first, last
    return Topology(
        instruments,
        members,
        table,
        directions,
        floats,
        need,
        need_t,
        books,
        notional_caps(rows, terms, usd_rates or {}),
        found.table,
        found.floats,
        found.by_instrument,
    )
