"""The executor: opportunities in, orders out, truth in the journal.

One uvloop loop: the opportunity queue (bell, or polled when it spins), the venues' order entry and private streams, a
tick. The pure core (pipeline/core.py) decides everything, the performer (performer.py) carries its actions out; this
file makes the parts, reads pages and the queue, and keeps time. Start = recovery: replay the journal, sweep every
venue, only then READY. SIGTERM: nothing new, what is open is finished within a bound, then the journal is closed.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import os
import secrets
import sys
import time
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import msgspec
import numpy as np

from pipeline.core import ExecutionCore
from pipeline.execution.crash_points import crash_points_here
from pipeline.execution.events import (
    CatalogueChanged,
    Command,
    CommandKind,
    Opportunity,
    Tick,
)
from pipeline.execution.journal.guard_journal import fold_in, orphaned, read_guard_journal
from pipeline.execution.results.counts import counts_of
from pipeline.execution.shared_reads import AccountReader, ShmHalt, decode_opportunity
from pipeline.market_data import MarketDataAggregator
from pipeline.model.clock import mono_ns
from pipeline.model.enums import OpportunityType, OrderKind, OrderSide, ProcessState, TimeInForce
from pipeline.model.errors import VenueUnavailable
from pipeline.model.structs import OrderRequest
from pipeline.rehearsal.fast_lane import FastLane
from pipeline.rehearsal.rehearse import rehearse
from shm.layout import BOOK, CURSOR, OPPORTUNITY, REPORT, feed_segment_words
from shm.layout_pages import HALT
from shm.pages import AccountPage, HaltPage, InventoryPage
from shm.queue import QueueConsumer, QueueProducer
from shm.sources import build_hash
from shm.wait import PARK, Bell, BellRinger, resolve_wait
from workers.base import WorkerContext, run_worker
from workers.executor.control import ExecutorControl
from workers.executor.dead_man import VenueTimers
from workers.executor.earlier_runs import (
    JournalOfBefore,
    check_mode_of_journal,
    check_traded,
    host_boot_id,
    keep_breakers,
    wait_for_room,
)
from workers.executor.hedge_models import HedgeModels
from workers.executor.loopback import Loopback
from workers.executor.pages import ExecutorNumbers, InventoryWriter
from workers.executor.performer import Performer
from workers.executor.publisher import Publisher
from workers.executor.session_watch import SessionWatch
from workers.executor.sessions import Sessions
from workers.executor.shown import Shown
from workers.executor.venues import Questions
from workers.output import ALERT

if TYPE_CHECKING:
    from pipeline.exchanges.base import VenueClient

OPPS_CAPACITY = 1024
REPORTS_CAPACITY = 1024
TICK_S = 0.02
TICK_IDLE_S = 0.1
POPS_PER_TURN = 16  # opportunities judged before sockets get their turn
CATALOGUE_WAIT_S = 30.0
REHEARSALS = 16  # bytecode is specialised after 8 passes
FINISH_S = 6.0  # of the 10 s that SIGTERM leaves
FENCE_LOOK_S = 0.01
EXTEND_EVERY_NS = 1_000_000_000
FENCE_EXTEND_US = 10_000_000
FIRST_EPOCH_BITS = 45
STEP_EPOCH_BITS = 24  # an id repeats by chance once in 16 million restored journals; room for 200 million runs


class Executor:
    """One run of the executor process."""

    def __init__(self, ctx: WorkerContext, loop: asyncio.AbstractEventLoop, before: JournalOfBefore) -> None:
        self.ctx = ctx
        self.loop = loop
        config = ctx.config
        self._crash = crash_points_here(config.mode)
        self._slow_s = float(os.environ.get("ARB_TEST_SLOW_MS", "0")) / 1000  # for tests: a slower engine than ours
        self.market = MarketDataAggregator(ctx.instance, config, traded_alone=True)
        self.market.attach()
        self.instruments = self.market.instruments
        self.halt = ShmHalt(HaltPage.attach(ctx.instance), ctx.liveness.epoch)
        self._account = AccountReader(AccountPage.attach(ctx.instance), config.venues, self.instruments)
        self._inventory = InventoryWriter(InventoryPage.create(ctx.instance), self.instruments)
        self._opps = QueueConsumer.create(
            ctx.instance, "opps", capacity=OPPS_CAPACITY, slot_words=OPPORTUNITY.WORDS, start="newest"
        )
        self._reports = QueueProducer.create(
            ctx.instance, "reports", capacity=REPORTS_CAPACITY, slot_words=REPORT.WORDS
        )
        self._bell = Bell.create(ctx.bells_dir() / "executor", self._opps.cursor_words, CURSOR.sleeping)
        self._detector_bell = BellRinger.open(ctx.bells_dir() / "detector", self._reports.cursor_words, CURSOR.sleeping)
        self.journal, ledger = before.open()
        self.journal.passing = self._crash
        guard = read_guard_journal(ctx.state_dir)
        self._guard_records = fold_in(self.journal, ledger, guard)
        check_mode_of_journal(ledger, config, ctx.instance)
        check_traded(ledger, config)
        if orphaned(ledger, guard):
            ctx.say("critical", "guard_journal: continues another journal than this one; nothing of it is taken over")
        self.core = ExecutionCore(
            config, self.instruments, market=self.market, halt=self.halt, journal=self.journal, ledger=ledger
        )
        self.core.risk.gate.settings.wait_for(venue.name for venue in config.venues if venue.trade)
        retire_after_s = os.environ.get("ARB_TEST_RETIRE_AFTER_S")  # for soaks that are to see operations leave memory
        if retire_after_s:
            self.core.retirement.after_ns = int(float(retire_after_s) * 1e9)
        self._hedge_models = HedgeModels(ctx.state_dir, self.core.hedges.watch)
        self._sessions = Sessions(ctx, self.market, lambda event: self.performer.feed(event))
        self.trading = self._sessions.trading
        self._questions = Questions(self._clients, loop)
        self._session_watch = SessionWatch(self.trading, ctx.metrics, ctx.say, self._questions.odd_rows)
        self._numbers = ExecutorNumbers(ctx.metrics)
        self._stopped = asyncio.Event()
        self.performer = Performer(
            self.core,
            self.journal,
            self.halt,
            self.trading,
            venue_ids={venue.name: venue.venue_id for venue in config.venues},
            ask=self._questions.ask,
            numbers=self._numbers,
            say=ctx.say,
            crash=self._crash,
            reports=self._reports,
            wake_detector=self._detector_bell.ring_if_sleeping,
            on_fault=self._stopped.set,
        )
        countdowns = self._numbers.count["countdowns"]
        self._timers = VenueTimers(self._questions, self.performer, lambda: ctx.metrics.inc(countdowns))
        self._publisher = Publisher(self.core, ctx.state_dir, ctx.say)
        self._shown = Shown(self._publisher, ctx.metrics, ctx.say)
        self.performer.on_result = self._publisher.results.append
        self._record = np.zeros(OPPORTUNITY.WORDS, np.int64)
        self._spinning = False
        self._loopback = Loopback(sealed=any(venue.rest.startswith("https:") for venue in ctx.config.trading_venues))
        self._lane = FastLane(self._loopback)

    # --- life ---

    async def main(self) -> None:
        """From the catalogue to the last record."""
        ctx = self.ctx
        self.loop.set_exception_handler(self._loop_error)
        self.loop.add_reader(ctx.stop_fd, self._stop_asked)
        self.loop.add_reader(ctx.reload_fd, self._reload)
        if not await self._wait_for_catalogue():
            return
        self._questions.start(self.performer.feed)
        problem = self._hedge_models.load()
        if problem:
            ctx.say("warning", problem)
        now = self.performer.now()
        new_journal = not self.core.ledger.records
        actions = self.core.boot(
            now=now,
            first_epoch=1 + secrets.randbits(FIRST_EPOCH_BITS),
            instance=ctx.instance,
            pid=os.getpid(),
            build_hash=build_hash(),
            host_boot=host_boot_id(),
            epoch_step=1 + secrets.randbits(STEP_EPOCH_BITS),
        )
        self.journal.boot_epoch = self.core.ledger.boot_epoch
        self.performer.perform(actions, now)
        if new_journal:
            keep_breakers(ctx.state_dir, self.core.context)
        self.journal.sync()  # ids of this run carry its boot epoch: the record of it must outlive the host
        self._crash("boot_replayed")
        if self._guard_records:
            ctx.say("warning", f"journal: {self._guard_records} records of the guard taken over")
        if self.journal.truncated_bytes:
            ctx.say("warning", f"journal: torn tail of {self.journal.truncated_bytes} bytes cut off")
        self._connect_all()
        self._rehearse()
        control = ExecutorControl(
            ctx.state_dir,
            self.core,
            self.performer,
            self._publisher.views,
            self._shown.publish,
            ctx.say,
            lambda: ctx.is_ready,
        )
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

    def _loop_error(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """What a callback or a task of ours raised. A network's error is its session's matter; a bug ends us."""
        error = context.get("exception")
        if error is None or isinstance(error, OSError):
            loop.default_exception_handler(context)
        else:
            self.performer.end_by(error)

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
            if self.performer.fault is not None:
                raise self.performer.fault
            self._tick()
            if not self.ctx.is_ready and self.core.ready:
                self._crash("reconciled")
                await self._shown.publish()
                self.ctx.ready(f"{counts_of(self.core.ledger).total} operations in the journal, venues reconciled")
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
        if config is not None:
            self.core.reconfigure(config)

    def _stop_asked(self) -> None:
        self.loop.remove_reader(self.ctx.stop_fd)
        self._stopped.set()
        self.performer.feed(Command(CommandKind.STOP, reason="SIGTERM"))

    async def _close(self) -> None:
        # No beats from here on, and no hang. After an error it is no planned stop: the guard counts from now.
        planned = self.ctx.stop_requested()
        self.ctx.liveness.set_state(ProcessState.STOPPING if planned else ProcessState.STARTING)
        self._inventory.block_all()
        self.loop.remove_reader(self._bell.fileno())
        self._spinning = False
        now = self.performer.now()
        if self.journal.failed is None and self.performer.fault is None:
            self.performer.perform(self.core.stop(now, "SIGTERM"), now)
        await self._shown.publish(stopped=True)
        await self._timers.disarm()
        await self._sessions.close()
        self._questions.close()
        self._hedge_models.save()
        self._loopback.close()
        self._bell.close()
        self._detector_bell.close()
        if self.journal.failed is None:
            self.journal.close()

    # --- venues ---

    def _clients(self) -> dict[str, VenueClient]:
        """REST clients for the questions' thread."""
        from workers.account_clients import account_clients

        return account_clients(self.ctx)

    def _connect_all(self) -> None:
        self._sessions.open()
        fast_entry = self.core.open_fast_entry(*self.market.memory, self.halt.token)
        fast_entry.learn(lambda venue, terms: self.trading[venue].template(terms))
        self.core.risk.gate.order_budget = self._sessions.can_place
        self._sessions.follow_clocks(self._account.clocks(), self._questions)
        self._sessions.connect()

    def _rehearse(self) -> None:
        """The order path before there is an order, up to the bytes: the first order is not the slow one."""
        rehearse()
        self._lane.warm_up()
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
            more = self._drain_queue()
            self.loop.call_soon(self._spin)  # whatever a rehearsal raises
            if not more:
                self._lane.turn()

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
            self._crash("dequeued")
            if not self._slow_s and self.performer.enter_fast(self._record, dequeued_ns):
                self._count_pop(dequeued_ns, int(self._record[OPPORTUNITY.detect_mono_ns]))
                continue
            opportunity = decode_opportunity(self._record, dequeued_ns)
            if opportunity.type == OpportunityType.HEDGE_EXIT:
                self._numbers.metrics.inc(self._numbers.count["exits_offered"])
            else:
                self._count_pop(dequeued_ns, opportunity.detect_mono_ns)
            if self._slow_s:
                self.loop.call_later(self._slow_s, self._judge_late, opportunity)
            else:
                self.performer.feed(opportunity)
        return True

    def _count_pop(self, dequeued_ns: int, detect_ns: int) -> None:
        numbers = self._numbers
        numbers.metrics.inc(numbers.count["opportunities"])
        numbers.metrics.record(numbers.hist["queue_hop"], dequeued_ns - detect_ns)

    def _judge_late(self, opportunity: Opportunity) -> None:
        """For tests: what an engine slower by ``ARB_TEST_SLOW_MS`` would see. Only opportunities wait, and they count
        as detected later by the same time: the market decides what is left of them, not our own bound on their age."""
        late_ns = min(mono_ns(), opportunity.detect_mono_ns + int(self._slow_s * 1e9))
        self.performer.feed(msgspec.structs.replace(opportunity, detect_mono_ns=late_ns))

    # --- time ---

    def _tick(self) -> None:
        self.ctx.progress()
        self.halt.refresh()
        self._opps.refresh()
        self._reports.refresh()
        changed = self.market.refresh()
        if changed:
            self._sessions.take_rows(changed)
            self.performer.feed(CatalogueChanged(tuple(changed)))
        snapshot = self._account.poll()
        if snapshot is not None:
            self._sessions.follow_clocks(self._account.clocks(), self._questions)
            self.performer.feed(snapshot)
        self.performer.feed(Tick())
        self._inventory.write(self.core, self.performer.now())
        self._inventory.write_exits(self.core)
        self._numbers.gauges(self.core)
        self._timers.tick(mono_ns())
        for text in self._numbers.sessions(self.trading, mono_ns()):
            self.ctx.say("warning", f"{ALERT}{text}")
        self._hedge_models.save_if_due(self.loop, mono_ns())
        self._session_watch.tick(self.performer.now().mono_ns)
        self._shown.tick(self.performer.now().mono_ns)
        self.journal.kick()


def warm(dialects: Sequence[str]) -> None:
    """Imports and compiles everything that the order path calls, on private arrays."""
    import importlib

    from pipeline.detection.opportunity_record import record_crc32
    from pipeline.exchanges.transport import spend
    from pipeline.execution.shared_reads import may_launch, read_proved
    from pipeline.fast_entry.encoder import EntryEncoder
    from pipeline.fast_entry.entry import verdict_kernel
    from pipeline.templates.hmac_sha256 import pads_of
    from shm.metrics import Metrics

    importlib.import_module("uvloop")
    spend.warm()
    for dialect in dialects:
        for part in ("rest_client", "order_session"):
            try:
                importlib.import_module(f"pipeline.exchanges.{dialect}.{part}")
            except ModuleNotFoundError:  # a dialect with public streams only
                continue
    record_crc32(np.zeros(OPPORTUNITY.WORDS, np.int64))
    read_proved(np.zeros(feed_segment_words(1), np.int64), 0, 0, np.zeros(BOOK.WORDS, np.int64))
    metrics = Metrics.private()
    metrics.record(metrics.histogram("warm"), 1)
    metrics.inc(metrics.counter("warm"))
    may_launch(np.zeros(HALT.END, np.int64), 0, 0, 0, 0)
    EntryEncoder("warm")
    pads_of(b"warm")
    verdict_kernel()
    rehearse()  # what it specialises and imports, every child inherits
    loopback = Loopback()
    FastLane(loopback).warm_up()
    loopback.close()


def wait_for_the_guard(ctx: WorkerContext, before: JournalOfBefore) -> bool:
    """Before anything is opened: while the guard has taken over, it alone acts, and the journal is read. False when a
    stop is asked meanwhile.

    Whoever comes here has its status page already: a guard that fences now finds this process there and kills it.
    """
    page = HaltPage.attach(ctx.instance)
    extended_ns = 0
    while not ctx.stop_requested():
        page.refresh()
        if not page.fenced:
            return True
        if mono_ns() - extended_ns > EXTEND_EVERY_NS:
            extended_ns = mono_ns()
            ctx.wait_longer(FENCE_EXTEND_US, "fenced: the guard closes what is open")
        ctx.progress()
        if not before.read_ahead():
            time.sleep(FENCE_LOOK_S)
    return False


def run(ctx: WorkerContext) -> None:
    """The executor's whole life."""
    import uvloop

    before = JournalOfBefore(ctx)
    if not (wait_for_the_guard(ctx, before) and wait_for_room(ctx)):
        return
    loop = uvloop.new_event_loop()
    asyncio.set_event_loop(loop)
    try:
        loop.run_until_complete(Executor(ctx, loop, before).main())
    finally:
        loop.close()


def main() -> int:
    return run_worker("executor", run)


if __name__ == "__main__":
    sys.exit(main())
