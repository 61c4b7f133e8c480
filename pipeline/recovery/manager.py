"""Recovery: reconcile with the venues before new risk, settle unknown orders by proof, escalate.

Start-up: the journal is replayed, every order without an ending becomes UNKNOWN, and every venue is swept once (open
and finished orders, fills, balances, positions). A venue that cannot be swept is disabled, not waited for, and swept
again later; its unknown orders keep their worst-case exposure.

An order is proved never to have executed (EXPIRED) only when all of this holds:

1. its own window and ``execution.unknown_grace_ms`` have passed since it was sent, on the monotonic clock;
2. one complete sweep of its venue *begun after that* shows neither the order nor a fill of it;
3. that sweep's balances agree with the ledger to the last digit in the order's base asset (spot), or its position does
   (futures), wherever a baseline is known; and no other order may have hidden what this one did: one of the other side
   about which that sweep says nothing yet, or one of the same side that has filled within the grace before it.

Positive evidence, from any source at any time, settles it at once. Nothing is ever resent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any

from pipeline.execution.balances import BalanceMonitor
from pipeline.execution.core_context import CoreContext
from pipeline.execution.events import InstrumentAnswer, MoneyAnswer, SweepAnswer, SweepVenue
from pipeline.execution.evidence import Evidence
from pipeline.execution.ledger import UNKNOWN_PAST, Operation, Order
from pipeline.execution.records import ReconcileRecord, RecoveryRecord
from pipeline.recovery.account import AccountCheck
from pipeline.recovery.adoption import Adoption
from pipeline.recovery.differences import UNPROVED, hidden
from pipeline.recovery.earlier_run import EarlierRun
from pipeline.recovery.external_book import ExternalBook
from pipeline.recovery.foreign_orders import book_foreign
from pipeline.recovery.history import MoneyHistory
from pipeline.recovery.row_questions import RowQuestions
from pipeline.recovery.suspect_instruments import FIRST_SYMBOLS_MAX, LATE_MARGIN_MS, SUSPECT_NS, LackedPast, suspects
from pipeline.recovery.unproved import Unproved

SWEEP_PAUSE_NS = 1_000_000_000
SWEEP_RETRY_MAX_NS = 10_000_000_000
SINCE_MARGIN_MS = 60_000
SWEEP_LOST_NS = 30_000_000_000  # a sweep without an answer, beyond what its symbols may take, has failed
SWEEP_SYMBOL_NS = 1_000_000_000
FIRST_ANSWER_NS = 3_000_000_000  # how long READY and an earlier run's broken operation wait for a venue's first sweep
VENUES_TO_TRADE = 2
PROOF_PAUSE_MAX_NS = 30_000_000_000  # between sweeps that could not decide about an unknown order
LOOKS_AT_ONCE = 4  # sweeps about one question a second apart: readings that agree need some
FIRST_DOUBTS_NS = 60_000_000_000  # after a start: differences to the ledger may be older than the run


@dataclass(slots=True)
class _Venue:
    """Where the reconciliation of one venue stands."""

    reconciled: bool = False
    tried: bool = False  # the first sweep ended, well or not
    swept: bool = False  # one was complete
    sweeping: bool = False
    wanted: str = "start-up"  # why a sweep is due; "" = none
    everything: bool = False  # every symbol is to be swept: the journal may lack what was sent
    suspects: set[str] = field(default_factory=set)  # symbols to sweep besides: an unexplained movement
    since_wall_ms: int = 0  # how far back the next sweep must look; 0 = as far as its orders
    due_mono_ns: int = 0
    lost_mono_ns: int = 0  # when the sweep under way counts as failed
    down_mono_ns: int = 0  # when its session was last lost
    failures: int = 0
    problem: str = ""  # of the last sweep, where it failed
    undecided: int = 0  # sweeps in a row that left an unknown order unknown
    prove_due_mono_ns: int = 0
    unexplained: int = 0  # sweeps in a row that left a question unanswered
    look_due_mono_ns: int = 0


class RecoveryManager:
    """Sweeps of the venues, proof for unknown orders, and the register of recoveries.

    ``venue in manager``: its past is known since its session last came up. ``on_evidence(order)`` is called after
    everything that a sweep or a proof has changed about an order. ``funding_known(venue, since)``: funding booked until
    then (mono ns) is in the ledger.
    """

    def __init__(
        self,
        context: CoreContext,
        evidence: Evidence,
        balances: BalanceMonitor,
        *,
        on_evidence: Callable[[Order], None],
        rate: Callable[[str], Decimal | None],
        funding_known: Callable[[str, int], bool],
    ) -> None:
        self._context = context
        self._evidence = evidence
        self._balances = balances
        self._on_evidence = on_evidence
        self._venues: dict[str, _Venue] = {}
        self._boot_mono_ns = self._boot_wall_ms = self._alive_wall_ms = 0
        self._same_host_boot = True
        self._unproved = Unproved(context.ledger)
        self._refused: set[str] = set()  # orders whose refusal has raised a question about a position
        self.book = ExternalBook(context, rate, evidence.fees.coin_rates)
        self.history = MoneyHistory(context)
        self.rows = RowQuestions(context)
        mine = (self.book, self.history, self.suspect)
        self._lacked = LackedPast(context, evidence.awaits)
        self.account = AccountCheck(context, balances, *mine, funding_known, self._lacked.awaits)
        self.adoption = Adoption(context, self.book, rate, self.account)

    def answers(self) -> dict[type, Callable[[Any], object]]:
        """Who takes the answers to this component's questions, for the core's table."""
        return {
            SweepAnswer: self.on_sweep,
            MoneyAnswer: self.history.on_answer,
            InstrumentAnswer: self.rows.on_answer,
        }

    # --- start-up and sweeps ---

    def start(self, venues: list[str], earlier: EarlierRun) -> None:
        """After the replay: orders without an ending become UNKNOWN; every venue is to be swept.

        Swept are the symbols with anything unsettled, or touched since the last sweep that covered them: a killed
        process leaves its journal whole, and the balances of the whole account are the evidence for the others. After
        a boot of the host the journal may lack its last moments: everything is swept.
        """
        self._boot_mono_ns, self._boot_wall_ms = self._context.now.mono_ns, self._context.now.wall_ms
        self._same_host_boot, self._alive_wall_ms = earlier.same_host_boot, earlier.alive_wall_ms
        self._lacked.begins(earlier, self._boot_wall_ms)
        self.account.known_until_wall_ms = max(0, earlier.alive_wall_ms - LATE_MARGIN_MS)
        for venue in venues:
            state = self._venues.setdefault(venue, _Venue())
            state.everything = not earlier.same_host_boot
            state.since_wall_ms = self._lacked.since_wall_ms
            if not earlier.alive_wall_ms:  # a new journal, or a lost one: orders of an engine would show it
                state.suspects.update(sorted(self._context.instruments.symbols_of(venue))[:FIRST_SYMBOLS_MAX])
        for order in list(self._context.ledger.unsettled.values()):
            self._balances.reserve_balance(order)
            self._evidence.unknown(order, "restart")
        self.book.after_restart()
        self.tick()

    def ready(self) -> bool:
        """Every venue's first sweep has ended: reconciled, or disabled because it could not be reached.

        One that hangs is not waited for longer than ``FIRST_ANSWER_NS`` once two others are reconciled.
        """
        venues = self._venues.values()
        if all(venue.tried for venue in venues):
            return bool(venues)
        waited = self._context.now.mono_ns - self._boot_mono_ns >= FIRST_ANSWER_NS
        return waited and sum(v.reconciled for v in venues) >= VENUES_TO_TRADE

    def awaited(self) -> dict[str, str]:
        """Venues of which what is there is not known whole, as no sweep of it has been complete in this run -> why."""
        why = {name: self._lacked.why(name) if v.swept else "being asked" for name, v in self._venues.items()}
        return {name: self._venues[name].problem or text for name, text in why.items() if text}

    def questioned(self, venue: str, symbol: str) -> bool:
        """Whether a position is being looked up at the venue, or a row read: nothing is decided by it meanwhile."""
        return self.account.questioned(venue, symbol) or self.rows.in_question(venue, symbol)

    def __contains__(self, venue: object) -> bool:
        """Whether a venue's past is known since its session last came up (new risk needs that)."""
        state = self._venues.get(venue) if isinstance(venue, str) else None
        return state is not None and state.reconciled

    def session(self, venue: str, up: bool) -> None:
        """A venue whose session was down is swept before new risk: its stream may have missed anything."""
        state = self._venues.setdefault(venue, _Venue())
        if not up:
            state.reconciled, state.down_mono_ns = False, self._context.now.mono_ns
        elif not state.reconciled and not (state.sweeping and state.down_mono_ns == 0):
            self.want(venue, "session up")  # the first session need not: the start's own sweep is under way

    def want(self, venue: str, reason: str) -> None:
        """A venue is to be swept as soon as its pauses allow."""
        state = self._venues.setdefault(venue, _Venue())
        if not state.wanted:
            state.wanted = reason
            state.due_mono_ns = max(state.due_mono_ns, self._context.now.mono_ns)

    def tick(self) -> None:
        """Starts the sweeps that are due, and wants one where an unknown order may be proved never to have executed."""
        self.history.tick()
        self.rows.tick()
        self.book.tick()
        now_ns = self._context.now.mono_ns
        for venue, state in self._venues.items():
            if state.sweeping and now_ns >= state.lost_mono_ns:
                state.sweeping, state.tried = False, True
                self._failed(venue, state, "no answer to the sweep")
        for venue, unasked in self._lacked.news(self._venues):
            self._look_at(venue, unasked, UNKNOWN_PAST, self._lacked.since_wall_ms)
        for order in self._context.ledger.unsettled.values():
            due_ns = self._venues[order.intent.venue].prove_due_mono_ns if order.intent.venue in self._venues else 0
            waits = order.held or (order.state in UNPROVED and now_ns >= self.provable_at(order))
            if waits and now_ns >= due_ns:
                self.want(order.intent.venue, f"order {order.client_id} unknown")
        for venue, symbol in self.account.unreadable.waiting():
            if now_ns >= self._venues[venue].prove_due_mono_ns:
                self._look_at(venue, {symbol}, "unreadable row")
        for venue, symbol in {*self._evidence.orphaned(), *self.account.open_questions()}:
            state = self._venues[venue]
            if now_ns >= state.look_due_mono_ns and (symbol not in state.suspects or not state.sweeping):
                self._look_at(venue, {symbol}, "moved")
        for venue, state in self._venues.items():
            if state.wanted and not state.sweeping and now_ns >= state.due_mono_ns:
                symbols = self._symbols(venue)
                state.sweeping = True
                state.lost_mono_ns = now_ns + SWEEP_LOST_NS + len(symbols) * SWEEP_SYMBOL_NS
                self._context.act(SweepVenue(venue, symbols, self._since_ms(venue), state.wanted))
                state.wanted = ""

    def _symbols(self, venue: str) -> tuple[str, ...]:
        """Symbols to sweep: of unsettled orders, touched since the last sweep that covered them, or suspected."""
        ledger, state = self._context.ledger, self._venues[venue]
        symbols = {o.intent.symbol for o in ledger.unsettled.values() if o.intent.venue == venue}
        symbols |= {symbol for name, symbol in ledger.touched if name == venue}
        symbols |= state.suspects
        if state.everything:
            symbols.update(self._context.instruments.symbols_of(venue))
        return tuple(sorted(symbols))

    def _since_ms(self, venue: str) -> int:
        orders = self._context.ledger.unsettled.values()
        starts = [order.began_wall_ms for order in orders if order.intent.venue == venue]
        since_ms = min([*starts, self._context.now.wall_ms]) - SINCE_MARGIN_MS
        wanted_ms = self._venues[venue].since_wall_ms
        return min(since_ms, wanted_ms) if wanted_ms else since_ms

    def on_sweep(self, answer: SweepAnswer) -> None:
        """Merges the answer to a sweep; only a complete one proves absence."""
        state = self._venues.setdefault(answer.venue, _Venue())
        state.sweeping, state.tried = False, True
        new_fills = 0
        touched: dict[str, Order] = {}
        for update in answer.orders:
            order = self._evidence.update(update)
            if order is not None:
                touched[order.client_id] = order
        for fill in answer.fills:
            order = self._evidence.fill(fill)
            if order is not None:
                new_fills += 1
                touched[order.client_id] = order
        for balance in answer.balances:
            self._balances.on_balance(balance)
        if not answer.error:
            readable, answer = self.account.unreadable.after_sweep(answer)
            self._complete(readable, answer, state)
        else:
            self._failed(answer.venue, state, answer.error)
        asked, seen = (answer.venue, answer.began_mono_ns, answer.began_wall_ms), (len(answer.orders), new_fills)
        complete, reason = not answer.error, answer.error[:200]
        self._context.record(ReconcileRecord(*asked, complete, answer.symbols, *seen, reason))
        for order in touched.values():
            self._on_evidence(order)

    def _failed(self, venue: str, state: _Venue, error: str) -> None:
        state.failures, state.problem = state.failures + 1, error
        pause_ns = min(SWEEP_RETRY_MAX_NS, SWEEP_PAUSE_NS << min(state.failures - 1, 4))
        state.due_mono_ns = self._context.now.mono_ns + pause_ns
        state.wanted = state.wanted or "retry"
        if not state.reconciled and state.failures == 1:
            self._context.alert(1, "venue_unreachable", f"{venue}: disabled until a sweep succeeds: {error}")

    def _complete(self, answer: SweepAnswer, whole: SweepAnswer, state: _Venue) -> None:
        """``answer``: of the symbols of which every execution could be read; ``whole``: every order as well."""
        state.failures, state.problem = 0, ""
        state.due_mono_ns = self._context.now.mono_ns + SWEEP_PAUSE_NS
        state.suspects.difference_update(answer.symbols)
        self._lacked.swept(answer)
        state.everything, state.swept = False, True
        if answer.since_wall_ms <= state.since_wall_ms and not state.suspects:  # what is unasked is asked as far back
            state.since_wall_ms = 0
        self._foreign(answer)
        self._resolve(whole)
        self._foreign(answer)  # what an order that is settled now has kept waiting: no position is judged without it
        for order in self._evidence.deny(answer):
            self._on_evidence(order)
        self.account.after_sweep(answer)
        state.reconciled = state.reconciled or answer.began_mono_ns >= state.down_mono_ns
        self._back_off(answer, state)

    def _back_off(self, answer: SweepAnswer, state: _Venue) -> None:
        """A sweep that could not decide about an unknown order, or a position, or read a row, will not a second later
        either."""
        open_still = any(venue == answer.venue for venue, _ in self.account.open_questions())
        state.unexplained = state.unexplained + 1 if open_still else 0
        late_ns = SWEEP_PAUSE_NS << min(max(0, state.unexplained - LOOKS_AT_ONCE), 5)
        state.look_due_mono_ns = self._context.now.mono_ns + min(PROOF_PAUSE_MAX_NS, late_ns) if open_still else 0
        orders = self._context.ledger.unsettled.values()
        undecided = any(o.intent.venue == answer.venue and answer.began_mono_ns >= self.provable_at(o) for o in orders)
        if undecided or self.account.unreadable.waits(answer.venue):
            state.undecided += 1
        else:
            state.undecided = 0
        pause_ns = min(PROOF_PAUSE_MAX_NS, SWEEP_PAUSE_NS << min(state.undecided, 5))
        state.prove_due_mono_ns = self._context.now.mono_ns + pause_ns

    def _foreign(self, answer: SweepAnswer) -> None:
        began_ms = self.account.first_balances.reckoned_ms(self._boot_wall_ms, self._boot_mono_ns)
        book_foreign(answer, self._context, self._evidence, self.account, self.book, began_ms)

    def suspect(self, venue: str, what: str, held: bool = False) -> None:
        """Something moved that the ledger does not explain: perhaps a fill of ours that a venue added late, perhaps
        somebody else's. ``held``: it did not move, somebody's resting order holds it."""
        context = self._context
        found = suspects(context.ledger, context.instruments, venue, what, context.now.mono_ns, held=held)
        self._look_at(venue, found, f"{what} {'held' if held else 'moved'}")

    def _look_at(self, venue: str, symbols: set[str], reason: str, begin_ms: int | None = None) -> None:
        state = self._venues.setdefault(venue, _Venue())
        state.suspects |= symbols
        since_ms = self._context.now.wall_ms - SUSPECT_NS // 1_000_000
        if self._alive_wall_ms and self._context.now.mono_ns - self._boot_mono_ns < FIRST_DOUBTS_NS:
            since_ms = min(since_ms, self._alive_wall_ms - LATE_MARGIN_MS)  # it may have happened between the runs
        since_ms = since_ms if begin_ms is None else min(since_ms, begin_ms)
        state.since_wall_ms = min(state.since_wall_ms, since_ms) if state.since_wall_ms else since_ms
        self.want(venue, reason)

    def reduced(self, order: Order) -> None:
        """After evidence about an order. One that only reduces and that its venue refused or cut shows that the
        position is not what the ledger says."""
        if not order.intent.reduce_only or order.client_id in self._refused:
            return
        cut = order.final_filled is not None and order.final_filled < order.intent.qty
        if cut or order.refused_to_reduce:
            self._refused.add(order.client_id)
            self.account.question(order.intent.venue, order.intent.symbol)

    # --- unknown orders ---

    def provable_at(self, order: Order) -> int:
        """Monotonic time from which a sweep may prove that the order never executed."""
        wait_ns = (order.window_ms + self._context.config.execution.unknown_grace_ms) * 1_000_000
        began = order.sent_mono_ns or order.intent_mono_ns
        earlier = order.boot_epoch != self._context.ledger.boot_epoch
        if began > self._context.now.mono_ns or (earlier and not self._same_host_boot):
            began = self._boot_mono_ns  # another boot of the host: its clock does not compare
        return began + wait_ns

    def _resolve(self, answer: SweepAnswer) -> None:
        """Negative proof: orders that a complete sweep does not show and that the account's balances exclude."""
        seen = {update.client_id for update in answer.orders} | {fill.client_id for fill in answer.fills}
        seen_ids = {update.order_id for update in answer.orders} | {fill.order_id for fill in answer.fills}
        for order in list(self._context.ledger.unsettled.values()):
            intent = order.intent
            if order.state not in UNPROVED or intent.venue != answer.venue or order.held:
                continue
            if intent.symbol not in answer.symbols or answer.began_mono_ns < self.provable_at(order):
                continue
            if order.client_id in seen or (order.order_id and order.order_id in seen_ids) or order.known_filled:
                continue
            if hidden(self._context, order, answer, self.provable_at):
                continue
            if not self.account.agrees(order, answer) and not self._unproved.decided(order):
                text = (
                    f"{order.client_id}: no trace, yet balances moved; "
                    f"arb recoveries --approve r{intent.operation_id} says that it never executed"
                )
                if self._unproved.ask(order, text):
                    self._context.alert(2, "unknown_unproved", text)
                continue
            self._evidence.expired(order, f"complete sweep of {answer.venue} after expiry found nothing")
            self._on_evidence(order)

    # --- the register ---

    def initiate_recovery(self, operation: Operation, strategy: str, reason: str) -> str:
        """Opens (or changes) the recovery of an operation; "hold" waits for an operator. Returns its id."""
        recovery_id = f"r{operation.operation_id}"
        state = "waiting_approval" if strategy == "hold" else "active"
        known = self._context.ledger.recoveries.get(recovery_id)
        if known is not None and (known.state == "cancelled" or (known.state == "approved" and strategy != "hold")):
            return recovery_id  # an operator has taken it over, or has let it go on
        if known is None or (known.strategy, known.state) != (strategy, state):
            self._context.record(RecoveryRecord(recovery_id, operation.operation_id, strategy, state, reason))
        if state == "waiting_approval":
            text = (
                f"{recovery_id} waits for an operator: {reason}; "
                f"arb recoveries --approve {recovery_id} (or --cancel {recovery_id})"
            )
            self._context.alert(2, "recovery", text)
        return recovery_id

    def held_by_operator(self, operation: Operation) -> bool:
        """Whether an operator must decide about this operation or has taken it over; it outlives restarts."""
        known = self._context.ledger.recoveries.get(f"r{operation.operation_id}")
        return known is not None and known.is_held

    @property
    def unproved(self) -> dict[str, str]:
        """Operation -> why an operator must say that orders of it never executed."""
        return self._unproved.texts()

    def never_executed(self, recovery_id: str) -> None:
        """An operator says so of the orders of a recovery that he is asked about now. A guard's takeover cannot."""
        if not self._context.taking_over:
            self._unproved.decide(recovery_id.removeprefix("r"))

    def awaits_first_sweep(self, order: Order) -> bool:
        """Whether the first sweep may still show what an earlier run's order did. Bounded by ``FIRST_ANSWER_NS``: a
        venue that does not answer must not keep the other leg open."""
        if order.boot_epoch == self._context.ledger.boot_epoch:
            return False
        state = self._venues.get(order.intent.venue)
        waited_ns = self._context.now.mono_ns - self._boot_mono_ns
        return state is not None and not state.tried and waited_ns < FIRST_ANSWER_NS

    def finished(self, operation: Operation, reason: str) -> None:
        """Closes the recovery of an operation that has ended."""
        self._unproved.ended(operation.operation_id)
        known, name = self._context.ledger.recoveries.get(f"r{operation.operation_id}"), operation.operation_id
        if known is not None and known.state != "done":
            self._context.record(RecoveryRecord(known.recovery_id, name, known.strategy, "done", reason))

    def taken_over(self, operation_id: str) -> bool:
        """Whether an operator has taken this operation over: the engine repairs it no further."""
        known = self._context.ledger.recoveries.get(f"r{operation_id}")
        return known is not None and known.state == "cancelled"

    def waiting(self) -> list[str]:
        """Ids of the recoveries that wait for an operator."""
        return [name for name, r in self._context.ledger.recoveries.items() if r.state == "waiting_approval"]

    def approve(self, recovery_id: str, reason: str) -> Operation | None:
        """An operator lets a held recovery go on, or hands one back that he had taken over; the operation to release,
        None for an unknown or ended recovery."""
        return self._decide(recovery_id, "approved", reason)

    def cancel_recovery(self, recovery_id: str, reason: str = "by command") -> Operation | None:
        """An operator takes over: the engine repairs it no further; its exposure stays counted. Returns as
        :meth:`approve`."""
        return self._decide(recovery_id, "cancelled", reason)

    def _decide(self, recovery_id: str, state: str, reason: str) -> Operation | None:
        known = self._context.ledger.recoveries.get(recovery_id)
        if known is None or known.state == "done":
            return None
        self._context.record(RecoveryRecord(recovery_id, known.operation_id, known.strategy, state, reason))
        return self._context.ledger.operations.get(known.operation_id)

    def get_active_recoveries(self) -> list[dict[str, object]]:
        """Recoveries that the engine works on: id, operation, strategy, state, whether an operator is needed."""
        unproved = self.unproved
        return [
            {
                "recovery_id": record.recovery_id,
                "operation_id": record.operation_id,
                "strategy": record.strategy,
                "state": record.state,
                "requires_manual_approval": self.needs_operator(record),
                "reason": unproved.get(record.operation_id, record.reason),
            }
            for record in self._context.ledger.recoveries.values()
            if record.state not in ("done", "cancelled")
        ]

    def needs_operator(self, record: RecoveryRecord) -> bool:
        """Whether a recovery goes on only when an operator approves."""
        return record.state == "waiting_approval" or record.operation_id in self.unproved

    def get_recovery_statistics(self) -> dict[str, float]:
        """Counts of recoveries in memory, and the share that is done (1.0 without any). Those of operations that were
        settled long ago have left it; how every operation of the journal ended is counted by
        ``execution/results/counts.py``."""
        records = self._context.ledger.recoveries.values()
        done = sum(1 for record in records if record.state == "done")
        return {
            "started": float(len(records)),
            "done": float(done),
            "active": float(len(self.get_active_recoveries())),
            "success_rate": done / len(records) if records else 1.0,
        }
