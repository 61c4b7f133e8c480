"""Depth walk: the largest quantity executable on both legs of which even the worst unit clears the threshold.

Marginal, not average: the worst ask used and the worst bid used clear the threshold *together*, so that any fill
inside the two limit prices clears it. Bounded by both 20-level books (what lies deeper is unknown, hence not used),
by lots, minima and maxima of both legs, by a notional cap, and by what inventory allows.

Buy fee in quote: both legs trade one quantity, a whole number of both lots. Buy fee in base: the sell leg sells
what was received: ``sell_qty`` on the sell lot, ``buy_qty`` the smallest number of buy lots that delivers it; the
difference (less than one buy lot after the fee) stays as base dust, never as a short position.

Records, limits and results are words of the caller's array ``mem``, named by their offset in it: a record is
``shm.layout`` BR_*, levels best first, quantities positive.
"""

# Kernels: words of an array are int64 to numba, Any to mypy.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from pipeline.detection.edge import (
    NUMBER_LIMIT,
    common_lot,
    edge_exceeds,
    needed,
    product_exceeds,
    received,
)
from shm.jit import njit
from shm.layout import BOOK_DEPTH, BR_ASK_COUNT, BR_ASK_PRICE, BR_ASK_QTY, BR_BID_COUNT, BR_BID_PRICE, BR_BID_QTY

Words = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# limits of one leg, as the sizing kernel takes them: LEG_LIMIT_WORDS
LL_LOT = 0
LL_MIN_QTY = 1
LL_MAX_QTY = 2  # venue's maximum and inventory, whichever is less; NUMBER_LIMIT = none
LL_MIN_NOTIONAL = 3  # quote at the price exponent
LL_QTY_UNIT = 4  # 10**qty_exp
LEG_LIMIT_WORDS = 5

# money: MONEY_WORDS of float64
MN_BUY_CAP = 0  # quote that the buy leg may cost, its fee in quote included
MN_SELL_CAP = 1  # quote that the sell leg may bring
MN_SCALE = 2  # quote per (price unit x quantity unit) = 10**-(price_exp + qty_exp)
MN_BUY_COST = 3  # 1 + buy fee taken in quote
MONEY_WORDS = 4

# result of sizing: SIZE_WORDS
SZ_BUY_QTY = 0
SZ_SELL_QTY = 1
SZ_BUY_LIMIT = 2  # worst ask used
SZ_SELL_LIMIT = 3  # worst bid used
SZ_BUY_LEVEL = 4  # its index
SZ_SELL_LEVEL = 5
SZ_FRONTIER = 6  # scratch: ask level, bid level, cumulative ask, cumulative bid of the deepest clearing pair
SIZE_WORDS = 10

_CAP_SLACK = 1.0 - 2.0**-50  # float quotients are lowered by this, so a cap is never exceeded


@njit
def saturating_add(a: int, b: int) -> int:
    """a + b for 0 <= a, b, at most 2**62: beyond any quantity that a book can hold."""
    return a + b if a < NUMBER_LIMIT - b else NUMBER_LIMIT


@njit
def frontier(mem: Words, buy: int, sell: int, num: int, den: int, buy_base_ppm: int, out: int) -> int:
    """Deepest pair of levels that still clears the threshold.

    ``buy``, ``sell``: words of the book records (asks of the first, bids of the second are walked). Writes ask level
    index, bid level index, cumulative ask and bid quantity at ``out + SZ_FRONTIER``; returns 1, or 0 when even the
    best pair does not clear. Bound: at most 2 * BOOK_DEPTH steps.
    """
    asks = min(mem[buy + BR_ASK_COUNT], BOOK_DEPTH)
    bids = min(mem[sell + BR_BID_COUNT], BOOK_DEPTH)
    i = j = 0
    found = 0
    ask_total = mem[buy + BR_ASK_QTY] if asks > 0 else 0
    bid_total = mem[sell + BR_BID_QTY] if bids > 0 else 0
    while i < asks and j < bids:
        if not edge_exceeds(mem[sell + BR_BID_PRICE + j], mem[buy + BR_ASK_PRICE + i], num, den):
            break
        found = 1
        mem[out + SZ_FRONTIER] = i
        mem[out + SZ_FRONTIER + 1] = j
        mem[out + SZ_FRONTIER + 2] = ask_total
        mem[out + SZ_FRONTIER + 3] = bid_total
        deliverable = received(ask_total, buy_base_ppm)
        advance_ask = deliverable <= bid_total
        if bid_total <= deliverable:
            j += 1
            if j < bids:
                bid_total = saturating_add(bid_total, mem[sell + BR_BID_QTY + j])
        if advance_ask:
            i += 1
            if i < asks:
                ask_total = saturating_add(ask_total, mem[buy + BR_ASK_QTY + i])
    return found


@njit
def quantity_for(notional: float, unit_cost: float) -> int:
    """Largest fixed-point quantity that costs at most ``notional``, rounded down.

    ``unit_cost``: quote per fixed-point unit of quantity. Both in float64; the quotient is lowered by 2**-50, more
    than its rounding error, so the true cost never exceeds ``notional``.
    """
    if not notional > 0.0 or not unit_cost > 0.0:
        return 0
    quotient = notional / unit_cost * _CAP_SLACK
    return NUMBER_LIMIT if quotient >= float(NUMBER_LIMIT) else math.floor(quotient)


@njit
def capped_buy(mem: Words, buy: int, last_level: int, total: int, notional: float, scale: float) -> int:
    """Largest quantity within the first ``last_level + 1`` asks whose cost at its own limit price fits ``notional``.

    ``scale``: quote per (price unit x quantity unit), fees in quote included. The cost bound is quantity x worst
    price used, as an exchange reserves it. = max over levels k of min(cumulative quantity, notional / price k).
    """
    best = 0
    cumulative = 0
    for k in range(last_level + 1):
        cumulative = min(saturating_add(cumulative, mem[buy + BR_ASK_QTY + k]), total)
        best = max(best, min(cumulative, quantity_for(notional, float(mem[buy + BR_ASK_PRICE + k]) * scale)))
    return best


@njit
def level_of(mem: Words, record: int, qty_offset: int, qty: int) -> int:
    """Index of the level at which the cumulative quantity reaches ``qty`` (within BOOK_DEPTH)."""
    cumulative = 0
    level = 0
    for k in range(BOOK_DEPTH):
        cumulative = saturating_add(cumulative, mem[record + qty_offset + k])
        level = k
        if cumulative >= qty:
            break
    return level


@njit
def meets_minimum(mem: Words, limits: int, qty: int, price: int) -> bool:
    """Quantity and quantity x price reach the leg's minima, exactly. ``limits``: word of LEG_LIMIT_WORDS."""
    if qty <= 0 or qty < mem[limits + LL_MIN_QTY]:
        return False
    return not product_exceeds(mem[limits + LL_MIN_NOTIONAL], mem[limits + LL_QTY_UNIT], qty, price)


@njit
def size_legs(
    mem: Words,
    flt: Floats,
    buy: int,
    sell: int,
    num: int,
    den: int,
    buy_base_ppm: int,
    buy_limits: int,
    sell_limits: int,
    money: int,
    out: int,
) -> int:
    """Quantities and limit prices of both legs into SIZE_WORDS at ``out``; 1, or 0 when nothing is executable.

    ``buy``, ``sell``: words of book records; ``num / den``: the threshold of
    :func:`pipeline.detection.edge.edge_ratio`; ``*_limits``: words of LEG_LIMIT_WORDS; ``money``: MONEY_WORDS in
    ``flt``. The minimum notional of the buy leg is proved at its best ask, that of the sell leg at its limit price:
    the lesser value of each.
    """
    if frontier(mem, buy, sell, num, den, buy_base_ppm, out) == 0:
        return 0
    unit_cost = flt[money + MN_SCALE] * flt[money + MN_BUY_COST]
    last_ask, ask_total = mem[out + SZ_FRONTIER], mem[out + SZ_FRONTIER + 2]
    buy_max = capped_buy(mem, buy, last_ask, ask_total, flt[money + MN_BUY_CAP], unit_cost)
    buy_max = min(buy_max, mem[buy_limits + LL_MAX_QTY])
    sell_max = min(mem[out + SZ_FRONTIER + 3], mem[sell_limits + LL_MAX_QTY])
    unit_value = float(mem[sell + BR_BID_PRICE]) * flt[money + MN_SCALE]
    sell_max = min(sell_max, quantity_for(flt[money + MN_SELL_CAP], unit_value))
    buy_lot, sell_lot = mem[buy_limits + LL_LOT], mem[sell_limits + LL_LOT]
    if buy_base_ppm <= 0:
        step = common_lot(buy_lot, sell_lot)
        if step == 0:
            return 0
        sell_qty = min(buy_max, sell_max) // step * step
        buy_qty = sell_qty
    else:
        buy_max = buy_max // buy_lot * buy_lot
        sell_qty = min(sell_max, received(buy_max, buy_base_ppm)) // sell_lot * sell_lot
        buy_qty = (needed(sell_qty, buy_base_ppm) + buy_lot - 1) // buy_lot * buy_lot
    if sell_qty <= 0:
        return 0
    buy_level = level_of(mem, buy, BR_ASK_QTY, buy_qty)
    sell_level = level_of(mem, sell, BR_BID_QTY, sell_qty)
    mem[out + SZ_BUY_QTY] = buy_qty
    mem[out + SZ_SELL_QTY] = sell_qty
    mem[out + SZ_BUY_LIMIT] = mem[buy + BR_ASK_PRICE + buy_level]
    mem[out + SZ_SELL_LIMIT] = mem[sell + BR_BID_PRICE + sell_level]
    mem[out + SZ_BUY_LEVEL] = buy_level
    mem[out + SZ_SELL_LEVEL] = sell_level
    if not meets_minimum(mem, buy_limits, buy_qty, mem[buy + BR_ASK_PRICE]):
        return 0
    if not meets_minimum(mem, sell_limits, sell_qty, mem[out + SZ_SELL_LIMIT]):
        return 0
    return 1


@njit
def walked_value(mem: Words, record: int, price_offset: int, qty_offset: int, qty: int) -> float:
    """Sum of price x quantity of the first ``qty`` units, in price x quantity units (float64: for records only)."""
    value = 0.0
    left = qty
    for k in range(BOOK_DEPTH):
        take = min(left, mem[record + qty_offset + k])
        value += float(take) * float(mem[record + price_offset + k])
        left -= take
        if left <= 0:
            break
    return value
