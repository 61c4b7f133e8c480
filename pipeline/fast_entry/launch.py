"""The whole of an entry behind its verdict, in one jitted call: records and orders written, the last look, both sends.

The parts may also be called one by one (``steps``): where the journal is synced between, where a signature is made
elsewhere, where a test stops the process between two of them.

The last look is that of ``pipeline/risk/last_look.py``, with the bounds of the limits table: no entry
leaves that the guard has forbidden meanwhile, or whose books have become too old. The second order follows only where
the first left whole. What an order met lies in its LAUNCH row.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from pipeline.execution.shared_reads import may_launch
from pipeline.fast_entry.encode import ORDER_BYTES_MAX, ORDER_HEAD, encode_entry
from pipeline.fast_entry.memory import LIMITS
from pipeline.templates.slots import (
    BOOKS_TOO_OLD,
    ENTRY_LEG,
    ENTRY_SLOTS,
    EXPIRED,
    FIRST_FORBIDDEN,
    GIVEN,
    LAUNCH,
    LEGS,
    NOT_TRIED,
    ORDER_SPAN,
    PROGRAM,
    SECOND_FORBIDDEN,
    TEMPLATE_ROW,
)
from pipeline.templates.template import LEG_SLOTS
from shm.atomics import mono_ns, send_octets
from shm.jit import njit_bare
from shm.tls.sealed import NO_SEAL, send_sealed
from shm.words import Octets, Words

Cells = npt.NDArray[np.uint64]

# --- steps ---
WRITE = 1
FIRST = 2
SECOND = 4
ALL = WRITE | FIRST | SECOND

_TEXT = 0x81  # a whole message of text
_MASKED = 0x80
_SHORT_MAX = 125  # longer ones say their length in two bytes more


@njit_bare
def frame_text(octets: Octets, at: int, size: int, key: int) -> int:
    """Makes a masked text frame of the payload ``octets[at : at + size]``: masked in its place, the head before it.
    Returns the frame's first byte. ``key``: 32 bits. *Source:* RFC 6455, section 5."""
    mask = (key >> 24 & 255, key >> 16 & 255, key >> 8 & 255, key & 255)
    whole = at + (size & ~3)
    for place in range(at, whole, 4):
        octets[place] ^= mask[0]
        octets[place + 1] ^= mask[1]
        octets[place + 2] ^= mask[2]
        octets[place + 3] ^= mask[3]
    for place in range(whole, at + size):
        octets[place] ^= mask[place - whole]
    for k in range(4):
        octets[at - 4 + k] = mask[k]
    if size <= _SHORT_MAX:
        octets[at - 5] = _MASKED | size
        octets[at - 6] = _TEXT
        return at - 6
    octets[at - 5] = size & 255
    octets[at - 6] = size >> 8
    octets[at - 7] = _MASKED | 126
    octets[at - 8] = _TEXT
    return at - 8


@njit_bare
def _row_of(k: int) -> int:
    return ENTRY_SLOTS.launches + LAUNCH.WORDS * k


@njit_bare
def _ready(program: Words, slots: Words, orders: Octets) -> None:
    """Both orders as their sockets take them; none has been tried."""
    for k in range(LEGS):
        base, row, at = LEG_SLOTS * (k + 1), _row_of(k), k * ORDER_BYTES_MAX + ORDER_HEAD
        size = slots[ENTRY_SLOTS.orders + ORDER_SPAN.WORDS * k + ORDER_SPAN.size]
        key = 2 * slots[base + ENTRY_LEG.instrument] + (1 if slots[base + ENTRY_LEG.side] < 0 else 0)
        start = at
        if program[PROGRAM.WORDS + TEMPLATE_ROW.WORDS * key + TEMPLATE_ROW.framed]:
            start = frame_text(orders, at, size, slots[base + ENTRY_LEG.mask])
        slots[row + LAUNCH.stop] = NOT_TRIED
        slots[row + LAUNCH.taken] = 0
        slots[row + LAUNCH.start] = start
        slots[row + LAUNCH.size] = at + size - start


@njit_bare
def _look(halt: Words, ints: Words, slots: Words, k: int, now_ns: int, expiry_ns: int) -> int:
    """Why order ``k`` may not leave now; GIVEN where it may. Before the first one both legs are looked at, and the age
    of their books."""
    if now_ns >= expiry_ns:
        return EXPIRED
    for leg in range(k, LEGS):
        base = LEG_SLOTS * (leg + 1)
        venue, instrument = slots[base + ENTRY_LEG.venue], slots[base + ENTRY_LEG.instrument]
        if not may_launch(halt, ints[LIMITS.lease_token], now_ns, venue, instrument):
            return FIRST_FORBIDDEN if leg == 0 else SECOND_FORBIDDEN
    if k == 0:
        first = slots[LEG_SLOTS + ENTRY_LEG.proof_mono_ns]
        second = slots[2 * LEG_SLOTS + ENTRY_LEG.proof_mono_ns]
        oldest, newest = min(first, second), max(first, second)
        if oldest == 0 or now_ns - oldest > ints[LIMITS.max_age_ns] or newest - oldest > ints[LIMITS.max_skew_ns]:
            return BOOKS_TOO_OLD
    return GIVEN


@njit_bare
def _give(
    halt: Words, ints: Words, slots: Words, orders: Octets, k: int, fd: int, seal: int, ahead_ns: int, expiry_ns: int
) -> None:
    """Order ``k`` to its socket, where the last look allows it."""
    row = _row_of(k)
    now_ns = mono_ns() + ahead_ns
    slots[row + LAUNCH.looked_mono_ns] = now_ns
    stop = _look(halt, ints, slots, k, now_ns, expiry_ns)
    slots[row + LAUNCH.stop] = stop
    if stop == GIVEN:
        start, size = slots[row + LAUNCH.start], slots[row + LAUNCH.size]
        if seal == NO_SEAL:
            slots[row + LAUNCH.taken] = send_octets(fd, orders, start, size)
        else:
            slots[row + LAUNCH.taken] = send_sealed(seal, fd, orders, start, size)
        slots[row + LAUNCH.sent_mono_ns] = mono_ns() + ahead_ns


@njit_bare
def _left_whole(slots: Words) -> bool:
    """Whether the first order did."""
    row = _row_of(0)
    return bool(slots[row + LAUNCH.stop] == GIVEN and slots[row + LAUNCH.taken] == slots[row + LAUNCH.size])


@njit_bare(nogil=False)
def launch(
    program: Words,
    pool: Octets,
    slots: Words,
    octets: Octets,
    words: Words,
    scratch: Cells,
    orders: Octets,
    halt: Words,
    ints: Words,
    steps: int,
    at: int,
    seq: int,
    boot_epoch: int,
    mono_at_ns: int,
    wall_at_ns: int,
    dequeued_ns: int,
    counter: int,
    window_ms: int,
    venue_0_ms: int,
    venue_1_ms: int,
    fd_0: int,
    fd_1: int,
    seal_0: int,
    seal_1: int,
    ahead_ns: int,
) -> int:
    """The ``steps`` of an entry whose numbers lie in ``slots``; returns the byte behind the last record (see
    :func:`encode_entry`), ``at`` where nothing is written.

    ``halt``: int64[HALT.END]; ``ints``: the limits table; ``fd_*``: each order's socket; ``seal_*``: how its
    bytes are encrypted (shm/tls/sealed.py), 0 = not; ``ahead_ns``: the caller's
    clock less the monotonic one, a constant (0 but on virtual time): the last look goes by the time at which it is
    taken. In one call the second order is not given unless the first left whole; FIRST comes before SECOND.
    """
    if steps & WRITE:
        at = encode_entry(
            program, pool, slots, octets, words, scratch, orders, at, seq, boot_epoch, mono_at_ns, wall_at_ns,
            dequeued_ns, counter, window_ms, venue_0_ms, venue_1_ms,
        )  # fmt: skip
    expiry_ns = dequeued_ns + window_ms * 1_000_000
    if steps & FIRST:
        _ready(program, slots, orders)
        _give(halt, ints, slots, orders, 0, fd_0, seal_0, ahead_ns, expiry_ns)
    if steps & SECOND and (not steps & FIRST or _left_whole(slots)):
        _give(halt, ints, slots, orders, 1, fd_1, seal_1, ahead_ns, expiry_ns)
    return at
