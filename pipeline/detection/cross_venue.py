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

from pipeline.detection.depth_walk import (
    LEG_LIMIT_WORDS,
    LL_LOT,
    LL_MAX_QTY,
    LL_MIN_NOTIONAL,
    LL_MIN_QTY,
    LL_QTY_UNIT,
    MN_BUY_CAP,
    MN_BUY_COST,
    MN_SCALE,
    MN_SELL_CAP,
    SZ_BUY_LIMIT,
    SZ_BUY_QTY,
    SZ_SELL_LIMIT,
    SZ_SELL_QTY,
    size_legs,
    walked_value,
)
from pipeline.detection.edge import edge_bps, edge_exceeds
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
    EP_COOLDOWN_UNTIL_NS,
    EP_STATE,
    H_CAPS,
    H_DIRECTION_FLOATS,
    H_DIRECTIONS,
    H_GROUP_OPEN,
    H_GROUPS,
    H_HITS,
    H_NEED,
    H_NEED_T,
    H_TOP_ASK,
    H_TOP_BID,
    LIMITS,
    MONEY,
    OPEN,
    PROOFS,
    RECORDS,
    ROWS,
    SE_MAX_SKEW_NS,
    SE_STRICT,
    SIZE,
)
from pipeline.detection.publish import best_ask, best_bid, fill_header, fill_leg, now_of, send_record
from pipeline.detection.topology import (
    DF_BUY_COST,
    DF_COST,
    DF_FEE,
    DF_SCALE,
    DF_SELL_KEEP,
    DF_WORDS,
    DR_BUY,
    DR_BUY_BASE_PPM,
    DR_DEN,
    DR_EXEC_NUM,
    DR_KEY,
    DR_NUM,
    DR_QUARANTINED,
    DR_SELL,
    DR_TYPE,
    DR_WORDS,
    GR_BLOCK,
    GR_COUNT,
    GR_START,
    GR_WORDS,
    IN_GROUP,
    IN_LOT,
    IN_MAX_QTY,
    IN_MIN_NOTIONAL,
    IN_MIN_QTY,
    IN_PAIR,
    IN_QTY_UNIT,
    IN_SLOT,
)
from pipeline.model.enums import Refusal
from shm import layout as ly
from shm.atomics import bits_to_f64
from shm.jit import njit_bare

Words = npt.NDArray[np.int64]
Floats = npt.NDArray[np.float64]

SKEW = int(Refusal.SKEW)
QUARANTINED = int(Refusal.QUARANTINED)
INVENTORY = int(Refusal.INVENTORY)
BELOW_MINIMUM = int(Refusal.BELOW_MINIMUM)
BELOW_THRESHOLD = int(Refusal.BELOW_THRESHOLD)
COOLDOWN = int(Refusal.COOLDOWN)
NOT_AFTER_OWN_FILL = int(Refusal.NOT_AFTER_OWN_FILL)
QUEUE_FULL = int(Refusal.QUEUE_FULL)
BUY_LEG = 0
SELL_LEG = 1
BUY_RECORD = RECORDS
SELL_RECORD = RECORDS + ly.BOOK_RECORD_WORDS
BUY_LIMITS = LIMITS
SELL_LIMITS = LIMITS + LEG_LIMIT_WORDS


@njit_bare
def direction_row(mem: Words, direction: int) -> int:
    """Word of the direction's columns."""
    return mem[H_DIRECTIONS] + direction * DR_WORDS


@njit_bare
def screened(flt: Floats, bids: int, asks: int, need: int, need_t: int, bid: float, ask: float, count: int) -> int:
    """How many directions of one member the screen cannot exclude. Offsets are words of ``flt``.

    Unsigned offsets: numba then leaves out the test for negative indices, and LLVM makes vectors of the loop.
    """
    b, a, n, t = np.uint64(bids), np.uint64(asks), np.uint64(need), np.uint64(need_t)
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
    slot = mem[row + IN_SLOT]
    if slot < 0:
        return found
    group = mem[row + IN_GROUP]
    at = mem[H_GROUPS] + group * GR_WORDS
    start, count, block = mem[at + GR_START], mem[at + GR_COUNT], mem[at + GR_BLOCK]
    own = slot - start
    bids, asks = mem[H_TOP_BID] + start, mem[H_TOP_ASK] + start
    bid, ask = flt[bids + own], flt[asks + own]
    need, need_t = mem[H_NEED] + block + own * count, mem[H_NEED_T] + block + own * count
    busy = mem[mem[H_GROUP_OPEN] + group] > 0
    if not busy and screened(flt, bids, asks, need, need_t, bid, ask, count) == 0:
        return found
    hits = mem[H_HITS]
    for k in range(count):
        if flt[bids + k] >= ask * flt[need + k] or (busy and is_open(mem, block + own * count + k)):
            mem[hits + found] = block + own * count + k
            found += 1
        if bid >= flt[asks + k] * flt[need_t + k] or (busy and is_open(mem, block + k * count + own)):
            mem[hits + found] = block + k * count + own
            found += 1
    return found


@njit_bare
def is_open(mem: Words, episode: int) -> bool:
    """Whether the episode is open."""
    return mem[episode_row(mem, episode) + EP_STATE] != CLOSED


@njit_bare
def fill_limits(mem: Words, instrument: int, at: int) -> None:
    """The leg's lots, minima and the venue's maximum, without inventory, to word ``at``."""
    row = instrument_row(mem, instrument)
    mem[at + LL_LOT] = mem[row + IN_LOT]
    mem[at + LL_MIN_QTY] = mem[row + IN_MIN_QTY]
    mem[at + LL_MAX_QTY] = mem[row + IN_MAX_QTY]
    mem[at + LL_MIN_NOTIONAL] = mem[row + IN_MIN_NOTIONAL]
    mem[at + LL_QTY_UNIT] = mem[row + IN_QTY_UNIT]


@njit_bare
def fill_money(mem: Words, flt: Floats, direction: int) -> None:
    """Notional caps of both legs, without inventory."""
    floats = mem[H_DIRECTION_FLOATS] + direction * DF_WORDS
    row = direction_row(mem, direction)
    flt[MONEY + MN_BUY_CAP] = flt[mem[H_CAPS] + mem[row + DR_BUY]]
    flt[MONEY + MN_SELL_CAP] = flt[mem[H_CAPS] + mem[row + DR_SELL]]
    flt[MONEY + MN_SCALE] = flt[floats + DF_SCALE]
    flt[MONEY + MN_BUY_COST] = flt[floats + DF_BUY_COST]


@njit_bare
def size_at(mem: Words, flt: Floats, direction: int, num_column: int) -> int:
    """Sizes both legs at the episode threshold (DR_NUM) or the execution threshold (DR_EXEC_NUM); 1 or 0."""
    row = direction_row(mem, direction)
    return size_legs(
        mem,
        flt,
        BUY_RECORD,
        SELL_RECORD,
        mem[row + num_column],
        mem[row + num_column + 1],
        mem[row + DR_BUY_BASE_PPM],
        BUY_LIMITS,
        SELL_LIMITS,
        MONEY,
        SIZE,
    )


@njit_bare
def size_gates(ports: Ports, mem: Words, flt: Floats, direction: int) -> int:
    """Inventory, minimum and threshold gates; 0 leaves the sizes of both legs in SIZE."""
    row = direction_row(mem, direction)
    buy, sell = mem[row + DR_BUY], mem[row + DR_SELL]
    limited = len(ports.inventory) > 1
    fill_limits(mem, buy, BUY_LIMITS)
    fill_limits(mem, sell, SELL_LIMITS)
    fill_money(mem, flt, direction)
    if limited:
        sell_at = ROWS + ly.INVENTORY_ROW_WORDS
        buy_open = read_inventory(ports.inventory, mem, buy, ROWS)
        if not read_inventory(ports.inventory, mem, sell, sell_at) or not buy_open:
            return INVENTORY
        spendable = bits_to_f64(mem[ROWS + ly.IR_BUY_NOTIONAL])
        flt[MONEY + MN_BUY_CAP] = min(flt[MONEY + MN_BUY_CAP], spendable if spendable > 0.0 else 0.0)
        sellable = max(0, mem[sell_at + ly.IR_SELL_QTY_FP])
        mem[SELL_LIMITS + LL_MAX_QTY] = min(mem[SELL_LIMITS + LL_MAX_QTY], sellable)
    if size_at(mem, flt, direction, DR_EXEC_NUM):
        return 0
    if size_at(mem, flt, direction, DR_NUM):
        return BELOW_THRESHOLD
    if limited:
        fill_limits(mem, sell, SELL_LIMITS)
        fill_money(mem, flt, direction)
        if size_at(mem, flt, direction, DR_NUM):
            return INVENTORY
    return BELOW_MINIMUM


@njit_bare
def pair_gates(
    ports: Ports, mem: Words, flt: Floats, direction: int, buy_status: int, sell_status: int, now_ns: int
) -> int:
    """Every gate, in order, over copies of both books; 0 = may be pushed, sizes in SIZE."""
    row = direction_row(mem, direction)
    buy, sell = mem[row + DR_BUY], mem[row + DR_SELL]
    code = first_gate(
        book_gate(ports.feeds, mem, buy, BUY_LEG, buy_status, now_ns),
        book_gate(ports.feeds, mem, sell, SELL_LEG, sell_status, now_ns),
    )
    if code != 0:
        return code
    if abs(mem[PROOFS + BUY_LEG] - mem[PROOFS + SELL_LEG]) > mem[SE_MAX_SKEW_NS]:
        return SKEW
    if mem[row + DR_QUARANTINED] != 0:
        return QUARANTINED
    code = first_gate(status_gate(mem, buy, 1), status_gate(mem, sell, -1))
    if code != 0:
        return code
    code = size_gates(ports, mem, flt, direction)
    if code != 0:
        return code
    if now_ns < mem[episode_row(mem, direction) + EP_COOLDOWN_UNTIL_NS]:
        return COOLDOWN
    if len(ports.inventory) > 1:
        for leg in range(2):
            blocked_until = mem[ROWS + leg * ly.INVENTORY_ROW_WORDS + ly.IR_BLOCKED_UNTIL_MONO_NS]
            if mem[record_at(leg) + ly.BR_RECV_MONO_NS] < blocked_until:
                return NOT_AFTER_OWN_FILL
    return 0


@njit_bare
def judge_direction(ports: Ports, mem: Words, flt: Floats, direction: int) -> tuple[int, float]:
    """A direction as it stands, for who asks from outside the loop: the gate that refuses it (0 = none, sizes in SIZE),
    and the edge of the best prices in bps (0 where one is absent). All in one kernel: what compiles or loads at its
    first call does so before the books are read, not while they grow old."""
    row = direction_row(mem, direction)
    buy_status = read_leg(ports.feeds, mem, mem[row + DR_BUY], BUY_LEG)
    sell_status = read_leg(ports.feeds, mem, mem[row + DR_SELL], SELL_LEG)
    code = pair_gates(ports, mem, flt, direction, buy_status, sell_status, now_of(mem))
    ask = best_ask(mem, record_at(BUY_LEG)) if buy_status > 0 else ly.ABSENT_ASK
    bid = best_bid(mem, record_at(SELL_LEG)) if sell_status > 0 else ly.ABSENT_BID
    edge = 0.0
    if bid != ly.ABSENT_BID and ask != ly.ABSENT_ASK:
        edge = edge_bps(bid, ask, flt[mem[H_DIRECTION_FLOATS] + direction * DF_WORDS + DF_FEE])
    if code == 0 and not edge_exceeds(bid, ask, mem[row + DR_NUM], mem[row + DR_DEN]):
        code = BELOW_THRESHOLD
    return code, edge


@njit_bare
def push_direction(
    ports: Ports,
    mem: Words,
    flt: Floats,
    direction: int,
    trigger: int,
    trigger_recv_ns: int,
    trigger_pub_ns: int,
    now_ns: int,
) -> bool:
    """Builds the record of SIZE and pushes it. ``edge_bps`` is that of the sized trade after everything that the
    strategy charges, base dust at the sell limit; ``entry_edge_bps`` that of the best prices after entry fees."""
    row = direction_row(mem, direction)
    floats = mem[H_DIRECTION_FLOATS] + direction * DF_WORDS
    buy, sell = mem[row + DR_BUY], mem[row + DR_SELL]
    buy_qty, sell_qty = mem[SIZE + SZ_BUY_QTY], mem[SIZE + SZ_SELL_QTY]
    scale = flt[floats + DF_SCALE]
    spent = walked_value(mem, BUY_RECORD, ly.BR_ASK_PRICE, ly.BR_ASK_QTY, buy_qty) * scale
    brought = walked_value(mem, SELL_RECORD, ly.BR_BID_PRICE, ly.BR_BID_QTY, sell_qty) * scale
    kept = float(buy_qty) * (1.0 - float(mem[row + DR_BUY_BASE_PPM]) / 1e6)
    dust = (kept - float(sell_qty)) * float(mem[SIZE + SZ_SELL_LIMIT]) * scale
    cost = spent * flt[floats + DF_BUY_COST]
    profit = (brought + dust) * flt[floats + DF_SELL_KEEP] - cost - flt[floats + DF_COST] * spent
    pair = mem[instrument_row(mem, buy) + IN_PAIR]
    fill_header(mem, mem[row + DR_TYPE], pair, 2, mem[row + DR_KEY], trigger, trigger_recv_ns, trigger_pub_ns)
    ask, bid = best_ask(mem, BUY_RECORD), best_bid(mem, SELL_RECORD)
    fill_leg(mem, BUY_LEG, buy, 1, mem[SIZE + SZ_BUY_LIMIT], ask, buy_qty, spent)
    fill_leg(mem, SELL_LEG, sell, -1, mem[SIZE + SZ_SELL_LIMIT], bid, sell_qty, brought)
    entry = edge_bps(bid, ask, flt[floats + DF_FEE])
    return send_record(ports, mem, profit / cost * 1e4, entry, profit, now_ns)


@njit_bare
def evaluate_direction(
    ports: Ports, mem: Words, flt: Floats, direction: int, trigger: int, trigger_recv_ns: int, trigger_pub_ns: int
) -> None:
    """Exact edge on whole copies of both books; opens, carries on or ends the direction's episode.

    ``trigger`` -1: no single update led here; the later of both books is what was reacted to.
    """
    row = direction_row(mem, direction)
    if mem[row + DR_TYPE] < 0:
        return
    buy, sell = mem[row + DR_BUY], mem[row + DR_SELL]
    buy_status = read_leg(ports.feeds, mem, buy, BUY_LEG)
    sell_status = read_leg(ports.feeds, mem, sell, SELL_LEG)
    mem[C_EVALUATIONS] += 1
    if buy_status < 0 or sell_status < 0:
        mem[C_TORN] += 1
        return
    was = mem[episode_row(mem, direction) + EP_STATE]
    group_open = mem[H_GROUP_OPEN] + mem[instrument_row(mem, buy) + IN_GROUP]
    bid = best_bid(mem, SELL_RECORD) if sell_status > 0 else ly.ABSENT_BID
    ask = best_ask(mem, BUY_RECORD) if buy_status > 0 else ly.ABSENT_ASK
    broken = mem[SE_STRICT] != 0 and (
        (mem[BUY_RECORD + ly.BR_FLAGS] | mem[SELL_RECORD + ly.BR_FLAGS]) & ly.FLAGS_UNTRADABLE != 0
    )
    if broken or not edge_exceeds(bid, ask, mem[row + DR_NUM], mem[row + DR_DEN]):
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
        trigger_recv_ns = max(mem[BUY_RECORD + ly.BR_RECV_MONO_NS], mem[SELL_RECORD + ly.BR_RECV_MONO_NS])
        trigger_pub_ns = max(mem[BUY_RECORD + ly.BR_PUBLISH_MONO_NS], mem[SELL_RECORD + ly.BR_PUBLISH_MONO_NS])
    code = pair_gates(ports, mem, flt, direction, buy_status, sell_status, now_ns)
    if code == 0:
        if push_direction(ports, mem, flt, direction, trigger, trigger_recv_ns, trigger_pub_ns, now_ns):
            note_pushed(mem, direction, now_ns)
            return
        code = QUEUE_FULL
    note_refusal(mem, direction, code, now_ns)
