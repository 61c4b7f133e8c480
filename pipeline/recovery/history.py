"""Which money a venue itself says has moved without an order: asked once something differs, matched with that.

A venue is asked as soon as a balance differs from the ledger, or its stream gives notice, and again with growing pauses
while a difference stands. A row is the witness of a movement: its id goes into the record, and no row is booked twice,
in this run or a later one. A movement that was booked before any list showed it claims its row when that one appears;
the claim is a record too.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from decimal import Decimal

from pipeline.execution.core_context import CoreContext
from pipeline.execution.events import FetchMoney, MoneyAnswer
from pipeline.execution.external import LISTED
from pipeline.execution.records import ExternalRecord
from pipeline.model.structs import ZERO, MoneyMove
from pipeline.recovery.first_balances import FirstBalances

PAUSE_FIRST_NS = 200_000_000
PAUSE_MAX_NS = 30_000_000_000
ANSWER_LOST_NS = 10_000_000_000  # longer than the question's own time limit
TRIES_ENOUGH = 3  # questions without an answer after which a difference is judged without the venue's list
CREDITED_LATE_MS = 3_600_000  # how long after its stamp a venue may book a movement
SAME_MOVE_MS = 600_000  # how far a movement's booking and the row that lists it may lie apart
STAMP_MS = 2_000  # stamps may be in whole seconds, and a venue's clock is not ours
LISTED_BEFORE_MS = 120_000  # a row is stamped this long before its movement was booked here, at most
Key = tuple[str, str]  # venue and asset


@dataclass(slots=True)
class _Venue:
    """Where the questions to one venue stand; times are monotonic ns."""

    since_wall_ms: int = 0
    wanted: bool = False
    due_ns: int = 0
    asked_ns: int = 0  # of the question under way; 0 = none
    answered_ns: int = -1  # when the question was asked that was answered last
    pause_ns: int = PAUSE_FIRST_NS
    failed: list[int] = field(default_factory=list)  # when the last questions were asked that had no answer
    moves: dict[str, MoneyMove] = field(default_factory=dict)  # by witness; not booked yet


class MoneyHistory:
    """Asks on :meth:`tick`; :meth:`explain` and :meth:`nearest` find what a difference is made of."""

    def __init__(self, context: CoreContext) -> None:
        self._context = context
        self.first_balances = FirstBalances(context)
        self._venues: dict[str, _Venue] = {}

    def want(self, venue: str, since_wall_ms: int, *, news: bool) -> None:
        """A venue's lists from ``since_wall_ms`` on are to be read: at once where there is ``news``, else after the
        growing pause."""
        state = self._venues.setdefault(venue, _Venue())
        state.since_wall_ms = min(state.since_wall_ms, since_wall_ms) if state.wanted else since_wall_ms
        state.wanted = True
        if news:
            state.pause_ns = PAUSE_FIRST_NS
            state.due_ns = self._context.now.mono_ns

    def answered(self, venue: str, since_mono_ns: int) -> bool:
        """Whether a question asked at or after ``since_mono_ns`` was answered, or ``TRIES_ENOUGH`` were not."""
        state = self._venues.get(venue)
        if state is None:
            return False
        return state.answered_ns >= since_mono_ns or sum(at >= since_mono_ns for at in state.failed) >= TRIES_ENOUGH

    def tick(self) -> None:
        """Asks what is due; where something was booked that no list showed, until one does or it is too old."""
        now_ns, oldest_ms = self._context.now.mono_ns, self._context.now.wall_ms - SAME_MOVE_MS
        for (venue, _), waiting in self._context.ledger.external.unlisted.items():
            since_ms = min((at_ms for _, at_ms in waiting if at_ms >= oldest_ms), default=None)
            if since_ms is not None and not self._venues.setdefault(venue, _Venue()).wanted:
                self.want(venue, since_ms - LISTED_BEFORE_MS, news=False)
        for venue, state in self._venues.items():
            if state.asked_ns and now_ns - state.asked_ns >= ANSWER_LOST_NS:
                self._ended(state, "no answer")
            if state.wanted and not state.asked_ns and now_ns >= state.due_ns:
                state.wanted, state.asked_ns = False, now_ns
                self._context.act(FetchMoney(venue, state.since_wall_ms))

    def on_answer(self, answer: MoneyAnswer) -> None:
        """Keeps the rows that are news: not booked, and not those of movements that were booked before."""
        state = self._venues.setdefault(answer.venue, _Venue())
        for move in answer.moves:
            if not self._booked(move) and not self._claims(move):
                state.moves[move.witness] = move
        self._ended(state, answer.error)

    def _ended(self, state: _Venue, error: str) -> None:
        if error:
            state.failed = [*state.failed[-TRIES_ENOUGH + 1 :], state.asked_ns]
        elif state.asked_ns:
            state.answered_ns = state.asked_ns
        state.asked_ns = 0
        state.due_ns = self._context.now.mono_ns + state.pause_ns
        state.pause_ns = min(PAUSE_MAX_NS, state.pause_ns * 2)

    def _booked(self, move: MoneyMove) -> bool:
        return (move.venue, move.witness) in self._context.ledger.external.witnesses

    def _claims(self, move: MoneyMove) -> bool:
        """Whether a movement that was booked without a row is this one; it is so once, and an operator is alerted."""
        waiting = self._context.ledger.external.unlisted.get((move.venue, move.asset), [])
        stamps = [at_ms for amount, at_ms in waiting if amount == move.amount]
        booked_ms = next((at_ms for at_ms in stamps if abs(at_ms - move.venue_wall_ms) <= SAME_MOVE_MS), None)
        if booked_ms is None:
            return False
        text = f"{move.asset} {move.amount:+} is listed now: {move.reason}, {move.witness}"
        self._context.record(
            ExternalRecord(move.venue, LISTED, text, "", move.witness, move.asset, move.amount, booked_ms)
        )
        self._context.alert(1, "external", f"{move.venue} {text}")
        return True

    def _rows(self, key: Key, since_wall_ms: int) -> list[MoneyMove]:
        """Rows of an asset that are not booked, oldest first."""
        state = self._venues.get(key[0])
        if state is None:
            return []
        for move in [move for move in state.moves.values() if self._booked(move)]:
            del state.moves[move.witness]
        based_ms = self.first_balances.wall_ms(key[0]) or 0  # older rows are in the first balances
        oldest_ms = max(since_wall_ms - CREDITED_LATE_MS, based_ms - STAMP_MS)
        rows = [m for m in state.moves.values() if m.asset == key[1] and m.amount and m.venue_wall_ms >= oldest_ms]
        return sorted(rows, key=lambda move: (move.venue_wall_ms, move.witness))

    def explain(self, key: Key, off: Decimal, since_wall_ms: int, tolerance: Decimal = ZERO) -> list[MoneyMove]:
        """Rows that make up a difference: the newest, or several in a row up to the newest, or a single older one."""
        rows = self._rows(key, since_wall_ms)
        chosen = [rows[first:] for first in range(len(rows) - 1, -1, -1)] + [[row] for row in reversed(rows)]
        return next((some for some in chosen if abs(_sum(some) - off) <= tolerance), [])

    def nearest(self, key: Key, off: Decimal, since_wall_ms: int) -> list[MoneyMove]:
        """Rows that make up the most of a difference that none explains wholly; [] where none brings it down."""
        rows = self._rows(key, since_wall_ms)
        chosen = [rows[first:] for first in range(len(rows) - 1, -1, -1)]
        best = min(chosen, key=lambda some: abs(off - _sum(some)), default=[])
        return best if abs(off - _sum(best)) < abs(off) else []


def _sum(moves: Iterable[MoneyMove]) -> Decimal:
    return sum((move.amount for move in moves), ZERO)
