"""Depth walk: the largest quantity executable on both legs of which even the worst unit clears the threshold.

Marginal, not average: the worst ask used and the worst bid used clear the threshold *together*, so that any fill
inside the two limit prices clears it. Bounded by both 20-level books (what lies deeper is unknown, hence not used),
by lots, minima and maxima of both legs, by a notional cap, and by what inventory allows.

Buy fee in quote: both legs trade one quantity, a whole number of both lots. Buy fee in base: the sell leg sells
what was received: ``sell_qty`` on the sell lot, ``buy_qty`` the smallest number of buy lots that delivers it; the
difference (less than one buy lot after the fee) stays as base dust, never as a short position.

Records, limits and results are words of the caller's array ``mem``, named by their offset in it: a record is
``BOOK`` of ``shm.layout``, levels best first, quantities positive.
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
from shm.declare import Table, real, word, words_of
from shm.jit import njit_bare
from shm.layout import BOOK, BOOK_DEPTH
from shm.words import Words

Floats = npt.NDArray[np.float64]


class LegLimits(Table, words=5, writer="detector"):
    """Limits of one leg, as the sizing kernel takes them.

    | lot_fp | min_qty_fp | max_qty_fp | min_notional_fp | qty_unit |
    """

    lot_fp = word("quantity step")
    min_qty_fp = word("least order")
    max_qty_fp = word("venue's maximum and inventory, whichever is less; NUMBER_LIMIT = none")
    min_notional_fp = word("least order")
    qty_unit = word("10**qty_exp")


LEG_LIMITS = LegLimits()


class Money(Table, words=4, writer="detector"):
    """What the sizing kernel knows of money, in the array of floats.

    | buy_cap | sell_cap | scale | buy_cost |
    """

    buy_cap = real("what the buy leg may cost, its fee in quote included", unit="quote")
    sell_cap = real("what the sell leg may bring", unit="quote")
    scale = real("10**-(price_exp + qty_exp)", unit="quote per (price unit x quantity unit)")
    buy_cost = real("1 + buy fee taken in quote", unit="factor")


MONEY = Money()


class Size(Table, writer="detector"):
    """Result of sizing.

    line 0..3 | buy_qty_fp | sell_qty_fp | buy_limit_price_fp | sell_limit_price_fp | buy_level | sell_level |
              | within_qty_fp[20] |
    """

    buy_qty_fp = word("quantity of the buy leg")
    sell_qty_fp = word("quantity of the sell leg")
    buy_limit_price_fp = word("worst ask used")
    sell_limit_price_fp = word("worst bid used")
    buy_level = word("index of the worst ask used")
    sell_level = word("index of the worst bid used")
    within_qty_fp = words_of(BOOK_DEPTH, "scratch: what can be bought within the first k + 1 asks")


SIZE = Size()

_CAP_SLACK = 1.0 - 2.0**-50  # float quotients are lowered by this, so a cap is never exceeded


@njit_bare
def saturating_add(a: int, b: int) -> int:
    """a + b for 0 <= a, b, at most 2**62: beyond any quantity that a book can hold."""
    return a + b if a < NUMBER_LIMIT - b else NUMBER_LIMIT


@njit_bare
def quantity_for(notional: float, unit_cost: float) -> int:
    """Largest fixed-point quantity that costs at most ``notional``, rounded down.

    ``unit_cost``: quote per fixed-point unit of quantity. Both in float64; the quotient is lowered by 2**-50, more
    than its rounding error, so the true cost never exceeds ``notional``.
    """
    if not notional > 0.0 or not unit_cost > 0.0:
        return 0
    quotient = notional / unit_cost * _CAP_SLACK
    return NUMBER_LIMIT if quotient >= float(NUMBER_LIMIT) else math.floor(quotient)


@njit_bare
def buyable_within(mem: Words, flt: Floats, buy: int, limits: int, money: int, out: int) -> int:
    """Per ask level k, the largest quantity that the first k + 1 asks, the notional cap and the venue's maximum allow,
    to ``out + SIZE.within_qty_fp``; returns the number of levels.

    The cost bound is quantity x worst price used, as an exchange reserves it: the quantity is the maximum over the
    levels of min(cumulative quantity, notional / price of the level).
    """
    levels = min(mem[buy + BOOK.ask_count], BOOK_DEPTH)
    unit = flt[money + MONEY.scale] * flt[money + MONEY.buy_cost]
    cumulative = 0
    best = 0
    for k in range(levels):
        cumulative = saturating_add(cumulative, mem[buy + BOOK.ask_qty_fp + k])
        affordable = quantity_for(flt[money + MONEY.buy_cap], float(mem[buy + BOOK.ask_price_fp + k]) * unit)
        best = max(best, min(cumulative, affordable))
        mem[out + SIZE.within_qty_fp + k] = min(best, mem[limits + LEG_LIMITS.max_qty_fp])
    return levels


@njit_bare
def matched(buy_max: int, sell_max: int, buy_base_ppm: int, buy_lot: int, sell_lot: int) -> int:
    """Largest sale on its lot that a purchase on its lot delivers, within both maxima; 0 = none.

    Without a fee in base both trade one quantity, and both lots are the common lot.
    """
    delivered = received(buy_max // buy_lot * buy_lot, buy_base_ppm)
    return min(sell_max, delivered) // sell_lot * sell_lot


@njit_bare
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


@njit_bare
def meets_minimum(mem: Words, limits: int, qty: int, price: int) -> bool:
    """Quantity and quantity x price reach the leg's minima, exactly. ``limits``: word of its LEG_LIMITS."""
    if qty <= 0 or qty < mem[limits + LEG_LIMITS.min_qty_fp]:
        return False
    return not product_exceeds(mem[limits + LEG_LIMITS.min_notional_fp], mem[limits + LEG_LIMITS.qty_unit], qty, price)


@njit_bare
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
    """Quantities and limit prices of both legs into SIZE at ``out``; 1, or 0 when nothing is executable.

    ``buy``, ``sell``: words of book records; ``num / den``: the threshold of
    :func:`pipeline.detection.edge.edge_ratio`; ``*_limits``: words of LEG_LIMITS; ``money``: MONEY in
    ``flt``. The minimum notional of the buy leg is proved at its best ask, that of the sell leg at its limit price:
    the lesser value of each.
    """
    buy_lot, sell_lot = mem[buy_limits + LEG_LIMITS.lot_fp], mem[sell_limits + LEG_LIMITS.lot_fp]
    if buy_base_ppm <= 0:
        buy_lot = sell_lot = common_lot(buy_lot, sell_lot)
        if buy_lot == 0:
            return 0
    asks = buyable_within(mem, flt, buy, buy_limits, money, out)
    unit_value = float(mem[sell + BOOK.bid_price_fp]) * flt[money + MONEY.scale]
    sellable = min(mem[sell_limits + LEG_LIMITS.max_qty_fp], quantity_for(flt[money + MONEY.sell_cap], unit_value))
    # asks[0:reach] clear against bid level j; deeper bids reach less far. The best of all j is the best of all.
    reach = 0
    bid_total = 0
    sell_qty = 0
    for j in range(min(mem[sell + BOOK.bid_count], BOOK_DEPTH)):
        bid = mem[sell + BOOK.bid_price_fp + j]
        if j == 0:
            while reach < asks and edge_exceeds(bid, mem[buy + BOOK.ask_price_fp + reach], num, den):
                reach += 1
        while reach > 0 and not edge_exceeds(bid, mem[buy + BOOK.ask_price_fp + reach - 1], num, den):
            reach -= 1
        if reach == 0:
            break
        bid_total = saturating_add(bid_total, mem[sell + BOOK.bid_qty_fp + j])
        buy_max = mem[out + SIZE.within_qty_fp + reach - 1]
        sell_qty = max(sell_qty, matched(buy_max, min(bid_total, sellable), buy_base_ppm, buy_lot, sell_lot))
    if sell_qty <= 0:
        return 0
    buy_qty = (needed(sell_qty, buy_base_ppm) + buy_lot - 1) // buy_lot * buy_lot
    buy_level = level_of(mem, buy, BOOK.ask_qty_fp, buy_qty)
    sell_level = level_of(mem, sell, BOOK.bid_qty_fp, sell_qty)
    mem[out + SIZE.buy_qty_fp] = buy_qty
    mem[out + SIZE.sell_qty_fp] = sell_qty
    mem[out + SIZE.buy_limit_price_fp] = mem[buy + BOOK.ask_price_fp + buy_level]
    mem[out + SIZE.sell_limit_price_fp] = mem[sell + BOOK.bid_price_fp + sell_level]
    mem[out + SIZE.buy_level] = buy_level
    mem[out + SIZE.sell_level] = sell_level
    if not meets_minimum(mem, buy_limits, buy_qty, mem[buy + BOOK.ask_price_fp]):
        return 0
    if not meets_minimum(mem, sell_limits, sell_qty, mem[out + SIZE.sell_limit_price_fp]):
        return 0
    return 1


@njit_bare
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
