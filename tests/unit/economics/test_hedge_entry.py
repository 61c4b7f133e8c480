"""What a hedge is expected to give back, against a walk over every hour of its holding time."""

from __future__ import annotations

from fractions import Fraction

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.economics.hedge_entry import expected_exit_bps


def slowly(
    mu: Fraction, half: Fraction, first_h: Fraction, rate: Fraction, mean: Fraction, carry: Fraction, interval: Fraction
) -> Fraction:
    """Exact, every funding time from its own formula: the rate keeps 7/10 of its distance from the mean each time."""
    until = half if half <= 24 else Fraction(4)
    times = [first_h + number * interval for number in range(100)]
    rates = [mean + (rate - mean) * Fraction(7, 10) ** number for number, at in enumerate(times) if at <= until]
    return mu + carry * half - sum(rates[:8]) - sum(min(late, Fraction(0)) for late in rates[8:])


def numbers(low: int, high: int) -> st.SearchStrategy[Fraction]:
    return st.integers(low * 64, high * 64).map(lambda number: Fraction(number, 64))


@given(
    mu=numbers(-100, 100),
    half=numbers(1, 340),
    first_h=numbers(0, 8),
    rate=numbers(-30, 30),
    mean=numbers(-5, 5),
    carry=numbers(0, 2),
    interval=numbers(1, 8),
)
def test_equals_the_exact_walk(**terms: Fraction) -> None:
    found = expected_exit_bps(
        mu_bps=float(terms["mu"]),
        half_life_h=float(terms["half"]),
        next_funding_h=float(terms["first_h"]),
        next_rate_bps=float(terms["rate"]),
        mean_rate_bps=float(terms["mean"]),
        carry_bps_per_h=float(terms["carry"]),
        interval_h=float(terms["interval"]),
    )
    assert found == pytest.approx(float(slowly(**terms)), abs=1e-6)


@pytest.mark.parametrize(
    ("terms", "wanted"),
    [
        ((25, 4, 5, 3, 3, 0), 25.0),  # a basis that is always there is given back whole; no funding time before it
        ((25, 4, 4, 3, 3, 0), 22.0),  # a whole funding time, not its share
        ((25, 4, 4, -3, 3, 0), 28.0),
        ((0, 20, 4, 10, 0, 0.125), 0 + 2.5 - 10 - 7 - 4.9),
        ((0, 100, 4, 10, 0, 0.125), 12.5 - 10),  # no reversion: carry for as long as it may last, one funding time
    ],
)
def test_by_hand(terms: tuple[float, ...], wanted: float) -> None:
    assert expected_exit_bps(*terms, interval_h=8.0) == pytest.approx(wanted)
