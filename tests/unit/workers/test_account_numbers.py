"""Amounts as integers of a common exponent: exact where they fit, cut where they do not."""

from __future__ import annotations

from decimal import Decimal

from hypothesis import given
from hypothesis import strategies as st

from workers.poller import common_exp, fixed


@given(st.decimals(min_value=-(10**9), max_value=10**9, allow_nan=False, allow_infinity=False, places=9))
def test_amounts_that_fit_are_exact(value: Decimal) -> None:
    mantissa, exp = fixed(value)
    assert Decimal(mantissa).scaleb(-exp) == value


def test_digits_that_do_not_fit_are_cut_not_rounded_up() -> None:
    value = Decimal("123456789.123456789123456789")
    mantissa, exp = fixed(value)
    assert 0 <= value - Decimal(mantissa).scaleb(-exp) < Decimal("1e-9")
    assert abs(mantissa) < 2**63


def test_common_exponent_carries_both() -> None:
    assert common_exp([Decimal("1.5"), Decimal("0.000000001")]) == 9
    assert common_exp([Decimal("9000000000"), Decimal("1e-18")]) == 8
    assert common_exp([]) == 0
