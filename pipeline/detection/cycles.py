"""Cycles of three spot instruments of one venue, found in the catalogue; read by :mod:`triangular`.

A leg sells base (side -1, at the bid) or buys it (side +1, at the ask). The product of the three rates exceeds
1 + threshold iff ``num * product(bids) > den * product(asks)``, where ``num / den`` holds fees, threshold and the
powers of ten of the price exponents, in lowest terms.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from fractions import Fraction
from typing import NamedTuple

import numpy as np
import numpy.typing as npt

from pipeline.detection.catalogue_rows import buy_fees, pair_text, tradable_row
from pipeline.detection.thresholds import Terms
from pipeline.model.enums import InstrumentKind, OpportunityType
from pipeline.model.instruments import USD_COINS
from pipeline.model.units import PPM
from shm.declare import Table, real, reals_of, word, words_of
from shm.layout_pages import CATALOGUE_CAPACITY, CATALOGUE_ROW
from shm.words import Words

Floats = npt.NDArray[np.float64]

LEGS = 3
SCREEN_SLACK = 2.0**-48
DIGIT_BITS = 31
DIGIT_MASK = (1 << 31) - 1
CONSTANT_DIGITS = 12
assert CATALOGUE_CAPACITY <= 1 << 12


class Cycle(Table, writer="detector"):
    """Columns of a cycle.

    line 0..7 | instruments[3] | sides[3] | base_ppm[3] | quarantined | key | num[12] | den[12] | exec_num[12] |
              | exec_den[12] |
    """

    instruments = words_of(LEGS, "instrument ids")
    sides = words_of(LEGS, "+1 buy, -1 sell")
    base_ppm = words_of(LEGS, "fee of a buy taken in base", unit="ppm")
    quarantined = word("1 = the identity of one of the coins is in doubt: counted, never traded")
    key = word("negative: never a direction's key")
    num = words_of(CONSTANT_DIGITS, "episode threshold, numerator, least digit first", unit="31-bit digits")
    den = words_of(CONSTANT_DIGITS, "its denominator", unit="31-bit digits")
    exec_num = words_of(CONSTANT_DIGITS, "execution threshold, numerator", unit="31-bit digits")
    exec_den = words_of(CONSTANT_DIGITS, "its denominator", unit="31-bit digits")


CYCLE = Cycle()


class CycleFloats(Table, words=15, writer="detector"):
    """Floats of a cycle: for the screen, sizes and records.

    line 0 | need | fee | scale[3] | qty_unit[3] |
    line 1 | keep[3] | cost[3] | execute_edge |
    """

    need = real("screen: constant to be exceeded by product(bids) / product(asks)", unit="factor")
    fee = real("product(bids) / product(asks) * this - 1 = the edge", unit="factor")
    scale = reals_of(LEGS, "10**-(price_exp + qty_exp)", unit="quote per (price unit x quantity unit)")
    qty_unit = reals_of(LEGS, "quantity units per coin")
    keep = reals_of(LEGS, "share of what is received that stays after a fee taken from it", unit="factor")
    cost = reals_of(LEGS, "1 + fee of a buy taken in quote", unit="factor")
    execute_edge = real("profit over outlay from which a fitted cycle is executed", unit="factor")


CYCLE_FLOATS = CycleFloats()


def _digits(value: int) -> list[int]:
    found = [(value >> (DIGIT_BITS * k)) & DIGIT_MASK for k in range(CONSTANT_DIGITS)]
    if value >> (DIGIT_BITS * CONSTANT_DIGITS):
        raise ValueError(f"cycle constant does not fit {CONSTANT_DIGITS} digits: {value}")
    return found


def cycle_constant(rows: list[Words], sides: list[int], threshold: Fraction) -> Fraction:
    """product(bids_fp) / product(asks_fp) times this exceeds 1 iff the cycle's edge exceeds ``threshold``."""
    constant = 1 / (1 + threshold)
    for row, side in zip(rows, sides, strict=True):
        unit = 10 ** int(row[CATALOGUE_ROW.price_exp])
        if side < 0:
            constant *= Fraction(PPM - int(row[CATALOGUE_ROW.taker_fee_ppm]), PPM) / unit
        else:
            base_ppm, quote_ppm = buy_fees(row)
            constant *= Fraction(PPM - base_ppm, PPM) / Fraction(PPM + quote_ppm, PPM) * unit
    return constant


def _start_asset(assets: set[str], bases: list[str]) -> str:
    """Where a cycle starts and ends: a dollar coin if there is one, else the asset that is base least often."""
    return min(assets, key=lambda asset: (asset not in USD_COINS, bases.count(asset), asset))


def find_cycles(rows: Words) -> Iterator[tuple[list[int], list[int]]]:
    """(instrument ids, sides) of every cycle, both ways round, per venue, in a fixed order."""
    venues: dict[int, dict[frozenset[str], int]] = {}
    for instrument, row in enumerate(rows):
        if int(row[CATALOGUE_ROW.kind]) == InstrumentKind.SPOT and tradable_row(row):
            base, _, quote = pair_text(row).partition("/")
            venues.setdefault(int(row[CATALOGUE_ROW.venue]), {})[frozenset((base, quote))] = instrument
    for markets in venues.values():
        assets = sorted(set(itertools.chain.from_iterable(markets)))
        neighbours = {a: {b for b in assets if frozenset((a, b)) in markets} for a in assets}
        for a in assets:
            for b, c in itertools.combinations(sorted(n for n in neighbours[a] if n > a), 2):
                if c in neighbours[b]:
                    yield from _both_ways(rows, markets, (a, b, c))


def _both_ways(
    rows: Words, markets: dict[frozenset[str], int], assets: tuple[str, str, str]
) -> Iterator[tuple[list[int], list[int]]]:
    bases = [pair_text(rows[markets[frozenset(two)]]).partition("/")[0] for two in itertools.combinations(assets, 2)]
    start = _start_asset(set(assets), bases)
    first, second = sorted(set(assets) - {start})
    for path in ((start, first, second, start), (start, second, first, start)):
        ids = [markets[frozenset(path[k : k + 2])] for k in range(LEGS)]
        sides = [1 if pair_text(rows[ids[k]]).partition("/")[2] == path[k] else -1 for k in range(LEGS)]
        yield ids, sides


class Cycles(NamedTuple):
    """``table`` int64[n, CYCLE.WORDS], ``floats`` float64[n, CYCLE_FLOATS.WORDS], ``by_instrument``: cycle indices,
    those of one instrument contiguous in its range."""

    table: Words
    floats: Floats
    by_instrument: Words
    ranges: dict[int, tuple[int, int]]


def build_cycles(rows: Words, terms: Terms) -> Cycles:
    """Every cycle of the catalogue's ``rows`` int64[n, CATALOGUE_ROW.WORDS], if the strategy is enabled."""
    found = list(find_cycles(rows)) if terms.entries and OpportunityType.TRIANGULAR in terms.types else []
    table = np.zeros((len(found), CYCLE.WORDS), dtype=np.int64)
    floats = np.zeros((len(found), CYCLE_FLOATS.WORDS), dtype=np.float64)
    by_instrument: dict[int, list[int]] = {}
    for index, (ids, sides) in enumerate(found):
        legs = [rows[i] for i in ids]
        _fill_cycle(legs, ids, sides, terms, table[index], floats[index])
        for instrument in ids:
            by_instrument.setdefault(instrument, []).append(index)
    flat: list[int] = []
    ranges: dict[int, tuple[int, int]] = {}
    for instrument, indices in sorted(by_instrument.items()):
        ranges[instrument] = (len(flat), len(flat) + len(indices))
        flat.extend(indices)
    return Cycles(table, floats, np.array(flat or [0], dtype=np.int64), ranges)


def _fill_cycle(legs: list[Words], ids: list[int], sides: list[int], terms: Terms, out: Words, floats: Floats) -> None:
    constant = cycle_constant(legs, sides, terms.min_edge)
    execute = cycle_constant(legs, sides, terms.execute_edge)
    for at, value in (
        (CYCLE.num, constant.numerator),
        (CYCLE.den, constant.denominator),
        (CYCLE.exec_num, execute.numerator),
        (CYCLE.exec_den, execute.denominator),
    ):
        out[at : at + CONSTANT_DIGITS] = _digits(value)
    out[CYCLE.key] = -1 - ((ids[0] << 24) | (ids[1] << 12) | ids[2])  # ids are below CATALOGUE_CAPACITY = 2**12
    floats[CYCLE_FLOATS.need] = float(1 / constant) * (1.0 - SCREEN_SLACK)
    floats[CYCLE_FLOATS.execute_edge] = float(terms.execute_edge)
    floats[CYCLE_FLOATS.fee] = float(cycle_constant(legs, sides, Fraction(0)))
    for k, (row, instrument, side) in enumerate(zip(legs, ids, sides, strict=True)):
        base_ppm, quote_ppm = buy_fees(row)
        out[CYCLE.instruments + k], out[CYCLE.sides + k], out[CYCLE.base_ppm + k] = instrument, side, base_ppm
        out[CYCLE.quarantined] |= int(row[CATALOGUE_ROW.pair]) < 0
        floats[CYCLE_FLOATS.scale + k] = 10.0 ** -(int(row[CATALOGUE_ROW.price_exp]) + int(row[CATALOGUE_ROW.qty_exp]))
        floats[CYCLE_FLOATS.qty_unit + k] = 10.0 ** int(row[CATALOGUE_ROW.qty_exp])
        floats[CYCLE_FLOATS.keep + k] = 1 - (base_ppm if side > 0 else int(row[CATALOGUE_ROW.taker_fee_ppm])) / PPM
        floats[CYCLE_FLOATS.cost + k] = 1 + (quote_ppm / PPM if side > 0 else 0)
