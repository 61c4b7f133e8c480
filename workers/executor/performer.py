"""The executor's performer: events into the core, its actions out, in their order and nothing twice.

Records are in the journal before the bytes that depend on them leave; the legs of an entry leave back to back. Entries
that the fast path (pipeline/fast_entry/entry.py) approves go from the queue's record to the sockets without the core's
objects; the core folds in the records that were written.
"""

from __future__ import annotations

import asyncio
from collections import Counter, deque
from collections.abc import Callable, Mapping
from typing import Protocol

import numpy as np

from pipeline.core import ExecutionCore
from pipeline.exchanges.base import PlaceOutcome, SessionState, VenueEvent, VenueTrading
from pipeline.execution.events import (
    Action,
    Alert,
    Append,
    CancelOrder,
    CoreEvent,
    NotSent,
    Now,
    Opportunity,
    Place,
    Question,
    Refused,
    Report,
    Sent,
    SweepAnswer,
)
from pipeline.execution.journal import Journal
from pipeline.execution.records import FillRecord, OperationResultRecord, OrderStateRecord, Purpose
from pipeline.model.clock import mono_ns, wall_ns
from pipeline.model.enums import Durability, OrderState, Refusal, ReportOutcome
from pipeline.model.errors import VenueUnavailable
from pipeline.model.structs import Fill
from pipeline.model.units import NS_PER_MS
from pipeline.risk.last_look import LastLook, LaunchPort, Stop
from shm.layout import OPPORTUNITY, REPORT
from shm.words import Words
from workers.executor.fast_sender import FastSender
from workers.executor.pages import ExecutorNumbers
from workers.output import ALERT

Say = Callable[[str, str], None]  # (level, text): one line for the operator


class HaltWords(LaunchPort, Protocol):
    """The halt page, and its words for the jitted verdict."""

    def words(self) -> Words | None:
        """int64[HALT.END]; None where there is no page: no guard, no trade."""


class ReportSink(Protocol):
    """The queue of reports to the detector."""

    def push(self, words: Words) -> bool:
        """One report, int64[REPORT.WORDS]; False when the queue is full."""


class Performer:
    """Feeds the core and performs what it asks for. One loop's callbacks call it; it never waits.

    ``trading``: order sessions by venue, filled as they are made; ``venue_ids``: by name; ``ask``: puts a question to
    a venue's REST side; ``crash``: the hook of the crash points; ``reports``: reports to the detector, and
    ``wake_detector`` after each; ``on_fault``: called when an event could not be performed to its end, after which
    nothing more is performed and the process must end by ``fault``; ``clock`` and ``wall``: nanoseconds;
    ``sync``: what brings the records of a send to the device under ``power`` (default: the journal's own, which waits
    for it as long as it takes).
    """

    def __init__(
        self,
        core: ExecutionCore,
        journal: Journal,
        halt: HaltWords,
        trading: Mapping[str, VenueTrading],
        *,
        venue_ids: Mapping[str, int],
        ask: Callable[[Question], None],
        numbers: ExecutorNumbers,
        say: Say,
        crash: Callable[[str], None],
        reports: ReportSink,
        wake_detector: Callable[[], object],
        on_fault: Callable[[], None],
        clock: Callable[[], int] = mono_ns,
        wall: Callable[[], int] = wall_ns,
        sync: Callable[[], object] | None = None,
    ) -> None:
        self._core = core
        self._journal = journal
        self._sync = sync or (lambda: journal.sync())
        self._halt = halt
        self._trading = trading
        self._last_look = LastLook(core.context, halt, venue_ids)
        self._sender = FastSender(
            journal, trading, self._last_look, note_sent=self._note_sent, crash=crash, clock=clock
        )
        self._ask = ask
        self._metrics = numbers.metrics
        self._hist, self._count, self._refused = numbers.hist, numbers.count, numbers.refused
        self._say = say
        self._crash = crash
        self._reports = reports
        self._report_words = np.zeros(REPORT.WORDS, np.int64)
        self._wake_detector = wake_detector
        self._on_fault = on_fault
        self._mono_ns = clock
        self._wall_ns = wall
        self._events: deque[CoreEvent] = deque()
        self._busy = False
        self._result_waiters: dict[str, asyncio.Future[OperationResultRecord]] = {}
        self.on_result: Callable[[OperationResultRecord], object] = lambda record: None  # every result, once written
        self.sent_mono_ns: dict[str, int] = {}  # venue -> our newest order there
        self.sent_to: dict[str, dict[str, int]] = {}  # the same by symbol
        self.fault: BaseException | None = None  # what an event or a callback raised: the process ends by it

    def now(self) -> Now:
        """Both clocks, now."""
        return Now(self._mono_ns(), self._wall_ns())

    # --- events and actions ---

    def feed(self, event: CoreEvent | VenueEvent) -> None:
        """One event into the core, and all that follows from it. Re-entrant calls wait their turn.

        What is raised here ends the process: after half of an event the journal and the ledger may differ, and a loop
        only logs what its callbacks raise.
        """
        if self.fault is not None:
            return
        self._events.append(event)
        self._drain_events_if_idle()

    def end_by(self, error: BaseException) -> None:
        """Nothing more is performed; the process is to end by the first error."""
        self.fault = self.fault or error
        self._on_fault()

    def result_of(self, operation_id: str) -> asyncio.Future[OperationResultRecord]:
        """Completes when the operation's next result is journalled."""
        future: asyncio.Future[OperationResultRecord] = asyncio.get_running_loop().create_future()
        self._result_waiters[operation_id] = future
        return future

    def _drain_events_if_idle(self) -> None:
        """Handles the events that wait, unless a caller further up already does."""
        if not self._busy:
            self._busy = True
            try:
                while self._events:
                    self._handle(self._events.popleft())
            except Exception as error:
                self.end_by(error)
                raise
            finally:
                self._busy = False

    def _handle(self, event: CoreEvent, at: Now | None = None) -> None:
        now = at or self.now()
        self._before(event)
        actions = self._core.handle(event, now)
        entry = event if isinstance(event, Opportunity) else None
        if entry is not None:
            self._metrics.record(self._hist["gate"], self._mono_ns() - entry.dequeued_mono_ns)
            self._crash("judged")
        self.perform(actions, now, entry)
        self._core.update_limits_table()
        self._metrics.inc(self._count["events"])
        self._metrics.record(self._hist["event"], self._mono_ns() - now.mono_ns)

    def _before(self, event: CoreEvent) -> None:
        """Stamps and crash points of what comes in."""
        if isinstance(event, PlaceOutcome):
            self._crash("ack_read")
            order = self._core.ledger.orders.get(event.client_id)
            if order is not None and order.sent_mono_ns and event.recv_mono_ns:
                self._metrics.record(self._hist["ack"], event.recv_mono_ns - order.sent_mono_ns)
        elif isinstance(event, Fill):
            self._crash("fill_read")
            order = self._core.ledger.order_of(event.venue, event.client_id, event.order_id)
            if order is not None and order.sent_mono_ns:
                self._metrics.record(self._hist["fill"], event.recv_mono_ns - order.sent_mono_ns)
        elif isinstance(event, SweepAnswer):
            self._crash("sweep_answered")
        elif isinstance(event, SessionState):
            self._say("info", f"{event.venue}: order entry and private stream {event.state} {event.reason}".rstrip())

    def perform(self, actions: list[Action], now: Now, opportunity: Opportunity | None = None) -> None:
        """The core's actions in their order. ``now``: of the event; ``opportunity``: what it was, where it was one."""
        places: list[Place] = []
        sends = sum(isinstance(action, Place) for action in actions)
        for action in actions:
            if isinstance(action, Append):
                self._append(action, now)
            elif isinstance(action, Place):
                places.append(action)
                if len(places) == sends:  # all legs are written down: they leave back to back
                    self._journalled(places[0])
                    self._send_all(places, now, opportunity)
            elif isinstance(action, CancelOrder):
                self._cancel(action)
            elif isinstance(action, Question):
                self._ask(action)
            elif isinstance(action, Report):
                self._report(action)
            elif isinstance(action, Refused):
                self._metrics.inc(self._refused[action.refusal])
            elif isinstance(action, Alert):
                self._metrics.inc(self._count["alerts"])
                mark = ALERT if action.severity else ""
                self._say(("info", "warning", "critical")[action.severity], f"{mark}{action.code}: {action.text}")

    def _append(self, action: Append, now: Now) -> None:
        """Into the journal; a failure ends the process before anything that depends on it is sent."""
        began = self._mono_ns()
        self._journal.append(action.record, now.mono_ns, now.wall_ns)
        metrics = self._metrics
        metrics.record(self._hist["journal"], self._mono_ns() - began)
        record = action.record
        if isinstance(record, FillRecord):
            metrics.inc(self._count["fills"])
            self._crash("first_fill")
        elif isinstance(record, OrderStateRecord):
            if record.state is OrderState.EXPIRED:
                self._crash("expired_journalled")
        elif isinstance(record, OperationResultRecord):
            self.on_result(record)
            dequeued = record.stamps.get("dequeued")
            if dequeued:
                took_ns = record.ended_mono_ns - dequeued
                metrics.record(self._hist["operation"], took_ns)
                if took_ns > self._core.config.execution.target_execution_time_ms * NS_PER_MS:
                    metrics.inc(self._count["over_target_time"])
            self._crash("result_journalled")
            waiter = self._result_waiters.pop(record.operation_id, None)
            if waiter is not None and not waiter.done():
                waiter.set_result(record)

    def _journalled(self, place: Place) -> None:
        """Everything that the send needs is in the journal; under ``power`` also on the device."""
        if self._journal.durability is Durability.POWER:
            self._sync()
        self._crash("journalled" if place.purpose is Purpose.ENTRY else "repair_journalled")

    def _cancel(self, action: CancelOrder) -> None:
        try:
            self._session(action.venue).cancel(action.symbol, action.client_id, action.order_id)
        except VenueUnavailable as error:
            self._say("warning", f"cancel of {action.client_id} not sent: {error}")
        else:
            self._crash("cancel_sent")

    def _session(self, venue: str) -> VenueTrading:
        """The order session of a venue. Raises VenueUnavailable where this run has none."""
        session = self._trading.get(venue)
        if session is None:
            raise VenueUnavailable(f"{venue}: no orders are sent there by this configuration")
        return session

    def _report(self, action: Report) -> None:
        words = self._report_words
        words[REPORT.opportunity_id] = action.opportunity_id
        words[REPORT.outcome] = int(action.outcome)
        words[REPORT.direction_key] = action.direction_key
        words[REPORT.cooldown_until_mono_ns] = action.cooldown_until_mono_ns
        words[REPORT.refusal] = int(action.refusal) if action.outcome is ReportOutcome.REFUSED else 0
        if self._reports.push(words):
            self._wake_detector()

    # --- orders of the exact path ---

    def _send_all(self, places: list[Place], now: Now, opportunity: Opportunity | None) -> None:
        """Hands the bytes of all legs to their sockets, one right behind the other: everything that can be done before
        is done before, and what is only reported or counted comes after. A leg that cannot be built keeps its whole
        operation back, and a first leg that cannot leave those behind it."""
        sends, stopped = self._prepared(places)
        self._crash("signed")
        expiry_ns = now.mono_ns + self._core.config.execution.entry_window_ms * NS_PER_MS
        begun: set[str] = set()
        followers: list[CoreEvent] = []
        first_ns = last_ns = 0
        for place, send in zip(places, sends, strict=True):
            operation = place.operation_id
            self._crash("before_send")
            refused = stopped.get(operation) or self._forbidden(place, expiry_ns, first=operation not in begun)
            if refused is None and send is not None:
                try:
                    sent_ns = send()
                except VenueUnavailable as error:
                    refused = (Refusal.SESSION_DOWN, str(error))
                else:
                    first_ns, last_ns = first_ns or sent_ns, sent_ns
                    self._note_sent(place.request.venue, place.request.symbol, sent_ns)
                    begun.add(operation)
                    followers.append(Sent(place.request.client_id, sent_ns))
                    if len(places) > 1 and place is places[0]:
                        self._crash("after_first_leg_sent")
            if refused is not None:
                followers.append(NotSent(place.request.client_id, *refused))
                if operation not in begun:
                    stopped[operation] = refused
        self._events.extend(followers)
        entries = {place.operation_id for place in places if place.purpose.adds_risk}
        for operation in entries & stopped.keys():
            self._metrics.inc(self._refused[stopped[operation][0]])
        stamps = None
        if entries and opportunity is not None:  # an exit that the detector offers is no entry
            stamps = (opportunity.trigger_recv_mono_ns, opportunity.dequeued_mono_ns)
        self._count_sends(followers, stamps, first_ns, last_ns)
        if first_ns:
            self._crash("sent" if places[0].purpose is Purpose.ENTRY else "repair_sent")
        self._drain_events_if_idle()

    def _prepared(self, places: list[Place]) -> tuple[list[Callable[[], int] | None], dict[str, Stop]]:
        """(what sends each order, operations of which an order cannot be built, or one of several finds no connection
        that would take it, and why)."""
        legs = Counter(place.operation_id for place in places)
        sends: list[Callable[[], int] | None] = []
        stopped: dict[str, Stop] = {}
        for place in places:
            send = None
            try:
                session = self._session(place.request.venue)
                send = session.prepare(place.request)
                if legs[place.operation_id] > 1:
                    session.direct_line()  # raises where the connection takes nothing now
            except VenueUnavailable as error:
                stopped.setdefault(place.operation_id, (Refusal.SESSION_DOWN, str(error)))
            sends.append(send)
        return sends, stopped

    def _forbidden(self, place: Place, expiry_ns: int, *, first: bool) -> Stop | None:
        """The last look at an order of the exact path. ``first``: nothing of its operation has left."""
        if not place.purpose.adds_risk:
            return self._last_look.without_risk()
        legs = self._core.ledger.operations[place.operation_id].record.legs
        if not first:
            own = (place.request.venue, place.request.symbol)
            legs = tuple(leg for leg in legs if (leg.venue, leg.symbol) == own)
        return self._last_look.entry(legs, self._mono_ns(), expiry_ns, first=first)

    def _count_sends(
        self, followers: list[CoreEvent], stamps: tuple[int, int] | None, first_ns: int, last_ns: int
    ) -> None:
        """``stamps`` of an entry: receive stamp of its trigger (0: none), when it was dequeued."""
        metrics = self._metrics
        sent = sum(isinstance(event, Sent) for event in followers)
        metrics.inc(self._count["orders_sent"], sent)
        metrics.inc(self._count["orders_not_sent"], len(followers) - sent)
        if stamps is not None and first_ns:
            trigger_ns, dequeued_ns = stamps
            metrics.inc(self._count["entries"])
            if trigger_ns:
                metrics.record(self._hist["tick_to_order"], first_ns - trigger_ns)
            metrics.record(self._hist["send"], last_ns - dequeued_ns)
            metrics.record(self._hist["leg_gap"], last_ns - first_ns)

    def _note_sent(self, venue: str, symbol: str, sent_ns: int) -> None:
        self.sent_mono_ns[venue] = sent_ns
        self.sent_to.setdefault(venue, {})[symbol] = sent_ns

    # --- the fast path ---

    def enter_fast(self, record: Words, dequeued_ns: int) -> bool:
        """Sends the entry of an opportunity record (int64[OPPORTUNITY.WORDS]) by the fast path.

        False: it was not approved there, nothing was done, and the record is the exact path's to judge.
        """
        fast_entry, halt = self._core.fast_entry, self._halt.words()
        if fast_entry is None or halt is None or self._busy or self.fault is not None or self._events:
            return False
        now = Now(dequeued_ns, self._wall_ns())
        if not fast_entry.offer(record, halt, now):
            return False
        judged_ns = self._mono_ns()
        self._crash("judged")
        self._busy = True
        try:
            sending = self._sender.send(fast_entry, halt, now, self._core.config.execution.entry_window_ms)
            self._handle(fast_entry.entered(self._journal), now)  # before any event that the launch itself caused
        except Exception as error:
            self.end_by(error)
            raise
        finally:
            self._busy = False
        self._events.extend(sending.followers)
        metrics, trigger_ns = self._metrics, int(record[OPPORTUNITY.trigger_recv_mono_ns])
        metrics.record(self._hist["gate"], judged_ns - dequeued_ns)
        metrics.record(self._hist["journal"], sending.written_mono_ns - judged_ns)
        metrics.inc(self._count["fast_path"])
        if sending.kept_back is not None:
            metrics.inc(self._refused[sending.kept_back[0]])
        self._count_sends(sending.followers, (trigger_ns, dequeued_ns), sending.first_mono_ns, sending.last_mono_ns)
        if sending.first_mono_ns:
            self._crash("sent")
        self._drain_events_if_idle()
        return True
