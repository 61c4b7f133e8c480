"""The recorder: journal and opportunity ring -> SQLite ledger, log rings -> log files. No other process waits for it.

The journal is read from the position that the SQLite ledger stored in its last transaction, so a kill neither loses nor
doubles a record; a journal that this position is not of is read from its beginning. Rings are overwritten by their
writers without regard to the recorder, which counts what it missed. How far it has read is stored with the rows
(opportunities) or after the lines (logs): a restart doubles nothing.
"""

from __future__ import annotations

import errno
import select
import time
from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import msgspec
import numpy as np

from pipeline.execution.journal import JournalEntry
from pipeline.execution.market import Instruments
from pipeline.execution.shared_reads import AccountReader, float_of, read_proved
from pipeline.market_data import MarketDataAggregator
from pipeline.model.enums import OpportunityType
from pipeline.model.errors import JournalError
from pipeline.model.fixedpoint import from_fp, plain
from pipeline.model.structs import Balance
from pipeline.model.units import NS_PER_DAY
from shm.errors import ShmError
from shm.layout import BOOK, LEG, LEG_CAPACITY, LOG, LOG_SLOT, OPPORTUNITY, QUEUE, feed_segment_words
from shm.logring import LogReader, LogRing
from shm.pages import AccountPage
from shm.queue import attach_queue, init_queue, queue_words, read_at
from shm.segment import Segment
from shm.words import Words
from workers.base import WorkerContext, run_worker
from workers.executor_file import read_executor_state
from workers.last_run.other_journal import BEGUN_ANEW, OTHER_JOURNAL
from workers.recorder.checkpoints import Checkpoints
from workers.recorder.disk_trouble import DiskTrouble
from workers.recorder.followed_journal import FollowedJournal
from workers.recorder.log_files import DrainPosition, LogDrain, boot_id
from workers.recorder.market_files import MarketFiles
from workers.recorder.markouts import Markouts
from workers.recorder.old_rows import forget, forgotten
from workers.recorder.sqlite_ledger import Markout, SqliteLedger
from workers.recording.rings import MARKET_FOLDER, sources_of

ROUND_MS = 100
RING_ITEMS_PER_ROUND = 512
OPPORTUNITY_NAMES = {kind.value: kind.name.lower() for kind in OpportunityType}
WARM_LOG_SLOTS = 16
PRUNE_EVERY_NS = 3600 * 1_000_000_000
EQUITY_EVERY_NS = 60 * 1_000_000_000
STOP_ROUNDS_MAX = 50  # bound of reading everything to its end at the stop


class RingPosition(msgspec.Struct, frozen=True):
    """Where the reader of the opportunity ring continues: the ring (by boot and inode) and its next item."""

    boot_id: str
    inode: int
    next: int


def opportunity_row(words: Words, instruments: Instruments, wall_minus_mono_ns: int) -> tuple[Any, ...]:
    """One record of the ring (int64[64]) as a row of ``opportunities``, in its column order.

    Instruments become names and fixed-point numbers decimals. An instrument that is not in the catalogue is written as
    its number, its amounts as their integers. ``wall_minus_mono_ns`` turns monotonic into wall-clock time.
    """
    legs: list[dict[str, Any]] = []
    pair = f"pair {int(words[OPPORTUNITY.pair])}"
    for number in range(min(int(words[OPPORTUNITY.leg_count]), LEG_CAPACITY)):
        at = OPPORTUNITY.legs + number * LEG.WORDS
        instrument_id = int(words[at + LEG.instrument])
        row = instruments.get(instrument_id)
        amounts = {
            "limit_price": (int(words[at + LEG.limit_price_fp]), 0 if row is None else row.price_exp),
            "qty": (int(words[at + LEG.qty_fp]), 0 if row is None else row.qty_exp),
            "best_price": (int(words[at + LEG.best_price_fp]), 0 if row is None else row.price_exp),
        }
        if row is not None and number == 0:
            pair = row.spec.pair
        legs.append(
            {
                "venue": "" if row is None else row.spec.venue,
                "symbol": f"instrument {instrument_id}" if row is None else row.spec.symbol,
                "side": "buy" if int(words[at + LEG.side]) > 0 else "sell",
                **{name: plain(from_fp(mantissa, exp)) for name, (mantissa, exp) in amounts.items()},
                "notional": repr(float_of(int(words[at + LEG.notional]))),
                "book_seq": int(words[at + LEG.book_seq]),
                "update_id": int(words[at + LEG.update_id]),
                "proof_mono_ns": int(words[at + LEG.proof_mono_ns]),
                "recv_mono_ns": int(words[at + LEG.recv_mono_ns]),
            }
        )
    kind = int(words[OPPORTUNITY.type])
    detected = int(words[OPPORTUNITY.detect_mono_ns])
    return (
        int(words[OPPORTUNITY.id]),
        detected,
        detected + wall_minus_mono_ns,
        OPPORTUNITY_NAMES.get(kind, str(kind)),
        pair,
        float_of(int(words[OPPORTUNITY.edge_bps])),
        float_of(int(words[OPPORTUNITY.entry_edge_bps])),
        float_of(int(words[OPPORTUNITY.profit_quote])),
        int(words[OPPORTUNITY.trigger_recv_mono_ns]),
        msgspec.json.encode(legs).decode(),
    )


class RingReader:
    """The second reader of the opportunity queue. ``lost``: items that were overwritten before it had read them."""

    def __init__(
        self, instance: str, instruments: Instruments, resume: RingPosition | None, *, newest: bool = False
    ) -> None:
        """``resume``: where a reader before has stopped; ``newest``: begin behind what is in the ring."""
        self._instance = instance
        self._instruments = instruments
        self._boot = boot_id()
        self._resume = resume
        self._newest = newest
        self._segment: Segment | None = None
        self._next = 0
        self._out = np.zeros(OPPORTUNITY.WORDS, dtype=np.int64)
        self.lost = 0

    def position(self) -> RingPosition | None:
        """Where to continue; store it with the rows. None before there is a ring."""
        if self._segment is None:
            return None
        return RingPosition(self._boot, self._segment.inode, self._next)

    def _attach(self) -> bool:
        if self._segment is not None and self._segment.is_current():
            return True
        try:
            self._segment = attach_queue(self._instance, "opps")
        except ShmError:
            return False
        known = self._resume
        same = known is not None and (known.boot_id, known.inode) == (self._boot, self._segment.inode)
        self._next = known.next if known is not None and same else 0
        if self._newest:  # of the first ring only: one that replaces it is read from its beginning
            self._next, self._newest = int(self._segment.words[QUEUE.tail]), False
        return True

    def poll(self) -> list[tuple[Any, ...]]:
        """The rows that are new since the last call, at most ``RING_ITEMS_PER_ROUND``."""
        if not self._attach():
            return []
        assert self._segment is not None
        words = self._segment.words
        oldest = int(words[QUEUE.tail]) - int(words[QUEUE.capacity]) + 1
        if oldest > self._next:
            self.lost += oldest - self._next
            self._next = oldest
        offset = time.time_ns() - time.monotonic_ns()
        rows: list[tuple[Any, ...]] = []
        while len(rows) < RING_ITEMS_PER_ROUND:
            status = int(read_at(words, 0, self._next, self._out))
            if status == 0:
                break
            if status == 1:
                rows.append(opportunity_row(self._out, self._instruments, offset))
            else:
                self.lost += 1
            self._next += 1
        return rows


def warm(dialects: Sequence[str]) -> None:
    """Compile, or load from the cache, the kernels that the ring readers call, with private arrays."""
    words = np.zeros(queue_words(2, OPPORTUNITY.WORDS), dtype=np.int64)
    init_queue(words, 0, 2, OPPORTUNITY.WORDS, 0)
    read_at(words, 0, 0, np.zeros(OPPORTUNITY.WORDS, dtype=np.int64))
    read_proved(np.zeros(feed_segment_words(1), np.int64), 0, 0, np.zeros(BOOK.WORDS, np.int64))  # markouts
    ring = np.zeros(LOG.slots + WARM_LOG_SLOTS * LOG_SLOT.WORDS, np.int64)
    ring[LOG.capacity] = WARM_LOG_SLOTS
    segment = Segment("", ring, lock_fd=-1, inode=0, taken_over=False)
    LogRing(segment).text(0, "a line that takes more than one slot: " + "-" * 64)
    LogReader(segment, 0).read()


class BalanceWatch:
    """Confirmed balances that changed since the last look, at most every ``every_s`` seconds."""

    def __init__(self, account: AccountReader, every_s: int) -> None:
        self._account = account
        self._every_ns = every_s * 1_000_000_000
        self._next_ns = 0
        self._newest: dict[tuple[str, str], Balance] = {}
        self._written: dict[tuple[str, str], tuple[Decimal, Decimal]] = {}

    def changed(self, now_ns: int, *, last: bool = False) -> list[Balance]:
        """Balances to be written at ``now_ns`` (monotonic); ``last``: at the stop, all that changed."""
        snapshot = self._account.poll()
        for balance in snapshot.balances if snapshot is not None else ():
            self._newest[balance.venue, balance.asset] = balance
        if now_ns < self._next_ns and not last:
            return []
        found = [b for key, b in self._newest.items() if self._written.get(key) != (b.free, b.locked)]
        if found:
            self._next_ns = now_ns + self._every_ns
            self._written.update({(b.venue, b.asset): (b.free, b.locked) for b in found})
        return found

    def forget(self, rows: Sequence[Balance]) -> None:
        """These were not written after all."""
        for row in rows:
            self._written.pop((row.venue, row.asset), None)


class Recorder:
    """Moves records, opportunities, log lines and balances from journal and shared memory to the disk."""

    def __init__(self, ctx: WorkerContext) -> None:
        self.ctx = ctx
        settings = ctx.config.recording
        self.ledger = SqliteLedger(ctx.state_dir / "ledger.sqlite")
        self._journals = ctx.metrics.counter(BEGUN_ANEW, "journals read from their beginning in place of another one")
        self.checkpoints = Checkpoints(ctx.journal_dir(), ctx.config.execution.journal_max_bytes)
        self.journal = FollowedJournal(ctx.journal_dir(), self.ledger, self._other_journal)
        self.market = MarketDataAggregator(ctx.instance, ctx.config)
        self.market.attach()
        self.ring = RingReader(ctx.instance, self.market.instruments, self.ledger.recall("opportunities", RingPosition))
        self.logs = LogDrain(
            ctx.instance,
            ctx.state_dir / "logs",
            self.ledger.recall("logs", DrainPosition),
            file_bytes_max=settings.log_file_bytes,
            files_max=settings.log_files,
        )
        account = AccountReader(AccountPage.attach(ctx.instance), ctx.config.venues, self.market.instruments)
        self.balances = BalanceWatch(account, settings.balances_every_s)
        self.kept: MarketFiles | None = None
        if settings.market:
            self.kept = MarketFiles(
                ctx.instance,
                sources_of(ctx.config.feeds),
                ctx.state_dir / MARKET_FOLDER,
                bytes_max=settings.market_max_bytes,
                keep_hours=settings.market_keep_hours,
            )
        self.markouts = Markouts(self.market, ctx.config.detection.dead_after_ms)
        self._measured: list[Markout] = []  # and not in the ledger yet
        self._prune_at_ns = self._equity_at_ns = 0
        self._equity_wall_ns = 0  # of the newest reading that was written
        self._unwritten: list[JournalEntry] = []  # read, and not in the ledger yet
        self._disk = DiskTrouble(ctx)
        self._checkpoint_problem = ""
        counter = ctx.metrics.counter
        self._records = counter("journal_records", "journal records in the ledger")
        self._opportunities = counter("opportunities_recorded", "opportunities in the ledger")
        self._opportunities_lost = counter("opportunities_lost", "opportunities overwritten before they were seen")
        self._lines = counter("log_lines", "lines written to the log files")
        self._slots_lost = counter("log_slots_lost", "slots of log rings overwritten before they were read")
        self._lines_lost = counter("log_lines_lost", "lines that the disk did not take")
        self._checkpoints = counter("checkpoints", "checkpoints of the executor's ledger written by this run")
        self._segments_removed = counter("segments_removed", "segments of the journal removed by this run")
        self._market_bytes = counter("market_bytes", "compressed bytes of the market written by this run")
        self._pieces_removed = counter("market_pieces_removed", "pieces removed by quota or age")
        lost = ("opportunities_lost", "log_slots_lost", "log_lines_lost")
        self._lost_before = [ctx.metrics.value(name) for name in lost]

    def _other_journal(self) -> None:
        """The journal is another one than was recorded before."""
        self.checkpoints.close()
        self.checkpoints = Checkpoints(self.ctx.journal_dir(), self.ctx.config.execution.journal_max_bytes)
        self.ctx.metrics.inc(self._journals)
        self.ctx.say("warning", OTHER_JOURNAL)

    def round(self) -> int:
        """Write what is new; the number of records, rows and lines. What a disk refuses waits (journal) or is lost and
        counted (rings)."""
        self.market.refresh()
        parts = {"journal": self._journal_round, "opportunities": self._ring_round, "logs": self._log_round}
        if self.kept is not None:
            parts["market"] = self.kept.round
        count = sum(self._disk.attempt(name, work) for name, work in parts.items())
        metrics = self.ctx.metrics
        if self.kept is not None:
            metrics.set(self._market_bytes, self.kept.written)
            metrics.set(self._pieces_removed, self.kept.removed)
        now_lost = (self.ring.lost, self.logs.lost, self.logs.unwritten)
        counters = (self._opportunities_lost, self._slots_lost, self._lines_lost)
        for counter, before, now in zip(counters, self._lost_before, now_lost, strict=True):
            metrics.set(counter, before + now)
        return count

    def _journal_round(self) -> int:
        entries = self._unwritten = self._unwritten or self.journal.poll()
        if entries:
            self.ledger.apply(entries, self.journal.position)
            self.markouts.note(entries, time.monotonic_ns(), time.time_ns())
            self.ctx.metrics.inc(self._records, len(entries))
        self._unwritten = []
        return len(entries)

    def _ring_round(self) -> int:
        rows = self.ring.poll()
        if rows:
            self.ring.lost += len(rows)  # until they are written
            self.ledger.opportunities(rows, self.ring.position())
            self.ring.lost -= len(rows)
            self.ctx.metrics.inc(self._opportunities, len(rows))
        return len(rows)

    def _log_round(self) -> int:
        lines = self.logs.poll()
        if lines:
            self.ctx.metrics.inc(self._lines, lines)
            self.ledger.remember("logs", self.logs.position())
            if self.logs.rotate():
                self.ledger.remember("logs", self.logs.position())
        if self.logs.problem:
            raise OSError(errno.EIO, f"log file: {self.logs.problem}")
        return lines

    def keep_up(self, *, last: bool = False) -> None:
        """Write changed balances and remove the oldest opportunities, each when its time has come."""
        now_ns = time.monotonic_ns()
        changed = self.balances.changed(now_ns, last=last)
        if changed and not self._disk.attempt("balances", lambda: self.ledger.balances(changed, time.time_ns())):
            self.balances.forget(changed)
        if now_ns >= self._equity_at_ns or last:
            self._equity_at_ns = now_ns + EQUITY_EVERY_NS
            self._disk.attempt("equity", self._equity)
        self._measured = self._measured or self.markouts.measured(now_ns)
        if self._measured and self._disk.attempt("markouts", lambda: self.ledger.markouts(self._measured)):
            self._measured = []
        if now_ns >= self._prune_at_ns:
            self._prune_at_ns = now_ns + PRUNE_EVERY_NS
            self._disk.attempt("old rows", self._forget)
        for _ in range(STOP_ROUNDS_MAX if last else 1):
            if not self.checkpoints.round(self.ledger.position(), last=last):
                break
        for text in self.checkpoints.set_aside:
            self.ctx.say("warning", f"set aside: {text}")
        self.checkpoints.set_aside.clear()
        if self.checkpoints.problem != self._checkpoint_problem:
            self._checkpoint_problem = self.checkpoints.problem
            if self._checkpoint_problem:
                self.ctx.say("error", f"no checkpoint is written, the journal grows: {self._checkpoint_problem}")
        self.ctx.metrics.set(self._checkpoints, self.checkpoints.written)
        self.ctx.metrics.set(self._segments_removed, self.checkpoints.removed_segments)

    def _equity(self) -> int:
        """Write the executor's equity where it has said it since; 1 where it did."""
        state = read_executor_state(self.ctx.state_dir)
        if (
            state is None
            or state.pnl is None
            or state.pnl.get("daily") is None
            or state.wall_ns <= self._equity_wall_ns
        ):
            return 0
        self._equity_wall_ns = state.wall_ns
        return self.ledger.equity(state.wall_ns, state.pnl)

    def _forget(self) -> int:
        """Remove what is older, or more, than is to be kept."""
        settings, wall_ns = self.ctx.config.recording, time.time_ns()
        count = self.ledger.prune(settings.opportunities_max, wall_ns)
        if settings.ledger_keep_days:  # whole days: once a day there is something to do
            before_ns = (wall_ns // NS_PER_DAY - settings.ledger_keep_days) * NS_PER_DAY
            with self.ledger.transaction() as db:
                count += forget(db, before_ns)
                if forgotten(db) < before_ns:
                    self._prune_at_ns = time.monotonic_ns()  # a day in every round: other rows do not wait for long
        return count

    def _end_pieces(self) -> int:
        assert self.kept is not None
        self.kept.close()
        return 1

    def close(self) -> None:
        """Close journal, log files and SQLite ledger."""
        self.journal.close()
        self.checkpoints.close()
        self.logs.close()
        if self.kept is not None:
            self._disk.attempt("market", self._end_pieces)
        self._disk.attempt("close", self.ledger.close)


def _begin(ctx: WorkerContext, poll: select.poll) -> Recorder | None:
    """The recorder, as soon as the disk lets it begin; None where the stop comes first. Nobody waits for it."""
    disk, made = DiskTrouble(ctx), list[Recorder]()

    def make() -> int:
        made.append(Recorder(ctx))
        return 1

    while not ctx.stop_requested():
        if disk.attempt("beginning", make):
            return made[0]
        if not ctx.is_ready:
            ctx.ready("waits for the disk")
        ctx.progress()
        poll.poll(ROUND_MS)
    return None


def run(ctx: WorkerContext) -> None:
    """The recorder's life: a round every 100 ms until SIGTERM, then read everything to its end."""
    poll = select.poll()
    poll.register(ctx.stop_fd, select.POLLIN)
    ctx.liveness.parked = True
    recorder = _begin(ctx, poll)
    if recorder is None:
        return
    ctx.ready()
    try:
        while not ctx.stop_requested():
            recorder.round()
            recorder.keep_up()
            ctx.progress()
            poll.poll(ROUND_MS)
        for _ in range(STOP_ROUNDS_MAX):
            if not recorder.round():
                break
        recorder.keep_up(last=True)
    except JournalError as error:
        recorder.ledger.note("journal_error", str(error))
        raise
    finally:
        recorder.close()


def main() -> int:
    """``python -m workers.recorder --instance I --config F``."""
    return run_worker("recorder", run)
