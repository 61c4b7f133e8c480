"""How the simulated venues write numbers in JSON: exact decimal digits, precisions and fee rates as text."""

from __future__ import annotations

from decimal import Decimal


def exact_text(value: Decimal) -> str:
    """Digits without exponent and without trailing zeros; "0" for zero."""
    return format(value.normalize(), "f") if value else "0"


def fraction_digits(step: Decimal) -> int:
    """Digits behind the point that a step needs: 0.05 -> 2, 10 -> 0."""
    exponent = step.normalize().as_tuple().exponent
    return max(0, -exponent) if isinstance(exponent, int) else 0


def rate_text(ppm: int) -> str:
    """A rate in parts per million as a fraction: 500 -> "0.0005"."""
    return exact_text(Decimal(ppm).scaleb(-6))
