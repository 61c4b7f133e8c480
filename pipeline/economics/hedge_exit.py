"""When a spot-futures hedge is closed by choice: the basis at which closing earns more than holding. Also what it would
have earned so far, and two rules about funding.

Units: bps of notional, hours. ``y`` is the basis at the prices of leaving, signed so that a smaller one is a cheaper
exit. Leave when ``y <= threshold``. Everything here is slow-loop arithmetic in floats; the comparison itself is exact
(:func:`threshold_milli_bps` and the detector's kernel).

Source: Leung and Li, *Optimal Mean Reversion Trading* (stopping level of an Ornstein-Uhlenbeck process); He, Manela,
Ross and von Wachter, *Fundamentals of Perpetual Futures*, arXiv 2212.06888 (costs make a band).
"""

from __future__ import annotations

from math import exp, floor, isfinite, log

#: k/(theta sd), and z with phi(z)/N(z) equal to it (normal density over distribution); linear between, clamped outside.
_STOP_RATIO = (0.001, 0.01, 0.03, 0.1, 0.2, 0.4, 0.6, 0.8, 1.0, 1.5, 2.0, 3.0, 5.0)
_STOP_Z = (3.46, 2.72, 2.28, 1.69, 1.26, 0.73, 0.33, 0.0, -0.30, -0.97, -1.57, -2.69, -4.81)
FUNDING_TIMES_AHEAD = 8  # funding times that the look-ahead considers
RATE_PERSISTENCE = 0.7  # of a rate's distance from its long mean, from one funding time to the next
MILLI_BPS_MAX = 2**53  # a threshold beyond this is not compared in the kernel


def stop_distance_sd(cost_ratio: float) -> float:
    """How many standard deviations below the mean one leaves, for ``k / (theta sd)`` = ``cost_ratio``."""
    if not cost_ratio > _STOP_RATIO[0]:
        return _STOP_Z[0]
    for k in range(1, len(_STOP_RATIO)):
        if cost_ratio <= _STOP_RATIO[k]:
            share = (cost_ratio - _STOP_RATIO[k - 1]) / (_STOP_RATIO[k] - _STOP_RATIO[k - 1])
            return _STOP_Z[k - 1] + (_STOP_Z[k] - _STOP_Z[k - 1]) * share
    return _STOP_Z[-1]


def exit_threshold_bps(
    basis_mean_now_bps: float,
    mu_bps: float,
    sd_bps: float,
    half_life_h: float,
    next_funding_h: float,
    next_rate_bps: float,
    mean_rate_bps: float,
    carry_bps_per_h: float,
    interval_h: float,
    round_trip_bps: float,
) -> float:
    """The ``y`` at and below which leaving now beats holding.

    ``basis_mean_now_bps``: mean of ``y`` over two minutes. ``mu_bps``, ``sd_bps``, ``half_life_h``: the pair's model of
    ``y``. ``next_rate_bps`` and ``mean_rate_bps``: funding that we receive (negative: pay) at the next funding time and
    in the long run. ``carry_bps_per_h``: cost of capital and borrow. ``round_trip_bps``: both taker fees of entry and
    exit: a dip deeper than that is always taken, because the hedge can be entered again at the mean.

    Call it with keywords; it is written so that numba compiles it as it stands (``bench.economics``).
    """
    theta = log(2.0) / half_life_h
    hourly_cost, received = carry_bps_per_h, 0.0
    best, rate = basis_mean_now_bps, next_rate_bps
    for later in range(FUNDING_TIMES_AHEAD):
        hours = next_funding_h + later * interval_h
        weight = exp(-theta * hours)
        hourly_cost -= theta * rate * weight
        received += rate
        waited = mu_bps + (basis_mean_now_bps - mu_bps) * weight - received + carry_bps_per_h * hours
        best = min(best, waited)  # wait until right after this funding time
        rate = mean_rate_bps + RATE_PERSISTENCE * (rate - mean_rate_bps)
    dip = min(stop_distance_sd(max(hourly_cost, 0.0) / (theta * sd_bps)) * sd_bps, round_trip_bps)
    return min(mu_bps - dip, best)


def threshold_milli_bps(threshold_bps: float) -> int | None:
    """The threshold as the kernel compares it: floor of 1000 bps. None: not a number that can be compared."""
    if not isfinite(threshold_bps) or abs(threshold_bps) * 1000 >= MILLI_BPS_MAX:
        return None
    return floor(1000 * threshold_bps)


def leaves(futures: int, spot: int, milli_bps: int, s: int) -> bool:
    """``s (F - S) 10^7 <= Y S``, exact: the rule of the kernel in plain integers (prices in one fixed point)."""
    return s * (futures - spot) * 10**7 <= milli_bps * spot


def value_of_leaving_bps(
    *,
    entry_basis_bps: float,
    y_bps: float,
    entry_fees_bps: float,
    exit_fees_bps: float,
    funding_bps: float,
    carry_bps_per_h: float,
    age_h: float,
) -> float:
    """What the hedge would have earned if it left now. ``entry_basis_bps`` is signed like ``y``. Shown, and bounds
    losses."""
    return entry_basis_bps - y_bps - entry_fees_bps - exit_fees_bps + funding_bps - carry_bps_per_h * age_h


def funding_time_counts(seconds_to_funding_time: float, rate_received_bps: float, window_s: float = 60.0) -> bool:
    """Whether a funding time so near counts: within ``window_s`` a payment is ours to make, a receipt is not yet
    ours."""
    return seconds_to_funding_time > window_s or rate_received_bps < 0


def flipped(paid_bps: tuple[float, float], indicated_bps: float, round_trip_bps: float) -> bool:
    """We paid at two funding times running, together more than a round trip, and are to pay again.

    Amounts are received ones: negative is paid.
    """
    first, second = paid_bps
    return first < 0 and second < 0 and first + second < -round_trip_bps and indicated_bps < 0
