"""The exit threshold against worked cases, and the kernel's comparison against exact rationals."""

from __future__ import annotations

from fractions import Fraction
from math import erf, exp, pi, sqrt

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pipeline.economics.hedge_exit import (
    exit_threshold_bps,
    flipped,
    funding_time_counts,
    leaves,
    stop_distance_sd,
    threshold_milli_bps,
    value_of_leaving_bps,
)

#: mean of y now, mu, hours to the funding time, its rate, long mean of the rate; changed settings; threshold
CASES = [
    ((10, 0, 4, 0, 0), {}, -18.52),
    ((10, 0, 4, 5, 1), {}, -20.00),
    ((10, 0, 0.1, 5, 1), {}, -20.00),
    ((10, 0, 4, -5, -1), {}, -7.57),
    ((10, 0, 0.1, -25, -1), {}, 10.00),  # leave before the funding time
    ((10, 0, 7.9, -25, -1), {}, 0.82),
    ((27, 25, 4, 0, 0), {}, 6.48),
    ((10, 0, 2, 1, 0), {"sd_bps": 6, "half_life_h": 0.25, "interval_h": 1}, -17.44),
    ((30, 20, 4, -4, -4), {"sd_bps": 15, "half_life_h": 24}, 30.00),
    ((0, 0, 4, 0, 0), {"carry_bps_per_h": 2}, 0.00),
]


@pytest.mark.parametrize(("numbers", "changes", "wanted"), CASES)
def test_threshold_of_worked_cases(numbers: tuple[float, ...], changes: dict[str, float], wanted: float) -> None:
    now, mu, funding_h, rate, mean_rate = numbers
    settings = {"sd_bps": 10.0, "half_life_h": 4.0, "carry_bps_per_h": 0.14, "interval_h": 8.0, "round_trip_bps": 20.0}
    found = exit_threshold_bps(
        basis_mean_now_bps=now,
        mu_bps=mu,
        next_funding_h=funding_h,
        next_rate_bps=rate,
        mean_rate_bps=mean_rate,
        **{**settings, **changes},
    )
    assert found == pytest.approx(wanted, abs=0.005)


@pytest.mark.parametrize("z", [3.4, 2.5, 1.9, 1.0, 0.5, 0.1, -0.2, -0.8, -1.9, -2.6])
def test_stop_table_is_density_over_distribution(z: float) -> None:
    ratio = exp(-z * z / 2) / sqrt(2 * pi) / (0.5 * (1 + erf(z / sqrt(2))))
    assert stop_distance_sd(ratio) == pytest.approx(z, abs=0.12)  # linear between the table's points


def test_stop_table_is_clamped_outside() -> None:
    assert stop_distance_sd(0.0) == 3.46
    assert stop_distance_sd(float("nan")) == 3.46
    assert stop_distance_sd(50.0) == -4.81


@pytest.mark.parametrize(
    ("futures", "threshold", "s", "wanted"),
    [
        (60060, 10, 1, True),
        (60061, 10, 1, False),
        (59970, -5, 1, True),
        (59971, -5, 1, False),
        (59940, 10, -1, True),
        (59939, 10, -1, False),
        (60030, -5, -1, True),
        (60029, -5, -1, False),
    ],
)
def test_a_hedge_leaves_exactly_at_its_threshold(futures: int, threshold: float, s: int, wanted: bool) -> None:
    milli = threshold_milli_bps(threshold)
    assert milli is not None
    assert leaves(futures, 60000, milli, s) is wanted


@given(
    st.integers(1, 10**12),
    st.integers(1, 10**12),
    st.integers(-(10**6), 10**6),
    st.sampled_from([1, -1]),
)
def test_leaves_equals_rationals(futures: int, spot: int, milli_bps: int, s: int) -> None:
    basis_bps = s * Fraction(futures - spot, spot) * 10_000
    assert leaves(futures, spot, milli_bps, s) is (basis_bps <= Fraction(milli_bps, 1000))


def test_a_threshold_is_rounded_against_leaving_and_nonsense_is_none() -> None:
    assert threshold_milli_bps(-18.5204) == -18521
    assert threshold_milli_bps(float("nan")) is None
    assert threshold_milli_bps(float("-inf")) is None
    assert threshold_milli_bps(1e300) is None


def test_value_of_leaving_counts_what_was_paid_and_received() -> None:
    value = value_of_leaving_bps(
        entry_basis_bps=40,
        y_bps=5,
        entry_fees_bps=10,
        exit_fees_bps=10,
        funding_bps=3,
        carry_bps_per_h=0.5,
        age_h=4,
    )
    assert value == 16


def test_near_a_stamp_a_payment_counts_and_a_receipt_does_not() -> None:
    assert funding_time_counts(61, 5)
    assert not funding_time_counts(60, 5)
    assert funding_time_counts(60, -5)


def test_a_flip_needs_two_payments_beyond_a_round_trip_and_a_third_announced() -> None:
    assert flipped((-12, -9), -1, 20)
    assert not flipped((-10, -10), -1, 20)
    assert not flipped((-30, 1), -1, 20)
    assert not flipped((-12, -9), 0, 20)
