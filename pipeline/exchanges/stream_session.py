"""One WebSocket of a venue that logs in and stays: the private stream, and Gate.io's order entry.

A dialect says where to connect, what to send first and what frames mean. The session does the rest: it reconnects for
ever, with pauses by who refused it (``transport/backoff.py``), pings as the venue wants, ends a connection that is
silent, and replaces one before its planned end while the old one still runs.
"""

from __future__ import annotations

import asyncio
import contextlib
from abc import ABC, abstractmethod
from collections.abc import Callable, Mapping

from pipeline.exchanges.base import HttpReply
from pipeline.exchanges.transport.backoff import ReconnectPauses
from pipeline.exchanges.transport.websocket import WsLink, open_ws
from pipeline.model.clock import mono_ns
from pipeline.model.errors import GatewayRefused, VenueError, VenueUnavailable

HANDSHAKE_TIMEOUT_S = 5.0
DRAIN_S = 5.0  # the replaced connection of a planned change lives on this long for answers under way
STABLE_S = 10.0  # a session that lived this long has proved itself: its backoff starts anew


class StreamSession(ABC):
    """One kept-up WebSocket of a venue's private side."""

    ping_interval_s = 10.0
    stall_after_s = 30.0  # no frame of any kind, pongs included
    life_s = 0.0  # planned end of a connection; 0 = none
    carries_orders = False

    def __init__(self, name: str, venue: str, on_change: Callable[[], None]) -> None:
        self.name = name
        self.venue = venue
        self._on_change = on_change
        self._link: WsLink | None = None
        self._waiting: dict[str, asyncio.Future[bytes]] = {}
        self._task: asyncio.Task[None] | None = None
        self._ended = asyncio.Event()
        self.last_reason = ""
        self.gateway_answers = 0  # to attempts to connect

    # --- what a dialect says ---

    @abstractmethod
    async def url(self) -> str:
        """Address of the next connection (may ask for a listen key)."""

    def headers(self) -> Mapping[str, str]:
        """Headers of the upgrade request."""
        return {}

    def error_of(self, reply: HttpReply) -> VenueError | None:
        """The venue's own error in the answer to a refused upgrade; None: there is none in it, a gateway spoke."""
        return None

    @abstractmethod
    async def handshake(self, link: WsLink) -> None:
        """Log in and subscribe; returns when every request is acknowledged, else raises a ``VenueError``."""

    @abstractmethod
    def on_frame(self, payload: memoryview, is_text: bool, recv_mono_ns: int) -> None:
        """One frame; ``payload`` is valid only during the call. Must not raise for what the venue may send."""

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
        """Connected, logged in and subscribed."""
        return self._link is not None

    def send(self, payload: bytes) -> int:
        """Hand a text frame to the ready connection; ``VenueUnavailable`` if nothing was sent."""
        if self._link is None:
            raise VenueUnavailable(f"{self.venue}: {self.name} is not connected", venue=self.venue)
        return self._link.send_text(payload)

    @property
    def link(self) -> WsLink | None:
        """The ready connection; None while there is none."""
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
        try:
            link, closed = await self._connect()
        except VenueError as error:
            self._refused(error)
            raise
        self._task = asyncio.create_task(self._run(link, closed), name=f"{self.venue}.{self.name}")
        self._task.add_done_callback(_report_death)

    async def stop(self) -> None:
        """Close the connection and stay closed."""
        task, self._task = self._task, None
        if task is not None:
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)  # one that has failed before must not keep the link open
        link, self._link = self._link, None
        if link is not None:
            link.close()

    # --- connections, one after the other ---

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
            error_of=self.error_of,
            own_tls=self.carries_orders,
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

    def _refused(self, error: VenueError) -> None:
        self.last_reason = error.message
        self.gateway_answers += isinstance(error, GatewayRefused)

    def _lost(self, link: WsLink, reason: str) -> None:
        self.last_reason = reason
        if self._link is link:
            self._link = None
            self._on_change()
        self.on_lost(link, reason)

    async def _run(self, link: WsLink, closed: asyncio.Event) -> None:
        pauses = ReconnectPauses()
        while True:
            link, closed = await self._live(link, closed)
            if (mono_ns() - link.opened_mono_ns) / 1e9 > STABLE_S:
                pauses.reset()
            pause_s = pauses.next_s()
            while True:
                await asyncio.sleep(pause_s)
                try:
                    link, closed = await self._connect()
                    break
                except VenueError as error:
                    self._refused(error)
                    pause_s = pauses.next_s(error)

    async def _live(self, link: WsLink, closed: asyncio.Event) -> tuple[WsLink, asyncio.Event]:
        """Ping, watch and renew until the connection is gone; a planned change returns only after the next end.

        A planned change that is refused is tried again as a reconnection is, with its pauses: the old connection still
        serves."""
        pauses, change_from_ns = ReconnectPauses(), 0
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
            if not self.life_s or now_ns - link.opened_mono_ns <= self.life_s * 1e9 or now_ns < change_from_ns:
                continue
            try:
                link, closed = await self._replace(link, closed)
                pauses.reset()
            except VenueError as error:
                self._refused(error)
                change_from_ns = mono_ns() + int(pauses.next_s(error) * 1e9)
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


def _report_death(task: asyncio.Task[None]) -> None:
    """Reports a session's task that died of a bug to its loop, which ends the process: nobody awaits the task, and a
    session that never comes back would look like a venue that is down."""
    error = None if task.cancelled() else task.exception()
    if error is not None:
        message = f"{task.get_name()} died"
        task.get_loop().call_exception_handler({"message": message, "exception": error, "task": task})
