"""Building and pushing the opportunity record (``OPPORTUNITY``), shared by all kernels.

What one event offers is held until all of its hits have been judged, and then pushed by expected net profit, greatest
first: two hits may need the same balance, book or order budget, and the executor takes records in their order.
"""

# Kernels: words of an array are int64 to numba, Any to mypy.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.detection.episodes import episode_row, note_pushed, note_refusal
from pipeline.detection.gates import record_at
from pipeline.detection.input_log import (
    NOT_PUSHED,
    NOW,
    OFF,
    RECORDING,
    REPLAYING,
    log_pushed,
    note_one,
    take,
    take_pushed,
)
from pipeline.detection.kernel_arrays import NOTHING, Ports
from pipeline.detection.memory import (
    DETECTOR,
    DETECTOR_FLOATS,
    DETECTOR_SETTINGS,
    EPISODE,
    HELD,
    HELD_CAPACITY,
    INPUT_LOG,
    OPEN,
)
from pipeline.detection.opportunity_record import record_crc32
from pipeline.model.enums import Refusal
from shm.atomics import f64_to_bits, mono_ns
from shm.jit import njit_bare
from shm.layout import ABSENT_ASK, ABSENT_BID, BOOK, CURSOR, LEG, OPPORTUNITY
from shm.metrics import hist_record
from shm.queue import push
from shm.wait import ring_if_sleeping
from shm.words import Words

Floats = npt.NDArray[np.float64]

BELOW_MIN_PROFIT = int(Refusal.BELOW_MIN_PROFIT)
QUEUE_FULL = int(Refusal.QUEUE_FULL)


@njit_bare
def now_of(mem: Words) -> int:
    """The monotonic clock, or the recorded time of a replay."""
    if mem[DETECTOR_SETTINGS.now_ns] != 0:
        return mem[DETECTOR_SETTINGS.now_ns]
    mode = mem[INPUT_LOG.mode]
    if mode == REPLAYING:
        at = take(mem, NOW)
        return mem[at + 1] if at >= 0 else 0
    now_ns = mono_ns()
    if mode != OFF:
        note_one(mem, NOW, now_ns)
    return now_ns


@njit_bare
def clock_of(mem: Words) -> int:
    """The same for what decides only when something is looked at again: never written down."""
    return mem[DETECTOR_SETTINGS.now_ns] if mem[DETECTOR_SETTINGS.now_ns] != 0 else mono_ns()


@njit_bare
def best_bid(mem: Words, record: int) -> int:
    """Best bid of the BOOK at word ``record`` of the detector's memory, price_fp; ABSENT_BID where there is none."""
    return mem[record + BOOK.bid_price_fp] if mem[record + BOOK.bid_count] > 0 else ABSENT_BID


@njit_bare
def best_ask(mem: Words, record: int) -> int:
    """Best ask of the BOOK at word ``record`` of the detector's memory, price_fp; ABSENT_ASK where there is none."""
    return mem[record + BOOK.ask_price_fp] if mem[record + BOOK.ask_count] > 0 else ABSENT_ASK


@njit_bare
def fill_leg(
    mem: Words, leg: int, instrument: int, side: int, limit: int, best: int, qty: int, notional: float
) -> None:
    """One leg of the opportunity record from the leg's book copy; ``notional`` in quote."""
    at = DETECTOR.opportunity + OPPORTUNITY.legs + leg * LEG.WORDS
    record = record_at(leg)
    mem[at + LEG.instrument] = instrument
    mem[at + LEG.side] = side
    mem[at + LEG.limit_price_fp] = limit
    mem[at + LEG.qty_fp] = qty
    mem[at + LEG.book_seq] = mem[record + BOOK.seq]
    mem[at + LEG.update_id] = mem[record + BOOK.update_id]
    mem[at + LEG.proof_mono_ns] = mem[DETECTOR.proofs + leg]
    mem[at + LEG.recv_mono_ns] = mem[record + BOOK.recv_mono_ns]
    mem[at + LEG.best_price_fp] = best
    mem[at + LEG.notional] = f64_to_bits(notional)
    mem[at + LEG.row_epoch] = mem[record + BOOK.row_epoch]
    mem[at + LEG.writer_epoch] = mem[record + BOOK.writer_epoch]


@njit_bare
def fill_header(
    mem: Words, kind: int, pair: int, legs: int, key: int, trigger: int, trigger_recv_ns: int, trigger_pub_ns: int
) -> None:
    """Everything of the record but legs, edges, id and checksum."""
    for k in range(OPPORTUNITY.WORDS):
        mem[DETECTOR.opportunity + k] = 0
    mem[DETECTOR.opportunity + OPPORTUNITY.type] = kind
    mem[DETECTOR.opportunity + OPPORTUNITY.pair] = pair
    mem[DETECTOR.opportunity + OPPORTUNITY.leg_count] = legs
    mem[DETECTOR.opportunity + OPPORTUNITY.trigger_recv_mono_ns] = trigger_recv_ns
    mem[DETECTOR.opportunity + OPPORTUNITY.trigger_publish_mono_ns] = trigger_pub_ns
    mem[DETECTOR.opportunity + OPPORTUNITY.trigger_instrument] = trigger
    mem[DETECTOR.opportunity + OPPORTUNITY.direction_key] = key


@njit_bare
def profit_gate(flt: Floats, profit: float, price: float, usd: float) -> int:
    """Whether the trade that was sized is worth the least profit: 0, or the refusal. Leaves ``profit`` (start asset)
    and what it is worth in USD, less the ``price`` of the inventory that it moves, for the record and its rank.

    ``usd``: of one unit of the start asset; 0 = unknown, which is never worth enough.
    """
    flt[DETECTOR_FLOATS.profit] = profit
    flt[DETECTOR_FLOATS.worth_usd] = (profit - price) * usd if usd > 0.0 else -np.inf
    return 0 if flt[DETECTOR_FLOATS.worth_usd] >= flt[DETECTOR_FLOATS.min_profit_usd] else BELOW_MIN_PROFIT


@njit_bare
def fill_edges(mem: Words, edge: float, entry: float, profit: float) -> None:
    """Edges (bps) and profit of the record that is being built."""
    mem[DETECTOR.opportunity + OPPORTUNITY.edge_bps] = f64_to_bits(edge)
    mem[DETECTOR.opportunity + OPPORTUNITY.entry_edge_bps] = f64_to_bits(entry)
    mem[DETECTOR.opportunity + OPPORTUNITY.profit_quote] = f64_to_bits(profit)


@njit_bare
def hold_record(ports: Ports, mem: Words, flt: Floats, episode: int) -> None:
    """Keeps the record that was built, with its rank, until :func:`send_held`."""
    if mem[DETECTOR.held_count] >= HELD_CAPACITY:
        send_held(ports, mem, flt)
    count = mem[DETECTOR.held_count]
    at = mem[DETECTOR.held_off] + count * OPPORTUNITY.WORDS
    for k in range(OPPORTUNITY.WORDS):
        mem[at + k] = mem[DETECTOR.opportunity + k]
    mem[mem[DETECTOR.held_of_off] + count] = episode
    flt[mem[DETECTOR.held_worth_off] + count] = flt[DETECTOR_FLOATS.worth_usd]
    mem[DETECTOR.held_count] = count + 1
    mem[episode_row(mem, episode) + EPISODE.state] = HELD


@njit_bare
def send_held(ports: Ports, mem: Words, flt: Floats) -> None:
    """Pushes what is held, greatest expected net profit first, equal ones in the order of their hits. All of them are
    detected now: the executor takes a record only if its stamp and id are later than the last one's."""
    count = mem[DETECTOR.held_count]
    if count == 0:
        return
    now_ns = now_of(mem)
    episodes, worth = mem[DETECTOR.held_of_off], mem[DETECTOR.held_worth_off]
    for _ in range(count):
        best = -1
        for k in range(count):
            if mem[episodes + k] >= 0 and (best < 0 or flt[worth + k] > flt[worth + best]):
                best = k
        episode = mem[episodes + best]
        mem[episodes + best] = -1
        mem[episode_row(mem, episode) + EPISODE.state] = OPEN
        if send_record(ports, mem, mem[DETECTOR.held_off] + best * OPPORTUNITY.WORDS, now_ns):
            note_pushed(mem, episode, now_ns)
        else:
            note_refusal(mem, episode, QUEUE_FULL, now_ns)
    mem[DETECTOR.held_count] = 0


@njit_bare
def send_record(ports: Ports, mem: Words, at: int, now_ns: int) -> bool:
    """Numbers, stamps, sums and pushes the record at word ``at`` and rings the executor; False = the queue is full."""
    record = mem[at : at + OPPORTUNITY.WORDS]
    record[OPPORTUNITY.id] = mem[DETECTOR_SETTINGS.next_id]
    mem[DETECTOR_SETTINGS.next_id] += 1
    record[OPPORTUNITY.detect_mono_ns] = now_ns
    record[OPPORTUNITY.crc32] = record_crc32(record)
    mode = mem[INPUT_LOG.mode]
    if mode == REPLAYING and not take_pushed(mem, record):
        return False
    if not push(ports.opps, 0, ports.opps_cursor, 0, record):
        note_one(mem, NOT_PUSHED, 0)
        return False
    if mode == RECORDING:
        log_pushed(mem, record)
    ring_if_sleeping(ports.opps_cursor, CURSOR.sleeping, mem[DETECTOR_SETTINGS.bell_fd])
    if len(ports.metrics) > NOTHING:
        hist_record(
            ports.metrics,
            0,
            mem[DETECTOR_SETTINGS.hist_publish],
            now_ns - record[OPPORTUNITY.trigger_publish_mono_ns],
        )
        hist_record(
            ports.metrics,
            0,
            mem[DETECTOR_SETTINGS.hist_receive],
            now_ns - record[OPPORTUNITY.trigger_recv_mono_ns],
        )
    return True
