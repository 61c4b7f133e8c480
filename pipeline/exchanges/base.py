"""The two interfaces to a venue, and what may be concluded from the events that they deliver.

``factory.py`` makes both:

``VenueClient``   REST requests: instruments, balances, orders, fills, cancels. Used by the poller, the supervisor, a
                  feed and recovery; never in the executor's hot callbacks.
``VenueTrading``  order entry and the private stream of one venue, inside the executor's event loop.

Everything that a venue reports arrives as a :data:`VenueEvent`. Who may conclude what from it:

=================  =====================================================================================
``PlaceOutcome``   ``acked``: the venue has the order (``update`` holds what it reported). ``rejected``: the
                   venue states definitively that this request executed nothing. ``unknown``: anything else
                   after bytes left (timeout, disconnect, 5xx, an unlisted code, a duplicate-id refusal).
``CancelOutcome``  the same for a cancel; a refusal (``OrderNotFound``) says nothing about fills: query.
``OrderUpdate``    private stream or REST; older ones may come after newer ones.
``Fill``           may come before the acknowledgement, twice, or a minute late.
``FundingNotice``  funding was booked; the amount is asked for by REST.
``SessionState``   ``up``: order entry and private stream both stand and what was missed while they were
                   down must be backfilled by REST. ``down``: refuse new risk on the venue.
=================  =====================================================================================
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping, Sequence
from decimal import Decimal
from typing import TYPE_CHECKING, Protocol

import msgspec

from pipeline.economics.margin import Tier
from pipeline.model.account_fees import FeeSwitch
from pipeline.model.clock import mono_ns, wall_ms
from pipeline.model.errors import VenueUnavailable
from pipeline.model.networks import CoinNetwork
from pipeline.model.structs import (
    Balance,
    FeeSchedule,
    Fill,
    ForcedClose,
    Funding,
    FundingTerms,
    InstrumentSpec,
    KeyRights,
    Listed,
    MoneyMove,
    OrderRequest,
    OrderUpdate,
    Position,
)
from pipeline.model.venue_events import CancelOutcome as CancelOutcome
from pipeline.model.venue_events import EventSink as EventSink
from pipeline.model.venue_events import FundingNotice as FundingNotice
from pipeline.model.venue_events import OutcomeKind as OutcomeKind
from pipeline.model.venue_events import PlaceOutcome as PlaceOutcome
from pipeline.model.venue_events import SessionState as SessionState
from pipeline.model.venue_events import VenueEvent as VenueEvent

if TYPE_CHECKING:
    from pipeline.exchanges.recent_trades import PublicTrade
    from pipeline.templates.template import OrderTerms, Pieces

#: Codes of a refusal for which the key is not to blame: the account gets this part of the venue with its first money.
ACCOUNT_MISSING = frozenset({"USER_NOT_FOUND"})  # Gate.io futures
CLIENT_ID_MAX = 28  # shortest limit of all venues: Gate.io text is "t-" and at most 28 bytes


class HttpCall(msgspec.Struct, frozen=True, kw_only=True):
    """One HTTP request, already signed: ``target`` is path and query exactly as signed."""

    method: str
    target: str
    headers: Mapping[str, str] = {}
    body: bytes = b""
    weight: int = 1
    bucket: str = "public"


class HttpReply(msgspec.Struct, frozen=True, kw_only=True):
    """One whole HTTP answer, as received; ``recv_mono_ns``: when its last byte was there."""

    status: int
    headers: Mapping[str, str]  # keys lower case
    body: bytes
    recv_mono_ns: int


class VenueClient(ABC):
    """REST side of one venue.

    Every method raises the errors of ``pipeline/model/errors.py``: :class:`VenueUnavailable` when nothing was sent,
    :class:`OutcomeUnknown` when the venue's answer is missing or ambiguous, :class:`VenueRejected` and its children
    on the venue's definitive no, :class:`ProtocolViolation` when the answer is not what its documents allow.
    """

    venue: str

    @abstractmethod
    async def server_time_ms(self) -> int:
        """The venue's clock in unix ms."""

    def follow_clock(self, offset_ns: int, read_mono_ns: int) -> None:
        """As :meth:`VenueTrading.follow_clock`."""
        return

    @abstractmethod
    async def instruments(self, symbols: Sequence[str]) -> list[InstrumentSpec]:
        """Rows of ``symbols`` in their order; symbols that the venue does not list are left out.

        With credentials: the account's own fees and the coin's identity where only signed endpoints tell it. Announced
        ends as :meth:`read_ends` has read them last.
        """

    async def read_ends(self, symbols: Sequence[str]) -> None:
        """Reads the list of announced ends of trading where the venue has one of its own; ``symbols``: those that
        matter. One that cannot be read is no error: see :attr:`ends_fault`."""
        return

    async def funding_terms(self, symbols: Sequence[str]) -> dict[str, FundingTerms]:
        """Rate and next stamp of contracts, by answers that are small enough to be asked for often; {} on spot.
        Contracts that the venue does not tell of are left out."""
        return {}

    def networks(self) -> Mapping[str, tuple[CoinNetwork, ...]]:
        """Networks of every coin, as of the last :meth:`instruments`; empty where the venue does not tell (no key)."""
        return {}

    async def listing(self) -> list[Listed]:
        """Everything that the market trades now, with its volume of 24 h where the venue tells it; needs no key."""
        raise VenueUnavailable(f"{self.venue}: lists nothing; nothing was sent", venue=self.venue)

    async def recent_trades(self, symbol: str, limit: int, multiplier: Decimal = Decimal(1)) -> list[PublicTrade]:
        """The newest ``limit`` trades of others at most, newest first; ``multiplier``: base coins per contract."""
        raise VenueUnavailable(f"{self.venue}: lists no trades; nothing was sent", venue=self.venue)

    async def key_rights(self) -> KeyRights:
        """What the venue tells of the key's rights; what it does not tell is None."""
        return KeyRights()

    @abstractmethod
    async def depth_snapshot(self, symbol: str) -> bytes:
        """REST order book as received (the feed codec decodes it)."""

    @abstractmethod
    async def balances(self) -> list[Balance]:
        """Every asset that the account holds on this market, in units of the asset."""

    @abstractmethod
    async def positions(self) -> list[Position]:
        """Open futures positions; [] on a spot venue."""

    @abstractmethod
    async def fees(self, symbols: Sequence[str]) -> list[FeeSchedule]:
        """The account's own maker and taker fees (ppm) of ``symbols``; those that the venue refuses are left out."""

    async def fee_switch(self) -> FeeSwitch | None:
        """The coin that the account's fees are taken in; None: this venue does not tell, or not without
        credentials."""
        return None

    async def set_fee_coin(self, coin: str) -> bool:
        """Has the account's fees taken in ``coin`` from now on. False: no call of this venue does that. Raises
        ``VenueRejected``."""
        return False

    @abstractmethod
    async def query_order(self, symbol: str, client_id: str, order_id: str = "") -> OrderUpdate | None:
        """By ``order_id`` where given, else by ``client_id``. None: the venue says not found, which is no proof
        that the order never existed (custom ids are forgotten soon after an order ends)."""

    @abstractmethod
    async def open_orders(self, symbol: str) -> list[OrderUpdate]:
        """Every order of ``symbol`` that rests at the venue, also those that are not ours."""

    @abstractmethod
    async def finished_orders(self, symbol: str, since_wall_ms: int) -> list[OrderUpdate]:
        """Orders that ended at or after ``since_wall_ms`` (local wall clock; shifted to the venue's)."""

    @abstractmethod
    async def fills(self, symbol: str, since_wall_ms: int) -> list[Fill]:
        """Fills of ``symbol`` at or after ``since_wall_ms`` (local wall clock), oldest first."""

    async def funding(self, since_wall_ms: int) -> list[Funding]:
        """Funding payments booked at or after ``since_wall_ms`` (local wall clock), oldest first; [] on spot."""
        return []

    async def money_moves(self, since_wall_ms: int) -> list[MoneyMove]:
        """Money that moved without an order at or after ``since_wall_ms`` (local wall clock), oldest first, as the
        venue's own lists show it; [] on a venue without such a list."""
        return []

    async def forced_closes(self, since_wall_ms: int) -> list[ForcedClose]:
        """Positions that the venue closed by itself at or after ``since_wall_ms`` (local wall clock); [] on spot."""
        return []

    async def risk_tiers(self, symbol: str) -> tuple[Tier, ...]:
        """Maintenance margin of a contract by notional, the last tier without an end; () where none is listed."""
        return ()

    @abstractmethod
    async def cancel(self, symbol: str, client_id: str, order_id: str = "") -> OrderUpdate:
        """Cancels one order, named as in :meth:`query_order`, and returns what the venue answered: it may be older than
        the cancel. Raises ``OrderNotFound`` when there is nothing left to cancel."""

    @abstractmethod
    async def cancel_all(self, symbol: str) -> list[OrderUpdate]:
        """Cancels every order of ``symbol`` and returns those that the venue cancelled; [] for none."""

    #: Whether the venue has a timer that cancels every order of the account unless it is set again in time.
    has_countdown = False
    #: How many times as long as it is asked for that timer may run here: more than 1 where it is of one instrument.
    countdown_factor = 1

    async def set_countdown(self, seconds: int, symbols: Sequence[str]) -> None:
        """Sets that timer; 0 disarms it. Where the venue's timers are of one instrument each, those of ``symbols``;
        else that of the whole market."""
        raise VenueUnavailable(f"{self.venue}: no dead-man timer here; nothing was sent", venue=self.venue)

    #: Why the account's modes could not be read when they were last asked for; "" = they could.
    settings_fault: str = ""
    #: False while they have not been read at all, though asked for: balances count, no entry is made.
    settings_known: bool = True

    async def apply_account_settings(self, symbols: Sequence[str], leverage: Decimal) -> None:
        """Brings the account into the modes that we count with: one position a contract, isolated margin at
        ``leverage`` on every one of ``symbols``, no unified account. Asks nothing while the last readings agree.

        Raises ``AccountSettingsWrong`` where the venue does not allow it. Does nothing on a venue without such modes.
        """
        return

    async def add_margin(self, symbol: str, amount: Decimal) -> None:
        """Moves ``amount`` (quote) of free balance into the margin of an isolated position."""
        raise VenueUnavailable(f"{self.venue}: margin cannot be added here; nothing was sent", venue=self.venue)

    @property
    def ends_fault(self) -> str:
        """Whether any announced end is known, and why their list could not be read by the last :meth:`read_ends`; "" =
        it could. Ends that were known stand."""
        return ""

    def take_odd_rows(self) -> tuple[int, list[str]]:
        """(rows of lists that could not be read and were left out so far, a line about each name not yet reported)."""
        return 0, []

    def take_unreadable(self, symbols: Sequence[str]) -> frozenset[str]:
        """Those of ``symbols`` that rows left out since the last call were, or may have been, about: they may be
        listed. All of them where such a row has no name."""
        return frozenset()

    @property
    def rate_limit_hits(self) -> int:
        """Answers so far by which the venue's rate limit refused a request (429, 418, its own codes)."""
        return 0

    @abstractmethod
    async def close(self) -> None:
        """Closes every socket; the client is not used again."""


async def balances_when_asked(client: VenueClient) -> list[Balance]:
    """A venue's balances, stamped with when they were asked for: what happened from then on they may lack, however late
    the answer comes."""
    asked_mono_ns = mono_ns()
    return [msgspec.structs.replace(row, recv_mono_ns=asked_mono_ns) for row in await client.balances()]


class OrderLine(Protocol):
    """One connection of a venue's order entry."""

    @property
    def seal(self) -> int:
        """Where it says how bytes for it are encrypted (shm/tls/sealed.py); 0: they are not."""

    def direct_fd(self) -> int:
        """The socket that takes bytes now, in their turn, encrypted by ``seal`` where that is not 0. -1: none; they go
        by the connection's own call. Raises ``VenueUnavailable`` when the connection is closed or does not take the
        bytes of before."""

    def write_rest(self, wire: memoryview, taken: int) -> None:
        """Hands on what the socket did not take of bytes that were given to it, behind all of before: it has taken
        ``taken``, at least one."""

    def disconnect(self, reason: str) -> None:
        """Ends the connection now."""


class VenueTrading(ABC):
    """Order entry and private stream of one venue. Made by ``factory.make_trading(venue, credentials, on_event)``.

    All callbacks run in the loop that called :meth:`connect`; ``on_event`` must return quickly and not raise.

    ``protocol_violations``: frames dropped because the venue's documents do not allow them; ``last_violation``: what
    was wrong with the newest.
    """

    venue: str
    protocol_violations: int = 0
    last_violation: str = ""
    #: Whether orders of templates are signed by :meth:`sign`, and not by their template.
    signs_orders = False
    #: Whether what the venue's limit refused may have been carried out all the same: its outcome is then unknown.
    throttled_is_unknown = False

    @abstractmethod
    async def connect(self) -> None:
        """Opens order entry and private stream and returns when both stand. Raises a ``VenueError`` when the first
        attempt fails (``transport/backoff.py`` says when to come again); after that they reconnect by themselves, with
        backoff, for ever, and every change is a ``SessionState`` event."""

    @abstractmethod
    async def close(self) -> None:
        """Closes every socket; requests in flight end as unknown."""

    @property
    @abstractmethod
    def connected(self) -> bool:
        """Order entry and private stream both stand (the last ``SessionState`` was "up")."""

    @property
    def gateway_answers(self) -> int:
        """Answers so far that came from a gateway before the venue, to orders, questions and upgrades."""
        return 0

    @property
    def rate_limit_hits(self) -> int:
        """As :meth:`VenueClient.rate_limit_hits`, of orders and of the session's own questions."""
        return 0

    def take_odd_rows(self) -> tuple[int, list[str]]:
        """As :meth:`VenueClient.take_odd_rows`, of pushes and of the session's own questions."""
        return 0, []

    def why_down(self) -> str:
        """What the venue answered last to the session that is down; "" where both stand or nothing is known."""
        return ""

    @abstractmethod
    def place(self, request: OrderRequest) -> int:
        """Hand the order's bytes to the socket and return ``send_mono_ns``. Raises ``VenueUnavailable`` only if
        provably nothing was sent; every later outcome is a :class:`PlaceOutcome`. Never called twice for one id."""

    def prepare(self, request: OrderRequest) -> Callable[[], int]:
        """All of :meth:`place` that needs no socket: checks, bytes, signature. The call that it returns does the rest,
        with :meth:`place`'s result and errors, once and at once. Raises ``VenueUnavailable``: it can never be sent."""
        return lambda: self.place(request)

    def template(self, terms: OrderTerms) -> Pieces | None:
        """An IOC limit order of ``terms`` as text with holes (pipeline/templates/template.py), byte for byte what
        :meth:`prepare` makes of such a request; None: this venue's orders are made by :meth:`prepare` alone."""
        return None

    def now_ms(self) -> int:
        """The venue's clock, as far as we know it."""
        return wall_ms()

    def follow_clock(self, offset_ns: int, read_mono_ns: int) -> None:
        """The venue's unix time less our monotonic time, as the account poller has read it at ``read_mono_ns``: what is
        signed, and when it expires, goes by that."""
        return

    def sign(self, order: memoryview, start: int, stop: int, place: int) -> None:
        """Puts the signature of ``order[start:stop]`` at ``place``, where ``signs_orders``."""
        return

    def direct_line(self) -> tuple[OrderLine, int] | None:
        """The connection that takes the next order, and its socket: to be used before anything else runs. None: it goes
        by :meth:`launch` (``ssl`` encrypts it, something has come that was not read). Raises ``VenueUnavailable`` where
        that would send nothing either: no connection, no budget."""
        return None

    def launched(self, line: OrderLine, symbol: str, client_id: str, wire: memoryview, taken: int) -> None:
        """An order's bytes were given to the socket of ``line``, from :meth:`direct_line`: it is counted, and its
        answer awaited from here on. ``taken``: how many the socket took, at least one: the rest is handed over; else
        the error's number, negative. Raises ``VenueUnavailable`` where it took none: provably nothing was sent."""
        raise VenueUnavailable(f"{self.venue}: no direct lines here; nothing was sent", venue=self.venue)

    def launch(self, symbol: str, client_id: str, payload: bytes) -> int:
        """Hands a filled template (signed where the venue signs orders) to the socket: result and errors of
        :meth:`place`."""
        raise VenueUnavailable(f"{self.venue}: no orders of templates here; nothing was sent", venue=self.venue)

    @abstractmethod
    def cancel(self, symbol: str, client_id: str, order_id: str = "") -> None:
        """Ask for a cancel; the answer is a :class:`CancelOutcome`. Raises ``VenueUnavailable`` if nothing was sent."""

    def can_place(self, count: int) -> bool:
        """Whether the venue's order budget takes ``count`` orders now; takes nothing."""
        return True

    def set_multipliers(self, multipliers: Mapping[str, Decimal]) -> None:
        """Base coins per contract by symbol; needed before the private stream can speak in base coin (futures)."""
        return
