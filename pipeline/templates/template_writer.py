"""The jitted writer of templates: numbers as text and as msgpack, without a Python object.

Each function writes into ``out`` (uint8) from ``at`` on and returns the place behind. The caller provides the room.
"""

from __future__ import annotations

from pipeline.templates.slots import (
    OP_DECIMAL,
    OP_DECIMAL_STR,
    OP_FLOAT64,
    OP_GAP,
    OP_ID,
    OP_INT64,
    OP_INTEGER,
    OP_MARK,
    OP_TEXT,
    PROGRAM,
    TEMPLATE_OP,
)
from pipeline.templates.template import LEG_SLOTS
from shm.jit import njit_bare
from shm.words import Octets, Words


@njit_bare
def put_number(out: Octets, at: int, value: int, digits: int) -> int:
    """Text of ``value`` / 10**``digits`` without trailing zeros and exponent."""
    if value < 0:
        out[at] = 45
        at += 1
        value = -value
    while digits > 0 and value % 10 == 0:
        value //= 10
        digits -= 1
    size = 1
    rest = value // 10
    while rest > 0:
        rest //= 10
        size += 1
    if size <= digits:
        size = digits + 1  # zeros before the point, and behind it
    end = at + size + (1 if digits > 0 else 0)
    place = end - 1
    for k in range(size):
        if digits > 0 and k == digits:
            out[place] = 46
            place -= 1
        out[place] = 48 + value % 10
        value //= 10
        place -= 1
    return end


@njit_bare
def put_big_endian(out: Octets, at: int, value: int) -> int:
    """Eight bytes of ``value``, highest first."""
    for k in range(8):
        out[at + k] = (value >> (56 - 8 * k)) & 0xFF
    return at + 8


@njit_bare
def put_base36(out: Octets, at: int, value: int) -> int:
    """``value`` > 0 in lower-case base 36."""
    size = 0
    rest = value
    while rest > 0:
        rest //= 36
        size += 1
    for k in range(size):
        digit = value % 36
        out[at + size - 1 - k] = digit + (48 if digit < 10 else 87)
        value //= 36
    return at + size


@njit_bare
def put_text(out: Octets, at: int, pool: Octets, start: int, size: int) -> int:
    """``size`` bytes of ``pool`` from ``start`` on."""
    for k in range(size):
        out[at + k] = pool[start + k]
    return at + size


@njit_bare
def fill_template(
    program: Words, pool: Octets, template: int, slots: Words, leg_number: int, out: Octets, at: int
) -> int:
    """Template number ``template`` with the numbers in ``slots``; leg slots are those of leg ``leg_number`` (0, 1)."""
    base = LEG_SLOTS * leg_number
    span = program[PROGRAM.spans_off] + 2 * template
    for op in range(program[span], program[span + 1]):
        word = program[PROGRAM.ops_off] + op * TEMPLATE_OP.WORDS
        kind, slot = program[word + TEMPLATE_OP.kind], program[word + TEMPLATE_OP.slot]
        if kind == OP_TEXT:
            at = put_text(out, at, pool, slot, program[word + TEMPLATE_OP.factor])
            continue
        if slot >= LEG_SLOTS:
            slot += base
        if kind == OP_MARK:
            slots[slot] = at
            continue
        if kind == OP_GAP:
            slots[slot] = at
            at += program[word + TEMPLATE_OP.factor]
            continue
        value = slots[slot]
        if kind == OP_INT64:
            out[at] = 0xD3
            at = put_big_endian(out, at + 1, value)
        elif kind == OP_FLOAT64:
            out[at] = 0xCB
            at = put_big_endian(out, at + 1, value)
        elif kind == OP_INTEGER:
            at = put_number(out, at, value, 0)
        elif kind == OP_DECIMAL:
            at = put_number(out, at, value * program[word + TEMPLATE_OP.factor], program[word + TEMPLATE_OP.digits])
        elif kind == OP_DECIMAL_STR:
            digits = program[word + TEMPLATE_OP.digits]
            end = put_number(out, at + 1, value * program[word + TEMPLATE_OP.factor], digits)
            out[at] = 0xA0 | (end - at - 1)  # a number is shorter than 32 characters
            at = end
        elif kind == OP_ID:
            size = program[word + TEMPLATE_OP.digits]
            if size > 0:
                end = put_base36(out, put_text(out, at + 1, pool, program[word + TEMPLATE_OP.factor], size), value)
                out[at] = 0xA0 | (end - at - 1)
                at = end
            else:
                at = put_base36(out, at, value)
    return at
