"""Triangular kernel: three spot instruments of one venue that lead from an asset back to itself.

A cycle is an ordered list of three legs; each turns the asset that we hold into the next one: a sell turns base into
quote at the best bid, a buy quote into base at the best ask. With fees as in :mod:`pipeline.detection.edge` the cycle
gains if the product of its three rates exceeds 1 + threshold, which is, exactly and in integers,
``constant_num * product(bids sold at) > constant_den * product(asks bought at)``: the constants hold fees, threshold
and the powers of ten of the price exponents. They and the products exceed 128 bits, so they are compared as arrays of
31-bit digits. The float64 screen multiplies three rates and one constant: at most 8 roundings of 2**-53, covered by a
slack of 2**-48.

Sizing is marginal as in :mod:`pipeline.detection.depth_walk`: three books are walked together while the three current
levels still gain. The flow is float64; quantities are then cut down to lots leg by leg, so that no leg spends more
than the leg before it delivers at its own worst price; what the cuts leave over stays as dust of the assets between.
"""

# Kernels: words of an array are int64 to numba, Any to mypy.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from pipeline.detection.cycles import (
    CF_COST,
    CF_FEE,
    CF_KEEP,
    CF_NEED,
    CF_QTY_UNIT,
    CF_SCALE,
    CF_WORDS,
    CONSTANT_DIGITS,
    CY_EXEC_NUM,
    CY_INSTRUMENT,
    CY_KEY,
    CY_NUM,
    CY_QUARANTINED,
    CY_SIDE,
    CY_WORDS,
    DIGIT_BITS,
    DIGIT_MASK,
    LEGS,
)
from pipeline.detection.depth_walk import (
    LL_MIN_NOTIONAL,
    LL_MIN_QTY,
    LL_QTY_UNIT,
    level_of,
    meets_minimum,
    walked_value,
)
from pipeline.detection.edge import has_ask, has_bid
from pipeline.detection.episodes import (
    close_episode,
    episode_row,
    may_be_looked_at,
    note_pushed,
    note_refusal,
    open_episode,
)
from pipeline.detection.gates import (
    book_gate,
    first_gate,
    instrument_row,
    read_inventory,
    read_leg,
    record_at,
    status_gate,
)
from pipeline.detection.kernel_arrays import Ports
from pipeline.detection.memory import (
    C_EVALUATIONS,
    C_TORN,
    CLOSED,
    CYCLE_SCRATCH,
    DIGIT_CAPACITY,
    DIGITS,
    EP_COOLDOWN_UNTIL_NS,
    EP_STATE,
    FLOW,
    H_CAPS,
    H_CYCLE_FLOATS,
    H_CYCLE_OF,
    H_CYCLES,
    H_DIRECTION_COUNT,
    H_HITS,
    H_TOP_ASK,
    H_TOP_BID,
    LIMITS,
    OPEN,
    PROOFS,
    ROWS,
    SE_MAX_SKEW_NS,
)
from pipeline.detection.publish import best_ask, best_bid, fill_header, fill_leg, now_of, send_record
from pipeline.detection.topology import (
    IN_CYCLE_END,
    IN_CYCLE_START,
    IN_LOT,
    IN_MAX_QTY,
    IN_MIN_NOTIONAL,
    IN_MIN_QTY,
    IN_PAIR,
    IN_QTY_UNIT,
    IN_SLOT,
)
from pipeline.model.enums import OpportunityType, Refusal
from shm import layout as ly
from shm.atomics import bits_to_f64
from shm.jit import njit_bare

Words = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# scratch in ``flt`` at FLOW, three each
FL_IN = FLOW  # base quantity that a leg trades for one unit of the start asset
FL_QTY = FLOW + 3  # base quantity of a leg, coins
FL_LEFT = FLOW + 6  # base quantity left at the current level, coins
FL_CAP = FLOW + 9  # bound of a leg's base quantity, coins

# scratch in ``mem``, three each
SC_STATUS = CYCLE_SCRATCH
SC_PRICE = CYCLE_SCRATCH + 3
SC_QTY = CYCLE_SCRATCH + 6
SC_LEVEL = CYCLE_SCRATCH + 9
SC_BEST = CYCLE_SCRATCH + 12

INVENTORY = int(Refusal.INVENTORY)
BELOW_MINIMUM = int(Refusal.BELOW_MINIMUM)
BELOW_THRESHOLD = int(Refusal.BELOW_THRESHOLD)
COOLDOWN = int(Refusal.COOLDOWN)
NOT_AFTER_OWN_FILL = int(Refusal.NOT_AFTER_OWN_FILL)
QUEUE_FULL = int(Refusal.QUEUE_FULL)
SKEW = int(Refusal.SKEW)
QUARANTINED = int(Refusal.QUARANTINED)
TRIANGULAR = int(OpportunityType.TRIANGULAR)


@njit_bare
def cycle_row(mem: Words, cycle: int) -> int:
    """Word of the cycle's columns."""
    return mem[H_CYCLES] + cycle * CY_WORDS


@njit_bare
def cycle_float_row(mem: Words, cycle: int) -> int:
    """Word (of ``flt``) of the cycle's floats."""
    return mem[H_CYCLE_FLOATS] + cycle * CF_WORDS


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
    """Exact: the cycle gains more than the threshold whose constants begin at ``column`` (CY_NUM or CY_EXEC_NUM).

    ``cycle``: word of its columns; ``prices``: word of three prices, bid of a sell leg, ask of a buy leg.
    """
    left, right = DIGITS, DIGITS + DIGIT_CAPACITY
    for k in range(DIGIT_CAPACITY):
        mem[left + k] = mem[cycle + column + k] if k < CONSTANT_DIGITS else 0
        mem[right + k] = mem[cycle + column + CONSTANT_DIGITS + k] if k < CONSTANT_DIGITS else 0
    for leg in range(LEGS):
        price = mem[prices + leg]
        if mem[cycle + CY_SIDE + leg] < 0:
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
    return mem[record + (ly.BR_ASK_PRICE if side > 0 else ly.BR_BID_PRICE) + level]


@njit_bare
def leg_qty(mem: Words, record: int, side: int, level: int) -> int:
    """Quantity at a level of the side that a leg takes."""
    return mem[record + (ly.BR_ASK_QTY if side > 0 else ly.BR_BID_QTY) + level]


@njit_bare
def leg_levels(mem: Words, record: int, side: int) -> int:
    """Levels of the side that a leg takes."""
    return min(mem[record + (ly.BR_ASK_COUNT if side > 0 else ly.BR_BID_COUNT)], ly.BOOK_DEPTH)


@njit_bare
def step_rates(mem: Words, flt: Floats, cycle: int, floats: int) -> float:
    """Rates of the current levels (SC_PRICE) into FL_IN; the largest amount of the start asset that they take."""
    rate = 1.0  # amount that reaches a leg for one unit of the start asset
    take = math.inf
    for k in range(LEGS):
        coin_price = float(mem[SC_PRICE + k]) * flt[floats + CF_SCALE + k] * flt[floats + CF_QTY_UNIT + k]
        room = max(min(flt[FL_LEFT + k], flt[FL_CAP + k] - flt[FL_QTY + k]), 0.0)
        if mem[cycle + CY_SIDE + k] > 0:
            coins = rate / (coin_price * flt[floats + CF_COST + k])
            rate = coins * flt[floats + CF_KEEP + k]
        else:
            coins = rate
            rate = coins * coin_price * flt[floats + CF_KEEP + k]
        flt[FL_IN + k] = coins
        take = min(take, room / coins)
    return take


@njit_bare
def walk_cycle(mem: Words, flt: Floats, cycle: int, floats: int, column: int) -> float:
    """Walks the three copied books while the current levels gain more than the threshold at ``column``.

    Leaves each leg's base quantity (coins) at FL_QTY, bounded by FL_CAP; returns the amount of the start asset that
    goes in, 0.0 = nothing. Bound: at most LEGS * BOOK_DEPTH steps.
    """
    for k in range(LEGS):
        side = mem[cycle + CY_SIDE + k]
        flt[FL_QTY + k] = 0.0
        mem[SC_LEVEL + k] = 0
        if leg_levels(mem, record_at(k), side) == 0:
            return 0.0
        flt[FL_LEFT + k] = float(leg_qty(mem, record_at(k), side, 0)) / flt[floats + CF_QTY_UNIT + k]
    total = 0.0
    for _ in range(LEGS * ly.BOOK_DEPTH):
        for k in range(LEGS):
            mem[SC_PRICE + k] = leg_price(mem, record_at(k), mem[cycle + CY_SIDE + k], mem[SC_LEVEL + k])
        if not cycle_exceeds(mem, cycle, SC_PRICE, column):
            break
        take = step_rates(mem, flt, cycle, floats)
        total += take
        ended = False
        for k in range(LEGS):
            side = mem[cycle + CY_SIDE + k]
            used = take * flt[FL_IN + k]
            flt[FL_QTY + k] += used
            flt[FL_LEFT + k] -= used
            if flt[FL_CAP + k] - flt[FL_QTY + k] <= flt[FL_CAP + k] * 1e-12:
                ended = True
            if flt[FL_LEFT + k] * flt[floats + CF_QTY_UNIT + k] < 0.5:  # less than half a unit left: rounding
                mem[SC_LEVEL + k] += 1
                if mem[SC_LEVEL + k] >= leg_levels(mem, record_at(k), side):
                    ended = True
                else:
                    left = leg_qty(mem, record_at(k), side, mem[SC_LEVEL + k])
                    flt[FL_LEFT + k] = float(left) / flt[floats + CF_QTY_UNIT + k]
        if ended:
            break
    return total


@njit_bare
def cut_to_lots(mem: Words, flt: Floats, cycle: int, floats: int) -> int:
    """Whole lots per leg into SC_QTY, none spending more than the leg before it delivers; 1, or 0 when a leg falls
    under a minimum."""
    delivered = math.inf
    for k in range(LEGS):
        row = instrument_row(mem, mem[cycle + CY_INSTRUMENT + k])
        record = record_at(k)
        side = mem[cycle + CY_SIDE + k]
        unit = flt[floats + CF_QTY_UNIT + k]
        wanted = flt[FL_QTY + k]
        worst_level = level_of(mem, record, ly.BR_ASK_QTY if side > 0 else ly.BR_BID_QTY, int(wanted * unit))
        worst = float(leg_price(mem, record, side, worst_level)) * flt[floats + CF_SCALE + k] * unit
        if delivered != math.inf:
            limit = delivered / (worst * flt[floats + CF_COST + k]) if side > 0 else delivered
            wanted = min(wanted, limit * (1.0 - 1e-12))
        lot = mem[row + IN_LOT]
        qty = min(int(wanted * unit * (1.0 + 1e-13)), mem[row + IN_MAX_QTY]) // lot * lot
        coins = float(qty) / unit * flt[floats + CF_KEEP + k]
        delivered = coins if side > 0 else coins * worst
        mem[SC_QTY + k] = qty
        mem[LIMITS + LL_MIN_QTY] = mem[row + IN_MIN_QTY]
        mem[LIMITS + LL_MIN_NOTIONAL] = mem[row + IN_MIN_NOTIONAL]
        mem[LIMITS + LL_QTY_UNIT] = mem[row + IN_QTY_UNIT]
        least = leg_price(mem, record, side, 0 if side > 0 else worst_level)
        if qty <= 0 or not meets_minimum(mem, LIMITS, qty, least):
            return 0
    return 1


@njit_bare
def cycle_caps(mem: Words, flt: Floats, cycle: int, floats: int, limited: bool) -> int:
    """Bounds of each leg's base quantity (coins) at FL_CAP: the notional cap in each leg's own quote, and inventory
    (rows copied to ROWS). 0, or the refusal."""
    for k in range(LEGS):
        side = mem[cycle + CY_SIDE + k]
        unit = flt[floats + CF_QTY_UNIT + k]
        price = float(leg_price(mem, record_at(k), side, 0)) * flt[floats + CF_SCALE + k] * unit
        money = flt[mem[H_CAPS] + mem[cycle + CY_INSTRUMENT + k]]
        cap = math.inf
        if limited:
            row = ROWS + k * ly.INVENTORY_ROW_WORDS
            if side > 0:
                money = min(money, bits_to_f64(mem[row + ly.IR_BUY_NOTIONAL]))
            else:
                cap = float(mem[row + ly.IR_SELL_QTY_FP]) / unit
        cap = min(cap, money / (price * flt[floats + CF_COST + k]))
        if not cap > 0.0:
            return INVENTORY if limited else BELOW_MINIMUM
        flt[FL_CAP + k] = cap
    return 0


@njit_bare
def cycle_gates(ports: Ports, mem: Words, flt: Floats, cycle_index: int, now_ns: int) -> int:
    """Every gate of a cycle, in order, over the copies of its books; 0 leaves its quantities in SC_QTY."""
    cycle, floats = cycle_row(mem, cycle_index), cycle_float_row(mem, cycle_index)
    code = 0
    for k in range(LEGS):
        instrument = mem[cycle + CY_INSTRUMENT + k]
        code = first_gate(code, book_gate(ports.feeds, mem, instrument, k, mem[SC_STATUS + k], now_ns))
    if code != 0:
        return code
    newest = max(mem[PROOFS], max(mem[PROOFS + 1], mem[PROOFS + 2]))
    oldest = min(mem[PROOFS], min(mem[PROOFS + 1], mem[PROOFS + 2]))
    if newest - oldest > mem[SE_MAX_SKEW_NS]:
        return SKEW
    if mem[cycle + CY_QUARANTINED] != 0:
        return QUARANTINED
    for k in range(LEGS):
        code = first_gate(code, status_gate(mem, mem[cycle + CY_INSTRUMENT + k], mem[cycle + CY_SIDE + k]))
    if code != 0:
        return code
    limited = len(ports.inventory) > 1
    if limited:
        for k in range(LEGS):
            at = ROWS + k * ly.INVENTORY_ROW_WORDS
            if not read_inventory(ports.inventory, mem, mem[cycle + CY_INSTRUMENT + k], at):
                return INVENTORY
    code = cycle_caps(mem, flt, cycle, floats, limited)
    if code != 0:
        return code
    if walk_cycle(mem, flt, cycle, floats, CY_EXEC_NUM) <= 0.0:
        return BELOW_THRESHOLD
    if cut_to_lots(mem, flt, cycle, floats) == 0:
        return BELOW_MINIMUM
    if now_ns < mem[episode_row(mem, mem[H_DIRECTION_COUNT] + cycle_index) + EP_COOLDOWN_UNTIL_NS]:
        return COOLDOWN
    if limited:
        for k in range(LEGS):
            blocked_until = mem[ROWS + k * ly.INVENTORY_ROW_WORDS + ly.IR_BLOCKED_UNTIL_MONO_NS]
            if mem[record_at(k) + ly.BR_RECV_MONO_NS] < blocked_until:
                return NOT_AFTER_OWN_FILL
    return 0


@njit_bare
def cycle_edge(mem: Words, flt: Floats, cycle: int, floats: int) -> float:
    """Edge of the best prices (SC_BEST) after fees, as a fraction; for records only."""
    product = flt[floats + CF_FEE]
    for k in range(LEGS):
        if mem[cycle + CY_SIDE + k] < 0:
            product *= float(mem[SC_BEST + k])
        else:
            product /= float(mem[SC_BEST + k])
    return product - 1.0


@njit_bare
def push_cycle(
    ports: Ports,
    mem: Words,
    flt: Floats,
    cycle_index: int,
    trigger: int,
    trigger_recv_ns: int,
    trigger_pub_ns: int,
    now_ns: int,
) -> bool:
    """Builds and pushes the record. Its profit is in the start asset: the edge of the walked averages on what goes in
    (lots cut off are dust that keeps its value)."""
    cycle, floats = cycle_row(mem, cycle_index), cycle_float_row(mem, cycle_index)
    pair = mem[instrument_row(mem, mem[cycle + CY_INSTRUMENT]) + IN_PAIR]
    fill_header(mem, TRIANGULAR, pair, LEGS, mem[cycle + CY_KEY], trigger, trigger_recv_ns, trigger_pub_ns)
    gain = 1.0
    spent = 0.0
    for k in range(LEGS):
        side, qty, record = mem[cycle + CY_SIDE + k], mem[SC_QTY + k], record_at(k)
        qty_at = ly.BR_ASK_QTY if side > 0 else ly.BR_BID_QTY
        price_at = ly.BR_ASK_PRICE if side > 0 else ly.BR_BID_PRICE
        value = walked_value(mem, record, price_at, qty_at, qty) * flt[floats + CF_SCALE + k]
        coins = float(qty) / flt[floats + CF_QTY_UNIT + k]
        if side > 0:
            gain *= flt[floats + CF_KEEP + k] * coins / (value * flt[floats + CF_COST + k])
        else:
            gain *= flt[floats + CF_KEEP + k] * value / coins
        if k == 0:
            spent = value * flt[floats + CF_COST + k] if side > 0 else coins
        limit = leg_price(mem, record, side, level_of(mem, record, qty_at, qty))
        fill_leg(mem, k, mem[cycle + CY_INSTRUMENT + k], side, limit, mem[SC_BEST + k], qty, value)
    edge = gain - 1.0
    return send_record(ports, mem, edge * 1e4, cycle_edge(mem, flt, cycle, floats) * 1e4, edge * spent, now_ns)


@njit_bare
def evaluate_cycle(
    ports: Ports, mem: Words, flt: Floats, cycle_index: int, trigger: int, trigger_recv_ns: int, trigger_pub_ns: int
) -> None:
    """Exact edge on whole copies of three books; opens, carries on or ends the cycle's episode.

    ``trigger`` -1: no single update led here; the latest of the books is what was reacted to.
    """
    cycle = cycle_row(mem, cycle_index)
    episode = mem[H_DIRECTION_COUNT] + cycle_index
    mem[C_EVALUATIONS] += 1
    for k in range(LEGS):
        status = read_leg(ports.feeds, mem, mem[cycle + CY_INSTRUMENT + k], k)
        if status < 0:
            mem[C_TORN] += 1
            return
        mem[SC_STATUS + k] = status
        if mem[cycle + CY_SIDE + k] > 0:
            mem[SC_BEST + k] = best_ask(mem, record_at(k)) if status > 0 else ly.ABSENT_ASK
        else:
            mem[SC_BEST + k] = best_bid(mem, record_at(k)) if status > 0 else ly.ABSENT_BID
    if not cycle_exceeds(mem, cycle, SC_BEST, CY_NUM):
        close_episode(mem, episode)
        return
    now_ns = now_of(mem)
    if not may_be_looked_at(mem, episode, now_ns):
        return
    if mem[episode_row(mem, episode) + EP_STATE] != OPEN:
        open_episode(mem, episode, now_ns)
    if trigger < 0:
        trigger = mem[cycle + CY_INSTRUMENT]
        for k in range(LEGS):
            trigger_recv_ns = max(trigger_recv_ns, mem[record_at(k) + ly.BR_RECV_MONO_NS])
            trigger_pub_ns = max(trigger_pub_ns, mem[record_at(k) + ly.BR_PUBLISH_MONO_NS])
    code = cycle_gates(ports, mem, flt, cycle_index, now_ns)
    if code == 0:
        if push_cycle(ports, mem, flt, cycle_index, trigger, trigger_recv_ns, trigger_pub_ns, now_ns):
            note_pushed(mem, episode, now_ns)
            return
        code = QUEUE_FULL
    note_refusal(mem, episode, code, now_ns)


@njit_bare
def check_cycles(mem: Words, flt: Floats, instrument: int, found: int) -> int:
    """Cycles through ``instrument`` that must be evaluated after its tops changed: their episodes to the hit list from
    ``found`` on; returns its new length."""
    row = instrument_row(mem, instrument)
    hits = mem[H_HITS]
    for at in range(mem[row + IN_CYCLE_START], mem[row + IN_CYCLE_END]):
        cycle_index = mem[mem[H_CYCLE_OF] + at]
        cycle = cycle_row(mem, cycle_index)
        sold = 1.0
        bought = flt[cycle_float_row(mem, cycle_index) + CF_NEED]
        for k in range(LEGS):
            slot = mem[instrument_row(mem, mem[cycle + CY_INSTRUMENT + k]) + IN_SLOT]
            if mem[cycle + CY_SIDE + k] < 0:
                sold *= max(flt[mem[H_TOP_BID] + slot], 0.0)
            else:
                bought *= flt[mem[H_TOP_ASK] + slot]
        episode = mem[H_DIRECTION_COUNT] + cycle_index
        is_open = mem[episode_row(mem, episode) + EP_STATE] != CLOSED
        if is_open or (sold > 0.0 and sold >= bought):
            mem[hits + found] = episode
            found += 1
    return found
