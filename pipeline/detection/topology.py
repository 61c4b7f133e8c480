"""What may be compared with what: dense arrays built from the catalogue, read by every kernel.

Groups: instruments of one base/quote text, members contiguous (``member`` slots), all prices at one exponent. An
instrument whose identity is in doubt stays in the group of its ticker, and every direction that touches it is marked
quarantined: its dislocations are counted, never traded.

Directions of a group of n members lie in one n x n block: direction ``block + buy * n + sell``. Each has a screen
factor (``edge.screen_factor``), kept twice: ``screen_by_buyer`` has the directions of one buyer side by side,
``screen_by_seller`` those of one seller, so that an event on one member reads two contiguous rows, whatever the number
of instruments.
"""

from __future__ import annotations

import itertools
from collections.abc import Mapping
from fractions import Fraction
from functools import lru_cache
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.detection.catalogue_rows import buy_fees, pair_text, tradable_row
from pipeline.detection.cycles import build_cycles
from pipeline.detection.edge import DISABLED, edge_ratio, screen_factor
from pipeline.detection.spot_futures import HedgeTerms, hedge_cost
from pipeline.detection.thresholds import Terms
from pipeline.model.enums import InstrumentKind, OpportunityType
from pipeline.model.instruments import USD_COINS
from shm.declare import Table, real, word
from shm.layout_pages import CATALOGUE_CAPACITY, CATALOGUE_ROW
from shm.words import Words

Floats = npt.NDArray[np.float64]

NO_FEED = -1
MBPS_PER_ONE = 10_000_000


class Instrument(Table, words=16, writer="detector"):
    """Columns of an instrument.

    line 0 | feed | book | slot | group | kind | status | flags | lot_fp |
    line 1 | min_qty_fp | max_qty_fp | min_notional_fp | qty_unit | row_epoch | cycle_start | cycle_end | pair |
    """

    feed = word("dense feed id")
    book = word("index in that feed's book table")
    slot = word("member slot; -1 = in no group")
    group = word("its group; -1 = none")
    kind = word("InstrumentKind")
    status = word("TradingStatus")
    flags = word("CAT_FLAG_*")
    lot_fp = word("quantity step")
    min_qty_fp = word("least order")
    max_qty_fp = word("largest order; NUMBER_LIMIT = none")
    min_notional_fp = word("least order")
    qty_unit = word("10**qty_exp")
    row_epoch = word("of the catalogue row")
    cycle_start = word("first of its entries in ``cycle_of``")
    cycle_end = word("behind the last of them")
    pair = word("dense id of the pair; -1 = quarantined")


INSTRUMENT = Instrument()


class Direction(Table, words=10, writer="detector"):
    """Columns of a direction: buy on one instrument, sell on another.

    line 0 | type | buy | sell | num | den | exec_num | exec_den | buy_base_ppm |
    line 1 | quarantined | key |
    """

    type = word("OpportunityType; -1 = never")
    buy = word("instrument id")
    sell = word("instrument id")
    num = word("episode threshold: exceeded iff bid * num > ask * den")
    den = word("of num")
    exec_num = word("execution threshold, in the same way")
    exec_den = word("of exec_num")
    buy_base_ppm = word("fee of the buy leg that is taken in base")
    quarantined = word("1 = the identity of one of the coins is in doubt: counted, never traded")
    key = word("buy instrument * CATALOGUE_CAPACITY + sell instrument")


DIRECTION = Direction()


class DirectionFloats(Table, words=6, writer="detector"):
    """Floats of a direction: for sizes, profits and records, never to decide whether there is an edge.

    | fee | cost | sell_keep | buy_cost | scale | price |
    """

    fee = real("(1-s)(1-r)/(1+q)", unit="factor")
    cost = real("what a hedge costs beyond its entry", unit="fraction of the notional")
    sell_keep = real("1-s", unit="factor")
    buy_cost = real("1+q", unit="factor")
    scale = real("10**-(price_exp + qty_exp)", unit="quote per (price unit x quantity unit)")
    price = real("price of the inventory that it moves", unit="fraction of the notional")


DIRECTION_FLOATS = DirectionFloats()


class Group(Table, words=3, writer="detector"):
    """Columns of a group: instruments of one pair.

    | first_slot | count | block |
    """

    first_slot = word("its first member slot")
    count = word("its members", unit="instruments")
    block = word("its first direction")


GROUP = Group()


class Topology(NamedTuple):
    """Arrays that kernels take; see the column names above. ``cycles`` belong to :mod:`triangular`."""

    instruments: Words  # (instruments, INSTRUMENT.WORDS)
    members: Words  # (slots,) instrument ids
    groups: Words  # (groups, GROUP.WORDS)
    directions: Words  # (directions, DIRECTION.WORDS)
    floats: Floats  # (directions, DIRECTION_FLOATS.WORDS)
    screen_by_buyer: Floats  # (directions,)
    screen_by_seller: Floats
    books: Words  # (feeds, book capacity) instrument id or -1
    quote_usd: Floats  # (instruments,) USD of one unit of the instrument's quote; 0 = unknown
    cap_quote: Floats  # (instruments,) max notional in the instrument's quote; 0 = rate unknown, never traded
    cycles: Words  # (cycles, CYCLE.WORDS)
    cycle_floats: Floats
    cycle_of: Words  # cycle indices, grouped by instrument
    min_profit_usd: float  # expected net profit from which on a trade is offered


@lru_cache(maxsize=65536)
def _ratio(sell_ppm: int, base_ppm: int, quote_ppm: int, threshold: Fraction) -> tuple[int, int]:
    return edge_ratio(sell_ppm=sell_ppm, buy_base_ppm=base_ppm, buy_quote_ppm=quote_ppm, threshold=threshold)


def direction_type(buy: Words, sell: Words) -> OpportunityType | None:
    """Which strategy a direction belongs to; None for two contracts (no strategy of ours trades them), and for two
    instruments of one venue and kind (they are one market)."""
    kinds = {int(buy[CATALOGUE_ROW.kind]), int(sell[CATALOGUE_ROW.kind])}
    if len(kinds) == 1 and int(buy[CATALOGUE_ROW.venue]) == int(sell[CATALOGUE_ROW.venue]):
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
    short = int(sell[CATALOGUE_ROW.kind]) == InstrumentKind.PERPETUAL
    spot, futures = (buy, sell) if short else (sell, buy)
    return hedge_cost(
        HedgeTerms(
            spot_taker_ppm=int(spot[CATALOGUE_ROW.taker_fee_ppm]),
            futures_taker_ppm=int(futures[CATALOGUE_ROW.taker_fee_ppm]),
            funding_rate_ppb=int(futures[CATALOGUE_ROW.funding_rate_ppb]),
            funding_interval_s=int(futures[CATALOGUE_ROW.funding_interval_s]),
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
            key = (pair_text(row), int(row[CATALOGUE_ROW.price_exp]), int(row[CATALOGUE_ROW.qty_exp]))
            found.setdefault(key, []).append(instrument)
    return list(found.values())


def _instrument_columns(rows: Words) -> Words:
    table = np.zeros((max(1, len(rows)), INSTRUMENT.WORDS), dtype=np.int64)
    table[:, INSTRUMENT.slot] = -1
    table[:, INSTRUMENT.group] = -1
    for instrument, row in enumerate(rows):
        out = table[instrument]
        out[INSTRUMENT.feed], out[INSTRUMENT.book] = row[CATALOGUE_ROW.feed], row[CATALOGUE_ROW.book_index]
        out[INSTRUMENT.kind], out[INSTRUMENT.status], out[INSTRUMENT.flags] = (
            row[CATALOGUE_ROW.kind],
            row[CATALOGUE_ROW.status],
            row[CATALOGUE_ROW.flags],
        )
        out[INSTRUMENT.lot_fp], out[INSTRUMENT.min_qty_fp] = row[CATALOGUE_ROW.lot_fp], row[CATALOGUE_ROW.min_qty_fp]
        out[INSTRUMENT.max_qty_fp] = row[CATALOGUE_ROW.max_qty_fp] if row[CATALOGUE_ROW.max_qty_fp] > 0 else 2**62
        out[INSTRUMENT.min_notional_fp] = row[CATALOGUE_ROW.min_notional_fp]
        out[INSTRUMENT.qty_unit] = 10 ** int(row[CATALOGUE_ROW.qty_exp])
        out[INSTRUMENT.row_epoch], out[INSTRUMENT.pair] = row[CATALOGUE_ROW.row_epoch], row[CATALOGUE_ROW.pair]
    return table


def fill_direction(
    buy: Words, sell: Words, ids: tuple[int, int], terms: Terms, price_mbps: int, out: Words, floats: Floats
) -> float:
    """One direction's columns; returns its screen factor.

    ``price_mbps``: price of the inventory that the direction moves or of its hedge's exit, in milli-bps: added to the
    execution threshold, and to the episode threshold where it is negative. Episodes that only the price forbids are
    counted all the same.
    """
    kind = direction_type(buy, sell)
    out[DIRECTION.type] = -1
    out[DIRECTION.buy], out[DIRECTION.sell] = ids
    out[DIRECTION.key] = ids[0] * CATALOGUE_CAPACITY + ids[1]
    if kind is None or kind not in terms.types or ids[0] == ids[1]:
        return DISABLED
    cost = cost_beyond_entry(buy, sell, terms)
    price = Fraction(price_mbps, MBPS_PER_ONE)
    minimum, execute = terms.min_edge + cost + min(price, Fraction(0)), terms.execute_edge + cost + price
    base_ppm, quote_ppm = buy_fees(buy)
    sell_ppm = int(sell[CATALOGUE_ROW.taker_fee_ppm])
    if not -1 < minimum < 1 or not execute < 1:
        return DISABLED
    out[DIRECTION.type] = kind
    out[DIRECTION.num], out[DIRECTION.den] = _ratio(sell_ppm, base_ppm, quote_ppm, minimum)
    out[DIRECTION.exec_num], out[DIRECTION.exec_den] = _ratio(sell_ppm, base_ppm, quote_ppm, execute)
    out[DIRECTION.buy_base_ppm] = base_ppm
    out[DIRECTION.quarantined] = int(buy[CATALOGUE_ROW.pair]) < 0 or int(sell[CATALOGUE_ROW.pair]) < 0
    floats[DIRECTION_FLOATS.fee] = (1 - sell_ppm / 1e6) * (1 - base_ppm / 1e6) / (1 + quote_ppm / 1e6)
    floats[DIRECTION_FLOATS.cost] = float(cost)
    floats[DIRECTION_FLOATS.price] = float(price)
    floats[DIRECTION_FLOATS.sell_keep] = 1 - sell_ppm / 1e6
    floats[DIRECTION_FLOATS.buy_cost] = 1 + quote_ppm / 1e6
    floats[DIRECTION_FLOATS.scale] = 10.0 ** -(int(buy[CATALOGUE_ROW.price_exp]) + int(buy[CATALOGUE_ROW.qty_exp]))
    if not terms.entries:  # no price is enough, for an episode that is open already as well
        out[DIRECTION.num] = out[DIRECTION.exec_num] = 0
        return DISABLED
    return screen_factor(int(out[DIRECTION.num]), int(out[DIRECTION.den]))


def quote_rates(rows: Words, usd_rates: Mapping[str, float]) -> Floats:
    """USD of one unit of each instrument's quote; 0 = unknown. ``USD_COINS`` count as one dollar (a limit, not an
    account); another quote needs a rate in ``usd_rates``."""
    rates = np.zeros(max(1, len(rows)), dtype=np.float64)
    for instrument, row in enumerate(rows):
        quote = pair_text(row).partition("/")[2]
        rates[instrument] = 1.0 if quote in USD_COINS else usd_rates.get(quote, 0.0)
    return rates


def notional_caps(rates: Floats, terms: Terms) -> Floats:
    """Max notional in each instrument's own quote at its rate (``quote_rates``); 0 without one: it is not traded."""
    known = rates > 0.0
    return np.where(known, terms.max_notional_usd / np.where(known, rates, 1.0), 0.0)


def build_topology(
    rows: Words,
    terms: Terms,
    *,
    feed_count: int,
    book_capacity: int,
    usd_rates: Mapping[str, float] | None = None,
    prices_mbps: Mapping[int, int] | None = None,
) -> Topology:
    """Arrays for the catalogue's ``rows`` int64[n, CATALOGUE_ROW.WORDS]. Raises ValueError for a book index beyond
    ``book_capacity``.

    ``prices_mbps``: inventory prices by direction key, see :func:`fill_direction`.
    """
    prices = prices_mbps or {}
    instruments = _instrument_columns(rows)
    groups = group_rows(rows)
    members = np.array([*itertools.chain.from_iterable(groups)] or [0], dtype=np.int64)
    total = max(1, sum(len(group) ** 2 for group in groups))
    table = np.zeros((max(1, len(groups)), GROUP.WORDS), dtype=np.int64)
    directions = np.full((total, DIRECTION.WORDS), -1, dtype=np.int64)
    floats = np.zeros((total, DIRECTION_FLOATS.WORDS), dtype=np.float64)
    screen_by_buyer, screen_by_seller = np.full(total, DISABLED), np.full(total, DISABLED)
    start = block = 0
    for index, group in enumerate(groups):
        count = len(group)
        table[index] = (start, count, block)
        for i, buy in enumerate(group):
            instruments[buy, INSTRUMENT.slot], instruments[buy, INSTRUMENT.group] = start + i, index
            for j, sell in enumerate(group):
                at = block + i * count + j
                price = prices.get(buy * CATALOGUE_CAPACITY + sell, 0)
                factor = fill_direction(rows[buy], rows[sell], (buy, sell), terms, price, directions[at], floats[at])
                screen_by_buyer[at] = factor
                screen_by_seller[block + j * count + i] = factor
        start += count
        block += count * count
    books = np.full((max(1, feed_count), book_capacity), -1, dtype=np.int64)
    for instrument, row in enumerate(rows):
        feed, book = int(row[CATALOGUE_ROW.feed]), int(row[CATALOGUE_ROW.book_index])
        if not (0 <= feed < feed_count and 0 <= book < book_capacity):
            raise ValueError(f"instrument {instrument}: book {book} of feed {feed} is beyond {feed_count} feeds")
        books[feed, book] = instrument
    found = build_cycles(rows, terms)
    rates = quote_rates(rows, usd_rates or {})
    for instrument, (first, last) in found.ranges.items():
        instruments[instrument, INSTRUMENT.cycle_start], instruments[instrument, INSTRUMENT.cycle_end] = first, last
    return Topology(
        instruments,
        members,
        table,
        directions,
        floats,
        screen_by_buyer,
        screen_by_seller,
        books,
        rates,
        notional_caps(rates, terms),
        found.table,
        found.floats,
        found.by_instrument,
        terms.min_profit_usd,
    )
