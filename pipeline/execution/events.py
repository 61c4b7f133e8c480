"""What goes into the execution core and what comes out: plain values, no sockets, no clock.

``ExecutionCore.handle(event, now) -> list[Action]``. The caller performs the actions **in their order** and feeds every
consequence back as an event. ``Append`` always stands before the ``Place`` that depends on it: perform it first, and
perform nothing further of a list when it fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from enum import IntEnum
from typing import Protocol

import msgspec

from pipeline.execution.records import OperationRecord, OrderIntentRecord, Purpose, Record
from pipeline.model.enums import Refusal, ReportOutcome
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import Balance, Fill, Funding, OrderRequest, OrderUpdate, Position
from pipeline.model.venue_events import CancelOutcome, FundingNews, PlaceOutcome, SessionState


class Now(msgspec.Struct, frozen=True):
    """Both clocks, read by the caller once per event."""

    mono_ns: int
    wall_ns: int

    @property
    def wall_ms(self) -> int:
        return self.wall_ns // 1_000_000


# --- what the core may look at (ports) ---


class BookView(msgspec.Struct):
    """One whole book record (``words``: 96 integers of shm/layout.py, BR_*) and the time of its proof."""

    words: Sequence[int]
    proof_mono_ns: int  # 0 = not proved


class MarketPort(Protocol):
    def book(self, instrument_id: int) -> BookView | None:
        """Newest whole book of an instrument; None where there is none."""


class HaltPort(Protocol):
    def latched(self) -> bool: ...

    def lease_expiry_mono_ns(self) -> int: ...

    def venue_blocked(self, venue_id: int) -> bool: ...

    def instrument_blocked(self, instrument_id: int) -> bool: ...


class JournalPort(Protocol):
    def has_room(self, size_bytes: int) -> bool: ...


# --- events ---


class OpportunityLeg(msgspec.Struct, frozen=True):
    """A leg as the detector wrote it; numbers are fixed point of the instrument's catalogue row."""

    instrument_id: int
    side: int
    limit_price_fp: int
    qty_fp: int
    book_seq: int
    update_id: int
    proof_mono_ns: int
    recv_mono_ns: int
    best_price_fp: int
    notional: float
    row_epoch: int
    writer_epoch: int


class Opportunity(msgspec.Struct, frozen=True):
    """An opportunity record of the queue. ``crc_ok`` = its checksum was right; nothing else was judged yet."""

    opportunity_id: int
    type: int
    pair_id: int
    detect_mono_ns: int
    trigger_recv_mono_ns: int
    trigger_publish_mono_ns: int
    edge_bps: float
    entry_edge_bps: float
    profit_quote: float
    trigger_instrument: int
    direction_key: int
    legs: tuple[OpportunityLeg, ...]
    crc_ok: bool = True
    dequeued_mono_ns: int = 0
    manual: bool = False


class Entered(msgspec.Struct, frozen=True):
    """An entry that the fast path (pipeline/fast_entry/entry.py) approved: these records are in the journal already."""

    operation: OperationRecord
    intents: tuple[OrderIntentRecord, ...]


class Sent(msgspec.Struct, frozen=True):
    """The bytes of an order were handed to the socket."""

    client_id: str
    send_mono_ns: int


class NotSent(msgspec.Struct, frozen=True):
    """Provably nothing of the order left this host."""

    client_id: str
    refusal: Refusal
    reason: str


class Tick(msgspec.Struct, frozen=True):
    """Time passed. At least every 50 ms while an operation is open, else every 500 ms."""


class AccountSnapshot(msgspec.Struct, frozen=True):
    """What the account poller confirmed by REST (every row with its own receive time)."""

    balances: tuple[Balance, ...]
    positions: tuple[Position, ...] = ()
    positions_recv_mono_ns: Mapping[str, int] = {}  # venue -> time of the last complete position list


class QueryAnswer(msgspec.Struct, frozen=True):
    """Answer to ``QueryOrder``; ``update`` None with no ``error`` = the venue says not found (no proof)."""

    venue: str
    symbol: str
    client_id: str
    update: OrderUpdate | None
    error: str = ""


class FillsAnswer(msgspec.Struct, frozen=True):
    venue: str
    symbol: str
    fills: tuple[Fill, ...]
    error: str = ""


class SweepAnswer(msgspec.Struct, frozen=True):
    """Everything that a venue knows of us since ``since_wall_ms``. ``error`` = not complete: proves no absence."""

    venue: str
    began_mono_ns: int
    began_wall_ms: int
    since_wall_ms: int
    symbols: tuple[str, ...]
    orders: tuple[OrderUpdate, ...] = ()
    fills: tuple[Fill, ...] = ()
    balances: tuple[Balance, ...] = ()
    positions: tuple[Position, ...] = ()
    error: str = ""


class FundingAnswer(msgspec.Struct, frozen=True):
    """Every funding payment that a venue booked since the question's time; with ``error`` perhaps none of them."""

    venue: str
    funding: tuple[Funding, ...] = ()
    error: str = ""


class BalancesAnswer(msgspec.Struct, frozen=True):
    """Answer to ``FetchBalances`` (``balance_check: strict``)."""

    token: int
    balances: tuple[Balance, ...]
    error: str = ""


class CatalogueChanged(msgspec.Struct, frozen=True):
    rows: tuple[InstrumentRow, ...]


class CommandKind(IntEnum):
    FLATTEN = 0  # unwind every open exposure, hedges included
    CLOSE_HEDGES = 1
    APPROVE = 2  # a recovery that waits for an operator may go on
    CANCEL_RECOVERY = 3
    REARM = 4  # a breaker
    STOP = 5  # take no new opportunity, finish what is open


class Command(msgspec.Struct, frozen=True):
    kind: CommandKind
    argument: str = ""
    reason: str = ""


CoreEvent = (
    Opportunity
    | Entered
    | OrderUpdate
    | Fill
    | Balance
    | Position
    | PlaceOutcome
    | CancelOutcome
    | SessionState
    | FundingNews
    | Sent
    | NotSent
    | Tick
    | AccountSnapshot
    | QueryAnswer
    | FillsAnswer
    | SweepAnswer
    | FundingAnswer
    | BalancesAnswer
    | CatalogueChanged
    | Command
)


# --- actions ---


class Append(msgspec.Struct, frozen=True):
    """Store this record in the journal, before anything that follows in the list."""

    record: Record


class Place(msgspec.Struct, frozen=True):
    """Send this order once. Right before: the lease always, and the halt latch when ``purpose`` adds risk."""

    request: OrderRequest
    purpose: Purpose
    operation_id: str


class CancelOrder(msgspec.Struct, frozen=True):
    venue: str
    symbol: str
    client_id: str
    order_id: str


class QueryOrder(msgspec.Struct, frozen=True):
    venue: str
    symbol: str
    client_id: str
    order_id: str


class FetchFills(msgspec.Struct, frozen=True):
    venue: str
    symbol: str
    since_wall_ms: int


class SweepVenue(msgspec.Struct, frozen=True):
    venue: str
    symbols: tuple[str, ...]
    since_wall_ms: int
    reason: str


class FetchFunding(msgspec.Struct, frozen=True):
    venue: str
    since_wall_ms: int


class FetchBalances(msgspec.Struct, frozen=True):
    token: int
    venues: tuple[str, ...]


class Report(msgspec.Struct, frozen=True):
    """To the detector, by the reports queue."""

    opportunity_id: int
    outcome: ReportOutcome
    direction_key: int
    cooldown_until_mono_ns: int
    refusal: Refusal = Refusal.NONE


class Refused(msgspec.Struct, frozen=True):
    """Count this refusal (every one; only some become records)."""

    opportunity_id: int
    refusal: Refusal
    detail: str


class Alert(msgspec.Struct, frozen=True):
    severity: int  # 0 note, 1 warning, 2 critical
    code: str
    text: str


Question = QueryOrder | FetchFills | FetchFunding | SweepVenue | FetchBalances  # REST, off the order path
Action = Append | Place | CancelOrder | Question | Report | Refused | Alert
