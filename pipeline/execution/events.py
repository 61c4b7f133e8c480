"""Events into the execution core, actions out of it, and the ports that it reads: plain values, no socket, no clock.

``ExecutionCore.handle(event, now) -> list[Action]``. The caller performs the actions **in their order** and feeds every
consequence back as an event. ``Append`` always stands before the ``Place`` that depends on it: perform it first, and
perform nothing further of a list when it fails.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from enum import IntEnum
from typing import Protocol

import msgspec

from pipeline.economics.margin import Tier
from pipeline.execution.records import OperationRecord, OrderIntentRecord, Purpose, Record
from pipeline.model.enums import Refusal, ReportOutcome
from pipeline.model.instruments import InstrumentRow
from pipeline.model.structs import (
    Balance,
    Fill,
    ForcedClose,
    Funding,
    InstrumentSpec,
    MoneyMove,
    OrderRequest,
    OrderUpdate,
    Position,
    UnreadableRow,
)
from pipeline.model.venue_events import CancelOutcome, FundingNotice, MoneyNotice, PlaceOutcome, SessionState


class Now(msgspec.Struct, frozen=True):
    """Both clocks, read by the caller once per event."""

    mono_ns: int
    wall_ns: int

    @property
    def wall_ms(self) -> int:
        """Wall clock in whole milliseconds."""
        return self.wall_ns // 1_000_000


# --- ports: what the core reads while it handles an event ---


class BookView(msgspec.Struct):
    """One whole book record (``words``: 96 integers, ``BOOK`` of shm/layout.py) and the time of its proof."""

    words: Sequence[int]
    proof_mono_ns: int  # 0 = not proved


class MarketPort(Protocol):
    """Books of all venues, read when a decision is made."""

    def book(self, instrument_id: int) -> BookView | None:
        """Newest whole book of an instrument; None where there is none."""


class HaltPort(Protocol):
    """The guard's halt page: latch, lease and blocks."""

    def latched(self) -> bool:
        """Whether the halt latch is set: no new risk."""

    def lease_expiry_mono_ns(self) -> int:
        """Until when new risk may be sent (monotonic); 0 = no lease."""

    def fenced(self) -> bool:
        """Whether the guard has taken over: nothing may be sent, not even what reduces risk."""

    def venue_blocked(self, venue_id: int) -> bool:
        """Whether new risk on a venue is blocked."""

    def instrument_blocked(self, instrument_id: int) -> bool:
        """Whether new risk on an instrument is blocked."""


class JournalPort(Protocol):
    """What the gate must know of the journal."""

    def has_room(self, size_bytes: int) -> bool:
        """Whether ``size_bytes`` of new risk fit and the reserve for exits still remains."""


# --- events ---


class OpportunityLeg(msgspec.Struct, frozen=True):
    """A leg as the detector wrote it; ``*_fp`` are fixed point with the exponents of the instrument's catalogue row."""

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
    clock_offsets_ns: Mapping[str, int] = {}  # venue -> its unix time less our monotonic time, where it was measured
    clock_read_mono_ns: Mapping[str, int] = {}  # venue -> when that was, at the earliest
    fee_coins: Mapping[str, str] = {}  # venue that tells it -> the coin that fees are taken in, "" = plain
    unreadable: tuple[tuple[str, str], ...] = ()  # (venue, contract) of rows of position lists that cannot be read
    settings_known: Mapping[str, bool] = {}  # venue -> whether its modes are known, and as wanted


class QueryAnswer(msgspec.Struct, frozen=True):
    """Answer to ``QueryOrder``; ``update`` None without ``error``: the venue does not find it (no proof of absence)."""

    venue: str
    symbol: str
    client_id: str
    update: OrderUpdate | None
    error: str = ""


class FillsAnswer(msgspec.Struct, frozen=True):
    """Answer to ``FetchFills``; with ``error`` the list may lack fills."""

    venue: str
    symbol: str
    fills: tuple[Fill, ...]
    error: str = ""


#: Which list of a sweep lacks a row.
ORDER_LISTS, FILL_LISTS, POSITION_LISTS, FORCED_LISTS = "orders", "fills", "positions", "forced closes"


class SweepAnswer(msgspec.Struct, frozen=True):
    """Answer to ``SweepVenue``: orders, fills, balances and positions that a venue lists since ``since_wall_ms``.

    ``began_mono_ns``: when its first question was sent. With ``error`` it is not complete and proves no absence.
    ``unreadable``: rows of ours that it lacks, ``what`` being one of ``*_LISTS``; the other rows are whole.
    """

    venue: str
    began_mono_ns: int
    began_wall_ms: int
    since_wall_ms: int
    symbols: tuple[str, ...]
    orders: tuple[OrderUpdate, ...] = ()
    fills: tuple[Fill, ...] = ()
    balances: tuple[Balance, ...] = ()
    positions: tuple[Position, ...] = ()
    forced: tuple[ForcedClose, ...] = ()  # what the venue closed by itself
    error: str = ""
    unreadable: tuple[UnreadableRow, ...] = ()


class MoneyAnswer(msgspec.Struct, frozen=True):
    """Every movement of money without an order that a venue lists since the question's time; with ``error`` perhaps
    none of them."""

    venue: str
    moves: tuple[MoneyMove, ...] = ()
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


class MarginAnswer(msgspec.Struct, frozen=True):
    """Answer to ``AddMargin``. With ``error`` it is not known to be added: the next account reading shows it.
    ``refused``: the venue has said no, so that nothing was added."""

    venue: str
    symbol: str
    amount: Decimal
    error: str = ""
    refused: bool = False


class RiskTiersAnswer(msgspec.Struct, frozen=True):
    """Answer to ``FetchRiskTiers``: rising tiers, the last without an end; none with ``error``, and none of a venue
    that has no such list."""

    venue: str
    symbol: str
    tiers: tuple[Tier, ...] = ()
    error: str = ""


class InstrumentAnswer(msgspec.Struct, frozen=True):
    """Answer to ``FetchInstrument``; ``spec`` None: the venue does not list it, or there was no answer (``error``)."""

    venue: str
    symbol: str
    spec: InstrumentSpec | None
    error: str = ""


class CatalogueChanged(msgspec.Struct, frozen=True):
    """Instruments that are new or changed."""

    rows: tuple[InstrumentRow, ...]


class CommandKind(IntEnum):
    """What an operator may ask of the running core."""

    FLATTEN = 0  # unwind every open exposure, hedges included
    CLOSE_HEDGES = 1
    APPROVE = 2  # a recovery that waits for an operator may go on
    CANCEL_RECOVERY = 3
    REARM = 4  # a breaker
    STOP = 5  # take no new opportunity, finish what is open
    ADOPT = 6  # take over what is at the venues and this journal does not explain
    CANCEL_ORDERS = 7  # every order that may still rest at a venue
    EMERGENCY = 8  # no new risk until the breaker ``emergency`` is re-armed
    RECOVER = 9  # an open operation is to be repaired now


class Command(msgspec.Struct, frozen=True):
    """An operator's command; ``argument``: id of a recovery or name of a breaker, by kind."""

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
    | FundingNotice
    | MoneyNotice
    | Sent
    | NotSent
    | Tick
    | AccountSnapshot
    | QueryAnswer
    | FillsAnswer
    | SweepAnswer
    | FundingAnswer
    | MoneyAnswer
    | BalancesAnswer
    | MarginAnswer
    | RiskTiersAnswer
    | InstrumentAnswer
    | CatalogueChanged
    | Command
)


# --- actions ---


class Append(msgspec.Struct, frozen=True):
    """Store this record in the journal, before anything that follows in the list."""

    record: Record


class Place(msgspec.Struct, frozen=True):
    """Send this order once. Right before: no fence; lease, halt latch and blocks too when ``purpose`` adds risk."""

    request: OrderRequest
    purpose: Purpose
    operation_id: str


class CancelOrder(msgspec.Struct, frozen=True):
    """Ask the venue to cancel an order (by ``order_id`` where it is known, else by ``client_id``)."""

    venue: str
    symbol: str
    client_id: str
    order_id: str


class QueryOrder(msgspec.Struct, frozen=True):
    """Ask for an order's state by REST; answered by ``QueryAnswer``."""

    venue: str
    symbol: str
    client_id: str
    order_id: str


class FetchFills(msgspec.Struct, frozen=True):
    """Ask for the account's fills of a symbol by REST; answered by ``FillsAnswer``."""

    venue: str
    symbol: str
    since_wall_ms: int


class SweepVenue(msgspec.Struct, frozen=True):
    """Ask a venue for everything it lists of our account; answered by ``SweepAnswer``."""

    venue: str
    symbols: tuple[str, ...]
    since_wall_ms: int
    reason: str


class FetchFunding(msgspec.Struct, frozen=True):
    """Ask a futures venue for its funding bookings; answered by ``FundingAnswer``."""

    venue: str
    since_wall_ms: int


class FetchMoney(msgspec.Struct, frozen=True):
    """Ask a venue which money moved without an order; answered by ``MoneyAnswer``."""

    venue: str
    since_wall_ms: int


class FetchBalances(msgspec.Struct, frozen=True):
    """Ask venues for their balances by REST; answered by ``BalancesAnswer`` of the same ``token``."""

    token: int
    venues: tuple[str, ...]


class AddMargin(msgspec.Struct, frozen=True):
    """Move ``amount`` (quote) of a venue's free balance into an isolated position; answered by ``MarginAnswer``."""

    venue: str
    symbol: str
    amount: Decimal


class FetchRiskTiers(msgspec.Struct, frozen=True):
    """Ask a futures venue for a contract's maintenance margin by position size; answered by ``RiskTiersAnswer``."""

    venue: str
    symbol: str


class FetchInstrument(msgspec.Struct, frozen=True):
    """Ask a venue for the row of one instrument; answered by ``InstrumentAnswer``."""

    venue: str
    symbol: str


class Report(msgspec.Struct, frozen=True):
    """How an opportunity ended, for the detector (reports queue); the cooldown of its direction lasts until then."""

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
    """Alert an operator."""

    severity: int  # 0 note, 1 warning, 2 critical
    code: str
    text: str


#: REST, off the order path.
Question = (
    QueryOrder
    | FetchFills
    | FetchFunding
    | FetchMoney
    | SweepVenue
    | FetchBalances
    | AddMargin
    | FetchRiskTiers
    | FetchInstrument
)
Action = Append | Place | CancelOrder | Question | Report | Refused | Alert


def request_of(intent: OrderIntentRecord) -> OrderRequest:
    """The order request of an intent. Sent at most once, by the one who appended the intent to the journal."""
    return OrderRequest(
        client_id=intent.client_id,
        venue=intent.venue,
        symbol=intent.symbol,
        side=intent.side,
        kind=intent.order_kind,
        tif=intent.tif,
        qty=intent.qty,
        price=intent.price,
        reduce_only=intent.reduce_only,
        multiplier=intent.multiplier,
        expiry_wall_ms=intent.expiry_wall_ms,
    )
