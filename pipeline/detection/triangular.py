"""Triangular kernel: three spot instruments of one venue that lead from an asset back to itself.

A cycle is an ordered list of three legs; each turns the asset that we hold into the next one: a sell turns base into
quote at the best bid, a buy quote into base at the best ask. With fees as in :mod:`pipeline.detection.edge` the cycle
gains if the product of its three rates exceeds 1 + threshold, which is, exactly and in integers,
``constant_num * product(bids sold at) > constant_den * product(asks bought at)``: the constants hold fees, threshold
and the powers of ten of the price exponents. They and the products exceed 128 bits, so they are compared as arrays of
31-bit digits. The float64 screen multiplies three rates and one constant: at most 8 roundings of 2**-53, covered by a
slack of 2**-48.

Sizing is marginal as in :mod:`pipeline.detection.walk`: three books are walked together while the three current
levels still gain. The flow is float64; quantities are then cut down to lots leg by leg, so that no leg spends more
than the leg before it delivers at its own worst price; what the cuts leave over stays as dust of the assets between.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from pipeline.detection.cross_venue import (
    best_ask,
    best_bid,
    fill_header,
    fill_leg,
    now_of,
    send_record,
)
from pipeline.detection.cycles import (
    CF_COST,
    CF_FEE,
    CF_KEEP,
    CF_NEED,
    CF_QTY_UNIT,
    CF_SCALE,
    CONSTANT_DIGITS,
    CY_EXEC_NUM,
    CY_INSTRUMENT,
    CY_KEY,
    CY_NUM,
    CY_QUARANTINED,
    CY_SIDE,
    DIGIT_BITS,
    DIGIT_MASK,
    LEGS,
)
from pipeline.detection.edge import has_ask, has_bid
from pipeline.detection.episodes import close_episode, note_pushed, note_refusal, open_episode
from pipeline.detection.gates import (
    book_gate,
    first_gate,
    read_inventory,
    read_leg,
    status_gate,
)
from pipeline.detection.state import (
    C_EVALUATIONS,
    C_TORN,
    CLOSED,
    EP_COOLDOWN_UNTIL_NS,
    EP_REARMED,
    EP_STATE,
    OPEN,
    PUSHED,
    SE_MAX_SKEW_NS,
    Memory,
    State,
)
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
    Topology,
)
from pipeline.detection.walk import (
    LL_MIN_NOTIONAL,
    LL_MIN_QTY,
    LL_QTY_UNIT,
    level_of,
    meets_minimum,
    walked_value,
)
from pipeline.model.enums import OpportunityType, Refusal
from shm import layout as ly
from shm.atomics import bits_to_f64
from shm.jit import njit

Words = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

# scratch in ``state.flow``
FL_IN = 0  # three: what a leg takes, in its own input asset
FL_QTY = 3  # three: base quantity of a leg, coins
FL_LEFT = 6  # three: base quantity left at the current level, coins
FL_CAP = 9  # three: bound of a leg's base quantity, coins

INVENTORY = int(Refusal.INVENTORY)
BELOW_MINIMUM = int(Refusal.BELOW_MINIMUM)
BELOW_THRESHOLD = int(Refusal.BELOW_THRESHOLD)
COOLDOWN = int(Refusal.COOLDOWN)
NOT_AFTER_OWN_FILL = int(Refusal.NOT_AFTER_OWN_FILL)
QUEUE_FULL = int(Refusal.QUEUE_FULL)
SKEW = int(Refusal.SKEW)
QUARANTINED = int(Refusal.QUARANTINED)
TRIANGULAR = int(OpportunityType.TRIANGULAR)


@njit
def multiply_into(digits: Words, factor: int) -> None:
    """digits *= factor (0 <= factor < 2**62), 31-bit digits least first; the caller leaves room for the result."""
    low, high = factor & DIGIT_MASK, factor >> DIGIT_BITS
    carry = 0  # < 2**32: everything below stays under 2**63
    before = 0
    for k in range(len(digits)):
        digit = digits[k]
        first = digit * low + carry
        second = before * high
        # first < 2**62 + 2**32 and (second's low digit) < 2**31: no wrap
        total = first + (second & DIGIT_MASK)
        carry = (total >> DIGIT_BITS) + (second >> DIGIT_BITS)
        digits[k] = total & DIGIT_MASK
        before = digit


@njit
def digits_exceed(left: Words, right: Words) -> bool:
    """left > right for digit arrays of one length, least digit first."""
    for k in range(len(left) - 1, -1, -1):
        if left[k] != right[k]:
            return left[k] > right[k]
    return False


@njit
def cycle_exceeds(cycle: Words, prices: Words, column: int, digits: Words) -> bool:
    """Exact: the cycle gains more than the threshold whose constants begin at ``column`` (CY_NUM or CY_EXEC_NUM).

    ``prices``: int64[3], bid of a sell leg, ask of a buy leg; ``digits``: scratch int64[2, DIGIT_CAPACITY].
    """
    digits[:, :] = 0
    for k in range(CONSTANT_DIGITS):
        digits[0, k] = cycle[column + k]
        digits[1, k] = cycle[column + CONSTANT_DIGITS + k]
    for leg in range(LEGS):
        price = prices[leg]
        if cycle[CY_SIDE + leg] < 0:
            if not has_bid(price):
                return False
            multiply_into(digits[0], price)
        else:
            if not has_ask(price):
                return False
            multiply_into(digits[1], price)
    return digits_exceed(digits[0], digits[1])


@njit
def leg_price(record: Words, side: int, level: int) -> int:
    """Price at a level of the side that a leg takes."""
    return record[(ly.BR_ASK_PRICE if side > 0 else ly.BR_BID_PRICE) + level]


@njit
def leg_qty(record: Words, side: int, level: int) -> int:
    """Quantity at a level of the side that a leg takes."""
    return record[(ly.BR_ASK_QTY if side > 0 else ly.BR_BID_QTY) + level]


@njit
def leg_levels(record: Words, side: int) -> int:
    """Levels of the side that a leg takes."""
    return min(record[ly.BR_ASK_COUNT if side > 0 else ly.BR_BID_COUNT], ly.BOOK_DEPTH)


@njit
def walk_cycle(cycle: Words, floats: Floats, records: Words, column: int, flow: Floats, digits: Words) -> float:
    """Walks the three books while the current levels gain more than the threshold at ``column``.

    Leaves each leg's base quantity (coins) in ``flow[FL_QTY:]``, bounded by ``flow[FL_CAP:]``; returns the amount of
    the start asset that goes in, 0.0 = nothing. Bound: at most LEGS * BOOK_DEPTH steps.
    """
    level = np.zeros(LEGS, dtype=np.int64)
    price = np.zeros(LEGS, dtype=np.int64)
    for k in range(LEGS):
        flow[FL_QTY + k] = 0.0
        if leg_levels(records[k], cycle[CY_SIDE + k]) == 0:
            return 0.0
        flow[FL_LEFT + k] = float(leg_qty(records[k], cycle[CY_SIDE + k], 0)) / floats[CF_QTY_UNIT + k]
    total = 0.0
    for _ in range(LEGS * ly.BOOK_DEPTH):
        for k in range(LEGS):
            price[k] = leg_price(records[k], cycle[CY_SIDE + k], level[k])
        if not cycle_exceeds(cycle, price, column, digits):
            break
        rate = 1.0  # amount that reaches a leg for one unit of the start asset
        take = math.inf
        for k in range(LEGS):
            coin_price = float(price[k]) * floats[CF_SCALE + k] * floats[CF_QTY_UNIT + k]
            room = min(flow[FL_LEFT + k], flow[FL_CAP + k] - flow[FL_QTY + k])
            if cycle[CY_SIDE + k] > 0:
                per_unit = rate / (coin_price * floats[CF_COST + k])  # base bought
                rate = per_unit * floats[CF_KEEP + k]
            else:
                per_unit = rate  # base sold
                rate = per_unit * coin_price * floats[CF_KEEP + k]
            flow[FL_IN + k] = per_unit
            take = min(take, max(room, 0.0) / per_unit)
        total += take
        capped = False
        ended = False
        for k in range(LEGS):
            used = take * flow[FL_IN + k]
            flow[FL_QTY + k] += used
            flow[FL_LEFT + k] -= used
            if flow[FL_CAP + k] - flow[FL_QTY + k] <= flow[FL_CAP + k] * 1e-12:
                capped = True
            if flow[FL_LEFT + k] * floats[CF_QTY_UNIT + k] < 0.5:  # less than half a unit left: rounding
                level[k] += 1
                if level[k] >= leg_levels(records[k], cycle[CY_SIDE + k]):
                    ended = True
                else:
                    at = leg_qty(records[k], cycle[CY_SIDE + k], level[k])
                    flow[FL_LEFT + k] = float(at) / floats[CF_QTY_UNIT + k]
        if capped or ended:
            break
    return total


@njit
def cut_to_lots(
    topology: Topology, cycle: Words, floats: Floats, records: Words, flow: Floats, limits: Words, quantities: Words
) -> int:
    """Whole lots per leg into ``quantities`` int64[3], none spending more than the leg before it delivers; 1, or 0
    when a leg falls under a minimum. ``limits``: int64[LEG_LIMIT_WORDS] scratch."""
    delivered = math.inf
    for k in range(LEGS):
        row = topology.instruments[cycle[CY_INSTRUMENT + k]]
        side = cycle[CY_SIDE + k]
        unit = floats[CF_QTY_UNIT + k]
        offset = ly.BR_ASK_QTY if side > 0 else ly.BR_BID_QTY
        wanted = flow[FL_QTY + k]
        worst_level = level_of(records[k], offset, int(wanted * unit))
        worst = float(leg_price(records[k], side, worst_level)) * floats[CF_SCALE + k] * unit
        if delivered != math.inf:
            wanted = min(wanted, delivered / (worst * floats[CF_COST + k]) if side > 0 else delivered)
        qty = int(wanted * unit * (1.0 + 1e-12)) // row[IN_LOT] * row[IN_LOT]
        qty = min(qty, row[IN_MAX_QTY] // row[IN_LOT] * row[IN_LOT])
        if side > 0:
            delivered = float(qty) / unit * floats[CF_KEEP + k]
        else:
            delivered = float(qty) / unit * worst * floats[CF_KEEP + k]
        quantities[k] = qty
        limits[LL_MIN_QTY] = row[IN_MIN_QTY]
        limits[LL_MIN_NOTIONAL] = row[IN_MIN_NOTIONAL]
        limits[LL_QTY_UNIT] = row[IN_QTY_UNIT]
        proof = leg_price(records[k], side, 0 if side > 0 else worst_level)
        if qty <= 0 or not meets_minimum(qty, proof, limits):
            return 0
    return 1


@njit
def cycle_caps(topology: Topology, state: State, cycle: Words, floats: Floats, limited: bool) -> int:
    """Bounds of each leg's base quantity (coins) into ``flow[FL_CAP:]``: notional cap of every leg's own quote, and
    inventory. 0, or INVENTORY."""
    for k in range(LEGS):
        instrument = cycle[CY_INSTRUMENT + k]
        side = cycle[CY_SIDE + k]
        price = float(leg_price(state.records[k], side, 0)) * floats[CF_SCALE + k] * floats[CF_QTY_UNIT + k]
        money = topology.cap_quote[instrument]
        cap = math.inf
        if limited:
            row = state.rows[k]
            if side > 0:
                money = min(money, bits_to_f64(row[ly.IR_BUY_NOTIONAL]))
            else:
                cap = float(row[ly.IR_SELL_QTY_FP]) / floats[CF_QTY_UNIT + k]
        cap = min(cap, money / (price * floats[CF_COST + k]))
        if not cap > 0.0:
            return INVENTORY if limited else BELOW_MINIMUM
        flow_at = FL_CAP + k
        state.flow[flow_at] = cap
    return 0


@njit
def cycle_gates(
    memory: Memory, topology: Topology, state: State, cycle_index: int, statuses: Words, quantities: Words, now_ns: int
) -> int:
    """Every gate of a cycle, in order; 0 leaves its quantities in ``quantities``."""
    cycle = topology.cycles[cycle_index]
    floats = topology.cycle_floats[cycle_index]
    code = 0
    for k in range(LEGS):
        code = first_gate(code, book_gate(memory, topology, state, cycle[CY_INSTRUMENT + k], k, statuses[k], now_ns))
    if code != 0:
        return code
    newest = max(state.proofs[0], max(state.proofs[1], state.proofs[2]))
    oldest = min(state.proofs[0], min(state.proofs[1], state.proofs[2]))
    if newest - oldest > state.settings[SE_MAX_SKEW_NS]:
        return SKEW
    if cycle[CY_QUARANTINED] != 0:
        return QUARANTINED
    for k in range(LEGS):
        code = first_gate(code, status_gate(topology, cycle[CY_INSTRUMENT + k], cycle[CY_SIDE + k]))
    if code != 0:
        return code
    limited = len(memory.inventory) > 1
    if limited:
        for k in range(LEGS):
            row = state.rows[k]
            if not read_inventory(memory.inventory, cycle[CY_INSTRUMENT + k], row) or row[ly.IR_STATE] != 1:
                return INVENTORY
    code = cycle_caps(topology, state, cycle, floats, limited)
    if code != 0:
        return code
    if walk_cycle(cycle, floats, state.records, CY_EXEC_NUM, state.flow, state.digits) <= 0.0:
        return BELOW_THRESHOLD
    if cut_to_lots(topology, cycle, floats, state.records, state.flow, state.limits[0], quantities) == 0:
        return BELOW_MINIMUM
    episode = len(topology.directions) + cycle_index
    if now_ns < state.episodes[episode, EP_COOLDOWN_UNTIL_NS]:
        return COOLDOWN
    if limited:
        for k in range(LEGS):
            if state.records[k, ly.BR_RECV_MONO_NS] < state.rows[k, ly.IR_BLOCKED_UNTIL_MONO_NS]:
                return NOT_AFTER_OWN_FILL
    return 0


@njit
def cycle_edge(cycle: Words, floats: Floats, prices: Words) -> float:
    """Edge of the best prices after fees, as a fraction; for records only."""
    product = floats[CF_FEE]
    for k in range(LEGS):
        if cycle[CY_SIDE + k] < 0:
            product *= float(prices[k])
        else:
            product /= float(prices[k])
    return product - 1.0


@njit
def push_cycle(
    memory: Memory,
    topology: Topology,
    state: State,
    cycle_index: int,
    prices: Words,
    quantities: Words,
    trigger: int,
    trigger_recv_ns: int,
    trigger_pub_ns: int,
    now_ns: int,
) -> bool:
    """Builds and pushes the record. Its profit is in the start asset: the edge of the walked averages on what goes in
    (lots cut off are dust that keeps its value)."""
    cycle = topology.cycles[cycle_index]
    floats = topology.cycle_floats[cycle_index]
    pair = topology.instruments[cycle[CY_INSTRUMENT], IN_PAIR]
    fill_header(state, TRIANGULAR, pair, LEGS, cycle[CY_KEY], trigger, trigger_recv_ns, trigger_pub_ns)
    gain = 1.0
    spent = 0.0
    for k in range(LEGS):
        side = cycle[CY_SIDE + k]
        record = state.records[k]
        price_at = ly.BR_ASK_PRICE if side > 0 else ly.BR_BID_PRICE
        qty_at = ly.BR_ASK_QTY if side > 0 else ly.BR_BID_QTY
        value = walked_value(record, price_at, qty_at, quantities[k]) * floats[CF_SCALE + k]
        coins = float(quantities[k]) / floats[CF_QTY_UNIT + k]
        average = value / coins
        if side > 0:
            gain *= floats[CF_KEEP + k] / (average * floats[CF_COST + k])
        else:
            gain *= floats[CF_KEEP + k] * average
        if k == 0:
            spent = value * floats[CF_COST + k] if side > 0 else coins
        limit = leg_price(record, side, level_of(record, qty_at, quantities[k]))
        fill_leg(state, k, cycle[CY_INSTRUMENT + k], side, limit, prices[k], quantities[k], value)
    edge = gain - 1.0
    entry = cycle_edge(cycle, floats, prices)
    return send_record(memory, state, edge * 1e4, entry * 1e4, edge * spent, now_ns)


@njit
def evaluate_cycle(
    memory: Memory,
    topology: Topology,
    state: State,
    cycle_index: int,
    trigger: int,
    trigger_recv_ns: int,
    trigger_pub_ns: int,
) -> None:
    """Exact edge on whole copies of three books; opens, carries on or ends the cycle's episode."""
    cycle = topology.cycles[cycle_index]
    index = len(topology.directions) + cycle_index
    statuses = np.zeros(LEGS, dtype=np.int64)
    prices = np.zeros(LEGS, dtype=np.int64)
    quantities = np.zeros(LEGS, dtype=np.int64)
    state.counters[C_EVALUATIONS] += 1
    for k in range(LEGS):
        statuses[k] = read_leg(memory, topology, state, cycle[CY_INSTRUMENT + k], k)
        if statuses[k] < 0:
            state.counters[C_TORN] += 1
            return
        if cycle[CY_SIDE + k] > 0:
            prices[k] = best_ask(state.records[k]) if statuses[k] > 0 else ly.ABSENT_ASK
        else:
            prices[k] = best_bid(state.records[k]) if statuses[k] > 0 else ly.ABSENT_BID
    was = state.episodes[index, EP_STATE]
    if not cycle_exceeds(cycle, prices, CY_NUM, state.digits):
        close_episode(state, index)
        return
    now_ns = now_of(state)
    episode = state.episodes[index]
    if was == PUSHED and (episode[EP_REARMED] == 0 or now_ns < episode[EP_COOLDOWN_UNTIL_NS]):
        return
    if was != OPEN:
        open_episode(state, index, now_ns)
    code = cycle_gates(memory, topology, state, cycle_index, statuses, quantities, now_ns)
    if code == 0:
        if trigger < 0:
            trigger = cycle[CY_INSTRUMENT]
        if push_cycle(
            memory, topology, state, cycle_index, prices, quantities, trigger, trigger_recv_ns, trigger_pub_ns, now_ns
        ):
            note_pushed(state, index, now_ns)
            return
        code = QUEUE_FULL
    note_refusal(state, index, code, now_ns)


@njit
def check_cycles(
    memory: Memory, topology: Topology, state: State, instrument: int, trigger_recv_ns: int, trigger_pub_ns: int
) -> None:
    """All cycles through ``instrument`` after its tops changed."""
    row = topology.instruments[instrument]
    for at in range(row[IN_CYCLE_START], row[IN_CYCLE_END]):
        cycle_index = topology.cycle_of[at]
        cycle = topology.cycles[cycle_index]
        sold = 1.0
        bought = topology.cycle_floats[cycle_index, CF_NEED]
        for k in range(LEGS):
            slot = topology.instruments[cycle[CY_INSTRUMENT + k], IN_SLOT]
            if cycle[CY_SIDE + k] < 0:
                sold = min(sold, 0.0) if state.top_bid[slot] < 0.0 else sold * state.top_bid[slot]
            else:
                bought *= state.top_ask[slot]
        is_open = state.episodes[len(topology.directions) + cycle_index, EP_STATE] != CLOSED
        if is_open or (sold > 0.0 and sold >= bought):
            evaluate_cycle(memory, topology, state, cycle_index, instrument, trigger_recv_ns, trigger_pub_ns)
