"""Funding as the venues booked it: asked for, never estimated, each payment once for ever by the venue's own identity.

The books of a futures venue are asked when its session comes up (so after every start: what was paid while we were
down), when its stream says that something was booked, once a minute, and before a stop. A question reaches back
behind the newest payment that the journal holds, because venues list a booking late; what is known is dropped here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

from pipeline.execution.core_context import CoreContext
from pipeline.execution.events import FetchFunding, FundingAnswer
from pipeline.execution.records import FundingRecord
from pipeline.model.enums import InstrumentKind
from pipeline.model.venue_events import FundingNews

INTERVAL_NS = 60_000_000_000
NEWS_PAUSE_FIRST_NS = 150_000_000
NEWS_PAUSE_MAX_NS = 2_000_000_000
NEWS_TRIES_MAX = 8  # about 10 s; afterwards the minute's question finds it
ANSWER_LOST_NS = 15_000_000_000
SINCE_MARGIN_MS = 3_600_000  # how late a booking may be listed
NEWS_MATCH_MS = 2_000  # a booking's time in the stream and in the books: one of them in whole seconds


@dataclass(slots=True)
class _Venue:
    asked_mono_ns: int = 0  # of the question under way; 0 = none
    due_mono_ns: int = 0
    tries: int = 0
    final: bool = False  # a stop waits for one more answer
    news: list[FundingNews] = field(default_factory=list)  # told by the stream, not found in the books yet


class FundingWatch:
    """Questions on ``tick``, records on answers. ``rate``: value of an asset in the numeraire, None = unknown."""

    def __init__(self, context: CoreContext, rate: Callable[[str], Decimal | None]) -> None:
        self._context = context
        self._rate = rate
        self._venues: dict[str, _Venue] = {}

    def session_up(self, venue: str) -> None:
        """A futures venue stands (again): what it booked meanwhile is asked for at once."""
        if any(r.spec.venue == venue and r.spec.kind is InstrumentKind.PERPETUAL for r in self._context.instruments):
            state = self._venues.setdefault(venue, _Venue())
            state.due_mono_ns = self._context.now.mono_ns

    def on_news(self, news: FundingNews) -> None:
        state = self._venues.setdefault(news.venue, _Venue())
        state.news.append(news)
        state.tries = 0
        state.due_mono_ns = min(state.due_mono_ns, self._context.now.mono_ns + NEWS_PAUSE_FIRST_NS)

    def stopping(self) -> None:
        """One more question of each venue, so that the last record is not missing money."""
        for state in self._venues.values():
            state.final, state.tries = True, 0
            state.due_mono_ns = self._context.now.mono_ns

    @property
    def pending(self) -> bool:
        """Whether a stop would leave out what is known to be booked."""
        return any(state.final or state.news for state in self._venues.values())

    def tick(self) -> None:
        now_ns = self._context.now.mono_ns
        for venue, state in self._venues.items():
            if state.asked_mono_ns and now_ns - state.asked_mono_ns >= ANSWER_LOST_NS:
                state.asked_mono_ns = 0
            if not state.asked_mono_ns and now_ns >= state.due_mono_ns:
                state.asked_mono_ns = now_ns
                self._context.act(FetchFunding(venue, self._since_ms(venue)))

    def _since_ms(self, venue: str) -> int:
        """Never before the journal began: earlier payments are part of the first balances."""
        ledger = self._context.ledger
        newest = ledger.funding_wall_ms.get(venue, 0)
        return max(ledger.began_wall_ms, newest - SINCE_MARGIN_MS)

    def on_answer(self, answer: FundingAnswer) -> None:
        """Books what is new; asks again while news of the stream is not in the books, or the answer failed."""
        context = self._context
        state = self._venues.setdefault(answer.venue, _Venue())
        state.asked_mono_ns = 0
        for row in answer.funding:
            if (row.venue, row.event_id) in context.ledger.funding_seen:
                continue
            value = row.amount * (self._rate(row.asset) or Decimal(0))
            context.record(
                FundingRecord(row.venue, row.symbol, row.event_id, row.asset, row.amount, row.venue_wall_ms, value)
            )
            for news in state.news:
                if news.symbol == row.symbol and abs(news.venue_wall_ms - row.venue_wall_ms) <= NEWS_MATCH_MS:
                    state.news.remove(news)
                    break
        state.final = state.final and bool(answer.error)
        if (state.news or answer.error) and state.tries < NEWS_TRIES_MAX:
            pause_ns = min(NEWS_PAUSE_MAX_NS, NEWS_PAUSE_FIRST_NS << state.tries)
            state.tries += 1
        else:
            state.news.clear()
            state.tries = 0
            pause_ns = INTERVAL_NS
        state.due_mono_ns = context.now.mono_ns + pause_ns
