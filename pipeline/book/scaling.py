"""Raw numbers (mantissa, digits after the point) to the fixed point of a book, and venue times, jitted; no rounding of
prices."""

from __future__ import annotations

import numpy as np

from pipeline.book.memory import FP_LIMIT
from shm.jit import njit_bare as njit

MS_MAX = 100_000_000_000_000  # as unix ms the year 5138: larger ones are us
POW10 = np.array([10**k for k in range(19)], dtype=np.int64)
FP_MAX = np.array([FP_LIMIT // 10**k for k in range(19)], dtype=np.int64)  # largest that may be multiplied


@njit
def venue_ns(sent: int) -> int:
    """Venue time in ns; venues send ms, Binance on request us (told apart by size)."""
    return sent * 1000 if sent > MS_MAX else sent * 1_000_000


@njit
def scale_price(mantissa: int, digits: int, exp: int) -> int:
    """Price in fixed point; -1: digits beyond the exponent; -2: for the reference decoder to judge."""
    if mantissa <= 0:
        return -2
    shift = exp - digits
    if shift >= 0:
        if shift > 18 or mantissa > FP_MAX[shift]:
            return -2
        scaled: int = mantissa * POW10[shift]
        return scaled
    if shift < -18:
        return -2
    power: int = POW10[-shift]
    price = mantissa // power
    return price if price * power == mantissa else -1


@njit
def scale_qty(mantissa: int, shift: int, mult: int) -> tuple[int, int]:
    """(base quantity in fixed point cut down, 1 if digits were cut) of ``mantissa * mult * 10**shift``; (-2, 0): for
    the reference decoder to judge. ``shift`` = exponent - digits - the multiplier's own exponent."""
    if mult != 1:
        if mantissa > FP_LIMIT // mult:
            return -2, 0
        mantissa *= mult
    if shift >= 0:
        if shift > 18 or mantissa > FP_MAX[shift]:
            return (-2, 0) if mantissa else (0, 0)
        return mantissa * POW10[shift], 0
    if shift < -18:
        return (-2, 0) if mantissa else (0, 0)
    power = POW10[-shift]
    cut = mantissa // power
    return cut, 1 if cut * power != mantissa else 0


@njit
def significant_digits(mantissa: int, digits: int) -> int:
    """Digits after the point without trailing zeros."""
    while digits > 0 and mantissa % 10 == 0:
        mantissa //= 10
        digits -= 1
    return digits
