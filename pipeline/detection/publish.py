"""Building and pushing the opportunity record (``shm.layout`` OP_*), shared by all kernels."""

# Kernels: words of an array are int64 to numba, Any to mypy.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.detection.gates import record_at
from pipeline.detection.kernel_arrays import NOTHING, Ports
from pipeline.detection.memory import (
    OPPORTUNITY,
    PROOFS,
    SE_BELL_FD,
    SE_HIST_PUBLISH,
    SE_HIST_RECEIVE,
    SE_NEXT_ID,
    SE_NOW_NS,
)
from pipeline.detection.opportunity_record import record_crc32
from shm import layout as ly
from shm.atomics import f64_to_bits, mono_ns
from shm.jit import njit_bare
from shm.metrics import hist_record
from shm.queue import push
from shm.wait import ring_if_sleeping

Words = npt.NDArray[np.int64]


@njit_bare
def now_of(mem: Words) -> int:
    """The monotonic clock, or the recorded time of a replay."""
    return mem[SE_NOW_NS] if mem[SE_NOW_NS] != 0 else mono_ns()


@njit_bare
def best_bid(mem: Words, record: int) -> int:
    """Best bid of the record at word ``record``."""
    return mem[record + ly.BR_BID_PRICE] if mem[record + ly.BR_BID_COUNT] > 0 else ly.ABSENT_BID


@njit_bare
def best_ask(mem: Words, record: int) -> int:
    """Best ask of the record at word ``record``."""
    return mem[record + ly.BR_ASK_PRICE] if mem[record + ly.BR_ASK_COUNT] > 0 else ly.ABSENT_ASK


@njit_bare
def fill_leg(
    mem: Words, leg: int, instrument: int, side: int, limit: int, best: int, qty: int, notional: float
) -> None:
    """One leg of the opportunity record from the leg's book copy; ``notional`` in quote."""
    at = OPPORTUNITY + ly.OP_LEGS + leg * ly.LEG_WORDS
    record = record_at(leg)
    mem[at + ly.LEG_INSTRUMENT] = instrument
    mem[at + ly.LEG_SIDE] = side
    mem[at + ly.LEG_LIMIT_PRICE_FP] = limit
    mem[at + ly.LEG_QTY_FP] = qty
    mem[at + ly.LEG_BOOK_SEQ] = mem[record + ly.BR_SEQ]
    mem[at + ly.LEG_UPDATE_ID] = mem[record + ly.BR_UPDATE_ID]
    mem[at + ly.LEG_PROOF_MONO_NS] = mem[PROOFS + leg]
    mem[at + ly.LEG_RECV_MONO_NS] = mem[record + ly.BR_RECV_MONO_NS]
    mem[at + ly.LEG_BEST_PRICE_FP] = best
    mem[at + ly.LEG_NOTIONAL] = f64_to_bits(notional)
    mem[at + ly.LEG_ROW_EPOCH] = mem[record + ly.BR_ROW_EPOCH]
    mem[at + ly.LEG_WRITER_EPOCH] = mem[record + ly.BR_WRITER_EPOCH]


@njit_bare
def fill_header(
    mem: Words, kind: int, pair: int, legs: int, key: int, trigger: int, trigger_recv_ns: int, trigger_pub_ns: int
) -> None:
    """Everything of the record but legs, edges and checksum; takes the next id."""
    for k in range(ly.OPPORTUNITY_WORDS):
        mem[OPPORTUNITY + k] = 0
    mem[OPPORTUNITY + ly.OP_ID] = mem[SE_NEXT_ID]
    mem[SE_NEXT_ID] += 1
    mem[OPPORTUNITY + ly.OP_TYPE] = kind
    mem[OPPORTUNITY + ly.OP_PAIR] = pair
    mem[OPPORTUNITY + ly.OP_LEG_COUNT] = legs
    mem[OPPORTUNITY + ly.OP_TRIGGER_RECV_MONO_NS] = trigger_recv_ns
    mem[OPPORTUNITY + ly.OP_TRIGGER_PUBLISH_MONO_NS] = trigger_pub_ns
    mem[OPPORTUNITY + ly.OP_TRIGGER_INSTRUMENT] = trigger
    mem[OPPORTUNITY + ly.OP_DIRECTION_KEY] = key


@njit_bare
def send_record(ports: Ports, mem: Words, edge: float, entry: float, profit: float, now_ns: int) -> bool:
    """Stamps, sums and pushes the record and rings the executor; False = the queue is full."""
    record = mem[OPPORTUNITY : OPPORTUNITY + ly.OPPORTUNITY_WORDS]
    record[ly.OP_EDGE_BPS] = f64_to_bits(edge)
    record[ly.OP_ENTRY_EDGE_BPS] = f64_to_bits(entry)
    record[ly.OP_PROFIT_QUOTE] = f64_to_bits(profit)
    record[ly.OP_DETECT_MONO_NS] = now_ns
    record[ly.OP_CRC32] = record_crc32(record)
    if not push(ports.opps, 0, ports.opps_cursor, 0, record):
        return False
    ring_if_sleeping(ports.opps_cursor, ly.C_SLEEPING, mem[SE_BELL_FD])
    if len(ports.metrics) > NOTHING:
        hist_record(ports.metrics, 0, mem[SE_HIST_PUBLISH], now_ns - record[ly.OP_TRIGGER_PUBLISH_MONO_NS])
        hist_record(ports.metrics, 0, mem[SE_HIST_RECEIVE], now_ns - record[ly.OP_TRIGGER_RECV_MONO_NS])
    return True
