"""Exits of open hedges: the executor's thresholds beside the directions, compared exactly on every update.

A hedge leaves by trading the direction opposite to its entry on the same two instruments. The executor writes one row
for each such direction into the inventory page (``shm.layout_pages`` EXIT_ROW): ``1000 y`` at or below which leaving
beats holding. A direction with a row is looked at on every update of either book, exit first: while it has a row it is
no entry, so what the exit needs of the books is never spent on a second hedge.

The comparison is ``s (F - S) 10^7 <= Y S`` with F and S the best prices of leaving: in float64 first, with a bound on
its error, then in integers without rounding. The executor walks the depth on books that it reads again.
"""

# Kernels: words of an array are int64 to numba, Any to mypy.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.detection.edge import has_ask, has_bid, product_exceeds
from pipeline.detection.episodes import close_episode, episode_row
from pipeline.detection.gates import book_gate, first_gate, instrument_row, read_leg, record_at
from pipeline.detection.kernel_arrays import Ports
from pipeline.detection.memory import CLOSED, DETECTOR, DETECTOR_COUNTERS, DETECTOR_SETTINGS, EPISODE, EXIT
from pipeline.detection.publish import best_ask, best_bid, fill_edges, fill_header, fill_leg, now_of, send_record
from pipeline.detection.topology import DIRECTION, DIRECTION_FLOATS, GROUP, INSTRUMENT
from pipeline.model.enums import OpportunityType
from shm.jit import njit_bare
from shm.layout import BOOK
from shm.layout_pages import CATALOGUE_CAPACITY, EXIT_CAPACITY, EXIT_ROW, INVENTORY
from shm.pages import read_row
from shm.words import Words

Floats = npt.NDArray[np.float64]

HEDGE_EXIT = int(OpportunityType.HEDGE_EXIT)
SCALE = 10_000_000  # 10^4 bps in a whole times 10^3 milli-bps in a bps
SCREEN_ERROR = 2.0**-46  # far above the rounding of the four products and sums that the screen makes
EXIT_COOLDOWN_NS = 25_000_000  # a pushed exit is not pushed again before: the executor answers with another row


@njit_bare
def leaves_exactly(futures: int, spot: int, milli_bps: int, s: int) -> bool:
    """``s (F - S) 10^7 <= Y S`` without rounding, for prices in (0, 2**62) and |Y| < 2**62."""
    basis = futures - spot if s > 0 else spot - futures
    if basis >= 0:
        return milli_bps >= 0 and not product_exceeds(basis, SCALE, milli_bps, spot)
    return milli_bps >= 0 or not product_exceeds(-milli_bps, spot, -basis, SCALE)


@njit_bare
def may_leave(futures: float, spot: float, milli_bps: int, s: int) -> bool:
    """The same in floats, true wherever the exact comparison is: it may only let too much through."""
    left = float(s) * (futures - spot) * float(SCALE)
    right = float(milli_bps) * spot
    return left - right <= SCREEN_ERROR * ((futures + spot) * float(SCALE) + abs(right))


@njit_bare
def direction_of_key(mem: Words, key: int) -> int:
    """Direction index of a key of two instruments; -1 = unknown (the catalogue changed meanwhile)."""
    if key < 0:
        return -1
    buy, sell = key // CATALOGUE_CAPACITY, key % CATALOGUE_CAPACITY
    if buy >= mem[DETECTOR.instrument_count] or sell >= mem[DETECTOR.instrument_count]:
        return -1
    buy_row, sell_row = instrument_row(mem, buy), instrument_row(mem, sell)
    group = mem[buy_row + INSTRUMENT.group]
    if group < 0 or mem[sell_row + INSTRUMENT.group] != group:
        return -1
    at = mem[DETECTOR.groups_off] + group * GROUP.WORDS
    first = mem[at + GROUP.first_slot]
    i, j = mem[buy_row + INSTRUMENT.slot] - first, mem[sell_row + INSTRUMENT.slot] - first
    return mem[at + GROUP.block] + i * mem[at + GROUP.count] + j


@njit_bare
def group_open_word(mem: Words, direction: int) -> int:
    """Word that counts what is open in the direction's group: episodes, and exits."""
    buy = mem[mem[DETECTOR.directions_off] + direction * DIRECTION.WORDS + DIRECTION.buy]
    return mem[DETECTOR.group_open_off] + mem[instrument_row(mem, buy) + INSTRUMENT.group]


@njit_bare
def load_exits(inventory: Words, mem: Words, version: int) -> None:
    """Takes the executor's rows over. An open entry episode of such a direction ends: the exit comes first."""
    rows, exit_of = mem[DETECTOR.exits_off], mem[DETECTOR.exit_of_off]
    for k in range(mem[DETECTOR.exit_count]):
        direction = mem[rows + k * EXIT.WORDS + EXIT.direction]
        mem[exit_of + direction] = 0
        mem[group_open_word(mem, direction)] -= 1
    count = 0
    scratch = mem[DETECTOR.exit_row : DETECTOR.exit_row + EXIT_ROW.WORDS]
    for k in range(EXIT_CAPACITY):
        if read_row(inventory, INVENTORY.exits + k * EXIT_ROW.WORDS, scratch) <= 0 or scratch[EXIT_ROW.state] != 1:
            continue
        direction = direction_of_key(mem, scratch[EXIT_ROW.direction_key])
        if direction < 0 or mem[exit_of + direction] != 0:
            continue
        row = rows + count * EXIT.WORDS
        mem[row + EXIT.direction] = direction
        mem[row + EXIT.threshold_milli_bps] = scratch[EXIT_ROW.threshold_milli_bps]
        mem[row + EXIT.side] = scratch[EXIT_ROW.side]
        mem[row + EXIT.qty_fp] = scratch[EXIT_ROW.qty_fp]
        mem[row + EXIT.cooldown_until_ns] = 0
        count += 1
        mem[exit_of + direction] = count
        if mem[episode_row(mem, direction) + EPISODE.state] == CLOSED:
            mem[group_open_word(mem, direction)] += 1
        else:
            close_episode(mem, direction)  # its place in the group's count is the exit's now
    mem[DETECTOR.exit_count] = count
    mem[DETECTOR_SETTINGS.exit_version] = version


@njit_bare
def evaluate_exit(
    ports: Ports, mem: Words, flt: Floats, direction: int, trigger: int, trigger_recv_ns: int, trigger_pub_ns: int
) -> None:
    """Pushes the direction's exit where its best prices are at or below the threshold, on books that may be traded on
    by choice (proof, age, skew)."""
    row = mem[DETECTOR.exits_off] + (mem[mem[DETECTOR.exit_of_off] + direction] - 1) * EXIT.WORDS
    at = mem[DETECTOR.directions_off] + direction * DIRECTION.WORDS
    buy, sell, s = mem[at + DIRECTION.buy], mem[at + DIRECTION.sell], mem[row + EXIT.side]
    threshold = mem[row + EXIT.threshold_milli_bps]
    top_ask = flt[mem[DETECTOR.top_ask_off] + mem[instrument_row(mem, buy) + INSTRUMENT.slot]]
    top_bid = flt[mem[DETECTOR.top_bid_off] + mem[instrument_row(mem, sell) + INSTRUMENT.slot]]
    if not (top_ask < np.inf and top_bid > 0.0):
        return
    if not may_leave(top_ask if s > 0 else top_bid, top_bid if s > 0 else top_ask, threshold, s):
        return
    buy_status, sell_status = read_leg(ports.feeds, mem, buy, 0), read_leg(ports.feeds, mem, sell, 1)
    now_ns = now_of(mem)
    code = first_gate(
        book_gate(ports.feeds, mem, buy, 0, buy_status, now_ns),
        book_gate(ports.feeds, mem, sell, 1, sell_status, now_ns),
    )
    skew_ns = abs(mem[DETECTOR.proofs] - mem[DETECTOR.proofs + 1])
    if code != 0 or skew_ns > mem[DETECTOR_SETTINGS.max_skew_ns] or now_ns < mem[row + EXIT.cooldown_until_ns]:
        return
    ask, bid = best_ask(mem, record_at(0)), best_bid(mem, record_at(1))
    if not has_ask(ask) or not has_bid(bid):
        return
    futures, spot = (ask, bid) if s > 0 else (bid, ask)
    if not leaves_exactly(futures, spot, threshold, s):
        return
    if trigger < 0:
        trigger = buy
        trigger_recv_ns = max(mem[record_at(0) + BOOK.recv_mono_ns], mem[record_at(1) + BOOK.recv_mono_ns])
        trigger_pub_ns = max(mem[record_at(0) + BOOK.publish_mono_ns], mem[record_at(1) + BOOK.publish_mono_ns])
    qty = mem[row + EXIT.qty_fp]
    scale = flt[mem[DETECTOR.direction_floats_off] + direction * DIRECTION_FLOATS.WORDS + DIRECTION_FLOATS.scale]
    notional = float(qty) * float(spot) * scale
    y_bps = float(s) * (float(futures) - float(spot)) / float(spot) * 1e4
    gained_bps = float(threshold) / 1e3 - y_bps
    pair = mem[instrument_row(mem, buy) + INSTRUMENT.pair]
    fill_header(mem, HEDGE_EXIT, pair, 2, mem[at + DIRECTION.key], trigger, trigger_recv_ns, trigger_pub_ns)
    fill_leg(mem, 0, buy, 1, ask, ask, qty, notional)
    fill_leg(mem, 1, sell, -1, bid, bid, qty, notional)
    fill_edges(mem, gained_bps, -y_bps, gained_bps / 1e4 * notional)
    if send_record(ports, mem, DETECTOR.opportunity, now_ns):
        mem[row + EXIT.cooldown_until_ns] = now_ns + EXIT_COOLDOWN_NS
        mem[DETECTOR_COUNTERS.exits] += 1
