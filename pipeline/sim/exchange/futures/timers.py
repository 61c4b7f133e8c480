"""What a venue does at its own times: funding at its stamps, rates along their paths, margin checks."""

from __future__ import annotations

from pipeline.sim.exchange.instruments import SimInstrument
from pipeline.sim.exchange.latency import NS_PER_MS, NS_PER_S
from pipeline.sim.exchange.paths import rate_at
from pipeline.sim.exchange.venue import SimVenue

MARGIN_CHECK_NS = 200 * NS_PER_MS  # how old a change of the mark may be before margins are looked at
RATE_STEP_NS = NS_PER_S  # how often a funding rate moves along its path


def arm_timers(venue: SimVenue) -> None:
    """Starts the timers of a venue's contracts on its clock; nothing for a spot venue."""
    contracts = [row for row in venue.instruments.values() if row.is_futures]
    for row in contracts:
        if row.funding_interval_s:
            _plan_funding(venue, row.symbol)
    if contracts:
        _plan_margin_check(venue)


def follow_funding_paths(venue: SimVenue) -> None:
    """The paths of its contracts' funding rates begin now."""
    for row in venue.instruments.values():
        if row.funding_path:
            _follow_funding_path(venue, row)


def _plan_funding(venue: SimVenue, symbol: str) -> None:
    row = venue.instruments[symbol]

    def pay() -> None:
        venue.apply_funding(symbol)
        row.funding_next_s += row.funding_interval_s
        _plan_funding(venue, symbol)

    venue.clock.call_later(max(0, row.funding_next_s * NS_PER_S - venue.wall_ns()), pay)


def _follow_funding_path(venue: SimVenue, row: SimInstrument) -> None:
    """Moves the indicated rate, which is also the one that is applied at a stamp."""
    began_ns = venue.clock.mono_ns()

    def step() -> None:
        at_s = (venue.clock.mono_ns() - began_ns) / NS_PER_S
        row.funding_rate = rate_at(row.funding_path, at_s)
        if at_s < row.funding_path[-1][0]:
            venue.clock.call_later(RATE_STEP_NS, step)

    step()


def _plan_margin_check(venue: SimVenue) -> None:
    def check() -> None:
        venue.check_margins()
        _plan_margin_check(venue)

    venue.clock.call_later(MARGIN_CHECK_NS, check)
