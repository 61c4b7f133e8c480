"""The names of circuit breakers, and which of them stand in the way of an entry.

``venue.<venue>`` concerns one venue, ``fee.<venue>.<symbol>`` one instrument; every other breaker stops all new risk.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping

from pipeline.execution.evidence import OF_OPERATION
from pipeline.execution.ledger import SECOND_ENGINE, UNEXPLAINED_LOSS, UNKNOWN_PAST
from pipeline.execution.orchestrator import RECOVERY_HOLD

DAILY_LOSS = "daily_loss"
TOTAL_LOSS = "total_loss"  # of all days since the journal began: nothing but the operator ends it
LOSS_LIMIT: Mapping[str, str] = {
    DAILY_LOSS: "risk_limits.max_daily_loss_usd",
    TOTAL_LOSS: "risk_limits.max_total_loss_usd",
}
CANARY_LOSS = "canary.max_daily_loss_usd"  # of the day, four times as much in all
NAKED = "naked_exposure"  # worth x time of what stands alone: pipeline/risk/naked.py
RESUME = "arb resume --reason R"
ADOPT = "arb resume --adopt --reason R"
LOOK = "arb status"
ADOPTED_ONLY = frozenset({UNKNOWN_PAST, SECOND_ENGINE})  # what they found must be taken over, a re-arm is not enough
#: What nobody can explain has happened: the instance is halted, not only stopped, until an operator has looked.
HALTING = frozenset({UNKNOWN_PAST, SECOND_ENGINE, UNEXPLAINED_LOSS, "overfill", "bad_fill"})
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


def rearm_text(name: str) -> str:
    """The command that re-arms a breaker."""
    return f"arb breakers --rearm {name} --reason R"


def solve(name: str, reason: str = "") -> str:
    """The command that re-arms a breaker, and what has to be done before it. ``reason``: why it has tripped."""
    if name == UNKNOWN_PAST:
        return f"{ADOPT} takes over what is at the venues and not in the journal, and lists what it found"
    if name == SECOND_ENGINE:
        return f"stop the other engine on this key; {ADOPT} takes over what it left"
    rearm = rearm_text(name)
    if name == UNEXPLAINED_LOSS:
        return f"look at the account's withdrawals and orders; then {rearm}, which begins to count anew"
    if name == NAKED:
        return f"arb recoveries lists what is not repaired; {rearm} begins to count anew"
    if name == RECOVERY_HOLD:
        return f"arb recoveries lists the IDs: arb recoveries --approve ID (or --cancel ID); {rearm} lets all go on"
    if name in LOSS_LIMIT:
        return _solve_loss(name, reason, rearm)
    if name in ("overfill", "bad_fill"):
        operation = reason.partition(OF_OPERATION)[2].partition(":")[0] or "ID, the operation that its reason names"
        return f"compare the venue's own trades with ours (arb why {operation}); then {rearm}"
    if name.startswith("fee."):
        venue, _ = scope(name)
        how = f"where the account really pays that, say so in fees.{venue} (taker_ppm, deduction; after a restart)"
        return f"{how}; then {rearm} (with --anyway where it pays that no more)"
    if name.startswith("venue.") and reason.startswith(("withdrawal", "order of another client", "liquidation")):
        return f"look at the account's withdrawals and orders; then {rearm}"
    return rearm


def _solve_loss(name: str, reason: str, rearm: str) -> str:
    """Of a loss beyond its limit. ``reason`` names the setting that bounds it."""
    key = next((key for key in (CANARY_LOSS, *LOSS_LIMIT.values()) if f"({key})" in reason), LOSS_LIMIT[name])
    also = f" (and {LOSS_LIMIT[name]} where that is less)" if key == CANARY_LOSS else ""
    shown = "`arb status` shows the day's loss" if name == DAILY_LOSS else "arb report shows what was lost"
    how = f"raise {key}{also} above it ({shown}) and `arb config reload`"
    if name == DAILY_LOSS:
        how += ", or wait for 00:00 UTC, when the loss of a new day begins at 0"
    elif key != LOSS_LIMIT[TOTAL_LOSS]:
        how = f"raise {key}{also} so that four times it is above the loss ({shown}) and `arb config reload`"
    return f"{how}; then {rearm}"
