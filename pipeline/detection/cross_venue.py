"""Two-legged kernel: buy on one instrument of a pair, sell on another (spot-spot and spot-futures hedge).

The strategies differ in data only: the direction's thresholds already hold the fees and, for a hedge, all that it
costs beyond its entry (:mod:`pipeline.detection.spot_futures`).

One update: the updated member's best prices go to the group's tops; two contiguous rows of screen factors tell which
directions may have an edge; those, and the ones with an open episode, are evaluated on whole copies of both books.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.detection.edge import edge_bps, edge_exceeds, screen_ask, screen_bid
from pipeline.detection.episodes import close_episode, note_pushed, note_refusal, open_episode
from pipeline.detection.gates import (
    book_gate,
    first_gate,
    read_inventory,
    read_leg,
    status_gate,
)
from pipeline.detection.record import record_crc32
from pipeline.detection.state import (
    C_EVALUATIONS,
    C_TORN,
    CLOSED,
    EP_COOLDOWN_UNTIL_NS,
    EP_REARMED,
    EP_STATE,
    OPEN,
    PUSHED,
    SE_BELL_FD,
    SE_MAX_SKEW_NS,
    SE_NEXT_ID,
    SE_NOW_NS,
    Memory,
    State,
)
from pipeline.detection.topology import (
    DF_BUY_COST,
    DF_COST,
    DF_FEE,
    DF_SCALE,
    DF_SELL_KEEP,
    DR_BUY,
    DR_BUY_BASE_PPM,
    DR_DEN,
    DR_EXEC_NUM,
    DR_KEY,
    DR_NUM,
    DR_QUARANTINED,
    DR_SELL,
    DR_TYPE,
    GR_BLOCK,
    GR_COUNT,
    GR_START,
    IN_GROUP,
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
from pipeline.model.enums import Refusal
from shm import layout as ly
from shm.atomics import bits_to_f64, f64_to_bits, mono_ns
from shm.jit import njit
from shm.queue import push
from shm.wait import ring_if_sleeping

Words = npt.NDArray[np.int64]

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


@njit
def now_of(state: State) -> int:
    """The monotonic clock, or the recorded time of a replay."""
    return state.settings[SE_NOW_NS] if state.settings[SE_NOW_NS] != 0 else mono_ns()


@njit
def best_bid(record: Words) -> int:
    return record[ly.BR_BID_PRICE] if record[ly.BR_BID_COUNT] > 0 else ly.ABSENT_BID


@njit
def best_ask(record: Words) -> int:
    return record[ly.BR_ASK_PRICE] if record[ly.BR_ASK_COUNT] > 0 else ly.ABSENT_ASK


@njit
def fill_limits(topology: Topology, state: State, instrument: int, leg: int) -> None:
    """The leg's lots, minima and the venue's maximum, without inventory."""
    row = topology.instruments[instrument]
    out = state.limits[leg]
    out[LL_LOT] = row[IN_LOT]
    out[LL_MIN_QTY] = row[IN_MIN_QTY]
    out[LL_MAX_QTY] = row[IN_MAX_QTY]
    out[LL_MIN_NOTIONAL] = row[IN_MIN_NOTIONAL]
    out[LL_QTY_UNIT] = row[IN_QTY_UNIT]


@njit
def fill_money(topology: Topology, state: State, direction: int) -> None:
    """Notional caps of both legs, without inventory."""
    floats = topology.floats[direction]
    row = topology.directions[direction]
    state.money[MN_BUY_CAP] = topology.cap_quote[row[DR_BUY]]
    state.money[MN_SELL_CAP] = topology.cap_quote[row[DR_SELL]]
    state.money[MN_SCALE] = floats[DF_SCALE]
    state.money[MN_BUY_COST] = floats[DF_BUY_COST]


@njit
def size_at(topology: Topology, state: State, direction: int, num_column: int) -> int:
    """Sizes both legs at the episode threshold (DR_NUM) or the execution threshold (DR_EXEC_NUM); 1 or 0."""
    row = topology.directions[direction]
    return size_legs(
        state.records[BUY_LEG],
        state.records[SELL_LEG],
        row[num_column],
        row[num_column + 1],
        row[DR_BUY_BASE_PPM],
        state.limits[BUY_LEG],
        state.limits[SELL_LEG],
        state.money,
        state.size,
    )


@njit
def size_gates(memory: Memory, topology: Topology, state: State, direction: int) -> int:
    """Inventory, minimum and threshold gates; 0 leaves the sizes of both legs in ``state.size``."""
    row = topology.directions[direction]
    limited = len(memory.inventory) > 1
    fill_limits(topology, state, row[DR_BUY], BUY_LEG)
    fill_limits(topology, state, row[DR_SELL], SELL_LEG)
    fill_money(topology, state, direction)
    if limited:
        buy, sell = state.rows[BUY_LEG], state.rows[SELL_LEG]
        if not read_inventory(memory.inventory, row[DR_BUY], buy) or buy[ly.IR_STATE] != 1:
            return INVENTORY
        if not read_inventory(memory.inventory, row[DR_SELL], sell) or sell[ly.IR_STATE] != 1:
            return INVENTORY
        spendable = bits_to_f64(buy[ly.IR_BUY_NOTIONAL])
        state.money[MN_BUY_CAP] = min(state.money[MN_BUY_CAP], spendable if spendable > 0.0 else 0.0)
        state.limits[SELL_LEG, LL_MAX_QTY] = min(state.limits[SELL_LEG, LL_MAX_QTY], max(0, sell[ly.IR_SELL_QTY_FP]))
    if size_at(topology, state, direction, DR_EXEC_NUM):
        return 0
    if size_at(topology, state, direction, DR_NUM):
        return BELOW_THRESHOLD
    if limited:
        fill_limits(topology, state, row[DR_SELL], SELL_LEG)
        fill_money(topology, state, direction)
        if size_at(topology, state, direction, DR_NUM):
            return INVENTORY
    return BELOW_MINIMUM


@njit
def pair_gates(
    memory: Memory, topology: Topology, state: State, direction: int, buy_status: int, sell_status: int, now_ns: int
) -> int:
    """Every gate, in order, over copies of both books; 0 = may be pushed, sizes in ``state.size``."""
    row = topology.directions[direction]
    buy, sell = row[DR_BUY], row[DR_SELL]
    code = first_gate(
        book_gate(memory, topology, state, buy, BUY_LEG, buy_status, now_ns),
        book_gate(memory, topology, state, sell, SELL_LEG, sell_status, now_ns),
    )
    if code != 0:
        return code
    if abs(state.proofs[BUY_LEG] - state.proofs[SELL_LEG]) > state.settings[SE_MAX_SKEW_NS]:
        return SKEW
    if row[DR_QUARANTINED] != 0:
        return QUARANTINED
    code = first_gate(status_gate(topology, buy, 1), status_gate(topology, sell, -1))
    if code != 0:
        return code
    code = size_gates(memory, topology, state, direction)
    if code != 0:
        return code
    if now_ns < state.episodes[direction, EP_COOLDOWN_UNTIL_NS]:
        return COOLDOWN
    if len(memory.inventory) > 1:
        for leg in range(2):
            if state.records[leg, ly.BR_RECV_MONO_NS] < state.rows[leg, ly.IR_BLOCKED_UNTIL_MONO_NS]:
                return NOT_AFTER_OWN_FILL
    return 0


@njit
def fill_leg(
    state: State, leg: int, instrument: int, side: int, limit: int, best: int, qty: int, notional: float
) -> None:
    """One leg of the opportunity record from ``state.records[leg]``."""
    out = state.opportunity
    at = ly.OP_LEGS + leg * ly.LEG_WORDS
    record = state.records[leg]
    out[at + ly.LEG_INSTRUMENT] = instrument
    out[at + ly.LEG_SIDE] = side
    out[at + ly.LEG_LIMIT_PRICE_FP] = limit
    out[at + ly.LEG_QTY_FP] = qty
    out[at + ly.LEG_BOOK_SEQ] = record[ly.BR_SEQ]
    out[at + ly.LEG_UPDATE_ID] = record[ly.BR_UPDATE_ID]
    out[at + ly.LEG_PROOF_MONO_NS] = state.proofs[leg]
    out[at + ly.LEG_RECV_MONO_NS] = record[ly.BR_RECV_MONO_NS]
    out[at + ly.LEG_BEST_PRICE_FP] = best
    out[at + ly.LEG_NOTIONAL] = f64_to_bits(notional)
    out[at + ly.LEG_ROW_EPOCH] = record[ly.BR_ROW_EPOCH]
    out[at + ly.LEG_WRITER_EPOCH] = record[ly.BR_WRITER_EPOCH]


@njit
def fill_header(
    state: State, kind: int, pair: int, legs: int, key: int, trigger: int, trigger_recv_ns: int, trigger_pub_ns: int
) -> None:
    """Everything of the record but legs, edges and checksum; takes the next id."""
    out = state.opportunity
    out[:] = 0
    out[ly.OP_ID] = state.settings[SE_NEXT_ID]
    state.settings[SE_NEXT_ID] += 1
    out[ly.OP_TYPE] = kind
    out[ly.OP_PAIR] = pair
    out[ly.OP_LEG_COUNT] = legs
    out[ly.OP_TRIGGER_RECV_MONO_NS] = trigger_recv_ns
    out[ly.OP_TRIGGER_PUBLISH_MONO_NS] = trigger_pub_ns
    out[ly.OP_TRIGGER_INSTRUMENT] = trigger
    out[ly.OP_DIRECTION_KEY] = key


@njit
def send_record(memory: Memory, state: State, edge: float, entry: float, profit: float, now_ns: int) -> bool:
    """Stamps, sums and pushes ``state.opportunity`` and rings the executor; False = the queue is full."""
    out = state.opportunity
    out[ly.OP_EDGE_BPS] = f64_to_bits(edge)
    out[ly.OP_ENTRY_EDGE_BPS] = f64_to_bits(entry)
    out[ly.OP_PROFIT_QUOTE] = f64_to_bits(profit)
    out[ly.OP_DETECT_MONO_NS] = now_ns
    out[ly.OP_CRC32] = record_crc32(out)
    pushed = push(memory.opps, 0, memory.opps_cursor, 0, out)
    ring_if_sleeping(memory.opps_cursor, ly.C_SLEEPING, state.settings[SE_BELL_FD])
    return pushed


@njit
def push_direction(
    memory: Memory,
    topology: Topology,
    state: State,
    direction: int,
    trigger: int,
    trigger_recv_ns: int,
    trigger_pub_ns: int,
    now_ns: int,
) -> bool:
    """Builds the record of ``state.size`` and pushes it. ``edge_bps`` is that of the sized trade after everything that
    the strategy charges, base dust at the sell limit; ``entry_edge_bps`` that of the best prices after entry fees."""
    row = topology.directions[direction]
    floats = topology.floats[direction]
    buy_record, sell_record = state.records[BUY_LEG], state.records[SELL_LEG]
    size = state.size
    scale = floats[DF_SCALE]
    spent = walked_value(buy_record, ly.BR_ASK_PRICE, ly.BR_ASK_QTY, size[SZ_BUY_QTY]) * scale
    brought = walked_value(sell_record, ly.BR_BID_PRICE, ly.BR_BID_QTY, size[SZ_SELL_QTY]) * scale
    kept = float(size[SZ_BUY_QTY]) * (1.0 - float(row[DR_BUY_BASE_PPM]) / 1e6)
    dust = (kept - float(size[SZ_SELL_QTY])) * float(size[SZ_SELL_LIMIT]) * scale
    cost = spent * floats[DF_BUY_COST]
    profit = (brought + dust) * floats[DF_SELL_KEEP] - cost - floats[DF_COST] * spent
    pair = topology.instruments[row[DR_BUY], IN_PAIR]
    fill_header(state, row[DR_TYPE], pair, 2, row[DR_KEY], trigger, trigger_recv_ns, trigger_pub_ns)
    ask, bid = best_ask(buy_record), best_bid(sell_record)
    fill_leg(state, BUY_LEG, row[DR_BUY], 1, size[SZ_BUY_LIMIT], ask, size[SZ_BUY_QTY], spent)
    fill_leg(state, SELL_LEG, row[DR_SELL], -1, size[SZ_SELL_LIMIT], bid, size[SZ_SELL_QTY], brought)
    return send_record(memory, state, profit / cost * 1e4, edge_bps(bid, ask, floats[DF_FEE]), profit, now_ns)


@njit
def store_tops(state: State, slot: int, record: Words) -> None:
    """The member's best prices as the screen compares them."""
    state.top_bid[slot] = screen_bid(best_bid(record))
    state.top_ask[slot] = screen_ask(best_ask(record))


@njit
def evaluate_direction(
    memory: Memory,
    topology: Topology,
    state: State,
    direction: int,
    trigger: int,
    trigger_recv_ns: int,
    trigger_pub_ns: int,
) -> None:
    """Exact edge on whole copies of both books; opens, carries on or ends the direction's episode."""
    row = topology.directions[direction]
    if row[DR_TYPE] < 0:
        return
    group = topology.instruments[row[DR_BUY], IN_GROUP]
    buy_status = read_leg(memory, topology, state, row[DR_BUY], BUY_LEG)
    sell_status = read_leg(memory, topology, state, row[DR_SELL], SELL_LEG)
    state.counters[C_EVALUATIONS] += 1
    if buy_status < 0 or sell_status < 0:
        state.counters[C_TORN] += 1
        return
    was = state.episodes[direction, EP_STATE]
    bid = best_bid(state.records[SELL_LEG]) if sell_status > 0 else ly.ABSENT_BID
    ask = best_ask(state.records[BUY_LEG]) if buy_status > 0 else ly.ABSENT_ASK
    if not edge_exceeds(bid, ask, row[DR_NUM], row[DR_DEN]):
        if was != CLOSED:
            close_episode(state, direction)
            state.group_open[group] -= 1
        return
    now_ns = now_of(state)
    episode = state.episodes[direction]
    if was == PUSHED and (episode[EP_REARMED] == 0 or now_ns < episode[EP_COOLDOWN_UNTIL_NS]):
        return
    if was == CLOSED:
        state.group_open[group] += 1
    if was != OPEN:
        open_episode(state, direction, now_ns)
    code = pair_gates(memory, topology, state, direction, buy_status, sell_status, now_ns)
    if code == 0:
        if push_direction(memory, topology, state, direction, trigger, trigger_recv_ns, trigger_pub_ns, now_ns):
            note_pushed(state, direction, now_ns)
            return
        code = QUEUE_FULL
    note_refusal(state, direction, code, now_ns)


@njit
def check_member(
    memory: Memory, topology: Topology, state: State, instrument: int, trigger_recv_ns: int, trigger_pub_ns: int
) -> None:
    """All directions that touch ``instrument`` after its tops changed. Cost: linear in its group alone."""
    slot = topology.instruments[instrument, IN_SLOT]
    if slot < 0:
        return
    group = topology.instruments[instrument, IN_GROUP]
    start = topology.groups[group, GR_START]
    count = topology.groups[group, GR_COUNT]
    block = topology.groups[group, GR_BLOCK]
    own = slot - start
    row = block + own * count
    bid, ask = state.top_bid[slot], state.top_ask[slot]
    busy = state.group_open[group] > 0
    for k in range(count):
        may_buy = state.top_bid[start + k] >= ask * topology.need[row + k]
        may_sell = bid >= state.top_ask[start + k] * topology.need_t[row + k]
        if may_buy or (busy and state.episodes[row + k, EP_STATE] != CLOSED):
            evaluate_direction(memory, topology, state, row + k, instrument, trigger_recv_ns, trigger_pub_ns)
        direction = block + k * count + own
        if may_sell or (busy and state.episodes[direction, EP_STATE] != CLOSED):
            evaluate_direction(memory, topology, state, direction, instrument, trigger_recv_ns, trigger_pub_ns)
