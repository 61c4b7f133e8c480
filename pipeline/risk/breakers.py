"""The names of circuit breakers, and which of them stand in the way of an entry.

``venue.<venue>`` concerns one venue, ``fee.<venue>.<symbol>`` one instrument; every other breaker stops all new risk.
"""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.execution.ledger import SECOND_ENGINE, UNKNOWN_PAST
from pipeline.execution.orchestrator import RECOVERY_HOLD

DAILY_LOSS = "daily_loss"
ADOPTED = (UNKNOWN_PAST, SECOND_ENGINE)  # ended by adoption, not re-armed
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


def solve(name: str) -> str:
    """The command that re-arms a breaker, and what has to be done before it."""
    rearm = f"arb breakers --rearm {name} --reason R"
    if name in ADOPTED:
        first = "stop the other engine, then " if name == SECOND_ENGINE else ""
        return f"{first}arb resume --adopt --reason R: lists what it finds at the venues and takes it over"
    if name == RECOVERY_HOLD:
        return f"arb recoveries --approve ID (or --cancel ID); {rearm} lets all of them go on"
    if name == DAILY_LOSS:
        return f"raise risk_limits.max_daily_loss_usd and `arb config reload`, or wait for 00:00 UTC; then {rearm}"
    return rearm
