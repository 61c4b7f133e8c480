"""What a spot-futures hedge that is entered now is expected to give back before it has left, beside its fees.

A hedge earns the basis that it enters at less the basis that it leaves at. It leaves around the mean of the pair's
model, not around zero: a basis that is always there is never earned. Units: bps of notional, hours. ``y`` is the basis
at the prices of leaving, signed so that a smaller one is a cheaper exit. The entry edge less this and the exit's fees
is what the entry is worth.

Written so that numba compiles it as it stands (``bench.economics``).
"""

from __future__ import annotations

from pipeline.economics.basis_model import HALF_LIFE_TRADED_MAX_H, UNKNOWN_HALF_LIFE_H
from pipeline.economics.hedge_exit import FUNDING_TIMES_AHEAD, RATE_PERSISTENCE


def funding_counted_h(half_life_h: float) -> float:
    """How far ahead funding counts: one half-life; as of an unknown pair where that is too long to trade."""
    return half_life_h if half_life_h <= HALF_LIFE_TRADED_MAX_H else UNKNOWN_HALF_LIFE_H


def expected_exit_bps(
    mu_bps: float,
    half_life_h: float,
    next_funding_h: float,
    next_rate_bps: float,
    mean_rate_bps: float,
    carry_bps_per_h: float,
    interval_h: float,
) -> float:
    """Expected ``y`` at leaving, less the funding received at the whole funding times until then, plus the carry of
    one half-life. Receipts count at as many funding times as an exit looks ahead to, payments at all. A pair that does
    not revert is charged the carry of its long half-life and credited no funding for it.

    ``mu_bps``: mean of ``y``; ``next_rate_bps``, ``mean_rate_bps``: funding that we receive (negative: pay) at the next
    funding time and in the long run. Negative: the hedge is expected to gain after its entry. Call it with keywords.
    """
    cost = mu_bps + carry_bps_per_h * half_life_h
    hours, rate, ahead_h = next_funding_h, next_rate_bps, funding_counted_h(half_life_h)
    counted = 0
    while hours <= ahead_h:
        if rate < 0.0 or counted < FUNDING_TIMES_AHEAD:
            cost -= rate
        counted += 1
        rate = mean_rate_bps + RATE_PERSISTENCE * (rate - mean_rate_bps)
        hours += interval_h
    return cost
