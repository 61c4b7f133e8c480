"""A delisting: announced, then (futures) reduce-only, then the end, when positions are settled at the mark.

At the start of the reduce-only time open orders are cancelled and only orders that reduce are taken; at the end the
venue closes what is left at one price and the instrument stays halted. A spot pair trades on until its end.
Source: Gate.io APIv4 contract fields ``delisting_time`` (reduce-only starts) and ``delisted_time``; its delisting
announcements of 2026.
"""

from __future__ import annotations

from pipeline.model.enums import TradingStatus
from pipeline.sim.exchange.accounts import SimAccount
from pipeline.sim.exchange.latency import NS_PER_S
from pipeline.sim.exchange.venue import SimVenue


def announce(venue: SimVenue, symbol: str, *, starts_in_ns: int, lasts_ns: int) -> None:
    """Names the times in the instrument's row and plans both ends on the venue's clock."""
    row = venue.instruments[symbol]
    row.delisting_s = (venue.wall_ns() + starts_in_ns) // NS_PER_S
    row.delisted_s = (venue.wall_ns() + starts_in_ns + lasts_ns) // NS_PER_S
    if row.is_futures:
        venue.clock.call_later(starts_in_ns, lambda: _start_reducing(venue, symbol))
    venue.clock.call_later(starts_in_ns + lasts_ns, lambda: _end(venue, symbol))


def _accounts(venue: SimVenue) -> list[SimAccount]:
    return list({id(one): one for one in venue.accounts.values()}.values())


def _start_reducing(venue: SimVenue, symbol: str) -> None:
    venue.instruments[symbol].only_reduces = True
    for account in _accounts(venue):
        venue.cancel_all(account, symbol)


def _end(venue: SimVenue, symbol: str) -> None:
    row = venue.instruments[symbol]
    row.status, row.is_delisted, row.only_reduces = TradingStatus.HALTED, True, False
    for account in _accounts(venue):
        venue.cancel_all(account, symbol)
        if row.is_futures:
            venue.force_close(account, symbol, "settlement")
