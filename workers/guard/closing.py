"""How the guard closes: the execution core on the journals of a dead executor, with order sessions of its own.

Runs in a thread with a loop of its own, so that the guard goes on answering. It sends only while the executor is fenced
and proved dead; what it does lies in the guard's journal (``pipeline/execution/journal/guard_journal.py``).
"""

from __future__ import annotations

import asyncio
import gc
import os
import secrets
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from typing import TYPE_CHECKING

from pipeline.core import ExecutionCore
from pipeline.execution.core_context import GUARD_ID_PREFIX
from pipeline.execution.crash_points import GUARD, crash_points_here
from pipeline.execution.events import Action, CatalogueChanged, Tick
from pipeline.execution.journal import Journal, segment_indices
from pipeline.execution.journal.guard_journal import (
    GUARD_JOURNAL,
    Base,
    base_of,
    clear,
    missing,
    read_guard_journal,
)
from pipeline.execution.ledger import Ledger
from pipeline.execution.records import TakeoverRecord
from pipeline.execution.settled.checkpoint import recover
from pipeline.execution.shared_reads import AccountReader
from pipeline.market_data import MarketDataAggregator
from pipeline.model.errors import ConfigInvalid, JournalError, VenueUnavailable
from pipeline.takeover import Takeover, TakeoverHalt, TakeoverResult, anything_open
from shm.metrics import Metrics
from shm.pages import AccountPage
from shm.sources import build_hash
from shm.words import Words
from workers.account_clients import KeyRole, account_clients
from workers.base import WorkerContext
from workers.executor.dead_man import VenueTimers
from workers.executor.earlier_runs import check_traded, host_boot_id
from workers.executor.pages import ExecutorNumbers
from workers.executor.performer import Performer
from workers.executor.process import FIRST_EPOCH_BITS, STEP_EPOCH_BITS
from workers.executor.publisher import Publisher
from workers.executor.sessions import Sessions
from workers.executor.venues import FAULTS, Questions
from workers.executor.views import Row, order_rows
from workers.guard.books import TakeoverBooks
from workers.last_run.journal_mode import mode_problem

if TYPE_CHECKING:
    from pipeline.exchanges.base import VenueClient
    from pipeline.model.instruments import InstrumentRow

TICK_S = 0.02
CATALOGUE_WAIT_S = 30.0
SEGMENT_BYTES = 4 * 1024 * 1024  # of the guard's journal: a takeover writes a few hundred records
SEGMENTS_KEPT = 2
SNAPSHOT_NS = 1_000_000_000  # between two snapshots of one book: a forced close takes books of up to 5 s
SNAPSHOT_S = 3.0
SYNC_S = 1.0  # for the device, of which a healthy one takes milliseconds
SAY_LEFT_S = 15.0  # between two lines about the hedges that are not closed yet
GIVE_BACK_AFTER_S = 5.0  # proven legs are closed: an executor that waits may wait for the proof of the rest itself


class NoReports:
    """The guard has no detector to report to."""

    def push(self, words: Words) -> bool:
        """Reports of operations are dropped."""
        return False


class Closing(threading.Thread):
    """One takeover. ``hedges``: ids to close, which may grow meanwhile; None = all. Once it has ``ended``, there is
    ``result`` or ``error``; the thread may still wait for a disk that hangs. ``say`` is called in this thread."""

    def __init__(
        self, ctx: WorkerContext, reason: str, hedges: Sequence[str] | None, say: Callable[[str, str], None]
    ) -> None:
        super().__init__(name="closing", daemon=True)
        self._ctx = ctx
        self._reason = reason
        self.hedges = hedges
        self.taken = hedges  # those that it has looked at last: what comes after its end, it does not hear any more
        self._ended = threading.Event()
        self._say = say
        self._end = threading.Event()
        self.awaited = False  # an executor waits for the fence's end: set by the guard's main thread
        self.result: TakeoverResult | None = None
        self.error = ""
        self.acted = False  # the venues were spoken to, by this guard or by one that died in the same takeover
        self.orders: list[Row] = []  # what was sent, as it stands
        self.reasons: dict[str, str] = {}  # hedge that is left, or not closed yet -> why
        self._say_at_s = 0.0

    def ask_end(self) -> None:
        """Ends the takeover as it stands; what it has done is in its journal."""
        self._end.set()

    @property
    def ended(self) -> bool:
        """Whether it sends nothing any more, and what became of it is known."""
        return self._ended.is_set()

    def run(self) -> None:
        """The thread's whole life."""
        try:
            asyncio.run(self._whole())  # after its end, this waits for threads that write, however long
        except Exception as error:  # noqa: BLE001  outermost frame of the thread: the guard tries again, and says so
            self.error = f"{type(error).__name__}: {error}" if self.result is None else ""
        finally:
            self._ended.set()
            gc.collect()  # core and performer hold each other, and with them the ledger: 20 kB an operation

    async def _whole(self) -> None:
        try:
            self.result = await self._main()
        except Exception as error:  # noqa: BLE001  as in run
            self.error = f"{type(error).__name__}: {error}"
        finally:
            self._ended.set()

    async def _main(self) -> TakeoverResult:
        ctx = self._ctx
        market = MarketDataAggregator(ctx.instance, ctx.config, traded_alone=True)
        market.attach()
        await self._catalogue(market)
        journal, ledger, base, self.acted = _open_journals(ctx)
        crash = crash_points_here(ctx.config.mode)
        journal.passing = lambda point: crash(GUARD + point)
        try:
            check_traded(ledger, ctx.config)  # an executor refuses it as well: no reason to close everything else
            books = TakeoverBooks(ctx.config, market)
            core = ExecutionCore(
                ctx.config, market.instruments, market=books, halt=TakeoverHalt(), journal=journal, ledger=ledger
            )
            with closing(_Life(ctx, core, journal, market, books, self._say)) as life:
                actions = life.boot()
                self.taken = self.hedges
                takeover = Takeover(core, self.taken)
                if not anything_open(core.ledger, close=self.taken is None or bool(self.taken)):
                    return takeover.result()  # this guard has written and sent nothing
                self.acted = True
                life.note(TakeoverRecord(*base, self._reason))
                return await self._act(life, takeover, actions)
        finally:
            if journal.failed is None:
                self._close(journal)

    def _close(self, journal: Journal) -> None:
        """Every record lies where it survives: the disk is not waited for longer than ``SYNC_S``."""

        def close() -> None:
            try:
                journal.close()
            except (JournalError, OSError) as error:
                self._say("error", f"the guard's journal is not synced: {error}")

        thread = threading.Thread(target=close, name="journal-close", daemon=True)
        thread.start()
        thread.join(SYNC_S)

    async def _catalogue(self, market: MarketDataAggregator) -> None:
        deadline = asyncio.get_running_loop().time() + CATALOGUE_WAIT_S
        while not len(market.instruments):
            if self._end.is_set() or asyncio.get_running_loop().time() > deadline:
                raise VenueUnavailable("the catalogue is empty: is the supervisor running?")
            await asyncio.sleep(TICK_S)
            market.refresh()

    async def _act(self, life: _Life, takeover: Takeover, actions: list[Action]) -> TakeoverResult:
        loop = asyncio.get_running_loop()
        began_s = loop.time()
        self._say_at_s = began_s + SAY_LEFT_S
        await life.begin(actions)
        try:
            while not self._end.is_set():
                life.tick()
                self.taken = self.hedges
                takeover.want(self.taken)
                for command in takeover.commands(life.performer.now().mono_ns, self._reason):
                    life.performer.feed(command)
                life.check()
                enough = self.awaited and loop.time() - began_s > GIVE_BACK_AFTER_S and takeover.proven_closed
                if takeover.done or enough:
                    break
                life.show(lambda: self._say_what_is_left(takeover, loop.time()))
                await asyncio.sleep(TICK_S)
        finally:
            await life.end(self._reason)
        result = takeover.result()
        life.show(lambda: self._show(takeover, result))
        return result

    def _show(self, takeover: Takeover, result: TakeoverResult) -> None:
        """What an answer says of the end, beside the result; the reasons that were there stay where it fails."""
        self.orders = order_rows(takeover.core.ledger, result.orders)
        self.reasons = takeover.why_left()

    def _say_what_is_left(self, takeover: Takeover, now_s: float) -> None:
        """Why a takeover goes on and on: for `arb close` at once, for operators now and then."""
        self.reasons = takeover.why_left()
        if now_s >= self._say_at_s:
            self._say_at_s = now_s + SAY_LEFT_S
            for name, reason in self.reasons.items():
                self._say("warning", f"hedge {name} is not closed yet: {reason or 'under way'}")


class _Life:
    """A core and everything that carries out its actions, for one takeover."""

    def __init__(
        self,
        ctx: WorkerContext,
        core: ExecutionCore,
        journal: Journal,
        market: MarketDataAggregator,
        books: TakeoverBooks,
        say: Callable[[str, str], None],
    ) -> None:
        self._ctx = ctx
        self._core = core
        self._books = books
        self._say = say
        self._looked_ns = 0
        self._unsynced = False  # whether it has been said that the disk hangs
        self._unpublished = False  # whether it has been said that nothing can be published
        self._fetching: set[asyncio.Task[None]] = set()
        self._journal = journal
        self._market = market
        self._account = AccountReader(AccountPage.attach(ctx.instance), ctx.config.venues, market.instruments)
        self._questions = Questions(self._clients, asyncio.get_running_loop())
        self._sessions = Sessions(ctx, market, lambda event: self.performer.feed(event), role=KeyRole.GUARD, say=say)
        self._publisher = Publisher(core, ctx.state_dir, say)
        self.performer = Performer(
            core,
            journal,
            TakeoverHalt(),
            self._sessions.trading,
            venue_ids={venue.name: venue.venue_id for venue in ctx.config.venues},
            ask=self._questions.ask,
            numbers=ExecutorNumbers(Metrics.private()),
            say=say,
            crash=journal.passing,
            reports=NoReports(),
            wake_detector=lambda: None,
            on_fault=lambda: None,
            sync=self._sync,
        )
        self.performer.on_result = self._publisher.results.append
        self._timers = VenueTimers(self._questions, self.performer, lambda: None)

    def boot(self) -> list[Action]:
        """The core on both journals; nothing is written or sent yet."""
        return self._core.boot(
            now=self.performer.now(),
            first_epoch=1 + secrets.randbits(FIRST_EPOCH_BITS),
            instance=self._ctx.instance,
            pid=os.getpid(),
            build_hash=build_hash(),
            host_boot=host_boot_id(),
            epoch_step=1 + secrets.randbits(STEP_EPOCH_BITS),
            id_prefix=GUARD_ID_PREFIX,
        )

    def note(self, record: TakeoverRecord) -> None:
        """The first record of the run."""
        now = self.performer.now()
        self._journal.boot_epoch = self._core.ledger.boot_epoch
        self._journal.append(record, now.mono_ns, now.wall_ns)

    def _clients(self) -> dict[str, VenueClient]:
        return account_clients(self._ctx, KeyRole.GUARD)

    async def begin(self, actions: list[Action]) -> None:
        """The first records, on the device in time before any id of this run leaves; then the venues."""
        self._sessions.open()
        self._core.risk.gate.order_budget = self._sessions.can_place
        self._questions.start(self.performer.feed)
        self._sessions.follow_clocks(self._account.clocks(), self._questions)
        self.performer.perform(actions, self.performer.now())
        self._sync()
        self._sessions.connect()

    def _sync(self) -> None:
        """What was written is on the device, or that has had ``SYNC_S``: what is open is closed all the same.

        Every record survives the guard where it lies, as all do under ``durability: process``. Only a host that goes
        down before its disk has answered forgets it, and then the orders show at the venues by their ids, which are a
        guard's and of an epoch that no journal knows: the next start halts there until an operator has taken them over.
        Nothing is sent twice: no id is used again, a futures leg is only reduced, and what is not there is not sold."""
        if not self._journal.sync_within(SYNC_S) and not self._unsynced:
            self._unsynced = True
            self._say("critical", f"the disk has not answered in {SYNC_S} s: what is open is closed without it")

    def tick(self) -> None:
        """Books, account and time, as they are now."""
        changed = self._market.refresh()
        if changed:
            self._sessions.take_rows(changed)
            self.performer.feed(CatalogueChanged(tuple(changed)))
        snapshot = self._account.poll()
        if snapshot is not None:
            self._sessions.follow_clocks(self._account.clocks(), self._questions)
            self.performer.feed(snapshot)
        self.performer.feed(Tick())
        self.show(lambda: self._publisher.tick(self.performer.now().mono_ns))  # seen while it lasts
        self._look_at_books(self.performer.now().mono_ns)
        self._timers.tick(self.performer.now().mono_ns)
        self._journal.kick()

    def _look_at_books(self, now_ns: int) -> None:
        """Asks for snapshots of the books that no feed proves any more, once a second."""
        if now_ns - self._looked_ns < SNAPSHOT_NS:
            return
        self._looked_ns = now_ns
        rows = {(row.spec.venue, row.spec.symbol): row for row in self._market.instruments}
        for row in self._books.wanted(self._core.ledger, rows, now_ns):
            task = asyncio.get_running_loop().create_task(self._fetch(row))
            self._fetching.add(task)
            task.add_done_callback(self._fetching.discard)

    async def _fetch(self, row: InstrumentRow) -> None:
        asked_ns = self.performer.now().mono_ns
        asked = self._questions.depth_snapshot(row.spec.venue, row.spec.symbol)
        if asked is None:
            return
        try:
            async with asyncio.timeout(SNAPSHOT_S):
                payload = await asked
        except FAULTS as error:
            self._say("warning", f"{row.spec.venue} {row.spec.symbol}: no snapshot: {error}")
            return
        problem = self._books.take(row, payload, asked_ns, self.performer.now().mono_ns)
        if problem:
            self._say("warning", problem)

    def show(self, work: Callable[[], None]) -> None:
        """Views of a takeover are worth less than the takeover: what they raise is said once, and closing goes on. So
        this is an outermost frame, of everything that is only looked at."""
        try:
            work()
        except Exception as error:  # noqa: BLE001  see above
            self._say_unpublished(error)

    async def _publish_end(self) -> None:
        try:
            async with asyncio.timeout(SYNC_S):
                await self._publisher.publish()
        except Exception as error:  # noqa: BLE001  as in show
            self._say_unpublished(error)

    def _say_unpublished(self, error: Exception) -> None:
        if not self._unpublished:
            self._unpublished = True
            self._say("error", f"the takeover cannot be shown: {type(error).__name__}: {error}; it goes on")

    def check(self) -> None:
        """Raises what ended the performer or the journal."""
        if self.performer.fault is not None:
            raise self.performer.fault
        if self._journal.failed is not None:
            raise OSError(f"journal of the guard: {self._journal.failed}")

    async def end(self, reason: str) -> None:
        """The last record; what views read is brought up to it; sockets are closed."""
        if self._journal.failed is None and self.performer.fault is None:
            now = self.performer.now()
            self.performer.perform(self._core.stop(now, reason), now)
            await self._publish_end()
        for task in list(self._fetching):
            task.cancel()
        if not self._core.ledger.unsettled:  # else something of ours may still come to rest
            orders = self._core.ledger.orders.values()
            sent = [(o.intent.venue, o.intent.symbol, o.sent_mono_ns or o.intent_mono_ns) for o in orders]
            await self._timers.disarm(sent)
        await self._sessions.close()

    def close(self) -> None:
        """Whatever became of it, also where nothing had to be asked."""
        self._questions.close()


def make_room(ctx: WorkerContext) -> str:
    """The guard's journal, before it is needed: a disk that is full later must not keep a takeover from its records.
    What went wrong, or ""."""
    folder = ctx.state_dir / GUARD_JOURNAL
    if segment_indices(folder):
        return ""
    try:
        _open(ctx).close()
    except (JournalError, OSError) as error:
        return f"no room for the guard's journal: {error}"
    return ""


def _open(ctx: WorkerContext) -> Journal:
    size = min(SEGMENT_BYTES, ctx.config.execution.journal_segment_bytes)
    folder = ctx.state_dir / GUARD_JOURNAL
    return Journal.open(folder, segment_bytes=size, durability=ctx.config.execution.durability)


def _open_journals(ctx: WorkerContext) -> tuple[Journal, Ledger, Base, bool]:
    """The guard's journal, the fold of everything that the core must know (the executor's journal and what that lacks
    of the guard's), what the guard's next records continue, and whether anything was lacking: an earlier guard has
    acted, and no executor has taken that over yet. A guard's journal that has grown, and of which nothing is missing
    there, begins anew."""
    ledger = recover(ctx.journal_dir()).ledger
    problem = mode_problem(ledger.mode, ctx.config.mode, ctx.instance)
    if problem:  # what simulated fills left is not closed with real orders
        raise ConfigInvalid([problem])
    folder = ctx.state_dir / GUARD_JOURNAL
    guard = read_guard_journal(ctx.state_dir)
    if len(segment_indices(folder)) > SEGMENTS_KEPT and not missing(ledger, guard):
        clear(folder)
        guard = []
    journal, base, lacking = _open(ctx), base_of(ledger, guard), missing(ledger, guard)
    for entry in lacking:
        ledger.apply(entry.record, entry.mono_ns, entry.wall_ns)
    return journal, ledger, base, bool(lacking)
