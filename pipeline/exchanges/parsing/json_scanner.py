"""Bytes of JSON market data to integers, jitted: the part that all dialects share.

A frame lies in the books' private array (:mod:`pipeline.book.memory`) with zero bytes behind it. Functions take byte
indices into that array and return the index behind what they read, or ``BAD`` for anything they do not know: escapes,
non-ASCII, control characters, exponents, signs, underscores, numbers beyond 19 digits or 80 characters, nested values,
repeated keys. ``BAD`` judges nothing: such a frame goes to the reference decoder. What *is* accepted here is accepted
there with the same meaning (tests/unit/exchanges/test_feed_codec_equality.py), whatever bytes lie behind the frame
(tests/unit/exchanges/test_scan_bounds.py).
"""

from __future__ import annotations

import numpy as np

from pipeline.book.memory import BOOKS, FRAME_BYTE, LEVEL, LEVEL_CAP
from shm.bytewords import (
    byte_marks,
    digit_run,
    digits_value,
    load1,
    load8,
    lowest_bit,
    plain_run,
    put,
    zero16,
)
from shm.jit import njit_bare as njit
from shm.words import Words

BAD = -1
OTHER = -2  # a topic that is not for books
CONTROL = -3  # an answer to a subscription, or a notice

_POW10 = np.array([10**k for k in range(9)], dtype=np.int64)
_SAFE = (2**63 - 1) // 10**8 - 1  # eight more digits always fit
_LIMIT = np.array([(2**63 - 1) // 10**k - 1 for k in range(9)], dtype=np.int64)

NUMBER_LENGTH_MAX = 80  # characters of a number; a longer one is refused

QUOTE = 0x22
COMMA = 0x2C
COLON = 0x3A
DOT = 0x2E
ZERO = 0x30
NINE = 0x39
OPEN_LIST = 0x5B
CLOSE_LIST = 0x5D
BACKSLASH = 0x5C
OPEN = 0x7B
CLOSE = 0x7D


def packed(text: str) -> int:
    """Up to eight ASCII characters as the word that :func:`word_at` reads."""
    return int.from_bytes(text.encode().ljust(8, b"\0"), "little", signed=True)


V_TRUE = packed("true")
V_FALSE = packed("false")
V_NULL = packed("null")


@njit
def end_frame(mem: Words, length: int) -> None:
    """Puts the zero bytes behind a frame of ``length`` bytes that stop every scan."""
    zero16(mem, FRAME_BYTE + length)


@njit
def word_at(mem: Words, i: int, length: int) -> int:
    """The first up to eight of ``length`` bytes at ``i`` as a zero-padded word."""
    if length >= 8:
        return load8(mem, i)
    if length <= 0:
        return 0
    return load8(mem, i) & ((1 << (8 * length)) - 1)


@njit
def skip_space(mem: Words, i: int) -> int:
    """Byte index behind the JSON white space at ``i`` of the memory of BOOKS."""
    c = load1(mem, i)
    while c == 32 or c == 10 or c == 13 or c == 9:
        i += 1
        c = load1(mem, i)
    return i


@njit
def expect(mem: Words, i: int, wanted: int) -> int:
    """Byte index in BOOKS behind ``wanted``, white space before it allowed; ``BAD`` if something else stands there."""
    if load1(mem, i) == wanted:
        return i + 1
    i = skip_space(mem, i)
    return i + 1 if load1(mem, i) == wanted else BAD


@njit
def skip_string(mem: Words, i: int) -> int:
    """``i`` behind the opening quote; returns the byte index in BOOKS of the closing one. Plain ASCII only, else
    ``BAD``."""
    run = plain_run(mem, i)
    while run == 8:
        i += 8
        run = plain_run(mem, i)
    i += run
    return i if load1(mem, i) == QUOTE else BAD


@njit
def scan_integer(mem: Words, i: int) -> tuple[int, int]:
    """(value, byte index in BOOKS behind it) of a bare JSON integer without sign; index ``BAD`` otherwise."""
    run = digit_run(mem, i)
    if run == 0 or (run > 1 and load1(mem, i) == ZERO):
        return 0, BAD
    value = digits_value(mem, i, run)
    i += run
    while run == 8:
        run = digit_run(mem, i)
        if run:
            if value > _SAFE and value > _LIMIT[run]:
                return 0, BAD
            value = value * _POW10[run] + digits_value(mem, i, run)
            i += run
    c = load1(mem, i)
    if c == DOT or c == 0x65 or c == 0x45:
        return 0, BAD
    return value, i


@njit
def scan_decimal(mem: Words, i: int) -> tuple[int, int, int]:
    """(mantissa, digits after the point, index behind) of a quoted or bare decimal; index ``BAD`` otherwise.

    Digits, optionally a point and more digits: no sign, exponent, underscore, white space or empty part.
    """
    quoted = load1(mem, i) == QUOTE
    j = i + 1 if quoted else i
    run = digit_run(mem, j)
    if run == 0 or (not quoted and run > 1 and load1(mem, j) == ZERO):
        return 0, 0, BAD
    value = digits_value(mem, j, run)
    j += run
    while run == 8:
        run = digit_run(mem, j)
        if run:
            if value > _SAFE and value > _LIMIT[run]:
                return 0, 0, BAD
            value = value * _POW10[run] + digits_value(mem, j, run)
            j += run
    digits = 0
    if load1(mem, j) == DOT:
        j += 1
        run = digit_run(mem, j)
        if run == 0:
            return 0, 0, BAD
        full = False  # what does not fit may only be zeros (a quantity of 10**12 padded to eight places)
        while run:
            part = digits_value(mem, j, run)
            if full or (value > _SAFE and value > _LIMIT[run]):
                if part:
                    return 0, 0, BAD
                full = True
            else:
                value = value * _POW10[run] + part
                digits += run
            j += run
            run = digit_run(mem, j) if run == 8 else 0
    if j - i > NUMBER_LENGTH_MAX + quoted:
        return 0, 0, BAD
    c = load1(mem, j)
    if quoted:
        return value, digits, j + 1 if c == QUOTE else BAD
    if c in (COMMA, CLOSE, CLOSE_LIST) or c == 32 or c == 10 or c == 13 or c == 9:
        return value, digits, j
    return 0, 0, BAD


@njit
def scan_level_object(mem: Words, i: int, level: int) -> int:
    """``{"p":"0.2983","s":803}`` (either order), ``i`` behind the brace; index behind the closing one."""
    seen = 0
    for _ in range(2):
        i = expect(mem, i, QUOTE)
        if i < 0 or load1(mem, i + 1) != QUOTE:
            return BAD
        key = load1(mem, i)
        i = expect(mem, i + 2, COLON)
        if i < 0:
            return BAD
        value, digits, i = scan_decimal(mem, skip_space(mem, i))
        if i < 0:
            return BAD
        if key == 0x70:
            put(mem, level + LEVEL.price, value)
            put(mem, level + LEVEL.price_digits, digits)
            seen |= 1
        elif key == 0x73:
            put(mem, level + LEVEL.qty, value)
            put(mem, level + LEVEL.qty_digits, digits)
            seen |= 2
        else:
            return BAD
        if seen != 3:
            i = expect(mem, i, COMMA)
            if i < 0:
                return BAD
    return expect(mem, i, CLOSE) if seen == 3 else BAD


@njit
def short_decimal(mem: Words, i: int, end: int) -> tuple[int, int]:
    """(mantissa, digits after the point) of a decimal that fills ``i``..``end`` with at most eight digits on each side
    of the point; digits ``BAD`` for anything else."""
    whole = digit_run(mem, i)
    rest = end - i - whole - 1
    if whole == 0:
        return 0, BAD
    if rest < 0:
        # No point: the run may go on behind the end only if it is no digit that ends it.
        return (digits_value(mem, i, whole), 0) if i + whole == end else (0, BAD)
    if rest == 0 or rest > 8 or load1(mem, i + whole) != DOT or digit_run(mem, i + whole + 1) < rest:
        return 0, BAD
    return digits_value(mem, i, whole) * _POW10[rest] + digits_value(mem, i + whole + 1, rest), rest


@njit
def scan_usual_level(mem: Words, i: int, level: int) -> int:
    """``["price","qty"]`` without white space inside 64 bytes, ``i`` at its bracket; ``BAD`` for any other shape.

    All four quotes are found at once, so that the next level's place does not wait for this one's digits.
    """
    quotes = byte_marks(mem, i, QUOTE)
    if quotes & 3 != 2:
        return BAD
    quotes &= quotes - 1
    price_end = i + lowest_bit(quotes)
    quotes &= quotes - 1
    qty_at = i + lowest_bit(quotes) + 1
    quotes &= quotes - 1
    if quotes == 0 or qty_at != price_end + 3 or load1(mem, price_end + 1) != COMMA:
        return BAD
    qty_end = i + lowest_bit(quotes)
    if load1(mem, qty_end + 1) != CLOSE_LIST:
        return BAD
    price, digits = short_decimal(mem, i + 2, price_end)
    qty, qty_digits = short_decimal(mem, qty_at, qty_end)
    if digits < 0 or qty_digits < 0:
        return BAD
    put(mem, level + LEVEL.price, price)
    put(mem, level + LEVEL.qty, qty)
    put(mem, level + LEVEL.price_digits, digits)
    put(mem, level + LEVEL.qty_digits, qty_digits)
    return qty_end + 2


@njit
def scan_list_level(mem: Words, i: int, level: int) -> int:
    """A level as a JSON array of two numbers in any spelling that :func:`scan_decimal` knows, ``i`` at its bracket."""
    price, digits, i = scan_decimal(mem, skip_space(mem, i + 1))
    if i < 0:
        return BAD
    i = expect(mem, i, COMMA)
    if i < 0:
        return BAD
    qty, qty_digits, i = scan_decimal(mem, skip_space(mem, i))
    if i < 0:
        return BAD
    put(mem, level + LEVEL.price, price)
    put(mem, level + LEVEL.qty, qty)
    put(mem, level + LEVEL.price_digits, digits)
    put(mem, level + LEVEL.qty_digits, qty_digits)
    return expect(mem, i, CLOSE_LIST)


@njit
def scan_levels(mem: Words, i: int, level: int) -> tuple[int, int]:
    """(index behind, number of levels) of a JSON array of levels; ``i`` at its bracket, ``level`` the first free
    raw level. Levels are ``["price","qty"]`` or ``{"p":…,"s":…}``, numbers quoted or bare."""
    count = 0
    end = BOOKS.levels + LEVEL_CAP * LEVEL.WORDS
    i = skip_space(mem, i + 1)
    if load1(mem, i) == CLOSE_LIST:
        return i + 1, 0
    while True:
        if level >= end:
            return BAD, 0
        c = load1(mem, i)
        if c == OPEN_LIST:
            after = scan_usual_level(mem, i, level)
            if after < 0:
                after = scan_list_level(mem, i, level)
                if after < 0:
                    return BAD, 0
            i = after
        elif c == OPEN:
            i = scan_level_object(mem, i + 1, level)
            if i < 0:
                return BAD, 0
        else:
            return BAD, 0
        count += 1
        level += LEVEL.WORDS
        c = load1(mem, i)
        if c != COMMA and c != CLOSE_LIST:
            i = skip_space(mem, i)
            c = load1(mem, i)
        if c == CLOSE_LIST:
            return i + 1, count
        if c != COMMA:
            return BAD, 0
        i += 1
        if load1(mem, i) != OPEN_LIST:
            i = skip_space(mem, i)


@njit
def skip_scalar(mem: Words, i: int) -> int:
    """Byte index in BOOKS behind a string, number, true, false or null; ``BAD`` for nested or unusual values."""
    c = load1(mem, i)
    if c == QUOTE:
        i = skip_string(mem, i + 1)
        return BAD if i < 0 else i + 1
    if c == 0x74 and word_at(mem, i, 4) == V_TRUE:
        return i + 4
    if c == 0x66 and word_at(mem, i, 5) == V_FALSE:
        return i + 5
    if c == 0x6E and word_at(mem, i, 4) == V_NULL:
        return i + 4
    if c == 0x2D:
        i += 1
    if load1(mem, i) < ZERO or load1(mem, i) > NINE:
        return BAD
    if load1(mem, i) == ZERO and ZERO <= load1(mem, i + 1) <= NINE:
        return BAD
    while ZERO <= load1(mem, i) <= NINE:
        i += 1
    if load1(mem, i) == DOT:
        i += 1
        if load1(mem, i) < ZERO or load1(mem, i) > NINE:
            return BAD
        while ZERO <= load1(mem, i) <= NINE:
            i += 1
    c = load1(mem, i)
    return BAD if c == 0x65 or c == 0x45 else i


@njit
def at_end(mem: Words, i: int, length: int) -> bool:
    """Nothing but white space between ``i`` and the end of the frame of ``length`` bytes."""
    return skip_space(mem, i) == FRAME_BYTE + length
