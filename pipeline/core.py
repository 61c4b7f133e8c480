"""The execution core: events in, actions out. No socket, no clock, no file, no randomness of its own.

The same events in the same order give the same actions, so that a run can be replayed and a test can drive years of
faults on virtual time. The caller (workers/executor/process.py, or a test) performs the actions in order, ``Append``
before the ``Place`` behind it, and feeds what follows from them back as events.

The ledger is the only state that lasts; only records change it. The components around it are attributes of the core.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from decimal import Decimal
from typing import Any

from pipeline.execution.account_fees import AccountFees
from pipeline.execution.balances import BalanceMonitor
from pipeline.execution.core_context import BOOT_EPOCH_MAX, ID_PREFIX, CoreContext, Ids
from pipeline.execution.events import (
    AccountSnapshot,
    Action,
    BalancesAnswer,
    CatalogueChanged,
    Command,
    CommandKind,
    CoreEvent,
    Entered,
    FetchBalances,
    FillsAnswer,
    FundingAnswer,
    HaltPort,
    JournalPort,
    MarketPort,
    NotSent,
    Now,
    Opportunity,
    QueryAnswer,
    Sent,
    Tick,
)
from pipeline.execution.evidence import Evidence
from pipeline.execution.hedging.control import HedgeControl
from pipeline.execution.hedging.direction_prices import DirectionPrices
from pipeline.execution.hedging.forced_close import ForcedClose
from pipeline.execution.inventory.prices import InventoryPrices
from pipeline.execution.inventory.rows import InventoryRow, inventory_row
from pipeline.execution.journal import JournalEntry
from pipeline.execution.ledger import Ledger, Operation, Order
from pipeline.execution.market import Instruments, UsdRates, declared_usd
from pipeline.execution.operation_states import StateController
from pipeline.execution.orchestrator import OrderOrchestrator
from pipeline.execution.plan import Plan, Rejected
from pipeline.execution.positions import PositionManager
from pipeline.execution.records import AdoptedRecord, BootRecord, FillRecord, HedgeRecord, Purpose, StopRecord
from pipeline.execution.results.refusals import Refusals
from pipeline.execution.settled.retirement import Retirement
from pipeline.fast_entry.entry import FastEntry
from pipeline.model.config import EngineConfig
from pipeline.model.enums import BalanceCheck, OpportunityType, OrderState, Refusal
from pipeline.model.errors import ClockRefused
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import Balance, Fill, OrderUpdate, Position
from pipeline.model.venue_events import (
    CancelOutcome,
    FundingNotice,
    MoneyNotice,
    OutcomeKind,
    PlaceOutcome,
    SessionState,
)
from pipeline.recovery.earlier_run import EarlierRun
from pipeline.recovery.first_balances import look_first
from pipeline.recovery.funding import FundingWatch
from pipeline.recovery.holds import Holds
from pipeline.recovery.manager import RecoveryManager
from pipeline.recovery.order_queries import OrderQueries
from pipeline.recovery.usable_instruments import Usable
from pipeline.risk.fee_stock import FeeStock
from pipeline.risk.manager import RiskManager
from pipeline.risk.margin_watch import MarginWatch
from pipeline.risk.standing import Standing
from shm.words import Words

CLOSE_LOOK_NS = 250_000_000
STRICT_TIMEOUT_NS = 1_000_000_000


class ExecutionCore:
    """Events in, actions out (see the module's docstring). One instance per executor run.

    :meth:`boot` comes first, then :meth:`handle` for every event, :meth:`stop` at the end of a run that ends on
    purpose. The components are attributes, for reading. ``ledger``: what earlier runs left, where it is known already.
    """

    def __init__(
        self,
        config: EngineConfig,
        rows: Iterable[InstrumentRow] | Instruments,
        *,
        market: MarketPort,
        halt: HaltPort,
        journal: JournalPort,
        ledger: Ledger | None = None,
    ) -> None:
        self.config, self.ledger = config, Ledger() if ledger is None else ledger
        instruments = rows if isinstance(rows, Instruments) else Instruments(rows)
        self.context = CoreContext(config, self.ledger, instruments, market, halt, journal, Ids(1))
        self.balances = BalanceMonitor(
            self.ledger,
            refresh_interval_ms=config.execution.balance_refresh_interval_ms,
            check=config.execution.balance_check,
            alert=lambda code, text: self.context.alert(1, code, text),
        )
        self.rates = UsdRates(self.context.instruments, market, declared_usd(config.fees))
        self.states = StateController(self.ledger, self.context.record)
        self.positions = PositionManager(self.ledger, self.rates, self.context.record, config.execution.numeraire)
        self.inventory_prices = InventoryPrices(self.context, self.balances)
        self.risk = RiskManager(self.context, self.balances, self.rates)
        self.fees = AccountFees(config, self.context.instruments, self.rates)
        self.standing = Standing(self.context, self.risk.gate.worth, self.risk.naked, self.fees)
        self.risk.gate.solve_of, self.fee_stock = self.standing.solve, FeeStock(self.context, self.balances, self.rates)
        self.evidence = Evidence(self.context, self.fees, on_fill=self._filled)
        self.funding = FundingWatch(self.context, self._numeraire_rate)
        self.recovery = RecoveryManager(
            self.context,
            self.evidence,
            self.balances,
            on_evidence=self._after,
            rate=self.rates.rate,
            funding_known=self.funding.covers,
        )
        self.fast_entry: FastEntry | None = None
        self.risk.gate.reconciled, self.risk.gate.taken_over = self.recovery, self.recovery.taken_over
        usable = Usable(self.balances, self.recovery, self.risk.gate)
        self.risk.gate.doubtful, self.risk.gate.doubts = usable.doubtful, usable.doubts
        self.orders = OrderOrchestrator(
            self.context,
            self.states,
            self.balances,
            self.rates,
            self.fees,
            on_recovery=self.recovery.initiate_recovery,
            on_recovered=lambda operation, reason: self.holds.recovered(operation, reason),
            on_end=self.risk.gate.note_end,
            held_by_operator=self.recovery.held_by_operator,
            awaits_first_sweep=self.recovery.awaits_first_sweep,
            on_order=lambda venue: self.risk.gate.sends.note(venue, self.context.now.mono_ns),
            can_place=lambda venue: self.risk.gate.has_budget(venue, 1),
            questioned=self.recovery.account.questioned,
            urgent_bps=self.risk.gate.margin.urgent_bps,
            usable=usable,
        )
        self.holds = Holds(self.ledger, self.risk, self.recovery, self.orders, self.states)
        self.order_queries = OrderQueries(self.context, self.evidence)
        self.hedges = HedgeControl(
            self.context,
            self.balances,
            self.risk.gate,
            reconciled=self.recovery,
            ready=lambda: self.ready,
            leave=self._leave,
            account=usable,
            price_bps=self.inventory_prices.price_bps,
        )
        gate, netting, attempts, self.stopping = self.risk.gate, self.hedges.netting, self.hedges.attempts, False
        self.direction_prices = DirectionPrices(self.inventory_prices, self.hedges.entry_prices, gate)
        gate.leaves_a_hedge, gate.closing, gate.leaves = self.hedges.is_exit, netting.closing, netting.is_exit
        self.forced_close = ForcedClose(self.context, attempts)
        self.margin = MarginWatch(self.context, gate, attempts, execute=self._leave, release=self.holds.while_short)
        self.refusals, self.retirement = Refusals(self.context), Retirement(self.context, self.recovery)
        self.adopted: list[AdoptedRecord] = []  # what the last ADOPT has taken over
        self._pending: dict[int, tuple[Plan, int]] = {}  # balance_check strict: token -> (plan, asked at, mono ns)
        self._token = self._closes_looked_mono_ns = 0
        self._handlers = self._event_handlers()

    def _event_handlers(self) -> dict[type, Callable[[Any], object]]:
        return {
            Opportunity: self._opportunity,
            Entered: self._entered,
            OrderUpdate: lambda event: self._after(self.evidence.update(event)),
            Fill: lambda event: self._after(self.evidence.fill(event)),
            Balance: self.balances.on_balance,
            Position: self.recovery.account.on_position,
            MoneyNotice: self.recovery.account.on_notice,
            PlaceOutcome: self._outcome,
            CancelOutcome: self._cancel_outcome,
            SessionState: self._session,
            Sent: self.evidence.sent,
            NotSent: lambda event: self._after(self.evidence.not_sent(event)),
            Tick: self._tick,
            AccountSnapshot: self._account,
            QueryAnswer: lambda event: self._after(event.update and self.evidence.update(event.update)),
            FillsAnswer: self._fills_answer,
            FundingNotice: self.funding.on_notice,
            FundingAnswer: self.funding.on_answer,
            **self.recovery.answers(),
            BalancesAnswer: self._balances_answer,
            **self.margin.handlers(),
            CatalogueChanged: self._catalogue,
            Command: self._command,
        }

    def reconfigure(self, config: EngineConfig) -> None:
        """Other thresholds and limits from the next event on (what ``model.config_reload`` lets change, no more)."""
        self.config = self.context.config = config
        self.risk.gate.reconfigure()
        if self.fast_entry is not None:
            self.fast_entry.reconfigured()

    # --- life ---

    def boot(
        self,
        entries: Iterable[JournalEntry] = (),
        *,
        now: Now,
        first_epoch: int,
        instance: str,
        pid: int,
        build_hash: int,
        host_boot: str = "",
        epoch_step: int = 1,
        id_prefix: str = ID_PREFIX,
    ) -> list[Action]:
        """Replays ``entries`` and begins a new run. ``first_epoch``: boot epoch of a journal that has none yet.

        The caller draws ``first_epoch`` at random below 2**45 and ``epoch_step`` at random from 1 on, so that neither a
        lost journal nor one restored from an old copy repeats old ids. ``id_prefix``: who runs this core.
        """
        for entry in entries:
            self.ledger.apply(entry.record, entry.mono_ns, entry.wall_ns)
        epoch = self.ledger.boot_epoch + epoch_step if self.ledger.boot_epoch else first_epoch
        if not 0 < epoch <= BOOT_EPOCH_MAX:
            raise ValueError(f"boot epoch out of range: {epoch}")
        self.context.now, self.context.ids = now, Ids(epoch, id_prefix)
        earlier = EarlierRun.of(self.ledger, host_boot)
        self.context.record(BootRecord(epoch, instance, str(self.config.mode), pid, build_hash, host_boot))
        if earlier.same_host_boot:
            self.risk.recall(now)
        else:
            self.risk.naked.begin_anew()
        venues = sorted({v.name for v in self.config.trading_venues} | set(self.context.instruments.venues()))
        why, operations = "found open at the start", list(self.ledger.open_operations.values())
        for operation in operations:
            self.states.transition_to_recovery(operation, why)
            if not self.recovery.held_by_operator(operation):
                self.recovery.initiate_recovery(operation, "resolve", why)
        self.risk.start_monitoring()
        self.balances.start_monitoring(self.config.inventory.alarm_of)
        self.risk.gate.worth.day.run_begins(earlier.alive_wall_ms)
        self.recovery.start(venues, earlier)
        return self.context.drain()

    def stop(self, now: Now, reason: str) -> list[Action]:
        """The actions that end a run on purpose: its last record."""
        self.context.now = now
        self.context.record(StopRecord(reason, len(self.ledger.unsettled), len(self.ledger.open_operations)))
        return self.context.drain()

    @property
    def ready(self) -> bool:
        """Whether new risk may be taken: the venues are reconciled and no stop was commanded."""
        return self.recovery.ready() and not self.stopping

    @property
    def idle(self) -> bool:
        """Nothing open: no operation but those that an operator has taken over, no unsettled order."""
        return not self.ledger.unsettled and not self.operations_under_way

    @property
    def operations_under_way(self) -> int:
        """Open operations that the engine works on: all but those that an operator has taken over."""
        operations = self.ledger.open_operations
        return len(operations) - sum(1 for name in operations if self.recovery.taken_over(name))

    @property
    def finished(self) -> bool:
        """Idle, and no funding payment that is known to be booked is missing in the journal."""
        return self.idle and not self.funding.pending

    def handle(self, event: CoreEvent, now: Now) -> list[Action]:
        """Handles one event; returns the actions to perform, in order."""
        self.context.now = now
        self.risk.gate.ready = self.ready
        self._handlers[type(event)](event)
        self.inventory_prices.after(event)
        return self.context.drain()

    # --- opportunities ---

    def _opportunity(self, opportunity: Opportunity) -> None:
        if opportunity.type == OpportunityType.HEDGE_EXIT and not opportunity.manual:
            return self.hedges.offered(opportunity)
        verdict = self.risk.validate_opportunity_risk(opportunity)
        if isinstance(verdict, Rejected):
            self.refusals.refuse(opportunity, verdict)
            self.inventory_prices.note_refusal(verdict.refusal)
            if verdict.refusal is Refusal.NETS:  # the hedge leaves by it, as far as that goes
                self.hedges.offered(opportunity)
        elif self.config.execution.balance_check is BalanceCheck.STRICT:
            self._token += 1
            self._pending[self._token] = (verdict, self.context.now.mono_ns)
            self.context.act(FetchBalances(self._token, tuple(sorted({leg.row.spec.venue for leg in verdict.legs}))))
        else:
            self._enter(verdict)

    def open_fast_entry(self, words: Words, feeds: list[int], lease_token: int) -> FastEntry:
        """Opens the fast path of entries; the market's books are the FEED segments at the words ``feeds`` of ``words``.

        To be called after :meth:`boot`: its orders carry this run's ids. ``lease_token``: as of the halt page.
        """
        self.fast_entry = FastEntry(
            self.context, self.risk.gate, self.balances, self.rates, words=words, feeds=feeds, lease_token=lease_token
        )
        return self.fast_entry

    def update_limits_table(self) -> None:
        """Brings the fast path's table up to the ledger: after every event, before the next opportunity."""
        if self.fast_entry is not None:
            self.risk.gate.ready = self.ready
            self.fast_entry.limits_table.refresh()

    def _entered(self, entered: Entered) -> None:
        self.risk.entered(entered)
        self.orders.adopt(entered)

    def _enter(self, plan: Plan) -> None:
        """An approved entry; one that nets the contract of an open hedge is that hedge's exit."""
        if not self.hedges.enter(plan):
            self._execute(plan)

    def _execute(self, plan: Plan, *, purpose: Purpose = Purpose.ENTRY, closes: str = "") -> Operation:
        return self.orders.execute_opportunity(plan, purpose=purpose, closes=closes)

    def _leave(self, plan: Plan, hedge: HedgeRecord) -> Operation | None:
        if self.context.halt.fenced():
            return None  # the guard leaves it; an intent would only be written and not sent
        purpose = Purpose.FLATTEN if self.context.taking_over or plan.in_turn else Purpose.CLOSE
        return self._execute(plan, purpose=purpose, closes=hedge.operation_id)

    def _balances_answer(self, answer: BalancesAnswer) -> None:
        pending = self._pending.pop(answer.token, None)
        for balance in answer.balances:
            self.balances.on_balance(balance)
        if pending is None:
            return
        plan, _ = pending
        failed = Rejected(Refusal.BALANCE_UNPROVED, answer.error) if answer.error else None
        verdict = failed or self.risk.gate.recheck(plan)
        if isinstance(verdict, Rejected):
            self.risk.gate.note_refusal(verdict)
            self.refusals.refuse(plan.opportunity, verdict)
        else:
            self._enter(verdict)

    # --- evidence ---

    def _after(self, order: Order | None) -> None:
        """After any evidence about an order: reservations, then its operation. None: it is no order of ours."""
        if order is None:
            return
        if order.settled:
            self.balances.settled(order)
            look_first(self.ledger, self.recovery, (order.intent,))  # while it was under way no sweep could take them
        self.recovery.reduced(order)
        operation = self.ledger.operations[order.intent.operation_id]
        self.orders.advance(operation)

    def _filled(self, record: FillRecord) -> None:
        self.risk.gate.filled(record)
        self.recovery.account.on_fill(record)

    def _outcome(self, outcome: PlaceOutcome) -> None:
        order = self.evidence.outcome(outcome)
        if order is None:
            return
        self.orders.windows.answered(order, outcome)
        self.recovery.rows.refused(order, outcome.error)
        self.risk.gate.clocks.refused(outcome.venue, outcome.error)
        if order.intent.reduce_only and isinstance(outcome.error, ClockRefused):
            self.recovery.suspect(outcome.venue, outcome.symbol)  # no question: the exit is not to wait
        text = outcome.error.message if outcome.error is not None else ""
        self.risk.order_outcome(outcome.venue, outcome.kind is OutcomeKind.ACKED, text)
        if outcome.kind is not OutcomeKind.ACKED and not order.settled:
            self.order_queries.ask_now(order)
        self._after(order)

    def _cancel_outcome(self, outcome: CancelOutcome) -> None:
        """An update of the order counts; a refusal to cancel says nothing about fills, so the order is queried."""
        if outcome.update is not None:
            self._after(self.evidence.update(outcome.update))
            return
        order = self.ledger.order_of(outcome.venue, outcome.client_id, outcome.order_id)
        if order is not None and not order.settled:
            self.order_queries.ask_now(order)

    def _fills_answer(self, answer: FillsAnswer) -> None:
        for fill in answer.fills:
            self._after(self.evidence.fill(fill))

    # --- accounts, sessions, catalogue ---

    def _account(self, snapshot: AccountSnapshot) -> None:
        for balance in snapshot.balances:
            self.balances.on_balance(balance)
        self.recovery.account.on_account(
            snapshot.balances, snapshot.positions, snapshot.positions_recv_mono_ns, snapshot.unreadable
        )
        self.margin.on_account(snapshot)
        self.fee_stock.reported(snapshot.fee_coins, self.fees)
        self.risk.gate.clocks.reported(snapshot.clock_offsets_ns, snapshot.clock_read_mono_ns)
        self.risk.gate.settings.reported(snapshot.settings_known)

    def _session(self, state: SessionState) -> None:
        up = state.state == "up"
        self.balances.session(state.venue, up)
        self.recovery.session(state.venue, up)
        if up:
            self.risk.gate.clocks.opened(state)
            self.funding.session_up(state.venue)
        else:
            self.context.alert(1, "session_down", f"{state.venue}: {state.reason}")
            for order in list(self.ledger.unsettled.values()):
                if order.intent.venue == state.venue and order.state is OrderState.SENT:
                    self.evidence.unknown(order, "session lost")
                    self.order_queries.ask_now(order)
        self.recovery.tick()

    def _numeraire_rate(self, asset: str) -> Decimal | None:
        return Decimal(1) if asset == self.config.execution.numeraire else self.rates.rate(asset)

    def _catalogue(self, event: CatalogueChanged) -> None:
        self.context.instruments.update(event.rows)
        self.recovery.rows.rows_changed(event.rows)
        look_first(self.ledger, self.recovery, (row.spec for row in event.rows))
        self.hedges.rows_changed()
        if self.fast_entry is not None:
            self.fast_entry.rows_changed(event.rows)

    # --- time ---

    def _tick(self, event: Tick) -> None:
        self.order_queries.tick()
        self.recovery.tick()
        self.funding.tick()
        self.fee_stock.tick()
        for operation in list(self.ledger.open_operations.values()):
            self.orders.advance(operation)
        self.risk.tick()
        now_ns = self.context.now.mono_ns
        for token, (_plan, asked_ns) in list(self._pending.items()):
            if now_ns - asked_ns > STRICT_TIMEOUT_NS:
                self._balances_answer(BalancesAnswer(token, (), "no answer in time"))
        self.margin.tick()
        self.hedges.tick()
        self.retirement.tick()
        if now_ns - self._closes_looked_mono_ns >= CLOSE_LOOK_NS:
            self._closes_looked_mono_ns = now_ns
            self._close_by_command()

    def _close_by_command(self) -> None:
        """Closes what an operator wants closed, as far as it can be closed now."""
        for answer in self.forced_close.due():
            if answer.plan is not None:
                self._leave(answer.plan, answer.hedge)

    # --- commands ---

    def _command(self, command: Command) -> None:
        kind = command.kind
        if kind in (CommandKind.FLATTEN, CommandKind.CANCEL_ORDERS):
            self.orders.cancel_all_orders()
        if kind is CommandKind.STOP:
            self.stopping = True
            self.funding.stopping()
        elif kind in (CommandKind.CLOSE_HEDGES, CommandKind.FLATTEN):
            self.forced_close.by_command(command.argument)
            self._close_by_command()
            if kind is CommandKind.FLATTEN:
                self.holds.release_all(command.reason)
        elif kind is CommandKind.ADOPT:
            self.adopted = self.recovery.adoption.adopt(command.reason)
        elif kind is CommandKind.EMERGENCY:
            self.risk.force_emergency_shutdown(command.reason)
        else:
            self.holds.decide(kind, command.argument, command.reason)

    # --- inventory for the detector ---

    def inventory(self, now: Now, instruments: Iterable[int] | None = None) -> list[InventoryRow]:
        """Inventory rows of ``instruments`` (ids; None = all): what could be bought and sold now, and positions."""
        self.context.now = now
        known = self.context.instruments
        wanted = known if instruments is None else (row for i in instruments if (row := known.get(i)) is not None)
        return [self._inventory_row(row) for row in wanted]

    def _inventory_row(self, row: InstrumentRow) -> InventoryRow:
        spec, ready = row.spec, self.ready and row.spec.venue in self.recovery
        until_ns = self.risk.gate.last_fill(spec.venue, spec.symbol)[0]
        return inventory_row(row, self.context, self.balances, venue_ready=ready, blocked_until_mono_ns=until_ns)
