"""Spot-futures hedge: what a hedge costs beyond its entry, so that its edge is what remains after the exit.

A hedge is entered by two trades and left by two. The entry edge (:mod:`pipeline.detection.edge`) already pays the
two entry fees; from it are taken, all in fractions of the notional:

* both exit fees (the same two instruments, taker);
* the expected basis at exit, ``(futures - spot) / spot``, signed: who is short the contract buys it back above spot
  and loses it, who is long gains it;
* funding: ``rate`` once per this contract's own interval over the holding time, at most as often as an exit looks ahead
  (positive rate: longs pay shorts);
* margin carry per day over the holding time.

The result may be negative (funding that pays): it then lowers the entry edge that is needed. Not a kernel: it moves
with the catalogue, not with the book, and goes into the direction's threshold as one exact number.
"""

from __future__ import annotations

from fractions import Fraction

import msgspec

from pipeline.economics.hedge_exit import FUNDING_TIMES_AHEAD
from pipeline.model.config import HedgeConfig
from pipeline.model.units import BPS, PPM, S_PER_HOUR

PPB = 1_000_000_000


class HedgeTerms(msgspec.Struct, frozen=True, kw_only=True):
    """What one direction of one spot and one contract needs. Fees ppm; funding ppb per interval, + = longs pay."""

    spot_taker_ppm: int
    futures_taker_ppm: int
    funding_rate_ppb: int
    funding_interval_s: int
    short_futures: bool  # True: buy spot, sell the contract


def funding_cost(terms: HedgeTerms, config: HedgeConfig) -> Fraction:
    """Expected funding over the holding time, + = paid by us; intervals count pro rata, none where unknown, and no more
    than ``FUNDING_TIMES_AHEAD``: a rate does not stay for longer."""
    if terms.funding_interval_s <= 0:
        return Fraction(0)
    intervals = Fraction(config.holding_hours) * S_PER_HOUR / terms.funding_interval_s
    paid_by_longs = Fraction(terms.funding_rate_ppb, PPB) * min(intervals, Fraction(FUNDING_TIMES_AHEAD))
    return -paid_by_longs if terms.short_futures else paid_by_longs


def exit_basis_cost(terms: HedgeTerms, config: HedgeConfig) -> Fraction:
    """Expected basis at exit, + = lost by us; 0 where it is left to the executor, which learns it per pair."""
    basis = Fraction(config.expected_exit_basis_bps or 0) / BPS
    return basis if terms.short_futures else -basis


def hedge_cost(terms: HedgeTerms, config: HedgeConfig) -> Fraction:
    """All that a hedge costs beyond its entry, as a fraction of its notional."""
    return Fraction(terms.spot_taker_ppm + terms.futures_taker_ppm, PPM) + assumed_cost(terms, config)


def assumed_cost(terms: HedgeTerms, config: HedgeConfig) -> Fraction:
    """The part of it that is assumed: basis, funding and carry. The executor, which knows better, corrects it by the
    direction's price (``execution/hedging/entry_price.py``, where the same stands in floats)."""
    carry = Fraction(config.carry_bps_per_day) / BPS * Fraction(config.holding_hours) / 24
    return exit_basis_cost(terms, config) + funding_cost(terms, config) + carry
