"""The detector's kernels on what it read: entries of ``input_log`` in, the same episodes and records out."""

# Kernels: words of an array are int64 to numba, Any to mypy.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.detection.gates import instrument_row
from pipeline.detection.input_log import (
    CHANGE,
    KIND_MASK,
    NOTICE,
    NOTICE_ENTRY,
    RECHECK,
    RECHECKED,
    REPORTED,
    SWEEP,
    TOPS,
    fail,
    take,
)
from pipeline.detection.kernel_arrays import Ports
from pipeline.detection.memory import DETECTOR, DETECTOR_COUNTERS, INPUT_LOG
from pipeline.detection.publish import send_held
from pipeline.detection.scan_loop import SCAN_PASS, check, check_swept, evaluate_hits, recheck_now, take_report
from pipeline.detection.topology import INSTRUMENT
from shm.atomics import bits_to_f64
from shm.jit import njit_bare
from shm.words import Words

Floats = npt.NDArray[np.float64]

CHANGED_MEM = 0
CHANGED_FLT = 1
CHANGE_HEAD = 3  # entry, which array, how many (index, value)


@njit_bare
def take_tops(mem: Words, flt: Floats, kind: int) -> int:
    """The entry's best prices into the tops, its stamps into the pass; its instrument."""
    at = take(mem, kind)
    instrument = mem[at + NOTICE_ENTRY.instrument]
    slot = mem[instrument_row(mem, instrument) + INSTRUMENT.slot]
    if slot >= 0:
        flt[mem[DETECTOR.top_bid_off] + slot] = bits_to_f64(mem[at + NOTICE_ENTRY.top_bid])
        flt[mem[DETECTOR.top_ask_off] + slot] = bits_to_f64(mem[at + NOTICE_ENTRY.top_ask])
    mem[SCAN_PASS.recv_ns] = mem[at + NOTICE_ENTRY.recv_ns]
    mem[SCAN_PASS.publish_ns] = mem[at + NOTICE_ENTRY.publish_ns]
    return instrument


@njit_bare
def take_change(mem: Words, flt: Floats) -> None:
    """Words that the detector's owner changed between two passes: prices, caps, exits, which feeds live."""
    at = take(mem, CHANGE)
    for k in range(mem[at + 2]):
        index, value = mem[at + CHANGE_HEAD + 2 * k], mem[at + CHANGE_HEAD + 2 * k + 1]
        if mem[at + 1] == CHANGED_MEM:
            mem[index] = value
        else:
            flt[index] = bits_to_f64(value)


@njit_bare
def replay_entries(ports: Ports, mem: Words, flt: Floats) -> int:
    """Works through the entries up to ``INPUT_LOG.end``, or to a fault; how many led on (those that were read within an
    evaluation are not counted)."""
    count = 0
    while mem[INPUT_LOG.at] < mem[INPUT_LOG.end] and mem[INPUT_LOG.fault] == 0:
        count += 1
        kind = mem[mem[INPUT_LOG.at]] & KIND_MASK
        if kind == NOTICE:
            instrument = take_tops(mem, flt, NOTICE)
            mem[DETECTOR_COUNTERS.events] += 1
            mem[SCAN_PASS.trigger] = instrument
            hits = check(mem, flt, instrument, 0)
            if hits > 0:
                evaluate_hits(ports, mem, flt, hits)
        elif kind == TOPS:
            take_tops(mem, flt, TOPS)
        elif kind == SWEEP:
            hits = check_swept(mem, flt, mem[take(mem, SWEEP) + 1])
            if hits > 0:
                evaluate_hits(ports, mem, flt, hits)
        elif kind == RECHECK:
            at = take(mem, RECHECK)
            recheck_now(ports, mem, flt, mem[at + 1], mem[at + 2], mem[at + 3])
        elif kind == RECHECKED:
            take(mem, RECHECKED)
            send_held(ports, mem, flt)
        elif kind == REPORTED:
            at = take(mem, REPORTED)
            take_report(mem, mem[at + 1], mem[at + 2])
        elif kind == CHANGE:
            take_change(mem, flt)
        else:
            fail(mem, kind)
    return count
