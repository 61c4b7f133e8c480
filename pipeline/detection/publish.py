"""Building and pushing the opportunity record (``OPPORTUNITY``), shared by all kernels."""

# Kernels: words of an array are int64 to numba, Any to mypy.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

from pipeline.detection.gates import record_at
from pipeline.detection.kernel_arrays import NOTHING, Ports
from pipeline.detection.memory import DETECTOR, DETECTOR_SETTINGS
from pipeline.detection.opportunity_record import record_crc32
from shm.atomics import f64_to_bits, mono_ns
from shm.jit import njit_bare
from shm.layout import ABSENT_ASK, ABSENT_BID, BOOK, CURSOR, LEG, OPPORTUNITY
from shm.metrics import hist_record
from shm.queue import push
from shm.wait import ring_if_sleeping
from shm.words import Words


@njit_bare
def now_of(mem: Words) -> int:
    """The monotonic clock, or the recorded time of a replay."""
    return mem[DETECTOR_SETTINGS.now_ns] if mem[DETECTOR_SETTINGS.now_ns] != 0 else mono_ns()


@njit_bare
def best_bid(mem: Words, record: int) -> int:
    """Best bid of the record at word ``record``."""
    return mem[record + BOOK.bid_price_fp] if mem[record + BOOK.bid_count] > 0 else ABSENT_BID


@njit_bare
def best_ask(mem: Words, record: int) -> int:
    """Best ask of the record at word ``record``."""
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
    """Everything of the record but legs, edges and checksum; takes the next id."""
    for k in range(OPPORTUNITY.WORDS):
        mem[DETECTOR.opportunity + k] = 0
    mem[DETECTOR.opportunity + OPPORTUNITY.id] = mem[DETECTOR_SETTINGS.next_id]
    mem[DETECTOR_SETTINGS.next_id] += 1
    mem[DETECTOR.opportunity + OPPORTUNITY.type] = kind
    mem[DETECTOR.opportunity + OPPORTUNITY.pair] = pair
    mem[DETECTOR.opportunity + OPPORTUNITY.leg_count] = legs
    mem[DETECTOR.opportunity + OPPORTUNITY.trigger_recv_mono_ns] = trigger_recv_ns
    mem[DETECTOR.opportunity + OPPORTUNITY.trigger_publish_mono_ns] = trigger_pub_ns
    mem[DETECTOR.opportunity + OPPORTUNITY.trigger_instrument] = trigger
    mem[DETECTOR.opportunity + OPPORTUNITY.direction_key] = key


@njit_bare
def send_record(ports: Ports, mem: Words, edge: float, entry: float, profit: float, now_ns: int) -> bool:
    """Stamps, sums and pushes the record and rings the executor; False = the queue is full."""
    record = mem[DETECTOR.opportunity : DETECTOR.opportunity + OPPORTUNITY.WORDS]
    record[OPPORTUNITY.edge_bps] = f64_to_bits(edge)
    record[OPPORTUNITY.entry_edge_bps] = f64_to_bits(entry)
    record[OPPORTUNITY.profit_quote] = f64_to_bits(profit)
    record[OPPORTUNITY.detect_mono_ns] = now_ns
    record[OPPORTUNITY.crc32] = record_crc32(record)
    if not push(ports.opps, 0, ports.opps_cursor, 0, record):
        return False
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
