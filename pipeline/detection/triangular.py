"""Triangular kernel: three spot instruments of one venue that lead from an asset back to itself.

A cycle is an ordered list of three legs; each turns the asset that we hold into the next one: a sell turns base into
quote at the best bid, a buy quote into base at the best ask. With fees as in :mod:`pipeline.detection.edge` the cycle
gains if the product of its three rates exceeds 1 + threshold, which is, exactly and in integers,
``constant_num * product(bids sold at) > constant_den * product(asks bought at)``: the constants hold fees, threshold
and the powers of ten of the price exponents. They and the products exceed 128 bits, so they are compared as arrays of
31-bit digits. The float64 screen multiplies three rates and one constant: at most 8 roundings of 2**-53, covered by a
slack of 2**-48.

Sizes come from :mod:`pipeline.detection.cycle_size`.
"""

# Kernels: words of an array are int64 to numba, Any to mypy.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.detection.cycle_size import (
    CYCLE_WALK,
    FLOW,
    ROUNDING,
    cycle_exceeds,
    cycle_float_row,
    cycle_row,
    fit_cycle,
    fitted_edge,
    leg_price,
    leg_value,
    spent,
    walk_cycle,
)
from pipeline.detection.cycles import CYCLE, CYCLE_FLOATS, LEGS
from pipeline.detection.depth_walk import level_of
from pipeline.detection.episodes import (
    close_episode,
    episode_row,
    may_be_looked_at,
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
    EPISODE,
    HELD,
    OPEN,
)
from pipeline.detection.publish import (
    best_ask,
    best_bid,
    fill_edges,
    fill_header,
    fill_leg,
    hold_record,
    now_of,
    profit_gate,
)
from pipeline.detection.topology import INSTRUMENT
from pipeline.model.enums import OpportunityType, Refusal
from shm.atomics import bits_to_f64
from shm.jit import njit_bare
from shm.layout import ABSENT_ASK, ABSENT_BID, BOOK
from shm.layout_pages import INVENTORY_ROW
from shm.words import Words

Floats = npt.NDArray[np.float64]


INVENTORY = int(Refusal.INVENTORY)
BELOW_MINIMUM = int(Refusal.BELOW_MINIMUM)
BELOW_THRESHOLD = int(Refusal.BELOW_THRESHOLD)
COOLDOWN = int(Refusal.COOLDOWN)
NOT_AFTER_OWN_FILL = int(Refusal.NOT_AFTER_OWN_FILL)
SKEW = int(Refusal.SKEW)
QUARANTINED = int(Refusal.QUARANTINED)
TRIANGULAR = int(OpportunityType.TRIANGULAR)


@njit_bare
def cycle_caps(mem: Words, flt: Floats, cycle: int, floats: int, limited: bool) -> int:
    """Bounds of each leg's base quantity (coins) at FLOW.cap: the notional cap in each leg's own quote, the venue's
    maximum, and inventory (rows copied to DETECTOR.inventory_rows). 0, or the refusal."""
    for k in range(LEGS):
        side = mem[cycle + CYCLE.sides + k]
        unit = flt[floats + CYCLE_FLOATS.qty_unit + k]
        price = float(leg_price(mem, record_at(k), side, 0)) * flt[floats + CYCLE_FLOATS.scale + k] * unit
        money = flt[mem[DETECTOR.caps_off] + mem[cycle + CYCLE.instruments + k]]
        most = mem[instrument_row(mem, mem[cycle + CYCLE.instruments + k]) + INSTRUMENT.max_qty_fp]
        cap = float(most) / unit
        if limited:
            row = DETECTOR.inventory_rows + k * INVENTORY_ROW.WORDS
            if side > 0:
                money = min(money, bits_to_f64(mem[row + INVENTORY_ROW.buy_notional]))
            else:
                cap = min(cap, float(mem[row + INVENTORY_ROW.sell_qty_fp]) / unit)
        cap = min(cap, money / (price * flt[floats + CYCLE_FLOATS.cost + k]))
        if not cap > 0.0:
            return INVENTORY if limited else BELOW_MINIMUM
        flt[FLOW.cap + k] = cap
    return 0


@njit_bare
def cycle_worth_gate(mem: Words, flt: Floats, cycle: int, floats: int) -> int:
    """Judges the expected net profit of the fitted cycle. The asset that it starts and ends in is the quote of its
    first leg or of its last one: it is base in at most one of the three (cycles.py)."""
    profit = fitted_edge(mem, flt, cycle, floats) * spent(mem, flt, cycle, floats, 0, mem[CYCLE_WALK.qty])
    leg = 0 if mem[cycle + CYCLE.sides] > 0 else LEGS - 1
    return profit_gate(flt, profit, 0.0, flt[mem[DETECTOR.quote_usd_off] + mem[cycle + CYCLE.instruments + leg]])


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
    if fit_cycle(mem, flt, cycle, floats) == 0:
        return BELOW_MINIMUM
    if fitted_edge(mem, flt, cycle, floats) < flt[floats + CYCLE_FLOATS.execute_edge] - ROUNDING:
        return BELOW_THRESHOLD
    if now_ns < mem[episode_row(mem, mem[DETECTOR.direction_count] + cycle_index) + EPISODE.cooldown_until_ns]:
        return COOLDOWN
    if limited:
        for k in range(LEGS):
            blocked_until = mem[DETECTOR.inventory_rows + k * INVENTORY_ROW.WORDS + INVENTORY_ROW.blocked_until_mono_ns]
            if mem[record_at(k) + BOOK.recv_mono_ns] < blocked_until:
                return NOT_AFTER_OWN_FILL
    return cycle_worth_gate(mem, flt, cycle, floats)


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
def hold_cycle(
    ports: Ports, mem: Words, flt: Floats, cycle_index: int, trigger: int, trigger_recv_ns: int, trigger_pub_ns: int
) -> None:
    """Builds and holds the record. Its profit is in the start asset: what the last leg brings less what the first one
    takes."""
    cycle, floats = cycle_row(mem, cycle_index), cycle_float_row(mem, cycle_index)
    pair = mem[instrument_row(mem, mem[cycle + CYCLE.instruments]) + INSTRUMENT.pair]
    fill_header(mem, TRIANGULAR, pair, LEGS, mem[cycle + CYCLE.key], trigger, trigger_recv_ns, trigger_pub_ns)
    for k in range(LEGS):
        side, qty, record = mem[cycle + CYCLE.sides + k], mem[CYCLE_WALK.qty + k], record_at(k)
        value = leg_value(mem, flt, cycle, floats, k, qty)
        limit = leg_price(
            mem, record, side, level_of(mem, record, BOOK.ask_qty_fp if side > 0 else BOOK.bid_qty_fp, qty)
        )
        fill_leg(mem, k, mem[cycle + CYCLE.instruments + k], side, limit, mem[CYCLE_WALK.best + k], qty, value)
    edge, entry = fitted_edge(mem, flt, cycle, floats), cycle_edge(mem, flt, cycle, floats)
    fill_edges(mem, edge * 1e4, entry * 1e4, flt[DETECTOR_FLOATS.profit])
    hold_record(ports, mem, flt, mem[DETECTOR.direction_count] + cycle_index)


@njit_bare
def evaluate_cycle(
    ports: Ports, mem: Words, flt: Floats, cycle_index: int, trigger: int, trigger_recv_ns: int, trigger_pub_ns: int
) -> None:
    """Exact edge on whole copies of three books; opens, carries on or ends the cycle's episode.

    ``trigger`` -1: no single update led here; the latest of the books is what was reacted to.
    """
    cycle = cycle_row(mem, cycle_index)
    episode = mem[DETECTOR.direction_count] + cycle_index
    if mem[episode_row(mem, episode) + EPISODE.state] == HELD:  # judged in this event already, by way of another book
        return
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
        hold_cycle(ports, mem, flt, cycle_index, trigger, trigger_recv_ns, trigger_pub_ns)
        return
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
