"""Edge arithmetic: one rational number per direction, a float64 screen with a proved bound, an exact integer check.

A direction buys on one instrument and sells on another of the same pair, whose prices share one exponent. Bought at
``ask``, sold at ``bid``, with fees in ppm of the asset in which they are taken:

* sell fee ``s``: the proceeds are ``bid * (1 - s)`` quote for each unit of base sold;
* buy fee taken in base (FeeAssetRule.RECEIVED on a spot buy) ``r``: only ``1 - r`` of each unit bought can be sold;
* buy fee taken in quote ``q``: each unit bought costs ``ask * (1 + q)``.

The edge is profit over quote paid: ``bid * (1-s) * (1-r) / (ask * (1+q)) - 1``. It exceeds a threshold ``t`` exactly
if ``bid * num > ask * den`` with ``num / den = (1-s)(1-r) / ((1+q)(1+t))`` in lowest terms. ``num`` and ``den`` are
below 2**62, as prices are, so both products fit two 62-bit digits and are compared without rounding.

The screen. ``need = fl(den / num)`` carries a relative error of at most u = 2**-53; ``fl(bid)`` and ``fl(ask)`` one u
each, the products of ``ask``, ``need`` and the slack two more. If ``bid * num > ask * den`` then
``fl(bid) >= bid (1-u) > ask * den/num * (1-u)``, while the screened right side is at most
``ask * den/num * (1+u)**4 * (1 - SCREEN_SLACK)``. With SCREEN_SLACK = 2**-49 = 16 u the latter is smaller: the screen
never drops an edge; what it lets through too much (relative 2**-48) the exact check removes.
"""

# Kernels: words of an array are int64 to numba, Any to mypy.
# mypy: disable-error-code="no-any-return"

from __future__ import annotations

import math
from fractions import Fraction

from pipeline.model.units import PPM
from shm.jit import njit_bare
from shm.layout import ABSENT_ASK, ABSENT_BID

NUMBER_LIMIT = 2**62  # prices, num and den stay below it
SCREEN_SLACK = 2.0**-49
DISABLED = math.inf  # ``need`` of a direction that is never taken
_DIGIT_BITS = 31
_DIGIT_MASK = (1 << 31) - 1


def edge_ratio(*, sell_ppm: int, buy_base_ppm: int, buy_quote_ppm: int, threshold: Fraction) -> tuple[int, int]:
    """(num, den) such that the edge exceeds ``threshold`` (a fraction, 1 bps = 1/10000) iff bid * num > ask * den.

    A threshold whose digits do not fit is rounded up to whole ppm. Raises ``ValueError`` for fees or thresholds
    outside (-1, 1).
    """
    for name, ppm in (("sell", sell_ppm), ("buy base", buy_base_ppm), ("buy quote", buy_quote_ppm)):
        if not -PPM < ppm < PPM:
            raise ValueError(f"{name} fee out of range: {ppm} ppm")
    if not -1 < threshold < 1:
        raise ValueError(f"threshold out of range: {threshold}")
    fees = Fraction((PPM - sell_ppm) * (PPM - buy_base_ppm), PPM * (PPM + buy_quote_ppm))
    ratio = fees / (1 + threshold)
    if ratio.numerator >= NUMBER_LIMIT or ratio.denominator >= NUMBER_LIMIT:
        ratio = fees / (1 + Fraction(math.ceil(threshold * PPM), PPM))
    return ratio.numerator, ratio.denominator


def screen_factor(num: int, den: int) -> float:
    """Right-hand factor of the screen: an edge may exist only where fl(bid) >= fl(ask) * factor."""
    return (den / num) * (1.0 - SCREEN_SLACK)


@njit_bare
def has_bid(price: int) -> bool:
    """True for a usable bid: present, positive, within the number limit."""
    return price != ABSENT_BID and price > 0 and price < NUMBER_LIMIT


@njit_bare
def has_ask(price: int) -> bool:
    """True for a usable ask: present, positive, within the number limit."""
    return price != ABSENT_ASK and price > 0 and price < NUMBER_LIMIT


@njit_bare
def product_exceeds(a: int, b: int, c: int, d: int) -> bool:
    """``a * b > c * d`` exactly, for 0 <= each < 2**62.

    Schoolbook product of 31-bit digits: a = a1 * 2**31 + a0; the middle sum is at most
    2 * (2**31 - 1)**2 + 2**31 < 2**63, so nothing wraps.
    """
    a1, a0 = a >> _DIGIT_BITS, a & _DIGIT_MASK
    b1, b0 = b >> _DIGIT_BITS, b & _DIGIT_MASK
    low = a0 * b0
    middle = a1 * b0 + a0 * b1 + (low >> _DIGIT_BITS)
    left_high = a1 * b1 + (middle >> _DIGIT_BITS)
    left_low = ((middle & _DIGIT_MASK) << _DIGIT_BITS) | (low & _DIGIT_MASK)

    c1, c0 = c >> _DIGIT_BITS, c & _DIGIT_MASK
    d1, d0 = d >> _DIGIT_BITS, d & _DIGIT_MASK
    low = c0 * d0
    middle = c1 * d0 + c0 * d1 + (low >> _DIGIT_BITS)
    right_high = c1 * d1 + (middle >> _DIGIT_BITS)
    right_low = ((middle & _DIGIT_MASK) << _DIGIT_BITS) | (low & _DIGIT_MASK)
    return left_high > right_high or (left_high == right_high and left_low > right_low)


@njit_bare
def edge_exceeds(bid: int, ask: int, num: int, den: int) -> bool:
    """Exact: both sides present and bid * num > ask * den. Compares presence before any arithmetic."""
    if not has_bid(bid) or not has_ask(ask):
        return False
    return product_exceeds(bid, num, ask, den)


@njit_bare
def screen_bid(price: int) -> float:
    """Bid as the screen uses it: absent = -1, which no right side is below."""
    return float(price) if has_bid(price) else -1.0


@njit_bare
def screen_ask(price: int) -> float:
    """Ask as the screen uses it: absent = infinity."""
    return float(price) if has_ask(price) else math.inf


@njit_bare
def edge_bps(bid: int, ask: int, fee_factor: float) -> float:
    """Edge in bps for people and records; ``fee_factor`` = (1-s)(1-r)/(1+q). Never used to decide."""
    return (float(bid) * fee_factor / float(ask) - 1.0) * 10_000.0


@njit_bare
def gcd(a: int, b: int) -> int:
    """Greatest common divisor of two non-negative integers; bounded by Euclid's log of the smaller."""
    while b != 0:
        a, b = b, a % b
    return a


@njit_bare
def common_lot(a: int, b: int) -> int:
    """Smallest quantity that is a whole number of both lots (each >= 1); 0 if it does not fit 2**62."""
    step = a // gcd(a, b)
    if step > NUMBER_LIMIT // b:
        return 0
    return step * b


@njit_bare
def received(qty: int, fee_ppm: int) -> int:
    """Base that a buy of ``qty`` delivers when the fee is taken from it; the fee is rounded up, so never too much.

    Exact and free of overflow: qty = a * 10**6 + r, fee = a * ppm + ceil(r * ppm / 10**6).
    """
    if fee_ppm <= 0:
        return qty
    whole, rest = qty // PPM, qty % PPM
    return qty - whole * fee_ppm - (rest * fee_ppm + PPM - 1) // PPM


@njit_bare
def needed(qty: int, fee_ppm: int) -> int:
    """Smallest purchase that delivers at least ``qty`` after a fee taken from it; inverse of :func:`received`."""
    if fee_ppm <= 0:
        return qty
    keep = PPM - fee_ppm
    whole, rest = qty // keep, qty % keep
    guess = whole * PPM + rest * PPM // keep
    while guess > 0 and received(guess - 1, fee_ppm) >= qty:  # at most 2 steps: floors above lose less than 2
        guess -= 1
    while received(guess, fee_ppm) < qty:
        guess += 1
    return guess
