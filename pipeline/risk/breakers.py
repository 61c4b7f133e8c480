"""The names of circuit breakers, and which of them stand in the way of an entry.

``venue.<venue>`` concerns one venue, ``fee.<venue>.<symbol>`` one instrument; every other breaker stops all new risk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pipeline.execution.ledger import SECOND_ENGINE, UNEXPLAINED_LOSS, UNKNOWN_PAST
from pipeline.execution.orchestrator import RECOVERY_HOLD

DAILY_LOSS = "daily_loss"
TOTAL_LOSS = "total_loss"  # of all days since the journal began: nothing but the operator ends it
NAKED = "naked_exposure"  # worth x time of what stands alone: pipeline/risk/naked.py
ADOPT = "arb resume --adopt --reason R"
ADOPTED_ONLY = frozenset({UNKNOWN_PAST, SECOND_ENGINE})  # what they found must be taken over, a re-arm is not enough
SCOPED = ("venue.", "fee.")
#: What trips each breaker, for people.
MEANINGS: Mapping[str, str] = {
    DAILY_LOSS: "the day's loss, unrealised part included, has reached risk_limits.max_daily_loss_usd",
    TOTAL_LOSS: "the loss below the highest P&L since the journal began has reached risk_limits.max_total_loss_usd",
    NAKED: "what stands alone, in USD times seconds, has reached risk_limits.max_naked_usd_s",
    UNEXPLAINED_LOSS: "more than risk_limits.max_unexplained_loss_usd has left an account without a reason",
    RECOVERY_HOLD: "an operation cannot be repaired within its bounds: an operator decides",
    UNKNOWN_PAST: "a venue has positions, or orders of our ids, that the journal does not know",
    SECOND_ENGINE: "orders of another engine with this kind of ids appear on the account",
    "overfill": "a venue reports more filled than was ordered",
    "bad_fill": "a fill that contradicts its order: its side, its quantity, or a price beyond the limit",
    "malformed": "opportunity records that cannot be true come again and again",
    "duplicates": "the same opportunity comes again and again",
    "emergency": "a program called force_emergency_shutdown()",
    "venue.VENUE": "a venue refused or lost too many orders in a row, or its account shows what is not ours",
    "fee.VENUE.SYMBOL": "a fill was charged more than the catalogue says, or in an asset that nobody named",
}
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


def scope(name: str) -> Symbol:
    """Venue and symbol that a breaker of this name is limited to; "" for every one."""
    if stops_everything(name):
        return "", ""
    venue, _, symbol = name.partition(".")[2].partition(".")
    return venue, symbol


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
    if name == TOTAL_LOSS:
        return f"look at what was lost (arb report); raise risk_limits.max_total_loss_usd, `arb config reload`; {rearm}"
    if name in ("overfill", "bad_fill"):
        return f"compare the venue's own trades with ours (arb inspect journal 50); then {rearm}"
    if name.startswith("fee."):
        venue, _ = scope(name)
        return f"where the account really pays that, say so in fees.{venue} (a restart takes it in); then {rearm}"
    return rearm
