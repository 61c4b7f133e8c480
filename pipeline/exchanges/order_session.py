"""What the trading sessions of all dialects share: streams that log in and stay, and requests that get one end each.

``StreamSession``   one WebSocket with a handshake (login, subscriptions), kept up with jittered backoff, pinged as its
                    venue wants, dropped when silent, replaced before its planned end while the old one still runs.
``TradingBase``     joins the sessions of a venue into up/down and keeps the table of requests in flight: every
                    request ends exactly once as acked, rejected or unknown.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Mapping
from decimal import Decimal
from typing import TYPE_CHECKING, Any

import msgspec

from pipeline.exchanges.base import (
    CLIENT_ID_MAX,
    CancelOutcome,
    EventSink,
    OutcomeKind,
    PlaceOutcome,
    SessionState,
    VenueClient,
    VenueTrading,
)
from pipeline.exchanges.transport.backoff import Backoff
from pipeline.exchanges.transport.websocket import WsLink, open_ws
from pipeline.model.clock import mono_ns
from pipeline.model.errors import (
    AuthRefused,
    OutcomeUnknown,
    ProtocolViolation,
    RateLimited,
    VenueError,
    VenueRejected,
    VenueUnavailable,
)
from pipeline.model.structs import Credentials, OrderUpdate

if TYPE_CHECKING:
    from pipeline.model.config import VenueConfig

HANDSHAKE_TIMEOUT_S = 5.0
REQUEST_TIMEOUT_S = 10.0  # a venue processes an order for at most 10 s; the saga asks questions much earlier
AUTH_ATTEMPTS_MAX = 3  # a refused key is not knocked with again and again; an operator must look
DRAIN_S = 5.0  # the replaced connection of a planned change lives on this long for answers under way
STABLE_S = 10.0  # a session that lived this long has proved itself: its backoff starts anew


class StreamSession(ABC):
    """One kept-up WebSocket of a venue's private side."""

    ping_interval_s = 10.0
    stall_after_s = 30.0  # no frame of any kind, pongs included
    life_s = 0.0  # planned end of a connection; 0 = none

    def __init__(self, name: str, venue: str, on_change: Callable[[], None]) -> None:
        self.name = name
        self.venue = venue
        self._on_change = on_change
        self._link: WsLink | None = None
        self._waiting: dict[str, asyncio.Future[bytes]] = {}
        self._task: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self.last_reason = ""
        self.reconnects = 0

    # --- what a dialect says ---

    @abstractmethod
    async def url(self) -> str:
        """Address of the next connection (may ask for a listen key)."""

    def headers(self) -> Mapping[str, str]:
        return {}

    @abstractmethod
    async def handshake(self, link: WsLink) -> None:
        """Log in and subscribe; returns when every request is acknowledged, else raises a ``VenueError``."""

    @abstractmethod
    def on_frame(self, payload: memoryview, is_text: bool, recv_mono_ns: int) -> None: ...

    @abstractmethod
    def ping(self) -> bytes:
        """The venue's own ping as a text frame; b"" = protocol pings are enough."""

    def on_lost(self, link: WsLink, reason: str) -> None:
        """A connection that had been ready is gone: answers under way on it will not come."""
        return

    async def upkeep(self) -> None:
        """Called at every ping interval while ready (listen key renewal)."""
        return

    # --- use ---

    @property
    def ready(self) -> bool:
        return self._link is not None

    def send(self, payload: bytes) -> int:
        """Hand a text frame to the ready connection; ``VenueUnavailable`` if nothing was sent."""
        if self._link is None:
            raise VenueUnavailable(f"{self.venue}: {self.name} is not connected", venue=self.venue)
        return self._link.send_text(payload)

    @property
    def link(self) -> WsLink | None:
        return self._link

    async def ask(self, link: WsLink, key: str, payload: bytes) -> bytes:
        """Send a handshake request and wait for the frame that :meth:`answer` gives to ``key``."""
        future: asyncio.Future[bytes] = asyncio.get_running_loop().create_future()
        self._waiting[key] = future
        try:
            link.send_text(payload)
            async with asyncio.timeout(HANDSHAKE_TIMEOUT_S):
                return await future
        except TimeoutError:
            raise VenueUnavailable(f"{self.venue}: {self.name}: no answer to {key}", venue=self.venue) from None
        finally:
            self._waiting.pop(key, None)

    def answer(self, key: str, payload: bytes | memoryview) -> bool:
        """Give a frame to whoever waits for ``key``; False if nobody does."""
        future = self._waiting.get(key)
        if future is None or future.done():
            return False
        future.set_result(bytes(payload))
        return True

    async def start(self) -> None:
        """Connect once (raises) and stay connected from then on."""
        link, closed = await self._connect()
        self._task = asyncio.create_task(self._run(link, closed), name=f"{self.venue}.{self.name}")
        self._task.add_done_callback(_tell_loop)

    async def stop(self) -> None:
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        link, self._link = self._link, None
        if link is not None:
            link.close()

    # --- the life of connections ---

    async def _connect(self) -> tuple[WsLink, asyncio.Event]:
        closed = asyncio.Event()
        ready: list[WsLink] = []

        def on_close(reason: str) -> None:
            closed.set()
            for future in self._waiting.values():
                if not future.done():
                    future.set_exception(VenueUnavailable(f"{self.venue}: {self.name}: {reason}", venue=self.venue))
            if ready:
                self._lost(ready[0], reason)

        link = await open_ws(
            await self.url(),
            venue=self.venue,
            on_frame=self.on_frame,
            on_close=on_close,
            headers=self.headers(),
        )
        try:
            await self.handshake(link)
            if closed.is_set():
                raise VenueUnavailable(f"{self.venue}: {self.name} closed during its handshake", venue=self.venue)
        except BaseException:
            link.disconnect("handshake failed")
            raise
        ready.append(link)
        self._link = link
        self._on_change()
        return link, closed

    def _lost(self, link: WsLink, reason: str) -> None:
        self.last_reason = reason
        if self._link is link:
            self._link = None
            self._on_change()
        self.on_lost(link, reason)

    async def _run(self, link: WsLink, closed: asyncio.Event) -> None:
        backoff = Backoff()
        refusals = 0
        while True:
            link, closed = await self._live(link, closed)
            lived_s = (mono_ns() - link.opened_mono_ns) / 1e9
            if lived_s > STABLE_S:
                backoff.reset()
                refusals = 0
            while True:
                try:
                    floor_s = 0.0
                    await asyncio.sleep(backoff.next_s())
                    link, closed = await self._connect()
                    self.reconnects += 1
                    break
                except RateLimited as error:
                    self.last_reason, floor_s = error.message, error.retry_after_s
                except AuthRefused as error:
                    self.last_reason = error.message
                    refusals += 1
                    if refusals >= AUTH_ATTEMPTS_MAX:
                        self._on_change()
                        return
                except VenueError as error:
                    self.last_reason = error.message
                await asyncio.sleep(floor_s)

    async def _live(self, link: WsLink, closed: asyncio.Event) -> tuple[WsLink, asyncio.Event]:
        """Ping, watch and renew until the connection is gone; a planned change returns only after the next end."""
        while not closed.is_set():
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(self.ping_interval_s):
                    await closed.wait()
                break
            now_ns = mono_ns()
            if now_ns - link.last_frame_mono_ns > self.stall_after_s * 1e9:
                link.disconnect(f"silent for {self.stall_after_s} s")
                continue
            ping = self.ping()
            with contextlib.suppress(VenueError):
                if ping:
                    link.send_text(ping)
                await self.upkeep()
                if self.life_s and now_ns - link.opened_mono_ns > self.life_s * 1e9:
                    link, closed = await self._replace(link, closed)
        await link.reraise()
        return link, closed

    async def _replace(self, old: WsLink, old_closed: asyncio.Event) -> tuple[WsLink, asyncio.Event]:
        """Planned change: the new connection is ready before the old one goes; both deliver in between."""
        link, closed = await self._connect()
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(DRAIN_S):
                await old_closed.wait()
        old.close()
        return link, closed


def _tell_loop(task: asyncio.Task[None]) -> None:
    """A session's task that died of a bug is told to its loop, which ends the process: nobody awaits the task, and a
    session that never comes back would look like a venue that is down."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        message = f"{task.get_name()} died"
        task.get_loop().call_exception_handler({"message": message, "exception": error, "task": task})


class InFlight(msgspec.Struct):
    """One request whose end has not come."""

    is_place: bool
    symbol: str
    client_id: str
    order_id: str
    timer: asyncio.TimerHandle | None = None
    link: object = None


class TradingBase(VenueTrading):
    """Up/down of a venue and its requests in flight. Dialects send; this class ends each request once."""

    request_timeout_s = REQUEST_TIMEOUT_S

    def __init__(self, venue: VenueConfig, credentials: Credentials, on_event: EventSink) -> None:
        self.venue = venue.name
        self.config = venue
        self.credentials = credentials
        self.on_event = on_event
        self.in_flight: dict[str, InFlight] = {}
        self.protocol_violations = 0
        self.last_violation = ""
        self._was_up = False
        self._closing = False
        self._good_symbols: set[str] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    @abstractmethod
    def sessions_ready(self) -> tuple[bool, str]:
        """(every session stands, reason of the one that does not)."""

    @property
    def connected(self) -> bool:
        return self._was_up

    def sessions_changed(self) -> None:
        """A session came or went: say so once per change of the whole."""
        up, reason = self.sessions_ready()
        if up != self._was_up:
            self._was_up = up
            if not self._closing:
                state = SessionState(
                    venue=self.venue, state="up" if up else "down", recv_mono_ns=mono_ns(), reason="" if up else reason
                )
                self.on_event(state)

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

    # --- work beside the events ---

    def spawn(self, work: Coroutine[Any, Any, None]) -> None:
        """Short work of this session; ended by :meth:`stop_tasks`."""
        task = asyncio.get_running_loop().create_task(work)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    async def stop_tasks(self) -> None:
        for task in list(self._tasks):
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def resync_clock(self, client: VenueClient) -> None:
        """Ask the venue's time once; a failure changes nothing (the next refused timestamp asks again)."""
        with contextlib.suppress(VenueError):
            await client.server_time_ms()

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
        if entry.is_place:
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
