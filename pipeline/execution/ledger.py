"""The execution ledger: everything that is known, as a pure fold over journal records.

``apply(record, mono_ns, wall_ns)`` is the only way in. The live process applies a record when it appends it; a restart
applies the same records in the same order: the two states are equal byte for byte (``digest``). Nothing sent is ever
forgotten: of orders that left memory (``retirement.py``) the identities stay, and those of all fills.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, field
from decimal import Decimal

from pipeline.execution.accounts import EXACT, Accounts, exposure_by_asset
from pipeline.execution.external import ExternalState, reopen
from pipeline.execution.external_records import (
    ExternalFillRecord,
    ExternalFlowRecord,
    ExternalPositionRecord,
    HeldFillRecord,
)
from pipeline.execution.order_states import EMPTY_ENDINGS, merge, with_quantity
from pipeline.execution.records import (
    AdoptedRecord,
    BalanceRecord,
    BootRecord,
    BreakerRecord,
    DustRecord,
    ExternalRecord,
    FillRecord,
    FundingRecord,
    HedgeRecord,
    OperationRecord,
    OperationResultRecord,
    OperationStateRecord,
    OrderIntentRecord,
    OrderSentRecord,
    OrderStateRecord,
    Outcome,
    PositionRecord,
    Purpose,
    ReconcileRecord,
    Record,
    RecoveryRecord,
    RefusalRecord,
    RetiredRecord,
    StopRecord,
    TakeoverRecord,
)
from pipeline.execution.results.round_trips import RoundTrips
from pipeline.execution.settled.digest import digest_of
from pipeline.execution.settled.identities import SettledIds, fill_identity, order_identity, venue_order_identity
from pipeline.execution.settled.leaving import remember_funding, retire
from pipeline.model.enums import ArbitrageState, InstrumentKind, OrderState
from pipeline.model.errors import JournalError
from pipeline.model.structs import ZERO
from pipeline.model.units import NS_PER_DAY

WINDOW_UNKNOWN_MS = 10_000  # of an order in a checkpoint that does not hold its window: more than there ever was
LATE_NS = 120_000_000_000  # how long after an order's end a venue may still add a fill to it
#: Breakers of what the world did to the account; besides ``venue.<venue>``.
UNEXPLAINED_LOSS = "unexplained_loss"  # money is gone and nothing says why
UNKNOWN_PAST = "unknown_past"  # a lost or older journal: re-armed by adoption only
SECOND_ENGINE = "second_engine"  # another engine trades on one of our keys
AUDIT_MAX = 2_000  # newest transitions in memory, some 400 operations', for audit_trail; the journal keeps all
FUNDING_KEPT = 512  # payments of one contract: beyond any deadline of a hedge, hourly stamps included


@dataclass(slots=True)
class Order:
    """One order of ours and all evidence about it."""

    intent: OrderIntentRecord
    intent_mono_ns: int
    boot_epoch: int
    window_ms: int = WINDOW_UNKNOWN_MS  # from the intent on: so long the venue may take it
    state: OrderState = OrderState.INTENT
    order_id: str = ""
    reported_filled: Decimal | None = None  # cumulative, as the venue reported; never lowered
    final_filled: Decimal | None = None  # cumulative quantity of the venue's own FILLED (a cut reduce-only order)
    filled: Decimal = ZERO  # sum of the fills in the ledger
    quote_filled: Decimal = ZERO
    sent_mono_ns: int = 0
    ack_mono_ns: int = 0
    first_fill_mono_ns: int = 0
    last_fill_mono_ns: int = 0
    settled_mono_ns: int = 0
    last_evidence_mono_ns: int = 0
    evidence_epoch: int = 0  # boot epoch of the run that has the last evidence
    held: int = 0  # fills that wait for their confirmation by REST
    reason: str = ""
    of_position: bool = True  # a refusal may mean that there is nothing to reduce

    @property
    def client_id(self) -> str:
        """Our id of the order."""
        return self.intent.client_id

    @property
    def began_wall_ms(self) -> int:
        """When the intent was written, by our wall clock of then."""
        return self.intent.expiry_wall_ms - self.window_ms

    @property
    def settled(self) -> bool:
        """Ended, and every fill that the venue counted is in the ledger: nothing of it is open or in doubt.

        A terminal state without a cumulative quantity settles nothing (CANCELED may come before the last trade).
        """
        if not self.state.is_terminal or self.held:
            return False
        if self.state in EMPTY_ENDINGS:
            return True
        if self.state is OrderState.FILLED:
            cut = self.final_filled if self.intent.reduce_only else None
            return self.filled >= (self.intent.qty if cut is None else min(cut, self.intent.qty))
        return self.reported_filled is not None and self.filled >= self.reported_filled

    @property
    def refused_to_reduce(self) -> bool:
        """Whether its venue's refusal may mean that the position is not there any more."""
        return self.intent.reduce_only and self.of_position and self.state is OrderState.REJECTED

    @property
    def known_filled(self) -> Decimal:
        """Base quantity proved to be filled: by fills, or by the venue's cumulative quantity where that is more."""
        return self.filled if self.reported_filled is None else max(self.filled, self.reported_filled)

    @property
    def average_price(self) -> Decimal:
        """Quote per base over the fills; 0 without any."""
        return self.quote_filled / self.filled if self.filled else ZERO


@dataclass(slots=True)
class Operation:
    """One opportunity being executed, with its legs' orders and its repairs."""

    record: OperationRecord
    started_mono_ns: int
    boot_epoch: int
    state: ArbitrageState = ArbitrageState.EXECUTING
    orders: list[str] = field(default_factory=list)
    fills: list[FillRecord] = field(default_factory=list)
    result: OperationResultRecord | None = None
    ended_mono_ns: int = 0  # of its newest result, in the run ``ended_epoch``
    ended_epoch: int = 0
    reopened: tuple[int, int] = (0, 0)  # (mono ns, boot epoch) of the record that opened it again after it had ended
    moved_to_dust: dict[str, Decimal] = field(default_factory=dict)
    recovered: bool = False  # a REPAIR order was needed
    late: bool = False  # a fill came after the result: to be advanced again
    forced: bool = False  # others took a part of a leg: see external.own_side_only

    @property
    def operation_id(self) -> str:
        """Id of the operation, of the same kind as client ids."""
        return self.record.operation_id

    def exposure(self) -> dict[str, Decimal]:
        """Net change per asset by this operation's fills (futures as base coin), before dust was moved out."""
        return exposure_by_asset(self.fills)


class Ledger:
    """The fold. Its attributes may be read by any part of the core; only ``apply`` writes them."""

    def __init__(self) -> None:
        self.boot_epoch = 0
        self.epochs: set[int] = set()  # of all runs in this journal
        self.mode = ""  # of the newest run; "" in the state of a checkpoint that does not tell it
        self.host_boot = ""
        self.host_epochs: set[int] = set()  # of the runs since the host was booted: their monotonic stamps compare
        self.records = 0
        self.orders: dict[str, Order] = {}
        self.unsettled: dict[str, Order] = {}
        self.by_order_id: dict[tuple[str, str], str] = {}
        self.fills_seen: set[tuple[str, str, str]] = set()
        self.settled = SettledIds()  # orders and fills of operations that have left memory
        self.retired_operations = 0  # how many have
        self.operations: dict[str, Operation] = {}
        self.open_operations: dict[str, Operation] = {}
        self.closings: dict[str, list[Operation]] = {}  # operation that opened a hedge -> those that close it
        self.hedges: dict[str, HedgeRecord] = {}
        self.base_of: dict[tuple[str, str], str] = {}  # (venue, contract) -> base asset, of all that operations traded
        self.dust: dict[str, Decimal] = {}
        self.breakers: dict[str, str] = {}
        self.recoveries: dict[str, RecoveryRecord] = {}
        self.since_wall_ns: dict[str, int] = {}  # tripped breaker, recovery, operation of an open hedge -> since when
        self.rearmed_mono_ns: dict[str, int] = {}  # breaker -> its last re-arm in this boot of the host
        self.accounts = Accounts()
        self.external = ExternalState()
        self.moved_mono_ns: dict[tuple[str, str], int] = {}  # (venue, asset or symbol) -> when a fill last moved it
        self.funding_seen: set[tuple[str, str]] = set()
        self.funding_at: dict[tuple[str, str], int] = {}  # of them, when each was booked: wall ms by its venue
        #: (venue, symbol) -> (time, received per base coin held long) of the newest payments of a contract
        self.payments_of: dict[tuple[str, str], deque[tuple[int, Decimal]]] = {}
        self.funding_wall_ms: dict[str, int] = {}  # venue -> time of its newest funding that is booked here
        self.baseline: dict[tuple[str, str], tuple[Decimal, Decimal]] = {}  # (total, flow then) of the last balance row
        self.position_offsets: dict[tuple[str, str], Decimal] = {}  # (venue, symbol): position before this journal
        self.offset_entries: dict[tuple[str, str], Decimal] = {}  # the same: its entry price, where its venue sent one
        self.based_wall_ms: dict[str, int] = {}  # venue -> when its first baseline was asked for
        self.touched: dict[tuple[str, str], int] = {}  # (venue, symbol) -> our last order or fill that no sweep covers
        self.outcomes: dict[Outcome, int] = dict.fromkeys(Outcome, 0)
        self.round_trips = RoundTrips()
        self.exits = 0  # operations that close a hedge
        self.day, self.day_pnl = 0, ZERO  # UTC day number, and what that day brought, in the numeraire
        self.total_pnl = self.peak_pnl = ZERO  # what all days brought; the highest that it was
        self.audit: deque[tuple[int, OperationStateRecord]] = deque(maxlen=AUDIT_MAX)
        self._apply = {
            BootRecord: self._boot,
            OperationRecord: self._operation,
            OperationStateRecord: self._operation_state,
            OrderIntentRecord: self._intent,
            OrderSentRecord: self._sent,
            OrderStateRecord: self._order_state,
            FillRecord: self._fill,
            BalanceRecord: self._balance,
            OperationResultRecord: self._result,
            DustRecord: self._dust,
            HedgeRecord: self._hedge,
            RecoveryRecord: self._recovery,
            BreakerRecord: self._breaker,
            FundingRecord: self._funding,
            StopRecord: self._nothing,
            TakeoverRecord: self._nothing,
            PositionRecord: self._position,
            RefusalRecord: self._nothing,
            ReconcileRecord: self._reconcile,
            ExternalRecord: lambda record: self.external.note(record),
            ExternalFillRecord: lambda record: self.external.fill(record, self),
            ExternalFlowRecord: lambda record: self.external.flow(record, self),
            ExternalPositionRecord: lambda record: self.external.position(record, self),
            HeldFillRecord: self._held_fill,
            AdoptedRecord: lambda record: self.external.adopt(record, self),
            RetiredRecord: lambda record: retire(self, record),
        }
        self.mono_ns = self.last_wall_ns = 0  # of the newest record
        self.known_until_wall_ns = 0  # the newest record before the newest run that began with a past that is known

    def apply(self, record: Record, mono_ns: int, wall_ns: int) -> None:
        """Folds one record in. Raises JournalError when it cannot follow what is known (a damaged journal)."""
        if type(record) is BootRecord and UNKNOWN_PAST not in self.breakers:
            self.known_until_wall_ns = self.last_wall_ns
        self.mono_ns, self.last_wall_ns = mono_ns, wall_ns
        self.records += 1
        try:
            self._apply[type(record)](record)  # type: ignore[operator]
        except KeyError as error:
            raise JournalError(f"journal record names something unknown: {type(record).__name__} {error}") from error

    # --- queries ---

    def expected_balance(self, venue: str, asset: str) -> Decimal | None:
        """What a balance must be (free and locked) by its baseline and all that moved since; None without one."""
        base = self.baseline.get((venue, asset))
        return None if base is None else EXACT.add(base[0], EXACT.subtract(self.accounts.moved(venue, asset), base[1]))

    def expected_position(self, venue: str, symbol: str) -> Decimal:
        """What a futures position must be: all executions, and what the account held before this journal."""
        offset = self.position_offsets.get((venue, symbol), ZERO)
        return EXACT.add(self.accounts.futures_qty(venue, symbol), offset)

    def order_of(self, venue: str, client_id: str, order_id: str) -> Order | None:
        """The order that a venue's message is about: by our id where it carries one, else by the venue's id."""
        order = self.orders.get(client_id) if client_id else None
        if order is None and order_id:
            known = self.by_order_id.get((venue, order_id))
            order = self.orders.get(known) if known is not None else None
        return order if order is not None and order.intent.venue == venue else None

    def fill_known(self, venue: str, symbol: str, trade_id: str) -> bool:
        """Whether an execution is booked, however long ago."""
        key = (venue, symbol, trade_id)
        return key in self.fills_seen or (bool(self.settled) and fill_identity(*key) in self.settled)

    def settled_long_ago(self, venue: str, client_id: str, order_id: str) -> bool:
        """Whether an order is one of ours that has left memory."""
        if not self.retired_operations:
            return False
        if client_id and order_identity(venue, client_id) in self.settled:
            return True
        return bool(order_id) and venue_order_identity(venue, order_id) in self.settled

    def unsettled_of_symbol(self, venue: str, symbol: str) -> Iterator[Order]:
        """Unsettled orders on an instrument, by name: its number is of this run, an order may be of an earlier one."""
        orders = self.unsettled.values()
        return (order for order in orders if order.intent.symbol == symbol and order.intent.venue == venue)

    def unsettled_of_operation(self, operation: Operation) -> list[Order]:
        """Orders of an operation that are open or in doubt."""
        return [self.unsettled[i] for i in operation.orders if i in self.unsettled]

    def digest(self) -> str:
        """Hash of the state, hexadecimal: equal for a live process and for a replay of its journal."""
        return digest_of(self)

    # --- the fold ---

    def _nothing(self, record: Record) -> None:
        """Records that change no state: they are written for the recorder and for operators."""

    def _boot(self, record: BootRecord) -> None:
        self.boot_epoch = record.boot_epoch
        self.epochs.add(record.boot_epoch)
        self.mode = record.mode
        if record.host_boot != self.host_boot:  # another zero of the clock: every stamp so far is in its past
            self.moved_mono_ns.clear()
            self.rearmed_mono_ns.clear()
            self.touched = dict.fromkeys(self.touched, 0)
        if record.host_boot != self.host_boot or not record.host_boot:  # which boot it is may be unknown
            self.host_epochs.clear()
        self.host_epochs.add(record.boot_epoch)
        self.host_boot = record.host_boot

    def _operation(self, record: OperationRecord) -> None:
        operation = Operation(record, self.mono_ns, self.boot_epoch)
        self.operations[record.operation_id] = self.open_operations[record.operation_id] = operation
        for leg in record.legs:
            if leg.kind is InstrumentKind.PERPETUAL:
                self.base_of[leg.venue, leg.symbol] = leg.base
        if record.closes:
            self.exits += 1
            self.closings.setdefault(record.closes, []).append(operation)

    def _operation_state(self, record: OperationStateRecord) -> None:
        operation = self.operations[record.operation_id]
        if record.to_state.persists:  # the others only name where an operation came from
            operation.state = record.to_state
        self.audit.append((self.mono_ns, record))

    def _intent(self, record: OrderIntentRecord) -> None:
        window_ms = record.expiry_wall_ms - self.last_wall_ns // 1_000_000
        if window_ms <= 0:  # no expiry
            window_ms = WINDOW_UNKNOWN_MS
        order = Order(record, self.mono_ns, self.boot_epoch, window_ms)
        operation = self.operations[record.operation_id]
        self.orders[record.client_id] = order
        self.unsettled[record.client_id] = order
        operation.orders.append(record.client_id)
        self.touched[record.venue, record.symbol] = self.mono_ns
        if record.purpose is Purpose.REPAIR:
            operation.recovered = True
        reopen(self, operation)

    def _sent(self, record: OrderSentRecord) -> None:
        order = self.orders[record.client_id]
        order.sent_mono_ns = record.send_mono_ns
        order.state = merge(order.state, OrderState.SENT)

    def _order_state(self, record: OrderStateRecord) -> None:
        order = self.orders[record.client_id]
        if record.order_id and not order.order_id:
            order.order_id = record.order_id
            self.by_order_id[order.intent.venue, record.order_id] = order.client_id
        if record.reported_filled is not None:
            known = order.reported_filled
            order.reported_filled = record.reported_filled if known is None else max(known, record.reported_filled)
        if record.state is OrderState.FILLED and record.reported_filled:
            order.final_filled = record.reported_filled
        if not order.ack_mono_ns and record.state not in (OrderState.UNKNOWN, OrderState.NOT_SENT, OrderState.EXPIRED):
            order.ack_mono_ns = record.recv_mono_ns
        order.state = merge(order.state, record.state)
        if record.reason:
            order.reason = record.reason
        order.of_position = order.of_position and record.of_position
        self._after_evidence(order)

    def _fill(self, record: FillRecord) -> None:
        order = self.orders[record.client_id]
        operation = self.operations[record.operation_id]
        key = (record.venue, record.symbol, record.trade_id)
        self.fills_seen.add(key)
        if self.external.held.pop(key, None) is not None:
            order.held -= 1
        order.filled = EXACT.add(order.filled, record.qty)
        order.quote_filled = EXACT.add(order.quote_filled, EXACT.multiply(record.qty, record.price))
        order.first_fill_mono_ns = order.first_fill_mono_ns or record.recv_mono_ns
        order.last_fill_mono_ns = record.recv_mono_ns
        operation.fills.append(record)
        self.accounts.apply_fill(record)
        for what in (record.base, record.quote, record.symbol):
            self.moved_mono_ns[record.venue, what] = self.mono_ns
        if operation.result is not None:
            operation.late = True
            reopen(self, operation)
        self._after_evidence(order)

    def _held_fill(self, record: HeldFillRecord) -> None:
        order = self.orders[record.client_id]
        self.external.hold(record)
        order.held += 1 if record.state == "held" else -1
        reopen(self, self.operations[order.intent.operation_id])
        self._after_evidence(order)

    def _after_evidence(self, order: Order) -> None:
        order.last_evidence_mono_ns, order.evidence_epoch = self.mono_ns, self.boot_epoch
        self.touched[order.intent.venue, order.intent.symbol] = self.mono_ns
        order.state = with_quantity(order.state, order.known_filled, order.intent.qty)
        if order.settled:
            if self.unsettled.pop(order.client_id, None) is not None:
                order.settled_mono_ns = self.mono_ns
        else:
            self.unsettled[order.client_id] = order

    def _balance(self, record: BalanceRecord) -> None:
        key = (record.venue, record.asset)
        self.baseline[key] = (EXACT.add(record.free, record.locked), self.accounts.moved(*key))
        asked_wall_ns = self.last_wall_ns - (self.mono_ns - record.recv_mono_ns)
        self.based_wall_ms.setdefault(record.venue, asked_wall_ns // 1_000_000)

    def _position(self, record: PositionRecord) -> None:
        if record.baseline:
            key = (record.venue, record.symbol)
            self.position_offsets[key] = EXACT.subtract(record.qty, record.expected_qty)
            self.offset_entries.update({key: record.entry_price} if record.entry_price else {})
            self.external.trades.moves += 1
            self.based_wall_ms.setdefault(record.venue, self.last_wall_ns // 1_000_000)

    def _reconcile(self, record: ReconcileRecord) -> None:
        """A complete sweep covers its symbols, but for those touched so lately that a venue may still add a fill."""
        if not record.complete:
            return
        busy = {(o.intent.venue, o.intent.symbol) for o in self.unsettled.values()}
        for symbol in record.symbols:
            key = (record.venue, symbol)
            if key not in busy and record.began_mono_ns - self.touched.get(key, 0) >= LATE_NS:
                self.touched.pop(key, None)

    def _result(self, record: OperationResultRecord) -> None:
        operation = self.operations[record.operation_id]
        before = operation.result
        closes = operation.record.closes
        if before is not None:  # late evidence: the new result replaces the old one
            self.outcomes[before.outcome] -= 1
            self.round_trips.add(record.operation_id, closes, -before.pnl_numeraire)
        operation.result = record
        operation.ended_mono_ns, operation.ended_epoch = self.mono_ns, self.boot_epoch
        operation.late = False
        self.outcomes[record.outcome] += 1
        self.round_trips.add(record.operation_id, closes, record.pnl_numeraire)
        known = ZERO if before is None else before.pnl_numeraire  # at once: no peak between the two
        self._add_pnl(EXACT.subtract(record.pnl_numeraire, known))
        if record.outcome is not Outcome.UNRESOLVED:
            self.open_operations.pop(record.operation_id, None)

    def _add_pnl(self, amount: Decimal) -> None:
        day = self.last_wall_ns // NS_PER_DAY
        if day > self.day:  # a wall clock that steps back does not begin a day again
            self.day, self.day_pnl = day, ZERO
        self.day_pnl = EXACT.add(self.day_pnl, amount)
        self.total_pnl = EXACT.add(self.total_pnl, amount)
        self.peak_pnl = max(self.peak_pnl, self.total_pnl)

    def _dust(self, record: DustRecord) -> None:
        self.dust[record.asset] = EXACT.add(self.dust.get(record.asset, ZERO), record.delta)
        operation = self.operations.get(record.operation_id)
        if operation is not None:
            moved = operation.moved_to_dust
            moved[record.asset] = EXACT.add(moved.get(record.asset, ZERO), record.delta)
        if not self.dust[record.asset]:
            del self.dust[record.asset]

    def _hedge(self, record: HedgeRecord) -> None:
        self.round_trips.hedge(record.operation_id, is_open=bool(record.qty))
        if record.qty:
            self.hedges[record.operation_id] = record
            self.since_wall_ns.setdefault(record.operation_id, self.last_wall_ns)
        else:
            self.hedges.pop(record.operation_id, None)
            self.since_wall_ns.pop(record.operation_id, None)

    def _recovery(self, record: RecoveryRecord) -> None:
        self.recoveries[record.recovery_id] = record
        self.since_wall_ns[record.recovery_id] = self.last_wall_ns

    def _breaker(self, record: BreakerRecord) -> None:
        if record.tripped:
            self.breakers.setdefault(record.name, record.reason)
            self.since_wall_ns.setdefault(record.name, self.last_wall_ns)
        else:
            self.breakers.pop(record.name, None)
            self.since_wall_ns.pop(record.name, None)
            self.rearmed_mono_ns[record.name] = self.mono_ns
            if record.name == UNEXPLAINED_LOSS:
                self.external.unexplained_usd = ZERO

    def _funding(self, record: FundingRecord) -> None:
        key = (record.venue, record.event_id)
        if key not in self.funding_seen:
            self.accounts.apply_funding(record)
            contract = (record.venue, record.symbol)
            held = self.accounts.futures_qty(*contract)
            if held:
                payments = self.payments_of.setdefault(contract, deque(maxlen=FUNDING_KEPT))
                payments.append((record.venue_wall_ms, record.amount / held))
            self._add_pnl(record.value_numeraire)
            newest = self.funding_wall_ms.get(record.venue, 0)
            self.funding_wall_ms[record.venue] = max(newest, record.venue_wall_ms)
            remember_funding(self, key, record.venue_wall_ms)
