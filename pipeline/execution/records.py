"""What the journal holds: every fact that changes the executor's state, one frozen struct a record.

The execution ledger (ledger.py) is a pure fold over these records: the live state and the state after a restart are
the same function of the same records. The recorder builds its SQLite tables from them and from nothing else.

``RECORD_TYPES`` maps the number in a record's header to its struct. Numbers are never reused. A struct only ever grows
at its end, by fields with defaults (bodies are msgpack arrays). Quantities are base coin, prices quote per base, both
exact Decimals; ``*_mono_ns`` is CLOCK_MONOTONIC of this host, ``*_wall_*`` what a clock or a venue claims.
"""

from __future__ import annotations

from decimal import Decimal
from enum import IntEnum

import msgspec

from pipeline.execution.external_records import (
    ExternalFillRecord,
    ExternalFlowRecord,
    ExternalPositionRecord,
    HeldFillRecord,
)
from pipeline.model.enums import (
    ArbitrageState,
    InstrumentKind,
    OpportunityType,
    OrderKind,
    OrderSide,
    OrderState,
    Refusal,
    ReportOutcome,
    TimeInForce,
)
from pipeline.model.structs import ZERO


class Purpose(IntEnum):
    """Why an order exists. Only ENTRY adds risk; everything else is allowed under a halt."""

    ENTRY = 0  # a leg of the opportunity
    REPAIR = 1  # completes or unwinds a broken leg, whichever is cheaper
    CLOSE = 2  # profitable or commanded exit of an open hedge
    FLATTEN = 3  # exit of a hedge, one leg after the other (takeover, spot away): futures, then spot for its fills
    DUST = 4  # sells or buys back collected remainders

    @property
    def adds_risk(self) -> bool:
        """Whether an order of this purpose needs the lease, an open latch and the limits."""
        return self is Purpose.ENTRY


class Outcome(IntEnum):
    """How an operation ended. The ``operations`` object of ``arb demo`` counts these."""

    COMPLETED = 0  # every leg filled as planned (equal quantities, possibly less than planned)
    FAILED = 1  # nothing filled, or nothing left after an unwind that lost
    RECOVERED = 2  # a leg broke, and the exposure was repaired
    UNRESOLVED = 3  # exposure or an unknown order remains: waits for proof or for an operator


class LegPlan(msgspec.Struct, frozen=True, array_like=True):
    """One leg as decided; ``best_price`` and the book's stamps are of the books that the executor read."""

    instrument_id: int
    venue: str
    symbol: str
    kind: InstrumentKind
    base: str
    quote: str
    side: OrderSide
    qty: Decimal
    limit_price: Decimal
    best_price: Decimal
    book_seq: int
    update_id: int
    proof_mono_ns: int
    book_recv_mono_ns: int


class BootRecord(msgspec.Struct, frozen=True, array_like=True):
    """First record of every executor run. Client order ids of the run carry ``boot_epoch``."""

    boot_epoch: int
    instance: str
    mode: str
    pid: int
    build_hash: int
    host_boot: str = ""  # the kernel's id of this boot: monotonic times of another boot do not compare


class OperationRecord(msgspec.Struct, frozen=True, array_like=True):
    """An operation begins: the gate approved, legs are planned; its ENTRY intents follow."""

    operation_id: str
    opportunity_id: int
    type: OpportunityType
    pair: str
    legs: tuple[LegPlan, ...]
    edge_detect_bps: float
    edge_send_bps: float
    direction_key: int
    notional_usd: Decimal
    trigger_recv_mono_ns: int
    detect_mono_ns: int
    dequeued_mono_ns: int
    gate_mono_ns: int
    manual: bool = False  # an operator asked for it; where it closes a hedge: it must (command, rule, margin)
    closes: str = ""  # operation whose open hedge this one closes


class OperationStateRecord(msgspec.Struct, frozen=True, array_like=True):
    """One step of the operation's state machine: the audit trail."""

    operation_id: str
    from_state: ArbitrageState
    to_state: ArbitrageState
    reason: str


class OrderIntentRecord(msgspec.Struct, frozen=True, array_like=True):
    """Written before any byte of the order leaves this host."""

    client_id: str
    operation_id: str
    leg: int  # index into the operation's legs
    purpose: Purpose
    instrument_id: int
    venue: str
    symbol: str
    kind: InstrumentKind
    base: str
    quote: str
    side: OrderSide
    order_kind: OrderKind
    tif: TimeInForce
    qty: Decimal
    price: Decimal
    reduce_only: bool
    multiplier: Decimal
    expiry_wall_ms: int
    reserve_asset: str
    reserve_amount: Decimal
    book_seq: int
    update_id: int
    attempt: int = 0


class OrderSentRecord(msgspec.Struct, frozen=True, array_like=True):
    """The bytes of an order were handed to the socket."""

    client_id: str
    send_mono_ns: int  # first byte handed to the socket


class OrderStateRecord(msgspec.Struct, frozen=True, array_like=True):
    """Evidence about an order, merged by order_states.py; ``reported_filled``: the venue's cumulative quantity.
    ``of_position`` False: a refusal for what passes or lies elsewhere (rate limit, clock, key, the instrument's row or
    status), which says nothing about the position that the order was to reduce."""

    client_id: str
    order_id: str
    state: OrderState
    reported_filled: Decimal | None
    average_price: Decimal | None
    venue_wall_ms: int
    recv_mono_ns: int
    source: str
    reason: str = ""
    of_position: bool = True


class FillRecord(msgspec.Struct, frozen=True, array_like=True):
    """One execution, once for ever by (venue, symbol, trade_id)."""

    venue: str
    symbol: str
    trade_id: str
    order_id: str
    client_id: str
    operation_id: str
    instrument_id: int
    kind: InstrumentKind
    base: str
    quote: str
    side: OrderSide
    qty: Decimal
    price: Decimal
    fee: Decimal  # positive = paid
    fee_asset: str
    is_maker: bool
    venue_wall_ms: int
    recv_mono_ns: int
    source: str
    extra_fees: tuple[tuple[str, Decimal], ...] = ()  # (asset, amount): what was taken in further assets

    @property
    def fees(self) -> tuple[tuple[str, Decimal], ...]:
        """(asset, amount) of every part of the fee, positive = paid; parts of 0 are left out."""
        return tuple(part for part in ((self.fee_asset, self.fee), *self.extra_fees) if part[1])


class BalanceRecord(msgspec.Struct, frozen=True, array_like=True):
    """A balance as the venue stated it, written at reconciliation: the baseline from which the ledger counts on."""

    venue: str
    asset: str
    free: Decimal
    locked: Decimal
    source: str
    recv_mono_ns: int


class PositionRecord(msgspec.Struct, frozen=True, array_like=True):
    """A futures position as the venue stated it; ``expected_qty`` is the ledger's own sum of fills.

    ``baseline``: nothing of ours was moving it, so the difference is what the account held beyond our fills.
    """

    venue: str
    symbol: str
    qty: Decimal
    expected_qty: Decimal
    entry_price: Decimal
    recv_mono_ns: int
    baseline: bool = False


class OperationResultRecord(msgspec.Struct, frozen=True, array_like=True):
    """An operation ended. Amounts are exact; ``pnl`` = change per asset by its fills and fees.

    A later result of the same operation replaces an earlier one (an UNRESOLVED one that was solved, a late fill).
    ``pnl_numeraire`` values what is left in other assets at the operation's own average prices.
    """

    operation_id: str
    opportunity_id: int
    outcome: Outcome
    pnl: dict[str, Decimal]
    pnl_numeraire: Decimal
    numeraire: str
    fees: dict[str, Decimal]
    edge_detect_bps: float
    edge_send_bps: float
    edge_fill_bps: float
    filled_qty: Decimal  # matched base quantity of the entry legs
    dust: dict[str, Decimal]
    hedge_open: bool
    reason: str
    started_mono_ns: int
    ended_mono_ns: int
    stamps: dict[str, int]  # stage name -> mono ns: dequeued gate journal send first_ack last_ack first_fill last_fill
    marks: dict[str, Decimal] = {}  # numeraire per unit of each asset that moved: what the result was valued at
    carried: Decimal = ZERO  # numeraire: basis of a hedge, off at its entry, added at its exit


class RefusalRecord(msgspec.Struct, frozen=True, array_like=True):
    """An opportunity was refused by the executor's gate. Bounded: at most a few a second, the rest only counted."""

    opportunity_id: int
    pair: str
    refusal: Refusal
    detail: str


class DustRecord(msgspec.Struct, frozen=True, array_like=True):
    """A remainder below every venue's minimum moves between an operation and the dust ledger (``delta`` signed)."""

    asset: str
    delta: Decimal
    operation_id: str
    reason: str


class HedgeRecord(msgspec.Struct, frozen=True, array_like=True):
    """A spot-futures hedge opens or shrinks. ``qty`` = base coin still hedged after this record (0 = closed)."""

    operation_id: str
    base: str
    spot_instrument: int
    futures_instrument: int
    spot_venue: str
    spot_symbol: str
    futures_venue: str
    futures_symbol: str
    spot_side: OrderSide
    qty: Decimal
    entry_spot_price: Decimal
    entry_futures_price: Decimal
    reason: str


class RecoveryRecord(msgspec.Struct, frozen=True, array_like=True):
    """A recovery begins, changes, waits for an operator, or ends."""

    recovery_id: str
    operation_id: str
    strategy: str  # "complete" | "unwind" | "resolve" | "hold"
    state: str  # "active" | "waiting_approval" | "approved" | "cancelled" | "done"
    reason: str

    @property
    def is_held(self) -> bool:
        """Whether an operator must decide, or has taken it over."""
        return self.state in ("waiting_approval", "cancelled")


class ReconcileRecord(msgspec.Struct, frozen=True, array_like=True):
    """What a sweep of one venue found. Only a complete one proves absence."""

    venue: str
    began_mono_ns: int
    began_venue_wall_ms: int
    complete: bool
    symbols: tuple[str, ...]
    orders_seen: int
    fills_new: int
    reason: str


class BreakerRecord(msgspec.Struct, frozen=True, array_like=True):
    """A circuit breaker tripped, or an operator re-armed it."""

    name: str
    tripped: bool  # False = re-armed by an operator
    reason: str


class FundingRecord(msgspec.Struct, frozen=True, array_like=True):
    """Funding as the venue booked it (never estimated); ``amount`` signed, + = received."""

    venue: str
    symbol: str
    event_id: str
    asset: str
    amount: Decimal
    venue_wall_ms: int
    value_numeraire: Decimal = ZERO  # what it counts for in the day's profit and loss


class ExternalRecord(msgspec.Struct, frozen=True, array_like=True):
    """Something of our account that no intent of ours explains and that moves nothing in the ledger.

    An order that others placed (``order_id``); messages that were dropped; or, with ``what`` = "listed", the row of a
    venue's list (``witness``) that shows ``amount`` of ``asset`` (a contract: of its position), booked without a row at
    ``booked_wall_ms``; or, with "missed", how many coins (``amount`` of ``asset``) a hedge misses that is being opened
    on the venue. Written by builds before the records below for every movement.
    """

    venue: str
    what: str
    detail: str
    order_id: str = ""
    witness: str = ""
    asset: str = ""
    amount: Decimal = ZERO  # signed
    booked_wall_ms: int = 0


class AdoptedRecord(msgspec.Struct, frozen=True, array_like=True):
    """An operator took over what a lost or older journal does not explain (``arb resume --adopt``).

    ``what``: "hedge" (operation ``operation_id`` holds it from now on), "closed" (a hedge that was left by orders which
    the journal lacks), "baseline" (held, not ours to trade), "order"; "taken" is no operator's: others closed it before
    the fill of ours was known that had opened it, and the operation loses it now. ``fills``: what the operation is
    given; they move no account, because the accounts have moved already.
    """

    what: str
    venue: str
    symbol: str
    base: str
    qty: Decimal  # signed, base coins
    price: Decimal
    operation_id: str
    detail: str
    fills: tuple[FillRecord, ...] = ()


class RetiredRecord(msgspec.Struct, frozen=True, array_like=True):
    """These operations, settled long ago, leave the executor's memory with their orders (retirement.py)."""

    operation_ids: tuple[str, ...]


class StopRecord(msgspec.Struct, frozen=True, array_like=True):
    """Last record of a run that ended on purpose."""

    reason: str
    open_orders: int
    open_operations: int


class TakeoverRecord(msgspec.Struct, frozen=True, array_like=True):
    """The guard stands in for a lost executor: first record of its run, before the BootRecord. What follows continues
    the executor's journal of ``own_records`` records, the newest of the run ``own_epoch`` (0, 0: an empty one)."""

    own_records: int
    own_epoch: int
    reason: str


Record = (
    BootRecord
    | OperationRecord
    | OperationStateRecord
    | OrderIntentRecord
    | OrderSentRecord
    | OrderStateRecord
    | FillRecord
    | BalanceRecord
    | PositionRecord
    | OperationResultRecord
    | RefusalRecord
    | DustRecord
    | HedgeRecord
    | RecoveryRecord
    | ReconcileRecord
    | BreakerRecord
    | FundingRecord
    | ExternalRecord
    | StopRecord
    | ExternalFillRecord
    | ExternalFlowRecord
    | ExternalPositionRecord
    | HeldFillRecord
    | AdoptedRecord
    | RetiredRecord
    | TakeoverRecord
)

RECORD_TYPES: dict[int, type[Record]] = {
    1: BootRecord,
    2: OperationRecord,
    3: OperationStateRecord,
    4: OrderIntentRecord,
    5: OrderSentRecord,
    6: OrderStateRecord,
    7: FillRecord,
    8: BalanceRecord,
    9: PositionRecord,
    10: OperationResultRecord,
    11: RefusalRecord,
    12: DustRecord,
    13: HedgeRecord,
    14: RecoveryRecord,
    15: ReconcileRecord,
    16: BreakerRecord,
    17: FundingRecord,
    18: ExternalRecord,
    19: StopRecord,
    20: ExternalFillRecord,
    21: ExternalFlowRecord,
    22: ExternalPositionRecord,
    23: HeldFillRecord,
    24: AdoptedRecord,
    25: RetiredRecord,
    32: TakeoverRecord,
}
TYPE_OF_RECORD: dict[type[Record], int] = {struct: number for number, struct in RECORD_TYPES.items()}

REPORT_OF_OUTCOME: dict[Outcome, ReportOutcome] = {
    Outcome.COMPLETED: ReportOutcome.COMPLETED,
    Outcome.FAILED: ReportOutcome.FAILED,
    Outcome.RECOVERED: ReportOutcome.RECOVERED,
    Outcome.UNRESOLVED: ReportOutcome.FAILED,
}
