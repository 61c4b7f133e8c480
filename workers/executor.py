"""The executor: opportunities in, orders out, truth in the journal.

One uvloop loop: the opportunity queue (bell, or polled when it spins), the venues' order entry and private streams, a
tick. Everything decided is decided by the pure core (pipeline/core.py); this file reads clocks, pages and sockets,
performs the core's actions in their order, and stamps the stages. Start = recovery: replay the journal, sweep every
venue, only then READY. SIGTERM: nothing new, what is open is finished within a bound, then the journal is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import secrets
import sys
from collections import deque
from collections.abc import Callable, Sequence
from decimal import Decimal
from pathlib import Path
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from pipeline.core import ExecutionCore
from pipeline.exchanges.base import PlaceOutcome, SessionState, VenueEvent, VenueTrading
from pipeline.execution.crash import crash_points
from pipeline.execution.events import (
    Action,
    Alert,
    Append,
    CancelOrder,
    CatalogueChanged,
    Command,
    CommandKind,
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
    Tick,
)
from pipeline.execution.journal import Journal
from pipeline.execution.records import FillRecord, OperationResultRecord, Outcome, Purpose
from pipeline.execution.shm_ports import AccountReader, ShmHalt, decode_opportunity
from pipeline.market_data import MarketDataAggregator
from pipeline.model.clock import mono_ns, wall_ns
from pipeline.model.enums import Durability, Mode, OrderKind, OrderSide, Refusal, ReportOutcome, TimeInForce
from pipeline.model.errors import AuthRefused, ConfigInvalid, VenueError, VenueUnavailable
from pipeline.model.fixedpoint import to_fp_floor
from pipeline.model.structs import Fill, OrderRequest
from pipeline.rehearsal import rehearse
from shm import layout as ly
from shm.jit import build_hash
from shm.pages import AccountPage, HaltPage, InventoryPage
from shm.queue import QueueConsumer, QueueProducer
from shm.wait import PARK, Bell, BellRinger, resolve_wait
from workers.base import WorkerContext, run_worker
from workers.executor_control import ExecutorControl
from workers.executor_venues import Questions
from workers.venues import remember_budgets

if TYPE_CHECKING:
    from pipeline.exchanges.base import VenueClient

OPPS_CAPACITY = 1024
REPORTS_CAPACITY = 1024
TICK_S = 0.02
TICK_IDLE_S = 0.1
POPS_PER_TURN = 16  # opportunities judged before sockets get their turn
INVENTORY_ROWS_PER_TICK = 24
CATALOGUE_WAIT_S = 30.0
CONNECT_RETRY_MAX_S = 10.0
AUTH_ATTEMPTS_MAX = 3  # a refused key is not knocked with again and again; a person must look
REHEARSALS = 16  # bytecode is specialised after 8 passes
FINISH_S = 6.0  # of the 10 s that SIGTERM leaves
FIRST_EPOCH_BITS = 45
STEP_EPOCH_BITS = 24  # an id repeats by chance once in 16 million restored journals; room for 200 million runs
USD_CENTS = 100
BOOT_ID = Path("/proc/sys/kernel/random/boot_id")


class Executor:
    """One run of the executor process."""

    def __init__(self, ctx: WorkerContext, loop: asyncio.AbstractEventLoop) -> None:
        self.ctx = ctx
        self.loop = loop
        config = ctx.config
        self.crash = crash_points(os.environ.get("ARB_CRASH_AT", ""))
        self._slow_s = float(os.environ.get("ARB_TEST_SLOW_MS", "0")) / 1000  # for tests: a slower engine than ours
        self.market = MarketDataAggregator(ctx.instance, config)
        self.market.attach()
        self.instruments = self.market.instruments
        self.halt = ShmHalt(HaltPage.attach(ctx.instance), ctx.liveness.epoch)
        self._account = AccountReader(AccountPage.attach(ctx.instance), config.venues, self.instruments)
        self._inventory = InventoryPage.create(ctx.instance)
        self._opps = QueueConsumer.create(
            ctx.instance, "opps", capacity=OPPS_CAPACITY, slot_words=ly.OPPORTUNITY_WORDS, start="newest"
        )
        self._reports = QueueProducer.create(
            ctx.instance, "reports", capacity=REPORTS_CAPACITY, slot_words=ly.REPORT_WORDS
        )
        self._bell = Bell.create(ctx.bells_dir() / "executor", self._opps.cursor_words, ly.C_SLEEPING)
        self._detector_bell = BellRinger.open(ctx.bells_dir() / "detector", self._reports.cursor_words, ly.C_SLEEPING)
        self.journal, self._entries = Journal.open(
            ctx.journal_dir(),
            segment_bytes=config.execution.journal_segment_bytes,
            durability=config.execution.durability,
        )
        self.core: ExecutionCore
        self.trading: dict[str, VenueTrading] = {}
        self.questions = Questions(self._clients, loop, self.feed)
        self._venue_ids = {venue.name: venue.venue_id for venue in config.venues}
        self._events: deque[CoreEvent] = deque()
        self._busy = False
        self._fault: BaseException | None = None  # what a callback raised: the process ends by it
        self._record = np.zeros(ly.OPPORTUNITY_WORDS, np.int64)
        self._report_words = np.zeros(ly.REPORT_WORDS, np.int64)
        self._tasks: set[asyncio.Task[None]] = set()
        self._inventory_due: deque[int] = deque()
        self._stopped = asyncio.Event()
        self._spinning = False
        self._result_waiters: dict[str, asyncio.Future[OperationResultRecord]] = {}
        self._define_metrics()

    def _define_metrics(self) -> None:
        metrics = self.ctx.metrics
        stage = {
            "tick_to_order": "receive stamp of the triggering frame to the first byte of the first order",
            "queue_hop": "detection to dequeue",
            "gate": "dequeue to verdict and plan",
            "journal": "one record appended",
            "send": "dequeue to the first byte of the last leg",
            "leg_gap": "first leg's first byte to the last leg's",
            "ack": "first byte to the venue's answer",
            "fill": "first byte to a fill's message",
            "event": "one event handled, actions performed",
            "operation": "dequeue to the operation's result",
        }
        self.hist = {label: metrics.histogram(label, doc) for label, doc in stage.items()}
        names = ("opportunities", "operations", "orders_sent", "orders_not_sent", "fills", "events", "alerts")
        self.count = {name: metrics.counter(name) for name in names}
        self.count["over_target_time"] = metrics.counter(
            "over_target_time", "operations that took longer than execution.target_execution_time_ms"
        )
        for outcome in Outcome:
            self.count[f"operations.{outcome.name.lower()}"] = metrics.counter(f"operations.{outcome.name.lower()}")
        for name in (
            "exposure_usd",
            "breakers",
            "daily_pnl_cents",
            "open_operations",
            "unsettled_orders",
            "open_hedges",
        ):
            self.count[name] = metrics.counter(name)
        self.refused: dict[Refusal, int] = {
            r: metrics.counter(f"refused.{r.name.lower()}") for r in Refusal if r is not Refusal.NONE
        }

    # --- life ---

    async def main(self) -> None:
        """From the catalogue to the last record."""
        ctx = self.ctx
        self.loop.set_exception_handler(self._loop_error)
        self.loop.add_reader(ctx.stop_fd, self._stop_asked)
        self.loop.add_reader(ctx.reload_fd, self._reload)
        if not await self._wait_for_catalogue():
            return
        self.core = ExecutionCore(
            ctx.config, self.instruments, market=self.market, halt=self.halt, journal=self.journal
        )
        self.questions.start()
        now = self._now()
        actions = self.core.boot(
            self._entries,
            now=now,
            first_epoch=1 + secrets.randbits(FIRST_EPOCH_BITS),
            instance=ctx.instance,
            pid=os.getpid(),
            build_hash=build_hash(),
            host_boot=host_boot_id(),
            epoch_step=1 + secrets.randbits(STEP_EPOCH_BITS),
        )
        self.journal.boot_epoch = self.core.ledger.boot_epoch
        self._perform(actions, now)
        self._entries = []
        self.journal.sync()  # ids of this run carry its boot epoch: the record of it must outlive the host
        self.crash("boot_replayed")
        if self.journal.truncated_bytes:
            ctx.say("warning", f"journal: torn tail of {self.journal.truncated_bytes} bytes cut off")
        self._connect_all()
        self._rehearse()
        control = ExecutorControl(self)
        await control.start()
        gc.collect()
        gc.freeze()
        gc.disable()
        self._listen()
        try:
            await self._live()
        finally:
            await control.close()
            await self._close()

    async def _wait_for_catalogue(self) -> bool:
        deadline = self.loop.time() + CATALOGUE_WAIT_S
        while not self.ctx.stop_requested():
            self.market.refresh()
            if len(self.instruments):
                return True
            if self.loop.time() > deadline:
                raise VenueUnavailable("the catalogue is empty: is the supervisor running?")
            self.ctx.progress()
            await asyncio.sleep(0.02)
        return False

    async def _live(self) -> None:
        """Ticks until the stop is asked and everything open has been finished, or the bound is over."""
        finish_by = 0.0
        while True:
            if self._fault is not None:
                raise self._fault
            self._tick()
            if not self.ctx.is_ready and self.core.ready:
                self.crash("reconciled")
                self.ctx.ready(f"{len(self.core.ledger.operations)} operations in the journal, venues reconciled")
            if self.ctx.stop_requested():
                finish_by = finish_by or self.loop.time() + FINISH_S
                if self.core.finished or self.loop.time() > finish_by:
                    return
            if self.journal.failed is not None:
                raise OSError(f"journal: {self.journal.failed}")
            quiet = self.core.idle and self.core.ready and not self.ctx.stop_requested()
            self.ctx.liveness.parked = quiet and not self._spinning
            try:
                async with asyncio.timeout(TICK_IDLE_S if quiet else TICK_S):
                    await self._stopped.wait()
                await asyncio.sleep(TICK_S)
            except TimeoutError:
                continue

    def _reload(self) -> None:
        """Other limits, between two events."""
        config = self.ctx.reloaded()
        if config is not None and hasattr(self, "core"):
            self.core.reconfigure(config)

    def _stop_asked(self) -> None:
        self.loop.remove_reader(self.ctx.stop_fd)
        self._stopped.set()
        if hasattr(self, "core"):
            self.feed(Command(CommandKind.STOP, reason="SIGTERM"))

    async def _close(self) -> None:
        self._inventory.block_all()
        self.loop.remove_reader(self._bell.fileno())
        self._spinning = False
        now = self._now()
        if self.journal.failed is None and self._fault is None:
            self._perform(self.core.stop(now, "SIGTERM"), now)
        for task in list(self._tasks):
            task.cancel()
        for trading in self.trading.values():
            try:
                async with asyncio.timeout(1.0):
                    await trading.close()
            except (VenueError, TimeoutError, OSError) as error:
                self.ctx.say("warning", f"{trading.venue}: {error}")
        self.questions.close()
        self._bell.close()
        self._detector_bell.close()
        if self.journal.failed is None:
            self.journal.close()

    # --- venues ---

    def _clients(self) -> dict[str, VenueClient]:
        """REST clients for the questions' thread."""
        from workers.venues import account_clients

        return account_clients(self.ctx)

    def _connect_all(self) -> None:
        for venue in self.ctx.config.venues:
            if self.ctx.config.mode is Mode.PAPER:
                from pipeline.exchanges.paper import PaperTrading

                rows = {row.spec.symbol: row for row in self.instruments if row.spec.venue == venue.name}
                folder = self.ctx.state_dir / "paper"
                self.trading[venue.name] = PaperTrading(venue, folder, self.market, rows, self.feed)
            else:
                from pipeline.exchanges.factory import make_trading

                credentials = self.ctx.credentials(venue.exchange)
                if credentials is None:
                    raise ConfigInvalid([f"exchanges.{venue.exchange}: no keys in the state folder"])
                self.trading[venue.name] = make_trading(venue, credentials, self.feed)
                remember_budgets(self.ctx, self.trading[venue.name])
        self._set_multipliers()
        self.core.risk.gate.order_budget = lambda venue, count: self.trading[venue].can_place(count)
        for trading in self.trading.values():
            task = self.loop.create_task(self._connect(trading))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    def _rehearse(self) -> None:
        """The order path before there is an order, up to the bytes: the first order is not the slow one."""
        rehearse()
        for name, trading in self.trading.items():
            row = next((row for row in self.instruments if row.spec.venue == name), None)
            if row is None:
                continue
            request = OrderRequest(
                client_id="rehearsal",
                venue=name,
                symbol=row.spec.symbol,
                side=OrderSide.BUY,
                kind=OrderKind.LIMIT,
                tif=TimeInForce.IOC,
                qty=row.spec.lot,
                price=row.spec.tick,
                multiplier=row.spec.multiplier,
            )
            with contextlib.suppress(VenueUnavailable):  # a symbol that cannot be ordered is refused when it is
                for _ in range(REHEARSALS):
                    trading.prepare(request)  # what it returns would send it, and is dropped

    def _set_multipliers(self) -> None:
        for name, trading in self.trading.items():
            trading.set_multipliers(
                {r.spec.symbol: r.spec.multiplier for r in self.instruments if r.spec.venue == name}
            )

    async def _connect(self, trading: VenueTrading) -> None:
        """The first connection, until it stands; afterwards the session keeps itself up."""
        pause_s = 0.2
        refusals = 0
        while not self.ctx.stop_requested():
            try:
                await trading.connect()
                return
            except AuthRefused as error:
                refusals += 1
                if refusals >= AUTH_ATTEMPTS_MAX:
                    self.ctx.say("critical", f"{trading.venue}: key refused, no further attempt: {error}")
                    return
            except (VenueError, TimeoutError, OSError) as error:
                if pause_s == 0.2:
                    self.ctx.say("warning", f"{trading.venue}: order entry not connected: {error}")
            await asyncio.sleep(pause_s)
            pause_s = min(CONNECT_RETRY_MAX_S, pause_s * 2)

    # --- the queue ---

    def _listen(self) -> None:
        cores = len(os.sched_getaffinity(0))
        spinners = len(self.ctx.config.feeds) + 2
        strategy = resolve_wait(str(self.ctx.wait), cores=cores, spinners=spinners)
        self._spinning = strategy != PARK
        self.loop.add_reader(self._bell.fileno(), self._rung)
        if self._spinning:
            self.loop.call_soon(self._spin)
        else:
            self._rung()

    def _spin(self) -> None:
        if self._spinning:
            self._drain_queue()
            self.loop.call_soon(self._spin)

    def _rung(self) -> None:
        """Woken by the bell: take what is there; announce sleep again; look once more."""
        self._bell.cancel_park()
        self._bell.drain()
        more = self._drain_queue()
        if more:
            self.loop.call_soon(self._rung)
            return
        self._bell.prepare_park()
        if not self._opps.empty:
            self.loop.call_soon(self._rung)

    def _drain_queue(self) -> bool:
        """Up to POPS_PER_TURN opportunities; whether more may be there."""
        for _ in range(POPS_PER_TURN):
            if not self._opps.pop(self._record):
                return False
            dequeued_ns = mono_ns()
            self.crash("dequeued")
            opportunity = decode_opportunity(self._record, dequeued_ns)
            self.ctx.metrics.inc(self.count["opportunities"])
            self.ctx.metrics.record(self.hist["queue_hop"], dequeued_ns - opportunity.detect_mono_ns)
            if self._slow_s:
                self.loop.call_later(self._slow_s, self._judge_late, opportunity)
            else:
                self.feed(opportunity)
        return True

    def _judge_late(self, opportunity: Opportunity) -> None:
        """For tests: what an engine slower by ``ARB_TEST_SLOW_MS`` would see. Only opportunities wait, and they count
        as detected later by the same time: the market decides what is left of them, not our own bound on their age."""
        late_ns = min(mono_ns(), opportunity.detect_mono_ns + int(self._slow_s * 1e9))
        self.feed(msgspec.structs.replace(opportunity, detect_mono_ns=late_ns))

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

    def _handle(self, event: CoreEvent) -> None:
        now = self._now()
        self._before(event)
        actions = self.core.handle(event, now)
        if isinstance(event, Opportunity):
            self.ctx.metrics.record(self.hist["gate"], mono_ns() - event.dequeued_mono_ns)
            self.crash("judged")
        self._perform(actions, now, event if isinstance(event, Opportunity) else None)
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
        self._count_sends(followers, opportunity, first_ns, last_ns)
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

    def _count_sends(self, told: list[CoreEvent], opportunity: Opportunity | None, first_ns: int, last_ns: int) -> None:
        metrics = self.ctx.metrics
        sent = sum(isinstance(event, Sent) for event in told)
        metrics.inc(self.count["orders_sent"], sent)
        metrics.inc(self.count["orders_not_sent"], len(told) - sent)
        if opportunity is not None and first_ns:
            metrics.inc(self.count["operations"])
            if opportunity.trigger_recv_mono_ns:
                metrics.record(self.hist["tick_to_order"], first_ns - opportunity.trigger_recv_mono_ns)
            metrics.record(self.hist["send"], last_ns - opportunity.dequeued_mono_ns)
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
        words[ly.RP_OPPORTUNITY_ID] = action.opportunity_id
        words[ly.RP_OUTCOME] = int(action.outcome)
        words[ly.RP_DIRECTION_KEY] = action.direction_key
        words[ly.RP_COOLDOWN_UNTIL_MONO_NS] = action.cooldown_until_mono_ns
        words[ly.RP_REFUSAL] = int(action.refusal) if action.outcome is ReportOutcome.REFUSED else 0
        if self._reports.push(words):
            self._detector_bell.ring_if_sleeping()

    # --- time ---

    def _tick(self) -> None:
        self.ctx.progress()
        self.halt.refresh()
        self._opps.refresh()
        self._reports.refresh()
        changed = self.market.refresh()
        if changed:
            self.feed(CatalogueChanged(tuple(changed)))
            self._set_multipliers()
        snapshot = self._account.poll()
        if snapshot is not None:
            self.feed(snapshot)
        self.feed(Tick())
        self._write_inventory()
        self._gauges()
        self.journal.kick()

    def _write_inventory(self) -> None:
        """A bounded number of rows a tick, in turn; blocked rows of unfinished orders come first by their tick."""
        if not self._inventory_due:
            self._inventory_due.extend(row.instrument_id for row in self.instruments)
        wanted = {order.intent.instrument_id for order in self.core.ledger.unsettled.values()}
        for _ in range(min(INVENTORY_ROWS_PER_TICK, len(self._inventory_due))):
            wanted.add(self._inventory_due.popleft())
        now = self._now()
        for row in self.core.inventory(now, wanted):
            words = np.zeros(ly.INVENTORY_ROW_WORDS, np.int64)
            instrument = self.instruments.get(row.instrument_id)
            assert instrument is not None
            words[ly.IR_BUY_NOTIONAL] = np.array([row.buy_notional]).view(np.int64)[0]
            words[ly.IR_SELL_QTY_FP] = _fp(row.sell_qty, instrument.qty_exp)
            words[ly.IR_POSITION_QTY_FP] = _fp(row.position_qty, instrument.qty_exp)
            words[ly.IR_BLOCKED_UNTIL_MONO_NS] = row.blocked_until_mono_ns
            words[ly.IR_STATE] = int(row.tradable)
            self._inventory.write(row.instrument_id, words)

    def _gauges(self) -> None:
        metrics, ledger = self.ctx.metrics, self.core.ledger
        reading = self.core.risk.get_current_risk_metrics()
        for name, value in (
            ("exposure_usd", int(reading.total_exposure_usd)),
            ("breakers", len(reading.tripped_breakers)),
            ("daily_pnl_cents", int(reading.daily_realized_pnl * USD_CENTS)),
            ("open_operations", reading.open_operations),
            ("unsettled_orders", len(ledger.unsettled)),
            ("open_hedges", len(ledger.hedges)),
        ):
            metrics.set(self.count[name], value)

    def result_of(self, operation_id: str) -> asyncio.Future[OperationResultRecord]:
        """Completes when the operation's next result is journalled."""
        future: asyncio.Future[OperationResultRecord] = self.loop.create_future()
        self._result_waiters[operation_id] = future
        return future


def _fp(value: Decimal, exp: int) -> int:
    """Fixed point within int64's half range: what does not fit is more than anybody can use."""
    limit = 2**62
    scaled = value.scaleb(exp)
    return limit if scaled > limit else -limit if scaled < -limit else to_fp_floor(value, exp)


def host_boot_id() -> str:
    """What the kernel calls this boot of the host; "" where it does not say."""
    try:
        return BOOT_ID.read_text(encoding="ascii").strip()
    except OSError:
        return ""


def warm(dialects: Sequence[str]) -> None:
    """Imports and compiles everything that the order path calls, on private arrays."""
    import importlib

    from pipeline.detection.record import record_crc32
    from pipeline.execution.shm_ports import read_proved
    from shm.metrics import Metrics

    importlib.import_module("uvloop")
    for dialect in dialects:
        for part in ("client", "trading"):
            try:
                importlib.import_module(f"pipeline.exchanges.{dialect}.{part}")
            except ModuleNotFoundError:  # a dialect with public streams only
                continue
    record_crc32(np.zeros(ly.OPPORTUNITY_WORDS, np.int64))
    read_proved(np.zeros(ly.feed_segment_words(1), np.int64), 0, 0, np.zeros(ly.BOOK_RECORD_WORDS, np.int64))
    metrics = Metrics.private()
    metrics.record(metrics.histogram("warm"), 1)
    metrics.inc(metrics.counter("warm"))
    rehearse()  # what it specialises and imports, every child inherits


def run(ctx: WorkerContext) -> None:
    """The executor's whole life."""
    import uvloop

    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(Executor(ctx, loop).main())
    finally:
        loop.close()


def main() -> int:
    return run_worker("executor", run)


if __name__ == "__main__":
    sys.exit(main())
