"""Two-legged kernel: buy on one instrument of a pair, sell on another (spot-spot and spot-futures hedge).

The strategies differ in data only: the direction's thresholds already hold the fees and, for a hedge, all that it
costs beyond its entry (:mod:`pipeline.detection.spot_futures`).

One update: the updated member's best prices go to the group's tops; two contiguous rows of screen factors tell which
directions may have an edge; those, and the ones with an open episode, are evaluated on whole copies of both books.
"""

# Kernels: words of an array are int64 to numba, Any to mypy.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.detection.depth_walk import LEG_LIMITS, MONEY, SIZE, size_legs, walked_value
from pipeline.detection.edge import edge_bps, edge_exceeds
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
from pipeline.detection.topology import DIRECTION, DIRECTION_FLOATS, GROUP, INSTRUMENT
from pipeline.model.enums import Refusal
from shm.atomics import bits_to_f64
from shm.jit import njit_bare
from shm.layout import ABSENT_ASK, ABSENT_BID, BOOK, FLAGS_UNTRADABLE
from shm.layout_pages import INVENTORY_ROW
from shm.words import Words

Floats = npt.NDArray[np.float64]

SKEW = int(Refusal.SKEW)
QUARANTINED = int(Refusal.QUARANTINED)
INVENTORY = int(Refusal.INVENTORY)
BELOW_MINIMUM = int(Refusal.BELOW_MINIMUM)
BELOW_THRESHOLD = int(Refusal.BELOW_THRESHOLD)
COOLDOWN = int(Refusal.COOLDOWN)
NOT_AFTER_OWN_FILL = int(Refusal.NOT_AFTER_OWN_FILL)
BUY_LEG = 0
SELL_LEG = 1
BUY_RECORD = DETECTOR.records
SELL_RECORD = DETECTOR.records + BOOK.WORDS
BUY_LIMITS = DETECTOR.limits
SELL_LIMITS = DETECTOR.limits + LEG_LIMITS.WORDS


@njit_bare
def direction_row(mem: Words, direction: int) -> int:
    """Word of the direction's columns."""
    return mem[DETECTOR.directions_off] + direction * DIRECTION.WORDS


@njit_bare
def screened(
    flt: Floats, bids: int, asks: int, screen_by_buyer: int, screen_by_seller: int, bid: float, ask: float, count: int
) -> int:
    """How many directions of one member, as buyer or as seller, may have an edge: a positive number may be wrong (the
    float screen errs to that side), 0 is certain. ``bids``, ``asks``, ``screen_by_buyer``, ``screen_by_seller``: words
    of ``flt`` where the group's tops and the member's screen factors begin; ``bid``, ``ask``: the member's own.

    Unsigned offsets: numba then leaves out the test for negative indices, and LLVM makes vectors of the loop.
    """
    b, a, n, t = np.uint64(bids), np.uint64(asks), np.uint64(screen_by_buyer), np.uint64(screen_by_seller)
    found = 0
    for k in range(np.uint64(count)):
        found += (flt[b + k] >= ask * flt[n + k]) | (bid >= flt[a + k] * flt[t + k])
    return found


@njit_bare
def check_member(mem: Words, flt: Floats, instrument: int, found: int) -> int:
    """Directions of the instrument's group that must be evaluated after its tops changed: to the hit list from
    ``found`` on; returns its new length.

    Hit: the screen cannot exclude an edge, or an episode is open. Cost: linear in the group alone.
    """
    row = instrument_row(mem, instrument)
    slot = mem[row + INSTRUMENT.slot]
    if slot < 0:
        return found
    group = mem[row + INSTRUMENT.group]
    at = mem[DETECTOR.groups_off] + group * GROUP.WORDS
    start, count, block = mem[at + GROUP.first_slot], mem[at + GROUP.count], mem[at + GROUP.block]
    own = slot - start
    bids, asks = mem[DETECTOR.top_bid_off] + start, mem[DETECTOR.top_ask_off] + start
    bid, ask = flt[bids + own], flt[asks + own]
    screen_by_buyer, screen_by_seller = (
        mem[DETECTOR.screen_by_buyer_off] + block + own * count,
        mem[DETECTOR.screen_by_seller_off] + block + own * count,
    )
    busy = mem[mem[DETECTOR.group_open_off] + group] > 0
    if not busy and screened(flt, bids, asks, screen_by_buyer, screen_by_seller, bid, ask, count) == 0:
        return found
    hits = mem[DETECTOR.hits_off]
    for k in range(count):
        if flt[bids + k] >= ask * flt[screen_by_buyer + k] or (busy and is_watched(mem, block + own * count + k)):
            mem[hits + found] = block + own * count + k
            found += 1
        if bid >= flt[asks + k] * flt[screen_by_seller + k] or (busy and is_watched(mem, block + k * count + own)):
            mem[hits + found] = block + k * count + own
            found += 1
    return found


@njit_bare
def is_watched(mem: Words, direction: int) -> bool:
    """Whether every update is looked at: the direction has an open episode, or is the exit of an open hedge."""
    is_open = mem[episode_row(mem, direction) + EPISODE.state] != CLOSED
    return is_open or mem[mem[DETECTOR.exit_of_off] + direction] != 0


@njit_bare
def fill_limits(mem: Words, instrument: int, at: int) -> None:
    """The leg's lots, minima and the venue's maximum, without inventory, as LEG_LIMITS to word ``at`` of the detector's
    memory."""
    row = instrument_row(mem, instrument)
    mem[at + LEG_LIMITS.lot_fp] = mem[row + INSTRUMENT.lot_fp]
    mem[at + LEG_LIMITS.min_qty_fp] = mem[row + INSTRUMENT.min_qty_fp]
    mem[at + LEG_LIMITS.max_qty_fp] = mem[row + INSTRUMENT.max_qty_fp]
    mem[at + LEG_LIMITS.min_notional_fp] = mem[row + INSTRUMENT.min_notional_fp]
    mem[at + LEG_LIMITS.qty_unit] = mem[row + INSTRUMENT.qty_unit]


@njit_bare
def fill_money(mem: Words, flt: Floats, direction: int) -> None:
    """Notional caps of both legs, without inventory, to DETECTOR_FLOATS.money."""
    floats = mem[DETECTOR.direction_floats_off] + direction * DIRECTION_FLOATS.WORDS
    row = direction_row(mem, direction)
    flt[DETECTOR_FLOATS.money + MONEY.buy_cap] = flt[mem[DETECTOR.caps_off] + mem[row + DIRECTION.buy]]
    flt[DETECTOR_FLOATS.money + MONEY.sell_cap] = flt[mem[DETECTOR.caps_off] + mem[row + DIRECTION.sell]]
    flt[DETECTOR_FLOATS.money + MONEY.scale] = flt[floats + DIRECTION_FLOATS.scale]
    flt[DETECTOR_FLOATS.money + MONEY.buy_cost] = flt[floats + DIRECTION_FLOATS.buy_cost]


@njit_bare
def size_at(mem: Words, flt: Floats, direction: int, num_column: int) -> int:
    """Sizes both legs, whose books lie at BUY_RECORD and SELL_RECORD, at the threshold of ``num_column``, DIRECTION.num
    (of the episode) or DIRECTION.exec_num (of execution), into DETECTOR.size; 1, or 0 where no size is left."""
    row = direction_row(mem, direction)
    return size_legs(
        mem,
        flt,
        BUY_RECORD,
        SELL_RECORD,
        mem[row + num_column],
        mem[row + num_column + 1],
        mem[row + DIRECTION.buy_base_ppm],
        BUY_LIMITS,
        SELL_LIMITS,
        DETECTOR_FLOATS.money,
        DETECTOR.size,
    )


@njit_bare
def size_gates(ports: Ports, mem: Words, flt: Floats, direction: int) -> int:
    """Inventory, minimum and threshold gates; 0 leaves the sizes of both legs in SIZE."""
    row = direction_row(mem, direction)
    buy, sell = mem[row + DIRECTION.buy], mem[row + DIRECTION.sell]
    limited = len(ports.inventory) > 1
    fill_limits(mem, buy, BUY_LIMITS)
    fill_limits(mem, sell, SELL_LIMITS)
    fill_money(mem, flt, direction)
    if limited:
        sell_at = DETECTOR.inventory_rows + INVENTORY_ROW.WORDS
        buy_open = read_inventory(ports.inventory, mem, buy, DETECTOR.inventory_rows)
        if not read_inventory(ports.inventory, mem, sell, sell_at) or not buy_open:
            return INVENTORY
        spendable = bits_to_f64(mem[DETECTOR.inventory_rows + INVENTORY_ROW.buy_notional])
        flt[DETECTOR_FLOATS.money + MONEY.buy_cap] = min(
            flt[DETECTOR_FLOATS.money + MONEY.buy_cap], spendable if spendable > 0.0 else 0.0
        )
        sellable = max(0, mem[sell_at + INVENTORY_ROW.sell_qty_fp])
        mem[SELL_LIMITS + LEG_LIMITS.max_qty_fp] = min(mem[SELL_LIMITS + LEG_LIMITS.max_qty_fp], sellable)
    if size_at(mem, flt, direction, DIRECTION.exec_num):
        return 0
    if size_at(mem, flt, direction, DIRECTION.num):
        return BELOW_THRESHOLD
    if limited:
        fill_limits(mem, sell, SELL_LIMITS)
        fill_money(mem, flt, direction)
        if size_at(mem, flt, direction, DIRECTION.num):
            return INVENTORY
    return BELOW_MINIMUM


@njit_bare
def worth_gate(mem: Words, flt: Floats, direction: int) -> int:
    """Values the trade of SIZE on the copied books, for the record, and judges its expected net profit."""
    row = direction_row(mem, direction)
    floats = mem[DETECTOR.direction_floats_off] + direction * DIRECTION_FLOATS.WORDS
    buy_qty, sell_qty = mem[DETECTOR.size + SIZE.buy_qty_fp], mem[DETECTOR.size + SIZE.sell_qty_fp]
    scale = flt[floats + DIRECTION_FLOATS.scale]
    spent = walked_value(mem, BUY_RECORD, BOOK.ask_price_fp, BOOK.ask_qty_fp, buy_qty) * scale
    brought = walked_value(mem, SELL_RECORD, BOOK.bid_price_fp, BOOK.bid_qty_fp, sell_qty) * scale
    flt[DETECTOR_FLOATS.spent], flt[DETECTOR_FLOATS.brought] = spent, brought
    kept = float(buy_qty) * (1.0 - float(mem[row + DIRECTION.buy_base_ppm]) / 1e6)
    dust = (kept - float(sell_qty)) * float(mem[DETECTOR.size + SIZE.sell_limit_price_fp]) * scale
    cost = spent * flt[floats + DIRECTION_FLOATS.buy_cost]
    profit = (
        (brought + dust) * flt[floats + DIRECTION_FLOATS.sell_keep] - cost - flt[floats + DIRECTION_FLOATS.cost] * spent
    )
    usd = flt[mem[DETECTOR.quote_usd_off] + mem[row + DIRECTION.buy]]
    return profit_gate(flt, profit, flt[floats + DIRECTION_FLOATS.price] * cost, usd)


@njit_bare
def pair_gates(
    ports: Ports, mem: Words, flt: Floats, direction: int, buy_status: int, sell_status: int, now_ns: int
) -> int:
    """Every gate, in order, over copies of both books; 0 = may be pushed, sizes in SIZE."""
    row = direction_row(mem, direction)
    buy, sell = mem[row + DIRECTION.buy], mem[row + DIRECTION.sell]
    code = first_gate(
        book_gate(ports.feeds, mem, buy, BUY_LEG, buy_status, now_ns),
        book_gate(ports.feeds, mem, sell, SELL_LEG, sell_status, now_ns),
    )
    if code != 0:
        return code
    if abs(mem[DETECTOR.proofs + BUY_LEG] - mem[DETECTOR.proofs + SELL_LEG]) > mem[DETECTOR_SETTINGS.max_skew_ns]:
        return SKEW
    if mem[row + DIRECTION.quarantined] != 0:
        return QUARANTINED
    code = first_gate(status_gate(mem, buy, 1), status_gate(mem, sell, -1))
    if code != 0:
        return code
    code = size_gates(ports, mem, flt, direction)
    if code != 0:
        return code
    if now_ns < mem[episode_row(mem, direction) + EPISODE.cooldown_until_ns]:
        return COOLDOWN
    if len(ports.inventory) > 1:
        for leg in range(2):
            blocked_until = mem[
                DETECTOR.inventory_rows + leg * INVENTORY_ROW.WORDS + INVENTORY_ROW.blocked_until_mono_ns
            ]
            if mem[record_at(leg) + BOOK.recv_mono_ns] < blocked_until:
                return NOT_AFTER_OWN_FILL
    return worth_gate(mem, flt, direction)


@njit_bare
def judge_direction(ports: Ports, mem: Words, flt: Floats, direction: int) -> tuple[int, float]:
    """(refusal, edge) of a direction on its books now, for callers outside the scan loop. Refusal: code of the gate
    that refuses it; 0 = none, and both sizes are in SIZE. Edge: of the best prices after entry fees, in bps; 0 where a
    side is empty. It is one kernel so that its first call compiles or loads before the books are read, not while they
    age.
    """
    row = direction_row(mem, direction)
    buy_status = read_leg(ports.feeds, mem, mem[row + DIRECTION.buy], BUY_LEG)
    sell_status = read_leg(ports.feeds, mem, mem[row + DIRECTION.sell], SELL_LEG)
    code = pair_gates(ports, mem, flt, direction, buy_status, sell_status, now_of(mem))
    ask = best_ask(mem, record_at(BUY_LEG)) if buy_status > 0 else ABSENT_ASK
    bid = best_bid(mem, record_at(SELL_LEG)) if sell_status > 0 else ABSENT_BID
    edge = 0.0
    if bid != ABSENT_BID and ask != ABSENT_ASK:
        edge = edge_bps(
            bid,
            ask,
            flt[mem[DETECTOR.direction_floats_off] + direction * DIRECTION_FLOATS.WORDS + DIRECTION_FLOATS.fee],
        )
    if code == 0 and not edge_exceeds(bid, ask, mem[row + DIRECTION.num], mem[row + DIRECTION.den]):
        code = BELOW_THRESHOLD
    return code, edge


@njit_bare
def hold_direction(
    ports: Ports, mem: Words, flt: Floats, direction: int, trigger: int, trigger_recv_ns: int, trigger_pub_ns: int
) -> None:
    """Builds the record of SIZE and holds it. ``edge_bps`` is that of the sized trade after everything that the
    strategy charges, base dust at the sell limit; ``entry_edge_bps`` that of the best prices after entry fees."""
    row = direction_row(mem, direction)
    floats = mem[DETECTOR.direction_floats_off] + direction * DIRECTION_FLOATS.WORDS
    buy, sell = mem[row + DIRECTION.buy], mem[row + DIRECTION.sell]
    buy_qty, sell_qty = mem[DETECTOR.size + SIZE.buy_qty_fp], mem[DETECTOR.size + SIZE.sell_qty_fp]
    spent, brought, profit = (
        flt[DETECTOR_FLOATS.spent],
        flt[DETECTOR_FLOATS.brought],
        flt[DETECTOR_FLOATS.profit],
    )
    pair = mem[instrument_row(mem, buy) + INSTRUMENT.pair]
    fill_header(
        mem, mem[row + DIRECTION.type], pair, 2, mem[row + DIRECTION.key], trigger, trigger_recv_ns, trigger_pub_ns
    )
    ask, bid = best_ask(mem, BUY_RECORD), best_bid(mem, SELL_RECORD)
    fill_leg(mem, BUY_LEG, buy, 1, mem[DETECTOR.size + SIZE.buy_limit_price_fp], ask, buy_qty, spent)
    fill_leg(mem, SELL_LEG, sell, -1, mem[DETECTOR.size + SIZE.sell_limit_price_fp], bid, sell_qty, brought)
    entry = edge_bps(bid, ask, flt[floats + DIRECTION_FLOATS.fee])
    fill_edges(mem, profit / (spent * flt[floats + DIRECTION_FLOATS.buy_cost]) * 1e4, entry, profit)
    hold_record(ports, mem, flt, direction)


@njit_bare
def evaluate_direction(
    ports: Ports, mem: Words, flt: Floats, direction: int, trigger: int, trigger_recv_ns: int, trigger_pub_ns: int
) -> None:
    """Exact edge on whole copies of both books; opens, carries on or ends the direction's episode.

    ``trigger`` -1: no single update led here; the later of both books is what was reacted to.
    """
    row = direction_row(mem, direction)
    if mem[row + DIRECTION.type] < 0:
        return
    buy, sell = mem[row + DIRECTION.buy], mem[row + DIRECTION.sell]
    buy_status = read_leg(ports.feeds, mem, buy, BUY_LEG)
    sell_status = read_leg(ports.feeds, mem, sell, SELL_LEG)
    mem[DETECTOR_COUNTERS.evaluations] += 1
    if buy_status < 0 or sell_status < 0:
        mem[DETECTOR_COUNTERS.torn] += 1
        return
    was = mem[episode_row(mem, direction) + EPISODE.state]
    if was == HELD:  # judged in this event already, by way of its other book
        return
    group_open = mem[DETECTOR.group_open_off] + mem[instrument_row(mem, buy) + INSTRUMENT.group]
    bid = best_bid(mem, SELL_RECORD) if sell_status > 0 else ABSENT_BID
    ask = best_ask(mem, BUY_RECORD) if buy_status > 0 else ABSENT_ASK
    broken = mem[DETECTOR_SETTINGS.strict] != 0 and (
        (mem[BUY_RECORD + BOOK.flags] | mem[SELL_RECORD + BOOK.flags]) & FLAGS_UNTRADABLE != 0
    )
    if broken or not edge_exceeds(bid, ask, mem[row + DIRECTION.num], mem[row + DIRECTION.den]):
        if was != CLOSED:
            close_episode(mem, direction)
            mem[group_open] -= 1
        return
    now_ns = now_of(mem)
    if not may_be_looked_at(mem, direction, now_ns):
        return
    if was == CLOSED:
        mem[group_open] += 1
    if was != OPEN:
        open_episode(mem, direction, now_ns)
    if trigger < 0:
        trigger = buy
        trigger_recv_ns = max(mem[BUY_RECORD + BOOK.recv_mono_ns], mem[SELL_RECORD + BOOK.recv_mono_ns])
        trigger_pub_ns = max(mem[BUY_RECORD + BOOK.publish_mono_ns], mem[SELL_RECORD + BOOK.publish_mono_ns])
    code = pair_gates(ports, mem, flt, direction, buy_status, sell_status, now_ns)
    if code == 0:
        hold_direction(ports, mem, flt, direction, trigger, trigger_recv_ns, trigger_pub_ns)
        return
    note_refusal(mem, direction, code, now_ns)
