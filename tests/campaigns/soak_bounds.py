"""What a soak must not show, whatever its slopes: processes that come back late, legs that stand alone, unexplained
breakers, nothing tried."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from pipeline.execution.ledger import SECOND_ENGINE, UNEXPLAINED_LOSS, UNKNOWN_PAST
from pipeline.execution.records import BreakerRecord, Record
from tests.worlds.judging.naked_spans import quantile

BACK_MS = 2000.0  # of feeds and detector, from an end to READY
EXECUTOR_BACK_MS, EXECUTOR_AFTER_HANG_MS = 5000.0, 10_000.0
AROUND_S = 30.0  # a hang, an edge's pages, or a 429 to an upgrade without a time (10 s) are over by then
NAKED_P99_MS_MAX = 1000.0  # seen on a busy host: 86, and 1,128 at most
NAKED_MS_MAX = 35_000.0  # an edge's pages, the pause after them, and a takeover: 20 + 3 + 10 s
UPTIME_MIN = 0.9  # seen: 97 to 99 % on a busy host; a hang of the executor takes about ten seconds of ten minutes
#: What none of the run's troubles explains: a breaker of this kind is a fault, however soon an operator re-arms it.
UNEXPLAINED = ("overfill", "bad_fill", "fee.", UNKNOWN_PAST, SECOND_ENGINE, UNEXPLAINED_LOSS, "malformed", "emergency")


@dataclass(frozen=True, slots=True)
class Recovery:
    """A process was READY again ``ms`` after its end, seen at ``at_s`` (monotonic)."""

    process: str
    at_s: float
    ms: float


def recovery_limit_ms(
    recovery: Recovery, hangs_s: Sequence[float], edges_s: Sequence[float], refusals_s: Sequence[float]
) -> float | None:
    """Within which time it must be READY; None for one without a promise. When (monotonic) the executor was hung; a
    venue began to answer with pages, so that no executor can reconcile with it; or to refuse upgrades by a 429, which
    no feed knocks on again before its time."""

    def after(times_s: Sequence[float]) -> bool:
        return any(0 <= recovery.at_s - at_s < AROUND_S for at_s in times_s)

    if recovery.process.startswith("feed.") or recovery.process == "detector":
        return None if after(refusals_s) else BACK_MS
    if recovery.process != "executor" or after(edges_s):
        return None
    return EXECUTOR_AFTER_HANG_MS if after(hangs_s) else EXECUTOR_BACK_MS


def slow_recoveries(
    found: Sequence[Recovery], hangs_s: Sequence[float], edges_s: Sequence[float], refusals_s: Sequence[float] = ()
) -> list[str]:
    """Kinds of processes whose p99 is beyond its limit, in words."""
    kinds: dict[tuple[str, float], list[float]] = {}
    for recovery in found:
        limit = recovery_limit_ms(recovery, hangs_s, edges_s, refusals_s)
        if limit is not None:
            kind = "executor" if recovery.process == "executor" else "feeds and detector"
            kinds.setdefault((kind, limit), []).append(recovery.ms)
    return [
        f"{kind}: READY again after {quantile(spans, 0.99):.0f} ms (p99), wanted {limit:.0f} at most"
        for (kind, limit), spans in sorted(kinds.items())
        if quantile(spans, 0.99) > limit
    ]


def unexplained(records: Iterable[Record]) -> list[str]:
    """Breakers that the run's troubles do not explain, in words: the operator who is played re-arms all of them."""
    return [
        f"breaker {record.name} tripped: {record.reason}"
        for record in records
        if isinstance(record, BreakerRecord) and record.tripped and record.name.startswith(UNEXPLAINED)
    ]


def not_tried(steps: Iterable[str], recoveries: Iterable[Recovery], operations: int) -> list[str]:
    """Why a run proves nothing: killed processes that were never seen READY again, or nothing traded. ``steps``: what
    was done, in words."""
    killed = {what.removeprefix("kill ") for what in steps if what.startswith("kill ")}
    back = {recovery.process for recovery in recoveries}
    found = [f"{process} was killed, and not seen READY again" for process in sorted(killed - back)]
    return found if operations else [*found, "no operation"]


def too_naked(spans_ms: list[float], uptime: float) -> list[str]:
    """What stood alone for longer than any trouble of the plan lasts, or too often, and an uptime that is none."""
    late = [
        f"a leg stood alone for {found:.0f} ms{which}, wanted {limit:.0f} at most"
        for found, limit, which in (
            (max(spans_ms, default=0.0), NAKED_MS_MAX, ""),
            (quantile(spans_ms, 0.99), NAKED_P99_MS_MAX, " (p99)"),
        )
        if found > limit
    ]
    if uptime < UPTIME_MIN:
        late.append(f"new risk was possible {100 * uptime:.0f} % of the time, wanted {100 * UPTIME_MIN:.0f} at least")
    return late
