"""Refusals that speak of an instrument's steps or status: its row is read anew at once, alone.

The catalogue is read every two minutes; a venue may change a tick or a lot, or suspend a symbol, at any moment, and
then refuses every order that goes by the old row. Until the row is read nothing is sent there: repairs go elsewhere or
wait, and the ladder of an operation is not burnt by refusals of one cause. What is read serves repairs; entries wait
until the catalogue has the row as well.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import chain

import msgspec

from pipeline.execution.core_context import CoreContext
from pipeline.execution.events import FetchInstrument, InstrumentAnswer
from pipeline.execution.ledger import Order
from pipeline.model.enums import OrderState, TradingStatus
from pipeline.model.errors import InstrumentRefused, TradingDisabled, VenueError
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import InstrumentSpec

ANSWER_NS = 6_000_000_000  # an answer that takes longer is lost
PAUSE_FIRST_NS = 1_000_000_000  # until a row that forbids both sides, or was not to be had, is asked for again
PAUSE_MAX_NS = 30_000_000_000
PAUSE_OPEN_NS = 2_000_000_000  # the longest pause while something is open there: times how many rows are in question
#: The executor's counter ``wanted_row.<instrument>``: how often a refusal has put its row in question.
WANTED_ROW = "wanted_row."
Place = tuple[str, str]  # venue and symbol


@dataclass(slots=True)
class _Question:
    """An instrument whose row is in question. ``asked_mono_ns`` 0: not asked now. ``pause_ns``: behind its answer."""

    why: str
    asked_mono_ns: int = 0
    answered_mono_ns: int = 0
    pause_ns: int = 0


class RowQuestions:
    """``in_question(venue, symbol)``: nothing may be sent there. ``doubtful(spec)``: no entry. ``row(row)``: the row as
    repairs are to use it. ``counts``: questions by instrument id, for whoever keeps the catalogue."""

    def __init__(self, context: CoreContext) -> None:
        self._context = context
        self._questions: dict[Place, _Question] = {}
        self._read: dict[Place, InstrumentSpec] = {}  # rows that differ from the catalogue's
        self.counts: dict[int, int] = {}

    def refused(self, order: Order, error: VenueError | None) -> None:
        """An order was refused: begins a question where the refusal speaks of its instrument."""
        if order.state is not OrderState.REJECTED or not isinstance(error, InstrumentRefused | TradingDisabled):
            return
        place = (order.intent.venue, order.intent.symbol)
        if place in self._questions:
            return
        self._context.alert(1, "row_in_question", f"{place[0]} {place[1]}: nothing is sent until its row is read anew")
        row = self._context.instruments.find(*place)
        if row is not None:
            self.counts[row.instrument_id] = self.counts.get(row.instrument_id, 0) + 1
        self._begin(place, error.message)

    def _begin(self, place: Place, why: str) -> None:
        self._questions[place] = _Question(why)
        self._ask(place)

    def _ask(self, place: Place) -> None:
        self._questions[place].asked_mono_ns = self._context.now.mono_ns
        self._context.act(FetchInstrument(*place))

    def tick(self) -> None:
        """Asks again where no answer came, or the last one said that neither side is traded."""
        now_ns = self._context.now.mono_ns
        for place, question in self._questions.items():
            if question.asked_mono_ns and now_ns - question.asked_mono_ns > ANSWER_NS:
                self._again(question)
            rest_ns = min(question.pause_ns, self._longest_ns(place))
            if not question.asked_mono_ns and now_ns >= question.answered_mono_ns + rest_ns:
                self._ask(place)

    def _longest_ns(self, place: Place) -> int:
        """The longest pause between two questions: what stands alone there, or is to leave, waits for the answer. The
        more rows are in question the longer, so that a venue's maintenance costs no more requests than one row."""
        ledger = self._context.ledger
        legs = ((leg.venue, leg.symbol) for one in ledger.open_operations.values() for leg in one.record.legs)
        hedged = ((hedge.spot_venue, hedge.spot_symbol) for hedge in ledger.hedges.values())
        futures = ((hedge.futures_venue, hedge.futures_symbol) for hedge in ledger.hedges.values())
        is_open = place in chain(legs, hedged, futures)
        return min(PAUSE_MAX_NS, PAUSE_OPEN_NS * len(self._questions)) if is_open else PAUSE_MAX_NS

    def _again(self, question: _Question) -> None:
        question.asked_mono_ns = 0
        question.answered_mono_ns = self._context.now.mono_ns
        question.pause_ns = min(PAUSE_MAX_NS, max(PAUSE_FIRST_NS, question.pause_ns * 2))

    def on_answer(self, answer: InstrumentAnswer) -> None:
        """The row as the venue has it now. A market that takes one side is known: orders of that side go there."""
        place = (answer.venue, answer.symbol)
        question, row = self._questions.get(place), self._context.instruments.find(*place)
        if question is None or row is None:
            return
        spec = answer.spec
        if spec is None or spec.status is TradingStatus.HALTED or spec.multiplier != row.spec.multiplier:
            if spec is not None:
                question.why = f"{spec.status.name.lower()} at the venue"
            self._again(question)
            return
        del self._questions[place]
        self._read.pop(place, None)
        fresh = _with_steps_of(row.spec, spec)
        if fresh != row.spec:
            self._read[place] = fresh
            self._context.instruments.update([msgspec.structs.replace(row, spec=fresh)])
            text = f"tick {fresh.tick}, lot {fresh.lot}, least {fresh.min_qty} and {fresh.min_notional}"
            if fresh.status is not TradingStatus.TRADING:
                text += f", {fresh.status.name.lower()}"
            self._context.alert(
                1, "row_changed", f"{place[0]} {place[1]}: {text}; no entries until the catalogue has it"
            )

    def rows_changed(self, rows: tuple[InstrumentRow, ...]) -> None:
        """The catalogue has new rows: one that is traded again, or agrees, ends what was known better."""
        for row in rows:
            place = (row.spec.venue, row.spec.symbol)
            read = self._read.get(place)
            if read is None or row.spec.status is TradingStatus.HALTED:
                continue  # halted for its change until an operator has confirmed it: what was read serves repairs
            del self._read[place]
            if _with_steps_of(row.spec, read) != row.spec and place not in self._questions:
                self._begin(place, "the catalogue has another row than the venue had")

    def in_question(self, venue: str, symbol: str) -> bool:
        """Whether the row is being read: nothing is sent there meanwhile."""
        return (venue, symbol) in self._questions

    def doubtful(self, spec: InstrumentSpec) -> str:
        """Why no entry may be made on an instrument; "" where its row is as the venue has it."""
        place = (spec.venue, spec.symbol)
        if place in self._questions:
            return f"{spec.venue} {spec.symbol}: its row is being read anew ({self._questions[place].why})"[:200]
        if place in self._read:
            return f"{spec.venue} {spec.symbol}: the venue's tick, lot, least amount or status is not the catalogue's"
        return ""

    def places(self) -> list[Place]:
        """The instruments that take no entry."""
        return [*self._questions, *(place for place in self._read if place not in self._questions)]

    def texts(self) -> list[str]:
        """Why which instruments take no entry."""
        rows = (self._context.instruments.find(*place) for place in self.places())
        return [self.doubtful(row.spec) for row in rows if row is not None]

    def row(self, row: InstrumentRow) -> InstrumentRow:
        """The row with the steps that the venue has now."""
        read = self._read.get((row.spec.venue, row.spec.symbol))
        return row if read is None else msgspec.structs.replace(row, spec=read)


def _with_steps_of(known: InstrumentSpec, read: InstrumentSpec) -> InstrumentSpec:
    """What is known of an instrument (fees, identity, times) with another reading's steps, bounds and status."""
    return msgspec.structs.replace(
        known,
        tick=read.tick,
        lot=read.lot,
        min_qty=read.min_qty,
        max_qty=read.max_qty,
        min_notional=read.min_notional,
        status=read.status,
    )
