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

from pipeline.detection.cycles import CONSTANT_DIGITS, CYCLE, CYCLE_FLOATS, DIGIT_BITS, DIGIT_MASK, LEGS
from pipeline.detection.depth_walk import LEG_LIMITS, level_of, meets_minimum, walked_value
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
    CLOSED,
    DETECTOR,
    DETECTOR_COUNTERS,
    DETECTOR_FLOATS,
    DETECTOR_SETTINGS,
    DIGIT_CAPACITY,
    EPISODE,
    OPEN,
)
from pipeline.detection.publish import best_ask, best_bid, fill_header, fill_leg, now_of, send_record
from pipeline.detection.topology import INSTRUMENT
from pipeline.model.enums import OpportunityType, Refusal
from shm.atomics import bits_to_f64
from shm.declare import Table, reals_of, words_of
from shm.jit import njit_bare
from shm.layout import ABSENT_ASK, ABSENT_BID, BOOK, BOOK_DEPTH
from shm.layout_pages import INVENTORY_ROW
from shm.words import Words

Floats = npt.NDArray[np.float64]


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
def cut_to_lots(mem: Words, flt: Floats, cycle: int, floats: int) -> int:
    """Whole lots per leg into CYCLE_WALK.qty, none spending more than the leg before it delivers; 1, or 0 when a leg
    falls under a minimum."""
    delivered = math.inf
    for k in range(LEGS):
        row = instrument_row(mem, mem[cycle + CYCLE.instruments + k])
        record = record_at(k)
        side = mem[cycle + CYCLE.sides + k]
        unit = flt[floats + CYCLE_FLOATS.qty_unit + k]
        wanted = flt[FLOW.qty + k]
        worst_level = level_of(mem, record, BOOK.ask_qty_fp if side > 0 else BOOK.bid_qty_fp, int(wanted * unit))
        worst = float(leg_price(mem, record, side, worst_level)) * flt[floats + CYCLE_FLOATS.scale + k] * unit
        if delivered != math.inf:
            limit = delivered / (worst * flt[floats + CYCLE_FLOATS.cost + k]) if side > 0 else delivered
            wanted = min(wanted, limit * (1.0 - 1e-12))
        lot = mem[row + INSTRUMENT.lot_fp]
        qty = min(int(wanted * unit * (1.0 + 1e-13)), mem[row + INSTRUMENT.max_qty_fp]) // lot * lot
        coins = float(qty) / unit * flt[floats + CYCLE_FLOATS.keep + k]
        delivered = coins if side > 0 else coins * worst
        mem[CYCLE_WALK.qty + k] = qty
        mem[DETECTOR.limits + LEG_LIMITS.min_qty_fp] = mem[row + INSTRUMENT.min_qty_fp]
        mem[DETECTOR.limits + LEG_LIMITS.min_notional_fp] = mem[row + INSTRUMENT.min_notional_fp]
        mem[DETECTOR.limits + LEG_LIMITS.qty_unit] = mem[row + INSTRUMENT.qty_unit]
        least = leg_price(mem, record, side, 0 if side > 0 else worst_level)
        if qty <= 0 or not meets_minimum(mem, DETECTOR.limits, qty, least):
            return 0
    return 1


@njit_bare
def cycle_caps(mem: Words, flt: Floats, cycle: int, floats: int, limited: bool) -> int:
    """Bounds of each leg's base quantity (coins) at FLOW.cap: the notional cap in each leg's own quote, and inventory
    (rows copied to ROWS). 0, or the refusal."""
    for k in range(LEGS):
        side = mem[cycle + CYCLE.sides + k]
        unit = flt[floats + CYCLE_FLOATS.qty_unit + k]
        price = float(leg_price(mem, record_at(k), side, 0)) * flt[floats + CYCLE_FLOATS.scale + k] * unit
        money = flt[mem[DETECTOR.caps_off] + mem[cycle + CYCLE.instruments + k]]
        cap = math.inf
        if limited:
            row = DETECTOR.inventory_rows + k * INVENTORY_ROW.WORDS
            if side > 0:
                money = min(money, bits_to_f64(mem[row + INVENTORY_ROW.buy_notional]))
            else:
                cap = float(mem[row + INVENTORY_ROW.sell_qty_fp]) / unit
        cap = min(cap, money / (price * flt[floats + CYCLE_FLOATS.cost + k]))
        if not cap > 0.0:
            return INVENTORY if limited else BELOW_MINIMUM
        flt[FLOW.cap + k] = cap
    return 0


@njit_bare
def cycle_gates(ports: Ports, mem: Words, flt: Floats, cycle_index: int, now_ns: int) -> int:
    """Every gate of a cycle, in order, over the copies of its books; 0 leaves its quantities in CYCLE_WALK.qty."""
    cycle, floats = cycle_row(mem, cycle_index), cycle_float_row(mem, cycle_index)
    code = 0
    for k in range(LEGS):
        instrument = mem[cycle + CYCLE.instruments + k]
        code = first_gate(code, book_gate(ports.feeds, mem, instrument, k, mem[CYCLE_WALK.status + k], now_ns))
    if code != 0:
        return code
    newest = max(mem[DETECTOR.proofs], max(mem[DETECTOR.proofs + 1], mem[DETECTOR.proofs + 2]))
    oldest = min(mem[DETECTOR.proofs], min(mem[DETECTOR.proofs + 1], mem[DETECTOR.proofs + 2]))
    if newest - oldest > mem[DETECTOR_SETTINGS.max_skew_ns]:
        return SKEW
    if mem[cycle + CYCLE.quarantined] != 0:
        return QUARANTINED
    for k in range(LEGS):
        code = first_gate(code, status_gate(mem, mem[cycle + CYCLE.instruments + k], mem[cycle + CYCLE.sides + k]))
    if code != 0:
        return code
    limited = len(ports.inventory) > 1
    if limited:
        for k in range(LEGS):
            at = DETECTOR.inventory_rows + k * INVENTORY_ROW.WORDS
            if not read_inventory(ports.inventory, mem, mem[cycle + CYCLE.instruments + k], at):
                return INVENTORY
    code = cycle_caps(mem, flt, cycle, floats, limited)
    if code != 0:
        return code
    if walk_cycle(mem, flt, cycle, floats, CYCLE.exec_num) <= 0.0:
        return BELOW_THRESHOLD
    if cut_to_lots(mem, flt, cycle, floats) == 0:
        return BELOW_MINIMUM
    if now_ns < mem[episode_row(mem, mem[DETECTOR.direction_count] + cycle_index) + EPISODE.cooldown_until_ns]:
        return COOLDOWN
    if limited:
        for k in range(LEGS):
            blocked_until = mem[DETECTOR.inventory_rows + k * INVENTORY_ROW.WORDS + INVENTORY_ROW.blocked_until_mono_ns]
            if mem[record_at(k) + BOOK.recv_mono_ns] < blocked_until:
                return NOT_AFTER_OWN_FILL
    return 0


@njit_bare
def cycle_edge(mem: Words, flt: Floats, cycle: int, floats: int) -> float:
    """Edge of the best prices (CYCLE_WALK.best) after fees, as a fraction; for records only."""
    product = flt[floats + CYCLE_FLOATS.fee]
    for k in range(LEGS):
        if mem[cycle + CYCLE.sides + k] < 0:
            product *= float(mem[CYCLE_WALK.best + k])
        else:
            product /= float(mem[CYCLE_WALK.best + k])
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
    pair = mem[instrument_row(mem, mem[cycle + CYCLE.instruments]) + INSTRUMENT.pair]
    fill_header(mem, TRIANGULAR, pair, LEGS, mem[cycle + CYCLE.key], trigger, trigger_recv_ns, trigger_pub_ns)
    gain = 1.0
    spent = 0.0
    for k in range(LEGS):
        side, qty, record = mem[cycle + CYCLE.sides + k], mem[CYCLE_WALK.qty + k], record_at(k)
        qty_at = BOOK.ask_qty_fp if side > 0 else BOOK.bid_qty_fp
        price_at = BOOK.ask_price_fp if side > 0 else BOOK.bid_price_fp
        value = walked_value(mem, record, price_at, qty_at, qty) * flt[floats + CYCLE_FLOATS.scale + k]
        coins = float(qty) / flt[floats + CYCLE_FLOATS.qty_unit + k]
        if side > 0:
            gain *= flt[floats + CYCLE_FLOATS.keep + k] * coins / (value * flt[floats + CYCLE_FLOATS.cost + k])
        else:
            gain *= flt[floats + CYCLE_FLOATS.keep + k] * value / coins
        if k == 0:
            spent = value * flt[floats + CYCLE_FLOATS.cost + k] if side > 0 else coins
        limit = leg_price(mem, record, side, level_of(mem, record, qty_at, qty))
        fill_leg(mem, k, mem[cycle + CYCLE.instruments + k], side, limit, mem[CYCLE_WALK.best + k], qty, value)
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
    episode = mem[DETECTOR.direction_count] + cycle_index
    mem[DETECTOR_COUNTERS.evaluations] += 1
    for k in range(LEGS):
        status = read_leg(ports.feeds, mem, mem[cycle + CYCLE.instruments + k], k)
        if status < 0:
            mem[DETECTOR_COUNTERS.torn] += 1
            return
        mem[CYCLE_WALK.status + k] = status
        if mem[cycle + CYCLE.sides + k] > 0:
            mem[CYCLE_WALK.best + k] = best_ask(mem, record_at(k)) if status > 0 else ABSENT_ASK
        else:
            mem[CYCLE_WALK.best + k] = best_bid(mem, record_at(k)) if status > 0 else ABSENT_BID
    if not cycle_exceeds(mem, cycle, CYCLE_WALK.best, CYCLE.num):
        close_episode(mem, episode)
        return
    now_ns = now_of(mem)
    if not may_be_looked_at(mem, episode, now_ns):
        return
    if mem[episode_row(mem, episode) + EPISODE.state] != OPEN:
        open_episode(mem, episode, now_ns)
    if trigger < 0:
        trigger = mem[cycle + CYCLE.instruments]
        for k in range(LEGS):
            trigger_recv_ns = max(trigger_recv_ns, mem[record_at(k) + BOOK.recv_mono_ns])
            trigger_pub_ns = max(trigger_pub_ns, mem[record_at(k) + BOOK.publish_mono_ns])
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
    hits = mem[DETECTOR.hits_off]
    for at in range(mem[row + INSTRUMENT.cycle_start], mem[row + INSTRUMENT.cycle_end]):
        cycle_index = mem[mem[DETECTOR.cycle_of_off] + at]
        cycle = cycle_row(mem, cycle_index)
        sold = 1.0
        bought = flt[cycle_float_row(mem, cycle_index) + CYCLE_FLOATS.need]
        for k in range(LEGS):
            slot = mem[instrument_row(mem, mem[cycle + CYCLE.instruments + k]) + INSTRUMENT.slot]
            if mem[cycle + CYCLE.sides + k] < 0:
                sold *= max(flt[mem[DETECTOR.top_bid_off] + slot], 0.0)
            else:
                bought *= flt[mem[DETECTOR.top_ask_off] + slot]
        episode = mem[DETECTOR.direction_count] + cycle_index
        is_open = mem[episode_row(mem, episode) + EPISODE.state] != CLOSED
        if is_open or (sold > 0.0 and sold >= bought):
            mem[hits + found] = episode
            found += 1
    return found
