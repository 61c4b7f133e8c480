"""Sizing of a cycle: three copied books walked together, then whole lots fitted over all legs.

Sizing is marginal as in :mod:`pipeline.detection.depth_walk`: three books are walked together while the three current
levels still gain and no leg passes its cap, inventory or venue maximum. The flow is float64; it is then cut to lots
forwards (no leg spends more than the leg before it delivers) and backwards (each leg is the fewest lots that deliver
what the next one spends). What is left over between two legs is less than a lot of the leg that delivers it, at most
``DUST_SHARE`` of what it delivers, and counts as worth nothing in the stated profit.

``cycle`` and ``floats`` are the words of the cycle's columns and floats; ``k`` is a leg, 0 to 2.
"""

# Kernels: words of an array are int64 to numba, Any to mypy.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from pipeline.detection.cycles import CONSTANT_DIGITS, CYCLE, CYCLE_FLOATS, DIGIT_BITS, DIGIT_MASK, LEGS
from pipeline.detection.depth_walk import LEG_LIMITS, level_of, meets_minimum, walked_value
from pipeline.detection.edge import has_ask, has_bid
from pipeline.detection.gates import instrument_row, record_at
from pipeline.detection.memory import DETECTOR, DETECTOR_FLOATS, DIGIT_CAPACITY
from pipeline.detection.topology import INSTRUMENT
from shm.declare import Table, reals_of, words_of
from shm.jit import njit_bare
from shm.layout import BOOK, BOOK_DEPTH
from shm.words import Words

Floats = npt.NDArray[np.float64]

DUST_SHARE = 0.01  # of what a leg delivers: the most that the next leg may leave over
ROUNDING = 1e-12  # relative: more than the float64 error of a walked value


class Flow(Table, words=16, start=DETECTOR_FLOATS.flow, writer="detector"):
    """Scratch in ``flt``, by leg.

    line 0..1 | into[3] | qty[3] | left[3] | cap[3] | 0[4] |
    """

    into = reals_of(LEGS, "what a leg trades for one unit of the start asset", unit="base")
    qty = reals_of(LEGS, "what a leg trades", unit="base")
    left = reals_of(LEGS, "what is left at the current level", unit="base")
    cap = reals_of(LEGS, "bound of what a leg trades", unit="base")


FLOW = Flow()


class CycleWalk(Table, words=16, start=DETECTOR.cycle_walk, writer="detector"):
    """Scratch in ``mem``, by leg.

    line 0..1 | status[3] | price[3] | qty[3] | level[3] | best[3] | 0 |
    """

    status = words_of(LEGS, "of read_book")
    price = words_of(LEGS, "price_fp of the current level")
    qty = words_of(LEGS, "qty_fp in whole lots")
    level = words_of(LEGS, "index of the current level")
    best = words_of(LEGS, "price_fp of the best level")


CYCLE_WALK = CycleWalk()


@njit_bare
def cycle_row(mem: Words, cycle: int) -> int:
    """Word of the cycle's columns."""
    return mem[DETECTOR.cycles_off] + cycle * CYCLE.WORDS


@njit_bare
def cycle_float_row(mem: Words, cycle: int) -> int:
    """Word (of ``flt``) of the cycle's floats."""
    return mem[DETECTOR.cycle_floats_off] + cycle * CYCLE_FLOATS.WORDS


@njit_bare
def multiply_into(mem: Words, at: int, factor: int) -> None:
    """Multiplies the DIGIT_CAPACITY digits at word ``at`` (31 bits each, least first) by 0 <= factor < 2**62.

    A step adds at most (2**31 - 1)**2 + 2**33 + 2**31 < 2**63; the caller leaves room for the result.
    """
    low, high = factor & DIGIT_MASK, factor >> DIGIT_BITS
    carry = 0
    before = 0
    for k in range(DIGIT_CAPACITY):
        digit = mem[at + k]
        second = before * high
        total = digit * low + carry + (second & DIGIT_MASK)
        carry = (total >> DIGIT_BITS) + (second >> DIGIT_BITS)
        mem[at + k] = total & DIGIT_MASK
        before = digit


@njit_bare
def digits_exceed(mem: Words, left: int, right: int) -> bool:
    """Number at word ``left`` > number at word ``right``, DIGIT_CAPACITY digits each, least first."""
    for k in range(DIGIT_CAPACITY - 1, -1, -1):
        if mem[left + k] != mem[right + k]:
            return mem[left + k] > mem[right + k]
    return False


@njit_bare
def cycle_exceeds(mem: Words, cycle: int, prices: int, column: int) -> bool:
    """Exact: the cycle gains more than the threshold whose constants begin at ``column`` (``num`` or ``exec_num``).

    ``cycle``: word of its columns; ``prices``: word of three prices, bid of a sell leg, ask of a buy leg.
    """
    left, right = DETECTOR.digits, DETECTOR.digits + DIGIT_CAPACITY
    for k in range(DIGIT_CAPACITY):
        mem[left + k] = mem[cycle + column + k] if k < CONSTANT_DIGITS else 0
        mem[right + k] = mem[cycle + column + CONSTANT_DIGITS + k] if k < CONSTANT_DIGITS else 0
    for leg in range(LEGS):
        price = mem[prices + leg]
        if mem[cycle + CYCLE.sides + leg] < 0:
            if not has_bid(price):
                return False
            multiply_into(mem, left, price)
        else:
            if not has_ask(price):
                return False
            multiply_into(mem, right, price)
    return digits_exceed(mem, left, right)


@njit_bare
def leg_price(mem: Words, record: int, side: int, level: int) -> int:
    """Price at a level of the side that a leg takes."""
    return mem[record + (BOOK.ask_price_fp if side > 0 else BOOK.bid_price_fp) + level]


@njit_bare
def leg_qty(mem: Words, record: int, side: int, level: int) -> int:
    """Quantity at a level of the side that a leg takes."""
    return mem[record + (BOOK.ask_qty_fp if side > 0 else BOOK.bid_qty_fp) + level]


@njit_bare
def leg_levels(mem: Words, record: int, side: int) -> int:
    """Levels of the side that a leg takes."""
    return min(mem[record + (BOOK.ask_count if side > 0 else BOOK.bid_count)], BOOK_DEPTH)


@njit_bare
def step_rates(mem: Words, flt: Floats, cycle: int, floats: int) -> float:
    """Rates of the current levels (CYCLE_WALK.price) into FLOW.into; the largest amount of the start asset that they
    take."""
    rate = 1.0  # amount that reaches a leg for one unit of the start asset
    take = math.inf
    for k in range(LEGS):
        coin_price = (
            float(mem[CYCLE_WALK.price + k])
            * flt[floats + CYCLE_FLOATS.scale + k]
            * flt[floats + CYCLE_FLOATS.qty_unit + k]
        )
        room = max(min(flt[FLOW.left + k], flt[FLOW.cap + k] - flt[FLOW.qty + k]), 0.0)
        if mem[cycle + CYCLE.sides + k] > 0:
            coins = rate / (coin_price * flt[floats + CYCLE_FLOATS.cost + k])
            rate = coins * flt[floats + CYCLE_FLOATS.keep + k]
        else:
            coins = rate
            rate = coins * coin_price * flt[floats + CYCLE_FLOATS.keep + k]
        flt[FLOW.into + k] = coins
        take = min(take, room / coins)
    return take


@njit_bare
def walk_cycle(mem: Words, flt: Floats, cycle: int, floats: int, column: int) -> float:
    """Walks the three copied books while the current levels gain more than the threshold at ``column``.

    Leaves each leg's base quantity (coins) at FLOW.qty, bounded by FLOW.cap; returns the amount of the start asset that
    goes in, 0.0 = nothing. Bound: at most LEGS * BOOK_DEPTH steps.
    """
    for k in range(LEGS):
        side = mem[cycle + CYCLE.sides + k]
        flt[FLOW.qty + k] = 0.0
        mem[CYCLE_WALK.level + k] = 0
        if leg_levels(mem, record_at(k), side) == 0:
            return 0.0
        flt[FLOW.left + k] = float(leg_qty(mem, record_at(k), side, 0)) / flt[floats + CYCLE_FLOATS.qty_unit + k]
    total = 0.0
    for _ in range(LEGS * BOOK_DEPTH):
        for k in range(LEGS):
            mem[CYCLE_WALK.price + k] = leg_price(
                mem, record_at(k), mem[cycle + CYCLE.sides + k], mem[CYCLE_WALK.level + k]
            )
        if not cycle_exceeds(mem, cycle, CYCLE_WALK.price, column):
            break
        take = step_rates(mem, flt, cycle, floats)
        total += take
        ended = False
        for k in range(LEGS):
            side = mem[cycle + CYCLE.sides + k]
            used = take * flt[FLOW.into + k]
            flt[FLOW.qty + k] += used
            flt[FLOW.left + k] -= used
            if flt[FLOW.cap + k] - flt[FLOW.qty + k] <= flt[FLOW.cap + k] * 1e-12:
                ended = True
            if (
                flt[FLOW.left + k] * flt[floats + CYCLE_FLOATS.qty_unit + k] < 0.5
            ):  # less than half a unit left: rounding
                mem[CYCLE_WALK.level + k] += 1
                if mem[CYCLE_WALK.level + k] >= leg_levels(mem, record_at(k), side):
                    ended = True
                else:
                    left = leg_qty(mem, record_at(k), side, mem[CYCLE_WALK.level + k])
                    flt[FLOW.left + k] = float(left) / flt[floats + CYCLE_FLOATS.qty_unit + k]
        if ended:
            break
    return total


@njit_bare
def leg_value(mem: Words, flt: Floats, cycle: int, floats: int, k: int, qty: int) -> float:
    """Coins of quote that ``qty`` (fixed point) of leg ``k`` trades for on the visible levels of its book."""
    if mem[cycle + CYCLE.sides + k] > 0:
        value = walked_value(mem, record_at(k), BOOK.ask_price_fp, BOOK.ask_qty_fp, qty)
    else:
        value = walked_value(mem, record_at(k), BOOK.bid_price_fp, BOOK.bid_qty_fp, qty)
    return value * flt[floats + CYCLE_FLOATS.scale + k]


@njit_bare
def spent(mem: Words, flt: Floats, cycle: int, floats: int, k: int, qty: int) -> float:
    """Coins that leg ``k`` takes of the asset before it, for ``qty`` (fixed point)."""
    if mem[cycle + CYCLE.sides + k] > 0:
        return leg_value(mem, flt, cycle, floats, k, qty) * flt[floats + CYCLE_FLOATS.cost + k]
    return float(qty) / flt[floats + CYCLE_FLOATS.qty_unit + k]


@njit_bare
def delivered(mem: Words, flt: Floats, cycle: int, floats: int, k: int, qty: int) -> float:
    """Coins that leg ``k`` brings of the asset behind it, for ``qty`` (fixed point)."""
    keep = flt[floats + CYCLE_FLOATS.keep + k]
    if mem[cycle + CYCLE.sides + k] > 0:
        return float(qty) / flt[floats + CYCLE_FLOATS.qty_unit + k] * keep
    return leg_value(mem, flt, cycle, floats, k, qty) * keep


@njit_bare
def quantity_of_value(mem: Words, record: int, side: int, value: float, scale: float) -> float:
    """Quantity units that trade for ``value`` coins of quote on the visible levels; all of them where they hold less.

    ``scale``: quote per (price unit x quantity unit).
    """
    qty = 0.0
    left = value
    for level in range(leg_levels(mem, record, side)):
        unit = float(leg_price(mem, record, side, level)) * scale
        size = float(leg_qty(mem, record, side, level))
        if size * unit >= left:
            return qty + left / unit
        qty += size
        left -= size * unit
    return qty


@njit_bare
def fit_cycle(mem: Words, flt: Floats, cycle: int, floats: int) -> int:
    """Whole lots per leg into CYCLE_WALK.qty, from FLOW.qty: forwards no leg spends more than the leg before it
    delivers, backwards each leg is the fewest lots that deliver what the next one spends; 1, or 0 when nothing fits."""
    brought = math.inf
    for k in range(LEGS):
        row, side = instrument_row(mem, mem[cycle + CYCLE.instruments + k]), mem[cycle + CYCLE.sides + k]
        units = flt[FLOW.qty + k] * flt[floats + CYCLE_FLOATS.qty_unit + k]
        if brought != math.inf and side > 0:
            money = brought / flt[floats + CYCLE_FLOATS.cost + k]
            scale = flt[floats + CYCLE_FLOATS.scale + k]
            units = min(units, quantity_of_value(mem, record_at(k), side, money, scale))
        elif brought != math.inf:
            units = min(units, brought * flt[floats + CYCLE_FLOATS.qty_unit + k])
        lot = mem[row + INSTRUMENT.lot_fp]
        qty = min(int(units * (1.0 + ROUNDING)), mem[row + INSTRUMENT.max_qty_fp]) // lot * lot
        brought = delivered(mem, flt, cycle, floats, k, qty)
        mem[CYCLE_WALK.qty + k] = qty
    for k in range(LEGS - 2, -1, -1):
        row, side = instrument_row(mem, mem[cycle + CYCLE.instruments + k]), mem[cycle + CYCLE.sides + k]
        wanted = spent(mem, flt, cycle, floats, k + 1, mem[CYCLE_WALK.qty + k + 1])
        before_fee = wanted / flt[floats + CYCLE_FLOATS.keep + k]
        if side > 0:
            units = before_fee * flt[floats + CYCLE_FLOATS.qty_unit + k]
        else:
            units = quantity_of_value(mem, record_at(k), side, before_fee, flt[floats + CYCLE_FLOATS.scale + k])
        lot = mem[row + INSTRUMENT.lot_fp]
        fewest = (math.ceil(units * (1.0 - ROUNDING)) + lot - 1) // lot * lot
        mem[CYCLE_WALK.qty + k] = min(mem[CYCLE_WALK.qty + k], fewest)
        brought = delivered(mem, flt, cycle, floats, k, mem[CYCLE_WALK.qty + k])
        if brought - wanted > brought * DUST_SHARE:
            return 0
    return cycle_minima(mem, cycle)


@njit_bare
def cycle_minima(mem: Words, cycle: int) -> int:
    """1 when every leg's quantity in CYCLE_WALK.qty reaches the minima of its instrument, else 0."""
    for k in range(LEGS):
        row, side = instrument_row(mem, mem[cycle + CYCLE.instruments + k]), mem[cycle + CYCLE.sides + k]
        qty, record = mem[CYCLE_WALK.qty + k], record_at(k)
        level = 0 if side > 0 else level_of(mem, record, BOOK.bid_qty_fp, qty)
        mem[DETECTOR.limits + LEG_LIMITS.min_qty_fp] = mem[row + INSTRUMENT.min_qty_fp]
        mem[DETECTOR.limits + LEG_LIMITS.min_notional_fp] = mem[row + INSTRUMENT.min_notional_fp]
        mem[DETECTOR.limits + LEG_LIMITS.qty_unit] = mem[row + INSTRUMENT.qty_unit]
        if not meets_minimum(mem, DETECTOR.limits, qty, leg_price(mem, record, side, level)):
            return 0
    return 1


@njit_bare
def fitted_edge(mem: Words, flt: Floats, cycle: int, floats: int) -> float:
    """What the last leg brings over what the first one takes, less 1; what lies between counts as worth nothing."""
    taken = spent(mem, flt, cycle, floats, 0, mem[CYCLE_WALK.qty])
    return delivered(mem, flt, cycle, floats, LEGS - 1, mem[CYCLE_WALK.qty + LEGS - 1]) / taken - 1.0
