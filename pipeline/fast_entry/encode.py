"""The jitted writer of an entry: its records into the journal, the bytes of its orders, signed.

Everything but the numbers is ready beforehand (encoder.py); what is written is byte for byte what the codecs write of
the same records and requests.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.execution.journal import FORMAT_VERSION, RECORD_MAGIC
from pipeline.execution.journal.commit import HEADER_WORDS, commit_record
from pipeline.execution.records import TYPE_OF_RECORD, OperationRecord, OrderIntentRecord
from pipeline.templates.hmac_sha256 import sign_hex
from pipeline.templates.slots import ENTRY_LEG, ENTRY_SLOTS, LEGS, ORDER_SPAN, PROGRAM, TEMPLATE_ROW
from pipeline.templates.template import LEG_SLOTS
from pipeline.templates.template_writer import fill_template
from shm.jit import njit_bare
from shm.words import Octets, Words

Cells = npt.NDArray[np.uint64]

# --- templates of every entry ---
HEAD = 0
MIDDLE = 1
TAIL = 2

ORDER_BYTES_MAX = 2048
ORDER_HEAD = 8  # before each order: room for the head of a text frame
ENTRY_BYTES_MAX = 8192  # in the journal, headers included
SIGN_CELLS = 32  # where a signature's memory begins in the journal's scratch
_OPERATION = TYPE_OF_RECORD[OperationRecord] << 16 | FORMAT_VERSION
_INTENT = TYPE_OF_RECORD[OrderIntentRecord] << 16 | FORMAT_VERSION
_BODY = HEADER_WORDS * 8


@njit_bare
def _close(octets: Octets, end: int) -> int:
    """Zeroes up to the next multiple of eight (the checks read whole words); that place."""
    while end & 7:
        octets[end] = 0
        end += 1
    return end


@njit_bare
def _order(program: Words, pool: Octets, key: int, k: int, slots: Words, orders: Octets, scratch: Cells) -> None:
    """The order of leg ``k``, signed where its template has a key's pads, at ORDER_HEAD of its part of ``orders``."""
    base, place = LEG_SLOTS * (k + 1), k * ORDER_BYTES_MAX + ORDER_HEAD
    end = fill_template(program, pool, program[key + TEMPLATE_ROW.order], slots, k, orders, place)
    start, stop = slots[base + ENTRY_LEG.sign_from], slots[base + ENTRY_LEG.sign_to]
    gap, pads = slots[base + ENTRY_LEG.signature], program[key + TEMPLATE_ROW.pads]
    if pads:
        sign_hex(orders, start, stop, gap, pool, pads, scratch[SIGN_CELLS:])
    span = ENTRY_SLOTS.orders + ORDER_SPAN.WORDS * k
    slots[span + ORDER_SPAN.size] = end - place
    slots[span + ORDER_SPAN.sign_from] = start - place
    slots[span + ORDER_SPAN.sign_to] = stop - place
    slots[span + ORDER_SPAN.signature] = gap - place


@njit_bare
def encode_entry(
    program: Words,
    pool: Octets,
    slots: Words,
    octets: Octets,
    words: Words,
    scratch: Cells,
    orders: Octets,
    at: int,
    seq: int,
    boot_epoch: int,
    mono_ns: int,
    wall_ns: int,
    dequeued_ns: int,
    counter: int,
    window_ms: int,
    venue_0_ms: int,
    venue_1_ms: int,
) -> int:
    """Operation and intents into the journal at byte ``at``, committed one by one; both orders into ``orders`` (leg k
    at k * ORDER_BYTES_MAX + ORDER_HEAD, its length and what is signed of it in ``ENTRY_SLOTS.orders``). Returns the
    byte behind the last record.

    ``counter``: of the operation's id, the clients' follow; ``window_ms``: how long the venues may take the orders;
    ``venue_*_ms``: each venue's own clock.
    """
    first, second = LEG_SLOTS, 2 * LEG_SLOTS
    templates = PROGRAM.WORDS
    row_0 = 2 * slots[first + ENTRY_LEG.instrument] + (1 if slots[first + ENTRY_LEG.side] < 0 else 0)
    row_1 = 2 * slots[second + ENTRY_LEG.instrument] + (1 if slots[second + ENTRY_LEG.side] < 0 else 0)
    keys = (templates + TEMPLATE_ROW.WORDS * row_0, templates + TEMPLATE_ROW.WORDS * row_1)
    slots[ENTRY_SLOTS.operation] = counter
    slots[ENTRY_SLOTS.dequeued_mono_ns] = dequeued_ns
    slots[ENTRY_SLOTS.gate_mono_ns] = mono_ns
    slots[ENTRY_SLOTS.expiry_wall_ms] = wall_ns // 1_000_000 + window_ms
    for k in range(LEGS):
        base = LEG_SLOTS * (k + 1)
        now_ms = venue_0_ms if k == 0 else venue_1_ms
        slots[base + ENTRY_LEG.number] = k
        slots[base + ENTRY_LEG.client] = counter + 1 + k
        slots[base + ENTRY_LEG.now_ms] = now_ms
        slots[base + ENTRY_LEG.now_s] = now_ms // 1000
        slots[base + ENTRY_LEG.expiry_ms] = now_ms + window_ms
        _order(program, pool, keys[k], k, slots, orders, scratch)
    body = at + _BODY
    end = fill_template(program, pool, HEAD, slots, 0, octets, body)
    end = fill_template(program, pool, program[keys[0] + TEMPLATE_ROW.pair], slots, 0, octets, end)
    for k in range(LEGS):
        end = fill_template(program, pool, program[keys[k] + TEMPLATE_ROW.leg], slots, k, octets, end)
    end = fill_template(program, pool, MIDDLE, slots, 0, octets, end)
    largest = slots[ENTRY_SLOTS.largest_leg]
    end = fill_template(program, pool, program[keys[largest] + TEMPLATE_ROW.notional], slots, largest, octets, end)
    end = fill_template(program, pool, TAIL, slots, 0, octets, end)
    for number in range(1 + LEGS):
        if number:
            body = at + _BODY
            end = fill_template(
                program, pool, program[keys[number - 1] + TEMPLATE_ROW.intent], slots, number - 1, octets, body
            )
        following = _close(octets, end)
        kind = _INTENT if number else _OPERATION
        commit_record(
            octets, words, at, end - body, kind, RECORD_MAGIC, seq + number, mono_ns, wall_ns, boot_epoch, scratch
        )
        at = following
    return at
