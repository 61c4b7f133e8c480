"""The executor's hands: events into the core, its actions out, in their order and nothing twice.

Records are in the journal before the bytes that depend on them leave; the legs of an entry leave back to back. Entries
that the fast path (pipeline/fast_entry/entry.py) approves go from the queue's record to the sockets without the core's
objects; the core hears of them by the records that were written.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from pipeline.core import ExecutionCore
from pipeline.exchanges.base import PlaceOutcome, SessionState, VenueEvent, VenueTrading
from pipeline.execution.events import (
    Action,
    Alert,
    Append,
    CancelOrder,
    CoreEvent,
    FetchBalances,
    FetchFills,
    FetchFunding,
    NotSent,
    Now,
    Opportunity,
    Place,
    QueryOrder,
    Refused,
    Report,
    Sent,
    SweepAnswer,
    SweepVenue,
)
from pipeline.execution.journal import Journal
from pipeline.execution.records import FillRecord, OperationResultRecord, Purpose
from pipeline.execution.shared_reads import ShmHalt
from pipeline.model.clock import mono_ns, wall_ns
from pipeline.model.enums import Durability, Refusal, ReportOutcome
from pipeline.model.errors import VenueUnavailable
from pipeline.model.structs import Fill
from shm.layout import OPPORTUNITY, REPORT
from shm.queue import QueueProducer
from shm.wait import BellRinger
from workers.base import WorkerContext

if TYPE_CHECKING:
    from pipeline.fast_entry.entry import OrderBytes
    from workers.executor.venues import Questions

Words = npt.NDArray[np.int64]


class Hands:
    """What performs. The process around it (executor.py) makes the parts and keeps time."""

    ctx: WorkerContext
    core: ExecutionCore
    crash: Callable[[str], None]
    journal: Journal
    halt: ShmHalt
    trading: dict[str, VenueTrading]
    questions: Questions
    hist: dict[str, int]
    count: dict[str, int]
    refused: dict[Refusal, int]
    _venue_ids: dict[str, int]
    _events: deque[CoreEvent]
    _busy: bool
    _fault: BaseException | None  # what a callback raised: the process ends by it
    _stopped: asyncio.Event
    _reports: QueueProducer
    _report_words: Words
    _detector_bell: BellRinger
    _result_waiters: dict[str, asyncio.Future[OperationResultRecord]]

    # --- events and actions ---

    def _now(self) -> Now:
        return Now(mono_ns(), wall_ns())

    def feed(self, event: CoreEvent | VenueEvent) -> None:
        """One event into the core, and all that follows from it. Re-entrant calls wait their turn.

        What is raised here ends the process: after half of an event the journal and the ledger may differ, and a loop
        only logs what its callbacks raise.
        """
        if self._fault is not None:
            return
        self._events.append(event)
        self._drain_events_if_idle()

    def _loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What a callback or a task of ours raised. A network's error is its session's matter; a bug ends us."""
        error = context.get("exception")
        if error is None or isinstance(error, OSError):
            loop.default_exception_handler(context)
        else:
            self._end_by(error)

    def _end_by(self, error: BaseException) -> None:
        self._fault = self._fault or error
        self._stopped.set()

    def _handle(self, event: CoreEvent, at: Now | None = None) -> None:
        now = at or self._now()
        self._before(event)
        actions = self.core.handle(event, now)
        if isinstance(event, Opportunity):
            self.ctx.metrics.record(self.hist["gate"], mono_ns() - event.dequeued_mono_ns)
            self.crash("judged")
        self._perform(actions, now, event if isinstance(event, Opportunity) else None)
        self.core.update_limits_table()
        self.ctx.metrics.inc(self.count["events"])
        self.ctx.metrics.record(self.hist["event"], mono_ns() - now.mono_ns)

    def _before(self, event: CoreEvent) -> None:
        """Stamps and crash points of what comes in."""
        metrics = self.ctx.metrics
        if isinstance(event, PlaceOutcome):
            self.crash("ack_read")
            order = self.core.ledger.orders.get(event.client_id)
            if order is not None and order.sent_mono_ns and event.recv_mono_ns:
                metrics.record(self.hist["ack"], event.recv_mono_ns - order.sent_mono_ns)
        elif isinstance(event, Fill):
            self.crash("fill_read")
            order = self.core.ledger.order_of(event.venue, event.client_id, event.order_id)
            if order is not None and order.sent_mono_ns:
                metrics.record(self.hist["fill"], event.recv_mono_ns - order.sent_mono_ns)
        elif isinstance(event, SweepAnswer):
            self.crash("sweep_answered")
        elif isinstance(event, SessionState):
            self.ctx.say("info", f"{event.venue}: order entry and private stream {event.state} {event.reason}".rstrip())

    def _perform(self, actions: list[Action], now: Now, opportunity: Opportunity | None = None) -> None:
        """The core's actions in their order."""
        places: list[Place] = []
        sends = [action for action in actions if isinstance(action, Place)]
        for action in actions:
            if isinstance(action, Append):
                self._append(action, now)
            elif isinstance(action, Place):
                places.append(action)
                if len(places) == len(sends):  # all legs are written down: they leave back to back
                    self._journalled(places[0])
                    self._send_all(places, opportunity)
            elif isinstance(action, CancelOrder):
                self._cancel(action)
            elif isinstance(action, (QueryOrder, FetchFills, FetchFunding, SweepVenue, FetchBalances)):
                self.questions.ask(action)
            elif isinstance(action, Report):
                self._report(action)
            elif isinstance(action, Refused):
                self.ctx.metrics.inc(self.refused[action.refusal])
            elif isinstance(action, Alert):
                self.ctx.metrics.inc(self.count["alerts"])
                self.ctx.say(("info", "warning", "critical")[action.severity], f"{action.code}: {action.text}")

    def _append(self, action: Append, now: Now) -> None:
        """Into the journal; a failure ends the process before anything that depends on it is sent."""
        began = mono_ns()
        self.journal.append(action.record, now.mono_ns, now.wall_ns)
        metrics = self.ctx.metrics
        metrics.record(self.hist["journal"], mono_ns() - began)
        record = action.record
        if isinstance(record, FillRecord):
            metrics.inc(self.count["fills"])
            self.crash("first_fill")
        elif isinstance(record, OperationResultRecord):
            metrics.inc(self.count[f"operations.{record.outcome.name.lower()}"])
            dequeued = record.stamps.get("dequeued")
            if dequeued:
                took_ns = record.ended_mono_ns - dequeued
                metrics.record(self.hist["operation"], took_ns)
                if took_ns > self.ctx.config.execution.target_execution_time_ms * 1_000_000:
                    metrics.inc(self.count["over_target_time"])
            self.crash("result_journalled")
            waiter = self._result_waiters.pop(record.operation_id, None)
            if waiter is not None and not waiter.done():
                waiter.set_result(record)

    def _journalled(self, place: Place) -> None:
        """Everything that the send needs is in the journal; under ``power`` also on the device."""
        if self.journal.durability is Durability.POWER:
            self.journal.sync()
        self.crash("journalled" if place.purpose is Purpose.ENTRY else "repair_journalled")

    def _send_all(self, places: list[Place], opportunity: Opportunity | None) -> None:
        """Hands the bytes of all legs to their sockets, one right behind the other: everything that can be done before
        is done before, and what is only told or counted comes after. A leg that cannot be built keeps its whole
        operation back, and a first leg that cannot leave those behind it."""
        sends, stopped = self._prepared(places)
        begun: set[str] = set()
        followers: list[CoreEvent] = []
        first_ns = last_ns = 0
        for place, send in zip(places, sends, strict=True):
            operation = place.operation_id
            refused = stopped.get(operation) or self._send_refusal(place)
            if refused is None and send is not None:
                self.crash("before_send")
                try:
                    sent_ns = send()
                except VenueUnavailable as error:
                    refused = (Refusal.SESSION_DOWN, str(error))
                else:
                    first_ns, last_ns = first_ns or sent_ns, sent_ns
                    begun.add(operation)
                    followers.append(Sent(place.request.client_id, sent_ns))
                    if len(places) > 1 and place is places[0]:
                        self.crash("after_first_leg_sent")
            if refused is not None:
                followers.append(NotSent(place.request.client_id, *refused))
                if operation not in begun:
                    stopped[operation] = refused
        self._events.extend(followers)
        stamps = None if opportunity is None else (opportunity.trigger_recv_mono_ns, opportunity.dequeued_mono_ns)
        self._count_sends(followers, stamps, first_ns, last_ns)
        if first_ns:
            self.crash("sent" if places[0].purpose is Purpose.ENTRY else "repair_sent")
        self._drain_events_if_idle()

    def _prepared(self, places: list[Place]) -> tuple[list[Callable[[], int] | None], dict[str, tuple[Refusal, str]]]:
        """(what sends each order, operations of which an order cannot be built and why)."""
        sends: list[Callable[[], int] | None] = []
        stopped: dict[str, tuple[Refusal, str]] = {}
        for place in places:
            send = None
            try:
                send = self.trading[place.request.venue].prepare(place.request)
            except VenueUnavailable as error:
                stopped.setdefault(place.operation_id, (Refusal.SESSION_DOWN, str(error)))
            sends.append(send)
        return sends, stopped

    def _count_sends(self, told: list[CoreEvent], stamps: tuple[int, int] | None, first_ns: int, last_ns: int) -> None:
        """``stamps`` of an opportunity: receive stamp of its trigger (0: none), when it was dequeued."""
        metrics = self.ctx.metrics
        sent = sum(isinstance(event, Sent) for event in told)
        metrics.inc(self.count["orders_sent"], sent)
        metrics.inc(self.count["orders_not_sent"], len(told) - sent)
        if stamps is not None and first_ns:
            trigger_ns, dequeued_ns = stamps
            metrics.inc(self.count["operations"])
            if trigger_ns:
                metrics.record(self.hist["tick_to_order"], first_ns - trigger_ns)
            metrics.record(self.hist["send"], last_ns - dequeued_ns)
            metrics.record(self.hist["leg_gap"], last_ns - first_ns)

    def _drain_events_if_idle(self) -> None:
        """Empties the events, unless somebody further up does."""
        if not self._busy:
            self._busy = True
            try:
                while self._events:
                    self._handle(self._events.popleft())
            except Exception as error:
                self._end_by(error)
                raise
            finally:
                self._busy = False

    def _send_refusal(self, place: Place) -> tuple[Refusal, str] | None:
        """The last look before the bytes leave: lease always, latch and blocks for new risk."""
        if not mono_ns() < self.halt.lease_expiry_mono_ns():
            return Refusal.LEASE, "lease ran out before the send"
        if place.purpose.adds_risk:
            if self.halt.latched():
                return Refusal.HALT_LATCH, "halted before the send"
            if self.halt.venue_blocked(self._venue_ids[place.request.venue]):
                return Refusal.VENUE_BLOCKED, place.request.venue
        return None

    def _cancel(self, action: CancelOrder) -> None:
        try:
            self.trading[action.venue].cancel(action.symbol, action.client_id, action.order_id)
        except VenueUnavailable as error:
            self.ctx.say("warning", f"cancel of {action.client_id} not sent: {error}")

    def _report(self, action: Report) -> None:
        words = self._report_words
        words[REPORT.opportunity_id] = action.opportunity_id
        words[REPORT.outcome] = int(action.outcome)
        words[REPORT.direction_key] = action.direction_key
        words[REPORT.cooldown_until_mono_ns] = action.cooldown_until_mono_ns
        words[REPORT.refusal] = int(action.refusal) if action.outcome is ReportOutcome.REFUSED else 0
        if self._reports.push(words):
            self._detector_bell.ring_if_sleeping()

    # --- the fast path ---

    def _fast_entry(self, record: Words, dequeued_ns: int) -> bool:
        """Sends the entry of an opportunity record by the fast path; False: it is the core's to judge."""
        fast_entry, halt = self.core.fast_entry, self.halt.words()
        if fast_entry is None or halt is None or self._busy or self._fault is not None or self._events:
            return False
        now = Now(dequeued_ns, wall_ns())
        if not fast_entry.offer(record, halt, now):
            return False
        judged_ns = mono_ns()
        self.crash("judged")
        self._busy = True
        try:
            orders = fast_entry.write(self.journal, now, dequeued_ns, lambda venue: self._venue_ms(venue, dequeued_ns))
            written_ns = mono_ns()
            if self.journal.durability is Durability.POWER:
                self.journal.sync()
            self.crash("journalled")
            expiry_ns = dequeued_ns + self.ctx.config.execution.recv_window_ms * 1_000_000
            followers, first_ns, last_ns = self._launch(orders, expiry_ns)
            self._handle(fast_entry.entered(self.journal), now)  # before anything that the launch itself made heard
        except Exception as error:
            self._end_by(error)
            raise
        finally:
            self._busy = False
        self._events.extend(followers)
        metrics, trigger_ns = self.ctx.metrics, int(record[OPPORTUNITY.trigger_recv_mono_ns])
        metrics.record(self.hist["gate"], judged_ns - dequeued_ns)
        metrics.record(self.hist["journal"], written_ns - judged_ns)
        metrics.inc(self.count["fast_path"])
        self._count_sends(followers, (trigger_ns, dequeued_ns), first_ns, last_ns)
        if first_ns:
            self.crash("sent")
        self._drain_events_if_idle()
        return True

    def _venue_ms(self, venue: str, at_mono_ns: int) -> int:
        """What a venue's clock showed at a moment of the past: however late the bytes are made, they expire when the
        journal says so, and no proof of absence comes before that."""
        venue_ms = self.trading[venue].now_ms()
        return venue_ms - max(0, mono_ns() - at_mono_ns) // 1_000_000

    def _launch(self, orders: list[OrderBytes], expiry_mono_ns: int) -> tuple[list[CoreEvent], int, int]:
        """Both legs to their sockets, signed before the first one leaves: (what the core is told, first, last).
        ``expiry_mono_ns``: from when on a venue refuses them (a device may have taken its time to sync)."""
        refused: tuple[Refusal, str] | None = None
        payloads = []
        for order in orders:
            self.trading[order.venue].sign(order.view, *order.signed)
            payloads.append(bytes(order.view))
        followers: list[CoreEvent] = []
        first_ns = last_ns = 0
        for order, payload in zip(orders, payloads, strict=True):
            own = (None if first_ns else refused) or self._last_look(order.venue, expiry_mono_ns)
            if own is None:
                self.crash("before_send")
                try:
                    last_ns = self.trading[order.venue].launch(order.symbol, order.client_id, payload)
                except VenueUnavailable as error:
                    own = (Refusal.SESSION_DOWN, str(error))
                else:
                    followers.append(Sent(order.client_id, last_ns))
                    if not first_ns:
                        first_ns = last_ns
                        self.crash("after_first_leg_sent")
            if own is not None:  # a first leg that cannot leave keeps the other one back
                followers.append(NotSent(order.client_id, *own))
                refused = own
        return followers, first_ns, last_ns

    def _last_look(self, venue: str, expiry_mono_ns: int) -> tuple[Refusal, str] | None:
        """Lease, latch, the venue's block and the order's own time right before the bytes of new risk leave."""
        venue_id, now_ns = self._venue_ids[venue], mono_ns()
        if now_ns >= expiry_mono_ns:
            return Refusal.STALE_AT_EXECUTOR, "order expired before it was sent"
        if self.halt.may_launch(now_ns, venue_id):
            return None
        if self.halt.latched():
            return Refusal.HALT_LATCH, "halted before the send"
        if self.halt.venue_blocked(venue_id):
            return Refusal.VENUE_BLOCKED, venue
        return Refusal.LEASE, "lease ran out before the send"
