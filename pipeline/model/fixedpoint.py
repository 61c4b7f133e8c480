"""Exact decimal text <-> int64 fixed point.

``*_fp`` is an int64 in units of 10**-exp. Books hold exponents per canonical pair so that prices of different
venues compare as integers. Nothing here rounds unless its name says so; non-finite or oversized input raises
``ValueError`` (the caller knows where it came from).
"""

from __future__ import annotations

from collections.abc import Iterable
from decimal import ROUND_CEILING, ROUND_FLOOR, Decimal, InvalidOperation

FP_LIMIT = 2**62  # headroom: sums of two values still fit in int64
EXP_MIN = 8  # fewer digits than this are never chosen unless the largest value demands it
EXP_MAX = 18
MAGNITUDE_MAX = 40  # powers of ten of a number from outside
TEXT_MAX = 100  # characters of one
EXTRA_DIGITS = 4  # resting orders are finer than today's tick and lot (Gate.io: up to 10 decimals against 2-4)


def parse_decimal(text: str | Decimal | int) -> Decimal:
    """Finite decimal from venue text. Refuses NaN, infinities, underscores, spaces and non-ASCII digits, and numbers
    beyond what any price, quantity or balance can be: exact sums and plain text of those would fail or fill memory."""
    if isinstance(text, Decimal):
        value = text
    elif isinstance(text, int):
        value = Decimal(text)
    else:
        if not text or len(text) > TEXT_MAX or not text.isascii() or "_" in text or text != text.strip():
            raise ValueError(f"not a decimal number: {text[:TEXT_MAX]!r}")
        try:
            value = Decimal(text)
        except InvalidOperation:
            raise ValueError(f"not a decimal number: {text!r}") from None
    if not value.is_finite():
        raise ValueError(f"not a finite number: {text!r}")
    if not -MAGNITUDE_MAX <= value.adjusted() <= MAGNITUDE_MAX:
        raise ValueError(f"not a number between 1e-{MAGNITUDE_MAX} and 1e{MAGNITUDE_MAX}: {value:.3g}")
    return value


def digits_after_point(value: Decimal) -> int:
    """Significant digits after the decimal point (trailing zeros do not count)."""
    exponent = value.normalize().as_tuple().exponent
    assert isinstance(exponent, int), f"finite decimals only: {value}"
    return max(0, -exponent)


def to_fp(value: str | Decimal | int, exp: int) -> int:
    """Exact conversion; raises ``ValueError`` when digits are left over or the result exceeds ``FP_LIMIT``."""
    number = parse_decimal(value)
    scaled = number.scaleb(exp)
    result = int(scaled)
    if scaled != result:
        raise ValueError(f"{number} has more than {exp} digits after the point")
    return _bounded(result, number, exp)


def to_fp_floor(value: str | Decimal | int, exp: int) -> int:
    """Rounded toward minus infinity: for quantities that we may use."""
    number = parse_decimal(value)
    return _bounded(int(number.scaleb(exp).to_integral_value(ROUND_FLOOR)), number, exp)


def to_fp_ceil(value: str | Decimal | int, exp: int) -> int:
    """Rounded toward plus infinity: for minima that we must reach and fees that we must pay."""
    number = parse_decimal(value)
    return _bounded(int(number.scaleb(exp).to_integral_value(ROUND_CEILING)), number, exp)


def _bounded(result: int, number: Decimal, exp: int) -> int:
    if not -FP_LIMIT <= result <= FP_LIMIT:
        raise ValueError(f"{number} does not fit int64 with {exp} digits after the point")
    return result


def from_fp(value_fp: int, exp: int) -> Decimal:
    """Exact ``Decimal`` of a fixed-point number."""
    return Decimal(int(value_fp)).scaleb(-exp)


def plain(value: Decimal) -> str:
    """Decimal text without exponent and without trailing zeros (``0`` for zero)."""
    text = format(value, "f")
    if "." in text:
        text = text.rstrip("0").rstrip(".")
    return "0" if text in ("", "-0") else text


def quantize_down(value: Decimal, step: Decimal) -> Decimal:
    """Largest multiple of ``step`` not above ``value``."""
    return (value / step).to_integral_value(ROUND_FLOOR) * step if step else value


def quantize_up(value: Decimal, step: Decimal) -> Decimal:
    """Smallest multiple of ``step`` not below ``value``."""
    return (value / step).to_integral_value(ROUND_CEILING) * step if step else value


def exponent_for(steps: Iterable[Decimal], largest: Decimal) -> int:
    """Digits after the point for one pair: finest step of any venue plus ``EXTRA_DIGITS``, at least ``EXP_MIN``,
    lowered until ``largest`` fits ``FP_LIMIT``.

    Raises ``ValueError`` when even the finest step itself cannot be held beside ``largest``.
    """
    finest = max((digits_after_point(step) for step in steps), default=0)
    exp = min(EXP_MAX, max(EXP_MIN, finest + EXTRA_DIGITS))
    while exp > 0 and largest.scaleb(exp) > FP_LIMIT:
        exp -= 1
    if exp < finest:
        raise ValueError(f"a step with {finest} digits does not fit beside a largest value of {largest}")
    return exp


def pair_exponents(
    ticks: Iterable[Decimal], lots: Iterable[Decimal], *, largest_price: Decimal, largest_qty: Decimal
) -> tuple[int, int]:
    """(price_exp, qty_exp) of one canonical pair over all venues that list it."""
    return exponent_for(ticks, largest_price), exponent_for(lots, largest_qty)


def fee_ppm(rate: str | Decimal) -> int:
    """Fee rate (0.001 = 10 bps) in ppm, rounded up: never pay more than computed."""
    return int((parse_decimal(rate) * 1_000_000).to_integral_value(ROUND_CEILING))
