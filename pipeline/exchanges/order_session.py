"""Order entry and private stream of one venue: what all dialects share.

:class:`OrderSession` opens and closes both, joins them into the venue's up or down, sends what a dialect has made of an
order or a cancel, and keeps the table of requests in flight: every request ends exactly once as acked, rejected or
unknown. A dialect's ``order_session.py`` says how an order becomes bytes, which socket takes them and what an answer
means.
"""

from __future__ import annotations

import asyncio
import contextlib
import errno
from abc import abstractmethod
from collections.abc import Callable, Coroutine, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from pipeline.exchanges.base import (
    CLIENT_ID_MAX,
    CancelOutcome,
    EventSink,
    OrderLine,
    OutcomeKind,
    PlaceOutcome,
    SessionState,
    VenueTrading,
    balances_when_asked,
)
from pipeline.exchanges.rest_client import RestVenueClient
from pipeline.exchanges.stream_session import StreamSession
from pipeline.exchanges.transport.throttle import Throttle
from pipeline.model.clock import mono_ns, wall_ms
from pipeline.model.errors import (
    OrderNotFound,
    OutcomeUnknown,
    ProtocolViolation,
    RateLimited,
    VenueError,
    VenueRejected,
    VenueUnavailable,
)
from pipeline.model.structs import Credentials, OrderRequest, OrderUpdate

if TYPE_CHECKING:
    from pipeline.model.config import VenueConfig

REQUEST_TIMEOUT_S = 10.0  # a venue processes an order for at most 10 s; the saga asks questions much earlier


class InFlight(msgspec.Struct):
    """One request whose end has not come."""

    is_place: bool
    symbol: str
    client_id: str
    order_id: str
    timer: asyncio.TimerHandle | None = None
    link: object = None


class OrderSession(VenueTrading):
    """:class:`VenueTrading` over sockets. Dialects make bytes and read answers; this class ends each request once."""

    request_timeout_s = REQUEST_TIMEOUT_S
    #: The account's own stream; made by the dialect.
    private: StreamSession
    #: What carries orders, where that is a WebSocket; made by the dialect.
    entry: StreamSession

    def __init__(
        self, venue: VenueConfig, credentials: Credentials, on_event: EventSink, client: RestVenueClient
    ) -> None:
        self.venue = venue.name
        self.config = venue
        self.credentials = credentials
        self.on_event = on_event
        self.client = client
        self.in_flight: dict[str, InFlight] = {}
        self.protocol_violations = 0
        self.last_violation = ""
        self._throttle: Throttle = client.transport.throttle
        self._balance_due = False
        self._was_up = False
        self._closing = False
        self._good_symbols: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    # --- what a dialect says ---

    @abstractmethod
    async def open_order_entry(self) -> None:
        """Opens what orders are sent over, once. Raises a ``VenueError`` and leaves nothing open."""

    @abstractmethod
    async def close_order_entry(self) -> None:
        """Ends what :meth:`open_order_entry` has opened."""

    @abstractmethod
    def order_payload(self, request: OrderRequest, now_ms: int) -> bytes:
        """The complete request bytes of an order, signed where the venue signs orders (Gate.io signs the login of its
        connection instead), ``now_ms`` on our wall clock. Raises ``ValueError`` for an order that
        this venue cannot express."""

    @abstractmethod
    def cancel_payload(self, symbol: str, client_id: str, order_id: str) -> bytes:
        """The complete request bytes of a cancel, signed as those of an order; by ``order_id`` where it is not
        empty."""

    def hand_over(self, key: str, payload: bytes) -> int:
        """Hands the bytes of the request ``key``, which is in ``in_flight``, to the socket; returns ``send_mono_ns``.
        Its answer, its time-out and the loss of its connection must each lead to :meth:`end`. Raises
        ``VenueUnavailable`` if nothing was sent. Here and below: over the WebSocket ``entry``."""
        sent_ns = self.entry.send(payload)
        self.await_answer(key, self.entry.link)
        return sent_ns

    def direct_line(self) -> tuple[OrderLine, int] | None:
        line = self.order_line()
        if not self.can_place(1):
            raise VenueUnavailable(f"{self.venue}: no budget for an order; nothing was sent", venue=self.venue)
        fd = line.direct_fd()
        return (line, fd) if fd >= 0 else None

    def order_line(self) -> OrderLine:
        """The connection that takes the next order. Raises ``VenueUnavailable``."""
        link = self.entry.link
        if link is None:
            raise VenueUnavailable(f"{self.venue}: {self.entry.name} is not connected", venue=self.venue)
        return link

    def await_answer(self, key: str, line: OrderLine | None) -> None:
        """The bytes of the request ``key`` are with ``line``: what :meth:`hand_over` says of its end."""
        self.in_flight[key].link = line
        self.arm(key)

    # --- up and down ---

    async def connect(self) -> None:
        self._closing = False
        await self.client.know_clock()
        await self.open_order_entry()
        try:
            await self.private.start()
        except BaseException:  # the caller tries again: nothing half-open may be left behind each time
            await self.close_order_entry()
            raise
        self.sessions_changed()

    async def close(self) -> None:
        self._closing = True
        await self.stop_tasks()
        await self.private.stop()
        await self.close_order_entry()
        self.end_all_unknown("closed by us")
        await self.client.close()

    @abstractmethod
    def sessions_ready(self) -> tuple[bool, str]:
        """(every session stands, reason of the one that does not)."""

    @property
    def connected(self) -> bool:
        return self._was_up

    def streams(self) -> tuple[StreamSession, ...]:
        """The sessions that are WebSockets."""
        return (self.private,)

    @property
    def gateway_answers(self) -> int:
        return self.client.gateway.count + sum(stream.gateway_answers for stream in self.streams())

    @property
    def rate_limit_hits(self) -> int:
        return self.client.rate_limit_hits

    def take_odd_rows(self) -> tuple[int, list[str]]:
        return self.client.take_odd_rows()

    def why_down(self) -> str:
        return "" if self._was_up else self.sessions_ready()[1]

    def sessions_changed(self) -> None:
        """A session came or went: one event when the venue as a whole goes up or down."""
        up, reason = self.sessions_ready()
        if up != self._was_up:
            self._was_up = up
            if not self._closing:
                state = SessionState(
                    venue=self.venue,
                    state="up" if up else "down",
                    recv_mono_ns=mono_ns(),
                    reason="" if up else reason,
                    clock_known=self.client.clock.known,
                )
                self.on_event(state)

    # --- orders and cancels ---

    def now_ms(self) -> int:
        return self.client.clock.now_ms()

    def follow_clock(self, offset_ns: int, read_mono_ns: int) -> None:
        self.client.clock.follow(offset_ns, read_mono_ns)

    def can_place(self, count: int) -> bool:
        return self._throttle.fits("order", count)

    def place(self, request: OrderRequest) -> int:
        return self.prepare(request)()

    def prepare(self, request: OrderRequest) -> Callable[[], int]:
        self.check_text(request.symbol, request.client_id)
        now_ms = wall_ms()
        if request.expiry_wall_ms and request.expiry_wall_ms <= now_ms:
            raise VenueUnavailable(f"{self.venue}: order expired before it was sent", venue=self.venue)
        try:
            payload = self.order_payload(request, now_ms)
        except ValueError as error:
            raise VenueUnavailable(f"{self.venue}: {error}; nothing was sent", venue=self.venue) from None
        return lambda: self.launch(request.symbol, request.client_id, payload)

    def launched(self, line: OrderLine, symbol: str, client_id: str, wire: memoryview, taken: int) -> None:
        if taken <= 0:  # no byte has left
            # Full is not broken: other orders may be in flight on it. But a record that was made and is not sent leaves
            # a hole in TLS's count of them.
            if taken != -errno.EAGAIN or line.seal:
                line.disconnect(errno.errorcode.get(-taken, "takes nothing"))
            raise VenueUnavailable(f"{self.venue}: the connection took nothing; nothing was sent", venue=self.venue)
        key = f"p-{client_id}"
        if key in self.in_flight:
            raise RuntimeError(f"{self.venue}: {key} was sent and is in flight already")
        self._throttle.count("order")
        self.begin(key, is_place=True, symbol=symbol, client_id=client_id)
        if taken < len(wire):
            line.write_rest(wire, taken)
        self.await_answer(key, line)

    def launch(self, symbol: str, client_id: str, payload: bytes) -> int:
        key = f"p-{client_id}"
        self.begin(key, is_place=True, symbol=symbol, client_id=client_id)
        return self._send(key, "order", payload)

    def cancel(self, symbol: str, client_id: str, order_id: str = "") -> None:
        self.check_text(symbol, client_id)
        payload = self.cancel_payload(symbol, client_id, order_id)
        key = f"c-{client_id}"
        self.begin(key, is_place=False, symbol=symbol, client_id=client_id, order_id=order_id)
        self._send(key, "cancel", payload)

    def _send(self, key: str, bucket: str, payload: bytes) -> int:
        """Sends one registered request within the venue's budget; forgets it again when nothing could be sent."""
        try:
            if not self._throttle.try_acquire(bucket):
                raise VenueUnavailable(f"{self.venue}: no budget for {bucket}; nothing was sent", venue=self.venue)
            return self.hand_over(key, payload)
        except VenueUnavailable:
            self.abandon(key)
            raise

    @staticmethod
    def good_symbol(symbol: str) -> bool:
        """Whether a symbol is nothing but letters, digits and ``_``."""
        return symbol.isascii() and symbol.replace("_", "").isalnum()

    def check_text(self, symbol: str, client_id: str) -> None:
        """Templates are filled by plain text: nothing but letters, digits and ``_`` may enter them."""
        if symbol not in self._good_symbols:
            if not self.good_symbol(symbol):
                raise VenueUnavailable(f"{self.venue}: symbol {symbol!r} refused; nothing was sent", venue=self.venue)
            self._good_symbols.add(symbol)
        if not (0 < len(client_id) <= CLIENT_ID_MAX and client_id.isascii() and client_id.isalnum()):
            raise VenueUnavailable(
                f"{self.venue}: client id must be 1-{CLIENT_ID_MAX} letters and digits: {client_id!r}", venue=self.venue
            )

    def note_answer(self, error: VenueError | None, bucket: str) -> None:
        """What an answer says about the venue's gateway and its limits; ``error`` None: it was a success."""
        self.client.gateway.note(error, bucket)

    # --- work beside the events ---

    def ask_balance(self, pause_s: float) -> None:
        """The wallet changed, and only REST knows what is available: ask after ``pause_s``, once for all changes until
        then."""
        if not self._balance_due:
            self._balance_due = True
            self.spawn(self._fetch_balance(pause_s))

    async def _fetch_balance(self, pause_s: float) -> None:
        await asyncio.sleep(pause_s)
        self._balance_due = False
        try:
            balances = await balances_when_asked(self.client)
        except VenueError:
            return  # the poller's own reading comes, and an unproved balance is refused meanwhile
        for balance in balances:
            self.on_event(balance)

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Short work of this session; ended by :meth:`stop_tasks`."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop_tasks(self) -> None:
        """Cancel what :meth:`spawn` has started, and wait for it."""
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def check_clock(self, error: VenueError) -> None:
        """A refused timestamp is definitive for the order, and a reason to look at the venue's clock again."""
        if self.client.is_clock_error(error):
            self.spawn(self._resync_clock())

    async def _resync_clock(self) -> None:
        """Asks the venue's time once; a failure changes nothing (the next refused timestamp asks again)."""
        with contextlib.suppress(VenueError):
            await self.client.server_time_ms()

    # --- requests in flight ---

    def begin(self, key: str, *, is_place: bool, symbol: str, client_id: str, order_id: str = "") -> InFlight:
        """Register before sending, so that an answer can never come first. A key already in flight is our bug."""
        if key in self.in_flight:
            raise VenueUnavailable(f"{self.venue}: {key} is in flight already; nothing was sent", venue=self.venue)
        entry = InFlight(is_place=is_place, symbol=symbol, client_id=client_id, order_id=order_id)
        self.in_flight[key] = entry
        return entry

    def arm(self, key: str) -> None:
        """Bound the wait of a request that has been sent."""
        entry = self.in_flight.get(key)
        if entry is not None:
            loop = asyncio.get_running_loop()
            entry.timer = loop.call_later(self.request_timeout_s, self._timed_out, key)

    def abandon(self, key: str) -> None:
        """The request was not sent after all."""
        entry = self.in_flight.pop(key, None)
        if entry is not None and entry.timer is not None:
            entry.timer.cancel()

    def _timed_out(self, key: str) -> None:
        error = OutcomeUnknown(f"{self.venue}: no answer within {self.request_timeout_s} s", venue=self.venue)
        self.end(key, error=error, recv_mono_ns=mono_ns())

    def end(
        self, key: str, *, update: OrderUpdate | None = None, error: VenueError | None = None, recv_mono_ns: int
    ) -> None:
        """The end of one request. Unknown keys (an answer after the time-out) only pass their update on."""
        entry = self.in_flight.pop(key, None)
        if entry is None:
            if update is not None:
                self.on_event(update)
            return
        if entry.timer is not None:
            entry.timer.cancel()
        kind = outcome_kind(error)
        if self.throttled_is_unknown and isinstance(error, RateLimited):
            kind = OutcomeKind.UNKNOWN
        if entry.is_place:
            if isinstance(error, OrderNotFound):
                kind = OutcomeKind.UNKNOWN  # it speaks of an order that the venue knew, or knows: no proof of nothing
            self.on_event(
                PlaceOutcome(
                    venue=self.venue,
                    symbol=entry.symbol,
                    client_id=entry.client_id,
                    kind=kind,
                    update=update,
                    error=error,
                    recv_mono_ns=recv_mono_ns,
                )
            )
        else:
            self.on_event(
                CancelOutcome(
                    venue=self.venue,
                    symbol=entry.symbol,
                    client_id=entry.client_id,
                    order_id=entry.order_id,
                    kind=kind,
                    update=update,
                    error=error,
                    recv_mono_ns=recv_mono_ns,
                )
            )

    def end_all_unknown(self, reason: str, link: object = None) -> None:
        """Every request in flight (on ``link``) loses its answer: unknown, never rejected."""
        now_ns = mono_ns()
        for key in [key for key, entry in self.in_flight.items() if link is None or entry.link is link]:
            error = OutcomeUnknown(f"{self.venue}: {reason} before the answer came", venue=self.venue)
            self.end(key, error=error, recv_mono_ns=now_ns)

    def violation(self, error: ProtocolViolation) -> None:
        """Count bytes that the venue's documents do not allow; the frame is dropped, never guessed at."""
        self.protocol_violations += 1
        self.last_violation = error.message

    def set_multipliers(self, multipliers: Mapping[str, Decimal]) -> None:
        return


def outcome_kind(error: VenueError | None) -> OutcomeKind:
    """Only the venue's definitive no is a rejection; everything else that went wrong is unknown."""
    if error is None:
        return OutcomeKind.ACKED
    return OutcomeKind.REJECTED if isinstance(error, VenueRejected) else OutcomeKind.UNKNOWN
