"""The names of circuit breakers, and which of them stand in the way of an entry.

``venue.<venue>`` concerns one venue, ``fee.<venue>.<symbol>`` one instrument; every other breaker stops all new risk.
"""

from __future__ import annotations

from collections.abc import Iterable

from pipeline.execution.ledger import SECOND_ENGINE, UNEXPLAINED_LOSS, UNKNOWN_PAST
from pipeline.execution.orchestrator import RECOVERY_HOLD

DAILY_LOSS = "daily_loss"
NAKED = "naked_exposure"  # worth x time of what stands alone: pipeline/risk/naked.py
ADOPT = "arb resume --adopt --reason R"
ADOPTED_ONLY = frozenset({UNKNOWN_PAST, SECOND_ENGINE})  # what they found must be taken over, a re-arm is not enough
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
    if name == UNKNOWN_PAST:
        return f"{ADOPT} takes over positions and orders that the journal does not know, and lists them"
    if name == SECOND_ENGINE:
        return f"stop the other engine on this key; {ADOPT} takes over what it left"
    rearm = f"arb breakers --rearm {name} --reason R"
    if name == UNEXPLAINED_LOSS:
        return f"look at the account's withdrawals and orders; then {rearm}, which begins to count anew"
    if name == NAKED:
        return f"arb recoveries lists what is not repaired; {rearm} begins to count anew"
    if name == RECOVERY_HOLD:
        return f"arb recoveries lists the IDs: arb recoveries --approve ID (or --cancel ID); {rearm} lets all go on"
    if name == DAILY_LOSS:
        return f"raise risk_limits.max_daily_loss_usd and `arb config reload`, or wait for 00:00 UTC; then {rearm}"
    return rearm
