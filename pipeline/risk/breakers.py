"""The names of circuit breakers, and which of them stand in the way of an entry.

``venue.<venue>`` concerns one venue, ``fee.<venue>.<symbol>`` one instrument; every other breaker stops all new risk.
"""

from __future__ import annotations

from collections.abc import Iterable

SCOPED = ("venue.", "fee.")
Symbol = tuple[str, str]  # venue and its name for an instrument: the same in every run


def venue_breaker(venue: str) -> str:
    """Name of the breaker that stops new risk on one venue."""
    return f"venue.{venue}"


def fee_breaker(venue: str, symbol: str) -> str:
    """Name of the breaker that stops new risk on one instrument, whose fees are not what the catalogue says."""
    return f"fee.{venue}.{symbol}"


def stops_everything(name: str) -> bool:
    """Whether a tripped breaker of this name stops new risk on every venue."""
    return not name.startswith(SCOPED)


def blocking(breakers: Iterable[str], instruments: Iterable[Symbol]) -> str:
    """The first of ``breakers`` that stands in the way of an entry on ``instruments``; "" when none does."""
    concerned = {name for venue, symbol in instruments for name in (venue_breaker(venue), fee_breaker(venue, symbol))}
    return next((name for name in breakers if stops_everything(name) or name in concerned), "")
