"""What is said while an instance runs on another journal than was recorded before."""

from __future__ import annotations

from collections.abc import Mapping

from pipeline.trade_state import Effect, Reason

BEGUN_ANEW = "journals_begun_anew"  # counter of the recorder
OTHER_JOURNAL = (
    "the journal is not the one that was recorded before (lost, replaced, or restored from an older copy): it is "
    "recorded from its beginning, and what ledger.sqlite has of the one before stays there"
)


def journal_notes(counters: Mapping[str, int]) -> list[Reason]:
    """A note where the recorder has begun anew. ``counters``: the recorder's."""
    if not counters.get(BEGUN_ANEW):
        return []
    solve = "arb report and arb why read both; where that was not meant, stop and put the old journal back"
    return [Reason(what=OTHER_JOURNAL, solve=solve, effect=Effect.NOTE)]
