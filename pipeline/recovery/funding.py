"""Funding payments as the venues booked them: queried, never estimated, each counted once by the venue's own id.

A futures venue is queried when its session comes up (so after every start, for what was paid meanwhile), when its
stream gives notice of a booking, once a minute, and before a stop. A query reaches back behind the newest payment in
the journal, because venues list a booking late; payments that are known are dropped here.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal

from pipeline.execution.core_context import CoreContext
from pipeline.execution.events import FetchFunding, FundingAnswer
from pipeline.execution.records import FundingRecord
from pipeline.execution.settled.leaving import funding_too_old
from pipeline.model.enums import InstrumentKind
from pipeline.model.structs import Funding
from pipeline.model.venue_events import FundingNotice
from pipeline.recovery.first_balances import FirstBalances

INTERVAL_NS = 60_000_000_000
NOTICE_PAUSE_FIRST_NS = 150_000_000
NOTICE_PAUSE_MAX_NS = 2_000_000_000
NOTICE_TRIES_MAX = 8  # about 10 s; afterwards the query of the minute finds it
ANSWER_LOST_NS = 15_000_000_000
SINCE_MARGIN_MS = 3_600_000  # how late a booking may be listed
NOTICE_MATCH_MS = 2_000  # a booking's time by the stream and by REST may differ: one is in whole seconds


@dataclass(slots=True)
class _Venue:
    asked_mono_ns: int = 0  # of the query under way; 0 = none
    due_mono_ns: int = 0
    tries: int = 0
    final: bool = False  # a stop waits for one more answer, to a query asked from then on
    final_mono_ns: int = 0
    notices: list[FundingNotice] = field(default_factory=list)  # from the stream, not found by REST yet
    answered_mono_ns: int = -1  # when the query was asked that was last answered well


def _match(notice: FundingNotice, row: Funding) -> bool:
    return abs(notice.venue_wall_ms - row.venue_wall_ms) <= NOTICE_MATCH_MS


class FundingWatch:
    """Queries on ``tick``, records on answers. ``rate(asset)``: its value in the numeraire, None = unknown."""

    def __init__(self, context: CoreContext, rate: Callable[[str], Decimal | None]) -> None:
        self._context = context
        self._rate = rate
        self._first = FirstBalances(context)
        self._venues: dict[str, _Venue] = {}

    def session_up(self, venue: str) -> None:
        """The session of a venue is up (again): a futures venue is queried at once."""
        if any(r.spec.venue == venue and r.spec.kind is InstrumentKind.PERPETUAL for r in self._context.instruments):
            state = self._venues.setdefault(venue, _Venue())
            state.due_mono_ns = self._context.now.mono_ns

    def on_notice(self, notice: FundingNotice) -> None:
        """The stream gave notice of a booking: queries until REST lists it."""
        state = self._venues.setdefault(notice.venue, _Venue())
        state.notices.append(notice)
        state.tries = 0
        state.due_mono_ns = min(state.due_mono_ns, self._context.now.mono_ns + NOTICE_PAUSE_FIRST_NS)

    def covers(self, venue: str, since_mono_ns: int) -> bool:
        """Whether a query asked since then was answered and no notice is open; if not, one is due at once."""
        state = self._venues.setdefault(venue, _Venue())
        if state.answered_mono_ns >= since_mono_ns:
            return not state.notices
        state.due_mono_ns = min(state.due_mono_ns, self._context.now.mono_ns)
        return False

    def stopping(self) -> None:
        """One more query of each venue, so that no payment is missing in the journal's last record."""
        now_ns = self._context.now.mono_ns
        for state in self._venues.values():
            state.final, state.final_mono_ns, state.tries = True, now_ns, 0
            state.due_mono_ns = now_ns

    @property
    def pending(self) -> bool:
        """Whether a stop now would leave out a payment that is known to be booked."""
        return any(state.final or state.notices for state in self._venues.values())

    def tick(self) -> None:
        """Asks the queries that are due; before a venue's first balances no payment is ours."""
        now_ns = self._context.now.mono_ns
        for venue, state in self._venues.items():
            if state.asked_mono_ns and now_ns - state.asked_mono_ns >= ANSWER_LOST_NS:
                state.asked_mono_ns = 0
            ours = state.final or self._first.wall_ms(venue) is not None
            if ours and not state.asked_mono_ns and now_ns >= state.due_mono_ns:
                state.asked_mono_ns = now_ns
                self._context.act(FetchFunding(venue, self._since_ms(venue)))

    def _since_ms(self, venue: str) -> int:
        """Never before the second of the venue's first balances: earlier payments are part of them."""
        now_ms, based_ms = self._context.now.wall_ms, self._first.wall_ms(venue)
        newest = self._context.ledger.funding_wall_ms.get(venue, 0)
        return max((now_ms if based_ms is None else based_ms) // 1000 * 1000, newest - SINCE_MARGIN_MS)

    def _is_ours(self, row: Funding, notices: list[FundingNotice]) -> bool:
        """Of a payment before the venue's first balances only a notice of the stream says that it came later: venues
        list times in whole seconds."""
        based_ms = self._first.wall_ms(row.venue)
        noticed = any(notice.symbol == row.symbol and _match(notice, row) for notice in notices)
        return based_ms is not None and (row.venue_wall_ms >= based_ms or noticed)

    def _is_later(self, notice: FundingNotice) -> bool:
        """Whether it came after the venue's first balances were asked for: they hold what was booked before."""
        now, based_ms = self._context.now, self._first.wall_ms(notice.venue)
        return based_ms is not None and now.wall_ms - (now.mono_ns - notice.recv_mono_ns) // 1_000_000 >= based_ms

    def on_answer(self, answer: FundingAnswer) -> None:
        """Books what is new; queries again while a booking of a notice is not listed, or the answer failed."""
        context = self._context
        state = self._venues.setdefault(answer.venue, _Venue())
        if not answer.error and state.asked_mono_ns:
            state.answered_mono_ns = state.asked_mono_ns
        earlier = state.asked_mono_ns <= state.final_mono_ns  # asked before the stop: it may lack the newest payment
        state.asked_mono_ns = 0
        state.notices = [notice for notice in state.notices if self._is_later(notice)]
        new = [row for row in answer.funding if not funding_too_old(context.ledger, row.venue, row.venue_wall_ms)]
        for row in new:
            if (row.venue, row.event_id) in context.ledger.funding_seen or not self._is_ours(row, state.notices):
                continue
            value = row.amount * (self._rate(row.asset) or Decimal(0))
            context.record(
                FundingRecord(row.venue, row.symbol, row.event_id, row.asset, row.amount, row.venue_wall_ms, value)
            )
            for notice in state.notices:
                if notice.symbol == row.symbol and _match(notice, row):
                    state.notices.remove(notice)
                    break
        state.final = state.final and (bool(answer.error) or earlier)
        if (state.notices or answer.error) and state.tries < NOTICE_TRIES_MAX:
            pause_ns = min(NOTICE_PAUSE_MAX_NS, NOTICE_PAUSE_FIRST_NS << state.tries)
            state.tries += 1
        else:
            state.notices.clear()
            state.tries = 0
            pause_ns = 0 if state.final else INTERVAL_NS
        state.due_mono_ns = context.now.mono_ns + pause_ns
