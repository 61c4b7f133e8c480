"""Exact decimal text <-> int64."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.model import fixedpoint as fx

EXPS = st.integers(0, 12)


@given(st.integers(-(2**62), 2**62), EXPS)
def test_round_trip_is_exact(value_fp: int, exp: int) -> None:
    assert fx.to_fp(fx.from_fp(value_fp, exp), exp) == value_fp
    assert fx.to_fp(fx.plain(fx.from_fp(value_fp, exp)), exp) == value_fp


@given(st.decimals(min_value=-(10**6), max_value=10**6, places=9), st.integers(0, 8))
def test_floor_and_ceil_enclose_the_value(value: Decimal, exp: int) -> None:
    low, high = fx.from_fp(fx.to_fp_floor(value, exp), exp), fx.from_fp(fx.to_fp_ceil(value, exp), exp)
    assert low <= value <= high
    assert high - low in (0, Decimal(1).scaleb(-exp))


@pytest.mark.parametrize("text", ["", "nan", "inf", "-inf", "1_000", " 1", "1 ", "\u0661\u0662", "0x10", "1e", "--1"])
def test_text_that_is_not_a_finite_plain_number_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="not a"):
        fx.to_fp(text, 8)


def test_digits_beyond_the_exponent_are_refused_not_rounded() -> None:
    with pytest.raises(ValueError, match="more than 2 digits"):
        fx.to_fp("1.005", 2)


def test_overflow_is_refused_with_the_value() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        fx.to_fp("1e19", 0)


@given(st.decimals(min_value=0, max_value=10**6, places=8), st.sampled_from(["0.01", "0.5", "3", "0.0001"]))
def test_quantize_keeps_to_the_step(value: Decimal, step_text: str) -> None:
    step = Decimal(step_text)
    down, up = fx.quantize_down(value, step), fx.quantize_up(value, step)
    assert down <= value <= up
    assert down % step == 0 and up % step == 0
    assert up - down in (0, step)


def test_exponents_leave_four_digits_beyond_the_finest_step_and_at_least_eight() -> None:
    price_exp, qty_exp = fx.pair_exponents(
        [Decimal("0.01"), Decimal("0.1")],
        [Decimal("0.000001"), Decimal("0.0001")],
        largest_price=Decimal(10**6),
        largest_qty=Decimal(10**6),
    )
    assert (price_exp, qty_exp) == (8, 10)


def test_exponents_are_lowered_until_the_largest_value_fits() -> None:
    assert fx.exponent_for([Decimal(1)], Decimal(10) ** 15) == 3


def test_a_step_that_cannot_be_held_is_refused() -> None:
    with pytest.raises(ValueError, match="does not fit"):
        fx.exponent_for([Decimal("1e-12")], Decimal(10) ** 10)


def test_fees_round_up() -> None:
    assert fx.fee_ppm("0.00075") == 750
    assert fx.fee_ppm("0.0000001") == 1
    assert fx.fee_ppm("-0.000152") == -152
